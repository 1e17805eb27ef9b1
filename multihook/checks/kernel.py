"""Whether this kernel, and what we may do with it, is enough: rights, options, namespace, memory, programs."""

import gzip
import os
import re
from collections.abc import Iterator
from errno import EAFNOSUPPORT, EOPNOTSUPP

from multihook import record
from multihook.address import INET
from multihook.checks import DEFEATS, NOTE, WARNING, Finding
from multihook.checks.machine import Machine
from multihook.kernel import rules
from multihook.kernel.rtnetlink import Refused

_CAP_NET_ADMIN = 1 << 12  # linux/capability.h

# What is needed, for what, and whether everything depends on it (the rest is for translation only).
_OPTIONS = (
    ("IP_ADVANCED_ROUTER", "routing by rules", True),
    ("IP_MULTIPLE_TABLES", "routing by rules", True),
    ("NF_TABLES", "address translation", False),
    ("NF_TABLES_INET", "address translation", False),
    ("NF_CONNTRACK", "address translation", False),
    ("NFT_CT", "address translation", False),
    ("NFT_NAT", "address translation", False),
    ("NFT_MASQ", "address translation", False),
    ("NFT_FIB_INET", "the guard of address translation", False),
    ("NF_CT_NETLINK", "ending translated connections", False),
)
_DEBIANS_KERNEL = "apt-get install linux-image-$(dpkg --print-architecture)    # Debian's kernel has it"
_FULL_PERCENT = 95


def capability(machine: Machine) -> Iterator[Finding]:
    """Root without CAP_NET_ADMIN, as in most containers."""
    lines = machine.lines("/proc/self/status")
    found = [match[1] for line in lines if (match := re.fullmatch(r"CapEff:\s*([0-9a-f]{1,32})\s*", line.text))]
    if not found:
        machine.not_checked("the capabilities of root", "/proc/self/status does not name them")
    elif machine.is_root and not int(found[0], 16) & _CAP_NET_ADMIN:
        yield Finding(
            DEFEATS, "capability", "root has no CAP_NET_ADMIN here (a container?)",
            "The kernel refuses every change of rules and routes.",
            ("docker run --cap-add=NET_ADMIN ...", "systemd-nspawn --capability=CAP_NET_ADMIN ...",
             "or do not install multihook in the container"),
        )  # fmt: skip


def namespace(machine: Machine) -> Iterator[Finding]:
    """Another network namespace than the one that is kept right."""
    certificate = record.certificate()
    if certificate is None:
        if not machine.is_root:
            why = "the record of the one kept right cannot be read"
            machine.not_checked("the network namespace", why, root_can=True)
        return
    if certificate.boot == record.boot() and certificate.namespace != record.namespace():
        yield Finding(
            DEFEATS, "namespace", "this is another network namespace than the one that multihook keeps right",
            "Nothing is done in it; what follows is about this one.",
            ("nsenter --net=/proc/1/ns/net multihook doctor",),
        )  # fmt: skip


def policy_routing(machine: Machine) -> Iterator[Finding]:
    """A kernel that knows no rules at all: asked, not looked up."""
    if machine.door is None:
        return
    try:
        rules.Dump(machine.door, INET)
    except Refused as error:
        if error.errno not in (EOPNOTSUPP, EAFNOSUPPORT):
            machine.not_checked("whether the kernel knows rules", error.reason)
            return
        yield Finding(
            DEFEATS, "kernel-option", "this kernel knows no policy rules (CONFIG_IP_MULTIPLE_TABLES)",
            "No link can have a routing table of its own.",
            (_DEBIANS_KERNEL,),
        )  # fmt: skip


def options(machine: Machine) -> Iterator[Finding]:
    """What the kernel was built without, by the file that says so."""
    text = _kernel_configuration(machine)
    if text is None:
        return
    built = {line.partition("=")[0] for line in text.splitlines() if line.startswith("CONFIG_")}
    for option, purpose, is_vital in _OPTIONS:
        if f"CONFIG_{option}" not in built:
            severity = DEFEATS if is_vital else WARNING if wants_translation(machine) else NOTE
            yield Finding(
                severity, "kernel-option", f"this kernel was built without CONFIG_{option}",
                f"It is needed for {purpose}.", (_DEBIANS_KERNEL,),
            )  # fmt: skip


def _kernel_configuration(machine: Machine) -> str | None:
    release = (machine.text("/proc/sys/kernel/osrelease") or "").strip()
    path = f"/boot/config-{release}"
    if "/" in release or not release.isprintable() or len(release) > 65:  # utsname(2)
        release, path = "", "/boot/config-VERSION"
    if release and machine.exists(path):
        return machine.text(path)
    try:
        with gzip.open(f"{machine.root}/proc/config.gz") as file:
            return file.read(1 << 22).decode("ascii", "replace")
    except (OSError, EOFError):
        machine.not_checked("the options of the kernel", f"there is neither {path} nor /proc/config.gz")
        return None


def wants_translation(machine: Machine) -> bool:
    """Whether any configured link has addresses translated."""
    return any(link["snat"] is not False for link in machine.config["links"].values())


def conntrack(machine: Machine) -> Iterator[Finding]:
    """The table of connections is full: new ones are dropped, on all links."""
    count, most = (machine.sysctl(f"net/netfilter/nf_conntrack_{name}") for name in ("count", "max"))
    if not count or not most or count * 100 < most * _FULL_PERCENT:
        return
    severity = DEFEATS if count >= most else WARNING
    setting = f"net.netfilter.nf_conntrack_max={most * 4}"
    yield Finding(
        severity, "conntrack-full", f"{count} of {most} connections are tracked",
        "When it is full the kernel drops new connections, on every link.",
        (f"sysctl -w {setting}", f"echo {setting} >/etc/sysctl.d/60-conntrack.conf"),
    )  # fmt: skip


def programs(machine: Machine) -> Iterator[Finding]:
    """Programs that are called, or that the printed commands need."""
    if not machine.program("ip"):
        why = "The commands that multihook prints cannot be pasted, and nobody can look."
        yield Finding(WARNING, "program-missing", "ip is not installed", why, ("apt-get install iproute2",))
    elif os.path.basename(os.path.realpath(machine.root + machine.program("ip"))) == "busybox":
        why = "It does not know suppress_ifgroup and proto: what multihook prints cannot be pasted."
        yield Finding(NOTE, "program-missing", "ip is that of busybox", why, ("apt-get install iproute2",))
    if not wants_translation(machine):
        return
    if not machine.program("nft"):
        why = "The table that translates addresses (snat) cannot be made."
        mend = ("apt-get install nftables", "multihook sync")
        yield Finding(DEFEATS, "program-missing", "nft is not installed", why, mend)
    if not machine.program("conntrack"):
        why = "Connections cannot be looked at by hand; multihook itself does without it."
        yield Finding(NOTE, "program-missing", "conntrack is not installed", why, ("apt-get install conntrack",))


CHECKS = (capability, namespace, policy_routing, options, conntrack, programs)

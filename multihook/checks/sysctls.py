"""Settings of the kernel below /proc/sys/net that work against several links, and the files that set them."""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from multihook.address import INET, in_network
from multihook.checks import DEFEATS, NOTE, WARNING, Finding
from multihook.checks.machine import Line, Machine
from multihook.journal import foreign
from multihook.kernel.interfaces import Interface
from multihook.links import Link

_STRICT, _LOOSE = 1, 2
# Where a setting is read from at boot, a later name before an earlier one (sysctl.d(5)).
_FOLDERS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/lib/sysctl.d")
_OLD = "/etc/sysctl.conf"
_OWN = "/etc/sysctl.d/60-links.conf"


def _links_up(machine: Machine) -> list[tuple[Link, Interface]]:
    return [(link, link.interface) for link in machine.links if link.interface and link.is_up]


def _dotted(name: str) -> str:
    """An interface in sysctl's notation: eth0.100 is written eth0/100."""
    return name.replace(".", "/")


def _files(machine: Machine) -> list[str]:
    """The files that set sysctls at boot on this release."""
    found: dict[str, str] = {}
    for folder in _FOLDERS:
        for name in machine.names(folder):
            if name.endswith(".conf"):
                found.setdefault(name, f"{folder}/{name}")
    files = [found[name] for name in sorted(found)]
    # Debian 12 has it, with a link to it in sysctl.d; 13 has neither and does not read it.
    if machine.release() < 13 and machine.exists(_OLD):
        files.append(_OLD)
    return files


def setting_lines(machine: Machine, key: str, interface: str) -> list[tuple[Line, str]]:
    """The lines that set net.ipv4.conf.{all,default,INTERFACE}.KEY, and to what."""
    wanted = re.compile(rf"-?\s*net[./]ipv4[./]conf[./](\S+?)[./]{key}\s*=\s*(\d+)\s*")
    found = []
    for path in _files(machine):
        for line in machine.lines(path):
            match = wanted.fullmatch(line.text.strip())
            names = ("all", "default", interface)
            if match and any(fnmatchcase(name, match[1].replace("/", ".")) or match[1] == name for name in names):
                found.append((line, match[2]))
    return found


def _mend(machine: Machine, key: str, interface: str, value: int, wrong: str) -> tuple[str, ...]:
    setting = f"net.ipv4.conf.{_dotted(interface)}.{key}={value}"
    lines = [f"sysctl -w {setting}"]
    culprits = [line for line, said in setting_lines(machine, key, interface) if said == wrong]
    lines += [f"# {line.place} says: {foreign(line.text.strip()[:80])}" for line in culprits[:3]]
    return (*lines, f"echo {setting} >>{_OWN}")


def reverse_path(machine: Machine) -> Iterator[Finding]:
    """rp_filter 1 on a link: the kernel takes the larger of `all` and the interface's own."""
    every = machine.sysctl("net/ipv4/conf/all/rp_filter")
    forwards = machine.sysctl("net/ipv4/ip_forward")
    for link, interface in _links_up(machine):
        own = machine.sysctl(f"net/ipv4/conf/{interface.name}/rp_filter")
        if own is None or every is None:
            machine.not_checked(f"rp_filter of {interface.name}", "/proc/sys/net does not show it")
        elif max(own, every) == _STRICT:
            yield Finding(
                DEFEATS if forwards else NOTE, "rp_filter",
                f"the reverse path filter of {interface.name} ({link.name}) is strict (1)",
                "What arrives there for a forwarded port is dropped when main's default is by another link"
                + ("." if forwards else "; this machine forwards nothing now."),
                _mend(machine, "rp_filter", interface.name, _LOOSE, "1"),
            )  # fmt: skip


def _share_a_segment(machine: Machine) -> Iterator[tuple[Link, Interface, Link, Interface]]:
    if machine.view is None:
        return
    several = [pair for pair in _links_up(machine) if not pair[1].is_point_to_point]
    for place, (one, first) in enumerate(several):
        for other, second in several[place + 1 :]:
            nets = [(a.local, a.prefixlen) for a in machine.view.facts.addresses_of(second, INET)]
            here = [a.local for a in machine.view.facts.addresses_of(first, INET)]
            if first.index != second.index and any(in_network(address, *net) for address in here for net in nets):
                yield one, first, other, second


def arp(machine: Machine) -> Iterator[Finding]:
    """Two cards on one segment: without arp_filter each answers for the other's address."""
    every = machine.sysctl("net/ipv4/conf/all/arp_filter")
    wrong: dict[str, str] = {}
    for one, first, other, second in _share_a_segment(machine):
        for interface in (first, second):
            own = machine.sysctl(f"net/ipv4/conf/{interface.name}/arp_filter")
            if own is not None and every is not None and not max(own, every):
                wrong[interface.name] = f"{one.name} and {other.name}"
    for name, links in wrong.items():
        yield Finding(
            WARNING, "arp", f"{links} are in one network, and {name} answers ARP for the addresses of both",
            "If that is one segment, the provider sends to either card; harmless where it is two.",
            (*_mend(machine, "arp_filter", name, 1, "0"), f"sysctl -w net.ipv4.conf.{_dotted(name)}.arp_announce=2"),
        )  # fmt: skip


def router_advertisements(machine: Machine) -> Iterator[Finding]:
    """accept_ra 1 is as good as 0 on an interface that forwards: its IPv6 default vanishes."""
    for link, interface in _links_up(machine):
        folder = f"net/ipv6/conf/{interface.name}"
        if machine.sysctl(f"{folder}/accept_ra") == 1 and machine.sysctl(f"{folder}/forwarding") == 1:
            setting = f"net.ipv6.conf.{_dotted(interface.name)}.accept_ra=2"
            yield Finding(
                NOTE, "accept_ra", f"{interface.name} ({link.name}) forwards IPv6, so it ignores router advertisements",
                "Where its IPv6 default route comes from these, it has none.",
                (f"sysctl -w {setting}", f"echo {setting} >>{_OWN}"),
            )  # fmt: skip


def unread(machine: Machine) -> Iterator[Finding]:
    """/etc/sysctl.conf on Debian 13, which nothing reads at boot any more."""
    if machine.release() < 13 or not machine.exists(_OLD):
        return
    linked = [name for name in machine.names("/etc/sysctl.d") if machine.is_link_to(f"/etc/sysctl.d/{name}", _OLD)]
    said = [line for line in machine.lines(_OLD) if line.text.strip().lstrip("-").startswith("net")]
    if said and not linked:
        yield Finding(
            WARNING, "sysctl.conf",
            f"{said[0].place} sets {foreign(said[0].text.strip()[:60])}, and Debian 13 does not read it",
            "At the next boot that setting is the default again.",
            (f"mv {_OLD} /etc/sysctl.d/99-local.conf", "sysctl --system"),
        )  # fmt: skip


CHECKS = (reverse_path, arp, router_advertisements, unread)

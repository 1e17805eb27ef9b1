"""For the tests of doctor: a machine on which nothing is wrong, to be spoilt in one place at a time."""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from painted_kernel import Painted

from multihook import census, checks, leases, record
from multihook.address import INET
from multihook.checks import machine as checked
from multihook.checks import managers, numbers, rules
from multihook.config import schema, tables, toml
from multihook.kernel import interfaces

KERNEL = "6.1.0-28-amd64"
OPTIONS = "IP_ADVANCED_ROUTER IP_MULTIPLE_TABLES NF_TABLES NF_TABLES_INET NF_CONNTRACK NFT_CT NFT_NAT NFT_MASQ NFT_FIB_INET NF_CT_NETLINK"
SETTINGS = """
[link.dsl]
ipparam = "dsl"
table = 200
[link.cable]
interface = "eth1"
gateway = "198.51.100.1"
table = 201
"""
OVERRIDE = "if [ -x /etc/ppp/{0}.local ]; then\n  exec /etc/ppp/{0}.local \"$@\"\nfi\nrun-parts /etc/ppp/{0}.d\n"
HOOKS = (
    "/etc/ppp/ip-up.d/multihook", "/etc/ppp/ip-down.d/multihook", "/etc/ppp/ipv6-up.d/multihook",
    "/etc/network/if-up.d/multihook", "/etc/network/if-post-down.d/multihook", "/usr/lib/multihook/event",
)  # fmt: skip
SOURCED = ("/etc/dhcp/dhclient-exit-hooks.d/multihook", "/usr/lib/dhcpcd/dhcpcd-hooks/90-multihook")
PROGRAMS = ("ip", "nft", "conntrack", "pppd", "dhclient", "dhcpcd", "ifup")
LEASE = "/run/multihook/leases/dsl.inet"
UNITS = "/etc/systemd/system"


class Scene:
    """A machine: files in a folder, a painted kernel, a ruleset of nftables, and what doctor makes of them."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.kernel = Painted()
        self.settings = SETTINGS
        self.ruleset: Any = {"nftables": [{"metainfo": {"version": "1.0.6"}}]}
        self.is_root = True
        self.blind: list[checked.Blind] = []
        monkeypatch.setattr(leases, "LEASES", f"{root}/run/multihook/leases")
        monkeypatch.setattr(tables, "TABLES", f"{root}/var/lib/multihook/tables", raising=False)
        monkeypatch.setattr(record, "certificate", lambda: None)
        for module in (interfaces, managers, numbers, rules):
            monkeypatch.setattr(module, "name_of", self.kernel.name)
        # Whoever runs this counts as root.
        real = checked.Machine.owner_and_mode
        own = os.geteuid()

        def as_root(machine: Any, path: str) -> tuple[int, int]:
            owner, mode = real(machine, path)
            return (0 if owner == own else owner), mode

        monkeypatch.setattr(checked.Machine, "owner_and_mode", as_root)
        monkeypatch.setattr(checked.Machine, "run", lambda machine, *argv: json.dumps(self.ruleset).encode())
        self._healthy()

    def _healthy(self) -> None:
        self.write("/etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
        self.write("/proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n")
        self.write("/proc/sys/kernel/osrelease", f"{KERNEL}\n")
        self.write(f"/boot/config-{KERNEL}", "".join(f"CONFIG_{option}=m\n" for option in OPTIONS.split()))
        self.sysctl("net/ipv4/ip_forward", 1)
        for name in ("all", "eth1", "ppp0"):
            for key, value in (("rp_filter", 2 * (name != "all")), ("arp_filter", 0)):
                self.sysctl(f"net/ipv4/conf/{name}/{key}", value)
        for name in PROGRAMS:
            self.write(f"/usr/sbin/{name}", mode=0o755)
        for path in HOOKS:
            self.write(path, mode=0o755)
        for path in SOURCED:
            self.write(path)
        for name in ("ip-up", "ip-down", "ipv6-up", "ipv6-down"):
            self.write(f"/etc/ppp/{name}", OVERRIDE.format(name), 0o755)
        self.folder("/run/systemd/system")
        self.write("/usr/lib/systemd/system/multihook.service")
        self.symlink(f"{UNITS}/multi-user.target.wants/multihook.service", "/usr/lib/systemd/system/multihook.service")
        self.symlink(f"{UNITS}/sysinit.target.wants/nftables.service", "/usr/lib/systemd/system/nftables.service")
        self.write("/etc/nftables.conf", "#!/usr/sbin/nft -f\n\nflush ruleset\n")
        self.write("/etc/network/interfaces", "auto lo\niface lo inet loopback\n\niface dsl inet ppp\n    provider dsl-provider\n")
        self.write("/etc/ppp/peers/dsl-provider", 'noauth\nipparam "dsl"\n', 0o640)
        self.write("/etc/ppp/options", "# nothing\n")
        self.kernel.link("eth1", "198.51.100.7/24")
        self.kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True)
        lease = leases.Lease("dsl", "ppp0", INET)
        lease.source, lease.reason, lease.ipparam, lease.address = "pppd", "ip-up", "dsl", bytes((203, 0, 113, 45))
        self.write(LEASE, lease.render())
        self.kernel.rule(0, 255, protocol=2)
        self.kernel.rule(32766, 254, protocol=2)
        self.kernel.rule(32767, 253, protocol=2)
        self.kernel.route("default", "eth1", via="198.51.100.1")

    # --- spoiling ---

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def write(self, path: str, text: "str | bytes" = "", mode: int = 0o644) -> None:
        there = self.path(path)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(text.encode() if isinstance(text, str) else text)
        there.chmod(mode)

    def append(self, path: str, text: str) -> None:
        self.write(path, self.path(path).read_text() + text, self.path(path).stat().st_mode & 0o777)

    def folder(self, path: str) -> None:
        self.path(path).mkdir(parents=True)

    def symlink(self, path: str, target: str) -> None:
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).symlink_to(target)

    def remove(self, path: str) -> None:
        self.path(path).unlink()

    def sysctl(self, name: str, value: int) -> None:
        self.write(f"/proc/sys/{name}", f"{value}\n")

    def nft(self, *objects: dict[str, Any]) -> None:
        self.ruleset["nftables"] += objects

    # --- looking ---

    def config(self) -> dict[str, Any]:
        document = toml.Document(tomllib.loads(self.settings), {}, [])
        config, _ = schema.build(document, ({}, {}, {}, set()))
        return config

    def machine(self) -> checked.Machine:
        config = self.config()
        door = self.kernel.door()
        found = census.of_everything(config, door, [])
        census.allot_tables(found, door, keep=False)
        links = found.shown
        return checked.Machine(config, door, found.view(door, None), links, root=str(self.root), is_root=self.is_root)

    def look(self) -> list[checks.Finding]:
        machine = self.machine()
        found = checks.look(machine)
        self.blind = machine.blind
        return found


def make_scene(root: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A healthy machine."""
    os.umask(0o022)
    return Scene(root, monkeypatch)

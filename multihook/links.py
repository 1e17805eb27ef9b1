"""Which links there are: the configured ones, and those adopted because they lead to the internet.

A link is one interface with an address and a next hop.  This module joins what the
configuration says, what the leases say and what the kernel says into one Link each; features
read nothing else.
"""

from zlib import crc32

from multihook import leases
from multihook.address import (
    in_network,
    is_link_local,
    is_link_name,
    network_text,
    text,
    why_unusable,
    width,
)
from multihook.kernel.facts import Facts
from multihook.kernel.interfaces import LOOPBACK, Interface
from multihook.kernel.routes import Route
from multihook.leases import TAKEN, Lease
from multihook.sources import SOURCES, Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Config = dict[str, Any]


class Path:
    """One link in one family: its lease, and the way out as the kernel allows it now.

    is_up     it has its address and its interface is up: routes can be there
    gateway   the next hop; empty on point-to-point links, and where there is none
    onlink    the gateway is off the segment
    has_exit  whether a default route can be written at all
    mains     main's routes by this interface
    near      prefixes of the interface's addresses: what needs no next hop
    routes    (network, prefix length, next hop or empty) that came with the lease
    shared    another link or interface has the same address: no rule can tell them apart
    """

    __slots__ = ("gateway", "has_exit", "is_up", "lease", "mains", "near", "onlink", "routes", "shared")

    def __init__(self, lease: Lease, is_up: bool) -> None:
        self.lease = lease
        self.is_up = is_up
        self.gateway = b""
        self.onlink = False
        self.has_exit = False
        self.shared = False
        self.mains: list[Route] = []
        self.near: list[tuple[bytes, int]] = []
        self.routes: list[tuple[bytes, int, bytes]] = []

    def is_near(self, gateway: bytes) -> bool:
        """Whether a next hop is on the segment."""
        return any(in_network(gateway, prefix, prefixlen) for prefix, prefixlen in self.near)

    @property
    def has_address(self) -> bool:
        """Whether the address is there, so that rules may (and must) name it."""
        return self.lease.is_up


class Link:
    """One link as the features see it."""

    __slots__ = (
        "adopted", "interface", "interface_name", "lan", "name", "networks", "notes",
        "paths", "refused", "snat", "sources", "table",
    )  # fmt: skip

    def __init__(self, name: str, table: int, configured: "Config | None") -> None:
        self.name = name
        self.table = table
        self.adopted = configured is None
        settings = configured or {}
        self.lan: bool = settings.get("lan", False)
        self.snat: bool | str = settings.get("snat", False)
        self.sources: list[tuple[bytes, int]] = settings.get("sources", [])
        self.networks: list[tuple[bytes, int]] = settings.get("networks", [])
        self.interface_name: str = settings.get("interface", "")
        self.interface: Interface | None = None
        self.paths: dict[int, Path] = {}
        self.notes: list[str] = []
        self.refused: list[str] = []

    @property
    def is_up(self) -> bool:
        """Whether it can carry packets in any family."""
        return any(path.is_up for path in self.paths.values())

    @property
    def has_address(self) -> bool:
        """Whether it has its address in any family, be its interface up or down."""
        return any(path.has_address for path in self.paths.values())


def match(config: "Config", interface: str, ipparam: str, linkname: str) -> str:
    """The configured link that an event belongs to, or "".

    What names the line (ipparam, linkname) goes before what names the interface it happens to have.
    """
    name: str = (
        config["by_ipparam"].get(ipparam, "") if ipparam else ""
    ) or (config["by_linkname"].get(linkname, "") if linkname else "")
    return name or config["by_interface"].get(interface, "")


def is_ignored(config: "Config", interface: str) -> bool:
    """Whether the administrator wants this interface never touched ("wg*" style patterns)."""
    return any(_fits(interface, pattern) for pattern in config["ignore"])


def _fits(name: str, pattern: str) -> bool:
    """Whether a name fits a pattern of * and ?, going back to the last star only: no pattern takes long."""
    here = there = 0
    star, resume = -1, 0
    while here < len(name):
        if there < len(pattern) and pattern[there] == "*":
            star, resume = there, here
            there += 1
        elif there < len(pattern) and pattern[there] in ("?", name[here]):
            here += 1
            there += 1
        elif star >= 0:
            resume += 1
            here, there = resume, star + 1
        else:
            return False
    return not pattern[there:].strip("*")


def adopted_name(config: "Config", interface: str) -> str:
    """The name of an adopted link: its interface's, made to fit, and no other link's."""
    name = "".join(c if c.isalnum() or c in "_-" else "-" for c in interface.lower())
    if not is_link_name(name):
        name = f"if-{name}"[:16]
    if name != interface or name in config["links"] or name in config["used_names"]:
        name = f"{name[:11]}-{crc32(interface.encode()) & 0xFFFF:04x}"
    return name


def concerns(config: "Config", event: Event) -> str:
    """The link that an event may be about, or "" when it is about none: then the hook leaves at once."""
    if not config["usable"] or is_ignored(config, event.interface):
        return ""
    name = match(config, event.interface, event.ipparam, event.linkname)
    if name or not config["adopt"]:
        return name
    return adopted_name(config, event.interface)


def hint_for(config: "Config", name: str, family: int) -> bytes:
    """The configured next hop of a link in a family, or empty."""
    gateway: bytes = config["links"].get(name, {}).get("gateway", b"")
    return gateway if len(gateway) * 8 == width(family) else b""


def is_by_line(config: "Config", name: str) -> bool:
    """Whether a configured link is known by its line (ipparam, linkname) alone, whichever interface that gets."""
    settings = config["links"].get(name)
    return settings is not None and not settings["interface"]


def has_line_on(config: "Config", interfaces: set[str]) -> bool:
    """Whether a line (ipparam, linkname) is recorded to have one of these interfaces (pppN)."""
    if not interfaces:
        return False
    names = {*config["by_ipparam"].values(), *config["by_linkname"].values()}
    records = (lease for name in names if is_by_line(config, name) for lease in leases.of_link(name))
    return any(lease.interface in interfaces and lease.reason != TAKEN for lease in records)


def is_adoptable(lease: Lease, facts: Facts) -> bool:
    """Whether a link that no configuration names leads to the internet by a program's word.

    A lease with a router, an ifupdown stanza with a gateway, the administrator's `multihook up`,
    or a default route of main by it.  An address that two interfaces carry never is one.
    """
    interface = facts.interface(lease.interface)
    if not lease.address or not interface or interface.flags & LOOPBACK:
        return False
    if is_link_local(lease.address) or len(facts.holders(lease.address, lease.family)) > 1:
        return False
    if lease.source == "command" or (SOURCES[lease.source].has_next_hop and lease.gateway):
        return True
    return lease.by_default or facts.default_by(interface, lease.family) is not None


def way_out(path: Path, link: Link, configured_gateway: bytes, facts: Facts) -> None:
    """Fill in the next hop: learnt before configured before what main has by this interface."""
    interface = link.interface
    lease = path.lease
    if not interface or not path.is_up:
        return
    path.mains = facts.main_by(interface, lease.family)
    there = facts.addresses_of(interface, lease.family)
    path.near = _near(interface, lease.family, facts)
    for network, prefixlen, router in lease.routes:
        why = _why_no_next_hop(path.near, router, lease.family, facts) if any(router) else ""
        if why:
            link.refused.append(f"next hop {text(router)} of {network_text(network, prefixlen)} is {why}")
        else:
            path.routes.append((network, prefixlen, router if any(router) else b""))
    if interface.is_point_to_point or any(a.local == lease.address and a.peer for a in there):
        path.has_exit = True
        return
    default = facts.default_by(interface, lease.family)
    for gateway in (lease.gateway, configured_gateway, default.gateway if default else b""):
        if len(gateway) != len(lease.address):
            continue
        if why := _why_no_next_hop(path.near, gateway, lease.family, facts):
            link.refused.append(f"next hop {text(gateway)} is {why}")
            continue
        path.gateway = gateway
        path.onlink = not path.is_near(gateway)
        path.has_exit = True
        return
    if default and not default.gateway:
        path.has_exit = True
    else:
        link.notes.append("no next hop is known")


def _near(interface: Interface, family: int, facts: Facts) -> list[tuple[bytes, int]]:
    # For /0 the kernel makes no route to a segment (fib_add_ifaddr), so no next hop is on one.
    return [(a.peer or a.local, a.prefixlen) for a in facts.addresses_of(interface, family) if a.prefixlen]


def keep_next_hop(lease: Lease, before: Lease, facts: Facts) -> str:
    """Where a renewal brought a next hop that can be none, keep the one before; say why, or "".

    What is wrong takes nothing away of what was known of the same address.
    """
    interface = facts.interface(lease.interface)
    if not interface or not lease.gateway or lease.gateway == before.gateway or lease.address != before.address:
        return ""
    why = _why_no_next_hop(_near(interface, lease.family, facts), lease.gateway, lease.family, facts)
    if not why:
        return ""
    refused, lease.gateway = lease.gateway, before.gateway
    return f"next hop {text(refused)} is {why}"


def _why_no_next_hop(near: list[tuple[bytes, int]], gateway: bytes, family: int, facts: Facts) -> str:
    """Why a next hop can be none, as only the kernel's addresses tell; "" when it can."""
    if why := why_unusable(gateway):
        return why
    if facts.holders(gateway, family):
        return "an address of this machine"
    for prefix, prefixlen in near:
        host_bits = len(gateway) * 8 - prefixlen
        if len(gateway) == 4 and host_bits > 1 and in_network(gateway, prefix, prefixlen):
            host = int.from_bytes(gateway, "big") & (1 << host_bits) - 1
            if host in (0, (1 << host_bits) - 1):
                return "the network or broadcast address of its own segment"
    return ""


def resolve(name: str, table: int, config: "Config", known: "Iterable[Lease]", facts: Facts) -> Link:
    """One Link from what is configured, what its leases say, and what is true now."""
    link = Link(name, table, config["links"].get(name))
    for lease in known:
        if lease.reason != TAKEN:
            link.interface_name = lease.interface
            link.interface = facts.interface(lease.interface)
        path = Path(lease, lease.is_up and link.interface is not None and link.interface.is_up)
        link.paths[lease.family] = path
        if lease.held:
            link.notes.append(f"down by hand; `multihook up {lease.interface}` takes it back")
        way_out(path, link, hint_for(config, name, lease.family), facts)
    if link.interface:
        if link.interface.group not in (0, config["group"]):
            link.notes.append(f"interface group {link.interface.group} is another program's; left alone")
        if link.has_address and not link.interface.is_up:
            link.notes.append("its interface is set down")
        elif link.is_up and not link.interface.has_carrier:
            link.notes.append("no carrier")
    return link

"""What is known about each link now: recorded from events, checked against the kernel.

One record a link and family, in /run/multihook/leases, readable by all (status needs no root).
A record is a hint: whatever it says of an address holds only while the kernel agrees, and a
missing, damaged or foreign one is as if there had been none.
"""

from posix import listdir

from multihook.address import (
    FAMILIES,
    FAMILY_NAMES,
    FAMILY_NUMBERS,
    is_interface_name,
    is_link_local,
    is_link_name,
    parse,
    parse_network,
    text,
    why_unusable,
    width,
)
from multihook.files import folder, number, read, remove, replace
from multihook.kernel.addresses import Address
from multihook.kernel.facts import Facts
from multihook.kernel.interfaces import Interface
from multihook.paths import LEASES
from multihook.sources import DOWN, RANK, UP, Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    # A link's name and a family: each family of a link has its own lease.
    Key = tuple[str, int]

_MAGIC = "multihook lease 1"
# Why a line (ipparam, linkname) is down while another session, a dial-in's, has got its interface:
# only the line's own event brings it back.
TAKEN = "interface taken"
_TEXTS = ("interface", "source", "reason", "ipparam", "linkname")
_ADDRESSES = ("address", "former", "gateway", "server")
_NUMBERS = ("since", "changed", "prefixlen")
_FLAGS = ("withdrawn", "held", "by_default")
# Of a reason, and each of two names of pppd's (sources/pppd.py); of seconds.
_LONGEST_TEXT = 256
_MOST_DIGITS = 10


class Lease:
    """What is known of one link in one family.

    address      the link's own address; empty while it has none (the link is down)
    prefixlen    of that address
    former       the address before it: its rules may still stand
    gateway      the next hop as it was learnt; empty where none was, or none is needed
    server       the DHCP server
    resolvers    DNS servers that came with it
    routes       (network, prefix length, router) that came with it (option 121)
    source       who said so, and `reason`: in which words
    since        CLOCK_BOOTTIME seconds at which the link went up or down
    changed      the same for its last change of address
    withdrawn    the source has taken the address back
    held         taken down by hand until the next event
    by_default   adopted because main had a default route by it
    """

    __slots__ = ("link", "family", *_TEXTS, *_ADDRESSES, *_NUMBERS, *_FLAGS, "resolvers", "routes")

    def __init__(self, link: str, interface: str, family: int) -> None:
        self.link = link
        self.family = family
        self.interface = interface
        self.source = "kernel"
        self.reason = "found"
        self.ipparam = ""
        self.linkname = ""
        self.address = b""
        self.former = b""
        self.gateway = b""
        self.server = b""
        self.resolvers: list[bytes] = []
        self.routes: list[tuple[bytes, int, bytes]] = []
        self.since = 0
        self.changed = 0
        self.prefixlen = 0
        self.withdrawn = False
        self.held = False
        self.by_default = False

    @property
    def key(self) -> "Key":
        """What tells it from all others."""
        return self.link, self.family

    @property
    def is_up(self) -> bool:
        """Whether the link has an address, and is not held down by hand."""
        return bool(self.address) and not self.held

    def copy(self) -> "Lease":
        """Another record that says the same."""
        other = Lease(self.link, self.interface, self.family)
        for name in Lease.__slots__:
            setattr(other, name, getattr(self, name))
        other.resolvers = list(self.resolvers)
        other.routes = list(self.routes)
        return other

    def render(self) -> str:
        """The record as it stands in its file."""
        lines = [_MAGIC, f"link {self.link}", f"family {FAMILY_NAMES[self.family]}"]
        lines += [f"{name} {getattr(self, name)}" for name in _TEXTS]
        lines += [f"{name} {text(getattr(self, name))}" for name in _ADDRESSES]
        lines += [f"{name} {getattr(self, name)}" for name in _NUMBERS]
        lines += [f"{name} {'yes' if getattr(self, name) else 'no'}" for name in _FLAGS]
        lines.append("resolvers " + " ".join(map(text, self.resolvers)))
        lines.append("routes " + " ".join(f"{text(n)}/{length}>{text(router)}" for n, length, router in self.routes))
        lines.append("end\n")
        return "\n".join(lines)


def _parse(data: bytes) -> Lease | None:
    lines = data.decode("utf-8", "replace").split("\n")
    if lines[0] != _MAGIC or lines[-2:] != ["end", ""]:
        return None
    values = {}
    for line in lines[1:-2]:
        name, _, value = line.partition(" ")
        values[name] = value
    try:
        lease = Lease(values["link"], values["interface"], FAMILY_NUMBERS[values["family"]])
        for name in _TEXTS:
            setattr(lease, name, values[name])
        bits = width(lease.family)
        for name in _ADDRESSES:
            setattr(lease, name, _address(values[name], bits) if values[name] != "-" else b"")
        for name in _NUMBERS:
            setattr(lease, name, _number(values[name]))
        for name in _FLAGS:
            setattr(lease, name, values[name] == "yes")
        lease.resolvers = [_address(word, bits) for word in values["resolvers"].split()]
        lease.routes = [_route(word, bits) for word in values["routes"].split()]
    except (KeyError, ValueError):
        return None
    if not is_link_name(lease.link) or not is_interface_name(lease.interface) or lease.source not in RANK:
        return None
    for shown in (lease.reason, lease.ipparam, lease.linkname):
        if len(shown) > _LONGEST_TEXT or not shown.isprintable():
            return None
    return lease if lease.prefixlen <= bits else None


def _number(value: str) -> int:
    found = number(value)
    if found is None or len(value) > _MOST_DIGITS:
        raise ValueError(value)
    return found


def _address(value: str, bits: int) -> bytes:
    address = parse(value)
    if address is None or len(address) * 8 != bits:
        raise ValueError(value)
    return address


def _route(word: str, bits: int) -> tuple[bytes, int, bytes]:
    prefix, _, router = word.partition(">")
    network = parse_network(prefix)
    if network is None or len(network[0]) * 8 != bits:
        raise ValueError(word)
    return *network, _address(router, bits)


def _file(link: str, family: int) -> str:
    return f"{LEASES}/{link}.{FAMILY_NAMES[family]}"


def load(link: str, family: int) -> Lease | None:
    """The record of a link in one family, or None when there is none that can be believed."""
    try:
        lease = _parse(read(_file(link, family), 1 << 16))
    except OSError:
        return None
    return lease if lease and lease.link == link else None


def keys() -> "list[Key]":
    """The links, and of each the families, that have a record."""
    try:
        entries = (name.rpartition(".") for name in listdir(LEASES))
        found = ((link, FAMILY_NUMBERS.get(family, 0)) for link, _, family in entries)
        return sorted(key for key in found if key[1] in FAMILIES)
    except OSError:
        return []


def load_all() -> "dict[Key, Lease]":
    """All records."""
    found = ((key, load(*key)) for key in keys())
    return {key: lease for key, lease in found if lease}


def of_link(link: str) -> list[Lease]:
    """The records of a link in all families."""
    found = (load(link, family) for family in FAMILIES)
    return [lease for lease in found if lease]


def store(lease: Lease) -> None:
    """Keep a record; raises OSError when /run is full or read-only."""
    folder(LEASES, 0o755)
    replace(_file(lease.link, lease.family), lease.render().encode("utf-8", "surrogateescape"))


def forget(link: str, family: int) -> None:
    """Drop a record; raises OSError on a read-only /run."""
    remove(_file(link, family))


def record(known: Lease | None, event: Event, link: str) -> Lease:
    """What is known after an event, before the kernel is asked.

    Of one and the same address a source that knows less (sources.RANK) only fills gaps.
    An event that takes away another address than the recorded one is stale and says nothing.
    """
    lease = known.copy() if known else Lease(link, event.interface, event.family)
    if not known:
        # By these the configuration found the link: without them a later run takes the record for another's.
        lease.ipparam, lease.linkname = event.ipparam, event.linkname
    lease.link = link
    lease.held = False
    if event.action == UP and event.address:
        _record_up(lease, event)
    elif event.action == DOWN and lease.interface == event.interface and event.address in (b"", lease.address):
        lease.withdrawn = True
        lease.source, lease.reason = event.source, event.reason
    return lease


def _record_up(lease: Lease, event: Event) -> None:
    same = lease.address == event.address and lease.interface == event.interface and not lease.withdrawn
    if same and RANK[lease.source] > RANK[event.source]:
        lease.gateway = lease.gateway or event.gateway
        lease.resolvers = lease.resolvers or event.resolvers
        return
    if lease.address != event.address:
        lease.former = lease.address or lease.former
        lease.by_default = False
    lease.interface = event.interface
    lease.address = event.address
    for field in ("gateway", "server", "resolvers", "routes", "ipparam", "linkname"):
        # What was refused says nothing, so of the same address what was known before still holds.
        if not (same and field in event.doubtful):
            setattr(lease, field, getattr(event, field))
    if lease.source != event.source or not same:
        # A renewal that changes nothing must write nothing, so it keeps the first reason.
        lease.source, lease.reason = event.source, event.reason
    lease.withdrawn = False


def check(lease: Lease, facts: Facts, hint: bytes = b"") -> Lease:
    """The same lease as the kernel sees it.

    An address that its interface has is the link's, also while the interface is down: programs
    can still be bound to it.  One that it has not is gone, unless the interface, which no event
    took down, has exactly one other: then that one is the link's, and no hook was told (pppd
    loses events when its scripts are slow).  An address that its source took back is replaced
    only by one with a way out: a peer, a default route of main, or `hint`, the configured
    gateway, in its prefix; and by none where the interface is TAKEN.
    """
    lease = lease.copy()
    interface = facts.interface(lease.interface)
    address = _live_address(lease, interface, facts, hint) if interface else None
    local = address.local if address else b""
    if local != lease.address:
        if lease.address:
            lease.former = lease.address
        if local:
            # No event told what came with it.
            if lease.gateway and interface and not facts.is_on_segment(interface, lease.gateway, lease.family):
                lease.gateway = b""
            lease.reason = "found"
            lease.withdrawn = False
        elif not lease.withdrawn and lease.reason != TAKEN:
            lease.reason = "address gone"
            lease.source = "kernel"
        lease.address = local
    if not local:
        lease.gateway = b""
        lease.withdrawn = True
    lease.prefixlen = address.prefixlen if address else 0
    return lease


def _live_address(lease: Lease, interface: Interface, facts: Facts, hint: bytes) -> Address | None:
    # The kernel takes 0.0.0.0 and multicast for addresses; a rule from one would catch what is not ours.
    there = [one for one in facts.addresses_of(interface, lease.family) if not why_unusable(one.local)]
    for address in there:
        if address.local == lease.address and lease.address:
            return address
    if not interface.is_up or lease.reason == TAKEN:
        return None
    others = [address for address in there if address.is_candidate and not is_link_local(address.local)]
    if not lease.withdrawn and lease.address:
        return others[0] if len(others) == 1 else None
    default = facts.default_by(interface, lease.family)
    if default and default.prefsrc:
        others = [address for address in others if address.local == default.prefsrc] or others
    for address in others:
        if address.peer or interface.is_point_to_point or default:
            return address
        if hint and facts.is_on_segment(interface, hint, lease.family):
            return address
    # A gateway off the segment says nothing of which address it goes with; a lone one that no
    # source ever spoke of is the administrator's own.
    return others[0] if hint and len(others) == 1 and lease.source == "kernel" else None


def stamp(lease: Lease, before: Lease | None, now: int) -> Lease:
    """Set the times: since when it is up or down, and when its address last changed."""
    if before is None or before.is_up != lease.is_up or before.interface != lease.interface:
        lease.since = now
    elif not lease.since:
        # Found in the kernel, as the configuration gives its record to no link now: up or down it was all the time.
        lease.since = before.since or now
    if before is not None and lease.address and lease.former and before.address != lease.address:
        lease.changed = now
    return lease

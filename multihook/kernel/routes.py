"""Routes: the kind, and its messages in rtnetlink (struct rtmsg, linux/rtnetlink.h)."""

from multihook.address import FAMILIES, INET, INET6, family_of, network_text
from multihook.kernel import fib
from multihook.kernel.fib import MAIN, ROUTE_HEADER
from multihook.kernel.interfaces import name_of
from multihook.kernel.rtnetlink import (
    APPEND,
    CREATE,
    DELROUTE,
    EXCL,
    GETROUTE,
    NEWROUTE,
    REPLACE,
    SENSELESS,
    U32,
    Door,
    attribute,
    attributes,
    senseless,
    u32,
)
from multihook.kind import GUARD, NETWORK, ROUTE, Kind, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multihook.kind import Object
    from multihook.view import View

UNICAST, UNREACHABLE = fib.RTN_UNICAST, fib.RTN_UNREACHABLE
UNIVERSE, LINK_SCOPE = fib.RT_SCOPE_UNIVERSE, fib.RT_SCOPE_LINK
WORST_METRIC = 0xFFFFFFFF
_WIDTHS = ((INET, 4), (INET6, 16))


class Route:
    """One route.  `metrics` is the kernel's nested fib.RTA_METRICS as it came (mtu, advmss, ...)."""

    __slots__ = (
        "family", "gateway", "link", "metric", "metrics", "network", "oif", "onlink",
        "prefixlen", "prefsrc", "protocol", "scope", "table", "tos", "type",
    )  # fmt: skip
    kind: "Kind"
    noun = "route"
    size = 1

    def __init__(
        self,
        table: int,
        network: bytes,
        prefixlen: int,
        *,
        family: int = INET,
        type: int = UNICAST,
        gateway: bytes = b"",
        oif: int = 0,
        prefsrc: bytes = b"",
        metric: int = 0,
        onlink: bool = False,
        scope: int = UNIVERSE,
        tos: int = 0,
        metrics: bytes = b"",
        protocol: int = 0,
        link: str = "",
    ) -> None:
        self.table = table
        self.network = network
        self.prefixlen = prefixlen
        self.family = family
        self.type = type
        self.gateway = gateway
        self.oif = oif
        self.prefsrc = prefsrc
        self.metric = metric
        self.onlink = onlink
        self.scope = scope
        self.tos = tos
        self.metrics = metrics
        self.protocol = protocol
        self.link = link

    @property
    def stage(self) -> int:
        """The guard first; the kernel looks a next hop up in the table itself, so what is direct comes before it."""
        if self.type == UNREACHABLE:
            return GUARD
        return NETWORK if self.gateway or not self.prefixlen else ROUTE

    @property
    def key(self) -> tuple[object, ...]:
        """What the kernel takes for the same route when it replaces (fib_table_insert)."""
        return (self.family, self.table, self.network, self.prefixlen, self.tos, self.metric)

    def _value(self) -> tuple[object, ...]:
        return (
            self.type, self.gateway, self.oif, self.prefsrc, self.onlink,
            self.scope, self.metrics, self.protocol,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Route) and self.key == other.key and self._value() == other._value()

    def __hash__(self) -> int:
        return hash(self.key)

    def text(self, device: str) -> str:
        """The route as ip-route(8) takes it, behind `ip route add`."""
        from multihook.kernel import words

        return words.of_route(self, device)


def parse(message: bytes, oif: int = 0) -> list[Route]:
    """The routes in one message of the kernel: a multipath route gives one for each next hop.

    With `oif`, only those by this interface.  Raises Refused where it makes no sense.
    """
    try:
        return [_checked(route) for route in _parse(message) if not oif or oif == route.oif]
    except SENSELESS:
        raise senseless("a route") from None


def _parse(message: bytes) -> list[Route]:
    family, prefixlen, _, tos, table, protocol, scope, type, flags = ROUTE_HEADER.unpack_from(message)
    found = attributes(message, ROUTE_HEADER.size)
    if fib.RTA_TABLE in found:
        table = U32.unpack(found[fib.RTA_TABLE])[0]
    network = found.get(fib.RTA_DST, b"") or bytes(4 if family == INET else 16)
    hops = []
    if fib.RTA_MULTIPATH in found:
        hops = _next_hops(found[fib.RTA_MULTIPATH])
    else:
        index = U32.unpack(found[fib.RTA_OIF])[0] if fib.RTA_OIF in found else 0
        hops = [(index, flags, _gateway(found))]
    return [
        Route(
            table, network, prefixlen, family=family, type=type, gateway=gateway, oif=index,
            prefsrc=found.get(fib.RTA_PREFSRC, b""),
            metric=U32.unpack(found[fib.RTA_PRIORITY])[0] if fib.RTA_PRIORITY in found else 0,
            onlink=bool(hop_flags & fib.RTNH_F_ONLINK), scope=scope, tos=tos,
            metrics=found.get(fib.RTA_METRICS, b""), protocol=protocol,
        )
        for index, hop_flags, gateway in hops
    ]  # fmt: skip


def _checked(route: Route) -> Route:
    """The same route; raises ValueError where it could not be one, or could not be shown."""
    octets = len(route.network)
    if (route.family, octets) not in _WIDTHS or route.prefixlen > octets * 8:
        raise ValueError(route.prefixlen)
    if len(route.prefsrc) not in (0, octets) or len(route.gateway) not in (0, 4, 16) or route.oif < 0:
        raise ValueError(route.gateway)
    for kind, value in attributes(route.metrics, 0).items() if route.metrics else ():
        if kind != fib.RTAX_CC_ALGO and len(value) != U32.size:
            raise ValueError(kind)
    return route


def _gateway(found: dict[int, bytes]) -> bytes:
    if fib.RTA_GATEWAY in found:
        return found[fib.RTA_GATEWAY]
    return found[fib.RTA_VIA][2:] if fib.RTA_VIA in found else b""  # struct rtvia: the family, then the address


def _next_hops(data: bytes) -> list[tuple[int, int, bytes]]:
    hops = []
    offset = 0
    while offset + fib.NEXT_HOP.size <= len(data):
        length, flags, _, index = fib.NEXT_HOP.unpack_from(data, offset)
        if length < fib.NEXT_HOP.size:
            break
        hops.append((index, flags, _gateway(attributes(data[offset : offset + length], fib.NEXT_HOP.size))))
        offset += length + 3 & ~3
    return hops


def dump(door: Door, family: int, *, table: int = 0, oif: int = 0, protocol: int = 0) -> list[Route]:
    """Routes that fit all given filters; the kernel filters, so one table costs the same among many."""
    body = ROUTE_HEADER.pack(family, 0, 0, 0, 0, protocol, 0, 0, 0)
    if table:
        body += u32(fib.RTA_TABLE, table)
    if oif:
        body += u32(fib.RTA_OIF, oif)
    found = []
    known = door.known((GETROUTE, oif))
    for message in door.dump(GETROUTE, body):
        if message not in known:
            known[message] = parse(message, oif)
        found += known[message]
    return found


def tables_of(door: Door, family: int, protocol: int) -> list[int]:
    """The table of each route of one protocol, in all tables, and nothing else of them."""
    body = ROUTE_HEADER.pack(family, 0, 0, 0, 0, protocol, 0, 0, 0)
    # The kernel's fib_dump_info puts fib.RTA_TABLE first, behind the header.
    where = ROUTE_HEADER.size + 4
    try:
        return [U32.unpack_from(message, where)[0] for message in door.dump(GETROUTE, body)]
    except SENSELESS:
        raise senseless("a route") from None


def dump_defaults(door: Door, family: int) -> list[Route]:
    """The default routes of main; other routes are passed over unread: main may hold a full BGP table."""
    body = ROUTE_HEADER.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + u32(fib.RTA_TABLE, MAIN)
    return [route for message in door.dump(GETROUTE, body) if message[1:2] == b"\0" for route in parse(message)]


def has_default(door: Door, family: int, table: int) -> bool:
    """Whether a table knows a way for every destination: a default route, or the two halves of one.

    A refusal (`unreachable default`) is one too; `throw` sends the packet on to the next rule.
    """
    body = ROUTE_HEADER.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + u32(fib.RTA_TABLE, table)
    halves = set()
    for message in door.dump(GETROUTE, body):
        if len(message) < ROUTE_HEADER.size:
            raise senseless("a route")
        if message[1] == 0 and message[7] != fib.RTN_THROW:
            return True
        if message[1] == 1 and message[7] != fib.RTN_THROW:
            halves.add(attributes(message, ROUTE_HEADER.size).get(fib.RTA_DST, b"")[:1])
    return len(halves) > 1


def _message(route: Route) -> bytes:
    body = ROUTE_HEADER.pack(
        route.family, route.prefixlen, 0, route.tos, route.table if route.table < 256 else 0,
        route.protocol, route.scope, route.type, fib.RTNH_F_ONLINK if route.onlink else 0,
    )  # fmt: skip
    body += u32(fib.RTA_TABLE, route.table)
    if route.prefixlen:
        body += attribute(fib.RTA_DST, route.network)
    if route.gateway:
        if len(route.gateway) == len(route.network):
            body += attribute(fib.RTA_GATEWAY, route.gateway)
        else:
            body += attribute(fib.RTA_VIA, family_of(route.gateway).to_bytes(2, "little") + route.gateway)
    if route.oif:
        body += u32(fib.RTA_OIF, route.oif)
    if route.prefsrc:
        body += attribute(fib.RTA_PREFSRC, route.prefsrc)
    if route.metric:
        body += u32(fib.RTA_PRIORITY, route.metric)
    if route.metrics:
        body += attribute(fib.RTA_METRICS, route.metrics)
    return body


def add(door: Door, route: Route) -> None:
    """`ip route add`: refused (EEXIST) where any route of the same key stands; raises Refused."""
    door.change(NEWROUTE, CREATE | EXCL, _message(route))


def change(door: Door, old: Route, new: Route) -> None:
    """`ip route replace`: in one step, so no packet finds the table without it; raises Refused.

    The kernel replaces the first route of that key, whichever program made it (fib_table_insert), so where
    a foreign one stands there too, the new one is appended and the old one deleted by name.
    """
    same_key = [route for route in dump(door, new.family, table=new.table) if route.key == new.key]
    if all(route.protocol == old.protocol for route in same_key):
        door.change(NEWROUTE, CREATE | REPLACE, _message(new))
    else:
        door.change(NEWROUTE, CREATE | APPEND, _message(new))
        delete(door, old)


def delete(door: Door, route: Route) -> None:
    """`ip route del`, naming every attribute, so that no other route can be meant; raises Refused."""
    door.change(DELROUTE, 0, _message(route))


class _Routes(Kind):
    """The kind: routes of our protocol."""

    NAME = "routes"

    def read(self, view: "View", wanted: list[Route]) -> list[Route]:
        """Ours; in an event's run those in its links' tables, and by their interfaces those in other wanted tables."""
        found: list[Route] = []
        tables = {link.table for link in view.links} | {route.table for route in wanted}
        names = {link.interface.index: link.name for link in view.links if link.interface}
        for family in FAMILIES:
            if view.whole:
                for protocol in view.protocols:
                    found += dump(view.door, family, protocol=protocol)
            else:
                for table in tables:
                    there = dump(view.door, family, table=table)
                    found += [route for route in there if route.protocol in view.protocols]
        for route in found:
            route.link = view.owner(route.table) or names.get(route.oif, "")
        return found if view.whole else [route for route in found if route.link]

    def add(self, view: "View", new: Route) -> None:
        """Make a route."""
        add(view.door, new)

    def change(self, view: "View", old: Route, new: Route) -> None:
        """Replace a route."""
        change(view.door, old, new)

    def remove(self, view: "View", old: Route) -> None:
        """Take a route away."""
        delete(view.door, old)

    def commands(self, view: "View", step: Step) -> list[str]:
        """As ip-route(8)."""
        verb = "add" if step.old is None else "del" if step.new is None else "replace"
        route = step.object
        option = "" if route.family == INET else "-6 "
        return [f"ip {option}route {verb} {route.text(name_of(route.oif) if route.oif else '')}"]

    def clash(self, thing: Route) -> str:
        """A foreign route of the same key."""
        what = network_text(thing.network, thing.prefixlen)
        return f"a foreign route to {what} stands in table {thing.table}; remove it or give the link another table"

    def arranged(self, steps: list[Step]) -> list[Step]:
        """Links that swap tables: see swaps."""
        from multihook.kernel import swaps

        return swaps.arranged(steps)

    def signature(self, view: "View", wanted: "list[Object]", thorough: bool) -> dict[str, int]:
        """How many each table has."""
        counts: dict[str, int] = {}
        for family in FAMILIES if thorough else ():
            for table in tables_of(view.door, family, view.config["rt_proto"]):
                counts[f"table {table}"] = counts.get(f"table {table}", 0) + 1
        return counts

    def tally(self, view: "View", there: list[Route]) -> dict[str, int]:
        """The same of those that were read."""
        counts: dict[str, int] = {}
        for route in there:
            if route.protocol == view.config["rt_proto"]:
                counts[f"table {route.table}"] = counts.get(f"table {route.table}", 0) + 1
        return counts


KIND = Route.kind = _Routes()

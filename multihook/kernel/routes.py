"""Routes in rtnetlink and in the words of ip-route(8) (struct rtmsg, linux/rtnetlink.h)."""

from _struct import Struct

from multihook.address import INET, INET6, family_of, network_text, text
from multihook.journal import foreign
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

_HEADER = Struct("=BBBBBBBBI")
_NEXTHOP = Struct("=HBBi")
_DST, _OIF, _GATEWAY, _PRIORITY, _PREFSRC, _METRICS, _MULTIPATH, _TABLE, _VIA = 1, 4, 5, 6, 7, 8, 9, 15, 18

MAIN = 254
UNICAST, UNREACHABLE, _THROW = 1, 7, 9
# Only unreachable is ours, but whatever has our protocol is taken out by its name.
_KIND_NAMES = {2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole", 7: "unreachable",
               8: "prohibit", 9: "throw"}  # fmt: skip
UNIVERSE, LINK_SCOPE = 0, 253
ONLINK = 4
WORST_METRIC = 0xFFFFFFFF
_WIDTHS = ((INET, 4), (INET6, 16))


class Route:
    """One route.  `metrics` is the kernel's nested RTA_METRICS as it came (mtu, advmss, ...)."""

    __slots__ = (
        "family", "gateway", "kind", "metric", "metrics", "network", "oif", "onlink",
        "prefixlen", "prefsrc", "protocol", "scope", "table", "tos",
    )  # fmt: skip

    def __init__(
        self,
        table: int,
        network: bytes,
        prefixlen: int,
        *,
        family: int = INET,
        kind: int = UNICAST,
        gateway: bytes = b"",
        oif: int = 0,
        prefsrc: bytes = b"",
        metric: int = 0,
        onlink: bool = False,
        scope: int = UNIVERSE,
        tos: int = 0,
        metrics: bytes = b"",
        protocol: int = 0,
    ) -> None:
        self.table = table
        self.network = network
        self.prefixlen = prefixlen
        self.family = family
        self.kind = kind
        self.gateway = gateway
        self.oif = oif
        self.prefsrc = prefsrc
        self.metric = metric
        self.onlink = onlink
        self.scope = scope
        self.tos = tos
        self.metrics = metrics
        self.protocol = protocol

    @property
    def key(self) -> tuple[object, ...]:
        """What the kernel takes for the same route when it replaces (fib_table_insert)."""
        return (self.family, self.table, self.network, self.prefixlen, self.tos, self.metric)

    def _value(self) -> tuple[object, ...]:
        return (
            self.kind, self.gateway, self.oif, self.prefsrc, self.onlink,
            self.scope, self.metrics, self.protocol,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Route) and self.key == other.key and self._value() == other._value()

    def __hash__(self) -> int:
        return hash(self.key)

    def text(self, device: str) -> str:
        """The route as ip-route(8) takes it, behind `ip route add`."""
        words = [] if self.kind == UNICAST else [_KIND_NAMES.get(self.kind, "unreachable")]
        is_mixed = bool(self.gateway) and len(self.gateway) != len(self.network)
        # ip(8) takes "default via inet6 ..." for an IPv6 route.
        words.append("0.0.0.0/0" if is_mixed and not self.prefixlen else network_text(self.network, self.prefixlen))
        if self.gateway:
            words += ["via inet6" if is_mixed else "via", text(self.gateway)]
        if self.oif:
            words += ["dev", device]
        words += ["table", str(self.table), "proto", str(self.protocol)]
        if self.scope == LINK_SCOPE and self.gateway:
            words += ["scope", "link"]
        elif self.scope == UNIVERSE and not self.gateway and self.kind == UNICAST and self.family == INET:
            words += ["scope", "global"]
        if self.prefsrc:
            words += ["src", text(self.prefsrc)]
        if self.metric:
            words += ["metric", str(self.metric)]
        if self.tos:
            words += ["tos", hex(self.tos)]
        words += _metrics_words(self.metrics)
        if self.onlink:
            words.append("onlink")
        return " ".join(words)


# RTAX_* that ip-route(8) takes by name (linux/rtnetlink.h); 1 is the mask of locked ones.
_METRIC_NAMES = {2: "mtu", 3: "window", 4: "rtt", 5: "rttvar", 6: "ssthresh", 7: "cwnd", 8: "advmss",
                 9: "reordering", 10: "hoplimit", 11: "initcwnd", 12: "features", 13: "rto_min",
                 14: "initrwnd", 15: "quickack"}  # fmt: skip
_RTAX_LOCK, _RTAX_FEATURES, _RTAX_RTO_MIN, _RTAX_CC = 1, 12, 13, 16


def _metrics_words(metrics: bytes) -> list[str]:
    words: list[str] = []
    found = attributes(metrics, 0)
    locked = U32.unpack(found[_RTAX_LOCK])[0] if _RTAX_LOCK in found else 0
    for kind, value in found.items():
        if kind == _RTAX_CC:
            words += ["congctl", foreign(value.rstrip(b"\0").decode("ascii", "replace"))]
            continue
        name = _METRIC_NAMES.get(kind)
        if not name:
            continue
        number = U32.unpack(value)[0]
        shown = str(number)
        if kind == _RTAX_RTO_MIN:
            shown = f"{number}ms"
        elif kind == _RTAX_FEATURES:
            shown = "ecn" if number & 1 else hex(number)
        # ip-route(8) locks rto_min by itself, and takes no word for it.
        is_locked = locked & 1 << kind and kind != _RTAX_RTO_MIN
        words += [name, "lock", shown] if is_locked else [name, shown]
    return words


def parse(message: bytes, oif: int = 0) -> list[Route]:
    """The routes in one message of the kernel: a multipath route gives one for each next hop.

    With `oif`, only those by this interface.  Raises Refused where it makes no sense.
    """
    try:
        return [_checked(route) for route in _parse(message) if not oif or oif == route.oif]
    except SENSELESS:
        raise senseless("a route") from None


def _parse(message: bytes) -> list[Route]:
    family, prefixlen, _, tos, table, protocol, scope, kind, flags = _HEADER.unpack_from(message)
    found = attributes(message, _HEADER.size)
    if _TABLE in found:
        table = U32.unpack(found[_TABLE])[0]
    network = found.get(_DST, b"") or bytes(4 if family == INET else 16)
    hops = []
    if _MULTIPATH in found:
        hops = _next_hops(found[_MULTIPATH])
    else:
        index = U32.unpack(found[_OIF])[0] if _OIF in found else 0
        hops = [(index, flags, _gateway(found))]
    return [
        Route(
            table, network, prefixlen, family=family, kind=kind, gateway=gateway, oif=index,
            prefsrc=found.get(_PREFSRC, b""),
            metric=U32.unpack(found[_PRIORITY])[0] if _PRIORITY in found else 0,
            onlink=bool(hop_flags & ONLINK), scope=scope, tos=tos,
            metrics=found.get(_METRICS, b""), protocol=protocol,
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
        if kind != _RTAX_CC and len(value) != U32.size:
            raise ValueError(kind)
    return route


def _gateway(found: dict[int, bytes]) -> bytes:
    if _GATEWAY in found:
        return found[_GATEWAY]
    return found[_VIA][2:] if _VIA in found else b""  # struct rtvia: the family, then the address


def _next_hops(data: bytes) -> list[tuple[int, int, bytes]]:
    hops = []
    offset = 0
    while offset + _NEXTHOP.size <= len(data):
        length, flags, _, index = _NEXTHOP.unpack_from(data, offset)
        if length < _NEXTHOP.size:
            break
        hops.append((index, flags, _gateway(attributes(data[offset : offset + length], _NEXTHOP.size))))
        offset += length + 3 & ~3
    return hops


def dump(door: Door, family: int, *, table: int = 0, oif: int = 0, protocol: int = 0) -> list[Route]:
    """Routes that fit all given filters; the kernel filters, so one table costs the same among many."""
    body = _HEADER.pack(family, 0, 0, 0, 0, protocol, 0, 0, 0)
    if table:
        body += u32(_TABLE, table)
    if oif:
        body += u32(_OIF, oif)
    return [route for message in door.dump(GETROUTE, body) for route in parse(message, oif)]


def tables_of(door: Door, family: int, protocol: int) -> list[int]:
    """The table of each route of one protocol, in all tables, and nothing else of them."""
    body = _HEADER.pack(family, 0, 0, 0, 0, protocol, 0, 0, 0)
    # The kernel's fib_dump_info puts RTA_TABLE first, behind the header.
    where = _HEADER.size + 4
    try:
        return [U32.unpack_from(message, where)[0] for message in door.dump(GETROUTE, body)]
    except SENSELESS:
        raise senseless("a route") from None


def dump_defaults(door: Door, family: int) -> list[Route]:
    """The default routes of main; other routes are passed over unread: main may hold a full BGP table."""
    body = _HEADER.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + u32(_TABLE, MAIN)
    return [route for message in door.dump(GETROUTE, body) if message[1:2] == b"\0" for route in parse(message)]


def has_default(door: Door, family: int, table: int) -> bool:
    """Whether a table knows a way for every destination: a default route, or the two halves of one.

    A refusal (`unreachable default`) is one too; `throw` sends the packet on to the next rule.
    """
    body = _HEADER.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + u32(_TABLE, table)
    halves = set()
    for message in door.dump(GETROUTE, body):
        if len(message) < _HEADER.size:
            raise senseless("a route")
        if message[1] == 0 and message[7] != _THROW:
            return True
        if message[1] == 1 and message[7] != _THROW:
            halves.add(attributes(message, _HEADER.size).get(_DST, b"")[:1])
    return len(halves) > 1


def _message(route: Route) -> bytes:
    body = _HEADER.pack(
        route.family, route.prefixlen, 0, route.tos, route.table if route.table < 256 else 0,
        route.protocol, route.scope, route.kind, ONLINK if route.onlink else 0,
    )  # fmt: skip
    body += u32(_TABLE, route.table)
    if route.prefixlen:
        body += attribute(_DST, route.network)
    if route.gateway:
        if len(route.gateway) == len(route.network):
            body += attribute(_GATEWAY, route.gateway)
        else:
            body += attribute(_VIA, family_of(route.gateway).to_bytes(2, "little") + route.gateway)
    if route.oif:
        body += u32(_OIF, route.oif)
    if route.prefsrc:
        body += attribute(_PREFSRC, route.prefsrc)
    if route.metric:
        body += u32(_PRIORITY, route.metric)
    if route.metrics:
        body += attribute(_METRICS, route.metrics)
    return body


def add(door: Door, route: Route) -> None:
    """`ip route add`: refused (EEXIST) where any route of the same key stands; raises Refused."""
    door.change(NEWROUTE, CREATE | EXCL, _message(route))


def change(door: Door, old: Route, new: Route) -> None:
    """`ip route replace`: in one step, so no packet finds the table without it; raises Refused.

    The kernel replaces the first route of that key, whoever made it (fib_table_insert), so where
    somebody else's stands there too, the new one is appended and the old one deleted by name.
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

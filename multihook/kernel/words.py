"""Rules and routes in the words of ip-rule(8) and ip-route(8)."""

from multihook.address import INET, network_text, text
from multihook.journal import foreign
from multihook.kernel import fib
from multihook.kernel.rtnetlink import U32, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multihook.kernel.routes import Route
    from multihook.kernel.rules import Rule

NONE = 0xFFFFFFFF
_ACTIONS = {fib.FR_ACT_NOP: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_RANGES = {fib.FRA_UID_RANGE: "uidrange", fib.FRA_SPORT_RANGE: "sport", fib.FRA_DPORT_RANGE: "dport"}

# Only unreachable is ours, but whatever has our protocol is taken out by its name.
_ROUTE_KINDS = {2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole", 7: "unreachable",
                8: "prohibit", 9: "throw"}  # fmt: skip
# RTAX_* that ip-route(8) takes by name (linux/rtnetlink.h); 1 is the mask of locked ones.
_METRICS = {2: "mtu", 3: "window", 4: "rtt", 5: "rttvar", 6: "ssthresh", 7: "cwnd", 8: "advmss",
            9: "reordering", 10: "hoplimit", 11: "initcwnd", 12: "features", 13: "rto_min",
            14: "initrwnd", 15: "quickack"}  # fmt: skip


def of_rule(rule: "Rule") -> str:
    """A rule as ip-rule(8) takes it, behind `ip rule add`."""
    words = ["not"] if rule.flags & fib.FIB_RULE_INVERT else []
    words += ["from", network_text(rule.source, rule.prefixlen) if rule.source else "all"]
    if rule.destination:
        words += ["to", network_text(rule.destination, rule.destination_len)]
    if rule.iif:
        words += ["iif", rule.iif]
    if rule.oif:
        words += ["oif", rule.oif]
    if rule.dport:
        words += ["ipproto", "udp", "dport", str(rule.dport)]
    words += _foreign_selectors(rule.raw, {fib.FRA_IP_PROTO, fib.FRA_DPORT_RANGE} if rule.dport else set())
    words += _action(rule)
    if rule.suppress_prefixlen != NONE:
        words += ["suppress_prefixlength", str(rule.suppress_prefixlen)]
    if rule.suppress_ifgroup != NONE:
        words += ["suppress_ifgroup", str(rule.suppress_ifgroup)]
    words += ["priority", str(rule.priority), "protocol", str(rule.protocol)]
    return " ".join(words)


def _action(rule: "Rule") -> list[str]:
    if rule.action == fib.FR_ACT_GOTO:
        return ["goto", str(U32.unpack(attributes(rule.raw, fib.RULE_HEADER.size).get(fib.FRA_GOTO, bytes(4)))[0])]
    if rule.action != fib.FR_ACT_TO_TBL:
        return [_ACTIONS.get(rule.action, f"type {rule.action}")]
    return ["lookup", "main" if rule.table == fib.MAIN else str(rule.table)]


def _foreign_selectors(raw: bytes, said: set[int]) -> list[str]:
    """The selectors that multihook never writes, of a rule that may have our protocol all the same."""
    if not raw:
        return []
    tos = fib.RULE_HEADER.unpack_from(raw)[3]
    found = attributes(raw, fib.RULE_HEADER.size)
    words = []
    if fib.FRA_FWMARK in found or fib.FRA_FWMASK in found:
        mark, mask = (found.get(kind, bytes(4)) for kind in (fib.FRA_FWMARK, fib.FRA_FWMASK))
        words += ["fwmark", f"{U32.unpack(mark)[0]:#x}/{U32.unpack(mask)[0]:#x}"]
    if tos:
        words += ["tos", hex(tos)]
    for kind, name in _RANGES.items():
        if kind in found and kind not in said:
            low, high = (fib.U16S if len(found[kind]) == 4 else fib.U32S).unpack(found[kind])
            words += [name, f"{low}-{high}"]
    if fib.FRA_IP_PROTO in found and fib.FRA_IP_PROTO not in said:
        words += ["ipproto", str(found[fib.FRA_IP_PROTO][0])]
    return words


def of_route(route: "Route", device: str) -> str:
    """A route as ip-route(8) takes it, behind `ip route add`."""
    words = [] if route.type == fib.RTN_UNICAST else [_ROUTE_KINDS.get(route.type, "unreachable")]
    is_mixed = bool(route.gateway) and len(route.gateway) != len(route.network)
    # ip(8) takes "default via inet6 ..." for an IPv6 route.
    words.append("0.0.0.0/0" if is_mixed and not route.prefixlen else network_text(route.network, route.prefixlen))
    if route.gateway:
        words += ["via inet6" if is_mixed else "via", text(route.gateway)]
    if route.oif:
        words += ["dev", device]
    words += ["table", str(route.table), "proto", str(route.protocol)]
    if route.scope == fib.RT_SCOPE_LINK and route.gateway:
        words += ["scope", "link"]
    elif route.scope == fib.RT_SCOPE_UNIVERSE and not route.gateway:
        if route.type == fib.RTN_UNICAST and route.family == INET:
            words += ["scope", "global"]
    if route.prefsrc:
        words += ["src", text(route.prefsrc)]
    if route.metric:
        words += ["metric", str(route.metric)]
    if route.tos:
        words += ["tos", hex(route.tos)]
    words += _metrics(route.metrics)
    if route.onlink:
        words.append("onlink")
    return " ".join(words)


def _metrics(metrics: bytes) -> list[str]:
    words: list[str] = []
    found = attributes(metrics, 0)
    locked = U32.unpack(found[fib.RTAX_LOCK])[0] if fib.RTAX_LOCK in found else 0
    for kind, value in found.items():
        if kind == fib.RTAX_CC_ALGO:
            words += ["congctl", foreign(value.rstrip(b"\0").decode("ascii", "replace"))]
            continue
        name = _METRICS.get(kind)
        if not name:
            continue
        number = U32.unpack(value)[0]
        shown = str(number)
        if kind == fib.RTAX_RTO_MIN:
            shown = f"{number}ms"
        elif kind == fib.RTAX_FEATURES:
            shown = "ecn" if number & 1 else hex(number)
        # ip-route(8) locks rto_min by itself, and takes no word for it.
        is_locked = locked & 1 << kind and kind != fib.RTAX_RTO_MIN
        words += [name, "lock", shown] if is_locked else [name, shown]
    return words

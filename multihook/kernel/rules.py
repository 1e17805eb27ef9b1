"""Policy rules in rtnetlink and in the words of ip-rule(8) (struct fib_rule_hdr, linux/fib_rules.h)."""

from _struct import Struct

from multihook.address import INET, network_text, width
from multihook.kernel.rtnetlink import (
    CREATE,
    DELRULE,
    EXCL,
    GETRULE,
    NEWRULE,
    SENSELESS,
    U32,
    Door,
    attribute,
    attributes,
    senseless,
    u32,
)

_HEADER = Struct("=BBBBBBBBI")
_DST, _SRC, _IIFNAME, _PRIORITY, _FWMARK = 1, 2, 3, 6, 10
_SUPPRESS_IFGROUP, _SUPPRESS_PREFIXLEN, _TABLE, _FWMASK, _OIFNAME, _PROTOCOL = 13, 14, 15, 16, 17, 21
_UID_RANGE, _IP_PROTO, _SPORT, _DPORT, _DPORT_MASK = 20, 22, 23, 24, 29
_GOTO, _FLOW, _PAD = 4, 11, 18
_RANGES = {_UID_RANGE: "uidrange", _SPORT: "sport", _DPORT: "dport"}
U16S, U32S = Struct("=HH"), Struct("=LL")
_KNOWN = frozenset((
    _DST, _SRC, _IIFNAME, _PRIORITY, _SUPPRESS_IFGROUP, _SUPPRESS_PREFIXLEN, _TABLE, _OIFNAME, _PROTOCOL,
))  # fmt: skip
# What says what to do with a packet, or nothing; all else selects which packets.
_NO_SELECTORS = frozenset((
    _DST, _SRC, _PRIORITY, _SUPPRESS_IFGROUP, _SUPPRESS_PREFIXLEN, _TABLE, _PROTOCOL, _GOTO, _FLOW, _PAD,
))  # fmt: skip
# What is shown of a rule, and how many bytes each has (fib_rule_policy, net/core/fib_rules.c).
_SIZES = {_PRIORITY: 4, _FWMARK: 4, _FWMASK: 4, _SUPPRESS_IFGROUP: 4, _SUPPRESS_PREFIXLEN: 4, _TABLE: 4, _GOTO: 4,
          _PROTOCOL: 1, _IP_PROTO: 1, _UID_RANGE: 8, _SPORT: 4, _DPORT: 4}  # fmt: skip
_TO_TABLE, _TO_RULE, _NOP = 1, 2, 3
_ACTION_NAMES = {_NOP: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_INVERT = 0x2
_UDP = 17
_LOCAL = 255
NONE = 0xFFFFFFFF  # the kernel's -1: nothing is suppressed


class Rule:
    """One rule of the kinds that multihook writes.

    `dport` is a port of UDP.  `rest` holds what else the kernel said of it: a rule with a `rest` is
    never one of ours as we would write it, so it compares unequal to all of them.  `raw` is the
    kernel's own message.
    """

    __slots__ = (
        "destination", "destination_len", "dport", "family", "flags", "iif", "oif", "prefixlen", "priority", "protocol",
        "raw", "rest", "source", "suppress_ifgroup", "suppress_prefixlen", "table",
    )  # fmt: skip

    def __init__(
        self,
        priority: int,
        table: int,
        *,
        family: int = INET,
        source: bytes = b"",
        prefixlen: int = 0,
        destination: bytes = b"",
        destination_len: int = 0,
        iif: str = "",
        oif: str = "",
        dport: int = 0,
        suppress_prefixlen: int = NONE,
        suppress_ifgroup: int = NONE,
        protocol: int = 0,
        flags: int = 0,
        rest: bytes = b"",
        raw: bytes = b"",
    ) -> None:
        self.priority = priority
        self.table = table
        self.family = family
        self.source = source
        self.prefixlen = prefixlen
        self.destination = destination
        self.destination_len = destination_len
        self.iif = iif
        self.oif = oif
        self.dport = dport
        self.suppress_prefixlen = suppress_prefixlen
        self.suppress_ifgroup = suppress_ifgroup
        self.protocol = protocol
        self.flags = flags
        self.rest = rest
        self.raw = raw

    @property
    def key(self) -> tuple[object, ...]:
        """All of it: two rules that differ in anything are two rules."""
        return (
            self.family, self.priority, self.table, self.source, self.prefixlen, self.destination,
            self.destination_len, self.iif, self.oif, self.dport,
            self.suppress_prefixlen, self.suppress_ifgroup, self.protocol, self.flags, self.rest,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rule) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def text(self) -> str:
        """The rule as ip-rule(8) takes it, behind `ip rule add`."""
        words = ["not"] if self.flags & _INVERT else []
        words += ["from", network_text(self.source, self.prefixlen) if self.source else "all"]
        if self.destination:
            words += ["to", network_text(self.destination, self.destination_len)]
        if self.iif:
            words += ["iif", self.iif]
        if self.oif:
            words += ["oif", self.oif]
        if self.dport:
            words += ["ipproto", "udp", "dport", str(self.dport)]
        words += _foreign_selectors(self.raw, {_IP_PROTO, _DPORT} if self.dport else set())
        words += self._action_words()
        if self.suppress_prefixlen != NONE:
            words += ["suppress_prefixlength", str(self.suppress_prefixlen)]
        if self.suppress_ifgroup != NONE:
            words += ["suppress_ifgroup", str(self.suppress_ifgroup)]
        words += ["priority", str(self.priority), "protocol", str(self.protocol)]
        return " ".join(words)

    def _action_words(self) -> list[str]:
        if self.action == _TO_RULE:
            return ["goto", str(U32.unpack(attributes(self.raw, _HEADER.size).get(_GOTO, bytes(4)))[0])]
        if self.action != _TO_TABLE:
            return [_ACTION_NAMES.get(self.action, f"type {self.action}")]
        return ["lookup", "main" if self.table == 254 else str(self.table)]

    @property
    def action(self) -> int:
        """What it does with a packet (FR_ACT_*): look a table up, go to another rule, refuse."""
        return self.raw[7] if self.raw else _TO_TABLE

    @property
    def mark(self) -> tuple[int, int] | None:
        """The mark and the mask that it selects by (`fwmark MARK/MASK`), if it does."""
        found = attributes(self.rest, 0)
        if _FWMARK not in found and _FWMASK not in found:
            return None
        mark, mask = (U32.unpack(found.get(kind, bytes(4)))[0] for kind in (_FWMARK, _FWMASK))
        return mark, mask

    @property
    def looks_up(self) -> bool:
        """Whether it leads to a table, rather than refusing or going to another rule."""
        return self.action == _TO_TABLE

    def catches_everything(self) -> bool:
        """Whether it takes (nearly) every packet: without a selector, or all but those that it selects.

        What the table has no route for goes on to the next rule: whoever asks has to look there too.
        """
        if self.action == _NOP or self.suppress_prefixlen != NONE or (self.looks_up and self.table in (0, _LOCAL)):
            return False
        return self.fits_everything()

    def fits_everything(self) -> bool:
        """Whether (nearly) every packet fits it: it has no selector, or is for all but those that it selects.

        `fwmark 0/MASK` means what nobody has marked, so nearly all.
        """
        _, destination_len, source_len, tos, *_ = _HEADER.unpack_from(self.raw)
        found = attributes(self.raw, _HEADER.size)
        selectors = found.keys() - _NO_SELECTORS
        has_selector = bool(selectors or destination_len or source_len or tos)
        is_unmarked = selectors == {_FWMARK, _FWMASK} and not any(found[_FWMARK])
        if self.flags & _INVERT:
            return has_selector and not is_unmarked
        return not has_selector or (is_unmarked and not (destination_len or source_len or tos))


def _parse(message: bytes) -> Rule:
    if len(message) < _HEADER.size:
        raise senseless("a rule")
    family, destination_len, source_len, tos, table, _, _, action, flags = _HEADER.unpack_from(message)
    found = attributes(message, _HEADER.size)
    _check(found, width(family) // 8, destination_len, source_len)
    known, dport = _KNOWN, _udp_port(found)
    if dport:
        known = _KNOWN | {_IP_PROTO, _DPORT, _DPORT_MASK}
    rest = b"".join(attribute(kind, value) for kind, value in sorted(found.items()) if kind not in known)
    if action != _TO_TABLE or tos:
        rest += attribute(_DST, bytes((action, tos)))
    return Rule(
        U32.unpack(found[_PRIORITY])[0] if _PRIORITY in found else 0,
        U32.unpack(found[_TABLE])[0] if _TABLE in found else table,
        family=family,
        source=found.get(_SRC, b""),
        prefixlen=source_len,
        destination=found.get(_DST, b""),
        destination_len=destination_len,
        iif=found.get(_IIFNAME, b"").rstrip(b"\0").decode("utf-8", "surrogateescape"),
        oif=found.get(_OIFNAME, b"").rstrip(b"\0").decode("utf-8", "surrogateescape"),
        dport=dport,
        suppress_prefixlen=U32.unpack(found[_SUPPRESS_PREFIXLEN])[0] if _SUPPRESS_PREFIXLEN in found else NONE,
        suppress_ifgroup=U32.unpack(found[_SUPPRESS_IFGROUP])[0] if _SUPPRESS_IFGROUP in found else NONE,
        protocol=found[_PROTOCOL][0] if _PROTOCOL in found else 0,
        flags=flags & _INVERT,
        rest=rest,
        raw=message,
    )


def _check(found: dict[int, bytes], octets: int, destination_len: int, source_len: int) -> None:
    """Raise Refused where an attribute cannot be what it should be."""
    for kind, value in found.items():
        if len(value) != _SIZES.get(kind, len(value)) or (kind in (_DST, _SRC) and len(value) != octets):
            raise senseless("a rule")
    if destination_len > octets * 8 or source_len > octets * 8:
        raise senseless("a rule")


def _udp_port(found: dict[int, bytes]) -> int:
    """The one port of UDP that packets must go to, or 0."""
    if found.get(_IP_PROTO) != bytes((_UDP,)) or len(found.get(_DPORT, b"")) != U16S.size:
        return 0
    low, high = U16S.unpack(found[_DPORT])
    # Linux 6.15 and newer say of one port that all of its bits count.
    return int(low) if low == high and found.get(_DPORT_MASK, b"\xff\xff") == b"\xff\xff" else 0


def _foreign_selectors(raw: bytes, said: set[int]) -> list[str]:
    """The selectors that we never write, of a rule that has our protocol all the same, for ip-rule(8)."""
    if not raw:
        return []
    tos = _HEADER.unpack_from(raw)[3]
    found = attributes(raw, _HEADER.size)
    words = []
    if _FWMARK in found or _FWMASK in found:
        mark, mask = (found.get(kind, bytes(4)) for kind in (_FWMARK, _FWMASK))
        words += ["fwmark", f"{U32.unpack(mark)[0]:#x}/{U32.unpack(mask)[0]:#x}"]
    if tos:
        words += ["tos", hex(tos)]
    for kind, name in _RANGES.items():
        if kind in found and kind not in said:
            low, high = (U16S if len(found[kind]) == 4 else U32S).unpack(found[kind])
            words += [name, f"{low}-{high}"]
    if _IP_PROTO in found and _IP_PROTO not in said:
        words += ["ipproto", str(found[_IP_PROTO][0])]
    return words


class Dump:
    """All rules of one family."""

    def __init__(self, door: Door, family: int) -> None:
        self._answers = door.dump(GETRULE, _HEADER.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))

    def of_protocols(self, protocols: "frozenset[int]", wanted: "list[bytes] | None" = None) -> list[Rule]:
        """Rules with one of these protocols; with `wanted`, only those that hold one of its marks."""
        marks = [_mark_of_protocol(protocol) for protocol in protocols] if wanted is None else wanted
        messages = dict.fromkeys(message for mark in marks for message in self._answers.having(mark))
        return [rule for rule in map(_parse, messages) if rule.protocol in protocols]

    def count(self, protocol: int) -> int:
        """How many rules have this protocol."""
        return self._answers.count(_mark_of_protocol(protocol))

    def foreign_before(self, protocol: int, limit: int) -> list[Rule]:
        """The rules without this protocol of a priority below `limit`, in the kernel's order, which is theirs.

        Ours are counted and passed over unread: 300 links have 900, and beside them stand few.
        """
        mark = _mark_of_protocol(protocol)
        left = len(self._answers) - self._answers.count(mark)
        for message in self._answers.backwards():
            if mark in message or _priority(message) < limit:
                break
            left -= 1
        found: list[Rule] = []
        for message in self._answers:
            if len(found) >= left:
                break
            if mark not in message:
                found.append(_parse(message))
        return [rule for rule in found if rule.priority < limit]

    def all(self) -> list[Rule]:
        """Every rule, parsed: for the console, which looks at foreign ones too."""
        return [_parse(message) for message in self._answers]


def _priority(message: bytes) -> int:
    """The kernel leaves the attribute out where it is 0."""
    try:
        return int(U32.unpack(attributes(message, _HEADER.size).get(_PRIORITY, bytes(4)))[0])
    except SENSELESS:
        raise senseless("a rule") from None


def _mark_of_protocol(protocol: int) -> bytes:
    return attribute(_PROTOCOL, bytes((protocol,)))


def mark_of_table(table: int) -> bytes:
    """The bytes that every rule with this table holds (see Dump.of_protocols)."""
    return u32(_TABLE, table)


def mark_of_source(address: bytes) -> bytes:
    """The bytes that every rule from exactly this address or network holds."""
    return attribute(_SRC, address)


def mark_of_destination(address: bytes) -> bytes:
    """The bytes that every rule to exactly this address or network holds."""
    return attribute(_DST, address)


def _message(rule: Rule) -> bytes:
    table = rule.table if rule.table < 256 else 0
    body = _HEADER.pack(
        rule.family, rule.destination_len, rule.prefixlen, 0, table, 0, 0, _TO_TABLE, rule.flags
    )
    body += u32(_PRIORITY, rule.priority) + u32(_TABLE, rule.table)
    if rule.source:
        body += attribute(_SRC, rule.source)
    if rule.destination:
        body += attribute(_DST, rule.destination)
    if rule.iif:
        body += attribute(_IIFNAME, rule.iif.encode() + b"\0")
    if rule.oif:
        body += attribute(_OIFNAME, rule.oif.encode() + b"\0")
    if rule.dport:
        body += attribute(_IP_PROTO, bytes((_UDP,))) + attribute(_DPORT, U16S.pack(rule.dport, rule.dport))
    if rule.suppress_prefixlen != NONE:
        body += u32(_SUPPRESS_PREFIXLEN, rule.suppress_prefixlen)
    if rule.suppress_ifgroup != NONE:
        body += u32(_SUPPRESS_IFGROUP, rule.suppress_ifgroup)
    return body + attribute(_PROTOCOL, bytes((rule.protocol,)))


def add(door: Door, rule: Rule) -> None:
    """`ip rule add`; refused (EEXIST) where the very same rule stands; raises Refused."""
    door.change(NEWRULE, CREATE | EXCL, _message(rule))


def delete(door: Door, rule: Rule) -> None:
    """`ip rule del`, naming every selector, so that no other rule can be meant; raises Refused."""
    door.change(DELRULE, 0, rule.raw or _message(rule))

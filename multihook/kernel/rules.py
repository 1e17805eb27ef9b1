"""Policy rules: the kind, and its messages in rtnetlink (struct fib_rule_hdr, linux/fib_rules.h)."""

from multihook.address import FAMILIES, INET, width
from multihook.kernel import fib
from multihook.kernel.fib import FR_ACT_TO_TBL, MAIN, RULE_HEADER
from multihook.kernel.rtnetlink import (
    CREATE,
    DELRULE,
    EXCL,
    GETRULE,
    NEWRULE,
    U32,
    Answers,
    Door,
    attribute,
    attributes,
    senseless,
    u32,
)
from multihook.kind import EXCEPTION, LOOKUP, Kind, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multihook.kind import Object
    from multihook.view import View

_KNOWN = frozenset((
    fib.FRA_DST, fib.FRA_SRC, fib.FRA_IIFNAME, fib.FRA_PRIORITY, fib.FRA_SUPPRESS_IFGROUP,
    fib.FRA_SUPPRESS_PREFIXLEN, fib.FRA_TABLE, fib.FRA_OIFNAME, fib.FRA_PROTOCOL,
))  # fmt: skip
# What is shown of a rule, and how many bytes each has (fib_rule_policy, net/core/fib_rules.c).
_SIZES = {
    fib.FRA_PRIORITY: 4, fib.FRA_FWMARK: 4, fib.FRA_FWMASK: 4, fib.FRA_SUPPRESS_IFGROUP: 4,
    fib.FRA_SUPPRESS_PREFIXLEN: 4, fib.FRA_TABLE: 4, fib.FRA_GOTO: 4, fib.FRA_PROTOCOL: 1, fib.FRA_IP_PROTO: 1,
    fib.FRA_UID_RANGE: 8, fib.FRA_SPORT_RANGE: 4, fib.FRA_DPORT_RANGE: 4,
}  # fmt: skip
_UDP = 17
NONE = 0xFFFFFFFF  # the kernel's -1: nothing is suppressed
_NONE = U32.pack(NONE)
_COUNT = "rules"  # in a signature


class Rule:
    """One rule of the kinds that multihook writes.

    `dport` is a port of UDP.  `rest` holds what else the kernel said of it: a rule with a `rest` is
    never one of ours as we would write it, so it compares unequal to all of them.  `raw` is the
    kernel's own message.
    """

    __slots__ = (
        "_key", "destination", "destination_len", "dport", "family", "flags", "iif", "link", "oif", "prefixlen",
        "priority", "protocol", "raw", "rest", "source", "suppress_ifgroup", "suppress_prefixlen", "table",
    )  # fmt: skip
    kind: "Kind"
    noun = "rule"
    size = 1

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
        link: str = "",
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
        self.link = link
        self._key: tuple[object, ...] | None = None

    @property
    def stage(self) -> int:
        """Look-ups come last; what main does first stands before them."""
        return EXCEPTION if self.table == MAIN else LOOKUP

    @property
    def key(self) -> tuple[object, ...]:
        """All of it: two rules that differ in anything are two rules."""
        if self._key is None:  # asked for several times of each of 900
            self._key = (
                self.family, self.priority, self.table, self.source, self.prefixlen, self.destination,
                self.destination_len, self.iif, self.oif, self.dport,
                self.suppress_prefixlen, self.suppress_ifgroup, self.protocol, self.flags, self.rest,
            )  # fmt: skip
        return self._key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rule) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def text(self) -> str:
        """The rule as ip-rule(8) takes it, behind `ip rule add`."""
        from multihook.kernel import words

        return words.of_rule(self)

    @property
    def action(self) -> int:
        """What it does with a packet (FR_ACT_*): look a table up, go to another rule, refuse."""
        return self.raw[7] if self.raw else FR_ACT_TO_TBL

    @property
    def looks_up(self) -> bool:
        """Whether it leads to a table, rather than refusing or going to another rule."""
        return self.action == FR_ACT_TO_TBL


def parse(message: bytes) -> Rule:
    """The rule in one message of the kernel; raises Refused where it makes no sense."""
    if len(message) < RULE_HEADER.size:
        raise senseless("a rule")
    family, destination_len, source_len, tos, table, _, _, action, flags = RULE_HEADER.unpack_from(message)
    found = attributes(message, RULE_HEADER.size)
    _check(found, width(family) // 8, destination_len, source_len)
    known, dport = _KNOWN, _udp_port(found)
    if dport:
        known = _KNOWN | {fib.FRA_IP_PROTO, fib.FRA_DPORT_RANGE, fib.FRA_DPORT_MASK}
    rest = b"".join(attribute(kind, value) for kind, value in sorted(found.items()) if kind not in known)
    if action != FR_ACT_TO_TBL or tos:
        rest += attribute(fib.FRA_DST, bytes((action, tos)))
    return Rule(
        U32.unpack(found[fib.FRA_PRIORITY])[0] if fib.FRA_PRIORITY in found else 0,
        U32.unpack(found[fib.FRA_TABLE])[0] if fib.FRA_TABLE in found else table,
        family=family,
        source=found.get(fib.FRA_SRC, b""),
        prefixlen=source_len,
        destination=found.get(fib.FRA_DST, b""),
        destination_len=destination_len,
        iif=found.get(fib.FRA_IIFNAME, b"").rstrip(b"\0").decode("utf-8", "surrogateescape"),
        oif=found.get(fib.FRA_OIFNAME, b"").rstrip(b"\0").decode("utf-8", "surrogateescape"),
        dport=dport,
        suppress_prefixlen=U32.unpack(found.get(fib.FRA_SUPPRESS_PREFIXLEN, _NONE))[0],
        suppress_ifgroup=U32.unpack(found.get(fib.FRA_SUPPRESS_IFGROUP, _NONE))[0],
        protocol=found[fib.FRA_PROTOCOL][0] if fib.FRA_PROTOCOL in found else 0,
        flags=flags & fib.FIB_RULE_INVERT,
        rest=rest,
        raw=message,
    )


def _check(found: dict[int, bytes], octets: int, destination_len: int, source_len: int) -> None:
    """Raise Refused where an attribute cannot be what it should be."""
    for kind, value in found.items():
        if len(value) != _SIZES.get(kind, len(value)) or (kind in (fib.FRA_DST, fib.FRA_SRC) and len(value) != octets):
            raise senseless("a rule")
    if destination_len > octets * 8 or source_len > octets * 8:
        raise senseless("a rule")


def _udp_port(found: dict[int, bytes]) -> int:
    """The one port of UDP that packets must go to, or 0."""
    if found.get(fib.FRA_IP_PROTO) != bytes((_UDP,)) or len(found.get(fib.FRA_DPORT_RANGE, b"")) != fib.U16S.size:
        return 0
    low, high = fib.U16S.unpack(found[fib.FRA_DPORT_RANGE])
    # Linux 6.15 and newer say of one port that all of its bits count.
    return int(low) if low == high and found.get(fib.FRA_DPORT_MASK, b"\xff\xff") == b"\xff\xff" else 0


class Dump:
    """All rules of one family."""

    def __init__(self, door: Door, family: int) -> None:
        self._known = door.known(GETRULE)
        self._answers = door.dump(GETRULE, RULE_HEADER.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))

    def of_protocols(self, protocols: "frozenset[int]", wanted: "list[bytes] | None" = None) -> list[Rule]:
        """Rules with one of these protocols; with `wanted`, only those that hold one of its marks."""
        marks = [mark_of_protocol(protocol) for protocol in protocols] if wanted is None else wanted
        messages = dict.fromkeys(message for mark in marks for message in self._answers.having(mark))
        return [rule for rule in map(self._rule, messages) if rule.protocol in protocols]

    def _rule(self, message: bytes) -> Rule:
        rule: Rule | None = self._known.get(message)
        if rule is None:
            rule = self._known[message] = parse(message)
        return rule

    def count(self, protocol: int) -> int:
        """How many rules have this protocol."""
        return self._answers.count(mark_of_protocol(protocol))

    @property
    def answers(self) -> Answers:
        """The kernel's own messages."""
        return self._answers

    def all(self) -> list[Rule]:
        """Every rule, parsed: for the console, which looks at foreign ones too."""
        return [self._rule(message) for message in self._answers]


def mark_of_protocol(protocol: int) -> bytes:
    """The bytes that every rule of this protocol holds."""
    return attribute(fib.FRA_PROTOCOL, bytes((protocol,)))


def mark_of_table(table: int) -> bytes:
    """The bytes that every rule with this table holds (see Dump.of_protocols)."""
    return u32(fib.FRA_TABLE, table)


def mark_of_source(address: bytes) -> bytes:
    """The bytes that every rule from exactly this address or network holds."""
    return attribute(fib.FRA_SRC, address)


def mark_of_destination(address: bytes) -> bytes:
    """The bytes that every rule to exactly this address or network holds."""
    return attribute(fib.FRA_DST, address)


def _message(rule: Rule) -> bytes:
    table = rule.table if rule.table < 256 else 0
    body = RULE_HEADER.pack(
        rule.family, rule.destination_len, rule.prefixlen, 0, table, 0, 0, FR_ACT_TO_TBL, rule.flags
    )
    body += u32(fib.FRA_PRIORITY, rule.priority) + u32(fib.FRA_TABLE, rule.table)
    if rule.source:
        body += attribute(fib.FRA_SRC, rule.source)
    if rule.destination:
        body += attribute(fib.FRA_DST, rule.destination)
    if rule.iif:
        body += attribute(fib.FRA_IIFNAME, rule.iif.encode() + b"\0")
    if rule.oif:
        body += attribute(fib.FRA_OIFNAME, rule.oif.encode() + b"\0")
    if rule.dport:
        body += attribute(fib.FRA_IP_PROTO, bytes((_UDP,)))
        body += attribute(fib.FRA_DPORT_RANGE, fib.U16S.pack(rule.dport, rule.dport))
    if rule.suppress_prefixlen != NONE:
        body += u32(fib.FRA_SUPPRESS_PREFIXLEN, rule.suppress_prefixlen)
    if rule.suppress_ifgroup != NONE:
        body += u32(fib.FRA_SUPPRESS_IFGROUP, rule.suppress_ifgroup)
    return body + attribute(fib.FRA_PROTOCOL, bytes((rule.protocol,)))


def add(door: Door, rule: Rule) -> None:
    """`ip rule add`; refused (EEXIST) where the very same rule stands; raises Refused."""
    door.change(NEWRULE, CREATE | EXCL, _message(rule))


def delete(door: Door, rule: Rule) -> None:
    """`ip rule del`, naming every selector, so that no other rule can be meant; raises Refused."""
    door.change(DELRULE, 0, rule.raw or _message(rule))


class _Rules(Kind):
    """The kind: rules of our protocol."""

    NAME = "rules"

    def read(self, view: "View", wanted: list[Rule]) -> list[Rule]:
        """Ours; in an event's run those that lead to its links' tables, or speak of their addresses or DHCP servers."""
        found: list[Rule] = []
        tables = {link.table for link in view.links} | {rule.table for rule in wanted} - {MAIN}
        for family in FAMILIES:
            if view.whole:
                found += dump_of(view, family).of_protocols(view.protocols)
            else:
                found += _of_links(view, family, tables)
        for rule in found:
            rule.link = _owner(view, rule)
        return found if view.whole else [rule for rule in found if rule.link]

    def add(self, view: "View", new: Rule) -> None:
        """Make a rule."""
        add(view.door, new)

    def remove(self, view: "View", old: Rule) -> None:
        """Take a rule away."""
        delete(view.door, old)

    def commands(self, view: "View", step: Step) -> list[str]:
        """As ip-rule(8); rules differ in their key, so none is ever changed."""
        option = "" if step.object.family == INET else "-6 "
        return [f"ip {option}rule {'add' if step.old is None else 'del'} {step.object.text()}"]

    def signature(self, view: "View", wanted: "list[Object]", thorough: bool) -> dict[str, int]:
        """How many there are: `ip rule flush` and networkd's clean-up show in it."""
        return {_COUNT: sum(dump_of(view, family).count(view.config["rt_proto"]) for family in FAMILIES)}

    def tally(self, view: "View", there: list[Rule]) -> dict[str, int]:
        """How many were read."""
        return {_COUNT: sum(rule.protocol == view.config["rt_proto"] for rule in there)}


KIND = Rule.kind = _Rules()


def dump_of(view: "View", family: int) -> Dump:
    """All rules there are, read once for each look at the kernel."""
    dump: Dump | None = view.read.get((_COUNT, family))
    if dump is None:
        dump = view.read[_COUNT, family] = Dump(view.door, family)
    return dump


def _of_links(view: "View", family: int, tables: set[int]) -> list[Rule]:
    """The rules of these tables, and those for main, by the addresses and DHCP servers that their links have or had."""
    sources = {source for link in view.links for source, _ in link.sources}
    sources.update(address for former in view.former.values() for address in former)
    sources.update(path.lease.address for link in view.links for path in link.paths.values())
    marks = [mark_of_table(table) for table in tables]
    marks += [mark_of_source(source) for source in sources if source]
    marks += [mark_of_destination(server) for servers in view.servers.values() for server in servers]
    found = dump_of(view, family).of_protocols(view.protocols, marks)
    # An address that this link had may be another link's by now, with rules of its own; so may its DHCP server be.
    others = {_ends(rule) for rule in found if rule.table not in (*tables, MAIN)}
    return [rule for rule in found if rule.table in tables or (rule.table == MAIN and _ends(rule) not in others)]


def _ends(rule: Rule) -> tuple[bytes, int, bytes]:
    """What a rule for an exception and the rule behind it have in common."""
    return rule.source, rule.prefixlen, rule.destination


def _owner(view: "View", rule: Rule) -> str:
    """The link that a rule leads to; one for main is known by its link's address or DHCP server."""
    owner = view.owner(rule.table) if rule.table != MAIN else ""
    return owner or view.owner(("to", rule.destination) if rule.destination else rule.source)

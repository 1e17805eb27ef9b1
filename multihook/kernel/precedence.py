"""Foreign rules: which stand in front of ours, and which packets they take."""

from multihook.kernel import fib
from multihook.kernel.rtnetlink import SENSELESS, U32, attributes, senseless
from multihook.kernel.rules import NONE, Dump, Rule, mark_of_protocol, parse

# What says what to do with a packet, or nothing; all else selects which packets.
_NO_SELECTORS = frozenset((
    fib.FRA_DST, fib.FRA_SRC, fib.FRA_PRIORITY, fib.FRA_SUPPRESS_IFGROUP, fib.FRA_SUPPRESS_PREFIXLEN, fib.FRA_TABLE,
    fib.FRA_PROTOCOL, fib.FRA_GOTO, fib.FRA_FLOW, fib.FRA_PAD,
))  # fmt: skip


def before(dump: Dump, protocol: int, limit: int) -> list[Rule]:
    """The rules without this protocol of a priority below `limit`, in the kernel's order, which is theirs.

    Ours are counted and passed over unread: 300 links have 900, and beside them stand few.
    """
    mark = mark_of_protocol(protocol)
    left = len(dump.answers) - dump.answers.count(mark)
    for message in dump.answers.backwards():
        if mark in message or _priority(message) < limit:
            break
        left -= 1
    found: list[Rule] = []
    for message in dump.answers:
        if len(found) >= left:
            break
        if mark not in message:
            found.append(parse(message))
    return [rule for rule in found if rule.priority < limit]


def _priority(message: bytes) -> int:
    """The kernel leaves the attribute out where it is 0."""
    try:
        found = attributes(message, fib.RULE_HEADER.size)
        return int(U32.unpack(found.get(fib.FRA_PRIORITY, bytes(4)))[0])
    except SENSELESS:
        raise senseless("a rule") from None


def mark(rule: Rule) -> tuple[int, int] | None:
    """The mark and the mask that a rule selects by (`fwmark MARK/MASK`), if it does."""
    found = attributes(rule.rest, 0)
    if fib.FRA_FWMARK not in found and fib.FRA_FWMASK not in found:
        return None
    value, mask = (U32.unpack(found.get(kind, bytes(4)))[0] for kind in (fib.FRA_FWMARK, fib.FRA_FWMASK))
    return value, mask


def catches_everything(rule: Rule) -> bool:
    """Whether a rule takes (nearly) every packet: without a selector, or all but those that it selects.

    What the table has no route for goes on to the next rule, so a caller has to look there too.
    """
    leads_nowhere = rule.looks_up and rule.table in (0, fib.LOCAL)
    if rule.action == fib.FR_ACT_NOP or rule.suppress_prefixlen != NONE or leads_nowhere:
        return False
    return fits_everything(rule)


def fits_everything(rule: Rule) -> bool:
    """Whether (nearly) every packet fits a rule: it has no selector, or is for all but those that it selects.

    `fwmark 0/MASK` means what no program has marked, so nearly all.
    """
    _, destination_len, source_len, tos, *_ = fib.RULE_HEADER.unpack_from(rule.raw)
    found = attributes(rule.raw, fib.RULE_HEADER.size)
    selectors = found.keys() - _NO_SELECTORS
    has_selector = bool(selectors or destination_len or source_len or tos)
    is_unmarked = selectors == {fib.FRA_FWMARK, fib.FRA_FWMASK} and not any(found[fib.FRA_FWMARK])
    if rule.flags & fib.FIB_RULE_INVERT:
        return has_selector and not is_unmarked
    return not has_selector or (is_unmarked and not (destination_len or source_len or tos))

"""Rules of others in the way of ours: in front of them, among them, for the same addresses; the kernel's own gone."""

from collections.abc import Iterator

from multihook import front
from multihook.address import FAMILIES, FAMILY_NAMES, INET, text
from multihook.checks import DEFEATS, WARNING, Finding
from multihook.checks.machine import Machine, pasteable
from multihook.checks.numbers import known_by, program_of
from multihook.features import routing
from multihook.journal import foreign
from multihook.kernel import precedence, routes, rules
from multihook.kernel.interfaces import name_of
from multihook.kernel.rules import NONE, Rule

_MAIN, _LOCAL = 254, 255
_LAST = 32765
_WIREGUARD = 51820


def _ip(rule: Rule) -> str:
    return "ip rule" if rule.family == INET else "ip -6 rule"


def _shown(rule: Rule) -> str:
    """A rule, and whose numbers it has."""
    who = program_of(rule)
    return front.shown(rule) + (f" (numbers of {who})" if who else "")


def _behind(machine: Machine) -> int:
    """A priority behind all of ours."""
    return min(int(machine.config["rule_base"]) + front.BAND + 100, _LAST)


def _moved(rule: Rule, priority: int) -> tuple[str, ...]:
    """The commands that put a rule elsewhere: first the new one, then the old one goes."""
    words = rule.text()
    old, new = (f"priority {number} protocol" for number in (rule.priority, priority))
    return pasteable(f"{_ip(rule)} add {words.replace(old, new)}"), pasteable(f"{_ip(rule)} del {words}")


def in_front(machine: Machine) -> Iterator[Finding]:
    """A foreign rule that takes every packet before ours are asked."""
    if machine.view is None:
        return
    for rule in front.rules_in_front(machine.view):
        who = known_by(rule)
        mend = _moved(rule, _behind(machine))
        if who == "wg-quick":
            mend += _wireguard(machine, rule)
        elif who == "Tailscale":
            mend = ("tailscale set --exit-node=    # no exit node", *mend)
        else:
            mend += ("# and the same number in whatever makes this rule",)
        yield Finding(
            DEFEATS, "front-rule", f"a foreign rule takes every packet before ours are asked: {_shown(rule)}",
            "Answers, bound sockets and pinned connections of all links leave where that rule says.", mend,
        )  # fmt: skip


def to_segments(machine: Machine) -> Iterator[Finding]:
    """A foreign rule for main in front of ours: one link's address leaves for another link's network by that link."""
    if machine.view is None:
        return
    told = [known_by(rule) for rule in front.rules_in_front(machine.view)]
    everything = rules.dump_of(machine.view, INET).all()
    wireguard = next((rule for rule in everything if known_by(rule) == "wg-quick"), None)
    for rule in front.rules_to_segments(machine.view):
        mend = _moved(rule, _behind(machine) - 1)
        if wireguard and "wg-quick" not in told:  # in_front has the same lines for its file
            mend += _wireguard(machine, wireguard)
        elif not wireguard:
            mend += ("# and the same number in whatever makes this rule",)
        yield Finding(
            DEFEATS, "segment-rule", front.line_to_segments(rule),
            "Answers and bound sockets of one link leave for the network of another by the wrong line.", mend,
        )  # fmt: skip


def _wireguard(machine: Machine, rule: Rule) -> tuple[str, ...]:
    """wg-quick with priorities of its own: `Table` other than auto makes it write no rules."""
    device = next((name for name in _devices(machine, rule.table) if name.isascii() and name.isprintable()), "NAME")
    suppress = f"lookup main suppress_prefixlength 0 priority {_behind(machine) - 1}"
    take = f"not fwmark {_WIREGUARD} lookup {_WIREGUARD} priority {_behind(machine)}"
    return (
        f"# to last, in /etc/wireguard/{foreign(device)}.conf under [Interface]:",
        f"FwMark = {_WIREGUARD}",
        f"Table = {_WIREGUARD}",
        f"PostUp = ip rule add {suppress}; ip rule add {take}",
        f"PreDown = ip rule del {take}; ip rule del {suppress}",
    )


def _devices(machine: Machine, table: int) -> list[str]:
    if machine.door is None:
        return []
    return [name_of(route.oif) for route in routes.dump(machine.door, INET, table=table) if route.oif]


def for_our_addresses(machine: Machine) -> Iterator[Finding]:
    """A foreign rule in front of ours for a link's very address: the one of a script that did this before."""
    if machine.view is None:
        return
    every = [(path, link) for link in machine.view.links for path in link.paths.values()]
    owners = {path.lease.address: link for path, link in every if path.has_address}
    for family in FAMILIES:
        limit = machine.config["rule_base"] + routing.SOURCE_RULE
        for rule in precedence.before(rules.dump_of(machine.view, family), machine.config["rt_proto"], limit):
            link = owners.get(rule.source)
            # One that only lets main's routes win (suppress_prefixlength) takes nothing to another link.
            if link is None or rule.suppress_prefixlen != NONE or rule.table == link.table:
                continue
            yield Finding(
                DEFEATS, "address-rule",
                f"a foreign rule for the address of {link.name} stands in front of ours: {_shown(rule)}",
                f"What comes from {text(rule.source)} leaves where that rule says; multihook has rules for it already.",
                (pasteable(f"{_ip(rule)} del {rule.text()}"), "# and take it out of the script that makes it"),
            )  # fmt: skip


def among_ours(machine: Machine) -> Iterator[Finding]:
    """A foreign rule between our priorities: its order among ours is left to chance."""
    if machine.view is None:
        return
    base = machine.config["rule_base"]
    in_the_way = [rule.key for find in (front.rules_in_front, front.rules_to_segments) for rule in find(machine.view)]
    for family in FAMILIES:
        dump = rules.dump_of(machine.view, family)
        for rule in precedence.before(dump, machine.config["rt_proto"], base + front.BAND):
            if rule.priority < base or rule.key in in_the_way:
                continue
            yield Finding(
                WARNING, "rule-range", f"a foreign rule has one of our priorities: {_shown(rule)}",
                f"{base}..{base + front.BAND - 1} are multihook's; what comes first of two equal ones is chance.",
                (*_moved(rule, base - 1),
                 "# or in /etc/multihook/multihook.toml under [multihook]:", f"rule_base = {_free_base(dump, base)}"),
            )  # fmt: skip


def _free_base(dump: rules.Dump, base: int) -> int:
    """The next thousand of priorities without a foreign rule in it."""
    taken = {rule.priority // front.BAND for rule in dump.all()}
    blocks = [*range(8, 32), *range(2, 8)]
    return next((block for block in blocks if block not in taken and block != base // front.BAND), 9) * front.BAND


def kernels_own(machine: Machine) -> Iterator[Finding]:
    """The rule for table local moved behind ours or gone, that for main gone."""
    if machine.view is None:
        return
    for family in FAMILIES:
        option = "" if family == INET else f" ({FAMILY_NAMES[family]})"
        ip = "ip rule" if family == INET else "ip -6 rule"
        every = [rule for rule in rules.dump_of(machine.view, family).all() if rule.looks_up and _is_plain(rule)]
        local = min((rule.priority for rule in every if rule.table == _LOCAL), default=None)
        if local is None or local >= machine.config["rule_base"]:
            where = "is gone" if local is None else f"stands at {local}, behind ours"
            mend = [f"{ip} add lookup local priority 0"]
            if local is not None:
                mend.append(f"{ip} del lookup local priority {local}")
            yield Finding(
                DEFEATS, "local-rule", f"the rule for table local{option} {where}",
                "What this machine sends to itself from a link's address leaves for the provider.", tuple(mend),
            )  # fmt: skip
        if not any(rule.table == _MAIN for rule in every):
            yield Finding(
                WARNING, "main-rule", f"the rule for table main{option} is gone",
                "What is bound to no link has no route.", (f"{ip} add lookup main priority 32766",),
            )  # fmt: skip


def _is_plain(rule: Rule) -> bool:
    return not (rule.source or rule.oif or rule.rest or rule.flags) and rule.suppress_prefixlen == NONE


CHECKS = (in_front, to_segments, for_our_addresses, among_ours, kernels_own)

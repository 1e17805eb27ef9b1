"""Links that swap tables: no packet goes by a table while that passes from one link to another.

The old rule leads to what is the new link's already, or the new rule to what is still the old one's.
So such a table is emptied down to its guard before all else, and filled when the rules are in place:
meanwhile what is bound to either link is refused.
"""

from multihook.kernel.fib import MAIN, RTN_UNREACHABLE
from multihook.kernel.rules import Rule
from multihook.kind import Step


def arranged(steps: list[Step]) -> list[Step]:
    """The steps of a run over everything, in an order that is safe for these tables too."""
    swapped = _swapped(steps)
    before, meanwhile, after = [], [], []
    for step in steps:
        old, new = step.old, step.new
        thing = step.object
        if not _is_route(step) or thing.table not in swapped or thing.type == RTN_UNREACHABLE:
            meanwhile.append(step)
            continue
        if old:
            before.append(Step(old, None))
        if new:
            after.append(Step(None, new))
    before.sort(key=lambda step: step.old.prefixlen)  # defaults first: what is direct must not go by them
    return before + meanwhile + after


def _is_route(step: Step) -> bool:
    # By its noun: the kind of routes calls this module.
    return bool(step.object.noun == "route")


def _swapped(steps: list[Step]) -> set[int]:
    """Tables that lead by another interface from now on, and that a rule leads to or has led to whose source stays."""
    rules_there = [step for step in steps if isinstance(step.object, Rule) and step.object.table != MAIN]
    table_of = {_selector(step.new): step.new.table for step in rules_there if step.new}
    moved = [step.old for step in rules_there if not step.new and _selector(step.old) in table_of]
    tables = {rule.table for rule in moved} | {table_of[_selector(rule)] for rule in moved}
    ways = [step for step in steps if _is_route(step) and step.object.table in tables]
    former: dict[int, set[int]] = {}
    for step in ways:
        if step.old and step.old.oif:
            former.setdefault(step.old.table, set()).add(step.old.oif)
    later = [step.new for step in ways if step.new and step.new.oif]
    return {route.table for route in later if former.get(route.table, set()) - {route.oif}}


def _selector(rule: Rule) -> tuple[object, ...]:
    """What a rule takes, wherever it stands and wherever it leads."""
    return rule.family, rule.source, rule.prefixlen, rule.destination, rule.iif, rule.oif, rule.dport

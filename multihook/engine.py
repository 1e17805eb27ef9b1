"""Desired, actual, difference: what any feature needs done, done in an order that is safe at each instant.

The engine knows no rule, no route and no file.  It asks each feature what should be there and
what is, makes what is missing (guards first, look-ups last), takes away what is too much (the
other way round), and asks again: success means that a second look finds no difference.  In an
event's run only those are asked again that had something to do.
"""

from errno import EEXIST, ENOPKG, EPERM

from multihook.features import FILE, GENERATION, Step, View, visible
from multihook.files import explain, number
from multihook.kernel.rtnetlink import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any

    from multihook.features import Feature
    from multihook.links import Link


class Failure:
    """One step that was refused: of which link and feature, why, and what to do.

    may_pass    it is worth another try at once: the facts may have changed
    of_file     it was a file that could not be written; the kernel is right
    """

    __slots__ = ("feature", "line", "link", "may_pass", "of_file")

    def __init__(self, link: str, line: str, may_pass: bool, feature: str = "", of_file: bool = False) -> None:
        self.link = link
        self.line = line
        self.may_pass = may_pass
        self.feature = feature
        self.of_file = of_file

    def is_in_the_way_of(self, link: str, feature: str, stage: int) -> bool:
        """Whether a further step may not be made: one of the same link and feature, a file aside."""
        return self.link == link and self.feature == feature and (stage == FILE or not self.of_file)


def plan(view: View, only: "Container[Feature] | None" = None) -> list[Step]:
    """The difference between what should be and what is, in the order in which to make it.

    Of all features, or `only` of some.
    """
    additions: list[tuple[int, Step]] = []
    removals: list[tuple[int, Step]] = []
    for feature in visible(view):
        if only is not None and feature not in only:
            continue
        wanted = {thing.key: thing for thing in feature.desired(view)}
        there: dict[object, list[Any]] = {}
        for thing in feature.actual(view):
            there.setdefault(thing.key, []).append(thing)
        for key, thing in wanted.items():
            same = there.pop(key, [])
            if thing in same:
                same.remove(thing)
            else:
                # The kernel replaces the first of a key; more than one is left by a run that was killed.
                additions.append((feature.place(view, thing)[0], Step(feature, same.pop(0) if same else None, thing)))
            there[key] = same
        for same in there.values():
            removals += [(feature.place(view, thing)[0], Step(feature, thing, None)) for thing in same]
    additions.sort(key=_stage)
    removals.sort(key=_stage, reverse=True)
    steps = [step for _, step in additions + removals]
    if additions and removals and view.whole:
        for feature in visible(view):
            rearranged = getattr(feature, "rearranged", None)
            steps = rearranged(steps) if rearranged else steps
    return steps


def _stage(pair: tuple[int, Step]) -> int:
    return pair[0]


def apply(view: View, steps: list[Step]) -> tuple[list[Step], list[Failure]]:
    """Make each step; returns those made, and the failures.

    After a failure the rest of that link's steps of the same feature is left: its old state stands
    rather than half of the new one.  Other links go on, and so do other features: without nft(8)
    a link is routed all the same.  A file that cannot be written is said once, whoever's part of
    it was to be written.
    """
    made: list[Step] = []
    failures: list[Failure] = []
    for step in steps:
        stage, _, link = step.feature.place(view, step.object)
        if any(failure.is_in_the_way_of(link, step.feature.NAME, stage) for failure in failures):
            continue
        try:
            _make(view, step)
            made.append(step)
        except (Refused, OSError) as error:
            failure = _file_failure(step, link, error) if stage == FILE else _failure(view, step, link, error)
            if not failure.of_file or all(failure.line != other.line for other in failures):
                failures.append(failure)
            if isinstance(error, Refused) and error.errno == EPERM:
                break
    view.memo.clear()
    view.facts.look_at_interfaces()
    return made, failures


def _make(view: View, step: Step) -> None:
    if step.new is None:
        step.feature.remove(view, step.old)
    elif step.old is None:
        step.feature.add(view, step.new)
    else:
        step.feature.change(view, step.old, step.new)


def _failure(view: View, step: Step, link: str, error: "Refused | OSError") -> Failure:
    what = "; ".join(brief(command) for command in step.feature.commands(view, step))
    if isinstance(error, Refused) and error.errno == EPERM:
        line = "changing the kernel's routing needs root with CAP_NET_ADMIN; nothing was changed"
        return Failure(link, line, may_pass=False, feature=step.feature.NAME)
    why = error.reason if isinstance(error, Refused) else explain(error)
    advice = step.feature.clash(step.object) if error.errno == EEXIST else "`multihook sync` tries again"
    # ENOPKG: the program that should do it is not there, or says no; it will not think better of it.
    may_pass = error.errno not in (EEXIST, ENOPKG)
    return Failure(link, f"not applied: {what}: {why}; {advice}", may_pass, step.feature.NAME)


def _file_failure(step: Step, link: str, error: "Refused | OSError") -> Failure:
    why = error.reason if isinstance(error, Refused) else explain(error)
    line = f"not written: {why}; `multihook sync` tries again"
    return Failure(link, line, may_pass=False, feature=step.feature.NAME, of_file=True)


def commands(view: View, steps: list[Step]) -> list[str]:
    """The steps as commands for a shell, in their order."""
    return [line for step in steps for line in step.feature.commands(view, step)]


def brief(command: str) -> str:
    """A command in one line: of one with a text behind it only the beginning."""
    first, several, _ = command.partition("\n")
    return f"{first} ..." if several else first


def remarks(view: View) -> list[str]:
    """What the features leave undone for a reason that is no failure of theirs: nft is missing, a file is."""
    found = list(view.unable.values())
    for feature in visible(view):
        of_feature = getattr(feature, "remarks", None)
        found += of_feature(view) if of_feature else []
    return found


def count(view: View, steps: list[Step]) -> str:
    """What was done, as a log line says it: "2 rules, 3 routes"."""
    nouns: dict[str, int] = {}
    for step in steps:
        noun = step.feature.place(view, step.object)[1]
        nouns[noun] = nouns.get(noun, 0) + getattr(step.object, "size", 1)
    counted = [pair for pair in sorted(nouns.items(), reverse=True) if pair[1]]
    return ", ".join(f"{number} {noun}{'s' if number > 1 else ''}" for noun, number in counted)


def counts(view: View, steps: list[Step]) -> dict[str, str]:
    """What was done to each link."""
    by_link: dict[str, list[Step]] = {}
    for step in steps:
        by_link.setdefault(step.feature.place(view, step.object)[2], []).append(step)
    counted = {link: count(view, of_it) for link, of_it in by_link.items()}
    return {link: text for link, text in counted.items() if text}


def signature(view: View, *, thorough: bool) -> str:
    """How many objects there are of each kind and link: "rules=6,table 200=4,...".

    `thorough` counts link by link, at a price that grows with their number.
    """
    known: str | None = view.memo.get(("signature", thorough))
    if known is None:
        counts = [pair for feature in visible(view) for pair in feature.signature(view, thorough).items()]
        known = view.memo["signature", thorough] = ",".join(f"{what}={count}" for what, count in sorted(counts))
    return known


def is_disturbed(view: View, before: str, own: "list[Link]", *, thorough: bool) -> bool:
    """Whether somebody else's hands were in what is ours, since the signature `before`.

    What belongs to the links of this run is left out: it changes by itself when an address goes.
    """
    left_out = {f"table {link.table}" for link in own}
    left_out |= {f"{what} {link.interface_name}" for link in own for what in ("group", "sysctl")}
    view.certified = _read(before)
    after = _read(signature(view, thorough=thorough))
    # All that is not this run's own has just been looked at; what the run does to its own it knows.
    view.own = left_out if all(link in view.links for link in own) else None
    return _without(view.certified, left_out | {GENERATION}) != _without(after, left_out | {GENERATION})


def _read(signature: str) -> dict[str, int]:
    pairs = (pair.partition("=") for pair in signature.split(","))
    return {what: number(count) or 0 for what, _, count in pairs}


def _without(signature: dict[str, int], left_out: set[str]) -> dict[str, int]:
    return {what: count for what, count in signature.items() if what not in left_out}

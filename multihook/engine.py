"""Desired, actual, difference: what any feature needs done, done in an order that is safe at each instant.

The engine knows no rule, no route and no file.  It asks the features what should be there and the
kinds what is, has the kinds make what is missing (guards first, look-ups last) and take away what
is too much (the other way round), and looks again: success means that a second look finds no
difference.  Only the kinds that had something to do are asked again.
"""

from errno import EEXIST, ENOPKG, EPERM

from multihook import features
from multihook.files import explain, number
from multihook.kernel.rtnetlink import Refused, is_absent
from multihook.kind import FILE, MACHINE, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from multihook.features import Feature
    from multihook.kind import Kind, Object
    from multihook.links import Link
    from multihook.view import View


class Failure:
    """One step that was refused: of which link and kind, why, and what to do.

    may_pass    it is worth another try at once: the facts may have changed
    of_file     it was a file that could not be written; the kernel is right
    """

    __slots__ = ("kind", "line", "link", "may_pass", "of_file")

    def __init__(self, link: str, line: str, may_pass: bool, kind: "Kind | None" = None, of_file: bool = False) -> None:
        self.link = link
        self.line = line
        self.may_pass = may_pass
        self.kind = kind
        self.of_file = of_file


class Numbers:
    """How many objects there are, or digests of them, by name: as a certificate of the last run has them.

    all          of all links, as this run compared them; {} in a run over everything that reads all of them last
    first, last  of the objects that this run changes, by kind: as it read them first, and last

    So what a run certifies is what it compared of others, and what it read again of its own.
    What is changed in between by another program is found by the next run.
    """

    __slots__ = ("_there", "all", "first", "last", "whole")

    def __init__(self) -> None:
        self.start(whole=False)

    def start(self, *, whole: bool) -> None:
        """Forget all, before a look at everything or at some links."""
        self.whole = whole
        self.all: dict[str, int] = {}
        self.first: dict[Kind, dict[str, int]] = {}
        self.last: dict[Kind, dict[str, int]] = {}
        self._there: dict[Kind, list[Object]] = {}

    def read(self, view: "View", kind: "Kind", there: "list[Object]") -> None:
        """Note what a kind has read."""
        numbers = kind.tally(view, there)
        self.last[kind] = numbers
        if self.whole:
            self._there[kind] = there
        else:
            self.first.setdefault(kind, numbers)

    def narrow(self, view: "View") -> None:
        """From here on only the objects of this view's links are read again, of the kinds that changed something."""
        self.whole = False
        names, own = {link.name for link in view.links}, _names_of(view.links)
        self.all = {what: count for what, count in _sum(self.last.values()).items() if what not in own}
        for kind, there in self._there.items():
            numbers = kind.tally(view, kind.of_links(there, names))
            self.first[kind] = {what: count for what, count in numbers.items() if what not in own}
            # What is these links' alone is as it was read, until it is read again.
            kept = {what: count for what, count in self.last[kind].items() if what in own}
            self.last[kind] = {**self.first[kind], **kept}

    def certified(self, thorough: bool) -> str:
        """The signature that the next run compares: "rules=6,table 200=4,..."."""
        found = _sum([self.all, *self.last.values()])
        for what, count in _sum(self.first.values()).items():
            found[what] = found.get(what, 0) - count
        kept = sorted((what, count) for what, count in found.items() if count and (thorough or " " not in what))
        return ",".join(f"{what}={count}" for what, count in kept)


def _names_of(links: "list[Link]") -> set[str]:
    """The numbers that belong to these links alone."""
    found = {f"table {link.table}" for link in links}
    return found | {f"{what} {link.interface_name}" for link in links for what in ("group", "sysctl")}


def _sum(numbers: "Iterable[dict[str, int]]") -> dict[str, int]:
    found: dict[str, int] = {}
    for counts in numbers:
        for what, count in counts.items():
            found[what] = found.get(what, 0) + count
    return found


def _features(view: "View") -> "list[Feature]":
    """The features that this run asks: all in a run over everything, for what is not wanted any more is taken away."""
    return features.every() if view.whole else features.wanted(view.config)


def _kinds(view: "View") -> "list[Kind]":
    return list(dict.fromkeys(kind for feature in _features(view) for kind in feature.KINDS))


def _wanted(view: "View") -> "dict[Kind, list[Object]]":
    """What the features want, by kind; read once for each look."""
    wanted: dict[Kind, list[Object]] | None = view.read.get("wanted")
    if wanted is None:
        wanted = view.read["wanted"] = {}
        # Without any link nothing is wanted, of the machine's either: so has `multihook flush` all taken out.
        for feature in features.wanted(view.config) if view.links else ():
            for thing in feature.desired(view):
                wanted.setdefault(thing.kind, []).append(thing)
    return wanted


def plan(view: "View", numbers: Numbers | None = None, only: "Container[Kind] | None" = None) -> list[Step]:
    """The difference between what should be and what is, in the order in which to make it.

    Of all kinds, or `only` of some.  `numbers` takes what was read.
    """
    additions: list[Step] = []
    removals: list[Step] = []
    kinds = _kinds(view)
    for kind in kinds:
        if only is not None and kind not in only:
            continue
        things = kind.possible(view, _wanted(view).get(kind, []))
        wanted: dict[object, Object] = {}
        for thing in things:
            if view.whole or thing.link != MACHINE:
                wanted.setdefault(thing.key, thing)
        read = kind.read(view, things)
        if numbers is not None:
            numbers.read(view, kind, read)
        _compare(wanted, read, additions, removals)
    additions.sort(key=lambda step: step.new.stage)
    removals.sort(key=lambda step: step.old.stage, reverse=True)
    steps = additions + removals
    if additions and removals and view.whole:
        for kind in kinds:
            steps = kind.arranged(steps)
    return steps


def _compare(
    wanted: "dict[object, Object]", read: "list[Object]", additions: list[Step], removals: list[Step]
) -> None:
    there: dict[object, list[Object]] = {}
    for thing in read:
        there.setdefault(thing.key, []).append(thing)
    for key, thing in wanted.items():
        same = there.get(key)
        if same is None:
            additions.append(Step(None, thing))
        elif thing in same:
            same.remove(thing)
        else:
            # The kernel replaces the first of a key; more than one is left by a run that was killed.
            additions.append(Step(same.pop(0), thing))
    removals += [Step(thing, None) for same in there.values() for thing in same]


def apply(view: "View", steps: list[Step]) -> tuple[list[Step], list[Failure]]:
    """Make each step; returns those made, and the failures.

    After a failure the rest of that link's steps of the same kind's features is left: its old state stands
    rather than half of the new one.  Other links go on, and so do other features: without nft(8)
    a link is routed all the same.  A file that cannot be written is said once, whichever link's part of
    it was to be written.
    """
    made: list[Step] = []
    failures: list[Failure] = []
    for step in steps:
        thing = step.object
        if any(_is_in_the_way(failure, thing) for failure in failures):
            continue
        try:
            _make(view, step)
            made.append(step)
        except (Refused, OSError) as error:
            failure = _file_failure(thing, error) if thing.stage == FILE else _failure(view, step, error)
            if not failure.of_file or all(failure.line != other.line for other in failures):
                failures.append(failure)
            if isinstance(error, Refused) and error.errno == EPERM:
                break
    view.read.clear()
    view.facts.look_at_interfaces()
    return made, failures


def narrowed(view: "View", made: list[Step]) -> "View | None":
    """A view of those links that these steps changed; None where they changed what belongs to no link of the view."""
    names = {link.name for link in view.links}
    things = [step.object for step in made]
    if not all(thing.kind.of_links([thing], names) for thing in things):
        return None
    return view.of_links({thing.link for thing in things})


def _is_in_the_way(failure: Failure, thing: "Object") -> bool:
    """Whether a further step may not be made: one of the same link and feature, a file aside."""
    if failure.link != thing.link or not (thing.stage == FILE or not failure.of_file):
        return False
    return any(failure.kind in feature.KINDS and thing.kind in feature.KINDS for feature in features.every())


def _make(view: "View", step: Step) -> None:
    kind = step.object.kind
    if step.new is None:
        try:
            kind.remove(view, step.old)
        except Refused as error:
            if not is_absent(error):  # what is gone already is as good as removed
                raise
    elif step.old is None:
        kind.add(view, step.new)
    else:
        kind.change(view, step.old, step.new)


def _failure(view: "View", step: Step, error: "Refused | OSError") -> Failure:
    thing = step.object
    what = "; ".join(brief(command) for command in thing.kind.commands(view, step))
    if isinstance(error, Refused) and error.errno == EPERM:
        line = "changing the kernel's routing needs root with CAP_NET_ADMIN; nothing was changed"
        return Failure(thing.link, line, may_pass=False, kind=thing.kind)
    why = error.reason if isinstance(error, Refused) else explain(error)
    advice = thing.kind.clash(thing) if error.errno == EEXIST else "`multihook sync` tries again"
    # ENOPKG: the program that should do it is not there, or says no; it will not think better of it.
    may_pass = error.errno not in (EEXIST, ENOPKG)
    return Failure(thing.link, f"not applied: {what}: {why}; {advice}", may_pass, thing.kind)


def _file_failure(thing: "Object", error: "Refused | OSError") -> Failure:
    why = error.reason if isinstance(error, Refused) else explain(error)
    line = f"not written: {why}; `multihook sync` tries again"
    return Failure(thing.link, line, may_pass=False, kind=thing.kind, of_file=True)


def commands(view: "View", steps: list[Step]) -> list[str]:
    """The steps as commands for a shell, in their order."""
    return [line for step in steps for line in step.object.kind.commands(view, step)]


def brief(command: str) -> str:
    """A command in one line: of one with a text behind it only the beginning."""
    first, several, _ = command.partition("\n")
    return f"{first} ..." if several else first


def remarks(view: "View") -> list[str]:
    """What is left undone for a reason that is no failure: nft is missing, a file is."""
    found = [*view.report.unable.values()]
    for feature in _features(view):
        of_feature = getattr(feature, "remarks", None)
        found += of_feature(view) if of_feature else []
    return found


def count(steps: list[Step]) -> str:
    """What was done, as a log line says it: "2 rules, 3 routes"."""
    nouns: dict[str, int] = {}
    for step in steps:
        thing = step.object
        nouns[thing.noun] = nouns.get(thing.noun, 0) + thing.size
    counted = [pair for pair in sorted(nouns.items(), reverse=True) if pair[1]]
    return ", ".join(f"{number} {noun}{'s' if number > 1 else ''}" for noun, number in counted)


def counts(steps: list[Step]) -> dict[str, str]:
    """What was done to each link."""
    by_link: dict[str, list[Step]] = {}
    for step in steps:
        by_link.setdefault(step.object.link, []).append(step)
    counted = {link: count(of_it) for link, of_it in by_link.items()}
    return {link: text for link, text in counted.items() if text}


def signature(view: "View", *, thorough: bool) -> dict[str, int]:
    """How many objects of ours there are, or digests of them; `thorough` at a price that grows with the links."""
    found: dict[str, int] = {}
    for kind in _kinds(view):
        found.update(kind.signature(view, _wanted(view).get(kind, []), thorough))
    return found


def is_disturbed(view: "View", numbers: Numbers, before: str, own: "list[Link]", *, thorough: bool) -> bool:
    """Whether someone else changed our objects since the last run, whose signature was `before`.

    What belongs to the links of this run is left out: it changes by itself when an address goes.
    """
    numbers.all = signature(view, thorough=thorough)
    left_out = _names_of(own)
    return _without(_read(before), left_out) != _without(numbers.all, left_out)


def _read(signature: str) -> dict[str, int]:
    pairs = (pair.partition("=") for pair in signature.split(","))
    return {what: number(count) or 0 for what, _, count in pairs}


def _without(signature: dict[str, int], left_out: set[str]) -> dict[str, int]:
    return {what: count for what, count in signature.items() if count and what not in left_out}

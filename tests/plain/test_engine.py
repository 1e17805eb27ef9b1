"""The engine with features that are no more than lists: differences, their order, failures, what is said of them."""

import itertools
import random
from errno import EBUSY, EEXIST, ENOSPC, EPERM, EROFS

import pytest

from multihook import engine, features
from multihook.kernel.rtnetlink import Refused
from multihook.kind import EXCEPTION, FILE, GROUP, GUARD, LOOKUP, MACHINE, NETWORK, ROUTE, SETTING, Kind, Step
from multihook.view import Report

STAGES = (GUARD, ROUTE, NETWORK, GROUP, EXCEPTION, LOOKUP, SETTING, FILE)


class Thing:
    """An object: a place in the order, a link, and a value that may have to change."""

    noun, size = "thing", 1

    def __init__(self, name: str, stage: int = GUARD, link: str = "dsl", value: int = 0) -> None:
        self.name, self.stage, self.link, self.value = name, stage, link, value
        self.kind: Kind | None = None

    @property
    def key(self) -> tuple[object, ...]:
        return (self.name,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and (self.name, self.value) == (other.name, other.value)

    def __hash__(self) -> int:
        return hash(self.name)


class Facts:
    """As much of the facts as the engine asks for."""

    looks = 0

    def look_at_interfaces(self) -> None:
        self.looks += 1


class View:
    """As much of a View as the engine touches."""

    def __init__(self, whole: bool = True) -> None:
        self.whole = whole
        self.links = ["dsl"]
        self.config: dict[str, object] = {}
        self.read: dict[object, object] = {}
        self.facts = Facts()
        self.report = Report()


class Lists(Kind):
    """A kind of things, and the feature that wants them: what there is, what was done, and what is refused."""

    def __init__(self, wanted: list[Thing], there: list[Thing], name: str = "lists") -> None:
        self.NAME = name
        self.KINDS = (self,)
        self.wanted = wanted
        self.there = there
        self.done: list[str] = []
        self.refusals: dict[str, Exception] = {}
        for thing in wanted + there:
            thing.kind = self

    # --- the feature ---

    def is_wanted(self, config: object) -> bool:
        return True

    def desired(self, view: View) -> list[Thing]:
        return list(self.wanted)

    # --- the kind ---

    def read(self, view: View, wanted: list[Thing]) -> list[Thing]:  # type: ignore[override]
        return list(self.there)

    def _do(self, verb: str, thing: Thing) -> None:
        if thing.name in self.refusals:
            raise self.refusals[thing.name]
        self.done.append(f"{verb} {thing.name}")

    def add(self, view: View, new: Thing) -> None:  # type: ignore[override]
        self._do("add", new)
        self.there.append(new)

    def change(self, view: View, old: Thing, new: Thing) -> None:  # type: ignore[override]
        self._do("change", new)
        self.there[self.there.index(old)] = new

    def remove(self, view: View, old: Thing) -> None:  # type: ignore[override]
        self._do("remove", old)
        self.there.remove(old)

    def commands(self, view: View, step: Step) -> list[str]:  # type: ignore[override]
        return [f"touch {step.object.name}", f"sync {step.object.name}"]

    def clash(self, thing: Thing) -> str:
        return f"rename {thing.name}"

    def signature(self, view: View, wanted: list[Thing], thorough: bool) -> dict[str, int]:  # type: ignore[override]
        return self.counted(self.there, thorough)

    def tally(self, view: View, there: list[Thing]) -> dict[str, int]:  # type: ignore[override]
        return self.counted(there, True)

    def counted(self, there: list[Thing], thorough: bool) -> dict[str, int]:
        counts = {"things": len(there)}
        for thing in there if thorough else []:
            counts[f"things {thing.link}"] = counts.get(f"things {thing.link}", 0) + 1
        return counts


def use(monkeypatch: pytest.MonkeyPatch, *listed: Lists, whole: bool = True) -> View:
    monkeypatch.setattr(features, "every", lambda: listed)
    monkeypatch.setattr(features, "wanted", lambda config: listed)
    return View(whole)


def planned(view: View) -> list[str]:
    found = []
    for step in engine.plan(view):  # type: ignore[arg-type]
        verb = "add" if step.old is None else "remove" if step.new is None else "change"
        found.append(f"{verb} {step.object.name}")
    return found


def apply(view: View) -> tuple[list[Step], list[engine.Failure]]:
    return engine.apply(view, engine.plan(view))  # type: ignore[arg-type]


def test_nothing_is_planned_where_what_is_there_is_what_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    view = use(monkeypatch, Lists([Thing("a"), Thing("b", value=3)], [Thing("b", value=3), Thing("a")]), Lists([], [], "none"))
    assert planned(view) == []


def test_what_is_missing_is_added_what_differs_changed_what_is_too_much_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    view = use(monkeypatch, Lists([Thing("a"), Thing("b", value=2)], [Thing("b", value=1), Thing("c")]))
    assert planned(view) == ["add a", "change b", "remove c"]


def test_additions_go_up_the_stages_and_removals_come_down_over_all_features(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(9)
    for _ in range(20):
        wanted = [Thing(f"w{stage}{letter}", stage) for stage in STAGES for letter in "ab"]
        there = [Thing(f"t{stage}{letter}", stage) for stage in STAGES for letter in "ab"]
        chance.shuffle(wanted)
        chance.shuffle(there)
        view = use(monkeypatch, Lists(wanted[:9], there[:5]), Lists(wanted[9:], there[5:], "others"))
        steps = planned(view)
        assert [step[:5] for step in steps] == ["add w" for _ in wanted] + ["remov" for _ in there]
        assert [int(step[5]) for step in steps[:16]] == sorted(2 * list(STAGES))
        assert [int(step[8]) for step in steps[16:]] == sorted(2 * list(STAGES), reverse=True)


def test_the_order_of_the_stages_is_guards_first_and_lookups_after_all_they_lead_to() -> None:
    assert GUARD < ROUTE < NETWORK < GROUP < EXCEPTION < LOOKUP < SETTING < FILE


def test_within_one_stage_the_features_own_order_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    view = use(monkeypatch, Lists([Thing("b"), Thing("a"), Thing("c")], []))
    assert planned(view) == ["add b", "add a", "add c"]


def test_of_several_in_one_place_the_right_one_stays_and_the_others_go(monkeypatch: pytest.MonkeyPatch) -> None:
    for there in ([1, 2, 3], [2, 3, 1], [3, 1, 2]):
        feature = Lists([Thing("a", value=1)], [Thing("a", value=value) for value in there])
        view = use(monkeypatch, feature)
        assert planned(view) == ["remove a", "remove a"]
        apply(view)
        assert feature.there == [Thing("a", value=1)]
    feature = Lists([Thing("a", value=1)], [Thing("a", value=2), Thing("a", value=3)])
    view = use(monkeypatch, feature)
    assert planned(view) == ["change a", "remove a"]
    apply(view)
    assert feature.there == [Thing("a", value=1)]


def test_after_it_was_applied_nothing_is_left_and_what_was_read_before_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    feature = Lists([Thing("a", LOOKUP), Thing("b", value=2)], [Thing("b", value=1), Thing("c")])
    view = use(monkeypatch, feature)
    made, failures = apply(view)
    assert feature.done == ["change b", "add a", "remove c"]
    assert ([step.object.name for step in made], failures) == (["b", "a", "c"], [])
    assert view.read == {}
    assert planned(view) == []
    assert view.facts.looks == 1


@pytest.mark.parametrize("refused", ["g", "r", "l", "x"])
def test_a_step_that_fails_leaves_the_rest_of_its_links_steps_and_the_other_links_go_on(
    monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    feature = Lists(
        [
            Thing("g", GUARD),
            Thing("r", ROUTE),
            Thing("l", LOOKUP),
            Thing("G", GUARD, "cable"),
            Thing("L", LOOKUP, "cable"),
        ],
        [Thing("x", LOOKUP), Thing("y", GUARD), Thing("X", LOOKUP, "cable")],
    )
    feature.refusals[refused] = Refused(EBUSY, "not now")
    view = use(monkeypatch, feature)
    order = [step.split()[1] for step in planned(view)]
    assert order == ["g", "G", "r", "l", "L", "x", "X", "y"]
    made, failures = apply(view)
    before = order[: order.index(refused)]
    expected = [name for name in order if name.upper() == name or name in before]
    assert [step.object.name for step in made] == expected
    assert [done.split()[1] for done in feature.done] == expected
    assert [(failure.link, failure.may_pass) for failure in failures] == [("dsl", True)]


def test_what_failed_says_the_command_the_reason_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, line, may_pass in (
        (Refused(EBUSY, "not now"), "not applied: touch g; sync g: not now; `multihook sync` tries again", True),
        (Refused(EEXIST, "File exists"), "not applied: touch g; sync g: File exists; rename g", False),
        (OSError(ENOSPC, "No space left on device", "/etc/x"),
         "not applied: touch g; sync g: /etc/x: No space left on device; `multihook sync` tries again", True),
    ):  # fmt: skip
        feature = Lists([Thing("g")], [])
        feature.refusals["g"] = error
        _, failures = apply(use(monkeypatch, feature))
        assert [(failure.line, failure.may_pass) for failure in failures] == [(line, may_pass)]


def test_without_the_right_to_change_anything_all_steps_are_left_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feature = Lists([Thing("g"), Thing("G", link="cable")], [Thing("x", link="lte")])
    feature.refusals = dict.fromkeys("gGx", Refused(EPERM, "Operation not permitted"))
    made, failures = apply(use(monkeypatch, feature))
    assert (made, feature.done) == ([], [])
    assert [failure.line for failure in failures] == [
        "changing the kernel's routing needs root with CAP_NET_ADMIN; nothing was changed"
    ]
    assert not failures[0].may_pass


def test_a_refusal_by_a_file_is_not_said_to_be_one_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later feature writes files: an immutable one (EPERM) is no missing CAP_NET_ADMIN, and stops no other link."""
    feature = Lists([Thing("g", FILE), Thing("G", FILE, "cable")], [])
    feature.refusals["g"] = PermissionError(EPERM, "Operation not permitted", "/etc/glftpd.conf")
    made, failures = apply(use(monkeypatch, feature))
    assert "/etc/glftpd.conf" in failures[0].line
    assert [step.object.name for step in made] == ["G"]


def test_a_file_that_cannot_be_written_keeps_nothing_in_the_kernel_from_its_turn_and_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    things = [Thing("g"), Thing("f", FILE), Thing("F", FILE, "cable"), Thing("e", FILE)]
    feature = Lists(things, [Thing("old", LOOKUP), Thing("OLD", LOOKUP, "cable")])
    feature.refusals = dict.fromkeys("fF", OSError(EROFS, "Read-only file system", "/etc/x"))
    made, failures = apply(use(monkeypatch, feature))
    assert [step.object.name for step in made] == ["g", "old", "OLD"]
    assert [(failure.line, failure.of_file, failure.may_pass) for failure in failures] == [
        ("not written: /etc/x: Read-only file system; `multihook sync` tries again", True, False)
    ]


def test_the_steps_can_be_had_as_commands_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    view = use(monkeypatch, Lists([Thing("a", LOOKUP), Thing("b")], [Thing("c")]))
    assert engine.commands(view, engine.plan(view)) == [  # type: ignore[arg-type]
        "touch b", "sync b", "touch a", "sync a", "touch c", "sync c",
    ]  # fmt: skip


def test_what_was_done_is_counted_by_link_and_noun(monkeypatch: pytest.MonkeyPatch) -> None:
    view = use(monkeypatch, Lists([Thing("a"), Thing("b"), Thing("c", link="cable")], [Thing("d", link="")]))
    assert engine.counts(engine.plan(view)) == {"dsl": "2 things", "cable": "1 thing", "": "1 thing"}  # type: ignore[arg-type]
    assert engine.counts([]) == {}


def test_what_nobody_has_to_read_of_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Thing("a")
    silent.size = 0
    view = use(monkeypatch, Lists([silent, Thing("b", link="cable")], []))
    assert engine.counts(engine.plan(view)) == {"cable": "1 thing"}  # type: ignore[arg-type]


def test_the_signature_is_that_of_all_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    view = use(monkeypatch, Lists([], [Thing("a"), Thing("b"), Thing("c", link="cable")]))
    assert engine.signature(view, thorough=True) == {"things": 3, "things cable": 1, "things dsl": 2}  # type: ignore[arg-type]
    assert engine.signature(view, thorough=False) == {"things": 3}  # type: ignore[arg-type]


def test_two_features_want_objects_of_one_kind_and_neither_takes_the_others_away(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = Lists([Thing("a"), Thing("b")], [Thing("b"), Thing("old")])
    second = Lists([Thing("c")], [], "second")
    second.KINDS = (kind,)
    for thing in second.wanted:
        thing.kind = kind
    view = use(monkeypatch, kind, second)
    assert planned(view) == ["add a", "add c", "remove old"]
    apply(view)
    assert planned(view) == [] and sorted(thing.name for thing in kind.there) == ["a", "b", "c"]


def test_an_event_leaves_alone_what_belongs_to_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for whole, steps in ((False, ["add a"]), (True, ["add a", "add m"])):
        view = use(monkeypatch, Lists([Thing("a"), Thing("m", link=MACHINE)], []), whole=whole)
        assert planned(view) == steps


def test_certified_is_what_was_compared_of_others_and_what_was_read_again_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Someone takes one of cable's things while dsl's run is at work: the next run has to find that."""
    others = [Thing("x", link="cable"), Thing("y", link="cable")]
    kind = Lists([Thing("a"), Thing("b")], [Thing("old")])
    view = use(monkeypatch, kind, whole=False)
    numbers = engine.Numbers()
    numbers.all = kind.counted(kind.there + others, True)
    steps = engine.plan(view, numbers)  # type: ignore[arg-type]
    others.pop()
    engine.apply(view, steps)  # type: ignore[arg-type]
    assert engine.plan(view, numbers) == []  # type: ignore[arg-type]
    assert numbers.certified(thorough=True) == "things=4,things cable=2,things dsl=2"
    assert numbers.certified(thorough=False) == "things=4"


def test_killed_at_any_step_and_run_again_it_ends_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def fresh() -> Lists:
        wanted = [Thing(f"w{stage}", stage) for stage in STAGES] + [
            Thing(f"c{stage}", stage, value=2) for stage in STAGES
        ]
        return Lists(
            wanted,
            [Thing(f"c{stage}", stage, value=1) for stage in STAGES] + [Thing(f"t{stage}", stage) for stage in STAGES],
        )

    for count in range(24):
        feature = fresh()
        view = use(monkeypatch, feature)
        order = [step.split()[1] for step in planned(view)]
        feature.refusals[order[count]] = Killed()  # type: ignore[assignment]
        with pytest.raises(Killed):
            apply(view)
        made = [done.split()[1] for done in feature.done]
        assert made == order[:count]
        feature.refusals.clear()
        apply(use(monkeypatch, feature))
        assert sorted(thing.name for thing in feature.there) == sorted(thing.name for thing in feature.wanted)


def test_every_feature_and_every_kind_gives_what_the_contract_says() -> None:
    every = features.every()
    assert [feature.NAME for feature in every] == ["snat", "routing", "sysctls", "connections", "glftpd"]
    for feature, name in itertools.product(every, ("is_wanted", "desired")):
        assert getattr(feature, name).__doc__
    kinds = {kind for feature in every for kind in feature.KINDS}
    assert len({kind.NAME for kind in kinds}) == len(kinds) == 7
    for kind, name in itertools.product(kinds, ("read", "add", "remove", "commands")):
        assert name in vars(type(kind)) and getattr(kind, name).__doc__

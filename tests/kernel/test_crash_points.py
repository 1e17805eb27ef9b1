"""G1 and G4 at each step: a run is killed before each system call that changes something, and after the last one.

What a run changes is taken from strace's record of an undisturbed one. At each point each sender of world/wire.py sends
on, so that a wrong source or line would be seen, and then one clean run leaves what an undisturbed one would have left,
and what others own as it was.

    sudo tests/run                  some points of each run
    sudo tests/run --long           each of them
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from house import (
    CONFIGURATION,
    LEASES,
    NOTIFY,
    RANGE,
    REPORT,
    SESSIONS,
    STATICS,
    House,
    Tidings,
    assert_same,
)
from state import PRIVATE, waiting

from world import World
from world.ppp import EVENT

IS_LONG = bool(os.environ.get("MULTIHOOK_LONG"))
POINTS = 10_000 if IS_LONG else 16  # of each kind of run, at most
TOLD = Path("/run/told")
# Where a run can be ended so that all before is done and nothing after: each changes a file, the kernel, or who runs.
CALLS = (
    "sendto", "sendmsg", "write", "fchmod", "fchown", "fsync", "rename", "unlink", "mkdir", "rmdir", "link", "symlink",
    "fsetxattr", "ftruncate", "vfork", "clone", "clone3", "pidfd_open", "wait4", "exit_group",
)  # fmt: skip
_OTHER = (
    CONFIGURATION.replace("table = 201", "table = x\nsnat = true")
    .replace("table = 200", "table = 201")
    .replace("table = x", "table = 200")
    .replace("table = 202", "table = 302")
    .replace("table = 203", f'table = 303\nsources = ["{RANGE}"]')
)


class Point(NamedTuple):
    """Before that call is made for the `number`th time; what it would have done."""

    call: str
    number: int
    what: str


def recorded(house: House, tidings: Tidings) -> list[Point]:
    """Run it undisturbed: all the points there are in it, in their order."""
    trace = Path("/tmp/rig/points")
    words = ["-f", "-y", "-s", "60", "-o", str(trace), "-e", f"trace={','.join(CALLS)}"]
    house.box.run("/usr/bin/strace", "-qq", *words, *tidings.direct, env=tidings.env)
    lines = trace.read_text(errors="replace").splitlines()
    main = lines[0].split()[0]
    counted: dict[str, int] = {}
    found = []
    for line in lines:
        match = re.match(rf"{main} +(\w+)\((.*)", line)
        if match:
            call, rest = match.groups()
            counted[call] = counted.get(call, 0) + 1
            if _changes(call, rest):
                found.append(Point(call, counted[call], rest[:150]))
    assert found[-1].call == "exit_group"
    return found


def _changes(call: str, rest: str) -> bool:
    """A question to the kernel has no NLM_F_ACK; a memfd is the run's own; a datagram to /dev/log is no state."""
    if call in ("sendto", "sendmsg"):
        return "NLM_F_ACK" in rest or "BATCH_BEGIN" in rest
    return call != "write" or rest.startswith(tuple(f"{n}</" for n in range(3, 20))) and "memfd" not in rest[:30]


class Scene:
    """One kind of run: what leads to it, and what it should end in. Of some there are two, which take turns."""

    turns = (1, 0)

    def __init__(self, house: House) -> None:
        self.house = house
        self.turn = 0
        house.wire.promise(True)
        NOTIFY.mkdir(exist_ok=True)
        TOLD.unlink(missing_ok=True)
        program = NOTIFY / "program"
        program.write_text(f'#!/bin/sh\necho "$MULTIHOOK_LINK $MULTIHOOK_STATE $MULTIHOOK_ADDRESS" >>{TOLD}\n')
        program.chmod(0o755)
        house.sync()

    def prepare(self) -> Tidings:
        """What happens before the run, by turns so that each run has something to do; what is run."""
        raise NotImplementedError

    def untold(self) -> frozenset[str]:
        """Addresses that no run can know the line of, at the end."""
        return frozenset()

    def sync(self) -> Tidings:
        """multihook sync as a run to be killed."""
        return Tidings(["/usr/bin/multihook", "sync"], ["/usr/bin/multihook", "sync"], {"PATH": "/usr/sbin:/usr/bin"})


class NewAddress(Scene):
    """A session is renumbered, with translated connections under way."""

    def prepare(self) -> Tidings:
        self.turn = 1 - self.turn
        with self.house.wire.changing():
            self.house.sessions["dsl"].readdress(SESSIONS[2 * self.turn])
        return self.house.of_session("dsl")


class NewLease(Scene):
    """On one of two cards that share a segment."""

    def prepare(self) -> Tidings:
        self.turn = 1 - self.turn
        with self.house.wire.changing():
            self.house.put_on("wan1", LEASES[2 * self.turn])
        return self.house.of_lease("wan1")


class UpAndDown(Scene):
    """A static line goes, and comes back."""

    def prepare(self) -> Tidings:
        self.turn = 1 - self.turn
        with self.house.wire.changing():
            if self.turn:
                self.house.take_off("wan2")
            else:
                self.house.put_on("wan2", STATICS[0])
        return self.house.of_stanza()


class NewConfiguration(Scene):
    """Other tables, two of them swapped, another way to translate, a range of sources; and back."""

    def prepare(self) -> Tidings:
        self.turn = 1 - self.turn
        self.house.world.configure(_OTHER if self.turn else CONFIGURATION)
        return self.sync()


class Spooled(Scene):
    """Events that waited while dpkg replaced the package, and the sync after it."""

    def prepare(self) -> Tidings:
        self.turn = 1 - self.turn
        mark = PRIVATE / "upgrading"
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        mark.write_text(f"{boot}{Path('/proc/uptime').read_text().split('.')[0]}\n")
        with self.house.wire.changing():
            self.house.sessions["tel"].readdress(SESSIONS[1 + 2 * self.turn])
            self.house.put_on("wan3", LEASES[1 + 2 * self.turn])
        self.house.tell(self.house.of_session("tel"))
        self.house.tell(self.house.of_lease("wan3"))
        mark.unlink()
        return self.sync()


class FreshBoot(Scene):
    """Nothing of ours is there, not even a state folder's content. The wire is judged when it is over."""

    turns = (0,)

    def prepare(self) -> Tidings:
        self.house.wire.promise(False)
        self.house.wipe()
        return self.house.of_session("dsl")

    def untold(self) -> frozenset[str]:
        """Nobody has told which session is tel's."""
        return frozenset({self.house.sessions["tel"].local})


class Flush(Scene):
    """Everything is taken out; the next event or sync puts it back, and then the wire is judged."""

    turns = (0,)

    def prepare(self) -> Tidings:
        self.house.wire.promise(False)
        self.house.sync()
        words = ["/usr/bin/multihook", "flush", "--once"]
        return Tidings(words, words, {"PATH": "/usr/sbin:/usr/bin"})


@pytest.fixture
def house(world: World) -> Iterator[House]:
    """All five lines are up."""
    made = House(world)
    yield made
    made.close()


def told_last(house: House) -> dict[str, str]:
    """What the program in notify.d was told last of each link."""
    house.world.settle()
    lines = TOLD.read_text().splitlines() if TOLD.exists() else []
    return {link: rest.strip() for link, _, rest in (line.partition(" ") for line in lines)}


def chosen(points: list[Point], most: int) -> list[Point]:
    """At most so many of them, evenly spread, the last one included."""
    step = max(1, -(-len(points) // most))
    return points[::-1][::step][::-1]


class End(NamedTuple):
    """What an undisturbed run leaves: ours, what others own, and what programs were told last."""

    ours: dict[str, Any]
    foreign: dict[str, Any]
    told: dict[str, str]


def ended(house: House) -> End:
    """As it is now."""
    told = told_last(house)
    return End(house.ours(), house.foreign(), told)


def finish(scene: Scene, tidings: Tidings, by_sync: bool) -> None:
    """One clean run: sync, or an event of another line.

    Of a line that came up nobody has heard until its event is in the spool; till then it is the line's own next one.
    """
    house = scene.house
    if by_sync:
        house.sync()
        assert house.world.settle() is None and house.leftovers() == []
    elif isinstance(scene, UpAndDown):
        house.tell(house.truth("dsl" if scene.turn or waiting() else "fibre"))
    else:
        house.tell(house.truth("fibre" if tidings.direct[0] == EVENT else "dsl"))


@pytest.mark.fault("F15", "F16")
@pytest.mark.timeout(3600 if IS_LONG else 240)
@pytest.mark.parametrize("kind", [NewAddress, NewLease, UpAndDown, NewConfiguration, Spooled, FreshBoot, Flush])
def test_killed_at_any_point_the_wire_is_right_and_one_clean_run_ends_it(house: House, kind: type[Scene]) -> None:
    """By sync, or by an event of another line: whoever comes next."""
    scene = kind(house)
    ends: dict[int, End] = {}
    points: dict[int, list[Point]] = {}
    for _ in scene.turns:
        tidings = scene.prepare()
        points[scene.turn] = recorded(house, tidings)
        if kind is Flush:
            house.sync()
        ends[scene.turn] = ended(house)
    number_of_points = sum(map(len, points.values()))
    to_come = {turn: list(enumerate(chosen(found, POINTS // len(points)))) for turn, found in points.items()}
    killed = judged = 0
    missed = []
    while any(to_come.values()):
        tidings = scene.prepare()
        if not to_come[scene.turn]:  # the other way has more of them
            house.box.run(*tidings.words, env=tidings.env)
            continue
        number, point = to_come[scene.turn].pop(0)
        if house.killed(tidings.direct, point.call, point.number, env=tidings.env):
            killed += 1
        else:
            missed.append(point)
        house.wire.let_all_send()
        finish(scene, tidings, by_sync=number % 2 == 1)
        house.wire.promise(True, scene.untold())
        house.wire.let_all_send()
        try:
            assert_same(ends[scene.turn].ours, house.ours())
            assert_same(ends[scene.turn].foreign, house.foreign())
        except AssertionError as error:
            raise AssertionError(f"{point}: {error}") from None
        if ends[scene.turn].told:
            assert told_last(house) == ends[scene.turn].told, point
        if house.wire.is_full:
            assert house.wire.wrong() == [], point
            judged += house.wire.seen()
            house.wire.forget()
    assert house.wire.wrong() == []
    judged += house.wire.seen()
    assert judged > 0
    # Few runs are the same to the last call; that a point is not reached must stay the exception.
    assert len(missed) <= 1 + killed // 50, missed
    told = f"{number_of_points} points, killed at {killed}; {judged} datagrams judged"
    REPORT.append(f"crash points: {kind.__name__}: {told}")

"""News for notify.d: what is told of each change, that none is lost when a run is killed, and that no more is spent than needed."""

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kill_points import Bomb, Killed, kill_at
from painted_machine import Machine
from ppp_and_cable import renumber, two_lines
from told import bound, ip_down, ip_up

from multihook import files, journal, leases, news, notify, paths, run, spool
from multihook.address import INET
from multihook.spool import Told

ONE, NEW, CABLE, ROUTER = "203.0.113.45", "203.0.113.77", "198.51.100.7", "198.51.100.1"


class Listener:
    """A machine with a program in notify.d that hears everything at once."""

    def __init__(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.machine = machine
        self.heard: list[dict[str, str]] = []
        self.starts: list[list[str]] = []
        self.is_deaf = False
        folder = machine.root / "etc/multihook/notify.d"
        folder.mkdir()
        (folder / "program").touch()
        monkeypatch.setattr(news, "posix_spawn", self._start)

    def _start(self, path: str, argv: list[str], env: dict[str, str], **_: object) -> None:
        assert (path, argv[0], env) == (news.PROGRAM, news.PROGRAM, news.SURROUNDINGS)
        self.starts.append(argv[1:])
        if not self.is_deaf:
            self.listen()

    def listen(self) -> None:
        for name in news.waiting():
            told = news.take(name)
            assert told is not None
            self.heard.append(told)
            news.done(name)

    def told(self) -> list[str]:
        """What was heard since the last time, in short."""
        lines = [
            " ".join(told[f"MULTIHOOK_{name}"] or "-" for name in ("LINK", "STATE", "OLD_ADDRESS", "ADDRESS", "REASON"))
            for told in self.heard
        ]
        self.heard.clear()
        return lines


@pytest.fixture
def listener(machines: Callable[[], Machine], monkeypatch: pytest.MonkeyPatch) -> Listener:
    machine = machines()
    two_lines(machine)
    return Listener(machine, monkeypatch)


def test_each_change_is_told_once(listener: Listener) -> None:
    machine = listener.machine
    machine.drain(ip_up("ppp0", ONE))
    assert listener.told() == [f"dsl up - {ONE} ip-up"]
    machine.drain(bound("eth1", CABLE, ROUTER))
    assert listener.told() == [f"cable up - {CABLE} BOUND"]
    for told in (ip_up("ppp0", ONE), ip_down("ppp0", "203.0.113.9"), bound("eth1", CABLE, ROUTER, reason="RENEW")):
        before = machine.files()
        machine.drain(told)
        assert machine.files() == before
    assert listener.told() == []
    machine.drain(bound("eth1", CABLE, "198.51.100.254", reason="RENEW"))
    assert listener.told() == [f"cable up {CABLE} {CABLE} BOUND"]
    renumber(machine)
    machine.drain(ip_up("ppp0", NEW))
    assert listener.told() == [f"dsl up {ONE} {NEW} ip-up"]
    machine.kernel.no_link("ppp0")
    machine.drain(ip_down("ppp0", NEW))
    machine.sync()
    assert listener.told() == [f"dsl down {NEW} - ip-down"]
    machine.kernel.link("ppp0", f"{ONE} peer 192.0.2.1", ppp=True)
    machine.drain(ip_up("ppp0", ONE))
    assert listener.told() == [f"dsl up {NEW} {ONE} ip-up"]


def test_all_values_of_one_piece_of_news(listener: Listener) -> None:
    listener.machine.drain(bound("eth1", CABLE, ROUTER))
    told = next(one for one in listener.heard if one["MULTIHOOK_LINK"] == "cable")
    assert told == {
        "MULTIHOOK_LINK": "cable", "MULTIHOOK_INTERFACE": "eth1", "MULTIHOOK_FAMILY": "inet",
        "MULTIHOOK_STATE": "up", "MULTIHOOK_OLD_ADDRESS": "", "MULTIHOOK_ADDRESS": CABLE,
        "MULTIHOOK_GATEWAY": ROUTER, "MULTIHOOK_TABLE": "201", "MULTIHOOK_SOURCE": "dhclient",
        "MULTIHOOK_REASON": "BOUND",
    }  # fmt: skip


def test_a_link_that_is_no_more_is_told_as_down(listener: Listener) -> None:
    listener.machine.drain(ip_up("ppp0", ONE))
    assert listener.told() == [f"dsl up - {ONE} ip-up"]
    listener.machine.configure('[multihook]\nadopt = false\n[link.cable]\ninterface = "eth1"\ntable = 201\n')
    listener.machine.sync()
    assert listener.told() == [f"dsl down {ONE} - no link any more"]
    listener.machine.sync()
    assert listener.told() == []


def test_a_link_that_was_never_up_is_not_told(listener: Listener) -> None:
    listener.machine.drain(bound("eth1", CABLE, ROUTER))
    assert [line.split()[0] for line in listener.told()] == ["cable"]
    assert not Path(f"{paths.PRIVATE}/told/dsl.inet").exists()


def test_without_a_program_nothing_of_it_is_done(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    (listener.machine.root / "etc/multihook/notify.d/program").unlink()
    monkeypatch.delitem(sys.modules, "multihook.news")
    listener.machine.sync()
    assert "multihook.news" not in sys.modules
    assert not Path(paths.PRIVATE, "news").exists()
    (listener.machine.root / "etc/multihook/notify.d").rmdir()
    listener.machine.sync()


def test_a_full_run_folder_keeps_no_routing_from_being_right(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(news, "replace", full)
    listener.machine.drain(ip_up("ppp0", ONE))
    assert any(line.startswith("7400:") for line in listener.machine.ours()[0])
    (said,) = [line for line in listener.machine.log if "No space left" in line]
    assert f"state is not saved: {paths.NEWS}: No space left" in said
    monkeypatch.undo()


def test_programs_that_cannot_be_started_are_told_the_sum_of_it_by_the_run_that_can(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory", news.PROGRAM)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", paths.PRIVATE)

    machine = listener.machine
    machine.drain(ip_up("ppp0", ONE))
    assert listener.told() == [f"dsl up - {ONE} ip-up"]
    with monkeypatch.context() as patches:
        patches.setattr(news, "posix_spawn", fail)
        renumber(machine)
        machine.drain(ip_up("ppp0", NEW))
        (said,) = [line for line in machine.log if news.PROGRAM in line]
        assert said.startswith(f"4 the programs in {paths.NOTIFY} are not run: {news.PROGRAM}: Cannot allocate"), said
        for _ in range(3):
            machine.drain(ip_up("ppp0", NEW))
        assert news.waiting() == []
        # It hides nothing else that goes wrong at the same time.
        machine.drain(bound("eth1", CABLE, ROUTER))
        patches.setattr(leases, "store", full)
        machine.log.clear()
        machine.drain(bound("eth1", CABLE, "198.51.100.254", reason="RENEW"))
        assert [line for line in machine.log if "state is not saved" in line], machine.log
    machine.drain(ip_up("ppp0", NEW))
    assert listener.told() == [f"cable up - {CABLE} BOUND", f"dsl up {ONE} {NEW} ip-up"]


@pytest.mark.fault("F18")
def test_what_was_told_is_not_believed_when_damaged(listener: Listener) -> None:
    machine = listener.machine
    machine.drain(ip_up("ppp0", ONE))
    listener.told()
    path = Path(f"{paths.PRIVATE}/told/dsl.inet")
    whole = path.read_bytes()
    for content in (b"", whole[:-1], b"\xff" + whole, b"x" * 5000, whole.replace(b"up", b"odd")):
        path.write_bytes(content)
        machine.drain(ip_up("ppp0", ONE))
        assert listener.told() == [f"dsl up - {ONE} ip-up"]
        assert path.read_bytes() == whole


def test_of_a_link_that_changes_faster_than_its_programs_run_the_newest_is_kept(listener: Listener) -> None:
    machine = listener.machine
    machine.sync()
    listener.is_deaf = True
    for number in range(1, 80):
        machine.kernel.no_link("ppp0")
        machine.kernel.link("ppp0", f"192.0.2.{number + 1} peer 192.0.2.1", ppp=True)
        machine.drain(ip_up("ppp0", f"192.0.2.{number + 1}"))
    assert len(news.waiting("dsl")) == news.MOST_WAITING
    listener.heard.clear()
    listener.listen()
    assert listener.told()[-1] == "dsl up 192.0.2.79 192.0.2.80 ip-up"
    assert any("dsl changes faster than" in line for line in machine.log)


def rendered() -> str:
    """The record of dsl as it stands in its file."""
    known = leases.load("dsl", INET)
    return known.render() if known else ""


@pytest.mark.thorough
@pytest.mark.fault("F15")
@pytest.mark.parametrize("direction", ["up", "new", "down", "a program is new"])
def test_killed_at_any_step_a_change_is_told_at_least_once(
    machines: Callable[[], Machine], monkeypatch: pytest.MonkeyPatch, direction: str
) -> None:
    def begin() -> tuple[Listener, Told, str]:
        machine = machines()
        two_lines(machine)
        listener = Listener(machine, monkeypatch)
        machine.kernel.no_link("ppp0")
        machine.sync()
        if direction != "up":
            machine.kernel.link("ppp0", f"{ONE} peer 192.0.2.1", ppp=True)
            machine.drain(ip_up("ppp0", ONE))
            if direction == "a program is new":
                Path(f"{paths.PRIVATE}/told/dsl.inet").unlink()
                listener.told()
                return listener, ip_up("ppp0", ONE), f"dsl up - {ONE} ip-up"
            machine.kernel.no_link("ppp0")
        listener.told()
        if direction == "down":
            return listener, ip_down("ppp0", ONE), f"dsl down {ONE} - ip-down"
        address = ONE if direction == "up" else NEW
        machine.kernel.link("ppp0", f"{address} peer 192.0.2.1", ppp=True)
        return listener, ip_up("ppp0", address), f"dsl up {'-' if direction == 'up' else ONE} {address} ip-up"

    listener, told, line = begin()
    listener.is_deaf = True  # the programs are another process
    with pytest.MonkeyPatch.context() as patches:
        bomb = Bomb(patches)
        listener.machine.kernel.before = bomb.tick
        listener.machine.drain(told)
    listener.listen()
    assert listener.told() == [line]
    twice = lost = 0
    for step in range(bomb.count):
        listener, told, line = begin()
        before = rendered()
        with pytest.MonkeyPatch.context() as patches:
            bomb = Bomb(patches)
            bomb.left = step
            listener.is_deaf = True
            listener.machine.kernel.before = bomb.tick
            with pytest.raises(Killed):
                listener.machine.drain(told)
        listener.is_deaf = False
        listener.machine.kernel.before = lambda kind, body: None
        is_known = bool(spool.waiting()) or rendered() != before
        listener.machine.drain(bound("eth1", CABLE, reason="RENEW"))  # another link's event
        lines = [one for one in listener.told() if one.startswith("dsl ")]
        if not is_known and not lines:
            lost += 1  # as if the hook had never been started
            continue
        assert {tuple(one.split()[:4]) for one in lines} == {tuple(line.split()[:4])} and len(lines) < 3, step
        twice += len(lines) - 1
        listener.machine.sync()
        assert listener.told() == []
    assert lost < bomb.count / 2 and twice < 10


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(6))
def test_after_any_storm_each_link_was_told_as_it_is(listener: Listener, seed: int) -> None:
    chance, machine = random.Random(seed), listener.machine
    is_up = {"ppp0": ONE}
    for _ in range(40):
        what = chance.randrange(6)
        if what < 2 and is_up:
            machine.kernel.no_link("ppp0")
            is_up.clear()
        if what == 1:
            is_up["ppp0"] = f"203.0.113.{chance.randrange(2, 250)}"
            machine.kernel.link("ppp0", f"{is_up['ppp0']} peer 192.0.2.1", ppp=True)
        told = chance.choice([ip_up("ppp0", is_up.get("ppp0", ONE)), ip_down("ppp0", ONE), bound("eth1", CABLE, ROUTER)])
        kill_at(machine, chance.randrange(12), told)
    # pppd's last word: what it does not tell of a line that ipparam names, nobody can know.
    machine.drain(ip_up("ppp0", is_up["ppp0"]) if is_up else ip_down("ppp0", ONE))
    machine.sync()
    listener.listen()
    last: dict[str, dict[str, str]] = {}
    for told_ in listener.heard:
        before = last.get(told_["MULTIHOOK_LINK"])
        known = (before["MULTIHOOK_ADDRESS"] or before["MULTIHOOK_OLD_ADDRESS"]) if before else ""
        assert told_["MULTIHOOK_OLD_ADDRESS"] == known
        last[told_["MULTIHOOK_LINK"]] = told_
    assert last["dsl"]["MULTIHOOK_ADDRESS"] == is_up.get("ppp0", "") if "dsl" in last else "ppp0" not in is_up
    assert last["cable"]["MULTIHOOK_ADDRESS"] == CABLE
    listener.heard.clear()
    machine.sync()
    assert listener.heard == []


# --- the programs' own side; the rest of it needs real processes and a real log ---


@pytest.mark.fault("F74")
def test_of_endless_output_only_what_is_shown_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    program = tmp_path / "loud"
    program.write_text("#!/bin/sh\nhead -c 3000000 /dev/zero\n")
    program.chmod(0o755)
    monkeypatch.setattr(notify, "_say", lambda shown, output, status, *, is_late: kept.append(len(output)))
    notify.run("dsl", str(program), dict(news.SURROUNDINGS))
    assert kept == [notify._OUTPUT_BYTES + 1]


def test_programs_are_found_as_run_parts_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "notify.d"
    folder.mkdir()
    folder.chmod(0o755)
    monkeypatch.setattr(notify, "NOTIFY", str(folder))
    said: list[str] = []
    monkeypatch.setattr(notify.repeats, "warn", said.append)
    monkeypatch.setattr(journal, "write", lambda *_: None)
    for name in ("10-b", "9_A", "a.sh", "b~", "c", "Z"):
        (folder / name).touch()
        (folder / name).chmod(0o755)
    (folder / "c").chmod(0o644)
    assert [os.path.basename(path) for path in notify.programs()] == ["10-b", "9_A", "Z"]
    assert said == []
    (folder / "link").symlink_to("Z")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    (folder / "Z").chmod(0o757)
    assert [os.path.basename(path) for path in notify.programs()] == ["10-b", "9_A"]
    assert len(said) == 4 and all(line.endswith("; it is not run") for line in said), said
    assert [line.partition(":")[0] for line in said] == [f"{folder}/{name}" for name in ("Z", "dangling", "link", "loop")]
    assert files.real(str(folder / "link")) == str(folder / "Z")


def test_a_run_that_raises_in_the_middle_of_telling_is_no_run_that_failed(listener: Listener) -> None:
    outcome = listener.machine.sync()
    assert isinstance(outcome, run.Outcome) and outcome.failures == []

"""Spool, lock and state: killed at any step, stopped, overrun, on full and damaged disks, with clocks that jump."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from state import CANARY, LOCK, MARK, PRIVATE, RUN, SPOOL, VAR, clear_away, damage, in_line, leftovers, waiting

from world import World
from world.namespaces import wait_until
from world.ppp import PEER, event

ONE, OTHER, TWO, THREE = "203.0.113.45", "203.0.113.77", "203.0.113.46", "203.0.113.47"
TABLE = Path("/usr/lib/python3/dist-packages/multihook/__pycache__/multihook.codetable")
CONFIG = "".join(f'[link.l{n}]\ninterface = "ppp{n}"\ntable = {200 + n}\n' for n in range(3))


def ours(world: World) -> dict[str, list[str]]:
    """Our rules, routes and group, in an order that does not tell in which order they were made."""
    rules = sorted(json.dumps(r) for r in world.box.ip_json("rule") if r.get("protocol") == "109")
    listed = world.box.ip_json("route", "show", "table", "all", "proto", "109")
    routes = sorted(json.dumps({k: v for k, v in r.items() if k != "flags"}) for r in listed)
    group = sorted(entry["ifname"] for entry in world.box.ip_json("link", "show", "group", "109"))
    return {"rules": rules, "routes": routes, "group": group}


@pytest.fixture
def links(world: World) -> World:
    """Three links in line."""
    world.configure(CONFIG)
    for number, address in enumerate((ONE, TWO, THREE)):
        world.ppp_up(f"ppp{number}", address, PEER, event=False)
    world.multihook("sync", check=True)
    for session in world.sessions.values():
        session.up_event()
    assert in_line(world)
    world.log.clear()
    return world


# --- kill -9 at each call ---

# At each point of each kind of run: test_crash_points.py. Here is what takes more than one run to go wrong.


def killed(world: World, argv: list[str], call: str, number: int) -> bool:
    """Run it and kill it as it enters that call for the `number`th time; False when it never got there."""
    done = world.box.run(
        "strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}",
        *argv, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done
    return bool(done.returncode)


@pytest.mark.fault("F15")
def test_a_sync_killed_when_all_was_right_but_the_names_for_ip_are_written_by_the_next_event(links: World) -> None:
    """Found by the crash points: the certificate said that nothing was left to be done."""
    names = Path("/etc/iproute2/rt_tables.d/multihook.conf")
    points = 0
    for turn, text in enumerate((CONFIG.replace("200", "300"), CONFIG) * 20):
        links.configure(text)
        if not killed(links, ["/usr/bin/multihook", "sync"], "rename", turn + 1):
            break
        points += 1
        links.sessions["ppp2"].up_event()
        assert ("300\tl0" in names.read_text()) == ("300" in text), f"rename {turn + 1}"
    assert points >= 5


@pytest.mark.fault("F15", "F43")
def test_what_a_killed_flush_left_is_known_as_ours_when_the_numbers_are_others_by_then(links: World) -> None:
    """Its interface group and its protocol, changed in the configuration before anybody has cleared up."""
    others = '[multihook]\nrt_proto = 110\ngroup = 210\n' + CONFIG
    goals = {}
    for settings in (others, CONFIG):
        links.configure(settings)
        links.multihook("sync", check=True)
        goals[settings] = links.snapshot()
    flush = ["/usr/bin/multihook", "flush", "--once"]
    points = 0
    while killed(links, flush, "sendto", points + 1):
        points += 1
        links.configure(others)
        links.sessions["ppp2"].up_event()
        assert links.snapshot() == goals[others], f"sendto {points}"
        links.configure(CONFIG)
        links.multihook("sync", check=True)
        assert links.snapshot() == goals[CONFIG]
    assert points >= 10


# --- the lock ---


def holder() -> int:
    """The process that has the lock, or 0."""
    try:
        inode = LOCK.stat().st_ino
    except OSError:
        return 0
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
            return int(words[4])
    return 0


@pytest.mark.fault("F19")
@pytest.mark.fast
@pytest.mark.parametrize("step", ["sendto 3", "rename 1", "rename 2"])
def test_a_killed_holder_loses_neither_its_own_event_nor_those_of_the_waiters(links: World, step: str) -> None:
    """It is killed before its event is on disk, just after, and when its routes are made: one waiter applies all three."""
    call, when = step.split()
    for number, address in enumerate(("203.0.113.101", "203.0.113.102", "203.0.113.103")):
        links.sessions[f"ppp{number}"].readdress(address)
    trace = Path("/tmp/rig/trace")
    stopping = ("strace", "-qq", "-o", str(trace), "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGSTOP:when={when}")
    first = links.box.popen(*event("ip-up", "ppp0", "203.0.113.101", *stopping))
    wait_until("it to stop", lambda: trace.exists() and "stopped by SIGSTOP" in trace.read_text())
    own, pid = len(waiting()), holder()
    others = [links.box.popen(*event("ip-up", f"ppp{n}", f"203.0.113.{101 + n}")) for n in (1, 2)]
    wait_until("the others to wait", lambda: len(waiting()) == own + 2)
    os.kill(pid, signal.SIGKILL)
    start = time.monotonic()
    assert [process.wait(10) for process in others] == [0, 0]
    assert time.monotonic() - start < 3
    first.wait(10)
    assert own == (call == "rename")
    for number in range(3):
        assert links.routes(200 + number)[0] == f"default dev ppp{number} proto 109 scope link src 203.0.113.{101 + number}"
    links.settle(1)
    assert in_line(links)


@pytest.mark.fault("F5")
def test_a_holder_that_was_stopped_and_goes_on_does_no_harm(links: World) -> None:
    """Its work is an hour old when it continues: the state that counts is the one of then, not of when it was stopped."""
    session = links.sessions["ppp0"]
    session.readdress(OTHER)
    slow = ("strace", "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", "inject=sendto:delay_enter=1500000:when=8")
    hook = links.box.popen(*event("ip-up", "ppp0", OTHER, *slow))
    wait_until("the lock to be taken", holder)
    session.readdress(ONE)
    second = links.box.popen(*event("ip-up", "ppp0", ONE))
    assert hook.wait(15) == 0 and second.wait(15) == 0
    assert links.routes(200)[0] == f"default dev ppp0 proto 109 scope link src {ONE}"
    assert in_line(links)


@pytest.mark.fault("F19")
def test_the_lock_and_its_folders_may_be_deleted_while_somebody_holds_it(links: World) -> None:
    """/run is wiped under a running hook: the next one makes everything anew, and both end."""
    links.sessions["ppp0"].readdress(OTHER)
    slow = ("strace", "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", "inject=sendto:delay_enter=1000000:when=8")
    hook = links.box.popen(*event("ip-up", "ppp0", OTHER, *slow))
    wait_until("the lock to be taken", holder)
    shutil.rmtree(RUN)
    links.sessions["ppp1"].readdress("203.0.113.102")
    links.sessions["ppp1"].up_event()
    assert hook.wait(15) == 0
    links.sessions["ppp2"].up_event()
    assert in_line(links)


def test_a_waiter_does_not_take_a_lock_that_has_been_deleted_for_the_lock(links: World) -> None:
    """It waited on a file that is no more when it gets it; somebody else holds the new one, and is waited for."""
    program = "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"

    def hold() -> subprocess.Popen[str]:
        process = links.box.popen("/usr/bin/python3", "-IS", "-c", program, str(LOCK), stdout=subprocess.PIPE)
        assert process.stdout and process.stdout.readline() == "held\n"
        return process

    links.sessions["ppp0"].readdress(OTHER)
    first = hold()
    hook = links.box.popen(*event("ip-up", "ppp0", OTHER))
    # Spooled is not yet waiting: with the lock deleted in between it would take the new one at once.
    wait_until("the hook to wait", lambda: f" {hook.pid} " in blocked(LOCK.stat().st_ino))
    LOCK.unlink()
    LOCK.touch(0o600)
    second = hold()
    first.kill()
    wait_until("the hook to wait for the new lock", lambda: f" {hook.pid} " in blocked(LOCK.stat().st_ino))
    assert OTHER not in "".join(links.routes(200))
    second.kill()
    assert hook.wait(10) == 0
    assert links.routes(200)[0] == f"default dev ppp0 proto 109 scope link src {OTHER}"
    assert in_line(links)


def blocked(inode: int) -> str:
    """The lines of /proc/locks of those who wait for a lock on this file."""
    lines = Path("/proc/locks").read_text().splitlines()
    return "\n".join(line for line in lines if "->" in line and f":{inode} " in line)


# --- many at once ---


@pytest.mark.fault("F1")
@pytest.mark.timeout(180)
def test_two_hundred_events_at_once_on_eight_links_are_all_applied(world: World) -> None:
    """Ups, doubles, stale downs, all started at the same time: the end is what the kernel says, and nothing is left."""
    world.configure("".join(f'[link.l{n}]\ninterface = "ppp{n}"\ntable = {200 + n}\n' for n in range(8)))
    sessions = [world.ppp_up(f"ppp{n}", f"203.0.113.{10 + n}", PEER, event=False) for n in range(8)]
    world.multihook("sync", check=True)
    for number, session in enumerate(sessions):
        session.readdress(f"203.0.113.{110 + number}")
    words = []
    for turn in range(25):
        for number in range(8):
            kind = ("ip-up", f"203.0.113.{110 + number}") if turn % 5 else ("ip-down", f"203.0.113.{10 + number}")
            words.append(event(kind[0], f"ppp{number}", kind[1]))
    random.Random(1).shuffle(words)
    lines = "".join(" ".join(f"'{word}'" for word in argv) + " &\n" for argv in words)
    start = time.monotonic()
    world.box.run("dash", "-c", lines + "wait\n", timeout=120)
    took = time.monotonic() - start
    world.settle(1)
    assert waiting() == []
    for number in range(8):
        assert world.routes(200 + number)[0] == f"default dev ppp{number} proto 109 scope link src 203.0.113.{110 + number}"
    assert in_line(world) and leftovers() == []
    problems = [entry.text for entry in world.log.entries() if entry.severity != "info"]
    # On a machine that is busy otherwise a caller may have gone on before its event was applied, and have said so.
    assert [text for text in problems if "lock was not free" not in text] == [], f"after {took:.1f} s: {problems}"


@pytest.mark.fault("F3")
@pytest.mark.timeout(180)
def test_events_of_two_links_at_the_same_instant_a_hundred_times(links: World) -> None:
    """Both changes are there after each round, whoever of the two was first."""
    for turn in range(100):
        addresses = [f"203.0.113.{100 + 2 * (turn % 50) + n}" for n in range(2)]
        for number, address in enumerate(addresses):
            session = links.sessions[f"ppp{number}"]
            session.readdress(address)
        both = "".join(" ".join(f"'{w}'" for w in event("ip-up", f"ppp{n}", a)) + " &\n" for n, a in enumerate(addresses))
        links.box.run("dash", "-c", both + "wait\n")
        sources = {rule["src"] for rule in links.box.ip_json("rule", "show", "priority", "7400")}
        assert sources == {*addresses, THREE}, f"round {turn}"
        assert waiting() == []
    assert in_line(links) and leftovers() == []


def test_commands_and_events_at_the_same_time_end_in_line(links: World) -> None:
    """sync, status, down, up and flush --once among events: each ends with 0, none finds half of another's work."""
    links.sessions["ppp0"].readdress(OTHER)
    words = [" ".join(f"'{w}'" for w in event("ip-up", f"ppp{n % 3}", (OTHER, TWO, THREE)[n % 3])) for n in range(30)]
    words += [f"/usr/bin/multihook {w}" for w in ("sync", "sync", "status", "status --json", "sync -n", "down ppp1", "up ppp1", "sync")]
    words += ["/usr/bin/multihook flush --once", "/usr/bin/multihook sync"]
    random.Random(7).shuffle(words)
    script = "".join(f"( {line} >/dev/null; echo $? ) &\n" for line in words) + "wait\n"
    done = links.box.run("dash", "-c", script)
    # status says 1 or 3 where it looks in the middle of it.
    assert done.stderr == "" and set(done.stdout.split()) <= {"0", "1", "3"}
    assert sorted(done.stdout.split())[: len(words) - 2] == ["0"] * (len(words) - 2)
    links.multihook("up", "ppp1", check=True)
    links.multihook("sync", check=True)
    links.settle(1)
    assert in_line(links) and waiting() == []
    for number, address in enumerate((OTHER, TWO, THREE)):
        assert links.routes(200 + number)[0] == f"default dev ppp{number} proto 109 scope link src {address}"
    assert [entry for entry in links.log.entries() if entry.severity == "err"] == []


@pytest.mark.fault("F1", "F24")
def test_a_spool_that_grew_for_hours_is_emptied_in_one_run(links: World) -> None:
    """Two thousand events behind a holder that was stopped: one run takes them all, in seconds."""
    session = links.sessions["ppp0"]
    session.readdress(OTHER)
    MARK.write_text(f"{boot()}\n{int(uptime())}\n")
    session.up_event()
    (name,) = waiting()
    MARK.unlink()
    content = (SPOOL / name).read_bytes()
    for number in range(2000):
        (SPOOL / f"{number:020d}-{number}").write_bytes(content)
        (SPOOL / f"{number:020d}-{number}").chmod(0o600)
    start = time.monotonic()
    links.sessions["ppp1"].up_event()
    assert time.monotonic() - start < 5
    assert waiting() == [] and links.routes(200)[0] == f"default dev ppp0 proto 109 scope link src {OTHER}"
    assert len(links.log.lines()) <= 3


# --- disks ---


def fill(folder: Path) -> None:
    """Not one byte is left there."""
    try:
        with open(folder / "filler", "wb") as file:
            while True:
                file.write(b"x" * 4096)
    except OSError:
        pass
    for number in range(10000):
        try:
            (folder / f"filler{number}").touch()
        except OSError:
            return


@contextmanager
def mounted(target: str, options: str, full: bool = False, copy: bool = True) -> Iterator[None]:
    """A small or read-only tmpfs in place of a folder, with what was in it."""
    kept = Path("/tmp/rig/kept")
    shutil.rmtree(kept, ignore_errors=True)
    if Path(target).exists():
        shutil.copytree(target, kept, symlinks=True)
    else:
        Path(target).mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=755,{options}", "small", target], check=True)
    try:
        if copy and kept.exists():
            shutil.copytree(kept, target, symlinks=True, dirs_exist_ok=True)
            if (Path(target) / "private").is_dir():
                (Path(target) / "private").chmod(0o700)
        if full:
            fill(Path(target))
        yield
    finally:
        subprocess.run(["umount", target], check=True)


def changed(world: World, number: int) -> None:
    """The address of the first link changes, with an event; it must be applied whatever becomes of the state."""
    address = f"203.0.113.{120 + number}"
    session = world.sessions["ppp0"]
    session.readdress(address)
    start = time.monotonic()
    session.up_event()
    assert time.monotonic() - start < 3
    assert world.routes(200)[0] == f"default dev ppp0 proto 109 scope link src {address}"
    sources = {rule["src"] for rule in world.box.ip_json("rule", "show", "priority", "7400")}
    assert sources == {address, TWO, THREE}
    world.settle(1)


@pytest.mark.fault("F17")
@pytest.mark.parametrize("copy", [True, False], ids=["with state", "without state"])
@pytest.mark.parametrize("disk", ["full", "no inode", "read-only"])
def test_routing_goes_on_without_a_writable_run(links: World, disk: str, copy: bool) -> None:
    """Every change is applied; that state is not saved is said once, not at each event; sync says it too."""
    options = {"full": "size=512k", "no inode": "size=4m,nr_inodes=40", "read-only": "size=1m"}[disk]
    with mounted(str(RUN), options, full=disk != "read-only", copy=copy):
        if disk == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(RUN)], check=True)
        changed(links, 0)
        first = links.log.problems()
        assert 1 <= len(first) <= 2 and all("state is not saved" in line for line in first), first
        for number in range(1, 4):
            changed(links, number)
        done = links.multihook("sync")
        assert "Traceback" not in done.stderr and done.stderr.count("\n") <= 3
        links.sessions["ppp0"].lose_address()
        links.sessions["ppp0"].down_event()
        assert links.routes(200) == ["unreachable default proto 109 metric 4294967295"]
    links.box.ip("link set ppp0 up", f"addr replace {ONE} peer {PEER}/32 dev ppp0")
    links.sessions["ppp0"].up_event()
    links.multihook("sync", check=True)
    assert in_line(links)


@pytest.mark.fault("F17")
@pytest.mark.parametrize("target", ["/var/lib/multihook", "/etc/iproute2", "/etc/iproute2/rt_tables.d", "/etc/multihook"])
def test_routing_goes_on_without_a_writable_folder_elsewhere(links: World, target: str) -> None:
    """/var full or read-only, /etc read-only: nothing that routing needs; one line at most, not one an event."""
    for full in (True, False):
        with mounted(target, "size=64k", full=full):
            if not full:
                subprocess.run(["mount", "-o", "remount,ro", target], check=True)
            for number in range(3):
                changed(links, number)
            done = links.multihook("sync")
            assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
            assert len(links.log.problems()) <= 1
    links.multihook("sync", check=True)
    assert in_line(links)


# --- damaged state ---

WAYS = (
    "empty", "cut at 10", "cut at 50", "cut at 99", "noise", "flipped", "longer", "huge", "numbers", "foreign owner", "writable by all",
    "fifo", "folder", "full folder", "symlink", "dangling symlink", "device", "socket", "missing",
)  # fmt: skip
FILES = (
    RUN / "leases/l0.inet", RUN / "last", RUN / "held", LOCK, PRIVATE / "compiled", PRIVATE / "applied", PRIVATE / "repeats",
    VAR / "tables", VAR / "last-good.json", Path("/etc/iproute2/rt_tables.d/multihook.conf"),
    Path("/etc/iproute2/rt_protos.d/multihook.conf"),
)  # fmt: skip


@pytest.mark.fault("F18")
def test_the_list_of_state_files_is_whole(links: World) -> None:
    """A new file of state belongs into FILES, so that damaging it is tried too."""
    links.multihook("flush", check=True)
    links.multihook("down", "ppp9")
    found = {path for top in (RUN, VAR) for path in top.rglob("*") if path.is_file()}
    assert {path for path in found if path.parent != RUN / "leases"} <= set(FILES) | {MARK}


@pytest.mark.fault("F18")
@pytest.mark.parametrize("path", [path for path in FILES if path.name != "held"], ids=lambda path: path.parent.name + "/" + path.name)
def test_damaged_state_is_as_good_as_none(links: World, path: Path) -> None:
    """Corrupt, cut, foreign, symlinked, a fifo, a folder: the event is applied at once, nothing foreign is written."""
    # Names are read by ip(8) too, which waits on a fifo for ever.
    for number, way in enumerate(way for way in WAYS if "iproute2" not in str(path) or way not in ("fifo", "device", "socket")):
        CANARY.write_text("")
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_text("")
        damage(path, way)
        before = CANARY.read_bytes()
        changed(links, number)
        assert len(links.log.problems()) <= 1, way
        done = links.multihook("status")
        assert "Traceback" not in done.stderr and done.returncode in (0, 1), (way, done)
        assert CANARY.read_bytes() == before and not Path("/tmp/rig/nowhere").exists(), way
        if way in ("noise", "full folder", "symlink"):
            done = links.multihook("sync")
            assert "Traceback" not in done.stderr and done.returncode in (0, 1), (way, done)
        clear_away(path)
        links.log.problems()
    links.multihook("sync", check=True)
    assert in_line(links) and leftovers() == []


@pytest.mark.fault("F18")
@pytest.mark.parametrize("path", [VAR / "tables", RUN / "leases/ppp0.inet", PRIVATE / "applied"], ids=lambda path: path.name)
def test_damaged_state_of_adopted_links_is_as_good_as_none(world: World, path: Path) -> None:
    """Adopted links know their table and their reason only from state: they come back the same."""
    for name, address, metric in (("ppp0", ONE, 10), ("ppp1", TWO, 20)):
        world.ppp_up(name, address, PEER, event=False)
        world.box.ip(f"route add default dev {name} metric {metric}")
    world.multihook("sync", check=True)
    before = ours(world)
    for way in WAYS:
        damage(path, way)
        world.sessions["ppp0"].up_event()
        world.log.problems()
        clear_away(path)
        done = world.multihook("sync")
        assert done.returncode == 0 and ours(world) == before, (way, done.stderr)
        world.log.problems()


FOLDERS = (RUN, PRIVATE, SPOOL, RUN / "leases", VAR)
FOLDER_WAYS = ("missing", "file", "fifo", "symlink", "dangling symlink", "foreign owner", "writable by all", "mode 000")


@pytest.mark.fault("F18")
@pytest.mark.parametrize("path", FOLDERS, ids=lambda path: path.name)
def test_folders_that_are_gone_or_foreign_do_not_stop_routing(links: World, path: Path) -> None:
    """A folder that others could write to is not used: nothing is read from it or written through it."""
    aside, elsewhere = Path("/tmp/rig/aside"), Path("/tmp/rig/elsewhere")
    for number, way in enumerate(FOLDER_WAYS):
        shutil.rmtree(elsewhere, ignore_errors=True)
        elsewhere.mkdir()
        if way in ("missing", "file", "fifo", "symlink", "dangling symlink"):
            shutil.move(path, aside)
        if way == "file":
            path.write_text("")
        elif way == "fifo":
            os.mkfifo(path)
        elif way == "symlink":
            path.symlink_to(elsewhere)
        elif way == "dangling symlink":
            path.symlink_to("/tmp/rig/nowhere")
        elif way == "foreign owner":
            os.chown(path, 65534, 65534)
        elif way == "writable by all":
            path.chmod(0o777)
        elif way == "mode 000":
            path.chmod(0)
        changed(links, number)
        lines = links.log.problems()
        assert len(lines) <= 2, (way, lines)
        assert list(elsewhere.iterdir()) == [], way
        done = links.multihook("status")
        assert "Traceback" not in done.stderr, way
        done = links.multihook("sync")
        assert "Traceback" not in done.stderr and done.stderr.count("\n") <= 3, (way, done.stderr)
        assert list(elsewhere.iterdir()) == [] and not Path("/tmp/rig/nowhere").exists(), way
        if aside.exists():
            clear_away(path)
            shutil.move(aside, path)
        os.chown(path, 0, 0)
        path.chmod(0o700 if PRIVATE in (path, path.parent) else 0o755)
        links.log.problems()
        links.multihook("sync", check=True)
        links.log.problems()
    assert in_line(links)


@pytest.mark.fault("F16")
def test_everything_lost_at_once_comes_back_the_same(links: World) -> None:
    """/run, /var/lib and the generated names are wiped: one event of one link restores what is known of all."""
    before = ours(links)
    for folder in (RUN, VAR):
        shutil.rmtree(folder)
    for path in Path("/etc/iproute2").glob("*/multihook.conf"):
        path.unlink()
    links.sessions["ppp2"].up_event()
    assert ours(links) == before and in_line(links)
    assert "l0" in Path("/etc/iproute2/rt_tables.d/multihook.conf").read_text()


@pytest.mark.fault("F18")
def test_a_damaged_event_in_the_spool_makes_the_next_run_look_at_everything(links: World) -> None:
    """Whatever the lost event was about is put right all the same, and one warning is logged."""
    session = links.sessions["ppp0"]
    for number, way in enumerate(("empty", "cut at 50", "noise", "fifo", "folder", "symlink", "foreign owner", "huge", "device")):
        address = f"203.0.113.{140 + number}"
        session.readdress(address)
        MARK.write_text(f"{boot()}\n{int(uptime())}\n")
        session.up_event()
        MARK.unlink()
        (name,) = waiting()
        damage(SPOOL / name, way)
        links.sessions["ppp1"].up_event()
        assert links.routes(200)[0] == f"default dev ppp0 proto 109 scope link src {address}", way
        assert len(links.log.problems()) <= 1, way
        assert waiting() == [] or way == "folder", way
        clear_away(SPOOL / name)
    assert in_line(links)


@pytest.mark.fault("F18")
def test_state_of_another_python_is_not_believed(links: World) -> None:
    """The cached configuration and the table of code carry the interpreter's version: another one's is never loaded."""
    table = TABLE.read_bytes()
    try:
        for turn, (path, wrong) in enumerate(((PRIVATE / "compiled", rb"[0-9a-f]{8}"), (TABLE, rb"(?<=code )[0-9a-f]+"))):
            header = path.read_bytes().partition(b"\n")[0]
            for number, version in enumerate((b"030a00f0", b"030f00f0", b"ffffffff")):
                body = os.urandom(200)
                other = re.sub(wrong, version, header)
                assert other != header
                path.write_bytes(other + b"\n" + zlib.crc32(body).to_bytes(4, "big") + body)
                changed(links, 3 * turn + number)
                assert links.log.problems() == []
        assert in_line(links)
    finally:
        TABLE.write_bytes(table)


@pytest.mark.fault("F18")
@pytest.mark.parametrize("damage", ["empty", "cut off", "writable by all", "foreign owner", "a folder", "a fifo", "missing"])
def test_without_a_table_of_code_to_be_believed_hooks_import_their_modules(links: World, damage: str) -> None:
    """Nothing of it is run, the event is applied, and `multihook sync` makes the table anew."""
    whole = TABLE.read_bytes()
    try:
        TABLE.unlink()
        if damage == "a folder":
            TABLE.mkdir()
        elif damage == "a fifo":
            os.mkfifo(TABLE)
        elif damage != "missing":
            TABLE.write_bytes(b"" if damage == "empty" else whole[: len(whole) // 2] if damage == "cut off" else whole)
        if damage == "writable by all":
            TABLE.chmod(0o666)
        elif damage == "foreign owner":
            os.chown(TABLE, 12345, 12345)
        for turn in range(2):
            changed(links, turn)
        assert links.log.problems() == []
        if damage == "a folder":
            TABLE.rmdir()
        links.multihook("sync", check=True)
        status = TABLE.stat()
        assert (status.st_uid, status.st_mode & 0o7777) == (0, 0o644)
        changed(links, 2)
        assert links.log.problems() == [] and in_line(links)
    finally:
        TABLE.unlink()
        links.multihook("sync", check=True)


# --- clocks ---


def boot() -> str:
    """This boot's name."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def uptime() -> float:
    """Seconds since boot."""
    return float(Path("/proc/uptime").read_text().split()[0])


@pytest.mark.fault("F11")
def test_clocks_that_jump_change_nothing(links: World) -> None:
    """Boot time a year on and back, files from 1970 and from next year: events are applied, nothing is lost or hangs."""
    session = links.sessions["ppp0"]
    for number, shift in enumerate((31_536_000, 0, 1_000_000, 0)):
        address = f"203.0.113.{160 + number}"
        session.readdress(address)
        before = ("unshare", "--time", "--boottime", str(shift), "--monotonic", str(shift)) if shift else ()
        links.box.run(*event("ip-up", "ppp0", address, *before))
        assert links.routes(200)[0] == f"default dev ppp0 proto 109 scope link src {address}", shift
        done = links.multihook("status")
        assert done.returncode == 0 and "-" not in done.stdout.split("SINCE")[0].replace("-\n", ""), done.stdout
    config = Path("/etc/multihook/multihook.toml")
    for moment in (0, time.time() + 31_536_000):
        os.utime(config, (moment, moment))
        changed(links, int(moment > 1))
    config.write_text(CONFIG.replace("table = 201", "table = 299"))
    os.utime(config, (0, 0))
    links.sessions["ppp1"].up_event()
    assert links.routes(299)[0] == f"default dev ppp1 proto 109 scope link src {TWO}"
    assert in_line(links) and links.log.problems() == []


@pytest.mark.fault("F11", "F67")
def test_state_of_another_boot_is_a_hint_and_no_more(links: World) -> None:
    """The same files after a reboot: addresses that are gone are not believed, everything is looked at once."""
    links.sessions["ppp0"].readdress(OTHER)
    links.sessions["ppp1"].lose_address()
    fake = Path("/tmp/rig/boot_id")
    fake.write_text("00000000-1111-2222-3333-444444444444\n")
    script = f"mount --bind {fake} /proc/sys/kernel/random/boot_id && exec "
    links.box.run("unshare", "-m", "sh", "-c", script + " ".join(f"'{w}'" for w in event("ip-up", "ppp2", THREE)))
    assert links.routes(200)[0] == f"default dev ppp0 proto 109 scope link src {OTHER}"
    assert links.routes(201) == ["unreachable default proto 109 metric 4294967295"]
    assert in_line(links)


# --- while dpkg replaces the package ---


@pytest.mark.fault("F13")
@pytest.mark.fast
def test_while_the_package_is_replaced_hooks_only_record(links: World) -> None:
    """With the mark of now: nothing changes, status says how many wait, and sync applies them in their order."""
    before = ours(links)
    MARK.write_text(f"{boot()}\n{int(uptime())}\n")
    session = links.sessions["ppp0"]
    for address in (OTHER, "203.0.113.79", "203.0.113.80"):
        session.readdress(address)
        session.up_event()
    links.sessions["ppp1"].lose_address()
    links.sessions["ppp1"].down_event()
    assert len(waiting()) == 4 and ours(links)["rules"] == before["rules"]
    assert "4 events wait to be applied" in links.multihook("status").stdout
    assert links.log.lines() == []
    MARK.unlink()
    links.multihook("sync", check=True)
    assert links.routes(200)[0] == "default dev ppp0 proto 109 scope link src 203.0.113.80"
    assert links.routes(201) == ["unreachable default proto 109 metric 4294967295"]
    assert waiting() == []


@pytest.mark.fault("F13")
def test_an_event_that_is_recorded_as_the_replacement_ends_is_applied_all_the_same(links: World) -> None:
    """It saw the mark; when it reached the spool, postinst had taken the mark away and synchronised."""
    MARK.write_text(f"{boot()}\n{int(uptime())}\n")
    links.sessions["ppp0"].readdress(OTHER)
    trace = Path("/tmp/rig/trace")
    slow = ("strace", "-qq", "-o", str(trace), "-e", "trace=rename", "-e", "inject=rename:signal=SIGSTOP:when=1")
    late = links.box.popen(*event("ip-up", "ppp0", OTHER, *slow))
    wait_until("it to stop", lambda: trace.exists() and "stopped by SIGSTOP" in trace.read_text())
    MARK.unlink()
    (pid,) = [int(line.split()[0]) for line in links.box.run("ps", "-eo", "pid,stat,args").stdout.splitlines()[1:]
              if line.split()[1].startswith(("T", "t")) and "/usr/lib/multihook/event" in line and "strace" not in line]  # fmt: skip
    os.kill(pid, signal.SIGCONT)
    assert late.wait(10) == 0
    assert links.routes(200)[0] == f"default dev ppp0 proto 109 scope link src {OTHER}"
    assert waiting() == [] and in_line(links)


VOID = {
    "ten minutes old": lambda: f"{boot()}\n{int(uptime()) - 601}\n",
    "of another boot": lambda: f"00000000-1111-2222-3333-444444444444\n{int(uptime())}\n",
    "from the future": lambda: f"{boot()}\n{int(uptime()) + 1000}\n",
    "empty": lambda: "",
    "half": lambda: f"{boot()}\n",
    "noise": lambda: "\x00\xff" * 100,
    "no number": lambda: f"{boot()}\nnow\n",
    "huge number": lambda: f"{boot()}\n{'9' * 5000}\n",
    "not a number": lambda: f"{boot()}\nnan\n",
    "huge": lambda: f"{boot()}\n{int(uptime())}\n" + "x" * 100_000,
}


@pytest.mark.fault("F13")
@pytest.mark.parametrize("kind", VOID)
def test_a_mark_that_is_void_holds_nobody_back(links: World, kind: str) -> None:
    """An upgrade that died must not keep hooks from working for ever."""
    MARK.write_bytes(VOID[kind]().encode("latin-1"))
    changed(links, 0)
    assert links.log.problems() == [] and waiting() == []


@pytest.mark.parametrize("way", ["fifo", "folder", "dangling symlink", "foreign owner", "writable by all", "device"])
def test_a_mark_that_is_not_roots_plain_file_holds_nobody_back(links: World, way: str) -> None:
    """The mark is read with the same care as everything else."""
    MARK.write_text(f"{boot()}\n{int(uptime())}\n")
    damage(MARK, way)
    changed(links, 0)
    assert links.log.problems() == []
    clear_away(MARK)


@pytest.mark.fault("F13")
def test_a_hook_that_begins_while_the_files_are_missing_waits_for_them(links: World) -> None:
    """dpkg has taken the old module and not yet put the new one: the hook tries again, and its event is not lost."""
    # One file: a folder of a lower layer cannot be renamed in an overlay.
    package = Path("/usr/lib/python3/dist-packages/multihook/upgrade.py")
    aside = package.with_suffix(".aside")
    session = links.sessions["ppp0"]
    session.readdress(OTHER)
    MARK.write_text(f"{boot()}\n{int(uptime())}\n")
    package.rename(aside)
    try:
        hook = session.up_event(wait=False)
        wait_until("a second attempt", lambda: any("--attempt=2" in line for line in links.strays().values()))
        assert hook.poll() is None
    finally:
        aside.rename(package)
    assert hook.wait(10) == 0 and len(waiting()) == 1
    MARK.unlink()
    links.sessions["ppp1"].up_event()
    assert links.routes(200)[0] == f"default dev ppp0 proto 109 scope link src {OTHER}"
    assert links.log.problems() == []


@pytest.mark.fault("F13")
def test_the_table_of_code_never_outlives_its_package(links: World) -> None:
    """Modules replaced by others of the same size and time, as dpkg unpacks a rebuilt package: the new ones run."""
    module = Path("/usr/lib/python3/dist-packages/multihook/account.py")
    kept, status = module.read_bytes(), module.stat()
    cached = [(path, path.read_bytes()) for path in module.parent.glob("__pycache__/account.*.pyc")]
    package = module.with_name("__init__.py")
    changed(links, 0)
    changed(links, 1)
    assert b" -> {" in kept and " -> " in links.log.lines()[-1]
    try:
        other = module.with_suffix(".dpkg-new")
        other.write_bytes(kept.replace(b" -> {", b" => {"))
        os.utime(other, ns=(status.st_mtime_ns, status.st_mtime_ns))
        other.rename(module)
        for path, _ in cached:
            path.unlink()
        other.write_bytes(package.read_bytes())
        other.rename(package)
        changed(links, 2)
        assert " => " in links.log.lines()[-1]
    finally:
        module.write_bytes(kept)
        os.utime(module, ns=(status.st_mtime_ns, status.st_mtime_ns))
        for path, data in cached:
            path.write_bytes(data)
        links.multihook("sync", check=True)

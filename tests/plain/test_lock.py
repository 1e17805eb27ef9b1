"""The one lock: one holder, whatever happens to processes and to the file."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from multihook import lock

pytestmark = pytest.mark.timeout(100)  # a lock that does not let go is what is tested here

PACKAGE = str(Path(lock.__file__).parent.parent)

# A process of its own, because the lock waits by SIGALRM, as our own time limit for tests does.
TAKER = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from multihook import lock
lock.LOCK = sys.argv[2]
started = time.monotonic()
try:
    fd = lock.take(float(sys.argv[3]))
except lock.Busy:
    print(f"busy {time.monotonic() - started:.3f}", flush=True)
except OSError as error:
    print(f"error {error.errno}", flush=True)
else:
    print(f"held {time.monotonic() - started:.3f} {os.fstat(fd).st_ino}", flush=True)
    sys.stdin.readline()
    lock.give(fd)
    print("given", flush=True)
    sys.stdin.readline()
"""


class Taker:
    """A process that takes the lock, and gives it back when told to."""

    def __init__(self, path: Path, patience: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKER, PACKAGE, str(path), str(patience)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def answer(self) -> list[str]:
        """The words of its next line; waits for it."""
        assert self.process.stdout
        return self.process.stdout.readline().split()

    def give(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.answer() == ["given"]

    def waits(self) -> None:
        """Return when it waits in flock(2), as /proc/locks shows it."""
        for _ in range(6000):
            if any(
                "->" in line and f" {self.process.pid} " in line
                for line in Path("/proc/locks").read_text().splitlines()
            ):
                return
            time.sleep(0.01)
        pytest.fail("the process does not wait for the lock")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lock, "LOCK", str(tmp_path / "lock"))
    return tmp_path / "lock"


@pytest.fixture
def takers() -> Iterator[list[Taker]]:
    made: list[Taker] = []
    yield made
    for taker in made:
        taker.end()


def start(takers: list[Taker], path: Path, patience: float) -> Taker:
    takers.append(Taker(path, patience))
    return takers[-1]


def is_free(path: Path) -> bool:
    try:
        lock.give(lock.take(0))
    except lock.Busy:
        return False
    return True


def test_the_lock_is_taken_and_given_back_and_its_file_is_for_its_owner_alone(path: Path) -> None:
    fd = lock.take(0)
    assert path.stat().st_mode & 0o7777 == 0o600
    assert not os.get_inheritable(fd)
    with pytest.raises(lock.Busy):
        lock.take(0)
    lock.give(fd)
    assert is_free(path)


def test_one_of_two_processes_holds_it_and_the_other_gets_it_next(path: Path, takers: list[Taker]) -> None:
    first = start(takers, path, 0)
    assert first.answer()[0] == "held"
    second = start(takers, path, 90)
    second.waits()
    assert not is_free(path)
    first.give()
    assert second.answer()[0] == "held"
    assert not is_free(path)
    second.give()
    assert is_free(path)


@pytest.mark.fault("F20")
def test_a_stopped_holder_makes_the_others_give_up_after_their_patience(path: Path, takers: list[Taker]) -> None:
    holder = start(takers, path, 0)
    assert holder.answer()[0] == "held"
    holder.process.send_signal(signal.SIGSTOP)
    waiting = start(takers, path, 0.4)
    word, seconds = waiting.answer()
    assert word == "busy"
    assert 0.35 < float(seconds) < 20
    assert start(takers, path, 0).answer()[0] == "busy"
    holder.process.send_signal(signal.SIGCONT)
    holder.give()
    assert is_free(path)


@pytest.mark.fault("F19")
def test_a_killed_holder_frees_it_at_once(path: Path, takers: list[Taker]) -> None:
    holder = start(takers, path, 0)
    assert holder.answer()[0] == "held"
    second = start(takers, path, 90)
    second.waits()
    holder.process.kill()
    assert second.answer()[0] == "held"
    second.process.kill()
    second.process.wait()
    assert is_free(path)


def test_who_waited_for_a_file_that_was_replaced_takes_the_new_one(path: Path, takers: list[Taker]) -> None:
    first = start(takers, path, 0)
    assert first.answer()[0] == "held"
    second = start(takers, path, 90)
    second.waits()
    path.rename(path.with_name("old"))  # kept, so that no new file gets its inode number
    path.touch(0o600)
    first.give()
    word, _, inode = second.answer()
    assert word == "held"
    assert int(inode) == path.stat().st_ino
    assert not is_free(path)


def test_who_waited_for_a_file_that_was_removed_makes_a_new_one(path: Path, takers: list[Taker]) -> None:
    first = start(takers, path, 0)
    assert first.answer()[0] == "held"
    second = start(takers, path, 90)
    second.waits()
    path.rename(path.with_name("old"))
    first.give()
    assert second.answer()[0] == "held"
    assert not is_free(path)


def test_patience_counts_for_the_whole_however_often_the_file_is_replaced(path: Path, takers: list[Taker]) -> None:
    first = start(takers, path, 0)
    assert first.answer()[0] == "held"
    waiting = start(takers, path, 1.0)
    waiting.waits()
    path.rename(path.with_name("old"))
    third = start(takers, path, 0)
    assert third.answer()[0] == "held"
    first.give()
    word, seconds = waiting.answer()
    assert word == "busy"
    assert 0.9 < float(seconds) < 20


@pytest.mark.fault("F21")
def test_no_child_inherits_the_lock(path: Path) -> None:
    fd = lock.take(0)
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        lock.give(fd)
        assert is_free(path)
    finally:
        child.kill()
        child.wait()


def test_a_symbolic_link_in_its_place_is_not_followed(path: Path) -> None:
    path.symlink_to("victim")
    with pytest.raises(OSError):
        lock.take(0)
    assert not path.with_name("victim").exists()


def test_without_its_folder_there_is_an_error_and_no_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCK", str(path.with_name("no") / "lock"))
    with pytest.raises(FileNotFoundError):
        lock.take(0)


def test_on_a_read_only_disk_an_existing_file_will_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    path.touch(0o600)
    real = os.open

    def read_only(name: str, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, "Read-only file system", name)
        return real(name, flags, mode)

    monkeypatch.setattr(lock, "posix_open", read_only)
    fd = lock.take(0)
    with pytest.raises(lock.Busy):
        lock.take(0)
    lock.give(fd)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        lock.take(0)


def test_waiting_leaves_no_alarm_behind(path: Path, takers: list[Taker]) -> None:
    program = """
import signal, sys, time
sys.path.insert(0, sys.argv[1])
from multihook import lock
lock.LOCK = sys.argv[2]
fd = lock.take(0.3)
assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
time.sleep(0.5)
try:
    lock.take(0.1)
except lock.Busy:
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    print("well")
"""
    done = subprocess.run([sys.executable, "-c", program, PACKAGE, str(path)], capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("well\n", "", 0)


def test_who_waits_with_the_alarm_blocked_by_its_caller_gives_up_all_the_same(path: Path, takers: list[Taker]) -> None:
    assert start(takers, path, 0).answer()[0] == "held"
    blocked = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + TAKER, PACKAGE, str(path), "0.2"], capture_output=True, text=True, timeout=60
    )  # fmt: skip
    word, seconds = done.stdout.split()
    assert word == "busy" and 0.15 < float(seconds) < 20


def test_the_console_takes_the_same_lock_through_filelock(path: Path, takers: list[Taker]) -> None:
    from filelock import FileLock, Timeout

    holder = start(takers, path, 0)
    assert holder.answer()[0] == "held"
    with pytest.raises(Timeout):
        FileLock(path, timeout=0).acquire()
    holder.give()
    with FileLock(path, timeout=0):
        assert start(takers, path, 0).answer()[0] == "busy"
    assert is_free(path)


def test_a_child_that_still_has_the_descriptor_keeps_no_lock(path: Path) -> None:
    """The one that gives a netfilter socket back may be slow to close its copy."""
    held = lock.take(0)
    copy = os.dup(held)
    lock.give(held)
    again = lock.take(0)
    lock.give(again)
    os.close(copy)

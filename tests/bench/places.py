"""A place to measure in: a process with network, mounts, /run, /etc and log of its own, and the rows measured there.

Rows of several places are interleaved by asking one place after the other, so each row finds its own machine as it
left it, with 4 links or with 1000, and no row stands in another's way.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
STRAYS_SECONDS = 1.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OUTPUT = "/run/output"  # of the programs that are measured
_libc = ctypes.CDLL(None, use_errno=True)


class WrongError(Exception):
    """A row did not do what it is for: its time means nothing."""


@dataclass(frozen=True)
class Command:
    """One program with its arguments and its whole environment."""

    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})


@dataclass(frozen=True)
class Sample:
    """One measurement: seconds from start to end, and seconds of CPU of all processes that it took."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Row:
    """What is measured: `prepare` makes the machine ready and says what to run; `check` raises WrongError."""

    prepare: Callable[[], list[Command]]
    check: Callable[[], None]


class Child:
    """A process in namespaces of its own, which calls the methods of the object that `make` gave it."""

    def __init__(self, make: Callable[[], object], namespaces: int) -> None:
        mine, theirs = Pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            mine.close()
            _serve(theirs, make, namespaces)
        theirs.close()
        self._pipe = mine
        self._answer()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call it there; raises WrongError with what went wrong there."""
        self._pipe.send((method, arguments))
        return self._answer()

    def _answer(self) -> Any:
        try:
            good, answer = self._pipe.recv()
        except EOFError:
            raise WrongError("a place has ended early") from None
        if not good:
            raise WrongError(answer)
        return answer


def _serve(pipe: Connection, make: Callable[[], object], namespaces: int) -> None:
    """Be the child: never returns."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # What a program leaves running comes to us, and is counted (timed).
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    status = 0
    try:
        if _libc.unshare(namespaces):
            raise OSError(ctypes.get_errno(), "unshare")
        thing = make()
        pipe.send((True, None))
        while True:
            method, arguments = pipe.recv()
            try:
                pipe.send((True, getattr(thing, method)(*arguments)))
            except WrongError as error:
                pipe.send((False, str(error)))
    except EOFError:
        pass
    except BaseException:
        pipe.send((False, traceback.format_exc()))
        status = 1
    finally:
        os._exit(status)


class Place:
    """What a child makes of itself: own /run, /etc and state folders; the rows by name."""

    def __init__(self, build: Callable[[], dict[str, Row]]) -> None:
        tool("mount", "--make-rprivate", "/")
        tool("cp", "-a", "/etc", "/tmp/etc-of-a-place")
        for folder in ("/run", "/var/lib/multihook", "/var/lib/shorewall", "/etc"):
            tool("mount", "-t", "tmpfs", "-o", "mode=755", "place", folder)
        tool("cp", "-aT", "/tmp/etc-of-a-place", "/etc")
        tool("rm", "-r", "/tmp/etc-of-a-place")
        tool("mount", "-t", "sysfs", "sysfs", "/sys")
        os.mkdir("/run/network")
        ip("link set lo up")
        sysctl("net.ipv6.conf.default.accept_dad", 0)
        sysctl("net.ipv6.conf.default.router_solicitations", 0)
        # As systemd sets them.
        sysctl("net.ipv4.conf.default.rp_filter", 2)
        sysctl("net.unix.max_dgram_qlen", 512)
        self._rows = build()

    def measure(self, name: str) -> Sample:
        """Prepare, run, check."""
        row = self._rows[name]
        commands = row.prepare()
        sample = timed(commands)
        row.check()
        return sample

    def count(self, name: str) -> int:
        """The same, counting the instructions of it and of all processes that it starts (user space only)."""
        row = self._rows[name]
        total = 0
        for command in row.prepare():
            folder = Path("/run/callgrind")
            folder.mkdir()
            words = ("--tool=callgrind", "--trace-children=yes", f"--callgrind-out-file={folder}/%p")
            done = subprocess.run(
                ["valgrind", *words, *command.argv], env=command.env, stdin=subprocess.DEVNULL, capture_output=True
            )
            if done.returncode:
                raise WrongError(f"{name} under callgrind: {done.stderr.decode(errors='replace')[-500:]}")
            total += _counted(folder)
        row.check()
        return total


def _counted(folder: Path) -> int:
    """The instructions in callgrind's files, which go; a child that was forked begins with the count of its parent."""
    by_program: dict[str, int] = {}
    for file in folder.iterdir():
        lines = file.read_text().splitlines()
        program = next(line for line in lines if line.startswith("cmd:"))
        counted = sum(int(line.split()[1]) for line in lines if line.startswith("totals:"))
        by_program[program] = max(counted, by_program.get(program, 0))
        file.unlink()
    folder.rmdir()
    return sum(by_program.values())


def place(build: Callable[[], dict[str, Row]]) -> Child:
    """A place with these rows, in network and mount namespaces of its own."""
    return Child(lambda: Place(build), CLONE_NEWNS | CLONE_NEWNET)


def timed(commands: list[Command]) -> Sample:
    """Start all of them at once; the time until the last one has ended.

    What they have left running by then costs their caller no time, but it is waited for, and its CPU time is theirs.
    """
    before = _children()
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    cpu, bad = 0.0, []
    start = time.perf_counter()
    # The C library's vfork: what a start costs does not depend on the size of this process.
    pids = [os.posix_spawnp(command.argv[0], command.argv, command.env, file_actions=actions) for command in commands]
    for pid, command in zip(pids, commands, strict=True):
        _, status, usage = os.wait4(pid, 0)
        cpu += usage.ru_utime + usage.ru_stime
        if status:
            bad.append(f"{' '.join(command.argv)}: status {os.waitstatus_to_exitcode(status)}")
    wall = time.perf_counter() - start
    cpu += sum(map(_cpu_of, _children() - before))
    if bad:
        raise WrongError(f"{bad[0]}\n{Path(OUTPUT).read_text(errors='replace')[-1000:]}")
    return Sample(wall, cpu)


def _children() -> set[int]:
    """Our processes, and those whose parents have ended."""
    found = set()
    for name in os.listdir("/proc"):
        try:
            status = Path("/proc", name, "stat").read_text() if name.isdigit() else ""
        except OSError:
            continue  # it has ended meanwhile
        if status and int(status.rpartition(")")[2].split()[1]) == os.getpid():
            found.add(int(name))
    return found


def _cpu_of(pid: int) -> float:
    """Seconds of CPU of a process that is about to end; 0 for one that goes on."""
    end = time.monotonic() + STRAYS_SECONDS
    while time.monotonic() < end:
        done, _, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return usage.ru_utime + usage.ru_stime
        time.sleep(0.001)
    return 0.0


# -- tools for building, preparing and checking; none of it is measured --


def tool(*argv: str, input: str | None = None) -> str:
    """Run a program; its output; WrongError when it fails."""
    done = subprocess.run(argv, input=input or "", capture_output=True, text=True, env={"PATH": PATH})
    if done.returncode:
        raise WrongError(f"{' '.join(argv)}: status {done.returncode}: {done.stdout}{done.stderr}{input or ''}"[:2000])
    return done.stdout


def ip(*lines: str) -> None:
    """Commands of ip(8) without the word ip, in one batch."""
    tool("ip", "-batch", "-", input="\n".join(lines) + "\n")


def sysctl(name: str, value: object) -> None:
    """Set one, by its name with dots."""
    Path("/proc/sys", *name.split(".")).write_text(str(value))


def rules() -> list[str]:
    """The rules, with numbers instead of names."""
    return tool("ip", "-N", "rule").replace("\t", " ").splitlines()


def routes(table: int | str) -> list[str]:
    """The routes of one table, with numbers instead of names; none where there is no such table."""
    done = subprocess.run(["ip", "-N", "route", "show", "table", str(table)], capture_output=True, text=True)
    return [line.strip() for line in done.stdout.splitlines()]


def expect(what: str, condition: object, *there: object) -> None:
    """WrongError unless the condition holds; `there` is what there was instead."""
    if not condition:
        raise WrongError("; ".join([what, *(str(one) for one in there)]))

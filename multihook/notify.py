"""Runs the administrator's programs in notify.d, one after the other, once for each piece of news of a link.

A process of its own, and no run waits for it: a unit of its own where systemd runs, so that it
neither ends with pppd's nor keeps that from ending.  News of one link are told in their order,
those of different links at the same time.  A program that hangs, fails, prints without end or
leaves processes behind keeps no other from its turn.
"""

import os
import select
import signal
import subprocess
import time
from fcntl import LOCK_EX, LOCK_NB, flock

from multihook import files, journal, news, repeats
from multihook.address import is_link_name
from multihook.paths import NEWS, NOTIFY

SECONDS = 60.0
# What a program gets between TERM and KILL.
GRACE_SECONDS = 5.0
_SYSTEMD_RUN = "/usr/bin/systemd-run"
_SYSTEMD_SECONDS = 10
_OUTPUT_BYTES = 4096
_OUTPUT_LINES = 8
_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


def main(arguments: list[str]) -> None:
    """`notify [--here] LINK ...`: tell what waits of these links; --here: no unit is made for that."""
    os.closerange(3, 1 << 16)  # what pppd's other scripts left open; ours are closed by exec
    os.chdir("/")
    os.umask(0o022)
    links = [word for word in arguments if is_link_name(word)]
    if "--here" not in arguments and _by_systemd(links):
        return
    serve(links)


def _by_systemd(links: list[str]) -> bool:
    """Hand over to a unit; False where that cannot be, then it is done here."""
    if not os.path.isdir("/run/systemd/system"):  # sd_booted(3)
        return False
    what = f"--description=multihook notify.d: {', '.join(links)}"
    command = [_SYSTEMD_RUN, "--no-block", "--collect", "--quiet", what, news.PROGRAM, "--here", *links]
    null = subprocess.DEVNULL
    try:
        done = subprocess.run(
            command, stdin=null, stdout=null, stderr=null, env=news.SURROUNDINGS, timeout=_SYSTEMD_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def serve(links: list[str]) -> None:
    """Tell the news of these links, each in a process of its own; returns when all are told."""
    children = []
    for link in links[1:]:
        child = os.fork()
        if not child:
            try:
                serve_one(link)
            finally:
                os._exit(0)
        children.append(child)
    for link in links[:1]:
        serve_one(link)
    for child in children:
        os.waitpid(child, 0)


def serve_one(link: str) -> None:
    """Tell the news of one link until there are none; a process that finds another at it leaves them to that one."""
    handled: set[str] = set()
    while left := [name for name in news.waiting(link) if name not in handled]:
        try:
            lock = os.open(f"{NEWS}/{link}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            repeats.warn(f"{link}: the programs in notify.d are not run: {files.explain(error)}")
            return
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return  # it looks once more when it has given the lock back
        try:
            while left := [name for name in news.waiting(link) if name not in handled]:
                _tell(link, left[0])
                handled.add(left[0])  # where it cannot be removed it is not told for ever
                _drop(left[0])
        finally:
            os.close(lock)


def _drop(name: str) -> None:
    try:
        news.done(name)
    except OSError as error:
        repeats.warn(f"{files.explain(error)}; it may be told once more")


def _tell(link: str, name: str) -> None:
    told = news.take(name)
    if told is None:
        journal.write(journal.WARNING, f"{link}: a damaged piece of news is dropped")
        return
    for program in programs():
        run(link, program, {**news.SURROUNDINGS, **told})


def programs() -> list[str]:
    """The programs in notify.d that may be run, in the order of their names; what may not is said once.

    As run-parts(8) a name of letters, digits, - and _, and only what is executable.  Root's
    alone, like the folder and everything that leads there: only root can write it.
    """
    found = []
    try:
        files.folder(NOTIFY, 0o755)
        names = sorted(os.listdir(files.real(NOTIFY)))
    except OSError as error:
        repeats.warn(f"no program is run: {files.explain(error)}")
        return []
    for name in names:
        path = f"{NOTIFY}/{name}"
        if not name or not _NAME.issuperset(name):
            continue
        try:
            if _may_run(path):
                found.append(path)
        except OSError as error:
            why = files.explain(error)
            if error.filename and error.filename != path:  # what it leads to, or a folder on the way
                why = f"{path}: {why}"
            repeats.warn(f"{why}; it is not run")
    return found


def _may_run(path: str) -> bool:
    """Whether it is a program; raises files.Untrusted where it must not be run."""
    status = os.lstat(files.real(path))
    kind = status.st_mode & 0o170000
    if kind == 0o040000 or (kind == 0o100000 and not status.st_mode & 0o111):
        return False
    if kind != 0o100000:
        raise files.untrusted(path, "is not a plain file")
    if status.st_uid not in (0, os.geteuid()):
        raise files.untrusted(path, f"belongs to user {status.st_uid}, not to root")
    if status.st_mode & 0o022:
        raise files.untrusted(path, "can be written by others than its owner")
    if status.st_mode & 0o6000:
        raise files.untrusted(path, "is set-user-ID or set-group-ID")
    return True


def run(link: str, program: str, environment: dict[str, str]) -> None:
    """Run one program to its end, or to the end of its time; say what it said and how it ended."""
    shown = f"{link}: notify.d/{program.rpartition('/')[2]}"
    try:
        child = subprocess.Popen(
            [program], env=environment, cwd="/", start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except OSError as error:
        journal.write(journal.WARNING, f"{shown}: cannot be run: {error.strerror}")
        return
    assert child.stdout is not None
    output = bytearray()
    is_late = not _until_its_end(child, child.stdout.fileno(), output, SECONDS)
    if is_late:
        os.killpg(child.pid, signal.SIGTERM)
        _until_its_end(child, child.stdout.fileno(), output, GRACE_SECONDS)
    # What it left running is of its group, whose number is not given away before it is waited for.
    os.killpg(child.pid, signal.SIGKILL)
    status = child.wait()
    child.stdout.close()
    _say(shown, output, status, is_late=is_late)


def _until_its_end(child: "subprocess.Popen[bytes]", pipe: int, output: bytearray, seconds: float) -> bool:
    """Take its output until it ends, and drop what is too much; False when it has not ended in time."""
    deadline = time.monotonic() + seconds
    end = os.pidfd_open(child.pid)
    try:
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        poll.register(end, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            ready = [fd for fd, _ in poll.poll(left * 1000)]
            if pipe in ready:
                part = os.read(pipe, 1 << 16)
                output += part[: _OUTPUT_BYTES + 1 - len(output)]
                if not part:
                    poll.unregister(pipe)
                if end not in ready or (part and len(output) <= _OUTPUT_BYTES):
                    continue
            if end in ready:
                return True
        return False
    finally:
        os.close(end)


def _say(shown: str, output: bytearray, status: int, *, is_late: bool) -> None:
    lines = [line for line in output[:_OUTPUT_BYTES].decode("utf-8", "replace").split("\n") if line.strip()]
    for line in lines[:_OUTPUT_LINES]:
        journal.write(journal.INFO, f"{shown}: {journal.foreign(line)}")
    if len(lines) > _OUTPUT_LINES or len(output) > _OUTPUT_BYTES:
        journal.write(journal.INFO, f"{shown}: (more output is not shown)")
    if is_late:
        journal.write(journal.WARNING, f"{shown}: was ended: it took longer than {SECONDS:.0f} s")
    elif status < 0:
        journal.write(journal.WARNING, f"{shown}: was ended by signal {-status}")
    elif status:
        journal.write(journal.WARNING, f"{shown}: ended with exit status {status}")

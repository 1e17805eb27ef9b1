"""What the sub-commands that change something have in common: root, the lock, the log, the exit status."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EROFS
from inspect import signature
from typing import Any

import click
import structlog
from filelock import FileLock, Timeout

from multihook import journal, lock, paths, spool
from multihook.files import explain
from multihook.kernel.rtnetlink import Door, Refused
from multihook.run import ElsewhereError

FAILED = 1
WRONG_CONFIGURATION = 78  # EX_CONFIG, sysexits.h

# A run takes milliseconds; 200 events at once a second or two.
_PATIENCE_SECONDS = 30.0

_PRIORITIES = {"error": journal.ERR, "warning": journal.WARNING, "info": journal.INFO}


def _to_journal(_logger: object, method: str, event: structlog.types.EventDict) -> str:
    """The last of structlog's processors: one line to the journal, the event and what is known of it."""
    line = str(event.pop("event"))
    known = ", ".join(f"{name} {journal.foreign(str(value))}" for name, value in sorted(event.items()))
    journal.write(_PRIORITIES.get(method, journal.INFO), f"{line} ({known})" if known else line)
    raise structlog.DropEvent


def logger() -> "structlog.typing.FilteringBoundLogger":
    """The log of what an administrator does by hand; hooks write theirs themselves."""
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, _to_journal])
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return log


def fail(line: str, status: int = FAILED) -> None:
    """Say what is wrong on standard error and end."""
    click.echo(f"multihook: {line}", err=True)
    sys.exit(status)


def _filelock() -> FileLock:
    """filelock's lock on the hooks' file, which stays root's alone (filelock 3.9 of Debian 12 knows no mode)."""
    options: dict[str, Any] = {"mode": 0o600} if "mode" in signature(FileLock.__init__).parameters else {}
    return FileLock(paths.LOCK, timeout=_PATIENCE_SECONDS, **options)


@contextmanager
def _lock() -> Iterator[None]:
    """The hooks' lock, through filelock; where /run is read-only, which that cannot open, as hooks take it."""
    through_filelock = _filelock()
    held = -1
    try:
        through_filelock.acquire()
    except OSError as error:
        if error.errno != EROFS:
            raise
        held = lock.take(_PATIENCE_SECONDS)
    try:
        yield
    finally:
        if held >= 0:
            lock.give(held)
        else:
            through_filelock.release()


@contextmanager
def working() -> Iterator[Door]:
    """Hold the lock and a door to the kernel; what goes wrong ends the command with one line."""
    try:
        spool.prepare()
        with _lock():
            door = Door()
            try:
                yield door
            finally:
                door.close()
    except (Timeout, lock.Busy):
        fail(f"the lock was not free for {_PATIENCE_SECONDS:.0f} s; `multihook status` names who holds it")
    except PermissionError as error:
        fail(f"{explain(error)}; this needs root")
    except ElsewhereError as error:
        fail(str(error))
    except Refused as error:
        fail(f"the kernel does not answer: {error.reason}")
    except OSError as error:
        fail(explain(error))

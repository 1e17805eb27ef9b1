"""The one lock: the process that holds it is the only one that changes anything.

flock(2), so the kernel frees it when its holder dies; the file is in a folder that only root
can enter, so no other user can hold it.  The console takes the same lock through filelock.
"""

from _signal import ITIMER_REAL, SIG_DFL, SIG_UNBLOCK, SIGALRM, pthread_sigmask, setitimer, signal  # type: ignore[import-not-found]  # signal(3py) imports enum: 2 ms
from errno import EROFS, EWOULDBLOCK
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from posix import O_CLOEXEC, O_CREAT, O_NOFOLLOW, O_RDONLY, O_RDWR, close, fstat, stat
from posix import open as posix_open

from multihook.paths import LOCK

# pppd waits 5 s for its children when it ends (child-timeout in pppd(8)).
PATIENCE_SECONDS = 5.0


class Busy(Exception):
    """Another process holds the lock, and went on holding it for as long as we may wait."""


class _Alarm(Exception):
    pass


def _ring(*_: object) -> None:
    raise _Alarm


def _open() -> int:
    try:
        return posix_open(LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno != EROFS:
            raise
        return posix_open(LOCK, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)  # flock(2) asks for no more


def _is_current(fd: int) -> bool:
    """Whether the file we locked is still the one at its path: /run may have been wiped."""
    try:
        there = stat(LOCK)
    except OSError:
        return False
    mine = fstat(fd)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


def take(patience: float) -> int:
    """Take the lock, waiting at most `patience` seconds (0: not at all); returns its descriptor.

    Raises Busy, and OSError when the file cannot be opened.  The descriptor is closed on exec,
    so no child ever inherits the lock.
    """
    if patience > 0:
        signal(SIGALRM, _ring)
        pthread_sigmask(SIG_UNBLOCK, (SIGALRM,))  # masks are inherited over exec
        setitimer(ITIMER_REAL, patience)
    try:
        while True:
            fd = _open()
            try:
                flock(fd, LOCK_EX if patience > 0 else LOCK_EX | LOCK_NB)
            except OSError as error:
                close(fd)
                if error.errno == EWOULDBLOCK:
                    raise Busy from None
                raise
            except _Alarm:
                close(fd)
                raise
            if _is_current(fd):
                return fd
            close(fd)
    except _Alarm:
        raise Busy from None
    finally:
        if patience > 0:
            setitimer(ITIMER_REAL, 0)
            signal(SIGALRM, SIG_DFL)


def give(fd: int) -> None:
    """Give the lock back, also where a child of ours has yet to close its copy of the descriptor."""
    flock(fd, LOCK_UN)
    close(fd)

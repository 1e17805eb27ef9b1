"""Running nft(8), for what only it can say to the kernel: rules.  Seldom: when our table has to be made anew."""

from errno import ENOPKG
from posix import (
    MFD_CLOEXEC,
    POSIX_SPAWN_DUP2,
    X_OK,
    access,
    kill,
    lseek,
    memfd_create,
    pidfd_open,
    posix_spawn,
    waitpid,
    waitstatus_to_exitcode,
)
from posix import close as posix_close
from posix import read as posix_read
from posix import write as posix_write
from select import POLLIN, poll

from multihook.journal import foreign
from multihook.kernel.rtnetlink import Refused

_PLACES = ("/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft")
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
# It takes 3 ms, and some 100 where the kernel has to load modules; other hooks wait 5 s for us (lock).
_PATIENCE_MS = 4000
_SIGKILL = 9


def load(text: str) -> None:
    """`nft -f -`: all of the text in one transaction, or nothing.

    Raises Refused: ENOPKG where trying again does not help (no nft, or nft says no).
    """
    program = next((place for place in _PLACES if access(place, X_OK)), "")
    if not program:
        raise Refused(ENOPKG, 'nft is not installed: install nftables, or set snat = false for each link')
    said, status = _run(program, text.encode())
    if status == -_SIGKILL:
        raise Refused(ENOPKG, f"nft did not end within {_PATIENCE_MS // 1000} s")
    if status:
        first = said.decode("latin-1").partition("\n")[0]
        raise Refused(ENOPKG, f"nft: {foreign(first) or f'exit status {status}'}")


def _run(program: str, text: bytes) -> tuple[bytes, int]:
    """Run nft with this on its standard input; (the beginning of what it said, exit status)."""
    given, output = memfd_create("nft", MFD_CLOEXEC), memfd_create("said", MFD_CLOEXEC)
    try:
        while text:
            text = text[posix_write(given, text) :]
        lseek(given, 0, 0)
        actions = [(POSIX_SPAWN_DUP2, given, 0), (POSIX_SPAWN_DUP2, output, 1), (POSIX_SPAWN_DUP2, output, 2)]
        child = posix_spawn(program, [program, "-f", "-"], _ENVIRONMENT, file_actions=actions)
        status = _await(child)
        lseek(output, 0, 0)
        return posix_read(output, 4096), status
    finally:
        posix_close(given)
        posix_close(output)


def _await(child: int) -> int:
    """The exit status of a child; one that takes too long is ended."""
    watch = pidfd_open(child)
    try:
        waiting = poll()
        waiting.register(watch, POLLIN)
        if not waiting.poll(_PATIENCE_MS):
            kill(child, _SIGKILL)
        return waitstatus_to_exitcode(waitpid(child, 0)[1])
    except ChildProcessError:
        return 0  # our caller ignores SIGCHLD, so its status is lost; what it did is read back
    finally:
        posix_close(watch)

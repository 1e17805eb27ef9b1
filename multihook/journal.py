"""The log: one line an occasion, as one datagram to /dev/log, never waiting for anybody.

syslog(3) would block while the journal hangs, so the socket is ours and does not block:
a line that the journal does not take is dropped.
"""

from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, socket
from posix import getpid

SOCKET = "/dev/log"
_DAEMON = 3 << 3
ERR = 3
WARNING = 4
INFO = 6

FOREIGN_BYTES = 200
_LINE_BYTES = 1000


def foreign(value: str) -> str:
    """A foreign value fit for one line of log: control characters escaped, at most 200 bytes."""
    quoted = ascii(value)[1:-1]
    if len(quoted) > FOREIGN_BYTES:
        return quoted[: FOREIGN_BYTES - 3] + "..."
    return quoted


def write(priority: int, line: str) -> None:
    """Send one line with facility daemon and identifier multihook (RFC 3164, without a time)."""
    safe = line if line.isprintable() else ascii(line)[1:-1]
    data = f"<{_DAEMON | priority}>multihook[{getpid()}]: {safe}".encode("utf-8", "backslashreplace")[:_LINE_BYTES]
    try:
        door = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
        try:
            door.sendto(data, SOCKET)
        finally:
            door.close()
    except OSError:
        return  # no journal listens, or not now: routing does not wait for it

"""Warnings that come again and again: said the first, second, fourth, eighth ... time, with their count.

A DHCP server that sends rubbish does so at each renewal, for months.
"""

from zlib import crc32

from multihook import journal
from multihook.files import folder, number, read, replace
from multihook.paths import PRIVATE, REPEATS, RUN

_MOST = 64


def _load() -> dict[int, int]:
    counts = {}
    try:
        for line in read(REPEATS, 1 << 16).decode("ascii", "replace").splitlines():
            key, _, count = map(number, line.partition(" "))
            if key is not None and count is not None:
                counts[key] = count
    except OSError:
        pass  # none yet, or not to be believed: then this is the first time
    return counts


def warn(line: str, priority: int = journal.WARNING) -> None:
    """Log a line unless it has been logged often enough in this boot."""
    counts = _load()
    key = crc32(line.encode("utf-8", "backslashreplace"))
    count = counts.pop(key, 0) + 1
    counts[key] = count  # the newest last
    kept = list(counts.items())[-_MOST:]
    try:
        folder(RUN, 0o755)
        folder(PRIVATE, 0o700)
        replace(REPEATS, "".join(f"{key} {count}\n" for key, count in kept).encode(), 0o600)
    except OSError:
        count = 1  # it cannot be counted, so it must be said
    if count & count - 1 == 0:
        journal.write(priority, line if count == 1 else f"{line} ({count} times)")

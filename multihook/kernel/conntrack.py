"""Connection tracking over netlink: the entries that translate to or from an address, found and deleted.

The attributes are those of linux/netfilter/nfnetlink_conntrack.h.  The kernel filters a dump by
one field of a tuple (CTA_FILTER, Linux 5.8) and by status (5.15), so a hundred thousand entries of
others cost this process nothing.  A kernel that does not filter gives all of them, and they are
sorted out here.
"""

from _socket import AF_INET
from _struct import Struct
from errno import EINVAL, EOPNOTSUPP
from posix import O_CLOEXEC, O_RDONLY, close, read
from posix import open as posix_open
from time import monotonic

from multihook.files import number
from multihook.kernel.rtnetlink import Answers, Door, Refused, attribute, attributes, is_absent, u32
from multihook.paths import CONNTRACK_COUNT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_SUBSYSTEM = 1 << 8
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2
_NESTED = 0x8000
# struct nfgenmsg: family, version, resource; an answer's attributes begin behind it.
_GENERIC = Struct("=BBH").pack(AF_INET, 0, 0)
_GENERIC_SIZE = 4

_ORIGINAL, _REPLY = 1, 2  # the tuples of both directions; their flags in a filter have the same numbers
_STATUS, _ID, _ZONE, _FILTER, _STATUS_MASK = 3, 12, 18, 25, 26
_TUPLE_IP, _SOURCE, _DESTINATION = 1, 1, 2
_BY_DESTINATION = 1 << 1
_BE32 = Struct(">L")

# enum ip_conntrack_status: what was done to an entry's first packet.
SNAT, DNAT = 1 << 4, 1 << 5
# Of a kind: the direction whose destination is our address, and the one whose source would be it
# without translation.
_DIRECTIONS = {SNAT: (_REPLY, _ORIGINAL), DNAT: (_ORIGINAL, _REPLY)}

# The kernel walks its whole table for a dump, 9 ms with the 262144 buckets of a machine with 4 GB.
# Up to this many entries one walk and a look at all of them is faster than two that are filtered.
_FEW = 5000
# Deletions asked for at once: even if each is refused, the answers fit into the socket's buffer.
_BATCH = 128


def count() -> int:
    """How many entries this network namespace has; 0 too where connection tracking is not loaded."""
    try:
        fd = posix_open(CONNTRACK_COUNT, O_RDONLY | O_CLOEXEC)
    except OSError:
        return 0
    try:
        return number(read(fd, 32).decode("ascii", "replace").strip()) or 0
    finally:
        close(fd)


def translated(door: Door, address: bytes, until: float) -> tuple[dict[int, list[bytes]], bool]:
    """The entries translated to an IPv4 address (SNAT) and from it (DNAT), each as delete() takes it.

    A connection of this machine's own by that address is neither.  Where there are many they are
    looked for until that time of the monotonic clock, and the other value tells whether these are
    all.  Raises Refused, OSError.
    """
    if count() <= _FEW:
        answers = door.dump(_GET, _GENERIC)
        return {kind: _sorted_out(answers, address, *_DIRECTIONS[kind]) for kind in (SNAT, DNAT)}, True
    found: dict[int, list[bytes]] = {}
    for kind in (SNAT, DNAT):
        found[kind] = []
        for entries in _filtered(door, address, kind):
            found[kind] += entries
            if monotonic() >= until:
                return found, False
    return found, True


def _filtered(door: Door, address: bytes, kind: int) -> "Iterator[list[bytes]]":
    """Those translated in this way, some at a time; sorted out by the kernel, if it can do that."""
    own = door.another()  # closed with all that is still to come, if the caller stops waiting
    try:
        parts = own.parts(_GET, _filter(address, kind))
        try:
            part = next(parts, None)
        except Refused as error:
            if error.errno not in (EINVAL, EOPNOTSUPP):
                raise
            parts = own.parts(_GET, _GENERIC)
            part = next(parts, None)
        while part is not None:
            yield _sorted_out(part, address, *_DIRECTIONS[kind])
            part = next(parts, None)
    finally:
        own.close()


def _filter(address: bytes, kind: int) -> bytes:
    ours = _DIRECTIONS[kind][0]
    end = attribute(_TUPLE_IP | _NESTED, attribute(_DESTINATION, address))
    body = _GENERIC + attribute(ours | _NESTED, end)
    body += attribute(_FILTER | _NESTED, u32(ours, _BY_DESTINATION))
    status = _BE32.pack(kind)
    return body + attribute(_STATUS, status) + attribute(_STATUS_MASK, status)


def _sorted_out(answers: Answers, address: bytes, ours: int, other: int) -> list[bytes]:
    found = []
    for message in answers.having(address):
        entry = attributes(message, _GENERIC_SIZE)
        source = _end(entry.get(other, b""), _SOURCE)
        if source and source != address == _end(entry.get(ours, b""), _DESTINATION):
            # The id tells it from most others with the same ends that come after it.
            name = attribute(_ORIGINAL | _NESTED, entry[_ORIGINAL])
            found.append(name + b"".join(attribute(kind, entry[kind]) for kind in (_ID, _ZONE) if kind in entry))
    return found


def _end(direction: bytes, which: int) -> bytes:
    """The source or destination address in a tuple."""
    return attributes(attributes(direction, 0).get(_TUPLE_IP, b""), 0).get(which, b"")


def delete(door: Door, entries: list[bytes]) -> None:
    """Delete entries; one that is gone already is as good as deleted.  Raises Refused, OSError."""
    for start in range(0, len(entries), _BATCH):
        try:
            door.change_all(_DELETE, [_GENERIC + entry for entry in entries[start : start + _BATCH]])
        except Refused as error:
            if not is_absent(error):
                raise

"""The door to netlink(7): one socket, requests out, answers and refusals back.

Our own 150 lines and not pyroute2, because importing that costs more than ten whole hook runs.
"""

from _bisect import bisect_right
from _socket import AF_NETLINK, SO_RCVTIMEO, SOCK_CLOEXEC, SOCK_RAW, SOL_SOCKET, socket
from _struct import Struct
from _struct import error as StructError  # type: ignore[attr-defined]  # typeshed leaves it out
from errno import EBADMSG, EINTR, ENODEV, ENOENT, EPERM, ESRCH, ETIMEDOUT
from posix import strerror

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    D = TypeVar("D", bound="Door")

NEWLINK, GETLINK, SETLINK = 16, 18, 19
GETADDR = 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWRULE, DELRULE, GETRULE = 32, 33, 34

REQUEST, MULTI, ACK = 0x1, 0x2, 0x4
DUMP_INTR = 0x10
DUMP = 0x300
REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800

_ERROR, _DONE = 2, 3
_SOL_NETLINK, _EXT_ACK, _STRICT_CHK = 270, 11, 12
_NLMSGERR_ATTR_MSG = 1
_ACK_TLVS, _CAPPED = 0x200, 0x100
_NESTED_MASK = 0x3FFF

HEADER = Struct("=LHHLL")
_HEADER_SIZE = 16
_SEQUENCE_AT = 8
_BEGIN = Struct("=LHH")
_ATTRIBUTE = Struct("=HH")
_INT = Struct("=i")
_TIMEVAL = Struct("ll")
U32 = Struct("=L")

# No error has a larger number (MAX_ERRNO in linux/err.h).
_LAST_ERRNO = 4095
# What reading bytes that make no sense ends in: too few of them, or an attribute that is not there.
SENSELESS = (StructError, LookupError, ValueError)

# No kernel keeps us waiting for long; a lost answer must not keep pppd or dhclient.
TIMEOUT_SECONDS = 5


class Refused(Exception):
    """The kernel said no: `errno`, and `reason`, its own words where it gives any."""

    def __init__(self, errno: int, reason: str) -> None:
        super().__init__(reason)
        self.errno = errno
        self.reason = reason


def senseless(what: str) -> Refused:
    """What to raise of an answer that cannot be read: nothing is known then, and nothing is done."""
    return Refused(EBADMSG, f"netlink gives {what} that makes no sense")


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute (struct nlattr), padded to four bytes."""
    length = 4 + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length & 3)


def u32(kind: int, value: int) -> bytes:
    """An attribute that holds one 32-bit number in the machine's order."""
    return attribute(kind, U32.pack(value))


def attributes(message: bytes, offset: int) -> dict[int, bytes]:
    """The attributes that follow a fixed header, by kind; the last one wins."""
    found = {}
    end = len(message)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        if length < 4:
            break
        found[kind & _NESTED_MASK] = message[offset + 4 : offset + length]
        offset += length + 3 & ~3
    return found


class Door:
    """One netlink socket.

    Raises Refused, also for an answer that makes no sense, and OSError when the kernel has no
    netlink for us.
    """

    PROTOCOL = 0  # NETLINK_ROUTE

    def __init__(self, make: "Callable[[int, int, int], socket] | None" = None) -> None:
        self._make = make or socket
        self._others: dict[type[Door], Door] = {}
        self._socket = self._make(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, self.PROTOCOL)
        # Of the kernel's own, not settimeout(): with that each of 100 messages would take a poll(2) more.
        self._socket.setsockopt(SOL_SOCKET, SO_RCVTIMEO, _TIMEVAL.pack(TIMEOUT_SECONDS, 0))
        # Strict checking makes the kernel obey the filters of a dump (Linux 4.20).
        self._socket.setsockopt(_SOL_NETLINK, _STRICT_CHK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._sequence = 0
        self._known: dict[object, dict[bytes, object]] = {}

    def known(self, what: object) -> "dict[bytes, Any]":
        """What messages of one kind meant that came by this door: a second look finds mostly the same ones."""
        return self._known.setdefault(what, {})

    def beside(self, kind: "type[D]") -> "D":
        """The door to another part of the kernel, made when it is first asked for, closed with this one."""
        found = self._others.get(kind)
        if found is None:
            found = self._others[kind] = kind(self._make)
        return found  # type: ignore[return-value]

    def another(self: "D") -> "D":
        """One more door of the same kind, to be closed by the caller."""
        return type(self)(self._make)

    def close(self) -> None:
        """Give the socket back."""
        for other in self._others.values():
            other.close()
        self._socket.close()

    def _send(self, kind: int, flags: int, body: bytes) -> int:
        self._sequence += 1
        message = HEADER.pack(_HEADER_SIZE + len(body), kind, REQUEST | flags, self._sequence, 0) + body
        self._socket.sendto(message, (0, 0))
        return self._sequence

    def _receive(self, size: int) -> bytes:
        try:
            return self._socket.recv(size)
        except BlockingIOError:
            raise TimeoutError(ETIMEDOUT, f"no answer from netlink for {TIMEOUT_SECONDS} s") from None

    def _answers(self, sequence: int) -> "Iterator[tuple[int, int, bytes]]":
        while True:
            data = self._receive(1 << 16)
            offset, end = 0, len(data)
            while offset + _HEADER_SIZE <= end:
                length, kind, flags, number, _ = HEADER.unpack_from(data, offset)
                if length < _HEADER_SIZE:
                    break
                if number == sequence:
                    yield kind, flags, data[offset + _HEADER_SIZE : offset + length]
                offset += length + 3 & ~3

    def change(self, kind: int, flags: int, body: bytes) -> None:
        """Ask for one change and wait until the kernel has made it; raises Refused."""
        sequence = self._send(kind, flags | ACK, body)
        for answer, answer_flags, message in self._answers(sequence):
            if answer == _ERROR:
                _raise_for(message, answer_flags)
                return

    def change_all(self, kind: int, bodies: list[bytes]) -> None:
        """Ask for many changes in one datagram and wait until the kernel has made them.

        The kernel goes on behind one that it refuses, and only the last one's refusal is raised
        (Refused): for changes that fail all for one reason, or singly for one that is no matter.
        """
        messages = []
        for body in bodies:
            self._sequence += 1
            flags = REQUEST | ACK if body is bodies[-1] else REQUEST
            head = HEADER.pack(_HEADER_SIZE + len(body), kind, flags, self._sequence, 0)
            messages.append(head + body + bytes(-len(body) & 3))
        self._socket.sendto(b"".join(messages), (0, 0))
        for answer, flags, message in self._answers(self._sequence):
            if answer == _ERROR:
                _raise_for(message, flags)
                return

    def get(self, kind: int, body: bytes) -> bytes:
        """One object, asked for by name; raises Refused when it is not there."""
        sequence = self._send(kind, 0, body)
        for answer, flags, message in self._answers(sequence):
            if answer == _ERROR:
                _raise_for(message, flags)
                continue
            return message
        raise Refused(ENOENT, "no answer")

    def dump(self, kind: int, body: bytes) -> "Answers":
        """All objects that fit the filter in `body`.

        A dump during which the kernel's table changed (NLM_F_DUMP_INTR) is taken again, at
        most five times: after that a slightly uneven picture is better than none, and what
        it missed is the subject of the event that follows.
        """
        for _ in range(5):
            answers, interrupted = self._dump(kind, body)
            if not interrupted:
                break
        return answers

    def _dump(self, kind: int, body: bytes) -> "tuple[Answers, bool]":
        sequence = self._send(kind, DUMP, body)
        answers = Answers()
        seen, is_whole = 0, False
        while not is_whole:
            data = self._receive(1 << 16)
            offsets, flags, is_whole = _walk(data, sequence)
            seen |= flags
            if offsets:
                answers.keep(data, offsets)
        return answers, bool(seen & DUMP_INTR)

    def parts(self, kind: int, body: bytes) -> "Iterator[Answers]":
        """As dump(), a datagram at a time and none of it again; who stops before the end has to close this door."""
        sequence = self._send(kind, DUMP, body)
        is_whole = False
        while not is_whole:
            data = self._receive(1 << 16)
            offsets, _, is_whole = _walk(data, sequence)
            answers = Answers()
            answers.keep(data, offsets)
            yield answers


class Answers:
    """What a dump gave: the kernel's datagrams as they came, read no further than a caller asks.

    With 300 links up there are 900 rules; to parse each attribute of each would cost a hook more
    than all its other work (2 us a rule, against 10 us for a search through all of them at once).
    """

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[tuple[bytes, list[int]]] = []

    def keep(self, data: bytes, offsets: list[int]) -> None:
        """Add a datagram and where its messages begin."""
        self._parts.append((data, offsets))

    def __iter__(self) -> "Iterator[bytes]":
        for data, offsets in self._parts:
            for offset in offsets:
                yield message_at(data, offset)

    def __len__(self) -> int:
        return sum(len(offsets) for _, offsets in self._parts)

    def backwards(self) -> "Iterator[bytes]":
        """The messages, the last one first."""
        for data, offsets in reversed(self._parts):
            for offset in reversed(offsets):
                yield message_at(data, offset)

    def having(self, mark: bytes) -> "Iterator[bytes]":
        """The messages that hold these bytes, each once."""
        for data, offsets in self._parts:
            last = -1
            position = data.find(mark)
            while position >= 0:
                index = bisect_right(offsets, position) - 1
                if index > last:
                    last = index
                    yield message_at(data, offsets[index])
                position = data.find(mark, position + 1)

    def by(self, where: int, length: int) -> "dict[bytes, list[tuple[bytes, int]]]":
        """Where the messages are (for message_at), by so many bytes at a fixed place of their header."""
        start, end = _HEADER_SIZE + where, _HEADER_SIZE + where + length
        found: dict[bytes, list[tuple[bytes, int]]] = {}
        for data, offsets in self._parts:
            for offset in offsets:
                value = data[offset + start : offset + end]
                if value in found:
                    found[value].append((data, offset))
                else:
                    found[value] = [(data, offset)]
        return found

    def count(self, mark: bytes) -> int:
        """How often these bytes occur in all of it."""
        return sum(data.count(mark) for data, _ in self._parts)


def _walk(data: bytes, sequence: int) -> tuple[list[int], int, bool]:
    """Where the messages of one datagram of a dump begin, all their flags, and whether the dump ends with it.

    A datagram that was said of an earlier question has none.  Raises Refused.
    """
    offsets: list[int] = []
    offset, last, seen, length = 0, len(data) - _HEADER_SIZE, 0, 0
    if last < 0 or U32.unpack_from(data, _SEQUENCE_AT)[0] != sequence:
        return offsets, 0, False
    keep, begin = offsets.append, _BEGIN.unpack_from
    # With 300 links up this loop is run 1200 times by each event.
    while offset <= last:
        length, kind, flags = begin(data, offset)
        seen |= flags
        if kind < 16:  # netlink's own words: DONE, ERROR
            _raise_for_end(data, offset)
            return offsets, seen, True
        if length < _HEADER_SIZE:
            raise senseless("a message")
        keep(offset)
        offset += length + 3 & ~3
    # recv(2) gives whole datagrams, and the kernel whole messages.
    if offset < len(data) or offsets[-1] + length > len(data):
        raise senseless("a message")
    return offsets, seen, False


def message_at(data: bytes, offset: int) -> bytes:
    """The body of the message that begins there."""
    return data[offset + _HEADER_SIZE : offset + U32.unpack_from(data, offset)[0]]


def _raise_for_end(data: bytes, offset: int) -> None:
    """Raise Refused when a dump ended in an error rather than because it was complete."""
    length, kind, flags, _, _ = HEADER.unpack_from(data, offset)
    message = data[offset + _HEADER_SIZE : offset + length]
    if kind == _ERROR:
        _raise_for(message, flags)
    elif kind == _DONE and len(message) >= 4:
        code = _errno(message)
        # A table that is not there has no routes.
        if code not in (0, ENOENT, EINTR):
            raise Refused(code, strerror(code))


def _errno(message: bytes) -> int:
    """The error that a message begins with; 0 where there is none."""
    code = -_INT.unpack_from(message)[0] if len(message) >= _INT.size else -1
    if not 0 <= code <= _LAST_ERRNO:
        raise senseless("an error")
    return code


def _raise_for(message: bytes, flags: int) -> None:
    code = _errno(message)
    if code == 0:
        return
    reason = strerror(code)
    if flags & _ACK_TLVS:
        # struct nlmsgerr: the error, then our own message (or, capped, its header only).
        length = _HEADER_SIZE if flags & _CAPPED or len(message) < 8 else U32.unpack_from(message, 4)[0]
        said = attributes(message, 4 + (length + 3 & ~3)).get(_NLMSGERR_ATTR_MSG)
        if said:
            reason = said.rstrip(b"\0").decode("ascii", "replace") or reason
    if code == EPERM:
        reason = "Operation not permitted (CAP_NET_ADMIN is needed)"
    raise Refused(code, reason)


def is_absent(error: Refused) -> bool:
    """Whether a refusal only says that what should go is gone already."""
    return error.errno in (ENOENT, ESRCH, ENODEV)



"""nf_tables over netlink: our table as it is, and its elements changed; rules are left to nft(8).

struct nfgenmsg and the attributes are those of linux/netfilter/nfnetlink.h and nf_tables.h.
"""

from _struct import Struct
from errno import ENOENT
from posix import _exit, closerange, fork
from zlib import crc32

from multihook.kernel.rtnetlink import (
    ACK,
    CREATE,
    HEADER,
    REQUEST,
    SENSELESS,
    Answers,
    Refused,
    _raise_for,
    attribute,
    attributes,
    senseless,
)
from multihook.kernel.rtnetlink import Door as NetlinkDoor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from multihook.kind import Kind

    # type, hook, priority, policy
    Hook = tuple[str, int, int, int]
    # flags of the table; by chain what hangs it into the kernel (None: only rules lead to it), its rules' comments
    Outline = tuple[int, dict[str, tuple["Hook | None", list[str]]]]

_SUBSYSTEM = 10 << 8
_GETTABLE, _DELTABLE, _GETCHAIN, _GETRULE, _GETSET = (_SUBSYSTEM | kind for kind in (1, 2, 4, 7, 10))
_NEWSETELEM, _GETSETELEM, _DELSETELEM = (_SUBSYSTEM | kind for kind in (12, 13, 14))
_BATCH_BEGIN, _BATCH_END, _ERROR = 16, 17, 2

_TABLE_NAME, _TABLE_FLAGS = 1, 2
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 1, 3, 4, 5, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_USERDATA = 1, 2, 7
_SET_NAME = 2
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS, _LIST_ELEMENT = 1, 2, 3, 1
_KEY, _DATA, _EXPRESSION, _KEY_END = 1, 2, 7, 10
_VALUE, _VERDICT, _VERDICT_CODE, _VERDICT_CHAIN = 1, 2, 1, 2
_EXPRESSION_DATA, _COUNTER_BYTES, _COUNTER_PACKETS = 2, 1, 2
_COMMENT = 0  # in the user data of a rule (libnftnl's udata.h)

_BE16, _BE32, _BE64, _SIGNED = Struct(">H"), Struct(">L"), Struct(">Q"), Struct(">l")
_NLATTR = Struct("=HH")
_INET = 1  # NFPROTO_INET, the family of tables for both IPv4 and IPv6
_GENERIC = bytes((_INET, 0, 0, 0))
# The generation of the whole ruleset stands in each answer, in these bytes of its head: nothing of ours.
_GENERIC_SIZE = 4
IFNAMSIZ = 16
GOTO = -4


class Element:
    """One element of a set or map.

    set       the name of the set or map
    key       as the kernel has it: each part padded to four bytes, see ifname()
    end       the last key of a range, or empty
    value     what a map has for it: an address, or the name of a chain
    verdict   where value is a chain, how a packet gets there
    raw       the kernel's own words for it (see Door.elements)
    link      the link it belongs to, or kind.MACHINE
    """

    __slots__ = ("end", "key", "link", "raw", "set", "value", "verdict")
    kind: "Kind"

    def __init__(
        self, set: str, key: bytes, end: bytes = b"", value: bytes = b"", verdict: int | None = None,
        raw: bytes = b"", link: str = "",
    ) -> None:  # fmt: skip
        self.set = set
        self.key = key
        self.end = end if end != key else b""
        self.value = value
        self.verdict = verdict
        self.raw = raw
        self.link = link

    def _identity(self) -> tuple[object, ...]:
        return (self.set, self.key, self.end, self.value, self.verdict)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Element) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())


def _name(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "surrogateescape")


def ifname(interface: str) -> bytes:
    """The name of an interface as a key has it."""
    return interface.encode("utf-8", "surrogateescape").ljust(IFNAMSIZ, b"\0")


def interface_of(key: bytes) -> str:
    """The interface whose name a key begins with."""
    return _name(key[:IFNAMSIZ])


def _encode(element: Element) -> bytes:
    body = attribute(_KEY, attribute(_VALUE, element.key))
    if element.end:
        body += attribute(_KEY_END, attribute(_VALUE, element.end))
    if element.verdict is not None:
        verdict = attribute(_VERDICT_CODE, _SIGNED.pack(element.verdict))
        verdict += attribute(_VERDICT_CHAIN, element.value + b"\0")
        body += attribute(_DATA, attribute(_VERDICT, verdict))
    elif element.value:
        body += attribute(_DATA, attribute(_VALUE, element.value))
    return attribute(_LIST_ELEMENT, body)


def decode(set: str, raw: bytes) -> Element:
    """An element as the kernel tells it (see elements()); raises Refused where it makes no sense."""
    try:
        return _decode(set, raw)
    except SENSELESS:
        raise senseless("an element") from None


def _decode(set: str, raw: bytes) -> Element:
    found = attributes(raw, 0)
    key = attributes(found[_KEY], 0)[_VALUE]
    end = attributes(found[_KEY_END], 0)[_VALUE] if _KEY_END in found else b""
    data = attributes(found.get(_DATA, b""), 0)
    value, code = data.get(_VALUE, b""), None
    if _VERDICT in data:
        verdict = attributes(data[_VERDICT], 0)
        code = _SIGNED.unpack(verdict[_VERDICT_CODE])[0]
        value = verdict.get(_VERDICT_CHAIN, b"").rstrip(b"\0")
    return Element(set, key, end, value, code, raw)


class Door(NetlinkDoor):
    """A socket to netfilter.  A change is one transaction: all of it, or nothing."""

    PROTOCOL = 12  # NETLINK_NETFILTER
    _waits = False

    def commit(self, table: str, old: "Iterable[Element]", new: "Iterable[Element]") -> None:
        """Take old elements out of their sets and put new ones in, in one transaction; raises Refused."""
        changes = [(_DELSETELEM, 0, element) for element in old] + [(_NEWSETELEM, CREATE, element) for element in new]
        messages = []
        for kind, flags, element in changes:
            body = _GENERIC + attribute(_LIST_TABLE, table.encode() + b"\0")
            body += attribute(_LIST_SET, element.set.encode() + b"\0") + attribute(_LIST_ELEMENTS, _encode(element))
            messages.append((kind, flags, body))
        self._transact(messages)

    def delete_table(self, table: str) -> None:
        """`nft delete table inet TABLE`, with all that is in it; raises Refused."""
        self._transact([(_DELTABLE, 0, _GENERIC + attribute(_TABLE_NAME, table.encode() + b"\0"))])

    def _transact(self, messages: list[tuple[int, int, bytes]]) -> None:
        self._sequence += 1
        bounds = bytes((0, 0)) + _BE16.pack(_SUBSYSTEM >> 8)
        parts = [self._message(_BATCH_BEGIN, 0, bounds)]
        for number, (kind, flags, body) in enumerate(messages, 1):
            parts.append(self._message(kind, flags | (ACK if number == len(messages) else 0), body))
            self._waits = self._waits or kind != _NEWSETELEM
        parts.append(self._message(_BATCH_END, 0, bounds))
        self._socket.sendto(b"".join(parts), (0, 0))
        # Refusals come in the order of the messages, the answer to the last one behind them.
        for answer, flags, message in self._answers(self._sequence):
            if answer == _ERROR:
                _raise_for(message, flags)
                return

    def _message(self, kind: int, flags: int, body: bytes) -> bytes:
        return HEADER.pack(HEADER.size + len(body), kind, REQUEST | flags, self._sequence, 0) + body

    def close(self) -> None:
        """Give the socket back.

        After something was deleted the kernel makes the process that closes a socket of netfilter wait
        until it is free, 6 to 16 ms (nf_tables_trans_destroy_flush_work).  A child of ours does
        the waiting: it has nothing but the socket, and ends with it.
        """
        if self._waits:
            try:
                child = fork()
            except OSError:
                child = -1  # then we wait ourselves
            if child == 0:
                try:
                    number = self._socket.fileno()
                    closerange(0, number)
                    closerange(number + 1, 0x7FFFFFFF)
                finally:
                    _exit(0)
        super().close()

    def ruleset(self, table: str) -> "Ruleset | None":
        """What the kernel says of a table, its chains and its rules; None when there is none.

        Raises Refused, EPERM for who is not root.
        """
        name = table.encode() + b"\0"
        try:
            head = self.get(_GETTABLE, _GENERIC + attribute(_TABLE_NAME, name))
        except Refused as error:
            if error.errno != ENOENT:
                raise
            return None
        chains = self.dump(_GETCHAIN, _GENERIC).having(attribute(_CHAIN_TABLE, name))
        rules = self.dump(_GETRULE, _GENERIC + attribute(_RULE_TABLE, name))
        return Ruleset(head, list(chains), list(rules))

    def sets(self, table: str) -> list[str]:
        """The names of a table's sets and maps, the kernel's own ("__set0") aside; raises Refused."""
        answers = self.dump(_GETSET, _GENERIC + attribute(_TABLE_NAME, table.encode() + b"\0"))
        names = [_name(attributes(message, _GENERIC_SIZE).get(_SET_NAME, b"")) for message in answers]
        return sorted(name for name in names if not name.startswith("__"))

    def elements(self, table: str, set: str) -> "Iterator[bytes]":
        """All elements of a set or map, each as decode() takes it; raises Refused."""
        return _split(self.dump(_GETSETELEM, _about(table, set)))

    def find(self, table: str, element: Element) -> Element | None:
        """What the set has under the element's key, or None; raises Refused."""
        wanted = _encode(Element(element.set, element.key, element.end))
        try:
            answer = self.get(_GETSETELEM, _about(table, element.set) + attribute(_LIST_ELEMENTS, wanted))
        except Refused as error:
            if error.errno != ENOENT:
                raise
            return None
        return next((decode(element.set, raw) for raw in _split([answer])), None)

    def counters(self, table: str, set: str) -> dict[bytes, tuple[int, int]]:
        """(packets, octets) by the key of each element of a set that counts; raises Refused."""
        found = {}
        for raw in self.elements(table, set):
            counter = attributes(attributes(attributes(raw, 0).get(_EXPRESSION, b""), 0).get(_EXPRESSION_DATA, b""), 0)
            numbers = [counter.get(kind, b"") for kind in (_COUNTER_PACKETS, _COUNTER_BYTES)]
            if all(len(number) == _BE64.size for number in numbers):
                packets, octets = (_BE64.unpack(number)[0] for number in numbers)
                found[decode(set, raw).key] = (packets, octets)
        return found


def _about(table: str, set: str) -> bytes:
    return _GENERIC + attribute(_LIST_TABLE, table.encode() + b"\0") + attribute(_LIST_SET, set.encode() + b"\0")


def _split(answers: "Answers | list[bytes]") -> "Iterator[bytes]":
    for message in answers:
        listed = attributes(message, _GENERIC_SIZE).get(_LIST_ELEMENTS, b"")
        offset = 0
        while offset + 4 <= len(listed):
            length = _NLATTR.unpack_from(listed, offset)[0]
            if length < 4:
                break
            yield listed[offset + 4 : offset + length]
            offset += length + 3 & ~3


class Ruleset:
    """A table, its chains and its rules, as the kernel told them."""

    __slots__ = ("_chains", "_rules", "_table")

    def __init__(self, table: bytes, chains: list[bytes], rules: list[bytes]) -> None:
        self._table = table
        self._chains = chains
        self._rules = rules

    def digest(self) -> int:
        """A number that stays the same as long as none of it is touched."""
        number = 0
        for message in (self._table, *self._chains, *self._rules):
            number = crc32(message[_GENERIC_SIZE:], number)
        return number

    def outline(self) -> "Outline":
        """The flags of the table; of each chain how it hangs in the kernel, and the comments of its rules.

        Raises Refused where that makes no sense.
        """
        try:
            return self._outline()
        except SENSELESS:
            raise senseless("a table") from None

    def _outline(self) -> "Outline":
        chains: dict[str, tuple[Hook | None, list[str]]] = {}
        for message in self._chains:
            found = attributes(message, _GENERIC_SIZE)
            chains[_name(found[_CHAIN_NAME])] = (_hook(found), [])
        for message in self._rules:
            found = attributes(message, _GENERIC_SIZE)
            # A chain that was made since the chains were read is a difference all the same.
            _, comments = chains.setdefault(_name(found[_RULE_CHAIN]), (None, []))
            comments.append(_comment(found.get(_RULE_USERDATA, b"")))
        flags = attributes(self._table, _GENERIC_SIZE).get(_TABLE_FLAGS, bytes(4))
        return _BE32.unpack(flags)[0], chains


def _hook(found: dict[int, bytes]) -> "Hook | None":
    if _CHAIN_HOOK not in found:
        return None
    hook = attributes(found[_CHAIN_HOOK], 0)
    number, policy = _BE32.unpack(hook[_HOOK_NUMBER])[0], _BE32.unpack(found[_CHAIN_POLICY])[0]
    return _name(found[_CHAIN_TYPE]), number, _SIGNED.unpack(hook[_HOOK_PRIORITY])[0], policy


def _comment(data: bytes) -> str:
    """The comment in a rule's user data: (type, length, value) in turn, one octet each for the first two."""
    offset = 0
    while offset + 2 <= len(data):
        kind, length = data[offset], data[offset + 1]
        if kind == _COMMENT:
            return _name(data[offset + 2 : offset + 2 + length])
        offset += 2 + length
    return ""

"""What the kernel answers over netlink: whole, cut off, out of order or turned into something else.

An input is the datagrams that the kernel gives, in their order, whatever it was asked.  The doors end in an
answer, in Refused or in an OSError; they never loop, and what they give can be shown and compared.
"""

from _struct import Struct
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from multihook.address import INET, INET6
from multihook.features import snat
from multihook.kernel import conntrack, facts, nftables, precedence, routes, rtnetlink, rules
from multihook.kernel.addresses import Address
from multihook.kernel.interfaces import Interface, names_in_group, vrf_tables
from multihook.kernel.nftables import Element
from multihook.kernel.routes import Route
from multihook.kernel.rtnetlink import Door, Refused
from multihook.kernel.rules import Rule
from targets.surroundings import SEPARATOR, check_line, patched

HEADER = Struct("=IHHII")
LENGTH_AND_SEQUENCE = Struct("=I4xI")
OURS = 109
TABLE = "multihook"
FOR_EVER = float("inf")
ORIGINAL, REPLY = 1, 2  # CTA_TUPLE_ORIG, CTA_TUPLE_REPLY
ADDRESS = bytes((203, 0, 113, 45))
# linux/err.h: no error of the kernel has a larger number.
MAX_ERRNO = 4095
U32 = 1 << 32


def place(folder: Path) -> AbstractContextManager[None]:
    """Nothing here has a file."""
    return nullcontext()


class Socket:
    """Stands where the kernel's socket is and gives one datagram after the other; then it is silent.

    A sequence number 0 in the input stands for that of the request, which a fuzzer cannot guess.
    `has_ended`: an end, or an error, was given as the answer to the last request; `given`: all so far.
    """

    def __init__(self, data: bytes) -> None:
        self._datagrams = data.split(SEPARATOR)
        self._sequence = 0
        self.has_ended = False
        self.given: list[bytes] = []

    def setsockopt(self, *options: object) -> None:
        """As the product sets it."""

    def close(self) -> None:
        """What was not read is of no interest."""

    def sendto(self, data: bytes, to: tuple[int, int]) -> None:
        """Take the number of the last request in a datagram."""
        offset = 0
        while offset + HEADER.size <= len(data):
            length, _, _, self._sequence, _ = HEADER.unpack_from(data, offset)
            assert length >= HEADER.size and offset + length <= len(data), "a request that no kernel takes"
            offset += length + 3 & ~3
        assert to == (0, 0)
        self.has_ended = False

    def recv(self, size: int) -> bytes:
        """The next datagram."""
        if not self._datagrams:
            raise BlockingIOError
        data = bytearray(self._datagrams.pop(0))
        offset = 0
        while offset + HEADER.size <= len(data):
            length, sequence = LENGTH_AND_SEQUENCE.unpack_from(data, offset)
            if not sequence:
                data[offset + 8 : offset + 12] = Struct("=I").pack(self._sequence)
            # The kernel puts nothing of one question into a datagram of another's.
            kind, of = HEADER.unpack_from(data, offset)[1], LENGTH_AND_SEQUENCE.unpack_from(data)[1]
            self.has_ended = self.has_ended or (kind < 16 and of == self._sequence)
            offset += max(length, HEADER.size) + 3 & ~3
        self.given.append(bytes(data))
        return bytes(data[:size])


class Kernel:
    """All sockets of one door give the same stream of datagrams."""

    def __init__(self, data: bytes) -> None:
        self.socket = Socket(data)

    def make(self, *words: int) -> Any:
        """As _socket.socket."""
        return self.socket

    def door(self) -> Door:
        """The product's own door to it."""
        return Door(self.make)

    def netfilter(self) -> nftables.Door:
        """The other one."""
        return nftables.Door(self.make)


class answered(suppress):
    """Lets pass what a door may raise, after a look at it."""

    def __init__(self) -> None:
        super().__init__(Refused, OSError)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if isinstance(error, Refused):
            assert 0 < error.errno <= MAX_ERRNO, error.errno
            assert error.reason and isinstance(error.reason, str)
        return super().__exit__(kind, error, trace)


def rtnetlink_answers(data: bytes) -> None:
    """One question of each kind, chosen by the first byte."""
    which, data = data[:1], data[1:]
    kernel = Kernel(data)
    door = kernel.door()
    with answered():
        if which == b"c":
            door.change(rtnetlink.NEWRULE, 0, bytes(12))
        elif which == b"a":
            door.change_all(rtnetlink.DELRULE, [bytes(12), bytes(13), bytes(12)])
        elif which == b"g":
            assert isinstance(door.get(rtnetlink.GETLINK, bytes(16)), bytes)
        else:
            check_answers(door.dump(rtnetlink.GETRULE, bytes(12)))
            assert kernel.socket.has_ended, "taken for whole, though its end never came"


def check_answers(answers: rtnetlink.Answers) -> None:
    """All ways to walk through a dump find the same messages."""
    messages = list(answers)
    assert len(messages) == len(answers) and list(answers.backwards()) == messages[::-1]
    for mark in (b"\0\0", b"\5\0\x15\0\x6d\0\0\0"):
        left = iter(messages)
        found = list(answers.having(mark))
        assert all(one in left for one in found), "a message twice, or one that is not there"
        assert sum(mark in one for one in messages) <= len(found)
    by = answers.by(4, 4)
    assert sum(map(len, by.values())) == len(messages)
    found = [rtnetlink.message_at(*place) for place in by.get(bytes(4), ())]
    assert all(one[4:8] == bytes(4) or len(one) < 8 for one in found)


def facts_answers(data: bytes) -> None:
    """Interfaces, addresses and main's routes, as a run looks at them."""
    kernel = Kernel(data)
    door = kernel.door()
    with answered():
        found = facts.Facts(door)
        for name, interface in found.interfaces.items():
            assert name == interface.name
            check_interface(interface)
            for address in found.addresses_of(interface, INET):
                check_address(address)
                assert address.index == interface.index
                assert interface.index in found.holders(address.local, INET)
            found.neighbours(interface, INET)
            found.is_on_segment(interface, ADDRESS, INET)
        for route in found.defaults(INET):
            check_route(route)
            assert not route.prefixlen
        for interface in found.interfaces.values():
            for route in found.main_by(interface, INET):
                check_route(route)
                assert route.oif == interface.index and route.type == routes.UNICAST
            found.default_by(interface, INET)
        assert all(isinstance(name, str) for name in names_in_group(door, OURS))
        assert all(0 < table < U32 for table in vrf_tables(door))


def check_interface(interface: Interface) -> None:
    """Whatever its name is: names are judged by who uses them."""
    assert -(1 << 31) <= interface.index < 1 << 31 and 0 <= interface.flags < U32 and 0 <= interface.group < U32
    assert isinstance(interface.name, str)


def check_address(address: Address) -> None:
    """Of one family, with a length that such an address has."""
    assert len(address.local) == 4 and len(address.peer) in (0, 4), (address.local, address.peer)
    assert 0 <= address.prefixlen <= 32 and 0 <= address.flags < U32
    assert isinstance(address.is_candidate, bool)


def routes_answers(data: bytes) -> None:
    """Routes of one table, the tables of a protocol, the default routes."""
    with answered():
        door = Kernel(data).door()
        for route in routes.dump(door, INET, table=200):
            check_route(route)
        for table in routes.tables_of(door, INET, OURS):
            assert 0 <= table < U32
        for route in routes.dump_defaults(door, INET6):
            check_route(route)
        routes.has_default(door, INET, 200)


def check_route(route: Route) -> None:
    """It can be written, read back as the same route, and shown in the words of ip(8)."""
    check_line(route.text("wan"))
    assert route.family in (INET, INET6)
    assert len(route.network) == (4 if route.family == INET else 16) and route.prefixlen <= len(route.network) * 8
    assert len(route.gateway) in (0, 4, 16) and len(route.prefsrc) in (0, len(route.network))
    assert 0 <= route.metric < U32 and 0 <= route.table < U32
    routes._message(route)


def rules_answers(data: bytes) -> None:
    """All rules, those of ours, and those in front of them."""
    with answered():
        dump = rules.Dump(Kernel(data).door(), INET)
        listed = dump.all()
        for rule in listed:
            check_rule(rule)
        ours = [rule for rule in listed if rule.protocol == OURS]
        found = dump.of_protocols(frozenset((OURS,)))
        assert all(rule in ours for rule in found) and dump.count(OURS) >= len(found)
        in_front = precedence.before(dump, OURS, 8000)
        assert all(rule.priority < 8000 for rule in in_front)


def check_rule(rule: Rule) -> None:
    """It can be written again and shown in the words of ip(8), and it is clear what it takes."""
    text = rule.text()
    assert "\n" not in text or "\n" in rule.iif + rule.oif, text
    assert isinstance(precedence.catches_everything(rule), bool) and isinstance(rule.looks_up, bool)
    mark = precedence.mark(rule)
    assert mark is None or all(0 <= value < U32 for value in mark)
    assert 0 <= rule.priority < U32 and 0 <= rule.table < U32 and 0 <= rule.protocol < 256 and 0 <= rule.dport < 65536
    for address, length in ((rule.source, rule.prefixlen), (rule.destination, rule.destination_len)):
        assert len(address) in (0, 4, 16) and 0 <= length <= (len(address) * 8 or 128), (address, length)


def nftables_answers(data: bytes) -> None:
    """Our table and its elements, chosen by the first byte as above."""
    which, data = data[:1], data[1:]
    door = Kernel(data).netfilter()
    asked = Element("snat4", nftables.ifname("ppp0"))
    with answered():
        if which == b"e":
            for raw in door.elements(TABLE, "snat4"):
                check_element(nftables.decode("snat4", raw))
        elif which == b"f":
            found = door.find(TABLE, asked)
            if found is not None:
                check_element(found)
        elif which == b"c":
            for packets, octets in door.counters(TABLE, "stopped4").values():
                assert 0 <= packets < 1 << 64 and 0 <= octets < 1 << 64
        elif which == b"w":
            door.commit(TABLE, [asked], [Element("snat4", nftables.ifname("ppp0"), value=ADDRESS)])
        else:
            check_ruleset(door.ruleset(TABLE))


def check_element(element: Element) -> None:
    """It can be shown, compared and deleted again."""
    assert isinstance(snat._SETS[0].shown(element), str) and hash(element) == hash(element) and element == element
    nftables._encode(element)


def check_ruleset(found: nftables.Ruleset | None) -> None:
    """Its outline is made of what an outline of ours is made of, so that the two can be compared."""
    if found is None:
        return
    assert 0 <= found.digest() < U32
    flags, chains = found.outline()
    assert 0 <= flags < U32
    for name, (hook, comments) in chains.items():
        assert isinstance(name, str) and all(isinstance(comment, str) for comment in comments)
        assert hook is None or (isinstance(hook[0], str) and all(isinstance(one, int) for one in hook[1:]))


def conntrack_answers(data: bytes) -> None:
    """The connections of an address, and of no other, and their end; many of them where the first byte says so."""
    kernel = Kernel(data[1:])
    door = kernel.netfilter()
    many = 1 << 20 if data[:1] == b"m" else 1
    with patched((conntrack, "count", lambda: many)), answered():
        found, is_all = conntrack.translated(door, ADDRESS, FOR_EVER)
        assert is_all
        given = kernel.socket.given
        for kind, entries in found.items():
            for entry in entries:
                tuples = [value for number, value in listed_in(entry) if number == ORIGINAL]
                assert len(tuples) == 1 and is_translated(given, kind, tuples[0]), "somebody else's connection"
            conntrack.delete(door, entries)


def is_translated(datagrams: list[bytes], kind: int, original: bytes) -> bool:
    """Whether the kernel told of a connection with this tuple that is translated to (SNAT) or from the address."""
    ours, other = (REPLY, ORIGINAL) if kind == conntrack.SNAT else (ORIGINAL, REPLY)
    for message in (one for datagram in datagrams for one in messages_in(datagram)):
        entry = dict(listed_in(message[4:]))
        if entry.get(ORIGINAL) == original:
            ends = [dict(listed_in(dict(listed_in(entry.get(one, b""))).get(1, b""))) for one in (ours, other)]
            if ends[0].get(2) == ADDRESS != ends[1].get(1, ADDRESS):
                return True
    return False


def messages_in(datagram: bytes) -> list[bytes]:
    """The messages of a datagram without their heads, as the kernel's nlmsg_for_each_msg walks through them."""
    found, offset = [], 0
    while offset + HEADER.size <= len(datagram):
        length = max(HEADER.unpack_from(datagram, offset)[0], HEADER.size)
        found.append(datagram[offset + HEADER.size : offset + length])
        offset += length + 3 & ~3
    return found


def listed_in(data: bytes) -> list[tuple[int, bytes]]:
    """Attributes, as the kernel's nla_for_each_attr walks through them."""
    found = []
    while len(data) >= 4:
        length, kind = Struct("=HH").unpack_from(data)
        if length < 4:
            break
        found.append((kind & 0x3FFF, data[4:length]))
        data = data[length + 3 & ~3 :]
    return found

"""A painted kernel: what stands where the product has its socket.

Painted answers dumps and makes changes in netlink's own messages, as the kernel does as far as ours go
(tests/kernel asks the real one; test_facts.py, that what is read from it is what was painted).  It imports only
what is built into the interpreter, because the test of the hot path runs it too, and builds its messages by
itself, so that a codec that reads wrongly shows.
"""

from _socket import AF_INET, AF_INET6, SO_RCVTIMEO, SOL_SOCKET, inet_pton
from _struct import Struct
from errno import EEXIST, EINVAL, ENODEV, ENOENT, EPERM, ESRCH

from painted_nft import PaintedNft

from multihook.address import INET, parse, text
from multihook.kernel import nft, nftables, routes, rtnetlink, rules
from multihook.kernel.facts import Facts
from multihook.kernel.rtnetlink import Door, Refused

NEWLINK, GETLINK, GETADDR, NEWROUTE, DELROUTE, GETROUTE, NEWRULE, DELRULE, GETRULE = 16, 18, 22, 24, 25, 26, 32, 33, 34
ERROR, DONE = 2, 3
ACK, MULTI, DUMP, EXCL, APPEND = 0x4, 0x2, 0x300, 0x200, 0x800
CAPPED, ACK_TLVS = 0x100, 0x200
DATAGRAM = 4096  # few messages a datagram, so that a dump is many of them
IFF_UP, IFF_LOOPBACK, IFF_POINTOPOINT, IFF_LOWER_UP = 0x1, 0x8, 0x10, 0x10000
SECONDARY, DEPRECATED, TENTATIVE = 0x01, 0x20, 0x40
OURS = 109
NETFILTER = 12
CONNTRACK = 1  # its subsystem in netfilter


def pack(address: str) -> bytes:
    return inet_pton(AF_INET6 if ":" in address else AF_INET, address)


def attribute(kind: int, value: bytes) -> bytes:
    return Struct("=HH").pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def number(kind: int, value: int) -> bytes:
    return attribute(kind, Struct("=I").pack(value))


def attributes_of(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        length, kind = Struct("=HH").unpack_from(data)
        found[kind] = data[4:length]
        data = data[length + 3 & ~3 :]
    return found


class Painted:
    """A kernel with nothing in it but what a test puts there.

    changes      every change that was made, as (kind, message), in their order
    before       called with (kind, message) before each change; Refused raised there is the kernel's answer
    dumps        how many dumps were asked for
    conntrack    what answers for connection tracking (test_stale.py), where there is any
    """

    def __init__(self) -> None:
        self._links: dict[str, list[int]] = {}  # name: index, flags, group
        self._addresses: list[bytes] = []
        self.routes: list[bytes] = []
        self.rules: list[bytes] = []
        self.changes: list[tuple[int, bytes]] = []
        self.before = lambda kind, message: None
        self.dumps = 0
        self.nft = PaintedNft(lambda kind, message: self.before(kind, message), self.changes)
        self.conntrack: object | None = None
        self._next = 1
        self.link("lo", "127.0.0.1/8", loopback=True)

    # --- painting ---

    def link(
        self, name: str, *addresses: str, up: bool = True, carrier: bool = True, ppp: bool = False, group: int = 0,
        loopback: bool = False,
    ) -> int:  # fmt: skip
        """An interface with its addresses ("198.51.100.7/24", "203.0.113.45 peer 192.0.2.1") and the routes to them."""
        flags = IFF_UP * up | IFF_LOWER_UP * carrier | IFF_POINTOPOINT * ppp | IFF_LOOPBACK * loopback
        self._links[name] = [self._next, flags, group]
        self._next += 1
        for address in addresses:
            self.address(name, address)
        return self._next - 1

    def address(self, name: str, address: str, flags: int = 0, scope: int = -1, connected: bool = True) -> None:
        """Add an address, with the route that the kernel makes for it."""
        local, _, peer = address.partition(" peer ")
        local, _, length = local.partition("/")
        prefixlen = int(length or 32)
        index = self._links[name][0]
        if scope < 0:
            scope = 254 if local.startswith("127.") else 0
        body = Struct("=BBBBI").pack(INET, prefixlen, flags & 0xFF, scope, index)
        body += attribute(1, pack(peer or local)) + attribute(2, pack(local))
        body += attribute(3, name.encode() + b"\0") + number(8, flags)
        self._addresses.append(body)
        if connected and scope != 254 and prefixlen and (peer or prefixlen < 32):
            bits = int.from_bytes(pack(peer or local), "big") >> 32 - prefixlen << 32 - prefixlen
            self.route(f"{text(bits.to_bytes(4, 'big'))}/{prefixlen}", name, src=local, protocol=2)

    def no_address(self, name: str, local: str) -> None:
        """Take an address away, and with it the routes whose source it is, as the kernel does in every table."""
        index = self._links[name][0]
        value = pack(local)
        keep = []
        for body in self._addresses:
            same = Struct("=BBBBI").unpack_from(body)[4] == index and attributes_of(body[8:])[2] == value
            if not same:
                keep.append(body)
        self._addresses = keep
        self.routes = [one for one in self.routes if attributes_of(one[12:]).get(7) != value]

    def no_link(self, name: str) -> None:
        """Take an interface away with its addresses and all routes by it."""
        index = self._links.pop(name)[0]
        self._addresses = [body for body in self._addresses if Struct("=BBBBI").unpack_from(body)[4] != index]
        self.routes = [one for one in self.routes if attributes_of(one[12:]).get(4) != Struct("=I").pack(index)]

    def set(self, name: str, **changes: object) -> None:
        """Change up, carrier or group of an interface; one set down loses all routes by it, as in the kernel."""
        entry = self._links[name]
        for what, value in changes.items():
            if what == "group":
                entry[2] = int(str(value))
            else:
                bit = {"up": IFF_UP, "carrier": IFF_LOWER_UP}[what]
                entry[1] = entry[1] | bit if value else entry[1] & ~bit
                if what == "up" and not value:
                    index = Struct("=I").pack(entry[0])
                    self.routes = [one for one in self.routes if attributes_of(one[12:]).get(4) != index]

    def route(
        self, prefix: str, dev: str = "", via: str = "", src: str = "", metric: int = 0, onlink: bool = False,
        table: int = 254, protocol: int = 3, kind: int = 1, tos: int = 0, mtu: int = 0,
    ) -> None:  # fmt: skip
        """A route as `ip route add` would make it."""
        network, _, length = ("0.0.0.0", "", "0") if prefix == "default" else prefix.partition("/")
        scope = 0 if via or kind != 1 else 253
        body = Struct("=BBBBBBBBI").pack(
            INET, int(length or 32), 0, tos, table if table < 256 else 0, protocol, scope, kind, 4 * onlink
        )
        body += number(15, table)
        if int(length or 32):
            body += attribute(1, pack(network))
        if metric:
            body += number(6, metric)
        if mtu:
            body += attribute(8, number(2, mtu))
        if src:
            body += attribute(7, pack(src))
        if via:
            body += attribute(5, pack(via))
        if dev:
            body += number(4, self._links[dev][0])
        self.routes.append(body)

    def rule(
        self, priority: int, table: int, source: str = "", prefixlen: int = 32, protocol: int = 3, *,
        inverted: bool = False, mark: "tuple[int, int] | None" = None, suppress: int = 0xFFFFFFFF, action: int = 1,
        iif: str = "",
    ) -> None:  # fmt: skip
        """A rule of somebody's: `mark` is mark and mask, `inverted` is ip-rule's word not."""
        self.rules.append(
            Struct("=BBBBBBBBI").pack(
                INET, 0, prefixlen if source else 0, 0, table if table < 256 else 0, 0, 0, action, 2 * inverted
            )
            + number(15, table) + number(14, suppress) + (number(6, priority) if priority else b"")
            + (attribute(2, pack(source)) if source else b"") + (attribute(3, iif.encode() + b"\0") if iif else b"")
            + (number(10, mark[0]) + number(16, mark[1]) if mark else b"") + attribute(21, bytes((protocol,)))
        )  # fmt: skip

    # --- answering ---

    def door(self) -> Door:
        """The product's own door, to this kernel; nft(8) is this machine's from then on."""
        nft.load = self.nft.load
        nftables.fork = lambda: 1  # type: ignore[attr-defined]  # a painted socket needs no child that waits for it
        real = rtnetlink.socket
        rtnetlink.socket = lambda *words: Socket(self, words[-1])  # type: ignore[assignment,misc]
        try:
            return Door()
        finally:
            rtnetlink.socket = real  # type: ignore[misc]

    def answer(self, kind: int, flags: int, sequence: int, body: bytes) -> list[bytes]:
        """The datagrams that answer one request."""
        try:
            if flags & DUMP == DUMP and kind in (GETLINK, GETADDR, GETROUTE, GETRULE):
                self.dumps += 1
                found = [message(kind - 2, MULTI, sequence, one) for one in self.dump(kind, body)]
                end = message(DONE, MULTI, sequence, bytes(4))
                return [*datagrams(found), end]
            if kind == GETLINK:
                return [message(NEWLINK, 0, sequence, self._link(body))]
            self._change(kind, flags, body)
        except Refused as error:
            said = Struct("=i").pack(-error.errno) + bytes(16) + attribute(1, error.reason.encode() + b"\0")
            return [message(ERROR, CAPPED | ACK_TLVS, sequence, said)]
        assert flags & ACK
        return [message(ERROR, CAPPED, sequence, bytes(20))]

    def _link_message(self, name: str) -> bytes:
        index, flags, group = self._links[name]
        body = Struct("=BxHiII").pack(0, 1, index, flags, 0) + attribute(
            3, name.encode("utf-8", "surrogateescape") + b"\0"
        )
        return body + number(27, group)

    def _link(self, body: bytes) -> bytes:
        index = Struct("=BxHiII").unpack_from(body)[2]
        name = self.name(index) if index else attributes_of(body[16:])[3].rstrip(b"\0").decode()
        if name not in self._links:
            raise Refused(ENODEV, "No such device")
        return self._link_message(name)

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """All messages of a kind that fit the filter in `body`."""
        if kind == GETLINK:
            return [self._link_message(name) for name in self._links]
        if kind == GETADDR:
            return list(self._addresses)
        if kind == GETRULE:
            return sorted(self.rules, key=lambda one: attributes_of(one[12:]).get(6, bytes(4))[::-1])
        assert kind == GETROUTE
        wanted = attributes_of(body[12:])
        found = []
        for one in self.routes:
            has = attributes_of(one[12:])
            if body[5] in (0, one[5]) and all(has.get(kind) == value for kind, value in wanted.items()):
                found.append(one)
        return found

    def _change(self, kind: int, flags: int, body: bytes) -> None:
        self.before(kind, body)
        if kind == NEWLINK:
            index = Struct("=BxHiII").unpack_from(body)[2]
            entry = next((one for one in self._links.values() if one[0] == index), None)
            if not entry:
                raise Refused(ENODEV, "No such device")
            entry[2] = Struct("=I").unpack(attributes_of(body[16:])[27])[0]
        elif kind in (NEWROUTE, DELROUTE):
            self._change_route(kind, flags, body)
        elif kind in (NEWRULE, DELRULE):
            self._change_rule(kind, flags, body)
        else:
            raise AssertionError(f"nobody asks for {kind}")
        self.changes.append((kind, body))

    def _change_route(self, kind: int, flags: int, body: bytes) -> None:
        def key(one: bytes) -> tuple[object, ...]:
            has = attributes_of(one[12:])
            return (one[:2], one[3], has[15], has.get(1), has.get(6))

        same = [one for one in self.routes if key(one) == key(body)]
        if kind == DELROUTE:
            exact = [
                one for one in same if one[:12] == body[:12] and attributes_of(one[12:]) == attributes_of(body[12:])
            ]
            if not exact:
                raise Refused(ESRCH, "No such process")
            self.routes.remove(exact[0])
            return
        has = attributes_of(body[12:])
        if 7 in has and not any(attributes_of(one[8:])[2] == has[7] for one in self._addresses):
            raise Refused(EINVAL, "Invalid prefsrc address")
        if 4 in has:
            device = next((one for one in self._links.values() if Struct("=I").pack(one[0]) == has[4]), None)
            if not device:
                raise Refused(ENODEV, "No such device")
            if not device[1] & IFF_UP:
                raise Refused(100, "Device for nexthop is not up")
        if same and flags & EXCL:
            raise Refused(EEXIST, "File exists")
        if same and not flags & APPEND:
            self.routes[self.routes.index(same[0])] = body
        else:
            self.routes.append(body)

    def _change_rule(self, kind: int, flags: int, body: bytes) -> None:
        def key(one: bytes) -> object:
            has = attributes_of(one[12:])
            has.setdefault(14, b"\xff" * 4)
            return one[:4], one[7], sorted(has.items())

        same = [one for one in self.rules if key(one) == key(body)]
        if kind == DELRULE:
            if not same:
                raise Refused(ENOENT, "No such file or directory")
            self.rules.remove(same[0])
        elif same:
            raise Refused(EEXIST, "File exists")
        else:
            self.rules.append(body)

    # --- looking ---

    def facts(self, names: "set[str] | None" = None) -> Facts:
        return Facts(self.door(), names)

    def group(self, name: str) -> int:
        return self._links[name][2]

    def name(self, index: int) -> str:
        return next((name for name, entry in self._links.items() if entry[0] == index), f"if{index}")

    def shown(self, table: int = 0) -> list[str]:
        """Our rules and routes in the words of ip(8); with `table`, only the routes of it."""
        lines = []
        for body in self.dump(GETRULE, b""):
            rule = rules.parse(body)
            if rule.protocol == OURS and not table:
                lines.append(f"{rule.priority}: {rule.text()}")
        for body in self.routes:
            for route in routes.parse(body):
                if route.protocol == OURS and table in (0, route.table):
                    lines.append(route.text(self.name(route.oif)))
        return lines

    def picture(self) -> tuple[object, ...]:
        """All there is, to compare two states."""
        return (
            sorted(map(tuple, self._links.values())),
            sorted(self._addresses),
            sorted(self.routes),
            sorted(self.rules),
            self.nft.picture(),
        )


class Socket:
    """What the product's door sees of a painted kernel."""

    def __init__(self, kernel: Painted, protocol: int) -> None:
        self._kernel = kernel
        self._is_netfilter = protocol == NETFILTER
        self._answers: list[bytes] = []

    def setsockopt(self, level: int, option: int, value: object) -> None:
        assert level == 270 or (level, option) == (SOL_SOCKET, SO_RCVTIMEO)

    def close(self) -> None:
        assert not self._answers, "an answer was left unread"

    def fileno(self) -> int:
        raise AssertionError("a painted kernel has nothing to wait for")

    def sendto(self, data: bytes, to: tuple[int, int]) -> None:
        if self._is_netfilter:
            assert not self._answers, "an answer was left unread"
            self._answers = self._netfilter(data)
            return
        length, kind, flags, sequence, _ = Struct("=IHHII").unpack_from(data)
        assert (length, to) == (len(data), (0, 0)) and flags & 1
        assert not self._answers, "an answer was left unread"
        self._answers = self._kernel.answer(kind, flags, sequence, data[16:])

    def _netfilter(self, data: bytes) -> list[bytes]:
        """The answers of nf_tables, or of connection tracking, whose requests may come in one datagram."""
        found: list[bytes] = []
        while data:
            length, kind, flags, sequence, _ = Struct("=IHHII").unpack_from(data)
            if kind >> 8 != CONNTRACK:
                return self._kernel.nft.answer(data)
            assert self._kernel.conntrack, "nobody paints connection tracking here"
            found += self._kernel.conntrack.answer(kind, flags, sequence, data[16:length])
            data = data[length + 3 & ~3 :]
        return found

    def recv(self, size: int) -> bytes:
        if not self._answers:
            raise TimeoutError("timed out")
        assert len(self._answers[0]) <= size
        return self._answers.pop(0)


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A message of netlink, padded (struct nlmsghdr)."""
    return Struct("=IHHII").pack(16 + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


def datagrams(messages: list[bytes]) -> list[bytes]:
    found: list[bytes] = []
    for one in messages:
        if not found or len(found[-1]) + len(one) > DATAGRAM:
            found.append(b"")
        found[-1] += one
    return found


def not_permitted(kind: int, body: bytes) -> None:
    """For Painted.before: a process without CAP_NET_ADMIN."""
    raise Refused(EPERM, "Operation not permitted")


def address(notation: str) -> bytes:
    """An address as the product reads it; it has to be one."""
    found = parse(notation)
    assert found
    return found


def painted() -> Painted:
    """An Ethernet line and a PPP line with routes of all sorts by them, and a card that is down."""
    kernel = Painted()
    kernel.link("eth1", "198.51.100.7/24", "198.51.100.8/24")
    kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True, group=7)
    kernel.link("eth2", up=False, carrier=False)
    kernel.route("default", "eth1", via="198.51.100.1", metric=100)
    kernel.route("default", "ppp0", metric=50)
    kernel.route("default", "eth1", via="198.51.100.9", metric=20)
    kernel.route("10.0.0.0/8", "eth1", via="198.51.100.254", mtu=1400)
    kernel.route("10.9.0.0/16", "eth1", kind=7)
    kernel.route("192.168.9.0/24", "eth1", via="198.51.100.254", table=77)
    return kernel

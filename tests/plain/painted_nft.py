"""The part of a painted kernel that is nf_tables: our one table, made by text and changed by messages.

Imports only what is built into the interpreter (see painted_kernel.py), and builds its messages by itself.
"""

from _socket import AF_INET, inet_pton
from _struct import Struct
from errno import EBUSY, ENOENT, EPERM

from multihook.kernel.rtnetlink import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ERROR, DONE, BEGIN, END = 2, 3, 16, 17
ACK, MULTI, DUMP, EXCL = 0x4, 0x2, 0x300, 0x200
CAPPED, ACK_TLVS = 0x100, 0x200
NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN, NEWRULE, GETRULE = 0, 1, 2, 3, 4, 6, 7
NEWSET, GETSET, NEWSETELEM, GETSETELEM, DELSETELEM = 9, 10, 12, 13, 14
VERDICTS = {"goto": -4, "jump": -3, "accept": 1, "drop": 0}
HOOKS = {"postrouting": 4}


def attribute(kind: int, value: bytes) -> bytes:
    return Struct("=HH").pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def attributes_of(data: bytes) -> dict[int, bytes]:
    return dict(listed_in(data))


def listed_in(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        length, kind = Struct("=HH").unpack_from(data)
        found.append((kind & 0x3FFF, data[4:length]))
        data = data[length + 3 & ~3 :]
    return found


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return Struct("=IHHII").pack(16 + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


class PaintedNft:
    """Tables of a machine: ours as it was loaded, and how often anything was changed.

    texts    what nft(8) was given, in its order
    before   called before each change, as Painted.before
    """

    def __init__(self, before: "Callable[[int, bytes], None]", changes: list[tuple[int, bytes]]) -> None:
        self.sets: dict[str, dict[bytes, bytes]] = {}
        self.chains: dict[str, bytes] = {}
        self.rules: list[tuple[str, str, str]] = []  # chain, rule, comment
        self.there = False
        self.flags = 0
        self.permitted = True
        self.texts: list[str] = []
        self.asked: list[int] = []
        self._before = before
        self._changes = changes

    # --- nft(8) ---

    def load(self, text: str) -> None:
        """What `nft -f -` does with one of our texts."""
        self._before(-1, text.encode())
        self.texts.append(text)
        for line in text.splitlines():
            self._load(line)
        self._changes.append((-1, text.encode()))

    def _load(self, line: str) -> None:
        verb, kind, family, table, *rest = line.split(" ", 5)
        assert (family, table) == ("inet", "multihook"), line
        if (verb, kind) == ("delete", "table"):
            self.delete()
        elif (verb, kind) == ("add", "table"):
            self.there = True
        elif kind in ("set", "map"):
            self.sets[rest[0]] = {}
        elif kind == "chain":
            self.chains[rest[0]] = self._hook(rest[1]) if len(rest) > 1 else b""
        elif kind == "rule":
            rule, _, comment = rest[1].partition(" comment ")
            assert rest[0] in self.chains, line
            self.rules.append((rest[0], rule, comment.strip('"')))
        elif kind == "element":
            key, raw = parse_element(rest[1])
            self.sets[rest[0]][key] = raw
        else:
            raise AssertionError(line)

    def delete(self) -> None:
        """Our table is no more, as after `nft flush ruleset`."""
        self.there, self.flags = False, 0
        self.sets, self.chains, self.rules = {}, {}, []

    @staticmethod
    def _hook(text: str) -> bytes:
        words = text.replace(";", "").split()
        assert words[1] == "type" and words[3] == "hook" and words[5] == "priority" and words[7:9] == ["policy", "accept"]
        hook = attribute(1, Struct(">I").pack(HOOKS[words[4]])) + attribute(2, Struct(">i").pack(int(words[6])))
        return attribute(4, hook) + attribute(5, Struct(">I").pack(1)) + attribute(7, words[2].encode() + b"\0")

    # --- netlink ---

    def answer(self, data: bytes) -> list[bytes]:
        """The datagrams that answer what was sent at once."""
        requests = []
        while data:
            length, kind, flags, sequence, _ = Struct("=IHHII").unpack_from(data)
            requests.append((kind, flags, sequence, data[16:length]))
            data = data[length + 3 & ~3 :]
        try:
            if not self.permitted:
                raise Refused(EPERM, "Operation not permitted")
            if requests[0][0] == BEGIN:
                return self._transact(requests)
            assert len(requests) == 1
            return self._look(*requests[0])
        except Refused as error:
            said = Struct("=i").pack(-error.errno) + bytes(16) + attribute(1, error.reason.encode() + b"\0")
            return [message(ERROR, CAPPED | ACK_TLVS, requests[0][2], said)]

    def _look(self, kind: int, flags: int, sequence: int, body: bytes) -> list[bytes]:
        kind -= 10 << 8
        self.asked.append(kind)
        asked = attributes_of(body[4:])
        head = bytes((1, 0)) + bytes(2)
        name = attribute(1, b"multihook\0")
        found: list[bytes] = []
        if kind == GETTABLE:
            if not self.there or asked[1] != b"multihook\0":
                raise Refused(ENOENT, "No such file or directory")
            return [message(10 << 8 | NEWTABLE, 0, sequence, head + name + attribute(2, Struct(">I").pack(self.flags)))]
        if kind == GETCHAIN:
            new = NEWCHAIN
            found = [name + attribute(3, chain.encode() + b"\0") + hook for chain, hook in self.chains.items()]
            found.append(attribute(1, b"filter\0") + attribute(3, b"input\0"))
        elif kind == GETRULE:
            new = NEWRULE
            for chain in self.chains:
                for number, (of, rule, comment) in enumerate(self.rules):
                    if of == chain:
                        said = comment.encode() + b"\0"
                        known = attribute(7, bytes((9, 1, 0)) + bytes((0, len(said))) + said) if comment else b""
                        words = attribute(3, Struct(">Q").pack(number)) + attribute(4, rule.encode())
                        found.append(name + attribute(2, chain.encode() + b"\0") + words + known)
        elif kind == GETSET:
            new = NEWSET
            found = [name + attribute(2, listed.encode() + b"\0") for listed in [*self.sets, "__set0"]]
        elif kind == GETSETELEM:
            new = NEWSETELEM
            there = self.sets.get(asked[2].rstrip(b"\0").decode())
            if there is None:
                raise Refused(ENOENT, "No such file or directory")
            if not flags & DUMP:
                key = key_of(attributes_of(asked[3])[1])
                if key not in there:
                    raise Refused(ENOENT, "No such file or directory")
                there = {key: there[key]}
            listed = list(there.values())
            for start in range(0, len(listed), 3):
                raws = b"".join(attribute(1, raw) for raw in listed[start : start + 3])
                found.append(attribute(1, b"multihook\0") + attribute(2, asked[2]) + attribute(3, raws))
            if not flags & DUMP:
                return [message(10 << 8 | new, 0, sequence, head + found[0])]
        else:
            raise AssertionError(f"nobody asks for {kind}")
        answers = b"".join(message(10 << 8 | new, MULTI, sequence, head + one) for one in found)
        return ([answers] if answers else []) + [message(DONE, MULTI, sequence, bytes(4))]

    def _transact(self, requests: list[tuple[int, int, int, bytes]]) -> list[bytes]:
        begin, *changes, end = requests
        assert (begin[0], end[0], begin[3], end[3]) == (BEGIN, END, bytes((0, 0, 0, 10)), bytes((0, 0, 0, 10)))
        assert [flags & ACK for _, flags, _, _ in changes] == [0] * (len(changes) - 1) + [ACK]
        sets = {name: dict(there) for name, there in self.sets.items()}
        gone = False
        for kind, flags, _, body in changes:
            self._before(kind, body)
            if kind == 10 << 8 | DELTABLE:
                if not self.there:
                    raise Refused(ENOENT, "No such file or directory")
                gone = True
                continue
            asked = attributes_of(body[4:])
            name = asked[2].rstrip(b"\0").decode()
            if name not in sets:
                raise Refused(ENOENT, "No such file or directory")
            for _, raw in listed_in(asked[3]):
                self._change(sets[name], kind - (10 << 8), flags, raw)
        self.sets = sets
        if gone:
            self.delete()
        self._changes += [(kind, body) for kind, _, _, body in changes]
        return [message(ERROR, CAPPED, begin[2], bytes(20))]

    @staticmethod
    def _change(there: dict[bytes, bytes], kind: int, flags: int, raw: bytes) -> None:
        key = key_of(raw)
        if kind == DELSETELEM:
            if key not in there:
                raise Refused(ENOENT, "No such file or directory")
            del there[key]
            return
        assert kind == NEWSETELEM and not flags & EXCL
        if there.get(key, raw) != raw:
            raise Refused(EBUSY, "Device or resource busy")
        there[key] = raw

    # --- looking ---

    def shown(self) -> list[str]:
        """What is in the sets, as `nft list` shows it."""
        from multihook.features.snat import _SETS
        from multihook.kernel.nftables import decode

        known = {one.name: one for one in _SETS}
        return sorted(known[name].shown(decode(name, raw)) for name, there in self.sets.items() for raw in there.values())

    def picture(self) -> object:
        """All there is, to compare two states."""
        return self.there, self.flags, sorted(self.rules), sorted((n, sorted(s.items())) for n, s in self.sets.items())


def key_of(raw: bytes) -> bytes:
    found = attributes_of(raw)
    return attributes_of(found[1])[1] + (attributes_of(found[10])[1] if 10 in found else b"")


def parse_element(text: str) -> tuple[bytes, bytes]:
    """(key, message) of `{ "ppp0" . 192.0.2.32-192.0.2.47 : goto auto4 }`."""
    left, _, right = text.strip("{} ").partition(" : ")
    interface, _, address = left.partition(" . ")
    interface, _, counted = interface.partition(" counter ")
    name = interface.strip('"').encode().ljust(16, b"\0")
    first, _, last = address.partition("-")
    raw = attribute(1, attribute(1, name + (inet_pton(AF_INET, first) if first else b"")))
    raw += attribute(10, attribute(1, name + inet_pton(AF_INET, last))) if last else b""
    if counted:
        packets, octets = (int(word) for word in counted.split()[1::2])
        counter = attribute(1, Struct(">Q").pack(octets)) + attribute(2, Struct(">Q").pack(packets))
        raw += attribute(7, attribute(1, b"counter\0") + attribute(2, counter))
    if right:
        verdict, _, chain = right.partition(" ")
        if verdict in VERDICTS:
            said = attribute(1, Struct(">i").pack(VERDICTS[verdict])) + attribute(2, chain.encode() + b"\0")
            raw += attribute(2, attribute(2, said))
        else:
            raw += attribute(2, attribute(1, inet_pton(AF_INET, right)))
    return key_of(raw), raw

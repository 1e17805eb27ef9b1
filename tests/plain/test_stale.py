"""Connections of a lost address: which entries go, when, and what a killed run leaves to the next."""

from _struct import Struct
from collections.abc import Callable
from errno import EINVAL, ENOENT, EPERM
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import pytest
from kill_points import Killed
from painted_kernel import ACK, DONE, ERROR, MULTI, attribute, attributes_of, datagrams, message, pack
from painted_machine import Machine
from ppp_and_cable import TWO
from told import ip_down, ip_up

from multihook import departed, files, spool
from multihook.kernel import conntrack, nftables, stale
from multihook.kernel.rtnetlink import Refused
from multihook.kind import Step

GET, DELETE, NEW = 0x101, 0x102, 0x100
LAN, FAR, A, B, OTHER = "192.168.1.10", "198.18.0.1", "203.0.113.45", "203.0.113.77", "203.0.113.99"
SRC_NAT, DST_NAT = 16, 32
FOREVER = float("inf")


def ends(source: str, destination: str, port: int = 1) -> bytes:
    protocol = attribute(1, b"\x11") + attribute(2, Struct(">H").pack(port)) + attribute(3, b"\0\7")
    both = attribute(1, pack(source)) + attribute(2, pack(destination))
    return attribute(0x8001, both) + attribute(0x8002, protocol)


class Entry:
    """One entry of the painted table."""

    def __init__(self, original: tuple[str, str], reply: tuple[str, str], status: int = 0, port: int = 1) -> None:
        self.original, self.reply, self.status, self.port = original, reply, status, port
        self.id = Struct(">I").pack(id(self) & 0xFFFFFFFF)

    def body(self) -> bytes:
        return (
            bytes((2, 0, 0, 0)) + attribute(0x8001, ends(*self.original, self.port))
            + attribute(0x8002, ends(*self.reply, self.port)) + attribute(3, Struct(">I").pack(self.status | 0x18E))
            + attribute(7, Struct(">I").pack(29)) + attribute(12, self.id)
        )  # fmt: skip


def snat(to: str, port: int = 1, source: str = LAN) -> Entry:
    return Entry((source, FAR), (FAR, to), SRC_NAT, port)


def dnat(of: str, port: int = 1) -> Entry:
    return Entry((FAR, of), (LAN, FAR), DST_NAT, port)


class Table:
    """A painted connection-tracking table.

    filters   whether it is a kernel that filters a dump; else it refuses (EINVAL) or, "ignores", gives all
    """

    def __init__(self, *entries: Entry) -> None:
        self.entries = list(entries)
        self.filters: bool | str = True
        self.asked: list[int] = []
        self.permits = True
        self.before: Callable[[int], None] = lambda kind: None

    def socket(self, *arguments: int) -> "Socket":
        assert arguments[2] == 12
        return Socket(self)

    def door(self) -> nftables.Door:
        return nftables.Door(self.socket)  # type: ignore[arg-type]

    def answer(self, kind: int, flags: int, sequence: int, body: bytes) -> list[bytes]:
        self.asked.append(kind)
        self.before(kind)
        assert body[:4] == bytes((2, 0, 0, 0))
        wanted = attributes_of(body[4:])
        if not self.permits:
            return [message(ERROR, 0, sequence, Struct("=i").pack(-EPERM) + bytes(16))]
        if kind == GET:
            if 0x8019 in wanted and self.filters is False:
                return [message(ERROR, 0, sequence, Struct("=i").pack(-EINVAL) + bytes(16))]
            found = [entry for entry in self.entries if self.filters != True or self.fits(entry, wanted)]  # noqa: E712
            return [*datagrams([message(NEW, MULTI, sequence, one.body()) for one in found]),
                    message(DONE, MULTI, sequence, bytes(4))]  # fmt: skip
        assert kind == DELETE
        same = [one for one in self.entries if ends(*one.original, one.port) == wanted[0x8001] and one.id == wanted[12]]
        code = 0 if same else -ENOENT
        for one in same:
            self.entries.remove(one)
        if flags & ACK or code:
            return [message(ERROR, 0, sequence, Struct("=i").pack(code) + bytes(16))]
        return []

    def fits(self, entry: Entry, wanted: dict[int, bytes]) -> bool:
        if 0x8019 not in wanted:
            return True
        flags = attributes_of(wanted[0x8019])
        status = Struct(">I").unpack(wanted[3])[0]
        assert status == Struct(">I").unpack(wanted[26])[0]
        for direction, tuple_ in ((1, entry.original), (2, entry.reply)):
            if direction in flags:
                assert Struct("=I").unpack(flags[direction])[0] == 2
                given = attributes_of(attributes_of(wanted[0x8000 | direction])[0x8001])
                if given != {2: pack(tuple_[1])}:
                    return False
        return bool(entry.status & status)


class Socket:
    """A socket of that kernel; several requests may come in one datagram."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._answers: list[bytes] = []

    def setsockopt(self, *what: int) -> None:
        assert what

    def close(self) -> None:
        assert not self._answers, "an answer was left unread"

    def sendto(self, data: bytes, to: tuple[int, int]) -> None:
        while data:
            length, kind, flags, sequence, _ = Struct("=IHHII").unpack_from(data)
            self._answers += self._table.answer(kind, flags, sequence, data[16:length])
            data = data[length + 3 & ~3 :]

    def recv(self, size: int) -> bytes:
        assert self._answers, "nothing comes"
        return self._answers.pop(0)


STALE = (snat(A), snat(A, 2), dnat(A, 3))
# What is nobody's translation to or from A: other addresses, A's own connections, A as a partner.
KEPT = (
    snat(OTHER), dnat(OTHER), Entry((A, FAR), (FAR, A)), Entry((FAR, A), (A, FAR)), Entry((LAN, A), (A, LAN)),
    Entry((LAN, FAR), (FAR, LAN)), Entry((A, OTHER), (LAN, A), DST_NAT), Entry((LAN, A), (A, OTHER), SRC_NAT),
    # translated in its ports only, or to where it was going anyway
    Entry((A, FAR), (FAR, A), SRC_NAT), Entry((FAR, A), (A, FAR), DST_NAT),
)  # fmt: skip


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("filters", [True, False, "ignores"])
def test_what_is_translated_to_or_from_an_address_is_found_by_every_kernel(
    filters: bool | str, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conntrack, "count", lambda: 100000 if many else 16)
    table = Table(*KEPT, *STALE)
    table.filters = filters
    door = table.door()
    entries, is_all = conntrack.translated(door, pack(A), FOREVER)
    found = list(entries.values())
    assert is_all
    assert [len(some) for some in found] == [2, 1]
    assert len(table.asked) == (4 if many and not filters else 2 if many else 1)
    conntrack.delete(door, found[0])
    conntrack.delete(door, found[1] + found[0])  # gone already
    assert table.entries == list(KEPT)
    door.close()


def test_thousands_go_in_few_datagrams_and_those_that_went_meanwhile_are_no_failure() -> None:
    table = Table(*(snat(A, port) for port in range(300)))
    door = table.door()
    found = conntrack.translated(door, pack(A), FOREVER)[0][conntrack.SNAT]
    del table.entries[::3]
    conntrack.delete(door, found)
    assert table.entries == [] and len(found) == 300


def test_a_refusal_is_one() -> None:
    table = Table(snat(A))
    door = table.door()
    found = conntrack.translated(door, pack(A), FOREVER)[0][conntrack.SNAT]
    table.permits = False
    with pytest.raises(Refused) as raised:
        conntrack.translated(door, pack(A), FOREVER)
    assert raised.value.errno == EPERM
    with pytest.raises(Refused):
        conntrack.delete(door, found)


# --- in a run ---


class Tracked:
    """A machine with a painted connection-tracking table."""

    def __init__(self, machine: Machine, *entries: Entry) -> None:
        self.machine, self.table = machine, Table(*entries)
        machine.kernel.conntrack = self.table
        count = machine.root / "proc/sys/net/netfilter/nf_conntrack_count"
        count.parent.mkdir(parents=True)
        count.write_text("7\n")
        machine.configure(TWO)

    def up(self, address: str, ppp: str = "ppp0", param: str = "dsl") -> None:
        self.machine.kernel.link(ppp, f"{address} peer 192.0.2.1", ppp=True)
        self.machine.drain(ip_up(ppp, address, param))

    def down(self, address: str, ppp: str = "ppp0") -> None:
        self.machine.kernel.no_link(ppp)
        self.machine.drain(ip_down(ppp, address))

    def readdress(self, old: str, new: str) -> None:
        self.machine.kernel.no_address("ppp0", old)
        self.machine.kernel.address("ppp0", f"{new} peer 192.0.2.1")

    @property
    def notes(self) -> str:
        path = Path(departed.CONNECTIONS)
        return path.read_text() if path.exists() else ""


@pytest.fixture
def tracked(machine: Machine) -> Tracked:
    return Tracked(machine, *KEPT, *STALE)


def test_nothing_is_asked_while_nothing_is_lost(tracked: Tracked) -> None:
    tracked.up(A)
    tracked.machine.drain(ip_up("ppp0", A))
    tracked.machine.sync()
    assert tracked.table.asked == []


def test_a_link_that_has_another_address_takes_them(tracked: Tracked) -> None:
    tracked.up(A)
    tracked.readdress(A, B)
    tracked.machine.log.clear()
    tracked.machine.drain(ip_up("ppp0", B))
    assert tracked.table.entries == list(KEPT) and tracked.notes == ""
    assert len(tracked.machine.log) == 1 and ": 1 snat, 4 rules, 2 routes, 3 connections; " in tracked.machine.log[0]


def test_a_foreign_rule_that_still_says_the_old_address_is_no_endless_fight(tracked: Tracked) -> None:
    """It makes a new entry as soon as one is gone; the next loss or `conntrack -D` is for these."""
    tracked.up(A)
    tracked.readdress(A, B)
    tracked.table.before = lambda kind: tracked.table.entries.append(snat(A, 99)) if kind == DELETE else None
    tracked.machine.log.clear()
    tracked.machine.drain(ip_up("ppp0", B))
    assert len(tracked.machine.log) == 1 and "3 connections" in tracked.machine.log[0]


def test_they_wait_for_a_link_that_can_take_them(tracked: Tracked) -> None:
    tracked.up(A)
    tracked.down(A)
    assert len(tracked.table.entries) == len(KEPT) + 3 and f"dsl {A}" in tracked.notes
    files_ = tracked.machine.files()
    assert tracked.machine.sync().made == {} and tracked.machine.files() == files_
    tracked.machine.kernel.link("eth1", "198.51.100.7/24")
    tracked.machine.kernel.route("default", "eth1", via="198.51.100.1")
    tracked.machine.sync()
    assert tracked.table.entries == list(KEPT) and tracked.notes == ""


def test_another_link_takes_them_in_the_event_of_the_one_that_lost_them(tracked: Tracked) -> None:
    tracked.machine.kernel.link("eth1", "198.51.100.7/24")
    tracked.machine.kernel.route("default", "eth1", via="198.51.100.1")
    tracked.up(A)
    tracked.machine.sync()
    tracked.down(A)
    assert tracked.table.entries == list(KEPT) and tracked.notes == ""


def test_the_same_address_keeps_them(tracked: Tracked) -> None:
    tracked.up(A)
    tracked.down(A)
    tracked.up(A)
    assert len(tracked.table.entries) == len(KEPT) + 3 and tracked.notes == ""
    assert tracked.table.asked == []


@pytest.mark.fault("F51")
def test_nothing_tracked_and_no_connection_tracking_ask_nothing(tracked: Tracked) -> None:
    count = tracked.machine.root / "proc/sys/net/netfilter/nf_conntrack_count"
    tracked.up(A)
    count.write_text("0\n")
    tracked.readdress(A, B)
    tracked.machine.drain(ip_up("ppp0", B))
    count.unlink()
    tracked.readdress(B, A)
    tracked.machine.drain(ip_up("ppp0", A))
    assert tracked.table.asked == [] and not any("connection" in line for line in tracked.machine.log)


def test_a_refusal_is_one_line_and_the_link_is_right(tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale, "geteuid", lambda: 0)
    tracked.up(A)
    tracked.readdress(A, B)
    tracked.table.permits = False
    tracked.machine.log.clear()
    tracked.machine.drain(ip_up("ppp0", B))
    assert len(tracked.machine.log) == 2 and "4 rules" in tracked.machine.log[0]
    assert "connections of the lost address are not looked at: Operation not permitted" in tracked.machine.log[1]


def test_a_note_that_cannot_be_written_is_said_and_the_run_ends(tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked.up(A)

    def full(path: str, *more: object) -> None:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(departed, "replace", full)
    tracked.machine.log.clear()
    tracked.down(A)
    assert any("state is not saved: " in line for line in tracked.machine.log)
    assert not any("not applied" in line or "undoes" in line for line in tracked.machine.log)


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A run has no time for more than the first entry of each kind; counts the children that it makes."""
    made: list[int] = []
    real = conntrack.translated

    def some(door: Any, address: bytes, until: float) -> tuple[dict[int, list[bytes]], bool]:
        found, _ = real(door, address, until)
        return {kind: entries[:1] for kind, entries in found.items()}, until == FOREVER or not any(found.values())

    monkeypatch.setattr(conntrack, "translated", some)
    monkeypatch.setattr(stale, "fork", lambda: made.append(1) or 4711)
    return made


def test_what_there_is_no_time_for_is_noted_and_left_to_a_child(tracked: Tracked, forks: list[int]) -> None:
    tracked.up(A)
    tracked.readdress(A, B)
    tracked.machine.log.clear()
    tracked.machine.drain(ip_up("ppp0", B))
    assert forks == [1] and f"dsl {A}" in tracked.notes
    assert len(tracked.table.entries) == len(KEPT) + 1
    assert len(tracked.machine.log) == 1 and "2 connections; " in tracked.machine.log[0]


def test_where_a_run_finds_none_in_time_all_is_left_to_a_child(
    tracked: Tracked, forks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conntrack, "translated", lambda door, address, until: ({SRC_NAT: [], DST_NAT: []}, False))
    tracked.up(A)
    tracked.readdress(A, B)
    tracked.machine.log.clear()
    tracked.machine.drain(ip_up("ppp0", B))
    assert forks == [1] and f"dsl {A}" in tracked.notes and len(tracked.table.entries) == len(KEPT) + 3
    assert len(tracked.machine.log) == 1 and "connection" not in tracked.machine.log[0]


def test_where_the_child_was_killed_the_next_run_goes_on(tracked: Tracked, forks: list[int]) -> None:
    tracked.up(A)
    tracked.readdress(A, B)
    tracked.machine.drain(ip_up("ppp0", B))
    tracked.machine.drain(ip_up("ppp0", B))
    assert tracked.table.entries == list(KEPT) and forks == [1, 1] and A in tracked.notes
    tracked.machine.drain(ip_up("ppp0", B))
    assert tracked.notes == "" and forks == [1, 1]
    files_ = tracked.machine.files()
    tracked.machine.drain(ip_up("ppp0", B))
    assert tracked.machine.files() == files_


@pytest.mark.fault("F22", "F52")
def test_where_there_can_be_no_child_the_next_run_goes_on(
    tracked: Tracked, forks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(stale, "fork", full)
    tracked.up(A)
    tracked.readdress(A, B)
    for _ in range(3):
        tracked.machine.drain(ip_up("ppp0", B))
    assert tracked.table.entries == list(KEPT) and tracked.notes == ""


def test_the_child_takes_all_of_them_and_only_one_child_does(tracked: Tracked) -> None:
    spool.prepare()
    door = tracked.machine.kernel.door()
    lock = Path(f"{stale.CONNECTIONS}.lock").open("w")
    flock(lock, LOCK_EX)
    with pytest.raises(BlockingIOError):
        stale._finish(door, pack(A))
    assert len(tracked.table.entries) == len(KEPT) + 3
    lock.close()
    stale._finish(door, pack(A))
    assert tracked.table.entries == list(KEPT)


@pytest.mark.fault("F18")
@pytest.mark.parametrize(
    "content",
    [
        "", "nonsense", "multihook connections 1\ndsl 203.0.113.45\n", "multihook connections 1\ndsl x\nend\n",
        "multihook connections 1\ndsl 127.0.0.1\nend\n", "multihook connections 1\nd/l 203.0.113.45\nend\n",
    ],
)  # fmt: skip
def test_damaged_notes_are_none(tracked: Tracked, content: str) -> None:
    tracked.machine.sync()
    Path(departed.CONNECTIONS).write_text(content)
    Path(departed.CONNECTIONS).chmod(0o600)
    assert departed.noted() == {}


@pytest.mark.thorough
@pytest.mark.fault("F15")
def test_killed_anywhere_the_next_run_forgets_the_same(machines: Callable[[], Machine]) -> None:
    """Lost, noted, stored, deleted, note taken away: killed before each of these, and then an event of the link."""
    killed = 0
    for count in range(100):
        machine = machines()
        with pytest.MonkeyPatch.context() as patches:
            tracked = Tracked(machine, *KEPT, snat(A), snat(A, 2), dnat(A, 3))
            tracked.up(A)
            left = [count]

            def step(*_: object, left: list[int] = left) -> None:
                if left[0] == 0:
                    raise Killed
                left[0] -= 1

            def renamed(old: str, new: str, real: Any = files.rename, step: Any = step) -> None:
                step()
                real(old, new)

            patches.setattr(files, "rename", renamed)
            tracked.table.before = step
            machine.kernel.before = step  # type: ignore[assignment]
            machine.kernel.no_link("ppp0")
            for told in (ip_down("ppp0", A), ip_up("ppp0", B)):
                if told.arguments[0] == "ip-up":
                    machine.kernel.link("ppp0", f"{B} peer 192.0.2.1", ppp=True)
                try:
                    machine.drain(told)
                except Killed:
                    killed += 1
                    left[0] = -1
                    machine.drain(told)
            assert tracked.table.entries == list(KEPT), count
            assert tracked.notes == ""
            if left[0] > 0:
                break
    assert killed > 20 and left[0] > 0


def test_the_commands_are_those_of_conntrack() -> None:
    ways = [stale.Stale(pack(A), translation, [b""]) for translation in (conntrack.SNAT, conntrack.DNAT)]
    steps = [Step(one, None) for one in (*ways, stale.Note(pack(A), "dsl"))]
    assert [stale.KIND.commands(None, step) for step in steps] == [  # type: ignore[arg-type]
        [f"conntrack -D --src-nat {A}"], [f"conntrack -D --orig-dst {A} --dst-nat"], [],
    ]  # fmt: skip

"""The log: its datagram, its escapes, its length, and that nobody ever waits for it."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from multihook import journal


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A /dev/log of our own."""
    path = tmp_path / "log"
    door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    door.bind(str(path))
    door.settimeout(5)
    monkeypatch.setattr(journal, "SOCKET", str(path))
    with door:
        yield door


@pytest.mark.parametrize("priority, number", [(journal.ERR, 27), (journal.WARNING, 28), (journal.INFO, 30)])
def test_a_line_is_one_datagram_with_facility_daemon_and_our_identifier(
    listener: socket.socket, priority: int, number: int
) -> None:
    journal.write(priority, "dsl: 203.0.113.45 on ppp0 (pppd ip-up): 2 rules; 7 ms")
    expected = f"<{number}>multihook[{os.getpid()}]: dsl: 203.0.113.45 on ppp0 (pppd ip-up): 2 rules; 7 ms"
    assert listener.recv(1 << 16) == expected.encode()
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.recv(1 << 16)


@pytest.mark.parametrize("line, shown", [
    ("a\nb", rb"a\nb"),
    ("a\r\n<0>kernel: b", rb"a\r\n<0>kernel: b"),
    ("\x1b[2J\x07", rb"\x1b[2J\x07"),
    ("\x7f\x85\u2028\u202e", rb"\x7f\x85\u2028\u202e"),
    ("\udcff", rb"\udcff"),
    ("Straße", "Straße".encode()),
    ("tab\there", rb"tab\there"),
])  # fmt: skip
def test_control_characters_are_escaped_and_the_rest_stays(listener: socket.socket, line: str, shown: bytes) -> None:
    journal.write(journal.INFO, line)
    assert listener.recv(1 << 16).partition(b": ")[2] == shown


@pytest.mark.parametrize("line", ["x" * 100_000, "é" * 100_000, "\n" * 100_000, "\udcff" * 100_000])
def test_a_line_is_never_longer_than_a_thousand_bytes(listener: socket.socket, line: str) -> None:
    journal.write(journal.INFO, line)
    assert 500 < len(listener.recv(1 << 17)) <= 1000


@pytest.mark.parametrize("value, shown", [
    ("plain", "plain"),
    ("a\nb", r"a\nb"),
    ("\udcff\udc80", r"\udcff\udc80"),
    ("é", r"\xe9"),
    ("it's", "it's"),
    ("'\"", "\\'\""),
    ("", ""),
])  # fmt: skip
def test_a_foreign_value_is_shown_in_plain_printable_characters(value: str, shown: str) -> None:
    assert journal.foreign(value) == shown


@pytest.mark.parametrize("value", ["x" * 201, "x" * 131072, "\n" * 101, "é" * 51, "\udcff" * 131072, "'\"" * 200])
def test_a_foreign_value_never_takes_more_than_200_bytes_and_says_that_it_was_cut(value: str) -> None:
    shown = journal.foreign(value)
    assert len(shown.encode()) <= 200
    assert shown.endswith("...")
    assert shown.isprintable() and shown.isascii()


def test_200_bytes_of_a_foreign_value_are_shown_whole() -> None:
    assert journal.foreign("x" * 200) == "x" * 200


@pytest.mark.fault("F23")
def test_a_full_log_socket_keeps_nobody_waiting_and_loses_only_its_line(listener: socket.socket) -> None:
    started = time.monotonic()
    for _ in range(2000):  # more than net.unix.max_dgram_qlen or any buffer takes; nobody reads
        journal.write(journal.INFO, "x" * 900)
    assert time.monotonic() - started < 60
    listener.setblocking(False)
    received = 0
    try:
        while listener.recv(1 << 16):
            received += 1
    except BlockingIOError:
        pass
    assert 0 < received < 2000
    journal.write(journal.INFO, "again")
    assert listener.recv(1 << 16).endswith(b": again")


def test_without_a_log_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "missing"))
    journal.write(journal.ERR, "nobody hears it")
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "file"))
    journal.write(journal.ERR, "nobody hears it")
    monkeypatch.setattr(journal, "SOCKET", "/" + "x" * 200)  # longer than sun_path
    journal.write(journal.ERR, "nobody hears it")
    assert (tmp_path / "file").read_text() == ""


def test_no_descriptor_is_left_open(listener: socket.socket) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(50):
        journal.write(journal.INFO, "x")
        listener.recv(1 << 16)
    assert os.listdir("/proc/self/fd") == before

"""Events that wait: nothing is lost, nothing damaged is believed, and dpkg's mark is obeyed as long as it holds."""

import os
import random
import time
from pathlib import Path

import pytest

from multihook import files, sources, spool
from multihook.sources import VARIABLES
from multihook.spool import Told

TOLD = Told(
    "pppd", ["ip-up", "ppp0", "", "0", "203.0.113.45", "192.0.2.1", "dsl"], {"LINKNAME": "l1", "DNS1": "192.0.2.2"}
)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Our own /run; the folder of the spool."""
    os.umask(0o022)
    for name, path in (
        ("RUN", "run"), ("PRIVATE", "run/private"), ("SPOOL", "run/private/spool"),
        ("UPGRADING", "run/private/upgrading"),
    ):  # fmt: skip
        monkeypatch.setattr(spool, name, str(tmp_path / path))
    spool.prepare()
    return tmp_path / "run/private/spool"


def said(told: Told | None) -> tuple[str, list[str], dict[str, str]] | None:
    return told and (told.source, told.arguments, told.variables)


def test_the_folders_are_for_root_alone(folders: Path) -> None:
    assert folders.stat().st_mode & 0o7777 == 0o700
    assert folders.parent.stat().st_mode & 0o7777 == 0o700
    assert folders.parent.parent.stat().st_mode & 0o7777 == 0o755
    spool.prepare()


def test_what_cannot_be_spooled_is_said_in_the_same_words_each_time(folders: Path) -> None:
    """The log counts what repeats, and no event's name is that of another."""
    folders.rmdir()
    folders.symlink_to(folders)
    with pytest.raises(OSError) as caught:
        spool.put(TOLD)
    assert files.explain(caught.value) == f"{folders}: Too many levels of symbolic links"


@pytest.mark.parametrize("told", [
    TOLD,
    Told("dhclient", [], {"reason": "BOUND", "interface": "eth1", "new_domain_name_servers": ""}),
    Told("", [], {}),
    Told("pppd", [], {}),
    Told("pppd", ["", "", ""], {}),
    Told("pppd", ["end", "end", "multihook event 1"], {"LINKNAME": "end"}),
    Told("pppd", ["ip-up", "a=b", "=", "3"], {"DNS1": "=", "DNS2": "a=b=c", "LINKNAME": ""}),
    Told("pppd", ["a\nb", "\x1b", "é", "\udcff\udc80", "$(reboot)", "\u2028"], {"LINKNAME": "\udcff\n"}),
    Told("7", ["7"], {}),
])  # fmt: skip
def test_what_was_told_comes_out_as_it_went_in(folders: Path, told: Told) -> None:
    name = spool.put(told)
    assert spool.waiting() == [name]
    assert (folders / name).stat().st_mode & 0o7777 == 0o600
    assert said(spool.take(name)) == said(told)
    spool.done([name])
    assert spool.waiting() == []
    assert spool.take(name) is None


def test_events_come_out_in_the_order_in_which_they_came() -> None:
    names = []
    for number in range(30):
        names.append(spool.put(Told("pppd", [str(number)], {})))
    assert spool.waiting() == names
    assert [told.arguments for name in names if (told := spool.take(name))] == [[str(n)] for n in range(30)]


@pytest.mark.fault("F11")
def test_the_order_is_that_of_the_clock_since_boot_however_many_digits_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    instants = [5, 10**9, 9 * 10**9, 10**10, 10**15 - 1, 10**15, 3 * 10**18]
    for instant in random.Random(1).sample(instants, len(instants)):
        monkeypatch.setattr(spool, "clock_gettime_ns", lambda _clock, now=instant: now)
        spool.put(Told("pppd", [str(instant)], {}))
    taken = [spool.take(name) for name in spool.waiting()]
    assert [told.arguments for told in taken if told] == [[str(instant)] for instant in instants]


@pytest.mark.fault("F18")
def test_an_event_cut_off_at_any_byte_is_not_believed(folders: Path) -> None:
    for told in (
        TOLD,
        Told("pppd", [*TOLD.arguments[:6], "end"], {"LINKNAME": "end"}),
        Told("dhclient", [], {"reason": "BOUND"}),
    ):
        name = spool.put(told)
        whole = (folders / name).read_bytes()
        for length in range(len(whole)):
            (folders / name).write_bytes(whole[:length])
            assert spool.take(name) is None, whole[:length]
        (folders / name).write_bytes(whole)
        assert said(spool.take(name)) == said(told)


@pytest.mark.parametrize("data", [
    b"", b"\0", b"end", b"multihook event 1", b"multihook event 2\0pppd\0000\0end", b"multihook event 1\0pppd\0end",
    b"multihook event 1\0pppd\0x\0end", b"multihook event 1\0pppd\0-1\0end", b"multihook event 1\0pppd\0007\0a\0end",
    b"multihook event 1\0pppd\0" + b"9" * 30 + b"\0end", b"multihook event 1\0pppd\0" + b"9" * 5000 + b"\0end",
    b"multihook event 1\0pppd\0\xb2\0end", b"MULTIHOOK EVENT 1\0pppd\0000\0end", b"multihook event 1\0pppd\0000\0end\n",
    b"\x7fELF" + bytes(1000), b"\xff" * 1000, b"#!/bin/sh\nreboot\n",
], ids=lambda data: repr(data[:40]))  # fmt: skip
def test_what_is_no_event_is_not_believed(folders: Path, data: bytes) -> None:
    (folders / "00000000000000000001-1").write_bytes(data)
    assert spool.take("00000000000000000001-1") is None


@pytest.mark.thorough
def test_an_event_with_any_byte_turned_never_makes_the_reader_fail(folders: Path) -> None:
    name = spool.put(TOLD)
    whole = bytearray((folders / name).read_bytes())
    for position in range(len(whole)):
        for value in (0, 10, 0x39, 0xFF):
            damaged = bytes(whole[:position]) + bytes((value,)) + bytes(whole[position + 1 :])
            (folders / name).write_bytes(damaged)
            told = spool.take(name)
            if told:
                try:
                    sources.translate(told.source, told.arguments, told.variables)
                except sources.Refused:
                    pass


@pytest.mark.fault("F18")
def test_a_foreign_file_in_the_spool_is_not_believed(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = spool.put(TOLD)
    (folders / "group").write_bytes((folders / name).read_bytes())
    (folders / "group").chmod(0o660)
    (folders / "link").symlink_to(name)
    os.mkfifo(folders / "fifo")
    (folders / "folder").mkdir()
    (folders / "large").write_bytes(b"multihook event 1\0pppd\0000\0" + b"x" * (1 << 18) + b"\0end")
    for other in ("group", "link", "fifo", "folder", "large"):
        assert spool.take(other) is None, other
    assert said(spool.take(name)) == said(TOLD)
    if os.geteuid() == 0:
        os.chown(folders / name, 12345, 12345)
    else:
        monkeypatch.setattr(files, "geteuid", lambda: 12345)
    assert spool.take(name) is None


def test_what_a_killed_run_was_still_writing_is_no_event(folders: Path) -> None:
    name = spool.put(TOLD)
    (folders / "00000000000000000001-77.77.new").write_bytes(b"multihook ev")
    assert spool.waiting() == [name]


def test_without_a_spool_nothing_waits(folders: Path) -> None:
    folders.rmdir()
    assert spool.waiting() == []
    with pytest.raises(OSError):
        spool.put(TOLD)


def test_taking_out_what_is_gone_or_cannot_be_taken_out_is_no_error(folders: Path) -> None:
    (folders / "folder").mkdir()
    name = spool.put(TOLD)
    spool.done(["missing", "folder", name])
    assert spool.waiting() == ["folder"]


HUGE = "x" * 131071


@pytest.mark.fault("F26")
@pytest.mark.parametrize("source, arguments, known", [
    ("pppd", ["ip-up", "ppp0", HUGE, HUGE, "203.0.113.45", HUGE, HUGE], {}),
    ("dhclient", [], {b"reason": b"BOUND", b"interface": b"eth1", b"new_ip_address": b"198.51.100.7",
    b"new_routers": b"198.51.100.1"}),
], ids=["pppd", "dhclient"])  # fmt: skip
def test_an_event_with_128_kilobytes_in_every_value_is_not_lost_in_the_spool(
    source: str, arguments: list[str], known: dict[bytes, bytes]
) -> None:
    environment = {name.encode(): HUGE.encode() for name in VARIABLES[source]} | known
    told = Told(source, arguments, spool.pick(environment, VARIABLES[source]))
    before = sources.translate(told.source, told.arguments, told.variables)
    taken = spool.take(spool.put(told))
    assert taken
    after = sources.translate(taken.source, taken.arguments, taken.variables)
    assert before and before.address and after
    assert (after.interface, after.address, after.gateway) == (before.interface, before.address, before.gateway)


def test_as_many_of_the_longest_characters_as_an_event_can_have_are_no_event_lost() -> None:
    longest = "\U0001f600" * 5000
    for source in VARIABLES:
        told = Told(source, [longest] * 99, dict.fromkeys(VARIABLES[source], longest))
        assert said(spool.take(spool.put(told))) == said(told)


# --- dpkg's mark ---


def mark(content: bytes, mode: int = 0o644) -> None:
    path = Path(spool.UPGRADING)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def uptime() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


def test_there_is_a_name_of_this_boot() -> None:
    assert spool.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    assert len(spool.boot_id()) == 36


def test_the_mark_as_the_package_scripts_write_it_holds() -> None:
    assert not spool.is_upgrading()
    seconds = Path("/proc/uptime").read_text().split()[0].partition(".")[0]
    mark(f"{spool.boot_id().decode()}\n{seconds}\n".encode())
    assert spool.is_upgrading()
    Path(spool.UPGRADING).unlink()
    assert not spool.is_upgrading()


@pytest.mark.fault("F11")
@pytest.mark.parametrize(
    "age, holds", [(0, True), (1, True), (598, True), (601, False), (10**6, False), (-30, False), (-(10**9), False)]
)
def test_the_mark_is_void_after_ten_minutes_and_when_it_lies_in_the_future(age: int, holds: bool) -> None:
    mark(spool.boot_id() + b"\n%d\n" % (uptime() - age))
    assert spool.is_upgrading() == holds


@pytest.mark.fault("F67")
def test_the_mark_of_another_boot_is_void() -> None:
    mark(b"00000000-0000-0000-0000-000000000000\n%d\n" % uptime())
    assert not spool.is_upgrading()


@pytest.mark.parametrize("content", [
    b"", b"\n", b"x", b"BOOT", b"BOOT\n", b"BOOT\nx\n", b"BOOT\n1e3\n", b"BOOT\nNOW\nNOW\n", b"BOOT BOOT\n",
    b"\0" * 100, b"\xff\xfe",
    b"BOOT\n" + b"9" * 4000, b"BOOT\n" + b"9" * 4400, b"BOOT\n\xb2\n", b"BOOT\nNOW" + b" " * 4096,
])  # fmt: skip
def test_a_mark_that_makes_no_sense_is_void(content: bytes) -> None:
    mark(content.replace(b"BOOT", spool.boot_id()).replace(b"NOW", b"%d" % uptime()))
    assert not spool.is_upgrading()


def test_a_mark_that_others_could_have_set_is_void(tmp_path: Path) -> None:
    content = spool.boot_id() + b"\n%d\n" % uptime()
    mark(content, 0o666)
    assert not spool.is_upgrading()
    Path(spool.UPGRADING).unlink()
    (tmp_path / "mark").write_bytes(content)
    Path(spool.UPGRADING).symlink_to(tmp_path / "mark")
    assert not spool.is_upgrading()
    Path(spool.UPGRADING).unlink()
    os.mkfifo(spool.UPGRADING)
    assert not spool.is_upgrading()

"""Warnings that come again and again are said the first, second, fourth, eighth ... time."""

import os
from pathlib import Path

import pytest

from multihook import journal, repeats


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the counts, in a folder of our own."""
    os.umask(0o022)
    monkeypatch.setattr(repeats, "RUN", str(tmp_path / "run"))
    monkeypatch.setattr(repeats, "PRIVATE", str(tmp_path / "run/private"))
    monkeypatch.setattr(repeats, "REPEATS", str(tmp_path / "run/private/repeats"))
    (tmp_path / "run/private").mkdir(0o700, parents=True)
    return tmp_path / "run/private/repeats"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    lines: list[tuple[int, str]] = []
    monkeypatch.setattr(journal, "write", lambda priority, line: lines.append((priority, line)))
    return lines


@pytest.mark.fault("F80")
def test_a_warning_is_said_the_first_second_fourth_eighth_time(counted: Path, log: list[tuple[int, str]]) -> None:
    said_at = []
    for number in range(1, 70):
        before = len(log)
        repeats.warn("dsl: rubbish")
        if len(log) > before:
            said_at.append(number)
    assert said_at == [1, 2, 4, 8, 16, 32, 64]
    assert log[0] == (journal.WARNING, "dsl: rubbish")
    assert [line for _, line in log[1:]] == [f"dsl: rubbish ({count} times)" for count in (2, 4, 8, 16, 32, 64)]


def test_each_line_is_counted_for_itself_and_keeps_its_priority(counted: Path, log: list[tuple[int, str]]) -> None:
    for _ in range(3):
        repeats.warn("a")
        repeats.warn("b", journal.ERR)
    assert log == [
        (journal.WARNING, "a"), (journal.ERR, "b"), (journal.WARNING, "a (2 times)"), (journal.ERR, "b (2 times)"),
    ]  # fmt: skip


@pytest.mark.thorough
def test_the_counts_of_many_different_lines_stay_small_and_the_newest_are_kept(
    counted: Path, log: list[tuple[int, str]]
) -> None:
    for number in range(500):
        repeats.warn(f"line {number}")
        repeats.warn("again")
    assert len(counted.read_text().splitlines()) <= 64
    assert counted.stat().st_size < 4096
    assert counted.stat().st_mode & 0o7777 == 0o600
    assert [line for _, line in log if line.startswith("again")][-1] == "again (256 times)"


@pytest.mark.fault("F18")
@pytest.mark.parametrize("content", [
    b"", b"\n\n", b"x", b"1 2 3\n", b"-1 5\n", b"1 x\n", b"\xff\xfe\n", b"\0" * 1000, b"1\n", " ٣ ٤\n".encode(),
    b"9" * 5000 + b" 1\n",
    b"1 " + b"9" * 5000 + b"\n", b"1 1\n" * 20000, "² ²\n".encode(),
], ids=lambda content: repr(content[:20]))  # fmt: skip
def test_damaged_counts_are_as_good_as_none(counted: Path, log: list[tuple[int, str]], content: bytes) -> None:
    counted.write_bytes(content)
    for _ in range(3):
        repeats.warn("dsl: rubbish")
    assert [line for _, line in log] == ["dsl: rubbish", "dsl: rubbish (2 times)"]


def test_what_cannot_be_counted_is_said_each_time(counted: Path, log: list[tuple[int, str]]) -> None:
    counted.mkdir()
    for _ in range(3):
        repeats.warn("dsl: rubbish")
    assert [line for _, line in log] == ["dsl: rubbish"] * 3


def test_counts_that_others_could_have_written_or_that_lie_elsewhere_are_not_believed(
    counted: Path, log: list[tuple[int, str]]
) -> None:
    repeats.warn("a")
    repeats.warn("a")
    repeats.warn("a")
    counted.chmod(0o666)
    log.clear()
    repeats.warn("a")
    assert [line for _, line in log] == ["a"]
    assert counted.stat().st_mode & 0o7777 == 0o600
    target = counted.with_name("target")
    target.write_bytes(b"precious")
    counted.unlink()
    counted.symlink_to(target)
    repeats.warn("a")
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize("line", ["\udcff", "é\n", "x" * 100000])
def test_any_line_can_be_counted(counted: Path, log: list[tuple[int, str]], line: str) -> None:
    for _ in range(3):
        repeats.warn(line)
    assert len(log) == 2


def test_counts_are_not_kept_in_a_folder_of_others(counted: Path, log: list[tuple[int, str]]) -> None:
    counted.parent.chmod(0o777)
    for _ in range(3):
        repeats.warn("dsl: rubbish")
    assert len(log) == 3
    assert not counted.exists()
    counted.parent.chmod(0o700)
    counted.parent.rmdir()
    repeats.warn("dsl: rubbish")
    assert counted.exists()
    assert counted.parent.stat().st_mode & 0o7777 == 0o700

"""Our protocol and tables by name for ip(8): written where they differ, never read back as truth."""

import os
from pathlib import Path

import pytest

from multihook import names
from multihook.links import Link

CONFIG = {"rt_proto": 109}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    os.umask(0o022)
    monkeypatch.setattr(names, "RT_PROTOS", str(tmp_path / "rt_protos.d/multihook.conf"))
    monkeypatch.setattr(names, "RT_TABLES", str(tmp_path / "rt_tables.d/multihook.conf"))
    return tmp_path


def links(**tables: int) -> list[Link]:
    return [Link(name, table, None) for name, table in tables.items()]


def lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]


def test_both_files_are_written_as_ip_reads_them(folder: Path) -> None:
    names.publish(CONFIG, links(dsl=200, cable=1000, without=0), whole=True)
    assert lines(folder / "rt_tables.d/multihook.conf") == [["200", "dsl"], ["1000", "cable"]]
    assert lines(folder / "rt_protos.d/multihook.conf") == [["109", "multihook"]]
    for path in folder.rglob("*.conf"):
        assert path.stat().st_mode & 0o7777 == 0o644
        assert path.read_text().startswith("# Written by multihook(8)")


def test_what_is_right_already_is_not_written_again(folder: Path) -> None:
    names.publish(CONFIG, links(dsl=200), whole=True)
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*.conf")}
    names.publish(CONFIG, links(dsl=200), whole=True)
    names.publish(CONFIG, links(dsl=200), whole=False)
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*.conf")} == before


def test_a_whole_run_forgets_links_that_are_no_more_and_an_events_run_only_adds(folder: Path) -> None:
    path = folder / "rt_tables.d/multihook.conf"
    names.publish(CONFIG, links(dsl=200, cable=201), whole=True)
    names.publish(CONFIG, links(lte=202), whole=False)
    assert lines(path) == [["200", "dsl"], ["201", "cable"], ["202", "lte"]]
    names.publish(CONFIG, links(lte=202), whole=True)
    assert lines(path) == [["202", "lte"]]


@pytest.mark.parametrize("content", [
    b"", b"\xff\xfe\0", b"9" * 5000 + b"\tx\n", b"x\ty\n", b"300\n", "٣\tx\n".encode(), b"\t\n", b"200\tdsl",
    b"#\n" * 10000,
], ids=lambda content: repr(content[:20]))  # fmt: skip
def test_a_damaged_file_is_replaced(folder: Path, content: bytes) -> None:
    path = folder / "rt_tables.d/multihook.conf"
    path.parent.mkdir()
    path.write_bytes(content)
    names.publish(CONFIG, links(dsl=200), whole=False)
    assert ["200", "dsl"] in lines(path)
    names.publish(CONFIG, links(dsl=200), whole=True)
    assert lines(path) == [["200", "dsl"]]


def test_a_link_in_the_place_is_replaced_and_not_written_through(folder: Path) -> None:
    path = folder / "rt_tables.d/multihook.conf"
    path.parent.mkdir()
    (folder / "victim").write_text("precious\n")
    path.symlink_to(folder / "victim")
    names.publish(CONFIG, links(dsl=200), whole=False)
    assert (folder / "victim").read_text() == "precious\n"
    assert lines(path) == [["200", "dsl"]]


def test_where_they_cannot_be_written_there_is_an_error_for_the_run_to_tell(folder: Path) -> None:
    (folder / "rt_protos.d").write_text("")
    with pytest.raises(OSError):
        names.publish(CONFIG, links(dsl=200), whole=True)

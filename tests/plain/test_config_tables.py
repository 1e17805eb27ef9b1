"""Table numbers: which ones others have, which ones links get, and that they stay with them."""

import fcntl
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from config_machine import Machine, give_away, make_machine

from multihook import files, paths
from multihook.config import compiled, schema, tables, toml


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return make_machine(tmp_path, monkeypatch)


def links(*names: str, **given: int) -> str:
    """A multihook.toml with links without a table, and links with one."""
    text = "".join(f"[link.{name}]\ninterface = 'if-{name}'\n" for name in names)
    return text + "".join(f"[link.{name}]\ninterface = 'if-{name}'\ntable = {given[name]}\n" for name in given)


def numbers(config: dict[str, Any]) -> dict[str, int]:
    return {name: link["table"] for name, link in config["links"].items()}


def test_the_lowest_free_numbers_in_the_order_of_the_file(machine: Machine) -> None:
    machine.write(links("c", "a", b=1001))
    assert numbers(compiled.load()) == {"c": 1000, "a": 1002, "b": 1001}
    assert tables.known() == {"c": 1000, "a": 1002}
    lines = machine.numbers.read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["c 1000", "a 1002"]
    assert lines[0].startswith("# Routing table numbers that multihook gave")
    assert machine.numbers.stat().st_mode & 0o777 == 0o644


@pytest.mark.fault("F70")
def test_a_link_keeps_its_number_also_while_it_is_gone(machine: Machine) -> None:
    machine.write(links("a", "b"))
    compiled.load()
    machine.write(links("b"))
    assert numbers(compiled.load()) == {"b": 1001}
    machine.write(links("c", "b"))
    assert numbers(compiled.load()) == {"c": 1002, "b": 1001}
    machine.write(links("b", "a", "c"))
    assert numbers(compiled.load()) == {"b": 1001, "a": 1000, "c": 1002}


def test_a_number_that_the_configuration_gives_to_another_is_taken_away(machine: Machine) -> None:
    machine.write(links("a", "b"))
    compiled.load()
    machine.write(links("a", "b", c=1000))
    assert numbers(compiled.load()) == {"a": 1002, "b": 1001, "c": 1000}
    assert tables.known() == {"a": 1002, "b": 1001}


def test_a_link_that_names_its_number_gives_the_allotted_one_back(machine: Machine) -> None:
    machine.write(links("a", "b"))
    compiled.load()
    machine.write(links("b", a=300))
    compiled.load()
    assert tables.known() == {"b": 1001}


@pytest.mark.fault("F43")
def test_numbers_of_others_are_skipped(machine: Machine) -> None:
    (machine.iproute2 / "rt_tables").write_text("220 x\n0x33 hex\n54 y # with a comment\n")
    machine.write("[multihook]\nfirst_table = 51\n" + links("a", "b", "c"))
    assert numbers(compiled.load()) == {"a": 53, "b": 55, "c": 56}  # 51 and 54 are others', 52 is Tailscale's
    machine.numbers.unlink()
    machine.write("[multihook]\nfirst_table = 219\n" + links("a", "b"))
    assert numbers(compiled.load()) == {"a": 219, "b": 221}
    machine.numbers.unlink()
    machine.write("[multihook]\nfirst_table = 252\n" + links("a", "b"))
    assert numbers(compiled.load()) == {"a": 252, "b": 256}


@pytest.mark.fault("F43")
def test_a_number_that_others_took_since_is_given_up(machine: Machine) -> None:
    machine.write(links("a", "b"))
    compiled.load()
    (machine.iproute2 / "rt_tables").write_text("1000 x\n")
    assert numbers(compiled.load()) == {"a": 1002, "b": 1001}


def test_adopted_links_get_numbers_beside_the_configured_ones(machine: Machine) -> None:
    machine.write(links("a", b=1001))
    config = compiled.load()
    assert tables.allot(["eth5", "eth0.100"], config) == {"eth5": 1002, "eth0.100": 1003}
    assert tables.known() == {"a": 1000, "eth5": 1002, "eth0.100": 1003}
    assert tables.allot(["eth0.100"], config) == {"eth0.100": 1003}
    assert tables.allot([], config) == {}


def test_taken_numbers_are_skipped_and_left(machine: Machine) -> None:
    config = compiled.load()
    assert tables.allot(["eth5"], config, taken=[1000, 1001]) == {"eth5": 1002}
    assert tables.allot(["eth5"], config, taken=[1002]) == {"eth5": 1000}
    assert tables.known() == {"eth5": 1000}
    tables.allot(["eth6"], config, taken=[1000])
    assert tables.known() == {"eth5": 1000, "eth6": 1001}


def test_looking_writes_nothing(machine: Machine) -> None:
    config = compiled.load()
    before = machine.snapshot()
    assert tables.allot(["eth5"], config, keep=False) == {"eth5": 1000}
    assert machine.snapshot() == before


def test_nothing_new_writes_nothing(machine: Machine) -> None:
    config = compiled.load()
    tables.allot(["eth5"], config)
    before = machine.snapshot()
    tables.allot(["eth5"], config)
    assert machine.snapshot() == before


def test_where_it_cannot_be_written_the_same_names_get_the_same_numbers(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, *_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", path)

    monkeypatch.setattr(files, "replace", fail)
    config = compiled.load()
    first = tables.allot(["b", "a", "c"], config)
    assert first == {"b": 1000, "a": 1001, "c": 1002}
    assert tables.allot(["b", "a", "c"], config) == first
    assert tables.known() == {}


def unwritable(folder: str) -> pytest.MonkeyPatch:
    """No file in that folder can be written, until the patch is undone."""
    patch, real = pytest.MonkeyPatch(), files.replace

    def fail(path: str, content: bytes, mode: int = 0o644, durable: bool = False) -> None:
        if path.startswith(folder):
            raise OSError(30, "Read-only file system", path)
        real(path, content, mode, durable)

    patch.setattr(files, "replace", fail)
    return patch


def test_where_only_run_can_be_written_numbers_stay_there_until_they_can_be_kept(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in dhcpcd.service: each link is told of in a run of its own."""
    config = compiled.load()
    tables.allot(["first"], config)
    read_only = unwritable(paths.VAR)
    assert tables.allot(["b"], config) == {"b": 1001}
    assert tables.allot(["a"], config) == {"a": 1002}
    assert tables.known() == {"first": 1000, "b": 1001, "a": 1002}
    before = machine.snapshot()
    tables.take_over(config)
    assert tables.allot(["a", "b"], config) == {"a": 1002, "b": 1001}
    assert machine.snapshot() == before
    read_only.undo()
    tables.take_over(config)
    assert not (machine.run / "tables").exists()
    assert machine.numbers.read_text().splitlines()[-3:] == ["first 1000", "b 1001", "a 1002"]
    before = machine.snapshot()
    tables.take_over(config)
    assert machine.snapshot() == before


def test_what_is_kept_goes_before_what_stands_in_run(machine: Machine) -> None:
    machine.numbers.write_text("a 1005\n")
    (machine.run / "tables").write_text("a 1006\nb 1005\nc 1007\n")
    assert tables.known() == {"a": 1005, "c": 1007}


def test_numbers_run_on_at_the_end(machine: Machine) -> None:
    config = compiled.load()
    config["first_table"] = tables.LAST
    assert tables.allot(["a", "b"], config, keep=False) == {"a": tables.LAST, "b": 1}


@pytest.mark.fault("F18")
@pytest.mark.parametrize(
    ("content", "known"),
    [
        (b"a 1000\nb 1001\n", {"a": 1000, "b": 1001}),
        (b"# a 5\n\na 1000", {"a": 1000}),
        (b"a 1000\na 1001\nb 1000\nc 1002\n", {"a": 1000, "c": 1002}),
        (b"a 0\nb -1\nc 4294967296\nd 99999999999999999999\ne 1.5\nf x\ng\nh 4294967295\n", {"h": 4294967295}),
        (b"a  1000\nb\t1000\nc 1000 x\n 1000\nd 1000\r\n", {"d": 1000}),
        (b"$(reboot) 1000\n../x 1001\nc* 1002\nmain 1003\neth0.5 1004\n", {"main": 1003, "eth0.5": 1004}),
        (b"\xff\xfe\0a 1000\n\xd9\xa1 5\nb \xd9\xa1\nc 7\n", {"c": 7}),
        (b"\0" * 4096, {}),
        (b"", {}),
    ],
)
def test_lines_that_make_no_sense_are_passed_over(machine: Machine, content: bytes, known: dict[str, int]) -> None:
    machine.numbers.write_bytes(content)
    assert tables.known() == known


def test_the_file_is_believed_only_when_it_is_ours(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    target = machine.root / "target"
    target.write_text("a 1005\n")
    machine.numbers.symlink_to(target)
    assert tables.known() == {}
    machine.write(links("a"))
    assert numbers(compiled.load()) == {"a": 1000}
    assert target.read_text() == "a 1005\n"
    assert not machine.numbers.is_symlink()
    machine.numbers.chmod(0o666)
    assert tables.known() == {}
    machine.numbers.unlink()
    os.mkfifo(machine.numbers)
    assert tables.known() == {}
    machine.numbers.unlink()
    machine.numbers.write_text("a 1005\n")
    assert tables.known() == {"a": 1005}
    give_away(machine.numbers, monkeypatch)
    assert tables.known() == {}


def test_two_at_once_never_get_the_same_number(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compiled.load()
    real = tables._write

    def slowly(found: dict[str, int]) -> None:
        time.sleep(0.02)
        real(found)

    monkeypatch.setattr(tables, "_write", slowly)
    monkeypatch.setattr(tables, "_LOCK_TRIES", 6000)  # each waits for five others, on a disk that may be slow
    got: dict[str, int] = {}

    def work(name: str) -> None:
        got.update(tables.allot([name], config))

    workers = [threading.Thread(target=work, args=(f"eth{n}",)) for n in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(got.values()) == list(range(1000, 1006))
    assert tables.known() == got


def test_a_holder_that_stands_still_does_not_stop_us(machine: Machine) -> None:
    fd = os.open(machine.private, os.O_RDONLY)
    try:
        config = compiled.load()
        fcntl.flock(fd, fcntl.LOCK_EX)
        began = time.monotonic()
        opened = len(os.listdir("/proc/self/fd"))
        assert tables.allot(["eth5"], config) == {"eth5": 1000}
        assert time.monotonic() - began < 60
        assert len(os.listdir("/proc/self/fd")) == opened
    finally:
        os.close(fd)


def test_nothing_stays_open(machine: Machine) -> None:
    config = compiled.load()
    before = len(os.listdir("/proc/self/fd"))
    tables.allot(["eth5"], config)
    assert len(os.listdir("/proc/self/fd")) == before


def test_who_has_which_number_as_iproute2_reads_it(machine: Machine) -> None:
    parts = machine.iproute2 / "rt_tables.d"
    parts.mkdir()
    (machine.iproute2 / "rt_tables").write_text(
        "#\n# reserved\n#\n255\tlocal\n  200 pipe2\n0x12c hex\n#1 inr.ruhep\nbroken\n9x y\n7 # x\n-1 z\n400 a b\n"
    )
    (parts / "x.conf").write_text("500 five\n")
    (parts / "multihook.conf").write_text("600 ours\n")
    (parts / "y.txt").write_text("700 other\n")
    (parts / ".z.conf").write_text("800 hidden\n")
    (machine.iproute2 / "rt_protos").write_bytes(b"2 kernel\n109 mine\n\xff\xfe\n")
    machine.share.mkdir(parents=True)
    (machine.share / "rt_tables").write_text("254 main\n200 later\n")
    used, names, protocols, pairs = tables.others()
    etc = machine.iproute2
    assert used == {
        255: f"table local in {etc}/rt_tables",
        200: f"table pipe2 in {etc}/rt_tables",
        300: f"table hex in {etc}/rt_tables",
        400: f"table a in {etc}/rt_tables",
        500: f"table five in {parts}/x.conf",
        254: f"table main in {machine.share}/rt_tables",
    }
    assert names["five"] == f"table 500 in {parts}/x.conf"
    assert names["later"] == f"table 200 in {machine.share}/rt_tables"
    assert pairs >= {(200, "pipe2"), (200, "later"), (500, "five")} and (600, "ours") not in pairs
    assert protocols == {2: f"kernel in {etc}/rt_protos", 109: f"mine in {etc}/rt_protos"}


def test_files_of_iproute2_that_cannot_be_read_decide_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(machine.iproute2 / "rt_tables")
    (machine.iproute2 / "rt_protos").mkdir()
    (machine.iproute2 / "rt_tables.d").write_text("")
    assert tables.others() == ({}, {}, {}, set())


@pytest.mark.parametrize("distribution", ["bookworm", "trixie"])
def test_what_debian_ships_leaves_the_defaults_free(machine: Machine, distribution: str) -> None:
    folder = machine.iproute2 if distribution == "bookworm" else machine.share
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rt_tables").write_text("255\tlocal\n254\tmain\n253\tdefault\n0\tunspec\n")
    (folder / "rt_protos").write_text("0 unspec\n2 kernel\n16 dhcp\n192 eigrp\n")
    machine.write(links("a"))
    config = compiled.load()
    assert (config["error"], numbers(config)) == ("", {"a": 1000})


def test_number_gives_only_those_that_have_none(machine: Machine) -> None:
    machine.write(links("a", b=5))
    config, _ = schema.build(toml.read(toml.installed()), tables.others())
    assert numbers(config) == {"a": 0, "b": 5}
    tables.number(config, keep=False)
    assert numbers(config) == {"a": 1000, "b": 5}
    assert not machine.numbers.exists()

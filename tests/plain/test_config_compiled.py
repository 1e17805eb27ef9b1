"""The compiled configuration: what a hit imports, when it is made anew, damage to it, and the last good one."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
from config_machine import Machine, give_away, make_machine

import multihook
from multihook import files
from multihook.config import compiled, schema, tables, toml

GOOD = '[link.dsl]\ninterface = "ppp0"\ntable = 200\n[link.cable]\ninterface = "eth1"\ngateway = "192.0.2.1"\n'
WRONG = '[link.dsl]\ninterface = "ppp0"\ntable = 254\n'
WHAT = "link.dsl.table: 254 is the kernel's table main; choose one of 1..252 or above 255"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return make_machine(tmp_path, monkeypatch)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Grows by one with each compilation from the files."""
    found: list[bool] = []
    real = toml.installed

    def count() -> list[str]:
        found.append(True)
        return real()

    monkeypatch.setattr(toml, "installed", count)
    return found


def test_an_empty_file_is_valid(machine: Machine) -> None:
    config = compiled.load()
    assert (config["adopt"], config["links"], config["error"], config["usable"]) == (True, {}, "", True)
    assert machine.log == []


def test_a_hit_is_what_the_miss_was(machine: Machine, compilations: list[bool]) -> None:
    machine.write(GOOD)
    machine.settle()
    first = compiled.load()
    before = machine.snapshot()
    assert compiled.load() == first
    assert compiled.load()["links"]["cable"]["gateway"] == bytes((192, 0, 2, 1))
    assert len(compilations) == 1
    assert machine.snapshot() == before
    assert compiled.compile() == first


def test_links_out_of_the_cache_are_read_when_asked_for(machine: Machine) -> None:
    machine.write(GOOD)
    machine.settle()
    compiled.load()
    links = compiled.load()["links"]
    assert (list(links), len(links), "dsl" in links, "x" in links) == (["dsl", "cable"], 2, True, False)
    assert all(isinstance(value, bytes) for value in dict.values(links))
    assert links["dsl"] is links["dsl"]
    assert links["dsl"]["table"] == 200
    assert links.get("cable") is links["cable"]
    assert (links.get("x"), links.get("x", 5)) == (None, 5)
    with pytest.raises(KeyError):
        links["x"]


@pytest.mark.parametrize(
    "copy",
    [
        dict,
        lambda links: {**links},
        lambda links: dict(links.items()),
        lambda links: dict(zip(links, links.values(), strict=True)),
        deepcopy,
        lambda links: links,
    ],
)
def test_links_out_of_the_cache_copy_like_a_plain_dict(machine: Machine, copy: Callable[..., object]) -> None:
    machine.write(GOOD)
    machine.settle()
    plain = compiled.load()["links"]
    assert type(plain) is dict
    links = compiled.load()["links"]
    assert isinstance(links, compiled.Links)
    assert copy(links) == plain
    assert plain == copy(compiled.load()["links"])
    assert plain != compiled.Links()
    assert repr(compiled.load()["links"]) == repr(plain)


# With the interpreter that hooks have; what is missed is not looked for on this machine.
FIRST = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
from config_machine import Machine, place
from multihook.config import compiled
place(Machine(Path({top!r})), setattr)
compiled.compile(keep=True)
"""
HIT = """
import sys
sys.path.insert(0, {root!r})
started = set(sys.modules)
from multihook import paths
from multihook.config import compiled, tables
paths.COMPILED = {cache!r}
paths.TABLES = {numbers!r}
compiled._renew = None
assert compiled.load()["links"]["cable"]["table"] == 1000
assert tables.known() == {{"cable": 1000}}
ours = {{name for name in sys.modules if name.partition(".")[0] == "multihook"}}
print(*sorted(set(sys.modules) - started - set(sys.builtin_module_names) - ours))
print(*sorted(ours))
"""


def test_a_hit_imports_what_is_built_in_and_nothing_else(machine: Machine) -> None:
    machine.write(GOOD)
    machine.settle()
    places = {
        "root": str(Path(multihook.__file__).parent.parent),
        "tests": str(Path(__file__).parent),
        "top": str(machine.root),
        "cache": str(machine.cache),
        "numbers": str(machine.numbers),
    }
    _python(FIRST.format(**places))
    foreign, ours = _python(HIT.format(**places)).splitlines()
    assert foreign == ""
    assert "multihook.config.compiled" in ours.split()
    assert not {"multihook.config.schema", "multihook.config.toml"} & set(ours.split())


def _python(script: str) -> str:
    command = ["/usr/bin/python3", "-IBS", "-c", script]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stderr, ran.returncode) == ("", 0)
    return ran.stdout


def _rewrite_in_place(machine: Machine) -> None:
    # Same size, same inode, and the time of the content put back.
    before = machine.settings.stat()
    machine.write(GOOD.replace("eth1", "eth2"))
    os.utime(machine.settings, ns=(before.st_atime_ns, before.st_mtime_ns))


def _add_drop_in(machine: Machine) -> None:
    machine.write("[multihook]\nadopt = false", "a.toml")


def _change_mode(machine: Machine) -> None:
    machine.settings.chmod(0o666)


def _change_mode_of_folder(machine: Machine) -> None:
    machine.drop_ins.chmod(0o777)


def _remove(machine: Machine) -> None:
    machine.settings.unlink()


def _rename_over(machine: Machine) -> None:
    new = machine.etc / "new"
    new.write_text(GOOD.replace("eth1", "eth2"))
    new.rename(machine.settings)


def _somebody_takes_a_table(machine: Machine) -> None:
    (machine.iproute2 / "rt_tables").write_text("200 other\n")


def _a_package_takes_a_table(machine: Machine) -> None:
    folder = machine.iproute2 / "rt_tables.d"
    folder.mkdir()
    (folder / "x.conf").write_text("200 other\n")


@pytest.mark.parametrize(
    "change",
    [
        _rewrite_in_place,
        _add_drop_in,
        _change_mode,
        _change_mode_of_folder,
        _remove,
        _rename_over,
        _somebody_takes_a_table,
        _a_package_takes_a_table,
    ],
)
def test_every_change_is_seen_at_the_next_event(
    machine: Machine, compilations: list[bool], change: Callable[[Machine], None]
) -> None:
    machine.write(GOOD)
    machine.settle()
    before = compiled.load()
    change(machine)
    after = compiled.load()
    assert len(compilations) == 2
    assert after != before


def test_a_change_in_a_drop_in_and_its_going_are_seen(machine: Machine) -> None:
    path = machine.write("[multihook]\ngroup = 5", "a.toml")
    machine.settle()
    assert compiled.load()["group"] == 5
    machine.write("[multihook]\ngroup = 6", "a.toml")
    assert compiled.load()["group"] == 6
    machine.settle()
    assert compiled.load()["group"] == 6
    path.unlink()
    assert compiled.load()["group"] == 109


@pytest.mark.parametrize("name", ["multihook.toml.swp", ".x.toml", "x.toml~"])
def test_what_does_not_count_costs_nothing(machine: Machine, compilations: list[bool], name: str) -> None:
    machine.settle()
    compiled.load()
    (machine.etc / name).write_text("x")
    (machine.drop_ins / name).write_text("x")
    compiled.load()
    assert len(compilations) == 1


def test_our_own_names_of_tables_are_never_read_back(machine: Machine, compilations: list[bool]) -> None:
    folder = machine.iproute2 / "rt_tables.d"
    folder.mkdir()
    machine.write(GOOD)
    machine.settle()
    compiled.load()
    for content in ("200 dsl\n", "200 dsl\n1000 cable\n"):
        (folder / "multihook.conf").write_text(content)
        assert compiled.load()["error"] == ""
    assert len(compilations) == 1


@pytest.mark.parametrize(("age", "seen"), [(1_000_000, True), (10_000_000_000, False)])
def test_two_changes_within_one_tick_are_told_apart(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, age: int, seen: bool
) -> None:
    changed = time.time_ns() // 1_000_000_000 * 1_000_000_000 - 20_000_000_000 + 1
    monkeypatch.setattr(compiled, "time_ns", lambda: changed + age)
    monkeypatch.setattr(compiled, "_stamp", lambda _: (changed, changed, 100, 1))
    machine.write("[multihook]\ngroup = 5")
    assert compiled.load()["group"] == 5
    # Nothing in the stamps differs now; what was read within a tick of a change is looked at again.
    machine.write("[multihook]\ngroup = 6")
    assert compiled.load()["group"] == (6 if seen else 5)


@pytest.mark.fault("F11")
@pytest.mark.parametrize(
    ("changed", "now", "young"),
    [
        (5_000_000_001, 5_000_000_001, True),
        (5_000_000_001, 5_049_000_000, True),
        (5_000_000_001, 5_051_000_000, False),
        (5_000_000_000, 6_900_000_000, True),  # whole seconds: a coarse file system
        (5_000_000_000, 7_100_000_000, False),
        (9_000_000_001, 5_000_000_000, False),  # the clock was set back: no other change has that time
        (-errno.ENOENT, 5_000_000_000, False),
    ],
)
def test_what_is_young(changed: int, now: int, young: bool) -> None:
    assert compiled._is_young(changed, now) is young


def test_a_young_cache_is_looked_at_again_and_then_believed(
    machine: Machine, compilations: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.write(GOOD)
    with monkeypatch.context() as at_once:  # a busy machine may take longer than a tick to come here
        at_once.setattr(compiled, "time_ns", lambda: machine.settings.stat().st_ctime_ns)
        compiled.load()
    kept = compiled._read_cache()
    assert kept is not None
    assert kept[1] is True
    machine.settle()
    for _ in range(3):
        compiled.load()
    assert len(compilations) == 2


# Damage to the cache.


def _kept(machine: Machine) -> bytes:
    machine.write(GOOD)
    machine.settle()
    compiled.load()
    return machine.cache.read_bytes()


def _heals(machine: Machine) -> None:
    config = compiled.load()
    assert (config["error"], config["links"]["cable"]["table"]) == ("", 1000)
    kept = compiled._read_cache()
    assert kept is not None
    assert kept[1:] == (False, config)


@pytest.mark.thorough
@pytest.mark.fault("F18")
def test_a_cache_cut_off_anywhere_is_not_believed(machine: Machine) -> None:
    whole = _kept(machine)
    assert compiled._read_cache() is not None
    for length in range(len(whole)):
        machine.cache.write_bytes(whole[:length])
        assert compiled._read_cache() is None, length
    for length in (0, len(compiled._HEADER), len(compiled._HEADER) + 4, len(whole) - 1):
        machine.cache.write_bytes(whole[:length])
        _heals(machine)


@pytest.mark.thorough
def test_a_cache_with_one_wrong_byte_anywhere_is_not_believed(machine: Machine) -> None:
    whole = _kept(machine)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        machine.cache.write_bytes(damaged)
        assert compiled._read_cache() is None, position
    for more in (b"\0", whole):
        machine.cache.write_bytes(whole + more)
        assert compiled._read_cache() is None


@pytest.mark.fault("F18")
@pytest.mark.parametrize("part", [f"{sys.hexversion:08x}", multihook.__version__, f" {compiled.FORMAT} "])
def test_the_cache_of_another_python_or_version_is_not_believed(machine: Machine, part: str) -> None:
    whole = _kept(machine)
    head, _, body = whole.partition(b"\n")
    other = head.replace(part.encode(), b"9" * len(part))
    assert other != head
    machine.cache.write_bytes(other + b"\n" + body)
    assert compiled._read_cache() is None
    _heals(machine)


def _as_fifo(machine: Machine) -> None:
    os.mkfifo(machine.cache)


def _as_folder(machine: Machine) -> None:
    machine.cache.mkdir()


def _as_link(machine: Machine) -> None:
    target = machine.root / "target"
    target.write_bytes(b"precious")
    machine.cache.symlink_to(target)


def _as_link_to_nothing(machine: Machine) -> None:
    machine.cache.symlink_to(machine.root / "nothing")


def _without_private(machine: Machine) -> None:
    machine.private.rmdir()


def _without_run(machine: Machine) -> None:
    machine.private.rmdir()
    machine.run.rmdir()


def _with_a_file_for_private(machine: Machine) -> None:
    machine.private.rmdir()
    machine.private.write_text("")


def _with_a_link_for_private(machine: Machine) -> None:
    machine.private.rmdir()
    elsewhere = machine.root / "elsewhere"
    elsewhere.mkdir()
    machine.private.symlink_to(elsewhere)


def _with_private_open_to_all(machine: Machine) -> None:
    machine.private.chmod(0o777)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("damage", "heals"),
    [
        (_as_fifo, True),
        (_as_folder, False),
        (_as_link, True),
        (_as_link_to_nothing, True),
        (_without_private, True),
        (_without_run, True),
        (_with_a_file_for_private, False),
        (_with_a_link_for_private, False),
        (_with_private_open_to_all, False),
    ],
)
def test_where_the_cache_cannot_be_kept_it_goes_on(
    machine: Machine, compilations: list[bool], damage: Callable[[Machine], None], heals: bool
) -> None:
    machine.write(GOOD)
    machine.settle()
    damage(machine)
    for _ in range(2):
        config = compiled.load()
        assert (config["error"], list(config["links"])) == ("", ["dsl", "cable"])
    assert len(compilations) == (1 if heals else 2)
    assert machine.log == []
    if (machine.root / "target").exists():
        assert (machine.root / "target").read_bytes() == b"precious"
    if (machine.root / "elsewhere").exists():
        assert list((machine.root / "elsewhere").iterdir()) == []


def test_a_cache_of_somebody_else_is_not_believed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    _kept(machine)
    give_away(machine.cache, monkeypatch)
    assert compiled._read_cache() is None
    if os.geteuid() == 0:
        _heals(machine)
        assert machine.cache.stat().st_uid == 0


def test_a_cache_that_others_can_write_is_not_believed(machine: Machine) -> None:
    _kept(machine)
    machine.cache.chmod(0o666)
    assert compiled._read_cache() is None


def test_the_cache_is_for_its_owner_only(machine: Machine) -> None:
    _kept(machine)
    assert machine.cache.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_nothing_can_be_written_anywhere(machine: Machine, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(path: str, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), path)

    machine.write(GOOD)
    before = machine.snapshot()
    monkeypatch.setattr(files, "replace", fail)
    first = compiled.load()
    assert (first["error"], first["links"]["cable"]["table"]) == ("", 1000)
    assert compiled.load() == first
    assert machine.snapshot() == before
    assert machine.log == []


# Wrong files and the last good one.


@pytest.mark.fault("F69")
def test_wrong_files_leave_the_last_good_one_in_force(machine: Machine, compilations: list[bool]) -> None:
    machine.write(GOOD)
    machine.settle()
    good = compiled.load()
    machine.write(WRONG)
    machine.settle()
    config = compiled.load()
    line = f"{machine.settings}: {WHAT}"
    assert config["error"] == line
    assert config["usable"] is True
    assert {**config, "error": ""} == good
    assert machine.log == [
        f"4 {line}; until it is mended the last good configuration stays in force (multihook check-config)"
    ]
    for _ in range(3):
        assert compiled.load() == config
    assert len(compilations) == 2
    assert len(machine.log) == 1


def test_it_is_said_once_for_each_wrong_version(machine: Machine) -> None:
    machine.write(GOOD)
    compiled.load()
    for text, said in ((WRONG, 1), (WRONG, 1), ("x", 2), (GOOD, 2), (WRONG, 3)):
        machine.write(text)
        for _ in range(3):  # young caches: looked at again, said once all the same
            compiled.load()
        assert len(machine.log) == said
    assert compiled.load()["links"].keys() == {"dsl", "cable"}


def test_mended_files_are_in_force_at_once(machine: Machine) -> None:
    machine.write(WRONG)
    assert compiled.load()["usable"] is False
    machine.write(GOOD)
    config = compiled.load()
    assert (config["error"], config["usable"], config["links"]["dsl"]["table"]) == ("", True, 200)


def test_wrong_files_and_no_good_ones_leave_the_kernel_alone(machine: Machine) -> None:
    machine.write(WRONG)
    config = compiled.load()
    assert (config["usable"], config["adopt"], config["links"]) == (False, False, {})
    assert (config["rule_base"], config["rt_proto"]) == (7000, 109)
    assert config["error"] == f"{machine.settings}: {WHAT}"
    assert machine.log == [
        f"4 {machine.settings}: {WHAT}; until it is mended nothing will be changed (multihook check-config)"
    ]
    assert not machine.last_good.exists()
    assert not machine.numbers.exists()


def test_a_good_one_that_comes_later_is_found(machine: Machine, compilations: list[bool]) -> None:
    machine.write(GOOD)
    compiled.load()
    away = machine.root / "away"
    machine.last_good.rename(away)  # as before /var is mounted
    machine.write(WRONG)
    machine.settle()
    assert compiled.load()["usable"] is False
    before = len(compilations)
    assert compiled.load()["usable"] is False
    assert len(compilations) == before
    away.rename(machine.last_good)
    assert compiled.load()["links"]["dsl"]["table"] == 200


def test_without_a_good_one_no_number_is_touched(machine: Machine) -> None:
    machine.numbers.write_text("eth5 1000\n")
    (machine.iproute2 / "rt_tables").write_text("1000 x\n")
    machine.write(WRONG)
    compiled.load()
    assert machine.numbers.read_text() == "eth5 1000\n"


def test_only_root_logs_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "geteuid", lambda: 1000)
    machine.write(WRONG)
    assert compiled.load()["error"]
    assert machine.log == []


def test_more_problems_are_counted_in_the_log(machine: Machine) -> None:
    machine.write(WRONG + "lan = 5\nx = 1\n")
    assert compiled.load()["error"] == f"{machine.settings}: {WHAT} (and 2 more)"


def test_the_last_good_one_outlives_run_and_says_the_same(machine: Machine) -> None:
    machine.write(GOOD)
    good = compiled.load()
    machine.write(WRONG)
    machine.cache.unlink()
    machine.private.rmdir()
    config = compiled.load()
    assert {**config, "error": ""} == good
    assert config["digest"] == good["digest"]


def test_a_good_one_is_written_down_once(machine: Machine) -> None:
    machine.write(GOOD)
    compiled.load()
    before = machine.last_good.stat()
    machine.cache.unlink()
    compiled.load()
    assert machine.last_good.stat().st_mtime_ns == before.st_mtime_ns
    assert machine.last_good.stat().st_ino == before.st_ino
    assert json.loads(machine.last_good.read_text())["document"]["link"]["dsl"]["table"] == 200


@pytest.mark.parametrize(("mode", "kept"), [(0o644, 0o644), (0o640, 0o600), (0o600, 0o600)])
def test_what_was_hidden_stays_hidden(machine: Machine, mode: int, kept: int) -> None:
    machine.write("[multihook]\n", "a.toml").chmod(mode)
    compiled.load()
    assert machine.last_good.stat().st_mode & 0o777 == kept


def _not_usable(machine: Machine) -> None:
    machine.cache.unlink(missing_ok=True)
    config = compiled.load()
    assert (config["usable"], config["links"], config["adopt"]) == (False, {}, False)
    assert config["error"] == f"{machine.settings}: {WHAT}"


@pytest.mark.fault("F18")
def test_a_last_good_one_cut_off_anywhere_is_not_believed(machine: Machine) -> None:
    machine.write(GOOD)
    compiled.load()
    whole = machine.last_good.read_bytes()
    machine.write(WRONG)
    for length in range(0, len(whole) - 2, 7):
        machine.last_good.write_bytes(whole[:length])
        _not_usable(machine)


@pytest.mark.fault("F18")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"\xff\xfe",
        b"null",
        b"[]",
        b"5",
        b'"document"',
        b"{}",
        b'{"document": null}',
        b'{"document": []}',
        b'{"document": "x"}',
        b'{"document": {"link": 5}}',
        b'{"document": {"link": {"dsl": {}}}}',
        b'{"document": {"newer": {}}}',
        b'{"document": {"link": {"$(reboot)": {"interface": "ppp0"}}}}',
        b'{"document": {"link": {"dsl": {"interface": "c*"}}}}',
        b'{"document": {"multihook": {"group": 1e999}}}',
        b'{"document": ' + b"[" * 100000,
        b'{"document": {"a": ' + b'{"a": ' * 100000,
    ],
)
def test_a_last_good_one_is_checked_like_any_other(machine: Machine, content: bytes) -> None:
    machine.write(WRONG)
    machine.last_good.write_bytes(content)
    _not_usable(machine)


def test_a_last_good_one_of_somebody_else_is_not_believed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.write(GOOD)
    compiled.load()
    machine.write(WRONG)
    machine.last_good.chmod(0o666)
    _not_usable(machine)
    machine.last_good.chmod(0o644)
    target = machine.root / "target"
    machine.last_good.rename(target)
    machine.last_good.symlink_to(target)
    _not_usable(machine)
    machine.last_good.unlink()
    os.mkfifo(machine.last_good)
    _not_usable(machine)
    machine.last_good.unlink()
    target.rename(machine.last_good)
    if os.geteuid() == 0:
        give_away(machine.last_good, monkeypatch)
        _not_usable(machine)
        os.chown(machine.last_good, 0, 0)
    machine.cache.unlink()
    assert compiled.load()["usable"] is True


def test_names_that_others_took_since_do_not_end_the_last_good_one(machine: Machine) -> None:
    machine.write(GOOD)
    machine.settle()
    compiled.load()
    path = machine.iproute2 / "rt_tables"
    path.write_text("1000 dsl\n200 cable\n")
    config = compiled.load()
    assert config["usable"] is True
    assert config["links"]["dsl"]["table"] == 200
    assert config["error"] == (
        f"{machine.settings}: link.dsl: the name is taken by table 1000 in {path}; "
        "rename the link or remove that line (and 2 more)"
    )
    assert config["links"]["cable"]["table"] == 1001
    path.unlink()
    assert compiled.load()["error"] == ""


def test_a_disk_error_is_looked_at_again(
    machine: Machine, compilations: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.write(GOOD)
    machine.settle()
    good = compiled.load()
    machine.cache.unlink()
    real = files.read

    def fail(path: str, limit: int = 1 << 20, follow: bool = False) -> bytes:
        if path == str(machine.settings):
            raise OSError(errno.EIO, "Input/output error", path)
        return real(path, limit, follow)

    with monkeypatch.context() as patch:
        patch.setattr(files, "read", fail)
        for _ in range(3):
            config = compiled.load()
            assert config["error"] == f"{machine.settings}: cannot be read: Input/output error; try again"
            assert {**config, "error": ""} == good
    assert len(machine.log) == 1
    assert compiled.load() == good


def test_a_mistake_of_ours_does_not_end_a_hook(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.write(GOOD)
    good = compiled.load()
    machine.cache.unlink()

    def fail(_: list[str]) -> toml.Document:
        raise KeyError("a\nb")

    monkeypatch.setattr(toml, "read", fail)
    config = compiled.load()
    assert {**config, "error": ""} == good
    assert config["error"] == "the configuration could not be read: KeyError: 'a\\\\nb'"


# compile()


def test_looking_changes_nothing(machine: Machine) -> None:
    machine.write(GOOD)
    before = machine.snapshot()
    config = compiled.compile()
    assert (config["links"]["cable"]["table"], config["error"]) == (1000, "")
    assert machine.snapshot() == before


def test_compile_refuses(machine: Machine) -> None:
    machine.write(GOOD)
    compiled.load()
    machine.write(WRONG + "lan = 5")
    before = machine.snapshot()
    for keep in (False, True):
        with pytest.raises(toml.Refused) as caught:
            compiled.compile(keep)
        assert len(caught.value.problems) == 2
    assert machine.snapshot() == before


def test_compile_and_keep_is_what_the_hooks_get(machine: Machine, compilations: list[bool]) -> None:
    machine.write(GOOD)
    machine.settle()
    config = compiled.compile(keep=True)
    assert compiled.load() == config
    assert len(compilations) == 1
    assert machine.last_good.exists()
    assert tables.known() == {"cable": 1000}


def test_the_digest_is_the_identity(machine: Machine) -> None:
    machine.write(GOOD)
    one = compiled.compile()["digest"]
    machine.write("# a comment\n" + GOOD)
    assert compiled.compile()["digest"] == one
    machine.write(GOOD.replace("eth1", "eth2"))
    assert compiled.compile()["digest"] != one
    machine.write(GOOD)
    machine.numbers.write_text("cable 1005\n")
    assert compiled.compile()["digest"] != one


def test_everything_can_be_kept(machine: Machine) -> None:
    machine.write(
        '[multihook]\nmark_mask = 0xff000000\n[link.a]\nipparam = "x"\nsnat = "masquerade"\ntable = 0xffffffff\n'
        'sources = ["192.0.2.0/24", "2001:db8::/64"]\n[glftpd]\n'
    )
    machine.settle()
    first = compiled.load()
    kept = compiled._read_cache()
    assert kept is not None
    assert kept[2] == first
    assert kept[1] is False


def test_what_the_hooks_get_has_every_promised_key(machine: Machine) -> None:
    promised = {
        "digest", "adopt", "ignore", "first_table", "rule_base", "mark_mask", "rt_proto", "group",
        "links", "allotted", "by_interface", "by_ipparam", "by_linkname", "glftpd", "used_tables", "used_names",
        "error", "usable", "snat",
    }  # fmt: skip
    machine.write(GOOD)
    good = compiled.load()
    machine.write(WRONG)
    machine.last_good.unlink()
    assert good.keys() == compiled.load().keys() == promised
    assert good["links"]["dsl"].keys() == {"name", *schema.LINK_KEYS}

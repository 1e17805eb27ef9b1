"""Reading and merging: syntax with its line and column, drop-ins in order, files that are not to be believed."""

import os
import stat
from pathlib import Path

import pytest
from config_machine import Machine, give_away, make_machine

from multihook.config import listing, toml


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return make_machine(tmp_path, monkeypatch)


def refusal(paths: list[str]) -> list[str]:
    with pytest.raises(toml.Refused) as caught:
        toml.read(paths)
    return [problem.line() for problem in caught.value.problems]


@pytest.mark.fault("F69")
@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("[link.dsl]\ninterface = ppp0\n", "2:13", ('Invalid value; text stands in quotes ("ppp0"); '
         "true, false and numbers do not")),
        ("[link.dsl]\r\ninterface = ppp0\r\n", "2:13", ('Invalid value; text stands in quotes ("ppp0"); '
         "true, false and numbers do not")),
        ("a", "1:2", ("Expected '=' after a key in a key/value pair; "
         "one key a line: key = value, or a table: [link.NAME]")),
        ("\n\na", "3:2", ("Expected '=' after a key in a key/value pair; "
         "one key a line: key = value, or a table: [link.NAME]")),
        ("a = 1 b = 2", "1:7", ("Expected newline or end of document after a statement; "
         "one key = value a line; text with blanks stands in quotes")),
        ("a = 1\na = 2\n", "2:6", "Cannot overwrite a value; this key is there twice; keep one of the two"),
        ("[link.dsl]\n[multihook]\n[link.dsl]\n", "3:10", ("[link.dsl] is there twice; "
         "put its keys under one of the two")),
        ("[link.dsl\n", "1:10", "Expected ']' at the end of a table declaration; a table is written [link.NAME]"),
        ("a = [1 2]", "1:8", "Unclosed array; a list has commas between its values and ends with ]"),
        ("a = 'x\x01'", "1:7", "Found invalid character '\\x01'; control characters have no place here"),
        ("a = \"\n\"", "1:6", "Illegal character '\\n'; text ends on the line where it begins"),
        ("a = '''x", "1:9", 'Expected "\'\'\'"; text ends with the quote it begins with'),
        ("# x\n\0", "2:1", "a NUL character; the file is damaged or no text: write it anew"),
        ("a." * 200 + "a = 1", "1:1", "a key in more levels than any key has; write [link.NAME] and key = value"),
    ],
)  # fmt: skip
def test_syntax_with_line_and_column(machine: Machine, text: str, position: str, message: str) -> None:
    path = str(machine.write(text))
    assert refusal([path]) == [f"{path}:{position}: {message}"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# \xff\n", ":1:3: byte 0xff is not UTF-8; save the file as UTF-8 text"),
        (b"\n# \xc3\xa9 \xe9\n", ":2:5: byte 0xe9 is not UTF-8; save the file as UTF-8 text"),
        (b"\xff\xfea\0", ":1:1: byte 0xff is not UTF-8; save the file as UTF-8 text"),
        (b"a = " + b"[" * 5000, ": lists or tables in more levels than any value has; flatten it"),
        (b"#" * (toml.LIMIT + 1), f": is larger than {toml.LIMIT} bytes; shorten it"),
    ],
)
def test_what_is_no_text(machine: Machine, content: bytes, message: str) -> None:
    machine.settings.write_bytes(content)
    assert refusal([str(machine.settings)]) == [f"{machine.settings}{message}"]


@pytest.mark.fault("F69")
def test_tables_in_tables_in_tables(machine: Machine) -> None:
    keys = ".".join("a" * 60)
    machine.write(f"{keys} = {{" * 40 + f"{keys} = 1" + "}" * 40)
    assert toml.read([str(machine.settings)]).content.keys() == {"a"}


def test_a_number_without_end(machine: Machine) -> None:
    machine.write("b = 1\na = " + "9" * 5000)
    (line,) = refusal([str(machine.settings)])
    assert line == f"{machine.settings}:2:5: a number of more digits than any number here has; shorten it"


@pytest.mark.fault("F69")
def test_byte_order_mark_and_crlf_do_no_harm(machine: Machine) -> None:
    machine.settings.write_bytes(b"\xef\xbb\xbf[multihook]\r\nadopt = false\r\n")
    assert toml.read([str(machine.settings)]).content == {"multihook": {"adopt": False}}


@pytest.mark.fault("F69")
def test_ten_megabytes_are_not_read(machine: Machine) -> None:
    with machine.settings.open("wb") as file:
        file.truncate(10 << 20)
    assert refusal([str(machine.settings)]) == [f"{machine.settings}: is larger than {toml.LIMIT} bytes; shorten it"]
    with pytest.raises(toml.Refused):
        toml.read([str(machine.settings)], trusted=False)


def test_all_files_together_are_bounded(machine: Machine) -> None:
    machine.write("#" * (toml.LIMIT // 2))
    machine.write("#" * (toml.LIMIT // 2), "a.toml")
    assert toml.read(toml.installed()).content == {}
    path = machine.write("#", "b.toml")
    assert refusal(toml.installed()) == [f"{path}: the files have more than {toml.LIMIT} bytes in all; shorten them"]


def test_a_missing_file_is_an_empty_one(machine: Machine) -> None:
    machine.settings.unlink()
    machine.drop_ins.rmdir()
    assert toml.read(toml.installed()) == ({}, {}, [])
    machine.etc.rmdir()
    assert toml.read(toml.installed()) == ({}, {}, [])


def test_drop_ins_add_and_replace_key_by_key_in_name_order(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "listdir", lambda path: sorted(os.listdir(path), reverse=True))
    machine.write('[multihook]\nignore = ["a", "b"]\ngroup = 5\n[link.dsl]\ninterface = "ppp0"\ntable = 1\n')
    machine.write("[link.dsl]\ntable = 3\n[link.b]\nlan = true", "20.toml")
    machine.write('[multihook]\nignore = ["c"]\n[link.dsl]\ntable = 2\nlan = true', "10.toml")
    document = toml.read(toml.installed())
    assert document.content == {
        "multihook": {"ignore": ["c"], "group": 5},
        "link": {"dsl": {"interface": "ppp0", "table": 3, "lan": True}, "b": {"lan": True}},
    }
    assert list(document.content["link"]) == ["dsl", "b"]
    assert [Path(path).name for path in document.paths] == ["multihook.toml", "10.toml", "20.toml"]
    names = {keys: Path(path).name for keys, path in document.origins.items()}
    assert names[("multihook", "group")] == "multihook.toml"
    assert names[("multihook", "ignore")] == "10.toml"
    assert names[("link", "dsl")] == "multihook.toml"
    assert names[("link", "dsl", "table")] == "20.toml"
    assert document.origin("link", "dsl", "nothing") == str(machine.settings)


def test_a_later_file_may_replace_a_table_by_a_value_and_back(machine: Machine) -> None:
    machine.write("[link.dsl]\ntable = 1")
    machine.write("link = 5", "10.toml")
    assert toml.read(toml.installed()).content == {"link": 5}
    machine.write("[link.c]\ntable = 2", "20.toml")
    assert toml.read(toml.installed()).content == {"link": {"c": {"table": 2}}}


@pytest.mark.parametrize(
    "name", [".hidden.toml", "a.toml~", "a.toml.dpkg-old", "a.toml.bak", "a.conf", "README", ".a.toml.swp"]
)
def test_files_with_other_names_do_not_count(machine: Machine, name: str) -> None:
    machine.write("this is no TOML", name)
    assert toml.read(toml.installed()).content == {}


def test_each_wrong_file_is_named_and_one_refuses_everything(machine: Machine) -> None:
    machine.write("[multihook]\nadopt = true\n")
    machine.write("x", "10.toml")
    machine.write("[multihook]\n", "15.toml")
    machine.write("y", "20.toml")
    assert [line.partition(":")[0] for line in refusal(toml.installed())] == [
        f"{machine.drop_ins}/10.toml",
        f"{machine.drop_ins}/20.toml",
    ]


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _null(path: Path) -> None:
    path.symlink_to("/dev/null")


@pytest.mark.parametrize("make", [_fifo, _folder, _null])
@pytest.mark.parametrize("trusted", [True, False])
def test_what_is_no_plain_file(machine: Machine, make: object, trusted: bool) -> None:
    path = machine.drop_ins / "x.toml"
    make(path)  # type: ignore[operator]
    with pytest.raises(toml.Refused) as caught:
        toml.read([str(path)], trusted)
    assert caught.value.line() == f"{path}: is not a plain file; put a plain file there, or take the name away"
    assert not caught.value.passing


@pytest.mark.parametrize("name", ["settings", "drop_in"])
def test_a_symbolic_link_is_followed_but_must_lead_somewhere(machine: Machine, name: str) -> None:
    target = machine.root / "elsewhere"
    target.write_text("[multihook]\n")
    path = machine.settings if name == "settings" else machine.drop_ins / "x.toml"
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    assert toml.read(toml.installed()).content == {"multihook": {}}
    target.unlink()
    assert refusal(toml.installed()) == [
        (
            f"{path}: cannot be read: No such file or directory; "
            "the name leads to no file; put one there or take the name away"
        )
    ]


@pytest.mark.fault("F71")
@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write(machine: Machine, mode: int) -> None:
    machine.settings.chmod(mode)
    what = f"can be written by others than its owner; chmod go-w {machine.settings}"
    assert refusal(toml.installed()) == [f"{machine.settings}: {what}"]
    assert toml.read([str(machine.settings)], trusted=False).content == {}


def test_a_file_of_somebody_else(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    path = machine.write("", "x.toml")
    give_away(path, monkeypatch)
    owner = path.stat().st_uid
    assert f"{path}: belongs to user {owner}, not to root; chown root {path}" in _lines_or_folder(machine)


def _lines_or_folder(machine: Machine) -> list[str]:
    """As root the file alone is somebody else's; otherwise the folders are, and are not looked at."""
    return refusal([str(machine.drop_ins / "x.toml")])


@pytest.mark.parametrize("name", ["etc", "drop_ins"])
def test_a_folder_that_others_can_write(machine: Machine, name: str) -> None:
    folder: Path = getattr(machine, name)
    folder.chmod(0o777)
    with pytest.raises(toml.Refused) as caught:
        toml.installed()
    assert caught.value.line() == f"{folder}: can be written by others than root; chmod go-w {folder}"


def test_a_folder_of_somebody_else(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    give_away(machine.etc, monkeypatch)
    with pytest.raises(toml.Refused) as caught:
        toml.installed()
    owner = machine.etc.stat().st_uid
    assert caught.value.line() == f"{machine.etc}: belongs to user {owner}; chown root {machine.etc}"


def test_a_file_where_the_folder_belongs(machine: Machine) -> None:
    machine.drop_ins.rmdir()
    machine.drop_ins.write_text("")
    with pytest.raises(toml.Refused) as caught:
        toml.installed()
    assert caught.value.line() == f"{machine.drop_ins}: cannot be read: Not a directory; a folder belongs there"


def test_what_may_pass_by_itself_is_told_from_what_stays(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str, *_: object, **__: object) -> bytes:
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(toml.files, "read", fail)
    with pytest.raises(toml.Refused) as caught:
        toml.read(toml.installed())
    assert caught.value.passing
    assert caught.value.line() == f"{machine.settings}: cannot be read: Input/output error; try again"


def test_odd_file_names_stay_in_one_line(machine: Machine) -> None:
    path = os.fsencode(machine.drop_ins) + b"/a\n\xff\x1b[2J.toml"
    with open(path, "wb") as file:
        file.write(b"x")
    (line,) = refusal(toml.installed())
    assert line.isprintable()
    assert line.isascii()


def test_nothing_stays_open(machine: Machine) -> None:
    before = len(os.listdir("/proc/self/fd"))
    fifo = machine.drop_ins / "x.toml"
    os.mkfifo(fifo)
    for trusted in (True, False):
        with pytest.raises(toml.Refused):
            toml.read([str(fifo)], trusted)
        toml.read([str(machine.settings)], trusted)
    assert len(os.listdir("/proc/self/fd")) == before
    assert stat.S_ISFIFO(fifo.stat().st_mode)

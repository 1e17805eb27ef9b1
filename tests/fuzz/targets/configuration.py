"""The administrator's files: they end in a configuration that can be relied on, or in lines that say what to mend.

An input is multihook.toml, a drop-in and rt_tables, with the separator between them.
"""

import ipaddress
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from multihook import journal, paths
from multihook.config import compiled, schema, tables, toml
from targets.surroundings import INTERFACE, LINK, SEPARATOR, check_line, patched

LAST = (1 << 32) - 1
RESERVED = {0, 220, 253, 254, 255}
NO_NAMES = {"main", "default", "local", "unspec", "all", "balance", "cache"}
POSITION = re.compile("([1-9][0-9]*):([1-9][0-9]*)")
# What concerns a whole file has no place in it.
WITHOUT_POSITION = ("lists or tables in more levels", "a number too long to be read")

_root = Path()


@contextmanager
def place(folder: Path) -> Iterator[None]:
    """A machine with these three files, and nothing of iproute2's own."""
    global _root
    _root = folder
    for name in ("etc/multihook/conf.d", "etc/iproute2", "run", "var"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with patched(
        (paths, "ETC", f"{folder}/etc/multihook"), (toml, "SETTINGS", f"{folder}/etc/multihook/multihook.toml"),
        (toml, "DROP_INS", f"{folder}/etc/multihook/conf.d"), (tables, "ETC", f"{folder}/etc/iproute2"),
        (tables, "SHARE", f"{folder}/none"), (tables, "LIB", f"{folder}/none"), (paths, "RUN", f"{folder}/run"),
        (paths, "PRIVATE", f"{folder}/run"), (paths, "COMPILED", f"{folder}/run/compiled"),
        (paths, "VAR", f"{folder}/var"), (paths, "TABLES", f"{folder}/var/tables"),
        (paths, "TABLES_FOR_NOW", f"{folder}/run/tables"), (paths, "LAST_GOOD", f"{folder}/var/last-good.json"),
        (journal, "write", lambda priority, line: check_line(line)),
    ):  # fmt: skip
        yield


def put(name: str, content: bytes | None) -> None:
    """Write one of the files, or take it away."""
    path = _root / name
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)


def run(data: bytes) -> None:
    """All that happens to the files of the configuration."""
    settings, *more = data.split(SEPARATOR)
    put("etc/multihook/multihook.toml", settings)
    put("etc/multihook/conf.d/10-more.toml", more[0] if more else None)
    put("etc/iproute2/rt_tables", more[1] if len(more) > 1 else None)
    others = tables.others()
    assert all(number >= 0 for number in (*others[0], *others[2]))
    try:
        document = toml.read(toml.installed())
    except toml.Refused as refused:
        check_refusal(refused, is_syntax=True)
        return
    try:
        config, notes = schema.build(document, others)
    except toml.Refused as refused:
        check_refusal(refused)
        return
    for note in notes:
        check_line(note)
    check_config(config)
    assert schema.build(document, others)[0] == config, "the same files, another configuration"
    compiled._write_cache(([], []), False, config)
    stored = compiled._read_cache()
    assert stored is not None and stored[2] == config, "what hooks read is not what was written"
    check_kept(document, config, others)


def check_refusal(refused: toml.Refused, is_syntax: bool = False) -> None:
    """Each problem has its file, its place there, what is wrong and what would be right."""
    assert 1 <= len(refused.problems) <= refused.count
    check_line(refused.line())
    for problem in refused.problems:
        check_line(problem.line())
        assert problem.path.startswith(f"{_root}/etc/multihook/"), problem
        assert re.search("[;?]|known are", problem.what), f"no hint: {problem.what}"
        if is_syntax and not problem.what.startswith(WITHOUT_POSITION):
            check_position(problem)
        elif not is_syntax:
            assert problem.key and not problem.position, problem


def check_position(problem: toml.Problem) -> None:
    """Line and column are in the file, or just behind its end."""
    match = POSITION.fullmatch(problem.position)
    assert match, problem
    lines = Path(problem.path).read_bytes().split(b"\n")
    line, column = int(match[1]), int(match[2])
    assert line <= len(lines) + 1, problem
    assert line > len(lines) or column <= len(lines[line - 1]) + 2, problem


def check_config(config: dict[str, Any]) -> None:
    """What the rest of the product relies on without looking again."""
    assert config["usable"] is True and config["error"] == ""
    assert 1 <= config["first_table"] <= LAST and 1 <= config["rule_base"] <= 31766
    assert 5 <= config["rt_proto"] <= 255 and 1 <= config["group"] < 1 << 31
    assert re.fullmatch("0b1+0*", bin(config["mark_mask"])) and config["mark_mask"] < 1 << 32
    numbers = []
    for name, link in config["links"].items():
        assert LINK.fullmatch(name) and name not in NO_NAMES and link["name"] == name
        assert [bool(link[key]) for key in ("interface", "ipparam", "linkname")].count(True) == 1
        assert not link["interface"] or INTERFACE.fullmatch(link["interface"])
        for word in (link["ipparam"], link["linkname"]):
            assert not word or (word.isascii() and word.isprintable() and len(word) <= 200)
        assert 0 <= link["table"] <= LAST and (not link["table"] or link["table"] not in RESERVED)
        assert link["snat"] in ("auto", "masquerade", True, False) and link["lan"] in (True, False)
        assert len(link["gateway"]) in (0, 4, 16)
        for network, length in link["sources"] + link["networks"]:
            ipaddress.ip_network((network, length))  # refuses what has bits set behind its length
            assert length > 0
        numbers += [link["table"]] * bool(link["table"])
    assert len(set(numbers)) == len(numbers)
    for key in ("interface", "ipparam", "linkname"):
        assert config[f"by_{key}"] == {link[key]: name for name, link in config["links"].items() if link[key]}
    if config["glftpd"]:
        assert all(config["glftpd"][key].startswith("/") for key in ("config", "multilink"))


def check_kept(document: toml.Document, config: dict[str, Any], others: Any) -> None:
    """The last good configuration means the same when it is read again."""
    kept = json.loads(json.dumps({"document": document.content}, indent=1).encode())["document"]
    assert schema.build(toml.Document(kept, {}, []), others)[0] == config


def last_good(data: bytes) -> None:
    """The last good configuration, as a disk gives it back."""
    put("var/last-good.json", data)
    put("var/tables", None)
    put("etc/iproute2/rt_tables", None)
    config = compiled._read_last_good()
    assert config["usable"] in (True, False)
    if config["usable"]:
        check_config({**config, "error": ""})
    else:
        assert not config["links"] and config["adopt"] is False

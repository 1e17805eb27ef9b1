"""The map of the house in multihook/__init__.py names every module there is, no other, and imports point down it."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import multihook

PACKAGE = Path(multihook.__file__).parent
ENTRY = re.compile(r"^    ([a-z_]+(?:/[a-z_]*)?)  +(\S.*)$")


@cache
def entries() -> dict[str, str]:
    """{name in the map: what it says}; continued lines are joined."""
    found: dict[str, str] = {}
    name = ""
    for line in (multihook.__doc__ or "").splitlines():
        if entry := ENTRY.match(line):
            name = entry[1]
            found[name] = entry[2]
        elif name and line.startswith(" " * 16):
            found[name] += " " + line.strip()
        else:
            name = ""
    return found


def listed_in(words: str) -> set[str]:
    """The modules that a folder's entry names: a list behind the colon if there is one, asides in brackets."""
    listed = re.sub(r"\([^)]*\)", "", words.rpartition(":")[2])
    return {name.strip().rstrip(".") for name in listed.split(",")}


@cache
def modules() -> set[str]:
    """Every module below the package, as the map writes it: run, kernel/routes; packages without their __init__."""
    found = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return {str(name) for name in found if name.name != "__init__"}


@cache
def packages() -> set[str]:
    return {str(path.parent.relative_to(PACKAGE)) for path in PACKAGE.rglob("__init__.py")} - {"."}


def mapped() -> set[str]:
    """The modules that the map names."""
    found = set()
    for name, words in entries().items():
        folder, slash, member = name.partition("/")
        if member or not slash:
            found.add(name)
        elif not any(other.startswith(name) and other != name for other in entries()):
            found |= {f"{folder}/{one}" for one in listed_in(words)}
    return found


def test_the_map_names_every_module_that_there_is_and_no_other() -> None:
    assert sorted(mapped()) == sorted(modules())


def test_the_map_names_every_folder() -> None:
    assert {name.partition("/")[0] for name in entries() if "/" in name} == packages()


def test_every_file_of_the_package_opens_with_what_it_is_for() -> None:
    for path in PACKAGE.rglob("*.py"):
        opening = ast.get_docstring(ast.parse(path.read_text()))
        assert opening, path
        assert opening.partition("\n\n")[0].rstrip().endswith((".", ":")), path


def place_of(module: str) -> int:
    """How far down the map a module stands."""
    order = list(entries())
    if module in order:
        return order.index(module)
    return order.index(module.partition("/")[0] + "/")


def imported(path: Path) -> set[str]:
    """What a module imports of the package, in its functions too, TYPE_CHECKING aside, as the map writes it."""
    found = set()
    tree = ast.parse(path.read_text())
    checked_only = {
        id(inner) for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }  # fmt: skip
    for node in ast.walk(tree):
        if id(node) in checked_only:
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            while len(parts) > 1 and "/".join(parts[1:]) not in modules() | packages():
                parts.pop()
            if parts[0] == "multihook" and len(parts) > 1:
                found.add("/".join(parts[1:]))
    return found


# People's own entry; everything above it is theirs to use.
BESIDE = "command"


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_module_imports_only_what_stands_below_it(module: str) -> None:
    if module.startswith(BESIDE):
        return
    folder = module.partition("/")[0] if "/" in module else None
    for other in imported(PACKAGE / f"{module}.py"):
        if folder and other.partition("/")[0] == folder:
            continue  # a folder is one place
        assert not other.startswith(BESIDE), f"{module} imports {other}"
        assert place_of(module) < place_of(other), f"{module} imports {other}, which stands above it"


def circles_in(graph: dict[str, set[str]]) -> list[str]:
    """The circles of imports, each once from where it is found first."""
    found: list[str] = []
    seen: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            found.append(" -> ".join((*path[path.index(module) :], module)))
        elif module not in seen:
            seen.add(module)
            for other in sorted(graph.get(module, ())):
                visit(other, (*path, module))

    for module in sorted(graph):
        visit(module, ())
    return found


def test_nobody_imports_in_a_circle_not_inside_of_functions_either() -> None:
    graph = {module: imported(PACKAGE / f"{module}.py") for module in modules()}
    graph |= {package: imported(PACKAGE / package / "__init__.py") for package in packages()}
    assert circles_in(graph) == []


def test_a_circle_is_found() -> None:
    assert circles_in({"a": {"b"}, "b": {"c", "d"}, "c": {"d"}, "d": set()}) == []
    assert circles_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b -> c -> b"]


def test_the_reader_of_the_map_finds_what_is_there() -> None:
    assert {"run", "kernel/", "features/routing"} <= set(entries())
    assert listed_in("what it is: one (with, commas), two, three (more)") == {"one", "two", "three"}
    assert "kernel/routes" in imported(PACKAGE / "features/routing.py")
    assert "kernel/rtnetlink" in modules() and "kernel" in packages()

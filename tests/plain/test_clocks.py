"""Nothing is decided by the wall clock, which jumps: only what is shown, and how young a file is, knows it."""

import ast
from pathlib import Path

import pytest

import multihook

PACKAGE = Path(multihook.__file__).parent
# {module: what it asks the wall clock for}; a file younger than the clock's tick is looked at again, and so is one of the future.
ALLOWED = {
    "record.py": {"time"},  # when the last run was: shown
    "command/status.py": {"time.time", "time.localtime", "time.strftime"},  # shown
    "config/compiled.py": {"time_ns"},
}
CLOCKS = {"time", "time_ns", "localtime", "gmtime", "strftime", "ctime", "CLOCK_REALTIME"}


def wall_clocks(source: str) -> set[str]:
    """What a module asks the wall clock by, however it got hold of it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in ("time", "datetime"):
            found |= {name.name for name in node.names if name.name in CLOCKS or node.module == "datetime"}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name == "datetime"}
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "time" and node.attr in CLOCKS:
            found.add(f"time.{node.attr}")
    return found


@pytest.mark.fault("F11")
def test_only_what_is_shown_and_the_age_of_files_ask_the_wall_clock() -> None:
    found = {str(path.relative_to(PACKAGE)): wall_clocks(path.read_text()) for path in PACKAGE.rglob("*.py")}
    assert {name: clocks for name, clocks in found.items() if clocks} == ALLOWED


def test_the_reader_of_this_file_knows_a_clock() -> None:
    for source in ("from time import time", "import time\ntime.time()", "import datetime", "from time import CLOCK_REALTIME"):
        assert wall_clocks(source)
    assert not wall_clocks("from time import monotonic\nimport time\ntime.monotonic()\ntime.sleep(1)")

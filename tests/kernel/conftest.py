"""The `world` fixture: a fresh small internet for each kernel test, everything put back as it was."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter
from house import REPORT
from two_lines import bring_up

from world.observe import add_log
from world.world import JAIL, KEPT, Pristine, World


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Pristine:
    """The files that tests change, as the package brought them."""
    assert JAIL.exists(), "kernel tests change the system they run on: start them by tests/run"
    return Pristine(KEPT, Path(tmp_path_factory.mktemp("pristine")))


@pytest.fixture
def world(pristine: Pristine) -> Iterator[World]:
    """See world/world.py."""
    pristine.restore()
    made = World()
    try:
        yield made
    finally:
        made.close()
        pristine.restore()


@pytest.fixture
def two_lines(world: World) -> World:
    """See two_lines.py."""
    bring_up(world)
    return world


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Iterator[None]:
    """With a test that failed comes what was logged until then."""
    outcome = yield
    add_log(outcome.get_result(), item.funcargs.get("world"))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """What was done how often, where that is more than a number of tests."""
    for line in REPORT:
        terminalreporter.write_line(line)

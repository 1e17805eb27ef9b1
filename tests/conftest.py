"""For all tests: a time limit for each, and a report for tests/run to add up. A test that did not run is a failure."""

import os
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

LIMIT = 120  # seconds


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """No test hangs the run: its own line shows where it stood."""
    mark = item.get_closest_marker("timeout")
    seconds = mark.args[0] if mark else LIMIT

    def end(_signal: int, _frame: FrameType | None) -> None:
        pytest.fail(f"not finished after {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Skipped and expected failures make the run fail; MULTIHOOK_REPORT gets `passed N` and so on, a line each."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    counts = {name: len(reporter.stats.get(name, [])) for name in ("passed", "failed", "error", "skipped", "xfailed")}
    if counts["skipped"] + counts["xfailed"] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    path = os.environ.get("MULTIHOOK_REPORT")
    if path:
        with open(path, "w") as file:
            file.writelines(f"{name} {count}\n" for name, count in counts.items())

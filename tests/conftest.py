"""For all tests: a time limit for each, and a report for tests/run to add up. A test that did not run is a failure."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

LIMIT = 120  # seconds
# For tests/run: `passed N` and so on, a line each; beside it `failures`, what a stranger must know of each of them.
REPORT = os.environ.get("MULTIHOOK_REPORT")


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


def _shortened(text: str, lines: slice) -> str:
    return "".join(f"  {line[:400]}\n" for line in text.splitlines()[lines])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """What failed is written down at once, and short: the run may hang later, and its end is what everybody reads."""
    if report.passed or not REPORT:
        return
    crash = getattr(report.longrepr, "reprcrash", None)
    why = f"{crash.path}:{crash.lineno}: {crash.message}" if crash else report.longreprtext
    with Path(REPORT).with_name("failures").open("a") as file:
        file.write(f"{report.nodeid}, {report.when}, {report.outcome}:\n{_shortened(why, slice(30))}")
        for title, text in report.sections:
            file.write(f"  -- {title}, its last lines --\n{_shortened(text, slice(-25, None))}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Skipped and expected failures make the run fail."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    counts = {name: len(reporter.stats.get(name, [])) for name in ("passed", "failed", "error", "skipped", "xfailed")}
    if counts["skipped"] + counts["xfailed"] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if REPORT:
        with open(REPORT, "w") as file:
            file.writelines(f"{name} {count}\n" for name, count in counts.items())

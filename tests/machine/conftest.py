"""The `live` fixture: providers around a whole machine, which is put back as it was after each test."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MACHINE = Path("/run/multihook-machine")  # made by guest/run-tests
sys.path.insert(0, str(Path(__file__).parent.parent / "kernel"))
# Elsewhere these tests are none: tests/run boots a machine for them.
collect_ignore_glob = [] if MACHINE.exists() else ["test_*.py"]

if MACHINE.exists():
    from live import Live
    from world.namespaces import run_tool
    from world.observe import add_log
    from world.world import KEPT, Pristine

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(item: pytest.Function) -> Iterator[None]:
        """With a test that failed comes what was logged until then."""
        outcome = yield
        add_log(outcome.get_result(), item.funcargs.get("live"))

    @pytest.fixture(scope="session")
    def pristine(tmp_path_factory: pytest.TempPathFactory) -> Pristine:
        """The lines of boot are down; the files that tests change are as they were."""
        run_tool("ifdown", "eth1", "eth2")
        # pppd and dhcpcd have files open there.
        kept = tuple(path for path in KEPT if not path.startswith("/run/"))
        return Pristine((*kept, "/etc/nftables.conf", "/etc/dhcpcd.conf"), tmp_path_factory.mktemp("pristine"))

    @pytest.fixture
    def live(pristine: Pristine) -> Iterator[Live]:
        """See live/live.py."""
        made = Live()
        try:
            yield made
        finally:
            made.close()
            made.forget()
            pristine.restore()

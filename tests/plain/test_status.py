"""multihook status on a painted machine: what it says, what it remarks, and its exit status."""

from click.testing import CliRunner, Result
from test_run import Machine, both_up, machine, machines  # noqa: F401

import pytest

from multihook.command import status
from multihook.config import compiled
from multihook.kernel import facts


@pytest.fixture
def shown(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:  # noqa: F811
    """Two links are up, and `multihook status` looks at this machine."""
    both_up(machine)
    for module in (status, facts):
        monkeypatch.setattr(module, "name_of", machine.kernel.name)
    monkeypatch.setattr(status, "Door", machine.kernel.door)
    return machine


def run(*arguments: str) -> Result:
    return CliRunner().invoke(status.status, arguments, catch_exceptions=False)


def test_all_is_well(shown: Machine) -> None:
    result = run()
    assert "2 of 2 links are up. The kernel agrees with all of it.\n" in result.output
    assert result.exit_code == 0


def test_a_foreign_rule_by_which_main_comes_first_is_remarked(shown: Machine) -> None:
    """What one link's address sends to the network of another link leaves there."""
    shown.kernel.rule(6998, 254, protocol=0, suppress=0)
    line = "Note: a foreign rule lets a link's address reach another link's network by that link: 6998: from all lookup main suppress_prefixlength 0.\n"
    assert line in run().output

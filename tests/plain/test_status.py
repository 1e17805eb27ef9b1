"""multihook status on a painted machine: what it says, what it remarks, and its exit status."""

from contextlib import nullcontext

import pytest
from click.testing import CliRunner, Result
from painted_machine import Machine
from ppp_and_cable import TWO, both_up
from told import bound, expire

from multihook import checks
from multihook import run as multihook_run
from multihook.checks import machine as checked
from multihook.command import console, doctor, group, hands, status
from multihook.kernel import interfaces, rules
from multihook.sources import CHECK, Event


@pytest.fixture
def shown(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Two links are up, and `multihook status` looks at this machine."""
    both_up(machine)
    for module in (status, interfaces):
        monkeypatch.setattr(module, "name_of", machine.kernel.name)
    for module in (status, checked):
        monkeypatch.setattr(module, "Door", machine.kernel.door)
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


# --- beside a running command ---


@pytest.fixture
def rule(shown: Machine) -> bytes:
    """One of our rules, which is missing now."""
    ours = next(one for one in shown.kernel.rules if rules.parse(one).priority == 7400)
    shown.kernel.rules.remove(ours)
    return ours


def test_what_is_missing_differs(shown: Machine, rule: bytes) -> None:
    result = run()
    assert result.exit_code == 1 and "The kernel differs" in result.output and "ip rule add" in result.output


def test_what_a_run_is_about_to_make_does_not_differ(shown: Machine, rule: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody holds the lock, makes what is missing, and gives it back."""
    asked = []

    def holder() -> int | None:
        asked.append(1)
        if len(asked) == 3:
            shown.kernel.rules.append(rule)
        return 4711 if len(asked) < 3 else None

    monkeypatch.setattr(status, "_holder", holder)
    result = run()
    assert result.exit_code == 0 and "The kernel agrees" in result.output
    assert "4711" not in result.output


def test_a_run_that_ended_while_we_looked_does_not_differ(
    shown: Machine, rule: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is free again when we ask who has it."""

    def holder() -> None:
        if rule not in shown.kernel.rules:
            shown.kernel.rules.append(rule)

    monkeypatch.setattr(status, "_holder", holder)
    assert run().exit_code == 0


@pytest.mark.fault("F20")
def test_who_holds_the_lock_for_too_long_is_named(shown: Machine, rule: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_holder", lambda: 4711)
    monkeypatch.setattr(status, "PATIENCE_SECONDS", 0.1)
    result = run()
    assert result.exit_code == 1 and "Note: the lock is held by process 4711.\n" in result.output


def test_who_cannot_see_the_lock_looks_twice(shown: Machine, rule: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            shown.kernel.rules.append(rule)

    monkeypatch.setattr(status.time, "sleep", sleep)
    monkeypatch.setattr(status, "geteuid", lambda: 1000)
    assert run().exit_code == 0 and slept == [0.5]
    shown.kernel.rules.remove(rule)
    slept.append(0)
    assert run().exit_code == 1 and slept == [0.5, 0, 0.5]


# --- addresses that are elsewhere too ---


def test_an_address_that_an_interface_of_no_link_has_too_is_noted(shown: Machine) -> None:
    shown.kernel.link("lan0", "192.168.1.1/24")
    assert "lan0" not in run().output
    shown.kernel.address("lan0", "198.51.100.7/32", connected=False)
    assert "cable: its address is also on lan0; take it away there.\n" in run().output


def test_lo_is_no_line() -> None:
    result = CliRunner().invoke(hands.up, ["lo"], catch_exceptions=False)
    assert result.exit_code == 1 and "lo is this machine itself and leads to no provider" in result.output


def test_the_help_names_all_who_run_hooks() -> None:
    said = CliRunner().invoke(group, ["-h"]).output
    assert all(name in said for name in ("pppd", "dhclient", "dhcpcd", "ifupdown"))


# --- one link, and what was taken out by hand ---


def test_of_one_link_the_count_is_that_of_all_as_the_exit_status_is(shown: Machine) -> None:
    shown.kernel.no_address("eth1", "198.51.100.7")
    shown.drain(expire("eth1", "198.51.100.7"))
    result = run("dsl")
    assert "cable" not in result.output
    assert "1 of 2 links are up. The kernel agrees with all of it.\n" in result.output
    assert result.exit_code == 3


def test_of_a_link_that_is_held_it_says_what_takes_it_back(shown: Machine) -> None:
    event = Event("command", "down by hand", "eth1", CHECK)
    multihook_run.run(shown.config, shown.kernel.door(), [("cable", event)])
    result = run()
    assert "cable: down by hand; `multihook up eth1` takes it back.\n" in result.output and result.exit_code == 3


def test_the_only_link_that_translates_is_taken_out_whole(shown: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    shown.configure(TWO.replace("[link.cable]", "snat = false\n[link.cable]"))
    shown.sync()
    monkeypatch.setattr(console, "working", lambda: nullcontext(shown.kernel.door()))
    CliRunner().invoke(hands.down, ["eth1"], catch_exceptions=False)
    result = run()
    assert result.exit_code == 3 and "The kernel agrees" in result.output
    shown.drain(bound("eth1", "198.51.100.7", "198.51.100.1"))
    assert run().exit_code == 0


@pytest.fixture
def flushed(shown: Machine) -> Machine:
    """After `multihook flush`."""
    (shown.root / "run/multihook/held").write_text("x")
    return shown


def test_up_after_a_flush_says_one_thing(flushed: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "working", lambda: nullcontext(flushed.kernel.door()))
    result = CliRunner().invoke(hands.up, ["eth1"], catch_exceptions=False)
    assert result.output == "Recorded; everything is held out of the kernel until `multihook sync`.\n"


def test_doctor_says_that_it_was_flushed_on_purpose(flushed: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "look", lambda here: [])
    result = CliRunner().invoke(doctor.doctor, catch_exceptions=False)
    assert result.output.startswith("WARNING (held): `multihook flush` took everything out") and result.exit_code == 1
    (flushed.root / "run/multihook/held").unlink()
    result = CliRunner().invoke(doctor.doctor, catch_exceptions=False)
    assert "flush" not in result.output and result.exit_code == 0

"""Whole runs against a painted kernel: what is told converges, nothing is lost, and nothing is done for nothing."""

import copy
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kill_points import Bomb, Killed, kill_at
from painted_kernel import IFF_UP, NEWRULE, OURS, attributes_of, not_permitted, pack
from painted_machine import Machine, without_ours
from ppp_and_cable import ETH1, PPP0, TWO, both_up, renumber, two_lines
from told import bound, expire, ip_down, ip_up, stanza

import multihook.names
from multihook import files, hook, intake, leases, lock, record, run, spool
from multihook.address import INET, text
from multihook.kernel import rules
from multihook.kernel.rtnetlink import Refused
from multihook.spool import Told


def test_an_event_of_each_of_two_lines_puts_both_right(machine: Machine) -> None:
    two_lines(machine)
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1"))
    machine.drain(ip_up("ppp0", "203.0.113.45"))
    assert machine.ours()[0] == sorted(PPP0 + ETH1)
    assert (machine.kernel.group("eth1"), machine.kernel.group("ppp0"), machine.kernel.group("lo")) == (109, 109, 0)
    assert [line for line in machine.log if not line.startswith("6 ")] == []
    assert spool.waiting() == []


@pytest.mark.fault("F3")
def test_both_events_at_once_are_one_run_and_give_the_same(machine: Machine) -> None:
    two_lines(machine)
    for told in (bound("eth1", "198.51.100.7", "198.51.100.1"), ip_up("ppp0", "203.0.113.45")):
        spool.prepare()
        spool.put(told)
    machine.drain()
    assert machine.ours()[0] == sorted(PPP0 + ETH1)
    assert spool.waiting() == []


@pytest.mark.fault("F2")
def test_a_second_run_changes_nothing_writes_nothing_and_says_nothing(machine: Machine) -> None:
    two_lines(machine)
    everything = (bound("eth1", "198.51.100.7", "198.51.100.1"), ip_up("ppp0", "203.0.113.45"))
    for told in everything:
        machine.drain(told)
    machine.drain(
        bound("eth1", "198.51.100.7", "198.51.100.1", reason="RENEW")
    )  # the first lone look after a whole one
    before, there, said = machine.files(), machine.kernel.picture(), list(machine.log)
    machine.kernel.changes.clear()
    for _ in range(3):
        for told in everything:
            machine.drain(told)
        machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1", reason="RENEW"))
        machine.drain(ip_down("ppp0", "203.0.113.44"))  # stale
        assert machine.sync().lines == []
    assert machine.kernel.changes == []
    assert machine.kernel.picture() == there
    assert machine.log == said
    assert machine.files() == before


def test_an_event_that_changes_something_says_one_line_with_who_and_what(machine: Machine) -> None:
    both_up(machine)
    machine.kernel.no_link("ppp0")
    machine.drain(ip_down("ppp0", "203.0.113.45"))
    machine.kernel.link("ppp0", "203.0.113.77 peer 192.0.2.1", ppp=True)
    machine.drain(ip_up("ppp0", "203.0.113.77"))
    assert len(machine.log) == 2
    assert "dsl:" in machine.log[0] and "pppd ip-down" in machine.log[0]
    assert machine.log[1].startswith(
        "6 dsl: 203.0.113.45 -> 203.0.113.77 on ppp0 (pppd ip-up): 1 snat, 3 rules, 2 routes, 1 group; "
    )
    result = record.last_result()
    assert result and not result.failed and f"6 {result.line}" == machine.log[1]


def test_a_hook_for_nothing_leaves_the_kernel_unasked(machine: Machine) -> None:
    for told in (
        Told("dhclient", [], {"reason": "PREINIT", "interface": "eth1"}),
        Told("pppd", ["ipv6-up", "ppp0", "", "0", "fe80::1", "fe80::2"], {}),
    ):  # fmt: skip
        assert not intake.understand(machine.config, told)
        machine.drain(told)
    assert (machine.kernel.dumps, machine.kernel.changes, machine.log) == (0, [], [])


# --- several sources ---


def test_a_stanza_with_gateway_is_a_link_without_any_default_route_in_main(machine: Machine) -> None:
    two_lines(machine)
    machine.kernel.link("eth2", "192.0.2.66/28")
    machine.drain(stanza("if-up", "eth2", address="192.0.2.66", gateway="192.0.2.65"))
    assert [line for line in machine.ours()[0] if "default via 192.0.2.65" in line]
    machine.kernel.no_address("eth2", "192.0.2.66")
    machine.drain(stanza("if-post-down", "eth2", address="192.0.2.66", gateway="192.0.2.65"))
    assert not [line for line in machine.ours()[0] if "eth2" in line or "192.0.2.6" in line]


def test_aliases_and_further_stanzas_neither_move_a_link_nor_take_it_down(machine: Machine) -> None:
    two_lines(machine)
    machine.kernel.link("eth2", "192.0.2.66/28")
    machine.drain(stanza("if-up", "eth2", address="192.0.2.66", gateway="192.0.2.65"))
    right = machine.ours()
    machine.kernel.address("eth2", "10.0.0.9/24")
    for told in (
        stanza("if-up", "eth2:1", address="10.0.0.9"), stanza("if-up", "eth2:1", address="10.0.0.9", gateway="10.0.0.1"),
        stanza("if-up", "eth2", address="10.0.0.9"), stanza("if-post-down", "eth2:1", address="10.0.0.9"),
        stanza("if-up", "eth2", "dhcp"), stanza("if-post-down", "eth2", "dhcp"),
    ):  # fmt: skip
        machine.drain(told)
        addresses = [line for line in machine.ours()[0] if line.startswith("7400")]
        assert addresses == [line for line in right[0] if line.startswith("7400")], told.variables
    machine.kernel.no_address("eth2", "10.0.0.9")
    machine.drain(stanza("if-post-down", "eth2:1", address="10.0.0.9"))
    assert machine.ours() == right


def test_what_ifupdown_says_after_the_dhcp_client_changes_and_writes_nothing(machine: Machine) -> None:
    both_up(machine)
    machine.drain(stanza("if-up", "eth1", "dhcp"))
    before, there, said = machine.files(), machine.kernel.picture(), list(machine.log)
    machine.kernel.changes.clear()
    for told in (
        stanza("if-up", "eth1", "dhcp"), stanza("if-up", "ppp0", "ppp"), stanza("if-post-down", "ppp0", "ppp"),
        stanza("if-up", "eth1", address="198.51.100.7", gateway="198.51.100.254"),  # the lease said better
        stanza("if-up", "--all", "none"),
    ):  # fmt: skip
        machine.drain(told)
    assert (machine.kernel.changes, machine.kernel.picture(), machine.log) == ([], there, said)
    assert machine.files() == before


def test_what_ifupdown_says_is_better_than_what_boot_found(machine: Machine) -> None:
    machine.configure(TWO)
    machine.kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True)
    machine.kernel.link("eth1", "198.51.100.7/24")
    machine.kernel.route("default", "eth1", via="198.51.100.1")
    machine.sync()
    known = leases.load("cable", INET)
    assert known and known.source == "kernel"
    machine.drain(stanza("if-up", "eth1", address="198.51.100.7", gateway="198.51.100.254"))
    assert [line for line in machine.ours()[0] if "default via 198.51.100.254 dev eth1" in line]
    known = leases.load("cable", INET)
    assert known and (known.source, text(known.gateway)) == ("ifupdown", "198.51.100.254")
    machine.sync()
    assert [line for line in machine.ours()[0] if "default via 198.51.100.254 dev eth1" in line]


def test_dhcpcds_words_of_a_session_of_pppd_do_not_take_it_from_its_link(machine: Machine) -> None:
    both_up(machine)
    right = machine.ours()
    for reason in ("3RDPARTY", "STATIC", "INFORM", "STOP", "STOPPED", "DEPARTED"):
        variables = {"reason": reason, "interface": "ppp0", "ifflags": "4305", "new_ip_address": "203.0.113.45"}
        assert not intake.understand(machine.config, Told("dhcpcd", [], variables)), reason
        machine.drain(Told("dhcpcd", [], variables))
    # Without its flags: looked at, and found to be another's.
    machine.drain(Told("dhcpcd", [], {"reason": "NOCARRIER", "interface": "ppp0"}))
    assert machine.ours() == right
    assert [link for link, _ in leases.keys()] == ["cable", "dsl"]


@pytest.mark.fault("F28")
def test_an_ipv4ll_address_is_no_link_and_takes_none_away(machine: Machine) -> None:
    """dhcpcd gives itself one, with a default route by it, where no server answers; beside a lease it may keep it."""
    both_up(machine)
    right = machine.ours()
    variables = {"reason": "IPV4LL", "interface": "eth1", "new_ip_address": "169.254.7.7", "protocol": "ipv4ll"}
    machine.kernel.address("eth1", "169.254.7.7/16", connected=False)
    machine.drain(Told("dhcpcd", [], variables))
    assert machine.ours() == right
    machine.kernel.no_address("eth1", "198.51.100.7")
    machine.kernel.route("default", "eth1", metric=1000002)
    machine.drain(Told("dhcpcd", [], {"reason": "EXPIRE", "interface": "eth1", "old_ip_address": "198.51.100.7"}))
    machine.drain(Told("dhcpcd", [], variables))
    assert machine.sync().failures == []
    assert not [line for line in machine.ours()[0] if "eth1" in line or "169.254" in line]


@pytest.mark.fault("F17")
def test_with_only_run_writable_each_adopted_line_keeps_a_table_of_its_own(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in dhcpcd.service with our drop-in: events of one line each, after a whole run."""
    real = files.replace

    def fail(path: str, content: bytes, mode: int = 0o644, durable: bool = False) -> None:
        if not path.startswith(f"{machine.root}/run/"):
            raise OSError(30, "Read-only file system", path)
        real(path, content, mode, durable)

    for number, interface in enumerate(("eth2", "eth1")):
        machine.kernel.link(interface, f"198.51.{number}.7/24")
        machine.kernel.route("default", interface, via=f"198.51.{number}.1", metric=number + 1)
    with monkeypatch.context() as read_only:
        read_only.setattr(files, "replace", fail)
        read_only.setattr(multihook.names, "replace", fail)
        unwritten: list[str] = []
        for number, interface in [(0, "eth2"), (1, "eth1")] * 2:
            told = bound(interface, f"198.51.{number}.7", f"198.51.{number}.1")
            spool.prepare()
            machine.drain_into(unwritten, told)
            assert not [line for line in machine.log if line.startswith("3 ")]
        assert unwritten and all("Read-only" in line for line in unwritten)
        assert machine.log and not [line for line in machine.log if "Read-only" in line]
        tables = sorted(line for line in machine.ours()[0] if line.startswith("7400"))
        # renumbered, in a run of its own
        machine.kernel.no_address("eth1", "198.51.1.7")
        machine.kernel.address("eth1", "198.51.1.99/24")
        spool.prepare()
        machine.drain_into(unwritten, bound("eth1", "198.51.1.99", "198.51.1.1"))
        assert sorted(line for line in machine.ours()[0] if line.startswith("7400")) == sorted(
            line.replace("198.51.1.7", "198.51.1.99") for line in tables
        )
    there = machine.ours()
    machine.sync()
    assert machine.ours() == there
    assert not (machine.root / "run/multihook/tables").exists()
    assert (machine.root / "var/lib/multihook/tables").read_text().count("\neth") == 2
    assert (machine.root / "etc/iproute2/rt_tables.d/multihook.conf").read_text().count("\teth") == 2


# --- adoption ---


def test_on_a_machine_with_one_line_nothing_is_changed(machine: Machine) -> None:
    machine.kernel.link("eth1", "198.51.100.7/24")
    machine.kernel.route("default", "eth1", via="198.51.100.1")
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1"))
    machine.sync()
    assert (machine.kernel.changes, machine.log) == ([], [])


def test_fifty_dial_in_sessions_sharing_one_address_change_nothing(machine: Machine) -> None:
    machine.kernel.link("eth1", "198.51.100.7/24")
    machine.kernel.route("default", "eth1", via="198.51.100.1")
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1"))
    for number in range(50):
        machine.kernel.link(f"ppp{number}", f"10.9.9.1 peer 10.9.9.{number + 10}", ppp=True)
        machine.drain(ip_up(f"ppp{number}", "10.9.9.1", ipparam="203.0.113.99"))
    machine.sync()
    for number in range(50):
        machine.kernel.no_link(f"ppp{number}")
        machine.drain(ip_down(f"ppp{number}", "10.9.9.1", ipparam="203.0.113.99"))
    machine.sync()
    assert (machine.kernel.changes, machine.log) == ([], [])
    assert [link for link, _ in leases.keys()] == ["eth1"]


def test_two_adopted_lines_are_kept_right_and_dial_in_sessions_beside_them_left_alone(machine: Machine) -> None:
    machine.kernel.link("eth1", "198.51.100.7/24")
    machine.kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True)
    machine.kernel.route("default", "ppp0")
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1"))
    assert machine.kernel.changes == [] or machine.ours()[0]
    machine.drain(ip_up("ppp0", "203.0.113.45", ipparam=""))
    both = machine.ours()
    assert {line.split(" table ")[1].split()[0] for line in both[0] if " table " in line} == {"1000", "1001"}
    assert both[1] == {"lo": 0, "eth1": 109, "ppp0": 109}
    for number in range(1, 20):
        machine.kernel.link(f"ppp{number}", f"10.9.9.1 peer 10.9.9.{number + 10}", ppp=True)
        machine.drain(ip_up(f"ppp{number}", "10.9.9.1", ipparam=""))
    machine.sync()
    assert machine.ours()[0] == both[0]
    # one dial-in session alone has the address for itself: it leads nowhere all the same
    for number in range(2, 20):
        machine.kernel.no_link(f"ppp{number}")
        machine.drain(ip_down(f"ppp{number}", "10.9.9.1", ipparam=""))
    machine.sync()
    assert machine.ours()[0] == both[0]


NOTHING_ADOPTED = f"[multihook]\nadopt = false\n{TWO}"


def test_where_nothing_is_adopted_a_dial_in_session_on_a_lines_interface_is_not_that_line(machine: Machine) -> None:
    """pppd was killed, so no ip-down came; the next session of anybody's got its pppN, and said so."""
    machine.configure(NOTHING_ADOPTED)
    machine.kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True)
    machine.drain(ip_up("ppp0", "203.0.113.45"))
    machine.kernel.no_link("ppp0")
    machine.kernel.link("ppp0", "10.9.9.1 peer 10.9.9.2", ppp=True)
    machine.drain(ip_up("ppp0", "10.9.9.1", ipparam="dialin"))
    machine.sync()
    assert not any("10.9.9.1" in line for line in machine.ours()[0])
    assert [link for link, _ in leases.keys()] == ["cable", "dsl"] and (leases.load("dsl", INET) or leases.Lease("", "", INET)).reason == leases.TAKEN


def test_where_nothing_is_adopted_other_sessions_are_left_at_once(machine: Machine) -> None:
    machine.configure(NOTHING_ADOPTED)
    machine.kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True)
    machine.drain(ip_up("ppp0", "203.0.113.45"))
    assert not intake.understand(machine.config, ip_up("ppp1", "10.9.9.1", ipparam="dialin"))
    assert not intake.understand(machine.config, ip_down("ppp0", "10.9.9.1", ipparam="dialin"))


def test_a_link_that_is_found_beside_its_record_is_up_since_it_was(machine: Machine) -> None:
    """The configuration gives the record to nobody for a while; our rules in the kernel tell whose it is."""
    machine.configure(NOTHING_ADOPTED.replace('ipparam = "dsl"', 'interface = "ppp0"'))
    machine.kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True)
    machine.sync()
    before = leases.load("dsl", INET)
    machine.configure(NOTHING_ADOPTED)
    machine.sync()
    after = leases.load("dsl", INET)
    assert before and after and after.is_up and 0 < before.since <= after.since <= before.since + 2


def test_when_the_second_line_goes_the_first_is_let_go_and_keeps_its_table_number_for_its_return(
    machine: Machine,
) -> None:
    machine.kernel.link("eth1", "198.51.100.7/24")
    machine.kernel.route("default", "eth1", via="198.51.100.1")
    machine.kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True)
    machine.kernel.route("default", "ppp0", metric=5)
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1"))
    machine.drain(ip_up("ppp0", "203.0.113.45", ipparam=""))
    both = machine.ours()
    assert both[0]
    machine.kernel.no_link("ppp0")
    machine.drain(ip_down("ppp0", "203.0.113.45", ipparam=""))
    machine.sync()
    assert machine.ours() == ([], {"lo": 0, "eth1": 0})
    machine.kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True)
    machine.kernel.route("default", "ppp0", metric=5)
    machine.drain(ip_up("ppp0", "203.0.113.45", ipparam=""))
    assert machine.ours() == both


def tables_of(machine: Machine, interface: str) -> set[str]:
    """The tables that rules or routes by this interface belong to."""
    found = set()
    for line in machine.ours()[0]:
        words = line.split()
        if interface in words:
            found |= {words[words.index(word) + 1] for word in ("lookup", "table") if word in words}
    return found


def test_an_interface_is_one_links_though_it_was_adopted_before_its_line_was_named(machine: Machine) -> None:
    """As when the package is installed, or /run lost, while the line is up: its ipparam comes with the next event."""
    two_lines(machine)
    machine.kernel.route("default", "ppp0")
    machine.sync()
    assert tables_of(machine, "ppp0") == {"1000"}
    machine.drain(ip_up("ppp0", "203.0.113.45"))
    assert tables_of(machine, "ppp0") == {"200"}
    assert ("ppp0", INET) not in leases.load_all()


def test_a_late_word_of_the_line_before_does_not_leave_two_links_on_one_interface(machine: Machine) -> None:
    two_lines(machine)
    machine.kernel.route("default", "ppp0")
    machine.kernel.route("default", "eth1", via="198.51.100.1", metric=9)
    machine.drain(expire("eth1", "198.51.100.6"))  # of an address that it has no more
    assert tables_of(machine, "eth1") == {"201"}
    machine.drain(ip_down("ppp0", "203.0.113.44"))
    machine.drain(ip_up("ppp0", "203.0.113.45"))
    assert (tables_of(machine, "ppp0"), tables_of(machine, "eth1")) == ({"200"}, {"201"})
    machine.sync()
    assert (tables_of(machine, "ppp0"), tables_of(machine, "eth1")) == ({"200"}, {"201"})
    assert [link for link, _ in leases.load_all()] == ["cable", "dsl"]


def test_a_ppp_interface_that_changed_hands_stays_with_the_line_that_its_event_named(machine: Machine) -> None:
    two_lines(machine)
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1"), ip_up("ppp0", "203.0.113.45"))
    machine.kernel.no_link("ppp0")
    machine.drain(ip_down("ppp0", "203.0.113.45"))
    machine.kernel.link("ppp0", "203.0.113.99 peer 192.0.2.1", ppp=True)
    machine.kernel.route("default", "ppp0")
    machine.drain(ip_up("ppp0", "203.0.113.99", ipparam="other"))
    assert tables_of(machine, "ppp0") == {"1000"}
    before = machine.ours()
    machine.kernel.changes.clear()
    machine.sync()
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1", reason="RENEW"))
    assert machine.ours() == before
    assert machine.kernel.changes == []
    known = leases.load("dsl", INET)
    assert known and not known.is_up
    # the line comes back elsewhere
    machine.kernel.link("ppp1", "203.0.113.46 peer 192.0.2.1", ppp=True)
    machine.drain(ip_up("ppp1", "203.0.113.46"))
    assert (tables_of(machine, "ppp0"), tables_of(machine, "ppp1")) == ({"1000"}, {"200"})
    machine.sync()
    assert (tables_of(machine, "ppp0"), tables_of(machine, "ppp1")) == ({"1000"}, {"200"})


# --- hold, namespaces, configuration ---


def test_while_everything_is_held_out_events_are_only_recorded(machine: Machine) -> None:
    two_lines(machine)
    (machine.root / "run/multihook/held").write_text("by hand\n")
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1"))
    machine.drain(ip_up("ppp0", "203.0.113.45"))
    assert (machine.kernel.changes, spool.waiting()) == ([], [])
    known = leases.load("cable", INET)
    assert known and text(known.gateway) == "198.51.100.1"
    (machine.root / "run/multihook/held").unlink()
    machine.sync()
    assert machine.ours()[0] == sorted(PPP0 + ETH1)


@pytest.mark.fault("F58")
def test_in_another_network_namespace_nothing_is_done(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    both_up(machine)
    before = machine.files()
    monkeypatch.setattr(record, "namespace", lambda: 7)
    with pytest.raises(run.ElsewhereError):
        machine.drain(ip_up("ppp0", "203.0.113.45"))
    assert machine.kernel.changes == []
    assert machine.files() == before


def test_without_any_configuration_the_kernel_is_left_as_it_is(machine: Machine) -> None:
    two_lines(machine)
    machine.config["usable"] = False
    machine.drain(ip_up("ppp0", "203.0.113.45"))
    assert machine.kernel.changes == []


def test_a_changed_configuration_moves_everything_at_the_next_event(machine: Machine) -> None:
    two_lines(machine)
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1"), ip_up("ppp0", "203.0.113.45"))
    machine.configure("[multihook]\nrt_proto = 77\ngroup = 8\nrule_base = 5000\n" + TWO.replace("201", "333"))
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1", reason="RENEW"))
    assert machine.kernel.shown() == []  # none of protocol 109 is left
    assert {attributes_of(one[12:])[21] for one in machine.kernel.rules} == {bytes((77,))}
    assert len(machine.kernel.rules) == 6
    assert (machine.kernel.group("eth1"), machine.kernel.group("ppp0")) == (8, 8)
    machine.configure("[multihook]\nadopt = false\n")
    machine.drain(Told("dhclient", [], {"reason": "RENEW", "interface": "eth1"}))
    machine.sync()
    assert machine.kernel.rules == []
    assert (machine.kernel.group("eth1"), machine.kernel.group("ppp0")) == (0, 0)
    assert [link for link, _ in leases.keys()] == []


# --- trouble ---


def test_what_cannot_be_taken_out_of_the_spool_does_not_keep_the_run_for_ever(machine: Machine) -> None:
    two_lines(machine)
    spool.prepare()
    (machine.root / "run/multihook/private/spool/00000000000000000001-1").mkdir()
    machine.drain(ip_up("ppp0", "203.0.113.45"))
    assert set(PPP0) <= set(machine.ours()[0])
    assert len([line for line in machine.log if "damaged" in line]) == 1


@pytest.mark.fault("F17")
def test_on_a_read_only_run_waiting_events_are_applied_once_and_the_run_ends(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_lines(machine)
    spool.prepare()
    spool.put(ip_up("ppp0", "203.0.113.45"))
    read_only(monkeypatch)
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1"))
    assert machine.ours()[0] == sorted(PPP0 + ETH1)
    warnings = [line for line in machine.log if line.startswith("4 ")]
    assert len(warnings) == len(set(warnings)) <= 2
    assert all("Read-only file system" in line for line in warnings)


def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every change of a file fails as on a read-only file system."""

    def fail(*arguments: object, **_: object) -> None:
        raise OSError(30, "Read-only file system", arguments[0] if isinstance(arguments[0], str) else None)

    real = files.posix_open

    def opened(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            fail(path)
        return real(path, flags, mode)

    monkeypatch.setattr(files, "posix_open", opened)
    for name in ("rename", "unlink", "mkdir"):
        monkeypatch.setattr(files, name, fail)


@pytest.mark.fault("F17")
@pytest.mark.parametrize("code", [28, 30, 5])
def test_a_full_read_only_or_broken_disk_does_not_stop_routing_and_is_said_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    two_lines(machine)

    def fail(path: str, content: bytes, mode: int = 0o644, durable: bool = False) -> None:
        raise OSError(code, os.strerror(code), path)

    real = files.replace
    for name, module in list(sys.modules.items()):
        if name.startswith("multihook") and getattr(module, "replace", None) is real:
            monkeypatch.setattr(module, "replace", fail)
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1"), ip_up("ppp0", "203.0.113.45"))
    assert machine.ours()[0] == sorted(PPP0 + ETH1)
    warnings = [line for line in machine.log if line.startswith("4 ")]
    assert warnings and all(os.strerror(code) in line for line in warnings)
    assert len(warnings) <= 8


def test_a_damaged_event_has_everything_looked_at(machine: Machine) -> None:
    both_up(machine)
    machine.kernel.rules.clear()
    spool.prepare()
    (machine.root / "run/multihook/private/spool/00000000000000000001-1").write_bytes(b"multihook event 1\0ppp")
    machine.drain()
    assert len(machine.kernel.rules) == 6
    assert spool.waiting() == []


def test_hostile_input_is_said_in_one_line_and_changes_nothing(machine: Machine) -> None:
    both_up(machine)
    attacks = [
        ip_up("a;id", "203.0.113.45"), ip_up("ppp0", "$(reboot)"), ip_up("ppp0", "127.0.0.1"),
        ip_up("ppp0", "x" * 131071),
        ip_down("ppp0", "`id`"), ip_down("ppp0", "0.0.0.0"), Told("pppd", ["ip-up"], {}), Told("pppd", [], {}),
        Told("x\n", [], {}),
        Told("dhclient", [], {"reason": "EXPIRE", "interface": "eth1", "old_ip_address": "\n;id"}),
        bound("eth1", "224.0.0.5", "198.51.100.1"),
        bound("c*", "198.51.100.7", "198.51.100.1"), Told("dhclient", [], {"reason": "$(reboot)", "interface": "eth1"}),
    ]  # fmt: skip
    for told in attacks:
        said = len(machine.log)
        machine.drain(told)
        assert machine.kernel.changes == [], (told.arguments, told.variables)
        assert len(machine.log) - said <= 1
        for line in machine.log[said:]:
            assert line.startswith("4 ") and line.isprintable() and len(line) < 500
    assert len(machine.log) >= len(attacks) - 1  # an unknown reason is no offence
    assert machine.ours()[0] == sorted(PPP0 + ETH1)


@pytest.mark.fault("F27")
def test_a_bad_gateway_is_refused_and_the_link_keeps_the_rest(machine: Machine) -> None:
    two_lines(machine)
    for router in ("0.0.0.0", "198.51.100.7", "127.0.0.1", "224.0.0.5", "255.255.255.255", "x"):
        machine.drain(bound("eth1", "198.51.100.7", router))
        assert [line for line in machine.kernel.shown(201) if "default" in line] == [ETH1[-1]]
        assert ETH1[3] in machine.ours()[0]
    assert len([line for line in machine.log if line.startswith("4 ")]) == 6


@pytest.mark.fault("F47")
def test_without_rights_nothing_is_changed_and_the_event_is_not_lost(machine: Machine) -> None:
    two_lines(machine)
    machine.kernel.before = not_permitted
    before = machine.kernel.picture()
    machine.drain(ip_up("ppp0", "203.0.113.45"))
    assert machine.kernel.picture() == before
    assert len([line for line in machine.log if line.startswith("3 ")]) == 1 and "CAP_NET_ADMIN" in machine.log[-1]
    result = record.last_result()
    assert result and result.failed
    machine.kernel.before = lambda kind, body: None
    machine.sync()
    assert set(PPP0) <= set(machine.ours()[0])
    result = record.last_result()
    assert result and not result.failed


@pytest.mark.fault("F5")
def test_an_address_that_goes_while_a_run_is_at_work_is_seen_by_its_next_look(machine: Machine) -> None:
    both_up(machine)
    machine.kernel.no_link("ppp0")
    machine.kernel.link("ppp0", "203.0.113.50 peer 192.0.2.1", ppp=True)
    made = 0

    def pull(kind: int, body: bytes) -> None:
        nonlocal made
        made += 1
        if made == 2:
            machine.kernel.no_address("ppp0", "203.0.113.50")
            machine.kernel.address("ppp0", "203.0.113.51 peer 192.0.2.1")

    machine.kernel.before = pull
    machine.drain(ip_up("ppp0", "203.0.113.50"))
    machine.kernel.before = lambda kind, body: None
    machine.sync()
    assert {line.replace("203.0.113.45", "203.0.113.51") for line in PPP0} <= set(machine.ours()[0])
    assert not any("203.0.113.50" in line or "203.0.113.45" in line for line in machine.ours()[0])


@pytest.mark.fault("F38")
def test_who_undoes_everything_at_once_is_given_up_after_a_few_rounds(machine: Machine) -> None:
    two_lines(machine)
    real = machine.kernel._change

    def undone(kind: int, flags: int, body: bytes) -> None:
        real(kind, flags, body)
        if kind == NEWRULE:
            machine.kernel.rules.remove(body)

    machine.kernel._change = undone  # type: ignore[method-assign]
    machine.drain(ip_up("ppp0", "203.0.113.45"))
    assert len(machine.kernel.changes) < 60
    errors = [line for line in machine.log if line.startswith("3 ")]
    assert len(errors) == 1 and "undoes" in errors[0]


@pytest.mark.fault("F1", "F5")
@pytest.mark.parametrize("what", ["the next event", "one that is refused", "one that is gone"])
def test_what_fails_while_more_events_wait_is_not_said_but_done_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A line flaps faster than a run is: its address is gone when its rule is made, and back when the next event is read."""
    both_up(machine)
    machine.kernel.no_link("ppp0")
    machine.kernel.link("ppp0", "203.0.113.50 peer 192.0.2.1", ppp=True)
    refused = 0
    real = spool.waiting
    ghosts = ["00000000000000000009-9"] if what == "one that is gone" else []

    def flap(kind: int, body: bytes) -> None:
        nonlocal refused
        if kind == NEWRULE and refused < run.ROUNDS:
            if not refused and not ghosts:
                spool.put(ip_up("ppp0" if what == "the next event" else "a;id", "203.0.113.50"))
            refused += 1
            raise Refused(19, "No such device")

    def waiting() -> list[str]:
        return real() + (ghosts and refused == run.ROUNDS and [ghosts.pop()] or [])

    monkeypatch.setattr(spool, "waiting", waiting)
    machine.kernel.before = flap
    machine.drain(ip_up("ppp0", "203.0.113.50"))
    assert refused == run.ROUNDS and ghosts == []
    assert {line.replace("203.0.113.45", "203.0.113.50") for line in PPP0} <= set(machine.ours()[0])
    assert [line for line in machine.log if line.startswith("3 ")] == []
    result = record.last_result()
    assert result and not result.failed
    # Where no event waits it is said.
    machine.kernel.no_link("ppp0")
    machine.kernel.link("ppp0", "203.0.113.51 peer 192.0.2.1", ppp=True)

    def refuse(kind: int, body: bytes) -> None:
        if kind == NEWRULE:
            raise Refused(19, "No such device")

    machine.kernel.before = refuse
    machine.drain(ip_up("ppp0", "203.0.113.51"))
    assert len([line for line in machine.log if line.startswith("3 ")]) == 1
    result = record.last_result()
    assert result and result.failed


# --- kill -9 ---


def is_safe(machine: Machine) -> None:
    """What must hold at each instant: whatever leads to a table finds its guard there, and its exception before it."""
    lines = machine.kernel.shown()
    for line in lines:
        words = line.split()
        if words[0] in ("7000:", "7400:"):
            table = words[words.index("lookup") + 1]
            assert f"unreachable default table {table} proto 109 metric 4294967295" in lines, line
        if words[0] == "7400:":
            assert any(other.startswith(f"7200: from {words[2]} ") for other in lines), line


SCENES: dict[str, tuple[Callable[[Machine], None], Callable[[], Told]]] = {
    "a link comes up": (lambda machine: None, lambda: ip_up("ppp0", "203.0.113.45")),
    "a link gets a new address": (
        lambda machine: (machine.drain(ip_up("ppp0", "203.0.113.45")), renumber(machine))[0],
        lambda: ip_up("ppp0", "203.0.113.77"),
    ),
    "a link goes": (
        lambda machine: (machine.drain(ip_up("ppp0", "203.0.113.45")), machine.kernel.no_link("ppp0"))[0],
        lambda: ip_down("ppp0", "203.0.113.45"),
    ),
}


@pytest.mark.thorough
@pytest.mark.fault("F15")
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("after", ["the next event of another link", "a whole run"])
def test_killed_at_any_step_the_next_run_ends_where_an_undisturbed_one_would(
    machines: Callable[[], Machine], scene: str, after: str
) -> None:
    prepare, told = SCENES[scene]
    other = bound("eth1", "198.51.100.7", "198.51.100.1", reason="RENEW")

    def begin() -> tuple[Machine, pytest.MonkeyPatch, Bomb]:
        machine = machines()
        two_lines(machine)
        machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1"))
        prepare(machine)
        patches = pytest.MonkeyPatch()
        return machine, patches, Bomb(patches)

    machine, patches, bomb = begin()
    untouched = machine.ours()
    machine.kernel.before = bomb.tick
    machine.drain(told())
    patches.undo()
    complete = machine.ours()
    assert complete != untouched
    total = bomb.count
    assert total > 15
    lost = 0
    for step in range(total):
        machine, patches, bomb = begin()
        bomb.left = step
        machine.kernel.before = bomb.tick
        with pytest.raises(Killed):
            machine.drain(told())
        patches.undo()
        machine.kernel.before = lambda kind, body: None
        is_safe(machine)
        was_spooled = bool(spool.waiting())
        was_changed = machine.ours() != untouched
        machine.sync() if after == "a whole run" else machine.drain(other)
        if not was_spooled and not was_changed and machine.ours() != complete:
            lost += 1  # as if the hook had never been started
        else:
            assert machine.ours() == complete, step
        assert spool.waiting() == []
        machine.sync()
        machine.kernel.changes.clear()
        machine.sync()
        assert machine.kernel.changes == []
    # Not one event is lost from the first change on; before it nobody can tell that there was one.
    assert lost < total / 2


@pytest.mark.fault("F15")
def test_at_each_instant_of_an_undisturbed_run_a_packet_finds_its_right_way_or_none(machine: Machine) -> None:
    two_lines(machine)
    machine.kernel.before = lambda kind, body: is_safe(machine)
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1"), ip_up("ppp0", "203.0.113.45"))
    renumber(machine)
    machine.drain(ip_up("ppp0", "203.0.113.77"))
    machine.kernel.no_link("ppp0")
    machine.drain(ip_down("ppp0", "203.0.113.77"))
    machine.configure("[multihook]\nadopt = false\n")
    machine.sync()
    assert machine.kernel.shown() == []


# --- storms ---


class Line:
    """One line of a storm: what the kernel has, and what was last told rightly of it."""

    def __init__(self, kind: str, number: int, interface: str = "") -> None:
        self.kind, self.number, self.interface = kind, number, interface
        self.address = ""

    @property
    def router(self) -> str:
        return f"198.51.{self.number}.1"

    def events(self) -> tuple[Told, Told]:
        """(up, down) of its present address."""
        if self.kind == "ppp":
            return ip_up(self.interface, self.address, self.ipparam), ip_down(
                self.interface, self.address, self.ipparam
            )
        return bound(self.interface, self.address, self.router), expire(self.interface, self.address)

    @property
    def ipparam(self) -> str:
        return "dsl" if self.number == 10 else ""

    def change(self, machine: Machine, chance: random.Random) -> list[Told]:
        """Something happens in the kernel; returns the events that tell of it, in their right order."""
        told = self._lose(machine)
        self.address = chance.choice(
            ("", f"198.51.{self.number}.{chance.randrange(2, 250)}", f"198.51.{self.number}.7")
        )
        if self.address:
            self._get(machine, chance)
            told.append(self.events()[0])
        return told

    def _lose(self, machine: Machine) -> list[Told]:
        if not self.address:
            return []
        told = [self.events()[1]]
        if self.kind == "ppp":
            machine.kernel.no_link(self.interface)
        else:
            machine.kernel.no_address(self.interface, self.address)
        return told

    def _get(self, machine: Machine, chance: random.Random) -> None:
        if self.kind == "ppp":
            free = [f"ppp{number}" for number in range(3) if f"ppp{number}" not in machine.kernel._links]
            self.interface = chance.choice(free)
            machine.kernel.link(self.interface, f"{self.address} peer 192.0.2.1", ppp=True)
            machine.kernel.route("default", self.interface, src=self.address, metric=self.number)
        else:
            machine.kernel.address(self.interface, f"{self.address}/24")
            machine.kernel.route("default", self.interface, via=self.router, src=self.address, metric=self.number)


STORMS = {"configured and adopted": TWO + 'sources = ["192.0.2.32/28"]\n', "adopted": ""}


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("storm", STORMS)
def test_after_any_storm_of_events_one_run_gives_what_a_fresh_boot_would_give(
    machines: Callable[[], Machine], storm: str, seed: int
) -> None:
    chance = random.Random(seed)
    machine = machines()
    machine.configure(STORMS[storm])
    lines = [Line("ppp", 10), Line("dhcp", 20, "eth1"), Line("dhcp", 30, "eth2"), Line("ppp", 40)]
    for line in lines[1:3]:
        machine.kernel.link(line.interface)
    late: list[Told] = []
    for _ in range(25):
        told = chance.choice(lines).change(machine, chance)
        chance.shuffle(told)
        for one in told:
            fate = chance.random()
            if fate < 0.15:
                continue  # lost
            if fate < 0.3:
                late.append(one)  # overtaken
                continue
            if fate > 0.95:
                kill_at(machine, chance.randrange(20), one)
                continue
            machine.drain(*([one, one] if fate < 0.4 else [one]))
        if late and chance.random() < 0.3:
            machine.drain(late.pop(chance.randrange(len(late))))
        if chance.random() < 0.05:
            machine.reboot()
        if chance.random() < 0.1 and machine.kernel.rules:
            machine.kernel.rules.pop(chance.randrange(len(machine.kernel.rules)))  # somebody else's hands
    for one in late:
        machine.drain(one)
    truth = [
        line.events()[0] if line.address else expire(line.interface, "")
        for line in lines
        if line.address or line.kind != "ppp"
    ]
    machine.drain(*truth)
    by_events, facts = machine.ours(), without_ours(machine.kernel)
    machine.sync()
    stormy = machine.ours()
    numbers = machine.root / "var/lib/multihook/tables"  # an allotted number stays with its link

    fresh = machines()
    if numbers.exists():
        (fresh.root / "var/lib/multihook/tables").write_bytes(numbers.read_bytes())
    fresh.configure(STORMS[storm])
    fresh.kernel = copy.deepcopy(facts)
    fresh.drain(*truth)
    fresh.sync()
    assert stormy == fresh.ours()
    assert by_events == stormy
    assert any(entry[1] & IFF_UP for entry in fresh.kernel._links.values())


# --- the hook ---


@pytest.fixture
def hooked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The machine with its hook: no signal of the test's own process is touched."""
    two_lines(machine)
    monkeypatch.setattr(hook, "signal", lambda *_: None)
    monkeypatch.setattr(hook, "umask", lambda _: 0)
    monkeypatch.setattr(hook, "environ", {})
    monkeypatch.setattr(hook, "Door", lambda: machine.kernel.door())
    return machine


def test_a_hook_applies_its_event_and_gives_the_lock_back(hooked: Machine) -> None:
    hook.main(["pppd", "ip-up", "ppp0", "", "0", "203.0.113.45", "192.0.2.1", "dsl"])
    assert set(PPP0) <= set(hooked.ours()[0])
    assert spool.waiting() == []
    lock.give(lock.take(0))


def test_while_dpkg_is_at_work_a_hook_only_spools(hooked: Machine) -> None:
    spool.prepare()
    Path(spool.UPGRADING).write_bytes(spool.boot_id() + b"\n%d\n" % record.now())
    hook.main(["pppd", "ip-up", "ppp0", "", "0", "203.0.113.45", "192.0.2.1", "dsl"])
    assert len(spool.waiting()) == 1
    assert hooked.kernel.dumps == 0
    Path(spool.UPGRADING).unlink()
    hooked.sync()
    assert set(PPP0) <= set(hooked.ours()[0])
    assert spool.waiting() == []


def test_a_hook_that_waits_too_long_leaves_its_event_to_the_holder(
    hooked: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.prepare()
    asked = []

    def busy(patience: float) -> int:
        asked.append(patience)
        raise lock.Busy

    monkeypatch.setattr(lock, "take", busy)
    hook.main(["pppd", "ip-up", "ppp0", "", "0", "203.0.113.45", "192.0.2.1", "dsl"])
    assert asked == [0, lock.PATIENCE_SECONDS]
    assert len(spool.waiting()) == 1
    assert len(hooked.log) == 1 and "holder applies" in hooked.log[0]
    monkeypatch.undo()


def test_a_hook_whose_state_cannot_be_kept_does_the_kernels_part(hooked: Machine) -> None:
    private = hooked.root / "run/multihook/private"
    private.symlink_to("/nonexistent")
    hook.main(["pppd", "ip-up", "ppp0", "", "0", "203.0.113.45", "192.0.2.1", "dsl"])
    assert set(PPP0) <= set(hooked.ours()[0])
    assert any("state is not saved" in line and "private" in line for line in hooked.log)


@pytest.mark.fault("F37")
@pytest.mark.parametrize("arguments", [
    [], [""], ["x"], ["pppd"], ["dhclient"], ["pppd", "ip-up"], ["pppd", *["x" * 131071] * 9], ["\udcff\n"],
    ["--help"], ["pppd", "--help"],
])  # fmt: skip
def test_a_hook_called_by_hand_without_sense_says_one_line_and_changes_nothing(
    hooked: Machine, arguments: list[str]
) -> None:
    hook.main(arguments)
    assert hooked.kernel.changes == []
    assert len(hooked.log) == 1
    assert hooked.log[0].isprintable() and len(hooked.log[0]) < 500


@pytest.mark.fault("F48")
def test_a_kernel_without_netlink_is_one_line(hooked: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_door() -> None:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(hook, "Door", no_door)
    hook.main(["pppd", "ip-up", "ppp0", "", "0", "203.0.113.45", "192.0.2.1", "dsl"])
    assert len(hooked.log) == 1 and "Address family not supported" in hooked.log[0]

    def deaf() -> None:
        raise Refused(95, "Operation not supported")

    monkeypatch.setattr(hook, "Door", deaf)
    hook.main(["pppd", "ip-up", "ppp0", "", "0", "203.0.113.45", "192.0.2.1", "dsl"])
    assert len(hooked.log) == 2 and "Operation not supported" in hooked.log[1]


def test_the_painted_kernel_can_be_unsafe_and_is_caught(machine: Machine) -> None:
    """The check of this file is no rubber stamp."""
    both_up(machine)
    is_safe(machine)
    machine.kernel.routes = [one for one in machine.kernel.routes if one[7] != 7]
    with pytest.raises(AssertionError):
        is_safe(machine)
    assert pack("203.0.113.45") and INET == 2


def test_a_run_without_an_event_of_a_link_does_not_name_its_last_one(machine: Machine) -> None:
    """What happened days ago is not what happened now."""
    both_up(machine)
    machine.kernel.rules = [one for one in machine.kernel.rules if rules.parse(one).oif != "eth1"]
    machine.sync()
    (line,) = machine.log
    assert line.startswith("6 cable: 198.51.100.7 on eth1 (put right): 1 rule; ")


def test_a_run_that_sees_what_nobody_told_says_so(machine: Machine) -> None:
    both_up(machine)
    machine.kernel.no_address("eth1", "198.51.100.7")
    machine.sync()
    (line,) = [one for one in machine.log if "cable" in one]
    assert line.startswith("6 cable: 198.51.100.7 -> - on eth1 (kernel address gone): ")


def test_of_a_link_that_is_none_any_more_the_last_event_is_not_named(machine: Machine) -> None:
    both_up(machine)
    machine.configure("[multihook]\nadopt = false\n" + TWO.partition("[link.cable]")[0])
    machine.sync()
    (line,) = [one for one in machine.log if "cable" in one]
    assert line.startswith("6 cable: 198.51.100.7 -> - on eth1 (no link any more): ")


# --- what an event does not look at twice ---

SEVERAL = TWO + '[link.lte]\ninterface = "wwan0"\ntable = 202\n'
LATER_ADDRESS = ("203.0.113.77", "203.0.113.78", "203.0.113.79", "203.0.113.80")


def readdress(machine: Machine, old: str, new: str) -> None:
    """ppp0 has another address, and pppd says so."""
    machine.kernel.no_address("ppp0", old)
    machine.kernel.address("ppp0", f"{new} peer 192.0.2.1")
    machine.drain(ip_up("ppp0", new))


@pytest.fixture
def three(machine: Machine) -> Machine:
    """Three links, all in line, with what a run over everything certified."""
    machine.configure(SEVERAL)
    machine.kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True)
    machine.kernel.link("eth1", "198.51.100.7/24")
    machine.kernel.route("default", "eth1", via="198.51.100.1")
    machine.kernel.link("wwan0", "192.0.2.130 peer 192.0.2.129", ppp=True)
    for interface in ("ppp0", "eth1", "wwan0"):
        (machine.root / f"proc/sys/net/ipv4/conf/{interface}").mkdir(parents=True)
        for option in ("rp_filter", "src_valid_mark", "arp_ignore", "arp_announce"):
            (machine.root / f"proc/sys/net/ipv4/conf/{interface}/{option}").write_text("0\n")
    machine.sync()
    machine.drain(ip_up("ppp0", "203.0.113.45"))
    machine.sync()
    return machine


def hands(machine: Machine, what: str) -> None:
    """Somebody takes something from eth1."""
    kernel = machine.kernel
    if what == "element":
        del kernel.nft.sets["snat4"][next(key for key in kernel.nft.sets["snat4"] if key.startswith(b"eth1\0"))]
    elif what == "nft rule":
        kernel.nft.rules.pop()
    elif what == "route":
        kernel.routes = [one for one in kernel.routes if pack("198.51.100.1") not in one or one[5] != OURS]
    elif what == "rule":
        kernel.rules = [one for one in kernel.rules if b"eth1\0" not in one]
    elif what == "group":
        kernel._links["eth1"][2] = 0
    elif what == "sysctl":
        (machine.root / "proc/sys/net/ipv4/conf/eth1/rp_filter").write_text("1\n")


TAKEN = ("element", "nft rule", "route", "rule", "group", "sysctl")


def everything(machine: Machine) -> object:
    """All that is ours on the interfaces that no event is about."""
    mine = [line for line in machine.ours()[0] if "ppp0" not in line and "203.0.113" not in line]
    elements = [line for line in machine.kernel.nft.shown() if "ppp0" not in line]
    setting = (machine.root / "proc/sys/net/ipv4/conf/eth1/rp_filter").read_text()
    return mine, machine.ours()[1], elements, sorted(machine.kernel.nft.rules), setting


@pytest.mark.parametrize("what", TAKEN)
def test_what_somebody_takes_from_another_link_is_found_by_the_next_event(three: Machine, what: str) -> None:
    readdress(three, "203.0.113.45", LATER_ADDRESS[0])
    before = everything(three)
    hands(three, what)
    assert everything(three) != before
    three.drain(ip_up("ppp0", LATER_ADDRESS[0]))
    assert everything(three) == before


@pytest.mark.parametrize("what", TAKEN)
def test_what_somebody_takes_while_a_run_is_at_work_is_found_by_the_next_event(three: Machine, what: str) -> None:
    """The run has compared before; what it certifies then is what it compared, not what it did not look at."""
    readdress(three, "203.0.113.45", LATER_ADDRESS[0])
    before = everything(three)

    def meddle(kind: int, body: bytes) -> None:
        if kind == NEWRULE and everything(three) == before:
            hands(three, what)

    three.kernel.before = meddle
    readdress(three, LATER_ADDRESS[0], LATER_ADDRESS[1])
    three.kernel.before = lambda kind, body: None
    assert everything(three) != before
    three.drain(ip_up("ppp0", LATER_ADDRESS[1]))
    assert everything(three) == before


def test_the_signature_of_a_changed_event_is_that_of_a_look_at_everything(three: Machine) -> None:
    """Else the next event would look at everything for nothing, or not see what it has to."""
    old = "203.0.113.45"
    for new in LATER_ADDRESS:
        readdress(three, old, new)
        old = new
    certificate = record.certificate()
    assert certificate
    (three.root / "run/multihook/private/applied").unlink()
    three.sync()
    again = record.certificate()
    assert again and again.signature == certificate.signature

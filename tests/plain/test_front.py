"""A foreign rule in front of ours that takes every packet: found, said once, and nothing else is called one."""

import pytest
from painted_kernel import OURS, Painted
from painted_machine import Machine
from ppp_and_cable import both_up
from told import bound

from multihook import front
from multihook.address import INET
from multihook.kernel import precedence, routes, rules

WIREGUARD = {"inverted": True, "mark": (51820, 0xFFFFFFFF)}


def in_front(kernel: Painted) -> list[str]:
    found = precedence.before(rules.Dump(kernel.door(), INET), OURS, 8000)
    return [rule.text() for rule in found if precedence.catches_everything(rule)]


@pytest.mark.parametrize("rule, taken", [
    ({"table": 300}, "from all lookup 300"),
    ({"table": 254}, "from all lookup main"),
    ({"table": 51820, **WIREGUARD}, "not from all fwmark 0xca6c/0xffffffff lookup 51820"),
    ({"table": 300, "inverted": True, "source": "192.0.2.1"}, "not from 192.0.2.1 lookup 300"),
    ({"table": 300, "mark": (0, 0xFF)}, "from all fwmark 0x0/0xff lookup 300"),
    ({"table": 0, "action": 8}, "from all prohibit"),
    ({"table": 0, "action": 6}, "from all blackhole"),
    ({"table": 0, "action": 7}, "from all unreachable"),
    ({"table": 254, "suppress": 0}, ""),
    ({"table": 254, "suppress": 0, **WIREGUARD}, ""),
    ({"table": 255}, ""),
    ({"table": 0, "action": 3}, ""),
    ({"table": 300, "source": "192.0.2.1"}, ""),
    ({"table": 300, "iif": "lan0"}, ""),
    ({"table": 300, "mark": (1, 0xFF)}, ""),
    ({"table": 300, "inverted": True}, ""),
    ({"table": 300, "inverted": True, "mark": (0, 0xFF)}, ""),
    ({"table": 300, "mark": (0, 0xFF), "iif": "lan0"}, ""),
    ({"table": 300, "protocol": OURS}, ""),
])  # fmt: skip
def test_what_takes_every_packet_is_known_as_such(rule: dict, taken: str) -> None:
    kernel = Painted()
    kernel.rule(5000, **rule)
    assert in_front(kernel) == ([f"{taken} priority 5000 protocol 3"] if taken else [])


@pytest.mark.parametrize("links", [0, 1, 300])
@pytest.mark.parametrize("priority, found", [(0, True), (1, True), (6999, True), (7000, True), (7999, True), (8000, False), (32765, False)])
def test_it_is_found_before_and_among_ours_and_not_behind_them(links: int, priority: int, found: bool) -> None:
    kernel = Painted()
    kernel.rule(0, 255, protocol=2)
    for number in range(links):
        kernel.rule(7000 + number * 2, 1000 + number, source="192.0.2.9", protocol=OURS)
    for other in (32766, 32767, 9000):
        kernel.rule(other, 254, protocol=2)
    assert in_front(kernel) == []
    kernel.rule(priority, 300)
    assert bool(in_front(kernel)) is found


def test_one_of_ours_left_behind_the_band_does_not_hide_where_it_ends() -> None:
    """After a change of rule_base: what stands behind the band is not in front of it."""
    kernel = Painted()
    kernel.rule(8200, 300)
    kernel.rule(8500, 1000, source="192.0.2.9", protocol=OURS)
    assert in_front(kernel) == []


def test_ours_are_not_read_to_find_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Painted()
    kernel.rule(0, 255, protocol=2)
    for number in range(500):
        kernel.rule(7000, 1000 + number, source="192.0.2.9", protocol=OURS)
    kernel.rule(32766, 254, protocol=2)
    dump = rules.Dump(kernel.door(), INET)
    read = []
    real = rules.parse
    monkeypatch.setattr(precedence, "parse", lambda message: read.append(1) or real(message))
    assert precedence.before(dump, OURS, 8000)[0].table == 255
    assert len(read) == 1


@pytest.mark.parametrize("painted, has", [
    ([], False),
    ([("default", {"dev": "eth1"})], True),
    ([("0.0.0.0/1", {"dev": "eth1"})], False),
    ([("0.0.0.0/1", {"dev": "eth1"}), ("128.0.0.0/1", {"dev": "eth1"})], True),
    ([("192.0.2.0/24", {"dev": "eth1"})], False),
    ([("default", {"kind": 7})], True),
    ([("default", {"kind": 9})], False),
])  # fmt: skip
def test_whether_a_table_leads_everywhere(painted: list, has: bool) -> None:
    kernel = Painted()
    kernel.link("eth1", "198.51.100.7/24")
    kernel.route("default", "eth1", table=301)
    for prefix, words in painted:
        kernel.route(prefix, table=300, **words)
    assert routes.has_default(kernel.door(), INET, 300) is has


def warnings(machine: Machine) -> list[str]:
    return [line for line in machine.log if line.startswith("4 ")]


def test_a_run_says_it_once_and_again_when_it_came_back(machine: Machine) -> None:
    """G8 holds beside it: what stands there is no reason to write anything."""
    both_up(machine)
    renewal = bound("eth1", "198.51.100.7", "198.51.100.1", reason="RENEW")
    machine.drain(renewal)
    machine.kernel.rule(6999, 51820, protocol=3, **WIREGUARD)
    machine.drain(renewal)
    assert machine.log == [], "a table without a default takes nothing"
    machine.kernel.route("default", "ppp0", table=51820)
    machine.drain(renewal)
    (said,) = machine.log
    assert said.startswith("4 a foreign rule takes precedence over all links: 6999: not from all fwmark 0xca6c")
    before = machine.files()
    for _ in range(3):
        machine.drain(renewal)
    assert machine.log == [said] and machine.files() == before
    there = machine.kernel.rules.pop()
    machine.drain(renewal)
    assert machine.log == [said]
    machine.kernel.rules.append(there)
    machine.drain(renewal)
    assert machine.log == [said, f"{said} (2 times)"]


def test_what_stands_there_already_is_not_said_again_beside_what_is_new(machine: Machine) -> None:
    both_up(machine)
    machine.kernel.route("default", "eth1", via="198.51.100.1")
    machine.kernel.rule(6999, 254)
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1"))
    machine.kernel.rule(6000, 254)
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1"))
    assert [line.partition("links: ")[2][:5] for line in warnings(machine)] == ["6999:", "6000:"]


def test_a_whole_run_says_it_too_and_nothing_is_done_to_it(machine: Machine) -> None:
    both_up(machine)
    machine.kernel.rule(6999, 254)
    machine.kernel.route("default", "eth1", via="198.51.100.1")
    machine.sync()
    assert len(warnings(machine)) == 1
    assert any(one.startswith(b"\x02") and rules.parse(one).priority == 6999 for one in machine.kernel.rules)


def test_without_a_link_it_is_in_front_of_nothing(machine: Machine) -> None:
    machine.kernel.link("eth1", "198.51.100.7/24")
    machine.kernel.route("default", "eth1", via="198.51.100.1")
    machine.kernel.rule(6999, 254)
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1"))
    assert machine.log == []


def test_where_nothing_can_be_kept_it_is_said_all_the_same(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    both_up(machine)
    machine.kernel.rule(6999, 254)
    machine.kernel.route("default", "eth1", via="198.51.100.1")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/run/multihook/private")

    monkeypatch.setattr(front, "replace", full)
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1"))
    assert any("takes precedence" in line for line in machine.log)
    assert any("state is not saved" in line for line in machine.log)

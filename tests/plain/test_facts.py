"""The facts that are read from a kernel are what was painted."""

from painted_kernel import DEPRECATED, SECONDARY, TENTATIVE, Painted, address, painted

from multihook.address import INET, text
from multihook.kernel.interfaces import Interface


def test_interfaces_are_read_with_flags_and_group() -> None:
    facts = painted().facts()
    assert list(facts.interfaces) == ["lo", "eth1", "ppp0", "eth2"]
    eth1, ppp0, eth2 = (facts.interfaces[name] for name in ("eth1", "ppp0", "eth2"))
    assert (eth1.is_up, eth1.has_carrier, eth1.is_point_to_point, eth1.group) == (True, True, False, 0)
    assert (ppp0.is_up, ppp0.is_point_to_point, ppp0.group) == (True, True, 7)
    assert (eth2.is_up, eth2.has_carrier) == (False, False)


def test_only_the_interfaces_asked_for_are_read_and_a_missing_one_is_not_there() -> None:
    assert set(painted().facts({"eth1", "wan9"}).interfaces) == {"eth1"}


def test_addresses_are_read_with_peer_and_those_of_the_host_left_out() -> None:
    facts = painted().facts()
    ppp0 = facts.addresses_of(facts.interfaces["ppp0"], INET)
    assert [(text(one.local), text(one.peer), one.prefixlen) for one in ppp0] == [("203.0.113.45", "192.0.2.1", 32)]
    eth1 = facts.addresses_of(facts.interfaces["eth1"], INET)
    assert [(text(one.local), text(one.peer), one.prefixlen) for one in eth1] == [
        ("198.51.100.7", "-", 24), ("198.51.100.8", "-", 24),
    ]  # fmt: skip
    assert facts.addresses_of(facts.interfaces["lo"], INET) == []


def test_which_address_can_be_the_one_of_a_link() -> None:
    kernel = Painted()
    kernel.link("eth1")
    for flags, scope, is_candidate in (
        (0, 0, True), (0x80, 0, True), (SECONDARY, 0, False), (DEPRECATED, 0, False), (TENTATIVE, 0, False),
        (0, 253, False), (0, 200, True),
    ):  # fmt: skip
        kernel._addresses.clear()
        kernel.address("eth1", "198.51.100.7/24", flags=flags, scope=scope)
        facts = kernel.facts()
        found = facts.addresses_of(facts.interfaces["eth1"], INET)
        assert [one.is_candidate for one in found] == [is_candidate], (flags, scope)


def test_the_holders_of_an_address_are_all_interfaces_that_carry_it() -> None:
    kernel = painted()
    kernel.address("eth2", "203.0.113.45/32")
    facts = kernel.facts()
    assert facts.holders(address("203.0.113.45"), INET) == {
        facts.interfaces["ppp0"].index, facts.interfaces["eth2"].index,
    }  # fmt: skip
    assert facts.holders(address("192.0.2.1"), INET) == set()


def test_the_routes_of_main_by_an_interface_are_unicast_ones_of_main() -> None:
    facts = painted().facts()
    found = facts.main_by(facts.interfaces["eth1"], INET)
    assert sorted((text(route.network), route.prefixlen, route.metric) for route in found) == [
        ("0.0.0.0", 0, 20), ("0.0.0.0", 0, 100), ("10.0.0.0", 8, 0), ("198.51.100.0", 24, 0), ("198.51.100.0", 24, 0),
    ]  # fmt: skip


def test_the_best_default_route_is_that_of_the_lowest_metric() -> None:
    facts = painted().facts()
    default = facts.default_by(facts.interfaces["eth1"], INET)
    assert default and text(default.gateway) == "198.51.100.9"
    assert facts.default_by(facts.interfaces["eth2"], INET) is None
    assert sorted((route.oif, text(route.gateway)) for route in facts.defaults(INET)) == [
        (2, "198.51.100.1"), (2, "198.51.100.9"), (3, "-"),
    ]  # fmt: skip


def test_a_next_hop_is_on_the_segment_when_an_address_of_the_interface_says_so() -> None:
    facts = painted().facts()
    eth1, ppp0 = facts.interfaces["eth1"], facts.interfaces["ppp0"]
    assert facts.is_on_segment(eth1, address("198.51.100.1"), INET)
    assert not facts.is_on_segment(eth1, address("198.51.101.1"), INET)
    assert not facts.is_on_segment(eth1, address("192.0.2.1"), INET)
    assert facts.is_on_segment(ppp0, address("192.0.2.1"), INET)
    assert not facts.is_on_segment(ppp0, address("203.0.113.45"), INET)


def test_a_run_reads_its_interfaces_back() -> None:
    kernel = painted()
    facts = kernel.facts()
    kernel.set("eth1", group=109)
    assert facts.interfaces["eth1"].group == 0
    facts.look_at_interfaces()
    assert isinstance(facts.interfaces["eth1"], Interface) and facts.interfaces["eth1"].group == 109

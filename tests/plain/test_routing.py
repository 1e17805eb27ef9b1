"""The routing feature: which routes, rules and group memberships each kind of link gets, in the words of ip(8)."""

import random

import pytest
from painted_kernel import IFF_UP, OURS, Painted, attributes_of, not_permitted, pack
from painted_view import bring_in_line, in_order, lease, view_of

from multihook import engine, links, sources
from multihook.address import INET, in_network, is_interface_name, text, why_unusable
from multihook.features import routing
from multihook.kernel import rules
from multihook.kernel.routes import MAIN, UNREACHABLE, WORST_METRIC, Route
from multihook.kernel.rules import NONE, Rule
from multihook.kind import Step
from multihook.leases import Lease
from multihook.view import View

pytestmark = pytest.mark.usefixtures("painted_names")


def shown(view: View) -> list[str]:
    """All desired objects as commands; interfaces of routes by their number."""
    return [line for thing in routing.desired(view) for line in thing.kind.commands(view, Step(None, thing))]


def cable(kernel: Painted) -> None:
    kernel.link("eth1", "198.51.100.7/24")
    kernel.route("default", "eth1", via="198.51.100.1")


CABLE = '[link.cable]\ninterface = "eth1"\ntable = 201\nsnat = false\n'
DSL = '[link.dsl]\ninterface = "ppp0"\ntable = 200\nsnat = false\n'
GUARD = "ip route add unreachable default table {} proto 109 metric 4294967295"


def rules_for(interface: str, own: str, table: int) -> list[str]:
    exception = (
        f"ip rule add from {own} lookup main suppress_prefixlength 1 suppress_ifgroup 109 priority 7200 protocol 109"
    )
    return [
        f"ip rule add from all oif {interface} lookup {table} priority 7000 protocol 109",
        exception,
        f"ip rule add from {own} lookup {table} priority 7400 protocol 109",
    ]


# --- typical links ---


def test_a_dhcp_link_gets_its_table_its_rules_and_the_group() -> None:
    kernel = Painted()
    cable(kernel)
    known = lease("cable", "eth1", source="dhclient", address="198.51.100.7", gateway="198.51.100.1")
    assert shown(view_of(kernel, CABLE, known)) == [
        GUARD.format(201),
        "ip route add 198.51.100.0/24 dev #2 table 201 proto 109 src 198.51.100.7",
        "ip route add default via 198.51.100.1 dev #2 table 201 proto 109 src 198.51.100.7",
        *rules_for("eth1", "198.51.100.7", 201),
        "ip link set dev eth1 group 109",
    ]


def test_a_ppp_link_gets_a_default_without_a_next_hop() -> None:
    kernel = Painted()
    kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True)
    assert shown(view_of(kernel, DSL, lease("dsl", "ppp0", source="pppd", address="203.0.113.45"))) == [
        GUARD.format(200),
        "ip route add 192.0.2.1 dev #2 table 200 proto 109 src 203.0.113.45",
        "ip route add default dev #2 table 200 proto 109 src 203.0.113.45",
        *rules_for("ppp0", "203.0.113.45", 200),
        "ip link set dev ppp0 group 109",
    ]


def test_two_ppp_links_through_the_same_peer_differ_by_device_and_table() -> None:
    kernel = Painted()
    for number in range(2):
        kernel.link(f"ppp{number}", f"203.0.113.4{number} peer 192.0.2.1", ppp=True)
    settings = DSL + '[link.two]\ninterface = "ppp1"\ntable = 202\n'
    lines = shown(
        view_of(
            kernel, settings, lease("dsl", "ppp0", address="203.0.113.40"), lease("two", "ppp1", address="203.0.113.41")
        )
    )
    assert "ip route add 192.0.2.1 dev #2 table 200 proto 109 src 203.0.113.40" in lines
    assert "ip route add 192.0.2.1 dev #3 table 202 proto 109 src 203.0.113.41" in lines
    assert len(lines) == len(set(lines)) == 14


def test_a_next_hop_off_the_segment_is_written_onlink() -> None:
    kernel = Painted()
    kernel.link("eth1", "198.51.100.7/32")
    known = lease("cable", "eth1", address="198.51.100.7", gateway="192.0.2.1")
    assert shown(view_of(kernel, CABLE, known))[:2] == [
        GUARD.format(201),
        "ip route add default via 192.0.2.1 dev #2 table 201 proto 109 src 198.51.100.7 onlink",
    ]


def test_what_main_has_by_the_interface_is_in_the_table_too_and_nothing_else_of_main() -> None:
    kernel = Painted()
    cable(kernel)
    kernel.link("lan0", "192.168.1.1/24")
    kernel.route("10.0.0.0/8", "eth1", via="198.51.100.254", protocol=16, metric=20, mtu=1400)
    kernel.route("203.0.113.0/24", "eth1", via="192.0.2.9", onlink=True)
    kernel.route("172.16.0.0/12", "lan0", via="192.168.1.254")
    kernel.route("10.66.0.0/16", "eth1", table=99)
    kernel.route("10.77.0.0/16", kind=7)
    lines = shown(view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")))
    routes = [line for line in lines if line.startswith("ip route")]
    assert routes == [
        GUARD.format(201),
        "ip route add 198.51.100.0/24 dev #2 table 201 proto 109 src 198.51.100.7",
        "ip route add 10.0.0.0/8 via 198.51.100.254 dev #2 table 201 proto 109 metric 20 mtu 1400",
        "ip route add 203.0.113.0/24 via 192.0.2.9 dev #2 table 201 proto 109 onlink",
        "ip route add default via 198.51.100.1 dev #2 table 201 proto 109 src 198.51.100.7",
    ]


def test_routes_of_option_121_are_in_the_table_before_main_has_them_and_main_knows_better() -> None:
    kernel = Painted()
    cable(kernel)
    kernel.route("10.0.0.0/8", "eth1", via="198.51.100.254")
    known = lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")
    known.routes = [
        (pack("10.0.0.0"), 8, pack("198.51.100.1")), (pack("192.0.2.0"), 24, pack("198.51.100.1")),
        (pack("203.0.113.0"), 24, pack("192.0.2.9")), (pack("192.168.9.0"), 24, bytes(4)),
    ]  # fmt: skip
    lines = shown(view_of(kernel, CABLE, known))
    assert [line for line in lines if "route" in line][2:-1] == [
        "ip route add 10.0.0.0/8 via 198.51.100.254 dev #2 table 201 proto 109",
        "ip route add 192.0.2.0/24 via 198.51.100.1 dev #2 table 201 proto 109",
        "ip route add 203.0.113.0/24 via 192.0.2.9 dev #2 table 201 proto 109 onlink",
        "ip route add 192.168.9.0/24 dev #2 table 201 proto 109",
    ]


@pytest.mark.parametrize("router", ["198.51.100.7", "198.51.100.255", "198.51.100.0", "224.0.0.5", "127.0.0.1"])
def test_a_route_of_option_121_by_a_router_that_the_kernel_refuses_does_not_cost_the_link_its_rules(
    router: str,
) -> None:
    kernel = Painted()
    cable(kernel)
    known = lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")
    known.routes = [(pack("192.0.2.0"), 24, pack(router))]
    assert not any(f"via {router}" in line for line in shown(view_of(kernel, CABLE, known)))


def test_networks_are_reached_by_the_next_hop_unless_main_knows_better() -> None:
    kernel = Painted()
    cable(kernel)
    kernel.route("10.0.0.0/8", "eth1", via="198.51.100.254")
    settings = CABLE + 'networks = ["10.0.0.0/8", "172.16.0.0/12"]\n'
    lines = shown(view_of(kernel, settings, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")))
    assert "ip route add 10.0.0.0/8 via 198.51.100.254 dev #2 table 201 proto 109" in lines
    assert "ip route add 172.16.0.0/12 via 198.51.100.1 dev #2 table 201 proto 109 src 198.51.100.7" in lines
    assert sum("10.0.0.0/8" in line for line in lines) == 1


def test_further_sources_get_rules_of_their_own_and_keep_them_while_the_link_is_down() -> None:
    kernel = Painted()
    cable(kernel)
    settings = CABLE + 'sources = ["192.0.2.32/28", "192.0.2.7"]\n'
    extra = [line for source in ("192.0.2.32/28", "192.0.2.7") for line in rules_for("", source, 201)[1:]]
    up = shown(view_of(kernel, settings, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")))
    assert [line for line in up if "192.0.2." in line] == extra
    assert shown(view_of(kernel, settings)) == [GUARD.format(201), *extra]


def test_a_lan_card_is_kept_out_of_the_group() -> None:
    kernel = Painted()
    cable(kernel)
    known = lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")
    assert shown(view_of(kernel, CABLE, known))[-1] == "ip link set dev eth1 group 109"
    assert "group 109" not in shown(view_of(kernel, CABLE + "lan = true\n", known))[-1]


def test_the_group_is_for_two_links_or_more_and_only_from_group_0() -> None:
    kernel = Painted()
    cable(kernel)
    known = lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")
    assert not any(line.startswith("ip link") for line in shown(view_of(kernel, CABLE, known, several=False)))
    kernel.set("eth1", group=7)
    assert not any(line.startswith("ip link") for line in shown(view_of(kernel, CABLE, known)))
    kernel.set("eth1", group=109)
    assert "ip link set dev eth1 group 109" in shown(view_of(kernel, CABLE, known))


def test_of_two_links_with_one_address_only_the_first_has_rules_for_it() -> None:
    kernel = Painted()
    kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True)
    kernel.link("ppp1", "203.0.113.45 peer 192.0.2.1", ppp=True)
    settings = DSL + '[link.two]\ninterface = "ppp1"\ntable = 202\n'
    view = view_of(
        kernel, settings, lease("dsl", "ppp0", address="203.0.113.45"), lease("two", "ppp1", address="203.0.113.45")
    )
    view.links[1].paths[INET].shared = True
    lines = shown(view)
    assert [line for line in lines if "ip rule" in line] == [
        *rules_for("ppp0", "203.0.113.45", 200),
        rules_for("ppp1", "", 202)[0],
    ]
    assert "ip route add default dev #3 table 202 proto 109 src 203.0.113.45" in lines


@pytest.mark.parametrize("known", [
    None, lease("cable", "eth1"), lease("cable", "eth1", address="198.51.100.7", held=True),
    lease("cable", "eth9", address="198.51.100.7"),
    lease("cable", "eth1", address="192.0.2.7", withdrawn=True),
], ids=["never seen", "without an address", "held down by hand", "without its interface",
"with an address that is gone"])  # fmt: skip
def test_a_link_that_is_down_leaves_only_its_guard(known: Lease | None) -> None:
    kernel = Painted()
    kernel.link("eth1")
    if known and known.held:
        kernel.address("eth1", "198.51.100.7/24")
    assert shown(view_of(kernel, CABLE, *([known] if known else []))) == [GUARD.format(201)]


def test_an_address_on_an_interface_set_down_keeps_its_rules_so_that_the_guard_refuses() -> None:
    kernel = Painted()
    cable(kernel)
    kernel.set("eth1", up=False)
    lines = shown(view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")))
    assert lines == [GUARD.format(201), *rules_for("eth1", "198.51.100.7", 201), "ip link set dev eth1 group 109"]


def test_a_link_without_a_next_hop_gets_no_default_but_its_guard_and_rules() -> None:
    kernel = Painted()
    kernel.link("eth1", "198.51.100.7/24")
    lines = shown(view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7")))
    assert lines[:2] == [GUARD.format(201), "ip route add 198.51.100.0/24 dev #2 table 201 proto 109 src 198.51.100.7"]
    assert not any("default" in line for line in lines[1:])


def test_the_numbers_of_the_configuration_are_those_that_are_written() -> None:
    kernel = Painted()
    cable(kernel)
    settings = "[multihook]\nrule_base = 5000\nrt_proto = 77\ngroup = 8\n" + CABLE
    lines = shown(view_of(kernel, settings, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")))
    assert "ip rule add from all oif eth1 lookup 201 priority 5000 protocol 77" in lines
    assert (
        "ip rule add from 198.51.100.7 lookup main suppress_prefixlength 1 suppress_ifgroup 8 priority 5200 protocol 77"
        in lines
    )
    assert "ip rule add from 198.51.100.7 lookup 201 priority 5400 protocol 77" in lines
    assert "ip link set dev eth1 group 8" in lines
    assert not any(" 109" in line or " 70" in line for line in lines)


def test_desired_objects_are_a_pure_function() -> None:
    kernel = Painted()
    cable(kernel)
    view = view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1"))
    before, dumps = kernel.picture(), kernel.dumps
    assert shown(view) == shown(view)
    assert (kernel.picture(), kernel.dumps, kernel.changes) == (before, dumps, [])


# --- never, whatever comes ---


def any_address(chance: random.Random) -> str:
    """An address as a hostile server, a mistyped command or a sane provider would give it."""
    return chance.choice((
        "0.0.0.0", "0.1.2.3", "127.0.0.1", "127.0.0.9", "224.0.0.5", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "169.254.3.4",
        "198.51.100.7", "198.51.100.8", "203.0.113.45", "10.0.0.1", "192.168.1.1",
        f"{chance.randrange(256)}.{chance.randrange(256)}.0.1",
    ))  # fmt: skip


def any_router(chance: random.Random) -> str:
    """A next hop that events and the kernel let through: also this machine's own addresses."""
    return chance.choice(
        ("198.51.100.1", "198.51.100.7", "198.51.100.8", "203.0.113.45", "192.0.2.1", "10.0.0.1", "169.254.3.4")
    )


def any_kernel(chance: random.Random) -> Painted:
    kernel = Painted()
    for name in ("eth1", "eth2", "ppp0"):
        if chance.random() < 0.1:
            continue
        kernel.link(
            name,
            ppp=name == "ppp0",
            up=chance.random() < 0.9,
            carrier=chance.random() < 0.9,
            group=chance.choice((0, 0, 7, 109)),
        )
        for _ in range(chance.randrange(3)):
            own = any_address(chance)
            length = chance.choice(("/32", "/24", "/31", "/8", " peer 192.0.2.1"))
            kernel.address(
                name, own + length, flags=chance.choice((0, 0, 0, 1)), scope=chance.choice((0, 0, 253)), connected=False
            )
        if chance.random() < 0.6:
            kernel.route("default", name, via=chance.choice(("", any_router(chance))), metric=chance.randrange(3))
        if chance.random() < 0.3:
            kernel.route("10.0.0.0/8", name, via="198.51.100.9")
    return kernel


def any_lease(chance: random.Random, link: str, interface: str) -> Lease:
    """A record as events, an old file or a hand may have left it."""
    made = lease(link, interface, source=chance.choice(list(sources.RANK)))
    made.withdrawn, made.held = chance.random() < 0.3, chance.random() < 0.1
    made.address = pack(any_address(chance)) if chance.random() < 0.8 else b""
    made.gateway = pack(any_router(chance)) if chance.random() < 0.6 else b""
    made.former = pack(any_address(chance)) if chance.random() < 0.3 else b""
    made.server = pack(any_router(chance) if chance.random() < 0.5 else "10.9.9.9") if chance.random() < 0.5 else b""
    return made


@pytest.mark.thorough
@pytest.mark.fault("F29")
@pytest.mark.parametrize("seed", range(8))
def test_whatever_records_and_kernel_say_only_right_objects_are_wanted(seed: int) -> None:
    chance = random.Random(seed)
    ups = servers = 0
    for _ in range(150):
        kernel = any_kernel(chance)
        settings = CABLE + '[link.two]\ninterface = "eth2"\ntable = 202\ngateway = "198.51.100.3"\n' + DSL
        known = [
            any_lease(chance, *pair)
            for pair in (("cable", "eth1"), ("two", "eth2"), ("dsl", "ppp0"))
            if chance.random() < 0.9
        ]
        view = view_of(kernel, settings, *known, several=chance.random() < 0.8)
        objects = routing.desired(view)
        guards = [thing.table for thing in objects if isinstance(thing, Route) and thing.type == UNREACHABLE]
        assert sorted(guards) == [200, 201, 202]
        by_table = {link.table: link for link in view.links}
        for thing in objects:
            if isinstance(thing, Rule):
                check_rule(thing, view, by_table)
            elif isinstance(thing, Route):
                check_route(thing, by_table)
        assert len({thing.key for thing in objects}) == len(objects) or any_double(view)
        ups += sum(link.is_up for link in view.links)
        servers += sum(isinstance(thing, Rule) and thing.priority == 7500 for thing in objects)
    assert ups > 25 and servers > 10  # else it would prove nothing


def any_double(view: View) -> bool:
    """Whether two links have the same address, or the same DHCP server."""
    leases_up = [path.lease for link in view.links for path in link.paths.values() if path.has_address]
    own, servers = [one.address for one in leases_up], [one.server for one in leases_up if one.server]
    return len(own) != len(set(own)) or len(servers) != len(set(servers))


def check_rule(rule: Rule, view: View, by_table: dict[int, links.Link]) -> None:
    assert rule.protocol == OURS
    assert 7000 <= rule.priority < 8000
    assert rule.source or rule.oif or rule.destination, "a rule without a selector catches everything"
    if rule.destination:
        assert why_unusable(rule.destination) is None and rule.destination_len == 32 and rule.iif == "lo"
        assert not view.facts.holders(rule.destination, INET)
        assert (rule.source, rule.oif) == (b"", "")
        expected = (MAIN, 7450, 1) if rule.table == MAIN else (rule.table, 7500, NONE)
        assert (rule.table, rule.priority, rule.suppress_prefixlen) == expected
        assert rule.table == MAIN or by_table[rule.table].is_up
    elif rule.oif:
        assert is_interface_name(rule.oif) and rule.oif == by_table[rule.table].interface_name and not rule.source
    else:
        assert why_unusable(rule.source) is None, text(rule.source)
        assert rule.prefixlen == 32
        assert view.facts.holders(rule.source, INET), f"nobody has {text(rule.source)}"
        assert rule.table in by_table or (rule.table, rule.suppress_prefixlen, rule.suppress_ifgroup) == (MAIN, 1, 109)
        if rule.table in by_table:
            interface = by_table[rule.table].interface
            assert interface and interface.index in view.facts.holders(rule.source, INET)
            assert rule.suppress_prefixlen == rule.suppress_ifgroup == NONE


def check_route(route: Route, by_table: dict[int, links.Link]) -> None:
    assert route.protocol == OURS
    link = by_table[route.table]
    if route.type == UNREACHABLE:
        assert (route.prefixlen, route.metric, route.oif) == (0, WORST_METRIC, 0)
        return
    assert link.interface and route.oif == link.interface.index
    assert link.interface.flags & IFF_UP
    assert route.metric < WORST_METRIC
    if not route.prefixlen:
        path = link.paths[INET]
        assert route.prefsrc == path.lease.address
        if route.gateway:
            assert why_unusable(route.gateway) is None
            assert route.gateway != path.lease.address


def test_no_next_hop_that_can_be_none_is_taken_from_main() -> None:
    """A default of main by 0.0.0.0 is one without a next hop; the kernel shows it so."""
    kernel = Painted()
    kernel.link("eth1", "198.51.100.7/24")
    kernel.route("default", "eth1")
    lines = shown(view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7")))
    assert "ip route add default dev #2 table 201 proto 109 src 198.51.100.7" in lines


# --- a DHCP server off the segment ---

SERVER_RULES = [
    "ip rule add from all to {} iif lo ipproto udp dport 67 lookup main suppress_prefixlength 1 priority 7450 protocol 109",
    "ip rule add from all to {} iif lo ipproto udp dport 67 lookup {} priority 7500 protocol 109",
]


def leased(server: str, **more: object) -> Lease:
    values = {"source": "dhclient", "address": "198.51.100.7", "gateway": "198.51.100.1", "server": server}
    return lease("cable", "eth1", **(values | more))


def about_servers(view: View) -> list[str]:
    return [line for line in shown(view) if " to " in line]


@pytest.mark.fault("F66")
def test_a_dhcp_server_off_the_segment_is_asked_by_its_own_link() -> None:
    kernel = Painted()
    cable(kernel)
    view = view_of(kernel, CABLE, leased("10.9.9.9"))
    assert about_servers(view) == [line.format("10.9.9.9", 201) for line in SERVER_RULES]
    lines = in_order(view)
    exception, lookup = (next(n for n, line in enumerate(lines) if word in line) for word in ("7450", "7500"))
    assert exception < lookup
    bring_in_line(view)
    bring_in_line(view_of(kernel, CABLE, leased("198.51.100.1")))
    assert not any(" to " in line for line in kernel.shown())


@pytest.mark.parametrize("server", [
    "", "198.51.100.1", "198.51.100.254", "0.0.0.1", "127.0.0.1", "224.0.0.5", "255.255.255.255", "169.254.1.1",
    "198.51.100.7", "192.168.1.1",
])  # fmt: skip
def test_no_rule_for_a_server_on_the_segment_or_one_that_can_be_none(server: str) -> None:
    kernel = Painted()
    cable(kernel)
    kernel.link("lan0", "192.168.1.1/24")  # an address of this machine
    known = leased("")
    known.server = pack(server) if server else b""
    assert about_servers(view_of(kernel, CABLE, known)) == []


def test_no_rule_for_the_server_of_a_link_that_is_not_up() -> None:
    for changes in ({"up": False}, {"held": True}, {"gateway": ""}, {"gone": True}):
        kernel = Painted()
        kernel.link("eth1", "198.51.100.7/24", up=changes.get("up", True))
        if "gone" in changes:
            kernel.no_address("eth1", "198.51.100.7")
        known = leased("10.9.9.9", held=changes.get("held", False), gateway=changes.get("gateway", "198.51.100.1"))
        assert about_servers(view_of(kernel, CABLE, known)) == [], changes


def test_two_links_of_one_dhcp_server_have_a_rule_each_and_what_goes_is_only_its_own() -> None:
    kernel = Painted()
    cable(kernel)
    kernel.link("eth2", "192.0.2.7/24")
    settings = CABLE + '[link.two]\ninterface = "eth2"\ntable = 202\n'
    two = lease("two", "eth2", source="dhclient", address="192.0.2.7", gateway="192.0.2.1", server="10.9.9.9")
    bring_in_line(view_of(kernel, settings, leased("10.9.9.9"), two))
    rules = [line for line in kernel.shown() if " to " in line]
    assert len(rules) == 3 and sum("lookup main" in line for line in rules) == 1
    # The cable's next lease is from another server; this run looks at the cable alone.
    view = view_of(
        kernel, settings, leased("10.9.9.8"), two, whole=False, only="cable", former=("198.51.100.7",), server="10.9.9.9"
    )
    bring_in_line(view)
    there = {f"ip rule add {line.partition(' ')[2]}" for line in kernel.shown() if " to " in line}
    assert there == {line.format("10.9.9.9", 202) for line in SERVER_RULES} | {
        line.format("10.9.9.8", 201) for line in SERVER_RULES
    }
    # Nobody has that server any more: the exception goes with the last look-up.
    alone = lease("two", "eth2", source="dhclient", address="192.0.2.7", gateway="192.0.2.1")
    view = view_of(
        kernel, settings, leased("10.9.9.8"), alone, whole=False, only="two", former=("192.0.2.7",), server="10.9.9.9"
    )
    bring_in_line(view)
    assert not any("10.9.9.9" in line for line in kernel.shown())


# --- the way from what is to what should be ---


def test_a_link_that_comes_up_gets_its_guard_first_and_what_leads_to_it_last() -> None:
    kernel = Painted()
    cable(kernel)
    kernel.route("10.0.0.0/8", "eth1", via="198.51.100.254")
    view = view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1"))
    device, exception, source = rules_for("eth1", "198.51.100.7", 201)
    assert in_order(view) == [
        GUARD.format(201),
        "ip route add 198.51.100.0/24 dev #2 table 201 proto 109 src 198.51.100.7",
        "ip route add 10.0.0.0/8 via 198.51.100.254 dev #2 table 201 proto 109",
        "ip route add default via 198.51.100.1 dev #2 table 201 proto 109 src 198.51.100.7",
        "ip link set dev eth1 group 109",
        exception,
        device,
        source,
    ]
    bring_in_line(view)


def test_a_link_that_goes_loses_first_what_leads_to_it_and_its_guard_stays() -> None:
    kernel = Painted()
    cable(kernel)
    bring_in_line(view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")))
    kernel.no_address("eth1", "198.51.100.7")
    device, exception, source = (line.replace("add", "del") for line in rules_for("eth1", "198.51.100.7", 201))
    view = view_of(kernel, CABLE, lease("cable", "eth1"))
    assert in_order(view) == [source, device, exception, "ip link set dev eth1 group 0"] or in_order(view) == [
        device, source, exception, "ip link set dev eth1 group 0",
    ]  # fmt: skip
    bring_in_line(view)
    assert kernel.shown() == [GUARD.format(201).removeprefix("ip route add ")]


def test_when_a_link_is_no_more_its_guard_goes_last() -> None:
    kernel = Painted()
    cable(kernel)
    bring_in_line(view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")))
    view = view_of(kernel, "")
    lines = in_order(view)
    assert lines[-1] == GUARD.format(201).replace("add", "del")
    assert [("rule" in line) for line in lines[:3]] == [True] * 3
    bring_in_line(view)
    assert kernel.shown() == []
    assert kernel.group("eth1") == 0


def test_a_new_address_is_made_before_the_old_one_is_broken() -> None:
    kernel = Painted()
    cable(kernel)
    bring_in_line(view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")))
    kernel.address("eth1", "198.51.100.99/24")
    kernel.no_address("eth1", "198.51.100.7")
    kernel.route("default", "eth1", via="198.51.100.1")
    known = lease("cable", "eth1", address="198.51.100.99", gateway="198.51.100.1", former="198.51.100.7")
    lines = in_order(view_of(kernel, CABLE, known))
    first_removal = next(number for number, line in enumerate(lines) if " del " in line)
    assert all(" add " in line or " replace " in line for line in lines[:first_removal])
    assert all(" del " in line for line in lines[first_removal:])
    _, exception, source = rules_for("eth1", "198.51.100.99", 201)
    assert lines.index(exception) < lines.index(source)
    _, old_exception, old_source = (line.replace("add", "del") for line in rules_for("eth1", "198.51.100.7", 201))
    assert lines.index(old_source) < lines.index(old_exception)
    assert not any("oif" in line for line in lines)  # the device's rule needs no touch


def test_a_default_route_is_replaced_in_one_step() -> None:
    kernel = Painted()
    cable(kernel)
    bring_in_line(view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")))
    view = view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.9"))
    assert in_order(view) == ["ip route replace default via 198.51.100.9 dev #2 table 201 proto 109 src 198.51.100.7"]
    bring_in_line(view)


OWN = {"eth1": "198.51.100.7", "ppp0": "203.0.113.45"}


def ways(kernel: Painted) -> dict[str, set[str]]:
    """By address, the interfaces by which the first table that a rule leads it to has a default now."""
    found = {}
    lines = kernel.shown()
    for own in OWN.values():
        first = next(line.split(" lookup ")[1].split()[0] for line in lines if f": from {own} lookup 2" in line)
        defaults = [line for line in kernel.shown(int(first)) if line.startswith("default")]
        found[own] = {line.split(" dev ")[1].split()[0] for line in defaults}
    return found


@pytest.mark.parametrize("numbers", [(201, 200), (202, 201), (200, 203)])
def test_while_links_pass_their_tables_on_each_goes_its_own_way_or_is_refused(numbers: tuple[int, int]) -> None:
    """Found by a random history: what the old rule led to was the other link's before the new rule was there."""
    kernel = Painted()
    cable(kernel)
    kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True)
    known = [
        lease("cable", "eth1", address=OWN["eth1"], gateway="198.51.100.1"), lease("dsl", "ppp0", address=OWN["ppp0"])
    ]  # fmt: skip
    bring_in_line(view_of(kernel, CABLE + DSL, *known))
    others = CABLE.replace("201", str(numbers[0])) + DSL.replace("200", str(numbers[1]))
    for settings in (others, CABLE + DSL):
        view = view_of(kernel, settings, *known)
        for step in engine.plan(view):
            assert engine.apply(view, [step]) == ([step], [])
            for interface, own in OWN.items():
                assert ways(kernel)[own] <= {interface}, engine.commands(view, [step])
        assert engine.plan(view) == []
        assert ways(kernel) == {own: {interface} for interface, own in OWN.items()}


def test_what_somebody_took_away_or_turned_comes_back_alone() -> None:
    kernel = Painted()
    cable(kernel)
    view = view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1"))
    bring_in_line(view)
    complete = kernel.picture()
    for number in range(len(kernel.rules)):
        taken = kernel.rules.pop(number)
        again = view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1"))
        assert len(engine.plan(again)) == 1
        bring_in_line(again)
        assert taken in kernel.rules
    ours = [one for one in kernel.routes if one[5] == OURS]
    assert len(ours) == 3
    for one in ours:
        kernel.routes.remove(one)
        again = view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1"))
        assert len(engine.plan(again)) == 1
        bring_in_line(again)
    assert kernel.picture() == complete


@pytest.mark.fault("F44")
def test_foreign_objects_are_neither_seen_nor_touched() -> None:
    kernel = Painted()
    cable(kernel)
    kernel.link("eth5", group=7)
    kernel.route("10.0.0.0/8", "eth1", via="198.51.100.254", table=201, protocol=4)
    kernel.route("default", kind=7, metric=5, table=55)
    kernel.rule(7400, 201, "198.51.100.7", protocol=4)
    kernel.rule(7000, 254, "192.0.2.9", protocol=0)
    before = [list(kernel.routes), list(kernel.rules)]
    bring_in_line(view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")))
    bring_in_line(view_of(kernel, ""))
    assert [kernel.routes, kernel.rules] == before
    assert kernel.group("eth5") == 7


def test_a_foreign_route_in_the_place_of_ours_is_left_and_named() -> None:
    kernel = Painted()
    cable(kernel)
    kernel.route("default", "eth1", via="198.51.100.9", table=201, protocol=4)
    view = view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1"))
    _, failures = engine.apply(view, engine.plan(view))
    assert [(failure.link, failure.may_pass) for failure in failures] == [("cable", False)]
    assert (
        "a foreign route to default stands in table 201; remove it or give the link another table" in failures[0].line
    )
    assert kernel.shown(201) == [
        "unreachable default table 201 proto 109 metric 4294967295",
        "198.51.100.0/24 dev eth1 table 201 proto 109 src 198.51.100.7",
    ]  # fmt: skip


def test_two_routes_of_ours_in_one_place_leave_the_right_one() -> None:
    """As a run leaves them that was killed while it replaced a route beside somebody else's."""
    kernel = Painted()
    cable(kernel)
    known = lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")
    bring_in_line(view_of(kernel, CABLE, known))
    right = kernel.shown(201)
    for gateway in ("198.51.100.9", "198.51.100.0"):
        for at_the_end in (True, False):
            kernel.route("default", "eth1", via=gateway, src="198.51.100.7", table=201, protocol=OURS)
            if not at_the_end:
                kernel.routes.insert(0, kernel.routes.pop())
            view = view_of(kernel, CABLE, known)
            engine.apply(view, engine.plan(view))
            view = view_of(kernel, CABLE, known)
            engine.apply(view, engine.plan(view))
            assert sorted(kernel.shown(201)) == sorted(right)


# --- one link's run among many ---


def test_an_events_run_looks_at_the_objects_of_its_own_links_only() -> None:
    kernel = Painted()
    settings = ""
    known = []
    for number in range(5):
        kernel.link(f"eth{number}", f"198.51.{number}.7/24")
        settings += f'[link.l{number}]\ninterface = "eth{number}"\ntable = {300 + number}\n'
        known.append(lease(f"l{number}", f"eth{number}", address=f"198.51.{number}.7", gateway=f"198.51.{number}.1"))
    bring_in_line(view_of(kernel, settings, *known))
    complete = kernel.picture()
    view = view_of(kernel, settings, *known, whole=False, only="l2", former=("198.51.2.7",))
    assert engine.plan(view) == []
    assert {rule.table for rule in rules.KIND.read(view, [])} == {302, MAIN}
    # its own damage is seen, that of others is not
    kernel.rules = [one for one in kernel.rules if pack("198.51.2.7") not in one and pack("198.51.3.7") not in one]
    view = view_of(kernel, settings, *known, whole=False, only="l2", former=("198.51.2.7",))
    bring_in_line(view)
    assert sum(pack("198.51.2.7") in one for one in kernel.rules) == 2
    assert not any(pack("198.51.3.7") in one for one in kernel.rules)
    bring_in_line(view_of(kernel, settings, *known))
    assert sorted(kernel.rules) == complete[3]


def test_rules_of_an_address_that_has_become_another_links_stay() -> None:
    kernel = Painted()
    kernel.link("eth1", "198.51.100.7/24")
    kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True)
    settings = CABLE + DSL
    dsl = lease("dsl", "ppp0", address="203.0.113.45")
    bring_in_line(view_of(kernel, settings, lease("cable", "eth1", address="198.51.100.7"), dsl))
    complete = kernel.picture()
    cable_ = lease("cable", "eth1", address="198.51.100.7")
    view = view_of(
        kernel, settings, cable_, dsl, whole=False, only="cable", former=("198.51.100.7", "203.0.113.45")
    )  # dsl has it now
    assert engine.plan(view) == []
    assert kernel.picture() == complete


def test_what_somebody_takes_away_shows_in_the_signature_and_foreign_objects_do_not() -> None:
    kernel = Painted()
    cable(kernel)
    known = lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")
    bring_in_line(view_of(kernel, CABLE, known))

    def signature(thorough: bool) -> dict[str, int]:
        return engine.signature(view_of(kernel, CABLE, known), thorough=thorough)

    before = signature(True), signature(False)
    kernel.rule(100, 55, "192.0.2.1")
    kernel.route("10.0.0.0/8", "eth1", via="198.51.100.9", table=55)
    kernel.link("eth9", group=7)
    assert (signature(True), signature(False)) == before
    ours = [one for one in kernel.routes if one[5] == OURS]
    for one in ours:
        place = kernel.routes.index(one)
        kernel.routes.remove(one)
        assert signature(True) != before[0]
        kernel.routes.insert(place, one)
    kernel.set("eth1", group=0)
    assert signature(True) != before[0]
    kernel.set("eth1", group=109)
    for one in list(kernel.rules):
        if attributes_of(one[12:])[21] == bytes((OURS,)):
            kernel.rules.remove(one)
            assert signature(True) != before[0] and signature(False) != before[1]
            kernel.rules.append(one)
    assert (signature(True), signature(False)) == before


def test_counts_of_what_was_done_are_by_link_and_noun() -> None:
    kernel = Painted()
    cable(kernel)
    view = view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1"))
    assert engine.counts(engine.plan(view)) == {"cable": "3 rules, 3 routes, 1 group"}


def test_an_object_that_went_by_itself_is_as_good_as_removed() -> None:
    kernel = Painted()
    cable(kernel)
    known = lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")
    bring_in_line(view_of(kernel, CABLE, known))
    view = view_of(kernel, "")
    steps = engine.plan(view)
    kernel.no_link("eth1")
    kernel.rules.clear()
    _, failures = engine.apply(view, steps)
    assert [failure.line for failure in failures] == []


def test_without_rights_nothing_is_changed_and_one_line_says_so() -> None:
    kernel = Painted()
    cable(kernel)
    kernel.before = not_permitted
    before = kernel.picture()
    view = view_of(kernel, CABLE, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1"))
    _, failures = engine.apply(view, engine.plan(view))
    assert [failure.line for failure in failures] == [
        "changing the kernel's routing needs root with CAP_NET_ADMIN; nothing was changed"
    ]
    assert kernel.picture() == before


def test_networks_and_sources_are_of_the_links_family(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Painted()
    cable(kernel)
    settings = CABLE + 'networks = ["2001:db8::/32"]\nsources = ["2001:db8:1::/48"]\n'
    lines = shown(view_of(kernel, settings, lease("cable", "eth1", address="198.51.100.7", gateway="198.51.100.1")))
    assert not any("2001:" in line for line in lines)
    assert in_network(pack("198.51.100.7"), pack("198.51.100.0"), 24)

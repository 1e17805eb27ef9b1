"""G5, no gap: whatever happens to one link, traffic of the others goes on; not one message is lost."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from world import World
from world.namespaces import Namespace, wait_until

GAP = 0.5  # seconds between two answers: what a busy machine makes of 4 ms
CONFIGURATION = """
[link.cable]
interface = "wan1"
gateway = "198.51.100.1"
table = 200
[link.dsl]
interface = "ppp0"
table = 201
[link.tel]
interface = "ppp1"
table = 202
"""
STEADY = {"wan1": ("198.51.100.7", 200), "ppp0": ("203.0.113.45", 201)}


def unrouted(ns: Namespace) -> int:
    """How many packets of its own found no route so far (ipOutNoRoutes, RFC 4293): what TCP would mend in silence."""
    with ns.entered():
        names, numbers = Path("/proc/thread-self/net/snmp").read_text().splitlines()[:2]
    return int(dict(zip(names.split(), numbers.split(), strict=True))["OutNoRoutes"])


@contextmanager
def undisturbed(world: World, *addresses: str, forwarded: Namespace | None = None) -> Iterator[None]:
    """Exchanges of these addresses, asked and asking, and of a LAN host run meanwhile; none of them misses anything."""
    before = unrouted(world.box)
    flows = {}
    with ExitStack() as stack:
        for address in addresses:
            flows[f"asks from {address}"] = stack.enter_context(world.flow(source=address, interval=0.004))
            flows[f"connected from {address}"] = stack.enter_context(world.flow(source=address, kind="tcp"))
            flows[f"answers at {address}"] = stack.enter_context(world.flow_in(address, interval=0.004))
        if forwarded:
            flows["LAN host asks"] = stack.enter_context(world.flow(ns=forwarded, interval=0.004))
            flows["this machine asks"] = stack.enter_context(world.flow(interval=0.004))
        wait_until("all to run", lambda: all(flow.received > 3 for flow in flows.values()))
        yield
        for flow in flows.values():
            seen = flow.received
            wait_until("all to go on", lambda flow=flow, seen=seen: flow.received > seen + 3 or flow.errors)  # type: ignore[misc]
    told = {name: (f.lost, f.errors, round(f.longest_gap, 3)) for name, f in flows.items()}
    assert all(not f.lost and not f.errors and f.longest_gap < GAP for f in flows.values()), told
    assert unrouted(world.box) == before
    # Not the DHCP server's own broadcast, which comes back to it.
    assert [entry for entry in world.wrong() if entry.destination != "255.255.255.255"] == []


@pytest.fixture
def lines(world: World) -> None:
    """An Ethernet line with main's default, and two sessions through the same gateway; all configured, all up."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    isp = world.provider("isp", "203.0.113.0/24")
    world.box.ip("addr add 198.51.100.7/24 dev wan1", "route add default via 198.51.100.1")
    world.configure(CONFIGURATION)
    for number in (0, 1):
        world.ppp_up(f"ppp{number}", f"203.0.113.{45 + number}", "203.0.113.1", isp)


def renewed(world: World) -> None:
    for _ in range(4):
        world.sessions["ppp1"].up_event()


def renumbered(world: World) -> None:
    for last in (61, 62, 63):
        world.sessions["ppp1"].readdress(f"203.0.113.{last}")
        world.sessions["ppp1"].up_event()


def reconnected(world: World) -> None:
    for last in (71, 72):
        world.sessions["ppp1"].reconnect(f"203.0.113.{last}")


def flapping(world: World) -> None:
    """Thirty times as quickly as it goes: the interface gone, then a new one, each with its event."""
    world.log.clear()
    for _ in range(30):
        world.sessions["ppp1"].reconnect()
    assert len(world.log.lines()) == 60, "one line for each change"


def cut_and_back(world: World) -> None:
    world.sessions["ppp1"].down()
    world.sessions["ppp1"].reconnect()


def hung_up(world: World) -> None:
    world.sessions["ppp1"].down(gone=False)


def moved_to_another_provider(world: World) -> None:
    other = world.provider("other", "192.0.2.0/24")
    session = world.sessions["ppp1"]
    session.down()
    session.provider = other
    session.reconnect("192.0.2.77", "192.0.2.1")


def storm(world: World) -> None:
    session = world.sessions["ppp1"]
    session.readdress("203.0.113.64")
    words = [{}, {"local": "203.0.113.46"}]
    running = [session.event(script, wait=False, **more) for script in ("ip-up", "ip-down") * 3 for more in words]
    for process in running:
        assert process.wait(30) == 0


def handled_by_hand(world: World) -> None:
    world.multihook("down", "ppp1", check=True)
    world.multihook("up", "ppp1", check=True)


def given_another_table(world: World) -> None:
    world.configure(CONFIGURATION.replace("202", "302"))
    world.multihook("sync", check=True)


def taken_out_of_the_configuration(world: World) -> None:
    world.configure(CONFIGURATION[: CONFIGURATION.index("[link.tel]")])
    world.sessions["ppp1"].down_event()
    world.configure(CONFIGURATION)
    world.multihook("sync", check=True)


def tampered_with(world: World) -> None:
    world.box.ip("rule del priority 7400 from 203.0.113.46", "route flush table 202")
    world.sessions["ppp1"].up_event()


def forgotten(world: World) -> None:
    world.box.run("rm", "-r", "/run/multihook", "/var/lib/multihook")
    world.sessions["ppp1"].up_event()


HAPPENINGS = [
    renewed,
    renumbered,
    reconnected,
    flapping,
    cut_and_back,
    hung_up,
    moved_to_another_provider,
    storm,
    handled_by_hand,
    given_another_table,
    taken_out_of_the_configuration,
    tampered_with,
    forgotten,
]


@pytest.mark.fault("F39", "F62", "F63")
@pytest.mark.parametrize("happening", HAPPENINGS, ids=lambda happening: happening.__name__.replace("_", " "))
def test_traffic_of_other_links_goes_on_while_one_link_is(
    world: World, lines: None, happening: Callable[[World], None]
) -> None:
    """Nothing is lost on the wire, and the kernel tells of no change in anything that is the other links'."""
    with world.ip_monitor() as heard, undisturbed(world, *(address for address, _ in STEADY.values())):
        happening(world)
    touched = [
        line
        for line in heard
        for name, (address, table) in STEADY.items()
        if {name, f"{name}:", address, f"table {table}"} & {*line.split(), *_pairs(line)}
    ]
    assert touched == []


def _pairs(line: str) -> set[str]:
    words = line.split()
    return {f"{one} {two}" for one, two in zip(words, words[1:], strict=False)}


@pytest.mark.fast
def test_an_event_that_says_what_is_known_disturbs_not_even_its_own_link(world: World, lines: None) -> None:
    """Doubled, stale and renewing events of a link whose address stays."""
    session = world.sessions["ppp0"]
    with undisturbed(world, session.local):
        session.up_event()
        session.down_event(local="203.0.113.99")
        session.down_event()  # says that the address is gone, and it is not
        session.up_event()
        world.multihook("sync", check=True)


@pytest.mark.fault("F70")
@pytest.mark.parametrize(
    "change",
    [
        "[multihook]\nrule_base = 8000\n",
        "[multihook]\nrt_proto = 110\n",
        "[multihook]\ngroup = 110\n",
        "tables",
        "names",
    ],
    ids=["rule_base", "rt_proto", "group", "tables", "names"],
)
def test_numbers_and_names_are_changed_under_running_traffic(world: World, lines: None, change: str) -> None:
    """What replaces everything makes the new before it takes the old away."""
    if change == "tables":
        changed = CONFIGURATION.replace("table = 20", "table = 30")
    elif change == "names":
        changed = CONFIGURATION.replace("[link.", "[link.new")
    else:
        changed = change + CONFIGURATION
    with undisturbed(world, *(session.local for session in world.sessions.values()), "198.51.100.7"):
        world.configure(changed)
        world.multihook("sync", check=True)
    assert world.multihook("status").returncode == 0


def test_traffic_of_the_lan_goes_on_while_links_come_and_go(world: World, lines: None) -> None:
    """Forwarded by main's default, and this machine's own that is bound to nothing."""
    lan = world.lan()
    world.box.nft(
        "table ip office { chain out { type nat hook postrouting priority srcnat; oifname wan1 masquerade; }; }"
    )
    with undisturbed(world, forwarded=lan.ns):
        for happening in (renumbered, reconnected, hung_up, given_another_table):
            happening(world)


@pytest.mark.fault("F63")
def test_the_default_of_main_is_moved_from_link_to_link(world: World, lines: None) -> None:
    """002.14: what is bound to nothing follows it; what carries a link's address does not notice, nor its absence."""
    ways = {"ppp0": "dev ppp0", "ppp1": "dev ppp1", "wan1": "via 198.51.100.1"}
    with undisturbed(world, "198.51.100.7", *(session.local for session in world.sessions.values())):
        for line, way in ways.items():
            world.box.ip(f"route replace default {way}")
            assert world.connect().by == {line}
            world.multihook("sync", check=True)
        world.box.ip("route del default")
        assert "unreachable" in world.route_get("198.18.0.10")
        world.multihook("sync", check=True)


# --- adopted lines ---


@pytest.mark.fault("F63")
def test_the_first_line_goes_on_while_a_second_comes_and_goes(world: World) -> None:
    """A lone line gets its table, rules and group when it is one of two, and loses nothing when that is over."""
    isp = world.provider("isp", "203.0.113.0/24")
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    world.ppp_up("ppp0", "203.0.113.45", "203.0.113.1", isp, defaultroute=True)
    lease = {"new_ip_address": "198.51.100.7", "new_subnet_mask": "255.255.255.0", "new_routers": "198.51.100.1"}
    for _ in range(2):
        with undisturbed(world, "203.0.113.45"):
            world.dhclient_script("BOUND", "wan1", **lease)
            assert world.connect(source="198.51.100.7").by == {"wan1"}
            world.dhclient_script("EXPIRE", "wan1", old_ip_address="198.51.100.7")


def test_the_second_line_goes_on_while_the_first_goes_and_comes_back(world: World) -> None:
    """Two DHCP lines, the second without a default route in main, as dhclient leaves it where there is one already."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    world.provider("fibre", "192.0.2.0/24", wire="wan2").static(9)
    first = {"new_ip_address": "198.51.100.7", "new_subnet_mask": "255.255.255.0", "new_routers": "198.51.100.1"}
    second = {"new_ip_address": "192.0.2.9", "new_subnet_mask": "255.255.255.0", "new_routers": "192.0.2.1"}
    world.dhclient_script("BOUND", "wan1", **first)
    world.dhclient_script("BOUND", "wan2", **second)
    assert [route for route in world.routes() if "default" in route and "wan2" in route] == []
    with undisturbed(world, "192.0.2.9"):
        for _ in range(2):
            world.dhclient_script("EXPIRE", "wan1", old_ip_address="198.51.100.7")
            world.dhclient_script("BOUND", "wan1", **first)


@pytest.mark.fault("F63")
def test_nothing_is_lost_while_a_third_line_comes_and_goes(world: World) -> None:
    """Three adopted lines, events of all of them at once."""
    isp = world.provider("isp", "203.0.113.0/24")
    world.ppp_up("ppp0", "203.0.113.45", "203.0.113.1", isp, defaultroute=True)
    for name, number in (("cable", 1), ("fibre", 2)):
        world.provider(name, f"198.51.100.{number * 64}/26", wire=f"wan{number}")
    leases = {
        f"wan{n}": {
            "new_ip_address": world.providers[name].static(9),
            "new_subnet_mask": "255.255.255.192",
            "new_routers": world.providers[name].gateway,
        }
        for name, n in (("cable", 1), ("fibre", 2))
    }
    world.dhclient_script("BOUND", "wan1", **leases["wan1"])
    with undisturbed(world, "203.0.113.45", leases["wan1"]["new_ip_address"]):
        for _ in range(2):
            world.dhclient_script("BOUND", "wan2", **leases["wan2"])
            world.dhclient_script("RENEW", "wan1", old_ip_address=leases["wan1"]["new_ip_address"], **leases["wan1"])
            world.dhclient_script("RELEASE", "wan2", old_ip_address=leases["wan2"]["new_ip_address"])
            world.sessions["ppp0"].up_event()


def test_a_dhcp_line_is_renewed_and_renumbered_while_another_works(world: World) -> None:
    """Real server, real client: renewal, NAK, new address; both the other line and the LAN notice nothing."""
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    server = cable.serve_dhcp(renew=2)
    isp = world.provider("isp", "203.0.113.0/24")
    world.ppp_up("ppp0", "203.0.113.45", "203.0.113.1", isp, defaultroute=True)
    client = world.dhcp_up("wan1", metric=10)
    old = client.address
    with undisturbed(world, "203.0.113.45"):
        wait_until("a renewal", lambda: server.log().count("DHCPACK") >= 2)
        client.wait_script()
        cable.renumber()
        new = client.wait_address(old)
    assert world.connect(source=new).by == {"wan1"}

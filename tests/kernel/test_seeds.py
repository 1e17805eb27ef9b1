"""The texts that this product began with, played through: 004 whole, of 000 and 001 what is routing."""

from pathlib import Path

import pytest

from world import World
from world.lan import Lan
from world.namespaces import wait_until
from world.traffic import Echo, tcp, udp

KINDS = ("tcp", "udp", "icmp")


def assert_line(world: World, line: str, address: str, kinds: tuple[str, ...] = KINDS) -> None:
    """Asked from outside and asking by itself, the address uses its own line."""
    for kind in kinds:
        for out in (world.reach(address, kind), world.connect(source=address, kind=kind)):
            assert (out.ok, out.by, out.wrong) == (True, {line}, frozenset()), (address, kind, out)


# --- 004: a proxy that spreads its sockets over two circuits ---

RANGE = "192.0.2.32/28"  # further addresses behind the second circuit
PIPES = """
[link.pipe1]
interface = "eth7"
[link.pipe2]
interface = "eth0"
table = 200
gateway = "198.51.100.1"
sources = ["192.0.2.32/28"]
"""


@pytest.fixture
def office(world: World) -> Lan:
    """Two static circuits, the first one the default route; eth6 leads to the office LAN and to its router."""
    first = world.provider("first", "203.0.113.0/24", wire="eth7").static(20)
    second = world.provider("second", "198.51.100.0/24", wire="eth0")
    world.box.ip(
        f"addr add {first}/24 dev eth7",
        "route add default via 203.0.113.1 dev eth7",
        f"addr add {second.static(7)}/24 dev eth0",
    )
    second.delegate(RANGE, via="198.51.100.7")
    world.box.ip(*(f"addr add 192.0.2.{last}/32 dev eth0" for last in (33, 34, 46)))
    return world.lan("eth6")


SECOND = ("198.51.100.7", "192.0.2.33", "192.0.2.34", "192.0.2.46")


@pytest.mark.fast
def test_004_the_second_circuit_and_its_range_use_their_own_line(world: World, office: Lan) -> None:
    """004.1, 004.2, 004.4, 004.10: sockets bound to any address of either circuit; all else by the first."""
    world.configure(PIPES)
    world.multihook("sync", check=True)
    for address in SECOND:
        assert_line(world, "eth0", address)
    assert_line(world, "eth7", "203.0.113.20")
    assert world.connect().by == {"eth7"}
    assert world.wrong() == []
    assert f"7400: from {RANGE} lookup 200 proto 109" in world.rules()


def test_004_round_robin_over_all_addresses(world: World, office: Lan) -> None:
    """Each connection of the proxy takes the next address; every one arrives with the source it was bound to."""
    world.configure(PIPES)
    world.multihook("sync", check=True)
    addresses = ("203.0.113.20", *SECOND)
    for turn in range(15):
        source = addresses[turn % len(addresses)]
        out = world.connect(source=source)
        assert (out.ok, out.source) == (True, source)
    used = {(entry.interface, entry.source) for entry in world.seen()}
    assert used == {("eth7", addresses[0]), *(("eth0", address) for address in SECOND)}


def assert_office(world: World, host: str, router: str) -> None:
    """A host behind the office's other router is reached from every address, and reaches every address."""
    inside = Echo(world.offices[host])
    proxy = Echo(world.box, 3128)
    try:
        for address in ("203.0.113.20", *SECOND):
            assert tcp(world.box, host, 7, address) == ("", address)
            assert udp(world.box, host, 7, address) == ("", "")
            assert tcp(world.offices[host], address, 3128, host)[0] == ""
            assert f"via {router} dev eth6" in world.route_get(host, "from", address)
    finally:
        inside.close()
        proxy.close()
    assert [entry for entry in world.seen() if host in (entry.source, entry.destination)] == []


@pytest.mark.parametrize("order", ["routes first", "routes later"])
def test_004_the_office_is_reached_from_every_table(world: World, office: Lan, order: str) -> None:
    """004.3: the seed doubled these routes into each table; a route that comes later needs no event either."""
    if order == "routes first":
        hosts = [office.office("10.0.0.0/8"), office.office("172.16.0.0/12")]
        world.configure(PIPES)
        world.multihook("sync", check=True)
    else:
        world.configure(PIPES)
        world.multihook("sync", check=True)
        hosts = [office.office("10.0.0.0/8"), office.office("172.16.0.0/12", route=False)]
        world.box.ip(f"route add 172.16.0.0/12 via {office.router} dev eth6")
    for host in hosts:
        assert_office(world, host, office.router)
    assert_line(world, "eth0", "198.51.100.7", ("tcp",))
    # Nothing was copied: the tables of the links hold what belongs to the links.
    assert [route for route in world.routes(200) if "eth6" in route] == []


def test_004_the_table_has_its_name(world: World, office: Lan) -> None:
    """`ip route show table pipe2`, as with the seed's line in rt_tables, which is not touched."""
    before = {
        path: path.read_bytes()
        for path in map(Path, ("/etc/iproute2/rt_tables", "/usr/share/iproute2/rt_tables"))
        if path.exists()
    }
    world.configure(PIPES)
    world.multihook("sync", check=True)
    shown = world.box.run("ip", "route", "show", "table", "pipe2").stdout
    assert "default via 198.51.100.1 dev eth0 proto multihook src 198.51.100.7" in shown
    assert "lookup pipe2 proto multihook" in world.box.run("ip", "rule").stdout
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.fault("F60")
def test_004_a_circuit_that_is_down_is_refused_and_comes_back(world: World, office: Lan) -> None:
    """Its cable is pulled for good and the interface taken down: nothing of it leaves by the first circuit."""
    world.configure(PIPES)
    world.multihook("sync", check=True)
    world.box.ip("link set eth0 down")
    for _ in range(2):
        for address in SECOND:
            out = world.connect(source=address, timeout=0.3)
            assert out.error in ("ENETUNREACH", "EHOSTUNREACH") and not out.by | out.wrong, out
        assert_line(world, "eth7", "203.0.113.20", ("tcp",))
        world.multihook("sync", check=False)
    world.box.ip("link set eth0 up")
    world.multihook("sync", check=True)
    for address in SECOND:
        assert_line(world, "eth0", address, ("tcp",))
    assert world.wrong() == []


def test_004_only_the_second_circuit_is_configured(world: World, office: Lan) -> None:
    """As in the seed: the first one is what it was, main's default; main has the way out of nothing else."""
    world.configure(PIPES[PIPES.index("[link.pipe2]") :])
    world.multihook("sync", check=True)
    for address in SECOND:
        assert_line(world, "eth0", address, ("tcp", "icmp"))
    assert_line(world, "eth7", "203.0.113.20", ("tcp", "icmp"))
    assert world.wrong() == []


# --- 000: a server with several cards ---


def test_000_static_cards(world: World) -> None:
    """000.8 to 000.14, with three cards, one of them in a network of 18 bits (000.7); all by static addresses."""
    lengths = {"Nic1": "198.51.100.0/24", "Nic2": "203.0.113.64/26", "Nic3": "100.64.192.0/18"}
    own = {}
    text = ""
    for number, (name, network) in enumerate(lengths.items()):
        provider = world.provider(name.lower(), network, wire=f"eth{number}")
        own[f"eth{number}"] = provider.static(5)
        length = network.split("/")[1]
        world.box.ip(f"addr add {own[f'eth{number}']}/{length} dev eth{number}")
        text += (
            f'[link.{name.lower()}]\ninterface = "eth{number}"\ntable = {number + 1}\ngateway = "{provider.gateway}"\n'
        )
    world.box.ip("route add default via 198.51.100.1")
    world.configure(text)
    world.multihook("sync", check=True)
    for line, address in own.items():
        assert_line(world, line, address)
    assert world.routes(3) == [
        "default via 100.64.192.1 dev eth2 proto 109 src 100.64.192.5",
        "unreachable default proto 109 metric 4294967295",
        "100.64.192.0/18 dev eth2 proto 109 scope link src 100.64.192.5",
    ]
    assert world.connect().by == {"eth0"}
    assert world.wrong() == []


def test_000_dhcp_devices(world: World) -> None:
    """000.15, 000.16: three cards by DHCP and not one line of configuration; each answers for itself."""
    for number, network in enumerate(("198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/24")):
        world.provider(f"isp{number}", network, wire=f"eth{number}").serve_dhcp()
    clients = [world.dhcp_up(f"eth{number}") for number in range(3)]
    for client in clients:
        assert client.address
        assert_line(world, client.interface, client.address)
    # 000.1: without us only the first gateway is used.
    assert len([route for route in world.routes() if route.startswith("default")]) == 1
    assert world.wrong() == []
    assert "3 of 3 links are up." in world.multihook("status").stdout


@pytest.mark.fault("F67")
def test_000_run_at_each_boot(world: World) -> None:
    """000.20 and its bugs: run again and again, nothing is doubled and nothing is lost."""
    for number, network in enumerate(("198.51.100.0/24", "203.0.113.0/24")):
        address = world.provider(f"isp{number}", network, wire=f"eth{number}").static(5)
        world.box.ip(f"addr add {address}/24 dev eth{number}")
    world.configure(
        '[link.nic1]\ninterface="eth0"\ngateway="198.51.100.1"\n[link.nic2]\ninterface="eth1"\ngateway="203.0.113.1"\n'
    )
    world.multihook("sync", check=True)
    before = world.snapshot()
    for _ in range(3):
        world.multihook("sync", check=True)
    assert world.snapshot() == before
    assert len([rule for rule in world.rules() if "proto 109" in rule]) == 6


# --- 001: two PPPoE lines of one provider ---

LINES = '[link.ppp0]\ninterface = "ppp0"\ntable = 200\n[link.ppp1]\nipparam = "second"\ntable = 201\n'
GATEWAY = "203.0.113.1"


@pytest.mark.parametrize("text", [LINES, LINES.replace("ipparam", "linkname")], ids=["ipparam", "linkname"])
def test_001_two_lines_with_the_same_gateway(world: World, text: str) -> None:
    """001.1, 001.2, 001.5, 001.8, 001.9, 001.16: dynamic addresses, the second one without `defaultroute`."""
    isp = world.provider("isp", "203.0.113.0/24")
    world.configure(text)
    one = world.ppp_up("ppp0", "203.0.113.45", GATEWAY, isp, defaultroute=True)
    two = world.ppp_up("ppp1", "203.0.113.46", GATEWAY, isp, ipparam="second", linkname="second")
    for session, table in ((one, 200), (two, 201)):
        assert_line(world, session.interface, session.local)
        # SSH and web on each: the peer is in the table, and the default by it.
        assert f"{GATEWAY} dev {session.interface} proto 109 scope link src {session.local}" in world.routes(table)
        assert f"default dev {session.interface} proto 109 scope link src {session.local}" in world.routes(table)
    assert world.connect().by == {"ppp0"}
    assert world.wrong() == []


def test_001_both_lines_are_renumbered(world: World) -> None:
    """001.29, 001.31: the provider disconnects every few days; in turn, both at once, the same address again."""
    isp = world.provider("isp", "203.0.113.0/24")
    world.configure(LINES)
    one = world.ppp_up("ppp0", "203.0.113.45", GATEWAY, isp, defaultroute=True)
    two = world.ppp_up("ppp1", "203.0.113.46", GATEWAY, isp, ipparam="second")
    one.reconnect("203.0.113.50")
    two.reconnect("203.0.113.51")
    two.reconnect("203.0.113.51")
    one.drop()
    two.drop()
    running = [one.down_event(wait=False), two.down_event(wait=False)]
    assert [process.wait(30) for process in running] == [0, 0]
    # The addresses are dealt anew: what was the one line's is the other's now.
    one.reconnect("203.0.113.51", event=False)
    two.reconnect("203.0.113.50", event=False)
    running = [two.up_event(wait=False), one.up_event(wait=False)]
    assert [process.wait(30) for process in running] == [0, 0]
    for session in (one, two):
        assert_line(world, session.interface, session.local)
    rules = [rule for rule in world.rules() if "proto 109" in rule]
    assert len(rules) == 6 and "7400: from 203.0.113.51 lookup 200 proto 109" in rules
    assert world.wrong() == []


def test_001_the_failure_of_one_line_keeps_nobody_from_the_other(world: World) -> None:
    """The seed's script ended when ppp0 was dead, and never came to ppp1."""
    isp = world.provider("isp", "203.0.113.0/24")
    world.configure(LINES)
    one = world.ppp_up("ppp0", "203.0.113.45", GATEWAY, isp, defaultroute=True)
    two = world.ppp_up("ppp1", "203.0.113.46", GATEWAY, isp, ipparam="second")
    one.drop()
    two.reconnect("203.0.113.52")
    assert_line(world, "ppp1", "203.0.113.52")
    one.down_event()
    assert_line(world, "ppp1", "203.0.113.52")
    assert world.connect().error == "ENETUNREACH"  # main's default was ppp0's, and is nobody's business here


def test_001_without_any_configuration(world: World) -> None:
    """Both lines with `defaultroute`: the kernel has one of the two only, and with metrics both are adopted."""
    isp = world.provider("isp", "203.0.113.0/24")
    one = world.ppp_up("ppp0", "203.0.113.45", GATEWAY, isp, defaultroute=True)
    two = world.ppp_up("ppp1", "203.0.113.46", GATEWAY, isp, event=False)
    world.box.ip("route add default dev ppp1 metric 10")  # pppd: defaultroute-metric 10
    two.up_event()
    for session in (one, two):
        assert_line(world, session.interface, session.local)
    two.drop()
    two.down_event()
    two.reconnect("203.0.113.53", event=False)
    world.box.ip("route add default dev ppp1 metric 10")
    two.up_event()
    for session in (one, two):
        assert_line(world, session.interface, session.local)
    wait_until("all programs to end", lambda: world.strays() == {})
    assert world.wrong() == []

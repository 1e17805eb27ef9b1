"""dhclient: every reason that it gives its script, by a real server and client where they can be brought to it."""

import re
import subprocess
from pathlib import Path

import pytest

from world import World
from world.dhcp import DhcpClient, Dhcpd
from world.namespaces import Namespace, wait_until

CAPTURES = Path(__file__).parent.parent / "captures"
REASONS = Path("/tmp/rig/reasons")
# What a client can be told so that days become seconds (dhclient.conf(5)).
SHORT_LEASE = "supersede dhcp-lease-time 6; supersede dhcp-renewal-time 2; supersede dhcp-rebinding-time 3;"
IMPATIENT = "timeout 2; reboot 1; retry 60; initial-interval 1;"
LEASE = {"new_ip_address": "198.51.100.7", "new_subnet_mask": "255.255.255.0", "new_routers": "198.51.100.1"}


@pytest.fixture(autouse=True)
def neighbour(world: World) -> None:
    """A session that stays up, so that there are two lines; the reasons that scripts are given are written down."""
    isp = world.provider("isp", "203.0.113.0/24")
    world.ppp_up("ppp0", "203.0.113.45", "203.0.113.1", isp, defaultroute=True)
    hook = Path("/etc/dhcp/dhclient-exit-hooks.d/zz-reasons")
    hook.write_text(f'echo "$interface $reason ${{old_ip_address:--}} ${{new_ip_address:--}}" >>{REASONS}\n')


def tune(words: str) -> None:
    """More lines for dhclient.conf."""
    with open("/etc/dhcp/dhclient.conf", "a") as file:
        file.write(words + "\n")


def reasons(interface: str = "wan1") -> list[str]:
    """The reasons that scripts for this interface were given so far, PREINIT aside."""
    told = [line.split() for line in REASONS.read_text().splitlines()] if REASONS.exists() else []
    return [words[1] for words in told if words[0] == interface and words[1] != "PREINIT"]


def wait_reason(client: DhcpClient, reason: str, seconds: float = 30) -> None:
    """Wait for a reason that was not given yet, and for the end of its hooks."""
    seen = reasons(client.interface).count(reason)
    wait_until(f"dhclient to say {reason}", lambda: reasons(client.interface).count(reason) > seen, seconds)
    client.wait_script()


def ours(world: World, interface: str = "wan1") -> list[str]:
    """The rules and routes of ours that name this interface, in any order."""
    lines = world.rules() + world.routes("all")
    return sorted(line for line in lines if "proto 109" in line and interface in line.split())


def assert_works(world: World, line: str, address: str) -> None:
    """Asked and asking, by the address's own line; one address only, and nothing left of another."""
    answered, asked = world.reach(address), world.connect(source=address)
    assert (answered.ok, answered.by, answered.wrong) == (True, {line}, frozenset())
    assert (asked.ok, asked.by, asked.wrong) == (True, {line}, frozenset())
    rules = [rule for rule in world.rules() if rule.startswith("7400:")]
    assert len(rules) == 2 and any(f"from {address} " in rule for rule in rules)


def assert_is_gone(world: World, *addresses: str) -> None:
    """No rule for these addresses, no way out in a table of wan1's, and the neighbour as before."""
    assert [rule for rule in world.rules() if set(addresses) & set(rule.split())] == []
    assert ours(world) == []
    assert world.connect(source="203.0.113.45").by == {"ppp0"}


# --- a real server and a real client ---


@pytest.mark.fast
def test_bound_adopts_the_line(world: World) -> None:
    """The lease names a router: table, rules, group; and PREINIT before it was nothing."""
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    cable.serve_dhcp()
    client = world.dhcp_up("wan1", metric=10)
    assert reasons() == ["BOUND"] and client.address
    assert_works(world, "wan1", client.address)
    assert world.connect(device="wan1").by == {"wan1"}
    (entry,) = [line for line in world.log.lines() if "wan1: " in line]
    assert entry.startswith(f"wan1: {client.address} on wan1 (dhclient BOUND): 3 rules, ")


def test_renew_and_reboot_change_nothing(world: World) -> None:
    """The same address again, by a renewal, and by a client that was started anew with its lease on file."""
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    cable.serve_dhcp(renew=2)
    client = world.dhcp_up("wan1", metric=10)
    before = world.snapshot(foreign=False)
    world.log.clear()
    with world.ip_monitor("rule", "route") as heard:
        wait_reason(client, "RENEW")
        client.restart()
    assert set(reasons()) == {"BOUND", "RENEW", "REBOOT"}
    assert heard.about("proto 109") == [] and world.snapshot(foreign=False) == before
    assert world.log.lines() == []
    assert client.address
    assert_works(world, "wan1", client.address)


@pytest.mark.parametrize("network", [None, "192.0.2.0/24"], ids=["in the same network", "into another network"])
def test_a_nak_moves_the_line_to_its_new_address(world: World, network: str | None) -> None:
    """EXPIRE and BOUND: nothing is left of the old address, the new one works at once."""
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    server = cable.serve_dhcp(renew=2)
    client = world.dhcp_up("wan1", metric=10)
    old = client.address
    assert old
    cable.renumber(network)
    new = client.wait_address(old)
    assert "DHCPNAK" in server.log() and {"EXPIRE", "BOUND"} <= set(reasons())
    assert_works(world, "wan1", new)
    assert [line for line in world.rules() + world.routes("all") if old in line.split()] == []
    assert [
        route
        for route in world.routes("all")
        if "proto 109" in route and f"default via {cable.gateway} dev wan1" in route
    ]


def test_a_lease_that_runs_out_takes_the_line_out_and_a_new_one_brings_it_back(world: World) -> None:
    """The server is silent: renewal, rebinding, EXPIRE. What is bound to the line is refused; the neighbour works."""
    tune(SHORT_LEASE + IMPATIENT)
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    server = cable.serve_dhcp()
    client = world.dhcp_up("wan1", metric=10)
    old = client.address
    assert old
    server.stop()
    wait_reason(client, "EXPIRE")
    assert client.address is None
    assert_is_gone(world, old)
    if "FAIL" not in reasons():
        wait_reason(client, "FAIL")
    assert_is_gone(world, old)
    client.kill()
    server.restart()
    client.start()
    assert reasons()[-1] in ("BOUND", "REBOOT") and client.address
    assert_works(world, "wan1", client.address)


@pytest.mark.fault("F8")
@pytest.mark.parametrize("router_answers", [True, False], ids=["router answers", "router is silent"])
def test_timeout_takes_the_lease_on_file_if_its_router_answers(world: World, router_answers: bool) -> None:
    """No server: dhclient tries its old lease; dhclient-script takes it back when the router is silent."""
    tune(IMPATIENT)
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    server = cable.serve_dhcp()
    client = world.dhcp_up("wan1", metric=10)
    old = client.address
    assert old
    client.kill()
    server.stop()
    world.box.ip("addr flush dev wan1")
    world.multihook("sync", check=True)
    assert_is_gone(world, old)
    if not router_answers:
        cable.ns.ip(f"addr del {cable.gateway}/24 dev wan1")
    client.start(wait=None)
    wait_reason(client, "TIMEOUT")
    if router_answers:
        assert client.address == old
        assert_works(world, "wan1", old)
    else:
        wait_until("the address to be flushed", lambda: client.address is None)
        assert_is_gone(world, old)


@pytest.mark.fault("F8")
def test_fail_without_any_lease_is_nothing(world: World) -> None:
    """A line on which no server ever answered is no link."""
    tune(IMPATIENT)
    world.provider("cable", "198.51.100.0/24", wire="wan1")
    before = world.snapshot(foreign=False)
    client = world.dhcp_up("wan1", wait=None)
    wait_reason(client, "FAIL")
    assert reasons() == ["FAIL"] and world.snapshot(foreign=False) == before
    assert world.log.lines() == []


@pytest.mark.fault("F8")
@pytest.mark.parametrize("how", ["release", "stop"])
def test_release_and_stop_take_the_line_out(world: World, how: str) -> None:
    """dhclient -r and dhclient -x; and the next BOUND brings it back."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").serve_dhcp()
    client = world.dhcp_up("wan1", metric=10)
    old = client.address
    assert old
    getattr(client, how)()
    assert reasons()[-1] == how.upper() and client.address is None
    assert_is_gone(world, old)
    client.start()
    assert client.address
    assert_works(world, "wan1", client.address)


def test_a_client_that_is_killed_says_nothing_and_the_line_goes_on(world: World) -> None:
    """The address stays, so the link does."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").serve_dhcp()
    client = world.dhcp_up("wan1", metric=10)
    client.kill()
    world.multihook("sync", check=True)
    assert client.address
    assert_works(world, "wan1", client.address)


def test_two_lines_with_a_server_each(world: World) -> None:
    """No metrics: the second default route never gets into main, and both lines work all the same."""
    for name, network, wire in (("cable", "198.51.100.0/24", "wan1"), ("fibre", "192.0.2.0/24", "wan2")):
        world.provider(name, network, wire=wire).serve_dhcp()
    world.sessions["ppp0"].down()
    clients = [world.dhcp_up("wan1"), world.dhcp_up("wan2")]
    assert len([route for route in world.routes() if route.startswith("default")]) == 1
    for client in clients:
        assert client.address
        assert_works(world, client.interface, client.address)
    clients[0].release()
    clients[0].start()
    for client in clients:
        assert client.address
        assert_works(world, client.interface, client.address)
    assert world.wrong() == []


def test_another_server_on_the_same_wire_leads_to_another_router(world: World) -> None:
    """The first one is gone; the second offers the same network with a router of its own."""
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    cable.ns.ip("addr add 198.51.100.2/24 dev wan1")
    server = cable.serve_dhcp()
    client = world.dhcp_up("wan1", metric=10)
    client.release()
    server.stop()
    cable.serve_dhcp(160, 170, router="198.51.100.2")
    client.start()
    assert client.address
    assert_works(world, "wan1", client.address)
    assert "via 198.51.100.2 dev wan1" in world.route_get("198.18.0.10", "from", client.address)
    # The same lease with the first router again, as a server says that was set up anew.
    client.kill()
    cable.dhcp.stop()  # type: ignore[union-attr]
    cable.serve_dhcp(160, 170)
    client.start()
    assert client.address
    assert "via 198.51.100.1 dev wan1" in world.route_get("198.18.0.10", "from", client.address)


@pytest.mark.fault("F33")
@pytest.mark.parametrize("kind", ["adopted", "configured", "configured with a next hop"])
def test_a_lease_without_a_router_is_not_adopted(world: World, kind: str) -> None:
    """It leads nowhere by nobody's word: an office network, a printer's. A configured next hop is somebody's word."""
    if kind != "adopted":
        gateway = 'gateway = "198.51.100.1"\n' if kind == "configured with a next hop" else ""
        world.configure(f'[link.cable]\ninterface = "wan1"\n{gateway}')
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    cable.serve_dhcp(router=None)
    client = world.dhcp_up("wan1")
    assert client.address
    out = world.connect(source=client.address, timeout=0.3)
    if kind == "configured with a next hop":
        assert_works(world, "wan1", client.address)
    elif kind == "configured":
        # It has no way out: refused, not sent by the neighbour.
        assert out.error in ("ENETUNREACH", "EHOSTUNREACH") and not out.by | out.wrong
    else:
        assert ours(world) == []
        # As without us: by main's default, where it has no business.
        assert out.wrong == {"ppp0"}


# --- option 121, RFC 3442 ---


def assert_classless(world: World, address: str) -> None:
    """From the line's address the network of option 121 is behind the second router, all else behind the first."""
    assert "via 198.51.100.2 dev wan1" in world.route_get("198.19.77.7", "from", address)
    assert "via 198.51.100.1 dev wan1" in world.route_get("198.18.0.10", "from", address)


@pytest.mark.fault("F33")
def test_classless_routes_hold_for_the_lines_own_traffic(world: World) -> None:
    """Debian's hook that sets them runs after ours; they are in our table all the same, and RENEW keeps them."""
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    cable.ns.ip("addr add 198.51.100.2/24 dev wan1")
    option = "option:classless-static-route,198.19.77.0/24,198.51.100.2,0.0.0.0/0,198.51.100.1"
    cable.serve_dhcp(router="198.51.100.2", options=(option,), renew=2)
    client = world.dhcp_up("wan1")
    assert client.address
    # The default of main that dhclient's hook could not set (there is one already) is not needed.
    assert_classless(world, client.address)
    assert_works(world, "wan1", client.address)
    wait_reason(client, "RENEW")
    assert_classless(world, client.address)
    client.restart()
    assert_classless(world, client.address)


@pytest.mark.fault("F33")
def test_classless_routes_without_a_default_are_no_way_to_the_internet(world: World) -> None:
    """RFC 3442: the router option beside them is not to be used."""
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    cable.serve_dhcp(options=("option:classless-static-route,198.19.77.0/24,198.51.100.2",))
    client = world.dhcp_up("wan1")
    assert client.address and "198.19.77.0/24 via 198.51.100.2 dev wan1" in world.routes()
    assert ours(world) == []


# --- reasons and lies that no server can be brought to ---


NOTHING = ("PREINIT", "MEDIUM", "NBI", "ARPCHECK", "ARPSEND", "PREINIT6", "BOUND6", "RENEW6", "REBIND6", "DEPREF6", "")


@pytest.mark.fault("F8")
def test_reasons_that_are_no_news_change_nothing(world: World) -> None:
    """They are given before anything has happened, or speak of IPv6; an unknown one only makes us look."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    world.dhclient_script("BOUND", "wan1", **LEASE)
    before = world.snapshot(foreign=False)
    world.log.clear()
    for reason in (*NOTHING, "NEWS", "bound"):
        world.dhclient_script(reason, "wan1", **LEASE)
        world.dhclient_script(reason, "wan2", **LEASE)
    assert world.snapshot(foreign=False) == before
    assert_works(world, "wan1", "198.51.100.7")
    assert world.log.lines() == []


@pytest.mark.fault("F7", "F8")
@pytest.mark.parametrize("reason", ["BOUND", "RENEW", "REBIND", "REBOOT", "TIMEOUT"])
def test_each_reason_that_brings_an_address_does_so(world: World, reason: str) -> None:
    """Where the script has put it on the interface: an address that is only said to be there makes no link."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7, 8)
    event = {"PATH": "/usr/bin:/bin", "reason": reason, "interface": "wan1", **LEASE}
    world.box.run("/usr/lib/multihook/event", "dhclient", env=event)
    assert ours(world) == []
    world.dhclient_script(reason, "wan1", **LEASE)
    assert_works(world, "wan1", "198.51.100.7")
    if reason in ("RENEW", "REBIND"):
        # A renewal may bring another address without an EXPIRE before it.
        world.dhclient_script(
            reason, "wan1", **LEASE | {"new_ip_address": "198.51.100.8"}, old_ip_address="198.51.100.7"
        )
        assert_works(world, "wan1", "198.51.100.8")


@pytest.mark.fault("F7", "F8")
@pytest.mark.parametrize("reason", ["EXPIRE", "FAIL", "RELEASE", "STOP"])
def test_each_reason_that_takes_an_address_away_believes_the_kernel(world: World, reason: str) -> None:
    """Late ones, of another client's address or of none, while ours is there, change nothing; the true one does."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    world.dhclient_script("BOUND", "wan1", **LEASE)
    before = world.snapshot(foreign=False)
    event = {"PATH": "/usr/bin:/bin", "reason": reason, "interface": "wan1"}
    for old in ({}, {"old_ip_address": "198.51.100.99"}, {"old_ip_address": "198.51.100.7"}):
        world.box.run("/usr/lib/multihook/event", "dhclient", env=event | old)
        assert world.snapshot(foreign=False) == before, old
    world.dhclient_script(reason, "wan1", old_ip_address="198.51.100.7")
    assert_is_gone(world, "198.51.100.7")


def test_a_source_that_knows_less_takes_nothing_away(world: World) -> None:
    """The router is known from the lease only: neither sync, nor `up` by hand, nor a neighbour's event forgets it."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    world.dhclient_script("BOUND", "wan1", **LEASE)
    assert not [route for route in world.routes() if route.startswith("default") and "wan1" in route]
    before = world.snapshot(foreign=False)
    world.multihook("sync", check=True)
    world.multihook("up", "wan1", check=True)
    world.sessions["ppp0"].up_event()
    world.multihook("sync", check=True)
    assert world.snapshot(foreign=False) == before
    assert_works(world, "wan1", "198.51.100.7")
    # A source that knows more does change it.
    world.multihook("up", "wan1", "--gateway", "198.51.100.2", check=True)
    assert "via 198.51.100.2 dev wan1" in world.route_get("198.18.0.10", "from", "198.51.100.7")


def test_what_the_lease_says_goes_before_what_is_configured(world: World) -> None:
    """`gateway` is for where none is learnt."""
    world.configure('[link.cable]\ninterface = "wan1"\ntable = 200\ngateway = "198.51.100.99"\n')
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    world.dhclient_script("BOUND", "wan1", **LEASE)
    assert "default via 198.51.100.1 dev wan1 proto 109 src 198.51.100.7" in world.routes(200)
    without = {name: value for name, value in LEASE.items() if name != "new_routers"}
    world.dhclient_script("BOUND", "wan1", **without)
    assert "default via 198.51.100.99 dev wan1 proto 109 src 198.51.100.7" in world.routes(200)


@pytest.mark.parametrize("setting", ["adopt = false", 'ignore = ["wan*"]'])
def test_lines_that_are_not_to_be_touched_are_not(world: World, setting: str) -> None:
    """Neither by BOUND nor by what comes after it."""
    world.configure(f"[multihook]\n{setting}\n")
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    world.dhclient_script("BOUND", "wan1", **LEASE)
    world.dhclient_script("RENEW", "wan1", old_ip_address="198.51.100.7", **LEASE)
    assert ours(world) == [] and "wan1" not in world.multihook("status").stdout


@pytest.mark.fault("F8")
@pytest.mark.parametrize("timeline", ["timeline-dhclient.txt", "timeline-dhclient-nak-dnsmasq.txt"])
def test_what_real_clients_did_gives_the_right_link_after_each_event(world: World, timeline: str) -> None:
    """The recorded reasons in their order: at each moment the rules are those of the address that the interface has."""
    world.configure('[link.cable]\ninterface = "wan0"\ntable = 200\n')
    world.provider("cable", "10.80.0.0/15", wire="wan0").hand_out("wan0", ["10.80.0.0/15"])
    events = re.findall(r"dhclient ([A-Z]+) wan0 old=(\S*) new=(\S*) exit=0", (CAPTURES / timeline).read_text())
    assert len(events) >= 9
    current = ""
    for reason, old, new in events:
        words = {"old_ip_address": old} if old else {}
        if new:
            words |= {"new_ip_address": new, "new_subnet_mask": "255.254.0.0", "new_routers": "10.80.0.1"}
        world.dhclient_script(reason, "wan0", **words)
        there = world.box.addresses("wan0")
        assert not new or new in there
        # A client that was ended before the next line left its address behind; that is not the line's any more.
        current = new or (current if current in there else "")
        rules = {rule for rule in world.rules() if rule.startswith("7400:") and "lookup 200" in rule}
        assert rules == ({f"7400: from {current} lookup 200 proto 109"} if current else set()), (reason, old, new)
        ways = [route for route in world.routes(200) if "via" in route]
        assert ways == ([f"default via 10.80.0.1 dev wan0 proto 109 src {current}"] if current else [])


# --- a server off the segment ---

COUNT = """table inet asked {{
    chain asked {{ type filter hook prerouting priority raw - 10; ip daddr {server} udp dport 67 counter; }}
}}"""


def asked(ns: Namespace) -> int:
    """How many requests to the server came into that provider's namespace."""
    (rule,) = [entry["rule"] for entry in ns.nft_json("list", "table", "inet", "asked") if "rule" in entry]
    return next(int(part["counter"]["packets"]) for part in rule["expr"] if "counter" in part)


@pytest.mark.fault("F66")
def test_a_renewal_to_a_server_off_the_segment_leaves_by_its_own_line(world: World) -> None:
    """dhclient renews from a socket that is bound to nothing, while main's default leads to the neighbour."""
    server = "10.9.9.9"
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    cable.ns.ip(f"addr add {server}/32 dev lo")
    for provider in world.providers.values():
        provider.ns.nft(COUNT.format(server=server))
    cable.serve_dhcp(program=Dhcpd, lease="20", renew=2, options=(f"server-identifier {server}",))
    client = world.dhcp_up("wan1", metric=10)
    assert client.address
    assert world.route_get("198.18.0.10").startswith("198.18.0.10 dev ppp0")
    renewal = (server, "ipproto", "udp", "dport", "67")
    assert re.search(rf" dev wan1 table \d+ src {client.address} ", world.route_get(*renewal))
    # Whoever answers on the segment names the server: with a DNS server's address he gets none of its questions.
    assert " dev ppp0 " in world.route_get(server, "ipproto", "udp", "dport", "53")
    assert " dev ppp0 " in world.route_get(server)
    wait_reason(client, "RENEW")
    assert "REBIND" not in reasons()
    assert asked(cable.ns) > 0 and asked(world.providers["isp"].ns) == 0
    # State that is lost loses no server, and what is the administrator's own wins.
    rules = world.rules()
    (exception,) = [rule for rule in rules if rule.startswith("7450:")]
    assert exception.startswith(f"7450: from all to {server} iif lo ipproto ") and " dport 67 lookup 254 " in exception
    subprocess.run(["rm", "-rf", "/run/multihook"], check=True)
    world.multihook("sync", check=True)
    assert world.rules() == rules
    world.lan()
    world.box.ip(f"route add {server} dev lan0")
    assert " dev lan0 " in world.route_get(*renewal)
    world.box.ip(f"route del {server} dev lan0")
    client.release()
    assert not any(server in rule for rule in world.rules())

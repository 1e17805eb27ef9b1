"""The rig itself: it tells right from wrong. Rules are typed by hand, as in seed 004; no multihook in this file."""

import pytest

from world import World
from world.dhcp import Dhcpd
from world.namespaces import wait_until


def hide_hooks(world: World) -> None:
    """Take multihook's entry points away, so that only what the test types by hand is there."""
    world.box.run("sh", "-c", "rm -f /etc/ppp/ip-*.d/multihook /etc/dhcp/dhclient-exit-hooks.d/multihook")


def two_circuits(world: World) -> tuple[str, str]:
    """Seed 004: two static circuits, the first one the default route; no rules yet."""
    first = world.provider("first", "203.0.113.0/24", wire="eth7").static(20)
    second = world.provider("second", "198.51.100.0/24", wire="eth0").static(7)
    world.box.ip(
        f"addr add {first}/24 dev eth7",
        f"addr add {second}/24 dev eth0",
        "route add default via 203.0.113.1 dev eth7",
    )
    return first, second


@pytest.mark.fast
def test_without_rules_the_second_circuit_answers_by_the_first(world: World) -> None:
    """What the product is for: the rig sees the wrong source on the wrong link, drops and counts it."""
    first, second = two_circuits(world)
    assert world.reach(first).ok
    out = world.reach(second)
    assert (out.ok, out.error, out.by, out.wrong) == (False, "ETIMEDOUT", frozenset(), {"eth7"})
    assert {(e.interface, e.source) for e in world.wrong()} == {("eth7", second)}


@pytest.mark.fast
@pytest.mark.parametrize("kind", ["tcp", "udp", "icmp"])
def test_with_rules_each_circuit_answers_for_itself(world: World, kind: str) -> None:
    """The seed's own commands, with the addresses it lost."""
    first, second = two_circuits(world)
    world.box.ip(
        "route add 198.51.100.0/24 dev eth0 table 200",
        "route add default via 198.51.100.1 dev eth0 table 200",
        f"rule add from {second} lookup 200 priority 500",
    )
    for address, line in ((first, "eth7"), (second, "eth0")):
        answered = world.reach(address, kind)
        assert (answered.ok, answered.by, answered.wrong) == (True, {line}, frozenset())
        asked = world.connect(source=address, kind=kind)
        assert (asked.ok, asked.by, asked.wrong) == (True, {line}, frozenset())
    assert world.wrong() == []
    assert world.rules() == [
        "0: from all lookup 255",
        f"500: from {second} lookup 200",
        "32766: from all lookup 254",
        "32767: from all lookup 253",
    ]
    assert world.routes(200) == ["default via 198.51.100.1 dev eth0", "198.51.100.0/24 dev eth0 scope link"]


def test_careless_udp_server_is_seen(world: World) -> None:
    """A UDP server that leaves its source to the kernel answers from the first circuit: ELSEWHERE, not lost."""
    _, second = two_circuits(world)
    answered = world.reach(second, "udp", pktinfo=False)
    assert (answered.ok, answered.by) == (False, {"eth7"})


def test_device_binding_and_office(world: World) -> None:
    """Sockets bound to a device; hosts on the LAN and behind the office router reach the box and are reached."""
    two_circuits(world)
    lan = world.lan()
    office = world.lan("lan1", "192.168.2.0/24").office("10.0.0.0/8")
    assert world.connect(device="eth7").by == {"eth7"}
    for host in (lan.host, office):
        world.box.run("ping", "-c1", "-W1", host)
    assert world.offices[office].run("ping", "-c1", "-W1", "192.168.2.1").returncode == 0


@pytest.mark.fast
def test_dhcp_bound_cut_released(world: World) -> None:
    """Real dnsmasq, real dhclient: a lease, silent, upstream and carrier loss, a release."""
    hide_hooks(world)
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    cable.serve_dhcp()
    client = world.dhcp_up("wan1")
    assert client.address and "default via 198.51.100.1 dev wan1" in world.routes()
    assert world.connect().by == {"wan1"}
    for how in ("silent", "upstream"):
        cable.cut(how)
        assert not world.connect(timeout=0.3).ok
        cable.mend()
        assert world.connect().ok
    cable.cut("carrier")
    assert "NO-CARRIER" in world.box.interface("wan1")["flags"]  # type: ignore[index]
    cable.mend()
    client.release()
    assert client.address is None


@pytest.mark.parametrize("network", [None, "192.0.2.0/24"])
def test_dhcp_renumbered_inside_its_network_or_into_another(world: World, network: str | None) -> None:
    """The provider moves its customers: the old address is wrong at once, a renewal gets a NAK and a new address."""
    hide_hooks(world)
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    server = cable.serve_dhcp(renew=3)
    client = world.dhcp_up("wan1")
    old = client.address
    cable.renumber(network)
    assert world.connect().wrong == {"wan1"}
    new = client.wait_address(old)
    assert "DHCPNAK" in server.log() and world.connect(source=new).ok


def test_dhcp_lease_that_nobody_renews_expires(world: World) -> None:
    """The server goes, its lease of ten seconds runs out: dhclient takes the address away; the server comes back."""
    hide_hooks(world)
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    server = cable.serve_dhcp(program=Dhcpd, lease="10")
    client = world.dhcp_up("wan1")
    server.stop()
    wait_until("the lease to expire", lambda: client.address is None, 20)
    server.start("198.51.100.60", "198.51.100.70")
    assert client.wait_address(None).startswith("198.51.100.6") and world.connect().by == {"wan1"}


def test_ppp_sessions_with_the_same_peer(world: World) -> None:
    """Seed 001: two sessions through the same gateway; the events reach scripts in ip-up.d as pppd sends them."""
    hide_hooks(world)
    world.box.run("sh", "-c", "printf '#!/bin/sh\\nenv | sort > /tmp/rig/$PPP_IFACE\\n' > /etc/ppp/ip-up.d/zz")
    world.box.run("chmod", "755", "/etc/ppp/ip-up.d/zz")
    isp = world.provider("isp", "203.0.113.0/24")
    one = world.ppp_up("ppp0", "203.0.113.45", "203.0.113.1", isp, ipparam="dsl", defaultroute=True)
    world.ppp_up("ppp1", "203.0.113.46", "203.0.113.1", isp, linkname="second")
    passed = world.box.run("cat", "/tmp/rig/ppp0", "/tmp/rig/ppp1").stdout
    assert "PPP_IPPARAM=dsl\n" in passed and "LINKNAME=second\n" in passed and "SSH" not in passed
    assert world.connect(source="203.0.113.45").by == {"ppp0"}
    assert world.connect(source="203.0.113.46").wrong == {"ppp0"}
    before = world.box.interface("ppp0")
    one.reconnect("203.0.113.50")
    after = world.box.interface("ppp0")
    assert before and after and before["ifindex"] != after["ifindex"] and "POINTOPOINT" in after["flags"]
    assert world.connect().by == {"ppp0"}
    one.readdress("203.0.113.51")
    assert world.connect(source="203.0.113.51").ok
    world.ppp_down("ppp1")
    assert world.box.interface("ppp1") is None


def test_flows_count_what_is_lost(world: World) -> None:
    """A flow over a line that dies for a while loses something; one over the other line nothing."""
    first, second = two_circuits(world)
    with world.flow(source=first) as good, world.flow(source=first, kind="tcp") as stream:
        with world.flow_in(first) as inward:
            world.providers["second"].cut("silent")
            world.box.run("sleep", "0.3")
    for flow in (good, stream, inward):
        assert (flow.lost, flow.errors) == (0, []) and flow.sent > 10 and flow.longest_gap < 0.3
    with world.flow(source=first) as bad:
        world.providers["first"].cut("silent")
        world.box.run("sleep", "0.5")
        world.providers["first"].mend()
        world.box.run("sleep", "0.2")
    assert bad.lost >= 20 and bad.received >= 5 and bad.longest_gap > 0.25


@pytest.mark.fast
def test_observers(world: World) -> None:
    """Snapshots tell ours from foreign, ip monitor hears changes and silence, the log keeps lines."""
    two_circuits(world)
    empty = world.snapshot()
    assert world.snapshot() == empty
    foreign = world.snapshot(ours=False)
    with world.ip_monitor() as heard:
        world.box.run("true")
    assert heard == []
    with world.ip_monitor() as heard:
        world.box.ip("rule add from 192.0.2.1 lookup 200 priority 7400 protocol 109", "link set eth0 group 109")
    assert len(heard.about("[RULE]", "192.0.2.1")) == 1 and heard.about("[LINK]", "eth0")
    assert world.snapshot() != empty and world.snapshot(ours=False) == foreign
    assert world.snapshot(foreign=False)["group"] == ["eth0"]
    world.box.run("logger", "-t", "multihook", "-p", "daemon.warning", "refused")
    world.box.run("logger", "-t", "other", "nothing")
    (entry,) = world.log.entries()
    assert (entry.facility, entry.severity, entry.text) == (3, "warning", "refused")
    assert world.strays() == {}


def test_a_further_machine_without_the_package(world: World) -> None:
    """A root of its own, live or as a chroot, in which nothing of this one is seen."""
    machine = world.machine()
    assert not machine.path("/usr/bin/multihook").exists() and machine.package().endswith(".deb")
    assert machine.run("ischroot", check=False).returncode == 1
    assert machine.run("ischroot", check=False, chroot=True).returncode == 0
    machine.ns.ip("link add wan0 type veth peer name far0")
    assert "wan0" in machine.run("ip", "link").stdout

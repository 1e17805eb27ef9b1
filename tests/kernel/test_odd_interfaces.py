"""Interfaces and addresses as no provider should hand them out: links like others, or no links, and nobody is robbed."""

from __future__ import annotations

import pytest
from two_lines import CABLE, CONFIG, GUARD, ONE, ROUTER, by_own_line, ours

from world import World
from world.ppp import EVENT, PEER


@pytest.mark.fault("F14")
def test_an_interface_that_moves_to_another_namespace_is_a_link_that_is_down(two_lines: World) -> None:
    """A container got the card: the next event of any link takes its rules away; given back, it is the link again."""
    other = two_lines.namespace("other")
    two_lines.box.ip("link set wan1 netns other")
    two_lines.sessions["ppp0"].up_event()
    assert ours(two_lines, "wan1", CABLE) == [] and two_lines.routes(201) == GUARD
    assert two_lines.multihook("status").returncode == 3
    other.ip("link set wan1 up", f"addr add {CABLE}/24 dev wan1")
    # Its hook runs there, and is refused: nothing is changed in either.
    env = {"PATH": "/usr/bin:/bin", "reason": "BOUND", "interface": "wan1", "new_ip_address": CABLE, "new_routers": ROUTER}
    other.run(EVENT, "dhclient", env=env)
    assert not any("proto 109" in line for line in other.run("ip", "-N", "rule").stdout.splitlines())
    assert ours(two_lines, "wan1", CABLE) == []
    other.ip("link set wan1 netns box")
    two_lines.box.ip("link set wan1 up", f"addr add {CABLE}/24 dev wan1")
    two_lines.box.run(EVENT, "dhclient", env=env)
    by_own_line(two_lines, ("tcp",))


# What the kernel takes on an interface and can be nobody's.
NOBODYS = ("0.0.0.0/8", "127.0.0.9/8", "224.0.0.5/24", "255.255.255.255/32")


@pytest.mark.fault("F28", "F29")
def test_an_address_that_can_be_nobodys_stands_in_no_rule_though_the_interface_has_it(two_lines: World) -> None:
    """Told of by an event, found by sync, alone on the interface or beside a right one."""
    two_lines.box.ip(f"addr del {CABLE}/24 dev wan1")
    two_lines.multihook("sync", check=True)
    taken = 0
    for odd in NOBODYS:
        done = two_lines.box.run("ip", "addr", "add", odd, "dev", "wan1", check=False)
        if done.returncode:
            continue  # not every kernel takes each of them
        taken += 1
        address = odd.partition("/")[0]
        two_lines.log.clear()
        env = {"PATH": "/usr/bin:/bin", "reason": "BOUND", "interface": "wan1", "new_ip_address": address, "new_routers": ROUTER}
        two_lines.box.run(EVENT, "dhclient", env=env)
        (line,) = two_lines.log.lines()
        assert f'new_ip_address "{address}"' in line, line
        two_lines.multihook("sync")
        for rule in two_lines.rules():
            assert address not in rule and "wan1" not in rule, (odd, rule)
        assert two_lines.routes(201) == GUARD
        assert two_lines.connect().by == {"ppp0"}, "sockets that are bound to nothing go where main says"
        if odd != NOBODYS[-1]:  # beside which there will be a right one
            two_lines.box.ip("addr flush dev wan1")
    assert taken >= 3
    two_lines.box.ip(f"addr add {CABLE}/24 dev wan1")
    two_lines.multihook("sync", check=True)
    assert sorted(rule["src"] for rule in two_lines.box.ip_json("rule", "show", "priority", "7400")) == [CABLE, ONE]


@pytest.mark.fault("F28")
@pytest.mark.parametrize("length", [31, 0])
def test_addresses_with_odd_prefixes_are_links_like_others(world: World, length: int) -> None:
    """/31 by RFC 3021, and /0 as some DHCP server may say it. (/32: test_right_link.py.)"""
    isp = world.provider("isp", "203.0.113.0/24")
    fibre = world.provider("fibre", "198.51.100.6/31" if length == 31 else "198.51.100.0/24", wire="wan1", gateway="198.51.100.6")
    address = fibre.static(1 if length == 31 else 7)
    world.configure(CONFIG.replace(ROUTER, "198.51.100.6"))
    world.ppp_up("ppp0", ONE, PEER, isp, defaultroute=True)
    world.box.ip(f"addr add {address}/{length} dev wan1")
    world.multihook("sync", check=True)
    assert address == CABLE and world.multihook("status").returncode == 0
    by_own_line(world)
    assert world.wrong() == []


@pytest.mark.fault("F32")
def test_no_name_with_a_star_opens_the_translation_to_other_interfaces(world: World) -> None:
    """Beside `cable0` there are `cable*`, which nft would read as both, and `cable9`, whose traffic is none of ours."""
    world.provider("cable", "198.51.100.0/24", wire="cable0").static(7)
    other = world.provider("other", "192.0.2.0/24", wire="cable9")
    lan = world.lan()
    world.box.ip(
        f"addr add {CABLE}/24 dev cable0", f"addr add {other.static(9)}/24 dev cable9", "route add default via 192.0.2.1 dev cable9",
        "link add cable* type veth peer name far9", "link set cable* up", "addr add 10.9.0.2/24 dev cable*",
        "route add default via 10.9.0.1 dev cable* metric 9",
    )  # fmt: skip
    settings = '[multihook]\nadopt = false\n[link.cable]\ninterface = "cable0"\nsnat = true\ngateway = "198.51.100.1"\n'
    world.configure(settings)
    world.multihook("sync", check=True)
    world.multihook("up", "--", "cable*")
    ruleset = world.box.run("nft", "list", "table", "inet", "multihook").stdout
    assert '"cable0"' in ruleset and '*"' not in ruleset and "cable9" not in ruleset
    assert not any("*" in rule for rule in world.rules())
    # What leaves by cable9 is as it was: not translated, not stopped by us, and refused by that provider.
    assert world.connect(ns=lan.ns, timeout=0.3).wrong == {"cable9"}
    world.box.ip("route replace default via 198.51.100.1 dev cable0")
    assert world.connect(ns=lan.ns).by == {"cable0"}
    world.configure(settings.replace("cable0", "cable*"))
    assert world.multihook("check-config").returncode == 78


@pytest.mark.fault("F33")
def test_a_lease_that_claims_the_lan_and_half_the_internet_steals_neither(two_lines: World) -> None:
    """Option 121 through all of Debian's hooks, with 0/1, 128/1, our LAN's network and one around it."""
    lan = two_lines.lan()
    office = lan.office("10.1.0.0/16")
    routes = "1 0 198 51 100 1 1 128 198 51 100 1 24 192 168 1 198 51 100 1 16 192 168 198 51 100 1 8 10 198 51 100 1 0 198 51 100 1"
    two_lines.dhclient_script(
        "REBOOT", "wan1", new_ip_address=CABLE, new_subnet_mask="255.255.255.0", new_routers=ROUTER, new_rfc3442_classless_static_routes=routes
    )  # fmt: skip
    assert any(route.startswith("0.0.0.0/1 ") for route in two_lines.routes()), "Debian's own hook has put them into main"
    for address in (ONE, CABLE):
        for host, ns in ((lan.host, lan.ns), (office, two_lines.offices[office])):
            assert two_lines.box.run("ping", "-n", "-c1", "-W1", "-I", address, host, check=False).returncode == 0, (address, host)
            assert ns.run("ping", "-n", "-c1", "-W1", address, check=False).returncode == 0, (address, host)
    assert [entry for entry in two_lines.seen() if {lan.host, office} & {entry.source, entry.destination}] == []
    by_own_line(two_lines)
    assert two_lines.connect(device="ppp0").by == {"ppp0"}

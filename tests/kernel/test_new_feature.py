"""A throw-away feature with objects of each kind in places of its own lives beside the others, and costs one line."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import two_lines
from two_lines import CABLE, CONFIG, ONE, TWO

from world import World
from world.ppp import PEER

PACKAGE = Path("/usr/lib/python3/dist-packages/multihook")
MODULE = '''"""Throw-away: by its own address each link reaches itself through a table of the feature's own."""

from multihook.address import INET
from multihook.kernel import nfttable, routes, rules
from multihook.kernel.nftables import Element, ifname
from multihook.kernel.ruleset import Chain, Set
from multihook.kernel.routes import LINK_SCOPE, Route
from multihook.kernel.rules import Rule

NAME = "throwaway"
KINDS = (rules.KIND, routes.KIND, nfttable.KIND)
FOLLOWS_STATE = True

TABLE, SET = 1900, "throwaway"
RULES = ((f"iifname @{SET} counter", "comes by a link"),)


def is_wanted(config):
    return bool(config["links"])


def desired(view):
    found = [Set(SET, ("ifname",))]
    if view.whole:
        found.append(Chain("throwaway", RULES, ("filter", 0, -300, 1)))
    for link in view.links:
        path = link.paths.get(INET)
        if path and path.is_up:
            protocol, address = view.config["rt_proto"], path.lease.address
            priority = view.config["rule_base"] + 650
            found += [
                Rule(priority, TABLE, source=address, prefixlen=32, protocol=protocol, link=link.name),
                Route(TABLE, address, 32, oif=link.interface.index, scope=LINK_SCOPE, protocol=protocol, link=link.name),
                Element(SET, ifname(link.interface_name), link=link.name),
            ]
    return found
'''


@pytest.fixture
def feature(world: World) -> Iterator[World]:
    """Both lines, without SNAT of ours but cable's, and the feature: its module, and its name in the list."""
    listed = PACKAGE / "features/__init__.py"
    before = listed.read_text()
    try:
        two_lines.bring_up(world)
        (PACKAGE / "features/throwaway.py").write_text(MODULE)
        listed.write_text(before.replace('"glftpd": "glftpd"}', '"glftpd": "glftpd", "throwaway": ""}'))
        assert listed.read_text() != before
        world.multihook("sync", check=True)
        yield world
    finally:
        listed.write_text(before)
        (PACKAGE / "features/throwaway.py").unlink()
        subprocess.run(["/usr/bin/python3", "-IB", "-m", "multihook.codemaker"], check=True)


def its_own(world: World) -> tuple[list[str], list[str], list[str]]:
    """The feature's rules and routes, and the interfaces in its set ("no chain" where that is missing)."""
    ruleset = world.box.run("nft", "list", "table", "inet", "multihook").stdout
    lines = ruleset.splitlines()
    chain = [] if any("iifname @throwaway" in line for line in lines) else ["no chain"]
    start = next((place for place, line in enumerate(lines) if "set throwaway {" in line), len(lines))
    elements = " ".join(lines[start:]).partition("elements = {")[2].partition("}")[0]
    interfaces = [name for name in ("ppp0", "wan1") if f'"{name}"' in elements]
    rules = [rule.split()[2] for rule in world.rules() if rule.startswith("7650:")]
    return rules, [route.split()[0] for route in world.routes(1900)], chain + interfaces


def everything_else(world: World) -> object:
    """What the other features have made."""
    rules = [rule for rule in world.rules() if not rule.startswith("7650:")]
    elements = world.box.run("nft", "list", "map", "inet", "multihook", "snat4").stdout
    return rules, [world.routes(table) for table in (200, 201)], elements


def agrees(world: World) -> None:
    shown = world.multihook("status")
    assert "The kernel agrees with all of it." in shown.stdout, shown.stdout


def test_it_lives_beside_the_others_through_up_renumbering_sync_flush_and_removal(feature: World) -> None:
    world = feature
    isp = world.providers["isp"]
    others = everything_else(world)
    assert its_own(world) == ([ONE, CABLE], [CABLE, ONE], ["ppp0", "wan1"])
    agrees(world)

    world.ppp_down("ppp0")
    assert its_own(world) == ([CABLE], [CABLE], ["wan1"])
    agrees(world)
    world.ppp_up("ppp0", TWO, PEER, isp, defaultroute=True)  # an event
    assert its_own(world) == ([CABLE, TWO], [CABLE, TWO], ["ppp0", "wan1"])
    agrees(world)
    world.sessions["ppp0"].readdress(ONE)
    world.sessions["ppp0"].up_event()
    assert its_own(world) == ([CABLE, ONE], [CABLE, ONE], ["ppp0", "wan1"])
    assert sorted(everything_else(world)[0]) == sorted(others[0])  # type: ignore[index]
    agrees(world)

    before = world.snapshot()
    assert "nothing to change" in world.multihook("sync", check=True).stdout
    assert world.snapshot() == before

    world.box.ip("rule del priority 7650 from " + CABLE, "route flush table 1900")
    world.multihook("sync", check=True)
    assert its_own(world) == ([ONE, CABLE], [CABLE, ONE], ["ppp0", "wan1"])

    world.multihook("flush", check=True)
    assert not [rule for rule in world.rules() if "proto 109" in rule] and not world.routes(1900)
    assert world.box.run("nft", "list", "table", "inet", "multihook", check=False).returncode != 0
    world.multihook("sync", check=True)
    assert its_own(world) == ([ONE, CABLE], [CABLE, ONE], ["ppp0", "wan1"])

    world.configure(CONFIG.replace("[link.cable]", "[link.wire]"))
    world.multihook("sync", check=True)
    agrees(world)
    assert its_own(world) == ([ONE, CABLE], [CABLE, ONE], ["ppp0", "wan1"])
    world.configure("[multihook]\nadopt = false\n")
    world.multihook("sync", check=True)
    assert not [rule for rule in world.rules() if "proto 109" in rule] and not world.routes(1900)


def test_where_it_is_not_wanted_any_more_its_objects_go_and_no_others(feature: World) -> None:
    world = feature
    others = everything_else(world)
    listed = PACKAGE / "features/__init__.py"
    listed.write_text(listed.read_text().replace(', "throwaway": ""}', "}"))
    world.multihook("sync", check=True)
    assert its_own(world) == ([], [], ["no chain"])
    assert everything_else(world) == others
    agrees(world)

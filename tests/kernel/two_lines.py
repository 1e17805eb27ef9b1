"""The machine of the fixture `two_lines`: dsl on ppp0, with main's default, and cable on wan1, each with its provider."""

from __future__ import annotations

from world import World
from world.ppp import PEER

CONFIG = """
[link.dsl]
interface = "ppp0"
table = 200

[link.cable]
interface = "wan1"
table = 201
gateway = "198.51.100.1"
"""

ONE, TWO, CABLE, ROUTER = "203.0.113.45", "203.0.113.46", "198.51.100.7", "198.51.100.1"
GUARD = ["unreachable default proto 109 metric 4294967295"]
BOUND_SECONDS = 6.5  # as in test_harmless.py


def bring_up(world: World) -> None:
    """Both lines, with ONE and CABLE, and an empty log."""
    isp = world.provider("isp", "203.0.113.0/24")
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    world.configure(CONFIG)
    world.box.ip(f"addr add {cable.static(7)}/24 dev wan1")
    world.ppp_up("ppp0", ONE, PEER, isp, defaultroute=True)
    world.multihook("sync", check=True)
    world.log.clear()


def by_own_line(world: World, kinds: tuple[str, ...] = ("tcp", "udp")) -> None:
    """Both lines answer for themselves, and what is bound to an address leaves by its line."""
    for line, address in (("ppp0", ONE), ("wan1", CABLE)):
        for kind in kinds:
            for outcome in (world.reach(address, kind), world.connect(source=address, kind=kind)):
                assert (outcome.ok, outcome.by, outcome.wrong) == (True, {line}, frozenset()), (line, kind, outcome)


def ours(world: World, *words: str) -> list[str]:
    """Our rules that have one of these words."""
    return [rule for rule in world.rules() if "proto 109" in rule and set(words) & set(rule.split())]

"""G4: what leaves a link with snat has a source of this link, or does not leave; counted at the providers."""

from __future__ import annotations

import pytest

from world import World

ONE, PEER = "203.0.113.45", "203.0.113.1"
CONFIG = """
[link.dsl]
interface = "ppp0"
table = 200
{dsl}

[link.cable]
interface = "wan1"
table = 201
{cable}
"""


class Office:
    """A box with two links and a LAN; its default route is the PPP line's."""

    def __init__(self, world: World, dsl: str = "", cable: str = "") -> None:
        self.world = world
        world.configure(CONFIG.format(dsl=dsl, cable=cable))
        self.isp = world.provider("isp", "203.0.113.0/24")
        self.cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
        self.lan = world.lan()
        self.address = self.cable.static(7)
        world.box.ip(f"addr add {self.address}/24 dev wan1")
        self.dsl = world.ppp_up("ppp0", ONE, PEER, self.isp, defaultroute=True)
        world.multihook("up", "wan1", "--gateway", self.cable.gateway, check=True)

    def by(self, line: str) -> None:
        """The box sends what is bound to nothing by this line."""
        way = "dev ppp0" if line == "ppp0" else f"via {self.cable.gateway} dev wan1"
        self.world.box.ip(f"route replace default {way}")


@pytest.mark.fast
def test_lan_clients_leave_with_the_address_of_the_link_they_leave_by(world: World) -> None:
    office = Office(world)
    for line, address in (("ppp0", ONE), ("wan1", office.address)):
        office.by(line)
        for kind in ("tcp", "udp", "icmp"):
            asked = world.connect(ns=office.lan.ns, kind=kind)
            assert (asked.ok, asked.error, asked.by, asked.wrong) == (True, "", {line}, frozenset()), (line, kind)
            assert asked.source in (address, "")
    assert world.wrong() == []
    done = world.multihook("status")
    assert done.returncode == 0, done.stdout
    assert "  auto  " in done.stdout
    print(done.stdout, world.log.lines())
    assert world.multihook("sync", "-n").stdout == ""

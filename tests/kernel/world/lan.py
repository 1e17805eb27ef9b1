"""The office side of the box: a LAN, and networks behind another router on it."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .world import World


class Lan:
    """Made by World.lan(): hosts on one card of the box, their default route by the box."""

    def __init__(self, world: World, interface: str, network: str) -> None:
        """The box is .1, the host .10, the router to offices .254."""
        self.world, self.interface = world, interface
        self.network = ipaddress.ip_network(network)
        self.ns = world.namespace(interface.replace(".", "-"))
        self.box, self.host, self.router = (str(self.network[n]) for n in (1, 10, -2))
        length = self.network.prefixlen
        self.ns.ip(
            f"link add {interface} type veth peer name {interface} netns {world.box.name}",
            f"addr add {self.host}/{length} dev {interface}",
            f"addr add {self.router}/{length} dev {interface}",
            f"link set {interface} up",
            f"route add default via {self.box}",
        )
        world.box.ip(f"addr add {self.box}/{length} dev {interface}", f"link set {interface} up")
        self._offices = 0

    def office(self, network: str, route: bool = True) -> str:
        """A network behind `router`; the address of the host in it (.10). route: the box gets the route to it."""
        net = ipaddress.ip_network(network)
        n, self._offices = self._offices, self._offices + 1
        inside = self.world.namespace(f"{self.ns.name}-office{n}")
        host, gateway = str(net[10]), str(net[1])
        self.ns.ip(
            f"link add o{n} type veth peer name eth0 netns {inside.name}",
            f"addr add {gateway}/{net.prefixlen} dev o{n}",
            f"link set o{n} up",
        )
        inside.ip(f"addr add {host}/{net.prefixlen} dev eth0", "link set eth0 up", f"route add default via {gateway}")
        if route:
            self.world.box.ip(f"route add {network} via {self.router} dev {self.interface}")
        self.world.offices[host] = inside
        return host

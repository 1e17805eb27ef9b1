"""The internet: the namespace between the providers, with a far host at every address of 198.18.0.0/16."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from .namespaces import Namespace

if TYPE_CHECKING:
    from .world import World


class Internet:
    """Made by World; each provider joins it by a link of its own."""

    def __init__(self, world: World) -> None:
        self.ns = world.namespace("internet")
        self.ns.ip("route add local 198.18.0.0/16 dev lo")
        self._attached = 0
        self._hosts = 0

    def attach(self, other: Namespace) -> tuple[str, str]:
        """Join a provider's namespace by a veth called `uplink` there, with a default route: (its address, ours)."""
        n, self._attached = self._attached, self._attached + 1
        theirs, mine = f"198.19.{n}.2", f"198.19.{n}.1"
        name = f"p{n}"
        self.ns.ip(
            f"link add {name} type veth peer name uplink netns {other.name}",
            f"addr add {mine}/30 dev {name}",
            f"link set {name} up",
        )
        other.ip(f"addr add {theirs}/30 dev uplink", "link set uplink up", f"route add default via {mine}")
        return theirs, mine

    def route(self, prefix: str, via: str) -> None:
        """Send that prefix to a provider."""
        self.ns.ip(f"route replace {prefix} via {via}")

    def fresh_host(self) -> str:
        """A far host's address that nobody has used in this test: its packets can be told from all others."""
        self._hosts += 1
        return str(ipaddress.ip_address("198.18.100.0") + self._hosts)

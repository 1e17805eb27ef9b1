"""What the kernel says now, read once a run: interfaces, addresses, and main's routes by a link.

Everything that decides works on these facts, so one run sees one picture.
"""

from multihook.address import FAMILIES, family_of, in_network
from multihook.kernel import addresses, fib, interfaces, routes
from multihook.kernel.addresses import Address
from multihook.kernel.interfaces import Interface
from multihook.kernel.routes import Route
from multihook.kernel.rtnetlink import Door

# Of so many interfaces main's routes are read at once.
MANY = 16


class Facts:
    """One picture of the kernel.  With `names`, only those interfaces are asked for."""

    def __init__(self, door: Door, names: "set[str] | None" = None) -> None:
        self._door = door
        self._names = names
        self.interfaces: dict[str, Interface] = {}
        self.look_at_interfaces()
        self._addresses = {family: addresses.Dump(door, family) for family in FAMILIES}
        self._main: dict[tuple[int, int], list[Route]] = {}
        self._whole_main: dict[int, dict[int, list[Route]]] = {}

    def look_at_interfaces(self) -> None:
        """Read the interfaces anew: a run reads back what it has changed of them."""
        if self._names is None:
            found = interfaces.dump(self._door)
        else:
            found = [interface for name in self._names if (interface := interfaces.get(self._door, name))]
        self.interfaces = {interface.name: interface for interface in found}

    def interface(self, name: str) -> "Interface | None":
        """An interface by its name, also one that was not asked for at first."""
        if name not in self.interfaces and self._names is not None and name and name not in self._names:
            self._names.add(name)
            if found := interfaces.get(self._door, name):
                self.interfaces[name] = found
        return self.interfaces.get(name)

    def addresses_of(self, interface: Interface, family: int) -> list[Address]:
        """The addresses of one interface, in the kernel's order."""
        return self._addresses[family].of(interface.index)

    def holders(self, local: bytes, family: int) -> set[int]:
        """The indices of all interfaces that carry this address."""
        return self._addresses[family].holders(local)

    def has(self, local: bytes) -> bool:
        """Whether any interface carries this address."""
        return bool(self.holders(local, family_of(local)))

    def neighbours(self, interface: Interface, family: int) -> set[int]:
        """The indices of the other interfaces whose on-link prefixes overlap one of this interface's."""
        found: set[int] = set()
        for address in self.addresses_of(interface, family):
            if not address.peer:
                found |= self.overlapping(address.local, address.prefixlen, family)
        return found - {interface.index}

    def overlapping(self, network: bytes, prefixlen: int, family: int) -> set[int]:
        """The indices of all interfaces whose on-link prefixes overlap this one."""
        return self._addresses[family].overlapping(network, prefixlen)

    def interface_at(self, index: int) -> "Interface | None":
        """An interface that was not asked for by name."""
        return interfaces.at(self._door, index)

    def main_by(self, interface: Interface, family: int) -> list[Route]:
        """Main's unicast routes by this interface, whichever program made them."""
        if self._names is None and len(self.interfaces) > MANY:
            return self._main_at_once(family).get(interface.index, [])
        key = (interface.index, family)
        if key not in self._main:
            found = routes.dump(self._door, family, table=fib.MAIN, oif=interface.index)
            self._main[key] = [route for route in found if route.type == routes.UNICAST]
        return self._main[key]

    def _main_at_once(self, family: int) -> dict[int, list[Route]]:
        """The same of all interfaces: the kernel walks through all of main for each dump, filtered or not."""
        if family not in self._whole_main:
            by_index = self._whole_main[family] = {}
            for route in routes.dump(self._door, family, table=fib.MAIN):
                if route.type == routes.UNICAST:
                    by_index.setdefault(route.oif, []).append(route)
        return self._whole_main[family]

    def default_by(self, interface: Interface, family: int) -> "Route | None":
        """Main's best default route by this interface."""
        found = [route for route in self.main_by(interface, family) if not route.prefixlen]
        return min(found, key=lambda route: route.metric, default=None)

    def defaults(self, family: int) -> list[Route]:
        """All default routes of main (for the runs that look for links that no event told of)."""
        return routes.dump_defaults(self._door, family)

    def is_on_segment(self, interface: Interface, gateway: bytes, family: int) -> bool:
        """Whether a next hop lies in the prefix of one of the interface's addresses."""
        return any(
            in_network(gateway, address.peer or address.local, address.prefixlen)
            for address in self.addresses_of(interface, family)
        )

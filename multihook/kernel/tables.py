"""Routing tables that others use in the kernel: those their rules look up, and those of VRF devices."""

from multihook.address import INET, INET6
from multihook.kernel import interfaces, rules
from multihook.kernel.rtnetlink import Door

_KERNELS = frozenset((0, 253, 254, 255))


def in_use(door: Door, protocol: int) -> set[int]:
    """The numbers of all tables that a foreign rule or VRF leads to; raises Refused and OSError."""
    found = set(interfaces.vrf_tables(door))
    for family in (INET, INET6):
        found.update(rule.table for rule in rules.Dump(door, family).all() if rule.protocol != protocol)
    return found - _KERNELS

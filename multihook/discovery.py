"""Leases for links that no event has told of: the configuration, main's defaults or our own rules speak of them."""

from multihook.address import is_interface_name, width
from multihook.kernel import routes, rules
from multihook.kernel.facts import Facts
from multihook.kernel.rtnetlink import Door
from multihook.leases import Lease
from multihook.links import adopted_name, is_ignored, match

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any

    Config = dict[str, Any]


def by_default(config: "Config", facts: Facts, known: "set[str]", family: int) -> list[Lease]:
    """Leases for interfaces that no event told of, but by which main has a default route."""
    found: list[Lease] = []
    if not config["adopt"]:
        return found
    by_index = {interface.index: interface for interface in facts.interfaces.values()}
    for route in facts.defaults(family):
        interface = by_index.get(route.oif)
        if not interface or interface.name in known or is_ignored(config, interface.name):
            continue
        if not is_interface_name(interface.name):
            continue
        known.add(interface.name)
        lease = Lease(adopted_name(config, interface.name), interface.name, family)
        lease.withdrawn = True  # only an address with a way out will do
        found.append(lease)
    return found


def by_configuration(
    config: "Config", known: "set[str]", taken: "set[str]", family: int
) -> list[Lease]:
    """Leases for configured links that no event told of yet: their interface may be there all the same.

    Unless it is taken: what names the line (ipparam, linkname) goes before what names the interface.
    """
    found = []
    for name, settings in config["links"].items():
        if name not in known and settings["interface"] and settings["interface"] not in taken:
            lease = Lease(name, settings["interface"], family)
            lease.withdrawn = True
            found.append(lease)
    return found


def by_rules(
    config: "Config", door: Door, numbers: dict[str, int], known: "Container[str]", family: int
) -> list[Lease]:
    """Leases as our own rules and routes in the kernel tell them, for links whose record was lost.

    `oif IF lookup T` is the interface, `from ADDRESS lookup T` the address, `to SERVER lookup T` the
    DHCP server, T's default the next hop.  What they say is checked like any record.
    """
    names = {number: name for name, number in numbers.items() if name not in config["links"] and config["adopt"]}
    names.update((settings["table"], name) for name, settings in config["links"].items())
    names = {number: name for number, name in names.items() if name not in known}
    if not names:
        return []
    protocol = config["rt_proto"]
    found: dict[int, Lease] = {}
    ours = rules.Dump(door, family).of_protocols(frozenset((protocol,)))
    for rule in ours:
        if rule.table in names and _is_still_named(config, rule.oif, names[rule.table]):
            found[rule.table] = Lease(names[rule.table], rule.oif, family)
            found[rule.table].by_default = True
            settings = config["links"].get(names[rule.table], {})
            found[rule.table].ipparam = settings.get("ipparam", "")
            found[rule.table].linkname = settings.get("linkname", "")
    for rule in ours:
        if rule.table in found and rule.source and rule.prefixlen == width(family):
            found[rule.table].address = rule.source
        if rule.table in found and rule.destination:
            found[rule.table].server = rule.destination
    for table, lease in found.items():
        for route in routes.dump(door, family, table=table):
            if not route.prefixlen and route.protocol == protocol and route.gateway:
                lease.gateway = route.gateway
    return [lease for lease in found.values() if lease.address]


def _is_still_named(config: "Config", interface: str, name: str) -> bool:
    """Whether the configuration as it is now gives an interface (that its rule names) this link."""
    if not is_interface_name(interface) or is_ignored(config, interface):
        return False
    named = match(config, interface, "", "")
    settings = config["links"].get(name)
    if settings:
        return named in ("", name) and settings["interface"] in ("", interface)
    return not named and adopted_name(config, interface) == name

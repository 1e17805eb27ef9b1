"""Routing: each link's table with its guard, the rules that lead to it, and the interface group.

    7000  oif IF lookup T                          sockets bound to the device
    7200  from ADDRESS lookup main                 LAN, VPN and container routes win, also those
          suppress_prefixlength 1                  added later, but no default, and none that
          suppress_ifgroup GROUP                   leaves by a link (links are in that group)
    7400  from ADDRESS lookup T                    everything else that carries the link's address
    7450  to SERVER iif lo lookup main             what this machine sends to a DHCP server off the
          suppress_prefixlength 1                  segment: dhclient renews from a socket that is
    7500  to SERVER iif lo lookup T                bound to nothing; routes of main but a default win

suppress_prefixlength is 1 and not 0 because `wg-quick down` deletes every rule that says 0.
Table T is all that main knows by this interface, then the default by the link's next hop, and
below it `unreachable default`: what is bound to a link is refused, never sent by another one,
from the instant the kernel drops the link's routes (ip-rule(8), net/core/fib_rules.c).
"""

from multihook.address import FAMILIES, is_link_local, why_unusable, width
from multihook.kernel import interfaces, routes, rules
from multihook.kernel.fib import MAIN
from multihook.kernel.interfaces import GROUPLESS, Member
from multihook.kernel.routes import LINK_SCOPE, UNIVERSE, UNREACHABLE, WORST_METRIC, Route
from multihook.kernel.rules import Rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from multihook.links import Link, Path
    from multihook.view import View

NAME = "routing"
KINDS = (rules.KIND, routes.KIND, interfaces.KIND)

DEVICE_RULE, EXCEPTION_RULE, SOURCE_RULE, SERVER_EXCEPTION_RULE, SERVER_RULE = 0, 200, 400, 450, 500  # above rule_base
_LOCAL_OUTPUT = "lo"  # what has no other input interface: sent by this machine
_BOOTPS = 67  # the port of DHCP servers (RFC 2131, 4.1)
_SUPPRESSED_LENGTH = 1


def is_wanted(config: "dict[str, Any]") -> bool:
    """Always: adopted links are routed too."""
    return True


def desired(view: "View") -> list[Route | Rule | Member]:
    """The routes, rules and group memberships of the view's links."""
    wanted: list[Route | Rule | Member] = []
    for link in view.links:
        for family in FAMILIES:
            wanted.append(_guard(view, link, family))
            path = link.paths.get(family)
            if path and path.is_up:
                wanted += _routes(view, link, path)
            if path and path.has_address:
                wanted += _rules_of_address(view, link, path)
                wanted += _rules_to_server(view, link, path)
            if not (path and path.lease.held):
                wanted += _rules_for_sources(view, link, family)
        if _belongs_in_group(view, link) and link.interface:
            wanted.append(Member(link.interface, view.config["group"], link.name))
    return wanted


def _guard(view: "View", link: "Link", family: int) -> Route:
    return Route(
        link.table, bytes(width(family) // 8), 0, family=family, type=UNREACHABLE,
        metric=WORST_METRIC, protocol=view.config["rt_proto"], link=link.name,
    )  # fmt: skip


def _routes(view: "View", link: "Link", path: "Path") -> list[Route]:
    lease, protocol = path.lease, view.config["rt_proto"]
    index = link.interface.index if link.interface else 0
    found: dict[tuple[object, ...], Route] = {}
    for main in path.mains:
        if main.prefixlen:
            copy = Route(
                link.table, main.network, main.prefixlen, family=main.family, gateway=main.gateway,
                oif=index, prefsrc=main.prefsrc, metric=main.metric, onlink=main.onlink,
                scope=main.scope, tos=main.tos, metrics=main.metrics, protocol=protocol, link=link.name,
            )  # fmt: skip
            found.setdefault(copy.key, copy)
    for network, prefixlen, hop in path.routes:
        route = Route(
            link.table, network, prefixlen, family=lease.family, gateway=hop, oif=index, link=link.name,
            onlink=bool(hop) and not path.is_near(hop), scope=UNIVERSE if hop else LINK_SCOPE, protocol=protocol,
        )  # fmt: skip
        found.setdefault(route.key, route)
    if path.has_exit:
        default = (bytes(len(lease.address)), 0)
        for network, prefixlen in [default, *link.networks]:
            if len(network) != len(lease.address):
                continue
            route = Route(
                link.table, network, prefixlen, family=lease.family, gateway=path.gateway, oif=index,
                prefsrc=lease.address, onlink=path.onlink, link=link.name,
                scope=UNIVERSE if path.gateway else LINK_SCOPE, protocol=protocol,
            )  # fmt: skip
            found.setdefault(route.key, route)
    return list(found.values())


def _rules_of_address(view: "View", link: "Link", path: "Path") -> list[Rule]:
    """The rules for the device and the link's address, while it has that."""
    base, protocol = view.config["rule_base"], view.config["rt_proto"]
    family, address = path.lease.family, path.lease.address
    found = [
        Rule(
            base + DEVICE_RULE, link.table, family=family, oif=link.interface_name, protocol=protocol, link=link.name
        )
    ]
    if not path.shared:
        found += _rules_from(view, link, family, address, len(address) * 8)
    return found


def _rules_to_server(view: "View", link: "Link", path: "Path") -> list[Rule]:
    """The rules that take a renewal by unicast to a DHCP server off the segment by its own link, while that is up.

    Only what goes to a DHCP server's port: a host that can answer on the segment names the server, and
    must not draw other traffic to its line by naming another program's DNS server.  Where two links have
    the same server, the first rule in the kernel serves both: their provider is the same, and
    dhclient's packets do not tell which of the two leases they are for.
    """
    family, server = path.lease.family, path.lease.server
    if not server or len(server) * 8 != width(family) or not (path.is_up and path.has_exit) or path.is_near(server):
        return []
    if why_unusable(server) or is_link_local(server) or view.facts.holders(server, family):
        return []
    base, protocol = view.config["rule_base"], view.config["rt_proto"]
    exception = Rule(
        base + SERVER_EXCEPTION_RULE, MAIN, family=family, destination=server, destination_len=width(family),
        iif=_LOCAL_OUTPUT, dport=_BOOTPS, suppress_prefixlen=_SUPPRESSED_LENGTH, protocol=protocol, link=link.name,
    )  # fmt: skip
    lookup = Rule(
        base + SERVER_RULE, link.table, family=family, destination=server, destination_len=width(family),
        iif=_LOCAL_OUTPUT, dport=_BOOTPS, protocol=protocol, link=link.name,
    )  # fmt: skip
    return [exception, lookup]


def _rules_for_sources(view: "View", link: "Link", family: int) -> list[Rule]:
    """The rules for further addresses behind the link.  They stand while the link is down, too.

    Their hosts, and addresses of ours on other interfaces, go on sending; without the rules
    that would leave by another link, with them the guard refuses it.
    """
    sources = [(source, length) for source, length in link.sources if len(source) * 8 == width(family)]
    return [rule for source, length in sources for rule in _rules_from(view, link, family, source, length)]


def _rules_from(view: "View", link: "Link", family: int, source: bytes, prefixlen: int) -> list[Rule]:
    base, protocol = view.config["rule_base"], view.config["rt_proto"]
    exception = Rule(
        base + EXCEPTION_RULE, MAIN, family=family, source=source, prefixlen=prefixlen,
        suppress_prefixlen=_SUPPRESSED_LENGTH, suppress_ifgroup=view.config["group"], protocol=protocol,
        link=link.name,
    )  # fmt: skip
    lookup = Rule(
        base + SOURCE_RULE, link.table, family=family, source=source, prefixlen=prefixlen, protocol=protocol,
        link=link.name,
    )  # fmt: skip
    return [exception, lookup]


def _belongs_in_group(view: "View", link: "Link") -> bool:
    if not view.several or link.lan or not link.has_address or not link.interface:
        return False
    return link.interface.group in (GROUPLESS, *view.groups)

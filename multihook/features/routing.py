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

from multihook.address import is_link_local, network_text, why_unusable, width
from multihook.features import EXCEPTION, GROUP, GUARD, LOOKUP, NETWORK, ROUTE, Step, View
from multihook.kernel import interfaces, routes, rules
from multihook.kernel.facts import name_of
from multihook.kernel.routes import LINK_SCOPE, MAIN, UNIVERSE, UNREACHABLE, WORST_METRIC, Route
from multihook.kernel.rtnetlink import Refused, is_absent
from multihook.kernel.rules import Rule
from multihook.links import FAMILIES, Link, Path

NAME = "routing"

DEVICE_RULE, EXCEPTION_RULE, SOURCE_RULE, SERVER_EXCEPTION_RULE, SERVER_RULE = 0, 200, 400, 450, 500  # above rule_base
_LOCAL_OUTPUT = "lo"  # what has no other input interface: sent by this machine
_BOOTPS = 67  # the port of DHCP servers (RFC 2131, 4.1)
_SUPPRESSED_LENGTH = 1
_GROUPLESS = 0


class Member:
    """An interface's place in our interface group."""

    __slots__ = ("group", "interface")

    def __init__(self, interface: interfaces.Interface, group: int) -> None:
        self.interface = interface
        self.group = group

    @property
    def key(self) -> tuple[object, ...]:
        """An interface is in one group only."""
        return ("group", self.interface.index)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Member) and self.key == other.key and self.group == other.group

    def __hash__(self) -> int:
        return hash(self.key)


# --- what should be there ---


def desired(view: View) -> list[Route | Rule | Member]:
    """The routes, rules and group memberships of the view's links."""
    wanted: list[Route | Rule | Member] = []
    for link in view.links:
        for family in FAMILIES:
            wanted.append(_guard(view, link, family))
            path = link.paths.get(family)
            if path and path.is_up:
                wanted += _routes(view, link, path)
            if path and path.has_address:
                wanted += _own_rules(view, link, path)
                wanted += _rules_to_server(view, link, path)
            if not (path and path.lease.held):
                wanted += _rules_for_sources(view, link, family)
        if _belongs_in_group(view, link) and link.interface:
            wanted.append(Member(link.interface, view.config["group"]))
    return wanted


def _guard(view: View, link: Link, family: int) -> Route:
    return Route(
        link.table, bytes(4 if family == FAMILIES[0] else 16), 0, family=family, kind=UNREACHABLE,
        metric=WORST_METRIC, protocol=view.config["rt_proto"],
    )  # fmt: skip


def _routes(view: View, link: Link, path: Path) -> list[Route]:
    lease, protocol = path.lease, view.config["rt_proto"]
    index = link.interface.index if link.interface else 0
    found: dict[tuple[object, ...], Route] = {}
    for main in path.mains:
        if main.prefixlen:
            copy = Route(
                link.table, main.network, main.prefixlen, family=main.family, gateway=main.gateway,
                oif=index, prefsrc=main.prefsrc, metric=main.metric, onlink=main.onlink,
                scope=main.scope, tos=main.tos, metrics=main.metrics, protocol=protocol,
            )  # fmt: skip
            found.setdefault(copy.key, copy)
    for network, prefixlen, hop in path.routes:
        route = Route(
            link.table, network, prefixlen, family=lease.family, gateway=hop, oif=index,
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
                prefsrc=lease.address, onlink=path.onlink,
                scope=UNIVERSE if path.gateway else LINK_SCOPE, protocol=protocol,
            )  # fmt: skip
            found.setdefault(route.key, route)
    return list(found.values())


def _own_rules(view: View, link: Link, path: Path) -> list[Rule]:
    """The rules for the device and the link's own address, while it has that."""
    base, protocol = view.config["rule_base"], view.config["rt_proto"]
    family, address = path.lease.family, path.lease.address
    found = [Rule(base + DEVICE_RULE, link.table, family=family, oif=link.interface_name, protocol=protocol)]
    if not path.shared:
        found += _rules_from(view, link, family, address, len(address) * 8)
    return found


def _rules_to_server(view: View, link: Link, path: Path) -> list[Rule]:
    """The rules that take a renewal by unicast to a DHCP server off the segment by its own link, while that is up.

    Only what goes to a DHCP server's port: whoever can answer on the segment names the server, and
    must not draw other traffic to its line by naming somebody's DNS server.  Where two links have
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
        iif=_LOCAL_OUTPUT, dport=_BOOTPS, suppress_prefixlen=_SUPPRESSED_LENGTH, protocol=protocol,
    )  # fmt: skip
    lookup = Rule(
        base + SERVER_RULE, link.table, family=family, destination=server, destination_len=width(family),
        iif=_LOCAL_OUTPUT, dport=_BOOTPS, protocol=protocol,
    )  # fmt: skip
    return [exception, lookup]


def _rules_for_sources(view: View, link: Link, family: int) -> list[Rule]:
    """The rules for further addresses behind the link.  They stand while the link is down, too.

    Their hosts, and addresses of ours on other interfaces, go on sending; without the rules
    that would leave by another link, with them the guard refuses it.
    """
    sources = [(source, length) for source, length in link.sources if len(source) * 8 == width(family)]
    return [rule for source, length in sources for rule in _rules_from(view, link, family, source, length)]


def _rules_from(view: View, link: Link, family: int, source: bytes, prefixlen: int) -> list[Rule]:
    base, protocol = view.config["rule_base"], view.config["rt_proto"]
    exception = Rule(
        base + EXCEPTION_RULE, MAIN, family=family, source=source, prefixlen=prefixlen,
        suppress_prefixlen=_SUPPRESSED_LENGTH, suppress_ifgroup=view.config["group"], protocol=protocol,
    )  # fmt: skip
    lookup = Rule(
        base + SOURCE_RULE, link.table, family=family, source=source, prefixlen=prefixlen, protocol=protocol
    )
    return [exception, lookup]


def _belongs_in_group(view: View, link: Link) -> bool:
    if not view.several or link.lan or not link.has_address or not link.interface:
        return False
    return link.interface.group in (_GROUPLESS, *view.groups)


# --- what is there ---


def actual(view: View) -> list[Route | Rule | Member]:
    """Our routes, rules and memberships as the kernel has them."""
    found: list[Route | Rule | Member] = []
    tables = {link.table for link in view.links}
    for family in FAMILIES:
        found += _actual_rules(view, tables, family)
    view.memo["own rules"] = len(found)
    view.compared.setdefault(NAME, len(found))
    for family in FAMILIES:
        found += _actual_routes(view, tables, family)
    own = {link.interface_name for link in view.links}
    for interface in view.facts.interfaces.values():
        # In an event's run another interface in the group is another link's, maybe one that had
        # this pppN before.
        if interface.group in view.groups and (view.whole or interface.name in own):
            found.append(Member(interface, interface.group))
    return found


def _actual_routes(view: View, tables: set[int], family: int) -> list[Route]:
    if view.whole:
        return [route for protocol in view.protocols for route in routes.dump(view.door, family, protocol=protocol)]
    known: list[Route] | None = view.memo.get(("routes", family))
    if known is None:
        known = view.memo["routes", family] = [
            route
            for table in tables
            for route in routes.dump(view.door, family, table=table)
            if route.protocol in view.protocols
        ]
    return known


def _actual_rules(view: View, tables: set[int], family: int) -> list[Rule]:
    dump = rules_dump(view, family)
    if view.whole:
        return dump.of_protocols(view.protocols)
    sources = {source for link in view.links for source, _ in link.sources}
    sources.update(address for former in view.former.values() for address in former)
    sources.update(path.lease.address for link in view.links for path in link.paths.values())
    marks = [rules.mark_of_table(table) for table in tables]
    marks += [rules.mark_of_source(source) for source in sources if source]
    marks += [rules.mark_of_destination(server) for servers in view.servers.values() for server in servers]
    found = dump.of_protocols(view.protocols, marks)
    # An address that this link had may be another link's by now, with rules of its own; so may its DHCP server be.
    elsewhere = {_ends(rule) for rule in found if rule.table not in (*tables, MAIN)}
    return [
        rule for rule in found if rule.table in tables or (rule.table == MAIN and _ends(rule) not in elsewhere)
    ]


def _ends(rule: Rule) -> tuple[bytes, int, bytes]:
    """What a rule for an exception and the rule behind it have in common."""
    return rule.source, rule.prefixlen, rule.destination


def rules_dump(view: View, family: int) -> rules.Dump:
    """All rules there are, read once for each look at the kernel."""
    dump: rules.Dump | None = view.memo.get(("rules", family))
    if dump is None:
        dump = view.memo["rules", family] = rules.Dump(view.door, family)
    return dump


def signature(view: View, thorough: bool) -> dict[str, int]:
    """How many rules of ours there are: `ip rule flush` and networkd's clean-up show in it.

    Thorough, also how many routes each table has, and who is in the group.
    """
    if view.own is not None:
        return _as_compared(view, view.own, thorough)
    protocol = view.config["rt_proto"]
    counts = {"rules": sum(rules_dump(view, family).count(protocol) for family in FAMILIES)}
    if thorough:
        for family in FAMILIES:
            for table in routes.tables_of(view.door, family, protocol):
                counts[f"table {table}"] = counts.get(f"table {table}", 0) + 1
        counts.update((f"group {name}", 1) for name in interfaces.names_in_group(view.door, view.config["group"]))
    return counts


def _as_compared(view: View, own: set[str], thorough: bool) -> dict[str, int]:
    """The same, once it was compared: what is the run's own as it is now, and all else as it was."""
    before: int = view.compared[NAME]
    now: int = view.memo.get("own rules", before)
    counts = {"rules": view.certified["rules"] - before + now}
    if not thorough:
        return counts
    for what, count in view.certified.items():
        if what.startswith(("table ", "group ")) and what not in own:
            counts[what] = count
    tables = {link.table for link in view.links}
    for family in FAMILIES:
        for route in _actual_routes(view, tables, family):
            counts[f"table {route.table}"] = counts.get(f"table {route.table}", 0) + 1
    for interface in view.facts.interfaces.values():
        if interface.group == view.config["group"] and f"group {interface.name}" in own:
            counts[f"group {interface.name}"] = 1
    return counts


# --- making the one the other ---


def add(view: View, new: Route | Rule | Member) -> None:
    """Make one object; raises Refused (EEXIST where a foreign route stands in its place)."""
    if isinstance(new, Route):
        routes.add(view.door, new)
    elif isinstance(new, Rule):
        rules.add(view.door, new)
    else:
        interfaces.set_group(view.door, new.interface.index, new.group)


def change(view: View, old: Route | Rule | Member, new: Route | Rule | Member) -> None:
    """Put new in old's place in one step; rules differ in their key, so none is ever changed."""
    if isinstance(new, Route) and isinstance(old, Route):
        routes.change(view.door, old, new)
    else:
        add(view, new)


def remove(view: View, old: Route | Rule | Member) -> None:
    """Take one object away; one that is gone already is as good as removed.  Raises Refused."""
    try:
        if isinstance(old, Route):
            routes.delete(view.door, old)
        elif isinstance(old, Rule):
            rules.delete(view.door, old)
        else:
            interfaces.set_group(view.door, old.interface.index, _GROUPLESS)
    except Refused as error:
        if not is_absent(error):
            raise


def commands(view: View, step: Step) -> list[str]:
    """The step in the words of ip(8)."""
    verb = "add" if step.old is None else "del" if step.new is None else "replace"
    thing = step.object
    if isinstance(thing, Member):
        group = thing.group if step.new is not None else _GROUPLESS
        return [f"ip link set dev {thing.interface.name} group {group}"]
    option = "-6 " if thing.family != FAMILIES[0] else ""
    if isinstance(thing, Route):
        return [f"ip {option}route {verb} {thing.text(name_of(thing.oif) if thing.oif else '')}"]
    return [f"ip {option}rule {verb} {thing.text()}"]


def place(view: View, thing: Route | Rule | Member) -> tuple[int, str, str]:
    """The stage of an object, the noun it is counted by, and the link it belongs to."""
    if isinstance(thing, Member):
        return GROUP, "group", view.owner(thing.interface.name)
    if isinstance(thing, Rule):
        if thing.table == MAIN:
            return EXCEPTION, "rule", _owner_of_exception(view, thing)
        return LOOKUP, "rule", view.owner(thing.table)
    # The kernel looks a next hop up in the table itself, so what is direct comes before it.
    stage = GUARD if thing.kind == UNREACHABLE else NETWORK if thing.gateway or not thing.prefixlen else ROUTE
    return stage, "route", view.owner(thing.table)


def rearranged(steps: list[Step]) -> list[Step]:
    """The steps such that nothing goes by a table while that changes hands.

    Where links swap tables the old rule leads to what is the new owner's already, or the new rule to
    what is still the old one's. So such a table is emptied down to its guard before all else, and
    filled when the rules are in place.
    """
    handed = _handed_over(steps)
    before, meanwhile, after = [], [], []
    for step in steps:
        old, new = step.old, step.new
        if not isinstance(step.object, Route) or step.object.table not in handed or step.object.kind == UNREACHABLE:
            meanwhile.append(step)
            continue
        if old:
            before.append(Step(step.feature, old, None))
        if new:
            after.append(Step(step.feature, None, new))
    before.sort(key=lambda step: step.old.prefixlen)  # defaults first: what is direct must not go by them
    return before + meanwhile + after


def _handed_over(steps: list[Step]) -> set[int]:
    """Tables that lead by another interface from now on, and that a rule leads to or has led to whose source stays."""
    rules_there = [step for step in steps if isinstance(step.object, Rule) and step.object.table != MAIN]
    table_of = {_selector(step.new): step.new.table for step in rules_there if step.new}
    moved = [step.old for step in rules_there if not step.new and _selector(step.old) in table_of]
    tables = {rule.table for rule in moved} | {table_of[_selector(rule)] for rule in moved}
    ways = [step for step in steps if isinstance(step.object, Route) and step.object.table in tables]
    former: dict[int, set[int]] = {}
    for step in ways:
        if step.old and step.old.oif:
            former.setdefault(step.old.table, set()).add(step.old.oif)
    later = [step.new for step in ways if step.new and step.new.oif]
    return {route.table for route in later if former.get(route.table, set()) - {route.oif}}


def _selector(rule: Rule) -> tuple[object, ...]:
    """What a rule takes, wherever it stands and wherever it leads."""
    return rule.family, rule.source, rule.prefixlen, rule.destination, rule.iif, rule.oif, rule.dport


def _owner_of_exception(view: View, rule: Rule) -> str:
    """The link by whose address or DHCP server a rule for main is known: it has no table of a link's."""
    known: dict[tuple[bytes, bytes], str] | None = view.memo.get("owners of exceptions")
    if known is None:
        ends = [(name, server, True) for name, servers in view.servers.items() for server in servers]
        ends += [(link.name, network, False) for link in view.links for network, _ in link.sources]
        ends += [(name, address, False) for name, addresses in view.former.items() for address in addresses]
        known = view.memo["owners of exceptions"] = {}
        for name, end, is_server in ends:
            known.setdefault((b"", end) if is_server else (end, b""), name)
    return known.get((b"", rule.destination) if rule.destination else (rule.source, b""), "")


def clash(thing: Route | Rule | Member) -> str:
    """What to do where the kernel already has a foreign object in the place of ours."""
    if isinstance(thing, Route):
        what = network_text(thing.network, thing.prefixlen)
        return f"a foreign route to {what} stands in table {thing.table}; remove it or give the link another table"
    return "somebody else's is in its place"

"""Numbers that other programs use as well: tables, priorities, marks, protocols, and whose they are."""

from collections.abc import Iterator
from typing import NamedTuple

from multihook import front
from multihook.address import FAMILIES, INET, network_text
from multihook.checks import DEFEATS, NOTE, WARNING, Finding
from multihook.checks.machine import Machine, pasteable
from multihook.config import tables as numbers
from multihook.kernel import interfaces, precedence, routes, rules
from multihook.kernel.interfaces import name_of
from multihook.kernel.routes import Route
from multihook.kernel.rules import Rule

_ALL = 0xFFFFFFFF


class Program(NamedTuple):
    """One program by the numbers it is known for: (first, last) priorities and tables, and its marks.

    `sure`: these numbers are nobody else's, so meeting one is meeting the program.
    """

    name: str
    priorities: tuple[tuple[int, int], ...] = ()
    tables: tuple[tuple[int, int], ...] = ()
    marks: tuple[int, ...] = ()
    sure: bool = True


# From the programs' own sources.  Those with low table numbers are only guessed at by both together.
PROGRAMS = (
    Program("Tailscale", ((1310, 1370), (5210, 5270)), ((52, 52),), (0x00FF0000,)),
    Program("wg-quick", (), ((51820, 51899),)),
    Program("strongSwan", ((220, 220),), ((220, 220),)),
    Program("mwan3", ((1001, 1060), (2001, 2062), (3001, 3060)), ((1, 60),), (0x3F00,), sure=False),
    Program("Shorewall", ((999, 999), (10000, 10255), (20000, 20255)), ((1, 252),), sure=False),
    Program("ifupdown-multi", ((25358, 25609), (31048, 31299)), ((1, 252),), sure=False),
    Program("ec2-net-utils", ((10001, 10999),), ((10001, 10999),), sure=False),
    Program("Cilium", ((9, 10), (100, 100)), ((2004, 2005),), (0x0F00,), sure=False),
    Program("Kubernetes", (), (), (0x4000, 0x8000)),
)  # fmt: skip


def _within(number: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= number <= last for first, last in ranges)


def program_of(rule: Rule) -> str:
    """The program whose numbers a rule has, or "": by its table where that is enough, else by both."""
    for program in PROGRAMS:
        by_table = _within(rule.table, program.tables)
        by_priority = _within(rule.priority, program.priorities)
        if (by_table and by_priority) or (program.sure and (by_table or (by_priority and program.name == "Tailscale"))):
            return program.name
    return ""


def known_by(rule: Rule) -> str:
    """The program that a rule is certainly of, or ""."""
    name = program_of(rule)
    return name if any(program.name == name and program.sure for program in PROGRAMS) else ""


def neighbours(machine: Machine) -> Iterator[Finding]:
    """Other programs whose rules stand in the kernel: left alone, and good to know of."""
    if machine.view is None:
        return
    met: dict[str, list[int]] = {}
    for family in FAMILIES:
        for rule in rules.dump_of(machine.view, family).all():
            who = program_of(rule)
            if who and rule.protocol != machine.config["rt_proto"]:
                met.setdefault(who, []).append(rule.priority)
    for who, priorities in met.items():
        shown = ", ".join(map(str, sorted(set(priorities))[:8]))
        yield Finding(
            NOTE, "neighbour", f"rules with the numbers of {who} are there: {shown}",
            "They are left alone; whichever stands first decides for a packet that both fit.",
        )  # fmt: skip


def tables_of_links(machine: Machine) -> Iterator[Finding]:
    """Somebody else's routes in a link's table, or a VRF that has it."""
    if machine.door is None or machine.view is None:
        return
    vrfs = set(interfaces.vrf_tables(machine.door))
    for link in machine.view.links:
        mend = _other_table(machine, link.name, link.adopted)
        if link.table in vrfs:
            yield Finding(
                DEFEATS, "table-clash", f"table {link.table} of {link.name} is also that of a VRF device",
                "Packets of the VRF and of the link share one table.", mend,
            )  # fmt: skip
            continue
        for family in FAMILIES:
            theirs = [
                route for route in routes.dump(machine.door, family, table=link.table)
                if route.protocol != machine.config["rt_proto"] and not _is_kernels(route)
            ]  # fmt: skip
            for route in theirs[:4]:
                words = route.text(name_of(route.oif) if route.oif else "")
                severity = DEFEATS if not route.prefixlen else WARNING
                yield Finding(
                    severity, "table-clash", f"somebody else's route stands in table {link.table} of {link.name}: "
                    f"{network_text(route.network, route.prefixlen)}, protocol {route.protocol}",
                    "Of two routes to one place the kernel takes that of the smaller metric, or refuses ours.",
                    (pasteable(f"ip {'' if family == INET else '-6 '}route del {words}"), *mend),
                )  # fmt: skip


def _is_kernels(route: Route) -> bool:
    return route.protocol == 2


def _other_table(machine: Machine, name: str, adopted: bool) -> tuple[str, ...]:
    taken = {link.table for link in machine.links} | machine.config["used_tables"].keys()
    if machine.door is not None:
        from multihook.kernel.tables import in_use

        taken |= in_use(machine.door, machine.config["rt_proto"])
    free = next(number for number in range(machine.config["first_table"], numbers.LAST) if number not in taken)
    if adopted:
        return ("# or in /etc/multihook/multihook.toml under [multihook]:", f"first_table = {free}")
    return (f"# or in /etc/multihook/multihook.toml under [link.{name}]:", f"table = {free}", "multihook sync")


def protocol(machine: Machine) -> Iterator[Finding]:
    """Routes or rules with our protocol number where none of ours can be: a run takes them out."""
    if machine.door is None or machine.view is None:
        return
    ours = machine.config["rt_proto"]
    own = {link.table for link in machine.links} | set(numbers.known().values())
    own |= {link["table"] for link in machine.config["links"].values()}
    base = machine.config["rule_base"]
    strange = []
    for family in FAMILIES:
        for rule in rules.dump_of(machine.view, family).of_protocols(frozenset((ours,))):
            if not base <= rule.priority < base + front.BAND:
                strange.append(f"rule {front.shown(rule)}")
        strange += [f"routes in table {table}" for table in set(routes.tables_of(machine.door, family, ours)) - own]
    if strange:
        yield Finding(
            WARNING, "protocol", f"protocol {ours} is on what is not multihook's: {'; '.join(strange[:4])}",
            "A run takes out whatever has its protocol: leftovers of another configuration, or another program's.",
            ("multihook sync -n    # what a run would take out",
             "# where these are another program's: in /etc/multihook/multihook.toml under [multihook]:",
             f"rt_proto = {_free_protocol(machine)}"),
        )  # fmt: skip


def _free_protocol(machine: Machine) -> int:
    taken = set(numbers.PROTOCOLS) | set(numbers.others()[2]) | {machine.config["rt_proto"]}
    return next(number for number in range(110, 256) if number not in taken)


def marks_in_rules(machine: Machine) -> Iterator[Finding]:
    """Rules of others that look at bits of the mark that are ours."""
    if machine.view is None:
        return
    mask = machine.config["mark_mask"]
    in_the_way = [rule.key for rule in front.rules_in_front(machine.view)]  # rules says more of those
    for family in FAMILIES:
        for rule in rules.dump_of(machine.view, family).all():
            selected = precedence.mark(rule)
            if rule.protocol == machine.config["rt_proto"] or selected is None or not selected[1] & mask:
                continue
            if rule.key in in_the_way:
                continue
            who = program_of(rule)
            owner = f" (numbers of {who})" if who else ""
            option = "" if family == INET else "-6 "
            narrow = f"{selected[0]:#x}/{_ALL & ~mask:#x}"
            whole = f"{selected[0]:#x}/{selected[1]:#x}"
            new = rule.text().replace(f"fwmark {whole}", f"fwmark {narrow}")
            mend = [pasteable(f"ip {option}rule add {new}"), pasteable(f"ip {option}rule del {rule.text()}")]
            if selected[0] & mask:
                mend = ["# in /etc/multihook/multihook.toml under [multihook], bits that nobody uses:",
                        f"mark_mask = {free_mask(selected[0]):#010x}"]  # fmt: skip
            yield Finding(
                NOTE, "marks", f"a foreign rule looks at mark bits of multihook's ({mask:#010x}): "
                f"{front.shown(rule)}{owner}",
                "Once multihook marks connections (steering), that rule no longer fits them.", tuple(mend),
            )  # fmt: skip


def free_mask(taken: int) -> int:
    """Eight bits side by side that are not taken, or the highest ones."""
    return next((0xFF << shift for shift in range(24, -1, -1) if not taken & 0xFF << shift), 0xFF000000)


CHECKS = (neighbours, tables_of_links, protocol, marks_in_rules)

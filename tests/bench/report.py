"""What came of the measurements: a table of medians, as text and for the README."""

from __future__ import annotations

import os
import platform
import statistics
from typing import TYPE_CHECKING

from packets import BY_HAND, NOTHING, OURS, RULES_ONLY, SIZES

if TYPE_CHECKING:
    from goals import Goal
    from packets import Traffic
    from places import Sample

BEGIN, END = "<!-- measured by tests/bench/run: begin -->", "<!-- measured by tests/bench/run: end -->"

# Rows of one event, and how they are called; all beside `bare`.
EVENTS = {
    "bare": "`python3 -IS -c pass`: the interpreter that does nothing",
    "started": "of any ip-up: the shell of the entry point, and Python as far as our first line",
    "loaded": "of any ip-up: the same, and what every event needs of multihook is loaded",
    "unchanged": "ip-up, nothing changed; 4 links",
    "changed": "ip-up, the address changed; 4 links",
    "dhcp changed": "dhclient's BOUND, the address changed; 4 links",
    "adopted unchanged": "ip-up, nothing changed; 4 adopted links",
    "adopted changed": "ip-up, the address changed; 4 adopted links",
    "unchanged of 1000": "ip-up, nothing changed; 1000 links configured, 300 up",
    "changed of 1000": "ip-up, the address changed; 1000 links configured, 300 up",
    "everything 4": "ip-up that looks at everything; 4 links",
    "everything 16": "ip-up that looks at everything; 16 links",
    "everything 64": "ip-up that looks at everything; 64 links",
    "everything 300": "ip-up that looks at everything; 300 links",
    "seed 002": "a how-to's eight `ip` commands in a script (1)",
    "seed 001": "a how-to's script for PPP lines (2)",
    "seed 000": "a script for DHCP cards, for one card (3)",
    "ifupdown-multi": "ifupdown-multi's hook",
    "shorewall": "`shorewall enable`",
    "amazon-ec2-net-utils": "amazon-ec2-net-utils (4)",
}
OTHERS = {
    "200 bare": "200 interpreters at once that do nothing",
    "storm": "200 ip-up at once, each with another address",
    "import click": "`python3 -c 'import click'`",
    "status": "`multihook status`, 4 links",
    "status of 500": "`multihook status`, 500 links",
}
REFERENCE = {"storm": "200 bare", "status": "import click", "status of 500": "import click"}


class Table:
    """All samples of a run."""

    def __init__(
        self, samples: dict[str, list[Sample]], counts: dict[str, int], traffic: Traffic, loads: list[float]
    ) -> None:
        """counts: instructions by row, if they were counted. loads: of the machine, now and then."""
        self.samples, self.counts, self.traffic, self.loads = samples, counts, traffic, loads

    def wall(self, row: str) -> float:
        """The median of its time, in seconds."""
        return statistics.median(sample.wall for sample in self.samples[row])

    def cpu(self, row: str) -> float:
        """The median of its CPU time, in seconds."""
        return statistics.median(sample.cpu for sample in self.samples[row])

    def ratio(self, row: str, to: str) -> float:
        """The one median by the other."""
        return self.wall(row) / self.wall(to)

    def ratio_of_cpu(self, row: str, to: str) -> float:
        """The same of CPU time."""
        return self.cpu(row) / self.cpu(to)

    def deciles(self, row: str) -> tuple[float, float]:
        """The times that a tenth of its samples stays below, and above."""
        parts = statistics.quantiles((sample.wall for sample in self.samples[row]), n=10)
        return parts[0], parts[-1]

    def rate(self, what: str, number: int, kind: str) -> tuple[float, float]:
        """Packets or connections in a second, and in a second of CPU time."""
        samples = self.traffic[what, number, kind]
        return (1 / statistics.median(s.wall for s in samples), 1 / statistics.median(s.cpu for s in samples))


def _machine() -> str:
    release, system = platform.release().split("-")[0], platform.freedesktop_os_release()
    return f"Debian {system['VERSION_ID']}, Linux {release}, {os.cpu_count()} cores"


def _rows(table: Table) -> list[list[str]]:
    found = [["one event", "time", "CPU time", "ms"]]
    for row, words in EVENTS.items():
        ratios = f"{table.ratio(row, 'bare'):.2f}", f"{table.ratio_of_cpu(row, 'bare'):.2f}"
        found.append([words, *ratios, f"{table.wall(row) * 1000:.1f}"])
    for row, words in OTHERS.items():
        to = REFERENCE.get(row, row)
        ratios = f"{table.ratio(row, to):.2f}", f"{table.ratio_of_cpu(row, to):.2f}"
        found.append([words, *ratios, f"{table.wall(row) * 1000:.0f}"])
    return found


def _goals(judged: list[Goal]) -> list[list[str]]:
    found = [["goal", "at most", "measured", "CPU time", ""]]
    for goal in judged:
        verdict = "met" if goal.met else "MISSED"
        found.append([goal.words, f"{goal.most:.3g}", f"{goal.measured:.2f}", f"{goal.cpu:.2f}", verdict])
    return found


def _traffic(table: Table) -> list[list[str]]:
    """Rates beside the set-up by hand with as many lines: in CPU time, because sender and box share a machine."""
    found = [["lines", "by hand: packets/s", "multihook", "its rules alone", "by hand: connections/s", "multihook", "its rules alone"]]
    for number in SIZES:
        row = [str(number)]
        for what in ("forward", "connect"):
            hand = table.rate(what, number, BY_HAND)
            row.append(f"{hand[1]:,.0f}".replace(",", " "))
            row += [f"{table.rate(what, number, kind)[1] / hand[1]:.2f}" for kind in (OURS, RULES_ONLY)]
        found.append(row)
    return found


def _nothing(table: Table) -> str:
    """What a box of one line does."""
    rates = [f"{table.rate(what, 0, NOTHING)[1]:,.0f}".replace(",", " ") for what in ("forward", "connect")]
    return f"{rates[0]} packets and {rates[1]} connections"


def _where_it_goes(table: Table) -> str:
    """An ip-up taken apart, in CPU time."""
    started, loaded, unchanged, changed = (
        table.ratio_of_cpu(row, "bare") for row in ("started", "loaded", "unchanged", "changed")
    )
    return (
        f"Of the {changed:.2f} in CPU time that an ip-up with another address takes, {started:.2f} is the shell of the entry "
        f"point\nand Python's start, {loaded - started:.2f} loading what every event needs of multihook, "
        f"{unchanged - loaded:.2f} loading what links with a\nsection need and finding that nothing has changed, "
        f"{changed - unchanged:.2f} changing it and looking again.\n"
    )


def _why_missed(table: Table, judged: list[Goal]) -> str:
    """What stands in the way of the goals that one event misses: the same event cut short, in time."""
    started, loaded, unchanged = (table.ratio(row, "bare") for row in ("started", "loaded", "unchanged"))
    lines = []
    for goal in judged:
        if goal.met or goal.row not in EVENTS or goal.to not in EVENTS:
            continue
        allowed = goal.most * table.ratio(goal.to, "bare")
        if allowed <= started:
            left = "which is less than the shell and Python's start"
        else:
            left = f"of which loading leaves {allowed - loaded:.2f}" if allowed > loaded else "which is less than loading needs"
        taken = table.ratio(goal.row, "bare")
        lines.append(f"- {goal.words}:\n  at most {goal.most:.3g} is {allowed:.2f}, {left}; it takes {taken:.2f}.")
    if not lines:
        return ""
    return "\n".join([
        "Why goals are missed, as multiples of the interpreter that does nothing. The shell of the entry point and Python's",
        f"start take {started:.2f} before anything of multihook runs. With what every event needs of it loaded it is "
        f"{loaded:.2f}, and",
        f"{unchanged:.2f} when a link with SNAT and sysctls has been found as it should be.\n",
        *lines,
        "",
    ])  # fmt: skip


def _instructions(table: Table) -> list[list[str]]:
    found = [["instructions", "million", "by bare"]]
    for row, count in table.counts.items():
        found.append([EVENTS[row], f"{count / 1e6:.1f}", f"{count / table.counts['bare']:.2f}"])
    return found


def _as_text(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def _as_markdown(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" + "|---:" * (len(rows[0]) - 1) + "|")
    return "\n".join(lines) + "\n"


def text(table: Table, judged: list[Goal]) -> str:
    """All of it for a terminal."""
    number = len(table.samples["bare"])
    walls = [["packet path, ratios of wall time", *map(str, SIZES)]]
    for what in ("forward", "connect"):
        for kind in (OURS, RULES_ONLY):
            cells = [f"{table.rate(what, n, kind)[0] / table.rate(what, n, BY_HAND)[0]:.2f}" for n in SIZES]
            walls.append([f"{what}, {kind}", *cells])
    parts = [
        f"\n{_machine()}; {number} rounds; load of the machine {', '.join(f'{load:.1f}' for load in table.loads)}\n",
        _as_text(_rows(table)), _where_it_goes(table), _as_text(_goals(judged)), _why_missed(table, judged),
        f"by hand and by multihook, in a second of CPU time; a box of one line without any rule: {_nothing(table)}\n",
        _as_text(_traffic(table)), _as_text(walls),
    ]  # fmt: skip
    if table.counts:
        parts.append(_as_text(_instructions(table)))
    return "\n".join(parts)


def markdown(table: Table, judged: list[Goal]) -> str:
    """The tables of the README."""
    number = len(table.samples["bare"])
    met = sum(goal.met for goal in judged)
    return "\n".join([
        f"{_machine()}; {number} rounds (of the slow rows fewer), interleaved in random order, each row checked each",
        "time; medians. Time and CPU time are multiples of the first row's; storms, of the storm of interpreters; the",
        "command, of click's import.\n",
        _as_markdown(_rows(table)),
        "(1) For one of two lines; nothing old is taken away. (2) It looks for the address; then rules, routes, iptables.",
        "(3) With glftpd's files. (4) It writes files for systemd-networkd, whose own work is not counted.\n",
        _where_it_goes(table),
        f"Of {len(judged)} goals {met} are met:\n",
        _as_markdown(_goals(judged)),
        *([why] if (why := _why_missed(table, judged)) else []),
        "What rules and nft cost each packet: forwarded UDP packets, and TCP connections from the address of a line, in",
        "a second of CPU time. By hand is a how-to's: one rule a line, a table each, masquerading; multihook has three",
        "rules a line, SNAT and its guard; its rules alone are with masquerading by hand. With one line and no rule it is",
        f"{_nothing(table)}.\n",
        _as_markdown(_traffic(table)).rstrip(),
    ])  # fmt: skip


def into_readme(readme: str, tables: str) -> str:
    """The README with these tables in their place; ValueError where that is not marked."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md has no place for the tables: {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"

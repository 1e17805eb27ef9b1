"""What an event may cost, as promised, and whether this run kept to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from report import Table


@dataclass(frozen=True)
class Goal:
    """A promise, the most that it allows, and what was measured of which row beside which.

    `cpu` is that in CPU time, and `by_cpu` whether the promise is about that.
    """

    words: str
    row: str
    to: str
    most: float
    measured: float
    cpu: float
    by_cpu: bool = False

    @property
    def met(self) -> bool:
        """To three figures, as it is printed."""
        return round(self.cpu if self.by_cpu else self.measured, 3) <= self.most


# What, beside what, at most that many times as much.
_GOALS = (
    ("ip-up, the address changed, beside an interpreter that does nothing", "changed", "bare", 1.9),
    ("the same of an adopted link, beside that interpreter", "adopted changed", "bare", 1.9),
    ("ip-up, the address changed, beside a how-to's script for PPP lines", "changed", "seed 001", 0.55),
    ("ip-up, the address changed, beside ifupdown-multi's hook", "changed", "ifupdown-multi", 0.4),
    ("ip-up, the address changed, beside `shorewall enable`", "changed", "shorewall", 0.25),
    ("the same with 1000 links configured and 300 up, beside 4", "changed of 1000", "changed", 1.3),
    ("ip-up, nothing changed, beside changed", "unchanged", "changed", 1.0),
    ("200 events at once, beside 200 interpreters that do nothing", "storm", "200 bare", 2.0),
    ("`multihook status`, 4 links, beside `import click`", "status", "import click", 2.0),
    ("`multihook status`, 500 links, beside 4", "status of 500", "status", 4.0),
)
# The same in CPU time: with many links the machine's other work would decide.
_GOALS_OF_CPU = (
    ("ip-up that looks at everything, 4 links", "everything 4", "bare", 2.2),
    ("ip-up that looks at everything, 16 links", "everything 16", "bare", 2.4),
    ("ip-up that looks at everything, 64 links", "everything 64", "bare", 3.5),
    ("ip-up that looks at everything, 300 links", "everything 300", "bare", 9.0),
)


def judged(table: Table) -> list[Goal]:
    """Each goal with what was measured."""
    return [
        Goal(words, row, to, most, table.ratio(row, to), table.ratio_of_cpu(row, to), by_cpu)
        for goals, by_cpu in ((_GOALS, False), (_GOALS_OF_CPU, True))
        for words, row, to, most in goals
    ]

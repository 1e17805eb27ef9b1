"""What an event may cost, as promised, and whether this run kept to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from report import Table


@dataclass(frozen=True)
class Goal:
    """A promise, the most that it allows, and what was measured of which row beside which; `cpu` is that in CPU time."""

    words: str
    row: str
    to: str
    most: float
    measured: float
    cpu: float

    @property
    def met(self) -> bool:
        """By wall time; to three figures, as it is printed."""
        return round(self.measured, 3) <= self.most


# What, beside what, at most that many times as much.
_GOALS = (
    ("ip-up, the address changed, beside an interpreter that does nothing", "changed", "bare", 2.0),
    ("the same of an adopted link, beside that interpreter", "adopted changed", "bare", 2.0),
    ("ip-up, the address changed, beside a how-to's eight `ip` commands", "changed", "seed 002", 1.0),
    ("the same of an adopted link, beside these commands", "adopted changed", "seed 002", 1.0),
    ("ip-up, the address changed, beside ifupdown-multi's hook", "changed", "ifupdown-multi", 1 / 3),
    ("ip-up, the address changed, beside `shorewall enable`", "changed", "shorewall", 1 / 8),
    ("the same with 1000 links configured and 300 up, beside 4", "changed of 1000", "changed", 1.3),
    ("ip-up, nothing changed, beside changed", "unchanged", "changed", 1.0),
    ("200 events at once, beside 200 interpreters that do nothing", "storm", "200 bare", 2.2),
    ("`multihook status`, 4 links, beside `import click`", "status", "import click", 2.0),
    ("`multihook status`, 500 links, beside 4", "status of 500", "status", 5.0),
)


def judged(table: Table) -> list[Goal]:
    """Each goal with what was measured."""
    return [
        Goal(words, row, to, most, table.ratio(row, to), table.ratio_of_cpu(row, to)) for words, row, to, most in _GOALS
    ]

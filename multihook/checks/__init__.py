"""What on this machine defeats multihook: the contract of a check, and the visible list of them.

A check is a function of one Machine (see machine) that looks, never changes anything, and gives
Findings.  What it cannot look at it says by `machine.not_checked`: silence means that it has looked
and found nothing.  A new check is one function, its line in its module's CHECKS, its word in the
manual and a test.
"""

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from multihook.journal import foreign

if TYPE_CHECKING:
    from multihook.checks.machine import Machine

# In the order in which they are shown.  DEFEATS: something does not work now.  WARNING: it will not
# at some event (a boot, a restart of another program).  NOTE: worth knowing, nothing to mend.
DEFEATS, WARNING, NOTE = "defeats", "warning", "note"
SEVERITIES = (DEFEATS, WARNING, NOTE)


class Finding(NamedTuple):
    """One thing that was found.

    name    its word in the manual
    what    what is the case, in one line, and where
    why     what comes of it, in one line
    mend    commands, and lines for files, as they are to be typed on this release
    """

    severity: str
    name: str
    what: str
    why: str
    mend: tuple[str, ...] = ()


Check = Callable[["Machine"], Iterable[Finding]]

# Each has CHECKS.
MODULES = (
    "kernel", "rules", "numbers", "sysctls", "hooks", "interfaces", "managers", "scripts", "netfilter", "links",
    "glftpd",
)  # fmt: skip


def checks() -> Iterator[Check]:
    """Every check there is."""
    for name in MODULES:
        yield from import_module(f"multihook.checks.{name}").CHECKS


def look(machine: "Machine") -> list[Finding]:
    """What all checks find, the worst first; what could not be looked at stands in machine.blind."""
    found: list[Finding] = []
    for check in checks():
        what = f"{check.__module__.rpartition('.')[2]}: {check.__name__.replace('_', ' ')}"
        try:
            found += check(machine)
        except Exception as error:  # noqa: BLE001  # one check must not keep the others from looking
            machine.not_checked(what, f"{type(error).__name__}: {foreign(str(error))}")
    unique = dict.fromkeys(found)
    return sorted(unique, key=lambda finding: SEVERITIES.index(finding.severity))

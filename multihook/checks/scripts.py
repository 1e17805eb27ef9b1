"""The administrator's own scripts that set rules, routes or nftables: what did this before multihook, or undoes it."""

import re
from collections.abc import Iterator

from multihook.checks import NOTE, WARNING, Finding
from multihook.checks.machine import Line, Machine
from multihook.journal import foreign

_FILES = ("/etc/rc.local", "/etc/network/interfaces", "/etc/dhcp/dhclient-enter-hooks", "/etc/dhcp/dhclient-exit-hooks",
          "/etc/crontab", "/var/spool/cron/crontabs/root")  # fmt: skip
_FOLDERS = (
    "/etc/network/interfaces.d", "/etc/network/if-pre-up.d", "/etc/network/if-up.d", "/etc/network/if-down.d",
    "/etc/network/if-post-down.d", "/etc/ppp/ip-up.d", "/etc/ppp/ip-down.d", "/etc/dhcp/dhclient-enter-hooks.d",
    "/etc/dhcp/dhclient-exit-hooks.d", "/etc/cron.d", "/etc/cron.hourly",
)  # fmt: skip
_IP = r"\bip\s+(?:-\S+\s+)*"
_RULE_FLUSH = re.compile(_IP + r"rule\s+flush\b")
_FLUSH_RULESET = re.compile(r"\bflush\s+ruleset\b")
_OWN = re.compile(_IP + r"(?:rule\s+(?:add|del|delete)\b|route\s+\S+.*\btable\s+(?!main\b|local\b)\S+)")


def lines(machine: Machine) -> Iterator[Line]:
    """Every line of these files; our own hooks and folders left out."""
    paths = [path for path in _FILES if machine.exists(path)]
    for folder in _FOLDERS:
        paths += [f"{folder}/{name}" for name in machine.names(folder) if "multihook" not in name and name[0] != "."]
    for path in paths:
        if not machine.is_folder(path):
            yield from machine.lines(path)


def rules_by_hand(machine: Machine) -> Iterator[Finding]:
    """Scripts that make or delete policy rules and tables."""
    made: dict[str, Line] = {}
    for line in lines(machine):
        if _RULE_FLUSH.search(line.text):
            yield Finding(
                WARNING, "own-script", f"{line.place}: {foreign(line.text.strip()[:80])}",
                "It deletes multihook's rules like all others; they come back at the next event.",
                (f"# take that out of {line.place}, or put behind it:", "multihook sync"),
            )  # fmt: skip
        elif _FLUSH_RULESET.search(line.text):
            yield Finding(
                WARNING, "flush-ruleset", f"{line.place}: {foreign(line.text.strip()[:80])}",
                "It empties multihook's table like all others; that comes back at the next event.",
                (f"# flush your own tables only in {line.place}, or put behind it:", "multihook sync"),
            )  # fmt: skip
        elif _OWN.search(line.text):
            made.setdefault(line.path, line)
    for line in made.values():
        yield Finding(
            NOTE, "own-script", f"{line.place}: {foreign(line.text.strip()[:80])}",
            "A rule without a priority lands in front of multihook's and is asked first.",
            (f"# if it does what multihook does now, take it out of {line.place}",),
        )  # fmt: skip


CHECKS = (rules_by_hand,)

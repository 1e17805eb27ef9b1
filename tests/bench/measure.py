"""Measure all rows, interleaved in random order, and report: run by `inside`, in a throw-away root.

    measure.py [--quick] [--instructions]

Exit status 0: every row was right each time, and all goals are met; 1: a goal is missed; 2: a row did not do its work.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

# Isolated: neither this folder nor anything of the user's is looked at otherwise.
sys.path.insert(0, str(Path(__file__).parent))

import goals  # noqa: E402, I001
import ours  # noqa: E402
import packets  # noqa: E402
import peers  # noqa: E402
import plot  # noqa: E402
import report  # noqa: E402
from places import Child, Sample, WrongError, place  # noqa: E402

OUT = Path("/jail/out")
README = Path("/jail/checkout/README.md")
# Of the others' rows and of those that take long, only every third, or fifteenth, round has one.
ROUNDS, QUICK_ROUNDS = 120, 2
SELDOM, RARE = 3, 15
PACKET_ROUNDS, QUICK_PACKET_ROUNDS = 40, 2
COUNTED = (
    "bare", "started", "loaded", "unchanged", "changed", "dhcp changed", "adopted unchanged", "adopted changed",
    "unchanged of 1000", "changed of 1000", "everything 4", "everything 64",
)  # fmt: skip

# Place: how it is built, and the name under which each of its rows is reported.
PLACES = {
    "few": (lambda: {**ours.configured(4, 4, True), "bare": ours.bare()},
            {name: name for name in ("bare", "started", "loaded", "changed", "unchanged", "dhcp changed")}, 1),
    "many": (lambda: ours.configured(1000, 300, False), {"changed": "changed of 1000", "unchanged": "unchanged of 1000"}, 1),
    "adopted": (lambda: ours.adopted(4), {"changed": "adopted changed", "unchanged": "adopted unchanged"}, 1),
    "seed 000": (peers.seed_000, {"seed": "seed 000"}, SELDOM),
    "seed 001": (peers.seed_001, {"seed": "seed 001"}, SELDOM),
    "seed 002": (peers.seed_002, {"seed": "seed 002"}, 1),
    "ifupdown-multi": (peers.ifupdown_multi, {"peer": "ifupdown-multi"}, SELDOM),
    "shorewall": (peers.shorewall, {"peer": "shorewall"}, SELDOM),
    "ec2": (peers.ec2_net_utils, {"peer": "amazon-ec2-net-utils"}, SELDOM),
    "status 4": (lambda: ours.console(4), {"status": "status", "import click": "import click"}, SELDOM),
    "status 500": (lambda: ours.console(500), {"status": "status of 500"}, SELDOM),
    **{f"everything {n}": (lambda n=n: ours.everything(n), {"everything": f"everything {n}"}, 1 if n < 100 else SELDOM)
       for n in (4, 16, 64, 300)},
    "storm": (lambda: ours.storm(200), {"storm": "storm", "bare": "200 bare"}, RARE),
}  # fmt: skip


def say(words: str) -> None:
    """Progress, for whoever waits."""
    print(f"[{time.monotonic() - started:4.0f} s] {words}", flush=True)


def measure(rounds: int, quick: bool) -> tuple[dict[str, list[Sample]], dict[str, tuple[Child, str]]]:
    """The samples of each row, and where each row is."""
    rows: dict[str, tuple[Child, str]] = {}
    seldom: dict[str, int] = {}
    for name, (build, named, every) in PLACES.items():
        say(f"place: {name}")
        child = place(build)
        for inside, reported in named.items():
            rows[reported] = (child, inside)
            seldom[reported] = every
    samples: dict[str, list[Sample]] = {name: [] for name in rows}
    for number in range(-1, rounds):
        due = [name for name in rows if quick or number < 0 or number % seldom[name] == 0]
        random.shuffle(due)
        for name in due:
            child, inside = rows[name]
            try:
                sample = child.call("measure", inside)
            except WrongError as error:
                raise WrongError(f"{name}, round {number}: {error}") from None
            # The first of each finds nothing in any cache; it is not kept.
            if number >= 0:
                samples[name].append(sample)
        if number % 30 == 0:
            say(f"round {number} of {rounds}; load {os.getloadavg()[0]:.1f}")
    return samples, rows


def main() -> int:
    """See the module."""
    quick = "--quick" in sys.argv
    loads = [os.getloadavg()[0]]
    try:
        samples, rows = measure(QUICK_ROUNDS if quick else ROUNDS, quick)
        loads.append(os.getloadavg()[0])
        counts = {}
        if "--instructions" in sys.argv:
            for name in COUNTED:
                child, inside = rows[name]
                counts[name] = child.call("count", inside)
            say("instructions counted")
        traffic = packets.measure(QUICK_PACKET_ROUNDS if quick else PACKET_ROUNDS, say)
        loads.append(os.getloadavg()[0])
    except WrongError as error:
        print(f"A row did not do its work:\n{error}", file=sys.stderr)
        return 2
    table = report.Table(samples, counts, traffic, loads)
    judged = goals.judged(table)
    print(report.text(table, judged))
    OUT.joinpath("README.md").write_text(report.into_readme(README.read_text(), report.markdown(table, judged)))
    OUT.joinpath("cost.svg").write_text(plot.svg(table))
    return 0 if all(goal.met for goal in judged) else 1


started = time.monotonic()
sys.exit(main())

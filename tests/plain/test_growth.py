"""What a run over everything costs grows with the number of links, not with its square."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from painted_machine import Machine
from told import bound

import multihook
from multihook.config import schema, tables, toml

OURS = str(Path(multihook.__file__).parent)
FEW, MANY = 20, 80
# Four times the links: what is linear stays near four times the work, what is not goes to sixteen.
MOST = 6


def steps(work: Callable[[], Any]) -> dict[str, int]:
    """How many lines of ours are executed, by function: a loop over all links inside of one over all links shows."""
    counts: dict[str, int] = {}

    def trace(frame: FrameType, event: str, _: object) -> "Callable[..., Any] | None":
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        if event == "line":
            name = f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}"
            counts[name] = counts.get(name, 0) + 1
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return counts


def steeper(few: dict[str, int], many: dict[str, int]) -> dict[str, tuple[int, int]]:
    """The functions whose work grows faster than the number of links."""
    return {name: (few.get(name, 0), count) for name, count in many.items() if count > MOST * few.get(name, 0) + 2 * MANY}


def configuration(links: int) -> str:
    return "".join(
        f'[link.l{number}]\ninterface = "eth{number}"\ntable = {200000 + number}\n'
        f'gateway = "10.{number}.0.1"\nsources = ["192.0.{number}.0/28"]\n'
        for number in range(links)
    )


def first_event(machine: Machine, links: int) -> dict[str, int]:
    machine.configure(configuration(links))
    for number in range(links):
        machine.kernel.link(f"eth{number}", f"10.{number}.0.7/24")
    return steps(lambda: machine.drain(bound("eth0", "10.0.0.7", "10.0.0.1")))


@pytest.mark.thorough
@pytest.mark.fault("F57")
def test_the_first_event_after_a_change_of_the_configuration(machines: Callable[[], Machine]) -> None:
    few = first_event(machines(), FEW)
    many = first_event(machines(), MANY)
    assert steeper(few, many) == {}


def compiling(links: int, entries: "tables.Others") -> dict[str, int]:
    content = {"link": {f"l{number}": {"interface": f"eth{number}"} for number in range(links)}}
    return steps(lambda: schema.build(toml.Document(content, {}, []), entries))


def test_compiling_beside_a_long_rt_tables() -> None:
    """An administrator's own, with the names that ifupdown-multi or a script gave to each line."""

    def lines(count: int) -> "tables.Others":
        pairs = {(number + 5000, f"t{number}") for number in range(count)}
        return {number: "x" for number, _ in pairs}, {name: "x" for _, name in pairs}, {}, pairs

    assert steeper(compiling(FEW, lines(FEW)), compiling(MANY, lines(MANY))) == {}


class Counted(str):
    """A name that counts how often it is compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)


@pytest.mark.parametrize("links", [FEW, MANY])
def test_allotting_compares_no_name_with_all(links: int) -> None:
    names = [Counted(f"l{number}") for number in range(links)]
    config = {"links": {str(name): {"table": 0} for name in names}, "allotted": [str(name) for name in names]}
    before = {f"l{number}": 1000 + number for number in range(links)}
    Counted.compared = 0
    settled = tables._settle(before, names, {**config, "used_tables": {}, "first_table": 1000}, set())
    assert settled == before and Counted.compared <= 8 * links

"""The fixtures that several modules of plain tests share; the rigs they set up are modules of their own."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from painted_machine import Machine

from multihook import paths
from multihook.kernel import routes


@pytest.fixture
def painted_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interfaces are numbered in the order in which a test makes them, after lo; no numbers were allotted before."""
    monkeypatch.setattr(routes, "name_of", lambda index: f"#{index}")
    monkeypatch.setattr(paths, "TABLES", str(tmp_path / "tables"))


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Machine]]:
    """Makes machines, one after the other: the last one made is the one that runs."""
    os.umask(0o022)
    undo: list[pytest.MonkeyPatch] = []

    def make() -> Machine:
        if undo:
            undo.pop().undo()
        undo.append(pytest.MonkeyPatch())
        number = len(list(tmp_path.iterdir()))
        return Machine(tmp_path / f"machine{number}", undo[0])

    yield make
    while undo:
        undo.pop().undo()


@pytest.fixture
def machine(machines: Callable[[], Machine]) -> Machine:
    """One machine, with an empty configuration."""
    return machines()

"""The fixtures that several modules of plain tests share; the rigs they set up are modules of their own."""

from pathlib import Path

import pytest

from multihook import paths
from multihook.features import routing


@pytest.fixture
def painted_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interfaces are numbered in the order in which a test makes them, after lo; no numbers were allotted before."""
    monkeypatch.setattr(routing, "name_of", lambda index: f"#{index}")
    monkeypatch.setattr(paths, "TABLES", str(tmp_path / "tables"))

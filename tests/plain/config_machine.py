"""For the tests of the configuration: a machine whose /etc, /run and /var lie in a temporary folder."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from multihook import files, journal, paths
from multihook.config import compiled, tables, toml

if TYPE_CHECKING:
    import pytest


class Machine:
    """The folders, and what was logged."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.etc = root / "etc/multihook"
        self.drop_ins = self.etc / "conf.d"
        self.settings = self.etc / "multihook.toml"
        self.run = root / "run/multihook"
        self.private = self.run / "private"
        self.cache = self.private / "compiled"
        self.var = root / "var/lib/multihook"
        self.last_good = self.var / "last-good.json"
        self.numbers = self.var / "tables"
        self.iproute2 = root / "etc/iproute2"
        self.share = root / "usr/share/iproute2"
        self.log: list[str] = []

    def settle(self) -> None:
        """Let the files grow so old that a cache made now is believed."""
        time.sleep(compiled._TICK_NS / 1e9 * 1.5)

    def write(self, text: str, name: str = "") -> Path:
        """Write multihook.toml, or a drop-in, in place."""
        path = self.drop_ins / name if name else self.settings
        path.write_text(text, newline="")
        path.chmod(0o644)
        return path

    def snapshot(self) -> dict[str, tuple[int, int, bytes]]:
        """Every file below /run and /var: inode, time of change and content."""
        found = {}
        for top in (self.root / "run", self.root / "var"):
            for path in top.rglob("*"):
                status = path.lstat()
                content = path.read_bytes() if path.is_file() else b""
                found[str(path)] = (status.st_ino, status.st_mtime_ns, content)
        return found


def place(machine: Machine, put: Callable[[object, str, str], None]) -> None:
    """Point multihook to this machine's folders."""
    for module, name, path in (
        (paths, "ETC", machine.etc),
        (paths, "RUN", machine.run),
        (paths, "PRIVATE", machine.private),
        (paths, "COMPILED", machine.cache),
        (paths, "VAR", machine.var),
        (paths, "LAST_GOOD", machine.last_good),
        (paths, "TABLES", machine.numbers),
        (paths, "TABLES_FOR_NOW", machine.run / "tables"),
        (toml, "SETTINGS", machine.settings),
        (toml, "DROP_INS", machine.drop_ins),
        (tables, "ETC", machine.iproute2),
        (tables, "SHARE", machine.share),
        (tables, "LIB", machine.root / "usr/lib/iproute2"),
    ):
        put(module, name, str(path))


def make_machine(root: Path, monkeypatch: "pytest.MonkeyPatch") -> Machine:
    """A machine with an empty configuration, fresh from installation; monkeypatch points multihook to it."""
    os.umask(0o022)
    machine = Machine(root)
    for folder in (machine.drop_ins, machine.run, machine.var, machine.iproute2):
        folder.mkdir(parents=True)
    machine.private.mkdir(0o700)
    machine.write("")
    place(machine, monkeypatch.setattr)

    def take_down(priority: int, line: str) -> None:
        machine.log.append(f"{priority} {line}")

    monkeypatch.setattr(journal, "write", take_down)
    monkeypatch.setattr(compiled, "geteuid", lambda: 0)
    return machine


def give_away(path: Path, monkeypatch: "pytest.MonkeyPatch") -> None:
    """Make a file somebody else's: really as root, else by being somebody else."""
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345, follow_symlinks=False)
    else:
        monkeypatch.setattr(files, "geteuid", lambda: 12345)
        monkeypatch.setattr(toml, "geteuid", lambda: 12345)

"""A machine for whole runs: its files lie in a folder, its kernel is painted, and what it logs is a list.

The fixture `machine` is a new one, `machines` makes several, of which the last one made is the one that runs.
"""

import sys
from pathlib import Path

import pytest
from painted_kernel import OURS, Painted, attributes_of

# All modules with paths have to be there before they are led elsewhere.
import multihook.command.console
import multihook.config.schema
import multihook.config.toml
import multihook.edits
import multihook.features.connections
import multihook.features.glftpd
import multihook.features.sysctls
import multihook.hook
import multihook.names  # noqa: F401
from multihook import intake, journal, run, spool
from multihook.config import compiled
from multihook.kernel import routes
from multihook.spool import Told

PLACES = (
    "/run/multihook",
    "/var/lib/multihook",
    "/etc/multihook",
    "/etc/iproute2",
    "/usr/share/iproute2",
    "/usr/lib/iproute2",
    "/proc/sys",
)


class Machine:
    """A machine whose files lie in a folder and whose kernel is painted."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.kernel = Painted()
        self.log: list[str] = []
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] != "multihook":
                continue
            for constant, value in list(vars(module).items()):
                if isinstance(value, str) and value.startswith(PLACES):
                    monkeypatch.setattr(module, constant, f"{root}{value}")
        for place in PLACES:
            (root / place[1:]).mkdir(parents=True)
        (root / "etc/multihook/conf.d").mkdir()
        monkeypatch.setattr(journal, "write", lambda priority, line: self.log.append(f"{priority} {line}"))
        monkeypatch.setattr(routes, "name_of", lambda index: self.kernel.name(index))
        self.configure("")

    def configure(self, settings: str) -> None:
        (self.root / "etc/multihook/multihook.toml").write_text(settings)
        self.config = compiled.compile()

    def drain(self, *told: Told) -> None:
        """As a hook does it under the lock."""
        spool.prepare()
        self.drain_into(None, *told)

    def drain_into(self, unwritten: list[str] | None, *told: Told) -> None:
        """The same; `unwritten` takes the lines about files."""
        heard = (intake.understand(self.config, one) for one in told)
        intake.drain(self.config, self.kernel.door(), [one for one in heard if one], unwritten)

    def sync(self) -> run.Outcome:
        spool.prepare()
        intake.drain(self.config, self.kernel.door(), [])
        return run.run(self.config, self.kernel.door(), [], whole=True)

    def reboot(self) -> None:
        """Lose /run and all that we made in the kernel."""
        for path in sorted((self.root / "run").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        (self.root / "run/multihook").mkdir()
        self.kernel = without_ours(self.kernel)

    def files(self) -> dict[str, tuple[int, int]]:
        """Every file below /run, /var and /etc: inode and time of change."""
        return {
            str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns)
            for path in self.root.rglob("*")
            if not path.is_dir()
        }

    def ours(self) -> tuple[list[str], dict[str, int]]:
        """Our objects as text, and the groups of all interfaces."""
        groups = {name: entry[2] for name, entry in self.kernel._links.items()}
        return sorted(self.kernel.shown()), groups


def without_ours(kernel: Painted) -> Painted:
    """The same facts, as before any of our runs."""
    other = Painted()
    other._links = {
        name: [entry[0], entry[1], 0 if entry[2] == OURS else entry[2]] for name, entry in kernel._links.items()
    }
    other._addresses = list(kernel._addresses)
    other._next = kernel._next
    other.routes = [one for one in kernel.routes if one[5] != OURS]
    other.rules = [one for one in kernel.rules if attributes_of(one[12:])[21] != bytes((OURS,))]
    return other

"""What was logged since the start of a test, by the journal."""

from __future__ import annotations

import json
from typing import Any

from world import observe
from world.namespaces import run_tool
from world.world import SCRATCH


class Journal(observe.Log):
    """The same questions as to the rig's own /dev/log."""

    def __init__(self) -> None:
        """From now on."""
        self.clear()

    def _read(self, *words: str) -> list[dict[str, Any]]:
        # What was sent before is written before it is read.
        run_tool("journalctl", "--sync")
        text = run_tool("journalctl", "--quiet", "--output=json", *words).stdout
        return [json.loads(line) for line in text.splitlines()]

    def entries(self, identifier: str | None = "multihook") -> list[observe.Entry]:
        """What that program logged; None: everybody."""
        # Chosen here: with --identifier journalctl of Debian 12 leaves out the first entry after the cursor.
        return [
            observe.Entry(
                int(found.get("SYSLOG_FACILITY", -1)),
                observe.SEVERITIES[int(found.get("PRIORITY", 6))],
                found.get("SYSLOG_IDENTIFIER", ""),
                int(found["_PID"]) if "_PID" in found else None,
                str(found["MESSAGE"]),
            )
            for found in self._read(f"--after-cursor={self._cursor}")
            if identifier in (None, found.get("SYSLOG_IDENTIFIER"))
        ]

    def told(self) -> list[str]:
        """The journal with its times, and what each pppd said last."""
        words = ("--quiet", "--output=short-monotonic", f"--after-cursor={self._cursor}")
        lines = run_tool("journalctl", *words).stdout.splitlines()
        for path in sorted(SCRATCH.glob("*.log")):
            lines += [f"-- {path.name} --", *path.read_text(errors="replace").splitlines()[-8:]]
        return lines

    def clear(self) -> None:
        """Forget what was logged so far."""
        (last,) = self._read("--lines=1")
        self._cursor = last["__CURSOR"]

    def close(self) -> None:
        """Nothing is held."""

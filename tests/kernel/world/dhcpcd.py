"""Real dhcpcd in the box, in the foreground; Debian's dhcpcd-run-hooks with any reason."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

from .namespaces import Namespace, wait_until

HOOKS = "/usr/lib/dhcpcd/dhcpcd-run-hooks"
# Seconds instead of the usual ten: no probing for other holders of the address.
_HASTE = "ipv4only\nnoarp\nnodelay\nreboot 3\n"


class Dhcpcd:
    """dhcpcd with Debian's dhcpcd.conf and what a test adds to it."""

    def __init__(self, box: Namespace, *interfaces: str, config: str = "", wrapper: tuple[str, ...] = ()) -> None:
        """interfaces: none for all of them, as dhcpcd.service does. wrapper: command line that runs what follows it."""
        self.box, self.interfaces, self._wrapper = box, interfaces, wrapper
        self.folder = Path("/tmp/rig") / f"dhcpcd-{'-'.join(interfaces) or 'all'}"
        self.folder.mkdir(exist_ok=True)
        # It chroots into the home of its user, and waits for its sockets here.
        Path("/run/dhcpcd").mkdir(exist_ok=True)
        self._config = self.folder / "dhcpcd.conf"
        self._config.write_text(Path("/etc/dhcpcd.conf").read_text() + _HASTE + config)
        self._process: subprocess.Popen[str] | None = None
        self._waited: dict[tuple[str, str], int] = {}

    def start(self) -> None:
        """Start it and go on."""
        words = (*self._wrapper, "/usr/sbin/dhcpcd", "-B", "-d", "-f", str(self._config), *self.interfaces)
        with (self.folder / "log").open("a") as log:
            self._process = self.box.popen(*words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal: SIGALRM releases the lease, which is all that -k does (dhcpcd(8), SIGNALS)."""
        assert self._process
        os.kill(self._process.pid, number)
        self._process.wait(10)

    def log(self) -> str:
        """What it said."""
        return (self.folder / "log").read_text(errors="replace")

    def reasons(self, interface: str) -> list[str]:
        """The reasons that hooks for this interface were given so far."""
        return re.findall(rf"^{interface}: executing: {HOOKS} (\S+)$", self.log(), re.MULTILINE)

    def wait_reason(self, interface: str, reason: str, seconds: float = 20) -> None:
        """Wait for a reason that no earlier wait has seen, and for the end of its hooks."""
        seen = self._waited.get((interface, reason), 0)
        try:
            wait_until(f"dhcpcd to say {reason} of {interface}", lambda: self._count(interface, reason) > seen, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it said:\n{self.log()[-3000:]}") from None
        self._waited[interface, reason] = self._count(interface, reason)
        self.wait_hooks()

    def _count(self, interface: str, reason: str) -> int:
        return self.reasons(interface).count(reason)

    def wait_hooks(self) -> None:
        """Wait until no hook runs."""
        wait_until("dhcpcd-run-hooks to end", lambda: not any(self._is_hook(pid) for pid in self.box.pids()))

    def _is_hook(self, pid: int) -> bool:
        try:
            return HOOKS.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False

    def address(self, interface: str) -> str | None:
        """The interface's first address now."""
        return next(iter(self.box.addresses(interface)), None)


def run_hooks(box: Namespace, reason: str, interface: str, **variables: object) -> subprocess.CompletedProcess[str]:
    """Debian's dhcpcd-run-hooks as dhcpcd would call it. Unlike dhclient-script it sets no address itself."""
    env = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "pid": str(os.getpid()),
        "reason": reason,
        "interface": interface,
        "ifflags": "69699",
        **{name: str(value) for name, value in variables.items()},
    }
    return box.run(HOOKS, env=env, check=False)

"""Real pppd for the demo's point-to-point lines, where the kernel has PPP.

Two pppds, one in the box and one at the provider, talk over a pseudo-terminal (pppd(8), option pty). The provider's one
must not run the box's hooks: `ip netns exec` shows it /etc/netns/PROVIDER/ppp in the place of /etc/ppp.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from world.namespaces import Namespace, wait_until
from world.provider import Provider


def is_possible() -> bool:
    """Whether there is PPP in this kernel; opening the device makes the kernel load its modules."""
    try:
        os.close(os.open("/dev/ppp", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


class PppdSession:
    """One line between the box and a provider; it is up, and ip-up has run, when the constructor returns."""

    def __init__(
        self,
        box: Namespace,
        provider: Provider,
        interface: str,
        local: str,
        remote: str,
        ipparam: str,
        defaultroute: bool,
    ) -> None:
        self._provider, self._interface = provider, interface
        empty = Path("/etc/netns") / provider.ns.name / "ppp"
        empty.mkdir(parents=True, exist_ok=True)
        (empty / "options").touch()
        provider.hand_out(interface, [local])
        unit = interface.removeprefix("ppp")
        there = f"ip netns exec {provider.ns.name} pppd notty noauth local {remote}:{local} unit {unit} nodetach"
        self._log = Path("/tmp") / f"{interface}.log"
        self._log.touch()
        self._pppd: subprocess.Popen[str] = box.popen(
            "/usr/sbin/pppd", "pty", there, "noauth", "local", "noipdefault", "unit", unit, "ipparam", ipparam,
            "defaultroute" if defaultroute else "nodefaultroute", "persist", "maxfail", "0", "holdoff", "1",
            "nodetach", "debug", "logfile", str(self._log),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._wait_for("ip-up", 1)

    def redial(self) -> None:
        """Hang up; `persist` dials again: ip-down, another interface of the old name, ip-up."""
        before = self._times_run("ip-up")
        self._pppd.send_signal(signal.SIGHUP)
        self._wait_for("ip-up", before + 1)

    def end(self) -> None:
        """The session ends for good: the interface goes, ip-down runs."""
        before = self._times_run("ip-down")
        self._pppd.terminate()
        self._pppd.wait(20)
        self._wait_for("ip-down", before + 1)
        self._provider.take_back(self._interface)

    def _times_run(self, script: str) -> int:
        """How often that script of /etc/ppp has run to its end, as the log says with option debug."""
        return self._log.read_text(errors="replace").count(f"Script /etc/ppp/{script} finished")

    def _wait_for(self, script: str, times: int) -> None:
        """Until that script has run so often."""
        try:
            wait_until(f"pppd to have run {script}", lambda: self._times_run(script) >= times, seconds=30)
        except AssertionError as problem:
            raise AssertionError(f"{problem}; pppd said:\n{self._log.read_text(errors='replace')}") from None

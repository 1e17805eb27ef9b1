"""Live: a World whose box is the machine itself."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

from world.namespaces import Namespace, run_tool, wait_until
from world.traffic import Flow, Outcome
from world.world import World

from .here import Here
from .journal import Journal
from .pppoe import Line, Pppoe

# Emulated: a tenth of the usual speed. A lost packet is asked for again after one second, and after two more.
PATIENCE = 6.0  # seconds
# What hooks are made of, as it stands in the command line of a process.
_HOOKS = (b"/etc/ppp/ip", b"run-parts", b"/usr/lib/multihook/", b"dhclient-script", b"dhcpcd-run-hooks", b"/usr/bin/multihook")


class Live(World):
    """Providers and far hosts are namespaces, as everywhere; what is judged is the machine around them."""

    def _listen(self) -> Journal:
        return Journal()

    def _box(self, rp_filter: int) -> Namespace:
        here = Here("box")
        self._ends.callback(here.close)
        return here

    # -- making --

    def pppoe(self, name: str, network: str, wire: str, interface: str, peer: str = "10.64.0.1") -> Pppoe:
        """A provider with a pppoe-server on `wire`; interface: what its line is called here. Its sessions begin with peer."""
        provider = Pppoe(self, name, network, wire, interface, peer)
        self.providers[name] = provider
        return provider

    def line(self, provider: Pppoe, defaultroute: bool = False) -> Line:
        """/etc/ppp/peers/NAME for the line to that provider, called like it. Not started."""
        line = Line(self.box, provider, defaultroute)
        self._ends.callback(line.close)
        return line

    def forget(self) -> None:
        """Everything of the product's as before the test: nothing in the kernel, no state."""
        self.settle()
        run_tool("/usr/bin/multihook", "flush", "--once")
        shutil.rmtree("/run/multihook")
        run_tool("systemd-tmpfiles", "--create", "--prefix=/run/multihook")

    # -- traffic, with more patience --

    def connect(self, source: str | None = None, device: str | None = None, kind: str = "tcp", ns: Namespace | None = None,
                timeout: float = PATIENCE) -> Any:  # fmt: skip
        """See World. An address or a device that is gone is an outcome too."""
        try:
            return super().connect(source, device, kind, ns, timeout)
        except OSError as problem:
            return Outcome(False, errno.errorcode.get(problem.errno or 0, str(problem)), "", frozenset(), frozenset())

    def reach(self, address: str, kind: str = "tcp", pktinfo: bool = True, timeout: float = PATIENCE) -> Any:
        """See World."""
        return super().reach(address, kind, pktinfo, timeout)

    def flow(self, source: str | None = None, device: str | None = None, **more: Any) -> Flow:
        """See World."""
        more.setdefault("grace", PATIENCE)
        return super().flow(source, device, **more)

    def ask(self, ns: Namespace, to: str, kind: str) -> None:
        """Send there, and wait a second for an answer, which nobody looks at."""
        self._ask(ns, to, kind, None, None, 1)

    # -- observing --

    def systemctl(self, *words: str, check: bool = True) -> str:
        """What it said."""
        return run_tool("systemctl", *words, check=check, timeout=120).stdout.strip()

    def idle(self) -> None:
        """Wait until systemd has nothing left to start or stop, and no hook runs."""
        wait_until("systemd's jobs to end", lambda: not self.systemctl("list-jobs", "--no-legend", "--plain"), 60, pause=0.2)
        self.settle()

    def strays(self) -> dict[int, str]:
        """Hooks that run."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                # The program, and the script where that is an interpreter: what else it names is an argument.
                words = (folder / "cmdline").read_bytes().split(b"\0")[:3]
            except OSError:
                continue
            if any(hook in word for word in words for hook in _HOOKS):
                found[int(folder.name)] = b" ".join(words).decode(errors="replace")
        return found

    def settle(self, seconds: float = 60) -> None:
        """Wait until no hook runs."""
        try:
            wait_until("hooks to end", lambda: not self.strays(), seconds, pause=0.1)
        except AssertionError as problem:
            raise AssertionError(f"{problem}; {self.strays()}") from None

    def agrees(self, down: bool = False) -> None:
        """`multihook status` says that the kernel is as it should be; down: a configured link is not up."""
        self.settle()
        done = self.multihook("status")
        assert done.returncode == (3 if down else 0), done.stdout + done.stderr

    def wait_right(self, addresses: set[str]) -> None:
        """Until there are source rules for exactly these addresses."""

        def there() -> set[str]:
            return {rule.split()[2] for rule in self.rules() if rule.startswith("7400:")}

        wait_until(f"rules for {sorted(addresses)}", lambda: there() == addresses, 30, pause=0.2)


def assert_works(live: Live, line: str, address: str) -> None:
    """The line's address answers and asks by that line and no other."""
    for outcome in (live.reach(address), live.connect(source=address), live.connect(device=line, kind="udp")):
        assert (outcome.ok, outcome.by, outcome.wrong) == (True, {line}, frozenset()), (line, outcome)

#!/usr/bin/python3
"""The demo itself: four lines, without and with multihook, one renumbered, one cut; run by prepare in the private copy.

    show.py PACKAGE

The namespaces, servers, clients and counters are those of the kernel tests (tests/kernel/world). Exit status 0 when
everything was as promised; what was not is said on a line that begins with "NOT AS PROMISED".
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

# The interpreter runs isolated and looks neither here nor in the library of the kernel tests.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "kernel")]

import pppd  # noqa: E402, I001
from world import World  # noqa: E402
from world.dhcp import DhcpClient  # noqa: E402
from world.namespaces import wait_until  # noqa: E402
from world.provider import Provider  # noqa: E402
from world.traffic import PORT, Flow, Outcome, tcp  # noqa: E402
from world.world import FAR  # noqa: E402

FIRST_STEP = 3  # prepare says 1 and 2; tests/demo says the one after the last of these
DROP_IN = Path("/etc/multihook/conf.d/demo.toml")
SETTINGS = """\
[link.dsl2]
ipparam = "dsl2"     # as in its pppd's options: follows the line whichever pppN it gets
table = 200
"""
PICTURE = """\
                     +-- provider cable --- wan1 --+
 far hosts           |                             |
 198.18.0.0/16 ------+-- provider fibre --- wan2 --+-- the box
                     |                             |
                     +-- provider dsl --+-- ppp0 --+
                                        +-- ppp1 --+
"""
DSL_GATEWAY = "203.0.113.1"
NAMES = {"ppp0": "dsl1", "ppp1": "dsl2", "wan1": "cable", "wan2": "fibre"}
RESULTS = {
    "": "answered",
    "ETIMEDOUT": "no answer",
    "ENETUNREACH": "refused, network is unreachable",
    "EHOSTUNREACH": "refused, no route to host",
}
# What a connection of the length of a step is about, at the pace of the flows.
ENOUGH_MESSAGES = 50
AT_ONCE = 0.1  # seconds
CONFIGURED_LINK_DOWN = 3  # exit status of `multihook status`


def label(interface: str) -> str:
    """A line as the tables call it."""
    return f"{NAMES.get(interface, '?')} ({interface})"


@dataclass
class Line:
    """One line of the box to the internet."""

    interface: str
    provider: Provider
    address: str

    def carried(self, out: Outcome) -> bool:
        """Whether an exchange worked, and by this line alone."""
        return out.ok and out.by == {self.interface} and not out.wrong


class Screen:
    """What a person sees: numbered steps, tables, and what did not come out as promised."""

    def __init__(self) -> None:
        self._step = FIRST_STEP - 1
        self.broken = 0

    def step(self, sentence: str) -> None:
        """Begin the next step."""
        self._step += 1
        print(f"\n{self._step:2}. {sentence}", flush=True)

    def say(self, sentence: str) -> None:
        """One line under the step."""
        print(f"    {sentence}".rstrip(), flush=True)

    def quote(self, text: str) -> None:
        """What a program or a file says."""
        for line in text.rstrip().splitlines():
            self.say(f"| {line}")

    def table(self, *rows: tuple[str, ...]) -> None:
        """Rows in columns; the first is the heading."""
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            self.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))

    def promise(self, kept: bool, sentence: str) -> None:
        """Say so when something is not as it should be."""
        if not kept:
            self.broken += 1
            self.say(f"NOT AS PROMISED: {sentence}")


class Demo:
    """The world, its lines, and the steps of the demo as methods, in their order."""

    def __init__(self, world: World, screen: Screen, package: str) -> None:
        self.world, self.screen, self.package = world, screen, package
        self.lines: dict[str, Line] = {}

    def run(self) -> None:
        """Everything."""
        self.providers()
        self.four_lines()
        self.without()
        self.install()
        self.configure()
        self.with_multihook()
        self.renumber()
        self.cut()
        self.hang_up()
        self.as_it_is_now()
        self.who_saw_what()
        self.all_packets()

    # -- the steps --

    def providers(self) -> None:
        """Three providers between the box and far hosts."""
        self.screen.step("Make a small internet of network namespaces; nothing below has the machine's network.")
        self.screen.quote(PICTURE)
        self.screen.say("Providers forward only sources that they handed out on that line; others they drop and count.")
        self.cable = self.world.provider("cable", "198.51.100.0/24", wire="wan1")
        self.fibre = self.world.provider("fibre", "192.0.2.0/25", wire="wan2")
        self.dsl = self.world.provider("dsl", "203.0.113.0/24")
        self.cable.serve_dhcp()
        # T1 of 3 seconds: the client asks again that soon, and learns then that its address has changed.
        self.fibre.serve_dhcp(first=20, last=60, renew=3)

    def four_lines(self) -> None:
        """Two by DHCP, two sessions through the same gateway of one provider."""
        self.screen.step("Bring up four lines, with Debian's dhclient, dhclient-script and /etc/ppp/ip-up as they are.")
        real = pppd.is_possible()
        if real:
            self.screen.say("This kernel has PPP: ppp0 and ppp1 are sessions of the real pppd.")
        else:
            self.screen.say("This kernel has no PPP: ppp0 and ppp1 are tun devices, and ip-up is run as pppd runs it.")
        self._dial(real, "ppp0", "203.0.113.45", defaultroute=True)
        # The last one dialled is the one that is dialled again, cut and ended.
        self._redial, self._hang_up = self._dial(real, "ppp1", "203.0.113.46", defaultroute=False)
        # Metrics, as ifupdown sets them: without, the kernel refuses a second default route.
        self._lease("wan1", self.cable, metric=10)
        self.renewing = self._lease("wan2", self.fibre, metric=20)
        rows = [("LINE", "ADDRESS", "GATEWAY", "BY")]
        for line in self.lines.values():
            gateway, by = (DSL_GATEWAY, "PPP") if line.provider is self.dsl else (line.provider.gateway, "DHCP")
            rows.append((label(line.interface), line.address, gateway, by))
        self.screen.table(*rows)
        self._quote_program("ip", "route")

    def without(self) -> None:
        """The box as Debian leaves it: everything is answered by the default route."""
        self.screen.step("WITHOUT multihook: a far host connects to each address of the box by TCP.")
        self.answered_without = self._reach_all()
        dropped = sum(entry.packets for entry in self.world.wrong())
        self.screen.say(f"{self.answered_without} of 4 answered; {dropped} packets left by a wrong line.")
        self.screen.promise(self.answered_without == 1 and dropped > 0, "1 of 4 was to be answered")
        for provider in self.world.providers.values():
            provider.forget()

    def install(self) -> None:
        """apt, where there is no network; the maintainer script finds the lines that are up."""
        self.screen.step("Install the package on the running box, by apt from what was fetched.")
        # The box is a machine of its own now, and what its package does at installation is part of the show.
        Path("/usr/sbin/policy-rc.d").unlink()
        # Not `ip netns exec`: with mounts of its own, the box would look like a chroot to maintainer scripts.
        inside = ["nsenter", "--net=/run/netns/box"]
        words = [*inside, "apt-get", "-y", "-o", "Dpkg::Use-Pty=0", "install", self.package]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}{done.stderr}"
        self.screen.quote(f"$ apt install ./{Path(self.package).name}")
        said = done.stdout.partition("Setting up multihook ")[2].splitlines()[1:]
        # Between them stand what systemd's helper and triggers have to say.
        self.screen.quote("\n".join(line for line in said if line.startswith((" ", "multihook"))))
        self.screen.say("Found by itself: links with a default route or a lease with a router. ppp1 has neither.")

    def configure(self) -> None:
        """The one line that nobody calls a way to the internet is named by hand."""
        self.screen.step("So ppp1 is named in the configuration and dialled again: its ip-up runs multihook's hook.")
        DROP_IN.write_text(SETTINGS)
        self.screen.quote(f"$ cat {DROP_IN}\n{SETTINGS}")
        self._quote_multihook("check-config")
        self.world.log.clear()
        self._redial()
        self._quote_log()

    def with_multihook(self) -> None:
        """The same test again."""
        self.screen.step("WITH multihook: the same test.")
        self.answered_with = self._all_answered()

    def renumber(self) -> None:
        """The provider moves its pool into another network; the client hears of it when it renews its lease."""
        self.screen.step("RENUMBER: fibre's provider moves to another network; dhclient's next renewal gets a NAK.")
        line = self.lines["wan2"]
        old = line.address
        self.world.log.clear()
        with self._undisturbed(line):
            self.fibre.renumber("192.0.2.128/25", first=20, last=60)
            line.address = self.renewing.wait_address(other_than=old)
        self.screen.say(f"{label('wan2')}: {old} -> {line.address}, gateway {self.fibre.gateway}.")
        self._quote_log()
        self._all_answered()

    def cut(self) -> None:
        """The kernel drops the routes of an interface that goes down; nobody is told."""
        self.screen.step("CUT: ppp1 goes down and no program is told; its address is still there.")
        line = self.lines["ppp1"]
        self.world.log.clear()
        with self._undisturbed(line):
            self.world.box.ip(f"link set {line.interface} down")
            start = time.monotonic()
            error, _ = tcp(self.world.box, FAR, PORT, source=line.address)
            took = time.monotonic() - start
            out = self.world.connect(source=line.address)
        leaked = ", ".join(label(interface) for interface in sorted(out.by | out.wrong)) or "none"
        self.screen.say(f"A connection from {line.address}: {RESULTS.get(error, error)}, after {took * 1000:.1f} ms.")
        self.screen.say(f"Lines by which a packet of it left: {leaked}. No hook ran; its table is left with this:")
        self._quote_program("ip", "route", "show", "table", "dsl2")
        refused = error in ("ENETUNREACH", "EHOSTUNREACH") and took < AT_ONCE and not out.by | out.wrong
        self.screen.promise(refused, "it was to be refused at once, and no packet to leave")
        self.screen.promise(not self.world.log.lines(), f"no hook was to run: {self.world.log.lines()}")

    def hang_up(self) -> None:
        """pppd notices; its ip-down tells multihook."""
        self.screen.step("pppd notices and hangs up; its ip-down runs multihook's hook. The other lines go on.")
        self.world.log.clear()
        self._hang_up()
        del self.lines["ppp1"]
        self._quote_log()
        self._all_answered()

    def as_it_is_now(self) -> None:
        """Status, rules, tables; nothing left to do."""
        self.screen.step("What one sees on the box now.")
        self._quote_multihook("status", expected=CONFIGURED_LINK_DOWN)
        self._quote_program("ip", "rule")
        self._quote_program("ip", "route")
        for interface in self.lines:
            routes = self._quote_program("ip", "route", "show", "table", interface)
            self.screen.promise("\ndefault " in f"\n{routes}", f"table {interface} was to have a way out")
        self._quote_program("ip", "route", "show", "table", "dsl2")
        said = self._quote_multihook("sync", "--dry-run")
        self.screen.say("(nothing would change)" if not said else "")
        self.screen.promise(not said, "nothing was to be left to do")

    def who_saw_what(self) -> None:
        """Outgoing connections, and the line that each took."""
        self.screen.step("Which provider saw which connection: the box connects to far hosts by TCP.")
        rows = [("SOCKET", "RESULT", "SEEN BY THE PROVIDER OF")]
        right = True

        def connect(words: str, line: Line, source: str | None = None, device: str | None = None) -> None:
            nonlocal right
            out = self.world.connect(source, device)
            right = right and line.carried(out)
            rows.append((words, RESULTS.get(out.error, out.error), self._seen_by(out)))

        for line in self.lines.values():
            connect(f"bound to {line.address}", line, source=line.address)
            connect(f"bound to {line.interface}", line, device=line.interface)
        connect("not bound: default route", self.lines["ppp0"])
        self.screen.table(*rows)
        self.screen.promise(right, "each connection was to be answered and to leave by its own line")

    def all_packets(self) -> None:
        """What the providers counted since the package came."""
        self.screen.step("All packets of the box since the package came, as its providers counted them.")
        rows = [("LINE", "FORWARDED", "DROPPED", "SOURCES")]
        for provider in self.world.providers.values():
            seen = provider.seen()
            for interface in sorted({entry.interface for entry in seen}):
                here = [entry for entry in seen if entry.interface == interface]
                forwarded, dropped = (sum(e.packets for e in here if e.good is kind) for kind in (True, False))
                sources = ", ".join(sorted({entry.source for entry in here}))
                rows.append((label(interface), str(forwarded), str(dropped), sources))
        self.screen.table(*rows)
        wrong = self.world.wrong()
        self.screen.promise(not wrong, f"nothing was to be dropped: {wrong}")
        without, since = f"{self.answered_without} of 4", f"{self.answered_with} of 4"
        self.screen.say(f"In short: {without} addresses answered without multihook, {since} with it.")

    # -- bringing lines up --

    def _dial(self, real: bool, interface: str, local: str, defaultroute: bool) -> tuple[Callable[[], None], ...]:
        """Bring up a session with the dsl provider; how to have it dialled again, and ended."""
        name = NAMES[interface]
        self.lines[interface] = Line(interface, self.dsl, local)
        if real:
            session = pppd.PppdSession(self.world.box, self.dsl, interface, local, DSL_GATEWAY, name, defaultroute)
            return session.redial, session.end
        played = self.world.ppp_up(interface, local, DSL_GATEWAY, self.dsl, ipparam=name, defaultroute=defaultroute)
        return played.reconnect, played.down

    def _lease(self, interface: str, provider: Provider, metric: int) -> DhcpClient:
        """Bring up a line by DHCP."""
        client = self.world.dhcp_up(interface, metric)
        self.lines[interface] = Line(interface, provider, client.wait_address(other_than=None))
        return client

    # -- testing them --

    def _reach_all(self) -> int:
        """A far host connects to each address: a table of it; how many were answered by the right line."""
        rows = [("ADDRESS ASKED", "LINE", "RESULT", "ANSWER SEEN BY THE PROVIDER OF")]
        right = 0
        for line in self.lines.values():
            out = self.world.reach(line.address)
            right += line.carried(out)
            rows.append((line.address, label(line.interface), RESULTS.get(out.error, out.error), self._seen_by(out)))
        self.screen.table(*rows)
        return right

    def _all_answered(self) -> int:
        """The same, and it is promised that all of them are."""
        number, lines = self._reach_all(), len(self.lines)
        self.screen.say(f"{number} of {lines} answered, by the line that was asked.")
        self.screen.promise(number == lines, f"{lines} of {lines} were to be answered, each by its own line")
        return number

    @staticmethod
    def _seen_by(out: Outcome) -> str:
        seen = [label(interface) for interface in sorted(out.by)]
        seen += [f"{label(interface)}, dropped: not its address" for interface in sorted(out.wrong)]
        return "; ".join(seen) or "nobody"

    @contextmanager
    def _undisturbed(self, line: Line) -> Iterator[None]:
        """A TCP connection from a far host to each *other* line goes on meanwhile; what was lost is said."""
        flows: dict[str, Flow] = {}
        with ExitStack() as running:
            for other in self.lines.values():
                if other is not line:
                    flow = self.world.flow_in(other.address, kind="tcp", interval=0.02)
                    flows[other.interface] = running.enter_context(flow)
            yield
            wait_until("some traffic", lambda: all(flow.sent >= ENOUGH_MESSAGES for flow in flows.values()))
        counted = ", ".join(f"{label(name)} {flow.received} of {flow.sent}" for name, flow in flows.items())
        self.screen.say(f"Messages answered meanwhile on the other lines: {counted}.")
        kept = all(flow.lost == 0 and not flow.errors for flow in flows.values())
        self.screen.promise(kept, "nothing was to be lost on other lines")

    # -- quoting --

    def _quote_log(self) -> None:
        """What multihook has logged since the log was cleared."""
        lines = self.world.log.lines()
        self.screen.quote("\n".join(f"multihook: {said}" for said in lines))
        self.screen.promise(bool(lines), "a hook was to run and to log what it changed")

    def _quote_program(self, *words: str) -> str:
        """A program in the box and its output, which is returned too."""
        done = self.world.box.run(*words, check=False)
        text = f"{done.stdout}{done.stderr}"
        self.screen.quote(f"$ {' '.join(words)}\n{text}")
        return text

    def _quote_multihook(self, *words: str, expected: int = 0) -> str:
        """The same for multihook, with the exit status that is promised."""
        done = self.world.multihook(*words)
        text = f"{done.stdout}{done.stderr}"
        self.screen.quote(f"$ multihook {' '.join(words)}\n{text}")
        self.screen.promise(done.returncode == expected, f"its exit status was to be {expected}, not {done.returncode}")
        return text


def main() -> int:
    """Exit status 0 only when all was as promised."""
    screen = Screen()
    try:
        world = World()
        try:
            Demo(world, screen, sys.argv[1]).run()
        finally:
            world.close()
    except (AssertionError, OSError, subprocess.SubprocessError) as problem:
        screen.promise(False, str(problem))
    return 1 if screen.broken else 0


sys.exit(main())

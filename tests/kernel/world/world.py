"""World: what a test gets from the fixture of the same name."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from . import dhcp, observe, ppp, traffic
from .internet import Internet
from .lan import Lan
from .machine import Machine
from .namespaces import Namespace, wait_until
from .provider import Provider

FAR = "198.18.0.10"
JAIL = Path("/run/multihook-jail")  # made by tests/roots/enter
SCRATCH = Path("/tmp/rig")  # empty at the start of each test
CONFIG = Path("/etc/multihook/multihook.toml")
# What a test may leave behind in files, put back before each test as it was before the first.
KEPT = (
    "/etc/multihook",
    "/var/lib/multihook",
    "/run/multihook",
    "/etc/iproute2",
    "/etc/ppp",
    "/etc/dhcp",
    "/var/lib/dhcp",
    "/run/dhcpcd",
    "/var/lib/dhcpcd",
    "/etc/network",
    "/run/network",
    "/etc/resolv.conf",
)


class Pristine:
    """Copies of files and folders as they are now, and the way back to them."""

    def __init__(self, paths: tuple[str, ...], store: Path) -> None:
        self._paths = {Path(path): store / str(number) for number, path in enumerate(paths)}
        for path, copy in self._paths.items():
            if path.exists():
                _copy(path, copy)

    def restore(self) -> None:
        """Everything as it was; what a test mounted there is taken away."""
        for path, copy in self._paths.items():
            for mounted in [p for p in _mounts() if p == path or path in p.parents]:
                subprocess.run(["umount", "--lazy", str(mounted)], check=True)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            if copy.exists():
                _copy(copy, path)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)


def _mounts() -> list[Path]:
    """Mount points of this namespace, the innermost first."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [Path(line.split()[1]) for line in reversed(lines)]


class World:
    """One machine under test (`box`), its providers, and the far hosts that it talks to."""

    def __init__(self, rp_filter: int = 2) -> None:
        """rp_filter: of the box's interfaces; 2 is what Debian's systemd sets."""
        assert JAIL.exists(), "this would wipe the machine's own state: run it by tests/run"
        self._ends = ExitStack()
        self.sessions: dict[str, ppp.Session] = {}
        self.providers: dict[str, Provider] = {}
        self.offices: dict[str, Namespace] = {}
        self._ports = 20000
        self._machines = 0
        shutil.rmtree(SCRATCH, ignore_errors=True)
        SCRATCH.mkdir()
        try:
            self.log = self._listen()
            self._ends.callback(self.log.close)
            self.box = self._box(rp_filter)
            self.internet = Internet(self)
            server = traffic.Echo(self.internet.ns)
            self._ends.callback(server.close)
        except BaseException:
            self._ends.close()
            raise

    def close(self) -> None:
        """End everything that this world started, the last first; goes on to the end whatever fails."""
        self._ends.close()

    # -- what a machine of its own does otherwise --

    def _listen(self) -> observe.Log:
        """The log from now on."""
        return observe.Log()

    def _box(self, rp_filter: int) -> Namespace:
        """The machine under test."""
        return self.namespace("box", rp_filter=rp_filter)

    # -- making --

    def namespace(self, name: str, rp_filter: int = 0) -> Namespace:
        """A further namespace, for things that the world has no word for."""
        ns = Namespace(name, rp_filter=rp_filter)
        self._ends.callback(ns.close)
        return ns

    def provider(
        self, name: str, network: str, wire: str | None = None, nat: bool = False, gateway: str | None = None
    ) -> Provider:
        """A provider for customers in `network`, whose .1 is the gateway unless told. wire: name of an Ethernet interface
        of the box that leads to it. nat: it translates its customers, as a modem-router does; the network is its own then.
        """
        provider = self.providers[name] = Provider(self, name, network, nat, gateway)
        if wire:
            provider.wire(wire)
        return provider

    def lan(self, interface: str = "lan0", network: str = "192.168.1.0/24") -> Lan:
        """An office LAN on a card of the box."""
        return Lan(self, interface, network)

    def ppp_up(
        self, interface: str, local: str, remote: str, provider: Provider | None = None, event: bool = True, **more: Any
    ) -> ppp.Session:
        """A session comes up and pppd runs ip-up. more: ipparam, linkname, defaultroute, dns, tty, speed.

        event=False: as far as the address, no script. provider=None: nobody at the other end.
        """
        session = self.sessions[interface] = ppp.Session(self.box, provider, interface, local, remote, **more)
        self._ends.callback(session.forget)
        self._ends.callback(session.close)
        if event:
            session.up_event()
        return session

    def ppp_down(self, interface: str, gone: bool = True, event: bool = True) -> None:
        """Address (with gone the interface too) away, then ip-down."""
        self.sessions[interface].down(gone, event)

    def dhcp_up(self, interface: str, metric: int | None = None, wait: float | None = 20) -> dhcp.DhcpClient:
        """Start dhclient on an interface of the box and wait until it is bound and its hooks have run."""
        client = dhcp.DhcpClient(self.box, interface, metric)
        client.start(wait)
        return client

    def dhclient_script(self, reason: str, interface: str, **variables: object) -> subprocess.CompletedProcess[str]:
        """Debian's dhclient-script in the box with that reason and these variables (new_ip_address=..., ...)."""
        return dhcp.run_script(self.box, reason, interface, **variables)

    def machine(self) -> Machine:
        """A further root without the package, with a network namespace of its own."""
        self._machines += 1
        machine = Machine(self.namespace(f"machine{self._machines}"))
        self._ends.callback(machine.close)
        return machine

    # -- the product --

    def configure(self, text: str) -> None:
        """Write multihook.toml. Nothing is told of it; the next event or `sync` sees it."""
        CONFIG.parent.mkdir(exist_ok=True)
        CONFIG.write_text(text)

    def multihook(self, *words: str, user: str | None = None, check: bool = False, **more: Any) -> Any:
        """The console command in the box, as root or as that user: CompletedProcess with returncode, stdout, stderr."""
        change = ["setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups"] if user else []
        return self.box.run(*change, "/usr/bin/multihook", *words, check=check, **more)

    # -- traffic --

    def seen(self, far: str | None = None) -> list[Any]:
        """What came from the box, by provider: list of provider.Seen; far: only what went to this address."""
        return [entry for provider in self.providers.values() for entry in provider.seen(far)]

    def wrong(self) -> list[Any]:
        """Packets that came by a line with a source that is not that line's; all were dropped. Should be []."""
        return [entry for entry in self.seen() if not entry.good]

    def _outcome(self, far: str, result: tuple[str, str]) -> traffic.Outcome:
        error, source = result
        entries = self.seen(far)
        return traffic.Outcome(
            not error,
            error,
            source,
            frozenset(e.interface for e in entries if e.good),
            frozenset(e.interface for e in entries if not e.good),
        )

    def connect(
        self,
        source: str | None = None,
        device: str | None = None,
        kind: str = "tcp",
        ns: Namespace | None = None,
        timeout: float = 1.5,
    ) -> traffic.Outcome:
        """The box (or another namespace) asks a far host; socket bound to an address, a device, or nothing.

        kind: tcp, udp or icmp. Each call asks a far host of its own, so nothing else is counted.
        """
        far = self.internet.fresh_host()
        return self._outcome(far, self._ask(ns or self.box, far, kind, source, device, timeout))

    def reach(self, address: str, kind: str = "tcp", pktinfo: bool = True, timeout: float = 1.5) -> traffic.Outcome:
        """A far host asks an address of the box, where a server listens on all addresses; `by` is how answers left.

        pktinfo=False, with udp: a server that leaves its source to the kernel.
        """
        far = self.internet.fresh_host()
        self._ports += 1
        server = traffic.Echo(self.box, self._ports, pktinfo)
        try:
            result = self._ask(self.internet.ns, address, kind, far, None, timeout, self._ports)
        finally:
            server.close()
        return self._outcome(far, result)

    def _ask(
        self,
        ns: Namespace,
        to: str,
        kind: str,
        source: str | None,
        device: str | None,
        timeout: float,
        port: int = traffic.PORT,
    ) -> tuple[str, str]:
        if kind == "icmp":
            return traffic.ping(ns, to, source, device, timeout)
        return {"tcp": traffic.tcp, "udp": traffic.udp}[kind](ns, to, port, source, device, timeout)

    def flow(self, source: str | None = None, device: str | None = None, **more: Any) -> traffic.Flow:
        """A long exchange of the box with FAR; `with world.flow(...) as flow:`, and afterwards flow.lost and so on.

        more: kind="tcp", interval and grace in seconds (traffic.Flow), ns for another client than the box.
        """
        more.setdefault("to", FAR)
        return traffic.Flow(more.pop("ns", self.box), source=source, device=device, **more)

    @contextmanager
    def flow_in(self, address: str, **more: Any) -> Iterator[traffic.Flow]:
        """The same from FAR to a server at that address of the box."""
        self._ports += 1
        server = traffic.Echo(self.box, self._ports)
        try:
            with traffic.Flow(self.internet.ns, address, self._ports, source=FAR, **more) as flow:
                yield flow
        finally:
            server.close()

    # -- observing --

    def rules(self, family: int = 4) -> list[str]:
        """Policy rules of the box as iproute2 prints them, with table numbers."""
        return observe.rules(self.box, family)

    def routes(self, table: str | int = "main", family: int = 4) -> list[str]:
        """Routes of one table of the box as iproute2 prints them."""
        return observe.routes(self.box, table, family)

    def snapshot(self, ours: bool = True, foreign: bool = True) -> dict[str, Any]:
        """Rules, routes, groups, addresses and nft of the box, to compare with ==; see observe.snapshot."""
        return observe.snapshot(self.box, ours, foreign)

    def ip_monitor(self, *objects: str) -> AbstractContextManager[observe.Heard]:
        """What the kernel told of changes in the box meanwhile; see observe.ip_monitor."""
        return observe.ip_monitor(self.box, *objects)

    def route_get(self, destination: str, *words: str) -> str:
        """`ip route get` in the box, one line, or what it said instead: route_get("198.18.0.10", "from", "...")."""
        done = self.box.run("ip", "-N", "route", "get", destination, *words, check=False)
        return (done.stdout or done.stderr).splitlines()[0].strip()

    def strays(self) -> dict[int, str]:
        """Processes in the box that nobody there is known to want: {pid: command line}; DHCP clients are known."""
        found = {}
        for pid in self.box.pids():
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if os.path.basename(line.split(" ")[0]) not in ("dhclient", "dhcpcd", "dhcpcd:") and not self.box.started(pid):
                    found[pid] = line
            except OSError:
                continue
        return found

    def settle(self, seconds: float = 10) -> None:
        """Wait until no hook, script or other program runs in the box."""
        wait_until("the programs in the box to end", lambda: not self.strays(), seconds)

"""Real PPPoE: Roaring Penguin's pppoe-server at the provider, Debian's pppd, pon and poff on the machine."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from world.namespaces import Namespace, wait_until
from world.provider import Provider, Seen

if TYPE_CHECKING:
    from .live import Live

# What the provider's pppd runs: the address is right on that session from now on, or is so no more.
_SCRIPT = """#!/bin/sh
exec nft {word} element inet judge handed_out "{{ \\"$1\\" . $5 }}"
"""
_LOST = "table netdev lost {{ chain from_customer {{ type filter hook ingress device {wire} priority 0; {what} drop; }}; }}"
_CALLS = "ether type 0x8863"  # discovery, RFC 2516
SLOW = 60.0  # seconds: more than any step takes, on an emulated machine that shares its processor


class Pppoe(Provider):
    """Made by Live.pppoe(). Each session gets the next address of the network; the peer is the same for all.

    `ip netns exec` shows its programs /etc/netns/NAME/ppp in the place of /etc/ppp: they run no hook of the machine.
    """

    def __init__(self, live: Live, name: str, network: str, wire: str, interface: str, peer: str) -> None:
        super().__init__(live, name, network, nat=False)
        self.line, self.wire_name, self.peer = interface, wire, peer
        self.ns.ip(f"link add {wire} type veth peer name {wire} netns {live.box.name}", f"link set {wire} up")
        live.box.ip(f"link set {wire} up")
        folder = Path("/etc/netns") / self.ns.name / "ppp"
        folder.mkdir(parents=True, exist_ok=True)
        self._options = folder / "pppoe-server-options"
        (folder / "options").write_text("")
        (folder / "pap-secrets").write_text('"customer" * "secret" *\n')
        self._options.write_text("require-pap\nname provider\nnodetach\nlcp-echo-interval 30\n")
        (folder / "pool").write_text("".join(f"{self.network[host]}\n" for host in range(11, 31)))
        for event, word in (("ip-up", "add"), ("ip-down", "delete")):
            (folder / event).write_text(_SCRIPT.format(word=word))
            (folder / event).chmod(0o755)
        self._server: subprocess.Popen[str] | None = None
        self.serve()

    def serve(self) -> None:
        """Start the server."""
        words = ("/usr/sbin/pppoe-server", "-F", "-I", self.wire_name, "-L", self.peer, "-p", "/etc/ppp/pool", "-S", "internet")
        self._server = self.ns.popen(*words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _programs(self, *names: str) -> list[int]:
        found = []
        for pid in self.ns.pids():
            try:
                if Path(f"/proc/{pid}/comm").read_text().strip() in names:
                    found.append(pid)
            except OSError:
                continue
        return found

    def hang_up(self) -> None:
        """The provider ends the session, as many do each night; the customer is told."""
        for pid in self._programs("pppd"):
            os.kill(pid, signal.SIGTERM)

    def die(self) -> None:
        """The server and everything it started is gone at once; nobody is told."""
        for pid in self._programs("pppd", "pppoe", "pppoe-server", "sh"):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.take_back(self.line)

    def silence(self, calls: bool = False) -> None:
        """Whatever the customer sends is lost, LCP included; calls: only what begins a session."""
        self.ns.nft(_LOST.format(wire=self.wire_name, what=_CALLS if calls else ""))

    def hear(self) -> None:
        """The end of that."""
        self.ns.nft("delete table netdev lost")

    def sessions(self) -> set[str]:
        """Addresses that are right on some session of this provider."""
        listed = self.ns.nft_json("list", "set", "inet", "judge", "handed_out")[0]["set"].get("elem", [])
        return {element["concat"][1] for element in listed}

    def take_back(self, interface: str) -> None:
        """All sessions' addresses."""
        self.ns.nft("flush set inet judge handed_out")

    def seen(self, far: str | None = None) -> list[Seen]:
        """See Provider; sessions are called as their line is here, whatever number they have there."""
        return [
            dataclasses.replace(entry, interface=self.line) if entry.interface.startswith("ppp") else entry
            for entry in super().seen(far)
        ]


class Line:
    """The machine's pppd on one provider's wire, as pppoeconf sets it up; made by Live.line()."""

    def __init__(self, box: Namespace, provider: Pppoe, defaultroute: bool = False) -> None:
        self.box, self.provider, self.name, self.interface = box, provider, provider.name, provider.line
        self.log_path = Path("/tmp/rig") / f"{self.name}.log"
        self.log_path.touch()
        peers = Path("/etc/ppp/peers")
        peers.mkdir(exist_ok=True)
        unit = self.interface.removeprefix("ppp")
        lines = [
            f"plugin pppoe.so\nnic-{provider.wire_name}", 'user customer\npassword secret', "noauth noipdefault hide-password",
            f"noipv6 unit {unit}", f"ipparam {self.name}\nlinkname {self.name}", "persist maxfail 0 holdoff 1",
            "lcp-echo-interval 2 lcp-echo-failure 3", f"debug\nlogfile {self.log_path}", "defaultroute" if defaultroute else "nodefaultroute",
        ]  # fmt: skip
        (peers / self.name).write_text("\n".join(lines) + "\n")

    def start(self) -> str:
        """pon; the address when ip-up has run to its end."""
        before = self.runs("ip-up")
        self.dial()
        self.wait("ip-up", before + 1)
        return self.wait_address()

    def dial(self) -> None:
        """pon alone."""
        self.box.run("pon", self.name)

    def stop(self) -> None:
        """poff; returns when pppd has ended."""
        pid = self.pid
        self.box.run("poff", self.name)
        wait_until(f"pppd of {self.name} to end", lambda: not pid or not Path(f"/proc/{pid}").exists(), SLOW)

    @property
    def pid(self) -> int | None:
        """Its pppd, if it runs; Debian 12 and 13 have its file in different folders."""
        for folder in ("/run", "/run/pppd"):
            try:
                pid = int((Path(folder) / f"ppp-{self.name}.pid").read_text().split()[0])
                os.kill(pid, 0)
                return pid
            except (OSError, ValueError, IndexError):
                continue
        return None

    def kill(self, number: int) -> None:
        """A signal to pppd alone."""
        assert self.pid, f"pppd of {self.name} does not run"
        os.kill(self.pid, number)

    @property
    def address(self) -> str | None:
        """The interface's address now."""
        return next(iter(self.box.addresses(self.interface)), None)

    def wait_address(self, other_than: str | None = None) -> str:
        """Until there is one, that the provider knows of too."""

        def found() -> str | None:
            address = self.address
            return address if address != other_than and address in self.provider.sessions() else None

        return str(self._waited(f"another address than {other_than}", found))

    def runs(self, script: str) -> int:
        """How often that script of /etc/ppp has run to its end, as pppd says with option debug."""
        return len(re.findall(rf"^Script /etc/ppp/{script} finished", self.log(), re.MULTILINE))

    def starts(self, script: str) -> int:
        """How often it was begun."""
        return len(re.findall(rf"^Script /etc/ppp/{script} started", self.log(), re.MULTILINE))

    def wait(self, script: str, times: int) -> None:
        """Until that script has run so often."""
        self._waited(f"{script} to have run {times} times", lambda: self.runs(script) >= times)

    def _waited(self, what: str, condition: object) -> object:
        try:
            return wait_until(f"{self.name}: {what}", condition, SLOW, pause=0.1)  # type: ignore[arg-type]
        except AssertionError as problem:
            raise AssertionError(f"{problem}; pppd said:\n{self.log()[-4000:]}") from None

    def log(self) -> str:
        """What it said."""
        return self.log_path.read_text(errors="replace")

    def close(self) -> None:
        """End it, and not gently if that does not help."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            pid = self.pid
            if not pid:
                return
            os.kill(pid, number)
            try:
                wait_until("pppd to end", lambda: self.pid is None, 15)
            except AssertionError:
                continue

"""What leaves the box by which line, judged for each moment: senders on every address that never pause, and a recorder.

Each datagram tells by its TTL in which moment it was sent, and by its port by whom. A moment ends when a test has
changed an address, so what is still on its way then is not mistaken for what was sent afterwards.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from .namespaces import Namespace, wait_until

if TYPE_CHECKING:
    from .world import World

# Dropped there: a datagram that is answered to an address that is gone would be sent on by the box.
FIRST_PORT = 4096  # one a sender from here on
SINK = "198.18.9.9"
FIRST, LAST = 66, 250  # TTLs; the kernel's own 64 is not among them
SECONDS_BETWEEN = 0.01
ROUNDS_BETWEEN = 4  # from one new connection of an address to the next
# In the family that sees the port of a switch: `family` inet or bridge.
_RECORDER = """
table {family} wire {{
    set seen {{ typeof iifname . ip saddr . ip ttl . udp dport; flags dynamic; counter; size 65535; }}
    chain from_customer {{
        type filter hook prerouting priority -400; policy accept;
        ip protocol udp ip daddr {sink} update @seen {{ iifname . ip saddr . ip ttl . udp dport }}
    }}
}}
"""


class Wire:
    """Made by a test; senders start at once. `changing()` around whatever gives or takes an address."""

    def __init__(
        self, world: World, lines: tuple[str, ...], lan: Namespace | None = None, strangers: frozenset[str] = frozenset()
    ) -> None:
        """lines: the box's interfaces that lead to providers. lan: where a client sends without a pause.

        strangers: addresses that may be on such an interface and are no provider's; nothing is sent from them.
        """
        self.world, self.lines, self._strangers = world, lines, strangers
        self._recorders = []
        for provider in world.providers.values():
            family = "bridge" if provider.interface == "switch" else "inet"
            provider.ns.nft(_RECORDER.format(family=family, sink=SINK))
            self._recorders.append((provider.ns, family))
        sink = f"type filter hook input priority 0; ip daddr {SINK} drop"
        world.internet.ns.nft(f"table ip sink {{ chain in {{ {sink}; }}; }}")
        self.moment = FIRST
        # By moment: the right sources of each line; None where nothing is promised.
        self._right: dict[int, dict[str, set[str]] | None] = {}
        self.is_promised = False
        # By line: addresses that it had together with another line and has lost. Until a run has seen that, the
        # kernel's own answer (fib: is it local?) does not tell it from one that is still on both.
        self._doubtful: dict[str, set[str]] = {line: set() for line in lines}
        self._last: dict[str, set[str]] = {}
        # By address: the lines that had it when a run had last seen to all, and that its sockets leave by therefore.
        self._settled: dict[str, set[str]] = {}
        self._bound: dict[int, dict[str, set[str]]] = {}  # and in each moment
        self.rounds = 0  # how often each sender has sent
        self._lock = threading.Lock()
        self._senders: dict[str, socket.socket] = {"unbound": world.box.socket(kind=socket.SOCK_DGRAM)}
        if lan:
            self._senders["lan"] = lan.socket(kind=socket.SOCK_DGRAM)
        self._next()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, name="wire", daemon=True)
        self._thread.start()

    # -- moments --

    def _addresses(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {line: set() for line in self.lines}
        for entry in self.world.box.ip_json("-4", "addr"):
            if entry["ifname"] in found:
                found[entry["ifname"]] = {a["local"] for a in entry["addr_info"]} - self._strangers
        return found

    def _next(self) -> None:
        """A new moment, with the addresses that there are; each gets its sender, and those of old ones go on."""
        there = self._addresses()
        for address in {address for on_line in there.values() for address in on_line} - self._senders.keys():
            sender = self.world.box.socket(kind=socket.SOCK_DGRAM)
            with suppress(OSError):  # gone again
                sender.bind((address, 0))
                with self._lock:
                    self._senders[address] = sender
        for line, addresses in there.items():
            elsewhere = {address for other in there if other != line for address in there[other]}
            self._doubtful[line] |= (self._last.get(line, set()) - addresses) & elsewhere
        self._last = there
        allowed = {line: addresses | self._doubtful[line] for line, addresses in there.items()}
        with self._lock:
            right = self._right.get(self.moment)
            if right is not None:
                for line, addresses in allowed.items():
                    right[line] |= addresses
            before = self._bound.get(self.moment, {})
            holders = {a: {line for line in there if a in there[line]} for on_line in there.values() for a in on_line}
            for address in [a for a in before if before[a] != holders.get(a)]:
                del before[address]
            self._settled = {a: lines for a, lines in self._settled.items() if holders.get(a) == lines}
            self.moment = min(self.moment + 1, LAST)
            self._right[self.moment] = allowed if self.is_promised and self.moment < LAST else None
            self._bound[self.moment] = dict(self._settled)

    @contextmanager
    def changing(self, again: str = "") -> Iterator[None]:
        """Addresses, or what is promised of them, change inside; before and after are moments of their own.

        again: an address that may be taken away and given anew inside. A run may have seen it gone, so its line is not
        settled any more, though it looks as before.
        """
        self._next()
        try:
            yield
        finally:
            self.forget_lines_of(frozenset((again,)))

    def promise(self, is_promised: bool, untold: frozenset[str] = frozenset()) -> None:
        """From now on every datagram that leaves by a line has a source of that line, and who is bound to an address
        that is there now leaves by the line of that address; or nothing is promised.

        What left before is judged by what was promised then.

        untold: addresses whose line nobody has been told of: of who is bound to them the second is not said.
        """
        for doubtful in self._doubtful.values():
            doubtful.clear()
        self.is_promised = is_promised
        there = self._addresses()
        self._settled = {a: {line for line in there if a in there[line]} for on_line in there.values() for a in on_line}
        self.forget_lines_of(untold)

    def forget_lines_of(self, addresses: frozenset[str]) -> None:
        """From now on who is bound to them may leave by any line that gives him a right source."""
        for address in addresses:
            self._settled.pop(address, None)
        with self._lock:
            for address in addresses:
                self._bound.get(self.moment, {}).pop(address, None)
        self._next()

    @property
    def is_full(self) -> bool:
        """Whether there are few moments left."""
        return self.moment > LAST - 10

    def forget(self) -> None:
        """Moments and what was seen in them: counted from the first again. Nothing may be on its way."""
        with self._lock:
            for ns, family in self._recorders:
                ns.nft(f"flush set {family} wire seen")
            self.moment, self._right, self._bound = FIRST, {}, {}
        self._next()

    # -- senders --

    def _send(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN):
            with self._lock:
                is_anew = self.rounds % ROUNDS_BETWEEN == 0
                for number, (name, sender) in enumerate(self._senders.items()):
                    # The box takes one from what it forwards.
                    ttl = self.moment + (name == "lan")
                    self._send_by(sender, ttl, FIRST_PORT + number)
                    if is_anew and name not in ("lan", "unbound"):
                        # Translation is decided once for a connection: a new one may go where an old one is stopped.
                        with self.world.box.socket(kind=socket.SOCK_DGRAM) as another, suppress(OSError):
                            another.bind((name, 0))
                            self._send_by(another, ttl, FIRST_PORT + number)
                self.rounds += 1

    @staticmethod
    def _send_by(sender: socket.socket, ttl: int, port: int) -> None:
        with suppress(OSError):  # refused: what is to be
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            sender.sendto(b"", (SINK, port))

    def let_send(self, seconds: float = 10) -> None:
        """Until each sender has sent more, by new connections too, and by each line that is up something was seen to
        leave, at most that much later; to be asked where something is promised. What was before forget() does not count.
        """
        self.let_all_send()
        up = {entry["ifname"] for entry in self.world.box.ip_json("link") if {"UP", "LOWER_UP"} <= {*entry["flags"]}}
        lines = {line for line, addresses in self._addresses().items() if addresses} & up
        for line in sorted(lines - self._used()):
            wait_until(f"a datagram to leave by {line}", lambda line=line: line in self._used(), seconds)  # type: ignore[misc]

    def let_all_send(self) -> None:
        """Until each sender has sent more, by new connections too; whether it left by a line is not asked."""
        enough = self.rounds + ROUNDS_BETWEEN + 2
        wait_until("each sender to send", lambda: self.rounds >= enough)

    def close(self) -> None:
        """No more is sent."""
        self._stop.set()
        self._thread.join()
        for sender in self._senders.values():
            sender.close()

    # -- the verdict --

    def wrong(self) -> list[str]:
        """Each (line, source, moment) that should not have been; to be asked when nothing changes any more."""
        found = []
        names = list(self._senders)
        for line, source, moment, port, packets in self._recorded():
            right = self._right.get(moment)
            if line not in self.lines or right is None:
                continue
            bound = names[port - FIRST_PORT]
            what = f"{packets} x {source} by {line} from a socket bound to {bound} in moment {moment - FIRST}"
            if source not in right[line]:
                found.append(f"{what}, when it had {sorted(right[line])}")
            elif line not in self._bound[moment].get(bound, self.lines):
                found.append(f"{what}, when that was the address of {sorted(self._bound[moment][bound])}")
        return found

    def _recorded(self) -> Iterator[tuple[str, str, int, int, int]]:
        """(line, source, moment, port, packets)."""
        for ns, family in self._recorders:
            for entry in ns.nft_json("list", "set", family, "wire", "seen")[0]["set"].get("elem", []):
                yield (*entry["elem"]["val"]["concat"], entry["elem"]["counter"]["packets"])

    def _used(self) -> set[str]:
        """The lines by which something left while something was promised of it."""
        return {line for line, _, moment, _, _ in self._recorded() if self._right.get(moment) is not None}

    def seen(self) -> int:
        """How many datagrams were recorded while something was promised of them."""
        return sum(packets for _, _, moment, _, packets in self._recorded() if self._right.get(moment) is not None)

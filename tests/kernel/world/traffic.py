"""Servers, single exchanges and long flows, and which link each of them took."""

from __future__ import annotations

import errno
import select
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from .namespaces import Namespace

if TYPE_CHECKING:
    from .world import World

IP_PKTINFO = 8
PORT = 7  # echo, RFC 862
AT_ONCE = 1.0  # seconds: what the kernel refuses by itself takes none, and a neighbour that is asked in vain 3
REFUSALS = {"ENETUNREACH", "EHOSTUNREACH", "ENODEV"}


class Echo:
    """TCP and UDP echo server on every address of a namespace, in a thread of the test.

    TCP: the first answer to a connection is a line with the peer's address as seen here. UDP: answers from the address
    that was asked (IP_PKTINFO); with pktinfo=False from the one that the kernel chooses, as careless programs do.
    """

    def __init__(self, ns: Namespace, port: int = PORT, pktinfo: bool = True) -> None:
        self.port, self.pktinfo = port, pktinfo
        self._tcp = ns.socket()
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._tcp.bind(("0.0.0.0", port))
        self._tcp.listen(512)
        self._udp = ns.socket(kind=socket.SOCK_DGRAM)
        self._udp.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        self._udp.bind(("0.0.0.0", port))
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for sock in (self._tcp, self._udp, self._woken):
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name=f"echo {ns.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close everything, connections included."""
        self._wake.close()
        self._thread.join()

    def _serve(self) -> None:
        running = True
        while running:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    running = False
                elif key.fileobj is self._tcp:
                    self._accept()
                elif key.fileobj is self._udp:
                    self._datagram()
                else:
                    self._stream(key.fileobj)  # type: ignore[arg-type]
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _accept(self) -> None:
        connection, peer = self._tcp.accept()
        connection.setblocking(False)
        connection.send(f"{peer[0]}\n".encode())
        self._selector.register(connection, selectors.EVENT_READ)

    def _stream(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(65536)
            if data:
                connection.send(data)
                return
        except OSError:
            pass
        self._selector.unregister(connection)
        connection.close()

    def _datagram(self) -> None:
        try:
            data, ancillary, _, peer = self._udp.recvmsg(65536, socket.CMSG_SPACE(12))
            if self.pktinfo:
                # struct in_pktinfo: ifindex, spec_dst, addr; ifindex 0 leaves the way to the routing tables.
                _, local, _ = struct.unpack("=I4s4s", ancillary[0][2])
                info = struct.pack("=I4s4s", 0, local, bytes(4))
                self._udp.sendmsg([data], [(socket.IPPROTO_IP, IP_PKTINFO, info)], 0, peer)
            else:
                self._udp.sendto(data, peer)
        except OSError:
            pass  # no way back: the client misses an answer, which is what is counted


@dataclass(frozen=True)
class Outcome:
    """What became of one exchange, and what crossed the providers meanwhile."""

    ok: bool  # asked and answered
    error: str  # "" or the errno name: ENETUNREACH, EHOSTUNREACH, ETIMEDOUT, ...
    source: str  # the client's address as the server saw it; "" if it never answered
    by: frozenset[str]  # lines (wan1, ppp0, ...) by which packets of it left the box with a right source
    wrong: frozenset[str]  # lines by which they left with a source that is not that line's, and were dropped


def dial(ns: Namespace, kind: int, source: str | None, device: str | None, timeout: float) -> socket.socket:
    """A client socket in that namespace, bound to an address, a device, both or nothing."""
    sock = ns.socket(kind=kind)
    sock.settimeout(timeout)
    try:
        if device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        if source:
            sock.bind((source, 0))
    except OSError:
        sock.close()
        raise
    return sock


def tcp(
    ns: Namespace, to: str, port: int, source: str | None = None, device: str | None = None, timeout: float = 2
) -> tuple[str, str]:
    """Connect to an Echo, have one line echoed: (error name or "", own address as the server saw it)."""
    with dial(ns, socket.SOCK_STREAM, source, device, timeout) as sock:
        seen = b""
        try:
            sock.connect((to, port))
            while not seen.endswith(b"\n"):
                seen += _some(sock)
            sock.sendall(b"0123456789\n")
            back = b""
            while len(back) < 11:
                back += _some(sock)
        except OSError as problem:
            return _name(problem), seen.decode().strip()
        return "", seen.decode().strip()


def _some(sock: socket.socket) -> bytes:
    data = sock.recv(4096)
    if not data:
        raise ConnectionResetError(errno.ECONNRESET, "closed by the server")
    return data


def udp(
    ns: Namespace, to: str, port: int, source: str | None = None, device: str | None = None, timeout: float = 1
) -> tuple[str, str]:
    """Send one datagram to an Echo: (error name or "", ""). An answer from another address than asked is ELSEWHERE."""
    with dial(ns, socket.SOCK_DGRAM, source, device, timeout) as sock:
        try:
            sock.sendto(b"ask", (to, port))
            _, answered = sock.recvfrom(4096)
        except OSError as problem:
            return _name(problem), ""
        return ("" if answered == (to, port) else "ELSEWHERE"), ""


def ping(
    ns: Namespace, to: str, source: str | None = None, device: str | None = None, timeout: float = 1
) -> tuple[str, str]:
    """One echo request by ping(8): ("" or ETIMEDOUT or what ping said, "")."""
    words = ["ping", "-n", "-c1", f"-W{timeout:g}"]
    # Both: the device by SO_BINDTODEVICE, and the source is then the device's own.
    bound = source or device
    done = ns.run(*words, *(["-I", bound] if bound else []), to, check=False)
    if done.returncode == 0:
        return "", ""
    said = (done.stdout + done.stderr).strip()
    return ("ENETUNREACH" if "unreachable" in said else "ETIMEDOUT" if done.returncode == 1 else said), ""


def _name(problem: OSError) -> str:
    if isinstance(problem, TimeoutError) and problem.errno is None:
        return "ETIMEDOUT"
    return errno.errorcode.get(problem.errno or 0, str(problem))


@dataclass
class Flow:
    """Numbered messages at a steady pace between a client and an Echo, counted while something happens.

    As a context manager: runs inside, and gives the last answers some time to arrive at the end.
    """

    ns: Namespace
    to: str
    port: int = PORT
    source: str | None = None
    device: str | None = None
    kind: str = "udp"
    interval: float = 0.01  # seconds between messages
    grace: float = 1.0  # seconds for the last answers
    sent: int = 0
    received: int = 0
    errors: list[str] = field(default_factory=list)  # errno names: not even sent, or connection broken
    # Seconds without an answer, at worst, by the messages sent meanwhile: while the whole machine stands still there are
    # none, and that is nobody's gap.
    longest_gap: float = 0.0

    @property
    def lost(self) -> int:
        """Messages without an answer, those included that could not be sent."""
        return self.sent - self.received

    def __enter__(self) -> Flow:
        stream = self.kind == "tcp"
        self._sock = dial(self.ns, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM, self.source, self.device, 2)
        try:
            self._sock.connect((self.to, self.port))
            if stream:
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while not _some(self._sock).endswith(b"\n"):
                    pass
        except OSError:
            self._sock.close()
            raise
        self._sock.setblocking(False)
        self._stop = threading.Event()
        self._unanswered = 0
        self._thread = threading.Thread(target=self._run, name=f"flow to {self.to}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._sock.close()

    def _run(self) -> None:
        answers = 0
        following = time.monotonic()
        while not self._stop.is_set():
            now = time.monotonic()
            if now >= following:
                self.sent += 1
                following = max(following + self.interval, now)
                self._unanswered += 1
                self.longest_gap = max(self.longest_gap, self._unanswered * self.interval)
                try:
                    self._sock.send(b"%07d\n" % self.sent)
                except OSError as problem:
                    self.errors.append(_name(problem))
            answers = self._collect(max(0.0, following - time.monotonic()), answers)
        end = time.monotonic() + self.grace
        while self.received < self.sent and time.monotonic() < end:
            answers = self._collect(0.05, answers)

    def _collect(self, wait: float, octets: int) -> int:
        """Read what is there within that time; octets: those of an incomplete TCP message so far."""
        if not select.select([self._sock], [], [], wait)[0]:
            return octets
        try:
            data = self._sock.recv(65536)
        except OSError as problem:
            self.errors.append(_name(problem))
            time.sleep(self.interval)
            return octets
        if not data:
            self.errors.append("ECONNRESET")
            self._stop.set()
            return octets
        self._unanswered = 0
        octets += len(data)
        self.received += octets // 8
        return octets % 8


@contextmanager
def bound_sockets(world: World, address: str, device: str) -> Iterator[dict[str, socket.socket]]:
    """Sockets that were bound while the link was well."""
    made = {}
    try:
        for kind, number in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
            made[f"{kind} by address"] = dial(world.box, number, address, None, 0.2)
            made[f"{kind} by device"] = dial(world.box, number, None, device, 0.2)
            made[f"{kind} by both"] = dial(world.box, number, address, device, 0.2)
        yield made
    finally:
        for sock in made.values():
            sock.close()


def ask(world: World, sock: socket.socket) -> tuple[str, float]:
    """Try to reach a far host: (errno name or "" when it answered, seconds); no provider saw any of it."""
    far = world.internet.fresh_host()
    start = time.monotonic()
    try:
        if sock.type == socket.SOCK_STREAM:
            sock.connect((far, PORT))
        else:
            sock.sendto(b"ask", (far, PORT))
            sock.recv(9)
        error = ""
    except OSError as problem:
        error = errno.errorcode[problem.errno] if problem.errno else "ETIMEDOUT"
    taken = time.monotonic() - start
    assert world.seen(far) == [], error
    return error, taken

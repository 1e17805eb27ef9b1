"""Lines to the internet for a place: PPP lines made of tun devices, Ethernet lines of veth pairs; and the log's socket."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import time
from pathlib import Path

from places import ip

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PEER = "192.0.2.1"  # of all PPP lines: a provider has one access concentrator


class Log:
    """Takes the datagrams that programs send to syslog."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind("/run/log.socket")
        self._socket.setblocking(False)

    def taken(self) -> list[str]:
        """The lines since it was last asked."""
        lines = []
        while True:
            try:
                lines.append(self._socket.recv(1 << 16).decode(errors="replace"))
            except BlockingIOError:
                return lines


class Line:
    """A line whose address alternates between two, of 198.18.0.0/15 (RFC 2544: for measuring)."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number
        self._turn = 0

    @property
    def address(self) -> str:
        """The one that it has."""
        return self._of(self._turn)

    @property
    def former(self) -> str:
        """The one that it had before, or will have next."""
        return self._of(1 - self._turn)

    def _of(self, turn: int) -> str:
        return f"198.{18 + turn}.{self.number // 250}.{self.number % 250 + 1}"

    def exchange(self) -> None:
        """From here on the other address is its own."""
        self._turn = 1 - self._turn


class Ppp(Line):
    """pppN: point-to-point; it is there while its descriptor is open, as with pppd."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ppp{number}", number)
        self._fd = -1
        self.open()

    def open(self) -> None:
        """The device, without an address."""
        self._fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(self._fd, TUNSETIFF, struct.pack("16sH22x", self.name.encode(), IFF_TUN | IFF_NO_PI))

    def close(self) -> None:
        """The device is gone, with its address and routes."""
        os.close(self._fd)
        while Path("/sys/class/net", self.name).exists():
            time.sleep(0.001)  # the kernel takes it away a moment later

    def add(self) -> list[str]:
        """What brings it up, for ip(8)."""
        return [f"addr add {self.address} peer {PEER} dev {self.name}", f"link set {self.name} up mtu 1492"]

    def renumber(self) -> list[str]:
        """What gives the same device its other address, for ip(8)."""
        before = self.address
        self.exchange()
        return [f"addr del {before} peer {PEER} dev {self.name}", *self.add()]

    def arguments(self) -> tuple[str, ...]:
        """What pppd tells its scripts: interface, tty, speed, local and remote address, ipparam."""
        return self.name, "/dev/pts/0", "0", self.address, PEER, ""


class Ethernet(Line):
    """A card with an address of a /24, whose gateway is the .254 of it."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(name, number)
        ip(
            f"link add {name} type veth peer name far{name}", f"link set {name} up", f"link set far{name} up",
            *self.add(),
        )  # fmt: skip

    def _of(self, turn: int) -> str:
        return f"198.18.{self.number}.{50 + turn}"

    @property
    def gateway(self) -> str:
        """The next hop."""
        return f"198.18.{self.number}.254"

    @property
    def network(self) -> str:
        """The network of both addresses."""
        return f"198.18.{self.number}.0/24"

    def add(self) -> list[str]:
        """What gives it its address, for ip(8)."""
        return [f"addr add {self.address}/24 dev {self.name}"]

    def renumber(self) -> list[str]:
        """What gives it its other address, for ip(8)."""
        before = self.address
        self.exchange()
        return [f"addr del {before}/24 dev {self.name}", *self.add()]

"""Point-to-point sessions as pppd makes them, without PPP in the kernel: tun devices called pppN, and Debian's scripts.

What pppd passes: captures of pppd 2.4.9 and 2.5.2. Addresses are set before, and gone after, the script runs; under
`persist` each session has a new interface of the old name.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .namespaces import Namespace, wait_until

if TYPE_CHECKING:
    from .provider import Provider

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
MTU = 1492

EVENT = "/usr/lib/multihook/event"
PEER = "203.0.113.1"


def event(script: str, interface: str, local: str, *before: str) -> list[str]:
    """The command line of one event of pppd."""
    return [*before, EVENT, "pppd", script, interface, "/dev/pts/9", "0", local, PEER, ""]


def open_tun(ns: Namespace, name: str) -> int:
    """Make a tun device in that namespace; it lives as long as the descriptor that is returned."""
    with ns.entered():
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    except OSError:
        os.close(fd)
        raise
    return fd


class Session:
    """One pppd of the box; made by World.ppp_up(). Its interface exists from here on, until drop()."""

    def __init__(
        self,
        box: Namespace,
        provider: Provider | None,
        interface: str,
        local: str,
        remote: str,
        ipparam: str = "",
        linkname: str = "",
        tty: str = "/dev/pts/9",
        speed: str = "0",
        defaultroute: bool = False,
        dns: tuple[str, ...] = (),
    ) -> None:
        """provider None: nobody at the other end (a dial-in session of an access server, say). dns: of usepeerdns."""
        self.box, self.provider, self.interface = box, provider, interface
        self.local, self.remote, self.ipparam, self.linkname = local, remote, ipparam, linkname
        self.tty, self.speed, self.defaultroute, self.dns = tty, speed, defaultroute, dns
        self._shuttle: subprocess.Popen[bytes] | None = None
        self._fd: int | None = None
        self._wire()

    # -- the line --

    def _wire(self) -> None:
        """Make the interface, with its address, as pppd does before it runs ip-up."""
        mine = open_tun(self.box, self.interface)
        if self.provider is None:
            self._fd = mine
        else:
            far = open_tun(self.provider.ns, self.interface)
            program = str(Path(__file__).with_name("shuttle.py"))
            words = [sys.executable, "-IS", program, str(mine), str(far)]
            self._shuttle = subprocess.Popen(words, pass_fds=(mine, far), stdin=subprocess.DEVNULL)
            os.close(mine)
            os.close(far)
            self.provider.ns.ip(
                f"addr add {self.remote} peer {self.local} dev {self.interface}",
                f"link set {self.interface} up mtu {MTU}",
            )
            self.provider.hand_out(self.interface, [self.local])
        self.box.ip(self._address("add"), f"link set {self.interface} up mtu {MTU}")
        if self.defaultroute:
            # pppd adds none where there is a default route already (without `replacedefaultroute`).
            self.box.run("ip", "route", "add", "default", "dev", self.interface, "scope", "link", check=False)

    def _address(self, word: str) -> str:
        return f"addr {word} {self.local} peer {self.remote}/32 dev {self.interface}"

    @property
    def is_there(self) -> bool:
        """Whether its interface is; one of the same name may be another session's."""
        return self._shuttle is not None or self._fd is not None

    def drop(self) -> None:
        """The interface is gone, with its address and routes: what SIGKILL does to pppd. No event."""
        self.close()
        if self.provider:
            self.provider.take_back(self.interface)

    def forget(self) -> None:
        """At the end of a test: what Debian's scripts wrote, where no ip-down took it back."""
        Path(f"/etc/resolv.conf.pppd-backup.{self.interface}").unlink(missing_ok=True)

    def close(self) -> None:
        """The interface is gone at both ends; nothing else."""
        if self._shuttle:
            self._shuttle.kill()
            self._shuttle.wait()
            self._shuttle = None
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        # The kernel takes the device away a moment after the last descriptor.
        wait_until(f"{self.interface} to vanish", lambda: self.box.interface(self.interface) is None)

    def lose_address(self) -> None:
        """Only the address goes, the interface stays (pppd without persist, just before ip-down). No event."""
        self.box.ip(self._address("del"), f"link set {self.interface} down")

    def readdress(self, local: str, remote: str | None = None) -> None:
        """Another address on the same interface, at both ends. No event: say up_event() or leave it."""
        self.box.ip(self._address("del"))
        if self.provider:
            self.provider.ns.ip(f"addr del {self.remote} peer {self.local} dev {self.interface}")
            self.provider.take_back(self.interface)
        self.local, self.remote = local, remote or self.remote
        if self.provider:
            self.provider.ns.ip(f"addr add {self.remote} peer {self.local} dev {self.interface}")
            self.provider.hand_out(self.interface, [self.local])
        self.box.ip(self._address("add"))
        if self.defaultroute:
            self.box.run("ip", "route", "add", "default", "dev", self.interface, "scope", "link", check=False)

    # -- what pppd does with all that --

    def down(self, gone: bool = True, event: bool = True) -> None:
        """The session ends: address away, with gone the interface too, then ip-down."""
        if gone:
            self.drop()
        else:
            self.lose_address()
        if event:
            self.down_event()

    def reconnect(self, local: str | None = None, remote: str | None = None, event: bool = True) -> None:
        """`persist`: the old interface goes, ip-down runs, a new one of the same name comes, ip-up runs."""
        if self.box.interface(self.interface) is not None:
            self.drop()
            if event:
                self.down_event()
        self.local, self.remote = local or self.local, remote or self.remote
        self._wire()
        if event:
            self.up_event()

    def up_event(self, wait: bool = True, **changes: str) -> subprocess.Popen[bytes]:
        """Run /etc/ppp/ip-up as pppd does; changes: other values than the session's, such as local="192.0.2.9"."""
        return self.event("ip-up", wait, **changes)

    def down_event(self, wait: bool = True, **changes: str) -> subprocess.Popen[bytes]:
        """Run /etc/ppp/ip-down as pppd does, whatever state the interface is in."""
        return self.event("ip-down", wait, **changes)

    def event(self, script: str, wait: bool = True, **changes: str) -> subprocess.Popen[bytes]:
        """Run a script of /etc/ppp exactly as pppd does: six arguments, a cleared environment, own session, SIGPIPE
        ignored, /dev/null, folder /. wait: to its end, which must be status 0; else the running process.

        changes: local, remote, ipparam, interface, tty, speed, linkname; env_NAME=value sets one variable only (pppd's
        environment can be stale, its arguments not).
        """
        values = {
            "interface": self.interface, "tty": self.tty, "speed": self.speed, "local": self.local,
            "remote": self.remote, "ipparam": self.ipparam, "linkname": self.linkname,
        }
        extra = {name[4:]: value for name, value in changes.items() if name.startswith("env_")}
        values.update({name: value for name, value in changes.items() if not name.startswith("env_")})
        env = {
            "ORIG_UID": "0",
            "PPPLOGNAME": "root",
            "DEVICE": values["tty"],
            "PPPD_PID": str(self._shuttle.pid if self._shuttle else os.getpid()),
            "IFNAME": values["interface"],
            "UNIT": values["interface"].lstrip("abcdefghijklmnopqrstuvwxyz"),
            "IPLOCAL": values["local"],
            "IPREMOTE": values["remote"],
        }
        if values["linkname"]:
            env["LINKNAME"] = values["linkname"]
        if self.dns:
            env["USEPEERDNS"] = "1"
            env.update({f"DNS{n}": server for n, server in enumerate(self.dns, start=1)})
            # pppd writes it before ip-up; Debian's 0000usepeerdns reads it.
            Path("/etc/ppp/resolv.conf").write_text("".join(f"nameserver {server}\n" for server in self.dns))
        if script == "ip-down":
            env.update({"CONNECT_TIME": "6", "BYTES_SENT": "48", "BYTES_RCVD": "48"})
        env.update(extra)
        names = ("interface", "tty", "speed", "local", "remote", "ipparam")
        process = subprocess.Popen(
            self.box.argv(f"/etc/ppp/{script}", *(values[name] for name in names)),
            env=env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            restore_signals=False,  # Python ignores SIGPIPE, and so does pppd
        )
        if wait:
            status = process.wait()
            assert status == 0, f"/etc/ppp/{script} {self.interface}: exit status {status}"
        return process

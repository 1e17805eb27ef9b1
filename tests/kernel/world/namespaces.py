"""One network namespace: run programs, open sockets and set up interfaces in it."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd: int) -> None:
    """setns(2) for this thread only. Not os.setns: Debian 12 has Python 3.11."""
    if _libc.setns(fd, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def wait_until(what: str, condition: Callable[[], Any], seconds: float = 10.0, pause: float = 0.02) -> Any:
    """The first true value of condition(); AssertionError naming `what` after that many seconds."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {seconds:g} s in vain for: {what}"
        time.sleep(pause)


class Namespace:
    """A named network namespace; its name is that of /run/netns/NAME."""

    def __init__(self, name: str, forward: bool = True, rp_filter: int = 0) -> None:
        """Make it, with lo up and 127.0.0.1; rp_filter is what interfaces made later start with."""
        self.name = name
        self._started: list[subprocess.Popen[str]] = []
        run_tool("ip", "netns", "add", name)
        self._fd = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        self.ip("link set lo up")
        self.sysctl("net.ipv4.ip_forward", int(forward))
        self.sysctl("net.ipv4.conf.all.rp_filter", 0)
        self.sysctl("net.ipv4.conf.default.rp_filter", rp_filter)
        # Without these each new interface is a source of messages for two seconds.
        self.sysctl("net.ipv6.conf.default.accept_dad", 0)
        self.sysctl("net.ipv6.conf.default.router_solicitations", 0)

    # -- being inside --

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is in the namespace: what it opens meanwhile (sockets, /dev/net/tun, /proc/sys/net) is too."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self._fd)
            try:
                yield
            finally:
                _setns(before)
        finally:
            os.close(before)

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, proto: int = 0) -> socket.socket:
        """A socket that belongs to this namespace for as long as it lives."""
        with self.entered():
            return socket.socket(family, kind, proto)

    def sysctl(self, name: str, value: object = None) -> str:
        """Set it if a value is given; the value that holds now. Names with dots only (no VLAN interfaces)."""
        path = "/proc/sys/" + name.replace(".", "/")
        with self.entered():
            if value is not None:
                with open(path, "w") as file:
                    file.write(str(value))
            with open(path) as file:
                return file.read().strip()

    # -- programs --

    def argv(self, *argv: str) -> list[str]:
        """The command line that runs argv in this namespace (with its own /sys, as `ip netns exec` does)."""
        return ["/usr/sbin/ip", "netns", "exec", self.name, *argv]

    def run(
        self,
        *argv: str,
        check: bool = True,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        **more: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end, output as text; check: AssertionError with the output unless it exits with 0."""
        return run_tool(*self.argv(*argv), check=check, input=input, env=env, timeout=timeout, **more)

    def popen(self, *argv: str, **more: Any) -> subprocess.Popen[str]:
        """Start and go on; the world ends it with the test, if it still runs."""
        process = subprocess.Popen(self.argv(*argv), text=True, **more)
        self._started.append(process)
        return process

    def ip(self, *lines: str) -> None:
        """`ip` commands without the word ip, all in one `ip -batch`; the first that fails ends it: AssertionError."""
        run_tool("ip", "-n", self.name, "-batch", "-", input="\n".join(lines) + "\n")

    def ip_json(self, *words: str) -> list[dict[str, Any]]:
        """What `ip -N -j WORDS` lists; numbers instead of names for tables, protocols and groups."""
        text = run_tool("ip", "-n", self.name, "-N", "-j", *words).stdout
        # `ip` prints nothing at all, or empty objects, where there is nothing to list.
        return [entry for entry in json.loads(text or "[]") if entry]

    def nft(self, text: str) -> str:
        """`nft -f -` with this text; its output."""
        return self.run("nft", "-f", "-", input=text).stdout

    def nft_json(self, *words: str) -> list[dict[str, Any]]:
        """The objects of `nft -j WORDS`, the one that names nft's version left out."""
        found = json.loads(self.run("nft", "-j", *words).stdout)["nftables"]
        return [entry for entry in found if "metainfo" not in entry]

    # -- what is in it --

    def interface(self, name: str) -> dict[str, Any] | None:
        """What `ip -d link show` knows of it (ifindex, flags, group, ...), or None when there is none."""
        found = run_tool("ip", "-n", self.name, "-N", "-d", "-j", "link", "show", "dev", name, check=False)
        return json.loads(found.stdout)[0] if found.returncode == 0 else None

    def addresses(self, name: str) -> list[str]:
        """IPv4 addresses of the interface, primary first; [] also when there is no such interface."""
        found = run_tool("ip", "-n", self.name, "-4", "-j", "addr", "show", "dev", name, check=False)
        if found.returncode:
            return []
        return [a["local"] for entry in json.loads(found.stdout or "[]") if entry for a in entry["addr_info"]]

    def pids(self) -> list[int]:
        """Living processes in it, wherever they came from."""
        return [int(pid) for pid in run_tool("ip", "netns", "pids", self.name).stdout.split()]

    def started(self, pid: int) -> bool:
        """Whether that process is one that popen() started here."""
        return any(process.pid == pid for process in self._started)

    def close(self) -> None:
        """End the processes in it, one by one by number, and delete it with everything it has."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.pids():
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            end = time.monotonic() + 1
            while (left := self.pids()) and time.monotonic() < end:
                time.sleep(0.01)
            if not left:
                break
        for process in self._started:
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe:
                    pipe.close()
        os.close(self._fd)
        run_tool("ip", "netns", "del", self.name)


def run_tool(
    *argv: str, check: bool = True, input: str | None = None, timeout: float = 60, **more: Any
) -> subprocess.CompletedProcess[str]:
    """subprocess.run with output as text, and a failure that can be read in a test report."""
    if input is None:
        more.setdefault("stdin", subprocess.DEVNULL)
    more.setdefault("stdout", subprocess.PIPE)
    more.setdefault("stderr", subprocess.PIPE)
    done = subprocess.run(argv, text=True, errors="replace", input=input, timeout=timeout, **more)
    if check:
        said = f"{done.stdout or ''}{done.stderr or ''}".strip()
        assert done.returncode == 0, f"{' '.join(argv)}: exit status {done.returncode}: {said}\n{input or ''}"
    return done

"""What there is and what happened in a namespace: rules, routes, snapshots, `ip monitor`, the log."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .namespaces import Namespace, wait_until

if TYPE_CHECKING:
    import pytest

    from .world import World

PROTOCOL = "109"  # rt_proto as shipped, and the interface group
NFT_TABLE = "multihook"
KEPT = ("/run/multihook", "/var/lib/multihook", "/etc/multihook", "/etc/iproute2")
# rtm_type in linux/rtnetlink.h
_TYPES = {"2": "local", "3": "broadcast", "4": "anycast", "5": "multicast", "6": "blackhole", "7": "unreachable",
          "8": "prohibit", "9": "throw"}
_VOLATILE = {"handle", "packets", "bytes", "expires", "valid_life_time", "preferred_life_time"}


def rules(ns: Namespace, family: int = 4) -> list[str]:
    """Policy rules as iproute2 prints them, with table numbers."""
    return ns.run("ip", "-N", f"-{family}", "rule").stdout.replace("\t", " ").splitlines()


def routes(ns: Namespace, table: str | int = "main", family: int = 4) -> list[str]:
    """Routes of one table as iproute2 prints them; [] also where there is no such table."""
    done = ns.run("ip", "-N", f"-{family}", "route", "show", "table", str(table), check=False)
    return [_named(line) for line in done.stdout.splitlines()]


def _named(line: str) -> str:
    """-N is there for tables and protocols; types and scopes get their names back."""
    kind, *rest = line.split()
    text = " ".join((_TYPES.get(kind, kind), *rest))
    return text.replace("scope 253", "scope link").replace("scope 254", "scope host")


def snapshot(ns: Namespace, ours: bool = True, foreign: bool = True) -> dict[str, Any]:
    """Everything multihook may have a hand in, ready to be compared with ==; without counters, handles, lifetimes.

    ours=False: only what others own (what G2 says must stay the same); foreign=False: only what carries our protocol
    number, our nft table, and the names of the interfaces in our group.
    """

    def wanted(entry: dict[str, Any]) -> bool:
        return ours if str(entry.get("protocol")) == PROTOCOL else foreign

    found: dict[str, Any] = {}
    for family in (4, 6):
        found[f"rules{family}"] = [r for r in ns.ip_json(f"-{family}", "rule") if wanted(r)]
        listed = ns.ip_json(f"-{family}", "route", "show", "table", "all")
        # Order within a table and metric says nothing; the flags linkdown and dead come and go by themselves.
        kept = [steady(r) for r in listed if wanted(r) and r.get("type") != "multicast"]
        found[f"routes{family}"] = sorted(kept, key=str)
    if ours:
        found["group"] = sorted(e["ifname"] for e in ns.ip_json("link") if str(e["group"]) == PROTOCOL)
    if foreign:
        found["addresses"] = steady([(e["ifname"], e["addr_info"]) for e in ns.ip_json("addr")])
    nft = []
    for entry in ns.nft_json("list", "ruleset"):
        ((kind, value),) = entry.items()
        table = value["name"] if kind == "table" else value["table"]
        if ours if table == NFT_TABLE else foreign:
            nft.append((kind, steady(value)))
    found["nft"] = nft
    return found


def steady(value: Any) -> Any:
    """The same without what changes by itself."""
    if isinstance(value, dict):
        return {k: steady(v) for k, v in sorted(value.items()) if k not in _VOLATILE and k != "flags"}
    if isinstance(value, list | tuple):
        return [steady(v) for v in value]
    return value


class Heard(list[str]):
    """Lines of `ip monitor`; complete only after the context."""

    def about(self, *words: str) -> list[str]:
        """Lines that have all these words, such as about("RULE") or about("ROUTE", "ppp0")."""
        return [line for line in self if all(word in line for word in words)]


@contextmanager
def ip_monitor(ns: Namespace, *objects: str) -> Iterator[Heard]:
    """Record what the kernel tells of changes meanwhile: `with ...() as heard: ...` and then `assert not heard`.

    objects: of `ip monitor`; link, address, route and rule unless told. Each line starts with [LINK], [ADDR], ...
    """
    heard = Heard()
    words = ("/usr/sbin/ip", "-N", "monitor", "label", *(objects or ("link", "address", "route", "rule")))
    process = subprocess.Popen(ns.argv(*words), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    reader = threading.Thread(target=lambda: heard.extend(line.rstrip() for line in process.stdout or ()), daemon=True)
    try:
        wait_until("ip monitor to listen", lambda: _netlink_queue(ns, process.pid) is not None)
        reader.start()
        yield heard
        time.sleep(0.05)
        wait_until("ip monitor to have read all", lambda: not _netlink_queue(ns, process.pid))
    finally:
        process.terminate()
        process.wait()
        if reader.ident:
            reader.join()
        if process.stdout:
            process.stdout.close()


def _netlink_queue(ns: Namespace, pid: int) -> int | None:
    """Octets that wait in that process's listening rtnetlink socket; None when it has none yet."""
    with ns.entered():
        lines = Path("/proc/thread-self/net/netlink").read_text().splitlines()[1:]
    for line in lines:
        # sk Eth Pid Groups Rmem ...
        words = line.split()
        if words[1] == "0" and words[2] == str(pid) and int(words[3], 16):
            return int(words[4])
    return None


@dataclass(frozen=True)
class Entry:
    """One line of the log."""

    facility: int  # 3 is daemon
    severity: str  # emerg alert crit err warning notice info debug
    identifier: str
    pid: int | None
    text: str


SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
_SYSLOG = re.compile(
    rb"(?s)<(?P<pri>\d{1,3})>(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d )?"
    rb"(?P<id>[^\s:\[]+)(?:\[(?P<pid>\d+)\])?: ?(?P<text>.*)"
)


class Log:
    """/dev/log of the jail: everything that was logged since the start of the test."""

    def __init__(self, path: str = "/dev/log") -> None:
        self.path = path
        self.datagrams: list[bytes] = []  # as they came
        self._lock = threading.Condition()
        self._sock = self._listen()
        # Connected once: works on even when a test takes the path away.
        self._own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._own.connect(path)
        self._thread = threading.Thread(target=self._collect, name="log", daemon=True)
        self._thread.start()

    def _listen(self) -> socket.socket:
        Path(self.path).unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(self.path)
        os.chmod(self.path, 0o666)
        return sock

    def _collect(self) -> None:
        while True:
            datagram = self._sock.recv(1 << 18)
            with self._lock:
                if datagram == b"end":
                    return
                self.datagrams.append(datagram)
                self._lock.notify_all()

    def _flush(self) -> None:
        """Wait until everything that was sent before this call is in `datagrams`."""
        mark = b"mark %d" % time.monotonic_ns()
        self._own.send(mark)
        with self._lock:
            assert self._lock.wait_for(lambda: mark in self.datagrams, 10), "the log's collector stands still"
            self.datagrams.remove(mark)

    def entries(self, identifier: str | None = "multihook") -> list[Entry]:
        """What that program logged; None: everybody, and what is no syslog line at all with severity "" too."""
        self._flush()
        found = []
        for datagram in list(self.datagrams):
            match = _SYSLOG.fullmatch(datagram.rstrip(b"\0\n"))
            if match is None:
                entry = Entry(-1, "", "", None, datagram.decode(errors="backslashreplace"))
            else:
                pri = int(match["pri"])
                pid = int(match["pid"]) if match["pid"] else None
                text = match["text"].decode(errors="backslashreplace")
                entry = Entry(pri >> 3, SEVERITIES[pri & 7], match["id"].decode(errors="backslashreplace"), pid, text)
            if identifier in (None, entry.identifier):
                found.append(entry)
        return found

    def lines(self, identifier: str | None = "multihook") -> list[str]:
        """The texts alone."""
        return [entry.text for entry in self.entries(identifier)]

    def told(self) -> list[str]:
        """What anybody logged, for a reader."""
        return [f"{entry.severity} {entry.identifier}[{entry.pid}]: {entry.text}" for entry in self.entries(None)]

    def problems(self) -> list[str]:
        """What multihook logged beside changes, which is forgotten then; nothing of it ever breaks."""
        entries = self.entries()
        self.clear()
        assert not [entry for entry in entries if "internal error" in entry.text or "Traceback" in entry.text], entries
        return [entry.text for entry in entries if entry.severity != "info"]

    def clear(self) -> None:
        """Forget what was logged so far."""
        self._flush()
        with self._lock:
            self.datagrams.clear()

    def close(self) -> None:
        """End the collector and take the socket away."""
        self._own.send(b"end")
        self._thread.join()
        self._own.close()
        self._sock.close()
        Path(self.path).unlink(missing_ok=True)


def add_log(report: pytest.TestReport, world: World | None) -> None:
    """To the report of a test that failed: what was logged in that world since the test began, or since Log.clear()."""
    if report.failed and report.when == "call" and world is not None:
        try:
            lines = world.log.told()
        except (AssertionError, OSError, subprocess.SubprocessError) as problem:
            lines = [f"cannot be read: {problem}"]
        report.sections.append(("log", "\n".join(lines)))


def files() -> dict[str, tuple[object, ...]]:
    """Everything that writing, replacing, touching or creating changes, of every file and folder; not who read it."""
    found = {}
    for top in KEPT:
        for path in [Path(top), *Path(top).rglob("*")]:
            status = os.lstat(path)
            content = path.read_bytes() if path.is_file() else b""
            # filelock, which the console uses, truncates the lock that is empty.
            times = () if path.name == "lock" else (status.st_mtime_ns, status.st_ctime_ns)
            found[str(path)] = (status.st_ino, status.st_mode, status.st_uid, status.st_size, *times, content)
    return found


@contextmanager
def silence(world: World, what: str = "it") -> Iterator[None]:
    """Meanwhile the kernel reports no change, no file or folder is touched, and no line is logged."""
    world.log.clear()
    before = files()
    with world.ip_monitor() as heard:
        yield
    assert heard == [], f"{what} changed the kernel"
    after = files()
    assert after.keys() == before.keys(), f"{what} made or removed files"
    for path, value in before.items():
        assert after[path] == value, f"{what} touched {path}"
    assert world.log.lines(identifier=None) == [], f"{what} logged"

"""What rules and nft cost each packet: multihook's against two tables, rules and NAT as a how-to has them typed by hand.

A box with N lines stands between a LAN and far hosts. Measured are UDP packets that a host of the LAN sends through it,
and TCP connections that the box itself makes from the address of the line in the middle of the list. What is on the
way is counted at the far end, with the source it should have, so what is lost or leaves wrongly is not fast.
"""

from __future__ import annotations

import ctypes
import os
import random
import re
import socket
import struct
import time
from collections.abc import Callable

import ours
from lines import Log
from places import CLONE_NEWNET, CLONE_NEWNS, Child, Place, Row, Sample, expect, ip, rules, sysctl, tool

SIZES = (2, 8, 32)
# By hand as seed 002 has it; ours; ours with the NAT typed by hand (what of the difference is rules); and without either.
BY_HAND, OURS, RULES_ONLY, NOTHING = "by hand", "multihook", "rules", "nothing"
PACKETS, CONNECTIONS = 30_000, 400
FAR, PORT = "203.0.113.10", 7
LAN = "192.168.1"
_BATCH = 500
_PAYLOAD = bytes(18)  # of the smallest Ethernet frame
_libc = ctypes.CDLL(None, use_errno=True)


class _IoVector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Header(ctypes.Structure):
    """struct msghdr (sendmsg(2))."""

    _fields_ = [
        ("name", ctypes.c_void_p), ("name_length", ctypes.c_uint32), ("vector", ctypes.POINTER(_IoVector)),
        ("vector_length", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]  # fmt: skip


class _Message(ctypes.Structure):
    """struct mmsghdr (sendmmsg(2))."""

    _fields_ = [("header", _Header), ("sent", ctypes.c_uint32)]


class Host:
    """The LAN's host, or the far hosts: a network namespace, with what is to be done in it."""

    def __init__(self) -> None:
        sysctl("net.ipv4.conf.all.rp_filter", 0)
        sysctl("net.ipv4.conf.default.rp_filter", 0)
        ip("link set lo up")

    def bring_up(self, lines: list[str], nft: str) -> None:
        """Set up what has been moved here."""
        ip(*lines)
        if nft:
            tool("nft", "-f", "-", input=nft)

    def counter(self, name: str) -> int:
        """Packets that a counter of nft has seen."""
        found = re.search(r"packets (\d+)", tool("nft", "list", "counter", "netdev", "far", name))
        assert found
        return int(found[1])

    def serve(self) -> None:
        """Accept connections and end them, in a process of its own."""
        server = socket.create_server((FAR, PORT), backlog=4096)
        if os.fork():
            server.close()
            return
        try:
            while True:
                server.accept()[0].close()
        finally:
            os._exit(1)

    def send(self, number: int) -> Sample:
        """That many UDP packets to a far host, as fast as they go; a packet has passed when the call returns."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
            door.bind(("", 5000))
            door.connect((FAR, 9))
            data = ctypes.create_string_buffer(_PAYLOAD)
            vector = _IoVector(ctypes.addressof(data), len(_PAYLOAD))
            header = _Header(vector=ctypes.pointer(vector), vector_length=1)
            messages = (_Message * _BATCH)(*(_Message(header) for _ in range(_BATCH)))
            door.send(_PAYLOAD)  # who the neighbours are, and the connection tracked
            time.sleep(0.01)
            start, cpu = time.perf_counter(), time.process_time()
            for _ in range(number // _BATCH):
                sent = _libc.sendmmsg(door.fileno(), messages, _BATCH, 0)
                assert sent == _BATCH, (sent, os.strerror(ctypes.get_errno()))
            return Sample((time.perf_counter() - start) / number, (time.process_time() - cpu) / number)


class Box:
    """One box with N lines, its LAN and its far hosts."""

    def __init__(self, number: int, kind: str) -> None:
        self._middle = number // 2
        self._lan, self._far = Child(Host, CLONE_NEWNET), Child(Host, CLONE_NEWNET)
        sysctl("net.ipv4.ip_forward", 1)
        names = range(number)
        ip("link add lan0 type veth peer name host0", f"link set host0 netns {self._lan.pid}", f"addr add {LAN}.1/24 dev lan0",
           "link set lan0 up")  # fmt: skip
        for n in names:
            ip(f"link add wan{n} type veth peer name far{n}", f"link set far{n} netns {self._far.pid}",
               f"addr add 198.18.{n}.2/24 dev wan{n}", f"link set wan{n} up")  # fmt: skip
        self._lan.call("bring_up", [f"addr add {LAN}.10/24 dev host0", "link set host0 up", f"route add default via {LAN}.1"], "")
        far = [f"addr add {FAR}/32 dev lo"]
        for n in names:
            far += [f"addr add 198.18.{n}.1/24 dev far{n}", f"link set far{n} up"]
        self._far.call("bring_up", far, _far_counters(self._middle))
        self._far.call("serve")
        ip("route add default via 198.18.0.1 dev wan0")
        {BY_HAND: _by_hand, OURS: _by_multihook, RULES_ONLY: _rules_only, NOTHING: _masquerade}[kind](number)

    def forward(self) -> Sample:
        """Packets from the LAN to a far host; seconds for one."""
        before = self._far.call("counter", "forwarded")
        sample: Sample = self._lan.call("send", PACKETS)
        counted = self._far.call("counter", "forwarded") - before
        # One more opens the way.
        expect("packets at the far end, with the right source", counted == PACKETS + 1, f"{counted} of {PACKETS + 1}")
        return sample

    def connect(self) -> Sample:
        """Connections from the middle line's address; seconds for one."""
        before = self._far.call("counter", "connected")
        abort = struct.pack("ii", 1, 0)  # no TIME_WAIT: ports would run out
        start, cpu = time.perf_counter(), time.process_time()
        for _ in range(CONNECTIONS):
            with socket.socket() as door:
                door.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, abort)
                door.bind((f"198.18.{self._middle}.2", 0))
                door.connect((FAR, PORT))
        sample = Sample((time.perf_counter() - start) / CONNECTIONS, (time.process_time() - cpu) / CONNECTIONS)
        counted = self._far.call("counter", "connected") - before
        # More: a SYN that had to be sent again.
        expect("connections by the right line, with the right source", counted >= CONNECTIONS, f"{counted} of {CONNECTIONS}")
        return sample


def _far_counters(middle: int) -> str:
    """Counts and drops UDP that is forwarded, before anything else looks at it; counts what opens a connection."""
    return f"""table netdev far {{
        counter forwarded {{ }}
        counter connected {{ }}
        chain first {{
            type filter hook ingress device far0 priority 0
            ip saddr 198.18.0.2 ip daddr {FAR} udp dport 9 counter name forwarded drop
        }}
        chain middle {{
            type filter hook ingress device far{middle} priority 1
            ip saddr 198.18.{middle}.2 ip daddr {FAR} tcp dport {PORT} tcp flags syn / syn,ack counter name connected
        }}
    }}
    """


def _masquerade(number: int) -> None:
    """NAT by hand: a rule for each line."""
    for n in range(number):
        tool("iptables", "-t", "nat", "-A", "POSTROUTING", "-o", f"wan{n}", "-j", "MASQUERADE")


def _by_hand(number: int) -> None:
    """Seed 002, steps 2, 4 and 5: a table for each line with all networks and a default, and one rule for its address.

    Without step 6, the default by all lines in turn, which multihook leaves to the administrator: so both send alike.
    """
    _masquerade(number)
    for n in range(number):
        networks = [f"route add 198.18.{m}.0/24 dev wan{m} src 198.18.{m}.2 table {100 + n}" for m in range(number)]
        ip(f"route add 127.0.0.0/8 dev lo table {100 + n}", f"route add {LAN}.0/24 dev lan0 table {100 + n}", *networks,
           f"route add default via 198.18.{n}.1 table {100 + n}", f"rule add from 198.18.{n}.2 table {100 + n}")  # fmt: skip
    expect("a rule for each line", len(rules()) == 3 + number, rules())


def _by_multihook(number: int, more: str = "") -> None:
    Log()
    ours.configure(range(number), {n: f"wan{n}" for n in range(number)}, more)
    text = ours.CONFIG.read_text()
    for n in range(number):
        text = text.replace(f"[link.l{n}]\n", f'[link.l{n}]\ngateway = "198.18.{n}.1"\n')
    ours.CONFIG.write_text(text)
    ours.sync()
    expect("three rules for each line", len(rules()) == 3 + 3 * number, rules())


def _rules_only(number: int) -> None:
    _by_multihook(number, "snat = false\n")
    _masquerade(number)


def _box(number: int, kind: str) -> Child:
    def build() -> dict[str, Row]:
        return {}

    class Here(Place, Box):
        def __init__(self) -> None:
            Place.__init__(self, build)
            Box.__init__(self, number, kind)

    return Child(Here, CLONE_NEWNS | CLONE_NEWNET)


Traffic = dict[tuple[str, int, str], list[Sample]]


def measure(rounds: int, say: Callable[[str], None]) -> Traffic:
    """By what was measured, number of lines and who set it up: seconds for one packet or connection."""
    say("places: packets")
    boxes = {(number, kind): _box(number, kind) for number in SIZES for kind in (BY_HAND, OURS, RULES_ONLY)}
    boxes[0, NOTHING] = _box(1, NOTHING)
    found: Traffic = {}
    due = [(what, number, kind) for what in ("forward", "connect") for number, kind in boxes]
    for turn in range(-1, rounds):
        random.shuffle(due)
        for what, number, kind in due:
            sample = boxes[number, kind].call(what)
            if turn >= 0:
                found.setdefault((what, number, kind), []).append(sample)
        if turn % 10 == 0:
            say(f"packets, round {turn} of {rounds}; load {os.getloadavg()[0]:.1f}")
    return found

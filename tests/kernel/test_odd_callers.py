"""Hooks that may start no process, get an environment that no shell would make, or have daemons in notify.d."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from pathlib import Path

import pytest
from state import PRIVATE
from two_lines import BOUND_SECONDS, ONE, by_own_line, ours

from world import World
from world.namespaces import wait_until
from world.ppp import EVENT, event


@pytest.mark.fault("F22")
@pytest.mark.parametrize("call", ["clone", "execve"])
def test_where_no_process_can_be_started_routing_is_right_all_the_same(two_lines: World, call: str) -> None:
    """EAGAIN for each fork, ENOMEM for each program: the child at SNAT's socket, notify.d, nft for a new table."""
    program = Path("/etc/multihook/notify.d/record")
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    session = two_lines.sessions["ppp0"]
    programs = ("/usr/sbin/nft", "/usr/lib/multihook/notify")
    names, refused = {"clone": ("clone,clone3,fork,vfork", "error=EAGAIN"), "execve": ("execve", "error=ENOMEM")}[call]
    only = [word for program in programs if call == "execve" for word in ("-P", program)]
    for number, table in enumerate(("as it was", "to be made")):
        address = f"203.0.113.{70 + number}"
        session.readdress(address)
        if table == "to be made":
            two_lines.box.nft("delete table inet multihook")
        two_lines.log.clear()
        words = ("strace", "-f", "-qq", "-o", "/dev/null", *only, "-e", f"trace={names}", "-e", f"inject={names}:{refused}")
        start = time.monotonic()
        done = two_lines.box.run(*words, *event("ip-up", "ppp0", address), check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), table
        assert time.monotonic() - start < BOUND_SECONDS
        assert two_lines.routes(200)[0] == f"default dev ppp0 proto 109 scope link src {address}", table
        assert ours(two_lines, address) and not ours(two_lines, ONE)
        problems = two_lines.log.problems()
        assert len(problems) == (1 if table == "as it was" else 2), problems
        assert all(any(program in line for program in programs) for line in problems), problems
    # With processes again the next event of any link makes what was missing.
    two_lines.multihook("up", "wan1", check=True)
    assert two_lines.multihook("status").returncode == 0
    assert two_lines.snapshot(foreign=False)["nft"] != []


@pytest.mark.fault("F21", "F74")
def test_a_program_of_notify_d_that_becomes_a_daemon_holds_nothing_of_ours(two_lines: World) -> None:
    """It leaves its session, closes nothing and lives on: events and news go on as ever, and nobody waits for it."""
    told, pids = Path("/run/daemon-told"), Path("/run/daemon-pids")
    program = Path("/etc/multihook/notify.d/daemon")
    program.write_text(f"#!/bin/sh\necho \"$MULTIHOOK_ADDRESS\" >>{told}\nsetsid sh -c 'echo $$ >>{pids}; exec sleep 1000' &\nsleep 0.2\n")
    program.chmod(0o755)
    session = two_lines.sessions["ppp0"]
    try:
        for number in range(3):
            session.readdress(f"203.0.113.{60 + number}")
            start = time.monotonic()
            session.up_event()
            assert time.monotonic() - start < 2
            wait_until("the news to be told", lambda: told.exists() and told.read_text().endswith(f"203.0.113.{60 + number}\n"))  # noqa: B023
        wait_until("all to be told", lambda: not list((PRIVATE / "news").glob("*.0*")))
        daemons = [int(pid) for pid in pids.read_text().split()]
        assert len(daemons) == 3 and all(Path(f"/proc/{pid}").exists() for pid in daemons)
        for pid in daemons:
            held = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
            assert not [name for name in held if "multihook" in name or name.startswith("socket:")], held
        assert not [line for line in Path("/proc/locks").read_text().splitlines() if line.split()[4] in map(str, daemons)]
        assert two_lines.log.problems() == []
    finally:
        for pid in pids.read_text().split() if pids.exists() else ():
            subprocess.run(["kill", "-9", pid], check=False)
        told.unlink(missing_ok=True)
        pids.unlink(missing_ok=True)


def exec_with(world: World, environment: list[bytes], *argv: str) -> subprocess.CompletedProcess[bytes]:
    """Run it with exactly these strings as its environment, which no Python and no shell would make."""
    libc = ctypes.CDLL(None)
    words = [os.fsencode(word) for word in argv]

    def become() -> None:
        arguments = (ctypes.c_char_p * (len(words) + 1))(*words, None)
        strings = (ctypes.c_char_p * (len(environment) + 1))(*environment, None)
        libc.execve(words[0], arguments, strings)

    with world.box.entered():
        return subprocess.run(["/bin/false"], preexec_fn=become, capture_output=True, check=False)


GOOD = [b"PATH=/usr/bin:/bin", b"reason=BOUND", b"interface=wan1", b"new_ip_address=198.51.100.7", b"new_routers=198.51.100.1"]


@pytest.mark.fault("F26")
def test_variables_twice_without_a_name_or_value_and_of_no_text(two_lines: World) -> None:
    """An environment that no shell would hand over: one value counts, and it is checked; nothing is run, nothing hangs."""
    ours_before = two_lines.snapshot(foreign=False)
    odd = {
        "twice, the right one first": [*GOOD, b"new_routers=0.0.0.0", b"new_ip_address=127.0.0.1", b"interface=lo"],
        "twice, the right one last": [b"new_routers=0.0.0.0", b"new_ip_address=127.0.0.1", *GOOD],
        "no equals sign": [b"new_routers", b"interface", b"", b"=", b"=x", b"=interface=lo", *GOOD],
        "no text": [*GOOD, b"new_domain_name_servers=\xff\xfe\x80", b"\xff\xfe=\x80", b"reason\xff=STOP"],
        "no text where an address belongs": [*GOOD[:3], b"new_ip_address=\xff\xfe\x80", b"new_routers=\xc3\x28"],
        "ten thousand more": [*GOOD, *(b"new_routers%d=198.51.100.9" % number for number in range(10_000))],
        "one of a hundred kilobytes": [*GOOD, b"new_domain_name_servers=" + b"\xff" * 100_000],
        "nothing at all": [],
    }
    for what, environment in odd.items():
        (PRIVATE / "repeats").unlink(missing_ok=True)
        start = time.monotonic()
        done = exec_with(two_lines, environment, EVENT, "dhclient")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), what
        assert time.monotonic() - start < 3, what
        assert two_lines.snapshot(foreign=False) == ours_before, what
        problems = two_lines.log.problems()
        assert len(problems) <= 2 and all(line.isascii() and line.isprintable() and len(line) < 1000 for line in problems), (what, problems)
    by_own_line(two_lines, ("tcp",))

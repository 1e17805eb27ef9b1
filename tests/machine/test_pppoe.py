"""Two real PPPoE lines with the same peer address: what pppd does to them, and where packets go meanwhile."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from live import Live
from live.pppoe import Line
from world.namespaces import wait_until

CONFIG = """
[link.dsl1]
ipparam = "dsl1"
table = 201

[link.dsl2]
ipparam = "dsl2"
table = 202
"""
SLOW = Path("/tmp/rig/slow")  # a foreign script goes on while this file is there
FOREIGN = f"#!/bin/sh\nwhile [ -e {SLOW} ]; do sleep 0.2; done\n"
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def lines(live: Live) -> tuple[Line, Line]:
    """Two providers, and a line set up to each; not started. Main's default route is by the second, by pppd."""
    live.configure(CONFIG)
    first = live.pppoe("dsl1", "203.0.113.0/24", "wan1", "ppp1")
    second = live.pppoe("dsl2", "198.51.100.0/24", "wan2", "ppp2")
    return live.line(first), live.line(second, defaultroute=True)


@pytest.fixture
def both(live: Live, lines: tuple[Line, Line]) -> Iterator[tuple[Line, Line]]:
    """The same, up; at once, as at boot."""
    for line in lines:
        line.dial()
    for line in lines:
        line.wait("ip-up", 1)
        line.wait_address()
    yield lines
    SLOW.unlink(missing_ok=True)


def assert_right(live: Live, *lines: Line) -> None:
    """Each line answers and asks for itself, by its address and by its device, and nothing has a wrong source."""
    for line in lines:
        address = line.address
        assert address, line.log()
        for outcome in (
            live.reach(address),
            live.reach(address, "icmp"),
            live.connect(source=address, kind="udp"),
            live.connect(device=line.interface),
        ):
            assert (outcome.ok, outcome.by, outcome.wrong) == (True, {line.interface}, frozenset()), (line.name, outcome)
    assert live.wrong() == []


def assert_all_right(live: Live, both: tuple[Line, Line]) -> None:
    """Both lines are as they should be, in the kernel, by `status` and on the wire."""
    live.wait_right(addresses(*both))
    assert_right(live, *both)
    live.agrees()


def redial_slowly(line: Line, script: str) -> str:
    """The provider hangs up, and the line's next ip-up goes on in that foreign script while SLOW is there; the new address."""
    place = Path("/etc/ppp/ip-up.d") / script
    place.write_text(FOREIGN)
    place.chmod(0o755)
    SLOW.touch()
    old, begun = str(line.address), line.starts("ip-up")
    line.provider.hang_up()
    wait_begun(line, begun)
    return line.wait_address(other_than=old)


def assert_lost(live: Live, line: Line, address: str) -> None:
    """Nobody can use the address, and what is bound to the device is refused: no packet leaves by the other line."""
    for outcome in (live.connect(source=address), live.connect(device=line.interface)):
        assert (outcome.ok, outcome.by, outcome.wrong) == (False, frozenset(), frozenset()), outcome
    assert live.wrong() == []


def index(live: Live, line: Line) -> int:
    """The number of its interface."""
    found = live.box.interface(line.interface)
    assert found
    return int(found["ifindex"])


def wait_begun(line: Line, before: int) -> None:
    """Until ip-up has been begun once more."""
    wait_until("ip-up to begin", lambda: line.starts("ip-up") > before, 60, pause=0.1)


def wait_gone(pid: int | None) -> None:
    """Until that process has ended."""
    wait_until("pppd to end", lambda: not os.path.exists(f"/proc/{pid}"), 60, pause=0.1)


def addresses(*lines: Line) -> set[str]:
    """Those that they have now."""
    return {str(line.address) for line in lines}


@pytest.mark.fault("F30")
def test_two_lines_with_the_same_peer_come_up_and_each_answers_for_itself(live: Live, lines: tuple[Line, Line]) -> None:
    """pon, real LCP, PAP and IPCP, Debian's ip-up; the kernel is as it should be when that has run."""
    assert len({line.start() for line in lines}) == 2
    live.wait_right(addresses(*lines))
    assert_right(live, *lines)
    live.agrees()
    assert [line.split(":")[0] for line in live.log.lines() if "pppd ip-up" in line] == ["dsl1", "dsl2"]


@pytest.mark.fault("F14", "F63")
def test_a_line_gets_another_address_under_load_and_its_neighbour_loses_nothing(live: Live, both: tuple[Line, Line]) -> None:
    """The provider hangs up, `persist` dials again: a new interface of the old name, and another address.

    LAN clients send by that line all the while, translated: no packet of theirs has a wrong source.
    """
    neighbour, line = both
    lan = live.lan()
    old, ups, downs, number = str(line.address), line.runs("ip-up"), line.runs("ip-down"), index(live, line)
    with live.flow(source=neighbour.address, interval=0.1) as quiet, live.flow(ns=lan.ns, interval=0.05) as load:
        # Back within a second otherwise, before anybody has looked.
        line.provider.silence(calls=True)
        line.provider.hang_up()
        line.wait("ip-down", downs + 1)
        assert_lost(live, line, old)
        line.provider.hear()
        line.wait("ip-up", ups + 1)
        now = line.wait_address(other_than=old)
    assert (quiet.lost, quiet.errors) == (0, []) and load.received > 0
    assert index(live, line) != number
    outcome = live.connect(ns=lan.ns)
    assert (outcome.ok, outcome.by, outcome.source) == (True, {line.interface}, now)
    assert_all_right(live, both)


@pytest.mark.fault("F65")
def test_a_line_falls_silent_and_comes_back(live: Live, both: tuple[Line, Line]) -> None:
    """Nobody is told; what is sent is lost and nothing leaves by the other line, until LCP echoes say so, and after."""
    first, second = both
    old, ups, downs = str(first.address), first.runs("ip-up"), first.runs("ip-down")
    first.provider.silence()
    outcome = live.connect(source=old, kind="udp", timeout=1)
    assert (outcome.ok, outcome.by, outcome.wrong) == (False, frozenset(), frozenset())
    first.wait("ip-down", downs + 1)
    assert_lost(live, first, old)
    live.wait_right(addresses(second))
    live.agrees(down=True)
    assert_right(live, second)
    first.provider.hear()
    first.wait("ip-up", ups + 1)
    first.wait_address(other_than=old)
    assert_all_right(live, both)


def test_the_server_dies_and_another_takes_its_place(live: Live, both: tuple[Line, Line]) -> None:
    """pppoe-server and its pppds are killed; `persist` asks until there is a server again."""
    first, second = both
    ups, downs = first.runs("ip-up"), first.runs("ip-down")
    first.provider.die()
    first.wait("ip-down", downs + 1)
    live.wait_right(addresses(second))
    assert_right(live, second)
    first.provider.serve()
    first.wait("ip-up", ups + 1)
    first.wait_address()
    assert_all_right(live, both)


@pytest.mark.fault("F63")
def test_poff_and_pon(live: Live, both: tuple[Line, Line]) -> None:
    """A line is taken down by hand, and up again; the other one is not touched, nor what is not ours."""
    first, second = both
    old, others = str(first.address), live.snapshot(ours=False)["rules4"]
    with live.flow(source=second.address, interval=0.1) as flow:
        first.stop()
        live.wait_right(addresses(second))
        assert_lost(live, first, old)
        assert live.routes(201) == ["unreachable default proto 109 metric 4294967295"]
        live.agrees(down=True)
        first.start()
    assert (flow.lost, flow.errors) == (0, [])
    live.wait_right(addresses(*both))
    assert_right(live, *both)
    assert live.snapshot(ours=False)["rules4"] == others


@pytest.mark.fault("F5")
@pytest.mark.parametrize("script", ["0000slow", "zz-slow"])
def test_a_slow_foreign_script_makes_pppd_lose_events(live: Live, both: tuple[Line, Line], script: str) -> None:
    """While ip-up runs, the line goes and returns with another address: pppd runs no script for either.

    0000slow: our hook runs at last, told of an address that is long gone. zz-slow: it has run, and nobody calls it again.
    """
    first, second = both
    old = str(first.address)
    told = redial_slowly(first, script)
    if script == "zz-slow":
        live.wait_right({told, str(second.address)})
    downs = first.runs("ip-down")
    first.provider.hang_up()
    now = first.wait_address(other_than=told)
    assert now not in (old, told)
    # What is bound to the new address is nobody's yet: it may not work, but no line sees a source that is not its own.
    live.connect(source=now, kind="udp", timeout=1)
    live.reach(now, "icmp", timeout=1)
    assert live.wrong() == []
    SLOW.unlink()
    wait_until("ip-up to end", lambda: first.runs("ip-up") == first.starts("ip-up"), 60, pause=0.1)
    live.settle()
    assert (first.runs("ip-down"), first.address) == (downs, now), "pppd told of both; this scenario is about silence"
    if script == "zz-slow":
        assert live.multihook("status").returncode == 1
        live.multihook("sync", check=True)
    assert_all_right(live, both)


@pytest.mark.fault("F14", "F65")
def test_pppd_is_ended_while_ip_up_runs_or_killed_and_ip_down_never_comes(live: Live, both: tuple[Line, Line]) -> None:
    """TERM in a slow ip-up, then KILL: no ip-down, the interface is gone. Nothing leaks; sync or the next pon clears up."""
    first, second = both
    for number in (signal.SIGTERM, signal.SIGKILL):
        if number == signal.SIGTERM:
            redial_slowly(first, "zz-slow")
            live.wait_right(addresses(*both))
        last, downs, pid = str(first.address), first.runs("ip-down"), first.pid
        first.kill(number)
        wait_gone(pid)
        wait_until("its interface to go", lambda: live.box.interface(first.interface) is None, 30, pause=0.1)
        SLOW.unlink(missing_ok=True)
        live.settle()
        assert first.runs("ip-down") == downs, "ip-down has run; this scenario is about silence"
        assert_lost(live, first, last)
        assert_right(live, second)
        if number == signal.SIGTERM:
            live.multihook("sync", check=True)
            live.wait_right(addresses(second))
            live.agrees(down=True)
        first.start()
        assert_all_right(live, both)


@pytest.mark.fault("F6")
def test_as_a_unit_of_systemd_pppd_is_stopped_with_its_hooks(live: Live, both: tuple[Line, Line]) -> None:
    """systemd sends TERM to everything in the unit; the rules go all the same. notify.d runs outside of it, and on."""
    first, second = both
    first.stop()
    heard = Path("/tmp/rig/heard")
    teller = Path("/etc/multihook/notify.d/tell")
    teller.write_text(f"#!/bin/sh\nwhile [ -e {SLOW} ]; do sleep 0.2; done\n{{ cat /proc/self/cgroup; env; }} >>{heard}\n")
    teller.chmod(0o755)
    SLOW.touch()
    ups, downs = first.runs("ip-up"), first.starts("ip-down")
    live.box.run("systemd-run", "--quiet", "--unit=line", "/usr/sbin/pppd", "call", first.name, "nodetach")
    first.wait("ip-up", ups + 1)
    address = first.wait_address()
    live.wait_right(addresses(*both))
    assert_right(live, *both)
    live.systemctl("stop", "line.service")
    # pppd waits 5 s for it (child-timeout) and has then not seen it end; the unit does not end before all in it has.
    assert first.starts("ip-down") == downs + 1
    live.wait_right(addresses(second))
    assert_lost(live, first, address)
    assert not heard.exists(), "what notify.d does is waited for"
    SLOW.unlink()
    wait_until("notify.d to have run", lambda: heard.exists() and address in heard.read_text(), 60, pause=0.2)
    assert "line.service" not in heard.read_text()

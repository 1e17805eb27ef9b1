"""Other programs on the same machine: what they take away comes back, what they put in front of us is named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from two_lines import CABLE, CONFIG, ONE

from world import World
from world.ppp import PEER

# wg-quick is the real one; the kernel of the tests has no WireGuard, so the interface is a tun, and
# wg(8), which only speaks to such an interface, answers as it would.
IP = """#!/bin/sh
if [ "$1 $2" = "link add" ]; then exec /usr/sbin/ip tuntap add "$3" mode tun; fi
exec /usr/sbin/ip "$@"
"""
WG = """#!/bin/sh
state=${0%/*}/fwmark
case "$*" in
*" fwmark "*) echo "$4" >"$state" ;;
*" fwmark") cat "$state" 2>/dev/null || echo off ;;
*" allowed-ips") printf 'key\\t0.0.0.0/0\\n' ;;
"show interfaces") echo wg0 ;;
esac
"""


@pytest.fixture
def lines(world: World) -> World:
    """dsl on ppp0 and cable on wan1, in line, every event told."""
    world.configure(CONFIG)
    world.box.ip("link add wan1 type veth peer name far1", "link set wan1 up", "link set far1 up", f"addr add {CABLE}/24 dev wan1")
    world.ppp_up("ppp0", ONE, PEER, defaultroute=True)
    world.multihook("sync", check=True)
    world.sessions["ppp0"].up_event()
    world.log.clear()
    return world


@contextmanager
def wireguard(world: World, folder: Path) -> Iterator[None]:
    """A VPN for everything, by wg-quick up and down; folder keeps its programs."""
    for name, text in (("ip", IP), ("wg", WG), ("wg-quick", Path("/usr/bin/wg-quick").read_text())):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    config = folder / "wg0.conf"
    config.write_text("[Interface]\nAddress = 10.66.0.2/32\nPrivateKey = x\n[Peer]\nAllowedIPs = 0.0.0.0/0\n")
    config.chmod(0o600)
    world.box.run(str(folder / "wg-quick"), "up", str(config), env={"PATH": os.environ["PATH"]})
    try:
        yield
    finally:
        world.box.run(str(folder / "wg-quick"), "down", str(config), env={"PATH": os.environ["PATH"]})


@pytest.mark.fault("F42")
@pytest.mark.fast
def test_wg_quick_comes_and_goes(lines: World, tmp_path: Path) -> None:
    """Started after us it stands directly in front of us: said once, and in status; its end takes nothing of ours."""
    ours = lines.snapshot(foreign=False)
    with wireguard(lines, tmp_path):
        assert "6999: not from all fwmark 0xca6c lookup 51820" in lines.rules()
        assert lines.snapshot(foreign=False) == ours
        assert "a foreign rule takes precedence over all links: 6999: not from all fwmark 0xca6c" in lines.multihook("status").stdout
        theirs = lines.snapshot(ours=False)
        for _ in range(3):
            lines.sessions["ppp0"].up_event()
        (line,) = lines.log.lines()
        assert line.startswith("a foreign rule takes precedence over all links: 6999: not from all fwmark 0xca6c")
        assert lines.multihook("sync").returncode == 0
        assert lines.snapshot(ours=False) == theirs and lines.snapshot(foreign=False) == ours
        lines.log.clear()
    assert lines.snapshot(foreign=False) == ours, "wg-quick down took something of ours"
    assert lines.multihook("status").returncode == 0 and "foreign rule" not in lines.multihook("status").stdout
    lines.sessions["ppp0"].up_event()
    assert lines.log.lines() == []


@pytest.mark.fault("F42")
def test_wg_quick_was_there_before_us(lines: World, tmp_path: Path) -> None:
    """Its rules are behind ours then; its end deletes the first rule that says `main suppress_prefixlength 0`, of whom ever."""
    ours = lines.snapshot(foreign=False)
    lines.multihook("flush", "--once", check=True)
    with wireguard(lines, tmp_path):
        assert "32765: not from all fwmark 0xca6c lookup 51820" in lines.rules()
        lines.multihook("sync", check=True)
        assert lines.snapshot(foreign=False) == ours and "foreign rule" not in lines.multihook("status").stdout
        assert not any("precedence" in line for line in lines.log.lines())
    assert lines.snapshot(foreign=False) == ours, "wg-quick down took something of ours"


def test_what_stands_behind_or_takes_only_some_is_not_named(lines: World) -> None:
    """Rules after ours, for some packets only, or into a table that leads nowhere."""
    lines.box.ip(
        "route add default dev wan1 table 300",
        "route add 100.64.0.0/10 dev wan1 table 52",
        "rule add not fwmark 0xca6c lookup 300 priority 8000",
        "rule add lookup 300 priority 9000",
        "rule add lookup 52 priority 5270",
        "rule add fwmark 0x80000/0xff0000 lookup main priority 5210",
        "rule add from 10.0.0.0/8 lookup 300 priority 100",
        "rule add iif lo lookup 300 priority 32000",
    )
    lines.sessions["ppp0"].up_event()
    assert lines.log.lines() == [] and "foreign rule" not in lines.multihook("status").stdout
    for rule in ("lookup 300 priority 6999", "not from 192.0.2.1 lookup 300 priority 7399", "prohibit priority 5000", "goto 9000 priority 5000"):
        lines.box.ip(f"rule add {rule}")
        lines.sessions["ppp0"].up_event()
        (said,) = lines.log.lines()
        assert f"{rule.split()[-1]}: " in said and "takes precedence" in said, rule
        lines.box.ip(f"rule del {rule}")
        lines.sessions["ppp0"].up_event()
        lines.log.clear()


@pytest.mark.fault("F38", "F41")
@pytest.mark.fast
def test_networkd_deletes_what_is_foreign_to_it_and_one_event_mends(lines: World) -> None:
    """`networkctl reconfigure` of 252: every rule and route that it did not make; here by ip(8), protocol for protocol."""
    ours = lines.snapshot(foreign=False)
    for families in ("-4", "-6"):
        while lines.box.run("ip", families, "rule", "del", "protocol", "109", check=False).returncode == 0:
            pass
        lines.box.run("ip", families, "route", "flush", "table", "all", "proto", "109", check=False)
    assert not any("proto 109" in line for line in lines.rules()) and lines.routes(200) == []
    assert lines.multihook("status").returncode == 1
    lines.sessions["ppp0"].up_event()
    assert lines.snapshot(foreign=False) == ours and lines.multihook("status").returncode == 0
    assert any(line.startswith("cable:") for line in lines.log.lines()), "the other link was mended by the same event"

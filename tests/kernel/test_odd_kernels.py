"""Kernels as others have set them up: rules moved, no IPv6, no connection tracking, all interfaces gone, a line that stays dead."""

from __future__ import annotations

import pytest
from two_lines import CABLE, CONFIG, ONE, by_own_line, ours

from world import World
from world.observe import silence
from world.ppp import EVENT, event
from world.traffic import AT_ONCE, REFUSALS, ask, bound_sockets


@pytest.mark.fault("F45")
def test_rules_moved_doubled_and_gone_around_ours(two_lines: World) -> None:
    """Somebody's at 0, VRF's at 1000, local's at 500 with 0 gone, main's and default's gone: ours work by their own numbers."""
    before = sorted(ours(two_lines, "ppp0", "wan1", ONE, CABLE))
    two_lines.box.ip(
        "rule add from 192.0.2.77 lookup 300 priority 0", "rule add lookup local priority 500", "rule del lookup local priority 0",
        "rule add lookup main priority 32000 protocol kernel", "rule del priority 32766", "rule del priority 32767",
    )  # fmt: skip
    two_lines.box.run("ip", "rule", "add", "l3mdev", "protocol", "kernel", "priority", "1000", check=False)
    foreign = two_lines.snapshot(ours=False)
    by_own_line(two_lines)
    two_lines.sessions["ppp0"].readdress("203.0.113.50")
    two_lines.sessions["ppp0"].up_event()
    two_lines.sessions["ppp0"].readdress(ONE)
    two_lines.sessions["ppp0"].up_event()
    two_lines.multihook("sync", check=True)
    by_own_line(two_lines)
    assert sorted(ours(two_lines, "ppp0", "wan1", ONE, CABLE)) == before
    assert two_lines.snapshot(ours=False)["rules4"] == foreign["rules4"]


@pytest.mark.fault("F48", "F10")
@pytest.mark.parametrize("how", ["switched off", "not in the kernel"])
def test_without_ipv6_nothing_is_missing_and_nothing_is_said(two_lines: World, how: str) -> None:
    """disable_ipv6 everywhere; or no /proc/sys/net/ipv6 at all, as with ipv6.disable=1."""
    two_lines.box.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    two_lines.box.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    before = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc/sys/net/ipv6 && exec "$@"', "x") if how.startswith("not") else ()
    session = two_lines.sessions["ppp0"]
    for address in ("203.0.113.77", ONE):
        session.readdress(address)
        done = two_lines.box.run(*before, *event("ip-up", "ppp0", address))
        assert (done.stdout, done.stderr) == ("", "")
        assert two_lines.routes(200)[0] == f"default dev ppp0 proto 109 scope link src {address}"
    two_lines.box.run(*before, EVENT, "pppd", "ipv6-up", "ppp0", "", "0", "fe80::1", "fe80::2", "")
    for words in (["sync"], ["status"], ["flush"], ["sync"]):
        done = two_lines.box.run(*before, "/usr/bin/multihook", *words)
        assert done.returncode == 0 and done.stderr == "", words
    assert two_lines.log.problems() == []
    by_own_line(two_lines, ("tcp",))


@pytest.mark.fault("F51")
def test_routing_is_right_for_what_is_not_tracked(two_lines: World) -> None:
    """`notrack` for everything, as where there is no connection tracking: rules by address and device do it."""
    two_lines.box.nft("""
        table ip raw {
            chain pre { type filter hook prerouting priority raw; notrack; }
            chain out { type filter hook output priority raw; notrack; }
        }
    """)
    by_own_line(two_lines)
    session = two_lines.sessions["ppp0"]
    session.reconnect("203.0.113.77")
    assert two_lines.connect(source="203.0.113.77").by == {"ppp0"} and two_lines.reach(CABLE).by == {"wan1"}
    assert two_lines.wrong() == []


@pytest.mark.fault("F60", "F65")
def test_all_links_go_and_the_first_that_is_back_works_at_once(two_lines: World) -> None:
    """Main has a way out that is no link's, by the LAN's router: what is bound to a lost link does not take it."""
    lan = two_lines.lan()
    two_lines.configure("[multihook]\nadopt = false\n" + CONFIG)
    two_lines.box.ip(f"route add default via {lan.router} dev lan0 metric 500")
    two_lines.multihook("sync", check=True)
    session = two_lines.sessions["ppp0"]
    with bound_sockets(two_lines, ONE, "ppp0") as by_dsl, bound_sockets(two_lines, CABLE, "wan1") as by_cable:
        session.lose_address()
        two_lines.box.ip("link set wan1 down")
        for after in (False, True):
            if after:
                session.down_event()
                two_lines.multihook("sync", check=True)
            for name, sock in (*by_dsl.items(), *by_cable.items()):
                error, seconds = ask(two_lines, sock)
                assert error in REFUSALS and seconds < AT_ONCE, (name, error, seconds, after)
    assert two_lines.multihook("status").returncode == 3
    session.reconnect()
    assert two_lines.connect(source=ONE).by == {"ppp0"} and two_lines.reach(ONE).by == {"ppp0"}
    two_lines.box.ip("link set wan1 up")
    two_lines.multihook("up", "wan1", check=True)
    by_own_line(two_lines)
    assert two_lines.wrong() == []


@pytest.mark.fault("F80")
def test_a_line_that_stays_dead_says_nothing(two_lines: World) -> None:
    """pppd that redials in vain, a late ip-down again and again, looks at it: one line when it went, and no more."""
    session = two_lines.sessions["ppp0"]
    session.drop()
    for _ in range(3):  # what was written a moment ago is looked at once more
        session.down_event()
        two_lines.multihook("sync", check=True)
    assert len([line for line in two_lines.log.lines() if line.startswith("dsl: ")]) == 1
    with silence(two_lines, "a dead line"):
        for _ in range(10):
            session.down_event()
        session.event("ipv6-down", True, local="fe80::1", remote="fe80::2")
        two_lines.multihook("sync", check=True)
        assert two_lines.multihook("status").returncode == 3

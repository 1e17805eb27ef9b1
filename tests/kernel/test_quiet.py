"""G8: where nothing changed nothing is changed, nothing is written and nothing is said."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from world import World
from world.namespaces import wait_until
from world.observe import KEPT, files, silence

ONE, TWO, CABLE, ROUTER, PEER = "203.0.113.45", "203.0.113.46", "198.51.100.7", "198.51.100.1", "203.0.113.1"
CONFIG = """
[multihook]
ignore = ["wg*"]

[link.dsl]
interface = "ppp0"
table = 200

[link.lte]
ipparam = "lte"

[link.cable]
interface = "wan1"
table = 201
sources = ["192.0.2.32/28"]
networks = ["10.0.0.0/8"]
"""
EVENT = ("/usr/lib/multihook/event", "pppd", "ip-up", "ppp0", "/dev/pts/9", "0", ONE, PEER, "")
LEASE = {
    "new_ip_address": CABLE, "new_subnet_mask": "255.255.255.0", "new_routers": ROUTER,
    "new_domain_name_servers": "198.18.0.53", "new_dhcp_server_identifier": ROUTER, "old_ip_address": CABLE,
}  # fmt: skip


def dhclient(world: World, reason: str, **variables: str) -> None:
    """dhclient's hook with these variables."""
    env = {"PATH": "/usr/bin:/bin", "reason": reason, "interface": "wan1", **variables}
    world.box.run("dash", "-c", ". /etc/dhcp/dhclient-exit-hooks.d/multihook", env=env)


@pytest.fixture
def steady(world: World) -> World:
    """Three links in line, every event told twice: from here on there is no news."""
    world.configure(CONFIG)
    world.box.ip("link add wan1 type veth peer name far1", "link set wan1 up", "link set far1 up")
    world.box.ip(f"addr add {CABLE}/24 dev wan1", f"route add default via {ROUTER} dev wan1")
    world.ppp_up("ppp0", ONE, PEER)
    world.ppp_up("ppp1", TWO, PEER, ipparam="lte", linkname="second", dns=("198.18.0.53", "198.18.0.54"))
    # What was written a moment ago may be written again within the same tick: the configuration is looked at once more.
    os.utime("/etc/multihook/multihook.toml", (1_700_000_000.5, 1_700_000_000.5))
    for _ in range(2):
        dhclient(world, "BOUND", **LEASE)
        world.sessions["ppp0"].up_event()
        world.sessions["ppp1"].up_event()
    assert world.multihook("status").returncode == 0
    return world


NO_NEWS: dict[str, Callable[[World], object]] = {
    "ip-up again": lambda w: w.sessions["ppp0"].up_event(),
    "ip-up of a link known by ipparam": lambda w: w.sessions["ppp1"].up_event(),
    "a stale ip-down": lambda w: w.sessions["ppp0"].down_event(local="203.0.113.99"),
    "ipv6-up": lambda w: w.sessions["ppp0"].event("ipv6-up", True, local="fe80::1", remote="fe80::2"),
    "ipv6-down": lambda w: w.sessions["ppp0"].event("ipv6-down", True, local="fe80::1", remote="fe80::2"),
    "RENEW": lambda w: dhclient(w, "RENEW", **LEASE),
    "REBIND": lambda w: dhclient(w, "REBIND", **LEASE),
    "REBOOT": lambda w: dhclient(w, "REBOOT", **LEASE),
    "BOUND again": lambda w: dhclient(w, "BOUND", **LEASE),
    "PREINIT": lambda w: dhclient(w, "PREINIT"),
    "MEDIUM, NBI, ARPCHECK": lambda w: [dhclient(w, reason) for reason in ("MEDIUM", "NBI", "ARPCHECK", "ARPSEND")],
    "IPv6 reasons": lambda w: [dhclient(w, r, new_ip6_address="2001:db8::1") for r in ("PREINIT6", "BOUND6", "RENEW6", "STOP6")],
    "an unknown reason": lambda w: dhclient(w, "SOMETHING", **LEASE),
    "an expired lease of another address": lambda w: dhclient(w, "EXPIRE", old_ip_address="198.51.100.99"),
    "an ignored interface": lambda w: dhclient(w, "BOUND", **{**LEASE, "interface": "wg0"}),
    "a session that leads nowhere": lambda w: [w.box.run(*EVENT[:2], way, "ppp9", *EVENT[4:6], "192.0.2.1", "10.20.0.1", "") for way in ("ip-up", "ip-down")],
    "a lease of no interface": lambda w: dhclient(w, "BOUND", **{**LEASE, "interface": "eth9", "new_ip_address": "192.0.2.9"}),
    "status": lambda w: [w.multihook("status", *words) for words in ([], ["--json"], ["cable"])],
    "status without root": lambda w: w.multihook("status", user="nobody"),
    "check-config": lambda w: w.multihook("check-config", check=True),
    "a dry run": lambda w: w.multihook("sync", "--dry-run", check=True),
    "help and version": lambda w: [w.multihook(word) for word in ("--help", "--version")],
    "a refused command": lambda w: [w.multihook(*words) for words in (["down", "lo"], ["up", "nothing"], ["status", "x"])],
}


FAST = ("ip-up again", "a stale ip-down", "RENEW", "status")


@pytest.mark.fault("F2", "F80")
@pytest.mark.fault("F10", of=("ipv6-up", "ipv6-down", "IPv6 reasons"))
@pytest.mark.parametrize("what", [pytest.param(w, marks=pytest.mark.fast) if w in FAST else w for w in NO_NEWS])
def test_no_news_leave_no_trace(steady: World, what: str) -> None:
    """An event or a look that brings nothing new: the kernel, every file and the log are as before."""
    with silence(steady, what):
        NO_NEWS[what](steady)


def test_a_second_sync_changes_nothing_and_writes_nothing(steady: World) -> None:
    """The console too: in line already is in line already."""
    steady.multihook("sync", check=True)
    with silence(steady, "the second sync"):
        done = steady.multihook("sync", check=True)
    assert "nothing to change" in done.stdout


def test_a_second_flush_changes_nothing(steady: World) -> None:
    """Held out once is held out."""
    steady.multihook("flush", check=True)
    with steady.ip_monitor() as heard:
        steady.multihook("flush", check=True)
    assert heard == []
    for what in ("ip-up again", "RENEW"):
        with silence(steady, f"{what} while held"):
            NO_NEWS[what](steady)


# Calls that change something or may; reading is what is left over.
CHANGING = (
    "openat,open,creat,write,pwrite64,writev,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,"
    "mkdirat,rmdir,chmod,fchmod,fchmodat,chown,fchown,fchownat,lchown,utime,utimes,utimensat,futimesat,truncate,ftruncate,"
    "fallocate,fsync,fdatasync,mknod,mknodat,setxattr,sendto,sendmsg,sendmmsg,kill,tgkill,clone,clone3,fork,vfork,execve,"
    "mount,umount2,sethostname,ioctl"
)
READING = re.compile(
    r"open(at)?\([^\n]*O_RDONLY[^\n]*|execve\([^\n]*|ioctl\(\d+, (TCGETS|FIOCLEX|FIONCLEX|FIONBIO|SIOCGIFNAME)[^\n]*"
    r"|sendto\([^\n]*nlmsg_type=(RTM_GET\w+|0x12|0xa0[147d]|0xa10|NFNL_SUBSYS_NFTABLES<<8\|NFT_MSG_GET\w+)[^\n]*|openat\([^\n]*private/lock\", O_RDWR\|O_CREAT[^\n]*"
)


@pytest.mark.fault("F2")
@pytest.mark.parametrize(
    "argv", [pytest.param(EVENT, marks=pytest.mark.fast), ("/usr/lib/multihook/event", "dhclient"), ("/usr/lib/multihook/event", "pppd", "ip-down", *EVENT[3:6], TWO, PEER)],
    ids=["ip-up", "RENEW", "stale ip-down"],
)  # fmt: skip
def test_an_event_without_news_makes_no_call_that_changes_anything(steady: World, argv: tuple[str, ...]) -> None:
    """Seen from the kernel's side: questions only, no file opened for writing but the lock, no process started."""
    env = {"PATH": "/usr/bin:/bin", "reason": "RENEW", "interface": "wan1", **LEASE}
    trace = steady.box.run("strace", "-f", "-qq", "-s", "4000", "-e", f"trace={CHANGING}", *argv, env=env).stderr
    calls = [line for line in trace.splitlines() if line and not line.startswith("---")]
    assert [line for line in calls if not READING.fullmatch(line)] == []
    assert any("RTM_GETROUTE" in line for line in calls) and any("private/lock" in line for line in calls)


@pytest.mark.fault("F24", "F80")
@pytest.mark.timeout(180)
def test_a_thousand_events_without_news_leave_no_trace(steady: World) -> None:
    """A flapping server that renews all day, a pppd that says the same again and again."""
    script = f"""
    reason=RENEW interface=wan1 {" ".join(f"{k}='{v}'" for k, v in LEASE.items())}
    export reason interface {" ".join(LEASE)}
    n=0
    while [ $n -lt 500 ]; do
        . /etc/dhcp/dhclient-exit-hooks.d/multihook
        /etc/ppp/ip-up.d/multihook ppp0 /dev/pts/9 0 {ONE} {PEER} ''
        n=$((n + 1))
    done
    """
    with silence(steady, "one of a thousand events"):
        steady.box.run("dash", "-eu", "-c", script, timeout=170)


@pytest.mark.fault("F24", "F62")
def test_a_change_and_its_reverse_come_back_to_the_same_state(steady: World) -> None:
    """Counts of files, rules and routes stay constant over many changes: nothing piles up."""
    session = steady.sessions["ppp0"]

    def counted() -> tuple[int, int, int]:
        ours = steady.snapshot(foreign=False)
        return len([p for top in KEPT for p in Path(top).rglob("*")]), len(ours["rules4"]), len(ours["routes4"])

    before, rules = counted(), steady.rules()
    for number in range(20):
        session.readdress(f"203.0.113.{100 + number}")
        session.up_event()
    session.readdress(ONE)
    session.up_event()
    assert counted() == before and sorted(steady.rules()) == sorted(rules)
    with silence(steady):
        session.up_event()


@pytest.mark.fault("F62")
def test_one_line_in_the_log_for_each_change(steady: World) -> None:
    """An event that changed something says so once, with addresses, interface, source, counts and time."""
    session = steady.sessions["ppp0"]
    session.readdress("203.0.113.77")
    steady.log.clear()
    session.up_event()
    (entry,) = steady.log.entries()
    assert (entry.facility, entry.severity, entry.identifier) == (3, "info", "multihook")
    assert re.fullmatch(
        r"dsl: 203\.0\.113\.45 -> 203\.0\.113\.77 on ppp0 \(pppd ip-up\): (\d+ (snat|rule|route)s?(, )?)+; \d+ ms", entry.text
    )


def test_a_real_renewal_leaves_no_trace(world: World) -> None:
    """dhclient renews by itself with a real server: its own address lifetimes change, nothing of ours does."""
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    server = cable.serve_dhcp(renew=3)
    world.ppp_up("ppp0", ONE, PEER, defaultroute=True)
    client = world.dhcp_up("wan1", metric=5)
    world.sessions["ppp0"].up_event()

    def renewals() -> int:
        return server.log().count("DHCPACK")

    first = renewals()
    wait_until("one renewal", lambda: renewals() > first, 20)
    client.wait_script()
    world.log.clear()
    before, second = files(), renewals()
    ours = world.snapshot(foreign=False)
    with world.ip_monitor("rule", "route") as heard:
        wait_until("another renewal", lambda: renewals() > second, 20)
        client.wait_script()
    assert [line for line in heard if "109" in line] == []
    assert world.snapshot(foreign=False) == ours
    assert files() == before and world.log.lines() == []

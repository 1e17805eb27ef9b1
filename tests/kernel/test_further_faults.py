"""Cases of tests/faults.toml that no other file is the place for: odd moments, odd kernels, odd input, very many of each."""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_crash import CANARY, PEER, PRIVATE, RUN, VAR, clear_away, damage, event, in_line, leftovers, said, waiting
from test_quiet import silence
from test_right_link import AT_ONCE, REFUSALS, ask, bound_sockets

from world import World
from world.namespaces import wait_until
from world.ppp import Session

EVENT = "/usr/lib/multihook/event"
ONE, TWO, CABLE, ROUTER = "203.0.113.45", "203.0.113.46", "198.51.100.7", "198.51.100.1"
CONFIG = """
[link.dsl]
interface = "ppp0"
table = 200
[link.cable]
interface = "wan1"
table = 201
gateway = "198.51.100.1"
"""
GUARD = ["unreachable default proto 109 metric 4294967295"]
BOUND_SECONDS = 6.5  # as in test_harmless.py


@pytest.fixture
def lines(world: World) -> World:
    """dsl on ppp0, with main's default, and cable on wan1, both up, with providers that count."""
    isp = world.provider("isp", "203.0.113.0/24")
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    world.configure(CONFIG)
    world.box.ip(f"addr add {cable.static(7)}/24 dev wan1")
    world.ppp_up("ppp0", ONE, PEER, isp, defaultroute=True)
    world.multihook("sync", check=True)
    world.log.clear()
    return world


def by_own_line(world: World, kinds: tuple[str, ...] = ("tcp", "udp")) -> None:
    """Both lines answer for themselves, and what is bound to an address leaves by its line."""
    for line, address in (("ppp0", ONE), ("wan1", CABLE)):
        for kind in kinds:
            for outcome in (world.reach(address, kind), world.connect(source=address, kind=kind)):
                assert (outcome.ok, outcome.by, outcome.wrong) == (True, {line}, frozenset()), (line, kind, outcome)


def ours(world: World, *words: str) -> list[str]:
    """Our rules that have one of these words."""
    return [rule for rule in world.rules() if "proto 109" in rule and set(words) & set(rule.split())]


# --- very many ---


@pytest.mark.fault("F1", "F62")
@pytest.mark.timeout(180)
def test_five_hundred_events_while_eight_lines_flap(world: World) -> None:
    """Addresses come, change and go while the hooks run; late words among them. The end is what the kernel has."""
    world.configure("".join(f'[link.l{n}]\ninterface = "ppp{n}"\ntable = {200 + n}\n' for n in range(8)))
    for number in range(8):
        world.ppp_up(f"ppp{number}", f"203.0.113.{10 + number}", PEER, event=False)
    world.multihook("sync", check=True)
    chance = random.Random(5)
    now: list[str] = [f"203.0.113.{10 + number}" for number in range(8)]
    script = ""
    for turn in range(63):
        changes, told = [], []
        for number in range(8):
            before, after = now[number], chance.choice(["", f"203.0.113.{20 + turn * 8 % 200 + number}"])
            if turn == 62 and number < 4:
                after = f"203.0.113.{240 + number}"
            if before:
                changes.append(f"addr del {before} peer {PEER}/32 dev ppp{number}")
            if after:
                changes.append(f"addr add {after} peer {PEER}/32 dev ppp{number}")
            now[number] = after
            late = chance.random() < 0.2
            told.append(event("ip-up", f"ppp{number}", after) if after and not late else event("ip-down", f"ppp{number}", before or after or ONE))
        # The last word of each line is a true one.
        if turn == 62:
            told += [event("ip-up" if address else "ip-down", f"ppp{n}", address or ONE) for n, address in enumerate(now)]
        script += "ip -batch - <<'END'\n" + "\n".join(changes) + "\nEND\n"
        script += "".join(" ".join(f"'{word}'" for word in argv) + " &\n" for argv in told)
    world.box.run("dash", "-c", script + "wait\n", timeout=150)
    world.settle(2)
    assert waiting() == [] and leftovers() == []
    for number, address in enumerate(now):
        expected = f"default dev ppp{number} proto 109 scope link src {address}" if address else GUARD[0]
        assert world.routes(200 + number)[0] == expected, number
    assert {rule["src"] for rule in world.box.ip_json("rule", "show", "priority", "7400")} == set(filter(None, now))
    assert in_line(world)
    # An address that was gone again when its route was made is no failure: another event was waiting. On a machine
    # that is busy otherwise a caller may have gone on before its event was applied, and have said so.
    assert [line for line in said(world) if "lock was not free" not in line] == []


@pytest.mark.fault("F24", "F62")
def test_fifty_renumberings_leave_as_many_objects_as_there_were(lines: World) -> None:
    """Rules, routes, the whole of our nft table, connection tracking, files and processes: counted before and after."""
    session = lines.sessions["ppp0"]

    def counted() -> dict[str, int]:
        tops = ("/run/multihook", "/var/lib/multihook", "/etc/iproute2", "/etc/multihook", "/tmp", "/dev/shm", "/run")
        return {
            "files": sum(len(list(Path(top).iterdir() if top in ("/tmp", "/run") else Path(top).rglob("*"))) for top in tops),
            **{name: len(value) for name, value in lines.snapshot(foreign=False).items()},
            "nft": len(lines.box.nft_json("list", "ruleset")),
            "sockets": len(Path("/proc/net/netlink").read_text().splitlines()),
            "processes": len(lines.box.pids()),
        }

    addresses = [f"203.0.113.{100 + number}" for number in range(50)]
    session.readdress(addresses[-1])
    session.up_event()
    lines.settle()
    before = counted()
    script, last = "", addresses[-1]
    for address in addresses:
        script += f"ip addr del {last} peer {PEER}/32 dev ppp0; ip addr add {address} peer {PEER}/32 dev ppp0\n"
        script += f"/etc/ppp/ip-up.d/multihook ppp0 /dev/pts/9 0 {address} {PEER} ''\n"
        last = address
    lines.box.run("dash", "-eu", "-c", script)
    lines.settle()
    assert counted() == before
    assert lines.multihook("status").returncode == 0
    assert len(lines.log.lines()) == 51, "one line for each change"


@pytest.mark.fault("F57")
def test_a_full_table_in_main_and_hundreds_of_links_keep_no_hook(lines: World) -> None:
    """100,000 routes of BGP by another interface, 256 links configured: nothing of it is copied, nobody waits."""
    lines.box.ip("link add bgp type bridge", "link set bgp up", "addr add 192.0.2.1/24 dev bgp")
    table = "".join(f"route add {10 + n // 65536}.{n // 256 % 256}.{n % 256}.0/24 via 192.0.2.2 dev bgp proto bird\n" for n in range(100_000))
    lines.box.run("ip", "-batch", "-", input=table)
    lines.configure(CONFIG + "".join(f'[link.l{n}]\ninterface = "x{n}"\n' for n in range(254)))
    lines.multihook("sync", check=True)
    session = lines.sessions["ppp0"]
    start = time.monotonic()
    session.readdress("203.0.113.77")
    session.up_event()
    assert time.monotonic() - start < 3
    assert len(lines.routes(200)) == 3 and len(lines.routes(201)) == 3
    assert len([rule for rule in lines.rules() if "proto 109" in rule]) == 6
    assert in_line(lines)
    assert lines.connect(source="203.0.113.77").by == {"ppp0"} and lines.connect(source=CABLE).by == {"wan1"}


# --- interfaces and addresses ---


@pytest.mark.fault("F14")
def test_an_interface_that_moves_to_another_namespace_is_a_link_that_is_down(lines: World) -> None:
    """A container got the card: the next event of any link takes its rules away; given back, it is the link again."""
    other = lines.namespace("other")
    lines.box.ip("link set wan1 netns other")
    lines.sessions["ppp0"].up_event()
    assert ours(lines, "wan1", CABLE) == [] and lines.routes(201) == GUARD
    assert lines.multihook("status").returncode == 3
    other.ip("link set wan1 up", f"addr add {CABLE}/24 dev wan1")
    # Its hook runs there, and is refused: nothing is changed in either.
    env = {"PATH": "/usr/bin:/bin", "reason": "BOUND", "interface": "wan1", "new_ip_address": CABLE, "new_routers": ROUTER}
    other.run(EVENT, "dhclient", env=env)
    assert not any("proto 109" in line for line in other.run("ip", "-N", "rule").stdout.splitlines())
    assert ours(lines, "wan1", CABLE) == []
    other.ip("link set wan1 netns box")
    lines.box.ip("link set wan1 up", f"addr add {CABLE}/24 dev wan1")
    lines.box.run(EVENT, "dhclient", env=env)
    by_own_line(lines, ("tcp",))


# What the kernel takes on an interface and can be nobody's.
NOBODYS = ("0.0.0.0/8", "127.0.0.9/8", "224.0.0.5/24", "255.255.255.255/32")


@pytest.mark.fault("F28", "F29")
def test_an_address_that_can_be_nobodys_stands_in_no_rule_though_the_interface_has_it(lines: World) -> None:
    """Told of by an event, found by sync, alone on the interface or beside a right one."""
    lines.box.ip(f"addr del {CABLE}/24 dev wan1")
    lines.multihook("sync", check=True)
    taken = 0
    for odd in NOBODYS:
        done = lines.box.run("ip", "addr", "add", odd, "dev", "wan1", check=False)
        if done.returncode:
            continue  # not every kernel takes each of them
        taken += 1
        address = odd.partition("/")[0]
        lines.log.clear()
        env = {"PATH": "/usr/bin:/bin", "reason": "BOUND", "interface": "wan1", "new_ip_address": address, "new_routers": ROUTER}
        lines.box.run(EVENT, "dhclient", env=env)
        (line,) = lines.log.lines()
        assert f'new_ip_address "{address}"' in line, line
        lines.multihook("sync")
        for rule in lines.rules():
            assert address not in rule and "wan1" not in rule, (odd, rule)
        assert lines.routes(201) == GUARD
        assert lines.connect().by == {"ppp0"}, "sockets that are bound to nothing go where main says"
        if odd != NOBODYS[-1]:  # beside which there will be a right one
            lines.box.ip("addr flush dev wan1")
    assert taken >= 3
    lines.box.ip(f"addr add {CABLE}/24 dev wan1")
    lines.multihook("sync", check=True)
    assert sorted(rule["src"] for rule in lines.box.ip_json("rule", "show", "priority", "7400")) == [CABLE, ONE]


@pytest.mark.fault("F28")
@pytest.mark.parametrize("length", [31, 0])
def test_addresses_with_odd_prefixes_are_links_like_others(world: World, length: int) -> None:
    """/31 by RFC 3021, and /0 as some DHCP server may say it. (/32: test_right_link.py.)"""
    isp = world.provider("isp", "203.0.113.0/24")
    fibre = world.provider("fibre", "198.51.100.6/31" if length == 31 else "198.51.100.0/24", wire="wan1", gateway="198.51.100.6")
    address = fibre.static(1 if length == 31 else 7)
    world.configure(CONFIG.replace(ROUTER, "198.51.100.6"))
    world.ppp_up("ppp0", ONE, PEER, isp, defaultroute=True)
    world.box.ip(f"addr add {address}/{length} dev wan1")
    world.multihook("sync", check=True)
    assert address == CABLE and world.multihook("status").returncode == 0
    by_own_line(world)
    assert world.wrong() == []


@pytest.mark.fault("F32")
def test_no_name_with_a_star_opens_the_translation_to_other_interfaces(world: World) -> None:
    """Beside `cable0` there are `cable*`, which nft would read as both, and `cable9`, whose traffic is none of ours."""
    world.provider("cable", "198.51.100.0/24", wire="cable0").static(7)
    other = world.provider("other", "192.0.2.0/24", wire="cable9")
    lan = world.lan()
    world.box.ip(
        f"addr add {CABLE}/24 dev cable0", f"addr add {other.static(9)}/24 dev cable9", "route add default via 192.0.2.1 dev cable9",
        "link add cable* type veth peer name far9", "link set cable* up", "addr add 10.9.0.2/24 dev cable*",
        "route add default via 10.9.0.1 dev cable* metric 9",
    )  # fmt: skip
    settings = '[multihook]\nadopt = false\n[link.cable]\ninterface = "cable0"\nsnat = true\ngateway = "198.51.100.1"\n'
    world.configure(settings)
    world.multihook("sync", check=True)
    world.multihook("up", "--", "cable*")
    ruleset = world.box.run("nft", "list", "table", "inet", "multihook").stdout
    assert '"cable0"' in ruleset and '*"' not in ruleset and "cable9" not in ruleset
    assert not any("*" in rule for rule in world.rules())
    # What leaves by cable9 is as it was: not translated, not stopped by us, and refused by that provider.
    assert world.connect(ns=lan.ns, timeout=0.3).wrong == {"cable9"}
    world.box.ip("route replace default via 198.51.100.1 dev cable0")
    assert world.connect(ns=lan.ns).by == {"cable0"}
    world.configure(settings.replace("cable0", "cable*"))
    assert world.multihook("check-config").returncode == 78


@pytest.mark.fault("F33")
def test_a_lease_that_claims_the_lan_and_half_the_internet_steals_neither(lines: World) -> None:
    """Option 121 through all of Debian's hooks, with 0/1, 128/1, our LAN's network and one around it."""
    lan = lines.lan()
    office = lan.office("10.1.0.0/16")
    routes = "1 0 198 51 100 1 1 128 198 51 100 1 24 192 168 1 198 51 100 1 16 192 168 198 51 100 1 8 10 198 51 100 1 0 198 51 100 1"
    lines.dhclient_script(
        "REBOOT", "wan1", new_ip_address=CABLE, new_subnet_mask="255.255.255.0", new_routers=ROUTER, new_rfc3442_classless_static_routes=routes
    )  # fmt: skip
    assert any(route.startswith("0.0.0.0/1 ") for route in lines.routes()), "Debian's own hook has put them into main"
    for address in (ONE, CABLE):
        for host, ns in ((lan.host, lan.ns), (office, lines.offices[office])):
            assert lines.box.run("ping", "-n", "-c1", "-W1", "-I", address, host, check=False).returncode == 0, (address, host)
            assert ns.run("ping", "-n", "-c1", "-W1", address, check=False).returncode == 0, (address, host)
    assert [entry for entry in lines.seen() if {lan.host, office} & {entry.source, entry.destination}] == []
    by_own_line(lines)
    assert lines.connect(device="ppp0").by == {"ppp0"}


# --- the kernel ---


@pytest.mark.fault("F45")
def test_rules_moved_doubled_and_gone_around_ours(lines: World) -> None:
    """Somebody's at 0, VRF's at 1000, local's at 500 with 0 gone, main's and default's gone: ours work by their own numbers."""
    before = sorted(ours(lines, "ppp0", "wan1", ONE, CABLE))
    lines.box.ip(
        "rule add from 192.0.2.77 lookup 300 priority 0", "rule add lookup local priority 500", "rule del lookup local priority 0",
        "rule add lookup main priority 32000 protocol kernel", "rule del priority 32766", "rule del priority 32767",
    )  # fmt: skip
    lines.box.run("ip", "rule", "add", "l3mdev", "protocol", "kernel", "priority", "1000", check=False)
    foreign = lines.snapshot(ours=False)
    by_own_line(lines)
    lines.sessions["ppp0"].readdress("203.0.113.50")
    lines.sessions["ppp0"].up_event()
    lines.sessions["ppp0"].readdress(ONE)
    lines.sessions["ppp0"].up_event()
    lines.multihook("sync", check=True)
    by_own_line(lines)
    assert sorted(ours(lines, "ppp0", "wan1", ONE, CABLE)) == before
    assert lines.snapshot(ours=False)["rules4"] == foreign["rules4"]


@pytest.mark.fault("F48", "F10")
@pytest.mark.parametrize("how", ["switched off", "not in the kernel"])
def test_without_ipv6_nothing_is_missing_and_nothing_is_said(lines: World, how: str) -> None:
    """disable_ipv6 everywhere; or no /proc/sys/net/ipv6 at all, as with ipv6.disable=1."""
    lines.box.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    lines.box.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    before = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc/sys/net/ipv6 && exec "$@"', "x") if how.startswith("not") else ()
    session = lines.sessions["ppp0"]
    for address in ("203.0.113.77", ONE):
        session.readdress(address)
        done = lines.box.run(*before, *event("ip-up", "ppp0", address))
        assert (done.stdout, done.stderr) == ("", "")
        assert lines.routes(200)[0] == f"default dev ppp0 proto 109 scope link src {address}"
    lines.box.run(*before, EVENT, "pppd", "ipv6-up", "ppp0", "", "0", "fe80::1", "fe80::2", "")
    for words in (["sync"], ["status"], ["flush"], ["sync"]):
        done = lines.box.run(*before, "/usr/bin/multihook", *words)
        assert done.returncode == 0 and done.stderr == "", words
    assert said(lines) == []
    by_own_line(lines, ("tcp",))


@pytest.mark.fault("F51")
def test_routing_is_right_for_what_is_not_tracked(lines: World) -> None:
    """`notrack` for everything, as where connection tracking is full or not there: rules by address and device do it."""
    lines.box.nft("""
        table ip raw {
            chain pre { type filter hook prerouting priority raw; notrack; }
            chain out { type filter hook output priority raw; notrack; }
        }
    """)
    by_own_line(lines)
    session = lines.sessions["ppp0"]
    session.reconnect("203.0.113.77")
    assert lines.connect(source="203.0.113.77").by == {"ppp0"} and lines.reach(CABLE).by == {"wan1"}
    assert lines.wrong() == []


@pytest.mark.fault("F60", "F65")
def test_all_links_go_and_the_first_that_is_back_works_at_once(lines: World) -> None:
    """Main has a way out that is no link's, by the LAN's router: what is bound to a lost link does not take it."""
    lan = lines.lan()
    lines.configure("[multihook]\nadopt = false\n" + CONFIG)
    lines.box.ip(f"route add default via {lan.router} dev lan0 metric 500")
    lines.multihook("sync", check=True)
    session = lines.sessions["ppp0"]
    with bound_sockets(lines, ONE, "ppp0") as by_dsl, bound_sockets(lines, CABLE, "wan1") as by_cable:
        session.lose_address()
        lines.box.ip("link set wan1 down")
        for after in (False, True):
            if after:
                session.down_event()
                lines.multihook("sync", check=True)
            for name, sock in (*by_dsl.items(), *by_cable.items()):
                error, seconds = ask(lines, sock)
                assert error in REFUSALS and seconds < AT_ONCE, (name, error, seconds, after)
    assert lines.multihook("status").returncode == 3
    session.reconnect()
    assert lines.connect(source=ONE).by == {"ppp0"} and lines.reach(ONE).by == {"ppp0"}
    lines.box.ip("link set wan1 up")
    lines.multihook("up", "wan1", check=True)
    by_own_line(lines)
    assert lines.wrong() == []


@pytest.mark.fault("F80")
def test_a_line_that_stays_dead_says_nothing(lines: World) -> None:
    """pppd that redials in vain, a late ip-down again and again, looks at it: one line when it went, and no more."""
    session = lines.sessions["ppp0"]
    session.drop()
    for _ in range(3):  # what was written a moment ago is looked at once more
        session.down_event()
        lines.multihook("sync", check=True)
    assert len([line for line in lines.log.lines() if line.startswith("dsl: ")]) == 1
    with silence(lines, "a dead line"):
        for _ in range(10):
            session.down_event()
        session.event("ipv6-down", True, local="fe80::1", remote="fe80::2")
        lines.multihook("sync", check=True)
        assert lines.multihook("status").returncode == 3


# --- the caller ---


@pytest.mark.fault("F22")
@pytest.mark.parametrize("call", ["clone", "execve"])
def test_where_no_process_can_be_started_routing_is_right_all_the_same(lines: World, call: str) -> None:
    """EAGAIN for each fork, ENOMEM for each program: the child at SNAT's socket, notify.d, nft for a new table."""
    program = Path("/etc/multihook/notify.d/record")
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    session = lines.sessions["ppp0"]
    programs = ("/usr/sbin/nft", "/usr/lib/multihook/notify")
    names, refused = {"clone": ("clone,clone3,fork,vfork", "error=EAGAIN"), "execve": ("execve", "error=ENOMEM")}[call]
    only = [word for program in programs if call == "execve" for word in ("-P", program)]
    for number, table in enumerate(("as it was", "to be made")):
        address = f"203.0.113.{70 + number}"
        session.readdress(address)
        if table == "to be made":
            lines.box.nft("delete table inet multihook")
        lines.log.clear()
        words = ("strace", "-f", "-qq", "-o", "/dev/null", *only, "-e", f"trace={names}", "-e", f"inject={names}:{refused}")
        start = time.monotonic()
        done = lines.box.run(*words, *event("ip-up", "ppp0", address), check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), table
        assert time.monotonic() - start < BOUND_SECONDS
        assert lines.routes(200)[0] == f"default dev ppp0 proto 109 scope link src {address}", table
        assert ours(lines, address) and not ours(lines, ONE)
        problems = said(lines)
        assert len(problems) == (1 if table == "as it was" else 2), problems
        assert all(any(program in line for program in programs) for line in problems), problems
    # With processes again the next event of any link makes what was missing.
    lines.multihook("up", "wan1", check=True)
    assert lines.multihook("status").returncode == 0
    assert lines.snapshot(foreign=False)["nft"] != []


@pytest.mark.fault("F21", "F74")
def test_a_program_of_notify_d_that_becomes_a_daemon_holds_nothing_of_ours(lines: World) -> None:
    """It leaves its session, closes nothing and lives on: events and news go on as ever, and nobody waits for it."""
    told, pids = Path("/run/daemon-told"), Path("/run/daemon-pids")
    program = Path("/etc/multihook/notify.d/daemon")
    program.write_text(f"#!/bin/sh\necho \"$MULTIHOOK_ADDRESS\" >>{told}\nsetsid sh -c 'echo $$ >>{pids}; exec sleep 1000' &\nsleep 0.2\n")
    program.chmod(0o755)
    session = lines.sessions["ppp0"]
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
        assert said(lines) == []
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
def test_variables_twice_without_a_name_or_value_and_of_no_text(lines: World) -> None:
    """An environment that no shell would hand over: one value counts, and it is checked; nothing is run, nothing hangs."""
    ours_before = lines.snapshot(foreign=False)
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
        done = exec_with(lines, environment, EVENT, "dhclient")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), what
        assert time.monotonic() - start < 3, what
        assert lines.snapshot(foreign=False) == ours_before, what
        problems = said(lines)
        assert len(problems) <= 2 and all(line.isascii() and line.isprintable() and len(line) < 1000 for line in problems), (what, problems)
    by_own_line(lines, ("tcp",))


# --- state ---

LINKS = "".join(f'[link.l{n}]\ninterface = "ppp{n}"\ntable = {200 + n}\n' for n in range(2))
PROGRAM = Path("/etc/multihook/notify.d/record")
# Those that test_crash.py has no use for: of features and programs that its machine has not.
# What each has where the machine has none: as a run that was killed, or a hook that may not write /var, leaves it.
KINDS = {
    PRIVATE / "sysctls/ppp0": "",
    PRIVATE / "connections": "multihook connections 1\nl0 203.0.113.9\nend\n",
    PRIVATE / "front": "",
    PRIVATE / "told/l0.inet": "",
    PRIVATE / "news/l0.00000000000000000001-9-0": "multihook news 1\nMULTIHOOK_LINK=l0\nend\n",
    VAR / "glftpd": "",
    RUN / "tables": "l9 1005\n",
}
WAYS = ("cut at 50", "newer", "foreign owner", "fifo", "full folder", "symlink")


@pytest.fixture
def rich(world: World) -> Iterator[World]:
    """Two links, glftpd, a program in notify.d, a rule in front of ours: each kind of state is in use."""
    glftpd, multilink = Path("/etc/glftpd.conf"), Path("/etc/multilink.conf")
    glftpd.write_text("shutdown 0\n")
    PROGRAM.write_text("#!/bin/sh\nexit 0\n")
    PROGRAM.chmod(0o755)
    world.configure(LINKS + "[glftpd]\n")
    for number, address in enumerate((ONE, TWO)):
        world.ppp_up(f"ppp{number}", address, PEER, event=False)
    world.box.ip("route add default dev ppp1 table 300", "rule add lookup 300 priority 6000")
    world.multihook("sync", check=True)
    world.settle()
    world.log.clear()
    yield world
    for path in (glftpd, multilink, Path(f"{glftpd}.multihook-backup"), Path(f"{multilink}.multihook-backup")):
        path.unlink(missing_ok=True)


def newer(path: Path) -> None:
    """As a later version of the program would write it."""
    content = path.read_bytes()
    first, newline, rest = content.partition(b"\n")
    other = re.sub(rb" \d+$", b" 99", first)
    path.write_bytes(other + newline + rest if other != first else b"multihook future 99\n" + content)


@pytest.mark.fault("F18")
def test_damaged_state_of_features_and_programs_is_as_good_as_none(rich: World) -> None:
    """The event is applied at once, nothing foreign is written, nobody hangs; then everything is in line again."""
    session: Session = rich.sessions["ppp0"]
    kept = {path: content.encode() or path.read_bytes() for path, content in KINDS.items()}
    for number, (path, way) in enumerate(itertools.product(KINDS, WAYS)):
        what = (str(path), way)
        # Programs take their time, and only two of the kinds are theirs.
        PROGRAM.chmod(0o755 if path.parent.name in ("told", "news") else 0o644)
        CANARY.write_text("somebody else's\n")
        path.parent.mkdir(exist_ok=True, mode=0o700)
        clear_away(path)
        path.write_bytes(kept[path])
        path.chmod(0o600)
        newer(path) if way == "newer" else damage(path, way)
        before = CANARY.read_bytes()
        address = f"203.0.113.{120 + number}"
        session.readdress(address)
        start = time.monotonic()
        session.up_event()
        assert time.monotonic() - start < 3, what
        assert rich.routes(200)[0] == f"default dev ppp0 proto 109 scope link src {address}", what
        assert {rule["src"] for rule in rich.box.ip_json("rule", "show", "priority", "7400")} == {address, TWO}, what
        assert f"active_addr {address}\n" in Path("/etc/multilink.conf").read_text(), what
        rich.settle(5)
        assert CANARY.read_bytes() == before and len(said(rich)) <= 2, what
        if way == "full folder":
            done = rich.multihook("status")
            assert "Traceback" not in done.stderr and done.returncode in (0, 1), (what, done)
        clear_away(path)
        said(rich)
    rich.multihook("sync", check=True)
    rich.settle(5)
    assert rich.multihook("status").returncode == 0 and leftovers() == []
    assert Path("/etc/glftpd.conf").read_text() == "include /etc/multilink.conf\nshutdown 0\n"


VERSIONED = (RUN / "leases/l0.inet", RUN / "last", PRIVATE / "applied", PRIVATE / "compiled", PRIVATE / "image", VAR / "last-good.json")


@pytest.mark.fault("F18", "F75")
def test_state_of_a_later_version_is_not_believed(rich: World) -> None:
    """After a downgrade: every kind of file says a number that this version does not know, and all is made anew."""
    for path in (*VERSIONED, *(kind for kind in KINDS if kind.exists())):
        newer(path)
    goal = rich.snapshot()
    session = rich.sessions["ppp0"]
    session.up_event()
    assert rich.snapshot() == goal
    rich.multihook("sync", check=True)
    rich.settle(5)
    assert rich.snapshot() == goal and rich.multihook("status").returncode == 0
    # What a run made anew; the result of the last run that changed something is only shown.
    for path in set(VERSIONED[:5]) - {RUN / "last"}:
        assert b" 99" not in path.read_bytes().partition(b"\n")[0], path
    shutil.rmtree(RUN)
    session.up_event()
    assert rich.snapshot() == goal

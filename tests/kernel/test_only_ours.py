"""G2: what others made stays as it was through events, sync and flush, and flush leaves nothing of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from world import World

DSL, OFFICE, CABLE = "203.0.113.45", "203.0.113.61", "198.51.100.7"
PEER = "203.0.113.1"
CONFIG = """
[multihook]
ignore = ["lan*"]

[link.dsl]
interface = "ppp0"
table = 200

[link.cable]
interface = "wan1"
table = 201
gateway = "198.51.100.1"
"""

# What other programs keep there: our priorities, our tables, and rules that are ours but for the protocol.
FOREIGN = f"""
link add lan0 type bridge
link set lan0 up group 7
addr add 192.168.1.1/24 dev lan0
addr add 10.77.0.1/32 dev lan0
link add wg0 type bridge
link set wg0 up group 42
addr add 10.8.0.2/24 dev wg0
rule add from 10.78.0.1 lookup 200 priority 7000
rule add from all oif far9 lookup 201 priority 7000 protocol static
rule add to 10.9.0.0/16 lookup main priority 7200 protocol bird
rule add from {DSL} lookup 200 priority 7400 protocol static
rule add from {DSL} lookup main suppress_prefixlength 1 suppress_ifgroup 109 priority 7200 protocol static
rule add oif ppp0 lookup 200 priority 7000 protocol static
rule add from {CABLE} lookup 201 priority 7400
rule add from 192.168.9.0/24 iif lan0 lookup 200 priority 7400 protocol zebra
rule add fwmark 0x2/0xff lookup 201 priority 7100
rule add fwmark 0x1/0xff lookup 300 priority 7100
rule add from 10.77.0.0/16 ipproto tcp dport 25 lookup 300 priority 7150
rule add uidrange 4711-4712 lookup 300 priority 7400
rule add from 192.168.1.0/24 iif lan0 lookup 300 priority 7450
rule add from 192.0.2.9 prohibit priority 7600
rule add from 192.0.2.10 tos 0x10 lookup 200 priority 7400
rule add from all lookup 51820 not fwmark 0xca6c priority 8000
rule add lookup main suppress_prefixlength 0 priority 7999
rule add fwmark 0x80000/0xff0000 lookup 52 priority 5270 protocol static
route add default via 192.168.1.252 dev lan0 table 300
route add 192.0.2.128/25 dev lan0 table 200 proto static
route add blackhole 10.66.0.0/16 table 200 proto bird
route add 10.9.0.0/16 via 192.168.1.254 dev lan0 table 201
route add default via 192.168.1.254 dev lan0 table 201 metric 700 proto zebra
route add unreachable default table 201 metric 4000000000
route add default dev wg0 table 51820
route add 172.16.0.0/12 via 192.168.1.254 dev lan0 proto bird metric 20
route add 172.17.0.0/16 metric 5 nexthop via 192.168.1.253 dev lan0 nexthop via 192.168.1.254 dev lan0
route add prohibit 172.18.0.0/16
route add default via 192.168.1.254 dev lan0 metric 9000 proto static
"""
FOREIGN6 = """
rule add from 2001:db8::1 lookup 200 priority 7400
rule add lookup main suppress_prefixlength 0 priority 7999
route add 2001:db8:1::/48 dev lan0 table 200 proto static
"""
NFT = """
table inet filter {
    chain forward {
        type filter hook forward priority filter; policy accept;
        iifname "lan0" counter accept
    }
}
table ip multihook2 {
    map snat4 {
        type ifname : ipv4_addr
        elements = { "ppp0" : 203.0.113.45 }
    }
}
table inet mangle {
    chain out {
        type route hook output priority mangle;
        meta mark set meta mark
    }
}
"""
FILES = {
    "rt_tables.d/other.conf": "300 elsewhere\n",
    "rt_tables.d/zz.conf": "# ours to keep\n4711 voip\n",
    "rt_protos.d/other.conf": "150 somebody\n",
}
# Traffic that has nothing to do with the links: from, to, marked, forwarded, by other interfaces.
ELSEWHERE = (
    "192.168.1.77",
    "10.9.1.1",
    "10.8.0.1 from 10.8.0.2",
    "198.18.0.10",
    "198.18.0.10 from 10.77.0.1",
    "198.18.0.10 from 10.77.0.1 ipproto tcp dport 25",
    "198.18.0.10 mark 0x1",
    "198.18.0.10 mark 0xca6c",
    "198.18.0.10 mark 0x80000",
    "198.18.0.10 oif lan0",
    "198.18.0.10 from 192.168.1.10 iif lan0",
    "198.18.0.10 from 10.8.0.9 iif wg0",
    "198.18.0.10 uid 4711",
    "172.16.5.5",
    "172.17.5.5 from 192.168.1.1",
    "172.18.5.5",
    "192.0.2.200 from 10.77.0.1",
    "127.0.0.1",
)


def furnish(world: World) -> None:
    """Everything that belongs to others."""
    world.box.ip(*FOREIGN.strip().splitlines())
    world.box.run("ip", "-6", "-batch", "-", input=FOREIGN6)
    world.box.nft(NFT)
    for name, text in FILES.items():
        path = Path("/etc/iproute2", name)
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)


# What multihook and these tests write below /etc: no other file of that name is ours.
OWN_FILES = (
    "/etc/iproute2/rt_tables.d/multihook.conf",
    "/etc/iproute2/rt_protos.d/multihook.conf",
    "/etc/multihook/multihook.toml",
)


def files() -> dict[str, tuple[object, ...]]:
    """Every file and link below /etc but our own, down to its inode: nobody wrote to them, or made new ones."""
    found: dict[str, tuple[object, ...]] = {}
    for path in Path("/etc").rglob("*"):
        if str(path) in OWN_FILES or (path.is_dir() and not path.is_symlink()):
            continue
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_mode, status.st_uid)
    return found


def cards(world: World) -> dict[str, dict[str, object]]:
    """Every interface with its flags, sizes and queue; the group only of those that are no links."""
    found = {}
    for entry in world.box.ip_json("link"):
        if entry["ifname"] not in OTHERS:
            del entry["group"]
        found[entry["ifname"]] = entry
    return found


def answers(world: World) -> dict[str, str]:
    """`ip route get` for each of ELSEWHERE, or why there is no way."""
    lines = "".join(f"route get {words}\n" for words in ELSEWHERE)
    done = world.box.run("ip", "-N", "-o", "-force", "-batch", "-", input=lines, check=False)
    # The kernel names the table local only once there is any rule that it did not make itself.
    return {"found": done.stdout.replace(" table 255", ""), "refused": done.stderr}


def sysctls(world: World) -> dict[str, str]:
    """Every knob of IPv4 and IPv6 in the box; those of interfaces that come and go with their interface left out."""
    found = {}
    with world.box.entered():
        for folder in ("ipv4", "ipv6"):
            for path in Path("/proc/sys/net", folder).rglob("*"):
                try:
                    found[str(path)] = path.read_text()
                except OSError:
                    continue  # a folder, write-only, or not set
    return found


# What is set for the links while they are links; after a flush these too are as they were.
OUR_SYSCTLS = re.compile("/conf/(wan1|ppp0)/(rp_filter|src_valid_mark|arp_ignore|arp_announce|arp_filter)$")


def foreign(world: World) -> dict[str, object]:
    """What others own, and where their traffic goes."""
    return {
        **world.snapshot(ours=False),
        "cards": cards(world),
        "answers": answers(world),
        "sysctls": {path: value for path, value in sysctls(world).items() if not OUR_SYSCTLS.search(path)},
        "files": files(),
    }


OTHERS = ("lo", "lan0", "wg0")
EMPTY = {"rules4": [], "rules6": [], "routes4": [], "routes6": [], "group": [], "nft": []}


@contextmanager
def untouched(world: World, what: str) -> Iterator[None]:
    """Whatever is done meanwhile, others' things are the same after it."""
    before = foreign(world)
    yield
    world.settle()
    after = foreign(world)
    for kind, value in before.items():
        assert after[kind] == value, f"{what} changed foreign {kind}"


def dhclient(world: World, reason: str, **variables: str) -> None:
    """The hook of dhclient alone, so that what changes is what it did."""
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "reason": reason, "interface": "wan1", **variables}
    world.box.run("dash", "-c", ". /etc/dhcp/dhclient-exit-hooks.d/multihook", env=env)


def lease(address: str = CABLE) -> dict[str, str]:
    """The variables of a lease."""
    return {"new_ip_address": address, "new_subnet_mask": "255.255.255.0", "new_routers": "198.51.100.1"}


def card(world: World) -> None:
    """wan1 with its address; its other end is a card of the same machine that nobody looks at."""
    world.box.ip("link add wan1 type veth peer name far1", "link set wan1 up", "link set far1 up")
    world.box.ip(f"addr add {CABLE}/24 dev wan1")


def two_lines(world: World) -> None:
    """ppp0 and wan1 with their addresses, not a word said to multihook."""
    world.ppp_up("ppp0", DSL, PEER, event=False)
    card(world)


@pytest.mark.fault("F43", "F44")
@pytest.mark.fast
def test_nothing_foreign_changes_through_a_life_of_two_links(world: World) -> None:
    """Events of every kind, sync, down, up, flush: each on its own leaves others' things as they were."""
    world.configure(CONFIG)
    two_lines(world)
    furnish(world)
    session = world.sessions["ppp0"]
    with untouched(world, "the first ip-up"):
        session.up_event()
    with untouched(world, "BOUND"):
        dhclient(world, "BOUND", **lease())
    assert world.multihook("status").returncode == 0
    with untouched(world, "RENEW"):
        dhclient(world, "RENEW", **lease())
    world.box.ip("addr add 198.51.100.8/24 dev wan1", f"addr del {CABLE}/24 dev wan1", "addr add 198.51.100.8/24 dev wan1")
    with untouched(world, "BOUND with another address"):
        dhclient(world, "BOUND", **lease("198.51.100.8"), old_ip_address=CABLE)
    assert "default via 198.51.100.1 dev wan1 proto 109 src 198.51.100.8" in world.routes(201)
    session.readdress(OFFICE)
    with untouched(world, "ip-up with another address"):
        session.up_event()
    with untouched(world, "multihook sync"):
        world.multihook("sync", check=True)
    with untouched(world, "multihook down"):
        world.multihook("down", "wan1", check=True)
    with untouched(world, "multihook up"):
        world.multihook("up", "wan1", check=True)
    world.box.ip("addr flush dev wan1")
    with untouched(world, "EXPIRE"):
        dhclient(world, "EXPIRE", old_ip_address="198.51.100.8")
    session.lose_address()
    with untouched(world, "ip-down"):
        session.down_event()
    with untouched(world, "multihook flush"):
        world.multihook("flush", check=True)
    assert world.snapshot(foreign=False) == EMPTY
    with untouched(world, "an event while held"):
        session.up_event()


@pytest.mark.fault("F44")
def test_flush_leaves_nothing_of_ours_and_everything_of_theirs(world: World) -> None:
    """Also after changes of the configuration: every object with our protocol goes, and the files of names with it."""
    world.configure(CONFIG)
    two_lines(world)
    furnish(world)
    before = foreign(world)
    knobs = sysctls(world)
    world.multihook("sync", check=True)
    assert world.snapshot(foreign=False) != EMPTY
    world.configure(CONFIG.replace("table = 201", "table = 205\nnetworks = ['10.1.0.0/16']"))
    for words in (["flush", "--once"], ["flush"]):
        world.multihook("sync", check=True)
        world.multihook(*words, check=True)
        assert world.snapshot(foreign=False) == EMPTY
        assert foreign(world) == before
        assert sysctls(world) == knobs
        assert not list(Path("/etc/iproute2").glob("*/multihook.conf"))


def test_removing_the_configuration_takes_only_our_objects_out(world: World) -> None:
    """A link that is named no more, with adoption off: its table keeps what others put there."""
    world.configure(CONFIG)
    two_lines(world)
    furnish(world)
    world.multihook("sync", check=True)
    with untouched(world, "sync with an empty configuration"):
        world.configure("[multihook]\nadopt = false\n")
        world.multihook("sync", check=True)
    assert world.snapshot(foreign=False) == EMPTY


# wg-quick(8), del_if(): it deletes whatever `ip rule` shows with these words, until there is no more.
WG_QUICK_DOWN = """
table=51820
while [[ $(ip -4 rule show 2>/dev/null) == *"lookup $table"* ]]; do
    ip -4 rule delete table $table
done
while [[ $(ip -4 rule show 2>/dev/null) == *"from all lookup main suppress_prefixlength 0"* ]]; do
    ip -4 rule delete table main suppress_prefixlength 0
done
"""


@pytest.mark.fault("F42")
def test_wg_quick_down_leaves_our_rules(world: World) -> None:
    """It deletes every rule that says `lookup main suppress_prefixlength 0`, whatever else the rule says."""
    world.configure(CONFIG)
    two_lines(world)
    world.multihook("sync", check=True)
    ours = world.snapshot(foreign=False)
    world.box.ip("rule add not fwmark 51820 table 51820", "rule add table main suppress_prefixlength 0")
    world.box.run("timeout", "20", "bash", "-c", WG_QUICK_DOWN)
    assert "suppress_prefixlength 0" not in "\n".join(world.rules())
    assert world.snapshot(foreign=False) == ours
    assert world.multihook("status").returncode == 0


IN_PLACE = (
    ("default via 198.51.100.254 dev wan1 table 201 proto static", "default"),
    ("unreachable default metric 4294967295 table 201 proto static", "default"),
    ("198.51.100.0/24 via 198.51.100.254 dev wan1 table 201 proto bird", "198.51.100.0/24"),
)


@pytest.mark.fault("F43")
@pytest.mark.parametrize(("route", "named"), IN_PLACE, ids=["default", "guard", "network"])
@pytest.mark.parametrize("way", ["event", "sync"])
def test_a_foreign_route_in_our_place_stays_and_is_named(world: World, route: str, named: str, way: str) -> None:
    """Neither replaced nor pushed aside; the log says which route, in which table, and what to do."""
    world.configure(CONFIG)
    two_lines(world)
    world.box.ip(f"route add {route}")
    before = foreign(world)
    if way == "event":
        dhclient(world, "BOUND", **lease())
    else:
        done = world.multihook("sync")
        assert done.returncode == 1 and f"{named} stands in table 201" in done.stderr
    assert foreign(world) == before
    (entry,) = [entry for entry in world.log.entries() if entry.severity == "err"]
    assert entry.text.startswith("cable: not applied: ") and f"a foreign route to {named} stands in table 201" in entry.text
    assert world.multihook("status").returncode == 1
    # Out of the way, it is right at once; and the other link never suffered.
    world.box.ip(f"route del {route}")
    assert world.multihook("sync").returncode == world.multihook("status").returncode == 0
    assert "default dev ppp0 proto 109 scope link src 203.0.113.45" in world.routes(200)


@pytest.mark.fault("F43")
@pytest.mark.parametrize("way", ["event", "sync", "flush"])
def test_a_foreign_route_beside_ours_is_never_the_one_that_goes(world: World, way: str) -> None:
    """`ip route prepend` puts a second default of the same metric in front: replacing ours must not hit that one."""
    world.configure(CONFIG)
    two_lines(world)
    world.multihook("sync", check=True)
    world.box.ip(
        "route prepend default via 198.51.100.254 dev wan1 table 201 proto static",
        "route prepend 198.51.100.0/24 via 198.51.100.254 dev wan1 table 201 proto static",
        "route append default via 198.51.100.253 dev wan1 table 201 proto bird",
    )
    with untouched(world, way):
        if way == "event":
            dhclient(world, "BOUND", **{**lease(), "new_routers": "198.51.100.2"})
        else:
            world.configure(CONFIG.replace("198.51.100.1", "198.51.100.2"))
            world.multihook(way)
    assert "default via 198.51.100.1 dev wan1 proto 109 src 198.51.100.7" not in world.routes(201)


@pytest.mark.fault("F43")
def test_a_foreign_interface_group_is_left_alone(world: World) -> None:
    """A link's interface that somebody put in a group of his own stays there, at sync and at flush; status says so."""
    world.configure(CONFIG)
    two_lines(world)
    world.box.ip("link set wan1 group 7")
    for words in (["sync"], ["flush"]):
        world.multihook(*words, check=True)
        wan1, ppp0 = world.box.interface("wan1"), world.box.interface("ppp0")
        assert wan1 and ppp0 and wan1["group"] == "7"
    assert "interface group 7 is another program's" in world.multihook("status").stdout


def test_fifty_dial_in_sessions_with_one_local_address_change_nothing(world: World) -> None:
    """An access server's sessions share its address and lead nowhere: not one is adopted, nobody is told a thing."""
    before = foreign(world)
    for number in range(50):
        world.ppp_up(f"ppp{number}", "192.0.2.1", f"10.20.0.{number + 1}")
    assert world.snapshot(foreign=False) == EMPTY
    assert world.log.lines() == []
    for number in range(50):
        world.sessions[f"ppp{number}"].drop()
        world.sessions[f"ppp{number}"].down_event()
    assert foreign(world) == before and world.log.lines() == []
    assert list(Path("/run/multihook/leases").glob("*")) == []


def test_one_line_alone_changes_nothing_at_all(world: World) -> None:
    """On a machine with one line everything but our own state is as if multihook were not there."""
    card(world)
    world.box.ip("route add default via 198.51.100.1 dev wan1")
    furnish(world)
    world.box.ip("route del default metric 9000")
    with untouched(world, "the only line"):
        dhclient(world, "BOUND", **lease())
        world.multihook("sync", check=True)
        dhclient(world, "RENEW", **lease())
    assert world.snapshot(foreign=False) == EMPTY


@pytest.mark.fault("F45")
def test_rules_of_the_kernel_and_of_nobody_are_not_touched_by_priority(world: World) -> None:
    """main's and default's rules moved or doubled by the administrator stay where he put them."""
    world.configure(CONFIG)
    two_lines(world)
    world.box.ip(
        "rule add lookup main priority 32000 protocol kernel",
        "rule del priority 32767",
        "rule add lookup default priority 7999 protocol kernel",
    )
    with untouched(world, "sync and flush"):
        world.multihook("sync", check=True)
        world.multihook("flush", check=True)


@pytest.mark.fault("F14")
def test_an_interface_that_others_renamed_takes_nothing_foreign_along(world: World) -> None:
    """The link's card goes and comes under another name: what others keep in its table stays, ours follows."""
    world.configure(CONFIG)
    two_lines(world)
    world.multihook("sync", check=True)
    world.box.ip("route add 192.0.2.0/24 dev lo table 201 proto static", f"rule add from {CABLE} lookup 201 priority 7399")
    world.box.ip("link set wan1 down", "link set wan1 name eth9")
    with untouched(world, "sync after the renaming"):
        world.multihook("sync", check=True)
    left = str(world.snapshot(foreign=False)["rules4"])
    assert DSL in left and "wan1" not in left and CABLE not in left

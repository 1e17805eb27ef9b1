"""The console command: what it prints, its JSON, its exit statuses, its dry run, and what it does without root or lock."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from two_lines import CABLE, CONFIG, ONE, ROUTER, TWO

from world import World
from world.namespaces import Namespace
from world.observe import snapshot
from world.ppp import PEER, open_tun

LOCK = Path("/run/multihook/private/lock")
EMPTY = {"rules4": [], "rules6": [], "routes4": [], "routes6": [], "group": [], "nft": []}
COMMANDS = ("status", "sync", "up", "down", "flush", "doctor", "check-config")


@pytest.fixture
def lines(world: World) -> World:
    """dsl on ppp0 and cable on wan1, in line."""
    world.configure(CONFIG)
    world.ppp_up("ppp0", ONE, PEER, event=False)
    card(world)
    world.multihook("sync", check=True)
    world.sessions["ppp0"].up_event()
    world.log.clear()
    return world


def card(world: World, name: str = "wan1", address: str = CABLE) -> None:
    """An Ethernet card with an address."""
    world.box.ip(f"link add {name} type veth peer name far-{name}", f"link set {name} up", f"link set far-{name} up")
    world.box.ip(f"addr add {address}/24 dev {name}")


def report(world: World, **more: Any) -> dict[str, Any]:
    """What `status --json` says; the exit status in it is the real one."""
    done = world.multihook("status", "--json", **more)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["exit_status"] == done.returncode
    conforms(found, REPORT, "status")
    return found


# --- the schema of the JSON, version 1: fields may be added under the same number, none is renamed or taken away ---

LINK_NAME = re.compile(r"[a-z][a-z0-9_-]{0,15}")
INTERFACE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,14})?")
ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
WORDS = re.compile(r"[^\n]+")
FAMILY = {
    "family": {"inet"},
    "address": (ADDRESS, None),
    "prefixlen": (int, None),
    "former_address": (ADDRESS, None),
    "next_hop": (ADDRESS, None),
    "on_segment": bool,
    "source": {"kernel", "pppd", "dhclient", "dhcpcd", "ifupdown", "command"},
    "reason": WORDS,
    "since_seconds": int,
    "changed_seconds": (int, None),
}
LINK = {
    "name": LINK_NAME,
    "state": {"up", "down", "held"},
    "interface": INTERFACE,
    "adopted": bool,
    "alone": bool,
    "table": (int, None),
    "snat": {"auto", "masquerade", True, False},
    "stopped": ({"packets": int, "octets": int}, None),
    "families": [FAMILY],
    "notes": [WORDS],
}
REPORT = {
    "version": {1},
    "multihook": re.compile(r"\d+\.\d+\.\d+"),
    "configuration": {"error": str, "usable": bool},
    "held": bool,
    "links": [LINK],
    "differences": [re.compile(r"(ip (-6 )?(route|rule|link)|sysctl|conntrack) [^\n]+|nft (?s:.)+")],
    "last": ({"failed": bool, "line": WORDS, "ago_seconds": int}, None),
    "remarks": [WORDS],
    "snat_compared": (bool, None),
    "exit_status": {0, 1, 3, 78},
}


def conforms(value: Any, schema: Any, where: str) -> None:
    """AssertionError where the value is not as the schema says: types, patterns, choices, exactly these fields."""
    if isinstance(schema, tuple):
        plain = schema[0]
        if value is not None:
            conforms(value, plain, where)
    elif isinstance(schema, dict):
        assert isinstance(value, dict) and value.keys() == schema.keys(), (where, value)
        for key, inner in schema.items():
            conforms(value[key], inner, f"{where}.{key}")
    elif isinstance(schema, list):
        assert isinstance(value, list), where
        for number, entry in enumerate(value):
            conforms(entry, schema[0], f"{where}[{number}]")
    elif isinstance(schema, set):
        assert value in schema, (where, value)
    elif isinstance(schema, re.Pattern):
        assert isinstance(value, str) and schema.fullmatch(value), (where, value)
    else:
        assert type(value) is schema, (where, value)


def test_the_json_keeps_its_schema_in_every_state(world: World) -> None:
    """Nothing there, one line alone, adopted, down, held, wrong configuration, failed, with remarks: the same fields."""
    assert report(world)["links"] == []
    world.ppp_up("ppp0", ONE, PEER, defaultroute=True)
    (alone,) = report(world)["links"]
    assert alone["alone"] and alone["adopted"] and alone["state"] == "up"
    card(world)
    world.box.ip(f"route add default via {ROUTER} dev wan1 metric 10")
    world.multihook("sync", check=True)
    both = report(world)
    assert [(one["name"], one["adopted"], one["alone"]) for one in both["links"]] == [("ppp0", True, False), ("wan1", True, False)]
    assert both["exit_status"] == 0 and both["differences"] == [] and both["last"]["failed"] is False
    assert both["links"][1]["families"][0]["next_hop"] == ROUTER and both["links"][0]["families"][0]["next_hop"] is None
    world.configure(CONFIG)
    assert report(world)["exit_status"] == 1
    world.multihook("sync", check=True)
    assert report(world)["exit_status"] == 0
    world.sessions["ppp0"].readdress(TWO)
    world.sessions["ppp0"].up_event()
    (dsl, _) = report(world)["links"]
    assert dsl["families"][0]["former_address"] == ONE and dsl["families"][0]["changed_seconds"] in (0, 1, 2)
    world.ppp_down("ppp0")
    down = report(world)
    assert down["exit_status"] == 3 and down["links"][0]["state"] == "down" and down["links"][0]["families"][0]["address"] is None
    world.multihook("flush", check=True)
    held = report(world)
    assert held["held"] and held["exit_status"] == 3 and {one["state"] for one in held["links"]} == {"held"}
    world.multihook("sync", check=True)
    world.configure("[link.x\n")
    wrong = report(world)
    assert wrong["exit_status"] == 78 and wrong["configuration"]["usable"] and ":1:" in wrong["configuration"]["error"]


def test_the_screen_shows_what_the_design_promises(lines: World) -> None:
    """A table of links, a summary; for one link also the commands to look oneself, which really work."""
    done = lines.multihook("status")
    head, dsl, cable, *rest = done.stdout.splitlines()
    assert head.split() == ["LINK", "STATE", "INTERFACE", "ADDRESS", "NEXT", "HOP", "TABLE", "SNAT", "SINCE"]
    assert dsl.split()[:6] == ["dsl", "up", "ppp0", ONE, "-", "200"]
    assert cable.split()[:6] == ["cable", "up", "wan1", CABLE, ROUTER, "201"]
    assert rest[-1] == "2 of 2 links are up. The kernel agrees with all of it."
    assert done.stderr == "" and done.returncode == 0
    one = lines.multihook("status", "cable").stdout
    assert "dsl" not in one
    commands = [line.strip() for line in one.splitlines() if line.startswith("  ip ")]
    assert len(commands) >= 4
    for command in commands:
        shown = lines.box.run("sh", "-c", command)
        assert shown.stdout and shown.stderr == "", command
    lines.box.ip("rule del priority 7000")
    done = lines.multihook("status")
    assert done.returncode == 1 and "ip rule add from all oif" in done.stdout and "multihook sync" in done.stdout


def test_exit_statuses_and_the_worst_of_several(lines: World) -> None:
    """0 agrees; 3 a configured link is down; 1 differs; 78 the configuration; 2 usage. 78 before 1 before 3."""

    def status() -> int:
        return int(lines.multihook("status").returncode)

    assert status() == 0
    lines.ppp_down("ppp0")
    assert status() == 3
    lines.box.ip("rule add from 192.0.2.1 lookup 201 priority 7400 protocol 109")
    assert status() == 1
    lines.configure("nonsense")
    assert status() == 78
    lines.configure(CONFIG)
    assert status() == 1
    assert lines.multihook("sync").returncode == 0 and status() == 3
    for words in (["status", "nolink"], ["nothing"], ["status", "--what"], ["up"], ["down"], ["up", "a b"], ["up", "wan1", "--gateway", "x"],
                  ["up", "wan1", "--gateway", "0.0.0.0"], ["up", "wan1", "--gateway", "2001:db8::1"], ["sync", "more"], ["flush", "more"]):  # fmt: skip
        done = lines.multihook(*words)
        assert done.returncode == 2 and "Traceback" not in done.stderr and done.stdout == "", (words, done)


def test_a_down_adopted_link_is_no_failure(world: World) -> None:
    """Only configured links are promised to be up."""
    for name, address, metric in (("ppp0", ONE, 1), ("ppp1", TWO, 2)):
        world.ppp_up(name, address, PEER, event=False)
        world.box.ip(f"route add default dev {name} metric {metric}")
    world.multihook("sync", check=True)
    world.ppp_down("ppp1")
    assert world.multihook("status").returncode == 0


def test_a_failed_run_is_remembered_until_a_good_one(lines: World) -> None:
    """A hook has no screen: what went wrong in it stands in status until it is mended."""
    lines.box.ip("rule del priority 7000", "route del default table 201", "route add default via 198.51.100.9 dev wan1 table 201 proto static")
    lines.sessions["ppp0"].up_event()
    done = lines.multihook("status")
    assert done.returncode == 1 and "failed: cable: not applied:" in done.stdout
    lines.box.ip("route del default table 201 proto static")
    lines.sessions["ppp0"].up_event()
    done = lines.multihook("status")
    assert done.returncode == 0 and "failed" not in done.stdout


# --- without root, without the lock ---


def status_of(world: World, user: str | None) -> str:
    """What `status` prints for that user."""
    text: str = world.multihook("status", user=user).stdout
    return text


@pytest.mark.fault("F47")
def test_status_needs_no_root(lines: World) -> None:
    """Anybody sees the same links and whether the kernel agrees; what only root may do is refused in one line."""
    mine, theirs = report(lines), report(lines, user="nobody")
    for found in (mine, theirs):
        found.pop("remarks")
        found["last"].pop("ago_seconds")
        for link in found["links"]:
            assert (link.pop("stopped") is None) == (found is theirs)
            for family in link["families"]:
                family.pop("since_seconds"), family.pop("changed_seconds")
    assert (mine.pop("snat_compared"), theirs.pop("snat_compared")) == (True, False)
    assert mine == theirs
    for who, lines_said in (("nobody", 1), (None, 0)):
        said = re.findall(r"^SNAT as of the last run, \d\d:\d\d; root can compare\.$", status_of(lines, who), re.MULTILINE)
        assert len(said) == lines_said
    lines.box.ip("rule del priority 7000")
    assert lines.multihook("status", user="nobody").returncode == 1
    before, files = lines.snapshot(), sorted(Path("/run/multihook").rglob("*"))
    for words in (["sync"], ["flush"], ["up", "wan1"], ["down", "wan1"]):
        done = lines.multihook(*words, user="nobody")
        assert (done.returncode, done.stdout) == (1, ""), words
        assert "root" in done.stderr and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr, words
    assert lines.snapshot() == before and sorted(Path("/run/multihook").rglob("*")) == files
    done = lines.multihook("sync", "--dry-run", user="nobody")
    assert done.returncode == 0 and "ip rule add from all oif" in done.stdout
    assert lines.multihook("check-config", user="nobody").returncode == 0


@pytest.mark.fault("F47")
def test_root_without_the_capability_gets_one_line(lines: World) -> None:
    """In a container without CAP_NET_ADMIN."""
    lines.box.ip("rule del priority 7000")
    for words in (["sync"], ["flush"]):
        done = lines.box.run("setpriv", "--bounding-set=-net_admin", "/usr/bin/multihook", *words, check=False)
        assert done.returncode == 1 and "CAP_NET_ADMIN" in done.stderr and "Traceback" not in done.stderr
        lines.box.run("rm", "-f", "/run/multihook/held")


@contextmanager
def lock_holder(world: World) -> Iterator[int]:
    """A stopped process that has the lock."""
    program = f"import fcntl, time; f = open({str(LOCK)!r}); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(1000)"
    process = world.box.popen("/usr/bin/python3", "-IS", "-c", program, stdout=subprocess.PIPE)
    try:
        assert process.stdout and process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)
        yield process.pid
    finally:
        process.kill()
        process.wait()


@pytest.mark.fault("F20")
@pytest.mark.fast
def test_looking_takes_no_lock_and_names_who_has_it(lines: World) -> None:
    """status, check-config and the dry run answer at once beside a stopped holder; status names it and what waits."""
    with lock_holder(lines) as pid:
        start = time.monotonic()
        assert f"the lock is held by process {pid}" in report(lines)["remarks"]
        for words in (["status"], ["check-config"], ["sync", "--dry-run"], ["--help"]):
            assert lines.multihook(*words).returncode == 0
        assert time.monotonic() - start < 4
        (Path("/run/multihook/private/spool") / "00000000000000000001-1").write_bytes(b"x")
        assert "1 event waits" in lines.multihook("status").stdout
    lines.sessions["ppp0"].up_event()
    assert report(lines)["remarks"] == []


def test_a_foreign_rule_in_front_is_named(lines: World) -> None:
    """wg-quick and Tailscale exit nodes: a rule that takes every packet before ours see it; others are not named."""
    lines.box.ip(
        "rule add from 192.0.2.0/24 lookup 300 priority 5000",
        "rule add fwmark 0x1 lookup 300 priority 5001",
        "rule add lookup main suppress_prefixlength 0 priority 9001",
        "rule add not fwmark 0xca6c lookup 51820 priority 9000",
        "rule add iif wan1 lookup 300 priority 5003",
        "rule add lookup 52 priority 5270",
        "route add 100.64.0.0/10 dev lo table 52",
    )
    assert report(lines)["remarks"] == []
    lines.box.ip("rule del priority 5270", "route add default dev lo table 52", "route add default dev lo table 51820")
    for rule in ("not fwmark 0xca6c lookup 51820 priority 6000", "lookup 52 priority 5270"):
        lines.box.ip(f"rule add {rule}")
        (remark,) = report(lines)["remarks"]
        assert "a foreign rule takes precedence over all links" in remark and rule.split()[-1] in remark
        lines.box.ip(f"rule del {rule}")


@pytest.mark.fault("F42", "F45")
def test_a_foreign_rule_by_which_main_comes_first_is_named(lines: World) -> None:
    """wg-quick's second rule: what has one link's address reaches another link's network by that link."""
    dsl = lines.sessions["ppp0"].local
    assert "dev ppp0" in lines.route_get("198.51.100.1", "from", dsl)
    lines.box.ip("rule add lookup main suppress_prefixlength 0 priority 6998")
    assert "dev wan1" in lines.route_get("198.51.100.1", "from", dsl), "it does what is said of it"
    (remark,) = report(lines)["remarks"]
    assert "another link's network" in remark and "6998: from all lookup main suppress_prefixlength 0" in remark
    found = json.loads(lines.multihook("doctor", "--json").stdout)["findings"]
    (mend,) = [one["mend"] for one in found if one["name"] == "segment-rule"]
    lines.box.run("sh", "-e", input="\n".join(mend))
    assert "dev ppp0" in lines.route_get("198.51.100.1", "from", dsl) and report(lines)["remarks"] == []


@pytest.mark.fault("F58")
def test_another_network_namespace_is_refused(lines: World) -> None:
    """Same interface names, another network: neither console nor hooks touch it, and the real one stays as it is."""
    other = lines.namespace("other")
    other.ip("link add wan1 type veth peer name far1", "link set wan1 up", f"addr add {CABLE}/24 dev wan1")
    before, theirs = lines.snapshot(), snapshot(other)
    for words in (["sync"], ["flush"], ["flush", "--once"], ["up", "wan1"], ["down", "wan1"]):
        done = other.run("/usr/bin/multihook", *words, check=False)
        assert done.returncode == 1 and "another network namespace" in done.stderr and done.stderr.count("\n") == 1, words
    lines.log.clear()
    env = {"PATH": "/usr/bin:/bin", "reason": "BOUND", "interface": "wan1", "new_ip_address": CABLE, "new_routers": "198.51.100.9"}
    other.run("dash", "-c", ". /etc/dhcp/dhclient-exit-hooks.d/multihook", env=env)
    (line,) = lines.log.lines()
    assert "another network namespace" in line
    assert lines.snapshot() == before and snapshot(other) == theirs
    lines.sessions["ppp0"].up_event()
    assert lines.multihook("status").returncode == 0 and lines.snapshot() == before
    assert not Path("/run/multihook/held").exists()


# --- dry run ---

WANTED = """
[link.dsl]
interface = "ppp0"
table = 200
networks = ["10.0.0.0/8"]

[link.cable]
interface = "wan1"
table = 201
gateway = "198.51.100.1"
sources = ["192.0.2.32/28", "192.0.2.99"]

[link.far]
interface = "wan2"
table = 70000
gateway = "10.255.255.1"

[link.six]
interface = "wan3"

[link.gone]
interface = "wwan0"
"""
# What main has by these interfaces: copied with everything that makes a route what it is.
MAIN = """
route add 192.0.2.128/25 via 198.51.100.254 dev wan1 metric 50 mtu 1400
route add 192.0.2.0/26 dev wan1 scope link src 198.51.100.7 advmss 1300 hoplimit 30
route add 203.0.113.128/25 via 198.51.100.253 dev wan1 onlink initcwnd 20 rto_min 300ms
route add 198.18.5.0/24 dev wan1 tos 0x10
route add 198.18.6.0/24 via inet6 fe80::99 dev wan1
route add 198.18.7.0/24 dev wan1 mtu lock 1280 window 1000 quickack 1
route add 198.18.8.0/24 nexthop via 198.51.100.251 dev wan1 weight 2 nexthop via 198.51.100.252 dev wan1
route add default via 198.51.100.1 dev wan1 metric 5
route add 198.18.9.0/24 dev ppp0 metric 1
route add 0.0.0.0/0 via inet6 fe80::77 dev wan3 metric 77
"""


def furnish(ns: Namespace) -> int:
    """The same interfaces, addresses and routes in any namespace; the descriptor that keeps ppp0 alive."""
    fd = open_tun(ns, "ppp0")
    ns.ip(
        f"addr add {ONE} peer {PEER}/32 dev ppp0",
        "link set ppp0 up mtu 1492",
        "link add wan1 type veth peer name far1",
        "link add wan2 type veth peer name far2",
        "link set wan1 up",
        "link set wan2 up",
        "link set far1 up",
        "link set far2 up",
        f"addr add {CABLE}/24 dev wan1",
        "addr add 100.64.0.9/32 dev wan2",
        "link add wan3 type veth peer name far3",
        "link set wan3 up",
        "link set far3 up",
        "addr add 100.64.1.9/24 dev wan3",
        *MAIN.strip().splitlines(),
    )
    return fd


def kernel(ns: Namespace) -> dict[str, Any]:
    """All of ours in it; order within a priority and in the list of a table says nothing."""
    found = snapshot(ns, foreign=False)
    return {name: sorted(map(str, entries)) for name, entries in found.items()}


def test_the_text_of_a_dry_run_executed_gives_what_sync_gives(world: World) -> None:
    """Pasted into a shell of a twin machine: the same rules, routes and groups; from nothing, over rubbish, and back to nothing."""
    twin = world.namespace("twin", rp_filter=2)
    kept = [furnish(ns) for ns in (world.box, twin)]
    try:
        rubbish = (
            "rule add from 192.0.2.7 lookup 201 priority 7400 protocol 109",
            "rule add from 192.0.2.0/24 to 192.0.2.128/25 iif wan1 fwmark 0x1 lookup 201 priority 7123 protocol 109",
            "rule add oif wan9 lookup 200 priority 7000 protocol 109",
            "rule add not from 192.0.2.8 lookup 204 priority 7400 protocol 109",
            "rule add from 192.0.2.9 lookup main suppress_prefixlength 0 priority 7200 protocol 109",
            "route add 192.0.2.7 via 198.51.100.9 dev wan1 table 201 proto 109",
            "route replace default via 198.51.100.9 dev wan1 table 201 proto 109",
            "route add default via 198.51.100.8 dev wan1 table 201 proto 109 metric 3",
            "route add blackhole 192.0.2.8 table 205 proto 109",
            "route del default dev ppp0 table 200",
            "route replace unreachable 198.51.100.0/24 table 201 proto 109",
            "route add 192.0.2.9 dev wan1 table 201 proto 109 metric 7 tos 0x10",
            "link set far2 group 109",
        )
        steps = (WANTED, None, WANTED.replace("70000", "300").replace("ppp0", "ppp7"), "[multihook]\nadopt = false\n")
        for number, config in enumerate(steps):
            for ns in (world.box, twin):
                if config is None:
                    ns.ip(*rubbish)
            if config is not None:
                world.configure(config)
            text = world.multihook("sync", "--dry-run").stdout
            assert text.startswith(("ip r", "nft "))
            before = kernel(world.box)
            assert kernel(twin) == before
            done = twin.run("sh", "-e", input=text)
            assert done.stdout == "" and done.stderr == "", done
            sync = world.multihook("sync")
            assert sync.returncode == 0, sync
            assert kernel(world.box) == kernel(twin), number
            assert world.multihook("sync", "--dry-run").stdout == ""
        assert kernel(twin) == {name: [] for name in EMPTY}
    finally:
        for fd in kept:
            os.close(fd)


def test_the_dry_run_says_what_sync_then_says_and_does(lines: World) -> None:
    """It changes nothing itself, whatever it prints."""
    lines.box.ip("rule del priority 7400", "link set wan1 group 0")
    before = lines.snapshot()
    with lines.ip_monitor() as heard:
        text = lines.multihook("sync", "-n").stdout
    assert heard == [] and lines.snapshot() == before and lines.log.lines() == []
    assert len(text.splitlines()) == 2 and "ip link set dev wan1 group 109" in text
    done = lines.multihook("sync")
    assert done.returncode == 0 and "1 group" in done.stdout and lines.multihook("sync", "-n").stdout == ""


# --- up, down, flush ---


def test_down_takes_a_link_out_until_up_or_its_next_event(lines: World) -> None:
    """The others stay; sync and events of others leave it out; status says held and 3."""
    ours = lines.snapshot(foreign=False)
    for back in ("up", "event"):
        done = lines.multihook("down", "ppp0")
        assert done.returncode == 0 and done.stdout.startswith("dsl: ")
        assert not [r for r in lines.snapshot(foreign=False)["rules4"] if r.get("table") == "200"]
        assert "wan1" in lines.snapshot(foreign=False)["group"]
        lines.multihook("sync", check=True)
        assert not [r for r in lines.snapshot(foreign=False)["rules4"] if r.get("table") == "200"]
        found = report(lines)
        assert found["exit_status"] == 3 and found["links"][0]["state"] == "held" and not found["held"]
        if back == "up":
            lines.multihook("up", "ppp0", check=True)
        else:
            lines.sessions["ppp0"].up_event()
        after = lines.snapshot(foreign=False)
        assert {k: sorted(map(str, v)) for k, v in after.items()} == {k: sorted(map(str, v)) for k, v in ours.items()}
        assert lines.multihook("status").returncode == 0
    entries = [entry.text for entry in lines.log.entries() if "by hand" in entry.text]
    assert len(entries) >= 3


@pytest.mark.parametrize("back", ["up", "event"])
def test_the_only_link_that_translates_goes_with_the_nft_table_and_comes_back_with_it(lines: World, back: str) -> None:
    """A guard of nothing is a difference; a link that is back without its guard sends what it must not."""
    lines.configure(CONFIG.replace("[link.cable]", "[link.cable]\nsnat = false"))
    lines.multihook("sync", check=True)
    ours = lines.snapshot(foreign=False)["nft"]
    lines.multihook("down", "ppp0", check=True)
    assert report(lines)["exit_status"] == 3 and lines.snapshot(foreign=False)["nft"] == []
    lines.multihook("sync", check=True)
    lines.log.clear()
    if back == "up":
        lines.multihook("up", "ppp0", check=True)
    else:
        lines.sessions["ppp0"].up_event()
    assert report(lines)["exit_status"] == 0 and lines.snapshot(foreign=False)["nft"] == ours
    assert not any("not applied" in line for line in lines.log.lines())


def test_up_makes_a_link_of_what_no_hook_announces(world: World) -> None:
    """A static card, with its next hop given, configured, or that of main; in vain it says why in one line."""
    world.ppp_up("ppp0", ONE, PEER, defaultroute=True)
    card(world)
    assert world.multihook("up", "wan1", "--gateway", ROUTER).returncode == 0
    assert f"default via {ROUTER} dev wan1 proto 109 src {CABLE}" in world.routes(1000) + world.routes(1001)
    again = world.multihook("up", "wan1", "--gateway", ROUTER)
    assert again.returncode == 0 and "in line already" in again.stdout
    lan = world.lan()
    world.box.ip("link add wan3 type veth peer name far3")
    for words, reason in (
        (["wan9"], "there is no interface wan9"),
        (["wan3"], "is down"),
        (["far-wan1"], "no IPv4 address"),
        (["lo"], ""),
        (["lan0"], "lan0 has no next hop"),
    ):
        done = world.multihook("up", *words)
        assert done.returncode == 1 and reason in done.stderr and done.stderr.count("\n") == 1, (words, done)
    assert "dev lan0" in world.route_get(lan.host, "from", ONE)
    world.configure('[multihook]\nignore = ["wan*"]\n')
    done = world.multihook("up", "wan1")
    assert done.returncode == 1 and "ignored" in done.stderr
    done = world.multihook("down", "wan7")
    assert done.returncode == 1 and done.stderr.count("\n") == 1


@pytest.mark.fast
def test_flush_holds_everything_out_until_sync(lines: World) -> None:
    """Hooks record meanwhile, so that sync knows all of it; status says how it stands; --once is without the hold."""
    done = lines.multihook("flush")
    assert done.returncode == 0 and "multihook sync" in done.stdout
    assert lines.snapshot(foreign=False) == EMPTY
    session = lines.sessions["ppp0"]
    session.readdress(TWO)
    session.up_event()
    lines.multihook("up", "wan1")
    lines.multihook("down", "wan1")
    lines.multihook("up", "wan1")
    assert lines.snapshot(foreign=False) == EMPTY
    status = lines.multihook("status")
    assert status.returncode == 3 and "multihook flush" in status.stdout and TWO in status.stdout
    assert lines.multihook("sync", "--dry-run").stdout.count("ip rule add") == 6
    assert lines.multihook("sync").returncode == 0
    assert f"default dev ppp0 proto 109 scope link src {TWO}" in lines.routes(200)
    assert lines.multihook("status").returncode == 0
    done = lines.multihook("flush", "--once")
    assert done.returncode == 0 and lines.snapshot(foreign=False) == EMPTY
    session.up_event()
    assert lines.multihook("status").returncode == 0, "one event puts everything back"


def test_sync_says_what_it_did_for_each_link(world: World) -> None:
    """One line a link that changed, the last names all; and nothing more in the second run."""
    world.configure(CONFIG)
    world.ppp_up("ppp0", ONE, PEER, event=False)
    card(world)
    done = world.multihook("sync")
    *each, last = done.stdout.splitlines()
    assert [line.split(":")[0] for line in each] == ["cable", "dsl"] and "dsl (table 200), cable (table 201)" in last
    assert world.multihook("sync").stdout.splitlines() == ["2 links: dsl (table 200), cable (table 201); nothing to change."]
    assert [entry.severity for entry in world.log.entries()] == ["info", "info"]


# --- configuration ---


@pytest.mark.fault("F69")
def test_check_config_says_where_and_what_would_be_right(world: World) -> None:
    """File and line for syntax, key path for the rest; also for files that are given; right is 0 and one line."""
    done = world.multihook("check-config")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.count("\n") == 1
    world.configure(CONFIG)
    done = world.multihook("check-config")
    assert done.stdout == "note: link.cable.interface: there is no interface wan1 here now\n2 links; tables 200, 201\n"
    world.provider("cable", "198.51.100.0/24", wire="wan1")
    assert world.multihook("check-config").stdout == "2 links; tables 200, 201\n"
    world.configure(CONFIG.replace("interface", "interfase", 1) + "\nlan = 3\n")
    done = world.multihook("check-config")
    assert done.returncode == 78 and done.stdout == ""
    said = done.stderr.splitlines()
    assert any("/etc/multihook/multihook.toml: link.dsl.interfase: unknown key; did you mean interface?" in line for line in said)
    assert any("link.cable.lan" in line for line in said)
    one, two = Path("/tmp/rig/one.toml"), Path("/tmp/rig/two.toml")
    one.write_text(CONFIG)
    two.write_text("[link.dsl]\ntable = 255\n")
    assert world.multihook("check-config", str(one), user="nobody").returncode == 0
    done = world.multihook("check-config", str(one), str(two))
    assert done.returncode == 78 and f"{two}: link.dsl.table" in done.stderr
    done = world.multihook("check-config", "/nowhere")
    assert done.returncode == 78 and "/nowhere" in done.stderr and "Traceback" not in done.stderr


def test_drop_ins_are_merged_in_the_order_of_their_names(world: World) -> None:
    """conf.d adds to and overrides multihook.toml; other endings and hidden files do not count."""
    world.configure(CONFIG)
    folder = Path("/etc/multihook/conf.d")
    (folder / "10-a.toml").write_text("[link.dsl]\ntable = 300\n")
    (folder / "20-b.toml").write_text('[link.dsl]\ntable = 301\n[link.lte]\ninterface = "wwan0"\ntable = 302\n')
    (folder / "30-c.toml.dpkg-old").write_text("rubbish")
    (folder / ".hidden.toml").write_text("rubbish")
    assert world.multihook("check-config").stdout.splitlines()[-1] == "3 links; tables 301, 201, 302"


# --- help, completion, output ---


def test_every_command_explains_itself(world: World) -> None:
    """--help and -h of each: status 0, a usage line, what it does; the version is that of the package."""
    for words in ([], *([command] for command in COMMANDS)):
        for option in ("--help", "-h"):
            done = world.multihook(*words, option)
            assert done.returncode == 0 and done.stdout.startswith("Usage: multihook") and done.stderr == "", words
            assert len(done.stdout.splitlines()) >= 6
    top = world.multihook("--help").stdout
    assert all(f"  {command} " in top for command in COMMANDS)
    assert re.fullmatch(r"multihook, version \d+\.\d+\.\d+\n", world.multihook("--version").stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_options_links_and_interfaces(lines: World, shell: str) -> None:
    """What the shell gets to load, and what it gets when Tab is pressed."""
    if shell == "bash":
        loaded = lines.box.run("/usr/bin/multihook", env={"_MULTIHOOK_COMPLETE": "bash_source", "PATH": "/usr/bin:/bin"}).stdout
        assert "complete -o nosort -F" in loaded or "complete" in loaded
        lines.box.run("bash", "-n", input=loaded)
    else:
        loaded = lines.box.run("/usr/bin/multihook", env={"_MULTIHOOK_COMPLETE": f"{shell}_source", "PATH": "/usr/bin:/bin"}).stdout
    assert "multihook" in loaded and f"{shell}_complete" in loaded

    def tab(*words: str) -> str:
        env = {"PATH": "/usr/bin:/bin", "_MULTIHOOK_COMPLETE": f"{shell}_complete", "COMP_WORDS": " ".join(("multihook", *words))}
        env["COMP_CWORD"] = words[-1] if shell == "fish" else str(len(words))
        return str(lines.box.run("/usr/bin/multihook", env=env, check=False).stdout)

    shown = tab("")
    assert all(command in shown for command in COMMANDS)
    assert "sync" in tab("sy") and "flush" not in tab("sy")
    assert "--dry-run" in tab("sync", "--")
    links = tab("status", "")
    assert "dsl" in links and "cable" in links
    assert "wan1" in tab("up", "wa") and "ppp0" not in tab("up", "wa")
    lines.configure("[broken\n")
    assert "dsl" in tab("status", "")


def test_output_that_cannot_be_written_is_no_traceback(lines: World) -> None:
    """A pager that left, a full disk, closed descriptors, a narrow or unknown terminal, no locale."""
    for words in ("status", "status --json", "--help", "sync", "sync -n", "check-config"):
        for how in ("| true", "| head -c 1", ">/dev/full", ">&-", "2>&-", "<&-", ">&- 2>&-", ">&- 2>&- <&-"):
            done = lines.box.run("bash", "-c", f"/usr/bin/multihook {words} {how}", check=False)
            assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, (words, how, done.stderr)
    for env in ({"LC_ALL": "C"}, {"LC_ALL": "xx_YY"}, {"LANG": "tr_TR.UTF-8"}, {"COLUMNS": "1"}, {"TERM": "nonsense"}, {"PYTHONIOENCODING": "ascii"}):
        done = lines.multihook("status", env={"PATH": "/usr/bin:/bin", **env})
        assert done.returncode == 0 and done.stdout.startswith("LINK "), (env, done)


def test_the_callers_folder_and_variables_bring_no_code_in(lines: World) -> None:
    """Run by root in a folder with click.py in it, with PYTHONPATH set: nothing of it is imported."""
    trap = Path("/tmp/rig/trap")
    trap.mkdir()
    for name in ("click", "multihook", "netifaces", "structlog", "filelock", "sitecustomize", "json", "tomllib"):
        (trap / f"{name}.py").write_text("open('/tmp/rig/canary', 'w')\nraise SystemExit(9)\n")
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(trap), "PYTHONSTARTUP": str(trap / "json.py"), "HOME": str(trap), "PYTHONHOME": str(trap)}
    for words in (["status"], ["sync"], ["check-config"]):
        done = lines.box.run("/usr/bin/multihook", *words, cwd=str(trap), env=env, check=False)
        assert done.returncode == 0, done
    assert not Path("/tmp/rig/canary").exists()


@pytest.mark.fault("F79")
def test_managers_that_tell_us_nothing_are_named(lines: World) -> None:
    """networkd and NetworkManager keep files of their interfaces: such a default route is remarked upon."""
    lines.box.ip("route add default via 198.51.100.1 dev wan1 metric 7")
    card = lines.box.interface("wan1")
    assert card and report(lines)["remarks"] == []
    for folder, text, name in (
        ("/run/systemd/netif/links", "ADMIN_STATE=configured\nOPER_STATE=routable\n", "systemd-networkd"),
        ("/run/NetworkManager/devices", "[device]\nmanaged=full\n", "NetworkManager"),
    ):
        path = Path(folder, str(card["ifindex"]))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        try:
            (remark,) = report(lines)["remarks"]
            assert remark.startswith(f"wan1 is managed by {name}, which tells multihook nothing")
            if name == "NetworkManager":
                dispatcher = Path("/etc/NetworkManager/dispatcher.d/01-ifupdown")
                dispatcher.parent.mkdir(parents=True)
                dispatcher.touch()
                (remark,) = report(lines)["remarks"]
                assert "NetworkManager, which tells multihook of up and down, but not of a changed lease" in remark
                dispatcher.unlink()
                # A client of ours serves it all the same: then it does send events.
                event = {"reason": "BOUND", "interface": "wan1", "new_ip_address": CABLE, "new_routers": "198.51.100.1"}
                lines.box.run("/usr/lib/multihook/event", "dhcpcd", env=event)
                assert report(lines)["remarks"] == []
        finally:
            path.unlink()

"""G4: what leaves a link with snat has a source of this link, or does not leave; counted at the providers."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from world import World
from world.namespaces import Namespace

ONE, PEER = "203.0.113.45", "203.0.113.1"
CONFIG = """
[link.dsl]
interface = "ppp0"
table = 200
{dsl}

[link.cable]
interface = "wan1"
table = 201
{cable}
"""


class Office:
    """A box with two links and a LAN; its default route is the PPP line's."""

    def __init__(self, world: World, dsl: str = "", cable: str = "") -> None:
        self.world = world
        world.configure(CONFIG.format(dsl=dsl, cable=cable))
        self.isp = world.provider("isp", "203.0.113.0/24")
        self.cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
        self.lan = world.lan()
        self.address = self.cable.static(7)
        world.box.ip(f"addr add {self.address}/24 dev wan1")
        self.dsl = world.ppp_up("ppp0", ONE, PEER, self.isp, defaultroute=True)
        world.multihook("up", "wan1", "--gateway", self.cable.gateway, check=True)

    def by(self, line: str) -> None:
        """The box sends what is bound to nothing by this line."""
        way = "dev ppp0" if line == "ppp0" else f"via {self.cable.gateway} dev wan1"
        self.world.box.ip(f"route replace default {way}")


@pytest.mark.fast
def test_lan_clients_leave_with_the_address_of_the_link_they_leave_by(world: World) -> None:
    office = Office(world)
    for line, address in (("ppp0", ONE), ("wan1", office.address)):
        office.by(line)
        for kind in ("tcp", "udp", "icmp"):
            asked = world.connect(ns=office.lan.ns, kind=kind)
            assert (asked.ok, asked.error, asked.by, asked.wrong) == (True, "", {line}, frozenset()), (line, kind)
            assert asked.source in (address, "")
    assert world.wrong() == []
    done = world.multihook("status")
    assert done.returncode == 0, done.stdout
    assert "  auto  " in done.stdout
    print(done.stdout, world.log.lines())
    assert world.multihook("sync", "-n").stdout == ""


@pytest.mark.parametrize("mode", ['snat = "auto"', "snat = true", 'snat = "masquerade"'])
def test_a_socket_with_another_links_address_leaves_with_that_of_the_link(world: World, mode: str) -> None:
    """Bound to one link's address and to the other's device: the provider gets its own customer's address."""
    office = Office(world, dsl=mode, cable=mode)
    for source, device, right in ((office.address, "ppp0", ONE), (ONE, "wan1", office.address)):
        for kind in ("tcp", "udp"):
            asked = world.connect(source=source, device=device, kind=kind)
            assert (asked.error, asked.by, asked.wrong) == ("", {device}, frozenset()), (source, kind)
            assert asked.source in (right, "")
    # What is right already is not touched, and who is bound to nothing gets the address of the way.
    assert world.connect(source=ONE).source == ONE
    assert world.connect(source=office.address).source == office.address
    assert world.connect().source == ONE
    assert world.wrong() == []


PUBLIC = "192.0.2.32/28"


@pytest.mark.parametrize(
    ("settings", "translated"),
    [('snat = "auto"', False), ("snat = true", True), ('snat = "masquerade"', True),
     (f'snat = true\nsources = ["{PUBLIC}"]', False), (f'snat = "auto"\nsources = ["{PUBLIC}"]', False)],
)  # fmt: skip
def test_a_routed_public_network_passes_as_it_is_unless_all_is_to_be_translated(
    world: World, settings: str, translated: bool
) -> None:
    """Servers in a range of the provider keep their addresses; `sources` are never translated."""
    office = Office(world, cable=settings)
    office.cable.delegate(PUBLIC, via=office.address)
    servers = world.lan("lan1", PUBLIC)
    office.by("wan1")
    for kind in ("tcp", "udp", "icmp"):
        asked = world.connect(ns=servers.ns, kind=kind)
        assert (asked.error, asked.by, asked.wrong) == ("", {"wan1"}, frozenset()), kind
        assert asked.source in (office.address if translated else servers.host, "")
    assert world.connect(ns=office.lan.ns).source == office.address
    assert world.wrong() == []


def test_sources_of_one_link_do_not_leave_by_another_as_they_are(world: World) -> None:
    """Also where nothing routes them any more (`multihook down`): another provider drops them."""
    office = Office(world, cable=f'sources = ["{PUBLIC}", "192.0.2.40/32"]')
    office.cable.delegate(PUBLIC, via=office.address)
    servers = world.lan("lan1", PUBLIC)
    assert world.connect(ns=servers.ns).source == servers.host
    world.multihook("down", "wan1", check=True)
    asked = world.connect(ns=servers.ns)
    assert (asked.error, asked.by, asked.source) == ("", {"ppp0"}, ONE)
    assert world.wrong() == []


def test_a_card_that_also_leads_to_the_office_is_no_border_within_it(world: World) -> None:
    """lan = true: from one private network to another nothing is translated or stopped, both ways."""
    office = Office(world, cable="lan = true")
    office.cable.ns.ip("addr add 10.0.0.1/24 dev wan1", "route add 192.168.1.0/24 via " + office.address)
    office.cable.hand_out("wan1", ["192.168.1.0/24"])
    world.box.ip(f"route add 10.0.0.0/24 via {office.cable.gateway} dev wan1")
    assert office.lan.ns.run("ping", "-n", "-c1", "-W1", "10.0.0.1").returncode == 0
    assert office.cable.ns.run("ping", "-n", "-c1", "-W1", "-I", "10.0.0.1", office.lan.host).returncode == 0
    assert world.multihook("status", "--json").stdout.count('"packets": 0') == 2
    office.by("wan1")
    assert world.connect(ns=office.lan.ns).source == office.address


def test_an_address_that_is_on_two_interfaces_does_not_silence_a_link(world: World) -> None:
    """As with an access server's dial-in sessions, which carry its address; `fib` sees the first of them only."""
    world.ppp_up("ppp8", "198.51.100.7", "10.99.0.2")
    office = Office(world)
    office.by("wan1")
    world.ppp_up("ppp9", "198.51.100.7", "10.99.0.3")
    for source in (None, office.address):
        assert world.connect(source=source).by == {"wan1"}
    assert world.connect(ns=office.lan.ns).source == office.address
    world.ppp_down("ppp8")
    world.ppp_down("ppp9")
    world.multihook("sync", check=True)
    assert world.connect(ns=office.lan.ns).source == office.address
    assert "shared4 { " not in world.multihook("sync", "-n").stdout
    assert world.box.nft_json("list", "set", "inet", "multihook", "shared4")[0]["set"].get("elem", []) == []
    assert world.wrong() == []


@pytest.mark.fault("F9")
def test_between_a_change_that_nobody_announced_and_the_hook_the_guard_holds(world: World) -> None:
    """The element is stale, so the LAN waits; nothing wrong leaves, this machine's own sockets are undisturbed."""
    office = Office(world)
    assert world.connect(ns=office.lan.ns).by == {"ppp0"}
    office.dsl.readdress("203.0.113.77")
    world.box.run("ip", "route", "replace", "default", "dev", "ppp0")
    asked = world.connect(ns=office.lan.ns, kind="udp", timeout=0.3)
    assert (asked.error, asked.by, asked.wrong) == ("ETIMEDOUT", frozenset(), frozenset())
    assert world.connect().source == "203.0.113.77"
    stopped = [one["stopped"] for one in report(world)["links"]]
    assert stopped[0]["packets"] > 0 and stopped[0]["octets"] > 0 and stopped[1]["packets"] == 0
    assert f"dsl: {stopped[0]['packets']} packets (" in world.multihook("status").stdout
    office.dsl.up_event()
    assert world.connect(ns=office.lan.ns).source == "203.0.113.77"
    assert report(world)["links"][0]["stopped"] == stopped[0]
    assert world.wrong() == []


def report(world: World) -> dict[str, Any]:
    """What `status --json` says."""
    found: dict[str, Any] = json.loads(world.multihook("status", "--json").stdout)
    return found


def test_a_link_whose_address_is_gone_stays_guarded(world: World) -> None:
    """What comes up under its name carries nothing private before a hook has seen it."""
    office = Office(world)
    world.ppp_down("ppp0")
    world.settle()
    office.dsl.reconnect("203.0.113.50", event=False)
    world.box.run("ip", "route", "replace", "default", "dev", "ppp0")
    asked = world.connect(ns=office.lan.ns, kind="udp", timeout=0.3)
    assert (asked.by, asked.wrong) == (frozenset(), frozenset())
    office.dsl.up_event()
    assert world.connect(ns=office.lan.ns).source == "203.0.113.50"
    assert world.wrong() == []


# --- under load ---

RENUMBERINGS = 20


class Flood:
    """New flows all the time, as fast as one thread can: each from a socket of its own, to a far host in turn."""

    def __init__(self, ns: Namespace, sources: list[str | None]) -> None:
        self.ns, self.sources = ns, sources
        self.sent = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"flood {ns.name}", daemon=True)

    def __enter__(self) -> Flood:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with self.ns.entered():
            kept: list[socket.socket] = []
            while not self._stop.is_set():
                for source in self.sources:
                    # Some flows live on over the changes, most are new.
                    kept.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    if len(kept) > 40:
                        kept.pop(0 if self.sent % 3 else 20).close()
                    try:
                        if source:
                            kept[-1].bind((source, 0))
                    except OSError:
                        continue  # an address that is not there at the moment
                    for one in (kept[-1], kept[0]):
                        try:
                            one.sendto(b"x", (f"198.18.9.{self.sent % 200 + 1}", 7))
                            self.sent += 1
                        except OSError:
                            pass
                time.sleep(0.001)
            for one in kept:
                one.close()


@pytest.mark.timeout(300)
def test_no_wrong_source_leaves_while_both_links_are_renumbered_under_a_flood(world: World) -> None:
    """LAN clients and sockets of this machine, new flows and old; changes announced at once, late, or by the next one."""
    office = Office(world)
    mine: list[str | None] = [None, "192.168.1.1"]
    for number in range(RENUMBERINGS):
        mine += [f"203.0.113.{100 + number}", f"198.51.100.{100 + number}"]
    with Flood(office.lan.ns, [None, office.lan.host]) as lan, Flood(world.box, mine) as own:
        for number in range(RENUMBERINGS):
            office.by("ppp0" if number % 4 < 2 else "wan1")
            if number % 2:
                office.dsl.readdress(f"203.0.113.{100 + number}")
                if number % 3:
                    office.dsl.up_event()
            else:
                renumber(office, f"198.51.100.{100 + number}", announced=number % 3 > 0)
            office.by("wan1" if number % 4 < 2 else "ppp0")
        sent = lan.sent, own.sent
    assert min(sent) > 20 * RENUMBERINGS, sent
    assert world.wrong() == []
    world.multihook("sync", check=True)
    for line in ("ppp0", "wan1"):
        office.by(line)
        assert world.connect(ns=office.lan.ns).by == {line}
    stopped = sum(one["stopped"]["packets"] for one in report(world)["links"])
    print(f"{RENUMBERINGS} renumberings, {sum(sent)} packets sent, {stopped} stopped by the guard, 0 wrong")


def renumber(office: Office, address: str, announced: bool) -> None:
    """The cable gets another address; with a hook that says so, or without."""
    box = office.world.box
    box.ip(f"addr del {office.address}/24 dev wan1")
    office.cable.take_back("wan1")
    office.address = office.cable.static(address)
    box.ip(f"addr add {address}/24 dev wan1")
    if announced:
        env = {
            "PATH": "/usr/bin:/bin", "reason": "BOUND", "interface": "wan1", "new_ip_address": address,
            "new_routers": office.cable.gateway, "new_subnet_mask": "255.255.255.0",
        }  # fmt: skip
        box.run("dash", "-c", ". /etc/dhcp/dhclient-exit-hooks.d/multihook", env=env)


# --- the table in other hands ---

HANDS = {
    "flush ruleset": "flush ruleset",
    "delete table": "delete table inet multihook",
    "flush chain": "flush chain inet multihook guard",
    "flush table": "flush table inet multihook",
    "a rule more": "insert rule inet multihook postrouting accept",
    "a rule less": "delete rule inet multihook stop4 handle {stop4}",
    "another rule": 'replace rule inet multihook stop4 handle {stop4} accept comment "mine"',
    "a chain more": "add chain inet multihook x {{ type filter hook output priority 0; }}; add rule inet multihook x drop",
    "a policy": "add chain inet multihook guard {{ policy drop; }}",
    "a sleeping table": "add table inet multihook {{ flags dormant; }}",
    "an element changed": 'delete element inet multihook snat4 {{ "wan1" : 198.51.100.7 }};'
    ' add element inet multihook snat4 {{ "wan1" : 192.0.2.1 }}',
    "an element less": 'delete element inet multihook guard4 {{ "ppp0" : goto guardauto4 }}',
    "an element more": 'add element inet multihook snat4 {{ "lan0" : 192.0.2.1 }}',
    "sources": 'add element inet multihook sources4 {{ "ppp0" . 10.0.0.0/8 }}',
}


@pytest.mark.fault("F40")
def test_what_others_did_to_our_table_is_shown_and_mended_by_the_next_event(world: World) -> None:
    """An event of another link sees it, too."""
    office = Office(world)
    office.dsl.up_event()
    before = world.snapshot(foreign=False)
    for what, text in HANDS.items():
        rules = world.box.nft_json("list", "chain", "inet", "multihook", "stop4")
        handle = [entry["rule"]["handle"] for entry in rules if "rule" in entry][-1]
        world.box.nft(text.format(stop4=handle))
        assert world.snapshot(foreign=False) != before or "dormant" in what_nft_lists(world), what
        status = world.multihook("status")
        assert status.returncode == 1 and "missing or left over: nft " in status.stdout, (what, status.stdout)
        office.dsl.up_event()
        assert world.snapshot(foreign=False) == before and "dormant" not in what_nft_lists(world), what
    assert world.multihook("status").returncode == 0
    assert world.connect(ns=office.lan.ns).source == ONE


CERTIFICATE = Path("/run/multihook/private/applied")


def what_nft_lists(world: World) -> str:
    """All tables as nft(8) shows them; the snapshot leaves flags out."""
    return world.box.run("nft", "list", "ruleset").stdout


@pytest.mark.fault("F40")
def test_the_guards_count_outlives_a_new_table(world: World) -> None:
    """Made anew because somebody changed a rule, it goes on where it was."""
    office = Office(world)
    office.dsl.readdress("203.0.113.77")
    world.box.run("ip", "route", "replace", "default", "dev", "ppp0")
    world.connect(ns=office.lan.ns, kind="udp", timeout=0.1)
    before = report(world)["links"][0]["stopped"]
    assert before["packets"]
    world.box.nft("insert rule inet multihook guard counter")
    world.multihook("sync", check=True)
    assert report(world)["links"][0]["stopped"] == before


def test_flush_leaves_no_table_and_none_is_made_before_sync(world: World) -> None:
    """What others have in nftables is as before, byte by byte."""
    world.box.nft("table inet foreign { chain c { type nat hook postrouting priority srcnat; ip daddr 192.0.2.1 accept; }; }")
    before = world.box.run("nft", "list", "ruleset").stdout
    office = Office(world)
    assert "table inet multihook" in world.box.run("nft", "list", "tables").stdout
    assert "1 nft table" in world.multihook("flush", check=True).stdout
    assert world.box.run("nft", "list", "ruleset").stdout == before
    office.dsl.up_event()
    assert world.box.run("nft", "list", "ruleset").stdout == before
    world.multihook("sync", check=True)
    assert world.connect(ns=office.lan.ns).source == ONE
    world.configure("[multihook]\nadopt = false\n")
    world.multihook("sync", check=True)
    assert world.box.run("nft", "list", "ruleset").stdout == before


def test_without_snat_there_is_no_table_and_nft_is_not_asked_for(world: World) -> None:
    """Nor is it when the only link with snat loses it: deleting needs no program."""
    hide_nft(world)
    world.configure(CONFIG.format(dsl="snat = false", cable="snat = false"))
    world.ppp_up("ppp0", ONE, PEER)
    assert world.box.nft_json("list", "ruleset") == []
    assert [line for line in world.log.lines() if "nft" in line] == []
    assert world.multihook("status").stdout.splitlines()[1].split()[6] == "-"


def hide_nft(world: World) -> None:
    """No nft where we look for it; the test's own stays."""
    world.box.run("sh", "-c", "cp -n /usr/sbin/nft /usr/local/bin/nft; mv /usr/sbin/nft /usr/sbin/nft.away")


@pytest.fixture(autouse=True)
def nft_is_there() -> Iterator[None]:
    yield
    away = Path("/usr/sbin/nft.away")
    if away.exists():
        away.rename("/usr/sbin/nft")


@pytest.mark.fault("F12", "F46")
@pytest.mark.parametrize("how", ["missing", "failing", "hanging"])
def test_where_nft_cannot_do_it_routing_goes_on_and_one_line_says_so(world: World, how: str) -> None:
    """The hook is silent with status 0 (the rig looks), the links are routed; once mended, the next event does it."""
    hide_nft(world)
    script = {"failing": "echo 'netlink: Error: out of order' >&2; exit 1", "hanging": "exec sleep 100"}.get(how)
    if script:
        Path("/usr/sbin/nft").write_text(f"#!/bin/sh\n{script}\n")
        Path("/usr/sbin/nft").chmod(0o755)
    world.configure(CONFIG.format(dsl="", cable=""))
    isp = world.provider("isp", "203.0.113.0/24")
    session = world.ppp_up("ppp0", ONE, PEER, isp)
    assert world.connect(source=ONE).by == {"ppp0"}
    (line,) = [line for line in world.log.entries() if "nft" in line.text]
    why = {"missing": "install nftables", "failing": "out of order", "hanging": "did not end"}[how]
    assert line.severity == "err" and why in line.text and "\n" not in line.text
    status = world.multihook("status")
    assert status.returncode == 1 and why in status.stdout
    Path("/usr/sbin/nft").unlink(missing_ok=True)
    Path("/usr/sbin/nft.away").rename("/usr/sbin/nft")
    session.up_event()
    assert world.multihook("status").stdout.count("nft") == 0
    assert world.snapshot(foreign=False)["nft"] != []


def test_the_text_of_a_dry_run_gives_the_same_table(world: World) -> None:
    """All modes, sources, an address on two interfaces; pasted into a shell, then `sync` has nothing to do."""
    office = Office(world, dsl="snat = true", cable=f'lan = true\nsources = ["{PUBLIC}", "192.0.2.7/32"]')
    world.ppp_up("ppp9", office.address, "10.99.0.3")
    world.multihook("sync", check=True)
    goal = world.snapshot()
    world.box.nft("flush ruleset")
    text = world.multihook("sync", "-n").stdout
    assert text.startswith("nft -f - <<'END'\n") and text.endswith("END\n")
    world.box.run("sh", "-e", input=text)
    assert world.snapshot() == goal
    world.box.nft('delete element inet multihook snat4 { "wan1" : 198.51.100.7 }')
    world.box.nft('add element inet multihook snat4 { "wan1" : 192.0.2.9 }')
    text = world.multihook("sync", "-n").stdout
    assert text.startswith("nft 'delete element inet multihook snat4 ") and text.count("\n") == 1
    world.box.run("sh", "-e", input=text)
    assert world.snapshot() == goal
    assert world.multihook("sync", "-n").stdout == ""


def test_what_an_ipsec_policy_asks_for_never_leaves_in_clear(world: World) -> None:
    """This kernel has policies and no ESP: what should be in a tunnel that is not there is refused, and stays so."""
    office = Office(world)
    world.box.ip(
        *(f"xfrm policy add src 192.168.1.0/24 dst 198.18.250.0/24 dir {way} tmpl src {ONE} dst 198.18.251.1 proto esp mode tunnel"
        for way in ("out", "fwd"))
    )  # fmt: skip
    with office.lan.ns.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(10):
            try:
                sock.sendto(b"secret", ("198.18.250.5", 7))
            except OSError:
                pass
    assert world.seen("198.18.250.5") == []
    assert world.connect(ns=office.lan.ns).source == ONE
    assert world.wrong() == []

"""pppd: what its scripts are told in order, out of order, late, twice or not at all, by Debian's ip-up and ip-down."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from world import World
from world.namespaces import wait_until
from world.ppp import Session
from world.provider import Provider

PEER = "203.0.113.1"


@pytest.fixture
def isp(world: World) -> Provider:
    """The provider of all sessions; every one has the same peer."""
    return world.provider("isp", "203.0.113.0/24")


def by_ipparam(world: World) -> None:
    """Two lines known by what the peers files call them."""
    world.configure('[link.dsl]\nipparam = "dsl"\ntable = 200\n[link.tel]\nipparam = "tel"\ntable = 201\n')


def two_lines(world: World, isp: Provider) -> tuple[Session, Session]:
    """dsl on ppp0 with main's default, tel on ppp1."""
    by_ipparam(world)
    dsl = world.ppp_up("ppp0", "203.0.113.45", PEER, isp, ipparam="dsl", defaultroute=True)
    return dsl, world.ppp_up("ppp1", "203.0.113.46", PEER, isp, ipparam="tel")


def link_rules(interface: str, address: str, table: int) -> set[str]:
    """The three rules of a link that is up."""
    return {
        f"7000: from all oif {interface} lookup {table} proto 109",
        f"7200: from {address} lookup 254 suppress_prefixlength 1 suppress_ifgroup 109 proto 109",
        f"7400: from {address} lookup {table} proto 109",
    }


def our_rules(world: World) -> set[str]:
    """All that carry our protocol number."""
    return {rule for rule in world.rules() if rule.endswith("proto 109")}


def assert_works(world: World, session: Session, table: int) -> None:
    """On the wire in both directions, and in the link's table what a session needs."""
    line = session.interface
    answered, asked = world.reach(session.local), world.connect(source=session.local)
    assert (answered.ok, answered.by, answered.wrong) == (True, {line}, frozenset()), answered
    assert (asked.ok, asked.by, asked.wrong) == (True, {line}, frozenset()), asked
    assert world.connect(device=line).by == {line}
    assert link_rules(line, session.local, table) <= our_rules(world)
    assert world.routes(table) == [
        f"default dev {line} proto 109 scope link src {session.local}",
        "unreachable default proto 109 metric 4294967295",
        f"{session.remote} dev {line} proto 109 scope link src {session.local}",
    ]


def assert_down(world: World, table: int, others: set[str]) -> None:
    """Nothing in its table but the guard, and no rules but those of the others."""
    assert world.routes(table) == ["unreachable default proto 109 metric 4294967295"]
    assert our_rules(world) == others


@pytest.mark.fast
def test_up_and_down(world: World, isp: Provider) -> None:
    """ip-up makes the link; ip-down comes when the interface is gone already, and takes all but the guard away."""
    dsl, tel = two_lines(world, isp)
    assert_works(world, dsl, 200)
    assert_works(world, tel, 201)
    assert len(our_rules(world)) == 6
    assert [world.box.interface(line)["group"] for line in ("ppp0", "ppp1")] == ["109", "109"]  # type: ignore[index]
    tel.down()
    assert world.box.interface("ppp1") is None
    assert_down(world, 201, link_rules("ppp0", "203.0.113.45", 200))
    assert_works(world, dsl, 200)
    assert world.wrong() == []


@pytest.mark.fault("F39")
def test_down_while_the_interface_is_still_there(world: World, isp: Provider) -> None:
    """pppd without persist on a plain line: the address is gone, the interface only down, when ip-down runs."""
    dsl, tel = two_lines(world, isp)
    tel.down(gone=False)
    interface = world.box.interface("ppp1")
    assert interface and interface["group"] in ("0", "default")
    assert_down(world, 201, link_rules("ppp0", "203.0.113.45", 200))
    assert_works(world, dsl, 200)


@pytest.mark.fault("F14")
def test_a_reconnected_session_is_the_same_link_with_a_new_index(world: World, isp: Provider) -> None:
    """persist: another address, and the same again; the new interface starts in group 0, without routes."""
    _, tel = two_lines(world, isp)
    for address in ("203.0.113.50", "203.0.113.50", "203.0.113.46"):
        before = world.box.interface("ppp1")
        tel.reconnect(address)
        after = world.box.interface("ppp1")
        assert before and after and before["ifindex"] != after["ifindex"] and after["group"] == "109"
        assert_works(world, tel, 201)
        assert len(our_rules(world)) == 6
    assert world.wrong() == []


def test_a_session_whose_peer_changes(world: World, isp: Provider) -> None:
    """Same address, another router at the other end: the route to the old one goes."""
    _, tel = two_lines(world, isp)
    tel.reconnect(remote="203.0.113.2")
    assert_works(world, tel, 201)


# --- the line and the interface it happens to get ---


@pytest.mark.parametrize("key", ["ipparam", "linkname"])
def test_a_line_is_followed_to_another_interface(world: World, isp: Provider, key: str) -> None:
    """It was ppp1 and is ppp4 now; nothing is left of ppp1."""
    world.configure(f'[link.dsl]\ninterface = "ppp0"\ntable = 200\n[link.tel]\n{key} = "tel line"\ntable = 201\n')
    dsl = world.ppp_up("ppp0", "203.0.113.45", PEER, isp, ipparam="somebody's", linkname="else's")
    old = world.ppp_up("ppp1", "203.0.113.46", PEER, isp, **{key: "tel line"})
    assert_works(world, old, 201)
    old.down()
    new = world.ppp_up("ppp4", "203.0.113.47", PEER, isp, **{key: "tel line"})
    assert_works(world, new, 201)
    assert_works(world, dsl, 200)
    assert our_rules(world) == link_rules("ppp0", "203.0.113.45", 200) | link_rules("ppp4", "203.0.113.47", 201)


@pytest.mark.parametrize("order", ["downs first", "ups first", "crossed"])
def test_two_lines_that_swap_their_interfaces(world: World, isp: Provider, order: str) -> None:
    """Both redial; what was ppp0 is ppp1. Whoever is told first, in the end each table leads to its own line."""
    dsl, tel = two_lines(world, isp)
    dsl.drop()
    tel.drop()
    old_downs: list[Callable[[], object]] = [
        lambda: dsl.down_event(local="203.0.113.45"),
        lambda: tel.down_event(local="203.0.113.46"),
    ]
    if order == "downs first":
        for tell in old_downs:
            tell()
    new_tel = world.ppp_up(
        "ppp0", "203.0.113.51", PEER, isp, ipparam="tel", defaultroute=True, event=order == "downs first"
    )
    new_dsl = world.ppp_up("ppp1", "203.0.113.52", PEER, isp, ipparam="dsl", event=order == "downs first")
    if order == "ups first":
        new_tel.up_event()
        new_dsl.up_event()
        for tell in old_downs:
            tell()
    elif order == "crossed":
        new_dsl.up_event()
        old_downs[1]()
        old_downs[0]()
        new_tel.up_event()
    assert_works(world, new_tel, 201)
    assert_works(world, new_dsl, 200)
    assert our_rules(world) == link_rules("ppp1", "203.0.113.52", 200) | link_rules("ppp0", "203.0.113.51", 201)
    assert world.multihook("status").returncode == 0
    assert world.wrong() == []


def test_what_names_the_line_goes_before_what_names_its_interface(world: World, isp: Provider) -> None:
    """tel comes up on ppp0, which the configuration gives to dsl."""
    world.configure('[link.dsl]\ninterface = "ppp0"\ntable = 200\n[link.tel]\nipparam = "tel"\ntable = 201\n')
    tel = world.ppp_up("ppp0", "203.0.113.46", PEER, isp, ipparam="tel", defaultroute=True)
    assert_works(world, tel, 201)
    assert our_rules(world) == link_rules("ppp0", "203.0.113.46", 201)


def test_arguments_go_before_the_environment(world: World, isp: Provider) -> None:
    """captures: pppd 2.4.9 passes the IPLOCAL and IPREMOTE of the session before."""
    _, tel = two_lines(world, isp)
    tel.reconnect("203.0.113.50", event=False)
    tel.down_event(local="203.0.113.46", env_IPLOCAL="203.0.113.50")
    tel.up_event(env_IPLOCAL="203.0.113.46", env_IPREMOTE="192.0.2.1", env_IFNAME="ppp0", env_DEVICE="")
    assert_works(world, tel, 201)
    assert len(our_rules(world)) == 6


# --- events that come when they should not ---


@pytest.mark.fault("F4")
@pytest.mark.parametrize("address", ["203.0.113.60", "203.0.113.46"], ids=["another address", "the same address"])
def test_an_old_sessions_end_is_told_after_the_new_ones_start(world: World, isp: Provider, address: str) -> None:
    """F4: a second pppd does not wait for the first; here both are up for a while, on two interfaces."""
    dsl, old = two_lines(world, isp)
    new = world.ppp_up("ppp2", address, PEER, isp, ipparam="tel")
    assert our_rules(world) == link_rules("ppp0", dsl.local, 200) | link_rules("ppp2", address, 201)
    if address == old.local:
        # The provider has one way to that address only.
        old.drop()
    assert_works(world, new, 201)
    assert len(our_rules(world)) == 6
    old.drop()
    assert_works(world, new, 201)
    old.down_event()
    assert_works(world, new, 201)
    assert our_rules(world) == link_rules("ppp0", dsl.local, 200) | link_rules("ppp2", new.local, 201)


@pytest.mark.fault("F4")
def test_an_old_sessions_end_is_told_after_the_new_one_has_its_interface_and_address(
    world: World, isp: Provider
) -> None:
    """The same interface and the same address: only the kernel knows that the session is up."""
    _, tel = two_lines(world, isp)
    tel.reconnect(event=False)
    tel.up_event()
    tel.down_event()
    assert_works(world, tel, 201)


@pytest.mark.fault("F5")
def test_a_session_that_changes_while_its_script_runs_is_told_of_later_or_never(world: World, isp: Provider) -> None:
    """timeline-ppp-flap.txt, E1: no ip-down of the first and no ip-up of the second; then the hooks of a third come."""
    _, tel = two_lines(world, isp)
    tel.reconnect("203.0.113.11")
    tel.reconnect("203.0.113.12", event=False)
    # Before any hook nothing leads the new address anywhere: main's default takes it, with the address of that line.
    asked = world.connect(source="203.0.113.12", timeout=0.3)
    assert (asked.source, asked.wrong) == ("203.0.113.45", frozenset())
    world.multihook("sync", check=True)
    assert_works(world, tel, 201)
    tel.drop()
    tel.down_event(local="203.0.113.12")
    tel.reconnect("203.0.113.13")
    assert_works(world, tel, 201)
    assert len(our_rules(world)) == 6


@pytest.mark.fault("F14")
def test_a_session_that_pppd_left_without_a_word(world: World, isp: Provider) -> None:
    """SIGKILL, or E3: no ip-down. Sync sees it; so does the next ip-up of the line, on whatever interface."""
    dsl, tel = two_lines(world, isp)
    tel.drop()
    world.multihook("sync", check=True)
    assert_down(world, 201, link_rules("ppp0", "203.0.113.45", 200))
    tel.reconnect()
    tel.drop()
    new = world.ppp_up("ppp7", "203.0.113.77", PEER, isp, ipparam="tel")
    assert_works(world, new, 201)
    assert our_rules(world) == link_rules("ppp0", dsl.local, 200) | link_rules("ppp7", new.local, 201)


@pytest.mark.fault("F4")
@pytest.mark.parametrize("late", ["203.0.113.46", "203.0.113.99", ""])
def test_a_late_ip_down_of_another_address_changes_nothing(world: World, isp: Provider, late: str) -> None:
    """The session that it speaks of was another one."""
    _, tel = two_lines(world, isp)
    tel.reconnect("203.0.113.50")
    before = world.snapshot(foreign=False)
    tel.down_event(local=late)
    assert world.snapshot(foreign=False) == before
    assert_works(world, tel, 201)


@pytest.mark.fault("F7", "F14")
def test_an_ip_up_that_is_late_makes_no_link_of_what_is_gone(world: World, isp: Provider) -> None:
    """Its session ended while the script waited for its turn."""
    dsl, tel = two_lines(world, isp)
    tel.down()
    tel.up_event()
    assert_down(world, 201, link_rules("ppp0", dsl.local, 200))
    tel.up_event(local="203.0.113.99")
    tel.up_event(interface="ppp8", ipparam="other")
    assert_down(world, 201, link_rules("ppp0", dsl.local, 200))


@pytest.mark.fault("F3")
def test_both_lines_come_up_at_the_same_instant(world: World, isp: Provider) -> None:
    """As after a power cut, several times: neither waits for the other's event, none is lost."""
    dsl, tel = two_lines(world, isp)
    for last in (80, 82, 84):
        dsl.readdress(f"203.0.113.{last}")
        tel.readdress(f"203.0.113.{last + 1}")
        running = [session.up_event(wait=False) for session in (dsl, tel)]
        assert [process.wait(30) for process in running] == [0, 0]
        assert_works(world, dsl, 200)
        assert_works(world, tel, 201)
    assert len(our_rules(world)) == 6
    wait_until("all programs to end", lambda: world.strays() == {})


# --- as it was recorded ---

CAPTURES = Path(__file__).parent.parent / "captures"
EVENT = re.compile(r"[\d.]+ (START|END) +(ip-pre-up|ip-up|ip-down) (ppp\d) ([\d.]+)(?: ipparam=(\S+))?")
# From the timeline of two real pppd 2.4.9 with persist: both redial with scripts of 3 s; ip-up of 10 s while the link
# drops and is back; ip-down of 6 s; SIGTERM with an ip-down of 8 s.
SLOW_SCRIPTS = """
59.74 START ip-up ppp1 10.71.0.51 ipparam=isp1
60.21 START ip-down ppp2 10.72.0.12 ipparam=isp2
63.13 END   ip-up ppp1 10.71.0.51 ipparam=isp1
63.37 END   ip-down ppp2 10.72.0.12 ipparam=isp2
64.20 START ip-pre-up ppp2 10.72.0.13 ipparam=isp2
64.39 START ip-pre-up ppp1 10.71.0.50 ipparam=isp1
66.31 START ip-up ppp2 10.72.0.13 ipparam=isp2
69.43 END   ip-up ppp2 10.72.0.13 ipparam=isp2
73.55 START ip-down ppp1 10.71.0.50 ipparam=isp1
73.58 END   ip-down ppp1 10.71.0.50 ipparam=isp1
78.39 START ip-pre-up ppp1 10.71.0.51 ipparam=isp1
79.93 START ip-up ppp1 10.71.0.51 ipparam=isp1
85.62 START ip-pre-up ppp1 10.71.0.50 ipparam=isp1
90.05 END   ip-up ppp1 10.71.0.51 ipparam=isp1
91.82 START ip-down ppp1 10.71.0.50 ipparam=isp1
91.88 END   ip-down ppp1 10.71.0.50 ipparam=isp1
92.52 START ip-pre-up ppp1 10.71.0.51 ipparam=isp1
93.37 START ip-up ppp1 10.71.0.51 ipparam=isp1
93.40 END   ip-up ppp1 10.71.0.51 ipparam=isp1
107.08 START ip-down ppp1 10.71.0.51 ipparam=isp1
112.19 START ip-pre-up ppp1 10.71.0.50 ipparam=isp1
113.17 END   ip-down ppp1 10.71.0.51 ipparam=isp1
114.10 START ip-up ppp1 10.71.0.50 ipparam=isp1
114.20 END   ip-up ppp1 10.71.0.50 ipparam=isp1
120.50 START ip-down ppp1 10.71.0.50 ipparam=isp1
128.59 END   ip-down ppp1 10.71.0.50 ipparam=isp1
"""


class Replay:
    """The lines of a recorded timeline, made to happen again: sessions that come and go, and their scripts."""

    def __init__(self, world: World, moment: str) -> None:
        """moment: START or END, when our hook has its turn in a script that takes long."""
        self.world, self.moment = world, moment

    def line(self, line: str) -> None:
        """One line; what is no event may tell of a change that had none."""
        silent = re.search(r"is now ([\d.]+)", line)
        event = EVENT.match(line)
        if silent:
            self.connect("ppp1", silent[1].rstrip("."), "isp1")
        elif "gone, rc" in line:
            self.world.sessions["ppp1"].drop()
        elif event:
            when, script, interface, address, ipparam = event.groups()
            if script == "ip-pre-up":
                self.connect(interface, address, ipparam)
            elif when == "START" and script == "ip-up" and interface not in self.world.sessions:
                self.connect(interface, address, ipparam)
            elif when == "START":
                self.before(script, interface, address, ipparam)
            if when == self.moment and script != "ip-pre-up":
                self.world.sessions[interface].event(script, local=address)

    def before(self, script: str, interface: str, address: str, ipparam: str) -> None:
        """What had happened to the session when its script was started."""
        session = self.world.sessions[interface]
        if script == "ip-down" and session.local == address:
            session.drop()
        elif script == "ip-up" and (session.local != address or not self.world.box.addresses(interface)):
            self.connect(interface, address, ipparam)

    def connect(self, interface: str, address: str, ipparam: str) -> None:
        """A new session on that interface; no event yet."""
        if interface in self.world.sessions:
            self.world.sessions[interface].reconnect(address, event=False)
        else:
            self.world.ppp_up(interface, address, "10.70.0.1", event=False, ipparam=ipparam)

    def expected(self) -> set[str]:
        """The rules of those that are up now."""
        rules: set[str] = set()
        for session in self.world.sessions.values():
            if self.world.box.addresses(session.interface):
                rules |= link_rules(session.interface, session.local, {"isp1": 200, "isp2": 201}[session.ipparam])
        return rules


@pytest.mark.fault("F4", "F5")
@pytest.mark.parametrize(
    "moment", ["START", "END"], ids=["hook runs first in each script", "hook runs last in each script"]
)
@pytest.mark.parametrize("timeline", ["slow scripts", "flapping line"])
def test_what_real_pppds_did_gives_the_right_links(world: World, timeline: str, moment: str) -> None:
    """Late, overlapping and missing calls as they were recorded; whatever has still no event at the end, sync finds."""
    world.configure('[link.isp1]\nipparam = "isp1"\ntable = 200\n[link.isp2]\nipparam = "isp2"\ntable = 201\n')
    text = SLOW_SCRIPTS if timeline == "slow scripts" else (CAPTURES / "timeline-ppp-flap.txt").read_text()
    replay = Replay(world, moment)
    if timeline == "slow scripts":
        replay.connect("ppp1", "10.71.0.51", "isp1")
        world.ppp_up("ppp2", "10.72.0.12", "10.70.0.1", ipparam="isp2")
    for line in text.splitlines():
        replay.line(line)
        event = EVENT.match(line)
        if event and event[1] == moment and event[2] != "ip-pre-up":
            # Whatever it said: the link has the rules of the address that is there now, or none.
            own = {rule for rule in replay.expected() if f"oif {event[3]} " in rule}
            assert {rule for rule in our_rules(world) if f"oif {event[3]} " in rule} == own, line
    world.multihook("sync", check=True)
    assert our_rules(world) == replay.expected()
    assert world.multihook("status").returncode in (0, 3)  # 3: a line is down


# --- what is a link and what is not ---


def test_a_session_with_a_default_route_is_adopted(world: World, isp: Provider) -> None:
    """By nobody's configuration: two dial-up lines; one that pppd gave no default route is none."""
    one = world.ppp_up("ppp0", "203.0.113.45", PEER, isp, defaultroute=True)
    # Alone on the machine: nothing is changed for it.
    assert our_rules(world) == set()
    other = world.ppp_up("ppp1", "203.0.113.46", PEER, isp, event=False)
    other.up_event()
    assert our_rules(world) == set()
    world.box.ip("route add default dev ppp1 metric 10")
    other.up_event()
    assert_adopted(world, one)
    assert_adopted(world, other)
    other.down()
    assert our_rules(world) == set()
    assert world.connect(source=one.local).by == {"ppp0"}


def assert_adopted(world: World, session: Session) -> None:
    """The table is whichever number it got."""
    (rule,) = [rule for rule in our_rules(world) if f"oif {session.interface} " in rule]
    assert_works(world, session, int(rule.split("lookup ")[1].split()[0]))


SERVER = "10.64.0.1"


def dial_in(world: World, first: int, count: int) -> list[Session]:
    """Sessions of an access server: one local address for all of them."""
    return [world.ppp_up(f"ppp{n}", SERVER, f"10.64.1.{n}", event=False) for n in range(first, first + count)]


def test_fifty_dial_in_sessions_that_share_an_address_change_nothing(world: World, isp: Provider) -> None:
    """Beside two lines: neither their coming nor their going, nor a default route by one of them."""
    two_lines(world, isp)
    sessions = dial_in(world, 10, 50)
    before = world.snapshot(foreign=False)
    world.log.clear()
    for session in sessions[:20]:
        session.up_event()
    # As somebody's ip-up.d script may add it, by the 21st.
    world.box.ip("route add default dev ppp30 metric 77")
    for session in sessions[20:]:
        session.up_event()
    world.multihook("sync", check=True)
    assert world.snapshot(foreign=False) == before
    assert [line for line in world.log.lines() if "10.64.0.1" in line] == []
    for session in sessions[:45]:
        session.drop()
    for session in sessions[:5]:
        session.down_event()
    assert world.snapshot(foreign=False) == before
    assert world.multihook("status").returncode == 0


def test_dial_in_sessions_alone_make_no_link(world: World) -> None:
    """Not even by a default route of main, as long as two interfaces carry the address."""
    sessions = dial_in(world, 10, 5)
    world.box.ip("route add default dev ppp10")
    for session in sessions:
        session.up_event()
    world.multihook("sync", check=True)
    assert our_rules(world) == set()
    assert [route for route in world.routes("all") if "proto 109" in route] == []
    assert world.snapshot(foreign=False)["group"] == []
    # The last one that is left has the address for itself, and the default route: it is a line, and the only one.
    for session in sessions[1:]:
        session.down()
    assert our_rules(world) == set()


@pytest.mark.fault("F30")
def test_two_configured_lines_with_one_address_are_told_apart_by_their_interface_only(
    world: World, isp: Provider
) -> None:
    """No rule can tell whose packet it is; the first one has it, and the other serves sockets bound to its device."""
    by_ipparam(world)
    world.ppp_up("ppp0", "203.0.113.45", PEER, isp, ipparam="dsl", defaultroute=True)
    world.ppp_up("ppp1", "203.0.113.45", PEER, isp, ipparam="tel")
    rules = our_rules(world)
    assert link_rules("ppp0", "203.0.113.45", 200) <= rules
    assert rules - link_rules("ppp0", "203.0.113.45", 200) == {"7000: from all oif ppp1 lookup 201 proto 109"}
    assert "dev ppp1 table 201 " in world.route_get("198.18.0.10", "oif", "ppp1")
    world.ppp_down("ppp0")
    assert_works(world, world.sessions["ppp1"], 201)


@pytest.mark.parametrize("end", ["ip-down", "killed", "killed among many", "killed, and nothing is adopted"])
def test_a_dial_in_session_on_the_interface_of_a_line_that_is_down_is_not_that_line(world: World, end: str) -> None:
    """pppN is handed out anew; what ipparam names comes back by its own ip-up only."""
    isp = world.provider("isp", "203.0.113.0/24")
    text = '[link.dsl]\nipparam = "dsl"\ntable = 200\n[link.lte]\ninterface = "ppp7"\ntable = 201\n'
    if end == "killed among many":  # whose routes are not counted at each event
        text += "".join(f'[link.x{n}]\ninterface = "ppp{n}"\n' for n in range(20, 40))
    if "adopted" in end:
        text += "[multihook]\nadopt = false\n"
    world.configure(text)
    line = world.ppp_up("ppp0", "203.0.113.45", "203.0.113.1", isp, ipparam="dsl", defaultroute=True)
    line.drop()
    if end == "ip-down":
        line.down_event()
    world.ppp_up("ppp0", "10.9.0.1", "10.9.0.2", ipparam="dialin")
    world.multihook("sync", check=True)
    assert not any("10.9.0.1" in rule for rule in world.rules())
    assert world.routes(200) == ["unreachable default proto 109 metric 4294967295"]
    assert re.search(r"^dsl +down ", world.multihook("status").stdout, re.MULTILINE)
    again = world.ppp_up("ppp1", "203.0.113.46", "203.0.113.1", isp, ipparam="dsl", defaultroute=True)
    assert world.connect(source=again.local).by == {"ppp1"}


@pytest.mark.fault("F4", "F7", "F14")
def test_what_a_session_that_is_no_more_says_late_takes_nothing_from_the_one_that_is(world: World, isp: Provider) -> None:
    """Found by random histories: a slow script before ours, and the line is on another pppN by then, or that is its own."""
    dsl, tel = two_lines(world, isp)
    tel.drop()
    again = world.ppp_up("ppp2", "203.0.113.46", PEER, isp, ipparam="tel")
    tel.up_event(local="203.0.113.46")
    tel.up_event(local="203.0.113.50")
    assert_works(world, again, 201)
    dsl.up_event(interface="ppp2", local="203.0.113.45")
    dsl.up_event(interface="ppp2", local="10.9.0.1", remote="10.9.0.2", ipparam="dialin")
    assert_works(world, again, 201)
    assert_works(world, dsl, 200)
    assert world.multihook("sync").stdout.endswith("nothing to change.\n")


def test_nothing_of_ours_is_on_an_interface_that_somebody_else_has_got(world: World, isp: Provider) -> None:
    """SNAT's guard for the line would stop what the office sends to the dial-in client by it."""
    _, tel = two_lines(world, isp)
    assert '"ppp1"' in world.box.nft("list table inet multihook")
    tel.drop()
    world.ppp_up("ppp1", "10.9.0.1", "10.9.0.2", ipparam="dialin")
    for _ in range(2):
        assert '"ppp1"' not in world.box.nft("list table inet multihook")
        world.multihook("sync", check=True)
    assert world.box.interface("ppp1")["group"] == "0"
    assert world.box.sysctl("net.ipv4.conf.ppp1.src_valid_mark") == "0"


def test_a_hand_on_a_line_takes_nothing_of_it_away(world: World) -> None:
    """`multihook up ppp0` names the interface alone; it is still the line that ipparam says."""
    isp = world.provider("isp", "203.0.113.0/24")
    world.configure('[link.dsl]\nipparam = "dsl"\ntable = 200\n[link.lte]\ninterface = "ppp7"\ntable = 201\n')
    line = world.ppp_up("ppp0", "203.0.113.45", "203.0.113.1", isp, ipparam="dsl", defaultroute=True, dns=("198.18.0.53",))
    before = world.snapshot(foreign=False)
    for words in (("up",), ("down", "up")):
        for word in words:
            world.multihook(word, "ppp0", check=True)
        assert world.multihook("status", "dsl").stdout.count(" up ") == 1
        world.multihook("sync", check=True)
        assert world.snapshot(foreign=False) == before
    assert world.connect(source=line.local).by == {"ppp0"}
    assert "resolvers 198.18.0.53" in Path("/run/multihook/leases/dsl.inet").read_text()
    line.reconnect("203.0.113.50")
    assert world.connect(source="203.0.113.50").by == {"ppp0"}


@pytest.mark.fault("F30")
def test_an_address_that_another_line_hands_out_too_stays_with_the_line_that_had_it(world: World) -> None:
    """Whoever answers DHCP on one line would take the other line's address away, were the first of the file the holder."""
    isp = world.provider("isp", "203.0.113.0/24")
    world.provider("cable", "198.51.100.0/24", wire="wan1")
    world.configure('[link.cable]\ninterface = "wan1"\ntable = 201\n[link.dsl]\nipparam = "dsl"\ntable = 200\n')
    line = world.ppp_up("ppp0", "203.0.113.45", "203.0.113.1", isp, ipparam="dsl", defaultroute=True)
    started = Path("/proc/uptime").read_text().split(".")[0]
    wait_until("a second to pass", lambda: Path("/proc/uptime").read_text().split(".")[0] != started)
    world.box.ip(f"addr add {line.local}/32 dev wan1")
    lease = {"reason": "BOUND", "interface": "wan1", "new_ip_address": line.local, "new_routers": "198.51.100.1"}
    world.box.run("/usr/lib/multihook/event", "dhclient", env=lease)
    for _ in range(2):
        assert f"7400: from {line.local} lookup 200 proto 109" in world.rules()
        assert world.connect(source=line.local).by == {"ppp0"}
        world.multihook("sync")
    assert "cable: its address is also that of dsl" in world.multihook("status").stdout


def test_a_line_that_is_first_heard_of_when_it_ends_is_the_same_to_the_next_run(world: World, isp: Provider) -> None:
    """Found by a random history: known by its ipparam only, it was taken for somebody else's by the run after that."""
    by_ipparam(world)
    world.multihook("sync", check=True)
    tel = world.ppp_up("ppp1", "203.0.113.46", PEER, isp, ipparam="tel", event=False)
    tel.down()
    before = world.snapshot(foreign=False)
    assert world.multihook("sync").stdout.endswith("nothing to change.\n")
    assert world.snapshot(foreign=False) == before
    tel.reconnect()
    assert link_rules("ppp1", "203.0.113.46", 201) <= our_rules(world)

"""Connection tracking when a link loses its address: what was translated to it goes, nothing else does.

The translation is the administrator's own here, a map from interface to address as a firewall has it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from multihook.address import parse
from multihook.kernel import conntrack, nftables
from multihook.kernel.rtnetlink import CREATE, EXCL, Answers, attribute
from world import World
from world.lan import Lan
from world.namespaces import wait_until
from world.ppp import Session
from world.traffic import Echo, Flow

FAR = "198.18.0.10"
A, B, OTHER = "203.0.113.45", "203.0.113.50", "203.0.113.99"
ONE = '[link.dsl]\nipparam = "dsl"\ntable = 200\n'
TWO = ONE + '[link.lte]\nipparam = "lte"\ntable = 201\n'
FIREWALL = """
table ip firewall {
    map to { type ifname : ipv4_addr; }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 192.168.0.0/16 snat to oifname map @to
    }
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        udp dport 9999 dnat to 192.168.1.10:7
    }
}
"""
PATIENCE = 10
VOLATILE = re.compile(r"(?<= 17) \d+| \[(ASSURED|UNREPLIED)\]")


def translate(world: World, interface: str, address: str) -> None:
    """The firewall's map, brought in line by somebody else."""
    world.box.nft(f"flush map ip firewall to\nadd element ip firewall to {{ {interface} : {address} }}\n")


def entries(world: World) -> set[str]:
    """All entries, without what changes by itself: timeout, and whether it was answered.

    The kernel gives a new entry in the place of an old one the same id, so it is the ends that tell.
    """
    listed = world.box.run("conntrack", "-L", "-o", "id").stdout.splitlines()
    return {VOLATILE.sub("", line) for line in listed}


def about(world: World, *words: str) -> set[str]:
    return {line for line in entries(world) if all(word in line.split() for word in words)}


def invent(world: World, *words: str) -> None:
    """An entry that nothing keeps alive."""
    world.box.run("conntrack", "-I", "-p", "udp", "-t", "600", "--sport", "1", "--dport", "2", *words)


@pytest.fixture
def lan(world: World) -> Lan:
    world.box.nft(FIREWALL)
    return world.lan()


def dsl(world: World, local: str = A, **more: object) -> Session:
    isp = world.providers.get("isp") or world.provider("isp", "203.0.113.0/24")
    translate(world, "ppp0", local)
    return world.ppp_up("ppp0", local, "203.0.113.1", isp, ipparam="dsl", defaultroute=True, **more)


def answered(flow: Flow, more: int = 3) -> None:
    """Wait until the far end has answered so many more."""
    goal = flow.received + more
    wait_until("answers", lambda: flow.received >= goal, PATIENCE)


@pytest.mark.fault("F52")
@pytest.mark.fast
def test_a_flow_that_never_pauses_gets_the_new_address(world: World, lan: Lan) -> None:
    """F52, seed 001.29: without this its packets carry the old address for ever, by the right link, and are lost."""
    world.configure(TWO)
    session = dsl(world)
    with world.flow(ns=lan.ns, interval=0.05) as flow:
        answered(flow)
        (before,) = about(world, "src=192.168.1.10", f"dst={A}")
        session.readdress(B)
        translate(world, "ppp0", B)
        # Its packets still get the old address; without the guard of ours they would be seen on the line.
        sent, received = flow.sent, flow.received
        wait_until("packets without an answer", lambda: flow.sent > sent + 10, PATIENCE)
        assert flow.received <= received + 1
        world.log.clear()
        session.up_event()
        answered(flow)
        assert before not in entries(world)
        assert about(world, "src=192.168.1.10", f"dst={B}")
        assert world.wrong() == []
    (line,) = world.log.lines()
    assert line.startswith(f"dsl: {A} -> {B} on ppp0 (pppd ip-up): ") and "1 connection" in line
    world.log.clear()
    session.up_event()
    assert world.log.lines() == []


@pytest.mark.fault("F52")
def test_all_that_was_translated_to_or_from_the_address_goes_and_nothing_else(world: World, lan: Lan) -> None:
    world.configure(TWO)
    session = dsl(world)
    kept = (
        ("-s", "192.168.1.10", "-d", "198.18.0.1", "--src-nat", OTHER),  # translated to another link's address
        ("-s", "198.18.0.2", "-d", OTHER, "--dst-nat", "192.168.1.10"),
        ("-s", A, "-d", "198.18.0.3"),  # this machine's own, not translated
        ("-s", "198.18.0.4", "-d", A),
        ("-s", "192.168.1.10", "-d", A),
        ("-s", "192.168.1.10", "-d", "198.18.0.5"),
        ("-s", A, "-d", "198.18.0.8", "--dst-nat", "192.168.1.11"),  # it is the partner here, and that has not moved
    )
    stale = (
        ("-s", "192.168.1.10", "-d", "198.18.0.6", "--src-nat", A),
        ("-s", "198.18.0.7", "-d", A, "--dst-nat", "192.168.1.10"),
    )
    for words in kept:
        invent(world, *words)
    before = entries(world)
    for words in stale:
        invent(world, *words)
    inside = Echo(lan.ns)
    far = Flow(world.internet.ns, A, 9999, source=FAR, interval=0.05)
    with far, world.flow(ns=lan.ns, interval=0.05) as flow:
        answered(flow)
        answered(far)
        real = about(world, "src=192.168.1.10", f"dst={A}", f"src={FAR}") | about(world, f"src={FAR}", f"dst={A}")
        assert len(real) >= 2
        session.readdress(B)
        translate(world, "ppp0", B)
        shown = [line for line in world.multihook("sync", "-n").stdout.splitlines() if "conntrack" in line]
        assert shown == [f"conntrack -D --src-nat {A}", f"conntrack -D --orig-dst {A} --dst-nat"]
        world.log.clear()
        session.up_event()
        assert "4 connections" in world.log.lines()[0]
        left = entries(world)
    inside.close()
    assert before <= left and not real & left
    assert [line for line in left - before if A in line] == []


def test_what_is_printed_takes_out_the_same(world: World, lan: Lan) -> None:
    world.configure(TWO)
    session = dsl(world)
    invent(world, "-s", A, "-d", "198.18.0.3")
    kept = entries(world)
    invent(world, "-s", "192.168.1.10", "-d", "198.18.0.6", "--src-nat", A)
    invent(world, "-s", "198.18.0.7", "-d", A, "--dst-nat", "192.168.1.10")
    session.readdress(B)
    shown = world.multihook("sync", "-n").stdout
    world.box.run("sh", "-e", input=shown)
    assert entries(world) == kept
    assert world.multihook("sync", "-n").stdout == ""


def test_where_no_link_can_take_them_they_stay_and_go_on_with_the_same_address(world: World, lan: Lan) -> None:
    world.configure(TWO)
    session = dsl(world)
    with world.flow(ns=lan.ns, interval=0.05) as flow:
        answered(flow)
        mine = about(world, "src=192.168.1.10", f"dst={A}")
        session.down()
        assert about(world, f"dst={A}") == mine
        assert world.multihook("sync").stdout.endswith("nothing to change.\n")
        assert about(world, f"dst={A}") == mine
        session.reconnect(A)
        answered(flow)
        assert about(world, f"dst={A}") == mine
    assert world.wrong() == []
    # It is no more waited for: the next address is another loss, not this one.
    session.readdress(B)
    session.up_event()
    assert about(world, f"dst={A}") == set()


@pytest.mark.fault("F52")
@pytest.mark.parametrize("lost", ["nothing lost", "leases lost"])
def test_they_go_when_the_link_comes_back_with_another_address(world: World, lan: Lan, lost: str) -> None:
    """The note of the address outlives the run, and the record of the lease."""
    world.configure(TWO)
    session = dsl(world)
    with world.flow(ns=lan.ns, interval=0.05) as flow:
        answered(flow)
        session.down()
        assert about(world, f"dst={A}")
        if lost == "leases lost":
            world.box.run("sh", "-c", "rm -r /run/multihook/leases")
        translate(world, "ppp0", B)
        session.reconnect(B)
        assert about(world, f"dst={A}") == set()
        world.providers["isp"].forget()
        answered(flow)
        assert about(world, f"dst={A}") == set()
    assert world.wrong() == []


def test_they_go_when_another_link_comes_that_can_take_them(world: World, lan: Lan) -> None:
    world.configure(TWO)
    session = dsl(world)
    isp = world.providers["isp"]
    with world.flow(ns=lan.ns, interval=0.05) as flow:
        answered(flow)
        session.down()
        assert about(world, f"dst={A}")
        world.box.nft(f"add element ip firewall to {{ ppp1 : {OTHER} }}")
        world.log.clear()
        world.ppp_up("ppp1", OTHER, "203.0.113.1", isp, ipparam="lte", defaultroute=True)
        assert about(world, f"dst={A}") == set()
        isp.forget()
        answered(flow)
        assert about(world, f"dst={A}") == set() and about(world, f"dst={OTHER}")
    assert world.wrong() == []
    assert any("1 connection" in line for line in world.log.lines())


def test_they_go_at_once_where_another_link_is_up(world: World, lan: Lan) -> None:
    world.configure(TWO)
    session = dsl(world)
    world.ppp_up("ppp1", OTHER, "203.0.113.1", world.providers["isp"], ipparam="lte")
    invent(world, "-s", "192.168.1.10", "-d", "198.18.0.6", "--src-nat", A)
    session.down()
    assert about(world, f"dst={A}") == set()


@pytest.mark.parametrize("settings", ["", ONE.replace("200", "200\nsnat = false")])
def test_a_link_whose_translation_is_no_business_of_ours_is_left_alone(world: World, lan: Lan, settings: str) -> None:
    world.configure(settings)
    session = dsl(world)
    world.ppp_up("ppp1", OTHER, "203.0.113.1", world.providers["isp"], defaultroute=True)
    invent(world, "-s", "192.168.1.10", "-d", "198.18.0.6", "--src-nat", A)
    session.readdress(B)
    session.up_event()
    assert about(world, f"dst={A}")


def crowd(world: World, number: int, to: str) -> None:
    """So many entries of one host that are translated to an address."""
    far, host, new = parse(FAR), parse("192.168.1.10"), parse(to)
    assert far and host and new

    def ends(one: bytes, other: bytes, sport: int, dport: int) -> bytes:
        ports = attribute(1, b"\x11") + attribute(2, sport.to_bytes(2, "big")) + attribute(3, dport.to_bytes(2, "big"))
        return attribute(0x8001, attribute(1, one) + attribute(2, other)) + attribute(0x8002, ports)

    nat = attribute(0x8006, attribute(1, new) + attribute(2, new)) + attribute(7, (600).to_bytes(4, "big"))
    with world.box.entered():
        door = nftables.Door()
        try:
            for port in range(1, number + 1):
                both = attribute(0x8001, ends(host, far, port, 7)) + attribute(0x8002, ends(far, host, 7, port))
                door.change(0x100, CREATE | EXCL, bytes((2, 0, 0, 0)) + both + nat)
        finally:
            door.close()


@pytest.mark.fault("F6", "F52")
def test_what_is_too_much_for_an_event_is_done_behind_it(world: World, lan: Lan) -> None:
    """A bounded time for very many entries; the rest goes by a child, of which nothing is left."""
    world.configure(ONE)
    session = dsl(world)
    crowd(world, 40000, A)
    invent(world, "-s", "192.168.1.10", "-d", FAR, "--src-nat", OTHER)
    translate(world, "ppp0", B)
    world.log.clear()
    session.readdress(B)
    session.up_event()
    (line,) = world.log.lines()
    made = re.search(r" ([0-9]+) connections; ([0-9]+) ms", line)
    assert made and 100 < int(made[1]) < 40000, line
    wait_until("the child has done the rest", lambda: int(world.box.sysctl("net.netfilter.nf_conntrack_count")) < 100)
    assert not about(world, f"dst={A}") and about(world, f"dst={OTHER}")
    world.settle()
    assert not world.strays()
    noted = Path("/run/multihook/private/connections")
    assert A in noted.read_text()
    session.up_event()
    assert not noted.exists() and world.log.lines() == [line]
    with world.ip_monitor() as heard:
        session.up_event()
    assert heard == [] and world.log.lines() == [line]


def test_the_kernel_filters_so_that_those_of_others_cost_nothing(
    world: World, lan: Lan, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        f"-A -p udp -s 192.168.1.10 -d 198.18.{n >> 8}.{n & 255} --src-nat {OTHER} --sport 1 --dport 2 -t 600\n"
        for n in range(2000)
    ]
    world.box.run("conntrack", "-R", "-", input="".join(lines))
    invent(world, "-s", "192.168.1.10", "-d", "198.18.99.1", "--src-nat", A)
    assert len(entries(world)) == 2001
    address = parse(A)
    assert address
    monkeypatch.setattr(conntrack, "_FEW", 1000)
    with world.box.entered():
        door = nftables.Door()
    dumped = []
    real = nftables.Door.parts

    def parts(own: nftables.Door, kind: int, body: bytes) -> Iterator[Answers]:
        found = list(real(own, kind, body))
        dumped.append(sum(map(len, found)))
        return iter(found)

    monkeypatch.setattr(nftables.Door, "parts", parts)
    try:
        with world.box.entered():
            found, is_all = conntrack.translated(door, address, float("inf"))
        assert [len(some) for some in found.values()] == [1, 0] and is_all
        assert dumped == [1, 0]
        conntrack.delete(door, found[conntrack.SNAT] * 2)
    finally:
        door.close()
    assert len(entries(world)) == 2000

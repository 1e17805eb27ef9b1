"""Sysctls of the links: two cards on one segment, seen on the wire, and old values that come back."""

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from world import World
from world.namespaces import Namespace
from world.provider import Provider

PER_LINK = ("rp_filter", "src_valid_mark", "arp_ignore", "arp_announce", "arp_filter")
FIRST, SECOND = "198.51.100.7", "198.51.100.8"
TWO = """
[link.one]
interface = "wan1"
table = 201
gateway = "198.51.100.1"
[link.two]
interface = "wan2"
table = 202
gateway = "198.51.100.1"
"""
RIGHT = {("wan1", FIRST), ("wan2", SECOND)}


def values(world: World, interface: str) -> list[int]:
    """rp_filter, src_valid_mark, arp_ignore, arp_announce, arp_filter."""
    lines = world.box.run("sh", "-c", f"cd /proc/sys/net/ipv4/conf/{interface} && cat {' '.join(PER_LINK)}").stdout
    return [int(line) for line in lines.split()]


def put(world: World, interface: str, option: str, value: int) -> None:
    world.box.run("sh", "-c", f"echo {value} > /proc/sys/net/ipv4/conf/{interface}/{option}")


@contextmanager
def asking(ns: Namespace, device: str, me: str, *addresses: str) -> Iterator[None]:
    """Who has these addresses? Asked by broadcast all the time (RFC 826)."""
    interface = ns.interface(device)
    assert interface
    mac = bytes.fromhex(interface["address"].replace(":", ""))
    sock = ns.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
    sock.bind((device, 0x0806))
    ends = threading.Event()

    def ask() -> None:
        while not ends.wait(0.003):
            for address in addresses:
                body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, socket.inet_aton(me), bytes(6),
                                   socket.inet_aton(address))  # fmt: skip
                sock.send(b"\xff" * 6 + mac + b"\x08\x06" + body)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
        time.sleep(0.05)
    finally:
        ends.set()
        thread.join()
        sock.close()


@pytest.fixture
def isp(world: World) -> Provider:
    """One segment with both cards of the box on it, without addresses."""
    provider = world.provider("isp", "198.51.100.0/24")
    provider.switch("wan1", "wan2")
    provider.static(7, 8)
    return provider


def test_without_us_both_cards_answer_for_both_addresses(world: World, isp: Provider) -> None:
    """What this is against, and that the rig sees it."""
    world.box.ip(f"addr add {FIRST}/24 dev wan1", f"addr add {SECOND}/24 dev wan2")
    with asking(isp.ns, "switch", isp.gateway, FIRST, SECOND):
        time.sleep(0.05)
    assert isp.claims() == {*RIGHT, ("wan1", SECOND), ("wan2", FIRST)}


@pytest.mark.fast
def test_each_card_gives_its_own_mac_during_set_up_too(world: World, isp: Provider) -> None:
    """Static cards: between each address and our run there is time, and somebody asks and is asked in it."""
    world.configure(TWO)
    world.multihook("sync", check=True)
    with asking(isp.ns, "switch", isp.gateway, FIRST, SECOND):
        for card, address in (("wan1", FIRST), ("wan2", SECOND)):
            world.box.ip(f"addr add {address}/24 dev {card}", "neigh flush all")
            world.connect(source=address, kind="udp", timeout=0.1)
            world.multihook("sync", check=True)
        world.box.ip("neigh flush all")
        for card, address in (("wan1", FIRST), ("wan2", SECOND)):
            world.box.ip(f"addr del {address}/24 dev {card}", f"addr add {address}/24 dev {card}")
            world.multihook("sync", check=True)
        for address in (FIRST, SECOND):
            assert world.connect(source=address).ok and world.reach(address).ok
    assert isp.claims() == RIGHT
    assert values(world, "wan1") == values(world, "wan2") == [2, 1, 1, 2, 1]


def test_two_dhcp_clients_on_one_segment(world: World, isp: Provider) -> None:
    """000.5, 004.6, 004.7: the order in which real clients do it, renewal and renumbering included."""
    world.configure(TWO.replace('gateway = "198.51.100.1"\n', ""))
    world.multihook("sync", check=True)
    isp.serve_dhcp()
    pool = [f"198.51.100.{n}" for n in (*range(100, 151),)]
    isp.hand_out("switch", ["198.51.100.100-198.51.100.150"])
    with asking(isp.ns, "switch", isp.gateway, *pool):
        clients = [world.dhcp_up("wan1"), world.dhcp_up("wan2", metric=10)]
        world.settle()
        addresses = [client.address for client in clients]
        for address in addresses:
            assert world.connect(source=address).ok
        assert values(world, "wan1") == values(world, "wan2") == [2, 1, 1, 2, 1]
        clients[0].restart()
        world.settle()
        assert values(world, "wan1") == values(world, "wan2") == [2, 1, 1, 2, 1]
        clients[1].release()
        world.settle()
    # The events did it, for the other link too.
    assert values(world, "wan1") == [2, 1, 1, 2, 0] and values(world, "wan2") == [2, 0, 1, 2, 0]
    assert isp.claims() == {("wan1", addresses[0]), ("wan2", addresses[1])}


def test_a_new_address_on_one_of_them_is_never_given_out_by_the_other(world: World, isp: Provider) -> None:
    """Renumbered in one step, and the hook runs later: until then the card may be silent, not wrong."""
    world.configure(TWO)
    world.box.ip(f"addr add {FIRST}/24 dev wan1")
    world.multihook("sync", check=True)
    with asking(isp.ns, "switch", isp.gateway, FIRST, SECOND):
        world.box.ip(f"addr add {SECOND}/24 dev wan2")
        # An event of the other link, which sees the card but not yet its link.
        world.multihook("up", "wan1", check=True)
        time.sleep(0.05)
        world.multihook("sync", check=True)
    third = isp.static(9)
    with asking(isp.ns, "switch", isp.gateway, third):
        world.box.ip(f"addr del {SECOND}/24 dev wan2", f"addr add {third}/24 dev wan2")
        time.sleep(0.05)
        world.multihook("up", "wan1", check=True)
        time.sleep(0.05)
        world.multihook("sync", check=True)
    assert isp.claims() == {*RIGHT, ("wan2", third)}


def test_further_addresses_of_a_link_are_answered_by_its_card_alone(world: World, isp: Provider) -> None:
    """They stand on lo, so no card answers by its own addresses; arp_filter asks the rules."""
    ranges = ["198.51.100.32", "198.51.100.48"]
    one, two = (f'sources = ["{start}/28"]\n' for start in ranges)
    world.configure(TWO.replace("table = 201\n", f"table = 201\n{one}").replace("table = 202\n", f"table = 202\n{two}"))
    world.box.ip(f"addr add {FIRST}/24 dev wan1", f"addr add {SECOND}/24 dev wan2")
    world.box.ip("addr add 198.51.100.33/32 dev lo", "addr add 198.51.100.49/32 dev lo")
    world.multihook("sync", check=True)
    assert values(world, "wan1") == values(world, "wan2") == [2, 1, 0, 2, 1]
    assert world.box.sysctl("net.ipv4.icmp_errors_use_inbound_ifaddr") == "1"
    with asking(isp.ns, "switch", isp.gateway, FIRST, SECOND, "198.51.100.33", "198.51.100.49"):
        time.sleep(0.05)
    assert isp.claims() == {*RIGHT, ("wan1", "198.51.100.33"), ("wan2", "198.51.100.49")}
    world.configure(TWO)
    world.multihook("sync", check=True)
    assert world.box.sysctl("net.ipv4.icmp_errors_use_inbound_ifaddr") == "0"
    # An address of the segment that stands on lo is still answered for, as it was before us.
    assert values(world, "wan1")[2] == 0


@pytest.fixture
def range_by_two(world: World) -> World:
    """Two lines; 192.0.2.32/28 is routed to the second, and main's default leads to the first."""
    first = world.provider("first", "203.0.113.0/24", wire="wan1")
    second = world.provider("second", "198.51.100.0/24", wire="wan2")
    world.box.ip(f"addr add {first.static(7)}/24 dev wan1", f"addr add {second.static(7)}/24 dev wan2")
    world.box.ip("addr add 192.0.2.33/32 dev lo", "route add default via 203.0.113.1")
    second.delegate("192.0.2.32/28", via="198.51.100.7")
    world.configure(
        '[link.one]\ninterface = "wan1"\ngateway = "203.0.113.1"\n'
        '[link.two]\ninterface = "wan2"\ngateway = "198.51.100.1"\nsources = ["192.0.2.32/28"]\n'
    )
    world.multihook("sync", check=True)
    return world


@pytest.mark.fault("F56")
def test_an_icmp_error_carries_an_address_of_the_link_that_its_cause_came_by(range_by_two: World) -> None:
    """By the kernel's default it is that of the interface by which the error leaves."""
    # Nobody is there: the box says so, to the far host.
    range_by_two.box.ip("route add unreachable 192.0.2.40/32")
    said = range_by_two.internet.ns.run("ping", "-c1", "-W1", "-I", "198.18.0.10", "192.0.2.40", check=False).stdout
    assert "From 198.51.100.7 " in said, said


@pytest.mark.fault("F56")
def test_what_is_too_big_for_the_lan_is_told_by_the_link_that_it_came_by(range_by_two: World) -> None:
    """A far host that may not fragment learns the MTU behind this machine, and is heard with what fits."""
    server = range_by_two.namespace("server")
    range_by_two.box.ip(
        "link add dmz0 type veth peer name eth0 netns server", "link set dmz0 mtu 1280 up", "route add 192.0.2.41/32 dev dmz0"
    )
    server.ip("link set eth0 mtu 1280 up", "addr add 192.0.2.41/32 dev eth0", "route add default via 192.0.2.33 dev eth0 onlink")
    ping = ("ping", "-c1", "-W1", "-M", "do", "-I", "198.18.0.10")
    said = range_by_two.internet.ns.run(*ping, "-s", "1400", "192.0.2.41", check=False).stdout
    assert "From 198.51.100.7 " in said and "mtu = 1280" in said, said
    range_by_two.internet.ns.run(*ping, "-s", "1200", "192.0.2.41")
    assert range_by_two.wrong() == []


# --- one link alone, other people's links ---


def test_on_a_machine_with_one_line_and_on_adopted_links_nothing_is_set(world: World, isp: Provider) -> None:
    world.box.ip(f"addr add {FIRST}/24 dev wan1", "route add default via 198.51.100.1")
    before = values(world, "wan1")
    world.configure(TWO.partition("[link.two]")[0])
    world.multihook("sync", check=True)
    assert values(world, "wan1") == before
    world.configure("")
    other = world.provider("other", "203.0.113.0/24", wire="wan3")
    world.box.ip(f"addr add {other.static(7)}/24 dev wan3", "route add default via 203.0.113.1 metric 5")
    assert "2 links" in world.multihook("sync", check=True).stdout
    assert values(world, "wan1") == values(world, "wan3") == before
    put(world, "wan3", "rp_filter", 1)
    shown = world.multihook("status").stdout
    assert "wan3: rp_filter is 1" in shown and "wan1: rp_filter" not in shown


def test_a_segment_shared_with_a_link_that_no_section_names_is_said(world: World, isp: Provider) -> None:
    world.box.ip(f"addr add {FIRST}/24 dev wan1", f"addr add {SECOND}/24 dev wan2", "route add default via 198.51.100.1 dev wan2")
    world.configure(TWO.partition("[link.two]")[0])
    world.multihook("sync", check=True)
    assert values(world, "wan1") == [2, 1, 1, 2, 1] and values(world, "wan2") == [2, 0, 0, 0, 0]
    assert "wan2: shares its segment with another link" in world.multihook("status").stdout


# --- old values ---

OLD = (1, 0, 2, 1, 0)


@pytest.fixture
def set_up(world: World) -> None:
    """Two cards on segments of their own with values of somebody's, one of them with a dot in its name."""
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1.7")
    fibre = world.provider("fibre", "203.0.113.0/24", wire="wan2")
    world.box.ip(f"addr add {cable.static(7)}/24 dev wan1.7", f"addr add {fibre.static(7)}/24 dev wan2")
    for card in ("wan1.7", "wan2"):
        for option, value in zip(PER_LINK, OLD, strict=True):
            put(world, card, option, value)
    world.configure(SEPARATE)
    world.multihook("sync", check=True)
    for card in ("wan1.7", "wan2"):
        assert values(world, card) == [2, 1, 1, 2, 0]


SEPARATE = """
[link.cable]
interface = "wan1.7"
gateway = "198.51.100.1"
[link.fibre]
interface = "wan2"
gateway = "203.0.113.1"
"""


@pytest.mark.fault("F31", "F54")
@pytest.mark.parametrize("way", ["flush", "flush once", "unconfigured", "one left"])
def test_old_values_come_back(world: World, set_up: None, way: str) -> None:
    if way.startswith("flush"):
        world.multihook(*way.replace("once", "--once").split(), check=True)
    else:
        world.configure("[multihook]\nadopt = false\n" + (SEPARATE.partition("[link.fibre]")[0] if way == "one left" else ""))
        world.multihook("sync", check=True)
    assert values(world, "wan1.7") == values(world, "wan2") == list(OLD)
    assert world.box.run("sh", "-c", "ls /run/multihook/private/sysctls").stdout == ""


def test_what_is_printed_does_the_same(world: World, set_up: None) -> None:
    world.configure("[multihook]\nadopt = false\n")
    shown = world.multihook("sync", "-n").stdout
    assert "sysctl -qw net/ipv4/conf/wan1.7/rp_filter=1\n" in shown
    world.box.run("sh", "-e", input=shown)
    assert values(world, "wan1.7") == values(world, "wan2") == list(OLD)
    world.multihook("sync", check=True)
    world.configure(SEPARATE)
    world.box.run("sh", "-e", input=world.multihook("sync", "-n").stdout)
    assert values(world, "wan1.7") == values(world, "wan2") == [2, 1, 1, 2, 0]
    assert world.multihook("status").returncode == 0


def test_a_link_that_is_down_keeps_its_card_quiet_and_one_held_out_gives_all_back(world: World, set_up: None) -> None:
    world.multihook("down", "wan2", check=True)
    assert values(world, "wan2") == list(OLD)
    world.multihook("up", "wan2", check=True)
    assert values(world, "wan2") == [2, 1, 1, 2, 0]
    world.box.ip("addr del 203.0.113.7/24 dev wan2")
    world.multihook("sync", check=True)
    assert values(world, "wan2") == [1, 0, 1, 2, 0]


@pytest.mark.fault("F54")
def test_a_value_that_somebody_set_meanwhile_is_his(world: World, set_up: None) -> None:
    put(world, "wan2", "src_valid_mark", 0)
    put(world, "wan2", "rp_filter", 0)
    put(world, "wan2", "arp_filter", 1)
    world.multihook("flush", check=True)
    assert values(world, "wan2") == [0, 0, 2, 1, 1]


@pytest.mark.fault("F54")
def test_a_value_set_back_shows_and_is_set_again_by_the_next_run(world: World, set_up: None) -> None:
    """F54: `sysctl --system`, by an event of another link too."""
    put(world, "wan2", "rp_filter", 1)
    for user in (None, "nobody"):
        status = world.multihook("status", user=user)
        assert status.returncode == 1 and "sysctl -qw net.ipv4.conf.wan2.rp_filter=2" in status.stdout
    world.log.clear()
    world.multihook("up", "wan1.7", check=True)
    assert values(world, "wan2")[0] == 2
    warnings = [entry.text for entry in world.log.entries() if entry.severity == "warning"]
    assert warnings == ["net.ipv4.conf.wan2.rp_filter=2 set again: somebody had set it to 1"]
    assert world.multihook("status").returncode == 0
    world.multihook("flush", check=True)
    assert values(world, "wan2") == list(OLD)


@pytest.mark.fault("F54")
def test_all_does_not_defeat_them(world: World, set_up: None) -> None:
    """The kernel takes the larger of the two."""
    world.box.sysctl("net.ipv4.conf.all.rp_filter", 1)
    assert world.multihook("status").returncode == 0
    assert world.reach("203.0.113.7").ok


@pytest.mark.fault("F14")
def test_a_new_interface_of_the_same_name_keeps_its_own_values(world: World) -> None:
    isp = world.provider("isp", "203.0.113.0/24")
    world.configure('[link.a]\nipparam = "a"\n[link.b]\nipparam = "b"\n')
    session = world.ppp_up("ppp0", "203.0.113.45", "203.0.113.1", isp, ipparam="a")
    assert values(world, "ppp0")[:2] == [2, 1]
    world.box.sysctl("net.ipv4.conf.default.rp_filter", 1)
    session.reconnect("203.0.113.46")
    assert values(world, "ppp0")[:2] == [2, 1]
    session.drop()
    session.reconnect("203.0.113.47", event=False)
    put(world, "ppp0", "src_valid_mark", 1)
    world.multihook("flush", check=True)
    assert values(world, "ppp0")[:2] == [1, 1]


@pytest.mark.parametrize("when", ["before a sync", "before flush"])
def test_where_the_record_is_lost_the_default_is_put_back(world: World, set_up: None, when: str) -> None:
    world.box.sysctl("net.ipv4.conf.default.arp_announce", 1)
    world.box.run("sh", "-c", "rm -r /run/multihook/*")
    if when == "before a sync":
        assert "nothing to change" in world.multihook("sync", check=True).stdout
        assert world.log.entries()[-1].severity == "info"
    world.multihook("flush", check=True)
    assert values(world, "wan2") == [2, 0, 0, 1, 0]


def test_nothing_changed_nothing_written_nothing_said(world: World, set_up: None) -> None:
    look = "stat -c '%n %i %Z' /run/multihook/private/sysctls/*"
    before = world.box.run("sh", "-c", look).stdout
    world.log.clear()
    world.multihook("sync", check=True)
    world.multihook("up", "wan2", check=True)
    assert world.box.run("sh", "-c", look).stdout == before and len(before.splitlines()) == 2
    assert [entry.text for entry in world.log.entries() if re.search("sysctl|link", entry.text)] == []


def test_a_run_that_brings_only_the_record_in_line_ends_as_any_other(world: World, set_up: None) -> None:
    """Found by a random history: its certificate was taken back and not made again, so the next run was a whole one."""
    world.box.run("rm", "-r", "/run/multihook/private/sysctls")
    world.multihook("sync", check=True)
    look = "find /run/multihook -type f ! -name lock -exec stat -c '%n %i %Z' {} + | sort"
    before = world.box.run("sh", "-c", look).stdout
    assert "/run/multihook/private/applied " in before and "/private/sysctls/" in before
    world.multihook("sync", check=True)
    assert world.box.run("sh", "-c", look).stdout == before


@pytest.mark.fault("F47")
def test_a_read_only_proc_sys_is_one_line_and_nothing_else_fails(world: World) -> None:
    isp = world.provider("isp", "203.0.113.0/24", wire="wan2")
    other = world.provider("other", "198.51.100.0/24", wire="wan1.7")
    world.box.ip(f"addr add {isp.static(7)}/24 dev wan2", f"addr add {other.static(7)}/24 dev wan1.7")
    world.configure(SEPARATE)
    read_only = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec multihook"
    done = world.box.run("sh", "-c", f"{read_only} sync")
    line = "sysctls of the links are not set: /proc/sys is read-only here; `multihook sync` where it can be written"
    assert done.stderr.startswith(f"warning: {line}") and done.stderr.count("\n") == 1
    assert [entry.text.startswith(line) for entry in world.log.entries() if entry.severity != "info"] == [True]
    status = world.box.run("sh", "-c", f"{read_only} status", check=False)
    assert status.returncode == 0 and f"Note: {line}" in status.stdout
    assert world.reach("203.0.113.7").ok and world.reach("198.51.100.7").ok
    # Seen from where it can be written, they are missing.
    assert world.multihook("status").returncode == 1
    world.multihook("sync", check=True)
    assert values(world, "wan2")[:2] == [2, 1]

"""The shipped examples: the setups of the texts that this product began with, whole, each from its few lines."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from world import World
from world.traffic import Echo, tcp

EXAMPLES = Path(__file__).parents[2] / "debian/examples"
KINDS = ("tcp", "udp", "icmp")


def example(number: str) -> str:
    return (EXAMPLES / f"seed-{number}.toml").read_text()


def assert_line(world: World, line: str, address: str, kinds: tuple[str, ...] = KINDS) -> None:
    """Asked from outside and asking by itself, the address uses its own line."""
    for kind in kinds:
        for out in (world.reach(address, kind), world.connect(source=address, kind=kind)):
            assert (out.ok, out.by, out.wrong) == (True, {line}, frozenset()), (address, kind, out)


# --- 000: an FTP server with several cards ---

GLFTPD, MULTILINK = Path("/etc/glftpd.conf"), Path("/etc/multilink.conf")
SHIPPED = "# glftpd.conf\nrootpath /glftpd\nshortname GL\n"


@pytest.fixture
def glftpd() -> Iterator[None]:
    """A glftpd.conf as its installer writes it; nothing of it stays."""
    before = set(os.listdir("/etc"))
    GLFTPD.write_text(SHIPPED)
    yield
    for name in set(os.listdir("/etc")) - before:
        Path("/etc", name).unlink()


def said() -> list[str]:
    """What glftpd reads of multilink.conf."""
    lines = [line.strip() for line in MULTILINK.read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def pairs(*addresses: str) -> list[str]:
    announced = [line for address in addresses for line in (f"active_addr {address}", f"pasv_addr {address}")]
    return ["ifip 10.* 192.168.*", "elseip", *announced, "endifip"]


def test_000_static_cards_with_the_texts_own_numbers(world: World, glftpd: None) -> None:
    """000.4 to 000.20: replies and FTP announcements of both cards; glftpd.conf includes them once, as its first line."""
    one = world.provider("nic1", "64.233.208.0/23", wire="eth0")
    two = world.provider("nic2", "64.233.192.0/18", wire="eth1", gateway="64.233.209.1")
    addresses = (one.static("64.233.208.150"), two.static("64.233.209.151"))
    world.box.ip(
        f"addr add {addresses[0]}/23 dev eth0",
        f"addr add {addresses[1]}/18 dev eth1",
        "route add default via 64.233.208.1",
    )
    world.configure(example("000"))
    for _ in range(2):  # 000.20: at each boot
        world.multihook("sync", check=True)
        assert_line(world, "eth0", addresses[0])
        assert_line(world, "eth1", addresses[1])
        assert said() == pairs(*addresses)
        assert GLFTPD.read_text() == f"include {MULTILINK}\n{SHIPPED}"
    assert "default via 64.233.209.1 dev eth1 proto 109 src 64.233.209.151" in world.routes(2)
    assert world.multihook("status").returncode == 0
    assert world.wrong() == []
    world.multihook("flush", check=True)
    assert GLFTPD.read_text() == SHIPPED


def test_000_four_cards_by_dhcp(world: World, glftpd: None) -> None:
    """000.15 to 000.18: the DHCP variant, its four devices uncommented, each lease announced as it comes and goes."""
    four = "".join(f'[link.nic{n + 1}]\ninterface = "eth{n}"\n' for n in range(4))
    text = example("000")
    assert all(f"#   {line}\n" in text for line in four.splitlines())
    world.configure(four + text[text.index("[glftpd]") :])
    clients = []
    for n, network in enumerate(("198.51.100.0/24", "203.0.113.0/25", "192.0.2.0/24", "203.0.113.128/25")):
        world.provider(f"isp{n}", network, wire=f"eth{n}").serve_dhcp(100 if n < 3 else 10, 110 if n < 3 else 20)
        clients.append(world.dhcp_up(f"eth{n}"))
        assert said() == pairs(*(client.address for client in clients))
    for client in clients:
        assert_line(world, client.interface, client.address, ("tcp", "icmp"))
    clients[1].release()
    assert said() == pairs(*(client.address for n, client in enumerate(clients) if n != 1))
    assert GLFTPD.read_text() == f"include {MULTILINK}\n{SHIPPED}"
    assert world.wrong() == []


# --- 001: two PPPoE lines of one provider, and a LAN ---

GATEWAY = "203.0.113.1"
# The text marks what user 108 (mldonkey) sends and steers it by a rule of its own; with nft instead of iptables.
MLDONKEY = 108
MARK = f"""
table ip mangle_of_the_text {{
    chain output {{ type route hook output priority mangle; meta skuid {MLDONKEY} meta mark set meta mark and 0xffffff00 or 1; }}
}}
"""


def as_mldonkey(world: World) -> set[str]:
    """By which line a connection of user mldonkey left."""
    far = world.internet.fresh_host()
    ask = f"import socket; print(socket.create_connection(('{far}', 7), 2).getsockname()[0])"
    done = world.box.run("setpriv", f"--reuid={MLDONKEY}", "--clear-groups", "/usr/bin/python3", "-c", ask, check=False)
    assert done.returncode == 0, done.stderr
    entries = [entry for entry in world.seen() if entry.destination == far]
    assert entries and all(entry.good for entry in entries), entries
    return {entry.interface for entry in entries}


def test_001_two_lines_a_lan_and_a_user_of_the_second(world: World) -> None:
    """001.2 to 001.18: replies by the line asked, the LAN translated, the text's own mark rule, both lines renumbered."""
    isp = world.provider("isp", "203.0.113.0/24")
    lan = world.lan("eth2", "10.0.0.0/24")
    world.configure(example("001"))
    one = world.ppp_up("ppp0", "203.0.113.45", GATEWAY, isp, ipparam="dsl-provider", defaultroute=True)
    two = world.ppp_up("ppp1", "203.0.113.46", GATEWAY, isp, ipparam="dsl-provider2")
    world.box.nft(MARK)
    world.box.ip("rule add fwmark 1/0xff pri 100 table 201")
    assert '"marks"' not in world.multihook("doctor", "--json").stdout, "what multihook.toml(5) recommends is well"
    web = Echo(world.box, 80)
    try:
        for turn in range(3):
            for session in (one, two):
                assert_line(world, session.interface, session.local)
                # 001.16: SSH and web by both lines, whichever was asked.
                assert tcp(world.internet.ns, session.local, 80, world.internet.fresh_host())[0] == ""
            assert world.connect().by == {"ppp0"}
            # 001.3, 001.12, 001.14: routed by the mark after the source was chosen, so SNAT has to mend the source.
            assert as_mldonkey(world) == {"ppp1"}
            for kind in KINDS:
                out = world.connect(kind=kind, ns=lan.ns)
                assert (out.ok, out.by, out.wrong) == (True, {"ppp0"}, frozenset()), out
            # 001.29, 001.31: the provider disconnects both, and each comes back with another address.
            one.reconnect(f"203.0.113.{50 + turn}")
            two.reconnect(f"203.0.113.{60 + turn}")
    finally:
        web.close()
    # What far hosts repeat to an address that is gone by then is routed back to where it came from: not ours to judge.
    assert [entry for entry in world.wrong() if not entry.destination.startswith("203.0.113.")] == []
    assert "table ip mangle_of_the_text" in world.box.run("nft", "list", "tables").stdout


# --- 004: a proxy on two circuits, and an office LAN behind another router ---


def test_004_the_proxy(world: World) -> None:
    """004.1 to 004.10: round robin over all addresses, the office reached from each, its routes in main alone."""
    first = world.provider("first", "203.0.113.0/24", wire="eth7").static(20)
    second = world.provider("second", "198.51.100.0/24", wire="eth0")
    world.box.ip(
        f"addr add {first}/24 dev eth7",
        "route add default via 203.0.113.1 dev eth7",
        f"addr add {second.static(7)}/24 dev eth0",
    )
    second.delegate("192.0.2.32/28", via="198.51.100.7")
    more = tuple(f"192.0.2.{last}" for last in (33, 34, 46))
    world.box.ip(*(f"addr add {address}/32 dev eth0" for address in more))
    office = world.lan("eth6")
    world.configure(example("004"))
    world.multihook("sync", check=True)
    host = office.office("10.0.0.0/8")
    assert_line(world, "eth7", first)
    inside = Echo(world.offices[host])
    try:
        for address in ("198.51.100.7", *more):
            assert_line(world, "eth0", address)
            assert tcp(world.box, host, 7, address) == ("", address)
    finally:
        inside.close()
    # 004.6: each card answers for its own addresses only; the text sets this by a loop over all of them.
    assert world.wrong() == []
    assert world.multihook("status").returncode == 0

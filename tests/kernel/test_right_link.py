"""G3, the right link: what carries a link's address, or is bound to its device, leaves by that link or is refused.

Each packet is counted where it arrives, at a provider that knows which sources it handed out on which line.
"""

import errno
import socket

import pytest

from world import World
from world.namespaces import Namespace, wait_until
from world.traffic import AT_ONCE, PORT, REFUSALS, Echo, ask, bound_sockets, dial, tcp, udp
from world.world import FAR

KINDS = ("tcp", "udp", "icmp")
CONFIGURATION = """
[link.cable]
interface = "wan1"
[link.fibre]
interface = "wan2"
gateway = "192.0.2.1"
[link.dsl]
interface = "ppp0"
"""


@pytest.fixture
def lines(world: World) -> dict[str, str]:
    """{line: address}: an Ethernet line with main's default, one whose next hop is configured, a PPP session."""
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    fibre = world.provider("fibre", "192.0.2.0/24", wire="wan2").static(9)
    isp = world.provider("isp", "203.0.113.0/24")
    world.box.ip(
        f"addr add {cable}/24 dev wan1",
        "route add default via 198.51.100.1",
        f"addr add {fibre}/24 dev wan2",
    )
    world.configure(CONFIGURATION)
    world.ppp_up("ppp0", "203.0.113.45", "203.0.113.1", isp)  # the first run looks at everything
    return {"wan1": cable, "wan2": fibre, "ppp0": "203.0.113.45"}


def assert_both_ways(world: World, line: str, address: str, kinds: tuple[str, ...] = KINDS) -> None:
    """A far host that asks the address is answered by the line, and what is bound to the address asks by it."""
    for kind in kinds:
        answered = world.reach(address, kind)
        assert (answered.ok, answered.by, answered.wrong) == (True, {line}, frozenset()), (kind, "answers", answered)
        asked = world.connect(source=address, kind=kind)
        assert (asked.ok, asked.by, asked.wrong) == (True, {line}, frozenset()), (kind, "asks", asked)


def assert_not_by_a_line(world: World, host: str) -> None:
    """Nothing to or from that inside host was seen at a provider."""
    assert [entry for entry in world.seen() if host in (entry.source, entry.destination)] == []


@pytest.mark.fault("F64")
@pytest.mark.fast
def test_replies_and_bound_sockets_leave_by_the_link_of_their_address(world: World, lines: dict[str, str]) -> None:
    """TCP, UDP that answers from the address asked, and ICMP; asked from outside, and asking from a bound socket."""
    for line, address in lines.items():
        assert_both_ways(world, line, address)
    assert world.wrong() == []


def test_sockets_bound_to_a_device_leave_by_it(world: World, lines: dict[str, str]) -> None:
    """SO_BINDTODEVICE alone, as `ping -I ppp0` and link probes do, and together with the address."""
    for line, address in lines.items():
        for kind in KINDS:
            out = world.connect(device=line, kind=kind)
            assert (out.ok, out.by, out.wrong) == (True, {line}, frozenset()), (line, kind, out)
            if kind == "tcp":
                assert out.source == address
        for kind in ("tcp", "udp"):
            out = world.connect(source=address, device=line, kind=kind)
            assert (out.ok, out.by, out.wrong) == (True, {line}, frozenset()), (line, kind, out)
    assert world.wrong() == []


def test_sockets_bound_to_nothing_go_where_main_says(world: World, lines: dict[str, str]) -> None:
    """The default route of main is not ours: it works as it did."""
    for kind in KINDS:
        out = world.connect(kind=kind)
        assert (out.ok, out.by, out.wrong) == (True, {"wan1"}, frozenset())


@pytest.mark.fault("F56")
def test_refusals_of_this_machine_leave_by_the_link_that_was_asked(world: World, lines: dict[str, str]) -> None:
    """A closed port: TCP's reset and ICMP's port unreachable carry the address that was asked."""
    for address in lines.values():
        far = world.internet.fresh_host()
        assert tcp(world.internet.ns, address, 9, far) == ("ECONNREFUSED", "")
        with dial(world.internet.ns, socket.SOCK_DGRAM, far, None, 1.5) as asking:
            asking.connect((address, 9))
            asking.send(b"ask")
            with pytest.raises(ConnectionRefusedError):
                asking.recv(1)
    assert world.wrong() == []


@pytest.mark.fault("F64")
def test_a_host_in_another_links_own_network_is_answered_by_the_link_it_asked(
    world: World, lines: dict[str, str]
) -> None:
    """Main knows that network as connected to the other link; the answer does not take that way."""
    neighbour = world.providers["cable"].ns
    for line, provider in (("ppp0", "isp"), ("wan2", "fibre")):
        server = Echo(world.box, 2007)
        try:
            assert tcp(neighbour, lines[line], 2007, "198.51.100.1")[0] == ""
            assert udp(neighbour, lines[line], 2007, "198.51.100.1")[0] == ""
        finally:
            server.close()
        assert neighbour.run("ping", "-n", "-c1", "-W1", "-I", "198.51.100.1", lines[line], check=False).returncode == 0
        seen = world.providers[provider].seen("198.51.100.1")
        assert {(e.interface, e.protocol, e.good) for e in seen} == {(line, kind, True) for kind in KINDS}
    # What answered went round by the internet, so the neighbour's own line saw none of it.
    assert world.providers["cable"].seen("198.51.100.1") == []


def test_a_host_in_another_links_own_network_is_asked_by_the_link_of_the_address(
    world: World, lines: dict[str, str]
) -> None:
    """Even the next hop of another link is reached by the link whose address the socket is bound to."""
    server = Echo(world.providers["cable"].ns)
    try:
        assert tcp(world.box, "198.51.100.1", 7, lines["ppp0"]) == ("", lines["ppp0"])
        assert tcp(world.box, "198.51.100.1", 7, lines["wan1"]) == ("", lines["wan1"])
    finally:
        server.close()
    assert {(e.interface, e.source) for e in world.seen("198.51.100.1")} == {
        ("ppp0", lines["ppp0"]),
        ("wan1", lines["wan1"]),
    }


def assert_counted(world: World, far: str, line: str, source: str, packets: int) -> None:
    """So many packets of the box came to the providers on their way there: all by that line, with that source."""
    counted = [(e.interface, e.source, e.packets) for e in world.seen(far)]
    assert counted == [(line, source, packets)]


def renumber_another(world: World, line: str) -> None:
    """Another line than this one gets another address, and its hook runs, or, where none is there, sync."""
    if line == "ppp0":
        world.box.ip("addr del 192.0.2.9/24 dev wan2", "addr add 192.0.2.10/24 dev wan2")
        world.multihook("sync", check=True)
    else:
        world.sessions["ppp0"].readdress("203.0.113.77")
        world.sessions["ppp0"].up_event()


@pytest.mark.fault("F64")
@pytest.mark.parametrize("line", ["wan1", "wan2", "ppp0"])
def test_datagrams_that_nobody_answers_leave_by_the_link_of_their_address(
    world: World, lines: dict[str, str], line: str
) -> None:
    """One-way UDP, also while another line is renumbered: each was sent, and each came by the one line."""
    far = world.internet.fresh_host()
    world.internet.ns.nft(f"table ip silent {{ chain in {{ type filter hook input priority 0; ip daddr {far} drop; }}; }}")
    with world.flow(source=lines[line], to=far, interval=0.004) as flow:
        wait_until("some to be sent", lambda: flow.sent > 20)
        renumber_another(world, line)
        sent = flow.sent
        wait_until("more to be sent", lambda: flow.sent > sent + 20)
    assert (flow.received, flow.errors) == (0, [])
    assert_counted(world, far, line, lines[line], flow.sent)


# The first SYN of each connection to, and the first answer to a SYN from, that host is lost behind the providers.
LOSES_THE_FIRST = """
table ip loses {{
    set asked {{ type ipv4_addr . inet_service; flags dynamic; size 99; }}
    set answered {{ type ipv4_addr . inet_service; flags dynamic; size 99; }}
    chain in {{
        type filter hook input priority 0;
        ip daddr {far} tcp flags & (syn | ack) == syn ip saddr . tcp sport != @asked add @asked {{ ip saddr . tcp sport }} drop
        ip daddr {far} tcp flags & (syn | ack) == (syn | ack) ip saddr . tcp sport != @answered add @answered {{ ip saddr . tcp sport }} drop
    }}
}}
"""
# How many SYN, with or without ACK, came from the box by which line with which source.
COUNTS_SYN = """
table inet syn {{
    set seen {{ typeof iifname . ip saddr . tcp sport; flags dynamic; counter; size 99; }}
    chain in {{
        type filter hook prerouting priority -400;
        ip daddr {far} tcp flags & syn == syn update @seen {{ iifname . ip saddr . tcp sport }}
    }}
}}
"""


@pytest.mark.fault("F64")
@pytest.mark.parametrize("line", ["wan1", "wan2", "ppp0"])
def test_a_syn_that_is_said_again_leaves_by_the_link_of_its_address(
    world: World, lines: dict[str, str], line: str
) -> None:
    """The first is lost, and another line renumbered before the second (1 s later, RFC 6298): asking, and asked."""
    far = world.internet.fresh_host()
    world.internet.ns.nft(LOSES_THE_FIRST.format(far=far))
    for provider in world.providers.values():
        provider.ns.nft(COUNTS_SYN.format(far=far))
    server = Echo(world.box, 2007)
    try:
        with (
            dial(world.box, socket.SOCK_STREAM, lines[line], None, 0) as asks,
            dial(world.internet.ns, socket.SOCK_STREAM, far, None, 0) as asked,
        ):
            own = asks.getsockname()[1]
            assert asks.connect_ex((far, PORT)) == asked.connect_ex((lines[line], 2007)) == errno.EINPROGRESS
            renumber_another(world, line)
            for sock, source in ((asks, lines[line]), (asked, far)):
                sock.settimeout(5)
                assert sock.recv(99).decode().strip() == source
    finally:
        server.close()
    syns = {
        tuple(element["elem"]["val"]["concat"]): element["elem"]["counter"]["packets"]
        for provider in world.providers.values()
        for element in provider.ns.nft_json("list", "set", "inet", "syn", "seen")[0]["set"].get("elem", [])
    }
    assert syns.keys() == {(line, lines[line], own), (line, lines[line], 2007)}
    # Who is asked says it again because he heard no answer, and because he is asked again.
    assert syns[line, lines[line], own] == 2 and syns[line, lines[line], 2007] in (2, 3)
    assert world.wrong() == []


# --- links with a small MTU ---

HEADERS = 52  # IP, TCP and its timestamps (RFC 7323)


def carry(sock: socket.socket) -> int:
    """Far more than one packet there and back, by an Echo; how many octets of it a packet may have in the end."""
    while not sock.recv(1).endswith(b"\n"):
        pass
    for _ in range(10):
        sock.sendall(bytes(16384))
        left = 16384
        while left:
            left -= len(sock.recv(left))
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)


@pytest.mark.fault("F56")
def test_each_link_has_its_own_mtu(world: World, lines: dict[str, str]) -> None:
    """1500, 1280, 1492: what a connection announces and sends fits the link of its address, whoever began it."""
    for ns in (world.box, world.providers["fibre"].ns):
        ns.ip("link set wan2 mtu 1280")
    server = Echo(world.box, 2007)
    try:
        for line, mtu in (("wan1", 1500), ("wan2", 1280), ("ppp0", 1492)):
            with dial(world.box, socket.SOCK_STREAM, lines[line], None, 5) as asks:
                asks.connect((FAR, PORT))
                assert carry(asks) == mtu - HEADERS, line
            with dial(world.internet.ns, socket.SOCK_STREAM, FAR, None, 5) as asked:
                asked.connect((lines[line], 2007))
                assert carry(asked) == mtu - HEADERS, line
    finally:
        server.close()
    assert world.wrong() == []


HEARS_TOO_BIG = """
table ip too_big {
    set heard { typeof iifname . ip daddr; flags dynamic; size 99; }
    chain in {
        type filter hook prerouting priority raw;
        icmp type destination-unreachable icmp code frag-needed update @heard { iifname . ip daddr }
    }
}
"""


@pytest.mark.fault("F56")
@pytest.mark.parametrize("line", ["wan1", "wan2", "ppp0"])
def test_a_smaller_mtu_behind_the_provider_is_heard_by_its_link_and_counts_for_it_alone(
    world: World, lines: dict[str, str], line: str
) -> None:
    """ICMP's `fragmentation needed` (RFC 1191): path MTU discovery of what is bound to a link's address."""
    provider = next(one for one in world.providers.values() if (one.interface or "ppp0") == line)
    way = provider.ns.run("ip", "route", "show", "default").stdout.strip()
    provider.ns.ip(f"route replace {way} mtu 1280")
    world.box.nft(HEARS_TOO_BIG)
    far = world.internet.fresh_host()
    for name, address in lines.items():
        with dial(world.box, socket.SOCK_STREAM, address, None, 5) as asks:
            asks.connect((far, PORT))
            fits = carry(asks)
            expected = 1280 if name == line else 1492 if name == "ppp0" else 1500
            assert fits == expected - HEADERS, name
    (heard,) = world.box.nft_json("list", "set", "ip", "too_big", "heard")
    assert [element["concat"] for element in heard["set"]["elem"]] == [[line, lines[line]]]
    assert world.wrong() == []


# --- links that go ---


def take_away(world: World, how: str) -> str:
    """Make a link unusable without any hook; which."""
    if how == "session dropped":
        world.sessions["ppp0"].drop()
        return "ppp0"
    if how == "session hung up":
        world.sessions["ppp0"].lose_address()
        return "ppp0"
    if how == "address deleted":
        world.box.ip("addr del 192.0.2.9/24 dev wan2")
    elif how == "interface taken down":
        world.box.ip("link set wan2 down")
    else:
        world.providers["fibre"].cut("carrier")
    return "wan2"


def tell(world: World, line: str) -> None:
    """The hook of that link runs, or, where none is there to run, the administrator's sync."""
    if line == "ppp0":
        world.sessions["ppp0"].down_event()
    else:
        world.multihook("sync", check=True)


@pytest.mark.fault("F60", "F65")
@pytest.mark.parametrize(
    "how",
    [
        pytest.param("session dropped", marks=pytest.mark.fast),
        "session hung up",
        "interface taken down",
        "address deleted",
    ],
)
def test_what_is_bound_to_a_link_that_goes_is_refused_at_once_and_never_leaves_by_another(
    world: World, lines: dict[str, str], how: str
) -> None:
    """The kernel refuses from the instant it drops the link, before any hook, and it still does after the hook."""
    line = {"session dropped": "ppp0", "session hung up": "ppp0"}.get(how, "wan2")
    with bound_sockets(world, lines[line], line) as sockets:
        assert take_away(world, how) == line
        for after_hook in (False, True):
            if after_hook:
                tell(world, line)
            for name, sock in sockets.items():
                error, seconds = ask(world, sock)
                if how == "address deleted" and name.endswith("by device"):
                    # The device is there: the kernel takes the far host for a neighbour on it and asks in vain,
                    # or the guard of SNAT stops a packet with the address that is gone.
                    assert error in {"ETIMEDOUT", "EALREADY", "EPERM"}
                else:
                    assert error in REFUSALS and seconds < AT_ONCE, (name, error, seconds, f"after hook: {after_hook}")
    assert world.wrong() == []
    for other in set(lines) - {line}:
        assert_both_ways(world, other, lines[other], ("tcp",))


@pytest.mark.fault("F65")
def test_what_is_bound_to_a_link_without_carrier_never_leaves_by_another(world: World, lines: dict[str, str]) -> None:
    """Its address and routes stay, so the kernel cannot refuse; other links see nothing, and all is well afterwards."""
    with bound_sockets(world, lines["wan2"], "wan2") as sockets:
        take_away(world, "carrier lost")
        for _ in range(2):
            for sock in sockets.values():
                assert ask(world, sock)[0] in {"ETIMEDOUT", "EHOSTUNREACH", "EALREADY"}
            tell(world, "wan2")
    world.providers["fibre"].mend()
    wait_until("the carrier", lambda: "LOWER_UP" in str(world.box.interface("wan2")))
    assert_both_ways(world, "wan2", lines["wan2"], ("tcp", "icmp"))


@pytest.mark.fault("F65")
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_running_exchange_ends_with_its_link(world: World, lines: dict[str, str], kind: str) -> None:
    """Not one packet of it is seen on another line, whether or not the hook has run."""
    session = world.sessions["ppp0"]
    with world.flow(source=lines["ppp0"], kind=kind) as flow:
        wait_until("the exchange to run", lambda: flow.received >= 3)
        session.drop()
        sent = flow.sent
        wait_until("more to be sent", lambda: flow.sent > sent + 5)
        session.down_event()
        sent = flow.sent
        wait_until("more to be sent", lambda: flow.sent > sent + 5)
    assert flow.errors or flow.lost
    assert {(e.interface, e.good) for e in world.seen(FAR)} == {("ppp0", True)}


@pytest.mark.fault("F65")
@pytest.mark.parametrize("after_hook", [False, True], ids=["before any hook", "after the hook"])
def test_a_further_range_of_sources_is_refused_while_its_link_is_down(
    world: World, lines: dict[str, str], after_hook: bool
) -> None:
    """The range stands on lo, so it is there whatever becomes of the link."""
    world.providers["fibre"].delegate("192.0.2.32/28", via=lines["wan2"])
    world.box.ip("addr add 192.0.2.33/32 dev lo")
    world.configure(CONFIGURATION.replace("[link.dsl]", 'sources = ["192.0.2.32/28"]\n[link.dsl]'))
    world.multihook("sync", check=True)
    assert_both_ways(world, "wan2", "192.0.2.33")
    world.box.ip("addr del 192.0.2.9/24 dev wan2")
    if after_hook:
        world.multihook("sync", check=True)
    for kind in ("tcp", "udp"):
        out = world.connect(source="192.0.2.33", kind=kind, timeout=0.3)
        assert out.error in REFUSALS and not out.by and not out.wrong, (kind, out)
    assert world.wrong() == []


# --- what is not for the internet ---


def assert_reached_from(world: World, address: str, inside: Namespace, host: str) -> None:
    """TCP and ICMP to an inside host from a socket bound to a link's address, and back."""
    server = Echo(inside)
    try:
        assert tcp(world.box, host, 7, address) == ("", address)
    finally:
        server.close()
    assert world.box.run("ping", "-n", "-c1", "-W1", "-I", address, host, check=False).returncode == 0
    server = Echo(world.box, 2007)
    try:
        assert tcp(inside, address, 2007, host)[0] == ""
        assert udp(inside, address, 2007, host)[0] == ""
    finally:
        server.close()


def test_lan_vpn_and_container_routes_that_come_later_are_reached_from_every_link_address(
    world: World, lines: dict[str, str]
) -> None:
    """Nothing is told of them: rule 7200 finds them in main. No provider sees any of it."""
    inside = {}
    for interface, network in (("lan0", "192.168.1.0/24"), ("docker0", "172.17.0.0/16"), ("wg0", "10.66.0.0/24")):
        lan = world.lan(interface, network)
        inside[lan.host] = lan.ns
        if interface != "docker0":
            office = lan.office("10.1.0.0/16" if interface == "lan0" else "10.67.0.0/16", route=False)
            inside[office] = world.offices[office]
            world.box.ip(f"route add {office.rsplit('.', 2)[0]}.0.0/16 via {lan.router} dev {interface}")
    for host, ns in inside.items():
        for address in lines.values():
            assert_reached_from(world, address, ns, host)
        assert_not_by_a_line(world, host)


def test_forwarded_traffic_of_the_lan_goes_where_it_went(world: World) -> None:
    """Before multihook, with it, and after it: by main's default, and to a link's own network directly."""
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    fibre = world.provider("fibre", "192.0.2.0/24", wire="wan2")
    lan = world.lan()
    world.box.ip(
        f"addr add {cable}/24 dev wan1",
        "route add default via 198.51.100.1",
        f"addr add {fibre.static(9)}/24 dev wan2",
    )
    world.box.nft(
        "table ip office { chain out { type nat hook postrouting priority srcnat;"
        ' ip saddr 192.168.1.0/24 oifname != "lan0" masquerade; }; }'
    )
    server = Echo(fibre.ns)

    def ways() -> list[object]:
        far = [world.connect(ns=lan.ns, kind=kind) for kind in KINDS]
        gets = [
            world.route_get(to, "from", lan.host, "iif", "lan0") for to in ("198.18.0.10", "192.0.2.1", "203.0.113.1")
        ]
        near = tcp(lan.ns, "192.0.2.1", 7)
        return [[(o.ok, o.by, o.wrong) for o in far], [get.replace("cache", "").split() for get in gets], near]

    before = ways()
    assert before[0] == [(True, {"wan1"}, frozenset())] * 3 and before[2] == ("", "192.0.2.9")
    world.configure(CONFIGURATION)
    world.multihook("sync", check=True)
    assert ways() == before
    world.multihook("flush", check=True)
    assert ways() == before
    server.close()
    assert world.wrong() == []


# --- links that look alike ---


@pytest.mark.fault("F30")
def test_two_sessions_through_the_same_gateway(world: World) -> None:
    """Seed 001: one provider, one peer address, two lines."""
    isp = world.provider("isp", "203.0.113.0/24")
    for number in (0, 1):
        world.ppp_up(
            f"ppp{number}", f"203.0.113.{45 + number}", "203.0.113.1", isp, defaultroute=number == 0, event=False
        )
    world.configure('[link.one]\ninterface = "ppp0"\n[link.two]\ninterface = "ppp1"\n')
    for session in world.sessions.values():
        session.up_event()
    for line, session in world.sessions.items():
        assert_both_ways(world, line, session.local)
        assert world.connect(device=line).by == {line}
    world.sessions["ppp1"].drop()
    assert_both_ways(world, "ppp0", "203.0.113.45", ("tcp",))
    assert world.wrong() == []


@pytest.mark.fault("F30")
def test_two_modems_with_the_same_network_and_the_same_gateway(world: World) -> None:
    """192.168.1.1 behind wan1 is not 192.168.1.1 behind wan2; main has the one network twice."""
    for number in (1, 2):
        modem = world.provider(f"modem{number}", "192.168.1.0/24", wire=f"wan{number}", nat=True)
        world.box.ip(f"addr add {modem.static(1 + number)}/24 dev wan{number}")
    world.configure("".join(f'[link.m{n}]\ninterface = "wan{n}"\ngateway = "192.168.1.1"\n' for n in (1, 2)))
    world.multihook("sync", check=True)
    for number in (1, 2):
        line, address = f"wan{number}", f"192.168.1.{1 + number}"
        for kind in KINDS:
            for words in ({"source": address}, {"device": line}):
                out = world.connect(kind=kind, **words)
                assert (out.ok, out.by, out.wrong) == (True, {line}, frozenset()), (words, kind, out)
    world.box.ip("link set wan2 down")
    assert not world.connect(source="192.168.1.3", timeout=0.3).ok
    assert world.connect(source="192.168.1.2").by == {"wan1"}
    assert world.wrong() == []


@pytest.mark.fault("F30")
def test_two_cards_on_one_segment(world: World) -> None:
    """One switch, one gateway, two addresses of one network: counted at the ports of the switch."""
    isp = world.provider("switch", "198.51.100.0/24")
    isp.ns.ip("link add br0 type bridge", "addr add 198.51.100.1/24 dev br0", "link set br0 up")
    chains = ""
    for card in ("wan1", "wan2"):
        isp.ns.ip(
            f"link add {card} type veth peer name {card} netns box",
            f"link set {card} master br0",
            f"link set {card} up",
        )
        hook = f'type filter hook ingress device "{card}" priority 0'
        chains += f" chain {card} {{ {hook}; update @seen {{ iifname . ip saddr }}; }};"
    isp.ns.nft(f"table netdev ports {{ set seen {{ type ifname . ipv4_addr; flags dynamic; size 999; }};{chains} }}")
    own = {"wan1": "198.51.100.7", "wan2": "198.51.100.8"}
    isp.hand_out("br0", list(own.values()))
    for card, address in own.items():
        world.box.ip(f"link set {card} up", f"addr add {address}/24 dev {card}")
    world.box.ip("route add default via 198.51.100.1 dev wan1")
    world.configure("".join(f'[link.{c}]\ninterface = "{c}"\ngateway = "198.51.100.1"\n' for c in own))
    world.multihook("sync", check=True)
    for address in own.values():
        assert_both_ways(world, "br0", address)
    listed = isp.ns.nft_json("list", "set", "netdev", "ports", "seen")[0]["set"]["elem"]
    assert {tuple(element["concat"]) for element in listed} == set(own.items())


@pytest.mark.fault("F27", "F28")
def test_a_gateway_off_the_segment(world: World) -> None:
    """A single address without a network (/32), as some providers lease it: the next hop is reached by `onlink`."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    world.provider("fibre", "192.0.2.0/24", wire="wan2").static(9)
    world.provider("third", "203.0.113.0/24", wire="wan3").static(5)
    world.box.ip(
        "addr add 198.51.100.7/24 dev wan1", "route add default via 198.51.100.1", "addr add 192.0.2.9/32 dev wan2"
    )
    world.configure('[link.cable]\ninterface = "wan1"\n[link.fibre]\ninterface = "wan2"\ngateway = "192.0.2.1"\n')
    world.multihook("sync", check=True)
    lease = {"new_ip_address": "203.0.113.5", "new_subnet_mask": "255.255.255.255", "new_routers": "203.0.113.1"}
    world.dhclient_script("BOUND", "wan3", **lease)
    for line, address in (("wan2", "192.0.2.9"), ("wan3", "203.0.113.5"), ("wan1", "198.51.100.7")):
        assert_both_ways(world, line, address)
        assert world.connect(device=line).by == {line}
    assert world.wrong() == []


def test_an_ethernet_line_without_a_gateway(world: World) -> None:
    """`ip route add default dev wan2`: the provider answers ARP for the whole internet."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    fibre = world.provider("fibre", "192.0.2.0/24", wire="wan2")
    fibre.ns.sysctl("net.ipv4.conf.wan2.proxy_arp", 1)
    fibre.ns.sysctl("net.ipv4.neigh.wan2.proxy_delay", 0)
    world.box.ip(
        "addr add 198.51.100.7/24 dev wan1",
        "route add default via 198.51.100.1",
        f"addr add {fibre.static(9)}/24 dev wan2",
        "route add default dev wan2 metric 50",
    )
    world.configure('[link.cable]\ninterface = "wan1"\n[link.fibre]\ninterface = "wan2"\n')
    world.multihook("sync", check=True)
    for line, address in (("wan1", "198.51.100.7"), ("wan2", "192.0.2.9")):
        assert_both_ways(world, line, address)
    assert world.wrong() == []


def test_routes_of_main_by_a_link_hold_for_what_carries_its_address(world: World, lines: dict[str, str]) -> None:
    """A network behind a second router of the provider: from the link's address it is reached by that router."""
    fibre = world.providers["fibre"].ns
    fibre.ip("addr add 192.0.2.2/24 dev wan2", "addr add 198.19.77.7/32 dev lo")
    world.box.ip("route add 198.19.77.0/24 via 192.0.2.2 dev wan2")
    world.multihook("sync", check=True)
    assert "via 192.0.2.2 dev wan2" in world.route_get("198.19.77.7", "from", lines["wan2"])
    assert world.box.run("ping", "-n", "-c1", "-W1", "-I", lines["wan2"], "198.19.77.7", check=False).returncode == 0
    # From another link's address the same network is reached by that other link.
    assert "dev ppp0" in world.route_get("198.19.77.7", "from", lines["ppp0"])

"""Our own rtnetlink codecs against iproute2: what we read is what `ip -j` says, what we write `ip` reads the same."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socket import inet_aton, inet_ntoa
from typing import Any

import pytest

from multihook.kernel import interfaces, nftables, precedence, routes, rules
from multihook.kernel.facts import Facts
from multihook.kernel.interfaces import name_of
from multihook.kernel.routes import Route
from multihook.kernel.rtnetlink import Door, Refused, is_absent
from multihook.kernel.rules import Rule
from world import World
from world.namespaces import Namespace

INET = 2
_GETCHAIN = 10 << 8 | 4  # linux/netfilter/nf_tables.h
SCOPES = {0: "0", 200: "200", 253: "253", 254: "254", 255: "255"}
KINDS = {1: "unicast", 2: "local", 3: "broadcast", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}


@contextmanager
def opened(ns: Namespace) -> Iterator[Door]:
    """A door to that namespace's kernel; it stays there whatever thread uses it."""
    with ns.entered():
        door = Door()
    try:
        yield door
    finally:
        door.close()


@pytest.fixture
def box(world: World) -> Namespace:
    """Three cards with addresses, nothing else."""
    world.box.ip(
        "link add wan1 type veth peer name far1",
        "link add wan2 type veth peer name far2",
        "link add lan0 type bridge",
        *(f"link set {name} up" for name in ("wan1", "far1", "wan2", "far2", "lan0")),
        "addr add 198.51.100.7/24 dev wan1",
        "addr add 198.51.100.8/24 dev wan1",
        "addr add 203.0.113.45 peer 203.0.113.1/32 dev wan2",
        "addr add 192.168.1.1/24 dev lan0 broadcast 192.168.1.255 label lan0:x",
        "addr add 169.254.7.7/16 dev lan0 scope link",
        "addr add 10.0.0.9/32 dev lan0 valid_lft 1000 preferred_lft 0",
        "link set wan1 group 109",
        "link set lan0 group 2147483647",
    )
    return world.box


ROUTES = """
default via 198.51.100.1 dev wan1
default via 198.51.100.2 dev wan1 metric 5 proto static
default dev wan2 metric 6 src 203.0.113.45 scope link
default via 192.168.9.9 dev lan0 onlink metric 7
0.0.0.0/0 via inet6 fe80::1 dev wan1 metric 8
unreachable default metric 4294967295 proto 109
unreachable 192.0.2.0/24
blackhole 192.0.2.1
prohibit 192.0.2.2 metric 3
throw 192.0.2.3
192.0.2.128/25 via 198.51.100.254 dev wan1 mtu 1400 advmss 1360 proto bird
10.0.0.0/8 via 192.168.1.254 dev lan0 proto dhcp src 192.168.1.1 metric 100
10.1.0.0/16 dev lan0 scope link tos 0x10
10.1.0.0/16 via 192.168.1.254 dev lan0 tos 0x08
10.2.0.0/16 nexthop via 198.51.100.251 dev wan1 weight 3 nexthop via 192.168.1.250 dev lan0 nexthop dev wan2
10.3.0.0/16 dev lan0 mtu lock 1280 window 9000 rtt 100 rttvar 20 ssthresh 10 cwnd lock 4 reordering 5 hoplimit 64
10.4.0.0/16 dev lan0 initcwnd 30 initrwnd 40 rto_min 200ms quickack 1 features ecn congctl cubic
10.5.0.1 dev wan2
1.0.0.0/8 dev wan2 metric 1
128.0.0.0/1 dev wan2 metric 1
0.0.0.0/1 dev wan2 metric 1
"""
TABLES = (254, 7, 201, 70000, 4294967295)


def as_ip_says(route: Route) -> tuple[Any, ...]:
    """One of our routes in the words of `ip -N -j`."""
    destination = "default" if not route.prefixlen else inet_ntoa(route.network) + ("" if route.prefixlen == 32 else f"/{route.prefixlen}")
    via = ""
    if route.gateway:
        via = inet_ntoa(route.gateway) if len(route.gateway) == 4 else "inet6"
    return (
        KINDS[route.type], destination, via, name_of(route.oif) if route.oif else "",
        inet_ntoa(route.prefsrc) if route.prefsrc else "", route.metric, str(route.protocol), route.scope, route.onlink, route.tos,
    )  # fmt: skip


def ip_said(entry: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The same from a line of `ip -N -d -j route`; a multipath route is several."""
    kind = entry.get("type", "1")
    words = {"1": "unicast", "2": "local", "3": "broadcast", "6": "blackhole", "7": "unreachable", "8": "prohibit", "9": "throw"}
    hops = entry.get("nexthops", [entry])
    return [
        (
            words.get(kind, kind), entry["dst"], hop.get("gateway", "inet6" if "via" in hop else ""), hop.get("dev", ""),
            entry.get("prefsrc", ""), entry.get("metric", 0), entry["protocol"], int(SCOPES_BY_NAME.get(entry["scope"], entry["scope"])),
            "onlink" in hop.get("flags", []), int(entry.get("tos", "0"), 16),
        )
        for hop in hops
    ]  # fmt: skip


SCOPES_BY_NAME = {"global": "0", "site": "200", "link": "253", "host": "254", "nowhere": "255"}


@pytest.mark.fast
@pytest.mark.parametrize("table", TABLES)
def test_routes_are_read_as_ip_shows_them(box: Namespace, table: int) -> None:
    """Every kind, attribute and next hop, in tables of small and of the largest numbers."""
    box.ip(*(f"route add table {table} {line}" for line in ROUTES.strip().splitlines()))
    with opened(box) as door, box.entered():
        ours = sorted(as_ip_says(route) for route in routes.dump(door, INET, table=table))
        by_card = routes.dump(door, INET, table=table, oif=next(i.index for i in interfaces.dump(door) if i.name == "wan2"))
        by_protocol = routes.dump(door, INET, table=table, protocol=109)
    theirs = sorted(line for entry in box.ip_json("-d", "route", "show", "table", str(table)) for line in ip_said(entry))
    assert ours == theirs and len(ours) >= 23, theirs
    assert {name_route[3] for name_route in theirs if name_route[3] == "wan2"} and all(route.oif == by_card[0].oif for route in by_card)
    assert len(by_card) == sum(line[3] == "wan2" for line in theirs)
    assert [route.metric for route in by_protocol] == [4294967295]
    assert all(route.table == table for route in by_card + by_protocol)


def test_a_copy_of_a_route_is_the_route(box: Namespace) -> None:
    """What features do with main's routes: each attribute comes back from the kernel as it was, metrics included."""
    unicast = [line for line in ROUTES.strip().splitlines() if line.split()[0] not in ("blackhole", "prohibit", "throw")]
    single = [line for line in unicast if "nexthop" not in line]
    box.ip(*(f"route add table 201 {line}" for line in single))
    with opened(box) as door, box.entered():
        originals = routes.dump(door, INET, table=201)
        for route in originals:
            route.table = 70001
        order = sorted(originals, key=lambda route: (bool(route.gateway), route.metric))
        for route in order:
            routes.add(door, route)
        copies = routes.dump(door, INET, table=70001)
        assert sorted(map(repr_of, copies)) == sorted(map(repr_of, originals))
        assert set(copies) == set(originals) and all(any(copy == one for one in originals) for copy in copies)

    def listed(table: int) -> list[str]:
        return sorted(str({k: v for k, v in e.items() if k != "table"}) for e in box.ip_json("-d", "route", "show", "table", str(table)))

    assert listed(70001) == listed(201)
    with opened(box) as door:
        for route in copies:
            with pytest.raises(Refused) as refused:
                routes.add(door, route)
            assert refused.value.errno == 17 and not is_absent(refused.value)
            routes.change(door, route, route)
        for route in reversed(copies):
            routes.delete(door, route)
            with pytest.raises(Refused) as refused:
                routes.delete(door, route)
            assert is_absent(refused.value)
        assert routes.dump(door, INET, table=70001) == []
    assert listed(70001) == [] and len(listed(201)) == len(single)


def repr_of(route: Route) -> str:
    """Every attribute of a route."""
    return str({name: getattr(route, name) for name in Route.__slots__})


def test_the_text_of_a_route_makes_the_same_route(box: Namespace) -> None:
    """`ip route add` with our words gives what we would have made: compared as we read it."""
    lines = [line for line in ROUTES.strip().splitlines() if line.split()[0] not in ("blackhole", "prohibit", "throw") and "nexthop" not in line]
    box.ip(*(f"route add table 201 {line}" for line in lines))
    with opened(box) as door, box.entered():
        originals = sorted(routes.dump(door, INET, table=201), key=lambda route: bool(route.gateway))
        texts = []
        for route in originals:
            route.table = 300
            texts.append("route add " + route.text(name_of(route.oif) if route.oif else ""))
        box.ip(*texts)
        assert sorted(map(repr_of, routes.dump(door, INET, table=300))) == sorted(map(repr_of, originals))
        box.ip(*(text.replace("route add", "route del") for text in texts))
        assert routes.dump(door, INET, table=300) == []


def test_nexthop_objects_and_their_groups_are_read_as_routes(box: Namespace) -> None:
    """`nhid` routes of FRR and the like: the kernel still tells gateway and interface, and so do we."""
    box.ip(
        "nexthop add id 10 via 198.51.100.1 dev wan1",
        "nexthop add id 11 via 192.168.1.254 dev lan0",
        "nexthop add id 12 group 10/11",
        "route add 10.7.0.0/16 nhid 10",
        "route add 10.8.0.0/16 nhid 12",
    )
    with opened(box) as door, box.entered():
        found = [route for route in routes.dump(door, INET, table=254) if route.network in (inet_aton("10.7.0.0"), inet_aton("10.8.0.0"))]
        shown = sorted((inet_ntoa(r.network), inet_ntoa(r.gateway), name_of(r.oif)) for r in found)
    assert shown == [
        ("10.7.0.0", "198.51.100.1", "wan1"), ("10.8.0.0", "192.168.1.254", "lan0"), ("10.8.0.0", "198.51.100.1", "wan1"),
    ]  # fmt: skip


RULES = """
from 198.51.100.7 lookup 201 priority 7400 protocol 109
from 192.0.2.32/28 lookup 4294967295 priority 7400 protocol 109
from all oif wan1 lookup 200 priority 7000 protocol 109
from 198.51.100.7 lookup main suppress_prefixlength 1 suppress_ifgroup 109 priority 7200 protocol 109
from all lookup main suppress_prefixlength 0 priority 30000
from all lookup 7 suppress_ifgroup 5 priority 31000
not from 10.0.0.0/8 lookup 70000 priority 200
to 10.0.0.0/8 lookup 7 priority 201 protocol static
from 10.0.0.0/8 to 10.1.0.0/16 iif lan0 oif wan1 lookup 7 priority 202
fwmark 0x1/0xff lookup 7 priority 203
fwmark 0xff000000/0xff000000 lookup 7 priority 204 protocol 109
tos 0x10 lookup 7 priority 205
ipproto tcp sport 1-1024 dport 25 lookup 7 priority 206
uidrange 0-99 lookup 7 priority 207
from 192.0.2.1 prohibit priority 208
from 192.0.2.2 blackhole priority 209
from 192.0.2.3 unreachable priority 210
from 192.0.2.4 goto 32766 priority 211
from 10.9.9.9 lookup 7 priority 4294967295
oif gone0 lookup 7 priority 212 protocol 109
"""


def rule_as_ip_says(rule: Rule) -> tuple[Any, ...]:
    """One of our rules in the words of `ip -N -j`."""
    source = "all" if not rule.source else inet_ntoa(rule.source)
    destination = inet_ntoa(rule.destination) if rule.destination else ""
    return (
        rule.priority, source, rule.prefixlen if rule.source and rule.prefixlen != 32 else 0,
        destination, rule.destination_len if rule.destination_len != 32 else 0, rule.iif, rule.oif,
        rule.suppress_prefixlen if rule.suppress_prefixlen != rules.NONE else None,
        rule.suppress_ifgroup if rule.suppress_ifgroup != rules.NONE else None, bool(rule.flags), rule.protocol,
    )  # fmt: skip


def rule_ip_said(entry: dict[str, Any]) -> tuple[Any, ...]:
    """The same from `ip -N -j rule`."""
    return (
        entry["priority"], entry["src"], entry.get("srclen", 0), entry.get("dst", ""), entry.get("dstlen", 0),
        entry.get("iif", ""), entry.get("oif", ""), entry.get("suppress_prefixlen"),
        int(entry["suppress_ifgroup"]) if "suppress_ifgroup" in entry else None, "not" in entry, int(entry.get("protocol", 0) or 0),
    )  # fmt: skip


@pytest.mark.fast
def test_rules_are_read_as_ip_shows_them(box: Namespace) -> None:
    """All of a dump, the kernel's own included; a rule with anything that we never write is none of ours, whatever its protocol."""
    box.ip(*(f"rule add {line}" for line in RULES.strip().splitlines()))
    with opened(box) as door:
        dump = rules.Dump(door, INET)
    ours, theirs = dump.all(), box.ip_json("rule")
    # iproute2 shows no protocol of those that it or the kernel made.
    shown = [rule_as_ip_says(rule)[:-1] for rule in ours]
    assert shown == [rule_ip_said(entry)[:-1] for entry in theirs]
    tables = [rule.table for rule in ours if not rule.rest]
    assert 4294967295 in tables and 70000 in tables
    mine = dump.of_protocols(frozenset((109,)))
    assert sorted(rule.priority for rule in mine) == [204, 212, 7000, 7200, 7400, 7400]
    assert [rule.priority for rule in mine if rule.rest] == [204]
    plain = {200, 201, 202, 212, 7000, 7200, 7400, 30000, 31000, 4294967295, 0, 32766, 32767}
    assert {rule.priority for rule in ours if not rule.rest} == plain
    assert [rule.priority for rule in ours if precedence.catches_everything(rule)] == [200, 31000, 32766, 32767]
    marked = dump.of_protocols(frozenset((109,)), [rules.mark_of_source(inet_aton("198.51.100.7"))])
    assert {rule.priority for rule in marked} == {7200, 7400}
    assert {rule.priority for rule in dump.of_protocols(frozenset((109,)), [rules.mark_of_table(201)])} == {7400}


def test_a_rule_of_ours_is_made_deleted_and_printed_as_ip_does_it(box: Namespace) -> None:
    """Added by us and by `ip` with our words: the same rule; deleting takes exactly that one, though a twin of another protocol stands."""
    table = 4294967294
    samples = [
        Rule(7000, table, oif="wan1", protocol=109),
        Rule(7000, 200, oif="gone0", protocol=109),
        Rule(7200, 254, source=inet_aton("198.51.100.7"), prefixlen=32, suppress_prefixlen=1, suppress_ifgroup=109, protocol=109),
        Rule(7400, 201, source=inet_aton("192.0.2.32"), prefixlen=28, protocol=109),
        Rule(7400, 255, source=inet_aton("192.0.2.99"), prefixlen=32, protocol=250),
        Rule(4294967295, 1, source=inet_aton("0.0.0.1"), prefixlen=32, protocol=5),
        Rule(7401, 201, source=inet_aton("10.0.0.0"), prefixlen=8, protocol=109, flags=2),
        Rule(7450, 254, destination=inet_aton("10.9.9.9"), destination_len=32, iif="lo", dport=67, suppress_prefixlen=1, protocol=109),
        Rule(7500, 201, destination=inet_aton("10.9.9.9"), destination_len=32, iif="lo", dport=67, protocol=109),
    ]
    before = box.ip_json("rule")
    with opened(box) as door:
        for sample in samples:
            rules.add(door, sample)
            with pytest.raises(Refused) as refused:
                rules.add(door, sample)
            assert refused.value.errno == 17
        made = box.ip_json("rule")
        found = rules.Dump(door, INET).of_protocols(frozenset((109, 250, 5)))
        assert sorted(found, key=str) == sorted(found, key=str) and set(found) == set(samples)
        box.ip(*(f"rule add {sample.text().replace(f'protocol {sample.protocol}', 'protocol 77')}" for sample in samples))
        for sample in random.Random(5).sample(found, len(found)):
            rules.delete(door, sample)
            with pytest.raises(Refused) as refused:
                rules.delete(door, sample)
            assert is_absent(refused.value)
        assert len(rules.Dump(door, INET).of_protocols(frozenset((77,)))) == len(samples)
        for sample in samples:
            box.ip(f"rule del {sample.text().replace(f'protocol {sample.protocol}', 'protocol 77')}")
        assert box.ip_json("rule") == before
        box.ip(*(f"rule add {sample.text()}" for sample in samples))
        assert box.ip_json("rule") == made


@pytest.mark.fast
def test_addresses_are_read_as_ip_shows_them(box: Namespace) -> None:
    """Local, peer, length, scope; which one a link can be known by."""
    with opened(box) as door, box.entered():
        facts = Facts(door)
        found = [(name, a) for name, i in facts.interfaces.items() if name != "lo" for a in facts.addresses_of(i, INET)]
        ours = sorted((name, inet_ntoa(a.local), a.prefixlen, inet_ntoa(a.peer) if a.peer else "") for name, a in found)
        candidates = {inet_ntoa(a.local) for _, a in found if a.is_candidate}
        for name, a in found:
            assert facts.holders(a.local, INET) == {facts.interfaces[name].index} == {a.index}
        assert facts.holders(inet_aton("203.0.113.1"), INET) == facts.holders(inet_aton("192.168.1.255"), INET) == set()
    theirs = sorted(
        (entry["ifname"], info["local"], info["prefixlen"], info.get("address", ""))
        for entry in box.ip_json("addr")
        for info in entry.get("addr_info", [])
        if info["family"] == "inet" and info["scope"] not in ("host", "254")
    )
    assert ours == theirs and len(ours) == 6
    # Not a secondary one, not one that is deprecated, not one of the link alone.
    assert candidates == {"198.51.100.7", "203.0.113.45", "192.168.1.1"}


def test_interfaces_are_read_as_ip_shows_them(box: Namespace) -> None:
    """Index, name, flags, carrier and group; one by name is the same as in the list of all; a group is set as `ip` does it."""
    box.ip("link set far1 down", "link set wan2 down")
    with opened(box) as door:
        found = interfaces.dump(door)
        listed = {entry["ifname"]: entry for entry in box.ip_json("link")}
        assert {i.name for i in found} == set(listed)
        for interface in found:
            entry = listed[interface.name]
            assert interface.index == entry["ifindex"] and str(interface.group) == str(entry["group"])
            assert interface.is_up == ("UP" in entry["flags"]) and interface.has_carrier == ("LOWER_UP" in entry["flags"])
            again = interfaces.get(door, interface.name)
            assert again and (again.index, again.flags, again.group) == (interface.index, interface.flags, interface.group)
        for name in ("nothing", "", "a" * 15, "a" * 16, "wan1/x"):
            assert interfaces.get(door, name) is None
        card = interfaces.get(door, "wan1")
        assert card
        for group in (0, 109, 2147483647):
            interfaces.set_group(door, card.index, group)
            shown = box.interface("wan1")
            assert shown and str(shown["group"]) == str(group)
        with pytest.raises(Refused) as refused:
            interfaces.set_group(door, 999999, 5)
        assert is_absent(refused.value) or refused.value.errno == 19


def test_point_to_point_interfaces_are_known(world: World) -> None:
    """A session of pppd needs no next hop."""
    world.ppp_up("ppp0", "203.0.113.45", "203.0.113.1", event=False)
    with opened(world.box) as door:
        session = interfaces.get(door, "ppp0")
        assert session and session.is_point_to_point and session.is_up
        (address,) = Facts(door).addresses_of(session, INET)
        assert (inet_ntoa(address.local), inet_ntoa(address.peer), address.prefixlen) == ("203.0.113.45", "203.0.113.1", 32)


@pytest.mark.fault("F57")
def test_long_lists_come_whole(box: Namespace) -> None:
    """Dumps of many messages: 3000 rules, 5000 routes, 600 addresses, the last one as well as the first."""
    box.ip(*(f"rule add from 10.{n >> 8}.{n & 255}.1 lookup 201 priority 7400 protocol 109" for n in range(3000)))
    box.ip(*(f"route add 10.{n >> 8}.{n & 255}.0/24 dev wan2 table 201 proto 109" for n in range(5000)))
    box.ip(*(f"addr add 172.16.{n >> 8}.{n & 255}/32 dev lan0" for n in range(1, 601)))
    with opened(box) as door, box.entered():
        found = rules.Dump(door, INET).of_protocols(frozenset((109,)))
        assert {inet_ntoa(rule.source) for rule in found} == {f"10.{n >> 8}.{n & 255}.1" for n in range(3000)}
        table = routes.dump(door, INET, table=201)
        assert {inet_ntoa(route.network) for route in table} == {f"10.{n >> 8}.{n & 255}.0" for n in range(5000)}
        assert routes.dump(door, INET, table=202) == []
        facts = Facts(door)
        found_there = [inet_ntoa(a.local) for a in facts.addresses_of(facts.interfaces["lan0"], INET)]
        assert len([address for address in found_there if address.startswith("172.16.")]) == 600


def test_lists_that_change_while_they_are_read_raise_nothing(box: Namespace) -> None:
    """Somebody adds and deletes all the time: every dump ends with what is well-formed; when he stops it is whole again."""
    box.ip(*(f"rule add from 10.0.{n & 255}.1 lookup 201 priority {7000 + n} protocol 109" for n in range(250)))
    box.ip(*(f"route add 10.0.{n}.0/24 dev wan2 table 201 proto 109" for n in range(250)))
    mine = {inet_aton(f"10.0.{n}.1") for n in range(250)}
    stop = threading.Event()

    def stir() -> None:
        lines = []
        for n in range(300):
            lines += [f"rule add from 10.9.{n & 255}.9 lookup 7 priority {6000 + n}", f"route add 10.9.{n & 255}.9 dev wan2 table 201"]
        lines += [line.replace(" add ", " del ") for line in lines]
        while not stop.is_set():
            box.run("ip", "-force", "-batch", "-", input="\n".join(lines), check=False)

    thread = threading.Thread(target=stir)
    thread.start()
    with opened(box) as door:
        try:
            for _ in range(60):
                assert {rule.source for rule in rules.Dump(door, INET).of_protocols(frozenset((109,)))} <= mine
                assert len([r for r in routes.dump(door, INET, table=201) if r.protocol == 109]) <= 250
        finally:
            stop.set()
            thread.join()
        assert {rule.source for rule in rules.Dump(door, INET).of_protocols(frozenset((109,)))} == mine
        assert len([r for r in routes.dump(door, INET, table=201) if r.protocol == 109]) == 250


def test_what_the_kernel_refuses_is_said_in_its_own_words(box: Namespace) -> None:
    """Number and reason of a refusal, the kernel's own text where it gives one."""
    with opened(box) as door:
        cases = (
            (Route(201, inet_aton("0.0.0.0"), 0, gateway=inet_aton("10.99.99.1"), oif=1, protocol=109), "gateway"),
            (Route(201, inet_aton("10.0.0.0"), 8, gateway=inet_aton("198.51.100.255"), protocol=109), "gateway"),
            (Route(201, inet_aton("10.0.0.0"), 8, oif=99999, protocol=109), "evice"),
            (Route(201, inet_aton("10.0.0.1"), 8, oif=1, protocol=109), "prefix"),
            (Route(201, inet_aton("10.0.0.0"), 8, gateway=inet_aton("198.51.100.1"), prefsrc=inet_aton("192.0.2.1"), protocol=109), "prefsrc"),
        )
        for route, words in cases:
            with pytest.raises(Refused) as refused:
                routes.add(door, route)
            assert refused.value.errno and words.lower() in refused.value.reason.lower(), (route.text("x"), refused.value.reason)
        with pytest.raises(Refused) as refused:
            routes.delete(door, Route(201, inet_aton("10.0.0.0"), 8, oif=1))
        assert is_absent(refused.value)
        # The door is as good as before.
        assert len(routes.dump(door, INET, table=254)) >= 3


def test_refusals_that_nobody_read_are_no_answer_to_the_next_question(box: Namespace) -> None:
    """The kernel refuses each element of a transaction by itself, and only the first refusal is waited for."""
    elements = [nftables.Element("snat4", nftables.ifname(f"ppp{number}"), value=bytes((192, 0, 2, 1))) for number in range(3)]
    with box.entered():
        door = nftables.Door()
    try:
        with pytest.raises(Refused):
            door.commit("multihook", [], elements)
        assert len(door.dump(_GETCHAIN, bytes((1, 0, 0, 0)))) == 0
        box.nft("add table inet multihook; add chain inet multihook one")
        assert len(door.dump(_GETCHAIN, bytes((1, 0, 0, 0)))) == 1
    finally:
        door.close()


def test_without_the_capability_reading_works_and_writing_is_refused(world: World) -> None:
    """What `status` needs works for anybody; a change is refused with the capability's name."""
    program = """
import sys
sys.path.insert(0, "/usr/lib/python3/dist-packages")
from multihook.kernel import interfaces, routes, rules
from multihook.kernel.rtnetlink import Door, Refused
door = Door()
assert rules.Dump(door, 2).all() and interfaces.dump(door)
for change in (lambda: rules.add(door, rules.Rule(7000, 200, protocol=109)), lambda: interfaces.set_group(door, 1, 5)):
    try:
        change()
    except Refused as error:
        print(error.errno, error.reason)
"""
    done = world.box.run("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "/usr/bin/python3", "-IS", "-c", program)
    assert done.stdout.splitlines() == ["1 Operation not permitted (CAP_NET_ADMIN is needed)"] * 2

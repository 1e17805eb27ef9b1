"""Rules and routes in rtnetlink: what is written can be read, damage harms nobody, and their text is that of ip(8)."""

import os
import random
import socket
import struct

import pytest
from painted_kernel import Painted, attribute, message, not_permitted, number, pack, painted

from multihook.address import INET
from multihook.kernel import interfaces, precedence, routes, rtnetlink, rules
from multihook.kernel.routes import LINK_SCOPE, MAIN, UNREACHABLE, WORST_METRIC, Route
from multihook.kernel.rules import Rule

ROUTES = [
    (Route(200, bytes(4), 0, type=UNREACHABLE, metric=WORST_METRIC, protocol=109),
     "unreachable default table 200 proto 109 metric 4294967295"),
    (Route(200, bytes(4), 0, oif=5, prefsrc=pack("203.0.113.45"), scope=LINK_SCOPE, protocol=109),
     "default dev wan table 200 proto 109 src 203.0.113.45"),
    (Route(201, bytes(4), 0, gateway=pack("198.51.100.1"), oif=5, prefsrc=pack("198.51.100.7"), protocol=109),
     "default via 198.51.100.1 dev wan table 201 proto 109 src 198.51.100.7"),
    (Route(1000, bytes(4), 0, gateway=pack("192.0.2.1"), oif=5, prefsrc=pack("198.51.100.7"), onlink=True,
    protocol=109),
     "default via 192.0.2.1 dev wan table 1000 proto 109 src 198.51.100.7 onlink"),
    (Route(4294967295, pack("10.0.0.0"), 8, gateway=pack("198.51.100.254"), oif=5, metric=7, protocol=109),
     "10.0.0.0/8 via 198.51.100.254 dev wan table 4294967295 proto 109 metric 7"),
    (Route(255, pack("192.0.2.1"), 32, oif=5, scope=LINK_SCOPE, protocol=109),
     "192.0.2.1 dev wan table 255 proto 109"),
    (Route(256, pack("192.0.2.0"), 24, oif=5, protocol=109),
     "192.0.2.0/24 dev wan table 256 proto 109 scope global"),
    (Route(256, pack("192.0.2.0"), 24, gateway=pack("198.51.100.1"), oif=5, scope=LINK_SCOPE, protocol=109),
     "192.0.2.0/24 via 198.51.100.1 dev wan table 256 proto 109 scope link"),
    (Route(300, pack("10.0.0.0"), 8, oif=5, scope=LINK_SCOPE, tos=16, metrics=number(2, 1400), protocol=109),
     "10.0.0.0/8 dev wan table 300 proto 109 tos 0x10 mtu 1400"),
    (Route(300, pack("10.0.0.0"), 8, oif=5, scope=LINK_SCOPE, protocol=109,
           metrics=number(1, 1 << 2) + number(2, 1400) + number(8, 1360) + attribute(16, b"bbr\0")),
     "10.0.0.0/8 dev wan table 300 proto 109 mtu lock 1400 advmss 1360 congctl bbr"),
]  # fmt: skip

RULES = [
    (Rule(7000, 200, oif="ppp0", protocol=109), "from all oif ppp0 lookup 200 priority 7000 protocol 109"),
    (Rule(7200, MAIN, source=pack("203.0.113.45"), prefixlen=32, suppress_prefixlen=1, suppress_ifgroup=109,
    protocol=109),
     "from 203.0.113.45 lookup main suppress_prefixlength 1 suppress_ifgroup 109 priority 7200 protocol 109"),
    (Rule(7400, 4294967295, source=pack("192.0.2.32"), prefixlen=28, protocol=109),
     "from 192.0.2.32/28 lookup 4294967295 priority 7400 protocol 109"),
    (Rule(7500, 200, destination=pack("10.9.9.9"), destination_len=32, iif="lo", dport=67, protocol=109),
     "from all to 10.9.9.9 iif lo ipproto udp dport 67 lookup 200 priority 7500 protocol 109"),
    (Rule(7450, MAIN, destination=pack("10.9.8.0"), destination_len=24, suppress_prefixlen=1, protocol=109),
     "from all to 10.9.8.0/24 lookup main suppress_prefixlength 1 priority 7450 protocol 109"),
]  # fmt: skip


@pytest.mark.parametrize("route, text", ROUTES, ids=[text for _, text in ROUTES])
def test_a_route_is_written_in_the_words_of_ip_and_read_back_the_same(route: Route, text: str) -> None:
    assert route.text("wan") == text
    message = routes._message(route)
    assert routes.parse(message) == [route]
    assert routes.parse(message, oif=6) == []


@pytest.mark.parametrize("rule, text", RULES, ids=[text for _, text in RULES])
def test_a_rule_is_written_in_the_words_of_ip_and_read_back_the_same(rule: Rule, text: str) -> None:
    assert rule.text() == text
    assert rules.parse(rules._message(rule)) == rule


def test_a_route_through_several_next_hops_gives_one_for_each() -> None:
    kernel = Painted()
    hops = b"".join(
        length.to_bytes(2, "little") + bytes((flags, 0)) + index.to_bytes(4, "little") + attribute(5, pack(gateway))
        for length, flags, index, gateway in ((16, 0, 5, "198.51.100.1"), (16, 4, 6, "192.0.2.1"))
    )
    kernel.route("default")
    message = kernel.routes[0] + attribute(9, hops)
    found = routes.parse(message)
    assert [(route.oif, route.gateway, route.onlink) for route in found] == [
        (5, pack("198.51.100.1"), False), (6, pack("192.0.2.1"), True),
    ]  # fmt: skip
    assert [route.oif for route in routes.parse(message, oif=6)] == [6]


def test_a_foreign_rule_with_a_selector_we_never_write_is_none_of_ours() -> None:
    plain = Rule(7400, 200, source=pack("192.0.2.1"), prefixlen=32, protocol=109)
    message = rules._message(plain)
    for addition in (number(10, 1), attribute(3, b"eth0\0"), attribute(23, b"\x50\0\x50\0")):
        assert rules.parse(message + addition) != plain
    for position, value in ((3, 8), (7, 6), (1, 24)):  # tos, action, length of a destination
        assert rules.parse(message[:position] + bytes((value,)) + message[position + 1 :]) != plain


@pytest.mark.parametrize("table, source, prefixlen, catches", [
    (254, "", 0, True), (51820, "", 0, True), (255, "", 0, False), (200, "192.0.2.1", 32, False),
])  # fmt: skip
def test_a_rule_that_takes_everything_is_known_as_one(table: int, source: str, prefixlen: int, catches: bool) -> None:
    kernel = Painted()
    kernel.rule(100, table, source, prefixlen)
    assert precedence.catches_everything(rules.parse(kernel.rules[0])) == catches


def test_a_rule_of_wg_quick_takes_everything_but_what_carries_its_mark() -> None:
    kernel = Painted()
    kernel.rule(100, 51820)
    inverted = kernel.rules[0][:8] + (2).to_bytes(4, "little") + kernel.rules[0][12:]
    assert precedence.catches_everything(rules.parse(inverted + number(10, 51820) + number(16, 0xFFFFFFFF)))
    assert not precedence.catches_everything(rules.parse(kernel.rules[0] + number(10, 51820) + number(16, 0xFFFFFFFF)))


@pytest.mark.fault("F57")
def test_only_the_rules_asked_for_are_read_out_of_many() -> None:
    kernel = Painted()
    door = kernel.door()
    for index in range(50):
        rules.add(door, Rule(7000, 200 + index, oif=f"ppp{index}", protocol=109))
        rules.add(door, Rule(7400, 200 + index, source=bytes((192, 0, 2, index)), prefixlen=32, protocol=109))
        kernel.rule(100, 200 + index, f"192.0.2.{index}")
    dump = rules.Dump(door, INET)
    assert len(dump.all()) == 150
    ours = frozenset({109})
    assert len(dump.of_protocols(ours)) == 100
    assert {rule.priority for rule in dump.of_protocols(ours, [rules.mark_of_table(207)])} == {7000, 7400}
    assert [rule.table for rule in dump.of_protocols(ours, [rules.mark_of_source(pack("192.0.2.9"))])] == [209]
    assert dump.of_protocols(ours, []) == []
    assert dump.of_protocols(frozenset({3}), [rules.mark_of_table(207)])[0].source == pack("192.0.2.7")


def test_our_rules_are_counted_and_no_others() -> None:
    kernel = Painted()
    door = kernel.door()
    assert rules.Dump(door, INET).count(109) == 0
    for index in range(200):
        rules.add(door, Rule(7000, 200 + index, oif=f"ppp{index}", protocol=109))
        kernel.rule(100, 200 + index, f"192.0.2.{index}")
    assert rules.Dump(door, INET).count(109) == 200
    assert rules.Dump(door, INET).count(3) == 200
    # FIB_RULE_DEV_DETACHED: the kernel sets it while the interface is away
    kernel.rules = [one[:8] + (8).to_bytes(4, "little") + one[12:] for one in kernel.rules]
    assert rules.Dump(door, INET).count(109) == 200
    assert Rule(7000, 207, oif="ppp7", protocol=109) in rules.Dump(door, INET).all()


@pytest.mark.timeout(10)
def test_damaged_attributes_end_the_reading_and_never_hang_it() -> None:
    chance = random.Random(5)
    for length in range(0, 60):
        for _ in range(20):
            rtnetlink.attributes(chance.randbytes(length), 0)
    for size in range(4):
        assert rtnetlink.attributes(size.to_bytes(2, "little") + bytes(20), 0) == {}
    assert rtnetlink.attributes(b"\x08\x00\x01\x00ab", 0) == {1: b"ab"}
    assert routes._next_hops(bytes(64)) == []
    routes._next_hops(chance.randbytes(64))


@pytest.mark.fault("F57")
def test_main_may_hold_many_routes_and_only_the_defaults_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = painted()
    for number_ in range(1000):
        kernel.route(f"10.{number_ // 250}.{number_ % 250}.0/24", "eth1", via="198.51.100.254")
    parsed = []
    real = routes.parse
    monkeypatch.setattr(routes, "parse", lambda message, oif=0: parsed.append(message) or real(message, oif))
    assert len(kernel.facts().defaults(INET)) == 3
    assert len(parsed) == 3


def test_what_the_kernel_says_against_a_change_is_what_is_said() -> None:
    door = Painted().door()
    rules.add(door, Rule(7000, 200, oif="ppp0", protocol=109))
    with pytest.raises(rtnetlink.Refused, match="File exists") as caught:
        rules.add(door, Rule(7000, 200, oif="ppp0", protocol=109))
    assert not rtnetlink.is_absent(caught.value)
    rules.delete(door, Rule(7000, 200, oif="ppp0", protocol=109))
    with pytest.raises(rtnetlink.Refused) as caught:
        rules.delete(door, Rule(7000, 200, oif="ppp0", protocol=109))
    assert rtnetlink.is_absent(caught.value)
    with pytest.raises(rtnetlink.Refused, match="Invalid prefsrc address"):
        routes.add(door, Route(200, bytes(4), 0, prefsrc=pack("192.0.2.1"), protocol=109))


def test_without_rights_the_refusal_names_the_right_that_lacks() -> None:
    kernel = Painted()
    kernel.before = not_permitted
    with pytest.raises(rtnetlink.Refused, match="CAP_NET_ADMIN"):
        rules.add(kernel.door(), Rule(7000, 200, oif="ppp0", protocol=109))


@pytest.mark.timeout(10)
def test_a_dump_is_taken_again_while_the_kernel_changes_under_it_but_not_for_ever() -> None:
    kernel = painted()
    whole = len(kernel.facts().interfaces)
    interrupted = 0
    real = kernel.answer

    def uneven(kind: int, flags: int, sequence: int, body: bytes) -> list[bytes]:
        nonlocal interrupted
        datagrams = real(kind, flags, sequence, body)
        if interrupted:
            interrupted -= 1
            datagrams[0] = datagrams[0][:6] + bytes((datagrams[0][6] | 0x10,)) + datagrams[0][7:]
        return datagrams

    kernel.answer = uneven  # type: ignore[method-assign]
    for times, dumps in ((0, 1), (1, 2), (4, 5), (100, 5)):
        interrupted, kernel.dumps = times, 0
        assert len(interfaces.dump(kernel.door())) == whole
        assert kernel.dumps == dumps


def test_a_dump_that_ends_in_an_error_is_refused_and_an_absent_table_is_empty() -> None:
    kernel = Painted()
    for code, is_error in ((0, False), (2, False), (22, True), (1, True)):
        end = message(3, 2, 1, (-code & 0xFFFFFFFF).to_bytes(4, "little"))
        kernel.answer = lambda kind, flags, sequence, body, end=end: [end]  # type: ignore[method-assign]
        if is_error:
            with pytest.raises(rtnetlink.Refused):
                routes.dump(kernel.door(), INET, table=200)
        else:
            assert routes.dump(kernel.door(), INET, table=200) == []
    end = message(2, 0, 1, (-95 & 0xFFFFFFFF).to_bytes(4, "little") + bytes(16))
    kernel.answer = lambda kind, flags, sequence, body: [end]  # type: ignore[method-assign]
    with pytest.raises(rtnetlink.Refused):
        routes.dump(kernel.door(), INET)


def test_a_kernel_that_does_not_answer_keeps_nobody() -> None:
    kernel = Painted()
    kernel.answer = lambda kind, flags, sequence, body: []  # type: ignore[method-assign]
    for ask in (
        lambda door: routes.dump(door, INET),
        lambda door: rules.add(door, RULES[0][0]),
        lambda door: interfaces.get(door, "x"),
    ):
        with pytest.raises(OSError):
            ask(kernel.door())


def test_the_real_socket_is_not_inherited_and_has_a_time_limit() -> None:
    door = rtnetlink.Door()
    try:
        assert not os.get_inheritable(door._socket.fileno())
        limit = door._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)
        assert struct.unpack("ll", limit) == (rtnetlink.TIMEOUT_SECONDS, 0) and 0 < rtnetlink.TIMEOUT_SECONDS <= 10
        assert any(interface.name == "lo" for interface in interfaces.dump(door))
    finally:
        door.close()

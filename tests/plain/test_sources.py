"""What pppd, dhclient, dhcpcd and ifupdown tell their hooks becomes the right event, and nothing hostile in it comes through."""

import re
from pathlib import Path

import pytest

from multihook import sources, spool
from multihook.address import (
    in_network,
    is_interface_name,
    is_link_local,
    network_of,
    network_text,
    parse,
    text,
    why_unusable,
)
from multihook.sources import CHECK, DOWN, MOST_VALUES, UP, VARIABLES, Event, Refused

CAPTURES = Path(__file__).parent.parent / "captures"

# Every line that is about something refused ends in the log; a person reads it in one glance.
LONGEST_LINE = 400

# Where the environment begins that a hook of each was started with.
SAID = {
    "pppd": "# --- environment of the .d script",
    "dhclient": "# --- environment dhclient gave to dhclient-script",
    "dhcpcd": "# --- environment dhcpcd gave to dhcpcd-run-hooks",
    "ifupdown": "# --- environment of the script",
}


def captured(name: str) -> tuple[str, list[str], dict[str, str]]:
    """(source, arguments, environment) that a capture file shows a hook was started with.

    pppd's arguments are the lines `# arg N 'VALUE'`; the script's own name, or its folder's, is the first
    argument of our entry point.  Environments are `NAME=VALUE` lines below a heading, with "#  " in front
    for dhclient and dhcpcd.
    """
    lines = (CAPTURES / name).read_text().splitlines()
    program = Path(name).name.partition("-")[0]
    source = "pppd" if program == "ppp" else program
    arguments = []
    if source in ("pppd", "ifupdown"):
        arguments.append(lines[0].split()[2])  # "# event ip-up  iface ppp1 ..."
    if source == "pppd":
        for line in lines:
            if found := re.fullmatch(r"# arg \d '(.*)'", line):
                arguments.append(found[1])
    start = lines.index(SAID[source]) + 1
    environment = {}
    for line in lines[start:]:
        if line.startswith("# ---"):
            break
        variable, _, value = line.removeprefix("#  ").partition("=")
        environment[variable] = value
    return source, arguments, environment


def translated(source: str, arguments: list[str], environment: dict[str, str]) -> Event | None:
    """As a hook does it: from the bytes of an environment, through the allow-list."""
    packed = {k.encode(): v.encode("utf-8", "surrogateescape") for k, v in environment.items()}
    return sources.translate(source, arguments, spool.pick(packed, VARIABLES[source]))


def seen(event: Event | None) -> dict[str, object] | None:
    """All that an event says, addresses in their usual notation."""
    if event is None:
        return None
    return {
        "source": event.source, "reason": event.reason, "interface": event.interface, "action": event.action,
        "address": text(event.address), "gateway": text(event.gateway), "server": text(event.server),
        "resolvers": [text(one) for one in event.resolvers],
        "routes": [f"{network_text(network, length)} via {text(router)}" for network, length, router in event.routes],
        "ipparam": event.ipparam, "linkname": event.linkname, "refused": event.refused,
    }  # fmt: skip


def by_pppd(
    reason: str, interface: str, address: str, ipparam: str, linkname: str = "", resolver: str = ""
) -> dict[str, object]:
    return {
        "source": "pppd", "reason": reason, "interface": interface, "action": UP if reason == "ip-up" else DOWN,
        "address": address, "gateway": "-", "server": "-", "resolvers": [resolver] if resolver else [],
        "routes": [], "ipparam": ipparam, "linkname": linkname, "refused": [],
    }  # fmt: skip


def by_dhclient(
    reason: str, action: str, address: str, gateway: str = "-", resolver: str = "", server: str = "-", route: str = ""
) -> dict[str, object]:
    return {
        "source": "dhclient", "reason": reason, "interface": "wan0", "action": action, "address": address,
        "gateway": gateway, "server": server, "resolvers": [resolver] if resolver else [],
        "routes": [route] if route else [], "ipparam": "", "linkname": "", "refused": [],
    }  # fmt: skip


def by_dhcpcd(
    reason: str, action: str, address: str = "-", lease: bool = False, interface: str = "wan0"
) -> dict[str, object]:
    found = by_dhclient(reason, action, address) | {"source": "dhcpcd", "interface": interface}
    if lease:
        found |= {"gateway": "10.80.0.1", "server": "10.80.0.1", "resolvers": ["10.80.0.53"]}
        found |= {"routes": ["192.0.2.0/24 via 10.80.0.1"]}
    return found


def by_ifupdown(
    reason: str, action: str, address: str = "-", gateway: str = "-", interface: str = "wan1"
) -> dict[str, object]:
    return by_dhclient(reason, action, address, gateway) | {"source": "ifupdown", "interface": interface}


NOTHING = None
NO_EVENT = "refused"  # pppd has this script, but we stand in no ip-pre-up.d

EXPECTED: dict[str, dict[str, object] | None | str] = {
    # pppd 2.4.9, PPPoE with usepeerdns, linkname and ipparam.
    "ppp-ip-up.env": by_pppd("ip-up", "ppp1", "10.71.0.11", "isp1", "l1", "198.18.1.53"),
    "ppp-ip-up-second-isp.env": by_pppd("ip-up", "ppp2", "10.72.0.11", "isp2", "l2", "198.18.2.53"),
    "ppp-ip-up-reconnected-new-address.env": by_pppd("ip-up", "ppp1", "10.71.0.50", "isp1", "l1", "198.18.1.53"),
    "ppp-ip-up-plain-pty.env": by_pppd("ip-up", "ppp3", "10.99.0.2", "ptylink"),
    "ppp-ip-down.env": by_pppd("ip-down", "ppp1", "10.71.0.11", "isp1", "l1"),
    "ppp-ip-down-interface-already-gone.env": by_pppd("ip-down", "ppp1", "10.71.0.50", "isp1", "l1"),
    "ppp-ip-down-plain-pty.env": by_pppd("ip-down", "ppp3", "10.99.0.2", "ptylink"),
    "ppp-ip-pre-up.env": NO_EVENT,
    "ppp-ipv6-up.env": NOTHING,
    "ppp-ipv6-up-stale-IPLOCAL.env": NOTHING,
    "ppp-ipv6-down.env": NOTHING,
    # pppd 2.5.2, without linkname and DNS.
    "trixie/ppp-ip-up.0.ppp1.env": by_pppd("ip-up", "ppp1", "10.71.0.11", "isp1"),
    "trixie/ppp-ip-up.0.ppp2.env": by_pppd("ip-up", "ppp2", "10.72.0.11", "isp2"),
    "trixie/ppp-ip-up.2.ppp1.env": by_pppd("ip-up", "ppp1", "10.71.0.12", "isp1"),
    "trixie/ppp-ip-down.0.ppp1.env": by_pppd("ip-down", "ppp1", "10.71.0.11", "isp1"),
    "trixie/ppp-ip-down.1.ppp1.env": by_pppd("ip-down", "ppp1", "10.71.0.12", "isp1"),
    "trixie/ppp-ip-down.1.ppp2.env": by_pppd("ip-down", "ppp2", "10.72.0.11", "isp2"),
    "trixie/ppp-ipv6-up.0.ppp1.env": NOTHING,
    "trixie/ppp-ipv6-up.0.ppp2.env": NOTHING,
    "trixie/ppp-ipv6-up.2.ppp1.env": NOTHING,
    "trixie/ppp-ipv6-down.0.ppp1.env": NOTHING,
    "trixie/ppp-ipv6-down.1.ppp1.env": NOTHING,
    "trixie/ppp-ipv6-down.1.ppp2.env": NOTHING,
    # ISC dhclient 4.4.3.
    "dhclient-PREINIT.env": NOTHING,
    "dhclient-BOUND.env": by_dhclient("BOUND", UP, "10.80.0.50", "10.80.0.1", "10.80.0.53", "10.80.0.1"),
    "dhclient-BOUND-after-NAK-new-address.env": by_dhclient("BOUND", UP, "10.80.0.90", "10.80.0.1", server="10.80.0.1"),
    "dhclient-BOUND-rfc3442.env": by_dhclient(
        "BOUND", UP, "10.81.0.50", "10.81.0.1", "10.81.0.53", "10.80.0.1", route="192.0.2.0/24 via 10.81.0.1"
    ),
    "dhclient-BOUND-dnsmasq-stock-dhclient.conf.env": by_dhclient(
        "BOUND", UP, "10.80.0.28", "10.80.0.1", "10.80.0.53", "10.80.0.1", route="192.0.2.0/24 via 10.80.0.1"
    ),
    "dhclient-RENEW.env": by_dhclient("RENEW", UP, "10.80.0.50", "10.80.0.1", "10.80.0.53", "10.80.0.1"),
    "dhclient-REBOOT.env": by_dhclient("REBOOT", UP, "10.80.0.50", "10.80.0.1", "10.80.0.53", "10.80.0.1"),
    "dhclient-TIMEOUT.env": by_dhclient("TIMEOUT", UP, "10.80.0.50", "10.80.0.1", "10.80.0.53", "10.80.0.1"),
    "dhclient-EXPIRE.env": by_dhclient("EXPIRE", DOWN, "10.80.0.50"),
    "dhclient-EXPIRE-by-NAK.env": by_dhclient("EXPIRE", DOWN, "10.80.0.50"),
    "dhclient-FAIL.env": by_dhclient("FAIL", DOWN, "-"),
    "dhclient-RELEASE.env": by_dhclient("RELEASE", DOWN, "10.80.0.50"),
    "dhclient-STOP.env": by_dhclient("STOP", DOWN, "10.80.0.50"),
    # dhcpcd 9.4.1.
    "dhcpcd-PREINIT.env": NOTHING,
    "dhcpcd-CARRIER.env": NOTHING,
    "dhcpcd-ROUTERADVERT.env": NOTHING,
    "dhcpcd-ROUTERADVERT-on-carrier-loss.env": NOTHING,
    "dhcpcd-BOUND.env": by_dhcpcd("BOUND", UP, "10.80.0.50", lease=True),
    "dhcpcd-RENEW.env": by_dhcpcd("RENEW", UP, "10.80.0.50", lease=True),
    "dhcpcd-RECONFIGURE.env": by_dhcpcd("RECONFIGURE", UP, "10.80.0.90") | {
        "gateway": "10.80.0.1", "server": "10.80.0.1", "resolvers": ["10.80.0.53"],
    },
    "dhcpcd-NOCARRIER.env": by_dhcpcd("NOCARRIER", CHECK),
    "dhcpcd-EXPIRE.env": by_dhcpcd("EXPIRE", DOWN, "10.80.0.50"),
    "dhcpcd-STOP.env": by_dhcpcd("STOP", DOWN, "10.80.0.90"),
    "dhcpcd-STOPPED.env": by_dhcpcd("STOPPED", CHECK),
    "dhcpcd-DEPARTED.env": by_dhcpcd("DEPARTED", CHECK),
    # ifupdown 0.8.41 and 0.8.44.
    "ifupdown-if-up-static.env": by_ifupdown("if-up", UP, "198.51.100.7", "198.51.100.1"),
    "ifupdown-if-up-static-second-stanza.env": by_ifupdown("if-up", CHECK, "198.51.100.8"),
    "ifupdown-if-up-static-pointopoint.env": by_ifupdown("if-up", UP, "198.51.100.7", "203.0.113.1"),
    "ifupdown-if-up-alias.env": by_ifupdown("if-up", CHECK, "198.51.100.9"),
    "ifupdown-if-up-dhcp.env": by_ifupdown("if-up", CHECK, interface="wan2"),
    "ifupdown-if-up-inet6.env": NOTHING,
    "ifupdown-if-up-all.env": NOTHING,
    "ifupdown-if-up-manual.env": NOTHING,
    "ifupdown-if-up-ppp.env": NOTHING,
    "ifupdown-if-post-down-static.env": by_ifupdown("if-post-down", DOWN, "198.51.100.7"),
    "ifupdown-if-post-down-static-second-stanza.env": by_ifupdown("if-post-down", DOWN, "198.51.100.8"),
    "ifupdown-if-post-down-static-pointopoint.env": by_ifupdown("if-post-down", DOWN, "198.51.100.7"),
    "ifupdown-if-post-down-alias.env": by_ifupdown("if-post-down", DOWN, "198.51.100.9"),
    "ifupdown-if-post-down-dhcp.env": by_ifupdown("if-post-down", CHECK, interface="wan2"),
    "ifupdown-if-post-down-inet6.env": NOTHING,
    "ifupdown-if-post-down-loopback.env": NOTHING,
    "ifupdown-if-post-down-all.env": NOTHING,
    "ifupdown-if-post-down-manual.env": NOTHING,
    "ifupdown-if-post-down-ppp.env": NOTHING,
    "trixie/ifupdown-if-up-static.env": by_ifupdown("if-up", UP, "198.51.100.7", "198.51.100.1"),
    "trixie/ifupdown-if-post-down-static.env": by_ifupdown("if-post-down", DOWN, "198.51.100.7"),
}


def test_each_capture_has_its_expected_event() -> None:
    assert {str(path.relative_to(CAPTURES)) for path in CAPTURES.rglob("*.env")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_what_was_captured_becomes_this_event(name: str) -> None:
    expected = EXPECTED[name]
    if expected == NO_EVENT:
        with pytest.raises(Refused):
            translated(*captured(name))
    else:
        assert seen(translated(*captured(name))) == expected


# --- pppd ---

IP_UP = ["ip-up", "ppp0", "/dev/ttyS0", "0", "203.0.113.45", "192.0.2.1", "dsl"]


def pppd(*arguments: str, **environment: str) -> Event:
    event = translated("pppd", list(arguments), environment)
    assert event
    return event


def test_the_arguments_of_pppd_win_over_a_stale_environment() -> None:
    stale = {
        "IPLOCAL": "198.51.100.9", "PPP_LOCAL": "198.51.100.9", "PPP_IFACE": "ppp7", "IFNAME": "ppp7",
        "PPP_IPPARAM": "cable", "IPREMOTE": "198.51.100.1", "DEVICE": "eth7", "UNIT": "7",
    }  # fmt: skip
    assert seen(pppd(*IP_UP, **stale)) == seen(pppd(*IP_UP))
    assert seen(pppd(*IP_UP)) == by_pppd("ip-up", "ppp0", "203.0.113.45", "dsl")


def test_tty_speed_and_peer_of_pppd_are_not_looked_at() -> None:
    plain = seen(pppd(*IP_UP))
    for position in (2, 3, 5):
        for value in ("", "$(reboot)", "x" * 131072, "\udcff\n"):
            odd = list(IP_UP)
            odd[position] = value
            assert seen(pppd(*odd)) == plain


def test_the_ipparam_may_be_missing_and_more_arguments_change_nothing() -> None:
    without = pppd(*IP_UP[:6])
    assert (text(without.address), without.ipparam, without.refused) == ("203.0.113.45", "", [])
    assert seen(pppd(*IP_UP, "more", "$(reboot)")) == seen(pppd(*IP_UP))


def test_two_dns_servers_are_kept_in_their_order_and_doubles_once() -> None:
    assert [text(a) for a in pppd(*IP_UP, DNS1="192.0.2.2", DNS2="192.0.2.1").resolvers] == ["192.0.2.2", "192.0.2.1"]
    assert [text(a) for a in pppd(*IP_UP, DNS1="192.0.2.2", DNS2="192.0.2.2").resolvers] == ["192.0.2.2"]
    assert [text(a) for a in pppd(*IP_UP, DNS2="192.0.2.2").resolvers] == ["192.0.2.2"]


@pytest.mark.fault("F37")
@pytest.mark.parametrize("count", range(6))
@pytest.mark.parametrize("reason", ["ip-up", "ip-down"])
def test_pppd_called_by_hand_with_too_few_arguments_gets_a_usage_line(reason: str, count: int) -> None:
    with pytest.raises(Refused) as caught:
        sources.translate("pppd", [reason, *IP_UP[1:]][:count], {})
    assert ("usage: event pppd ip-up INTERFACE" if count == 0 else "interface tty speed local remote") in str(
        caught.value
    )


@pytest.mark.parametrize("reason", ["", "ip-pre-up", "auth-up", "auth-down", "ip-up; reboot", "IP-UP", "up"])
def test_other_scripts_than_the_four_are_no_event(reason: str) -> None:
    with pytest.raises(Refused):
        sources.translate("pppd", [reason, *IP_UP[1:]], {})


@pytest.mark.parametrize("source", ["", "dhcpcd5", "pppd2", "kernel", "command", "$(reboot)", "\n" * 131072])
def test_a_source_that_there_is_not_is_refused_in_one_line(source: str) -> None:
    with pytest.raises(Refused) as caught:
        sources.translate(source, IP_UP, {})
    check_line(str(caught.value))


# --- dhclient ---

BOUND = {
    "reason": "BOUND", "interface": "eth1", "new_ip_address": "198.51.100.7", "new_subnet_mask": "255.255.255.0",
    "new_routers": "198.51.100.1", "new_domain_name_servers": "198.51.100.53", "old_ip_address": "198.51.100.6",
    "new_dhcp_server_identifier": "198.51.100.2",
}  # fmt: skip


def dhclient(**changes: str) -> Event:
    event = translated("dhclient", [], BOUND | changes)
    assert event
    return event


@pytest.mark.fault("F8")
@pytest.mark.parametrize("reason", ["BOUND", "RENEW", "REBIND", "REBOOT", "TIMEOUT"])
def test_a_lease_of_dhclient_means_up_with_the_new_address(reason: str) -> None:
    event = dhclient(reason=reason)
    assert (event.action, text(event.address), text(event.gateway)) == (UP, "198.51.100.7", "198.51.100.1")


@pytest.mark.fault("F8")
@pytest.mark.parametrize("reason", ["EXPIRE", "FAIL", "RELEASE", "STOP"])
def test_a_lost_lease_of_dhclient_means_down_with_the_old_address_and_nothing_else(reason: str) -> None:
    event = dhclient(reason=reason)
    assert (event.action, text(event.address)) == (DOWN, "198.51.100.6")
    assert (event.gateway, event.resolvers, event.server) == (b"", [], b"")


@pytest.mark.fault("F8")
@pytest.mark.parametrize("reason", [
    "PREINIT", "MEDIUM", "NBI", "ARPCHECK", "ARPSEND",
    "PREINIT6", "BOUND6", "RENEW6", "REBIND6", "DEPREF6", "EXPIRE6", "RELEASE6", "STOP6",
])  # fmt: skip
def test_these_reasons_of_dhclient_are_no_event_whatever_comes_with_them(reason: str) -> None:
    for interface in ("eth1", "", "a;id", "x" * 131072):
        assert translated("dhclient", [], BOUND | {"reason": reason, "interface": interface}) is None


@pytest.mark.fault("F8")
@pytest.mark.parametrize("reason", ["", "BOUNDARY", "bound", "$(reboot)", "BOUND\n", "INFORM", "x" * 131072, "\udcff"])
def test_an_unknown_reason_only_has_the_link_looked_at_and_is_never_repeated(reason: str) -> None:
    event = dhclient(reason=reason)
    assert (event.action, event.address, event.gateway, event.resolvers) == (CHECK, b"", b"", [])
    assert event.words == "dhclient unknown reason"


def test_dhclient_without_any_variable_is_refused() -> None:
    with pytest.raises(Refused):
        sources.translate("dhclient", [], {})
    with pytest.raises(Refused):
        sources.translate("dhclient", [], {"reason": "BOUND"})


def test_a_lease_without_a_router_is_a_link_without_a_next_hop_and_no_complaint() -> None:
    event = translated("dhclient", [], {k: v for k, v in BOUND.items() if k != "new_routers"})
    assert event and (event.gateway, event.refused) == (b"", [])


def test_several_routers_give_the_first_that_can_be_one() -> None:
    assert text(dhclient(new_routers="198.51.100.1 198.51.100.2").gateway) == "198.51.100.1"
    assert text(dhclient(new_routers="0.0.0.0 127.0.0.1 198.51.100.2").gateway) == "198.51.100.2"
    assert text(dhclient(new_routers="198.51.100.7 198.51.100.2").gateway) == "198.51.100.2"


@pytest.mark.fault("F27")
@pytest.mark.parametrize("router, why", [
    ("0.0.0.0", "in 0.0.0.0/8"),
    ("0.1.2.3", "in 0.0.0.0/8"),
    ("127.0.0.1", "in 127.0.0.0/8"),
    ("127.255.255.254", "in 127.0.0.0/8"),
    ("224.0.0.5", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "in 240.0.0.0/4"),
    ("255.255.255.255", "in 240.0.0.0/4"),
    ("198.51.100.7", "the link's own address"),
    ("169.254.1.1", "link-local"),
    ("198.51.100", "is no address"),
    ("198.51.100.1/24", "is no address"),
    ("0198.51.100.1", "is no address"),
    ("router.example", "is no address"),
    ("2001:db8::1", ""),
    ("::ffff:198.51.100.1", ""),
    ("fe80::1", ""),
])  # fmt: skip
def test_a_router_that_can_be_none_is_refused_and_says_why(router: str, why: str) -> None:
    event = dhclient(new_routers=router)
    assert event.gateway == b""
    assert len(event.refused) == 1
    assert f'new_routers "{router}"' in event.refused[0]
    assert why in event.refused[0]
    assert text(event.address) == "198.51.100.7"  # the rest of the lease holds


def test_the_router_that_is_refused_is_the_one_that_is_named() -> None:
    event = dhclient(new_routers="nonsense 198.51.100.7")
    assert event.gateway == b""
    assert [line.split('"')[1] for line in event.refused] == ["nonsense", "198.51.100.7"]
    event = dhclient(new_routers="\x1b[2J" + "x" * 900 + " 198.51.100.7 169.254.7.7")
    for line in event.refused:
        check_line(line)


def test_a_link_local_router_is_right_for_a_link_local_address() -> None:
    event = dhclient(new_ip_address="169.254.3.4", new_routers="169.254.1.1")
    assert (text(event.gateway), event.refused) == ("169.254.1.1", [])


@pytest.mark.parametrize("address", [
    "0.0.0.0", "0.0.0.7", "127.0.0.9", "224.0.0.5", "255.255.255.255", "241.1.1.1", "198.51.100.7/24", "2001:db8::7",
])  # fmt: skip
def test_an_address_that_can_be_none_of_a_link_is_refused(address: str) -> None:
    for event in (
        dhclient(new_ip_address=address),
        dhclient(reason="EXPIRE", old_ip_address=address),
        pppd(*IP_UP[:4], address, *IP_UP[5:]),
        pppd("ip-down", *IP_UP[1:4], address, *IP_UP[5:]),
    ):
        assert event.address == b""
        assert len(event.refused) == 1 and f'"{address}"' in event.refused[0]


def test_dns_servers_that_can_be_none_are_left_out_and_one_line_names_the_first_of_them() -> None:
    event = dhclient(new_domain_name_servers="198.51.100.53 0.0.0.0 x 198.51.100.54")
    assert [text(a) for a in event.resolvers] == ["198.51.100.53", "198.51.100.54"]
    assert len(event.refused) == 1
    assert event.refused[0].startswith('new_domain_name_servers "0.0.0.0" is in 0.0.0.0/8')


@pytest.mark.fault("F26")
@pytest.mark.parametrize("variable, count", [
    ("new_routers", 100), ("new_domain_name_servers", 100), ("new_routers", 5000), ("new_domain_name_servers", 500),
])  # fmt: skip
def test_of_a_hundred_values_the_first_eight_are_used_and_one_line_says_so(variable: str, count: int) -> None:
    values = [f"10.{number // 250}.1.{number % 250 + 1}" for number in range(count)]
    event = dhclient(**{variable: " ".join(values)})
    used = [text(a) for a in event.resolvers] if variable != "new_routers" else [text(event.gateway)]
    assert used == values[: len(used)]
    assert len(used) == (1 if variable == "new_routers" else MOST_VALUES)
    assert len(event.refused) == 1
    check_line(event.refused[0])


# --- option 121 ---


@pytest.mark.fault("F33")
@pytest.mark.parametrize("routes, gateway", [
    ("0 198 51 100 9", "198.51.100.9"),
    ("24 192 0 2 198 51 100 1 0 198 51 100 9", "198.51.100.9"),
    ("32 203 0 113 5 198 51 100 1 0 198 51 100 9", "198.51.100.9"),
    ("8 10 198 51 100 1 0 198 51 100 9", "198.51.100.9"),
    ("20 10 1 16 198 51 100 1 0 198 51 100 9", "198.51.100.9"),
    ("9 10 128 198 51 100 1 0 198 51 100 9", "198.51.100.9"),
    ("0 198 51 100 9 0 198 51 100 8", "198.51.100.9"),
    ("0 192 0 2 1", "192.0.2.1"),  # off the segment: the table says onlink
    ("24 192 0 2 198 51 100 1", "-"),  # RFC 3442: the router option is ignored all the same
    ("24 198 51 100 0 0 0 0", "-"),
    ("2 64 198 51 100 1 1 128 198 51 100 1", "-"),  # parts of it are no default
])  # fmt: skip
def test_where_option_121_is_there_it_alone_says_the_next_hop(routes: str, gateway: str) -> None:
    event = dhclient(new_rfc3442_classless_static_routes=routes)
    assert (text(event.gateway), event.refused) == (gateway, [])


@pytest.mark.parametrize(
    "router", ["0 0 0 0", "127 0 0 1", "224 0 0 5", "255 255 255 255", "198 51 100 7", "169 254 0 1"]
)
def test_a_default_of_option_121_that_can_be_none_is_refused(router: str) -> None:
    event = dhclient(new_rfc3442_classless_static_routes=f"0 {router}")
    assert event.gateway == b""
    assert len(event.refused) == 1
    assert "option 121" in event.refused[0]


@pytest.mark.parametrize("routes", [
    "24", "24 192 0 2", "24 192 0 2 198 51 100", "0", "0 198 51 100", "33 1 2 3 4 5 198 51 100 1", "255", "256 1 1 1 1",
    "-1 1 1 1 1", "0 198 51 100 999", "0 198 51 100 9 24 192", "0.198.51.100.9", "0 $(reboot) 1 1 1", "0 1 1 1 ;id",
    "0 198 51 100 9" + " 0 198 51 100 9" * 9000, "١ ٢ ٣ ٤ ٥", "0 198 51 100 ²", "1e1 1 1 1 1", "\udcff",
    "0198 51 100 9",
    "0" * 131072, "9" * 5000, " ", "\n",
])  # fmt: skip
def test_an_unreadable_option_121_is_named_once_and_the_router_option_stands_in(routes: str) -> None:
    event = dhclient(new_rfc3442_classless_static_routes=routes)
    assert (text(event.gateway), event.routes) == ("198.51.100.1", [])
    assert len(event.refused) == 1
    assert "rfc3442" in event.refused[0]
    check_line(event.refused[0])


@pytest.mark.parametrize("routes, kept", [
    ("24 192 0 2 198 51 100 1 0 198 51 100 9", ["192.0.2.0/24 via 198.51.100.1"]),
    ("32 192 0 2 7 198 51 100 1", ["192.0.2.7 via 198.51.100.1"]),
    ("9 10 128 198 51 100 1", ["10.128.0.0/9 via 198.51.100.1"]),
    ("20 10 1 31 198 51 100 1", ["10.1.16.0/20 via 198.51.100.1"]),  # host bits
    ("24 192 0 2 0 0 0 0", ["192.0.2.0/24 via 0.0.0.0"]),  # the segment itself
    ("8 127 198 51 100 1", []),
    ("4 224 198 51 100 1", []),
    ("24 192 0 2 224 0 0 5", []),
    ("24 192 0 2 127 0 0 1", []),
])  # fmt: skip
def test_the_other_routes_of_option_121_come_with_the_lease(routes: str, kept: list[str]) -> None:
    event = dhclient(new_rfc3442_classless_static_routes=routes)
    assert [f"{network_text(network, length)} via {text(router)}" for network, length, router in event.routes] == kept
    assert text(event.gateway) == ("198.51.100.9" if routes.endswith(" 9") else "-")  # never the router option's
    assert len(event.refused) == (not kept) and "routes" not in event.doubtful


def test_a_bad_route_of_option_121_is_named_and_the_others_are_used() -> None:
    event = dhclient(
        new_rfc3442_classless_static_routes="8 127 198 51 100 1 4 224 198 51 100 1 24 192 0 2 198 51 100 1 0 198 51 100 9"
    )
    assert [network_text(network, length) for network, length, _ in event.routes] == ["192.0.2.0/24"]
    assert text(event.gateway) == "198.51.100.9"
    name = "new_rfc3442_classless_static_routes"
    assert event.refused == [f"{name}: 127.0.0.0/8 by 198.51.100.1 is in 127.0.0.0/8 (and 1 more)"]


def test_of_a_hundred_routes_of_option_121_a_bounded_number_is_kept() -> None:
    event = dhclient(new_rfc3442_classless_static_routes=" ".join(f"24 10 {n} 0 198 51 100 1" for n in range(100)))
    assert len(event.routes) == 32
    assert event.refused == ["new_rfc3442_classless_static_routes: the routes beyond the first 32 of 100"]


# --- dhcpcd ---

DHCPCD_BOUND = {
    "reason": "BOUND", "interface": "eth1", "protocol": "dhcp", "ifflags": "69699", "new_ip_address": "198.51.100.7",
    "new_subnet_cidr": "24", "new_routers": "198.51.100.1", "new_domain_name_servers": "198.51.100.53",
    "old_ip_address": "198.51.100.6", "new_dhcp_server_identifier": "198.51.100.2",
}  # fmt: skip


def dhcpcd(**changes: str) -> Event:
    event = translated("dhcpcd", [], DHCPCD_BOUND | changes)
    assert event
    return event


# All that dhcpcd-run-hooks(8) lists, and what script.c has besides.
DHCPCD_REASONS = {
    "PREINIT": None, "CARRIER": None, "NOCARRIER": CHECK, "NOCARRIER_ROAMING": CHECK, "INFORM": UP, "INFORM6": None,
    "BOUND": UP, "BOUND6": None, "RENEW": UP, "RENEW6": None, "REBIND": UP, "REBIND6": None, "REBOOT": UP,
    "REBOOT6": None, "DELEGATED6": None, "IPV4LL": CHECK, "STATIC": UP, "3RDPARTY": None, "TIMEOUT": UP,
    "EXPIRE": DOWN, "EXPIRE6": None, "NAK": DOWN, "RECONFIGURE": UP, "ROUTERADVERT": None, "STOP": DOWN, "STOP6": None,
    "STOPPED": CHECK, "DEPARTED": CHECK, "FAIL": CHECK, "TEST": None,
    "RELEASE": DOWN, "UNKNOWN": CHECK, "STATIC6": None, "DUMP": None, "DUMP6": None,
}  # fmt: skip


@pytest.mark.fault("F8")
@pytest.mark.parametrize("reason, action", DHCPCD_REASONS.items())
def test_each_reason_of_dhcpcd_has_its_action(reason: str, action: str | None) -> None:
    event = translated("dhcpcd", [], DHCPCD_BOUND | {"reason": reason})
    assert (event and event.action) == action
    if event is None:
        return
    assert event.words == f"dhcpcd {reason}"
    address = {UP: "198.51.100.7", DOWN: "198.51.100.6", CHECK: "-"}[event.action]
    assert (text(event.address), event.refused) == (address, [])
    assert text(event.gateway) == ("198.51.100.1" if event.action == UP else "-")


@pytest.mark.fault("F8")
@pytest.mark.parametrize("reason", ["", "BOUNDARY", "bound", "$(reboot)", "BOUND\n", "x" * 131072, "\udcff"])
def test_an_unknown_reason_of_dhcpcd_only_has_the_link_looked_at(reason: str) -> None:
    event = dhcpcd(reason=reason)
    assert (event.action, event.words, event.address, event.gateway) == (CHECK, "dhcpcd unknown reason", b"", b"")


def test_dhcpcd_has_nothing_to_say_of_a_point_to_point_interface() -> None:
    """It watches pppd's sessions too, and would take them from the link that their ipparam names."""
    for reason in ("STATIC", "INFORM", "BOUND", "STOP", "STOPPED", "DEPARTED"):
        environment = DHCPCD_BOUND | {"reason": reason, "interface": "ppp0", "ifflags": str(0x10D1)}
        assert translated("dhcpcd", [], environment) is None
    assert dhcpcd(ifflags="").action == dhcpcd(ifflags="nonsense").action == dhcpcd(ifflags="16" * 4000).action == UP


@pytest.mark.parametrize("reason", ["EXPIRE", "NAK", "STOP"])
def test_a_lost_lease_of_dhcpcd_that_names_no_readable_address_only_has_the_link_looked_at(reason: str) -> None:
    event = dhcpcd(reason=reason, old_ip_address="198.51.100")
    assert (event.action, event.address, len(event.refused)) == (CHECK, b"", 1)


@pytest.mark.parametrize("routes, gateway, kept", [
    ("0.0.0.0/0 198.51.100.9", "198.51.100.9", []),
    ("192.0.2.0/24 198.51.100.1 0.0.0.0/0 198.51.100.9", "198.51.100.9", ["192.0.2.0/24 via 198.51.100.1"]),
    ("192.0.2.0/24 198.51.100.1", "-", ["192.0.2.0/24 via 198.51.100.1"]),  # RFC 3442: no router option
    ("192.0.2.0/24 0.0.0.0 0.0.0.0/0 198.51.100.9", "198.51.100.9", ["192.0.2.0/24 via 0.0.0.0"]),
    ("10.1.31.7/20 198.51.100.1", "-", ["10.1.16.0/20 via 198.51.100.1"]),  # host bits
])  # fmt: skip
@pytest.mark.parametrize("name", ["new_classless_static_routes", "new_ms_classless_static_routes"])
def test_option_121_as_dhcpcd_writes_it(name: str, routes: str, gateway: str, kept: list[str]) -> None:
    event = dhcpcd(**{name: routes})
    assert [f"{network_text(network, length)} via {text(router)}" for network, length, router in event.routes] == kept
    assert (text(event.gateway), event.refused) == (gateway, [])


@pytest.mark.parametrize("routes, said", [
    ("127.0.0.0/8 198.51.100.1", "127.0.0.0/8 by 198.51.100.1 is in 127.0.0.0/8"),
    ("0.0.0.0/1 198.51.100.1", "0.0.0.0/1 by 198.51.100.1 has addresses of 0.0.0.0/8 in it"),
    ("0.0.0.0/9 198.51.100.1", "0.0.0.0/9 by 198.51.100.1 is in 0.0.0.0/8"),
    ("192.0.2.0/24 224.0.0.5", "192.0.2.0/24 by 224.0.0.5 is multicast"),
])  # fmt: skip
@pytest.mark.parametrize("name", ["new_classless_static_routes", "new_ms_classless_static_routes"])
def test_a_route_of_dhcpcd_that_cannot_be_is_left_out_and_said(name: str, routes: str, said: str) -> None:
    event = dhcpcd(**{name: f"{routes} 10.0.0.0/8 198.51.100.1"})
    assert [network_text(network, length) for network, length, _ in event.routes] == ["10.0.0.0/8"]
    assert event.refused == [f"{name}: {said}"]


def test_option_249_is_read_only_where_121_is_not_there() -> None:
    both = {
        "new_classless_static_routes": "0.0.0.0/0 198.51.100.9",
        "new_ms_classless_static_routes": "0.0.0.0/0 198.51.100.8",
    }
    assert text(dhcpcd(**both).gateway) == "198.51.100.9"


@pytest.mark.parametrize("routes", [
    "0.0.0.0/0", "198.51.100.1", "192.0.2.0/24 198.51.100.1 0.0.0.0/0", "192.0.2.0 198.51.100.1", "192.0.2.0/33 1.1.1.1",
    "192.0.2.0/-1 1.1.1.1", "192.0.2.0/024x 1.1.1.1", "::/0 fe80::1", "0.0.0.0/0 fe80::1", "0.0.0.0/0 $(reboot)",
    "a/b c", " ", "\n", "\udcff", "0.0.0.0/0 198.51.100.9 " * 900, "0.0.0.0/" + "9" * 4000 + " 1.1.1.1",
])  # fmt: skip
def test_an_unreadable_option_121_of_dhcpcd_is_named_once_and_the_router_option_stands_in(routes: str) -> None:
    event = dhcpcd(new_classless_static_routes=routes)
    assert (text(event.gateway), event.routes) == ("198.51.100.1", [])
    assert len(event.refused) == 1 and "new_classless_static_routes" in event.refused[0]
    check_line(event.refused[0])


# --- ifupdown ---

STANZA = {
    "IFACE": "eth1", "LOGICAL": "eth1", "ADDRFAM": "inet", "METHOD": "static", "MODE": "start", "PHASE": "post-up",
    "IF_ADDRESS": "198.51.100.7", "IF_NETMASK": "255.255.255.0", "IF_GATEWAY": "198.51.100.1",
}  # fmt: skip


def ifupdown(reason: str = "if-up", **changes: str) -> Event | None:
    return translated("ifupdown", [reason], STANZA | changes)


@pytest.mark.parametrize("reason", ["if-up", "if-post-down"])
def test_ifupdown_is_silent_where_there_is_no_link_or_pppd_says_more(reason: str) -> None:
    for changes in (
        {"IFACE": "--all", "LOGICAL": "auto", "ADDRFAM": "meta", "METHOD": "none"},
        {"IFACE": "--all"}, {"ADDRFAM": "meta"}, {"ADDRFAM": "inet6"}, {"ADDRFAM": "can"}, {"ADDRFAM": ""},
        {"METHOD": "loopback", "IFACE": "lo"}, {"METHOD": "manual"}, {"METHOD": "ppp"}, {"METHOD": "wvdial"},
    ):  # fmt: skip
        assert ifupdown(reason, **changes) is None, changes


@pytest.mark.parametrize("reason", ["if-up", "if-post-down"])
@pytest.mark.parametrize("method", ["dhcp", "NetworkManager", "bootp", "ipv4ll", "auto", "", "$(reboot)", "STATIC"])
def test_where_somebody_else_knows_more_ifupdown_only_has_the_link_looked_at(reason: str, method: str) -> None:
    event = ifupdown(reason, METHOD=method)
    assert event and (event.action, event.address, event.gateway) == (CHECK, b"", b"")
    assert event.words == f"ifupdown {reason}"


@pytest.mark.parametrize("method", ["static", "tunnel"])
def test_a_stanza_with_gateway_is_a_link(method: str) -> None:
    event = ifupdown(METHOD=method)
    assert event and (event.action, text(event.address), text(event.gateway)) == (UP, "198.51.100.7", "198.51.100.1")
    event = ifupdown(METHOD=method, IF_ADDRESS="198.51.100.7/24")
    assert event and (event.action, text(event.address)) == (UP, "198.51.100.7")
    event = ifupdown("if-post-down", METHOD=method)
    assert event and (event.action, text(event.address), event.gateway) == (DOWN, "198.51.100.7", b"")


@pytest.mark.parametrize("changes", [
    {"IF_GATEWAY": ""}, {"IFACE": "eth1:0"}, {"IFACE": "eth1:wan", "IF_GATEWAY": ""}, {"IF_ADDRESS": ""},
])  # fmt: skip
def test_an_alias_or_a_stanza_without_gateway_says_not_which_address_the_link_has(changes: dict[str, str]) -> None:
    event = ifupdown(**changes)
    assert event and (event.interface, event.action, event.gateway, event.refused) == ("eth1", CHECK, b"", [])


def test_an_alias_that_goes_takes_its_own_address_and_no_other() -> None:
    event = ifupdown("if-post-down", IFACE="eth1:0", IF_ADDRESS="198.51.100.9")
    assert event and (event.interface, event.action, text(event.address)) == ("eth1", DOWN, "198.51.100.9")


@pytest.mark.parametrize("changes, refused", [
    ({"IF_ADDRESS": "$(reboot)"}, "address"), ({"IF_ADDRESS": "0.0.0.0"}, "address"),
    ({"IF_ADDRESS": "2001:db8::7"}, "address"), ({"IF_GATEWAY": "none"}, "gateway"),
    ({"IF_GATEWAY": "198.51.100.7"}, "gateway"), ({"IF_GATEWAY": "224.0.0.1"}, "gateway"),
])  # fmt: skip
def test_a_stanza_with_nonsense_is_looked_at_and_named(changes: dict[str, str], refused: str) -> None:
    event = ifupdown(**changes)
    assert event and (event.action, event.gateway, len(event.refused)) == (CHECK, b"", 1)
    assert event.refused[0].startswith(f"{refused} ")


@pytest.mark.parametrize("reason", ["", "if-down", "if-pre-up", "if-up; reboot", "up", "\n" * 131072])
def test_other_folders_of_ifupdown_are_no_event(reason: str) -> None:
    with pytest.raises(Refused) as caught:
        ifupdown(reason)
    check_line(str(caught.value))


# --- hostile ---

SHELL = (
    "$(reboot)", "$(touch /tmp/multihook-canary)", ";id", "`id`", "|id", "&& id", "$IFS", "${IFS}id", "'", '"', "'\"'",
    "\\",
    "\\n", "a'b\"c", ">x", "*", "?", "~", "#", "!id", "%s%s%n", "-x", "--help", "../../../etc/passwd", "/", ".", "..",
    "{}", "{{7*7}}", "() { :;}; id", "a=b", "=", "end", "-", "None", "0", "0x7f000001", "2130706433", "1e9", "nan",
)  # fmt: skip
CONTROL = (
    "\n", "a\nb", "\r\n", "\t", " ", "  ", "\x01", "\x1b[31m", "\x7f", "\x85", "\xa0", "\u2028", "\u202e", "\ufeff",
    "é", "１.２.３.４",
    "\udcff", "\udc80\udcfe", "a\udcffb", "198.51.100.9\n", "198.51.100.9\nnew_routers=1.2.3.4", "\n198.51.100.9;id",
)  # fmt: skip
HUGE = (
    "x" * 131071,
    "\x01" * 131071,
    "\udcff" * 131071,
    "é" * 65535,
    "$(reboot)" * 14563,
    "198.51.100.9;" * 10000,
    "'" * 131071,
)
NUMBERS = (
    "0.0.0.0", "127.0.0.9", "224.0.0.5", "255.255.255.255", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.04", "1..2.3",
    "1.2.3.4/0",
    "::", "::1", "ff02::1", "fe80::1%eth0", "::ffff:1.2.3.4", "1:2:3:4:5:6:7:8:9", ":", "198.51.100.9;id",
    "198.51.100.9|198.51.100.9",
)  # fmt: skip
HOSTILE = SHELL + CONTROL + HUGE + NUMBERS


def shown(value: str) -> str:
    """A short name for a hostile value in the name of a test."""
    return ascii(value[:24]) + (f"x{len(value)}" if len(value) > 24 else "")


def check_line(line: str) -> None:
    """One printable line of bounded length: fit for the log and for a terminal."""
    assert line.isprintable() and line.isascii(), ascii(line[:200])
    assert 0 < len(line) <= LONGEST_LINE


def check_event(event: Event) -> None:
    """Whatever was said, an event only ever holds what may be used."""
    assert is_interface_name(event.interface)
    assert event.action in (UP, DOWN, CHECK)
    for address in (event.address, event.gateway, event.server, *event.resolvers):
        assert address == b"" or (len(address) == 4 and why_unusable(address) is None)
    assert event.gateway == b"" or event.gateway != event.address
    assert len(event.resolvers) <= MOST_VALUES
    for network, length, router in event.routes:
        assert 0 < length <= 32 and network_of(network, length) == network and why_unusable(network) is None
        assert not any(router) or why_unusable(router) is None
    for name in (event.ipparam, event.linkname):
        assert len(name) <= 256 and name.isprintable()
    assert event.words.isprintable()
    assert len(event.refused) <= 12
    for line in event.refused:
        check_line(line)


def attempt(source: str, arguments: list[str], environment: dict[str, str]) -> Event | None:
    """The event, if any; a refusal as a whole must be a fit line too, and anything else raised is a failure."""
    try:
        event = translated(source, arguments, environment)
    except Refused as refused:
        check_line(str(refused))
        return None
    if event is not None:
        check_event(event)
    return event


@pytest.mark.fault("F25")
@pytest.mark.parametrize("value", HOSTILE, ids=shown)
@pytest.mark.parametrize("variable", sorted(VARIABLES["dhclient"]))
def test_a_hostile_value_in_any_variable_of_dhclient_comes_to_nothing(variable: str, value: str) -> None:
    for reason in ("BOUND", "EXPIRE", "INFORM"):
        environment = {**BOUND, "reason": reason, variable: value}
        event = attempt("dhclient", [], environment)
        if variable == "interface" and not is_interface_name(value):
            assert event is None
        elif event and reason == "BOUND" and variable in ("new_ip_address", "new_dhcp_server_identifier"):
            address = event.address if variable == "new_ip_address" else event.server
            assert address == b""
            assert value == "" or any(line.startswith(variable) for line in event.refused)
        elif event and reason == "BOUND" and variable == "new_routers" and value.split()[:1] != ["198.51.100.9"]:
            assert event.gateway == b""
            assert not value.split() or any(line.startswith(variable) for line in event.refused)


@pytest.mark.fault("F25")
@pytest.mark.parametrize("value", HOSTILE, ids=shown)
@pytest.mark.parametrize("variable", sorted(VARIABLES["dhcpcd"]))
def test_a_hostile_value_in_any_variable_of_dhcpcd_comes_to_nothing(variable: str, value: str) -> None:
    for reason in ("BOUND", "EXPIRE", "IPV4LL"):
        event = attempt("dhcpcd", [], {**DHCPCD_BOUND, "reason": reason, variable: value})
        if variable == "interface" and not is_interface_name(value):
            assert event is None
        elif event and reason == "BOUND" and variable in ("new_ip_address", "new_dhcp_server_identifier"):
            assert (event.address if variable == "new_ip_address" else event.server) == b""


@pytest.mark.fault("F25")
@pytest.mark.parametrize("value", HOSTILE, ids=shown)
@pytest.mark.parametrize("variable", sorted(VARIABLES["ifupdown"]))
def test_a_hostile_value_in_any_variable_of_ifupdown_comes_to_nothing(variable: str, value: str) -> None:
    for reason in ("if-up", "if-post-down"):
        event = attempt("ifupdown", [reason], {**STANZA, variable: value})
        if variable == "IFACE" and not is_interface_name(value.partition(":")[0]):
            assert event is None
        elif variable == "ADDRFAM":
            assert event is None
        elif event and variable == "METHOD":
            assert event.action == CHECK


@pytest.mark.parametrize("value", HOSTILE, ids=shown)
@pytest.mark.parametrize("position", range(7))
def test_a_hostile_argument_of_pppd_comes_to_nothing(position: int, value: str) -> None:
    for reason in ("ip-up", "ip-down"):
        arguments = [reason, *IP_UP[1:]]
        arguments[position] = value
        event = attempt("pppd", arguments, {})
        if position == 0 or (position == 1 and not is_interface_name(value)):
            assert event is None
        if position == 4:
            assert event and event.address == b"" and len(event.refused) == 1


@pytest.mark.parametrize("value", HOSTILE, ids=shown)
@pytest.mark.parametrize("variable", sorted(VARIABLES["pppd"]))
def test_a_hostile_variable_of_pppd_comes_to_nothing(variable: str, value: str) -> None:
    event = attempt("pppd", IP_UP, {variable: value})
    assert event and text(event.address) == "203.0.113.45"
    if variable.startswith("DNS"):
        assert event.resolvers == []
        assert len(event.refused) == 1


@pytest.mark.fault("F26")
@pytest.mark.parametrize("value", [HUGE[0], HUGE[2], "198.51.100.9 " * 10082], ids=shown)
def test_everything_hostile_at_once_is_over_in_no_time(value: str) -> None:
    attempt("dhclient", [], dict.fromkeys(VARIABLES["dhclient"], value) | {"reason": "BOUND"})
    environment = dict.fromkeys(VARIABLES["dhclient"], value) | {"reason": "BOUND", "interface": "eth1"}
    event = attempt("dhclient", [], environment)
    assert event and event.action == UP


# F31: names that the kernel accepts, and what reads them as something else.
ODD_NAMES = (
    "a;id", "b$(id)", "c*", 'd"q', "e'q", "é", "-x", "p%d", "#c", "a|b", "a\\b", "~", "a@b", "\x01", "a b", "a/b", "",
    ".", "..",
    "x" * 16, "_x", ".x", "a\n", "\na", "a:1", "a[0]", "a{b}", "a?", "eth0\udcff", "ａ",
)  # fmt: skip
PLAIN_NAMES = ("0", "drop", "ppp0", "eth0.100", "wwan0", "enx0123456789ab", "a_b-c.d", "X", "9p", "all1", "br-lan")


@pytest.mark.fault("F31", "F32")
@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_an_interface_name_that_anything_misreads_is_refused_by_name(name: str) -> None:
    for attack in (
        lambda: sources.translate("pppd", ["ip-up", name, *IP_UP[2:]], {}),
        lambda: sources.translate("dhclient", [], BOUND | {"interface": name}),
        lambda: sources.translate("dhclient", [], BOUND | {"interface": name, "reason": "INFORM"}),
        lambda: sources.translate("dhcpcd", [], DHCPCD_BOUND | {"interface": name}),
    ):
        with pytest.raises(Refused) as caught:
            attack()
        line = str(caught.value)
        check_line(line)
        assert f'"{ascii(name)[1:-1]}"' in line


@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_an_ordinary_interface_name_is_accepted(name: str) -> None:
    assert pppd("ip-up", name, *IP_UP[2:]).interface == name
    assert dhclient(interface=name).interface == name


@pytest.mark.parametrize("ipparam", ["$(reboot)", ";id", "`id`", "a b", 'x"y', "dsl'", "*", "\\"])
def test_a_printable_ipparam_is_kept_as_it_is_for_it_is_only_ever_compared(ipparam: str) -> None:
    event = pppd(*IP_UP[:6], ipparam, LINKNAME=ipparam)
    assert (event.ipparam, event.linkname, event.refused) == (ipparam, ipparam, [])


@pytest.mark.parametrize("ipparam", ["a\nb", "\x1b[2J", "x" * 257, "\udcff", "a\u2028b"], ids=shown)
def test_an_ipparam_that_is_no_line_is_dropped_and_named(ipparam: str) -> None:
    event = pppd(*IP_UP[:6], ipparam, LINKNAME=ipparam)
    assert (event.ipparam, event.linkname, len(event.refused)) == ("", "", 2)
    assert text(event.address) == "203.0.113.45"


# --- the allow-list ---


class Watched(dict[str, str]):
    """Variables that remember which of them were asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, key: str, default: str = "") -> str:  # type: ignore[override]
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> str:
        self.asked.add(key)
        return super().__getitem__(key)


@pytest.mark.fault("F25")
def test_each_variable_on_the_allow_list_is_read_and_no_other() -> None:
    told = [
        ("dhclient", Watched(BOUND | {"reason": reason, "new_rfc3442_classless_static_routes": routes}))
        for reason in ("BOUND", "EXPIRE", "INFORM")
        for routes in ("", "0 198 51 100 9")
    ]
    told.append(("pppd", Watched({"LINKNAME": "l1", "DNS1": "192.0.2.1", "DNS2": "192.0.2.2"})))
    told += [("dhcpcd", Watched(DHCPCD_BOUND | {"reason": reason})) for reason in ("BOUND", "EXPIRE", "NOCARRIER")]
    told.append(("ifupdown", Watched(STANZA)))
    asked: dict[str, set[str]] = {source: set() for source in VARIABLES}
    for source, variables in told:
        sources.translate(source, ["if-up"] if source == "ifupdown" else IP_UP, variables)
        asked[source] |= variables.asked
    assert asked == {source: set(names) for source, names in VARIABLES.items()}


def test_only_the_variables_on_the_list_leave_the_environment() -> None:
    environment = {
        b"reason": b"BOUND", b"interface": b"eth1", b"LD_PRELOAD": b"/tmp/x.so", b"PATH": b"/tmp", b"IFS": b"x",
        b"new_domain_name": b"$(reboot)", b"new_host_name": b";id", b"new_wpad": b"`id`", b"PYTHONPATH": b"/tmp",
        b"\xff": b"x",
    }  # fmt: skip
    assert spool.pick(environment, VARIABLES["dhclient"]) == {"reason": "BOUND", "interface": "eth1"}
    assert spool.pick({}, VARIABLES["dhclient"]) == {}
    assert spool.pick({b"interface": b"\xff\xfe"}, VARIABLES["dhclient"]) == {"interface": "\udcff\udcfe"}


def test_the_captures_hold_no_password() -> None:
    for path in CAPTURES.rglob("*.env"):
        for found in re.findall(r" password (\S+)", path.read_text()):
            assert set(found) == {"?"}


def test_the_checks_of_this_file_can_tell_right_from_wrong() -> None:
    event = dhclient()
    event.gateway = parse("127.0.0.1") or b""
    with pytest.raises(AssertionError):
        check_event(event)
    for line in ("a\nb", "x" * 1000, "", "\x1b"):
        with pytest.raises(AssertionError):
            check_line(line)
    assert not is_link_local(parse("198.51.100.7") or b"")
    assert in_network(parse("198.51.100.7") or b"", parse("198.51.100.0") or b"", 24)

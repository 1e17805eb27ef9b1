"""Which links there are: matching of events, adoption, names, and the way out of each."""

import itertools
import os
import random
from pathlib import Path

import pytest
from painted_kernel import Painted, address
from painted_view import configuration

from multihook import census, leases, links, paths
from multihook.address import INET, is_link_name, text
from multihook.leases import Lease
from multihook.sources import CHECK, DOWN, UP, Event


def lease(interface: str = "eth1", link: str = "x", **values: object) -> Lease:
    made = Lease(link, interface, INET)
    for name, value in values.items():
        setattr(made, name, address(value) if name in ("address", "gateway") and isinstance(value, str) else value)
    return made


# --- matching ---

THREE = """
[link.by-param]
ipparam = "dsl"
table = 201
[link.by-name]
linkname = "l1"
table = 202
[link.by-interface]
interface = "ppp0"
table = 203
"""


@pytest.mark.parametrize("interface, ipparam, linkname, link", [
    ("ppp0", "", "", "by-interface"),
    ("ppp1", "", "", ""),
    ("ppp1", "dsl", "", "by-param"),
    ("ppp1", "", "l1", "by-name"),
    ("ppp0", "dsl", "", "by-param"),
    ("ppp0", "", "l1", "by-name"),
    ("ppp0", "dsl", "l1", "by-param"),
    ("ppp0", "other", "other", "by-interface"),
    ("ppp1", "other", "l1", "by-name"),
    ("ppp1", "l1", "dsl", ""),  # each word only in its own place
    ("dsl", "", "", ""),
    ("ppp1", "DSL", "", ""),
    ("ppp1", "dsl ", "", ""),
])  # fmt: skip
def test_what_names_the_line_goes_before_what_names_the_interface(
    interface: str, ipparam: str, linkname: str, link: str
) -> None:
    config = configuration(THREE)
    assert links.match(config, interface, ipparam, linkname) == link
    event = Event("pppd", "ip-up", interface, UP)
    event.ipparam, event.linkname = ipparam, linkname
    assert links.concerns(config, event) == (link or links.adopted_name(config, interface))


def test_an_event_of_nobody_is_nobodys() -> None:
    event = Event("pppd", "ip-up", "ppp7", UP)
    assert links.concerns(configuration(THREE + "[multihook]\nadopt = false\n"), event) == ""
    assert links.concerns(configuration(THREE), event) == "ppp7"
    unusable = configuration(THREE)
    unusable["usable"] = False
    assert links.concerns(unusable, event) == ""
    for action in (UP, DOWN, CHECK):
        assert (
            links.concerns(configuration('[multihook]\nignore = ["ppp*"]\n'), Event("pppd", "x", "ppp7", action)) == ""
        )


def test_an_empty_ipparam_or_linkname_is_no_key() -> None:
    config = configuration(THREE)
    config["by_ipparam"][""] = config["by_linkname"][""] = "by-param"
    assert links.match(config, "ppp1", "", "") == ""


@pytest.mark.parametrize("pattern, fits, fits_not", [
    ("wg*", ["wg", "wg0", "wg-office"], ["awg", "w", "WG0", "xwg0"]),
    ("docker*", ["docker0"], ["dockr0"]),
    ("eth0", ["eth0"], ["eth00", "eth", "eth1", "eth0.100"]),
    ("eth?", ["eth0", "eth1"], ["eth", "eth10"]),
    ("eth?.*", ["eth0.100", "eth1."], ["eth0", "eth10.1"]),
    ("*", ["a", "ppp0"], []),
    ("?", ["a"], ["ab", ""]),
    ("*.100", ["eth0.100", ".100"], ["eth0.1001", "eth0x100"]),
    ("*a*", ["a", "xax", "aaa"], ["xyz"]),
    ("v?th*-*", ["veth0-a", "vath-"], ["vth0-a", "veth0"]),
    ("ppp**", ["ppp", "ppp0"], ["pp"]),
])  # fmt: skip
def test_ignore_patterns_mean_what_a_shell_means_by_them(pattern: str, fits: list[str], fits_not: list[str]) -> None:
    config = configuration()
    config["ignore"] = ["unlikely", pattern]
    for name in fits:
        assert links.is_ignored(config, name), name
    for name in fits_not:
        assert not links.is_ignored(config, name), name


def test_ignore_patterns_agree_with_the_books() -> None:
    from fnmatch import fnmatchcase

    chance = random.Random(4)
    config = configuration()
    for _ in range(3000):
        pattern = "".join(chance.choices("ab*?.", k=chance.randrange(1, 7)))
        name = "".join(chance.choices("ab.", k=chance.randrange(1, 7)))
        config["ignore"] = [pattern]
        assert links.is_ignored(config, name) == fnmatchcase(name, pattern), (pattern, name)


@pytest.mark.timeout(2)
def test_a_pattern_of_many_stars_is_over_in_no_time() -> None:
    config = configuration()
    config["ignore"] = ["a" + "*a" * 10 + "b", "*" * 31 + "b", "*?" * 15 + "b"]
    assert not links.is_ignored(config, "a" * 15)


# --- names of adopted links ---


@pytest.mark.parametrize("interface, name", [
    ("ppp0", "ppp0"), ("eth1", "eth1"), ("wwan0", "wwan0"), ("enx0123456789ab", "enx0123456789ab"),
    ("br-lan", "br-lan"), ("a_b", "a_b"),
])  # fmt: skip
def test_an_adopted_link_is_called_as_its_interface_where_that_will_do(interface: str, name: str) -> None:
    assert links.adopted_name(configuration(), interface) == name


TRICKY = (
    "eth0", "Eth0", "ETH0", "eth0.100", "eth0-100", "eth0_100", "eth0.1-0", "eth0-1.0", "0", "if-0", "9p", "if-9p",
    "main", "if-main",
    "balance", "if-balance", "default", "local", "all", "cache", "unspec", "123456789012345", "123456789012346",
    "1234567890123.5",
    "a.b", "a-b", "A.B", "a_b", "x" * 15, "X" * 15, "ppp0", "PPP0", "dsl", "cable", "a..", "a.-", "a--", "A--",
)  # fmt: skip


def test_every_adopted_link_has_a_name_that_can_be_a_tables_and_nobody_elses() -> None:
    config = configuration(
        '[link.dsl]\ninterface = "ppp9"\n[link.eth0]\ninterface = "eth9"\n', used_names=("cable", "a-b")
    )
    names = {interface: links.adopted_name(config, interface) for interface in TRICKY}
    for interface, name in names.items():
        assert is_link_name(name), (interface, name)
        assert name not in config["links"] and name not in config["used_names"], (interface, name)
        assert links.adopted_name(config, interface) == name  # for ever
    doubles = [pair for pair in itertools.combinations(names.items(), 2) if pair[0][1] == pair[1][1]]
    assert doubles == []


def test_the_name_of_an_adopted_link_does_not_depend_on_the_other_interfaces() -> None:
    assert links.adopted_name(configuration(), "eth0.100") == links.adopted_name(configuration(THREE), "eth0.100")


# --- adoption ---


def machine() -> Painted:
    kernel = Painted()
    kernel.link("eth1", "198.51.100.7/24")
    kernel.link("eth2", "203.0.113.7/24")
    kernel.route("default", "eth2", via="203.0.113.1")
    kernel.link("ppp0", "192.0.2.45 peer 192.0.2.1", ppp=True)
    kernel.route("default", "ppp0", metric=100)
    kernel.link("ppp1", "192.0.2.99 peer 192.0.2.98", ppp=True)
    kernel.link("lan0", "192.168.1.1/24")
    for number in range(3):
        kernel.link(f"in{number}", f"10.9.9.1 peer 10.9.9.{number + 10}", ppp=True)
    kernel.route("default", "in0")
    kernel.link("zeroconf", "169.254.7.7/16")
    return kernel


@pytest.mark.parametrize("interface, own, source, gateway, by_default, adoptable, why", [
    ("eth1", "198.51.100.7", "dhclient", "198.51.100.1", False, True, "a DHCP lease with a router"),
    ("eth1", "198.51.100.7", "dhcpcd", "198.51.100.1", False, True, "a DHCP lease with a router"),
    ("eth1", "198.51.100.7", "dhclient", "", False, False, "a lease without a router"),
    ("eth1", "198.51.100.7", "ifupdown", "198.51.100.1", False, True, "a stanza with gateway"),
    ("eth1", "198.51.100.7", "ifupdown", "", False, False, "a stanza without gateway"),
    ("eth1", "198.51.100.7", "command", "", False, True, "by hand"),
    ("eth1", "198.51.100.7", "kernel", "198.51.100.1", False, False, "nobody's word"),
    ("eth1", "198.51.100.7", "pppd", "198.51.100.1", False, False, "pppd tells no router"),
    ("eth2", "203.0.113.7", "kernel", "", False, True, "a default route of main"),
    ("eth2", "203.0.113.7", "dhclient", "", False, True, "a default route of main"),
    ("eth1", "198.51.100.7", "kernel", "", True, True, "it had a default route when it was adopted"),
    ("ppp0", "192.0.2.45", "pppd", "", False, True, "pppd defaultroute"),
    ("ppp1", "192.0.2.99", "pppd", "", False, False, "a dial-in session"),
    ("in0", "10.9.9.1", "pppd", "", False, False, "dial-in sessions share the server's address, default route or not"),
    ("in1", "10.9.9.1", "command", "", False, False, "an address of two interfaces, by hand too"),
    ("in2", "10.9.9.1", "dhclient", "10.9.9.12", True, False, "an address of two interfaces"),
    ("lan0", "192.168.1.1", "ifupdown", "", False, False, "the office"),
    ("lo", "127.0.0.1", "command", "", True, False, "the loopback"),
    ("zeroconf", "169.254.7.7", "dhclient", "169.254.0.1", False, False, "IPV4LL"),
    ("eth1", "", "dhclient", "198.51.100.1", True, False, "no address"),
    ("gone0", "198.51.100.7", "dhclient", "198.51.100.1", False, False, "no interface"),
])  # fmt: skip
def test_adopted_is_what_leads_to_the_internet_by_somebodys_word(
    interface: str, own: str, source: str, gateway: str, by_default: bool, adoptable: bool, why: str
) -> None:
    one = lease(interface, address=address(own) if own else b"", gateway=address(gateway) if gateway else b"")
    one.source, one.by_default = source, by_default
    assert links.is_adoptable(one, machine().facts()) == adoptable, why


def surveyed(kernel: Painted, settings: str = "", *records: Lease) -> dict[str, str]:
    """{link: interface} of all links with an address that a look at everything finds, with these records."""
    for one in records:
        leases.store(one)
    found = census.of_everything(configuration(settings), kernel.door(), [])
    return {name: one.interface for (name, _), one in found.after.items() if one.address}


@pytest.fixture
def no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.umask(0o022)
    monkeypatch.setattr(leases, "LEASES", str(tmp_path / "leases"))
    monkeypatch.setattr(paths, "TABLES", str(tmp_path / "tables"))


@pytest.mark.usefixtures("no_state")
def test_interfaces_with_a_default_route_that_nobody_told_of_are_found() -> None:
    assert surveyed(machine()) == {"eth2": "eth2", "ppp0": "ppp0"}  # in0 shares its address
    assert surveyed(machine(), "[multihook]\nadopt = false\n") == {}
    assert surveyed(machine(), '[multihook]\nignore = ["pp*"]\n') == {"eth2": "eth2"}


@pytest.mark.usefixtures("no_state")
def test_an_interface_that_has_a_link_already_is_not_found_once_more() -> None:
    settings = '[link.dsl]\ninterface = "ppp0"\ntable = 200\n'
    assert surveyed(machine(), settings) == {"dsl": "ppp0", "eth2": "eth2"}
    by_param = '[link.dsl]\nipparam = "dsl"\ntable = 200\n'
    assert surveyed(machine(), by_param, lease("ppp0", "dsl", ipparam="dsl", address="192.0.2.45")) == {
        "dsl": "ppp0",
        "eth2": "eth2",
    }


@pytest.mark.usefixtures("no_state")
def test_an_interface_with_two_default_routes_is_found_once() -> None:
    kernel = machine()
    kernel.route("default", "eth2", via="203.0.113.9", metric=5)
    assert surveyed(kernel) == {"eth2": "eth2", "ppp0": "ppp0"}


@pytest.mark.fault("F31", "F32")
@pytest.mark.usefixtures("no_state")
@pytest.mark.parametrize(
    "name", ["c*", "a;id", "b$(id)", "d'q", 'd"q', "é", "-x", "p%d", "#c", "a|b", "~", "a@b", "\x01", "a\\b"]
)
def test_an_interface_whose_name_anything_misreads_is_never_adopted(name: str) -> None:
    """F31: rules, `ip` and file names would mean something else; and a dry run would print it for a shell."""
    kernel = machine()
    kernel.link(name, "198.18.7.7/24")
    kernel.route("default", name, via="198.18.7.1")
    assert surveyed(kernel) == {"eth2": "eth2", "ppp0": "ppp0"}


@pytest.mark.usefixtures("no_state")
def test_configured_links_that_nobody_told_of_are_looked_at_by_their_interface() -> None:
    kernel = machine()
    settings = '[link.dsl]\nipparam = "x"\ntable = 202\n'
    settings += '[link.cable]\ninterface = "eth1"\ntable = 201\ngateway = "198.51.100.1"\n'
    assert surveyed(kernel, settings + "[multihook]\nadopt = false\n") == {"cable": "eth1"}


@pytest.mark.usefixtures("no_state")
def test_what_names_the_line_goes_before_what_names_the_interface_when_everything_is_looked_at_too() -> None:
    known = lease("ppp0", "by-param", ipparam="dsl", address="192.0.2.45", source="pppd")
    assert surveyed(machine(), THREE + "[multihook]\nadopt = false\n", known) == {"by-param": "ppp0"}


@pytest.mark.usefixtures("no_state")
def test_a_record_whose_link_the_configuration_calls_otherwise_now_moves_with_it() -> None:
    known = lease("ppp0", "ppp0", address="192.0.2.45", source="pppd", ipparam="dsl")
    assert surveyed(machine(), '[link.line]\nipparam = "dsl"\ntable = 200\n', known) == {"line": "ppp0", "eth2": "eth2"}


@pytest.mark.fault("F30")
@pytest.mark.usefixtures("no_state")
def test_an_address_on_two_interfaces_is_one_links_only_and_never_an_adopted_ones() -> None:
    kernel = machine()
    kernel.address("lan0", "203.0.113.7/32")
    assert surveyed(kernel) == {"ppp0": "ppp0"}
    kernel = machine()
    kernel.link("ppp9", "192.0.2.45 peer 192.0.2.1", ppp=True)
    settings = '[link.one]\ninterface = "ppp0"\ntable = 201\n[link.two]\ninterface = "ppp9"\ntable = 202\n'
    found = census.of_everything(configuration(settings), kernel.door(), [])
    shared = {link.name: [path.shared for path in link.paths.values()] for link in found.links}
    assert (shared["one"], shared["two"]) == ([False], [True])
    assert any("also that of one" in note for link in found.links for note in link.notes)


# --- the way out ---


def resolved(kernel: Painted, one: Lease | None, settings: str = "", name: str = "x") -> links.Link:
    return links.resolve(name, 200, configuration(settings), [one] if one else [], kernel.facts())


def exit_of(link: links.Link) -> tuple[bool, str, bool]:
    path = link.paths[INET]
    return path.has_exit, text(path.gateway), path.onlink


CABLE = '[link.x]\ninterface = "eth1"\ntable = 200\ngateway = "198.51.100.3"\n'


def test_the_learnt_next_hop_goes_before_the_configured_one_and_that_before_mains() -> None:
    kernel = machine()
    kernel.route("default", "eth1", via="198.51.100.4")
    learnt = lease(address="198.51.100.7", gateway="198.51.100.2")
    silent = lease(address="198.51.100.7")
    assert exit_of(resolved(kernel, learnt, CABLE)) == (True, "198.51.100.2", False)
    assert exit_of(resolved(kernel, silent, CABLE)) == (True, "198.51.100.3", False)
    assert exit_of(resolved(kernel, silent)) == (True, "198.51.100.4", False)


def test_a_next_hop_off_the_segment_is_onlink() -> None:
    assert exit_of(resolved(machine(), lease(address="198.51.100.7", gateway="192.0.2.1"))) == (True, "192.0.2.1", True)


def test_point_to_point_links_need_no_next_hop() -> None:
    assert exit_of(resolved(machine(), lease("ppp1", address="192.0.2.99", gateway="192.0.2.98"))) == (True, "-", False)
    kernel = Painted()
    kernel.link("eth5", "192.0.2.5 peer 192.0.2.6")  # a peer on a card does as well
    assert exit_of(resolved(kernel, lease("eth5", address="192.0.2.5"))) == (True, "-", False)


def test_without_any_next_hop_there_is_no_way_out_and_a_note_says_so() -> None:
    link = resolved(machine(), lease(address="198.51.100.7"))
    assert exit_of(link) == (False, "-", False)
    assert link.notes == ["no next hop is known"]


def test_a_default_of_main_without_a_next_hop_will_do() -> None:
    kernel = machine()
    kernel.route("default", "eth1")
    assert exit_of(resolved(kernel, lease(address="198.51.100.7"))) == (True, "-", False)


@pytest.mark.fault("F27")
def test_a_next_hop_that_is_an_address_of_this_machine_is_not_used() -> None:
    for own in ("198.51.100.7", "203.0.113.7"):  # its own, or another link's
        link = resolved(machine(), lease(address="198.51.100.7", gateway=own))
        assert exit_of(link)[:2] == (False, "-")
        assert link.refused == [f"next hop {own} is an address of this machine"]
    link = resolved(machine(), lease(address="198.51.100.7", gateway="203.0.113.7"), CABLE)
    assert exit_of(link) == (True, "198.51.100.3", False)


@pytest.mark.fault("F27")
@pytest.mark.parametrize("router, why", [
    ("198.51.100.0", "the network or broadcast address of its own segment"),
    ("198.51.100.255", "the network or broadcast address of its own segment"),
    ("224.0.0.5", "multicast"),
    ("127.0.0.1", "in 127.0.0.0/8"),
])  # fmt: skip
def test_a_next_hop_that_the_kernel_would_refuse_is_refused_by_name(router: str, why: str) -> None:
    link = resolved(machine(), lease(address="198.51.100.7", gateway=router), CABLE)
    assert exit_of(link) == (True, "198.51.100.3", False)
    assert link.refused == [f"next hop {router} is {why}"]


@pytest.mark.fault("F28")
@pytest.mark.parametrize(
    "own, router",
    [("198.51.100.0/31", "198.51.100.1"), ("198.51.100.1/31", "198.51.100.0"), ("198.51.100.1/32", "198.51.100.255")],
)
def test_networks_of_two_addresses_or_one_have_no_broadcast_address(own: str, router: str) -> None:
    kernel = Painted()
    kernel.link("eth5", own)
    link = resolved(kernel, lease("eth5", address=own.partition("/")[0], gateway=router))
    assert exit_of(link)[:2] == (True, router)


def test_a_link_that_is_down_has_no_way_out_and_needs_no_note() -> None:
    for one in (lease(address=b""), lease(address="198.51.100.7", held=True), lease("gone0", address="198.51.100.7")):
        link = resolved(machine(), one)
        assert exit_of(link) == (False, "-", False)
        assert not link.is_up
        assert "no next hop is known" not in link.notes
    assert resolved(machine(), None, CABLE).interface_name == "eth1"
    assert not resolved(machine(), None, CABLE).is_up


def test_an_interface_set_down_keeps_the_address_but_carries_nothing() -> None:
    kernel = machine()
    kernel.set("eth1", up=False)
    link = resolved(kernel, lease(address="198.51.100.7", gateway="198.51.100.1"))
    assert (link.is_up, link.has_address) == (False, True)
    assert link.notes == ["its interface is set down"]


def test_what_is_odd_about_an_interface_is_noted() -> None:
    kernel = machine()
    kernel.set("eth1", group=7, carrier=False)
    link = resolved(kernel, lease(address="198.51.100.7", gateway="198.51.100.1"))
    assert link.notes == ["interface group 7 is another program's; left alone", "no carrier"]
    (note,) = [one for one in resolved(machine(), lease(address="198.51.100.7", held=True)).notes if "by hand" in one]
    assert note == "down by hand; `multihook up eth1` takes it back"


def test_settings_come_from_the_configuration_and_are_off_for_adopted_links() -> None:
    link = resolved(
        machine(), None, CABLE + 'lan = true\nsnat = true\nsources = ["192.0.2.32/28"]\nnetworks = ["10.0.0.0/8"]\n'
    )
    assert (link.adopted, link.lan, link.snat) == (False, True, True)
    assert (link.sources, link.networks) == ([(address("192.0.2.32"), 28)], [(address("10.0.0.0"), 8)])
    adopted = resolved(machine(), lease(address="198.51.100.7"))
    assert (adopted.adopted, adopted.lan, adopted.snat, adopted.sources, adopted.networks) == (
        True,
        False,
        False,
        [],
        [],
    )

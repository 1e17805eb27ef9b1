"""Addresses, prefixes and names: what is accepted from outside, and how it is printed."""

import ipaddress
import random
import string

import pytest

from multihook import address
from multihook.address import INET, INET6


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def some_addresses(count: int = 300) -> list[bytes]:
    """Addresses of both families from all over, the same in each run."""
    chance = random.Random(109)
    edges = [bytes(4), b"\xff" * 4, bytes(16), b"\xff" * 16, packed("127.0.0.1"), packed("::1"), packed("fe80::1")]
    return edges + [chance.randbytes(length) for length in (4, 16) for _ in range(count)]


def test_an_address_read_is_printed_as_it_was_and_by_the_books() -> None:
    for one in some_addresses():
        shown = address.text(one)
        assert address.parse(shown) == one
        assert ipaddress.ip_address(shown).packed == one
        assert address.family_of(one) == (INET if len(one) == 4 else INET6)
        # as long as it is read at all, the long notation is the same address
        assert address.parse(ipaddress.ip_address(one).exploded) == one


@pytest.mark.parametrize("text", [
    "", " ", ".", ":", "1", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.04", "1.2.3.4 ", " 1.2.3.4",
    "1.2.3.4\n", "1.2.3.4\0",
    "0x1.2.3.4", "1.2.3.-4", "+1.2.3.4", "1.2.3.4/24", "1,2,3,4", "localhost", "router.example", "::1%lo",
    "fe80::1%eth0", ":::", "1::2::3",
    "12345::", "g::", "[::1]", "::1.2.3.256", "1.2.3.4:80", "１.２.３.４", "1.2.3.٤", "\udcff", "\ud800", "-", "None",
    "1" * 46, ":" * 131072,
])  # fmt: skip
def test_what_inet_pton_would_not_take_is_no_address(text: str) -> None:
    assert address.parse(text) is None


def test_nothing_makes_the_reader_of_addresses_fail() -> None:
    chance = random.Random(7)
    for _ in range(3000):
        text = "".join(chance.choices(string.hexdigits + ":.:./%- \0\udcff", k=chance.randrange(50)))
        found = address.parse(text)
        assert found is None or len(found) in (4, 16)
        network = address.parse_network(text)
        assert network is None or network[1] <= len(network[0]) * 8
        assert address.parse_netmask(text) in (None, *range(33))


def test_no_address_is_shown_as_a_dash() -> None:
    assert address.text(b"") == "-"


def test_membership_in_a_network_is_that_of_the_books() -> None:
    chance = random.Random(3)
    for _ in range(2000):
        length = chance.choice((4, 16))
        prefixlen = chance.randrange(length * 8 + 1)
        network = address.network_of(chance.randbytes(length), prefixlen)
        one = chance.choice((chance.randbytes(length), network[:-1] + chance.randbytes(1), network))
        book = ipaddress.ip_network((network, prefixlen))
        assert address.in_network(one, network, prefixlen) == (ipaddress.ip_address(one) in book)
        assert book.network_address.packed == network


def test_no_network_holds_an_address_of_the_other_family() -> None:
    assert not address.in_network(packed("1.2.3.4"), bytes(16), 0)
    assert not address.in_network(packed("::"), bytes(4), 0)
    assert not address.in_network(b"", bytes(4), 0)


@pytest.mark.parametrize("text, network, prefixlen, shown", [
    ("192.0.2.32/28", "192.0.2.32", 28, "192.0.2.32/28"),
    ("192.0.2.33", "192.0.2.33", 32, "192.0.2.33"),
    ("192.0.2.33/32", "192.0.2.33", 32, "192.0.2.33"),
    ("192.0.2.32/31", "192.0.2.32", 31, "192.0.2.32/31"),
    ("0.0.0.0/0", "0.0.0.0", 0, "default"),
    ("10.0.0.0/8", "10.0.0.0", 8, "10.0.0.0/8"),
    ("2001:db8::/32", "2001:db8::", 32, "2001:db8::/32"),
    ("2001:db8::1", "2001:db8::1", 128, "2001:db8::1"),
    ("::/0", "::", 0, "default"),
])  # fmt: skip
def test_a_prefix_is_read_and_printed_as_ip_does_it(text: str, network: str, prefixlen: int, shown: str) -> None:
    assert address.parse_network(text) == (packed(network), prefixlen)
    assert address.network_text(packed(network), prefixlen) == shown


@pytest.mark.parametrize("text", [
    "", "/", "/24", "192.0.2.0/", "192.0.2.0/33", "192.0.2.0/-1", "192.0.2.0/+8", "192.0.2.0/ 8", "192.0.2.0/8 ",
    "192.0.2.0/24/24",
    "192.0.2.33/28", "192.0.2.1/0", "192.0.2/24", "2001:db8::/129", "2001:db8::1/32", "192.0.2.0/255.255.255.0",
    "192.0.2.0/٢٤",
    "192.0.2.0/²", "192.0.2.0/" + "9" * 5000, "192.0.2.0/0x18", "192.0.2.0/1e1",
])  # fmt: skip
def test_what_is_no_prefix_or_has_host_bits_is_refused(text: str) -> None:
    assert address.parse_network(text) is None


def test_each_mask_gives_its_length_and_nothing_else_is_a_mask() -> None:
    for length in range(33):
        assert address.parse_netmask(str(ipaddress.ip_network(f"0.0.0.0/{length}").netmask)) == length
    for wrong in (
        "255.0.255.0",
        "0.0.0.255",
        "255.255.255.1",
        "24",
        "",
        "ffff::",
        "255.255.255",
        "128.0.0.1",
        "127.255.255.255",
    ):
        assert address.parse_netmask(wrong) is None


@pytest.mark.fault("F28")
@pytest.mark.parametrize("text", [
    "0.0.0.0", "0.0.0.1", "0.255.255.255", "127.0.0.0", "127.0.0.1", "127.255.255.255", "224.0.0.0", "224.0.0.5",
    "239.255.255.255",
    "240.0.0.0", "255.255.255.255", "::", "::1", "ff00::", "ff02::1", "ffff::1",
])  # fmt: skip
def test_an_address_that_can_be_nobodys_says_why(text: str) -> None:
    why = address.why_unusable(packed(text))
    assert why and why.isprintable()


@pytest.mark.parametrize("text", [
    "1.0.0.0", "10.0.0.0", "10.0.0.255", "126.255.255.255", "128.0.0.0", "169.254.1.1", "192.0.2.1", "198.18.0.1",
    "223.255.255.255",
    "100.64.0.1", "2001:db8::1", "fe80::1", "fd00::1", "::2",
])  # fmt: skip
def test_an_address_that_can_be_a_links_has_nothing_against_it(text: str) -> None:
    assert address.why_unusable(packed(text)) is None


def test_only_unicast_outside_the_special_blocks_is_usable() -> None:
    for one in some_addresses():
        book = ipaddress.ip_address(one)
        special = (
            book.is_multicast
            or book.is_unspecified
            or book.is_loopback
            or (len(one) == 4 and one[0] in (0, *range(240, 256)))
        )
        assert bool(address.why_unusable(one)) == special, book


def test_link_local_is_what_the_rfcs_say() -> None:
    for one in some_addresses():
        assert address.is_link_local(one) == ipaddress.ip_address(one).is_link_local
    for text in ("169.254.0.0", "169.254.255.255", "fe80::", "febf:ffff::1"):
        assert address.is_link_local(packed(text))
    for text in ("169.253.255.255", "169.255.0.0", "fec0::1", "fe7f::1"):
        assert not address.is_link_local(packed(text))


# F31: the kernel takes them; a shell, a path, ip or nft reads them as something else.
ODD = (
    "a;id", "b$(id)", "c*", 'd"q', "e'q", "é", "-x", "p%d", "#c", "a|b", "a\\b", "~", "a@b", "\x01", "a b", "a/b",
    "a:0", "", ".", "..",
    "_x", ".x", "*", "?", "a\n", "a\t", "a\udcff", "ppp0\0", "ａ", "²", "!", "a+b", "a,b", "a=b", "{a}",
)  # fmt: skip


@pytest.mark.fault("F31", "F32")
@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_an_odd_name_is_no_interface_and_no_link(name: str) -> None:
    assert not address.is_interface_name(name)
    assert not address.is_link_name(name)


def test_names_are_accepted_exactly_as_the_contract_spells_them() -> None:
    import re

    interface = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
    link = re.compile(r"[a-z][a-z0-9_-]{0,15}")
    reserved = {"main", "default", "local", "unspec", "all", "balance", "cache"}
    chance = random.Random(31)
    alphabet = string.ascii_letters + string.digits + "._-" * 6
    names = ["".join(chance.choices(alphabet, k=chance.randrange(20))) for _ in range(5000)]
    names += ["".join(chance.choices(string.printable + "éＡ²\udcff", k=chance.randrange(1, 5))) for _ in range(5000)]
    names += [
        *reserved,
        *(name + "x" for name in reserved),
        *(name.upper() for name in reserved),
        "a",
        "Z",
        "0",
        "a" * 15,
        "a" * 16,
        "a" * 17,
    ]
    for name in names:
        assert address.is_interface_name(name) == bool(interface.fullmatch(name)), ascii(name)
        assert address.is_link_name(name) == (bool(link.fullmatch(name)) and name not in reserved), ascii(name)

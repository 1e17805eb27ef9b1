"""Addresses, prefixes and names as they come from outside, against Python's ipaddress and the contract's own words."""

import ipaddress
import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from multihook import address, files, journal
from multihook.config import tables
from targets.surroundings import INTERFACE, LINK

RESERVED = {"main", "default", "local", "unspec", "all", "balance", "cache"}
# RFC 6890: no link's own address and no gateway.
NOBODYS = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "ff00::/8")
LINK_LOCAL = ("169.254.0.0/16", "fe80::/10")
LONGEST = 45  # an IPv6 address with an IPv4 one at its end


def place(folder: Path) -> AbstractContextManager[None]:
    """Nothing here has a file."""
    return nullcontext()


def run(data: bytes) -> None:
    """One text, or two with a blank between them, taken for everything that a text can be taken for."""
    text = data.decode("utf-8", "surrogateescape")
    check_address(text)
    check_network(text)
    assert address.parse_netmask(text) == netmask_of(text), text
    assert address.is_interface_name(text) == bool(INTERFACE.fullmatch(text)), text
    assert address.is_link_name(text) == (bool(LINK.fullmatch(text)) and text not in RESERVED), text
    assert files.number(text) == (int(text) if re.fullmatch("[0-9]{1,18}", text) else None), text
    shown = journal.foreign(text)
    assert shown.isascii() and (not shown or shown.isprintable()) and len(shown) <= journal.FOREIGN_BYTES, shown
    check_table_number(text)
    first, blank, second = text.partition(" ")
    if blank:
        check_inside(first, second)


def check_address(text: str) -> None:
    """The same bytes as ipaddress, which takes zones too; shown, it is read back."""
    try:
        expected = ipaddress.ip_address(text).packed if "%" not in text and len(text) <= LONGEST else None
    except ValueError:
        expected = None
    found = address.parse(text)
    assert found == expected, f"{text!r}: {found!r}, ipaddress has {expected!r}"
    if found is None:
        return
    assert address.parse(address.text(found)) == found, text
    kind = ipaddress.ip_address(found)
    why = address.why_unusable(found)
    assert bool(why) == is_in(kind, NOBODYS), f"{text}: {why}"
    assert why is None or why.isprintable()
    assert address.is_link_local(found) == is_in(kind, LINK_LOCAL), text


def is_in(one: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: tuple[str, ...]) -> bool:
    """Whether an address lies in one of these."""
    return any(one in ipaddress.ip_network(network) for network in networks)


def check_network(text: str) -> None:
    """The same network as ipaddress, which takes masks for lengths too; shown, it is read back."""
    head, slash, tail = text.partition("/")
    expected = None
    if "%" not in head and len(head) <= LONGEST and (not slash or re.fullmatch("[0-9]{1,3}", tail)):
        try:
            network = ipaddress.ip_network(text)
            expected = network.network_address.packed, network.prefixlen
        except ValueError:
            expected = None
    found = address.parse_network(text)
    assert found == expected, f"{text!r}: {found!r}, ipaddress has {expected!r}"
    if found is not None and found[1]:
        assert address.parse_network(address.network_text(*found)) == found, text


def netmask_of(text: str) -> int | None:
    """The length of a dotted mask, from its 32 digits."""
    try:
        digits = f"{int(ipaddress.IPv4Address(text)):032b}"
    except ValueError:
        return None
    return digits.count("1") if re.fullmatch("1*0*", digits) else None


def check_table_number(text: str) -> None:
    """iproute2's own files: decimal or hexadecimal, never negative, never more digits than it reads."""
    number = tables._number(text)
    assert number is None or 0 <= number < 1 << 40, text


def check_inside(first: str, second: str) -> None:
    """Whether an address lies in a network: as ipaddress has it."""
    one, network = address.parse(first), address.parse_network(second)
    if one is None or network is None:
        return
    around = ipaddress.ip_network(network)
    assert address.in_network(one, *network) == (ipaddress.ip_address(one) in around), f"{first} in {second}"
    length = min(network[1], len(one) * 8)
    expected = ipaddress.ip_network((one, length), strict=False).network_address.packed
    assert address.network_of(one, length) == expected, f"{first}/{length}"

"""Addresses, prefixes and names: what multihook accepts from outside, and how it prints them.

Addresses are packed bytes in network order (4 or 16 of them), so that their length tells the
family and the kernel takes them as they are.  Everything that comes from a network, a file or a
caller passes through here before anything else sees it.
"""

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

INET = int(AF_INET)
INET6 = int(AF_INET6)
# The families whose links are kept right.
FAMILIES = (INET,)
FAMILY_NUMBERS = {"inet": INET, "inet6": INET6}
FAMILY_NAMES = {INET: "inet", INET6: "inet6"}

_DIGITS = "0123456789"
_LOWER = "abcdefghijklmnopqrstuvwxyz"
_ALNUM = _DIGITS + _LOWER + _LOWER.upper()
_INTERFACE_CHARACTERS = frozenset(_ALNUM + "._-")
_LINK_CHARACTERS = frozenset(_DIGITS + _LOWER + "_-")

# Words that `ip` reads as something else than a table name.
RESERVED_LINK_NAMES = frozenset(("main", "default", "local", "unspec", "all", "balance", "cache"))


def family_of(address: bytes) -> int:
    """AF_INET or AF_INET6, by the length of a packed address."""
    return INET if len(address) == 4 else INET6


def width(family: int) -> int:
    """The number of bits in an address of this family."""
    return 32 if family == INET else 128


def parse(text: str) -> bytes | None:
    """The packed form of an address in its usual notation, or None.

    Strict like inet_pton(3): no host names, no octal or shortened IPv4, no zone.
    """
    if len(text) > 45:
        return None
    try:
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        return None


def text(address: bytes) -> str:
    """An address in its usual notation; "-" for the empty one."""
    if not address:
        return "-"
    return inet_ntop(family_of(address), address)


def in_network(address: bytes, network: bytes, prefixlen: int) -> bool:
    """Whether an address lies in network/prefixlen; False between two families."""
    if len(address) != len(network):
        return False
    shift = len(address) * 8 - prefixlen
    return int.from_bytes(address, "big") >> shift == int.from_bytes(network, "big") >> shift


def network_of(address: bytes, prefixlen: int) -> bytes:
    """The network address: all host bits zero."""
    bits = len(address) * 8
    shift = bits - prefixlen
    return (int.from_bytes(address, "big") >> shift << shift).to_bytes(len(address), "big")


def parse_network(prefix: str) -> tuple[bytes, int] | None:
    """(network, prefix length) from "192.0.2.32/28" or a lone address, or None.

    Host bits that are set are refused: the kernel would refuse them too, and they are
    mostly a mistyped length (the static example of seed 000 has one).
    """
    head, slash, tail = prefix.partition("/")
    address = parse(head)
    if address is None:
        return None
    bits = len(address) * 8
    length = bits
    if slash:
        if not tail or len(tail) > 3 or tail.strip(_DIGITS) or int(tail) > bits:
            return None
        length = int(tail)
    if network_of(address, length) != address:
        return None
    return address, length


def network_text(network: bytes, prefixlen: int) -> str:
    """A prefix as `ip` prints it: "default", "192.0.2.0/24", or a lone host address."""
    if prefixlen == 0:
        return "default"
    if prefixlen == len(network) * 8:
        return text(network)
    return f"{text(network)}/{prefixlen}"


def parse_netmask(mask: str) -> int | None:
    """The prefix length of a dotted mask such as 255.255.128.0, or None."""
    packed = parse(mask)
    if packed is None or len(packed) != 4:
        return None
    value = int.from_bytes(packed, "big")
    length = value.bit_count()
    return length if value == (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF else None


def why_unusable(address: bytes) -> str | None:
    """Why an address can be no link's own address and no gateway; None when it can.

    RFC 6890 lists the special blocks.  169.254.0.0/16 is judged by the caller: a configured
    link may use it.
    """
    if len(address) == 4:
        first = address[0]
        if first == 0:
            return "in 0.0.0.0/8"
        if first == 127:
            return "in 127.0.0.0/8"
        if first >= 240:
            return "in 240.0.0.0/4"
        if first >= 224:
            return "multicast"
        return None
    if address[:15] == bytes(15) and address[15] < 2:
        return "unspecified or loopback"
    if address[0] == 0xFF:
        return "multicast"
    return None


def is_link_local(address: bytes) -> bool:
    """169.254.0.0/16 (RFC 3927) or fe80::/10 (RFC 4291)."""
    if len(address) == 4:
        return address[:2] == b"\xa9\xfe"
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80


def is_interface_name(name: str) -> bool:
    """Whether a name is one that no shell, no path, no `ip` and no nft reads as anything else.

    The kernel accepts nearly every byte but "/" and blanks; nft reads `c*` as a wildcard.
    """
    return 0 < len(name) <= 15 and name[0] in _ALNUM and _INTERFACE_CHARACTERS.issuperset(name)


def is_link_name(name: str) -> bool:
    """Whether a name can stand for a link, hence for a table in rt_tables.d."""
    return (
        0 < len(name) <= 16
        and name[0] in _LOWER
        and _LINK_CHARACTERS.issuperset(name)
        and name not in RESERVED_LINK_NAMES
    )

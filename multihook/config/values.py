"""Every key of the configuration: its default, what a value may be, and why one is refused.

KEYS, LINK_KEYS and GLFTPD_KEYS name each key once; a function a value says what is wrong with it
and what would be right.
"""

import re
from collections.abc import Callable
from typing import Any

from multihook import address
from multihook.config import tables
from multihook.journal import foreign

Prefix = tuple[bytes, int]
Checker = Callable[[Any], Any]

RULES = 1000  # priorities from rule_base on
_LAST_RULE = 32765  # 32766 and 32767 are main's and default's
_ROOM_FOR_TABLES = 1 << 16
TABLE_CHOICE = "choose one of 1..252 or above 255"
_BAD_BLOCKS = tuple(
    (address.parse(network) or b"", length)
    for network, length in (("0.0.0.0", 8), ("127.0.0.0", 8), ("224.0.0.0", 3), ("::", 127), ("ff00::", 8))
)


class Wrong(Exception):
    """What is wrong with one value, and what would be right."""


def shown(value: object) -> str:
    """A value as it stands in the file, fit for one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{foreign(value)}"'
    if isinstance(value, int):
        # Hexadecimal numbers have no limit, and decimal ones of that size cannot be printed.
        return str(value) if value.bit_length() <= 64 else f"a number of {value.bit_length()} bits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list):
        return "a list"
    return "a table" if isinstance(value, dict) else "a date or time"


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise Wrong(f"{shown(value)} is neither true nor false; write one of these, without quotes")


def _integer(value: Any, example: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Wrong(f"{shown(value)} is no whole number; write one such as {example}, without quotes")


def _text(value: Any, example: str) -> str:
    if not isinstance(value, str):
        raise Wrong(f'{shown(value)} is no text; write it in quotes, such as "{example}"')
    return value


def _texts(value: Any, example: str) -> list[str]:
    if not isinstance(value, list):
        raise Wrong(f'{shown(value)} is no list; write ["{example}"]')
    return list(dict.fromkeys(_text(entry, example) for entry in value))


def _within(low: int, high: int, example: str) -> Checker:
    def check(value: Any) -> int:
        number = _integer(value, example)
        if not low <= number <= high:
            raise Wrong(f"{shown(number)} is out of range; choose one of {low}..{high}")
        return number

    return check


def _table(value: Any) -> int:
    number = _integer(value, "200")
    if number in tables.RESERVED:
        raise Wrong(f"{number} is {tables.RESERVED[number]}; {TABLE_CHOICE}")
    if not 0 < number <= tables.LAST:
        raise Wrong(f"{shown(number)} is no table number; choose one of 1..252 or 256..{tables.LAST}")
    return number


def _mark_mask(value: Any) -> int:
    mask = _integer(value, "0xff000000")
    if not 0 < mask < 1 << 32:
        raise Wrong(f"{shown(mask)} is no mask of 32 bits; write one such as 0xff000000")
    lowest = mask & -mask
    if mask + lowest & mask:
        raise Wrong(f"{mask:#010x} has gaps; write bits that stand side by side, such as 0xff000000")
    return mask


def _rt_proto(value: Any) -> int:
    number = _integer(value, "109")
    if number in tables.PROTOCOLS:
        raise Wrong(f"{number} belongs to {tables.PROTOCOLS[number]}; choose another of 5..255, such as 109")
    return int(_within(5, 255, "109")(number))


def _interface_patterns(value: Any) -> list[str]:
    patterns = _texts(value, "wg*")
    for pattern in patterns:
        if not re.fullmatch(r"[A-Za-z0-9*?][A-Za-z0-9._*?-]{0,31}", pattern):
            raise Wrong(f'{shown(pattern)} fits no interface; write a name, with * and ? for what varies: "wg*"')
    return patterns


def _interface(value: Any) -> str:
    name = _text(value, "ppp0")
    if not address.is_interface_name(name):
        raise Wrong(
            f"{shown(name)} is no interface name; "
            "write at most 15 of A-Z a-z 0-9 . _ -, the first of them a letter or digit"
        )
    if name in ("lo", "all", "default"):
        raise Wrong(f"{shown(name)} leads to no provider; name the interface of the line, such as ppp0")
    return name


def _ipparam(value: Any) -> str:
    word = _text(value, "dsl-provider")
    if not 0 < len(word) <= 200 or not word.isascii() or not word.isprintable():
        raise Wrong(f"{shown(word)} cannot be matched; write what pppd's option says, 1 to 200 printable characters")
    return word


def _linkname(value: Any) -> str:
    word = _ipparam(value)
    if "/" in word:
        raise Wrong(f"{shown(word)} has a slash, which pppd's linkname cannot have; take it out")
    return word


def _address(text: str) -> bytes:
    packed = address.parse(text)
    if packed is None:
        raise Wrong(f'{shown(text)} is no address; write one such as "192.0.2.1", without a length or a name')
    why = address.why_unusable(packed)
    if why:
        raise Wrong(f"{shown(text)} is {why}; write the provider's next hop")
    return packed


def _gateway(value: Any) -> bytes:
    return _address(_text(value, "192.0.2.1"))


def _prefix(text: str) -> Prefix:
    prefix = address.parse_network(text)
    if prefix is None:
        raise Wrong(f"{shown(text)} {_why_no_prefix(text)}")
    if prefix[1] == 0:
        raise Wrong(f"{shown(text)} is everything; write the networks that are meant (each link has a default route)")
    for block in _BAD_BLOCKS:
        if overlap(prefix, block):
            raise Wrong(f"{shown(text)} has addresses of {address.network_text(*block)}; leave those out")
    return prefix


def _why_no_prefix(text: str) -> str:
    head, slash, tail = text.partition("/")
    packed = address.parse(head)
    if packed is None or not slash:
        return 'is no network; write one such as "192.0.2.32/28"'
    bits = len(packed) * 8
    length = address.parse_netmask(tail)
    if length is not None and bits == 32:
        return f'has a mask; write the length: "{address.text(address.network_of(packed, length))}/{length}"'
    if not re.fullmatch(r"[0-9]{1,3}", tail) or int(tail) > bits:
        return f"has no length of 0..{bits} behind the slash; write one such as /{bits - 4}"
    network = address.network_of(packed, int(tail))
    return f'has bits set behind its length; write "{address.text(network)}/{int(tail)}", or the length that is meant'


def overlap(one: Prefix, other: Prefix) -> bool:
    """Whether two networks have an address in common."""
    return address.in_network(one[0], *other) or address.in_network(other[0], *one)


def _prefixes(value: Any) -> list[Prefix]:
    return list(dict.fromkeys(_prefix(text) for text in _texts(value, "192.0.2.32/28")))


def _snat(value: Any) -> bool | str:
    if isinstance(value, bool) or value in ("auto", "masquerade"):
        return value  # type: ignore[no-any-return]
    if value in ("true", "false"):
        raise Wrong(f"{shown(value)} is text; write {value}, without quotes")
    raise Wrong(f'{shown(value)} is none of "auto", true, false, "masquerade"; choose one')


def _absolute_path(value: Any) -> str:
    path = _text(value, "/etc/glftpd.conf")
    if not re.fullmatch(r"/.*[^/]", path) or not path.isprintable() or len(path.encode()) > 4095:
        raise Wrong(f"{shown(path)} is no path of a file; write it from the root on, such as /etc/glftpd.conf")
    return path


def _included_path(value: Any) -> str:
    path = _absolute_path(value)
    if re.search(r"[\s#]", path):
        raise Wrong(f"{shown(path)} has a blank or #, where glftpd's include line would end; take it out")
    return path


def _address_patterns(value: Any) -> list[str]:
    patterns = _texts(value, "192.168.*")
    for pattern in patterns:
        if not re.fullmatch(r"[0-9.*?]{1,15}", pattern):
            raise Wrong(f'{shown(pattern)} is no pattern of glftpd; write digits, dots, * and ?, such as "192.168.*"')
    return patterns


# key: (default, what checks it)
KEYS: dict[str, tuple[Any, Checker]] = {
    "adopt": (True, _boolean),
    "ignore": ([], _interface_patterns),
    "first_table": (1000, _within(1, tables.LAST + 1 - _ROOM_FOR_TABLES, "1000")),
    "rule_base": (7000, _within(1, _LAST_RULE + 1 - RULES, "7000")),
    "mark_mask": (0xFF000000, _mark_mask),
    "rt_proto": (109, _rt_proto),
    "group": (109, _within(1, (1 << 31) - 1, "109")),
}
LINK_KEYS: dict[str, tuple[Any, Checker]] = {
    "interface": ("", _interface),
    "ipparam": ("", _ipparam),
    "linkname": ("", _linkname),
    "table": (0, _table),
    "gateway": (b"", _gateway),
    "lan": (False, _boolean),
    "snat": ("auto", _snat),
    "sources": ([], _prefixes),
    "networks": ([], _prefixes),
}
GLFTPD_KEYS: dict[str, tuple[Any, Checker]] = {
    "config": ("/etc/glftpd.conf", _absolute_path),
    "multilink": ("/etc/multilink.conf", _included_path),
    "lan": (["10.*", "192.168.*"], _address_patterns),
}

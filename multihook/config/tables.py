"""Routing table numbers and names: which ones others use, and which ones our links got for good.

What is needed at each event (known) imports nothing slow.  An allotted number stays with its link
while /var/lib/multihook/tables has it, also while the link is gone; where that file is lost, the
same names get the same numbers again.  Where it cannot be written the numbers stand in /run, until
a run that may write it takes them over.
"""

from fcntl import LOCK_EX, LOCK_NB, flock
from posix import O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_RDONLY, access, close
from posix import open as posix_open
from time import sleep

from multihook import address, files, paths
from multihook.config.listing import listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from multihook.config.schema import Config

    # table numbers {number: who has it}, table names {name: where it is defined}, protocols {number: who has it},
    # and which number goes with which name
    Others = tuple[dict[int, str], dict[str, str], dict[int, str], set[tuple[int, str]]]

# Where iproute2 looks (rt_names.c): Debian 12 has the first, Debian 13 the second as well.
ETC = "/etc/iproute2"
SHARE = "/usr/share/iproute2"
LIB = "/usr/lib/iproute2"

LAST = (1 << 32) - 1
# The kernel's (linux/rtnetlink.h, RT_TABLE_*), and what a program takes without asking.
RESERVED = {
    0: "the kernel's word for no table",
    253: "the kernel's table default",
    254: "the kernel's table main",
    255: "the kernel's table local",
    220: "strongSwan's table",
}
# Only where these run: never allotted, but an administrator who writes them down may have them.
AVOIDED = {52: "Tailscale's table", 51820: "wg-quick's first table"}

# linux/rtnetlink.h, RTPROT_*, for machines without the files; and Google's guest agent.
PROTOCOLS = {
    1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra", 10: "mrt", 11: "zebra", 12: "bird",
    13: "dnrouted", 14: "xorp", 15: "ntk", 16: "dhcp", 17: "mrouted", 18: "keepalived", 42: "babel", 66: "google",
    84: "ovn", 99: "openr", 186: "bgp", 187: "isis", 188: "ospf", 189: "rip", 192: "eigrp",
}  # fmt: skip

_LIMIT = 1 << 20
_HEADER = """\
# Routing table numbers that multihook gave to links for which multihook.toml(5) names none.
# One link a line: NAME NUMBER.  Kept by multihook; a line taken away frees its number.
"""
_LOCK_TRIES = 50
_LOCK_PAUSE = 0.01  # seconds


def known() -> dict[str, int]:
    """The numbers that links have got so far, by name; lines that make no sense are passed over.

    One read(2) of a small file: for hooks.
    """
    numbers: dict[str, int] = {}
    seen = set()
    for line in _lines(paths.TABLES) + _lines(paths.TABLES_FOR_NOW):
        name, _, digits = line.partition(" ")
        if not (digits.isdigit() and digits.isascii() and len(digits) <= 10 and _is_name(name)):
            continue
        number = int(digits)
        if 0 < number <= LAST and number not in seen and name not in numbers:
            numbers[name] = number
            seen.add(number)
    return numbers


def _lines(path: str) -> list[str]:
    try:
        return files.read(path, _LIMIT).decode("ascii", "replace").splitlines()
    except OSError:
        return []


def allot(names: "Iterable[str]", config: "Config", taken: "Iterable[int]" = (), keep: bool = True) -> dict[str, int]:
    """A number for each of these links: the one it has, else the lowest free one from first_table upward.

    Free is what neither the configuration, nor another link, nor anybody in used_tables or `taken`
    (VRFs, numbers that links have got without its being written down) has.  A number that the
    configuration gives to another link is taken away.  The same arguments give the same numbers.
    `keep` writes new ones down, if that can be done.
    """
    with_lock = _lock() if keep else -1
    try:
        before = known()
        numbers = _settle(before, list(names), config, set(taken))
        if keep and (numbers != before or access(paths.TABLES_FOR_NOW, 0)):
            _write(numbers)
    finally:
        if with_lock >= 0:
            close(with_lock)
    return {name: numbers[name] for name in names}


def take_over(config: "Config") -> None:
    """Write down for good what could only be written to /run so far."""
    if access(paths.TABLES_FOR_NOW, 0):
        allot([], config)


def number(config: "Config", keep: bool) -> None:
    """Give every configured link that names no table its number."""
    for name, got in allot(config["allotted"], config, keep=keep).items():
        config["links"][name]["table"] = got


def _settle(before: dict[str, int], names: list[str], config: "Config", taken: set[int]) -> dict[str, int]:
    """All allotted numbers after `names` have got theirs: a pure function."""
    given = {link["table"]: name for name, link in config["links"].items() if link["table"]}
    busy = taken | given.keys() | config["used_tables"].keys()
    fixed = config["links"].keys() - set(config["allotted"])
    asked = set(names)
    numbers = {}
    for name, had in before.items():
        is_free = had not in config["used_tables"] and given.get(had, name) == name
        if is_free and name not in fixed and (name not in asked or had not in taken):
            numbers[name] = had
    busy |= set(numbers.values())
    candidate = config["first_table"]
    for name in names:
        if name in numbers:
            continue
        while candidate in busy:
            candidate = candidate % LAST + 1
        numbers[name] = candidate
        busy.add(candidate)
    return numbers


def _write(numbers: dict[str, int]) -> None:
    content = (_HEADER + "".join(f"{name} {number}\n" for name, number in numbers.items())).encode()
    try:
        files.folder(paths.VAR, 0o755)
        files.replace(paths.TABLES, content, 0o644, durable=True)
    except OSError:
        _write_for_now(content)
        return
    try:
        files.remove(paths.TABLES_FOR_NOW)
    except OSError:
        return  # read-only: it says nothing that the other does not say


def _write_for_now(content: bytes) -> None:
    try:
        if not access(paths.TABLES_FOR_NOW, 0) or files.read(paths.TABLES_FOR_NOW, _LIMIT) != content:
            files.replace(paths.TABLES_FOR_NOW, content)
    except OSError:
        return  # read-only or full: the same names get the same numbers next time


def _lock() -> int:
    """A descriptor that holds the allotment for one process; -1 when it cannot be had in time.

    On the private folder itself, which no other user can open; not the lock of an event's run, which
    the caller may hold.
    """
    try:
        fd = posix_open(paths.PRIVATE, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
    except OSError:
        return -1
    for _ in range(_LOCK_TRIES):
        try:
            flock(fd, LOCK_EX | LOCK_NB)
        except OSError:
            sleep(_LOCK_PAUSE)
        else:
            return fd
    close(fd)
    return -1


def _is_name(name: str) -> bool:
    """A link's name; adopted links may be called as their interface is."""
    return address.is_link_name(name) or address.is_interface_name(name)


# From here on: what others use.


def watched() -> tuple[list[str], list[tuple[str, str]]]:
    """(files, (folder, ending of the names that count)): what may change the outcome of others()."""
    kinds = ("rt_tables", "rt_protos")
    return (
        [f"{folder}/{kind}" for folder in (ETC, SHARE, LIB) for kind in kinds],
        [(f"{folder}/{kind}.d", ".conf") for folder in (ETC, SHARE, LIB) for kind in kinds],
    )


def others() -> "Others":
    """What the files of iproute2 give away, and to whom."""
    tables: dict[int, str] = {}
    names: dict[str, str] = {}
    pairs: set[tuple[int, str]] = set()
    for number, name, path in _entries("rt_tables"):
        tables.setdefault(number, f"table {name} in {path}")
        names.setdefault(name, f"table {number} in {path}")
        pairs.add((number, name))
    protocols = {number: f"{name} in {path}" for number, name, path in _entries("rt_protos")}
    return tables, names, protocols, pairs


def _entries(kind: str) -> list[tuple[int, str, str]]:
    """(number, name, file) of every line that iproute2 would read, ours left out.

    As fread_id_name() of rt_names.c does it: "NUMBER NAME" or "0xNUMBER NAME"; what follows is no matter.
    """
    found = []
    for folder in (ETC, SHARE, LIB):
        parts = f"{folder}/{kind}.d"
        for path in (f"{folder}/{kind}", *(f"{parts}/{name}" for name in listing(parts, ".conf")[2])):
            try:
                text = files.read(path, _LIMIT, follow=True).decode("utf-8", "replace")
            except OSError:
                continue  # not there, or not root's: `ip` may read it, but it decides nothing here
            for line in text.splitlines():
                words = line.split()
                number = _number(words[0]) if len(words) > 1 else None
                if number is not None and words[1][0] != "#":
                    found.append((number, words[1], path))
    return found


def _number(word: str) -> int | None:
    digits, base = (word[2:], 16) if word.startswith("0x") else (word, 10)
    if not digits.isalnum() or len(digits) > 10:
        return None
    try:
        return int(digits, base)
    except ValueError:
        return None

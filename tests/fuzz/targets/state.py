"""What our state files hold after a power cut, a full disk, another version or a hand that slipped.

Whatever stands in them, nothing fails; what is believed of it is what we could have written ourselves.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from multihook import (
    address,
    departed,
    edits,
    front,
    journal,
    leases,
    news,
    oldvalues,
    paths,
    record,
    repeats,
    sources,
    spool,
)
from multihook.address import INET
from multihook.config import tables
from multihook.kernel import sysctl
from multihook.survey import Survey  # noqa: F401  # what news imports
from targets.environment import check_translated, fields_of
from targets.surroundings import INTERFACE, LINK, check_line, patched

NAME = "dsl.inet"
U32 = 1 << 32
# As far in the future as 300 years: more is no time that this machine has been up.
LATEST = 10**10
WORDS = ("LINK", "INTERFACE", "FAMILY", "STATE", "OLD_ADDRESS", "ADDRESS", "GATEWAY", "TABLE", "SOURCE", "REASON")

_where = Path()


@contextmanager
def place(folder: Path) -> Iterator[None]:
    """All state lies in one folder, and all of the files that are read here are the same file."""
    global _where
    _where = folder / NAME
    file, here = str(_where), str(folder)
    with patched(
        (leases, "LEASES", here), (spool, "SPOOL", here), (news, "NEWS", here), (news, "TOLD", here),
        (record, "APPLIED", file), (record, "LAST", file), (repeats, "REPEATS", file), (front, "FRONT", file),
        (repeats, "RUN", here), (repeats, "PRIVATE", here), (spool, "UPGRADING", file),
        (paths, "TABLES", file), (paths, "TABLES_FOR_NOW", file), (departed, "CONNECTIONS", file),
        (edits, "GLFTPD", file), (oldvalues, "SYSCTLS", here), (journal, "write", said),
    ):  # fmt: skip
        yield


def said(priority: int, line: str) -> None:
    """What would go to the log."""
    check_line(line)


def lease(data: bytes) -> None:
    """The record of a link."""
    _where.write_bytes(data)
    found = leases.load("dsl", INET)
    if found is None:
        return
    assert found.link == "dsl" and INTERFACE.fullmatch(found.interface) and found.source in sources.RANK
    width = address.width(found.family)
    for one in (found.address, found.former, found.gateway, found.server, *found.resolvers):
        assert not one or len(one) * 8 == width, one
    for network, length, router in found.routes:
        assert len(network) * 8 == width and address.network_of(network, length) == network, (network, length)
        assert len(router) * 8 == width, router
    assert 0 <= found.prefixlen <= width and 0 <= found.since < LATEST and 0 <= found.changed < LATEST
    for text in (found.reason, found.ipparam, found.linkname):
        assert not text or (text.isprintable() and len(text) <= 256), text
    leases.store(found)
    again = leases.load("dsl", INET)
    assert again is not None and fields_of(again) == fields_of(found)


def spooled(data: bytes) -> None:
    """An event that waits: whole, or damaged as a whole; a source reads it with the same care."""
    _where.write_bytes(data)
    told = spool.take(NAME)
    if told is None:
        return
    first, source, counts, *words, last = data.split(b"\0")
    assert (first, last) == (b"multihook event 1", b"end") and told.source == source.decode("utf-8", "surrogateescape")
    assert sum(map(int, counts.split(b" "))) == len(words), "some of it is missing"
    name = spool.put(told)
    again = spool.take(name)
    spool.done([name])
    assert again is not None and (again.source, again.arguments) == (told.source, told.arguments)
    assert again.variables == told.variables
    check_translated(told)


def others(data: bytes) -> None:
    """Every other file, each read as each: its first line says what it is."""
    _where.write_bytes(data)
    check_certificate(record.certificate())
    check_result(record.last_result())
    check_news(news.take(NAME))
    check_told(news._told("dsl", "inet"))
    check_numbers(tables.known())
    for gone, link in departed.noted().items():
        assert is_name(link) and address.why_unusable(gone) is None, (link, gone)
    places, backups = edits.noted()
    for path in [one for pair in places for one in pair] + backups:
        assert path.startswith("/") and path.isprintable(), path
    try:
        values = oldvalues.parse(data, 3, sysctl.OURS)
    except ValueError:
        values = {}
    assert values.keys() <= sysctl.OURS.keys() and all(0 <= value < 1 << 31 for value in values.values()), values
    assert all("\n" not in line for line in front.known())
    assert spool.is_upgrading() in (False, True)
    repeats.warn("dsl: a line that comes again and again")


def is_name(name: str) -> bool:
    """A link's name; that of an adopted one may be its interface's."""
    return bool(LINK.fullmatch(name) or INTERFACE.fullmatch(name))


def check_certificate(found: record.Certificate | None) -> None:
    """Its numbers go into messages to the kernel."""
    if found is None:
        return
    assert 0 <= found.protocol < 256 and 0 <= found.group < U32 and found.links >= 0 and found.namespace >= 0
    record.certify(found)
    again = record.certificate()
    assert again is not None and again.render() == found.render()


def check_result(found: record.Result | None) -> None:
    """`status` shows its line and makes a time of its numbers."""
    if found is not None:
        assert not found.line or found.line.isprintable(), found.line
        assert 0 <= found.wall < LATEST and 0 <= found.boottime < LATEST


def check_news(told: dict[str, str] | None) -> None:
    """They become the environment of the administrator's programs."""
    if told is None:
        return
    assert set(told) == {f"MULTIHOOK_{word}" for word in WORDS}, told
    for word, value in told.items():
        assert not value or (value.isascii() and value.isprintable() and len(value) <= 64), (word, value)


def check_told(told: news.State | None) -> None:
    """A later piece of news has its address as the old one."""
    if told is None:
        return
    assert told.state in (news.UP, news.DOWN) and (not told.interface or INTERFACE.fullmatch(told.interface))
    for text in (told.address, told.gateway):
        assert not text or address.parse(text) is not None, text
    assert not told.table or re.fullmatch("[0-9]{1,10}", told.table), told.table


def check_numbers(numbers: dict[str, int]) -> None:
    """A number of a table for each link, and no two the same."""
    assert all(map(is_name, numbers)) and len(set(numbers.values())) == len(numbers)
    assert all(0 < number < U32 for number in numbers.values())

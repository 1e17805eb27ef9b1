"""What pppd, the DHCP clients and ifupdown hand to their hooks: arguments and variables, whatever they hold.

An input is words between zero bytes, as in /proc/PID/environ: the arguments, an empty word, then NAME=VALUE.
"""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Each source loads its module when it is needed; here all of them are loaded now, to be instrumented.
import multihook.sources.dhclient
import multihook.sources.dhcpcd
import multihook.sources.ifupdown
import multihook.sources.pppd  # noqa: F401
from multihook import leases, sources, spool
from multihook.address import INET
from multihook.sources import VARIABLES, Event
from multihook.spool import Told
from targets.surroundings import INTERFACE, check_line, patched

MOST_ADDRESSES = 8
MOST_ROUTES = 32
LONGEST_NAME = 256


@contextmanager
def place(folder: Path) -> Iterator[None]:
    """A spool of our own."""
    with patched((spool, "SPOOL", str(folder))):
        yield


def pppd(data: bytes) -> None:
    """ip-up and the like."""
    check("pppd", data)


def dhclient(data: bytes) -> None:
    """dhclient-script."""
    check("dhclient", data)


def dhcpcd(data: bytes) -> None:
    """dhcpcd-run-hooks."""
    check("dhcpcd", data)


def ifupdown(data: bytes) -> None:
    """if-up.d and if-post-down.d."""
    check("ifupdown", data)


def told_of(source: str, data: bytes) -> Told:
    """What the hook would take of it."""
    words = data.split(b"\0")
    end = words.index(b"") if b"" in words else len(words)
    arguments = [word.decode("utf-8", "surrogateescape") for word in words[:end]]
    environ = dict(word.partition(b"=")[::2] for word in words[end + 1 :])
    return Told(source, arguments, spool.pick(environ, VARIABLES[source]))


def check(source: str, data: bytes) -> None:
    """Either one line says why it is refused, or what is accepted can be relied on."""
    told = told_of(source, data)
    check_spooled(told)
    check_translated(told)


def check_translated(told: Told) -> None:
    """What the sources make of it."""
    try:
        event = sources.translate(told.source, told.arguments, told.variables)
    except sources.Refused as error:
        check_line(str(error))
        return
    if event is not None:
        check_event(event)
        check_recorded(event)


def check_event(event: Event) -> None:
    """Everything in an event is on an allow-list, canonical and bounded."""
    assert INTERFACE.fullmatch(event.interface), event.interface
    assert event.action in (sources.UP, sources.DOWN, sources.CHECK) and event.family == INET
    assert event.reason.isascii() and event.reason.isprintable() and len(event.reason) <= 40, event.reason
    for address in (event.address, event.gateway, event.server):
        assert not address or is_usable(address), address
    assert not event.gateway or event.gateway != event.address
    assert len(event.resolvers) <= MOST_ADDRESSES and all(map(is_usable, event.resolvers)), event.resolvers
    assert len(event.routes) <= MOST_ROUTES
    for network, length, router in event.routes:
        assert 1 <= length <= 32 and len(network) == 4, (network, length)
        around = ipaddress.IPv4Network((network, length))  # refuses what has bits set behind its length
        assert is_usable(around.network_address.packed), around
        assert router == bytes(4) or is_usable(router), router
    for name in (event.ipparam, event.linkname):
        assert len(name) <= LONGEST_NAME and (not name or name.isprintable()), name
    assert len(event.refused) <= len(VARIABLES[event.source]) + 8
    for problem in event.refused:
        check_line(f"dsl: {event.words} on {event.interface}: {problem}; not used")


def is_usable(address: bytes) -> bool:
    """Whether it can be anybody's own address (RFC 6890)."""
    return len(address) == 4 and 0 < address[0] < 224 and address[0] != 127


def check_recorded(event: Event) -> None:
    """What was accepted can be kept, and is read back the same."""
    lease = leases.record(None, event, "dsl")
    again = leases._parse(lease.render().encode("utf-8", "surrogateescape"))
    assert again is not None and fields_of(again) == fields_of(lease), lease.render()


def fields_of(lease: leases.Lease) -> list[object]:
    """All that a lease says."""
    return [getattr(lease, name) for name in leases.Lease.__slots__]


def check_spooled(told: Told) -> None:
    """An event that waits is the event that came."""
    name = spool.put(told)
    again = spool.take(name)
    spool.done([name])
    assert again is not None, "what was spooled cannot be read"
    assert (again.source, again.arguments, again.variables) == (told.source, told.arguments, told.variables)

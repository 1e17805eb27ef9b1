"""dhclient-script's variables (dhclient-script(8)), as ISC dhclient 4.4 passes them.

Seen in captures: BOUND may carry an old address unlike the new one (after a NAK), a lease that
was answered to a broadcast says RENEW and not REBIND, FAIL carries no addresses at all.
"""

from multihook.address import network_of
from multihook.sources.dhcp import LONGEST_OPTION, ended, fill, fill_routes
from multihook.sources.event import CHECK, DOWN, UP, Event, checked_interface

_CLASSLESS = "new_rfc3442_classless_static_routes"

_UP = frozenset(("BOUND", "RENEW", "REBIND", "REBOOT", "TIMEOUT"))
_DOWN = frozenset(("EXPIRE", "FAIL", "RELEASE", "STOP"))
# Nothing has happened yet, or what happens is IPv6, for which there is no feature yet.
_NOTHING = frozenset((
    "PREINIT", "MEDIUM", "NBI", "ARPCHECK", "ARPSEND",
    "PREINIT6", "BOUND6", "RENEW6", "REBIND6", "DEPREF6", "EXPIRE6", "RELEASE6", "STOP6",
))  # fmt: skip


def translate(_arguments: list[str], variables: dict[str, str]) -> Event | None:
    """An event from the environment of dhclient-script; raises Refused."""
    reason = variables.get("reason", "")
    if reason in _NOTHING:
        return None
    interface = checked_interface("dhclient", variables.get("interface", ""))
    if reason in _UP:
        return _up(Event("dhclient", reason, interface, UP), variables)
    if reason in _DOWN:
        return ended(Event("dhclient", reason, interface, DOWN), variables)
    # A reason we do not know says that something happened: look, and believe nothing else.
    return Event("dhclient", "unknown reason", interface, CHECK)


def _up(event: Event, variables: dict[str, str]) -> Event:
    fill(event, variables)
    classless = variables.get(_CLASSLESS, "")
    routes = _classless_routes(event, classless) if classless else None
    fill_routes(event, variables.get("new_routers", ""), _CLASSLESS, routes)
    return event


def _classless_routes(event: Event, classless: str) -> list[tuple[bytes, int, bytes]] | None:
    """(network, prefix length, router) of option 121, or None when it is not readable.

    dhclient writes decimal octets: prefix length, the significant octets of the destination, four
    of the router, and so on (RFC 3442); the router 0.0.0.0 is the segment itself.
    Debian's script for them runs after ours, so main does not have them yet.
    """
    words = classless.split()
    if len(classless) > LONGEST_OPTION or not words or not all(map(_is_octet, words)):
        event.refuse("routes", f"{_CLASSLESS} is not a list of octets")
        return None
    octets = bytes(int(word) for word in words)
    found = []
    position = 0
    while position < len(octets):
        length = octets[position]
        significant = (length + 7) // 8
        network = octets[position + 1 : position + 1 + significant]
        router = octets[position + 1 + significant : position + 5 + significant]
        if length > 32 or len(router) != 4:
            event.refuse("routes", f"{_CLASSLESS} ends in the middle of a route")
            return None
        found.append((network_of(network + bytes(4 - significant), length), length, router))
        position += 5 + significant
    return found


def _is_octet(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 3 and int(word) <= 255

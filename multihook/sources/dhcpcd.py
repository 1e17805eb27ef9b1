"""dhcpcd's variables (dhcpcd-run-hooks(8)), as dhcpcd 9.4 and 10.1 pass them.

Seen in captures: the address and its routes are in the kernel (or out of it) before the hook runs;
NOCARRIER comes while the address is still there, and EXPIRE after it when that goes; with
`persistent`, which Debian's dhcpcd.conf has, STOP leaves the address where it is.
"""

from multihook.address import network_of, parse
from multihook.files import number
from multihook.sources.dhcp import LONGEST_OPTION, ended, fill, fill_routes
from multihook.sources.event import CHECK, DOWN, UP, Event, checked_interface

_UP = frozenset(("BOUND", "RENEW", "REBIND", "REBOOT", "TIMEOUT", "INFORM", "STATIC", "RECONFIGURE"))
_DOWN = frozenset(("EXPIRE", "NAK", "STOP", "RELEASE"))
# Something happened, but not to a lease: the kernel's addresses tell the rest.  An IPV4LL address
# leads nowhere; a link that is to have one is configured, and looked at like any other.
_LOOK = frozenset((
    "NOCARRIER", "NOCARRIER_ROAMING", "UNKNOWN", "IPV4LL", "STOPPED", "DEPARTED", "FAIL",
))  # fmt: skip
# Nothing has happened yet, or what happens is IPv6, for which there is no feature yet.
_NOTHING = frozenset((
    "PREINIT", "CARRIER", "3RDPARTY", "TEST", "DUMP",
    "ROUTERADVERT", "DELEGATED6", "STATIC6", "INFORM6", "BOUND6", "RENEW6", "REBIND6", "REBOOT6", "TIMEOUT6",
    "EXPIRE6", "NAK6", "RECONFIGURE6", "STOP6", "RELEASE6", "DUMP6",
))  # fmt: skip

_IFF_POINTOPOINT = 0x10  # linux/if.h


def translate(_arguments: list[str], variables: dict[str, str]) -> Event | None:
    """An event from the environment of dhcpcd-run-hooks; raises Refused."""
    reason = variables.get("reason", "")
    # dhcpcd looks at all interfaces, sessions of pppd among them, whose own hook says more.
    if reason in _NOTHING or (number(variables.get("ifflags", "")) or 0) & _IFF_POINTOPOINT:
        return None
    interface = checked_interface("dhcpcd", variables.get("interface", ""))
    if reason in _UP:
        return _up(Event("dhcpcd", reason, interface, UP), variables)
    if reason in _DOWN:
        return ended(Event("dhcpcd", reason, interface, DOWN), variables)
    # A reason we do not know says that something happened: look, and believe nothing else.
    return Event("dhcpcd", reason if reason in _LOOK else "unknown reason", interface, CHECK)


def _up(event: Event, variables: dict[str, str]) -> Event:
    fill(event, variables)
    routes, option = None, ""
    for name in ("new_classless_static_routes", "new_ms_classless_static_routes"):
        # Option 249 is Microsoft's own 121, and means the same where 121 is not there.
        if routes is None and (classless := variables.get(name, "")):
            routes, option = _classless_routes(event, name, classless), name
    fill_routes(event, variables.get("new_routers", ""), option, routes)
    return event


def _classless_routes(event: Event, name: str, classless: str) -> list[tuple[bytes, int, bytes]] | None:
    """(network, prefix length, router) of option 121, or None when it is not readable.

    dhcpcd writes "192.0.2.0/24 10.80.0.1 0.0.0.0/0 10.80.0.1": a destination and its router, and
    so on; the router 0.0.0.0 is the segment itself.
    """
    words = classless.split() if len(classless) <= LONGEST_OPTION else []
    found = []
    for place in range(0, len(words), 2):
        head, _, digits = words[place].partition("/")
        network, length = parse(head), number(digits)
        router = parse(words[place + 1]) if place + 1 < len(words) else None
        if not network or not router or len(network) + len(router) != 8 or length is None or length > 32:
            words = []
            break
        found.append((network_of(network, length), length, router))
    if not words:
        event.refuse("routes", f"{name} is not a list of networks and routers")
        return None
    return found

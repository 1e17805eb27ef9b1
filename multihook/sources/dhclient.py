"""dhclient-script's variables (dhclient-script(8)), as ISC dhclient 4.4 passes them.

Seen in captures: BOUND may carry an old address unlike the new one (after a NAK), a lease that
was answered to a broadcast says RENEW and not REBIND, FAIL carries no addresses at all.
"""

from multihook.address import text
from multihook.sources import (
    CHECK,
    DOWN,
    LONGEST_VALUE,
    UP,
    Event,
    checked_address,
    checked_addresses,
    checked_gateway,
    checked_interface,
)

_UP = frozenset(("BOUND", "RENEW", "REBIND", "REBOOT", "TIMEOUT"))
_DOWN = frozenset(("EXPIRE", "FAIL", "RELEASE", "STOP"))
# Nothing has happened yet, or what happens is IPv6, for which there is no feature yet.
_NOTHING = frozenset((
    "PREINIT", "MEDIUM", "NBI", "ARPCHECK", "ARPSEND",
    "PREINIT6", "BOUND6", "RENEW6", "REBIND6", "DEPREF6", "EXPIRE6", "RELEASE6", "STOP6",
))  # fmt: skip


def translate(variables: dict[str, str]) -> Event | None:
    """An event from the environment of dhclient-script; raises Refused."""
    reason = variables.get("reason", "")
    if reason in _NOTHING:
        return None
    interface = checked_interface("dhclient", variables.get("interface", ""))
    if reason in _UP:
        return _up(Event("dhclient", reason, interface, UP), variables)
    if reason in _DOWN:
        event = Event("dhclient", reason, interface, DOWN)
        event.address = checked_address(event, "old_ip_address", variables.get("old_ip_address", ""))
        return event
    # A reason we do not know says that something happened: look, and believe nothing else.
    return Event("dhclient", "unknown reason", interface, CHECK)


def _up(event: Event, variables: dict[str, str]) -> Event:
    event.address = checked_address(event, "new_ip_address", variables.get("new_ip_address", ""))
    classless = variables.get("new_rfc3442_classless_static_routes", "")
    # RFC 3442: where the classless routes are there, the router option must be ignored.
    routers = _default_of(event, classless) if classless else None
    event.gateway = checked_gateway(
        event,
        "new_routers" if routers is None else "the default of option 121",
        variables.get("new_routers", "") if routers is None else routers,
    )
    event.resolvers = checked_addresses(event, "new_domain_name_servers", variables.get("new_domain_name_servers", ""))
    event.server = checked_address(event, "new_dhcp_server_identifier", variables.get("new_dhcp_server_identifier", ""))
    return event


def _is_octet(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 3 and int(word) <= 255


def _default_of(event: Event, classless: str) -> str | None:
    """The router of 0.0.0.0/0 in option 121, "" when it has none, None when it is not readable.

    dhclient writes decimal octets: prefix length, the significant octets of the destination,
    four of the router, and so on (RFC 3442).  The routes themselves are dhclient's to install;
    what it put into main is copied from there.
    """
    words = classless.split(None, LONGEST_VALUE)
    if len(classless) > 4 * LONGEST_VALUE or not all(map(_is_octet, words)):
        event.refused.append("new_rfc3442_classless_static_routes is not a list of octets")
        return None
    octets = bytes(int(word) for word in words)
    position = 0
    while position < len(octets):
        length = octets[position]
        significant = (length + 7) // 8
        router = octets[position + 1 + significant : position + 5 + significant]
        if length > 32 or len(router) != 4:
            event.refused.append("new_rfc3442_classless_static_routes ends in the middle of a route")
            return None
        if length == 0:
            return text(router) if any(router) else ""
        position += 5 + significant
    return ""

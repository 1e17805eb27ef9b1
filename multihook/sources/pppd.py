"""pppd's ip-up, ip-down, ipv6-up and ipv6-down scripts (pppd(8), section SCRIPTS).

pppd keeps its script variables over a reconnect: ipv6-up was seen with the IPLOCAL of the
session before.  So the arguments are believed and the environment only adds what they lack
(LINKNAME, DNS1, DNS2).
"""

from multihook.address import INET
from multihook.journal import foreign
from multihook.sources.event import CHECK, DOWN, UP, Event, Refused, checked_address, checked_interface

_ACTIONS = {"ip-up": UP, "ip-down": DOWN}
_LONGEST_NAME = 256


def translate(arguments: list[str], variables: dict[str, str]) -> Event | None:
    """An event from `ip-up interface tty speed local remote ipparam`.

    IPv6 has no feature yet, so its scripts have nothing to say.  Raises Refused.
    """
    reason = arguments[0] if arguments else ""
    if reason in ("ipv6-up", "ipv6-down"):
        return None
    action = _ACTIONS.get(reason)
    if action is None:
        usage = "usage: event pppd ip-up INTERFACE TTY SPEED LOCAL REMOTE [IPPARAM]"
        raise Refused(f'pppd: "{foreign(reason)}" is no script of pppd; {usage}')
    if len(arguments) < 6:
        given = len(arguments) - 1
        raise Refused(f"pppd {reason}: {given} arguments, pppd gives at least 5 (interface tty speed local remote)")
    event = Event("pppd", reason, checked_interface(f"pppd {reason}", arguments[1]), action, INET)
    event.address = checked_address(event, "address", "local address", arguments[4])
    if event.doubtful:
        event.action = CHECK  # of which address it speaks is not known
    event.ipparam = _name(event, "ipparam", arguments[6] if len(arguments) > 6 else "")
    event.linkname = _name(event, "LINKNAME", variables.get("LINKNAME", ""))
    if action == UP:
        for name in ("DNS1", "DNS2"):
            resolver = checked_address(event, "resolvers", name, variables.get(name, ""))
            if resolver and resolver not in event.resolvers:
                event.resolvers.append(resolver)
    return event


def _name(event: Event, what: str, value: str) -> str:
    """A name that only ever is compared with the configuration and shown; one line, bounded."""
    if len(value) > _LONGEST_NAME or not value.isprintable():
        event.refuse(what.lower(), f'{what} "{foreign(value)}" is longer than {_LONGEST_NAME} or not printable')
        return ""
    return value

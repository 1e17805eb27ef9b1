"""The sources of events: one module each, translating what a program told its hook into an Event.

A source decides nothing about routing.  It reads the variables named here and no others.
"""

from sys import modules

from multihook.journal import foreign
from multihook.sources.event import CHECK, DOWN, MOST_VALUES, UP, Event, Refused

__all__ = ["CHECK", "DOWN", "MOST_VALUES", "RANK", "SOURCES", "UP", "VARIABLES", "Event", "Refused", "translate"]


class Source:
    """What is known of a source.

    rank           the higher, the better it knows about one and the same address
    has_next_hop   it brings the next hop of its link with it, and so may have a link adopted
    variables      what it reads of the environment; empty where no hook is its entry point
    """

    __slots__ = ("has_next_hop", "rank", "variables")

    def __init__(self, rank: int, has_next_hop: bool, *variables: str) -> None:
        self.rank = rank
        self.has_next_hop = has_next_hop
        self.variables = frozenset(variables)


SOURCES = {
    "kernel": Source(0, False),
    "ifupdown": Source(1, True, "IFACE", "ADDRFAM", "METHOD", "IF_ADDRESS", "IF_GATEWAY"),
    "dhclient": Source(
        2, True, "reason", "interface", "new_ip_address", "new_routers", "new_rfc3442_classless_static_routes",
        "new_domain_name_servers", "new_dhcp_server_identifier", "old_ip_address",
    ),
    "dhcpcd": Source(
        2, True, "reason", "interface", "ifflags", "new_ip_address", "new_routers", "new_classless_static_routes",
        "new_ms_classless_static_routes", "new_domain_name_servers", "new_dhcp_server_identifier", "old_ip_address",
    ),
    "pppd": Source(2, False, "LINKNAME", "DNS1", "DNS2"),
    "command": Source(2, False),
}  # fmt: skip
RANK = {name: source.rank for name, source in SOURCES.items()}
# By source that has hooks, all that is looked at of the environment.
VARIABLES = {name: source.variables for name, source in SOURCES.items() if source.variables}


def translate(source: str, arguments: list[str], variables: dict[str, str]) -> Event | None:
    """The event that a source was told of, or None when it is nothing to act on.

    Raises Refused with one line when it cannot be used at all.
    """
    if source not in VARIABLES:
        raise Refused(f'"{foreign(source)}" is no source of events')
    module = f"multihook.sources.{source}"
    __import__(module)
    event: Event | None = modules[module].translate(arguments, variables)
    return event

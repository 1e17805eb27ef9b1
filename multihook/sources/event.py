"""What one hook run was told: the event, and how each of its values is checked.

A source believes no value: each passes through multihook.address, counts and lengths are bounded,
and what is refused is named in Event.refused, for the log.
"""

from multihook.address import INET, INET6, family_of, is_interface_name, is_link_local, parse, text, why_unusable
from multihook.journal import foreign

UP, DOWN, CHECK = "up", "down", "check"

_FAMILY_WORDS = {INET: "IPv4", INET6: "IPv6"}

MOST_VALUES = 8


class Refused(Exception):
    """The event as a whole cannot be used: one line says why."""


class Event:
    """What one hook run was told, after it was read with care.

    `action` is what the source says happened: an address came (up), went (down), or the link
    should merely be looked at (check).  It decides nothing by itself: the kernel's addresses do.
    `refused` has a line for each value that cannot be used, `doubtful` the fields they were for:
    of these nothing is known, so what was known before still holds.
    """

    __slots__ = (
        "action", "address", "doubtful", "family", "gateway", "interface", "ipparam", "linkname",
        "reason", "refused", "resolvers", "routes", "server", "source",
    )  # fmt: skip

    def __init__(self, source: str, reason: str, interface: str, action: str, family: int = INET) -> None:
        self.source = source
        self.reason = reason
        self.interface = interface
        self.action = action
        self.family = family
        self.address = b""
        self.gateway = b""
        self.resolvers: list[bytes] = []
        self.server = b""
        self.ipparam = ""
        self.linkname = ""
        self.routes: list[tuple[bytes, int, bytes]] = []
        self.refused: list[str] = []
        self.doubtful: set[str] = set()

    def refuse(self, field: str, line: str) -> None:
        """Note a value that cannot be used, and what it was for."""
        self.doubtful.add(field)
        self.refused.append(line)

    @property
    def words(self) -> str:
        """Who said what, as the log shows it: "pppd ip-up"."""
        return f"{self.source} {self.reason}"


def checked_interface(source: str, name: str) -> str:
    """The name of an interface, or Refused."""
    if not is_interface_name(name):
        shown = foreign(name)
        raise Refused(f'{source}: "{shown}" is no interface name that multihook works with; the event is ignored')
    return name


def checked_address(event: Event, field: str, what: str, value: str) -> bytes:
    """A usable unicast address of the event's family, or empty; what is refused is noted in the event."""
    if not value:
        return b""
    address, why = _usable(event, value)
    if why:
        event.refuse(field, f'{what} "{foreign(value)}" is {why}')
    return address if not why else b""


def checked_addresses(event: Event, field: str, what: str, value: str) -> list[bytes]:
    """The usable addresses of a blank-separated list, in their order; `field` is what they are for.

    One line says what is refused of it, however much that is.
    """
    words = value.split(None, MOST_VALUES)
    found, problems = [], []
    for word in words[:MOST_VALUES] if words or not value else [value]:
        address, why = _usable(event, word)
        if why:
            problems.append(f'"{foreign(word)}" is {why}')
        else:
            found.append(address)
    if len(words) > MOST_VALUES:
        problems.append(f"has {value.count(' ') + 1} values, only the first {MOST_VALUES} are used")
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        event.refuse(field, f"{what} {problems[0]}{more}")
    return found


def _usable(event: Event, word: str) -> tuple[bytes, str]:
    """An address and "", or what is wrong with it."""
    address = parse(word)
    if address is None:
        return b"", "no address"
    if family_of(address) != event.family:
        return b"", f"no {_FAMILY_WORDS[event.family]} address"
    return address, why_unusable(address) or ""


def checked_gateway(event: Event, what: str, value: str) -> bytes:
    """The first of a list of routers that can be a next hop: not the address of the link itself."""
    for address in checked_addresses(event, "gateway", what, value):
        if address == event.address:
            event.refuse("gateway", f'{what} "{text(address)}" is the link\'s own address')
        elif len(address) == 4 and is_link_local(address) and not is_link_local(event.address or address):
            event.refuse("gateway", f'{what} "{text(address)}" is link-local')
        else:
            return address
    return b""

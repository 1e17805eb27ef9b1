"""ifupdown's if-up.d and if-post-down.d scripts (interfaces(5), ENVIRONMENT VARIABLES): static links.

ifupdown calls them for everything, `--all` included.  Where pppd or a DHCP client does the work,
their own hooks say more.  if-down.d is not used: the address is still there then.  Debian 12's
NetworkManager runs them too (dispatcher.d/01-ifupdown), with a METHOD of that name and sometimes
late: then the line is looked at.
"""

from multihook.journal import foreign
from multihook.sources.event import CHECK, DOWN, UP, Event, Refused, checked_address, checked_gateway, checked_interface

_ACTIONS = {"if-up": UP, "if-post-down": DOWN}
# No link, or one that pppd tells of.
_SILENT = frozenset(("loopback", "manual", "ppp", "wvdial", "none"))
_STATIC = frozenset(("static", "tunnel"))


def translate(arguments: list[str], variables: dict[str, str]) -> Event | None:
    """An event from `event ifupdown if-up` and the environment of the stanza; raises Refused."""
    reason = arguments[0] if arguments else ""
    action = _ACTIONS.get(reason)
    if action is None:
        raise Refused(f'ifupdown: "{foreign(reason)}" is no folder of ours; usage: event ifupdown if-up|if-post-down')
    name, method = variables.get("IFACE", ""), variables.get("METHOD", "")
    # IPv6 has no feature yet; "meta" is a call for all interfaces together (`ifup --all`).
    if variables.get("ADDRFAM", "") != "inet" or name == "--all" or method in _SILENT:
        return None
    interface, is_alias, _ = name.partition(":")
    event = Event("ifupdown", reason, checked_interface(f"ifupdown {reason}", interface), CHECK)
    if method in _STATIC:
        _static(event, action, variables, bool(is_alias))
    return event


def _static(event: Event, action: str, variables: dict[str, str], is_alias: bool) -> None:
    """Make it the event of a stanza with an address of its own.

    Of several stanzas for one interface, and of its aliases ("eth0:1"), the one with a `gateway`
    says which address the link is known by.  The others only bring further addresses: an up
    without gateway, or by an alias, just has the link looked at.
    """
    event.address = checked_address(event, "address", "address", variables.get("IF_ADDRESS", "").partition("/")[0])
    if event.doubtful:
        return  # of which address it speaks is not known
    if action == DOWN:
        event.action = DOWN if event.address else CHECK
        return
    gateway = variables.get("IF_GATEWAY", "")
    if event.address and gateway and not is_alias:
        event.gateway = checked_gateway(event, "gateway", gateway)
    if event.gateway:
        event.action = UP

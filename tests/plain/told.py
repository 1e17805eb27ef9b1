"""What hooks are told by pppd, dhclient and ifupdown, as a hook hands it to the run or leaves it in the spool."""

from multihook.spool import Told


def ip_up(interface: str, local: str, ipparam: str = "dsl") -> Told:
    """pppd: a session is up at this address."""
    return Told("pppd", ["ip-up", interface, "", "0", local, "192.0.2.1", ipparam], {})


def ip_down(interface: str, local: str, ipparam: str = "dsl") -> Told:
    """pppd: the session that had this address is over."""
    return Told("pppd", ["ip-down", interface, "", "0", local, "192.0.2.1", ipparam], {})


def bound(interface: str, local: str, router: str = "", reason: str = "BOUND") -> Told:
    """dhclient: a lease of this address; with another reason a later word about it."""
    variables = {"reason": reason, "interface": interface, "new_ip_address": local}
    return Told("dhclient", [], variables | ({"new_routers": router} if router else {}))


def stanza(folder: str, interface: str, method: str = "static", **options: str) -> Told:
    """ifupdown: the scripts of a folder are run for a stanza with these options."""
    variables = {"IFACE": interface, "ADDRFAM": "inet", "METHOD": method}
    return Told("ifupdown", [folder], variables | {f"IF_{name.upper()}": value for name, value in options.items()})


def expire(interface: str, local: str) -> Told:
    """dhclient: the lease of this address has expired."""
    return Told("dhclient", [], {"reason": "EXPIRE", "interface": interface, "old_ip_address": local})

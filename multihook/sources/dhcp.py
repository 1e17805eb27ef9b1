"""What all DHCP clients say of a lease in the same words: address, routers, DNS servers, server (RFC 2132)."""

from multihook.address import network_text, text, why_unusable
from multihook.sources.event import CHECK, Event, checked_address, checked_addresses, checked_gateway

TYPE_CHECKING = False
if TYPE_CHECKING:
    # (network, prefix length, router) as option 121 has them; the router 0.0.0.0 is the segment itself
    Routes = list[tuple[bytes, int, bytes]]

LONGEST_OPTION = 4096
MOST_ROUTES = 32


def fill(event: Event, variables: dict[str, str]) -> None:
    """Fill in what came with a lease, its classless routes aside."""
    event.address = checked_address(event, "address", "new_ip_address", variables.get("new_ip_address", ""))
    resolvers = variables.get("new_domain_name_servers", "")
    event.resolvers = checked_addresses(event, "resolvers", "new_domain_name_servers", resolvers)
    server = variables.get("new_dhcp_server_identifier", "")
    event.server = checked_address(event, "server", "new_dhcp_server_identifier", server)


def ended(event: Event, variables: dict[str, str]) -> Event:
    """The same event, with the address of the lease that is over; where that cannot be, one that only says to look."""
    event.address = checked_address(event, "address", "old_ip_address", variables.get("old_ip_address", ""))
    if event.doubtful:
        event.action = CHECK
    return event


def fill_routes(event: Event, routers: str, option: str, routes: "Routes | None") -> None:
    """Fill in the next hop and the other routes; `routes` is None where no option 121 came, or no readable one.

    `option` is the variable that they came in.
    """
    what = "new_routers"
    if routes is not None:
        routes = _usable(event, option, routes)
        # RFC 3442: where the classless routes are there, the router option must be ignored.
        routers = " ".join(text(router) for _, prefixlen, router in routes if not prefixlen)
        what = "the router of 0.0.0.0/0 in option 121"
        others = [route for route in routes if route[1]]
        event.routes = others[:MOST_ROUTES]
        if len(others) > MOST_ROUTES:
            event.refused.append(f"{option}: the routes beyond the first {MOST_ROUTES} of {len(others)}")
    event.gateway = checked_gateway(event, what, routers)


def _why_unusable(network: bytes, length: int, router: bytes) -> str:
    """Why a route can be none, behind "NETWORK by ROUTER"; "" when it can.  A default is judged by its router later."""
    if not length:
        return ""
    if length < 8 and not network[0]:
        return "has addresses of 0.0.0.0/8 in it"
    why = why_unusable(network) or (any(router) and why_unusable(router))
    return f"is {why}" if why else ""


def _usable(event: Event, option: str, routes: "Routes") -> "Routes":
    """The routes that can be; of the others the first is named."""
    found, problems = [], []
    for network, length, router in routes:
        why = _why_unusable(network, length, router)
        if why:
            problems.append(f"{option}: {network_text(network, length)} by {text(router)} {why}")
        else:
            found.append((network, length, router))
    if problems:
        # The others are good: it is not doubtful what they are.
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        event.refused.append(problems[0] + more)
    return found

"""Connections: when a link has lost its address, what was translated to or from it is forgotten.

Translation is decided once for each connection.  One whose packets keep coming (a telephone, a
tunnel) would carry the old address for ever, by whichever link it leaves now, and be dropped
there.  So its entries go, those of no other address and none that translated nothing; its next
packet is translated anew.

Where no link is left that could take them over they stay, and a note of the address with them: if
it comes back first, nothing was lost.
"""

from posix import access

from multihook import leases
from multihook.kernel import stale
from multihook.kernel.stale import Note
from multihook.paths import CONNECTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from multihook.links import Link
    from multihook.view import View

NAME = "connections"
KINDS = (stale.KIND,)


def is_wanted(config: "dict[str, Any]") -> bool:
    """Whether connections of a link are translated, or there is a note of some that were."""
    return bool(config["snat"]) or access(CONNECTIONS, 0)


def desired(view: "View") -> list[Note]:
    """A note of each departed address while no link can take over its connections."""
    if not view.departed or _can_be_taken_over(view):
        return []
    return [Note(address, link) for address, link in view.departed.items()]


def _can_be_taken_over(view: "View") -> bool:
    """Whether there is a link by which the next packet of a connection can leave."""
    if any(map(_leads_out, view.links)):
        return True
    # The links that an event's run is not about are looked at for this alone.
    others = () if view.whole else dict.fromkeys(link for link, _ in leases.keys())
    return any(link is not None and _leads_out(link) for link in map(view.link, others))


def _leads_out(link: "Link") -> bool:
    return any(path.is_up and path.has_exit for path in link.paths.values())

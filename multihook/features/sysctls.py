"""Sysctls: what the kernel checks and says of each configured link, while there are two links or more.

    rp_filter=2           answers may come by another way than packets to the sender would go
    src_valid_mark=1      that check looks at packet marks
    arp_ignore=1          a card answers ARP for its own addresses only,
    arp_announce=2        and asks in the name of its own only
    arp_filter=1          on a segment shared with another link: only where the answer leaves by
                          this card; it asks the rules, so it comes after them
    icmp_errors_use_inbound_ifaddr=1    once, while a link has `sources`: an ICMP error carries an
                          address of the link that its cause came by

The two about one's own addresses stand from the first run on, also while the link is down:
between a new address on one of two cards and the hook's run the other card would answer for it,
and routers keep a wrong MAC for hours.  arp_filter cannot hold there, for without its rule the
new address belongs to the card that main names.
"""

from multihook.address import FAMILIES
from multihook.kernel import sysctl
from multihook.kernel.sysctl import (
    ARP_ANNOUNCE,
    ARP_FILTER,
    ARP_IGNORE,
    ICMP_SOURCE,
    NAMESPACE,
    OURS,
    RP_FILTER,
    SRC_VALID_MARK,
    Setting,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from multihook.links import Link
    from multihook.view import View

NAME = "sysctls"
KINDS = (sysctl.KIND,)

# The folders in conf/ that are no interfaces.
_NO_INTERFACES = ("all", "default")
_STRICT = 1


def is_wanted(config: "dict[str, Any]") -> bool:
    """Whether there is a configured link: on adopted ones nothing is set."""
    return bool(config["links"])


def desired(view: "View") -> list[Setting]:
    """The settings of the view's links."""
    found: list[Setting] = []
    if not view.several:
        return found
    segments = _Segments(view)
    for link in view.links:
        interface = link.interface
        if interface and not link.adopted and interface.name not in _NO_INTERFACES:
            for option in _options(view, link, segments):
                found.append(Setting(interface.name, interface.index, option, OURS[option], link.name))
    with_sources = next((link.name for link in view.links if link.sources), "")
    if with_sources:
        found.append(Setting(NAMESPACE, 0, ICMP_SOURCE, OURS[ICMP_SOURCE], with_sources))
    return found


def _options(view: "View", link: "Link", segments: "_Segments") -> list[str]:
    found = []
    is_held = any(path.lease.held for path in link.paths.values())
    is_sharer = segments.is_sharer(link)
    is_one_of_several = is_sharer or len(view.config["by_interface"]) > 1
    if _is_card(link) and is_one_of_several and not is_held:
        found.append(ARP_ANNOUNCE)
        if _speaks_for_itself(link, segments):
            found.append(ARP_IGNORE)
    if link.has_address:
        found += [RP_FILTER, SRC_VALID_MARK]
    if is_sharer:
        found.append(ARP_FILTER)
    return found


def _is_card(link: "Link") -> bool:
    """Whether ARP is spoken on a link, and with providers only."""
    return link.interface is not None and link.interface.speaks_arp and not link.lan


def _speaks_for_itself(link: "Link", segments: "_Segments") -> bool:
    """Whether no host may count on a card's answers for addresses that stand elsewhere.

    `sources` may be on lo, and so may an address of the segment: then it has to answer for it.
    """
    return not link.sources and all(segments.is_of_link(index) for index in segments.neighbours(link))


class _Segments:
    """Which interfaces share a segment, and which of them are those of links."""

    def __init__(self, view: "View") -> None:
        self._view = view
        self._neighbours: dict[int, set[int]] = {}
        self._links: dict[int, list[Link]] = {}
        for link in view.links:
            if link.interface:
                self._links.setdefault(link.interface.index, []).append(link)

    def neighbours(self, link: "Link") -> set[int]:
        """The other interfaces with an on-link prefix that overlaps one of this link's."""
        if not link.interface:
            return set()
        known = self._neighbours.get(link.interface.index)
        if known is None:
            known = set()
            for family in FAMILIES:
                known |= self._view.facts.neighbours(link.interface, family)
            self._neighbours[link.interface.index] = known
        return known

    def is_of_link(self, index: int) -> bool:
        """Whether an interface is that of a link, also of one that is down, held, or about to come up."""
        if index in self._links:
            return True
        view = self._view
        interface = view.facts.interface_at(index)
        return interface is not None and (
            interface.group in view.groups or interface.name in view.config["by_interface"]
        )

    def is_sharer(self, link: "Link") -> bool:
        """Whether a link's card shares its segment with another link's, and both are kept right."""
        return self._is_kept_right(link) and self.has_other_card(link)

    def has_other_card(self, link: "Link") -> bool:
        """Whether a link is one by which ARP is spoken, with another link's card on its segment."""
        return _is_card(link) and any(self._is_card_of_link(index) for index in self.neighbours(link))

    def _is_card_of_link(self, index: int) -> bool:
        """Whether an interface is that of a link by which ARP is spoken, and whose traffic rules tell from all other.

        An event's run sees one link, and knows the others by the interface group.
        """
        view = self._view
        if view.whole:
            return any(self._is_kept_right(link) and _is_card(link) for link in self._links.get(index, ()))
        interface = view.facts.interface_at(index)
        return interface is not None and interface.group in view.groups and interface.speaks_arp

    def _is_kept_right(self, link: "Link") -> bool:
        """Whether other links' rules leave out what main has by this link's interface (its group)."""
        interface = link.interface
        if interface is None or link.lan or not link.has_address:
            return False
        return interface.group in (0, *self._view.groups)


def notes(view: "View", link: "Link") -> list[str]:
    """What `status` says of an adopted link, for which nothing is set."""
    found = []
    if link.adopted and link.interface and link in view.links:
        name = link.interface.name
        if max(sysctl.get(where, RP_FILTER) or 0 for where in ("all", name)) == _STRICT:
            found.append("rp_filter is 1: answers to what is forwarded by it may be dropped; 2 allows them")
        if _Segments(view).has_other_card(link):
            found.append("shares its segment with another link: its card answers ARP for both; name it in a [link.*]")
    return found

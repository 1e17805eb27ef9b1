"""How far a run looks: at the links of its events, or at everything of ours."""

from multihook import engine, features, leases, links, record, survey
from multihook.kernel.rtnetlink import Door
from multihook.leases import Lease
from multihook.survey import SEVERAL, Survey
from multihook.view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from multihook.engine import Numbers
    from multihook.record import Certificate
    from multihook.survey import Events

    Config = dict[str, Any]

# With no more links than this an event counts the routes and group members of all links too, and
# so notices what someone took from another one: 0.1 ms with 4 links, but 3 ms with 300.
FEW_LINKS = 16


def look(
    config: "Config", door: Door, events: "Events", certificate: "Certificate | None", whole: bool, numbers: "Numbers"
) -> tuple[Survey, View]:
    """At the links of these events; at everything when that is asked, or when it is not enough."""
    if not whole and certificate and _holds(certificate, config):
        found = survey.of_events(config, door, events)
        if not _needs_whole(found, certificate, events):
            view = found.view(door, certificate)
            of_events = [*found.links, *found.lone, *found.idle]
            few = certificate.links <= FEW_LINKS
            if not engine.is_disturbed(view, numbers, certificate.signature, of_events, thorough=few):
                return found, view
    from multihook import census

    numbers.start(whole=True)
    found = census.of_everything(config, door, events)
    return found, found.view(door, certificate)


def look_again(before: Survey, config: "Config", door: Door, events: "Events") -> Survey:
    """As far as before, at facts that have changed meanwhile."""
    if not before.whole:
        return survey.of_events(config, door, events)
    from multihook import census

    return census.of_everything(config, door, events)


def _holds(certificate: "Certificate", config: "Config") -> bool:
    """Whether an event may look at its own link only."""
    return certificate.digest == config["digest"] and certificate.boot == record.boot()


def _needs_whole(found: Survey, certificate: "Certificate", events: "Events") -> bool:
    """Whether what these links have become concerns others, or cannot be told without looking at others."""
    # A dropped link is in no view of its own; which link has a shared address only all of them show.
    if found.is_shared or found.dropped:
        return True
    if found.several != (certificate.links >= SEVERAL):
        return True  # a second link concerns the first as well
    if any(key not in found.before for key in found.after):
        return True  # a new link, or one whose record was lost: what it had is not known
    if any(not link.table for link in found.links):
        return True  # the numbers were lost
    if any(found.before[path.lease.key].address for link in found.idle for path in link.paths.values()):
        return True
    if any(_concerns_others(found, before, found.after[key]) for key, before in found.before.items()):
        return True
    if _changes_state(found) and any(getattr(one, "FOLLOWS_STATE", False) for one in features.wanted(found.config)):
        return True
    # A session of another line has come up on the interface (pppN) that a line had before.
    unknown = {event.interface for name, event in events if name not in found.config["links"]}
    return links.has_line_on(found.config, unknown)


def _changes_state(found: Survey) -> bool:
    """Whether a link begins or ceases to be one that can carry traffic."""
    return any(before.is_up != found.after[key].is_up for key, before in found.before.items())


def _concerns_others(found: Survey, before: Lease, after: Lease) -> bool:
    """Whether a link moved to another interface (pppN), or to one that another link has a record of, or
    lost an address that another interface still has."""
    if after.held != before.held:
        return True  # the only link that translates, perhaps: the nft table goes with it, and has to come back
    if before.interface != after.interface:
        return True
    had = before.address
    if had == after.address:
        return before.is_up != after.is_up and _shares_segment(found, after)
    if had and found.facts.holders(had, before.family):
        return True
    if _shares_segment(found, before) or _shares_segment(found, after):
        return True
    rivals = {links.adopted_name(found.config, after.interface), found.config["by_interface"].get(after.interface, "")}
    records = [lease for rival in rivals - {after.link, ""} for lease in leases.of_link(rival)]
    return any(record.interface == after.interface for record in records)


def _shares_segment(found: Survey, lease: Lease) -> bool:
    """Whether another interface has an address on the link's segment: what its card may answer, and that of
    the other, changes with this one."""
    if not lease.address or not 0 < lease.prefixlen < len(lease.address) * 8:
        return False
    interface = found.facts.interface(lease.interface)
    others = found.facts.overlapping(lease.address, lease.prefixlen, lease.family)
    return bool(others - {interface.index if interface else 0})

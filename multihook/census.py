"""A survey of all links there are: configured, recorded, or with a default route that no event told of."""

from multihook import discovery, leases, links
from multihook.address import FAMILIES
from multihook.config import tables
from multihook.kernel.facts import Facts
from multihook.kernel.rtnetlink import Door
from multihook.leases import Lease
from multihook.sources import UP
from multihook.survey import Survey, adopted_with_address, has, keep_adopted_only_among_several, record, settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from multihook.leases import Key
    from multihook.survey import Events

    Config = dict[str, Any]


def of_everything(config: "Config", door: Door, events: "Events") -> Survey:
    """Look at all links there are: configured, recorded, or with a default route that no event told of."""
    recorded = leases.load_all()
    survey = Survey(config, Facts(door), recorded, whole=True)
    known = _rematched(survey, recorded)
    recorded_on = {lease.interface for lease in known.values()}
    for family in FAMILIES:
        have_record = {link for link, of_family in known if of_family == family}
        for lease in discovery.by_rules(config, door, tables.known(), have_record, family):
            if lease.interface not in recorded_on:
                known[lease.key] = lease
    record(survey, known, events)
    _one_link_an_interface(survey, events)
    for family in FAMILIES:
        _discover(survey, family)
    settle(survey)
    survey.count = len(config["links"]) + adopted_with_address(survey)
    keep_adopted_only_among_several(survey)
    _share_out(survey)
    return survey


def _discover(survey: Survey, family: int) -> None:
    """Add the leases of links that no event has told of."""
    config = survey.config
    of_family = [lease for lease in survey.after.values() if lease.family == family]
    taken = {lease.interface for lease in of_family if lease.address}
    configured = {lease.link for lease in of_family if lease.link in config["links"]}
    for lease in discovery.by_configuration(config, configured, taken, family):
        survey.after[lease.key] = lease
    # What the configuration speaks of is not adopted as well, be its link up or down.
    taken.update(config["by_interface"])
    taken.update(lease.interface for lease in survey.after.values() if lease.link in config["links"])
    for lease in discovery.by_default(config, survey.facts, taken, family):
        survey.after.setdefault(lease.key, lease)


def _rematched(survey: Survey, recorded: "dict[Key, Lease]") -> "dict[Key, Lease]":
    """The records under the names that the configuration gives them now."""
    config = survey.config
    known: dict[Key, Lease] = {}
    for lease in recorded.values():
        right = links.match(config, lease.interface, lease.ipparam, lease.linkname)
        if not right and config["adopt"] and not links.is_ignored(config, lease.interface):
            right = links.adopted_name(config, lease.interface)
        if right and (right == lease.link or (right, lease.family) not in known):
            moved = lease.copy()
            moved.link = right
            known[moved.key] = moved
    return known


def _one_link_an_interface(survey: Survey, events: "Events") -> None:
    """Where several links claim one interface (pppN changed hands), the one best named keeps it."""
    told = {
        event.interface: name for name, event in events
        if event.action == UP and has(survey.facts, event.interface, event.address, event.family)
    }  # fmt: skip
    by_interface: dict[str, list[Lease]] = {}
    for lease in survey.after.values():
        by_interface.setdefault(lease.interface, []).append(lease)
    for interface, claims in by_interface.items():
        if len(claims) > 1:
            claims.sort(key=lambda lease: _claim(survey, lease, told.get(interface, "")), reverse=True)
            for lease in claims[1:]:
                if lease.link != claims[0].link:
                    _outdo(survey, lease)


def _outdo(survey: Survey, lease: Lease) -> None:
    """Take its interface from a link that has no claim to it."""
    if lease.link not in survey.config["links"]:
        del survey.after[lease.key]
        return
    outdone = survey.after[lease.key] = lease.copy()
    outdone.address = outdone.gateway = b""
    outdone.withdrawn = True
    if links.is_by_line(survey.config, lease.link):
        outdone.source, outdone.reason = "kernel", leases.TAKEN
    survey.outdone.add(lease.key)


def _claim(survey: Survey, lease: Lease, told: str) -> tuple[bool, bool, bool, bool, int]:
    """How good a record's claim to its interface is: told just now, with its address, by its line, configured."""
    configured = survey.config["links"]
    named = lease.link in configured
    by_line = named and bool(lease.ipparam or lease.linkname) and not configured[lease.link]["interface"]
    has_address = has(survey.facts, lease.interface, lease.address, lease.family)
    return (lease.link == told, has_address, by_line, named, lease.since)


def _share_out(survey: Survey) -> None:
    """Where links have the same address, the one that has had it longest keeps its rules; the others are told.

    So no DHCP server of one line can take another line's address away by handing it out.
    """
    holders = [(link, path) for link in survey.links for path in link.paths.values() if path.has_address]
    holders.sort(key=lambda pair: max(pair[1].lease.since, pair[1].lease.changed))
    first: dict[bytes, str] = {}
    for link, path in holders:
        name = first.setdefault(path.lease.address, link.name)
        if name != link.name:
            path.shared = True
            link.notes.append(f"its address is also that of {name}: only sockets bound to its interface use it")


def allot_tables(survey: Survey, door: Door, keep: bool = True) -> bool:
    """Give adopted links that have no table yet one that stays theirs; True when there were any.

    With `keep` this writes /var/lib/multihook/tables, so it is not part of the survey itself.
    """
    without = [link for link in survey.links if not link.table]
    if without:
        from multihook.kernel.tables import in_use

        taken = in_use(door, survey.config["rt_proto"])
        numbers = tables.allot([link.name for link in without], survey.config, taken, keep)
        for link in without:
            link.table = numbers[link.name]
    elif keep and survey.whole:
        tables.take_over(survey.config)
    return bool(without)

"""What a run starts from: configuration, leases after the events, and the kernel's facts, as one View.

A survey reads and decides; it changes nothing, in the kernel or on disk.
"""

from multihook import leases, links
from multihook.config import tables
from multihook.features import View
from multihook.kernel import rules
from multihook.kernel.facts import Facts
from multihook.kernel.rtnetlink import Door
from multihook.leases import Lease
from multihook.links import FAMILIES, Link
from multihook.record import Certificate, now
from multihook.sources import UP, Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Config = dict[str, Any]


# From two links on there is something to keep apart.
SEVERAL = 2


class Survey:
    """What is, and what follows from it.

    before, after   leases by link, as recorded and as they are now
    lost            links whose record is to be dropped
    links           all links that were looked at, up or down, in the order of the configuration
    lone            the adopted link of a machine with one line, for which nothing is changed
    gone            adopted links that have lost their address: known, shown, and no links now
    outdone         links whose interface is another link's by a better claim
    refused         by link, what of an event only the kernel's addresses show to be wrong
    count           how many links this machine has; counted no further than it matters
    shared          whether an address of a link is also somewhere else, so that only a look at
                    everything can tell whose it is
    """

    __slots__ = (
        "after", "before", "config", "count", "facts", "gone", "links", "lone", "lost",
        "outdone", "refused", "shared", "whole",
    )  # fmt: skip

    def __init__(self, config: "Config", facts: Facts, before: dict[str, Lease], *, whole: bool) -> None:
        self.config = config
        self.facts = facts
        self.before = before
        self.after: dict[str, Lease] = {}
        self.lost: list[str] = []
        self.outdone: set[str] = set()
        self.refused: dict[str, str] = {}
        self.links: list[Link] = []
        self.lone: list[Link] = []
        self.gone: list[Link] = []
        self.count = 0
        self.shared = False
        self.whole = whole

    @property
    def several(self) -> bool:
        """Whether this machine has two links or more, so that there is something to keep apart."""
        return self.count >= SEVERAL

    def view(self, door: Door, certificate: Certificate | None) -> View:
        """What the features get to see."""
        former: dict[str, list[bytes]] = {}
        servers: dict[str, list[bytes]] = {}
        for name, lease in [*self.before.items(), *self.after.items()]:
            former.setdefault(name, []).extend(a for a in (lease.address, lease.former) if a)
            if lease.server:
                servers.setdefault(name, []).append(lease.server)
        protocols, groups = {self.config["rt_proto"]}, {self.config["group"]}
        if self.whole and certificate:
            # The numbers may just have been changed in the configuration.
            protocols.add(certificate.protocol)
            groups.add(certificate.group)
        if self.whole and (certificate is None or certificate.is_annulled):
            groups |= _groups_in_rules(door, self.config["rt_proto"])
        return View(
            self.config, door, self.facts, self.links,
            whole=self.whole, several=self.several, former=former, servers=servers, owners=self._owners(),
            protocols=frozenset(protocols), groups=frozenset(groups), lost=self._lost_addresses(),
        )  # fmt: skip

    def _lost_addresses(self) -> dict[str, bytes]:
        """By link, the address that it had and that no interface of this machine has any more."""
        found = {}
        for name, lease in self.before.items():
            after = self.after.get(name)
            if lease.address and not (after and after.address == lease.address):
                if not self.facts.holders(lease.address, lease.family):
                    found[name] = lease.address
        return found

    def _owners(self) -> dict[int | str, str]:
        """Whose tables and interfaces those are that belong to none of the links to be kept right."""
        owners: dict[int | str, str] = {}
        if self.whole:
            owners.update((number, name) for name, number in tables.known().items())
        for link in self.lone + self.gone:
            owners[link.table] = owners[link.interface_name] = link.name
        return owners


def _groups_in_rules(door: Door, protocol: int) -> set[int]:
    """The interface groups that our own rules speak of: all that tells of another one once state is lost."""
    found = [rule for family in FAMILIES for rule in rules.Dump(door, family).of_protocols(frozenset((protocol,)))]
    return {rule.suppress_ifgroup for rule in found} - {rules.NONE}


def of_events(config: "Config", door: Door, events: list[tuple[str, Event]]) -> Survey:
    """Look at the links that these events are about, and at nothing else."""
    names = list(dict.fromkeys(name for name, _ in events))
    before = {name: lease for name in names if (lease := leases.load(name))}
    interfaces = {event.interface for _, event in events} | {lease.interface for lease in before.values()}
    survey = Survey(config, Facts(door, interfaces), before, whole=False)
    _record(survey, before, events)
    _settle(survey)
    others = _others_up(survey, names)
    survey.count = others + _adopted_with_address(survey)
    _keep_adopted_only_among_several(survey)
    return survey


def of_everything(config: "Config", door: Door, events: list[tuple[str, Event]]) -> Survey:
    """Look at all links there are: configured, recorded, or with a default route that nobody told of."""
    recorded = leases.load_all()
    survey = Survey(config, Facts(door), recorded, whole=True)
    known = _rematched(survey, recorded)
    recorded_on = {lease.interface for lease in known.values()}
    for lease in links.found_by_rules(config, door, tables.known(), known):
        if lease.interface not in recorded_on:
            known[lease.link] = lease
    _record(survey, known, events)
    _one_link_an_interface(survey, events)
    taken = {lease.interface for lease in survey.after.values() if lease.address}
    configured = {name for name in survey.after if name in config["links"]}
    for family in FAMILIES:
        for lease in links.found_by_configuration(config, configured, taken, family):
            survey.after[lease.link] = lease
            taken.add(lease.interface)
        # What the configuration speaks of is not adopted as well, be its link up or down.
        taken.update(config["by_interface"])
        taken.update(lease.interface for lease in survey.after.values() if lease.link in config["links"])
        for lease in links.found_by_default(config, survey.facts, taken, family):
            survey.after.setdefault(lease.link, lease)
    _settle(survey)
    survey.count = len(config["links"]) + _adopted_with_address(survey)
    _keep_adopted_only_among_several(survey)
    _share_out(survey)
    return survey


def _rematched(survey: Survey, recorded: dict[str, Lease]) -> dict[str, Lease]:
    """The records under the names that the configuration gives them now."""
    config = survey.config
    known: dict[str, Lease] = {}
    for name, lease in recorded.items():
        right = links.match(config, lease.interface, lease.ipparam, lease.linkname)
        if not right and config["adopt"] and not links.is_ignored(config, lease.interface):
            right = links.adopted_name(config, lease.interface)
        if right and (right == name or right not in known):
            moved = lease.copy()
            moved.link = right
            known[right] = moved
    return known


def _record(survey: Survey, known: dict[str, Lease], events: list[tuple[str, Event]]) -> None:
    """The leases after these events, not yet checked."""
    survey.after = dict(known)
    for name, event in events:
        if event.reason == "down by hand" or _is_too_late(survey.facts, survey.after.get(name), event):
            continue
        survey.after[name] = leases.record(survey.after.get(name), event, name)
    for name, event in events:
        if event.reason == "down by hand" and name in survey.after:
            lease = survey.after[name] = survey.after[name].copy()
            lease.held = True


def _is_too_late(facts: Facts, known: "Lease | None", event: Event) -> bool:
    """Whether an event speaks of an address that is no more, while the link has the one that is known of it.

    Its own session is over then, maybe on another pppN: what it says must not hide the one that is.
    """
    if event.action != UP or not event.address or not known or not known.address:
        return False
    is_there = _has(facts, event.interface, event.address, event.family)
    return not is_there and _has(facts, known.interface, known.address, known.family)


def _has(facts: Facts, name: str, address: bytes, family: int) -> bool:
    """Whether that interface has that address."""
    interface = facts.interfaces.get(name)
    return interface is not None and bool(address) and interface.index in facts.holders(address, family)


def _one_link_an_interface(survey: Survey, events: list[tuple[str, Event]]) -> None:
    """Where several records claim one interface (pppN changed hands), the one best named keeps it."""
    told = {
        event.interface: name for name, event in events
        if event.action == UP and _has(survey.facts, event.interface, event.address, event.family)
    }  # fmt: skip
    by_interface: dict[str, list[Lease]] = {}
    for lease in survey.after.values():
        by_interface.setdefault(lease.interface, []).append(lease)
    for interface, claims in by_interface.items():
        claims.sort(key=lambda lease: _claim(survey, lease, told.get(interface, "")), reverse=True)
        for lease in claims[1:]:
            if lease.link in survey.config["links"]:
                outdone = survey.after[lease.link] = lease.copy()
                outdone.address = outdone.gateway = b""
                outdone.withdrawn = True
                if links.is_by_line(survey.config, lease.link):
                    outdone.source, outdone.reason = "kernel", leases.TAKEN
                survey.outdone.add(lease.link)
            else:
                del survey.after[lease.link]


def _claim(survey: Survey, lease: Lease, told: str) -> tuple[bool, bool, bool, bool, int]:
    """How good a record's claim to its interface is: told just now, with its address, by its line, configured."""
    configured = survey.config["links"]
    named = lease.link in configured
    by_line = named and bool(lease.ipparam or lease.linkname) and not configured[lease.link]["interface"]
    has_address = _has(survey.facts, lease.interface, lease.address, lease.family)
    return (lease.link == told, has_address, by_line, named, lease.since)


def _settle(survey: Survey) -> None:
    """Check each lease against the kernel, drop those of nobody, and make the links."""
    config = survey.config
    clock = now()
    unchecked, survey.after = survey.after, {}
    for name, lease in unchecked.items():
        checked = lease
        if name not in survey.outdone:
            checked = leases.check(lease, survey.facts, links.hint_for(config, name))
            if name in survey.before and (why := links.keep_next_hop(checked, survey.before[name], survey.facts)):
                survey.refused[name] = why
        if name not in config["links"]:
            was_link = name in survey.before and not checked.address
            if not config["adopt"] or not (was_link or links.is_adoptable(checked, survey.facts)):
                continue
            checked.by_default = checked.by_default or not checked.gateway
        survey.after[name] = leases.stamp(checked, survey.before.get(name), clock)
    survey.lost = [name for name in survey.before if name not in survey.after]
    _make_links(survey, list(unchecked))


def _make_links(survey: Survey, names: list[str]) -> None:
    config = survey.config
    wanted = list(config["links"]) if survey.whole else [name for name in config["links"] if name in names]
    adopted = sorted(name for name in survey.after if name not in config["links"])
    numbers = tables.known() if adopted else {}
    for name in wanted + adopted:
        settings = config["links"].get(name)
        table = settings["table"] if settings else numbers.get(name, 0)
        link = links.resolve(name, table, config, survey.after.get(name), survey.facts)
        link.refused += [survey.refused[name]] if name in survey.refused else []
        is_gone = link.adopted and not survey.after[name].address
        (survey.gone if is_gone else survey.links).append(link)
    for link in survey.links:
        for path in link.paths.values():
            if path.has_address and len(survey.facts.holders(path.lease.address, path.lease.family)) > 1:
                survey.shared = True


def _adopted_with_address(survey: Survey) -> int:
    """How many adopted links there are; one that is held down by hand is a link all the same."""
    return sum(any(path.lease.address for path in link.paths.values()) for link in survey.links if link.adopted)


def _others_up(survey: Survey, names: list[str]) -> int:
    """How many links there are beside the adopted ones looked at here; counts no further than two."""
    config = survey.config
    count = len(config["links"])
    if count < SEVERAL:
        for name in leases.names():
            if count >= SEVERAL:
                break
            if name in names or name in config["links"]:
                continue
            lease = leases.load(name)
            if lease and lease.address:
                count += 1
    return count


def _keep_adopted_only_among_several(survey: Survey) -> None:
    """On a machine with one line nothing is changed, so a lone adopted link is no link to the features.

    Unless main has no default by it, because it was the second of two until the first went:
    then its own table is all that its traffic has.
    """
    if not survey.several:
        survey.lone = [link for link in survey.links if link.adopted and _is_served_by_main(survey, link)]
        survey.links = [link for link in survey.links if link not in survey.lone]


def _is_served_by_main(survey: Survey, link: Link) -> bool:
    if not link.interface or not link.is_up:
        return True
    return all(survey.facts.default_by(link.interface, family) for family in link.paths)


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


def _share_out(survey: Survey) -> None:
    """Where links carry the same address, who has had it longest keeps its rules; the others are told.

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

"""What a run starts from: configuration, leases after the events, and the kernel's facts, as one View.

A survey reads and decides; it changes nothing, in the kernel or on disk.

The words used here and by what follows:
line        what a provider sells; a link is our side of it: an interface with an address and a next hop
configured  named by a section [link.*]; any other link is adopted
recorded    has a file in /run/multihook/leases; found: no event has told of it
up          has its address, and its interface is set up
held        taken out by `multihook down`, until the next event
taken       a session of another line has got the interface that the line had (pppN)
outdone     of two links that claim an interface, the one with the worse claim
lone        the adopted link of a machine with one line: nothing is changed for it
idle        an adopted link that has lost its address: known and shown, and no link now
dropped     a record that stands for no link any more
departed    an address of a link that no interface has any more
shared      an address that two interfaces have
"""

from multihook import departed, leases, links
from multihook.address import FAMILIES
from multihook.kernel import rules
from multihook.kernel.facts import Facts
from multihook.kernel.rtnetlink import Door
from multihook.leases import Lease
from multihook.links import Link
from multihook.record import Certificate, now
from multihook.sources import UP, Event
from multihook.view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from multihook.leases import Key

    Config = dict[str, Any]
    # Events, each with the name of the link that it is about.
    Events = list[tuple[str, Event]]


# From two links on there is something to keep apart.
SEVERAL = 2


class Survey:
    """What is, and what follows from it.

    before, after   leases by link and family, as recorded and as they are now
    dropped         the keys of records that are to be removed
    links           all links that were looked at, up or down, in the order of the configuration
    lone, idle      see the module
    outdone         the keys of leases whose interface is another link's
    refused         by link, what of an event only the kernel's addresses show to be wrong
    count           how many links this machine has; counted no further than it matters
    is_shared       whether an address of a link is also somewhere else, so that only a look at
                    everything can tell which link has it
    """

    __slots__ = (
        "after", "before", "config", "count", "dropped", "facts", "idle", "is_shared", "links", "lone",
        "outdone", "refused", "whole",
    )  # fmt: skip

    def __init__(self, config: "Config", facts: Facts, before: "dict[Key, Lease]", *, whole: bool) -> None:
        self.config = config
        self.facts = facts
        self.before = before
        self.after: dict[Key, Lease] = {}
        self.dropped: list[Key] = []
        self.outdone: set[Key] = set()
        self.refused: dict[str, str] = {}
        self.links: list[Link] = []
        self.lone: list[Link] = []
        self.idle: list[Link] = []
        self.count = 0
        self.is_shared = False
        self.whole = whole

    @property
    def several(self) -> bool:
        """Whether this machine has two links or more, so that there is something to keep apart."""
        return self.count >= SEVERAL

    @property
    def shown(self) -> list[Link]:
        """All links that an administrator may want to know of."""
        return self.links + self.lone + self.idle

    def view(self, door: Door, certificate: Certificate | None) -> View:
        """What the features get to see."""
        former: dict[str, list[bytes]] = {}
        servers: dict[str, list[bytes]] = {}
        for lease in [*self.before.values(), *self.after.values()]:
            former.setdefault(lease.link, []).extend(a for a in (lease.address, lease.former) if a)
            if lease.server:
                servers.setdefault(lease.link, []).append(lease.server)
        protocols, groups = {self.config["rt_proto"]}, {self.config["group"]}
        if self.whole and certificate:
            # The numbers may just have been changed in the configuration.
            protocols.add(certificate.protocol)
            groups.add(certificate.group)
        if self.whole and (certificate is None or certificate.is_annulled):
            groups |= _groups_in_rules(door, self.config["rt_proto"])
        return View(
            self.config, door, self.facts, self.links,
            whole=self.whole, several=self.several, former=former, servers=servers, departed=self._departed(),
            others=self._others(), protocols=frozenset(protocols), groups=frozenset(groups), find=self._find,
        )  # fmt: skip

    def _departed(self) -> dict[bytes, str]:
        """By address that is gone and not back, the link whose connections were translated to it."""
        if not self.links:
            return {}
        found = departed.noted()
        for key, lease in self.before.items():
            after = self.after.get(key)
            settings = self.config["links"].get(lease.link)
            if lease.address and settings and settings["snat"] and not (after and after.address == lease.address):
                found[lease.address] = lease.link
        return {address: link for address, link in found.items() if not self.facts.has(address)}

    def _others(self) -> dict[int | str, str]:
        """By table and interface, links that are not to be kept right."""
        others: dict[int | str, str] = {}
        if self.whole:
            others.update((number, name) for name, number in _allotted().items())
        for link in self.lone + self.idle:
            others[link.table] = others[link.interface_name] = link.name
        return others

    def _find(self, name: str) -> Link | None:
        """A link that was not looked at, as its record says and the kernel agrees."""
        config, facts = self.config, self.facts
        records = leases.of_link(name)
        checked = [leases.check(lease, facts, links.hint_for(config, *lease.key)) for lease in records]
        if not checked and name not in config["links"]:
            return None
        settings = config["links"].get(name)
        table = settings["table"] if settings else _allotted().get(name, 0)
        return links.resolve(name, table, config, checked, facts)


def _allotted() -> dict[str, int]:
    """The tables of adopted links."""
    from multihook.config import tables

    return tables.known()


def _groups_in_rules(door: Door, protocol: int) -> set[int]:
    """The interface groups that our own rules speak of: all that tells of another one once state is lost."""
    found = [rule for family in FAMILIES for rule in rules.Dump(door, family).of_protocols(frozenset((protocol,)))]
    return {rule.suppress_ifgroup for rule in found} - {rules.NONE}


def of_events(config: "Config", door: Door, events: "Events") -> Survey:
    """Look at the links that these events are about, and at nothing else."""
    names = list(dict.fromkeys(name for name, _ in events))
    before = {lease.key: lease for name in names for lease in leases.of_link(name)}
    interfaces = {event.interface for _, event in events} | {lease.interface for lease in before.values()}
    survey = Survey(config, Facts(door, interfaces), before, whole=False)
    record(survey, before, events)
    settle(survey)
    survey.count = _others_up(survey, names) + adopted_with_address(survey)
    keep_adopted_only_among_several(survey)
    return survey


def record(survey: Survey, known: "dict[Key, Lease]", events: "Events") -> None:
    """The leases after these events, not yet checked."""
    survey.after = dict(known)
    for name, event in events:
        key = (name, event.family)
        if event.reason == "down by hand" or _is_too_late(survey.facts, survey.after.get(key), event):
            continue
        survey.after[key] = leases.record(survey.after.get(key), event, name)
    for name, event in events:
        if event.reason == "down by hand":
            for lease in [lease for lease in survey.after.values() if lease.link == name]:
                held = survey.after[lease.key] = lease.copy()
                held.held = True


def _is_too_late(facts: Facts, known: "Lease | None", event: Event) -> bool:
    """Whether an event speaks of an address that is no more, while the link has the one that is known of it.

    Its own session is over then, maybe on another pppN: what it says must not hide the one that is.
    """
    if event.action != UP or not event.address or not known or not known.address:
        return False
    is_there = has(facts, event.interface, event.address, event.family)
    return not is_there and has(facts, known.interface, known.address, known.family)


def has(facts: Facts, name: str, address: bytes, family: int) -> bool:
    """Whether that interface has that address."""
    interface = facts.interface(name)
    return interface is not None and bool(address) and interface.index in facts.holders(address, family)


def settle(survey: Survey) -> None:
    """Check each lease against the kernel, drop those that stand for no link, and make the links."""
    config = survey.config
    clock = now()
    unchecked, survey.after = survey.after, {}
    for key, lease in unchecked.items():
        checked = lease
        before = survey.before.get(key)
        if key not in survey.outdone:
            checked = leases.check(lease, survey.facts, links.hint_for(config, *key))
            if before and (why := links.keep_next_hop(checked, before, survey.facts)):
                survey.refused[lease.link] = why
        if lease.link not in config["links"]:
            was_link = before is not None and not checked.address
            if not config["adopt"] or not (was_link or links.is_adoptable(checked, survey.facts)):
                continue
            checked.by_default = checked.by_default or not checked.gateway
        survey.after[key] = leases.stamp(checked, before, clock)
    survey.dropped = [key for key in survey.before if key not in survey.after]
    _make_links(survey, {link for link, _ in unchecked})


def _make_links(survey: Survey, names: set[str]) -> None:
    config = survey.config
    known: dict[str, list[Lease]] = {}
    for lease in survey.after.values():
        known.setdefault(lease.link, []).append(lease)
    wanted = list(config["links"]) if survey.whole else [name for name in config["links"] if name in names]
    adopted = sorted(name for name in known if name not in config["links"])
    numbers = _allotted() if adopted else {}
    for name in wanted + adopted:
        settings = config["links"].get(name)
        table = settings["table"] if settings else numbers.get(name, 0)
        link = links.resolve(name, table, config, known.get(name, ()), survey.facts)
        link.refused += [survey.refused[name]] if name in survey.refused else []
        is_idle = link.adopted and not any(lease.address for lease in known[name])
        (survey.idle if is_idle else survey.links).append(link)
    for link in survey.links:
        for path in link.paths.values():
            if path.has_address and len(survey.facts.holders(path.lease.address, path.lease.family)) > 1:
                survey.is_shared = True


def adopted_with_address(survey: Survey) -> int:
    """How many adopted links there are; one that is held is a link all the same."""
    return sum(any(path.lease.address for path in link.paths.values()) for link in survey.links if link.adopted)


def _others_up(survey: Survey, names: list[str]) -> int:
    """How many links there are beside the adopted ones looked at here; counts no further than two."""
    config = survey.config
    count = len(config["links"])
    if count < SEVERAL:
        for name in dict.fromkeys(name for name, _ in leases.keys()):
            if count >= SEVERAL:
                break
            if name in names or name in config["links"]:
                continue
            if any(lease.address for lease in leases.of_link(name)):
                count += 1
    return count


def keep_adopted_only_among_several(survey: Survey) -> None:
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

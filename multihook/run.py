"""One run under the lock: take all that is spooled, bring the kernel in line, keep and tell what came of it.

Steps: survey -> plan -> (spool what is not spooled yet) -> apply -> read back -> news for notify.d
-> leases, certificate, result -> spool emptied -> names and log.  A run that finds nothing to do writes
nothing and says nothing.
"""

from posix import access, listdir
from time import monotonic_ns

from multihook import engine, front, journal, leases, links, record, repeats, sources, spool, survey
from multihook.address import text
from multihook.engine import Failure
from multihook.features import Step, View
from multihook.files import explain
from multihook.journal import foreign
from multihook.kernel.rtnetlink import Door
from multihook.leases import Lease
from multihook.paths import HELD, NOTIFY
from multihook.sources import Event
from multihook.spool import Told
from multihook.survey import SEVERAL, Survey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Config = dict[str, Any]

# With no more links than this an event counts the routes and group members of all links too, and
# so notices what somebody took from another one: 0.1 ms with 4 links, but 3 ms with 300.
FEW_LINKS = 16

# The kernel changes while we work: an address may go between our look and our step.
ROUNDS = 3


class ElsewhereError(Exception):
    """This is another network namespace than the one that multihook keeps right."""


class Outcome:
    """What came of one run: the survey it ended with, the steps made, failures, and lines for the log.

    is_unsettled    what failed is left to events that came meanwhile, and not said
    is_unsaved      that state is not saved has been said
    is_untold       the programs in notify.d could not be told
    """

    __slots__ = (
        "elapsed", "failures", "is_unsaved", "is_unsettled", "is_untold", "lines", "made", "prepared", "spooled",
        "survey", "warnings",
    )  # fmt: skip

    def __init__(self, survey: Survey) -> None:
        self.survey = survey
        self.made: dict[str, str] = {}
        self.failures: list[Failure] = []
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self.spooled: list[str] = []
        self.elapsed = 0
        self.prepared = False
        self.is_unsettled = False
        self.is_unsaved = False
        self.is_untold = False


def is_held() -> bool:
    """Whether `multihook flush` took everything out, to stay out until `multihook sync`."""
    return access(HELD, 0)


def drain(config: "Config", door: Door, told: list[Told], unwritten: list[str] | None = None) -> None:
    """Apply what we were told and all that is spooled, until nothing is left.

    `unwritten` takes the lines about files that could not be written, instead of the log.
    """
    handled: set[str] = set()
    is_unsettled = False
    while True:
        # What cannot be taken out of the spool (read-only /run) is not taken up again.
        names = [name for name in spool.waiting() if name not in handled]
        handled.update(names)
        batch = [(name, spool.take(name)) for name in names]
        damaged = sum(one is None for _, one in batch)
        if damaged:
            line = f"{damaged} damaged event(s) in the spool dropped; everything is looked at instead"
            journal.write(journal.WARNING, line)
        heard = [one for _, one in batch if one] + told
        if not heard and not names and not is_unsettled:
            return
        events = [pair for pair in (understood(config, one) for one in heard) if pair]
        if events or damaged or is_unsettled:
            whole = bool(damaged) or is_unsettled
            outcome = run(config, door, events, unspooled=told, whole=whole, unwritten=unwritten, handled=handled)
            is_unsettled = outcome.is_unsettled
            names += outcome.spooled
            handled.update(names)
        spool.done(names)
        told = []


def is_ours(config: "Config", told: Told) -> bool:
    """Whether an event is worth a run; one that is refused is, for somebody must be told."""
    try:
        event = sources.translate(told.source, told.arguments, told.variables)
    except sources.Refused:
        return True
    return event is not None and bool(_concerned(config, event))


def _concerned(config: "Config", event: Event) -> str:
    """The link that an event may be about, or whose interface it tells to be somebody else's now; else ""."""
    name = links.concerns(config, event)
    if name or config["adopt"] or event.action != sources.UP or not _line_on(config, {event.interface}):
        return name
    return links.adopted_name(config, event.interface)


def _line_on(config: "Config", interfaces: set[str]) -> bool:
    """Whether a line (ipparam, linkname) is known to have one of these interfaces (pppN)."""
    records = (leases.load(name) for name in links.by_line(config)) if interfaces else ()
    return any(record and record.interface in interfaces and record.reason != leases.TAKEN for record in records)


def understood(config: "Config", told: Told) -> "tuple[str, Event] | None":
    """The link and the event that a hook was told of; None when it is nothing to act on."""
    try:
        event = sources.translate(told.source, told.arguments, told.variables)
    except sources.Refused as error:
        repeats.warn(str(error))
        return None
    if event is None:
        return None
    name = _concerned(config, event)
    if not name:
        return None
    for problem in event.refused:
        repeats.warn(f"{name}: {event.words} on {event.interface}: {problem}; not used")
    return name, event


def run(
    config: "Config",
    door: Door,
    events: list[tuple[str, Event]],
    *,
    unspooled: "tuple[Told, ...] | list[Told]" = (),
    whole: bool = False,
    unwritten: list[str] | None = None,
    handled: set[str] | None = None,
) -> Outcome:
    """Bring the links of these events in line, or everything of ours when that is asked or needed.

    `unwritten` as in drain(); `handled`: what was taken out of the spool so far, by a caller who takes
    up the rest.  Raises ElsewhereError, OSError, Refused when the kernel cannot even be asked.
    """
    start = monotonic_ns()
    certificate = record.certificate()
    check_namespace(certificate)
    found, view = _look(config, door, events, certificate, whole)
    outcome = Outcome(found)
    if is_held() or not config["usable"]:
        _keep(outcome)
        return outcome
    named = survey.allot_tables(found, door)
    steps = engine.plan(view)
    if steps:
        _spool(outcome, unspooled)
        if found.whole:
            _try(outcome, record.annul, config)
            certificate = None
        view = _apply(config, door, events, outcome, view, steps)
        outcome.is_unsettled = handled is not None and _is_left_to_others(outcome, handled)
    if _somebody_listens():
        _tell_programs(outcome, unspooled)
    _keep(outcome)
    outcome.elapsed = (monotonic_ns() - start) // 1_000_000
    if found.whole or named or (outcome.made and _has_come(found)):
        _publish(outcome)
    if outcome.failures or outcome.is_untold:
        _try(outcome, record.annul, config)  # the next run looks at everything again
    else:
        _certify(outcome, certificate, view)  # last: where it stands nobody looks at the rest again
    if view.unsaved:
        _not_saved(outcome, view.unsaved)
    if found.whole or steps:
        outcome.warnings += dict.fromkeys([*engine.remarks(view), *view.remarks])
    _tell_front(outcome, view)
    _tell(outcome, events)
    _warn(outcome, unwritten)
    return outcome


def _look(
    config: "Config",
    door: Door,
    events: list[tuple[str, Event]],
    certificate: "record.Certificate | None",
    whole: bool,
) -> tuple[Survey, View]:
    """At the links of these events; at everything when that is asked, or when it is not enough."""
    if not whole and _still_holds(certificate, config):
        found = survey.of_events(config, door, events)
        view = found.view(door, certificate)
        if not _needs_whole(found, view, certificate, events):
            return found, view
    found = survey.of_everything(config, door, events)
    return found, found.view(door, certificate)


def check_namespace(certificate: "record.Certificate | None") -> None:
    """Raise ElsewhereError where the certificate is another network namespace's: same names, other links."""
    if certificate and certificate.namespace != record.namespace() and certificate.boot == record.boot():
        raise ElsewhereError("another network namespace than the one multihook keeps right; nothing is done in it")


def _still_holds(certificate: "record.Certificate | None", config: "Config") -> bool:
    """Whether an event may look at its own link only."""
    return certificate is not None and certificate.digest == config["digest"] and certificate.boot == record.boot()


def _needs_whole(
    found: Survey, view: View, certificate: "record.Certificate | None", events: list[tuple[str, Event]]
) -> bool:
    # A link that is no more is in no view of its own; who shares an address only all of them show.
    if certificate is None or found.shared or found.lost:
        return True
    if found.several != (certificate.links >= SEVERAL):
        return True  # a second link concerns the first as well
    if any(name not in found.before for name in found.after):
        return True  # a new link, or one whose record was lost: what it had is not known
    if any(found.before[link.name].address for link in found.gone):
        return True
    if any(name in found.after and found.after[name].held != before.held for name, before in found.before.items()):
        return True  # the only link that translates, perhaps: the nft table goes with it, and has to come back
    if any(_concerns_others(found, name) for name in found.before):
        return True
    if _takes_from_a_line(found, events):
        return True
    own = [*found.links, *found.lone, *found.gone]
    return engine.is_disturbed(view, certificate.signature, own, thorough=certificate.links <= FEW_LINKS)


def _concerns_others(found: Survey, name: str) -> bool:
    """Whether a link moved to another interface (pppN), or one that another link has a record of, or
    lost an address that another interface still has."""
    before, after = found.before[name], found.after[name]
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
    records = (leases.load(rival) for rival in rivals - {name, ""})
    return any(record and record.interface == after.interface for record in records)


def _takes_from_a_line(found: Survey, events: list[tuple[str, Event]]) -> bool:
    """Whether a session of nobody's has come up on the interface (pppN) that a line had before."""
    return _line_on(found.config, {event.interface for name, event in events if name not in found.config["links"]})


def _shares_segment(found: Survey, lease: Lease) -> bool:
    """Whether another interface has an address on the link's segment: what its card may answer, and that of
    the other, changes with this one."""
    if not lease.address or not 0 < lease.prefixlen < len(lease.address) * 8:
        return False
    interface = found.facts.interfaces.get(lease.interface)
    others = found.facts.overlapping(lease.address, lease.prefixlen, lease.family)
    return bool(others - {interface.index if interface else 0})


def _apply(
    config: "Config", door: Door, events: list[tuple[str, Event]], outcome: Outcome, view: View, steps: list[Step]
) -> View:
    """Apply, look again, and apply what is still different, a few times."""
    done: list[Step] = []
    for _ in range(ROUNDS):
        made, failures = engine.apply(view, steps)
        done += made
        outcome.failures = failures
        if failures and not any(failure.may_pass for failure in failures):
            break
        if failures:
            # The facts have changed under us: look at all of them anew.
            again = survey.of_everything if outcome.survey.whole else survey.of_events
            found = again(config, door, events)
            survey.allot_tables(found, door)
            found.before = outcome.survey.before
            outcome.survey = found
            view = found.view(door, None)
        # What a feature that had nothing to do would find now, the first look has found already.
        steps = engine.plan(view, None if failures or view.whole else [step.feature for step in made])
        if not steps:
            outcome.failures = []
            break
    else:
        if steps and not outcome.failures:
            lines = "; ".join(engine.commands(view, steps))
            outcome.failures = [Failure("", f"somebody undoes at once what multihook does: {lines}", True)]
    outcome.made = engine.counts(view, done)
    return view


def _is_left_to_others(outcome: Outcome, handled: set[str]) -> bool:
    """Whether events have come since that have everything looked at once more: a line flaps faster than a run is."""
    if not outcome.failures or not all(failure.may_pass for failure in outcome.failures):
        return False
    return bool(set(spool.waiting()) - handled - set(outcome.spooled))


def _try(outcome: Outcome, action: "Any", *arguments: object) -> None:
    """A write that routing does not depend on: when it fails, that is said, once for each reason."""
    try:
        if not outcome.prepared:
            spool.prepare()  # nothing is written through a folder that is not ours
            outcome.prepared = True
        action(*arguments)
    except OSError as error:
        _not_saved(outcome, error)


def _not_saved(outcome: Outcome, error: OSError) -> None:
    if not outcome.is_unsaved:  # the first says it all
        outcome.is_unsaved = True
        line = f"state is not saved: {explain(error)}; routing is right, but the next run has to look at everything"
        outcome.warnings.append(line)


def _spool(outcome: Outcome, unspooled: "tuple[Told, ...] | list[Told]") -> None:
    """Before the first change: from here on a run that is killed is done again by the next."""
    if outcome.spooled:
        return
    for told in unspooled:
        try:
            outcome.spooled.append(spool.put(told))
        except OSError as error:
            _not_saved(outcome, error)


def _somebody_listens() -> bool:
    """Whether notify.d has anything in it that may be a program: as for run-parts(8) none has a dot."""
    try:
        return any("." not in name for name in listdir(NOTIFY))
    except OSError:
        return False


def _tell_programs(outcome: Outcome, unspooled: "tuple[Told, ...] | list[Told]") -> None:
    """Hand to the programs in notify.d what is new to them, where routing is right.

    The event is in the spool by then: a run that is killed before this is done tells it later.
    """
    from multihook import news

    found = outcome.survey
    unready = {failure.link for failure in outcome.failures if failure.feature == "routing"}
    heard = news.since_told(found, unready)
    try:
        if heard:
            _spool(outcome, unspooled)
            _try(outcome, news.tell, heard)
        elif found.whole:
            _try(outcome, news.start_again)
    except news.NotStartedError as error:
        outcome.is_untold = True
        outcome.warnings.append(f"the programs in {NOTIFY} are not run: {error}; the next run tries again")


def _keep(outcome: Outcome) -> None:
    """Write the leases that changed."""
    found = outcome.survey
    changed = [lease for name, lease in found.after.items() if _differs(lease, found.before.get(name))]
    for lease in changed:
        _try(outcome, leases.store, lease)
    for name in found.lost:
        _try(outcome, leases.forget, name)


def _differs(lease: Lease, before: Lease | None) -> bool:
    return before is None or before.render() != lease.render()


def _certify(outcome: Outcome, certificate: "record.Certificate | None", view: View) -> None:
    found = outcome.survey
    count = found.count if found.whole or certificate is None else certificate.links
    signature = engine.signature(view, thorough=count <= FEW_LINKS)
    earned = record.certificate_for(found.config, count, signature)
    if certificate is None or earned.render() != certificate.render():
        _try(outcome, record.certify, earned)


def _has_come(found: Survey) -> bool:
    """Whether a link is here that was not, or had no address."""
    return any(name not in found.before or not found.before[name].address for name in found.after)


def _publish(outcome: Outcome) -> None:
    from multihook import names

    try:
        names.publish(outcome.survey.config, outcome.survey.links, whole=outcome.survey.whole)
    except OSError as error:
        if not outcome.is_unsaved:
            outcome.warnings.append(f"table names are not written for ip(8): {explain(error)}")


def _tell_front(outcome: Outcome, view: View) -> None:
    """Log which foreign rules stand in front of ours, as far as that is news, and remember it."""
    said, before = front.lines(view), front.known()
    if said != before:
        front.tell(said, before)
        _try(outcome, front.keep, said)


def _warn(outcome: Outcome, unwritten: list[str] | None) -> None:
    """Log the warnings, or leave them to the caller (see run())."""
    if unwritten is None:
        for warning in outcome.warnings:
            repeats.warn(warning)
    else:
        unwritten += outcome.warnings


def _tell(outcome: Outcome, events: list[tuple[str, Event]]) -> None:
    """Log what changed and what went wrong, and keep it for `status`."""
    found = outcome.survey
    by_link = dict(events)
    for name, counted in sorted(outcome.made.items()):
        outcome.lines.append(f"{_what_happened(found, name, by_link.get(name))}: {counted}; {outcome.elapsed} ms")
    for line in outcome.lines:
        journal.write(journal.INFO, line)
    for link in found.links:
        if link.name in by_link:
            for problem in link.refused:
                repeats.warn(f"{link.name}: {problem}; not used")
    failures = outcome.failures if not outcome.is_unsettled else []
    problems = [f"{failure.link}: {failure.line}" if failure.link else failure.line for failure in failures]
    for problem in problems:
        repeats.warn(problem, journal.ERR)
    before = record.last_result()
    if outcome.lines or problems or (before and before.failed):
        result = record.Result(bool(problems), "; ".join(problems or outcome.lines) or "everything is in line again")
        _try(outcome, record.write_result, result)


def _what_happened(found: Survey, name: str, event: "Event | None") -> str:
    """The beginning of a log line: "dsl: 203.0.113.45 -> 203.0.113.77 on ppp0 (pppd ip-up)"."""
    if not name:
        return "leftovers of links that are no more"
    lease = found.after.get(name) or found.before.get(name)
    if not lease:
        return f"{name}: not up yet" if name in found.config["links"] else name
    if any(link.name == name for link in found.lone):
        return f"{name}: {text(lease.address)} on {lease.interface}, now the only line: taken out"
    known = found.before.get(name)
    old = known.address if known else b""
    new = lease.address if name in found.after and lease.is_up else b""
    if not old and known and new:
        old = known.former
    addresses = text(new) if old in (new, b"") else f"{text(old)} -> {text(new)}"
    words = event.words if event else _words_without_event(found, lease)
    return f"{name}: {addresses} on {lease.interface} ({foreign(words)})"


def _words_without_event(found: Survey, lease: Lease) -> str:
    """What a run has seen of a link that no event of it was about; the last event's word is no news."""
    if lease.link not in found.after:
        return "no link any more"
    known = found.before.get(lease.link)
    fields = ("source", "reason", "address", "interface", "held")
    if known and all(getattr(known, field) == getattr(lease, field) for field in fields):
        return "put right"
    return f"{lease.source} {lease.reason}"

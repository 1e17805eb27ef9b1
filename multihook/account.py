"""What a run says of itself: the log, the last result for `status`, foreign rules in front of ours."""

from multihook import front, journal, record, repeats
from multihook.address import text
from multihook.journal import foreign
from multihook.kind import MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multihook.leases import Lease
    from multihook.run import Outcome
    from multihook.sources import Event
    from multihook.survey import Events, Survey
    from multihook.view import View


def give(outcome: "Outcome", view: "View", events: "Events", unwritten: list[str] | None) -> None:
    """Log what changed and what went wrong, and keep it for `status`.

    `unwritten` takes the warnings, instead of the log.
    """
    _tell_front(outcome, view)
    _tell(outcome, events)
    if unwritten is None:
        for warning in outcome.warnings:
            repeats.warn(warning)
    else:
        unwritten += outcome.warnings


def _tell_front(outcome: "Outcome", view: "View") -> None:
    """Log which foreign rules stand in front of ours, as far as that is news, and remember it."""
    said, before = front.lines(view), front.known()
    if said != before:
        front.tell(said, before)
        outcome.attempt(front.keep, said)


def _tell(outcome: "Outcome", events: "Events") -> None:
    found = outcome.survey
    by_link = dict(events)
    leases = {lease.link: lease for lease in [*found.before.values(), *found.after.values()]} if outcome.made else {}
    for name, counted in sorted(outcome.made.items()):
        event = by_link.get(name)
        lease = found.after.get((name, event.family)) if event else None
        head = _what_happened(found, name, lease or leases.get(name), event)
        outcome.lines.append(f"{head}: {counted}; {outcome.elapsed} ms")
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
        outcome.attempt(record.write_result, result)


def _what_happened(found: "Survey", name: str, lease: "Lease | None", event: "Event | None") -> str:
    """The beginning of a log line: "dsl: 203.0.113.45 -> 203.0.113.77 on ppp0 (pppd ip-up)"."""
    if not name:
        return "left over from removed links"
    if not lease:
        return f"{name}: not up yet" if name in found.config["links"] and name != MACHINE else name
    if any(link.name == name for link in found.lone):
        return f"{name}: {text(lease.address)} on {lease.interface}, now the only line: taken out"
    known = found.before.get(lease.key)
    old = known.address if known else b""
    new = lease.address if lease.key in found.after and lease.is_up else b""
    if not old and known and new:
        old = known.former
    addresses = text(new) if old in (new, b"") else f"{text(old)} -> {text(new)}"
    words = event.words if event else _words_without_event(found, lease)
    return f"{name}: {addresses} on {lease.interface} ({foreign(words)})"


def _words_without_event(found: "Survey", lease: "Lease") -> str:
    """What a run has seen of a link that no event of it was about; the last event's word is no news."""
    if lease.key not in found.after:
        return "no link any more"
    known = found.before.get(lease.key)
    fields = ("source", "reason", "address", "interface", "held")
    if known and all(getattr(known, field) == getattr(lease, field) for field in fields):
        return "put right"
    return f"{lease.source} {lease.reason}"

"""One run under the lock: the links are looked at and brought in line, and what came of it is kept and told.

A run that finds nothing to do writes nothing and says nothing.
"""

from posix import access, listdir
from time import monotonic_ns

from multihook import account, engine, leases, record, scope, spool
from multihook.engine import Failure, Numbers
from multihook.features import routing
from multihook.files import explain
from multihook.kernel.rtnetlink import Door
from multihook.kind import Step
from multihook.paths import HELD, NOTIFY
from multihook.spool import Told
from multihook.survey import Survey
from multihook.view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from multihook.record import Certificate
    from multihook.survey import Events

    Config = dict[str, Any]

# The kernel changes while we work: an address may go between our look and our step.
ROUNDS = 3


class ElsewhereError(Exception):
    """This is another network namespace than the one that multihook keeps right."""


class Outcome:
    """What came of one run.

    survey          what it began with, or after failures what it looked at last
    made            by link, what was done
    failures        what was refused
    lines           for the log, each link that was changed
    warnings        for the log
    spooled         the names of events that this run has put into the spool
    elapsed         milliseconds until all was applied
    is_unsettled    what failed is left to events that came meanwhile, and not said
    is_untold       the programs in notify.d could not be told
    """

    __slots__ = (
        "_is_prepared", "_is_unsaved", "elapsed", "failures", "is_unsettled", "is_untold", "lines", "made", "spooled",
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
        self.is_unsettled = False
        self.is_untold = False
        self._is_prepared = False
        self._is_unsaved = False

    def attempt(self, action: "Any", *arguments: object) -> None:
        """A write that routing does not depend on: when it fails, that is said, once for each reason."""
        try:
            if not self._is_prepared:
                spool.prepare()  # nothing is written through a folder that is not ours
                self._is_prepared = True
            action(*arguments)
        except OSError as error:
            self.not_saved(error)

    def not_saved(self, error: OSError) -> None:
        """Say that state is not saved, unless that was said before."""
        if not self._is_unsaved:
            self._is_unsaved = True
            line = f"state is not saved: {explain(error)}; routing is right, but the next run has to look at everything"
            self.warnings.append(line)

    def names_not_written(self, error: OSError) -> None:
        """Say so, unless it goes without saying."""
        if not self._is_unsaved:
            self.warnings.append(f"table names are not written for ip(8): {explain(error)}")


def is_held() -> bool:
    """Whether `multihook flush` took everything out, to stay out until `multihook sync`."""
    return access(HELD, 0)


def run(
    config: "Config",
    door: Door,
    events: "Events",
    *,
    unspooled: "list[Told] | tuple[()]" = (),
    whole: bool = False,
    unwritten: list[str] | None = None,
    handled: set[str] | None = None,
) -> Outcome:
    """Bring the links of these events in line, or everything of ours when that is asked or needed.

    `unspooled` are events that stand in memory only; `unwritten` takes the lines about files that could
    not be written, instead of the log; `handled` is what was taken out of the spool so far, by a caller
    who takes up the rest.  Raises ElsewhereError, OSError, Refused when the kernel cannot even be asked.
    """
    start = monotonic_ns()
    certificate = record.certificate()
    check_namespace(certificate)
    numbers = Numbers()
    found, view = scope.look(config, door, events, certificate, whole, numbers)
    outcome = Outcome(found)
    if is_held() or not config["usable"]:
        _store_leases(outcome)
        return outcome
    is_new_table = found.whole and _allot_tables(found, door)
    steps = engine.plan(view, numbers)
    if steps:
        _spool(outcome, unspooled)
        if found.whole:
            outcome.attempt(record.annul, config)
            certificate = None
        view = _apply(config, door, events, outcome, view, steps, numbers)
        outcome.is_unsettled = handled is not None and _is_left_to_others(outcome, handled)
    found = outcome.survey
    _tell_programs(outcome, unspooled)
    _store_leases(outcome)
    outcome.elapsed = (monotonic_ns() - start) // 1_000_000
    if found.whole or is_new_table or (outcome.made and _has_come(found)):
        _publish_names(outcome)
    _certify(outcome, certificate, view, numbers)  # last: from here on an event need not look at the rest
    if view.report.unsaved:
        outcome.not_saved(view.report.unsaved)
    if found.whole or steps:
        outcome.warnings += dict.fromkeys([*engine.remarks(view), *view.report.remarks])
    account.give(outcome, view, events, unwritten)
    return outcome


def _allot_tables(found: Survey, door: Door) -> bool:
    """Give adopted links that have no table yet one that stays theirs; True when there were any."""
    from multihook import census

    return census.allot_tables(found, door)


def check_namespace(certificate: "Certificate | None") -> None:
    """Raise ElsewhereError where the certificate is another network namespace's: same names, other links."""
    if certificate and certificate.namespace != record.namespace() and certificate.boot == record.boot():
        raise ElsewhereError("another network namespace than the one multihook keeps right; nothing is done in it")


def _spool(outcome: Outcome, unspooled: "list[Told] | tuple[()]") -> None:
    """Before the first change: from here on a run that is killed is done again by the next."""
    if outcome.spooled:
        return
    for told in unspooled:
        try:
            outcome.spooled.append(spool.put(told))
        except OSError as error:
            outcome.not_saved(error)


def _apply(
    config: "Config",
    door: Door,
    events: "Events",
    outcome: Outcome,
    view: View,
    steps: list[Step],
    numbers: Numbers,
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
            view = _look_again(config, door, events, outcome, view)
            if view.whole:
                numbers.start(whole=True)
        elif view.whole and (narrower := engine.narrowed(view, made)):
            view = narrower
            numbers.narrow(view)
        # What a kind, or a link, that had nothing to do would find now, the first look has found already.
        touched = None if failures or view.whole else {step.object.kind for step in made}
        steps = engine.plan(view, numbers, touched)
        if not steps:
            outcome.failures = []
            break
    else:
        if steps and not outcome.failures:
            lines = "; ".join(engine.commands(view, steps))
            outcome.failures = [Failure("", f"another program undoes at once what multihook does: {lines}", True)]
    outcome.made = engine.counts(done)
    return view


def _look_again(config: "Config", door: Door, events: "Events", outcome: Outcome, view: View) -> View:
    """The facts have changed under us: look at all of them anew."""
    found = scope.look_again(outcome.survey, config, door, events)
    if found.whole:
        _allot_tables(found, door)
    found.before = outcome.survey.before
    outcome.survey = found
    again = found.view(door, None)
    again.report = view.report
    return again


def _is_left_to_others(outcome: Outcome, handled: set[str]) -> bool:
    """Whether events have come since that have everything looked at once more: a line flaps faster than a run is."""
    if not outcome.failures or not all(failure.may_pass for failure in outcome.failures):
        return False
    return bool(set(spool.waiting()) - handled - set(outcome.spooled))


def _tell_programs(outcome: Outcome, unspooled: "list[Told] | tuple[()]") -> None:
    """Hand to the programs in notify.d what is new to them, where routing is right.

    The event is in the spool by then: a run that is killed before this is done tells it later.
    """
    if not _has_programs():
        return
    from multihook import news

    found = outcome.survey
    unready = {failure.link for failure in outcome.failures if failure.kind in routing.KINDS}
    heard = news.since_told(found, unready)
    try:
        if heard:
            _spool(outcome, unspooled)
            outcome.attempt(news.tell, heard)
        elif found.whole:
            outcome.attempt(news.start_again)
    except news.NotStartedError as error:
        outcome.is_untold = True
        outcome.warnings.append(f"the programs in {NOTIFY} are not run: {error}; the next run tries again")


def _has_programs() -> bool:
    """Whether notify.d has anything in it that may be a program: as for run-parts(8) none has a dot."""
    try:
        return any("." not in name for name in listdir(NOTIFY))
    except OSError:
        return False


def _store_leases(outcome: Outcome) -> None:
    """Write the leases that changed."""
    found = outcome.survey
    for key, lease in found.after.items():
        before = found.before.get(key)
        if before is None or before.render() != lease.render():
            outcome.attempt(leases.store, lease)
    for key in found.dropped:
        outcome.attempt(leases.forget, *key)


def _has_come(found: Survey) -> bool:
    """Whether a link is here that was not, or had no address."""
    return any(key not in found.before or not found.before[key].address for key in found.after)


def _publish_names(outcome: Outcome) -> None:
    """Write the names of our tables for ip(8)."""
    from multihook import names

    try:
        names.publish(outcome.survey.config, outcome.survey.links, whole=outcome.survey.whole)
    except OSError as error:
        outcome.names_not_written(error)


def _certify(outcome: Outcome, certificate: "Certificate | None", view: View, numbers: Numbers) -> None:
    """Let the next event look at its own link only, or, after a failure, have it look at everything."""
    found = outcome.survey
    if outcome.failures or outcome.is_untold:
        outcome.attempt(record.annul, found.config)
        return
    count = found.count if found.whole or certificate is None else certificate.links
    signature = numbers.certified(count <= scope.FEW_LINKS)
    earned = record.certificate_for(found.config, count, signature)
    if certificate is None or earned.render() != certificate.render():
        outcome.attempt(record.certify, earned)

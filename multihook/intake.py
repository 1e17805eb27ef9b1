"""Events on their way to a run: what a hook was told is understood, and all that is spooled is taken along."""

from multihook import journal, links, repeats, run, sources, spool
from multihook.kernel.rtnetlink import Door
from multihook.sources import Event
from multihook.spool import Told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Config = dict[str, Any]


class Heard:
    """What a hook was told, and what it means: the event, and the name of the link that it is about."""

    __slots__ = ("event", "link", "told")

    def __init__(self, told: Told, link: str, event: Event) -> None:
        self.told = told
        self.link = link
        self.event = event


def understand(config: "Config", told: Told) -> Heard | None:
    """What it means; None when it is nothing to act on.  The log says what is refused as a whole."""
    try:
        event = sources.translate(told.source, told.arguments, told.variables)
    except sources.Refused as error:
        repeats.warn(str(error))
        return None
    name = _concerned(config, event) if event else ""
    return Heard(told, name, event) if event and name else None


def _concerned(config: "Config", event: Event) -> str:
    """The link that an event may be about, or whose interface another line has got by it; else ""."""
    name = links.concerns(config, event)
    if name or config["adopt"] or event.action != sources.UP or not links.has_line_on(config, {event.interface}):
        return name
    return links.adopted_name(config, event.interface)


def drain(config: "Config", door: Door, heard: list[Heard], unwritten: list[str] | None = None) -> None:
    """Apply what was heard and all that is spooled, until nothing is left.

    `unwritten` takes the lines about files that could not be written, instead of the log.
    """
    handled: set[str] = set()
    is_unsettled = False
    while True:
        # What cannot be taken out of the spool (read-only /run) is not taken up again.
        names = [name for name in spool.waiting() if name not in handled]
        handled.update(names)
        taken = [spool.take(name) for name in names]
        damaged = sum(told is None for told in taken)
        if damaged:
            line = f"{damaged} damaged event(s) in the spool dropped; everything is looked at instead"
            journal.write(journal.WARNING, line)
        if not heard and not names and not is_unsettled:
            return
        batch = [one for told in taken if told and (one := understand(config, told))] + heard
        if batch or damaged or is_unsettled:
            outcome = run.run(
                config, door, _events(batch), unspooled=[one.told for one in heard],
                whole=bool(damaged) or is_unsettled, unwritten=unwritten, handled=handled,
            )  # fmt: skip
            is_unsettled = outcome.is_unsettled
            names += outcome.spooled
            handled.update(names)
        spool.done(names)
        heard = []


def _events(batch: list[Heard]) -> list[tuple[str, Event]]:
    """The events by link; the log says which of their values are refused."""
    for one in batch:
        for problem in one.event.refused:
            repeats.warn(f"{one.link}: {one.event.words} on {one.event.interface}: {problem}; not used")
    return [(one.link, one.event) for one in batch]

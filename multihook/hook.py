"""One hook run: from what pppd, dhclient and others hand over to exit status 0.

This module and all that it imports are the hot path: they use what is built into the
interpreter and nothing else (a test holds them to it), because starting Python is most of what
an event costs and each library would add as much again.
"""

from _signal import SIG_IGN, SIGHUP, SIGINT, SIGPIPE, SIGTERM, signal  # type: ignore[import-not-found]  # signal(3py) imports enum: 2 ms
from posix import environ, umask

from multihook import codetable, intake, journal, lock, repeats, spool
from multihook.config import compiled
from multihook.files import explain
from multihook.intake import Heard
from multihook.kernel.rtnetlink import Door, Refused
from multihook.run import ElsewhereError
from multihook.sources import VARIABLES
from multihook.spool import Told

_MOST_KEPT = 256
# What need not be freed while the process lasts: when Door.close() has forked, each page written to is copied first.
_unfreed: list[object] = []


def main(arguments: list[str]) -> None:
    """Handle one event: `event SOURCE [ARGUMENT ...]`.  Whatever happens, the caller is not bothered."""
    # systemd kills down hooks together with pppd; what is begun is finished.
    for number in (SIGTERM, SIGHUP, SIGINT, SIGPIPE):
        signal(number, SIG_IGN)
    umask(0o022)
    source = arguments[0] if arguments else ""
    told = Told(source, arguments[1:], spool.pick(environ, VARIABLES.get(source, frozenset())))
    try:
        _handle(told)
    except ElsewhereError as error:
        repeats.warn(f"{journal.foreign(source)}: {error}")
    except Refused as error:
        repeats.warn(f"{journal.foreign(source)}: the kernel does not answer: {error.reason}", journal.ERR)
    except OSError as error:
        repeats.warn(f"{journal.foreign(source)}: {explain(error)}; `multihook sync` when that is mended", journal.ERR)


def _handle(told: Told) -> None:
    """Apply an event now, or leave it to the run that is at work."""
    config = compiled.load()
    if not config["usable"]:
        _keep_for_later(told)
        return
    heard = intake.understand(config, told)
    if heard is None:
        return
    unwritten: list[str] = []
    try:
        spool.prepare()
        held, unspooled = _take_lock(heard)
    except lock.Busy:
        return
    except OSError as error:
        # No state can be kept; the kernel's part is done all the same.
        unwritten.append(f"state is not saved: {explain(error)}; routing is looked after all the same")
        held, unspooled = -1, [heard]
    try:
        if spool.is_upgrading():  # begun while we waited
            for one in unspooled:
                spool.put(one.told)
            return
        if codetable.is_replaced():  # begun, and done with
            codetable.begin_anew()
        door = Door()
        _unfreed.extend((config, door))
        try:
            intake.drain(config, door, unspooled, unwritten)
        finally:
            door.close()
    finally:
        if held >= 0:
            lock.give(held)
        if unwritten:
            _leave(unwritten)


def _leave(unwritten: list[str]) -> None:
    """Leave files that this hook may not write to multihook.service; say so where that cannot be."""
    from multihook import handover

    if not handover.to_service():
        for line in dict.fromkeys(unwritten):
            repeats.warn(line)


def _keep_for_later(told: Told) -> None:
    """Without any configuration to go by nothing is changed; `multihook sync` applies what was kept."""
    spool.prepare()
    if len(spool.waiting()) < _MOST_KEPT:
        spool.put(told)


def _take_lock(heard: Heard) -> tuple[int, list[Heard]]:
    """The lock, and what is still to be spooled before anything is changed.

    With no other run at work the event stays in memory until there is something to change: an
    event that changes nothing writes nothing.  Otherwise it is spooled first, so that the process that
    holds the lock takes it along, and we wait until it is done.  Raises lock.Busy when that
    takes too long: the event stays in the spool for the holder, or for the next run.
    """
    unspooled, name = [heard], ""
    try:
        return lock.take(0), unspooled
    except lock.Busy:
        try:
            name = spool.put(heard.told)
            unspooled = []
        except OSError as error:
            repeats.warn(f"event not spooled: {explain(error)}; waiting with it")
    try:
        return lock.take(lock.PATIENCE_SECONDS), unspooled
    except lock.Busy:
        if name and name not in spool.waiting():
            raise  # in a storm: applied long ago, by the run that had the lock
        kept = "its holder applies this event" if not unspooled else "this event is lost, `multihook sync` repairs"
        waited = f"the lock was not free for {lock.PATIENCE_SECONDS:.0f} s"
        repeats.warn(f"{waited}; {kept}; `multihook status` names who holds it")
        raise

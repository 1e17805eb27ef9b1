"""Connections: the kind; what is translated to or from departed addresses, and the notes of these.

An event has little time, and a busy router a hundred thousand entries.  What is left after that
time is deleted by a child that the run does not wait for, with a note of the address (departed),
so that the next run deletes it if that child is killed.  Until then SNAT's guard keeps it from
the wire.
"""

from fcntl import LOCK_EX, LOCK_NB, flock
from posix import O_CLOEXEC, O_CREAT, O_NOFOLLOW, O_RDWR, _exit, closerange, fork, geteuid, setsid
from posix import open as posix_open
from time import monotonic

from multihook.address import text
from multihook.departed import note, noted
from multihook.files import explain
from multihook.kernel import conntrack, nftables
from multihook.kernel.conntrack import SNAT
from multihook.kernel.rtnetlink import Door, Refused
from multihook.kind import GUARD, ROUTE, Kind, Step
from multihook.paths import CONNECTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multihook.view import View

    Translated = tuple[dict[int, list[bytes]], bool]

# What one run spends on looking for them: enough for some thousands.
SECONDS = 0.05
_FOREVER = float("inf")
# What a run has done, or cannot do, in view.report.done.
_NOT_NOTED = "connections not noted"
_TO_CHILD = "connections left to a child"


class Note:
    """An address that has departed, on file while its connections are not ended; `link` had it."""

    __slots__ = ("address", "link")
    kind: "Kind"
    noun = "connection"
    stage = GUARD
    size = 0  # it changes nothing in the kernel

    def __init__(self, address: bytes, link: str) -> None:
        self.address = address
        self.link = link

    @property
    def key(self) -> tuple[object, ...]:
        """An address is noted once."""
        return ("note", self.address)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Note) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


class Stale:
    """The entries of one address that has departed, translated in one way (SNAT, DNAT).

    link        for the log: that which had the address, or whose coming lets its connections go on
    is_whole    False where there are more of the address than a run has time for
    """

    __slots__ = ("address", "entries", "is_whole", "link", "translation")
    kind: "Kind"
    noun = "connection"
    stage = ROUTE

    def __init__(self, address: bytes, translation: int, entries: list[bytes], link: str = "") -> None:
        self.address = address
        self.translation = translation
        self.entries = entries
        self.link = link
        self.is_whole = True

    @property
    def key(self) -> tuple[object, ...]:
        """What they were translated to and how."""
        return ("stale", self.address, self.translation)

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.entries)


class _Connections(Kind):
    """The kind: what is translated to or from departed addresses, and the notes of these."""

    NAME = "connections"

    def read(self, view: "View", wanted: list[Note]) -> list[Note | Stale]:
        """The notes, and the connections of each departed address for which none is wanted."""
        found: list[Note | Stale] = []
        waiting = {one.address for one in wanted}
        unfinished = set()
        for address, link in view.departed.items():
            if address not in waiting:
                entries, is_whole = _look(view, address)
                found += _stale(view, address, link, entries, is_whole)
                if not is_whole:
                    unfinished.add(address)
        if _NOT_NOTED in view.report.done:
            return [*found, *wanted]  # as if they were on file
        # The note of what a child has to finish stays until nothing is found.
        return found + [Note(address, link) for address, link in noted().items() if address not in unfinished]

    def add(self, view: "View", new: Note) -> None:
        """Put a note on file: before the leases are stored, so that the loss is known even if the run is killed."""
        _note(view, {**noted(), new.address: new.link})

    def remove(self, view: "View", old: Note | Stale) -> None:
        """Delete the entries, and have a child delete the rest of them, or take a note away."""
        if isinstance(old, Note):
            _note(view, {address: link for address, link in noted().items() if address != old.address})
            return
        try:
            conntrack.delete(view.door.beside(nftables.Door), old.entries)
        except (Refused, OSError) as error:
            _give_up(view, error)
        view.report.done.add((self.NAME, old.address))
        if not old.is_whole:
            view.report.done.add((_TO_CHILD, old.address))
            known = noted()
            if old.address not in known:
                _note(view, {**known, old.address: view.departed[old.address]})
            _leave_to_child(view.door, old.address)

    def commands(self, view: "View", step: Step) -> list[str]:
        """The step in the words of conntrack(8)."""
        thing = step.object
        if isinstance(thing, Note) or not thing.entries:
            return []
        address = text(thing.address)
        which = f"--src-nat {address}" if thing.translation == SNAT else f"--orig-dst {address} --dst-nat"
        return [f"conntrack -D {which}"]


KIND = Note.kind = Stale.kind = _Connections()


def _look(view: "View", address: bytes) -> "Translated":
    """The entries of an address, and whether these are all.

    Looked for once in a run: a foreign rule that still says the old address makes new ones at once.
    """
    done = view.report.done
    if (_TO_CHILD, address) in done:
        return {}, False
    if (KIND.NAME, address) in done or KIND.NAME in view.report.unable or not conntrack.count():
        return {}, True
    known: Translated | None = view.read.get((KIND.NAME, address))
    if known is None:
        until = view.read.setdefault("connections until", monotonic() + SECONDS)
        try:
            # The socket that SNAT changes its elements by: whichever is closed after that waits for the kernel.
            known = conntrack.translated(view.door.beside(nftables.Door), address, until)
        except (Refused, OSError) as error:
            _give_up(view, error)
            return {}, True
        view.read[KIND.NAME, address] = known
        if known[1] and not any(known[0].values()):
            done.add((KIND.NAME, address))
    return known


def _stale(
    view: "View", address: bytes, link: str, entries: dict[int, list[bytes]], is_whole: bool
) -> list[Stale]:
    shown = link if link in view.former or any(one.name == link for one in view.links) else view.links[0].name
    found = [Stale(address, translation, some, shown) for translation, some in entries.items() if some]
    if not is_whole and (_TO_CHILD, address) not in view.report.done:
        found = found or [Stale(address, SNAT, [], shown)]
        found[-1].is_whole = False
    return found


def _give_up(view: "View", error: Refused | OSError) -> None:
    if geteuid() != 0:
        return  # `status` by another user: who may not look has nothing to say
    why = error.reason if isinstance(error, Refused) else explain(error)
    line = f"connections of the lost address are not looked at: {why}; `conntrack -D` takes them out"
    view.report.unable[KIND.NAME] = line


def _note(view: "View", addresses: dict[bytes, str]) -> None:
    try:
        note(addresses)
    except OSError as error:
        view.report.unsaved = view.report.unsaved or error
        view.report.done.add(_NOT_NOTED)


def _leave_to_child(door: Door, address: bytes) -> None:
    """Have the rest deleted by a process that has nothing of ours and that this one does not wait for.

    Where there can be none, the note is there for the next run.
    """
    try:
        child = fork()
    except OSError:
        return
    if child == 0:
        try:
            setsid()
            closerange(0, 0x7FFFFFFF)
            _finish(door, address)
        finally:
            _exit(0)


def _finish(door: Door, address: bytes) -> None:
    """Delete all that there is of an address, unless another child is at it."""
    lock = posix_open(CONNECTIONS + ".lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    flock(lock, LOCK_EX | LOCK_NB)
    own = door.beside(nftables.Door).another()
    for entries in conntrack.translated(own, address, _FOREVER)[0].values():
        conntrack.delete(own, entries)

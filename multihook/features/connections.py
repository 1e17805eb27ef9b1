"""Connections: when a link has lost its address, what was translated to or from it is forgotten.

Translation is decided once for each connection.  One whose packets keep coming (a telephone, a
tunnel) would carry the old address for ever, by whichever link it leaves now, and be dropped
there.  So its entries go, those of no other address and none that translated nothing; its next
packet is translated anew.

Where no link is left that could take them they stay, and a note of the address with them: if it
comes back first, nothing was lost.

An event has little time, and a busy router a hundred thousand entries.  What is left after that
time goes by a child that nobody waits for, with a note as well, so that the next run sees to it
if that child is killed.  Until then SNAT's guard keeps it from the wire.
"""

from fcntl import LOCK_EX, LOCK_NB, flock
from posix import O_CLOEXEC, O_CREAT, O_NOFOLLOW, O_RDWR, _exit, closerange, fork, geteuid, setsid
from posix import open as posix_open
from time import monotonic

from multihook import leases
from multihook.address import INET, is_interface_name, is_link_name, parse, text, why_unusable
from multihook.features import GUARD, ROUTE, Step, View
from multihook.files import explain, folder, read, replace
from multihook.files import remove as remove_file
from multihook.kernel import conntrack, nftables
from multihook.kernel.conntrack import SNAT
from multihook.kernel.rtnetlink import Door, Refused
from multihook.paths import CONNECTIONS, PRIVATE, RUN

NAME = "connections"

_MAGIC = "multihook connections 1"
_NOT_NOTED = "connections not noted"
_REST = "connections left to a child"
# What one run spends on looking for them: enough for some thousands.
SECONDS = 0.05
_FOREVER = float("inf")


class Note:
    """An address that is gone while no link can take over what was translated to it."""

    __slots__ = ("address", "link")
    # It is our own business, and changes nothing in the kernel.
    size = 0

    def __init__(self, link: str, address: bytes) -> None:
        self.link = link
        self.address = address

    @property
    def key(self) -> tuple[object, ...]:
        """An address is noted once."""
        return ("note", self.address)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Note) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


class Stale:
    """The entries of one address that is gone, translated in one way."""

    __slots__ = ("address", "entries", "kind", "link")

    def __init__(self, link: str, address: bytes, kind: int, entries: list[bytes]) -> None:
        self.link = link
        self.address = address
        self.kind = kind
        self.entries = entries

    @property
    def key(self) -> tuple[object, ...]:
        """What they were translated to and how."""
        return ("stale", self.address, self.kind)

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.entries)


class Rest:
    """Entries of one address that is gone, too many for a run that somebody waits for."""

    __slots__ = ("address", "link")
    size = 0  # nobody has counted them

    def __init__(self, link: str, address: bytes) -> None:
        self.link = link
        self.address = address

    @property
    def key(self) -> tuple[object, ...]:
        """An address has one rest."""
        return ("rest", self.address)


# --- what should be there ---


def desired(view: View) -> list[Note]:
    """A note for each address whose connections nobody can take, or are too many for this run."""
    if _NOT_NOTED in view.done:
        return []
    gone = _gone(view).items()
    if not _can_be_taken(view):
        return [Note(link, address) for address, link in gone]
    return [Note(link, address) for address, link in gone if not _stale(view, link, address)[1]]


def _gone(view: View) -> dict[bytes, str]:
    """The addresses lost in this run or before it and not come back, with the link that had them."""
    known: dict[bytes, str] | None = view.memo.get("addresses gone")
    if known is None:
        known = {}
        if view.links:  # none: everything is taken out, and what is translated is no business of ours
            known.update((note.address, note.link) for note in _notes())
            known.update((address, link) for link, address in view.lost.items() if _is_translated(view, link))
        known = {address: link for address, link in known.items() if not view.facts.holders(address, INET)}
        view.memo["addresses gone"] = known
    return known


def _is_translated(view: View, link: str) -> bool:
    """Whether we have a say in a link's translation: not where it is adopted, or snat is false."""
    settings = view.config["links"].get(link)
    return bool(settings and settings["snat"])


def _can_be_taken(view: View) -> bool:
    """Whether there is a link by which the next packet of a connection can leave."""
    known: bool | None = view.memo.get("connections can be taken")
    if known is None:
        known = any(path.is_up and path.has_exit for link in view.links for path in link.paths.values())
        if not known and not view.whole:
            known = any(_is_usable(view, name) for name in leases.names())
        view.memo["connections can be taken"] = known
    return known


def _is_usable(view: View, link: str) -> bool:
    """Whether a link that this run is not about has its address and its interface is up."""
    lease = leases.load(link)
    if not lease or not lease.is_up:
        return False
    holders = view.facts.holders(lease.address, lease.family)
    interfaces = (view.facts.interface_at(index) for index in holders)
    return any(interface and interface.is_up and interface.name == lease.interface for interface in interfaces)


# --- what is there ---


def actual(view: View) -> list[Note | Stale | Rest]:
    """The notes, and, once somebody can take them, the connections of the addresses that are gone."""
    found: list[Note | Stale | Rest] = []
    if _can_be_taken(view):
        for address, link in _gone(view).items():
            stale, is_all = _stale(view, link, address)
            found += stale
            if not is_all and (_REST, address) not in view.done:
                found.append(Rest(link, address))
    if _NOT_NOTED not in view.done:
        found += _notes()
    return found


def _stale(view: View, link: str, address: bytes) -> tuple[list[Stale], bool]:
    """The entries of an address, and whether these are all.

    Looked for once in a run: a foreign rule that still says the old address makes new ones at once.
    """
    if (_REST, address) in view.done:
        return [], False
    if (NAME, address) in view.done or NAME in view.unable or not conntrack.count():
        return [], True
    known: tuple[list[Stale], bool] | None = view.memo.get((NAME, address))
    if known is None:
        until = view.memo.setdefault("connections until", monotonic() + SECONDS)
        try:
            # The socket that SNAT changes its elements by: whichever is closed after that waits for the kernel.
            entries, is_all = conntrack.translated(view.door.beside(nftables.Door), address, until)
        except (Refused, OSError) as error:
            _give_up(view, error)
            return [], True
        found = [Stale(link, address, kind, some) for kind, some in entries.items() if some]
        if not found and is_all:
            view.done.add((NAME, address))
        known = view.memo[NAME, address] = found, is_all
    return known


def _give_up(view: View, error: Refused | OSError) -> None:
    if geteuid() != 0:
        return  # `status` by anybody: who may not look has nothing to say
    why = error.reason if isinstance(error, Refused) else explain(error)
    view.unable[NAME] = f"connections of the lost address are not looked at: {why}; `conntrack -D` takes them out"


def _notes() -> list[Note]:
    try:
        lines = read(CONNECTIONS, 1 << 16).decode("ascii", "replace").split("\n")
    except OSError:
        return []
    if lines[0] != _MAGIC or lines[-2:] != ["end", ""]:
        return []
    pairs = [(link, parse(word)) for link, _, word in (line.partition(" ") for line in lines[1:-2])]
    return [Note(link, address) for link, address in pairs if address and _is_likely(link, address)]


def _is_likely(link: str, address: bytes) -> bool:
    """Whether a note can be one of ours: a damaged one must not name connections of others."""
    is_name = is_link_name(link) or is_interface_name(link)
    return is_name and len(address) == 4 and not why_unusable(address)


def _write(view: View, notes: list[Note]) -> None:
    lines = [_MAGIC, *(f"{note.link} {text(note.address)}" for note in notes), "end\n"]
    try:
        if notes:
            folder(RUN, 0o755)
            folder(PRIVATE, 0o700)
            replace(CONNECTIONS, "\n".join(lines).encode(), 0o600)
        else:
            remove_file(CONNECTIONS)
    except OSError as error:
        view.unsaved = view.unsaved or error
        view.done.add(_NOT_NOTED)


def signature(view: View, thorough: bool) -> dict[str, int]:
    """Nothing of ours stands in the kernel."""
    return {}


# --- making the one the other ---


def add(view: View, new: Note) -> None:
    """Write a note down: before the leases are stored, so that a killed run's loss is still known."""
    _write(view, [*_notes(), new])


def change(view: View, old: Note, new: Note) -> None:
    """Never asked for: a note has nothing but its key."""
    add(view, new)


def remove(view: View, old: Note | Stale | Rest) -> None:
    """Delete the entries, or have a child do it, or take a note away."""
    if isinstance(old, Note):
        _write(view, [note for note in _notes() if note != old])
        return
    if isinstance(old, Rest):
        view.done.add((_REST, old.address))
        _leave_to_child(view.door, old.address)
        return
    try:
        conntrack.delete(view.door.beside(nftables.Door), old.entries)
    except (Refused, OSError) as error:
        _give_up(view, error)
    view.done.add((NAME, old.address))


def _leave_to_child(door: Door, address: bytes) -> None:
    """Have the rest deleted by a process that has nothing of ours and that nobody waits for.

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


def commands(view: View, step: Step) -> list[str]:
    """The step in the words of conntrack(8)."""
    thing = step.object
    if isinstance(thing, (Note, Rest)):
        return []
    address = text(thing.address)
    which = f"--src-nat {address}" if thing.kind == SNAT else f"--orig-dst {address} --dst-nat"
    return [f"conntrack -D {which}"]


def place(view: View, thing: Note | Stale | Rest) -> tuple[int, str, str]:
    """Its stage: entries go when all else is right, the note of them after that."""
    names = {link.name for link in view.links}
    link = thing.link if thing.link in names or thing.link in view.former else ""
    if not link and view.links:
        link = view.links[0].name  # whose coming lets another link's connections go on
    return GUARD if isinstance(thing, Note) else ROUTE, "connection", link


def clash(thing: Note | Stale | Rest) -> str:
    """Nothing of anybody's stands in its place."""
    return "somebody else's is in its place"

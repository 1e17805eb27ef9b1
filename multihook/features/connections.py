"""Connections: when a link has lost its address, what was translated to or from it is forgotten.

Translation is decided once for each connection.  One whose packets keep coming (a telephone, a
tunnel) would carry the old address for ever, by whichever link it leaves now, and be dropped
there.  So its entries go, those of no other address and none that translated nothing; its next
packet is translated anew.

Where no link is left that could take them they stay, and a note of the address with them: if it
comes back first, nothing was lost.
"""

from posix import geteuid

from multihook import leases
from multihook.address import INET, parse, text
from multihook.features import GUARD, ROUTE, Step, View
from multihook.files import explain, folder, read, replace
from multihook.files import remove as remove_file
from multihook.kernel import conntrack, nftables
from multihook.kernel.conntrack import SNAT
from multihook.kernel.rtnetlink import Refused
from multihook.paths import CONNECTIONS, PRIVATE, RUN

NAME = "connections"

_MAGIC = "multihook connections 1"
_NOT_NOTED = "connections not noted"


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


# --- what should be there ---


def desired(view: View) -> list[Note]:
    """A note for each address whose connections nobody can take."""
    if _NOT_NOTED in view.done or _can_be_taken(view):
        return []
    return [Note(link, address) for address, link in _gone(view).items()]


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


def actual(view: View) -> list[Note | Stale]:
    """The notes, and, once somebody can take them, the connections of the addresses that are gone."""
    found: list[Note | Stale] = []
    if _can_be_taken(view) and NAME not in view.unable:
        for address, link in _gone(view).items():
            found += _stale(view, link, address)
    if _NOT_NOTED not in view.done:
        found += _notes()
    return found


def _stale(view: View, link: str, address: bytes) -> list[Stale]:
    """Looked for once in a run: a foreign rule that still says the old address makes new ones at once."""
    if (NAME, address) in view.done or not conntrack.count():
        return []
    try:
        # The socket that SNAT changes its elements by: whichever is closed after that waits for the kernel.
        entries = conntrack.translated(view.door.beside(nftables.Door), address)
    except (Refused, OSError) as error:
        _give_up(view, error)
        return []
    found = [Stale(link, address, kind, some) for kind, some in entries.items() if some]
    if not found:
        view.done.add((NAME, address))
    return found


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
    pairs = [line.partition(" ") for line in lines[1:-2]]
    return [Note(link, address) for link, _, word in pairs if (address := parse(word)) and len(address) == 4]


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


def remove(view: View, old: Note | Stale) -> None:
    """Delete the entries, or take a note away."""
    if isinstance(old, Note):
        _write(view, [note for note in _notes() if note != old])
        return
    try:
        conntrack.delete(view.door.beside(nftables.Door), old.entries)
    except (Refused, OSError) as error:
        _give_up(view, error)
    view.done.add((NAME, old.address))


def commands(view: View, step: Step) -> list[str]:
    """The step in the words of conntrack(8)."""
    thing = step.object
    if isinstance(thing, Note):
        return []
    address = text(thing.address)
    which = f"--src-nat {address}" if thing.kind == SNAT else f"--orig-dst {address} --dst-nat"
    return [f"conntrack -D {which}"]


def place(view: View, thing: Note | Stale) -> tuple[int, str, str]:
    """Its stage: entries go when all else is right, the note of them after that."""
    names = {link.name for link in view.links}
    link = thing.link if thing.link in names or thing.link in view.former else ""
    if not link and view.links:
        link = view.links[0].name  # whose coming lets another link's connections go on
    return GUARD if isinstance(thing, Note) else ROUTE, "connection", link


def clash(thing: Note | Stale) -> str:
    """Nothing of anybody's stands in its place."""
    return "somebody else's is in its place"

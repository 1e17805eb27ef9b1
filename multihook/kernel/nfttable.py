"""The kind of what our nft table holds: put together from the chains, sets and elements that features want.

No feature owns the table.  Chains and sets change with the configuration only; where one of them
differs the table is made anew by nft(8), with all elements, in one transaction: there is no
instant without it.  What belongs to a link is elements, which an event changes in one transaction
of our own.
"""

from errno import EPERM
from zlib import crc32

from multihook.kernel.nftables import Door, Element, decode, ifname, interface_of
from multihook.kernel.rtnetlink import Refused
from multihook.kernel.ruleset import TABLE, Chain, Set, table_text
from multihook.kind import GUARD, MACHINE, Kind, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from multihook.kernel.nftables import Outline, Ruleset
    from multihook.kind import Object
    from multihook.view import View

_NO_PERMISSION = "not root"
# In a signature.
_RULES, _ELEMENTS = "nft", "nft elements"


class Table:
    """All chains and sets; made anew, it comes with all elements."""

    __slots__ = ("chains", "digest", "elements", "link", "outline", "sets")
    kind: "Kind"
    key = ("nft table",)
    stage = GUARD
    noun = "nft table"
    size = 1

    def __init__(self, outline: "tuple[Outline, list[str]]", link: str, digest: int = 0) -> None:
        self.outline = outline
        self.link = link
        self.digest = digest
        self.sets: dict[str, Set] = {}
        self.chains: list[Chain] = []
        self.elements: list[Element] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self.outline == other.outline

    __hash__ = None  # type: ignore[assignment]


class Elements:
    """What our table holds for one interface; for "", what belongs to no interface."""

    __slots__ = ("elements", "interface", "link", "sets")
    kind: "Kind"
    stage = GUARD
    size = 1

    def __init__(self, interface: str, elements: "frozenset[Element]", link: str, sets: dict[str, Set]) -> None:
        self.interface = interface
        self.elements = elements
        self.link = link
        self.sets = sets

    @property
    def noun(self) -> str:
        """That of the sets they are in."""
        return next((self.sets[one.set].noun for one in self.elements), "element")

    @property
    def key(self) -> tuple[object, ...]:
        """An interface has one."""
        return ("elements", self.interface)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Elements) and self.key == other.key and self.elements == other.elements

    def __hash__(self) -> int:
        return hash(self.key)


def _in_order(elements: "Iterable[Element]") -> list[Element]:
    """Elements in the same order at each run."""
    return sorted(elements, key=lambda one: (one.set, one.key))


def _sets(wanted: "Sequence[Object]") -> dict[str, Set]:
    return {one.name: one for one in wanted if isinstance(one, Set)}


class _NftTable(Kind):
    """The kind."""

    NAME = "nft"

    def possible(self, view: "View", wanted: "list[Set | Chain | Element]") -> "list[Table | Elements]":
        """The elements of each interface; in a run over everything also the table that they are in."""
        sets = view.read["nft sets"] = _sets(wanted)
        by_interface: dict[str, list[Element]] = {}
        for one in wanted:
            if isinstance(one, Element):
                interface = interface_of(one.key) if sets[one.set].types[0] == "ifname" else ""
                by_interface.setdefault(interface, []).append(one)
        found = [
            Elements(interface, frozenset(listed), listed[0].link, sets)
            for interface, listed in by_interface.items()
        ]
        chains = [one for one in wanted if isinstance(one, Chain)]
        if not view.whole or not chains:
            return list(found)
        outlined = {chain.name: (chain.hook, [comment for _, comment in chain.lines(sets)]) for chain in chains}
        table = Table(((0, outlined), sorted(sets)), found[0].link if found else MACHINE)
        table.sets, table.chains = sets, chains
        table.elements = [element for one in found for element in _in_order(one.elements)]
        return [table, *found]

    def read(self, view: "View", wanted: "list[Table | Elements]") -> "list[Table | Elements]":
        """The table and what it holds, as far as the view goes.

        Where the table is not as it should be, a new one brings all elements along, so only the table
        is reported to differ.  A user who is not root cannot look, and so sees no difference.
        """
        if not view.whole:
            return [found for one in _interfaces(view, wanted) if (found := _of_interface(view, one, wanted))]
        if not is_compared(view):
            return wanted
        there = _table(view, wanted[0].link if wanted else "")
        if not wanted:
            return list(there)
        if there != wanted[:1]:
            return [*there, *wanted[1:]]
        by_interface: dict[str, list[Element]] = {}
        for name, listed in _all_elements(view, wanted[0].sets).items():
            for raw in listed:
                element = _decoded(view, name, raw)
                by_interface.setdefault(_interface(view, element), []).append(element)
        return [*there, *(_elements(view, interface, held) for interface, held in by_interface.items())]

    def add(self, view: "View", new: "Table | Elements") -> None:
        """Make the table, or one interface's elements; raises Refused."""
        self._put(view, None, new)

    def change(self, view: "View", old: "Table | Elements", new: "Table | Elements") -> None:
        """Put new in old's place, in one transaction; raises Refused."""
        self._put(view, old, new)

    def _put(self, view: "View", old: "Table | Elements | None", new: "Table | Elements") -> None:
        if isinstance(new, Table):
            from multihook.kernel import nft

            nft.load(_text(view, old, new))
            return
        there = old.elements if isinstance(old, Elements) else frozenset()
        view.door.beside(Door).commit(TABLE, _in_order(there - new.elements), _in_order(new.elements - there))

    def remove(self, view: "View", old: "Table | Elements") -> None:
        """Take the table or one interface's elements away; raises Refused."""
        door = view.door.beside(Door)
        if isinstance(old, Table):
            door.delete_table(TABLE)
        else:
            door.commit(TABLE, _in_order(old.elements), [])

    def commands(self, view: "View", step: Step) -> list[str]:
        """As nft(8); a new table is one command of many lines."""
        old, new = step.old, step.new
        if isinstance(new, Table):
            return [f"nft -f - <<'END'\n{_text(view, old, new)}END"]
        if isinstance(old, Table):
            return [f"nft delete table inet {TABLE}"]
        there = old.elements if old else frozenset()
        wanted = new.elements if new else frozenset()
        sets = step.object.sets
        words = [f"delete element inet {TABLE} {sets[one.set].shown(one)}" for one in _in_order(there - wanted)]
        words += [f"add element inet {TABLE} {sets[one.set].shown(one)}" for one in _in_order(wanted - there)]
        return [f"nft '{'; '.join(words)}'"]

    def clash(self, thing: "Table | Elements") -> str:
        """Another program's set or chain in our table."""
        return f"another program changes our table: `nft list table inet {TABLE}`"

    def signature(self, view: "View", wanted: "list[Set | Chain | Element]", thorough: bool) -> dict[str, int]:
        """A digest of chains and rules, where `nft flush ruleset` shows; thorough, one of all elements too."""
        sets = _sets(wanted)
        found = _ruleset(view) if sets else None
        if found is None or isinstance(found, str):
            return {}
        numbers = {_RULES: found.digest()}
        if thorough:
            try:
                listed = _all_elements(view, sets)
            except Refused:
                return {}  # the table is gone while we look, or has other sets
            # A sum: in whatever order the kernel has them.
            numbers[_ELEMENTS] = sum(_digest(name, raw) for name, every in listed.items() for raw in every)
        return numbers

    def of_links(self, there: "list[Table | Elements]", names: set[str]) -> "list[Table | Elements]":
        """The elements: an event's run does not look at the table."""
        return [one for one in there if isinstance(one, Elements) and one.link in names]

    def tally(self, view: "View", there: "list[Table | Elements]") -> dict[str, int]:
        """The digests of what was read."""
        numbers = {_ELEMENTS: 0}
        for one in there:
            if isinstance(one, Table):
                numbers[_RULES] = one.digest
            else:
                numbers[_ELEMENTS] += sum(_digest(element.set, element.raw) for element in one.elements)
        return numbers if there else {}


KIND = Set.kind = Chain.kind = Element.kind = Table.kind = Elements.kind = _NftTable()


def _digest(name: str, raw: bytes) -> int:
    """A number for one element of a set."""
    return crc32(raw, crc32(name.encode()))


def _interface(view: "View", element: Element) -> str:
    return interface_of(element.key) if view.read["nft sets"][element.set].types[0] == "ifname" else ""


def _elements(view: "View", interface: str, held: list[Element]) -> Elements:
    """Elements that were read, as an object."""
    link = view.owner(interface) if interface else MACHINE
    return Elements(interface, frozenset(held), link, view.read["nft sets"])


def _ruleset(view: "View") -> "Ruleset | str | None":
    """Our table as the kernel has it, or None, or _NO_PERMISSION; read once."""
    if "nft table" not in view.read:
        found: Ruleset | str | None
        try:
            found = view.door.beside(Door).ruleset(TABLE)
        except Refused as error:
            found = _NO_PERMISSION if error.errno == EPERM else None
        except OSError:
            found = None  # a kernel without netfilter; where we need it, nft says so
        view.read["nft table"] = found
    known: Ruleset | str | None = view.read["nft table"]
    return known


def _table(view: "View", link: str) -> list[Table]:
    """Our table as it is there, if it is."""
    found = _ruleset(view)
    if found is None or isinstance(found, str):
        return []
    return [Table((found.outline(), view.door.beside(Door).sets(TABLE)), link, found.digest())]


def is_compared(view: "View") -> bool:
    """Whether this process may look into nf_tables."""
    return _ruleset(view) != _NO_PERMISSION


def _all_elements(view: "View", sets: dict[str, Set]) -> dict[str, list[bytes]]:
    """Every element of these sets, whichever program put it there, by set, as the kernel tells it; read once."""
    known: dict[str, list[bytes]] | None = view.read.get("nft elements")
    if known is None:
        door = view.door.beside(Door)
        known = {one.name: list(door.elements(TABLE, one.name)) for one in sets.values() if not one.counts}
        view.read["nft elements"] = known
    return known


def _interfaces(view: "View", wanted: "list[Table | Elements]") -> dict[str, None]:
    """The interfaces whose elements an event's run is about."""
    names = [link.interface_name for link in view.links]
    names += [one.interface for one in wanted if isinstance(one, Elements)]
    return dict.fromkeys(name for name in names if name)


def _of_interface(view: "View", interface: str, wanted: "list[Table | Elements]") -> Elements | None:
    """What is there for one interface."""
    known: dict[str, list[bytes]] | None = view.read.get("nft elements")
    sets: dict[str, Set] = view.read["nft sets"]
    held = _held_by(view, known, interface) if known is not None else _asked_for(view, interface, sets)
    return _elements(view, interface, held) if held else None


def _decoded(view: "View", name: str, raw: bytes) -> Element:
    known = view.door.known(name)
    if raw not in known:
        known[raw] = decode(name, raw)
    element: Element = known[raw]
    return element


def _held_by(view: "View", known: dict[str, list[bytes]], interface: str) -> list[Element]:
    key = ifname(interface)
    return [_decoded(view, name, raw) for name, listed in known.items() for raw in listed if key in raw]


def _asked_for(view: "View", interface: str, sets: dict[str, Set]) -> list[Element]:
    """With many links to read all costs more: one look-up for each set with a lone key.

    Sets with more parts than the interface are read as they are: their elements are few.
    """
    lone = [one.name for one in sets.values() if one.types == ("ifname",) and not one.counts]
    more = [one.name for one in sets.values() if one.types[0] == "ifname" and len(one.types) > 1 and not one.counts]
    try:
        door = view.door.beside(Door)
        found = [door.find(TABLE, Element(name, ifname(interface))) for name in lone]
        listed = _held_by(view, {name: list(door.elements(TABLE, name)) for name in more}, interface)
    except (Refused, OSError):
        return []  # a kernel without netfilter; where we need it, nft says so
    return [*listed, *(element for element in found if element)]


def counters(view: "View", name: str) -> dict[bytes, tuple[int, int]]:
    """(packets, octets) by key of a set that counts; {} for a user who is not root."""
    try:
        return view.door.beside(Door).counters(TABLE, name)
    except (Refused, OSError):
        return {}


def _text(view: "View", old: "Table | Elements | None", new: Table) -> str:
    """The text of a new table; what sets have counted comes along from the old one."""
    counted = {one.name: counters(view, one.name) for one in new.sets.values() if one.counts} if old else {}
    return table_text(new.sets.values(), new.chains, new.elements, counted)

"""SNAT: each link's forwarded and misplaced sources get its address, and none that is wrong gets out.

One table, `inet multihook`.  Its chains never change with a link (features.ruleset has them);
what belongs to a link is elements of sets and maps under the name of its interface, and an event
that brings another address changes one of them, in one transaction, without nft(8).

The guard stands behind the translation and asks the kernel which addresses the interface has at
that moment.  So it holds from the instant an address changes, before any hook runs, and it stays
while the link is down: nothing may leave by what comes up under that name before we have seen it.
"""

from errno import EPERM
from zlib import crc32

from multihook.address import INET, in_network, width
from multihook.features import GENERATION, GUARD, Step, View
from multihook.kernel.nftables import GOTO, Door, Element, decode, mark_of
from multihook.kernel.rtnetlink import Refused, is_absent
from multihook.links import Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from multihook.kernel.nftables import Outline
    from multihook.kernel.nftables import Ruleset as Found

NAME = "snat"

TABLE = "multihook"
# Sets and maps, all keyed by interface: the link's address; the chain that translates; the one that guards; its
# `sources`; addresses of it that are on another interface as well.  In the last one the guard counts.
ADDRESS, TRANSLATE, GUARDS = "snat4", "translate4", "guard4"
SOURCES, SHARED, STOPPED = "sources4", "shared4", "stopped4"
_FILLED = (ADDRESS, TRANSLATE, GUARDS, SOURCES, SHARED)

# By snat and lan: the chain that translates, the chain that guards (features.ruleset has their rules).
_CHAINS = {
    ("auto", False): (b"auto4", b"guardauto4"),
    ("auto", True): (b"office4", b"guardoffice4"),
    (True, False): (b"all4", b"guardall4"),
    ("masquerade", False): (b"masquerade4", b"guardall4"),
}
_NO_PERMISSION = "not root"
# In a signature.
TABLE_DIGEST, ELEMENTS_DIGEST = "snat", "snat elements"


class Ruleset:
    """Our table with its chains and rules; made anew, it comes with the elements of all links."""

    __slots__ = ("elements", "outline")
    key = ("ruleset",)

    def __init__(self, outline: "Outline", elements: list[Element]) -> None:
        self.outline = outline
        self.elements = elements

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ruleset) and self.outline == other.outline

    __hash__ = None  # type: ignore[assignment]


class Translation:
    """What our sets and maps hold for one interface."""

    __slots__ = ("elements", "interface")

    def __init__(self, interface: str, elements: "frozenset[Element]") -> None:
        self.interface = interface
        self.elements = elements

    @property
    def key(self) -> tuple[object, ...]:
        """An interface has one."""
        return ("snat", self.interface)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Translation) and self.key == other.key and self.elements == other.elements

    def __hash__(self) -> int:
        return hash(self.key)


# --- what should be there ---


def desired(view: View) -> list[Ruleset | Translation]:
    """One translation for each link with snat; in a run over everything also the table they are in."""
    translations = [Translation(name, _elements(view, link)) for name, link in _by_interface(view).items()]
    if not view.whole or not translations:
        return list(translations)
    from multihook.features import ruleset

    elements = [element for one in translations for element in _in_order(one.elements)]
    return [Ruleset(ruleset.outline(view.config), elements), *translations]


def _by_interface(view: View) -> dict[str, Link]:
    """The links that translate, by interface; where two claim one, it is that of the link that has an address."""
    found: dict[str, Link] = {}
    for link in view.links:
        before = found.get(link.interface_name)
        if link.interface_name and (before is None or (link.has_address and not before.has_address)):
            found[link.interface_name] = link
    return {name: link for name, link in found.items() if link.snat and not _is_held(link)}


def _is_held(link: Link) -> bool:
    return any(path.lease.held for path in link.paths.values())


def _elements(view: View, link: Link) -> "frozenset[Element]":
    name = link.interface_name
    translate, guard = _CHAINS[link.snat, link.lan and link.snat == "auto"]
    found = [
        Element(GUARDS, name, value=guard, verdict=GOTO),
        Element(TRANSLATE, name, value=translate, verdict=GOTO),
    ]
    for network, length in disjoint(link.sources):
        host_bits = width(INET) - length
        last = int.from_bytes(network, "big") | (1 << host_bits) - 1
        found.append(Element(SOURCES, name, network, last.to_bytes(4, "big")))
    path = link.paths.get(INET)
    if path and path.has_address and link.snat != "masquerade":
        found.append(Element(ADDRESS, name, value=path.lease.address))
    if link.interface:
        # `fib` asks only for the first interface that has an address; for the others we have to say it.
        for address in view.facts.addresses_of(link.interface, INET):
            if len(view.facts.holders(address.local, INET)) > 1:
                found.append(Element(SHARED, name, address.local))
    return frozenset(found)


def disjoint(sources: "Iterable[tuple[bytes, int]]") -> list[tuple[bytes, int]]:
    """The IPv4 prefixes among these that lie in no other of them: a set of ranges takes no two that overlap."""
    found: list[tuple[bytes, int]] = []
    for network, length in sorted(sources, key=lambda source: source[1]):
        if len(network) == 4 and not any(in_network(network, *wider) for wider in found):
            found.append((network, length))
    return found


def _in_order(elements: "frozenset[Element]") -> list[Element]:
    """Elements as they are best made one by one: the guard first; for each key the same order at each run."""
    return sorted(elements, key=lambda one: (one.set, one.address))


# --- what is there ---


def actual(view: View) -> list[Ruleset | Translation]:
    """The table and what it holds, as far as the view goes.

    Where the table is not as it should be, a new one brings all elements along, so only the table
    is reported to differ.  Who is not root cannot look, and so sees no difference.
    """
    wanted = desired(view)
    if not view.whole:
        return _actual_of(view, wanted)
    found = _ruleset(view)
    if found == _NO_PERMISSION:
        return wanted
    there = [Ruleset(found.outline(), [])] if found else []  # type: ignore[union-attr]
    if not wanted:
        return list(there)
    if there != wanted[:1]:
        return [*there, *wanted[1:]]
    by_interface: dict[str, list[Element]] = {}
    for name, listed in _all_elements(view).items():
        for raw in listed:
            element = decode(name, raw)
            by_interface.setdefault(element.interface, []).append(element)
    return [*there, *(Translation(interface, frozenset(held)) for interface, held in by_interface.items())]


def _actual_of(view: View, wanted: list[Ruleset | Translation]) -> list[Ruleset | Translation]:
    """What is there for the links of an event's run, which other interfaces are no business of."""
    found: list[Ruleset | Translation] = []
    total = 0
    known: dict[str, list[bytes]] | None = view.memo.get(("snat", "elements"))
    for link in view.links:
        if link.snat and link.interface_name:
            held = _held_by(known, link.interface_name) if known is not None else _asked_for(view, link, wanted)
            total += sum(_digest(one.set, one.raw) for one in held)
            if held:
                found.append(Translation(link.interface_name, frozenset(held)))
    view.memo["snat", "own"] = total
    compared: Compared | None = view.compared.get(NAME)
    if compared and compared.own is None:
        compared.own = total
    return found


def _held_by(known: dict[str, list[bytes]], interface: str) -> list[Element]:
    mark = mark_of(interface)
    return [decode(name, raw) for name, listed in known.items() for raw in listed if mark in raw]


def _asked_for(view: View, link: Link, wanted: list[Ruleset | Translation]) -> list[Element]:
    """One look-up for each key that this link has or may have had: with many links to read all costs more.

    Of addresses on two interfaces there are few, mostly none, so these are read as they are.
    """
    name = link.interface_name
    asked = [Element(set_name, name) for set_name in (ADDRESS, TRANSLATE, GUARDS)]
    for one in wanted:
        if isinstance(one, Translation) and one.interface == name:
            asked += [element for element in one.elements if element.set == SOURCES]
    try:
        door = view.door.beside(Door)
        found = [door.find(TABLE, element) for element in asked]
        shared = _held_by({SHARED: list(door.elements(TABLE, SHARED))}, name)
    except (Refused, OSError):
        return []  # a kernel without netfilter; where we need it, nft says so
    return [*shared, *(element for element in found if element)]


def _ruleset(view: View) -> "Found | str | None":
    """Our table as the kernel has it, or None, or _NO_PERMISSION; read once."""
    if ("snat", "ruleset") not in view.memo:
        found: Found | str | None
        try:
            found = view.door.beside(Door).ruleset(TABLE)
        except Refused as error:
            found = _NO_PERMISSION if error.errno == EPERM else None
        except OSError:
            found = None  # a kernel without netfilter; where we need it, nft says so
        view.memo["snat", "ruleset"] = found
    known: Found | str | None = view.memo["snat", "ruleset"]
    return known


def _all_elements(view: View) -> dict[str, list[bytes]]:
    """Every element that we or others put into our sets, by set, as the kernel tells it; read once."""
    if ("snat", "elements") not in view.memo:
        door = view.door.beside(Door)
        view.memo["snat", "elements"] = {name: list(door.elements(TABLE, name)) for name in _FILLED}
    known: dict[str, list[bytes]] = view.memo["snat", "elements"]
    return known


class Compared:
    """What an event's run found when it compared the table with the certificate.

    generation   of the whole ruleset then, and `commits`, how many of those until then were this process's
    numbers      the signature
    own          the digest of the elements of this run's own links, before it changed them
    """

    __slots__ = ("commits", "generation", "numbers", "own")

    def __init__(self, generation: int, commits: int, numbers: dict[str, int]) -> None:
        self.generation = generation
        self.commits = commits
        self.numbers = numbers
        self.own: int | None = None


def signature(view: View, thorough: bool) -> dict[str, int]:
    """A digest of chains and rules: `nft flush ruleset` and any rule changed show in it.

    Thorough, also one of all elements.  To read all of it, twice an event, was a tenth of the
    whole event; mostly the ruleset's generation says that nobody but ourselves has changed anything.
    """
    compared: Compared | None = view.compared.get(NAME)
    if view.own is not None and compared is not None:
        return _as_compared(view, compared, thorough)
    try:
        door = view.door.beside(Door)
        generation = door.generation()
    except (Refused, OSError):
        return {}  # not root, or a kernel without netfilter
    names = [TABLE_DIGEST, ELEMENTS_DIGEST] if thorough else [TABLE_DIGEST]
    if view.certified.get(GENERATION) == generation and all(name in view.certified for name in names):
        numbers = {name: view.certified[name] for name in names}
    else:
        numbers = _numbers(view, thorough)
    if not numbers:
        return {}
    view.compared[NAME] = Compared(generation, door.commits, numbers)
    if all(view.certified.get(name) == number for name, number in numbers.items()):
        # That others change what is theirs is nothing to write down.
        generation = view.certified.get(GENERATION, generation)
    return {**numbers, GENERATION: generation}


def _as_compared(view: View, compared: Compared, thorough: bool) -> dict[str, int]:
    """The signature with what this run itself has changed since; what others have, the next event is to find."""
    numbers = dict(compared.numbers)
    commits = view.door.beside(Door).commits - compared.commits
    if not commits:
        return {**numbers, GENERATION: view.certified.get(GENERATION, compared.generation)}
    if thorough:
        own: int = view.memo["snat", "own"]
        numbers[ELEMENTS_DIGEST] = numbers[ELEMENTS_DIGEST] - (compared.own or 0) + own & 0xFFFFFFFF
    return {**numbers, GENERATION: compared.generation + commits & 0xFFFFFFFF}


def _numbers(view: View, thorough: bool) -> dict[str, int]:
    """The signature as the kernel says it now; empty where there is no table."""
    found = _ruleset(view)
    if found is None or isinstance(found, str):
        return {}
    numbers = {TABLE_DIGEST: found.digest()}
    if thorough:
        try:
            # A sum: in whatever order the kernel has them.
            total = sum(_digest(name, raw) for name, listed in _all_elements(view).items() for raw in listed)
        except Refused:
            return {}  # the table is gone while we look, or has other sets
        numbers[ELEMENTS_DIGEST] = total & 0xFFFFFFFF
    return numbers


def _digest(name: str, raw: bytes) -> int:
    """A number for one element of a set."""
    return crc32(raw, crc32(name.encode()))


# --- making the one the other ---


def add(view: View, new: Ruleset | Translation) -> None:
    """Make the table, or one interface's elements; raises Refused."""
    _change(view, None, new)


def change(view: View, old: Ruleset | Translation, new: Ruleset | Translation) -> None:
    """Put new in old's place, in one transaction; raises Refused."""
    _change(view, old, new)


def _change(view: View, old: Ruleset | Translation | None, new: Ruleset | Translation) -> None:
    if isinstance(new, Ruleset):
        from multihook.kernel import nft

        nft.load(_text(view, old, new))
        return
    there = old.elements if isinstance(old, Translation) else frozenset()
    view.door.beside(Door).commit(TABLE, _in_order(there - new.elements), _in_order(new.elements - there))


def _text(view: View, old: Ruleset | Translation | None, new: Ruleset) -> str:
    from multihook.features import ruleset

    return ruleset.text(view.config, new.elements, stopped(view) if old else {})


def remove(view: View, old: Ruleset | Translation) -> None:
    """Take the table or one interface's elements away; what is gone already is as good.  Raises Refused."""
    door = view.door.beside(Door)
    try:
        if isinstance(old, Ruleset):
            door.delete_table(TABLE)
        else:
            door.commit(TABLE, _in_order(old.elements), [])
    except Refused as error:
        if not is_absent(error):
            raise


def commands(view: View, step: Step) -> list[str]:
    """The step in the words of nft(8); a new table as one command of many lines."""
    old, new = step.old, step.new
    if isinstance(new, Ruleset):
        return [f"nft -f - <<'END'\n{_text(view, old, new)}END"]
    if isinstance(old, Ruleset):
        return [f"nft delete table inet {TABLE}"]
    there = old.elements if old else frozenset()
    wanted = new.elements if new else frozenset()
    words = [f"delete element inet {TABLE} {one.text()}" for one in _in_order(there - wanted)]
    words += [f"add element inet {TABLE} {one.text()}" for one in _in_order(wanted - there)]
    return [f"nft '{'; '.join(words)}'"]


def place(view: View, thing: Ruleset | Translation) -> tuple[int, str, str]:
    """The stage of an object, the noun it is counted by, and the link it belongs to."""
    if isinstance(thing, Ruleset):
        # In a log line the table is part of what the first link with snat needed.
        first = next((link.name for link in _by_interface(view).values()), "")
        return GUARD, "nft table", first
    return GUARD, "snat", view.owner(thing.interface)


def clash(thing: Ruleset | Translation) -> str:
    """What to do where the kernel already has a foreign object in the place of ours."""
    return f"somebody else changes our table: `nft list table inet {TABLE}`"


# --- for people ---


def stopped(view: View) -> dict[str, tuple[int, int]]:
    """(packets, octets) that the guard has stopped, by interface; {} for who is not root."""
    try:
        return view.door.beside(Door).counters(TABLE, STOPPED)
    except (Refused, OSError):
        return {}


def is_compared(view: View) -> bool:
    """Whether this process may look into nf_tables."""
    return _ruleset(view) != _NO_PERMISSION

"""What our nft table is made of, and its text for nft(8): sets, maps, chains, elements.

Each rule has a comment that ends in a digest of its own words and of the sets that it names: the
comments alone tell whether the rules are these.
"""

from zlib import crc32

from multihook.address import text
from multihook.kernel.nftables import GOTO, IFNAMSIZ, Element, interface_of
from multihook.kind import MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from multihook.kernel.nftables import Hook
    from multihook.kind import Kind

TABLE = "multihook"

_HOOKS = {0: "prerouting", 1: "input", 2: "forward", 3: "output", 4: "postrouting"}
_VERDICTS = {0: "drop", 1: "accept", -1: "continue", -3: "jump", GOTO: "goto", -5: "return"}
_WIDTHS = {"ifname": IFNAMSIZ, "ipv4_addr": 4, "ipv6_addr": 16, "mark": 4, "inet_proto": 1, "inet_service": 2}


class Set:
    """A set, or a map where it has a `value`.

    key       the types of the parts of its key, as nft(8) names them
    value     the type of a map's value
    options   what else its declaration says
    noun      the word by which the log counts a link's elements of it
    counts    the kernel fills it, with counters: they are kept when the table is made anew
    """

    __slots__ = ("counts", "key", "link", "name", "noun", "options", "types", "value")
    kind: "Kind"

    def __init__(
        self, name: str, types: tuple[str, ...], value: str = "", options: str = "", noun: str = "element",
        counts: bool = False,
    ) -> None:  # fmt: skip
        self.name = name
        self.types = types
        self.value = value
        self.options = options
        self.noun = noun
        self.counts = counts
        self.link = MACHINE
        self.key = ("set", name)

    def text(self) -> str:
        """Its declaration, behind `add`."""
        types = " . ".join(self.types) + (f" : {self.value}" if self.value else "")
        options = f" {self.options}" if self.options else ""
        return f"{'map' if self.value else 'set'} inet {TABLE} {self.name} {{ type {types};{options} }}"

    def shown(self, element: Element) -> str:
        """An element as nft(8) takes it: `snat4 { "ppp0" : 203.0.113.45 }`."""
        firsts, lasts = self._parts(element.key), self._parts(element.end or element.key)
        words = [" . ".join(a if a == b else f"{a}-{b}" for a, b in zip(firsts, lasts, strict=True))]
        if element.verdict is not None:
            chain = element.value.decode("utf-8", "surrogateescape")
            words.append(f": {_VERDICTS.get(element.verdict, element.verdict)} {chain}".rstrip())
        elif element.value:
            words.append(f": {_shown(self.value, element.value)}")
        return f"{self.name} {{ {' '.join(words)} }}"

    def _parts(self, key: bytes) -> list[str]:
        parts = []
        for name in self.types:
            width = _WIDTHS[name]
            parts.append(_shown(name, key[:width]))
            key = key[width + 3 & ~3 :]
        return parts


def _shown(name: str, value: bytes) -> str:
    """One part of a key, or a value; in another program's set of the same name it may be anything."""
    if name == "ifname":
        return f'"{interface_of(value)}"'
    if name in ("ipv4_addr", "ipv6_addr") and len(value) in (4, 16):
        return text(value)
    if name in ("inet_proto", "inet_service"):
        return str(int.from_bytes(value, "big"))
    return f"0x{value[::-1].hex() if name == 'mark' else value.hex()}"


class Chain:
    """A chain: its rules, each with what it is there for, and where the kernel calls it (None: by rules only)."""

    __slots__ = ("hook", "key", "link", "name", "rules")
    kind: "Kind"

    def __init__(self, name: str, rules: "Iterable[tuple[str, str]]", hook: "Hook | None" = None) -> None:
        self.name = name
        self.rules = tuple(rules)
        self.hook = hook
        self.link = MACHINE
        self.key = ("chain", name)

    def lines(self, sets: dict[str, Set]) -> list[tuple[str, str]]:
        """(rule, comment) in order."""
        found = []
        for rule, why in self.rules:
            named = "".join(sets[word[1:]].text() for word in rule.split() if word[:1] == "@")
            found.append((rule, f"{why} [{crc32((rule + named).encode()):08x}]"))
        return found


def table_text(
    sets: "Iterable[Set]",
    chains: "Iterable[Chain]",
    elements: "Iterable[Element]",
    counted: dict[str, dict[bytes, tuple[int, int]]],
) -> str:
    """All of the table as nft(8) takes it, in one transaction; `counted` is what sets that count had, by name."""
    by_name = {one.name: one for one in sets}
    table = f"inet {TABLE}"
    lines = [f"add table {table}", f"delete table {table}", f"add table {table}"]
    lines += [f"add {one.text()}" for one in by_name.values()]
    for chain in chains:
        called = ""
        if chain.hook:
            kind, hook, priority, _ = chain.hook
            called = f" {{ type {kind} hook {_HOOKS[hook]} priority {priority}; policy accept; }}"
        lines.append(f"add chain {table} {chain.name}{called}")
    for chain in chains:
        lines += [f'add rule {table} {chain.name} {rule} comment "{why}"' for rule, why in chain.lines(by_name)]
    lines += [f"add element {table} {by_name[element.set].shown(element)}" for element in elements]
    for name, counters in counted.items():
        for key, (packets, octets) in sorted(counters.items()):
            words = f'"{interface_of(key)}" counter packets {packets} bytes {octets}'
            lines.append(f"add element {table} {name} {{ {words} }}")
    return "".join(f"{line}\n" for line in lines)

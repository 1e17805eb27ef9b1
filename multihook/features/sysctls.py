"""Sysctls: what the kernel checks and says of each configured link, while there are two links or more.

    rp_filter=2           answers may come by another way than packets to the sender would go
    src_valid_mark=1      that check looks at packet marks
    arp_ignore=1          a card answers ARP for its own addresses only,
    arp_announce=2        and asks in the name of its own only
    arp_filter=1          on a segment shared with another link: only where the answer leaves by
                          this card; it asks the rules, so it comes after them
    icmp_errors_use_inbound_ifaddr=1    once, while a link has `sources`: an ICMP error carries an
                          address of the link that its cause came by

The two about one's own addresses stand from the first run on, also while the link is down:
between a new address on one of two cards and the hook's run the other card would answer for it,
and routers keep a wrong MAC for hours.  arp_filter cannot hold there, for without its rule the
new address belongs to the card that main names.

A value that was there before is kept in a file for each interface and put back; not onto a new
interface of the same name.  Where that file is lost, conf/default is put back.
"""

from errno import ENOENT
from posix import listdir

from multihook.features import GUARD, SETTING, Step, View
from multihook.files import explain, folder, number, read, replace
from multihook.files import remove as remove_file
from multihook.kernel import rules, sysctl
from multihook.links import FAMILIES, Link
from multihook.paths import PRIVATE, RUN, SYSCTLS

NAME = "sysctls"

_RP_FILTER, _SRC_VALID_MARK = "rp_filter", "src_valid_mark"
_ARP_IGNORE, _ARP_ANNOUNCE, _ARP_FILTER = "arp_ignore", "arp_announce", "arp_filter"
_ICMP_SOURCE = "icmp_errors_use_inbound_ifaddr"
_OURS = {
    _RP_FILTER: 2, _SRC_VALID_MARK: 1, _ARP_IGNORE: 1, _ARP_ANNOUNCE: 2, _ARP_FILTER: 1, _ICMP_SOURCE: 1,
}  # fmt: skip

_STRICT = 1
_INT = 1 << 31  # all of these are ints of the kernel
_MAGIC = "multihook sysctls 1"
_WHOLE_NAMESPACE = ""
# No interface can have this name (address.is_interface_name).
_FILE_OF_NAMESPACE = "-"


class Setting:
    """One option of one interface (or, without one, of the network namespace).

    value    what it should be, or is
    before   what it was before us; None where that is not on record
    is_kept  whether it is
    size     1, or 0 where only the record was brought in line (engine.count)
    """

    __slots__ = ("before", "index", "interface", "is_kept", "option", "size", "value")

    def __init__(
        self, interface: str, index: int, option: str, value: int, is_kept: bool = True, before: int | None = None
    ) -> None:
        self.interface = interface
        self.index = index
        self.option = option
        self.value = value
        self.is_kept = is_kept
        self.before = before
        self.size = 1

    @property
    def key(self) -> tuple[object, ...]:
        """An option has one value."""
        return ("sysctl", self.interface, self.option)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Setting) and self._state() == other._state()

    def _state(self) -> tuple[object, ...]:
        return (self.key, self.value, self.is_kept)

    def __hash__(self) -> int:
        return hash(self.key)


# --- what should be there ---


def desired(view: View) -> list[Setting]:
    """The settings of the view's links that this kernel has."""
    if _is_out_of_reach(view):
        return []
    return [one for one in _wanted(view).values() if _value(view, one.interface, one.option) is not None]


def _wanted(view: View) -> dict[tuple[str, str], Setting]:
    known: dict[tuple[str, str], Setting] | None = view.memo.get("sysctls wanted")
    if known is None:
        found = []
        shared = _sharers(view)
        for link in view.links:
            interface = link.interface
            if not view.several or link.adopted or not interface or interface.name in ("all", "default"):
                continue
            for option in _options(view, link, link.name in shared):
                found.append(Setting(interface.name, interface.index, option, _OURS[option]))
        if view.several and any(link.sources for link in view.links):
            found.append(Setting(_WHOLE_NAMESPACE, 0, _ICMP_SOURCE, _OURS[_ICMP_SOURCE]))
        known = view.memo["sysctls wanted"] = {(one.interface, one.option): one for one in found}
    return known


def _options(view: View, link: Link, is_sharer: bool) -> list[str]:
    found = []
    is_held = any(path.lease.held for path in link.paths.values())
    is_one_of_several = is_sharer or len(view.config["by_interface"]) > 1
    if _is_card(link) and is_one_of_several and not is_held:
        found.append(_ARP_ANNOUNCE)
        if _speaks_for_itself(view, link):
            found.append(_ARP_IGNORE)
    if link.has_address:
        found += [_RP_FILTER, _SRC_VALID_MARK]
    if is_sharer:
        found.append(_ARP_FILTER)
    return found


def _is_card(link: Link) -> bool:
    """Whether ARP is spoken on a link, and with providers only."""
    return link.interface is not None and link.interface.speaks_arp and not link.lan


def _speaks_for_itself(view: View, link: Link) -> bool:
    """Whether nobody may count on a card's answers for addresses that stand elsewhere.

    `sources` may be on lo, and so may an address of the segment: then it has to answer for it.
    """
    return not link.sources and all(_is_of_link(view, index) for index in _neighbours(view, link))


def _is_of_link(view: View, index: int) -> bool:
    """Whether an interface is that of a link, also of one that is down, held, or about to come up."""
    if index in _links_at(view):
        return True
    interface = view.facts.interface_at(index)
    return interface is not None and (interface.group in view.groups or interface.name in view.config["by_interface"])


def _sharers(view: View) -> set[str]:
    """The links that share a segment with another."""
    return {
        link.name for link in view.links
        if _belongs_to_us(view, link) and _is_card(link)
        and any(_is_card_of_link(view, index) for index in _neighbours(view, link))
    }  # fmt: skip


def _is_card_of_link(view: View, index: int) -> bool:
    """Whether an interface is that of a link by which ARP is spoken, and whose traffic rules tell from all other.

    An event's run sees one link, and knows the others by the interface group.
    """
    if view.whole:
        return any(_belongs_to_us(view, link) and _is_card(link) for link in _links_at(view).get(index, ()))
    interface = view.facts.interface_at(index)
    return interface is not None and interface.group in view.groups and interface.speaks_arp


def _links_at(view: View) -> dict[int, list[Link]]:
    """The view's links by the index of their interface."""
    known: dict[int, list[Link]] | None = view.memo.get("links by index")
    if known is None:
        known = view.memo["links by index"] = {}
        for link in view.links:
            if link.interface:
                known.setdefault(link.interface.index, []).append(link)
    return known


def _neighbours(view: View, link: Link) -> set[int]:
    """The other interfaces with an on-link prefix that overlaps one of this link's."""
    if not link.interface:
        return set()
    known: set[int] | None = view.memo.get(("neighbours", link.interface.index))
    if known is None:
        known = set()
        for family in FAMILIES:
            known |= view.facts.neighbours(link.interface, family)
        view.memo["neighbours", link.interface.index] = known
    return known


def _belongs_to_us(view: View, link: Link) -> bool:
    """Whether other links' rules leave out what main has by this link's interface (its group)."""
    interface = link.interface
    return interface is not None and link.has_address and not link.lan and interface.group in (0, *view.groups)


# --- what is there ---


def actual(view: View) -> list[Setting]:
    """The values of all settings that are wanted or that we once made."""
    if _is_out_of_reach(view):
        return []
    wanted: dict[str, list[str]] = {}
    for name, option in _wanted(view):
        wanted.setdefault(name, []).append(option)
    found = []
    for interface, index in _places(view).items():
        record = _record(view, interface, index)
        options = [*record.before, *wanted.get(interface, ())]
        for option in dict.fromkeys(options):
            value = _value(view, interface, option)
            if value is not None:
                is_kept = record.holds(option) or (NAME, interface) in view.done
                found.append(Setting(interface, index, option, value, is_kept, record.before.get(option)))
    return found


def _places(view: View) -> dict[str, int]:
    """The interfaces to look at, by name, with their index."""
    links = [link for link in view.links if not link.adopted]
    found = {link.interface.name: link.interface.index for link in links if link.interface}
    if view.whole:
        names = _names_on_record()
        if not view.links:
            names |= _names_in_rules(view)  # `multihook flush` after the record was lost
        for interface in view.facts.interfaces.values():
            if interface.name in names:
                found[interface.name] = interface.index
    if view.whole or any(link.sources for link in links):
        found[_WHOLE_NAMESPACE] = 0
    return found


def _value(view: View, interface: str, option: str) -> int | None:
    key = ("sysctl", interface, option)
    if key not in view.memo:
        view.memo[key] = sysctl.get(interface, option)
    value: int | None = view.memo[key]
    return value


def signature(view: View, thorough: bool) -> dict[str, int]:
    """Thorough, the reverse-path filter of each link: `sysctl --system` and others set it back."""
    found = {}
    for name in _names_on_record() - {_FILE_OF_NAMESPACE} if thorough else ():
        what = f"sysctl {name}"
        if view.own is not None and what not in view.own and what in view.certified:
            found[what] = view.certified[what]
        else:
            found[what] = _value(view, name, _RP_FILTER) or 0
    return found


def _is_out_of_reach(view: View) -> bool:
    """Whether nothing can be set from here; said once, and nothing else fails for it."""
    if NAME not in view.unable and sysctl.is_readonly():
        view.unable[NAME] = _cannot("/proc/sys is read-only here")
    return NAME in view.unable


def _cannot(why: str) -> str:
    return f"sysctls of the links are not set: {why}; `multihook sync` where it can be written sets them"


def notes(view: View, link: Link) -> list[str]:
    """What `status` says of an adopted link, for which nothing is set."""
    found = []
    if link.adopted and link.interface and link in view.links:
        name = link.interface.name
        if max(sysctl.get(where, _RP_FILTER) or 0 for where in ("all", name)) == _STRICT:
            found.append("rp_filter is 1: answers to what is forwarded by it may be dropped; 2 allows them")
        if _is_card(link) and any(_is_card_of_link(view, index) for index in _neighbours(view, link)):
            found.append("shares its segment with another link: its card answers ARP for both; name it in a [link.*]")
    return found


# --- what was there before us ---


class Record:
    """The values of an interface before us, by option.

    is_kept    False where they are only presumed: our rules name the interface, so we have been
               here, but the file is lost
    is_secret  the reader is not root, and must not judge by what it cannot see
    """

    __slots__ = ("before", "is_kept", "is_secret")

    def __init__(self, before: dict[str, int], is_kept: bool = True, is_secret: bool = False) -> None:
        self.before = before
        self.is_kept = is_kept
        self.is_secret = is_secret

    def holds(self, option: str) -> bool:
        """Whether an option's old value is known for certain."""
        return self.is_secret or (self.is_kept and option in self.before)


def _record(view: View, interface: str, index: int) -> Record:
    key = ("sysctls before", interface)
    if key not in view.memo:
        view.memo[key] = _read(view, interface, index)
    found: Record = view.memo[key]
    return found


def _read(view: View, interface: str, index: int) -> Record:
    try:
        return Record(_parse(read(_file(interface), 1 << 12), index))
    except PermissionError:
        return Record({}, is_secret=True)
    except (OSError, ValueError):
        return Record(_presumed(view, interface), is_kept=False)


def _parse(content: bytes, index: int) -> dict[str, int]:
    """The values on file; none where it is about another interface that had the same name."""
    lines = content.decode("ascii", "replace").split("\n")
    if lines[0] != _MAGIC or lines[-2:] != ["end", ""]:
        raise ValueError
    pairs = [line.partition(" ") for line in lines[1:-2]]
    values = {option: number(value) for option, _, value in pairs}
    if values.pop("index", None) != index:
        return {}
    return {option: value for option, value in values.items() if option in _OURS and value is not None and value < _INT}


def _presumed(view: View, interface: str) -> dict[str, int]:
    names = _names_in_rules(view)
    if interface == _WHOLE_NAMESPACE:
        has_sources = any(link["sources"] for link in view.config["links"].values())
        options = [_ICMP_SOURCE] if names and has_sources else []
    else:
        options = [option for option in _OURS if option != _ICMP_SOURCE] if interface in names else []
    found = {option: sysctl.default(interface, option) for option in options}
    return {option: old for option, old in found.items() if _value(view, interface, option) == _OURS[option] != old}


def _names_on_record() -> set[str]:
    try:
        return {name for name in listdir(SYSCTLS) if not name.endswith(".new")}
    except OSError:
        return set()


def _names_in_rules(view: View) -> set[str]:
    """The interfaces of configured links in our own rules."""
    known: set[str] | None = view.memo.get("names in rules")
    if known is None:
        tables = {link["table"] for link in view.config["links"].values()}
        known = set()
        for family in FAMILIES:
            for rule in rules.Dump(view.door, family).of_protocols(view.protocols):
                if rule.oif and rule.table in tables:
                    known.add(rule.oif)
        view.memo["names in rules"] = known
    return known


def _file(interface: str) -> str:
    return f"{SYSCTLS}/{interface or _FILE_OF_NAMESPACE}"


def _write(view: View, interface: str, index: int, before: dict[str, int]) -> None:
    """Keep the old values of an interface; what cannot be kept is presumed later."""
    lines = [_MAGIC, f"index {index}", *(f"{option} {value}" for option, value in before.items()), "end\n"]
    try:
        if before:
            for path, mode in ((RUN, 0o755), (PRIVATE, 0o700), (SYSCTLS, 0o700)):
                folder(path, mode)
            replace(_file(interface), "\n".join(lines).encode(), 0o600)
        else:
            remove_file(_file(interface))
        view.memo["sysctls before", interface] = Record(before)
    except OSError as error:
        view.unsaved = view.unsaved or error
        view.done.add((NAME, interface))


# --- making the one the other ---


def add(view: View, new: Setting) -> None:
    """Keep the value there is, and set ours; raises OSError where the interface is gone."""
    _keep(view, new)
    _set(view, new.interface, new.option, new.value)


def change(view: View, old: Setting, new: Setting) -> None:
    """Set ours, and say so where somebody had set it back."""
    add(view, new)
    new.size = int(old.value != new.value)
    if old.is_kept and old.value != new.value:
        name = sysctl.command(new.interface, new.option, new.value).partition(" -qw ")[2]
        view.remarks.append(f"{name} set again: somebody had set it to {old.value}")


def remove(view: View, old: Setting) -> None:
    """Put the old value back, unless somebody has set another one since."""
    record = _record(view, old.interface, old.index)
    old.size = int(_is_to_be_put_back(old))
    if old.before is not None and old.size:
        try:
            _set(view, old.interface, old.option, old.before)
        except OSError as error:
            if error.errno != ENOENT:
                raise
    left = {option: value for option, value in record.before.items() if option != old.option}
    if record.is_kept:
        _write(view, old.interface, old.index, left)
    else:
        record.before = left


def _is_to_be_put_back(old: Setting) -> bool:
    return old.before is not None and old.before != old.value == _OURS[old.option]


def _keep(view: View, new: Setting) -> None:
    """Put on record what was there before us, for all that this run sets on the interface."""
    record = _record(view, new.interface, new.index)
    if record.holds(new.option) or (NAME, new.interface) in view.done:
        return
    before = dict(record.before)
    for interface, option in _wanted(view):
        value = _value(view, interface, option)
        if interface == new.interface and value is not None:
            before.setdefault(option, value)
    _write(view, new.interface, new.index, before)


def _set(view: View, interface: str, option: str, value: int) -> None:
    if NAME in view.unable:
        return
    try:
        if sysctl.get(interface, option) != value:
            sysctl.put(interface, option, value)
    except OSError as error:
        if error.errno == ENOENT:
            raise
        view.unable[NAME] = _cannot(explain(error))


def commands(view: View, step: Step) -> list[str]:
    """The step in the words of sysctl(8); none where the value is right and only kept on record."""
    old, new = step.old, step.new
    if new is None:
        return [sysctl.command(old.interface, old.option, old.before)] if _is_to_be_put_back(old) else []
    return [sysctl.command(new.interface, new.option, new.value)] if old is None or old.value != new.value else []


def place(view: View, thing: Setting) -> tuple[int, str, str]:
    """Its stage: arp_filter asks the rules, so it comes after them and goes before them."""
    stage = SETTING if thing.option == _ARP_FILTER else GUARD
    if thing.interface:
        return stage, "sysctl", view.owner(thing.interface)
    return stage, "sysctl", next((link.name for link in view.links if link.sources), "")


def clash(thing: Setting) -> str:
    """A value is nobody's place, so nobody can stand in it."""
    return "somebody else's is in its place"

"""Sysctls: the kind, and its files in /proc/sys/net/ipv4 (Linux, Documentation/networking/ip-sysctl.rst).

An option of an interface stands in conf/INTERFACE; a new interface begins with the values of
conf/default.  Without an interface it is one of the whole network namespace.  What is written is a
number, so nothing has to be quoted; the interface's name is from the allow-list (address.py).

A value that was there before is kept on file (oldvalues) and put back; not onto a new interface of
the same name.  Where that file is lost, conf/default is put back.
"""

from errno import ENOENT
from posix import O_CLOEXEC, O_NOFOLLOW, O_RDONLY, O_WRONLY, close, read, statvfs, write
from posix import open as posix_open

from multihook import oldvalues
from multihook.address import FAMILIES
from multihook.files import explain, number
from multihook.kernel import rules
from multihook.kind import GUARD, SETTING, Kind, Step
from multihook.oldvalues import OldValues
from multihook.paths import SYSCTL_IPV4

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multihook.view import View

RP_FILTER, SRC_VALID_MARK = "rp_filter", "src_valid_mark"
ARP_IGNORE, ARP_ANNOUNCE, ARP_FILTER = "arp_ignore", "arp_announce", "arp_filter"
ICMP_SOURCE = "icmp_errors_use_inbound_ifaddr"
# To what multihook sets each option, wherever it sets it.
OURS = {RP_FILTER: 2, SRC_VALID_MARK: 1, ARP_IGNORE: 1, ARP_ANNOUNCE: 2, ARP_FILTER: 1, ICMP_SOURCE: 1}
_OF_NAMESPACE = (ICMP_SOURCE,)
# It asks the rules, so it comes after them and goes before them.
_AFTER_RULES = (ARP_FILTER,)

NAMESPACE = ""  # in an interface's place
_ST_RDONLY = 1


class Setting:
    """One option of one interface (or, without one, of the network namespace).

    value    what it should be, or is
    before   what it was before multihook; None where that is not known
    is_kept  whether that is on file
    size     1, or 0 where only the file was brought in line
    """

    __slots__ = ("before", "index", "interface", "is_kept", "link", "option", "size", "value")
    kind: "Kind"
    noun = "sysctl"

    def __init__(
        self,
        interface: str,
        index: int,
        option: str,
        value: int,
        link: str = "",
        *,
        is_kept: bool = True,
        before: int | None = None,
    ) -> None:
        self.interface = interface
        self.index = index
        self.option = option
        self.value = value
        self.link = link
        self.is_kept = is_kept
        self.before = before
        self.size = 1

    @property
    def stage(self) -> int:
        """When it is set."""
        return SETTING if self.option in _AFTER_RULES else GUARD

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


# --- the files in /proc/sys ---


def _path(interface: str, option: str) -> str:
    return f"{SYSCTL_IPV4}/conf/{interface}/{option}" if interface else f"{SYSCTL_IPV4}/{option}"


def get(interface: str, option: str) -> int | None:
    """The value as it is now; None where this kernel or interface has no such option."""
    try:
        fd = posix_open(_path(interface, option), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    except OSError:
        return None
    try:
        return number(read(fd, 32).decode("ascii", "replace").strip())
    except OSError:
        return None
    finally:
        close(fd)


def default(interface: str, option: str) -> int:
    """The value that a new interface would begin with; of the whole namespace, the kernel's own (0)."""
    return (get("default", option) or 0) if interface else 0


def put(interface: str, option: str, value: int) -> None:
    """Set it; raises OSError (ENOENT: the interface is gone; EROFS, EACCES: not from here)."""
    path = _path(interface, option)
    fd = posix_open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW)
    try:
        write(fd, f"{value}\n".encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        close(fd)


def is_readonly() -> bool:
    """Whether /proc/sys is mounted read-only here, as in most containers (statvfs(3))."""
    try:
        return bool(statvfs(SYSCTL_IPV4).f_flag & _ST_RDONLY)
    except OSError:
        return False


def command(interface: str, option: str, value: int) -> str:
    """The same as a command (sysctl(8)), with slashes where the interface's name has dots."""
    name = f"net.ipv4.conf.{interface}.{option}" if interface else f"net.ipv4.{option}"
    if "." in interface:
        name = f"net/ipv4/conf/{interface}/{option}"
    return f"sysctl -qw {name}={value}"


# --- the kind ---


class _Sysctls(Kind):
    """The kind: options that multihook sets, and gives back the values that they had before."""

    NAME = "sysctls"

    def possible(self, view: "View", wanted: list[Setting]) -> list[Setting]:
        """The options that this kernel has; none where /proc/sys is read-only."""
        if _is_out_of_reach(view):
            return []
        return [one for one in wanted if _value(view, one.interface, one.option) is not None]

    def read(self, view: "View", wanted: list[Setting]) -> list[Setting]:
        """The values of all options that are wanted or that multihook once set."""
        if _is_out_of_reach(view):
            return []
        view.read["sysctls wanted"] = wanted
        options: dict[str, list[str]] = {}
        for one in wanted:
            options.setdefault(one.interface, []).append(one.option)
        found = []
        for interface, index in _places(view, wanted).items():
            old = _old(view, interface, index)
            link = _owner(view, interface)
            for option in dict.fromkeys([*old.values, *options.get(interface, ())]):
                value = _value(view, interface, option)
                if value is not None:
                    is_kept = old.holds(option) or (self.NAME, interface) in view.report.done
                    before = old.values.get(option)
                    found.append(Setting(interface, index, option, value, link, is_kept=is_kept, before=before))
        return found

    def add(self, view: "View", new: Setting) -> None:
        """Keep the value there is, and set ours; raises OSError where the interface is gone."""
        _keep(view, new)
        _set(view, new.interface, new.option, new.value)

    def change(self, view: "View", old: Setting, new: Setting) -> None:
        """Set ours, and say so where another program had set it back."""
        self.add(view, new)
        new.size = int(old.value != new.value)
        if old.is_kept and old.value != new.value:
            name = command(new.interface, new.option, new.value).partition(" -qw ")[2]
            view.report.remarks.append(f"{name} set again: somebody had set it to {old.value}")

    def remove(self, view: "View", old: Setting) -> None:
        """Put the old value back, unless another program has set another one since."""
        known = _old(view, old.interface, old.index)
        old.size = int(_is_to_be_put_back(old))
        if old.before is not None and old.size:
            try:
                _set(view, old.interface, old.option, old.before)
            except OSError as error:
                if error.errno != ENOENT:
                    raise
        left = {option: value for option, value in known.values.items() if option != old.option}
        if known.is_on_file:
            _store(view, old.interface, old.index, left)
        else:
            known.values = left

    def commands(self, view: "View", step: Step) -> list[str]:
        """The step in the words of sysctl(8); none where the value is right and only has to be kept on file."""
        old, new = step.old, step.new
        if new is None:
            return [command(old.interface, old.option, old.before)] if _is_to_be_put_back(old) else []
        return [command(new.interface, new.option, new.value)] if old is None or old.value != new.value else []

    def signature(self, view: "View", wanted: list[Setting], thorough: bool) -> dict[str, int]:
        """Thorough, the reverse-path filter of each interface on file: `sysctl --system` and others set it back."""
        return _filters(view, oldvalues.interfaces()) if thorough else {}

    def tally(self, view: "View", there: list[Setting]) -> dict[str, int]:
        """The same for the interfaces that were read; a run over everything has read all of them."""
        names = oldvalues.interfaces()
        return _filters(view, names if view.whole else names & {one.interface for one in there})


KIND = Setting.kind = _Sysctls()


def _filters(view: "View", interfaces: set[str]) -> dict[str, int]:
    return {f"sysctl {name}": _value(view, name, RP_FILTER) or 0 for name in interfaces}


def _is_out_of_reach(view: "View") -> bool:
    """Whether nothing can be set from here; said once, and nothing else fails for it."""
    if KIND.NAME not in view.report.unable and is_readonly():
        view.report.unable[KIND.NAME] = _cannot("/proc/sys is read-only here")
    return KIND.NAME in view.report.unable


def _cannot(why: str) -> str:
    return f"sysctls of the links are not set: {why}; `multihook sync` where it can be written sets them"


def _places(view: "View", wanted: list[Setting]) -> dict[str, int]:
    """The interfaces to look at, by name, with their index."""
    links = [link for link in view.links if not link.adopted]
    found = {link.interface.name: link.interface.index for link in links if link.interface}
    found.update((one.interface, one.index) for one in wanted)
    if view.whole:
        names = oldvalues.interfaces()
        if not view.links:
            names |= _names_in_rules(view)  # `multihook flush` after the files were lost
        for interface in view.facts.interfaces.values():
            if interface.name in names:
                found[interface.name] = interface.index
    if view.whole or any(link.sources for link in links):
        found[NAMESPACE] = 0
    return found


def _owner(view: "View", interface: str) -> str:
    if interface != NAMESPACE:
        return view.owner(interface)
    return next((link.name for link in view.links if link.sources), "")


def _value(view: "View", interface: str, option: str) -> int | None:
    key = ("sysctl", interface, option)
    if key not in view.read:
        view.read[key] = get(interface, option)
    value: int | None = view.read[key]
    return value


# --- what was there before ---


def _old(view: "View", interface: str, index: int) -> OldValues:
    key = ("sysctls before", interface)
    if key not in view.read:
        known = oldvalues.load(interface, index, OURS)
        view.read[key] = known or OldValues(_presumed(view, interface), is_on_file=False)
    found: OldValues = view.read[key]
    return found


def _presumed(view: "View", interface: str) -> dict[str, int]:
    """Where our rules name the interface, multihook has set its options."""
    names = _names_in_rules(view)
    if interface == NAMESPACE:
        has_sources = any(link["sources"] for link in view.config["links"].values())
        options = [*_OF_NAMESPACE] if names and has_sources else []
    else:
        options = [option for option in OURS if option not in _OF_NAMESPACE] if interface in names else []
    found = {option: default(interface, option) for option in options}
    return {option: old for option, old in found.items() if _value(view, interface, option) == OURS[option] != old}


def _names_in_rules(view: "View") -> set[str]:
    """The interfaces of configured links in our own rules."""
    known: set[str] | None = view.read.get("names in rules")
    if known is None:
        tables = {link["table"] for link in view.config["links"].values()}
        found = [rule for family in FAMILIES for rule in rules.dump_of(view, family).of_protocols(view.protocols)]
        known = view.read["names in rules"] = {rule.oif for rule in found if rule.oif and rule.table in tables}
    return known


def _is_to_be_put_back(old: Setting) -> bool:
    return old.before is not None and old.before != old.value == OURS[old.option]


def _keep(view: "View", new: Setting) -> None:
    """Put on file what was there before, for all that this run sets on the interface."""
    known = _old(view, new.interface, new.index)
    if known.holds(new.option) or (KIND.NAME, new.interface) in view.report.done:
        return
    before = dict(known.values)
    for one in view.read["sysctls wanted"]:
        value = _value(view, one.interface, one.option) if one.interface == new.interface else None
        if value is not None:
            before.setdefault(one.option, value)
    _store(view, new.interface, new.index, before)


def _store(view: "View", interface: str, index: int, before: dict[str, int]) -> None:
    """Keep the old values of an interface; what cannot be kept is presumed later."""
    try:
        oldvalues.store(interface, index, before)
        view.read["sysctls before", interface] = OldValues(before)
    except OSError as error:
        view.report.unsaved = view.report.unsaved or error
        view.report.done.add((KIND.NAME, interface))


def _set(view: "View", interface: str, option: str, value: int) -> None:
    if KIND.NAME in view.report.unable:
        return
    try:
        if get(interface, option) != value:
            put(interface, option, value)
    except OSError as error:
        if error.errno == ENOENT:
            raise
        view.report.unable[KIND.NAME] = _cannot(explain(error))

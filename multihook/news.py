"""News of links for the administrator's programs in notify.d: what changed since they were last told of it.

What they were told last is kept, a file a link, so nothing is told twice but what a killed run
had begun to tell, and nothing is missed: not what happened while `multihook flush` held
everything, nor while a run failed.  A piece of news is a file as well, until every program has
heard it: multihook.notify runs them, in a process of its own, and no run waits for it.
"""

from posix import O_RDONLY, O_WRONLY, POSIX_SPAWN_DUP2, POSIX_SPAWN_OPEN, getpid, listdir, posix_spawn
from time import CLOCK_BOOTTIME, clock_gettime_ns

from multihook import repeats
from multihook.address import FAMILY_NAMES, FAMILY_NUMBERS, is_interface_name, parse, text
from multihook.files import explain, folder, number, read, remove, replace
from multihook.paths import NEWS, NOTIFY, TOLD
from multihook.survey import Survey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from multihook.leases import Lease
    from multihook.links import Link

PROGRAM = "/usr/lib/multihook/notify"
# All that a program gets to see besides what the news say.
SURROUNDINGS = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}

UP, DOWN = "up", "down"
_MAGIC = "multihook news 1"
_TOLD_MAGIC = "multihook told 1"
# Of a link that changes faster than the programs run, this many changes wait; older ones are not told.
MOST_WAITING = 32

_NAMES = tuple(f"MULTIHOOK_{name}" for name in (
    "LINK", "INTERFACE", "FAMILY", "STATE", "OLD_ADDRESS", "ADDRESS", "GATEWAY", "TABLE", "SOURCE", "REASON",
))  # fmt: skip
# No word of it is longer: an address, a reason (_plain).
_LONGEST = 64
_MOST_DIGITS = 10
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
# All but KILL and STOP: a hook ignores some, and its caller may ignore others (a background job of a shell).
_SIGNALS = tuple(number for number in range(1, 32) if number not in (9, 19))


class NotStartedError(Exception):
    """The process that runs the programs could not be started; the next run tries again."""


class State:
    """What is told of a link: whether it is up, on which interface, its address, next hop and table.

    A link that is down keeps the address it had, to be told as the old one of the next.
    """

    __slots__ = ("address", "gateway", "interface", "state", "table")

    def __init__(self, state: str, interface: str, address: str, gateway: str, table: str) -> None:
        self.state = state
        self.interface = interface
        self.address = address
        self.gateway = gateway
        self.table = table

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State) or self.state != other.state:
            return False
        return self.state == DOWN or self.render() == other.render()

    def __hash__(self) -> int:
        return hash(self.state)

    def render(self) -> str:
        """As it stands in its file."""
        words = (self.state, self.interface, self.address, self.gateway, self.table)
        return "\n".join([_TOLD_MAGIC, *words, "end\n"])


class News:
    """One change of one link in one family: what it was told to be, what it is, and who said so."""

    __slots__ = ("family", "link", "new", "old", "reason", "source")

    def __init__(self, link: str, family: str, old: State, new: State, source: str, reason: str) -> None:
        self.link = link
        self.family = family
        self.old = old
        self.new = new
        self.source = source
        self.reason = reason

    def environment(self) -> dict[str, str]:
        """What a program gets; every value is ours or was checked, and none has a blank but the reason."""
        is_up = self.new.state == UP
        words = (
            self.link, self.new.interface, self.family, self.new.state, self.old.address,
            self.new.address if is_up else "", self.new.gateway if is_up else "", self.new.table,
            self.source, self.reason,
        )  # fmt: skip
        return dict(zip(_NAMES, words, strict=True))


def since_told(found: Survey, unready: "Container[str]") -> list[News]:
    """What is new to the programs, the links aside that are `unready`: their routing is not right yet."""
    heard = []
    by_name = {link.name: link for link in found.shown}
    kept = set(found.links) | set(found.idle)
    for (name, _), lease in found.after.items():
        link = by_name.get(name)
        if link is None or name in unready:
            continue
        family = FAMILY_NAMES[lease.family]
        old = _told(name, family)
        new = _state(link, lease, old, has_table=link in kept)
        if (old or State(DOWN, "", "", "", "")) != new:
            source, reason = ("command", "down by hand") if lease.held else (lease.source, lease.reason)
            heard.append(News(name, family, old or State(DOWN, "", "", "", ""), new, source, _plain(reason)))
    known = _entries(TOLD) if found.whole else [f"{name}.{FAMILY_NAMES[family]}" for name, family in found.dropped]
    for name, _, family in (entry.partition(".") for entry in known):
        old = _told(name, family) if (name, FAMILY_NUMBERS.get(family)) not in found.after else None
        if old and old.state == UP:
            gone = State(DOWN, old.interface, old.address, "", old.table)
            heard.append(News(name, family, old, gone, "kernel", "no link any more"))
    return heard


def _state(link: "Link", lease: "Lease", old: State | None, *, has_table: bool) -> State:
    path = link.paths.get(lease.family)
    table = str(link.table) if has_table and link.table else ""
    if path is None or not path.is_up:
        return State(DOWN, lease.interface, old.address if old else "", "", table)
    gateway = text(path.gateway) if path.gateway else ""
    return State(UP, lease.interface, text(lease.address), gateway, table)


def _plain(reason: str) -> str:
    return reason if _LETTERS.issuperset(reason.replace(" ", "")) and len(reason) <= 40 else "other"


def _told(name: str, family: str) -> State | None:
    """What the programs were told last of a link; None when nothing that can be believed."""
    try:
        lines = read(f"{TOLD}/{name}.{family}", 1 << 12).decode("ascii", "replace").split("\n")
    except OSError:
        return None
    if len(lines) != 8 or lines[0] != _TOLD_MAGIC or lines[6:] != ["end", ""] or lines[1] not in (UP, DOWN):
        return None
    state = State(*lines[1:6])
    are_good = all(not word or parse(word) for word in (state.address, state.gateway))
    are_good = are_good and (not state.interface or is_interface_name(state.interface))
    return state if are_good and (not state.table or _is_number(state.table)) else None


def _is_number(word: str) -> bool:
    return number(word) is not None and len(word) <= _MOST_DIGITS


def _entries(directory: str) -> list[str]:
    try:
        return sorted(name for name in listdir(directory) if not name.endswith((".new", ".lock")))
    except OSError:
        return []


def tell(heard: list[News]) -> None:
    """Hand the news to the programs, and note that they were; raises OSError, NotStartedError.

    A run that is killed in between does it again: each is told at least once.  What no process could be
    started for is dropped: the next run finds it untold, and says what has changed until then.
    """
    folder(NEWS, 0o700)
    folder(TOLD, 0o700)
    written = []
    for count, one in enumerate(heard):
        lines = [_MAGIC, *(f"{name}={value}" for name, value in one.environment().items()), "end\n"]
        name = f"{one.link}.{clock_gettime_ns(CLOCK_BOOTTIME):020d}-{getpid()}-{count}"
        try:
            replace(f"{NEWS}/{name}", "\n".join(lines).encode(), 0o600)
        except OSError as error:
            error.filename = NEWS  # as in spool.put()
            raise
        written.append(name)
        if too_many := waiting(one.link)[:-MOST_WAITING]:
            repeats.warn(f"{one.link} changes faster than the programs in {NOTIFY} run; not all of it is told")
            for old in too_many:
                done(old)
    try:
        start({one.link for one in heard})
    except NotStartedError:
        for name in written:
            done(name)
        raise
    for one in heard:
        replace(f"{TOLD}/{one.link}.{one.family}", one.new.render().encode(), 0o600)


def waiting(link: str = "") -> list[str]:
    """The news that not all programs have heard, oldest first; of one link, or of all."""
    return [name for name in _entries(NEWS) if not link or name.partition(".")[0] == link]


def take(name: str) -> dict[str, str] | None:
    """The environment of a piece of news; None when it is damaged or gone."""
    try:
        lines = read(f"{NEWS}/{name}", 1 << 14).decode("ascii", "replace").split("\n")
    except OSError:
        return None
    if lines[0] != _MAGIC or lines[-2:] != ["end", ""]:
        return None
    told = {name: value for name, _, value in (line.partition("=") for line in lines[1:-2])}
    # A program that is run as root gets all of it, or is not run.
    are_plain = all(value.isascii() and value.isprintable() and len(value) <= _LONGEST for value in told.values())
    return told if tuple(told) == _NAMES and are_plain else None


def done(name: str) -> None:
    """Drop a piece of news; raises OSError on a read-only /run."""
    remove(f"{NEWS}/{name}")


def start_again() -> None:
    """See to news that were left behind by a process that was killed; raises NotStartedError."""
    if left := {name.partition(".")[0] for name in waiting()}:
        start(left)


def start(links: set[str]) -> None:
    """Start the process that runs the programs, and do not wait for it; raises NotStartedError.

    It gets nothing of ours: no descriptor, no terminal, no variable, no ignored signal.
    """
    nowhere = [(POSIX_SPAWN_OPEN, 0, "/dev/null", O_RDONLY, 0), (POSIX_SPAWN_OPEN, 1, "/dev/null", O_WRONLY, 0)]
    try:
        posix_spawn(
            PROGRAM, [PROGRAM, *sorted(links)], SURROUNDINGS,
            file_actions=[*nowhere, (POSIX_SPAWN_DUP2, 1, 2)], setsid=True, setsigmask=(), setsigdef=_SIGNALS,
        )  # fmt: skip
    except OSError as error:
        raise NotStartedError(explain(error)) from error

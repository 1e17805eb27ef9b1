"""Events that wait to be applied: what a hook was told, kept as it was told, one file an event.

An event is spooled before anything is changed for it and taken out only when all of that is
done, so that a run killed at any instruction loses nothing: the next run does it again, and
doing it twice is the same as once.  Names sort by time of arrival.  The content is text between
zero bytes (no argument and no variable can hold one), independent of versions of this package
and of Python, and it ends in "end" so that a truncated one is known.
"""

from posix import getpid, listdir
from time import CLOCK_BOOTTIME, clock_gettime, clock_gettime_ns

from multihook.files import folder, number, read, remove, replace
from multihook.paths import PRIVATE, RUN, SPOOL, UPGRADING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_MAGIC = b"multihook event 1"
_LIMIT = 1 << 20
# Longer than any value that a source uses, so that a source still sees that one is too long;
# short enough that no event ever meets the limit of the whole: a character has four bytes at most.
_LONGEST = 4200
_MOST_ARGUMENTS = 16
_MARK_SECONDS = 600


class Told:
    """What a hook run was told: the source's name, its arguments, the variables of it we read."""

    __slots__ = ("arguments", "source", "variables")

    def __init__(self, source: str, arguments: list[str], variables: dict[str, str]) -> None:
        self.source = source
        self.arguments = [argument[:_LONGEST] for argument in arguments[:_MOST_ARGUMENTS]]
        self.variables = {name: value[:_LONGEST] for name, value in variables.items()}


def prepare() -> None:
    """Make sure of /run/multihook and what is in it; raises OSError when that cannot be."""
    folder(RUN, 0o755)
    folder(PRIVATE, 0o700)
    folder(SPOOL, 0o700)


def put(told: Told) -> str:
    """Spool one event and return its file name; raises OSError (full or read-only /run)."""
    counts = f"{len(told.arguments)} {len(told.variables)}"
    parts = [_MAGIC.decode(), told.source, counts, *told.arguments]
    parts += [f"{name}={value}" for name, value in told.variables.items()]
    parts.append("end")
    data = b"\0".join(part.encode("utf-8", "surrogateescape") for part in parts)
    name = f"{clock_gettime_ns(CLOCK_BOOTTIME):020d}-{getpid()}"
    try:
        replace(f"{SPOOL}/{name}", data, 0o600)
    except OSError as error:
        error.filename = SPOOL  # the name is another one each time, and the log counts what repeats
        raise
    return name


def waiting() -> list[str]:
    """The names of all spooled events, oldest first; none when there is no spool."""
    try:
        return sorted(name for name in listdir(SPOOL) if not name.endswith(".new"))
    except OSError:
        return []


def take(name: str) -> Told | None:
    """Read one spooled event; None when it is damaged, not ours to believe, or gone."""
    try:
        parts = read(f"{SPOOL}/{name}", _LIMIT).split(b"\0")
    except OSError:
        return None
    if len(parts) < 4 or parts[0] != _MAGIC or parts[-1] != b"end":
        return None
    source, counts, *words = (part.decode("utf-8", "surrogateescape") for part in parts[1:-1])
    arguments, _, variables = map(number, counts.partition(" "))
    if arguments is None or variables is None or arguments + variables != len(words):
        return None
    pairs = (word.partition("=") for word in words[arguments:])
    return Told(source, words[:arguments], {name: value for name, _, value in pairs})


def done(names: list[str]) -> None:
    """Take events out that are wholly applied, or that cannot be read."""
    for name in names:
        try:
            remove(f"{SPOOL}/{name}")
        except OSError:
            continue  # read-only /run: it is applied again, which changes nothing


def is_upgrading() -> bool:
    """Whether dpkg is replacing the package just now, so that hooks must only spool.

    The mark that preinst and prerm set names the boot and the time: it is void after ten
    minutes, in another boot, and when it is not readable as such.
    """
    try:
        boot, seconds = read(UPGRADING, 4096).split()
    except (OSError, ValueError):
        return False
    since = number(seconds.decode("ascii", "replace"))
    if since is None:
        return False
    age = int(clock_gettime(CLOCK_BOOTTIME)) - since
    return age > -2 and age < _MARK_SECONDS and boot == boot_id()


def boot_id() -> bytes:
    """The kernel's name for this boot (random(4)), empty when /proc does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
            return file.read(64).strip()
    except OSError:
        return b""


def pick(environ: "Mapping[bytes, bytes]", names: "frozenset[str]") -> dict[str, str]:
    """The variables of an environment that a source reads, and no others."""
    there = ((name, environ.get(name.encode())) for name in names)
    return {name: value.decode("utf-8", "surrogateescape") for name, value in there if value is not None}



"""What the last run left behind: its result, for `status`, and the certificate of a whole run.

The certificate says: a run over everything of ours was completed in this boot, in this network
namespace, with this configuration and this many links, and our objects had this signature.
While it holds, an event of a machine with many links needs to look at its own link only; without
it (lost, damaged, other configuration) the next run looks at everything.  A run over everything
annuls it before it begins to change things: of an annulled one only the numbers count, by which
objects are known that a killed run left behind.
"""

from posix import stat
from time import CLOCK_BOOTTIME, clock_gettime, time

from multihook.files import number, read, remove, replace
from multihook.paths import APPLIED, LAST
from multihook.spool import boot_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAGIC = "multihook applied 1"
_RESULT_MAGIC = "multihook last 1"
_ANNULLED = "-"  # no configuration has this digest
# A byte in a rule, an int of the kernel's; seconds that every clock can show.
_LAST_PROTOCOL, _LAST_GROUP = 255, (1 << 31) - 1
_LATEST = (1 << 32) - 1


class Certificate:
    """See the module."""

    __slots__ = ("boot", "digest", "group", "links", "namespace", "protocol", "signature")

    def __init__(
        self, boot: str, namespace: int, digest: str, protocol: int, group: int, links: int, signature: str
    ) -> None:
        self.boot = boot
        self.namespace = namespace
        self.digest = digest
        self.protocol = protocol
        self.group = group
        self.links = links
        self.signature = signature

    @property
    def is_annulled(self) -> bool:
        """Whether it only tells protocol and group."""
        return self.digest == _ANNULLED

    def render(self) -> str:
        """The certificate as it stands in its file."""
        words = (self.boot, self.namespace, self.digest, self.protocol, self.group, self.links, self.signature)
        return "\n".join([_MAGIC, *map(str, words), "end\n"])


def namespace() -> int:
    """The network namespace we are in, by its inode; 0 where /proc does not tell."""
    try:
        return stat("/proc/self/ns/net").st_ino
    except OSError:
        return 0


def boot() -> str:
    """The name of this boot, as a certificate holds it."""
    return boot_id().decode("ascii", "replace") or "-"


def certificate_for(config: "dict[str, Any]", links: int, signature: str) -> Certificate:
    """The certificate that a run completed just now would earn."""
    return Certificate(
        boot(), namespace(), config["digest"], config["rt_proto"], config["group"], links, signature or "0"
    )


def certificate() -> Certificate | None:
    """The certificate on file, or None when there is none to be believed."""
    try:
        lines = read(APPLIED, 1 << 16).decode("ascii", "replace").split("\n")
    except OSError:
        return None
    if len(lines) != 10 or lines[0] != _MAGIC or lines[8:] != ["end", ""]:
        return None
    inode, protocol, group, links = (number(lines[place]) for place in (2, 4, 5, 6))
    if inode is None or protocol is None or group is None or links is None:
        return None
    words = "".join(lines)
    if protocol > _LAST_PROTOCOL or group > _LAST_GROUP or not (words.isascii() and words.isprintable()):
        return None
    return Certificate(lines[1], inode, lines[3], protocol, group, links, lines[7])


def certify(certificate: Certificate) -> None:
    """Keep a certificate; raises OSError."""
    replace(APPLIED, certificate.render().encode(), 0o600)


def annul(config: "dict[str, Any]") -> None:
    """Take the certificate back, before a whole run begins to change things; raises OSError.

    The protocol and group that it had are kept, or else those that the run is about to use: the
    configuration may get others before anybody has cleared away what a killed run left.
    """
    known = certificate()
    if known and known.is_annulled:
        return
    known = known or certificate_for(config, 0, "")
    known.digest = _ANNULLED
    try:
        certify(known)
    except OSError:
        forget()  # a full disk takes nothing new, but what is there can go


def forget() -> None:
    """Take the certificate away: nothing of ours is left; raises OSError."""
    remove(APPLIED)


class Result:
    """How the last run that had anything to do ended: `line` is what the log got."""

    __slots__ = ("boottime", "failed", "line", "wall")

    def __init__(self, failed: bool, line: str, wall: int = 0, boottime: int = 0) -> None:
        self.failed = failed
        self.line = line
        self.wall = wall or int(time())
        self.boottime = boottime or now()


def now() -> int:
    """Seconds since boot, suspended time included: no clock jump moves it (CLOCK_BOOTTIME)."""
    return int(clock_gettime(CLOCK_BOOTTIME))


def write_result(result: Result) -> None:
    """Keep a result for `status`; raises OSError."""
    outcome = "failed" if result.failed else "ok"
    line = result.line if result.line.isprintable() else ascii(result.line)[1:-1]
    text = f"{_RESULT_MAGIC}\n{outcome}\n{result.wall}\n{result.boottime}\n{line}\nend\n"
    replace(LAST, text.encode("utf-8", "backslashreplace"))


def last_result() -> Result | None:
    """The result on file, or None."""
    try:
        lines = read(LAST, 1 << 16).decode("utf-8", "replace").split("\n")
    except OSError:
        return None
    if len(lines) != 7 or lines[0] != _RESULT_MAGIC or lines[5:] != ["end", ""]:
        return None
    wall, boottime = number(lines[2]), number(lines[3])
    if wall is None or boottime is None or max(wall, boottime) > _LATEST or not lines[4].isprintable():
        return None
    return Result(lines[1] == "failed", lines[4], wall, boottime)

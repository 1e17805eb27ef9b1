"""What a check may look at: files, programs and the kernel of one machine, read with care and never changed.

A file may be anything (a fifo, a folder, 10 MB of rubbish) and a program may hang: what cannot be
read in time and in bounds is taken down as not checked.
"""

import os
from errno import EACCES, ENOENT, ENOTDIR, EPERM
from shlex import quote
from stat import S_ISREG
from typing import TYPE_CHECKING, NamedTuple

from multihook.journal import foreign
from multihook.kernel.rtnetlink import Door, Refused

if TYPE_CHECKING:
    import subprocess

    from multihook.config.schema import Config
    from multihook.links import Link
    from multihook.view import View

LIMIT = 1 << 20  # of a text file
_OUTPUT_LIMIT = 1 << 25  # a ruleset with a map of 100 000 addresses is smaller
_PATIENCE_SECONDS = 10.0
_FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
_ENVIRONMENT = {"PATH": ":".join(_FOLDERS), "LC_ALL": "C", "HOME": "/nonexistent"}
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ./:_,@%+=-")


class Blind(NamedTuple):
    """What could not be looked at: why not, and whether root could."""

    what: str
    why: str
    root_can: bool


class Line(NamedTuple):
    """One line of a file, with where it stands."""

    path: str
    number: int
    text: str

    @property
    def place(self) -> str:
        """FILE:LINE, fit for one line of output."""
        return f"{foreign(self.path)}:{self.number}"


class Machine:
    """One machine, and what multihook knows of it.

    root      the folder its files lie in; only tests have another than ""
    door      to the kernel, or None where it has no rtnetlink
    view      what a whole run would see, or None where the kernel does not answer
    links     all links, those included that are not kept right (alone, held)
    is_root   whether all can be read
    blind     what was not checked
    """

    def __init__(
        self,
        config: "Config",
        door: Door | None,
        view: "View | None",
        links: "list[Link]",
        *,
        root: str = "",
        is_root: bool = True,
    ) -> None:
        self.config = config
        self.door = door
        self.view = view
        self.links = links
        self.root = root
        self.is_root = is_root
        self.blind: list[Blind] = []
        self._ruleset: object = None

    def not_checked(self, what: str, why: str, root_can: bool = False) -> None:
        """Take down what could not be looked at, once."""
        blind = Blind(what, why, root_can and not self.is_root)
        if blind not in self.blind:
            self.blind.append(blind)

    # --- files ---

    def exists(self, path: str) -> bool:
        """Whether there is anything at this path (a link that leads nowhere is something)."""
        return os.path.lexists(self.root + path)

    def is_folder(self, path: str) -> bool:
        """Whether it is a folder."""
        return os.path.isdir(self.root + path)

    def is_link_to(self, path: str, target: str) -> bool:
        """Whether it is a symbolic link that says exactly this, or the same relative to where it lies."""
        try:
            said = os.readlink(self.root + path)
        except OSError:
            return False
        return os.path.normpath(os.path.join(os.path.dirname(path), said)) == target

    def owner_and_mode(self, path: str) -> tuple[int, int]:
        """The owner and the mode of a file; root's and nothing where there is none."""
        try:
            status = os.stat(self.root + path)
        except OSError:
            return 0, 0
        return status.st_uid, status.st_mode & 0o7777

    def leads_nowhere(self, path: str) -> bool:
        """Whether it is a symbolic link without an end."""
        return os.path.islink(self.root + path) and not os.path.exists(self.root + path)

    def is_plain(self, path: str) -> bool:
        """Whether it is a plain file, or a symbolic link to one."""
        try:
            return S_ISREG(os.stat(self.root + path).st_mode)
        except OSError:
            return False

    def is_executable(self, path: str) -> bool:
        """Whether it is a plain file that somebody may execute, as run-parts and `test -x` of root see it."""
        try:
            status = os.stat(self.root + path)
        except OSError:
            return False
        return S_ISREG(status.st_mode) and bool(status.st_mode & 0o111)

    def text(self, path: str) -> str | None:
        """A text file, or None: where there is none, and where it cannot be read, which is taken down."""
        try:
            data = self._read(path)
        except OSError as error:
            if error.errno not in (ENOENT, ENOTDIR):
                why = error.strerror or "cannot be read"
                self.not_checked(foreign(path), why, root_can=error.errno in (EACCES, EPERM))
            return None
        if b"\0" in data:
            self.not_checked(foreign(path), "is no text")
            return None
        return data.decode("utf-8", "replace")

    def _read(self, path: str) -> bytes:
        # A look first: opening some devices does something.
        if not S_ISREG(os.stat(self.root + path).st_mode):
            raise OSError(0, "is no plain file")
        fd = os.open(self.root + path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with os.fdopen(fd, "rb") as file:
            if not S_ISREG(os.fstat(fd).st_mode):
                raise OSError(0, "is no plain file")
            data = file.read(LIMIT + 1)
        if len(data) > LIMIT:
            raise OSError(0, f"has more than {LIMIT} bytes")
        return data

    def lines(self, path: str) -> list[Line]:
        """The lines of a text file that are neither empty nor a comment."""
        text = self.text(path) or ""
        numbered = enumerate(text.splitlines(), 1)
        return [Line(path, number, line) for number, line in numbered if line.strip() and line.lstrip()[0] not in "#;"]

    def names(self, path: str) -> list[str]:
        """The names in a folder, in order; none where there is no folder."""
        try:
            return sorted(os.listdir(self.root + path))
        except OSError as error:
            if error.errno not in (ENOENT, ENOTDIR):
                self.not_checked(foreign(path), error.strerror or "", root_can=error.errno in (EACCES, EPERM))
            return []

    def sysctl(self, name: str) -> int | None:
        """A number below /proc/sys ("net/ipv4/ip_forward"); None where there is none."""
        text = (self.text(f"/proc/sys/{name}") or "").strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None

    def release(self) -> int:
        """The number of this Debian release (os-release(5)); 0 where it is none."""
        words = dict(line.text.partition("=")[::2] for line in self.lines("/etc/os-release"))
        version = words.get("VERSION_ID", "").strip("\"' ")
        is_debian = words.get("ID", "").strip("\"' ") == "debian"
        return int(version) if is_debian and version.isascii() and version.isdigit() and len(version) < 4 else 0

    # --- programs ---

    def program(self, name: str) -> str:
        """The path of a program, or "" when it is not installed."""
        return next((f"{folder}/{name}" for folder in _FOLDERS if self.is_executable(f"{folder}/{name}")), "")

    def run(self, *argv: str) -> bytes:
        """What a program prints: by its arguments, with a clean environment, bounded in time and size.

        Raises OSError, with what went wrong in one line.
        """
        import subprocess  # not for `status`, which only asks who manages an interface

        with subprocess.Popen(
            argv, env=_ENVIRONMENT, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:  # fmt: skip
            try:
                output = _output(process)
                status = process.wait(_PATIENCE_SECONDS)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise OSError(0, f"`{' '.join(argv)}` {getattr(error, 'strerror', None) or 'does not end'}") from None
            finally:
                process.kill()
        if status:
            raise OSError(0, f"`{' '.join(argv)}` ended with status {status}")
        return output

    def ruleset(self) -> "list[dict[str, dict[str, object]]]":
        """All of nftables, as `nft -j list ruleset` has it; [] where that cannot be read, which is taken down."""
        if self._ruleset is None:
            self._ruleset = self._nft()
        return self._ruleset  # type: ignore[return-value]

    def _nft(self) -> object:
        import json

        nft = self.program("nft")
        what = "the ruleset of nftables"
        if not nft:
            self.not_checked(what, "nft is not installed")
            return []
        if not self.is_root:
            self.not_checked(what, "cannot be read", root_can=True)
            return []
        try:
            found = json.loads(self.run(nft, "-j", "list", "ruleset"))["nftables"]
            return [one for one in found if isinstance(one, dict)]
        except OSError as error:
            self.not_checked(what, error.strerror or "nft cannot be run")
        except (ValueError, LookupError, TypeError, RecursionError):
            self.not_checked(what, "nft prints what cannot be understood")
        return []


def _output(process: "subprocess.Popen[bytes]") -> bytes:
    """All that a process prints; raises OSError when that is too much or takes too long."""
    import select
    import time

    assert process.stdout
    parts: list[bytes] = []
    left = _OUTPUT_LIMIT
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise OSError(0, "does not answer in time")
        part = os.read(process.stdout.fileno(), 1 << 16)
        if not part:
            return b"".join(parts)
        left -= len(part)
        if left < 0:
            raise OSError(0, "prints too much")
        parts.append(part)


def pasteable(command: str) -> str:
    """A command with foreign words in it, fit to be pasted by root, or a comment where it is not."""
    if set(command) <= _PLAIN:
        return command
    return f"# not to be pasted, it has odd characters: {foreign(command)}"


def quoted(path: str) -> str:
    """A path for a shell; odd ones are shown only."""
    return quote(path if path.isascii() and path.isprintable() else foreign(path))


def here(config: "Config") -> Machine:
    """The machine that this runs on."""
    from multihook import census

    is_root = os.geteuid() == 0
    try:
        door = Door()
    except OSError as error:
        machine = Machine(config, None, None, [], is_root=is_root)
        machine.not_checked("the kernel's rules, routes and links", f"no rtnetlink: {error.strerror}")
        return machine
    try:
        found = census.of_everything(config, door, [])
        census.allot_tables(found, door, keep=False)
    except (Refused, OSError) as error:
        machine = Machine(config, door, None, [], is_root=is_root)
        why = error.reason if isinstance(error, Refused) else error.strerror
        machine.not_checked("the kernel's rules, routes and links", f"it does not answer: {why}")
        return machine
    return Machine(config, door, found.view(door, None), found.shown, is_root=is_root)

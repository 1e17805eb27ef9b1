"""Changing a file of another program: as it is found, a copy of it kept beside it, the change all or nothing.

A root process reads such a file: it is believed and changed only where root alone can write
to it.  Which files we wrote to, and which copies we made, is noted for the day when the
configuration names these files no more.
"""

from errno import EACCES, EINVAL
from posix import O_CLOEXEC, O_NOFOLLOW, O_RDONLY, close, geteuid, getpid, link, lstat, stat, unlink
from posix import open as posix_open

from multihook import files
from multihook.paths import GLFTPD, VAR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_BACKUP = ".multihook-backup"
_LIMIT = 1 << 24
_STATE_MAGIC = "multihook glftpd 1"


class Found:
    """A file as it is: by its path without links, with its content, or why it is left alone.

    problem      why it may be neither believed nor written; "" where it may
    is_missing   there is none, so its content is empty
    is_hidden    the problem is that not root asks (`multihook status`), who would see it
    """

    __slots__ = ("content", "is_hidden", "is_missing", "problem", "real")

    def __init__(self, path: str) -> None:
        self.real = path
        self.content = b""
        self.problem = ""
        self.is_missing = self.is_hidden = False
        try:
            self.real = files.real(path)
            status = lstat(self.real)
            if status.st_mode & 0o170000 == 0o100000 and status.st_nlink > 1:
                # rename(2) would part it from its other names, which another program may count on.
                self.problem = f"{path}: has {status.st_nlink} names (hard links); make all but one symbolic links"
                return
            if status.st_mode & 0o170000 != 0o100000:
                self.problem = f"{path}: is not a plain file"  # not opened at all: it may be a device
                return
            self.content = files.read(self.real, _LIMIT)
        except FileNotFoundError as error:
            self.is_missing = True
            if error.filename != self.real:
                self.problem = files.explain(error)
        except OSError as error:
            self.problem = files.explain(error)
            self.is_hidden = error.errno == EACCES and geteuid() != 0

    @property
    def backup(self) -> str:
        """Where the file is kept as it was before our first change."""
        return self.real + _BACKUP


def write(
    path: str,
    edited: "Callable[[bytes], bytes]",
    *,
    keep: "Callable[[bytes], bool] | None" = None,
    is_ours: bool = False,
) -> None:
    """Replace a file by what becomes of its content, all or nothing; raises OSError, and then it is as it was.

    `keep` says whether a content is to be kept beside the file; one that was kept is never written
    again.  A file that is there for us (`is_ours`) goes when nothing is left in it.
    """
    found = Found(path)
    if found.problem:
        raise files.Untrusted(EINVAL, found.problem.partition(": ")[2] or found.problem, path)
    content = edited(found.content)
    if content == found.content:
        return
    _sweep_beside(found.real)
    if found.is_missing:
        files.replace(found.real, content)
        return
    fd = posix_open(found.real, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    try:
        if keep and keep(found.content):
            _back_up(found, fd)
        if content or not is_ours:
            # A file of ours is made anew by the first run after a power cut, so no event waits for the
            # disk, which takes seconds when it is busy; the other program's is not.
            files.replace(found.real, content, durable=not is_ours, like=fd)
        else:
            unlink(found.real)
    finally:
        close(fd)


def sweep(paths: list[str]) -> None:
    """Take away what a killed run left half written beside files, also where they need no change now."""
    for path in dict.fromkeys(paths):
        try:
            _sweep_beside(files.real(path))
        except OSError:
            continue  # not there, or where others write: nothing of ours is there either


def _sweep_beside(path: str) -> None:
    folder, _, name = path.rpartition("/")
    files.sweep(folder or "/", f"{name}.")


def _back_up(found: Found, fd: int) -> None:
    """Keep a file as it is under its own name and an ending, unless that was done before.

    Raises OSError, also where something else has that name: then the file must not be changed.
    """
    backup = found.backup
    temporary = f"{backup}.{getpid()}.new"  # as files.sweep() knows it
    try:
        lstat(backup)
    except FileNotFoundError:
        try:
            files.replace(temporary, found.content, durable=True, like=fd)
            try:
                link(temporary, backup)  # unlike rename(2), never over another one
            except FileExistsError:
                pass
            finally:
                files.remove(temporary)
        except OSError as error:
            error.filename, error.filename2 = backup, None
            raise
    if not _is_file(backup):
        raise files.untrusted(backup, "is no file, so what is there now cannot be kept; take it away")
    _note(lambda places, backups: backups.append(backup) if backup not in backups else None)


def _is_file(path: str) -> bool:
    """Whether a path leads to a plain file."""
    try:
        return stat(path).st_mode & 0o170000 == 0o100000
    except OSError:
        return False


# --- notes ---


def noted() -> tuple[list[tuple[str, str]], list[str]]:
    """The pairs of files that we have written to (the second is included in the first), and the backups made."""
    places, backups = [], []
    try:
        lines = files.read(GLFTPD, 1 << 20).decode("utf-8", "replace").split("\n")
    except OSError:
        return [], []
    if lines[0] != _STATE_MAGIC:
        return [], []
    for line in lines[1:]:
        word, _, rest = line.partition(" ")
        config, tab, multilink = rest.partition("\t")
        if word == "place" and tab and _is_path(config) and _is_path(multilink):
            places.append((config, multilink))
        elif word == "backup" and _is_path(rest):
            backups.append(rest)
    return places, backups


def _is_path(name: str) -> bool:
    """Whether it can be a path of ours, as the configuration takes them (schema.py)."""
    return name.startswith("/") and name.isprintable()


def note_place(place: tuple[str, str]) -> None:
    """Before anything is written to them: a run that is killed must not leave files that are not noted."""
    _note(lambda places, backups: places.append(place) if place not in places else None)


def forget_place(multilink: str) -> None:
    """All pairs with this second file: nothing of ours is in it any more."""

    def edit(places: list[tuple[str, str]], _backups: list[str]) -> None:
        places[:] = [place for place in places if place[1] != multilink]

    _note(edit)


def _note(edit: "Callable[[list[tuple[str, str]], list[str]], object]") -> None:
    """Change what is noted; where that cannot be written, the configuration still knows the files."""
    places, backups = noted()
    before = (list(places), list(backups))
    edit(places, backups)
    if (places, backups) == before:
        return
    lines = [_STATE_MAGIC]
    lines += [f"place {config}\t{multilink}" for config, multilink in places]
    lines += [f"backup {backup}" for backup in backups]
    try:
        files.folder(VAR, 0o755)
        files.replace(GLFTPD, "".join(f"{line}\n" for line in lines).encode(), durable=True)
    except OSError:
        return

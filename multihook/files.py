"""Reading and replacing small files as root: nothing foreign is followed, nothing is left half written.

Each path is opened without following a symbolic link at its end, without blocking on a fifo, and
is believed only when it is a plain file of the right owner that no other user can write.
"""

from errno import EINVAL, ELOOP, ENOENT, ENOTDIR, ENOTSUP
from posix import (
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_NOFOLLOW,
    O_NONBLOCK,
    O_RDONLY,
    O_WRONLY,
    access,
    close,
    fchmod,
    fchown,
    fstat,
    fsync,
    geteuid,
    getpid,
    getxattr,
    listdir,
    listxattr,
    lstat,
    mkdir,
    readlink,
    rename,
    setxattr,
    strerror,
    unlink,
)
from posix import (
    open as posix_open,
)
from posix import (
    read as posix_read,
)
from posix import (
    write as posix_write,
)

_S_IFMT = 0o170000
_S_IFREG = 0o100000
_S_IFLNK = 0o120000
_S_ISVTX = 0o001000
_OTHERS_WRITE = 0o022
# As many as the kernel follows (path_resolution(7)).
_MOST_LINKS = 40


class Untrusted(OSError):
    """A file or folder that is not ours to believe: wrong owner, kind or mode."""


def untrusted(path: str, why: str) -> Untrusted:
    """What to raise of a path, and why."""
    return Untrusted(EINVAL, why, path)


def read(path: str, limit: int = 1 << 20, follow: bool = False) -> bytes:
    """The whole content of a plain file of at most `limit` bytes.

    It must belong to root (or to the user who runs this), and neither group nor others may write to
    it.  `follow` lets path be a symbolic link: for configuration, never for state.
    Raises Untrusted when that does not hold, FileNotFoundError and other OSError as open(2).
    """
    try:
        fd = posix_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | (0 if follow else O_NOFOLLOW))
    except OSError as error:
        if error.errno == ELOOP:
            raise untrusted(path, "is a symbolic link") from None
        raise
    try:
        status = fstat(fd)
        if status.st_mode & _S_IFMT != _S_IFREG:
            raise untrusted(path, "is not a plain file")
        if status.st_uid not in (0, geteuid()):
            raise untrusted(path, f"belongs to user {status.st_uid}, not to root")
        if status.st_mode & _OTHERS_WRITE:
            raise untrusted(path, "can be written by others than its owner")
        if status.st_size > limit:
            raise untrusted(path, f"is larger than {limit} bytes")
        parts = []
        left = limit
        while left > 0:
            part = posix_read(fd, min(left, 1 << 16))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        close(fd)


def real(path: str) -> str:
    """Where an absolute path leads: the same file by a path without symbolic links.

    Every folder and every link on the way belongs to root (or to the user who runs this), and no other
    user writes to the folders: only then does it lead there again a moment later.  One like
    /tmp, where others cannot take away what is not theirs, will do on the way but not at the
    end.  The file itself may be missing.  Raises Untrusted, and OSError as lstat(2).
    """
    rest = [name for name in reversed(path.split("/")) if name]
    here, links = "", 0
    while rest:
        name = rest.pop()
        if name == "..":
            here = here.rpartition("/")[0]
            continue
        _check_folder(here or "/", sticky=bool(rest))
        there = here if name == "." else f"{here}/{name}"
        try:
            status = lstat(there)
        except FileNotFoundError:
            if rest:
                raise
            return there
        if status.st_mode & _S_IFMT != _S_IFLNK:
            here = there
            continue
        if status.st_uid not in (0, geteuid()):
            raise untrusted(there, f"belongs to user {status.st_uid}, not to root")
        links += 1
        if links > _MOST_LINKS:
            raise untrusted(path, "is a symbolic link without an end")
        target = readlink(there)
        here = "" if target[0] == "/" else here
        rest += [name for name in reversed(target.split("/")) if name]
    return here


def _check_folder(path: str, *, sticky: bool) -> None:
    status = lstat(path)
    if status.st_uid not in (0, geteuid()):
        raise untrusted(path, f"belongs to user {status.st_uid}, not to root")
    if status.st_mode & _OTHERS_WRITE and not (sticky and status.st_mode & _S_ISVTX):
        raise untrusted(path, "can be written by others than its owner")


def replace(path: str, content: bytes, mode: int = 0o644, durable: bool = False, like: int = -1) -> None:
    """Put content in place of path, all or nothing (rename(2)).

    `durable` also waits for the disk: for what must outlive a power cut (/var/lib, /etc), not
    for /run.  `like` is the descriptor of a file whose owner, mode and extended attributes (ACLs
    among them) the new one gets.  Raises OSError; then the old file stands unchanged and no
    temporary one is left.
    """
    temporary = f"{path}.{getpid()}.new"
    try:
        _write_anew(temporary, content, mode, durable, like)
        try:
            rename(temporary, path)
        except OSError:
            remove(temporary)
            raise
    except OSError as error:
        # What it is about: the temporary name is another one each time, and write(2) names nothing.
        error.filename, error.filename2 = path, None
        raise


def _write_anew(temporary: str, content: bytes, mode: int, durable: bool, like: int) -> None:
    flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW
    try:
        fd = posix_open(temporary, flags, 0o600)
    except FileExistsError:
        # Left by a killed run whose process number we got; the folder is root's own.
        unlink(temporary)
        fd = posix_open(temporary, flags, 0o600)
    try:
        try:
            rest = content
            while rest:
                rest = rest[posix_write(fd, rest) :]
            if like >= 0:
                _take_after(fd, like)
            else:
                fchmod(fd, mode)
            if durable:
                fsync(fd)
        finally:
            close(fd)
    except OSError:
        remove(temporary)
        raise


def _take_after(fd: int, like: int) -> None:
    status = fstat(like)
    fchown(fd, status.st_uid, status.st_gid)
    fchmod(fd, status.st_mode & 0o7777)
    try:
        for name in listxattr(like):
            setxattr(fd, name, getxattr(like, name))
    except OSError as error:
        if error.errno != ENOTSUP:
            raise


def remove(path: str) -> bool:
    """Unlink a file; False when it was not there.  Raises OSError for any other reason."""
    try:
        unlink(path)
    except OSError as error:
        if error.errno == ENOENT:
            return False
        raise
    return True


def sweep(directory: str, prefix: str = "") -> None:
    """Remove what replace() left in a folder when it was killed half-way: "NAME.PID.new" of no process.

    What cannot be removed stays; it does no harm.
    """
    try:
        names = listdir(directory)
    except OSError:
        return
    for name in names:
        pid = number(name[:-4].rpartition(".")[2])
        if name.startswith(prefix) and name.endswith(".new") and pid and not access(f"/proc/{pid}", 0):
            try:
                unlink(f"{directory}/{name}")
            except OSError:
                continue


def folder(path: str, mode: int) -> None:
    """Make sure that a folder is there, is no symbolic link, and only its owner writes to it.

    A missing one is made (its parent must be there).  Raises Untrusted or OSError.
    """
    flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW
    try:
        fd = posix_open(path, flags)
    except FileNotFoundError:
        try:
            mkdir(path, mode)
        except FileExistsError:
            fd = -1  # another run was faster; contextlib.suppress would be an import
        fd = posix_open(path, flags)
    except OSError as error:
        if error.errno in (ENOTDIR, ELOOP):
            raise untrusted(path, "is not a folder") from None
        raise
    try:
        status = fstat(fd)
        if status.st_uid not in (0, geteuid()):
            raise untrusted(path, f"belongs to user {status.st_uid}, not to root")
        if status.st_mode & _OTHERS_WRITE:
            raise untrusted(path, "can be written by others than its owner")
    finally:
        close(fd)


def number(text: str) -> int | None:
    """A decimal number as our state files hold them, of at most 18 digits; None for anything else.

    int() itself takes Unicode digits and raises on more than 4300 of them.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def explain(error: OSError) -> str:
    """One clause for a log line: "/run/x: No space left on device"."""
    why = error.strerror or (strerror(error.errno) if error.errno else "failed")
    return f"{error.filename}: {why}" if error.filename else why

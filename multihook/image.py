"""The hot path's compiled code in one piece, read at once instead of found and opened module by module.

The 36 modules of a link with SNAT cost a hook 10 ms to import one by one and 2.9 ms from one file,
where the bare interpreter takes 6.2.  The image is a cache in /run, made by the first run that
misses it (imaging) from the very sources it stands for; of a module that is another file it is not
used, and what it does not hold is imported as ever.

It has parts.  The first few hold what every event needs.  Another is read when one of its modules
is imported, the last one when a function is called that no ordinary event calls: to read code
costs 4 us a kB, and half of all there is an event does without.  They are small because a page of
memory that is new to the process costs more than to fill it.
"""

import sys
from _frozen_importlib import ModuleSpec
from marshal import loads
from posix import O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, close, execv, fstat, pread, stat, unlink
from posix import open as posix_open
from zlib import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import stat_result
    from types import CodeType, ModuleType
    from typing import Any, NoReturn

    Stamp = tuple[int, int, int, int]
    # By module: its file and what that was, whether it is a package, the part it is in, functions to be read later
    # (of the module; of its classes).
    Entry = tuple[str, Stamp, bool, int, tuple[str, ...], tuple[tuple[str, str], ...]]
    Code = dict[str, "CodeType"]
    # Where a part begins, how long it is, its checksum.
    Part = tuple[int, int, int]
    # All modules; all parts; how many of these every event needs.
    Contents = tuple[dict[str, Entry], list[Part], int]

FILE = "/run/multihook/private/image"
HEADER = f"multihook image 4 {sys.hexversion:08x}\n".encode()
# Behind the header: length and checksum of the table of contents; then that.
NUMBER_BYTES = 4
_BEGIN = len(HEADER) + 2 * NUMBER_BYTES
_LIMIT = 1 << 22
SELDOM = -1

# A file of the package, and what that was before anything else of it was read: `event` says it, other programs do not.
began: "tuple[str, stat_result] | None" = None

_fd = -1
_index: "dict[str, Entry]" = {}
_parts: "list[Part]" = []
_codes: "Code" = {}
_seldom: "dict[str, dict[str, bytes]]" = {}


class Finder:
    """A finder and loader (importlib.abc) for what the image holds."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """How to load a module of the image; None leaves it to the ordinary finders."""
        entry = _index.get(name)
        if entry is None:
            return None
        if name not in _codes:
            _codes.update(_part(entry[3]))
        # No __file__, no __cached__: nobody asks, and the latter costs 10 us a module.
        spec = ModuleSpec(name, Finder, origin=entry[0], is_package=entry[2])  # type: ignore[arg-type]
        if entry[2] and spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(entry[0].rpartition("/")[0])
        return spec

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        """A module of the ordinary kind."""

    @staticmethod
    def exec_module(module: "ModuleType") -> None:
        """Run the module's code in it."""
        _run(module.__name__, module.__dict__)


class Unread:
    """Stands in for a function that no ordinary event calls: read when it is called after all."""

    __slots__ = ("_module", "_name")

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def _read(self) -> "Any":
        return read_seldom(self._module, self._name)

    def __call__(self, *arguments: object, **named: object) -> "Any":
        return self._read()(*arguments, **named)

    def __get__(self, thing: object, owner: type) -> "Any":
        return self._read().__get__(thing, owner)


def use() -> None:
    """Let the imports that follow come out of the image, if there is one that can be believed."""
    global _fd
    try:
        fd = posix_open(FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    except OSError:
        return
    codes: Code = {}
    try:
        index, parts, number_of_first = _contents(fd)
        for part in parts[:number_of_first]:
            codes.update(_read(fd, part, index))
    except (OSError, ValueError, EOFError, TypeError):
        close(fd)  # everything is imported as ever
        return
    _fd = fd  # for the other parts; it goes with the process
    _index.update(index)
    _parts[:] = parts
    _codes.update(codes)
    sys.meta_path.insert(0, Finder)
    for name in codes:
        if name not in sys.modules:
            _make(name)


def make_ready(name: str) -> None:
    """Make all modules of the part that this one is in, at a fifth of what their imports would cost."""
    entry = _index.get(name)
    if entry is not None and name not in sys.modules:
        for other, code in _part(entry[3]).items():
            if other not in sys.modules:
                _codes[other] = code
                _make(other)


def is_replaced() -> bool:
    """Whether dpkg has replaced the package since the run began: what was read so far may be of two versions.

    Raises FileNotFoundError when the package is no more.
    """
    if began is None:
        return False
    path, then = began
    now = stat(path)
    return (now.st_ino, now.st_ctime_ns) != (then.st_ino, then.st_ctime_ns)


def begin_anew() -> "NoReturn":
    """Run the same command again in this process.

    A run may be killed at any instruction, so it may also begin anew at any; the locks that it
    holds are free then.
    """
    execv(sys.orig_argv[0], sys.orig_argv)


def is_used() -> bool:
    """Whether this run's code came out of the image."""
    return bool(_codes)


def is_current() -> bool:
    """Whether there is an image to be believed, of the very files that there are."""
    try:
        fd = posix_open(FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    except OSError:
        return False
    try:
        index, parts, _ = _contents(fd)
        return all(_read(fd, part, index) for part in parts)
    except (OSError, ValueError, EOFError, TypeError):
        return False
    finally:
        close(fd)


def _contents(fd: int) -> "Contents":
    """What stands at the beginning.  It leads to code: only root's own, unwritable to others, and unharmed will do."""
    status = fstat(fd)
    if status.st_uid != 0 or status.st_mode & 0o170022 != 0o100000 or status.st_size > _LIMIT:
        raise ValueError(FILE)
    head = pread(fd, _BEGIN, 0)
    if len(head) != _BEGIN or not head.startswith(HEADER):
        raise ValueError(FILE)
    middle = len(HEADER) + NUMBER_BYTES
    length, checksum = (int.from_bytes(number, "big") for number in (head[len(HEADER) : middle], head[middle:]))
    found: Contents = loads(_bytes(fd, (_BEGIN, length, checksum)))
    start, length, _ = found[1][-1]
    if status.st_size != start + length:
        raise ValueError(FILE)
    return found


def _bytes(fd: int, part: "Part") -> bytes:
    start, length, checksum = part
    if length > _LIMIT:
        raise ValueError(FILE)
    data = pread(fd, length, start)
    if len(data) != length or crc32(data) != checksum:
        raise ValueError(FILE)
    return data


def _read(fd: int, part: "Part", index: "dict[str, Entry]") -> "dict[str, Any]":
    """One part, by module; ValueError where it is harmed, or one of its modules is another file by now."""
    found: dict[str, Any] = loads(_bytes(fd, part))
    for name in found:
        path, stamp, *_ = index[name]
        if _stamp(path) != stamp:
            raise ValueError(path)
    return found


def _part(number: int) -> "dict[str, Any]":
    """Another part.  Where that cannot be believed the whole run begins anew, without an image."""
    try:
        return _read(_fd, _parts[number], _index)
    except (OSError, ValueError, EOFError, TypeError):
        try:
            unlink(FILE)
        except FileNotFoundError:
            pass  # another hook has seen it, too; contextlib.suppress would be an import
        begin_anew()


def _make(name: str) -> None:
    """Make a module and run its code, past the import machinery, which would cost as much again."""
    origin, _, is_package, *_ = _index[name]
    module = type(sys)(name)
    parent, _, own = name.rpartition(".")
    module.__package__ = name if is_package else parent
    if is_package:
        module.__path__ = [origin.rpartition("/")[0]]
    sys.modules[name] = module
    _run(name, module.__dict__)
    if parent:
        setattr(sys.modules[parent], own, module)


def _run(name: str, space: "dict[str, Any]") -> None:
    """Run a module's code, with stand-ins for what was left out of it."""
    functions, methods = _index[name][4:]
    for function in functions:
        space[function] = Unread(name, function)
    exec(_codes[name], space)  # noqa: S102  # what every import does
    for owner, method in methods:
        setattr(space[owner], method, Unread(name, f"{owner}.{method}"))


def held(module: str, name: str) -> "Any":
    """What a module has under a name, or one of its classes has: a function, or its stand-in."""
    space = sys.modules[module].__dict__
    owner, _, own = name.rpartition(".")
    return space[owner].__dict__[own] if owner else space[own]


def read_seldom(module: str, name: str) -> "Any":
    """Put a function in the place of its stand-in, and give it back."""
    there = held(module, name)
    if type(there) is not Unread:
        return there  # somebody kept the stand-in
    if not _seldom:
        _seldom.update(_part(SELDOM))
    space = sys.modules[module].__dict__
    owner, _, own = name.rpartition(".")
    found: dict[str, Any] = {}
    exec(loads(_seldom[module][name]), space, found)  # noqa: S102  # its `def`, with the module around it
    if owner:
        setattr(space[owner], own, found[own])
    else:
        space[own] = found[own]
    return found[own]


def _stamp(path: str) -> "Stamp":
    """What differs where a file was written or replaced: dpkg gives a rebuilt one the same time and size."""
    status = stat(path)
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino

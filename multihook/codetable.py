"""The table of compiled code: all that a hook may import, in one file that is read at once.

It is made when the package is configured (codemaker), lies beside the .pyc files, and is taken
away when the package is removed.  It holds for one Python and for one installed package: its head
names the interpreter's version, and inode and time of change of the package's own __init__.py.
Where it does not hold everything is imported as ever, and `multihook sync` by root makes it anew.
A source that an administrator changes in place counts from the next sync on.
"""

import sys
from _frozen_importlib import ModuleSpec
from marshal import loads
from marshal import version as marshal_version
from posix import O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, close, execv, fstat, read, stat
from posix import open as posix_open

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import stat_result
    from types import CodeType, ModuleType
    from typing import NoReturn

PACKAGE = "/usr/lib/python3/dist-packages/multihook"
FILE = PACKAGE + "/__pycache__/multihook.codetable"
_LIMIT = 1 << 22

# A file of the package, and what that was before anything else of it was read: `event` says it, other programs do not.
began: "tuple[str, stat_result] | None" = None

# By module: what every event needs, and what some need, still packed.
_core: "dict[str, CodeType]" = {}
_rest: dict[str, bytes] = {}


class Finder:
    """A finder and loader (importlib.abc) for modules of the table that are not made yet; none is a package."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """How to load a module of the table; None leaves it to the ordinary finders."""
        return ModuleSpec(name, Finder) if name in _rest or name in _core else None  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        """A module of the ordinary kind."""

    @staticmethod
    def exec_module(module: "ModuleType") -> None:
        """Run the module's code in it."""
        name = module.__name__
        exec(_core[name] if name in _core else loads(_rest[name]), module.__dict__)  # noqa: S102  # what every import does


def use() -> None:
    """Let the imports that follow come out of the table, if there is one that holds."""
    try:
        data = trusted()
        packages, core, rest = loads(memoryview(data)[len(head()) :]) if data.startswith(head()) else ((), {}, {})
    except (OSError, ValueError, EOFError, TypeError):
        return  # everything is imported as ever
    _core.update(core)
    _rest.update(rest)
    sys.meta_path.insert(0, Finder)
    for name in core:
        if name not in sys.modules:
            _make(name, name in packages)


def trusted() -> bytes:
    """The file; it is code, so only root's own will do, that no other user can write to.

    Raises ValueError where it is another's, and OSError.
    """
    fd = posix_open(FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    try:
        status = fstat(fd)
        if status.st_uid != 0 or status.st_mode & 0o170022 != 0o100000 or status.st_size > _LIMIT:
            raise ValueError(FILE)
        return read(fd, _LIMIT)
    finally:
        close(fd)


def head() -> bytes:
    """What the table begins with where it holds; raises OSError where the package is no more."""
    status = began[1] if began else stat(PACKAGE + "/__init__.py")
    words = (sys.hexversion, marshal_version, status.st_ino, status.st_ctime_ns)
    return b"multihook code %x %d %d %d\n" % words


def _make(name: str, is_package: bool) -> None:
    """Make a module and run its code, past the import machinery, which would cost as much again."""
    module = type(sys)(name)
    parent, _, own = name.rpartition(".")
    module.__package__ = name if is_package else parent
    if is_package:
        module.__path__ = ["/".join((PACKAGE, *name.split(".")[1:]))]
    sys.modules[name] = module
    exec(_core[name], module.__dict__)  # noqa: S102  # what every import does
    if parent:
        setattr(sys.modules[parent], own, module)


def is_used() -> bool:
    """Whether this run's code came out of the table."""
    return bool(_core)


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

"""The hot path's compiled code in one piece, read at once instead of found and opened module by module.

27 modules cost a hook 3.6 ms to import one by one and 1.3 ms from one file, when the bare
interpreter takes 5.  The image is a cache in /run, made by the first run that misses it from the
very sources it stands for; while one of them is another file it is not used, and what it does not
hold is imported as ever.  All code objects in one marshal share their strings; that, and leaving
out what a hook never reads (annotations, docstrings, line numbers), took 0.5 ms of 7.8.
"""

import sys
from _frozen_importlib import ModuleSpec
from fcntl import LOCK_EX, LOCK_NB, flock
from marshal import dumps, loads
from posix import O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, close, fstat, read, stat
from posix import open as posix_open
from zlib import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType

FILE = "/run/multihook/private/image"
_HEADER = f"multihook image 3 {sys.hexversion:08x}\n".encode()
_CHECKSUM_BYTES = 4
_LIMIT = 1 << 22

# All that an event may need, each behind what it imports; also what may be imported on the hot path
# at all (a test holds it to this).
MODULES = (
    "paths", "address", "files", "journal", "repeats", "lock", "spool", "record", "kernel", "kernel.rtnetlink",
    "kernel.addresses", "kernel.interfaces", "kernel.routes", "kernel.rules", "kernel.facts", "kernel.nftables",
    "kernel.nft", "kernel.sysctl", "kernel.conntrack", "sources", "config", "config.compiled", "config.tables",
    "leases", "links", "features", "features.routing", "features.snat", "features.ruleset", "features.sysctls",
    "features.connections", "features.glftpd", "engine", "front", "survey", "news", "run", "hook", "sources.dhcp",
    "sources.dhclient", "sources.dhcpcd", "sources.ifupdown", "sources.pppd",
)  # fmt: skip
# Not every event needs these: they wait until they are asked for.
_LATER = frozenset(f"multihook.{name}" for name in (
    "kernel.nftables", "kernel.nft", "kernel.sysctl", "kernel.conntrack", "features.snat", "features.ruleset",
    "features.sysctls", "features.connections", "features.glftpd", "news", "sources.dhcp", "sources.dhclient",
    "sources.dhcpcd", "sources.ifupdown", "sources.pppd",
))  # fmt: skip

# PEP 563: annotations are kept as text instead of being evaluated (CO_FUTURE_ANNOTATIONS, Include/cpython/code.h).
_UNEVALUATED = 0x1000000

# By module: its file, whether it is a package, its code; that of _LATER as marshal(3py) wrote it, not read yet.
_codes: "dict[str, tuple[str, bool, CodeType | bytes]]" = {}


class Finder:
    """A finder and loader (importlib.abc) for what the image holds."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """How to load a module of the image; None leaves it to the ordinary finders."""
        if name not in _codes:
            return None
        origin, is_package, _ = _codes[name]
        spec = ModuleSpec(name, Finder, origin=origin, is_package=is_package)  # type: ignore[arg-type]
        # no __file__, no __cached__: nobody asks, and the latter costs 10 us a module
        if is_package and spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(origin.rpartition("/")[0])
        return spec

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        """A module of the ordinary kind."""

    @staticmethod
    def exec_module(module: "ModuleType") -> None:
        """Run the module's code in it."""
        code = _codes[module.__name__][2]
        exec(loads(code) if isinstance(code, bytes) else code, module.__dict__)  # noqa: S102  # what every import does


def use() -> None:
    """Let the imports that follow come out of the image, if there is one that can be believed."""
    codes = _current()
    if codes:
        _codes.update(codes)
        sys.meta_path.insert(0, Finder)
        for name in codes:
            if name not in _LATER and name not in sys.modules:
                _make(name)


def _current() -> "dict[str, tuple[str, bool, CodeType | bytes]]":
    """What the image holds; nothing where it is not to be believed, or stands for other files than there are."""
    try:
        stamps, codes = _load()
        return codes if all(_stamp(path) == stamp for path, stamp in stamps) else {}
    except (OSError, ValueError, EOFError, TypeError):
        return {}  # everything is imported as ever


def _make(name: str) -> None:
    """Make a module and run its code, past the import machinery, which would cost as much again."""
    origin, is_package, code = _codes[name]
    assert not isinstance(code, bytes)  # noqa: S101  # for the checker: only those of _LATER are
    module = type(sys)(name)
    parent, _, own = name.rpartition(".")
    module.__package__ = name if is_package else parent
    if is_package:
        module.__path__ = [origin.rpartition("/")[0]]
    sys.modules[name] = module
    exec(code, module.__dict__)  # noqa: S102  # what every import does
    setattr(sys.modules[parent], own, module)


def is_used() -> bool:
    """Whether this run's code came out of the image."""
    return bool(_codes)


def _stamp(path: str) -> tuple[int, int, int, int]:
    """What differs where a file was written or replaced: dpkg gives a rebuilt one the same time and size."""
    status = stat(path)
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _load() -> "tuple[list[tuple[str, tuple[int, int, int, int]]], dict[str, tuple[str, bool, CodeType | bytes]]]":
    """What the file holds.  It is code: only root's own, unwritable to others, whole and unharmed will do."""
    fd = posix_open(FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    try:
        status = fstat(fd)
        if status.st_uid != 0 or status.st_mode & 0o170022 != 0o100000 or status.st_size > _LIMIT:
            raise ValueError(FILE)
        data = read(fd, status.st_size)
    finally:
        close(fd)
    start = len(_HEADER) + _CHECKSUM_BYTES
    body = memoryview(data)[start:]
    if not data.startswith(_HEADER) or crc32(body).to_bytes(_CHECKSUM_BYTES, "big") != data[len(_HEADER) : start]:
        raise ValueError(FILE)
    stamps, codes = loads(body)
    return stamps, codes


def renew() -> None:
    """Make the image anew, unless it is as it should be; one that cannot be written is done without.

    One process at a time: it takes half a second, and after a boot a storm of hooks misses it.
    """
    from multihook import files, paths

    try:
        for path, mode in ((paths.RUN, 0o755), (paths.PRIVATE, 0o700), (paths.SPOOL, 0o700)):
            files.folder(path, mode)
        held = posix_open(paths.SPOOL, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
        try:
            # On the folder itself, which nobody else locks; whoever holds it is at work on the image.
            flock(held, LOCK_EX | LOCK_NB)
            if not _current():
                body = dumps(_compiled())
                files.replace(FILE, _HEADER + crc32(body).to_bytes(_CHECKSUM_BYTES, "big") + body, 0o600)
        finally:
            close(held)
    except (OSError, SyntaxError, ValueError):
        return  # read-only or full /run, or dpkg at work: the next run tries again


def _compiled() -> "tuple[list[tuple[str, tuple[int, int, int, int]]], dict[str, tuple[str, bool, CodeType | bytes]]]":
    """What _load() gives, from the sources as they are; raises OSError, SyntaxError, ValueError."""
    package = __file__.rpartition("/")[0]
    stamps: list[tuple[str, tuple[int, int, int, int]]] = []
    codes: dict[str, tuple[str, bool, CodeType | bytes]] = {}
    for module in MODULES:
        path = f"{package}/{module.replace('.', '/')}"
        is_package = not _is_file(f"{path}.py")
        path = f"{path}/__init__.py" if is_package else f"{path}.py"
        stamps.append((path, _stamp(path)))
        with open(path, "rb") as source:
            code = compile(source.read(), path, "exec", _UNEVALUATED, dont_inherit=True, optimize=2)
        bare = _without_lines(code)
        name = f"multihook.{module}"
        codes[name] = (path, is_package, dumps(bare) if name in _LATER else bare)
    return stamps, codes


def _without_lines(code: "CodeType") -> "CodeType":
    """The same code without line numbers: no traceback is ever shown, and they are a quarter of the file."""
    consts = tuple(_without_lines(one) if hasattr(one, "co_linetable") else one for one in code.co_consts)
    return code.replace(co_linetable=b"", co_consts=consts)


def _is_file(path: str) -> bool:
    try:
        return stat(path).st_mode & 0o170000 == 0o100000
    except OSError:
        return False

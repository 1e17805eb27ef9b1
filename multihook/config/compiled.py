"""The configuration as hooks use it: compiled once, cached in /run, the last good one kept in /var/lib.

A hit reads one file, stats what the configuration was made of, and imports nothing: reading TOML
costs more than the rest of a hook.  The cache is marshal(3py), which is fast and believes what it
reads, so a header names format, multihook and interpreter, and a checksum stands in front of it.
"""

import sys
from marshal import dumps, loads
from marshal import version as _marshal_version
from posix import geteuid, stat
from time import time_ns
from zlib import crc32

from multihook import __version__, files, journal, paths
from multihook.config.listing import listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from multihook.config.listing import Listing
    from multihook.config.schema import Config, Link
    from multihook.config.toml import Document

    Stamp = tuple[int, int, int, int]
    Watch = tuple[list[tuple[str, Stamp]], list[tuple[str, str, Listing]]]

FORMAT = 2
_HEADER = f"multihook configuration {FORMAT} {__version__} {sys.hexversion:08x} {_marshal_version}\n".encode()
_CHECKSUM_BYTES = 4
_CACHE_LIMIT = 1 << 26

# Two changes within one tick of the kernel's clock (10 ms at most) leave the same time behind;
# a file system that keeps whole seconds only shows it by their being whole.
_TICK_NS = 50_000_000
_WHOLE_SECONDS_NS = 2_000_000_000


class Links(dict[str, "Link"]):
    """Links by name out of the cache, each read when it is asked for: an event asks for one of 1000.

    Copies and comparisons see what a plain dict has.
    """

    def __getitem__(self, name: str) -> "Link":
        link: Link | bytes = super().__getitem__(name)
        if not isinstance(link, bytes):
            return link
        read: Link = loads(link)
        self[name] = read
        return read

    def __iter__(self) -> "Iterator[str]":
        # That there is one of our own makes dict() and ** ask for each value too.
        return super().__iter__()

    def __eq__(self, other: object) -> bool:
        return dict(self.items()) == other

    def __repr__(self) -> str:
        return repr(dict(self.items()))

    def get(self, name: str, default: "Any" = None) -> "Any":
        """As dict.get()."""
        if name not in self:
            return default
        return self[name]

    def items(self) -> "Any":
        """As dict.items(), all of them read."""
        return [(name, self[name]) for name in self]

    def values(self) -> "Any":
        """As dict.values(), all of them read."""
        return [self[name] for name in self]


def load() -> "Config":
    """The configuration in force, for hooks; never raises for what a user or a disk can do.

    While the files are wrong it is the last good one, with `error` saying what is wrong; with no
    last good one `usable` is False, and the kernel is to be left as it is.  Where the user who asks may
    not read them, `hidden` is there and True: nothing is known to be wrong, and nothing is known.
    """
    stored = _read_cache()
    if stored is not None:
        watch, provisional, config = stored
        if not provisional and _unchanged(watch):
            return config
    return _renew("" if stored is None else stored[2]["error"])


def compile(keep: bool = False) -> "Config":
    """The configuration from the files as they are now.

    `keep` also makes it the one that hooks use, and the last good one: for `sync`, not for
    looking.  Raises toml.Refused, which has every problem found.
    """
    watch, young = _look()
    return _compile(watch, young, keep)


def _stamp(path: str) -> "Stamp":
    """What changes when a file is written, replaced, given away or re-labelled with another mode."""
    try:
        status = stat(path)
    except OSError as error:
        return -(error.errno or 0), 0, 0, 0
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _unchanged(watch: "Watch") -> bool:
    stamps, folders = watch
    for path, stamp in stamps:
        if _stamp(path) != stamp:
            return False
    return all(listing(path, ending) == before for path, ending, before in folders)


def _read_cache() -> "tuple[Watch, bool, Config] | None":
    """(what it was made of, whether to look again anyway, configuration); None when it cannot be believed."""
    try:
        data = files.read(paths.COMPILED, _CACHE_LIMIT)
    except OSError:
        return None
    start = len(_HEADER) + _CHECKSUM_BYTES
    if len(data) <= start or not data.startswith(_HEADER):
        return None
    body = memoryview(data)[start:]
    if crc32(body) != int.from_bytes(data[len(_HEADER) : start], "big"):
        return None
    stored: tuple[Watch, bool, Config] = loads(body)
    stored[2]["links"] = Links(stored[2]["links"])
    return stored


def _write_cache(watch: "Watch", provisional: bool, config: "Config") -> None:
    """Keep a configuration for the next hook; one that cannot be kept is compiled again, no more."""
    links = {name: dumps(link) for name, link in config["links"].items()}
    body = dumps((watch, provisional, {**config, "links": links}))
    content = _HEADER + crc32(body).to_bytes(_CHECKSUM_BYTES, "big") + body
    try:
        if files.read(paths.COMPILED, _CACHE_LIMIT) == content:
            return
    except OSError:
        pass  # none yet, or none to be believed: it is replaced
    try:
        files.folder(paths.RUN, 0o755)
        files.folder(paths.PRIVATE, 0o700)
        files.replace(paths.COMPILED, content, 0o600)
    except OSError:
        return


# From here on: only after a change.


def _look() -> "tuple[Watch, bool]":
    """(what the configuration is made of, whether some of it changed just now).

    Taken before anything is read: what changes later differs from it, except within one tick.
    """
    from multihook.config import tables, toml

    now = time_ns()
    own_files, own_folders = toml.watched()
    foreign_files, foreign_folders = tables.watched()
    folders = [(path, ending, listing(path, ending)) for path, ending in own_folders + foreign_folders]
    inside = [f"{path}/{name}" for path, _, (_, _, names) in folders for name in names]
    stamps = [(path, _stamp(path)) for path in own_files + foreign_files + inside]
    return (stamps, folders), any(_is_young(changed, now) for _, (_, changed, _, _) in stamps)


def _is_young(changed: int, now: int) -> bool:
    window = _TICK_NS if changed % 1_000_000_000 else _WHOLE_SECONDS_NS
    return 0 <= now - changed < window


def _compile(watch: "Watch", young: bool, keep: bool) -> "Config":
    from multihook.config import schema, tables, toml

    document = toml.read(toml.installed())
    config, _ = schema.build(document, tables.others())
    _finish(config, keep)
    if keep:
        _write_cache(watch, young, config)
        _write_last_good(document)
    return config


def _finish(config: "Config", keep: bool) -> None:
    """Give links without a number theirs, and the whole its identity."""
    from hashlib import sha256

    from multihook.config import tables

    tables.number(config, keep)
    config["digest"] = sha256(repr(config).encode()).hexdigest()


def _renew(known_error: str) -> "Config":
    """Compile anew; when that is refused fall back, and say so if it was not said before."""
    from multihook.config import toml

    watch, provisional = _look()
    hidden = False
    try:
        return _compile(watch, provisional, keep=True)
    except toml.Refused as refused:
        line = refused.line()
        hidden = refused.hidden
        provisional = provisional or refused.passing
    except Exception as error:  # noqa: BLE001  # a mistake of ours: the hook goes on all the same
        line = f"the configuration could not be read: {type(error).__name__}: {journal.foreign(str(error))}"
        provisional = True
    watch[0].append((paths.LAST_GOOD, _stamp(paths.LAST_GOOD)))
    config = _read_last_good()
    config["error"] = line
    if hidden:
        config["hidden"] = True
    if line != known_error and geteuid() == 0:  # `status` of anybody else has it on the screen
        way_on = "the last good configuration stays in force" if config["usable"] else "nothing will be changed"
        journal.write(journal.WARNING, f"{line}; until it is mended {way_on} (multihook check-config)")
    _write_cache(watch, provisional, config)
    return config


def _write_last_good(document: "Document") -> None:
    """Keep the merged text, not its meaning: another version reads it with its own rules."""
    from json import dumps as to_json

    good = {"format": FORMAT, "version": __version__, "document": document.content}
    content = to_json(good, indent=1).encode() + b"\n"
    try:
        if files.read(paths.LAST_GOOD) == content:
            return
    except OSError:
        pass  # none yet, or none to be believed: it is replaced
    try:
        files.folder(paths.VAR, 0o755)
        # What its owner hid in /etc stays hidden here.
        hidden = any(stat(path).st_mode & 0o004 == 0 for path in document.paths)
        files.replace(paths.LAST_GOOD, content, 0o600 if hidden else 0o644, durable=True)
    except OSError:
        return


def _read_last_good() -> "Config":
    """The last good configuration, checked again; one without links and not `usable` if there is none.

    Names and numbers that others have taken since are forgiven: it went on with them until now.
    """
    from json import loads as from_json

    from multihook.config import schema, tables, toml

    try:
        content = from_json(files.read(paths.LAST_GOOD))["document"]
        if not isinstance(content, dict):
            raise TypeError("no document")
        document = toml.Document(content, {}, [paths.LAST_GOOD])
        config, _ = schema.build(document, tables.others(), forgive=True)
        usable = True
    except (OSError, ValueError, LookupError, TypeError, RecursionError, toml.Refused):
        config, _ = schema.build(toml.Document({"multihook": {"adopt": False}}, {}, []), tables.others(), forgive=True)
        usable = False
    _finish(config, keep=usable)
    config["usable"] = usable
    return config

"""The compiled configuration, which is read with marshal(3py), and that believes what it reads.

An input is damage to a good file.  Whatever it is, the content goes to marshal only from a plain file of root's
that nobody else writes, whole and with its own header and checksum; and what comes of it is all or nothing.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from marshal import dumps, loads
from pathlib import Path
from typing import Any
from zlib import crc32

from multihook import paths
from multihook.config import compiled, schema, toml
from targets.surroundings import patched

SETTINGS = {"link": {"dsl": {"interface": "ppp0", "table": 200}, "cable": {"interface": "eth1", "table": 201}}}
STEP = 4  # bytes of input for one piece of damage
SOMEBODY = 12345


class Cache:
    """The file: where it is, what is good in it, who reads it.

    `parts` are what marshal may be given: the body that `head` stands in front of, and what the product itself put
    into it to be read later.
    """

    def __init__(self, path: Path, head: Callable[[bytes], bytes], read: Callable[[], Any], parts: Iterable[bytes]) -> None:
        self.path = path
        self.head = head
        self.read = read
        self.good = path.read_bytes()
        self.parts = set(parts)
        self.value = read()
        assert self.value, "the good file is not believed"


_caches: list[Cache] = []


@contextmanager
def place(folder: Path) -> Iterator[None]:
    """A compiled configuration of our own, made by the product."""
    (folder / "compiled").unlink(missing_ok=True)
    with patched(
        (paths, "RUN", str(folder)), (paths, "PRIVATE", str(folder)), (paths, "COMPILED", str(folder / "compiled")),
    ):  # fmt: skip
        config, _ = schema.build(toml.Document(SETTINGS, {}, []), ({}, {}, {}, set()))
        compiled._write_cache(([], []), False, config)
        content = (folder / "compiled").read_bytes()
        parts = [content[len(head_of_compiled(b"")) :], *map(dumps, config["links"].values())]
        _caches[:] = [Cache(folder / "compiled", head_of_compiled, compiled._read_cache, parts)]
        with patched((compiled, "loads", Guard(_caches[0]))):
            yield


def head_of_compiled(body: bytes) -> bytes:
    """What stands in front of all there is."""
    return bytes(compiled._HEADER) + number(crc32(body))


def number(value: int) -> bytes:
    """As the file has it."""
    return value.to_bytes(4, "big")


class Guard:
    """Stands in front of marshal: looks whether the file may be believed, by the contract and not by the product."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def __call__(self, body: Any) -> Any:
        """As marshal.loads()."""
        content = bytes(body)
        if content not in self._cache.parts:
            check_trusted(self._cache, content)
            raise ValueError("a checksum that was forged by root")
        return loads(body)


def check_trusted(cache: Cache, body: bytes) -> None:
    """Fail unless this body is all of a file that only root can have written."""
    status = os.lstat(cache.path)
    assert stat.S_ISREG(status.st_mode) and not status.st_mode & 0o022, "unmarshalled though others can write it"
    assert status.st_uid == os.geteuid(), "unmarshalled though it is not root's"
    assert cache.path.read_bytes().startswith(cache.head(body) + body), "unmarshalled though it is damaged"


def run(data: bytes) -> None:
    """Damage the file, step by step; it is believed as it was, or not at all."""
    cache = _caches[0]
    content, mode, owner, is_link = bytearray(cache.good), 0o600, os.geteuid(), False
    for start in range(1, len(data) - STEP + 1, STEP):
        kind, high, low, value = data[start : start + STEP]
        offset = min(high << 8 | low, len(content))
        if kind == ord("s"):
            content[offset : offset + 1] = bytes((value,))
        elif kind == ord("t"):
            del content[offset:]
        elif kind == ord("d"):
            del content[offset : offset + value]
        elif kind == ord("i"):
            content[offset:offset] = bytes((value,)) * (high + 1)
        elif kind == ord("m"):
            mode = 0o600 | value & 0o177
        elif kind == ord("o"):
            owner = SOMEBODY
        elif kind == ord("l"):
            is_link = True
    lay(cache.path, bytes(content), mode, owner, is_link)
    is_good = content == cache.good and not mode & 0o022 and owner == os.geteuid() and not is_link
    found = read_or_none(cache)
    if found:
        assert is_good, "believed though it is damaged or somebody else's"
        assert found == cache.value
    else:
        assert not is_good, "a good file is not believed"


def read_or_none(cache: Cache) -> Any:
    """What is read; a forged checksum is the only way to an error, and root's alone."""
    try:
        return cache.read()
    except ValueError as error:
        assert "forged" in str(error)
        return None


def lay(path: Path, content: bytes, mode: int, owner: int, is_link: bool) -> None:
    """Put a file there, or a symbolic link to one."""
    there = path.with_name("elsewhere") if is_link else path
    path.unlink(missing_ok=True)
    there.unlink(missing_ok=True)
    there.write_bytes(content)
    if owner != os.geteuid():
        if os.geteuid() == 0:
            os.chown(there, owner, owner)
        else:
            mode = 0o022  # who is not root cannot give a file away: then others may write it
    there.chmod(mode)
    if is_link:
        path.symlink_to(there)

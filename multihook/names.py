"""Our protocol and tables by name, for ip(8): two generated files in /etc/iproute2, never read back."""

from posix import access, mkdir

from multihook.files import number, read, replace
from multihook.links import Link
from multihook.paths import RT_PROTOS, RT_TABLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEAD = "# Written by multihook(8) for ip(8); it is never read back, and changes to it are lost.\n"


def publish(config: "dict[str, Any]", links: list[Link], *, whole: bool) -> None:
    """Write both files where they differ.  A run of one event only adds the links it knows.

    Raises OSError.
    """
    _write(RT_PROTOS, f"{_HEAD}{config['rt_proto']}\tmultihook\n")
    own = {link.table: link.name for link in links if link.table}
    if not whole and _has_all(_content(RT_TABLES), own):
        return  # to read 1000 lines costs an event more than all else that it does
    lines = {} if whole else _lines(RT_TABLES)
    lines.update(own)
    _write(RT_TABLES, _HEAD + "".join(f"{table}\t{name}\n" for table, name in sorted(lines.items())))


def _has_all(content: bytes, names: dict[int, str]) -> bool:
    return all(f"\n{table}\t{name}\n".encode() in content for table, name in names.items())


def _lines(path: str) -> dict[int, str]:
    found = {}
    for line in _content(path).decode("ascii", "replace").splitlines():
        digits, _, name = line.partition("\t")
        table = number(digits)
        if table and name:
            found[table] = name
    return found


def _content(path: str) -> bytes:
    try:
        return read(path)
    except OSError:
        return b""


def _write(path: str, content: str) -> None:
    if _content(path) == content.encode():
        return
    folder = path.rpartition("/")[0]
    if not access(folder, 0):
        mkdir(folder, 0o755)
    replace(path, content.encode())

"""glftpd's two files, which are others': what stands outside our marks survives byte for byte.

An input is multilink.conf and, behind the separator, glftpd.conf.
"""

import re
import shlex
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from multihook import multilink
from multihook.multilink import Multilink
from targets.surroundings import SEPARATOR

BEGIN, END = b"# multihook: begin", b"# multihook: end"
LONGEST_PATH = 100
ADDRESS = bytes((198, 51, 100, 7))
MULTILINK = "/etc/multilink.conf"
INCLUDE = b"include /etc/multilink.conf"


def place(folder: Path) -> AbstractContextManager[None]:
    """Only contents are worked on."""
    return nullcontext()


def run(data: bytes) -> None:
    """Both files."""
    blocks, _, config = data.partition(SEPARATOR)
    check_multilink(blocks)
    check_config(config)
    check_format(blocks)


def check_multilink(content: bytes) -> None:
    """Our part made anew, changed and taken out: the rest is as it was."""
    known = Multilink(content)
    outside = outside_of(content)
    if outside is not None:
        assert known.has_marks and known.before + known.after == outside
    if not any(line.strip().startswith(BEGIN) for line in content.split(b"\n")):
        assert not known.has_marks and known.seized in (b"", content) and bool(known.seized) == bool(content.strip())
        return
    assert known.has_marks and is_left_of(known.before + known.after, content)
    assert is_left_of(foreign_in(content), known.before + known.after), "a line of somebody else's is lost"
    written = known.render()
    assert written.startswith(known.before) and written.endswith(known.after)
    assert known.exact == (written == content)
    again = Multilink(written)
    assert (again.lan, again.blocks) == (known.lan, known.blocks), "our part reads otherwise than it was written"
    assert (again.before, again.after, again.exact) == (known.before, known.after, True)
    assert multilink.without_frame(written) == known.before + known.after
    check_change(written, known)


def check_change(content: bytes, known: Multilink) -> None:
    """One link's block comes, changes and goes; the others' stay."""
    changed = Multilink(content)
    changed.blocks["cable"] = ADDRESS
    with_block = Multilink(changed.render())
    assert with_block.blocks == {**known.blocks, "cable": ADDRESS} and with_block.lan == known.lan
    assert (with_block.before, with_block.after) == (known.before, known.after)
    without = Multilink(multilink.without_block(changed.render(), "cable"))
    assert without.blocks == {name: one for name, one in known.blocks.items() if name != "cable"}
    lines = changed.region().split(b"\n")[:-1]
    is_dos = content.split(b"\n")[0].endswith(b"\r") and b"\n" in content
    assert all(line.endswith(b"\r") for line in lines) if is_dos else True


def outside_of(content: bytes) -> bytes | None:
    """What stands around one whole part of ours; None where there is none, or more than one."""
    lines = content.splitlines(keepends=True) if b"\r" not in content.replace(b"\r\n", b"") else []
    if any(character in content for character in b"\v\f\x1c\x1d\x1e\x85"):
        return None  # splitlines() of bytes ends lines at none of these, but this need not be known here
    begins = [place for place, line in enumerate(lines) if line.strip().startswith(BEGIN)]
    ends = [place for place, line in enumerate(lines) if line.strip() == END]
    if len(begins) != 1 or len(ends) != 1 or ends < begins:
        return None
    return b"".join(lines[: begins[0]] + lines[ends[0] + 1 :])


def foreign_in(content: bytes) -> bytes:
    """The lines that are in no part of ours, whole or cut off."""
    lines, is_ours = [], False
    for line in content.split(b"\n"):
        word = line.strip()
        if word.startswith(BEGIN):
            is_ours = True
        elif is_ours and word == END:
            is_ours = False
        elif not is_ours:
            lines.append(line)
    return b"\n".join(lines)


def is_left_of(rest: bytes, content: bytes) -> bool:
    """Whether a text is what is left of another when some of its lines are taken out."""
    lines = iter(content.split(b"\n"))
    left = rest.split(b"\n")
    if not left[-1]:
        left.pop()
    return all(any(line == other for other in lines) for line in left)


def check_config(content: bytes) -> None:
    """The include line once, first; every other line as it was, in its order."""
    others = [line for line in multilink.lines_of(content) if line.split()[:2] != INCLUDE.split()]
    written = multilink.with_include(content, MULTILINK)
    first, *rest = multilink.lines_of(written)
    assert first.strip() == INCLUDE and first.endswith(b"\n") and rest == others
    assert first.endswith(b"\r\n") == content.split(b"\n")[0].endswith(b"\r") or b"\n" not in content
    assert multilink.with_include(written, MULTILINK) == written
    assert multilink.has_include(written, MULTILINK) is True
    assert multilink.without_include(written, MULTILINK) == b"".join(others)
    assert (multilink.has_include(content, MULTILINK) is None) == (len(others) == len(multilink.lines_of(content)))


def check_format(content: bytes) -> None:
    """What a dry run prints for a shell gives the same bytes there, and is one word."""
    shown = multilink.printed(content)
    assert shown.isascii() and shown.isprintable() and "'" not in shown
    given = re.sub(rb"\\([0-7]{3}|[nr\\])|%%", lambda found: unescaped(found[0]), shown.encode())
    assert given == content, shown
    path = "/" + content[:LONGEST_PATH].decode("latin-1").replace("\0", "")
    assert shlex.split(multilink.quoted(path)) == [path]


def unescaped(word: bytes) -> bytes:
    """What printf(1) makes of an escape in its format."""
    plain = {b"%%": b"%", b"\\n": b"\n", b"\\r": b"\r", b"\\\\": b"\\"}
    return plain.get(word) or bytes((int(word[1:], 8) & 0xFF,))

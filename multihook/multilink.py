"""The text of glftpd's two files: our part of multilink.conf, and the line of glftpd.conf that includes it.

    # multihook: begin ...                  in multilink.conf; what stands outside these two marks
    ifip 10.* 192.168.*                     belongs to others and is kept
    elseip
    # multihook: link cable                 a link's block, in the order of names; a link that is
    active_addr 198.51.100.7                down has none
    pasv_addr 198.51.100.7
    # multihook: end of cable
    endifip
    # multihook: end

    include /etc/multilink.conf             in glftpd.conf once, as its first line

glftpd uses the pairs in turn for its transfers; a user who comes from the office (ifip) gets none
of them.  All is bytes, for glftpd.conf has no encoding.  Nothing here opens a file.
"""

from multihook.address import is_link_name, parse, text

_MARK = b"# multihook: "
_BEGIN = _MARK + b"begin"
_BEGIN_LINE = _BEGIN + b"; what stands between here and the end is rewritten, see multihook(8)"
_END = _MARK + b"end"
_LINK = _MARK + b"link "
_END_OF = _MARK + b"end of "
_WORDS = (b"ifip", b"elseip", b"endifip", b"active_addr", b"pasv_addr")


def lines_of(content: bytes) -> list[bytes]:
    """The lines with their ends; only a newline ends one."""
    *whole, last = content.split(b"\n")
    return [line + b"\n" for line in whole] + ([last] if last else [])


def end_of_line(content: bytes) -> bytes:
    """As the first line has it."""
    first, newline, _ = content.partition(b"\n")
    return b"\r\n" if newline and first.endswith(b"\r") else b"\n"


# --- multilink.conf ---


class Multilink:
    """The content of multilink.conf: what is ours (the LAN's patterns, blocks by link) and what is around it.

    A file without our marks is not ours: `seized` is its content, which our first change replaces
    as a whole, for glftpd would give the addresses in it to users as well.  `exact` says that our
    part is written as we write it.
    """

    __slots__ = ("after", "before", "blocks", "end_of_line", "exact", "has_marks", "lan", "seized")

    def __init__(self, content: bytes) -> None:
        self.end_of_line = end_of_line(content)
        self.lan: list[bytes] = []
        self.blocks: dict[str, bytes] = {}
        self.before = self.after = self.seized = b""
        self.has_marks = self.exact = False
        lines, parts = lines_of(content), []
        while lines:
            ours = _first_region(lines)
            if ours is None:
                break
            start, end = ours
            parts += [lines[:start], lines[start:end]]
            lines = lines[end:]
            self._understand([line.strip() for line in parts[-1]])
        if not parts:
            self.seized = b"".join(lines).strip() and b"".join(lines)
            return
        # A second region is a copy that was made by hand; ours stays in the place of the first.
        self.has_marks = True
        self.before = b"".join(parts[0])
        self.after = b"".join(line for part in [*parts[2::2], lines] for line in part)
        self.exact = self.render() == content

    def _understand(self, lines: list[bytes]) -> None:
        for place, line in enumerate(lines):
            word, _, rest = line.partition(b" ")
            if word == b"ifip":
                self.lan = rest.split()
            elif line.startswith(_LINK):
                name = line[len(_LINK) :].decode("ascii", "replace")
                pair = [one.partition(b" ")[2].decode("ascii", "replace") for one in lines[place + 1 : place + 3]]
                address = parse(pair[0]) if len(pair) == 2 and pair[0] == pair[1] else None
                if address and is_link_name(name):
                    self.blocks.setdefault(name, address)

    def render(self) -> bytes:
        """The content with our part as it is now known, and what is not ours untouched."""
        return self.before + self.region() + self.after

    def region(self) -> bytes:
        """Our part: from the one mark to the other."""
        lines = [_BEGIN_LINE]
        if self.lan:
            lines += [b"ifip " + b" ".join(self.lan), b"elseip"]
        for name, address in sorted(self.blocks.items()):
            lines += _block(name, address)
        if self.lan:
            lines.append(b"endifip")
        return b"".join(line + self.end_of_line for line in [*lines, _END])


def _block(name: str, address: bytes) -> list[bytes]:
    shown = text(address).encode()
    return [_LINK + name.encode(), b"active_addr " + shown, b"pasv_addr " + shown, _END_OF + name.encode()]


def _first_region(lines: list[bytes]) -> tuple[int, int] | None:
    """Where our part begins and ends; without its end mark it ends with the last line of our kind."""
    words = [line.strip() for line in lines]
    start = next((place for place, word in enumerate(words) if word.startswith(_BEGIN)), None)
    if start is None:
        return None
    for place in range(start + 1, len(words)):
        if words[place] == _END:
            return start, place + 1
        if words[place].startswith(_BEGIN):
            break
    place = start + 1
    while place < len(words) and _is_of_our_kind(lines[place]) and not words[place].startswith(_BEGIN):
        place += 1
    return start, place


def _is_of_our_kind(line: bytes) -> bool:
    word = line.split(b" ")[0].strip()
    if line.endswith(b"\n"):
        return line.startswith(_MARK) or word in _WORDS
    return any(known.startswith(line) or word == known for known in (_MARK, *_WORDS)) or line.startswith(_MARK)


def with_frame(content: bytes, lan: list[bytes]) -> bytes:
    """With our marks and the LAN's patterns around the blocks."""
    known = Multilink(content)
    known.lan = lan
    return known.render()


def without_frame(content: bytes) -> bytes:
    """Without all that is ours."""
    known = Multilink(content)
    return known.before + known.after if known.has_marks else content


def with_block(content: bytes, name: str, address: bytes, lan: list[bytes]) -> bytes:
    """With this address for a link; where our marks are missing they come too, around these patterns."""
    known = Multilink(content)
    if not known.has_marks:
        known.lan = lan
    known.blocks[name] = address
    return known.render()


def without_block(content: bytes, name: str) -> bytes:
    """Without an address for a link."""
    known = Multilink(content)
    known.blocks.pop(name, None)
    return known.render() if known.has_marks else content


# --- the include line of glftpd.conf ---


def _is_include(line: bytes, multilink: str) -> bool:
    """Whether a line of glftpd.conf includes that file, however it is spaced; a comment does not."""
    return line.split()[:2] == [b"include", multilink.encode()]


def has_include(content: bytes, multilink: str) -> bool | None:
    """Whether the include line is as it should be; None when there is none at all."""
    path = multilink.encode()
    right = b"include " + path + end_of_line(content)
    if path not in content:
        return None
    if content.startswith(right) and content.find(path, len(right)) < 0:
        return True  # the lines of a large file need not be told apart
    if not any(_is_include(line, multilink) for line in lines_of(content)):
        return None
    return with_include(content, multilink) == content


def with_include(content: bytes, multilink: str) -> bytes:
    """With the line once, as the first."""
    return b"include " + multilink.encode() + end_of_line(content) + without_include(content, multilink)


def without_include(content: bytes, multilink: str) -> bytes:
    """Without any such line."""
    return b"".join(line for line in lines_of(content) if not _is_include(line, multilink))


# --- the same changes as commands for a shell ---

# LC_ALL: in other locales `.` and `$` stop at bytes that are no characters.
_SED = "LC_ALL=C sed -i --follow-symlinks"


def block_command(path: str, content: bytes, name: str, old: bytes, new: bytes, has_lan: bool) -> str:
    """Make a link's block (no old address), change its address, or take it out (no new one)."""
    region = f"/^{_BEGIN.decode()}/,/^{_END.decode()}\\r*$/"
    block = f"/^{_LINK.decode()}{name}\\r*$/,/^{_END_OF.decode()}{name}\\r*$/"
    if not new:
        return f"{_SED} -e '{region}{{{block}d' -e '}}' {quoted(path)}"
    if old:
        return f"{_SED} -e '{block}s/_addr [0-9.]*/_addr {text(new)}/' {quoted(path)}"
    inserted = "\\n".join(line.decode() + _carriage_return(content) for line in _block(name, new))
    later = sorted(other for other in Multilink(content).blocks if other > name)
    anchor = f"{_LINK.decode()}{later[0]}" if later else "endifip" if has_lan else _END.decode()
    return f"{_SED} -e '{region}{{/^{anchor}\\r*$/i {inserted}' -e '}}' {quoted(path)}"


def include_command(path: str, content: bytes, multilink: str, *, is_wanted: bool) -> str:
    """Put the include line in the first place, or take it out."""
    pattern = "".join(f"\\{c}" if c in "\\.[]*^$#" else c for c in multilink)
    drop = "-e " + quoted(f"\\#^[[:space:]]*include[[:space:]]\\{{1,\\}}{pattern}\\([[:space:]]\\|$\\)#d")
    if not is_wanted:
        return f"{_SED} {drop} {quoted(path)}"
    line = f"include {multilink}"
    if not content:
        return f"printf '%s\\n' {quoted(line)} >>{quoted(path)}"
    inserted = line.replace("\\", "\\\\") + _carriage_return(content)
    return f"{_SED} -e {quoted(f'1i {inserted}')} {drop} {quoted(path)}"


def content_command(path: str, content: bytes) -> str:
    """Write a whole file."""
    return f"printf '{printed(content)}' >{quoted(path)}"


def _carriage_return(content: bytes) -> str:
    return "\\r" if end_of_line(content) == b"\r\n" else ""


def printed(content: bytes) -> str:
    """Bytes as a format of printf(1) that gives them, without a quote in it."""
    plain = {0x0A: "\\n", 0x0D: "\\r", 0x25: "%%", 0x5C: "\\\\", 0x27: "\\047"}
    return "".join(plain.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}") for byte in content)


def quoted(word: str) -> str:
    """A word as sh(1) reads it back."""
    if word.isascii() and word.replace("/", "").replace(".", "").replace("-", "").replace("_", "").isalnum():
        return word
    return "'" + word.replace("'", "'\\''") + "'"

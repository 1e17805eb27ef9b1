"""glftpd: each link's address where glftpd takes it from, one marked block a link, and the line that includes them.

    # multihook: begin ...                  in multilink.conf; what stands outside these two marks
    ifip 10.* 192.168.*                     is somebody else's and is kept
    elseip
    # multihook: link cable                 a link's block, in the order of names; a link that is
    active_addr 198.51.100.7                down has none
    pasv_addr 198.51.100.7
    # multihook: end of cable
    endifip
    # multihook: end

    include /etc/multilink.conf             in glftpd.conf once, as its first line

glftpd spreads transfers over the pairs by turns, and those who come from the office (ifip) get
none of them.  Only the kernel's part makes such a transfer leave by its link, so the files come
last.  Both are read by a root process: they are believed and written only where nobody but root
can.  All is bytes: glftpd.conf has no encoding.
"""

from errno import EACCES, EINVAL
from posix import O_CLOEXEC, O_NOFOLLOW, O_RDONLY, close, geteuid, getpid, link, lstat, stat, unlink
from posix import open as posix_open

from multihook import files
from multihook.address import INET, in_network, is_link_name, parse, text
from multihook.features import FILE, Step, View
from multihook.paths import GLFTPD, VAR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

NAME = "glftpd"

# Where [glftpd] has its files unless it says otherwise.
_USUAL = ("/etc/glftpd.conf", "/etc/multilink.conf")
_BACKUP = ".multihook-backup"
_LIMIT = 1 << 24

_MARK = b"# multihook: "
_BEGIN = _MARK + b"begin"
_BEGIN_LINE = _BEGIN + b"; what stands between here and the end is rewritten, see multihook(8)"
_END = _MARK + b"end"
_LINK = _MARK + b"link "
_END_OF = _MARK + b"end of "
_WORDS = (b"ifip", b"elseip", b"endifip", b"active_addr", b"pasv_addr")

_STATE_MAGIC = "multihook glftpd 1"

# RFC 1918, RFC 6598, RFC 3927: nobody on the internet reaches these.
_PRIVATE = (
    (b"\x0a\0\0\0", 8), (b"\xac\x10\0\0", 12), (b"\xc0\xa8\0\0", 16), (b"\x64\x40\0\0", 10), (b"\xa9\xfe\0\0", 16),
)  # fmt: skip


class Frame:
    """What stands around the blocks: the LAN's patterns, and whether all between the marks is as we write it."""

    __slots__ = ("exact", "lan", "path")

    def __init__(self, path: str, lan: list[bytes], exact: bool = True) -> None:
        self.path = path
        self.lan = lan
        self.exact = exact

    @property
    def key(self) -> tuple[object, ...]:
        """A file has one."""
        return ("frame", self.path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and (self.path, self.lan, self.exact) == (other.path, other.lan, other.exact)

    def __hash__(self) -> int:
        return hash(self.key)


class Block:
    """The pair of addresses of one link."""

    __slots__ = ("address", "link", "path")

    def __init__(self, path: str, link: str, address: bytes) -> None:
        self.path = path
        self.link = link
        self.address = address

    @property
    def key(self) -> tuple[object, ...]:
        """A link has one in a file."""
        return ("block", self.path, self.link)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and self.key == other.key and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.key)


class Include:
    """The line of glftpd.conf, and whether it is there once, as the first and as we write it."""

    __slots__ = ("exact", "multilink", "path")

    def __init__(self, path: str, multilink: str, exact: bool = True) -> None:
        self.path = path
        self.multilink = multilink
        self.exact = exact

    @property
    def key(self) -> tuple[object, ...]:
        """glftpd.conf includes another file's blocks while the configuration moves to it."""
        return ("include", self.path, self.multilink)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Include) and self.key == other.key and self.exact == other.exact

    def __hash__(self) -> int:
        return hash(self.key)


# --- files as they are ---


class Found:
    """A file as it is: by its path without links, with its content (None: missing), or why it is left alone.

    is_hidden    not root asks (`multihook status`), who would see it
    """

    __slots__ = ("content", "is_hidden", "problem", "real")

    def __init__(self, path: str) -> None:
        self.real = path
        self.content: bytes | None = None
        self.problem = ""
        self.is_hidden = False
        try:
            self.real = files.real(path)
            status = lstat(self.real)
            if status.st_mode & 0o170000 == 0o100000 and status.st_nlink > 1:
                # rename(2) would part it from its other names, which somebody may count on.
                self.problem = f"{path}: has {status.st_nlink} names (hard links); make all but one symbolic links"
                return
            if status.st_mode & 0o170000 != 0o100000:
                self.problem = f"{path}: is not a plain file"  # not opened at all: it may be a device
                return
            self.content = files.read(self.real, _LIMIT)
        except FileNotFoundError as error:
            if error.filename != self.real:
                self.problem = files.explain(error)
        except OSError as error:
            self.problem = files.explain(error)
            self.is_hidden = error.errno == EACCES and geteuid() != 0

    @property
    def is_usable(self) -> bool:
        """Whether it may be read and written."""
        return not self.problem

    @property
    def lines(self) -> list[bytes]:
        """Its lines with their ends; only a newline ends one."""
        *whole, last = (self.content or b"").split(b"\n")
        return [line + b"\n" for line in whole] + ([last] if last else [])

    @property
    def end_of_line(self) -> bytes:
        """As its first line has it."""
        first, newline, _ = (self.content or b"").partition(b"\n")
        return b"\r\n" if newline and first.endswith(b"\r") else b"\n"


def _look(view: View, path: str) -> Found:
    found: Found | None = view.memo.get((NAME, path))
    if found is None:
        found = view.memo[NAME, path] = Found(path)
        settings = view.config["glftpd"]
        if settings and path == settings["multilink"] and found.real == _look(view, settings["config"]).real:
            # By a symbolic link: its content would be replaced as a whole by what it is to include.
            found.problem = f"{path}: is {settings['config']} itself; name another file"
    return found


class Multilink:
    """The content of multilink.conf: what is ours (the LAN's patterns, blocks by link) and what is around it.

    A file without our marks is none of ours: `seized` is its content, which the first change of
    ours replaces as a whole, for the addresses in it would be given to users as well.
    """

    __slots__ = ("after", "before", "blocks", "end_of_line", "exact", "has_marks", "lan", "seized")

    def __init__(self, found: Found) -> None:
        self.end_of_line = found.end_of_line
        self.lan: list[bytes] = []
        self.blocks: dict[str, bytes] = {}
        self.before = self.after = self.seized = b""
        self.has_marks = self.exact = False
        lines, parts = found.lines, []
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
        # More than one region is somebody's copy; the first one's place is kept.
        self.has_marks = True
        self.before = b"".join(parts[0])
        self.after = b"".join(line for part in [*parts[2::2], lines] for line in part)
        self.exact = self.render() == found.content

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


def _multilink(view: View, path: str) -> Multilink:
    found: Multilink | None = view.memo.get((NAME, "multilink", path))
    if found is None:
        found = view.memo[NAME, "multilink", path] = Multilink(_look(view, path))
    return found


def _is_include(line: bytes, multilink: str) -> bool:
    """Whether a line of glftpd.conf includes that file, however it is spaced; a comment does not."""
    return line.split()[:2] == [b"include", multilink.encode()]


def _included(found: Found, multilink: str) -> bool | None:
    """Whether the include line is as it should be; None when there is none at all."""
    content, path = found.content or b"", multilink.encode()
    right = b"include " + path + found.end_of_line
    if path not in content:
        return None
    if content.startswith(right) and content.find(path, len(right)) < 0:
        return True  # the lines of a large file need not be told apart
    if not any(_is_include(line, multilink) for line in found.lines):
        return None
    return _with_include(found, multilink) == content


def _with_include(found: Found, multilink: str) -> bytes:
    lines = [line for line in found.lines if not _is_include(line, multilink)]
    return b"".join([b"include " + multilink.encode() + found.end_of_line, *lines])


def _without_include(found: Found, multilink: str) -> bytes:
    return b"".join(line for line in found.lines if not _is_include(line, multilink))


# --- what should be there, and what is ---


def desired(view: View) -> list[Frame | Block | Include]:
    """The frame, a block for each link that is up, and the include line; nothing while there is no link.

    Adopted links have theirs too: glftpd is to use all lines there are.  What cannot be used
    (missing, not root's, no plain file) is left alone, and `remarks` says so.
    """
    settings = view.config["glftpd"]
    if not settings or not view.links:
        return []
    path = settings["multilink"]
    if not _look(view, path).is_usable:
        return []
    wanted: list[Frame | Block | Include] = [Frame(path, [pattern.encode() for pattern in settings["lan"]])]
    for one in sorted(view.links, key=lambda link: link.name):
        known = one.paths.get(INET)
        if known and known.is_up and known.has_address and not known.shared:
            wanted.append(Block(path, one.name, known.lease.address))
    config = _look(view, settings["config"])
    if config.is_usable and config.content is not None:
        wanted.append(Include(settings["config"], path))
    return wanted


def actual(view: View) -> list[Frame | Block | Include]:
    """What there is of ours; in an event's run, of the files in the configuration and of its links alone."""
    if not view.whole and not view.links:
        return []
    places = _places(view)
    found: list[Frame | Block | Include] = []
    for config, multilink in places:
        glftpd = _look(view, config)
        if glftpd.is_usable and (included := _included(glftpd, multilink)) is not None:
            found.append(Include(config, multilink, included))
    own = {one.name for one in view.links}
    frames: list[Frame | Block | Include] = []
    for path in dict.fromkeys(multilink for _, multilink in places):
        content = _multilink(view, path)
        if not _look(view, path).is_usable or not content.has_marks:
            continue
        frames.append(Frame(path, content.lan, content.exact))
        found += [Block(path, name, address) for name, address in content.blocks.items() if view.whole or name in own]
    return found + frames


def _places(view: View) -> list[tuple[str, str]]:
    """The pairs of files (glftpd.conf, multilink.conf) that may hold something of ours."""
    settings = view.config["glftpd"]
    places = [(settings["config"], settings["multilink"])] if settings else []
    if view.whole:
        places += _noted()[0]
        # Our notes may be lost; where everybody has these files our marks tell.
        if _USUAL not in places and _multilink(view, _USUAL[1]).has_marks:
            places.append(_USUAL)
    return list(dict.fromkeys(places))


def signature(view: View, thorough: bool) -> dict[str, int]:
    """How many blocks there are; what is around them each event sees for itself."""
    settings = view.config["glftpd"]
    return {NAME: len(_multilink(view, settings["multilink"]).blocks)} if settings else {}


def remarks(view: View) -> list[str]:
    """What is left undone, and why; and addresses that glftpd's users cannot reach."""
    settings = view.config["glftpd"]
    if not settings or not view.links:
        return []
    multilink, glftpd = _look(view, settings["multilink"]), _look(view, settings["config"])
    found = []
    if multilink.is_hidden or glftpd.is_hidden:
        pass
    elif multilink.problem:
        found.append(f"glftpd gets no addresses: {multilink.problem}")
    elif glftpd.problem or glftpd.content is None:
        why = glftpd.problem or f"{settings['config']}: No such file or directory"
        found.append(f"glftpd does not include {settings['multilink']}: {why}")
    for one in view.links:
        known = one.paths.get(INET)
        address = known.lease.address if known and known.is_up else b""
        if address and any(in_network(address, *private) for private in _PRIVATE):
            found.append(
                f"{one.name}: {text(address)} is private: users of glftpd outside cannot reach it; "
                "glftpd needs the public address, see GLFTPD in multihook(8)"
            )
    return found


# --- making the one the other ---


def add(view: View, new: Frame | Block | Include) -> None:
    """Write one of them into its file; raises OSError, and then the file is as it was."""
    _note_place(view)
    if isinstance(new, Include):
        _write(new.path, lambda found: _with_include(found, new.multilink), is_theirs=True, keep=True)
    elif isinstance(new, Frame):
        _write(new.path, lambda found: _framed(found, new.lan), keep=True)
    else:
        _write(new.path, lambda found: _with_block(view, found, new), keep=True)


def change(view: View, old: Frame | Block | Include, new: Frame | Block | Include) -> None:
    """As add: what is there is replaced."""
    add(view, new)


def remove(view: View, old: Frame | Block | Include) -> None:
    """Take one of them out of its file; raises OSError."""
    if isinstance(old, Include):
        _write(old.path, lambda found: _without_include(found, old.multilink), is_theirs=True)
    elif isinstance(old, Block):
        _write(old.path, lambda found: _without_block(found, old.link))
    else:
        _write(old.path, _unframed)
        _forget_place(old.path)


def _framed(found: Found, lan: list[bytes]) -> bytes:
    content = Multilink(found)
    content.lan = lan
    return content.render()


def _with_block(view: View, found: Found, new: Block) -> bytes:
    content = Multilink(found)
    if not content.has_marks:
        content.lan = [pattern.encode() for pattern in view.config["glftpd"]["lan"]]
    content.blocks[new.link] = new.address
    return content.render()


def _without_block(found: Found, link: str) -> bytes:
    content = Multilink(found)
    content.blocks.pop(link, None)
    return content.render() if content.has_marks else found.content or b""


def _unframed(found: Found) -> bytes:
    content = Multilink(found)
    return content.before + content.after if content.has_marks else found.content or b""


def _write(
    path: str, edited: "Callable[[Found], bytes]", *, is_theirs: bool = False, keep: bool = False
) -> None:
    """Replace a file by what becomes of it, all or nothing.

    `keep`: what others wrote is kept beside it before the first change, and that is never
    written again.  A multilink.conf with nothing left in it goes; glftpd.conf (`is_theirs`) stays.
    """
    found = Found(path)
    if not found.is_usable:
        raise files.Untrusted(EINVAL, found.problem.partition(": ")[2] or found.problem, path)
    content = edited(found)
    if content == (found.content or b""):
        return
    folder, _, name = found.real.rpartition("/")
    files.sweep(folder or "/", f"{name}.")
    if found.content is None:
        files.replace(found.real, content)
        return
    fd = posix_open(found.real, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    try:
        if keep and (is_theirs or Multilink(found).seized):
            _back_up(found, fd)
        if content or is_theirs:
            # multilink.conf is made anew by the first run after a power cut, so no event waits for the
            # disk, which takes seconds when it is busy; glftpd.conf is not.
            files.replace(found.real, content, durable=is_theirs, like=fd)
        else:
            unlink(found.real)
    finally:
        close(fd)


def sweep(config: "dict[str, Any]") -> None:
    """Take away what a killed run left half written beside the files, also where they need no change now."""
    settings = config["glftpd"]
    places = [*_noted()[0], *([(settings["config"], settings["multilink"])] if settings else [])]
    for path in dict.fromkeys(path for pair in places for path in pair):
        try:
            folder, _, name = files.real(path).rpartition("/")
        except OSError:
            continue  # not there, or where others write: nothing of ours is there either
        files.sweep(folder or "/", f"{name}.")


def _back_up(found: Found, fd: int) -> None:
    """Keep a file as it is under its own name and an ending, unless that was done before.

    Raises OSError, also where something else has that name: then the file must not be changed.
    """
    backup = found.real + _BACKUP
    temporary = f"{backup}.{getpid()}.new"  # as files.sweep() knows it
    try:
        lstat(backup)
    except FileNotFoundError:
        try:
            files.replace(temporary, found.content or b"", durable=True, like=fd)
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


# --- what is remembered: for the day when the configuration speaks of these files no more ---


def _noted() -> tuple[list[tuple[str, str]], list[str]]:
    """The pairs of files that we have written to, and the backups that were made."""
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


def _note(edit: "Callable[[list[tuple[str, str]], list[str]], object]") -> None:
    """Change what is remembered; where that cannot be written, the configuration still knows the files."""
    places, backups = _noted()
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


def _note_place(view: View) -> None:
    """Before anything is written to them: a run that is killed must not leave files that nobody knows of."""
    settings = view.config["glftpd"]
    place = (settings["config"], settings["multilink"])
    _note(lambda places, backups: places.append(place) if place not in places else None)


def _forget_place(multilink: str) -> None:
    def edit(places: list[tuple[str, str]], _backups: list[str]) -> None:
        places[:] = [place for place in places if place[1] != multilink]

    _note(edit)


# --- as text ---


def commands(view: View, step: Step) -> list[str]:
    """The step as commands for a shell."""
    thing = step.object
    if isinstance(thing, Include):
        return _include_commands(view, thing, is_wanted=step.new is not None)
    if isinstance(thing, Frame):
        return _frame_commands(view, step, thing)
    path, name = _quoted(thing.path), thing.link
    region = f"/^{_BEGIN.decode()}/,/^{_END.decode()}\\r*$/"
    block = f"/^{_LINK.decode()}{name}\\r*$/,/^{_END_OF.decode()}{name}\\r*$/"
    if step.new is None:
        return [f"{_SED} -e '{region}{{{block}d' -e '}}' {path}"]
    if step.old is not None:
        return [f"{_SED} -e '{block}s/_addr [0-9.]*/_addr {text(thing.address)}/' {path}"]
    eol = "\\r" if _look(view, thing.path).end_of_line == b"\r\n" else ""
    inserted = "\\n".join(line.decode() + eol for line in _block(name, thing.address))
    later = sorted(other for other in _multilink(view, thing.path).blocks if other > name)
    anchor = f"{_LINK.decode()}{later[0]}" if later else "endifip" if view.config["glftpd"]["lan"] else _END.decode()
    return [f"{_SED} -e '{region}{{/^{anchor}\\r*$/i {inserted}' -e '}}' {path}"]


# LC_ALL: in other locales `.` and `$` stop at bytes that are no characters.
_SED = "LC_ALL=C sed -i --follow-symlinks"


def _include_commands(view: View, thing: Include, *, is_wanted: bool) -> list[str]:
    found, path = _look(view, thing.path), _quoted(thing.path)
    pattern = "".join(f"\\{c}" if c in "\\.[]*^$#" else c for c in thing.multilink)
    drop = "-e " + _quoted(f"\\#^[[:space:]]*include[[:space:]]\\{{1,\\}}{pattern}\\([[:space:]]\\|$\\)#d")
    if not is_wanted:
        return [f"{_SED} {drop} {path}"]
    line = f"include {thing.multilink}"
    eol = "\\r" if found.end_of_line == b"\r\n" else ""
    lines = [] if found.content is None else _backup_commands(found)
    if not found.content:
        return [*lines, f"printf '%s\\n' {_quoted(line)} >>{path}"]
    inserted = line.replace("\\", "\\\\") + eol
    return [*lines, f"{_SED} -e {_quoted(f'1i {inserted}')} {drop} {path}"]


def _frame_commands(view: View, step: Step, thing: Frame) -> list[str]:
    found, path = _look(view, thing.path), _quoted(thing.path)
    if step.new is None:
        content = _unframed(found)
        return [f"printf '{_format(content)}' >{path}" if content else f"rm -f {_quoted(found.real)}"]
    lines = _backup_commands(found) if _multilink(view, thing.path).seized else []
    return [*lines, f"printf '{_format(_framed(found, thing.lan))}' >{path}"]


def _backup_commands(found: Found) -> list[str]:
    original, backup = _quoted(found.real), _quoted(found.real + _BACKUP)
    return [f"test -e {backup} || cp -p {original} {backup}"]


def _format(content: bytes) -> str:
    """Bytes as a format of printf(1) that gives them, without a quote in it."""
    plain = {0x0A: "\\n", 0x0D: "\\r", 0x25: "%%", 0x5C: "\\\\", 0x27: "\\047"}
    return "".join(plain.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}") for byte in content)


def _quoted(word: str) -> str:
    """A word as sh(1) reads it back."""
    if word.isascii() and word.replace("/", "").replace(".", "").replace("-", "").replace("_", "").isalnum():
        return word
    return "'" + word.replace("'", "'\\''") + "'"


def place(view: View, thing: Frame | Block | Include) -> tuple[int, str, str]:
    """The stage, the noun, and whose it is: a block is a link's, the rest is glftpd's."""
    if isinstance(thing, Include):
        return FILE, "include line", NAME
    if isinstance(thing, Frame):
        return FILE, "frame", NAME
    known = {one.name for one in view.links} | set(view.owners.values())
    return FILE, "glftpd block", thing.link if thing.link in known else ""


def clash(thing: Frame | Block | Include) -> str:
    """What to do where a file stands in the place of ours."""
    return f"look at what stands beside {thing.path}"

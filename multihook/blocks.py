"""The kind "marked blocks in files": what is ours in glftpd's multilink.conf, and the line that includes it.

This module knows which of the files can be used and what of ours they have; multilink knows their
text, edits how a file of another program is changed.
"""

from multihook import edits
from multihook.edits import Found
from multihook.kind import FILE, Kind
from multihook.multilink import (
    Multilink,
    block_command,
    content_command,
    has_include,
    include_command,
    quoted,
    with_block,
    with_frame,
    with_include,
    without_block,
    without_frame,
    without_include,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from multihook.kind import Object, Step
    from multihook.view import View

# Where [glftpd] has its files unless it says otherwise.
_USUAL = ("/etc/glftpd.conf", "/etc/multilink.conf")
_NAME = "glftpd"


class _Blocks(Kind):
    """See multihook.kind."""

    NAME = _NAME

    def possible(self, view: "View", wanted: "list[Object]") -> "list[Object]":
        """Without what belongs in a file that cannot be used: missing, not root's, no plain file.

        Such a file is left alone, and `view.report` says so.
        """
        left: list[Object] = []
        problem = ""
        for thing in wanted:
            multilink = _look(view, thing.multilink)
            if multilink.problem:
                problem = "" if multilink.is_hidden else f"glftpd gets no addresses: {multilink.problem}"
                continue
            if isinstance(thing, Include):
                config = _look(view, thing.config)
                why = config.problem or (f"{thing.config}: No such file or directory" if config.is_missing else "")
                if why:
                    problem = "" if config.is_hidden else f"glftpd does not include {thing.multilink}: {why}"
                    continue
            left.append(thing)
        view.report.unable.pop(_NAME, None)
        if problem:
            view.report.unable[_NAME] = problem
        return left

    def read(self, view: "View", wanted: "list[Object]") -> "list[Object]":
        """All of ours; in an event's run, what the configured files have of ours and of its links."""
        if not view.whole and not view.links:
            return []
        places = _places(view)
        found: list[Object] = []
        for path, included in places:
            config = _look(view, path)
            exact = None if config.problem else has_include(config.content, included)
            if exact is not None:
                found.append(Include(path, included, exact))
        own = {link.name for link in view.links}
        known = own | set(view.others.values())
        frames: list[Object] = []
        for path in dict.fromkeys(included for _, included in places):
            multilink = _multilink(view, path)
            if not multilink.has_marks:
                continue
            frames.append(Frame(path, multilink.lan, multilink.exact))
            for name, address in multilink.blocks.items():
                if view.whole or name in own:
                    found.append(Block(path, name, address, name if name in known else ""))
        return found + frames

    def add(self, view: "View", new: "Object") -> None:
        """Write one of them into its file; raises OSError, and then the file is as it was."""
        for place in _configured(view.config):
            edits.note_place(place)
        if isinstance(new, Include):
            edits.write(new.config, lambda content: with_include(content, new.multilink), keep=_any)
        elif isinstance(new, Frame):
            edits.write(new.multilink, lambda content: with_frame(content, new.lan), keep=_seized, is_ours=True)
        else:
            lan = [pattern.encode() for pattern in view.config["glftpd"]["lan"]]

            def edited(content: bytes) -> bytes:
                return with_block(content, new.name, new.address, lan)

            edits.write(new.multilink, edited, keep=_seized, is_ours=True)

    def remove(self, view: "View", old: "Object") -> None:
        """Take one of them out of its file; raises OSError."""
        if isinstance(old, Include):
            edits.write(old.config, lambda content: without_include(content, old.multilink))
        elif isinstance(old, Block):
            edits.write(old.multilink, lambda content: without_block(content, old.name), is_ours=True)
        else:
            edits.write(old.multilink, without_frame, is_ours=True)
            edits.forget_place(old.multilink)

    def commands(self, view: "View", step: "Step") -> list[str]:
        """The step as commands for a shell."""
        thing, is_wanted = step.object, step.new is not None
        if isinstance(thing, Include):
            config = _look(view, thing.config)
            lines = _backup_commands(config) if is_wanted and not config.is_missing else []
            return [*lines, include_command(thing.config, config.content, thing.multilink, is_wanted=is_wanted)]
        multilink = _look(view, thing.multilink)
        if isinstance(thing, Block):
            old, new = step.old.address if step.old else b"", thing.address if is_wanted else b""
            has_lan = is_wanted and bool(view.config["glftpd"]["lan"])
            return [block_command(thing.multilink, multilink.content, thing.name, old, new, has_lan)]
        if is_wanted:
            lines = _backup_commands(multilink) if _seized(multilink.content) else []
            return [*lines, content_command(thing.multilink, with_frame(multilink.content, thing.lan))]
        content = without_frame(multilink.content)
        return [content_command(thing.multilink, content) if content else f"rm -f {quoted(multilink.real)}"]

    def signature(self, view: "View", wanted: "list[Object]", thorough: bool) -> dict[str, int]:
        """How many blocks there are; what is around them each event sees for itself."""
        settings = view.config["glftpd"]
        return {_NAME: len(_multilink(view, settings["multilink"]).blocks)} if settings else {}

    def tally(self, view: "View", there: "list[Object]") -> dict[str, int]:
        """Likewise, of the blocks that were read."""
        settings = view.config["glftpd"]
        if not settings:
            return {}
        return {_NAME: sum(isinstance(thing, Block) and thing.multilink == settings["multilink"] for thing in there)}


KIND = _Blocks()


class Frame:
    """What stands around the blocks: the LAN's patterns, and whether all between the marks is as we write it."""

    __slots__ = ("exact", "lan", "multilink")

    kind, stage, noun, link, size = KIND, FILE, "frame", _NAME, 1

    def __init__(self, multilink: str, lan: list[bytes], exact: bool = True) -> None:
        self.multilink = multilink
        self.lan = lan
        self.exact = exact

    @property
    def key(self) -> tuple[object, ...]:
        """A file has one."""
        return ("frame", self.multilink)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and self.key == other.key and (self.lan, self.exact) == (other.lan, other.exact)

    def __hash__(self) -> int:
        return hash(self.key)


class Block:
    """The pair of addresses of one link, by its name; `link` is "" where there is no such link any more."""

    __slots__ = ("address", "link", "multilink", "name")

    kind, stage, noun, size = KIND, FILE, "glftpd block", 1

    def __init__(self, multilink: str, name: str, address: bytes, link: str) -> None:
        self.multilink = multilink
        self.name = name
        self.address = address
        self.link = link

    @property
    def key(self) -> tuple[object, ...]:
        """A link has one in a file."""
        return ("block", self.multilink, self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and self.key == other.key and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.key)


class Include:
    """The line of glftpd.conf, and whether it is there once, as the first and as we write it."""

    __slots__ = ("config", "exact", "multilink")

    kind, stage, noun, link, size = KIND, FILE, "include line", _NAME, 1

    def __init__(self, config: str, multilink: str, exact: bool = True) -> None:
        self.config = config
        self.multilink = multilink
        self.exact = exact

    @property
    def key(self) -> tuple[object, ...]:
        """glftpd.conf includes another file's blocks while the configuration moves to it."""
        return ("include", self.config, self.multilink)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Include) and self.key == other.key and self.exact == other.exact

    def __hash__(self) -> int:
        return hash(self.key)


def sweep(config: "dict[str, Any]") -> None:
    """Take away what a killed run left half written beside the files, also where they need no change now."""
    edits.sweep([path for place in [*edits.noted()[0], *_configured(config)] for path in place])


# --- which files, and what they have ---


def _configured(config: "dict[str, Any]") -> list[tuple[str, str]]:
    """The pair of files (glftpd.conf, multilink.conf) that the configuration names, where it does."""
    settings = config["glftpd"]
    return [(settings["config"], settings["multilink"])] if settings else []


def _places(view: "View") -> list[tuple[str, str]]:
    """The pairs of files that may have something of ours."""
    places = _configured(view.config)
    if view.whole:
        places += edits.noted()[0]
        # Our notes may be lost; in the usual place of these files our marks tell.
        if _USUAL not in places and _multilink(view, _USUAL[1]).has_marks:
            places.append(_USUAL)
    return list(dict.fromkeys(places))


def _look(view: "View", path: str) -> Found:
    found: Found | None = view.read.get((_NAME, path))
    if found is None:
        found = view.read[_NAME, path] = Found(path)
        for config, multilink in _configured(view.config):
            if path == multilink and found.real == _look(view, config).real:
                # By a symbolic link: its content would be replaced as a whole by what it is to include.
                found.problem = f"{path}: is {config} itself; name another file"
    return found


def _multilink(view: "View", path: str) -> Multilink:
    found: Multilink | None = view.read.get((_NAME, "multilink", path))
    if found is None:
        file = _look(view, path)
        found = view.read[_NAME, "multilink", path] = Multilink(b"" if file.problem else file.content)
    return found


# --- which content is kept beside a file before its first change ---


def _any(_content: bytes) -> bool:
    """Of glftpd.conf."""
    return True


def _seized(content: bytes) -> bool:
    """Of multilink.conf: what we did not write."""
    return bool(Multilink(content).seized)


def _backup_commands(found: Found) -> list[str]:
    original, backup = quoted(found.real), quoted(found.backup)
    return [f"test -e {backup} || cp -p {original} {backup}"]

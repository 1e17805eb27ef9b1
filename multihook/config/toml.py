"""Reading and merging the files of the configuration, and saying where in them something is wrong.

multihook.toml comes first, then each conf.d/NAME.toml in the order of the names; a later file adds
to the tables of the earlier ones and takes the place of their keys.
"""

import re
import tomllib
from errno import EACCES, EINVAL, EPERM
from os import O_CLOEXEC, O_NONBLOCK, O_RDONLY, close, fdopen, fstat, geteuid, strerror
from os import open as os_open
from os.path import lexists
from stat import S_ISREG
from typing import Any, NamedTuple

from multihook import files, paths
from multihook.config.listing import listing
from multihook.journal import FOREIGN_BYTES, foreign

SETTINGS = paths.ETC + "/multihook.toml"
DROP_INS = paths.ETC + "/conf.d"
ENDING = ".toml"

LIMIT = 1 << 20
# Nothing that is allowed lies deeper; dotted keys could nest a million tables.
_DEPTH = 4
# tomllib needs time and memory by the square of the levels of a key.
_DEEP_KEY = re.compile(r"""(?:["'\w-]{1,64}[ \t]*\.[ \t]*){100}""")
_LONG_NUMBER = re.compile(r"[0-9][0-9_]{3999}")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_POSITION = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
_DECLARED_TWICE = re.compile(r"Cannot (?:declare|mutate immutable namespace) \((.*)\)(?: twice)?", re.DOTALL)
_BYTE_ORDER_MARK = "\ufeff"

# What tomllib says, and what would be right.
_HINTS = (
    ("Invalid value", 'text stands in quotes ("ppp0"); true, false and numbers do not'),
    ("Expected '=' after a key", "one key a line: key = value, or a table: [link.NAME]"),
    ("Expected newline or end of document", "one key = value a line; text with blanks stands in quotes"),
    ("Cannot overwrite a value", "this key is there twice; keep one of the two"),
    ("Duplicate inline table key", "this key is there twice; keep one of the two"),
    ("Illegal character", "text ends on the line where it begins"),
    ("Found invalid character", "control characters have no place here"),
    ("Unescaped", "write two backslashes, or put the text in single quotes"),
    ("Invalid statement", "a line is key = value, [table] or # comment"),
    ("Expected ']'", "a table is written [link.NAME]"),
    ('Expected "', "text ends with the quote it begins with"),
    ("Unterminated string", "text ends with the quotes it begins with"),
    ("Unclosed array", "a list has commas between its values and ends with ]"),
    ("Unclosed inline table", "write it as a table of its own: [link.NAME]"),
)


class Problem(NamedTuple):
    """One thing that is wrong: in which file, where there (key path, or line:column), and what would be right."""

    path: str
    position: str
    key: str
    what: str

    def line(self) -> str:
        """As one line: `FILE:LINE:COLUMN: what` or `FILE: key.path: what`."""
        place = foreign(self.path) + (f":{self.position}" if self.position else "")
        return ": ".join(part for part in (place, self.key, self.what) if part)


class Refused(Exception):
    """The configuration is wrong; all of it is refused.

    `problems` are the first of `count`; `passing` when it is the disk or the machine, not the content,
    so that it is worth another look without a change; `hidden` when nothing is known to be wrong, only
    that the user who asks may not read it: root can.
    """

    def __init__(
        self, problems: list[Problem], count: int = 0, passing: bool = False, hidden: bool = False
    ) -> None:
        self.problems = problems
        self.count = max(count, len(problems))
        self.passing = passing
        self.hidden = hidden
        super().__init__(self.line())

    def line(self) -> str:
        """The first problem, and how many more there are."""
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        return self.problems[0].line() + more


class Document(NamedTuple):
    """The merged content, the file each key came from, and the files it was read from."""

    content: dict[str, Any]
    origins: dict[tuple[str, ...], str]
    paths: list[str]

    def origin(self, *keys: str) -> str:
        """The file that a key, or the nearest table around it, came from."""
        while keys:
            if keys in self.origins:
                return self.origins[keys]
            keys = keys[:-1]
        return self.paths[0] if self.paths else SETTINGS


def key_path(*keys: str) -> str:
    """A key as one writes it in TOML: link.dsl.table, link."a b".table."""
    return ".".join(key if _BARE_KEY.fullmatch(key) else f'"{foreign(key)}"' for key in keys)


def watched() -> tuple[list[str], list[tuple[str, str]]]:
    """(files, (folder, ending of the names that count)): what may change the outcome of installed() and read().

    Of /etc/multihook itself only owner and mode count: no name in it ends like that.
    """
    return [SETTINGS], [(paths.ETC, "/"), (DROP_INS, ENDING)]


def installed() -> list[str]:
    """The files of the installed configuration in their order.  Raises Refused for a folder not to be believed."""
    _believe_folder(paths.ETC)
    names = _believe_folder(DROP_INS)
    return [SETTINGS, *(f"{DROP_INS}/{name}" for name in names)]


def read(names: list[str], trusted: bool = True) -> Document:
    """Read and merge files; a missing multihook.toml is an empty one.

    `trusted`: only root's files that no other user can write.  Raises Refused with a problem for
    each file that is wrong.
    """
    document = Document({}, {}, [])
    problems = []
    passing = False
    hidden = 0
    left = LIMIT
    for path in names:
        try:
            data = _bytes(path, trusted)
            left -= len(data)
            if left < 0:
                problems.append(Problem(path, "", "", f"the files have more than {LIMIT} bytes in all; shorten them"))
                break
            content = _parse(path, data)
        except FileNotFoundError as error:
            if trusted and path == SETTINGS and not lexists(path):
                continue
            problems.append(_unreadable(path, error))
        except OSError as error:
            problems.append(_unreadable(path, error))
            hidden += _is_hidden(error)
            passing = passing or not (isinstance(error, files.Untrusted) or error.errno in (EACCES, EPERM))
        except Refused as refused:
            problems += refused.problems
        else:
            document.paths.append(path)
            _merge(document, document.content, content, path, ())
    if problems:
        raise Refused(problems, passing=passing, hidden=hidden == len(problems))
    return document


def _believe_folder(path: str) -> list[str]:
    mode, owner, names = listing(path, ENDING)
    if mode < 0:
        error = OSError(-mode, strerror(-mode))
        if isinstance(error, FileNotFoundError):
            return []
        passing = not isinstance(error, (NotADirectoryError, PermissionError))
        raise Refused([_unreadable(path, error)], passing=passing, hidden=_is_hidden(error))
    if owner not in (0, geteuid()):
        raise Refused([Problem(path, "", "", f"belongs to user {owner}; chown root {path}")])
    if mode & 0o022:
        raise Refused([Problem(path, "", "", f"can be written by others than root; chmod go-w {path}")])
    return names


def _bytes(path: str, trusted: bool) -> bytes:
    if trusted:
        return files.read(path, LIMIT, follow=True)
    fd = os_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    if not S_ISREG(fstat(fd).st_mode):
        close(fd)
        raise files.Untrusted(EINVAL, "is not a plain file", path)
    with fdopen(fd, "rb") as file:
        return file.read(LIMIT + 1)


def _is_hidden(error: OSError) -> bool:
    """Whether root could read what we may not."""
    return isinstance(error, PermissionError) and geteuid() != 0


def _unreadable(path: str, error: OSError) -> Problem:
    why = error.strerror or ""
    if isinstance(error, files.Untrusted):
        return Problem(path, "", "", f"{why}; {_mend(why, foreign(path))}")
    hints = {
        FileNotFoundError: "the name leads to no file; put one there or take the name away",
        NotADirectoryError: "a folder belongs there",
        PermissionError: "root can read it: try sudo" if _is_hidden(error) else "look at its mode and folders",
    }
    return Problem(path, "", "", f"cannot be read: {why}; {hints.get(type(error), 'try again')}")


def _mend(why: str, name: str) -> str:
    """What to do about a file that files.read() does not believe."""
    if "belongs" in why:
        return f"chown root {name}"
    if "written" in why:
        return f"chmod go-w {name}"
    if "larger" in why:
        return "shorten it"
    return "put a plain file there, or take the name away"


def _parse(path: str, data: bytes) -> dict[str, Any]:
    """The content of one file.  A byte order mark and CRLF are what some editors write, and do no harm."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        what = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8 text"
        raise Refused([Problem(path, _end_position(before), "", what)]) from None
    text = text.removeprefix(_BYTE_ORDER_MARK).replace("\r\n", "\n")
    nul = text.find("\0")
    if nul >= 0:
        what = "a NUL character; the file is damaged or no text: write it anew"
        raise Refused([Problem(path, _end_position(text[:nul]), "", what)])
    deep = _DEEP_KEY.search(text)
    if deep:
        what = "a key in more levels than any key has; write [link.NAME] and key = value"
        raise Refused([Problem(path, _end_position(text[: deep.start()]), "", what)])
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        position, what = _syntax(str(error), text)
        raise Refused([Problem(path, position, "", what)]) from None
    except RecursionError:
        what = "lists or tables in more levels than any value has; flatten it"
        raise Refused([Problem(path, "", "", what)]) from None
    except ValueError:
        # int() refuses more digits than sys.get_int_max_str_digits(), and tomllib lets that through.
        number = _LONG_NUMBER.search(text)
        position = _end_position(text[: number.start()]) if number else ""
        what = "a number of more digits than any number here has; shorten it"
        raise Refused([Problem(path, position, "", what)]) from None


def _syntax(message: str, text: str) -> tuple[str, str]:
    """(line:column, what is wrong and what would be right) from what tomllib says."""
    match = _POSITION.fullmatch(message)
    what, line, column = match.groups() if match else (message, "", "")
    position = f"{line}:{column}" if line else _end_position(text)
    twice = _DECLARED_TWICE.fullmatch(what)
    if twice:
        keys = re.findall(r"'([^']*)'", twice[1])
        return position, f"[{key_path(*keys)}] is there twice; put its keys under one of the two"
    hint = next((hint for start, hint in _HINTS if what.startswith(start)), "see multihook.toml(5)")
    # It quotes what it does not like already.
    clean = what if what.isascii() and what.isprintable() and len(what) <= FOREIGN_BYTES else foreign(what)
    return position, f"{clean}; {hint}"


def _end_position(text: str) -> str:
    """line:column behind the end of a text, counted from 1."""
    return f"{text.count(chr(10)) + 1}:{len(text) - text.rfind(chr(10))}"


def _merge(document: Document, base: dict[str, Any], extra: dict[str, Any], path: str, above: tuple[str, ...]) -> None:
    for key, value in extra.items():
        here = (*above, key)
        if not isinstance(value, dict) or len(here) >= _DEPTH:
            base[key] = value
            document.origins[here] = path
            continue
        if not isinstance(base.get(key), dict):
            base[key] = {}
            document.origins[here] = path
        _merge(document, base[key], value, path, here)

"""Makes the image of the hot path's code (image): which modules are in it, in which part, and what is left out of them.

Left out is what a hook never reads: docstrings, line numbers, annotations, what is for the type
checker.  Functions that no ordinary event calls stand in a part of their own.
"""

from _ast import AnnAssign, Assign, ClassDef, FunctionDef, If, Module, Name, Pass, PyCF_ONLY_AST, arg
from fcntl import LOCK_EX, LOCK_NB, flock
from marshal import dumps
from posix import O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_RDONLY, close, stat
from posix import open as posix_open
from zlib import crc32

from multihook import image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

    from multihook.image import Entry

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
# Not every event needs these: the parts of the image behind the first.  One is read as a whole.
LATER = (
    ("kernel.sysctl", "features.sysctls"),
    ("kernel.nftables", "features.snat", "kernel.conntrack", "features.connections"),
    ("kernel.nft", "features.ruleset"), ("features.glftpd",), ("news",), ("sources.pppd",),
    ("sources.dhcp", "sources.dhclient", "sources.dhcpcd"), ("sources.ifupdown",),
)  # fmt: skip
_PART_SIZE = 24000
# Functions and methods that no ordinary event calls (a test holds it to this): for words, for what went wrong, for
# runs over everything, for a configuration that has changed.
SELDOM = {
    "address": "parse_network parse_netmask network_text",
    "files": "real sweep _take_after _check_folder explain untrusted",
    "repeats": "warn _load",
    "spool": "take",
    "kernel.rtnetlink": "Door.change_all",
    "kernel.interfaces": "vrf_tables dump",
    "kernel.routes": "Route.text _metrics_words has_default _next_hops dump_defaults",
    "kernel.rules": "Rule.text Rule._action_words _foreign_selectors Rule.mark Dump.all",
    "kernel.facts": "Facts.is_on_segment Facts.defaults name_of",
    "kernel.nftables": "Ruleset.outline Door.counters Element.text Door.delete_table _hook _comment",
    "config.compiled": (
        "compile _compile _finish _renew _look _is_young _read_last_good _write_cache _write_last_good "
        "Links.items Links.values"
    ),
    "config.tables": "number _settle allot take_over _write _write_for_now _lock watched others _entries _number",
    "leases": "load_all",
    "links": "found_by_default found_by_configuration found_by_rules _is_still_named",
    "features.routing": "commands clash",
    "features.snat": "commands stopped _text clash is_compared",
    "features.sysctls": "notes commands clash _presumed _names_in_rules _cannot",
    "features.connections": "commands clash _give_up",
    "engine": "_failure _file_failure commands brief",
    "front": "line shown tell keep rules_to_segments line_to_segments",
    "survey": (
        "of_everything _rematched _one_link_an_interface _claim _share_out _groups_in_rules _is_served_by_main"
    ),
    "run": "_words_without_event",
    "hook": "_leave _keep_for_later",
}


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
            if not image.is_current():
                files.replace(image.FILE, _content(), 0o600)
        finally:
            close(held)
    except (OSError, SyntaxError, ValueError):
        return  # read-only or full /run, or dpkg at work: the next run tries again


def _content() -> bytes:
    """The whole file, from the sources as they are; raises OSError, SyntaxError, ValueError."""
    index: dict[str, Entry] = {}
    seldom: dict[str, dict[str, bytes]] = {}
    codes: dict[str, CodeType] = {}
    for module in ("", *MODULES):
        name = f"multihook.{module}" if module else "multihook"
        entry = _entry(module)
        codes[name], apart = compiled(entry)
        seldom[name] = {of_it: dumps(piece) for of_it, piece in apart.items()}
        index[name] = entry
    later = [[f"multihook.{module}" for module in of_it] for of_it in LATER]
    first = _small_parts([name for name in codes if not any(name in part for part in later)], codes)
    for number, part in enumerate([*first, *later]):
        for name in part:
            index[name] = (*index[name][:3], number, *index[name][4:])
    parts: list[dict[str, Any]] = [{name: codes[name] for name in part} for part in [*first, *later]]
    parts.append({name: pieces for name, pieces in seldom.items() if pieces})
    return _put_together(index, [dumps(part) for part in parts], len(first))


def _small_parts(names: list[str], codes: "dict[str, CodeType]") -> list[list[str]]:
    """These modules, in their order, in parts of about _PART_SIZE bytes."""
    parts: list[list[str]] = []
    left = 0
    for name in names:
        size = len(dumps(codes[name]))
        if size > left:
            parts.append([])
            left = _PART_SIZE
        parts[-1].append(name)
        left -= size
    return parts


def _put_together(index: "dict[str, Entry]", bodies: list[bytes], number_of_first: int) -> bytes:
    """The file: the table of contents, which says where the parts begin, and the parts."""
    length = 0
    while True:  # its own length decides where they begin
        start, places = len(image.HEADER) + 2 * image.NUMBER_BYTES + length, []
        for body in bodies:
            places.append((start, len(body), crc32(body)))
            start += len(body)
        contents = dumps((index, places, number_of_first))
        if len(contents) == length:
            break
        length = len(contents)
    numbers = (number.to_bytes(image.NUMBER_BYTES, "big") for number in (length, crc32(contents)))
    return b"".join((image.HEADER, *numbers, contents, *bodies))


def _entry(module: str) -> "Entry":
    """What the table of contents says of a module; its part is not known yet."""
    package = __file__.rpartition("/")[0]
    path = f"{package}/{module.replace('.', '/')}".rstrip("/")
    is_package = not _is_file(f"{path}.py")
    path = f"{path}/__init__.py" if is_package else f"{path}.py"
    names = [name.rpartition(".")[::2] for name in SELDOM.get(module, "").split()]
    functions = tuple(own for owner, own in names if not owner)
    return path, image._stamp(path), is_package, 0, functions, tuple(pair for pair in names if pair[0])


def compiled(entry: "Entry") -> "tuple[CodeType, dict[str, CodeType]]":
    """A module's code without the functions that are to be read later, and the code of these."""
    path = entry[0]
    with open(path, "rb") as source:
        tree = compile(source.read(), path, "exec", PyCF_ONLY_AST, dont_inherit=True)
    _strip(tree)
    wanted = {*entry[4], *(f"{owner}.{own}" for owner, own in entry[5])}
    seldom = {name: _code(Module(body=[node], type_ignores=[]), path) for name, node in _taken_out(tree, wanted)}
    if seldom.keys() != wanted:
        raise ValueError(f"{path}: no {', '.join(wanted - seldom.keys())}")
    return _code(tree, path), seldom


def _taken_out(tree: "Any", wanted: set[str], owner: str = "") -> "list[tuple[str, Any]]":
    """Take these functions out of a module, and methods out of its classes; (name, definition) of each."""
    found, left = [], []
    for node in tree.body:
        name = f"{owner}{node.name}" if isinstance(node, FunctionDef | ClassDef) else ""
        if isinstance(node, FunctionDef) and name in wanted:
            found.append((name, node))
            continue
        if isinstance(node, ClassDef) and not owner:
            found += _taken_out(node, wanted, f"{name}.")
        left.append(node)
    tree.body = left
    return found


def _strip(node: "Any") -> None:
    """Take annotations and `if TYPE_CHECKING:` out of a tree."""
    for field in node._fields:
        value = getattr(node, field, None)
        if isinstance(value, list):
            value[:] = [_plain(one) for one in value if not _is_for_the_checker(one)]
            if field == "body" and not value:
                value.append(Pass(lineno=node.lineno, col_offset=0, end_lineno=node.lineno, end_col_offset=0))
            for one in value:
                if hasattr(one, "_fields"):
                    _strip(one)
        elif isinstance(node, FunctionDef | arg) and field in ("returns", "annotation"):
            setattr(node, field, None)
        elif hasattr(value, "_fields"):
            _strip(value)


def _is_for_the_checker(node: "Any") -> bool:
    if isinstance(node, If):
        return isinstance(node.test, Name) and node.test.id == "TYPE_CHECKING" and not node.orelse
    return isinstance(node, AnnAssign) and node.value is None


def _plain(node: "Any") -> "Any":
    """An assignment with an annotation as one without."""
    if not isinstance(node, AnnAssign) or node.value is None:
        return node
    place = {name: getattr(node, name) for name in ("lineno", "col_offset", "end_lineno", "end_col_offset")}
    return Assign(targets=[node.target], value=node.value, **place)


def _code(tree: "Any", path: str) -> "CodeType":
    return _without_lines(compile(tree, path, "exec", dont_inherit=True, optimize=2))


def _without_lines(code: "CodeType") -> "CodeType":
    """The same code without line numbers: no traceback is ever shown, and they are a quarter of the file."""
    consts = tuple(_without_lines(one) if hasattr(one, "co_linetable") else one for one in code.co_consts)
    return code.replace(co_linetable=b"", co_consts=consts)


def _is_file(path: str) -> bool:
    try:
        return stat(path).st_mode & 0o170000 == 0o100000
    except OSError:
        return False

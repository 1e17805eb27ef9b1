"""/etc/network/interfaces and /etc/ppp/peers: names in one that the other does not have, two default routes."""

import os.path
import re
from collections.abc import Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase

from multihook.checks import DEFEATS, WARNING, Finding
from multihook.checks.machine import Line, Machine, quoted
from multihook.journal import foreign

_FILE = "/etc/network/interfaces"
_PEERS = "/etc/ppp/peers"
_MOST_FILES = 200
# What source-directory takes (interfaces(5)).
_IN_FOLDER = re.compile(r"[a-zA-Z0-9_-]+(\.intf)?")
_STANZAS = ("auto", "iface", "mapping", "source", "source-directory", "rename", "no-auto-down", "no-scripts")


class Stanza:
    """One `iface NAME FAMILY METHOD` with its options, each with the line it stands in."""

    def __init__(self, line: Line, words: list[str]) -> None:
        self.line = line
        self.interface = words[1] if len(words) > 1 else ""
        self.family = words[2] if len(words) > 2 else ""
        self.method = words[3] if len(words) > 3 else ""
        self.options: dict[str, tuple[str, Line]] = {}


def stanzas(machine: Machine) -> list[Stanza]:
    """All stanzas of interfaces(5), those of sourced files included."""
    found: list[Stanza] = []
    _read(machine, _FILE, found, [])
    return found


def _read(machine: Machine, path: str, found: list[Stanza], seen: list[str]) -> None:
    if path in seen or len(seen) >= _MOST_FILES:
        return
    seen.append(path)
    current: Stanza | None = None
    for line in machine.lines(path):
        words = line.text.split()
        if words[0] in _STANZAS or words[0].startswith("allow-"):
            current = Stanza(line, words) if words[0] == "iface" else None
            if current:
                found.append(current)
            if words[0] in ("source", "source-directory"):
                for name in _sourced(machine, path, words[1:], whole_folder=words[0] == "source-directory"):
                    _read(machine, name, found, seen)
        elif current:
            current.options.setdefault(words[0], (" ".join(words[1:]), line))


def _sourced(machine: Machine, path: str, patterns: list[str], *, whole_folder: bool) -> list[str]:
    found = []
    for pattern in patterns:
        absolute = os.path.normpath(os.path.join(os.path.dirname(path), pattern))
        folder, name = (absolute, "*") if whole_folder else os.path.split(absolute)
        for entry in machine.names(folder):
            if fnmatchcase(entry, name) and (not whole_folder or _IN_FOLDER.fullmatch(entry)):
                found.append(f"{folder}/{entry}")
    return found


def providers(machine: Machine) -> Iterator[Finding]:
    """`provider X` without /etc/ppp/peers/X: ifup calls pppd with a name that there is not."""
    wanted = [one for one in stanzas(machine) if one.method == "ppp"]
    if not wanted:
        return
    peers = machine.names(_PEERS)
    if any(blind.what == _PEERS for blind in machine.blind):
        return
    named = [stanza.options.get("provider", ("provider", stanza.line)) for stanza in wanted]
    # A file that another stanza names is not the one that was meant.
    spare = [peer for peer in peers if peer not in (name for name, _ in named)]
    for stanza, (name, line) in zip(wanted, named, strict=True):
        if not name or name in peers:
            continue
        near = get_close_matches(name, spare, 1, 0.5)
        old, new = (quoted(f"{_PEERS}/{one}") for one in (near[0] if near else "", name))
        mend = [f"mv -- {old} {new}    # if that is meant"] if near else []
        shown = ", ".join(map(foreign, peers[:8])) or "nothing"
        yield Finding(
            DEFEATS, "provider", f"{line.place}: provider {foreign(name)}, and there is no {new}",
            f"pppd does not start for {foreign(stanza.interface)}. In {_PEERS}: {shown}.",
            (*mend, f"# or in {line.place}:", f"provider {near[0] if near else 'NAME-OF-A-FILE'}"),
        )  # fmt: skip


def names_of_lines(machine: Machine) -> Iterator[Finding]:
    """[link.*] with an ipparam or linkname that no file of pppd says, and no session said."""
    wanted = [
        (name, key, link[key]) for name, link in machine.config["links"].items()
        for key in ("ipparam", "linkname") if link[key]
    ]  # fmt: skip
    if not wanted:
        return
    said = _said_by_pppd(machine)
    if any(blind.what.startswith("/etc/ppp/") for blind in machine.blind):
        return
    for name, key, value in wanted:
        link = next((one for one in machine.links if one.name == name), None)
        leases = [path.lease for path in link.paths.values()] if link else []
        if value in said[key] or any(getattr(lease, key) == value for lease in leases):
            continue
        others = sorted(said[key])
        near = get_close_matches(value, others, 1, 0.5)
        ours = f"# in /etc/multihook/multihook.toml under [link.{name}]:"
        mend = [ours, f'{key} = "{foreign(near[0])}"'] if near else []
        yield Finding(
            WARNING, key, f'link {name} waits for {key} "{foreign(value)}", which no file in {_PEERS} says',
            "Its line comes up as another link, or as none. "
            + (f"They say: {', '.join(map(foreign, others[:8]))}." if others else f"None says any {key}."),
            (*mend, f"# {'or ' if mend else ''}a line in the line's own file in {_PEERS}:", f"{key} {foreign(value)}"),
        )  # fmt: skip


def _said_by_pppd(machine: Machine) -> dict[str, set[str]]:
    """{option: its values} in all files that pppd reads its options from."""
    files = [f"{_PEERS}/{name}" for name in machine.names(_PEERS)[:_MOST_FILES]]
    files += [f"/etc/ppp/{name}" for name in machine.names("/etc/ppp") if name.startswith("options")]
    said: dict[str, set[str]] = {"ipparam": set(), "linkname": set()}
    for path in files:
        if not machine.is_folder(path):
            for line in machine.lines(path):
                words = re.findall(r'"[^"]*"|\'[^\']*\'|\S+', line.text)
                for option, value in zip(words, words[1:], strict=False):
                    if option in said:
                        said[option].add(value.strip("\"'"))
    return said


def two_gateways(machine: Machine) -> Iterator[Finding]:
    """Two stanzas with `gateway` and the same metric: ifup of the second one fails."""
    first: dict[str, Stanza] = {}
    for stanza in stanzas(machine):
        if stanza.family != "inet" or "gateway" not in stanza.options:
            continue
        metric = stanza.options.get("metric", ("0", stanza.line))[0]
        other = first.setdefault(metric, stanza)
        if other.interface != stanza.interface:
            _, line = stanza.options["gateway"]
            yield Finding(
                WARNING, "two-gateways",
                f"{line.place}: {foreign(stanza.interface)} has a gateway with the same metric as that of "
                f"{foreign(other.interface)}",
                "Main takes one default route of each metric: ifup of the second one fails.",
                (f"# in {line.place}, below gateway:", "metric 100"),
            )  # fmt: skip


CHECKS = (providers, names_of_lines, two_gateways)

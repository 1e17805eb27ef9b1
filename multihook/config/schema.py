"""The configuration as a whole: each value is checked (values), and then what concerns two keys or two links."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from posixpath import normpath
from typing import Any

from multihook import address
from multihook.config import tables
from multihook.config.toml import Document, Problem, Refused, key_path
from multihook.config.values import (
    GLFTPD_KEYS,
    KEYS,
    LINK_KEYS,
    RULES,
    Checker,
    Prefix,
    Wrong,
    shown,
)
from multihook.journal import foreign

# What everybody gets, made of what marshal(3py) can carry:
#   adopt .. group           the keys of [multihook]
#   links                    {name: {name, the keys of [link.NAME]}} in the order of the files, where
#                            gateway is packed (empty: none), sources and networks are [(packed, length)]
#   allotted                 names of the links that name no table, whose numbers are ours to choose
#   by_interface, by_ipparam, by_linkname   {value: name of the link}
#   snat                     whether any link translates
#   glftpd                   the keys of [glftpd], or None
#   used_tables              {number: who has it}: never allotted
#   used_names               table names that other files of iproute2 define
#   digest                   identity of this configuration
#   error                    what is wrong with the newest files; the rest is then the last good configuration
#   usable                   False: there is no good configuration, leave the kernel alone
#   hidden                   there where the user who asks may not read the files (see compiled.load), never for root
Config = dict[str, Any]
Link = dict[str, Any]

# How many problems are kept; the rest is counted.
LIMIT = 20

# Rule priorities and mark bits of others (where they run): said, not refused.
_FOREIGN_RULES = (
    (220, 220, "strongSwan's rule"),
    (1000, 1000, "the kernel's rule for VRFs"),
    (5210, 5270, "Tailscale's rules"),
)
_FOREIGN_MARKS = ((0x00FF0000, "Tailscale"), (0x0000C000, "Kubernetes"))


def build(document: Document, others: "tables.Others", forgive: bool = False) -> tuple[Config, list[str]]:
    """The configuration that a document means, and notes on what is allowed but looks like a mistake.

    Links that name no table have 0 there.  `forgive` lets names and numbers pass that others use by
    now.  Raises Refused with all problems.
    """
    return _Check(document, others, forgive).run()


TABLES = ("multihook", "link", "glftpd")
_SELECTORS = ("interface", "ipparam", "linkname")


class _Check:
    """One document on its way to a configuration: collects all problems before it gives up."""

    def __init__(self, document: Document, others: "tables.Others", forgive: bool) -> None:
        self.document = document
        self.used_tables, self.used_names, self.used_protocols, self.pairs = others
        self.forgive = forgive
        self.problems: list[Problem] = []
        self.count = 0
        self.notes: list[str] = []

    def run(self) -> tuple[Config, list[str]]:
        """Check everything.  Raises Refused."""
        content = self.document.content
        for key in content:
            if key not in TABLES:
                self.refuse((key,), self.unknown_table(key))
        settings = self.values((), "multihook", KEYS)
        links = self.links()
        glftpd = self.values((), "glftpd", GLFTPD_KEYS) if "glftpd" in content else None
        if glftpd and normpath(glftpd["config"]) == normpath(glftpd["multilink"]):
            what = "is the file that includes it; name another, such as /etc/multilink.conf"
            self.refuse(("glftpd", "multilink"), what)
        self.compare_links(links)
        if not self.forgive:
            self.compare_with_others(settings, links)
        self.compare_with_ignored(settings, links)
        if self.count:
            raise Refused(self.problems, self.count)
        self.look_twice(settings, links)
        config: Config = {
            "digest": "",
            **settings,
            "links": links,
            "allotted": [name for name, link in links.items() if not link["table"]],
            "by_interface": _names_by(links, "interface"),
            "by_ipparam": _names_by(links, "ipparam"),
            "by_linkname": _names_by(links, "linkname"),
            "snat": any(link["snat"] for link in links.values()),
            "glftpd": glftpd,
            "used_tables": {**tables.AVOIDED, **self.used_tables, **tables.RESERVED},
            "used_names": sorted(self.used_names),
            "error": "",
            "usable": True,
        }
        return config, self.notes

    def refuse(self, keys: tuple[str, ...], what: str) -> None:
        """Take down one problem; beyond LIMIT it is only counted."""
        self.count += 1
        if len(self.problems) < LIMIT:
            self.problems.append(Problem(self.document.origin(*keys), "", key_path(*keys), what))

    def note(self, keys: tuple[str, ...], what: str) -> None:
        """Take down what is allowed but looks like a mistake."""
        if len(self.notes) < LIMIT:
            self.notes.append(Problem(self.document.origin(*keys), "", key_path(*keys), what).line())

    # One table at a time.

    def values(self, above: tuple[str, ...], name: str, keys: dict[str, tuple[Any, Checker]]) -> dict[str, Any]:
        """The values of one table, the default where a key is missing or refused."""
        here = (*above, name)
        table = self.document.content
        for key in above:
            table = table[key]
        content = table.get(name, {})
        values = {key: list(default) if isinstance(default, list) else default for key, (default, _) in keys.items()}
        if not isinstance(content, dict):
            self.refuse(here, f"{shown(content)} is no table; write [{key_path(*here)}] and its keys below")
            return values
        for key, value in content.items():
            if key not in keys:
                self.refuse((*here, key), self.unknown_key(key, keys))
                continue
            try:
                values[key] = keys[key][1](value)
            except Wrong as wrong:
                self.refuse((*here, key), str(wrong))
        return values

    def links(self) -> dict[str, Link]:
        """All links by name, wrong ones included."""
        content = self.document.content.get("link", {})
        if not isinstance(content, dict):
            self.refuse(("link",), f"{shown(content)} is no table; write [link.NAME] for each link")
            return {}
        links: dict[str, Link] = {}
        for name, table in content.items():
            if name in LINK_KEYS and not isinstance(table, dict):
                self.refuse(("link", name), "a key where a link's name belongs; write it under [link.NAME]")
                continue
            if not address.is_link_name(name):
                self.refuse(("link", name), self.wrong_name(name))
            values = self.values(("link",), name, LINK_KEYS)
            self.check_selectors(name, table)
            links[name] = {"name": name, **values}
        return links

    def check_selectors(self, name: str, table: Any) -> None:
        """A link says in exactly one way which line it is."""
        if not isinstance(table, dict):
            return
        given = [key for key in _SELECTORS if key in table]
        if not given:
            what = 'names no line; add interface = "ppp0", or ipparam or linkname as pppd has them'
            self.refuse(("link", name), what)
        elif len(given) > 1:
            files = {self.document.origin("link", name, key) for key in given}
            where = f" ({' and '.join(sorted(foreign(path) for path in files))})" if len(files) > 1 else ""
            self.refuse(("link", name, given[1]), f"{' and '.join(given)} are both there{where}; keep one of them")

    def wrong_name(self, name: str) -> str:
        """Why a link cannot be called so."""
        if name in address.RESERVED_LINK_NAMES:
            return f"{name} is a word that ip(8) reads as something else; choose another name, such as dsl"
        lower = name.lower()
        better = f": {lower}" if address.is_link_name(lower) else ", such as dsl"
        return f"no name for a link; write at most 16 of a-z 0-9 _ -, the first of them a letter{better}"

    def unknown_table(self, key: str) -> str:
        """Why there is no such thing at the top."""
        if key in KEYS:
            return "unknown here; it belongs under [multihook]"
        if key in LINK_KEYS:
            return "unknown here; it belongs under [link.NAME]"
        if isinstance(self.document.content[key], dict):
            return f"unknown table; {self.choice(key, TABLES)}"
        return "unknown key; keys stand under one of [multihook], [link.NAME], [glftpd]"

    def unknown_key(self, key: str, keys: dict[str, Any]) -> str:
        """What may have been meant."""
        return f"unknown key; {self.choice(key, keys)}"

    def choice(self, word: str, words: "dict[str, Any] | tuple[str, ...]") -> str:
        """The nearest of the known words, or all of them."""
        if len(self.problems) < LIMIT:
            near = get_close_matches(word[:100].lower().replace("-", "_"), words, 1)
            if near:
                return f"did you mean {near[0]}?"
        return f"known are {', '.join(words)}"

    # Two keys, or two links, or another program.

    def compare_links(self, links: dict[str, Link]) -> None:
        """What belongs to one link only."""
        first: dict[tuple[str, Any], str] = {}
        for name, link in links.items():
            for key in (*_SELECTORS, "table"):
                value = link[key]
                if not value:
                    continue
                owner = first.setdefault((key, value), name)
                if owner != name:
                    mend = "choose another number" if key == "table" else "one line is one link: drop one of the two"
                    self.refuse(("link", name, key), f"{shown(value)} is link {owner}'s already; {mend}")
        for name, one, owner, other in _overlaps(links):
            what = f"{address.network_text(*one)} and {address.network_text(*other)} of link {owner} overlap"
            self.refuse(("link", name, "sources"), f"{what}; an address belongs to one link: take it out of one")

    def compare_with_others(self, settings: dict[str, Any], links: dict[str, Link]) -> None:
        """Names and numbers that the files of iproute2 give to others."""
        lines: dict[int | str, set[tuple[int, str]]] = {}
        for pair in self.pairs:
            for end in pair:
                lines.setdefault(end, set()).add(pair)
        for name, link in links.items():
            # "200 dsl" in the administrator's own rt_tables says the same as we do; HOWTOs begin with such a line.
            own = (link["table"], name)
            if lines.get(own[0], set()) | lines.get(own[1], set()) == {own}:
                continue
            if name in self.used_names:
                where = foreign(self.used_names[name])
                self.refuse(("link", name), f"the name is taken by {where}; rename the link or remove that line")
            who = self.used_tables.get(link["table"])
            if who and link["table"]:
                what = f"{link['table']} is {foreign(who)}; choose another number or remove that line"
                self.refuse(("link", name, "table"), what)
        who = self.used_protocols.get(settings["rt_proto"])
        if who:
            what = f"{settings['rt_proto']} is {foreign(who)}; choose another of 5..255 or remove that line"
            self.refuse(("multihook", "rt_proto"), what)

    def compare_with_ignored(self, settings: dict[str, Any], links: dict[str, Link]) -> None:
        """A link on an interface that is never to be touched."""
        for name, link in links.items():
            for pattern in settings["ignore"]:
                if link["interface"] and fnmatchcase(link["interface"], pattern):
                    what = f'"{link["interface"]}" is in multihook.ignore ("{pattern}"); take it out of one of the two'
                    self.refuse(("link", name, "interface"), what)

    def look_twice(self, settings: dict[str, Any], links: dict[str, Link]) -> None:
        """What is allowed and may still not be meant."""
        base = settings["rule_base"]
        for low, high, who in _FOREIGN_RULES:
            if base <= high and low < base + RULES:
                self.note(("multihook", "rule_base"), f"{base}..{base + RULES - 1} has {who} in it, where that runs")
        for bits, who in _FOREIGN_MARKS:
            if settings["mark_mask"] & bits:
                what = f"{settings['mark_mask']:#010x} has bits of {who}'s ({bits:#010x}), where that runs"
                self.note(("multihook", "mark_mask"), what)
        by_word = next((name for name, link in links.items() if link["ipparam"] or link["linkname"]), "")
        for name, link in links.items():
            if link["table"] in tables.AVOIDED:
                what = f"{link['table']} is {tables.AVOIDED[link['table']]}, where that runs"
                self.note(("link", name, "table"), what)
            if by_word and re.fullmatch(r"ppp[0-9]+", link["interface"]):
                what = f"link {by_word} may come up as {link['interface']} too; ipparam for both settles it"
                self.note(("link", name, "interface"), what)


def _names_by(links: dict[str, Link], key: str) -> dict[str, str]:
    return {link[key]: name for name, link in links.items() if link[key]}


def _overlaps(links: dict[str, Link]) -> Iterator[tuple[str, Prefix, str, Prefix]]:
    """(link, prefix, other link, its prefix) for sources of two links that share an address.

    Prefixes either lie apart or one in the other: sorted by where they begin, the wider one first,
    only those around the last one matter.
    """
    entries = [(*prefix, name) for name, link in links.items() for prefix in link["sources"]]
    around: list[tuple[Prefix, str]] = []
    for network, length, name in sorted(entries):
        while around and not address.in_network(network, *around[-1][0]):
            around.pop()
        for prefix, owner in around:
            if owner != name:
                yield name, (network, length), owner, prefix
                break
        around.append(((network, length), name))

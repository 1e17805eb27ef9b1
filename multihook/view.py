"""What a run knows while it works: the facts, what kinds have read of the kernel and of files, and the report."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from multihook.kernel.facts import Facts
    from multihook.kernel.rtnetlink import Door
    from multihook.links import Link

    # A table's number, an interface's name, the network of a source, ("to", address) for a DHCP server.
    Place = int | str | bytes | tuple[str, bytes]


class Report:
    """What a run has to say beside what it changed.

    remarks   lines for the log
    unable    by kind, why it can do nothing on this machine: a line for the log and for `status`
    unsaved   the first error of a kind that could not write its state
    done      what a kind has done or tried, and does not do again in this run
    """

    __slots__ = ("done", "remarks", "unable", "unsaved")

    def __init__(self) -> None:
        self.remarks: list[str] = []
        self.unable: dict[str, str] = {}
        self.unsaved: OSError | None = None
        self.done: set[object] = set()


class View:
    """All that features and kinds may look at.

    The facts, which the survey has found and nothing changes:
    config      the configuration
    door        the way to the kernel
    facts       what the kernel says of interfaces, addresses and main's routes
    links       the links to be kept right, in the order of the configuration; an event's run has its own only
    whole       whether this run looks at everything of ours
    several     whether this machine has two links or more
    former      by link, addresses that it had: their rules may still stand
    servers     by link, DHCP servers likewise
    departed    by address that no interface has any more, the link that had it before this run, or before one
                that could do nothing about its connections
    others      by place, links that are not to be kept right (any more)
    protocols   our protocol number, and that of the configuration before it; `groups` likewise

    read        what kinds have read, under keys of their own; emptied when something was changed
    report      see Report
    """

    __slots__ = (
        "_find", "_owners", "config", "departed", "door", "facts", "former", "groups", "links", "others", "protocols",
        "read", "report", "servers", "several", "whole",
    )  # fmt: skip

    def __init__(
        self,
        config: "dict[str, Any]",
        door: "Door",
        facts: "Facts",
        links: "list[Link]",
        *,
        whole: bool,
        several: bool,
        former: "dict[str, list[bytes]]",
        servers: "dict[str, list[bytes]]",
        departed: "dict[bytes, str]",
        others: "dict[int | str, str]",
        protocols: "frozenset[int]",
        groups: "frozenset[int]",
        find: "Callable[[str], Link | None]",
    ) -> None:
        self.config = config
        self.door = door
        self.facts = facts
        self.links = links
        self.whole = whole
        self.several = several
        self.former = former
        self.servers = servers
        self.departed = departed
        self.others = others
        self.protocols = protocols
        self.groups = groups
        self.read: dict[object, Any] = {}
        self.report = Report()
        self._find = find
        self._owners: dict[Any, str] | None = None

    def of_links(self, names: set[str]) -> "View":
        """The same for these links alone, as an event's run has it; the report is one."""
        links = [link for link in self.links if link.name in names]
        view = View(
            self.config, self.door, self.facts, links, whole=False, several=self.several,
            former={name: known for name, known in self.former.items() if name in names},
            servers={name: known for name, known in self.servers.items() if name in names},
            departed=self.departed, others=self.others, protocols=self.protocols, groups=self.groups, find=self.link,
        )  # fmt: skip
        view.report = self.report
        return view

    def link(self, name: str) -> "Link | None":
        """A link by its name, also one that this run is not about; None where there is none."""
        return next((link for link in self.links if link.name == name), None) or self._find(name)

    def owner(self, place: "Place") -> str:
        """The link that a place belongs to, or ""; asked for each object, so it looks nothing through."""
        if self._owners is None:
            self._owners = self._places()
        return self._owners.get(place, "")

    def _places(self) -> "dict[Any, str]":
        places: dict[Any, str] = dict(self.others)
        # Of two that claim a place the first one has it.
        for name, addresses in reversed(self.former.items()):
            places.update((address, name) for address in addresses)
        for link in reversed(self.links):
            places.update((network, link.name) for network, _ in link.sources)
            places[link.table] = places[link.interface_name] = link.name
        for name, addresses in reversed(self.servers.items()):
            places.update((("to", address), name) for address in addresses)
        return places

"""The features: one module for each kind of thing that is kept right, and their contract.

A feature is a module with
    NAME                       the word for it in logs and in `status`
    desired(view)              the objects that should be there; pure: the same view, the same objects
    actual(view)               the objects of ours that are there
    add(view, new)             make one object; raises kernel.rtnetlink.Refused or OSError
    change(view, old, new)     put new in old's place in one step; raises the same
    remove(view, old)          take one object away; raises the same
    commands(view, step)       the same step as commands that can be pasted into a shell
    place(view, thing)         its stage in the order below, the noun it is counted by in the
                               log, and the link it belongs to (or "")
    clash(thing)               what to do where a foreign object is in its place
    rearranged(steps)          where a feature has it: all steps of a whole run in an order that is
                               safe where that of the stages is not
    signature(view, thorough)  how many objects of ours there are, or a digest of them, cheap to
                               get; thorough, one by one for each "table T" and "group IF".
                               What view.certified says and nobody can have changed, or this
                               run has compared before (view.own), is not looked at again
    remarks(view)              where a feature has them: one line for each thing that it leaves
                               undone, and why; for the log of a run and for `status`
An object has `key` (what makes it the same object) and `==` (nothing to change).  One that stands
for several things, or for none that anybody need know of, says so in `size`.

What is missing is made in the order of the stages, what is too much is taken away in the
opposite order: guards are the first to come and the last to go, look-ups the other way round.
So at any instant in between a packet finds its right way, or none, never a wrong one.
"""

from posix import access

from multihook.paths import CONNECTIONS

GUARD, ROUTE, NETWORK, GROUP, EXCEPTION, LOOKUP, SETTING, FILE = range(8)

# In a signature: not of ours, but what tells whether anybody has changed anything in nf_tables.
GENERATION = "nft generation"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from multihook.kernel.facts import Facts
    from multihook.kernel.rtnetlink import Door
    from multihook.links import Link

    class Feature(Protocol):
        """What a feature module gives; see the module's docstring."""

        NAME: str

        def desired(self, view: "View") -> "list[Any]": ...
        def actual(self, view: "View") -> "list[Any]": ...
        def add(self, view: "View", new: "Any") -> None: ...
        def change(self, view: "View", old: "Any", new: "Any") -> None: ...
        def remove(self, view: "View", old: "Any") -> None: ...
        def commands(self, view: "View", step: "Step") -> "list[str]": ...
        def place(self, view: "View", thing: "Any") -> "tuple[int, str, str]": ...
        def clash(self, thing: "Any") -> str: ...
        def signature(self, view: "View", thorough: bool) -> dict[str, int]: ...


class View:
    """All that a feature may look at.

    links        the links to be kept right, in the order of the configuration
    whole        everything of ours is looked at; else only what belongs to `links` (an event's run)
    several      whether this machine has two links or more
    former       by link, addresses whose rules may still stand
    servers      by link, DHCP servers likewise
    owners       by table and by interface, links that are not to be kept right (any more)
    memo         what a feature read already; emptied when something was changed
    done         what a feature did or tried already, and does not do again in this run
    unable       by feature, why it can do nothing on this machine: a line for the log and `status`
    remarks      further lines for the log
    certified    the signature when the last run was done, {} where none is known
    own          once an event's run has compared that: what in it belongs to its links, and may
                 have changed since; None before, and in a run over everything
    compared     what a feature keeps of that comparison
    unsaved      the first error of a feature that could not write its state
    lost         by link, the address that it had before this run and has no more
    protocols    our protocol number, and that of the configuration before it; groups likewise
    """

    __slots__ = (
        "certified", "compared", "config", "done", "door", "facts", "former", "groups", "links", "lost", "memo", "own",
        "owners", "protocols", "remarks", "servers", "several", "unable", "unsaved", "whole",
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
        owners: "dict[int | str, str]",
        protocols: "frozenset[int]",
        groups: "frozenset[int]",
        lost: "dict[str, bytes] | None" = None,
    ) -> None:
        self.config = config
        self.door = door
        self.facts = facts
        self.links = links
        self.whole = whole
        self.several = several
        self.former = former
        self.servers = servers
        self.owners = owners
        self.protocols = protocols
        self.groups = groups
        self.lost = lost or {}
        self.memo: dict[object, Any] = {}
        self.done: set[object] = set()
        self.unable: dict[str, str] = {}
        self.remarks: list[str] = []
        self.certified: dict[str, int] = {}
        self.own: set[str] | None = None
        self.compared: dict[str, Any] = {}
        self.unsaved: OSError | None = None

    def owner(self, table_or_interface: "int | str") -> str:
        """The link that has a table or an interface, or ""; asked for each object, so it looks nothing through."""
        known: dict[int | str, str] | None = self.memo.get("owners")
        if known is None:
            known = self.memo["owners"] = dict(self.owners)
            # Of two that claim an interface the first one, as for the features.
            for link in reversed(self.links):
                known[link.table] = known[link.interface_name] = link.name
        return known.get(table_or_interface, "")


class Step:
    """One difference between what should be and what is: old is None to add, new is None to remove."""

    __slots__ = ("feature", "new", "old")

    def __init__(self, feature: "Feature", old: "Any", new: "Any") -> None:
        self.feature = feature
        self.old = old
        self.new = new

    @property
    def object(self) -> "Any":
        """The object it is about."""
        return self.old if self.new is None else self.new


def visible(view: View) -> "list[Feature]":
    """The features that this run has to look at.  A new one is one module and its lines here.

    A run over everything looks at all of them: what the configuration does not ask for any more
    is taken away then.  An event's run leaves out what nobody asked for, its import included.
    """
    from multihook.features import routing

    found: list[Feature] = [routing]
    if view.whole or view.config["snat"]:
        from multihook.features import snat

        found.insert(0, snat)
    if view.whole or view.config["links"]:
        from multihook.features import sysctls

        found.append(sysctls)
    if view.whole or view.lost or access(CONNECTIONS, 0):
        from multihook.features import connections

        found.append(connections)
    if view.whole or view.config["glftpd"]:
        from multihook.features import glftpd

        found.append(glftpd)
    return found

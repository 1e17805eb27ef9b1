"""What a kind of object can do, and the order in which the engine has objects made and taken away.

A kind knows one sort of object: how to read it, make it, change it, take it away, order it and
word it.  The kinds are rules, routes, group members, our nft table, sysctls, connection-tracking
entries (all in kernel/) and marked blocks in files (blocks).  A kind decides nothing: features say
which objects should be there.

An object has
    kind    the kind that handles it
    key     what makes it the same object: the kernel, or a file, holds one object of a key
    ==      whether there is nothing to change
    stage   its place in the order below
    noun    the word by which the log counts it
    link    the name of its link; MACHINE for what belongs to no single link; "" for what is left over
    size    how many things it stands for in the log; 0 for what the log leaves out

What is missing is made in the order of the stages, what is too much is taken away in the
opposite order: guards come first and go last, look-ups the other way round.  So at any instant in
between a packet finds its right way, or none, never a wrong one.
"""

GUARD, ROUTE, NETWORK, GROUP, EXCEPTION, LOOKUP, SETTING, FILE = range(8)

# The link of an object that belongs to the machine: an event of one link leaves it alone.
MACHINE = "all links"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from multihook.view import View

    # An object as described above.
    Object = Any


class Step:
    """One difference between what should be and what is: old is None to add, new is None to remove."""

    __slots__ = ("new", "old")

    def __init__(self, old: "Object", new: "Object") -> None:
        self.old = old
        self.new = new

    @property
    def object(self) -> "Object":
        """The object it is about."""
        return self.old if self.new is None else self.new


class Kind:
    """What the engine asks of a kind; each kind is one instance of a class of its own.

    A run over everything (`view.whole`) reads all objects of ours.  An event's run reads those of
    the view's links, and those in a place (a table, a set's key) that a wanted object names.
    """

    NAME = ""

    def possible(self, view: "View", wanted: "list[Object]") -> "list[Object]":
        """The objects to compare, made of those that features want: without what this machine cannot have."""
        return wanted

    def read(self, view: "View", wanted: "list[Object]") -> "list[Object]":
        """The objects of ours that are there; raises kernel.rtnetlink.Refused and OSError."""
        raise NotImplementedError

    def add(self, view: "View", new: "Object") -> None:
        """Make one object; raises Refused (EEXIST where a foreign object stands in its place) or OSError."""
        raise NotImplementedError

    def change(self, view: "View", old: "Object", new: "Object") -> None:
        """Put new in old's place in one step; raises the same."""
        self.add(view, new)

    def remove(self, view: "View", old: "Object") -> None:
        """Take one object away; raises the same, also where it is gone already (the engine takes that for removed)."""
        raise NotImplementedError

    def commands(self, view: "View", step: Step) -> list[str]:
        """The step as commands that can be pasted into a shell."""
        raise NotImplementedError

    def clash(self, thing: "Object") -> str:
        """What to do where a foreign object stands in the place of ours."""
        return "another program's object is in its place"

    def arranged(self, steps: list[Step]) -> list[Step]:
        """All steps of a run over everything, in an order that is safe where that of the stages is not."""
        return steps

    def signature(self, view: "View", wanted: "list[Object]", thorough: bool) -> dict[str, int]:
        """How many objects of ours there are, or a digest of them, cheap to get.

        A number whose name has a blank ("table 200") is there only where it is thorough.
        """
        return {}

    def of_links(self, there: "list[Object]", names: set[str]) -> "list[Object]":
        """What an event's run of these links would have read of what was read."""
        return [thing for thing in there if thing.link in names]

    def tally(self, view: "View", there: "list[Object]") -> dict[str, int]:
        """What objects that were read add to the thorough signature; numbers of one name add up."""
        return {}

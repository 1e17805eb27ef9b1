"""Interfaces in rtnetlink (struct ifinfomsg, linux/if_link.h), and the kind of their places in our group."""

from _socket import if_indextoname
from _struct import Struct

from multihook.kernel.rtnetlink import (
    GETLINK,
    NEWLINK,
    SENSELESS,
    U32,
    Door,
    Refused,
    attribute,
    attributes,
    senseless,
    u32,
)
from multihook.kind import GROUP, Kind, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multihook.kind import Object
    from multihook.view import View

_HEADER = Struct("=BxHiII")
_IFNAME, _GROUP, _EXT_MASK = 3, 27, 29
_SKIP_STATS = 1 << 3
_LINKINFO, _INFO_KIND, _INFO_DATA, _VRF_TABLE = 18, 1, 2, 1

UP = 0x1
LOOPBACK = 0x8
POINTOPOINT = 0x10
NOARP = 0x80
LOWER_UP = 0x10000

# Where every new interface is.
GROUPLESS = 0


class Interface:
    """One interface of the kernel as it is now."""

    __slots__ = ("flags", "group", "index", "name")

    def __init__(self, index: int, name: str, flags: int, group: int) -> None:
        self.index = index
        self.name = name
        self.flags = flags
        self.group = group

    @property
    def is_up(self) -> bool:
        """Whether it is set up (IFF_UP)."""
        return bool(self.flags & UP)

    @property
    def has_carrier(self) -> bool:
        """Whether the cable is in (IFF_LOWER_UP)."""
        return bool(self.flags & LOWER_UP)

    @property
    def is_point_to_point(self) -> bool:
        """Whether it needs no next hop (IFF_POINTOPOINT)."""
        return bool(self.flags & POINTOPOINT)

    @property
    def speaks_arp(self) -> bool:
        """Whether others on its segment ask it for the MAC of an address (Ethernet and the like)."""
        return not self.flags & (LOOPBACK | POINTOPOINT | NOARP)


def _parse(message: bytes) -> Interface:
    try:
        _, _, index, flags, _ = _HEADER.unpack_from(message)
        found = attributes(message, _HEADER.size)
        name = found.get(_IFNAME, b"").rstrip(b"\0").decode("utf-8", "surrogateescape")
        group = U32.unpack(found[_GROUP])[0] if _GROUP in found else 0
    except SENSELESS:
        raise senseless("an interface") from None
    if index <= 0:
        raise senseless("an interface")
    return Interface(index, name, flags, group)


def get(door: Door, name: str) -> Interface | None:
    """The interface of this name, or None."""
    body = _HEADER.pack(0, 0, 0, 0, 0) + u32(_EXT_MASK, _SKIP_STATS) + attribute(_IFNAME, name.encode() + b"\0")
    try:
        message = door.get(GETLINK, body)
    except Refused:
        return None
    return _parse(message)


def at(door: Door, index: int) -> Interface | None:
    """The interface of this index, or None."""
    try:
        message = door.get(GETLINK, _HEADER.pack(0, 0, index, 0, 0) + u32(_EXT_MASK, _SKIP_STATS))
    except Refused:
        return None
    return _parse(message)


def dump(door: Door) -> list[Interface]:
    """All interfaces of this network namespace."""
    body = _HEADER.pack(0, 0, 0, 0, 0) + u32(_EXT_MASK, _SKIP_STATS)
    found = []
    known = door.known(GETLINK)
    for message in door.dump(GETLINK, body):
        if message not in known:
            known[message] = _parse(message)
        found.append(known[message])
    return found


def names_in_group(door: Door, group: int) -> list[str]:
    """The names of the interfaces in a group."""
    body = _HEADER.pack(0, 0, 0, 0, 0) + u32(_EXT_MASK, _SKIP_STATS)
    found = map(_parse, door.dump(GETLINK, body).having(u32(_GROUP, group)))
    return [interface.name for interface in found if interface.group == group]


def vrf_tables(door: Door) -> list[int]:
    """The routing tables of all VRF devices (IFLA_VRF_TABLE, drivers/net/vrf.c)."""
    found = []
    for message in door.dump(GETLINK, _HEADER.pack(0, 0, 0, 0, 0) + u32(_EXT_MASK, _SKIP_STATS)):
        info = attributes(attributes(message, _HEADER.size).get(_LINKINFO, b""), 0)
        if info.get(_INFO_KIND, b"").rstrip(b"\0") == b"vrf":
            table = attributes(info.get(_INFO_DATA, b""), 0).get(_VRF_TABLE)
            if table and len(table) == U32.size:
                found.append(int(U32.unpack(table)[0]))
    return found


def name_of(index: int) -> str:
    """The name of an interface by its index, or "if7" when it has gone meanwhile."""
    try:
        return if_indextoname(index)
    except OSError:
        return f"if{index}"


def set_group(door: Door, index: int, group: int) -> None:
    """Put an interface in a group (`ip link set dev ... group ...`); raises Refused."""
    door.change(NEWLINK, 0, _HEADER.pack(0, 0, index, 0, 0) + u32(_GROUP, group))


class Member:
    """An interface's place in our interface group."""

    __slots__ = ("group", "interface", "link")
    kind: "Kind"
    stage = GROUP
    noun = "group"
    size = 1

    def __init__(self, interface: Interface, group: int, link: str) -> None:
        self.interface = interface
        self.group = group
        self.link = link

    @property
    def key(self) -> tuple[object, ...]:
        """An interface is in one group only."""
        return ("group", self.interface.index)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Member) and self.key == other.key and self.group == other.group

    def __hash__(self) -> int:
        return hash(self.key)


class _Members(Kind):
    """The kind: interfaces in our group."""

    NAME = "group"

    def read(self, view: "View", wanted: list[Member]) -> list[Member]:
        """Those in our group.

        In an event's run another interface in the group is another link's, maybe one that had this
        pppN before.
        """
        own = {link.interface_name for link in view.links}
        return [
            Member(interface, interface.group, view.owner(interface.name))
            for interface in view.facts.interfaces.values()
            if interface.group in view.groups and (view.whole or interface.name in own)
        ]

    def add(self, view: "View", new: Member) -> None:
        """Put the interface in the group."""
        set_group(view.door, new.interface.index, new.group)

    def remove(self, view: "View", old: Member) -> None:
        """Put it back into the group of new interfaces."""
        set_group(view.door, old.interface.index, GROUPLESS)

    def commands(self, view: "View", step: Step) -> list[str]:
        """As ip-link(8)."""
        member = step.object
        return [f"ip link set dev {member.interface.name} group {GROUPLESS if step.new is None else member.group}"]

    def signature(self, view: "View", wanted: "list[Object]", thorough: bool) -> dict[str, int]:
        """Which interfaces are in it."""
        names = names_in_group(view.door, view.config["group"]) if thorough else ()
        return {f"group {name}": 1 for name in names}

    def tally(self, view: "View", there: list[Member]) -> dict[str, int]:
        """The same of those that were read."""
        return {f"group {one.interface.name}": 1 for one in there if one.group == view.config["group"]}


KIND = Member.kind = _Members()

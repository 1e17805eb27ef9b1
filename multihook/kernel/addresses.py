"""Addresses of the interfaces in rtnetlink (struct ifaddrmsg, linux/if_addr.h)."""

from _bisect import bisect_left
from _struct import Struct

from multihook.address import width
from multihook.kernel.rtnetlink import GETADDR, SENSELESS, U32, Door, attributes, message_at, senseless

_HEADER = Struct("=BBBBI")
_ADDRESS, _LOCAL, _FLAGS = 1, 2, 8
_SECONDARY, _DADFAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x08, 0x20, 0x40
_HOST_SCOPE = 254
_LINK_SCOPE = 253


class Address:
    """One address of one interface: its own, the prefix length, and the peer's (or empty)."""

    __slots__ = ("flags", "index", "local", "peer", "prefixlen", "scope")

    def __init__(self, index: int, local: bytes, prefixlen: int, peer: bytes, flags: int, scope: int) -> None:
        self.index = index
        self.local = local
        self.prefixlen = prefixlen
        self.peer = peer
        self.flags = flags
        self.scope = scope

    @property
    def is_candidate(self) -> bool:
        """Whether it could be the one address by which a link is known.

        Not one that duplicate address detection has yet to clear or has refused, not one on
        its way out, and not a secondary one: the kernel chooses none of these by itself.
        """
        return not self.flags & (_SECONDARY | _DADFAILED | _DEPRECATED | _TENTATIVE) and self.scope < _LINK_SCOPE


def _parse(message: bytes) -> Address:
    try:
        family, prefixlen, flags, scope, index = _HEADER.unpack_from(message)
        values = attributes(message, _HEADER.size)
        address = values.get(_ADDRESS, b"")
        # IPv6 gives IFA_LOCAL only where there is a peer.
        local = values.get(_LOCAL, address)
        if _FLAGS in values:
            flags = U32.unpack(values[_FLAGS])[0]
    except SENSELESS:
        raise senseless("an address") from None
    bits = width(family)
    if prefixlen > bits or len(local) * 8 != bits or len(address) not in (0, len(local)):
        raise senseless("an address")
    return Address(index, local, prefixlen, address if address != local else b"", flags, scope)


class Dump:
    """All addresses of one family."""

    def __init__(self, door: Door, family: int) -> None:
        self._known = door.known(GETADDR)
        self._answers = door.dump(GETADDR, _HEADER.pack(family, 0, 0, 0, 0))
        self._blocks: dict[tuple[int, int], set[int]] = {}
        self._order: list[tuple[int, int]] = []
        self._by_index: dict[bytes, list[tuple[bytes, int]]] | None = None

    def _address(self, message: bytes) -> Address:
        address: Address | None = self._known.get(message)
        if address is None:
            address = self._known[message] = _parse(message)
        return address

    def of(self, index: int) -> list[Address]:
        """The addresses of one interface, in the kernel's order (the primary ones first)."""
        if self._by_index is None:
            self._by_index = self._answers.by(4, U32.size)
        found = [self._address(message_at(*place)) for place in self._by_index.get(U32.pack(index), ())]
        return [address for address in found if address.scope < _HOST_SCOPE]

    def holders(self, local: bytes) -> set[int]:
        """The indices of the interfaces that carry this address."""
        found = map(self._address, self._answers.having(local))
        return {address.index for address in found if address.local == local and address.scope < _HOST_SCOPE}

    def overlapping(self, network: bytes, prefixlen: int) -> set[int]:
        """The indices of the interfaces with an on-link prefix that overlaps this one.

        Addresses with a peer have none: a segment with one neighbour is shared with no other link.
        """
        if not self._order:
            self._sort_blocks()
        bits = len(network) * 8
        whole = int.from_bytes(network, "big")
        found: set[int] = set()
        for length in range(prefixlen):  # what lies around it
            found |= self._blocks.get((whole >> bits - length << bits - length, length), set())
        start = whole >> bits - prefixlen << bits - prefixlen
        place = bisect_left(self._order, (start, prefixlen))
        end = start + (1 << bits - prefixlen)
        while place < len(self._order) and self._order[place][0] < end:  # and what lies in it
            if self._order[place][1] >= prefixlen:
                found |= self._blocks[self._order[place]]
            place += 1
        return found

    def _sort_blocks(self) -> None:
        for message in self._answers:
            address = self._address(message)
            if address.peer or not address.prefixlen or address.scope >= _HOST_SCOPE:
                continue
            rest = len(address.local) * 8 - address.prefixlen
            block = (int.from_bytes(address.local, "big") >> rest << rest, address.prefixlen)
            self._blocks.setdefault(block, set()).add(address.index)
        self._order = sorted(self._blocks)

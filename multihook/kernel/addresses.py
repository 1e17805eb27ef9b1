"""Addresses of the interfaces in rtnetlink (struct ifaddrmsg, linux/if_addr.h)."""

from _struct import Struct

from multihook.kernel.rtnetlink import GETADDR, U32, Door, attributes

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
    _, prefixlen, flags, scope, index = _HEADER.unpack_from(message)
    values = attributes(message, _HEADER.size)
    address = values.get(_ADDRESS, b"")
    # IPv6 gives IFA_LOCAL only where there is a peer.
    local = values.get(_LOCAL, address)
    if _FLAGS in values:
        flags = U32.unpack(values[_FLAGS])[0]
    return Address(index, local, prefixlen, address if address != local else b"", flags, scope)


class Dump:
    """All addresses of one family."""

    def __init__(self, door: Door, family: int) -> None:
        self._answers = door.dump(GETADDR, _HEADER.pack(family, 0, 0, 0, 0))

    def of(self, index: int) -> list[Address]:
        """The addresses of one interface, in the kernel's order (the primary ones first)."""
        found = map(_parse, self._answers.at(4, U32.pack(index)))
        return [address for address in found if address.scope < _HOST_SCOPE]

    def holders(self, local: bytes) -> set[int]:
        """The indices of the interfaces that carry this address."""
        found = map(_parse, self._answers.having(local))
        return {address.index for address in found if address.local == local and address.scope < _HOST_SCOPE}

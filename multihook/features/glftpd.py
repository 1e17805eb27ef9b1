"""glftpd: each link's address where glftpd takes it from.

A block for each link that is up, the frame around the blocks, and the line that has glftpd read
them (multilink has the text).  Adopted links have a block too: glftpd is to use all lines there
are.  Only the kernel's part makes a transfer leave by the link whose address it was given, so the
files come last.
"""

from multihook import blocks
from multihook.address import INET, in_network, text
from multihook.blocks import Block, Frame, Include

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from multihook.kind import Object
    from multihook.view import View

NAME = "glftpd"
KINDS = (blocks.KIND,)

# RFC 1918, RFC 6598, RFC 3927: no host on the internet reaches these.
_PRIVATE = (
    (b"\x0a\0\0\0", 8), (b"\xac\x10\0\0", 12), (b"\xc0\xa8\0\0", 16), (b"\x64\x40\0\0", 10), (b"\xa9\xfe\0\0", 16),
)  # fmt: skip


def is_wanted(config: "dict[str, Any]") -> bool:
    """Where there is a section [glftpd]."""
    return bool(config["glftpd"])


def desired(view: "View") -> "list[Object]":
    """The frame, a block for each link that is up, and the include line; nothing while there is no link."""
    if not view.links:
        return []
    settings = view.config["glftpd"]
    multilink = settings["multilink"]
    wanted: list[Object] = [Frame(multilink, [pattern.encode() for pattern in settings["lan"]])]
    for link in sorted(view.links, key=lambda link: link.name):
        path = link.paths.get(INET)
        if path and path.is_up and path.has_address and not path.shared:
            wanted.append(Block(multilink, link.name, path.lease.address, link.name))
    return [*wanted, Include(settings["config"], multilink)]


def remarks(view: "View") -> list[str]:
    """Addresses that glftpd's users cannot reach."""
    found = []
    for link in view.links if is_wanted(view.config) else ():
        path = link.paths.get(INET)
        address = path.lease.address if path and path.is_up else b""
        if address and any(in_network(address, *private) for private in _PRIVATE):
            found.append(
                f"{link.name}: {text(address)} is private: users of glftpd outside cannot reach it; "
                "glftpd needs the public address, see GLFTPD in multihook(8)"
            )
    return found

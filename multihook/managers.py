"""Programs that manage interfaces and run no hooks of ours: what they do is seen by the next run only."""

import os
from collections.abc import Iterable
from stat import S_ISREG

from multihook.links import Link
from multihook.sources import VARIABLES

# Where those who run no hooks of ours say which interfaces are theirs: file, and the words of it.
_SILENT = {
    "systemd-networkd": ("/run/systemd/netif/links/", ("ADMIN_STATE=configured", "ADMIN_STATE=configuring")),
    "NetworkManager": ("/run/NetworkManager/devices/", ("managed=full", "managed=true")),
}

# Debian 12's NetworkManager runs the scripts of ifupdown by this one, but not for dhcp4-change; Debian 13's has none.
_NM_DISPATCHER = "/etc/NetworkManager/dispatcher.d/01-ifupdown"


def silent_manager(index: int, root: str = "") -> str:
    """The program that manages an interface and runs no hook of ours, or ""."""
    for name, (folder, words) in _SILENT.items():
        try:
            lines = _words_of(f"{root}{folder}{index}")
        except OSError:
            continue
        if any(word in lines for word in words):
            return name
    return ""


def what_it_tells(manager: str, root: str = "") -> str:
    """How far the hooks learn what such a program does to its links, behind "which tells multihook"."""
    if manager == "NetworkManager" and os.access(f"{root}{_NM_DISPATCHER}", os.F_OK):
        return "of up and down, but not of a changed lease: see `multihook sync`"
    return "nothing: see `multihook up`"


def heard_of(links: Iterable[Link]) -> set[str]:
    """The interfaces of which a hook has told: a client of ours serves them, whichever program claims them."""
    return {link.interface_name for link in links for path in link.paths.values() if path.lease.source in VARIABLES}


def _words_of(path: str) -> list[str]:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not S_ISREG(os.fstat(fd).st_mode):
            return []
        return file.read(1 << 16).decode("utf-8", "replace").split()

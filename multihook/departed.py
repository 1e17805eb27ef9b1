"""The note of departed addresses: of those whose translated connections have not been ended yet.

Whatever stands in it, no more is believed than multihook could have written itself.
"""

from multihook.address import INET, is_interface_name, is_link_name, parse, text, why_unusable, width
from multihook.files import folder, read, remove, replace
from multihook.paths import CONNECTIONS, PRIVATE, RUN

_MAGIC = "multihook connections 1"


def noted() -> dict[bytes, str]:
    """The addresses on file, each with the link that had it; none where the file is missing or damaged."""
    try:
        lines = read(CONNECTIONS, 1 << 16).decode("ascii", "replace").split("\n")
    except OSError:
        return {}
    if lines[0] != _MAGIC or lines[-2:] != ["end", ""]:
        return {}
    pairs = [(parse(word), link) for link, _, word in (line.partition(" ") for line in lines[1:-2])]
    return {address: link for address, link in pairs if address and _is_likely(link, address)}


def _is_likely(link: str, address: bytes) -> bool:
    """Whether multihook can have noted this: a damaged note must not name connections of others."""
    is_name = is_link_name(link) or is_interface_name(link)
    return is_name and len(address) * 8 == width(INET) and not why_unusable(address)


def note(addresses: dict[bytes, str]) -> None:
    """Have these on file and no others; raises OSError."""
    if not addresses:
        remove(CONNECTIONS)
        return
    lines = [_MAGIC, *(f"{link} {text(address)}" for address, link in addresses.items()), "end\n"]
    folder(RUN, 0o755)
    folder(PRIVATE, 0o700)
    replace(CONNECTIONS, "\n".join(lines).encode(), 0o600)

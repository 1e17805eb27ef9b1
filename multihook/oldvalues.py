"""The values of sysctls before multihook set them: one file for each interface, in /run.

Where such a file is missing or damaged, kernel/sysctl presumes what the values were.
"""

from posix import listdir

from multihook.files import folder, number, read, remove, replace
from multihook.paths import PRIVATE, RUN, SYSCTLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

_MAGIC = "multihook sysctls 1"
_INT = 1 << 31  # all of these are ints of the kernel
# The file of the network namespace; no interface can have this name (address.is_interface_name).
_NAMESPACE = "-"


class OldValues:
    """The values of an interface before multihook, by option.

    is_on_file  False where they are only presumed
    is_hidden   the reader is not root, and must not judge by what he cannot see
    """

    __slots__ = ("is_hidden", "is_on_file", "values")

    def __init__(self, values: dict[str, int], is_on_file: bool = True, is_hidden: bool = False) -> None:
        self.values = values
        self.is_on_file = is_on_file
        self.is_hidden = is_hidden

    def holds(self, option: str) -> bool:
        """Whether the old value of an option is known for certain."""
        return self.is_hidden or (self.is_on_file and option in self.values)


def load(interface: str, index: int, options: "Container[str]") -> OldValues | None:
    """What is on file of an interface ("": the network namespace); None where that is missing or damaged."""
    try:
        return OldValues(parse(read(_file(interface), 1 << 12), index, options))
    except PermissionError:
        return OldValues({}, is_hidden=True)
    except (OSError, ValueError):
        return None


def parse(content: bytes, index: int, options: "Container[str]") -> dict[str, int]:
    """The values in a file; none where it is about another interface that had the same name.

    Raises ValueError where it is damaged.
    """
    lines = content.decode("ascii", "replace").split("\n")
    if lines[0] != _MAGIC or lines[-2:] != ["end", ""]:
        raise ValueError
    pairs = [line.partition(" ") for line in lines[1:-2]]
    values = {option: number(value) for option, _, value in pairs}
    if values.pop("index", None) != index:
        return {}
    return {
        option: value for option, value in values.items()
        if option in options and value is not None and value < _INT
    }  # fmt: skip


def store(interface: str, index: int, values: dict[str, int]) -> None:
    """Write the file of an interface, or remove it where there are no values; raises OSError."""
    if not values:
        remove(_file(interface))
        return
    lines = [_MAGIC, f"index {index}", *(f"{option} {value}" for option, value in values.items()), "end\n"]
    for path, mode in ((RUN, 0o755), (PRIVATE, 0o700), (SYSCTLS, 0o700)):
        folder(path, mode)
    replace(_file(interface), "\n".join(lines).encode(), 0o600)


def interfaces() -> set[str]:
    """The interfaces that have a file."""
    try:
        return {name for name in listdir(SYSCTLS) if name != _NAMESPACE and not name.endswith(".new")}
    except OSError:
        return set()


def _file(interface: str) -> str:
    return f"{SYSCTLS}/{interface or _NAMESPACE}"

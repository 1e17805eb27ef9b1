"""Settings of IPv4 in /proc/sys/net/ipv4 (Linux, Documentation/networking/ip-sysctl.rst): read, written, in words.

An option of an interface stands in conf/INTERFACE; a new interface begins with the values of
conf/default.  Without an interface it is one of the whole network namespace.  What is written is a
number, so nothing has to be quoted; the interface's name is from the allow-list (address.py).
"""

from posix import O_CLOEXEC, O_NOFOLLOW, O_RDONLY, O_WRONLY, close, read, statvfs, write
from posix import open as posix_open

from multihook.files import number
from multihook.paths import SYSCTL_IPV4

_ST_RDONLY = 1


def _path(interface: str, option: str) -> str:
    return f"{SYSCTL_IPV4}/conf/{interface}/{option}" if interface else f"{SYSCTL_IPV4}/{option}"


def get(interface: str, option: str) -> int | None:
    """The value as it is now; None where this kernel or interface has no such option."""
    try:
        fd = posix_open(_path(interface, option), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    except OSError:
        return None
    try:
        return number(read(fd, 32).decode("ascii", "replace").strip())
    except OSError:
        return None
    finally:
        close(fd)


def default(interface: str, option: str) -> int:
    """The value that a new interface would begin with; of the whole namespace, the kernel's own (0)."""
    return (get("default", option) or 0) if interface else 0


def put(interface: str, option: str, value: int) -> None:
    """Set it; raises OSError (ENOENT: the interface is gone; EROFS, EACCES: not from here)."""
    path = _path(interface, option)
    fd = posix_open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW)
    try:
        write(fd, f"{value}\n".encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        close(fd)


def is_readonly() -> bool:
    """Whether /proc/sys is mounted read-only here, as in most containers (statvfs(3))."""
    try:
        return bool(statvfs(SYSCTL_IPV4).f_flag & _ST_RDONLY)
    except OSError:
        return False


def command(interface: str, option: str, value: int) -> str:
    """The same as a command (sysctl(8)), with slashes where the interface's name has dots."""
    name = f"net.ipv4.conf.{interface}.{option}" if interface else f"net.ipv4.{option}"
    if "." in interface:
        name = f"net/ipv4/conf/{interface}/{option}"
    return f"sysctl -qw {name}={value}"

"""A hook's run while dpkg replaces the package: what it was told is kept, and nothing else is done.

Files of the old and of the new version stand side by side then, so this imports few of them.
"""

from posix import environ, umask

from multihook import spool
from multihook.sources import VARIABLES


def keep(arguments: list[str]) -> bool:
    """Spool an event for postinst's sync; False, and nothing done, where dpkg's mark is void.

    Raises OSError when it cannot be spooled.
    """
    if not spool.is_upgrading():
        return False
    umask(0o022)
    source = arguments[0] if arguments else ""
    if source in VARIABLES:
        spool.prepare()
        spool.put(spool.Told(source, arguments[1:], spool.pick(environ, VARIABLES[source])))
    return True

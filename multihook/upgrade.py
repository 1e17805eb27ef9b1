"""A hook's run while dpkg replaces the package: what it was told is kept, and nothing else is done.

Files of the old and of the new version stand side by side then, so this imports few of them.
"""

import sys
from posix import environ, execv, umask

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
        if not spool.is_upgrading():
            # postinst's sync may have looked at the spool a moment too early.  Anew: these modules may be the old ones.
            execv(sys.orig_argv[0], sys.orig_argv)
    return True

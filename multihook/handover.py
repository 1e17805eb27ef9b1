"""What a hook in a sandbox may not write: multihook.service, which has other bounds, is asked to look at everything.

dhcpcd.service shows its hooks a read-only system (ProtectSystem=strict, systemd.exec(5)).  The
kernel's part of a run needs no file; names for ip(8), and what of the state could not be kept, are
written by the service's own run.
"""

from _signal import SIG_DFL, SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGTERM, signal  # type: ignore[import-not-found]  # as in hook
from posix import O_RDWR, POSIX_SPAWN_OPEN, WNOHANG, access, kill, posix_spawn, stat, waitpid
from time import monotonic, sleep

_SYSTEMCTL = "/usr/bin/systemctl"
_ARGUMENTS = (_SYSTEMCTL, "--no-block", "--quiet", "--no-ask-password", "reload-or-restart", "multihook.service")
_SYSTEMD = "/run/systemd/system"  # sd_booted(3)
_PATIENCE_SECONDS = 2.0
_PAUSE_SECONDS = 0.005
_EXECUTABLE = 1


def to_service() -> bool:
    """Ask for a run of multihook.service; False where there is none, or where this hook is in no sandbox.

    In no sandbox the service could write no more than we: a disk is full, or read-only for all.
    Nothing of it goes on when this returns, be systemd slow or hung.
    """
    if not _is_sandboxed() or not access(_SYSTEMD, 0) or not access(_SYSTEMCTL, _EXECUTABLE):
        return False
    signal(SIGCHLD, SIG_DFL)  # a process that ignores it has no children to wait for
    try:
        pid = posix_spawn(
            _SYSTEMCTL,
            _ARGUMENTS,
            {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            file_actions=[(POSIX_SPAWN_OPEN, fd, "/dev/null", O_RDWR, 0) for fd in (0, 1, 2)],
            setsigdef=(SIGTERM, SIGHUP, SIGINT, SIGPIPE),
        )
    except OSError:
        return False
    return _status(pid) == 0


def _is_sandboxed() -> bool:
    """Whether process 1 sees other mounts than we do."""
    try:
        return stat("/proc/self/ns/mnt").st_ino != stat("/proc/1/ns/mnt").st_ino
    except OSError:
        return False


def _status(pid: int) -> int:
    """The wait status of a process, which is killed when it takes too long."""
    end = monotonic() + _PATIENCE_SECONDS
    while monotonic() < end:
        done, status = waitpid(pid, WNOHANG)
        if done:
            return status
        sleep(_PAUSE_SECONDS)
    kill(pid, SIGKILL)
    return waitpid(pid, 0)[1]

"""The files of state, in which a test looks, and to which it does what disks and people do."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

from world import World

RUN, VAR = Path("/run/multihook"), Path("/var/lib/multihook")
PRIVATE = RUN / "private"
SPOOL, LOCK, MARK = PRIVATE / "spool", PRIVATE / "lock", PRIVATE / "upgrading"
STATE_FOLDERS = (RUN, VAR, Path("/etc/iproute2"))
CANARY = Path("/tmp/rig/somebody-elses")


def standing(path: Path) -> tuple[int, ...]:
    """What is another when a file or folder was written, replaced, or given to somebody; not when it was read."""
    status = path.lstat()
    return status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def waiting() -> list[str]:
    """Events in the spool that are whole."""
    return [name for name in os.listdir(SPOOL) if not name.endswith(".new")] if SPOOL.is_dir() else []


def leftovers() -> list[Path]:
    """Temporary files that a killed run could not put in their place."""
    return [path for top in STATE_FOLDERS for path in top.rglob("*.new")]


def in_line(world: World) -> bool:
    """Whether `status` finds nothing wrong."""
    done = world.multihook("status", "--json")
    assert done.stderr == "", done.stderr
    report = json.loads(done.stdout)
    return report["differences"] == [] and not waiting()


def damage(path: Path, way: str) -> None:
    """Do that to a file of ours."""
    content = path.read_bytes() if path.is_file() else b""
    if way == "empty":
        path.write_bytes(b"")
    elif way.startswith("cut at "):
        path.write_bytes(content[: len(content) * int(way[7:]) // 100])
    elif way == "noise":
        path.write_bytes(random.Random(3).randbytes(max(len(content), 64)))
    elif way == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes((content[middle] ^ 0x55,)) + content[middle + 1 :] if content else b"\x55")
    elif way == "longer":
        path.write_bytes(content + b"\0more\n")
    elif way == "huge":
        path.write_bytes(content + b"x" * (3 << 20))
    elif way == "foreign owner":
        os.chown(path, 65534, 65534)
    elif way == "writable by all":
        path.chmod(0o666)
    elif way == "numbers":
        path.write_bytes(bytes(c if c not in b"0123456789" else ord("9") for c in content))
    else:
        path.unlink(missing_ok=True)
        if way == "fifo":
            os.mkfifo(path)
        elif way == "folder":
            path.mkdir()
        elif way == "full folder":
            path.mkdir()
            (path / "x").touch()
        elif way == "symlink":
            CANARY.write_bytes(content or b"somebody else's\n")
            path.symlink_to(CANARY)
        elif way == "dangling symlink":
            path.symlink_to("/tmp/rig/nowhere")
        elif way == "device":
            path.symlink_to("/dev/zero")
        elif way == "socket":
            subprocess.run(["python3", "-c", f"import socket; socket.socket(socket.AF_UNIX).bind({str(path)!r})"], check=True)
        else:
            assert way == "missing"


def clear_away(path: Path) -> None:
    """Whatever stands there goes."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

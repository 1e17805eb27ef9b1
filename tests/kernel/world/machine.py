"""A further root, as it was before the package came: to install, upgrade, remove and purge in."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .namespaces import Namespace, run_tool

BASE = "/jail/base"  # the root of this release without the package, read-only
PACKAGES = "/jail/packages"  # the .deb under test
ARCHIVES = "/jail/archives"  # the .debs it depends on, downloaded before
# Process 1 has that root too, so it is no chroot; /proc must be that of the new process namespace.
_BOOT = """
cd "$1" && shift
mount --rbind . . && cd "$PWD" && pivot_root . mnt && umount --lazy /mnt && cd / && mount -t proc proc /proc || exit 125
"$@"
exit $?
"""


class Machine:
    """Made by World.machine(): a root without systemd, in a network namespace without any interface but lo."""

    def __init__(self, ns: Namespace) -> None:
        assert os.path.isdir(BASE), "a further machine needs what tests/run puts under /jail"
        self.ns = ns
        self._place = Path(tempfile.mkdtemp(prefix="machine-", dir="/dev/shm"))
        # A file system of its own: the jail's root is an overlay, on which no further overlay can write.
        run_tool("mount", "-t", "tmpfs", "-o", "mode=755", "machine", str(self._place))
        for name in ("upper", "work", "root"):
            (self._place / name).mkdir()
        self.root = self._place / "root"
        layers = f"lowerdir={BASE},upperdir={self._place}/upper,workdir={self._place}/work"
        run_tool("mount", "-t", "overlay", "-o", layers, "machine", str(self.root))
        for kind, where, options in (
            ("proc", "proc", "nosuid"),
            ("tmpfs", "run", "mode=755"),
            ("tmpfs", "tmp", "mode=1777"),
        ):
            run_tool("mount", "-t", kind, "-o", options, kind, str(self.root / where))
        run_tool("mount", "--rbind", "/dev", str(self.root / "dev"))
        for source, target in ((PACKAGES, "packages"), (ARCHIVES, "var/cache/apt/archives")):
            (self.root / target).mkdir(exist_ok=True)
            run_tool("mount", "--bind", source, str(self.root / target))

    def run(
        self,
        *argv: str,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        chroot: bool = False,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run as root inside, in its network namespace, as on a live machine; output as text.

        chroot: as in a chroot instead, which shares process 1 with what is around it.
        """
        setting = [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/root",
            "LC_ALL=C.UTF-8",
            "DEBIAN_FRONTEND=noninteractive",
            *(f"{name}={value}" for name, value in (env or {}).items()),
        ]
        boot = ["chroot", str(self.root)]
        if not chroot:
            own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
            boot = [*own, "sh", "-c", _BOOT, "sh", str(self.root)]
        return self.ns.run(*boot, "env", "-i", *setting, *argv, check=check, timeout=timeout)

    def package(self) -> str:
        """Path, inside, of the package under test."""
        (found,) = sorted(p.name for p in (self.root / "packages").glob("multihook_*.deb"))
        return f"/packages/{found}"

    def install(self, check: bool = True, chroot: bool = False) -> subprocess.CompletedProcess[str]:
        """apt install of the package under test, its dependencies from the archives of the run."""
        words = ("apt-get", "install", "-y", "--no-install-recommends", self.package())
        return self.run(*words, check=check, chroot=chroot)

    def path(self, inside: str) -> Path:
        """A file of it as seen from the test."""
        return self.root / inside.lstrip("/")

    def close(self) -> None:
        """Take it away. Its processes are those of its network namespace, which ends them."""
        run_tool("umount", "--recursive", "--lazy", str(self._place))
        os.rmdir(self._place)

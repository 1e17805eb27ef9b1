"""The machine's own network, in the place of the namespace that is the box elsewhere."""

from __future__ import annotations

import os

from world.namespaces import Namespace, run_tool


class Here(Namespace):
    """Programs run in it as anywhere on the machine; it has a name as well, for `ip -n` and for the ends of cables."""

    def __init__(self, name: str) -> None:
        """Give the network of process 1 that name."""
        self.name = name
        self._started = []
        run_tool("ip", "netns", "attach", name, "1")
        self._fd = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        self.sysctl("net.ipv4.ip_forward", 1)
        for what in ("accept_dad", "router_solicitations"):
            self.sysctl(f"net.ipv6.conf.default.{what}", 0)

    def argv(self, *argv: str) -> list[str]:
        """The command line as it is: no namespace of its own, neither for the network nor for mounts."""
        return list(argv)

    def close(self) -> None:
        """End what popen() started, take the name away; everything else here belongs to the machine."""
        for process in self._started:
            if process.poll() is None:
                process.terminate()
            process.wait(20)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe:
                    pipe.close()
        os.close(self._fd)
        run_tool("ip", "netns", "del", self.name)

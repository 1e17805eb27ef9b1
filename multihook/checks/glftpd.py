"""glftpd's own files: what multihook.toml names and the machine does not have."""

import re
from collections.abc import Iterator

from multihook.checks import DEFEATS, WARNING, Finding
from multihook.checks.machine import Machine, quoted


def files(machine: Machine) -> Iterator[Finding]:
    """[glftpd] with a glftpd.conf that is not there, or includes the addresses more than once, or too late."""
    settings = machine.config["glftpd"]
    if not settings:
        return
    path, included = settings["config"], settings["multilink"]
    if not machine.exists(path):
        yield Finding(
            DEFEATS, "glftpd", f"there is no {quoted(path)}, which [glftpd] names",
            "glftpd does not learn the addresses of the links.",
            ("# in /etc/multihook/multihook.toml under [glftpd], where glftpd's own file is:",
             'config = "/etc/glftpd.conf"'),
        )  # fmt: skip
        return
    lines = machine.lines(path)
    include = re.compile(rf"\s*include\s+{re.escape(included)}\s*")
    places = [place for place, line in enumerate(lines) if include.fullmatch(line.text)]
    if lines and places != [0]:
        once = "includes, but not first," if places else "does not include"
        state = "includes more than once" if len(places) > 1 else once
        yield Finding(
            WARNING, "glftpd", f"{quoted(path)} {state} {quoted(included)}",
            "glftpd takes the first address that fits: without that line in front it never asks for the link's.",
            ("multihook sync",),
        )  # fmt: skip


CHECKS = (files,)

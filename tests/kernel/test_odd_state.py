"""Damaged and later state of features and programs is as good as none; that of every machine is in test_crash.py."""

from __future__ import annotations

import itertools
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from state import CANARY, PRIVATE, RUN, VAR, clear_away, damage, leftovers
from two_lines import ONE, TWO

from world import World
from world.ppp import PEER, Session

LINKS = "".join(f'[link.l{n}]\ninterface = "ppp{n}"\ntable = {200 + n}\n' for n in range(2))
PROGRAM = Path("/etc/multihook/notify.d/record")
# Those that test_crash.py has no use for: of features and programs that its machine has not.
# What each has where the machine has none: as a run that was killed, or a hook that may not write /var, leaves it.
KINDS = {
    PRIVATE / "sysctls/ppp0": "",
    PRIVATE / "connections": "multihook connections 1\nl0 203.0.113.9\nend\n",
    PRIVATE / "front": "",
    PRIVATE / "told/l0.inet": "",
    PRIVATE / "news/l0.00000000000000000001-9-0": "multihook news 1\nMULTIHOOK_LINK=l0\nend\n",
    VAR / "glftpd": "",
    RUN / "tables": "l9 1005\n",
}
WAYS = ("cut at 50", "newer", "foreign owner", "fifo", "full folder", "symlink")


@pytest.fixture
def rich(world: World) -> Iterator[World]:
    """Two links, glftpd, a program in notify.d, a rule in front of ours: each kind of state is in use."""
    glftpd, multilink = Path("/etc/glftpd.conf"), Path("/etc/multilink.conf")
    glftpd.write_text("shutdown 0\n")
    PROGRAM.write_text("#!/bin/sh\nexit 0\n")
    PROGRAM.chmod(0o755)
    world.configure(LINKS + "[glftpd]\n")
    for number, address in enumerate((ONE, TWO)):
        world.ppp_up(f"ppp{number}", address, PEER, event=False)
    world.box.ip("route add default dev ppp1 table 300", "rule add lookup 300 priority 6000")
    world.multihook("sync", check=True)
    world.settle()
    world.log.clear()
    yield world
    for path in (glftpd, multilink, Path(f"{glftpd}.multihook-backup"), Path(f"{multilink}.multihook-backup")):
        path.unlink(missing_ok=True)


def newer(path: Path) -> None:
    """As a later version of the program would write it."""
    content = path.read_bytes()
    first, newline, rest = content.partition(b"\n")
    other = re.sub(rb" \d+$", b" 99", first)
    path.write_bytes(other + newline + rest if other != first else b"multihook future 99\n" + content)


@pytest.mark.fault("F18")
def test_damaged_state_of_features_and_programs_is_as_good_as_none(rich: World) -> None:
    """The event is applied at once, nothing foreign is written, nobody hangs; then everything is in line again."""
    session: Session = rich.sessions["ppp0"]
    kept = {path: content.encode() or path.read_bytes() for path, content in KINDS.items()}
    for number, (path, way) in enumerate(itertools.product(KINDS, WAYS)):
        what = (str(path), way)
        # Programs take their time, and only two of the kinds are theirs.
        PROGRAM.chmod(0o755 if path.parent.name in ("told", "news") else 0o644)
        CANARY.write_text("somebody else's\n")
        path.parent.mkdir(exist_ok=True, mode=0o700)
        clear_away(path)
        path.write_bytes(kept[path])
        path.chmod(0o600)
        newer(path) if way == "newer" else damage(path, way)
        before = CANARY.read_bytes()
        address = f"203.0.113.{120 + number}"
        session.readdress(address)
        start = time.monotonic()
        session.up_event()
        assert time.monotonic() - start < 3, what
        assert rich.routes(200)[0] == f"default dev ppp0 proto 109 scope link src {address}", what
        assert {rule["src"] for rule in rich.box.ip_json("rule", "show", "priority", "7400")} == {address, TWO}, what
        assert f"active_addr {address}\n" in Path("/etc/multilink.conf").read_text(), what
        rich.settle(5)
        assert CANARY.read_bytes() == before and len(rich.log.problems()) <= 2, what
        if way == "full folder":
            done = rich.multihook("status")
            assert "Traceback" not in done.stderr and done.returncode in (0, 1), (what, done)
        clear_away(path)
        rich.log.problems()
    rich.multihook("sync", check=True)
    rich.settle(5)
    assert rich.multihook("status").returncode == 0 and leftovers() == []
    assert Path("/etc/glftpd.conf").read_text() == "include /etc/multilink.conf\nshutdown 0\n"


VERSIONED = (RUN / "leases/l0.inet", RUN / "last", PRIVATE / "applied", PRIVATE / "compiled", VAR / "last-good.json")


@pytest.mark.fault("F18", "F75")
def test_state_of_a_later_version_is_not_believed(rich: World) -> None:
    """After a downgrade: every kind of file says a number that this version does not know, and all is made anew."""
    for path in (*VERSIONED, *(kind for kind in KINDS if kind.exists())):
        newer(path)
    goal = rich.snapshot()
    session = rich.sessions["ppp0"]
    session.up_event()
    assert rich.snapshot() == goal
    rich.multihook("sync", check=True)
    rich.settle(5)
    assert rich.snapshot() == goal and rich.multihook("status").returncode == 0
    # What a run made anew; the result of the last run that changed something is only shown.
    for path in set(VERSIONED[:4]) - {RUN / "last"}:
        assert b" 99" not in path.read_bytes().partition(b"\n")[0], path
    shutil.rmtree(RUN)
    session.up_event()
    assert rich.snapshot() == goal

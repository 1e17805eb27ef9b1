"""doctor on a real kernel: what it reads there, that its mends mend, that it changes nothing and needs little."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from two_lines import CABLE, CONFIG, ONE

from world import World
from world.ppp import PEER

WORDS = re.compile(r"[^\n]+")
REPORT = {"version", "multihook", "release", "root", "findings", "not_checked", "exit_status"}
FINDING = {"severity": str, "name": str, "what": str, "why": str, "mend": list}
BLIND = {"what": str, "why": str, "root_can": bool}


@pytest.fixture
def lines(world: World) -> World:
    """dsl on ppp0 and cable on wan1, in line."""
    world.configure(CONFIG)
    world.ppp_up("ppp0", ONE, PEER, event=False)
    world.box.ip("link add wan1 type veth peer name far1", "link set wan1 up", "link set far1 up", f"addr add {CABLE}/24 dev wan1")
    world.multihook("sync", check=True)
    world.log.clear()
    return world


def report(world: World, **more: Any) -> dict[str, Any]:
    """What `doctor --json` says, checked against its schema, version 1."""
    done = world.multihook("doctor", "--json", **more)
    assert done.stderr == "", done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found.keys() == REPORT and found["version"] == 1 and found["exit_status"] == done.returncode
    assert found["release"] in (12, 13)
    for kind, schema in (("findings", FINDING), ("not_checked", BLIND)):
        for one in found[kind]:
            assert one.keys() == schema.keys() and all(type(one[key]) is schema[key] for key in schema), one
            assert all(WORDS.fullmatch(line) for line in (one["what"], one["why"], *one.get("mend", ())))
    severities = [one["severity"] for one in found["findings"]]
    assert severities == sorted(severities, key=("defeats", "warning", "note").index), "the worst stands first"
    return found


def findings(world: World, name: str = "", **more: Any) -> list[dict[str, Any]]:
    return [one for one in report(world, **more)["findings"] if name in ("", one["name"])]


def mend(world: World, finding: dict[str, Any], *skipped: str) -> None:
    """Type what it says, as one would: the commands, not the lines for files."""
    for line in finding["mend"]:
        if re.match(r"(ip|sysctl|nft|chmod|mv|multihook|echo|mkdir|printf|sed) ", line) and not line.startswith(skipped or ("#",)):
            world.box.run("sh", "-ec", line)


@pytest.mark.fast
def test_what_stands_in_the_way_is_found_and_its_mend_mends(lines: World) -> None:
    """Rules, tables and settings of a real kernel; after the commands that are printed the finding is gone."""
    before = findings(lines)
    lines.box.ip(
        "route add default dev wan1 table 300",
        "rule add not fwmark 0xca6c lookup 300 priority 6999",
        f"rule add from {ONE} lookup 1 priority 5000",
        "rule add from 10.0.0.0/8 lookup 300 priority 7500",
        "route add 10.1.0.0/16 dev wan1 table 200 proto static",
        "rule add from 10.9.0.0/16 lookup 299 priority 100 protocol 109",
    )
    lines.box.sysctl("net.ipv4.conf.wan1.rp_filter", 1)
    found = [one for one in findings(lines) if one not in before]
    assert [one["name"] for one in found] == [
        "front-rule", "address-rule", "rp_filter", "rule-range", "table-clash", "protocol",
    ]  # fmt: skip
    assert "6999: not from all fwmark 0xca6c" in found[0]["what"] and "address of dsl" in found[1]["what"]
    for one in found:
        # Which of both is wrong only a person knows: the other number is the other way out.
        mend(lines, one, "multihook sync", "echo")
    assert [one["name"] for one in findings(lines) if one not in before] == ["protocol", "marks"]
    assert "8100:" in "\n".join(lines.rules()) and "6999: from 10.0.0.0/8" in "\n".join(lines.rules())
    assert lines.multihook("sync").returncode == 0
    assert "protocol" not in [one["name"] for one in findings(lines)], "a run takes out what has our number"


@pytest.mark.fault("F45")
def test_the_rules_of_the_kernel_itself(lines: World) -> None:
    """Rule 0 moved behind ours, main's gone: named, and put back by what is printed."""
    before = findings(lines)
    lines.box.ip("rule add lookup local priority 32000", "rule del priority 0", "rule del priority 32766")
    local, main = [one for one in findings(lines) if one not in before]
    assert (local["severity"], local["name"], main["severity"], main["name"]) == ("defeats", "local-rule", "warning", "main-rule")
    mend(lines, local), mend(lines, main)
    assert findings(lines) == before
    assert lines.rules()[0] == "0: from all lookup 255" and "32766: from all lookup 254" in lines.rules()


@pytest.mark.fast
def test_the_ruleset_of_nftables_is_read(lines: World) -> None:
    """Translation and marks of others, as the real nft prints them; and root only.  (This kernel has no flowtables.)"""
    before = findings(lines)
    lines.box.nft("""
        table ip nat {
            chain post {
                type nat hook postrouting priority srcnat;
                oifname "ppp0" snat to 203.0.113.45
                oifname "wan1" masquerade
            }
        }
        table inet mangle {
            chain pre { type filter hook prerouting priority mangle; meta mark set 0x01000001; ct mark set 0x1; }
        }
    """)
    found = [one for one in findings(lines) if one not in before]
    assert [(one["severity"], one["name"]) for one in found] == [
        ("warning", "foreign-nat"), ("note", "foreign-nat"), ("note", "marks"),
    ]  # fmt: skip
    mend(lines, found[0], "nft -a"), mend(lines, found[1], "nft -a")
    assert "foreign-nat" not in [one["name"] for one in findings(lines)]
    assert "foreign-nat" not in [one["name"] for one in findings(lines, user="nobody")]
    blind = report(lines, user="nobody")["not_checked"]
    assert {"what": "the ruleset of nftables", "why": "cannot be read", "root_can": True} in blind


@contextmanager
def file(path: str, text: str, mode: int = 0o644) -> Iterator[None]:
    """A file for a while."""
    there = Path(path)
    old = there.read_text() if there.exists() else None
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_text(text)
    there.chmod(mode)
    try:
        yield
    finally:
        if old is not None:
            there.write_text(old)
        elif there.exists():
            there.unlink()


@pytest.mark.fault("F76")
def test_debians_own_ip_up_is_really_overridden_and_mended(lines: World) -> None:
    """The real /etc/ppp/ip-up runs ip-up.local in place of us: named, and after the mend our hook hears again."""
    session = lines.sessions["ppp0"]
    with file("/etc/ppp/ip-up.local", "#!/bin/sh\necho \"$1 $4\" >/tmp/local\n", 0o755):
        session.readdress("203.0.113.50")
        session.up_event()
        assert lines.multihook("status").returncode == 1, "nobody told us"
        (found,) = findings(lines, "ip-up.local")
        assert found["severity"] == "defeats"
        mend(lines, found)
        session.up_event()
        assert lines.multihook("status").returncode == 0 and findings(lines, "ip-up.local") == []
        assert Path("/tmp/local").read_text() == "ppp0 203.0.113.50\n", "the administrator's own goes on running"
        Path("/etc/ppp/ip-up.d/0local").unlink()


def test_without_root_without_rights_and_elsewhere(lines: World) -> None:
    """Anybody gets what anybody may see; root without CAP_NET_ADMIN and in another namespace is told so."""
    lines.box.ip(f"rule add from {ONE} lookup 1 priority 5000")
    mine, theirs = report(lines), report(lines, user="nobody")
    assert (mine["root"], theirs["root"]) == (True, False) and theirs["exit_status"] == 1
    assert findings(lines, "address-rule") == findings(lines, "address-rule", user="nobody") != []
    assert len(theirs["not_checked"]) > len(mine["not_checked"]) and any(one["root_can"] for one in theirs["not_checked"])
    assert "root can look at more" in lines.multihook("doctor", user="nobody").stdout
    done = lines.box.run("setpriv", "--bounding-set=-net_admin", "/usr/bin/multihook", "doctor", check=False)
    assert done.returncode == 1 and "(capability)" in done.stdout and done.stderr == ""
    other = lines.namespace("other")
    done = other.run("/usr/bin/multihook", "doctor", check=False)
    assert done.returncode == 1 and "(namespace)" in done.stdout and done.stderr == ""


def test_exit_statuses(lines: World) -> None:
    """78 a wrong configuration, whatever else; 1 what defeats us or will; 0 where only notes are left."""
    lines.configure("nonsense")
    found = report(lines)
    assert found["exit_status"] == 78 and found["findings"][0]["name"] == "configuration"
    assert "multihook check-config" in found["findings"][0]["mend"]
    lines.configure(CONFIG)
    assert lines.multihook("doctor", "more").returncode == 2
    counted = lines.multihook("doctor").stdout.splitlines()[-1]
    severities = [one["severity"] for one in findings(lines)]
    assert report(lines)["exit_status"] == int(any(one != "note" for one in severities))
    assert counted.startswith("Nothing was found") == (severities == [])


def test_the_screen_has_a_block_for_each_finding(lines: World) -> None:
    """What, why, what to type; the worst first; a line for what was not checked; a sum."""
    lines.box.ip(f"rule add from {ONE} lookup 1 priority 5000")
    said = lines.multihook("doctor").stdout
    blocks = said.split("\n\n")
    block = next(one for one in blocks if "(address-rule)" in one).splitlines()
    assert block[0].startswith("DEFEATS US (address-rule): a foreign rule for the address of dsl stands in front of ours: 5000: ")
    assert block[1].startswith("  What comes from 203.0.113.45 ")
    assert block[2] == "    ip rule del from 203.0.113.45 lookup 1 priority 5000 protocol 3" or "ip rule del from 203.0.113.45 lookup 1" in block[2]
    assert re.fullmatch(r"\d+ things? defeats? multihook here.*\.", said.splitlines()[-1])


def everything(*tops: str) -> dict[str, tuple[object, ...]]:
    """Every file and folder: what writing, making or touching changes; not who read it."""
    found = {}
    for top in tops:
        for path in [Path(top), *Path(top).rglob("*")]:
            status = os.lstat(path)
            found[str(path)] = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


def test_it_changes_nothing_and_takes_no_lock(lines: World) -> None:
    """Neither the kernel nor a file, nor the log; beside a hook at work it answers at once."""
    report(lines)  # the cache of the configuration is there now
    tops = ("/etc", "/run/multihook", "/var/lib/multihook")
    before, files = lines.snapshot(), everything(*tops)
    modules = Path("/proc/modules").read_text() if Path("/proc/modules").exists() else ""
    with lines.ip_monitor() as heard:
        start = time.monotonic()
        report(lines), report(lines, user="nobody"), lines.multihook("doctor")
        assert time.monotonic() - start < 10
    assert heard == [] and lines.snapshot() == before and everything(*tops) == files
    assert lines.log.lines(identifier=None) == []
    assert modules == (Path("/proc/modules").read_text() if modules else "")


def test_strange_files_are_no_traceback(lines: World) -> None:
    """A fifo, a folder, bytes and 10 MB in the places that it reads."""
    places = ("/etc/nftables.conf", "/etc/network/interfaces", "/etc/ppp/peers/x", "/etc/rc.local", "/etc/sysctl.d/x.conf")
    kept = {path: Path(path).read_bytes() for path in places if Path(path).is_file()}
    for make in (os.mkfifo, Path.mkdir, lambda path: path.write_bytes(bytes(range(256)) * 9), lambda path: path.write_bytes(b"a b c\n" * 1700000)):
        for place in map(Path, places):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            make(place)
        try:
            said = report(lines)["not_checked"]
            assert "/etc/network/interfaces" in {one["what"] for one in said}, said
            assert "Traceback" not in lines.multihook("doctor", user="nobody").stderr
        finally:
            for place in map(Path, places):
                place.rmdir() if place.is_dir() else place.unlink()
    for path, content in kept.items():
        Path(path).write_bytes(content)

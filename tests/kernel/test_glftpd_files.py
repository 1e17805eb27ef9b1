"""glftpd's files with real links: they follow what happens to the links, in whatever state they are found."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from state import standing

from world import World

ONE, TWO, NEW, PEER = "203.0.113.45", "203.0.113.46", "203.0.113.77", "203.0.113.1"
GLFTPD, MULTILINK = Path("/etc/glftpd.conf"), Path("/etc/multilink.conf")
BACKUP = Path("/etc/glftpd.conf.multihook-backup")
THEIRS = b"# glFTPd\nsitename_long\tMy[:space:]Site\nshutdown\t0\n"
INCLUDE = b"include /etc/multilink.conf\n"
LINKS = '[link.dsl]\ninterface = "ppp0"\ntable = 200\n[link.lte]\ninterface = "ppp1"\ntable = 201\n'
CONFIG = f"{LINKS}[glftpd]\n"


def pairs() -> list[str]:
    """What glftpd reads in multilink.conf: no comments."""
    return [line for line in MULTILINK.read_text().splitlines() if not line.startswith("#")]


def expected(*addresses: str) -> list[str]:
    lines = [f"{word} {address}" for address in addresses for word in ("active_addr", "pasv_addr")]
    return ["ifip 10.* 192.168.*", "elseip", *lines, "endifip"]


def clean() -> None:
    for path in [*Path("/etc").glob("glftpd.conf*"), *Path("/etc").glob("multilink.conf*")]:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.fixture
def site(world: World) -> Iterator[World]:
    """Two PPP lines, one up, and a glftpd.conf; nothing of ours is in it yet."""
    clean()
    GLFTPD.write_bytes(THEIRS)
    world.configure(CONFIG)
    yield world
    clean()


@pytest.mark.fast
def test_blocks_come_change_and_go_with_their_links(site: World) -> None:
    site.ppp_up("ppp0", ONE, PEER)
    assert pairs() == expected(ONE)
    assert GLFTPD.read_bytes() == INCLUDE + THEIRS
    site.ppp_up("ppp1", TWO, PEER)
    assert pairs() == expected(ONE, TWO)
    before = standing(GLFTPD)
    site.sessions["ppp0"].reconnect(NEW)
    assert pairs() == expected(NEW, TWO)
    site.ppp_down("ppp1")
    assert pairs() == expected(NEW)
    assert standing(GLFTPD) == before
    assert BACKUP.read_bytes() == THEIRS
    lines = site.log.lines()
    assert any("dsl: " in line and "1 glftpd block" in line for line in lines), lines
    assert not any("warning" in line or "leftovers" in line for line in lines), lines
    assert site.multihook("status").returncode == 3  # lte is down, all else is right


def test_an_event_without_news_touches_nothing_and_one_of_a_machine_without_glftpd_looks_at_nothing(site: World) -> None:
    site.ppp_up("ppp0", ONE, PEER)
    site.ppp_up("ppp1", TWO, PEER)
    before = {path: standing(path) for path in (GLFTPD, MULTILINK, Path("/etc"), Path("/var/lib/multihook/glftpd"))}
    site.log.clear()
    site.sessions["ppp0"].up_event()
    site.multihook("sync", check=True)
    assert {path: standing(path) for path in before} == before
    assert site.log.lines() == []
    site.configure(LINKS)
    site.multihook("sync", check=True)
    assert GLFTPD.read_bytes() == THEIRS and not MULTILINK.exists()
    GLFTPD.write_bytes(INCLUDE + THEIRS)
    site.sessions["ppp0"].reconnect(NEW)
    site.multihook("sync", check=True)
    assert GLFTPD.read_bytes() == INCLUDE + THEIRS, "without the section it is none of ours"


def test_what_others_changed_shows_and_is_mended_by_the_next_event_of_any_link(site: World) -> None:
    site.ppp_up("ppp0", ONE, PEER)
    site.ppp_up("ppp1", TWO, PEER)
    assert site.multihook("status").returncode == 0
    MULTILINK.unlink()
    GLFTPD.write_bytes(THEIRS + INCLUDE)
    status = site.multihook("status")
    assert status.returncode == 1 and "multilink.conf" in status.stdout and "1i include" in status.stdout
    site.sessions["ppp0"].up_event()
    assert pairs() == expected(ONE, TWO)
    assert GLFTPD.read_bytes() == INCLUDE + THEIRS
    assert site.multihook("status").returncode == 0


def test_who_may_not_read_the_files_is_told_nothing_of_them(site: World) -> None:
    GLFTPD.chmod(0o600)
    site.ppp_up("ppp0", ONE, PEER)
    status = site.multihook("status", user="nobody")
    assert (status.returncode, "glftpd" in status.stdout) == (3, False), status.stdout
    assert site.multihook("status").returncode == 3


def test_a_dry_run_pasted_does_what_sync_does(site: World) -> None:
    site.ppp_up("ppp0", ONE, PEER, event=False)
    site.ppp_up("ppp1", TWO, PEER, event=False)
    shown = site.multihook("sync", "-n", check=True).stdout
    assert "multilink.conf" in shown
    site.box.run("sh", "-e", "-c", shown)
    assert site.multihook("sync", "-n", check=True).stdout == ""
    assert pairs() == expected(ONE, TWO)
    assert (GLFTPD.read_bytes(), BACKUP.read_bytes()) == (INCLUDE + THEIRS, THEIRS)


def test_flush_leaves_the_files_as_they_were_and_sync_puts_ours_back(site: World) -> None:
    site.ppp_up("ppp0", ONE, PEER)
    site.multihook("flush", check=True)
    assert GLFTPD.read_bytes() == THEIRS and not MULTILINK.exists()
    site.sessions["ppp0"].reconnect(NEW)
    assert GLFTPD.read_bytes() == THEIRS and not MULTILINK.exists()
    site.multihook("sync", check=True)
    assert pairs() == expected(NEW)
    assert (GLFTPD.read_bytes(), BACKUP.read_bytes()) == (INCLUDE + THEIRS, THEIRS)


@pytest.mark.fault("F17", "F72")
@pytest.mark.parametrize("what", ["missing", "fifo", "folder", "others'", "read-only"])
def test_routing_is_right_and_one_line_says_why_glftpd_conf_is_not(site: World, what: str) -> None:
    GLFTPD.unlink()
    words = "No such file or directory"
    if what == "fifo":
        os.mkfifo(GLFTPD)
        words = "is not a plain file"
    elif what == "folder":
        GLFTPD.mkdir()
        words = "is not a plain file"
    elif what == "others'":
        GLFTPD.write_bytes(THEIRS)
        GLFTPD.chmod(0o666)
        words = "can be written by others"
    elif what == "read-only":
        GLFTPD.write_bytes(THEIRS)
        subprocess.run(["mount", "--bind", "/etc", "/etc"], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", "/etc"], check=True)
        words = "Read-only file system"
    try:
        site.ppp_up("ppp0", ONE, PEER)
        assert "7400: from 203.0.113.45 lookup 200 proto 109" in site.rules()
        said = [line for line in site.log.lines() if words in line]
        assert len({line.partition(" (")[0] for line in said if "glftpd.conf" in line or "multilink" in line}) >= 1, said
        if what == "read-only":
            assert site.multihook("status").returncode == 1
        else:
            assert pairs() == expected(ONE)
            assert len(said) == 1, said
            status = site.multihook("status")
            assert status.returncode == 3 and f"Note: glftpd does not include {MULTILINK}" in status.stdout
    finally:
        if what == "read-only":
            subprocess.run(["umount", "/etc"], check=True)


@pytest.mark.fault("F72")
def test_the_files_of_two_adopted_lines_and_what_a_seed_left_behind(site: World) -> None:
    seed = b"\nifip 10.* 192.168.*\nelseip\n\nactive_addr 192.0.2.9\npasv_addr 192.0.2.9\n\nendifip\n"
    MULTILINK.write_bytes(seed)
    GLFTPD.write_bytes(THEIRS + b"include /etc/multilink.conf  \n" + INCLUDE)
    site.configure("[glftpd]\nlan = ['172.16.*']\n")
    site.ppp_up("ppp0", ONE, PEER, defaultroute=True)
    assert MULTILINK.read_bytes() == seed, "one line: nothing is changed for it"
    site.ppp_up("ppp1", TWO, PEER, event=False)
    site.multihook("up", "ppp1", check=True)
    assert pairs() == ["ifip 172.16.*", "elseip", *expected(ONE, TWO)[2:]]
    assert GLFTPD.read_bytes() == INCLUDE + THEIRS
    assert Path("/etc/multilink.conf.multihook-backup").read_bytes() == seed


@pytest.mark.fault("F17")
def test_files_that_cannot_be_written_leave_no_old_rule_in_the_kernel(site: World) -> None:
    site.ppp_up("ppp0", ONE, PEER)
    site.ppp_up("ppp1", TWO, PEER)
    site.log.clear()
    subprocess.run(["mount", "--bind", "/etc", "/etc"], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", "/etc"], check=True)
    try:
        site.sessions["ppp0"].readdress(NEW)
        site.sessions["ppp0"].up_event(local=NEW)
        assert not any(ONE in line for line in site.rules()) and any(NEW in line for line in site.rules())
        said = [line for line in site.log.lines() if "not written" in line]
        assert said == ["dsl: not written: /etc/multilink.conf: Read-only file system; `multihook sync` tries again"]
        site.ppp_down("ppp0")
        site.ppp_down("ppp1")
        assert not any(NEW in line or TWO in line for line in site.rules())
    finally:
        subprocess.run(["umount", "/etc"], check=True)
    site.multihook("sync", check=True)
    assert pairs() == expected()


def test_what_a_killed_run_had_half_written_beside_the_files_is_swept_by_sync(site: World) -> None:
    """Found by the crash points: it stayed in /etc until glftpd.conf itself had to be changed again."""
    site.ppp_up("ppp0", ONE, PEER)
    left = [path.with_name(f"{path.name}.99999999.new") for path in (GLFTPD, MULTILINK)]
    for path in left:
        path.write_bytes(b"include /etc/mul")
    kept = GLFTPD.with_name("glftpd.conf.new")
    kept.write_bytes(b"the administrator's own\n")
    site.multihook("sync", check=True)
    assert [path for path in left if path.exists()] == []
    assert kept.exists()

"""The package and glftpd's files: removal takes our lines out, purge names what it leaves; the example is where it should be."""

from __future__ import annotations

import pytest

from world import World

THEIRS = "# glFTPd\nshutdown 0\n"


@pytest.mark.fault("F75")
def test_removal_takes_our_lines_out_and_purge_names_the_backup_that_stays(world: World) -> None:
    machine = world.machine()
    for number in (1, 2):
        machine.ns.ip(f"link add wan{number} type veth peer name far{number}", f"link set far{number} up")
        machine.ns.ip(f"link set wan{number} up", f"addr add 198.51.{number}.7/24 dev wan{number}")
        machine.ns.ip(f"route add default via 198.51.{number}.1 dev wan{number} metric {number}")
    glftpd, multilink = machine.path("/etc/glftpd.conf"), machine.path("/etc/multilink.conf")
    backup = machine.path("/etc/glftpd.conf.multihook-backup")
    glftpd.write_text(THEIRS)
    machine.install()
    assert glftpd.read_text() == THEIRS
    machine.path("/etc/multihook/multihook.toml").write_text("[glftpd]\n")
    machine.run("multihook", "sync")
    assert glftpd.read_text() == f"include /etc/multilink.conf\n{THEIRS}"
    assert [line for line in multilink.read_text().splitlines() if line.startswith("pasv_addr")] == [
        "pasv_addr 198.51.1.7", "pasv_addr 198.51.2.7",
    ]  # fmt: skip
    example = machine.path("/usr/share/doc/multihook/examples/notify-publish")
    assert example.stat().st_mode & 0o7777 == 0o755 and example.read_text().startswith("#!/bin/sh\n")
    machine.run("apt-get", "remove", "-y", "multihook")
    assert (glftpd.read_text(), multilink.exists(), backup.read_text()) == (THEIRS, False, THEIRS)
    done = machine.run("apt-get", "purge", "-y", "multihook")
    words = "multihook: left where it is: /etc/glftpd.conf.multihook-backup, the file as it was before multihook"
    assert words in done.stdout + done.stderr
    assert backup.read_text() == THEIRS

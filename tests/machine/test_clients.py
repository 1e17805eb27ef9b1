"""DHCP clients in the confinement that Debian ships: dhclient's AppArmor profile, dhcpcd.service's sandbox."""

import json
from pathlib import Path

import pytest

from live import Live
from live.live import assert_works
from world.dhcp import DhcpClient
from world.namespaces import run_tool, wait_until

CONFIG = """
[link.cable]
interface = "wan3"
table = 203
"""
PROFILES = Path("/sys/kernel/security/apparmor/profiles")
DHCLIENT = "/{,usr/}sbin/dhclient"  # what Debian's profile for it is called
pytestmark = pytest.mark.timeout(300)


def mounts_of(unit: str) -> list[list[str]]:
    """What the unit's processes see mounted: some of dhcpcd's have a root of their own, without the rest."""
    found = []
    for pid in Path(f"/sys/fs/cgroup/system.slice/{unit}/cgroup.procs").read_text().split():
        try:
            found += [line.split() for line in Path(f"/proc/{pid}/mounts").read_text().splitlines()]
        except OSError:
            continue
    return found


def denials(live: Live) -> list[str]:
    """What AppArmor forbade since the start of the test, whoever asked for it."""
    return [line for line in live.log.lines(None) if 'apparmor="DENIED"' in line]


def test_dhclient_under_its_apparmor_profile(live: Live) -> None:
    """Debian's profile, enforced: a lease, another address after a NAK, and release; nothing of the chain is denied.

    dhclient itself is confined. Its profile says Uxr of dhclient-script: the script runs unconfined, and our hook in it.
    """
    (profile,) = Path("/etc/apparmor.d").glob("*sbin.dhclient")
    run_tool("apparmor_parser", "--replace", "--skip-cache", str(profile), timeout=120)
    assert f"{DHCLIENT} (enforce)" in PROFILES.read_text().splitlines()
    # Beside our hook, and a child of the script like it.
    seen = Path("/run/multihook-probe")
    Path("/etc/dhcp/dhclient-exit-hooks.d/probe").write_text(f"cat /proc/self/attr/current >>{seen}\n")
    live.configure(CONFIG)
    cable = live.provider("cable", "198.51.100.0/24", wire="wan3")
    cable.serve_dhcp(renew=10)
    client = DhcpClient(live.box, "wan3")
    try:
        address = str(client.start(60))
        assert Path(f"/proc/{client.pid}/attr/current").read_text().strip() == f"{DHCLIENT} (enforce)"
        assert_works(live, "wan3", address)
        cable.renumber()
        moved = client.wait_address(other_than=address, seconds=60)
        assert_works(live, "wan3", moved)
        live.agrees()
        client.release()
        live.wait_right(set())
        assert set(seen.read_text().splitlines()) == {"unconfined"}
        # What is denied for certain comes to the log after all that was denied before.
        words = ("/bin/bash", "-c", "echo $$; read -r line </etc/shadow")
        pid = run_tool("aa-exec", "-p", DHCLIENT, "--", *words, check=False).stdout.strip()
        wait_until("what was denied", lambda: any('"/etc/shadow"' in line for line in denials(live)), 60, pause=0.2)
        assert [line for line in denials(live) if f" pid={pid} " not in line] == []
    finally:
        client.kill()
        run_tool("apparmor_parser", "--remove", str(profile), timeout=120)
        seen.unlink(missing_ok=True)


@pytest.mark.fault("F47")
def test_dhcpcd_service_in_its_sandbox(live: Live) -> None:
    """Its unit shows the hook a read-only system: it keeps the lease in /run, names are written by multihook.service."""
    live.configure(CONFIG)
    cable = live.provider("cable", "198.51.100.0/24", wire="wan3")
    cable.serve_dhcp()
    config = Path("/etc/dhcpcd.conf")
    config.write_text(config.read_text() + "allowinterfaces wan3\nipv4only\nnoarp\nnodelay\n")
    names = Path("/etc/iproute2/rt_tables.d/multihook.conf")
    live.systemctl("start", "dhcpcd.service")
    try:
        address = str(wait_until("a lease", lambda: next(iter(live.box.addresses("wan3")), None), 60, pause=0.2))
        assert_works(live, "wan3", address)
        assert any(words[1] == "/" and "ro" in words[3].split(",") for words in mounts_of("dhcpcd.service")), "no sandbox"
        wait_until("the names of tables", lambda: names.exists() and "cable" in names.read_text(), 60, pause=0.2)
        # What multihook.service found by itself would be the kernel's word, not dhcpcd's.
        (cable_now,) = [link for link in json.loads(live.multihook("status", "--json").stdout)["links"] if link["name"] == "cable"]
        assert [family["source"] for family in cable_now["families"]] == ["dhcpcd"]
        live.agrees()
        live.systemctl("restart", "dhcpcd.service")
        wait_until("the lease again", lambda: live.box.addresses("wan3") == [address], 60, pause=0.2)
        assert_works(live, "wan3", address)
    finally:
        live.systemctl("stop", "dhcpcd.service")
    live.settle()
    # `persistent`: the address stays, and what has it goes on by its line.
    live.wait_right(set(live.box.addresses("wan3")))
    assert live.wrong() == []

"""dhcpcd: real ones of both releases, every reason through Debian's dhcpcd-run-hooks, and in its service's sandbox."""

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from world import World
from world.dhcpcd import Dhcpcd, run_hooks
from world.namespaces import wait_until

CAPTURES = Path(__file__).parent.parent / "captures"
LEASE = {"new_ip_address": "198.51.100.7", "new_subnet_cidr": "24", "new_routers": "198.51.100.1", "protocol": "dhcp"}
NEIGHBOUR = "203.0.113.45"


@pytest.fixture(autouse=True)
def neighbour(world: World) -> None:
    """A session that stays up, so that there are two lines."""
    isp = world.provider("isp", "203.0.113.0/24")
    world.ppp_up("ppp0", NEIGHBOUR, "203.0.113.1", isp, defaultroute=True)


def ours(world: World, interface: str = "wan1") -> list[str]:
    """The rules and routes of ours that name this interface, in any order."""
    lines = world.rules() + world.routes("all")
    return sorted(line for line in lines if "proto 109" in line and interface in line.split())


def assert_works(world: World, address: str, line: str = "wan1") -> None:
    """Asked and asking, by the address's own line; one address only."""
    answered, asked = world.reach(address), world.connect(source=address)
    assert (answered.ok, answered.by, answered.wrong) == (True, {line}, frozenset())
    assert (asked.ok, asked.by, asked.wrong) == (True, {line}, frozenset())
    rules = [rule for rule in world.rules() if rule.startswith("7400:")]
    assert len(rules) == 2 and any(f"from {address} " in rule for rule in rules)


def assert_is_gone(world: World, address: str) -> None:
    """No rule for it, nothing by its interface, and the neighbour as before."""
    assert [rule for rule in world.rules() if address in rule.split()] == []
    assert ours(world) == []
    assert world.connect(source=NEIGHBOUR).by == {"ppp0"}


# --- a real server and a real client ---


def test_bound_adopts_the_line_renew_changes_nothing_and_a_nak_moves_it(world: World) -> None:
    """From the first lease to another one: after each hook the line works, and nothing else is said or done."""
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    cable.serve_dhcp(renew=2)
    client = Dhcpcd(world.box, "wan1")
    client.start()
    client.wait_reason("wan1", "BOUND")
    address = client.address("wan1")
    assert address
    assert_works(world, address)
    assert world.connect(device="wan1").by == {"wan1"}
    (entry,) = [line for line in world.log.lines() if "wan1: " in line]
    assert entry.startswith(f"wan1: {address} on wan1 (dhcpcd BOUND): 3 rules, ")
    before = world.snapshot(foreign=False)
    world.log.clear()
    with world.ip_monitor("rule", "route") as heard:
        client.wait_reason("wan1", "RENEW")
    assert heard.about("proto 109") == [] and world.snapshot(foreign=False) == before
    assert world.log.lines() == []
    cable.renumber()
    wait_until("another address", lambda: client.address("wan1") not in (None, address), 30)
    client.wait_hooks()
    moved = client.address("wan1")
    assert moved and {"BOUND", "RENEW"} <= set(client.reasons("wan1"))
    assert_works(world, moved)
    assert [line for line in world.rules() + world.routes("all") if address in line.split()] == []


def test_a_cable_pulled_and_a_client_that_ends(world: World) -> None:
    """NOCARRIER and EXPIRE, STOP by a release; what Debian's `persistent` leaves there stays a link."""
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    cable.serve_dhcp()
    client = Dhcpcd(world.box, "wan1")
    client.start()
    client.wait_reason("wan1", "BOUND")
    address = client.address("wan1")
    assert address
    assert_works(world, address)
    cable.cut("carrier")
    client.wait_reason("wan1", "EXPIRE")
    assert "NOCARRIER" in client.reasons("wan1")
    assert_is_gone(world, address)
    cable.mend()
    wait_until("a lease again", lambda: client.reasons("wan1")[-1] in ("BOUND", "REBOOT"), 20)
    client.wait_hooks()
    assert client.address("wan1") == address
    assert_works(world, address)
    client.end()  # `persistent`
    assert client.reasons("wan1")[-1] == "STOPPED" and client.address("wan1") == address
    assert_works(world, address)
    client.start()
    wait_until("a lease again", lambda: client.reasons("wan1")[-1] in ("BOUND", "REBOOT"), 20)
    client.wait_hooks()
    assert_works(world, address)
    client.end(signal.SIGALRM)
    assert client.reasons("wan1")[-2:] == ["STOP", "STOPPED"] and client.address("wan1") is None
    assert_is_gone(world, address)


def test_on_all_interfaces_it_leaves_pppds_sessions_to_pppd(world: World) -> None:
    """As dhcpcd.service runs it: two cards, a session that stands, one that comes; an interface that is deleted."""
    world.configure('[link.dsl]\nipparam = "dsl"\ntable = 200\n')
    session = world.ppp_up("ppp1", "203.0.113.46", "203.0.113.1", world.providers["isp"], ipparam="dsl", event=False)
    lines = {}
    for number in (1, 2):
        provider = world.provider(f"cable{number}", f"198.51.{99 + number}.0/24", wire=f"wan{number}")
        provider.serve_dhcp()
    client = Dhcpcd(world.box)
    client.start()
    session.up_event()
    for name in ("wan1", "wan2"):
        client.wait_reason(name, "BOUND")
        lines[name] = client.address(name)
    session = session.reconnect("203.0.113.50")
    client.wait_hooks()
    found = {}
    for rule in world.rules():
        if rule.startswith("7400:"):
            found[rule.split()[2]] = rule
    assert set(found) == {NEIGHBOUR, "203.0.113.50", *lines.values()}
    assert "lookup 200 " in found["203.0.113.50"]
    for name, address in lines.items():
        assert address and world.connect(source=address).by == {name}
    assert world.connect(source="203.0.113.50").by == {"ppp1"}
    world.box.ip("link del wan2")
    client.wait_reason("wan2", "DEPARTED")
    assert ours(world, "wan2") == [] and world.multihook("status").returncode == 0
    client.end()


# --- each reason, by hand ---

UP = ("BOUND", "RENEW", "REBIND", "REBOOT", "TIMEOUT", "INFORM", "STATIC", "RECONFIGURE")
DOWN = ("EXPIRE", "NAK", "STOP")
LOOK = ("NOCARRIER", "NOCARRIER_ROAMING", "IPV4LL", "STOPPED", "DEPARTED", "FAIL", "no such reason")
NOTHING = (
    "PREINIT", "CARRIER", "3RDPARTY", "TEST", "ROUTERADVERT", "DELEGATED6", "INFORM6", "BOUND6", "RENEW6", "REBIND6",
    "REBOOT6", "EXPIRE6", "STOP6",
)  # fmt: skip


def set_address(world: World, address: str) -> None:
    world.box.ip(f"addr add {address}/24 dev wan1")


@pytest.mark.fault("F8")
def test_each_reason_of_dhcpcd_gives_the_right_link(world: World) -> None:
    """What brings a lease makes the link, whatever it is called; the kernel's addresses decide about the rest."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    for reason, last in zip(UP, (*DOWN, *LOOK), strict=False):
        set_address(world, "198.51.100.7")
        run_hooks(world.box, reason, "wan1", **LEASE)
        assert len(ours(world)) == 3, reason
        world.box.ip("addr flush dev wan1")
        run_hooks(world.box, last, "wan1", old_ip_address="198.51.100.7")
        assert ours(world) == [], (reason, last)
    set_address(world, "198.51.100.7")
    run_hooks(world.box, "BOUND", "wan1", **LEASE)
    made = world.snapshot(foreign=False)
    for other in (*NOTHING, *LOOK):
        run_hooks(world.box, other, "wan1", **LEASE, old_ip_address="198.51.100.7")
    for other in DOWN:  # late, of another address, of none: the address is there
        for old in ({}, {"old_ip_address": "198.51.100.99"}, {"old_ip_address": "198.51.100.7"}):
            run_hooks(world.box, other, "wan1", **old)
            assert world.snapshot(foreign=False) == made, (other, old)
    assert_works(world, "198.51.100.7")
    assert [entry for entry in world.log.entries() if entry.severity != "info"] == []


def test_what_a_real_dhcpcd_did_gives_the_right_link_after_each_event(world: World) -> None:
    """The recorded reasons in their order, the kernel as dhcpcd had left it before each of them."""
    world.configure('[link.cable]\ninterface = "wan0"\ntable = 200\n')
    world.provider("cable", "10.80.0.0/24", wire="wan0")
    text = (CAPTURES / "timeline-dhcpcd.txt").read_text()
    events = re.findall(r"dhcpcd ([A-Z0-9]+) wan0 proto=(\S+) up=\S+ down=\S+ old=(\S*) new=(\S*)", text)
    assert len(events) > 50
    current = ""
    for reason, protocol, old, new in events:
        if new and new != current:
            world.box.ip("addr flush dev wan0", f"addr add {new}/24 dev wan0")
            current = new
        if reason in DOWN:
            world.box.ip("addr flush dev wan0")
            current = ""
        words = {"protocol": protocol} | ({"old_ip_address": old} if old else {})
        if new:
            words |= {"new_ip_address": new, "new_classless_static_routes": "0.0.0.0/0 10.80.0.1"}
        run_hooks(world.box, reason, "wan0", **words)
        rules = {rule for rule in world.rules() if rule.startswith("7400:") and "lookup 200" in rule}
        assert rules == ({f"7400: from {current} lookup 200 proto 109"} if current else set()), (reason, old, new)
        ways = [route for route in world.routes(200) if "via" in route]
        assert ways == ([f"default via 10.80.0.1 dev wan0 proto 109 src {current}"] if current else [])


@pytest.mark.fault("F25")
def test_what_a_hostile_server_sends_runs_nothing_and_changes_nothing(world: World) -> None:
    """CVE-2011-0997 and its like, through Debian's own hooks: refused by name, and what was known still holds."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    set_address(world, "198.51.100.7")
    run_hooks(world.box, "BOUND", "wan1", **LEASE)
    made = world.snapshot(foreign=False)
    world.log.clear()
    for value in ("$(touch /tmp/rig/canary)", "`touch /tmp/rig/canary`", "; touch /tmp/rig/canary", "127.0.0.1", "x" * 100000):
        for name in ("new_routers", "new_classless_static_routes", "new_dhcp_server_identifier", "new_ip_address"):
            run_hooks(world.box, "RENEW", "wan1", **LEASE | {name: value})
            assert world.snapshot(foreign=False) == made, (name, value[:30])
    assert not Path("/tmp/rig/canary").exists()
    warnings = [entry.text for entry in world.log.entries() if entry.severity == "warning"]
    assert warnings and all(len(line) < 1000 and "dhcpcd RENEW on wan1: new_" in line for line in warnings)
    assert [entry for entry in world.log.entries() if entry.severity == "err"] == []


# --- as its service runs it ---

# What dhcpcd.service lets its hooks write, on both releases.
WRITABLE = ("/run/dhcpcd", "/var/lib/dhcpcd", "/etc/dhcpcd.conf", "/etc/resolv.conf")
NAMES = Path("/etc/iproute2/rt_tables.d/multihook.conf")


def sandbox(*more: str) -> tuple[str, ...]:
    """The mounts of ProtectSystem=strict with these ReadWritePaths: systemd.exec(5)."""
    keep = [*WRITABLE, *more]
    lines = [f"mount --bind {path} {path}" for path in keep]
    # /tmp is a file system of its own here; so are /proc, /sys and /dev, which stay as they are.
    lines += ["mount -o remount,bind,ro /", "mount -o remount,bind,ro /run"]
    return ("unshare", "--mount", "--propagation", "private", "sh", "-ec", "; ".join([*lines, 'exec "$@"']), "sandbox")


@pytest.fixture
def systemctl() -> Iterator[Path]:
    """A machine where systemd runs, as far as its folder and its command tell; what that was asked is in the file."""
    asked, folder, command = Path("/tmp/rig/asked"), Path("/run/systemd/system"), Path("/usr/bin/systemctl")
    folder.mkdir(parents=True)
    kept = command.read_bytes() if command.exists() else None
    command.write_text(f'#!/bin/sh\necho "$*" >>{asked}\n')
    command.chmod(0o755)
    try:
        yield asked
    finally:
        folder.rmdir()
        if kept is None:
            command.unlink()
        else:
            command.write_bytes(kept)


@pytest.mark.fault("F47")
@pytest.mark.parametrize("drop_in", [True, False], ids=["with our drop-in", "without it"])
def test_in_the_sandbox_of_its_service_the_kernels_part_is_done(world: World, drop_in: bool, systemctl: Path) -> None:
    """A new line, a renumbering, a lease that ends; names and numbers are written by the service that is asked for it."""
    Path("/etc/resolv.conf").touch()
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    cable.serve_dhcp(renew=2)
    world.multihook("sync", check=True)
    names = NAMES.read_text()
    world.log.clear()
    client = Dhcpcd(world.box, "wan1", wrapper=sandbox(*(["/run/multihook"] if drop_in else [])))
    client.start()
    client.wait_reason("wan1", "BOUND")
    address = client.address("wan1")
    assert address
    assert_works(world, address)
    assert NAMES.read_text() == names and "wan1" not in names
    assert Path("/run/multihook/leases/wan1.inet").exists() == drop_in
    assert set(systemctl.read_text().splitlines()) == {
        "--no-block --quiet --no-ask-password reload-or-restart multihook.service"
    }
    assert [entry.text for entry in world.log.entries() if entry.severity != "info"] == []
    # What the service does:
    world.multihook("sync", check=True)
    assert "\twan1\n" in NAMES.read_text() and not Path("/run/multihook/tables").exists()
    assert "\nwan1 " in Path("/var/lib/multihook/tables").read_text()
    assert_works(world, address)
    systemctl.unlink()
    client.wait_reason("wan1", "RENEW")
    assert drop_in is not systemctl.exists(), "with its state in order a hook asks for nothing"
    if drop_in:
        cable.renumber()
        wait_until("another address", lambda: client.address("wan1") not in (None, address), 30)
        client.wait_hooks()
        address = client.address("wan1")
        assert address
        assert_works(world, address)
    client.end(signal.SIGALRM)
    assert_is_gone(world, address)


@pytest.mark.fault("F17", "F47")
def test_without_systemd_what_cannot_be_written_is_said(world: World) -> None:
    """A read-only system that nobody can mend from outside: one line, and routing is right."""
    Path("/etc/resolv.conf").touch()
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    set_address(world, "198.51.100.7")
    Path("/run/dhcpcd").mkdir(exist_ok=True)
    world.log.clear()
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "reason": "BOUND", "interface": "wan1", **LEASE}
    done = world.box.run(*sandbox(), "/usr/lib/dhcpcd/dhcpcd-run-hooks", env=environment, check=False)
    assert done.returncode == 0
    assert_works(world, "198.51.100.7")
    (warning,) = [entry.text for entry in world.log.entries() if entry.severity != "info"]
    assert "state is not saved" in warning and "Read-only file system" in warning


def test_the_drop_in_lets_the_hook_write_and_names_nothing_else() -> None:
    """In the place where systemd of both releases looks, with what the sandbox above was given."""
    found = [path for path in (Path("/usr/lib/systemd/system"), Path("/lib/systemd/system")) if path.is_dir()]
    lines = (found[0] / "dhcpcd.service.d/multihook.conf").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["[Service]", "ReadWritePaths=-/run/multihook"]
    assert subprocess.run(["find", "/usr/lib/dhcpcd/dhcpcd-hooks/90-multihook", "-perm", "644"], check=True).returncode == 0

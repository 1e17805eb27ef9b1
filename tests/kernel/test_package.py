"""The package's life: installed, upgraded amid events, removed, purged, in a chroot, forbidden to start, half broken."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from world import World
from world.machine import Machine
from world.namespaces import wait_until
from world.observe import snapshot

ONE, TWO = "198.51.100.7", "203.0.113.7"
EMPTY = {"rules4": [], "rules6": [], "routes4": [], "routes6": [], "group": [], "nft": []}
CONFFILES = {
    "/etc/ppp/ip-up.d/multihook",
    "/etc/ppp/ip-down.d/multihook",
    "/etc/ppp/ipv6-up.d/multihook",
    "/etc/ppp/ipv6-down.d/multihook",
    "/etc/dhcp/dhclient-exit-hooks.d/multihook",
    "/etc/network/if-up.d/multihook",
    "/etc/network/if-post-down.d/multihook",
    "/etc/multihook/multihook.toml",
}
GENERATED = ("/etc/iproute2/rt_protos.d/multihook.conf", "/etc/iproute2/rt_tables.d/multihook.conf")
# The next version: it differs in every file that a run reads, so that a mixture would show.
NEXT = """
set -e
rm -rf /tmp/next && dpkg-deb -R {package} /tmp/next
sed -i 's/^Version: .*/Version: 9.9.9/' /tmp/next/DEBIAN/control
cd /tmp/next/usr/lib/python3/dist-packages/multihook
sed -i 's/^__version__ = .*/__version__ = "9.9.9"/' __init__.py
find . -name '*.py' -exec sh -c 'printf "\\nassert __import__(\\"multihook\\").__version__ == \\"9.9.9\\"\\n" >>"$1"' sh {{}} \\;
dpkg-deb -b /tmp/next /tmp/multihook_9.9.9_all.deb
"""


@pytest.fixture
def machine(world: World) -> Machine:
    """A machine with two lines that main has default routes for, some rules of others, and no multihook."""
    made = world.machine()
    for number, (name, address) in enumerate((("wan1", ONE), ("wan2", TWO))):
        made.ns.ip(f"link add {name} type veth peer name far{number}", f"link set far{number} up", f"link set {name} up")
        made.ns.ip(f"addr add {address}/24 dev {name}", f"route add default via {address}0 dev {name} metric {number + 1}")
    # Nobody is there to be asked.
    made.path("/etc/dpkg/dpkg.cfg.d/keep").write_text("force-confold\n")
    made.ns.ip(
        "rule add from 192.0.2.1 lookup 1000 priority 7400",
        "rule add to 192.0.2.1 lookup 1001 priority 7400 protocol static",
        "rule add lookup main suppress_prefixlength 0 priority 9000",
        "route add 192.0.2.0/24 dev lo table 1000 proto static",
        "route add 192.0.2.0/24 dev lo table 1001 proto static",
    )
    return made


def said(done: Any) -> list[str]:
    """What the package's own scripts printed."""
    return [line.removeprefix("multihook: ") for line in (done.stdout + done.stderr).splitlines() if line.startswith("multihook: ")]


def event(machine: Machine, address: str) -> None:
    """dhclient says that wan1 has that address; the hook is sourced inside, and says nothing."""
    words = f"reason=BOUND interface=wan1 new_ip_address={address} new_routers={ONE}0; export reason interface new_ip_address new_routers"
    done = machine.run("dash", "-eu", "-c", f"{words}; . /etc/dhcp/dhclient-exit-hooks.d/multihook; echo end")
    assert (done.stdout, done.stderr) == ("end\n", "")


def renumber(machine: Machine, old: str, new: str) -> None:
    """The address of wan1 changes, and nobody is told; the default route stays."""
    machine.ns.ip(f"addr add {new}/24 dev wan1", f"addr del {old}/24 dev wan1", f"addr replace {new}/24 dev wan1")
    machine.ns.ip(f"route replace default via {ONE}0 dev wan1 metric 1")


def sources(machine: Machine) -> set[str]:
    """The addresses for which there are rules of ours."""
    return {rule["src"] for rule in snapshot(machine.ns, foreign=False)["rules4"] if rule["priority"] == 7400}


def leftovers(machine: Machine) -> list[str]:
    """Everything on the machine that has our name, but what dpkg, apt and the rig keep of packages."""
    found = machine.run(
        "find", "/", "-xdev", "(", "-path", "/proc", "-o", "-path", "/packages", "-o", "-path", "/var/cache/apt", "-o", "-path", "/tmp",
        "-o", "-path", "/var/log", "-o", "-path", "/var/lib/apt", "-o", "-path", "/var/lib/dpkg", "-o", "-path", "/var/lib/systemd",
        ")", "-prune", "-o", "-iname", "*multihook*", "-print",
    ).stdout.split()  # fmt: skip
    return sorted([*found, *(str(p) for p in machine.path("/run").glob("multihook*"))])


@pytest.mark.fault("F13", "F75", "F77")
@pytest.mark.timeout(240)
def test_the_whole_life_of_the_package(world: World, machine: Machine) -> None:
    """Installed, in use, upgraded with events all the while, downgraded, removed, reinstalled, purged: dpkg never fails."""
    foreign = snapshot(machine.ns, ours=False)

    # Installing adopts both lines, says so, and says the way out.
    done = machine.install()
    lines = done.stdout.splitlines()
    assert any(line.split()[:4] == ["wan1", "up", "wan1", ONE] for line in lines), done.stdout
    assert any(line.split()[:4] == ["wan2", "up", "wan2", TWO] for line in lines)
    assert any("multihook flush" in line and "multihook status" in line for line in said(done))
    assert sources(machine) == {ONE, TWO} and snapshot(machine.ns, ours=False) == foreign
    assert machine.run("multihook", "status").returncode == 0
    # Tables that somebody uses already are not taken.
    assert {rule["table"] for rule in snapshot(machine.ns, foreign=False)["rules4"] if rule["priority"] == 7400} == {"1002", "1003"}

    listed = machine.run("dpkg-query", "-W", "-f", "${Conffiles}", "multihook").stdout.split()
    assert {word for word in listed if word.startswith("/")} == CONFFILES
    for folder in ("ip-up.d", "ip-down.d", "ipv6-up.d", "ipv6-down.d"):
        assert f"/etc/ppp/{folder}/multihook" in machine.run("run-parts", "--test", f"/etc/ppp/{folder}").stdout
    for folder in ("if-up.d", "if-post-down.d"):
        assert f"/etc/network/{folder}/multihook" in machine.run("run-parts", "--test", f"/etc/network/{folder}").stdout
    for path in ("/etc/multihook/conf.d", "/etc/multihook/notify.d", "/etc/iproute2/rt_tables.d", "/etc/iproute2/rt_protos.d", "/var/lib/multihook"):
        assert machine.path(path).is_dir()
    assert machine.run("dpkg", "--verify", "multihook").stdout == ""
    shipped = set(machine.run("dpkg", "-L", "multihook").stdout.split())
    for path in ("bash-completion/completions/multihook", "zsh/vendor-completions/_multihook", "fish/vendor_completions.d/multihook.fish",
                 "man/man8/multihook.8.gz", "man/man5/multihook.toml.5.gz", "doc/multihook/copyright"):  # fmt: skip
        assert f"/usr/share/{path}" in shipped
    assert {"/usr/bin/multihook", "/usr/lib/multihook/event", "/usr/lib/tmpfiles.d/multihook.conf"} <= shipped
    # Not conffiles: they go with the package.
    assert "/usr/lib/dhcpcd/dhcpcd-hooks/90-multihook" in shipped
    assert "/usr/lib/systemd/system/dhcpcd.service.d/multihook.conf" in shipped
    assert any(path.endswith("/systemd/system/multihook.service") for path in shipped)
    assert "wan1" in machine.run("ip", "rule").stdout, "ip shows our tables by name"

    # A hook in use writes nothing below /usr.
    before = machine.run("find", "/usr", "-newer", "/run/multihook/last").stdout
    event(machine, ONE)
    assert machine.run("find", "/usr", "-newer", "/run/multihook/last").stdout == before == ""

    # Upgrade: events arrive all the while; each is applied in the end, none by half an old and half a new version.
    machine.run("sh", "-c", NEXT.format(package=machine.package()))
    world.log.clear()
    addresses = [f"198.51.100.{n}" for n in range(100, 200)]
    result: list[Any] = []
    upgrade = threading.Thread(target=lambda: result.append(machine.run("dpkg", "-i", "/tmp/multihook_9.9.9_all.deb", check=False)))
    upgrade.start()
    here, count = ONE, 0
    while upgrade.is_alive():
        renumber(machine, here, addresses[count % len(addresses)])
        here = addresses[count % len(addresses)]
        event(machine, here)
        count += 1
    upgrade.join()
    (done,) = result
    assert done.returncode == 0, done
    assert count >= 3, "no event came during the upgrade"
    assert sources(machine) >= {TWO, here}, (here, said(done))
    assert not [line for line in world.log.lines() if "internal error" in line or "Assertion" in line]
    assert machine.run("multihook", "--version").stdout == "multihook, version 9.9.9\n"
    assert machine.run("multihook", "status").returncode == 0
    assert said(done) == [] and not machine.path("/run/multihook/private/upgrading").exists()
    assert list(machine.path("/run/multihook/private/spool").iterdir()) == []
    renumber(machine, here, ONE)
    event(machine, ONE)
    assert sources(machine) == {ONE, TWO}

    # Downgrade, with the hold of `multihook flush`, which stays.
    machine.run("multihook", "flush")
    done = machine.run("dpkg", "-i", machine.package())
    assert snapshot(machine.ns, foreign=False) == EMPTY and "held by `multihook flush`" in done.stdout
    machine.run("multihook", "sync")
    assert sources(machine) == {ONE, TWO}

    # Remove: the kernel and everything generated, but not the configuration nor the numbers of tables.
    machine.path("/etc/multihook/conf.d/mine.toml").write_text("[multihook]\nadopt = true\n")
    tables = machine.path("/var/lib/multihook/tables").read_text()
    done = machine.run("apt-get", "remove", "-y", "multihook")
    assert said(done) == [] and snapshot(machine.ns, foreign=False) == EMPTY and snapshot(machine.ns, ours=False) == foreign
    left = set(leftovers(machine))
    # deb-systemd-helper keeps who had enabled the unit until purge.
    enabled = {"/etc/systemd/system/multi-user.target.wants/multihook.service"}
    assert left - enabled == CONFFILES | {"/etc/multihook", "/var/lib/multihook"}, left
    assert machine.path("/var/lib/multihook/tables").read_text() == tables
    assert not machine.path("/run/multihook").exists() and not any(machine.path(path).exists() for path in GENERATED)
    assert not machine.path("/usr/lib/python3/dist-packages/multihook").exists()
    # The entry points that are left do nothing, silently.
    event(machine, ONE)
    for script in ("ip-up", "ip-down", "ipv6-up", "ipv6-down"):
        done = machine.run(f"/etc/ppp/{script}.d/multihook", "ppp0", "x", "0", "192.0.2.1", "192.0.2.2")
        assert (done.stdout, done.stderr) == ("", "")
    assert snapshot(machine.ns, foreign=False) == EMPTY and not machine.path("/run/multihook").exists()

    # Again, with the numbers of before; then everything goes but what is the administrator's.
    machine.install()
    assert sources(machine) == {ONE, TWO} and machine.path("/var/lib/multihook/tables").read_text() == tables
    done = machine.run("apt-get", "purge", "-y", "multihook")
    assert said(done) == [] and snapshot(machine.ns, foreign=False) == EMPTY and snapshot(machine.ns, ours=False) == foreign
    assert leftovers(machine) == ["/etc/multihook"]
    assert [path.name for path in machine.path("/etc/multihook").rglob("*")] == ["conf.d", "mine.toml"]
    machine.run("rm", "-r", "/etc/multihook")
    machine.install()
    machine.run("apt-get", "purge", "-y", "multihook")
    assert leftovers(machine) == []


# Where an event stands still: when it has looked for the mark; when the table of code is open; amid its imports,
# without a table; before it takes the lock.
TABLE = "/usr/lib/python3/dist-packages/multihook/__pycache__/multihook.codetable"
MODULE = "/usr/lib/python3/dist-packages/multihook/__pycache__/engine.cpython-*.pyc"
STANDS = {
    "/run/multihook/private/upgrading": "access,faccessat,faccessat2",
    TABLE: "openat",
    MODULE: "openat",
    "/run/multihook/private/lock": "openat",
}


@pytest.mark.fault("F13")
@pytest.mark.timeout(240)
def test_an_event_that_stands_still_while_the_package_is_replaced_begins_anew(world: World, machine: Machine) -> None:
    """From before dpkg sets the mark until it has taken it away: what it has read of the old version is of no use."""
    machine.install()
    machine.run("sh", "-c", NEXT.format(package=machine.package()))
    packages = ["/tmp/multihook_9.9.9_all.deb", machine.package()]
    here = ONE
    for number, (stand, calls) in enumerate(STANDS.items()):
        event(machine, here)
        place = stand
        if stand == MODULE:
            (found,) = machine.root.glob(MODULE[1:])
            place = f"/{found.relative_to(machine.root)}"
            machine.path(TABLE).unlink()
        renumber(machine, here, f"198.51.100.{50 + number}")
        here = f"198.51.100.{50 + number}"
        trace = machine.path(f"/tmp/trace{number}")
        late = late_event(machine, here, place, calls, trace)
        machine.run("dpkg", "-i", packages[number % 2])
        assert not machine.path("/run/multihook/private/upgrading").exists()
        world.log.clear()
        for pid in machine.ns.pids():
            if b"/usr/lib/multihook/event" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:3]:
                os.kill(pid, signal.SIGCONT)
        late.join(30)
        assert not late.is_alive(), trace.read_text()
        # The next version refuses to be mixed: what it gives then is another program, which the trace does not follow.
        assert ("execve(" in trace.read_text()) == (stand != MODULE), (stand, trace.read_text())
        assert world.log.problems() == [] and sources(machine) == {here, TWO}, stand
        assert list(machine.path("/run/multihook/private/spool").iterdir()) == []
        assert machine.run("multihook", "status").returncode == 0


def late_event(machine: Machine, address: str, place: str, calls: str, trace: Path) -> threading.Thread:
    """dhclient's event for wan1, which has stopped as it touched that file; where it begins anew, the trace says so."""
    words = ("strace", "-qq", "-o", f"/tmp/{trace.name}", "-P", place, "-P", "/usr/bin/python3", "-e", f"trace={calls},execve",
             "-e", f"inject={calls}:signal=SIGSTOP:when=1", "/usr/lib/multihook/event", "dhclient")  # fmt: skip
    told = {"reason": "BOUND", "interface": "wan1", "new_ip_address": address, "new_routers": f"{ONE}0"}
    thread = threading.Thread(target=lambda: machine.run(*words, env=told))
    thread.start()
    wait_until("it to stop", lambda: trace.exists() and "stopped by SIGSTOP" in trace.read_text())
    return thread


@pytest.mark.fault("F47", "F75")
@pytest.mark.timeout(180)
def test_in_a_chroot_and_where_starting_is_forbidden_the_kernel_is_left_alone(world: World, machine: Machine) -> None:
    """An image is being built, or policy-rc.d says 101: nothing is changed, one line says so, events work later."""
    everything = snapshot(machine.ns)
    done = machine.install(chroot=True)
    assert snapshot(machine.ns) == everything and said(done) == ["in a chroot: the kernel is left alone."]
    for words in (["apt-get", "install", "-y", "--reinstall", machine.package()], ["apt-get", "remove", "-y", "multihook"]):
        machine.run(*words, chroot=True)
        assert snapshot(machine.ns) == everything
    policy = machine.path("/usr/sbin/policy-rc.d")
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    done = machine.install()
    assert snapshot(machine.ns) == everything
    (line,) = said(done)
    assert line.startswith("policy-rc.d forbids starting")
    event(machine, ONE)
    assert ONE in sources(machine), "an event is no start of the package"
    machine.run("apt-get", "remove", "-y", "multihook")
    assert snapshot(machine.ns) == everything
    policy.unlink()
    done = machine.run("apt-get", "purge", "-y", "multihook", chroot=True)
    assert leftovers(machine) == [] and snapshot(machine.ns) == everything


@pytest.mark.fault("F46", "F75")
@pytest.mark.timeout(240)
def test_nothing_makes_dpkg_fail(world: World, machine: Machine) -> None:
    """A wrong configuration, state that is lost or odd, a held lock, a missing library: each step ends with 0 and few words."""
    # A configuration that was there before the package, and is wrong.
    machine.path("/etc/multihook").mkdir()
    machine.path("/etc/multihook/multihook.toml").write_text("[link.dsl\n")
    foreign = snapshot(machine.ns)
    done = machine.install()
    assert snapshot(machine.ns) == foreign
    (line,) = said(done)
    assert "/etc/multihook/multihook.toml:1:" in line and "nothing is done" in line, line
    machine.path("/etc/multihook/multihook.toml").write_text("# mine\n")
    machine.run("multihook", "sync")
    assert sources(machine) == {ONE, TWO}

    # It is wrong at an upgrade; the last good one goes on. The administrator's file is kept.
    machine.path("/etc/multihook/multihook.toml").write_text("# mine\n[multihook]\nadapt = 1\n")
    machine.run("sh", "-c", NEXT.format(package=machine.package()))
    done = machine.run("dpkg", "-i", "/tmp/multihook_9.9.9_all.deb")
    (line,) = said(done)
    assert "multihook.adapt: unknown key" in line and "the last good configuration stays in force" in line
    assert sources(machine) == {ONE, TWO}
    assert machine.path("/etc/multihook/multihook.toml").read_text().startswith("# mine")
    machine.path("/etc/multihook/multihook.toml").write_text("# mine\n")

    # State is gone, or is not what it should be.
    for change in ("rm -rf /run/multihook /var/lib/multihook", "rm -rf /run/multihook && ln -s /nowhere /run/multihook",
                   "rm -rf /run/multihook && touch /run/multihook", "rm -f /run/multihook && mkdir -p /run/multihook/private/upgrading/x"):  # fmt: skip
        machine.run("sh", "-c", change)
        done = machine.run("dpkg", "-i", machine.package(), check=False)
        assert done.returncode == 0, (change, done)
        assert "Traceback" not in done.stdout + done.stderr and len(said(done)) <= 3, (change, done)
        assert sources(machine) == {ONE, TWO}, change
    machine.run("rm", "-rf", "/run/multihook")
    machine.run("multihook", "sync")

    # The lock is held for a while: removal waits for it.
    lock = machine.path("/run/multihook/private/lock")
    holder = machine.ns.popen("flock", str(lock), "sleep", "2")
    wait_until("the lock to be taken", lambda: str(lock.stat().st_ino) in Path("/proc/locks").read_text())
    start = time.monotonic()
    machine.run("dpkg", "-r", "multihook")
    assert time.monotonic() - start > 1 and holder.wait(5) == 0
    assert snapshot(machine.ns, foreign=False) == EMPTY

    # A library of the console command is gone: removal still works, and says what it could not do.
    machine.install()
    assert sources(machine) == {ONE, TWO}
    machine.run("dpkg", "--force-depends", "--purge", "python3-click")
    done = machine.run("dpkg", "--purge", "multihook", check=False)
    assert done.returncode == 0, done
    (line,) = said(done)
    assert "not all was taken out" in line and "Traceback" not in done.stdout + done.stderr
    machine.ns.run("sh", "-c", "for p in 7000 7200 7400; do while ip rule del priority $p proto 109 2>/dev/null; do :; done; done")

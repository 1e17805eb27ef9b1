"""G6: whatever happens in a hook, the program that called it gets its time, its shell and its descriptors back."""

from __future__ import annotations

import itertools
import os
import re
import resource
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from world import World
from world.dhcpcd import run_hooks
from world.namespaces import wait_until

OLD, NEW, PEER = "203.0.113.45", "203.0.113.77", "203.0.113.1"
CONFIG = '[link.dsl]\ninterface = "ppp0"\ntable = 200\n[link.lte]\ninterface = "ppp1"\ntable = 201\n'
PPPD = ("/etc/ppp/ip-up.d/multihook", "ppp0", "/dev/pts/0", "0", NEW, PEER, "")
EVENT = ("/usr/lib/multihook/event", "pppd", "ip-up", *PPPD[1:])
DHCLIENT_HOOK = "/etc/dhcp/dhclient-exit-hooks.d/multihook"
DHCPCD_HOOK = "/usr/lib/dhcpcd/dhcpcd-hooks/90-multihook"
IFUPDOWN_HOOKS = ("/etc/network/if-up.d/multihook", "/etc/network/if-post-down.d/multihook")
LOCK = Path("/run/multihook/private/lock")
# pppd gives its children 5 s when it ends; starting Python on a busy machine is not ours to bound.
BOUND_SECONDS = 6.5


@pytest.fixture
def pending(world: World) -> World:
    """Two links in line, and one of them has just changed its address: the next hook has real work to do."""
    world.configure(CONFIG)
    session = world.ppp_up("ppp0", OLD, PEER, event=False)
    world.ppp_up("ppp1", "203.0.113.46", PEER)
    session.up_event()
    session.readdress(NEW)
    world.log.clear()
    return world


def applied(world: World) -> bool:
    """Whether the event was taken in, wholly."""
    rules = [rule["src"] for rule in world.box.ip_json("rule", "show", "table", "200") if rule["src"] != "all"]
    return rules == [NEW] and world.routes(200)[0] == f"default dev ppp0 proto 109 scope link src {NEW}"


def call(world: World, *argv: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run to its end, with what it said; nothing of it may be left over but what waits for the kernel, 20 ms or so."""
    more.setdefault("env", {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    done = world.box.run(*argv, check=False, **more)
    wait_until("all of the hook to end", lambda: world.strays() == {}, 0.5, pause=0.005)
    return done


def silent_and_applied(world: World, done: subprocess.CompletedProcess[str]) -> None:
    """The one outcome that a caller may ever see."""
    assert (done.returncode, done.stdout or "", done.stderr or "") == (0, "", "")
    assert applied(world)


HOLDER = """
import fcntl, os, sys, time
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(1000)
"""


@contextmanager
def lock_holder(world: World, path: Path = LOCK) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock on that file or folder and has been stopped."""
    process = world.box.popen("/usr/bin/python3", "-IS", "-c", HOLDER, str(path), stdout=subprocess.PIPE)
    try:
        assert process.stdout and process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.wait()


BLOCKED = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.execv(sys.argv[1], sys.argv[1:])
"""


def spooled() -> list[Path]:
    """The events that wait."""
    return sorted(Path("/run/multihook/private/spool").iterdir())


# --- time ---


@pytest.mark.fault("F6", "F20")
@pytest.mark.alone
def test_a_stopped_lock_holder_keeps_no_caller_for_long(pending: World) -> None:
    """Both kinds of callers go on after some 5 s, with one warning each; the events wait and are applied later."""
    env = {"PATH": "/usr/bin:/bin", "reason": "BOUND", "interface": "ppp1", "new_ip_address": "203.0.113.46"}
    with lock_holder(pending):
        start = time.monotonic()
        callers = [pending.box.popen(*PPPD), pending.box.popen("dash", "-c", f". {DHCLIENT_HOOK}", env=env)]
        assert [caller.wait(20) for caller in callers] == [0, 0]
        took = time.monotonic() - start
        assert 4 < took < BOUND_SECONDS, f"{took:.1f} s"
        assert not applied(pending)
        warnings = [entry.text for entry in pending.log.entries() if entry.severity == "warning"]
        assert len(warnings) in (1, 2) and all("lock was not free" in line for line in warnings)
        said = pending.multihook("status").stdout
        assert "2 events wait to be applied" in said and "the lock is held by process" in said
    # Any later event of any link takes them along.
    pending.sessions["ppp1"].up_event()
    assert applied(pending) and "wait" not in pending.multihook("status").stdout


@pytest.mark.fault("F6")
@pytest.mark.alone
def test_signals_that_the_caller_blocked_do_not_make_it_wait_for_ever(pending: World) -> None:
    """A signal mask is inherited: a hook that relies on SIGALRM must not take the caller's word for it."""
    with lock_holder(pending):
        start = time.monotonic()
        block = ("/usr/bin/python3", "-IS", "-c", BLOCKED)
        # dash unblocks everything when it starts; another sh may not.
        heard = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        hooks = [pending.box.popen(*block, *PPPD, **heard), pending.box.popen(*block, *EVENT, **heard)]
        try:
            assert [(hook.communicate(timeout=12)[0], hook.returncode) for hook in hooks] == [("", 0), ("", 0)]
        except subprocess.TimeoutExpired:
            pytest.fail("a hook waits on after 12 s")
        assert time.monotonic() - start < BOUND_SECONDS


@pytest.mark.fault("F20")
@pytest.mark.fast
def test_a_waiting_hook_goes_on_at_once_when_the_lock_is_free(pending: World) -> None:
    """It does not poll, and it does not wait for its whole time."""
    with lock_holder(pending) as holder:
        hook = pending.box.popen(*PPPD)
        wait_until("the event to be spooled", spooled)
        holder.kill()
        start = time.monotonic()
        assert hook.wait(10) == 0
        assert time.monotonic() - start < 2 and applied(pending)


@pytest.mark.fault("F6", "F20")
@pytest.mark.alone
def test_a_stopped_allotment_of_tables_keeps_no_caller_for_long(pending: World) -> None:
    """Whoever gives numbers to links (`check-config`, a hook after a change) holds another lock: nobody waits on it for ever."""
    pending.configure(CONFIG + '[link.third]\ninterface = "ppp7"\n')
    with lock_holder(pending, LOCK.parent):
        start = time.monotonic()
        hook = pending.box.popen(*PPPD)
        try:
            assert hook.wait(12) == 0
        except subprocess.TimeoutExpired:
            pytest.fail("a hook waits on after 12 s")
        assert time.monotonic() - start < BOUND_SECONDS and applied(pending)


@pytest.mark.fault("F13")
@pytest.mark.alone
def test_a_broken_package_under_dpkg_keeps_no_caller_for_long(pending: World) -> None:
    """While dpkg works a hook that cannot even start tries again, for some 5 s and no longer."""
    program = Path("/usr/lib/python3/dist-packages/multihook/upgrade.py")
    kept = program.read_bytes()
    LOCK.with_name("upgrading").write_text("no mark of dpkg's\n")
    try:
        program.write_text("import nothing_of_that_name\n")
        start = time.monotonic()
        hook = pending.box.popen(*PPPD)
        try:
            assert hook.wait(12) == 0
        except subprocess.TimeoutExpired:
            pytest.fail("a hook tries on after 12 s")
        assert 4 < time.monotonic() - start < BOUND_SECONDS
        (line,) = pending.log.lines()
        assert "event lost" in line
    finally:
        program.write_bytes(kept)
        LOCK.with_name("upgrading").unlink()


@pytest.mark.fault("F23")
def test_a_log_that_nobody_reads_keeps_no_caller(pending: World) -> None:
    """/dev/log with a full queue, missing, a plain file, a fifo, a stream socket: routing does not wait for it."""
    log, aside = Path("/dev/log"), Path("/dev/log.aside")
    log.rename(aside)

    def full() -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(str(log))
        writer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        writer.setblocking(False)
        try:
            while True:
                writer.sendto(b"x", str(log))
        except BlockingIOError:
            writer.close()
        return listener

    def stream() -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(log))
        listener.listen(1)
        return listener

    places: dict[str, Callable[[], Any]] = {
        "missing": lambda: None,
        "full": full,
        "stream": stream,
        "fifo": lambda: os.mkfifo(log),
        "file": lambda: log.write_text(""),
        "folder": lambda: log.mkdir(),
    }
    try:
        session, address = pending.sessions["ppp0"], NEW
        for number, (name, make) in enumerate(places.items()):
            kept = make()
            address = f"203.0.113.{80 + number}"
            session.readdress(address)
            start = time.monotonic()
            done = call(pending, *PPPD[:4], address, PEER, "")
            assert time.monotonic() - start < 3, name
            assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), name
            assert f"default dev ppp0 proto 109 scope link src {address}" in pending.routes(200), name
            if log.is_dir():
                log.rmdir()
            else:
                log.unlink(missing_ok=True)
            if kept:
                kept.close()
    finally:
        if log.exists():
            log.unlink()
        aside.rename(log)


# --- descriptors and processes ---


@pytest.mark.fault("F6", "F21")
@pytest.mark.fast
@pytest.mark.parametrize(
    "entry",
    [PPPD, EVENT, ("dash", "-c", f". {DHCLIENT_HOOK}"), ("dash", "-c", f". {DHCPCD_HOOK}"), IFUPDOWN_HOOKS[:1]],
    ids=["ip-up", "event", "dhclient", "dhcpcd", "if-up"],
)
def test_what_was_inherited_is_closed_when_the_hook_returns(pending: World, entry: tuple[str, ...]) -> None:
    """Pipes that the caller waits on (dhclient -1, ssh) end with the hook: nobody in the background holds them."""
    ends = [os.pipe() for _ in range(4)]
    env = {"PATH": "/usr/bin:/bin", "reason": "BOUND", "interface": "ppp0", "new_ip_address": NEW}
    env |= {"IFACE": "ppp0", "ADDRFAM": "inet", "METHOD": "static"}
    writers = tuple(end for _, end in ends)
    process = subprocess.Popen(
        pending.box.argv(*entry), env=env, stdin=subprocess.DEVNULL, stdout=writers[0], stderr=writers[1], pass_fds=writers
    )
    for end in writers:
        os.close(end)
    assert process.wait(20) == 0
    for reader, _ in ends:
        # The child that waits for netfilter in the hook's place closes them first of all, but it has to be its turn.
        assert select.select([reader], [], [], 0.5)[0], "somebody still has it"
        assert os.read(reader, 100) == b"", "somebody wrote to it"
        os.close(reader)
    pending.settle(1)
    assert applied(pending)


@pytest.mark.fault("F21")
def test_the_lock_and_the_kernel_door_are_closed_on_exec(pending: World) -> None:
    """Every descriptor that a hook opens itself says so to the kernel: no child can keep the lock."""
    calls = "openat,socket,accept4,pipe2,dup,dup2,dup3,memfd_create,eventfd2,fcntl,ioctl"
    trace = pending.box.run("strace", "-f", "-qq", "-e", f"trace={calls}", *EVENT).stderr
    ours = [line for line in trace.splitlines() if "/run/" in line or "socket(" in line or "/etc/" in line or "/var/" in line]
    assert any("private/lock" in line for line in ours) and any("AF_NETLINK" in line for line in ours)
    for line in ours:
        assert "CLOEXEC" in line or "= -1" in line, line
    assert "FIONCLEX" not in trace and "F_SETFD, 0" not in trace
    assert applied(pending)


@pytest.mark.fault("F6")
def test_the_callers_input_is_not_read(pending: World) -> None:
    """What stands in the caller's standard input (a script that is read from there, a terminal) is left to it."""
    program = Path("/usr/lib/multihook/event")
    kept, mode = program.read_bytes(), program.stat().st_mode
    try:
        program.write_text("#!/bin/sh\nexec cat\n")
        program.chmod(0o755)
        for entry in [f"/etc/ppp/{name}.d/multihook ppp0" for name in ("ip-up", "ip-down", "ipv6-up", "ipv6-down")] + [
            f". {DHCLIENT_HOOK}", f". {DHCPCD_HOOK}", *IFUPDOWN_HOOKS
        ]:  # fmt: skip
            done = pending.box.run("dash", "-c", f"{entry}; read -r line; echo \"$line\"", input="mine\n", env={"PATH": "/usr/bin:/bin"})
            assert (done.stdout, done.stderr) == ("mine\n", ""), entry
    finally:
        program.unlink(missing_ok=True)
        program.write_bytes(kept)
        program.chmod(mode)


@pytest.mark.fault("F22")
def test_a_hook_starts_no_other_program(pending: World) -> None:
    """The kernel is asked directly. One fork, where SNAT had to be changed, and that child only ends."""
    words = ("-f", "-qq", "-e", "signal=none", "-e", "trace=clone,clone3,fork,vfork,execve")
    trace = pending.box.run("strace", *words, *EVENT).stderr
    assert trace.count("execve(") == 1
    assert [line for line in trace.splitlines() if "execve(" not in line and "clone(" not in line] == []
    assert trace.count("clone(") == 1
    assert applied(pending)


@pytest.mark.fault("F21")
def test_what_waits_for_the_kernel_has_nothing_open_and_ends(pending: World) -> None:
    """The child that gives the netfilter socket back closes all else at once: no lock, no pipe of the caller."""
    pending.box.run("strace", "-ff", "-qq", "-o", "/tmp/rig/trace", *EVENT)
    traces = [path.read_text() for path in Path("/tmp/rig").glob("trace.*")]
    (trace,) = [text for text in traces if "execve(" not in text]
    calls = [line.partition("(")[0] for line in trace.splitlines() if not line.startswith("+++")]
    (first, below), (above, last) = re.findall(r"^close_range\((\d+), (\d+),", trace, re.MULTILINE)
    assert (first, int(above) - int(below), int(last) >= 1 << 30) == ("0", 2, True), "all but one descriptor"
    assert calls[-1] == "exit_group", trace
    assert set(calls) <= {"close_range", "exit_group", "set_robust_list", "gettid", "getpid", "rt_sigprocmask"}, trace


def test_without_snat_a_hook_starts_no_other_process(pending: World) -> None:
    """Not one fork from the hook itself."""
    pending.configure(CONFIG + "snat = false\n")
    pending.multihook("sync", check=True)
    words = ("-f", "-qq", "-e", "signal=none", "-e", "trace=clone,clone3,fork,vfork,execve")
    trace = pending.box.run("strace", *words, *EVENT).stderr
    assert [line for line in trace.splitlines() if "execve(" not in line] == []
    assert trace.count("execve(") == 1
    pending.sessions["ppp0"].up_event()
    assert applied(pending)


# --- the sourcing shell ---

REASONS = {
    "PREINIT": {},
    "BOUND": {"new_ip_address": NEW, "new_routers": "203.0.113.1"},
    "RENEW": {"new_ip_address": NEW, "old_ip_address": NEW},
    "EXPIRE": {"old_ip_address": OLD},
    "BOUND6": {"new_ip6_address": "2001:db8::1"},
    "NOCARRIER": {"protocol": "link"},
    "no such reason": {},
    "": {},
}
# What it must not change: variables, options, functions, aliases, traps, folder, mask, positional words.
STATE = 'set; echo; declare -f 2>/dev/null || :; set +o; echo; alias; trap; pwd; umask; ulimit -a; echo "$# $*"; echo "$-"'
SOURCING = f"""
set {{options}}
trap 'echo trapped' USR1
alias ll='ls -l'
f() {{{{ echo f; }}}}
set -- one 'two three'
cd /tmp
umask 027
kept='a  b'
status=none
{{{{ {STATE}; }}}} >/tmp/rig/before 2>&1
. {{hook}}
status=$?
{{{{ {STATE}; }}}} >/tmp/rig/after 2>&1
echo "end $status"
"""
# What a shell changes by itself.
MOVING = ("_=", "status=", "LINENO=", "PIPESTATUS=", "RANDOM=", "SRANDOM=", "SECONDS=", "EPOCH", "BASH_", "BASHPID")


def source(world: World, shell: str, options: str, env: dict[str, str], hook: str = DHCLIENT_HOOK) -> None:
    """Source a client's hook in that shell; nothing is said and nothing is left behind."""
    files = [Path("/tmp/rig", name) for name in ("before", "after")]
    for file in files:
        file.unlink(missing_ok=True)
    done = call(world, *shell.split(), "-c", SOURCING.format(options=options, hook=hook), env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end 0\n", ""), env
    before, after = ([line for line in file.read_text().splitlines() if not line.startswith(MOVING)] for file in files)
    assert before == after, env


@pytest.mark.fault("F78")
@pytest.mark.fast
@pytest.mark.parametrize("options", ["-e -u", "-eu -f -C", "+e"])
@pytest.mark.parametrize("shell", ["dash", "bash --posix"])
@pytest.mark.parametrize("hook", [DHCLIENT_HOOK, DHCPCD_HOOK], ids=["dhclient", "dhcpcd"])
def test_the_shell_that_sources_it_is_the_same_after(pending: World, hook: str, shell: str, options: str) -> None:
    """No variable, option, function, trap, folder or status is left, for any reason the client gives."""
    for reason, variables in REASONS.items():
        env = {"PATH": "/usr/bin:/bin", "reason": reason, "interface": "ppp0", **variables}
        source(pending, shell, options, env, hook)


BROKEN = ("exit 7", "kill -9 $$", "kill -TERM $$", "echo out; echo err >&2", "missing", "not executable", "cat; exec sleep 0")


@pytest.mark.fault("F78")
def test_a_broken_event_program_is_no_concern_of_the_caller(pending: World) -> None:
    """Whatever /usr/lib/multihook/event has become: status 0, silence, and the next hooks run."""
    program = Path("/usr/lib/multihook/event")
    kept, mode = program.read_bytes(), program.stat().st_mode
    try:
        for event in BROKEN:
            if event == "missing":
                program.unlink()
            else:
                program.write_text(f"#!/bin/sh\n{event}\n")
                program.chmod(0o644 if event == "not executable" else 0o755)
            for script in ("ip-up", "ip-down", "ipv6-up", "ipv6-down"):
                done = call(pending, f"/etc/ppp/{script}.d/multihook", *PPPD[1:])
                assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), (event, script)
            for script in IFUPDOWN_HOOKS:
                done = call(pending, script, env={"PATH": "/usr/bin:/bin", "IFACE": "ppp0", "METHOD": "static"})
                assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), (event, script)
            for options, hook in itertools.product(("-e -u", "+e"), (DHCLIENT_HOOK, DHCPCD_HOOK)):
                env = {"PATH": "/usr/bin:/bin", "reason": "BOUND", "interface": "ppp0"}
                source(pending, "dash", options, env, hook)
    finally:
        program.unlink(missing_ok=True)
        program.write_bytes(kept)
        program.chmod(mode)


@pytest.mark.fault("F78")
def test_debians_own_hooks_beside_ours_work_as_without_it(pending: World) -> None:
    """dhclient-script sources them one after the other: with ours between them each sees what it saw before."""
    folder = Path(DHCLIENT_HOOK).parent
    witness = "set >>/tmp/rig/seen; set +o >>/tmp/rig/seen; pwd >>/tmp/rig/seen; umask >>/tmp/rig/seen\n"
    (folder / "zz-witness").write_text(witness)
    (folder / "a-witness").write_text(witness)
    assert len([path for path in folder.iterdir() if path.name not in ("multihook", "zz-witness", "a-witness")]) >= 2
    seen = []
    for present in (True, False):
        if not present:
            Path(DHCLIENT_HOOK).unlink()
        Path("/tmp/rig/seen").unlink(missing_ok=True)
        done = pending.dhclient_script(
            "REBOOT", "ppp0", new_ip_address=NEW, new_subnet_mask="255.255.255.255", new_routers="203.0.113.1",
            new_rfc3442_classless_static_routes="24 192 0 2 203 0 113 1", new_domain_name_servers="198.18.0.53",
        )  # fmt: skip
        lines = [line for line in Path("/tmp/rig/seen").read_text().splitlines() if not line.startswith(("_=", "pid=", "PPID="))]
        seen.append((done.returncode, lines))
    assert seen[0][0] == seen[1][0]
    assert [line for line in seen[0][1] if "multihook" not in line] == [line for line in seen[1][1] if "multihook" not in line]


@pytest.mark.fault("F78")
def test_dhcpcds_own_hooks_beside_ours_work_as_without_it(pending: World) -> None:
    """dhcpcd-run-hooks sources them in one shell: those behind ours see what they would see without it."""
    ours, folder = Path(DHCPCD_HOOK), Path(DHCPCD_HOOK).parent
    witness, kept = folder / "95-witness", ours.read_bytes()
    assert len([path for path in folder.iterdir() if path != ours]) >= 3
    seen = []
    try:
        witness.write_text("set >/tmp/rig/seen; set +o >>/tmp/rig/seen; pwd >>/tmp/rig/seen; umask >>/tmp/rig/seen\n")
        for present in (True, False):
            if not present:
                ours.unlink()
            done = run_hooks(
                pending.box, "BOUND", "ppp0", new_ip_address=NEW, new_routers="203.0.113.1", protocol="dhcp",
                new_domain_name_servers="198.18.0.53", if_up="true", if_down="false",
            )  # fmt: skip
            lines = [line for line in Path("/tmp/rig/seen").read_text().splitlines() if not line.startswith(("_=", "PPID="))]
            seen.append((done.returncode, done.stdout, done.stderr, lines))
    finally:
        witness.unlink(missing_ok=True)
        ours.write_bytes(kept)
    assert seen[0] == seen[1] and len(seen[0][3]) > 20
    assert applied(pending)


# --- signals ---


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "PIPE"])
def test_a_signal_at_each_step_does_not_stop_what_was_begun(pending: World, name: str) -> None:
    """systemd kills down hooks together with pppd: with that signal at every word to the kernel the work is done."""
    done = pending.box.run(
        "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto,rename,unlink,flock",
        "-e", f"inject=sendto:signal={name}:when=1+", "-e", f"inject=rename,unlink,flock:signal={name}:when=1+",
        *EVENT, check=False,
    )  # fmt: skip
    silent_and_applied(pending, done)
    assert spooled() == []


def test_signals_while_waiting_for_the_lock_lose_nothing(pending: World) -> None:
    """The whole process group gets them, as from systemd: the shell in between may die, the event is applied."""
    with lock_holder(pending):
        hook = pending.box.popen(*PPPD, start_new_session=True)
        wait_until("the event to be spooled", spooled)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            os.killpg(hook.pid, number)
        # The group's leader is /etc/ppp's shell; what it started goes on.
        hook.wait(10)
    pending.settle()
    assert applied(pending)


# --- surroundings ---


@pytest.mark.fault("F22")
def test_closed_standard_descriptors_do_no_harm(pending: World) -> None:
    """0, 1 and 2 closed in every combination: no socket or file of ours gets what was meant for them."""
    session = pending.sessions["ppp0"]
    for number in range(8):
        closed = " ".join(f"{fd}{'<' if fd == 0 else '>'}&-" for fd in range(3) if number & 1 << fd)
        for program in (("/etc/ppp/ip-up.d/multihook",), ("/usr/lib/multihook/event", "pppd", "ip-up")):
            address = f"203.0.113.{100 + number * 2 + len(program) // 2}"
            session.readdress(address)
            words = " ".join((*program, "ppp0", "/dev/pts/0", "0", address, PEER))
            done = call(pending, "sh", "-c", f"{words} {closed}")
            assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), closed
            assert f"default dev ppp0 proto 109 scope link src {address}" in pending.routes(200), closed


@pytest.mark.fault("F22")
def test_a_hostile_surrounding_does_no_harm(pending: World) -> None:
    """No PATH, no variable at all, mask 000, a folder that is gone, Python's own variables, no locale, another user's home."""
    gone = Path("/tmp/rig/gone")
    trap = Path("/tmp/rig/trap")
    trap.mkdir()
    for name in ("multihook", "sitecustomize", "usercustomize", "posix", "zlib", "encodings", "marshal", "syslog"):
        (trap / f"{name}.py").write_text("open('/tmp/rig/canary', 'w')\n")
    python = {
        "PYTHONPATH": str(trap), "PYTHONHOME": str(trap), "PYTHONSTARTUP": str(trap / "multihook.py"), "PYTHONINSPECT": "1",
        "PYTHONVERBOSE": "3", "PYTHONDEBUG": "9", "PYTHONMALLOC": "debug", "PYTHONWARNINGS": "error", "PYTHONUTF8": "2",
        "PYTHONIOENCODING": "rot13", "LC_ALL": "xx_YY.nonsense", "LANG": "tr_TR", "HOME": str(trap), "IFS": "/", "ENV": str(trap),
        "BASH_ENV": str(trap / "multihook.py"), "LD_BIND_NOW": "1", "TMPDIR": "/nowhere", "MULTIHOOK_LOG": "/tmp/rig/canary",
    }  # fmt: skip
    surroundings: dict[str, dict[str, Any]] = {
        "no variable": {"env": {}},
        "empty PATH": {"env": {"PATH": ""}},
        "wrong PATH": {"env": {"PATH": "/nowhere"}},
        "python": {"env": {"PATH": "/usr/bin:/bin", **python}},
        "mask 000": {"preexec_fn": lambda: os.umask(0) and None},
        "mask 777": {"preexec_fn": lambda: os.umask(0o777) and None},
        "folder is a trap": {"cwd": str(trap)},
        "all signals blocked": {"preexec_fn": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()) and None},
        "alarm pending": {"preexec_fn": lambda: signal.setitimer(signal.ITIMER_REAL, 30) and None},
        "signals ignored": {"preexec_fn": lambda: [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 13, 14, 15, 17)] and None},
        "nice": {"preexec_fn": lambda: os.nice(19) and None},
    }
    session = pending.sessions["ppp0"]
    for number, (name, how) in enumerate(surroundings.items()):
        address = f"203.0.113.{150 + number}"
        session.readdress(address)
        argv = (PPPD[0], *PPPD[1:4], address, PEER, "")
        done = call(pending, *argv, **how)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), name
        assert f"default dev ppp0 proto 109 scope link src {address}" in pending.routes(200), name
    # dash itself complains of its folder when it starts, so this is the event program, and the sourced hook.
    for number, words in enumerate((" ".join(EVENT[:-1]), f". {DHCLIENT_HOOK}")):
        gone.mkdir()
        session.readdress((NEW, OLD)[number])
        env = {"PATH": "/usr/bin:/bin", "reason": "BOUND", "interface": "ppp0", "new_ip_address": OLD}
        done = call(pending, "sh", "-c", f"cd {gone}; rmdir {gone}; {words}", env=env)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert f"default dev ppp0 proto 109 scope link src {(NEW, OLD)[number]}" in pending.routes(200)
    assert not Path("/tmp/rig/canary").exists()
    loose = [path for path in Path("/run/multihook").rglob("*") if path.stat().st_mode & 0o022]
    assert loose == [] and Path("/run/multihook/private").stat().st_mode & 0o777 == 0o700


@pytest.mark.fault("F22")
def test_files_have_the_same_modes_whatever_the_mask(pending: World) -> None:
    """State that `status` reads without root is readable, private things are not, whatever the caller's umask was."""
    modes = []
    session = pending.sessions["ppp0"]
    for number, mask in enumerate((0o022, 0o777, 0)):
        subprocess.run(["rm", "-rf", "/run/multihook"], check=True)
        address = f"203.0.113.{90 + number}"
        session.readdress(address)
        call(pending, *PPPD[:4], address, PEER, "", preexec_fn=lambda mask=mask: os.umask(mask) and None)
        found = [Path("/run/multihook"), *Path("/run/multihook").rglob("*")]
        modes.append({str(path): oct(path.stat().st_mode) for path in found})
    assert modes[0] == modes[1] == modes[2]
    assert modes[0]["/run/multihook/leases/dsl.inet"] == modes[0]["/run/multihook/last"] == "0o100644"
    assert modes[0]["/run/multihook/private"] == "0o40700"


LIMITS = {
    # dash needs three descriptors above 9 for the redirections of the entry point.
    "files 13": (resource.RLIMIT_NOFILE, 13),
    "files 14": (resource.RLIMIT_NOFILE, 14),
    "processes 0": (resource.RLIMIT_NPROC, 0),
    "file size 0": (resource.RLIMIT_FSIZE, 0),
    "file size 100": (resource.RLIMIT_FSIZE, 100),
    "memory 8 MB": (resource.RLIMIT_AS, 8 << 20),
    "memory 24 MB": (resource.RLIMIT_AS, 24 << 20),
    "stack 64 KB": (resource.RLIMIT_STACK, 64 << 10),
    "cpu 1 s": (resource.RLIMIT_CPU, 1),
    "core": (resource.RLIMIT_CORE, 0),
}


@pytest.mark.fault("F22")
def test_limits_of_resources_do_not_reach_the_caller(pending: World) -> None:
    """A hook that is not let do its work is silent all the same, and leaves nothing that the next one trips over."""
    session = pending.sessions["ppp0"]
    for number, (limit, (kind, value)) in enumerate(LIMITS.items()):
        address = f"203.0.113.{200 + number}"
        session.readdress(address)
        # Set inside: `ip netns exec` itself needs more.
        option = f"--{_PRLIMIT[kind]}={value}:{value}" if value >= 0 else f"--{_PRLIMIT[kind]}=unlimited"
        start = time.monotonic()
        done = call(pending, "prlimit", option, *PPPD[:4], address, PEER, "")
        if limit != "memory 8 MB":  # there the shell itself may not start
            assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), limit
        assert time.monotonic() - start < BOUND_SECONDS, limit
        entries = pending.log.entries()
        assert all(len(entry.text) < 1000 and "Traceback" not in entry.text for entry in entries)
        assert [entry for entry in entries if "internal error" in entry.text] == [], limit
        session.up_event()
        assert f"default dev ppp0 proto 109 scope link src {address}" in pending.routes(200), limit
    assert pending.multihook("sync").returncode == 0 and pending.multihook("status").returncode == 0


_PRLIMIT = {
    resource.RLIMIT_NOFILE: "nofile", resource.RLIMIT_NPROC: "nproc", resource.RLIMIT_FSIZE: "fsize", resource.RLIMIT_AS: "as",
    resource.RLIMIT_STACK: "stack", resource.RLIMIT_CPU: "cpu", resource.RLIMIT_CORE: "core",
}  # fmt: skip


@pytest.mark.fault("F47")
def test_without_the_right_to_change_the_network_one_line_says_so(pending: World) -> None:
    """No CAP_NET_ADMIN: nothing is changed, the event is not lost, and the log names the capability once."""
    before = pending.snapshot()
    for _ in range(3):
        done = call(pending, "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", *PPPD)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert pending.snapshot() == before
    (first, *again) = pending.log.entries()
    assert first.severity == "err" and "CAP_NET_ADMIN" in first.text
    assert all("(2 times)" in entry.text for entry in again) and len(again) == 1
    # With the right again, an event of the other link is enough.
    pending.sessions["ppp1"].up_event()
    assert applied(pending)


@pytest.mark.fault("F47")
def test_a_hook_run_by_nobody_says_nothing_and_changes_nothing(pending: World) -> None:
    """Somebody tries it by hand without root."""
    before = pending.snapshot()
    done = call(pending, "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *PPPD)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert pending.snapshot() == before
    assert all("Traceback" not in line and "internal error" not in line for line in pending.log.lines())
    pending.sessions["ppp0"].up_event()
    assert applied(pending)


@pytest.mark.fault("F46")
def test_hooks_need_no_program_at_all(pending: World) -> None:
    """With ip, nft and every other program hidden they do their work: only Python is called."""
    hide = "mount -t tmpfs none /usr/local; for p in /usr/sbin/ip /usr/bin/ip /usr/sbin/nft /usr/bin/systemd-run /usr/bin/logger; do "
    hide += "if [ -e $p ]; then mount --bind /dev/null $p; fi; done; exec "
    done = call(pending, "unshare", "-m", "sh", "-c", hide + " ".join(PPPD))
    silent_and_applied(pending, done)


PIECES = (
    ("hook.py", "import nothing_of_that_name\n"),
    ("hook.py", "def main(:\n"),
    ("hook.py", ""),
    ("engine.py", "raise SystemExit(3)\n"),
    ("run.py", "1 / 0\n"),
    ("lock.py", "raise KeyboardInterrupt\n"),
    ("hook.py", "def main(arguments):\n    raise RecursionError('x' * 100000 + chr(10))\n"),
)


@pytest.mark.fault("F13")
def test_a_package_in_pieces_is_one_line_in_the_log(pending: World) -> None:
    """Half an upgrade, a bad disk, a mistake of ours: status 0, silence, one line that says what to do."""
    # Else the table of code, which is whole, runs instead.
    Path("/usr/lib/python3/dist-packages/multihook/__pycache__/multihook.codetable").unlink()
    for victim, content in PIECES:
        module = Path("/usr/lib/python3/dist-packages/multihook", victim)
        kept = module.read_bytes()
        cached = [(path, path.read_bytes()) for path in module.parent.glob(f"__pycache__/{module.stem}.*.pyc")]
        pending.log.clear()
        try:
            module.write_text(content)
            for path, _ in cached:
                path.unlink()
            done = call(pending, *PPPD)
            entries = pending.log.entries()
            # Not every caller is as careful as the entry points in /etc, which an administrator may change.
            itself = call(pending, *EVENT)
        finally:
            module.write_bytes(kept)
            for path, data in cached:
                path.write_bytes(data)
        for outcome in (done, itself):
            assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", ""), content
        assert len(entries) == 1 and entries[0].severity == "err" and "`multihook sync`" in entries[0].text, (victim, content, entries)
        assert len(entries[0].text) <= 1000 and "\n" not in entries[0].text
    pending.multihook("sync", check=True)
    assert applied(pending)

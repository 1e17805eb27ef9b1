"""notify.d with real events: each program hears each change once, and nothing that it does is in anybody's way."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from world import World
from world.namespaces import wait_until

ONE, TWO, NEW, PEER = "203.0.113.45", "203.0.113.46", "203.0.113.77", "203.0.113.1"
NOTIFY, HEARD = Path("/etc/multihook/notify.d"), Path("/run/notify-heard")
PRIVATE = Path("/run/multihook/private")
CONFIG = '[link.dsl]\ninterface = "ppp0"\ntable = 200\n[link.lte]\ninterface = "ppp1"\ntable = 201\n'
NAMES = ("LINK", "INTERFACE", "FAMILY", "STATE", "OLD_ADDRESS", "ADDRESS", "GATEWAY", "TABLE", "SOURCE", "REASON")
# One line a run: name of the program, then the values in the order above.
RECORD = f"""#!/bin/sh
echo "${{0##*/}} {" ".join(f"[${{MULTIHOOK_{name}-unset}}]" for name in NAMES)}" >>{HEARD}
"""


def program(name: str, text: str, mode: int = 0o755) -> Path:
    path = NOTIFY / name
    path.write_text(text)
    path.chmod(mode)
    return path


def heard(name: str = "record") -> list[str]:
    """What the program of that name was told, one line a run."""
    lines = HEARD.read_text().splitlines() if HEARD.exists() else []
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{name} ")]


def wait_heard(count: int, name: str = "record") -> list[str]:
    wait_until(f"{count} line(s) of {name}", lambda: len(heard(name)) >= count, 15)
    return heard(name)


def quiet(world: World) -> None:
    """Until nobody has anything left to tell."""
    news = PRIVATE / "news"
    wait_until("the news to be told", lambda: not list(news.glob("*.0*")), 15)
    world.settle()


@pytest.fixture
def listening(world: World) -> Iterator[World]:
    """Two PPP lines to come, and a program that writes down what it is told."""
    HEARD.unlink(missing_ok=True)
    NOTIFY.mkdir(exist_ok=True)
    NOTIFY.chmod(0o755)
    world.configure(CONFIG)
    program("record", RECORD)
    yield world
    quiet(world)
    HEARD.unlink(missing_ok=True)


@pytest.mark.fast
def test_each_change_of_a_link_is_told_once_with_what_was_and_what_is(listening: World) -> None:
    session = listening.ppp_up("ppp0", ONE, PEER)
    assert wait_heard(1) == [f"[dsl] [ppp0] [inet] [up] [] [{ONE}] [] [200] [pppd] [ip-up]"]
    session.up_event()
    session.down_event(local="203.0.113.99")
    listening.multihook("sync", check=True)
    session.reconnect(NEW)
    assert wait_heard(3)[1:] == [
        f"[dsl] [ppp0] [inet] [down] [{ONE}] [] [] [200] [pppd] [ip-down]",
        f"[dsl] [ppp0] [inet] [up] [{ONE}] [{NEW}] [] [200] [pppd] [ip-up]",
    ]
    session.readdress(ONE)
    listening.multihook("sync", check=True)
    assert wait_heard(4)[3:] == [f"[dsl] [ppp0] [inet] [up] [{NEW}] [{ONE}] [] [200] [pppd] [found]"]
    listening.multihook("down", "ppp0", check=True)
    assert wait_heard(5)[4:] == [f"[dsl] [ppp0] [inet] [down] [{ONE}] [] [] [200] [command] [down by hand]"]
    quiet(listening)
    assert len(heard()) == 5


def test_the_gateway_of_a_dhcp_line_and_an_adopted_link_are_told_too(listening: World) -> None:
    cable = listening.provider("cable", "198.51.100.0/24", wire="wan1")
    cable.serve_dhcp()
    client = listening.dhcp_up("wan1")
    (line,) = wait_heard(1)
    assert line == f"[wan1] [wan1] [inet] [up] [] [{client.address}] [198.51.100.1] [1000] [dhclient] [BOUND]"


@pytest.mark.fault("F21")
def test_what_a_program_gets_besides_is_fixed(listening: World) -> None:
    program(
        "surroundings",
        f"""#!/bin/sh
exec >{HEARD}.more
env | grep -v ^MULTIHOOK_ | sort
echo "$(pwd) $(umask) $(readlink /proc/self/fd/0)"
ls /proc/$$/fd
readlink /proc/$PPID/fd/* >&2
[ "$(ps -o sid= -p $PPID | tr -d ' ')" = $PPID ] && echo own session
grep SigIgn /proc/$$/status
ps -o sid= -p $$ | tr -d ' '
echo $$
""",
    )
    secret, write_end = os.pipe()
    os.set_inheritable(secret, True)
    listening.ppp_up("ppp0", ONE, PEER, event=False)
    listening.box.run(
        "/bin/sh", "-c", 'trap "" QUIT USR1; exec "$@"', "sh",
        "/usr/lib/multihook/event", "pppd", "ip-up", "ppp0", "", "0", ONE, PEER, "",
        env={"EVIL": "x", "PATH": "/tmp", "LD_PRELOAD_": "x"}, close_fds=False,
    )  # fmt: skip
    pipe = os.readlink(f"/proc/self/fd/{secret}")
    os.close(secret)
    os.close(write_end)
    wait_heard(1)
    quiet(listening)
    lines = Path(f"{HEARD}.more").read_text().splitlines()
    environment = [line for line in lines if "=" in line and not line.startswith(("PWD=", "_=", "SHLVL=", "OLDPWD="))]
    assert environment == ["LC_ALL=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    assert "/ 0022 /dev/null" in lines and "own session" in lines
    (ignored,) = [int(line.split()[1], 16) for line in lines if line.startswith("SigIgn")]
    assert ignored & 0x7FFFFFFF == 0  # 32 and 33 are the C library's own
    assert not any(pipe in line for line in listening.log.lines()), "whoever runs it holds nothing of the caller's either"
    assert any("/dev/null" in line for line in listening.log.lines())
    numbers = [line for line in lines if line.isdigit()]
    assert set(numbers[:-2]) <= {"0", "1", "2", "3", "10"} and numbers[-1] == numbers[-2], "no descriptor, own session"


@pytest.mark.fault("F25")
def test_hostile_values_never_reach_a_program(listening: World) -> None:
    listening.ppp_up("ppp0", ONE, PEER, ipparam="$(touch /run/notify-heard.evil)`id`", linkname="x;y\nz")
    listening.ppp_up("ppp1", TWO, PEER, dns=("$(reboot)",))
    for line in wait_heard(2):
        assert "$" not in line and "unset" not in line
    listening.dhclient_script("TIMEOUT$(id)", "ppp0", new_ip_address="$(id)")
    quiet(listening)
    assert len(heard()) == 2
    assert not Path("/run/notify-heard.evil").exists()


@pytest.mark.fault("F71")
@pytest.mark.parametrize("what", ["mode", "group", "owner", "setuid", "link", "fifo", "folder", "the folder's mode"])
def test_what_is_not_roots_alone_is_not_run_and_said_in_one_line(listening: World, what: str) -> None:
    odd = program("aaa", RECORD)
    words = f"{odd}: "
    if what == "mode":
        odd.chmod(0o757)
    elif what == "group":
        odd.chmod(0o775)
    elif what == "owner":
        os.chown(odd, 65534, 65534)
    elif what == "setuid":
        odd.chmod(0o4755)
    elif what == "link":
        odd.unlink()
        shutil.copy(NOTIFY / "record", "/tmp/rig/aaa")
        os.chmod("/tmp/rig", 0o777)
        odd.symlink_to("/tmp/rig/aaa")
        words = "/tmp/rig: "
    elif what == "fifo":
        odd.unlink()
        os.mkfifo(odd, 0o755)
    elif what == "folder":
        odd.unlink()
        odd.mkdir()
    else:
        NOTIFY.chmod(0o775)
        words = f"no program is run: {NOTIFY}: "
    listening.ppp_up("ppp0", ONE, PEER)
    if what == "the folder's mode":
        wait_until("the refusal", lambda: any(words in line for line in listening.log.lines()), 10)
        quiet(listening)
        assert heard() == []
    else:
        wait_heard(1)
    quiet(listening)
    assert heard("aaa") == []
    said = [line for line in listening.log.lines() if words in line]
    assert len(said) == (0 if what == "folder" else 1), listening.log.lines()
    NOTIFY.chmod(0o755)


def test_names_with_a_dot_and_what_is_not_executable_are_skipped_in_silence(listening: World) -> None:
    for name in ("record.sh", "record.dpkg-old", "a b", "a~", ".hidden"):
        program(name, RECORD)
    program("README", "how to\n", 0o644)
    listening.ppp_up("ppp0", ONE, PEER)
    wait_heard(1)
    quiet(listening)
    assert HEARD.read_text().count("\n") == 1
    assert not any("notify" in line for line in listening.log.lines())


def test_an_empty_folder_costs_nothing_and_starts_nothing(listening: World) -> None:
    listening.multihook("sync")  # the nft table is made, by a program
    (NOTIFY / "record").unlink()
    (NOTIFY / ".gitignore").unlink(missing_ok=True)
    listening.ppp_up("ppp0", ONE, PEER, event=False)
    argv = ("/usr/lib/multihook/event", "pppd", "ip-up", "ppp0", "", "0", ONE, PEER, "")
    trace = listening.box.run("strace", "-f", "-qq", "-e", "trace=process,openat", *argv).stderr
    assert "notify.d" in trace and "fork" not in trace and "clone" not in trace and trace.count("execve") == 1
    assert not (PRIVATE / "news").exists() and not (PRIVATE / "told").exists()


@pytest.mark.fault("F74")
def test_programs_run_in_order_and_failures_are_said(listening: World) -> None:
    program("aaa-fails", "#!/bin/sh\necho something is wrong >&2\nexit 7\n")
    program("bbb-signal", "#!/bin/sh\nkill -9 $$\n")
    program("ccc-no-interpreter", "#!/does/not/exist\n")
    program("ddd-garbage", "\x00\x01\x02")
    program("eee-loud", "#!/bin/sh\nhead -c 1000000000 /dev/zero | tr '\\0' 'x'\n")
    program("fff-lines", "#!/bin/sh\nseq 1 100; printf '\\033[2J\\377'\n")
    program("zzz", RECORD)
    listening.ppp_up("ppp0", ONE, PEER)
    wait_heard(1, "zzz")
    quiet(listening)
    lines = [line for line in listening.log.lines() if "notify.d/" in line]
    text = "\n".join(lines)
    assert "dsl: notify.d/aaa-fails: something is wrong" in text
    assert "dsl: notify.d/aaa-fails: ended with exit status 7" in text
    assert "dsl: notify.d/bbb-signal: was ended by signal 9" in text
    assert "dsl: notify.d/ccc-no-interpreter: cannot be run: No such file or directory" in text
    assert "dsl: notify.d/ddd-garbage: cannot be run: Exec format error" in text
    assert "dsl: notify.d/eee-loud: (more output is not shown)" in text
    assert "dsl: notify.d/fff-lines: 1\n" in text and "notify.d/fff-lines: 100" not in text
    assert all(len(line) < 400 for line in lines)
    assert text.index("aaa-fails") < text.index("bbb-signal") < text.index("eee-loud")


@pytest.mark.fault("F6", "F73", "F74")
def test_a_program_that_hangs_is_ended_and_routing_and_others_do_not_wait(
    listening: World, short_patience: None
) -> None:
    program("aaa-hangs", f"#!/bin/sh\ntrap '' TERM\necho $$ >>{HEARD}.pids\nsleep 1000 &\necho $! >>{HEARD}.pids\nwait; wait; wait; sleep 1000\n")
    program("zzz", RECORD)
    start = time.monotonic()
    listening.ppp_up("ppp0", ONE, PEER)
    listening.ppp_up("ppp1", TWO, PEER)
    assert time.monotonic() - start < 2.5
    assert "7400: from 203.0.113.46 lookup 201 proto 109" in listening.rules()
    wait_heard(2, "zzz")
    quiet(listening)
    pids = [int(pid) for pid in Path(f"{HEARD}.pids").read_text().split()]
    assert len(pids) == 4 and not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert any("aaa-hangs: was ended: it took longer than" in line for line in listening.log.lines())
    Path(f"{HEARD}.pids").unlink()


@pytest.fixture
def short_patience() -> Iterator[None]:
    """Programs get three seconds and not sixty, and one of grace."""
    path = Path("/usr/lib/python3/dist-packages/multihook/notify.py")
    text = path.read_text()
    path.write_text(text.replace("\nSECONDS = 60.0", "\nSECONDS = 3.0").replace("GRACE_SECONDS = 5.0", "GRACE_SECONDS = 1.0"))
    yield
    path.write_text(text)


@pytest.mark.fault("F74")
def test_what_a_program_leaves_running_is_ended_and_its_pipe_holds_nobody_up(listening: World) -> None:
    program("aaa-forks", f"#!/bin/sh\nsleep 1000 &\necho $! >>{HEARD}.pids\n")
    program("zzz", RECORD)
    listening.ppp_up("ppp0", ONE, PEER)
    wait_heard(1, "zzz")
    quiet(listening)
    (pid,) = Path(f"{HEARD}.pids").read_text().split()
    assert not Path(f"/proc/{pid}").exists()
    Path(f"{HEARD}.pids").unlink()


def test_news_of_a_link_are_told_in_their_order_however_slow_its_programs_are(listening: World) -> None:
    program("record", RECORD.replace("echo", "sleep 0.2; echo"))
    session = listening.ppp_up("ppp0", ONE, PEER)
    addresses = [f"203.0.113.{number}" for number in range(100, 106)]
    for address in addresses:
        session.readdress(address)
        session.up_event(local=address)
    lines = wait_heard(7)
    assert [line.split()[5] for line in lines] == [f"[{address}]" for address in (ONE, *addresses)]
    assert [line.split()[4] for line in lines[1:]] == [f"[{address}]" for address in (ONE, *addresses[:-1])]


def test_nobody_is_told_while_everything_is_held_and_the_sum_of_it_after(listening: World) -> None:
    session = listening.ppp_up("ppp0", ONE, PEER)
    wait_heard(1)
    listening.multihook("flush", check=True)
    session.reconnect("203.0.113.50")
    session.reconnect(NEW)
    quiet(listening)
    assert len(heard()) == 1
    listening.multihook("sync", check=True)
    assert wait_heard(2)[1:] == [f"[dsl] [ppp0] [inet] [up] [{ONE}] [{NEW}] [] [200] [pppd] [ip-up]"]


def test_a_link_whose_routing_failed_is_told_when_it_is_right(listening: World) -> None:
    listening.ppp_up("ppp0", ONE, PEER, event=False)
    listening.box.ip("route add default dev ppp0 table 200")
    listening.sessions["ppp0"].up_event()
    quiet(listening)
    assert heard() == []
    listening.box.ip("route del default dev ppp0 table 200")
    listening.multihook("sync", check=True)
    wait_heard(1)


@pytest.mark.parametrize("state", ["told", "news", "lost"])
def test_told_at_least_once_when_killed_before_it_is_noted(listening: World, state: str) -> None:
    session = listening.ppp_up("ppp0", ONE, PEER)
    wait_heard(1)
    quiet(listening)
    if state == "told":  # killed after the programs were started, before that was written down
        (PRIVATE / "told/dsl.inet").unlink()
        session.up_event()
        assert wait_heard(2)[1] == f"[dsl] [ppp0] [inet] [up] [] [{ONE}] [] [200] [pppd] [ip-up]"
    elif state == "news":  # the process that runs the programs was killed
        program("record", RECORD.replace("echo", "sleep 1000; echo"))
        session.readdress(NEW)
        session.up_event(local=NEW)
        runner = next(pid for pid, line in listening.strays().items() if "multihook/notify" in line)
        wait_until("the program to run", lambda: any("sleep" in line for line in listening.strays().values()), 10)
        left = [pid for pid, line in listening.strays().items() if "record" in line or "sleep" in line]
        for pid in (runner, *left):
            os.kill(pid, signal.SIGKILL)
        program("record", RECORD)
        listening.multihook("sync", check=True)
        assert wait_heard(2)[1] == f"[dsl] [ppp0] [inet] [up] [{ONE}] [{NEW}] [] [200] [pppd] [ip-up]"
    else:  # as after a reboot
        shutil.rmtree("/run/multihook")
        Path("/run/multihook").mkdir()
        session.up_event()
        wait_heard(2)


def test_no_news_leave_no_trace_with_a_program_there(listening: World) -> None:
    session = listening.ppp_up("ppp0", ONE, PEER)
    wait_heard(1)
    quiet(listening)
    # What was written a moment ago may be written again within the same tick: it is looked at once more.
    os.utime("/etc/multihook/multihook.toml", (1_700_000_000.5, 1_700_000_000.5))
    for _ in range(4):
        session.up_event()
    before = state()
    session.up_event()
    assert state() == before
    quiet(listening)
    assert len(heard()) == 1


def state() -> dict[str, tuple[int, int]]:
    """All files of ours: which, and when they were written."""
    found = {str(path): path.lstat() for path in Path("/run/multihook").rglob("*")}
    return {path: (status.st_ino, status.st_mtime_ns) for path, status in found.items()}


def test_a_unit_of_its_own_is_made_where_systemd_runs_and_done_without_where_it_does_not_answer(listening: World) -> None:
    calls = Path("/run/notify-heard.calls")
    fake = Path("/usr/bin/systemd-run")
    saved = fake.rename("/usr/bin/systemd-run.saved") if fake.exists() else None
    booted = Path("/run/systemd/system")
    there = booted.exists()
    booted.mkdir(parents=True, exist_ok=True)
    try:
        fake.write_text(f'#!/bin/sh\necho "$*" >>{calls}\nwhile [ "${{1#--}}" != "$1" ]; do shift; done\n"$@" &\n')
        fake.chmod(0o755)
        listening.ppp_up("ppp0", ONE, PEER)
        wait_heard(1)
        quiet(listening)
        assert calls.read_text() == (
            "--no-block --collect --quiet --description=multihook notify.d: dsl /usr/lib/multihook/notify --here dsl\n"
        )
        fake.write_text("#!/bin/sh\nexit 1\n")
        listening.sessions["ppp0"].reconnect(NEW)
        wait_heard(3)
        quiet(listening)
    finally:
        fake.unlink()
        calls.unlink(missing_ok=True)
        if saved:
            saved.rename(fake)
        if not there:
            booted.rmdir()


@pytest.mark.fault("F73")
def test_the_example_publishes_the_address_by_ssh(listening: World) -> None:
    example = Path("/jail/checkout/debian/examples/notify-publish")
    if not example.exists():
        example = Path("/usr/share/doc/multihook/examples/notify-publish")
    program("publish", example.read_text())
    ssh = Path("/usr/local/bin/ssh")
    ssh.write_text(f'#!/bin/sh\nprintf "ssh %s <%s\\n" "$*" "$(cat)" >>{HEARD}\n')
    ssh.chmod(0o755)
    try:
        listening.ppp_up("ppp1", TWO, PEER)
        listening.ppp_up("ppp0", ONE, PEER)
        (line,) = wait_heard(1, "ssh")
        assert "-o BatchMode=yes" in line and line.endswith(f"<{ONE}") and "publish@server.example.net" in line
        listening.ppp_down("ppp0")
        quiet(listening)
        assert len(heard("ssh")) == 1
        assert any(f"notify.d/publish: published {ONE} (before: none)" in line for line in listening.log.lines())
        ssh.write_text(f"#!/bin/sh\ncat >/dev/null\necho ssh again >>{HEARD}\necho Host key verification failed. >&2\nexit 255\n")
        program("publish", example.read_text().replace("for pause in 3 6 0", "for pause in 0 0"))
        listening.ppp_up("ppp0", NEW, PEER)
        quiet(listening)
        wait_until("the failure", lambda: any("exit status 255" in line for line in listening.log.lines()), 10)
        assert any("not published: ssh ended with status 255" in line for line in listening.log.lines())
        assert heard("ssh")[1:] == ["again", "again"]
    finally:
        ssh.unlink()


def test_what_a_killed_run_had_half_written_of_news_is_swept_by_sync(listening: World) -> None:
    """Found by the crash points: such files stayed until the next boot."""
    listening.ppp_up("ppp0", ONE, PEER)
    wait_heard(1)
    left = [PRIVATE / f"{place}.99999999.new" for place in ("news/dsl.00000000000000000001-9-0", "told/dsl.inet")]
    for path in left:
        path.write_text("multihook ne")
    listening.multihook("sync", check=True)
    assert [path for path in left if path.exists()] == []

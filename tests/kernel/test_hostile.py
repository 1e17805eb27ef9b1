"""G7: hostile input from a network, a caller or a file changes nothing, runs nothing, and is one line in the log."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from world import World

CABLE, ROUTER, DSL, PEER = "198.51.100.7", "198.51.100.1", "203.0.113.45", "203.0.113.1"
CONFIG = """
[link.dsl]
interface = "ppp0"
table = 200

[link.cable]
interface = "wan1"
table = 201
"""
DHCLIENT_HOOK = "/etc/dhcp/dhclient-exit-hooks.d/multihook"
CANARY = "/tmp/rig/canary"
LONGEST = 131071 - 64  # execve(2): MAX_ARG_STRLEN, the variable's name and "=" included

# What a shell, a terminal, a path, a format or a parser of addresses would take for something else.
HOSTILE = [
    f"$(touch {CANARY})",
    f"`touch {CANARY}`; touch {CANARY} | touch {CANARY}",
    f"x\ntouch {CANARY}\n",
    f"'; touch {CANARY}; '\"; touch {CANARY}; \"",
    "../../../../etc/passwd {0.__class__} %s %n",
    "\x1b]0;title\x07\x1b[2J\x01\x7f\r",
    "\xff\xfe\x80",
    "B" * LONGEST,
    "127.0.0.9/8",
]
CLASSLESS = "new_rfc3442_classless_static_routes"

GOOD = {
    "reason": "RENEW",
    "interface": "wan1",
    "new_ip_address": CABLE,
    "new_subnet_mask": "255.255.255.0",
    "new_routers": ROUTER,
    "new_domain_name_servers": "198.18.0.53 198.18.0.54",
    "new_dhcp_server_identifier": ROUTER,
    "old_ip_address": CABLE,
}


def hook(world: World, variables: dict[str, str], check: bool = True) -> None:
    """dhclient-script sources our hook with these variables and nothing else; bytes go as they are."""
    env = {b"PATH": b"/usr/bin:/bin", **{k.encode(): v.encode("utf-8", "surrogateescape") for k, v in variables.items()}}
    start = time.monotonic()
    done = subprocess.run(
        world.box.argv("dash", "-eu", "-c", f". {DHCLIENT_HOOK}; echo end"), env=env, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"end\n", b""), variables
    assert time.monotonic() - start < 6
    world.settle(1)


def ip_up(world: World, *arguments: str, script: str = "ip-up", **variables: str) -> None:
    """The entry point in ip-up.d with these arguments, as run-parts calls it."""
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **variables}
    argv = [os.fsencode(word) for word in world.box.argv(f"/etc/ppp/{script}.d/multihook", *arguments)]
    done = subprocess.run(argv, env=env, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), arguments
    world.settle(1)


def files() -> dict[str, str]:
    """What is kept of links; not how often a warning came, and not what the configuration was made of."""
    tops = ("/run/multihook/leases", "/run/multihook/private/spool", "/var/lib/multihook", "/etc/iproute2/rt_tables.d")
    paths = [path for top in tops for path in Path(top).rglob("*") if path.is_file()]
    return {str(path): path.read_bytes().decode(errors="backslashreplace") for path in paths}


def state(world: World) -> dict[str, Any]:
    """All that hostile input must not change: the kernel, the records, and the file that nobody may make."""
    return {**world.snapshot(), **files(), "canary": Path(CANARY).exists()}


def kernel(found: dict[str, Any]) -> dict[str, Any]:
    """The part of a state that is not our own files."""
    return {name: value for name, value in found.items() if not name.startswith("/")}


def same(world: World, before: dict[str, Any], what: object) -> None:
    """The state is as before; a difference is shown with its name alone."""
    after = state(world)
    for name in before.keys() | after.keys():
        assert after.get(name) == before.get(name), (what, name)


def one_line(world: World, what: object) -> str:
    """Exactly one line was logged; it is printable and bounded. Forgets it."""
    world.log._flush()  # datagrams as they came
    datagrams = list(world.log.datagrams)
    lines = world.log.lines()
    world.log.clear()
    assert len(datagrams) == len(lines) == 1, (what, lines)
    assert len(datagrams[0]) <= 1024 and lines[0].isascii() and lines[0].isprintable(), lines
    assert "internal error" not in lines[0] and "Traceback" not in lines[0], lines
    return str(lines[0])


@pytest.fixture
def lines(world: World) -> World:
    """Two links in line: ppp0 by pppd, wan1 by a lease whose default route is in our table only."""
    world.configure(CONFIG)
    world.box.ip("link add wan1 type veth peer name far1", "link set wan1 up", "link set far1 up")
    world.box.ip(f"addr add {CABLE}/24 dev wan1")
    world.ppp_up("ppp0", DSL, PEER)
    hook(world, {**GOOD, "reason": "BOUND"})
    assert f"default via {ROUTER} dev wan1 proto 109 src {CABLE}" in world.routes(201)
    assert world.multihook("status").returncode == 0
    world.log.clear()
    return world


def unforgettable(world: World) -> None:
    """Warnings start to count anew."""
    Path("/run/multihook/private/repeats").unlink(missing_ok=True)


# --- dhclient ---

# What must be an address of the link's or a router's, or be made of some.
VALUES = ("new_ip_address", "new_routers", "new_domain_name_servers", "new_dhcp_server_identifier", CLASSLESS)


@pytest.mark.fault("F25", "F26", "F27", "F28", "F31")
@pytest.mark.fast
def test_hostile_words_of_dhclient(lines: World) -> None:
    """One of each kind, by Debian's own script; tests/plain/test_sources.py and the fuzzing have all others."""
    before = state(lines)
    for value in HOSTILE:
        unread = dict.fromkeys(("new_domain_name", "new_host_name", "new_wpad_url"), value[:4000])
        for name in (*VALUES, "interface", "old_ip_address"):
            reason = "EXPIRE" if name == "old_ip_address" else "RENEW"
            unforgettable(lines)
            hook(lines, {**GOOD, **unread, "reason": reason, name: value})
            line = one_line(lines, (name, value[:60]))
            assert "is no interface name" in line if name == "interface" else name in line, (name, line)
            same(lines, before, (name, value[:60]))
        # A reason that nobody knows has the link looked at, and nothing of what comes with it is read.
        hook(lines, {**GOOD, **unread, "reason": value, "new_ip_address": "198.51.100.99"})
        assert lines.log.lines() == []
        same(lines, before, value[:60])


@pytest.mark.fault("F27")
@pytest.mark.fast
def test_a_hostile_router_of_a_new_lease(lines: World) -> None:
    """Gateways that the kernel would take, or refuse in the middle of the work: 0.0.0.0, our own, another card's."""
    before = state(lines)
    for value in (CABLE, DSL, "0.0.0.0", "169.254.1.1", "198.51.100.255", "198.51.100.0", "2001:db8::1"):
        unforgettable(lines)
        hook(lines, {**GOOD, "new_routers": value})
        one_line(lines, value)
        same(lines, before, value)
    # Of several the first that can be one.
    lines.box.ip("addr add 198.51.100.8/24 dev wan1", f"addr del {CABLE}/24 dev wan1", "addr replace 198.51.100.8/24 dev wan1")
    unforgettable(lines)
    lines.log.clear()
    routers = f"0.0.0.0 198.51.100.8 169.254.1.1 {ROUTER} 198.51.100.9"
    hook(lines, {**GOOD, "reason": "BOUND", "new_ip_address": "198.51.100.8", "new_routers": routers})
    assert f"default via {ROUTER} dev wan1 proto 109 src 198.51.100.8" in lines.routes(201)
    assert lines.multihook("status").returncode == 0


HOSTILE_ROUTES = {
    "loopback": "8 127 198 51 100 1",
    "one address of it": "32 127 0 0 1 198 51 100 1",
    "multicast": "4 224 198 51 100 1",
    "everything reserved": "4 240 198 51 100 1",
    "the network of nobody": "8 0 198 51 100 1",
    "by loopback": "16 10 9 127 0 0 1",
    "by multicast": "16 10 9 224 0 0 5",
    "by broadcast": "16 10 9 255 255 255 255",
    "by the broadcast address of the segment": "16 10 9 198 51 100 255",
    "by the link's own address": f"16 10 9 {CABLE.replace('.', ' ')}",
    "by an address of another link": f"16 10 9 {DSL.replace('.', ' ')}",
}


@pytest.mark.fault("F33")
def test_hostile_routes_beside_a_good_default_are_left_out_and_said(lines: World) -> None:
    """Option 121 that can be read, with one route that can be none: it alone is not used, and one line names it."""
    before = kernel(state(lines))
    good = f" 0 {ROUTER.replace('.', ' ')}"
    for what, routes in HOSTILE_ROUTES.items():
        unforgettable(lines)
        hook(lines, {**GOOD, CLASSLESS: routes + good})
        assert "not used" in one_line(lines, what)
        assert kernel(state(lines)) == before, what
    assert lines.multihook("status").returncode == 0


@pytest.mark.fault("F80")
def test_the_same_rubbish_at_each_renewal_is_counted(lines: World) -> None:
    """A server that says it for months: the 1st, 2nd, 4th, 8th ... time, with the count; other rubbish is said at once."""
    for _ in range(20):
        hook(lines, {**GOOD, "new_routers": "0.0.0.0"})
    said = lines.log.lines()
    assert [line.rpartition(" (")[2] for line in said[1:]] == ["2 times)", "4 times)", "8 times)", "16 times)"], said
    assert len({line.partition(" (2 times)")[0].split(" (")[0] for line in said}) == 1
    lines.log.clear()
    hook(lines, {**GOOD, "new_routers": "0.0.0.1"})
    assert "times" not in one_line(lines, "other rubbish")


# --- pppd ---

ARGUMENTS = ("ppp0", "/dev/pts/0", "38400", DSL, PEER, "param")


@pytest.mark.fault("F37")
def test_hostile_words_of_pppd(lines: World) -> None:
    """One of each kind in each place of ip-up and ip-down, and in pppd's variables; of tty, speed and peer nothing is read."""
    ip_up(lines, *ARGUMENTS)
    before = state(lines)
    lines.log.clear()
    for value in HOSTILE:
        unread = dict.fromkeys(("PPP_LOCAL", "IPLOCAL", "PEERNAME", "CALL_FILE"), value[:4000])
        for position in range(6):
            arguments = [value if place == position else word for place, word in enumerate(ARGUMENTS)]
            # With a right address ip-down means what it says.
            for script in ("ip-up", "ip-down") if position in (0, 3) else ("ip-up",):
                unforgettable(lines)
                ip_up(lines, *arguments, script=script, **unread)
                is_name = position == 5 and value.isprintable() and len(value) <= 256
                if position in (1, 2, 4) or is_name:
                    assert lines.log.lines() == [], (position, value[:60])
                else:
                    one_line(lines, (script, position, value[:60]))
                if is_name:  # like any other, shown and compared and nothing else
                    assert kernel(state(lines)) == kernel(before), value[:60]
                    ip_up(lines, *ARGUMENTS)
                same(lines, before, (script, position, value[:60]))
        unforgettable(lines)
        ip_up(lines, *ARGUMENTS, DNS1=value[:4000])
        assert "DNS1" in one_line(lines, value[:60])
        same(lines, before, value[:60])


@pytest.mark.fault("F37")
@pytest.mark.fast
def test_missing_and_surplus_arguments(lines: World) -> None:
    """ip-up by hand: one line with the usage, nothing changed; also the event program itself, called in any way."""
    before = state(lines)
    for count in range(5):
        unforgettable(lines)
        for script in ("ip-up", "ip-down"):
            ip_up(lines, *ARGUMENTS[:count], script=script)
            assert "arguments" in one_line(lines, count)
    unforgettable(lines)
    ip_up(lines, *ARGUMENTS, *["more"] * 5000)
    for words in ([], [""], ["--help"], ["pppd"], ["pppd", "ip-sideways"], ["dhclient"], ["$(id)"], ["--attempt=x"], ["--attempt="],
                  ["--attempt=99999999999999999999", "pppd"], ["pppd\nip-up"], ["../../bin/sh"], ["__import__"], ["ifupdown", "up"]):  # fmt: skip
        unforgettable(lines)
        lines.log.clear()
        done = lines.box.run("/usr/lib/multihook/event", *words, check=False, env={"PATH": "/usr/bin:/bin"})
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), words
        one_line(lines, words)
    assert kernel(state(lines)) == kernel(before)


# --- a real server ---


@pytest.mark.fault("F25")
def test_a_real_server_that_sends_commands(world: World) -> None:
    """Host name, domain, boot file, WPAD, option 121 by a real DHCP server through real dhclient and all of Debian's hooks."""
    poison = f"$(touch {CANARY})"
    tick = f"`touch {CANARY}`;touch {CANARY}"
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    cable.serve_dhcp(
        options=(
            f"option:domain-name,{poison}", "option:domain-search,x", f"option:tftp-server,{tick}", f"option:bootfile-name,{poison}",
            f"252,http://x/{tick}", f"option:nis-domain,{poison}", f"option:root-path,{tick}", f"249,{poison}",
        )
    )  # fmt: skip
    fibre = world.provider("fibre", "203.0.113.0/24", wire="wan2")
    fibre.serve_dhcp(router="0.0.0.0")
    first = world.dhcp_up("wan1")
    world.dhcp_up("wan2", metric=10)
    assert not Path(CANARY).exists()
    assert first.address and world.connect(source=first.address).by == {"wan1"}
    for line in world.log.lines():
        assert line.isascii() and line.isprintable() and len(line) < 1000


# --- names that the kernel accepts ---

KERNEL_NAMES = ["a;id", "b$(id)", "c*", 'd"q', "e'q", "é", "-x", "#c", "a|b", "a\\b", "~", "a@b", "\x7f", "drop", "0", "`id`", "_", "all ", "a=b"]


@pytest.mark.fault("F31", "F32")
def test_interfaces_with_names_that_a_shell_or_nft_would_misread(world: World) -> None:
    """Each has an address and a default route, as a link to adopt would; only names on the allow-list are."""
    world.box.ip("link add wan1 type veth peer name far1", "link set wan1 up", "link set far1 up")
    world.box.ip(f"addr add {CABLE}/24 dev wan1", f"route add default via {ROUTER} dev wan1")
    made = []
    for number, name in enumerate(KERNEL_NAMES):
        peer = f"peer{number}"
        done = world.box.run("ip", "link", "add", "name", name, "type", "veth", "peer", "name", peer, check=False)
        if done.returncode:
            continue  # not every kernel and iproute2 takes each of them
        made.append(name)
        world.box.run("ip", "link", "set", "dev", name, "up")
        world.box.run("ip", "link", "set", "dev", peer, "up")
        world.box.run("ip", "addr", "add", f"10.{number}.0.2/24", "dev", name)
        world.box.run("ip", "route", "add", "default", "via", f"10.{number}.0.1", "dev", name, "metric", str(100 + number))
    assert len(made) >= 12, made
    foreign = world.snapshot(ours=False)
    world.box.run("touch", "/etc/multihook/conf.d/x.toml")
    done = world.multihook("sync")
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert world.snapshot(ours=False) == foreign
    good = {name for name in made if name in ("drop", "0")} | {"wan1"}
    touched = {rule["oif"] for rule in world.snapshot(foreign=False)["rules4"] if "oif" in rule}
    assert touched == good
    assert set(world.snapshot(foreign=False)["group"]) == good
    # Events for them: refused by name. For the others beside them: as ever.
    for name in made:
        if name not in good:
            unforgettable(world)
            world.log.clear()
            hook(world, {**GOOD, "reason": "BOUND", "interface": name, "new_ip_address": "10.0.0.2", "new_routers": "10.0.0.1"})
            assert "is no interface name" in one_line(world, name)
    for words in (["status"], ["status", "--json"], ["sync", "--dry-run"], ["sync"]):
        done = world.multihook(*words)
        assert done.returncode == 0 and done.stderr == "", words
        assert all(c.isprintable() or c == "\n" for c in done.stdout), words
    with world.ip_monitor() as heard:
        world.multihook("sync", check=True)
    assert heard == []
    for name in made:
        done = world.multihook("up", "--", name)
        assert (done.returncode == 2) == (name not in good), (name, done.stderr)
        assert "Traceback" not in done.stderr
    names = Path("/etc/iproute2/rt_tables.d/multihook.conf").read_text()
    assert all(c.isprintable() or c in "\n\t" for c in names)
    world.multihook("flush", check=True)
    assert world.snapshot(ours=False) == foreign


# --- configuration ---

LINKS = CONFIG.strip()
# One of each kind; tests/plain/test_config_toml.py, test_config_schema.py and the fuzzing have all others.
WRONG_FILES: dict[str, str | bytes] = {
    "syntax": LINKS + "\n[link.x\n",
    "shell": f"interface=$(touch {CANARY})\n",
    "unknown key": LINKS + "\n[multihook]\nadapt = true\n",
    "two links with one table": LINKS + '\n[link.x]\ninterface = "ppp7"\ntable = 200\n',
    "a reserved table": LINKS.replace("200", "254"),
    "a number of 5000 digits": LINKS.replace("200", "9" * 5000),
    "name": LINKS + f'\n[link."$(touch {CANARY})"]\ninterface = "ppp7"\n',
    "interface": LINKS + f'\n[link.x]\ninterface = """$(touch {CANARY})"""\n',
    "gateway": LINKS + '\n[link.x]\ninterface = "ppp7"\ngateway = "127.0.0.1"\n',
    "sources": LINKS + '\n[link.x]\ninterface = "ppp7"\nsources = ["0.0.0.0/0"]\n',
    "not UTF-8": LINKS.encode() + b"\n# \xff\xfe\n",
    "NUL": LINKS + "\n# \0\n",
    "control characters": LINKS + "\n\x1b[31m\n",
    "2 MB": LINKS + "\n#" + "x" * (2 << 20),
    "deep lists": LINKS + "\n[multihook]\nignore = " + "[" * 5000 + "]" * 5000 + "\n",
    "keys as deep as a file is long": LINKS + "\n" + "a." * 400000 + "b = 1\n",
    "a thousand mistakes": "".join(f"[link.X{n}]\n" for n in range(1000)),
}


def refused(world: World, before: dict[str, Any], what: str) -> None:
    """The files are wrong: two events and a look; the last good configuration goes on, and one line says why."""
    world.log.clear()
    hook(world, GOOD)
    line = one_line(world, what)
    assert "/etc/multihook" in line and "the last good configuration stays in force" in line, line
    hook(world, GOOD)
    assert world.log.lines() == [], what
    assert kernel(state(world)) == kernel(before), what
    done = world.multihook("check-config")
    assert done.returncode == 78 and done.stdout == "", what
    said = done.stderr.splitlines()
    assert 1 <= len(said) <= 21 and all(len(line) < 1000 and line.isprintable() for line in said), (what, said)
    assert all("/etc/multihook" in line or line.startswith("and ") for line in said), (what, said)


@pytest.mark.fault("F69")
def test_each_kind_of_wrong_file_leaves_the_last_good_configuration(lines: World) -> None:
    """Refused as a whole, in one line, and mended by a new file."""
    before = state(lines)
    path = Path("/etc/multihook/multihook.toml")
    for what, content in WRONG_FILES.items():
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        refused(lines, before, what)
        path.write_text(CONFIG)
        hook(lines, GOOD)
        assert lines.log.lines() == []
        same(lines, before, what)


@pytest.mark.fault("F69")
def test_wrong_files_still_let_a_link_change_its_address(lines: World) -> None:
    """The last good configuration is not only kept, it works: a new address is applied, and status says 78."""
    lines.configure("[link.dsl\n")
    lines.box.ip("addr add 198.51.100.8/24 dev wan1", f"addr del {CABLE}/24 dev wan1", "addr replace 198.51.100.8/24 dev wan1")
    hook(lines, {**GOOD, "reason": "BOUND", "new_ip_address": "198.51.100.8"})
    assert f"default via {ROUTER} dev wan1 proto 109 src 198.51.100.8" in lines.routes(201)
    done = lines.multihook("status")
    assert done.returncode == 78 and "the last good configuration is in force" in done.stdout
    done = lines.multihook("sync")
    assert done.returncode == 78 and "multihook.toml:1:" in done.stderr


@pytest.mark.fault("F12")
def test_wrong_files_before_there_ever_was_a_good_one_change_nothing(world: World) -> None:
    """No last good configuration: the kernel is left as it is, and that is said."""
    Path("/var/lib/multihook/last-good.json").unlink(missing_ok=True)  # installing the package leaves one
    world.configure("[link.dsl\n")
    before = world.snapshot()
    world.ppp_up("ppp0", DSL, PEER, defaultroute=True)
    world.ppp_up("ppp1", "203.0.113.46", PEER)
    assert world.snapshot(foreign=False) == {**world.snapshot(foreign=False), "rules4": [], "routes4": [], "group": []}
    assert before["rules4"] == world.snapshot()["rules4"]
    (line,) = world.log.lines()
    assert "nothing will be changed" in line
    assert world.multihook("sync").returncode == 78
    world.configure(CONFIG)
    world.sessions["ppp0"].up_event()
    assert "default dev ppp0 proto 109 scope link src 203.0.113.45" in world.routes(200)


@pytest.mark.fault("F71")
@pytest.mark.parametrize("way", ["fifo", "owner", "writable"])
@pytest.mark.parametrize("name", ["multihook.toml", "conf.d/50-x.toml", "", "conf.d"])
def test_a_file_or_folder_that_is_not_to_be_believed_is_refused(lines: World, name: str, way: str) -> None:
    """Not root's, writable by others, a fifo in its place: refused by name, and no hook hangs on it."""
    path, aside = Path("/etc/multihook", name), Path("/etc/aside")
    if name == "conf.d/50-x.toml":
        path.touch()
        hook(lines, GOOD)
    before = state(lines)
    owner, mode = path.stat().st_uid, path.stat().st_mode & 0o7777
    if way == "fifo":
        path.rename(aside)
        os.mkfifo(path)
    elif way == "owner":
        os.chown(path, 65534, 65534)
    else:
        path.chmod(0o777 if path.is_dir() else 0o666)
    try:
        refused(lines, before, f"{name}: {way}")
    finally:
        if aside.exists():
            path.unlink()
            aside.rename(path)
        os.chown(path, owner, owner)
        path.chmod(mode)
    hook(lines, GOOD)
    assert lines.log.lines() == []
    assert lines.multihook("check-config").returncode == 0


@pytest.mark.fault("F69")
def test_editors_marks_and_line_ends_are_no_mistakes(lines: World) -> None:
    """A byte order mark, CRLF, a comment in any language, no newline at the end, a symlink of root's to a plain file."""
    before = kernel(state(lines))
    path = Path("/etc/multihook/multihook.toml")
    for content in ("\ufeff" + CONFIG, CONFIG.replace("\n", "\r\n"), CONFIG + "# Привет 世界", CONFIG.rstrip()):
        path.write_bytes(content.encode())
        hook(lines, GOOD)
        assert lines.log.lines() == []
        assert kernel(state(lines)) == before
    path.rename("/etc/multihook.real")
    path.symlink_to("/etc/multihook.real")
    try:
        hook(lines, GOOD)
        assert lines.log.lines() == [] and lines.multihook("check-config").returncode == 0
    finally:
        Path("/etc/multihook.real").unlink()


@pytest.mark.fault("F43")
def test_numbers_and_names_that_others_have_are_refused(lines: World) -> None:
    """rt_tables.d of somebody else: his table number, his name, his protocol; found when his file appears and when it goes."""
    before = state(lines)
    for kind, content, words in (
        ("rt_tables", "200 voip\n", "link.dsl.table"),
        ("rt_tables", "300 cable\n", "link.cable"),
        ("rt_tables", "0xc8 voip\n", "link.dsl.table"),
        ("rt_protos", "109 else\n", "rt_proto"),
    ):
        path = Path(f"/etc/iproute2/{kind}.d/other.conf")
        path.write_text(content)
        lines.log.clear()
        hook(lines, GOOD)
        line = one_line(lines, content)
        assert words in line and str(path) in line
        assert lines.multihook("check-config").returncode == 78
        path.unlink()
        hook(lines, GOOD)
        assert lines.log.lines() == []
    assert kernel(state(lines)) == kernel(before)

"""What a hook imports on its way from start to applied: what is built into the interpreter, and its own hot modules.

Each test runs Debian's interpreter as the entry point does (-I -B -S), with a painted kernel and files of its own.
"""

import ast
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from multihook import image, imaging, paths
from multihook.config import compiled

PACKAGE = Path(image.__file__).parent
PYTHON = "/usr/bin/python3"

# After the kernel's part of a run over everything: names for ip(8), which tables others use, a new image.
MAKER = "multihook.imaging"
AFTERWARDS = {"multihook.names", "multihook.kernel.tables", MAKER}
HOT = {"multihook", "multihook.image", *(f"multihook.{module}" for module in imaging.MODULES)}

# Everything in it is built in, or ours; what it prints is a dict for ast.literal_eval.
PROGRAM = """
import sys
fresh = set(sys.modules)
package, plain, root, settings = sys.argv[1:5]
sys.path[:0] = [package, plain]
from multihook import image, paths
for name, value in list(vars(paths).items()):
    if isinstance(value, str) and value.startswith(("/run/", "/var/", "/etc/", "/proc/")):
        setattr(paths, name, root + value)
image.FILE = paths.PRIVATE + "/image"
if settings == "prepare":
    from multihook.config import compiled
    compiled.compile(True)
    sys.exit()
image.use()
found = {"version": sys.version_info[:2], "builtin": sys.builtin_module_names, "used": image.is_used()}
found |= {"log": [], "new": [], "source": [], "started": []}
import posix
posix.posix_spawn = lambda *arguments, **_: found["started"].append(arguments)
from multihook import hook, journal
from multihook.features import routing
def note(priority, line):
    found["log"].append((priority, line))
journal.write = note
import painted_kernel
sys.modules.pop("painted_kernel")
sys.modules.pop("painted_nft")
kernel = painted_kernel.Painted()
routing.name_of = kernel.name
hook.Door = kernel.door
hook.signal = lambda *_: None
kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True)
kernel.link("eth1", "198.51.100.7/24")
kernel.route("default", "ppp0")
kernel.route("10.0.0.0/8", "eth1", via="198.51.100.254")

def event(environment, *arguments):
    hook.environ = environment
    hook.main(list(arguments))
    found["new"].append(sorted(set(sys.modules) - fresh))

event({}, "pppd", "ipv6-up", "ppp0", "", "0", "fe80::1", "fe80::2", "dsl")
names = {b"LINKNAME": b"l1", b"DNS1": b"192.0.2.53"}
event(names, "pppd", "ip-up", "ppp0", "", "0", "203.0.113.45", "192.0.2.1", "dsl")
lease = {
    b"reason": b"BOUND", b"interface": b"eth1", b"new_ip_address": b"198.51.100.7", b"new_routers": b"198.51.100.1 x",
    b"new_rfc3442_classless_static_routes": b"24 192 0 2 198 51 100 1 0 198 51 100 1",
    b"new_domain_name_servers": b"$(reboot)",
}
event(lease, "dhclient")
shown = kernel.shown()
kernel.no_link("ppp0")
event({}, "pppd", "ip-down", "ppp0", "", "0", "203.0.113.45", "192.0.2.1", "dsl")
kernel.link("ppp0", "203.0.113.77 peer 192.0.2.1", ppp=True)
event({}, "pppd", "ip-up", "ppp0", "", "0", "203.0.113.77", "192.0.2.1", "dsl")
lease[b"new_classless_static_routes"] = lease.pop(b"new_rfc3442_classless_static_routes")
event(lease, "dhcpcd")
stanza = {b"IFACE": b"eth1", b"ADDRFAM": b"inet", b"METHOD": b"static", b"IF_ADDRESS": b"198.51.100.7"}
event(stanza, "ifupdown", "if-up")
event({}, "pppd", "ip-up", "a;id", "", "0", "203.0.113.77", "192.0.2.1", "dsl")
event({}, "nobody")
for name in sys.modules:
    if name.startswith("multihook."):
        # What the image makes past the import machinery has no spec.
        spec = sys.modules[name].__spec__
        found["source"].append((name, getattr(spec.loader, "__name__", "") if spec else "Finder"))
found["shown"] = shown
print(found)
"""

SETTINGS = '[link.dsl]\nipparam = "dsl"\ntable = 200\n[link.cable]\ninterface = "eth1"\ntable = 201\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine's folders with a configuration that has been read once."""
    os.umask(0o022)
    for place in ("run/multihook", "var/lib/multihook", "etc/multihook/conf.d", "etc/iproute2"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "etc/multihook/multihook.toml").write_text(SETTINGS)
    (tmp_path / "etc/multihook/notify.d").mkdir()
    (tmp_path / "etc/multihook/notify.d/program").touch()
    time.sleep(compiled._TICK_NS / 1e9 * 1.5)  # a cache made within a tick of a change is not believed
    start(tmp_path, "prepare")
    return tmp_path


def start(root: Path, settings: str = "", program: str = PROGRAM) -> Any:
    arguments = [PYTHON, "-IBS", "-c", program, str(PACKAGE.parent), str(Path(__file__).parent), str(root), settings]
    done = subprocess.run(arguments, capture_output=True, text=True, env={}, cwd="/", timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return ast.literal_eval(done.stdout) if done.stdout else None


def foreign(found: Any, step: int) -> set[str]:
    """Modules imported until then that are neither built in nor ours."""
    return {name for name in found["new"][step] if name.partition(".")[0] != "multihook"} - set(found["builtin"])


def own(found: Any, step: int) -> set[str]:
    return {name for name in found["new"][step] if name.partition(".")[0] == "multihook"}


def test_a_hook_imports_nothing_but_what_is_built_in_and_its_hot_modules(root: Path) -> None:
    found = start(root)
    assert found["version"] >= (3, 11)
    nothing, first, *later = range(len(found["new"]))
    for step in range(len(found["new"])):
        assert foreign(found, step) == set()
    assert own(found, nothing) <= HOT | {MAKER}, "an event that is none"
    for step in (first, *later):
        assert own(found, step) <= HOT | AFTERWARDS
    assert {"multihook.run", "multihook.features.routing", "multihook.sources.dhclient"} <= own(found, later[-1])
    # they really did something
    assert "7000: from all oif ppp0 lookup 200 priority 7000 protocol 109" in found["shown"]
    assert "192.0.2.0/24 via 198.51.100.1 dev eth1 table 201 proto 109" in found["shown"]
    assert any("-> 203.0.113.77 on ppp0 (pppd ip-up)" in line for _, line in found["log"])
    assert any("a;id" in line for _, line in found["log"])
    assert [started[1][1:] for started in found["started"]][-2:] == [["dsl"], ["dsl"]]
    assert not any("error" in line or "could not be read" in line for _, line in found["log"])


def test_the_list_of_hot_modules_is_what_a_hook_imports_and_nothing_more(root: Path) -> None:
    assert own(start(root), -1) - AFTERWARDS == HOT


def test_the_test_would_see_a_library(root: Path) -> None:
    sneaky = PROGRAM.replace("def note(", "import string\ndef note(")
    assert "string" in foreign(start(root, program=sneaky), 0)


def test_the_second_hook_takes_its_code_from_the_image_and_does_the_same(root: Path) -> None:
    if os.geteuid() != 0:
        return  # only root's image is believed, see below
    first = start(root)
    assert not first["used"]
    second = start(root)
    assert second["used"]
    assert {name for name, loader in second["source"] if loader == "Finder"} == HOT - {
        "multihook",  # the test imports it before
        "multihook.image",
        "multihook.paths",
    }
    assert sorted(second["shown"]) == sorted(first["shown"])
    assert own(second, -1) == own(first, -1) - {MAKER}


# --- the image itself ---


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An image of the package as it is; making one takes half a second."""
    os.umask(0o022)
    path = tmp_path_factory.mktemp("image") / "image"
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(image, "FILE", str(path))
        patches.setattr(paths, "RUN", str(path.parent))
        patches.setattr(paths, "PRIVATE", str(path.parent))
        patches.setattr(paths, "SPOOL", str(path.parent / "spool"))
        imaging.renew()
    assert path.stat().st_mode & 0o7777 == 0o600
    return path.read_bytes()


@pytest.fixture
def believed(made: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh image in a folder of our own; whoever runs this counts as root."""
    path = tmp_path / "image"
    path.write_bytes(made)
    path.chmod(0o600)
    monkeypatch.setattr(image, "FILE", str(path))
    monkeypatch.setattr(image, "_codes", {})
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    if os.geteuid() != 0:
        real = os.fstat

        def as_root(fd: int) -> Any:
            status = list(real(fd))
            status[4] = 0 if status[4] == os.geteuid() else status[4]
            return os.stat_result(status)

        monkeypatch.setattr(image, "fstat", as_root)
    return path


def is_believed() -> bool:
    image._codes.clear()
    image.use()
    return image.is_used()


def test_an_image_of_the_sources_as_they_are_is_used(believed: Path) -> None:
    assert is_believed()
    assert set(image._index) == HOT - {"multihook.image"}


def places_of(believed: Path) -> tuple[list[range], list[range]]:
    """Where the parts lie that every event needs, and where the others lie."""
    fd = os.open(believed, os.O_RDONLY)
    _, parts, number = image._contents(fd)
    os.close(fd)
    ranges = [range(start, start + length) for start, length, _ in parts]
    return ranges[:number], ranges[number:]


@pytest.mark.fault("F18")
def test_an_image_cut_off_or_with_a_byte_turned_is_not_used(believed: Path) -> None:
    whole = believed.read_bytes()
    first, others = places_of(believed)
    assert first[0].start < first[-1].stop == others[0].start and others[-1].stop == len(whole)
    end = first[-1].stop
    for length in [*range(60), *range(60, end, 1001), end - 1]:
        believed.write_bytes(whole[:length])
        assert not is_believed(), length
    for position in [*range(60), *range(60, end, 1001), end - 1]:
        believed.write_bytes(whole[:position] + bytes((whole[position] ^ 1,)) + whole[position + 1 :])
        assert not is_believed(), position
        assert not image.is_current(), position
    believed.write_bytes(whole)
    assert is_believed()


class BegunAnewError(Exception):
    """What stands for execv(2) in the next test."""


def test_a_part_that_is_harmed_or_of_other_sources_is_never_run_and_the_run_begins_anew(
    believed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin_anew(program: str, argv: list[str]) -> None:
        assert program == argv[0] == sys.orig_argv[0]
        raise BegunAnewError

    monkeypatch.setattr(image, "execv", begin_anew)
    whole = believed.read_bytes()
    first, others = places_of(believed)
    for number, place in enumerate(others, len(first)):
        for position in (place.start, (place.start + place.stop) // 2, place.stop - 1):
            believed.write_bytes(whole[:position] + bytes((whole[position] ^ 1,)) + whole[position + 1 :])
            assert not image.is_current()
            assert is_believed()
            for name in [name for name, entry in image._index.items() if entry[3] == number]:
                image._codes.pop(name, None)
                for _ in range(2):
                    with pytest.raises(BegunAnewError):
                        image.Finder.find_spec(name)
                    assert not believed.exists()  # the second time another hook was faster
                believed.touch(0o600)
    believed.write_bytes(whole)
    assert is_believed()
    assert all(image._part(number) for number in range(len(image._parts)))
    name, entry = next((name, entry) for name, entry in image._index.items() if entry[3] >= len(first))
    image._index[name] = (entry[0], (1, 2, 3, 4), *entry[2:])
    with pytest.raises(BegunAnewError):
        image._part(entry[3])


SELDOM_PROGRAM = """
import sys
sys.path[:0] = [sys.argv[1]]
from multihook import image
image.FILE = sys.argv[2]
if sys.argv[3]:
    class Status:
        st_uid = 0
        def __init__(self, status):
            self.st_mode, self.st_size = status.st_mode, status.st_size
    real = image.fstat
    image.fstat = lambda fd: Status(real(fd))
image.use()
if image.is_used():
    from multihook.address import network_text
    from multihook.kernel import rules
    def kinds():
        return [type(one).__name__ for one in (network_text, rules.Rule.__dict__["text"], rules.Rule.__dict__["mark"])]
    before = kinds()
    rule = rules.Rule(7400, 200, source=bytes((192, 0, 2, 7)), prefixlen=32, protocol=109)
    said = [rule.text(), rule.mark, network_text(bytes(4), 0), network_text(bytes((10, 0, 0, 0)), prefixlen=8)]
    print((before, said, kinds()))
else:
    print("without")
"""


def test_a_function_that_no_ordinary_event_calls_is_read_when_it_is_called(believed: Path) -> None:
    arguments = [PYTHON, "-IBS", "-c", SELDOM_PROGRAM, str(PACKAGE.parent), str(believed), "1" if os.geteuid() else ""]
    done = subprocess.run(arguments, capture_output=True, text=True, env={})
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    before, said, after = ast.literal_eval(done.stdout)
    assert before == ["Unread", "Unread", "Unread"]
    assert said == ["from 192.0.2.7 lookup 200 priority 7400 protocol 109", None, "default", "10.0.0.0/8"]
    assert after == ["Unread", "function", "property"], "who has it by name keeps the stand-in"
    whole = believed.read_bytes()
    believed.write_bytes(whole[:-1] + bytes((whole[-1] ^ 1,)))
    done = subprocess.run(arguments, capture_output=True, text=True, env={})
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "without\n"), done.stderr
    assert not believed.exists()


ORDINARY = """
called = set()
def note_call(frame, what, argument):
    if what == "call" and frame.f_globals.get("__name__", "").startswith("multihook"):
        called.add((frame.f_globals["__name__"], frame.f_code.co_qualname))
lease = {b"reason": b"BOUND", b"interface": b"eth1", b"new_routers": b"198.51.100.1", b"new_ip_address": b"198.51.100.7"}
kernel.link("eth2", "192.0.2.130/25")
kernel.link("eth3", "192.0.2.7/25")
for name, address in ((b"eth2", b"192.0.2.130"), (b"eth3", b"192.0.2.7")):
    event({**lease, b"interface": name, b"new_ip_address": address, b"new_routers": address[:-1] + b"9"}, "dhclient")
for turn, address in enumerate(("203.0.113.45", "203.0.113.77", "203.0.113.78")):
    if turn == 1:
        sys.setprofile(note_call)
    kernel.no_link("ppp0")
    if configured:  # that an adopted link goes concerns the others
        event({}, "pppd", "ip-down", "ppp0", "", "0", "203.0.113.45", "192.0.2.1", "dsl")
    kernel.link("ppp0", address + " peer 192.0.2.1", ppp=True)
    kernel.route("default", "ppp0")
    for _ in range(2):
        event({}, "pppd", "ip-up", "ppp0", "", "0", address, "192.0.2.1", "dsl")
        event(lease, "dhclient")
sys.setprofile(None)
print(sorted(called))
"""


@pytest.mark.parametrize("settings", [SETTINGS, ""], ids=["configured", "adopted"])
def test_an_ordinary_event_calls_nothing_that_is_seldom_called(root: Path, settings: str) -> None:
    """Else it would read the part with these functions, and cost more than it has to."""
    (root / "etc/multihook/multihook.toml").write_text(settings)
    (root / "etc/multihook/notify.d/program").unlink()
    for interface in ("ppp0", "eth1"):
        (root / f"proc/sys/net/ipv4/conf/{interface}").mkdir(parents=True)
        for option in ("rp_filter", "src_valid_mark", "arp_ignore", "arp_announce"):
            (root / f"proc/sys/net/ipv4/conf/{interface}/{option}").write_text("0\n")
    time.sleep(compiled._TICK_NS / 1e9 * 1.5)
    program = f"configured = {bool(settings)}\n{PROGRAM[: PROGRAM.index('event({}')]}{ORDINARY}"
    called = start(root, program=program)
    names = {module.removeprefix("multihook.") + "." + name for module, name in called}
    assert {"run._apply", "features.routing.add", "leases.store"} < names
    seldom = {f"{module}.{name}" for module, listed in imaging.SELDOM.items() for name in listed.split()}
    assert names & seldom == set()


def test_nothing_is_left_out_of_the_code_but_what_is_said(believed: Path) -> None:
    """What annotations, and what is for the checker alone, stand in is still there, and means the same."""
    source = """
TYPE_CHECKING = False
if TYPE_CHECKING:
    from nowhere import nothing
one: "int" = 1
class Thing(dict[str, "int"]):
    two: "int"
    three: int = 3
    def method(self: "Thing", *rest: int, key: "int" = 4, **more: int) -> "list[int]":
        self.five: int = 5
        for _ in range(2):
            six: int
            six = 6 if not TYPE_CHECKING else 7
        return [one, self.three, key, self.five, six, len(rest), len(more)]
class Empty:
    nothing: int
"""
    tree = compile(source, "x", "exec", ast.PyCF_ONLY_AST)
    imaging._strip(tree)
    text = ast.unparse(tree)
    assert "nowhere" not in text and ": int" not in text.replace(": int =", "") and "->" not in text
    space: dict[str, Any] = {}
    exec(compile(tree, "x", "exec"), space)
    assert space["Thing"]().method(0, 0, x=1) == [1, 3, 4, 5, 6, 2, 1]
    assert space["Thing"].__orig_bases__ and "__annotations__" not in vars(space["Empty"])


def test_an_image_that_others_could_have_made_is_not_used(believed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for mode in (0o620, 0o602, 0o666):
        believed.chmod(mode)
        assert not is_believed()
    believed.chmod(0o600)
    assert is_believed()
    believed.rename(believed.with_name("elsewhere"))
    believed.symlink_to("elsewhere")
    assert not is_believed()
    believed.unlink()
    assert not is_believed()
    os.mkfifo(believed, 0o600)
    assert not is_believed()
    believed.unlink()
    believed.mkdir()
    assert not is_believed()
    believed.rmdir()
    believed.with_name("elsewhere").rename(believed)
    assert is_believed()
    if os.geteuid() == 0:
        os.chown(believed, 12345, 12345)
    else:
        monkeypatch.undo()
        monkeypatch.setattr(image, "FILE", str(believed))
    assert not is_believed()


def test_an_image_of_other_sources_is_not_used(believed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_believed()
    real = image.stat
    for changed in ({"st_mtime": 1.0}, {"st_size": 7}):

        def other(path: str, changed: dict[str, Any] = changed) -> Any:
            status = list(real(path))
            if path.endswith("/run.py"):
                status[6 if "st_size" in changed else 8] = 7
                return os.stat_result(status)
            return real(path)

        monkeypatch.setattr(image, "stat", other)
        assert not is_believed()
    monkeypatch.setattr(image, "stat", lambda path: os.stat(tmp_path / "missing"))
    assert not is_believed()


def test_an_image_of_another_interpreter_is_not_used(believed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "HEADER", b"multihook image 4 ffffffff\n")
    assert not is_believed()


def test_an_image_that_cannot_be_written_is_done_without(believed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, path in (("RUN", believed.parent), ("PRIVATE", believed.parent), ("SPOOL", believed.parent / "spool")):
        monkeypatch.setattr(paths, name, str(path))
    monkeypatch.setattr(image, "FILE", str(believed.with_name("no") / "image"))
    imaging.renew()
    assert not is_believed()
    (believed.parent / "loose").mkdir()
    (believed.parent / "loose").chmod(0o777)
    monkeypatch.setattr(paths, "PRIVATE", str(believed.parent / "loose"))
    monkeypatch.setattr(image, "FILE", str(believed.parent / "loose/image"))
    imaging.renew()
    assert not (believed.parent / "loose/image").exists()


def test_one_process_at_a_time_makes_an_image_and_none_makes_it_twice(
    believed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a boot hundreds of hooks may miss it at once, and each takes half a second to make one."""
    for name, path in (("RUN", believed.parent), ("PRIVATE", believed.parent), ("SPOOL", believed.parent / "spool")):
        monkeypatch.setattr(paths, name, str(path))
    before = believed.stat().st_ino
    imaging.renew()
    assert believed.stat().st_ino == before
    believed.unlink()
    held = os.open(believed.parent / "spool", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    imaging.renew()
    assert not believed.exists()
    os.close(held)
    imaging.renew()
    assert is_believed()

"""What a hook imports on its way from start to applied: what is built into the interpreter, and its own hot modules.

Each test runs Debian's interpreter as the entry point does (-I -B -S), with a painted kernel and files of its own.
"""

import ast
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from multihook import codemaker, codetable
from multihook.config import compiled

PACKAGE = Path(codetable.__file__).parent
PYTHON = "/usr/bin/python3"

# After the kernel's part of a run over everything: names for ip(8), which tables others use.
AFTERWARDS = {"multihook.names", "multihook.kernel.tables"}
HOT = {codemaker._name(module) for module in codemaker.CORE + codemaker.REST}

# Everything in it is built in, or ours; what it prints is a dict for ast.literal_eval.
PROGRAM = """
import sys
fresh = set(sys.modules)
package, plain, root, settings = sys.argv[1:5]
sys.path[:0] = [package, plain]
from multihook import codetable, paths
for name, value in list(vars(paths).items()):
    if isinstance(value, str) and value.startswith(("/run/", "/var/", "/etc/", "/proc/")):
        setattr(paths, name, root + value)
codetable.PACKAGE = package + "/multihook"
codetable.FILE = root + "/run/table"
if settings == "prepare":
    from multihook.config import compiled
    compiled.compile(True)
    sys.exit()
import posix
if posix.geteuid():  # only root's table is believed: whoever builds the package counts as root
    fstat = codetable.fstat
    codetable.fstat = lambda fd: posix.stat_result([0 if place == 4 else value for place, value in enumerate(fstat(fd))])
codetable.use()
found = {"version": sys.version_info[:2], "builtin": sys.builtin_module_names, "used": codetable.is_used()}
found |= {"log": [], "new": [], "source": [], "started": []}
posix.posix_spawn = lambda *arguments, **_: found["started"].append(arguments)
from multihook import hook, journal
from multihook.kernel import routes
def note(priority, line):
    found["log"].append((priority, line))
journal.write = note
import painted_kernel
sys.modules.pop("painted_kernel")
sys.modules.pop("painted_nft")
kernel = painted_kernel.Painted()
routes.name_of = kernel.name
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
        # What the table makes past the import machinery has no spec.
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
    for step in (nothing, first, *later):
        unlisted = own(found, step) - HOT - {"multihook.codetable"}
        assert not unlisted, f"{unlisted} belong in CORE or REST of multihook/codemaker.py"
    assert {"multihook.run", "multihook.features.routing", "multihook.sources.dhclient"} <= own(found, later[-1])
    # they really did something
    assert "7000: from all oif ppp0 lookup 200 priority 7000 protocol 109" in found["shown"]
    assert "192.0.2.0/24 via 198.51.100.1 dev eth1 table 201 proto 109" in found["shown"]
    assert any("-> 203.0.113.77 on ppp0 (pppd ip-up)" in line for _, line in found["log"])
    assert any("a;id" in line for _, line in found["log"])
    assert [started[1][1:] for started in found["started"]][-2:] == [["dsl"], ["dsl"]]
    assert not any("error" in line or "could not be read" in line for _, line in found["log"])


def test_what_is_listed_is_what_a_hook_imports_and_nothing_more(root: Path) -> None:
    imported = own(start(root), -1) - AFTERWARDS
    assert {codemaker._name(module) for module in codemaker.CORE} <= imported, "not every event needs it: into REST"
    for module in codemaker.CORE + codemaker.REST:
        assert (PACKAGE / module.replace(".", "/")).with_suffix(".py").is_file() or (PACKAGE / module).is_dir(), module


def test_the_test_would_see_a_library(root: Path) -> None:
    sneaky = PROGRAM.replace("def note(", "import string\ndef note(")
    assert "string" in foreign(start(root, program=sneaky), 0)


# --- the table of code ---


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A table of the package as it is."""
    os.umask(0o022)
    path = tmp_path_factory.mktemp("table") / "table"
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(codetable, "PACKAGE", str(PACKAGE))
        patches.setattr(codetable, "FILE", str(path))
        codemaker.make()
    assert path.stat().st_mode & 0o7777 == 0o644
    return path.read_bytes()


def test_a_hook_with_the_table_takes_its_code_from_it_and_does_the_same(root: Path, made: bytes) -> None:
    first = start(root)
    assert not first["used"]
    (root / "run/table").write_bytes(made)
    second = start(root)
    assert second["used"]
    before = {"multihook", "multihook.codetable", "multihook.paths"}  # the program imports these first
    assert {name for name, loader in second["source"] if loader == "Finder"} == own(first, -1) - before
    assert sorted(second["shown"]) == sorted(first["shown"]) and own(second, -1) == own(first, -1)


@pytest.fixture
def table(made: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh table in a folder of our own; whoever runs this counts as root."""
    path = tmp_path / "table"
    path.write_bytes(made)
    path.chmod(0o644)
    monkeypatch.setattr(codetable, "PACKAGE", str(PACKAGE))
    monkeypatch.setattr(codetable, "FILE", str(path))
    monkeypatch.setattr(codetable, "_core", {})
    monkeypatch.setattr(codetable, "_rest", {})
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    if os.geteuid() != 0:
        real = os.fstat

        def as_root(fd: int) -> Any:
            status = list(real(fd))
            status[4] = 0 if status[4] == os.geteuid() else status[4]
            return os.stat_result(status)

        monkeypatch.setattr(codetable, "fstat", as_root)
    return path


def is_believed() -> bool:
    codetable._core.clear()
    codetable.use()
    return codetable.is_used()


@pytest.mark.fault("F18")
def test_a_table_that_is_cut_off_is_not_used(table: Path) -> None:
    whole = table.read_bytes()
    for length in [*range(80), *range(80, len(whole), 5003), len(whole) - 1]:
        table.write_bytes(whole[:length])
        assert not is_believed(), length
    table.write_bytes(whole)
    assert is_believed()


def test_a_table_that_others_could_have_made_is_not_used(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for mode in (0o664, 0o646, 0o666):
        table.chmod(mode)
        assert not is_believed()
    table.chmod(0o644)
    assert is_believed()
    table.rename(table.with_name("elsewhere"))
    table.symlink_to("elsewhere")
    assert not is_believed()
    table.unlink()
    assert not is_believed()
    os.mkfifo(table, 0o644)
    assert not is_believed()
    table.unlink()
    table.mkdir()
    assert not is_believed()
    table.rmdir()
    table.with_name("elsewhere").rename(table)
    assert is_believed()
    if os.geteuid() == 0:
        os.chown(table, 12345, 12345)
    else:
        monkeypatch.undo()
        monkeypatch.setattr(codetable, "FILE", str(table))
    assert not is_believed()


def test_a_table_of_another_package_or_interpreter_is_not_used(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_ = os.stat(PACKAGE / "__init__.py")
    for place, value in ((1, own_.st_ino + 1), (9, own_.st_ctime + 1)):  # dpkg has replaced it
        status = list(own_)
        status[place] = value
        monkeypatch.setattr(codetable, "began", (str(PACKAGE / "__init__.py"), os.stat_result(status)))
        assert not is_believed()
    monkeypatch.setattr(codetable, "began", (str(PACKAGE / "__init__.py"), own_))
    assert is_believed()
    for name, value in (("hexversion", sys.hexversion + 1), ("marshal_version", codetable.marshal_version + 1)):
        with monkeypatch.context() as patches:
            patches.setattr(sys if name == "hexversion" else codetable, name, value)
            assert not is_believed()
    monkeypatch.setattr(codetable, "began", None)
    monkeypatch.setattr(codetable, "PACKAGE", "/nowhere")
    assert not is_believed()


def test_sync_makes_it_anew_where_it_does_not_hold_and_else_leaves_it_alone(
    table: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = table.stat().st_ino
    codemaker.renew()
    assert table.stat().st_ino == before
    whole = table.read_bytes()
    table.write_bytes(b"x" + whole[1:])
    codemaker.renew()
    assert table.read_bytes() == whole and table.stat().st_ino != before
    # A source changed since; one that cannot be read is done without.
    package = tmp_path / "multihook"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.setattr(codetable, "PACKAGE", str(package))
    assert not codemaker._is_current()
    codemaker.renew()
    assert table.read_bytes() == whole
    monkeypatch.setattr(codetable, "PACKAGE", str(PACKAGE))
    monkeypatch.setattr(codetable, "FILE", str(tmp_path / "no/table"))
    (tmp_path / "no").symlink_to("/nowhere")
    codemaker.renew()
    assert not (tmp_path / "no/table").exists()


def test_a_newer_source_counts(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "multihook"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.setattr(codetable, "PACKAGE", str(package))
    monkeypatch.setattr(codemaker, "CORE", ("",))
    monkeypatch.setattr(codemaker, "REST", ())
    time.sleep(0.02)
    codemaker.make()
    assert codemaker._is_current()
    time.sleep(0.02)
    (package / "other.py").touch()
    assert not codemaker._is_current()


def test_nothing_is_left_out_of_the_code_but_what_is_said() -> None:
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
    tree = ast.fix_missing_locations(codemaker._Plain().visit(ast.parse(source)))
    text = ast.unparse(tree)
    assert "nowhere" not in text and ": int" not in text.replace(": int =", "") and "->" not in text
    space: dict[str, Any] = {}
    exec(compile(tree, "x", "exec"), space)
    assert space["Thing"]().method(0, 0, x=1) == [1, 3, 4, 5, 6, 2, 1]
    assert space["Thing"].__orig_bases__ and "__annotations__" not in vars(space["Empty"])

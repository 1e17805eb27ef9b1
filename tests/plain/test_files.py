"""Reading and replacing small files as root: nothing foreign is believed or followed, nothing is left half written."""

import errno
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from multihook import files
from multihook.files import Untrusted, explain, folder, read, remove, replace

PACKAGE = str(Path(files.__file__).parent.parent)


@pytest.fixture(autouse=True)
def ordinary_umask() -> None:
    os.umask(0o022)


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a file somebody else's: really as root, else by being somebody else."""
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345, follow_symlinks=False)
    else:
        monkeypatch.setattr(files, "geteuid", lambda: 12345)


# --- reading ---


def test_a_plain_file_is_read_whole(tmp_path: Path) -> None:
    for content in (b"", b"x", bytes(range(256)) * 4096):
        (tmp_path / "file").write_bytes(content)
        assert read(str(tmp_path / "file")) == content


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(str(tmp_path / "file"))


def test_a_file_is_read_up_to_its_limit_and_a_larger_one_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert len(read(str(path), 100)) == 100
    with pytest.raises(Untrusted, match="larger than 99 bytes"):
        read(str(path), 99)


def test_a_symbolic_link_is_followed_only_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"secret")
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(Untrusted, match="symbolic link"):
        read(str(tmp_path / "link"))
    assert read(str(tmp_path / "link"), follow=True) == b"secret"
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(Untrusted):
        read(str(tmp_path / "dangling"))
    with pytest.raises(FileNotFoundError):
        read(str(tmp_path / "dangling"), follow=True)


@pytest.mark.fault("F18")
@pytest.mark.timeout(5)
def test_a_fifo_does_not_hang_and_is_not_believed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "link").symlink_to("fifo")
    for name, follow in (("fifo", False), ("fifo", True), ("link", True)):
        with pytest.raises(Untrusted, match="not a plain file"):
            read(str(tmp_path / name), follow=follow)


@pytest.mark.fault("F18")
def test_a_folder_a_socket_and_a_device_are_not_believed(tmp_path: Path) -> None:
    with pytest.raises(Untrusted, match="not a plain file"):
        read(str(tmp_path))
    door = socket.socket(socket.AF_UNIX)
    with door:
        door.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError):
            read(str(tmp_path / "socket"))
    with pytest.raises(Untrusted, match="not a plain file"):
        read("/dev/null")


def test_another_users_file_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    assert read(str(path)) == b"x"
    give_away(path, monkeypatch)
    with pytest.raises(Untrusted, match=r"belongs to user \d+, not to root"):
        read(str(path))


@pytest.mark.parametrize("mode, believed", [
    (0o400, True), (0o600, True), (0o644, True), (0o755, True), (0o660, False), (0o664, False), (0o606, False),
    (0o622, False), (0o777, False),
])  # fmt: skip
def test_a_file_that_others_can_write_is_not_believed(tmp_path: Path, mode: int, believed: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    path.chmod(mode)
    if believed:
        assert read(str(path)) == b"x"
    else:
        with pytest.raises(Untrusted, match="written by others"):
            read(str(path))


def test_what_is_wrong_with_a_file_is_one_clause_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.symlink_to("x")
    with pytest.raises(OSError) as caught:
        read(str(path))
    assert explain(caught.value) == f"{path}: is a symbolic link"
    with pytest.raises(OSError) as caught:
        read(str(tmp_path / "missing"))
    assert explain(caught.value) == f"{tmp_path}/missing: No such file or directory"
    assert explain(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"
    assert explain(OSError(errno.ENOSPC, "")) == "No space left on device"
    assert explain(OSError()) == "failed"


# --- replacing ---


def test_a_file_is_replaced_with_content_and_mode_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for mask in (0o000, 0o022, 0o077):
        os.umask(mask)
        for mode in (0o600, 0o644):
            replace(str(path), f"{mask} {mode}".encode(), mode)
            assert path.read_bytes() == f"{mask} {mode}".encode()
            assert path.stat().st_mode & 0o7777 == mode
    assert os.listdir(tmp_path) == ["file"]
    replace(str(path), b"", durable=True)
    assert path.read_bytes() == b""


def test_a_file_being_replaced_is_readable_by_nobody_else_before_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    real = files.posix_write

    def watched(fd: int, data: bytes) -> int:
        modes.append(os.fstat(fd).st_mode & 0o777)
        return real(fd, data)

    monkeypatch.setattr(files, "posix_write", watched)
    replace(str(tmp_path / "file"), b"secret", 0o644)
    assert modes == [0o600]


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = files.posix_write
    monkeypatch.setattr(files, "posix_write", lambda fd, data: real(fd, data[:3]))
    replace(str(tmp_path / "file"), b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_a_symbolic_link_in_the_place_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "file").symlink_to("target")
    replace(str(tmp_path / "file"), b"new")
    assert (tmp_path / "target").read_bytes() == b"old"
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_leftover_of_a_killed_run_with_our_process_number_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "file"
    leftover = tmp_path / f"file.{os.getpid()}.new"
    leftover.write_bytes(b"half")
    replace(str(path), b"new")
    assert path.read_bytes() == b"new"
    (tmp_path / "victim").write_bytes(b"victim")
    leftover.symlink_to("victim")
    replace(str(path), b"newer")
    assert path.read_bytes() == b"newer"
    assert (tmp_path / "victim").read_bytes() == b"victim"
    assert sorted(os.listdir(tmp_path)) == ["file", "victim"]


@pytest.mark.fault("F16", "F17")
@pytest.mark.parametrize("step", ["posix_open", "posix_write", "fchmod", "fsync", "rename"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_when_any_step_of_replacing_fails_the_old_file_stands_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), "somewhere")

    descriptors = os.listdir("/proc/self/fd")
    monkeypatch.setattr(files, step, fail)
    with pytest.raises(OSError) as caught:
        replace(str(path), b"new", durable=True)
    assert caught.value.errno == code
    # Never the temporary name, which differs each time: the log counts what repeats.
    assert files.explain(caught.value) == f"{path}: {os.strerror(code)}"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
    assert os.listdir("/proc/self/fd") == descriptors


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from multihook import files

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def half(fd, data):
    os.write(fd, data[:2])
    die()

setattr(files, sys.argv[2], half if sys.argv[2] == "posix_write" else die)
files.replace(sys.argv[3], b"new content", durable=True)
"""


@pytest.mark.fault("F16")
@pytest.mark.parametrize("step", ["posix_write", "fchmod", "fsync", "rename"])
def test_a_run_killed_between_writing_and_renaming_leaves_the_old_file(tmp_path: Path, step: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    ended = subprocess.run([sys.executable, "-c", KILLED, PACKAGE, step, str(path)])
    assert ended.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    replace(str(path), b"newer")
    assert path.read_bytes() == b"newer"


FULL = """
import sys
sys.path.insert(0, sys.argv[1])
from multihook.files import explain, replace
replace(sys.argv[2], b"old")
try:
    replace(sys.argv[2], b"x" * 1000000)
except OSError as error:
    print(explain(error))
else:
    print("no error")
import os
print(open(sys.argv[2], "rb").read(), os.listdir(os.path.dirname(sys.argv[2])))
"""


def on_a_tiny_disk(place: Path) -> subprocess.CompletedProcess[str]:
    """FULL on a tmpfs of 64 KB where we may mount one, else under a limit of 64 KB for the size of a file."""
    program = [sys.executable, "-c", FULL, PACKAGE, f"{place}/file"]
    mount = f'mount -t tmpfs -o size=64k none "{place}" && exec "$@"'
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    try:
        may_mount = not subprocess.run([*unshare, "sh", "-c", mount, "sh", "true"], capture_output=True).returncode
    except FileNotFoundError:
        may_mount = False
    if may_mount:
        return subprocess.run([*unshare, "sh", "-c", mount, "sh", *program], capture_output=True, text=True)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))

    return subprocess.run(program, preexec_fn=limit, capture_output=True, text=True)


def test_on_a_full_disk_the_old_file_stands_and_nothing_is_left(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    said = on_a_tiny_disk(place)
    problem, outcome = said.stdout.splitlines()
    assert problem in (f"{place}/file: No space left on device", f"{place}/file: File too large"), said
    assert outcome == "b'old' ['file']"


def test_replacing_where_there_is_no_folder_or_a_folder_in_the_place_fails_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace(str(tmp_path / "no" / "file"), b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError) as caught:
        replace(str(tmp_path / "folder"), b"x")
    assert files.explain(caught.value) == f"{tmp_path}/folder: Is a directory"
    assert os.listdir(tmp_path) == ["folder"]


def test_removing_says_whether_there_was_something(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert remove(str(tmp_path / "file")) is True
    assert remove(str(tmp_path / "file")) is False
    with pytest.raises(OSError):
        remove(str(tmp_path))


# --- folders ---


def test_a_folder_is_made_with_its_mode_and_one_that_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "private"
    folder(str(path), 0o700)
    assert path.stat().st_mode & 0o7777 == 0o700
    (path / "file").write_bytes(b"x")
    folder(str(path), 0o700)
    assert (path / "file").read_bytes() == b"x"


def a_link(path: Path) -> None:
    (path.parent / "elsewhere").mkdir()
    path.symlink_to("elsewhere")


def a_file(path: Path) -> None:
    path.write_bytes(b"x")


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def for_all(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def for_a_group(path: Path) -> None:
    path.mkdir()
    path.chmod(0o770)


@pytest.mark.parametrize("make", [a_link, a_file, a_fifo, for_all, for_a_group])
@pytest.mark.timeout(5)
def test_a_folder_that_others_could_fill_is_not_used(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "private"
    make(path)
    before = path.lstat()
    with pytest.raises(Untrusted) as caught:
        folder(str(path), 0o700)
    assert explain(caught.value).startswith(f"{path}: ")
    assert path.lstat().st_mode == before.st_mode


def test_another_users_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "private"
    path.mkdir(0o700)
    give_away(path, monkeypatch)
    with pytest.raises(Untrusted, match="belongs to user"):
        folder(str(path), 0o700)


def test_a_folder_made_by_another_run_at_the_same_instant_is_as_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "private"

    def too_late(name: str, mode: int) -> None:
        os.mkdir(name, mode)
        raise FileExistsError(errno.EEXIST, "File exists", name)

    monkeypatch.setattr(files, "mkdir", too_late)
    folder(str(path), 0o700)
    assert path.is_dir()


def test_reading_and_making_folders_leaves_no_descriptor_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose").chmod(0o777)
    before = os.listdir("/proc/self/fd")
    read(str(tmp_path / "file"))
    replace(str(tmp_path / "file"), b"y")
    folder(str(tmp_path / "made"), 0o700)
    for attempt in (
        lambda: read(str(tmp_path)),
        lambda: read(str(tmp_path / "file"), 0),
        lambda: folder(str(tmp_path / "loose"), 0o700),
    ):
        with pytest.raises(Untrusted):
            attempt()
    assert os.listdir("/proc/self/fd") == before

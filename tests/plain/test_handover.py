"""What a hook in a sandbox may not write is left to multihook.service, and never waits for it."""

import os
import signal
import time
from pathlib import Path

import pytest

from multihook import handover, hook, journal

WORDS = "--no-block --quiet --no-ask-password reload-or-restart multihook.service"


class Systemd:
    """A machine where systemd runs, as far as the module can see."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told = root / "told"
        self.systemctl = root / "systemctl"
        (root / "system").mkdir()
        monkeypatch.setattr(handover, "_SYSTEMD", str(root / "system"))
        monkeypatch.setattr(handover, "_SYSTEMCTL", str(self.systemctl))
        monkeypatch.setattr(handover, "_ARGUMENTS", (str(self.systemctl), *handover._ARGUMENTS[1:]))
        monkeypatch.setattr(handover, "_is_sandboxed", lambda: True)
        monkeypatch.setattr(handover, "_PATIENCE_SECONDS", 60.0)  # however busy this machine is
        self.does(f'echo "$*" >{self.told}')

    def does(self, words: str) -> None:
        self.systemctl.write_text(f"#!/bin/sh\n{words}\n")
        self.systemctl.chmod(0o755)


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    monkeypatch.setattr(handover, "_PATIENCE_SECONDS", 60.0)  # a busy machine may be slow to start a shell
    return Systemd(tmp_path, monkeypatch)


def no_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def test_the_service_is_asked_for_a_run_and_nothing_goes_on(systemd: Systemd) -> None:
    assert handover.to_service()
    assert systemd.told.read_text().strip() == WORDS
    assert no_children()


def test_outside_a_sandbox_nobody_is_asked(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_is_sandboxed", lambda: False)
    assert not handover.to_service()
    assert not systemd.told.exists()


def test_this_process_is_in_no_sandbox() -> None:
    """The same mounts as process 1, or it may not be asked: an ordinary user."""
    try:
        same = os.stat("/proc/self/ns/mnt").st_ino == os.stat("/proc/1/ns/mnt").st_ino
    except OSError:
        same = True
    assert handover._is_sandboxed() == (not same)


def test_without_systemd_or_its_command_nobody_is_asked(systemd: Systemd, tmp_path: Path) -> None:
    systemd.systemctl.chmod(0o644)
    assert not handover.to_service()
    systemd.systemctl.unlink()
    assert not handover.to_service()
    systemd.does("true")
    (tmp_path / "system").rmdir()
    assert not handover.to_service()
    assert no_children()


@pytest.mark.parametrize("words", ["exit 1", "exit 5", "kill -9 $$"])
def test_a_service_that_cannot_be_asked_is_no_success(systemd: Systemd, words: str) -> None:
    systemd.does(words)
    assert not handover.to_service()
    assert no_children()


def test_a_systemd_that_hangs_is_not_waited_for(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_PATIENCE_SECONDS", 0.1)
    systemd.does("exec sleep 1000")
    start = time.monotonic()
    assert not handover.to_service()
    assert time.monotonic() - start < 60 and no_children()


def test_signals_that_a_hook_ignores_are_not_ignored_by_what_it_starts(systemd: Systemd) -> None:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGCHLD)}
    try:
        systemd.does("kill -TERM $$; exit 0")
        assert not handover.to_service()
        systemd.does(f'echo "$*" >{systemd.told}')
        assert handover.to_service()
    finally:
        for number, how in before.items():
            signal.signal(number, how)


def test_what_is_left_to_the_service_is_no_warning_and_what_cannot_be_is_one(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    monkeypatch.setattr(journal, "write", lambda priority, line: log.append(line))
    hook._leave(["names: Read-only file system", "names: Read-only file system"])
    assert log == [] and systemd.told.exists()
    systemd.does("exit 1")
    monkeypatch.setattr(hook.repeats, "REPEATS", str(systemd.systemctl / "no"))
    monkeypatch.setattr(hook.repeats, "RUN", str(systemd.systemctl / "no"))
    hook._leave(["names: Read-only file system", "names: Read-only file system"])
    assert log == ["names: Read-only file system"]


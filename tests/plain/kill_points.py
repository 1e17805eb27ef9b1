"""Runs that are killed, as by kill -9: before any change of the kernel, or before any of these and of a file."""

from collections.abc import Callable

import pytest
from painted_machine import Machine

from multihook import files
from multihook.spool import Told


class Killed(BaseException):
    """kill -9, as far as one process can do it to itself."""


class Bomb:
    """Counts every change of the kernel and every call that changes a file, and kills at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        self.count = 0
        for name in ("posix_open", "posix_write", "fchmod", "rename", "unlink", "mkdir"):
            real = getattr(files, name)
            monkeypatch.setattr(files, name, self._wrapped(real))

    def _wrapped(self, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            self.tick()
            return real(*arguments, **options)

        return call

    def tick(self, *_: object) -> None:
        self.count += 1
        if self.left == 0:
            raise Killed
        self.left -= 1


def kill_at(machine: Machine, changes: int, told: Told) -> None:
    """A hook that is killed before its n-th change of the kernel, if it makes that many."""

    def count(kind: int, body: bytes) -> None:
        nonlocal changes
        if not changes:
            raise Killed
        changes -= 1

    machine.kernel.before = count
    try:
        machine.drain(told)
    except Killed:
        pass
    machine.kernel.before = lambda kind, body: None

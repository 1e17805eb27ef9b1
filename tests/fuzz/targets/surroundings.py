"""What the targets have in common: a product whose files lie elsewhere, and what may stand in a line of the log."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Between the parts of an input that has several; the fuzzer knows it as one word (run's dictionary).
SEPARATOR = b"\xfe\xed\xfa\xce"

INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
LINK = re.compile(r"[a-z][a-z0-9_-]{0,15}")
# The log's datagram has 1000 bytes, and more than the line in it.
LONGEST_LINE = 900


@contextmanager
def patched(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    """Other values for names in modules, for as long as it is entered."""
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    for module, name, value in changes:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def check_line(line: str) -> None:
    """Fail where a text would be more than one line of log, or one that does something to a terminal."""
    assert line and line.isprintable() and len(line) <= LONGEST_LINE, f"no line for the log: {line!r}"

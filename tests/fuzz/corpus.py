"""The kept inputs: corpus/TARGET.txt, found by fuzzing, and cases/TARGET.txt, each of which broke something once.

One input a line, ASCII with Python's escapes, so that it can be read and compared; a line that begins with # says
what the case under it did.
"""

from pathlib import Path

HERE = Path(__file__).resolve().parent
# Of one target's corpus, as it stands in its file; with all targets it stays well below 300 kB.
MOST_BYTES = 12_000


def read(kind: str, target: str) -> list[bytes]:
    """The inputs kept for a target; kind is "corpus" or "cases"."""
    path = HERE / kind / f"{target}.txt"
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    return [line.encode().decode("unicode_escape").encode("latin-1") for line in lines if line[:1] not in ("", "#")]


def line_of(data: bytes) -> str:
    """An input as a line of such a file."""
    line = data.decode("latin-1").encode("unicode_escape").decode("ascii")
    return f"\\x23{line[1:]}" if line.startswith("#") else line


def chosen(inputs: list[bytes]) -> list[bytes]:
    """As many as there is room for, the shorter ones first: most of what is found is found by these."""
    found, room = [], MOST_BYTES
    for data in sorted(inputs, key=lambda one: (len(one), one)):
        room -= len(line_of(data)) + 1
        if room < 0:
            break
        if data:
            found.append(data)
    return found

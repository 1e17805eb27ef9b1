"""One target under atheris, which changes inputs so that they reach more of the product.

fuzz.py TARGET PROGRAM [libFuzzer's options]: PROGRAM is what libFuzzer runs with other options to start this again, as
it does to merge a corpus.
"""

import os
import sys
import tempfile
from pathlib import Path

import atheris

# tomllib too: only what is instrumented leads to inputs that get on in it.
with atheris.instrument_imports(include=["multihook", "tomllib"]):
    from targets import TARGETS


def main() -> None:
    """Run until libFuzzer has enough."""
    target = TARGETS[sys.argv[1]]
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as folder, target.place(Path(folder)):
        atheris.Setup(sys.argv[2:], target.run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

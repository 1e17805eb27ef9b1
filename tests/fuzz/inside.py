"""What tests/fuzz/run does in its root: every target for its share of the time, as many at once as there are cores."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import corpus
from seeds import seeds
from targets import TARGETS
from targets.surroundings import SEPARATOR

HERE = Path(__file__).resolve().parent
OUT = Path("/jail/out")
LONGEST_INPUT = 8192
# One input takes a fraction of a millisecond; what takes longer than this hangs.
HANG_SECONDS = 10
MOST_MEGABYTES = 1024
WORDS = (SEPARATOR, b"\0", b"\n", b"end", b"/", b"..", b"255", b"0.0.0.0", b"# multihook: ", b"\r\n", b"=")


class FuzzerFailed(Exception):
    """It is not known whether a promise holds: no result of the product's."""


class Result(NamedTuple):
    """What came of one target."""

    name: str
    executions: int
    reached: int
    kept: int
    broken: str


def main() -> int:
    """Fuzz, say what came of it, leave what is to be kept in OUT; 1 where a promise was broken, 2 where that is not known."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--target", action="append", choices=sorted(TARGETS))
    parser.add_argument("--minimise", action="store_true")
    options = parser.parse_args()
    names = list(dict.fromkeys(options.target or TARGETS))
    cores = len(os.sched_getaffinity(0))
    share = max(1, options.seconds * min(cores, len(names)) // len(names))
    print(f"{len(names)} targets, {f'{options.runs} inputs' if options.runs else f'{share} s'} each, {cores} at once", flush=True)
    end = [f"-runs={options.runs}", "-seed=1"] if options.runs else [f"-max_total_time={share}"]
    start = seeds()
    with ThreadPoolExecutor(cores) as pool:
        try:
            results = list(pool.map(lambda name: fuzzed(name, start[name], end, options.minimise), names))
        except FuzzerFailed as failed:
            print(failed, flush=True)
            return 2
    print(f"\n{'target':15} {'executions':>11} {'reached':>8} {'corpus':>7}")
    for result in results:
        print(f"{result.name:15} {result.executions:11} {result.reached:8} {result.kept:7}  {result.broken or 'clean'}")
    total = sum(result.executions for result in results)
    broken = [result for result in results if result.broken]
    print(f"\n{total} executions, {len(broken)} targets with a broken promise")
    return 1 if broken else 0


def fuzzed(name: str, start: list[bytes], end: list[str], minimise: bool) -> Result:
    """One target, from its seeds and what is kept of it; end: libFuzzer's options that say when it has enough."""
    with tempfile.TemporaryDirectory() as place:
        found, artifacts = Path(place, "corpus"), Path(place, "artifacts")
        artifacts.mkdir()
        lay(found, [*start, *corpus.read("corpus", name), *corpus.read("cases", name)])
        words = Path(place, "words")
        words.write_text("".join(f'"{escaped(word)}"\n' for word in WORDS))
        output, status = run(name, [*end, f"-dict={words}", f"-artifact_prefix={artifacts}/", str(found)])
        broken = keep_case(name, artifacts, output)
        if not broken:
            check_end(name, output, status)
        kept = corpus.read("corpus", name)
        if minimise and not broken:
            kept = minimised(name, found, place, start)
        numbers = re.findall(r"(?m)^#(\d+)\s.*?\bcov: (\d+)", output) or [("0", "0")]
        return Result(name, int(numbers[-1][0]), int(numbers[-1][1]), len(kept), broken)


def run(name: str, options: list[str]) -> tuple[str, int]:
    """libFuzzer's output and exit status."""
    limits = [f"-timeout={HANG_SECONDS}", f"-rss_limit_mb={MOST_MEGABYTES}", f"-max_len={LONGEST_INPUT}"]
    with tempfile.TemporaryDirectory() as place:
        program = Path(place, "again")
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE}/fuzz.py {name} "$0" "$@"\n')
        program.chmod(0o755)
        # The order of a set leads to other inputs.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(
            [program, *limits, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, env=environment
        )
    output = done.stdout.decode("utf-8", "replace")
    print(f"{name}: {last_line(output)}", flush=True)
    return output, done.returncode


def check_end(name: str, output: str, status: int) -> None:
    """Raise FuzzerFailed unless inputs were tried, to the end, and reached the product: no artifact is no proof of that."""
    if status:
        raise FuzzerFailed(f"{output}\n{name}: the fuzzer itself failed with exit status {status}")
    if not re.search(r"(?m)^#[1-9]\d*\s+DONE\s+cov: [1-9]", output):
        raise FuzzerFailed(f"{output}\n{name}: no input was tried to the end, or none reached anything")


def last_line(output: str) -> str:
    """The end of it."""
    lines = re.findall(r"(?m)^#\d+\s.*$", output)
    return lines[-1] if lines else "nothing was run"


def lay(folder: Path, inputs: list[bytes]) -> None:
    """Inputs as libFuzzer takes them: a file each."""
    folder.mkdir()
    for number, data in enumerate(dict.fromkeys(inputs)):
        (folder / f"{number:05}").write_bytes(data)


def keep_case(name: str, artifacts: Path, output: str) -> str:
    """Keep the input that broke a promise, and say which; "" where none did."""
    inputs = sorted(artifacts.iterdir())
    if not inputs:
        return ""
    found = re.findall(r"(?m)^(?:\w+\.)*\w*(?:Error|Exception|Refused)\b.*$|^SUMMARY: .*$", output)
    why = found[0][:300] if found else inputs[0].name
    print(output[-6000:], flush=True)
    path = OUT / "cases" / f"{name}.txt"
    path.parent.mkdir(exist_ok=True)
    before = HERE / "cases" / f"{name}.txt"
    kept = before.read_text() if before.exists() else ""
    line = corpus.line_of(inputs[0].read_bytes())
    path.write_text(kept if line in kept.splitlines() else f"{kept}# {ascii(why)[1:-1]}\n{line}\n")
    return why


def minimised(name: str, found: Path, place: str, start: list[bytes]) -> list[bytes]:
    """The fewest inputs that reach what all reach together, without what the seeds have anyway."""
    merged = Path(place, "merged")
    merged.mkdir()
    output, status = run(name, ["-merge=1", str(merged), str(found)])
    inputs = [path.read_bytes() for path in merged.iterdir()]
    if status or not inputs:
        raise FuzzerFailed(f"{output}\n{name}: nothing could be merged (exit status {status})")
    kept = corpus.chosen([data for data in inputs if data not in start])
    path = OUT / "corpus" / f"{name}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{corpus.line_of(data)}\n" for data in kept))
    return kept


def escaped(word: bytes) -> str:
    """A word of libFuzzer's dictionary."""
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())

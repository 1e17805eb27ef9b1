"""Every input that fuzzing kept still keeps its promise: the seeds, the corpus, and what once broke something."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "fuzz"))

import corpus  # noqa: E402
from seeds import seeds  # noqa: E402
from targets import TARGETS  # noqa: E402

SEEDS = seeds()
MOST_BYTES = 250_000


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", TARGETS)
def test_what_is_kept_of_fuzzing_breaks_no_promise(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    tmp_path.chmod(0o755)
    with target.place(tmp_path):
        for data in [b"", *SEEDS[name], *corpus.read("corpus", name), *corpus.read("cases", name)]:
            try:
                target.run(data)
            except Exception as error:
                raise AssertionError(f"{name}: {corpus.line_of(data)}") from error


def test_each_target_has_seeds_and_nothing_is_kept_for_another() -> None:
    assert SEEDS.keys() == TARGETS.keys() and all(SEEDS.values())
    for kind in ("corpus", "cases"):
        assert {path.stem for path in (corpus.HERE / kind).glob("*.txt")} <= TARGETS.keys()


def test_the_corpus_is_small() -> None:
    files = [path for kind in ("corpus", "cases") for path in (corpus.HERE / kind).iterdir()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES


@pytest.mark.parametrize("data", [b"x", b"#x", b"a\nb\r\0\\x41'\"", bytes(range(256)), " \xe9 ".encode("latin-1")])
def test_an_input_is_kept_as_it_was(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "HERE", tmp_path)
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "x.txt").write_text(f"# why\n{corpus.line_of(data)}\n")
    assert corpus.read("cases", "x") == [data]

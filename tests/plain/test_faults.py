"""Each case of tests/faults.toml has a test or a reason, each mark a case, and tests/FAULTS.md says so as it is now."""

import importlib.util
import sys
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

TESTS = Path(__file__).resolve().parents[1]


def load() -> ModuleType:
    """The program tests/faults, which has no suffix."""
    spec = importlib.util.spec_from_loader("faults", SourceFileLoader("faults", str(TESTS / "faults")))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["faults"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


faults = load()
# Reading all tests takes half a second.
marks_of_all = cache(faults.all_marks)


@pytest.mark.thorough
def test_each_case_has_a_test_or_a_reason_and_each_mark_a_case() -> None:
    groups = faults.groups(faults.CASES.read_text())
    cases = [case for group in groups.values() for case in group]
    assert [case.name for case in cases] == [f"F{number}" for number in range(1, len(cases) + 1)]
    assert faults.problems(cases, marks_of_all()) == []


@pytest.mark.thorough
def test_the_page_is_as_tests_and_cases_are_now() -> None:
    """After a change of either: run tests/faults."""
    groups = faults.groups(faults.CASES.read_text())
    assert (TESTS / "FAULTS.md").read_text() == faults.page(groups, marks_of_all())


# --- the reader of marks ---

SOURCE = """
import pytest
pytestmark = [pytest.mark.fast, pytest.mark.fault("F1")]
CASES = {"no ip": 1, "no nft": 2}

@pytest.mark.fault("F2", "F3")
@pytest.mark.parametrize("case", CASES)
def test_plain(case): ...

@pytest.mark.fault("F4", of=("no ip", "no nft"))
def test_some(): ...

@pytest.mark.parametrize("x", ["a", pytest.param("b", marks=pytest.mark.fault("F5")), pytest.param(3, id="c", marks=[pytest.mark.fault("F6")])])
def test_parameters(x): ...

@pytest.mark.fault("F7")
class TestMany:
    @pytest.mark.fault("F8")
    def test_one(self): ...
    class TestInside:
        def test_two(self): ...

def helper(): ...
"""


def test_a_mark_is_found_on_functions_parameters_classes_and_whole_files() -> None:
    found = [(mark.test, name) for mark in faults.marks(SOURCE, "x.py") for name in mark.cases]
    assert sorted(found) == sorted([
        ("test_plain", "F1"), ("test_plain", "F2"), ("test_plain", "F3"), ("test_some", "F1"), ("test_some", "F4"),
        ("test_parameters", "F1"), ("test_parameters", "F5"), ("test_parameters", "F6"),
        ("TestMany::test_one", "F1"), ("TestMany::test_one", "F7"), ("TestMany::test_one", "F8"),
        ("TestMany::TestInside::test_two", "F1"), ("TestMany::TestInside::test_two", "F7"),
    ])  # fmt: skip
    shown = [mark.shown() for mark in faults.marks(SOURCE, "x.py") if {"F4", "F5", "F6"} & set(mark.cases)]
    assert shown == ["[test_some](x.py): no ip, no nft", "[test_parameters](x.py): b", "[test_parameters](x.py): c"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("@pytest.mark.fault('F1', of=('gone',))\ndef test_x(): ...", "test_x has no case 'gone'"),
        ("@pytest.mark.fault()\ndef test_x(): ...", "a mark is fault("),
        ("@pytest.mark.fault(1)\ndef test_x(): ...", "a mark is fault("),
        ("@pytest.mark.fault('F1', on='x')\ndef test_x(): ...", "a mark is fault("),
        ("@pytest.mark.fault('F1', of='x')\ndef test_x(): ...", "a mark is fault("),
        ("@pytest.mark.fault(NAME)\ndef test_x(): ...", "in plain words"),
        ("@pytest.mark.fault('F1')\ndef helper(): ...", "helper is no test"),
        ("@pytest.mark.fault('F1')\nclass Machine: ...", "Machine is no test"),
    ],
)
def test_a_mark_that_proves_nothing_is_an_error(source: str, words: str) -> None:
    with pytest.raises(faults.Wrong, match=words.replace("(", r"\(")):
        list(faults.marks(source, "x.py"))


ENTRIES = """
[a]
title = "A"
F1.case = "x"
F1.promise = "y"
F2.case = "x"
F2.not_built = "y"
"""


def test_what_is_missing_or_too_much_is_said() -> None:
    (cases,) = faults.groups(ENTRIES).values()
    assert faults.problems(cases, [faults.Mark("x.py", "test_x", ("F1",))]) == []
    assert faults.problems(cases, []) == ["F1: a promise without a test"]
    said = faults.problems(cases, [faults.Mark("x.py", "test_x", ("F1", "F2", "F3"))])
    assert said == ["x.py: test_x: no case F3 in faults.toml", "F2: not built, and tested"]
    for wrong in ("F3.case = 'x'", "F3.promise = 'x'", "F3.case='x'\nF3.promise='y'\nF3.not_built='z'", "F3.case='x'\nF3.more='y'"):
        with pytest.raises(faults.Wrong, match="F3: needs"):
            faults.groups(ENTRIES + wrong)


def test_the_page_has_a_row_for_each_case_with_its_tests() -> None:
    text = faults.page(faults.groups(ENTRIES), [faults.Mark("kernel/x.py", "test_x", ("F1",), ("a|b", "c"))])
    assert "2 cases, 1 tests; 1 cases concern what is not built." in text
    assert "| F1 | x | y | [test_x](kernel/x.py): a\\|b, c |" in text
    assert "| F2 | x | Not built: y | - |" in text

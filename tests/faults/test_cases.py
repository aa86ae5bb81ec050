"""Tests tell their cases, and the table what came of each."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.faults import cases

TESTS = Path(__file__).resolve().parents[1]


def marked() -> set[int]:
    """The numbers that stand in a `pytest.mark.case(...)` anywhere in the tests."""
    found: set[int] = set()
    for path in TESTS.rglob("test_*.py"):
        if path == Path(__file__):
            continue
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)) if "mark.case" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.case":
                found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return found


def test_the_cases_of_tests_are_those_of_the_list() -> None:
    assert set(cases.CASES) == set(range(1, 33))
    assert marked() == set(cases.CASES)


def test_the_table_tells_what_failed_and_what_was_not_run() -> None:
    def report(*numbers: int) -> SimpleNamespace:
        return SimpleNamespace(user_properties=[(cases.PROPERTY, number) for number in numbers])

    found = cases.outcomes({"passed": [report(1), report(1, 2)], "failed": [report(2)]})
    assert (found[1], found[2]) == (Counter(passed=2), Counter(passed=1, failed=1))
    lines = cases.table(found)
    assert len(lines) == 32
    assert lines[0].startswith("case  1: passed  (2 tests)")
    assert lines[1].startswith("case  2: FAILED  (1 tests, 1 failed)")
    assert lines[2].startswith("case  3: not run (0 tests)")


def test_an_unknown_case_is_refused() -> None:
    item = SimpleNamespace(nodeid="x", iter_markers=lambda name: [pytest.mark.case(33).mark])
    with pytest.raises(pytest.UsageError, match="there is no case 33"):
        cases.numbers_of(item)  # type: ignore[arg-type]

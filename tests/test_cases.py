"""Each case of docs/hardening.md and docs/operations.md has a test that is marked with it, or a reason why
it can't apply.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
PAGES = [(DOCS / name).read_text() for name in ("hardening.md", "operations.md")]
FOUND = [
    row for page in PAGES for row in re.findall(r"^\| ([DFOPSU]-\d\d) \| .+ \| (.+) \|$", page, re.MULTILINE)
]
ROWS = dict(FOUND)
NOT_HERE = "Does not apply:"


def marked(file: Path) -> set[str]:
    """Return the cases that the tests of a file are marked with, as `@pytest.mark.case("S-01")`."""
    return {
        argument.value
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "case"
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


@pytest.fixture(scope="module")
def shown() -> set[str]:
    """Read every test file, which takes a second."""
    return {case for file in TESTS.rglob("test_*.py") for case in marked(file)}


def test_each_case_on_the_page_has_a_test_or_does_not_apply(shown: set[str]) -> None:
    without = {case for case, what in ROWS.items() if case not in shown and not what.startswith(NOT_HERE)}

    assert not without


def test_each_case_that_a_test_is_marked_with_is_on_the_page(shown: set[str]) -> None:
    assert {case for case in shown if case not in ROWS or ROWS[case].startswith(NOT_HERE)} == set()


def test_the_pages_list_cases() -> None:
    assert len(ROWS) >= 80


def test_each_case_is_listed_only_once() -> None:
    assert len(FOUND) == len(ROWS)

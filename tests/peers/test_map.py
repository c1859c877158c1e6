"""The page of this folder tells the truth: every report has its tests, every test its report."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
TESTS = HERE.parent
NOT_FOR_US = "does not apply:"


class Row(NamedTuple):
    """One line of the page: which report, its threads, the tests that hold it, and the whole text of the tests' cell."""

    number: str
    threads: tuple[str, ...]
    tests: tuple[str, ...]
    cell: str


def rows() -> list[Row]:
    """Return the lines of the page's tables."""
    found = []
    for line in (HERE / "README.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"(\d+(\.\d+)?|[TF]\d)", cells[0]):
            threads = tuple(thread for thread in cells[1].split(", ") if thread)
            found.append(Row(cells[0], threads, tuple(re.findall(r"`([^`]+)`", cells[3])), cells[3]))
    return found


@cache
def docstrings(path: str) -> dict[str, str]:
    """Return the tests of a file, named from the folder of tests on, with their docstrings."""
    tree = ast.parse((TESTS / path).read_text("utf-8"))
    return {
        node.name: ast.get_docstring(node) or ""
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def text_of(test: str) -> str:
    path, name = test.split("::")
    return docstrings(path)[name]


def names(text: str, thread: str) -> bool:
    """Whether a docstring names a thread, such as 'freqtrade#10422': its project, and its number after a sign or a word."""
    project, number = re.split(r" PR#|#| ", thread, maxsplit=1)
    return project in text and re.search(rf"\b{re.escape(number)}\b", text) is not None


def test_the_page_has_every_report_once():
    numbers = [row.number for row in rows()]
    assert numbers[:30] == [str(number) for number in range(1, 31)]
    assert numbers[30:43] == [f"31.{number}" for number in range(1, 14)]
    assert numbers[43:] == [*(f"T{number}" for number in range(1, 10)), "F1", "F2"]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.number)
def test_a_report_has_tests_that_exist_or_a_reason_why_not(row):
    assert row.tests or row.cell.startswith(NOT_FOR_US)
    for test in row.tests:
        path, name = test.split("::")
        assert name in docstrings(path), f"row {row.number} names {test}, which is not there"


@pytest.mark.parametrize("row", [row for row in rows() if row.threads], ids=lambda row: row.number)
def test_every_thread_is_named_by_a_test_of_its_row(row):
    told = [text_of(test) for test in row.tests if test.startswith("peers/")]
    for thread in row.threads:
        assert any(names(text, thread) for text in told), f"row {row.number}: no docstring names {thread}"


def test_every_test_of_this_folder_has_a_report_whose_thread_it_names():
    listed: dict[str, list[str]] = {}
    for row in rows():
        for test in row.tests:
            listed.setdefault(test, []).extend(row.threads)
    for path in sorted(HERE.glob("test_*.py")):
        if path.name == Path(__file__).name:
            continue
        for name, text in docstrings(f"peers/{path.name}").items():
            test = f"peers/{path.name}::{name}"
            assert test in listed, f"{test} has no row in README.md"
            assert any(names(text, thread) for thread in listed[test]), f"the docstring of {test} names no thread of its row"


def test_no_name_is_given_to_two_tests():
    seen = [name for path in HERE.glob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.M)]
    assert len(seen) == len(set(seen))

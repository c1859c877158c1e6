"""The page of this folder is complete: every row has tests that exist or a reason, every test of the folder a row."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROWS = [*(f"B{number}" for number in range(1, 15)), *(f"D{number}" for number in range(1, 10)), *(f"F{number}" for number in range(1, 10))]


def rows() -> dict[str, str]:
    """Return the last cell of each row by the row's number."""
    cells = [line.strip("|").split("|") for line in (HERE / "README.md").read_text("utf-8").splitlines() if re.match(r"\| [BDF]\d", line)]
    return {cell[0].strip(): cell[-1].strip() for cell in cells}


@cache
def named_in(path: str) -> frozenset[str]:
    tree = ast.parse((HERE.parent / path).read_text("utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


def test_the_page_has_every_trap_once() -> None:
    assert list(rows()) == ROWS


@pytest.mark.parametrize("row", ROWS)
def test_a_trap_has_tests_that_exist_or_a_reason_why_not(row: str) -> None:
    cell = rows()[row]
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", cell)

    assert named or cell.startswith("does not apply: ")
    assert [test for path, test in named if test not in named_in(path)] == []


def test_every_test_of_this_folder_has_a_row() -> None:
    page = " ".join(rows().values())

    assert [name for name in named_in("traps/test_traps.py") if f"`traps/test_traps.py::{name}`" not in page] == []

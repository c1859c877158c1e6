"""docs/data.md names every shape, finding and policy there is, and no other."""

import re
from dataclasses import fields
from inspect import signature
from pathlib import Path

from bt_margin import PerpData
from bt_margin.joining import Terms
from bt_margin.shapes import SHAPES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "data.md").read_text("utf-8")


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def first_column(text: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", text, re.M)


def test_the_page_lists_every_shape() -> None:
    assert first_column(section("Shapes")) == list(SHAPES)


def test_the_page_lists_every_finding_with_its_word() -> None:
    source = (ROOT / "bt_margin" / "quality.py").read_text("utf-8")
    words = set(re.findall(r'(?:Finding|_named)\(\s*"(\w+)"', source)) | set(re.findall(r'_unmoved\([^\n]*?"(\w+_\w+)"', source))

    assert sorted(first_column(section("What is found"))) == sorted(words)


def test_every_term_of_joining_is_an_argument_and_on_the_page() -> None:
    names = {term.name for term in fields(Terms)}

    assert names <= set(signature(PerpData.from_files).parameters)
    assert {name for name in names if name not in PAGE} == set()

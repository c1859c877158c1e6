"""The gallery says what its program says: the same text, and a page for each story, from the exchange records."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("plotly", reason="the gallery's pages need the extra: pip install -e '.[report]'")

DOCS = Path(__file__).parents[1] / "docs"

pytestmark = pytest.mark.slow


def test_the_gallery_can_be_built_again_and_says_the_same(reference, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("docs_gallery", DOCS / "gallery.py")
    assert spec is not None
    assert spec.loader is not None
    gallery = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, gallery)  # Backtrader looks its classes' modules up there
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec.loader.exec_module(gallery)
    monkeypatch.setattr(gallery, "GALLERY", tmp_path)
    gallery.main(reference / "data")
    assert (tmp_path / "README.md").read_text("utf-8") == (DOCS / "gallery" / "README.md").read_text("utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {
        "README.md",
        *(f"{story.name}.{suffix}" for story in gallery.STORIES for suffix in ("png", "html")),
    }


def test_every_story_has_ten_lines_and_its_picture():
    parts = (DOCS / "gallery" / "README.md").read_text("utf-8").split("\n## ")[1:]
    assert len(parts) == 5
    for part in parts:
        _, picture, text = part.strip().split("\n\n")
        assert (DOCS / "gallery" / picture.rpartition("(")[2].rstrip(")")).exists()
        assert len(text.splitlines()) == 10

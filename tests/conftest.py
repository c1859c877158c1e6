"""Shared fixtures."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of real market data and published figures; tests that need it skip where it is absent."""
    folder = os.environ.get("BT_MARGIN_REFERENCE")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs the reference data: set BT_MARGIN_REFERENCE to its folder")
    return Path(folder)

"""Shared fixtures."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("fixed", derandomize=True)  # the same cases on every machine; a longer hunt says settings of its own
settings.load_profile("fixed")

# Pictures take the fonts that come with matplotlib, whatever the machine has: before anything imports matplotlib, its list of fonts
# (which lacks its own where it was made while another environment was being removed) and the user's settings are left aside.
_MATPLOTLIB = tempfile.TemporaryDirectory(prefix="matplotlib-")
os.environ |= {"MPLCONFIGDIR": _MATPLOTLIB.name, "MPL_IGNORE_SYSTEM_FONTS": "1"}


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-mpl compare the images it is given, where it is installed; by itself it only draws them."""
    config.addinivalue_line("markers", "mpl_image_compare: the figure that the test returns is compared with an image, by pytest-mpl")
    if hasattr(config.option, "mpl"):
        config.option.mpl = True


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of real market data and published figures; tests that need it skip where it is absent."""
    folder = os.environ.get("BT_MARGIN_REFERENCE")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs the reference data: set BT_MARGIN_REFERENCE to its folder")
    return Path(folder)


@pytest.fixture(autouse=True)
def _piped_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tables be as wide as in a pipe: pytest-xdist tells its workers the width of the caller's terminal."""
    monkeypatch.delenv("COLUMNS", raising=False)

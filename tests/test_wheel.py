"""What a stranger installs is complete: built from the sources, put into another environment, and its demo run there."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
NOT_SOURCES = shutil.ignore_patterns(".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "build", "dist", "*.egg-info")

pytestmark = pytest.mark.slow


class Built(NamedTuple):
    sdist: Path
    wheel: Path


def run(*command: str | Path, cwd: Path) -> str:
    """Return what a command prints; fail with all it said where it ends badly."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "BT_MARGIN_REFERENCE")}
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist, and the wheel made of it. From a copy: leftovers of other builds in the checkout would get into them."""
    sources = tmp_path_factory.mktemp("checkout") / "sources"
    shutil.copytree(ROOT, sources, ignore=NOT_SOURCES)
    out = sources.parent / "built"
    # Without isolation the build takes the setuptools that is here, and needs no network.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, cwd=sources)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture(scope="module")
def elsewhere(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of a new environment with the wheel in it.

    What the wheel depends on is lent by the environment the tests run in, through a .pth file: installing it again would
    need the network and a minute. An editable install of the checkout is not lent, for a lent folder's own .pth files are
    not read.
    """
    folder = tmp_path_factory.mktemp("elsewhere") / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    paths = sysconfig.get_paths("venv", {"base": str(folder), "platbase": str(folder)})
    (Path(paths["purelib"]) / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    commands = Path(paths["scripts"])
    run(sys.executable, "-m", "pip", "--python", commands / "python", "install", "--no-deps", "--no-index", built.wheel, cwd=folder)
    return commands


def test_the_wheel_carries_the_package_its_candles_and_venues_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if not name.startswith("bt_margin-")}
        (metadata,) = (message_from_bytes(wheel.read(name)) for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "bt_margin").rglob("*.py")}
    venues = {path.relative_to(ROOT).as_posix() for path in (ROOT / "bt_margin").rglob("*.json")}
    mapped = {f"bt_margin/{path.relative_to(ROOT).as_posix()}" for room in ("data", "strategies") for path in (ROOT / room).glob("*.py")}
    data = {f"bt_margin/data/{path.name}" for path in (ROOT / "data").iterdir() if path.suffix in (".gz", ".txt", ".md")}
    pages = {
        path.relative_to(ROOT).as_posix() for kind in ("css", "j2", "js") for path in (ROOT / "bt_margin" / "report").glob(f"*.{kind}")
    }
    assert names == modules | venues | mapped | data | pages
    assert metadata["License-Expression"] == "GPL-3.0-or-later"


def test_the_sdist_carries_what_runs_its_tests(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    tests = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*") if path.suffix in (".py", ".json")}
    assert (tests | {"LICENSE", "README.md", "Makefile", "constraints.txt", "setup.cfg", "pyproject.toml"}) - names == set()


def test_the_demo_runs_where_nothing_but_the_wheel_was_installed(elsewhere: Path, tmp_path: Path) -> None:
    home = run(elsewhere / "python", "-c", "import bt_margin.data, bt_margin.strategies; print(bt_margin.__path__[0])", cwd=tmp_path)
    assert Path(home.strip()).is_relative_to(elsewhere.parent)

    printed = run(elsewhere / "bt-margin", "demo", cwd=tmp_path)

    (picture,) = tmp_path.iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000
    assert picture.name in printed

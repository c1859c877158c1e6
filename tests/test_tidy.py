"""House rules: imports only go down, functions stay short, importing stays cheap, nothing is left half done."""

import ast
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from inspect import ismodule
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

import bt_margin

ROOT = Path(__file__).parents[1]
PACKAGE = "bt_margin"

# Every room of the package, and the floor it is on. ``data`` and ``strategies`` are top-level folders of the checkout.
FLOORS = {
    "core": 0,
    "venues": 1,
    "data": 1,
    "markets": 1,
    "strategies": 1,
    "averages": 2,
    "basket": 2,
    "broker": 2,
    "calculator": 2,
    "clock": 2,
    "comminfo": 2,
    "desk": 2,
    "detail": 2,
    "fetching": 2,
    "feeds": 2,
    "frames": 2,
    "hostorder": 2,
    "invariants": 2,
    "lone": 2,
    "hosttrade": 2,
    "matching": 2,
    "joining": 2,
    "passed": 2,
    "quality": 2,
    "resampling": 2,
    "shapes": 2,
    "record": 2,
    "scalers": 2,
    "screen": 2,
    "sizers": 2,
    "slots": 2,
    "thresholds": 2,
    "late": 2,
    "locking": 2,
    "legs": 2,
    "loop": 2,
    "lull": 2,
    "view": 2,
    "analyzers": 3,
    "bootstrap": 3,
    "cerebro": 3,
    "hostplot": 3,
    "laboratory": 3,
    "measures": 3,
    "observers": 3,
    "outcome": 3,
    "panels": 3,
    "plots": 3,
    "report": 3,
    "result": 3,
    "sweep": 3,
    "tearsheet": 3,
    "traces": 3,
    "backtest": 4,
    "calc": 4,
    "checking": 4,
    "cli": 4,
    "comparison": 4,
    "engines": 4,
    "interrupt": 4,
    "ladder": 4,
    "loading": 4,
    "plugging": 4,
    "terminal": 4,
    "supplying": 4,
    "tables": 4,
    "tiering": 4,
    "__main__": 4,
}
OUTSIDE = {"data": ROOT / "data", "strategies": ROOT / "strategies"}
HOST_ROOMS = {room for room, floor in FLOORS.items() if floor == 2} | {"strategies"}
HOST_ROOMS |= {"analyzers", "cerebro", "hostplot", "observers"}  # the gallery's rooms that the host itself calls
HOST_ROOMS |= {"backtest", "comparison", "engines", "loading", "plugging"}
NOT_IN_CORE = {"io", "json", "logging", "os", "pathlib", "random", "secrets", "socket", "subprocess", "sys", "tempfile", "time"}
HEAVY = {"dask", "distributed", "jinja2", "joblib", "matplotlib", "pandas", "plotly", "rich", "typer"}

PUBLIC_NAMES = [
    "Cerebro",
    "Comparison",
    "Contract",
    "FundingSchedule",
    "MarginAccount",
    "MarginBroker",
    "OrderTerms",
    "PerpCommInfo",
    "PerpData",
    "Report",
    "Result",
    "Risk",
    "Tier",
    "TierSchedule",
    "TierTable",
    "TopUp",
    "analyzers",
    "bankruptcy_price",
    "calculator",
    "compare",
    "liquidation_price",
    "load",
    "markets",
    "observers",
    "plan_liquidation",
    "plot",
    "plots",
    "plug",
    "resample",
    "run",
    "scalers",
    "sizers",
    "venues",
]

SOURCE_FOLDERS = ("benchmarks", "bt_margin", "data", "examples", "strategies", "tests")
TEXT_SUFFIXES = {".cfg", ".css", ".in", ".j2", ".js", ".md", ".py", ".toml", ".txt", ""}
PRINTERS = (
    "bt_margin/checking.py",
    "bt_margin/cli.py",
    "bt_margin/supplying.py",
    "bt_margin/tiering.py",
    "bt_margin/__main__.py",
    "benchmarks/",
    "examples/",
    "data/rebuild_btcusdt.py",
)
LONGEST_FUNCTION = 60
# Spelled in pieces, so that this file does not find itself.
LEFT_OPEN = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error"]) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:" + "|".join(["tmp", "work", "root", "home", "opt", "Users"]) + r")/\w")


A_BACKTEST_OF_ARRAYS = """
import bt_margin
class Holder(backtrader.Strategy):
    def next(self):
        self.position or self.buy()
prices = numpy.linspace(100.0, 110.0, 50)
columns = {"time": 1_704_067_200 + 3_600 * numpy.arange(50), **dict.fromkeys(("open", "high", "low", "close"), prices)}
funding = {"BTCUSDT": {"time": [1_704_096_000, 1_704_124_800], "rate": [0.0001, -0.0001]}}
result = bt_margin.run(Holder, data={"BTCUSDT": columns}, leverage=5, mark={"BTCUSDT": columns}, funding=funding)
assert result.summary["funding"] > 0  # paid at a lower mark than it was received
str(result)
result.settings, list(result.strategy.broker.journal), result.baseline
"""


class Import(NamedTuple):
    """One import: who (dotted, inside the package), what (dotted), and whether only for type checkers."""

    importer: str
    imported: str
    for_types: bool
    line: int


def dotted(path: Path, folder: Path, prefix: str) -> str:
    """Return the dotted name of a module file under a folder that is imported as ``prefix``."""
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join([prefix, *(parts[:-1] if parts[-1] == "__init__" else parts)])


def imports_of(source: str, name: str, *, is_package: bool) -> Iterator[Import]:
    """Yield every import of a module at any depth: absolute, relative, and by ``import_module`` with a literal name."""
    tree = ast.parse(source)
    guarded = {
        id(node) for top in ast.walk(tree) if isinstance(top, ast.If) and "TYPE_CHECKING" in ast.dump(top.test) for node in ast.walk(top)
    }
    package = name.split(".") if is_package else name.split(".")[:-1]
    for node in ast.walk(tree):
        for target in targets(node, package):
            yield Import(name, target, id(node) in guarded, node.lineno)


def targets(node: ast.AST, package: list[str]) -> list[str]:
    """Return the dotted names a node imports, given the package its module is in; [] for a node that imports nothing."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else []
        stem = ".".join([*base, *([node.module] if node.module else [])]) or "." * node.level
        return [f"{stem}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return [node.args[0].value] if called in ("import_module", "__import__") else []
    return []


def package_imports() -> list[Import]:
    """Return every import in the package as it is installed, ``data`` and ``strategies`` among it."""
    found: list[Import] = []
    for folder, prefix in ((ROOT / PACKAGE, PACKAGE), *((path, f"{PACKAGE}.{room}") for room, path in OUTSIDE.items())):
        for path in sorted(folder.rglob("*.py")):
            found += imports_of(path.read_text("utf-8"), dotted(path, folder, prefix), is_package=path.name == "__init__.py")
    return found


def room_of(name: str) -> str | None:
    """Return the room a dotted name of the package is in, None for the package itself or another package."""
    parts = name.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else None


def breaches(found: Iterable[Import]) -> list[str]:
    """Return one sentence for every import that goes upstairs, through the front door, or to what its room may not have."""
    wrong = []
    for who, what, _, line in found:
        room, target, top = room_of(who), room_of(what), what.split(".")[0]
        where = f"{who}:{line} imports {what}"
        if room not in FLOORS:  # the front door, which names what users see from any floor
            continue
        if room in OUTSIDE and top == PACKAGE and target != room:
            wrong.append(f"{where}: {room} stands without the package")
        elif top == PACKAGE and target not in FLOORS:
            wrong.append(f"{where}: import from the room that has it, not from the package")
        elif target in FLOORS and FLOORS[target] > FLOORS[room]:
            wrong.append(f"{where}: floor {FLOORS[room]} does not import from floor {FLOORS[target]}")
        elif top == "backtrader" and room not in HOST_ROOMS:
            wrong.append(f"{where}: only {', '.join(sorted(HOST_ROOMS))} know the host")
        elif room == "core" and top != PACKAGE and (top not in sys.stdlib_module_names or top in NOT_IN_CORE):
            wrong.append(f"{where}: the vault has the standard library only, without clock, files or logging")
    return wrong


def modules_named(found: Iterable[Import], names: set[str]) -> dict[str, set[str]]:
    """Return which modules of the package each one imports when it runs, imports for type checkers left out."""
    graph: dict[str, set[str]] = {name: set() for name in names}
    for who, what, for_types, _ in found:
        parent = what.rpartition(".")[0]
        target = what if what in names else parent if parent in names else None
        if target and target != who and who in names and not for_types:
            graph[who].add(target)
    return graph


def cycle_in(graph: dict[str, set[str]]) -> list[str]:
    """Return modules that import each other in a ring, [] if there are none."""
    finished: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in finished:
            return []
        for target in sorted(graph[name]):
            if ring := visit(target, [*trail, name]):
                return ring
        finished.add(name)
        return []

    return next((ring for name in sorted(graph) if (ring := visit(name, []))), [])


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def text_files() -> list[Path]:
    """Return the files people read: sources, settings and documents at the top, in ``.ci`` and in every source folder."""
    found = [
        path for path in ROOT.iterdir() if path.is_file() and path.name not in ("LICENSE", ".git", ".gitignore")
    ]  # of a worktree ".git" is a file
    found += [path for folder in (".ci", "docs", *SOURCE_FOLDERS) for path in (ROOT / folder).rglob("*") if path.is_file()]
    return sorted(path for path in found if path.suffix in TEXT_SUFFIXES and not path.name.startswith("LICENSE"))


def said(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines_matching(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{said(path)}:{number}: {line.strip()[:100]}"
        for path in text_files()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


def test_every_room_has_a_floor() -> None:
    rooms = {path.stem if path.suffix == ".py" else path.name for path in (ROOT / PACKAGE).iterdir() if path.name[0] not in "_."}
    assert rooms - set(FLOORS) == set()


def test_imports_only_go_down() -> None:
    assert breaches(package_imports()) == []


def test_no_modules_import_each_other_in_a_ring() -> None:
    found = package_imports()
    names = {row.importer for row in found} - {PACKAGE}
    assert cycle_in(modules_named(found, names)) == []


@pytest.mark.parametrize(
    ("module", "source", "word"),
    [
        ("bt_margin.core.tiers", "from ..broker import MarginBroker", "floor 0 does not import from floor 2"),
        ("bt_margin.core.tiers", "def f():\n    from bt_margin import venues", "floor 0 does not import from floor 1"),
        ("bt_margin.core.tiers", "def f():\n    if f:\n        import bt_margin.cli", "floor 0 does not import from floor 4"),
        ("bt_margin.core.tiers", "import numpy", "standard library only"),
        ("bt_margin.core.tiers", "def f():\n    import logging.handlers", "standard library only"),
        ("bt_margin.core.tiers", "from .. import MarginBroker", "not from the package"),
        ("bt_margin.venues", "from importlib import import_module\nimport_module('backtrader')", "know the host"),
        ("bt_margin.record", "from . import result", "floor 2 does not import from floor 3"),
        ("bt_margin.result", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .cli import main", "floor 3 does not import"),
        ("bt_margin.result", "import backtrader as bt", "know the host"),
        ("bt_margin.cli", "from bt_margin import run", "not from the package"),
        ("bt_margin.data", "from .. import feeds", "stands without"),
        ("bt_margin.strategies.sma_cross", "import bt_margin as bm", "stands without"),
    ],
)
def test_the_floor_rule_catches(module: str, source: str, word: str) -> None:
    (sentence,) = breaches(imports_of(source, module, is_package=module in ("bt_margin.venues", "bt_margin.data")))
    assert word in sentence


def test_the_floor_rule_lets_pass_what_goes_down() -> None:
    source = "import backtrader\nfrom . import venues\nfrom .core import tiers\nfrom .core.tiers import Tier\nimport bt_margin.clock"
    assert breaches(imports_of(source, "bt_margin.broker", is_package=False)) == []
    assert breaches(imports_of("from .rebuild_btcusdt import report", "bt_margin.data", is_package=True)) == []


def test_a_ring_is_found_and_a_chain_is_not() -> None:
    names = {"bt_margin.a", "bt_margin.b", "bt_margin.c"}
    chain = [Import(f"bt_margin.{a}", f"bt_margin.{b}.name", False, 1) for a, b in pairwise("abc")]
    assert cycle_in(modules_named(chain, names)) == []
    ring = [*chain, Import("bt_margin.c", "bt_margin.a", False, 1)]
    assert cycle_in(modules_named(ring, names)) == ["bt_margin.a", "bt_margin.b", "bt_margin.c", "bt_margin.a"]


def test_the_vault_reads_no_clock_and_opens_nothing() -> None:
    calls = [
        f"{said(path)}:{node.lineno}"
        for path in python_files("bt_margin/core")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and (getattr(node.func, "id", "") in ("open", "input", "print") or getattr(node.func, "attr", "") in ("now", "utcnow", "today"))
    ]
    assert calls == []


def test_functions_are_short_enough_to_read_in_one_go() -> None:
    long = [
        f"{said(path)}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in python_files(*SOURCE_FOLDERS)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ]
    assert long == []


def test_only_what_talks_to_people_prints() -> None:
    printing = [
        f"{said(path)}:{node.lineno}"
        for path in python_files(*SOURCE_FOLDERS)
        if not said(path).startswith(PRINTERS)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    assert printing == []


def test_nothing_is_left_open() -> None:
    assert lines_matching(LEFT_OPEN) == []


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    assert lines_matching(MACHINE_PATH) == []


def loaded_by(statements: str) -> set[str]:
    """Return the modules that statements add to a fresh process that has the host and numpy."""
    lines = [
        "import json, sys, backtrader, numpy",
        "before = set(sys.modules)",
        statements,
        "print(json.dumps(list(set(sys.modules) - before)))",
    ]
    program = "\n".join(lines)
    command = [sys.executable, "-W", "ignore", "-c", program]
    return set(json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout))


def test_importing_the_package_loads_the_front_door_alone() -> None:
    assert loaded_by("import bt_margin") == {"bt_margin", "bt_margin.interrupt"}


def test_a_broker_and_its_feed_load_no_room_and_no_library_that_they_do_not_need() -> None:
    loaded = loaded_by("from bt_margin import MarginBroker, PerpCommInfo, PerpData")
    assert {f"bt_margin.{room}" for room in ("broker", "feeds", "comminfo")} <= loaded
    rooms = {room for name in loaded if (room := room_of(name))}
    assert rooms & {"analyzers", "backtest", "calculator", "hostplot", "loading", "plots", "result", "tables", "venues"} == set()
    assert {name.partition(".")[0] for name in loaded} & (HEAVY | {"csv", "inspect", "tomllib", "zoneinfo"}) == set()


def test_no_public_name_loads_anything_heavy() -> None:
    loaded = {name.partition(".")[0] for name in loaded_by("from bt_margin import *\nMarginBroker, plots.page")}
    assert loaded & HEAVY == set()


def test_a_backtest_of_arrays_and_its_summary_load_nothing_heavy() -> None:
    loaded = loaded_by(A_BACKTEST_OF_ARRAYS)
    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()


def test_the_package_exports_exactly_the_public_names() -> None:
    assert sorted(bt_margin.__all__) == PUBLIC_NAMES
    assert [name for name in bt_margin.__all__ if not hasattr(bt_margin, name)] == []
    assert set(PUBLIC_NAMES) <= set(dir(bt_margin))


def test_public_names_are_what_type_checkers_take_them_for() -> None:
    source = (ROOT / PACKAGE / "__init__.py").read_text("utf-8")
    promised = {row.imported for row in imports_of(source, PACKAGE, is_package=True) if row.for_types}
    assert {name.rpartition(".")[2] for name in promised} == set(PUBLIC_NAMES)
    for name in promised:
        room, _, last = name.rpartition(".")
        held = import_module(name) if room == PACKAGE else getattr(import_module(room), last)
        assert getattr(bt_margin, last) is held


def test_no_room_takes_the_place_of_a_public_name() -> None:
    rooms = {path.stem for path in (ROOT / PACKAGE).iterdir()}
    assert {name for name in PUBLIC_NAMES if name in rooms} == {name for name in PUBLIC_NAMES if ismodule(getattr(bt_margin, name))}


def test_a_name_that_the_package_has_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'bt_margin' has no attribute 'MarginBrokre'"):
        _ = bt_margin.MarginBrokre
    with pytest.raises(ImportError, match="cannot import name 'MarginBrokre'"):
        from bt_margin import MarginBrokre  # noqa: F401


def test_public_classes_are_pickled_by_the_room_that_has_them() -> None:
    for name in PUBLIC_NAMES:
        value = getattr(bt_margin, name)
        assert ismodule(value) or pickle.loads(pickle.dumps(value)) is value

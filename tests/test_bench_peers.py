"""The page of other engines tells no machine, names engines that did not run, and marks those that did other work."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from bypath import loaded

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    return loaded(ROOT / "benchmarks" / "peers.py")


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        (
            "WARNING: old pip\nERROR: No matching distribution found for engine==9\n",
            "ERROR: No matching distribution found for engine==9",
        ),
        ("ERROR: could not fetch https://packages.example.org/simple/x/ (404)\n", "ERROR: could not fetch ... (404)"),
        ("HTTPSConnectionPool(host='packages.example.org', port=443): ERROR", "HTTPSConnectionPool(..., port=443): ERROR"),
        (
            'Traceback (most recent call last):\n  File "/srv/place/run.py", line 3\nValueError: no /srv/place/data.csv here',
            "ValueError: no ... here",
        ),
        ("ERROR: a|b", "ERROR: a/b"),
        ("", "ended with 3"),
    ],
)
def test_an_error_is_told_by_its_last_sentence_without_places(peers: ModuleType, printed: str, told: str) -> None:
    assert peers.last_sentence(printed, "ended with 3") == told


def test_an_engine_that_fails_is_a_row_and_its_neighbours_keep_their_figures(peers: ModuleType) -> None:
    found = {engine.name: peers.Figures([2.0], [3.0], [100.0], 59 * engine.fills_a_turn, 99_998.2, "1.0") for engine in peers.ENGINES}
    found["bt_margin"].seconds = [0.5]
    found["jesse"].missing = "not done after 15 minutes"
    found["backtesting.py"].fills = 60 + 5
    lines = {line.split(" ")[1]: line for line in peers.speed_table(peers.ENGINES, found, 10_000).splitlines()}
    # 2 s / 10,000 bars = 200 us a bar, as much as stock and 2 / 0.5 of bt_margin
    assert lines["NautilusTrader"] == (
        "| NautilusTrader 1.0 | 200.0 (200.0-200.0) | 1.000 | 4.000 | 3.0 (3.0-3.0) | 100 | 59 | 99,998.20 |"
    )
    assert "| 118 (2 a turn) |" in lines["freqtrade"]
    assert "| 65, **other work** |" in lines["backtesting.py"]
    assert lines["jesse"] == "| jesse 1.0 | not measured: not done after 15 minutes |  |  |  |  |  |  |"


def test_a_command_that_fails_says_why_in_one_sentence(peers: ModuleType) -> None:
    with pytest.raises(peers.Missing, match=r"^ValueError: nothing$"):
        peers.run([sys.executable, "-c", "raise ValueError('nothing')"], 60)


def test_every_engine_has_a_program_and_only_ours_see_the_checkout(peers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "somewhere")
    for engine in peers.ENGINES:
        assert (ROOT / "benchmarks" / "engines" / engine.program[0]).is_file()
        assert ("PYTHONPATH" in peers.environment(engine)) == engine.is_own
        assert len(engine.models) == 5


def test_git_ignores_the_environments(peers: ModuleType) -> None:
    assert peers.ENVIRONMENTS.parent == ROOT
    assert peers.ENVIRONMENTS.name.startswith(".venv")
    assert ".venv*/" in (ROOT / ".gitignore").read_text().splitlines()

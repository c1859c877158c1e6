"""The page on venues is what its generator writes from the data, and says what the data say."""

import importlib.util
import sys
from dataclasses import make_dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest

from bt_margin import venues
from bt_margin.core.profiles import PROFILES

FOLDER = Path(__file__).parents[1] / "docs"


def module() -> ModuleType:
    """Import the generator by its path."""
    spec = importlib.util.spec_from_file_location("docs_venues", FOLDER / "venues.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


docs = module()
PAGE = (FOLDER / "venues.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    """Return what the page says of one venue."""
    return PAGE.partition(f'<a id="{name}"></a>')[2].partition('<a id="')[0]


SHIPPED = [name for name in venues.names() if name != "generic"]


def test_the_page_is_what_the_generator_writes():
    assert docs.page() == PAGE, "the data have changed: run python docs/venues.py"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_venue_is_told_with_its_source_its_day_its_fees_and_what_is_missing(name):
    venue, said = venues.load(name), section(name)
    assert f"fetched {venue.retrieved}." in said
    for figure in ("maker", "taker", "liquidation_fee", "profile", "margin_terms", "funding", "tiers"):
        assert venue.sources[figure].replace("|", "\\|") in said
    assert [line for line in venue.not_sourced if f"- {line}" not in said] == []
    assert [symbol for symbol in {contract.symbol for contract in venue.contracts.values()} if symbol not in said] == []
    assert f"| `{venue.profile}` |" in said


def test_figures_of_the_page_can_be_looked_up():
    """Read off by hand from the venues' own pages and answers; see the sources on the page."""
    assert "| trading fee, taker | `taker` | 0.055 % |" in section("bybit")
    assert "before 2025-09-02: notional at entry, the taker fee" in section("bybit")
    assert "from 2025-09-02: notional at mark, the taker fee of closing at the bankruptcy price" in section("bybit")
    assert "| BTC-USDT-SWAP | 0.01, 0.01 | 2026-09-18 | none | 99 | to 1,000: 0.4 %, 100x | to 1,940,000: 48.75 %, 2x |" in section("okx")
    assert "to 150,000,000: 1.25 %, 40x | any size: 2.5 %, 20x |" in section("hyperliquid")
    assert "every 1 h at oracle, -4 % to 4 %" in section("hyperliquid")


def test_the_articles_figures_are_computed():
    told = PAGE.partition("## Where the founding articles disagree")[2]
    assert f"dies at {95_000 / 0.995:,.2f}" in told
    assert f"the articles' {100_000 * (1 - 0.05 + 0.005):,.2f} |" in told
    assert f"{100 * (1 - 0.9 / 0.99):.2f} % away" in told
    assert f"{100 * 1.075 / 0.575:.3f} %" in told
    assert f"{100 * 0.9**10:.2f} % remain" in told


def test_a_new_profile_brings_its_settings_and_takes_the_old_gaps_with_it(monkeypatch):
    wider = make_dataclass("Wider", [("name", str), ("takes_over", bool), ("cooldown", float)], frozen=True)
    monkeypatch.setitem(PROFILES, "hyperliquid", wider("hyperliquid", False, 30.0))
    venue = replace(venues.load("hyperliquid"), profile="hyperliquid")
    assert "| `hyperliquid` | `takes_over` no, `cooldown` 30 | `hyperliquid` |" in docs.profiles({"hyperliquid": venue})
    assert "30 seconds later" in section("hyperliquid")
    assert "30 seconds later" not in docs.venue_section(venue)


def test_a_venue_without_notes_is_refused(monkeypatch):
    monkeypatch.delitem(docs.NOTES, "gate")
    with pytest.raises(ValueError, match="no notes on gate"):
        docs.page()

"""The page on venues is what its generator writes from the data, and says what the data say."""

from dataclasses import replace
from pathlib import Path

import pytest
from bypath import loaded

from bt_margin import venues
from bt_margin.core.profiles import PROFILES

FOLDER = Path(__file__).parents[1] / "docs"


docs = loaded(FOLDER / "venues.py")
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


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_told_with_its_source_and_who_uses_it(name):
    (told,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` | `") and PROFILES[name].source in line]
    users = [venue for venue in venues.names() if venues.load(venue).profile == name]
    assert f"| {', '.join(f'`{user}`' for user in users) or 'none'} |" in told


def test_a_profile_of_ones_own_brings_its_settings(monkeypatch):
    own = replace(PROFILES["okx"], name="own", fee="taker", backstop=0.5)
    monkeypatch.setitem(PROFILES, "own", own)
    part = "tiers (down 2, from_tier 3, must_suffice no, spares_first yes)"
    settings = f"`cancels` wallet, `part` {part}, `fee` taker, `rest` taken_over, `backstop` 0.5"
    assert f"| `own` | {settings} | none |" in docs.profiles({})


def test_a_venue_without_notes_is_refused(monkeypatch):
    monkeypatch.delitem(docs.NOTES, "gate")
    with pytest.raises(ValueError, match="no notes on gate"):
        docs.page()

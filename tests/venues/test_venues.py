"""The archive: what the venue files say, dated as the venue dated it, and errors that say where a file is wrong."""

import ast
import json
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from math import inf
from pathlib import Path
from typing import Any

import pytest

from bt_margin import venues
from bt_margin.core.terms import MarginTerms
from bt_margin.core.tiers import Tier, TierTable
from bt_margin.venues import FundingFacts, Venue, VenueContract, load, names, plain_symbol, read

SYMBOLS = ["1000PEPEUSDT", "1000SHIBUSDT", "AAVEUSDT", "ADAUSDT", "AVAXUSDT", "BCHUSDT", "BNBUSDT", "BTCUSDT", "DOGEUSDT", "ETHUSDT"]
SYMBOLS += ["FTTUSDT", "HBARUSDT", "LINKUSDT", "LTCUSDT", "LUNA2USDT", "LUNAUSDT", "SOLUSDT", "SUIUSDT", "TRXUSDT", "XLMUSDT"]
SYMBOLS += ["XRPUSDT", "ZECUSDT"]
FILES = [name for name in names() if name != "generic"]
NO_CAP = 2**62  # the snapshots give the largest 64-bit integer where there is no cap


@pytest.fixture(scope="module")
def binance() -> Venue:
    return load("binance")


def table(venue: Venue, symbol: str, day: str) -> TierTable:
    """Return the table in force as a UTC day begins."""
    return venue.contract(symbol).tiers.at(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("symbol", "day", "notional", "maintenance"),
    [
        ("BTCUSDT", "2026-09-30", 100_000, 100_000 * 0.004),
        ("BTCUSDT", "2026-09-30", 1_000_000, 300_000 * 0.004 + 500_000 * 0.005 + 200_000 * 0.0065),
        ("BTCUSDT", "2026-09-30", 1_000_000, 1_000_000 * 0.0065 - 1_500),
        ("BTCUSDT", "2024-10-24", 1_000_000, 1_000_000 * 0.0065 - 950),
        ("ETHUSDT", "2026-09-30", 60_000_000, 60_000_000 * 0.025 - 382_000),
        ("SOLUSDT", "2026-09-30", 400_000, 400_000 * 0.0065 - 75),
        ("XRPUSDT", "2026-09-30", 100_000, 100_000 * 0.01 - 360),
        ("DOGEUSDT", "2026-09-30", 100_000_000, 100_000_000 * 0.25 - 8_366_280),
    ],
)
def test_maintenance_follows_the_published_table(binance: Venue, symbol: str, day: str, notional: float, maintenance: float) -> None:
    assert table(binance, symbol, day).maintenance_margin(notional) == pytest.approx(maintenance, rel=1e-12)


def test_a_new_table_applies_from_the_day_it_is_dated(binance: Venue) -> None:
    before = table(binance, "BTCUSDT", "2022-05-20").maintenance_margin(8_000_000)
    after = table(binance, "BTCUSDT", "2022-05-21").maintenance_margin(8_000_000)

    assert (before, after) == (8_000_000 * 0.05 - 203_800, 8_000_000 * 0.025 - 16_300)


def test_before_its_first_table_a_contract_has_the_first_one(binance: Venue) -> None:
    assert table(binance, "BTCUSDT", "2020-03-12") is table(binance, "BTCUSDT", "2021-03-18")
    assert table(binance, "BTCUSDT", "2020-03-12").maintenance_margin(2_000_000) == 2_000_000 * 0.025 - 16_300


def test_after_its_last_table_a_contract_has_the_last_one(binance: Venue) -> None:
    assert table(binance, "BTCUSDT", "2030-01-01") is table(binance, "BTCUSDT", "2025-10-09")


def test_the_btc_table_of_march_2021_gives_the_amounts_published_then(binance: Venue) -> None:
    """Source: gist highfestiva/b71e76f51eed84d56c1be8ebbcc286b5, March 2021; the caps and rates are those announced for 2021-03-18."""
    published = [0, 50, 1_300, 16_300, 266_300, 1_266_300, 2_516_300, 5_016_300, 25_016_300, 100_016_300]

    table(binance, "BTCUSDT", "2021-03-18").check_amounts(published)


def test_leverage_falls_with_the_notional_and_changed_over_time(binance: Venue) -> None:
    then, now = table(binance, "ETHUSDT", "2022-02-16"), table(binance, "ETHUSDT", "2026-09-30")

    assert (then.max_leverage(10_000), now.max_leverage(10_000), now.max_leverage(1_000_000)) == (100, 150, 75)


def test_a_cap_of_null_is_no_cap(binance: Venue) -> None:
    assert table(binance, "BTCUSDT", "2022-05-21").tiers[-1].cap == inf
    assert table(binance, "BTCUSDT", "2023-01-13").tiers[-1].cap == 500_000_000


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_our_tables_are_the_snapshots_of_every_day(binance: Venue, reference: Path, symbol: str) -> None:
    snapshots = json.loads((reference / "data/tiers/binance_usdtm_tiers_history.json").read_text("utf-8"))

    compared = 0
    for day, snapshot in snapshots.items():
        published = snapshot["tiers"].get(f"{symbol[:-4]}/USDT:USDT")
        if published is None:  # not listed yet, or no longer
            continue
        ours = table(binance, symbol, day)
        assert [(tier.floor, min(tier.cap, NO_CAP), tier.rate, tier.max_leverage) for tier in ours.tiers] == [
            (row["minNotional"], min(row["maxNotional"], NO_CAP), row["maintenanceMarginRate"], row["maxLeverage"]) for row in published
        ], f"{symbol} {day}"
        ours.check_amounts([row["cum"] for row in published])
        compared += 1
    assert compared >= 2


def test_the_derived_amount_of_each_of_3229_tiers_is_the_published_one(reference: Path) -> None:
    snapshots = json.loads((reference / "data/tiers/binance_usdtm_tiers_history.json").read_text("utf-8"))

    tiers = 0
    for snapshot in snapshots.values():
        for symbol, ours in venues.readers.ccxt_tiers(snapshot["tiers"], exchange="binance").items():
            published = snapshot["tiers"][symbol]
            assert [bracket.amount for bracket in ours.brackets] == pytest.approx([row["cum"] for row in published], rel=1e-9, abs=1e-6)
            tiers += len(published)
    assert tiers == 3_229


@pytest.mark.parametrize(("file", "tiers"), [("bybit_btcusdt_tiers.json", 20), ("hyperliquid_margin_tiers.json", 78)])
def test_the_amounts_of_the_other_venues_are_the_published_ones(reference: Path, file: str, tiers: int) -> None:
    published = json.loads((reference / "data/tiers" / file).read_text("utf-8"))["tiers"]
    venue = load(file.split("_")[0])

    for symbol, rows in published.items():
        ours = venue.contract(symbol).tiers.at(datetime(2025, 6, 1, tzinfo=UTC).timestamp())
        assert [(tier.floor, tier.rate, tier.max_leverage) for tier in ours.tiers] == [
            (row["minNotional"], row["maintenanceMarginRate"], row["maxLeverage"]) for row in rows
        ]
        ours.check_amounts([row["cum"] for row in rows])
    assert sum(map(len, published.values())) == tiers


@pytest.mark.parametrize(
    ("venue", "symbol", "amounts"),
    [
        ("bybit", "BTCUSDT", [0, 510, 1_710]),  # recorded answers of 2026-09
        ("gate", "BTC_USDT", [0, 250, 750, 1_500, 2_500]),  # published beside the rates
        ("binance-coinm", "BTCUSD_PERP", [0, 0.01, 0.11, 0.56, 1.81, 6.81, 11.81]),  # 0.56 and 1.81 are Binance's example, 11.81 too
        ("hyperliquid", "BTC", [0, 1_875_000]),
        ("hyperliquid", "ETH", [0, 100_000_000 / 30 - 100_000_000 / 50]),
        ("okx", "BTC-USDT-SWAP", [0, 0, 0]),
    ],
)
def test_the_latest_table_gives_the_amounts_the_venue_gives(venue: str, symbol: str, amounts: list[float]) -> None:
    brackets = load(venue).contract(symbol).tiers.tables[-1].brackets

    assert [bracket.amount for bracket in brackets[: len(amounts)]] == pytest.approx(amounts, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("symbol", "coins", "rate"),
    [("BTC-USDT-SWAP", 10.0, 0.004), ("BTCUSDT", 10.01, 0.005), ("BTC/USDT:USDT", 50.01, 0.0075), ("btc-usdt-swap", 19_400, 0.4875)],
)
def test_okx_tiers_go_by_contracts_and_hold_their_upper_edge(symbol: str, coins: float, rate: float) -> None:
    contract = load("okx").contract(symbol)
    tiers = contract.tiers.tables[-1]

    assert (tiers.mode, tiers.unit, contract.multiplier) == ("slab", "contracts", 0.01)
    assert tiers.bracket_at(round(coins / contract.multiplier, 6)).rate == rate


def test_the_ada_rule_of_okx_asks_two_thousand_for_four_thousand_contracts() -> None:
    contract = load("okx", "2024-01-01").contract("ADAUSDT")

    assert contract.tiers.tables[-1].requirement(4_000 * contract.multiplier * 0.5, measure=4_000) == 4_000 * 100 * 0.5 * 0.01


def test_dydx_has_one_tier_for_every_size() -> None:
    """Maintenance = initial margin x maintenance fraction: 10 % x 50 %, and of the large ones 5 % x 60 % at first."""
    dydx = load("dydx")

    assert dydx.contract("SOL-USD").tiers.tables == (TierTable((Tier(0, inf, 0.05, 10),)),)
    assert [one.tiers for one in dydx.contract("BTC-USD").tiers.tables] == [(Tier(0, inf, 0.03, 20),), (Tier(0, inf, 0.012, 50),)]


def test_inverse_contracts_count_dollars_and_have_tiers_in_coins() -> None:
    contract = load("binance-coinm").contract("BTC/USD:BTC")

    assert (contract.symbol, contract.kind, contract.multiplier) == ("BTCUSD_PERP", "inverse", 100)
    assert contract.tiers.tables[-1].unit == "base"
    assert contract.tiers.tables[-1].requirement(60.0) == pytest.approx(60 * 0.05 - 1.81)  # 60 BTC


@pytest.mark.parametrize(
    ("name", "day", "terms"),
    [
        ("binance", "2024-05-01", MarginTerms("mark", "none")),
        ("bybit", "2025-09-01", MarginTerms("entry", "bankruptcy")),
        ("bybit", "2025-09-02", MarginTerms("mark", "bankruptcy")),
        ("okx", "2026-01-01", MarginTerms("mark", "notional", fee_in_initial=False)),
        ("gate", "2026-01-01", MarginTerms("mark", "notional")),
        ("hyperliquid", "2026-01-01", MarginTerms()),
        ("generic", "2026-01-01", MarginTerms()),
    ],
)
def test_margin_terms_are_those_of_the_day(name: str, day: str, terms: MarginTerms) -> None:
    time = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()

    assert load(name).margin_terms(time) == terms
    assert load(name, day).margin_terms() == terms


def test_funding_is_what_a_source_gives() -> None:
    assert load("okx").contract("BTCUSDT").funding == FundingFacts(8, 0.00375, -0.00375, debit="capped")
    assert load("okx").contract("ADAUSDT").funding == FundingFacts(8, 0.015, -0.015, debit="capped")
    assert load("bybit").contract("BTCUSDT").funding == FundingFacts(8, debit="free_first")
    assert load("hyperliquid").contract("BTC").funding == FundingFacts(1, 0.04, -0.04, "oracle")
    assert load("binance").contract("BTCUSDT").funding == FundingFacts(8)
    hours = [load(name).funding_hours(symbol) for name, symbol in (("binance", "BTCUSDT"), ("hyperliquid", "BTC"), ("generic", "X"))]
    assert hours == [8, 1, 8]


def test_fees_are_those_of_the_day() -> None:
    contract, change = load("binance").contract("BTCUSDT"), datetime(2024, 4, 28, tzinfo=UTC).timestamp()

    assert [contract.fees_at(time) for time in (-inf, change - 1, change, inf)] == [(0.0002, 0.0004)] * 2 + [(0.0002, 0.0005)] * 2
    assert [load("binance", day).contract("BTCUSDT").taker for day in ("2024-04-27", "2024-04-28")] == [0.0004, 0.0005]
    assert "commissionRate" in contract.sources["fees before 2024-04-28"]
    assert contract.with_fee(0.0, 0.001).fees_at(-inf) == (0.0, 0.001)
    assert load("bybit").contract("BTCUSDT").fees_at(-inf) == (0.0002, 0.00055)


def test_a_venue_of_a_day_knows_nothing_dated_later() -> None:
    whole, then = load("binance").contract("BTCUSDT"), load("binance", "2022-05-20").contract("BTCUSDT")

    assert then.tiers.tables == whole.tiers.tables[:2]
    assert then.tiers.at(4e9) == whole.tiers.at(datetime(2022, 2, 16, tzinfo=UTC).timestamp())
    assert then.lot == whole.lot


def test_a_venue_of_a_day_before_its_first_table_has_that_one() -> None:
    assert load("binance", "2019-01-01").contract("BTCUSDT").tiers.tables == load("binance").contract("BTCUSDT").tiers.tables[:1]


@pytest.mark.parametrize(
    "when",
    [
        "2022-05-21",
        date(2022, 5, 21),
        datetime(2022, 5, 21),
        datetime(2022, 5, 21, tzinfo=UTC),
        "2022-05-21T00:00",
        "2022-05-21T02:00+02:00",
    ],
)
def test_a_day_may_be_said_in_any_usual_way(when: Any) -> None:
    assert len(load("binance", when).contract("BTCUSDT").tiers.tables) == 3


def test_a_date_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a date is a day such as 2024-05-01 or an instant .*, was 'May'$"):
        load("binance", "May")


def test_binance_charges_a_regular_user(binance: Venue) -> None:
    assert (binance.name, binance.profile, binance.retrieved) == ("binance", "binance", date(2026, 11, 21))
    assert (binance.maker, binance.taker, binance.liquidation_fee) == (0.0002, 0.0005, 0.0125)


@pytest.mark.parametrize(
    ("symbol", "lot", "liquidation_fee"),
    [
        ("BTCUSDT", 0.001, 0.0125),
        ("ETHUSDT", 0.001, 0.0125),
        ("SOLUSDT", 1, 0.015),
        ("XRPUSDT", 0.1, 0.0125),
        ("DOGEUSDT", 1, 0.01),
        ("ADAUSDT", 1, 0.01),
        ("LTCUSDT", 0.001, 0.015),
        ("BNBUSDT", 0.01, 0.015),
        ("TRXUSDT", 1, 0.01),
    ],
)
def test_a_contract_has_its_own_lot_and_liquidation_fee(binance: Venue, symbol: str, lot: float, liquidation_fee: float) -> None:
    contract = binance.contract(symbol)

    assert (contract.lot, contract.multiplier, contract.liquidation_fee) == (lot, 1.0, liquidation_fee)
    assert (contract.maker, contract.taker) == (0.0002, 0.0005)


def test_the_filters_of_a_contract_are_those_of_its_exchange_info(binance: Venue) -> None:
    contract = binance.contract("BTCUSDT")

    assert (contract.tick, contract.min_size, contract.max_size, contract.min_notional) == (0.1, 0.001, 120, 100)


def listed(venue: Venue) -> list[VenueContract]:
    """Return the contracts of a venue, each once."""
    return list({id(contract): contract for contract in venue.contracts.values()}.values())


def test_binance_lists_the_most_traded_contracts(binance: Venue) -> None:
    assert sorted(binance.contracts) == SYMBOLS


@pytest.mark.parametrize("name", FILES)
def test_every_figure_of_every_contract_names_its_source(name: str) -> None:
    for contract in listed(load(name)):
        days = [datetime.fromtimestamp(stamp, UTC).date() for stamp in contract.tiers.dates]
        needed = {"profile", "maker", "taker", "liquidation_fee", "margin_terms", "tiers", "lot", *(f"tiers from {day}" for day in days)}
        needed |= {"multiplier"} if contract.multiplier != 1 else set()
        needed |= {"funding"} if contract.funding is not None else set()
        needed |= {"filters"} if contract.tick is not None else set()
        assert needed <= set(contract.sources), f"{name} {contract.symbol}"


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("binance", "binance"),
        ("binance-coinm", "binance"),
        ("bitget", "forfeit"),
        ("bybit", "bybit"),
        ("dydx", "dydx"),
        ("gate", "forfeit"),
        ("generic", "generic"),
        ("hyperliquid", "hyperliquid"),
        ("okx", "okx"),
    ],
)
def test_a_venue_liquidates_by_its_own_profile(name: str, profile: str) -> None:
    assert load(name).profile == profile


@pytest.mark.parametrize("name", FILES)
def test_a_venue_says_what_it_has_no_source_for(name: str) -> None:
    venue = load(name)

    assert venue.not_sourced
    assert not [key for key, text in venue.sources.items() if "recall" in text]


@pytest.mark.parametrize("spelling", ["BTCUSDT", "btcusdt", "BTC/USDT", "BTC/USDT:USDT", "btc/usdt:usdt"])
def test_a_contract_is_found_under_its_usual_spellings(binance: Venue, spelling: str) -> None:
    assert binance.contract(spelling) is binance.contracts["BTCUSDT"]


@pytest.mark.parametrize(
    ("spelling", "plain"),
    [
        ("ETH/USDT:USDT", "ETHUSDT"),
        ("BTC/USD:BTC", "BTC/USD:BTC"),
        ("BTC/USDT:USDT-250627", "BTC/USDT:USDT-250627"),
        ("BTC-PERP", "BTC-PERP"),
    ],
)
def test_another_settlement_is_another_contract(spelling: str, plain: str) -> None:
    assert plain_symbol(spelling) == plain


def test_an_unknown_symbol_is_an_error_that_says_how_to_give_tiers(binance: Venue) -> None:
    with pytest.raises(ValueError, match="has no tiers for") as error:
        binance.contract("PEPEUSDT")

    assert str(error.value) == (
        f"binance has no tiers for PEPEUSDT here (known: {', '.join(SYMBOLS)}); "
        "take venue 'generic' (a flat 0.5 %), or give PerpCommInfo tiers=[(cap, rate, max_leverage), ...] of its own"
    )


def test_an_unknown_venue_is_an_error_that_lists_the_known_ones() -> None:
    known = "binance, binance-coinm, bitget, bybit, dydx, gate, generic, hyperliquid, okx"
    with pytest.raises(ValueError, match=rf"^no venue is called 'kraken'; known: {known}$"):
        load("kraken")


def test_an_alias_is_the_contract_and_is_not_listed_as_another() -> None:
    okx = load("okx")

    assert okx.contract("ETHUSDT") is okx.contract("ETH-USDT-SWAP")
    with pytest.raises(ValueError, match=r"known: AAVE-USDT-SWAP, ADA-USDT-SWAP, BTC-USDT-SWAP, ETH-USDT-SWAP, PEPE-USDT-SWAP\)"):
        okx.contract("SOLUSDT")


def test_the_generic_venue_has_every_symbol_flat_and_free() -> None:
    venue = load("generic")

    contract = venue.contract("PEPE/USDT:USDT")

    assert (venue.profile, contract.symbol, contract.lot, contract.multiplier) == ("generic", "PEPE/USDT:USDT", 0.0, 1.0)
    assert (contract.maker, contract.taker, contract.liquidation_fee) == (0.0, 0.0, 0.0)
    assert contract.tiers.at(0).maintenance_margin(2_000_000) == 2_000_000 * 0.005


def entry() -> dict[str, Any]:
    """Return the content of a small sound venue file."""
    rows = [[50_000, 0.004, 125], [None, 0.01, 50]]
    return {
        "source": "a test",
        "retrieved": "2026-11-21",
        "profile": "market",
        "maker": 0.0002,
        "taker": 0.0005,
        "liquidation_fee": 0.0125,
        "sources": {"maker": "a test"},
        "contracts": {
            "BTCUSDT": {
                "lot": 0.001,
                "taker": 0.0004,
                "sources": {"lot": "a test"},
                "tiers": [{"valid_from": day, "source": "a test", "rows": rows} for day in ("2024-01-01", "2025-01-01")],
            }
        },
    }


def written(folder: Path, content: object) -> Path:
    path = folder / "made.json"
    path.write_text(json.dumps(content), "utf-8")
    return path


def test_a_contract_may_differ_from_its_venue(tmp_path: Path) -> None:
    contract = read(written(tmp_path, entry())).contract("BTCUSDT")

    assert (contract.maker, contract.taker, contract.liquidation_fee) == (0.0002, 0.0004, 0.0125)


def contract_of(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["contracts"]["BTCUSDT"]
    return found


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda e: e.pop("taker"), r"^made\.json is without taker; expected contracts, earlier_fees, filters_since, funding, kind, "),
        (lambda e: e.update(fee=1), r"^made\.json is with unknown fee; expected contracts, "),
        (
            lambda e: e.update(profile="cruel"),
            r"^made\.json: no liquidation profile is called 'cruel'; known: market, forfeit, generic, binance, bybit, okx, ",
        ),
        (lambda e: e.update(retrieved="yesterday"), r"^made\.json, retrieved must be a day such as 2024-03-31, was 'yesterday'$"),
        (lambda e: e.update(maker="0.0002"), r"^made\.json, maker must be a number, was '0\.0002'$"),
        (lambda e: e.update(source=""), r"^made\.json, source must be a text, was ''$"),
        (lambda e: e.update(contracts=[]), r"^made\.json, contracts must be an object, was \[\]$"),
        (lambda e: e["contracts"].update({"eth/usdt": {}}), r"^made\.json, eth/usdt: a contract is listed as ETHUSDT$"),
        (lambda e: contract_of(e).pop("lot"), r"^made\.json, BTCUSDT is without lot; expected "),
        (lambda e: contract_of(e).update(lot=True), r"^made\.json, BTCUSDT, lot must be a number, was True$"),
        (lambda e: contract_of(e).update(lot=-1), r"^made\.json, BTCUSDT: the lot is a positive size, or 0 for any size, was -1\.0$"),
        (lambda e: contract_of(e).update(taker=0.5), r"^made\.json, BTCUSDT: taker is a fraction of notional .*, was 0\.5"),
        (lambda e: contract_of(e).update(tiers=[]), r"^made\.json, BTCUSDT, tiers must be a list with at least one item, was \[\]$"),
        (lambda e: contract_of(e).update(kind="spot"), r"^made\.json, BTCUSDT, kind must be one of 'linear', 'inverse', was 'spot'$"),
        (lambda e: contract_of(e).update(multiplier=0), r"^made\.json, BTCUSDT: the multiplier is a positive number .*, was 0\.0$"),
        (lambda e: contract_of(e).update(tick="0.1"), r"^made\.json, BTCUSDT, tick must be a number, was '0\.1'$"),
        (lambda e: contract_of(e).update(aliases=["btc"]), r"^made\.json, btc: a contract is listed as BTC$"),
        (lambda e: contract_of(e).update(aliases=["BTCUSDT"]), r"^made\.json, BTCUSDT is spelled BTCUSDT twice$"),
        (lambda e: e["contracts"].update(XBT={**contract_of(e), "aliases": ["BTCUSDT"]}), r"^made\.json, XBT: BTCUSDT is BTCUSDT already$"),
        (
            lambda e: contract_of(e).update(funding={"interval_hours": 0}),
            r"^made\.json, BTCUSDT, funding: a funding interval is .*, was 0$",
        ),
        (
            lambda e: contract_of(e).update(funding={"interval_hours": 8, "cap": -1, "floor": 1}),
            r"^made\.json, BTCUSDT, funding: the funding cap -1 is below the floor 1$",
        ),
        (
            lambda e: contract_of(e).update(funding={"interval_hours": 8, "price": "last"}),
            r"^made\.json, BTCUSDT, funding: funding is paid at 'mark' or 'oracle', was 'last'$",
        ),
        (lambda e: e.update(tier_unit="coins"), r"^made\.json, tier_unit must be one of 'quote', 'base', 'contracts', was 'coins'$"),
        (lambda e: e.update(tier_mode=1), r"^made\.json, tier_mode must be one of 'marginal', 'slab', was 1$"),
        (
            lambda e: e.update(order_terms={"netting": "none"}),
            r"^made\.json, order_terms: netting of order terms is one of 'larger_side', 'both_sides', 'net_bids', was 'none'$",
        ),
        (
            lambda e: e.update(order_terms={"margin_price": "mark"}),
            r"^made\.json, order_terms: margin_price of order terms is one of .*'mark'$",
        ),
        (lambda e: e.update(order_terms={"counts_fee": 1}), r"^made\.json, order_terms, counts_fee must be "),
        (lambda e: e.update(order_terms={"fee": True}), r"^made\.json, order_terms is with unknown fee; "),
        (lambda e: e.update(filters_since="soon"), r"^made\.json, filters_since must be a day such as 2024-03-31, was 'soon'$"),
        (lambda e: e.update(not_sourced=[1]), r"^made\.json, not_sourced must be a text, was 1$"),
        (
            lambda e: e.update(margin_terms=[{"valid_from": None, "maintenance_basis": "last", "fee_in_margin": "none"}]),
            r"^made\.json, margin_terms 1: maintenance_basis is 'mark' or 'entry', was 'last'$",
        ),
        (
            lambda e: e.update(margin_terms=[{"valid_from": None, "maintenance_basis": "mark", "fee_in_margin": "none"}] * 2),
            r"^made\.json, margin_terms 2: the dates of margin terms must rise$",
        ),
        (
            lambda e: e.update(
                margin_terms=[{"valid_from": None, "maintenance_basis": "mark", "fee_in_margin": "none", "fee_in_initial": "no"}]
            ),
            r"^made\.json, margin_terms 1, fee_in_initial must be true or false, was 'no'$",
        ),
        (
            lambda e: contract_of(e)["tiers"][0].update(step={"cap": 1, "rate": 0.1, "initial_rate": 0.1, "first_initial_rate": 0.1}),
            r"^made\.json, BTCUSDT, 2024-01-01: tier 2 has no cap, so no step can follow it",
        ),
        (
            lambda e: contract_of(e)["tiers"][0].update(step={"cap": 1, "rate": 0, "initial_rate": 0.1, "first_initial_rate": 0.1}),
            r"^made\.json, BTCUSDT, 2024-01-01, step: a tier step's rate is a positive number, was 0$",
        ),
        (
            lambda e: contract_of(e)["tiers"][0].update(
                step={"cap": 1, "rate": 1, "initial_rate": 1, "first_initial_rate": 1, "last": 2.5}
            ),
            r"^made\.json, BTCUSDT, 2024-01-01, step, last must be a whole number, was 2\.5$",
        ),
        (lambda e: contract_of(e)["tiers"].reverse(), r"^made\.json, BTCUSDT: the dates of a tier schedule must rise$"),
        (
            lambda e: contract_of(e)["tiers"][1].pop("source"),
            r"^made\.json, BTCUSDT, table 2 is without source; expected rows, source, step, valid_from$",
        ),
        (
            lambda e: contract_of(e)["tiers"][1].update(rows=[[1, 0.9, 2]]),
            r"^made\.json, BTCUSDT, 2025-01-01: tier 1: maintenance rate 0\.9 exceeds ",
        ),
        (
            lambda e: contract_of(e)["tiers"][1].update(rows=[[1, 0.9]]),
            r"^made\.json, BTCUSDT, 2025-01-01: tier 1 must be \(cap, rate, max_leverage\)",
        ),
        (
            lambda e: contract_of(e)["tiers"][1].update(rows=[["1", 0.1, 5]]),
            r"^made\.json, BTCUSDT, 2025-01-01: row 1 must be a number, was '1'$",
        ),
        (lambda e: contract_of(e)["tiers"][1].update(rows=[7]), r"^made\.json, BTCUSDT, 2025-01-01: row 1 must be a list .*, was 7$"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path: Path, spoil: Callable[[dict[str, Any]], object], message: str) -> None:
    content = entry()
    spoil(content)

    with pytest.raises(ValueError, match=message):
        read(written(tmp_path, content))


def test_a_file_that_is_not_json_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    path.write_text("{", "utf-8")

    with pytest.raises(ValueError, match=r"^made\.json is not JSON: Expecting property name"):
        read(path)


def test_the_archive_imports_only_the_standard_library_and_the_vault() -> None:
    assert venues.__file__ is not None
    for path in Path(venues.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= sys.stdlib_module_names
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").partition(".")[0] in sys.stdlib_module_names
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1 or (node.level, (node.module or "").partition(".")[0]) == (2, "core")

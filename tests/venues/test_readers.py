"""Readers: small answers in the venues' own shapes, with the figures that live answers of the given days held."""

import json
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

import pytest

from bt_margin.core.tiers import Tier, TierSchedule, TierTable
from bt_margin.venues import ContractFacts, FundingFacts, readers

# Binance USD-M, SUSHIUSDT: 0, then 50 000 x 1.5 %
BRACKETS = [
    {
        "symbol": "SUSHIUSDT",
        "notionalCoef": 1.0,
        "brackets": [
            {"bracket": 1, "initialLeverage": 50, "notionalCap": 50_000, "notionalFloor": 0, "maintMarginRatio": 0.01, "cum": 0.0},
            {"bracket": 2, "initialLeverage": 20, "notionalCap": 2**63 - 1, "notionalFloor": 50_000, "maintMarginRatio": 0.025, "cum": 750},
        ],
    }
]
# Binance COIN-M: 0, then 10 x 0.1 %
COIN_ROWS = [
    {"bracket": 1, "initialLeverage": 125, "qtyCap": 10, "qtylFloor": 0, "maintMarginRatio": 0.004, "cum": 0.0},
    {"bracket": 2, "initialLeverage": 100, "qtyCap": 20, "qtylFloor": 10, "maintMarginRatio": 0.005, "cum": 0.01},
]
# Bybit BTCUSDT, 2026-09: 0, 300 000 x 0.17 %, 510 + 2 000 000 x 0.06 %
BYBIT_ROWS = [
    ("300000", "0.0033", "0.0066", "150.00", ""),
    ("2000000", "0.005", "0.01", "100.00", "510"),
    ("2600000", "0.0056", "0.0111", "90.00", "1710"),
]
# OKX BTC-USDT, 2026-09-18
OKX_ROWS = [("1", "0", "1000", "0.004", "0.01", "100"), ("2", "1000.01", "5000", "0.005", "0.015", "66.66")]


def bybit(rows: list[tuple[str, ...]], *, cursor: str = "", category: str = "linear", symbol: str = "BTCUSDT") -> dict[str, Any]:
    """Return one page of /v5/market/risk-limit."""
    names = ("riskLimitValue", "maintenanceMargin", "initialMargin", "maxLeverage", "mmDeduction")
    listed = [{"id": number, "symbol": symbol, **dict(zip(names, row, strict=True))} for number, row in enumerate(rows, 1)]
    return {"retCode": 0, "retMsg": "OK", "result": {"category": category, "list": listed, "nextPageCursor": cursor}}


def okx(rows: list[tuple[str, ...]]) -> dict[str, Any]:
    """Return an answer of /api/v5/public/position-tiers."""
    names = ("tier", "minSz", "maxSz", "mmr", "imr", "maxLever")
    return {
        "code": "0",
        "msg": "",
        "data": [{"instFamily": "BTC-USDT", "instId": "", **dict(zip(names, row, strict=True))} for row in rows],
    }


def ccxt(*edges: tuple[float | None, float | None, float, float], info: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """Return one market of ccxt's fetch_leverage_tiers."""
    own = info or [{} for _ in edges]
    return [
        {
            "tier": number,
            "symbol": "BTC/USDT:USDT",
            "currency": "USDT",
            "minNotional": low,
            "maxNotional": high,
            "maintenanceMarginRate": rate,
            "maxLeverage": leverage,
            "info": kept,
        }
        for number, ((low, high, rate, leverage), kept) in enumerate(zip(edges, own, strict=True), 1)
    ]


def amounts(table: TierTable) -> list[float]:
    return [bracket.amount for bracket in table.brackets]


# -- Binance ---------------------------------------------------------------------------------------------------------


def test_binance_brackets_count_notionals_and_their_amounts_are_derived() -> None:
    (table,) = readers.binance_brackets(BRACKETS).values()

    assert table.tiers == (Tier(0, 50_000, 0.01, 50), Tier(50_000, inf, 0.025, 20))
    assert (table.unit, amounts(table)) == ("quote", [0, pytest.approx(750)])


@pytest.mark.parametrize("name", ["pair", "symbol"])
def test_coin_margined_brackets_count_coins_in_both_versions(name: str) -> None:
    tables = readers.binance_brackets([{name: "BTCUSD", "brackets": COIN_ROWS}])

    assert tables["BTCUSD"].unit == "base"
    assert tables["BTCUSD"].requirement(15.0) == pytest.approx(15 * 0.005 - 0.01)


def test_one_symbol_asked_for_answers_with_an_object() -> None:
    assert readers.binance_brackets(BRACKETS[0]) == readers.binance_brackets(BRACKETS)


def test_brackets_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "brackets.json"
    file.write_text(json.dumps(BRACKETS), "utf-8")

    assert readers.binance_brackets(file) == readers.binance_brackets(str(file)) == readers.binance_brackets(BRACKETS)


def test_the_coefficient_of_an_account_is_applied_as_the_user_says() -> None:
    mine = [{**BRACKETS[0], "notionalCoef": 1.5}]

    assert readers.binance_brackets(mine, notional_coef_applied=True) == readers.binance_brackets(BRACKETS)
    assert readers.binance_brackets(mine, notional_coef_applied=False)["SUSHIUSDT"].tiers[0].cap == 75_000
    with pytest.raises(ValueError, match=r"^leverageBracket, SUSHIUSDT has a notionalCoef of 1\.5; say notional_coef_applied=True if "):
        readers.binance_brackets(mine)


@pytest.mark.parametrize(
    ("bracket", "change", "sentence"),
    [
        (1, {"cum": 700}, "tier 2: maintenance amount 700 disagrees with the derived 750"),
        (1, {"notionalFloor": 60_000}, "tier 2 must start where tier 1 ends, at 50000; its floor was 60000, a gap"),
        (1, {"maintMarginRatio": 0.005, "cum": -250}, "maintenance rates never fall: tier 2 has 0.005 after 0.01"),
        (0, {"initialLeverage": 10}, "maximum leverage never rises: tier 2 has 20 after 10"),
        (0, {"maintMarginRatio": "a lot"}, "bracket 1, maintMarginRatio must be a number, was 'a lot'"),
        (0, {"initialLeverage": None}, "bracket 1, initialLeverage must be a number, was None"),
        (0, {"notionalFloor": "nan"}, "bracket 1, floor must be a finite number, was 'nan'"),
    ],
)
def test_a_bad_bracket_is_refused_with_its_row_and_its_numbers(bracket: int, change: dict[str, Any], sentence: str) -> None:
    answer = deepcopy(BRACKETS)
    answer[0]["brackets"][bracket].update(change)  # type: ignore[attr-defined, index, union-attr]

    with pytest.raises(ValueError, match=f"^leverageBracket, SUSHIUSDT.*{sentence}"):
        readers.binance_brackets(answer)


def test_unsorted_brackets_are_refused() -> None:
    turned = [{**BRACKETS[0], "brackets": BRACKETS[0]["brackets"][::-1]}]  # type: ignore[index]

    with pytest.raises(ValueError, match="a tier table starts at floor 0, was 50000"):
        readers.binance_brackets(turned)


def test_exchange_info_gives_the_filters_of_linear_and_inverse_contracts() -> None:
    """BTCUSDT of 2024-03-28, BTCUSD_PERP of 2026-09-26, cut to the filters that are read and one that is not."""
    symbols = [
        {
            "symbol": "BTCUSDT",
            "liquidationFee": "0.012500",
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": "556.80", "tickSize": "0.10"},
                {"filterType": "LOT_SIZE", "maxQty": "1000", "minQty": "0.001", "stepSize": "0.001"},
                {"filterType": "MARKET_LOT_SIZE", "maxQty": "120", "minQty": "0.001", "stepSize": "0.001"},
                {"filterType": "MIN_NOTIONAL", "notional": "100"},
                {"filterType": "MAX_NUM_ORDERS", "limit": 200},
            ],
        },
        {"symbol": "BTCUSD_PERP", "contractSize": 100, "filters": [{"filterType": "LOT_SIZE", "minQty": "1", "stepSize": "1"}]},
    ]

    assert readers.binance_contracts({"symbols": symbols}) == {
        "BTCUSDT": ContractFacts("BTCUSDT", "linear", 1.0, 0.001, 0.1, 0.001, 120, 100, 0.0125),
        "BTCUSD_PERP": ContractFacts("BTCUSD_PERP", "inverse", 100, lot=1, min_size=1),
    }


def test_exchange_info_without_symbols_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^exchangeInfo, symbols must be a list with at least one item, was None$"):
        readers.binance_contracts({"timezone": "UTC"})


def test_funding_info_gives_interval_and_bounds() -> None:
    row = {
        "symbol": "BLZUSDT",
        "adjustedFundingRateCap": "0.02500000",
        "adjustedFundingRateFloor": "-0.02500000",
        "fundingIntervalHours": 4,
    }

    assert readers.binance_funding([row]) == {"BLZUSDT": FundingFacts(4, 0.025, -0.025)}
    with pytest.raises(ValueError, match=r"^fundingInfo, BLZUSDT: the funding cap -0\.1 is below the floor -0\.025$"):
        readers.binance_funding([{**row, "adjustedFundingRateCap": "-0.1"}])


# -- Bybit -----------------------------------------------------------------------------------------------------------


def test_bybit_fractions_are_taken_as_they_are_and_an_empty_deduction_is_none() -> None:
    (table,) = readers.bybit_risk_limits(bybit(BYBIT_ROWS)).values()

    assert [(tier.cap, tier.rate, tier.max_leverage) for tier in table.tiers] == [
        (300_000, 0.0033, 150),
        (2_000_000, 0.005, 100),
        (2_600_000, 0.0056, 90),
    ]
    assert amounts(table) == pytest.approx([0, 510, 1_710])


def test_bybit_percents_are_told_by_the_initial_rate() -> None:
    percents = [("2000000", "0.5", "1", "100.00", "0"), ("2600000", "0.56", "1.11", "90.00", "1200")]

    (table,) = readers.bybit_risk_limits(bybit(percents)).values()

    assert [tier.rate for tier in table.tiers] == pytest.approx([0.005, 0.0056])
    assert amounts(table) == pytest.approx([0, 1_200])


def test_bybit_rates_that_cannot_be_told_must_be_said() -> None:
    silent = bybit([("2000000", "0.5", "", "100.00", "")])

    assert readers.bybit_risk_limits(silent, rates="percent")["BTCUSDT"].tiers[0].rate == 0.005
    with pytest.raises(
        ValueError, match="row 1 has no initialMargin to tell a fraction from a percent; say rates='fraction' or rates='percent'"
    ):
        readers.bybit_risk_limits(silent)
    with pytest.raises(ValueError, match=r"initialMargin 0\.0066 at 150x is a fraction, but rates='percent' was said"):
        readers.bybit_risk_limits(bybit(BYBIT_ROWS), rates="percent")
    with pytest.raises(
        ValueError, match=r"initialMargin 0\.2 does not go with a maximum leverage of 100; expected 0\.01 or, in percent, 1$"
    ):
        readers.bybit_risk_limits(bybit([("2000000", "0.1", "0.2", "100.00", "")]))


def test_bybit_pages_are_read_as_one_and_a_missing_page_is_refused() -> None:
    pages = [bybit(BYBIT_ROWS[:2], cursor="next"), bybit(BYBIT_ROWS[2:])]

    assert readers.bybit_risk_limits(pages) == readers.bybit_risk_limits(bybit(BYBIT_ROWS))
    with pytest.raises(ValueError, match="risk-limit ends with the cursor 'next': a page is missing; give the list of all pages"):
        readers.bybit_risk_limits(pages[0])


def test_bybit_rows_alone_need_their_category() -> None:
    rows = bybit(BYBIT_ROWS)["result"]["list"]

    assert readers.bybit_risk_limits(rows, category="linear") == readers.bybit_risk_limits(bybit(BYBIT_ROWS))
    with pytest.raises(ValueError, match="category must be one of 'linear', 'inverse', was None"):
        readers.bybit_risk_limits(rows)


def test_bybit_inverse_limits_count_coins() -> None:
    answer = bybit([("150", "0.5", "1", "100.00", "")], category="inverse", symbol="BTCUSD")

    assert readers.bybit_risk_limits(answer)["BTCUSD"].unit == "base"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (bybit(BYBIT_ROWS[::-1]), "BTCUSDT: tier 2 must end above its floor 2600000, its cap was 2000000"),
        (
            bybit([*BYBIT_ROWS[:1], ("2000000", "0.005", "0.01", "100", "500")]),
            "tier 2: maintenance amount 500 disagrees with the derived 510",
        ),
        ({"retCode": 10001, "retMsg": "params error", "result": {}}, "refusal of the venue, code 10001: params error; ask it again"),
    ],
)
def test_a_bad_bybit_answer_is_refused(answer: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^risk-limit.*{sentence}"):
        readers.bybit_risk_limits(answer)


# -- OKX -------------------------------------------------------------------------------------------------------------


def test_okx_tiers_are_slab_in_contracts_and_join_over_a_lot() -> None:
    table = readers.okx_position_tiers(okx(OKX_ROWS))["BTC-USDT"]

    assert (table.mode, table.unit) == ("slab", "contracts")
    assert table.tiers == (Tier(0, 1_000, 0.004, 100), Tier(1_000, 5_000, 0.005, 66.66))
    assert readers.okx_position_tiers(okx(OKX_ROWS)["data"])["BTC-USDT"] == table


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            [*OKX_ROWS, ("3", "6000", "9000", "0.006", "0.02", "50")],
            r"tier 3 must begin one lot above tier 2; from 5000 to 6000 are 1000, expected 0\.01 as before tier 2",
        ),
        (
            [OKX_ROWS[0], ("2", "1500", "5000", "0.005", "0.015", "66.66")],
            "tier 2 must begin one lot above tier 1; from 1000 to 1500 are 500, expected at most one contract",
        ),
        ([OKX_ROWS[0], ("2", "900", "5000", "0.005", "0.015", "66.66")], "from 1000 to 900 are -100"),
        (
            [OKX_ROWS[0], ("2", "1000.01", "5000", "0.003", "0.015", "66.66")],
            r"maintenance rates never fall: tier 2 has 0\.003 after 0\.004",
        ),
    ],
)
def test_a_gap_in_okx_tiers_is_refused(rows: list[tuple[str, ...]], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^position-tiers, BTC-USDT: .*{sentence}"):
        readers.okx_position_tiers(okx(rows))


def test_a_refusal_of_okx_is_told() -> None:
    with pytest.raises(ValueError, match="position-tiers is a refusal of the venue, code 51000: Parameter error; ask it again"):
        readers.okx_position_tiers({"code": "51000", "msg": "Parameter error", "data": []})


# -- Hyperliquid -----------------------------------------------------------------------------------------------------

META = {
    "universe": [
        {"name": "BTC", "szDecimals": 5, "maxLeverage": 40, "marginTableId": 56},
        {"name": "GMX", "szDecimals": 2, "maxLeverage": 3, "marginTableId": 3},
        {"name": "OLD", "szDecimals": 2, "maxLeverage": 50},
    ],
    "marginTables": [
        [
            56,
            {
                "description": "",
                "marginTiers": [{"lowerBound": "0.0", "maxLeverage": 40}, {"lowerBound": "150000000.0", "maxLeverage": 20}],
            },
        ]
    ],
}


def test_hyperliquid_rates_are_half_of_the_initial_rate_at_maximum_leverage() -> None:
    tables = readers.hyperliquid_meta(META)

    assert tables["BTC"].tiers == (Tier(0, 150e6, 0.0125, 40), Tier(150e6, inf, 0.025, 20))
    assert amounts(tables["BTC"]) == [0, 1_875_000]
    assert tables["GMX"].tiers == (Tier(0, inf, 1 / 6, 3),)
    assert tables["OLD"].tiers == (Tier(0, inf, 0.01, 50),)
    assert readers.hyperliquid_meta([META, []]) == tables


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda m: m.update(marginTables=[]), "meta, BTC: its margin table 56 is not among the 0 listed; give the whole answer"),
        (lambda m: m["universe"][0].update(maxLeverage=50), "meta, BTC: its first tier allows 40x, its maxLeverage is 50"),
        (lambda m: m.update(marginTables=[[56]]), r"meta, marginTables: each is \[id, table\], was \[56\]"),
        (lambda m: m["marginTables"][0][1]["marginTiers"].reverse(), "meta, BTC: its first tier allows 20x, its maxLeverage is 40"),
        (lambda m: m.pop("universe"), "meta, universe must be a list with at least one item, was None"),
    ],
)
def test_a_bad_meta_is_refused(spoil: Callable[[dict[str, Any]], object], sentence: str) -> None:
    meta = deepcopy(META)
    spoil(meta)

    with pytest.raises(ValueError, match=f"^{sentence}$"):
        readers.hyperliquid_meta(meta)


# -- ccxt ------------------------------------------------------------------------------------------------------------


def test_ccxt_notionals_of_binance_are_notionals_and_its_cum_is_checked() -> None:
    edges = ((0, 50_000, 0.01, 50), (50_000, None, 0.025, 20))
    kept = BRACKETS[0]["brackets"]

    tables = readers.ccxt_tiers({"SUSHI/USDT:USDT": ccxt(*edges, info=kept)})  # type: ignore[arg-type]

    assert tables["SUSHI/USDT:USDT"] == readers.binance_brackets(BRACKETS)["SUSHIUSDT"]
    wrong = [kept[0], {**kept[1], "cum": "800"}]  # type: ignore[index]
    with pytest.raises(ValueError, match="tier 2: maintenance amount 800 disagrees with the derived 750"):
        readers.ccxt_tiers({"SUSHI/USDT:USDT": ccxt(*edges, info=wrong)})


def test_ccxt_notionals_of_okx_are_contracts() -> None:
    own = okx(OKX_ROWS)["data"]

    table = readers.ccxt_tiers(ccxt((0, 1_000, 0.004, 100), (1_000.01, 5_000, 0.005, 66.66), info=own))["BTC/USDT:USDT"]

    assert table == readers.okx_position_tiers(okx(OKX_ROWS))["BTC-USDT"]


def test_ccxt_notionals_of_coin_margined_binance_are_coins() -> None:
    market = ccxt((None, 10, 0.004, 125), (None, 20, 0.005, 100), info=COIN_ROWS)

    table = readers.ccxt_tiers({"BTC/USD:BTC": market})["BTC/USD:BTC"]

    assert table == readers.binance_brackets([{"pair": "BTCUSD", "brackets": COIN_ROWS}])["BTCUSD"]


def test_ccxt_percents_of_bybit_are_told_by_its_own_row() -> None:
    rows = bybit([("2000000", "0.5", "1", "100.00", "")])["result"]["list"]

    assert readers.ccxt_tiers(ccxt((0, 2e6, 0.5, 100), info=rows))["BTC/USDT:USDT"].tiers == (Tier(0, 2e6, 0.005, 100),)


@pytest.mark.parametrize(
    ("symbol", "exchange", "unit", "mode"),
    [
        ("BTC/USDT:USDT", "binance", "quote", "marginal"),
        ("BTC/USDT:USDT", "okx", "contracts", "slab"),
        ("BTC/USD:BTC", "binancecoinm", "base", "marginal"),
        ("BTC/USD:BTC", "bybit", "base", "marginal"),
        ("BTC/USD:BTC-260925", "binance", "base", "marginal"),
    ],
)
def test_without_the_venues_own_rows_the_exchange_says_what_ccxt_counts(symbol: str, exchange: str, unit: str, mode: str) -> None:
    table = readers.ccxt_tiers({symbol: ccxt((0, 10, 0.01, 50))}, exchange=exchange)[symbol]

    assert (table.unit, table.mode) == (unit, mode)


def test_ccxt_rows_whose_unit_is_not_told_are_refused() -> None:
    with pytest.raises(
        ValueError, match="its rows keep no answer of the venue under 'info' that says what they count; name the exchange, as ccxt does"
    ):
        readers.ccxt_tiers(ccxt((0, 10, 0.01, 50)))


def test_a_ccxt_table_may_be_said_to_be_slab() -> None:
    assert readers.ccxt_tiers(ccxt((0, 10, 0.01, 50), (10, 20, 0.02, 25)), exchange="gate", mode="slab")["BTC/USDT:USDT"].mode == "slab"


@pytest.mark.parametrize(
    ("market", "sentence"),
    [
        (
            [{"symbol": "X/USDT:USDT", "maxNotional": 5}],
            "row 1 is without maintenanceMarginRate, maxLeverage, minNotional; expected ccxt's",
        ),
        (ccxt((0, 10, 0.01, 50), (20, 30, 0.02, 25)), "tier 2 must start where tier 1 ends, at 10; its floor was 20, a gap"),
        (ccxt((0, 10, 0.01, None)), "row 1, maxLeverage must be a number, was None"),  # type: ignore[arg-type]
    ],
)
def test_a_bad_ccxt_market_is_refused(market: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^leverage tiers.*{sentence}"):
        readers.ccxt_tiers(market, exchange="binance")


# -- one's own -------------------------------------------------------------------------------------------------------


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def stamp(year: int) -> float:
    return datetime(year, 1, 1, tzinfo=UTC).timestamp()


def test_a_csv_of_one_table_needs_three_columns(tmp_path: Path) -> None:
    path = written(tmp_path, "mine.csv", "cap,rate,max_leverage\n50000,0.004,125\n,0.01,50\n")

    assert readers.csv_tiers(path) == {"": TierSchedule.constant(TierTable.from_rows([(50_000, 0.004, 125), (None, 0.01, 50)]))}


def test_a_csv_may_hold_dated_tables_of_several_symbols_with_floors_and_amounts(tmp_path: Path) -> None:
    text = """symbol, valid_from, floor, cap, rate, max_leverage, amount
BTCUSDT, 2025-01-01, 0, 100, 0.02, 20,
BTCUSDT, 2024-01-01, 0, 50, 0.01, 20, 0
BTCUSDT, 2024-01-01, 50, 100, 0.02, 10, 0.5
ETHUSDT, , , inf, 0.05, 10,
"""
    found = readers.csv_tiers(written(tmp_path, "mine.csv", text), mode="marginal", unit="base")

    first = TierTable.from_rows([(50, 0.01, 20), (100, 0.02, 10)], unit="base")
    assert found["BTCUSDT"] == TierSchedule((stamp(2024), stamp(2025)), (first, TierTable.from_rows([(100, 0.02, 20)], unit="base")))
    assert found["ETHUSDT"] == TierSchedule.constant(TierTable.from_rows([(None, 0.05, 10)], unit="base"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "cap,rate\n1,0.1\n",
            "the header of mine.csv is without max_leverage; expected amount, cap, floor, max_leverage, rate, symbol, valid_from",
        ),
        ("cap,rate,max_leverage,note\n", "the header of mine.csv is with unknown note; expected"),
        ("cap,rate,max_leverage\n", "mine.csv has no rows; expected one for each tier"),
        ("cap,rate,max_leverage\n1,0.1\n", "mine.csv, line 2 has another number of fields than the header, which has 3"),
        ("cap,rate,max_leverage\n1,0.1,5,7\n", "mine.csv, line 2 has another number of fields than the header, which has 3"),
        ("cap,rate,max_leverage\n1,half,5\n", "mine.csv, line 2, rate must be a number, was 'half'"),
        ("cap,rate,max_leverage\n1,0.5%,5\n", "mine.csv, line 2, rate must be a number, was '0.5%'"),
        ("cap,rate,max_leverage\n2,0.1,5\n1,0.1,5\n", "mine.csv: tier 2 must end above its floor 2, its cap was 1"),
        (
            "floor,cap,rate,max_leverage\n0,2,0.1,5\n3,4,0.1,5\n",
            "mine.csv: tier 2 must start where tier 1 ends, at 2; its floor was 3, a gap",
        ),
        ("cap,rate,max_leverage,amount\n2,0.1,5,0\n4,0.2,5,1\n", "mine.csv: tier 2: maintenance amount 1 disagrees with the derived 0.2"),
        (
            "valid_from,cap,rate,max_leverage\n2024-01-01,2,0.1,5\n,4,0.2,5\n",
            "mine.csv has 2 tables, of which 1 have no valid_from; date each of them",
        ),
        ("valid_from,cap,rate,max_leverage\nMay,2,0.1,5\n", "mine.csv, line 2, valid_from must be a day such as 2024-03-31, was 'May'"),
    ],
)
def test_a_bad_csv_is_refused_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence.replace('.', '[.]')}"):
        readers.csv_tiers(written(tmp_path, "mine.csv", text))


def test_a_toml_may_hold_a_step_rule(tmp_path: Path) -> None:
    text = """
[[table]]
symbol = "BTC-USDT-SWAP"
valid_from = 2026-09-18
mode = "slab"
unit = "contracts"
rows = [[1000, 0.004, 100], [5000, 0.005, 66.66], [20000, 0.0075, 50]]
step = {cap = 20000, rate = 0.005, initial_rate = 0.005, first_initial_rate = 0.02, last = 99}

[[table]]
symbol = "ETHUSDT"
rows = [[50, 0.01, 20], [inf, 0.02, 10]]
amounts = [0, 0.5]
"""
    found = readers.toml_tiers(written(tmp_path, "mine.toml", text))

    assert len(found["BTC-USDT-SWAP"].tables[0].tiers) == 99
    assert found["BTC-USDT-SWAP"].tables[0].tiers[-1] == Tier(1_920_000, 1_940_000, 0.4875, 2)
    assert found["ETHUSDT"] == TierSchedule.constant(TierTable.from_rows([(50, 0.01, 20), (None, 0.02, 10)]))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[table]", "mine.toml is not TOML: "),
        ("rows = []", "mine.toml is without table, with unknown rows; expected table"),
        ("[[table]]\nrows = []", "mine.toml, rows must be a list with at least one item, was []"),
        ("[[table]]\nrows = [[5, 0.1]]", "mine.toml: tier 1 must be (cap, rate, max_leverage), was (5.0, 0.1)"),
        ("[[table]]\nrows = [[5, 0.1, 5]]\nunit = 'coin'", "mine.toml, unit must be one of 'quote', 'base', 'contracts', was 'coin'"),
        ("[[table]]\nrows = [[5, 0.1, 5]]\namounts = [3]", "mine.toml: tier 1: maintenance amount 3 disagrees with the derived 0"),
        (
            "[[table]]\nrows = [[5, 0.1, 5]]\nvalid_from = 2024-01-01\n" * 2,
            "mine.toml has two tables of the same day; leave one out",
        ),
        (
            "[[table]]\nrows = [[5, 0.1, 5]]\nstep = {cap = 5}",
            "mine.toml, step is without first_initial_rate, without initial_rate, without rate",
        ),
    ],
)
def test_a_bad_toml_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"mine\.toml") as error:
        readers.toml_tiers(written(tmp_path, "mine.toml", text))

    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize("read", [readers.binance_brackets, readers.csv_tiers, readers.toml_tiers])
def test_a_file_that_is_not_there_is_told(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*none"):
        read(tmp_path / "none")


def test_a_file_that_is_not_json_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^page\.json is not JSON: "):
        readers.okx_position_tiers(written(tmp_path, "page.json", "<html>"))

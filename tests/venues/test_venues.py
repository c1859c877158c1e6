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
from bt_margin.core.tiers import TierTable
from bt_margin.venues import Venue, load, plain_symbol, read

SYMBOLS = ["ADAUSDT", "BTCUSDT", "DOGEUSDT", "ETHUSDT", "LTCUSDT", "SOLUSDT", "XRPUSDT"]
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
    assert table(binance, "BTCUSDT", "2020-03-12") is table(binance, "BTCUSDT", "2021-03-01")
    assert table(binance, "BTCUSDT", "2020-03-12").maintenance_margin(2_000_000) == 2_000_000 * 0.025 - 16_300


def test_after_its_last_table_a_contract_has_the_last_one(binance: Venue) -> None:
    assert table(binance, "BTCUSDT", "2030-01-01") is table(binance, "BTCUSDT", "2025-10-09")


def test_the_btc_table_of_march_2021_gives_the_amounts_published_then(binance: Venue) -> None:
    """Source: gist highfestiva/b71e76f51eed84d56c1be8ebbcc286b5, March 2021."""
    published = [0, 50, 1_300, 16_300, 266_300, 1_266_300, 2_516_300, 5_016_300, 25_016_300, 100_016_300]

    table(binance, "BTCUSDT", "2021-03-01").check_amounts(published)


def test_leverage_falls_with_the_notional_and_changed_over_time(binance: Venue) -> None:
    then, now = table(binance, "ETHUSDT", "2022-02-16"), table(binance, "ETHUSDT", "2026-09-30")

    assert (then.max_leverage(10_000), now.max_leverage(10_000), now.max_leverage(1_000_000)) == (100, 150, 75)


def test_a_cap_of_null_is_no_cap(binance: Venue) -> None:
    assert table(binance, "BTCUSDT", "2022-05-21").tiers[-1].cap == inf
    assert table(binance, "BTCUSDT", "2023-01-13").tiers[-1].cap == 500_000_000


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_derived_amounts_equal_the_published_ones_at_every_snapshot(binance: Venue, reference: Path, symbol: str) -> None:
    snapshots = json.loads((reference / "data/tiers/binance_usdtm_tiers_history.json").read_text("utf-8"))

    for day, snapshot in snapshots.items():
        published = snapshot["tiers"][f"{symbol[:-4]}/USDT:USDT"]
        ours = table(binance, symbol, day)
        assert [(tier.floor, min(tier.cap, NO_CAP), tier.rate, tier.max_leverage) for tier in ours.tiers] == [
            (row["minNotional"], min(row["maxNotional"], NO_CAP), row["maintenanceMarginRate"], row["maxLeverage"]) for row in published
        ], f"{symbol} {day}"
        ours.check_amounts([row["cum"] for row in published])


def test_binance_charges_a_regular_user_and_liquidates_in_the_market(binance: Venue) -> None:
    assert (binance.name, binance.profile, binance.retrieved) == ("binance", "market", date(2026, 11, 21))
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
    ],
)
def test_a_contract_has_its_own_lot_and_liquidation_fee(binance: Venue, symbol: str, lot: float, liquidation_fee: float) -> None:
    contract = binance.contract(symbol)

    assert (contract.lot, contract.multiplier, contract.liquidation_fee) == (lot, 1.0, liquidation_fee)
    assert (contract.maker, contract.taker) == (0.0002, 0.0005)


def test_every_figure_of_every_contract_names_its_source(binance: Venue) -> None:
    assert sorted(binance.contracts) == SYMBOLS
    for contract in binance.contracts.values():
        days = [datetime.fromtimestamp(stamp, UTC).date() for stamp in contract.tiers.dates]
        assert {"profile", "maker", "taker", "liquidation_fee", "lot", *(f"tiers from {day}" for day in days)} <= set(contract.sources)


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
        "binance has no tiers for PEPEUSDT here (known: ADAUSDT, BTCUSDT, DOGEUSDT, ETHUSDT, LTCUSDT, SOLUSDT, XRPUSDT); "
        "pass tiers=[(cap, rate, max_leverage), ...] or a flat rate such as tiers=0.01 to PerpCommInfo"
    )


def test_an_unknown_venue_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^no venue is called 'kraken'; known: binance, generic$"):
        load("kraken")


def test_the_generic_venue_has_every_symbol_flat_and_free() -> None:
    venue = load("generic")

    contract = venue.contract("PEPE/USDT:USDT")

    assert (venue.profile, contract.symbol, contract.lot, contract.multiplier) == ("forfeit", "PEPE/USDT:USDT", 0.0, 1.0)
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
        (lambda e: e.pop("taker"), r"^made\.json is without taker; expected contracts, liquidation_fee, "),
        (lambda e: e.update(fee=1), r"^made\.json is with unknown fee; expected contracts, "),
        (lambda e: e.update(profile="cruel"), r"^made\.json: no liquidation profile is called 'cruel'; known: market, forfeit$"),
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
        (lambda e: contract_of(e)["tiers"].reverse(), r"^made\.json, BTCUSDT: the dates of a tier schedule must rise$"),
        (
            lambda e: contract_of(e)["tiers"][1].pop("source"),
            r"^made\.json, BTCUSDT, table 2 is without source; expected rows, source, valid_from$",
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
                assert (node.level, (node.module or "").partition(".")[0]) == (2, "core")

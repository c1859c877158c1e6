"""ccxt's own classes of Binance, Bybit and OKX, answered by hand in place of the network, each in the manner of its venue."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pandas as pd
import pytest
from fakevenue import BASE, HOUR, candles, longer, settlements

from bt_margin.fetching import Request, fetch, iso
from bt_margin.venues import readers

ccxt = pytest.importorskip("ccxt")

DAY = 24 * HOUR
LISTED = BASE + 60 * DAY
PRICES = {"markprice": "mark", "index": "index"}  # by what stands in an address
HOURS = 700  # of trading: a page of 500 and some
NOW = BASE + 400 * DAY

Query = Mapping[str, str]
Rows = list[list[Any]]


def traded() -> dict[str, Any]:
    """Return what a contract that was listed on a day in March has."""
    mark, index = (candles(HOURS, start=LISTED, level=level, volume=None) for level in (100.05, 100.1))
    return {"last": candles(HOURS, start=LISTED), "mark": mark, "index": index, "funding": settlements(HOURS // 8, start=LISTED)}


def bars(path: str, interval: str) -> Rows:
    kind = next((kind for name, kind in PRICES.items() if name in path.lower().replace("-", "")), "last")
    rows = traded()[kind]
    return longer(rows, DAY) if interval.upper().startswith(("1D", "D")) else rows


def told(row: list[Any]) -> list[str]:
    """Return a candle as venues write it, in words."""
    return [str(value) for value in row if value is not None]


def binance(path: str, query: Query) -> Any:
    """Answer the first rows from ``startTime`` on."""
    since, until, limit = int(query["startTime"]), int(query.get("endTime", NOW)), int(query["limit"])
    if path.endswith("fundingRate"):
        rates = [row for row in traded()["funding"] if since <= row["timestamp"] <= until][:limit]
        return [{"symbol": "BTCUSDT", "fundingTime": row["timestamp"], "fundingRate": str(row["fundingRate"])} for row in rates]
    rows = [row for row in bars(path, query["interval"]) if row[0] >= since][:limit]
    return [[row[0], *told(row)[1:]] for row in rows]


def bybit(path: str, query: Query) -> Any:
    """Answer what is in the span of a page, the newest first; of settlements the newest of the span."""
    limit = int(query["limit"])
    if path.endswith("funding/history"):
        since, until = int(query["startTime"]), int(query["endTime"])
        rates = [row for row in traded()["funding"] if since <= row["timestamp"] <= until][-limit:]
        listed: list[Any] = [
            {"symbol": "BTCUSDT", "fundingRate": str(row["fundingRate"]), "fundingRateTimestamp": str(row["timestamp"])} for row in rates
        ]
    else:
        since, step = int(query["start"]), DAY if query["interval"] == "D" else HOUR
        listed = [told(row) for row in bars(path, query["interval"]) if since <= row[0] < since + limit * step]
    return {"retCode": 0, "retMsg": "OK", "result": {"category": "linear", "symbol": "BTCUSDT", "list": listed[::-1]}}


def okx(path: str, query: Query) -> Any:
    """Answer what is between ``before`` and ``after``, the newest alone where it is more than a page, and those first."""
    since, until = int(query["before"]), int(query.get("after", NOW))
    if path.endswith("funding-rate-history"):
        rates = [row for row in traded()["funding"] if since < row["timestamp"] < until]
        listed: list[Any] = [
            {"instId": "BTC-USDT-SWAP", "fundingRate": "0.5", "realizedRate": f"{row['fundingRate']}", "fundingTime": f"{row['timestamp']}"}
            for row in rates
        ]
    else:
        listed = [told(row) for row in bars(path, query["bar"]) if since < row[0] < until]
    return {"code": "0", "msg": "", "data": listed[-int(query["limit"]) :][::-1]}


VENUES: dict[str, tuple[str, str, Callable[[str, Query], Any]]] = {
    "binance": ("binanceusdm", "BTCUSDT", binance),
    "bybit": ("bybit", "BTCUSDT", bybit),
    "okx": ("okx", "BTC-USDT-SWAP", okx),
}


def connected(venue: str, faults: Mapping[int, Exception] | None = None) -> tuple[Any, list[str]]:
    """Return ccxt's exchange of a venue that knows one contract, and the paths it asks; ``faults`` by the number of the question."""
    name, contract, answer = VENUES[venue]
    exchange, asked = getattr(ccxt, name)({"enableRateLimit": False}), list[str]()
    shape = {"base": "BTC", "quote": "USDT", "settle": "USDT", "baseId": "BTC", "quoteId": "USDT", "settleId": "USDT", "type": "swap"}
    flags = {"swap": True, "contract": True, "linear": True, "inverse": False, "spot": False, "option": False, "future": False}
    info = {"instFamily": "BTC-USDT", "fundingInterval": "480"}
    exchange.set_markets([{**shape, **flags, "id": contract, "symbol": "BTC/USDT:USDT", "active": True, "info": info}])

    def answered(url: str, *_: Any) -> Any:
        parts = urlsplit(url)
        asked.append(parts.path)
        if faults and len(asked) in faults:
            raise faults[len(asked)]
        return answer(parts.path, dict(parse_qsl(parts.query)))

    exchange.fetch = answered
    return exchange, asked


@pytest.mark.parametrize("venue", VENUES)
def test_a_contract_listed_late_is_fetched_whole_through_the_class_of_its_venue(tmp_path: Path, venue: str) -> None:
    exchange, asked = connected(venue)
    waits: list[float] = []
    request = Request(venue, "BTCUSDT", BASE, LISTED + HOURS * HOUR, "1h", ("last", "mark", "index", "funding"))

    done = fetch(request, tmp_path, exchange=exchange, clock=lambda: NOW / 1_000, sleep=waits.append)

    assert done.manifest["missing"] == {} and waits == []
    for kind in ("last", "mark", "index"):
        frame = pd.read_parquet(tmp_path / f"{venue}-BTCUSDT-1h-{kind}.parquet")
        rows = traded()[kind]
        assert (frame.index.as_unit("ms").asi8 == [row[0] for row in rows]).all()
        assert frame[["open", "high", "low", "close"]].to_numpy().tolist() == [row[1:5] for row in rows]
    rates = pd.read_parquet(tmp_path / f"{venue}-BTCUSDT-funding.parquet")
    assert rates["funding_rate"].tolist() == [row["fundingRate"] for row in traded()["funding"]]
    for entry in done.manifest["files"]:
        (gap,) = [gap for gap in entry["gaps"] if gap["from"] == iso(BASE)]
        assert gap["missing"] == 60 * 24 // (8 if entry["kind"] == "funding" else 1)
    assert len(asked) < 80


def test_errors_of_ccxt_are_waited_out(tmp_path: Path) -> None:
    exchange, asked = connected(
        "binance", {1: ccxt.RateLimitExceeded("429"), 2: ccxt.RequestTimeout("late"), 3: ccxt.ExchangeNotAvailable("")}
    )
    waits: list[float] = []

    fetch(Request("binance", "BTCUSDT", LISTED, LISTED + DAY, "1h", ("last",)), tmp_path, exchange=exchange, sleep=waits.append)

    assert waits == [10.0, 2.0, 4.0] and len(asked) == 4


def test_tiers_of_binance_without_a_key_are_named_as_missing(tmp_path: Path) -> None:
    exchange, _ = connected("binance")
    request = Request("binance", "BTCUSDT", LISTED, LISTED + DAY, "1h", ("last", "tiers"))

    done = fetch(request, tmp_path, exchange=exchange)

    assert done.manifest["missing"]["tiers"].startswith(
        "no tiers: binanceusdm answers fetch_market_leverage_tiers with a key of an account"
    )


def test_tiers_as_ccxt_tells_those_of_bybit_make_a_table(tmp_path: Path) -> None:
    exchange, _ = connected("bybit")
    rows = [
        {"id": 1, "symbol": "BTCUSDT", "riskLimitValue": "300000", "maintenanceMargin": "0.0033", "initialMargin": "0.0066"},
        {"id": 2, "symbol": "BTCUSDT", "riskLimitValue": "2000000", "maintenanceMargin": "0.005", "initialMargin": "0.01"},
    ]
    more = [{"maxLeverage": "150.00", "mmDeduction": ""}, {"maxLeverage": "100.00", "mmDeduction": "510"}]
    listed = [{**row, **rest} for row, rest in zip(rows, more, strict=True)]
    exchange.fetch = lambda *_: {"retCode": 0, "retMsg": "OK", "result": {"category": "linear", "list": listed}}

    done = fetch(Request("bybit", "BTCUSDT", BASE, BASE + DAY, "1h", ("tiers",)), tmp_path, exchange=exchange)

    assert done.manifest["files"][0]["fault"] is None
    (table,) = readers.ccxt_tiers(tmp_path / "bybit-BTCUSDT-tiers.json", exchange="bybit").values()
    assert table.maintenance_margin(1_000_000) == pytest.approx(1_000_000 * 0.005 - 300_000 * (0.005 - 0.0033))

"""A venue that speaks ccxt's documented interface from records of our own: no network, no clock, faults where they are wanted.

Records are plain: candles by price and rates as ccxt returns them, and the tiers of a contract. How it pages is told by ``style``:
'from' answers the first rows from ``since`` on (Binance), 'window' the last ones of the span that ``limit`` rows would fill (Bybit,
OKX's candles), 'newest' the last ones of all, or of those before ``after`` (OKX's funding). No answer is longer than ``page``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

HOUR = 3_600_000
LENGTHS = {"1m": HOUR // 60, "1h": HOUR, "1d": 24 * HOUR}
BASE = 1_704_067_200_000  # 2024-01-01, milliseconds UTC
SYMBOL = "BTC/USDT:USDT"


# The errors of ccxt that are met, each under the one that it is a kind of.
TREE = {
    "BaseError": "",
    "ExchangeError": "BaseError",
    "AuthenticationError": "ExchangeError",
    "BadRequest": "ExchangeError",
    "BadSymbol": "BadRequest",
    "NotSupported": "ExchangeError",
    "OperationFailed": "BaseError",
    "NetworkError": "OperationFailed",
    "DDoSProtection": "NetworkError",
    "RateLimitExceeded": "NetworkError",
    "RequestTimeout": "NetworkError",
}
ERRORS: dict[str, type[Exception]] = {}
for _name, _above in TREE.items():
    ERRORS[_name] = type(_name, (ERRORS[_above] if _above else Exception,), {})

HAS = {
    "fetchOHLCV": True,
    "fetchMarkOHLCV": True,
    "fetchIndexOHLCV": True,
    "fetchFundingRateHistory": True,
    "fetchLeverageTiers": True,
    "fetchMarketLeverageTiers": "emulated",
}
TIERS = [
    {
        "tier": 1,
        "symbol": SYMBOL,
        "currency": "USDT",
        "minNotional": 0,
        "maxNotional": 50_000,
        "maintenanceMarginRate": 0.004,
        "maxLeverage": 125,
        "info": {"notionalCap": "50000", "cum": "0"},
    },
    {
        "tier": 2,
        "symbol": SYMBOL,
        "currency": "USDT",
        "minNotional": 50_000,
        "maxNotional": 250_000,
        "maintenanceMarginRate": 0.005,
        "maxLeverage": 100,
        "info": {"notionalCap": "250000", "cum": "50"},
    },
]


def candles(count: int, *, start: int = BASE, level: float = 100.0, volume: float | None = 3.0, timeframe: str = "1h") -> list[list[Any]]:
    """Return candles that rise by 0.25 each."""
    rows: list[list[Any]] = []
    for number in range(count):
        opened = level + number / 4
        rows.append([start + number * LENGTHS[timeframe], opened, opened + 1, opened - 1, opened + 0.25, volume])
    return rows


def longer(rows: Sequence[list[Any]], length: int) -> list[list[Any]]:
    """Return candles put together to longer ones."""
    found: dict[int, list[Any]] = {}
    for row in rows:
        opens = row[0] - row[0] % length
        kept = found.setdefault(opens, [opens, *row[1:]])
        kept[2:5] = [max(kept[2], row[2]), min(kept[3], row[3]), row[4]]
    return list(found.values())


def settlements(count: int, *, start: int = BASE, late: Sequence[int] = (0,)) -> list[dict[str, Any]]:
    """Return settlements every eight hours, told so many milliseconds late, in turn."""
    return [
        {
            "info": {},
            "symbol": SYMBOL,
            "fundingRate": 0.0001 * (number % 5 - 1),
            "timestamp": start + number * 8 * HOUR + late[number % len(late)],
            "datetime": None,
        }
        for number in range(count)
    ]


def records(count: int = 40, **more: Any) -> dict[str, Any]:
    """Return what a venue has of a contract: so many hours of candles, and the settlements in them."""
    mark, index = candles(count, level=100.05, volume=None), candles(count, level=100.1, volume=None)
    return {"last": candles(count), "mark": mark, "index": index, "funding": settlements(count // 8), "tiers": TIERS, **more}


def market(symbol: str = SYMBOL, name: str = "BTCUSDT", *, swap: bool = True, active: bool | None = True) -> dict[str, Any]:
    """Return a market of ccxt's, by the fields that are documented."""
    return {"id": name, "symbol": symbol, "base": symbol.partition("/")[0], "swap": swap, "active": active}


def _candles_of(price: str) -> Callable[..., list[Any]]:
    def fetch_priced_ohlcv(
        self: "FakeExchange",
        symbol: str,
        timeframe: str = "1m",
        since: int | None = None,
        limit: int | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        return self.fetch_ohlcv(symbol, timeframe, since, limit, {"price": price})

    return fetch_priced_ohlcv


@dataclass
class FakeExchange:
    """An exchange of ccxt's, whose candles are told of by hours. ``faults`` raises what it returns, given the number of the call."""

    records: Mapping[str, Sequence[Any]]
    has: dict[str, Any] = field(default_factory=lambda: dict(HAS))
    style: str = "from"
    page: int = 1_000
    faults: Callable[[int], BaseException | None] = lambda _call: None
    markets: Sequence[dict[str, Any]] = field(default_factory=lambda: [market(), market("BTC/USDT", swap=False)])
    id: str = "binanceusdm"
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    timeframes: dict[str, str] = field(default_factory=lambda: {"1h": "1h", "1d": "1d"})
    recorded: str = "1h"  # the length of the candles among the records
    mend: Callable[[list[Any]], list[Any]] = lambda rows: rows

    def _called(self, *words: Any) -> None:
        self.calls.append(words)
        fault = self.faults(len(self.calls))
        if fault is not None:
            raise fault

    def _answer(self, rows: Sequence[Any], since: int | None, limit: int | None, until: int | None, step: int, stamp: Any = 0) -> list[Any]:
        length = min(self.page, limit or self.page)
        later = [row for row in rows if since is None or row[stamp] >= since]
        if self.style == "newest":
            return [row for row in later if until is None or row[stamp] < until][-length:]
        if until is None and self.style == "window" and since is not None:
            until = since + (limit or self.page) * step - 1
        later = [row for row in later if until is None or row[stamp] <= until]
        return self.mend(later[-length:] if self.style == "window" else later[:length])

    def load_markets(self, reload: bool = False, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self._called("load_markets")
        return {row["symbol"]: row for row in self.markets}

    def fetch_ohlcv(
        self,
        symbol: str,
        timeframe: str = "1m",
        since: int | None = None,
        limit: int | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        price = (params or {}).get("price", "last")
        self._called(price, symbol, timeframe, since, limit)
        step, rows = LENGTHS[timeframe], self.records[price]
        return self._answer(rows if timeframe == self.recorded else longer(rows, step), since, limit, None, step)

    fetch_mark_ohlcv, fetch_index_ohlcv = _candles_of("mark"), _candles_of("index")

    def fetch_funding_rate_history(
        self, symbol: str | None = None, since: int | None = None, limit: int | None = None, params: Mapping[str, Any] | None = None
    ) -> list[Any]:
        self._called("funding", symbol, since, limit)
        until = (params or {}).get("after" if self.style == "newest" else "until")
        return self._answer(self.records["funding"], since, limit, until, 8 * HOUR, "timestamp")

    def fetch_market_leverage_tiers(self, symbol: str, params: Mapping[str, Any] | None = None) -> list[Any]:
        self._called("tiers", symbol)
        return list(self.records["tiers"])

    def fetch_leverage_tiers(self, symbols: Sequence[str] | None = None, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self._called("all tiers", symbols)
        return {SYMBOL: list(self.records["tiers"])}


def library(**venues: FakeExchange) -> ModuleType:
    """Return what ``import ccxt`` gives: its errors, its list of exchanges, and the classes of those that are given."""
    module: Any = ModuleType("ccxt")
    module.__version__ = "4.5.90"
    module.exchanges = sorted(venues)
    module.options = []
    for name, error in ERRORS.items():
        setattr(module, name, error)
    for name, exchange in venues.items():
        setattr(module, name, lambda config, exchange=exchange: (module.options.append(config), exchange)[1])
    return module

"""Analyzers of a margin account, for ``cerebro.addanalyzer(bt_margin.analyzers.Margin, _name="margin")``.

Each reads what the broker has recorded once the run is over, so a bar costs nothing but the host's calls. An analysis
holds plain numbers, text, None, lists and dicts; its keys are also attributes (``analysis.total``). Money is as the
account sees it: paid and lost are negative. Rates, ratios and returns are fractions. A bar's time is its closing
instant, as ISO 8601 text in UTC.

All strategies of a Cerebro trade on its one account: every one of them gets the same analysis, of the whole account.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from math import fsum, inf, isfinite
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import backtrader as bt
from backtrader.utils import AutoOrderedDict

from .broker import MarginBroker
from .measures import DAY
from .record import Record
from .result import Result, iso

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SUMMARY_KEYS = (
    "start_cash",
    "final_equity",
    "died",
    "net_deposits",
    "refills",
    "refilled",
    "total_return",
    "annual_return",
    "sharpe",
    "max_drawdown",
)


def margin_broker(strategy: Any, reader: str) -> MarginBroker:
    """Return a strategy's MarginBroker; ValueError, naming who wanted to read it, where the run has another broker."""
    broker = strategy.broker
    if not isinstance(broker, MarginBroker):
        kind = type(broker).__name__
        raise ValueError(f"{reader} reads a MarginBroker and this run has a {kind}; use plug(cerebro, ...) before cerebro.run()")
    return broker


class Held(NamedTuple):
    """A figure at the close of every bar that ended with a position; each of these bars lasted so many seconds."""

    values: "np.ndarray"
    times: "np.ndarray"
    seconds: "np.ndarray"


class AccountAnalyzer(bt.Analyzer):
    """An analyzer that reads the broker's record; a subclass says in ``summary(broker)`` what of it it tells."""

    def create_analysis(self) -> None:
        """Begin without an analysis."""
        self.rets = AutoOrderedDict()
        self._is_over = False

    def start(self) -> None:
        """Refuse a run whose broker records no margin account."""
        margin_broker(self.strategy, f"bt_margin.analyzers.{type(self).__name__}")

    def stop(self) -> None:
        """Keep the analysis of the whole run, and nothing of what it was read from."""
        self.rets = self.get_analysis()
        self._is_over = True

    def get_analysis(self) -> AutoOrderedDict:
        """Return the analysis; while the run lasts (``Strategy.stop`` is still a part of it), that of the bars so far."""
        if self._is_over:
            return self.rets
        analysis = AutoOrderedDict(_plain(self.summary(self.strategy.broker)))
        analysis._close()  # a key that is not there is an error from here on
        return analysis

    # The host calls these on every bar, and theirs go round the children, of which there are none, and call a second method.

    def _next(self) -> None:
        pass

    _prenext = _nextstart = _next

    def _notify_cashvalue(self, cash: float, value: float) -> None:
        pass

    def _notify_fund(self, cash: float, value: float, fundvalue: float, shares: float) -> None:
        pass


class Margin(AccountAnalyzer):
    """How near the account came to liquidation, how much margin it needed, and what it was told and given on the way.

    Params:

      - ``thresholds`` (default: ``(0.5, 0.8)``): margin ratios to count the bars above

    Keys; a margin ratio is maintenance margin / equity of the wallet nearest to liquidation at a bar's close (of the account,
    where all is in cross), liquidation is at 1:

      - ``highest_ratio``, ``highest_ratio_time``: None where nothing was ever held at a close
      - ``closest_call``: least distance of a bar's worst mark to a liquidation price, as a fraction of mark; 0 once
        something was liquidated, None where no liquidation price was ever in reach
      - ``bars_held``: bars that ended with a position
      - ``bars_above``: by threshold ('0.5'), the bars that ended with a margin ratio above it
      - ``hours_above``: by threshold, the hours that those bars lasted, each counted from the bar before
      - ``lowest_available_margin``, ``lowest_available_margin_time``: money still free at a close; negative where equity
        had fallen below what positions and orders take
      - ``highest_initial_margin``, ``highest_maintenance_margin``: money that positions took at a close
      - ``highest_order_margin``: money that resting orders had reserved at a close
      - ``warnings``, ``margin_calls``: how many were told; ``warning_rows``: a dict for each of both, by time, with the columns of
        ``Result.warnings``
      - ``top_ups``, ``topped_up``: how often a rule added margin, and how much; ``top_up_rows``: a dict for each, with the columns
        of ``Result.top_ups``
    """

    params = (("thresholds", (0.5, 0.8)),)

    def __init__(self) -> None:
        levels = self.p.thresholds
        if not isinstance(levels, list | tuple) or not all(isinstance(level, int | float) and 0 < level < inf for level in levels):
            raise ValueError(f"thresholds are margin ratios above 0, such as (0.5, 0.8), were {levels!r}")

    def summary(self, broker: MarginBroker) -> dict[str, Any]:
        """Return the extremes of margin and margin ratio over the bars."""
        import numpy as np

        record = broker.record
        held = _wallet_ratios(self.strategy, record)
        highest, highest_time = _extreme(np.argmax, held.values, held.times)
        lowest, lowest_time = _extreme(np.argmin, _column(record, "available_margin"), _column(record, "time"))
        above = {f"{level:g}": held.seconds[held.values > level] for level in self.p.thresholds}
        return {
            "highest_ratio": highest,
            "highest_ratio_time": highest_time,
            "closest_call": record.closest_call if record.closest_call < inf else None,
            "bars_held": record.bars_held,
            "bars_above": {level: len(lengths) for level, lengths in above.items()},
            "hours_above": {level: fsum(lengths) / 3600 for level, lengths in above.items()},
            "lowest_available_margin": lowest,
            "lowest_available_margin_time": lowest_time,
            "highest_initial_margin": max(record.column("initial_margin"), default=0.0),
            "highest_maintenance_margin": max(record.column("maintenance_margin"), default=0.0),
            "highest_order_margin": max(record.column("order_margin"), default=0.0),
            "warnings": sum(row.kind == "warning" for row in record.warnings),
            "margin_calls": sum(row.kind == "margin_call" for row in record.warnings),
            "warning_rows": [{**row._asdict(), "time": iso(row.time)} for row in record.warnings],
            "top_ups": len(record.top_ups),
            "topped_up": fsum(row.amount for row in record.top_ups),
            "top_up_rows": [{**row._asdict(), "time": iso(row.time)} for row in record.top_ups],
        }


class Liquidations(AccountAnalyzer):
    """The positions that were taken from the account.

    Keys:

      - ``total``, and of these ``certain``: however the market moved inside the bar, and ``possible``: by the path that
        the broker chose, but not by every path
      - ``loss``: realized profit of the positions taken less liquidation fees and what was forfeited; negative, as money lost is
      - ``fees``: liquidation fees, negative
      - ``insurance_fund``: what the fund gained by them; negative is what it paid
      - ``by_symbol``: how many for each contract that had any
      - ``rows``: a dict for each, by time, with the columns of ``Result.liquidations``
    """

    def summary(self, broker: MarginBroker) -> dict[str, Any]:
        """Return the sums over the liquidations, and each of them."""
        rows = broker.record.liquidations
        return {
            "total": len(rows),
            "certain": sum(row.certainty == "certain" for row in rows),
            "possible": sum(row.certainty == "possible" for row in rows),
            "loss": fsum(row.loss for row in rows),
            "fees": -fsum(row.fee for row in rows) + 0.0,
            "insurance_fund": fsum(row.to_insurance_fund - row.from_insurance_fund for row in rows),
            "by_symbol": {symbol: sum(row.symbol == symbol for row in rows) for symbol in _symbols(rows)},
            "rows": [{**row._asdict(), "time": iso(row.time)} for row in rows],
        }


class Funding(AccountAnalyzer):
    """The funding payments of the account.

    Keys:

      - ``paid`` (negative), ``received`` (positive), ``net``: money
      - ``payments``: how many stamps met a position, each contract counted
      - ``gap_payments``: of these, the ones that fell into a gap of the data and were settled at the last known mark
      - ``by_symbol``: ``paid``, ``received``, ``net`` and ``payments`` of each contract that had any
    """

    def summary(self, broker: MarginBroker) -> dict[str, Any]:
        """Return the sums over the payments, of all and by contract."""
        rows = broker.record.funding
        by_symbol = {symbol: _payments(row.amount for row in rows if row.symbol == symbol) for symbol in _symbols(rows)}
        return {**_payments(row.amount for row in rows), "gap_payments": broker.record.gap_stamps, "by_symbol": by_symbol}


class Leverage(AccountAnalyzer):
    """The effective leverage of the account: gross notional / equity at a bar's close.

    Keys; None where nothing was ever held at a close:

      - ``highest``, ``highest_time``
      - ``mean``, ``percentile_95``: over the bars that ended with a position; in 95 % of them leverage was not above the
        latter
      - ``end``: at the last close, 0 when flat
      - ``bars_held``: bars that ended with a position
    """

    def summary(self, broker: MarginBroker) -> dict[str, Any]:
        """Return how effective leverage was distributed over the bars."""
        import numpy as np

        record = broker.record
        held = _held(record, "notional", "equity")
        levels = np.sort(held.values)
        highest, highest_time = _extreme(np.argmax, held.values, held.times)
        return {
            "highest": highest,
            "highest_time": highest_time,
            "mean": fsum(levels) / len(levels) if len(levels) else None,
            "percentile_95": levels[(95 * len(levels) + 99) // 100 - 1] if len(levels) else None,
            "end": held.values[-1] if len(record) and record.column("notional")[-1] else 0.0,
            "bars_held": record.bars_held,
        }


class Equity(AccountAnalyzer):
    """What became of the money: the figures of ``Result.summary`` by the same names, and equity by day.

    Keys:

      - ``start_cash``, ``final_equity``, ``net_deposits`` (paid in less taken out after the start), ``refilled`` (of this, what
        ``refills`` deposits after liquidations were): money
      - ``died``: since when the account has been dead, None if it lives; see ``Result.died``
      - ``total_return``, ``annual_return`` (365 days; None for less than a day), ``sharpe`` (daily UTC returns, sqrt(365),
        no risk-free rate; None where they do not vary): time-weighted, so what is paid in or out is no return
      - ``max_drawdown``: positive, inside bars
      - ``lowest_equity``, ``lowest_equity_time``: money, at the worst inside a bar
      - ``daily``: equity at the end of each UTC day ('2024-01-31'), from the first bar's day to the last's; a bar belongs
        to the day it opens on, and a day without one keeps the equity of the day before
      - ``returns``: by the same days, the return of each, ``Result.daily_returns``; 0 on a day without a bar

    ``daily_returns()`` gives these as a pandas Series, which ``quantstats`` and ``empyrical`` take as it is.
    """

    def daily_returns(self) -> "pd.Series":
        """Return the return of each UTC day, by the day's midnight."""
        import pandas as pd

        returns = self.get_analysis()["returns"]
        index = pd.DatetimeIndex(list(returns), tz="UTC", name="day").as_unit("us")
        return pd.Series(list(returns.values()), index=index, name="return", dtype=float)

    def summary(self, broker: MarginBroker) -> dict[str, Any]:
        """Return the figures of the account's equity."""
        import numpy as np

        record = broker.record
        if not len(record):
            cash = broker.startingcash
            nothing = dict.fromkeys(SUMMARY_KEYS, 0.0) | {"annual_return": None, "sharpe": None, "died": None, "refills": 0}
            return {
                **nothing,
                "start_cash": cash,
                "final_equity": cash,
                "lowest_equity": cash,
                "lowest_equity_time": None,
                "daily": {},
                "returns": {},
            }
        result = Result(self.strategy)
        lowest, lowest_time = _extreme(np.argmin, _column(record, "lowest_equity"), _column(record, "time"))
        return {
            **{name: result.summary[name] for name in SUMMARY_KEYS},
            "lowest_equity": lowest,
            "lowest_equity_time": lowest_time,
            "daily": _daily(record, result.bar_seconds),
            "returns": {f"{day:%Y-%m-%d}": value for day, value in result.daily_returns.items()},
        }


def _column(record: Record, name: str) -> "np.ndarray":
    import numpy as np

    return np.array(record.column(name))


def _held(record: Record, above: str, below: str) -> Held:
    """Return one column over another on every bar that ended with a position.

    A bar lasts from the bar before it to its own close; the first as long as the shortest of the others.
    """

    times, below_values = _column(record, "time"), _column(record, below)
    held = (_column(record, "notional") > 0) & (below_values != 0)
    return Held(_column(record, above)[held] / below_values[held], times[held], _lengths(record)[held])


def _lengths(record: Record) -> "np.ndarray":
    import numpy as np

    times = _column(record, "time")
    steps = np.diff(times)
    return np.concatenate([[min(steps[steps > 0], default=0.0)], steps])[: len(times)]


def _wallet_ratios(strategy: bt.Strategy, record: Record) -> Held:
    """Return the margin ratio of the wallet nearest to liquidation on every bar that ended with a position."""
    import numpy as np

    if not record.bars_held:
        return Held(np.array([]), np.array([]), np.array([]))
    ratios = Result(strategy).margin_ratios.max(axis=1).to_numpy()
    held = ~np.isnan(ratios)
    return Held(ratios[held], _column(record, "time")[held], _lengths(record)[held])


def _extreme(choose: Callable[..., Any], values: "np.ndarray", times: "np.ndarray") -> tuple[float | None, str | None]:
    """Return the highest or lowest value and when it came first, as text; (None, None) of none."""
    if not len(values):
        return None, None
    row = choose(values)
    return values[row], iso(times[row])


def _payments(amounts: Iterable[float]) -> dict[str, Any]:
    amounts = list(amounts)
    paid, received = fsum(amount for amount in amounts if amount < 0), fsum(amount for amount in amounts if amount > 0)
    return {"paid": paid, "received": received, "net": fsum(amounts), "payments": len(amounts)}


def _daily(record: Record, bar_seconds: float) -> dict[str, float]:
    import numpy as np

    days = (_column(record, "time") - bar_seconds) // DAY
    ends = np.append(np.diff(days) > 0, True)  # each day's last bar
    closes = dict(zip(days[ends].tolist(), _column(record, "equity")[ends].tolist(), strict=True))
    daily, level = {}, 0.0
    for day in range(int(days[0]), int(days[-1]) + 1):
        level = closes.get(day, level)
        daily[f"{datetime.fromtimestamp(day * DAY, UTC):%Y-%m-%d}"] = level
    return daily


def _symbols(rows: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(row.symbol for row in rows))


def _plain(value: Any) -> Any:
    """Return a value in Python's own types, whatever kind of number a strategy ordered with; what is no number is None."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Real) and not isinstance(value, bool):
        return int(value) if isinstance(value, Integral) else float(value) if isfinite(value) else None
    return value

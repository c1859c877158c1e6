"""The numbers of a tear sheet: what each is called, its unit and its definition, and how a Result is read for them.

``Result.statistics`` has the values by name. Definitions agree with the library ``empyrical-reloaded`` (0.7.1) where it has
one, at 365 periods a year: ``volatility`` is its ``annual_volatility``, ``sharpe``, ``sortino`` and ``max_drawdown_daily`` its
``sharpe_ratio``, ``sortino_ratio`` and ``-max_drawdown`` of ``Result.daily_returns``, and where the run is of whole UTC days
``annual_return`` and ``calmar`` its own too; a year is 365 days of elapsed time here and 365 returns there.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging import ERROR, getLogger
from math import fsum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .measures import DAY, DAYS_A_YEAR, Dip, daily_drawdown, dips, iso, sortino, volatility

if TYPE_CHECKING:
    import numpy as np

    from .result import Result

LEAST_DAYS = 2
MISSING = "a tear sheet is drawn by the library quantstats, which is not installed; pip install 'bt_margin[tearsheet]', or do without"
NEAR = {"hours_above_50": 0.5, "hours_above_80": 0.8}  # margin ratios that count as near to liquidation


class Statistic(NamedTuple):
    """One number: its name, the words and the unit it is shown with, what it is made of.

    ``unit`` is 'share' (shown as a percentage), 'share a year', 'ratio', 'times', 'times a year', 'days', 'hours', 'count',
    'money', or 'time' (ISO 8601, UTC).
    """

    name: str
    label: str
    unit: str
    definition: str


STATISTICS = (
    Statistic("total_return", "return", "share", "growth of the account, money paid in or out taken out (time-weighted)"),
    Statistic("annual_return", "annual return", "share a year", "(1 + return) ** (365 days / length of the run) - 1; none under a day"),
    Statistic("volatility", "volatility", "share a year", "sample standard deviation of daily UTC returns x sqrt(365)"),
    Statistic("sharpe", "Sharpe ratio", "ratio", "mean / sample standard deviation of daily UTC returns x sqrt(365), no risk-free rate"),
    Statistic("sortino", "Sortino ratio", "ratio", "mean of daily UTC returns / root mean square of the negative ones x sqrt(365)"),
    Statistic("calmar", "Calmar ratio", "ratio", "annual return / max drawdown at daily closes"),
    Statistic("max_drawdown", "max drawdown", "share", "largest fall from the highest close before to the lowest inside a bar"),
    Statistic("max_drawdown_daily", "max drawdown at daily closes", "share", "largest fall between the ends of UTC days"),
    Statistic("max_drawdown_days", "its length", "days", "from the peak before the deepest fall until equity was back at it, or the end"),
    Statistic("max_drawdown_from", "it began", "time", "the peak before the deepest fall"),
    Statistic("max_drawdown_over", "it ended", "time", "the close that was back at that peak; none where there was none"),
    Statistic("longest_drawdown_days", "longest time under water", "days", "the longest that equity was below an earlier close"),
    Statistic("trades", "trades", "count", "positions closed, from flat to flat"),
    Statistic("win_rate", "won", "share", "of the trades, those with a profit after fees and funding"),
    Statistic("payoff", "payoff", "ratio", "average profit of the trades won / average loss of the others"),
    Statistic("profit_factor", "profit factor", "ratio", "sum of the profits / sum of the losses"),
    Statistic("expectancy", "expectancy", "money", "average profit of a trade after fees and funding"),
    Statistic("average_trade_hours", "average trade", "hours", "from a trade's first fill's bar to its last one's"),
    Statistic("exposure", "exposure", "share", "of the bars, those that ended with a position"),
    Statistic("turnover", "turnover", "times a year", "notional of all fills / average equity at closes, for 365 days; none under a day"),
    Statistic("leverage_mean", "effective leverage, mean", "times", "notional / equity, mean over the bars that ended with a position"),
    Statistic("leverage_95", "effective leverage, 95 %", "times", "it was not above this on 95 % of those bars"),
    Statistic("leverage_highest", "effective leverage, highest", "times", "the highest at a close"),
    Statistic("highest_margin_ratio", "highest margin ratio", "ratio", "maintenance margin / equity of the wallet nearest to liquidation"),
    Statistic("hours_above_50", "margin ratio above 0.5", "hours", "how long bars lasted that ended with a margin ratio above 0.5"),
    Statistic("hours_above_80", "margin ratio above 0.8", "hours", "the same above 0.8; liquidation is at 1"),
    Statistic("closest_call", "closest call", "share", "least distance of a mark to the liquidation price, of the mark; 0 once liquidated"),
    Statistic("liquidations", "liquidations", "count", "positions, or parts of them, taken by the venue"),
    Statistic("liquidation_loss", "lost in liquidations", "money", "profit of forced fills less their fees and what was forfeited"),
    Statistic("liquidation_fees", "liquidation fees", "money", "the part of it that was fees; negative"),
    Statistic("fees", "trading fees", "money", "paid is negative"),
    Statistic("funding", "funding", "money", "received less paid"),
    Statistic("funding_paid", "funding paid", "money", "negative"),
    Statistic("funding_received", "funding received", "money", "positive"),
    Statistic("slippage", "slippage", "money", "negative; it is inside the prices of the fills"),
    Statistic(
        "cost_share",
        "costs of price profit",
        "share",
        "fees, liquidation fees, funding and slippage / price profit of all fills before them; none unless that is above 0",
    ),
)
BY_NAME: Mapping[str, Statistic] = {statistic.name: statistic for statistic in STATISTICS}


def statistics(result: "Result") -> dict[str, Any]:
    """Return the value of every one of STATISTICS by its name: plain numbers, None where one is not defined."""
    summary = result.summary
    shared = {name: summary[name] for name in BY_NAME if name in summary}
    values = {
        **shared,
        **_of_returns(result),
        **_of_trades(result),
        **_of_exposure(result),
        **_of_margin(result),
        **_of_costs(result),
    }
    return {name: values[name] for name in BY_NAME}


def _of_returns(result: "Result") -> dict[str, Any]:
    summary, returns, is_alive = result.summary, result.daily_returns.tolist(), result.died is None
    deepest, longest = _deepest_and_longest(result)
    daily, annual = daily_drawdown(returns), summary["annual_return"]
    return {
        "volatility": volatility(returns) if is_alive else None,
        "sortino": sortino(returns) if is_alive else None,
        "calmar": annual / daily if annual is not None and daily > 0 else None,
        "max_drawdown_daily": daily,
        "max_drawdown_days": 0.0 if deepest is None else deepest.days,
        "max_drawdown_from": None if deepest is None else iso(deepest.begun),
        "max_drawdown_over": None if deepest is None or not deepest.is_over else iso(deepest.ended),
        "longest_drawdown_days": 0.0 if longest is None else longest.days,
    }


def _deepest_and_longest(result: "Result") -> tuple[Dip | None, Dip | None]:
    equity, lowest = result.levels
    times = (result.equity.index.as_unit("us").asi8 / 1e6).tolist()
    found = dips(result.summary["start_cash"], times[0] - result.bar_seconds, times, equity, lowest)
    return max(found, key=lambda dip: dip.depth, default=None), max(found, key=lambda dip: dip.days, default=None)


def _of_trades(result: "Result") -> dict[str, Any]:
    trades = result.trades
    profits = trades["net_pnl"].tolist()
    won, lost = [profit for profit in profits if profit > 0], [-profit for profit in profits if profit <= 0]
    hours = (trades["closed"] - trades["opened"]).dt.total_seconds() / 3600
    is_whole = bool(won) and fsum(lost) > 0
    return {
        "payoff": fsum(won) / len(won) / (fsum(lost) / len(lost)) if is_whole else None,
        "profit_factor": fsum(won) / fsum(lost) if is_whole else None,
        "expectancy": fsum(profits) / len(profits) if profits else None,
        "average_trade_hours": float(hours.mean()) if profits else None,
    }


def _of_exposure(result: "Result") -> dict[str, Any]:
    frame = result.equity
    held = frame.loc[(frame["notional"] > 0) & (frame["equity"] != 0), "effective_leverage"].sort_values().tolist()
    span = (frame.index[-1] - frame.index[0]).total_seconds() + result.bar_seconds
    average = fsum(frame["equity"]) / len(frame)
    is_known = span >= DAY and average > 0
    return {
        "exposure": result.summary["time_in_market"],
        "turnover": result.traded_notional / average / (span / DAY / DAYS_A_YEAR) if is_known else None,
        "leverage_mean": fsum(held) / len(held) if held else None,
        "leverage_95": held[(95 * len(held) + 99) // 100 - 1] if held else None,
        "leverage_highest": held[-1] if held else None,
    }


def _of_margin(result: "Result") -> dict[str, Any]:
    import numpy as np

    ratios = result.judged_ratios.max(axis=1).to_numpy(dtype=float)
    lengths = bar_lengths(result)
    return {
        "highest_margin_ratio": float(np.nanmax(ratios)) if (~np.isnan(ratios)).any() else None,
        **{name: float(lengths[ratios > level].sum()) / 3600 for name, level in NEAR.items()},
    }


def bar_lengths(result: "Result") -> "np.ndarray":
    """Return how many seconds each bar lasted: from the one before to its own close, the first as long as the shortest."""
    import numpy as np

    steps = np.diff(result.equity.index.as_unit("us").asi8) / 1e6
    return np.concatenate([[result.bar_seconds], steps])


def _of_costs(result: "Result") -> dict[str, Any]:
    summary, amounts, deaths = result.summary, result.funding["amount"], result.liquidations
    fees, funding, slipped = summary["fees"] - fsum(deaths["fee"]), summary["funding"], fsum(result.slippage)
    gross = result.price_profit + fsum(deaths["realized_pnl"]) - slipped
    return {
        "liquidation_fees": -fsum(deaths["fee"]) + 0.0,
        "funding_paid": fsum(amounts[amounts < 0]),
        "funding_received": fsum(amounts[amounts > 0]),
        "slippage": slipped,
        "cost_share": -(fees + funding + slipped) / gross if gross > 0 else None,
    }


def save(result: "Result", path: str | Path) -> Path:
    """Write the tear sheet of ``quantstats`` as one HTML file, at 365 periods a year, and return its path.

    Its figures are drawn by that library; the settings of matplotlib that it changes are put back. ValueError, saying what to
    install, where it is not there, and for a run of a single day.
    """
    import matplotlib as mpl

    returns, path = result.daily_returns, Path(path)
    if len(returns) < LEAST_DAYS:
        raise ValueError(f"a tear sheet needs {LEAST_DAYS} UTC days or more, this run has {len(returns)}; run it over a longer time")
    with mpl.rc_context(), _quietly():
        reports = _quantstats()
        reports.html(returns, output=str(path), title=_title(result), periods_per_year=DAYS_A_YEAR, figfmt="png")
    return path


def check(path: Path) -> None:
    """Refuse what ``save`` could not write, before a run is worked out for it: no HTML file, or no library."""
    from importlib.util import find_spec

    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--tearsheet writes an HTML file, was {path.name!r}; name it so, such as tearsheet.html")
    if find_spec("quantstats") is None:
        raise ValueError(MISSING)


def _title(result: "Result") -> str:
    settings = result.settings
    return f"{settings['strategy']} on {', '.join(result.symbols)}, {settings['venue'] or 'own'} rules, daily UTC returns"


def _quantstats() -> Any:
    try:
        from quantstats import reports
    except ImportError as error:
        raise ValueError(MISSING) from error
    return reports


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep to itself what the library makes others say: deprecations it has not met yet, fonts it asks for."""
    log = getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)

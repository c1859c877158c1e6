"""A comparison made of seeded numbers, of the shape that ``bt_margin.compare`` returns, for tests of its pictures and its page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from math import sqrt
from typing import Any

import numpy as np
import pandas as pd

RULES = (
    *("fixed size 1 BTC", "fixed notional 2 x cash", "margin 10 %", "margin 25 %", "risk 1 % to the stop", "risk 2 % to the stop"),
    *("volatility target 60 %", "risk 2 %, liquidation beyond stop", "martingale x2", "half Kelly"),
)
LEVERAGES = (1, 2, 3, 5, 8, 10, 15, 20, 30, 50)
DAYS = 180
CAP = 0.05


@dataclass
class Compared:
    """A comparison by its attributes."""

    table: pd.DataFrame
    runs: pd.DataFrame
    fans: dict[int, np.ndarray]
    fan_days: np.ndarray
    history: dict[int, np.ndarray]
    settings: dict[str, Any]
    flags: tuple[str, ...]
    combinations: int
    market: dict[str, Any]
    errors: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"combination": [], "path": [], "error": []}))
    train: pd.DataFrame | None = None
    test: pd.DataFrame | None = None


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson interval of a share of ``count``."""
    middle, reach = share + z * z / (2 * count), z * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, (middle - reach) / (1 + z * z / count)), min(1.0, (middle + reach) / (1 + z * z / count))


def exposure_of(rule: int, leverage: float) -> float:
    """Return the effective leverage of a rule: some follow the leverage set, some have their own."""
    return (1.0, 2.0, 0.1 * leverage, 0.25 * leverage, 0.6, 1.2, 0.9, min(1.2, 0.5 * leverage), 0.35 * leverage, 0.7)[rule % 10]


def curves(rule: int, leverage: float, paths: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return equity curves (paths + 1, DAYS + 1), the first the history, and which of them were liquidated."""
    luck = np.random.default_rng(seed).normal(0.0021, 0.032, (paths + 1, DAYS))  # the same paths for every rule
    held = exposure_of(rule, leverage)
    steps = np.log(np.maximum(1 + held * luck, 1e-9))
    equity = np.exp(np.concatenate([np.zeros((paths + 1, 1)), steps.cumsum(axis=1)], axis=1))
    worst = luck.min(axis=1)
    is_dead = (worst * held < -0.45) | ((worst * (0.6 + 0.1 * (rule % 5)) < -0.7 / leverage) & (rule % 10 != 7))
    for path in np.flatnonzero(is_dead):
        fallen = int(luck[path].argmin()) + 1
        equity[path, fallen:] *= 0.75 if held < 3 else 0.05
    return equity, is_dead


def figures_of(equity: np.ndarray, is_dead: np.ndarray) -> dict[str, Any]:
    """Return what the curves of one combination come to."""
    paths = len(equity) - 1
    judged, dead = (equity[1:], is_dead[1:]) if paths else (equity, is_dead)
    ends, peaks = judged[:, -1], np.maximum.accumulate(judged, axis=1)
    falls = (1 - judged / peaks).max(axis=1)
    row: dict[str, Any] = {f"wealth_{q}": float(np.quantile(ends, q / 100)) for q in (5, 25, 50, 75, 95)}
    shares = {"p_liquidation": dead.mean(), "p_ruin": (judged.min(axis=1) < 0.2).mean(), "p_deep_drawdown": (falls > 0.5).mean()}
    for name, share in shares.items():
        low, high = wilson(float(share), paths) if paths else (np.nan, np.nan)
        row.update({name: float(share) if paths else np.nan, f"{name}_low": low, f"{name}_high": high})
    daily = np.diff(np.log(judged), axis=1)
    row.update(
        median_log_wealth=float(np.log(max(np.median(ends), 1e-3))), annual_return=float(np.median(ends) ** (365 / DAYS) - 1),
        max_drawdown=float(np.median(falls)), days_under_water=60.0, calmar=0.4, full_liquidations=float(dead.mean()),
        sharpe=float(np.median(daily.mean(axis=1) / daily.std(axis=1)) * sqrt(365)), sortino=0.5, partial_liquidations=0.0,
        liquidation_loss=float(-0.4 * dead.mean()), liquidated_before_stop=0.0, min_headroom=0.3, closest_call=0.04, closest_call_atr=1.4,
    )  # fmt: skip
    return row


@cache
def compared(
    rules: Sequence[str] = RULES, leverages: Sequence[float] = LEVERAGES, paths: int = 60, modes: Sequence[str] = ("cross",)
) -> Compared:
    """Return a comparison of every rule at every leverage in every mode."""
    rows, runs, fans, history = {}, [], {}, {}
    for number, (mode, rule, leverage) in enumerate((m, r, x) for m in modes for r in range(len(rules)) for x in leverages):
        equity, is_dead = curves(rule, leverage, paths)
        held = exposure_of(rule, leverage)
        row = {"rule": rules[rule], "leverage": float(leverage), "margin_mode": mode, "venue": "binance", "period": 20, "paths": paths}
        row |= {"errors": 0, **figures_of(equity, is_dead), "time_above_half": 0.1, "time_above_most": 0.02, "mean_leverage": held}
        row |= {"high_leverage": 1.3 * held, "max_leverage": 1.6 * held, "exposure": 0.6, "turnover": 40.0 * held, "fees": 0.03}
        row |= {"funding_paid": 0.02, "funding_received": 0.004, "slippage": 0.0, "trades": 31.0, "win_rate": 0.42, "payoff": 1.9}
        is_beyond = row["p_liquidation"] > CAP if paths else bool(is_dead[0])
        row |= {"expectancy_r": 0.12, "is_admitted": not is_beyond}
        rows[number] = row
        fans[number] = np.quantile(equity[1:] if paths else equity, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
        history[number] = equity[0]
        runs += [{"combination": number, "path": path, "wealth": float(curve[-1]), "error": ""} for path, curve in enumerate(equity)]
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("id")
    table = table.sort_values(["is_admitted", "median_log_wealth"], ascending=False, kind="stable")
    settings = {
        "strategy": "DonchianBreakout", "symbols": ["BTCUSDT"], "span": ["2023-01-01T00:00:00Z", "2023-06-30T00:00:00Z"], "bars": 4320,
        "seed": 7, "block": 72, "paths": paths, "cap": CAP, "confidence": 0.95, "cash": 10_000.0, "walk_forward": None,
        "versions": {"bt_margin": "0.1.0", "backtrader": "1.9.78.123", "python": "3.11"}, "command": "bt-margin compare donchian.py",
    }  # fmt: skip
    tried = f"{len(rows)} combinations tried: the more, the more of the best one's lead is luck"
    flags = (tried, "mark from last: BTCUSDT", "intrabar: adverse")
    market = {"mu": 0.77, "sigma": 0.61, "symbol": "BTCUSDT"}
    return Compared(table, pd.DataFrame(runs), fans, np.arange(DAYS + 1.0), history, settings, flags, len(rows), market)

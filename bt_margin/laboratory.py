"""The panels of a comparison: what its pictures and its page show, as plain rows, grids and tables.

A comparison is what ``bt_margin.compare`` returns, or anything with its attributes (``Comparable``). ``Laboratory`` reads one:
combinations in rank order, the grid of leverage and rule, the frontier of wealth against liquidation, growth against the
Kelly parabola. Wealth is in multiples of the money put in, probabilities are shares of bootstrap paths with Wilson intervals.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil, inf, isfinite, log, nan
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeGuard

from .panels import Panel, Table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

TIMES = "\N{MULTIPLICATION SIGN}"
PICTURES = ("heatmap", "fans", "cliff", "pareto", "ranked")
FIGURES = (
    *("rule", "leverage", "margin_mode", "venue", "paths", "errors", "wealth_5", "wealth_25", "wealth_50", "wealth_75", "wealth_95"),
    *("median_log_wealth", "annual_return", "max_drawdown", "days_under_water", "calmar", "sharpe", "sortino"),
    *("p_liquidation", "p_liquidation_low", "p_liquidation_high", "p_ruin", "p_ruin_low", "p_ruin_high"),
    *("p_deep_drawdown", "p_deep_drawdown_low", "p_deep_drawdown_high", "full_liquidations", "partial_liquidations"),
    *("liquidation_loss", "loss_beside_stop", "liquidated_before_stop", "liquidated_past_stop"),
    *("min_headroom", "closest_call", "closest_call_atr"),
    *(
        "time_above_half",
        "time_above_most",
        "mean_leverage",
        "high_leverage",
        "max_leverage",
        "exposure",
        "turnover",
        "fees",
        "funding_paid",
    ),
    *("funding_received", "slippage", "trades", "win_rate", "payoff", "expectancy_r", "is_admitted"),
)  # columns that are of every comparison; others that do not end in SHARE are params of the strategy
SHARE = "_share"
YEAR = 365.0  # days
QUANTILES = (5, 25, 50, 75, 95)
MOST_ROWS = 200  # of a table in words
NAME_ROOM = 0.07  # of a scatter's height, between two names
LOWEST_WEALTH = 0.01  # of a scale by logarithms: ruined curves run out of it
HEATS = (
    ("wealth_50", "Median final wealth, multiples of the start", "times", True),
    ("p_liquidation", "Probability of at least one liquidation", "share of paths", True),
    ("p_ruin", "Probability of ruin (equity below 20 % of the start)", "share of paths", True),
    ("wealth_50", "Final wealth, multiples of the start", "times", False),
    ("liquidations", "Liquidations, whole ones and parts", "", False),
    ("max_drawdown", "Largest drawdown, inside bars", "share", False),
)  # column, title, unit, whether of a comparison with bootstrap paths


class Ranked(NamedTuple):
    """A figure of the ranked table: how it is shown, its head, what it means; without paths ``history`` has the words that differ."""

    form: str
    name: str
    meaning: str
    history: tuple[str, str] = ("", "")

    def words(self, *, has_paths: bool) -> tuple[str, str]:
        """Return head and meaning."""
        own = ("", "") if has_paths else self.history
        return own[0] or self.name, own[1] or self.meaning


RANKED = {
    "wealth_50": Ranked("times", "wealth", "median final wealth in multiples of the start", ("", "final wealth in multiples of the start")),
    "annual_return": Ranked("share", "annual return", "median over the paths, 365 days", ("", "365 days")),
    "max_drawdown": Ranked(
        "share", "drawdown", "largest drawdown inside bars, median over the paths", ("", "largest drawdown inside bars")
    ),
    "p_liquidation": Ranked("probability", "P(liq.)", "probability of at least one liquidation"),
    "p_ruin": Ranked("probability", "P(ruin)", "probability that equity falls below 20 % of the start"),
    "liquidations": Ranked(
        "count", "liq. a path", "liquidations a path on average, whole ones and parts", ("liquidations", "whole ones and parts")
    ),
    "trades": Ranked("count", "trades", "closed trades a path", ("", "closed trades")),
}  # what the still and the page have; the page has more


class Comparable(Protocol):
    """What a comparison must have to be drawn."""

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each combination, ranked, best first; its index has their ids."""

    @property
    def fans(self) -> "Mapping[int, np.ndarray]":
        """By id (5, points): quantiles of equity over the paths, as multiples of the money put in."""

    @property
    def fan_days(self) -> "np.ndarray":
        """Days since the start, of ``fans`` and ``history``."""

    @property
    def history(self) -> "Mapping[int, np.ndarray]":
        """By id: the same on the market as it was."""

    @property
    def settings(self) -> dict[str, Any]:
        """How it was made."""

    @property
    def market(self) -> dict[str, Any]:
        """Annual log-drift ``mu`` and volatility ``sigma`` of ``symbol``."""

    @property
    def combinations(self) -> int:
        """How many combinations were tried."""


def is_comparison(value: Any) -> TypeGuard[Comparable]:
    """Return whether a value can be drawn as a comparison."""
    return all(hasattr(value, name) for name in ("table", "fans", "fan_days", "history", "settings", "market", "combinations"))


class Heat(NamedTuple):
    """One heat map: a value for each line (down) and leverage (across), NaN where there is no such combination."""

    key: str
    title: str
    unit: str
    values: "np.ndarray"

    @property
    def most(self) -> float:
        """The highest value."""
        import numpy as np

        known = self.values[np.isfinite(self.values)]
        return float(known.max()) if len(known) else nan

    def said(self, value: float) -> str:
        """Return a cell's number: multiples to a hundredth at least, counts as they are, shares in per cent without the sign."""
        if not isfinite(value):
            return "\N{EN DASH}"
        if self.key == "wealth_50":
            return "<0.01" if 0 < value < 0.005 else f"{value:.2f}" if value < 0.1 else multiple(value).rstrip(TIMES)
        return f"{value:,.4g}" if self.key == "liquidations" else probability(value).removesuffix(" %")


class Growth(NamedTuple):
    """One line's median log growth a year by leverage, rising; ``mean_leverages`` are what its accounts effectively had."""

    line: str
    leverages: list[float]
    mean_leverages: list[float]
    growths: list[float]
    is_safe: list[bool]
    ids: list[int]


@dataclass(frozen=True, slots=True)
class Trial:
    """One combination: its id, its rank from 1, its rule with all that varies beside leverage, and its figures by name."""

    id: int
    rank: int
    line: str
    leverage: float
    figures: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The rule and its leverage."""
        return f"{self.line} at {self.leverage:g}x"

    @property
    def is_admitted(self) -> bool:
        """Whether its probability of liquidation is within the cap."""
        return bool(self.figures["is_admitted"])

    def figure(self, key: str) -> float:
        """Return a figure as a number, NaN where there is none; 'liquidations' is the sum of whole ones and parts."""
        if key == "liquidations":
            return self.figure("full_liquidations") + self.figure("partial_liquidations")
        value = self.figures.get(key)
        return nan if value is None else float(value)


class Laboratory:
    """A comparison as its pictures read it; ValueError where there is nothing to draw."""

    def __init__(self, comparison: Comparable) -> None:
        if not is_comparison(comparison):
            raise ValueError(f"a comparison is drawn, as bt_margin.compare returns it, was {type(comparison).__name__}")
        if not len(comparison.table) or not comparison.table["wealth_50"].notna().any():
            raise ValueError("the comparison has no combination that ran to its end; its errors say why")
        self.comparison, self.settings = comparison, comparison.settings
        known = {name: nan if comparison.market.get(name) is None else comparison.market[name] for name in ("mu", "sigma")}
        self.market = {**comparison.market, **known}  # without two bars there is neither
        self.trials = trials_of(comparison.table, comparison.settings)
        self.days = comparison.fan_days

    @cached_property
    def has_paths(self) -> bool:
        """Whether there are bootstrap paths, and so probabilities."""
        return self.paths > 0

    @cached_property
    def paths(self) -> int:
        """How many bootstrap paths there are."""
        return int(max(trial.figures["paths"] for trial in self.trials))

    @cached_property
    def cap(self) -> float:
        """The highest probability of liquidation that admits a combination; NaN where none was set."""
        cap = self.settings.get("cap")
        return nan if cap is None else float(cap)

    @cached_property
    def years(self) -> float:
        """How long a path is."""
        return float(self.days[-1] - 0.0) / YEAR if len(self.days) else nan

    @cached_property
    def lines(self) -> list[str]:
        """The rules (with what else varies) in the order in which they were given."""
        return list(dict.fromkeys(trial.line for trial in sorted(self.trials, key=lambda trial: trial.id)))

    @cached_property
    def beside(self) -> list[str]:
        """What varies beside rule and leverage: margin mode, venue, params."""
        return varied_in(self.comparison.table, self.settings)

    @cached_property
    def ranked(self) -> dict[str, Ranked]:
        """The figures of the ranked table; without paths there are no probabilities."""
        return {key: column for key, column in RANKED.items() if self.has_paths or column.form != "probability"}

    @cached_property
    def leverages(self) -> list[float]:
        """The leverages, rising."""
        return sorted({trial.leverage for trial in self.trials})

    @cached_property
    def best(self) -> Trial:
        """The best-ranked combination that the cap admits, of all where it admits none."""
        return next((trial for trial in self.trials if trial.is_admitted), self.trials[0])

    @cached_property
    def richest(self) -> Trial:
        """The combination with the highest median wealth, whatever its liquidations."""
        return max(self.trials, key=lambda trial: trial.figure("wealth_50") if isfinite(trial.figure("wealth_50")) else -inf)

    @cached_property
    def by_cell(self) -> dict[tuple[str, float], Trial]:
        """The combinations by line and leverage."""
        return {(trial.line, trial.leverage): trial for trial in self.trials}

    def is_caught(self, trial: Trial) -> bool:
        """Return whether a combination is beyond the cap; without paths, whether it was liquidated at all."""
        return not trial.is_admitted if self.has_paths else trial.figure("liquidations") > 0

    def heats(self) -> list[Heat]:
        """Return the heat maps: of wealth, liquidation and ruin; without paths of wealth, liquidations and drawdown."""
        return [Heat(key, title, unit, self._grid(key)) for key, title, unit, has_paths in HEATS if has_paths == self.has_paths]

    def _grid(self, key: str) -> "np.ndarray":
        import numpy as np

        cells = self.by_cell
        return np.array(
            [[cells[line, lever].figure(key) if (line, lever) in cells else nan for lever in self.leverages] for line in self.lines]
        )

    def growths(self) -> list[Growth]:
        """Return the median log growth a year of each line."""
        found = []
        for line in self.lines:
            trials = [self.by_cell[line, lever] for lever in self.leverages if (line, lever) in self.by_cell]
            known = [trial for trial in trials if isfinite(trial.figure("median_log_wealth"))]
            found.append(
                Growth(
                    line,
                    [trial.leverage for trial in known],
                    [held if isfinite(held := trial.figure("mean_leverage")) else 0.0 for trial in known],  # none of what never trades
                    [trial.figure("median_log_wealth") / self.years for trial in known],
                    [not self.is_caught(trial) for trial in known],
                    [trial.id for trial in known],
                )
            )
        return found

    def kelly(self, leverage: Any) -> Any:
        """Return the log growth a year of holding ``leverage`` times equity at all times: l * mu - l^2 * sigma^2 / 2.

        Of the market's own drift and volatility, without costs, funding or liquidation (Kelly's parabola, continuous trading).
        """
        mu, sigma = self.market["mu"], self.market["sigma"]
        return leverage * mu - leverage**2 * sigma**2 / 2

    @property
    def kelly_leverage(self) -> float:
        """Where the parabola is highest: mu / sigma^2."""
        sigma = self.market["sigma"]
        return float(self.market["mu"] / sigma**2) if sigma else nan

    def growth_limits(self) -> tuple[float, float]:
        """Return the lowest and highest growth a picture shows: what falls below is marked at its edge.

        Ruin is a log of next to nothing; shown in full it would press all that lives into one line. Three quarters are always shown.
        """
        values = sorted(growth for line in self.growths() for growth in line.growths) or [0.0]
        peak = self.kelly(min(max(self.kelly_leverage, 0.0), self.leverages[-1])) if isfinite(self.kelly_leverage) else 0.0
        high = max(*values, peak, 0.05)
        low = min(*values, 0.0)
        return max(low * 1.08, min(-max(3 * high, 1.0), 1.1 * values[len(values) // 4])), high * 1.12

    @property
    def risk(self) -> str:
        """The figure that wealth is set against: the probability of liquidation, without paths the largest drawdown."""
        return "p_liquidation" if self.has_paths else "max_drawdown"

    def frontier(self) -> list[Trial]:
        """Return the combinations that no other beats at wealth and at risk at once, by rising risk."""
        known = [trial for trial in self.trials if isfinite(trial.figure(self.risk)) and isfinite(trial.figure("wealth_50"))]
        found: list[Trial] = []
        for trial in sorted(known, key=lambda trial: (trial.figure(self.risk), -trial.figure("wealth_50"), trial.rank)):
            if not found or trial.figure("wealth_50") > found[-1].figure("wealth_50"):
                found.append(trial)
        return found

    def named_frontier(self, low: float, high: float) -> set[int]:
        """Return which of the frontier have room for a name between these wealths: the best, the richest, then who lies clear of them."""
        frontier = sorted(self.frontier(), key=lambda trial: (trial is not self.best, -trial.figure("wealth_50")))
        named: dict[int, float] = {}
        for trial in frontier:
            height = log(max(trial.figure("wealth_50"), low) / low) / log(high / low)
            if all(abs(height - other) >= NAME_ROOM for other in named.values()):
                named[trial.id] = height
        return set(named)

    def fan_limits(self, ids: list[int]) -> tuple[float, float]:
        """Return the wealth that the fans of these combinations and their histories share as their scale; ruined ones run out of it."""
        import numpy as np

        drawn = [known[number].ravel() for number in ids for known in (self.comparison.fans, self.comparison.history) if number in known]
        return wealth_limits(np.concatenate(drawn or [np.ones(1)]))

    def fan(self, number: int, points: int) -> "tuple[np.ndarray, np.ndarray, np.ndarray | None]":
        """Return days, quantiles and history of a combination, thinned to about so many points.

        No extreme of the outer two quantiles or of the history is lost.
        """
        from .panels import thinned

        fan, history = self.comparison.fans[number], self.comparison.history.get(number)
        curves = [(fan[0], fan[-1]), *([] if history is None else [(history, history)])]
        rows = thinned(curves, max(points // 4, 1))
        return self.days[rows], fan[:, rows], None if history is None else history[rows]

    def at_leverage(self, leverage: float | None) -> list[Trial]:
        """Return each line's combination at a leverage (default: the best one's), in the order of the lines."""
        wanted = self.best.leverage if leverage is None else leverage
        if wanted not in self.leverages:
            raise ValueError(f"leverage is one that was compared, was {wanted:g}; there are {', '.join(f'{x:g}' for x in self.leverages)}")
        return [self.by_cell[line, wanted] for line in self.lines if (line, wanted) in self.by_cell]


def wealth_limits(values: Iterable[float]) -> tuple[float, float]:
    """Return the lowest and highest wealth of a scale by logarithms that shows these, next to nothing left out, and the start's 1.

    >>> [round(edge, 3) for edge in wealth_limits([0.5, 2.0])]
    [0.448, 2.235]
    """
    known = [float(value) for value in values if isfinite(value)] or [1.0]
    low, high = min(known), max(known)
    low, high = max(min(low, 0.95), LOWEST_WEALTH), max(high, 1.05)
    pad = (high / low) ** 0.08
    return low / pad, high * pad


def ranks_of(table: "pd.DataFrame") -> dict[int, int]:
    """Return the rank of each row of a table by its id: those within the cap by median log wealth, then the others likewise."""
    ordered = table.sort_values(["is_admitted", "median_log_wealth"], ascending=False, kind="stable")
    return {int(number): rank for rank, number in enumerate(ordered.index, 1)}


def ranked_by(cap: float, *, has_paths: bool) -> str:
    """Return what combinations are ranked by."""
    within = f"P(liquidation) within {probability(cap) if isfinite(cap) else 'the cap'}" if has_paths else "not liquidated on the history"
    return f"by median log wealth, first those {within} (above the line)"


def left_out(count: int, shown: int) -> str:
    """Return how many more there are than are shown, '' where there are none."""
    return f"and {count - shown:,} more" if count > shown else ""


def varied_in(table: "pd.DataFrame", settings: Mapping[str, Any] | None = None) -> list[str]:
    """Return what varies beside rule and leverage; ``settings`` name the params that do, else other columns are looked at."""
    params = (settings or {}).get("varied")
    if params is None:
        params = [name for name in table.columns if name not in FIGURES and not name.endswith(SHARE)]
    return [name for name in ("margin_mode", "venue", *params) if name in table and table[name].nunique(dropna=False) > 1]


def trials_of(table: "pd.DataFrame", settings: Mapping[str, Any] | None = None) -> list[Trial]:
    """Return the rows of a comparison's table as Trials, in its order, ``settings`` as ``varied_in`` takes them."""
    beside = varied_in(table, settings)
    rows = []
    for rank, (number, row) in enumerate(zip(table.index, table.to_dict("records"), strict=True), 1):
        more = [str(row[name]) if name in ("margin_mode", "venue") else f"{name}={row[name]}" for name in beside]
        rows.append(Trial(int(number), rank, ", ".join([str(row["rule"]), *more]), float(row["leverage"]), row))
    return rows


def strength(key: str, value: float, most: float) -> float:
    """Return how strongly the cell of a heat map is coloured, -1 to 1, 0 for not at all; ``most`` is the map's highest value.

    Wealth below 1 is negative; it is told on both sides of 1 by its logarithm, full at a tenth and at ten times. Shares are told
    by themselves, counts by ``most``.
    """
    if key == "wealth_50":
        size = 1.0 if value <= 0 else min(abs(log(value)) / log(10), 1.0) ** 0.6
        return size if value > 1 else -size
    share = value if key != "liquidations" else value / most if most else 0.0
    return float(min(max(share, 0.0), 1.0) ** 0.7)


def multiple(value: float) -> str:
    """Return a multiple of the start, to what can be told apart.

    >>> [multiple(value).rstrip(TIMES) for value in (1.2345, 0.0123, 123.4, 0.00001)]
    ['1.23', '0.012', '123', '<0.001']
    """
    if not isfinite(value):
        return "\N{EN DASH}"
    if 0 < value < 0.0005:
        return f"<0.001{TIMES}"
    return f"{value:,.{0 if value >= 100 else 1 if value >= 20 else 2 if value >= 0.1 or value == 0 else 3}f}{TIMES}"


def probability(share: float) -> str:
    """Return a probability in whole per cent; what is not quite 0 or 1 is not said to be.

    >>> probability(0.123), probability(0.0), probability(0.002), probability(0.999)
    ('12 %', '0 %', '<1 %', '>99 %')
    """
    if not isfinite(share):
        return "\N{EN DASH}"
    if 0 < share < 0.005 or 0.995 < share < 1:
        return "<1 %" if share < 0.5 else ">99 %"
    return f"{100 * share:.0f} %"


def minus(text: str) -> str:
    """Return the text of a number with a minus sign as wide as a plus.

    >>> minus("-1,234.5")
    '\u22121,234.5'
    """
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text


def percent(share: float) -> str:
    """Return a fraction in per cent.

    >>> percent(0.4567), percent(0.0123), percent(-1.0), percent(12.5), percent(0.0)
    ('45.7 %', '1.23 %', '\u2212100 %', '1,250 %', '0 %')
    """
    value = 100 * share
    digits = 0 if value == 0 or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return minus(f"{value:,.{digits}f} %")


def shown_as(value: float, form: str) -> str:
    """Return a figure of the ranked table as text: 'times', 'share', 'probability', 'leverage', else a plain number or a count."""
    if not isfinite(value):
        return "\N{EN DASH}"
    if form == "times":
        return multiple(value)
    if form == "share":
        return percent(value)
    if form == "probability":
        return probability(value)
    if form == "leverage":
        return f"{value:.2g}x"
    return minus(f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}")


# -- in words --------------------------------------------------------------------------------------------------------


def picture(comparison: Comparable, key: str) -> Panel:
    """Return one of PICTURES as a Panel whose tables have its numbers; ValueError for another key."""
    laboratory = Laboratory(comparison)
    if key not in PICTURES:
        raise ValueError(f"there is no picture {key!r} of a comparison; there are {', '.join(PICTURES)}")
    panels = {"heatmap": heat_panel, "fans": fans_panel, "cliff": cliff_panel, "pareto": pareto_panel, "ranked": ranked_panel}
    return panels[key](laboratory)


def heat_panel(laboratory: Laboratory) -> Panel:
    """Return the heat maps in numbers."""
    columns = [("", ""), *((f"{lever:g}x", "") for lever in laboratory.leverages)]
    tables = []
    for heat in laboratory.heats():
        rows = tuple((line, *map(_finite, values)) for line, values in zip(laboratory.lines, heat.values.tolist(), strict=True))
        named = tuple((name, heat.unit if place else "") for place, (name, _) in enumerate(columns))
        tables.append(Table(heat.title, named, rows))
    return Panel("heatmap", "Leverage and rule", "heatmap", "", "times", tables=tuple(tables))


def fans_panel(laboratory: Laboratory) -> Panel:
    """Return where the fans end, in numbers."""
    names = tuple((f"{quantile} %", "times") for quantile in QUANTILES)
    rows = tuple(
        (trial.line, trial.leverage, *(_finite(trial.figure(f"wealth_{quantile}")) for quantile in QUANTILES))
        for trial in sorted(laboratory.trials, key=lambda trial: trial.id)[:MOST_ROWS]
    )
    table = Table("Final wealth by quantile of the paths", (("rule", ""), ("leverage", ""), *names), rows)
    title = "Equity over time by rule" if laboratory.has_paths else "Equity over time by rule, on the market as it was"
    return Panel("fans", title, "fans", "times the start", "times", tables=(table,))


def cliff_panel(laboratory: Laboratory) -> Panel:
    """Return growth by leverage, in numbers, with the parabola."""
    levers = laboratory.leverages
    known = {
        (line.line, lever): growth for line in laboratory.growths() for lever, growth in zip(line.leverages, line.growths, strict=True)
    }
    rows = [("Kelly parabola", *(float(laboratory.kelly(lever)) for lever in levers))]
    rows += [(line, *(known.get((line, lever)) for lever in levers)) for line in laboratory.lines]
    columns = (("", ""), *((f"{lever:g}x", "a year") for lever in levers))
    table = Table("Median log growth a year by leverage", columns, tuple(rows))
    title = "The leverage cliff: median growth against the Kelly parabola"
    return Panel("cliff", title, "cliff", "log growth a year", "ratio", tables=(table,))


def pareto_panel(laboratory: Laboratory) -> Panel:
    """Return the frontier, in numbers."""
    risk, title = laboratory.risk, "Wealth against the probability of liquidation"
    columns = [
        ("rule", ""),
        ("leverage", ""),
        ("median wealth", "times"),
        ("liquidated", "share of paths"),
        ("from", "share"),
        ("to", "share"),
    ]
    edges: tuple[str, ...] = ("p_liquidation_low", "p_liquidation_high")
    if not laboratory.has_paths:
        columns, title, edges = [*columns[:2], ("wealth", "times"), ("drawdown", "share")], "Wealth against the largest drawdown", ()
    rows = tuple(
        (trial.line, trial.leverage, *(_finite(trial.figure(key)) for key in ("wealth_50", risk, *edges)))
        for trial in laboratory.frontier()[:MOST_ROWS]
    )
    said = "The frontier: no other combination has more wealth at less risk"
    return Panel("pareto", title, "scatter", "times the start", "times", tables=(Table(said, tuple(columns), rows),))


def ranked_panel(laboratory: Laboratory) -> Panel:
    """Return the combinations in rank order, in numbers, with whether each is within the cap."""
    units = {"times": "times", "share": "share", "probability": "share of paths", "count": ""}
    columns, keys = [("rank", ""), ("rule", ""), ("leverage", ""), ("within the cap", "")], []
    for key, column in laboratory.ranked.items():
        name, unit = column.words(has_paths=laboratory.has_paths)[0], units[column.form]
        if key == "wealth_50" and laboratory.has_paths:
            told = [(f"{name} at {share} %", unit, f"wealth_{share}") for share in (5, 50, 95)]
        elif key == "p_liquidation":
            told = [(name, unit, key), ("from", "share", f"{key}_low"), ("to", "share", f"{key}_high")]
        else:
            told = [(name, unit, key)]
        columns += [(head, of) for head, of, _ in told]
        keys += [figure for _, _, figure in told]
    if not laboratory.has_paths:
        columns[3] = ("never liquidated", "")
    rows = tuple(
        (trial.rank, trial.line, trial.leverage, "yes" if trial.is_admitted else "no", *(_finite(trial.figure(key)) for key in keys))
        for trial in laboratory.trials[:MOST_ROWS]
    )
    title = f"Ranked {ranked_by(laboratory.cap, has_paths=laboratory.has_paths).removesuffix(' (above the line)')}"
    said = "; ".join(filter(None, ("Combinations by rank", left_out(len(laboratory.trials), MOST_ROWS))))
    return Panel("ranked", title, "table", "", "times", tables=(Table(said, tuple(columns), rows),))


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def told_apart(levers: Iterable[float], room: float) -> list[float]:
    """Return leverages whose names have ``room`` on an axis by logarithms, a share of it, the first among them, and the last.

    >>> told_apart([1, 2, 3, 100, 105], 0.05)
    [1, 2, 3, 105]
    """
    rising = sorted(set(levers))
    shown = rising[:1]
    apart = room * log(rising[-1] / rising[0]) if len(rising) > 1 else 0.0
    for lever in rising[1:]:
        if log(lever / shown[-1]) >= apart:
            shown.append(lever)
        elif lever == rising[-1]:
            shown[-1:] = [lever] if len(shown) > 1 else [*shown, lever]
    return shown


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return a few round multiples between two positive values.

    >>> log_ticks(0.2, 12)
    [0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
    """
    first, last = ceil(log(low, 10)) - 1, ceil(log(high, 10))
    for factors in ((1, 1.1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 7, 8, 9), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,)):
        ticks = [float(f"{factor * 10.0**power:.3g}") for power in range(first, last + 1) for factor in factors]
        shown = [tick for tick in ticks if low <= tick <= high]
        if len(shown) <= most:
            return shown
    step = -(-len(shown) // most)
    return [tick for tick in shown if round(log(tick, 10)) % step == 0]

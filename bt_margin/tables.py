"""A Result as text for a terminal: the account beside stock Backtrader's claim, its liquidations, a spark line. A Comparison ranked."""

from functools import partial
from itertools import pairwise
from math import ceil, floor, isnan
from typing import TYPE_CHECKING, Any

from rich.table import Table

from .laboratory import left_out, ranked_by
from .panels import price_currency
from .result import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from .comparison import Comparison

BLOCKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 60
DASH = "-"
COMPARED = 40  # combinations shown; the rest is in the table
RULE_WIDTH = 22
WIDTH = 120


def heading(result: Result) -> str:
    """Return one line: strategy with its parameters, contracts with leverage and margin mode, venue, span."""
    settings = result.settings
    params = ", ".join(f"{name}={value}" for name, value in settings["params"].items())
    modes = settings["margin_mode"]
    rules = ", ".join(f"{symbol} {leverage:g}x {modes[symbol]}" for symbol, leverage in settings["leverage"].items())
    rules += ", hedge mode" if settings["position_mode"] == "hedge" else ""
    span = settings["data"]
    return (
        f"{settings['strategy']}({params}) on {rules}, {settings['venue']} rules, {_minute(span['first'])} to {_minute(span['last'])} UTC"
    )


def _minute(iso: str) -> str:
    return iso[:16].replace("T", " ").removesuffix(" 00:00")


def summary_table(result: Result) -> Table:
    """Return what the account came to; beside it stock Backtrader's claim where it was run, a dash where it does not know.

    Every number has its unit. What each is made of stands in ``tearsheet.STATISTICS``.
    """
    summary, stock = result.summary, result.baseline
    start, money = summary["start_cash"], partial(_money, result)
    claims = ("", "", "")
    if stock is not None:
        final, lowest = (f"{value:,.0f}{_unit(result)}" for value in (stock.iloc[-1], stock.min()))
        claims = final, f"{stock.iloc[-1] / start - 1:+.1%}", lowest
    rows = [
        *([] if summary["died"] is None else [("the account", DASH, f"[red]DEAD since {_minute(summary['died'])} UTC[/red]")]),
        ("final equity", claims[0], money(summary["final_equity"])),
        ("return", claims[1], f"{summary['total_return']:+.1%}"),
        ("lowest equity", claims[2], money(result.equity["lowest_equity"].min())),
        *((name, DASH, said) for name, said in _returns_told(result)),
        *((name, DASH, said) for name, said in _trades_told(result)),
        ("liquidations", DASH, f"{summary['liquidations']}"),
        *_ends(result),
        ("lost in them", DASH, money(summary["liquidation_loss"])),
        *([("topped up by rule", DASH, _often(summary["top_ups"], money(summary["topped_up"])))] if result.settings["top_up"] else []),
        *([("refilled after them", DASH, _often(summary["refills"], money(summary["refilled"])))] if result.settings["refill"] else []),
        *((name, DASH, said) for name, said in _margin_told(result)),
        *((name, DASH, said) for name, said in _costs_told(result)),
    ]
    table = Table(title=f"From {money(start, is_rough=True)}", title_justify="left")
    table.add_column("")
    if stock is not None:
        table.add_column("stock Backtrader claims", justify="right", style="dim")
    table.add_column("under margin", justify="right", style="bold")
    for name, claim, truth in rows:
        table.add_row(name, *((claim,) if stock is not None else ()), truth)
    return table


def _returns_told(result: Result) -> list[tuple[str, str]]:
    numbers = result.statistics
    fall = f"{numbers['max_drawdown']:.1%}"
    if numbers["max_drawdown_from"] is not None:
        end = "not over" if numbers["max_drawdown_over"] is None else f"over after {_days(numbers['max_drawdown_days'])}"
        fall += f" from {_minute(numbers['max_drawdown_from'])[:10]}, {end}"
    return [
        ("a year: return, volatility", f"{_number(numbers['annual_return'], '+.1%')}, {_number(numbers['volatility'], '.1%')}"),
        ("Sharpe, Sortino, Calmar ratio", ", ".join(_number(numbers[name], ".2f") for name in ("sharpe", "sortino", "calmar"))),
        ("max drawdown", fall),
        ("longest time under water", _days(numbers["longest_drawdown_days"])),
    ]


def _trades_told(result: Result) -> list[tuple[str, str]]:
    numbers = result.statistics
    expectancy = DASH if numbers["expectancy"] is None else f"{_money(result, numbers['expectancy'])} a trade"
    return [
        ("trades, won", f"{numbers['trades']}, {_number(numbers['win_rate'], '.0%')}"),
        ("payoff ratio, expectancy", f"{_number(numbers['payoff'], '.2f')}, {expectancy}"),
        ("orders refused", refused_orders(result)),
    ]


def _margin_told(result: Result) -> list[tuple[str, str]]:
    numbers, summary = result.statistics, result.summary
    leverage = ", ".join(_number(numbers[name], ".3g", "x") for name in ("leverage_mean", "leverage_95", "leverage_highest"))
    return [
        ("closest call", "liquidated" if summary["liquidations"] else _closest(summary["closest_call"])),
        ("margin ratio above 0.5, 0.8", f"{numbers['hours_above_50']:,.4g} h, {numbers['hours_above_80']:,.4g} h"),
        ("effective leverage, mean, 95 %, top", leverage),
        ("time in market", f"{summary['time_in_market']:.1%}"),
        ("turnover", DASH if numbers["turnover"] is None else f"{numbers['turnover']:,.3g} x equity a year"),
    ]


def _costs_told(result: Result) -> list[tuple[str, str]]:
    numbers, money = result.statistics, partial(_money, result)
    rows = [("trading fees", money(numbers["fees"])), ("funding", money(numbers["funding"]))]
    return [*rows, *([("slippage, inside prices", money(numbers["slippage"]))] if numbers["slippage"] else [])]


def _ends(result: Result) -> list[tuple[str, str, str]]:
    """Return the rows of what bars hide: equity and liquidations by the best and by the worst path."""
    if result.bounds is None:
        return []
    best, worst = (_money(result, end.summary["final_equity"]) for end in (result.bounds.best, result.bounds.worst))
    fewest, most = result.bounds.liquidations
    return [("equity by best, worst path", DASH, f"{best}, {worst}"), ("liquidations there", DASH, f"{fewest}, {most}")]


def refused_orders(result: Result) -> str:
    """Return how many orders were refused, and how many of them for which reason, the most frequent first.

    The reasons are the words of ``desk.REASONS``; where one accounts for all of them, it stands alone behind the number.
    """
    counts = result.refusals["reason"].value_counts()
    told = ", ".join(f"{reason} {count}" if len(counts) > 1 else reason for reason, count in counts.items())
    return f"{len(result.refusals)} ({told})" if told else "0"


def _money(result: Result, amount: float, *, is_rough: bool = False) -> str:
    """Return an amount with its decimals, a rough one of quote money without, and what it is counted in."""
    return f"{amount:,.{0 if is_rough and result.decimals == 2 else result.decimals}f}{_unit(result)}"


def _unit(result: Result) -> str:
    currency = result.settings["currency"]
    return f" {currency}" if currency else ""


def _days(count: float) -> str:
    return f"{count:,.1f} days" if count >= 1 or not count else f"{count * 24:,.3g} hours"


def _closest(share: float | None) -> str:
    return DASH if share is None else f"{share:.2%} of mark price"


def _often(count: int, amount: str) -> str:
    return f"{amount}, {'once' if count == 1 else f'{count} times'}" if count else "never"


def _number(value: float | None, form: str, unit: str = "") -> str:
    return DASH if value is None else format(value, form) + unit


def liquidation_table(result: Result, most: int) -> Table:
    """Return the first liquidations, each with what would have kept the position alive in that bar.

    The symbol is left out where there is one only, and how sure they are where all are certain.
    """
    rows, several = result.liquidations, sum(len(result.legs(symbol)) for symbol in result.symbols) > 1
    unsure = not (rows["certainty"] == "certain").all()
    prices = " and ".join(dict.fromkeys(price_currency(result, symbol) for symbol in result.symbols))
    money = result.settings["currency"]
    units = f"prices and money in {money}" if money == prices else f"prices in {prices}" + (f", money in {money}" if money else "")
    title = f"Liquidations ({len(rows)}): sizes in contracts, {units}"
    table = Table(title=title, title_justify="left", caption=_caption(rows, most), caption_justify="left")
    texts, numbers = ["UTC", *(["symbol"] if several else [])], ["size", "entry", "mark", "lost", "prevented by"]
    for name in [*texts, *numbers, *(["how sure"] if unsure else [])]:
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for row in rows.head(most).itertuples():
        lost = f"[red]{_money(result, row.realized_pnl - row.fee - row.forfeited, is_rough=True).removesuffix(_unit(result))}[/red]"
        table.add_row(
            f"{row.time:%Y-%m-%d %H:%M}", *([row.symbol] if several else []), f"{row.size:g}", f"{row.entry_price:,.6g}",
            f"{row.mark_price:,.6g}", lost, _prevention(row, result.decimals), *([row.certainty] if unsure else []),
        )  # fmt: skip
    return table


def _caption(rows: "pd.DataFrame", most: int) -> str:
    told = [
        "prevented by: more margin than this, or any leverage below this, in the bar in which it died; what came later is another matter"
    ]
    told += ["eff.: effective leverage, notional over the wallet's money"] if (rows["margin_mode"] == "cross").any() else []
    told += ["all certain: both paths through the bar have them"] if (rows["certainty"] == "certain").all() else []
    told += [f"and {len(rows) - most} more"] if len(rows) > most else []
    return ". ".join(told)


def _prevention(row: Any, decimals: int) -> str:
    """Return the margin rounded up and the leverage rounded down: rounded the other way they would not prevent."""
    more = f"+{ceil(row.margin_to_add * 10**decimals) / 10**decimals:,.{decimals}f}"
    kind = "x eff." if row.margin_mode == "cross" else "x"
    return more if isnan(row.safe_leverage) else f"{more} or {floor(row.safe_leverage * 10) / 10:,.1f}{kind}"


def spark_line(values: "Sequence[float]", width: int = SPARK_WIDTH) -> str:
    """Return a line of blocks from the lowest value to the highest; each block is the lowest of its share of the values.

    >>> spark_line([0, 1, 2, 3, 7])
    '▁▂▃▄█'
    """
    count = min(width, len(values))
    edges = [len(values) * step // count for step in range(count + 1)]
    lows = [min(values[first:end]) for first, end in pairwise(edges)]
    low, span = min(lows), max(lows) - min(lows)
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1)) if span else 0] for value in lows)


def equity_line(result: Result) -> str:
    """Return the equity curve as a spark line, with where it began, its lowest and when (UTC) and where it ended."""
    lowest, summary = result.equity["lowest_equity"], result.summary
    start, final, least = (
        _money(result, amount, is_rough=True) for amount in (summary["start_cash"], summary["final_equity"], lowest.min())
    )
    when = f"{lowest.idxmin():%Y-%m-%d %H:%M} UTC"
    return f"equity {spark_line([summary['start_cash'], *lowest.tolist()])} {start} to {final}, lowest {least} on {when}"


# -- a comparison ----------------------------------------------------------------------------------------------------


def comparison_heading(comparison: "Comparison") -> str:
    """Return what was compared on what, in how many runs, and the seed."""
    settings = comparison.settings
    first, last = (_minute(instant) for instant in settings["span"])
    drawn = "the history alone"
    if settings["paths"]:
        blocks = "one block" if settings["block"] is None else f"blocks of {settings['block']:g} bars"
        drawn = f"the history and {settings['paths']} bootstrap paths in {blocks}, seed {settings['seed']}"
    symbols = ", ".join(settings["symbols"])
    return f"{settings['strategy']} on {symbols}, {first} to {last} UTC: {comparison.combinations} combinations on {drawn}"


def comparison_table(comparison: "Comparison", most: int = COMPARED) -> Table:
    """Return the ranked combinations, those within the cap on the probability of liquidation above the line.

    With a split the figures are of the period before it, which they are ranked by; what those of the period after it came to stands
    beside them.
    """
    frame, test = comparison.table.head(most), comparison.test
    has_modes = comparison.table["margin_mode"].nunique() > 1
    axes = [name for name in ("venue", *comparison.settings["varied"]) if comparison.table[name].nunique(dropna=False) > 1]
    columns = [column for column in COMPARED_COLUMNS if test is None or column[0] in BESIDE_TEST]
    columns = columns if frame["errors"].any() else columns[:-1]
    table = Table(title=_ranked_by(comparison), title_justify="left", caption=_left_out(comparison, most), caption_justify="left")
    table.add_column("", justify="right")
    table.add_column("rule", min_width=RULE_WIDTH, overflow="fold")
    table.add_column("leverage", no_wrap=True)
    for name in axes:
        table.add_column(name, overflow="fold")
    for head, _ in columns:
        table.add_column(head, justify="right", no_wrap=head.startswith(("wealth", "P(liq)")))
    for head in TESTED if test is not None else ():
        table.add_column(head, justify="right", style="bold", no_wrap=True)
    last = int(frame["is_admitted"].sum())
    for rank, (number, row) in enumerate(zip(frame.index, frame.to_dict("records"), strict=True), 1):
        tested = [say(test.loc[number]) for say in TESTED.values()] if test is not None else []
        named = [
            str(rank),
            row["rule"],
            f"{row['leverage']:g}x {row['margin_mode'] if has_modes else ''}",
            *(str(row[name]) for name in axes),
        ]
        told = [say(row) for _, say in columns]
        table.add_row(*named, *told, *tested, style="" if row["is_admitted"] else "dim", end_section=rank == last)
    return table


def comparison_text(comparison: "Comparison") -> str:
    """Return heading, ranked table and stated policies as plain text."""
    from io import StringIO

    from rich.console import Console

    stream = StringIO()
    console = Console(file=stream, width=WIDTH)
    console.print(comparison_heading(comparison) + "\n", highlight=False, markup=False)
    console.print(comparison_table(comparison))
    console.print("Stated policies: " + "; ".join(comparison.flags) + ".", highlight=False, markup=False)
    return stream.getvalue()


def _ranked_by(comparison: "Comparison") -> str:
    settings = comparison.settings
    told = f"Ranked {ranked_by(settings['cap'], has_paths=bool(settings['paths']))}"
    if settings["walk_forward"] is not None:
        told += f"\nFigures of the bars until {_minute(settings['walk_forward'])} UTC, in bold of those after it"
    return told


def _left_out(comparison: "Comparison", most: int) -> str | None:
    failed = (
        f"runs that failed: {len(comparison.errors)}, the first: {comparison.errors['error'].iloc[0]}" if len(comparison.errors) else ""
    )
    return ". ".join(filter(None, (left_out(comparison.combinations, most), failed))) or None


def _known(value: float, form: str) -> str:
    return DASH if value is None or isnan(value) else format(value, form)


def _likely(row: Any, name: str) -> str:
    """Return a probability with its interval in per cent, a dash where there is none."""
    if isnan(row[name]):
        return DASH
    return f"{100 * row[name]:.0f} ({100 * row[f'{name}_low']:.0f}-{100 * row[f'{name}_high']:.0f})"


def _wealth(row: Any) -> str:
    """Return the quantiles of wealth, or the one there is."""
    shown = [_known(row[f"wealth_{share}"], ",.2g" if row[f"wealth_{share}"] < 10 else ",.0f") for share in (5, 50, 95)]
    return shown[1] if isnan(row["wealth_5"]) else "{:>4} {:>4} {:>4}".format(*shown)


COMPARED_COLUMNS: "tuple[tuple[str, Callable[[Any], str]], ...]" = (
    ("wealth 5 50 95 %", _wealth),
    ("a year", lambda row: _known(row["annual_return"], "+.0%")),
    ("fall", lambda row: _known(row["max_drawdown"], ".0%")),
    ("P(liq) %", lambda row: _likely(row, "p_liquidation")),
    ("ruin", lambda row: _known(100 * row["p_ruin"], ".0f")),
    ("liq.", lambda row: _known(row["full_liquidations"] + row["partial_liquidations"], ".3g")),
    ("trades", lambda row: _known(row["trades"], ".0f")),
    ("failed", lambda row: str(row["errors"]) if row["errors"] else ""),
)
BESIDE_TEST = ("wealth 5 50 95 %", "fall", "P(liq) %", "failed")
TESTED: "dict[str, Callable[[Any], str]]" = {
    "test wealth": _wealth,
    "P(liq) %": lambda row: _likely(row, "p_liquidation"),
    "liq.": lambda row: _known(row["full_liquidations"] + row["partial_liquidations"], ".3g"),
}

"""Every sentence of a page in one table by language, and numbers as a reader sees them.

``Words`` looks texts up by key. What a panel brings with it (titles, names of lines, units) is English; another language
has its own words by that text, and shows English where it has none.
"""

from math import floor, isfinite, log10
from re import fullmatch
from typing import Any

from .zh import PATTERNS, PHRASES, ZH

EN = {
    "theme": "Light / dark",
    "no_script": "The charts need JavaScript; the tables and numbers are readable without it. Nothing is fetched from the network.",
    "toolbar": "Span shown in all charts over time",
    "earlier": "earlier",
    "later": "later",
    "span_all": "All",
    "span_year": "1 y",
    "span_quarter": "90 d",
    "span_month": "30 d",
    "span_week": "7 d",
    "span_day": "1 d",
    "how_to_zoom": "Drag across a chart to zoom and double-click for everything; on a touch screen use the buttons above. All charts over time move together. Times are UTC.",
    "beyond": "The {name} is partly too far away for this chart; its value stands in the key above.",
    "tick_day": "%-d %b %Y",
    "tick_day_narrow": "%-d %b",
    "tick_month": "%b %Y",
    "tick_hour": "%H:%M, %-d %b",
    "log_scale": " (log)",
    "log_button": "log scale",
    "as_table": "The same in numbers",
    "candles": "price",
    "line_said": "{name}: {low} to {high}, last {last}",
    "points_said": "{count} positions, {dead} of them liquidated",
    "verdict_dead": "Liquidated {times} and dead since {day}: {final} of {start} {unit} left.",
    "verdict_liquidated": "Liquidated {times}: {start} became {final} {unit} ({change}).",
    "verdict_alive": "Never liquidated: {start} became {final} {unit} ({change}).",
    "verdict_idle": "No order was filled: {start} {unit} stayed as they were.",
    "times_1": "once",
    "times_2": "twice",
    "times_n": "{count} times",
    "sentence_stock": "Stock Backtrader would have claimed {final} {unit} ({change}).",
    "sentence_stock_below": "Stock Backtrader would have claimed {final} {unit} ({change}), after an account value of {low}, which no venue allows.",
    "sentence_worst": "The costliest liquidation, {symbol} on {day} UTC, took {loss} {unit}; {ways} would have prevented it.",
    "sentence_deposits": "{amount} {unit} were paid in after the start, net of what was taken out; they are no profit.",
    "sentence_bounds_same": "By the worst and by the best path inside each bar the account ends alike, at {low} {unit}.",
    "sentence_bounds": "What bars hide: between {low} and {high} {unit} by the worst and the best path inside each bar.",
    "sentence_early": "The run ended before its data does.",
    "or": " or ",
    "tile_equity": "Final equity",
    "tile_equity_more": "{change} from {start}",
    "tile_drawdown": "Max drawdown",
    "tile_drawdown_more": "inside bars, deepest {day}",
    "tile_drawdown_none": "equity was never below its start",
    "tile_liquidations": "Liquidations",
    "tile_liquidations_more": "took {loss} {unit}",
    "tile_liquidations_possible": "took {loss} {unit}; {count} only possible",
    "tile_liquidations_none": "none",
    "tile_closest": "Closest call",
    "tile_closest_dead": "liquidated",
    "tile_closest_dead_more": "the mark reached the liquidation price",
    "tile_closest_more": "of the mark from a liquidation price",
    "tile_closest_never": "nothing could have liquidated it",
    "tile_costs": "Fees and funding",
    "tile_costs_more": "paid \u2212, received +: fees {fees}, funding {funding}",
    "tile_costs_share": "{share} of the price profit, liquidations in it; fees {fees}, funding {funding}",
    "tile_trades": "Closed trades",
    "tile_trades_more": "{won} won; in the market {held} of the time",
    "tile_trades_idle": "in the market {held} of the time",
    "deaths_title": "Liquidations ({count})",
    "deaths_none_title": "Liquidations",
    "deaths_none": "Nothing was liquidated.",
    "deaths_note": "Click a row: all charts zoom to its hour. “Would have prevented it” is about the bar in which it happened; what came later is another matter.",
    "deaths_caption": "Steps of liquidations in order of time, UTC: {count}.",
    "deaths_cut": "The first {shown} of {count} steps, in order of time, UTC; all are in liquidations.csv.",
    "col_when": "bar closing at",
    "col_contract": "contract",
    "col_size": "size taken",
    "col_entry": "entry",
    "col_mark": "mark that triggered",
    "col_trigger": "met by",
    "col_lost": "lost",
    "col_certainty": "how sure",
    "col_saved": "would have prevented it",
    "certainty_certain": "certain",
    "certainty_possible": "possible",
    "trigger_gap": "gap at the open",
    "trigger_funding": "funding",
    "trigger_fill": "a fill",
    "trigger_path": "path inside the bar",
    "trigger_close": "close of the bar",
    "bar_said": "Its bar: open {open}, high {high}, low {low}, close {close}.",
    "before_position": "At the close before: mark {mark}, liquidation price {line}.",
    "before_said": "The whole account then: equity {equity}, maintenance margin of all positions {maintenance}.",
    "before_flat": "At the close before: equity of the account {equity}, nothing held.",
    "before_tier": "It was in tier {tier} (maintenance {rate} of notional).",
    "way_margin": "more than {amount} {unit} of margin added",
    "way_leverage": "any leverage below {leverage}x (it was set to {was}x)",
    "way_effective": "effective leverage below {leverage}x (notional over the wallet's money)",
    "way_stop_long": "a stop above {price}, {share} below entry; it would have cost about {loss} {unit} plus fees",
    "way_stop_short": "a stop below {price}, {share} above entry; it would have cost about {loss} {unit} plus fees",
    "way_no_stop": "no stop: the bar opened beyond the liquidation price",
    "short_margin": "{amount} {unit} more margin",
    "short_leverage": "leverage below {leverage}x",
    "short_effective": "effective leverage below {leverage}x",
    "key_total": "what was there",
    "key_gain": "gained",
    "key_loss": "lost or paid",
    "key_diagonal": "liquidated from here on",
    "key_survived": "survived",
    "key_liquidated": "liquidated",
    "axis_distance": "from entry to the liquidation price, % of entry",
    "axis_adverse": "mark against it, % of entry",
    "how_scatter": "Each mark is one position, at the moment when it stood nearest to its liquidation; on the dashed line the two meet. Click a mark to see its hour above.",
    "numbers_title": "The run in numbers",
    "col_number": "number",
    "col_value": "value",
    "col_meaning": "what it is",
    "numbers_first": "Growth, risk and trades",
    "numbers_second": "Exposure, margin and costs",
    "unit_year": " a year",
    "unit_days": " days",
    "unit_hours": " h",
    "prices_merged": "Where bars are many a candle stands for several of them, with their highest and lowest.",
    "assumptions_title": "What was assumed",
    "again_title": "To run it again",
    "again_command": "The exact command:",
    "again_python": "The call in Python, with the data by their hash:",
    "copy_button": "copy",
    "saved": "Liquidated in the bar that closed at {time} UTC. What would have prevented it:",
    "impossible": "impossible: no venue lets an account fall below zero",
    "fact_span": "data",
    "fact_hash": "data hash (SHA-256 of times, open, high, low, close)",
    "fact_funding_hash": "funding hash (SHA-256 of what was settled)",
    "fact_versions": "versions",
    "fact_settings": "settings",
    "span_said": "{first} to {last} UTC, {bars} bars of {length}",
    "files_title": "Data to download",
    "files_drawn": "equity.csv has the {kept} of {count} bars that stand for the lows and highs of {steps} spans of time; bt-margin run --out writes all of them.",
    "files_cut": "Tables are cut after {most} rows.",
    "heading": "{strategy}({params}) on {contracts}, {venue} rules, {first} to {last} UTC",
    "own_rules": "own",
    "hedge": "hedge mode",
    "prices_left_out": "Charts of {shown} of {count} contracts are shown, those with the most fills.",
}

TEXTS = {"en": EN, "zh": EN | ZH}


class Words(dict[str, str]):
    """The texts of one language by key, and what it says for the English names that panels bring."""

    def __init__(self, lang: str = "en") -> None:
        if lang not in TEXTS:
            raise ValueError(f"a report page is written in {' or '.join(TEXTS)}, was {lang!r}")
        super().__init__(TEXTS[lang])
        self.lang = lang

    def say(self, key: str, **values: Any) -> str:
        """Return a text with its values."""
        return self[key].format(**values)

    def told(self, text: str) -> str:
        """Return what this language says for an English text of a panel, the text itself where it has nothing."""
        if self.lang == "en" or text in PHRASES:
            return text if self.lang == "en" else PHRASES[text]
        for pattern, template in PATTERNS:
            if found := fullmatch(pattern, text):
                return template.format(*(self._listed(part) for part in found.groups("")))
        return text

    def _listed(self, text: str) -> str:
        """Return the words of a list, which may contain commas of their own, each in this language."""
        return "\N{FULLWIDTH SEMICOLON}".join(PHRASES.get(part, part) for part in text.split("; "))

    def times(self, count: int) -> str:
        """Return how often."""
        return self.say(f"times_{count}" if count in (1, 2) else "times_n", count=f"{count:,}")


def cell(value: Any, *, is_share: bool = False) -> str:
    """Return a value of a table as text: money and prices to what can be told apart, times to the minute, a dash for none.

    >>> cell(12345.678), cell(0.012345678), cell("2020-03-12T10:00:00Z"), cell(0.1234, is_share=True)
    ('12,345.7', '0.0123457', '2020-03-12 10:00', '12.3 %')
    """
    if value is None or (isinstance(value, float) and not isfinite(value)):
        return "\N{EN DASH}"
    if isinstance(value, str):
        return value[:16].replace("T", " ") if len(value) >= 20 and value[4] == value[7] == "-" and value.endswith("Z") else value
    if is_share:
        return percent(value)
    if isinstance(value, float) and value and abs(value) < 1e15:
        digits = max(0, min(10, 5 - floor(log10(abs(value)))))
        text = f"{value:,.{min(digits, 2) if abs(value) >= 1000 else digits}f}"
        return minus(text.rstrip("0").rstrip(".") if "." in text else text)
    return minus(f"{value:,.0f}" if isinstance(value, float) else f"{value:,}")


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


def change(share: float) -> str:
    """Return a fraction in per cent with its sign.

    >>> change(2.763), change(-0.051)
    ('+276 %', '\u22125.10 %')
    """
    return ("+" if share >= 0 else "") + percent(share)

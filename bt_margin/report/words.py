"""Every sentence of a page in one table by language, and numbers as a reader sees them.

``Words`` looks texts up by key. What a panel brings with it (titles, names of lines, units) is English; another language
has its own words by that text, and shows English where it has none.
"""

from math import floor, isfinite, log10
from re import fullmatch
from typing import Any

from ..laboratory import RANKED, minus, percent
from .zh import FLAGS, PATTERNS, PHRASES, ZH

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
    "sentence_bounds_apart": "Liquidations that are only possible are so because contracts may move apart inside a bar; both of these paths move them together.",
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
    "tile_closest_when": "(on {day})",
    "tile_closest_ranges": "({ranges} ATR, on {day})",
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
    "deaths_paper": "On paper the first 12.",
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
    "mark_given": "mark price: the mark candles given for {symbols}",
    "compare_heading": "{strategy} on {symbols}, {span}: {rules} rules at {leverages} leverages, {paths}",
    "compare_paths": "{paths} bootstrap paths",
    "compare_history": "on the market as it was",
    "compare_data": "{span}, {bars} bars",
    "from_to": "{first} to {last}",
    "trial_name": "{line} at {leverage}x",
    "interval": "{low} to {high}",
    "in_atr": "{atr} ATR",
    "trial_said": "{name}; median wealth {wealth} (5 to 95 %: {low} to {high}); liquidated {dead} ({dead_between}); ruin {ruin} ({ruin_between})",
    "trial_history": "{name}; wealth {wealth}; liquidations {count}; largest drawdown {fall}",
    "cliff_point": "{said}; log growth a year {growth}; mean effective leverage {held}x",
    "verdict_best": "Best within the cap: {name} ends at {wealth} the start on the median path; {dead} of all paths are liquidated.",
    "verdict_none": "Nothing stays within the cap of {cap}: even the best-ranked, {name}, is liquidated on {dead} of the paths (median {wealth}).",
    "verdict_history": "On the market as it was {name} did best: {wealth} the start, {fate}.",
    "fate_dead": "liquidated {times}",
    "fate_alive": "never liquidated",
    "sentence_spread": "Its paths end between {low} and {high} (5 to 95 %); on the market as it was it ended at {history}.",
    "sentence_richest": "Richer on the median, and beyond the cap: {name}, {wealth}, liquidated on {dead} of the paths ({between}).",
    "sentence_richest_too": "The highest median, also within the cap: {name}, {wealth}, liquidated on {dead} of the paths ({between}).",
    "sentence_tried": "{count} combinations were tried on the same paths: the best of so many owes part of its rank to luck.",
    "sentence_tried_history": "{count} combinations were tried on one history: the best of so many owes part of its rank to luck.",
    "split_said": "Chosen on the first period, {name} made {before} there and {after} on the next, where it ranks {rank} of {count}.",
    "split_title": "Chosen on one period, shown on the next",
    "split_caption": "In the order of the first period.",
    "tile_best": "Best-ranked",
    "tile_best_more": "at {leverage}x, first of {count} combinations",
    "tile_wealth": "Median wealth",
    "tile_wealth_more": "5 to 95 %: {low} to {high}",
    "tile_wealth_history": "Its wealth",
    "tile_wealth_once": "multiples of the start",
    "tile_p_liquidation": "Its P(liquidation)",
    "tile_cap": "; cap {cap}",
    "tile_p_ruin": "Its P(ruin)",
    "tile_deaths": "Its liquidations",
    "tile_deaths_more": "whole ones and parts",
    "tile_fall": "Its largest drawdown",
    "tile_fall_more": "inside bars",
    "tile_tried": "Combinations",
    "tile_tried_more": "tried on the same market",
    "tile_admitted": "Within the cap",
    "tile_admitted_value": "{some} of {all}",
    "tile_admitted_more": "combinations, P(liquidation) at most {cap}",
    "tile_paths": "Bootstrap paths",
    "tile_paths_more": "the same for all; blocks of {block} bars, seed {seed}",
    "tile_paths_none": "one history tells no probability",
    "heats_title": "Leverage and rule",
    "heats_note": "Each cell is one rule (down) at one leverage (across). Framed: the best-ranked. ✖: liquidated on more than {cap} of the paths. Point at a cell for its intervals.",
    "heats_note_history": "Each cell is one rule (down) at one leverage (across), on the market as it was. Framed: the best-ranked. ✖: liquidated.",
    "heat_caption": "down: rule; across: leverage",
    "heat_caption_share": "% of the paths; down: rule; across: leverage",
    "heat_caption_percent": "%; down: rule; across: leverage",
    "pareto_lower": " Marks at the lower edge have next to nothing left.",
    "ranking_paper": "On paper the first 40 and the main figures.",
    "col_rule": "rule",
    "fans_toolbar": "Leverage shown",
    "fans_note": "One scale by logarithms for all, dotted where the account began. What runs out below is ruined.",
    "fans_left_out": "{count} combinations of lower rank are not drawn.",
    "fan_days": "{days} days",
    "fan_said": "median {wealth}; liquidated {dead}, ruin {ruin}",
    "fan_said_history": "{wealth}; liquidations {count}",
    "key_median": "median",
    "key_half": "25 to 75 % of the paths",
    "key_most": "5 to 95 %",
    "key_history": "on the market as it was",
    "key_kelly": "Kelly parabola of the market",
    "key_caught": "beyond the cap of {cap}",
    "key_under": "lower than this chart reaches",
    "key_admitted": "within the cap of {cap}",
    "key_caught_history": "liquidated",
    "key_admitted_history": "never liquidated",
    "key_frontier": "frontier: none has more at less risk",
    "key_cap": "cap {cap}",
    "axis_leverage": "leverage set",
    "axis_mean_leverage": "mean effective leverage (notional / equity)",
    "axis_growth": "median log growth a year",
    "axis_wealth": "median final wealth, multiples of the start",
    "axis_p_liquidation": "probability of at least one liquidation",
    "axis_max_drawdown": "largest drawdown, inside bars",
    "view_set": "by leverage set",
    "view_held": "by effective leverage",
    "cliff_note": "The parabola l·μ \u2212 l²·\u03c3²/2 is what holding l times equity of {symbol} at all times grows by, without costs or liquidation (μ {mu}, \u03c3 {sigma} a year; highest at l = {best}). It is of effective leverage; a rule that trades less than its leverage allows lies elsewhere.",
    "cliff_unknown": "Drift and volatility of {symbol} are not known, so there is no parabola.",
    "pareto_note": "Up is richer, left is safer. Bars are 95 % Wilson intervals. Point at a mark for its name.",
    "pareto_note_history": "Up is richer, left is calmer. Point at a mark for its name.",
    "ranking_title": "All combinations, ranked ({count})",
    "ranking_note": "By median log wealth among those that are liquidated on at most {cap} of the paths; then the others (✖). Small: 5 to 95 % of wealth, 95 % Wilson intervals of probabilities. Click a head to sort.",
    "ranking_note_history": "By wealth on the market as it was. Click a head to sort.",
    "ranking_caption": "{count} combinations were tried, seed {seed}.",
    "ranking_cut": "The first {shown} of {count} are shown; all are in comparison.csv.",
    "rank_rank": "rank",
    "rank_rank_meaning": "by median log wealth within the cap, then the others",
    "rank_name": "rule and leverage",
    "rank_name_meaning": "rule, what else varies, and the leverage set",
    "rank_course": "median course",
    "rank_course_meaning": "the median's course, one scale for all",
    "rank_p_deep_drawdown": "P(DD > 50 %)",
    "rank_p_deep_drawdown_meaning": "probability of a drawdown above one half",
    "rank_course_history": "course",
    "rank_sharpe": "Sharpe",
    "rank_sharpe_meaning": "Sharpe ratio of daily returns, median over the paths",
    "rank_calmar": "Calmar",
    "rank_calmar_meaning": "annual return over the largest drawdown, median over the paths",
    "rank_mean_leverage": "leverage held",
    "rank_mean_leverage_meaning": "mean effective leverage: notional / equity",
    "rank_closest_call": "closest call",
    "rank_closest_call_meaning": "least distance to a liquidation price, share of the mark",
    "rank_turnover": "turnover",
    "rank_turnover_meaning": "notional of fills over equity, a year",
    "rank_fees": "fees",
    "rank_fees_meaning": "share of gross profit and loss",
    "rank_wealth_train": "wealth, chosen on",
    "rank_wealth_train_meaning": "median final wealth on the first period",
    "rank_wealth_test": "wealth, shown on",
    "rank_wealth_test_meaning": "median final wealth on the next period",
    "rank_p_train": "P(liq.), chosen on",
    "rank_p_train_meaning": "probability of liquidation on the first period",
    "rank_p_test": "P(liq.), shown on",
    "rank_p_test_meaning": "probability of liquidation on the next period",
    "rank_rank_test": "rank, shown on",
    "rank_rank_test_meaning": "rank on the next period",
    "errors_title": "Runs that failed ({count})",
    "assume_wilson": "probabilities are shares of the paths with Wilson intervals of {confidence}",
    "fact_combinations": "combinations tried",
    "fact_seed": "seed",
    "fact_paths": "paths",
    "paths_said": "{paths}, blocks of {block} bars on average",
}

for _key, _column in RANKED.items():
    EN |= {f"rank_{_key}": _column.name, f"rank_{_key}_meaning": _column.meaning}
    EN |= {f"rank_{_key}{_of}_history": _text for _of, _text in zip(("", "_meaning"), _column.history, strict=True) if _text}

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

    def flag(self, text: str) -> str:
        """Return what this language says for a stated policy of a run or a comparison, the text itself where it has nothing."""
        for pattern, template in FLAGS if self.lang == "zh" else ():
            if found := fullmatch(pattern, text):
                return template.format(*found.groups(""))
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


def change(share: float) -> str:
    """Return a fraction in per cent with its sign.

    >>> change(2.763), change(-0.051)
    ('+276 %', '\u22125.10 %')
    """
    return ("+" if share >= 0 else "") + percent(share)

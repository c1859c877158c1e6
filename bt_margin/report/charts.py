"""The charts of a comparison: growth by leverage beside the Kelly parabola, and wealth against liquidation."""

from math import isfinite, log10
from typing import Any

from ..laboratory import TIMES, Laboratory, Trial, cliff_panel, log_ticks, minus, pareto_panel, percent, told_apart, wealth_limits
from ..plots.drawing import cut
from .drawn import key_for, trial_said
from .pictures import Look, Mark, line_swatch, mark_swatch, plotly_text, told
from .words import Words

COLOURS = ("blue", "orange", "green", "purple", "grey")
DASHES = ("solid", "dash", "dot")
HEIGHTS = {"cliff": 420, "pareto": 420}
CAUGHT = Mark("x", "red", 9)
SAFE = Mark("circle", "blue", 8)
BEST = Mark("diamond", "green", 11)
UNDER = Mark("triangle-down", "grey", 9)
MOST_LETTERS = 36  # of a rule beside its mark, half a chart
EDGE = 0.015  # of a chart's height: marks of what lies lower stand so much above its edge
RIM = {"color": "$card", "width": 1}  # of a mark

Figure = tuple[dict[str, Any], dict[str, Any]]  # for the script and for the template


class Charts:
    """Draws the charts of a comparison in a language; ``cap`` is the cap in words."""

    def __init__(self, laboratory: Laboratory, words: Words, cap: str) -> None:
        self.laboratory, self.words, self.cap = laboratory, words, cap

    def key(self, key: str) -> str:
        """Return the key of a text, of a comparison without paths that of its own."""
        return key_for(key, self.laboratory, self.words)

    def cliff(self) -> Figure:
        """Return growth by leverage beside the parabola; two views, by the leverage set and by what accounts effectively had."""
        import numpy as np

        words, laboratory = self.words, self.laboratory
        low, high = laboratory.growth_limits()
        levers = laboratory.leverages
        held = [lever for line in laboratory.growths() for lever in line.mean_leverages if lever > 0]
        smallest, largest = min([*levers, *held]), max([*levers, *held])
        smooth = np.geomspace(smallest / 1.2, largest * 1.2, 160)
        curve = np.array([laboratory.kelly(lever) for lever in smooth])
        seen = curve >= low
        parabola = {"type": "scatter", "mode": "lines", "x": smooth[seen].tolist(), "y": curve[seen].tolist(), "hoverinfo": "skip",
                    "line": {"color": "$ink", "width": 2.2, "dash": "dash"}}  # fmt: skip
        traces, by_set = [parabola], [smooth[seen].tolist()]
        by_held: list[list[float | None]] = [smooth[seen].tolist()]
        legend = [{"look": line_swatch(Look("ink", 2.0, "dash")), "label": words["key_kelly"]}] if seen.any() else []
        for place, line in enumerate(laboratory.growths()):
            colour, dash = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]
            traces.append(self._cliff_trace(line, colour, dash, low))
            by_set.append(line.leverages)
            by_held.append([held or None for held in line.mean_leverages])  # no place on a scale by logarithms
            legend.append({"look": line_swatch(Look(colour, 1.8, dash)), "label": line.line})
        legend.append({"look": mark_swatch(CAUGHT._replace(color="grey")), "label": words.say(self.key("key_caught"), cap=self.cap)})
        if any(growth < low for line in laboratory.growths() for growth in line.growths):
            legend.append({"look": mark_swatch(UNDER), "label": words["key_under"]})
        views = [
            {"name": words["view_set"], "x": by_set, "axis": _lever_axis(levers, words["axis_leverage"], exact=True)},
            {"name": words["view_held"], "x": by_held, "axis": _lever_axis(held or levers, words["axis_mean_leverage"], exact=False)},
        ]
        layout = {
            "xaxis": views[0]["axis"],
            "yaxis": {"range": [low, high], "title": {"text": plotly_text(words["axis_growth"])}, "tickformat": ".3~f", "zeroline": True},
            "hovermode": "closest",
            "margin": {"l": 68, "r": 16, "t": 8, "b": 48},
        }
        panel = cliff_panel(laboratory)
        kelly = laboratory.kelly_leverage
        said = words.say("cliff_unknown", symbol=laboratory.market["symbol"])
        if isfinite(kelly):
            mu, sigma = (percent(laboratory.market[name]) for name in ("mu", "sigma"))
            said = words.say("cliff_note", mu=mu, sigma=sigma, symbol=laboratory.market["symbol"], best=minus(f"{kelly:.2g}"))
        drawn = {"key": "cliff", "data": traces, "layout": layout, "views": views, "narrow": {"l": 54, "r": 8, "t": 8, "b": 46}}
        return self._figure(drawn, panel, said, legend, [str(view["name"]) for view in views])

    def _cliff_trace(self, line: Any, colour: str, dash: str, low: float) -> dict[str, Any]:
        words, high = self.words, self.laboratory.growth_limits()[1]
        floor = low + EDGE * (high - low)
        trials = {trial.id: trial for trial in self.laboratory.trials}
        symbols: list[Any] = [
            UNDER.symbol if growth < low else SAFE.symbol if is_safe else CAUGHT.symbol
            for growth, is_safe in zip(line.growths, line.is_safe, strict=True)
        ]
        texts = [
            plotly_text(words.say("cliff_point", said=trial_said(trials[number], words), growth=minus(f"{growth:.3g}"), held=f"{held:.2g}"))
            for number, growth, held in zip(line.ids, line.growths, line.mean_leverages, strict=True)
        ]
        return {
            "type": "scatter", "mode": "lines+markers", "x": line.leverages, "y": [max(growth, floor) for growth in line.growths],
            "text": [_broken(text) for text in texts], "hovertemplate": "%{text}<extra></extra>",
            "line": {"color": f"${colour}", "width": 1.6, "dash": dash},
            "marker": {"color": f"${colour}", "symbol": symbols, "size": 8, "line": RIM},
            "cliponaxis": False,
        }  # fmt: skip

    def pareto(self) -> Figure:
        words, laboratory, risk = self.words, self.laboratory, self.laboratory.risk
        known = [trial for trial in laboratory.trials if isfinite(trial.figure(risk)) and trial.figure("wealth_50") > 0]
        frontier = [trial for trial in laboratory.frontier() if trial.figure("wealth_50") > 0]
        on = {trial.id for trial in frontier}
        low, high = wealth_limits(trial.figure("wealth_50") for trial in known)
        high *= (high / low) ** 0.08  # room for the name of the highest
        groups = (
            (SAFE, "key_admitted", [trial for trial in known if trial.id not in on and not laboratory.is_caught(trial)]),
            (CAUGHT, "key_caught", [trial for trial in known if trial.id not in on and laboratory.is_caught(trial)]),
            (BEST, "key_frontier", frontier),
        )
        traces: list[dict[str, Any]] = []
        legend = []
        for mark, name, trials in groups:
            if trials:
                traces.append(self._pareto_trace(mark, trials, low, high, is_frontier=name == "key_frontier"))
                legend.append({"look": mark_swatch(mark), "label": f"{words.say(self.key(name), cap=self.cap)} ({len(trials):,})"})
        across = {"tickformat": ",.3~%", "range": [-0.03, 1.04], "title": {"text": plotly_text(words[f"axis_{risk}"])}, "zeroline": False}
        up = {
            "type": "log", "range": [log10(low), log10(high)], "title": {"text": plotly_text(words["axis_wealth"])},
            **_ticks(log_ticks(low, high, 9), TIMES),
        }  # fmt: skip
        lines = [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": {"color": "$muted", "width": 1, "dash": "dot"}}
        ]
        if laboratory.has_paths and isfinite(laboratory.cap):
            at_cap = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": laboratory.cap, "x1": laboratory.cap}
            lines.append({**at_cap, "line": {"color": "$red", "width": 1.2, "dash": "dash"}})
            legend.append({"look": line_swatch(Look("red", 1.4, "dash")), "label": words.say("key_cap", cap=self.cap)})
        layout = {"xaxis": across, "yaxis": up, "shapes": lines, "hovermode": "closest", "margin": {"l": 62, "r": 16, "t": 8, "b": 48}}
        note = words[self.key("pareto_note")]
        note += words["pareto_lower"] if any(trial.figure("wealth_50") < low for trial in known) else ""
        drawn = {"key": "pareto", "data": traces, "layout": layout, "narrow": {"l": 52, "r": 8, "t": 8, "b": 46}}
        return self._figure(drawn, pareto_panel(laboratory), note, legend, [])

    def _pareto_trace(self, mark: Mark, trials: list[Trial], low: float, high: float, *, is_frontier: bool) -> dict[str, Any]:
        words, risk = self.words, self.laboratory.risk
        shares = [trial.figure(risk) for trial in trials]
        names = self.laboratory.named_frontier(low, high) if is_frontier else set()
        trace: dict[str, Any] = {
            "type": "scatter", "mode": "lines+markers+text" if is_frontier else "markers", "x": shares,
            "y": [max(trial.figure("wealth_50"), low) for trial in trials], "cliponaxis": False,
            "hovertext": [_broken(plotly_text(trial_said(trial, words))) for trial in trials],
            "hovertemplate": "%{hovertext}<extra></extra>",
            "marker": {"symbol": mark.symbol, "size": mark.size, "color": f"${mark.color}", "opacity": 0.85, "line": RIM},
        }  # fmt: skip
        if is_frontier:
            trace |= {
                "line": {"color": "$green", "width": 1.4, "shape": "hv"},
                "text": [
                    plotly_text(f"{cut(trial.line, MOST_LETTERS)} {trial.leverage:g}x") if trial.id in names else "" for trial in trials
                ],
                "textposition": ["top left" if share > 0.5 else "top right" for share in shares],
                "textfont": {"color": "$ink"},
            }
        if self.laboratory.has_paths:
            low_edges, high_edges = ([trial.figure(f"p_liquidation_{edge}") for trial in trials] for edge in ("low", "high"))
            trace["error_x"] = {
                "type": "data", "symmetric": False, "thickness": 0.8, "width": 0, "color": f"${mark.color}-soft",
                "array": [max(edge - share, 0.0) for edge, share in zip(high_edges, shares, strict=True)],
                "arrayminus": [max(share - edge, 0.0) for edge, share in zip(low_edges, shares, strict=True)],
            }  # fmt: skip
        return trace

    def _figure(self, drawn: dict[str, Any], panel: Any, note: str, legend: list[Any], views: list[str]) -> Figure:
        words, title = self.words, self.words.told(panel.title)
        said = {
            "key": panel.key, "title": title, "unit": "", "unit_said": "", "height": HEIGHTS[panel.key], "note": note, "legend": legend,
            "tables": [told(table, words) for table in panel.tables], "said": f"{title}. {note}", "views": views,
        }  # fmt: skip
        return {**drawn, "height": HEIGHTS[panel.key], "zooms": False}, said


def _lever_axis(levers: list[float], title: str, *, exact: bool) -> dict[str, Any]:
    low, high = min(levers), max(levers)
    ticks = told_apart(levers, 1 / 12) if exact else log_ticks(low / 1.15, high * 1.15, 8)
    limits = [log10(low / 1.15), log10(high * 1.15)]
    return {"type": "log", "tickangle": 0, "range": limits, "title": {"text": plotly_text(title)}, **_ticks(ticks, "x")}


def _ticks(values: list[float], suffix: str) -> dict[str, Any]:
    return {"tickvals": values, "ticktext": [f"{value:g}{suffix}" for value in values]}


def _broken(text: str) -> str:
    """Return a line for a box that is pointed at, broken where its halves begin."""
    return text.replace("; ", "<br>").replace("\N{FULLWIDTH SEMICOLON}", "<br>")

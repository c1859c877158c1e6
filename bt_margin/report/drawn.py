"""Small drawings that stand in a page as they are: equity fans and sparks as SVG in the theme's colours, cells of heat maps."""

from math import isfinite, log
from typing import TYPE_CHECKING, Any

from ..laboratory import TIMES, Heat, Laboratory, Trial, log_ticks, multiple, percent, probability, strength
from .words import Words

if TYPE_CHECKING:
    import numpy as np
    from markupsafe import Markup

FAN = (280, 168)  # units of a fan's drawing, about pixels
FAN_ROOM = (42, 8, 6, 20)  # left, right, top, bottom
FAN_POINTS = 120
SPARK = (96, 22)
SPARK_POINTS = 40
STRONGEST = 88  # per cent of a colour in the cell of a heat map
TURNS = {"death": (74, 74)}  # per cent from which on a number is better told in the ground's colour, a dark one's and a light one's
OTHERS_TURN = (66, 86)  # of other looks
PALE = ".65"  # how opaque the band of 5 to 95 % is


def between(trial: Trial, key: str, words: Words) -> str:
    """Return the interval of a probability in words, '' where it has none."""
    low, high = trial.figure(f"{key}_low"), trial.figure(f"{key}_high")
    return words.say("interval", low=probability(low), high=probability(high)) if isfinite(low) and isfinite(high) else ""


def key_for(key: str, laboratory: Laboratory, words: Words) -> str:
    """Return the key of a text, of a comparison without paths that of its own where there is one."""
    own = f"{key}_history"
    return key if laboratory.has_paths or own not in words else own


# -- heat maps -------------------------------------------------------------------------------------------------------


def heat_cells(laboratory: Laboratory, heat: Heat, words: Words) -> list[dict[str, Any]]:
    """Return the rows of a heat map: each cell with its number, its colour and what it says when pointed at."""
    most = heat.most
    rows = []
    for line, values in zip(laboratory.lines, heat.values.tolist(), strict=True):
        cells = []
        for leverage, value in zip(laboratory.leverages, values, strict=True):
            trial = laboratory.by_cell.get((line, leverage))
            look, share = heat_look(heat.key, value, most)
            is_marked = heat.key == "wealth_50" and trial is not None and laboratory.is_caught(trial)
            classes = " ".join([look, *heat_states(look, share), *(["best"] if trial is laboratory.best else [])])
            said = "" if trial is None else trial_said(trial, words)
            cells.append({"text": heat.said(value), "is_marked": is_marked, "look": classes, "share": share, "said": said})
        rows.append({"name": line, "cells": cells})
    return rows


def heat_look(key: str, value: float, most: float) -> tuple[str, int]:
    """Return the colour of a cell and how much of it, in per cent."""
    if not isfinite(value):
        return "none", 0
    share = strength(key, value, most)
    look = ("gain" if share > 0 else "loss") if key == "wealth_50" else "ruin" if key == "p_ruin" else "death"
    return look, round(STRONGEST * abs(share))


def heat_states(look: str, share: int) -> list[str]:
    """Return whether a cell is 'warm' and 'hot': its number is then better told in the ground's colour, on a dark ground, on any."""
    return [name for name, least in zip(("warm", "hot"), TURNS.get(look, OTHERS_TURN), strict=True) if share >= least]


def trial_said(trial: Trial, words: Words) -> str:
    """Return a combination in one line: wealth with its spread, liquidation and ruin with their intervals."""
    told = {"name": named(trial, words), "wealth": multiple(trial.figure("wealth_50"))}
    if not isfinite(trial.figure("p_liquidation")):
        return words.say("trial_history", **told, count=f"{trial.figure('liquidations'):g}", fall=percent(trial.figure("max_drawdown")))
    return words.say(
        "trial_said", **told, low=multiple(trial.figure("wealth_5")), high=multiple(trial.figure("wealth_95")),
        dead=probability(trial.figure("p_liquidation")), dead_between=between(trial, "p_liquidation", words),
        ruin=probability(trial.figure("p_ruin")), ruin_between=between(trial, "p_ruin", words),
    )  # fmt: skip


def named(trial: Trial, words: Words) -> str:
    """Return a combination's name in the page's language."""
    return words.say("trial_name", line=trial.line, leverage=f"{trial.leverage:g}")


# -- fans ------------------------------------------------------------------------------------------------------------


def fan_drawing(laboratory: Laboratory, trial: Trial, limits: tuple[float, float], words: Words) -> "Markup":
    """Return a fan as SVG: the bands of 5 to 95 and 25 to 75 %, the median, the market as it was, all on one scale by logarithms."""
    days, fan, history = laboratory.fan(trial.id, FAN_POINTS)
    (width, height), (left, right, top, bottom) = FAN, FAN_ROOM
    low, high = limits
    span = float(laboratory.days[-1]) or 1.0

    def across(values: "np.ndarray") -> "np.ndarray":
        return left + values / span * (width - left - right)

    def up(values: "np.ndarray") -> "np.ndarray":
        import numpy as np

        share = np.log(np.maximum(values, low) / low) / log(high / low)
        return top + (1 - np.minimum(share, 1.0)) * (height - top - bottom)

    x = across(days)
    parts = _fan_axes(span, limits, words)
    if laboratory.has_paths:
        parts += [_band(x, up(fan[0]), up(fan[4]), PALE), _band(x, up(fan[1]), up(fan[3]), "1")]
    if history is not None and laboratory.has_paths:
        parts.append(f'<path d="{_line(x, up(history))}" stroke="var(--orange)" stroke-width="1.1" stroke-dasharray="4 2"/>')
    parts.append(f'<path d="{_line(x, up(fan[2]))}" stroke="var(--blue)" stroke-width="1.8"/>')
    said = trial_said(trial, words)
    return _svg("".join(parts), FAN, said)


def _fan_axes(span: float, limits: tuple[float, float], words: Words) -> list[str]:
    (width, height), (left, right, top, bottom) = FAN, FAN_ROOM
    low, high = limits
    parts = []
    for tick in log_ticks(low, high, 5):
        y = top + (1 - log(tick / low) / log(high / low)) * (height - top - bottom)
        look = 'stroke="var(--muted)" stroke-dasharray="2 2"' if tick == 1 else 'stroke="var(--grid)"'
        parts.append(f'<path d="M{left} {y:.1f}H{width - right}" {look}/>')
        parts.append(f'<text x="{left - 4}" y="{y + 3.5:.1f}" text-anchor="end">{tick:g}{TIMES}</text>')
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        said = words.say("fan_days", days=f"{share * span:,.0f}") if share else "0"
        parts.append(f'<text x="{left + share * (width - left - right):.0f}" y="{height - 5}" text-anchor="{anchor}">{said}</text>')
    return parts


def _band(x: "np.ndarray", low: "np.ndarray", high: "np.ndarray", strength: str) -> str:
    there, back = _line(x, high), _line(x[::-1], low[::-1])
    return f'<path d="{there}L{back[1:]}Z" fill="var(--blue-soft)" fill-opacity="{strength}" stroke="none"/>'


def _line(x: "np.ndarray", y: "np.ndarray") -> str:
    return "M" + "L".join(f"{across:.1f} {up:.1f}" for across, up in zip(x.tolist(), y.tolist(), strict=True))


def spark(laboratory: Laboratory, trial: Trial, limits: tuple[float, float]) -> "Markup":
    """Return the median's course as a line of its own height, by logarithms, all on one scale."""
    import numpy as np

    if trial.id not in laboratory.comparison.fans:
        return _svg("", SPARK, "", "spark-line")
    days, fan, _ = laboratory.fan(trial.id, SPARK_POINTS)
    low, high = limits
    share = np.clip(np.log(np.maximum(fan[2], low) / low) / log(high / low), 0, 1)
    x = 1 + days / (float(laboratory.days[-1]) or 1.0) * (SPARK[0] - 2)
    middle = 1 + (1 - log(1 / low) / log(high / low)) * (SPARK[1] - 2)
    base = f'<path d="M0 {middle:.1f}H{SPARK[0]}" stroke="var(--line)" stroke-dasharray="2 2"/>'
    line = f'<path d="{_line(x, 1 + (1 - share) * (SPARK[1] - 2))}" stroke="var(--blue)" stroke-width="1.4"/>'
    return _svg(base + line, SPARK, "", "spark-line")


def _svg(inside: str, size: tuple[int, int], said: str, look: str = "fan-drawing") -> "Markup":
    from markupsafe import Markup, escape

    label = Markup(' role="img" aria-label="{}"').format(said) if said else Markup(' aria-hidden="true"')
    return Markup('<svg class="{}" viewBox="0 0 {} {}" fill="none"{}>{}</svg>').format(escape(look), *size, label, Markup(inside))

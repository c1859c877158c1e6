"""The numbers of a page: lines and candles thinned so that no extreme is lost, whole around each liquidation.

A page holds a few thousand points of each line, of longer runs the lowest, the highest and the last of each bucket; its
script thins them once more to what the screen can show. Around each liquidation every bar is kept, to be looked at.
"""

from typing import TYPE_CHECKING, Any

from ..panels import Line, Marks, gap_rows, seconds_of, thinned
from .frame import Numbers

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

BUCKETS = 2_500  # of a line over the whole run
CANDLES = 8_000  # over the whole run; more are merged
WHOLE = 9_000  # bars: shorter runs are kept whole
NEAR = (40, 24)  # bars kept whole before and after a liquidation
MOST_NEAR = 8_000  # bars kept whole in all


class Store:
    """Puts the series of a run into a page's Numbers; ``deaths`` are the times around which every bar is kept."""

    def __init__(self, numbers: Numbers, times: "np.ndarray", deaths: "np.ndarray") -> None:
        import numpy as np

        self.numbers, self.count = numbers, len(times)
        rows = np.unique(np.searchsorted(times, deaths)) if len(deaths) else np.array([], dtype=int)
        share = min(1.0, MOST_NEAR / (sum(NEAR) * max(len(rows), 1)))
        before, after = (max(int(reach * share), 1) for reach in NEAR)
        self.near = [(times[max(row - before, 0)], times[min(row + after, len(times) - 1)]) for row in rows]
        self.is_thinned = len(times) > WHOLE

    def _is_near(self, times: "np.ndarray") -> "np.ndarray":
        import numpy as np

        chosen = np.zeros(len(times), dtype=bool)
        for first, last in self.near:
            chosen[np.searchsorted(times, first) : np.searchsorted(times, last, side="right")] = True
        return chosen

    def line(self, line: Line) -> dict[str, Any]:
        """Return a line's arrays by name; of a line of steps only the steps are kept."""
        import numpy as np

        times, values = line.times, line.values
        rows = np.arange(len(times))
        if line.is_step and line.low is None:
            rows = _steps(values)
        if self.is_thinned and len(rows) > WHOLE:
            cut = values[rows]
            low, high = (cut if edge is None else edge[rows] for edge in (line.low, line.high))
            always = np.concatenate([np.flatnonzero(self._is_near(times[rows])), gap_rows(cut)])
            rows = rows[thinned([(low, high)], BUCKETS, always=always)]
        add = self.numbers.add
        edges = {name: None if edge is None else add(edge[rows], "f") for name, edge in (("low", line.low), ("high", line.high))}
        if edges["low"] is not None and edges["high"] is None:
            edges["high"] = add(values[rows], "f")
        return {"t": add(times[rows], "u"), "v": add(values[rows], "f"), **edges, "step": line.is_step}

    def candles(self, frame: "pd.DataFrame") -> dict[str, str]:
        """Return a contract's candles by name; where they are many, of several bars each, single ones near a liquidation."""
        import numpy as np

        times = seconds_of(frame.index)
        count = len(times)
        first = np.ones(count, dtype=bool)
        if count > CANDLES:
            each = -(-count // CANDLES)
            near = self._is_near(times)
            first = (np.arange(count) % each == 0) | near
            first[1:] |= near[:-1]
        begin = np.flatnonzero(first)
        end = np.append(begin[1:], count) - 1
        prices = {name: frame[name].to_numpy(dtype=float) for name in ("open", "high", "low", "close")}
        cut = {
            "o": prices["open"][begin],
            "h": np.maximum.reduceat(prices["high"], begin) if count else prices["high"],
            "l": np.minimum.reduceat(prices["low"], begin) if count else prices["low"],
            "c": prices["close"][end],
        }
        return {"t": self.numbers.add(times[end], "u"), **{name: self.numbers.add(values, "f") for name, values in cut.items()}}

    def marks(self, marks: Marks) -> dict[str, Any]:
        """Return the arrays of marks by name, and their texts where they are few enough to be read one by one."""
        texts = list(marks.texts) if len(marks.texts) <= CANDLES else None
        return {"t": self.numbers.add(marks.times, "u"), "v": self.numbers.add(marks.values, "f"), "texts": texts}


def _steps(values: "np.ndarray") -> "np.ndarray":
    """Return the rows at which a line of steps changes, and the last one."""
    import numpy as np

    if not len(values):
        return np.array([], dtype=int)
    before, after = values[:-1], values[1:]
    changes = (before != after) & ~(np.isnan(before) & np.isnan(after))
    return np.unique(np.concatenate([[0], np.flatnonzero(changes) + 1, [len(values) - 1]]))

"""Report: one self-contained HTML page of a run or of a comparison, to look at in any browser without a network.

``Report(result).save('run.html')`` writes it, ``Report(comparison).save('compare.html')`` that of many runs;
``cerebro.plot(Report('run.html'))`` does so as Backtrader's plotter. It is made
with jinja2 and plotly, the extra ``report``; ``bt_margin.plots`` draws the same as still pictures without them.
"""

from datetime import date
from pathlib import Path
from typing import Any

from ..laboratory import is_comparison
from ..plots.pages import checked
from ..result import Result
from .comparison import comparison_page
from .frame import MissingExtraError, check_extra
from .page import run_page
from .words import Words

__all__ = ["MissingExtraError", "Report", "Words"]


class Report:
    """The report page of a run, or of a comparison of many.

    ``source`` is a Result, what ``bt_margin.compare`` returns, or the path of the page where Backtrader hands the strategy over.
    ``title`` replaces the verdict,
    ``note`` goes before the assumptions, ``command`` is shown as the way to run it again (default: the call in Python), ``lang``
    is the language of the page.

    The same source gives the same bytes.
    """

    def __init__(self, source: Any, *, title: str = "", note: str = "", command: str = "", lang: str = "en") -> None:
        self._path = Path(source) if isinstance(source, str | Path) else None
        self._comparison = source if is_comparison(source) else None
        self._result: Result | None = checked(source, "Report()") if self._path is None and self._comparison is None else None
        self._title, self._note, self._command, self._words = title, note, command, Words(lang)
        self._written: list[Path] = []
        self._is_shown = False

    def html(self, *, start: Any = None, end: Any = None) -> str:
        """Return the page. ``start`` and ``end`` are the first and last instant (or number of the bar) that it shows at first."""
        if self._comparison is not None:
            return self._compared(start, end)
        if self._result is None:
            raise ValueError("this Report has the path of its page and no Result yet; give it to cerebro.plot(), or use Report(result)")
        return self._page(self._result, start, end)

    def save(self, path: str | Path, *, start: Any = None, end: Any = None) -> Path:
        """Write the page and return its path; ``start`` and ``end`` as in ``html``."""
        return _write(Path(path), self.html(start=start, end=end))

    def plot(
        self, strategy: Any, figid: int = 0, numfigs: int = 1, iplot: bool = True, start: Any = None, end: Any = None, **host: Any
    ) -> list[Path]:
        """Write the page of a strategy that Backtrader hands over, and return its path in a list.

        ``start`` and ``end`` (dates, or numbers of bars) are what it shows at first; one page has all of a run, so what else the
        host says of figures and windows does not apply. Strategies of one Cerebro share an account and so its page; of several
        runs, as of an optimisation, each has a page of its own: run.html, run-2.html, ...
        """
        if self._path is None:
            raise ValueError(
                "cerebro.plot() writes to a path: cerebro.plot(Report('run.html')); Report(result).save('run.html') needs no cerebro"
            )
        if self._written and not self._is_shown:
            return self._written[-1:]
        if not hasattr(strategy, "broker"):
            raise ValueError(
                "a report is of a whole strategy and this optimisation kept its analyzers only; use optreturn=False, maxcpus=1"
            )
        number = len(self._written) + 1
        path = self._path if number == 1 else self._path.with_name(f"{self._path.stem}-{number}{self._path.suffix}")
        self._written.append(_write(path, self._page(Result.of(strategy), start, end)))
        self._is_shown = False
        return self._written[-1:]

    def show(self) -> None:
        """Take note that Backtrader has handed over all strategies of one run; no window is opened."""
        self._is_shown = True

    def _compared(self, start: Any, end: Any) -> str:
        if start is not None or end is not None:
            raise ValueError("start and end are of a run's page; a comparison is shown whole")
        check_extra()
        return comparison_page(self._comparison, words=self._words, title=self._title, note=self._note, command=self._command)

    def _page(self, result: Result, start: Any, end: Any) -> str:
        check_extra()
        span = _span(result, start, end)
        return run_page(result, words=self._words, title=self._title, note=self._note, command=self._command, span=span)


def _span(result: Result, start: Any, end: Any) -> tuple[float, float] | None:
    """Return the instants (seconds UTC) between which a page shows its charts at first, None for everything."""
    import pandas as pd

    if start is None and end is None:
        return None
    index = result.equity.index

    def instant(edge: Any, default: int) -> "pd.Timestamp":
        if edge is None or isinstance(edge, int):
            row = default if edge is None else edge
            if not -len(index) <= row < len(index):
                raise ValueError(f"start and end are numbers of bars or dates, was {edge}; the run has {len(index)} bars")
            return index[row]
        if not isinstance(edge, str | date):
            raise ValueError(f"start and end are numbers of bars or dates, was {edge!r}")
        time = pd.Timestamp(edge)
        return time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")

    first, last = instant(start, 0), instant(end, -1)
    if not index[0] <= last or not first <= index[-1] or not first < last:
        raise ValueError(
            f"no bar lies from start={start} to end={end}; the run has {index[0]:%Y-%m-%d %H:%M} to {index[-1]:%Y-%m-%d %H:%M} UTC"
        )
    return max(first, index[0]).timestamp(), min(last, index[-1]).timestamp()


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8", newline="\n")
    return path

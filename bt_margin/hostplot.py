"""plot(): Backtrader's own chart as matplotlib Figures, on any machine, with nothing else changed.

The host draws with pyplot: it picks a window system for the whole process on import, numbers its figures from 0 at each
call and so draws over the last ones, keeps the options of one call for the next, and hides its date labels. Here its
plotter draws on figures that pyplot does not know, with fresh options, on a time axis of our own.
"""

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from functools import cache
from importlib import import_module
from io import BytesIO
from math import ceil
from typing import TYPE_CHECKING, Any

import backtrader as bt

from .comminfo import utc
from .plots.drawing import legible, lettering
from .slots import seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MINUTE, HOUR, DAY = 60, 3_600, 86_400
STEPS = (
    *(1, 2, 5, 10, 15, 30),
    *(count * MINUTE for count in (1, 2, 5, 10, 15, 30)),
    *(count * HOUR for count in (1, 2, 3, 6, 12)),
    *(count * DAY for count in (1, 2, 7, 14)),
)  # seconds
MONTHS = (1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1_200)
MONDAY = 4 * DAY  # 1970-01-05
BELOW, BESIDE, APART = 0.75, 0.85, 1.2  # inches: for dates below the axes, for values on their right, from date to date


def plot(cerebro: bt.Cerebro, *, width: float = 16, height: float = 9, dpi: float = 100, **options: Any) -> "list[list[Figure]]":
    """Draw what ``cerebro.plot()`` draws and return the figures: a list for each strategy, in it one for each of ``numfigs``.

    ``width`` and ``height`` are inches. ``options`` are the host's: ``numfigs``, ``start``, ``end`` and everything in its
    PlotScheme (``style='candle'``, ``volume=False``, ...). Nothing is shown and no window is opened: save a figure with
    ``figure.savefig("run.png")``. Times are those of the bars, UTC. pyplot is imported, for the host asks for it, but its
    back end, its open figures and all other settings stay as they are.

    ValueError where there is nothing to draw (no run yet, ``exactbars`` above 0, no bars, an optimisation that kept no
    strategies) and for an option that the host does not have.
    """
    strategies = _drawable(cerebro)
    host = _host()
    call: dict[str, Any] = {name: options.pop(name) for name in ("numfigs", "start", "end") if name in options}
    scheme = host.PlotScheme()
    _check_options(options, {*vars(scheme), "locbg", "locbgother"})
    for strategy in strategies:
        _check_range(strategy, **call)
    return _drawn(cerebro, _Stage((width, height), dpi), scheme, options, call)


def show(
    cerebro: bt.Cerebro, size: tuple[float, float], dpi: float, iplot: bool, use: str | None, options: dict[str, Any], **call: Any
) -> "list[list[Figure]]":
    """Draw and show what the host's ``plot()`` does, and return the figures as it does: of a strategy without bars None.

    In a notebook, where ``iplot`` asks for it, the figures are shown in line. Else they get windows if the process has
    them: those of matplotlib's present back end, or of ``use``; windows have the dots per inch of the screen. Without windows
    nothing is shown. ``options`` are the host's: a ``scheme``, or values of one.
    """
    for strategy in filter(len, _whole(cerebro)):
        _check_range(strategy, **call)
    scheme = options.pop("scheme", None) or _host().PlotScheme()
    is_inline = iplot and use is None and "ipykernel" in sys.modules
    stage = _Stage(size, dpi) if is_inline or not _has_windows(use) else _Screen(size, dpi)
    figures = _drawn(cerebro, stage, scheme, options, call)
    if is_inline:
        _show_inline(figure for row in figures for figure in row or ())
    stage.show()
    return figures


def _drawn(cerebro: bt.Cerebro, stage: "_Stage", scheme: Any, options: dict[str, Any], call: dict[str, Any]) -> "list[list[Figure]]":
    with lettering():
        figures: list[list[Figure]] = bt.Cerebro.plot(cerebro, _plotter_class()(scheme=scheme, stage=stage, **options), iplot=False, **call)
        for figure in (figure for row in figures for figure in row or ()):
            _make_legible(figure)
    return figures


def _has_windows(use: str | None) -> bool:
    """Return whether matplotlib's back end opens windows; ``use`` makes it that one first, which the caller has asked for."""
    import matplotlib as mpl

    _host()  # before the back end is chosen: the host would choose another
    if use is not None:
        mpl.use(use)
    from matplotlib import pyplot

    probe = pyplot.figure()
    try:
        return probe.canvas.required_interactive_framework is not None
    finally:
        pyplot.close(probe)


def _show_inline(figures: "Iterable[Figure]") -> None:
    display = import_module("IPython.display")  # a notebook has it

    for figure in figures:
        picture = BytesIO()
        figure.savefig(picture, format="png")
        display.display(display.Image(picture.getvalue()))


def _make_legible(figure: "Figure") -> None:
    """Write a dot for each letter that no font has; the host makes its texts of names in any script."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if (shown := legible(text.get_text())) != text.get_text():
            text.set_text(shown)


def _drawable(cerebro: bt.Cerebro) -> list[bt.Strategy]:
    """Return the strategies of a finished run with bars, or say why they cannot be drawn."""
    strategies = _whole(cerebro)
    if cerebro._exactbars > 0:
        raise ValueError(f"plot() needs the bars of the run and exactbars={cerebro._exactbars} keeps none; use exactbars=0, -1 or -2")
    if not strategies or not all(len(strategy) for strategy in strategies):
        raise ValueError("plot() draws bars and this run had none; check fromdate and todate of its datas")
    return strategies


def _whole(cerebro: bt.Cerebro) -> list[bt.Strategy]:
    """Return the strategies of a finished run; ValueError where there was none, or an optimisation kept something else of them."""
    runs = getattr(cerebro, "runstrats", None)
    if not runs:
        raise ValueError("plot() draws a finished run and this Cerebro has none; call cerebro.run() first")
    strategies = [strategy for run in runs for strategy in run]
    if not all(isinstance(strategy, bt.Strategy) for strategy in strategies):
        raise ValueError("plot() needs whole strategies and this optimisation kept their analyzers only; run the one to draw by itself")
    return strategies


def _check_options(options: dict[str, Any], known: set[str]) -> None:
    windows = [name for name in ("iplot", "use", "plotter", "tight") if name in options]
    if windows:
        raise ValueError(f"plot() draws on figures without a window, so {', '.join(windows)} has no meaning here; leave it out")
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"plot() has no option {', '.join(unknown)}; it has numfigs, start, end, {', '.join(sorted(known))}")


def _check_range(strategy: bt.Strategy, numfigs: int = 1, start: Any = None, end: Any = None) -> None:
    """Refuse a range without bars and more figures than it has bars, on which the host fails with an IndexError."""
    days = strategy.lines.datetime.plot()
    first = bisect_left(days, bt.date2num(start)) if isinstance(start, date) else start or 0
    last = bisect_right(days, bt.date2num(end)) if isinstance(end, date) else len(days) if end is None else end
    last = last if last >= 0 else len(days) + 1 + last
    if not 0 <= first < last <= len(days):
        raise ValueError(f"plot() found no bars from start={start} to end={end}; the run has {len(days)}, {_span(days)}")
    if not (isinstance(numfigs, int) and 1 <= numfigs <= last - first):
        raise ValueError(f"numfigs is a whole number from 1 to the number of bars, {last - first}, was {numfigs!r}")


def _span(days: Sequence[float]) -> str:
    return " to ".join(f"{utc(seconds(day)):%Y-%m-%d %H:%M}" for day in (days[0], days[-1])) + " UTC"


def _host() -> Any:
    """Return the host's plotting package; left alone, importing it would choose a window system for the whole process."""
    if "backtrader.plot" not in sys.modules:
        import matplotlib as mpl

        choose = mpl.use
        mpl.use = lambda *_, **__: None
        try:
            import_module("backtrader.plot")
        finally:
            mpl.use = choose
    return sys.modules["backtrader.plot"]


class _Stage:
    """What the host's plotter asks of pyplot, on figures that pyplot does not know."""

    def __init__(self, size: tuple[float, float], dpi: float) -> None:
        self.size, self.dpi = size, dpi

    def figure(self, _: int) -> "Figure":
        """Return a new figure, which the next calls are about; the host's number for it is not used."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.current = Figure(figsize=self.size, dpi=self.dpi)
        FigureCanvasAgg(self.current)
        return self.current

    def subplot2grid(self, shape: tuple[int, int], loc: tuple[int, int], rowspan: int, sharex: "Axes | None") -> "Axes":
        """Return new axes over these rows of a grid of one column."""
        row, column = loc
        return self.current.add_subplot(self.current.add_gridspec(*shape)[row : row + rowspan, column], sharex=sharex)

    def autoscale(self, **how: Any) -> None:
        """Fit the axes made last; all share their x, so every one of them must give up its margins."""
        for axes in self.current.axes:
            axes.margins(x=0)
        self.current.gca().autoscale(**how)

    def setp(self, labels: Any, **looks: Any) -> None:
        """Leave labels alone: of labels that are yet to be made, the plotter's own time axis decides."""

    def show(self) -> None:
        """Show nothing."""


class _Screen(_Stage):
    """A stage whose figures have windows, which pyplot knows."""

    def figure(self, _: int) -> "Figure":
        """Return a new figure in a window of its own."""
        from matplotlib import pyplot

        self.current = pyplot.figure(figsize=self.size)
        return self.current

    def show(self) -> None:
        """Show the windows, and wait until they are closed where matplotlib waits."""
        from matplotlib import pyplot

        pyplot.show()


@cache
def _plotter_class() -> Any:
    """Return the host's plotter on a stage of its own, with a time axis that can be read."""

    class Plotter(_host().Plot):  # type: ignore[misc]  # known once matplotlib is asked for
        def __init__(self, *, stage: _Stage, **options: Any) -> None:
            super().__init__(**options)
            self._stage = stage

        @property
        def mpyplot(self) -> _Stage:
            """The stage; the host assigns pyplot on every plot, which is ignored."""
            return self._stage

        @mpyplot.setter
        def mpyplot(self, module: Any) -> None:
            pass

        def setlocators(self, ax: "Axes") -> None:
            super().setlocators(ax)
            _draw_times(self._stage.current, ax, [seconds(day) for day in self.pinf.xreal], self.pinf.sch)

        def show(self) -> None:
            """Show nothing: the figures are not finished yet."""

    return Plotter


def _draw_times(figure: "Figure", lowest: "Axes", times: Sequence[float], scheme: Any) -> None:
    """Write round dates below the lowest axes, whose x are numbers of bars, and none below the others."""
    form = scheme.fmt_x_ticks or "%Y-%m-%d %H:%M"
    rows = round_rows(times, max(int(figure.get_figwidth() / APART), 2))
    lowest.set_xticks(rows, [utc(times[row]).strftime(form) for row in rows])
    for axes in figure.axes:
        axes.tick_params(axis="x", labelbottom=axes is lowest, labelrotation=scheme.tickrotation)
    lowest.set_xlabel("UTC")
    figure.subplots_adjust(bottom=BELOW / figure.get_figheight(), right=1 - BESIDE / figure.get_figwidth())


def round_rows(times: Sequence[float], most: int) -> list[int]:
    """Return the rows of the bars that are the first at or after round dates: ``most`` of them or fewer.

    Times are seconds since 1970 UTC, rising. Rows that a gap in the data has brought together are left out, and where no
    round date is inside, the first row stands alone.

    >>> round_rows([hour * 3600.0 for hour in range(48)], most=4)                      # every 12 hours
    [0, 12, 24, 36]
    """
    kept: list[int] = []
    for row in (bisect_left(times, stamp) for stamp in _round_stamps(times[0], times[-1], most)):
        if not kept or row - kept[-1] > len(times) / (3 * most):
            kept.append(row)
    return kept or [0]


def _round_stamps(first: float, last: float, most: int) -> list[float]:
    """Return the round dates from first to last, on the finest of STEPS and MONTHS that has ``most`` of them or fewer."""
    for step in STEPS:
        if last - first < step * most:
            offset = MONDAY if step % (7 * DAY) == 0 else 0
            start = ceil((first - offset) / step) * step + offset
            return [start + number * step for number in range(most) if start + number * step <= last]
    months = range(_month_of(first), _month_of(last) + 1)
    for step in MONTHS:
        stamps = [datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp() for month in months if month % step == 0]
        stamps = [stamp for stamp in stamps if first <= stamp <= last]
        if len(stamps) <= most:
            break
    return stamps


def _month_of(time: float) -> int:
    """Return how many months have passed since the year 0."""
    moment = utc(time)
    return moment.year * 12 + moment.month - 1

"""Cerebro: Backtrader's engine with a run loop that costs little, dates on its plots, and fit for the Pythons of today."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import backtrader as bt

from .desk import LOG
from .hostplot import show
from .loop import run_on, run_tight, why_not


class Counter:
    """Counts on from a number as itertools.count does, which cannot be pickled from Python 3.14 on."""

    def __init__(self, following: int = 0) -> None:
        self.following = following

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        number = self.following
        self.following += 1
        return number


class Cerebro(bt.Cerebro):
    """A drop-in for ``backtrader.Cerebro``: the same results in less time.

    The tight loop runs where every data is a ``PerpData`` that was loaded in one go and all have the same stamps, with any
    strategies, indicators, analyzers, observers and broker. ``host_loop_reason`` says after a run why the host's loop had
    to run it, '' where it had not; the logger ``bt_margin`` says so at debug level.

    Params, besides the host's own:

      - ``fast_averages`` (default: ``False``): exponential, smoothed and weighted averages may differ from the host's by 1e-12
        of themselves, which is quicker; see ``averages.vectorise``. All others have the host's bits either way.

    Also repaired: ``optstrategy`` on several processes under Python 3.14, an optimisation run twice, and ``plot()``, which
    shows dates, leaves matplotlib's settings alone and works without a screen.
    """

    params = (("fast_averages", False),)

    host_loop_reason = ""

    def __init__(self) -> None:
        super().__init__()
        self._dataid = Counter(1)

    @classmethod
    def adopt(cls, cerebro: bt.Cerebro) -> None:
        """Make a stock Cerebro one of these where it stands; one of a class of its own is left alone, and the log says so."""
        if isinstance(cerebro, cls):
            return
        if type(cerebro) is not bt.Cerebro:
            LOG.debug("%s is a class of its own and keeps the host's loop; derive it from bt_margin.Cerebro", type(cerebro).__name__)
            return
        cerebro.__class__ = cls
        cerebro._dataid = Counter(next(cerebro._dataid))
        cerebro.strats = [list(choices) for choices in cerebro.strats]

    # -- what the host cannot pickle -----------------------------------------------------------------------------------

    def _init_stcount(self) -> None:
        self.stcount = Counter()

    def optstrategy(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Add a strategy class once for each combination of the values in ``args`` and ``kwargs``."""
        super().optstrategy(strategy, *args, **kwargs)
        self.strats[-1] = list(self.strats[-1])  # the host leaves a product of itertools, used up by its first run

    def runstrategies(self, iterstrat: Any, predata: bool = False) -> Any:
        """Run one combination of strategies and return them, or what an optimisation keeps of them."""
        results = super().runstrategies(iterstrat, predata=predata)
        for strategy in self.runningstrats:  # analyzers are named, and their counters have counted
            strategy._alnames = defaultdict(Counter, {name: Counter(next(count)) for name, count in strategy._alnames.items()})
        return results

    # -- what the host draws without dates -----------------------------------------------------------------------------

    def plot(
        self,
        plotter: Any = None,
        numfigs: int = 1,
        iplot: bool = True,
        start: Any = None,
        end: Any = None,
        width: float = 16,
        height: float = 9,
        dpi: float = 300,
        tight: bool = True,
        use: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Draw the finished run, show it where there is something to show it on, and return the figures by strategy.

        Arguments and result are the host's. Without a ``plotter`` the figures are those of ``bt_margin.plot``: with dates,
        whatever was drawn before. ``width`` and ``height`` are inches, ``dpi`` is of figures without windows, ``use`` is the back end
        of those with. ``tight`` means nothing, as in the host. After a run with ``exactbars`` above 0 the result is None.
        """
        if plotter or getattr(self, "_exactbars", 0) > 0:
            return super().plot(plotter, numfigs, iplot, start, end, width, height, dpi, tight, use, **kwargs)
        return show(self, (width, height), dpi, iplot, use, kwargs, numfigs=numfigs, start=start, end=end)

    # -- which loop ----------------------------------------------------------------------------------------------------

    def _runonce(self, runstrats: list[bt.Strategy]) -> None:
        from .averages import TOLERANCE, share_equal_lines, vectorise

        # One that plug() has made of a stock Cerebro has the stock's params.
        vectorise(runstrats, TOLERANCE if getattr(self.p, "fast_averages", False) else 0.0)
        reason = why_not(self, runstrats)
        if reason:
            self._leave_to_host(reason)
            super()._runonce(runstrats)
            return
        self.host_loop_reason = ""
        for strategy in runstrats:
            strategy._once()
            strategy.reset()
        share_equal_lines(runstrats)
        datas = tuple(self.datas)  # as the host does: one that is added from here on is in no bar
        reason = run_tight(self, datas, runstrats)
        if reason:
            self._leave_to_host(reason)
            run_on(self, datas, runstrats)

    def _runnext(self, runstrats: list[bt.Strategy]) -> None:
        self._leave_to_host(self._why_bar_by_bar())
        super()._runnext(runstrats)

    def _runonce_old(self, runstrats: list[bt.Strategy]) -> None:
        self._leave_to_host("oldsync is on")
        super()._runonce_old(runstrats)

    def _runnext_old(self, runstrats: list[bt.Strategy]) -> None:
        self._leave_to_host("oldsync is on")
        super()._runnext_old(runstrats)

    def _leave_to_host(self, reason: str) -> None:
        self.host_loop_reason = reason
        LOG.debug("the host's run loop runs: %s", reason)

    def _why_bar_by_bar(self) -> str:
        if self._dolive or self.p.live:
            return "live is on, or a store or data is live"
        if self._exactbars:
            return f"exactbars={self._exactbars} keeps few bars"
        if self._doreplay:
            return "a data is resampled or replayed"
        for name in ("runonce", "preload"):
            if not getattr(self.p, name):
                return f"{name} is off"
        return "an indicator has switched vectorised runs off"

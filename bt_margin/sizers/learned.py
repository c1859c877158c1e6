"""Rules that learn: from the trades that are closed, or from the prices so far. Never from what has not happened yet."""

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any, ClassVar

from ..core.sizing import (
    fixed_ratio_units,
    kelly_leverage,
    kelly_of_trades,
    loss_per_contract,
    mean_and_variance,
    optimal_fraction,
    risk_size,
    secure_fraction,
    streak_factor,
)
from .base import ABOVE_0, COUNT, FROM_0, INSIDE, SHARE, Ask, Check, Rule, SkipError, percent, rule
from .past import Outcomes, latest
from .risk import STOP_CHECKS, STOP_PARAMS

FEWEST_TRADES = 30
MOST_DRAWS = 100_000
ENOUGH: Check = (lambda value: value >= FEWEST_TRADES and value == int(value), f"a whole number of trades, {FEWEST_TRADES} or more")


@rule("kelly")
class KellyTrades(Rule):
    """A fraction of Kelly's bet is risked to the stop, as the last closed trades would have it.

    size = kappa * phi * equity / (multiplier * |P - S|), phi = p - (1 - p) / b, of outcomes in multiples of what each trade
    risked to its stop. Until there are ``trades`` of them ``start`` is risked. Where phi is 0 or less nothing is ordered, for good
    unless ``least`` says otherwise: without trades nothing is learned.

    Danger: Kelly's bet takes the win rate for certain; of 30 trades it is known to a tenth or two, and twice Kelly's bet earns
    nothing in the long run. Half of it or less.

    Params:

      - ``kappa`` (default: ``0.5``): share of Kelly's bet
      - ``trades`` (default: ``30``): how many of the last closed trades of all the strategy's contracts, 30 or more
      - ``start`` (default: ``0.01``): fraction of equity risked before
      - ``least`` (default: ``0.0``): fraction of equity risked at least
      - ``stop_atr``, ``atr``: as in ``RiskToStop``

    Source: J. L. Kelly, 1956; E. O. Thorp.
    """

    params: Any = (("kappa", 0.5), ("trades", FEWEST_TRADES), ("start", 0.01), ("least", 0.0), *STOP_PARAMS)
    checks: ClassVar[dict[str, Check]] = {"kappa": SHARE, "trades": ENOUGH, "start": SHARE, "least": FROM_0, **STOP_CHECKS}
    learns = True

    def set(self, strategy: Any, broker: Any) -> None:
        """Begin to size the orders of a strategy; called by the host."""
        super().set(strategy, broker)
        self._terms: dict[str, dict[str, Any]] = {}
        self._outcomes = Outcomes(self.trades(), lambda: self.decisions, self._risk_of)

    def _risk_of(self, symbol: str, price: float, stop: float) -> float:
        return loss_per_contract(price=price, stop=stop, **self._terms[symbol])

    def label(self) -> str:
        return f"{kappa_label(self.p.kappa)} Kelly of {self.p.trades} trades"

    def wanted(self, ask: Ask) -> float:
        self._terms[ask.symbol] = ask.terms
        stop = self.stop_of(ask)
        outcomes = self._outcomes.all()
        fraction = self.p.start
        if len(outcomes) >= self.p.trades:
            fraction = max(self.p.kappa * kelly_of_trades(outcomes[-self.p.trades :]), self.p.least)
        if not fraction > 0:
            raise SkipError("edge")
        return risk_size(fraction * ask.equity, ask.loss(stop, with_costs=False))


@rule("kelly-continuous")
class KellyContinuous(Rule):
    """An order's notional is a fraction of Kelly's leverage for the price's own drift and variance.

    size = kappa * lambda * equity / (price * multiplier), lambda = (mean - rate) / variance of the last ``period`` returns from
    close to close; a short of a falling price -lambda. Where the drift is against the order nothing is ordered.

    Danger: it believes in the drift of the past, which even years of prices hardly tell from none; ``most`` bounds what it may ask.

    Params:

      - ``kappa`` (default: ``0.5``): share of Kelly's leverage; half keeps three quarters of the growth at half the volatility
      - ``period`` (default: ``1000``): bars looked back at
      - ``rate`` (default: ``0.0``): of interest without risk, for one bar
      - ``most`` (default: ``5.0``): largest leverage, notional over equity

    Source: E. O. Thorp, 2006.
    """

    params: Any = (("kappa", 0.5), ("period", 1_000), ("rate", 0.0), ("most", 5.0))
    checks: ClassVar[dict[str, Check]] = {
        "kappa": SHARE,
        "period": (lambda value: value >= 2 and value == int(value), "a whole number of bars, 2 or more"),
        "rate": (lambda value: -1 < value < 1, "a rate of one bar, a fraction"),
        "most": ABOVE_0,
    }

    def label(self) -> str:
        return f"{kappa_label(self.p.kappa)} Kelly of {self.p.period} bars"

    def wanted(self, ask: Ask) -> float:
        if len(ask.data) - ask.ahead <= self.p.period:
            raise SkipError("bars")
        closes = latest(ask.data.lines.close, self.p.period + 1, ask.ahead)
        returns = [after / before - 1.0 for before, after in pairwise(closes)]
        mean, variance = mean_and_variance(returns)
        leverage = self.p.kappa * kelly_leverage(mean, variance, self.p.rate) * ask.side if variance > 0 else 0.0
        if not leverage > 0:
            raise SkipError("edge")
        return ask.worth(min(leverage, self.p.most) * ask.equity)


@rule("optimal-f")
class OptimalF(Rule):
    """The worst of the last closed trades, made again, would cost the share of equity at which they would have grown most.

    notional = kappa * f / |worst trade per unit of notional| * equity, f the optimal one of the outcomes per unit of notional.
    Until there are ``trades`` of them, and a loss among them, the notional is ``start`` times equity. Where f is 0 nothing is
    ordered, for good unless ``least`` says otherwise.

    Danger: a loss larger than the worst so far is only a matter of time, and at f a row of them takes nearly everything; at
    leverage the venue takes it first. Half of f or less.

    Params:

      - ``kappa`` (default: ``0.5``): share of f
      - ``trades`` (default: ``30``): how many of the last closed trades of all the strategy's contracts, 30 or more
      - ``start`` (default: ``0.5``): notional over equity before
      - ``least`` (default: ``0.0``): notional over equity at least

    Source: Ralph Vince, "Portfolio Management Formulas", 1990.
    """

    params: Any = (("kappa", 0.5), ("trades", FEWEST_TRADES), ("start", 0.5), ("least", 0.0))
    checks: ClassVar[dict[str, Check]] = {"kappa": SHARE, "trades": ENOUGH, "start": ABOVE_0, "least": FROM_0}
    learns = True

    def _begin(self) -> None:
        super()._begin()
        self._known = (0, 0.0)  # of so many trades: f

    def label(self) -> str:
        return f"{kappa_label(self.p.kappa)} optimal f"

    def wanted(self, ask: Ask) -> float:
        outcomes = [trade.outcome for trade in self.trades().all() if trade.worth]
        recent = outcomes[-self.p.trades :]
        worst = -min(recent, default=0.0)
        if len(outcomes) < self.p.trades or not worst > 0:
            return ask.worth(self.p.start * ask.equity)
        if self._known[0] != len(outcomes):
            self._known = (len(outcomes), self._fraction(recent))
        leverage = max(self.p.kappa * self._known[1] / worst, self.p.least)
        if not leverage > 0:
            raise SkipError("edge")
        return ask.worth(leverage * ask.equity)

    def _fraction(self, outcomes: Sequence[float]) -> float:
        return optimal_fraction(outcomes)


@rule("secure-f")
class SecureF(OptimalF):
    """As optimal f, with the largest f whose drawdown would rarely have been deep, by a bootstrap of the last closed trades.

    f is the largest at which at most ``chance`` of ``draws`` runs, each of ``trades`` trades drawn with replacement, fall by more
    than ``drawdown``. The draws are the same each time (``seed``).

    Danger: as of optimal f; the bootstrap knows no loss that has not been made yet.

    Params: as ``OptimalF``, and

      - ``kappa`` (default: ``1.0``): share of f
      - ``drawdown`` (default: ``0.5``): how deep is deep, a fraction of the peak
      - ``chance`` (default: ``0.05``): share of the runs that may fall as far
      - ``draws`` (default: ``100``): runs
      - ``seed`` (default: ``1``): of the draws

    Source: Ralph Vince, 2007; Zamansky and Stendahl, 1998.
    """

    params: Any = (("kappa", 1.0), ("drawdown", 0.5), ("chance", 0.05), ("draws", 100), ("seed", 1))
    checks: ClassVar[dict[str, Check]] = {
        "drawdown": INSIDE,
        "chance": (lambda value: 0 <= value < 1, "a fraction from 0 to below 1"),
        "draws": (lambda value: 1 <= value <= MOST_DRAWS and value == int(value), f"a whole number from 1 to {MOST_DRAWS:,}"),
        "seed": (lambda value: value == int(value), "a whole number"),
    }

    def _begin(self) -> None:
        super()._begin()
        random = Random(self.p.seed)
        self._draws = [[random.randrange(self.p.trades) for _ in range(self.p.trades)] for _ in range(self.p.draws)]

    def label(self) -> str:
        return f"secure f, {percent(self.p.drawdown)} drawdown in {percent(self.p.chance)}"

    def _fraction(self, outcomes: Sequence[float]) -> float:
        return secure_fraction(outcomes, self._draws, drawdown=self.p.drawdown, chance=self.p.chance)


@rule("fixed-ratio")
class FixedRatio(Rule):
    """The number of units grows with the root of the closed profit: going from N to N + 1 units takes N * delta.

    size = N * unit * first deposit / (price * multiplier), N = floor((1 + sqrt(1 + 8 * profit / (delta * first deposit))) / 2), at
    least 1. The profit is that of all closed trades, net of trading fees, without funding.

    Params:

      - ``unit`` (default: ``0.5``): notional of a unit over the first deposit
      - ``delta`` (default: ``0.05``): what the second unit takes of profit, over the first deposit; half the drawdown to be expected
        of one unit

    Source: Ryan Jones, "The Trading Game", 1999.
    """

    params: Any = (("unit", 0.5), ("delta", 0.05))
    checks: ClassVar[dict[str, Check]] = {"unit": ABOVE_0, "delta": ABOVE_0}
    learns = True

    def label(self) -> str:
        return f"fixed ratio, unit {self.p.unit:g} x, delta {percent(self.p.delta)}"

    def wanted(self, ask: Ask) -> float:
        first = self.broker.startingcash
        units = fixed_ratio_units(sum(trade.profit for trade in self.trades().all()), self.p.delta * first)
        return ask.worth(units * self.p.unit * first)


@rule("martingale")
class Martingale(Rule):
    """What another rule says, times ``factor`` for each loss in a row of the contract's last closed trades; a win starts anew.

    Danger: the stake grows without the odds getting better; the row of losses that is longer than the money comes.

    Params:

      - ``inner`` (default: ``'notional:multiple=0.25'``): the rule for the first stake
      - ``factor`` (default: ``2.0``): of the stake after a loss
      - ``most`` (default: ``4``): losses that count; after more the stake stays at ``factor ** most``
    """

    params: Any = (("inner", "notional:multiple=0.25"), ("factor", 2.0), ("most", 4))
    checks: ClassVar[dict[str, Check]] = {"factor": (lambda value: value > 1, "a number above 1"), "most": COUNT}
    learns = True
    after_loss = True

    def label(self) -> str:
        return f"{self.inner_label()}, x{self.p.factor:g} after a {'loss' if self.after_loss else 'win'}"

    def wanted(self, ask: Ask) -> float:
        profits = [trade.profit for trade in self.trades().of(ask.symbol)]
        return self.inner_wanted(ask) * streak_factor(profits, after_loss=self.after_loss, factor=self.p.factor, most=self.p.most)


@rule("anti-martingale")
class AntiMartingale(Martingale):
    """What another rule says, times ``factor`` for each win in a row of the contract's last closed trades; a loss starts anew.

    Params: as ``Martingale``, with ``most`` 3.

    Source: the Paroli system of gamblers.
    """

    params: Any = (("most", 3),)
    after_loss = False


def kappa_label(kappa: float) -> str:
    """Return a share of a bet in words.

    >>> kappa_label(0.5), kappa_label(1), kappa_label(0.3)
    ('half', 'full', '0.3 x')
    """
    return {1.0: "full", 0.5: "half", 0.25: "quarter"}.get(float(kappa), f"{kappa:g} x")

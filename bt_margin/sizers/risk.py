"""Rules by what an order may lose: to its stop, by a move of the market, by the market's volatility."""

from typing import Any, ClassVar

from ..core.sizing import buffered, move_size, risk_size, volatility_leverage
from .base import ABOVE_0, COUNT, FROM_0, SHARE, Ask, Check, Rule, SkipError, percent, rule
from .past import Volatility

STOP_PARAMS = (("stop_atr", 2.0), ("atr", 14))
STOP_CHECKS: dict[str, Check] = {"stop_atr": ABOVE_0, "atr": COUNT}


@rule("risk")
class RiskToStop(Rule):
    """An order that is stopped out costs a fraction of equity, fees included.

    size = fraction * equity / (multiplier * (|P - S| + fee * P + (fee + slippage) * S)); inverse the same in 1 / price.

    Params:

      - ``fraction`` (default: ``0.01``): of equity, 0.01 or 0.02; 0.1 is ruin in a row of ten losses
      - ``slippage`` (default: ``0.0``): what the stop is filled worse than its price, a fraction of it
      - ``stop_atr`` (default: ``2.0``): average true ranges from the price to the stop, of a strategy without ``stop_for``
      - ``atr`` (default: ``14``): bars in Wilder's average true range

    Source: Van Tharp, "Trade Your Way to Financial Freedom", per cent risk model.
    """

    params: Any = (("fraction", 0.01), ("slippage", 0.0), *STOP_PARAMS)
    checks: ClassVar[dict[str, Check]] = {"fraction": SHARE, "slippage": FROM_0, **STOP_CHECKS}

    def label(self) -> str:
        return f"risk {percent(self.p.fraction)} to stop"

    def wanted(self, ask: Ask) -> float:
        stop = self.stop_of(ask)
        return risk_size(self.p.fraction * ask.equity, ask.loss(stop, with_costs=True, slippage=self.p.slippage))


@rule("atr")
class RangeRisk(Rule):
    """A move of so many average true ranges is worth a fraction of equity.

    size = fraction * equity / (multiple * ATR * multiplier), inverse fraction * equity * P^2 / (multiple * ATR * multiplier).

    Params:

      - ``fraction`` (default: ``0.01``): of equity
      - ``multiple`` (default: ``2.0``): average true ranges
      - ``atr`` (default: ``14``): bars in Wilder's average true range

    Source: Van Tharp, per cent volatility model.
    """

    params: Any = (("fraction", 0.01), ("multiple", 2.0), ("atr", 14))
    checks: ClassVar[dict[str, Check]] = {"fraction": SHARE, "multiple": ABOVE_0, "atr": COUNT}

    def label(self) -> str:
        return f"{percent(self.p.fraction)} a move of {self.p.multiple:g} ATR"

    def wanted(self, ask: Ask) -> float:
        move = self.p.multiple * self.range_of(ask, self.p.atr)
        return move_size(self.p.fraction * ask.equity, move=move, price=ask.price, **ask.terms)


@rule("turtle")
class TurtleUnit(RangeRisk):
    """One unit of the turtles: a move of N, the average true range of 20 bars, is worth 1 % of equity.

    Params: as ``RangeRisk``, with ``multiple`` 1 and ``atr`` 20.

    Source: Curtis Faith, "Way of the Turtle", 2007.
    """

    params: Any = (("multiple", 1.0), ("atr", 20))

    def label(self) -> str:
        return f"Turtle unit {percent(self.p.fraction)}"


@rule("volatility")
class VolatilityTarget(Rule):
    """An order brings the contract to the size at which the account has a volatility, and is none where it is near enough.

    size = equity * volatility / (sigma * price * multiplier) less what is held on that side; sigma is the exponential average of
    squared returns, of a year of 365 days by the length of a bar.

    Params:

      - ``volatility`` (default: ``0.4``): of the account in a year, a fraction
      - ``period`` (default: ``36``): span in bars of the average of squared returns
      - ``buffer`` (default: ``0.1``): how far below its target a position may be without an order, a fraction of it

    Source: Robert Carver, "Systematic Trading", 2015 (36 days, 10 %).
    """

    params: Any = (("volatility", 0.4), ("period", 36), ("buffer", 0.1))
    checks: ClassVar[dict[str, Check]] = {
        "volatility": ABOVE_0,
        "period": COUNT,
        "buffer": (lambda value: 0 <= value < 1, "a fraction from 0 to below 1"),
    }

    def _begin(self) -> None:
        super()._begin()
        self._volatilities: dict[int, Volatility] = {}

    def label(self) -> str:
        return f"volatility {percent(self.p.volatility)} a year"

    def wanted(self, ask: Ask) -> float:
        average = self._volatilities.setdefault(id(ask.data), Volatility(self.p.period))
        sigma = average.of_year(ask.data, ask.ahead)
        if sigma is None or not sigma > 0:
            raise SkipError("bars")
        target = ask.worth(ask.equity * volatility_leverage(self.p.volatility, sigma))
        size = buffered(target, ask.same_side, self.p.buffer)
        if not size:
            raise SkipError("buffer")
        return size

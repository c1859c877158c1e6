"""Rules that need neither a stop nor the past: a size, a notional, a share of equity or of the available margin."""

from typing import ClassVar

from ..core.account import is_number
from .base import ABOVE_0, SHARE, Ask, Check, Rule, percent, rule


@rule("size")
class FixedContracts(Rule):
    """Every order is of the same size, in contracts.

    Params:

      - ``size`` (default: ``1.0``): contracts

    Source: Backtrader's own ``FixedSize``; here with caps and lots.
    """

    params = (("size", 1.0),)
    checks: ClassVar[dict[str, Check]] = {"size": ABOVE_0}

    def label(self) -> str:
        return f"{self.p.size:,.10g} contracts"

    def wanted(self, ask: Ask) -> float:
        return float(self.p.size)


@rule("notional")
class FixedNotional(Rule):
    """Every order is worth the same.

    size = notional / (price * multiplier), inverse notional * price / multiplier with the notional in coin.

    Params:

      - ``notional`` (default: ``None``): money, in the settlement currency; None takes ``multiple`` of the first deposit
      - ``multiple`` (default: ``1.0``): of the first deposit, where no notional is given

    Source: Van Tharp, equal units.
    """

    params = (("notional", None), ("multiple", 1.0))
    checks: ClassVar[dict[str, Check]] = {"multiple": ABOVE_0}

    def __init__(self) -> None:
        super().__init__()
        if self.p.notional is not None and not (is_number(self.p.notional) and self.p.notional > 0):
            raise ValueError(f"FixedNotional: notional is an amount of money above 0, or None for a multiple, was {self.p.notional!r}")

    def label(self) -> str:
        return f"notional {self.p.multiple:g} x first deposit" if self.p.notional is None else f"notional {self.p.notional:,.10g}"

    def wanted(self, ask: Ask) -> float:
        return ask.worth(self.p.multiple * self.broker.startingcash if self.p.notional is None else self.p.notional)


@rule("equity")
class EquityFraction(Rule):
    """An order's notional is a multiple of equity: an effective leverage, whatever leverage is set.

    size = fraction * equity / (price * multiplier), at the close; inverse fraction * equity * price / multiplier.

    Params:

      - ``fraction`` (default: ``1.0``): notional over equity; above 1 it needs leverage

    Source: fixed fractional sizing, Ralph Vince, "Portfolio Management Formulas", 1990.
    """

    params = (("fraction", 1.0),)
    checks: ClassVar[dict[str, Check]] = {"fraction": (lambda value: value > 0, "a multiple of equity above 0")}

    def label(self) -> str:
        return f"{self.p.fraction:g} x equity"

    def wanted(self, ask: Ask) -> float:
        return ask.worth(self.p.fraction * ask.equity)


@rule("margin")
class MarginFraction(Rule):
    """An order's initial margin is a fraction of what is available: the slider of an exchange's order form.

    size = fraction * available * leverage / (price * multiplier), at the close; inverse fraction * available * leverage *
    price / multiplier. With a fraction near 1 the fee and ``spare`` have to fit in too, so that it is cut.

    Params:

      - ``fraction`` (default: ``0.1``): margin over available margin, above 0 and at most 1
    """

    params = (("fraction", 0.1),)
    checks: ClassVar[dict[str, Check]] = {"fraction": (SHARE[0], "a share of the available margin, above 0 and at most 1")}

    def label(self) -> str:
        return f"{percent(self.p.fraction)} of available as margin"

    def wanted(self, ask: Ask) -> float:
        leverage = ask.comminfo.p.leverage if ask.slot is None else ask.slot.position.leverage
        return ask.worth(self.p.fraction * ask.cash * leverage)

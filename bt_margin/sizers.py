"""Sizers that know what leverage is: the two simplest rules traders of perpetuals use.

As with the host's own ``PercentSizer``, an order against the position held is sized to close it; not so in hedge mode, where
it may open the other leg and ``broker.close_side`` is what closes one. Sizes are in contracts;
the broker cuts them to whole lots. Both also run on stock Backtrader.
"""

from typing import Any

import backtrader as bt


def _size(sizer: bt.Sizer, comminfo: Any, data: Any, isbuy: bool, notional: float) -> float:
    """Return the size of an order with this notional at the close, or what closes the position that it is against."""
    held = 0 if getattr(sizer.broker, "is_hedging", False) else sizer.broker.getposition(data).size
    if held and (held > 0) != isbuy:
        return abs(held)
    price, multiplier = data.close[0], comminfo.p.mult
    is_inverse = getattr(comminfo.p, "kind", "linear") == "inverse"
    return max(notional, 0.0) * price / multiplier if is_inverse else max(notional, 0.0) / (price * multiplier)


class EquityFraction(bt.Sizer):
    """An order's notional is a multiple of equity: an effective leverage, whatever leverage is set.

    size = fraction * equity / (price * multiplier), at the close; inverse fraction * equity * price / multiplier.

    Params:

      - ``fraction`` (default: ``1.0``): notional over equity; above 1 it needs leverage

    Source: fixed fractional sizing, Ralph Vince, "Portfolio Management Formulas", 1990.
    """

    params = (("fraction", 1.0),)

    def __init__(self) -> None:
        if not 0 < self.p.fraction < float("inf"):
            raise ValueError(f"EquityFraction: fraction is a multiple of equity above 0, was {self.p.fraction}")

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> float:
        return _size(self, comminfo, data, isbuy, self.p.fraction * self.broker.getvalue())


class MarginFraction(bt.Sizer):
    """An order's initial margin is a fraction of what is available: the slider of an exchange's order form.

    size = fraction * available * leverage / (price * multiplier), at the close; inverse fraction * available * leverage *
    price / multiplier. With a fraction near 1 no room is left for the fee and a higher open, and the order is refused.

    Params:

      - ``fraction`` (default: ``0.1``): margin over available margin, above 0 and at most 1
    """

    params = (("fraction", 0.1),)

    def __init__(self) -> None:
        if not 0 < self.p.fraction <= 1:
            raise ValueError(f"MarginFraction: fraction is a share of the available margin, above 0 and at most 1, was {self.p.fraction}")

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> float:
        return _size(self, comminfo, data, isbuy, self.p.fraction * cash * comminfo.p.leverage)

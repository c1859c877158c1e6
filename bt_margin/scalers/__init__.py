"""Scaling schemes: a strategy's entry becomes a ladder of orders, without a change to the strategy.

``attach(cerebro, Pyramid())`` has all strategies of a Cerebro trade by a scheme; ``ladder_table(...)`` is the ladder before the
trade: of each rung its size and price, the average entry, liquidation price and margin after it, and what is refused. Against the
trade (averaging down): ``Rectangle``, ``Funnel``, ``SafetyOrders``, ``GridMartingale``; with it: ``Pyramid``, ``TwoThreeFive``,
``Turtle``. ``Rungs`` is a ladder of one's own, ``MarginTopUp`` adds margin to an isolated position by rule.
"""

from typing import Any

from ..core.ladder import Ladder, Rung, RungRow, StopRule, climb
from .attach import Scaling, ToppingUp, attach, several
from .schemes import Funnel, GridMartingale, MarginTopUp, Pyramid, Rectangle, Rungs, SafetyOrders, Scaler, Turtle, TwoThreeFive
from .table import LadderTable, ladder_table

SCHEMES: tuple[type[Any], ...] = (
    *(Rectangle, Funnel, Pyramid, TwoThreeFive, Turtle, SafetyOrders, GridMartingale),
    MarginTopUp,
)

__all__ = [
    "SCHEMES",
    "Funnel",
    "GridMartingale",
    "Ladder",
    "LadderTable",
    "MarginTopUp",
    "Pyramid",
    "Rectangle",
    "Rung",
    "RungRow",
    "Rungs",
    "SafetyOrders",
    "Scaler",
    "Scaling",
    "StopRule",
    "ToppingUp",
    "Turtle",
    "TwoThreeFive",
    "attach",
    "climb",
    "ladder_table",
    "several",
]

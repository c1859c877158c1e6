"""Sizing rules: how large an order is, so that the same signals can be traded by many of them.

Each is a Backtrader sizer: ``cerebro.addsizer(bt_margin.sizers.RiskToStop, fraction=0.01)``, ``run(..., sizer=(kind, params))``, and
on the command line by its name, ``--sizer risk:fraction=1%``. ``docs/sizing.md`` has all of them with their formulas.

An order against the position held is sized to close it, as with the host's own ``PercentSizer``; not so in hedge mode, where it
may open the other leg and ``broker.close_side`` is what closes one. Sizes are in contracts. Under MarginBroker every one fits the
tiers, the lots, the smallest order and what is available; stock Backtrader has no such limits, and the rules of ``margin`` refuse it.
"""

from .base import REASONS, RULES, Ask, Rule, from_text, label, literal_from, make, params_from, split, value_from
from .drawdown import DrawdownFloor, DrawdownScaled, TurtleAccount
from .learned import AntiMartingale, FixedRatio, KellyContinuous, KellyTrades, Martingale, OptimalF, SecureF
from .margin import ConcentrationCap, IsolatedToStop, LiquidationBeyondStop, MaintenanceBuffer, MarginRatioCap
from .past import AverageRange, ClosedTrade, Decision
from .plain import EquityFraction, FixedContracts, FixedNotional, MarginFraction
from .risk import RangeRisk, RiskToStop, TurtleUnit, VolatilityTarget
from .stops import ByStop, liquidations_by_stop

__all__ = [
    "REASONS",
    "RULES",
    "AntiMartingale",
    "Ask",
    "AverageRange",
    "ByStop",
    "ClosedTrade",
    "ConcentrationCap",
    "Decision",
    "DrawdownFloor",
    "DrawdownScaled",
    "EquityFraction",
    "FixedContracts",
    "FixedNotional",
    "FixedRatio",
    "IsolatedToStop",
    "KellyContinuous",
    "KellyTrades",
    "LiquidationBeyondStop",
    "MaintenanceBuffer",
    "MarginFraction",
    "MarginRatioCap",
    "Martingale",
    "OptimalF",
    "RangeRisk",
    "RiskToStop",
    "Rule",
    "SecureF",
    "TurtleAccount",
    "TurtleUnit",
    "VolatilityTarget",
    "from_text",
    "label",
    "liquidations_by_stop",
    "literal_from",
    "make",
    "params_from",
    "split",
    "value_from",
]

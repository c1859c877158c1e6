"""bt_margin: perpetual-futures margin, funding and liquidation for Backtrader backtests."""

from . import interrupt  # noqa: F401  # before Backtrader is imported

# isort: split
from . import analyzers, calculator, observers, plots, sizers, venues
from .backtest import run
from .broker import MarginBroker
from .comminfo import PerpCommInfo
from .core.account import MarginAccount, Risk
from .core.contract import Contract
from .core.funding import FundingSchedule
from .core.liquidation import bankruptcy_price, liquidation_price
from .core.orders import OrderTerms
from .core.profiles import plan_liquidation
from .core.tiers import Tier, TierSchedule, TierTable
from .core.top_up import TopUp
from .feeds import PerpData
from .hostplot import plot
from .plug import plug
from .report import Report
from .result import Result, version_of

__all__ = [
    "Contract",
    "FundingSchedule",
    "MarginAccount",
    "MarginBroker",
    "OrderTerms",
    "PerpCommInfo",
    "PerpData",
    "Report",
    "Result",
    "Risk",
    "Tier",
    "TierSchedule",
    "TierTable",
    "TopUp",
    "analyzers",
    "bankruptcy_price",
    "calculator",
    "liquidation_price",
    "observers",
    "plan_liquidation",
    "plot",
    "plots",
    "plug",
    "run",
    "sizers",
    "venues",
]


def __getattr__(name: str) -> str:
    if name == "__version__":  # read when it is asked for: to look it up takes longer than to import half the package
        return version_of("bt_margin")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

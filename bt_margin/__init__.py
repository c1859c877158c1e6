"""bt_margin: perpetual-futures margin, funding and liquidation for Backtrader backtests.

Names are looked up where they are first used, so that importing the package costs next to nothing and a program pays for
what it uses only.
"""

from . import interrupt  # noqa: F401  # before all others, Backtrader among them

# isort: split
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import analyzers, calculator, markets, observers, plots, scalers, sizers, venues
    from .backtest import run
    from .broker import MarginBroker
    from .cerebro import Cerebro
    from .comminfo import PerpCommInfo
    from .comparison import Comparison, compare
    from .core.account import MarginAccount, Risk
    from .core.contract import Contract
    from .core.funding import FundingSchedule
    from .core.liquidation import bankruptcy_price, liquidation_price
    from .core.orders import OrderTerms
    from .core.profiles import plan_liquidation
    from .core.tiers import Tier, TierSchedule, TierTable
    from .core.top_up import TopUp
    from .feeds import PerpData, load
    from .hostplot import plot
    from .plugging import plug
    from .report import Report
    from .resampling import resample
    from .result import Result

    __version__: str

__all__ = [
    "Cerebro",
    "Comparison",
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
    "compare",
    "liquidation_price",
    "load",
    "markets",
    "observers",
    "plan_liquidation",
    "plot",
    "plots",
    "plug",
    "resample",
    "run",
    "scalers",
    "sizers",
    "venues",
]

# The room of each name, as above for type checkers; no room may be called as a name that is in another one, which its import
# would put in that name's place.
_ROOMS = {
    "analyzers": None,
    "calculator": None,
    "markets": None,
    "observers": None,
    "plots": None,
    "scalers": None,
    "sizers": None,
    "venues": None,
    "run": "backtest",
    "MarginBroker": "broker",
    "Cerebro": "cerebro",
    "Comparison": "comparison",
    "compare": "comparison",
    "PerpCommInfo": "comminfo",
    "MarginAccount": "core.account",
    "Risk": "core.account",
    "Contract": "core.contract",
    "FundingSchedule": "core.funding",
    "bankruptcy_price": "core.liquidation",
    "liquidation_price": "core.liquidation",
    "OrderTerms": "core.orders",
    "plan_liquidation": "core.profiles",
    "Tier": "core.tiers",
    "TierSchedule": "core.tiers",
    "TierTable": "core.tiers",
    "TopUp": "core.top_up",
    "PerpData": "feeds",
    "load": "feeds",
    "plot": "hostplot",
    "plug": "plugging",
    "Report": "report",
    "resample": "resampling",
    "Result": "result",
}

if not TYPE_CHECKING:  # to a type checker a name that is not above is a mistake

    def __getattr__(name):
        if name == "__version__":
            return import_module(f"{__name__}.result").version_of(__name__)
        if name not in _ROOMS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        room = _ROOMS[name]
        found = import_module(f"{__name__}.{room or name}")
        value = found if room is None else getattr(found, name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__, "__version__"})

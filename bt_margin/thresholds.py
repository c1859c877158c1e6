"""Warning and margin call: what a trader hears before a wallet is liquidated (R31). They close nothing.

Both are rates of equity to maintenance margin of one wallet at a bar's close; liquidation is at 1.
"""

from collections.abc import Iterable, Iterator
from math import isfinite

from .core.account import MarginAccount, Marks
from .record import WarningRow

LIQUIDATION_RATE = 1.0
KINDS = ("warning", "margin_call")


class Thresholds:
    """The rates of one broker, and which wallets stand at or below them."""

    def __init__(self, warning_rate: float | None, call_rate: float | None) -> None:
        self.rates = [(kind, rate) for kind, rate in zip(KINDS, (warning_rate, call_rate), strict=True) if rate is not None]
        for kind, rate in self.rates:
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not (isfinite(rate) and rate > LIQUIDATION_RATE):
                raise ValueError(
                    f"the rate of a {kind.replace('_', ' ')} is equity / maintenance margin and above 1, where liquidation is, was {rate!r}"
                )
        if warning_rate is not None and call_rate is not None and warning_rate < call_rate:
            raise ValueError(f"a warning comes before a margin call: its rate of {warning_rate:g} must not be below {call_rate:g}")
        self._fallen: dict[str, int] = {}  # by wallet: how many of the rates it stands at or below

    def crossed(self, account: MarginAccount, wallets: Iterable[str], marks: Marks, time: float) -> Iterator[WarningRow]:
        """Yield a row for each rate that a wallet has fallen to since the bar before; one that has risen again is armed anew."""
        fallen: dict[str, int] = {}
        for wallet in wallets:
            risk = account.risk(wallet, marks)
            fallen[wallet] = sum(risk.equity <= rate * risk.maintenance_margin for _, rate in self.rates)
            for kind, rate in self.rates[self._fallen.get(wallet, 0) : fallen[wallet]]:
                yield WarningRow(time, kind, wallet, risk.equity, risk.maintenance_margin, rate)
        self._fallen = fallen

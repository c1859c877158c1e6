"""The table of a ladder before the trade, worked out by the account itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, inf, log10
from typing import TYPE_CHECKING, Any

from ..comminfo import PerpCommInfo, Tiers, venue_terms
from ..core.account import MarginAccount, check_leverage, is_number
from ..core.ladder import RungRow, climb
from .schemes import Scaler

if TYPE_CHECKING:
    import pandas as pd

SIDES = {"long": 1, "short": -1}
DASH = "-"
COLUMNS = (
    *("rung", "price", "from entry", "size", "average entry", "liquidation", "initial margin", "maintenance"),
    *("available", "to next rung", "stop"),
)


@dataclass(frozen=True)
class LadderTable:
    """The rungs of one ladder in the order in which they are reached; ``str()`` is a table of text, ``frame`` a DataFrame.

    Each row is the account once that rung has filled, with the mark at its price: ``RungRow`` says what its columns are.
    """

    scaler: Scaler
    symbol: str
    leverage: float
    margin_mode: str
    rows: tuple[RungRow, ...]

    @property
    def placed(self) -> list[RungRow]:
        """The rungs that are not refused."""
        return [row for row in self.rows if not row.refused]

    @property
    def heading(self) -> str:
        """What is scaled how: scheme, side, contract, leverage, margin mode."""
        side = "long" if self.rows[0].size > 0 else "short"
        return f"{type(self.scaler).__name__}, {side} {self.symbol} at {self.leverage:g}x {self.margin_mode}".replace("  ", " ")

    @property
    def refusals(self) -> list[str]:
        """One sentence for each rung that is refused."""
        return [f"Rung {row.number} is not placed: {row.refused}." for row in self.rows if row.refused]

    @property
    def frame(self) -> "pd.DataFrame":
        """The rows as numbers, by rung."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=list(RungRow._fields)).set_index("number")

    def cells(self) -> list[tuple[str, ...]]:
        """Return the rows as text, by ``COLUMNS``."""
        return [self._cells(row) for row in self.rows]

    def _cells(self, row: RungRow) -> tuple[str, ...]:
        side = 1 if row.size > 0 else -1
        return (
            f"{row.number}" + (" no" if row.refused else ""),
            _figure(row.price),
            f"{side * row.distance:+.2%}",
            f"{row.size:.8g}",
            _figure(row.entry_price),
            _figure(row.liquidation_price),
            *(_money(amount) for amount in (row.initial_margin, row.maintenance_margin, row.available_margin)),
            DASH if row.next_distance is None else f"{side * row.next_distance:+.2%}",
            _figure(row.stop_price),
        )

    def __str__(self) -> str:
        cells = [COLUMNS, *self.cells()]
        widths = [max(len(row[column]) for row in cells) for column in range(len(COLUMNS))]
        lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in cells]
        return "\n".join([self.heading, *lines, *self.refusals])


def ladder_table(
    scaler: Scaler,
    *,
    side: str,
    entry_price: float,
    size: float,
    wallet: float,
    leverage: float | None = None,
    margin_mode: str = "cross",
    venue: str | None = "binance",
    symbol: str = "BTCUSDT",
    tiers: Tiers = None,
    fee: float | None = None,
    date: str | None = None,
    atr: float | None = None,
    comminfo: PerpCommInfo | None = None,
) -> LadderTable:
    """Return the ladder that a scaler makes of an entry order: every rung, and the account after it.

    ``size`` (> 0, in contracts) is what the strategy would order, of which the first rung is a share; ``wallet`` is all the money of
    the account. ``atr`` is the average true range that schemes in its multiples need. Tiers, fees and lots are the venue's (as of
    ``date``, the newest unless given), but for ``tiers`` and ``fee`` where given; or, leverage too, those of a ``comminfo``. The
    entry is filled at ``entry_price``, each rung at its own price; funding is left out.

    >>> from bt_margin.scalers import Rectangle
    >>> table = ladder_table(
    ...     Rectangle(n=2, share=0.5, step=0.1), side="long", entry_price=100, size=10, wallet=400, leverage=5, tiers=0.01, venue=None
    ... )
    >>> [round(row.liquidation_price, 2) for row in table.rows]             # 0.99 x q x price = q x average - 400
    [20.2, 55.56]
    """
    if side not in SIDES:
        raise ValueError(f"side is 'long' or 'short', was {side!r}")
    for name, number in (("entry_price", entry_price), ("size", size), ("wallet", wallet)):
        if not (is_number(number) and number > 0):
            raise ValueError(f"{name} is a number above 0, was {number!r}")
    if comminfo is not None and any(given is not None for given in (leverage, tiers, fee)):
        raise ValueError("a comminfo says leverage, tiers and fee itself; leave them out, or leave the comminfo out")
    terms = _terms(venue, symbol, 1.0 if leverage is None else leverage, tiers, fee, date) if comminfo is None else comminfo
    leverage = terms.p.leverage
    contract, time = terms.contract(symbol), _LATE if date is None else _seconds(date)
    check_leverage(symbol, leverage, contract.tiers.at(time).brackets)
    account = MarginAccount()
    account.add_contract(contract, leverage=leverage, margin_mode=margin_mode, rules=terms.rules, time=time, orders=terms.p.order_terms)
    account.deposit(wallet, time=0)
    rows = climb(
        account, symbol, scaler.ladder(), side=SIDES[side], whole=size, entry_price=entry_price, marks={}, atr=atr, time=time
    )  # fmt: skip
    return LadderTable(scaler, symbol, leverage, margin_mode, tuple(rows))


_LATE = 4e9  # the year 2096: after every dated table


def _terms(venue: str | None, symbol: str, leverage: float, tiers: Tiers, fee: float | None, date: str | None) -> PerpCommInfo:
    from .. import venues

    rules = venues.load("generic" if venue is None else venue, date)
    contract = rules.contract(symbol) if fee is None else rules.contract(symbol).with_fee(fee, fee)
    own: Mapping[str, Any] = {"leverage": leverage, "tiers": contract.tiers if tiers is None else tiers}
    return PerpCommInfo(**own, **venue_terms(rules, contract, _LATE if date is None else _seconds(date)))


def _seconds(date: str) -> float:
    from datetime import UTC, datetime

    try:
        when = datetime.fromisoformat(date)
    except ValueError:
        raise ValueError(f"date is a day such as 2024-05-01, was {date!r}") from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _figure(price: float | None) -> str:
    """Return a price with six digits that count."""
    if price is None:
        return DASH
    if not price or abs(price) == inf:
        return f"{price:g}"
    return f"{price:,.{max(2, 5 - floor(log10(abs(price))))}f}"


def _money(amount: float | None) -> str:
    """Return money to the cent, less than a hundredth of which has four digits that count."""
    if amount is None:
        return DASH
    return f"{amount:,.2f}" if not amount or abs(amount) >= 1 else f"{amount:.4g}"

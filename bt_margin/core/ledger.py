"""The journal: every movement of money as a balanced entry.

An entry has a time (seconds, UTC), a kind, a symbol ('' where none is concerned) and postings, pairs of account and
amount that sum to zero. Money is the trader's: into a wallet is positive, so wallet balances are sums of their
postings and what the trader pays is positive on ``fees`` and negative on the wallet.

Accounts: ``wallet:cross``, ``wallet:SYMBOL`` (isolated; of a leg of a hedge ``wallet:SYMBOL:LONG``), ``fees``, ``funding``,
``pnl``, ``liquidation_fees``, ``insurance_fund``, ``external``. Kinds: ``deposit``, ``withdraw``, ``fill``, ``funding``, ``transfer``,
``liquidation_fee``, ``insurance_in``, ``insurance_out``, ``adjust``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import fsum, inf
from typing import NamedTuple

MONEY_TOLERANCE = 1e-9  # equality of money, relative to gross turnover: the one place it is defined

CROSS = "wallet:cross"


def wallet_of(symbol: str) -> str:
    """Return the name of a contract's isolated wallet."""
    return f"wallet:{symbol}"


class Entry(NamedTuple):
    """One balanced movement."""

    time: float
    kind: str
    symbol: str
    postings: tuple[tuple[str, float], ...]


class Row(NamedTuple):
    """One posting with its entry's facts, as the outside reads the journal; ``time`` is an aware UTC datetime."""

    time: datetime
    kind: str
    symbol: str
    account: str
    amount: float
    entry_id: int


@dataclass(frozen=True, slots=True)
class Journal:
    """Append-only run of entries; iterating yields one Row for each posting."""

    entries: list[Entry]

    @classmethod
    def empty(cls) -> "Journal":
        """Return a journal without entries."""
        return cls([])

    def post(self, time: float, kind: str, symbol: str, *postings: tuple[str, float]) -> None:
        """Append an entry; its postings must sum to zero."""
        assert len(postings) >= 2, f"a {kind} entry needs two ends, had {postings}"
        total = gross = 0.0
        for _, amount in postings:
            total += amount
            gross += abs(amount)
        # Rounding is far below half the tolerance: what a plain sum finds within that is balanced to the exact one, too.
        if not abs(total) <= 0.5 * MONEY_TOLERANCE * gross < inf:
            amounts = [amount for _, amount in postings]
            assert abs(fsum(amounts)) <= MONEY_TOLERANCE * fsum(map(abs, amounts)), f"unbalanced {kind} entry for {symbol}: {postings}"
        self.entries.append(Entry(time, kind, symbol, postings))

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Row]:
        for entry_id, (time, kind, symbol, postings) in enumerate(self.entries):
            when = datetime.fromtimestamp(time, UTC)
            for account, amount in postings:
                yield Row(when, kind, symbol, account, amount, entry_id)

    def balances(self) -> dict[str, float]:
        """Return the sum of every account's postings."""
        amounts: dict[str, list[float]] = {}
        for entry in self.entries:
            for account, amount in entry.postings:
                amounts.setdefault(account, []).append(amount)
        return {account: fsum(values) for account, values in amounts.items()}

    def turnover(self) -> float:
        """Return the gross money moved, the yardstick of every money tolerance."""
        return fsum(abs(amount) for entry in self.entries for _, amount in entry.postings)

    def imbalance(self) -> float:
        """Return the largest sum of one entry's postings relative to turnover; 0 in a sound journal."""
        turnover = self.turnover()
        worst = max((abs(fsum(amount for _, amount in entry.postings)) for entry in self.entries), default=0.0)
        return worst / turnover if turnover else 0.0

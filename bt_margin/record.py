"""What a run leaves behind besides the journal: one row a bar, and the fills, funding and liquidations.

The broker writes it, results and pictures read it. Times are seconds since 1970 UTC; a bar's time is its closing
instant. In hedge mode a row is of one leg, and its symbol ``SYMBOL:LONG`` or ``SYMBOL:SHORT``.
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from .basket import Spread
from .passed import TERMS, HeldRuns, HoldingTerms, Passed, write_holdings

if TYPE_CHECKING:
    import numpy as np

BAR_COLUMNS = (
    "time",
    "equity",
    "lowest_equity",
    "wallet_balance",
    "initial_margin",
    "maintenance_margin",
    "order_margin",
    "available_margin",
    "notional",
)
HOLDING_COLUMNS = (
    *("row", "number", "size", "entry_price", "mark_price", "wallet_balance", "is_isolated"),
    *("leverage", "terms_since", "set_aside"),
)
FIELDS = len(BAR_COLUMNS)

SPECK = 1e-20  # of the first deposit: what an account without money is shown as where a ratio or a logarithm needs more than 0


class FillRow(NamedTuple):
    """One execution; ``size`` is the fill's, signed; ``fee`` is positive when it costs."""

    time: float
    symbol: str
    size: float
    price: float
    fee: float
    realized_pnl: float
    maker: bool
    liquidation: bool
    order_ref: int


class FundingRow(NamedTuple):
    """One stamp on one position; ``amount`` is what the account received."""

    time: float
    symbol: str
    size: float
    mark_price: float
    rate: float
    amount: float


class RefusalRow(NamedTuple):
    """One order, or the opening part of one, that was not taken: why, what it needed, what there was, what would have fitted.

    ``reason`` is a word of ``desk.REASONS``, ``message`` the sentence.
    ``needed`` and ``max_size`` are None where no price was known yet.
    """

    time: float
    symbol: str
    size: float
    reason: str
    message: str
    needed: float | None
    available: float
    max_size: float | None
    order_ref: int


class LiquidationRow(NamedTuple):
    """One position, or a part of one, taken from its owner: a step of a liquidation.

    ``size`` is what was taken, of the position's sign; ``price`` the owner's, ``mark_price`` the trigger's; ``trigger`` says
    what met the boundary: gap, funding, fill, path or close; ``realized_pnl`` excludes the fee; ``returned`` went back to the
    cross wallet from an isolated one; the two fund columns are what the insurance fund got and gave, ``forfeited`` of this was
    left in the emptied wallet. The owner has lost ``realized_pnl - fee - forfeited``. ``worst_mark`` is the worst that one of
    the bar's two paths had still to show it, ``leverage`` the one that was set; what would have kept it alive in that bar:
    ``margin_to_add`` (more than this in its wallet) or any leverage below ``safe_leverage`` (effective leverage in cross;
    None where none of 1 or more), see ``core.rescue``.
    """

    time: float
    symbol: str
    size: float
    price: float
    mark_price: float
    trigger: str
    fee: float
    returned: float
    to_insurance_fund: float
    from_insurance_fund: float
    certainty: str
    realized_pnl: float
    margin_mode: str
    entry_price: float
    leverage: float
    worst_mark: float
    margin_to_add: float
    safe_leverage: float | None
    forfeited: float

    @property
    def loss(self) -> float:
        """What the owner lost, negative as money lost is: profit less fee less what was forfeited."""
        return self.realized_pnl - self.fee - self.forfeited


class WarningRow(NamedTuple):
    """One wallet or position that has fallen to a threshold at the close of a bar (R31).

    ``kind`` is 'warning' or 'margin_call', ``account`` the wallet: 'wallet:cross' or 'wallet:SYMBOL'. ``measure`` says what the
    ``threshold`` is of: 'rate', equity / maintenance margin of the wallet (then also in ``rate``); 'distance', of the mark of
    ``symbol`` to its liquidation price as a fraction of the mark; 'atr', the same distance in average true ranges.
    ``distance`` is the fraction of both, ``average_range`` the average true range. What a measure has not is None.
    """

    time: float
    kind: str
    account: str
    equity: float
    maintenance_margin: float
    rate: float | None
    measure: str
    threshold: float
    symbol: str
    mark_price: float | None
    liquidation_price: float | None
    distance: float | None
    average_range: float | None


class TopUpRow(NamedTuple):
    """Margin that a rule has added to a wallet where it would have been liquidated.

    ``symbol`` is the contract's ('' of the cross wallet), ``trigger`` as of a liquidation; ``uses`` of the rule went into it;
    ``equity`` and ``maintenance_margin`` are the wallet's before it. Money ``from_outside`` was a deposit, else it came from the
    cross wallet.
    """

    time: float
    symbol: str
    account: str
    amount: float
    uses: int
    trigger: str
    equity: float
    maintenance_margin: float
    from_outside: bool


class FlowRow(NamedTuple):
    """Money from outside (out: negative) after the start: ``bar`` is the first, from 0, whose equity contains it.

    ``kind`` is 'transfer' (``add_cash``), 'adjust' (cash set by a strategy), 'refill' or 'top_up'; ``equity`` is what the
    account had before it, at that instant. A top-up comes in inside its bar: ``lowest`` is the least equity from it to the next
    one or the bar's end.
    """

    time: float
    bar: int
    kind: str
    amount: float
    equity: float
    lowest: float = inf


@dataclass(slots=True)
class Record:
    """The recorded series of one run.

    ``looked`` holds BAR_COLUMNS of the bars that got a look, one row after the other, ``passed`` the other bars by what their
    rows follow from, ``held`` what was held at the close of bars that got a look. Of the ``walked_bars``, whose path was planned,
    ``ambiguous_bars`` are those on which the two market paths differ in what they liquidate or fill, and
    ``only_worst_bars`` those on which a contract is liquidated by 'worst' alone. Of the contracts that have finer bars,
    ``detailed`` counts the walked bars that took theirs, ``undetailed`` those that had to take their path.
    """

    looked: array = field(default_factory=lambda: array("d"))
    passed: Passed = field(default_factory=Passed)
    held: dict[int, HeldRuns] = field(default_factory=dict)  # by number of the contract
    spread: Spread | None = None  # what many contracts held on bars that took the short road of many
    fills: list[FillRow] = field(default_factory=list)
    funding: list[FundingRow] = field(default_factory=list)
    liquidations: list[LiquidationRow] = field(default_factory=list)
    refusals: list[RefusalRow] = field(default_factory=list)
    warnings: list[WarningRow] = field(default_factory=list)
    top_ups: list[TopUpRow] = field(default_factory=list)
    flows: list[FlowRow] = field(default_factory=list)
    closest_call: float = inf
    bars_held: int = 0
    walked_bars: int = 0
    ambiguous_bars: int = 0
    only_worst_bars: int = 0
    detailed: Counter[str] = field(default_factory=Counter)
    undetailed: Counter[str] = field(default_factory=Counter)
    gap_stamps: int = 0

    def __len__(self) -> int:
        return len(self.looked) // FIELDS + self.passed.bars

    @property
    def bars_passed(self) -> int:
        """How many bars were passed in lulls."""
        return self.passed.bars

    def column(self, name: str) -> array:
        """Return one of BAR_COLUMNS."""
        if not self.passed.bars:
            return self.looked[BAR_COLUMNS.index(name) :: FIELDS]
        return array("d", self.columns([name])[name].tobytes())

    def tail(self, name: str, row: int) -> "np.ndarray":
        """Return one of BAR_COLUMNS from a row (from 0) on, at the cost of the rows returned."""
        import numpy as np

        late = self.passed.since(row)
        column, is_looked = np.empty(len(self) - row), np.ones(len(self) - row, dtype=bool)
        for bars in late.groups():
            is_looked[bars.rows] = False
            bars.write({name: column})
        looked = self.looked[len(self.looked) - (len(column) - late.bars) * FIELDS :]
        column[is_looked] = looked[BAR_COLUMNS.index(name) :: FIELDS]
        return column

    def table(self) -> "np.ndarray":
        """Return a row of BAR_COLUMNS for every bar."""
        return self._rows_of(BAR_COLUMNS).T

    def columns(self, names: Sequence[str]) -> "dict[str, np.ndarray]":
        """Return some of BAR_COLUMNS as arrays by name."""
        return dict(zip(names, self._rows_of(names), strict=True))

    def _rows_of(self, names: Sequence[str]) -> "np.ndarray":
        """Return an array with a row for each of these columns."""
        import numpy as np

        table = np.empty((len(names), len(self)))
        columns, is_looked = dict(zip(names, table, strict=True)), np.ones(len(self), dtype=bool)
        for bars in self.passed.groups():
            is_looked[bars.rows] = False
            bars.write(columns)
        looked, rows = np.frombuffer(self.looked, np.float64).reshape(-1, FIELDS), np.flatnonzero(is_looked)
        for name, column in columns.items():
            column[rows] = looked[:, BAR_COLUMNS.index(name)]
        return table

    def note_held(self, row: int, terms: HoldingTerms, mark: float) -> None:
        """Note that a contract is held at the close of a bar, on these terms and at this mark."""
        number = terms[0]
        if number not in self.held:
            self.held[number] = HeldRuns()
        self.held[number].add(row, terms, mark)

    def holdings(self) -> "np.ndarray":
        """Return a row of HOLDING_COLUMNS for every contract held at a bar's close, by bar and in the order of the datas."""
        import numpy as np

        spread = self.spread.holdings() if self.spread is not None else np.empty((0, len(HOLDING_COLUMNS)))
        count = sum(map(len, self.held.values())) + self.passed.holdings
        table, end = np.empty((count + len(spread), len(HOLDING_COLUMNS)), order="F"), 0
        for runs in self.held.values():
            end += len(runs)
            runs.write(table[end - len(runs) : end])
        for bars in self.passed.groups():
            for held in bars.positions:
                end += len(bars.rows)
                write_holdings(table[end - len(bars.rows) : end], bars.rows, held.carried[:, : len(TERMS)], bars.lengths, held.mark)
        table[end:] = spread
        order = np.lexsort((table[:, 1], table[:, 0]))
        for column in table.T:  # one by one, for a copy of all is as large as what it is a copy of
            column[:] = column[order]
        return table

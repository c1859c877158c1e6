"""What a venue says about a contract besides its tiers. A figure that no source gives is None, never a guess."""

from dataclasses import dataclass

from ..core.funding import DEBITS, PRICES

KINDS = ("linear", "inverse")


@dataclass(frozen=True, slots=True)
class FundingFacts:
    """When a contract pays funding and within which bounds; rates are fractions per interval, ``floor`` is negative.

    ``price`` is the price a payment is computed with: 'mark' or 'oracle'. ``debit`` is what pays a fee: 'position',
    'free_first' or 'capped', see ``core.contract.Contract``.
    """

    interval_hours: float
    cap: float | None = None
    floor: float | None = None
    price: str = "mark"
    debit: str = "position"

    def __post_init__(self) -> None:
        if not self.interval_hours > 0:
            raise ValueError(f"a funding interval is a positive number of hours, was {self.interval_hours:g}")
        if self.price not in PRICES:
            raise ValueError(f"funding is paid at {' or '.join(map(repr, PRICES))}, was {self.price!r}")
        if self.debit not in DEBITS:
            raise ValueError(f"a funding fee is taken by {', '.join(map(repr, DEBITS))}, was {self.debit!r}")
        if self.cap is not None and self.floor is not None and self.cap < self.floor:
            raise ValueError(f"the funding cap {self.cap:g} is below the floor {self.floor:g}")


@dataclass(frozen=True, slots=True)
class ContractFacts:
    """The filters of a contract: sizes in contracts, prices in quote currency, ``min_notional`` in quote currency.

    ``multiplier`` is base units per contract, of an inverse contract its quote value; ``max_size`` is the largest market
    order.
    """

    symbol: str
    kind: str
    multiplier: float | None = None
    lot: float | None = None
    tick: float | None = None
    min_size: float | None = None
    max_size: float | None = None
    min_notional: float | None = None
    liquidation_fee: float | None = None

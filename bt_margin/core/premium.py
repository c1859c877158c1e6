"""How venues make a funding rate: premium over the index, its average, interest and caps."""

from collections.abc import Sequence
from math import inf

INTEREST = 0.0001  # a day's 0.03 % over three intervals of 8 hours
CLAMP = 0.0005
IMPACT_MARGIN = 200.0  # quote money, Binance


def premium_index(*, impact_bid: float, index_price: float, impact_ask: float = inf) -> float:
    """Return the premium of the book over the index: [max(0, bid - index) - max(0, index - ask)] / index.

    Impact prices are the averages at which the impact margin notional fills. Source: Binance, funding FAQ; Hyperliquid,
    funding docs (with its oracle price as the index); retrieved 2026-11-21.

    >>> premium_index(impact_bid=10_100, impact_ask=10_110, index_price=10_000)
    0.01
    """
    return (max(impact_bid - index_price, 0.0) - max(index_price - impact_ask, 0.0)) / index_price


def average_premium(premiums: Sequence[float], *, late_weighs_more: bool) -> float:
    """Return the mean of an interval's samples; where late ones weigh more, sum(i * premium_i) / sum(i), i from 1.

    Source: Bybit, introduction to the funding rate (late minutes weigh more); Hyperliquid averages plainly; retrieved
    2026-11-21.

    >>> average_premium([0.0, 0.0, 0.0012], late_weighs_more=True)          # 3 x 0.0012 / 6
    0.0006
    """
    if not premiums:
        raise ValueError("an average premium needs at least one sample, had none")
    weights = range(1, len(premiums) + 1) if late_weighs_more else [1] * len(premiums)
    return sum(weight * premium for weight, premium in zip(weights, premiums, strict=True)) / sum(weights)


def funding_rate(*, premium: float, interest: float = INTEREST, clamp: float = CLAMP, cap: float = inf) -> float:
    """Return the rate of an interval: premium + (interest - premium, at most ``clamp`` either way), at most ``cap`` either way.

    Near the index the rate is the interest alone. Source: Binance, Bybit, Gate and Hyperliquid, funding documents,
    retrieved 2026-11-21; Hyperliquid pays an eighth of it every hour.

    >>> funding_rate(premium=0.0004), round(funding_rate(premium=0.01), 6)
    (0.0001, 0.0095)
    """
    rate = min(max(interest, premium - clamp), premium + clamp)  # the same sum, exact where the interest stands
    return min(max(rate, -cap), cap)


def impact_notional(*, max_leverage: float, margin: float = IMPACT_MARGIN) -> float:
    """Return the notional whose average fills are the impact prices: ``margin`` / initial rate at the highest leverage.

    Source: Binance, funding FAQ, retrieved 2026-11-21.

    >>> impact_notional(max_leverage=20)
    4000.0
    """
    return margin * max_leverage

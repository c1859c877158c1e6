"""What an asset that is not the settlement currency counts for as collateral."""


def collateral_value(
    *, balance: float, index_price: float = 1.0, bid_buffer: float = 0.0, ask_buffer: float = 0.0, rate: float = 1.0
) -> float:
    """Return the value of a balance: index_price * (1 - bid_buffer) each, of a debt index_price * (1 + ask_buffer).

    ``rate`` is the collateral rate, the share of an asset's value that a venue counts (a haircut of 5 % is 0.95); a debt
    counts in full.
    Sources: Binance, FAQ c983a9268cfa4e70a4916c276bb3b7bc and the trading rules of multi-assets mode, retrieved
    2026-11-21.

    >>> round(collateral_value(balance=100, index_price=0.99, bid_buffer=0.01), 4), round(collateral_value(balance=1_000, rate=0.95), 4)
    (98.01, 950.0)
    """
    if balance < 0:
        return balance * index_price * (1 + ask_buffer)
    return balance * index_price * (1 - bid_buffer) * rate

"""Which liquidations came before the stop: told from a finished run by what its sizer decided."""

from typing import Any, NamedTuple

from .past import Decision

LEGS = (":LONG", ":SHORT")


class ByStop(NamedTuple):
    """Liquidations of a run by where the mark stood: ``before_stop`` (it had not come to the stop), ``past_stop``, ``without_stop``.

    What is liquidated in several steps within one bar counts once, by the first. ``past_stop`` is a bar that went through the stop and
    the liquidation price both, before the stop was at work or without a fill between them; or a strategy that did not use its stop.
    """

    before_stop: int
    past_stop: int
    without_stop: int


def liquidations_by_stop(strategy: Any) -> ByStop:
    """Return how many liquidations of a finished strategy came before the stop that its sizer knew of at the last entry.

    The sizer is one of this package, the broker a MarginBroker; of a strategy with another sizer all are without a stop.
    """
    decisions = [decision for decision in getattr(strategy.getsizer(), "decisions", ()) if decision.size]
    counts, seen = [0, 0, 0], set()
    for row in strategy.broker.record.liquidations:
        if (row.time, row.symbol) in seen:
            continue
        seen.add((row.time, row.symbol))
        side = 1 if row.size > 0 else -1
        stop = _stop_behind(decisions, row.symbol.removesuffix(LEGS[0]).removesuffix(LEGS[1]), side, row.time)
        counts[2 if stop is None else 0 if (row.mark_price - stop) * side > 0 else 1] += 1
    return ByStop(*counts)


def _stop_behind(decisions: list[Decision], symbol: str, side: int, time: float) -> float | None:
    """Return the stop of the last decision before a time for a contract and a side."""
    for decision in reversed(decisions):
        if decision.time < time and (decision.symbol, decision.side) == (symbol, side):
            return decision.stop
    return None

"""Which position of a contract is meant: its only one, or in hedge mode its long or its short leg (R25).

In hedge mode a data has two slots, each with its own position, tiers, funding and trades. An order names its leg by
``position_side='LONG'`` or ``'SHORT'``, and the exits of a bracket inherit it. The host's ``positions`` show the net, which
no order trades against. Trades of the two legs are kept apart by their trade ids: the side, and behind it one that the
strategy gives itself (``'LONG'``, ``'LONG:7'``).
"""

from typing import TYPE_CHECKING, Any

import backtrader as bt

from .core.account import SIDES, MarginAccount
from .core.contract import RESIDUE
from .slots import Slot

if TYPE_CHECKING:
    from .basket import Basket
    from .lull import Lull


class Legs(bt.brokers.BackBroker):
    """The part of MarginBroker that finds the slot of a data or an order."""

    account: MarginAccount
    lull: "Lull"
    basket: "Basket"
    _slots: dict[str, Slot]
    contracts: dict[str, tuple[Slot, ...]]  # by name: one slot, or those of the long and the short leg
    _legs_by_data: dict[int, tuple[Slot, ...]]

    @property
    def slots(self) -> dict[str, Slot]:
        """The slots of the run by symbol, as of the last bar; what was kept from an earlier one may be behind."""
        self.lull.catch_up()
        self.basket.catch_up()
        return self._slots

    @property
    def is_hedging(self) -> bool:
        """Whether a contract can be held long and short at once."""
        return bool(self.p.position_mode == "hedge")

    def legs_of(self, data: Any) -> tuple[Slot, ...]:
        """Return the slots of a data of this run: one, or those of its long and its short leg."""
        self.lull.catch_up()
        return self._legs_by_data[id(data)]

    def slot_of(self, data: Any, side: str | None = None) -> Slot:
        """Return the slot of a data of this run, in hedge mode that of a side."""
        legs = self.legs_of(data)
        if len(legs) > 1 and side not in SIDES:
            raise ValueError(f"{legs[0].name}: in hedge mode a side is 'LONG' or 'SHORT', was {side!r}")
        if len(legs) == 1 and side is not None:
            raise ValueError(f"{legs[0].name}: {_no_sides(legs[0], 'side')}, was {side!r}")
        return next(leg for leg in legs if leg.side == side)

    def slot_for(self, order: Any) -> Slot:
        """Return the slot that an order changes; of one that names no side, and is rejected for it, the one it would open."""
        legs = self.legs_of(order.data)
        if len(legs) == 1:
            return legs[0]
        side = order.info.get("position_side")
        if side not in SIDES:
            side = "LONG" if order.isbuy() else "SHORT"
        return legs[SIDES.index(side)]

    def held_leg(self, data: Any, side: str | None) -> Slot:
        """Return the slot of a side; without one the only slot, or the leg that is held where the other is not."""
        legs = self.legs_of(data)
        if side is not None or len(legs) == 1:
            return self.slot_of(data, side)
        held = [leg for leg in legs if leg.position.size]
        if len(held) > 1:
            raise ValueError(f"{legs[0].name}: a long and a short are held and this is of one of them; say side='LONG' or side='SHORT'")
        return held[0] if held else legs[0]

    def getposition(self, data, side=None):
        """Return the position of a data, or of its 'LONG' or 'SHORT' leg; without a side hedge mode shows the net of both.

        The net has the size of both together and the entry price of the larger one.
        """
        if side is None:
            return self.positions[data]
        position = self.slot_of(data, side).position
        return bt.position.Position(position.size, position.entry_price)

    def close_side(self, data, side, **kwargs):
        """Send the order that closes a leg of a hedge, and return it; None where nothing is held.

        ``kwargs`` are those of ``buy`` and ``sell`` (``size``, ``exectype``, ``price``, ...). The trade that it closes is the
        oldest of the leg unless ``tradeid`` names another. A data that has no sides is closed by ``Strategy.close``.
        """
        slot = self.slot_of(data, side)
        if slot.side is None:
            raise ValueError(f"{slot.name}: it has no sides to close one of; close what is held by the strategy's own close()")
        held = slot.position.size
        if not held:
            return None
        owner, tradeid = next(iter(slot.lots), (self.cerebro.runningstrats[0], side))
        terms = {"size": abs(held), "tradeid": tradeid.removeprefix(side).removeprefix(":"), **kwargs}
        return (self.sell if held > 0 else self.buy)(owner, data, position_side=side, **terms)

    def net_of(self, data: Any) -> tuple[float, float]:
        """Return the size (signed) and the entry price that the host is shown of a data."""
        legs = self.legs_of(data)
        if len(legs) == 1:
            return legs[0].position.size, legs[0].position.entry_price
        net, gross = (sum(sizes) for sizes in ([leg.position.size for leg in legs], [abs(leg.position.size) for leg in legs]))
        if abs(net) <= RESIDUE * gross:
            return 0.0, 0.0
        return net, legs[0 if net > 0 else 1].position.entry_price

    def _take_side(self, order: Any) -> None:
        """Give an exit the side of its entry, and an order the trade id of its leg."""
        info = order.info
        if order.parent is not None and info.get("position_side") is None and "position_side" in order.parent.info:
            info["position_side"] = order.parent.info["position_side"]
        side = self.slot_for(order).side
        if side is not None and not info.get("liquidation"):
            order.tradeid = f"{side}:{order.tradeid}" if order.tradeid else side

    def _side_refusal(self, order: Any) -> str | None:
        """Return why the side of an order is none that it can trade on, None where it is."""
        side, slot = order.info.get("position_side"), self.slot_for(order)
        if slot.side is None:
            return None if side is None else f"{slot.name}: {_no_sides(slot, 'position_side')}, was {side!r}"
        if side is None:
            return (
                f"{slot.name}: in hedge mode an order names its leg, position_side='LONG' or position_side='SHORT'; "
                "to close one use broker.close_side(data, side)"
            )
        return None if side in SIDES else f"{slot.name}: position_side is 'LONG' or 'SHORT', was {side!r}"

    def reduces(self, order: Any) -> bool:
        """Whether an order can only close: a reduce-only one, and in hedge mode one against its leg (R25)."""
        if order.info.get("reduce_only"):
            return True
        return bool(self.account.legs) and self.account.only_closes(self.slot_for(order).symbol, order.size)


def _no_sides(slot: Slot, name: str) -> str:
    if slot.position.contract.kind == "spot":
        return f"spot has one position and no {name}; leave it out"
    return f"a {name} belongs to hedge mode; leave it out, or run with position_mode='hedge'"

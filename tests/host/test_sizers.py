"""The two simplest sizers by hand, under margin and on stock Backtrader."""

import backtrader as bt
import pytest
from playing import CALM, frame

from bt_margin.backtest import run
from bt_margin.sizers import EquityFraction, MarginFraction


class BuyTwiceThenSell(bt.Strategy):
    """Buys after bars 1 and 2, sells after bar 3, each by its sizer."""

    def next(self):
        if len(self) <= 2:
            self.buy()
        elif len(self) == 3:
            self.sell()


def fills(sizer: type[bt.Sizer], fraction: float, *, leverage: float = 10) -> list[float]:
    candles = frame([CALM, CALM, (100, 110, 100, 110), (110, 110, 110, 110), (110, 110, 110, 110)])
    result = run(
        BuyTwiceThenSell, {"X": candles}, venue="generic", leverage=leverage, cash=1_000, sizer=(sizer, {"fraction": fraction})
    )  # fmt: skip
    return list(result.fills["size"])


def test_an_equity_fraction_is_an_effective_leverage():
    # 1.5 x 1 000 / 100; again, for the close is still 100; then what closes both
    assert fills(EquityFraction, 1.5) == pytest.approx([15, 15, -30])
    assert fills(EquityFraction, 1.5, leverage=50) == pytest.approx([15, 15, -30])


def test_a_margin_fraction_is_a_share_of_what_is_available_at_the_leverage():
    # 20 % of 1 000 at 10x: 2 000 / 100 = 20; then 20 % of the 800 that are left: 16
    assert fills(MarginFraction, 0.2) == pytest.approx([20, 16, -36])
    assert fills(MarginFraction, 0.2, leverage=5) == pytest.approx([10, 8, -18])


def test_nothing_is_bought_with_what_stock_backtrader_owes():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame([CALM] * 4)))
    cerebro.addstrategy(BuyTwiceThenSell)
    cerebro.addsizer(EquityFraction)
    cerebro.broker.setcommission(leverage=10)
    cerebro.broker.setcash(1_000)
    cerebro.broker.getvalue = lambda *_: -5.0
    assert not cerebro.run()[0].broker.orders


@pytest.mark.parametrize("sizer", [EquityFraction, MarginFraction])
@pytest.mark.parametrize("fraction", [0, -1, float("nan"), float("inf")])
def test_a_fraction_that_is_none_is_refused(sizer, fraction):
    with pytest.raises(ValueError, match=f"{sizer.__name__}: fraction is a"):
        sizer(fraction=fraction)

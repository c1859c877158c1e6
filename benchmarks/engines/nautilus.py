"""Workload W with NautilusTrader: a linear perpetual on a margin account. Its market orders fill at the close they are sent on."""

from decimal import Decimal
from typing import Any

from common import CASH, FAST, FEE, LEVERAGE, SLOW, UNITS, frame, report
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig
from nautilus_trader.indicators import SimpleMovingAverage
from nautilus_trader.model.currencies import BTC, USDT
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import CryptoPerpetual
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.persistence.wranglers import BarDataWrangler
from nautilus_trader.trading.strategy import Strategy

VENUE = Venue("SIM")
DIGITS = 8  # of a price, of which it holds a fixed number


def contract() -> CryptoPerpetual:
    return CryptoPerpetual(
        instrument_id=InstrumentId(Symbol("PERP"), VENUE),
        raw_symbol=Symbol("PERP"),
        base_currency=BTC,
        quote_currency=USDT,
        settlement_currency=USDT,
        is_inverse=False,
        price_precision=DIGITS,
        price_increment=Price(10**-DIGITS, DIGITS),
        size_precision=3,
        size_increment=Quantity(0.001, 3),
        ts_event=0,
        ts_init=0,
        margin_init=Decimal("0.2"),
        margin_maint=Decimal("0.004"),
        maker_fee=Decimal(str(FEE)),
        taker_fee=Decimal(str(FEE)),
    )


class Cross(Strategy):
    def __init__(self, instrument: CryptoPerpetual, bars: BarType) -> None:
        super().__init__()
        self.instrument, self.bars = instrument, bars
        self.fast, self.slow = SimpleMovingAverage(FAST), SimpleMovingAverage(SLOW)
        self.held = self.fills = 0

    def on_start(self) -> None:
        self.register_indicator_for_bars(self.bars, self.fast)
        self.register_indicator_for_bars(self.bars, self.slow)
        self.subscribe_bars(self.bars)

    def on_bar(self, bar: Bar) -> None:
        if not self.slow.initialized:
            return
        target = UNITS if self.fast.value > self.slow.value else -UNITS
        if self.held != target:
            side = OrderSide.BUY if target > self.held else OrderSide.SELL
            size = self.instrument.make_qty(abs(target - self.held))
            self.submit_order(self.order_factory.market(self.instrument.id, side, size))

    def on_order_filled(self, event: Any) -> None:
        self.fills += 1
        self.held += int(event.last_qty) if event.is_buy else -int(event.last_qty)


def main() -> None:
    candles = frame().tz_localize("UTC").assign(volume=1e6)  # orders are filled from the volume of a bar, else in many parts
    instrument = contract()
    bars = BarType.from_str(f"{instrument.id}-1-MINUTE-LAST-EXTERNAL")

    def run() -> dict[str, Any]:
        engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
        engine.add_venue(VENUE, OmsType.NETTING, AccountType.MARGIN, [Money(CASH, USDT)], default_leverage=Decimal(int(LEVERAGE)))
        engine.add_instrument(instrument)
        engine.add_data(BarDataWrangler(bars, instrument).process(candles))
        strategy = Cross(instrument, bars)
        engine.add_strategy(strategy)
        engine.run()
        account = engine.portfolio.account(VENUE)
        open_profit = engine.portfolio.unrealized_pnls(VENUE).get(USDT, Money(0, USDT))
        return {"fills": strategy.fills, "equity": float(account.balance_total(USDT)) + float(open_profit)}

    report(run)


if __name__ == "__main__":
    main()

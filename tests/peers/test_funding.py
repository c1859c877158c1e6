"""What other backtesters were reported to get wrong about funding; each thread with a scenario that can be redone by hand.

The terms are those of ``playing``, in cross unless a test says isolated; a payment is -size x mark x rate, at the stamp.
"""

import backtrader as bt
import pandas as pd
import pytest
from playing import buy, close, frame, play, rate_column, sell

from bt_margin import FundingSchedule, Result, run

STILL = (100, 100, 100, 100)
CROSS = {"margin_mode": "cross"}
HOUR = 3_600


def at(price):
    return (price,) * 4


def amounts(strategy):
    return [row.amount for row in strategy.broker.record.funding]


def hours_of(strategy):
    return [f"{pd.Timestamp(row.time, unit='s'):%H:%M}" for row in strategy.broker.record.funding]


def stamped(**rates):
    """Return rates by the time on the first of January 2024, 'h08_00_00_007' being 7 ms past eight."""
    index = [pd.Timestamp("2024-01-01 {}:{}:{}.{}".format(*key[1:].split("_")), tz="UTC") for key in rates]
    return pd.Series(list(rates.values()), index=index)


# -- signs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opening", "rate", "received"),
    [(buy(size=5), 0.01, -5), (buy(size=5), -0.01, 5), (sell(size=5), 0.01, 5), (sell(size=5), -0.01, -5)],
    ids=["long pays", "long receives", "short receives", "short pays"],
)
def test_a_positive_rate_is_paid_by_longs_and_a_negative_one_by_shorts(opening, rate, received):
    """freqtrade#6231 and #6185: the sign was turned, and every long earned. 5 at 100 and 1 % are 5."""
    strategy = play({1: opening}, frame([STILL] * 4, start="2024-01-01 06:00"), funding=rate_column(d0108=rate), **CROSS)
    assert amounts(strategy) == [pytest.approx(received)]
    assert strategy.broker.equity == pytest.approx(1_000 + received)


@pytest.mark.parametrize("rate", [0.003, -0.003])
def test_what_one_side_pays_the_other_receives(rate):
    """freqtrade#6231: a conservation check. 7 long and 7 short of two contracts at one price and rate leave the wallet as it was."""
    bars = frame([STILL] * 4, start="2024-01-01 06:00")
    script = {1: lambda s: (s.buy(s.datas[0], size=7), s.sell(s.datas[1], size=7))}
    strategy = play(script, bars, bars, funding=rate_column(d0108=rate), **CROSS)
    assert sum(amounts(strategy)) == 0
    assert max(amounts(strategy)) == pytest.approx(7 * 100 * 0.003)
    assert strategy.broker.wallet_balance == pytest.approx(1_000)


# -- the size that pays --------------------------------------------------------------------------------------------------


def test_every_settlement_is_an_entry_of_the_size_held_at_its_instant():
    """freqtrade#9626 and #7291: funding was wrong after adjustments. 1, then 3, then 2, then nothing is held at 02, 04, 06 and 08 o'clock.

    At marks of 100, 110 and 90: -1 x 100 x 1 %, -3 x 110 x 2 %, and 2 x 90 x 1 % received of a negative rate.
    """
    script = {1: buy(size=1), 3: buy(size=2), 5: sell(size=1), 7: close}
    bars = [STILL, STILL, STILL, at(110), at(110), at(90), at(90), at(90), at(90), at(90)]
    rates = rate_column(d0102=0.01, d0104=0.02, d0106=-0.01, d0108=0.03)
    strategy = play(script, frame(bars, start="2024-01-01 00:00"), funding=rates, **CROSS)
    booked = [(row.size, row.mark_price, row.amount) for row in strategy.broker.record.funding]
    assert booked == [(1, 100, pytest.approx(-1)), (3, 110, pytest.approx(-6.6)), (2, 90, pytest.approx(1.8))]
    assert strategy.broker.journal.balances()["funding"] == pytest.approx(1 + 6.6 - 1.8)


def test_a_position_closed_in_parts_pays_each_settlement_once():
    """freqtrade#7291 and #7969: every exit counted all funding again. 6 are sold by twos at 03, 05 and 07; of 600, 400, 200 1 % are 12."""
    script = {1: buy(size=6), 3: sell(size=2), 5: sell(size=2), 7: sell(size=2)}
    rates = rate_column(d0102=0.01, d0104=0.01, d0106=0.01, d0108=0.01)
    strategy = play(script, frame([STILL] * 10, start="2024-01-01 00:00"), funding=rates, **CROSS)
    assert amounts(strategy) == pytest.approx([-6, -4, -2])
    result = Result.of(strategy)
    assert result.summary["funding"] == pytest.approx(-12)
    assert list(result.trades["funding"]) == pytest.approx([-12])


def test_what_is_bought_at_a_settlement_does_not_pay_it():
    """freqtrade#7969: the settlement of the hour of an entry. Bought at the open of 08:00: that stamp met nothing, 16:00 meets 5."""
    bars = frame([STILL] * 12, start="2024-01-01 06:00")
    strategy = play({2: buy(size=5)}, bars, funding=rate_column(d0108=0.01, d0116=0.01), **CROSS)
    assert hours_of(strategy) == ["16:00"]


# -- when it is paid -----------------------------------------------------------------------------------------------------


def test_intervals_are_those_of_the_stamps():
    """freqtrade#12583: most contracts do not settle every 8 hours. After 8 hours twice come 4, 1 and 1; five rates of 100 are paid."""
    rates = rate_column(d0108=0.001, d0116=0.002, d0120=0.003, d0121=0.004, d0122=0.005)
    strategy = play({1: buy()}, frame([STILL] * 24, start="2024-01-01 00:00"), funding=rates, **CROSS)
    assert hours_of(strategy) == ["08:00", "16:00", "20:00", "21:00", "22:00"]
    assert amounts(strategy) == pytest.approx([-0.1, -0.2, -0.3, -0.4, -0.5])


def test_a_daily_bar_pays_all_the_settlements_of_its_day():
    """HKUDS/Vibe-Trading#1290: daily bars paid once a day. Bought at the open of the second: 08, 16 and 24 o'clock of it, and of the third.

    The stamp of its opening met nothing; that of the last midnight belongs to a bar that there is not. At a still 100 each is 0.1.
    """
    bars = frame([STILL] * 3, start="2024-01-01", freq="D")
    schedule = FundingSchedule.constant(0.001, first=pd.Timestamp("2024-01-01").timestamp(), last=pd.Timestamp("2024-01-05").timestamp())
    strategy = play({1: buy()}, bars, funding=schedule, **CROSS)
    assert hours_of(strategy) == ["08:00", "16:00", "00:00", "08:00", "16:00"]
    assert amounts(strategy) == pytest.approx([-0.1] * 5)


def test_milliseconds_beside_the_hour_neither_drop_a_settlement_nor_charge_the_wrong_position():
    """HKUDS/Vibe-Trading#819: venues stamp 08:00:00.007, which no bar does. Bought at 08:00: that one is over, the two later count."""
    rates = stamped(h08_00_00_007=0.01, h09_59_59_994=0.01, h12_00_00_012=0.01)
    held = play({1: buy()}, frame([STILL] * 8, start="2024-01-01 06:00"), funding=rates, **CROSS)
    late = play({2: buy()}, frame([STILL] * 8, start="2024-01-01 06:00"), funding=rates, **CROSS)
    assert hours_of(held) == ["08:00", "10:00", "12:00"]
    assert hours_of(late) == ["10:00", "12:00"]


def test_a_settlement_that_no_bar_opens_at_is_paid_once():
    """shobhit727/trade#30: a boundary crossed between two bars was missed. Bars of 45 minutes open at 07:30 and 08:15; 08:00 is between."""
    bars = frame([STILL] * 5, start="2024-01-01 06:00", freq="45min")
    strategy = play({1: buy()}, bars, funding=rate_column(d0108=0.01), **CROSS)
    assert (hours_of(strategy), amounts(strategy)) == (["08:00"], [pytest.approx(-1)])


def test_nothing_is_charged_before_its_settlement():
    """cloudQuant forks of the host: the next bar's rate was charged a bar early. Bars open at 06, 07, 08: only the third is poorer."""
    strategy = play({1: buy()}, frame([STILL] * 4, start="2024-01-01 06:00"), funding=rate_column(d0108=0.01), **CROSS)
    assert list(strategy.broker.record.column("equity")) == pytest.approx([1_000, 1_000, 999, 999])


# -- what is not known ---------------------------------------------------------------------------------------------------


class Buyer(bt.Strategy):
    """Buys 1 and keeps it."""

    def next(self):
        if not self.position:
            self.buy(size=1)


def flags(**arguments):
    """Return what a run of two days says of itself."""
    return run(Buyer, {"AAAUSDT": frame([STILL] * 49, start="2024-01-01 00:00")}, venue=None, **arguments).summary["flags"]


def told(flags, start):
    return [flag for flag in flags if flag.startswith(start)]


def test_a_run_without_funding_says_so():
    """freqtrade#6857: missing rates were 0 without a word."""
    assert told(flags(), "no funding: AAAUSDT")
    assert not told(flags(funding=0.0001), "no funding")


def test_rates_that_end_before_the_candles_do_are_told_with_the_time_that_is_missing():
    """freqtrade#10888: history without rates counted as 0. Two days of candles, rates of the first 8 hours."""
    (flag,) = told(flags(funding=rate_column(d0100=0.0, d0108=0.01)), "no funding stamps, none paid: AAAUSDT 2024-01-01T08:00:00Z")
    assert "2024-01-03T01:00:00Z" in flag


def test_one_rate_for_all_is_a_policy_that_the_result_states():
    """freqtrade#6857: a constant may stand in, if it is told: 0.01 % every 8 hours."""
    assert told(flags(funding=0.0001), "constant funding of 0.0001 per 8 h: AAAUSDT")


def test_a_rate_that_is_no_number_is_an_error():
    """freqtrade#10888: a blank among the rates is no 0."""
    with pytest.raises(ValueError, match="must be a finite fraction, was nan"):
        FundingSchedule((8 * HOUR, 16 * HOUR), (0.0001, float("nan")))


# -- what follows from it ------------------------------------------------------------------------------------------------


def test_the_liquidation_price_moves_with_every_payment():
    """mirror29/inalpha#115: it stayed as it was when the position opened. Long 1 isolated from 100 with 10: 90 / 0.99.

    1 % of 100 leaves 9 and 91 / 0.99; 2 % received leave 11 and 89 / 0.99. The account dies by the price that is told last.
    """
    prices = []

    def look(strategy):
        prices.append(strategy.broker.liquidation_price(strategy.data))

    bars = frame([STILL, STILL, STILL, STILL, (100, 100, 89.95, 100)], start="2024-01-01 00:00")
    strategy = play({1: buy(), 2: look, 3: look, 4: look}, bars, funding=rate_column(d0102=0.01, d0103=-0.02))
    assert prices == pytest.approx([90 / 0.99, 91 / 0.99, 89 / 0.99])
    assert strategy.broker.record.liquidations == []
    killed = play({1: buy()}, bars, funding=rate_column(d0102=0.01))
    assert killed.broker.record.liquidations[0].mark_price == pytest.approx(91 / 0.99)

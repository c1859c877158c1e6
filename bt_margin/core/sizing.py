"""How much to trade: the formulas behind the sizing rules.

Sizes are contracts without sign, money is in the settlement currency (coin, of an inverse contract), rates are fractions.
``units`` of one contract at a price are its notional: multiplier * price, inverse multiplier / price. Outcomes of past trades
are given in the order in which they closed, each as a multiple of what was staked: of notional, or of what was risked.
"""

from collections.abc import Callable, Iterable, Sequence
from math import floor, fsum, inf, isfinite, log, sqrt
from typing import NamedTuple

from .contract import notional, unrealized_pnl
from .liquidation import EDGE_SLACK
from .tiers import Bracket

MOST_FRACTION = 1 - 1e-9  # of the worst loss: at 1 the worst trade takes everything
MOST_LOG = 700.0  # of a number that a float still holds
HALVINGS = 60  # of an interval of fractions, to the last digit
COARSE_HALVINGS = 10  # of one that comes from a few hundred draws: to a thousandth


def contracts_worth(money: float, *, price: float, multiplier: float = 1.0, kind: str = "linear") -> float:
    """Return the size whose notional is ``money``, 0 where that is less than nothing.

    q = N / (multiplier * price), inverse N * price / multiplier. Every rule that names a notional ends here: fixed notional N,
    leverage target N = lambda * E, margin fraction N = a * W * L.
    Sources: Van Tharp, "Trade Your Way to Financial Freedom", equal units; Ralph Vince, "Portfolio Management Formulas", 1990.

    >>> contracts_worth(2 * 10_000, price=50_000), contracts_worth(0.5, price=40_000, multiplier=100, kind="inverse")
    (0.4, 200.0)
    """
    _check_price("a price", price)
    return max(money, 0.0) / notional(size=1.0, price=price, multiplier=multiplier, kind=kind)


def loss_per_contract(
    *,
    price: float,
    stop: float,
    entry_fee: float = 0.0,
    exit_fee: float = 0.0,
    slippage: float = 0.0,
    multiplier: float = 1.0,
    kind: str = "linear",
) -> float:
    """Return the money that one contract loses from an entry to its stop.

    multiplier * (|P - S| + f_in * P + f_out * S + s * S); inverse the same in 1 / price. Fees and slippage are fractions of
    notional, a rebate takes off. A stop above the price is a short's.
    Source: Van Tharp, per cent risk model; fees and slippage as the founding articles ask.

    >>> loss_per_contract(price=100, stop=95, entry_fee=0.001, exit_fee=0.001)
    5.194999999999999
    """
    _check_price("a price", price)
    _check_price("a stop", stop)
    side = 1.0 if stop < price else -1.0
    move = -unrealized_pnl(size=side, entry_price=price, mark_price=stop, multiplier=multiplier, kind=kind)
    worth, worth_at_stop = (notional(size=1.0, price=at, multiplier=multiplier, kind=kind) for at in (price, stop))
    return move + entry_fee * worth + (exit_fee + slippage) * worth_at_stop


def risk_size(money: float, loss: float) -> float:
    """Return the size that loses ``money`` where one contract loses ``loss``: q = r * E / loss; endless where it loses nothing.

    Source: Van Tharp, per cent risk model.

    >>> risk_size(0.01 * 10_000, 500)
    0.2
    """
    return max(money, 0.0) / loss if loss > 0 else inf


def move_size(money: float, *, move: float, price: float, multiplier: float = 1.0, kind: str = "linear") -> float:
    """Return the size for which a move of the price is worth ``money``: q = r * E / (k * A), with k * A the move.

    Of a linear contract move * multiplier is what one contract gains or loses; of an inverse one it is
    multiplier / price * move / price, the first term of its profit, the same both ways.
    Sources: Van Tharp, per cent volatility model; Curtis Faith, "Way of the Turtle" (one unit: 1 % of equity over N).

    >>> move_size(100, move=2 * 250, price=50_000)
    0.2
    """
    _check_price("a price", price)
    each = multiplier * move if kind != "inverse" else multiplier / price * (move / price)
    return risk_size(money, each)


def volatility_leverage(target: float, volatility: float) -> float:
    """Return the leverage at which an account has the target volatility: lambda = sigma* / sigma, both of a year.

    Source: Robert Carver, "Systematic Trading", 2015.

    >>> volatility_leverage(0.4, 0.8)
    0.5
    """
    return target / volatility if volatility > 0 else inf


def annual_volatility(variance: float, bar_seconds: float) -> float:
    """Return the volatility of a year of 365 days from the variance of one bar's returns: sqrt(v * year / bar).

    >>> round(annual_volatility(0.02**2, 86_400), 6)              # 2 % a day x sqrt(365)
    0.382099
    """
    return sqrt(variance * 365 * 86_400 / bar_seconds)


def buffered(target: float, held: float, buffer: float) -> float:
    """Return what to add to ``held`` on its side to come to ``target``, 0 within ``buffer`` (a fraction of the target) or above it.

    Source: Robert Carver, "Systematic Trading", 2015, position inertia.

    >>> buffered(10, 9.5, 0.1), buffered(10, 8, 0.1), buffered(10, 12, 0.1)
    (0.0, 2, 0.0)
    """
    lacking = target - held
    return lacking if lacking > buffer * target else 0.0


# -- from past trades ---------------------------------------------------------------------------------------------------


def kelly(win_rate: float, payoff: float) -> float:
    """Return Kelly's fraction of equity to risk: phi = p - (1 - p) / b, below 0 where the bet loses.

    ``payoff`` is what is won over what is lost. Of a coin whose bet is doubled or lost, phi = 2p - 1.
    Source: J. L. Kelly, "A New Interpretation of Information Rate", 1956.

    >>> round(kelly(0.55, 1.0), 12), kelly(0.5, 2.0)
    (0.1, 0.25)
    """
    if not 0 <= win_rate <= 1:
        raise ValueError(f"a win rate is a fraction from 0 to 1, was {win_rate}")
    if not payoff > 0:
        raise ValueError(f"a payoff is what is won over what is lost, above 0, was {payoff}")
    return win_rate - (1 - win_rate) / payoff


def kelly_of_trades(outcomes: Sequence[float]) -> float:
    """Return Kelly's fraction of past trades: p is the share of wins, b the mean win over the mean loss.

    A trade that made nothing counts as a loss. With nothing but wins phi is 1, with none it is -inf.

    >>> kelly_of_trades([2.0, -1.0, 2.0, -1.0])
    0.25
    """
    wins, losses = ([x for x in outcomes if (x > 0) == is_win] for is_win in (True, False))
    if not wins:
        return -inf
    lost = -fsum(losses)
    if not lost > 0:
        return 1.0
    return kelly(len(wins) / len(outcomes), fsum(wins) / len(wins) / (lost / len(losses)))


def kelly_leverage(mean: float, variance: float, rate: float = 0.0) -> float:
    """Return the leverage of the fastest growth: lambda = (mu - r) / sigma^2, all of the same span; below 0 a short.

    Of lognormal prices mu is the arithmetic drift: that of the mean price, log-drift + sigma^2 / 2.
    Source: E. O. Thorp, "The Kelly Criterion in Blackjack, Sports Betting, and the Stock Market", 2006.

    >>> kelly_leverage(0.08, 0.2**2)
    1.9999999999999996
    """
    if not variance > 0:
        raise ValueError(f"a variance is above 0, was {variance}; returns that never differ have no Kelly leverage")
    return (mean - rate) / variance


def growth_rate(leverage: float, mean: float, variance: float) -> float:
    """Return the growth of the logarithm of wealth at a leverage: g = lambda * mu - lambda^2 * sigma^2 / 2.

    Half of Kelly's leverage keeps three quarters of the growth at half the volatility; twice of it keeps none.
    Source: E. O. Thorp, 2006.

    >>> growth_rate(1, 0.08, 0.04), growth_rate(2, 0.08, 0.04), growth_rate(4, 0.08, 0.04)
    (0.06, 0.08, 0.0)
    """
    return leverage * mean - leverage**2 * variance / 2


def mean_and_variance(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample variance (n - 1) of two values or more.

    >>> mean_and_variance([1.0, 3.0])
    (2.0, 2.0)
    """
    mean = fsum(values) / len(values)
    return mean, fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def optimal_fraction(outcomes: Sequence[float]) -> float:
    """Return the f at which past trades would have multiplied money most: argmax of the product of 1 + f * T / |T_min|.

    Stake f * E / |T_min| units, so that the worst trade so far would cost the share f of equity. 0 where the trades lost on the
    whole. Where none lost there is no f: ValueError.
    Source: Ralph Vince, "Portfolio Management Formulas", 1990.

    >>> round(optimal_fraction([2.0, -1.0]), 9)
    0.25
    """
    worst = -min(outcomes, default=0.0)
    if not worst > 0:
        raise ValueError("optimal f is a share of the worst loss, and none of the trades has lost; wait for one")
    shares = [outcome / worst for outcome in outcomes]

    def is_rising(f: float) -> bool:
        return fsum(share / (1 + f * share) for share in shares) > 0

    return _last_fraction(is_rising, MOST_FRACTION, HALVINGS) if is_rising(0.0) else 0.0


def falls_deeper(shares: Iterable[float], f: float, drawdown: float) -> bool:
    """Return whether wealth that is multiplied by 1 + f * share, for each share in turn, falls by more than ``drawdown`` from a peak.

    >>> falls_deeper([0.5, -0.5, -0.5], 1.0, 0.7), falls_deeper([0.5, -0.5, -0.5], 1.0, 0.75)
    (True, False)
    """
    wealth = peak = 1.0
    for share in shares:
        wealth *= 1.0 + f * share
        if wealth > peak:
            peak = wealth
        elif wealth < (1.0 - drawdown) * peak:
            return True
    return False


def secure_fraction(outcomes: Sequence[float], draws: Sequence[Sequence[int]], *, drawdown: float, chance: float) -> float:
    """Return the largest f, up to optimal f, at which at most a share ``chance`` of the draws falls by more than ``drawdown``.

    A draw is a run of trades by their numbers: the bootstrap of the past. To a thousandth of optimal f.
    Source: Ralph Vince, "The Handbook of Portfolio Mathematics", 2007, and Zamansky and Stendahl, "Secure Fractional Money
    Management", 1998.

    >>> draws = [[0, 1, 1], [1, 1, 0], [0, 0, 1], [1, 0, 0]]
    >>> round(secure_fraction([2.0, -1.0], draws, drawdown=0.2, chance=0.5), 4)       # two of four fall by f alone
    0.2
    """
    worst, most = -min(outcomes, default=0.0), optimal_fraction(outcomes)
    shares = [outcome / worst for outcome in outcomes]
    paths = [[shares[number] for number in draw] for draw in draws]

    def is_secure(f: float) -> bool:
        allowed = chance * len(paths) * (1 + EDGE_SLACK)
        for path in paths:
            allowed -= falls_deeper(path, f, drawdown)
            if allowed < 0:
                return False
        return True

    return most if is_secure(most) else _last_fraction(is_secure, most, COARSE_HALVINGS)


def _last_fraction(holds: Callable[[float], bool], most: float, halvings: int) -> float:
    """Return the largest fraction for which a claim holds that holds from 0 up to somewhere below ``most``."""
    low, high = 0.0, most
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def fixed_ratio_units(profit: float, delta: float) -> int:
    """Return the whole units that a closed profit allows: N = floor((1 + sqrt(1 + 8 * profit / delta)) / 2), at least 1.

    Going from N units to N + 1 takes N * delta of profit.
    Source: Ryan Jones, "The Trading Game", 1999.

    >>> [fixed_ratio_units(profit, 500) for profit in (-900, 0, 499, 500, 1_499, 1_500)]
    [1, 1, 1, 2, 2, 3]
    """
    if not delta > 0:
        raise ValueError(f"delta is the profit that the second unit takes, above 0, was {delta}")
    units = floor((1 + sqrt(1 + 8 * max(profit, 0.0) / delta)) / 2)
    return units + 1 if profit >= units * (units + 1) / 2 * delta else units  # the root may lie a digit below a whole number


def streak_factor(outcomes: Sequence[float], *, after_loss: bool, factor: float, most: int) -> float:
    """Return by how much a stake is multiplied: factor ** k, with k the losses (wins) in a row at the end, at most ``most``.

    A win (loss) takes it back to 1. ``after_loss`` is the martingale, otherwise the anti-martingale (Paroli).

    >>> streak_factor([1, -1, -2], after_loss=True, factor=2, most=4), streak_factor([-1, 3], after_loss=False, factor=2, most=4)
    (4, 2)
    """
    run = 0
    for outcome in reversed(outcomes):
        if (outcome <= 0) != after_loss or run == most:
            break
        run += 1
    return factor**run if run * log(factor) < MOST_LOG else inf


def drawdown_factor(drawdown: float, *, most: float, power: float = 1.0) -> float:
    """Return max(0, 1 - DD / D) ** gamma, by which a size shrinks on the way down; nothing is traded from D on.

    >>> drawdown_factor(0.15, most=0.3), drawdown_factor(0.4, most=0.3)
    (0.5, 0.0)
    """
    return float(max(0.0, 1 - drawdown / most) ** power)


def turtle_factor(drawdown: float, *, step: float = 0.1, cut: float = 0.2) -> float:
    """Return (1 - cut) ** (whole steps of drawdown): the account is treated as a fifth smaller for each tenth lost.

    Source: Curtis Faith, "Way of the Turtle", 2007.

    >>> [round(turtle_factor(drawdown), 3) for drawdown in (0.05, 0.1, 0.25)]
    [1.0, 0.8, 0.64]
    """
    return float((1 - cut) ** floor(drawdown / step * (1 + EDGE_SLACK)))


def cushion_notional(equity: float, peak: float, *, floor_share: float, multiple: float) -> float:
    """Return the notional that a floor under the peak allows: M * (E - alpha * E_peak), at least 0.

    Sources: Grossman and Zhou, "Optimal Investment Strategies for Controlling Drawdowns", 1993; Cvitanic and Karatzas, 1994.

    >>> cushion_notional(9_000, 10_000, floor_share=0.7, multiple=3)
    6000.0
    """
    return float(max(multiple * (equity - floor_share * peak), 0.0))


# -- by margin ----------------------------------------------------------------------------------------------------------


class Adverse(NamedTuple):
    """An entry at ``price`` and the adverse mark ``at`` that it has to survive: below the price of a long, above a short's.

    ``brackets`` measure the notional in the settlement currency (``TierTable.brackets``, ``Holding.brackets``); ``entry_fee`` is a
    fraction of the notional at the price; ``buffer`` (beta) how many times its maintenance margin the wallet still holds there.
    """

    price: float
    at: float
    brackets: Sequence[Bracket]
    entry_fee: float = 0.0
    buffer: float = 1.0
    multiplier: float = 1.0
    kind: str = "linear"


def surviving_size(wallet: float, case: Adverse, *, held: float = 0.0) -> float:
    """Return the largest size whose wallet still has ``buffer`` times its maintenance margin at the adverse price.

        long  q = (W + beta * c) / (P * (1 + f) - B * (1 - beta * m))
        short q = (W + beta * c) / (B * (1 + beta * m) - P * (1 - f))

    with m the rate and c the amount of the tier that holds q * B, MM = m * q * B - c. Marginal requirements are the highest of
    their tiers' lines, so that tier is the one with the smallest answer. Inverse contracts take the other side's formula in
    1 / price. Endless where no tier ends it. ``wallet`` is what backs the position: of a shared wallet its balance, plus the
    unrealized profit of the other positions, less beta times their maintenance margin; and the profit at B of ``held`` contracts
    of the same side. Requirements that jump (slab tiers) have no such form. At buffer 1 the liquidation price of what is opened
    at P lies at B. Derived from the account inequality; checked against ``liquidation_price`` on random tables.

    >>> tiers = (Bracket(50_000, 0.004, 0.0, 125), Bracket(250_000, 0.005, 50.0, 100))
    >>> round(surviving_size(1_000, Adverse(50_000, 49_000, tiers)), 6)        # 1 000 / (50 000 - 49 000 x 0.996)
    0.83612
    """
    _check_price("a price", case.price)
    _check_price("an adverse price", case.at)
    entry, adverse = (notional(size=1.0, price=at, multiplier=case.multiplier, kind=case.kind) for at in (case.price, case.at))
    is_falling = adverse < entry  # the notional falls on the way: a linear long, an inverse short
    most = inf
    for bracket in case.brackets:
        rate = case.buffer * bracket.rate
        each = entry * (1 + case.entry_fee) - adverse * (1 - rate) if is_falling else adverse * (1 + rate) - entry * (1 - case.entry_fee)
        money = wallet + case.buffer * bracket.amount - rate * adverse * held
        most = min(most, money / each if each > 0 else inf if money >= 0 else 0.0)
    return max(most, 0.0)


def margin_to_survive(size: float, case: Adverse) -> float:
    """Return the margin that an isolated position needs to hold ``buffer`` times its maintenance margin at the adverse price.

    long M = q * P - B * q * (1 - beta * m) - beta * c, short M = B * q * (1 + beta * m) - beta * c - q * P: the loss to there and the
    maintenance there; the opening fee is paid besides. Then the liquidation price lies at B (buffer 1), or beyond.

    >>> round(margin_to_survive(2, Adverse(100, 95, (Bracket(inf, 0.01, 0.0, 100),))), 9)      # 2 x 5 + 2 x 95 x 1 %
    11.9
    """
    entry, adverse = (notional(size=size, price=at, multiplier=case.multiplier, kind=case.kind) for at in (case.price, case.at))
    bracket = next((row for row in case.brackets if adverse <= row.cap), case.brackets[-1])
    return abs(entry - adverse) + case.buffer * (bracket.rate * adverse - bracket.amount)


def implied_leverage(worth: float, margin: float) -> float:
    """Return the leverage at which opening a notional takes this margin.

    >>> implied_leverage(200, 12.5)
    16.0
    """
    return worth / margin if margin > 0 else inf


def whole_leverage(leverage: float) -> float:
    """Return a leverage cut to a whole number, as venues take them, at least 1: towards more margin.

    >>> whole_leverage(16.8), whole_leverage(0.4)
    (16.0, 1.0)
    """
    return max(float(floor(leverage * (1 + EDGE_SLACK))), 1.0) if isfinite(leverage) else leverage


def worth_at_ratio(equity: float, others: float, *, ratio: float, fee: float = 0.0) -> float:
    """Return the notional to open at which equity is still ``ratio`` of all notional: (E - x * N) / (x + f), at least 0.

    ``others`` is the notional held already, the fee a fraction of what is opened.
    Source: the founding articles' margin ratio, equity over notional, and their alert at 10 %.

    >>> worth_at_ratio(1_000, 4_000, ratio=0.1)
    6000.0
    """
    return max(equity - ratio * others, 0.0) / (ratio + fee)


def largest_share(share: float, others: float) -> float:
    """Return the notional at which a contract is ``share`` of the whole with the others': others * share / (1 - share).

    Endless where there are no others: a book of one contract is whole whatever it holds.

    >>> largest_share(0.5, 3_000), round(largest_share(0.2, 8_000), 6)
    (3000.0, 2000.0)
    """
    return others * share / (1 - share) if others > 0 else inf


def _check_price(what: str, price: float) -> None:
    if not (isfinite(price) and price > 0):
        raise ValueError(f"{what} is a finite number above 0, was {price}")

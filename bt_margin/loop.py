"""The tight run loop: the host's vectorised run, without what is known before the first bar.

The host moves every line of every data and indicator by a call of its own, asks every data what comes next, and tells
cash and value to whoever does not listen. Where all datas have the same stamps and were loaded in one go, all of this
can be planned. The loop does the rest in the host's order: the same calls of strategies, analyzers, observers and the
broker, with the same lengths and lines. ``why_not`` says where it cannot be sure of that.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from math import inf, nan
from typing import Any

import backtrader as bt
from backtrader.brokers import BackBroker
from backtrader.linebuffer import LineBuffer
from backtrader.lineseries import Lines, LineSeries, LineSeriesStub

from .broker import MarginBroker
from .feeds import PerpData
from .hosttrade import note, tell, tell_all
from .late import Late, waiting

# What the loop does in place of the host: whoever overrides one of these is run by the host's loop.
ENGINE_HOOKS = ("_brokernotify", "_check_timers", "_next_writers")
STRATEGY_HOOKS = ("_oncepost", "forward", "_getminperstatus", "_next_analyzers", "_next_observers", "clear")
FEED_HOOKS = ("advance", "advance_peek", "__len__")
CASH_READS = ("getcash", "getvalue", "fundvalue", "fundshares")
# An analyzer's hooks, those that the host calls and those that they call.
STEPPING, ACTING = ("_prenext", "_nextstart", "_next"), ("prenext", "nextstart", "next")
TELLING, HEARING = ("_notify_cashvalue", "_notify_fund"), ("notify_cashvalue", "notify_fund")

MOVED = "a data has been moved by hand"


def stay_silent(self: Any, *_: Any) -> None:
    """Do nothing: an analyzer whose hook this is says that the run loop may leave it out."""


# -- whether the loop applies --------------------------------------------------------------------------------------------


def why_not(cerebro: bt.Cerebro, strategies: Sequence[bt.Strategy]) -> str:
    """Return why the tight loop does not apply to a run whose datas are loaded, '' where it does."""
    if cerebro._timers or cerebro._timerscheat:
        return "there are timers"
    for name in ("cheat_on_open", "quicknotify"):
        if getattr(cerebro.p, name):
            return f"{name} is on"
    if cerebro.writers_csv:
        return "a writer writes every bar"
    named = _overridden(cerebro, bt.Cerebro, ENGINE_HOOKS)
    if named:
        return f"{type(cerebro).__name__} overrides {named}"
    return _why_not_datas(cerebro.datas) or next(filter(None, (_why_not_strategy(each, cerebro.datas) for each in strategies)), "")


def _why_not_datas(datas: Sequence[Any]) -> str:
    for data in datas:
        if not isinstance(data, PerpData):
            return f"{_title(data)} is a {type(data).__name__}, not a PerpData"
        if not data._bulk:
            return f"{_title(data)} was loaded bar by bar, for a filter or a subclass that wants to see each"
        named = _overridden(data, PerpData, FEED_HOOKS)
        if named:
            return f"{type(data).__name__} overrides {named}"
    stamps, last = datas[0].lines.datetime.array, datas[0]._row
    for data in datas:
        if data._row != last or data.lines.datetime.array != stamps:
            return f"{_title(data)} has other stamps than {_title(datas[0])}"
    return ""


def _why_not_strategy(strategy: Any, datas: Sequence[Any]) -> str:
    name = type(strategy).__name__
    named = _overridden(strategy, bt.Strategy, STRATEGY_HOOKS)
    if named:
        return f"{name} overrides {named}"
    if strategy._oldsync:
        return f"{name} wants oldsync"
    if strategy.lines.datetime.bindings:
        return f"{name} hands its datetime line on to another"
    if [*map(id, strategy.datas)] != [*map(id, datas)]:
        return f"{name} has other datas than its Cerebro"
    return ""


def _title(data: Any) -> str:
    return data._name or type(data).__name__


def _overridden(thing: Any, base: type, names: Iterable[str]) -> str:
    """Return the first of these methods that is not the base's any more, by a subclass or on the object; '' where all are."""
    return next((name for name in names if getattr(getattr(thing, name), "__func__", None) is not getattr(base, name)), "")


# -- the loops -----------------------------------------------------------------------------------------------------------


def run_tight(cerebro: bt.Cerebro, datas: Sequence[Any], strategies: Sequence[Any]) -> str:
    """Run all bars, or up to the end of a bar after which the plan no longer stands, and return what it was then."""
    lines = [line for data in datas for line in data.lines.lines]
    if any(line._idx != -1 or line.lencount for line in lines):
        return "a data has been moved before the first bar"
    leaders = [data.lines.lines[0] for data in datas]
    broker = cerebro._broker
    late = [waiting(broker, strategy._lineiterators[strategy.ObsType]) for strategy in strategies]
    steps = [_stepper(*each, lines) for each in zip(strategies, late, strict=True)]
    try:
        return _run_bars(cerebro, lines, leaders, strategies, steps)
    finally:
        for observers in late:
            observers.write()


def _run_bars(
    cerebro: bt.Cerebro,
    lines: Sequence[Any],
    leaders: Sequence[Any],
    strategies: Sequence[Any],
    steps: Sequence[Callable[[int, float], None]],
) -> str:
    stamps, bars = cerebro.datas[0].lines.datetime.array, cerebro.datas[0]._row + 1
    broker = cerebro._broker
    queued, events = _queues(broker)
    watched = [_sizes(strategy) for strategy in strategies]
    # Two loops for two kinds of line: Python is quicker where one place sees one type.
    read, unread = [[line for line in lines if (type(line) is LineBuffer) is is_read] for is_read in (True, False)]
    for index in range(bars):
        # What a strategy may have done on the bar before that the plan knows nothing of.
        for line in leaders:
            if line._idx != index - 1:
                return MOVED
        for indicators, indicator_count, analyzers, analyzer_count, slaves, slave_count in watched:
            if len(indicators) != indicator_count or len(analyzers) != analyzer_count or len(slaves) != slave_count:
                return "an indicator or an analyzer has been added"
        if cerebro._broker is not broker:
            return "the broker has been replaced"

        length = index + 1
        for line in read:  # by plain assignment: this is what the host's advance() comes to
            line._idx = index
            line.lencount = length
        for line in unread:
            line._idx = index
            line.lencount = length

        broker.next()
        if queued or events:
            deliver(cerebro, broker, queued)
        if cerebro._event_stop:
            return ""

        for step in steps:
            step(index, stamps[index])
            if cerebro._event_stop:
                return ""
    return "" if all(line._idx == bars - 1 for line in leaders) else MOVED  # a bar may come again


def _stepper(strategy: Any, late: Late, data_lines: Iterable[Any]) -> Callable[[int, float], None]:
    """Return the function that takes a strategy through a bar once the datas and the broker have been."""
    moving, odd = _moving_lines(strategy._lineiterators[strategy.IndType], data_lines)
    # Two loops for two kinds of line: Python is quicker where one place sees one type.
    plain_lines = [line for line in moving if type(line) is LineBuffer]
    other_lines = [line for line in moving if type(line) is not LineBuffer]
    stamp_line, *own_lines = strategy.lines.lines
    # A strategy looks for every attribute in vain among its lines' first, so what is read on every bar is read from its dict.
    own = vars(strategy)
    act, goes_about = strategy.next, "next" in own
    warm_up, is_told = max(strategy._minperiods), _is_told(strategy)
    all_analyzers, analyzer_count = strategy.analyzers._items, len(strategy.analyzers)
    analyzers = [analyzer for analyzer in all_analyzers if _acts(analyzer, STEPPING, ACTING)]
    observers, notify = strategy._lineiterators[strategy.ObsType], tell_all if is_told else tell
    observe = _observing(strategy, late)

    def step(index: int, stamp: float) -> None:
        length = index + 1
        for line in plain_lines:
            line._idx = index
            line.lencount = length
        for line in other_lines:
            line._idx = index
            line.lencount = length
        for indicator in odd:
            if len(indicator._clock) > len(indicator):
                indicator.advance()

        # Its own lines grow with the run, each from where it is: a strategy may have moved them.
        stamp_line.array.append(nan)
        stamp_line._idx = last = stamp_line._idx + 1
        stamp_line.lencount += 1
        stamp_line.array[last] = stamp
        for line in own_lines:
            line.forward()

        if is_told or own["_orderspending"] or own["_tradespending"]:
            notify(strategy)
        own["_minperstatus"] = status = warm_up - length
        if status < 0:
            if goes_about or "next" in own:  # put there by a strategy that goes from one way of acting to another
                strategy.next()
            else:
                act()
        elif status == 0:
            strategy.nextstart()
        else:
            strategy.prenext()
        if len(all_analyzers) != analyzer_count:  # one has been added in this bar, and the host calls it in this bar
            strategy._next_analyzers(status, once=True)
        else:
            for analyzer in analyzers:
                (analyzer._next if status < 0 else analyzer._nextstart if status == 0 else analyzer._prenext)()
        if observers:
            observe(index, status)
        # Not by clear(), which keeps every copy for nobody: most of the memory that a long run of orders would need.
        if own["_orderspending"] or own["_tradespending"]:
            own["_orderspending"], own["_tradespending"] = [], []

    return step


def _observing(strategy: Any, late: Late) -> Callable[[int, int], None]:
    """Return the function that takes a strategy's observers through a bar: as the host does, but for those that wait."""
    kinds, kind = strategy._lineiterators, strategy.ObsType
    every, stamp_line = kinds[kind], strategy.lines.lines[0]
    waiting_ones, count = set(map(id, late.observers)), len(every)  # by identity: to compare them would make an indicator
    prompt = [observer for observer in every if id(observer) not in waiting_ones]

    def observe(index: int, status: int) -> None:
        if not late.is_over and (len(every) != count or stamp_line.lencount != index + 1):
            late.write()  # what the host does now is not known before
        if late.is_over:
            strategy._next_observers(status, once=True)
            return
        late.note(index)
        if prompt:
            kinds[kind] = prompt
            try:
                strategy._next_observers(status, once=True)
            finally:
                kinds[kind] = every

    return observe


def deliver(cerebro: bt.Cerebro, broker: Any, queued: Any) -> None:
    """Hand a broker's notifications to the strategies that own them, to the first one where none does.

    ``queued`` are those that are known to be next, as ``_queues`` has them.
    """
    while type(queued) is deque and queued:
        order = queued.popleft()
        note(cerebro.runningstrats[0] if order.owner is None else order.owner, order)
    while (order := broker.get_notification()) is not None:
        owner = cerebro.runningstrats[0] if order.owner is None else order.owner
        note(owner, order)


def run_on(cerebro: bt.Cerebro, datas: Sequence[Any], strategies: Sequence[Any]) -> None:
    """Run the bars that are left by the host's own calls."""
    while (now := min(data.advance_peek() for data in datas)) != inf:
        for data in datas:
            if data.advance_peek() <= now:
                data.advance()
        cerebro._brokernotify()
        if cerebro._event_stop:
            return
        for strategy in strategies:
            strategy._oncepost(now)
            if cerebro._event_stop:
                return


# -- what stands for the whole run ---------------------------------------------------------------------------------------


def _queues(broker: Any) -> tuple[Any, Any]:
    """Return what is empty where a broker has nothing to say; of one that answers by rules of its own, what never is."""
    answer = getattr(broker.get_notification, "__func__", None)
    if answer is MarginBroker.get_notification:
        return broker.notifs, broker._events
    return (broker.notifs, ()) if answer is BackBroker.get_notification else ((None,), ())


def _sizes(strategy: Any) -> tuple[Any, ...]:
    """Return what grows where something that runs on every bar is added to a strategy, each with its present size."""
    indicators, analyzers, slaves = strategy._lineiterators[strategy.IndType], strategy.analyzers._items, strategy._slave_analyzers
    return indicators, len(indicators), analyzers, len(analyzers), slaves, len(slaves)


def _moving_lines(indicators: Iterable[Any], data_lines: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """Return the lines of the indicators that move by one on every bar, and the indicators of which that is not certain.

    The host moves an indicator where its clock is ahead of it. That is so on every bar where the clock is a data, a line of
    one, or an indicator that itself moves so and comes first. Else (the clock is the strategy, which moves last, or an
    indicator inside another, which does not move at all) the host's question is asked on every bar.
    """
    moving = {id(line) for line in data_lines}
    lines, odd = [], []
    for indicator in indicators:
        own, clock = _lines_of(indicator), _lines_of(indicator._clock)
        if own and clock and id(clock[0]) in moving and all(line._idx == -1 and not line.lencount for line in own):
            lines += own
            moving |= {id(line) for line in own}
        else:
            odd.append(indicator)
    return lines, odd


def _lines_of(thing: Any) -> list[Any]:
    """Return the lines of a data, an indicator or a line; none where its class has its own idea of length or of moving.

    The first of them says how long it is.
    """
    kind = type(thing)
    if isinstance(thing, LineBuffer):
        return [thing] if (kind.__len__, kind.advance) == (LineBuffer.__len__, LineBuffer.advance) else []
    lengths, moves = (LineSeries.__len__, PerpData.__len__), (bt.Indicator.advance, LineSeries.advance, LineSeriesStub.advance)
    is_usual = (
        kind.__len__ in lengths
        and getattr(kind, "advance", None) in (*moves, PerpData.advance)
        and type(thing.lines).__len__ is Lines.__len__
    )
    return list(thing.lines.lines) if is_usual else []


def _is_told(strategy: Any) -> bool:
    """Whether the host's notification is needed on every bar: somebody listens to cash, or reading it may do something."""
    broker = type(strategy.broker)
    if _overridden(strategy, bt.Strategy, ("_notify", *HEARING)):
        return True
    if any(getattr(broker, name, None) not in (getattr(BackBroker, name), getattr(MarginBroker, name)) for name in CASH_READS):
        return True
    return any(_acts(analyzer, TELLING, HEARING) for analyzer in (*strategy.analyzers, *strategy._slave_analyzers))


def _acts(analyzer: Any, outer: Sequence[str], inner: Sequence[str]) -> bool:
    """Whether an analyzer, or one inside it, does anything where the host calls the outer hooks, which call the inner ones."""
    if all(getattr(getattr(analyzer, name), "__func__", None) is stay_silent for name in outer):
        return False
    if _overridden(analyzer, bt.Analyzer, (*outer, *inner)):
        return True
    return any(_acts(child, outer, inner) for child in analyzer._children)

"""bt_margin.Cerebro: when the host's loop has to run and what the log says of it; pickling, plots, and who gets one."""

import copyreg
import itertools
import logging
import pickle
import sys
from datetime import time
from types import ModuleType

import backtrader as bt
import pandas as pd
import pytest
from twins import FRAMES, Averages, Listener, both, check_equal, margin, ready, remains

import bt_margin as bm
from bt_margin.cerebro import Counter

POOL = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
UTCNOW = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.DEBUG, "bt_margin")
    return lambda: [record.message for record in caplog.records if "run loop" in record.message or "host's loop" in record.message]


# -- what the host's loop has to run ---------------------------------------------------------------------------------


class Timed(bt.Strategy):
    def __init__(self):
        self.rings = []
        self.add_timer(when=time(3, 0))

    def notify_timer(self, timer, when, *args, **kwargs):
        self.rings.append(when)


class Advancing(bm.PerpData):
    def advance(self, size=1, datamaster=None, ticks=True):
        super().advance(size, datamaster, ticks)


class Loading(bm.PerpData):
    def _load(self):
        return super()._load()


class OwnStep(Averages):
    def _oncepost(self, dt):
        super()._oncepost(dt)


class OwnClear(Averages):
    def __init__(self):
        super().__init__()
        self.clear = lambda: Averages.clear(self)


class OldSync(Averages):
    _oldsync = True


class Stamped(bt.Strategy):
    lines = ("copy",)

    def __init__(self):
        self.lines.datetime.addbinding(self.lines.copy)


class EachBar(bt.Indicator):
    lines = ("value",)
    _nextforce = True

    def next(self):
        self.l.value[0] = self.data.close[0]


class Forced(bt.Strategy):
    def __init__(self):
        EachBar(self.data)


class Live(bm.PerpData):
    def islive(self):
        return True


class OwnNotify(bm.Cerebro):
    def _brokernotify(self):
        super()._brokernotify()


def shifted(dataname):
    """Feed the second data an hour later than the first."""
    later = dataname.index[0] == FRAMES[1].index[0] and dataname.iloc[0].equals(FRAMES[1].iloc[0])
    return bm.PerpData(dataname=dataname.shift(freq="h") if later else dataname)


def shorter(dataname):
    is_second = dataname.iloc[0].equals(FRAMES[1].iloc[0])
    return bm.PerpData(dataname=dataname[:-1] if is_second else dataname)


def filtered(dataname):
    return bm.PerpData(dataname=dataname, filters=[lambda _: False])


IN_ONE_GO = {
    "timers": ({"strategy": Timed}, "there are timers"),
    "cheat on open": ({"cheat_on_open": True}, "cheat_on_open is on"),
    "quicknotify": ({"quicknotify": True}, "quicknotify is on"),
    "another feed": ({"feed": bt.feeds.PandasData}, "AAA is a PandasData, not a PerpData"),
    "a filter": ({"feed": filtered}, "AAA was loaded bar by bar, for a filter or a subclass that wants to see each"),
    "a feed that loads": ({"feed": Loading}, "AAA was loaded bar by bar, for a filter or a subclass that wants to see each"),
    "a feed that moves": ({"feed": Advancing}, "Advancing overrides advance"),
    "a strategy's own step": ({"strategy": OwnStep}, "WitnessedOwnStep overrides _oncepost"),
    "a strategy's own method": ({"strategy": OwnClear}, "WitnessedOwnClear overrides clear"),
    "a bound clock": ({"strategy": Stamped}, "WitnessedStamped hands its datetime line on to another"),
    "other stamps": ({"datas": 2, "feed": shifted}, "BBB has other stamps than AAA"),
    "fewer bars": ({"datas": 2, "feed": shorter}, "BBB has other stamps than AAA"),
}
BAR_BY_BAR = {
    "runonce": ({"runonce": False}, "runonce is off"),
    "preload": ({"preload": False}, "preload is off"),
    "neither": ({"preload": False, "runonce": False}, "runonce is off"),
    "exactbars": ({"exactbars": 1}, "exactbars=1 keeps few bars"),
    "exactbars, bars kept": ({"exactbars": -1}, "exactbars=-1 keeps few bars"),
    "exactbars without preload": ({"exactbars": -2, "preload": False}, "exactbars=-2 keeps few bars"),
    "live": ({"live": True}, "live is on, or a store or data is live"),
    "a live feed": ({"feed": Live}, "live is on, or a store or data is live"),
    "an indicator": ({"strategy": Forced}, "an indicator has switched vectorised runs off"),
}


@pytest.mark.parametrize("case", IN_ONE_GO)
def test_what_the_tight_loop_does_not_do_the_hosts_does(loops, said, case):
    how, reason = IN_ONE_GO[case]
    how = dict(how)
    check_equal(both(loops, how.pop("strategy", Averages), expected=("_runonce",), **how))
    assert said() == [f"the host's run loop runs: {reason}"]


@UTCNOW
@pytest.mark.parametrize("case", BAR_BY_BAR)
def test_runs_that_go_bar_by_bar_are_the_hosts(loops, said, case):
    how, reason = BAR_BY_BAR[case]
    how = dict(how)
    check_equal(both(loops, how.pop("strategy", Averages), expected=("_runnext",), **how))
    assert said() == [f"the host's run loop runs: {reason}"]


@UTCNOW
@pytest.mark.parametrize(("runonce", "loop"), [(True, "_runonce_old"), (False, "_runnext_old")])
def test_old_synchronisation_is_the_hosts(loops, said, runonce, loop):
    check_equal(both(loops, Averages, expected=(loop,), oldsync=True, runonce=runonce))
    assert said() == ["the host's run loop runs: oldsync is on"]


@UTCNOW
def test_a_resampled_data_is_the_hosts(loops, said):
    def dress(cerebro):
        cerebro.resampledata(cerebro.datas[0], timeframe=bt.TimeFrame.Minutes, compression=120)

    check_equal(both(loops, Averages, expected=("_runnext",), dress=dress))
    assert said() == ["the host's run loop runs: a data is resampled or replayed"]


def test_a_strategy_that_wants_the_old_clock_by_itself_fails_as_in_the_host(loops, said):
    with pytest.raises(IndexError):
        ready(bm.Cerebro, OldSync).run()
    assert loops == ["_runonce"]
    assert said() == ["the host's run loop runs: WitnessedOldSync wants oldsync"]


@pytest.mark.parametrize("csv", [True, False])
def test_a_writer_of_every_bar_is_the_hosts_and_one_of_results_is_not(loops, said, tmp_path, csv):
    def dress(cerebro):
        cerebro.addwriter(bt.WriterFile, out=str(tmp_path / type(cerebro).__module__), csv=csv)

    check_equal(both(loops, Averages, expected=("_runonce",) if csv else ("tight",), dress=dress))
    assert said() == (["the host's run loop runs: a writer writes every bar"] if csv else [])
    ours, hosts = ((tmp_path / name).read_text() for name in ("bt_margin.cerebro", "backtrader.cerebro"))
    assert ours == hosts
    assert len(ours) > 1_000


def test_an_engine_with_a_hook_of_its_own_runs_the_hosts_loop(loops, said):
    cerebro = ready(OwnNotify, Averages)
    cerebro.run()
    assert loops == ["_runonce"]
    assert said() == ["the host's run loop runs: OwnNotify overrides _brokernotify"]
    assert cerebro.host_loop_reason == "OwnNotify overrides _brokernotify"


def test_a_strategy_with_datas_of_its_own_runs_the_hosts_loop(loops, said):
    cerebro = bm.Cerebro(stdstats=False)
    cerebro.adddata(bm.PerpData(dataname=FRAMES[0][:50]))
    cerebro.addstrategy(bt.Strategy, cerebro.datas[0].close)
    cerebro.run()
    assert loops == ["_runonce"]
    assert said() == ["the host's run loop runs: Strategy has other datas than its Cerebro"]


def test_the_reason_is_that_of_the_last_run(loops):
    cerebro = ready(bm.Cerebro, Averages)
    reasons = []
    for quick in (True, False):
        cerebro.run(quicknotify=quick)
        reasons.append(cerebro.host_loop_reason)
    assert reasons == ["quicknotify is on", ""]
    assert loops == ["_runonce", "tight"]


# -- what a strategy may do on the way -------------------------------------------------------------------------------


class Meddler(bt.Strategy):
    """Trades, and on the 30th bar does something that no plan foresees."""

    def meddle(self): ...

    def next(self):
        if len(self) == 30:
            self.meddle()
        if len(self) % 7 == 0:
            self.order_target_size(target=10 if len(self) % 2 else -10)


class MovesAData(Meddler):
    def meddle(self):
        self.data.advance()


class MovesTheOther(Meddler):
    def meddle(self):
        self.datas[-1].rewind()


class TakesTheLastBarAgain(Meddler):
    def next(self):
        super().next()
        if len(self) == 120:
            self.data.rewind()


class AddsAnIndicator(Meddler):
    def meddle(self):
        self.late = Quiet(self.data)


class Quiet(bt.Indicator):
    lines = ("nothing",)


class AddsAnAnalyzer(Meddler):
    def meddle(self):
        self._addanalyzer(Listener)


class AddsACashListener(Meddler):
    def meddle(self):
        self._addanalyzer_slave(Listener)

    def stop(self):
        self.told += [("slave", slave.heard) for slave in self._slave_analyzers]


class ChangesTheBroker(Meddler):
    def meddle(self):
        broker = bt.brokers.BackBroker(cash=777.0)
        broker.start()
        self.cerebro.broker = self.broker = broker


class Early(Meddler):
    def _once(self):
        super()._once()
        self.data.advance()


class AddsAData(Meddler):
    def meddle(self):
        self.cerebro.adddata(bm.PerpData(dataname=FRAMES[2][:60], name="CCC"))


class GoesForward(Meddler):
    def meddle(self):
        self.forward()


class EndsTheRun(Meddler):
    def meddle(self):
        self.env.runstop()


class ChangesItsMind(Meddler):
    def meddle(self):
        self.next = self.wait

    def wait(self):
        self.told.append(("waits", len(self)))
        if len(self) == 60:
            del self.next


class HasAMindOfItsOwn(ChangesItsMind):
    def start(self):
        self.next = self.wait


class Clears(Meddler):
    def meddle(self):
        self.clear()


class Processes(Meddler):
    def meddle(self):
        self.buy(size=1)
        self.cerebro._brokernotify()


class OrdersForNobody(Meddler):
    def meddle(self):
        self.broker.buy(None, self.data, size=1)


SURPRISES = {
    MovesAData: "a data has been moved by hand",
    TakesTheLastBarAgain: "a data has been moved by hand",
    MovesTheOther: "a data has been moved by hand",
    AddsAnIndicator: "an indicator or an analyzer has been added",
    AddsAnAnalyzer: "an indicator or an analyzer has been added",
    AddsACashListener: "an indicator or an analyzer has been added",
    ChangesTheBroker: "the broker has been replaced",
    Early: "a data has been moved before the first bar",
}


@pytest.mark.parametrize("datas", [1, 2])
@pytest.mark.parametrize("strategy", SURPRISES, ids=lambda strategy: strategy.__name__)
def test_what_the_plan_does_not_know_of_is_run_on_by_the_hosts_calls(loops, said, strategy, datas):
    check_equal(both(loops, strategy, datas=datas, expected=("tight", "run_on")))
    assert said() == [f"the host's run loop runs: {SURPRISES[strategy]}"]


@pytest.mark.parametrize(
    "strategy",
    [AddsAData, GoesForward, EndsTheRun, ChangesItsMind, HasAMindOfItsOwn, Clears, Processes, OrdersForNobody],
    ids=lambda strategy: strategy.__name__,
)
@pytest.mark.parametrize("cash", [False, True])
def test_what_the_plan_bears_is_run_by_the_tight_loop_to_the_end(loops, said, strategy, cash):
    check_equal(both(loops, strategy, cash=cash))
    assert said() == []


class Answering(bm.MarginBroker):
    """A broker that answers by rules of its own."""

    def get_notification(self):
        return super().get_notification()


class Counting(bt.brokers.BackBroker):
    """A broker whose value is not for nothing."""

    reads = 0

    def getvalue(self, datas=None):
        self.reads += 1
        return super().getvalue(datas)


def test_a_broker_that_answers_by_its_own_rules_is_asked_on_every_bar(loops):
    check_equal(both(loops, Averages, broker=lambda: Answering(cash=10_000)))


def test_a_broker_whose_value_is_its_own_is_read_as_often_as_by_the_host(loops):
    engines = [ready(kind, Averages, broker=Counting) for kind in (bm.Cerebro, bt.Cerebro)]
    reads = [engine.run()[0].broker.reads for engine in engines]
    assert loops == ["tight", "_runonce"]
    assert reads[0] == reads[1] >= 120


def test_signals_are_traded_the_same(loops):
    found = []
    for kind in (bm.Cerebro, bt.Cerebro):
        cerebro = ready(kind, bars=200)
        cerebro.add_signal(bt.SIGNAL_LONGSHORT, bt.ind.Momentum, period=4)
        cerebro.addanalyzer(Listener)
        (strategy,) = cerebro.run()
        strategy.told = []
        found.append([remains(strategy)])
    assert loops == ["tight", "_runonce"]
    check_equal(found)
    assert found[0][0]["fills"]


# -- pickling ----------------------------------------------------------------------------------------------------------


ITERTOOLS = [itertools.count, itertools.product, itertools.chain, itertools.repeat, itertools.cycle, itertools.islice]


@pytest.fixture
def as_in_python_3_14(monkeypatch):
    """Let pickle refuse what itertools makes, as from Python 3.14 on."""

    def refuse(iterator):
        raise TypeError(f"cannot pickle {type(iterator).__name__!r} object")

    for kind in ITERTOOLS:
        monkeypatch.setitem(copyreg.dispatch_table, kind, refuse)


class Sized(bt.Strategy):
    params = (("size", 1),)

    def next(self):
        if len(self) == 3:
            self.buy(size=self.p.size)


def optimised(cerebro, *, plugged=False):
    cerebro.adddata(bm.PerpData(dataname=FRAMES[0][:60], name="AAA"))
    cerebro.optstrategy(Sized, size=[1, 2, 5])
    for number in range(2):
        cerebro.addanalyzer(bm.analyzers.Equity, _name=f"equity{number}")
    if plugged:
        bm.plug(cerebro, venue=None, leverage=5)
    else:
        cerebro.broker = margin()
    return cerebro


def final(runs):
    return [run[0].analyzers.equity1.get_analysis()["final_equity"] for run in runs]


@POOL
@pytest.mark.parametrize("optreturn", [True, False])
@pytest.mark.parametrize("plugged", [True, False])
def test_an_optimisation_runs_on_several_processes_of_python_3_14(as_in_python_3_14, plugged, optreturn):
    kind = bt.Cerebro if plugged else bm.Cerebro
    alone = final(optimised(bm.Cerebro(stdstats=False, maxcpus=1), plugged=plugged).run())
    assert final(optimised(kind(stdstats=False, maxcpus=2, optreturn=optreturn), plugged=plugged).run()) == alone
    assert len(set(alone)) == 3


def test_the_host_alone_cannot(as_in_python_3_14):
    cerebro = bt.Cerebro()
    with pytest.raises(TypeError, match="cannot pickle 'count' object"):
        pickle.dumps(cerebro)
    cerebro.optstrategy(Sized, size=[1, 2])
    with pytest.raises(TypeError, match="cannot pickle 'product' object"):
        pickle.dumps(cerebro.strats)


def test_an_engine_and_what_it_has_run_are_pickled_whole(as_in_python_3_14):
    cerebro = ready(bm.Cerebro, bars=30)
    cerebro.addstrategy(Sized)
    cerebro.addanalyzer(Listener)
    (strategy,) = cerebro.run()
    for thing in (cerebro, strategy, cerebro.datas[0]):
        pickle.dumps(thing)
    again = pickle.loads(pickle.dumps(cerebro))
    assert again.adddata(bm.PerpData(dataname=FRAMES[1][:30], name="BBB"))._id == 2
    (same,) = again.run()
    assert same.broker.getvalue() == strategy.broker.getvalue()


def test_an_optimisation_can_be_run_twice():
    cerebro = optimised(bm.Cerebro(stdstats=False, maxcpus=1))
    assert final(cerebro.run()) == final(cerebro.run())
    assert len(cerebro.runstrats) == 3


def test_a_counter_counts_on_where_it_was_pickled():
    counter = Counter(3)
    assert [next(counter), next(counter)] == [3, 4]
    assert next(iter(pickle.loads(pickle.dumps(counter)))) == 5


# -- who gets one ------------------------------------------------------------------------------------------------------


class OwnEngine(bt.Cerebro):
    pass


def test_plug_makes_a_stock_engine_ours(loops, said):
    cerebro = ready(bt.Cerebro, Averages)
    bm.plug(cerebro, venue=None, leverage=5)
    assert type(cerebro) is bm.Cerebro
    cerebro.run()
    assert loops == ["tight"]
    assert said() == []
    assert cerebro.adddata(bm.PerpData(dataname=FRAMES[0][:120], name="BBB"))._id == 2


def test_plug_leaves_an_engine_of_another_class_alone_and_says_so(loops, said):
    cerebro = ready(OwnEngine, Averages)
    bm.plug(cerebro, venue=None, leverage=5)
    assert type(cerebro) is OwnEngine
    cerebro.run()
    assert loops == ["_runonce"]
    assert said() == ["OwnEngine is a class of its own and keeps the host's loop; derive it from bt_margin.Cerebro"]


def test_plug_leaves_an_engine_that_is_ours_already_as_it_is(said):
    class Mine(bm.Cerebro):
        pass

    cerebro = ready(Mine, Averages)
    bm.plug(cerebro, venue=None, leverage=5)
    assert type(cerebro) is Mine
    assert said() == []


def test_run_takes_the_tight_loop_and_its_baseline_the_hosts(loops):
    result = bm.run(Averages, {"AAA": FRAMES[0][:120]}, venue=None, leverage=5, baseline=True)
    assert loops == ["tight", "_runonce"]
    assert len(result.baseline.values) == 120
    assert type(result.strategy.env) is bm.Cerebro


# -- plots -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran():
    cerebro = ready(bm.Cerebro, Averages, bars=40)
    cerebro.run()
    return cerebro


@pytest.fixture
def untouched():
    """Fail where a plot leaves matplotlib other than it was."""
    from matplotlib import pyplot

    before = pyplot.get_backend(), pyplot.get_fignums(), dict(pyplot.rcParams)
    yield
    assert (pyplot.get_backend(), pyplot.get_fignums(), dict(pyplot.rcParams)) == before


def dates(figure):
    *_, lowest = (axes for axes in figure.axes if any(label.get_visible() and label.get_text() for label in axes.get_xticklabels()))
    return [label.get_text() for label in lowest.get_xticklabels()]


@pytest.mark.parametrize("options", [{}, {"style": "candle", "iplot": False}, {"volume": False, "figscale": 2}, {"end": 20, "numfigs": 2}])
def test_plot_returns_figures_by_strategy_and_shows_dates(ran, untouched, options):
    (figures,) = ran.plot(width=8, height=5, dpi=50, **options)
    assert len(figures) == options.get("numfigs", 1)
    for figure in figures:
        assert tuple(figure.get_size_inches()) == (8, 5)
        assert figure.dpi == 50
        assert dates(figure)[0].startswith("2024-01-0")


def test_plot_takes_a_scheme(ran, untouched):
    import backtrader.plot

    scheme = backtrader.plot.PlotScheme()
    scheme.fmt_x_ticks = "%d.%m."
    ((figure,),) = ran.plot(scheme=scheme)
    assert set(dates(figure)) == {"01.01.", "02.01."}


def test_plot_gives_a_plotter_of_ones_own_what_the_host_gives_it(ran):
    class Plotter:
        def plot(self, strategy, **how):
            self.how = how
            return strategy

        def show(self):
            self.is_shown = True

    plotter = Plotter()
    assert ran.plot(plotter, numfigs=3, iplot=False, start=1) == [ran.runstrats[0][0]]
    assert plotter.how == {"figid": 0, "numfigs": 3, "iplot": False, "start": 1, "end": None, "use": None}
    assert plotter.is_shown


@UTCNOW
def test_plot_returns_none_where_no_bars_were_kept():
    cerebro = ready(bm.Cerebro, Averages, bars=40, exactbars=1)
    cerebro.run()
    assert cerebro.plot() is None


def test_plot_draws_nothing_of_a_run_without_bars():
    cerebro = bm.Cerebro()
    cerebro.adddata(bt.feeds.PandasData(dataname=FRAMES[0], fromdate=pd.Timestamp("2030-01-01")))
    cerebro.run()
    assert cerebro.plot() == [None]


def test_plot_before_a_run_says_what_to_do():
    with pytest.raises(ValueError, match=r"call cerebro.run\(\) first"):
        bm.Cerebro().plot()


def test_plot_in_a_notebook_shows_each_figure_in_line(ran, untouched, monkeypatch):
    shown = []
    display = ModuleType("IPython.display")
    display.display, display.Image = shown.append, bytes
    for name, module in {"ipykernel": ModuleType("ipykernel"), "IPython": ModuleType("IPython"), "IPython.display": display}.items():
        monkeypatch.setitem(sys.modules, name, module)
    ran.plot(width=4, height=3, dpi=40, numfigs=2)
    assert [picture[:4] for picture in shown] == [b"\x89PNG"] * 2
    ran.plot(iplot=False)
    assert len(shown) == 2


def test_plot_opens_windows_where_there_are_some_and_shows_finished_figures(ran, monkeypatch):
    from matplotlib import pyplot
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    shown = []
    monkeypatch.setattr(FigureCanvasAgg, "required_interactive_framework", "headless")
    monkeypatch.setattr(pyplot, "show", lambda: shown.extend(map(pyplot.figure, pyplot.get_fignums())))
    try:
        ((figure,),) = ran.plot(width=6, height=4, use="agg")
        assert shown == [figure]
        assert tuple(figure.get_size_inches()) == (6, 4)
        assert dates(figure)
    finally:
        pyplot.close("all")

"""Fixtures of the tests that go with the host."""

import backtrader as bt
import pytest
from twins import LOOPS

from bt_margin import cerebro as engine


@pytest.fixture(scope="module")
def watch():
    """Write down every loop that is entered, ours as 'tight'."""
    entered: list[str] = []

    def noting(name, run):
        def noted(*arguments):
            entered.append(name)
            return run(*arguments)

        return noted

    with pytest.MonkeyPatch.context() as patch:
        for name in LOOPS:
            patch.setattr(bt.Cerebro, name, noting(name, getattr(bt.Cerebro, name)))
        patch.setattr(engine, "run_tight", noting("tight", engine.run_tight))
        patch.setattr(engine, "run_on", noting("run_on", engine.run_on))
        yield entered


@pytest.fixture
def loops(watch):
    watch.clear()
    return watch

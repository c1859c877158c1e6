"""Where jobs run: in this process, in processes of this machine, on a cluster. Each yields what workers say, in any order.

A worker that dies takes its pool with it, so jobs are given out again. One that was under way when that happened is suspected and
tried alone, where a second death is certainly its own.
"""

import os
import signal
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Any

from .store import Store
from .worker import DEADLY, Desk, begin, died, perform, same_random_numbers

BACKENDS = ("loky", "dask", "serial")
FRUITLESS = 3  # times in a row that all workers may die without having finished or even begun a job
CONNECT_SECONDS = 10
LONELY_SECONDS = 60  # a cluster may be without any worker before it counts as gone; nannies start new ones sooner

# The jobs that are still to be done, as numbers and texts; asked for again after every death.
Todo = Callable[[], Iterator[tuple[int, str]]]


def serially(desk: Desk, todo: Todo) -> Generator[str, None, None]:
    """Do the jobs one after the other in this process."""
    for number, text in todo():
        with same_random_numbers():
            said = perform(desk, number, text)
        yield said


def on_this_machine(desk: Desk, store: Store, todo: Todo, workers: int | None) -> Generator[str, None, None]:
    """Do the jobs in processes of this machine, by joblib's loky; ``workers`` None: one for each core."""
    from joblib import cpu_count

    count = workers or cpu_count()
    deaths: Counter[int] = Counter()
    if count == 1:
        yield from _alone(desk, todo(), deaths)
        return
    fruitless = 0
    while True:
        done = len(store.index)
        try:
            yield from _together(desk, todo(), count)
        except BrokenProcessPool as error:
            suspects = store.marked()
            fruitless = 0 if suspects or len(store.index) > done else fruitless + 1
            if fruitless == FRUITLESS:
                raise ChildProcessError(f"the workers die before they begin a job ({error}); see why with backend='serial'") from error
            deaths.update(suspects)
            store.clear_marks()
            yield from _alone(desk, (job for job in todo() if job[0] in suspects), deaths)
        else:
            return


def _together(desk: Desk, jobs: Iterator[tuple[int, str]], workers: int) -> Generator[str, None, None]:
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    pool: dict[str, Any] = {"initializer": begin, "initargs": (os.getpid(),)}
    parallel = Parallel(n_jobs=workers, backend="loky", return_as="generator_unordered", batch_size="auto", **pool)
    is_whole = False
    try:
        yield from _results(parallel, (delayed(perform)(desk, number, text) for number, text in jobs), _ctrl_c_held_back())
        is_whole = True
    finally:  # they would wait for more work for minutes; one that is not killed still prints what it has to say
        get_reusable_executor(reuse=True).shutdown(kill_workers=not is_whole)


def _results(parallel: Any, calls: Iterator[Any], starting: AbstractContextManager[None]) -> Generator[str, None, None]:
    """Yield what workers say; where the reader stops early, end what is running without a warning: it is done again."""
    results = None
    try:
        with starting:
            results = parallel(calls)
        while (said := next(results, None)) is not None:
            yield said
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            if results is not None:
                results.close()


def _alone(desk: Desk, jobs: Iterator[tuple[int, str]], deaths: Counter[int]) -> Generator[str, None, None]:
    """Do jobs in one process, one at a time, so that it is known whose death a death is."""
    from joblib.externals.loky import ProcessPoolExecutor

    executor, is_whole = None, False
    try:
        for number, text in jobs:
            said = None
            while said is None:
                executor = executor or ProcessPoolExecutor(max_workers=1, initializer=begin, initargs=(os.getpid(),))
                try:
                    with _ctrl_c_held_back():
                        result = executor.submit(perform, desk, number, text)
                    said = result.result()
                except BrokenProcessPool:
                    executor.shutdown()
                    executor = None
                    deaths[number] += 1
                    said = died(number) if deaths[number] >= DEADLY else None
            yield said
        is_whole = True
    finally:
        if executor is not None:
            executor.shutdown(kill_workers=not is_whole)


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Let Ctrl-C wait while processes are started, half of which would be left behind, and keep it from them.

    What is blocked here is blocked in them: in its first second Python would end of it with a traceback, before ``begin`` is
    reached. That alone does not make it wait: another thread of this process may take it.
    """
    handler = signal.getsignal(signal.SIGINT)
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread() or handler is None:
        yield
        return
    from multiprocessing import resource_tracker

    from joblib.externals.loky.backend import resource_tracker as tracker_of_loky

    resource_tracker.ensure_running()  # they let Ctrl-C through again once they have been started
    tracker_of_loky.ensure_running()
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(came[0])


def on_a_cluster(desk: Desk, store: Store, todo: Todo, scheduler: str) -> Generator[str, None, None]:
    """Do the jobs on the workers of a dask scheduler, by joblib's dask backend."""
    from joblib import Parallel, delayed

    from .cluster import LOSSES, Backend, connect, workers_expected

    fruitless = 0
    while True:
        done = len(store.index)
        with closing(connect(scheduler, CONNECT_SECONDS)) as client, workers_expected(client, LONELY_SECONDS):
            parallel = Parallel(n_jobs=-1, backend=Backend(client=client), return_as="generator_unordered", batch_size="auto")
            try:
                yield from _results(parallel, (delayed(perform)(desk, number, text) for number, text in todo()), nullcontext())
            except LOSSES as error:
                fruitless = 0 if len(store.index) > done else fruitless + 1
                if fruitless == FRUITLESS:
                    raise ChildProcessError(f"the cluster at {scheduler} loses every job that it is given: {error}") from error
            else:
                return

"""joblib's dask backend, made to tell of work that the cluster has lost. Imported where a cluster is asked for: it needs dask."""

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread
from typing import Any

from distributed import Client, KilledWorker
from joblib._dask import DaskDistributedBackend

LOSSES = (KilledWorker, CancelledError)  # the workers of a task have died; the scheduler has gone


class Backend(DaskDistributedBackend):
    """The backend, which by itself waits for ever for a task that the scheduler has given up."""

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Future:
        """Hand a batch to the cluster; the callback gets what it returned, or the exception with which it was lost."""
        future: Future = super().submit(func, callback)
        if callback is not None:
            future.add_done_callback(partial(_tell_loss, callback))
        return future


def _tell_loss(callback: Callable[[Any], None], future: Future) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        callback(error)


def connect(scheduler: str, seconds: float) -> Client:
    """Return a client of a scheduler that has workers; ConnectionError if there is none at the address."""
    try:
        client = Client(scheduler, timeout=seconds, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConnectionError(f"no dask scheduler answers at {scheduler} ({error}); start one with 'dask scheduler'") from error
    try:
        client.wait_for_workers(1, timeout=seconds)
    except TimeoutError as error:
        client.close()
        raise ConnectionError(f"the dask scheduler at {scheduler} has no workers; start some with 'dask worker {scheduler}'") from error
    return client


@contextmanager
def workers_expected(client: Client, seconds: float) -> Iterator[None]:
    """Close the client, so that all its work counts as lost, once the cluster has been without any worker for some seconds.

    By itself dask waits for ever: somebody may start new ones.
    """
    is_over = Event()

    def watch() -> None:
        is_lonely = False
        while not is_over.wait(seconds / 2):
            try:
                was_lonely, is_lonely = is_lonely, not client.nthreads()
            except (OSError, ValueError, RuntimeError):  # the scheduler is gone, of which the work itself tells
                return
            if was_lonely and is_lonely:
                client.close()
                return

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()

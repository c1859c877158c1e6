"""What a worker process does: one job, from its texts to the text of its record.

Nothing but texts goes in and out, so nothing of a job can fail to be pickled, and records are written as JSON where there is time
for it. What a worker says is ``{"job", "row", "arrays"}``, with ``"trace"`` for a job that failed; or ``{"stop": sentence, "errno":
number}`` where no job could be done (a full disk, a folder that is not there), which ends the sweep.
"""

import gc
import json
import os
import random
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from .reference import extend_search_path, function_called
from .store import Store, as_json, mapped, marks, own_name, write_arrays

ORPHAN_SECONDS = 0.5  # how often a worker looks whether its parent lives
DEADLY = 2  # workers that died over a job before it is given up
TRACE_LINES = 40


class Desk(NamedTuple):
    """What a worker must know of a sweep; small, for it goes with every batch."""

    folder: str
    digest: str
    search_path: tuple[str, ...]
    counts_deaths: bool  # nobody else does on a cluster, whose scheduler gives what a dead worker was on to the next one


class _Room(NamedTuple):
    """A sweep as a worker has read it."""

    desk: Desk
    plan: Any
    work: Callable[[Any, Any], dict[str, Any]]


class _NoJobError(Exception):
    """No job of the sweep can be done here."""


_rooms: dict[Desk, _Room] = {}
_parents: list[int] = []  # whose worker this process is, where it is nothing else
_maps: dict[tuple[Path, int], np.ndarray] = {}
_folder: ContextVar[str] = ContextVar("folder of the sweep whose job runs here")


def load(name: str) -> np.ndarray:
    """Return an input of the sweep whose job is running, as a read-only memory map that all workers of a machine share."""
    folder = _folder.get(None)
    if folder is None:
        raise ValueError(f"load({name!r}) is for the work of a sweep; elsewhere ask the sweep: sweep.load({name!r})")
    path = Store(Path(folder)).input_path(name)
    if not path.is_file():
        raise ValueError(f"the sweep in {folder} has no input {name!r}; store it before run()")
    key = path, path.stat().st_mtime_ns
    if key not in _maps:
        _maps[key] = mapped(path)
    return _maps[key]


def begin(parent: int) -> None:
    """Make this process a worker of another one: Ctrl-C is the parent's to act on, and without a parent there is nothing to do."""
    _parents.append(parent)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(ORPHAN_SECONDS)
    os._exit(1)


def perform(desk: Desk, number: int, text: str) -> str:
    """Do one job and return what it came to, as JSON."""
    try:
        room = _enter(desk)
        deaths = marks(Path(desk.folder)).count(number) if desk.counts_deaths else 0
        if deaths < DEADLY:
            _write_mark(desk.folder, number)
    except (_NoJobError, OSError) as error:
        return json.dumps({"stop": f"{error} (on {socket.gethostname()})", "errno": getattr(error, "errno", None)})
    if deaths >= DEADLY:
        return died(number)
    token = _folder.set(desk.folder)
    try:
        return _work(room, number, text)
    finally:
        _folder.reset(token)
        with suppress(OSError):
            _write_mark(desk.folder, None)


def died(number: int) -> str:
    """Return the record of a job whose worker died each time it was tried."""
    return json.dumps({"job": number, "row": {"error": f"job {number}: the worker died (killed, or out of memory), twice"}, "arrays": {}})


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Put the state of the global generators back at the end, for jobs that run in the caller's own process."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _work(room: _Room, number: int, text: str) -> str:
    seed = crc32(f"{room.desk.digest} {number}".encode())
    random.seed(seed)  # what draws from the global generators draws the same in whatever process, after whatever job
    np.random.seed(seed)
    try:
        row = dict(room.work(room.plan, json.loads(text)))
        arrays = row.pop("arrays", None) or {}
        row.setdefault("error", "")
        as_json(row, f"the row of job {number}")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a stranger's code raises is the row of its job
        return _failure(number, error)
    try:
        written = write_arrays(Path(room.desk.folder), number, arrays)
    except (ValueError, TypeError, AttributeError) as error:
        return _failure(number, error)
    except OSError as error:
        return json.dumps({"stop": f"an array of job {number} cannot be written: {error.strerror or error}", "errno": error.errno})
    return as_json({"job": number, "row": row, "arrays": written}, f"the row of job {number}")


def _failure(number: int, error: BaseException) -> str:
    said = " ".join(str(error).split())
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) != Path(__file__)]
    where = f" ({Path(lines[-1].filename).name}, line {lines[-1].lineno})" if lines else ""
    sentence = f"job {number}: {type(error).__name__}{f': {said}' if said else ''}{where}"
    trace = "".join(traceback.format_exception(error)).splitlines()[-TRACE_LINES:]
    return json.dumps({"job": number, "row": {"error": sentence}, "arrays": {}, "trace": "\n".join(trace)})


def _enter(desk: Desk) -> _Room:
    if desk not in _rooms:
        path = Path(desk.folder, "sweep.json")
        if not path.is_file():
            raise _NoJobError(f"a worker sees no {path}; on a cluster the folder must be there under the same path on every machine")
        content = path.read_bytes()
        if sha256(content).hexdigest() != desk.digest:
            raise _NoJobError(f"{path} is not that of this sweep; has something else written into the folder?")
        what = json.loads(content)
        extend_search_path(desk.search_path)
        try:
            work = function_called(what["work"])
        except (Exception, SystemExit) as error:  # a module that cannot be imported raises what it likes
            raise _NoJobError(f"work {what['work']!r} cannot be imported by a worker: {type(error).__name__}: {error}") from error
        if _parents:  # what is imported by now stays, and need not be looked through after every run
            gc.collect()
            gc.freeze()
        _rooms[desk] = _Room(desk, what["plan"], work)
    return _rooms[desk]


def _write_mark(folder: str, number: int | None) -> None:
    """Note which job this thread is on, None for none; in place, so that there is no moment at which nothing is noted."""
    descriptor = os.open(Path(folder, "running", own_name()), os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, b"%-12s" % (b"" if number is None else b"%d" % number))
    finally:
        os.close(descriptor)

"""Many jobs on the cores of one machine or on a cluster, their results on disk as they come.

    sweep = Sweep("runs", plan={"seed": 7}, jobs=[{"leverage": x} for x in (1, 2, 5)], work="my_study:one_run")
    rows = sweep.run(workers=2, resume=True)

``work(plan, job)`` returns a flat dict that JSON can hold, and under ``"arrays"`` what is kept beside it: ``{name: numpy array}``.
This room knows nothing of trading. What a sweep is, is its plan, jobs, work and inputs; the same sweep has the same rows, whatever
the backend, the number of workers and the order in which jobs end.
"""

import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from .progress import progress_bar
from .reference import being_read, function_called, reference, resolve, search_path
from .runner import BACKENDS, on_a_cluster, on_this_machine, serially
from .store import Store, as_json, hash_of, mapped, read_array
from .worker import Desk, load

__all__ = ["Stopped", "Sweep", "load", "progress_bar", "reference", "resolve"]

Progress = Callable[[int, int, float | None], Any]


class Stopped(KeyboardInterrupt):
    """Ctrl-C, with a sentence that says what is done and how to go on."""


class Sweep:
    """Jobs, the function that does one, and the folder that keeps what they came to.

    ``plan`` is what all jobs share, ``work`` names a function as ``module:function``. Plan and jobs are values of JSON.
    """

    def __init__(self, folder: Path | str, plan: dict[str, Any], jobs: Sequence[dict[str, Any]], work: str) -> None:
        self.folder, self.plan, self.jobs, self.work = Path(folder).resolve(), plan, jobs, work
        self._store = Store(self.folder)
        self._inputs: dict[str, str] = {}
        self._until = inf  # on the clock of time.monotonic

    def __repr__(self) -> str:
        return f"Sweep({str(self.folder)!r}, {len(self.jobs)} jobs of {self.work})"

    def run(
        self,
        *,
        workers: int | None = None,
        backend: str = "loky",
        scheduler: str | None = None,
        resume: bool = False,
        progress: Progress | None = None,
        seconds: float = inf,
    ) -> list[Any]:
        """Do every job that is not done yet and return all rows, in the order of the jobs.

        A row is what ``work`` returned and ``"error"``: "" or, where the job failed or its worker died twice, a sentence.

        backend: ``loky``, ``workers`` processes of this machine (None: one a core); ``dask``, the workers of the ``scheduler`` at
          ``tcp://host:port``, which see the folder under the same path; ``serial``, this process.
        resume: go on where the folder's sweep ended; what is done is not done again.
        progress: called with jobs done, jobs in all, and seconds left (None: not known yet).
        seconds: no job is begun after so long; the row of one that is not done by then is None, and ``resume`` does it.

        ValueError where the folder is another sweep's, has results and ``resume`` is False, or is in use. OSError when the disk
        is full, Stopped after Ctrl-C; both leave a folder that resumes.
        """
        self._check(workers, backend, scheduler)
        if isinstance(seconds, bool) or not seconds >= 0:
            raise ValueError(f"seconds is how long jobs may be begun, 0 or more; was {seconds!r}")
        if not self.jobs:
            return []
        self._until = time.monotonic() + seconds
        with self._store.locked():
            try:
                digest = self._begin(resume=resume)
                self._do(digest, workers, backend, scheduler, progress or (lambda *_: None))
            finally:
                self._store.close()
            done = sorted(self._store.index)
            rows = {number: record["row"] for number, record in zip(done, self._store.records(done), strict=True)}
            return [rows.get(number) for number in range(len(self.jobs))]

    def arrays(self, job: int) -> dict[str, np.ndarray]:
        """Return what a finished job left beside its row, as read-only memory maps."""
        kept = self._record(job)["arrays"]
        return {name: read_array(self.folder / file, size, checksum) for name, (file, size, checksum) in kept.items()}

    def traceback(self, job: int) -> str:
        """Return the traceback of a job that failed, "" of any other."""
        return str(self._record(job).get("trace", ""))

    def store(self, name: str, array: np.ndarray) -> Path:
        """Keep an array that all jobs read, and return its file; ``load(name)`` maps it inside ``work``.

        Every .npy file in the folder's ``inputs`` belongs to what the sweep is: a sweep does not resume with others.
        """
        with self._told():
            path = self._store.write_input(name, np.asarray(array))
        self._inputs[path.name] = hash_of(path)
        return path

    def load(self, name: str) -> np.ndarray:
        """Return an input as a read-only memory map; ValueError if the sweep has none of that name."""
        path = self._store.input_path(name)
        if not path.is_file():
            raise ValueError(f"the sweep in {self.folder} has no input {name!r}")
        return mapped(path)

    def export(self, path: Path | str) -> Path:
        """Write the rows of all jobs to a file, a line of JSON each, in the order of the jobs: the same bytes for the same sweep."""
        self._store.scan()
        missing = len(self.jobs) - len(self._store.index)
        if missing:
            raise ValueError(f"{missing} of {len(self.jobs)} jobs of {self.folder} are not done; run with resume=True first")
        with Path(path).open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(record["row"], sort_keys=True) + "\n" for record in self._store.records(range(len(self.jobs))))
        return Path(path)

    # -- how a run goes --------------------------------------------------------------------------------------------------

    def _check(self, workers: int | None, backend: str, scheduler: str | None) -> None:
        if script := being_read.get():
            raise ValueError(f"{script} begins a sweep while a worker reads it to find a class; put that under if __name__ == '__main__':")
        if backend not in BACKENDS:
            raise ValueError(f"backend is one of {', '.join(BACKENDS)}; was {backend!r}")
        if workers is not None and (workers < 1 or int(workers) != workers):
            raise ValueError(f"workers is a whole number from 1 up, or None for one a core; was {workers!r}")
        if (backend == "dask") != (scheduler is not None):
            raise ValueError("backend='dask' takes scheduler='tcp://host:port', and no other backend does")
        function_called(self.work)  # else every job would fail of it

    def _begin(self, *, resume: bool) -> str:
        try:
            with self._told():
                return self._store.begin(self._identity(), self.jobs, resume=resume)
        except KeyboardInterrupt as error:
            raise Stopped(f"stopped before a job was begun; what is done in {self.folder} is kept") from error

    def _identity(self) -> dict[str, Any]:
        """Return what the sweep is, but for the jobs themselves."""
        inputs = self._store.input_hashes()
        for name, digest in self._inputs.items():
            if inputs.get(name) != digest:
                raise ValueError(f"the input {self.folder / 'inputs' / name} was changed since it was stored; name a folder of its own")
        return {"work": self.work, "jobs": len(self.jobs), "inputs": inputs, "plan": json.loads(as_json(self.plan, "the plan"))}

    def _do(self, digest: str, workers: int | None, backend: str, scheduler: str | None, progress: Progress) -> None:
        store, total = self._store, len(self.jobs)
        before, start = len(store.index), time.monotonic()
        desk = Desk(str(self.folder), digest, search_path(), counts_deaths=backend == "dask")
        try:
            progress(before, total, 0.0 if before == total else None)
            if before == total or time.monotonic() >= self._until:
                return
            with self._told():
                store.clear_marks()
            with closing(self._said(desk, workers, backend, scheduler)) as said:
                for text in said:
                    self._note(text)
                    done = len(store.index)
                    progress(done, total, (time.monotonic() - start) / max(1, done - before) * (total - done))
        except KeyboardInterrupt as error:
            raise Stopped(f"stopped: {self._state()}") from error
        except (ChildProcessError, ConnectionError) as error:
            raise type(error)(f"{error}; {self._state()}") from error

    def _said(self, desk: Desk, workers: int | None, backend: str, scheduler: str | None) -> Generator[str, None, None]:
        if backend == "serial":
            return serially(desk, self._todo)
        if backend == "dask":
            return on_a_cluster(desk, self._store, self._todo, str(scheduler))
        return on_this_machine(desk, self._store, self._todo, workers)

    def _todo(self) -> Iterator[tuple[int, str]]:
        """Yield number and text of every job that is not done, made as they are asked for, until the time is up."""
        left = (number for number in range(len(self.jobs)) if number not in self._store.index)
        for number in left:
            if time.monotonic() >= self._until:
                return
            yield number, as_json(self.jobs[number], f"job {number}")

    def _note(self, text: str) -> None:
        """Write down what a worker says of a job."""
        record = json.loads(text)
        if "stop" in record:
            error = OSError(f"{record['stop']}; {self._state()}")
            error.errno = record["errno"]
            raise error
        if record["job"] not in self._store.index:
            with self._told():
                self._store.append(record["job"], text)

    def _record(self, job: int) -> dict[str, Any]:
        if job not in self._store.index:
            self._store.scan()
        if job not in self._store.index:
            raise ValueError(f"job {job} of {self.folder} is not done")
        return next(self._store.records([job]))

    def _state(self) -> str:
        done = f"{len(self._store.index)} of {len(self.jobs)} jobs are done and kept in {self.folder}"
        return f"{done}; the same command with resume=True does the rest"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say of what the disk refuses how far the sweep is and how it goes on."""
        try:
            yield
        except OSError as error:
            told = OSError(f"{error.filename or self.folder} cannot be written: {error.strerror or error}; {self._state()}")
            told.errno = error.errno
            raise told from error

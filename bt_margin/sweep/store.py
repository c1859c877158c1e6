"""The folder of a sweep.

    sweep.json   what the sweep is: work, plan, number of jobs, inputs with their hashes
    jobs.jsonl   the jobs, one on each line
    rows.jsonl   a line for each finished job, appended as it comes: checksum, blank, record as JSON
    arrays/      what jobs left beside their rows, as .npy
    inputs/      arrays that all jobs read, as .npy
    running/     which job each worker is on
    lock         held while a sweep runs; names process and machine

A record is ``{"job": number, "row": {...}, "arrays": {name: [file, bytes, checksum]}}``, with ``"trace"`` where the job failed.
``sweep.json`` is written last, so what has it is whole. Each file is written under another name first and then renamed; only
``rows.jsonl`` grows, by one write for a line. A line that is not whole, or whose arrays are not, is as if it had never been: its
job is done again. Of two lines of one job the later counts.

What was appended outlives the death of any process at once. It is forced to the disk every ``SYNC_SECONDS`` and at the end; a
power cut loses no more than that. Arrays are not forced: their size stands in the row, and is looked at before the row counts.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

import numpy as np

from ..locking import HeldError, held

FORMAT = 1
SYNC_SECONDS = 5.0
CHECKSUM_DIGITS = 8
BYTES_AT_ONCE = 1 << 20
SHOWN_DIFFERENCES = 3
ARRAYS_A_FOLDER = 1000


def as_json(value: Any, what: str) -> str:
    """Return a value as one line of JSON, keys in their order; numpy's scalars are the numbers that they are.

    ValueError, which calls the value ``what``, for anything that JSON has no word for.
    """

    def plain(item: Any) -> Any:
        if isinstance(item, np.generic):
            return item.item()
        raise ValueError(f"{what} holds a {type(item).__name__}, {str(item)[:80]!r}; it may hold numbers, texts, None, lists and dicts")

    try:
        return json.dumps(value, default=plain)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"{what} cannot be written as JSON: {error}") from error


def line_of(record: str) -> bytes:
    """Return a record as the line that stands for it: checksum, blank, text, end of line."""
    text = record.encode()
    return b"%08x %b\n" % (crc32(text), text)


def text_in(line: bytes) -> bytes | None:
    """Return the record of a line, None where the line is not whole."""
    text = line[CHECKSUM_DIGITS + 1 : -1]
    return text if line.endswith(b"\n") and line == b"%08x %b\n" % (crc32(text), text) else None


class Store:
    """One sweep's folder. ``index`` has place and length of each finished job's line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index: dict[int, tuple[int, int]] = {}
        self._rows: int | None = None  # descriptor of rows.jsonl, while a sweep runs
        self._end = 0
        self._synced = 0.0

    @property
    def rows_path(self) -> Path:
        return self.folder / "rows.jsonl"

    # -- whose folder it is ----------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other sweep out of the folder; ValueError if one is at work in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with held(self.folder / "lock"):
                yield
        except HeldError as holder:
            raise ValueError(f"a sweep is at work in {self.folder} ({holder}); wait for its end, or name another folder") from None

    def begin(self, what: dict[str, Any], jobs: Sequence[Any], *, resume: bool) -> str:
        """Make the folder that of a sweep, read what it has done, and return the hash of what the sweep is.

        ValueError where the folder holds another sweep, or results and ``resume`` was not asked for.
        """
        text = json.dumps({"format": FORMAT, **what}, indent=1)
        path = self.folder / "sweep.json"
        is_known = path.is_file()
        if self.rows_path.exists() and not is_known:
            raise ValueError(f"{self.rows_path} is of no sweep, for there is no sweep.json beside it; name another folder")
        self.scan()
        if is_known and self.rows_path.exists() and self.rows_path.stat().st_size:
            if told := self._difference(json.loads(path.read_text("utf-8")), json.loads(text), jobs):
                raise ValueError(f"{self.folder} holds another sweep: {told}; name another folder")
            if not resume and self.index:
                done = f"{len(self.index)} of {len(jobs)} results"
                raise ValueError(f"{self.folder} holds {done} of this sweep; continue it with resume=True, or name another folder")
        else:
            _write_whole(self.folder / "jobs.jsonl", (f"{as_json(job, f'job {number}')}\n".encode() for number, job in enumerate(jobs)))
            _write_whole(path, [text.encode()])
        self._open()
        return sha256(path.read_bytes()).hexdigest()

    def _difference(self, old: dict[str, Any], new: dict[str, Any], jobs: Sequence[Any]) -> str:
        """Return in words what tells the folder's sweep from the one asked for, "" if nothing does."""
        found = list(_differences(old, new, ""))
        with (self.folder / "jobs.jsonl").open(encoding="utf-8") as lines:
            for number, (line, job) in enumerate(zip_longest(lines, jobs)):
                if line is None or job is None or len(found) > SHOWN_DIFFERENCES:
                    break
                text = as_json(job, f"job {number}")
                if line.rstrip("\n") != text:
                    found += _differences(json.loads(line), json.loads(text), f"job {number}")
        more = ["and more"] if len(found) > SHOWN_DIFFERENCES else []
        return ", ".join(found[:SHOWN_DIFFERENCES] + more)

    # -- rows ------------------------------------------------------------------------------------------------------------

    def scan(self) -> None:
        """Read which jobs are done, and where the last whole line ends."""
        self.index, self._end, place = {}, 0, 0
        if not self.rows_path.exists():
            return
        with self.rows_path.open("rb") as lines:
            for line in lines:
                text = text_in(line)
                if line.endswith(b"\n"):
                    self._end = place + len(line)
                if text is not None:
                    self._count(json.loads(text), place, len(line))
                place += len(line)

    def _count(self, record: dict[str, Any], place: int, length: int) -> None:
        arrays = record.get("arrays", {}).values()
        if all(_size_of(self.folder / file) == size for file, size, _ in arrays):
            self.index[record["job"]] = place, length
        else:
            self.index.pop(record["job"], None)

    def _open(self) -> None:
        self._rows = os.open(self.rows_path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        os.ftruncate(self._rows, self._end)  # a line that was begun when its writer died
        os.lseek(self._rows, self._end, os.SEEK_SET)
        self._synced = time.monotonic()

    def append(self, number: int, record: str) -> None:
        """Write down one finished job; on an OSError (a full disk) the file ends where it did before."""
        assert self._rows is not None
        line = line_of(record)
        try:
            written = 0
            while written < len(line):
                written += os.write(self._rows, line[written:])
            now = time.monotonic()
            if now - self._synced > SYNC_SECONDS:
                os.fsync(self._rows)
                self._synced = now
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._rows, self._end)
                os.lseek(self._rows, self._end, os.SEEK_SET)
            raise
        self.index[number] = self._end, len(line)
        self._end += len(line)

    def close(self) -> None:
        """Force to the disk what was appended, and write no more."""
        if self._rows is not None:
            descriptor, self._rows = self._rows, None
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def records(self, numbers: Iterable[int]) -> Iterator[dict[str, Any]]:
        """Yield the records of finished jobs."""
        with self.rows_path.open("rb") as file:
            for number in numbers:
                place, length = self.index[number]
                file.seek(place)
                text = text_in(file.read(length))
                if text is None:
                    raise ValueError(f"{self.rows_path} was changed by something else while it was in use (the line of job {number})")
                yield json.loads(text)

    # -- who is on which job ---------------------------------------------------------------------------------------------

    def clear_marks(self) -> None:
        """Forget which workers are on which jobs."""
        folder = self.folder / "running"
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink(missing_ok=True)

    def marked(self) -> list[int]:
        """Return the jobs that workers were last on and that are not finished, one for each worker."""
        return [number for number in marks(self.folder) if number not in self.index]

    # -- inputs ----------------------------------------------------------------------------------------------------------

    def input_path(self, name: str) -> Path:
        """Return where the input called ``name`` is kept; ValueError for a name that no file may have."""
        return self.folder / "inputs" / f"{_checked(name)}.npy"

    def write_input(self, name: str, array: np.ndarray) -> Path:
        """Write an input unless it is there; ValueError where results were made with another one."""
        path = self.input_path(name)
        if path.is_file() and _same(path, array):
            return path
        with self.locked():
            if path.is_file() and self.rows_path.exists() and self.rows_path.stat().st_size:
                raise ValueError(f"{self.folder} holds results of another input {name!r}; name another folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            save_array(path, array, f"input {name!r}")
        return path

    def input_hashes(self) -> dict[str, str]:
        """Return the hash of every input by its file's name: what else than the plan the results follow from."""
        return {path.name: hash_of(path) for path in sorted((self.folder / "inputs").glob("*.npy"))}


def marks(folder: Path) -> list[int]:
    """Return the job that each worker of a folder is on, or was on when it died."""
    found = [path.read_bytes() for path in (folder / "running").iterdir()]
    return [int(text) for text in found if text.strip().isdigit()]


def write_arrays(folder: Path, number: int, arrays: dict[str, Any]) -> dict[str, tuple[str, int, int]]:
    """Write a job's arrays and return file, bytes and checksum by name; ValueError for what is not an array of numbers."""
    written = {}
    place = folder / "arrays" / f"{number // ARRAYS_A_FOLDER:03d}"
    for name, array in arrays.items():
        path = place / f"{number:06d}.{_checked(name)}.npy"
        place.mkdir(parents=True, exist_ok=True)
        written[name] = (path.relative_to(folder).as_posix(), *save_array(path, np.asarray(array), f"array {name!r}"))
    return written


def save_array(path: Path, array: np.ndarray, what: str) -> tuple[int, int]:
    """Write an array to a .npy file, whole or not at all; return bytes and checksum. ValueError for Python objects."""
    if array.dtype.hasobject:
        raise ValueError(f"{what} holds Python objects; an array of numbers was expected")
    return _write_whole(path, array)


def read_array(path: Path, size: int, checksum: int) -> np.ndarray:
    """Return an array as a read-only map of its file; ValueError where the file is not what was written."""
    total = 0
    if _size_of(path) == size:
        with path.open("rb") as file:
            while piece := file.read(BYTES_AT_ONCE):
                total = crc32(piece, total)
    if _size_of(path) != size or total != checksum:
        raise ValueError(f"{path} is not what its job left there; remove the file and run again with resume=True")
    return mapped(path)


def mapped(path: Path) -> np.ndarray:
    """Return a .npy file as a read-only memory map."""
    array: np.ndarray = np.load(path, mmap_mode="r")
    return array


class _Summing:
    """A file that keeps size and checksum of what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size, self.checksum = file, 0, 0

    def write(self, piece: bytes) -> int:
        self.size += len(piece)
        self.checksum = crc32(piece, self.checksum)
        return self.file.write(piece)


def _write_whole(path: Path, content: Iterable[bytes] | np.ndarray) -> tuple[int, int]:
    """Write a file under a name of this process and thread, then rename it; return bytes and checksum."""
    half = path.with_name(f"{path.name}.{own_name()}.part")
    try:
        with half.open("wb") as file:
            summing = _Summing(file)
            if isinstance(content, np.ndarray):
                np.lib.format.write_array(summing, content, allow_pickle=False)
            else:
                for piece in content:
                    summing.write(piece)
        half.replace(path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise
    return summing.size, summing.checksum


def own_name() -> str:
    """Return a name that no other thread of any machine has now."""
    return f"{socket.gethostname()}-{os.getpid()}-{threading.get_native_id()}"


def _checked(name: str) -> str:
    if not name or not all(letter.isalnum() or letter in "_-." for letter in name) or name.startswith("."):
        raise ValueError(f"an array's name is of letters, digits, '_', '-' and '.'; was {name!r}")
    return name


def _size_of(path: Path) -> int:
    """Return the bytes of a file, -1 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def hash_of(path: Path) -> str:
    """Return the hash of what a file holds."""
    digest = sha256()
    with path.open("rb") as file:
        while piece := file.read(BYTES_AT_ONCE):
            digest.update(piece)
    return digest.hexdigest()


def _same(path: Path, array: np.ndarray) -> bool:
    held = mapped(path)
    return held.dtype == array.dtype and held.shape == array.shape and np.array_equal(_bytes_of(held), _bytes_of(array))


def _bytes_of(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _differences(old: Any, new: Any, where: str) -> Iterator[str]:
    """Yield in words every leaf in which two values of JSON differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            place = f"{where}.{key}" if where else key
            if key not in new:
                yield f"{place} was {_short(old[key])}, is missing"
            elif key not in old:
                yield f"{place} was missing, is {_short(new[key])}"
            else:
                yield from _differences(old[key], new[key], place)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (was, now) in enumerate(zip(old, new, strict=True)):
            yield from _differences(was, now, f"{where}[{number}]")
    elif json.dumps(old) != json.dumps(new):
        yield f"{where} was {_short(old)}, is {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

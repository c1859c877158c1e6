"""A sweep: every job once, whatever dies, in whatever order; results that resume, and folders that never mix."""

import errno
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sweep_jobs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bt_margin.sweep import Stopped, Sweep, load, progress_bar, reference, resolve
from bt_margin.sweep.store import Store

ROOT = Path(__file__).parents[1]
PATIENCE = 60  # seconds in which another process must have done what it is waited for


def squares(folder: Path, count: int = 5, **plan: Any) -> Sweep:
    return Sweep(folder, {"seed": 7, **plan}, [{"x": x} for x in range(count)], "sweep_jobs:square")


def counting(folder: Path, count: int = 5, work: str = "counted", marked: int | None = None, **plan: Any) -> Sweep:
    """A sweep whose jobs leave in ``ran`` how often each was done; the marked one may kill its worker."""
    ran = folder.parent / "ran"
    ran.mkdir(exist_ok=True)
    jobs = [{"x": x, **({"kills": True} if x == marked else {})} for x in range(count)]
    return Sweep(folder, {"ran": str(ran), **plan}, jobs, f"sweep_jobs:{work}")


def times_run(folder: Path) -> dict[int, int]:
    return {int(path.name): path.stat().st_size for path in (folder.parent / "ran").iterdir() if path.name.isdigit()}


def stop_at(count: int) -> Callable[..., None]:
    def progress(done: int, total: int, seconds_left: float | None) -> None:
        if done == count:
            raise KeyboardInterrupt

    return progress


def is_whole(rows: list[dict[str, Any]]) -> bool:
    return rows == [{"x": x, "y": x * x, "error": ""} for x in range(len(rows))]


def lines_of(folder: Path) -> list[int]:
    """Return the job of each line of results, in the order in which they were written."""
    return [json.loads(line[9:])["job"] for line in (folder / "rows.jsonl").read_bytes().splitlines()]


@contextmanager
def script_running(text: str, *arguments: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A Python script in a process group of its own, which is killed at the end."""
    (folder / "script.py").write_text(text)
    command = [sys.executable, "-W", "error", str(folder / "script.py"), *arguments]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    search_path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": search_path}, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def script_said(text: str, *arguments: str, folder: Path) -> str:
    """Return what a script that must succeed prints."""
    with script_running(text, *arguments, folder=folder) as process:
        said, complained = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, complained
        return said


def workers_in(folder: Path) -> list[int]:
    return [int(path.name.split("-")[-2]) for path in (folder / "running").iterdir()]


def has_ended(process: int) -> bool:
    """Whether a process that is nobody's child here ends within our patience."""
    if not hasattr(os, "pidfd_open"):
        pytest.skip("needs Linux, where the end of any process can be waited for")
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], PATIENCE)[0])
    finally:
        os.close(descriptor)


# -- rows -------------------------------------------------------------------------------------------------------------


def test_rows_come_in_the_order_of_the_jobs_with_an_empty_error(tmp_path: Path) -> None:
    assert squares(tmp_path / "a", 3).run(backend="serial") == [
        {"x": 0, "y": 0, "error": ""},
        {"x": 1, "y": 1, "error": ""},
        {"x": 2, "y": 4, "error": ""},
    ]


def test_no_jobs_are_no_rows_and_no_folder(tmp_path: Path) -> None:
    assert squares(tmp_path / "a", 0).run() == []
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_rows_are_the_same_whatever_the_number_of_workers_and_the_order_of_completion(tmp_path: Path, workers: int) -> None:
    jobs = [{"x": x} for x in range(6)]
    alone = Sweep(tmp_path / "alone", {}, jobs, "sweep_jobs:last_first")
    plan = {"word": str(tmp_path / "word"), "last": 5} if workers > 1 else {}
    many = Sweep(tmp_path / "many", plan, jobs, "sweep_jobs:last_first")
    assert many.run(workers=workers) == alone.run(backend="serial")
    assert sorted(lines_of(many.folder)) == lines_of(alone.folder) == [0, 1, 2, 3, 4, 5]
    if workers > 1:
        assert lines_of(many.folder) != lines_of(alone.folder)
    assert many.export(tmp_path / "many.jsonl").read_bytes() == alone.export(tmp_path / "alone.jsonl").read_bytes()


def test_the_global_generators_draw_the_same_in_every_process_and_are_left_alone_here(tmp_path: Path) -> None:
    jobs = [{"x": x} for x in range(6)]
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    here = Sweep(tmp_path / "a", {"seed": 7}, jobs, "sweep_jobs:draws").run(backend="serial")
    assert (random.random(), np.random.random()) == expected
    assert Sweep(tmp_path / "b", {"seed": 7}, jobs, "sweep_jobs:draws").run(workers=2) == here
    assert len({str(row) for row in here}) == 6
    assert Sweep(tmp_path / "c", {"seed": 8}, jobs, "sweep_jobs:draws").run(backend="serial") != here


def test_numbers_of_numpy_are_numbers_of_the_row(tmp_path: Path) -> None:
    (row,) = Sweep(tmp_path / "a", {}, [{}], "sweep_jobs:numbers").run(backend="serial")
    assert row == {"float": 0.5, "int": 7, "bool": True, "none": None, "far": float("inf"), "error": ""}
    assert [type(value) for value in row.values()] == [float, int, bool, type(None), float, str]


def test_arrays_are_read_back_as_read_only_maps(tmp_path: Path) -> None:
    sweep = counting(tmp_path / "a", 3)
    sweep.run(backend="serial")
    steps = counting(tmp_path / "a", 3).arrays(2)["steps"]
    assert steps.tolist() == [0.0, 1.0, 2.0]
    assert isinstance(steps, np.memmap) and not steps.flags.writeable
    with pytest.raises(ValueError, match=r"job 3 of .* is not done"):
        sweep.arrays(3)


def test_progress_tells_done_all_and_the_seconds_left(tmp_path: Path) -> None:
    told: list[tuple[int, int, float | None]] = []
    squares(tmp_path / "a", 3).run(backend="serial", progress=lambda *told_now: told.append(told_now))
    assert [(done, total) for done, total, _ in told] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert told[0][2] is None
    assert told[1][2] is not None and told[1][2] > 0
    assert told[3][2] == 0


def test_the_progress_bar_is_silent_where_there_is_no_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar("running jobs") as progress:
        assert is_whole(squares(tmp_path / "a").run(backend="serial", progress=progress))
    assert capfd.readouterr() == ("", "")


def test_the_progress_bar_tells_jobs_and_time_left_on_a_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # by which rich takes any stream for a terminal
    monkeypatch.setenv("COLUMNS", "120")
    with progress_bar("running jobs") as progress:
        squares(tmp_path / "a").run(backend="serial", progress=progress)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capfd.readouterr().err)
    assert re.search(r"running jobs .* 5/5 0:00:00 left 0:00:00", shown)


# -- jobs that fail ---------------------------------------------------------------------------------------------------

FAILURES = {
    "raise": r"job 0: ZeroDivisionError: division by zero \(sweep_jobs.py, line \d+\)",
    "exit": r"job 0: SystemExit: the strategy wants to leave \(sweep_jobs.py, line \d+\)",
    "unpicklable": r"job 0: UnpicklableError: with a lock in it \(sweep_jobs.py, line \d+\)",
    "function": r"job 0: ValueError: the row of job 0 holds a function, .*",
    "objects": r"job 0: ValueError: array 'held' holds Python objects; .*",
    "name": r"job 0: ValueError: an array's name is of letters, .* was '../up'.*",
    "nothing": r"job 0: TypeError: 'NoneType' object is not iterable",
}


@pytest.mark.parametrize("how", FAILURES)
def test_a_job_that_fails_is_a_row_and_the_others_are_done(tmp_path: Path, how: str) -> None:
    sweep = Sweep(tmp_path / "a", {}, [{"how": how, "x": 0}, {"how": "well"}], "sweep_jobs:fails")
    failed, well = sweep.run(backend="serial")
    assert re.fullmatch(FAILURES[how], failed["error"]), failed["error"]
    assert list(failed) == ["error"]
    assert well == {"y": 2, "error": ""}
    assert sweep.traceback(0).startswith("Traceback") and sweep.traceback(1) == ""


def test_failures_in_workers_are_the_same_rows(tmp_path: Path) -> None:
    jobs = [{"how": how, "x": 0} for how in (*FAILURES, "well")]
    here = Sweep(tmp_path / "a", {}, jobs, "sweep_jobs:fails").run(backend="serial")
    there = Sweep(tmp_path / "b", {}, jobs, "sweep_jobs:fails").run(workers=2)
    assert [row["error"].partition(" at 0x")[0] for row in there] == [row["error"].partition(" at 0x")[0] for row in here]


# -- resuming ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [{"backend": "serial"}, {"workers": 2}], ids=["serial", "loky"])
def test_ctrl_c_says_what_is_done_and_resume_does_the_rest(tmp_path: Path, terms: dict[str, Any]) -> None:
    sweep = counting(tmp_path / "a", 8)
    with pytest.raises(Stopped, match=r"stopped: 3 of 8 jobs are done and kept in .*; the same command with resume=True does the rest"):
        sweep.run(**terms, progress=stop_at(3))
    done = lines_of(sweep.folder)
    assert len(done) == 3
    assert is_whole(counting(tmp_path / "a", 8).run(**terms, resume=True))
    assert sorted(lines_of(sweep.folder)) == list(range(8))
    assert {job: times_run(sweep.folder)[job] for job in done} == dict.fromkeys(done, 1)


@pytest.mark.parametrize("terms", [{"backend": "serial"}, {"workers": 2}], ids=["serial", "loky"])
def test_without_time_no_job_is_begun_and_what_is_done_is_told(tmp_path: Path, terms: dict[str, Any]) -> None:
    sweep = counting(tmp_path / "a", 8)
    assert sweep.run(**terms, seconds=0) == [None] * 8
    with pytest.raises(Stopped):
        sweep.run(**terms, progress=stop_at(3))
    done = lines_of(sweep.folder)
    rows = counting(tmp_path / "a", 8).run(**terms, resume=True, seconds=0)
    assert [number for number, row in enumerate(rows) if row is not None] == sorted(done)
    assert is_whole(counting(tmp_path / "a", 8).run(**terms, resume=True))
    assert {job: times_run(sweep.folder)[job] for job in done} == dict.fromkeys(done, 1)


def test_when_the_time_is_over_the_job_under_way_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = tmp_path / "ran"
    ran.mkdir()
    # A second goes by with each job, and none between them, however busy the machine is.
    monkeypatch.setattr("bt_margin.sweep.time", SimpleNamespace(monotonic=lambda: float(len(list(ran.iterdir())))))
    jobs = [{"x": x} for x in range(3)]
    rows = Sweep(tmp_path / "a", {"ran": str(ran)}, jobs, "sweep_jobs:counted").run(backend="serial", seconds=0.5)
    assert [row is None for row in rows] == [False, True, True]
    assert rows[0]["y"] == 0


def test_a_finished_sweep_is_read_and_not_run(tmp_path: Path) -> None:
    rows = counting(tmp_path / "a").run(backend="serial")
    assert counting(tmp_path / "a").run(workers=2, resume=True) == rows
    assert times_run(tmp_path / "a") == dict.fromkeys(range(5), 1)


def test_resuming_a_folder_that_is_not_there_begins_one(tmp_path: Path) -> None:
    assert is_whole(squares(tmp_path / "a").run(backend="serial", resume=True))


def test_a_folder_that_was_removed_between_two_runs_is_begun_anew(tmp_path: Path) -> None:
    sweep = squares(tmp_path / "a")
    first = sweep.run(backend="serial")
    shutil.rmtree(tmp_path / "a")
    assert sweep.run(backend="serial") == first
    assert lines_of(tmp_path / "a") == [0, 1, 2, 3, 4]


def test_results_are_not_mixed_without_resume(tmp_path: Path) -> None:
    squares(tmp_path / "a").run(backend="serial")
    with pytest.raises(ValueError, match=r"holds 5 of 5 results of this sweep; continue it with resume=True, or name another folder"):
        squares(tmp_path / "a").run(backend="serial")


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (lambda folder: squares(folder, fee=1), r"plan\.fee was missing, is 1;"),
        (lambda folder: Sweep(folder, {"seed": 8}, squares(folder).jobs, "sweep_jobs:square"), r"plan\.seed was 7, is 8;"),
        (lambda folder: squares(folder, 6), r"jobs was 5, is 6;"),
        (
            lambda folder: Sweep(folder, {"seed": 7}, [{"x": x + 1} for x in range(5)], "sweep_jobs:square"),
            r"job 0\.x was 0, is 1, .* and more;",
        ),
        (lambda folder: Sweep(folder, {"seed": 7}, squares(folder).jobs, "sweep_jobs:draws"), r'work was "sweep_jobs:square", is "sweep'),
    ],
    ids=["longer plan", "plan", "more jobs", "jobs", "work"],
)
@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_of_another_sweep_is_refused_with_what_differs(
    tmp_path: Path, other: Callable[[Path], Sweep], told: str, resume: bool
) -> None:
    squares(tmp_path / "a").run(backend="serial")
    with pytest.raises(ValueError, match=f"holds another sweep: {told}"):
        other(tmp_path / "a").run(backend="serial", resume=resume)
    assert is_whole(squares(tmp_path / "a").run(backend="serial", resume=True))


def test_a_folder_that_has_no_result_yet_may_become_another_sweep(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="0 of 5"):
        squares(tmp_path / "a").run(backend="serial", progress=stop_at(0))
    assert is_whole(squares(tmp_path / "a", 6).run(backend="serial"))


def test_results_of_no_sweep_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("mine\n")
    with pytest.raises(ValueError, match=r"rows.jsonl is of no sweep"):
        squares(tmp_path).run(backend="serial", resume=True)
    assert (tmp_path / "rows.jsonl").read_text() == "mine\n"


def test_a_line_torn_at_any_byte_is_done_again_and_nothing_else(tmp_path: Path) -> None:
    whole = counting(tmp_path / "a", 2).run(backend="serial")
    path = tmp_path / "a" / "rows.jsonl"
    content = path.read_bytes()
    ends = [0, *(place + 1 for place, byte in enumerate(content) if byte == ord("\n"))]
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        before = times_run(tmp_path / "a")
        assert counting(tmp_path / "a", 2).run(backend="serial", resume=True) == whole
        assert path.read_bytes() == content
        kept = sum(end <= cut for end in ends[1:])
        after = times_run(tmp_path / "a")
        assert [after[job] - before[job] for job in range(2)] == [0] * kept + [1] * (2 - kept)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.integers(0, 10**9), byte=st.integers(0, 255))
def test_a_damaged_byte_costs_its_own_line_at_most(tmp_path: Path, place: int, byte: int) -> None:
    folder = tmp_path / "a"
    whole = squares(folder, 4).run(backend="serial", resume=True)
    content = bytearray((folder / "rows.jsonl").read_bytes())
    content[place % len(content)] = byte
    (folder / "rows.jsonl").write_bytes(content)
    assert squares(folder, 4).run(backend="serial", resume=True) == whole
    assert squares(folder, 4).export(tmp_path / "out").read_text().count("\n") == 4


@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1])], ids=["gone", "short"]
)
def test_a_row_whose_arrays_are_not_whole_is_done_again(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    rows = counting(tmp_path / "a").run(backend="serial")
    damage(tmp_path / "a" / "arrays" / "000" / "000003.steps.npy")
    again = counting(tmp_path / "a")
    assert again.run(backend="serial", resume=True) == rows
    assert times_run(tmp_path / "a") == {0: 1, 1: 1, 2: 1, 3: 2, 4: 1}
    assert again.arrays(3)["steps"].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_an_array_that_was_changed_is_told(tmp_path: Path) -> None:
    sweep = counting(tmp_path / "a")
    sweep.run(backend="serial")
    path = tmp_path / "a" / "arrays" / "000" / "000003.steps.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(
        ValueError, match=r"000003.steps.npy is not what its job left there; remove the file and run again with resume=True"
    ):
        sweep.arrays(3)


# -- inputs -----------------------------------------------------------------------------------------------------------


def sums(folder: Path, bars: np.ndarray) -> Sweep:
    sweep = Sweep(folder, {}, [{"x": 2}, {"x": 3}], "sweep_jobs:sums")
    sweep.store("bars", bars)
    return sweep


def test_inputs_are_mapped_by_every_worker(tmp_path: Path) -> None:
    sweep = sums(tmp_path / "a", np.array([1.0, 2.0, 4.0]))
    assert sweep.load("bars").tolist() == [1.0, 2.0, 4.0]
    expected = [{"sum": value, "kind": "memmap", "is_writable": False, "error": ""} for value in (1.0 + 2.0, 1.0 + 2.0 + 4.0)]
    assert sweep.run(workers=2) == expected
    assert sums(tmp_path / "a", np.array([1.0, 2.0, 4.0])).run(resume=True) == expected


@pytest.mark.parametrize("bars", [[1.0, 2.0, 5.0], [1.0, 2.0], [1, 2, 4]], ids=["values", "length", "kind"])
def test_results_of_other_inputs_are_not_mixed(tmp_path: Path, bars: list[float]) -> None:
    sums(tmp_path / "a", np.array([1.0, 2.0, 4.0])).run(backend="serial")
    with pytest.raises(ValueError, match="holds results of another input 'bars'; name another folder"):
        sums(tmp_path / "a", np.array(bars))


def test_an_input_that_the_caller_wrote_counts_too(tmp_path: Path) -> None:
    sweep = sums(tmp_path / "a", np.arange(3.0))
    sweep.run(backend="serial")
    np.save(tmp_path / "a" / "inputs" / "bars.npy", np.arange(1.0, 4.0))
    fresh = Sweep(tmp_path / "a", {}, sweep.jobs, sweep.work)
    with pytest.raises(ValueError, match=r"holds another sweep: inputs\.bars\.npy was "):
        fresh.run(backend="serial", resume=True)
    with pytest.raises(ValueError, match=r"the input .*bars.npy was changed since it was stored"):
        sweep.run(backend="serial", resume=True)


def test_empty_and_scalar_arrays_are_kept(tmp_path: Path) -> None:
    sweep = squares(tmp_path / "a")
    for name, array in (("empty", np.zeros(0)), ("scalar", np.array(2.0)), ("plane", np.asfortranarray(np.arange(6.0).reshape(2, 3)))):
        sweep.store(name, array)
        sweep.store(name, array)
        assert np.array_equal(sweep.load(name), array) and sweep.load(name).shape == array.shape


def test_inputs_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no input 'bars'"):
        squares(tmp_path / "a").load("bars")
    with pytest.raises(ValueError, match=r"load\('bars'\) is for the work of a sweep"):
        load("bars")
    (row,) = Sweep(tmp_path / "a", {}, [{"x": 1}], "sweep_jobs:sums").run(backend="serial")
    assert "has no input 'bars'; store it before run()" in row["error"]
    with pytest.raises(ValueError, match="an array's name is of letters"):
        squares(tmp_path / "a").store("a/b", np.zeros(1))


# -- one at a time ----------------------------------------------------------------------------------------------------

HOLDS = """
import sys
from pathlib import Path
from bt_margin.sweep.store import Store
with Store(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_sweep_in_the_same_folder_is_refused_until_the_first_one_ends(tmp_path: Path) -> None:
    with (
        Store(tmp_path / "a").locked(),
        pytest.raises(ValueError, match=rf"a sweep is at work in .*a \(process {os.getpid()} on \S+\); wait"),
    ):
        squares(tmp_path / "a").run(backend="serial")
    assert is_whole(squares(tmp_path / "a").run(backend="serial"))


def test_the_lock_of_a_killed_sweep_is_no_lock(tmp_path: Path) -> None:
    with script_running(HOLDS, str(tmp_path / "a"), folder=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(ValueError, match=rf"\(process {process.pid} on "):
            squares(tmp_path / "a").run(backend="serial")
        process.kill()
        process.wait(PATIENCE)
    assert is_whole(squares(tmp_path / "a").run(backend="serial"))


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ({"backend": "threads"}, "backend is one of loky, dask, serial; was 'threads'"),
        ({"workers": 0}, "workers is a whole number from 1 up, or None for one a core; was 0"),
        ({"backend": "dask"}, "backend='dask' takes scheduler='tcp://host:port', and no other backend does"),
        ({"scheduler": "tcp://localhost:1"}, "backend='dask' takes scheduler='tcp://host:port', and no other backend does"),
    ],
)
def test_wrong_use_is_one_sentence(tmp_path: Path, terms: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        squares(tmp_path / "a").run(**terms)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("work", ["square", "__main__:square", "no_such_module:square", "sweep_jobs:no_such_function"])
def test_work_that_workers_cannot_import_is_refused_before_anything_is_written(tmp_path: Path, work: str) -> None:
    with pytest.raises(ValueError, match=rf"^work .*{work.rpartition(':')[2]}"):
        Sweep(tmp_path / "a", {}, [{}], work).run()
    assert not (tmp_path / "a").exists()


def test_a_plan_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the plan holds a PosixPath, "):
        squares(tmp_path / "a", path=tmp_path).run()
    with pytest.raises(ValueError, match="job 0 holds a type, "):
        Sweep(tmp_path / "a", {}, [{"strategy": Sweep}], "sweep_jobs:square").run()


# -- full disks -------------------------------------------------------------------------------------------------------

LIMITED = """
import resource, sys
from bt_margin.sweep import Sweep
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
plan = {"letters": int(sys.argv[3]), "numbers": int(sys.argv[4])}
jobs = [{"x": x} for x in range(10)]
if __name__ == "__main__":
    try:
        Sweep(sys.argv[1], plan, jobs, "sweep_jobs:big").run(workers=2)
    except OSError as error:
        print(error.errno, error)
"""


@pytest.mark.parametrize(("letters", "numbers"), [(1000, 0), (0, 1000)], ids=["rows", "arrays"])
def test_a_file_that_may_not_grow_says_so_and_leaves_what_resumes(tmp_path: Path, letters: int, numbers: int) -> None:
    folder = tmp_path / "a"
    said = script_said(LIMITED, str(folder), "4500", str(letters), str(numbers), folder=tmp_path)
    done = len(lines_of(folder))
    what = rf"{'an array of job .' if numbers else folder} cannot be written: File too large"
    place = f"{done} of 10 jobs are done and kept in {folder}; the same command with resume=True does the rest"
    assert re.search(what, said)
    assert said.startswith(f"{errno.EFBIG} ") and place in said
    assert done == (4 if letters else 0)  # a line of 1000 letters and some sixty bytes around it
    plan = {"letters": letters, "numbers": numbers}
    rows = Sweep(folder, plan, [{"x": x} for x in range(10)], "sweep_jobs:big").run(backend="serial", resume=True)
    assert [row["x"] for row in rows] == list(range(10))
    assert sorted(lines_of(folder)) == list(range(10))


def test_a_full_disk_says_so_and_resumes_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a small file system: {mounted.stderr.strip()}")
    try:
        sweep = Sweep(disk / "a", {"letters": 3000, "numbers": 3000}, [{"x": x} for x in range(30)], "sweep_jobs:big")
        with pytest.raises(OSError, match="No space left on device") as caught:
            sweep.run(workers=2)
        assert f"{len(lines_of(sweep.folder))} of 30 jobs are done" in str(caught.value)
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        assert [row["x"] for row in sweep.run(workers=2, resume=True)] == list(range(30))
        assert sorted(lines_of(sweep.folder)) == list(range(30))
        assert list((sweep.folder / "arrays").rglob("*.part")) == []
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


# -- classes by reference ---------------------------------------------------------------------------------------------

ANSWERS = "class Cross:\n    def answer(self):\n        return {answer}\n"


def test_a_class_of_an_importable_module_goes_by_its_module() -> None:
    where = reference(Sweep)
    assert (where["module"], where["file"], where["name"]) == ("bt_margin.sweep", None, "Sweep")
    assert resolve(where) is Sweep
    assert resolve(reference(sweep_jobs.UnpicklableError)) is sweep_jobs.UnpicklableError


def test_a_class_of_a_file_goes_by_its_path_and_what_stands_beside_it_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_cross.py").write_text("NUMBER = 42\n")
    (tmp_path / "cross.py").write_text("from neighbour_of_cross import NUMBER\n" + ANSWERS.format(answer="NUMBER"))
    where = {"file": str(tmp_path / "cross.py"), "module": None, "name": "Cross"}
    found = resolve(where)
    assert found().answer() == 42
    assert resolve(where) is found
    assert reference(found)["file"] == str(tmp_path / "cross.py")
    rows = Sweep(tmp_path / "a", {"strategy": reference(found)}, [{}, {}], "sweep_jobs:named").run(workers=2)
    assert [(row["name"], row["answer"], row["error"]) for row in rows] == [("Cross", 42, "")] * 2


def test_source_that_has_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cross.py"
    path.write_text(ANSWERS.format(answer=1))
    where = reference(resolve({"file": str(path), "module": None, "name": "Cross"}))
    path.write_text(ANSWERS.format(answer=2))
    with pytest.raises(ValueError, match=r"cross.py has changed since the sweep was planned"):
        resolve(where)
    assert resolve({**where, "hash": None})().answer() == 2


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*gone.py, in which Cross should stand"):
        resolve({"file": str(tmp_path / "gone.py"), "name": "Cross"})
    with pytest.raises(ValueError, match=r"sweep_jobs.py has no Cross"):
        resolve({"module": "sweep_jobs", "name": "Cross"})


def test_classes_that_no_other_process_can_find_are_refused() -> None:
    class Inner:
        pass

    with pytest.raises(ValueError, match=r"Inner is made inside a function, .* move it to the top level"):
        reference(Inner)
    other = type("Sweep", (), {"__module__": "bt_margin.sweep"})
    with pytest.raises(ValueError, match=r"bt_margin.sweep holds something else under the name Sweep"):
        reference(other)


SCRIPT = """
import sys
from bt_margin.sweep import Sweep, reference
class Cross:
    def answer(self):
        return 42
def main():
    terms = {"backend": "serial"} if "serial" in sys.argv else {"workers": 2}
    rows = Sweep(sys.argv[1], {"strategy": reference(Cross)}, [{}, {}, {}], "sweep_jobs:named").run(**terms)
    for row in rows:
        print(row.get("name"), row.get("answer"), row["error"])
"""


@pytest.mark.parametrize(("how", "reads"), [("loky", [1, 2]), ("serial", [0])])
def test_a_class_of_the_started_script_is_found_and_the_script_not_run_again(tmp_path: Path, how: str, reads: list[int]) -> None:
    read = "sys.stdout.write(f'read {__name__ == \"__main__\"}\\n')\n"  # in one piece, for workers share the stream
    guarded = SCRIPT + read + "if __name__ == '__main__':\n    main()\n"
    said = script_said(guarded, str(tmp_path / "a"), how, folder=tmp_path).splitlines()
    assert [line for line in said if not line.startswith("read")] == ["Cross 42 "] * 3
    assert said.count("read True") == 1
    assert said.count("read False") in reads  # once in each worker that had a job


def test_a_class_of_a_script_started_as_a_module_goes_by_its_module(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "__init__.py").touch()
    (tmp_path / "study" / "own.py").write_text("ANSWER = 42\n")
    text = SCRIPT.replace("return 42", "return ANSWER") + "if __name__ == '__main__':\n    print(reference(Cross)['module'])\n    main()\n"
    (tmp_path / "study" / "script.py").write_text("from .own import ANSWER\n" + text)
    search_path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "-m", "study.script", str(tmp_path / "a")]
    environment = {**os.environ, "PYTHONPATH": search_path}
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["study.script", *["Cross 42 "] * 3]


def test_a_script_without_a_guard_is_told_to_have_one(tmp_path: Path) -> None:
    said = script_said(SCRIPT + "main()\n", str(tmp_path / "a"), folder=tmp_path)
    assert "script.py begins a sweep while a worker reads it" in said
    assert said.count("if __name__ == '__main__':") == 3


def test_a_class_typed_at_a_prompt_is_refused_in_one_sentence() -> None:
    trial = "class Cross: pass\ntry:\n    reference(Cross)\nexcept ValueError as error:\n    print(error)"
    program = f"from bt_margin.sweep import reference\n{trial}"
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said == "Cross has no source file (it was typed at a prompt or in a notebook); put it into a .py file and import it\n"


def test_the_room_itself_loads_nothing_heavy() -> None:
    program = "import sys, bt_margin.sweep\nprint(sorted({'joblib', 'distributed', 'rich', 'pandas', 'backtrader'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[]\n"


# -- deaths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_is_killed_once_costs_nothing(tmp_path: Path, workers: int) -> None:
    sweep = counting(tmp_path / "a", 12, "dies", marked=5, times=1)
    assert is_whole(sweep.run(workers=workers))
    assert sorted(lines_of(sweep.folder)) == list(range(12))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_kills_its_worker_twice_is_a_row_and_nobody_else_is_blamed(tmp_path: Path, workers: int) -> None:
    sweep = counting(tmp_path / "a", 12, "dies", marked=5, times=9)
    rows = sweep.run(workers=workers)
    assert rows.pop(5) == {"error": "job 5: the worker died (killed, or out of memory), twice"}
    assert rows == [{"x": x, "y": x * x, "error": ""} for x in range(12) if x != 5]
    assert len(list((tmp_path / "ran").glob("killed*"))) == 2
    assert sorted(lines_of(sweep.folder)) == list(range(12))


SWEEPS = """
import sys
from bt_margin.sweep import Stopped, Sweep
def tell(done, total, seconds_left):
    print(done, flush=True)
if __name__ == "__main__":
    jobs = [{"x": x, "waits": x > 7} for x in range(12)]
    try:
        Sweep(sys.argv[1], {"ran": sys.argv[2]}, jobs, "sweep_jobs:counted").run(workers=2, progress=tell)
    except Stopped as error:
        print(error)
"""


def ended_after(count: int, ending: Callable[[int], None], tmp_path: Path) -> tuple[list[str], list[int]]:
    """Run a sweep whose last four of twelve jobs wait, end it once some are done, and return what else it said, and its workers."""
    (tmp_path / "ran").mkdir()
    with script_running(SWEEPS, str(tmp_path / "a"), str(tmp_path / "ran"), folder=tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == count:
                break
        workers = workers_in(tmp_path / "a")
        assert workers
        ending(process.pid)
        said, complained = process.communicate(timeout=PATIENCE)  # ends when every process that shares its output has
    assert complained == ""
    return said.splitlines(), workers


def resumed(tmp_path: Path) -> list[dict[str, Any]]:
    (tmp_path / "ran" / "word").touch()
    jobs = [{"x": x, "waits": x > 7} for x in range(12)]
    return Sweep(tmp_path / "a", {"ran": str(tmp_path / "ran")}, jobs, "sweep_jobs:counted").run(workers=2, resume=True)


def test_after_a_sigkill_workers_end_themselves_and_resume_loses_and_doubles_nothing(tmp_path: Path) -> None:
    said, workers = ended_after(3, lambda process: os.kill(process, signal.SIGKILL), tmp_path)
    assert [line for line in said if not line.isdigit()] == []
    assert all(has_ended(worker) for worker in workers)
    done, before = lines_of(tmp_path / "a"), times_run(tmp_path / "a")
    assert 3 <= len(done) <= 8
    assert is_whole(resumed(tmp_path))
    assert lines_of(tmp_path / "a")[: len(done)] == done and sorted(lines_of(tmp_path / "a")) == list(range(12))
    assert {job: times_run(tmp_path / "a")[job] for job in done} == {job: before[job] for job in done}


def test_ctrl_c_in_a_terminal_ends_all_workers_and_says_one_sentence(tmp_path: Path) -> None:
    said, workers = ended_after(3, lambda process: os.killpg(process, signal.SIGINT), tmp_path)
    (sentence,) = (line for line in said if not line.isdigit())
    done = len(lines_of(tmp_path / "a"))
    assert sentence.startswith(f"stopped: {done} of 12 jobs are done and kept in {tmp_path / 'a'}; the same command with resume=True")
    assert all(has_ended(worker) for worker in workers)
    assert is_whole(resumed(tmp_path))
    assert sorted(lines_of(tmp_path / "a")) == list(range(12))


# -- a cluster --------------------------------------------------------------------------------------------------------


def dask(*words: str, search_path: str) -> subprocess.Popen[str]:
    settings_of_dask = {"DASK_DISTRIBUTED__WORKER__DAEMON": "False", "PYTHONPATH": search_path}
    command = [sys.executable, "-W", "ignore", "-m", "dask", *words]
    return subprocess.Popen(command, env={**os.environ, **settings_of_dask}, stderr=subprocess.PIPE, text=True)


def told_by(process: subprocess.Popen[str], pattern: str) -> str:
    """Return what the first line of a log that matches a pattern has in its group."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError(f"a process of the cluster ended before it said {pattern}")


@contextmanager
def cluster(workers: int) -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """A dask scheduler and worker processes of one thread each, none of them restarted by anybody."""
    pytest.importorskip("distributed")
    scheduler = dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", search_path=str(ROOT))
    started = [scheduler]
    try:
        address = told_by(scheduler, r"Scheduler at:\s+(tcp://\S+)")
        quiet = ("--no-nanny", "--no-dashboard", "--nthreads", "1", "--host", "127.0.0.1")
        started += [dask("worker", address, *quiet, search_path=str(ROOT)) for _ in range(workers)]
        for worker in started[1:]:
            told_by(worker, r"Registered to:\s+(tcp://\S+)")
        yield address, started[1:]
    finally:
        for process in reversed(started):
            process.kill()
            process.communicate()


@pytest.mark.slow
def test_a_cluster_that_loses_half_its_workers_half_way_has_all_rows_and_none_twice(tmp_path: Path) -> None:
    jobs = [{"x": x, "seconds": 0.1} for x in range(20)]
    (tmp_path / "ran").mkdir()
    sweep = Sweep(tmp_path / "a", {"ran": str(tmp_path / "ran")}, jobs, "sweep_jobs:counted")
    with cluster(2) as (address, workers):

        def kill_one(done: int, total: int, seconds_left: float | None) -> None:
            if done == 8:
                assert set(workers_in(tmp_path / "a")) <= {worker.pid for worker in workers}
                workers[0].kill()

        rows = sweep.run(backend="dask", scheduler=address, progress=kill_one)
        assert workers[0].wait(PATIENCE) == -signal.SIGKILL and workers[1].poll() is None
    assert is_whole(rows) and len(rows) == 20
    assert sorted(lines_of(sweep.folder)) == list(range(20))
    assert sweep.arrays(19)["steps"].tolist() == list(range(20))
    assert Sweep(tmp_path / "b", sweep.plan, jobs, sweep.work).run(backend="serial") == rows


@pytest.mark.slow
def test_on_a_cluster_a_job_that_kills_two_workers_is_a_row_and_the_third_does_the_rest(tmp_path: Path) -> None:
    sweep = counting(tmp_path / "a", 12, "dies", marked=5, times=9)
    with cluster(3) as (address, workers):
        rows = sweep.run(backend="dask", scheduler=address)
        assert sorted(worker.poll() is None for worker in workers) == [False, False, True]
    assert rows.pop(5)["error"] == "job 5: the worker died (killed, or out of memory), twice"
    assert rows == [{"x": x, "y": x * x, "error": ""} for x in range(12) if x != 5]
    assert sorted(lines_of(sweep.folder)) == list(range(12))


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("bt_margin.sweep.runner.CONNECT_SECONDS", 1)
    with pytest.raises(ConnectionError, match=r"no dask scheduler answers at tcp://127.0.0.1:9 .*; start one with 'dask scheduler'"):
        squares(tmp_path / "a").run(backend="dask", scheduler="tcp://127.0.0.1:9")
    with cluster(0) as (address, _), pytest.raises(ConnectionError, match=rf"at {address} has no workers; start some with 'dask worker"):
        squares(tmp_path / "a").run(backend="dask", scheduler=address)


@pytest.mark.slow
def test_a_cluster_that_loses_all_its_workers_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bt_margin.sweep.runner.CONNECT_SECONDS", 2)
    monkeypatch.setattr("bt_margin.sweep.runner.LONELY_SECONDS", 2)
    jobs = [{"x": x, "seconds": 0.1} for x in range(12)]
    (tmp_path / "ran").mkdir()
    sweep = Sweep(tmp_path / "a", {"ran": str(tmp_path / "ran")}, jobs, "sweep_jobs:counted")
    with cluster(2) as (address, workers):

        def kill_all(done: int, total: int, seconds_left: float | None) -> None:
            if done == 4:
                for worker in workers:
                    worker.kill()

        with pytest.raises(ConnectionError, match=r"has no workers; .* \d+ of 12 jobs are done and kept in"):
            sweep.run(backend="dask", scheduler=address, progress=kill_all)
    done = lines_of(sweep.folder)
    assert 4 <= len(done) < 12
    assert is_whole(sweep.run(backend="serial", resume=True))
    assert sorted(lines_of(sweep.folder)) == list(range(12))
    assert {job: times_run(sweep.folder)[job] for job in done} == dict.fromkeys(done, 1)

"""What the sweeps of the tests do: functions that worker processes import by name."""

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bt_margin.sweep import load, resolve


def square(plan: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    return {"x": job["x"], "y": job["x"] ** 2}


def counted(plan: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """Square, and leave one byte in the file of the job for each time it is done; a job that waits does until it gets word."""
    while job.get("waits") and not Path(plan["ran"], "word").exists():
        time.sleep(0.01)
    with Path(plan["ran"], str(job["x"])).open("a") as file:
        file.write(".")
    time.sleep(job.get("seconds", 0))
    return {**square(plan, job), "arrays": {"steps": np.arange(job["x"] + 1.0)}}


def last_first(plan: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """Square; where the plan names a file to leave word in, job 0 waits for the word of the last one."""
    if plan.get("word"):
        if job["x"] == plan["last"]:
            Path(plan["word"]).touch()
        while job["x"] == 0 and not Path(plan["word"]).exists():
            time.sleep(0.01)
    return square(plan, job)


def sums(plan: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    bars = load("bars")
    return {"sum": float(bars[: job["x"]].sum()), "kind": type(bars).__name__, "is_writable": bool(bars.flags.writeable)}


def draws(plan: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    return {"drawn": [random.random(), float(np.random.random())]}


def numbers(plan: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    return {"float": np.float32(0.5), "int": np.int64(7), "bool": np.bool_(True), "none": None, "far": float("inf")}


class UnpicklableError(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("an error that does not travel")


def fails(plan: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    how = job["how"]
    if how == "raise":
        return {"y": 1 / job["x"]}
    if how == "exit":
        sys.exit("the strategy wants to leave")
    if how == "unpicklable":
        raise UnpicklableError("with a lock in it")
    if how == "function":
        return {"y": fails}
    if how == "objects":
        return {"y": 1, "arrays": {"held": np.array([object()])}}
    if how == "name":
        return {"y": 1, "arrays": {"../up": np.zeros(1)}}
    if how == "nothing":
        return None  # type: ignore[return-value]
    return {"y": 2}


def dies(plan: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """Square; the job that is marked kills the worker it runs in, as often as the plan says."""
    flags = Path(plan["ran"])
    if job.get("kills"):
        killed = len(list(flags.glob("killed*")))
        if killed < plan["times"]:
            flags.joinpath(f"killed{killed}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return counted(plan, job)


def named(plan: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    found = resolve(plan["strategy"])
    return {"name": found.__name__, "answer": found().answer(), "process": os.getpid()}


def big(plan: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    return {"x": job["x"], "text": "r" * plan["letters"], "arrays": {"a": np.zeros(plan["numbers"])} if plan["numbers"] else {}}

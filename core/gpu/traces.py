"""Traces of GPUs written by hand or recorded: read, checked, asked for a moment.

A trace is a JSON file::

    {"title": "…", "about": "…", "repeat": true,
     "gpus": [{"name": "NVIDIA GeForce RTX 3090", "total_mb": 24576,
               "points": [{"at": 0, "used_mb": 2065, "utilisation": 3, "temperature": 41,
                           "power": 32, "processes": {"ComfyUI": 1500}}, …]}]}

A point may also hold reserved_mb, core_clock and memory_clock in MHz,
pcie_receive_mb_s and pcie_send_mb_s, and throttle, a list of words of
`core.gpu.nvml.THROTTLE`. The trace may hold jobs,
{"every": 30, "begin": 4.5, "hold": 20, "rest": 23}: each job of the window then plays the
next so many seconds, from begin on and at most up to hold, and goes to rest when it ends.
Processes named ComfyUI (or "ComfyUI :8188"),
LM Studio, Ollama, desktop and worker have the roles of these.

Between two points values change evenly. A value that is null, or left out,
could not be read then.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import resources
from core.errors import Category, Problem, ProblemError
from core.gpu.nvml import THROTTLE

FIELD = "gpu-trace"
MOST_GPUS = 64
LARGEST_FILE = 200_000_000
LARGEST_NUMBER = 1e12
WORKER = "worker"
"""Process name that stands for Framedeck's own engine."""

VALUES = (
    "used_mb",
    "utilisation",
    "temperature",
    "power",
    "reserved_mb",
    "core_clock",
    "memory_clock",
    "pcie_receive_mb_s",
    "pcie_send_mb_s",
)


@dataclass(frozen=True, slots=True)
class Point:
    """One GPU at one instant of a trace.

    Attributes:
        at: Seconds since the start.
        values: Numbers by the names in `VALUES`; MB, percent, degrees Celsius, watts, MHz, MB/s.
        processes: MB by process name; None where the list could not be read.
        throttle: Why clocks are held down; None where it could not be read.
    """

    at: float
    values: Mapping[str, float | None]
    processes: Mapping[str, float | None] | None
    throttle: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class GpuTrace:
    """The past of one GPU."""

    name: str
    total_mb: float
    points: tuple[Point, ...]

    def at(self, seconds: float) -> Point:
        """Return what is between the points; the ends hold on."""
        place = bisect_right(self.points, seconds, key=lambda point: point.at)
        if place == 0:
            return self.points[0]
        before = self.points[place - 1]
        if place == len(self.points):
            return before
        after = self.points[place]
        share = (seconds - before.at) / (after.at - before.at)
        values = {name: _between(before.values[name], after.values[name], share) for name in VALUES}
        if before.processes is None:
            return Point(seconds, values, None, before.throttle)
        later = after.processes or {}
        processes = {
            name: _between(used, later.get(name, used), share)
            for name, used in before.processes.items()
        }
        return Point(seconds, values, processes, before.throttle)


@dataclass(frozen=True, slots=True)
class Jobs:
    """Where jobs lie in a trace that follows them, all in seconds.

    Attributes:
        every: From one job to the next.
        begin: Where a job begins, of those.
        hold: Where one that lasts longer waits.
        rest: Where it goes when it ends.
    """

    every: float
    begin: float
    hold: float
    rest: float

    def moment(self, number: int, elapsed: float, *, busy: bool) -> float:
        """Return the place in the trace `elapsed` seconds after job `number` began, or ended."""
        if busy:
            return number * self.every + min(self.begin + elapsed, self.hold)
        return number * self.every + min(self.rest + elapsed, self.every)


@dataclass(frozen=True, slots=True)
class Trace:
    """GPUs of one machine.

    Attributes:
        jobs: How it follows the jobs of who replays it, None for not at all.
        repeat: Whether it begins again at its end.
    """

    title: str
    about: str
    repeat: bool
    gpus: tuple[GpuTrace, ...]
    jobs: Jobs | None = None

    @property
    def seconds(self) -> float:
        """Length of the longest GPU's past."""
        return max((gpu.points[-1].at for gpu in self.gpus), default=0.0)

    def moment(self, seconds: float) -> float:
        """Return the place in the trace that belongs to `seconds` since its start."""
        return seconds % self.seconds if self.repeat and self.seconds > 0 else seconds


def shipped() -> list[str]:
    """Return the names of the traces that come with Framedeck."""
    return sorted(path.stem for path in resources.path("traces").glob("*.json"))


def find(name: str) -> Path:
    """Return the file that `name` means: a path, or the name of a shipped trace."""
    return resources.path(f"traces/{name}.json") if name in shipped() else Path(name)


def load(path: Path) -> Trace:
    """Read and check a trace.

    Raises:
        ProblemError: It cannot be read, or a value in it makes no sense; the
            problem names the place.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise _problem(f"{path.name} is larger than {LARGEST_FILE // 1_000_000} MB.")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _problem(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise _problem(f"{path.name} is not JSON: {error}.") from error
    if not isinstance(data, dict):
        raise _problem(f"{path.name} holds no object with gpus.")
    gpus = data.get("gpus")
    if not isinstance(gpus, list) or len(gpus) > MOST_GPUS:
        raise _problem(f"gpus must be a list of at most {MOST_GPUS} GPUs.")
    return Trace(
        title=str(data.get("title", path.stem)),
        about=str(data.get("about", "")),
        repeat=bool(data.get("repeat", False)),
        gpus=tuple(_gpu(gpu, f"gpus[{number}]") for number, gpu in enumerate(gpus)),
        jobs=_jobs(data.get("jobs")),
    )


def _jobs(data: Any) -> Jobs | None:
    if data is None:
        return None
    if not isinstance(data, dict):
        raise _problem("jobs must be an object.")
    places = [
        _number(data.get(name), f"jobs.{name}") for name in ("begin", "hold", "rest", "every")
    ]
    known = [place for place in places if place is not None]
    if len(known) < len(places) or known != sorted(known) or not known[3]:
        raise _problem("jobs must hold begin, hold, rest and every, rising seconds.")
    begin, hold, rest, every = known
    return Jobs(every, begin, hold, rest)


def _gpu(data: Any, place: str) -> GpuTrace:
    if not isinstance(data, dict):
        raise _problem(f"{place} must be an object.")
    points = data.get("points")
    if not isinstance(points, list) or not points:
        raise _problem(f"{place}.points must be a list with a point or more.")
    total = _number(data.get("total_mb"), f"{place}.total_mb")
    if not total:
        raise _problem(f"{place}.total_mb must be more than 0.")
    made: list[Point] = []
    for number, point in enumerate(points):
        where = f"{place}.points[{number}]"
        made.append(_point(point, where))
        if number and made[-1].at <= made[-2].at:
            raise _problem(f"{where}.at must be later than {made[-2].at:g}: time runs forward.")
        _check(made[-1], total, where)
    return GpuTrace(str(data.get("name", "Simulated GPU")), total, tuple(made))


def _check(point: Point, total: float, where: str) -> None:
    used, reserved = point.values["used_mb"], point.values["reserved_mb"] or 0
    if used is not None and used > total:
        raise _problem(f"{where}.used_mb is more than the total of {total:g} MB.")
    if (used or 0) + reserved > total:
        raise _problem(f"{where}.reserved_mb leaves too little of {total:g} MB for used_mb.")
    if (point.values["utilisation"] or 0) > 100:
        raise _problem(f"{where}.utilisation must not be more than 100 percent.")


def _point(data: Any, place: str) -> Point:
    if not isinstance(data, dict):
        raise _problem(f"{place} must be an object.")
    at = _number(data.get("at"), f"{place}.at")
    if at is None:
        raise _problem(f"{place}.at must be a number of seconds.")
    values = {name: _number(data.get(name), f"{place}.{name}") for name in VALUES}
    listed = data.get("processes")
    if listed is not None and not isinstance(listed, dict):
        raise _problem(f"{place}.processes must be an object of MB by name.")
    processes = (
        None
        if listed is None
        else {
            str(name): _number(used, f"{place}.processes.{name}") for name, used in listed.items()
        }
    )
    return Point(at, values, processes, _throttle(data.get("throttle"), f"{place}.throttle"))


def _throttle(data: Any, place: str) -> tuple[str, ...] | None:
    if data is None:
        return None
    known = tuple(THROTTLE.values())
    if not isinstance(data, list) or any(reason not in known for reason in data):
        raise _problem(f"{place} must be a list of: {', '.join(known)}.")
    return tuple(data)


def _number(value: Any, place: str) -> float | None:
    if value is None:
        return None
    endless = isinstance(value, float) and not math.isfinite(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or endless:
        raise _problem(f"{place} must be a number or null, not {value!r:.60}.")
    if value < 0:
        raise _problem(f"{place} must not be negative.")
    if value > LARGEST_NUMBER:
        raise _problem(f"{place} must not be more than {LARGEST_NUMBER:g}.")
    return float(value)


def _between(before: float | None, after: float | None, share: float) -> float | None:
    if before is None or after is None:
        return before
    return before + (after - before) * share


def _problem(message: str) -> ProblemError:
    hint = "Correct the trace, or start without --gpu-trace."
    return ProblemError(Problem(Category.INVALID_PARAMS, message, hint, field=FIELD))

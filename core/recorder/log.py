"""`vram-usage.log`: a run's memory second by second, with a summary, for people and scripts.

The form is stable: lines that begin with "#" say what the run was; then a line
names the columns, parted by tabs, and a line for each second follows; at the
end stands a summary of "name: value" lines for each device. What is not known
is a dash. MB are 2**20 bytes.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from core.gpu.columns import LOAD, POWER, TEMPERATURE, USED
from core.recorder.chunks import SYSTEM
from core.recorder.trace import NODE, PHASE, ROUNDING_SECONDS, JobTrace
from core.units import MEGABYTE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "vram-usage.log"
LOG_COLUMNS = (
    "time",
    "seconds",
    "device",
    "phase",
    "node",
    "used_mb",
    "highest_mb",
    "load_percent",
    "temperature_celsius",
    "power_watts",
)


def write_log(traces: Sequence[JobTrace], logs: Path) -> Path:
    """Write the log of an attempt's traces, at least one, into a folder of its own.

    Returns:
        The file, whole; its folder is named by when the run began and by its job.

    Raises:
        OSError: It cannot be written.
    """
    first = traces[0]
    began = time.strftime("%Y%m%d-%H%M%S", time.localtime(first.began_unix))
    folder = logs / f"{began}-{first.job_id[:8]}-{first.attempt}"
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{NAME}.{os.getpid()}.part"
    try:
        part.write_text(as_log(traces), encoding="utf-8")
        return part.replace(folder / NAME)
    finally:
        part.unlink(missing_ok=True)


def as_log(traces: Sequence[JobTrace]) -> str:
    """Return the log of an attempt's traces, at least one."""
    first = traces[0]
    lines = [
        "# Framedeck memory of a run, version 1",
        f"# job: {first.job_id}, attempt {first.attempt}, {first.outcome or 'running'}",
        f"# title: {_line(first.title)}",
        f"# began: {moment(first.began_unix)}",
        f"# seconds: {first.seconds:.1f}",
        *(f"# device {place(trace)}: {trace.device_name}, {mb(trace.total_bytes)} MB"
          for trace in traces),
        "\t".join(LOG_COLUMNS),
    ]  # fmt: skip
    for trace in traces:
        lines += ["\t".join(row) for row in _seconds(trace)]
    for trace in traces:
        lines += ["", f"summary of device {place(trace)}", *summary(trace)]
    return "\n".join(lines) + "\n"


def summary(trace: JobTrace) -> list[str]:
    """Return a trace's figures as "name: value" lines, always the same names in one order."""
    figures, peak = trace.figures, trace.peak
    return [
        f"peak_mb: {mb(figures.peak_bytes)}",
        f"average_mb: {mb(figures.average_bytes)}",
        f"minimum_mb: {mb(figures.lowest_bytes)}",
        f"final_mb: {mb(figures.last_bytes)}",
        f"energy_wh: {number(figures.energy_wh, 2)}",
        f"peak_seconds: {number(peak.at_seconds if peak else None, 1)}",
        f"peak_phase: {_line(peak.phase or '–') if peak else '–'}",
        f"peak_node: {_line(peak.node or '–') if peak else '–'}",
        f"before_mb: {mb(trace.before_bytes)}",
        f"after_mb: {mb(trace.after_bytes)}",
        f"delta_mb: {mb(trace.delta_bytes)}",
    ]


def _seconds(trace: JobTrace) -> Iterator[tuple[str, ...]]:
    """Yield a line for each second that was read, by its last sample."""
    whole = [math.floor(at + ROUNDING_SECONDS) for at in trace.times.tolist()]
    for second, numbers in groupby(range(len(whole)), key=whole.__getitem__):
        rows = trace.rows[list(numbers)]
        at = float(second)
        yield (
            moment(trace.began_unix + at),
            f"{at:.0f}",
            place(trace),
            trace.doing(PHASE, at) or "–",
            _line(trace.doing(NODE, at) or "–"),
            mb(_last(rows[:, USED])),
            mb(_highest(rows[:, USED])),
            number(_last(rows[:, LOAD]), 0),
            number(_last(rows[:, TEMPERATURE]), 0),
            number(_last(rows[:, POWER]), 1),
        )


def _last(values: NDArray[np.float64]) -> float | None:
    known = values[values == values]
    return float(known[-1]) if len(known) else None


def _highest(values: NDArray[np.float64]) -> float | None:
    known = values[values == values]
    return float(known.max()) if len(known) else None


def place(trace: JobTrace) -> str:
    """Return a trace's device as "GPU 0" or "main memory"."""
    return "main memory" if trace.device == SYSTEM else f"GPU {trace.device}"


def moment(unix: float) -> str:
    """Return a time as such as 2026-02-28T17:05:09+01:00, of this machine's zone."""
    text = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(unix))
    return f"{text[:-2]}:{text[-2:]}"


def mb(count_bytes: float | None) -> str:
    """Return bytes as whole MB, a dash for what is not known."""
    return number(None if count_bytes is None else count_bytes / MEGABYTE, 0)


def number(value: float | None, digits: int) -> str:
    """Return a number with so many decimals, a dash for what is not known."""
    return "–" if value is None else f"{value:.{digits}f}"


def _line(text: str) -> str:
    """Return a text on one line, without what would part columns."""
    return " ".join(text.split())

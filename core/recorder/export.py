"""A job's trace for other programs: JSON, and a table of its samples as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

from core.gpu.columns import (
    COMFYUI,
    EXPORTED,
    EXPORTED_DIGITS,
    LLM,
    LOAD,
    POWER,
    PROGRAMS,
    REST,
    TEMPERATURE,
    USED,
)
from core.recorder.trace import NODE, PHASE, JobTrace

VERSION = 1
"""Goes up when a name in the JSON or a column of the table changes its meaning or goes."""

SAMPLE_COLUMNS = (
    "seconds",
    "phase",
    "node",
    *EXPORTED,
)
_DIGITS = (3, *EXPORTED_DIGITS)

Cell = str | float | int | None


def samples(trace: JobTrace) -> Iterator[tuple[Cell, ...]]:
    """Yield the samples of a trace as SAMPLE_COLUMNS; what is not known is None."""
    for at, row in zip(trace.times.tolist(), trace.rows.tolist(), strict=True):
        used, comfyui, llm, programs = row[USED], row[COMFYUI], row[LLM], row[PROGRAMS]
        parts = (used, used - comfyui, comfyui - llm, llm - programs, programs - row[REST])
        values = (at, *parts, row[REST], row[LOAD], row[TEMPERATURE], row[POWER])
        told = [_told(value, digits) for value, digits in zip(values, _DIGITS, strict=True)]
        yield (told[0], trace.doing(PHASE, at), trace.doing(NODE, at), *told[1:])


def _told(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    return round(value, digits) if digits else round(value)


def as_csv(traces: Sequence[JobTrace]) -> str:
    """Return a table, one line a sample; what is not known is left empty.

    With several GPUs the first column is the GPU's index.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    several = len(traces) > 1
    table.writerow((*(("device",) if several else ()), *SAMPLE_COLUMNS))
    for trace in traces:
        for row in samples(trace):
            table.writerow((*((trace.device,) if several else ()), *row))
    return text.getvalue()


def as_json(traces: Sequence[JobTrace], *, with_samples: bool = True) -> dict[str, Any]:
    """Return an attempt's traces, at least one, as plain values for `json.dumps`.

    Bytes, seconds, watt hours; `began_unix` is Unix time; what is not known is null.
    """
    first = traces[0]
    return {
        "version": VERSION,
        "job": first.job_id,
        "title": first.title,
        "attempt": first.attempt,
        "outcome": first.outcome,
        "began_unix": first.began_unix,
        "seconds": round(first.seconds, 3),
        "stretches": [
            {
                "kind": item.kind,
                "name": item.name,
                "started_seconds": round(item.started_seconds, 3),
                "ended_seconds": round(item.ended_seconds, 3),
            }
            for item in first.stretches
        ],
        "devices": [_device(trace, with_samples) for trace in traces],
    }


def _device(trace: JobTrace, with_samples: bool) -> dict[str, Any]:
    figures, peak = trace.figures, trace.peak
    told: dict[str, Any] = {
        "device": trace.device,
        "name": trace.device_name,
        "total_bytes": trace.total_bytes,
        "peak": peak
        and {
            "used_bytes": peak.used_bytes,
            "at_seconds": round(peak.at_seconds, 3),
            "phase": peak.phase,
            "node": peak.node,
        },
        "average_bytes": figures.average_bytes,
        "lowest_bytes": figures.lowest_bytes,
        "last_bytes": figures.last_bytes,
        "energy_wh": figures.energy_wh,
        "before_bytes": trace.before_bytes,
        "after_bytes": trace.after_bytes,
        "delta_bytes": trace.delta_bytes,
        "processes": [
            {"name": name, "role": role, "peak_bytes": most} for name, role, most in holders(trace)
        ],
    }
    if with_samples:
        told["columns"] = list(SAMPLE_COLUMNS)
        told["samples"] = [list(row) for row in samples(trace)]
    return told


def holders(trace: JobTrace) -> list[tuple[str, str, int | None]]:
    """Return name, role and most bytes held of every process, the largest first."""
    most: dict[tuple[int, str, str], int | None] = {}
    for held in trace.held:
        if held.at_seconds > trace.seconds:
            continue
        for item in held.processes or ():
            key = item.pid, item.name, item.role.value
            known = [used for used in (most.get(key), item.used_bytes) if used is not None]
            most[key] = max(known) if known else None
    ranked = sorted(most.items(), key=lambda item: -(item[1] or 0))
    return [(name, role, used) for (_, name, role), used in ranked]

"""What is usual for each phase of a recipe's runs, from what was recorded of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.gpu.columns import POWER
from core.jobs import Phase
from core.ledger.store import Store, join_store
from core.recorder.load import attempts, stretches_of, trace_attempt
from core.recorder.trace import PHASE, JobTrace

FEWEST = 3
"""Runs from which on a phase's length is usual."""
MOST = 100
_DONE = "a.outcome = 'done' AND json_extract(j.job, '$.recipe') = ? ORDER BY a.key DESC LIMIT ?"
_PHASES = frozenset(Phase)


@dataclass(frozen=True, slots=True)
class Usual:
    """What a recipe's phases usually take.

    Attributes:
        p99_seconds: The time between two events that 99 of 100 runs stay below: of
            sampling one step, else the whole phase, which never waits longer.
        watts: Median draw of the GPU that the latest recorded run took most of.
    """

    p99_seconds: Mapping[Phase, float] = field(default_factory=dict)
    watts: Mapping[Phase, float] = field(default_factory=dict)


def usual_of(path: Path, recipe: str) -> Usual:
    """Return what is usual for a recipe. Blocks for up to a tenth of a second.

    Args:
        path: The ledger, open already.
        recipe: Its id.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    store = join_store(path)
    try:
        found = attempts(store, _DONE, (recipe, MOST))
        steps = _steps(store, recipe)
        lengths: dict[Phase, list[float]] = {}
        for attempt in found:
            for item in stretches_of(store, attempt)[1]:
                if item.kind == PHASE and item.name in _PHASES:
                    phase, length = Phase(item.name), item.ended_seconds - item.started_seconds
                    if phase is Phase.SAMPLE:
                        length /= max(1, steps.get(attempt.job_id, 1))
                    lengths.setdefault(phase, []).append(length)
        watts = _watts(trace_attempt(store, found[0])) if found else {}
    finally:
        store.close()
    p99 = {phase: quantile(known, 0.99) for phase, known in lengths.items() if len(known) >= FEWEST}
    return Usual(p99, watts)


def quantile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that `share` of at least one value do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _steps(store: Store, recipe: str) -> dict[str, int]:
    sql = """SELECT id, json_extract(job, '$.params.steps') FROM jobs
        WHERE json_extract(job, '$.recipe') = ? ORDER BY key DESC LIMIT ?"""
    rows = store.read(sql, (recipe, 10 * MOST))
    return {job_id: steps for job_id, steps in rows if isinstance(steps, int) and steps > 0}


def _watts(traces: list[JobTrace]) -> dict[Phase, float]:
    import numpy as np

    gpus = [trace for trace in traces if trace.device >= 0 and len(trace.times)]
    if not gpus:
        return {}
    trace = max(gpus, key=lambda t: (t.figures.peak_bytes or 0.0) - (t.before_bytes or 0.0))
    found = {}
    for item in trace.stretches:
        if item.kind == PHASE and item.name in _PHASES:
            inside = (trace.times >= item.started_seconds) & (trace.times <= item.ended_seconds)
            drawn = trace.rows[inside, POWER]
            drawn = drawn[np.isfinite(drawn)]
            if len(drawn) >= 10:
                found[Phase(item.name)] = float(np.median(drawn))
    return found

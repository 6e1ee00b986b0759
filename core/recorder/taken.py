"""What jobs of ComfyUI servers took of a GPU, read from outside: servers do not tell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from core.gpu.advice import WORTH_NAMING
from core.gpu.columns import COMFYUI, LLM, USED
from core.ledger.store import join_store
from core.recorder.load import attempts, trace_attempt
from core.recorder.trace import ROUNDING_SECONDS, JobTrace

FULL = 0.93
"""A card is full from this share on: servers keep a little free by themselves."""
BRIM = 0.97
"""From this share on it was too small, even for the job alone."""
CROWDED = 0.10
"""Share of a card held by others from which on a full one was too small for all."""
KEPT = 0.9
"""Who held so much of the peak before may hold it from an earlier job."""
_DONE = "j.id = ? AND a.outcome = 'done' ORDER BY a.number DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class Taken:
    """What a job took of a GPU.

    Attributes:
        peak_bytes: The most that the servers held during it; None where the card was too
            full for it to take what it wanted, so that this says nothing.
        censored: The job took that much at most: the server held it before.
    """

    peak_bytes: float | None
    censored: bool = False


def taken_of(path: Path, job_ids: Iterable[str]) -> dict[str, Taken]:
    """Return what the latest finished attempt at each job took; left out where not recorded.

    Blocks for some milliseconds a minute of each job.

    Args:
        path: The ledger, open already.
        job_ids: Jobs of ComfyUI servers on this machine.

    Raises:
        ProblemError: The ledger cannot be read.
    """
    store, found = join_store(path), {}
    try:
        for job_id in job_ids:
            for attempt in attempts(store, _DONE, (job_id,)):
                every = [
                    taken for trace in trace_attempt(store, attempt) if (taken := taken_on(trace))
                ]
                if every:
                    found[job_id] = max(every, key=lambda taken: taken.peak_bytes or 0.0)
    finally:
        store.close()
    return found


def taken_on(trace: JobTrace) -> Taken | None:
    """Return what the servers took on a trace's GPU, None where they held nothing worth it."""
    import numpy as np

    if trace.device < 0 or not len(trace.times):
        return None
    # Both boundaries are unknown where the driver does not tell of processes.
    held = trace.rows[:, COMFYUI] - trace.rows[:, LLM]
    known = np.isfinite(held)
    inside = known & (trace.times >= 0) & (trace.times <= trace.seconds + ROUNDING_SECONDS)
    if not inside.any():
        return None
    place = int(np.where(inside, held, -np.inf).argmax())
    peak, used = float(held[place]), trace.rows[:, USED]
    if peak < WORTH_NAMING:
        return None
    if trace.total_bytes is not None:
        most = int(np.where(inside & np.isfinite(used), used, -np.inf).argmax())
        others = float(used[most] - held[most])
        full = float(used[most]) / trace.total_bytes
        crowded = others >= CROWDED * trace.total_bytes
        if full >= BRIM or (full >= FULL and crowded):
            return Taken(None)
    before = held[known & (trace.times <= 0)]
    return Taken(peak, bool(len(before)) and float(before[-1]) >= KEPT * peak)

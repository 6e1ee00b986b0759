"""What a person reads of the engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.engines.base import Released
from core.errors import Category, Problem
from core.events import Event, Failed, PhaseStarted, Sampled, WorkerStarted
from core.queue import JobRow
from core.units import memory


def released_words(released: Released) -> str:
    """Say in words how much memory came back."""
    parts = []
    if released.vram_bytes is not None:
        parts.append(f"{memory(released.vram_bytes)} of VRAM")
    if released.ram_bytes or not parts:
        parts.append(f"{memory(released.ram_bytes)} of memory")
    return f"{' and '.join(parts)} freed in {released.seconds:.1f} s."


def explained(event: Event) -> Event:
    """Return a failure that has no category with the one that its words tell."""
    if not isinstance(event, Failed) or event.problem.category is not Category.UNKNOWN:
        return event
    # Nothing fails before the window stands that would need its many words.
    from core.failures.classify import refined

    return replace(event, problem=refined(event.problem))


def state_words(event: Event) -> str:
    """Return what an engine does by the latest event; "" when that says nothing of it."""
    match event:
        case WorkerStarted(device=device):
            return f"ready on {device}"
        case PhaseStarted(phase=phase):
            return phase.value
        case Sampled(step=step, steps=steps):
            return f"sampling {step}/{steps}"
    return ""


def no_server(base: str | None) -> Problem:
    if base is None:
        return Problem(
            Category.WORKER_UNAVAILABLE,
            "No ComfyUI server is known.",
            "Add one to the servers, then retry the job.",
        )
    return Problem(
        Category.WORKER_UNAVAILABLE,
        f"The server {base} of this job is not among the known servers any more.",
        "Add it again and retry the job, or duplicate the job and choose another server.",
        field="server",
    )


def not_here() -> Problem:
    return Problem(
        Category.WORKER_UNAVAILABLE,
        "Framedeck ended while this job was running.",
        "Retry the job; it begins anew with the same seed.",
    )


POISONED = "Its process cannot use the GPU any more, so the engine was restarted."


def is_poisoned(problem: Problem) -> bool:
    """Say whether the process that failed so cannot use the GPU any more."""
    from core.failures.recovery import recovery

    return recovery(problem).poisoned


def lost_problem(rows: Sequence[JobRow]) -> Problem:
    """Say in words what happened to jobs that ran when Framedeck died."""
    names = ", ".join(f"“{row.job.title}”" for row in rows[:3])
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    were, them, clip = ("was", "it", "clip") if len(rows) == 1 else ("were", "them", "clips")
    return Problem(
        Category.WORKER_UNAVAILABLE,
        f"{names}{more} {were} running when Framedeck ended and did not finish.",
        f"Retry {them}: the same settings and seed give the same {clip}.",
    )

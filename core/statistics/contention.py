"""What a language model beside a job costs: the same job with and without it, as measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from core.gpu.advice import WORTH_NAMING
from core.gpu.roles import LM_STUDIO, OLLAMA
from core.statistics.baseline import SPREADS, Usual, usual_of
from core.units import memory

FEWEST = 2
"""Runs of either kind that a comparison needs."""
SLOWER = 0.10
"""A share above the time without that is worth a word."""
SMALLEST_SECONDS = 0.5

_HOW = {
    OLLAMA: "in Ollama set num_gpu to 0",
    LM_STUDIO: "in LM Studio set GPU offload to 0",
}


@dataclass(frozen=True, slots=True)
class Beside:
    """One finished run, and who held memory of its GPU meanwhile.

    Attributes:
        seconds: How long it took.
        held_bytes: The median over the run of what each server for language models
            held, by its name; None for one that the driver does not tell of.
        gpu: Name of the GPU.
    """

    seconds: float
    held_bytes: Mapping[str, int | None] = field(default_factory=dict)
    gpu: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """The same job with a program's model on the GPU, and with no language model there.

    Attributes:
        held_bytes: Median of what the program held.
    """

    program: str
    held_bytes: int
    beside: Usual
    alone: Usual


def cost_of(runs: Iterable[Beside], program: str) -> Cost | None:
    """Return what a program's model on the GPU costs, None when no difference was measured.

    Runs beside another server than this one, or with one that came or went, count on
    neither side. What is usual noise is no difference.

    Args:
        runs: Of one job: same recipe, settings and size. The newest first: it says
            which GPU is compared.
        program: Such as "LM Studio".
    """
    every = list(runs)
    mine = [run for run in every if run.gpu == every[0].gpu]
    beside = [run for run in mine if _only(program, run)]
    alone = [run for run in mine if not run.held_bytes]
    slow, fast = (usual_of(run.seconds for run in side) for side in (beside, alone))
    if slow is None or fast is None or min(slow.runs, fast.runs) < FEWEST:
        return None
    noise = SPREADS * max(slow.spread, fast.spread)
    if slow.median - fast.median <= max(SLOWER * fast.median, noise, SMALLEST_SECONDS):
        return None
    held = usual_of(run.held_bytes[program] for run in beside)
    assert held is not None
    return Cost(program, round(held.median), slow, fast)


def _only(program: str, run: Beside) -> bool:
    held = run.held_bytes.get(program)
    return held is not None and held >= WORTH_NAMING and len(run.held_bytes) == 1


def in_words(found: Cost, what: str) -> str:
    """Say it, such as "WAN took 6:10 with LM Studio holding 5.2 GB, 3:41 without (3 runs each)."""
    many, few = found.beside.runs, found.alone.runs
    runs = f"{many} runs each" if many == few else f"{many} and {few} runs"
    return (
        f"{what} took {_clock(found.beside.median)} with {found.program} holding "
        f"{memory(found.held_bytes)}, {_clock(found.alone.median)} without ({runs})."
    )


def recommendation(program: str, what: str, cost: Cost | None, *, reloaded: bool) -> str:
    """Return the advice to run language models on the CPU, with how.

    Nothing is said, "", where nothing was measured and nothing was loaded again.

    Args:
        program: Who holds the memory.
        what: What the job is called.
        cost: What was measured, None for nothing.
        reloaded: Whether the program loaded a model again after one was unloaded.
    """
    told = [in_words(cost, what)] if cost is not None else []
    if reloaded:
        told.append(f"{program} loaded a model again after it was unloaded.")
    if not told:
        return ""
    how = _HOW.get(program)
    told.append(f"Run language models on the CPU{f': {how}' if how else ''}.")
    return " ".join(told)


def _clock(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

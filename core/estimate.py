"""What a job will take, from earlier runs of the same recipe on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.jobs import JobState, Value
from core.queue import JobRow
from core.units import memory

MOST_RUNS = 20
_SIZES = ("width", "height", "frames", "steps")


@dataclass(frozen=True, slots=True)
class Estimate:
    """What earlier runs say about a job.

    Attributes:
        seconds: Median time, scaled by pixels, frames and steps where no run had the same.
        peak_rss_bytes: Most main memory of the runs with the same sizes; None without one.
        peak_vram_bytes: Most GPU memory of them; None without one or without a GPU.
        runs: Number of runs it rests on.
        exact: Whether those runs had the same sizes, frames and steps.
    """

    seconds: float
    peak_rss_bytes: int | None
    peak_vram_bytes: int | None
    runs: int
    exact: bool


def estimate(recipe: str, values: Mapping[str, Value], rows: Iterable[JobRow]) -> Estimate | None:
    """Return what `rows`, newest first, say about a job of `recipe` with `values`.

    Returns:
        None when no finished run of the recipe is among them.
    """
    runs = [
        row
        for row in rows
        if row.job.recipe == recipe and row.state is JobState.DONE and row.seconds is not None
    ][:MOST_RUNS]
    if not runs:
        return None
    # 10 ms that no start of the window should wait for.
    from statistics import median

    same = [row for row in runs if _sizes(row.job.params) == _sizes(values)]
    if same:
        return Estimate(
            median(row.seconds or 0.0 for row in same),
            max((row.peak_rss_bytes for row in same if row.peak_rss_bytes), default=None),
            max((row.peak_vram_bytes for row in same if row.peak_vram_bytes), default=None),
            len(same),
            exact=True,
        )
    rate = median((row.seconds or 0.0) / _work(row.job.params) for row in runs)
    return Estimate(rate * _work(values), None, None, len(runs), exact=False)


def _sizes(values: Mapping[str, Value]) -> tuple[Value | None, ...]:
    return tuple(values.get(name) for name in _SIZES)


def _work(values: Mapping[str, Value]) -> float:
    work = 1.0
    for name in _SIZES:
        work *= float(values.get(name, 1) or 1)
    return work


def in_words(found: Estimate | None) -> str:
    """Say an estimate in one or two lines, with what it rests on."""
    if found is None:
        return "No run of this recipe on this machine yet: time and memory are not known."
    minutes, seconds = divmod(max(1, round(found.seconds)), 60)
    runs = "1 run" if found.runs == 1 else f"{found.runs} runs"
    lines = [f"About {minutes}:{seconds:02d} · from {runs} on this machine"]
    if not found.exact:
        lines[0] += " of other sizes"
    if found.peak_vram_bytes is not None:
        lines.append(f"Peak {memory(found.peak_vram_bytes)} of VRAM")
    elif found.peak_rss_bytes is not None:
        lines.append(f"Peak {memory(found.peak_rss_bytes)} of memory")
    return "\n".join(lines)

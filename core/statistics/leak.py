"""Does idle memory grow with every job? Slope, confidence, and when it will matter.

The slope is Theil and Sen's: the median of the slopes between all pairs, which a
single odd value cannot bend. Whether it is a leak is judged by the growth from
job to job: a leak grows by about the same each time, while a walk goes up and
down, a newly loaded model is one step, and a cache rises and falls again. So the
growths must be far from zero by Student's measure, which holds for walks too,
where the usual test of a regression line sees trends in pure chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import erf, inf, isfinite, log, sqrt

from core.units import MEGABYTE, memory

LAST = 12
"""Older baselines than so many jobs say nothing of now."""
FEWEST = 6
CERTAIN = 3.9
"""Standard deviations from zero; about one walk in 20,000 gets there at a given job."""
SMALLEST_BYTES = 24 * MEGABYTE
"""Growth per job that is not worth a word."""
NOISE_BYTES = 4 * MEGABYTE
"""No baseline is steadier than this, whatever a few equal values seem to say."""
STEP = 6.0
"""A growth so many times the usual spread away is a step, such as a model loaded."""
AHEAD_JOBS = 3
"""A cleanup is due when room is left for no more jobs than this."""


@dataclass(frozen=True, slots=True)
class Leak:
    """What the baselines of idle memory after each job come to.

    Attributes:
        slope_bytes: Growth per job.
        low_bytes: Lower end of the range that holds the slope nine times in ten.
        high_bytes: Upper end of it.
        confidence: How sure it is that memory grows with the jobs, 0 to 1.
        found: Whether this is a leak worth telling.
        jobs: Number of jobs it rests on.
        jobs_left: How many more fit before memory runs short; None when the room
            is not known, or nothing grows.
        cleanup_due: Whether to clean up before so few are left.
    """

    slope_bytes: float
    low_bytes: float
    high_bytes: float
    confidence: float
    found: bool
    jobs: int
    jobs_left: int | None
    cleanup_due: bool


def leak_of(baselines: Sequence[float | None], room_bytes: float | None = None) -> Leak | None:
    """Judge the idle memory after each job since the last restart or cleanup.

    Args:
        baselines: Bytes in use between jobs, oldest first, one a job; None where
            it was not read. Give memory of the GPU and of the process (RSS) apart.
        room_bytes: How much more the baseline may grow before a job does not fit.

    Returns:
        None with fewer than three readings.
    """
    known = (item for item in enumerate(baselines) if item[1] is not None and isfinite(item[1]))
    points = [(job, float(value or 0)) for job, value in known][-LAST:]
    if len(points) < 3:
        return None
    slope, low, high = _theil_sen(points)
    sure = _standing(points)
    found = len(points) >= FEWEST and sure >= CERTAIN and slope >= SMALLEST_BYTES and low > 0
    left = None
    if room_bytes is not None and slope > 0 and found:
        left = max(0, int(room_bytes // slope))
    due = left is not None and left <= AHEAD_JOBS
    confidence = 0.5 * (1 + erf(sure / sqrt(2)))
    return Leak(slope, low, high, confidence, found, len(points), left, due)


def in_words(leak: Leak, what: str = "Memory") -> str:
    """Say a leak in one sentence or two; "" where there is none."""
    if not leak.found:
        return ""
    low, high = memory(leak.low_bytes), memory(leak.high_bytes)
    band = "" if low == high else f"{low} – {high}, "
    text = (
        f"{what} grows by {memory(leak.slope_bytes)} with every job "
        f"({band}seen over {leak.jobs} jobs)."
    )
    if leak.jobs_left is None:
        return text
    if leak.jobs_left == 0:
        return f"{text} The next job may not fit: clean up now."
    jobs = "1 more job" if leak.jobs_left == 1 else f"{leak.jobs_left} more jobs"
    return f"{text} There is room for {jobs}" + (": clean up soon." if leak.cleanup_due else ".")


def _theil_sen(points: Sequence[tuple[int, float]]) -> tuple[float, float, float]:
    """Return the slope and the ends of its 90 % range (Sen, 1968)."""
    slopes = sorted(
        (later - earlier) / (after - before)
        for place, (before, earlier) in enumerate(points)
        for after, later in points[place + 1 :]
    )
    count, pairs = len(points), len(slopes)
    half = pairs // 2
    middle = slopes[half] if pairs % 2 else (slopes[half - 1] + slopes[half]) / 2
    reach = 1.645 * sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, round((pairs - reach) / 2) - 1)
    return middle, slopes[low], slopes[pairs - 1 - low]


def _standing(points: Sequence[tuple[int, float]]) -> float:
    """Return how many standard deviations the growth per job is from zero."""
    growths = [
        (later - earlier) / (after - before)
        for (before, earlier), (after, later) in pairwise(points)
    ]
    if len(growths) >= 5:
        growths = _without_step(growths)
    count = len(growths)
    if count < 3:
        return 0.0
    mean = sum(growths) / count
    spread = sqrt(sum((value - mean) ** 2 for value in growths) / (count - 1))
    student = mean / (max(spread, NOISE_BYTES) / sqrt(count))
    # Wallace's approximation: Student's t as a normal deviate.
    free = count - 1
    size = (8 * free + 1) / (8 * free + 3) * sqrt(free * log(1 + student**2 / free))
    return size if student > 0 else -size


def _without_step(growths: list[float]) -> list[float]:
    """Leave out one growth that is far above the others, and no fall."""
    ordered = sorted(growths)
    middle = ordered[len(ordered) // 2]
    spread = sorted(abs(value - middle) for value in growths)[len(growths) // 2]
    top = max(growths)
    far = inf if spread == 0 and top > middle else (top - middle) / max(spread, NOISE_BYTES)
    if top > middle and far > STEP:
        growths = growths.copy()
        growths.remove(top)
    return growths

"""Is a run slower, or higher in memory, than the same job used to be?

The same job means: same recipe, settings, size, GPU and versions. A run with
another setting is not compared but told apart by name, because half the steps in
half the time is no speed-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.statistics.runs import SIZES, Run
from core.units import MEGABYTE, memory

FEWEST = 5
"""Runs that a baseline needs."""
MOST = 30
SLOWER = 0.10
"""A share above the baseline that is worth a word."""
SPREADS = 2.0
"""And so many spreads above it: what is usual noise is not told."""
SMALLEST_SECONDS = 0.5
SMALLEST_BYTES = 32 * MEGABYTE
_MAD_TO_DEVIATION = 1.4826


@dataclass(frozen=True, slots=True)
class Usual:
    """The middle of earlier runs and how far they lie apart (a standard deviation)."""

    median: float
    spread: float
    runs: int

    def excess(self, value: float, smallest: float) -> float | None:
        """Return by what share `value` is too high, None when it is as usual.

        What differs by less than `smallest` is as usual, however large the share.
        """
        if self.runs < FEWEST or self.median <= 0:
            return None
        above = max(self.median * SLOWER, self.spread * SPREADS, smallest)
        limit = self.median + above
        return value / self.median - 1 if value > limit else None


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is usual for one job on one GPU with one set of versions."""

    seconds: Usual | None
    peak_bytes: Usual | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run against its baseline.

    Attributes:
        slower: Share above the usual time, None when it is as usual.
        higher: Share above the usual peak, None when it is as usual.
        runs: Number of runs compared with; 0 when none is the same.
        differences: Why the nearest earlier run does not count, such as
            "steps 16 instead of 8"; empty when runs were compared.
    """

    slower: float | None
    higher: float | None
    runs: int
    usual: Baseline
    differences: tuple[str, ...] = ()


def differences(run: Run, other: Run) -> tuple[str, ...]:
    """Return what sets two runs apart, in words; empty when they can be compared."""
    mine, theirs = _settings(run), _settings(other)
    names = sorted(mine.keys() | theirs.keys())
    return tuple(
        f"{name} {_said(mine.get(name))} instead of {_said(theirs.get(name))}"
        for name in names
        if mine.get(name) != theirs.get(name)
    )


def _settings(run: Run) -> dict[str, object]:
    asked = run.asked
    sizes = {name: getattr(asked, name) for name in SIZES}
    who = {
        "recipe": asked.recipe,
        "family": asked.family,
        "model": asked.model,
        "engine": asked.instance,
        "GPU": run.gpu,
    }
    versions: Mapping[str, object] = {f"{name} version": v for name, v in run.versions.items()}
    return {**asked.options, **sizes, **who, **versions}


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value in (None, "") else str(value)


def baseline_of(runs: Iterable[Run]) -> Baseline:
    """Return what is usual for `runs`, which are all of the same job."""
    chosen = list(runs)[:MOST]
    return Baseline(
        usual_of([run.seconds for run in chosen if not run.spilled]),
        usual_of([run.peak_bytes for run in chosen if not run.censored]),
    )


def usual_of(values: Iterable[float | None]) -> Usual | None:
    """Return what is usual among `values`, None when none of them is known."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    middle = _median(known)
    spread = _MAD_TO_DEVIATION * _median(sorted(abs(value - middle) for value in known))
    return Usual(middle, spread, len(known))


def _median(ordered: list[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def compare(run: Run, earlier: Iterable[Run]) -> Comparison:
    """Compare a run with those of `earlier`, newest first, that are the same job.

    A spilled run counts: that it took longer is just what is to be told.
    """
    same: list[Run] = []
    nearest: tuple[str, ...] = ()
    for other in earlier:
        if other.job_id and other.job_id == run.job_id:
            continue
        apart = differences(run, other)
        if not apart:
            same.append(other)
        elif other.asked.recipe == run.asked.recipe and (not nearest or len(apart) < len(nearest)):
            nearest = apart
    usual = baseline_of(same)
    slower = higher = None
    if usual.seconds is not None and run.seconds is not None:
        slower = usual.seconds.excess(run.seconds, SMALLEST_SECONDS)
    if usual.peak_bytes is not None and run.peak_bytes is not None and not run.censored:
        higher = usual.peak_bytes.excess(run.peak_bytes, SMALLEST_BYTES)
    return Comparison(slower, higher, len(same), usual, () if same else nearest)


def in_words(found: Comparison) -> str:
    """Say what is unusual about a run, "" for nothing; names why none was compared."""
    parts = []
    if found.slower is not None and found.usual.seconds is not None:
        usual = found.usual.seconds
        parts.append(f"{found.slower:.0%} slower than usual ({usual.median:.1f} s)")
    if found.higher is not None and found.usual.peak_bytes is not None:
        peak = found.usual.peak_bytes
        parts.append(f"{found.higher:.0%} higher in memory than usual ({memory(peak.median)})")
    if parts:
        return f"{' and '.join(parts)} over {found.runs} runs with the same settings"
    if found.differences:
        return "Not compared: " + ", ".join(found.differences)
    return ""

"""What runs of one way add up to, and what one way is worth against another."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PLAIN = "off"
"""Name of the way without any switch, against which the others are measured."""
WORTH = 1.03
"""Times faster than plain from which on a switch is worth it."""
WINS = 2 / 3
"""Share of rounds that it must win."""
SAME_PIXELS = 1.0
"""Mean difference, in steps of 255, up to which pictures count as the same."""


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run.

    Attributes:
        seconds: From the start of the job to its last frame, the model being loaded.
        sample_seconds: Of it, sampling.
        decode_seconds: Of it, decoding.
        peak_bytes: Most memory held: of the GPU, or without one of the process.
        compile_seconds: Of `seconds`, spent on compiling.
        calls: How often the sampler's model was computed; None: not counted, being compiled.
        mean_difference: Of the pixels from those of the plain way, in steps of 255.
        max_difference: The largest one.
        notes: What was told meanwhile.
        switches: What was on.
    """

    seconds: float
    sample_seconds: float = 0.0
    decode_seconds: float = 0.0
    peak_bytes: int = 0
    compile_seconds: float = 0.0
    calls: int | None = None
    mean_difference: float = 0.0
    max_difference: int = 0
    notes: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Run:
        """Return a run as the measuring process tells it."""
        more = {name: tuple(found[name]) for name in ("notes", "switches")}
        return cls(**{**found, **more})


@dataclass(slots=True)
class Way:
    """All runs with the same switches.

    Attributes:
        name: "off", a switch, or several joined by "+".
        runs: Those that count.
        warm_up: The first one, which does not.
    """

    name: str
    runs: list[Run] = field(default_factory=list)
    warm_up: Run | None = None

    @property
    def seconds(self) -> list[float]:
        """Seconds of each run that counts."""
        return [run.seconds for run in self.runs]

    @property
    def median(self) -> float:
        """Seconds of the middle run."""
        return float(statistics.median(self.seconds))

    @property
    def spread(self) -> float:
        """Half of the range in which the middle half of the runs lies, as a share of the median."""
        if len(self.runs) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        share: float = (high - low) / 2 / self.median
        return share

    @property
    def peak_bytes(self) -> int:
        """Most memory that any run held."""
        return max(run.peak_bytes for run in self.runs)

    @property
    def compile_seconds(self) -> float:
        """Seconds that compiling took, whenever it happened."""
        first = (self.warm_up,) if self.warm_up else ()
        return float(sum(run.compile_seconds for run in (*first, *self.runs)))

    def figures(self, plain: Way, made_seconds: float) -> dict[str, Any]:
        """Return what is kept of the way, as plain values.

        Args:
            plain: The way without switches, of the same rounds.
            made_seconds: How long the clip plays; 0 for a picture.
        """
        seconds = self.seconds
        return {
            "runs": len(seconds),
            "median_seconds": self.median,
            "mean_seconds": statistics.fmean(seconds),
            "best_seconds": min(seconds),
            "worst_seconds": max(seconds),
            "variance": statistics.variance(seconds) if len(seconds) > 1 else 0.0,
            "spread": self.spread,
            "ratio": plain.median / self.median,
            "wins": wins(plain, self),
            "real_time_factor": real_time_factor(self.median, made_seconds),
            "sample_seconds": statistics.median(run.sample_seconds for run in self.runs),
            "decode_seconds": statistics.median(run.decode_seconds for run in self.runs),
            "compile_seconds": self.compile_seconds,
            "peak_bytes": self.peak_bytes,
            "calls": self.runs[-1].calls,
            "mean_difference": max(run.mean_difference for run in self.runs),
            "max_difference": max(run.max_difference for run in self.runs),
        }


def real_time_factor(seconds: float, made_seconds: float) -> float | None:
    """Return seconds of work for each second that is made; None for what has no length."""
    return seconds / made_seconds if made_seconds > 0 else None


def wins(plain: Way, way: Way) -> float:
    """Return the share of rounds in which `way` was faster than the plain way."""
    pairs = list(zip(plain.seconds, way.seconds, strict=False))
    return sum(one > other for one, other in pairs) / len(pairs) if pairs else 0.0


def worth_it(plain: Way, way: Way) -> bool:
    """Tell whether a way is faster by more than chance."""
    return plain.median / way.median >= WORTH and wins(plain, way) >= WINS


def same_pixels(way: Way) -> bool:
    """Tell whether the pictures are those of the plain way but for rounding."""
    return all(run.mean_difference <= SAME_PIXELS for run in way.runs)


def together(
    plain: Way, ways: Iterable[Way], groups: Mapping[str, str], allowed: Iterable[str]
) -> tuple[str, ...]:
    """Return the switches that are worth it, the fastest of each group.

    Args:
        plain: The way without switches.
        ways: Those with one switch each.
        groups: Group of a switch, "" for none; one of a group can be on.
        allowed: Switches that may be chosen.
    """
    may = set(allowed)
    best: dict[str, Way] = {}
    for way in ways:
        if way.name not in may or not worth_it(plain, way):
            continue
        group = groups.get(way.name) or way.name
        if group not in best or way.median < best[group].median:
            best[group] = way
    chosen = {way.name for way in best.values()}
    return tuple(name for name in groups if name in chosen)


def fastest(plain: Way, ways: Sequence[Way]) -> Way | None:
    """Return the fastest way that is worth it; None: the plain one is."""
    good = [way for way in ways if worth_it(plain, way)]
    return max(good, key=lambda way: plain.median / way.median, default=None)

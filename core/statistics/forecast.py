"""What a job will take: from its own history, or from a formula before there is any.

From RUNS_TO_FIT runs of one signature on, memory and time are quantiles that are
linear in pixels, pixels × frames and, for time, steps, with a conformal band
around them (`core.statistics.quantiles`). With fewer runs their median is scaled.
Peaks that only bound the need from above (a server that keeps what it once
took) never raise a forecast; they lower one that lies above them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isfinite, log2
from typing import TYPE_CHECKING

from core.statistics.formula import SPREAD, Family, Formula
from core.statistics.runs import Asked, Run
from core.stream.endless import MINUTES, is_endless
from core.units import memory

if TYPE_CHECKING:
    from core.statistics.quantiles import Fit, Floats

FORMULA = "a formula"
RUNS_TO_FIT = 8
MOST_RUNS = 1000
BEYOND = 1.1
"""So many times larger than the largest run is beyond what history tells."""
_SAME_SIZE = 0.15
"""A few runs of the same size are trusted to this share."""
SURE = 0.01
"""No band is narrower than this, both ways, however equal the runs were."""
OTHER_SETTINGS = 0.25
"""Runs with other settings are trusted so much less, both ways."""


@dataclass(frozen=True, slots=True)
class Band:
    """A value with the range that holds it nine times in ten."""

    low: float
    median: float
    high: float

    def scaled(self, low: float, high: float) -> Band:
        """Return the band with its ends moved outwards."""
        return Band(self.low * low, self.median, self.high * high)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a job will probably take.

    Attributes:
        peak_bytes: Most memory; None when nothing tells.
        seconds: Time; None when nothing tells.
        on_gpu: Whether the memory is a GPU's, else main memory.
        source: "23 runs" or FORMULA.
        runs: Number of measured runs that it rests on.
        beyond: Larger than any of those runs.
    """

    peak_bytes: Band | None
    seconds: Band | None
    on_gpu: bool
    source: str
    runs: int
    beyond: bool = False

    @property
    def words(self) -> str:
        """The source in words."""
        told = f"from {self.source}" + ("" if self.runs else ", no run yet")
        return f"{told}, larger than any" if self.beyond and self.runs else told


@dataclass(frozen=True, slots=True)
class Model:
    """What the runs of one signature say; made once, asked often.

    Attributes:
        runs: The runs, newest first, none of another signature.
        peak: Quantiles of memory, None with too few runs.
        time: Quantiles of time, None with too few runs.
    """

    runs: tuple[Run, ...]
    on_gpu: bool
    peak: tuple[Fit, tuple[int, ...]] | None
    time: tuple[Fit, tuple[int, ...]] | None
    largest: int
    smallest: int
    same_settings: bool = True

    def forecast(self, asked: Asked) -> Forecast | None:
        """Return the forecast for `asked`, of the same signature; None without a run."""
        if not self.runs:
            return None
        measured = [run for run in self.runs if run.peak_bytes and not run.censored]
        bounds = [run for run in self.runs if run.peak_bytes and run.censored]
        peak, seconds = self._peak(asked, measured), self._seconds(asked)
        larger = asked.pixel_frames / max(1, self.largest)
        smaller = self.smallest / max(1, asked.pixel_frames)
        if max(larger, smaller) > BEYOND:
            # A straight line is a guess out there: a tenth more either way each doubling.
            far = 1 + 0.1 * log2(max(larger, smaller))
            peak = peak and peak.scaled(1 / far, far)
            seconds = seconds and seconds.scaled(1 / far**2, far**2)
        count = len(measured) or len(self.runs)
        told = "1 run" if count == 1 else f"{count} runs"
        if not self.same_settings:
            told += " with other settings"
            peak = peak and peak.scaled(1 - OTHER_SETTINGS, 1 + OTHER_SETTINGS)
            seconds = seconds and seconds.scaled(1 - OTHER_SETTINGS, 1 + OTHER_SETTINGS)
        found = Forecast(peak, seconds, self.on_gpu, told, count, larger > BEYOND)
        return capped(found, asked, bounds)

    def _peak(self, asked: Asked, measured: Sequence[Run]) -> Band | None:
        if self.peak is not None:
            return _from_fit(self.peak, _memory_features(asked))
        return _from_few(asked, [(run, run.peak_bytes or 0.0) for run in measured], steps=False)

    def _seconds(self, asked: Asked) -> Band | None:
        if is_endless(asked.options) or (MINUTES in asked.options and not self.same_settings):
            return None  # How long a stream of other length took says nothing.
        if self.time is not None:
            return _from_fit(self.time, _time_features(asked))
        timed = [(run, run.seconds) for run in self.runs if run.seconds and not run.spilled]
        return _from_few(asked, timed, steps=True)


def model_of(runs: Iterable[Run], asked: Asked) -> Model:
    """Learn from those of `runs`, newest first, that have the signature of `asked`.

    Where there is none, from those that differ in options alone.
    """
    signature = asked.signature
    known = [run for run in runs if _sound(run.peak_bytes) and _sound(run.seconds)]
    same = [run for run in known if run.asked.signature == signature]
    exact = bool(same)
    if not exact:
        same = [run for run in known if run.asked.signature[:-1] == signature[:-1]]
    # Runs on a GPU and runs in main memory are not the same thing; the newest counts.
    on_gpu = next((run.on_gpu for run in same if run.peak_bytes), True)
    same = [run for run in same if run.on_gpu == on_gpu or not run.peak_bytes][:MOST_RUNS]
    sizes = [run.asked.pixel_frames for run in same]
    peak = time = None
    measured = [run for run in same if run.peak_bytes and not run.censored]
    if len(measured) >= RUNS_TO_FIT:
        values = [run.peak_bytes or 0.0 for run in measured]
        peak = _fit([_memory_features(run.asked) for run in measured], values)
    timed = [run for run in same if run.seconds and not run.spilled]
    if len(timed) >= RUNS_TO_FIT:
        values = [run.seconds or 0.0 for run in timed]
        time = _fit([_time_features(run.asked) for run in timed], values)
    largest, smallest = max(sizes, default=0), min(sizes, default=0)
    return Model(tuple(same), on_gpu, peak, time, largest, smallest, exact or not same)


def _sound(value: float | None) -> bool:
    return value is None or (isfinite(value) and value >= 0)


def _memory_features(asked: Asked) -> tuple[float, ...]:
    """Weights, activations of all frames, and what is done a frame at a time."""
    return 1.0, float(asked.pixel_frames), float(asked.pixels)


def _time_features(asked: Asked) -> tuple[float, ...]:
    """Loading; sampling, whose attention grows with the square; decoding."""
    clip = float(asked.pixel_frames)
    return 1.0, asked.steps * clip, clip, asked.steps * clip * clip


def _fit(rows: Sequence[tuple[float, ...]], values: list[float]) -> tuple[Fit, tuple[int, ...]]:
    import numpy as np

    from core.statistics.quantiles import fit, independent

    features, target = np.array(rows), np.array(values)
    # A coefficient wants several runs to stand on.
    most = max(1, len(values) // RUNS_TO_FIT)
    columns = independent(features)[: 1 + most]
    made = fit(features[:, columns], target)
    while len(columns) > 1 and bool((made.whole[1, 1:] < 0).any()):
        # Nothing takes less when there is more of it: noise, or two that say the same.
        shares = made.whole[1, 1:]
        del columns[1 + int(shares.argmin())]
        made = fit(features[:, columns], target)
    return made, tuple(columns)


def _from_fit(found: tuple[Fit, tuple[int, ...]], features: tuple[float, ...]) -> Band:
    import numpy as np

    made, columns = found
    row: Floats = np.array([features[column] for column in columns])
    low, median, high = (max(0.0, value) for value in made.at(row))
    return Band(min(low, median * (1 - SURE)), median, max(high, median * (1 + SURE)))


def _from_few(asked: Asked, runs: Sequence[tuple[Run, float]], *, steps: bool) -> Band | None:
    """Scale the median of few runs: the need grows, but less than the clip does."""
    if not runs:
        return None

    def size(item: Asked) -> float:
        return float(item.pixel_frames * (item.steps if steps else 1))

    same = [value for run, value in runs if size(run.asked) == size(asked)]
    if same:
        middle = _median(same)
        return Band(min([*same, middle * (1 - _SAME_SIZE)]), middle,
                    max([*same, middle * (1 + _SAME_SIZE)]))  # fmt: skip
    ends = [(value, value * size(asked) / size(run.asked)) for run, value in runs]
    lows = _median([min(pair) for pair in ends])
    highs = _median([max(pair) for pair in ends])
    middle = highs if steps else (lows * highs) ** 0.5
    return Band(lows * (1 - _SAME_SIZE), middle, highs * (1 + _SAME_SIZE))


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def capped(found: Forecast, asked: Asked, bounds: Iterable[Run]) -> Forecast:
    """Lower a forecast that is above what clips as large or larger have run in."""
    enough = [
        run.peak_bytes
        for run in bounds
        if run.peak_bytes
        and run.asked.pixel_frames >= asked.pixel_frames
        and run.asked.pixels >= asked.pixels
    ]
    if found.peak_bytes is None or not enough:
        return found
    most, band = min(enough), found.peak_bytes
    return replace(
        found, peak_bytes=Band(min(band.low, most), min(band.median, most), min(band.high, most))
    )


def cold(formula: Formula, family: Family, asked: Asked, bounds: Iterable[Run] = ()) -> Forecast:
    """Return the forecast without a measured run.

    Options named dtype, encoder_dtype, offload and tiling count where `asked` has them.
    """
    options = asked.options
    dtype, offload = str(options.get("dtype", "")), str(options.get("offload", "none"))
    known = formula.bytes_per_parameter
    peak = formula.peak_bytes(
        family,
        width=asked.width,
        height=asked.height,
        frames=asked.frames,
        dtype=dtype if dtype in known else "",
        encoder_dtype=str(options.get("encoder_dtype", "")),
        offload=offload if offload in ("model", "group", "sequential") else "none",
        tiling=options.get("tiling") is True,
    )
    band = Band(peak * (1 - SPREAD), peak, peak * (1 + SPREAD))
    return capped(Forecast(band, None, True, FORMULA, 0), asked, bounds)


class Verdict(StrEnum):
    """Whether a job fits."""

    FITS = "fits"
    TIGHT = "tight"
    NOT_NOW = "not now"
    NEVER = "never"
    UNKNOWN = "unknown"


def verdict(peak: Band | None, free_bytes: float | None, total_bytes: float | None) -> Verdict:
    """Judge a peak against the memory that is free for the job, and all there is."""
    if peak is None or (free_bytes is None and total_bytes is None):
        return Verdict.UNKNOWN
    if total_bytes is not None and peak.median > total_bytes:
        return Verdict.NEVER
    if free_bytes is None:
        return Verdict.UNKNOWN
    if peak.high <= free_bytes:
        return Verdict.FITS
    return Verdict.TIGHT if peak.median <= free_bytes else Verdict.NOT_NOW


NOTHING_KNOWN = "No run of this recipe on this machine yet: time and memory are not known."


def peak_words(
    found: Forecast,
    judged: Verdict,
    free_bytes: float | None,
    total_bytes: float | None,
    kept_bytes: float = 0,
) -> str:
    """Say whether the job fits, with its numbers; "" when no peak is known.

    Args:
        found: What it takes.
        judged: What `verdict` says of it.
        free_bytes: Free for it, without what is to be kept free.
        total_bytes: All there is.
        kept_bytes: What the person wants to keep free.
    """
    band = found.peak_bytes
    if band is None:
        return ""
    peak = f"peak {memory(band.median)}{_range(band)}"
    place = "this card" if found.on_gpu else "main memory"
    free = "" if free_bytes is None else f"{memory(free_bytes)} free"
    if judged is Verdict.FITS:
        text = f"Fits {'this card' if found.on_gpu else 'in memory'} · {peak} of {free}"
    elif judged is Verdict.TIGHT:
        text = f"Tight · {peak} of {free}"
    elif judged is Verdict.NOT_NOW:
        text = f"Will not fit now · {peak}, only {free}"
    elif judged is Verdict.NEVER and total_bytes is not None:
        text = f"Will not fit {place} · {peak} of {memory(total_bytes)}"
    else:
        kind = "VRAM" if found.on_gpu else "memory"
        text = f"{peak[0].upper()}{peak[1:]} of {kind}"
    return f"{text} · {memory(kept_bytes)} kept free" if kept_bytes else text


def _range(band: Band) -> str:
    low, high = memory(band.low), memory(band.high)
    if low == high:
        return ""
    same_unit = low.split()[1] == high.split()[1]
    return f" ({low.split()[0]} – {high})" if same_unit else f" ({low} – {high})"


def source_words(found: Forecast) -> str:
    """Say how long it will take, and where all of it comes from."""
    if found.seconds is None:
        return f"{found.words[0].upper()}{found.words[1:]}: time is not known"
    low, middle, high = (_clock(v) for v in (found.seconds.low, found.seconds.median,
                                             found.seconds.high))  # fmt: skip
    span = "" if low == high else f" ({low} – {high})"
    return f"About {middle}{span} · {found.words}"


def tip_words(found: Forecast) -> str:
    """Explain in full what a forecast rests on."""
    if not found.runs:
        return "Reckoned from the sizes of the model and the clip; no run was measured yet."
    return (
        f"From {found.source} of this recipe on this machine. "
        "Nine in ten runs lie within the range in brackets."
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(1, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def measured_words(run: Run, expected: Forecast | None) -> str:
    """Say what a run took beside what was forecast for it."""
    parts = []
    if run.peak_bytes is not None:
        text = f"peak {'at most ' if run.censored else ''}{memory(run.peak_bytes)}"
        if expected is not None and expected.peak_bytes is not None:
            text += f" (forecast {memory(expected.peak_bytes.median)})"
        parts.append(text)
    if run.seconds is not None:
        text = f"in {_clock(run.seconds)}"
        if expected is not None and expected.seconds is not None:
            text += f" ({_clock(expected.seconds.median)})"
        parts.append(text)
    return "Last run: " + " ".join(parts) if parts else ""

"""What a trace holds: the samples of one attempt at a job, and its table as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

from core.gpu.columns import EXPORTED, EXPORTED_DIGITS
from core.gpu.figures import Figures, figures_of
from widgets.timeline_bands import Band
from widgets.timeline_data import (
    LOAD,
    PARTS,
    POWER,
    TEMPERATURE,
    USED,
    Past,
    Track,
)

HEADER = (
    "seconds",
    "phase",
    *EXPORTED,
)
DIGITS = (3, *EXPORTED_DIGITS)


@dataclass(frozen=True, slots=True)
class Trace:
    """One attempt's readings and phases.

    Attributes:
        bands: The phases, oldest first.
        start: When the first phase began.
        end: When the last one ended, or now.
        times: Seconds on the bands' clock, shape (n,); empty when no longer kept.
        rows: Columns as in `core.gpu.columns`, shape (n, COLUMNS), NaN where unknown.
    """

    bands: tuple[Band, ...]
    start: float
    end: float
    times: Any
    rows: Any

    @property
    def running(self) -> bool:
        """Whether the attempt goes on."""
        return bool(self.bands) and self.bands[-1].end is None

    @property
    def peak(self) -> tuple[int, float] | None:
        """Number of the sample that used the most, and its bytes; None without any."""
        used = self.rows[:, USED]
        known = (used == used).nonzero()[0]
        if not len(known):
            return None
        number = int(known[used[known].argmax()])
        return number, float(used[number])

    @property
    def figures(self) -> Figures:
        """Peak, average, lowest and last of all memory in use, and the energy drawn."""
        return figures_of(self.times, self.rows[:, USED], self.rows[:, POWER])

    def phase_at(self, seconds: float) -> str:
        """Return the name of the phase at that time."""
        inside = [band for band in self.bands if band.start <= seconds]
        return inside[-1].doing if inside else ""

    def csv(self) -> str:
        """Return a table, one line a sample; what is unknown is left empty."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(HEADER)
        for seconds, row in zip(self.times.tolist(), self.rows.tolist(), strict=True):
            values = (seconds - self.start, row[USED], *(part.of(row) for part in PARTS))
            values += (row[LOAD], row[TEMPERATURE], row[POWER])
            words = [
                "" if value != value else f"{value:.{digits}f}"
                for value, digits in zip(values, DIGITS, strict=True)
            ]
            table.writerow([words[0], self.phase_at(seconds), *words[1:]])
        return text.getvalue()


def trace_of(band: Band, track: Track, past: Past) -> Trace:
    """Return the trace of the attempt that `band` belongs to."""
    bands = tuple(past.bands.of_run(band.run)) or (band,)
    start, last = bands[0].start, bands[-1]
    end = last.end if last.end is not None else max(past.now or start, start)
    times, rows = track.history.samples(start, end)
    return Trace(bands, start, end, times, rows)

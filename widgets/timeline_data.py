"""What the memory timeline knows: one track a GPU and one for main memory, and job bands."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from math import isfinite
from typing import Any

from core.gpu.columns import (
    COLUMNS,
    COMFYUI,
    LLM,
    LOAD,
    POWER,
    PROGRAMS,
    REST,
    TEMPERATURE,
    USED,
    Row,
    device_row,
    system_row,
)
from core.gpu.readings import DeviceReading, ProcessReading, Reading, SystemReading
from core.gpu.shares import Splitter
from core.history import History
from core.units import GIGABYTE
from widgets.timeline_bands import Bands

SYSTEM = -1
"""Key of the main memory's track; GPUs have their index."""

WATTS = (50.0, 100.0, 150.0, 200.0, 300.0, 400.0, 500.0, 600.0, 800.0, 1000.0, 1500.0, 2000.0)
"""Upper ends of the second axis for power."""
LISTS_KEPT = 50_000
"""Lists of processes kept; a day has 43,200 at one in two seconds."""


SLIVER = 0.02
"""A share of a GPU's memory too small for a line of its own below that of the total."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the stack: the column of its upper boundary, its colour in Tokens, its name."""

    column: int
    colour: str
    name: str

    def of(self, values: Sequence[float]) -> float:
        """Return its height in a row, NaN where unknown."""
        return values[self.column] - (values[self.column - 1] if self.column else 0.0)


PARTS = (
    Part(USED, "series_worker", "Engine"),
    Part(COMFYUI, "series_comfyui", "ComfyUI"),
    Part(LLM, "series_llm", "LLM servers"),
    Part(PROGRAMS, "series_panel", "Other programs"),
    Part(REST, "series_other", "Rest"),
)
"""From top to bottom; `column - 1` is the boundary below a part."""


@dataclass(frozen=True, slots=True)
class Axis:
    """What the second axis can show: a column of a track, its name and unit."""

    key: str
    column: int
    name: str
    unit: str


AXES = (
    Axis("load", LOAD, "Utilisation", "%"),
    Axis("temperature", TEMPERATURE, "Temperature", "°C"),
    Axis("power", POWER, "Power", "W"),
)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a running job is expected to take: from when on, how long, bytes in use at most."""

    at_seconds: float
    duration_seconds: float
    low_bytes: float
    median_bytes: float
    high_bytes: float

    def __post_init__(self) -> None:
        if not all(map(isfinite, astuple(self))) or self.duration_seconds <= 0:
            raise ValueError("a forecast needs finite numbers and a duration above 0")

    @property
    def end(self) -> float:
        """When the job is expected to be done."""
        return self.at_seconds + self.duration_seconds


def gigabytes(amount: float | None, digits: int = 1) -> str:
    """Return bytes as such as "14.6 GB", a dash for what is not known."""
    return "–" if amount is None or amount != amount else f"{amount / GIGABYTE:.{digits}f} GB"


class Holders:
    """Who held how much: the lists of processes by time, each kept once."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._lists: list[tuple[ProcessReading, ...] | None] = []
        self._same: dict[ProcessReading, ProcessReading] = {}

    def add(self, at_seconds: float, processes: tuple[ProcessReading, ...] | None) -> None:
        """Keep a list, if it tells anything new."""
        if self._lists and (processes is self._lists[-1] or processes == self._lists[-1]):
            return
        if processes is not None:
            # Most processes hold the same from list to list: they need no copy.
            processes = tuple(self._same.get(item, item) for item in processes)
            self._same = {item: item for item in processes}
        self._times.append(at_seconds)
        self._lists.append(processes)
        if len(self._times) > LISTS_KEPT:
            del self._times[: LISTS_KEPT // 10], self._lists[: LISTS_KEPT // 10]

    def at(self, seconds: float) -> tuple[ProcessReading, ...]:
        """Return who held memory at that time, most first; nobody where it is not known."""
        place = bisect_right(self._times, seconds) - 1
        found = self._lists[place] if place >= 0 else None
        return tuple(sorted(found or (), key=lambda item: -(item.used_bytes or 0)))


class Track:
    """The past of one GPU, or of main memory."""

    def __init__(self, key: int, name: str) -> None:
        self.key = key
        self.name = name
        self.total_bytes: int | None = None
        self.reserved_bytes: int | None = None
        self.highest_bytes = 0.0
        self.highest_watts = 0.0
        self.occurring = frozenset[int]()
        """Columns of the parts that ever had a height."""
        self.history = History(COLUMNS)
        self.holders = Holders()
        self.older = 0
        """Goes up whenever older samples were added."""
        self._splitter = Splitter()

    @property
    def top_bytes(self) -> float | None:
        """Amount at the upper edge: the total, but of main memory less while little is in use.

        A GPU's total is the limit that counts; main memory is often so large
        that a job's share would be a flat line. It never sinks again.
        """
        if self.total_bytes is None or self.key != SYSTEM:
            return self.total_bytes
        shares = (self.total_bytes / part for part in (8, 4, 2))
        return next((top for top in shares if 1.25 * self.highest_bytes <= top), self.total_bytes)

    @property
    def parts(self) -> list[tuple[Part, str]]:
        """The parts that occur, from top to bottom, each with its name here."""
        named = {PROGRAMS: "This window"} if self.key == SYSTEM else {}
        return [
            (part, named.get(part.column, part.name))
            for part in PARTS
            if part.column in self.occurring
        ]

    def axis_top(self, axis: Axis) -> float:
        """Return the amount of the second axis at the upper edge."""
        if axis.column != POWER:
            return 100.0
        return next((top for top in WATTS if top >= self.highest_watts), self.highest_watts)

    def add_device(self, at_seconds: float, device: DeviceReading) -> None:
        """Add a reading of a GPU."""
        self.total_bytes = device.total_bytes or self.total_bytes
        self.reserved_bytes = device.reserved_bytes
        self.holders.add(at_seconds, device.processes)
        self._add(at_seconds, device_row(device, self._splitter.split(device)))

    def add_system(self, at_seconds: float, system: SystemReading) -> None:
        """Add a reading of main memory."""
        self.total_bytes = system.total_bytes
        self._add(at_seconds, system_row(system))

    def prepend(self, times: Any, rows: Any) -> int:
        """Add samples older than all that is kept; returns how many there was room for.

        Args:
            times: Seconds on the readings' clock, shape (n,).
            rows: Shape (n, COLUMNS), NaN where unknown.
        """
        import numpy as np

        added = self.history.prepend(times, rows)
        if added:
            self.older += 1
            rows = np.asarray(rows, float)
            high = [np.nanmax(rows[:, c], initial=0.0) for c in (USED, POWER)]
            self.highest_bytes = max(self.highest_bytes, float(high[0]))
            self.highest_watts = max(self.highest_watts, float(high[1]))
            below = np.concatenate([np.zeros((len(rows), 1)), rows[:, :USED]], axis=1)
            heights = rows[:, : USED + 1] - below
            self._occur(column for column in range(USED + 1) if (heights[:, column] > 0).any())
        return added

    def _add(self, at: float, row: Row) -> None:
        if not self.history.append(at, row):
            return
        self.highest_bytes = max(self.highest_bytes, row[USED] or 0)
        self.highest_watts = max(self.highest_watts, row[POWER] or 0)
        if len(self.occurring) <= USED and row[REST] is not None:
            below = 0.0
            for column in range(USED + 1):
                upper = row[column] or 0.0
                if upper > below and column not in self.occurring:
                    self._occur((column,))
                below = upper

    def _occur(self, columns: Iterable[int]) -> None:
        self.occurring = self.occurring.union(columns)


class Past:
    """All tracks and bands.

    Attributes:
        reserve_bytes: What the person wants to keep free on every GPU.
    """

    def __init__(self) -> None:
        self.tracks: dict[int, Track] = {}
        self.bands = Bands()
        self.reserve_bytes = 0
        self.forecast: Forecast | None = None
        self.forecast_key: int | None = None
        """The track that the forecast is about."""
        self.now: float | None = None

    def add(self, reading: Reading) -> bool:
        """Add a reading. Returns whether there is a track that was not there before."""
        before = len(self.tracks)
        self.now = max(self.now or reading.at_seconds, reading.at_seconds)
        for device in reading.devices:
            track = self.tracks.get(device.index)
            if track is None:
                track = self.tracks[device.index] = Track(device.index, device.name)
            track.add_device(reading.at_seconds, device)
        if SYSTEM not in self.tracks:
            self.tracks[SYSTEM] = Track(SYSTEM, "Main memory")
        self.tracks[SYSTEM].add_system(reading.at_seconds, reading.system)
        return len(self.tracks) != before

    def ahead(self) -> Forecast | None:
        """Return the forecast while it reaches beyond now."""
        forecast, now = self.forecast, self.now
        return forecast if forecast and now is not None and forecast.end > now else None

    def limit_bytes(self, track: Track) -> float | None:
        """Return what a GPU has for jobs: its total less what the driver and the person keep.

        None where next to nothing is kept, or the total is not known.
        """
        kept, total = (track.reserved_bytes or 0) + self.reserve_bytes, track.total_bytes
        if track.key == SYSTEM or not total or not SLIVER * total < kept < total:
            return None
        return total - kept

    @property
    def gpus(self) -> list[Track]:
        """The GPUs' tracks in the driver's order."""
        return [track for key, track in sorted(self.tracks.items()) if key != SYSTEM]

    @property
    def first_seconds(self) -> float | None:
        """Time of the oldest sample of all."""
        times = [track.history.first_seconds for track in self.tracks.values()]
        known = [time for time in times if time is not None]
        return min(known) if known else None


def nice_step(span: float, steps: tuple[float, ...], most: int) -> float:
    """Return the smallest of `steps` that divides `span` into at most `most` parts."""
    wanted = span / max(1, most)
    place = bisect_right(steps, wanted - 1e-9)
    return steps[min(place, len(steps) - 1)]


def ago(seconds: float) -> str:
    """Return a time before now as such as "−30 s", "−8 min", "−2:15" or "−1:30 h"."""
    seconds = round(seconds)
    if seconds <= 0:
        return "now"
    if seconds < 60:
        return f"−{seconds} s"
    if seconds % 60 and seconds < 3600:
        return f"−{seconds // 60}:{seconds % 60:02} min"
    if seconds < 3600:
        return f"−{seconds // 60} min"
    hours, minutes = divmod(seconds // 60, 60)
    if hours >= 48:
        days, hours = divmod(hours, 24)
        return f"−{days} d" if not hours and not minutes else f"−{days} d {hours} h"
    return f"−{hours} h" if not minutes else f"−{hours}:{minutes:02} h"

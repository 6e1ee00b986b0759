"""What the memory timeline knows: one track a GPU and one for main memory, and job bands."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

from core.gpu.readings import DeviceReading, Reading, SystemReading
from core.gpu.shares import Shares, Splitter, split_system
from core.history import History
from core.jobs import Phase
from core.units import GIGABYTE

REST, PROGRAMS, USED, LOAD, TEMPERATURE, POWER = range(6)
"""Columns of a track. The first three are boundaries of the stack, bottom to top."""

SYSTEM = -1
"""Key of the main memory's track; GPUs have their index."""

BANDS_KEPT = 4096


def gigabytes(amount: float | None, digits: int = 1) -> str:
    """Return bytes as such as "14.6 GB", a dash for what is not known."""
    return "–" if amount is None or amount != amount else f"{amount / GIGABYTE:.{digits}f} GB"


@dataclass(slots=True)
class Band:
    """One phase of one job; it goes on while `end` is None. An attempt's bands share `run`."""

    job_id: str
    title: str
    phase: Phase
    start: float
    run: int = 0
    end: float | None = None
    outcome: str = ""


class Bands:
    """The phases of jobs in order of time, the oldest forgotten beyond BANDS_KEPT."""

    def __init__(self) -> None:
        self._bands: deque[Band] = deque(maxlen=BANDS_KEPT)
        self._open: dict[str, Band] = {}
        self._runs = 0
        self._longest = 0.0
        self.changes = 0
        """Goes up whenever a band begins or ends."""

    @property
    def newest(self) -> Band | None:
        """The band that began last."""
        return self._bands[-1] if self._bands else None

    def of_run(self, run: int) -> list[Band]:
        """Return the phases of one attempt at a job, oldest first."""
        return [band for band in self._bands if band.run == run]

    def begin(self, job_id: str, title: str, phase: Phase, at_seconds: float) -> None:
        """Start a phase; the job's phase before it ends there."""
        before = self._end(job_id, at_seconds)
        if before is None:
            self._runs += 1
        run = self._runs if before is None else before.run
        band = Band(job_id, title, phase, at_seconds, run)
        self._open[job_id] = band
        self._bands.append(band)
        self.changes += 1

    def finish(self, job_id: str, at_seconds: float, outcome: str) -> None:
        """End the job's phase; a job without one is left alone."""
        band = self._end(job_id, at_seconds)
        if band is not None:
            band.outcome = outcome
            self.changes += 1

    def between(self, start: float, end: float) -> list[Band]:
        """Return the bands that show from `start` to `end`, oldest first."""
        found, earliest = [], start - self._longest
        for band in reversed(self._bands):
            if band.start < earliest:
                break  # No closed band before this one reaches so far.
            if band.start <= end and (band.end is None or band.end >= start):
                found.append(band)
        found += [band for band in self._open.values() if band.start < earliest]
        return found[::-1]

    def at(self, seconds: float, now: float) -> Band | None:
        """Return the newest band at that time; none lies after `now`."""
        for band in reversed(self._bands):
            if band.start <= seconds <= (now if band.end is None else band.end):
                return band
        return None

    def _end(self, job_id: str, at_seconds: float) -> Band | None:
        band = self._open.pop(job_id, None)
        if band is not None:
            band.end = max(at_seconds, band.start)
            self._longest = max(self._longest, band.end - band.start)
            self.changes += 1
        return band


class Track:
    """The past of one GPU, or of main memory."""

    def __init__(self, key: int, name: str) -> None:
        self.key = key
        self.name = name
        self.total_bytes: int | None = None
        self.highest_bytes = 0
        self.history = History(6)
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
    def labels(self) -> tuple[str, str, str]:
        """Names of the stack's parts from top to bottom."""
        if self.key == SYSTEM:
            return "Engine", "This window", "Rest"
        return "Engine", "Other programs", "Rest"

    def add_device(self, at_seconds: float, device: DeviceReading) -> None:
        """Add a reading of a GPU."""
        self.total_bytes = device.total_bytes or self.total_bytes
        self._add(
            at_seconds,
            self._splitter.split(device),
            device.utilisation_percent,
            device.temperature_celsius,
            device.power_watts,
        )

    def add_system(self, at_seconds: float, system: SystemReading) -> None:
        """Add a reading of main memory."""
        self.total_bytes = system.total_bytes
        self._add(at_seconds, split_system(system), system.load_percent, None, None)

    def _add(self, at: float, shares: Shares, *others: float | None) -> None:
        rest, programs = shares.rest_bytes, shares.programs_bytes
        below = None if rest is None or programs is None else rest + programs
        self.highest_bytes = max(self.highest_bytes, shares.used_bytes or 0)
        self.history.append(at, (rest, below, shares.used_bytes, *others))


class Past:
    """All tracks and bands."""

    def __init__(self) -> None:
        self.tracks: dict[int, Track] = {}
        self.bands = Bands()
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
    return f"−{hours} h" if not minutes else f"−{hours}:{minutes:02} h"

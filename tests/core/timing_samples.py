"""Runs to replay: recorded ones of the real engine, and constructed ones with a slow decode."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import Any

from core.events import Event, FramesPublished, PhaseStarted, Progressed, Sampled
from core.jobs import Phase
from core.statistics.runs import Asked
from core.timing.eta import Running
from core.timing.past import Passed, Past, lengths

DATA = Path(__file__).resolve().parents[1] / "data"
CALM, BUSY = DATA / "timing_recorded.json", DATA / "timing_recorded_busy.json"
"""Real runs: on a machine mostly left alone, and on one that other programs kept busy."""
TICK = 0.25
"""Seconds between two looks at what is left, as a window has its own clock."""


@dataclass(frozen=True)
class Sample:
    """One run: its events with seconds since its begin, and how long it took."""

    asked: Asked
    seconds: float
    fresh: bool
    events: tuple[Event, ...]

    def passed(self) -> Passed:
        marks = [(e.phase, e.at_seconds) for e in self.events if isinstance(e, PhaseStarted)]
        return Passed("", self.asked, lengths(marks, 0.0, self.seconds), self.seconds, self.fresh)


def event_of(told: list[Any]) -> Event:
    """Return one event of the file."""
    at, kind, *rest = told
    common = {"job_id": "j", "at_seconds": at}
    if kind == "phase":
        return PhaseStarted(phase=Phase(rest[0]), **common)
    if kind == "step":
        pace = {"seconds_per_step": 0.0, "seconds_left": 0.0}
        return Sampled(step=rest[0], steps=rest[1], **pace, **common)
    if kind == "progress":
        return Progressed(phase=Phase(rest[0]), done=rest[1], total=rest[2], **common)
    first, count, total = rest
    size = {"slot": 0, "sequence": 0, "width": 8, "height": 8, "fps": 8.0, "preview": False}
    return FramesPublished(first=first, count=count, total=total, **size, **common)


def recorded(path: Path = CALM) -> list[Sample]:
    """Return the recorded runs in the order they ran."""
    found = []
    for run in json.loads(path.read_text(encoding="utf-8"))["runs"]:
        sizes = (run["width"], run["height"], run["frames"], run["steps"])
        asked = Asked(run["recipe"], run["family"], "", *sizes)
        events = tuple(event_of(told) for told in run["events"])
        found.append(Sample(asked, run["seconds"], run["fresh"], events))
    return found


def constructed(seed: int, *, slow: float = 1.0, telling: bool = True, chunk: int = 8) -> Sample:
    """Return a made-up run whose decode takes as long as its sampling, or longer.

    Args:
        seed: Of its noise.
        slow: The decode takes so many times longer than in other runs.
        telling: The decode tells its progress.
        chunk: Frames that are decoded at once.
    """
    rng = random.Random(seed)
    night = exp(rng.gauss(0, 0.03))
    steps, frames = 20, 80
    asked = Asked("slow decode", "made up", "", 832, 480, frames, steps)
    fresh = seed % 3 == 0
    at, events = 0.0, []

    def tell(kind: str, *rest: Any) -> None:
        events.append(event_of([at, kind, *rest]))

    at += 0.2
    tell("phase", "load")
    at += (25.0 if fresh else 0.6) * exp(rng.gauss(0, 0.1))
    tell("phase", "sample")
    for step in range(1, steps + 1):
        at += (2.5 if step == 1 else 1.0) * 5.0 * night * exp(rng.gauss(0, 0.05))
        tell("step", step, steps)
    tell("phase", "decode")
    for first in range(0, frames, chunk):
        at += slow * 110.0 * chunk / frames * night * exp(rng.gauss(0, 0.1))
        for done in range(first + 1, first + chunk + 1) if telling else ():
            tell("progress", "decode", done, frames)
    tell("phase", "encode")
    at += 3.0 * exp(rng.gauss(0, 0.1))
    tell("phase", "verify")
    at += 1.0
    return Sample(asked, at, fresh, tuple(events))


@dataclass(frozen=True)
class Look:
    """What was said at one moment: before an event, after it, or between two."""

    at: float
    left: float | None
    late: float | None
    whole: bool
    kind: str
    """"tick" or the event's class."""


def replay(sample: Sample, past: Past | None) -> list[Look]:
    """Return what is said of a run as it goes, looked at on a clock and at every event."""
    expected = past.phases(sample.asked, fresh=sample.fresh) if past else {}
    running = Running(0.0, expected)
    looks: list[Look] = []

    def note(at: float, kind: str) -> None:
        left = running.left(at)
        if left is None:
            looks.append(Look(at, None, None, False, kind))
        else:
            looks.append(Look(at, left.seconds, left.late_seconds, left.whole, kind))

    clock = 0.0
    for event in sample.events:
        while clock < event.at_seconds:
            note(clock, "tick")
            clock += TICK
        note(event.at_seconds, "tick")
        running.apply(event)
        note(event.at_seconds, type(event).__name__)
    note(sample.seconds, "tick")
    return looks

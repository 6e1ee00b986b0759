"""How long the parts of a dream take, and the line that tells of it."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

MARK = "dream-timing "
"""Begins each line of timings in the log; the rest of the line is JSON."""
VERSION = 1
MADE = ("keyframe", "slerp", "decode", "upscale")
"""Work of the thread that makes frames, one after the other."""
WAITED = ("stream_wait", "record_wait")
"""What that thread waits for: a full buffer of the player, a full queue of the encoder."""
BESIDE = ("encode", "publish")
"""Work of the thread that writes segments meanwhile."""
PHASES = (*MADE, *WAITED, *BESIDE)
_RATE_SECONDS = 5.0


@dataclass(slots=True)
class Phase:
    """One part: seconds in all, the longest, and for how many pieces."""

    seconds: float = 0.0
    worst_seconds: float = 0.0
    count: int = 0


class Timings:
    """Adds up what is measured. Each phase is told by one thread; any may read.

    Args:
        clock: Seconds, ever rising.
    """

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self.clock = clock
        self.phases = {name: Phase() for name in PHASES}
        self.frames = 0
        self._began = clock()
        self._lock = threading.Lock()
        self._marks: deque[tuple[float, int]] = deque(maxlen=4096)

    def add(self, phase: str, seconds: float, count: int = 1) -> None:
        """Add `seconds` for `count` pieces of `phase`."""
        with self._lock:
            found = self.phases[phase]
            found.seconds += seconds
            found.count += count
            found.worst_seconds = max(found.worst_seconds, seconds)

    @contextmanager
    def of(self, phase: str, count: int = 1) -> Iterator[None]:
        """Time what is done inside; also when it ends by an error."""
        began = self.clock()
        try:
            yield
        finally:
            self.add(phase, self.clock() - began, count)

    def made(self, frames: int) -> None:
        """Count frames that were made."""
        with self._lock:
            self.frames += frames
            self._marks.append((self.clock(), self.frames))

    def seconds(self, *names: str) -> float:
        """Return the seconds of some phases together."""
        with self._lock:
            return sum(self.phases[name].seconds for name in names)

    def rate(self) -> float:
        """Return the frames made each second, lately."""
        now = self.clock()
        with self._lock:
            since, before = self._began, 0
            for at, frames in self._marks:
                if at >= now - _RATE_SECONDS:
                    break
                since, before = at, frames
            return (self.frames - before) / (now - since) if now > since else 0.0

    def figures(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        with self._lock:
            phases = {
                name: {
                    "total_ms": round(found.seconds * 1000, 3),
                    "worst_ms": round(found.worst_seconds * 1000, 3),
                    "mean_ms": round(found.seconds * 1000 / max(1, found.count), 3),
                    "count": found.count,
                }
                for name, found in self.phases.items()
            }
            frames, elapsed = self.frames, self.clock() - self._began
        return {
            "version": VERSION,
            "seconds": round(elapsed, 3),
            "frames": frames,
            "made_fps": round(self.rate(), 3),
            "phases": phases,
        }


def line_of(figures: dict[str, Any]) -> str:
    """Return figures as the log's line, without its end."""
    return MARK + json.dumps(figures, ensure_ascii=False, separators=(",", ":"))

"""The timeline's axes: times before now, and memory up to the total."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg

from core.units import GIGABYTE
from widgets.timeline_data import ago, nice_step

TIME_STEPS = (5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0)
TIME_STEPS += (10800.0, 21600.0)
MEMORY_STEPS = (0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 20.0, 24.0, 32.0, 40.0, 64.0)
MEMORY_STEPS += (96.0, 128.0, 256.0, 512.0, 1024.0)


def memory_ticks(total: float, height: float) -> list[float]:
    """Return round amounts from zero to `total`, in bytes, for a view of that height."""
    top = total / GIGABYTE
    step = nice_step(top, MEMORY_STEPS, max(2, int(height / 28)))
    count = max(1, int(top / step + 1e-6))
    return [step * GIGABYTE * number for number in range(count + 1)]


class TimeAxis(pg.AxisItem):
    """Names times by how long ago they are."""

    def __init__(self) -> None:
        super().__init__("bottom")
        self.enableAutoSIPrefix(False)
        self.now = 0.0

    def set_now(self, now: float) -> None:
        """Take another now; the names move with it."""
        self.now = now
        self.picture = None
        self.update()

    def tickValues(self, low: float, high: float, size: float) -> list[Any]:
        """Return multiples of a round step before now."""
        step = nice_step(high - low, TIME_STEPS, max(2, int(size / 110)))
        first = max(0, int(np.ceil((self.now - high) / step)))
        last = int(np.floor((self.now - low) / step + 1e-6))
        return [(step, [self.now - step * number for number in range(first, last + 1)])]

    def tickStrings(self, values: list[float], _scale: float, _spacing: float) -> list[str]:
        """Return such as "−8 min" and "now"."""
        return [ago(self.now - value) for value in values]


class MemoryAxis(pg.AxisItem):
    """Names memory in GB, up to the total and not into the strip of bands."""

    def __init__(self) -> None:
        super().__init__("left")
        self.enableAutoSIPrefix(False)
        self.amounts = [0.0]

    def tickValues(self, _low: float, _high: float, _size: float) -> list[Any]:
        """Return the amounts that the grid has too."""
        return [(self.amounts[-1], self.amounts)]

    def tickStrings(self, values: list[float], _scale: float, _spacing: float) -> list[str]:
        """Return such as "6"."""
        return [f"{value / GIGABYTE:g}" for value in values]

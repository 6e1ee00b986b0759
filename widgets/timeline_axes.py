"""Where times and amounts stand in the memory timeline, and the names along its edges."""

from __future__ import annotations

import math
from dataclasses import dataclass

from core.units import GIGABYTE
from widgets.timeline_data import ago, nice_step

LEFT, RIGHT, BOTTOM = 36, 8, 22
"""Room around the plot, pixels: names of amounts, nothing, names of times."""
STRIP = 24
"""Height of the strip of bands above the curve, pixels."""
FUTURE = 58
"""Room to the right of now, pixels: there stands the name of the total."""
NODE_STRIP = 8
"""More of it where there are nodes, pixels."""
AXIS_ROOM = 52
"""Room at the right for the names of a second axis, pixels."""
AHEAD = 0.3
"""Share of the width that lies ahead of now while there is a forecast."""
HEADROOM = 5
"""Pixels between the strip and the total's line."""

TIME_STEPS = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
TIME_STEPS += (7200.0, 10800.0, 21600.0, 43200.0, 86400.0, 172800.0, 604800.0, 1209600.0)
MEMORY_STEPS = (0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 20.0, 24.0, 32.0, 40.0, 64.0)
MEMORY_STEPS += (96.0, 128.0, 256.0, 512.0, 1024.0)


@dataclass(frozen=True, slots=True)
class Look:
    """What a view shows.

    Attributes:
        span: Seconds up to now.
        left: Time at the left edge.
        top: Bytes at the upper edge.
        nodes: Whether there are nodes under the phases.
        second: Whether there is a second axis.
        ahead: Whether a forecast reaches beyond now.
    """

    span: float
    left: float
    top: float
    nodes: bool = False
    second: bool = False
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """How times and amounts lie in the view.

    Times stand on a grid of device pixels that does not depend on what is in
    view: moving is by whole columns, so that what is drawn can be moved along.

    Attributes:
        seconds: What a column, one device pixel wide, covers.
        first: Number of the column at the left edge; column n begins at n * seconds.
        columns: Width of the plot, device pixels.
        rows: Height of the curve's part, device pixels.
        ratio: Device pixels in a pixel.
        top_bytes: The total, HEADROOM below the curve's upper edge.
        strip: Height of the bands above the curve, pixels.
        future: Room to the right of now, pixels.
    """

    seconds: float
    first: int
    columns: int
    rows: int
    ratio: float
    top_bytes: float
    strip: float = STRIP
    future: float = FUTURE

    @classmethod
    def fitting(cls, width: float, height: float, ratio: float, look: Look) -> Scale:
        """Return the scale of a view of that size, in pixels."""
        strip = STRIP + (NODE_STRIP if look.nodes else 0)
        right = AXIS_ROOM if look.second else RIGHT
        columns = max(8, int((width - LEFT - right) * ratio))
        rows = max(8, int((height - strip - BOTTOM) * ratio))
        future = max(FUTURE, AHEAD * columns / ratio) if look.ahead else FUTURE
        past = max(1, columns - round(future * ratio))
        # Nine digits, so that the last bits of `span` do not move the grid.
        seconds = float(f"{look.span / past:.9g}")
        first = math.floor(look.left / seconds + 1e-6)
        return cls(seconds, first, columns, rows, ratio, look.top, strip, future)

    @property
    def start(self) -> float:
        """Time at the left edge."""
        return self.first * self.seconds

    @property
    def end(self) -> float:
        """Time at the right edge, room for the future included."""
        return (self.first + self.columns) * self.seconds

    def x_of(self, at_seconds: float) -> float:
        """Return where a time stands, pixels from the left of the widget."""
        return LEFT + (at_seconds / self.seconds - self.first) / self.ratio

    def seconds_at(self, x: float) -> float:
        """Return the time at `x` pixels from the left of the widget."""
        return (self.first + (x - LEFT) * self.ratio) * self.seconds

    def row_of(self, amount: float) -> float:
        """Return where an amount of bytes stands, device pixels below the curve's upper edge."""
        return self.rows - amount * self.rows_per_byte

    @property
    def rows_per_byte(self) -> float:
        """Device pixels a byte is high."""
        return (self.rows - HEADROOM * self.ratio) / self.top_bytes

    def y_of(self, amount: float) -> float:
        """Return where an amount of bytes stands, pixels from the top of the widget."""
        return self.strip + self.row_of(amount) / self.ratio


def axis_ticks(top: float, height: float) -> list[float]:
    """Return round amounts from zero to `top` of the second axis."""
    steps = tuple(float(step) for step in (5, 10, 20, 25, 50, 100, 200, 500, 1000))
    step = nice_step(top, steps, max(2, int(height / 30)))
    return [step * number for number in range(int(top / step + 1e-6) + 1)]


def memory_ticks(total: float, height: float) -> list[float]:
    """Return round amounts from zero to `total`, in bytes, for a view of that height."""
    top = total / GIGABYTE
    step = nice_step(top, MEMORY_STEPS, max(2, int(height / 26)))
    count = max(1, int(top / step + 1e-6))
    return [step * GIGABYTE * number for number in range(count + 1)]


def time_ticks(scale: Scale, now: float) -> list[tuple[float, str]]:
    """Return (time, name) of round times before now, such as "now" and "−10 s"."""
    width = scale.columns / scale.ratio
    step = nice_step(scale.end - scale.start, TIME_STEPS, max(2, int(width / 85)))
    first = max(0, math.ceil((now - scale.end) / step))
    last = math.floor((now - scale.start) / step + 0.02)
    return [(now - step * number, ago(step * number)) for number in range(first, last + 1)]

"""Frames in between two frames, by optical flow.

What moves is followed both ways, each frame is moved towards the moment in
between, and the two are blended; where one of them does not see a place, the
other one is taken. No model: what turns, deforms or appears is guessed no
better than flow can.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Frame = npt.NDArray[np.uint8]

METHOD = "optical flow"
CUT = 0.18
"""Mean difference, of 1, that is left between two frames of different scenes after all motion."""
_FLOW_SIDE = 640
"""Longest side at which motion is looked for; it is smooth, and larger pictures are slow."""
_MOST_UP = 2.0
"""Small pictures are enlarged for that, or far motion is not found in them."""
_SURE_PX = 1.5


def between(a: Frame, b: Frame, count: int) -> list[Frame]:
    """Return `count` frames that lie evenly between two frames, both left out.

    Args:
        a: The earlier, uint8 (height, width, 3), colours in any order.
        b: The later, of the same shape.
        count: How many, 0 or more.

    Returns:
        Frames of the same shape. Where a and b are of different scenes, the nearer of the two.

    Raises:
        ValueError: The frames do not fit each other.
    """
    return list(steps(a, b, count))


def steps(a: Frame, b: Frame, count: int) -> Iterator[Frame]:
    """As `between`, one after the other, so that somebody can stop on the way."""
    import numpy as np

    if a.shape != b.shape or a.ndim != 3 or a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(f"frames of {a.dtype} {a.shape} and {b.dtype} {b.shape}")
    if count <= 0:
        return
    if np.array_equal(a, b):
        yield from (a.copy() for _ in range(count))
        return
    pair = _Pair(a, b)
    for number in range(1, count + 1):
        yield pair.at(number / (count + 1))


class _Pair:
    """Two frames and the motion between them."""

    def __init__(self, a: Frame, b: Frame) -> None:
        import cv2
        import numpy as np

        self.a, self.b = np.ascontiguousarray(a), np.ascontiguousarray(b)
        height, width = a.shape[:2]
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        self._rows, self._columns = rows, columns
        share = min(_MOST_UP, _FLOW_SIDE / max(height, width))
        small = (max(16, round(width * share)), max(16, round(height * share)))
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (self.a, self.b)]
        if small != (width, height):
            grey = [cv2.resize(one, small, interpolation=cv2.INTER_AREA) for one in grey]
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        search.setVariationalRefinementIterations(10)
        there = self._large(search.calc(grey[0], grey[1], None), small)
        back = self._large(search.calc(grey[1], grey[0], None), small)
        self.there, self.back = there, back
        self.cut = self._is_cut()

    def _large(self, flow: Any, small: tuple[int, int]) -> Any:
        import cv2
        import numpy as np

        height, width = self.a.shape[:2]
        if small == (width, height):
            return flow
        large = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)
        return large * np.array([width / small[0], height / small[1]], np.float32)

    def _moved(self, frame: Any, flow: Any) -> Any:
        import cv2

        return cv2.remap(
            frame,
            self._columns + flow[..., 0],
            self._rows + flow[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )

    def _is_cut(self) -> bool:
        import numpy as np

        left = np.abs(self._moved(self.b, self.there).astype(np.int16) - self.a)
        return float(left.mean()) > CUT * 255

    def at(self, t: float) -> Frame:
        """Return the frame at `t`, more than 0 and less than 1."""
        import cv2
        import numpy as np

        if self.cut:
            return (self.a if t < 0.5 else self.b).copy()
        # Motion from the moment in between to both frames, as if it went on evenly.
        to_a = (-(1 - t) * t) * self.there + (t * t) * self.back
        to_b = ((1 - t) * (1 - t)) * self.there - (t * (1 - t)) * self.back
        from_a, from_b = self._moved(self.a, to_a), self._moved(self.b, to_b)
        weight_a = (1 - t) * self._sure(self.there, to_a, t)
        weight_b = t * self._sure(self.back, to_b, 1 - t)
        share = weight_a / (weight_a + weight_b)
        share = cv2.GaussianBlur(share, (0, 0), 1.0)[..., None]
        blend = from_a.astype(np.float32) * share + from_b.astype(np.float32) * (1 - share)
        frame: Frame = np.clip(blend + 0.5, 0, 255).astype(np.uint8)
        return frame

    def _sure(self, onward: Any, seen_from: Any, part: float) -> Any:
        """Return for each place how surely it shows what was fetched for it, more than 0 to 1.

        What lies where it was fetched from must itself move to this place; where it moves
        elsewhere, it covered the place or is covered by now.
        """
        import numpy as np

        lost = seen_from + part * self._moved(onward, seen_from)
        error = (lost * lost).sum(axis=-1)
        return np.exp(-error / (2 * _SURE_PX**2)) + np.float32(1e-3)


class Inbetween:
    """Puts frames between those that come, two in memory at once.

    Args:
        factor: Times as many frames a second; 1 changes nothing.
        loop: The clip is played in a circle: there are frames between its last and its
            first one too.
    """

    def __init__(self, factor: int, *, loop: bool = False) -> None:
        self.factor, self.loop = factor, loop
        self._first: Frame | None = None
        self._last: Frame | None = None

    def total(self, frames: int) -> int:
        """Return how many frames `frames` become."""
        if frames < 2:
            return frames
        return frames * self.factor - (0 if self.loop else self.factor - 1)

    def push(self, frame: Frame) -> Iterator[Frame]:
        """Yield what comes before a frame, and the frame."""
        if self._last is None:
            self._first = frame
        else:
            yield from steps(self._last, frame, self.factor - 1)
        self._last = frame
        yield frame

    def end(self) -> Iterator[Frame]:
        """Yield what comes after the last frame."""
        first, last = self._first, self._last
        if self.loop and first is not None and last is not None and first is not last:
            yield from steps(last, first, self.factor - 1)
        self._first = self._last = None

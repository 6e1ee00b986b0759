"""How frames are decoded fastest here: measured, because it differs from device to device.

On a processor a batch of ten was slower than one frame at a time, on a card it is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from time import perf_counter

BATCHES = (1, 2, 4, 10)
ROUNDS = 3
LONGEST_SECONDS = 0.5
"""A batch that takes longer than this, or more than one frame, would hold up a cancel."""
CLEARLY = 0.97
"""A larger batch, or another kind of numbers, must be this much faster."""
WORSE = 1.05
"""From this much slower on, still larger batches are not tried."""


class Batches:
    """Finds the batch that takes least time for each frame, on the frames of the dream itself.

    How many are decoded together changes no pixel, so that no frame is made in vain.

    Args:
        allowed: Batches to try, rising; the first is 1.
        longest_seconds: Larger batches than one frame may take this long.
    """

    def __init__(
        self, allowed: Sequence[int] = BATCHES, longest_seconds: float = LONGEST_SECONDS
    ) -> None:
        self._left = list(allowed)
        self._longest = longest_seconds
        self._found: dict[int, list[float]] = {}
        self._warm = 0
        self.best = self._left[0]
        self.done = False

    def next(self) -> int:
        """Return how many frames to decode together now."""
        return self.best if self.done else self._left[0]

    def told(self, count: int, seconds: float) -> None:
        """Learn that `count` frames together took `seconds`; other counts are passed over."""
        if self.done or count != self._left[0]:
            return
        if self._warm == 0:
            self._warm = 1  # The first one of a size prepares what the others use.
            return
        found = self._found.setdefault(count, [])
        found.append(seconds / count)
        if len(found) >= ROUNDS:
            self._judge(count)

    def _judge(self, count: int) -> None:
        each, best = median(self._found[count]), median(self._found[self.best])
        if each < best * CLEARLY:
            self.best = count
        self._left.pop(0)
        self._warm = 0
        slow = each > best * WORSE
        if not self._left or slow or each * self._left[0] > self._longest:
            self.stop()

    def stop(self, most: int | None = None) -> None:
        """Settle for what was found; `most` frames at once where memory holds no more."""
        self.done = True
        if most is not None:
            self.best = min(self.best, most)

    @property
    def milliseconds(self) -> dict[str, float]:
        """Return the median of each batch that was tried, for one frame."""
        # A copy: the status asks on a thread of its own.
        found = [(size, list(all_)) for size, all_ in list(self._found.items())]
        return {str(size): round(median(all_) * 1000, 3) for size, all_ in found if all_}


def fastest(
    ways: Mapping[str, Callable[[], object]],
    heard: Callable[[], None],
    *,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = perf_counter,
) -> tuple[str, dict[str, float]]:
    """Return the fastest way and the median of each, milliseconds.

    They are warmed up, then taken in turn. The first stays unless another is clearly faster.

    Args:
        ways: What to time, by name.
        heard: Called between two; raises Cancelled.
        rounds: How often each is timed.
        clock: Seconds, ever rising.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            heard()
            began = clock()
            way()
            if number:
                times[name].append(clock() - began)
    found = {name: median(all_) for name, all_ in times.items()}
    first = next(iter(ways))
    best = min(found, key=lambda name: found[name])
    chosen = best if found[best] < found[first] * CLEARLY else first
    return chosen, {name: round(seconds * 1000, 3) for name, seconds in found.items()}


class KeepUp:
    """Says when frames come too slowly, and what would help.

    Args:
        fps: Frames wanted each second.
        largest: The largest divisor of the resolution that is allowed.
    """

    def __init__(self, fps: float, largest: int) -> None:
        self._fps, self._largest = fps, largest
        self._frames, self._busy, self._decode = 0, 0.0, 0.0
        self.divisor = 1

    def told(self, frames: int, busy_seconds: float, decode_seconds: float) -> str:
        """Learn of frames; return "divisor" when it was raised, "sampling" when that is too slow.

        Args:
            frames: How many.
            busy_seconds: All work on them, without any waiting.
            decode_seconds: The part of it that a smaller picture makes less.
        """
        self._frames += frames
        self._busy += busy_seconds
        self._decode += decode_seconds
        if self._frames < 2 * self._fps and self._busy < 5.0:
            return ""
        made, busy, decode = self._frames, self._busy, self._decode
        self._frames, self._busy, self._decode = 0, 0.0, 0.0
        if busy * self._fps <= made * WORSE:
            return ""
        if decode * 2 < busy:
            return "sampling"
        if self.divisor * 2 > self._largest:
            return ""
        self.divisor *= 2
        return "divisor"


def crop(side: int, frame_seconds: float, budget_seconds: float, decodes: int) -> int:
    """Return the side of the piece of a latent on which so many decodes keep to a budget.

    Args:
        side: Shorter side of the whole latent.
        frame_seconds: What a piece of 4 takes.
        budget_seconds: For all of them.
        decodes: How many.
    """
    least = min(4, side)
    found = int(least * (budget_seconds / max(1e-9, frame_seconds * decodes)) ** 0.5)
    return max(least, min(side, found))

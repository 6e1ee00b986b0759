"""Frames between a source that comes in bursts and a display that never waits.

The source puts frames in, at most as many as there is `room` for; the display takes one
when it is due, by absolute time. When none is left the display holds the last one until
enough seconds are there again, and then goes on no faster than the source. No frame is
ever left out: whoever is late shows the next one late, and the clock moves on from there.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic
from typing import TYPE_CHECKING

from core.stream.pages import pages, usual_bytes

if TYPE_CHECKING:
    import mmap

TARGET_SECONDS = 30.0
LOWEST_FPS, HIGHEST_FPS = 4.0, 60.0
_FIRST_ROOM = 16
"""Frames that are taken before their size is known."""
_EARLY_SECONDS = 0.001
"""A timer of whole milliseconds may wake whoever shows by so much too early."""
_MEASURED_SECONDS = 10.0
_CALM_SECONDS = 8.0
"""So much in store lets a display that followed a slow source go at its own rate again."""
_FOLLOW = 0.97
_PATIENCE_SECONDS = 8.0
"""A first frame that has stood for so long is followed at the pace of its source."""


class State(StrEnum):
    """What the display does with the buffer."""

    FILLING = "filling"
    PLAYING = "playing"
    DEPLETED = "depleted"
    OVER = "over"


@dataclass(slots=True)
class Frame:
    """One frame: rows of B, G, R, 255. Its memory is used again two frames later."""

    number: int
    width: int
    height: int
    pixels: mmap.mmap = field(repr=False)


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of the frames so far.

    Attributes:
        shown: Frames that were taken, each once.
        repeated: How often the last one stood for one that was not there.
        late: Frames that were taken more than one frame's time after they were due.
        dropped: Frames that came and were never shown; those of a stream that goes on: 0.
        depletions: How often it ran empty, having been well filled before.
    """

    shown: int = 0
    repeated: int = 0
    late: int = 0
    dropped: int = 0
    depletions: int = 0


class FrameBuffer:
    """Holds frames in order; filled by one thread and emptied by another.

    Args:
        seconds: How much it holds at most, at the display's rate.
        most_bytes: Most memory of its frames; None: 1 GiB, or a quarter of what is free.
        start_seconds: So much must be there before the display begins, or goes on.
        clock: Tells the source's time, as `take` is given the display's.
    """

    def __init__(
        self,
        *,
        seconds: float = TARGET_SECONDS,
        most_bytes: int | None = None,
        start_seconds: float = 1.5,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.target_seconds = seconds
        self.most_bytes = usual_bytes() if most_bytes is None else most_bytes
        self.closed = False
        self._start_seconds, self._clock = start_seconds, clock
        self._lock = threading.Lock()
        self._frames: deque[Frame] = deque()
        self._pool: list[mmap.mmap] = []
        self._frame_bytes = 0
        self._fps: float | None = None
        self._chosen = False
        self._over = False
        self._arrivals: deque[tuple[float, int]] = deque()
        self._current: Frame | None = None
        self._first_at: float | None = None
        self._before: Frame | None = None
        self._state = State.FILLING
        self._paused = self._short = False
        self._rate = 0.0
        self._anchor: tuple[float, int] | None = None
        self._shown = self._repeated = self._late = self._dropped = self._depletions = 0

    # -- the source ---------------------------------------------------------

    def room(self) -> int:
        """Return how many more frames may come now."""
        with self._lock:
            if self.closed or self._over:
                return 0
            if not self._frame_bytes:
                return _FIRST_ROOM
            return max(0, self._capacity() - len(self._frames))

    def put(self, pixels: memoryview, *, first: int, width: int, height: int, fps: float) -> None:
        """Copy frames in, behind those that are there.

        Args:
            pixels: Rows of B, G, R, 255, one frame after the other.
            first: Number of the first of them.
            width: Of each, pixels.
            height: Of each, pixels.
            fps: Rate at which they are meant to be shown, used where nobody chose another.
        """
        size = width * height * 4

        def copy(target: mmap.mmap, begin: int) -> None:
            target[:] = pixels[begin : begin + size]

        count = len(pixels) // size if size else 0
        self.put_with(copy, count, first=first, width=width, height=height, fps=fps)

    def put_with(
        self,
        fill: Callable[[mmap.mmap, int], None],
        count: int,
        *,
        first: int,
        width: int,
        height: int,
        fps: float,
    ) -> None:
        """Take `count` frames in as `put` does, each written by `fill` into memory it is given.

        Args:
            fill: Given memory of one frame and at which byte of them all it begins.
            count: How many.
            first: Number of the first of them.
            width: Of each, pixels.
            height: Of each, pixels.
            fps: Rate at which they are meant to be shown.
        """
        size = width * height * 4
        for index in range(count):
            memory = self._memory(size)
            fill(memory, index * size)
            with self._lock:
                if self.closed:
                    return
                if not self._chosen:
                    self._fps = _within(fps)
                self._frames.append(Frame(first + index, width, height, memory))
        now = self._clock()
        with self._lock:
            self._arrivals.append((now, count))
            while len(self._arrivals) > 2 and now - self._arrivals[1][0] > _MEASURED_SECONDS:
                self._arrivals.popleft()

    def lost(self, count: int) -> None:
        """Count frames that were gone before they could be copied."""
        with self._lock:
            self._dropped += count

    def end(self) -> None:
        """Nothing more comes; what is there is still shown."""
        with self._lock:
            self._over = True

    def close(self) -> None:
        """Nobody looks any more: forget all frames, and take no others."""
        with self._lock:
            self.closed = True
            self._frames.clear()
            self._pool.clear()
            self._current = self._before = None

    def _memory(self, size: int) -> mmap.mmap:
        with self._lock:
            if size != self._frame_bytes:
                self._frame_bytes = size
                self._pool.clear()
            if self._pool:
                return self._pool.pop()
        return pages(size)

    # -- the display --------------------------------------------------------

    def take(self, now: float) -> Frame | None:
        """Return the frame to show at `now`, None before the first one.

        The one before it stays whole until the next call.
        """
        with self._lock:
            self._step(now)
            return self._current

    def due(self) -> float | None:
        """Return when the next frame is to be taken; None: not known, ask again soon."""
        with self._lock:
            if self._paused or self._state is not State.PLAYING or self._anchor is None:
                return None
            return self._anchor[0] + self._anchor[1] / self._rate

    def _step(self, now: float) -> None:
        if self._paused or self.closed:
            return
        if self._over and not self._frames and self._anchor is None:
            self._state = State.OVER
        if self._state in (State.FILLING, State.DEPLETED):
            if not self._may_start(now):
                self._wait(now)
                return
            fresh = self._state is State.FILLING and self._seconds() >= self._start_seconds
            self._state = State.PLAYING
            self._set_rate(now, self._display() if fresh or self._over else self._followed())
        elif self._state is State.OVER:
            return
        self._play(now)

    def _wait(self, now: float) -> None:
        """Show the last frame; at first the first one, so that there is something to see."""
        if self._current is None and self._frames:
            self._current = self._frames.popleft()
            self._shown += 1
            self._first_at = now
        self._repeated += self._state is State.DEPLETED

    def _play(self, now: float) -> None:
        if self._over or self._seconds() >= self._calm():
            self._short = False
            self._set_rate(now, self._display())
        if self._anchor is None:
            self._anchor = now, 0
        begin, steps = self._anchor
        due = begin + steps / self._rate
        if now < due - _EARLY_SECONDS:
            return
        if not self._frames:
            self._state = State.OVER if self._over else State.DEPLETED
            self._anchor = None
            if not self._over:
                self._depletions += not self._short
                self._repeated += 1
                self._short = True
            return
        if now - due > 1 / self._rate:
            self._late += 1
            self._anchor = now, 1
        else:
            self._anchor = begin, steps + 1
        self._recycle()
        self._before, self._current = self._current, self._frames.popleft()
        self._shown += 1

    def _recycle(self) -> None:
        old = self._before
        if old is not None and len(old.pixels) == self._frame_bytes:
            self._pool.append(old.pixels)

    def _set_rate(self, now: float, rate: float) -> None:
        if rate != self._rate:
            self._rate, self._anchor = rate, None if self._anchor is None else (now, 0)

    def _may_start(self, now: float) -> bool:
        if not self._frames:
            return False
        waited = self._first_at is not None and now - self._first_at >= _PATIENCE_SECONDS
        # A source that is known to be slow is shown as slowly, and has so many in store sooner.
        known = self._state is State.DEPLETED or waited
        rate = self._followed() if known else self._display()
        enough = len(self._frames) / rate >= self._start_seconds
        return self._over or enough or len(self._frames) >= self._capacity()

    def _followed(self) -> float:
        """Return the rate of a display that follows the source, as fast as it came of late."""
        made = self._made_fps()
        if made is None:
            return self._display()
        return min(self._display(), max(1.0, _FOLLOW * made))

    def _calm(self) -> float:
        return min(_CALM_SECONDS, 0.5 * self._capacity() / self._display())

    # -- what both may ask --------------------------------------------------

    @property
    def state(self) -> State:
        """What the display does, as of the last `take`."""
        return self._state

    @property
    def paused(self) -> bool:
        """Whether the display stands still because somebody wants it to."""
        return self._paused

    def set_paused(self, paused: bool, now: float) -> None:
        """Let the display stand still, or go on; the source goes on until there is no room."""
        with self._lock:
            self._paused = paused
            if not paused and self._anchor is not None:
                self._anchor = now, 0

    @property
    def fps(self) -> float | None:
        """The display's rate; None before the first frame, where nobody chose one."""
        return self._fps

    def set_fps(self, fps: float, now: float) -> None:
        """Show so many frames a second from now on, 4 to 60, whatever the source is meant for."""
        with self._lock:
            self._fps, self._chosen = _within(fps), True
            made = self._made_fps()
            if made is not None and self._fps <= made:
                self._short = False  # The source keeps up with that.
            if self._state is State.PLAYING:
                self._set_rate(now, self._followed() if self._short else self._fps)

    @property
    def rate(self) -> float | None:
        """Frames a second that are shown now; less than `fps` while it follows a slow source."""
        return self._rate if self._state is State.PLAYING else None

    @property
    def short(self) -> bool:
        """Whether it ran empty and is not well filled again; so it is said once, not at each."""
        return self._short

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self._over

    def __len__(self) -> int:
        """Return how many frames are held."""
        return len(self._frames)

    def seconds(self) -> float:
        """Return how long the frames last that are held, at the display's rate."""
        with self._lock:
            return self._seconds()

    def most_seconds(self) -> float:
        """Return how much it can hold: what was asked for, or less where memory does not allow."""
        with self._lock:
            if not self._frame_bytes:
                return self.target_seconds
            return min(self.target_seconds, self._capacity() / self._display())

    def made_fps(self) -> float | None:
        """Return how many frames a second came of late; None while it is not known."""
        with self._lock:
            return self._made_fps()

    def figures(self) -> Figures:
        """Return what came of the frames so far."""
        with self._lock:
            return Figures(self._shown, self._repeated, self._late, self._dropped, self._depletions)

    def bytes_held(self) -> int:
        """Return the memory of all frames, used or kept for the next ones."""
        with self._lock:
            shown = [f.pixels for f in (self._current, self._before) if f is not None]
            every = [*(frame.pixels for frame in self._frames), *self._pool, *shown]
            return sum(map(len, every))

    def _seconds(self) -> float:
        return len(self._frames) / self._display()

    def _display(self) -> float:
        return self._fps or 30.0

    def _capacity(self) -> int:
        by_time = int(self.target_seconds * self._display())
        by_memory = self.most_bytes // self._frame_bytes if self._frame_bytes else by_time
        return max(2, min(by_time, by_memory))

    def _made_fps(self) -> float | None:
        if len(self._arrivals) < 2:
            return None
        since, now = self._arrivals[0][0], self._clock()
        frames = sum(count for _, count in list(self._arrivals)[1:])
        return frames / (now - since) if now - since >= 0.5 else None


def _within(fps: float) -> float:
    return min(max(fps, LOWEST_FPS), HIGHEST_FPS)

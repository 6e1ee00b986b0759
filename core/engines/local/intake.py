"""Endless frames on their way in: out of the ring, into whatever buffer is there now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.events import Streamed
from core.frames import STREAM_READER, Ring

if TYPE_CHECKING:
    from core.stream.buffer import FrameBuffer


class Intake:
    """Copies the frames of one run after the other and says what may come.

    Used by the thread that drains the run; only `buffer` is set from others.

    Attributes:
        buffer: Where frames go; None, or one that is closed: nobody looks.
    """

    def __init__(self) -> None:
        self.buffer: FrameBuffer | None = None
        self._reader = 0
        self._current: FrameBuffer | None = None
        self._taken: int | None = None
        self._told: dict[str, int] = {}
        self._shape: tuple[int, int, float] | None = None

    def begin(self) -> dict[str, int]:
        """Begin with a run and return what its order says of the reader."""
        self._forget()
        return self.pace() or {}

    def take(self, event: Streamed, ring: Ring | None) -> bool:
        """Copy what `event` tells of; say whether it tells more than that frames came."""
        buffer = self._attached()
        size = event.width * event.height * 4
        # Frames may still come that were meant for the reader before: between them and the
        # next ones there may be a gap, and their slots are not held any more.
        if event.reader == self._reader:
            self._taken = event.first + event.count
        else:
            buffer = None
        if buffer is not None and ring is not None:
            lease = ring.pin(event.slot, event.sequence, STREAM_READER)
            if lease is None or len(lease) < size * event.count:
                buffer.lost(event.count)
            else:
                slot = event.slot
                buffer.put_with(
                    lambda target, begin: ring.read_into(target, slot, begin),
                    event.count,
                    first=event.first,
                    width=event.width,
                    height=event.height,
                    fps=event.fps,
                )
            ring.unpin(STREAM_READER)
        shape = event.width, event.height, event.fps
        new, self._shape = shape != self._shape, shape
        return new

    def pace(self) -> dict[str, int] | None:
        """Return what the worker is to be told now of the reader, None when it knows."""
        buffer = self._attached()
        told = {"reader": self._reader}
        if buffer is not None and self._taken is None:
            told["room"] = buffer.room()
        elif buffer is not None and self._taken is not None:
            told |= {"taken": self._taken, "upto": self._taken + buffer.room()}
        if told == self._told:
            return None
        self._told = told
        return told

    def end(self) -> None:
        """The run is over: what the buffer holds is all that comes."""
        if self._current is not None:
            self._current.end()
        self._forget()

    def _forget(self) -> None:
        self._current = self._taken = self._shape = None
        self._told = {"reader": self._reader}

    def _attached(self) -> FrameBuffer | None:
        """Return the buffer, counting from nothing when it is another one."""
        buffer = self.buffer
        if buffer is not None and buffer.closed:
            buffer = None
        if buffer is not self._current:
            self._current, self._taken = buffer, None
            self._reader += 1
        return buffer

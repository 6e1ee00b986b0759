"""The clock of a dream: takes frames out of the buffer when they are due and says so."""

from __future__ import annotations

from time import monotonic

from PySide6.QtCore import QObject, Qt, QTimer, Signal
from PySide6.QtGui import QImage

from core.stream.buffer import Frame, FrameBuffer, State

HOLD_MS = 40
"""How often it looks for frames while none is due."""
TELL_SECONDS = 0.25


class DreamClock(QObject):
    """Shows one buffer at a time, by absolute time: an error of one tick is none of the next.

    Attributes:
        moved: There is another frame; paint it at once.
        told: Some figures may have changed; a few times a second.
        over: The last frame of a stream that ended was shown.
        frame: The frame to show, None without one.
        due_at: When it was due, on the monotonic clock.
    """

    moved = Signal()
    told = Signal()
    over = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.buffer: FrameBuffer | None = None
        self.frame: Frame | None = None
        self.due_at = 0.0
        self._told_at = 0.0
        self._timer = QTimer(self, singleShot=True, timerType=Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)

    def start(self, buffer: FrameBuffer) -> None:
        """Show `buffer` from now on, holding the last frame of another one until then."""
        self.buffer = buffer
        self._tick()

    def stop(self) -> None:
        """Show nothing any more."""
        self._timer.stop()
        self.buffer = self.frame = None
        self.moved.emit()

    def image(self) -> QImage | None:
        """Return the frame as a picture over its memory; good until the one after the next."""
        frame = self.frame
        if frame is None:
            return None
        pixels, width, height = memoryview(frame.pixels), frame.width, frame.height
        return QImage(pixels, width, height, width * 4, QImage.Format.Format_RGB32)

    def set_paused(self, paused: bool) -> None:
        """Stand still, or go on."""
        if self.buffer is not None:
            self.buffer.set_paused(paused, monotonic())
            self._tell(monotonic())
            self._tick()

    def set_fps(self, fps: float) -> None:
        """Show so many frames a second."""
        if self.buffer is not None:
            self.buffer.set_fps(fps, monotonic())
            self._tell(monotonic())
            self._tick()

    def _tick(self) -> None:
        buffer = self.buffer
        if buffer is None:
            return
        now, due = monotonic(), buffer.due()
        before, shown = self.frame, buffer.take(now)
        if shown is not None and shown is not before:
            self.frame, self.due_at = shown, now if due is None else due
            self.moved.emit()
        if now - self._told_at >= TELL_SECONDS:
            self._tell(now)
        if buffer.state is State.OVER:
            self._tell(now)
            self.over.emit()
            return
        self._arm(buffer)

    def _arm(self, buffer: FrameBuffer) -> None:
        due = buffer.due()
        wait = HOLD_MS if due is None else round((due - monotonic()) * 1000)
        self._timer.start(max(0, min(wait, 1000)))

    def _tell(self, now: float) -> None:
        self._told_at = now
        self.told.emit()

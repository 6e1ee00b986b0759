"""A clip in memory and the clock that plays it."""

from __future__ import annotations

import math
from time import perf_counter
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QImage

from core.events import FramesPublished

if TYPE_CHECKING:
    from core.frames import Ring

MAX_BYTES = 256 * 2**20
"""Most memory that the frames of one clip may take."""


class Clip:
    """Frames of one clip: decoded ones where there are any, else the preview.

    The preview lies in the engine's ring and is painted from there; `detach`
    copies it out before the ring is used for something else.
    """

    def __init__(self) -> None:
        self.total = 0
        self.fps = 8.0
        self._ring: Ring | None = None
        self._event: FramesPublished | None = None
        self._lease: memoryview | None = None
        self._reader = 0
        self._kept: bytes | None = None
        self._images: dict[int, QImage] = {}

    def __len__(self) -> int:
        """Return the number of frames, decoded or not."""
        return self.total

    @property
    def decoded(self) -> int:
        """How many frames are final."""
        return len(self._images)

    @property
    def live(self) -> bool:
        """Whether any frame is painted from the ring."""
        return self._lease is not None

    def add(self, event: FramesPublished, ring: Ring) -> bool:
        """Take over what `event` tells of; False when it was overwritten already."""
        spare = 1 - self._reader
        lease = ring.pin(event.slot, event.sequence, reader=spare)
        if lease is None:
            return False
        size = event.width * event.height * 4
        if len(lease) < size * event.count or event.total < 1:
            ring.unpin(spare)
            return False
        if event.preview and event.count == event.total:
            self._let_go()
            self._ring, self._event, self._lease = ring, event, lease
            self._reader, self._kept = spare, None
        else:
            for index in range(event.count):
                part = lease[index * size : (index + 1) * size]
                image = _over(part, event.width, event.height).copy()
                if ring.intact(event.slot, event.sequence):
                    self._put(event.first + index, event.total, image)
                part.release()
            ring.unpin(spare)
        self.total, self.fps = event.total, max(event.fps, 0.1)
        return True

    def put(self, index: int, total: int, image: QImage, fps: float) -> None:
        """Keep a final frame that was read from a file."""
        self.total, self.fps = max(total, 1), max(fps, 0.1)
        self._put(index, total, image)

    def _put(self, index: int, total: int, image: QImage) -> None:
        room = MAX_BYTES / max(total, 1)
        if image.sizeInBytes() > room:
            factor = math.sqrt(room / image.sizeInBytes())
            image = image.scaled(
                max(1, int(image.width() * factor)),
                max(1, int(image.height() * factor)),
                Qt.AspectRatioMode.IgnoreAspectRatio,
                Qt.TransformationMode.SmoothTransformation,
            )
        if image.format() != QImage.Format.Format_RGB32:
            image = image.convertToFormat(QImage.Format.Format_RGB32)
        self._images[index] = image

    def frame(self, index: int) -> QImage | None:
        """Return frame `index`; it may lie in the ring, so ask `intact` after painting it."""
        image = self._images.get(index)
        if image is not None:
            return image
        event = self._event
        if event is None or not self.total:
            return self._nearest(index)
        size = event.width * event.height * 4
        place = min(index * event.total // self.total, event.total - 1) * size
        source: memoryview | bytes | None = self._lease if self._kept is None else self._kept
        if source is None or not self.intact():
            return self._nearest(index)
        try:
            return _over(memoryview(source)[place : place + size], event.width, event.height)
        except ValueError:  # The ring was closed and took its lease back.
            return self._nearest(index)

    def intact(self) -> bool:
        """Tell whether the preview is still what it was when it was taken over."""
        if self._kept is not None:
            return True
        event, ring = self._event, self._ring
        return event is not None and ring is not None and ring.intact(event.slot, event.sequence)

    def detach(self) -> None:
        """Copy the preview out of the ring and give the lease back."""
        event, lease = self._event, self._lease
        if event is not None and lease is not None and self._kept is None:
            size = event.width * event.height * 4 * event.total
            try:
                copied = bytes(lease[:size])
            except ValueError:
                copied = b""
            whole = len(copied) == size and self.intact()
            self._let_go()
            self._kept = copied if whole else None
            self._event = event if whole else None
        else:
            self._let_go()

    def clear(self) -> None:
        """Forget everything and give the lease back."""
        self._let_go()
        self._event = self._kept = None
        self._images.clear()
        self.total = 0

    def bytes_kept(self) -> int:
        """Return the memory that this clip's own frames take."""
        own = sum(image.sizeInBytes() for image in self._images.values())
        return own + len(self._kept or b"")

    def _nearest(self, index: int) -> QImage | None:
        before = [known for known in self._images if known <= index]
        if before:
            return self._images[max(before)]
        return self._images[min(self._images)] if self._images else None

    def _let_go(self) -> None:
        if self._ring is not None and self._lease is not None:
            self._ring.unpin(self._reader)
        self._ring = self._lease = None


def _over(pixels: memoryview, width: int, height: int) -> QImage:
    return QImage(pixels, width, height, width * 4, QImage.Format.Format_RGB32)


def thumbnails(clip: Clip, most: int, size: QSize) -> list[tuple[int, QImage]]:
    """Return up to `most` small copies of frames, evenly chosen, with their numbers."""
    count = min(most, len(clip))
    made = []
    for place in range(count):
        index = round(place * (len(clip) - 1) / max(count - 1, 1))
        frame = clip.frame(index)
        if frame is None:
            continue
        small = frame.scaled(
            size,
            Qt.AspectRatioMode.KeepAspectRatioByExpanding,
            Qt.TransformationMode.SmoothTransformation,
        )
        # A frame that needs no scaling comes back sharing the ring's memory.
        made.append((index, small.copy()))
    return made


class Player(QObject):
    """Counts frames at an exact rate, whatever each single timer tick does."""

    moved = Signal(int)
    """The frame to show now."""
    playing_changed = Signal(bool)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.loop = True
        self.index = 0
        self._total = 0
        self._fps = 8.0
        self._playing = False
        self._held = False
        self._start = 0.0
        self._from = 0
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._tick)

    @property
    def playing(self) -> bool:
        """Whether time goes on (also while nobody sees it)."""
        return self._playing

    @property
    def total(self) -> int:
        """Number of frames."""
        return self._total

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self._fps

    def set_clip(self, total: int, fps: float) -> None:
        """Tell how many frames there are and how fast; the place stays where it can."""
        if (total, fps) == (self._total, self._fps):
            return
        self._total, self._fps = total, max(fps, 0.1)
        self.index = min(self.index, max(total - 1, 0))
        self._restart()

    def play(self) -> None:
        """Play on, from the start when at the end of a clip that does not loop."""
        if self._total < 1 or self._playing:
            return
        if not self.loop and self.index >= self._total - 1:
            self._move(0)
        self._playing = True
        self.playing_changed.emit(True)
        self._restart()

    def pause(self) -> None:
        """Stay on this frame."""
        self._timer.stop()
        if self._playing:
            self._playing = False
            self.playing_changed.emit(False)

    def toggle(self) -> None:
        """Play or pause."""
        if self._playing:
            self.pause()
        else:
            self.play()

    def seek(self, index: int) -> None:
        """Go to frame `index`, playing on from there if it plays."""
        self._move(max(0, min(index, self._total - 1)))
        self._restart()

    def step(self, frames: int) -> None:
        """Pause and go `frames` on or back."""
        self.pause()
        if self._total:
            self._move((self.index + frames) % self._total)

    def hold(self, held: bool) -> None:
        """Stop the clock while nobody can see the picture."""
        self._held = held
        self._restart()

    def _restart(self) -> None:
        self._timer.stop()
        if self._playing and not self._held and self._total > 1:
            self._start, self._from = perf_counter(), self.index
            self._schedule()

    def _schedule(self) -> None:
        # Always against the start: a late tick does not make the next one late.
        passed = (perf_counter() - self._start) * self._fps
        wait = (math.floor(passed) + 1 - passed) / self._fps
        self._timer.start(max(1, math.ceil(wait * 1000)))

    def _tick(self) -> None:
        place = self._from + math.floor((perf_counter() - self._start) * self._fps)
        if place >= self._total and not self.loop:
            self._move(self._total - 1)
            self.pause()
            return
        self._move(place % self._total)
        self._schedule()

    def _move(self, index: int) -> None:
        if index != self.index:
            self.index = index
            self.moved.emit(index)

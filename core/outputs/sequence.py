"""Making a folder of numbered pictures, all of it published in one step."""

from __future__ import annotations

import os
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

from core.formats import ending
from core.jobs import Job
from core.outputs.container import SEQUENCE_KIND
from core.outputs.look import Expected
from core.outputs.marks import luma
from core.outputs.publish import sync_folder, write_synced
from core.outputs.writer import Told, Wish, Writer, seen

if TYPE_CHECKING:
    import numpy as np

THREADS = min(4, os.cpu_count() or 1)
"""How many pictures are packed at once; twice as many wait at most."""
JPEG_QUALITY = 95


class SequenceWriter(Writer):
    """Writes frame-00001.png … or .jpg, a few at once.

    The pictures are packed by OpenCV, whose PNG takes a tenth of the time of the
    usual settings, and without it by FFmpeg.
    """

    noun = "sequence"
    container: ClassVar[str] = SEQUENCE_KIND.format

    def __init__(self, job: Job, on_verify: Told | None = None, wish: Wish | None = None) -> None:
        self._kind = str(job.params.get("format", "png"))
        super().__init__(job, on_verify, wish, suffix=ending(self._kind))
        self._pool: ThreadPoolExecutor | None = None
        self._open: deque[Future[tuple[int, int]]] = deque()
        self._checksums: list[int] = []
        self._pixels: list[int] = []

    def _release(self) -> None:
        pool, self._pool = self._pool, None
        self._open.clear()
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def _put(self, frame: np.ndarray) -> np.ndarray:
        if self._pool is None:
            self._clip.mkdir()
            self._pool = ThreadPoolExecutor(THREADS, "pictures")
        number = self.frames + 1
        # A copy: who made the frame may use its memory again.
        self._open.append(self._pool.submit(self._write, number, frame.copy()))
        while len(self._open) > 2 * THREADS:
            self._take()
        return luma(seen(frame))

    def _take(self) -> None:
        packed, pixels = self._open.popleft().result()
        self._checksums.append(packed)
        self._pixels.append(pixels)

    def _write(self, number: int, frame: np.ndarray) -> tuple[int, int]:
        data = pack(frame, self._kind)
        name = f"frame-{number:05d}.{'png' if self._kind == 'png' else 'jpg'}"
        write_synced(self._clip / name, data)
        return zlib.crc32(data), zlib.crc32(frame.data)

    def _close(self) -> Expected:
        import numpy as np

        while self._open:
            self._take()
        sync_folder(self._clip)
        assert self._first is not None
        height, width = self._first.shape[:2]
        return Expected(
            self.frames,
            width,
            height,
            None,
            self._checksums,
            np.stack(self._signatures),
            self._pixels if self._kind == "png" else None,
        )


def pack(frame: np.ndarray, kind: str) -> bytes:
    """Return a frame, uint8 (height, width, 3) RGB, as a PNG or a JPEG."""
    from core.outputs import still

    try:
        import cv2
    except ImportError:
        return still.png(frame) if kind == "png" else still.jpeg(frame)
    # Its own choice of effort for PNG is the quick one; naming one makes it slower.
    options: list[Any] = [] if kind == "png" else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    done, data = cv2.imencode(f".{kind}", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f"OpenCV makes no {kind} of {frame.shape}")
    return bytes(data)

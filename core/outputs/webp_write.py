"""Making an animated WebP: each frame a whole picture, written as it comes."""

from __future__ import annotations

import zlib
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

from core.formats import ending
from core.jobs import Job
from core.outputs import webp
from core.outputs.container import MOVING_WEBP
from core.outputs.look import Expected
from core.outputs.marks import luma
from core.outputs.publish import PartFile, sync_file
from core.outputs.writer import Told, Wish, Writer

if TYPE_CHECKING:
    import numpy as np

_OPTIONS = {"quality": "90", "compression_level": "2"}
_BT601 = 5


class WebpWriter(Writer):
    """Writes an animated WebP.

    FFmpeg's own writer leaves out frames that are like the one before and
    keeps parts of others, so that none of them can be compared alone.
    """

    container: ClassVar[str] = MOVING_WEBP.format

    def __init__(self, job: Job, on_verify: Told | None = None, wish: Wish | None = None) -> None:
        super().__init__(job, on_verify, wish, suffix=ending("webp"))
        self._file: PartFile | None = None
        self._written: PartFile | None = None
        self._checksums: list[int] = []

    def _release(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _put(self, frame: np.ndarray) -> np.ndarray:
        import av

        height, width = frame.shape[:2]
        if self._file is None:
            self._file = self._written = PartFile(self._clip)
            self._file.write(webp.head(width, height))
        # What the format's own tools take for colours.
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=_BT601, dst_color_range=1
        )
        coder: Any = av.CodecContext.create("libwebp", "w")
        coder.width, coder.height, coder.pix_fmt = width, height, "yuv420p"
        coder.time_base, coder.options = Fraction(1, 1000), dict(_OPTIONS)
        data = b"".join(bytes(packet) for packet in [*coder.encode(picture), *coder.encode(None)])
        number = self.frames
        shown_ms = self._at_ms(number + 1) - self._at_ms(number)
        chunk = webp.frame_chunk(data, width, height, shown_ms)
        self._checksums.append(zlib.crc32(chunk))
        self._file.write(chunk)
        return luma(picture)

    def _at_ms(self, number: int) -> int:
        return round(number * 1000 / self._fps)

    def _close(self) -> Expected:
        import numpy as np

        assert self._file is not None
        assert self._first is not None
        end = self._file.tell()
        self._file.seek(4)
        self._file.write((end - 8).to_bytes(4, "little"))
        self._file.close()
        sync_file(self._clip)
        height, width = self._first.shape[:2]
        return Expected(
            self.frames, width, height, None, self._checksums, np.stack(self._signatures)
        )

    def _check_words(self) -> list[str]:
        assert self._written is not None
        return [] if self._written.is_kept() else ["Its bytes are not those that were written."]

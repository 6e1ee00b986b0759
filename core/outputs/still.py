"""Making a picture: one frame in, a verified PNG with its recipe and poster out."""

from __future__ import annotations

import zlib
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

from core.formats import SUFFIXES
from core.jobs import Job
from core.outputs.look import Expected
from core.outputs.marks import luma
from core.outputs.publish import write_synced
from core.outputs.writer import Told, Wish, Writer, bad, seen

if TYPE_CHECKING:
    import numpy as np

BLACK = 2
"""Up to which a pixel counts as black."""


def jpeg(frame: np.ndarray) -> bytes:
    """Return a poster of a frame, uint8 (height, width, 3) RGB."""
    import av

    picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuvj420p")
    coder: Any = av.CodecContext.create("mjpeg", "w")
    coder.width, coder.height, coder.pix_fmt = picture.width, picture.height, "yuvj420p"
    coder.time_base = Fraction(1, 25)
    coder.options = {"qmin": "2", "qmax": "4"}
    return b"".join(bytes(packet) for packet in [*coder.encode(picture), *coder.encode(None)])


def png(frame: np.ndarray) -> bytes:
    """Return a frame as a PNG, without loss."""
    import av
    import numpy as np

    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    coder: Any = av.CodecContext.create("png", "w")
    coder.width, coder.height, coder.pix_fmt = picture.width, picture.height, "rgb24"
    coder.time_base = Fraction(1, 25)
    return b"".join(bytes(packet) for packet in [*coder.encode(picture), *coder.encode(None)])


class PictureWriter(Writer):
    """Writes one picture, a PNG.

    Args:
        job: What is made; its output path is used, with the ending of a picture.
        on_verify: Told (pictures done, pictures in all) while it is verified.
        wish: More; see `core.outputs.writer`.
    """

    noun = "picture"
    container: ClassVar[str] = "png_pipe"

    def __init__(self, job: Job, on_verify: Told | None = None, wish: Wish | None = None) -> None:
        super().__init__(job, on_verify, wish, suffix=SUFFIXES["image"])
        self._fps = Fraction(1)

    def _put(self, frame: np.ndarray) -> np.ndarray:
        if self.frames:
            raise bad("The model made more than one picture.")
        return luma(seen(frame))

    def _refuse_empty(self) -> None:
        if self._first is None:
            raise bad("No picture was made.")
        if int(self._first.max()) <= BLACK:
            raise bad(
                "The picture is black.",
                "Try another seed or prompt; if it stays black, the model's numbers overflow.",
            )

    def _close(self) -> Expected:
        assert self._first is not None
        write_synced(self._clip, png(self._first))
        height, width = self._first.shape[:2]
        return Expected(1, width, height, pixels=[zlib.crc32(self._first.data)])

"""Small pictures: a poster of a file, and previews as pixels for the ring."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.outputs import webp
from core.outputs.container import MOVING_WEBP, FileKind, open_to_read, picture_size
from core.outputs.look import MOST_PIXELS

if TYPE_CHECKING:
    import numpy as np

_LOOK_AT = 24
_MOST_SIDE = 1024
_MOST_PREVIEW_PIXELS = 4096 * 4096


def poster(path: Path, kind: FileKind) -> bytes:
    """Return a JPEG of the frame with the most to see among the first ones."""
    import av

    best: tuple[float, Any] | None = None
    with contextlib.suppress(av.FFmpegError, ValueError):
        for index, frame in enumerate(_frames(path, kind)):
            detail = float(frame.to_ndarray(format="gray")[::3, ::3].std())
            if best is None or detail > 1.1 * best[0]:
                best = (detail, frame)
            if index >= _LOOK_AT:
                break
    frame = best[1] if best is not None else av.VideoFrame(64, 64, "rgb24")
    width, height = fitted(frame.width, frame.height, 2 * _MOST_SIDE)
    picture = frame.reformat(width=width, height=height, format="yuvj420p")
    coder: Any = av.CodecContext.create("mjpeg", "w")
    coder.width, coder.height, coder.pix_fmt = picture.width, picture.height, "yuvj420p"
    coder.time_base = Fraction(1, 25)
    coder.options = {"qmin": "2", "qmax": "4"}
    picture.pts = 0
    return b"".join(bytes(packet) for packet in [*coder.encode(picture), *coder.encode(None)])


def _frames(path: Path, kind: FileKind) -> Iterator[Any]:
    if kind == MOVING_WEBP:
        for one in webp.read(path).frames:
            yield webp.decoded(one, MOST_PIXELS)
        return
    with open_to_read(path, format=kind.format) as container:
        yield from container.decode(video=0)


def fitted(width: int, height: int, side: int) -> tuple[int, int]:
    """Return the size at which neither side is longer than `side`."""
    scale = min(1.0, side / max(width, height, 1))
    return max(1, round(width * scale)), max(1, round(height * scale))


def pixels(picture: bytes, kind: str) -> np.ndarray | None:
    """Return a preview's pixels; None when it is broken or claims to be huge.

    Args:
        picture: JPEG or PNG bytes.
        kind: "jpeg" or "png".

    Returns:
        (height, width, 4) uint8: blue, green, red, 255; sides up to 1024.
    """
    import av

    size = picture_size(picture)
    if size is None or not 0 < size[0] * size[1] <= _MOST_PREVIEW_PIXELS:
        return None
    try:
        coder: Any = av.CodecContext.create("mjpeg" if kind == "jpeg" else "png", "r")
        coder.thread_count = 1
        frames = [*coder.decode(av.Packet(picture)), *coder.decode(None)]
        if not frames:
            return None
        width, height = fitted(frames[0].width, frames[0].height, _MOST_SIDE)
        shown = frames[0].reformat(width=width, height=height, format="bgra")
        found: np.ndarray = shown.to_ndarray()
    except (av.FFmpegError, ValueError):
        return None
    found[..., 3] = 255
    return found

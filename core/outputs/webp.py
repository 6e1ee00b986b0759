"""Animated WebP files, which FFmpeg does not decode: their frames are, one by one."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.outputs.container import picture_size

_HEAD_BYTES = 12
_FRAME_HEAD_BYTES = 16
_PICTURES = (b"VP8 ", b"VP8L")
_HAS_ALPHA = 0x10
_MOVES = 0x02
_REPLACES = 0x02
"""Nothing of the frame before shines through."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, as it stands in the file.

    Attributes:
        data: A WebP file of this frame alone; b"" when it holds no picture.
        width: Width that the animation says it has.
        height: Height, likewise.
        shown_ms: How long it is shown.
        checksum: CRC-32 of its chunk.
    """

    data: bytes
    width: int
    height: int
    shown_ms: int
    checksum: int = 0


@dataclass(frozen=True, slots=True)
class Animation:
    """What an animated WebP holds.

    Attributes:
        whole: Whether the file reaches its own end.
    """

    width: int
    height: int
    frames: tuple[Frame, ...]
    whole: bool

    @property
    def fps(self) -> float:
        """Frames per second on average, 1.0 when no time is given."""
        shown_ms = sum(frame.shown_ms for frame in self.frames)
        return 1000 * len(self.frames) / shown_ms if shown_ms else 1.0


def read(path: str | os.PathLike[str]) -> Animation:
    """Take an animated WebP apart; damage makes it shorter. Raises OSError."""
    data = Path(path).read_bytes()
    width, height = picture_size(data[:64]) or (0, 0)
    end = int.from_bytes(data[4:8], "little") + 8
    frames = tuple(
        replace(_frame(body), checksum=zlib.crc32(_chunk(name, body)))
        for name, body in _chunks(data[_HEAD_BYTES:])
        if name == b"ANMF"
    )
    return Animation(width, height, frames, whole=end <= len(data))


def decoded(frame: Frame, most_pixels: int) -> Any:
    """Return a frame's picture as PyAV has it.

    Raises:
        ValueError: It holds none, one of another size, or a larger one than is decoded.
        av.FFmpegError: It is damaged.
    """
    import av

    size = picture_size(frame.data)
    if size is None:
        raise ValueError("a frame holds no picture")
    if size != (frame.width, frame.height) or size[0] * size[1] > most_pixels:
        raise ValueError(f"a frame claims to be {size[0]}×{size[1]}")
    coder: Any = av.CodecContext.create("webp", "r")
    coder.thread_count = 1
    coder.options = {"err_detect": "explode"}
    found = [*coder.decode(av.Packet(frame.data)), *coder.decode(None)]
    if len(found) != 1:
        raise ValueError("a frame holds no picture")
    return found[0]


def head(width: int, height: int) -> bytes:
    """Return how an animation of this size begins; its length, at byte 4, is not known yet."""
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    canvas = _chunk(b"VP8X", bytes([_MOVES, 0, 0, 0]) + sizes)
    # On black, for ever.
    return b"RIFF\0\0\0\0WEBP" + canvas + _chunk(b"ANIM", b"\0\0\0\xff\0\0")


def frame_chunk(picture: bytes, width: int, height: int, shown_ms: int) -> bytes:
    """Return a frame of an animation.

    Args:
        picture: A WebP file of this frame alone.
        width: Pixels.
        height: Pixels.
        shown_ms: How long it is shown.

    Raises:
        ValueError: There is no picture in it.
    """
    whole = b"".join(
        _chunk(name, data) for name, data in _chunks(picture[_HEAD_BYTES:]) if name in _PICTURES
    )
    if not whole:
        raise ValueError("a frame holds no picture")
    numbers = (0, 0, width - 1, height - 1, shown_ms)
    told = b"".join(number.to_bytes(3, "little") for number in numbers)
    return _chunk(b"ANMF", told + bytes([_REPLACES]) + whole)


def _frame(body: bytes) -> Frame:
    head = [int.from_bytes(body[at : at + 3], "little") for at in range(0, 15, 3)]
    width, height, shown_ms = head[2] + 1, head[3] + 1, head[4]
    alpha, picture = b"", b""
    for name, data in _chunks(body[_FRAME_HEAD_BYTES:]):
        if name == b"ALPH":
            alpha = _chunk(name, data)
        elif name in _PICTURES:
            picture = _chunk(name, data)
            break
    if not picture:
        return Frame(b"", width, height, shown_ms)
    if alpha:
        sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        alpha = _chunk(b"VP8X", bytes([_HAS_ALPHA, 0, 0, 0]) + sizes) + alpha
    inside = b"WEBP" + alpha + picture
    return Frame(_chunk(b"RIFF", inside), width, height, shown_ms)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (name, content) of each chunk; one that is cut short comes cut short."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + len(data).to_bytes(4, "little") + data + b"\0" * (len(data) % 2)

"""Pixels as the ring wants them: 32-bit, B, G, R, 255."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_LARGE = 1 << 17
"""Pixels from which on it pays to load OpenCV, which takes a tenth of a second once."""


def thinned(frames: np.ndarray, slot_bytes: int, at_once: int) -> np.ndarray:
    """Return frames (n, height, width, c) of which `at_once` fit a slot of the ring.

    Sides too large for it are thinned out evenly.
    """
    height, width = frames.shape[1:3]
    stride = 1
    while at_once * -(-height // stride) * -(-width // stride) * 4 > slot_bytes:
        stride += 1
    return frames[:, ::stride, ::stride]


def write_bgrx(source: np.ndarray, target: memoryview) -> None:
    """Write pictures into `target` as rows of B, G, R, 255.

    Args:
        source: uint8, (..., 3) as R, G, B or (..., 4) as B, G, R, any.
        target: Writable bytes, exactly four for each pixel.
    """
    import numpy as np

    words = np.frombuffer(target, "<u4")
    if source.shape[-1] == 4:
        pixels = words.view(np.uint8).reshape(source.shape)
        pixels[...] = source
        pixels[..., 3] = 255
        return
    source = np.ascontiguousarray(source)
    if words.size >= _LARGE and _write_by_cv2(source, target):
        return
    flat = source.reshape(-1)
    # Each pixel together with the byte before it is one big-endian word ?RGB,
    # which in memory order is what we want: BGR?. Several times as fast as
    # copying colour by colour. The first pixel has no byte before it.
    before = np.ndarray((flat.size // 3 - 1,), ">u4", flat, offset=2, strides=(3,))
    np.bitwise_or(before, np.uint32(0xFF000000), out=words[1:])
    words[0] = 0xFF000000 | int(flat[0]) << 16 | int(flat[1]) << 8 | int(flat[2])


def _write_by_cv2(source: np.ndarray, target: memoryview) -> bool:
    """Do the same four times as fast, where OpenCV is installed; tell whether it was."""
    first = "cv2" not in sys.modules
    try:
        import cv2
    except ImportError:
        return False
    if first:
        # Its threads spin while they wait, at the expense of the model's.
        cv2.setNumThreads(1)
    import numpy as np

    rows = source.reshape(-1, *source.shape[-2:])
    pixels = np.frombuffer(target, np.uint8).reshape(*rows.shape[:2], 4)
    cv2.cvtColor(rows, cv2.COLOR_RGB2BGRA, dst=pixels)
    return True

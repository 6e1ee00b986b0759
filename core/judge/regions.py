"""Finding what stands out: background, connected regions, soft coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

EDGE = 3
"""Columns at either side that show the background of each row."""

SMALLEST = 18
"""Regions of fewer pixels are specks, such as stars in the sky."""


def background_of(frames: Floats) -> Floats:
    """Return the colour behind each row, shape (h, 3), of frames (f, h, w, 3)."""
    sides = np.concatenate([frames[:, :, :EDGE], frames[:, :, -EDGE:]], axis=2)
    by_row = sides.transpose(1, 0, 2, 3).reshape(frames.shape[1], -1, 3)
    found: Floats = np.median(by_row, axis=1).astype(np.float32)
    return found


def label(mask: Bools) -> npt.NDArray[np.int32]:
    """Number the connected regions of masks (f, h, w); 0 is outside of all.

    Each pixel takes the highest number around it until none changes. Runs of
    a row are made alike at once, so that few rounds are needed.
    """
    count = int(np.prod(mask.shape))
    numbers = np.where(mask, np.arange(1, count + 1, dtype=np.int32).reshape(mask.shape), 0)
    while True:
        before = numbers
        for axis in (1, 2):
            for way in (1, -1):
                numbers = _sweep(numbers, mask, axis, way)
        if np.array_equal(before, numbers):
            return numbers.astype(np.int32)


def _sweep(
    numbers: npt.NDArray[np.int32], mask: Bools, axis: int, way: int
) -> npt.NDArray[np.int32]:
    """Carry the highest number along one axis as far as the region goes."""
    moved = np.moveaxis(numbers, axis, 0)[::way].copy()
    inside = np.moveaxis(mask, axis, 0)[::way]
    for place in range(1, len(moved)):
        np.maximum(moved[place], moved[place - 1], out=moved[place], where=inside[place])
    return np.moveaxis(moved[::way], 0, axis)


@dataclass(frozen=True, slots=True)
class Region:
    """One connected thing in one frame.

    Attributes:
        frame: Index of the frame.
        mask: Where it is, shape (h, w).
        colour: Its colour, 0 to 255.
        area: Number of its pixels.
    """

    frame: int
    mask: Bools
    colour: Floats
    area: int


def regions(frames: Floats, behind: Floats, threshold: float) -> list[list[Region]]:
    """Return for each frame what stands out by more than `threshold`, largest first."""
    away = np.linalg.norm(frames - behind[None, :, None], axis=3)
    numbers = label(away > threshold)
    found: list[list[Region]] = []
    for index, (frame, far, plane) in enumerate(zip(frames, away, numbers, strict=True)):
        here: list[Region] = []
        for number, area in zip(*np.unique(plane[plane > 0], return_counts=True), strict=True):
            if area >= SMALLEST:
                mask = plane == number
                here.append(Region(index, mask, _colour(frame, far, mask), int(area)))
        found.append(sorted(here, key=lambda region: -region.area))
    return found


def _colour(frame: Floats, far: Floats, mask: Bools) -> Floats:
    """Return the middle colour of a region without its soft edge."""
    inner = mask.copy()
    for axis in (0, 1):
        for way in (1, -1):
            inner &= np.roll(mask, way, axis)
    if inner.sum() < 6:
        inner = mask & (far >= np.quantile(far[mask], 0.5))
    middle: Floats = np.median(frame[inner], axis=0).astype(np.float32)
    return middle


def coverage(frame: Floats, behind: Floats, region: Region) -> Floats:
    """Return how far the region covers each pixel, 0 to 1, soft at its edge."""
    wide = region.mask.copy()
    for axis in (0, 1):
        wide |= np.roll(wide, 1, axis) | np.roll(wide, -1, axis)
    base = np.broadcast_to(behind[:, None], frame.shape)
    way = region.colour - base
    share = ((frame - base) * way).sum(2) / np.maximum((way * way).sum(2), 1.0)
    return np.where(wide, np.clip(share, 0, 1), 0).astype(np.float32)

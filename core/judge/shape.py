"""Shape and turn of an object, from how far it reaches in each direction."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from core.judge.regions import Floats

Doubles = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]

FOLDS = {"triangle": 3, "square": 4, "star": 5}
HOLLOW = 0.5
"""A ring's middle is covered less than this."""

ROUND = {"triangle": 0.31, "square": 0.15, "star": 0.33}
"""Least strength of each outline; below it the object is nearer to round.

About half of what a freshly painted one shows: 0.62 to 0.66, 0.28 to 0.36 and 0.65 to 0.68.
"""

_TURNS = np.linspace(-1.15 * np.pi, 1.15 * np.pi, 47)
"""How far an object may turn over a clip, radians."""


@lru_cache(maxsize=4)
def _centres(height: int, width: int) -> tuple[Doubles, Doubles]:
    """Return x and y of the middle of each pixel, (height, width) each; not to be changed."""
    ys, xs = np.mgrid[:height, :width] + 0.5
    return xs, ys


def moments(cover: Floats) -> tuple[float, float, float]:
    """Return the centre (x, y) in pixels and the area of a soft coverage (h, w)."""
    area = float(cover.sum())
    if area <= 0:
        return 0.0, 0.0, 0.0
    xs, ys = _centres(*cover.shape)
    return float((cover * xs).sum() / area), float((cover * ys).sum() / area), area


def outline(cover: Floats) -> tuple[dict[str, complex], float]:
    """Return the strength and turn of each outline, and how full the middle is.

    The coverage is summed with weights that turn 3, 4 or 5 times around its
    centre: corners that come as often add up, others cancel out.
    """
    x, y, area = moments(cover)
    if area <= 0:
        return dict.fromkeys(FOLDS, 0j), 0.0
    xs, ys = _centres(*cover.shape)
    dx, dy = xs - x, ys - y
    far, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    radius = float(np.sqrt(area / np.pi))
    # Farther parts say more about corners.
    weight = cover * (far / radius) ** 3
    total = max(float(weight.sum()), 1e-6)
    # Most of a picture is not covered at all: the costly turns are left out there.
    seen = cover > 0
    weights, angles = weight[seen], angle[seen]
    found, turning = {}, np.zeros(cover.shape, np.complex128)
    for name, k in FOLDS.items():
        turning[seen] = weights * np.exp(1j * k * angles)
        found[name] = complex(turning.sum() / total)
    near = far < 0.38 * radius
    near[int(np.clip(y, 0, cover.shape[0] - 1)), int(np.clip(x, 0, cover.shape[1] - 1))] = True
    return found, float(cover[near].mean())


def name(outlines: list[dict[str, complex]], middles: list[float], times: list[float]) -> str:
    """Return the shape of an object seen in several frames.

    Args:
        outlines: What `outline` found in each.
        middles: How full its middle is in each.
        times: When in the clip each is, 0 to 1.
    """
    if float(np.median(middles)) < HOLLOW:
        return "ring"
    strength = {
        key: _together(np.array([o[key] for o in outlines]), np.array(times), folds)
        for key, folds in FOLDS.items()
    }
    best = max(strength, key=lambda key: strength[key] / ROUND[key])
    return best if strength[best] >= ROUND[best] else "ball"


def _together(found: Complexes, times: Floats, folds: int) -> float:
    """Return the strength of an outline in all frames, which may turn evenly.

    Dents that differ from frame to frame cancel out.
    """
    back = np.exp(-1j * folds * _TURNS[:, None] * times[None])
    return float(np.abs((found[None] * back).mean(1)).max())


def turned(outlines: list[dict[str, complex]], shape: str) -> float:
    """Return how far an object turned over all frames, radians; 0 for round ones."""
    if shape not in FOLDS:
        return 0.0
    angles = np.unwrap([float(np.angle(o[shape])) for o in outlines])
    return float(angles[-1] - angles[0]) / FOLDS[shape]

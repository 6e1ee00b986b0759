"""Telling noise from pictures: what never was denoised has no neighbours that agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LAG = 12
"""Pixels: more than one latent cell of 8, within which a decoder smooths even noise."""
LEAST_DEVIATION = 8.0
"""Of Y; a picture that is nearly flat is no noise."""
ALIKE = 0.12
"""Correlation of what is `LAG` apart, up to which a frame is noise."""
ALIKE_IN_TIME = 0.25
"""Correlation of a frame with the one before, up to which they have nothing in common."""
LOOKED_AT = 256
"""Pixels of each side that are looked at, from the middle."""


class NoiseWatch:
    """Looks at frames until one of them is a picture."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._frames = 0
        self._picture = False

    @property
    def only_noise(self) -> bool:
        """Whether all frames were noise, each another."""
        return self._frames > 0 and not self._picture

    def see(self, plane: np.ndarray) -> None:
        """Look at the Y plane of the next frame, (height, width) uint8."""
        if self._picture:
            return
        import numpy as np

        self._frames += 1
        height, width = plane.shape
        if min(height, width) <= 2 * LAG:
            self._picture = True  # Too small to tell.
            return
        top, left = max(0, (height - LOOKED_AT) // 2), max(0, (width - LOOKED_AT) // 2)
        part = plane[top : top + LOOKED_AT, left : left + LOOKED_AT].astype(np.float32)
        part -= part.mean()
        if float(part.std()) < LEAST_DEVIATION:
            self._picture = True
            return
        across = _alike(part[:, LAG:], part[:, :-LAG])
        down = _alike(part[LAG:], part[:-LAG])
        before = self._before
        moved = 0.0 if before is None or before.shape != part.shape else _alike(part, before)
        self._picture = max(across, down) > ALIKE or moved > ALIKE_IN_TIME
        self._before = None if self._picture else part


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """Return the share of what two pieces have in common, 0 to 1."""
    import numpy as np

    scale = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return abs(float((one * other).sum())) / scale if scale else 1.0

"""More pixels: by Lanczos, or by a model of a person's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from core.errors import Category, Problem, ProblemError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Frame = npt.NDArray[np.uint8]

LANCZOS = "Lanczos"
MOST_SIDE = 16_384
_TILE, _MARGIN = 256, 16
"""Pixels that a model sees at once, and what it sees around them."""

Heard = Callable[[], object]
"""Called between two pieces of work; what it raises ends the work."""


class Upscaler(Protocol):
    """Makes frames larger."""

    method: str

    def __call__(self, frame: Frame, heard: Heard) -> Frame:
        """Return a frame with so many times as many pixels a side."""
        ...


class Lanczos:
    """Upscales without a model: sharp, and nothing is made up.

    Args:
        factor: Pixels of a side for each one.
    """

    method = LANCZOS

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, frame: Frame, heard: Heard) -> Frame:
        """Return the frame so many times as large."""
        import cv2
        import numpy as np

        heard()
        height, width = frame.shape[:2]
        size = (width * self.factor, height * self.factor)
        made = cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_LANCZOS4)
        return np.asarray(made, np.uint8)


class Model:
    """Upscales by a network, tile by tile.

    Args:
        factor: Pixels of a side for each one that are wanted; a model of another
            factor is scaled down, or run once and scaled up.
        file: The model, safetensors of the Real-ESRGAN kind.
        device: Where it computes.

    Raises:
        ProblemError: It is no such model.
    """

    def __init__(self, factor: int, file: Path, device: str = "cpu") -> None:
        from core.post import rrdb

        self.factor, self.device = factor, device
        self.method = file.name
        self._net, self._scale = rrdb.load(file, device)

    def __call__(self, frame: Frame, heard: Heard) -> Frame:
        """Return the frame so many times as large."""
        import cv2
        import numpy as np
        import torch

        height, width = frame.shape[:2]
        made = np.empty((height * self._scale, width * self._scale, 3), np.uint8)
        with torch.inference_mode():
            for top in range(0, height, _TILE):
                for left in range(0, width, _TILE):
                    heard()
                    self._tile(frame, made, top, left)
        if self._scale == self.factor:
            return made
        size = (width * self.factor, height * self.factor)
        way = cv2.INTER_AREA if self._scale > self.factor else cv2.INTER_LANCZOS4
        return np.asarray(cv2.resize(made, size, interpolation=way), np.uint8)

    def _tile(self, frame: Frame, made: Frame, top: int, left: int) -> None:
        import numpy as np
        import torch

        height, width = frame.shape[:2]
        bottom, right = min(height, top + _TILE), min(width, left + _TILE)
        above, before = max(0, top - _MARGIN), max(0, left - _MARGIN)
        seen = frame[above : min(height, bottom + _MARGIN), before : min(width, right + _MARGIN)]
        given = torch.from_numpy(np.ascontiguousarray(seen)).to(self.device)
        given = given.permute(2, 0, 1)[None].to(self._net.dtype) / 255
        pixels: Any = self._net(given)[0].float()
        if not bool(torch.isfinite(pixels).all()):
            raise ProblemError(
                Problem(
                    Category.BAD_OUTPUT,
                    f"The upscaler {self.method} made numbers that are no colours (NaN).",
                    "Use another upscale model, or none.",
                )
            )
        colours = pixels.permute(1, 2, 0).mul(255).round().clamp(0, 255).to(torch.uint8)
        s = self._scale
        y, x = (top - above) * s, (left - before) * s
        part = colours[y : y + (bottom - top) * s, x : x + (right - left) * s]
        made[top * s : bottom * s, left * s : right * s] = part.cpu().numpy()


def upscaler(factor: int, file: str, device: Callable[[], str]) -> Upscaler:
    """Return what makes frames `factor` times as large.

    Args:
        factor: 2 or more.
        file: A model of a person's own; "" for Lanczos.
        device: Says where a model computes; asked only for a model.

    Raises:
        ProblemError: The model cannot be used.
    """
    return Model(factor, Path(file), device()) if file else Lanczos(factor)

"""Decoding where frames shape each other: autoencoders of video models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.engines.local.decoding import Bench, Way

_OVERLAP = 4
"""Tiles overlap by a quarter of their side."""
_TILING = (
    "use_tiling",
    "tile_sample_min_height",
    "tile_sample_min_width",
    "tile_sample_stride_height",
    "tile_sample_stride_width",
)


@dataclass(frozen=True, slots=True)
class ClipBench(Bench):
    """An autoencoder that takes a whole clip and holds fewer latent frames than frames.

    Attributes:
        heard: Called before each piece of the work; may raise Cancelled.
        ratio: Frames for each latent frame after the first.
        spatial: Pixels of a side for each latent pixel.
        mean: Mean of each latent channel.
        spread: Standard deviation of each latent channel.
        more: What its decode takes beside latents.
    """

    heard: Callable[[], None] | None = None
    ratio: int = 4
    spatial: int = 8
    mean: Any = None
    spread: Any = None
    more: Callable[[Any], tuple[Any, dict[str, Any]]] | None = None
    joined = True

    @property
    def scale(self) -> int:
        """Pixels of a side for each latent pixel."""
        return self.spatial

    def whole(self, count: int) -> int:
        """All latent frames are decoded together."""
        return count

    def total(self, count: int) -> int:
        """Return how many frames `count` latent frames become."""
        return (count - 1) * self.ratio + 1

    def tile(self, height: int, width: int) -> int:
        """Return the side of the first tiles for such latents; 0 where they are too small."""
        usual = int(self.vae.tile_sample_min_height) // self.spatial
        return self._tile(usual, max(height, width))

    def prepared(self, latents: Any) -> Any:
        """Return latents of shape (1, c, f, h, w) as the autoencoder takes them, (f, c, h, w)."""
        found = latents[0].transpose(0, 1).float()
        if self.mean is None:
            return found
        mean, spread = (one.view(1, -1, 1, 1).to(found) for one in (self.mean, self.spread))
        return found * spread + mean

    def pictures(self, vae: Any, latents: Any, way: Way) -> Any:
        """Return the pictures of prepared latents, floats of shape (n, 3, h, w) from -1 to 1."""
        before = {name: getattr(vae, name) for name in _TILING}
        side = way.tile * self.spatial
        stride = side - side // _OVERLAP
        values = (way.tile > 0, side, side, stride, stride) if way.tile else (False,)
        hook = vae.decoder.register_forward_pre_hook(self._listen) if self.heard else None
        clip = latents.transpose(0, 1)[None].to(vae.dtype)
        options: dict[str, Any] = {}
        if self.more is not None:
            clip, options = self.more(clip)
        try:
            for name, value in zip(_TILING, values, strict=False):
                setattr(vae, name, value)
            return vae.decode(clip, **options).sample[0].transpose(0, 1)
        finally:
            if hook is not None:
                hook.remove()
            for name, value in before.items():
                setattr(vae, name, value)
            # Left by an error or a cancel, it would hold what it carries from frame to frame.
            if hasattr(vae, "clear_cache"):
                vae.clear_cache()

    def _listen(self, _module: Any, _given: Any) -> None:
        if self.heard is not None:
            self.heard()

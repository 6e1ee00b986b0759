"""Live pictures: latents to colours by one small matrix per model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FILE = "preview.json"
"""Name of the fitted factors inside a model folder."""

SAMPLES = 24
"""Random pictures that a fit looks at."""

Rows = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Projection:
    """Colours of latents: `rgb = latent @ factors + bias`, in -1 to 1.

    Attributes:
        factors: One row (red, green, blue) per latent channel.
        bias: Colour of a latent of zeros.
    """

    factors: Rows
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def pixels(self, latents: Any) -> npt.NDArray[np.uint8]:
        """Return the pictures of `latents`.

        The work is done where the latents are and only the finished bytes
        are fetched, once, so that a GPU is waited for only once.

        Args:
            latents: Tensor of shape (1, c, f, h, w) or (f, c, h, w), scaled
                as the sampler sees them; any float type, any device.

        Returns:
            Bytes of shape (f, h, w, 4): blue, green, red, 255.
        """
        import torch

        matrix, offset = self._half_tones()
        where = {"dtype": torch.float32, "device": latents.device}
        with torch.no_grad():
            by_channel = latents[0] if latents.ndim == 5 else latents.transpose(0, 1)
            channels, frames, height, width = by_channel.shape
            flat = torch.nan_to_num(by_channel.reshape(channels, -1).float(), 0.0, 1e6, -1e6)
            # Channel by channel is how latents lie, so the sum runs that way.
            colours = torch.addmm(
                torch.tensor(offset, **where), torch.tensor(matrix, **where), flat
            )
            small = colours.clamp_(0, 255).to(torch.uint8).view(4, frames, height, width)
            found: npt.NDArray[np.uint8] = small.permute(1, 2, 3, 0).contiguous().cpu().numpy()
        return found

    def _half_tones(self) -> tuple[list[list[float]], list[list[float]]]:
        """Return the matrix to 0 to 255, rows blue, green, red, opaque, and its offset."""
        matrix = [[row[colour] * 127.5 for row in self.factors] for colour in (2, 1, 0)]
        offset = [[self.bias[colour] * 127.5 + 128] for colour in (2, 1, 0)]
        return [*matrix, [0.0] * len(self.factors)], [*offset, [255.0]]

    def save(self, folder: Path) -> None:
        """Keep the factors in the model folder `folder`."""
        data = {"factors": [list(row) for row in self.factors], "bias": list(self.bias)}
        (folder / FILE).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


STABLE_DIFFUSION = Projection(
    (
        (0.3512, 0.2297, 0.3227),
        (0.3250, 0.4974, 0.2350),
        (-0.2829, 0.1762, 0.2721),
        (-0.2120, -0.2616, -0.7177),
    )
)
"""Published factors of Stable Diffusion 1's autoencoder."""


def read(folder: Path) -> Projection | None:
    """Return the factors kept in `folder`; None if there are none that fit."""
    try:
        data = json.loads((folder / FILE).read_text(encoding="utf-8"))
        factors = tuple((float(r), float(g), float(b)) for r, g, b in data["factors"])
        red, green, blue = (float(value) for value in data["bias"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return Projection(factors, (red, green, blue)) if factors else None


def for_model(folder: Path, vae: Any) -> Projection:
    """Return the factors of a loaded model, fitting them when none are known."""
    channels = int(vae.config.latent_channels)
    kept = read(folder)
    if kept is not None and len(kept.factors) == channels:
        return kept
    widths = tuple(vae.config.block_out_channels)
    if channels == 4 and widths == (128, 256, 512, 512):
        return STABLE_DIFFUSION
    return fit(vae)


def fit(vae: Any) -> Projection:
    """Return the factors that best foretell what `vae` decodes.

    Random latents, smooth and rough, are decoded; least squares then finds
    the matrix from each latent to the mean colour of the pixels it became.
    """
    import numpy as np
    import torch
    import torch.nn.functional as functional

    channels = int(vae.config.latent_channels)
    generator = torch.Generator("cpu").manual_seed(1)
    rough = torch.randn((SAMPLES, channels, 8, 8), generator=generator)
    smooth = torch.randn((SAMPLES, channels, 2, 2), generator=generator)
    smooth = functional.interpolate(smooth, size=(8, 8), mode="bilinear")
    latents = torch.cat([rough, smooth])
    where = {"device": vae.device, "dtype": vae.dtype}
    decoded = []
    with torch.no_grad():
        for one in latents.split(1):
            image = vae.decode((one / vae.config.scaling_factor).to(**where)).sample
            decoded.append(functional.adaptive_avg_pool2d(image.float().cpu(), (8, 8)))
    known = latents.permute(0, 2, 3, 1).reshape(-1, channels).double().numpy()
    seen = torch.cat(decoded).permute(0, 2, 3, 1).reshape(-1, 3).double().numpy()
    ones = np.ones((len(known), 1))
    answer, *_ = np.linalg.lstsq(np.hstack([known, ones]), seen, rcond=None)
    # Rounded, so that the last bit of a sum does not change the file.
    rows = [(round(float(r), 3), round(float(g), 3), round(float(b), 3)) for r, g, b in answer]
    return Projection(tuple(rows[:-1]), rows[-1])

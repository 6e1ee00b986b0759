"""Live pictures: latents to colours by one small matrix per model."""

from __future__ import annotations

import json
from collections.abc import Callable
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
        """Return the pictures of `latents`, waiting for a GPU once.

        Args:
            latents: Tensor of shape (1, c, f, h, w) or (f, c, h, w), scaled
                as the sampler sees them; any float type, any device.

        Returns:
            Bytes of shape (f, h, w, 4): blue, green, red, 255.
        """
        return self.begin(latents).pixels()

    def factors_on(self, device: Any) -> tuple[Any, Any]:
        """Return matrix and offset to colours from 0 to 255 as tensors."""
        import torch

        matrix, offset = self._half_tones()
        return tuple(torch.tensor(one, device=device) for one in (offset, matrix))

    def begin(self, latents: Any, factors: tuple[Any, Any] | None = None) -> Waiting:
        """Begin the pictures of `latents` where they are; nothing is waited for.

        Args:
            latents: As `pixels` takes them.
            factors: Of `factors_on`, made once for many.
        """
        import torch

        offset, matrix = factors or self.factors_on(latents.device)
        with torch.no_grad():
            by_channel = latents[0] if latents.ndim == 5 else latents.transpose(0, 1)
            channels, frames, height, width = by_channel.shape
            flat = torch.nan_to_num(by_channel.reshape(channels, -1).float(), 0.0, 1e6, -1e6)
            # Channel by channel is how latents lie, so the sum runs that way.
            colours = torch.addmm(offset, matrix, flat)
            small = colours.clamp_(0, 255).to(torch.uint8).view(4, frames, height, width)
            pictures = small.permute(1, 2, 3, 0).contiguous()
            if pictures.device.type != "cuda":
                return Waiting(pictures.cpu())
            here = torch.empty(pictures.shape, dtype=torch.uint8, pin_memory=True)
            here.copy_(pictures, non_blocking=True)
            fetched = torch.cuda.Event()
            fetched.record(torch.cuda.current_stream(pictures.device))
            return Waiting(here, fetched)

    def _half_tones(self) -> tuple[list[list[float]], list[list[float]]]:
        """Return the matrix to 0 to 255, rows blue, green, red, opaque, and its offset."""
        matrix = [[row[colour] * 127.5 for row in self.factors] for colour in (2, 1, 0)]
        offset = [[self.bias[colour] * 127.5 + 128] for colour in (2, 1, 0)]
        return [*matrix, [0.0] * len(self.factors)], [*offset, [255.0]]

    def save(self, folder: Path) -> None:
        """Keep the factors in the model folder `folder`."""
        data = {"factors": [list(row) for row in self.factors], "bias": list(self.bias)}
        (folder / FILE).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Waiting:
    """Pictures on their way from a GPU.

    Attributes:
        tensor: Where they arrive, uint8 of shape (f, h, w, 4).
        fetched: Event of the GPU after which they are there; None: they are.
    """

    tensor: Any
    fetched: Any = None

    @property
    def is_here(self) -> bool:
        """Say whether nothing needs to be waited for."""
        return self.fetched is None

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Return the pictures, once they are there."""
        if self.fetched is not None:
            self.fetched.synchronize()
        found: npt.NDArray[np.uint8] = self.tensor.numpy()
        return found


STABLE_DIFFUSION = Projection(
    (
        (0.3512, 0.2297, 0.3227),
        (0.3250, 0.4974, 0.2350),
        (-0.2829, 0.1762, 0.2721),
        (-0.2120, -0.2616, -0.7177),
    )
)
"""Published factors of Stable Diffusion 1's autoencoder."""


STABLE_DIFFUSION_XL = Projection(
    (
        (0.3651, 0.4232, 0.4341),
        (-0.2533, -0.0042, 0.1068),
        (0.1076, 0.1111, -0.0362),
        (-0.3165, -0.2492, -0.2188),
    ),
    (0.1084, -0.0175, -0.0011),
)
"""Published factors of Stable Diffusion XL's autoencoder."""
WAN = Projection(
    (
        (-0.1299, -0.1692, 0.2932),
        (0.0671, 0.0406, 0.0442),
        (0.3568, 0.2548, 0.1747),
        (0.0372, 0.2344, 0.1420),
        (0.0313, 0.0189, -0.0328),
        (0.0296, -0.0956, -0.0665),
        (-0.3477, -0.4059, -0.2925),
        (0.0166, 0.1902, 0.1975),
        (-0.0412, 0.0267, -0.1364),
        (-0.1293, 0.0740, 0.1636),
        (0.0680, 0.3019, 0.1128),
        (0.0032, 0.0581, 0.0639),
        (-0.1251, 0.0927, 0.1699),
        (0.0060, -0.0633, 0.0005),
        (0.3477, 0.2275, 0.2950),
        (0.1984, 0.0913, 0.1861),
    ),
    (-0.1835, -0.0868, -0.3360),
)
"""Published factors of WAN 2.1's autoencoder."""


def read(folder: Path) -> Projection | None:
    """Return the factors kept in `folder`; None if there are none that fit."""
    try:
        data = json.loads((folder / FILE).read_text(encoding="utf-8"))
        factors = tuple((float(r), float(g), float(b)) for r, g, b in data["factors"])
        red, green, blue = (float(value) for value in data["bias"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return Projection(factors, (red, green, blue)) if factors else None


def for_model(
    folder: Path, vae: Any, decode: Callable[[Any], Any] | None = None, channels: int = 0
) -> Projection:
    """Return the factors of a loaded model, fitting them when none are known.

    Args:
        folder: The model's.
        vae: Its autoencoder.
        decode: As `fit` takes it.
        channels: Of its latents; 0: as the autoencoder says.
    """
    channels = channels or int(vae.config.latent_channels)
    kept = read(folder)
    if kept is not None and len(kept.factors) == channels:
        return kept
    return published(vae) or fit(vae, decode, channels)


def stretched(pixels: npt.NDArray[np.uint8], frames: int) -> npt.NDArray[np.uint8]:
    """Return latent frames shown as long as the frames that they become.

    The first one becomes a single frame, each other one equally many.

    Args:
        pixels: Of shape (latent frames, h, w, 4).
        frames: Of the clip.
    """
    import numpy as np

    if len(pixels) < 2:
        return np.repeat(pixels, frames, axis=0)
    each = (frames - 1) // (len(pixels) - 1)
    return np.repeat(pixels, [1] + [each] * (len(pixels) - 1), axis=0)


def published(vae: Any) -> Projection | None:
    """Return the known factors of a well-known autoencoder, by its shape."""
    config = vae.config
    if type(vae).__name__ == "AutoencoderKLWan":
        return WAN if (config.z_dim, config.base_dim) == (16, 96) else None
    widths = tuple(getattr(config, "block_out_channels", ()))
    if widths != (128, 256, 512, 512) or config.latent_channels != 4:
        return None
    large = abs(float(config.scaling_factor) - 0.13025) < 1e-4
    return STABLE_DIFFUSION_XL if large else STABLE_DIFFUSION


def fit(vae: Any, decode: Callable[[Any], Any] | None = None, channels: int = 0) -> Projection:
    """Return the factors that best foretell what `vae` decodes.

    Random latents, smooth and rough, are decoded; least squares then finds
    the matrix from each latent to the mean colour of the pixels it became.

    Args:
        vae: The autoencoder.
        decode: Turns latents (1, c, h, w) into pictures (n, 3, h, w); None: as it does itself.
        channels: Of its latents; 0: as the autoencoder says.
    """
    import numpy as np
    import torch
    import torch.nn.functional as functional

    def plain(latents: Any) -> Any:
        return vae.decode((latents / vae.config.scaling_factor).to(**where)).sample

    decode = decode or plain
    channels = channels or int(vae.config.latent_channels)
    samples = max(SAMPLES, channels // 8)
    generator = torch.Generator("cpu").manual_seed(1)
    rough = torch.randn((samples, channels, 8, 8), generator=generator)
    smooth = torch.randn((samples, channels, 2, 2), generator=generator)
    smooth = functional.interpolate(smooth, size=(8, 8), mode="bilinear")
    latents = torch.cat([rough, smooth])
    where = {"device": vae.device, "dtype": vae.dtype}
    decoded = []
    with torch.no_grad():
        for one in latents.split(1):
            image = decode(one).float().mean(0, keepdim=True).cpu()
            decoded.append(functional.adaptive_avg_pool2d(image, (8, 8)))
    known = latents.permute(0, 2, 3, 1).reshape(-1, channels).double().numpy()
    seen = torch.cat(decoded).permute(0, 2, 3, 1).reshape(-1, 3).double().numpy()
    ones = np.ones((len(known), 1))
    answer, *_ = np.linalg.lstsq(np.hstack([known, ones]), seen, rcond=None)
    # Rounded, so that the last bit of a sum does not change the file.
    rows = [(round(float(r), 3), round(float(g), 3), round(float(b), 3)) for r, g, b in answer]
    return Projection(tuple(rows[:-1]), rows[-1])

"""What a job takes of a GPU before there is any history: a formula in four terms.

    peak = runtime + the largest of
        encode:  weights that lie there + nothing to speak of
        sample:  weights that lie there + tokens × width × batch × activation bytes
        decode:  weights that lie there + pixels × decode bytes (less when tiled)

Which weights lie there depends on the offload: "none" keeps all of them, "model"
only the part at work, "group" a few of its layers, "sequential" a layer at a time.
A token is `space` by `space` pixels of `time` frames. All constants are in
resources/forecast.json, each with its source.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from core import resources

OFFLOADS = ("none", "model", "group", "sequential")
GROUP_SHARE = 0.1
"""Of the denoiser, that lies on the card at once where it comes in groups."""
TILE_PIXELS = 256 * 256
BILLION = 1e9
SPREAD = 0.25
"""How far the formula is trusted, as a share, both ways."""


@dataclass(frozen=True, slots=True)
class Family:
    """A model family's figures, as in resources/forecast.json.

    Attributes:
        denoiser: Parameters of what samples, in thousand millions; so are the others.
        width: Hidden size of the denoiser.
        space: Pixels along each side of a token.
        time: Frames of a token.
        batch: How many are sampled at once: 2 with guidance in one go.
    """

    name: str
    matches: tuple[str, ...]
    denoiser: float
    width: int
    space: int
    time: int
    batch: int
    encoders: Mapping[str, float]
    vae: float
    dtype: str
    decode_bytes_per_pixel_frame: float
    decode_bytes_per_pixel: float

    def tokens(self, width: int, height: int, frames: int) -> float:
        """Return how many tokens a clip has."""
        latent = (frames - 1) // self.time + 1 if self.time > 1 else frames
        return latent * (width / self.space) * (height / self.space)


@dataclass(frozen=True, slots=True)
class Formula:
    """The constants that all families share, and the families."""

    bytes_per_parameter: Mapping[str, float]
    runtime_bytes: float
    activation_bytes: float
    families: Mapping[str, Family]

    def family(self, *names: str) -> Family | None:
        """Return the family that one of `names` means: its own, or a model's, by its ending."""
        plain = [name.replace("\\", "/").rstrip("/").split("/")[-1].lower() for name in names]
        for family in self.families.values():
            if any(name == match for name in plain for match in family.matches):
                return family
        found = [
            (len(match), family)
            for family in self.families.values()
            for match in family.matches
            if any(name.startswith(match) for name in plain)
        ]
        return max(found, key=lambda item: item[0])[1] if found else None

    def weights_bytes(self, family: Family, dtype: str = "", encoder_dtype: str = "") -> float:
        """Return the bytes of all weights."""
        denoiser, encoders, vae = self._parts(family, dtype, encoder_dtype)
        return denoiser + sum(encoders) + vae

    def _parts(
        self, family: Family, dtype: str, encoder_dtype: str
    ) -> tuple[float, tuple[float, ...], float]:
        each = self.bytes_per_parameter
        own = each[family.dtype]
        # Quantising means the denoiser; the rest stays as it was published.
        others = each[encoder_dtype] if encoder_dtype else own
        return (
            family.denoiser * BILLION * each[dtype or family.dtype],
            tuple(count * BILLION * others for count in family.encoders.values()),
            family.vae * BILLION * own,
        )

    def peak_bytes(
        self,
        family: Family,
        *,
        width: int,
        height: int,
        frames: int,
        dtype: str = "",
        encoder_dtype: str = "",
        offload: str = "none",
        tiling: bool = False,
    ) -> float:
        """Return the most memory that a job is expected to take.

        Args:
            family: From `family`.
            width: Pixels.
            height: Pixels.
            frames: Frames of the clip.
            dtype: Type of the denoiser's weights; "" for how the family is published.
            encoder_dtype: Type of the encoders' weights; "" the same.
            offload: One of OFFLOADS.
            tiling: Whether frames are decoded in tiles.

        Raises:
            ValueError: `dtype` or `offload` is not known.
        """
        for name in (dtype, encoder_dtype):
            if name and name not in self.bytes_per_parameter:
                raise ValueError(f"dtype {name!r}; use {', '.join(self.bytes_per_parameter)}")
        if offload not in OFFLOADS:
            raise ValueError(f"offload {offload!r}; use {', '.join(OFFLOADS)}")
        denoiser, encoders, vae = self._parts(family, dtype, encoder_dtype)
        active = family.batch * self.activation_bytes * family.width
        sample = family.tokens(width, height, frames) * active
        shown = min(width * height, TILE_PIXELS) if tiling else width * height
        decode = shown * (
            family.decode_bytes_per_pixel + frames * family.decode_bytes_per_pixel_frame
        )
        if offload == "none":
            return self.runtime_bytes + denoiser + sum(encoders) + vae + max(sample, decode)
        if offload == "sequential":
            return self.runtime_bytes + max(sample, decode)
        if offload == "group":
            resting = vae + GROUP_SHARE * denoiser
            return self.runtime_bytes + max(resting + sample, vae + decode)
        stages = (*encoders, denoiser + sample, vae + decode)
        return self.runtime_bytes + max(stages)


def load() -> Formula:
    """Read the constants that ship with Framedeck."""
    data = json.loads(resources.path("forecast.json").read_text(encoding="utf-8"))
    return Formula(
        bytes_per_parameter=MappingProxyType(data["bytes_per_parameter"]),
        runtime_bytes=data["runtime_bytes"],
        activation_bytes=data["activation_bytes_per_token_and_width"],
        families=MappingProxyType({n: _family(n, item) for n, item in data["families"].items()}),
    )


def _family(name: str, item: Mapping[str, Any]) -> Family:
    values = {key: value for key, value in item.items() if key != "source"}
    return Family(name=name, **{**values, "matches": tuple(values["matches"])})

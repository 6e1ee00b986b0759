"""First stage: pictures to latents and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import parts
import runs
import scenes

STEPS, SHARPEN_STEPS = 3000, 1500
BATCH = 16
SEED = 1
CENTRED_BY = 512
"""Pictures by which latents are centred."""

FOCUS = 4.0
"""How much more a pixel of an object counts than one of the background."""

BLUR = 0.15
"""Greatest noise on latents while the decoder is sharpened."""

CROP = 32
"""Side of the part around an object that most steps look at; it costs a quarter."""

WHOLE = 0.15
"""Share of steps, the last ones, that see whole pictures only."""


def batch(step: int, size: int = BATCH, *, crop: bool = False) -> tuple[Any, Any]:
    """Return pictures of draw `step`, and what each of their pixels counts.

    Returns:
        Tensors (size, 3, side, side) from -1 to 1, and (size, 1, side, side)
        from 1 up.
    """
    import torch

    rng = np.random.default_rng((SEED, step))
    pictures, covers = [], []
    for _ in range(size):
        scene, only = scenes.draw(rng), [int(rng.integers(33))]
        picture, cover = scenes.render(scene, 33, only), scenes.covered(scene, 33, only)
        if crop:
            x, y = scenes.paths(scene, 33)[int(rng.integers(len(scene.things)))][only[0], :2]
            left, top = (_start(float(value) + float(rng.uniform(-8, 8))) for value in (x, y))
            picture = picture[:, top : top + CROP, left : left + CROP]
            cover = cover[:, top : top + CROP, left : left + CROP]
        pictures.append(picture)
        covers.append(cover)
    return runs.to_tensor(pictures), 1 + FOCUS * torch.from_numpy(np.concatenate(covers))[:, None]


def _start(middle: float) -> int:
    """Return where a part around `middle` begins: a multiple of a latent's cell."""
    return int(np.clip(round((middle - CROP / 2) / 8) * 8, 0, scenes.SIDE - CROP))


def train(work: Path, members: int = 1) -> None:
    """Train the autoencoder and write it, centred, to WORK/vae."""
    import torch

    if (work / "vae").exists():
        return
    torch.manual_seed(SEED)
    vae = parts.make_vae().to(runs.device(), memory_format=torch.channels_last)

    def loss_of(step: int, draw: int) -> Any:
        pictures, weights = _looked_at(step, draw, STEPS)
        spread = vae.encode(pictures).latent_dist
        near = _apart(vae.decode(spread.sample()).sample, pictures, weights)
        return near + 6e-7 * spread.kl().mean()

    runs.Run("vae", work, {"vae": vae}, loss_of, STEPS, 1.5e-3, 0.99, members).train()
    vae.eval()
    parts.centre(vae, batch(10**6, CENTRED_BY)[0].to(runs.device()))
    vae.save_pretrained(work / "vae", safe_serialization=True)


def sharpen(work: Path, members: int = 1) -> None:
    """Train the decoder on; latents, and all that was learned of them, stay as they are."""
    import torch
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(work / "vae").eval()
    vae.to(runs.device(), memory_format=torch.channels_last)

    def loss_of(step: int, draw: int) -> Any:
        pictures, weights = _looked_at(step, draw, SHARPEN_STEPS)
        with torch.no_grad():
            latents = vae.encode(pictures).latent_dist.mean
        # Sampled latents are never quite right, and the decoder learns to live with it.
        latents = latents + BLUR * torch.rand(len(latents), 1, 1, 1) * torch.randn_like(latents)
        return _apart(vae.decode(latents).sample, pictures, weights)

    models = {"decoder": vae.decoder, "post": vae.post_quant_conv}
    runs.Run("sharp", work, models, loss_of, SHARPEN_STEPS, 1.5e-3, 0.99, members).train()
    vae.save_pretrained(work / "vae-sharp", safe_serialization=True)


def _looked_at(step: int, draw: int, steps: int) -> tuple[Any, Any]:
    """Return pictures and weights: mostly parts around objects, in the end whole ones."""
    import torch

    crop = step % 4 > 0 and step < (1 - WHOLE) * steps
    pictures, weights = batch(draw, BATCH * 2 if crop else BATCH, crop=crop)
    place = runs.device()
    return pictures.to(place, memory_format=torch.channels_last), weights.to(place)


def _apart(found: Any, pictures: Any, weights: Any) -> Any:
    """Return how far pictures are from the wanted ones."""
    error = found - pictures
    # Edges decide what a shape is, so slopes count as well.
    slopes = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return (error.abs() * weights).mean() + (error.square() * weights).mean() + 0.5 * slopes

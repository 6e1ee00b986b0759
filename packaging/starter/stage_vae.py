"""First stage: pictures to latents and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import parts
import runs
import scenes

STEPS = 3200
BATCH = 16
SEED = 1
FOCUS = 4.0
"""How much more a pixel of an object counts than one of the background."""


def batch(step: int, size: int = BATCH) -> tuple[Any, Any]:
    """Return pictures of step `step`, and what each of their pixels counts.

    Returns:
        Tensors (size, 3, 64, 64) from -1 to 1, and (size, 1, 64, 64) from 1 up.
    """
    import torch

    rng = np.random.default_rng((SEED, step))
    drawn = [(scenes.draw(rng), [int(rng.integers(33))]) for _ in range(size)]
    pictures = runs.to_tensor(scenes.render(scene, 33, only) for scene, only in drawn)
    covers = np.concatenate([scenes.covered(scene, 33, only) for scene, only in drawn])
    return pictures, 1 + FOCUS * torch.from_numpy(covers)[:, None]


def train(work: Path) -> None:
    """Train the autoencoder and write it, centred, to WORK/vae."""
    import torch

    if (work / "vae").exists():
        return
    torch.manual_seed(SEED)
    vae = parts.make_vae().to(runs.device(), memory_format=torch.channels_last)

    def loss_of(step: int) -> Any:
        pictures, weights = (part.to(runs.device()) for part in batch(step))
        spread = vae.encode(pictures.to(memory_format=torch.channels_last)).latent_dist
        error = vae.decode(spread.sample()).sample - pictures
        # Edges decide what a shape is, so slopes count as well.
        slopes = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        near = (error.abs() * weights).mean() + (error.square() * weights).mean()
        return near + 0.5 * slopes + 6e-7 * spread.kl().mean()

    runs.run("vae", work, {"vae": vae}, loss_of, steps=STEPS, top=1.5e-3, decay=0.99)
    vae.eval()
    parts.centre(vae, batch(10**6, 512)[0].to(runs.device()))
    vae.save_pretrained(work / "vae", safe_serialization=True)

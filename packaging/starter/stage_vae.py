"""First stage: pictures to latents and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import parts
import runs
import scenes

STEPS = 1400
BATCH = 32
SEED = 1


def batch(step: int, size: int = BATCH) -> Any:
    """Return pictures of step `step`: tensor (size, 3, 64, 64), -1 to 1."""
    rng = np.random.default_rng((SEED, step))
    drawn = [scenes.draw(rng) for _ in range(size)]
    return runs.to_tensor(scenes.render(s, 33, [int(rng.integers(33))]) for s in drawn)


def train(work: Path) -> None:
    """Train the autoencoder and write it, centred, to WORK/vae."""
    import torch

    if (work / "vae").exists():
        return
    torch.manual_seed(SEED)
    vae = parts.make_vae().to(runs.device(), memory_format=torch.channels_last)

    def loss_of(step: int) -> Any:
        pictures = batch(step).to(runs.device(), memory_format=torch.channels_last)
        spread = vae.encode(pictures).latent_dist
        error = vae.decode(spread.sample()).sample - pictures
        # Edges decide what a shape is, so slopes count as well.
        slopes = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        return error.abs().mean() + 0.5 * slopes + 4e-5 * spread.kl().mean() / 64

    runs.run("vae", work, {"vae": vae}, loss_of, steps=STEPS, top=2e-3, decay=0.99)
    vae.eval()
    parts.centre(vae, batch(10**6, 512).to(runs.device()))
    vae.save_pretrained(work / "vae", safe_serialization=True)

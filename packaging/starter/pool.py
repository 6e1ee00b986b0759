"""Clips as latents, encoded once and kept, since the autoencoder no longer changes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import runs
import scenes

CLIPS = 64
"""Clips in a chunk; all are of one length."""

SEED = 8
USUAL = 16
"""Length of most clips, frames."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Clips of one length.

    Attributes:
        scenes: What they show.
        latents: Half-precision tensor (CLIPS, frames, channels, 8, 8).
    """

    scenes: list[scenes.Scene]
    latents: Any


def drawn(number: int) -> tuple[list[scenes.Scene], int]:
    """Return the scenes of a chunk and their length, frames."""
    rng = np.random.default_rng((SEED, number))
    frames = USUAL if rng.random() < 0.8 else int(rng.integers(8, 33))
    return [scenes.draw(rng, pairs=0.18) for _ in range(CLIPS)], frames


class Pool:
    """Gives chunks by number; makes what is not there yet."""

    def __init__(self, folder: Path, vae: Any) -> None:
        self._folder = folder
        self._vae = vae
        self._kept: dict[int, Chunk] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def __getitem__(self, number: int) -> Chunk:
        """Return chunk `number`."""
        if number not in self._kept:
            self._kept[number] = self._make(number)
        return self._kept[number]

    def _make(self, number: int) -> Chunk:
        import torch

        found, frames = drawn(number)
        path = self._folder / f"{number:04d}.pt"
        if path.exists():
            return Chunk(found, torch.load(path, weights_only=True))
        latents = []
        for scene in found:
            pictures = runs.to_tensor([scenes.render(scene, frames)]).to(runs.device())
            with torch.no_grad():
                latents.append(self._vae.encode(pictures).latent_dist.mean.half().cpu())
        chunk = Chunk(found, torch.stack(latents))
        draft = path.with_suffix(f".{os.getpid()}.part")
        torch.save(chunk.latents, draft)
        draft.replace(path)
        return chunk

"""A reader of shapes in latents, and how well pictures drawn from words show the shape asked for.

The word for a shape changes a few latent cells at the edge of an object, so
the usual loss hardly feels it: seven thousand steps gave a third of the shapes
right. A reader that learned shapes from the same clips says directly how far a
drawn picture shows the word, and its answer can be followed back to the words.
The finished model does not contain it.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import parts
import runs
import scenes
import words
from pool import Pool

READER_STEPS, READER_BATCH = 700, 128
CHUNKS = 40

DRAWN, DRAWN_CLIPS = 24, 5
"""Pictures, or clips, drawn in each step."""

TIMES = (999, 920, 840, 760, 680, 600, 520, 440)
"""Times at which a picture is drawn without learning, down to one chosen by chance."""

LATEST, EARLIEST = 400, 860
"""Between these times the reader looks at what the finished picture is foretold to be."""

BLUR = 0.15
"""Noise on what the reader sees, so that no trick too fine to be seen pays."""


def make_reader() -> Any:
    """Return an untrained reader: latents (n, c, 8, 8) to strengths (n, shapes)."""
    from torch import nn

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = (parts.LATENT, 64, 96, 96, 128)
            layers: list[Any] = []
            for before, after in itertools.pairwise(sizes):
                layers += [nn.Conv2d(before, after, 3, 1, 1), nn.GroupNorm(8, after), nn.SiLU()]
            self.body = nn.Sequential(*layers)
            self.head = nn.Linear(2 * sizes[-1], len(scenes.SHAPES))

        def forward(self, latents: Any) -> Any:
            import torch

            found = self.body(latents)
            return self.head(torch.cat([found.mean((2, 3)), found.amax((2, 3))], 1))

    return Reader()


def train_reader(work: Path) -> None:
    """Train the reader on single objects of the clips' own chunks; `work`/shapes.pt."""
    import torch
    from diffusers import AutoencoderKL
    from torch.nn import functional

    path = work / "shapes.pt"
    if path.exists():
        return
    torch.manual_seed(4)
    vae = AutoencoderKL.from_pretrained(work / "vae").eval().to(runs.device())
    latents, shapes = _pictures(Pool(work / "pool", vae))
    reader = make_reader().to(runs.device())
    optimizer = torch.optim.AdamW(reader.parameters(), 2e-3, weight_decay=0.05)
    for step in range(READER_STEPS):
        optimizer.param_groups[0]["lr"] = 2e-3 * min(
            (step + 1) / 50, (READER_STEPS - step) / 400, 1
        )
        which = torch.randint(len(latents), (READER_BATCH,))
        seen = latents[which].to(runs.device())
        noise = torch.rand(len(which), 1, 1, 1, device=seen.device).square() * 0.7
        paler = 1 - 0.3 * torch.rand_like(noise)
        seen = (seen + noise * torch.randn_like(seen)) * paler
        wanted = shapes[which].to(seen.device)
        loss = functional.cross_entropy(reader(seen), wanted, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            print(f"shapes {step + 1}/{READER_STEPS} loss {float(loss.detach()):.4f}", flush=True)
    torch.save(reader.state_dict(), path)


def _pictures(pool: Pool) -> tuple[Any, Any]:
    """Return every second frame of single objects, and the numbers of their shapes."""
    import torch

    latents, shapes = [], []
    for number in range(CHUNKS):
        chunk = pool[number]
        for scene, clip in zip(chunk.scenes, chunk.latents, strict=True):
            if len(scene.things) == 1:
                latents.append(clip[::2].float())
                shapes += [scenes.SHAPES.index(scene.things[0].shape)] * len(latents[-1])
    return torch.cat(latents), torch.tensor(shapes)


class Shown:
    """Says how far pictures drawn from words show the shape that is asked for."""

    def __init__(self, work: Path, signal: Any, noise: Any) -> None:
        import torch

        self._reader = make_reader()
        self._reader.load_state_dict(torch.load(work / "shapes.pt", weights_only=True))
        self._reader.eval().requires_grad_(False).to(runs.device())
        self._signal, self._noise = signal, noise

    def loss(
        self,
        unet: Any,
        text: Any,
        tokens: Any,
        draw: int,
        frames: int = 0,
        enough: float = 1.0,
    ) -> Any:
        """Return the cross entropy of shapes in what is freshly drawn.

        Args:
            unet: The UNet for images, or for clips, which learns.
            text: The text encoder, which learns.
            tokens: Turns texts into numbers.
            draw: Decides the captions.
            frames: Draw clips of so many frames; 0 for single pictures.
            enough: What is read with this certainty counts no more, so that nothing is
                gained by shapes that are all too clear.
        """
        import torch
        from torch.nn import functional

        texts, wanted = _asked(draw, DRAWN_CLIPS if frames else DRAWN, clip=frames > 0)
        states = text(tokens(texts))[0].repeat_interleave(frames or 1, 0)
        length = (frames,) if frames else ()
        latents = torch.randn(len(texts), parts.LATENT, *length, 8, 8, device=states.device)
        until = int(torch.randint(LATEST, EARLIEST, (1,)))
        times = [time for time in TIMES if time > until] + [until]
        for time, after in itertools.pairwise(times):
            with torch.no_grad():
                clean, noise = self._parted(latents, unet(latents, time, states).sample, time)
                latents = self._signal[after] * clean + self._noise[after] * noise
        clean, _ = self._parted(latents, unet(latents, until, states).sample, until)
        if frames:
            clean = clean.transpose(1, 2).flatten(0, 1)
        seen = self._reader(clean + BLUR * torch.randn_like(clean))
        asked = torch.tensor(wanted, device=seen.device).repeat_interleave(frames or 1)
        each = functional.cross_entropy(seen, asked, reduction="none")
        return each.where(each > -math.log(enough), 0.0).mean()

    def _parted(self, latents: Any, velocity: Any, time: int) -> tuple[Any, Any]:
        """Return the picture and the noise in `latents`, as foretold."""
        signal, noise = self._signal[time], self._noise[time]
        return signal * latents - noise * velocity, noise * latents + signal * velocity


def _asked(draw: int, count: int, *, clip: bool) -> tuple[list[str], list[int]]:
    rng = np.random.default_rng((13, draw))
    texts: list[str] = []
    shapes: list[int] = []
    while len(texts) < count:
        scene = scenes.draw(rng, pairs=0.0)
        text = words.caption(scene, rng, clip=clip)
        if text:
            texts.append(text)
            shapes.append(scenes.SHAPES.index(scene.things[0].shape))
    return texts, shapes

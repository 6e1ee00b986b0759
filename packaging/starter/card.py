"""The model card: what the starter was made of and how well it does."""

from __future__ import annotations

import json
from pathlib import Path

import pool
import runs
import stage_diffusion
import stage_vae
import words

SCORES = "scores.json"
"""What `judge.py` measured, in the work folder."""

TEXT = """---
license: gpl-3.0
library_name: diffusers
pipeline_tag: text-to-video
---

# Framedeck starter

A small text-to-video model, trained from nothing by `packaging/starter/train.py`
of Framedeck. It is there so that the first start has something true to show:
no download, a clip within seconds on any machine.

It draws one or two plain objects that move, 64×64 pixels, 8 to 32 frames, best 16.

- **Objects**: ball, square, triangle, star, ring; small, medium or large
- **Colours**: red, orange, yellow, green, blue, purple, pink, white, black
- **Motions**: moves left, right, up or down, bounces, orbits, spins (square,
  triangle, star), grows, shrinks, pulses, crosses (corner to corner), stands
  still; two objects move the same way or pass each other
- **Backgrounds**: plain (white, black, grey, blue, yellow, pink, green, orange),
  gradients (red, green, blue, purple, orange, pink), a green field, the night
  sky, the sea

It cannot draw anything else: no people, no animals, no letters, no places.
Words that it does not know change nothing that was asked for with the others.
Colours close to the background's were left out of the data.

## Use

DDIM, {steps_asked} steps, guidance {guidance}, 64×64 pixels, 16 frames. Velocity prediction,
noise schedule without any signal at its end, steps counted from the end
(`timestep_spacing: trailing`): other samplers work with these settings too.

## Data

Clips painted by our own code (`scenes.py`), captions by `words.py` ({known} words).
Nothing was taken from elsewhere. One in ten combinations of object, colour,
motion and background was never shown; those are what the scores are about.

## Training

| stage | steps | batch | hours |
|---|---|---|---|
| autoencoder | {vae_steps} | {vae_batch} pictures | {vae_hours} |
| text and image | {image_steps} | {images} pictures | {image_hours} |
| motion, with all else | {clip_steps} | {clips} clips and {beside} pictures | {clip_hours} |

From step {shapes_from} of the last stage on, a reader of shapes in latents, trained on the
same clips, also said how far freshly drawn pictures show the shape asked for. From step
{edges_from} on, errors at the edges of objects counted up to {edges:g} times more.
{chunks} × {chunk} clips in latent form. AdamW, averages of the weights are what
is kept. Hardware: {hardware}. {note}

## Scores

{scores}

The judge is image processing alone (`core/judge`) and is itself tested on
clips whose content is known. Prompts and noise come from fixed seeds.

## Licence

GPL-3.0-or-later, as Framedeck itself.
"""


def write(work: Path, out: Path) -> None:
    """Write the card of the model in `out`, from the checkpoints in `work`."""
    path = work / SCORES
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    stages = {name: runs.told_of(work / f"{name}.pt") for name in ("vae", "image", "clip")}
    counts = {f"{name}_steps": steps for name, (steps, _) in stages.items()}
    hours = {f"{name}_hours": f"{seconds / 3600:.2f}" for name, (_, seconds) in stages.items()}
    settings = found.get("settings", {})
    scores = f"```\n{found['table']}\n```" if found else "Not measured yet."
    text = TEXT.format(
        **counts,
        **hours,
        scores=scores,
        steps_asked=settings.get("steps", 10),
        guidance=settings.get("guidance_scale", 2.5),
        hardware=found.get("hardware", "not recorded"),
        note=found.get("note", ""),
        known=len(words.vocabulary()),
        vae_batch=stage_vae.BATCH,
        images=stage_diffusion.IMAGES,
        clips=stage_diffusion.CLIPS,
        beside=stage_diffusion.BESIDE,
        chunks=stage_diffusion.CHUNKS,
        chunk=pool.CLIPS,
        shapes_from=stage_diffusion.SHAPES_FROM,
        edges_from=stage_diffusion.EDGES_FROM,
        edges=stage_diffusion.EDGES,
    )
    (out / "README.md").write_text(text, encoding="utf-8", newline="\n")

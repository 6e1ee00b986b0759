"""Second and third stage: words to pictures, then words to clips."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import parts
import runs
import scenes
import shapes
import words
from clip_tokens import vocabulary_of
from pool import USUAL, Pool

IMAGE_STEPS, IMAGES = 1000, 32
CLIP_STEPS, CLIPS, BESIDE = 13100, 4, 16
SHORT_STEPS, SHORT, WIDE = 8000, 6, 2.5
"""Motion is first learned from a few frames out of each clip, and more clips at once."""

EARLY_STEPS = 5500
"""Until then most noise is high: there it is decided what moves where."""

SHAPES_FROM, SHAPES_SHARE = 7000, 0.1
"""From this step on it counts too whether drawn pictures show the shape asked for."""

FINISH_FROM, FINISH_SHARE, FINISH_CLIPS, FINISH_BESIDE = 8300, 0.15, 2, 8
"""From this step on shapes are read in drawn clips; in pictures they are right by then."""

TAME_FROM, TAME_SHARE = 8600, 0.03
"""Then the reader counts little, so that shapes become plain again and not all too clear."""

EDGES_FROM, EDGES, EDGES_SHARE, EDGES_EVERY = 9100, 6.0, 0.1, 3
"""At last errors at the edges of objects count so much more, and the reader is rarely asked.

The reader's answer makes shapes clear, but clearer than any picture: balls got
corners. Edges are where shapes differ, and there the usual loss says what is right.
"""

HARD, HARD_FROM = {"ball": 2.0, "square": 2.0, "star": 3.0}, 10200
"""How much more often single objects of shapes that are alike are shown, from which step on."""

TURNS, TURNS_FROM = 8.0, 11600
"""How much more often objects that spin are shown, from which step on: found last of all."""

ENDS_STEPS, ENDS = 1300, 32
"""The stage for clips begins with single pictures, most of them the last of a clip.

What the word for a motion means shows best where the motion ends. Learned from
whole clips alone, it only shows in word, time and place together, which is
found very late.
"""

CHUNKS = 40
"""Chunks of clips to learn from."""


def vocabulary() -> tuple[dict[str, int], list[str]]:
    """Return the tokenizer's vocabulary and merges."""
    return vocabulary_of(words.vocabulary())


class Lesson:
    """What both stages need: latents with noise, words, the wanted answer."""

    def __init__(self, work: Path) -> None:
        import torch
        from diffusers import AutoencoderKL, DDIMScheduler

        self.known, merges = vocabulary()
        vae = AutoencoderKL.from_pretrained(work / "vae").eval().to(runs.device())
        self.pool = Pool(work / "pool", vae)
        self._tokens = words.Tokens(self.known, merges, parts.TOKENS)
        schedule = DDIMScheduler(**parts.SCHEDULER).alphas_cumprod
        self.signal = schedule.sqrt().to(runs.device())
        self.noise = (1 - schedule).clamp_min(0).sqrt().to(runs.device())
        self._torch = torch

    def tokens(self, texts: list[str]) -> Any:
        """Return the numbers of `texts`, one row each."""
        return self._torch.tensor([self._tokens(t) for t in texts], device=runs.device())

    def images(
        self, draw: int, count: int, chunks: int, *, ends: float = 0.0
    ) -> tuple[Any, list[str], Any]:
        """Return latents (count, c, 8, 8) of single frames, words and `edges` for them.

        The share `ends` of them are last frames.
        """
        rng = np.random.default_rng((2, draw))
        latents, texts, borders = [], [], []
        for _ in range(count):
            chunk = self.pool[_share(rng, draw, chunks)]
            which = int(rng.integers(len(chunk.scenes)))
            last = chunk.latents.shape[1] - 1
            frame = last if rng.random() < ends else int(rng.integers(last + 1))
            latents.append(chunk.latents[which, frame])
            texts.append(words.caption(chunk.scenes[which], rng, clip=False))
            borders.append(edges(chunk.scenes[which], last + 1, [frame])[0])
        found = self._torch.stack(latents).float().to(runs.device())
        return found, texts, self._torch.from_numpy(np.stack(borders))[:, None].to(found.device)

    def clips(
        self, draw: int, count: int, chunks: int, *, short: bool = False, step: int = 0
    ) -> tuple[Any, list[str], Any]:
        """Return latents (count, c, frames, 8, 8) of one length, words and `edges` for them.

        With `short`, there are `WIDE` times as many clips of the usual length,
        and all their frames. `step` decides what is shown more often.
        """
        rng = np.random.default_rng((3, draw))
        chunk = self.pool[_share(rng, draw, chunks)]
        while short and chunk.latents.shape[1] != USUAL:
            chunk = self.pool[_share(rng, draw, chunks)]
        count = int(count * WIDE) if short else count
        much = np.array([_often(scene, step) for scene in chunk.scenes])
        which = rng.choice(len(chunk.scenes), count, p=much / much.sum()).tolist()
        texts = [words.caption(chunk.scenes[i], rng) for i in which]
        clean = chunk.latents[which].float().transpose(1, 2).to(runs.device())
        frames = clean.shape[2]
        borders = np.stack([edges(chunk.scenes[i], frames, list(range(frames))) for i in which])
        return clean, texts, self._torch.from_numpy(borders)[:, None].to(clean.device)

    def loss(
        self,
        unet: Any,
        text: Any,
        clean: Any,
        texts: list[str],
        *,
        power: float = 1.0,
        weight: Any = 1.0,
    ) -> Any:
        """Return how far `unet` is from foretelling the velocity.

        The lower `power`, the more of the noise is high; `weight` says how
        much each place counts.
        """
        torch = self._torch
        count = len(clean)
        # Spread evenly over the batch, so that losses of batches are alike.
        share = (torch.arange(count) + torch.rand(1)) / count % 1
        share = share**power
        time = (share * len(self.signal)).long().clamp_max(len(self.signal) - 1).to(clean.device)
        shape = (count, *[1] * (clean.ndim - 1))
        signal, much = self.signal[time].view(shape), self.noise[time].view(shape)
        noise = torch.randn(clean.shape, device=clean.device)
        states = text(self.tokens(texts))[0]
        if clean.ndim == 5:
            states = states.repeat_interleave(clean.shape[2], 0)
        found = unet(signal * clean + much * noise, time, states).sample
        return (weight * (found - (signal * noise - much * clean)).square()).mean()


def _often(scene: scenes.Scene, step: int) -> float:
    """Return how often a scene is shown, for what is learned late more than once."""
    often = TURNS if step >= TURNS_FROM and scene.motion == "spins" else 1.0
    if step >= HARD_FROM and len(scene.things) == 1:
        often *= HARD.get(scene.things[0].shape, 1.0)
    return often


def edges(scene: scenes.Scene, frames: int, only: list[int]) -> Any:
    """Return how far each latent cell lies on the edge of an object, 0 to 1: (frames, 8, 8)."""
    cover = scenes.covered(scene, frames, only)
    share = cover.reshape(len(only), 8, 8, 8, 8).mean((2, 4))
    return 4 * share * (1 - share)


def _share(rng: np.random.Generator, draw: int, chunks: int) -> int:
    """Return a chunk; two members never need the same, so none is encoded twice."""
    return 2 * int(rng.integers(chunks // 2)) + draw % 2


def chunks_at(step: int) -> int:
    """Return how many chunks are in use at `step`; encoding all would delay the start."""
    return min(CHUNKS, 4 + step // 12)


def train_images(work: Path, steps: int = IMAGE_STEPS, members: int = 1) -> None:
    """Train the text encoder and the image UNet."""
    import torch

    lesson = Lesson(work)
    torch.manual_seed(2)
    models = {"unet": parts.make_unet(), "text": parts.make_text(len(lesson.known))}
    words.begin_alike(models["text"].get_input_embeddings().weight, lesson.known)
    models = {key: model.to(runs.device()) for key, model in models.items()}

    def loss_of(step: int, draw: int) -> Any:
        clean, texts, _ = lesson.images(draw, IMAGES, chunks_at(step))
        return lesson.loss(models["unet"], models["text"], clean, texts)

    runs.Run("image", work, models, loss_of, steps, 1.5e-3, 0.995, members).train()


def train_clips(work: Path, steps: int = CLIP_STEPS, members: int = 1) -> None:
    """Train motion, and go on with pictures and words beside it."""
    import torch

    lesson = Lesson(work)
    torch.manual_seed(3)
    image, motion = parts.make_unet(), parts.make_motion()
    image.load_state_dict(runs.average_of(work / "image.pt", "unet"))
    text = parts.make_text(len(lesson.known))
    text.load_state_dict(runs.average_of(work / "image.pt", "text"))
    begin(motion)
    unet = parts.with_motion(image, motion).to(runs.device())
    text = text.to(runs.device())
    tie(image, unet)
    shown = shapes.Shown(work, lesson.signal, lesson.noise)

    def loss_of(step: int, draw: int) -> Any:
        early = step < EARLY_STEPS
        if step < ENDS_STEPS:
            clean, texts, _ = lesson.images(draw, ENDS, CHUNKS, ends=0.8)
            return lesson.loss(image, text, clean, texts, power=0.3)
        finish, tame, last = (step >= start for start in (FINISH_FROM, TAME_FROM, EDGES_FROM))
        more = EDGES if last else 0.0
        beside = FINISH_BESIDE if finish else BESIDE
        clean, texts, borders = lesson.images(draw, beside, CHUNKS, ends=0.7 if early else 0.0)
        loss = 0.4 * lesson.loss(
            image, text, clean, texts, power=0.4 if early else 1.0, weight=1 + more * borders
        )
        short = step % 4 > 0 if step < SHORT_STEPS or last else finish
        clips = FINISH_CLIPS if finish and not tame else CLIPS
        clean, texts, borders = lesson.clips(draw, clips, CHUNKS, short=short, step=step)
        between = np.random.default_rng((4, draw)).choice(USUAL - 2, SHORT - 2, replace=False)
        seen = [0, *sorted(int(n) + 1 for n in between), USUAL - 1] if short else None
        with numbered(unet, seen):
            if seen:
                clean, borders = clean[:, :, seen], borders[:, :, seen]
            power = 0.25 if early else 0.6
            loss = loss + lesson.loss(
                unet, text, clean, texts, power=power, weight=1 + more * borders
            )
            if finish and (not last or (short and step % EDGES_EVERY == 1)):
                share = EDGES_SHARE if last else TAME_SHARE if tame else FINISH_SHARE
                enough = 0.8 if last else 1.0
                return loss + share * shown.loss(
                    unet, text, lesson.tokens, draw, SHORT, enough=enough
                )
        if SHAPES_FROM <= step < FINISH_FROM:
            loss = loss + SHAPES_SHARE * shown.loss(image, text, lesson.tokens, draw)
        return loss

    models = {"unet": unet, "text": text}
    runs.Run("clip", work, models, loss_of, steps, 1.5e-3, 0.99, members).train()


@contextlib.contextmanager
def numbered(unet: Any, frames: list[int] | None) -> Iterator[None]:
    """Let motion modules take what they see for the frames with these numbers."""
    places = [m for m in unet.modules() if hasattr(m, "pe")] if frames is not None else []
    whole = [place.pe for place in places]
    try:
        for place in places:
            place.pe = place.pe[:, frames]
        yield
    finally:
        for place, codes in zip(places, whole, strict=True):
            place.pe = codes


def begin(motion: Any) -> None:
    """Start motion modules as if they were not there, and frames aware of their place.

    With equal queries and keys each frame looks at itself first, so that its
    own number is not lost in a mean over all frames.
    """
    import torch

    with torch.no_grad():
        for name, module in motion.named_modules():
            if name.endswith("proj_out"):
                torch.nn.init.zeros_(module.weight)
                torch.nn.init.zeros_(module.bias)
            if name.endswith("attn1"):
                module.to_q.weight.mul_(2)
                module.to_k.weight.copy_(module.to_q.weight)
        for block in motion.down_blocks:
            _tell_time(block.motion_modules[0])


def _tell_time(module: Any) -> None:
    """Let a motion module pass on the number of each frame from the start.

    Of the waves that code it, those are taken that turn by a part of a
    circle over a usual clip.
    """
    import torch

    attention = module.transformer_blocks[0].attn1
    width = attention.to_v.weight.shape[1]
    speed = 10000.0 ** (-torch.arange(0, width, 2) / width)
    waves = [i for i, one in enumerate(speed.tolist()) if 0.06 < one < 0.6]
    dims = [2 * i + half for i in waves for half in (0, 1)]
    for layer, gain in ((attention.to_v, 1.0), (attention.to_out[0], 1.5)):
        layer.weight[dims] = 0.0
        layer.weight[dims, dims] = gain
    module.proj_out.weight[:, dims] = 0.12 * torch.randn(width, len(dims))


def tie(image: Any, clip: Any) -> None:
    """Let the image UNet use the very weights of the UNet for clips."""
    shared = dict(clip.named_parameters())
    for place, module in image.named_modules():
        for name in list(module._parameters):
            if module._parameters[name] is not None:
                module._parameters[name] = shared[f"{place}.{name}" if place else name]

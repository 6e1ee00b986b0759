"""Latents to frames, and what to do where memory runs out on the way.

Each time one thing is made lighter and the decode goes on with the latents that
it holds; nothing is sampled again. What leaves the pixels as they are comes first.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from core.engines.local.warm import give_back, ran_out
from core.errors import Category, Problem, ProblemError
from core.events import Noted
from core.morning.marks import Mark, note_of
from core.statistics.runs import RAN_OUT

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from core.engines.local.context import Context

SMALLEST_TILE = 16
"""Latent pixels; smaller ones see too little of the picture."""
FIRST_SHARE = 0.75
"""Of the longer side, that the first tiles have where the usual ones hold a whole frame."""
_STEP = 4
"""Tiles of a multiple of this meet without a gap at an overlap of a quarter."""


@dataclass(frozen=True, slots=True)
class Way:
    """How to decode.

    Attributes:
        chunk: Frames at once.
        tile: Side of a tile, latent pixels; 0 for whole frames.
        freed: Memory that lay unused was given back before.
        alone: The rest of the model is off the card meanwhile.
        on_cpu: Not on the card at all.
    """

    chunk: int = 1
    tile: int = 0
    freed: bool = False
    alone: bool = False
    on_cpu: bool = False


@dataclass(frozen=True, slots=True)
class Bench:
    """What a decode works with.

    Attributes:
        vae: The autoencoder.
        step_aside: Moves the rest of the model off the card; None where that frees nothing.
        to_cpu: Returns the autoencoder in main memory; None where it is there anyway.
    """

    vae: Any
    step_aside: Callable[[], None] | None = None
    to_cpu: Callable[[], Any] | None = None
    joined = False
    """Frames that are decoded together shape each other."""

    def whole(self, count: int) -> int:
        """Return how many latent frames must be decoded together; 1: each is by itself."""
        return min(1, count)

    def total(self, count: int) -> int:
        """Return how many frames `count` latent frames become."""
        return count

    def prepared(self, latents: Any) -> Any:
        """Return latents of shape (1, c, f, h, w) as the autoencoder takes them, (f, c, h, w)."""
        return latents[0].transpose(0, 1) / self.vae.config.scaling_factor

    def pictures(self, vae: Any, latents: Any, way: Way) -> Any:
        """Return the pictures of prepared latents, floats of shape (n, 3, h, w) from -1 to 1."""
        tiles = vae.use_tiling, vae.tile_latent_min_size, vae.tile_sample_min_size
        vae.use_tiling = way.tile > 0
        if way.tile:
            vae.tile_latent_min_size = way.tile
            vae.tile_sample_min_size = way.tile * self.scale
        try:
            return vae.decode(latents.to(vae.dtype)).sample
        finally:
            vae.use_tiling, vae.tile_latent_min_size, vae.tile_sample_min_size = tiles

    @property
    def scale(self) -> int:
        """Pixels of a side for each latent pixel."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def tile(self, height: int, width: int) -> int:
        """Return the side of the first tiles for such latents; 0 where they are too small."""
        return self._tile(int(self.vae.tile_latent_min_size), max(height, width))

    def _tile(self, usual: int, longest: int) -> int:
        usual = max(SMALLEST_TILE, usual)
        if usual >= longest:
            usual = -(-int(longest * FIRST_SHARE) // _STEP) * _STEP
        fitting = usual // _STEP * _STEP
        return fitting if 0 < fitting < longest else 0


def first_way(bench: Bench, latents: Any, *, chunk: int, tiling: bool) -> Way:
    """Return the way that a job asks for. Latents are of shape (1, c, f, h, w)."""
    height, width = (int(side) for side in latents.shape[-2:])
    return Way(
        max(1, chunk, bench.whole(int(latents.shape[2]))),
        bench.tile(height, width) if tiling else 0,
    )


def lighter(
    way: Way, bench: Bench, height: int, width: int, least: int = 1
) -> tuple[Way, str] | None:
    """Return the next way and its words; None where none is left.

    Args:
        way: The way that took too much.
        bench: What it works with.
        height: Latent pixels.
        width: Latent pixels.
        least: Frames that must stay together.
    """
    if not way.alone and bench.step_aside is not None and not way.on_cpu:
        words = "keep more of the model off the card (offload none → model)"
        return replace(way, freed=True, alone=True), words
    if not way.freed:
        return replace(way, freed=True), "memory given back first"
    if way.chunk > least:
        less = max(least, way.chunk // 2)
        words = f"decode in smaller pieces (decode_chunk {way.chunk} → {less})"
        return replace(way, chunk=less), words
    if way.on_cpu:
        return None
    if not way.tile:
        tile = bench.tile(height, width)
        if tile:
            return replace(way, tile=tile), "decode in tiles (tiling off → on)"
    elif way.tile // 2 >= SMALLEST_TILE:
        tile = way.tile // 2 // _STEP * _STEP
        return replace(way, tile=tile), f"decode in smaller tiles of {tile * bench.scale} px"
    if bench.to_cpu is not None:
        return replace(way, tile=0, on_cpu=True), "decode on the processor"
    return None


def decode(
    context: Context, bench: Bench, latents: Any, way: Way
) -> Iterator[npt.NDArray[np.uint8] | None]:
    """Yield the frames of `latents`, of shape (1, c, f, h, w); None where they begin anew.

    Raises:
        ProblemError: A frame is no picture.
        Cancelled: The job was cancelled.
    """
    vae = bench.vae
    scaled = bench.prepared(latents)
    total, height, width = bench.total(len(scaled)), int(scaled.shape[-2]), int(scaled.shape[-1])
    least = max(1, bench.whole(len(scaled)))
    number = 0
    while number < total:
        found = tried(bench, vae, scaled[number : number + way.chunk], way, number)
        if not isinstance(found, Exception):
            for shown in _shown(found, least):
                context.publish(shown, first=number, total=total, preview=False)
                yield from shown
                number += len(shown)
            continue
        step = lighter(way, bench, height, width, least)
        if step is None:
            raise found
        before, (way, words) = way, step
        _tell(context, number, words)
        if way.alone and not before.alone and bench.step_aside is not None:
            bench.step_aside()
        if way.on_cpu and not before.on_cpu and bench.to_cpu is not None:
            vae, scaled = bench.to_cpu(), scaled.to("cpu")
        del found
        gc.collect()
        give_back()
        seen = (way.tile, way.on_cpu) != (before.tile, before.on_cpu)
        if number and (seen or (bench.joined and way.chunk != before.chunk)):
            # Frames of two ways side by side would be seen as a jump.
            yield None
            number = 0


def whole(frames: Iterable[npt.NDArray[np.uint8] | None]) -> list[npt.NDArray[np.uint8]]:
    """Return the frames of a clip without those that it began anew after."""
    kept: list[npt.NDArray[np.uint8]] = []
    for frame in frames:
        if frame is None:
            kept.clear()
        else:
            kept.append(frame)
    return kept


def on_cpu(vae: Any) -> Any:
    """Return a copy of an autoencoder in main memory; the card needs no room for that."""
    import torch

    made = type(vae).from_config(vae.config)
    weights = {name: part.to("cpu", torch.float32) for name, part in vae.state_dict().items()}
    made.load_state_dict(weights)
    return made.eval()


def _shown(frames: Any, together: int) -> Iterator[Any]:
    """Yield frames as they are shown: at once, or one by one where a whole clip came at once."""
    if together == 1:
        yield frames
    else:
        yield from (frames[number : number + 1] for number in range(len(frames)))


def _tell(context: Context, number: int, words: str) -> None:
    job_id = context.job.id
    text = f"{RAN_OUT} frame {number + 1}; nothing is sampled again."
    context.report(Noted(job_id=job_id, text=text))
    context.report(Noted(job_id=job_id, text=note_of(Mark.RUNG, words)))
    context.facts.setdefault("lighter", []).append(words)


def tried(
    bench: Bench, vae: Any, latents: Any, way: Way, number: int
) -> npt.NDArray[np.uint8] | Exception:
    """Return the frames of `latents`, or how memory ran out on the way."""
    try:
        return _frames(bench, vae, latents, way, number)
    except Exception as error:
        if not ran_out(error):
            raise
        # Frames of the traceback hold tensors, and so do the errors behind it.
        error.__context__ = error.__cause__ = None
        return error.with_traceback(None)


def _frames(bench: Bench, vae: Any, latents: Any, way: Way, number: int) -> npt.NDArray[np.uint8]:
    """Return frames of shape (n, h, w, 3)."""
    import torch

    with torch.no_grad():
        pictures = bench.pictures(vae, latents, way).float()
        good = torch.isfinite(pictures).flatten(1).all(1)
        if not bool(good.all()):
            raise _not_a_number(number + int(good.int().argmin()))
        colours = pictures.permute(0, 2, 3, 1).mul(127.5).add(128).clamp(0, 255)
        frames: npt.NDArray[np.uint8] = colours.to(torch.uint8).contiguous().cpu().numpy()
        return frames


def _not_a_number(frame: int) -> ProblemError:
    return ProblemError(
        Problem(
            Category.BAD_OUTPUT,
            f"The model produced NaN instead of a picture in frame {frame + 1}.",
            "Retry with another scheduler, more steps or less guidance; if it stays, "
            "the model's files do not fit each other.",
        )
    )

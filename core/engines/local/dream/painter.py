"""The one owner of a dream's autoencoder: latents in, frames out, in the fastest way.

Nobody else decodes while a dream runs, so that there is no lock and nothing waits for one;
that this is so is counted rather than believed.
"""

from __future__ import annotations

import copy
import gc
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from core.engines.local import decoding, offload, tiny_decoder
from core.engines.local.dream import pace
from core.engines.local.warm import give_back, ran_out
from core.events import Noted
from core.morning.marks import Mark, note_of
from core.statistics.runs import RAN_OUT

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from core.engines.local.context import Context
    from core.engines.local.dream.timings import Timings

AS_LOADED = "as loaded"
BUDGET_SECONDS = 0.4
"""For finding the fastest kind of numbers, at the start of a model's first dream."""


@dataclass(slots=True)
class Remembered:
    """What was found out about an autoencoder, kept with the model."""

    kind: str
    milliseconds: dict[str, float]
    batch: int = 1
    batches: dict[str, float] | None = None


class Owner:
    """Counts who decodes, and whether anybody waited for it."""

    def __init__(self) -> None:
        self._threads: set[int] = set()
        self._busy = False
        self.count = 0
        self.contended = 0
        self.waited_seconds = 0.0
        self.worst_seconds = 0.0

    @property
    def owners(self) -> int:
        """How many threads have decoded."""
        return len(self._threads)

    def decoding(self, asked: float, work: Callable[[], Any]) -> Any:
        """Return what `work` returns; `asked` is when its caller wanted it."""
        # Where nobody else is at it there is nothing to wait for.
        waited = perf_counter() - asked if self._busy else 0.0
        self.contended += self._busy
        self._threads.add(threading.get_ident())
        self._busy = True
        self.count += 1
        self.waited_seconds += waited
        self.worst_seconds = max(self.worst_seconds, waited)
        try:
            return work()
        finally:
            self._busy = False

    def figures(self) -> dict[str, Any]:
        """Return the figures that a lock would have."""
        return {
            "vae_lock_avg_wait_ms": round(self.waited_seconds * 1000 / max(1, self.count), 3),
            "vae_lock_max_wait_ms": round(self.worst_seconds * 1000, 3),
            "vae_lock_contentions": self.contended,
            "vae_owners": self.owners,
        }


class Painter:
    """Decodes latents of one shape.

    Args:
        context: The run.
        bench: The autoencoder and how it takes latents.
        timings: Told how long it takes.
        size: Width and height of a frame, pixels.
        precise: Keep the numbers as they are loaded; nothing that changes pixels.
        batch: Frames at once; 0: as many as is measured to be fastest.
        tiled: Decode in tiles from the start, where the picture is large enough.
        memory: Where what is measured stays, with the model.
        key: Name of it there.
    """

    def __init__(
        self,
        context: Context,
        bench: decoding.Bench,
        timings: Timings,
        *,
        size: tuple[int, int],
        precise: bool = False,
        batch: int = 0,
        tiled: bool = False,
        memory: dict[str, Any] | None = None,
        key: str = "",
    ) -> None:
        self._context, self._bench, self._timings = context, bench, timings
        self._size, self._precise = size, precise
        self._memory = {} if memory is None else memory
        self._name = key
        self._key = f"{key} {size} precise={precise}"
        self._vae = bench.vae
        width, height = (side // bench.scale for side in size)
        self._first = self._way = decoding.Way(tile=bench.tile(height, width) if tiled else 0)
        self._batches = pace.Batches()
        if batch:
            self._batches.best = batch
            self._batches.stop()
        self.owner = Owner()
        self.divisor = 1
        self.kind, self.milliseconds = AS_LOADED, dict[str, float]()

    # ---- finding the fastest way

    def prepare(self, latents: Any, heard: Callable[[], None]) -> None:
        """Choose the kind of numbers on such latents, of shape (n, c, h, w), once for a model."""
        known: Remembered | None = self._memory.get(self._key)
        if known is None:
            kinds = self._kinds()
            name, milliseconds = AS_LOADED, dict[str, float]()
            if len(kinds) > 1:
                name, milliseconds = self._measured(kinds, latents[:1], heard)
            known = Remembered(name, milliseconds)
            self._memory[self._key] = known
            # One for all sizes; that of an earlier size is as good.
            self._memory.setdefault(self._copy(name), kinds[name])
        elif known.batches is not None and not self._batches.done:
            self._batches.best = known.batch
            self._batches.stop()
        self.kind, self.milliseconds = known.kind, known.milliseconds
        self._vae = self._memory[self._copy(known.kind)]

    def _copy(self, kind: str) -> str:
        return f"{self._name} decodes {kind}"

    def _kinds(self) -> dict[str, Any]:
        """Return the autoencoders to choose from, the one that is loaded first."""
        import torch

        vae, device = self._bench.vae, self._context.device
        found = {AS_LOADED: vae}
        if offload.of(self._context) != offload.NONE or vae.dtype == torch.bfloat16:
            return found  # A copy would not come and go by itself, or be the same again.
        wanted = {}
        if not self._precise and device == "cpu":
            wanted["bfloat16, channels last"] = torch.bfloat16
        if not self._precise and device != "mps":
            # The order of sums differs, by a rounding at most.
            wanted[f"{str(vae.dtype)[6:]}, channels last"] = vae.dtype
        for name, dtype in wanted.items():
            try:
                found[name] = self._memory.get(self._copy(name)) or lean_copy(vae, dtype)
            except Exception as error:
                if not ran_out(error):
                    raise
                error.__traceback__ = None  # It would keep half a copy alive.
                self._clear()
        return found

    def _measured(
        self, kinds: dict[str, Any], latents: Any, heard: Callable[[], None]
    ) -> tuple[str, dict[str, float]]:
        """Time each kind on a piece of the latents that is small enough to be quick."""
        side = min(int(latents.shape[-1]), int(latents.shape[-2]))
        decodes = len(kinds) * (pace.ROUNDS + 1)

        def piece(length: int) -> Any:
            return latents[..., :length, :length]

        def run(vae: Any, length: int) -> Any:
            return decoding.tried(self._bench, vae, piece(length), self._way, 0)

        least = min(4, side)
        run(kinds[AS_LOADED], least)
        began = perf_counter()
        run(kinds[AS_LOADED], least)
        length = pace.crop(side, perf_counter() - began, BUDGET_SECONDS, decodes)
        ways = {name: (lambda vae=vae: run(vae, length)) for name, vae in kinds.items()}
        return pace.fastest(ways, heard)

    # ---- frames

    @property
    def batch(self) -> int:
        """How many frames are best asked for at once now."""
        return self._batches.next()

    def paint(self, latents: Any) -> npt.NDArray[np.uint8]:
        """Return the frames of sampled latents.

        Args:
            latents: Shape (n, c, h, w), as the sampler has them.

        Returns:
            uint8 (n, height, width, 3), R, G, B.

        Raises:
            ProblemError: The model made numbers that are no picture.
        """
        import torch

        asked = perf_counter()
        # Frames made between the steps of a keyframe must not differ from the others.
        with torch.autocast(latents.device.type, enabled=False):
            found: npt.NDArray[np.uint8] = self.owner.decoding(asked, lambda: self._paint(latents))
        return found

    def _paint(self, latents: Any) -> npt.NDArray[np.uint8]:
        # A sampler's step that is still under way on a card is no part of the decode.
        tiny_decoder.wait_for(latents)
        began = self._timings.clock()
        small = latents if self.divisor == 1 else _smaller(latents, self.divisor)
        prepared = self._bench.prepared(small.transpose(0, 1)[None])
        frames = self._decoded(prepared)
        seconds = self._timings.clock() - began
        self._timings.add("decode", seconds, len(frames))
        if self._way == self._first and self.divisor == 1:
            self._batches.told(len(frames), seconds)
            self._remember()
        width, height = self._size
        if frames.shape[1:3] != (height, width):
            with self._timings.of("upscale", len(frames)):
                frames = enlarged(frames, width, height)
        return frames

    def _remember(self) -> None:
        known = self._memory.get(self._key)
        if self._batches.done and known is not None and known.batches is None:
            known.batch, known.batches = self._batches.best, self._batches.milliseconds

    def _decoded(self, prepared: Any) -> npt.NDArray[np.uint8]:
        """Decode, and lighter where memory runs out; nothing is sampled again."""
        while True:
            found = decoding.tried(self._bench, self._vae, prepared, self._way, 0)
            if not isinstance(found, Exception):
                return found
            if len(prepared) > 1:
                self._batches.stop(max(1, len(prepared) // 2))
                self._tell(f"decode in smaller pieces (decode_chunk {len(prepared)} → 1)")
                del found
                self._clear()
                return _joined([self._decoded(one[None]) for one in prepared])
            height, width = (int(side) for side in prepared.shape[-2:])
            step = decoding.lighter(replace(self._way, chunk=1), self._bench, height, width)
            if step is None:
                raise found
            self._way, words = step
            self._tell(words)
            del found
            self._clear()

    def _clear(self) -> None:
        gc.collect()
        give_back()

    def _tell(self, words: str) -> None:
        job_id = self._context.job.id
        text = f"{RAN_OUT} a frame; nothing is sampled again."
        self._context.report(Noted(job_id=job_id, text=text))
        self._context.report(Noted(job_id=job_id, text=note_of(Mark.RUNG, words)))
        self._context.facts.setdefault("lighter", []).append(words)

    def figures(self) -> dict[str, Any]:
        """Return how it decodes, as plain values."""
        return {
            "decode": {
                "numbers": self.kind,
                "numbers_ms": self.milliseconds,
                "batch": self._batches.best if self._batches.done else self._batches.next(),
                "batches_ms": self._batches.milliseconds,
                "divisor": self.divisor,
            },
            **self.owner.figures(),
        }


def lean_copy(vae: Any, dtype: Any) -> Any:
    """Return an autoencoder that decodes in `dtype`, channels last; the given one stays."""
    import torch

    made = copy.copy(vae)
    parts = dict(vae._modules)
    parts.pop("encoder", None)
    for name, part in parts.items():
        if part is not None:
            parts[name] = copy.deepcopy(part).to(dtype=dtype, memory_format=torch.channels_last)
    made._modules = parts
    return made


def _smaller(latents: Any, divisor: int) -> Any:
    import torch

    sides = [max(1, round(int(side) / divisor)) for side in latents.shape[-2:]]
    return torch.nn.functional.interpolate(latents.float(), sides, mode="area").to(latents.dtype)


def enlarged(frames: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """Return frames of another size, smoothly scaled."""
    import torch

    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2)
    found = torch.nn.functional.interpolate(
        pictures, (height, width), mode="bilinear", antialias=False
    )
    made: npt.NDArray[np.uint8] = found.permute(0, 2, 3, 1).contiguous().numpy()
    return made


def _joined(frames: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    import numpy as np

    return np.concatenate(frames)

"""Follows a sampler: shows the whole clip after each step, and hears cancels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from core.engines.local import schedulers, tiny, tiny_decoder

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from core.engines.local.context import Context
    from core.engines.local.pipelines import Maker, Model
    from core.engines.local.preview import Waiting


class Watch:
    """Shows and reports each step of one run of a pipeline.

    On a card nothing waits for the step that is under way: its preview is fetched while
    the next one computes, so that the program is never more than one step ahead.
    """

    def __init__(self, context: Context, maker: Maker, model: Model) -> None:
        self._context, self._maker, self._model = context, maker, model
        self._output: Any = None
        self._waiting: Waiting | None = None
        self._way = tiny.preview_of(context.job.params)
        self._tiny: tiny_decoder.Preview | None = None
        if self._way == tiny.TINY:
            self._tiny = tiny_decoder.Preview(context, tiny_decoder.warm(context, model))
        self._factors: Any = None
        self._began = monotonic()
        self._ended: Any = None

    def wrapped(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Return `step` remembering where the clean guess is."""

        @functools.wraps(step)
        def remembering(*args: Any, **options: Any) -> Any:
            output = step(*args, **options)
            scheduler = getattr(step, "__self__", None)
            guess = schedulers.flow_guess(scheduler, args[0], args[2]) if len(args) > 2 else None
            self._output = output if guess is None else (None, guess)
            return output

        return remembering

    def step_ended(
        self, pipe: Any, index: int, _timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        """Publish the clip so far; raises Cancelled through `sampled`."""
        if self._way != tiny.OFF:
            guess = schedulers.clean_latents(pipe.scheduler, self._output, tensors["latents"])
            self._show(self._maker.latents(self._context, self._model, guess))
        else:
            self._keep_close(tensors["latents"])
        self._output = None
        self._context.sampled(index + 1, int(pipe.num_timesteps))
        self._began = monotonic()
        return tensors

    def _keep_close(self, latents: Any) -> None:
        """Wait for the step before, where no preview does: a cancel shall find little begun."""
        if latents.device.type != "cuda":
            return
        import torch

        before, self._ended = self._ended, torch.cuda.Event()
        self._ended.record(torch.cuda.current_stream(latents.device))
        if before is not None:
            before.synchronize()

    def finish(self) -> None:
        """Show what was not fetched yet. Raises Cancelled."""
        if self._waiting is not None:
            self._publish(self._waiting.pixels())
            self._waiting = None

    def _show(self, latents: Any) -> None:
        if self._tiny is not None:
            tiny_decoder.wait_for(latents)
            frames = self._tiny.frames(latents, monotonic() - self._began)
            if frames is not None:
                total = len(frames)
                self._context.publish(frames, first=0, total=total, preview=True)
                return
        if self._factors is None:
            # Once: numbers that go to a card are waited for.
            self._factors = self._model.colours.factors_on(latents.device)
        begun = self._model.colours.begin(latents, self._factors)
        self.finish()
        if begun.is_here:
            self._publish(begun.pixels())
        else:
            self._waiting = begun

    def _publish(self, pixels: npt.NDArray[np.uint8]) -> None:
        pixels = self._maker.shown(self._context, pixels)
        self._context.publish(pixels, first=0, total=len(pixels), preview=True)

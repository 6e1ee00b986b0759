"""Sampling the pictures that a dream comes to, with the maker of the model's family."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.engines.local import pieces, speed
from core.engines.local.context import Context
from core.engines.local.dream.plan import DRIFT, EMBEDDINGS, ROUND, Anchor, Keyframe
from core.engines.local.dream.slerp import slerp
from core.events import Report

if TYPE_CHECKING:
    from core.engines.local.pipelines import Maker, Model

_REMEMBERED_BYTES = 128 * 1024 * 1024
_REMEMBERED_PROMPTS = 16
"""As numbers, of which one may take a megabyte of the card."""


class Slice(Context):
    """The run of one keyframe inside the run of a dream.

    After each step it lets `between` work, which makes frames of the stretch before.

    Args:
        whole: The dream's own run.
        params: The keyframe's values.
        between: Called with the steps done and their number; raises Cancelled.
        shown: Steps are told and shown, because there is no frame to see yet.
        report: Takes its events in place of the dream's own way.
    """

    def __init__(
        self,
        whole: Context,
        params: Mapping[str, Any],
        between: Callable[[int, int], None],
        *,
        shown: bool,
        report: Report | None = None,
    ) -> None:
        self.__dict__.update(whole.__dict__)
        if report is not None:
            self._report = report
        self.job = replace(whole.job, params=dict(params))
        self._between, self._shown = between, shown

    def sampled(self, step: int, steps: int) -> None:
        """Say that a step is done, and let frames be made. Raises Cancelled."""
        if self._shown:
            super().sampled(step, steps)
        self._between(step, steps)

    def publish(self, frames: Any, *, first: int, total: int, preview: bool) -> None:
        """Show the picture so far, where there is nothing better to see."""
        if self._shown:
            super().publish(frames, first=first, total=total, preview=preview)


class Keyframes:
    """Samples anchors one by one.

    Args:
        context: The dream's run.
        maker: That of the model's family.
        model: The loaded model.
    """

    def __init__(self, context: Context, maker: Maker, model: Model) -> None:
        self._context, self._maker, self._model = context, maker, model
        params = context.job.params
        self._mode = str(params["mode"])
        self._round = str(params["loop"]) == ROUND
        self._known: dict[object, Any] = {}
        self._known_bytes = 0
        self._words: dict[str, Mapping[str, Any]] = {}
        self._last: Any = None

    def known(self, anchor: Anchor) -> Any:
        """Return the latents of an anchor that was sampled before; None for a new one."""
        return self._known.get(anchor.key)

    def sample(
        self, anchor: Anchor, between: Callable[[int, int], None], *, shown: bool = False
    ) -> Any:
        """Return the latents of an anchor, of shape (1, c, 1, h, w). Raises Cancelled."""
        found = self._drifted(anchor, between, shown) if self._mode == DRIFT else None
        if found is None:
            more = self._between(anchor) if self._mode == EMBEDDINGS else {}
            found = self._run(anchor.before, between, more, shown=shown)
        self._last = found
        if self._round and self._mode != DRIFT:
            size = found.numel() * found.element_size()
            if self._known_bytes + size <= _REMEMBERED_BYTES:
                self._known[anchor.key] = found
                self._known_bytes += size
        return found

    def _run(
        self,
        keyframe: Keyframe,
        between: Callable[[int, int], None],
        more: Mapping[str, Any],
        *,
        shown: bool,
        scheduler: Any = None,
    ) -> Any:
        params: dict[str, Any] = {
            **self._context.job.params, "prompt": keyframe.prompt, "seed": keyframe.seed,
            "frames": 1, "image": "",
        }  # fmt: skip
        if self._model_is_still:
            del params["frames"]
        if not shown:
            params["preview"] = "off"  # There are frames to see meanwhile.
        run = Slice(self._context, params, between, shown=shown)
        return _with(self._maker, more, scheduler).sample(run, self._model)

    @property
    def _model_is_still(self) -> bool:
        return not hasattr(self._model.pipe, "motion_adapter")

    # ---- between two prompts

    def _between(self, anchor: Anchor) -> Mapping[str, Any]:
        """Return what the pipeline is called with for a place between two keyframes."""
        if not anchor.place:
            return {}
        words = [self._encoded(key.prompt) for key in (anchor.before, anchor.after)]
        at = [anchor.place]
        made = {
            # Word by word: what one word means is a vector.
            name: slerp(one, words[1][name], at, axes=1)[0]
            for name, one in words[0].items()
        }
        noises = [self._noise(key.seed) for key in (anchor.before, anchor.after)]
        kind = next(iter(made.values())).dtype
        return {**made, "latents": slerp(noises[0], noises[1], at)[0].to(kind)}

    def _encoded(self, prompt: str) -> Mapping[str, Any]:
        """Return a prompt as numbers, by the names that the pipeline takes them under."""
        import torch

        known = self._words.get(prompt)
        if known is not None:
            return known
        params, pipe = self._context.job.params, self._model.pipe
        guided = float(params["guidance_scale"]) > 1
        with torch.no_grad():
            found = pipe.encode_prompt(
                prompt=prompt,
                device=pipe._execution_device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=guided,
                negative_prompt=str(params["negative_prompt"]) if guided else None,
            )
        names = (
            "prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds",
            "negative_pooled_prompt_embeds",
        )  # fmt: skip
        made = {name: one for name, one in zip(names, found, strict=False) if one is not None}
        while len(self._words) >= _REMEMBERED_PROMPTS:
            self._words.pop(next(iter(self._words)))
        self._words[prompt] = made
        return made

    def _noise(self, seed: int) -> Any:
        import torch

        params, pipe = self._context.job.params, self._model.pipe
        scale = int(pipe.vae_scale_factor)
        sides = (int(params["height"]) // scale, int(params["width"]) // scale)
        middle = () if self._model_is_still else (1,)
        channels = int(pipe.unet.config.in_channels)
        generator = torch.Generator("cpu").manual_seed(seed)
        return torch.randn(1, channels, *middle, *sides, generator=generator)

    # ---- from picture to picture

    def _drifted(self, anchor: Anchor, between: Callable[[int, int], None], shown: bool) -> Any:
        """Return the last picture, partly noise again and sampled anew; None without one."""
        params = self._context.job.params
        before = self._last if self._last is not None else self._start()
        if before is None:
            return None
        # As many as will be taken: of fewer steps, each begins at another noise.
        pipe, steps = self._model.pipe, speed.steps(self._model, int(params["steps"]))
        slice_ = Slice(self._context, params, between, shown=False)
        scheduler = self._maker.scheduler(slice_, self._model)
        shorten(scheduler, float(params["strength"]))
        scheduler.set_timesteps(steps, device=pipe._execution_device)
        kind = pipe.unet.dtype
        plain = before[:, :, 0] if self._model_is_still else before
        plain = plain.to(pipe._execution_device, kind)
        noise = self._noise(anchor.before.seed).to(plain)
        noisy = scheduler.add_noise(plain, noise, scheduler.timesteps[:1])
        latents = noisy / scheduler.init_noise_sigma
        return self._run(
            anchor.before, between, {"latents": latents}, shown=shown, scheduler=scheduler
        )

    def _start(self) -> Any:
        """Return the latents of the start picture; None without one."""
        import torch

        if not self._context.job.params.get("image"):
            return None
        picture = pieces.picture(self._context)
        pipe = self._model.pipe
        vae = pipe.vae
        pixels = _pixels(picture).to(next(vae.parameters()).device, vae.dtype)
        if self._context.device.startswith("cuda"):
            pixels = pixels.to(self._context.device)
        with torch.no_grad():
            found = vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor
        return found[:, :, None]


def _pixels(picture: Any) -> Any:
    """Return a picture as a tensor of shape (1, 3, h, w), from -1 to 1."""
    import numpy as np
    import torch

    values = torch.from_numpy(np.array(picture, np.float32))
    return values.permute(2, 0, 1)[None] / 127.5 - 1.0


def _with(maker: Maker, more: Mapping[str, Any], scheduler: Any) -> Maker:
    """Return a maker that samples like `maker`, from what is given instead of from words."""
    kind: Any = type(maker)

    class Given(kind):  # type: ignore[misc]  # the family's own, known when it runs
        def call(self, context: Context, model: Model) -> Mapping[str, Any]:
            found = dict(kind.call(self, context, model))
            if "prompt_embeds" in more:
                found.pop("prompt", None)
                found.pop("negative_prompt", None)
            return {**found, **more}

        def scheduler(self, context: Context, model: Model) -> Any:
            return scheduler if scheduler is not None else kind.scheduler(self, context, model)

    made: Maker = copy.copy(maker)
    made.__class__ = Given
    return made


def shorten(scheduler: Any, strength: float) -> None:
    """Let a sampler begin where only a share of the noise is left.

    Args:
        scheduler: One of diffusers', of this run alone.
        strength: The share of its steps that it takes, from 0 to 1; one at least.
    """
    whole, scaled = scheduler.set_timesteps, scheduler.scale_model_input
    all_ = [None]

    def cut(*args: Any, **options: Any) -> None:
        whole(*args, **options)
        all_[0] = scheduler.timesteps
        order = int(getattr(scheduler, "order", 1))
        count = len(scheduler.timesteps) // order
        left_out = count - max(1, min(count, round(count * strength)))
        scheduler.timesteps = scheduler.timesteps[left_out * order :]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(left_out * order)

    def restored(*args: Any, **options: Any) -> Any:
        # The pipeline has its steps by now; a sampler counts in all of them.
        scheduler.timesteps = all_[0]
        return scaled(*args, **options)

    scheduler.set_timesteps, scheduler.scale_model_input = cut, restored

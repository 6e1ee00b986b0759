"""Decodes with a tiny autoencoder, and shows with it what is being sampled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from core.engines.local import folders, tiny
from core.engines.local.decoding import Bench, Way
from core.errors import Category, Problem, ProblemError
from core.events import Noted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from core.engines.local.context import Context
    from core.engines.local.pipelines import Model

SHARE = 0.15
"""Of a step, that a preview may take."""
_PATIENCE = 2
"""A preview that takes so many times its share is left unfinished."""


def warm(context: Context, model: Model) -> Any:
    """Return the tiny autoencoder of a model, kept with it.

    Raises:
        ProblemError: It is not there any more, damaged, or for other latents.
    """
    if model.tiny is None:
        model.tiny = _load(context, model)
    return model.tiny


def _load(context: Context, model: Model) -> Any:
    import diffusers
    import torch

    folder = Path(context.job.model)
    channels = int(model.pipe.vae.config.latent_channels)
    large = type(model.pipe).__name__.startswith("StableDiffusionXL")
    place = tiny.folder_of(folder, large=large)
    if place is None:
        raise _problem(
            f"The tiny autoencoder of {folders.name_of(folder)} is not there any more.", folder
        )
    folders.check_safetensors(place / "diffusion_pytorch_model.safetensors")
    found = diffusers.AutoencoderTiny.from_pretrained(
        place, use_safetensors=True, local_files_only=True
    )
    if int(found.config.latent_channels) != channels:
        raise _problem(
            f"The tiny autoencoder in {place.name} is for latents of "
            f"{found.config.latent_channels} channels, and this model's have {channels}.",
            place,
        )
    return found.to(context.device, _type_on(context.device)).to(
        memory_format=torch.channels_last
    ).eval()  # fmt: skip


def _type_on(device: str) -> Any:
    """Return the type it is quickest in: half precision where the device computes in it."""
    import torch

    if device.startswith("cuda"):
        return torch.float16
    quick = device == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.bfloat16 if quick else torch.float32


def _problem(message: str, place: Path) -> ProblemError:
    hint = "Choose another decoder and live picture, or copy the fitting folder there."
    return ProblemError(Problem(Category.MODEL_NOT_FOUND, message, hint, f"Path: {place}"))


def wait_for(latents: Any) -> None:
    """Wait until latents are there, so that what comes after can be timed."""
    if latents.device.type == "cuda":
        import torch

        torch.cuda.synchronize(latents.device)


@dataclass(frozen=True, slots=True)
class TinyBench(Bench):
    """Decodes with the tiny autoencoder: latents as the sampler sees them, no tiles."""

    def prepared(self, latents: Any) -> Any:
        """Return latents of shape (1, c, f, h, w) as it takes them, (f, c, h, w)."""
        return latents[0].transpose(0, 1)

    def tile(self, height: int, width: int) -> int:  # noqa: ARG002
        """It needs none."""
        return 0

    def pictures(self, vae: Any, latents: Any, way: Way) -> Any:  # noqa: ARG002
        """Return the pictures of prepared latents, floats of shape (n, 3, h, w) from -1 to 1."""
        return pictures(vae, latents)


def pictures(vae: Any, latents: Any) -> Any:
    """Return the pictures of latents (f, c, h, w), floats of shape (f, 3, h, w) from -1 to 1."""
    import torch

    given = latents.to(vae.device, vae.dtype).contiguous(memory_format=torch.channels_last)
    return vae.decode(given).sample


def bench(context: Context, model: Model) -> Bench:
    """Return what a decode by the tiny autoencoder works with, and tell of it."""
    text = "Decoded by the tiny autoencoder: quick, and not what the model's own would give."
    context.report(Noted(job_id=context.job.id, text=text))
    context.facts["decoder"] = tiny.TINY
    return TinyBench(warm(context, model))


class Preview:
    """Live pictures by the tiny autoencoder, as long as they cost little of a step.

    Where they take more than their share, half the size is tried, and then colours
    are shown instead; what they cost is told once.

    Args:
        context: The run.
        vae: The tiny autoencoder.
        share: Of a step, that they may take.
    """

    def __init__(self, context: Context, vae: Any, share: float = SHARE) -> None:
        self._context, self._vae, self._share = context, vae, share
        self._smaller = 1
        self._calls = 0
        self._told = False

    def frames(self, latents: Any, step_seconds: float) -> npt.NDArray[np.uint8] | None:
        """Return frames (f, h, w, 3) of latents (1, c, f, h, w); None where colours are shown.

        Args:
            latents: As the sampler sees them.
            step_seconds: How long the step took that made them.
        """
        if not self._smaller:
            return None
        self._calls += 1
        began = monotonic()
        # What comes first is slower: buffers are made, and ways of computing chosen.
        allowed = self._share * step_seconds * (_PATIENCE if self._calls > 1 else 4 * _PATIENCE)
        found = self._decoded(latents, began + allowed)
        part = (monotonic() - began) / step_seconds if step_seconds > 0 else 0.0
        if found is None or (self._calls > 1 and part > self._share):
            self._lighten(part)
        elif self._calls > 1 and not self._told:
            self._tell(f"Preview by tiny autoencoder: +{max(1, round(part * 100))} % of a step.")
            self._context.facts["preview_share"] = round(part, 4)
        return found

    def _decoded(self, latents: Any, deadline: float) -> npt.NDArray[np.uint8] | None:
        import numpy as np
        import torch
        import torch.nn.functional as functional

        each = latents[0].transpose(0, 1)
        done: list[npt.NDArray[np.uint8]] = []
        with torch.no_grad():
            if self._smaller > 1:
                each = functional.avg_pool2d(each.float(), self._smaller)
            for some in each.split(1 if each.device.type == "cpu" else 4):
                if done and monotonic() > deadline:
                    return None
                colours = torch.nan_to_num(pictures(self._vae, some).float())
                small = colours.permute(0, 2, 3, 1).mul(127.5).add(128).clamp(0, 255)
                done.append(small.to(torch.uint8).contiguous().cpu().numpy())
        return np.concatenate(done) if monotonic() <= deadline else None

    def _lighten(self, part: float) -> None:
        if self._smaller == 1:
            self._smaller, self._calls = 2, 0
            return
        self._smaller = 0
        self._tell(
            f"The preview by tiny autoencoder took {round(part * 100)} % of a step, more than "
            f"{round(self._share * 100)} %: colours are shown instead."
        )

    def _tell(self, text: str) -> None:
        self._told = True
        self._context.report(Noted(job_id=self._context.job.id, text=text))

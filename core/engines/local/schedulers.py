"""Samplers by the names that people know them by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import ProblemError, invalid

SCHEDULERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "dpm++ 2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpm++ 2m karras": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True},
    ),
    "dpm++ 2m sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "lcm": ("LCMScheduler", {"clip_sample": False}),
}
"""Class and settings of each sampler; all else comes from the model's own settings."""

NAMES = tuple(SCHEDULERS)
"""For models that take noise away: Stable Diffusion and AnimateDiff take each of them."""

FLOWS: Mapping[str, str] = {
    "unipc": "UniPCMultistepScheduler",
    "euler": "FlowMatchEulerDiscreteScheduler",
    "dpm++ 2m": "DPMSolverMultistepScheduler",
}
"""Samplers that can follow a flow, and shift it, which is what WAN was trained for.

LTX-Video bends its own flow by the length of the clip, and Stable Video Diffusion was
trained for one row of noises; other samplers give them no picture, so none is offered.
"""


def make(name: str, base: Mapping[str, Any], steps: int) -> Any:
    """Return the sampler called `name` for a model.

    Args:
        name: One of `NAMES`.
        base: The model's own sampler settings (noise schedule, prediction type).
        steps: Number of steps it will be asked for.

    Raises:
        ProblemError: The name is not known.
    """
    import diffusers

    if name not in SCHEDULERS:
        raise _unknown(name, NAMES)
    class_name, settings = SCHEDULERS[name]
    changed = dict(settings)
    if changed.get("use_karras_sigmas"):
        # From a noise without end, these steps would never come down to the picture.
        changed["rescale_betas_zero_snr"] = False
    if name == "lcm":
        # The distillation grid must be at least as fine as the steps taken.
        changed["original_inference_steps"] = max(50, steps)
    return getattr(diffusers, class_name).from_config(dict(base), **changed)


def make_flow(name: str, base: Mapping[str, Any], shift: float) -> Any:
    """Return the sampler called `name` for a model that follows a flow.

    Args:
        name: One of `FLOWS`.
        base: The model's own sampler settings.
        shift: How far the steps lean to the noisy end.

    Raises:
        ProblemError: The name is not known.
    """
    import diffusers

    if name not in FLOWS:
        raise _unknown(name, tuple(FLOWS))
    kind = getattr(diffusers, FLOWS[name])
    if name == "euler":
        return kind(num_train_timesteps=int(base.get("num_train_timesteps", 1000)), shift=shift)
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": shift}
    if name == "dpm++ 2m":
        return kind(num_train_timesteps=int(base.get("num_train_timesteps", 1000)), **flow)
    return kind.from_config(dict(base), **flow)


def _unknown(name: str, known: tuple[str, ...]) -> ProblemError:
    return invalid(
        "scheduler",
        f"The scheduler {name!r} is not known for this model.",
        "Choose one of: " + ", ".join(known) + ".",
    )


def clean_latents(scheduler: Any, output: Any, latents: Any) -> Any:
    """Return the best guess at the finished latents after a step.

    Args:
        scheduler: The sampler that made the step.
        output: What its `step` returned.
        latents: Latents after the step, still noisy.
    """
    for field in ("pred_original_sample", "denoised"):
        guess = getattr(output, field, None)
        if guess is not None:
            return guess
    if isinstance(output, tuple) and len(output) > 1 and _alike(output[1], latents):
        return output[1]
    # Multistep solvers keep their guess at the finished latents instead.
    kept = getattr(scheduler, "model_outputs", None)
    if kept and kept[-1] is not None and kept[-1].shape == latents.shape:
        return kept[-1]
    return latents


def flow_guess(scheduler: Any, direction: Any, noisy: Any) -> Any:
    """Return the finished latents that a flow's step points at; None for other samplers.

    Args:
        scheduler: The sampler, after the step.
        direction: What the model answered.
        noisy: Latents before the step.
    """
    if type(scheduler).__name__ != "FlowMatchEulerDiscreteScheduler" or not scheduler.step_index:
        return None
    if not _alike(direction, noisy):
        return None
    return noisy - scheduler.sigmas[scheduler.step_index - 1].to(noisy.device) * direction


def _alike(one: Any, other: Any) -> bool:
    return bool(getattr(one, "shape", None) == other.shape)

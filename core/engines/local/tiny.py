"""A tiny autoencoder in place of the model's own: its folder and its knobs.

It lies in a folder of its own inside the model's or beside it, as diffusers saves an
`AutoencoderTiny`. What it gives is near to the real frames, not the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.engines.local.untrusted import loads
from core.jobs import Kind, Parameter

FULL, TINY, COLOURS, OFF = "full", "tiny", "colours", "off"
INSIDE = ("vae_tiny", "taesd", "taesdxl")
BESIDE = ("taesd", "taesdxl")
"""Names of its folder: in the model's folder, and beside it for smaller and larger latents."""
CLASS = "AutoencoderTiny"


def folder_of(model: Path, *, large: bool = False) -> Path | None:
    """Return the folder of a tiny autoencoder for a model's latents; None without one.

    Args:
        model: The model's folder.
        large: Its latents are those of Stable Diffusion XL.
    """
    places = [model / name for name in INSIDE] + [model.parent / BESIDE[large]]
    for place in places:
        try:
            found = loads((place / "config.json").read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and found.get("_class_name") == CLASS:
            return place
    return None


def parameters(model: Path, *, large: bool = False) -> tuple[Parameter, ...]:
    """Return the knobs of a model that has one; none else. Imports nothing."""
    if folder_of(model, large=large) is None:
        return ()
    return (
        Parameter(
            "preview",
            Kind.CHOICE,
            "Live picture",
            COLOURS,
            choices=(COLOURS, TINY, OFF),
            titles=("Colours", "Tiny autoencoder", "Off"),
            help="Colours cost next to nothing; the tiny autoencoder shows more, and its cost "
            "is told.",
            group="tiny",
        ),
        Parameter(
            "decoder",
            Kind.CHOICE,
            "Decoder",
            FULL,
            choices=(FULL, TINY),
            titles=("Model's own", "Tiny autoencoder"),
            help="The tiny one is many times quicker and loses detail.",
            group="tiny",
        ),
    )


def preview_of(params: Mapping[str, Any]) -> str:
    """Return how a job shows itself while it is sampled."""
    return str(params.get("preview", COLOURS))


def decodes(params: Mapping[str, Any]) -> bool:
    """Say whether a job is to be decoded by it."""
    return params.get("decoder") == TINY

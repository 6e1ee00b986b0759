"""The starter model: trained by us, small enough to ship, there from the first start.

`packaging/starter` holds the training; the model's own README.md its scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from core import resources
from core.jobs import Value

SIZE = 64
"""Width and height that it was trained for, pixels."""

FRAMES = 32
"""Longest clip that it was trained for."""

STEPS, GUIDANCE, SCHEDULER = 10, 2.5, "ddim"

DEFAULTS: Mapping[str, Value] = {
    "width": SIZE,
    "height": SIZE,
    "frames": 16,
    "steps": STEPS,
    "guidance_scale": GUIDANCE,
    "scheduler": SCHEDULER,
}
"""How it is meant to be run; its scores are measured so."""

SUMMARY = (
    "Draws one or two plain objects that move, and nothing else: ball, square, triangle, star or "
    "ring, in nine colours, on plain grounds, gradients, grass, the night sky or the sea."
)
EXAMPLES = (
    "a red ball bounces on a green field",
    "a yellow star moves left over the night sky",
    "a big blue square spins on a white background",
)


def folder() -> Path:
    """Return the model folder that ships. Raises FileNotFoundError when it is not there."""
    return resources.path("starter")

"""Names of what the judge can tell apart, and their colours."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

Colour = tuple[float, float, float]

COLOURS: Mapping[str, Colour] = {
    "red": (220, 38, 38),
    "orange": (248, 140, 24),
    "yellow": (246, 218, 46),
    "green": (36, 160, 62),
    "blue": (44, 84, 222),
    "purple": (136, 48, 190),
    "pink": (250, 134, 190),
    "white": (244, 244, 244),
    "grey": (128, 128, 128),
    "black": (22, 22, 22),
}
OBJECT_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")
PLAIN_COLOURS = ("white", "black", "grey", "blue", "yellow", "pink", "green", "orange")
GRADIENT_COLOURS = ("red", "green", "blue", "purple", "orange", "pink")

FIELD: Colour = (96, 178, 66)
NIGHT: Colour = (16, 18, 58)
SEA: Colour = (30, 116, 176)

SHAPES = ("ball", "square", "triangle", "star", "ring")
MOTIONS = (
    *("still", "left", "right", "up", "down", "bounces", "orbits"),
    *("spins", "grows", "shrinks", "pulses", "crosses"),
)
PAIR_MOTIONS = ("still", "left", "right", "up", "down", "passes")


def grade(colour: Colour) -> tuple[Colour, Colour]:
    """Return the colours at the top and at the bottom of a gradient."""
    red, green, blue = colour
    top = (red + (255 - red) * 0.45, green + (255 - green) * 0.45, blue + (255 - blue) * 0.45)
    return top, (red * 0.55, green * 0.55, blue * 0.55)


TURNING = ("square", "triangle", "star")
"""Shapes whose turning can be seen."""

CONTRAST = 95.0
"""Least distance between the colours of an object and what lies behind it."""

HELD_OUT = 10
"""One of so many combinations is never shown in training."""


def stands_out(colour: str, ground: str, ground_colour: str) -> bool:
    """Return whether an object of `colour` can be told from the background."""
    named = {"field": FIELD, "night": NIGHT, "sea": SEA}
    behind = [named[ground] if ground in named else COLOURS[ground_colour]]
    if ground == "gradient":
        top, bottom = grade(COLOURS[ground_colour])
        middle = ((top[0] + bottom[0]) / 2, (top[1] + bottom[1]) / 2, (top[2] + bottom[2]) / 2)
        behind += [top, middle, bottom]
    return all(math.dist(COLOURS[colour], other) > CONTRAST for other in behind)


def held_out(things: Sequence[tuple[str, str]], motion: str, background: str) -> bool:
    """Return whether a combination is kept for judging.

    Args:
        things: Colour and shape of each object.
        motion: How they move.
        background: Kind and colour of what lies behind, as the judge names it.
    """
    what = "+".join(f"{colour} {shape}" for colour, shape in things)
    key = f"{what}|{motion}|{background}"
    return hashlib.sha256(key.encode()).digest()[0] % HELD_OUT == 0

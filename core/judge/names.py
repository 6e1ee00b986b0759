"""Names of what the judge can tell apart, and their colours."""

from __future__ import annotations

from collections.abc import Mapping

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

"""Prompts whose fulfilment the judge can see, in combinations kept from training."""

from __future__ import annotations

import random
from dataclasses import dataclass

from core.judge import names

MOTION_WORDS = {
    "still": ("stands still", "rests"),
    "left": ("moves left", "flies to the left", "goes left"),
    "right": ("moves right", "flies to the right", "goes right"),
    "up": ("moves up", "rises", "flies up"),
    "down": ("moves down", "falls", "sinks"),
    "bounces": ("bounces", "jumps"),
    "orbits": ("orbits", "moves in a circle"),
    "spins": ("spins", "rotates"),
    "grows": ("grows", "gets bigger"),
    "shrinks": ("shrinks", "gets smaller"),
    "pulses": ("pulses", "pulsates"),
    "crosses": ("crosses the picture", "moves diagonally"),
}
PAIR_WORDS = {
    "still": "stand still",
    "left": "move left",
    "right": "move right",
    "up": "rise",
    "down": "fall",
    "passes": "pass each other",
}
GROUND_WORDS = {
    "field": ("on a green field", "on a meadow", "on grass"),
    "night": ("over the night sky", "in the night sky", "at night"),
    "sea": ("over the sea", "on the water", "on the ocean"),
}
KINDS = ("plain", "plain", "gradient", "field", "night", "sea")


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and what a clip made from it must show.

    Attributes:
        prompt: The words.
        colours: Colour of each object.
        shapes: Shape of each object.
        motion: How they move.
        background: What lies behind, as the judge names it.
    """

    prompt: str
    colours: tuple[str, ...]
    shapes: tuple[str, ...]
    motion: str
    background: str


def draw(seed: int, number: int, *, objects: int = 1) -> Asked:
    """Return prompt `number` of the list that belongs to `seed`.

    Motions take turns, so that all are asked for equally often.

    Args:
        seed: Chooses the list.
        number: Place in it, from 0.
        objects: How many objects are asked for, 1 or 2.
    """
    rng = random.Random(f"{seed}/{objects}/{number}")
    motions = names.MOTIONS if objects == 1 else names.PAIR_MOTIONS
    motion = motions[number % len(motions)]
    while True:
        ground = rng.choice(KINDS)
        tinted = {"plain": names.PLAIN_COLOURS, "gradient": names.GRADIENT_COLOURS}
        tint = rng.choice(tinted.get(ground, ("",)))
        background = f"{ground} {tint}".strip()
        able = [c for c in names.OBJECT_COLOURS if names.stands_out(c, ground, tint)]
        colours = tuple(rng.sample(able, objects))
        choice = names.TURNING if motion == "spins" else names.SHAPES
        shapes = tuple(rng.choice(choice) for _ in colours)
        if names.held_out(list(zip(colours, shapes, strict=True)), motion, background):
            prompt = _words(rng, colours, shapes, motion, ground, tint)
            return Asked(prompt, colours, shapes, motion, background)


def _words(
    rng: random.Random,
    colours: tuple[str, ...],
    shapes: tuple[str, ...],
    motion: str,
    ground: str,
    tint: str,
) -> str:
    size = rng.choice(("", "", "small ", "big ")) if len(colours) == 1 else ""
    things = [f"{size}{c} {s}" for c, s in zip(colours, shapes, strict=True)]
    what = " and ".join(("an " if t[0] in "aeiou" else "a ") + t for t in things)
    way = PAIR_WORDS[motion] if len(colours) == 2 else rng.choice(MOTION_WORDS[motion])
    if ground in GROUND_WORDS:
        where = rng.choice(GROUND_WORDS[ground])
    else:
        where = f"on a {tint} {'gradient' if ground == 'gradient' else 'background'}"
    return f"{where}, {what} {way}" if rng.random() < 0.15 else f"{what} {way} {where}"

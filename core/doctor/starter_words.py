"""What the starter clip is asked for, and what the judge must see in it."""

from __future__ import annotations

PROMPT = "a red ball bounces on a green field"
COLOUR, SHAPE, MOTION, BACKGROUND = "red", "ball", "bounces", "field"
SEED = 5

"""Prompts to try, as small buttons."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from widgets.parts import Button, FlowBox

_LONGEST = 30


def examples_box(examples: Sequence[str], use: Callable[[str], object]) -> FlowBox:
    """Return a box with one button per prompt; pressed, it calls `use` with the whole prompt."""
    box = FlowBox()
    for example in examples:
        words = " ".join(example.split())
        short = words if len(words) <= _LONGEST else words[: _LONGEST - 1].rstrip() + "…"
        chip = Button(short, "chip", tip=f"Use this prompt: {words}")
        chip.setAccessibleName(f"Example: {words}")
        chip.clicked.connect(lambda _=False, text=words: use(text))
        box.add(chip)
    return box

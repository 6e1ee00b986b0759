"""Captions: the words for what a scene shows, said in many ways."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from clip_tokens import split_word
from scenes import COLOURS, Scene, Thing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

SHAPE_WORDS = {
    "ball": ("ball", "ball", "circle", "disc", "dot"),
    "square": ("square", "square", "box", "block"),
    "triangle": ("triangle",),
    "star": ("star",),
    "ring": ("ring", "ring", "hoop"),
}
SIZE_WORDS = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium", "middle-sized"),
    "large": ("large", "big", "huge"),
}
MOTION_WORDS = {
    "still": ("", "", "stands still", "rests", "waits", "standing still"),
    "left": (
        "moves left",
        "moves to the left",
        "goes left",
        "flies to the left",
        "moving left",
        "slides left",
    ),
    "right": (
        "moves right",
        "moves to the right",
        "goes right",
        "flies to the right",
        "moving right",
        "slides right",
    ),
    "up": ("moves up", "rises", "goes up", "flies up", "moving up", "climbs"),
    "down": ("moves down", "falls", "goes down", "sinks", "moving down", "drops"),
    "bounces": ("bounces", "bouncing", "jumps", "hops", "bounces up and down"),
    "orbits": ("orbits", "orbiting", "moves in a circle", "goes around", "goes round and round"),
    "spins": ("spins", "spinning", "rotates", "turns", "rotating", "spins around"),
    "grows": ("grows", "growing", "gets bigger", "becomes larger", "expands"),
    "shrinks": ("shrinks", "shrinking", "gets smaller", "becomes smaller"),
    "pulses": ("pulses", "pulsing", "pulsates", "throbs"),
    "crosses": ("crosses", "crosses the picture", "crossing", "moves diagonally"),
    "passes": ("pass each other", "passing each other", "cross each other"),
}
PLURAL = {
    "moves": "move",
    "goes": "go",
    "flies": "fly",
    "slides": "slide",
    "rises": "rise",
    "climbs": "climb",
    "falls": "fall",
    "sinks": "sink",
    "drops": "drop",
    "stands": "stand",
    "rests": "rest",
    "waits": "wait",
}
PLAIN_WORDS = (
    "on a {} background",
    "on {}",
    "on a plain {} background",
    "over {}",
    "in front of a {} wall",
    "on a {} ground",
)
GRADIENT_WORDS = ("on a {} gradient", "over a {} gradient", "on a {} gradient background")
GROUND_WORDS = {
    "field": (
        "on a green field",
        "on a field",
        "on grass",
        "on a meadow",
        "on the green grass",
        "over a green field",
    ),
    "night": (
        "over the night sky",
        "in the night sky",
        "at night",
        "in the dark sky",
        "on a night sky",
        "under the stars",
    ),
    "sea": ("over the sea", "on the sea", "on the water", "over the ocean", "on the blue sea"),
}
LEADS = ("", "", "", "", "", "a video of", "a clip of", "an animation of", "a picture of")
OTHER_WORDS = (
    *("and", "with", "two", "one", "from", "by", "it", "is", "to", "of", "slowly", "quickly"),
    *("color", "colour", "colored", "coloured", "gray", "shape", "object", "bright", "style"),
    *("blurry", "bad", "low", "quality", "text", "watermark", "moving", "simple", "nice"),
)
"""Words that a prompt often has; all are in the vocabulary, few are in captions."""

EMPTY = 0.1
"""Share of captions that are left empty, for guidance."""

STRAY = 0.12
"""Share of captions with a word that means nothing here."""


def vocabulary() -> list[str]:
    """Return every word that the starter knows, each once."""
    found: dict[str, None] = {}
    texts: list[str] = [*COLOURS, *PLURAL.values(), *OTHER_WORDS, *LEADS, "a", "an", "the"]
    for table in (SHAPE_WORDS, SIZE_WORDS, MOTION_WORDS, GROUND_WORDS):
        for ways in table.values():
            texts.extend(ways)
    texts.extend(way.format("") for way in (*PLAIN_WORDS, *GRADIENT_WORDS))
    for text in texts:
        found.update(dict.fromkeys(pieces(text)))
    return [word for word in found if len(word) > 1] + [","]


def pieces(text: str) -> list[str]:
    """Return the words and marks of `text` as the tokenizer takes them apart."""
    return re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]+", text.lower())


def caption(scene: Scene, rng: np.random.Generator, *, clip: bool = True) -> str:
    """Return words for `scene`, chosen by `rng`; now and then none at all.

    Args:
        scene: What is shown.
        rng: Where chance comes from.
        clip: Words for the clip; otherwise for one picture of it.
    """
    if rng.random() < EMPTY:
        return ""
    text = plain_caption(scene, rng, clip=clip)
    return stray(text, rng) if rng.random() < STRAY else text


def plain_caption(
    scene: Scene, rng: np.random.Generator, *, clip: bool = True, whole: bool = False
) -> str:
    """Return words for `scene`; `whole` leaves out neither colour nor ground."""
    keep = 1.0 if whole else 0.9
    what = " and ".join(_thing(thing, scene, rng, keep) for thing in scene.things)
    motion = _pick(MOTION_WORDS[scene.motion], rng)
    if len(scene.things) == 2:
        first, *rest = motion.split(" ")
        motion = " ".join([PLURAL.get(first, first), *rest])
    if not clip and rng.random() < 0.2:
        motion = ""
    ground = _ground(scene, rng) if rng.random() < keep else ""
    lead = _pick(LEADS, rng)
    if rng.random() < 0.15 and ground:
        order = [ground + ",", lead, what, motion]
    elif rng.random() < 0.12:
        return ", ".join(part for part in (what, motion, ground) if part)
    else:
        order = [lead, what, motion, ground]
    return " ".join(part for part in order if part)


def _thing(thing: Thing, scene: Scene, rng: np.random.Generator, keep: float) -> str:
    words = [thing.colour] if rng.random() < keep else []
    if len(scene.things) == 1 and rng.random() < 0.35:
        words.insert(0, _pick(SIZE_WORDS[thing.size], rng))
    words.append(_pick(SHAPE_WORDS[thing.shape], rng))
    if rng.random() < 0.12:
        return " ".join(words)
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join([article if rng.random() < 0.9 else "the", *words])


def _ground(scene: Scene, rng: np.random.Generator) -> str:
    if scene.ground == "plain":
        # A green field is grass.
        ways = PLAIN_WORDS if scene.ground_colour == "green" else (*PLAIN_WORDS, "on a {} field")
        name = scene.ground_colour
        grey = "gray" if name == "grey" and rng.random() < 0.3 else name
        return _pick(ways, rng).format(grey)
    if scene.ground == "gradient":
        return _pick(GRADIENT_WORDS, rng).format(scene.ground_colour)
    return _pick(GROUND_WORDS[scene.ground], rng)


def stray(text: str, rng: np.random.Generator) -> str:
    """Return `text` with one or two words put in that name nothing known."""
    words = text.split(" ")
    for _ in range(int(rng.integers(1, 3))):
        if rng.random() < 0.5:
            word = _pick(OTHER_WORDS, rng)
        else:
            letters = rng.integers(97, 123, int(rng.integers(3, 8)))
            word = "".join(map(chr, letters.tolist()))
        words.insert(int(rng.integers(len(words) + 1)), word)
    return " ".join(words)


def _pick(ways: Sequence[str], rng: np.random.Generator) -> str:
    return ways[int(rng.integers(len(ways)))]


class Tokens:
    """Turns captions into numbers, as CLIP's tokenizer does with our vocabulary."""

    def __init__(self, vocabulary: Mapping[str, int], merges: Sequence[str], length: int) -> None:
        self._numbers = dict(vocabulary)
        pairs = (merge.split(" ") for merge in merges)
        self._merges = {(left, right): place for place, (left, right) in enumerate(pairs)}
        self._length = length
        self._end = max(vocabulary.values())

    def __call__(self, text: str) -> list[int]:
        """Return start, words, end, and more ends up to the full length."""
        numbers = [self._end - 1]
        for word in pieces(text):
            whole = self._numbers.get(word + "</w>")
            if whole is not None:
                numbers.append(whole)
            else:
                numbers.extend(self._numbers[part] for part in split_word(word, self._merges))
        numbers = [*numbers[: self._length - 1], self._end]
        return numbers + [self._end] * (self._length - len(numbers))


ALIKE = {
    "left": ("left",),
    "right": ("right",),
    "up": ("up", "rises", "rise", "climbs", "climb"),
    "down": ("down", "falls", "fall", "sinks", "sink", "drops", "drop"),
    "bounces": ("bounces", "bouncing", "jumps", "hops"),
    "orbits": ("orbits", "orbiting", "around", "round"),
    "spins": ("spins", "spinning", "rotates", "rotating", "turns"),
    "grows": ("grows", "growing", "bigger", "larger", "expands"),
    "shrinks": ("shrinks", "shrinking", "smaller"),
    "pulses": ("pulses", "pulsing", "pulsates", "throbs"),
    "crosses": ("crosses", "crossing", "diagonally"),
    "passes": ("pass", "passing", "each", "other"),
    "still": ("still", "rests", "rest", "waits", "wait", "stands", "stand"),
}
"""Words that begin with nearly the same meaning, so that none is learned all alone."""


def begin_alike(embedding: Any, vocabulary: Mapping[str, int]) -> None:
    """Add to the embeddings of words that mean the same one common part.

    Args:
        embedding: Weights of the text encoder's embedding, shape (tokens, width).
        vocabulary: The tokenizer's numbers.
    """
    import torch

    chance = torch.Generator("cpu").manual_seed(11)
    with torch.no_grad():
        for group in ALIKE.values():
            common = 0.12 * torch.randn(embedding.shape[1], generator=chance)
            for word in group:
                embedding[vocabulary[word + "</w>"]] += common.to(embedding)

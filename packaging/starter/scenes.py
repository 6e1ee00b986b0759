"""Scenes for the starter model: what may be asked for, and its pictures.

A scene is drawn at random from a generator, so a seed gives the same scenes
on every machine. Pictures are painted by signed distances, so that edges are
smooth at any place, size and angle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.judge.names import (
    COLOURS,
    FIELD,
    GRADIENT_COLOURS,
    MOTIONS,
    NIGHT,
    OBJECT_COLOURS,
    PAIR_MOTIONS,
    PLAIN_COLOURS,
    SEA,
    SHAPES,
    TURNING,
    grade,
    held_out,
    stands_out,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Pixels = npt.NDArray[np.uint8]

SIDE = 64
"""Width and height of a frame, pixels."""

RADII = {"small": 8.0, "medium": 11.5, "large": 16.0}
GROWN = {"small": 11.0, "medium": 15.0, "large": 20.0}
"""Radius at the large end of growing and shrinking."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One object.

    Attributes:
        shape: One of `SHAPES`.
        colour: One of `OBJECT_COLOURS`.
        size: A key of `RADII`.
        tint: Exact colour, 0 to 255.
    """

    shape: str
    colour: str
    size: str
    tint: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a clip shows.

    Attributes:
        things: One or two objects; of two, the left or upper one is first.
        motion: One of `MOTIONS`, or of `PAIR_MOTIONS` for two.
        ground: Kind of background: plain, gradient, field, night or sea.
        ground_colour: Colour of a plain or graded background, else "".
        shade: What is added to the background's colours.
        place: Four numbers from -1 to 1 that vary path and background.
    """

    things: tuple[Thing, ...]
    motion: str
    ground: str
    ground_colour: str
    shade: tuple[float, float, float]
    place: tuple[float, float, float, float]

    @property
    def background(self) -> str:
        """Return the background as the judge names it."""
        return f"{self.ground} {self.ground_colour}".strip()

    @property
    def held_out(self) -> bool:
        """Return whether scenes like this are kept for judging."""
        things = [(thing.colour, thing.shape) for thing in self.things]
        return held_out(things, self.motion, self.background)


def draw(rng: np.random.Generator, *, kept: bool = False, pairs: float = 0.2) -> Scene:
    """Return a random scene.

    Args:
        rng: Where chance comes from.
        kept: Take it from the scenes kept for judging, or from the others.
        pairs: Share of scenes with two objects.
    """
    while True:
        scene = _any(rng, bool(rng.random() < pairs))
        if scene is not None and scene.held_out == kept:
            return scene


def _any(rng: np.random.Generator, pair: bool) -> Scene | None:
    ground = str(rng.choice(["plain", "gradient", "field", "night", "sea"], p=_GROUNDS))
    tinted = {"plain": PLAIN_COLOURS, "gradient": GRADIENT_COLOURS}.get(ground, ("",))
    ground_colour = str(rng.choice(tinted))
    colours = [c for c in OBJECT_COLOURS if stands_out(c, ground, ground_colour)]
    things = []
    motion = str(rng.choice(PAIR_MOTIONS)) if pair else str(rng.choice(MOTIONS, p=_MOTION_SHARES))
    for _ in range(2 if pair else 1):
        colour = str(rng.choice(colours))
        colours.remove(colour)
        size = "small" if pair else str(rng.choice(list(RADII)))
        jitter = rng.uniform(-10, 10, 3)
        red, green, blue = np.clip(np.add(COLOURS[colour], jitter), 0, 255).tolist()
        shape = str(rng.choice(TURNING if motion == "spins" else SHAPES))
        things.append(Thing(shape, colour, size, (red, green, blue)))
    shade = rng.uniform(-8, 8, 3).tolist()
    a, b, c, d = rng.uniform(-1, 1, 4).tolist()
    return Scene(tuple(things), motion, ground, ground_colour, tuple(shade), (a, b, c, d))


_GROUNDS = (0.36, 0.19, 0.15, 0.15, 0.15)
_MOTION_SHARES = np.array([0.8] + [1.0] * 11) / 11.8


# ---- painting ----------------------------------------------------------------

_YS, _XS = (axis.astype(np.float32) + 0.5 for axis in np.mgrid[:SIDE, :SIDE])
_STARS = np.array(
    [(7, 9), (21, 5), (38, 12), (56, 6), (12, 27), (51, 29), (6, 45), (29, 40), (45, 51), (20, 58)],
    dtype=np.float32,
)


def render(scene: Scene, frames: int, only: list[int] | None = None) -> Pixels:
    """Return the clip of `scene`: bytes of shape (frames, SIDE, SIDE, 3).

    Args:
        scene: What to show.
        frames: Length of the clip.
        only: Paint just these of its frames.
    """
    wanted = list(range(frames)) if only is None else only
    picture = np.repeat(background(scene)[None], len(wanted), 0)
    for thing, path in zip(scene.things, paths(scene, frames), strict=True):
        cover = coverage(thing.shape, path[wanted])[..., None]
        picture += cover * (np.asarray(thing.tint, np.float32) - picture)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def covered(scene: Scene, frames: int, only: list[int]) -> Floats:
    """Return how far objects cover each pixel of the frames `only`."""
    found = zip(scene.things, paths(scene, frames), strict=True)
    return np.max([coverage(thing.shape, path[only]) for thing, path in found], axis=0)


def background(scene: Scene) -> Floats:
    """Return what lies behind the objects, shape (SIDE, SIDE, 3), 0 to 255."""
    shade = np.asarray(scene.shade, np.float32)
    one = np.ones((SIDE, SIDE, 1), np.float32)
    if scene.ground == "plain":
        return one * (np.asarray(COLOURS[scene.ground_colour], np.float32) + shade)
    if scene.ground == "gradient":
        top, bottom = (np.asarray(c, np.float32) for c in grade(COLOURS[scene.ground_colour]))
        down = (_YS / SIDE)[..., None]
        return top + (bottom - top) * down + shade
    if scene.ground == "field":
        # Mown stripes.
        stripes = np.tanh(3 * np.sin(_XS * (2 * np.pi / 32)))[..., None] * 13
        return np.asarray(FIELD, np.float32) + shade + stripes
    if scene.ground == "sea":
        waves = np.sin(_YS * (2 * np.pi / 16) + 1.2 * np.sin(_XS * (2 * np.pi / 32)))[..., None]
        return np.asarray(SEA, np.float32) + shade + waves * 20
    stars = _STARS.copy()
    if scene.place[3] > 0:
        stars[:, 0] = SIDE - stars[:, 0]
    distance = np.hypot(_XS[..., None] - stars[:, 0], _YS[..., None] - stars[:, 1]).min(2)
    light = np.clip(2.0 - distance, 0, 1)[..., None]
    night = np.asarray(NIGHT, np.float32) + shade
    return night + light * (np.float32([250, 250, 225]) - night)


def coverage(shape: str, path: Floats) -> Floats:
    """Return how far an object covers each pixel.

    Args:
        shape: One of `SHAPES`.
        path: Per frame x, y, radius and angle in radians, clockwise.

    Returns:
        Shares from 0 to 1, shape (frames, SIDE, SIDE).
    """
    x, y, radius, angle = (path[:, i, None, None] for i in range(4))
    dx, dy = _XS - x, _YS - y
    if shape in TURNING:
        cos, sin = np.cos(angle), np.sin(angle)
        dx, dy = dx * cos + dy * sin, dy * cos - dx * sin
    if shape == "ball":
        distance = np.sqrt(dx * dx + dy * dy) - radius
    elif shape == "ring":
        distance = np.abs(np.sqrt(dx * dx + dy * dy) - radius * 0.82) - radius * 0.26
    elif shape == "square":
        distance = np.maximum(np.abs(dx), np.abs(dy)) - radius * 0.89
    elif shape == "triangle":
        slope = np.abs(dx) * 0.8660254 - dy * 0.5
        distance = np.maximum(slope, dy) - radius * 0.76
    else:
        distance = _star(dx, dy, radius * 1.36)
    return np.clip(0.5 - distance, 0, 1).astype(np.float32)


def _star(dx: Floats, dy: Floats, outer: Floats) -> Floats:
    """Return distances to a star of five points, one of them up."""
    share = 0.46
    fifth = 2 * np.pi / 5
    turned = np.arctan2(dx, -dy) % fifth
    folded = np.minimum(turned, fifth - turned)
    far = np.sqrt(dx * dx + dy * dy)
    along, aside = far * np.cos(folded), far * np.sin(folded)
    # The edge runs from the tip to the notch half a fifth further.
    notch_x, notch_y = share * np.cos(fifth / 2), share * np.sin(fifth / 2)
    length = np.hypot(1 - notch_x, notch_y)
    distance: Floats = ((along - outer) * notch_y + aside * (1 - notch_x)) / length
    return distance


# ---- motion ------------------------------------------------------------------

START = -0.4
"""Where a straight way begins: 1 is at the edge it leads to, 0 in the middle."""


def paths(scene: Scene, frames: int) -> list[Floats]:
    """Return for each object its x, y, radius and angle, shape (frames, 4)."""
    time = np.linspace(0, 1, frames, dtype=np.float32)
    if len(scene.things) == 2:
        return _pair_paths(scene, time)
    thing = scene.things[0]
    radius = RADII[thing.size]
    a, b, c, _ = scene.place
    middle = SIDE / 2
    near = radius * 1.15 + 1.5
    room = max(0.0, min(13.0, middle - near - 2))
    x = np.full_like(time, middle + a * room * 0.65)
    y = np.full_like(time, middle + b * room * 0.65)
    size, angle = np.full_like(time, radius), np.zeros_like(time)
    reach = middle - near - abs(c) * 2.5
    # What moves left is mostly on the left: even one frame then says something of the word.
    ahead = reach * (START + (1 - START) * time)
    start, end = middle - reach, middle + reach
    match scene.motion:
        case "right":
            x = middle + ahead
        case "left":
            x = middle - ahead
        case "down":
            y = middle + ahead
        case "up":
            y = middle - ahead
        case "crosses":
            x = start + (end - start) * time
            y = SIDE - x
        case "bounces":
            y = end - (end - start) * np.abs(np.sin(2 * np.pi * time))
        case "orbits":
            turn = 2 * np.pi * np.arange(len(time)) / len(time)
            x, y = middle + reach * np.sin(turn), middle - reach * np.cos(turn)
        case "spins":
            x, y = middle + (x - middle) * 0.4, middle + (y - middle) * 0.4
            angle = np.pi * time
        case "grows" | "shrinks" | "pulses":
            x, y = middle + (x - middle) * 0.4, middle + (y - middle) * 0.4
            size = _breath(scene.motion, time, radius, GROWN[thing.size])
        case _:
            pass
    return [np.stack([x, y, size, angle], 1).astype(np.float32)]


def _breath(motion: str, time: Floats, radius: float, grown: float) -> Floats:
    """Return the radius over time of what changes its size."""
    if motion == "pulses":
        return (radius * (1 + 0.3 * np.sin(4 * np.pi * time))).astype(np.float32)
    share = 0.55 + 0.55 * time if motion == "grows" else 0.9 - 0.5 * time
    return (grown * share).astype(np.float32)


def _pair_paths(scene: Scene, time: Floats) -> list[Floats]:
    radius = RADII["small"] + 0.8
    a, b, c, _ = scene.place
    reach = SIDE / 2 - 11.5 - abs(c) * 3
    ahead = reach * (START + (1 - START) * time)
    forth, back = SIDE / 2 + ahead, SIDE / 2 - ahead
    lanes = [np.full_like(time, lane + a * 2.5) for lane in (18.0, SIDE - 18.0)]
    still = np.full_like(time, SIDE / 2 + b * 10)
    ways = {
        "right": [(forth, lanes[0]), (forth, lanes[1])],
        "left": [(back, lanes[0]), (back, lanes[1])],
        "down": [(lanes[0], forth), (lanes[1], forth)],
        "up": [(lanes[0], back), (lanes[1], back)],
        "passes": [(forth, lanes[0]), (back, lanes[1])],
        "still": [(lanes[0], still), (lanes[1], still)],
    }
    size, angle = np.full_like(time, radius), np.zeros_like(time)
    return [np.stack([x, y, size, angle], 1) for x, y in ways[scene.motion]]

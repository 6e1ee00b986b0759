"""Looks at a clip and says what it shows, by plain image processing.

It knows nothing of the model or the words that made the clip, so what it
says is evidence. Tests hold it against clips whose content is known.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.judge import motion, names, shape
from core.judge.regions import Floats, Region, background_of, coverage, regions

THRESHOLD = 50.0
"""Distance of colours from which a pixel is not background."""

PRESENT = 0.6
"""Share of frames in which an object must be seen."""

ALIKE = 0.3
"""A second object is at least this share of the first one's area."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One object of a clip.

    Attributes:
        colour: Name of its colour.
        shape: Name of its shape.
        motion: How it moves.
        x: Its centre over time, pixels; one number for each frame it is seen in.
        y: The same, downwards.
        area: Pixels it covers over time.
        colour_change: Greatest change of a colour channel from its middle, 0 to 1.
        size_change: Greatest change of the diameter from its middle, 0 to 1.
    """

    colour: str
    shape: str
    motion: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    area: tuple[float, ...]
    colour_change: float
    size_change: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What a clip shows.

    Attributes:
        things: Objects; of two, the left or upper one is first.
        motion: How they move, taken together; "" if there is no object.
        background: Kind and colour, such as "plain white", "gradient red" or "sea".
        murk: Share of pixels that are neither background, object nor soft edge.
    """

    things: tuple[Thing, ...]
    motion: str
    background: str
    murk: float

    @property
    def colours(self) -> tuple[str, ...]:
        """Return the colours of the objects."""
        return tuple(thing.colour for thing in self.things)

    @property
    def clean(self) -> bool:
        """Return whether the clip has one or two clear objects and little else."""
        return bool(self.things) and self.murk < 0.04


def look(clip: npt.NDArray[np.uint8]) -> Seen:
    """Say what a clip shows.

    Args:
        clip: Frames in order, bytes R,G,B of shape (frames, height, width, 3).
    """
    frames = clip.astype(np.float32)
    behind = background_of(frames)
    seen = regions(frames, behind, THRESHOLD)
    tracks = _tracks(seen)
    things = tuple(_thing(track, frames, behind) for track in tracks)
    words = [thing.motion for thing in things]
    together = motion.pair_word(*words) if len(words) == 2 else (words or [""])[0]
    return Seen(things, together, background_name(behind), _murk(frames, behind, tracks))


def colour_name(colour: npt.ArrayLike, choice: tuple[str, ...] = names.OBJECT_COLOURS) -> str:
    """Return which of the colours in `choice` is nearest."""
    known = np.array([names.COLOURS[key] for key in choice])
    return choice[int(np.linalg.norm(known - np.asarray(colour), axis=1).argmin())]


def background_name(behind: Floats) -> str:
    """Return the name of a background, given its colour behind each row."""
    top, bottom = behind[: len(behind) // 6].mean(0), behind[-len(behind) // 6 :].mean(0)
    middle = behind.mean(0)
    if float((top - bottom).mean()) > 35:
        known = {}
        for key in names.GRADIENT_COLOURS:
            light, dark = names.grade(names.COLOURS[key])
            known[f"gradient {key}"] = np.concatenate([light, dark])
        return _nearest(np.concatenate([top, bottom]), known)
    known = {f"plain {key}": np.asarray(names.COLOURS[key]) for key in names.PLAIN_COLOURS}
    special = {"field": names.FIELD, "night": names.NIGHT, "sea": names.SEA}
    known |= {key: np.asarray(colour) for key, colour in special.items()}
    return _nearest(middle, known)


def _nearest(colour: npt.ArrayLike, known: dict[str, npt.NDArray[np.float64]]) -> str:
    return min(known, key=lambda key: float(np.linalg.norm(known[key] - np.asarray(colour))))


# ---- objects over time ---------------------------------------------------------


def _tracks(seen: list[list[Region]]) -> list[list[Region]]:
    """Follow the one or two main objects through the frames."""
    needed = PRESENT * len(seen)
    main = [found[0] for found in seen if found]
    if len(main) < needed:
        return []
    pairs = [
        found[:2] for found in seen if len(found) > 1 and found[1].area > ALIKE * found[0].area
    ]
    if len(pairs) < needed:
        return [main]
    return _pair(pairs)


def _pair(pairs: list[list[Region]]) -> list[list[Region]]:
    """Sort two objects per frame into two tracks, by colour."""
    named = Counter(colour_name(region.colour) for pair in pairs for region in pair)
    common = [name for name, _ in named.most_common(2)]
    first: list[Region] = []
    second: list[Region] = []
    for pair in pairs:
        one, other = pair
        if len(common) == 2 and _fits(other, common[0]) + _fits(one, common[1]) < (
            _fits(one, common[0]) + _fits(other, common[1])
        ):
            one, other = other, one
        first.append(one)
        second.append(other)
    mean = [np.mean([_centre(region) for region in track], axis=0) for track in (first, second)]
    apart = mean[1] - mean[0]
    along = 0 if abs(apart[0]) > abs(apart[1]) else 1
    return [first, second] if apart[along] > 0 else [second, first]


def _fits(region: Region, colour: str) -> float:
    return float(np.linalg.norm(region.colour - np.asarray(names.COLOURS[colour])))


def _centre(region: Region) -> tuple[float, float]:
    ys, xs = np.nonzero(region.mask)
    return float(xs.mean()), float(ys.mean())


def _thing(track: list[Region], frames: Floats, behind: Floats) -> Thing:
    covers = [coverage(frames[region.frame], behind, region) for region in track]
    found = np.array([shape.moments(cover) for cover in covers])
    x, y, area = found.T
    outlines, middles = zip(*(shape.outline(cover) for cover in covers), strict=True)
    # The shape shows best where the object is large.
    large = [i for i in range(len(track)) if area[i] >= 0.6 * area.max()]
    times = [track[i].frame / max(1, len(frames) - 1) for i in large]
    kind = shape.name([outlines[i] for i in large], [middles[i] for i in large], times)
    colours = np.array([region.colour for region in track])
    middle = np.median(colours, axis=0)
    size = np.sqrt(area)
    return Thing(
        colour=colour_name(middle),
        shape=kind,
        motion=motion.word(x, y, area, shape.turned(list(outlines), kind)),
        x=tuple(x.tolist()),
        y=tuple(y.tolist()),
        area=tuple(area.tolist()),
        colour_change=float(np.abs(colours - middle).max() / 255),
        size_change=float(np.abs(size / np.median(size) - 1).max()),
    )


def _murk(frames: Floats, behind: Floats, tracks: list[list[Region]]) -> float:
    """Return the share of pixels for which there is no explanation."""
    away = np.linalg.norm(frames - behind[None, :, None], axis=3)
    odd = away > THRESHOLD
    for track in tracks:
        for region in track:
            wide = region.mask.copy()
            for axis in (0, 1):
                wide |= np.roll(wide, 1, axis) | np.roll(wide, -1, axis)
            off = np.linalg.norm(frames[region.frame] - region.colour, axis=2) > 60
            inner = region.mask.copy()
            for axis in (0, 1):
                for way in (1, -1):
                    inner &= np.roll(region.mask, way, axis)
            odd[region.frame][wide] = (off & inner)[wide]
    # A few bright dots are stars.
    return max(0.0, float(odd.mean()) - (0.03 if _dark(behind) else 0.0))


def _dark(behind: Floats) -> bool:
    return background_name(behind) == "night"

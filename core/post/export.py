"""Making another file of a finished clip: another format, more frames, more pixels."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import formats
from core.errors import Category, Problem, ProblemError, invalid
from core.events import Output
from core.jobs import Job, Phase
from core.outputs import Wish, read_recipe, remove_leftovers, writer_of
from core.outputs.behind import Behind
from core.outputs.container import kind_of
from core.outputs.read import Reading, reading
from core.post.plan import Plan, Post

if TYPE_CHECKING:
    import numpy as np

Told = Callable[[Phase, int, int], None]
"""Told (phase, frames done, frames in all); what it raises ends the work."""


@dataclass(frozen=True, slots=True)
class Export:
    """What is made of a clip.

    Attributes:
        source: The clip; any that can be read here.
        target: Where the new one goes; its ending fits the format.
        format: One of `core.formats.NAMES`.
        plan: What is done to the frames.
        replace: A file at the target is replaced; a folder never is.
    """

    source: Path
    target: Path
    format: str
    plan: Plan
    replace: bool = False


def export(wish: Export, told: Told, device: Callable[[], str] = lambda: "cpu") -> Output:
    """Make the file that is wished for, verified like any other; its source stays as it is.

    Args:
        wish: What to make.
        told: Told how far it is, before each frame.
        device: Says where an upscale model computes.

    Raises:
        ProblemError: The source cannot be read, the target not be written, or a value
            makes no sense. Nothing is left of the target then.
    """
    source = reading(wish.source)
    _check(wish, source)
    fps = Fraction(str(wish.plan.fps(source.fps, wish.format))).limit_denominator(1001)
    wish.plan.check(source.width, source.height)
    job = _job(wish, source)
    total = wish.plan.frames(source.frames)
    done = 0

    def heard() -> None:
        told(Phase.DECODE, done, total)

    ways = Wish(
        facts={"exported": {"from": wish.source.name, "frames": source.frames}},
        fps=fps,
        any_size=True,
        alone=True,
        replace=wish.replace,
        on_encode=partial(told, Phase.ENCODE),
    )
    post = Post(wish.plan, device, heard)
    try:
        writer = writer_of(job)(job, partial(told, Phase.VERIFY), ways)
        with Behind(writer, heard) as behind:
            for frame in _made(source, post):
                behind.add(frame)
                done += 1
            return behind.finish({"post": post.facts(), "exported_at": time.time()})
    except FileExistsError as error:
        raise _taken(wish.target) from error
    finally:
        remove_leftovers(wish.target)


def _made(source: Reading, post: Post) -> Iterator[np.ndarray]:
    for frame in source.frames_rgb():
        yield from post.push(frame)
    yield from post.end()


def _check(wish: Export, source: Reading) -> None:
    still = "image" if source.frames == 1 else "video"
    suffix = formats.suffix_of(still, {"format": wish.format})
    if wish.format not in formats.NAMES:
        known = ", ".join(formats.NAMES)
        raise invalid("format", f"The format {wish.format!r} is not known.", f"Use: {known}.")
    if wish.target.suffix.lower() != suffix:
        raise invalid(
            "out", f"{wish.target.name} does not end in {suffix}.", f"Name it something{suffix}."
        )
    if wish.target.exists():
        same = wish.target.resolve() == wish.source.resolve()
        if same or not wish.replace or wish.target.is_dir():
            raise _taken(wish.target)


def _taken(target: Path) -> ProblemError:
    return ProblemError(
        Problem(
            Category.INVALID_PARAMS,
            f"There is a {target.name} in {target.parent} already.",
            "Choose another name.",
            field="out",
        )
    )


def _job(wish: Export, source: Reading) -> Job:
    """Return the job whose result this is: that of the source, or one that tells little."""
    try:
        told: Any = read_recipe(wish.source)["job"]
        params = dict(told["params"])
    except (ProblemError, KeyError, TypeError, ValueError):
        told, params = {}, {}
    params["format"] = wish.format
    params.pop("frames", None)
    if source.frames > 1:
        params["frames"] = source.frames
    return Job(
        id=str(uuid.uuid4()),
        recipe=str(told.get("recipe", "")),
        engine=str(told.get("engine", "")),
        family=str(told.get("family", "")),
        title=str(told.get("title", wish.source.stem)),
        params=params,
        model=str(told.get("model", "")),
        output=str(wish.target.absolute()),
        created_at=time.time(),
        recipe_title=str(told.get("recipe_title", "")),
    )


def default_target(source: Path, format_name: str) -> Path:
    """Return a free name beside a clip for an export of it. Raises KeyError for no format."""
    source = source.resolve() if source.name in ("", "..") else source
    if not source.name:
        raise invalid("clip", f"{source} is no clip.", "Name a file, or a folder of pictures.")
    kind = kind_of(source) if source.exists() else None
    suffix = ".png" if kind is not None and kind.still else formats.ending(format_name)
    for number in range(1, 10_000):
        more = "" if number == 1 else f"-{number}"
        target = source.with_name(f"{source.stem}{more}{suffix}")
        if not target.exists():
            return target
    raise _taken(source.with_suffix(suffix))


def format_for(target: Path) -> str | None:
    """Return the format that a name asks for by its ending; None when it asks for none."""
    found = (name for name in formats.NAMES if formats.ending(name) == target.suffix.lower())
    return next(found, None)

"""The contact sheet: a few pictures of each clip, or words where there are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from core.errors import ProblemError
from core.morning.report import Scene
from core.outputs.thumbs import thumbnails

PICTURES = 3
SIDE = 280
"""Pixels."""
MOST_CLIPS = 200
MOST_SECONDS = 30.0
"""For all clips together; those after that are shown in words."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What stands for a clip on the sheet.

    Attributes:
        pictures: JPEG files.
        words: Why there are none.
    """

    pictures: tuple[bytes, ...] = ()
    words: str = ""


class GivenUpError(Exception):
    """Nobody waits for the sheet any more."""


def sheet(
    scenes: Sequence[Scene],
    clock: Callable[[], float] = monotonic,
    wanted: Callable[[], bool] = lambda: True,
) -> Mapping[str, Shown]:
    """Return what stands for each job's clip, by the job's id; reads the clips (50 ms each).

    Raises:
        GivenUpError: It is not `wanted` any more; asked before each clip.
    """
    until = clock() + MOST_SECONDS
    shown: dict[str, Shown] = {}
    for scene in scenes:
        if scene.output is None:
            continue
        if not wanted():
            raise GivenUpError
        if len(shown) >= MOST_CLIPS or clock() > until:
            shown[scene.job.id] = Shown(words="Not shown: there were too many clips.")
            continue
        shown[scene.job.id] = _shown(scene.output.path)
    return shown


def _shown(path: str) -> Shown:
    try:
        return Shown(tuple(thumbnails(path, PICTURES, side=SIDE)))
    except ProblemError as error:
        return Shown(words=error.problem.message)
    except Exception as error:  # noqa: BLE001 - one odd file must not cost the whole report
        return Shown(words=f"The clip cannot be shown: {type(error).__name__}.")

"""Reading clips back: frames to play, and the recipe that made them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from core.errors import Category, Problem, ProblemError
from core.outputs import webp
from core.outputs.beside import recorded
from core.outputs.container import (
    MOVING_WEBP,
    SEQUENCE_KIND,
    FileKind,
    kind_of,
    numbered,
    open_to_read,
)
from core.outputs.look import MOST_PIXELS
from core.outputs.verify import picture_of

RECIPE_KEY = "framedeck"
"""Name of the metadata entry that holds the recipe as JSON."""


UNTOLD_FPS = 8.0
"""Rate of a folder of pictures that nothing tells of."""


@dataclass(frozen=True, slots=True)
class ReadFrame:
    """One frame of a clip, ready to paint.

    Attributes:
        index: Position, from 0.
        total: Frames that the clip speaks of.
        width: Pixels, maybe less than in the file.
        height: Pixels, maybe less than in the file.
        bgra: Rows of width * 4 bytes: B, G, R, 255.
    """

    index: int
    total: int
    width: int
    height: int
    fps: float
    bgra: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """A clip that is read at its full size.

    Attributes:
        frames: How many it holds.
        frames_rgb: Yields them, uint8 (height, width, 3) R,G,B. Raises ProblemError.
    """

    frames: int
    width: int
    height: int
    fps: float
    frames_rgb: Callable[[], Iterator[Any]]


def reading(path: str | os.PathLike[str]) -> Reading:
    """Return how to read a clip or picture wholly, its frames counted.

    Raises:
        ProblemError: It is missing, of no known kind, or cannot be decoded.
    """
    clip = Path(path)
    with _readable(clip):
        kind = kind_of(clip)
        if kind is None:
            raise ValueError("a kind of file that is not read here")
        count, width, height, fps = 0, 0, 0, 0.0
        if kind in (SEQUENCE_KIND, MOVING_WEBP):
            fps, pictures = _pictures(clip, kind)
            count = len(pictures)
            if pictures:
                first = pictures[0]()
                width, height = first.width, first.height
        else:
            with open_to_read(clip, format=kind.format) as container:
                stream = container.streams.video[0]
                width, height = stream.width, stream.height
                count = sum(1 for packet in container.demux(stream) if packet.size)
                fps = float(stream.average_rate or 1)
        if not count or width * height > MOST_PIXELS or not width:
            raise ValueError("no frames in it that can be decoded")
    return Reading(count, width, height, _told_fps(clip) or fps, partial(_rgb, clip, kind))


def _rgb(clip: Path, kind: FileKind) -> Iterator[Any]:
    with _readable(clip):
        if kind in (SEQUENCE_KIND, MOVING_WEBP):
            for take in _pictures(clip, kind)[1]:
                yield _colours(take())
            return
        with open_to_read(clip, format=kind.format) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                yield _colours(frame)


def _colours(frame: Any) -> Any:
    import numpy as np

    if not frame.format.is_rgb:
        frame = _converted(frame, "rgb24", frame.width, frame.height)
    return np.ascontiguousarray(frame.to_ndarray(format="rgb24"))


@contextmanager
def _readable(clip: Path) -> Iterator[None]:
    """Turn what cannot be read into a Problem."""
    import av

    if not clip.exists():
        raise ProblemError(
            Problem(
                Category.STORAGE,
                f"The clip {clip.name} is not there any more.",
                f"Look in {clip.parent}, or make it again from its job.",
            )
        )
    try:
        yield
    except (av.FFmpegError, ValueError, OSError, IndexError) as error:
        raise ProblemError(
            Problem(
                Category.BAD_OUTPUT,
                f"The clip {clip.name} cannot be played to its end.",
                "It may have been damaged; make it again from its job.",
                details=f"{clip}\n{error!r}",
            )
        ) from error


def read_frames(path: str | os.PathLike[str], max_bytes: int) -> Iterator[ReadFrame]:
    """Yield the frames of a clip in order, scaled down when all of them exceed `max_bytes`.

    Args:
        path: The clip.
        max_bytes: Most bytes that all frames together may take.

    Raises:
        ProblemError: The clip is missing, or cannot be decoded.
    """
    clip = Path(path)
    with _readable(clip):
        kind = kind_of(clip)
        if kind in (SEQUENCE_KIND, MOVING_WEBP):
            yield from _one_by_one(clip, kind, max_bytes)
            return
        with open_to_read(clip) as container:
            video = container.streams.video
            if not video or video[0].codec_context is None:
                raise ValueError("no video in it that can be decoded")
            yield from _decode(container, max_bytes, _told_fps(clip))


def _decode(container: Any, max_bytes: int, told_fps: float) -> Iterator[ReadFrame]:
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    total = stream.frames
    width, height = fitting(stream.width, stream.height, total or 1, max_bytes)
    # FFmpeg guesses the rate of a GIF.
    fps = told_fps or float(stream.average_rate or 1)
    for index, frame in enumerate(container.decode(stream)):
        yield _shown(frame, (index, max(total, index + 1)), (width, height), fps)


def _one_by_one(clip: Path, kind: FileKind, max_bytes: int) -> Iterator[ReadFrame]:
    """As `_decode`, of what FFmpeg does not read as a whole. Raises OSError too."""
    fps, pictures = _pictures(clip, kind)
    size: tuple[int, int] | None = None
    for index, frame in enumerate(take() for take in pictures):
        size = size or fitting(frame.width, frame.height, len(pictures), max_bytes)
        yield _shown(frame, (index, len(pictures)), size, fps)


def _pictures(clip: Path, kind: FileKind) -> tuple[float, list[Callable[[], Any]]]:
    """Return the rate of a clip, and for each frame what decodes it."""
    if kind is MOVING_WEBP:
        found = webp.read(clip)
        return found.fps, [partial(webp.decoded, frame, MOST_PIXELS) for frame in found.frames]
    return _told_fps(clip) or UNTOLD_FPS, [partial(_picture, file) for file in numbered(clip)]


def _picture(file: Path) -> Any:
    return picture_of(file.read_bytes())


def _told_fps(clip: Path) -> float:
    """Return the rate that the recipe beside a clip tells; 0.0 where none does."""
    try:
        return float((recorded(clip) or {})["verified"]["plays_fps"])
    except (ValueError, KeyError, TypeError):
        return 0.0


def _shown(frame: Any, place: tuple[int, int], size: tuple[int, int], fps: float) -> ReadFrame:
    width, height = size
    shown = _converted(frame, "bgra", width, height)
    return ReadFrame(*place, width, height, fps, rows_of(shown.planes[0], width, height))


def _converted(frame: Any, format: str, width: int, height: int) -> Any:
    """Return a frame in other pixels, and in another size where that is asked for."""
    from av.video.reformatter import Interpolation

    # Unmarked files of a small size are taken as the older standard, as players do.
    space = frame.colorspace if frame.colorspace in (1, 5, 6, 9) else 5
    how, threads = Interpolation.AREA, 0
    usual = frame.format.name == "yuv420p" and (width, height) == (frame.width, frame.height)
    if width % 8 or not usual:
        # The fast way leaves the last two columns of some widths as the memory was; the exact
        # one, and scaling, now and then a few pixels where the parts of two threads meet.
        how, threads = how | Interpolation.ACCURATE_RND, 1
    return frame.reformat(
        width=width, height=height, format=format, src_colorspace=space, interpolation=how,
        threads=threads,
    )  # fmt: skip


def fitting(width: int, height: int, frames: int, max_bytes: int) -> tuple[int, int]:
    """Return the size at which `frames` frames of 4 bytes a pixel fit in `max_bytes`."""
    full = width * height * 4 * frames
    if full <= max_bytes:
        return width, height
    scale = float((max_bytes / full) ** 0.5)
    return max(2, int(width * scale)), max(2, int(height * scale))


def rows_of(plane: Any, width: int, height: int) -> bytes:
    """Return the plane's rows of `width` 4-byte pixels without the padding between them."""
    data = bytes(plane)
    line = plane.line_size
    if line == width * 4:
        return data[: height * line]
    return b"".join(data[row * line : row * line + width * 4] for row in range(height))


def container_recipe(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the recipe inside a clip's metadata, None when it has none."""
    import av

    try:
        with open_to_read(path) as container:
            # Matroska writes its names in capitals.
            named = {name.lower(): value for name, value in container.metadata.items()}
        text = named.get(RECIPE_KEY) or named.get("comment")
        data = json.loads(text or "")
    except (av.FFmpegError, ValueError):
        return None
    return data if isinstance(data, dict) and RECIPE_KEY in data else None


def read_recipe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return how a clip was made: from the clip itself, or from the JSON beside it.

    The JSON beside a clip says more (the whole job, times, checksums); the
    clip carries what is needed to make it again and no paths.

    Args:
        path: An .mp4 made here, or its .json.

    Raises:
        ProblemError: There is no recipe in it.
    """
    file = Path(path)
    if file.suffix.lower() != ".json":
        found = container_recipe(file) if file.is_file() else None
        if found is not None:
            return found
    data = recorded(file)
    if data is not None and RECIPE_KEY in data:
        return data
    raise ProblemError(
        Problem(
            Category.INVALID_PARAMS,
            f"{file.name} holds no recipe.",
            "Choose a clip that was made here, or the .json file beside it.",
            details=f"{file}: {data!r:.200}",
        )
    )

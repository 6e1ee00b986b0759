"""Small pictures out of a clip, spread over its length."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from time import monotonic
from typing import Any

from core.errors import Category, Problem, ProblemError
from core.outputs import webp
from core.outputs.container import (
    MOVING_WEBP,
    SEQUENCE_KIND,
    FileKind,
    kind_of,
    numbered,
    open_to_read,
)
from core.outputs.verify import picture_of

MOST_PIXELS = 64_000_000
"""Of one frame; a file that speaks of more is not decoded."""
SEEK_ABOVE = 400
"""Frames; in longer clips only those that stand for themselves are decoded."""
PATIENCE_SECONDS = 3.0


def thumbnails(
    path: str | os.PathLike[str],
    count: int = 3,
    *,
    side: int = 320,
    seconds: float = PATIENCE_SECONDS,
    clock: Callable[[], float] = monotonic,
) -> list[bytes]:
    """Return up to `count` JPEG pictures of a clip, the earliest first; one of a still.

    Args:
        path: A clip or picture.
        count: How many.
        side: Longest side of each, pixels.
        seconds: How long decoding may take; what was found by then is returned.
        clock: Monotonic seconds.

    Raises:
        ProblemError: The clip is missing, or cannot be decoded.
    """
    import av

    clip = Path(path)
    try:
        kind = kind_of(clip)
        if kind is None:
            raise ValueError("a kind of file that is not read here")
        until = clock() + seconds
        if kind is SEQUENCE_KIND:
            frames = _numbered(clip, count)
        else:
            frames = _webp(clip, count) if kind is MOVING_WEBP else _video(clip, kind, count)
        found: list[bytes] = []
        for frame in frames:
            if frame is not None:
                found.append(_jpeg(frame, side))
            if clock() > until:
                break
        if not found:
            raise ValueError("no picture in it")
        return found
    except FileNotFoundError as error:
        raise _gone(clip) from error
    except (av.FFmpegError, ValueError, OSError) as error:
        raise ProblemError(
            Problem(
                Category.BAD_OUTPUT,
                f"The clip {clip.name} cannot be read.",
                "It may have been damaged; make it again from its job.",
                details=f"{clip}\n{error!r}",
            )
        ) from error


def _gone(clip: Path) -> ProblemError:
    return ProblemError(
        Problem(
            Category.STORAGE,
            f"The clip {clip.name} is not there any more.",
            f"Look in {clip.parent}, or make it again from its job.",
        )
    )


def _places(total: int, count: int) -> list[int]:
    """Return the middles of `count` equal parts of `total` frames, each once."""
    return sorted({(2 * turn + 1) * total // (2 * count) for turn in range(count)})


def _webp(clip: Path, count: int) -> Iterator[Any]:
    frames = webp.read(clip).frames
    for place in _places(len(frames), count) if frames else ():
        yield webp.decoded(frames[place], MOST_PIXELS)


def _numbered(clip: Path, count: int) -> Iterator[Any]:
    files = numbered(clip)
    for place in _places(len(files), count) if files else ():
        yield picture_of(files[place].read_bytes())


def _video(clip: Path, kind: FileKind, count: int) -> Iterator[Any]:
    """Yield the wanted frames, and None for each that is only passed."""
    # Named, because guessing by content could find a playlist that leads to other files.
    with open_to_read(clip, format=kind.format) as container:
        video = container.streams.video
        if not video or video[0].codec_context is None:
            raise ValueError("no video in it that can be decoded")
        stream = video[0]
        if stream.width * stream.height > MOST_PIXELS:
            raise ValueError(f"it claims to be {stream.width}×{stream.height}")
        stream.thread_type = "AUTO"
        total = stream.frames or _estimated(container, stream) or _counted(clip, kind)
        if total > SEEK_ABOVE and container.duration:
            yield from _by_seeking(container, stream, count)
            return
        wanted = set(_places(total, count)) if total > 0 else {0}
        for index, frame in enumerate(container.decode(stream)):
            yield frame if index in wanted else None
            if index >= max(wanted):
                return


def _estimated(container: Any, stream: Any) -> int:
    if not container.duration or not stream.average_rate:
        return 0
    return int(container.duration / 1_000_000 * stream.average_rate)


def _counted(clip: Path, kind: FileKind) -> int:
    """Return the frames of a file that does not tell, by its packets: nothing is decoded."""
    with open_to_read(clip, format=kind.format) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def _by_seeking(container: Any, stream: Any, count: int) -> Iterator[Any]:
    stream.codec_context.skip_frame = "NONKEY"
    begin = container.start_time or 0
    last = None
    for turn in range(count):
        container.seek(int(begin + container.duration * (2 * turn + 1) / (2 * count)))
        frame = next(iter(container.decode(stream)), None)
        if frame is not None and frame.pts != last:
            last = frame.pts
            yield frame


def _jpeg(frame: Any, side: int) -> bytes:
    import av

    share = min(1.0, side / max(frame.width, frame.height))
    # Whole pairs of pixels: colours are kept for two by two.
    width, height = (max(2, round(size * share / 2) * 2) for size in (frame.width, frame.height))
    # Unmarked files of a small size are taken as the older standard, as players do.
    space = frame.colorspace if frame.colorspace in (1, 5, 6, 9) else 5
    picture = frame.reformat(
        width=width,
        height=height,
        format="yuvj420p",
        src_colorspace=space,
        dst_colorspace=5,
        interpolation="AREA",
    )
    coder: Any = av.CodecContext.create("mjpeg", "w")
    coder.width, coder.height, coder.pix_fmt = width, height, "yuvj420p"
    coder.time_base = Fraction(1, 25)
    coder.options = {"qmin": "3", "qmax": "6"}
    picture.pts = None
    return b"".join(bytes(packet) for packet in [*coder.encode(picture), *coder.encode(None)])

"""Making a picture: one frame in, a verified PNG with its recipe and poster out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from core.errors import Category, Problem, ProblemError
from core.events import Output
from core.jobs import Job
from core.outputs.container import open_to_read
from core.outputs.marks import digest_of
from core.outputs.publish import check_writable, part_path, publish, storage_problem, write_synced
from core.outputs.read import RECIPE_KEY
from core.outputs.verify import Expected, inspect

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
"""Version of the recipe's layout."""
BLACK = 2
"""Up to which a pixel counts as black."""


def jpeg(frame: np.ndarray) -> bytes:
    """Return a poster of a frame, uint8 (height, width, 3) RGB."""
    import av

    picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuvj420p")
    coder: Any = av.CodecContext.create("mjpeg", "w")
    coder.width, coder.height, coder.pix_fmt = picture.width, picture.height, "yuvj420p"
    coder.time_base = Fraction(1, 25)
    coder.options = {"qmin": "2", "qmax": "4"}
    return b"".join(bytes(packet) for packet in [*coder.encode(picture), *coder.encode(None)])


def png(frame: np.ndarray) -> bytes:
    """Return a frame as a PNG, without loss."""
    import av
    import numpy as np

    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    coder: Any = av.CodecContext.create("png", "w")
    coder.width, coder.height, coder.pix_fmt = picture.width, picture.height, "rgb24"
    coder.time_base = Fraction(1, 25)
    return b"".join(bytes(packet) for packet in [*coder.encode(picture), *coder.encode(None)])


class PictureWriter:
    """Writes one picture; used as `ClipWriter` is.

    Args:
        job: What is made; its output path is used, with the ending of a picture.
        on_verify: Told (pictures done, pictures in all) while it is verified.
    """

    doubt = ""

    def __init__(self, job: Job, on_verify: Callable[[int, int], None] | None = None) -> None:
        self._job = job
        self._on_verify = on_verify
        self._target = Path(job.output).with_suffix(".png")
        self._picture = part_path(self._target, job.id, "clip")
        self._poster = part_path(self._target, job.id, "poster")
        self._frame: np.ndarray | None = None
        check_writable(self._target, needed_bytes=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()

    def discard(self) -> None:
        """Delete everything that is not published. Harmless after `finish`."""
        for kind in ("clip", "poster", "recipe"):
            with suppress(OSError):
                part_path(self._target, self._job.id, kind).unlink(missing_ok=True)

    def add(self, frame: np.ndarray) -> None:
        """Take the picture: (height, width, 3) uint8 RGB. Raises ProblemError for a second one."""
        if self._frame is not None:
            raise _bad("The model made more than one picture.")
        self._frame = frame.copy()

    def finish(self, extra: Mapping[str, Any] | None = None) -> Output:
        """Write the picture, read it again, and publish it with recipe and poster.

        Args:
            extra: What to record in the JSON beside it.

        Raises:
            ProblemError: BAD_OUTPUT when it is not right, STORAGE when the disk
                is; nothing of it is left then.
        """
        try:
            return self._finish(dict(extra or {}))
        except OSError as error:
            raise storage_problem(error, self._target, "saving a picture") from error
        finally:
            self.discard()

    def _finish(self, extra: dict[str, Any]) -> Output:
        frame = self._frame
        if frame is None:
            raise _bad("No picture was made.")
        if int(frame.max()) <= BLACK:
            raise _bad(
                "The picture is black.",
                "Try another seed or prompt; if it stays black, the model's numbers overflow.",
            )
        began = perf_counter()
        write_synced(self._picture, png(frame))
        written = perf_counter()
        height, width = frame.shape[:2]
        expected = Expected(1, width, height)
        found = inspect(self._picture, expected, self._on_verify, container="png_pipe")
        faults = found.faults or ([] if self._same(frame) else ["It is another picture."])
        if faults:
            raise _bad("The picture was not written right: " + " ".join(faults), "Retry it.")
        verified = perf_counter()
        write_synced(self._poster, jpeg(frame))
        size = self._picture.stat().st_size
        marks = {"digest": digest_of(self._picture), "bytes": size, "content": found.content}
        recipe = {
            **extra,
            RECIPE_KEY: FORMAT,
            "job": self._job.to_json(),
            "verified": {**marks, **expected.to_json()},
        }
        path = publish(self._target, self._picture, self._poster, recipe)
        return Output(
            path=str(path),
            poster=str(path.with_suffix(".jpg")),
            recipe=str(path.with_suffix(".json")),
            width=width,
            height=height,
            frames=1,
            fps=1.0,
            size_bytes=size,
            encode_seconds=written - began,
            verify_seconds=verified - written,
            content=found.content,
        )

    def _same(self, frame: np.ndarray) -> bool:
        """Say whether the file holds the picture, to the last bit."""
        import numpy as np

        with open_to_read(self._picture, format="png_pipe") as container:
            read = next(container.decode(video=0)).to_ndarray(format="rgb24")
        return bool(np.array_equal(read, frame))


def _bad(message: str, hint: str = "Report this with the details; retry the job.") -> ProblemError:
    return ProblemError(Problem(Category.BAD_OUTPUT, message, hint))

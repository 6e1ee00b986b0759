"""What all writers share: frames in, one verified output with its recipe and poster out."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from core.errors import Category, Problem, ProblemError
from core.events import Output
from core.jobs import Job
from core.outputs.look import BLACK_LUMA, NOISE, Expected, Findings
from core.outputs.marks import GRID, bytes_of, cells_of, digest_of
from core.outputs.publish import (
    check_writable,
    part_path,
    publish,
    publish_alone,
    storage_problem,
    write_synced,
)
from core.outputs.read import RECIPE_KEY
from core.outputs.verify import inspect

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
"""Version of the recipe's layout."""
Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """How a writer is to work beyond what the job says.

    Attributes:
        facts: What to record inside the output beside the recipe, such as versions.
            Must be the same for two runs that should give the same file.
        fps: Rate of the frames as they come; None for the job's own.
        any_size: Frames need not be multiples of 8: they come from elsewhere.
        alone: Only the output gets a name, with its recipe beside it where it holds none.
        replace: A file of that name is replaced, in one step.
        on_encode: Told (frames done, frames in all) of work that is left to the end;
            whatever it raises ends the writing.
    """

    facts: Mapping[str, Any] | None = None
    fps: Fraction | None = None
    any_size: bool = False
    alone: bool = False
    replace: bool = False
    on_encode: Told | None = None


class Writer(ABC):
    """Takes frames one by one; what it writes gets its name when all of it was found right.

    Use it as a context manager; leaving without `finish` deletes what was
    written.

    Args:
        job: What is made; its output path and "fps" are used, all of it is recorded.
        on_verify: Told (frames done, frames in all) while the output is verified;
            whatever it raises ends the writing.
        wish: More.
        suffix: Ending of what is made.

    Raises:
        ProblemError: STORAGE, when the folder cannot be written to.
    """

    noun: ClassVar[str] = "clip"
    container: ClassVar[str] = "mp4"
    """FFmpeg's name of what reads it, or one of `core.outputs.container`."""
    holds_recipe: ClassVar[bool] = False
    """The recipe is in the file itself."""

    def __init__(self, job: Job, on_verify: Told | None, wish: Wish | None, *, suffix: str) -> None:
        self._job, self._on_verify, self._wish = job, on_verify, wish or Wish()
        self._facts = dict(self._wish.facts or {})
        self._target = Path(job.output).with_suffix(suffix)
        self._clip = part_path(self._target, job.id, "clip")
        self._poster = part_path(self._target, job.id, "poster")
        self._fps = self._wish.fps or Fraction(str(job.params.get("fps", 8))).limit_denominator(
            1001
        )
        self._seconds = 0.0
        self._signatures: list[np.ndarray] = []
        self._first: np.ndarray | None = None
        self._moved = self._lit = False
        self.doubt = self.slower = ""
        self._best: tuple[float, np.ndarray] | None = None
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

    # ---- what a kind of output says

    @abstractmethod
    def _put(self, frame: np.ndarray) -> np.ndarray:
        """Write the next frame, contiguous; return its Y plane as it will be read back."""

    @abstractmethod
    def _close(self) -> Expected:
        """Complete the file and bring it to the disk; return what it must hold."""

    def _check_words(self) -> list[str]:
        """Return what is wrong with the parts of the output that are no pictures."""
        return []

    def _release(self) -> None:  # noqa: B027 - most have nothing to close
        """Close what is open. Harmless when nothing is."""

    # ---- what all do

    @property
    def frames(self) -> int:
        """Number of frames added so far."""
        return len(self._signatures)

    def discard(self) -> None:
        """Delete everything that is not published yet. Harmless after `finish`."""
        self._release()
        for kind in ("clip", "poster", "recipe"):
            part = part_path(self._target, self._job.id, kind)
            with suppress(OSError):
                if part.is_dir():
                    shutil.rmtree(part, ignore_errors=True)
                else:
                    part.unlink(missing_ok=True)

    def add(self, frame: np.ndarray) -> None:
        """Take the next frame.

        Args:
            frame: (height, width, 3) uint8 RGB; the same size every time, multiples of 8
                unless the wish says otherwise.

        Raises:
            ProblemError: BAD_OUTPUT for another kind of array, STORAGE when it cannot be written.
        """
        import numpy as np

        began = perf_counter()
        self._check(frame)
        frame = np.ascontiguousarray(frame)
        if self._first is None:
            self._first = frame.copy()
        elif not self._moved:
            self._moved = not np.array_equal(frame, self._first)
        try:
            plane = self._put(frame)
        except OSError as error:
            raise storage_problem(error, self._target, f"encoding a {self.noun}") from error
        self._signatures.append(cells_of(plane))
        if not self._lit:
            self._lit = int(plane.max()) > BLACK_LUMA
        detail = float(plane[::3, ::3].std())
        # A later frame must have clearly more to show, so that few are copied.
        if self._best is None or detail > 1.1 * self._best[0]:
            self._best = (detail, frame.copy())
        self._seconds += perf_counter() - began

    def _check(self, frame: Any) -> None:
        import numpy as np

        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
            kind = getattr(frame, "dtype", type(frame).__name__)
            raise bad(
                f"A frame came as {kind} instead of whole numbers from 0 to 255.",
                "This is a fault of the pipeline: report it with the details.",
            )
        if frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
            raise bad(f"A frame came in the shape {frame.shape} instead of height × width × 3.")
        height, width = frame.shape[:2]
        if not self._wish.any_size and (height % 8 or width % 8):
            raise bad(f"A frame is {width}×{height}, not multiples of 8.")
        if min(height, width) < GRID:
            raise bad(f"A frame is {width}×{height}: a clip needs {GRID} pixels a side.")
        if self._first is not None and frame.shape != self._first.shape:
            raise bad(f"Frame {self.frames + 1} has another size than the first one.")

    def finish(self, extra: Mapping[str, Any] | None = None) -> Output:
        """Complete the file, verify it whole, and publish it with recipe and poster.

        Args:
            extra: What to record in the JSON beside it: times, peaks, versions.

        Returns:
            The published output. Its path differs from the job's when that was taken.

        Raises:
            ProblemError: BAD_OUTPUT when it is not right, STORAGE when the
                disk is; nothing of it is left then.
        """
        try:
            return self._finish(dict(extra or {}))
        except OSError as error:
            if self._wish.alone and isinstance(error, FileExistsError):
                raise
            raise storage_problem(error, self._target, f"saving a {self.noun}") from error
        finally:
            self.discard()

    def _finish(self, extra: dict[str, Any]) -> Output:
        self._refuse_empty()
        began = perf_counter()
        expected = self._close()
        encoded = perf_counter()
        self._seconds += encoded - began
        found = inspect(self._clip, expected, self._on_verify, container=self.container)
        faults = found.faults + self._check_words()
        if faults:
            raise bad(f"The {self.noun} was not written right: " + " ".join(faults), "Retry it.")
        verify_seconds = perf_counter() - encoded
        self.doubt = " ".join(filter(None, (self.slower, NOISE if found.noise else "")))
        self._write_poster()
        return self._publish(extra, expected, found, verify_seconds)

    def _refuse_empty(self) -> None:
        """Refuse frames that no clip should be made of, before any more work."""
        if not self.frames:
            raise bad("No frame was made.")
        if not self._lit:
            raise bad(
                f"All {self.frames} frames are black.",
                "Try another seed or prompt; if it stays black, the model's numbers overflow.",
            )
        if self.frames > 1 and not self._moved:
            raise bad(
                f"All {self.frames} frames are the same picture.",
                "Try another seed or prompt, or a model with motion.",
            )

    def _write_poster(self) -> None:
        from core.outputs.still import jpeg

        assert self._best is not None
        write_synced(self._poster, jpeg(self._best[1]))

    def _publish(
        self, extra: dict[str, Any], expected: Expected, found: Findings, verify_seconds: float
    ) -> Output:
        size, fps = bytes_of(self._clip), float(self._fps)
        recipe = {
            **extra,
            **self._facts,
            RECIPE_KEY: FORMAT,
            "job": self._job.to_json(),
            "verified": {
                "digest": digest_of(self._clip),
                "bytes": size,
                "content": found.content,
                "plays_fps": fps,
                **expected.to_json(),
            },
        }
        if self._wish.alone:
            path = publish_alone(
                self._target,
                self._clip,
                recipe,
                needed=not self.holds_recipe,
                replace=self._wish.replace,
            )
        else:
            path = publish(self._target, self._clip, self._poster, recipe)
        return Output(
            path=str(path),
            poster="" if self._wish.alone else str(path.with_suffix(".jpg")),
            recipe="" if self._wish.alone else str(path.with_suffix(".json")),
            width=found.width,
            height=found.height,
            frames=found.frames,
            fps=fps,
            size_bytes=size,
            encode_seconds=self._seconds,
            verify_seconds=verify_seconds,
            content=found.content,
        )


def seen(frame: np.ndarray) -> Any:
    """Return a frame with a Y plane, as a reader of our files makes it of colours."""
    import av

    picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
    return picture.reformat(format="yuv420p", dst_colorspace=1, dst_color_range=1)


def bad(message: str, hint: str = "Report this with the details; retry the job.") -> ProblemError:
    """Return the error for frames or files that no output can be made of."""
    return ProblemError(Problem(Category.BAD_OUTPUT, message, hint))

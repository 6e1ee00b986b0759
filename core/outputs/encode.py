"""Making a clip: frames in, a verified H.264 MP4 with its recipe and poster out."""

from __future__ import annotations

import json
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
from core.outputs.marks import append_seal, digest_of, luma, read_seal, signature, stream_checksum
from core.outputs.publish import (
    PartFile,
    check_writable,
    part_path,
    publish,
    storage_problem,
    sync_file,
    write_synced,
)
from core.outputs.read import RECIPE_KEY, container_recipe
from core.outputs.still import jpeg
from core.outputs.verify import BLACK_LUMA, NOISE, Expected, inspect

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
"""Version of the recipe's layout."""
# CAVLC makes a file about a fifth larger than CABAC and decodes it in less than half the
# time, so that looking at every frame again stays cheap even when a clip is all noise.
_OPTIONS = {"preset": "veryfast", "crf": "18", "coder": "cavlc"}
# The same number on every machine: x264's choices depend on it, and so the file's bytes.
_THREADS = 4
_BT709 = 1


class ClipWriter:
    """Encodes frames as they arrive into a temporary file beside the target.

    Use it as a context manager; leaving without `finish` deletes what was
    written. The same frames of the same recipe give the same file, bit for bit.

    Args:
        job: What is made; its output path and "fps" are used, all of it is recorded.
        on_verify: Told (frames done, frames in all) while the clip is verified;
            whatever it raises ends the writing.
        facts: What to record inside the clip beside the recipe, such as versions.
            Must be the same for two runs that should give the same file.

    Raises:
        ProblemError: STORAGE, when the folder cannot be written to.
    """

    def __init__(
        self,
        job: Job,
        on_verify: Callable[[int, int], None] | None = None,
        *,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self._job = job
        self._on_verify = on_verify
        self._facts = dict(facts or {})
        self._target = Path(job.output)
        self._clip = part_path(self._target, job.id, "clip")
        self._poster = part_path(self._target, job.id, "poster")
        self._fps = Fraction(str(job.params.get("fps", 8))).limit_denominator(1001)
        self._container: Any = None
        self._file: PartFile | None = None
        self._stream: Any = None
        self._seconds = 0.0
        self._sealed: dict[str, Any] = {}
        self._checksums: list[int] = []
        self._signatures: list[np.ndarray] = []
        self._first: np.ndarray | None = None
        self._moved = self._lit = False
        self.doubt = ""
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

    @property
    def frames(self) -> int:
        """Number of frames added so far."""
        return len(self._signatures)

    def discard(self) -> None:
        """Delete everything that is not published yet. Harmless after `finish`."""
        container, self._container, self._stream = self._container, None, None
        if container is not None:
            # It may complain once more about the disk; the first complaint was raised.
            with suppress(Exception):
                container.close()
        self._close_file()
        for kind in ("clip", "poster", "recipe"):
            with suppress(OSError):
                part_path(self._target, self._job.id, kind).unlink(missing_ok=True)

    def add(self, frame: np.ndarray) -> None:
        """Encode the next frame.

        Args:
            frame: (height, width, 3) uint8 RGB; the same size every time, multiples of 8.

        Raises:
            ProblemError: BAD_OUTPUT for another kind of array, STORAGE when it cannot be written.
        """
        import av
        import numpy as np

        began = perf_counter()
        self._check(frame)
        frame = np.ascontiguousarray(frame)
        if self._stream is None:
            self._open(frame.shape[1], frame.shape[0])
        if self._first is None:
            self._first = frame.copy()
        elif not self._moved:
            self._moved = not np.array_equal(frame, self._first)
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=_BT709, dst_color_range=_BT709
        )
        picture.pts = self.frames
        picture.time_base = 1 / self._fps
        self._remember(frame, luma(picture))
        self._encode(picture)
        self._seconds += perf_counter() - began

    def _check(self, frame: Any) -> None:
        import numpy as np

        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
            kind = getattr(frame, "dtype", type(frame).__name__)
            raise _bad(
                f"A frame came as {kind} instead of whole numbers from 0 to 255.",
                "This is a fault of the pipeline: report it with the details.",
            )
        if frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
            raise _bad(f"A frame came in the shape {frame.shape} instead of height × width × 3.")
        if frame.shape[0] % 8 or frame.shape[1] % 8:
            raise _bad(f"A frame is {frame.shape[1]}×{frame.shape[0]}, not multiples of 8.")
        if self._first is not None and frame.shape != self._first.shape:
            raise _bad(f"Frame {self.frames + 1} has another size than the first one.")

    def _remember(self, frame: np.ndarray, plane: np.ndarray) -> None:
        """Keep what verification and poster need of a frame."""
        self._signatures.append(signature(plane))
        if not self._lit:
            self._lit = int(plane.max()) > BLACK_LUMA
        detail = float(plane[::3, ::3].std())
        # A later frame must have clearly more to show, so that few are copied.
        if self._best is None or detail > 1.1 * self._best[0]:
            self._best = (detail, frame.copy())

    def _open(self, width: int, height: int) -> None:
        import av

        with self._storage():
            self._file = PartFile(self._clip)
            container = av.open(
                self._file,
                "w",
                format="mp4",
                options={"movflags": "+faststart+use_metadata_tags"},
            )
        self._container = container
        text = json.dumps(self._portable(), ensure_ascii=False, separators=(",", ":"))
        container.metadata[RECIPE_KEY] = text
        container.metadata["title"] = self._job.title
        stream: Any = container.add_stream("libx264", rate=self._fps, options=dict(_OPTIONS))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.thread_count = _THREADS
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = 1
        self._stream = stream

    def _portable(self) -> dict[str, Any]:
        """Return the recipe as the clip carries it.

        Nothing of this run or this machine is in it (id, dates, folders): clips
        are given away, and the same recipe must give the same bytes.
        """
        job = self._job.to_json()
        for name in ("id", "created_at", "output"):
            del job[name]
        job["model"] = Path(self._job.model).name
        return {RECIPE_KEY: FORMAT, "job": job, **self._facts}

    def _encode(self, picture: Any) -> None:
        with self._storage():
            for packet in self._stream.encode(picture):
                self._checksums.append(stream_checksum(bytes(packet)))
                self._container.mux(packet)

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _storage(self) -> _Storage:
        return _Storage(self._target)

    def finish(self, extra: Mapping[str, Any] | None = None) -> Output:
        """Complete the file, verify it whole, and publish it with recipe and poster.

        Args:
            extra: What to record in the JSON beside the clip: times, peaks, versions.

        Returns:
            The published clip. Its path differs from the job's when that was taken.

        Raises:
            ProblemError: BAD_OUTPUT when the clip is not right, STORAGE when the
                disk is; nothing of it is left then.
        """
        try:
            return self._finish(dict(extra or {}))
        except OSError as error:
            raise storage_problem(error, self._target, "saving a clip") from error
        finally:
            self.discard()

    def _finish(self, extra: dict[str, Any]) -> Output:
        self._refuse_empty()
        began = perf_counter()
        expected = self._close()
        encoded = perf_counter()
        self._seconds += encoded - began
        found = inspect(self._clip, expected, self._on_verify)
        faults = found.faults + self._check_words()
        if faults:
            raise _bad("The clip was not written right: " + " ".join(faults), "Retry it.")
        verify_seconds = perf_counter() - encoded
        self.doubt = NOISE if found.noise else ""
        self._write_poster()
        size = self._clip.stat().st_size
        recipe = {
            **extra,
            **self._facts,
            RECIPE_KEY: FORMAT,
            "job": self._job.to_json(),
            "verified": {
                "digest": digest_of(self._clip),
                "bytes": size,
                "content": found.content,
                **expected.to_json(),
            },
        }
        path = publish(self._target, self._clip, self._poster, recipe)
        return Output(
            path=str(path),
            poster=str(path.with_suffix(".jpg")),
            recipe=str(path.with_suffix(".json")),
            width=found.width,
            height=found.height,
            frames=found.frames,
            fps=float(self._fps),
            size_bytes=size,
            encode_seconds=self._seconds,
            verify_seconds=verify_seconds,
            content=found.content,
        )

    def _check_words(self) -> list[str]:
        """Return what is wrong with the parts of the file that are no pictures."""
        faults = []
        if read_seal(self._clip) != {**self._sealed, "broken": False}:
            faults.append("Its seal is broken.")
        # Once through JSON, as the file holds it.
        if container_recipe(self._clip) != json.loads(json.dumps(self._portable())):
            faults.append("Its recipe is not the one that was written.")
        return faults

    def _refuse_empty(self) -> None:
        """Refuse frames that no clip should be made of, before any more work."""
        if self._stream is None:
            raise _bad("No frame was made.")
        if not self._lit:
            raise _bad(
                f"All {self.frames} frames are black.",
                "Try another seed or prompt; if it stays black, the model's numbers overflow.",
            )
        if self.frames > 1 and not self._moved:
            raise _bad(
                f"All {self.frames} frames are the same picture.",
                "Try another seed or prompt, or a model with motion.",
            )

    def _close(self) -> Expected:
        """Flush the encoder, complete and seal the file; return what it must hold."""
        import numpy as np

        self._encode(None)
        context = self._stream
        container, self._container, self._stream = self._container, None, None
        with self._storage():
            container.close()
            self._close_file()
        expected = Expected(
            frames=self.frames,
            width=context.width,
            height=context.height,
            fps=float(self._fps),
            checksums=self._checksums,
            signatures=np.stack(self._signatures),
        )
        self._sealed = append_seal(self._clip, expected.to_json())
        sync_file(self._clip)
        return expected

    def _write_poster(self) -> None:
        assert self._best is not None
        write_synced(self._poster, jpeg(self._best[1]))


class _Storage:
    """Turns what FFmpeg says about the disk into a `Problem`."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError):
            raise storage_problem(error, self._target, "encoding a clip") from error


def _bad(message: str, hint: str = "Report this with the details; retry the job.") -> ProblemError:
    return ProblemError(Problem(Category.BAD_OUTPUT, message, hint))

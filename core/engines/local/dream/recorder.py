"""A dream on the disk: segments that are each whole, made beside the making of frames.

A thread of its own encodes, verifies and publishes them, so that a disk that is slow for a
while holds nobody up before the queue is full. Nothing is ever left out.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from core.engines.local.dream.timings import Timings
from core.errors import Category, ProblemError, problem_from
from core.events import Output
from core.jobs import Job
from core.outputs import ClipWriter, check_writable
from core.outputs.publish import segment_numbers, segment_path
from core.outputs.segments import LIST, PLAYLIST, listed_in
from core.whole_files import write_whole

if TYPE_CHECKING:
    import numpy as np

QUEUE_SECONDS = 2.5
_TICK_SECONDS = 0.05
_LEAST_KEPT_SECONDS = 1.0
_SEGMENTS_OF_ROOM, _LEAST_ROOM_BYTES = 4, 16 * 1024 * 1024
"""So much of the disk must be free for the next segment."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A finished piece of a dream.

    Attributes:
        output: The verified clip.
        first: Number of its first frame in the dream.
    """

    output: Output
    first: int


class SegmentWriter(ClipWriter):
    """Writes one piece of a dream, which may well stand still for a while."""

    def _refuse_empty(self) -> None:
        self._moved = True
        super()._refuse_empty()


class Recorder:
    """Takes frames and makes segments of them; use it as a context manager.

    Left by an error or a cancel, it closes the segment that it was at, and keeps it when it
    is a second long; the ones before stay in any case.

    Args:
        job: The dream; its output names the segments.
        timings: Told how long it takes.
        facts: Returns what to record beside each segment.
        told: Called with words for a person, from the recorder's thread.
        whole: The dream will be one segment, which gets the job's own name.
        make: What writes a clip.
    """

    def __init__(
        self,
        job: Job,
        timings: Timings,
        *,
        facts: Callable[[], Mapping[str, Any]] = dict,
        told: Callable[[str], None] = print,
        whole: bool = False,
        make: Callable[[Job], ClipWriter] | None = None,
    ) -> None:
        self._job, self._timings, self._facts, self._told = job, timings, facts, told
        self._make, self._whole = make or SegmentWriter, whole
        self._fps = float(job.params["fps"])
        self._length = max(2, round(float(job.params["segment_seconds"]) * self._fps))
        self._target = Path(job.output)
        self._number = max(segment_numbers(self._target), default=0) if not whole else 0
        # A dream that is tried again adds to what there is, also in its lists.
        self._before = listed_in(self._target, job.id) if not whole else []
        self._frames: queue.Queue[np.ndarray | None] = queue.Queue(
            max(8, int(QUEUE_SECONDS * self._fps))
        )
        self._writer: ClipWriter | None = None
        self._taken = 0
        self._cut = threading.Event()
        self._ending = False
        self._error: BaseException | None = None
        self._refused: ProblemError | None = None
        self.segments: list[Segment] = []
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread.is_alive():
            self._cut.set()
            self._put(None, lambda: None)
            self._thread.join()

    @property
    def waiting(self) -> int:
        """How many frames wait to be encoded."""
        return self._frames.qsize()

    @property
    def kept_seconds(self) -> float:
        """Seconds of the dream that lie in finished segments."""
        return sum(item.output.frames for item in self.segments) / self._fps

    def add(self, frame: np.ndarray, heard: Callable[[], None]) -> None:
        """Hand over a frame, waiting where the queue is full.

        Args:
            frame: uint8 (height, width, 3), R, G, B.
            heard: Called while it waits; raises Cancelled.

        Raises:
            ProblemError: A segment could not be written.
        """
        with self._timings.of("record_wait"):
            self._put(frame, heard)

    def _put(self, frame: np.ndarray | None, heard: Callable[[], None]) -> None:
        while True:
            self._raise()
            if not self._thread.is_alive():
                return
            try:
                self._frames.put(frame, timeout=_TICK_SECONDS)
            except queue.Full:
                heard()
            else:
                return

    def _raise(self) -> None:
        if self._error is not None and not self._cut.is_set():
            raise self._error

    def finish(self, heard: Callable[[], None]) -> Output:
        """Complete the last segment and return it, waiting for all before.

        Args:
            heard: Called while it waits; raises Cancelled.

        Raises:
            ProblemError: A segment could not be written, or none is sound.
        """
        self._ending = True
        self._put(None, heard)
        while self._thread.is_alive():
            self._thread.join(_TICK_SECONDS)
            heard()
        self._raise()
        if not self.segments:
            assert self._refused is not None
            raise self._refused
        return self.segments[-1].output

    # ---- in its thread

    def _run(self) -> None:
        dropped = 0
        try:
            while (frame := self._frames.get()) is not None:
                if self._cut.is_set():
                    dropped += 1
                else:
                    self._write(frame)
            if dropped:
                seconds = dropped / self._fps
                self._told(f"The last {seconds:.1f} s were not written yet and are left out.")
            self._close()
        except BaseException as error:  # noqa: BLE001 - raised again where frames come from
            self._error = error
            if self._cut.is_set():
                # Nobody asks any more what went wrong.
                problem = problem_from(error)
                self._told(f"The last segment could not be kept: {problem.message}")
        finally:
            if self._writer is not None:
                self._writer.discard()

    def _write(self, frame: np.ndarray) -> None:
        if self._writer is None:
            if self.segments:
                # An endless dream must not take the last byte of a disk from all others.
                room = _SEGMENTS_OF_ROOM * self.segments[-1].output.size_bytes
                check_writable(self._job.output, max(_LEAST_ROOM_BYTES, room))
            self._writer = self._make(replace(self._job, output=str(self._next_path())))
        with self._timings.of("encode"):
            self._writer.add(frame)
        if self._writer.frames >= self._length and not self._whole:
            self._close()

    def _next_path(self) -> Path:
        return self._target if self._whole else segment_path(self._target, self._number + 1)

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        count = writer.frames
        try:
            if self._cut.is_set() and count < _LEAST_KEPT_SECONDS * self._fps:
                self._told(f"A last segment of {count / self._fps:.1f} s is too short to be kept.")
                return
            self._publish(writer, count)
        finally:
            writer.discard()
            self._taken += count

    def _publish(self, writer: ClipWriter, count: int) -> None:
        facts = {
            **self._facts(),
            "segment": self._number + 1,
            "first_frame": self._taken,
            # The list of all is a file of its own: in each, it would fill the disk in a week.
            "segment_before": Path(self.segments[-1].output.path).name if self.segments else None,
        }
        try:
            with self._timings.of("publish"):
                output = writer.finish(facts)
        except ProblemError as error:
            if error.problem.category is not Category.BAD_OUTPUT:
                raise
            # Half a minute of one black picture is no reason to end a dream of hours.
            self._refused = error
            self._told(f"{count / self._fps:.1f} s were left out: {error.problem.message}")
            return
        self._number += 1
        self.segments.append(Segment(output, self._taken))
        if not self._whole:
            self._write_lists()
        if self._cut.is_set():
            name = Path(output.path).name
            self._told(f"What there was of the last segment is kept: {name}.")

    def _write_lists(self) -> None:
        """Write the lists of the segments: for players, and for programs."""
        lines = ["#EXTM3U"]
        every = [*self._before, *self.listed()]
        for item in every:
            lines += [f"#EXTINF:{item['seconds']:.3f},{Path(item['file']).stem}", item["file"]]
        write_whole(self._target.with_suffix(PLAYLIST), "\n".join(lines) + "\n")
        listed = {"job": self._job.to_json(), "segments": every}
        write_whole(
            self._target.with_suffix(LIST),
            json.dumps(listed, ensure_ascii=False, indent=1) + "\n",
        )

    def listed(self) -> list[dict[str, Any]]:
        """Return the finished segments as plain values."""
        return [
            {
                "file": Path(item.output.path).name,
                "first_frame": item.first,
                "frames": item.output.frames,
                "seconds": round(item.output.frames / self._fps, 3),
                "bytes": item.output.size_bytes,
                "content": item.output.content,
            }
            for item in list(self.segments)
        ]

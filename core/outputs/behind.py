"""Writing beside making: frames are encoded and go to the disk while the next ones are decoded."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from core.events import Output
from core.outputs.writer import Writer

if TYPE_CHECKING:
    import numpy as np

MOST_BYTES = 256 * 1024**2
"""Of frames that wait for the writer; a disk may pause for as long as they last."""
MOST_FRAMES = 64
_LOOK_SECONDS = 0.05


class Behind:
    """A writer in a thread of its own. Used as a writer is, from one thread.

    Frames are written in the order in which they came. What the writer raises
    is raised by the next call here. Frames are taken over: they are not to be
    changed afterwards.

    Args:
        writer: Who writes; nobody else touches it before `finish`.
        heard: Called a few times a second while the writer is waited for; raises when
            the job is cancelled.
    """

    def __init__(self, writer: Writer, heard: Callable[[], object]) -> None:
        self._writer, self._heard = writer, heard
        self._frames: queue.Queue[np.ndarray | None] = queue.Queue()
        self._room = threading.Condition()
        self._held_bytes = self._held = 0
        self._error: BaseException | None = None
        self._dropped = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._dropped = True
        self._stop()
        self._writer.discard()

    @property
    def doubt(self) -> str:
        """What is to be told of the output."""
        return self._writer.doubt

    def add(self, frame: np.ndarray) -> None:
        """Hand over the next frame; waits only where too much waits already.

        Raises:
            ProblemError: As `Writer.add`, of this frame or of an earlier one.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="writer", daemon=True)
            self._thread.start()
        size = int(getattr(frame, "nbytes", 0))
        with self._room:
            while self._error is None and self._full(size):
                self._room.wait(_LOOK_SECONDS)
                self._heard()
            self._raise()
            self._held += 1
            self._held_bytes += size
        self._frames.put(frame)

    def _full(self, size: int) -> bool:
        return self._held >= MOST_FRAMES or (
            self._held > 0 and self._held_bytes + size > MOST_BYTES
        )

    def finish(self, extra: Mapping[str, Any] | None = None) -> Output:
        """Wait for the frames that are left, then finish as the writer does, in this thread."""
        with self._room:
            while self._error is None and self._held:
                self._room.wait(_LOOK_SECONDS)
                self._heard()
        self._stop()
        self._raise()
        return self._writer.finish(extra)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _stop(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._frames.put(None)
            thread.join()

    def _write(self) -> None:
        while (frame := self._frames.get()) is not None:
            try:
                if self._error is None and not self._dropped:
                    self._writer.add(frame)
            except BaseException as error:  # noqa: BLE001 - it is raised where the frames are made
                self._error = error
            with self._room:
                self._held -= 1
                self._held_bytes -= int(getattr(frame, "nbytes", 0))
                self._room.notify()

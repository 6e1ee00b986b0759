"""Reading one clip at a time, the one asked for last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator


class ClipReader:
    """Reads clips in a pump; a later one takes the earlier one's place.

    Args:
        run_aside: Runs a source in a pump and hands on what it yields.
        show: Told each core.outputs.read.ReadFrame.
    """

    def __init__(
        self,
        run_aside: Callable[[Callable[[], Iterator[object]], str, Callable[[object], None]], None],
        show: Callable[[object], None],
    ) -> None:
        self._run_aside, self._show = run_aside, show
        self._stop = threading.Event()

    def stop(self) -> None:
        """Stop reading; no more frames come."""
        self._stop.set()

    def read(self, path: str, max_bytes: int) -> None:
        """Decode the clip at `path`, scaled down when its frames exceed `max_bytes`."""
        from core.outputs import read_frames

        self._stop.set()
        stop = self._stop = threading.Event()

        def frames() -> Iterator[object]:
            for frame in read_frames(path, max_bytes):
                if stop.is_set():
                    return
                yield frame

        def deliver(frame: object) -> None:
            if not stop.is_set():
                self._show(frame)

        self._run_aside(frames, "clip", deliver)

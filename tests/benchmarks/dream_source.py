"""A model family that streams pictures and records them on a slow disk, for benchmarks.

Loaded from its file by `LocalEngine(extra_families=...)`. A thread encodes H.264 and writes
a PNG now and then; the disk stands still for 500 ms again and again, now for that thread
and now for the one that makes the frames.
"""

from __future__ import annotations

import queue
import threading
import time
from pathlib import Path

import numpy as np

from core.events import Progressed
from core.jobs import Kind, Parameter, Phase, Recipe
from core.stream.endless import recorded

ID = "dream_source"
DELAY_SECONDS = 0.5


def recipes(models):
    return (
        Recipe(
            id="dream-source",
            title="Dream source",
            summary="Streams pictures and records them on a slow disk.",
            engine="local",
            family=ID,
            parameters=(
                Parameter("minutes", Kind.NUMBER, "Minutes, 0 without end", 0.0, 0),
                Parameter("made_fps", Kind.NUMBER, "Made in a second", 45.0, 1, 240),
                Parameter("every", Kind.NUMBER, "Seconds between delays, 0 none", 3.0, 0),
                Parameter("width", Kind.INTEGER, "Width", 832, 64, 1920, 8),
                Parameter("height", Kind.INTEGER, "Height", 480, 64, 1080, 8),
                Parameter("fps", Kind.INTEGER, "Rate", 30, 4, 60),
                Parameter("seed", Kind.SEED, "Seed", 1, 0, 2**32 - 1),
            ),
        ),
    )


def pictures(width: int, height: int, count: int = 48) -> list[np.ndarray]:
    """Return slow waves of colour, R,G,B, that go round."""
    y, x = np.mgrid[0:height, 0:width] / height
    made = []
    for index in range(count):
        turn = 2 * np.pi * index / count
        waves = [np.sin(5 * x + turn), np.sin(4 * y + 3 * x - turn), np.cos(6 * (x - y) + turn)]
        made.append(np.stack([np.uint8(127 + 80 * wave) for wave in waves], axis=-1))
    return made


class Recording:
    """Encodes and writes in a thread of its own, on a disk that stands still at times."""

    def __init__(self, path: Path, width: int, height: int, fps: int, every: float) -> None:
        self._path, self._size, self._fps, self._every = path, (width, height), fps, every
        self._frames: queue.Queue[np.ndarray | None] = queue.Queue(90)
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def add(self, frame: np.ndarray) -> None:
        self._frames.put(frame)

    def close(self) -> None:
        self._frames.put(None)
        self._thread.join()

    def _write(self) -> None:
        import av

        number, stood = 0, time.monotonic()
        with av.open(str(self._path.with_suffix(".seg.mp4")), "w") as container:
            stream = container.add_stream("libx264", self._fps)
            stream.width, stream.height = self._size
            stream.pix_fmt, stream.options = "yuv420p", {"preset": "ultrafast"}
            stream.thread_count = 1
            while (frame := self._frames.get()) is not None:
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                container.mux(stream.encode(picture))
                number += 1
                if number % 60 == 0:
                    picture.to_image().save(self._path.with_suffix(".seg.png"))
                if self._every and time.monotonic() - stood > self._every:
                    time.sleep(DELAY_SECONDS)
                    stood = time.monotonic()
            container.mux(stream.encode())
        for suffix in (".seg.mp4", ".seg.png"):
            self._path.with_suffix(suffix).unlink(missing_ok=True)


def generate(context):
    job, params = context.job, context.job.params
    context.phase(Phase.LOAD)
    made = pictures(params["width"], params["height"])
    output = Path(job.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    writer = Recording(output, params["width"], params["height"], params["fps"], params["every"])
    context.phase(Phase.DECODE)
    limit, number = params["minutes"] * 60 * params["fps"], 0
    due = stood = told = time.monotonic()
    try:
        while not context.enough and (not limit or number < limit):
            frame = made[number % len(made)]
            if params["every"] and time.monotonic() - stood > 2 * params["every"]:
                time.sleep(DELAY_SECONDS)
                stood = time.monotonic()
            writer.add(frame)
            context.stream(frame[None], first=number)
            number += 1
            due = max(due + 1 / params["made_fps"], time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))
            if time.monotonic() - told > 1:
                told = time.monotonic()
                text = recorded(number / params["fps"])
                context.report(
                    Progressed(job_id=job.id, phase=Phase.DECODE, done=number, total=0, text=text)
                )
    finally:
        writer.close()
    yield made[0]

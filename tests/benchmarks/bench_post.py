"""What is done to frames after the decode: writing beside it, pictures to the disk, frames between.

Four comparisons, each in turns within one run:

- a clip whose frames take as long to make as to encode, written beside the making and in turn
  with it (baseline);
- the same with a disk that stops for 500 ms twice: how long the making is held up;
- 832×480 frames to PNG files, as a sequence is written, against PIL's defaults (baseline);
- frames in between by optical flow against FFmpeg's minterpolate with its defaults (baseline):
  the time, and how far both are from the frames that were left out.

Run as `python -m tests.benchmarks.bench_post`; exit code 1 when a floor is missed. A number
asks for other rounds.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import av.filter
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from core.outputs import ClipWriter, Writer  # noqa: E402
from core.outputs.behind import Behind  # noqa: E402
from core.outputs.sequence import SequenceWriter  # noqa: E402
from core.post.inbetween import between  # noqa: E402
from tests.core._damage import make_job, pan  # noqa: E402

ROUNDS, FRAMES, PICTURES = 7, 48, 16
WIDTH, HEIGHT = 832, 480
OVERLAP = 1.25
"""Times as quick as writing in turn, where making waits for a device."""
HELD_MS = 50.0
"""Most that a disk which stops for 500 ms may hold up the making."""
PNG_TIMES = 15.0
"""Times as many PNG files a second as PIL with its defaults, on two cores."""
BETWEEN_TIMES, BETWEEN_OFF = 0.4, 0.5
"""Least speed, and most error, of frames in between, each as a part of minterpolate's."""


class Stopping(ClipWriter):
    """A writer whose disk stops twice."""

    def add(self, frame: np.ndarray) -> None:
        if self.frames in (10, 30):
            time.sleep(0.5)
        super().add(frame)


def clip(
    folder: Path, frames: list[np.ndarray], seconds: float, kind: type[ClipWriter], beside: bool
) -> tuple[float, float]:
    """Make a clip; returns the seconds it took, and the longest that one frame was waited for."""
    writer: Writer = kind(make_job(folder / "clip.mp4"))
    target: Writer | Behind = Behind(writer, lambda: None) if beside else writer
    longest = 0.0
    began = time.perf_counter()
    with target:
        for frame in frames:
            # A device works meanwhile; this process waits for it.
            time.sleep(seconds)
            handed = time.perf_counter()
            target.add(frame)
            longest = max(longest, time.perf_counter() - handed)
        if isinstance(target, Behind):
            with target._room:
                target._room.wait_for(lambda: not target._held)
        return time.perf_counter() - began, longest


def as_sequence(folder: Path, frames: list[np.ndarray]) -> float:
    with SequenceWriter(make_job(folder / "clip", format="png", frames=len(frames))) as writer:
        began = time.perf_counter()
        for frame in frames:
            writer.add(frame)
        writer._close()
        return time.perf_counter() - began


def as_pil(folder: Path, frames: list[np.ndarray]) -> float:
    from PIL import Image

    began = time.perf_counter()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number}.png")
    return time.perf_counter() - began


def by_flow(frames: list[np.ndarray]) -> list[np.ndarray]:
    return [between(a, b, 1)[0] for a, b in pairwise(frames)]


def by_ffmpeg(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Return what minterpolate puts between frames; it leaves the ends out."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=WIDTH, height=HEIGHT, format="yuv444p", time_base=Fraction(1, 24)
    )
    filtered, sink = graph.add("minterpolate", "fps=48"), graph.add("buffersink")
    source.link_to(filtered)
    filtered.link_to(sink)
    graph.configure()
    made: list[np.ndarray] = []

    def pull() -> None:
        while True:
            try:
                made.append(sink.pull().to_ndarray(format="rgb24"))
            except (av.BlockingIOError, av.EOFError):
                return

    for number, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv444p")
        picture.pts, picture.time_base = number, Fraction(1, 24)
        source.push(picture)
        pull()
    source.push(None)
    pull()
    return made[1::2]


def off(made: list[np.ndarray], left_out: list[np.ndarray]) -> float:
    """Return the mean difference of the frames that both hold, of 255."""
    pairs = list(zip(made, left_out, strict=False))[1:-2]
    return float(np.mean([np.abs(a.astype(int) - b).mean() for a, b in pairs]))


def main(rounds: int = ROUNDS) -> int:
    frames = list(pan(FRAMES, WIDTH, HEIGHT))
    pictures = frames[:PICTURES]
    moving = list(pan(17, WIDTH, HEIGHT, noise=0, speed=4))
    turn, beside, held, blocked, png, pil, flow, ffmpeg = ([] for _ in range(8))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        each = clip(folder, frames, 0.0, ClipWriter, False)[0] / FRAMES
        as_sequence(folder, pictures[:4])
        between(pictures[0], pictures[1], 1)
        for _ in range(rounds):
            turn.append(clip(folder, frames, each, ClipWriter, False)[0])
            beside.append(clip(folder, frames, each, ClipWriter, True)[0])
            blocked.append(clip(folder, frames, each, Stopping, False)[1] * 1e3)
            held.append(clip(folder, frames, each, Stopping, True)[1] * 1e3)
            png.append(as_sequence(folder, pictures))
            pil.append(as_pil(folder, pictures))
            began = time.perf_counter()
            ours = by_flow(moving[::2])
            between_at = time.perf_counter()
            theirs = by_ffmpeg(moving[::2])
            flow.append((between_at - began) / len(ours))
            ffmpeg.append((time.perf_counter() - between_at) / len(theirs))
    median = statistics.median
    quicker = median(turn) / median(beside)
    times, speed = median(pil) / median(png), median(ffmpeg) / median(flow)
    wrong, theirs_off = off(ours, moving[1::2]), off(theirs, moving[1::2])
    rows = (
        (f"clip of {FRAMES}, written beside the making: {median(beside):.2f} s against "
         f"{median(turn):.2f} s in turn", f"{quicker:.2f} ×", f"at least {OVERLAP}",
         quicker >= OVERLAP),
        (f"a disk that stops 500 ms holds up one frame by {median(held):.1f} ms "
         f"(in turn {median(blocked):.0f} ms)", f"{median(held):.1f} ms",
         f"at most {HELD_MS:.0f}", median(held) <= HELD_MS),
        (f"PNG sequence: {PICTURES / median(png):.0f} pictures/s against "
         f"{PICTURES / median(pil):.1f} by PIL's defaults", f"{times:.1f} ×",
         f"at least {PNG_TIMES:.0f}", times >= PNG_TIMES),
        (f"a frame in between: {median(flow) * 1e3:.0f} ms against {median(ffmpeg) * 1e3:.0f} ms "
         "by minterpolate", f"{speed:.2f} ×", f"at least {BETWEEN_TIMES}",
         speed >= BETWEEN_TIMES),
        (f"its error: {wrong:.2f} of 255 against {theirs_off:.2f} by minterpolate",
         f"{wrong / theirs_off:.2f} ×", f"at most {BETWEEN_OFF}",
         wrong / theirs_off <= BETWEEN_OFF),
    )  # fmt: skip
    for words, figure, floor, good in rows:
        print(f"{'ok    ' if good else 'MISSED'} {figure:>10}  {floor:<14} {words}")
    return 0 if all(good for *_, good in rows) else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))

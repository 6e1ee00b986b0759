"""Ways in which clips go bad, and clips to try them on."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from core.events import Output
from core.jobs import Job
from core.outputs import ClipWriter
from core.outputs.marks import read_seal

Damage = Callable[[Path, random.Random], None]


def make_job(output: Path, **params: Any) -> Job:
    """Return a job as the ledger would hand it out."""
    return Job(
        id=str(uuid.uuid4()),
        recipe="test-pattern",
        engine="local",
        family="test_pattern",
        title="Ein Prüfbild, 試験",
        params={"fps": 8, "seed": 7, "prompt": 'a "bear"', **params},
        model="/somewhere/private/tiny-model",
        output=str(output),
        created_at=1_790_000_000.0,
    )


def pan(
    frames: int, width: int, height: int, *, noise: float = 2.0, speed: int = 2, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yield RGB frames of a smooth picture that moves under noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0 : width + frames * speed]
    phase = rng.uniform(0, 6)
    picture = np.stack(
        [
            128 + 90 * np.sin(x / 37 + phase) * np.cos(y / 53),
            128 + 80 * np.cos(x / 91 + y / 29),
            128 + 100 * np.sin((x + 2 * y) / 67 + phase),
        ],
        axis=-1,
    ).astype(np.float32)
    for index in range(frames):
        frame = picture[:, index * speed : index * speed + width]
        grain = rng.standard_normal((height, width, 1), dtype=np.float32) * noise
        yield np.clip(frame + grain, 0, 255).astype(np.uint8)


def good_clip(number: int) -> Iterator[np.ndarray]:
    """Yield the frames of good clip `number`: every kind, length and size in turn."""
    rng = np.random.default_rng(number)
    sizes = [(64, 64), (832, 480), (72, 136), (256, 256), (64, 832), (320, 184), (512, 288)]
    width, height = sizes[number % len(sizes)]
    lengths = [8, 16, 9, 25, 128] if width * height < 50_000 else [8, 16, 9]
    frames = lengths[number % len(lengths)]
    kind = number % 6
    if kind == 0:  # noise
        for _ in range(frames):
            yield rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    elif kind == 1:  # flat colours that change
        for _ in range(frames):
            yield np.full((height, width, 3), rng.integers(0, 256, 3), dtype=np.uint8)
    elif kind == 2:  # a small light that creeps through the dark
        for index in range(frames):
            frame = np.zeros((height, width, 3), np.uint8)
            frame[20:28, 8 + index % 32 : 16 + index % 32] = 255
            yield frame
    elif kind == 3:  # a flash: one frame differs
        for index in range(frames):
            yield np.full((height, width, 3), 240 if index == frames // 2 else 20, np.uint8)
    elif kind == 4:  # slow fade of one flat colour, a step of one each frame
        for index in range(frames):
            yield np.full((height, width, 3), 60 + index, np.uint8)
    else:
        yield from pan(frames, width, height, speed=1, seed=number)


def unsealed(path: Path) -> bytes:
    """Return the clip as another muxer would have written it: no seal, no recipe."""
    facts = read_seal(path)
    assert facts is not None
    return path.read_bytes()[: facts["bytes"]].replace(b'{"framedeck":', b'{"strange  ":')


def write(
    output: Path, frames: Iterator[np.ndarray] | list[np.ndarray], **params: object
) -> Output:
    with ClipWriter(make_job(output, **params)) as writer:
        for frame in frames:
            writer.add(frame)
        return writer.finish({"seconds": 1.5})


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# --- damages ----------------------------------------------------------------------------


def cut(path: Path, rng: random.Random) -> None:
    """Keep only the front part."""
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(1, len(data))])


def flip_bit(path: Path, rng: random.Random) -> None:
    """Turn one bit."""
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def flip_bytes(path: Path, rng: random.Random) -> None:
    """Turn twenty bytes."""
    data = bytearray(path.read_bytes())
    for _ in range(20):
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    path.write_bytes(data)


def zero(path: Path, rng: random.Random) -> None:
    """Lose one block of up to 4 KiB, as a disk does."""
    data = bytearray(path.read_bytes())
    length = min(4096, len(data) // 4)
    start = rng.randrange(len(data) - length)
    data[start : start + length] = bytes(length)
    path.write_bytes(data)


def frozen(path: Path, rng: random.Random) -> None:
    """Make every frame the first one, in a file that is sound as such."""
    frames = _decoded(path)
    _encode(path, [frames[0]] * len(frames))


def stuck(path: Path, rng: random.Random) -> None:
    """Repeat one frame from somewhere to the end."""
    frames = _decoded(path)
    at = rng.randrange(1, max(2, len(frames) // 2))
    _encode(path, frames[:at] + [frames[at]] * (len(frames) - at))


def black(path: Path, rng: random.Random) -> None:
    """Make every frame black, in a file that is sound as such."""
    frames = _decoded(path)
    _encode(path, [np.zeros_like(frame) for frame in frames])


def stub(path: Path, rng: random.Random) -> None:
    """Replace the file by a header of 48 bytes, as a server in trouble sends it."""
    head = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41\x00\x00\x00\x08free"
    path.write_bytes((head + bytes(48))[:48])


DAMAGES: tuple[Damage, ...] = (cut, flip_bit, flip_bytes, zero, frozen, stuck, black, stub)


def _decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def _encode(path: Path, frames: list[np.ndarray]) -> None:
    """Write frames with another encoder's settings, as another program would."""
    with av.open(str(path)) as old:
        rate = Fraction(old.streams.video[0].average_rate or 8)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())

"""What a clip shows: noise is told from pictures, and a clip that is another one over again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.events import Finished
from core.jobs import Job
from core.ledger import Ledger
from core.ledger.twins import twin_of
from core.outputs import ClipWriter
from core.outputs.noise import NoiseWatch
from tests.core._damage import good_clip, make_job, pan, write


def white(count: int, high: int = 128, wide: int = 128) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (high, wide, 3), np.uint8) for _ in range(count)]


def speckle(count: int, high: int = 192, wide: int = 256) -> list[np.ndarray]:
    """Noise as a decoder leaves it: smooth within a latent cell of 8 pixels."""
    rng = np.random.default_rng(4)
    frames = []
    for _ in range(count):
        cells = rng.normal(128, 60, (high // 8 + 1, wide // 8 + 1, 3))
        rows, columns = np.linspace(0, high // 8 - 1, high), np.linspace(0, wide // 8 - 1, wide)
        y, x = rows.astype(int), columns.astype(int)
        a, b = (rows - y)[:, None, None], (columns - x)[None, :, None]
        top = cells[y][:, x] * (1 - b) + cells[y][:, x + 1] * b
        below = cells[y + 1][:, x] * (1 - b) + cells[y + 1][:, x + 1] * b
        frames.append((top * (1 - a) + below * a).clip(0, 255).astype(np.uint8))
    return frames


@pytest.mark.parametrize("frames", [white(6), speckle(6)], ids=["white", "speckle"])
def test_noise_is_noted_and_kept(tmp_path: Path, frames: list[np.ndarray]) -> None:
    """It may be meant so: somebody asked for a television without a station."""
    job = make_job(tmp_path / "clip.mp4")
    with ClipWriter(job) as writer:
        for frame in frames:
            writer.add(frame)
        output = writer.finish()
    assert "look like noise" in writer.doubt
    assert Path(output.path).is_file()


def test_pictures_are_no_noise(tmp_path: Path) -> None:
    """A grain over a picture is none, nor noise that one frame shares with the next."""
    ramp = np.linspace(0, 120, 128, dtype=np.uint8)[None, :, None]
    grainy = [frame // 3 + ramp for frame in white(6)]
    still = [white(1)[0]] * 6
    for frames in (grainy, still, list(pan(6, 128, 96)), [*white(5), *pan(1, 128, 128)]):
        watch = NoiseWatch()
        for frame in frames:
            watch.see(frame.mean(axis=2).astype(np.uint8))
        assert not watch.only_noise


def test_what_is_flat_or_tiny_is_not_called_noise() -> None:
    for frames in (white(3, 16, 16), [frame // 32 + 100 for frame in white(3)]):
        watch = NoiseWatch()
        for frame in frames:
            watch.see(frame[..., 0])
        assert not watch.only_noise
    assert not NoiseWatch().only_noise


def test_a_clip_that_shows_what_another_one_shows(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    ledger = Ledger.open(path)

    def done(name: str, seed: int, clip: int) -> tuple[Job, str]:
        job = replace(make_job(tmp_path / f"{name}.mp4", seed=seed), id=name)
        ledger.enqueue([job])
        ledger.begin(job.id)
        output = write(tmp_path / f"{name}.mp4", good_clip(clip))
        end = Finished(
            job_id=job.id, output=output, seed=seed, seconds=1.0,
            peak_rss_bytes=None, peak_vram_bytes=None,
        )  # fmt: skip
        ledger.end(job.id, end)
        return job, output.content

    _, content = done("first", 1, 3)
    again, same = done("again", 1, 3)
    other, shown = done("other", 2, 3)
    plain, plainly = done("plain", 3, 4)
    assert content == same == shown != plainly
    assert content.startswith("8-")
    twins = twin_of(path, other, shown)
    assert twins is not None
    assert (twins.job.id, twins.output.content) == ("again", content)
    assert twin_of(path, plain, plainly) is None
    assert twin_of(path, plain, "") is None
    ledger.remove(["other"])
    assert twin_of(path, again, same) is None, "the same values give the same clip"
    ledger.close()

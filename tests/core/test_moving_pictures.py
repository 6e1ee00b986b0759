"""Animated WebP and PNG: decoded whole, and every damage found."""

from __future__ import annotations

import functools
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from core.engines.comfy.posters import poster
from core.engines.comfy.standin.media import Picture, clip
from core.outputs import webp
from core.outputs.container import MOVING_PNG, MOVING_WEBP, kind_of, picture_size
from core.outputs.look import Expected, Findings
from core.outputs.verify import inspect, verify_file

KINDS = {"webp": MOVING_WEBP, "png": MOVING_PNG}


@functools.cache
def made(suffix: str, frames: int = 5) -> bytes:
    return clip(Picture(96, 64, frames, seed=3), suffix, 8.0, {"prompt": {"1": "a graph"}})


def look(folder: Path, data: bytes, suffix: str) -> Findings:
    path = folder / "clip.part"
    path.write_bytes(data)
    return inspect(path, Expected(), container=KINDS[suffix].format)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("moving")


@pytest.mark.parametrize("suffix", KINDS)
def test_every_frame_is_decoded(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip.{suffix}"
    path.write_bytes(made(suffix))
    kind = kind_of(path)
    assert kind == KINDS[suffix]
    seen: list[int] = []
    found = inspect(path, Expected(), lambda done, _: seen.append(done), container=kind.format)
    assert found.faults == found.doubts == []
    assert (found.width, found.height, found.frames, round(found.fps, 3)) == (96, 64, 5, 8)
    assert seen == [1, 2, 3, 4, 5]
    assert verify_file(path).ok
    assert len(poster(path, kind)) > 1500, "a picture of it, and not a black one"


def test_with_alpha_and_as_a_part_of_the_canvas_as_well(tmp_path: Path) -> None:
    dice = random.Random(5)
    frames = []
    for step in range(4):
        frame = Image.new("RGBA", (64, 48), (200, 30, 30, 128))
        for _ in range(40):
            frame.putpixel((dice.randrange(8) + 10 * step, dice.randrange(8)), (0, 255, 0, 255))
        frames.append(frame)
    path = tmp_path / "clip.webp"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, quality=80)
    sizes = {(frame.width, frame.height) for frame in webp.read(path).frames}
    assert len(sizes) > 1, "a part of the canvas"
    found = inspect(path, Expected(), container=MOVING_WEBP.format)
    assert (found.faults, found.frames, round(found.fps)) == ([], 4, 10)
    frames[0].save(path.with_suffix(".png"))
    assert kind_of(path.with_suffix(".png")) != MOVING_PNG


@pytest.mark.parametrize("suffix", KINDS)
@given(share=st.floats(0.01, 0.999))
def test_one_that_was_cut_is_never_whole(folder: Path, suffix: str, share: float) -> None:
    data = made(suffix)
    # The last chunk of a PNG holds nothing, and the words of a WebP stand behind its frames.
    frames_end = data.rindex(b"IEND") - 4 if suffix == "png" else len(data)
    assert look(folder, data[: int(frames_end * share)], suffix).faults


def test_a_png_that_was_cut_between_two_pictures_is_not_whole(folder: Path) -> None:
    data, at, cuts = made("png"), 8, []
    while at < len(data):
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        cuts.append(at)
    assert len(cuts) > 10
    for cut in cuts[:-1]:
        assert look(folder, data[:cut], "png").faults, cut


@given(data=st.data())
def test_noise_in_it_raises_nothing(folder: Path, data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from(sorted(KINDS)))
    whole = bytearray(made(suffix))
    at = data.draw(st.integers(12, len(whole) - 200))
    whole[at : at + 100] = data.draw(st.binary(min_size=100, max_size=100))
    found = look(folder, bytes(whole), suffix)
    assert found.frames or found.faults


def test_sizes_that_lie_are_not_decoded(tmp_path: Path) -> None:
    data = bytearray(made("webp"))
    at = data.index(b"ANMF") + 8
    data[at + 6 : at + 9] = (16_000_000).to_bytes(3, "little")
    found = look(tmp_path, bytes(data), "webp")
    assert found.faults[0] == "It stops decoding after 0 frames: a frame claims to be 96×64."
    assert picture_size(made("webp")) == (96, 64)


def test_no_frames_are_told_as_such(tmp_path: Path) -> None:
    """And not as 0 frames instead of 0."""
    data = made("webp")
    data = data[: data.index(b"ANMF")]
    data = data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:]
    found = look(tmp_path, data, "webp")
    assert found.faults == ["It holds no frames that can be decoded."]
    assert webp.read(tmp_path / "clip.part").fps == 1.0
    cut = made("png")[:200]
    told = look(tmp_path, cut, "png").faults
    assert told
    assert not any("instead of 0" in fault for fault in told)

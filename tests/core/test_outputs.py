"""Clips on disk: written, read back, damaged and found out; real files and real encoders."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import Category, ProblemError
from core.outputs import (
    ClipWriter,
    read_frames,
    read_recipe,
    verify_file,
)
from tests.core._damage import (
    DAMAGES,
    Damage,
    black,
    frozen,
    good_clip,
    make_job,
    names,
    pan,
    stub,
    unsealed,
    write,
)

ROOT = Path(__file__).resolve().parents[2]


# --- the good way -----------------------------------------------------------------------


def test_a_clip_is_published_with_poster_and_recipe(tmp_path: Path) -> None:
    output = write(tmp_path / "new" / "clip.mp4", pan(9, 96, 64), fps=12)
    assert names(tmp_path / "new") == ["clip.jpg", "clip.json", "clip.mp4"]
    assert (output.frames, output.width, output.height, output.fps) == (9, 96, 64, 12.0)
    assert output.size_bytes == Path(output.path).stat().st_size
    assert output.encode_seconds > 0
    assert output.verify_seconds > 0
    assert Path(output.poster).read_bytes()[:3] == b"\xff\xd8\xff"
    verdict = verify_file(output.path)
    assert verdict.ok, verdict.faults
    assert verdict.against == "recipe"


def test_the_poster_shows_the_frame_with_most_in_it(tmp_path: Path) -> None:
    import av

    frames = [np.full((64, 64, 3), 20 + index, np.uint8) for index in range(8)]
    frames[5][:, ::2] = 250
    output = write(tmp_path / "clip.mp4", frames)
    with av.open(output.poster) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert picture.shape == (64, 64, 3)
    assert np.abs(picture.astype(int) - frames[5]).mean() < 12


def test_the_recipe_is_inside_and_beside(tmp_path: Path) -> None:
    output = write(tmp_path / "clip.mp4", pan(8, 64, 64))
    beside = read_recipe(output.recipe)
    assert beside["job"]["id"]
    assert beside["job"]["model"] == "/somewhere/private/tiny-model"
    assert beside["seconds"] == 1.5
    Path(output.recipe).unlink()
    inside = read_recipe(output.path)
    assert inside["job"]["params"] == {"fps": 8, "seed": 7, "prompt": 'a "bear"'}
    assert inside["job"]["title"] == "Ein Prüfbild, 試験"
    assert inside["job"]["model"] == "tiny-model"
    assert b"/somewhere/private" not in Path(output.path).read_bytes()
    with pytest.raises(ProblemError, match="no recipe"):
        read_recipe(tmp_path / "nothing.mp4")


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    first = write(tmp_path / "a.mp4", pan(16, 256, 128))
    second = write(tmp_path / "b.mp4", pan(16, 256, 128))
    other = write(tmp_path / "c.mp4", pan(16, 256, 128, seed=1))
    assert Path(first.path).read_bytes() == Path(second.path).read_bytes()
    assert Path(first.path).read_bytes() != Path(other.path).read_bytes()


def test_the_header_comes_first_for_players_on_the_web(tmp_path: Path) -> None:
    from core.outputs.marks import boxes

    output = write(tmp_path / "clip.mp4", pan(8, 64, 64))
    kinds = [kind for kind, _, _ in boxes(Path(output.path))]
    assert kinds.index(b"moov") < kinds.index(b"mdat")
    assert kinds[-1] == b"uuid"


def test_colours_come_back(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (10, 200, 90), (0, 0, 0)]
    colours += [(200, 30, 160), (99, 99, 99)]
    output = write(tmp_path / "c.mp4", [np.full((64, 72, 3), c, np.uint8) for c in colours])
    frames = list(read_frames(output.path, 10**9))
    assert [(f.index, f.total, f.width, f.height, f.fps) for f in frames] == [
        (index, 8, 72, 64, 8.0) for index in range(8)
    ]
    for frame, (red, green, blue) in zip(frames, colours, strict=True):
        assert len(frame.bgra) == 72 * 64 * 4
        pixel = frame.bgra[72 * 4 * 32 :][:4]
        assert np.abs(np.subtract(list(pixel), [blue, green, red, 255], dtype=int)).max() <= 3


def test_frames_are_scaled_down_to_the_memory_given(tmp_path: Path) -> None:
    output = write(tmp_path / "clip.mp4", pan(8, 208, 120))
    frames = list(read_frames(output.path, 100_000))
    assert sum(len(frame.bgra) for frame in frames) <= 100_000
    assert all(len(frame.bgra) == frame.width * frame.height * 4 for frame in frames)
    assert frames[0].width / frames[0].height == pytest.approx(208 / 120, rel=0.1)


def test_reading_what_is_no_clip_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ProblemError) as missing:
        list(read_frames(tmp_path / "gone.mp4", 1000))
    assert missing.value.problem.category is Category.STORAGE
    (tmp_path / "bad.mp4").write_bytes(bytes(48))
    with pytest.raises(ProblemError) as bad:
        list(read_frames(tmp_path / "bad.mp4", 1000))
    assert bad.value.problem.category is Category.BAD_OUTPUT


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    frames=st.integers(2, 12),
    columns=st.integers(8, 24),
    rows=st.integers(8, 24),
    fps=st.one_of(st.integers(1, 60), st.sampled_from([7.5, 23.976, 29.97])),
    seed=st.integers(0, 9),
)
def test_any_legal_clip_passes(
    tmp_path: Path, frames: int, columns: int, rows: int, fps: float, seed: int
) -> None:
    stills = pan(frames, columns * 8, rows * 8, seed=seed)
    output = write(tmp_path / "any.mp4", stills, fps=fps)
    assert (output.frames, output.width, output.height) == (frames, columns * 8, rows * 8)
    assert verify_file(output.path).ok
    assert verify_file(output.path, beside=False).ok


def test_verifying_is_told_frame_by_frame_and_can_be_ended(tmp_path: Path) -> None:
    class Cancelled(BaseException):
        pass

    told: list[tuple[int, int]] = []

    def on_verify(done: int, total: int) -> None:
        told.append((done, total))
        if done == 5:
            raise Cancelled

    with ClipWriter(make_job(tmp_path / "clip.mp4"), on_verify) as writer:
        for frame in pan(9, 64, 64):
            writer.add(frame)
        with pytest.raises(Cancelled):
            writer.finish({})
    assert told == [(done, 9) for done in range(1, 6)]
    assert names(tmp_path) == []


# --- what exists stays ------------------------------------------------------------------


def test_an_existing_clip_is_never_replaced(tmp_path: Path) -> None:
    target = tmp_path / "clip.mp4"
    target.write_bytes(b"precious")
    (tmp_path / "clip-2.json").write_text("also precious")
    output = write(target, pan(8, 64, 64))
    assert target.read_bytes() == b"precious"
    assert (tmp_path / "clip-2.json").read_text() == "also precious"
    assert Path(output.path).name == "clip-3.mp4"
    assert verify_file(output.path).against == "recipe"
    assert names(tmp_path) == ["clip-2.json", "clip-3.jpg", "clip-3.json", "clip-3.mp4", "clip.mp4"]


def test_leaving_without_finish_leaves_nothing(tmp_path: Path) -> None:
    with ClipWriter(make_job(tmp_path / "clip.mp4")) as writer:
        for frame in pan(80, 64, 64):  # more than the encoder holds back
            writer.add(frame)
        assert len(names(tmp_path)) == 1
    assert names(tmp_path) == []


# --- bad frames -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        np.full((64, 64, 3), np.nan, np.float32),
        np.zeros((64, 64, 3), np.float32),
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 4), np.uint8),
        np.zeros((60, 64, 3), np.uint8),
        np.zeros((0, 64, 3), np.uint8),
        None,
    ],
    ids=["nan", "float", "grey", "alpha", "size", "empty", "nothing"],
)
def test_bad_frames_are_refused(tmp_path: Path, frame: np.ndarray) -> None:
    with ClipWriter(make_job(tmp_path / "clip.mp4")) as writer, pytest.raises(ProblemError) as bad:
        writer.add(frame)
    assert bad.value.problem.category is Category.BAD_OUTPUT
    assert bad.value.problem.hint


def test_a_frame_of_another_size_is_refused(tmp_path: Path) -> None:
    with ClipWriter(make_job(tmp_path / "clip.mp4")) as writer:
        writer.add(np.zeros((64, 64, 3), np.uint8))
        with pytest.raises(ProblemError, match="another size"):
            writer.add(np.zeros((64, 72, 3), np.uint8))


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([], "No frame"),
        ([np.zeros((64, 64, 3), np.uint8)] * 8, "black"),
        ([next(pan(1, 64, 64))] * 8, "the same picture"),
    ],
    ids=["none", "black", "frozen"],
)
def test_a_clip_of_nothing_is_refused(tmp_path: Path, frames: list[np.ndarray], words: str) -> None:
    with pytest.raises(ProblemError, match=words) as bad:
        write(tmp_path / "clip.mp4", frames)
    assert bad.value.problem.category is Category.BAD_OUTPUT
    assert names(tmp_path) == []


# --- damages ----------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_found(tmp_path: Path, damage: Damage) -> None:
    rng = random.Random(damage.__name__)
    output = write(tmp_path / "clip.mp4", pan(16, 192, 128))
    clip = Path(output.path)
    whole = clip.read_bytes()
    for _ in range(4):
        clip.write_bytes(whole)
        damage(clip, rng)
        verdict = verify_file(clip)
        assert not verdict.ok
        assert verdict.against == "recipe"
        assert all(fault.endswith(".") for fault in verdict.faults)


def test_no_damage_to_the_header_breaks_the_reader(tmp_path: Path) -> None:
    """Whatever a header says, there is a verdict, and playing ends in a Problem at worst."""
    clip = Path(write(tmp_path / "clip.mp4", pan(8, 64, 64)).path)
    clip.with_suffix(".json").unlink()
    whole = unsealed(clip)
    header = whole.index(b"mdat")
    rng = random.Random(3)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 4, 30])):
            data[rng.randrange(header)] = rng.choice([0, 1, 127, 255, rng.randrange(256)])
        clip.write_bytes(data)
        verify_file(clip)
        try:
            sum(1 for _ in read_frames(clip, 1_000_000))
        except ProblemError as error:
            assert error.problem.category is Category.BAD_OUTPUT


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_before_publishing_is_found(
    tmp_path: Path, damage: Damage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk loses something between encoding and verifying: no clip appears."""
    import core.outputs.encode as encode

    rng = random.Random(damage.__name__)

    def lossy(path: Path) -> None:
        damage(path, rng)

    monkeypatch.setattr(encode, "sync_file", lossy)
    for _ in range(6):
        with pytest.raises(ProblemError, match="not written right") as bad:
            write(tmp_path / "clip.mp4", pan(16, 192, 128))
        assert bad.value.problem.category is Category.BAD_OUTPUT
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", range(12))
def test_good_clips_raise_no_alarm(tmp_path: Path, number: int) -> None:
    output = write(tmp_path / "clip.mp4", good_clip(number))
    clip = Path(output.path)
    for against in ("recipe", "seal", "container"):
        if against == "seal":
            Path(output.recipe).unlink()
        if against == "container":
            clip.write_bytes(unsealed(clip))
        verdict = verify_file(clip)
        assert verdict.ok, verdict.faults
        assert verdict.against == against
        assert verdict.frames == output.frames


@pytest.mark.parametrize("damage", [frozen, black, stub])
def test_a_foreign_clip_without_light_or_motion_is_found(tmp_path: Path, damage: Damage) -> None:
    for noise in (0, 2, 8):
        clip = Path(write(tmp_path / f"{noise}.mp4", pan(16, 192, 128, noise=noise)).path)
        clip.with_suffix(".json").unlink()
        damage(clip, random.Random(1))
        verdict = verify_file(clip)
        assert not verdict.ok
        assert verdict.against == "container"


def test_a_clip_that_lost_only_its_end_is_found_without_its_json(tmp_path: Path) -> None:
    clip = Path(write(tmp_path / "clip.mp4", pan(8, 64, 64)).path)
    clip.with_suffix(".json").unlink()
    clip.write_bytes(clip.read_bytes()[:-10])
    assert verify_file(clip).faults == ("Its end is missing.",)


def test_a_missing_clip_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        verify_file(tmp_path / "none.mp4")


def test_a_very_long_name_still_works(tmp_path: Path) -> None:
    output = write(tmp_path / ("ü" * 120 + ".mp4"), pan(8, 64, 64))
    assert verify_file(output.path).ok


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, core.outputs; "
        "print([n for n in ('numpy', 'av', 'cv2', 'torch') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

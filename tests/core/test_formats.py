"""Every format: written, verified, read back, damaged and found out; real encoders, real files."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import formats
from core.errors import Category, ProblemError
from core.events import Output
from core.jobs import Job, new_job
from core.outputs import (
    Wish,
    read_frames,
    read_recipe,
    remove_leftovers,
    verify_file,
    writer_of,
)
from core.outputs.container import kind_of
from core.outputs.gif import GifWriter
from core.outputs.marks import digest_of
from core.outputs.published import published
from core.outputs.thumbs import thumbnails
from core.post.plan import Plan
from tests.core._damage import Damage, cut, flip_bytes, make_job, names, pan, zero

ROOT = Path(__file__).resolve().parents[2]
EVEN = ("h264", "h265", "av1", "webm", "prores", "prores4444")
"""Formats that keep colours for pairs of pixels."""
INSIDE = EVEN
"""Formats that hold their own recipe."""
APART = {"png": 0.0, "prores4444": 1.0, "prores": 2.0, "jpeg": 3.0, "gif": 7.0}
"""Most that colours may be off on average, of 255, where it is not 3.5."""


def frames_of(count: int = 6, width: int = 96, height: int = 64) -> list[np.ndarray]:
    return list(pan(count, width, height, noise=1.0, speed=4))


def made(
    folder: Path, name: str, frames: list[np.ndarray], fps: float = 12, **wish: object
) -> tuple[Job, Output]:
    job = make_job(folder / f"clip{formats.ending(name)}", format=name, frames=len(frames), fps=fps)
    with writer_of(job)(job, None, Wish(any_size=True, **wish)) as writer:
        for frame in frames:
            writer.add(frame)
        return job, writer.finish({"seconds": 1.5})


def shown(path: str) -> np.ndarray:
    """Return what a player shows, (n, h, w, 3) R,G,B."""
    read = [
        np.frombuffer(frame.bgra, np.uint8).reshape(frame.height, frame.width, 4)[..., 2::-1]
        for frame in read_frames(path, 10**9)
    ]
    return np.stack(read)


@pytest.mark.parametrize("name", formats.NAMES)
def test_every_format_is_published_whole_and_read_again(tmp_path: Path, name: str) -> None:
    frames = frames_of()
    job, output = made(tmp_path, name, frames)
    path = Path(output.path)
    assert path.suffix == formats.ending(name)
    assert names(tmp_path) == sorted(["clip.jpg", "clip.json", path.name])
    assert (output.frames, output.width, output.height, output.fps) == (6, 96, 64, 12.0)
    verdict = verify_file(path)
    assert verdict.ok, verdict.faults
    assert verdict.against == "recipe"
    seen = shown(output.path)
    assert seen.shape == (6, 64, 96, 3)
    off = np.abs(seen.astype(int) - np.stack(frames)).mean()
    assert off <= APART.get(name, 3.5)
    for frame in read_frames(path, 10**9):
        assert frame.fps == pytest.approx(12, rel=0.01)
    assert len(thumbnails(path)) == 3
    kind = kind_of(path)
    assert kind is not None
    found = published(job)
    assert found is not None, "an orphan's clip is known again"
    assert (found.path, found.frames, found.fps) == (output.path, 6, 12.0)
    assert found.size_bytes == output.size_bytes > 0
    assert read_recipe(output.recipe)["job"]["params"]["format"] == name
    assert read_recipe(path)["job"]["params"]["format"] == name, "from the clip, or from beside it"


@pytest.mark.parametrize("name", INSIDE)
def test_the_recipe_is_in_the_file_where_it_can_be(tmp_path: Path, name: str) -> None:
    _, output = made(tmp_path, name, frames_of())
    Path(output.recipe).unlink()
    inside = read_recipe(output.path)
    assert inside["job"]["params"]["format"] == name
    assert inside["job"]["model"] == "tiny-model"
    verdict = verify_file(output.path)
    assert verdict.ok, verdict.faults
    assert verdict.against == ("container" if name == "webm" else "seal")


@pytest.mark.parametrize("name", formats.NAMES)
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    frames = frames_of(10)
    digests = {
        digest_of(Path(made(tmp_path / str(turn), name, frames)[1].path)) for turn in range(3)
    }
    assert len(digests) == 1


@pytest.mark.parametrize("name", ["h264", "prores", "prores4444"])
def test_no_pixel_of_an_odd_size_is_left_to_chance(tmp_path: Path, name: str) -> None:
    """Memory that others used lies behind the rows; nothing of it may come into a picture."""
    frames = frames_of(1, 66, 70)
    packets, pictures = set(), set()
    for number in range(20):
        kept = [np.full(size, 11 * number, np.uint8) for size in (1000, 6000, 20_000)]
        del kept
        (tmp_path / str(number)).mkdir()
        _, output = made(tmp_path / str(number), name, [*frames, frames[0] // 2])
        packets.add(Path(output.path).read_bytes())
        pictures.add(shown(output.path).tobytes())
    assert (len(packets), len(pictures)) == (1, 1)


def test_larger_h264_clips_have_the_same_bytes_too(tmp_path: Path) -> None:
    """With AVX-512, one in five of these came out otherwise."""
    random = np.random.default_rng(0)
    blocks = random.integers(0, 255, (30, 40, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    frames = [np.roll(blocks, (turn * 3, turn * 5), (0, 1)) for turn in range(24)]
    digests = {
        digest_of(Path(made(tmp_path / str(turn), "h264", frames)[1].path)) for turn in range(12)
    }
    assert len(digests) == 1


@pytest.mark.parametrize("name", formats.NAMES)
@pytest.mark.parametrize("size", [(101, 75), (9, 8), (66, 70)])
def test_any_size_of_a_clip_from_elsewhere(
    tmp_path: Path, name: str, size: tuple[int, int]
) -> None:
    """Pairs of pixels are made whole by the edge's colours; nothing is scaled or cut off."""
    width, height = size
    frames = frames_of(3, width, height)
    _, output = made(tmp_path, name, frames)
    assert verify_file(output.path).ok
    least = {"h265": 16, "av1": 64, "webm": 64}.get(name, 8)
    if name in EVEN:
        wanted = (max(least, width + width % 2), max(least, height + height % 2))
    else:
        wanted = size
    assert (output.width, output.height) == wanted
    seen = shown(output.path)[:, :height, :width].astype(int)
    assert np.abs(seen - np.stack(frames)).mean() < 8


@pytest.mark.parametrize("name", formats.NAMES)
def test_a_job_keeps_to_multiples_of_eight(tmp_path: Path, name: str) -> None:
    job = make_job(tmp_path / "clip", format=name, frames=1)
    with writer_of(job)(job) as writer, pytest.raises(ProblemError, match="multiples of 8"):
        writer.add(np.zeros((60, 64, 3), np.uint8))
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", formats.NAMES)
@pytest.mark.parametrize("damage", [cut, flip_bytes, zero], ids=lambda one: one.__name__)
def test_damage_is_found(tmp_path: Path, name: str, damage: Damage) -> None:
    _, output = made(tmp_path, name, frames_of())
    clip = Path(output.path)
    files = sorted(clip.iterdir()) if clip.is_dir() else [clip]
    rng = random.Random(f"{name} {damage.__name__}")
    for _ in range(3):
        victim = rng.choice(files)
        whole = victim.read_bytes()
        damage(victim, rng)
        verdict = verify_file(clip)
        assert not verdict.ok
        assert verdict.against == "recipe"
        victim.write_bytes(whole)
    assert verify_file(clip).ok


@pytest.mark.parametrize("name", formats.NAMES)
@pytest.mark.parametrize("damage", [cut, flip_bytes, zero], ids=lambda one: one.__name__)
def test_damage_before_publishing_is_found(
    tmp_path: Path, name: str, damage: Damage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk loses something between encoding and verifying: no clip appears."""
    rng = random.Random(f"{name} {damage.__name__}")

    def lossy(path: Path) -> None:
        damage(rng.choice(sorted(path.iterdir())) if path.is_dir() else path, rng)

    for module in ("encode", "gif", "webp_write"):
        monkeypatch.setattr(f"core.outputs.{module}.sync_file", lossy)
    monkeypatch.setattr("core.outputs.sequence.sync_folder", lossy)
    for _ in range(2):
        with pytest.raises(ProblemError, match="not written right") as bad:
            made(tmp_path, name, frames_of())
        assert bad.value.problem.category is Category.BAD_OUTPUT
    assert names(tmp_path) == []


@pytest.mark.parametrize("lost", [1, 5, 22])
@pytest.mark.parametrize("name", [one for one in formats.NAMES if one not in ("png", "jpeg")])
def test_a_lost_end_is_found_before_publishing(
    tmp_path: Path, name: str, lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All frames are there; what is not is the index, the trailer or the seal."""

    def short(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-lost])

    for module in ("encode", "gif", "webp_write"):
        monkeypatch.setattr(f"core.outputs.{module}.sync_file", short)
    with pytest.raises(ProblemError, match="not written right"):
        made(tmp_path, name, frames_of())
    assert names(tmp_path) == []


def test_a_sequence_that_lacks_or_swaps_a_picture_is_found(tmp_path: Path) -> None:
    _, output = made(tmp_path, "png", frames_of())
    folder = Path(output.path)
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [f"frame-{n:05d}.png" for n in range(1, 7)]
    spare = tmp_path / "spare"
    shutil.move(files[2], spare)
    assert "5 frames instead of 6" in " ".join(verify_file(folder).faults)
    shutil.copy(files[3], files[2])
    assert not verify_file(folder).ok
    shutil.move(spare, files[2])
    assert verify_file(folder).ok
    folder.with_suffix(".json").unlink()
    foreign = verify_file(folder)
    assert (foreign.ok, foreign.against, foreign.frames) == (True, "container", 6)


@pytest.mark.parametrize("name", ["png", "gif", "webm"])
def test_what_exists_is_never_replaced(tmp_path: Path, name: str) -> None:
    first = made(tmp_path, name, frames_of())[1]
    before = digest_of(Path(first.path))
    second = made(tmp_path, name, frames_of(4))[1]
    assert Path(second.path).stem == "clip-2"
    assert digest_of(Path(first.path)) == before
    assert verify_file(first.path).ok
    assert verify_file(second.path).ok


@pytest.mark.parametrize("name", ["png", "gif", "webp", "prores"])
def test_leaving_half_way_leaves_nothing(tmp_path: Path, name: str) -> None:
    job = make_job(tmp_path / "clip", format=name, frames=9)
    with writer_of(job)(job) as writer:
        for frame in frames_of(9):
            writer.add(frame)
        assert names(tmp_path) or name == "gif"
    assert names(tmp_path) == []


def test_a_dead_writers_folder_is_cleaned_up(tmp_path: Path) -> None:
    job = make_job(tmp_path / "clip.frames", format="png", frames=9)
    writer = writer_of(job)(job)
    for frame in frames_of(12):
        writer.add(frame)
    assert any(path.is_dir() for path in tmp_path.iterdir())
    writer._release()  # as its death would end it
    remove_leftovers(job.output)
    assert names(tmp_path) == []


FULL = """
import resource, signal, sys, json
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
from tests.core._damage import make_job, pan
from core.errors import ProblemError
from core.outputs import writer_of
job = make_job(Path(sys.argv[1]), format=sys.argv[2], frames=24)
try:
    with writer_of(job)(job) as writer:
        for frame in pan(24, 256, 192, noise=30):
            writer.add(frame)
        writer.finish({{}})
except ProblemError as error:
    print(json.dumps(error.problem.to_json()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("name", ["gif", "webp", "png", "prores", "webm"])
@pytest.mark.parametrize("limit", [2_000, 60_000])
def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path, name: str, limit: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL.format(limit=limit), str(tmp_path / "clip"), name],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    problem = json.loads(done.stdout.splitlines()[-1])
    assert problem["category"] == "storage"
    assert "disk is full" in problem["message"].lower()
    assert names(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small disk")
@pytest.mark.parametrize("name", ["gif", "png", "prores"])
def test_a_small_disk_that_fills_up(tmp_path: Path, name: str) -> None:
    """A tmpfs of 1 MB where we may mount one; elsewhere the limits above say it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "framedeck-test", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no disk may be mounted here; the limits above fill one up as well")
    try:
        with pytest.raises(ProblemError, match="disk is full") as full:
            made(disk, name, list(pan(40, 512, 256, noise=40)))
        assert full.value.problem.category is Category.STORAGE
        assert names(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_gif_plays_no_faster_than_players_do(tmp_path: Path) -> None:
    _, output = made(tmp_path, "gif", frames_of(), fps=60)
    assert output.fps == 50
    assert verify_file(output.path).ok


def test_more_frames_than_a_gif_plays_are_refused_and_a_slow_one_is_told(tmp_path: Path) -> None:
    assert Plan(inbetween=2).fps(25, "gif") == 50
    assert Plan().fps(60, "gif") == Plan().fps(60) == 60
    with pytest.raises(ProblemError, match=r"4 times 24 .* are 96, and a GIF holds 50") as raised:
        Plan(inbetween=4).fps(24, "gif")
    assert raised.value.problem.field == "inbetween"
    job = make_job(tmp_path / "clip.gif", frames=3, fps=60, format="gif")
    with GifWriter(job) as writer:
        for frame in frames_of()[:3]:
            writer.add(frame)
        writer.finish({})
    assert "1.2 times as long" in writer.doubt


def test_a_gifs_palette_fits_its_colours(tmp_path: Path) -> None:
    """Few colours come back as they are, and a ramp without steps that one would see."""
    flat = [np.full((64, 64, 3), 40, np.uint8) for _ in range(6)]
    for number, frame in enumerate(flat):
        frame[8:24, 4 + number : 24 + number] = (250, 30, 30)
        frame[32:56, 4:40] = (30, 200, 90)
    off = np.abs(shown(made(tmp_path / "a", "gif", flat)[1].path).astype(int) - np.stack(flat))
    assert off.max() <= 3
    ramp = [np.zeros((64, 256, 3), np.uint8) for _ in range(4)]
    for number, frame in enumerate(ramp):
        frame[...] = np.roll(np.arange(256, dtype=np.uint8), number * 8)[None, :, None]
    off = np.abs(shown(made(tmp_path / "b", "gif", ramp)[1].path).astype(int) - np.stack(ramp))
    assert off.mean() < 3


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(formats.NAMES),
    count=st.integers(2, 9),
    columns=st.integers(8, 20),
    rows=st.integers(8, 20),
    fps=st.sampled_from([1, 7, 24, 30, 50, 60, 23.976]),
    seed=st.integers(0, 99),
)
def test_any_legal_clip_passes(
    tmp_path: Path, name: str, count: int, columns: int, rows: int, fps: float, seed: int
) -> None:
    folder = tmp_path / f"{name}{seed}{count}{columns}{rows}{fps}"
    frames = list(pan(count, columns * 8, rows * 8, seed=seed))
    _, output = made(folder, name, frames, fps=fps)
    assert (output.frames, output.width, output.height) == (count, columns * 8, rows * 8)
    rate = float(Fraction(str(fps)).limit_denominator(1001))
    assert output.fps == (min(50.0, rate) if name == "gif" else rate)
    verdict = verify_file(output.path)
    assert verdict.ok, verdict.faults


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_frames_of_h265_have_their_times(tmp_path: Path, count: int) -> None:
    """Of one or two, x265 tells whatever its memory held as the time of decoding."""
    for turn in range(8):
        _, output = made(tmp_path / str(turn), "h265", list(pan(count, 64, 64)), fps=1)
        assert output.frames == count
        with av.open(output.path) as container:
            packets = [one for one in container.demux(video=0) if one.size]
            assert all(one.dts is not None and one.dts <= one.pts for one in packets)


def test_jobs_get_the_ending_of_their_format(tmp_path: Path) -> None:
    from core.engines.local import families

    for recipe in families.recipes(tmp_path):
        if recipe.family == "dream":
            # Its segments are one kind of file, and its form offers no other.
            assert "format" not in {knob.name for knob in recipe.parameters}
            continue
        for name in formats.NAMES:
            job = new_job(recipe, {"prompt": "a ball", "format": name}, tmp_path)
            assert Path(job.output).suffix == formats.ending(name)
        assert Path(new_job(recipe, {"prompt": "a ball"}, tmp_path).output).suffix == ".mp4"
        with pytest.raises(ProblemError, match="Format"):
            new_job(recipe, {"prompt": "a ball", "format": "avi"}, tmp_path)

"""Clips on disk: real files, real encoders, real full disks and real kills."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import Category, ProblemError
from core.events import Output
from core.outputs import (
    ClipWriter,
    check_writable,
    read_frames,
    read_recipe,
    remove_leftovers,
    verify_file,
)
from tests.core._damage import DAMAGES, Damage, good_clip, make_job, pan

ROOT = Path(__file__).resolve().parents[2]


def write(
    output: Path, frames: Iterator[np.ndarray] | list[np.ndarray], **params: object
) -> Output:
    with ClipWriter(make_job(output, **params)) as writer:
        for frame in frames:
            writer.add(frame)
        return writer.finish({"seconds": 1.5})


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


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
    with pytest.raises(ProblemError, match="not written right") as bad:
        write(tmp_path / "clip.mp4", pan(16, 192, 128))
    assert bad.value.problem.category is Category.BAD_OUTPUT
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", range(12))
def test_good_clips_raise_no_alarm(tmp_path: Path, number: int) -> None:
    output = write(tmp_path / "clip.mp4", good_clip(number))
    for beside in (True, False):
        verdict = verify_file(output.path, beside=beside)
        assert verdict.ok, verdict.faults


def test_a_missing_clip_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        verify_file(tmp_path / "none.mp4")


# --- disks ------------------------------------------------------------------------------


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    target = tmp_path / "file" / "deep" / "clip.mp4"
    for refused in (lambda: check_writable(target), lambda: ClipWriter(make_job(target))):
        with pytest.raises(ProblemError) as bad:
            refused()
        assert bad.value.problem.category is Category.STORAGE
        assert str(target.parent) in bad.value.problem.message
        assert "another output folder" in bad.value.problem.hint


def test_a_check_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "made" / "clip.mp4")
    assert names(tmp_path / "made") == []


def test_too_little_space_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="disk is full") as bad:
        check_writable(tmp_path / "clip.mp4", needed_bytes=1 << 60)
    assert bad.value.problem.category is Category.STORAGE


WRITE_SCRIPT = """
import sys, json
from pathlib import Path
from tests.core._damage import make_job, pan
from core.errors import ProblemError
from core.outputs import ClipWriter
{before}
try:
    with ClipWriter(make_job(Path(sys.argv[1]))) as writer:
        print("begun", flush=True)
        for frame in pan({frames}, 256, 256, noise=40):
            writer.add(frame)
        print("added", flush=True)
        writer.finish({{}})
        print("done", flush=True)
except ProblemError as error:
    print(json.dumps(error.problem.to_json()), flush=True)
"""


def script(target: Path, *, frames: int, before: str = "") -> list[str]:
    code = WRITE_SCRIPT.format(frames=frames, before=before)
    return [sys.executable, "-c", code, str(target)]


def assert_full(lines: list[str], folder: Path) -> None:
    problem = json.loads(lines[-1])
    assert problem["category"] == "storage"
    assert "disk is full" in problem["message"].lower()
    assert str(folder) in problem["message"]
    assert "space" in problem["hint"]
    assert names(folder) == []


def test_a_full_disk_while_encoding_leaves_nothing(tmp_path: Path) -> None:
    """On a small tmpfs where we may mount one, else by the size a file may have."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "framedeck-test", str(tmp_path)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    before = ""
    if not mounted:
        before = (
            "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000000, 1000000))"
        )
    try:
        done = subprocess.run(
            script(tmp_path / "clip.mp4", frames=64, before=before),
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        assert_full(done.stdout.splitlines(), tmp_path)
    finally:
        if mounted:
            subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("limit", [2_000, 60_000, 400_000])
def test_a_file_that_may_not_grow_leaves_nothing(tmp_path: Path, limit: int) -> None:
    """Wherever it happens: in the first packet, in between, or while the header moves up."""
    before = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    )
    done = subprocess.run(
        script(tmp_path / "clip.mp4", frames=24, before=before),
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert_full(done.stdout.splitlines(), tmp_path)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY


def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    """As root by a read-only mount of the folder on itself, else by its permissions."""
    folder = tmp_path / "locked"
    folder.mkdir()
    mounted = False
    if os.geteuid() == 0:
        bind = ["mount", "--bind", str(folder), str(folder)]
        mounted = subprocess.run(bind, capture_output=True, check=False).returncode == 0
        if mounted:
            again = ["mount", "-o", "remount,ro,bind", str(folder)]
            subprocess.run(again, check=True)
        else:
            folder = Path("/proc/sys")  # where not even root makes a file
    else:
        folder.chmod(0o500)
    try:
        with pytest.raises(ProblemError) as bad:
            check_writable(folder / "clip.mp4")
        assert bad.value.problem.category is Category.STORAGE
        assert str(folder) in bad.value.problem.message
        with pytest.raises(ProblemError):
            ClipWriter(make_job(folder / "clip.mp4"))
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
        elif folder.parent == tmp_path:
            folder.chmod(0o700)


# --- kills ------------------------------------------------------------------------------


def test_a_killed_writer_leaves_no_clip_and_what_it_leaves_is_removed(tmp_path: Path) -> None:
    rng = random.Random(5)
    target = tmp_path / "clip.mp4"
    neighbour = tmp_path / ".clip.notours.part"
    neighbour.write_text("of somebody else")
    left = 0
    for _ in range(8):
        child = subprocess.Popen(
            script(target, frames=48), cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        time.sleep(rng.uniform(0, 0.6))
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
        child.wait(10)
        child.stdout.close()
        if target.exists():
            assert verify_file(target).ok  # it was quicker than the signal
            assert "added" in rest
            target.unlink()
        left += len(names(tmp_path)) > 1
        remove_leftovers(target)
        for suffix in (".json", ".jpg"):
            if "done" in rest:
                target.with_suffix(suffix).unlink(missing_ok=True)
        assert names(tmp_path) == [neighbour.name]
    assert left >= 3
    remove_leftovers(tmp_path / "no such folder" / "clip.mp4")


def test_a_death_between_recipe_and_clip_is_cleaned_too(tmp_path: Path) -> None:
    from core.outputs.publish import part_path

    target = tmp_path / "clip.mp4"
    job = make_job(target)
    (tmp_path / "clip.json").write_text(json.dumps({"job": job.to_json()}))
    (tmp_path / "clip.jpg").write_bytes(b"poster")
    remove_leftovers(target)  # without a temporary clip they are not known to be of a dead job
    assert names(tmp_path) == ["clip.jpg", "clip.json"]
    part_path(target, job.id, "clip").write_bytes(b"clip")
    remove_leftovers(target)
    assert names(tmp_path) == []


def test_leftovers_of_a_finished_clip_spare_the_clip(tmp_path: Path) -> None:
    from core.outputs.publish import part_path

    output = write(tmp_path / "clip.mp4", pan(8, 64, 64))
    part_path(Path(output.path), "12345678", "clip").write_bytes(b"old")
    remove_leftovers(output.path)
    assert names(tmp_path) == ["clip.jpg", "clip.json", "clip.mp4"]


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

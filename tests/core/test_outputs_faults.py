"""Clips and bad disks, full disks and sudden deaths: real mounts, real limits, real kills."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.errors import Category, ProblemError
from core.outputs import ClipWriter, check_writable, remove_leftovers, verify_file
from tests.core._damage import make_job, names, pan, write

posix = pytest.mark.skipif(sys.platform == "win32", reason="limits and mounts of POSIX")
ROOT = Path(__file__).resolve().parents[2]


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


@posix
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


@posix
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


@posix
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


@pytest.mark.parametrize("moment", ["encoding", "finishing"])
def test_a_killed_writer_leaves_no_half_clip_and_is_cleaned_up(tmp_path: Path, moment: str) -> None:
    rng = random.Random(moment)
    target = tmp_path / "clip.mp4"
    neighbour = tmp_path / ".clip.notours.part"
    neighbour.write_text("of somebody else")
    frames = 400 if moment == "encoding" else 48
    left = 0
    for _ in range(5):
        with subprocess.Popen(
            script(target, frames=frames), cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "begun\n"
            if moment == "encoding":
                deadline = time.monotonic() + 60
                while len(names(tmp_path)) == 1 and time.monotonic() < deadline:
                    time.sleep(0.002)
                time.sleep(rng.uniform(0, 0.3))
            else:
                assert child.stdout.readline() == "added\n"
                time.sleep(rng.uniform(0, 0.15))
            child.kill()
        parts = [name for name in names(tmp_path) if name.endswith(".part")]
        left += len(parts) > 1
        published = target.exists()
        if published:
            assert verify_file(target).ok  # the writer was quicker than the signal
        remove_leftovers(target)
        whole = ["clip.jpg", "clip.json", "clip.mp4"] if published else []
        assert names(tmp_path) == [neighbour.name, *whole]
        for name in whole:
            (tmp_path / name).unlink()
    # While encoding there is always something left; the end may be too quick.
    assert left == 5 if moment == "encoding" else True


def test_leftovers_of_a_folder_that_is_gone_are_none(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "no such folder" / "clip.mp4")
    assert names(tmp_path) == []


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
    # The same when the wished name was taken.
    target.write_bytes(b"of another job")
    (tmp_path / "clip-2.json").write_text(json.dumps({"job": job.to_json()}))
    part_path(target, job.id, "clip").write_bytes(b"clip")
    remove_leftovers(target)
    assert names(tmp_path) == ["clip.mp4"]


def test_leftovers_of_a_finished_clip_spare_the_clip(tmp_path: Path) -> None:
    from core.outputs.publish import part_path

    output = write(tmp_path / "clip.mp4", pan(8, 64, 64))
    part_path(Path(output.path), "12345678", "clip").write_bytes(b"old")
    remove_leftovers(output.path)
    assert names(tmp_path) == ["clip.jpg", "clip.json", "clip.mp4"]


@posix
def test_a_disk_without_links_keeps_what_exists_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "clip.mp4"
    target.write_bytes(b"precious")
    output = write(target, pan(8, 64, 64))
    assert target.read_bytes() == b"precious"
    assert names(tmp_path) == ["clip-2.jpg", "clip-2.json", "clip-2.mp4", "clip.mp4"]
    assert verify_file(output.path).ok

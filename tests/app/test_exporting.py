"""A finished clip made into another file: from the command line, and from "Save as…"."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QFileDialog

from app.export_cli import main
from app.exporting import ExportDesk, offers, wished
from app.window import MainWindow
from core import formats
from core.outputs import ClipWriter, read_frames, read_recipe, verify_file, writer_of
from core.outputs.container import numbered
from core.outputs.marks import digest_of
from tests.core._damage import make_job, names, pan

ROOT = Path(__file__).resolve().parents[2]


def clip(folder: Path, frames: int = 9, width: int = 96, height: int = 64) -> Path:
    job = make_job(folder / "clip.mp4", frames=frames)
    with ClipWriter(job) as writer:
        for frame in pan(frames, width, height, noise=1, speed=3):
            writer.add(frame)
        return Path(writer.finish({}).path)


def export(*arguments: object) -> int:
    return main([str(one) for one in arguments])


# --- the command line -------------------------------------------------------------------


@pytest.mark.parametrize("name", formats.NAMES)
def test_a_clip_becomes_any_format_and_stays_as_it_is(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = clip(tmp_path / "from")
    before = digest_of(source)
    target = tmp_path / "to" / f"other{formats.ending(name)}"
    assert export(source, "-o", target, "--format", name, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["path"], told["frames"], told["fps"]) == (str(target), 9, 8.0)
    verdict = verify_file(target)
    assert verdict.ok, verdict.faults
    assert digest_of(source) == before
    # One that holds no recipe has it beside; nothing else is left there.
    inside = name in ("h264", "h265", "av1", "webm", "prores", "prores4444")
    assert names(tmp_path / "to") == sorted([target.name] + ([] if inside else ["other.json"]))
    recipe = read_recipe(target)
    assert recipe["job"]["params"]["prompt"] == 'a "bear"'
    assert recipe["exported"]["from"] == "clip.mp4"
    # Made of what was made, and so on.
    again = tmp_path / "again.mp4"
    assert export(target, "-o", again) == 0
    assert verify_file(again).frames == 9
    assert verify_file(again).fps == 8.0


def test_frames_and_pixels_are_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = clip(tmp_path)
    target = tmp_path / "more.webm"
    assert export(source, "-o", target, "--inbetween", "2", "--upscale", "2", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [told[name] for name in ("frames", "fps", "width", "height")] == [17, 16.0, 192, 128]
    looped = tmp_path / "loop.gif"
    assert export(source, "-o", looped, "--inbetween", "4", "--loop") == 0
    assert verify_file(looped).frames == 36
    done = json.loads((tmp_path / "loop.json").read_text("utf-8"))
    assert done["post"]["inbetween"] == {"factor": 4, "method": "optical flow"}
    assert "flow" not in str(read_recipe(source))


def test_without_a_name_it_lies_beside_the_clip(tmp_path: Path) -> None:
    source = clip(tmp_path)
    assert export(source, "--format", "png") == 0
    assert export(source) == 0
    assert {"clip.frames", "clip-2.mp4"} <= set(names(tmp_path))
    assert len(list((tmp_path / "clip.frames").iterdir())) == 9


def test_a_single_picture_is_made_larger(tmp_path: Path) -> None:
    source = clip(tmp_path)
    assert export(source, "--format", "png") == 0
    picture = tmp_path / "clip.frames" / "frame-00001.png"
    assert export(picture, "--upscale", "2", "-o", tmp_path / "large.png") == 0
    verdict = verify_file(tmp_path / "large.png")
    assert (verdict.ok, verdict.width, verdict.height) == (True, 192, 128)


def test_what_cannot_be_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = clip(tmp_path)
    taken = tmp_path / "taken.webm"
    taken.write_bytes(b"precious")
    folder = tmp_path / "taken.frames"
    folder.mkdir()
    (tmp_path / "words.mp4").write_text("no clip")
    for arguments, code, words in (
        ((source, "-o", taken), 2, "taken.webm"),
        ((source, "-o", folder, "--force"), 2, "taken.frames"),
        ((source, "-o", source, "--force"), 2, "clip.mp4"),
        ((source, "-o", tmp_path / "x.avi"), 2, "no ending"),
        ((source, "-o", tmp_path / "x.gif", "--format", "webm"), 2, "does not end in .webm"),
        ((tmp_path / "none.mp4",), 1, "not there"),
        ((tmp_path / "words.mp4",), 1, "cannot be played"),
        ((folder,), 1, "cannot be played"),
        ((source, "--loop"), 2, "without --inbetween"),
        ((source, "--upscaler", taken), 2, "without --upscale"),
        (("/",), 2, "no clip"),
        ((source, "--upscale", "2", "--upscaler", taken), 2, "no safetensors"),
        ((source, "-o", source / "deep" / "x.mp4"), 1, "cannot be written"),
    ):
        before = names(tmp_path)
        assert export(*arguments) == code
        assert words in capsys.readouterr().err
        assert names(tmp_path) == before
    assert taken.read_bytes() == b"precious"
    assert export(source, "-o", taken, "--force") == 0
    assert verify_file(taken).ok


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["gif", "png"])
def test_an_export_beside_its_clip_leaves_what_tells_of_the_clip(
    tmp_path: Path, name: str, force: bool
) -> None:
    source = clip(tmp_path)
    told = (tmp_path / "clip.json").read_bytes()
    target = tmp_path / f"clip{formats.ending(name)}"
    more = ["--force"] if force else []
    assert export(source, "--format", name, "-o", target, "--inbetween", "4", *more) == 0
    assert (tmp_path / "clip.json").read_bytes() == told
    for path, frames, fps in ((source, 9, 8.0), (target, 33, 32.0)):
        verdict = verify_file(path)
        assert (verdict.ok, verdict.against, verdict.frames) == (True, "recipe", frames)
        assert next(read_frames(path, 10**9)).fps == fps
    assert read_recipe(target)["exported"]["from"] == "clip.mp4"
    if name == "gif":
        assert export(source, "-o", target, "--force") == 0
        assert verify_file(target).frames == 9
    assert (tmp_path / "clip.json").read_bytes() == told


def test_a_clip_that_is_replaced_takes_what_was_told_of_it_along(tmp_path: Path) -> None:
    old, new = clip(tmp_path / "old"), clip(tmp_path / "new", frames=12)
    assert export(new, "-o", old, "--force") == 0
    verdict = verify_file(old)
    assert (verdict.ok, verdict.against, verdict.frames) == (True, "recipe", 12)


def test_pictures_of_others_are_taken_by_their_numbers(tmp_path: Path) -> None:
    source = clip(tmp_path)
    assert export(source, "--format", "png", "-o", tmp_path / "own.frames") == 0
    folder = tmp_path / "theirs"
    folder.mkdir()
    for number, picture in enumerate(sorted((tmp_path / "own.frames").iterdir()), 7):
        picture.rename(folder / f"shot {number}.png")
    assert [path.stem for path in numbered(folder)] == [f"shot {n}" for n in range(7, 16)]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_stops_within_a_frame_and_leaves_nothing(tmp_path: Path) -> None:
    source = clip(tmp_path / "from", frames=16, width=640, height=384)
    target = tmp_path / "to" / "other.mov"
    with subprocess.Popen(
        [
            sys.executable, "-m", "app", "export", str(source), "-o", str(target),
            "--upscale", "4", "--inbetween", "4",
        ],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        deadline = time.monotonic() + 60
        while not (target.parent.exists() and names(target.parent)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
        assert time.monotonic() - began < 3
        assert child.stderr is not None
        assert "nothing was written" in child.stderr.read()
    assert names(target.parent) == []


# --- the window -------------------------------------------------------------------------


def test_what_a_clip_can_be_saved_as(tmp_path: Path) -> None:
    kinds = offers(Path("clip.mp4"))
    assert next(iter(kinds)) == "MP4 video (*.mp4)"
    assert list(kinds.values()) == [None, *formats.NAMES]
    assert offers(Path("a.png")) == {"PNG picture (*.png)": None}
    assert next(iter(offers(Path("a.frames")))) == "Folder of pictures (*.frames)"
    source = Path("clip.mp4")
    for typed, chosen, target, name in (
        ("a.mp4", None, "a.mp4", None),
        ("a", None, "a.mp4", None),
        ("a.webm", None, "a.webm", "webm"),
        ("a.mov", None, "a.mov", "prores"),
        ("a.mp4", "gif", "a.gif", "gif"),
        ("a", "png", "a.frames", "png"),
        ("v1.2", "av1", "v1.2.mp4", "av1"),
        ("a.mov", "prores4444", "a.mov", "prores4444"),
    ):
        assert wished(Path(typed), chosen, source) == (Path(target), name)


def saved(window: MainWindow, qtbot: Any, source: Path, target: Path, name: str | None) -> str:
    """Answer the dialog with `target`; returns what the notice says at the end."""
    desk = window.findChild(ExportDesk)
    assert desk is not None
    chosen = next(words for words, one in offers(source).items() if one == name)
    QFileDialog.getSaveFileName = lambda *_: (str(target), chosen)  # type: ignore[method-assign]
    desk.ask(str(source))

    def told() -> str:
        return str(window.panels.notice.text())

    qtbot.waitUntil(lambda: "Saved" in told() or "cannot" in told(), timeout=20_000)
    return told()


def test_a_name_that_the_dialog_did_not_ask_about_is_never_replaced(
    window: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    source = clip(tmp_path / "from")
    (tmp_path / "a.gif").write_bytes(b"precious")
    desk = window.findChild(ExportDesk)
    assert desk is not None
    words = next(words for words, name in offers(source).items() if name == "gif")
    QFileDialog.getSaveFileName = lambda *_: (str(tmp_path / "a"), words)  # type: ignore[method-assign]
    desk.ask(str(source))
    assert "a.gif" in window.panels.notice.text()
    assert "already" in window.panels.notice.text()
    assert (tmp_path / "a.gif").read_bytes() == b"precious"


@pytest.fixture(autouse=True)
def dialog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the real dialog back after a test."""
    monkeypatch.setattr(QFileDialog, "getSaveFileName", QFileDialog.getSaveFileName)


@pytest.mark.parametrize("name", [None, "gif", "png"])
def test_save_as_copies_or_exports_beside_the_window(
    window: MainWindow, qtbot: Any, tmp_path: Path, name: str | None
) -> None:
    source = clip(tmp_path / "from")
    target = tmp_path / f"mine{'.mp4' if name is None else formats.ending(name)}"
    assert str(target) in saved(window, qtbot, source, target, name)
    assert verify_file(target).ok
    if name is None:
        assert target.read_bytes() == source.read_bytes()


def test_a_full_or_forbidden_place_is_told(window: MainWindow, qtbot: Any, tmp_path: Path) -> None:
    source = clip(tmp_path / "from")
    (tmp_path / "file").write_text("x")
    for name in (None, "webm"):
        target = tmp_path / "file" / f"x{'.mp4' if name is None else '.webm'}"
        assert "cannot be written" in saved(window, qtbot, source, target, name)


def test_an_export_is_stopped_from_the_window(
    window: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    source = clip(tmp_path / "from", frames=40, width=640, height=384)
    target = tmp_path / "to" / "slow.gif"
    desk = window.findChild(ExportDesk)
    assert desk is not None
    desk.save(source, target, "gif")
    notice = window.panels.notice
    qtbot.waitUntil(lambda: "%" in notice.text(), timeout=20_000)
    desk.stop(f"export {target}")
    qtbot.waitUntil(lambda: "Stopped" in notice.text(), timeout=10_000)
    assert names(target.parent) == []


@pytest.mark.parametrize("kind", ["gif", "png"])
def test_a_clip_that_carries_no_recipe_is_copied_and_opened_with_it(
    window: MainWindow, qtbot: Any, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = window.panels.compose.recipe_id()
    (tmp_path / "from").mkdir()
    params = {"prompt": "a lamp", "frames": 9, "fps": 24, "format": kind}
    job = replace(make_job(tmp_path / "from" / "clip.x"), recipe=recipe, params=params)
    with writer_of(job)(job) as writer:
        for frame in pan(9, 96, 64, noise=1, speed=3):
            writer.add(frame)
        source = Path(writer.finish({}).path)
    target = tmp_path / f"elsewhere{formats.ending(kind)}"
    (tmp_path / "elsewhere.json").write_text("{}")
    assert str(target) in saved(window, qtbot, source, target, None)
    assert (tmp_path / "elsewhere.json").read_text() == "{}"
    assert verify_file(target).against == "recipe"
    assert next(read_frames(target, 10**9)).fps == 24
    compose = window.panels.compose
    compose.load(recipe, {"prompt": "something else"})
    # A sequence is chosen in the dialog by one of its pictures.
    chosen = target / "frame-00003.png" if kind == "png" else target
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(chosen), ""))
    window.menus.open_recipe.trigger()
    qtbot.waitUntil(lambda: compose.state()["values"][recipe]["prompt"] == "a lamp")
    compose.load(recipe, {"prompt": "something else"})
    window.dropped.emit(str(target))
    qtbot.waitUntil(lambda: compose.state()["values"][recipe]["prompt"] == "a lamp")

"""Pictures in the form: chosen, dropped, pasted; bad and hostile ones told at the field."""

from __future__ import annotations

import dataclasses
import itertools
import os
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QTimer, QUrl
from PySide6.QtGui import QColor, QDragEnterEvent, QDropEvent, QGuiApplication, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QToolButton, QWidget

from app import pictures
from app.window import MainWindow
from core.errors import ProblemError
from core.jobs import Kind, Parameter
from tests.app.comfy_samples import SERVERS, compose, desk, offered
from widgets.picture_field import PictureField


def picture(path: Path, width: int = 96, height: int = 48, colour: str = "#4080c0") -> Path:
    image = QImage(width, height, QImage.Format.Format_RGB32)
    image.fill(QColor(colour))
    assert image.save(str(path))
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(path: Path, width: int = 30_000, height: int = 30_000) -> Path:
    """A PNG of about 100 bytes that declares a size."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + body)
    assert path.stat().st_size < 110
    return path


@pytest.fixture
def form(window: MainWindow, qtbot: Any) -> MainWindow:
    offered(window, qtbot)
    desk(window).set_servers(SERVERS)
    qtbot.waitUntil(lambda: "server" in _names(window))
    compose(window).load("comfy-svd-i2v", {})
    return window


def _names(window: MainWindow) -> list[str]:
    assert window.controller is not None
    return [p.name for p in window.controller.recipes["comfy-svd-i2v"].parameters]


def field(window: MainWindow) -> PictureField:
    (found,) = compose(window).picture_fields().values()
    return found


def give(target: QWidget, data: QMimeData) -> bool:
    """Drop `data` on a widget; say whether it is taken."""
    copy, left, none = (
        Qt.DropAction.CopyAction,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    enter = QDragEnterEvent(QPoint(5, 5), copy, data, left, none)
    enter.ignore()
    QApplication.sendEvent(target, enter)
    if enter.isAccepted():
        QApplication.sendEvent(target, QDropEvent(QPointF(5, 5), copy, data, left, none))
    return enter.isAccepted()


def taken(target: Any, data: QMimeData) -> bool:
    """Say whether a widget itself takes `data`, whatever those around it do."""
    copy, left = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    enter = QDragEnterEvent(QPoint(5, 5), copy, data, left, Qt.KeyboardModifier.NoModifier)
    enter.ignore()
    target.dragEnterEvent(enter)
    return enter.isAccepted()


def urls(*paths: Path) -> QMimeData:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    return data


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "bmp"])
def test_a_dropped_picture_is_shown_and_runs_with_the_job(
    form: MainWindow, qtbot: Any, tmp_path: Path, kind: str
) -> None:
    path = picture(tmp_path / f"gull.{kind}")
    assert give(field(form).editor, urls(path))
    qtbot.waitUntil(lambda: "96 × 48" in field(form)._name.text())
    assert field(form)._name.text() == f"gull.{kind} · 96 × 48"
    assert field(form).problem() is None
    assert form.controller is not None
    form.controller.set_paused(True)
    with qtbot.waitSignal(compose(form).add_requested) as asked:
        compose(form).submit()
    assert asked.args[1]["image"] == str(path)


def test_what_is_no_picture_falls_through_to_the_window(form: MainWindow, tmp_path: Path) -> None:
    text = tmp_path / "notes.json"
    text.write_text("{}")
    box: Any = field(form).editor
    assert not taken(box, urls(text))
    assert taken(box, urls(tmp_path / "a.PNG"))
    # Nor does a prompt take the path of a file for words.
    compose(form).load("starter", {})
    prompt: Any = compose(form)._fields["prompt"].editor
    assert not taken(prompt, urls(text))
    words = QMimeData()
    words.setText("a fox")
    assert taken(prompt, words)


# Qt's reader writes into the log what else is told at the field.
@pytest.mark.qt_log_ignore("JPEG|jpeg|gif|GIF|png|webp|WebP", extend=True)
@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("empty.png", b"", "is no picture"),
        ("page.png", b"<html>not a picture</html>", "is no picture"),
        ("drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "is no"),
        ("cut.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 5, "damaged"),
        ("cut.jpg", b"\xff\xd8\xff\xe0" + b"\0" * 40, "damaged"),
        ("cut.webp", b"RIFF\0\0\0\0WEBPVP8 ", "damaged"),
        ("cut.gif", b"GIF89a", "damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_pictures_are_told_at_the_field(
    form: MainWindow, qtbot: Any, tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert give(field(form).editor, urls(path))
    qtbot.waitUntil(lambda: words in field(form).error())
    assert name in field(form).error()
    assert field(form).editor.property("invalid") is True
    with qtbot.assertNotEmitted(compose(form).add_requested):
        compose(form).submit()
    field(form).set_raw(str(picture(tmp_path / "good.png")))
    qtbot.waitUntil(lambda: field(form).error() == "")


def test_a_hundred_bytes_that_declare_a_huge_picture_are_refused(
    form: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    path = bomb(tmp_path / "bomb.png")
    began = time.perf_counter()
    with pytest.raises(ProblemError) as caught:
        pictures.read_picture(str(path), "image")
    assert time.perf_counter() - began < 0.1, "nothing of it is decoded"
    told = caught.value.problem
    assert "30,000 × 30,000" in told.message
    assert (told.field, "64 million pixels" in told.hint) == ("image", True)
    give(field(form).editor, urls(path))
    qtbot.waitUntil(lambda: "30,000 × 30,000" in field(form).error())


def test_missing_too_large_and_folders_are_told(tmp_path: Path) -> None:
    big = tmp_path / "big.png"
    with big.open("wb") as file:
        file.truncate(pictures.MOST_BYTES + 1)
    for path in (tmp_path / "gone.png", tmp_path, big):
        with pytest.raises(ProblemError) as caught:
            pictures.read_picture(str(path))
        assert caught.value.problem.hint


def test_a_big_picture_does_not_hold_up_the_window(
    form: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    # Noise, which takes a PNG reader longest.
    side = 5000
    image = QImage(os.urandom(side * side * 4), side, side, QImage.Format.Format_RGB32)
    path = tmp_path / "big.png"
    assert image.save(str(path), "PNG", 100)  # type: ignore[call-overload]
    began = time.perf_counter()
    pictures.read_picture(str(path))
    alone = time.perf_counter() - began
    beats: list[float] = []
    timer = QTimer(timerType=Qt.TimerType.PreciseTimer, interval=5)
    timer.timeout.connect(lambda: beats.append(time.perf_counter()))
    timer.start()
    field(form).set_raw(str(path))
    qtbot.waitUntil(lambda: "5000 × 5000" in field(form)._name.text(), timeout=30_000)
    timer.stop()
    worst = max(b - a for a, b in itertools.pairwise(beats))
    assert worst < alone / 2, f"a gap of {worst:.3f} s where reading takes {alone:.3f} s"


def test_an_upright_photo_is_shown_upright(form: MainWindow, tmp_path: Path) -> None:
    path = picture(tmp_path / "photo.jpg", 800, 400)
    data = path.read_bytes()
    # Orientation 6: the camera was held on its side.
    body = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    exif = b"Exif\0\0" + body
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    read = pictures.read_picture(str(path))
    assert (read.width, read.height) == (400, 800)
    assert read.image.height() == 2 * read.image.width()


def test_a_pasted_picture_is_kept_in_a_file(form: MainWindow, qtbot: Any) -> None:
    image = QImage(64, 32, QImage.Format.Format_RGB32)
    image.fill(QColor("#123456"))
    QGuiApplication.clipboard().setImage(image)
    box = field(form).editor
    box.setFocus()
    QTest.keyClick(box, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: "64 × 32" in field(form)._name.text())
    path = Path(str(field(form).raw()))
    assert path.parent.name == "pasted"
    assert QImage(str(path)).pixelColor(3, 3) == QColor("#123456")
    QTest.keyClick(box, Qt.Key.Key_Delete)
    assert field(form).raw() == ""
    assert path.is_file(), "a waiting job may need it"
    QTest.keyClick(box, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: field(form).raw() == str(path))
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_everything_is_reached_by_keyboard_and_named(form: MainWindow, qtbot: Any) -> None:
    form.activateWindow()
    stops = field(form).stops()
    buttons = [b for b in stops if isinstance(b, QToolButton)]
    assert [b.accessibleName() for b in buttons] == [
        "Choose start picture",
        "Paste start picture",
        "Clear start picture",
    ]
    assert stops[0].accessibleName() == "Start picture: none"
    stops[0].setFocus()
    QTest.keyClick(stops[0], Qt.Key.Key_Tab)
    qtbot.waitUntil(lambda: QApplication.focusWidget() is stops[1])


def test_the_box_and_its_button_open_the_dialog(
    form: MainWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = picture(tmp_path / "a.png"), []

    def choose(_: object, title: str, start: str, kinds: str) -> tuple[str, str]:
        asked.append((title, start, kinds))
        return str(path), kinds

    monkeypatch.setattr("widgets.picture_field.QFileDialog.getOpenFileName", choose)
    box, button = field(form).stops()[:2]
    for press in (
        lambda: QTest.mouseClick(button, Qt.MouseButton.LeftButton),
        lambda: QTest.mouseClick(box, Qt.MouseButton.LeftButton),
        lambda: QTest.keyClick(box, Qt.Key.Key_Return),
    ):
        field(form).set_raw("")
        press()
        assert field(form).raw() == str(path)
    assert asked[0][0] == "Choose start picture"
    assert "*.png *.jpg" in asked[0][2]


def test_the_picture_of_the_last_end_is_shown_again(
    form: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    path = picture(tmp_path / "kept.png")
    state = {"recipe": "comfy-svd-i2v", "values": {"comfy-svd-i2v": {"image": str(path)}}}
    compose(form).restore(state)
    qtbot.waitUntil(lambda: "96 × 48" in field(form)._name.text())
    path.unlink()
    compose(form).restore(state)
    qtbot.waitUntil(lambda: "kept.png cannot be read" in field(form).error())


def test_a_field_for_clips_takes_clips_alone(qtbot: Any, form: MainWindow, tmp_path: Path) -> None:
    assert form.controller is not None
    recipe = form.controller.recipes["comfy-svd-i2v"]
    clips = Parameter("image", Kind.IMAGE, "Video", "", required=True, choices=(".mp4", ".webm"))
    compose(form).set_recipes([dataclasses.replace(recipe, id="x", parameters=(clips,))], "x")
    box = field(form).editor
    clip = tmp_path / "a.mp4"
    clip.write_bytes(b"\0\0\0 ftyp" + b"x" * 100_000)
    assert not taken(box, urls(picture(tmp_path / "a.png")))
    assert taken(box, urls(clip))
    field(form).set_raw(str(clip))
    qtbot.waitUntil(lambda: "0.1 MB" in field(form)._name.text())
    assert field(form).problem() is None
    field(form).set_raw(str(tmp_path / "a.png"))
    qtbot.waitUntil(lambda: "Choose a file of these: .mp4, .webm" in field(form).error())


def test_typing_looks_at_no_file(form: MainWindow, qtbot: Any, tmp_path: Path) -> None:
    """A path on a share that hangs must not hold up every key."""
    path = picture(tmp_path / "kept.png")
    compose(form).load("comfy-svd-i2v", {"image": str(path)})
    qtbot.waitUntil(lambda: "96 × 48" in field(form)._name.text())
    path.unlink()
    with qtbot.waitSignal(compose(form).changed) as told:
        compose(form).set_value("steps", "9")
    assert told.args[1]["steps"] == 9
    assert form.controller is not None
    with pytest.raises(ProblemError) as caught:
        form.controller.add("comfy-svd-i2v", told.args[1])
    assert caught.value.problem.field == "image"

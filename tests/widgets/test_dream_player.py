"""The player of a dream: what it shows of its buffer, its keys, and the screen it fills."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QColor, QGuiApplication, QMouseEvent
from PySide6.QtWidgets import QApplication, QWidget

from core.jobs import new_job
from core.stream.buffer import FrameBuffer, State
from tests.core import streams
from widgets import dream_words, theme
from widgets.dream_player import DreamPlayer

WIDTH, HEIGHT = 160, 90


def put(buffer: FrameBuffer, first: int, count: int, fps: float = 30.0) -> None:
    words = []
    for number in range(first, first + count):
        red, green, blue = streams.colour(number)
        words.append(bytes([blue, green, red, 255]) * (WIDTH * HEIGHT))
    pixels = memoryview(b"".join(words))
    buffer.put(pixels, first=first, width=WIDTH, height=HEIGHT, fps=fps)


@pytest.fixture
def player(qtbot: Any, qapp: QApplication, tmp_path: Path) -> Iterator[DreamPlayer]:
    theme.apply(qapp, "dark")
    made = DreamPlayer()
    qtbot.addWidget(made)
    made.resize(800, 520)
    made.show()
    qtbot.waitExposed(made)
    yield made
    made.clear()


def begin(player: DreamPlayer, buffer: FrameBuffer, folder: Path) -> str:
    job = new_job(streams.recipes(folder)[0], {}, folder)
    player.begin(job, buffer)
    return job.id


def shown_colour(player: DreamPlayer) -> tuple[int, int, int]:
    image = player.canvas.grab().toImage()
    colour = QColor(image.pixel(image.width() // 2, image.height() // 2))
    return colour.red(), colour.green(), colour.blue()


def test_it_shows_every_frame_in_its_time(qtbot: Any, player: DreamPlayer, tmp_path: Path) -> None:
    buffer = FrameBuffer(start_seconds=0.2)
    painted: list[tuple[int, float]] = []

    def note(at: float, due: float) -> None:
        frame = player.clock.frame
        assert frame is not None
        painted.append((frame.number, at - due))

    player.canvas.on_painted = note
    put(buffer, 0, 45)
    begin(player, buffer, tmp_path)
    buffer.end()
    with qtbot.waitSignal(player.over, timeout=6_000):
        pass
    numbers = [number for number, _ in painted]
    assert sorted(set(numbers)) == list(range(45)), "each frame was painted"
    assert numbers == sorted(numbers)
    late = sorted(late for _, late in painted)
    assert late[len(late) // 2] < 0.008
    assert shown_colour(player) == pytest.approx(streams.colour(44), abs=1)


def test_the_gauge_says_what_is_in_store(qtbot: Any, player: DreamPlayer, tmp_path: Path) -> None:
    buffer = FrameBuffer(start_seconds=1.0)
    begin(player, buffer, tmp_path)
    assert player.gauge.level() == (0.0, "filling · 0.0 s in buffer")
    assert "begins" in player.canvas.words()
    put(buffer, 0, 450)
    qtbot.waitUntil(lambda: buffer.state is State.PLAYING, timeout=3_000)
    qtbot.waitUntil(lambda: player.gauge.level()[1].startswith("1"), timeout=3_000)
    share, words = player.gauge.level()
    assert 0.4 < share <= 0.5
    assert words in ("15 s in buffer", "14 s in buffer")
    assert player.fps.value() == 30
    assert "of 30 s" in player.gauge.toolTip()
    assert "0 left out" in player.gauge.toolTip()
    assert f"{share:.0%} full" in player.gauge.accessibleDescription()


def test_less_memory_than_thirty_seconds_is_told(player: DreamPlayer, tmp_path: Path) -> None:
    buffer = FrameBuffer(most_bytes=WIDTH * HEIGHT * 4 * 90)
    put(buffer, 0, 10)
    begin(player, buffer, tmp_path)
    assert "of 3 s" in dream_words.tip(buffer)
    assert "Not 30 s" in dream_words.tip(buffer)


def test_running_empty_is_said_with_what_to_do_and_goes_when_filled(
    qtbot: Any, player: DreamPlayer, tmp_path: Path
) -> None:
    buffer = FrameBuffer(seconds=4, start_seconds=0.2)
    for number in range(15):
        put(buffer, number, 1)
        time.sleep(0.05)
    begin(player, buffer, tmp_path)
    qtbot.waitUntil(player.warning.isVisible, timeout=3_000)
    last = player.clock.frame
    assert last is not None
    assert last.number == 14
    assert buffer.state is State.DEPLETED
    assert player.gauge.level()[1] == "buffer empty · holds the last frame"
    assert "The buffer ran empty" in player._says.text()
    assert "30 wanted" in player._says.text()
    assert player.slower.isVisible()
    player.slower.click()
    assert buffer.fps is not None
    assert 4 <= buffer.fps < 30
    assert player.slower.text() == f"Show {buffer.fps:.0f} fps"
    put(buffer, 15, buffer.room())
    qtbot.waitUntil(lambda: not player.warning.isVisible(), timeout=3_000)
    qtbot.waitUntil(lambda: buffer.state is State.PLAYING, timeout=3_000)


def test_keys_pause_change_the_rate_and_ask(
    qtbot: Any, player: DreamPlayer, tmp_path: Path
) -> None:
    buffer = FrameBuffer(seconds=2, start_seconds=0.1)
    put(buffer, 0, 60)
    job_id = begin(player, buffer, tmp_path)
    qtbot.waitUntil(lambda: player.clock.frame is not None)
    player.canvas.setFocus()
    qtbot.keyClick(player.canvas, Qt.Key.Key_Space)
    assert buffer.paused
    assert player.pause.accessibleName() == "Go on"
    frame = player.clock.frame
    qtbot.wait(150)
    assert player.clock.frame is frame
    assert player.gauge.level()[1].startswith("paused · ")
    qtbot.keyClick(player.canvas, Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: player.clock.frame is not frame)
    qtbot.keyClick(player.canvas, Qt.Key.Key_Plus)
    assert (player.fps.value(), buffer.fps) == (31, 31.0)
    qtbot.keyClick(player.canvas, Qt.Key.Key_Minus)
    qtbot.keyClick(player.canvas, Qt.Key.Key_Minus)
    assert (player.fps.value(), buffer.fps) == (29, 29.0)
    with qtbot.waitSignal(player.enough_requested) as asked:
        qtbot.keyClick(player.canvas, Qt.Key.Key_E)
    assert asked.args == [job_id]
    assert not player.enough.isEnabled(), "once is enough"
    assert player.stop.isEnabled()
    with qtbot.waitSignal(player.stop_requested) as stopped:
        qtbot.keyClick(player.canvas, Qt.Key.Key_Period, Qt.KeyboardModifier.ControlModifier)
    assert stopped.args == [job_id]
    assert not player.stop.isEnabled()


def move_over(widget: QWidget) -> None:
    """Move the mouse over it; the offscreen platform has none of its own."""
    none, plain = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier
    at = QPointF(40, 40)
    QApplication.sendEvent(
        widget, QMouseEvent(QMouseEvent.Type.MouseMove, at, at, none, none, plain)
    )


def test_it_fills_a_screen_without_anything_else(
    qtbot: Any, player: DreamPlayer, tmp_path: Path
) -> None:
    buffer = FrameBuffer(start_seconds=0.1)
    put(buffer, 0, 600)
    begin(player, buffer, tmp_path)
    states: list[bool] = []
    player.full_screen.connect(states.append)
    qtbot.keyClick(player.canvas, Qt.Key.Key_F)
    alone = player.alone
    assert alone is not None
    qtbot.waitExposed(alone)
    assert alone.isFullScreen()
    assert alone.windowFlags() & Qt.WindowType.FramelessWindowHint
    assert alone.geometry() == QGuiApplication.primaryScreen().geometry()
    assert player.full.text() == "Leave full screen"
    assert player.canvas.covered, "nobody sees it there: it is not painted twice"
    alone._still.setInterval(30)
    move_over(alone)
    qtbot.waitUntil(lambda: alone.cursor().shape() is Qt.CursorShape.BlankCursor, timeout=4_000)
    alone._still.setInterval(60_000)
    move_over(alone)
    assert alone.cursor().shape() is not Qt.CursorShape.BlankCursor
    qtbot.keyClick(alone, Qt.Key.Key_Space)
    assert buffer.paused, "its keys are the player's"
    active = alone.isActiveWindow()
    qtbot.keyClick(alone, Qt.Key.Key_Escape)
    assert player.alone is None
    if active:
        qtbot.waitUntil(player.canvas.hasFocus, timeout=2_000)
    assert states == [True, False]
    assert not player.canvas.covered
    qtbot.mouseDClick(player.canvas, Qt.MouseButton.LeftButton)
    assert player.alone is not None
    qtbot.mouseDClick(player.alone, Qt.MouseButton.LeftButton)
    assert player.alone is None


def test_the_screen_is_chosen_from_a_menu_and_told(
    qtbot: Any, player: DreamPlayer, tmp_path: Path
) -> None:
    begin(player, FrameBuffer(), tmp_path)
    menu = player.menu()
    qtbot.addWidget(menu)
    screens = QGuiApplication.screens()
    assert [action.isChecked() for action in menu.actions()].count(True) == 1
    assert len(menu.actions()) == len(screens)
    assert f"{screens[0].geometry().width()}×" in menu.actions()[0].text()
    with qtbot.waitSignal(player.screen_chosen) as chosen:
        menu.actions()[0].trigger()
    assert chosen.args == [screens[0].name()]
    assert player.alone is not None
    player.alone.close()  # By the window manager.
    assert player.alone is None


def test_everything_has_a_name_and_can_be_reached(player: DreamPlayer) -> None:
    for widget in (player.canvas, player.pause, player.fps, player.full, player.screens,
                   player.enough, player.stop):  # fmt: skip
        assert widget.focusPolicy() & Qt.FocusPolicy.TabFocus
        assert widget.accessibleName() or widget.text()  # type: ignore[union-attr]
    assert player.gauge.accessibleName()


@pytest.mark.parametrize("width", [360, 420, 560, 800, 1200])
@pytest.mark.parametrize("mode", ["dark", "light"])
def test_nothing_is_cut_at_any_width(
    qtbot: Any, qapp: QApplication, player: DreamPlayer, tmp_path: Path, width: int, mode: Any
) -> None:
    theme.apply(qapp, mode)
    begin(player, FrameBuffer(), tmp_path)
    player.resize(width, 420)
    qtbot.wait(10)
    for widget in (player.pause, player.gauge, player.fps, player.full, player.screens,
                   player.enough, player.stop):  # fmt: skip
        place = widget.mapTo(player, QPoint(0, 0))
        assert place.x() >= 0
        assert place.x() + widget.width() <= player.width()
        assert widget.width() >= widget.minimumSizeHint().width()

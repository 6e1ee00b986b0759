"""The notice bar, the top bar and the status line."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from core.errors import Category, Problem
from widgets import theme
from widgets.notice import MOST, NoticeBar
from widgets.statusbar import StatusLine
from widgets.topbar import TopBar

# Qt says so of every window on a display without a window manager.
pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)

PROBLEM = Problem(Category.STORAGE, "The disk is full.", "Free some space and retry.", "trace here")


@pytest.fixture
def bar(qapp, qtbot):
    theme.apply(qapp, "dark")
    holder = QWidget()
    column = QVBoxLayout(holder)
    made = NoticeBar()
    column.addWidget(made)
    column.addStretch(1)
    qtbot.addWidget(holder)
    holder.resize(900, 300)
    holder.show()
    qtbot.waitExposed(holder)
    made.holder = holder
    return made


def buttons(widget: QWidget) -> dict[str, QPushButton]:
    return {b.text(): b for b in widget.findChildren(QPushButton) if b.isVisible()}


def test_hidden_until_there_is_something_to_say(bar) -> None:
    assert not bar.isVisible()
    bar.show_problem(PROBLEM)
    assert bar.isVisible()
    assert "disk is full" in bar.text()
    assert "Free some space" in bar.text()


def test_escape_closes_and_shows_the_one_before(bar) -> None:
    bar.show_text("first")
    bar.show_text("second")
    assert bar.text() == "second"
    QTest.keyClick(bar, Qt.Key.Key_Escape)
    assert bar.text() == "first"
    QTest.keyClick(bar, Qt.Key.Key_Escape)
    assert not bar.isVisible()


def test_the_same_key_replaces(bar) -> None:
    bar.show_text("one", key="engine")
    bar.show_text("other")
    bar.show_text("two", key="engine")
    assert bar.text() == "two"
    bar.dismiss()
    assert bar.text() == "other"
    bar.dismiss()
    assert bar.text() == ""


def test_actions_and_details(bar) -> None:
    done = []
    bar.show_problem(PROBLEM, [("Retry now", lambda: done.append(1))])
    QTest.mouseClick(buttons(bar)["Retry now"], Qt.MouseButton.LeftButton)
    assert done == [1]
    text = bar.findChild(QPlainTextEdit)
    assert not text.isVisible()
    QTest.mouseClick(buttons(bar)["Details"], Qt.MouseButton.LeftButton)
    assert text.isVisible()
    assert text.toPlainText() == "trace here"
    QTest.mouseClick(buttons(bar)["Copy"], Qt.MouseButton.LeftButton)
    copied = QGuiApplication.clipboard().text()
    assert "disk is full" in copied
    assert "trace here" in copied


def test_a_long_text_wraps_instead_of_widening_the_window(bar, qtbot) -> None:
    bar.show_text("word " * 80)
    bar.holder.resize(500, 300)
    qtbot.waitUntil(lambda: bar.height() > 60)
    assert bar.holder.width() == 500


def test_top_bar_asks_and_shows(qtbot) -> None:
    bar = TopBar()
    qtbot.addWidget(bar)
    bar.resize(1000, 40)
    bar.show()
    bar.set_engine("Local engine", "idle", "success")
    bar.set_engine("Local engine", "running", "info")
    assert bar.chip_label("Local engine").text() == "Local engine · running"
    with qtbot.waitSignal(bar.pause_toggled) as told:
        QTest.mouseClick(buttons(bar)["Pause queue"], Qt.MouseButton.LeftButton)
    assert told.args == [True]
    assert "Resume queue" in buttons(bar)
    bar.set_paused(False)
    with qtbot.waitSignal(bar.free_requested):
        QTest.mouseClick(buttons(bar)["Free VRAM"], Qt.MouseButton.LeftButton)
    bar.set_freeing(True)
    assert not buttons(bar)["Freeing…"].isEnabled()
    bar.set_freeing(False)
    assert buttons(bar)["Free VRAM"].isEnabled()
    bar.remove_engine("Local engine")


def test_status_line_says_what_it_is_told(qtbot) -> None:
    line = StatusLine()
    qtbot.addWidget(line)
    line.set_health("Healthy", "success")
    line.set_queue("queue ready by 02:10")
    line.set_memory("panel: 84 MB")
    line.set_device("CPU")
    line.resize(320, 26)
    line.show()
    words = [child.text() for child in line.findChildren(QWidget) if hasattr(child, "text")]
    assert {"Healthy", "queue ready by 02:10", "panel: 84 MB", "CPU"} <= set(words)
    assert line.width() == 320


def test_what_is_told_of_a_job_goes_when_that_is_another(bar) -> None:
    states = {"a": "failed", "b": "failed", "c": "waiting"}
    bar.states_of = lambda ids: {one: states[one] for one in ids if one in states}
    bar.show_text("news", key="news")
    bar.show_problem(PROBLEM, job="a")
    one = bar.text()
    bar.show_problem(PROBLEM, job="b")
    assert bar.text() == f"2 jobs: {one}", "one notice for one problem, however many have it"
    assert sorted(bar.jobs()) == ["a", "b"]
    bar.settle()
    assert sorted(bar.jobs()) == ["a", "b"]
    states["a"] = "waiting"
    bar.settle()
    assert bar.text() == one
    assert bar.jobs() == ["b"]
    bar.show_text("c is set aside", key="aside c", jobs=["c"])
    states["b"] = "running"
    bar.settle()
    assert bar.text() == "c is set aside", "what waits for a person stays"
    del states["c"]
    bar.settle()
    assert bar.text() == "news"


def test_notices_of_one_key_say_how_many_jobs_they_are_about(bar) -> None:
    bar.states_of = lambda ids: dict.fromkeys(ids, "waiting")
    for name in ("a", "b", "b", "c"):
        bar.show_text(
            f"{name} again", key="again", jobs=[name], many=lambda n, name=name: f"{n}, last {name}"
        )
    assert bar.text() == "3, last c"
    bar.dismiss()
    assert bar.text() == ""


def test_a_bad_night_does_not_pile_up_notices_without_end(bar) -> None:
    bar.show_problem(PROBLEM)
    for number in range(100):
        bar.show_text(f"news {number}")
    assert len(bar._notices) == MOST
    assert bar.text() == "news 99"
    assert bar._notices[0].problem is PROBLEM, "the loud ones go last"


def test_chips_show_all_states_or_none_and_are_no_wider_than_their_words(qapp, qtbot) -> None:
    theme.apply(qapp, "dark")
    bar = TopBar()
    qtbot.addWidget(bar)
    names = ("Local engine", "ComfyUI :8188", "Second box")
    bar.set_engines(names)
    bar.resize(1600, 42)
    bar.show()
    qtbot.waitExposed(bar)
    bar.resize(bar.layout().sizeHint().width() + 10, 42)  # Room for all of them idle, hardly more.
    for state in ("idle", "sampling a long clip", "idle", "decoding in tiles", "offline"):
        bar.set_engine(names[0], state, "info")
        words = [bar.chip_label(name) for name in names]
        assert len({one.squeezed for one in words}) == 1
        qtbot.waitUntil(lambda: all(one.width() == one.sizeHint().width() for one in words))  # noqa: B023

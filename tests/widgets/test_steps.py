"""What helps against a failure, as a list with buttons: in the card and behind Details."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import QPoint, QRect, Qt
from PySide6.QtGui import QAccessible
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QPushButton, QVBoxLayout, QWidget

from core.errors import Category, Problem
from core.failures.causes import Cause, category_of
from core.failures.recovery import _WHAT, PAGES, Action, Step, recovery
from tests.widgets.samples import job
from widgets import theme
from widgets.notice import NoticeBar
from widgets.stage import StagePanel
from widgets.steps import NAMES, StepList

# Qt says so of every window on a display without a window manager.
pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)

MEMORY = Problem(Category.INSUFFICIENT_VRAM, "No memory left.", "Use fewer frames.", "trace")
VALUE = Problem(Category.INVALID_PARAMS, "Width is odd.", "Make it even.", field="width")
STEPS = (
    Step("Free memory first.", Action.FREE_MEMORY),
    Step("Unload it.", Action.UNLOAD_MODEL),
    Step("Think about it."),
    Step("Read the log.", Action.OPEN_LOG),
)


@pytest.fixture
def holder(qapp: Any, qtbot: Any) -> QWidget:
    theme.apply(qapp, "dark")
    made = QWidget()
    QVBoxLayout(made)
    qtbot.addWidget(made)
    made.resize(700, 300)
    made.show()
    qtbot.waitExposed(made)
    return made


def on_stage(qtbot: Any, width: int = 800, height: int = 560) -> StagePanel:
    theme.apply(QApplication.instance(), "light")  # type: ignore[arg-type]
    stage = StagePanel()
    qtbot.addWidget(stage)
    stage.resize(width, height)
    stage.show()
    qtbot.waitExposed(stage)
    return stage


def visible_in(widget: QWidget, outer: QWidget) -> bool:
    """Whether all of a widget can be seen inside another one, nothing of it scrolled away."""
    place = QRect(widget.mapTo(outer, QPoint(0, 0)), widget.size())
    return outer.rect().contains(place) and widget.visibleRegion().boundingRect() == widget.rect()


def test_every_action_has_a_name_for_its_button() -> None:
    assert set(NAMES) == set(Action)
    assert len(set(NAMES.values())) == len(NAMES)


def test_steps_are_numbered_and_have_buttons_for_what_can_be_done(holder: QWidget) -> None:
    listed = StepList()
    holder.layout().addWidget(listed)
    chosen: list[Action] = []
    listed.chosen.connect(chosen.append)
    listed.show_steps(STEPS, lambda action: action is Action.FREE_MEMORY)
    # A step that is nothing without its button is left out, and the numbers close up.
    assert listed.texts() == ["Free memory first.", "Think about it.", "Read the log."]
    numbers = [w.text() for w in listed.findChildren(QLabel) if w.text().rstrip(".").isdigit()]
    assert numbers == ["1.", "2.", "3."]
    assert [button.text() for button in listed.buttons] == ["Free memory"]
    QTest.mouseClick(listed.buttons[0], Qt.MouseButton.LeftButton)
    assert chosen == [Action.FREE_MEMORY]
    listed.show_steps(STEPS, lambda _: True, elsewhere={Action.OPEN_LOG})
    assert listed.texts() == [step.text for step in STEPS]
    assert [button.text() for button in listed.buttons] == ["Free memory", "Unload model"]
    assert len(listed.findChildren(QPushButton, options=Qt.FindDirectChildrenOnly)) == 2
    assert "1. Free memory first. 2. Unload it." in listed.accessibleDescription()
    spoken = QAccessible.queryAccessibleInterface(listed.buttons[1])
    assert spoken.text(QAccessible.Text.Name) == "Step 2: Unload model"
    assert spoken.text(QAccessible.Text.Description) == "Unload it."


def test_the_card_is_walked_through_by_the_tab_key(qtbot: Any) -> None:
    stage = on_stage(qtbot)
    card = stage.card
    card.can = lambda _: True
    stage.show_problem(job(), MEMORY)
    chosen: list[Action] = []
    card.chosen.connect(chosen.append)
    assert card.steps is not None
    first = card.steps.buttons[0]
    first.setFocus()
    walked = []
    for _ in range(7):
        at = stage.focusWidget()
        assert isinstance(at, QPushButton)
        walked.append(at.text())
        assert visible_in(at, stage.picture)
        QTest.keyClick(at, Qt.Key.Key_Tab)
    assert walked == [
        *("Free memory", "Unload model", "Decode in tiles", "Edit a copy"),
        *("Retry", "Copy details", "Help"),
    ]
    first.setFocus()
    QTest.keyClick(first, Qt.Key.Key_Space)
    assert chosen == [Action.FREE_MEMORY]
    with qtbot.waitSignal(card.help_wanted) as told:
        QTest.keyClick(card.help, Qt.Key.Key_Space)
    assert told.args == ["Memory ran out"]


def test_retry_is_the_first_choice_only_where_it_may_help(qtbot: Any) -> None:
    stage = on_stage(qtbot)
    stage.show_problem(job(), MEMORY)
    assert stage.card.retry.property("kind") == "primary"
    stage.show_problem(job(), VALUE)
    assert not stage.card.retry.property("kind")
    assert stage.card.retry.isVisible()


def test_a_short_card_follows_a_long_one(qtbot: Any) -> None:
    """The height is that of the problem shown, whatever was shown before."""
    stage = on_stage(qtbot, 500)
    heights = []
    for problem in (VALUE, MEMORY, Problem(Category.UNKNOWN, "Odd " * 40, "Do it. " * 20), VALUE):
        stage.show_problem(job(), problem)
        heights.append(stage.card.height())
    assert heights[0] == heights[3]
    assert heights[2] > heights[1]


@pytest.mark.parametrize("width", [380, 520, 900])
def test_no_problem_is_cut_or_needs_a_bar_where_there_is_room(qtbot: Any, width: int) -> None:
    stage = on_stage(qtbot, width, 700)
    stage.card.can = lambda _: True
    for cause in Cause:
        text = f"Something happened that is called {cause.value.replace('_', ' ')}, and why."
        stage.show_problem(job(), Problem(category_of(cause), text, "Do this first, then that."))
        card = stage.card
        assert card.steps is not None
        card.steps.show_steps(_WHAT[cause].steps, lambda _: True)
        stage._place_card()
        for _ in range(3):
            QApplication.processEvents()
        assert stage.width() == width
        assert stage.picture.rect().contains(card.geometry())
        for widget in (*card.findChildren(QLabel), *card.findChildren(QPushButton)):
            if not widget.isVisible():
                continue
            assert visible_in(widget, card), (cause, width, widget.text())
            need = widget.sizeHint().height()
            if widget.hasHeightForWidth():
                need = widget.heightForWidth(widget.width())
            assert widget.height() >= need, (cause, width, widget.text())


def test_in_a_low_window_the_steps_scroll_and_the_foot_stays(qtbot: Any) -> None:
    stage = on_stage(qtbot, 400, 330)
    stage.card.can = lambda _: True
    stage.show_problem(job(), Problem(Category.INSUFFICIENT_VRAM, "No memory. " * 9, "Less. " * 9))
    QApplication.processEvents()
    card = stage.card
    assert stage.picture.rect().contains(card.geometry())
    assert card.steps is not None
    last = card.steps.buttons[-1]
    assert not visible_in(last, card)
    for button in (card.retry, card.copy, card.help):
        assert visible_in(button, card)
    card.steps.buttons[-2].setFocus()
    QTest.keyClick(card.steps.buttons[-2], Qt.Key.Key_Tab)
    assert stage.focusWidget() is last
    assert visible_in(last, card)


def shown(widget: QWidget, words: str) -> QPushButton:
    QApplication.processEvents()  # What a layout is given is shown in the next turn.
    (found,) = [
        button
        for button in widget.findChildren(QPushButton)
        if button.text() == words and button.isVisible()
    ]
    return found


def test_details_show_the_steps_and_fold_again(holder: QWidget, qtbot: Any) -> None:
    bar = NoticeBar()
    holder.layout().addWidget(bar)
    bar.can = lambda action, about: about == "job-1" and action is Action.FREE_MEMORY
    chosen: list[tuple[Action, str]] = []
    bar.chosen.connect(lambda action, about: chosen.append((action, about)))
    bar.show_problem(MEMORY, job="job-1")
    assert bar.details.steps is None
    shown(bar, "Details").click()
    assert bar.details.steps is not None
    assert bar.details.steps.isVisible()
    assert bar.details.steps.texts() == [
        step.text
        for step in recovery(MEMORY).steps
        if step.action not in (Action.UNLOAD_MODEL, Action.TILED_DECODE)
    ]
    shown(bar, "Free memory").click()
    assert chosen == [(Action.FREE_MEMORY, "job-1")]
    with qtbot.waitSignal(bar.help_wanted) as told:
        shown(bar, "Help").click()
    assert told.args == [PAGES[Category.INSUFFICIENT_VRAM]]
    shown(bar, "Details").click()
    assert not bar.details.steps.isVisible()
    shown(bar, "Details").click()
    # Another notice comes folded, and about no job no job is run again.
    bar.show_problem(Problem(Category.UNKNOWN, "Odd.", "Look."))
    assert not bar.details.steps.isVisible()
    shown(bar, "Details").click()
    assert bar.details.steps.texts() == [
        step.text
        for step in recovery(Problem(Category.UNKNOWN, "", "")).steps
        if step.action is not Action.RETRY
    ]
    assert len(bar.details.steps.texts()) == 2
    bar.show_text("News have no steps.")
    assert not bar.details.steps.isVisible()
    assert [b.text() for b in bar.findChildren(QPushButton) if b.isVisible()] == []


def test_the_steps_of_a_notice_come_before_its_details_by_the_tab_key(holder: QWidget) -> None:
    bar = NoticeBar()
    holder.layout().addWidget(bar)
    bar.can = lambda action, _: action is Action.FREE_MEMORY
    bar.show_problem(MEMORY, [("Retry", lambda: None)], job="job-1")
    details = shown(bar, "Details")
    details.click()
    details.setFocus()
    walked = []
    for _ in range(4):
        QTest.keyClick(holder.focusWidget(), Qt.Key.Key_Tab)
        at = holder.focusWidget()
        walked.append(at.accessibleName() or at.property("text"))
    assert walked == ["Copy", "Close notice", "Step 1: Free memory", "Help"]

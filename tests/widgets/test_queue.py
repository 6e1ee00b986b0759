"""The queue dock under fingers: keys, mouse, selection, requests, empty state."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QAccessible, QColor, QDropEvent, QImage
from PySide6.QtTest import QAbstractItemModelTester
from PySide6.QtWidgets import QApplication, QLabel

from core.events import Sampled
from core.jobs import JobState
from core.ledger import Ledger
from core.queue import Group
from tests.widgets.queue_source import MemoryQueue, job, output, row
from widgets import queue_words as words
from widgets import theme
from widgets.queue import QueuePanel
from widgets.queue_delegate import PICTURE

W, R, D, F = JobState.WAITING, JobState.RUNNING, JobState.DONE, JobState.FAILED
LOST, STOPPED = JobState.LOST, JobState.STOPPED
Key, Mod = Qt.Key, Qt.KeyboardModifier


# The offscreen platform says this of every window that has a smallest size.
pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)


def ids(*numbers: int) -> list[str]:
    return [job(number).id for number in numbers]


@pytest.fixture
def source() -> MemoryQueue:
    waiting = [row(number, W) for number in range(2, 7)]
    ended = [row(7, LOST, attempt=1), row(8, D), row(9, F), row(10, STOPPED, attempt=1)]
    return MemoryQueue([row(1, R), *waiting, *ended])


@pytest.fixture
def panel(qtbot, source):
    return shown(qtbot, QueuePanel(source))


def shown(qtbot, made: QueuePanel, width: int = 400, height: int = 640) -> QueuePanel:
    qtbot.addWidget(made)
    made.resize(width, height)
    made.show()
    made.activateWindow()
    made.view.setFocus()
    qtbot.waitUntil(made.view.hasFocus if made.model.rowCount() else made.isVisible)
    QApplication.processEvents()
    return made


def choose(panel: QueuePanel, *numbers: int) -> None:
    rows = panel.model.rows_with(list(numbers))
    panel.view.setCurrentIndex(panel.model.index(rows[0]))
    panel.view.select_rows(rows)
    assert panel.selected_ids() == ids(*numbers)


def enabled(panel: QueuePanel) -> set[str]:
    return {name for name, action in panel.actions_by_name.items() if action.isEnabled()}


def heard(panel: QueuePanel) -> list[tuple]:
    """Collect every request from now on as (name, arguments…)."""
    seen = []
    names = "pause_toggled cancel_requested remove_requested undo_requested move_requested"
    names += " top_requested retry_requested edit_requested duplicate_requested open_requested"
    names += " reveal_requested"
    for name in names.split():
        getattr(panel, name).connect(lambda *given, name=name: seen.append((name, *given)))
    return seen


@pytest.mark.parametrize(
    ("chosen", "key", "modifier", "request_"),
    [
        ([4], Key.Key_Up, Mod.ControlModifier, ("move_requested", ids(4), ids(3)[0])),
        ([4], Key.Key_Down, Mod.ControlModifier, ("move_requested", ids(4), ids(6)[0])),
        ([5], Key.Key_Down, Mod.ControlModifier, ("move_requested", ids(5), None)),
        ([3, 5], Key.Key_Up, Mod.ControlModifier, ("move_requested", ids(3, 5), ids(2)[0])),
        ([2, 4], Key.Key_Up, Mod.ControlModifier, ("move_requested", ids(2, 4), ids(3)[0])),
        ([3, 5], Key.Key_Home, Mod.ControlModifier, ("top_requested", ids(3, 5))),
        ([3, 8], Key.Key_Delete, Mod.NoModifier, ("remove_requested", ids(3, 8))),
        ([1, 9], Key.Key_Delete, Mod.NoModifier, ("remove_requested", ids(9))),
        ([4], Key.Key_F2, Mod.NoModifier, ("edit_requested", ids(4)[0])),
        ([8], Key.Key_D, Mod.ControlModifier, ("duplicate_requested", ids(8)[0])),
        ([7, 8, 9, 10], Key.Key_R, Mod.ControlModifier, ("retry_requested", ids(7, 9, 10))),
        ([8], Key.Key_Return, Mod.NoModifier, ("open_requested", ids(8)[0])),
    ],
)
def test_keys_ask_for_what_they_say(panel, qtbot, chosen, key, modifier, request_):
    choose(panel, *chosen)
    seen = heard(panel)
    qtbot.keyClick(panel.view, key, modifier)
    assert seen == [request_]


@pytest.mark.parametrize(
    ("chosen", "key", "modifier"),
    [
        ([2], Key.Key_Up, Mod.ControlModifier),
        ([5, 6], Key.Key_Down, Mod.ControlModifier),
        ([8], Key.Key_Up, Mod.ControlModifier),
        ([8], Key.Key_F2, Mod.NoModifier),
        ([3, 4], Key.Key_F2, Mod.NoModifier),
        ([1], Key.Key_Delete, Mod.NoModifier),
        ([8], Key.Key_R, Mod.ControlModifier),
        ([3], Key.Key_Z, Mod.ControlModifier),
    ],
)
def test_keys_that_do_not_apply_ask_for_nothing(panel, qtbot, chosen, key, modifier):
    choose(panel, *chosen)
    seen = heard(panel)
    qtbot.keyClick(panel.view, key, modifier)
    assert seen == []


LEVELS = ("high", "normal", "low")


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ([], {"pause"}),
        ([1], {"pause", "cancel", "duplicate", "open"}),
        ([2], {"pause", "down", "edit", "duplicate", "remove", "open", *LEVELS}),
        ([6], {"pause", "top", "up", "edit", "duplicate", "remove", "open", *LEVELS}),
        ([3, 4], {"pause", "top", "up", "down", "edit", "remove", *LEVELS}),
        ([7], {"pause", "retry", "duplicate", "remove", "open", "trace", "report"}),
        ([8], {"pause", "duplicate", "remove", "open", "reveal", "trace", "report"}),
        ([1, 9], {"pause", "cancel", "retry", "remove"}),
    ],
)
def test_actions_are_enabled_only_where_they_apply(panel, chosen, expected):
    if chosen:
        choose(panel, *chosen)
    assert enabled(panel) == expected | {"find", "calendar", "night"}, (
        "those are about the whole queue"
    )


def test_a_removal_can_be_undone_and_then_there_is_nothing_left_to_undo(panel, qtbot):
    choose(panel, 3)
    seen = heard(panel)
    qtbot.keyClick(panel.view, Key.Key_Delete)
    assert "undo" in enabled(panel)
    qtbot.keyClick(panel.view, Key.Key_Z, Mod.ControlModifier)
    assert seen == [("remove_requested", ids(3)), ("undo_requested",)]
    assert "undo" not in enabled(panel)


def test_shift_and_control_select_several_and_pass_over_headers(panel, qtbot):
    choose(panel, 5)
    qtbot.keyClick(panel.view, Key.Key_Down, Mod.ShiftModifier)
    qtbot.keyClick(panel.view, Key.Key_Down, Mod.ShiftModifier)
    assert panel.selected_ids() == ids(5, 6, 7)
    spot = panel.view.visualRect(panel.model.index(panel.model.rows_with([2])[0])).center()
    left = Qt.MouseButton.LeftButton
    qtbot.mouseClick(panel.view.viewport(), left, Mod.ControlModifier, spot)
    assert panel.selected_ids() == ids(2, 5, 6, 7)
    qtbot.keyClick(panel.view, Key.Key_A, Mod.ControlModifier)
    assert panel.selected_ids() == ids(*range(1, 11))


def test_home_and_end_go_to_the_first_and_last_job(panel, qtbot):
    choose(panel, 4)
    qtbot.keyClick(panel.view, Key.Key_End)
    assert panel.selected_ids() == ids(10)
    qtbot.keyClick(panel.view, Key.Key_Home)
    assert panel.selected_ids() == ids(1)


def test_pause_asks_and_shows_what_it_is_told(panel, qtbot):
    seen = heard(panel)
    button = panel.bar.buttons[0]
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert seen == [("pause_toggled", True)]
    assert button.accessibleName() == "Pause"
    panel.set_paused(True)
    assert button.accessibleName() == "Resume"
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert seen[1:] == [("pause_toggled", False)]


def centre(panel: QueuePanel, number: int) -> QPoint:
    at = panel.model.rows_with([number])[0]
    return panel.view.visualRect(panel.model.index(at)).center()


def test_double_click_opens_and_headers_do_not(panel, qtbot):
    seen = heard(panel)
    view, left = panel.view.viewport(), Qt.MouseButton.LeftButton
    qtbot.mouseClick(view, left, pos=centre(panel, 9))
    qtbot.mouseDClick(view, left, pos=centre(panel, 9))
    head = panel.view.visualRect(panel.model.index(1)).center()
    qtbot.mouseDClick(view, left, pos=head)
    assert seen == [("open_requested", ids(9)[0])]


def let_go(panel: QueuePanel, numbers: list[int], spot: QPoint) -> bool:
    """Drag the jobs of `numbers` into the list and let go at `spot`; say if it was taken."""
    data = panel.model.mimeData([panel.model.index(r) for r in panel.model.rows_with(numbers)])
    move, left, none = Qt.DropAction.MoveAction, Qt.MouseButton.LeftButton, Mod.NoModifier
    event = QDropEvent(QPointF(spot), move, data, left, none)
    event.ignore()
    # Qt delivers drops only while a drag runs, which needs a window system.
    panel.view.dropEvent(event)
    return event.isAccepted()


@pytest.mark.parametrize(
    ("numbers", "upon", "lower", "expected"),
    [
        ([5, 6], 3, False, ("move_requested", ids(5, 6), ids(3)[0])),
        ([5, 6], 3, True, ("move_requested", ids(5, 6), ids(4)[0])),
        ([2], 6, True, ("move_requested", ids(2), None)),
        ([4], 1, False, None),
        ([4], 9, False, None),
    ],
)
def test_letting_go_between_waiting_jobs_asks_for_the_move(panel, numbers, upon, lower, expected):
    seen = heard(panel)
    before = [panel.model.index(at).data() for at in range(panel.model.rowCount())]
    spot = centre(panel, upon) + QPoint(0, 15 if lower else -15)
    assert let_go(panel, numbers, spot) == (expected is not None)
    assert seen == ([expected] if expected else [])
    # Nothing moves before the source says so.
    assert [panel.model.index(at).data() for at in range(panel.model.rowCount())] == before


def test_the_triangle_opens_a_done_job_and_the_offer_retries_a_lost_one(panel, qtbot):
    seen = heard(panel)
    view, left = panel.view.viewport(), Qt.MouseButton.LeftButton
    done, lost = centre(panel, 8), centre(panel, 7)
    qtbot.mouseClick(view, left, pos=QPoint(view.width() - 15, done.y()))
    qtbot.mouseClick(view, left, pos=lost + QPoint(20, 12))
    assert seen == [("open_requested", ids(8)[0]), ("retry_requested", ids(7))]


def test_the_offer_of_a_lost_job_whose_clip_was_found_takes_it_and_runs_nothing(panel, qtbot):
    seen, taken = heard(panel), []
    panel.take_requested.connect(taken.append)
    panel.set_choices({}, ids(7))
    at = panel.model.index(panel.model.rows_with([7])[0])
    said = at.data(Qt.ItemDataRole.AccessibleTextRole)
    assert "clip found" in said
    assert "Retry" not in said
    lost = centre(panel, 7)
    left = Qt.MouseButton.LeftButton
    qtbot.mouseClick(panel.view.viewport(), left, pos=lost + QPoint(20, 12))
    assert (seen, taken) == ([], [ids(7)])


def test_selection_current_and_scroll_stay_over_changes(qtbot):
    source = MemoryQueue([row(1, R), *(row(number, W) for number in range(2, 400))])
    panel = shown(qtbot, QueuePanel(source))
    choose(panel, 200, 202)
    panel.view.scrollTo(panel.view.currentIndex())
    place = panel.view.visualRect(panel.view.currentIndex())

    source.set(1, D)
    source.set(2, R)
    panel.refresh()
    source.remove(3, 50, 300)
    panel.refresh()
    source.order[Group.WAITING].insert(0, source.order[Group.WAITING].pop(60))
    panel.refresh()

    assert panel.selected_ids() == ids(200, 202)
    assert panel.model.key_at(panel.view.currentIndex().row()) == 200
    assert abs(panel.view.visualRect(panel.view.currentIndex()).y() - place.y()) <= 1


def test_header_rows_stay_low_and_job_rows_high(panel, source):
    def heights() -> dict[bool, set[int]]:
        found = {True: set(), False: set()}
        for at in range(panel.model.rowCount()):
            found[panel.model.is_header(at)].add(panel.view.rowHeight(at))
        return found

    before = heights()
    assert max(before[True]) < min(before[False])
    for step in (
        lambda: source.set(1, D, first=True),
        lambda: source.set(2, R),
        lambda: source.remove(3, 5),
        lambda: source.order[Group.WAITING].reverse(),
        lambda: source.add(row(30, W)),
    ):
        step()
        panel.refresh()
        assert heights() == before


def test_the_empty_state_says_what_to_do_and_goes_when_a_job_comes(qtbot):
    source = MemoryQueue()
    panel = shown(qtbot, QueuePanel(source))
    said = [label.text() for label in panel.findChildren(QLabel) if label.isVisible()]
    assert said[0] == "Nothing queued yet"
    assert "Add to queue" in said[1]
    assert not panel.view.isVisible()
    source.add(row(1, W))
    panel.refresh()
    assert panel.view.isVisible()


def test_a_hundred_thousand_jobs_read_only_what_is_in_sight(qtbot):
    source = MemoryQueue([row(1, R), *(row(number, W) for number in range(2, 100_001))])
    panel = shown(qtbot, QueuePanel(source))
    panel.grab()
    assert 0 < source.asked <= 3 * 128
    source.asked = 0
    panel.view.verticalScrollBar().setValue(panel.view.verticalScrollBar().maximum() // 2)
    panel.grab()
    assert 0 < source.asked <= 3 * 128
    source.asked = 0
    panel.view.selectAll()
    assert source.asked <= 128
    assert len(panel.selected_ids()) == 100_000


def test_progress_repaints_the_running_row(panel):
    before = panel.view.viewport().grab().toImage()
    first = panel.view.visualRect(panel.model.index(0))
    panel.apply(
        Sampled(job_id=ids(1)[0], step=10, steps=20, seconds_per_step=1.0, seconds_left=10.0)
    )
    after = panel.view.viewport().grab().toImage()
    assert before.copy(first) != after.copy(first)
    rest = panel.view.viewport().rect().adjusted(0, first.bottom() + 1, 0, 0)
    assert before.copy(rest) == after.copy(rest)


def test_a_poster_takes_the_place_of_the_gradient(qtbot, tmp_path: Path):
    poster = tmp_path / "poster.png"
    image = QImage(320, 200, QImage.Format.Format_RGB32)
    image.fill(QColor("#00ff00"))
    assert image.save(str(poster))
    panel = shown(qtbot, QueuePanel(MemoryQueue([row(8, D, output=output(8, str(poster)))])))
    spot = panel.view.visualRect(panel.model.index(1))
    at = QPoint(spot.left() + 8 + PICTURE.width() // 2, spot.center().y())

    def green() -> bool:
        return panel.view.viewport().grab().toImage().pixelColor(at) == QColor("#00ff00")

    qtbot.waitUntil(green)


def test_a_missing_poster_is_asked_for_once(qtbot, tmp_path: Path):
    missing = str(tmp_path / "gone.png")
    panel = shown(qtbot, QueuePanel(MemoryQueue([row(8, D, output=output(8, missing))])))
    arrived = []
    panel.view.delegate.pictures.arrived.connect(lambda: arrived.append(1))
    panel.grab()
    qtbot.wait(50)
    for _ in range(3):
        panel.grab()
        qtbot.wait(10)
    assert len(arrived) <= 1


@pytest.mark.parametrize("width", [160, 260, 330, 400, 560, 900])
def test_every_action_is_reachable_at_every_width(qtbot, source, width):
    panel = shown(qtbot, QueuePanel(source), width)
    bar = panel.bar
    inside = [button for button in bar.buttons if button.isVisible()]
    for button in inside:
        assert bar.rect().contains(button.geometry())
        assert button.width() >= button.sizeHint().width()
    in_menu = {action.text() for action in bar.menu.actions() if not action.isSeparator()}
    names = {button.accessibleName() for button in inside} | in_menu
    expected = ["Pause", "Top", "Edit", "Cancel", "Retry", "Duplicate", "Remove", "Undo"]
    assert names == {
        *expected,
        "Find…",
        "&Sort finished",
        "F&old",
        "Calendar of the night",
        "Ready by…",
    }
    assert bar.more.isVisible(), "what is about the whole queue stands there at all widths"
    assert bar.more.isVisible() == bool(in_menu)


def test_tooltips_name_the_keys(panel):
    tip = panel.actions_by_name["edit"].toolTip()
    assert tip == "Change the waiting job, or all that are selected (F2)"
    assert "Ctrl+D" in panel.bar.buttons[5].toolTip()


def test_the_menu_holds_every_action(panel):
    choose(panel, 3)
    menu = panel.menu()
    texts = [action.text() for action in menu.actions() if action.text()]
    assert set(texts) >= {"Open in stage", "Show in folder", "Edit", "Retry", "Move up", "Undo"}
    menu.deleteLater()


def test_a_theme_change_recolours_icons(panel, qapp):
    try:
        theme.apply(qapp, "dark")
        dark = panel.bar.buttons[0].icon().pixmap(16).toImage()
        theme.apply(qapp, "light")
        assert panel.bar.buttons[0].icon().pixmap(16).toImage() != dark
    finally:
        theme.apply(qapp, "dark")


def test_a_screen_reader_hears_rows(panel):
    table = QAccessible.queryAccessibleInterface(panel.view)
    assert table.text(QAccessible.Text.Name) == "Queue"
    said = [table.child(at).text(QAccessible.Text.Name) for at in range(table.childCount())]
    assert "Next · 5 waiting" in said
    assert any(text.startswith("Scene 9, failed, The GPU ran out of memory") for text in said)
    assert any(words.LOST in text for text in said)


def test_tooltips_hold_prompt_seed_problem_and_path(panel):
    tip = words.tooltip(row(9, F))
    for part in ("Scene 9, a slow pan", "Seed 7009", "Use fewer frames.", "/clips/scene-9.mp4"):
        assert part in tip
    assert "<b>" not in words.tooltip(row(1, W, job=job(1, "<b>bold</b>")))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (6.6, "0:07"), (221, "3:41"), (3750, "1:02:30")]
)
def test_durations_read_like_a_clock(seconds, text):
    assert words.duration(seconds) == text


def test_with_a_ledger_a_job_goes_through_all_sections(qtbot, tmp_path: Path):
    ledger = Ledger.open(tmp_path / "ledger.db")
    try:
        ledger.enqueue([job(1), job(2), job(3)])
        panel = shown(qtbot, QueuePanel(ledger))
        tester = QAbstractItemModelTester(panel.model)
        tokens = []
        panel.remove_requested.connect(lambda gone: tokens.append(ledger.remove(gone)))
        panel.undo_requested.connect(lambda: ledger.restore(tokens.pop()))
        panel.move_requested.connect(ledger.move)
        choose(panel, 3)
        qtbot.keyClick(panel.view, Key.Key_Up, Mod.ControlModifier)
        panel.refresh()
        assert panel.selected_ids() == ids(3)
        assert [panel.model.index(at).data() for at in (1, 2, 3)] == [
            "Scene 1",
            "Scene 3",
            "Scene 2",
        ]
        qtbot.keyClick(panel.view, Key.Key_Delete)
        panel.refresh()
        assert panel.model.rowCount() == 3
        qtbot.keyClick(panel.view, Key.Key_Z, Mod.ControlModifier)
        panel.refresh()
        assert panel.model.index(2).data() == "Scene 3"
        ledger.begin(job(1).id)
        panel.refresh()
        assert panel.model.index(0).data() == "Scene 1"
        del tester
    finally:
        ledger.close()

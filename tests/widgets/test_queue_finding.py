"""The queue dock searched, sorted and folded; why jobs wait, on their rows."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QAbstractItemModelTester
from PySide6.QtWidgets import QApplication

from core.jobs import JobState
from core.queue import Found, Group, Order, Show, Wanted
from core.scheduling.reasons import Reason
from tests.widgets.queue_source import MemoryQueue, job, row
from widgets import queue_words as words
from widgets.queue import QueuePanel
from widgets.queue_actions import PRIORITIES
from widgets.queue_finding import CHANGED_MS
from widgets.queue_model import Role

W, R, D, F = JobState.WAITING, JobState.RUNNING, JobState.DONE, JobState.FAILED
Key, Mod = Qt.Key, Qt.KeyboardModifier
FATAL = QAbstractItemModelTester.FailureReportingMode.Fatal
pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)


@pytest.fixture
def source() -> MemoryQueue:
    waiting = [row(number, W) for number in range(2, 8)]
    return MemoryQueue([row(1, R), *waiting, row(8, D), row(9, F), row(10, D)])


@pytest.fixture
def panel(qtbot, source):
    made = QueuePanel(source)
    tester = QAbstractItemModelTester(made.model, FATAL)
    qtbot.addWidget(made)
    made.resize(390, 700)
    made.show()
    made.activateWindow()
    made.view.setFocus()
    qtbot.waitUntil(made.view.hasFocus)
    QApplication.processEvents()
    yield made
    del tester


def ids(*numbers: int) -> list[str]:
    return [job(number).id for number in numbers]


def shown(panel: QueuePanel) -> list[int | str]:
    model = panel.model
    return [model.key_at(at) or str(model.index(at).data()) for at in range(model.rowCount())]


def choose(panel: QueuePanel, *numbers: int) -> None:
    rows = panel.model.rows_with(list(numbers))
    panel.view.setCurrentIndex(panel.model.index(rows[0]))
    panel.view.select_rows(rows)


def answered(panel: QueuePanel, qtbot, found: Found, timeout: int = 2000) -> Wanted:
    """Wait for the next question, and answer it with `found`."""
    with qtbot.waitSignal(panel.finding.wanted, timeout=timeout) as asked:
        pass
    panel.finding.show_found(asked.args[0], found)
    return asked.args[0]


# ---- searching ---------------------------------------------------------------------------


def test_words_narrow_the_list_and_esc_shows_all_again(panel, qtbot):
    choose(panel, 5)
    qtbot.keyClick(panel.view, Key.Key_F, Mod.ControlModifier)
    bar = panel.finding.bar
    assert bar.line.hasFocus()
    qtbot.keyClicks(bar.line, "pan ")
    assert answered(panel, qtbot, Found(frozenset({1, 5, 8}))) == Wanted("pan")
    assert shown(panel) == [1, "Next · 1 of 6 waiting", 5, "Finished · 1 of 3", 8]
    assert bar.count.text() == "3 of 10 jobs"
    assert panel.selected_ids() == ids(5), "what is selected and found stays selected"
    qtbot.keyClick(bar.line, Key.Key_Escape)
    qtbot.waitUntil(lambda: panel.model.rowCount() == 12)
    assert not panel.model.narrowed
    assert bar.isVisible()
    assert panel.selected_ids() == ids(5)
    qtbot.keyClick(bar.line, Key.Key_Escape)
    assert not bar.isVisible()
    assert panel.view.hasFocus()


def test_chips_and_place_are_asked_for_with_what_a_person_decides(panel, qtbot):
    panel.set_reasons({ids(3)[0]: Reason("needs 20 GB", decide=True), ids(4)[0]: Reason("later")})
    places = [("Local engine", (("local", None),)), ("Box", (("comfy", "http://b"),))]
    panel.finding.set_places(places)
    panel.finding.open()
    bar = panel.finding.bar
    bar.chips[Show.DECIDE].click()
    bar.chips[Show.FAILED].click()
    bar.place.setCurrentIndex(2)
    wanted = answered(panel, qtbot, Found(frozenset({3, 9})))
    assert wanted.shows == {Show.DECIDE, Show.FAILED}
    assert wanted.places == (("comfy", "http://b"),)
    assert wanted.aside == tuple(ids(3))
    assert shown(panel) == ["Next · 1 of 6 waiting", 3, "Finished · 1 of 3", 9]
    # The place goes away: its jobs are not hidden behind a choice that nobody sees.
    panel.finding.set_places(places[:1])
    assert bar.places() is None


def test_nothing_found_is_said_and_an_old_answer_is_dropped(panel, qtbot):
    panel.finding.open()
    bar = panel.finding.bar
    bar.line.setText("zebra")
    wanted = answered(panel, qtbot, Found(frozenset()))
    assert panel._pages.currentIndex() == 2
    bar.line.setText("fox")
    answered(panel, qtbot, Found(frozenset({2})))
    panel.finding.show_found(wanted, Found(frozenset()))
    assert shown(panel) == ["Next · 1 of 6 waiting", 2]
    assert panel._pages.currentIndex() == 0


def test_a_change_of_the_queue_is_looked_for_and_a_running_job_keeps_its_progress(
    panel, source, qtbot
):
    panel.finding.open()
    panel.finding.bar.line.setText("x")
    answered(panel, qtbot, Found(frozenset({4})))
    panel.set_left(ids(1)[0], 33.0)
    source.set(4, D, first=True)
    source.add(row(11, W))
    panel.refresh()
    assert shown(panel) == ["Finished · 1 of 4", 4], "what began or ended moves at once"
    answered(panel, qtbot, Found(frozenset({1, 4, 11})), CHANGED_MS + 2000)
    assert shown(panel) == [1, "Next · 1 of 6 waiting", 11, "Finished · 1 of 4", 4]
    assert panel.model.told.of(ids(1)[0]).seconds_left == 33.0


@pytest.mark.parametrize(
    ("numbers", "key", "expected"),
    [
        # Shown are 3, 5 and 6 of 2 to 7.
        ([5], Key.Key_Up, (ids(5), ids(3)[0])),
        ([3], Key.Key_Up, (ids(3), ids(3)[0])),
        ([3], Key.Key_Down, (ids(3), ids(6)[0])),
        # Behind the last one that is shown is before 7, not behind all that is hidden.
        ([5], Key.Key_Down, (ids(5), ids(7)[0])),
        ([3, 5], Key.Key_Down, (ids(3, 5), ids(7)[0])),
    ],
)
def test_moves_among_what_was_found_are_right_in_the_whole_queue(
    panel, qtbot, numbers, key, expected
):
    panel.finding.open()
    panel.finding.bar.line.setText("x")
    answered(panel, qtbot, Found(frozenset({3, 5, 6})))
    choose(panel, *numbers)
    asked = []
    panel.move_requested.connect(lambda moved, before: asked.append((moved, before)))
    panel.actions_by_name["up" if key == Key.Key_Up else "down"].trigger()
    assert asked in ([expected], []), "the first one shown has none above it to go before"
    assert bool(asked) is not (numbers == [3] and key == Key.Key_Up)


def test_the_top_is_the_top_of_the_whole_queue(panel, qtbot):
    panel.finding.open()
    panel.finding.bar.line.setText("x")
    answered(panel, qtbot, Found(frozenset({3, 5})))
    choose(panel, 3)
    assert panel.actions_by_name["top"].isEnabled(), "2 is hidden, and before it"
    panel.finding.close()
    choose(panel, 2)
    assert not panel.actions_by_name["top"].isEnabled()


def test_a_row_dropped_below_the_last_one_found_stands_right_behind_it(panel, qtbot):
    panel.finding.open()
    panel.finding.bar.line.setText("x")
    answered(panel, qtbot, Found(frozenset({2, 4})))
    model = panel.model
    asked = []
    model.move_wanted.connect(lambda moved, before: asked.append((moved, before)))
    data = model.mimeData([model.index(model.rows_with([2])[0])])
    end = model.rows_of(Group.WAITING).stop
    assert model.dropMimeData(data, Qt.DropAction.MoveAction, end, 0, model.index(-1))
    assert asked == [(ids(2), ids(5)[0])]


# ---- sorting -----------------------------------------------------------------------------


def test_finished_jobs_are_sorted_as_chosen_and_new_ones_come_first_meanwhile(panel, source, qtbot):
    menu = panel.menu()
    sort = panel.finding.sort_action
    assert sort in menu.actions()
    actions = {action.text().replace("&", ""): action for action in sort.menu().actions()}
    assert actions["Newest first"].isChecked()
    with qtbot.waitSignals([panel.finding.wanted, panel.finding.changed]):
        actions["Longest first"].trigger()
    wanted = Wanted(order=Order.LONGEST)
    panel.finding.show_found(wanted, Found(ended=(9, 10, 8)))
    assert shown(panel)[-4:] == ["Finished · 3 · longest first", 9, 10, 8]
    source.set(2, D, first=True)
    source.remove(10)
    panel.refresh()
    assert shown(panel)[-4:] == ["Finished · 3 · longest first", 2, 9, 8]
    assert answered(panel, qtbot, Found(ended=(9, 2, 8))) == wanted
    assert shown(panel)[-3:] == [9, 2, 8]
    actions["Newest first"].trigger()
    assert shown(panel)[-4:] == ["Finished · 3", 2, 8, 9]


# ---- folding -----------------------------------------------------------------------------


def test_a_click_on_a_header_folds_its_group_and_another_shows_it(panel, qtbot):
    choose(panel, 3, 9)
    head = panel.model.header_of(Group.WAITING)
    spot = panel.view.visualRect(panel.model.index(head)).center()
    left = Qt.MouseButton.LeftButton
    with qtbot.waitSignal(panel.finding.changed):
        qtbot.mouseClick(panel.view.viewport(), left, pos=spot)
    assert shown(panel) == [1, "Next · 6 waiting", "Finished · 3", 8, 9, 10]
    assert panel.model.waiting() == 6
    assert panel.selected_ids() == ids(9)
    spoken = panel.model.index(1).data(Qt.ItemDataRole.AccessibleTextRole)
    assert spoken == "Next · 6 waiting, folded"
    qtbot.mouseClick(panel.view.viewport(), left, pos=spot)
    assert len(shown(panel)) == 12
    assert panel.selected_ids() == ids(9)
    # Two clicks in quick succession fold and unfold; nothing is opened.
    opened = []
    panel.open_requested.connect(opened.append)
    qtbot.mouseDClick(panel.view.viewport(), left, pos=spot)
    assert len(shown(panel)) == 12
    assert opened == []


def test_left_and_right_fold_and_unfold_with_the_keyboard(panel, qtbot):
    choose(panel, 4)
    qtbot.keyClick(panel.view, Key.Key_Left)
    assert shown(panel) == [1, "Next · 6 waiting", "Finished · 3", 8, 9, 10]
    assert panel.view.currentIndex().row() == 1
    qtbot.keyClick(panel.view, Key.Key_Down)
    assert panel.model.key_at(panel.view.currentIndex().row()) == 8
    qtbot.keyClick(panel.view, Key.Key_Up)
    assert panel.view.currentIndex().row() == 1, "a folded group can be reached"
    qtbot.keyClick(panel.view, Key.Key_Right)
    assert panel.model.key_at(panel.view.currentIndex().row()) == 2
    qtbot.keyClick(panel.view, Key.Key_Up)
    assert panel.view.currentIndex().row() == 0, "an open group's header is passed over"
    qtbot.keyClick(panel.view, Key.Key_Left)
    assert len(shown(panel)) == 12, "one running job has no header to fold it into"


def test_jobs_come_and_go_behind_a_folded_header(panel, source):
    panel.finding.fold(Group.WAITING, True)
    panel.set_left(ids(1)[0], 12.0)
    source.set(2, R)
    source.add(row(12, W))
    panel.refresh()
    assert shown(panel)[:4] == ["Running · 2", 1, 2, "Next · 6 waiting"]
    panel.finding.fold(Group.RUNNING, True)
    assert shown(panel)[:2] == ["Running · 2", "Next · 6 waiting"]
    panel.set_left(ids(2)[0], 5.0)
    assert panel.model.told.of(ids(2)[0]).seconds_left == 5.0
    panel.finding.fold(Group.RUNNING, False)
    assert shown(panel)[:3] == ["Running · 2", 1, 2]


def test_what_is_folded_and_sorted_is_remembered(panel, source, qtbot):
    panel.finding.fold(Group.FINISHED, True)
    panel.finding.sort(Order.PEAK)
    state = panel.finding.state()
    assert state == {"sort": "peak", "folded": ["finished"], "calendar": False}
    other = QueuePanel(source)
    qtbot.addWidget(other)
    with qtbot.waitSignal(other.finding.wanted):
        other.finding.restore(state)
    assert other.finding.state() == state
    other.finding.restore({"sort": 7, "folded": "finished", "more": None})
    assert other.finding.state() == {"sort": "newest", "folded": [], "calendar": False}


# ---- why jobs wait -----------------------------------------------------------------------


def test_a_reason_stands_on_its_row_and_is_spoken_and_in_the_tip(panel):
    panel.set_reasons({ids(2)[0]: Reason("waits for 2.1 GB: LM Studio holds 5.2 GB")})
    at = panel.model.index(panel.model.rows_with([2])[0])
    held = "waits for 2.1 GB: LM Studio holds 5.2 GB"
    assert held in at.data(Qt.ItemDataRole.AccessibleTextRole)
    assert "Waits for 2.1 GB" in at.data(Qt.ItemDataRole.ToolTipRole)
    below = panel.model.index(panel.model.rows_with([3])[0])
    assert "waits" not in below.data(Qt.ItemDataRole.AccessibleTextRole)
    panel.set_reasons({})
    assert held not in at.data(Qt.ItemDataRole.AccessibleTextRole)


def test_a_retry_counts_down_on_its_row_and_a_begin_ends_it(panel, source, qtbot):
    panel.set_reasons({ids(2)[0]: Reason("retries", until_unix=time.time() + 30)})
    assert panel._count_down.isActive()
    said = []
    panel.model.dataChanged.connect(lambda first, last, _: said.append((first.row(), last.row())))
    panel._count_down.timeout.emit()
    waiting = panel.model.rows_of(Group.WAITING)
    assert said == [(waiting.start, waiting.stop - 1)]
    told = panel.model.told.of(ids(2)[0]).waits
    assert told in ("retries in 30 s", "retries in 29 s")
    source.set(2, R)
    panel.refresh()
    assert panel.model.told.of(ids(2)[0]) is None
    panel.set_reasons({})
    assert not panel._count_down.isActive()


def test_a_row_that_needs_a_decision_is_painted_otherwise(panel):
    def row_picture() -> bytes:
        at = panel.model.index(panel.model.rows_with([2])[0])
        rect = panel.view.visualRect(at)
        image = panel.view.viewport().grab(rect).toImage()
        return bytes(image.constBits())

    panel.set_reasons({ids(2)[0]: Reason("needs 20 GB")})
    plain = row_picture()
    panel.set_reasons({ids(2)[0]: Reason("needs 20 GB", decide=True)})
    assert row_picture() != plain


def test_why_a_job_waits_comes_before_what_may_be_cut_off():
    waits = words.Progress("", waits="after 07:00, quiet hours")
    again = replace(row(2, JobState.WAITING), attempt=1, priority=1)
    assert words.line(again, waits) == "▲ high · after 07:00, quiet hours · attempt 2"
    assert words.line(again).startswith("▲ high · attempt 2 · ")


def test_a_countdown_that_is_over_is_no_reason_any_more(panel):
    panel.set_reasons({ids(2)[0]: Reason("retries", until_unix=time.time() - 0.1)})
    row = panel.model.rows_of(Group.WAITING).start
    told = panel.model.index(row).data(Role.PROGRESS)
    assert told is None or told.waits == "", "“retries in 0 s” would stand there while it is paused"


def test_a_job_that_needs_a_decision_says_so_in_its_chip_and_once(panel):
    panel.set_reasons({ids(2)[0]: Reason("needs 20 GB", decide=True)})
    panel.set_choices({ids(2)[0]: "needs 20 GB"}, [])
    row = panel.model.rows_of(Group.WAITING).start
    job, told = (panel.model.index(row).data(role) for role in (Role.JOB, Role.PROGRESS))
    assert words.chip(job, told) == ("needs a decision", "warning")
    assert words.line(job, told) == "needs 20 GB"
    assert words.spoken(job, told).count("needs a decision") == 1
    assert words.tooltip(job, told).count("needs 20 GB") == 1


def test_the_menu_of_jobs_shows_what_can_be_done_and_what_is_set(panel):
    def texts() -> list[str]:
        menu = panel.menu()
        try:
            return [action.text() for action in menu.actions()]
        finally:
            menu.deleteLater()

    waiting = list(panel.model.rows_of(Group.WAITING))
    panel.view.select_rows(waiting[:1])
    assert not {"Start anyway", "Take the clip"} & set(texts())
    assert [panel.actions_by_name[name].isChecked() for name in PRIORITIES] == [False, True, False]
    panel.set_choices({panel.model.ids_at(waiting[:1])[0]: "needs 20 GB"}, [])
    assert "Start anyway" in texts()
    panel.set_undo_available(True)
    panel.set_undo_words("moving 3 jobs")
    assert "Undo moving 3 jobs\tCtrl+Z" in texts()
    assert panel.actions_by_name["undo"].text() == "Undo", "its button has no room for more"
    panel.view.select_rows(panel.model.rows_of(Group.FINISHED))
    menu = panel.menu()
    levels = next(action for action in menu.actions() if action.text() == "Priority")
    assert not levels.isEnabled()
    menu.deleteLater()


def test_esc_in_the_list_shows_all_jobs_again_too(panel, qtbot):
    panel.finding.open()
    qtbot.keyClicks(panel.finding.bar.line, "pan")
    answered(panel, qtbot, Found(frozenset({5})))
    qtbot.keyClick(panel.finding.bar.line, Key.Key_Down)
    assert panel.view.hasFocus()
    qtbot.keyClick(panel.view, Key.Key_Escape)
    assert not panel.model.narrowed
    assert not panel.finding.bar.isVisible()

"""The queue dock in the window: undo of everything, many edited at once, search, reasons."""

from __future__ import annotations

import time
from typing import Any

import pytest
from PySide6.QtGui import QColor, QImage

from app.window import MainWindow
from core.queue import Group, Show
from core.timing.nights import Entry, Night
from widgets.bulk_edit import BulkEditDialog

SMALL = {"width": 64, "height": 64, "frames": 8, "steps": 2, "step_seconds": 0.0}
pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)


@pytest.fixture
def paused(window: MainWindow) -> MainWindow:
    assert window.controller is not None
    window.controller.set_paused(True)
    return window


def add(window: MainWindow, *prompts: str, **more: object) -> list[str]:
    given = SMALL | more
    return [
        window.controller.add("test-pattern", given | {"prompt": prompt})[0].id
        for prompt in prompts
    ]


def state(window: MainWindow) -> list[tuple[str, dict[str, object]]]:
    ledger = window.controller.ledger
    rows = ledger.rows(ledger.ids(Group.WAITING))
    return [(row.job.id, dict(row.job.params)) for row in rows]


def dialog_of(window: MainWindow, qtbot: Any) -> BulkEditDialog:
    qtbot.waitUntil(lambda: bool(window.findChildren(BulkEditDialog)), timeout=5000)
    return window.findChildren(BulkEditDialog)[-1]


def test_everything_in_the_queue_is_taken_back_step_by_step(paused: MainWindow, qtbot: Any) -> None:
    controller, undo = paused.controller, paused.menus.undo
    states, words = [state(paused)], []
    a, b, c = add(paused, "a", "b", "c")
    states = states[:1]
    for number in range(1, 4):
        states.append(state(paused)[:number])
    for action in (
        lambda: controller.move([c], a),
        lambda: controller.move_to_top([b]),
        lambda: controller.edit(a, "test-pattern", SMALL | {"prompt": "other"}),
        lambda: controller.remove([a, c]),
        lambda: controller.cancel([b]),
    ):
        states.append(state(paused))
        action()
    del states[4]
    while undo.isEnabled():
        words.append(undo.text())
        undo.trigger()
        assert state(paused) == states.pop()
    assert states == []
    assert words == [
        *("&Undo removing 1 job", "&Undo removing 2 jobs", "&Undo editing 1 job"),
        *("&Undo moving 1 job", "&Undo moving 1 job"),
        *["&Undo adding 1 job"] * 3,
    ]
    assert undo.text() == "&Undo"
    assert not paused.panels.queue.actions_by_name["undo"].isEnabled()


def test_what_began_meanwhile_is_left_out_and_told(paused: MainWindow, qtbot: Any) -> None:
    controller, told = paused.controller, []
    controller.told.connect(told.append)
    a, b, c = add(paused, "a", "b", "c")
    controller.move([c, b], a)
    controller.ledger.begin(b)
    controller.undo()
    ledger = controller.ledger
    assert ledger.job_ids(ledger.ids(Group.WAITING)) == [a, c]
    assert told == [
        "Took back moving 2 jobs; 1 job has begun or ended meanwhile and stays as it is."
    ]
    controller.edit(c, "test-pattern", SMALL | {"prompt": "x"})
    ledger.begin(c)
    controller.undo()
    assert ledger.row(c).job.params["prompt"] == "x"
    assert len(told) == 2
    for job_id in (b, c):
        from core.events import Stopped

        ledger.end(job_id, Stopped(job_id=job_id, seconds=0.1))


def test_many_jobs_are_edited_at_once_and_taken_back_as_one(paused: MainWindow, qtbot: Any) -> None:
    controller = paused.controller
    given = add(paused, "a", "b", "c", "d")
    controller.edit(given[1], "test-pattern", SMALL | {"prompt": "b", "steps": 9})
    before, panel = state(paused), paused.panels.queue
    panel.view.select_rows(panel.model.rows_of(Group.WAITING)[:3])
    panel.actions_by_name["edit"].trigger()
    dialog = dialog_of(paused, qtbot)
    steps = dialog.changes["steps"]
    assert not dialog.save.isEnabled()
    assert steps.now.text() == "They differ: 2, 9"
    steps.field.set_raw("9")
    assert steps.box.isChecked(), "what is touched is ticked by itself"
    qtbot.waitUntil(dialog.save.isEnabled, timeout=5000)
    assert dialog.told.text().startswith("2 of 3 jobs change; 1 is like that already")
    assert dialog.save.text() == "Change 2 jobs"
    dialog.save.click()
    qtbot.waitUntil(lambda: state(paused) != before, timeout=5000)
    assert [(i, p["steps"], p["prompt"]) for i, p in state(paused)] == [
        (given[0], 9, "a"), (given[1], 9, "b"), (given[2], 9, "c"), (given[3], 2, "d"),
    ]  # fmt: skip
    qtbot.waitUntil(lambda: paused.menus.undo.text() == "&Undo editing 2 jobs", timeout=5000)
    paused.menus.undo.trigger()
    assert state(paused) == before


def test_a_value_that_cannot_be_used_is_named_and_nothing_is_written(
    paused: MainWindow, qtbot: Any
) -> None:
    add(paused, "a", "b")
    before, panel = state(paused), paused.panels.queue
    panel.view.select_rows(panel.model.rows_of(Group.WAITING))
    panel.on_edit()
    dialog = dialog_of(paused, qtbot)
    change = dialog.changes["width"]
    change.field.set_raw("7")
    assert "Width" in change.field.error()
    assert not dialog.save.isEnabled()
    change.box.setChecked(False)
    assert change.field.raw() == "64", "what is not ticked shows what the jobs have"
    assert not change.field.error()
    assert dialog.values() == {}
    dialog.reject()
    assert state(paused) == before


def test_a_search_finds_by_words_state_and_survives_a_change(
    paused: MainWindow, qtbot: Any
) -> None:
    add(paused, "a fox in snow", "an owl", "two foxes")
    panel = paused.panels.queue
    panel.finding.open()
    bar = panel.finding.bar
    bar.line.setText("fox")
    qtbot.waitUntil(lambda: bar.count.text() == "2 of 3 jobs", timeout=5000)
    add(paused, "a third fox")
    qtbot.waitUntil(lambda: bar.count.text() == "3 of 4 jobs", timeout=5000)
    bar.chips[Show.FAILED].click()
    qtbot.waitUntil(lambda: bar.count.text() == "0 of 4 jobs", timeout=5000)
    panel.finding.close()
    assert panel.model.rowCount() == 5


def test_what_the_dock_shows_is_remembered(paused: MainWindow, qtbot: Any) -> None:
    panel = paused.panels.queue
    panel.finding.fold(Group.FINISHED, True)
    assert paused.settings.queue["folded"] == ["finished"]


def test_quiet_hours_are_told_on_the_first_row_and_nowhere_else(
    window: MainWindow, qtbot: Any
) -> None:
    hour = time.localtime().tm_hour
    window.keep(quiet_hours=f"{hour:02}:00-{(hour + 2) % 24:02}:00")
    given = add(window, "a", "b")
    panel = window.panels.queue
    assert list(panel.model.told.reasons) == [given[0]]
    assert panel.model.told.of(given[0]).waits.endswith(", quiet hours")
    window.controller.set_paused(True)
    assert panel.model.told.reasons == {}


def test_the_calendar_marks_the_time_that_was_asked_for_and_quiet_hours(
    paused: MainWindow, qtbot: Any
) -> None:
    finding = paused.panels.queue.finding
    paused.keep(quiet_hours="22:00-07:00")
    now = time.time()
    length = 30 * 3600.0
    entry = Entry("x", "X", 0, 0.0, length, length, length)
    finding.show_calendar(True)
    paused.panels.queue.set_night(Night((entry,), length, length), now)
    calendar = finding.calendar
    shades = calendar._quiet
    assert 1 <= len(shades) <= 3
    # A day and six hours hold one night whole, and it lasts nine hours but for a shifted clock.
    assert any(8 <= (end - begin) / 3600 <= 10 for begin, end in shades)
    assert time.localtime(calendar._until).tm_hour == 7
    finding.set_until(now + 7200)
    assert calendar._until == now + 7200
    finding.set_until(now - 5)
    assert time.localtime(calendar._until).tm_hour == 7


def test_posters_are_read_beside_the_window(paused: MainWindow, qtbot: Any, tmp_path: Any) -> None:
    image = QImage(320, 180, QImage.Format.Format_RGB32)
    image.fill(QColor("teal"))
    path = tmp_path / "poster.png"
    assert image.save(str(path))
    pictures = paused.panels.queue.view.delegate.pictures
    assert pictures.aside == paused.controller.run_aside
    assert pictures.get(str(path), 1) is None
    with qtbot.waitSignal(pictures.arrived, timeout=5000):
        pass
    found = pictures.get(str(path), 1)
    assert found is not None
    assert found.height() <= 80
    assert pictures.get(str(tmp_path / "none.png"), 1) is None
    with qtbot.waitSignal(pictures.arrived, timeout=5000):
        pass

"""The calendar of the night in the queue dock: bars, late ends, quiet hours, the morning."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QColor
from PySide6.QtTest import QTest

from core.jobs import JobState
from core.queue import Group
from core.timing.nights import Entry, Night
from tests.widgets.queue_source import MemoryQueue, job, row
from widgets import theme
from widgets.queue import QueuePanel
from widgets.queue_calendar import NightCalendar

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)
AT = time.mktime((2025, 3, 4, 22, 10, 0, 0, 0, -1))
HOUR = 3600.0


def night(count: int = 6, hours: float = 1.0, unknown: int = 0) -> Night:
    length = hours * HOUR
    entries = [
        Entry(
            job(n + 2).id, f"Scene {n + 2}", 0, n * length, (n + 1) * length,
            (n + 1) * length * 1.2, length,
        )
        for n in range(count)
    ]  # fmt: skip
    entries += [Entry(job(90 + n).id, "New", 0, None, None, None, None) for n in range(unknown)]
    done = count * length or None
    return Night(tuple(entries), done, done and done * 1.2, unknown)


@pytest.fixture
def calendar(qtbot):
    made = NightCalendar()
    qtbot.addWidget(made)
    made.resize(390, made.sizeHint().height())
    made.show()
    return made


def colour(calendar: NightCalendar, x: float, y: float) -> QColor:
    return QColor(calendar.grab().toImage().pixel(round(x), round(y)))


def test_a_bar_lasts_from_begin_to_likely_end_and_fades_to_the_late_end(calendar, qapp):
    theme.apply(qapp, "dark")
    calendar.show_night(night(), AT, paused=False)
    tokens = theme.of(calendar)
    bar = calendar.bar_of(0)
    assert bar.left() == pytest.approx(calendar.x_of(AT))
    assert bar.right() == pytest.approx(calendar.x_of(AT + HOUR))
    middle = bar.center().y()
    solid = colour(calendar, bar.center().x(), middle)
    assert solid.name() == QColor(tokens.link).name()
    tail = colour(calendar, (bar.right() + calendar.x_of(AT + 1.2 * HOUR)) / 2, middle)
    assert tail.name() not in (solid.name(), QColor(tokens.field).name())
    behind = colour(calendar, calendar.x_of(AT + 5.6 * HOUR), middle)
    assert behind.name() == QColor(tokens.field).name()
    # One below the other, all of them within the field.
    tops = [calendar.bar_of(n).top() for n in range(6)]
    assert tops == sorted(set(tops))
    assert calendar.bar_of(5).bottom() <= calendar._field().bottom()


def test_what_runs_has_a_bar_of_its_own_colour_from_now_on(calendar, qapp):
    theme.apply(qapp, "light")
    now = Entry(job(1).id, "Scene 1", 0, 0.0, HOUR / 2, HOUR * 0.6, HOUR / 2)
    later = [replace(one, begin_seconds=one.begin_seconds + HOUR / 2) for one in night(2).entries]
    calendar.show_night(Night(tuple(later), 2.5 * HOUR, 3 * HOUR, running=(now,)), AT, paused=False)
    bar = calendar.bar_of(0)
    assert (bar.left(), bar.right()) == pytest.approx(
        (calendar.x_of(AT), calendar.x_of(AT + HOUR / 2))
    )
    solid = colour(calendar, bar.center().x(), bar.center().y())
    assert solid.name() == QColor(theme.of(calendar).success).name()
    below = calendar.bar_of(1).center()
    assert colour(calendar, below.x(), below.y()).name() == QColor(theme.of(calendar).link).name()
    assert calendar.tip(bar.center()) == (
        "Scene 1\nRuns now · done about 22:40, by 22:46 nine times in ten"
    )
    assert calendar.text().startswith("2 jobs · done by 00:40")
    calendar.show_night(Night((), HOUR / 2, HOUR * 0.6, running=(now,)), AT, paused=False)
    assert calendar.text() == "1 job runs, nothing waits · done by 22:40 (±6 min)"


def test_quiet_hours_are_shaded_and_the_morning_is_a_line(calendar, qapp):
    calendar.show_night(night(6), AT, paused=False)
    at = AT + 5 * HOUR, calendar._field().top() + 2
    plain = colour(calendar, calendar.x_of(at[0]), at[1])
    calendar.set_quiet([(AT + 4 * HOUR, AT + 6 * HOUR)])
    assert colour(calendar, calendar.x_of(at[0]), at[1]).name() != plain.name()
    before = calendar.span()
    morning = AT + 8.5 * HOUR
    calendar.set_until(morning)
    assert calendar.span()[1] > morning > before[1], "the axis is lengthened up to the morning"
    x = calendar.x_of(morning)
    image = calendar.grab().toImage()
    column = {image.pixel(round(x), y) for y in range(20, 90)}
    assert len(column) > 1, "a dashed line"
    # A short queue in the evening is not pressed to nothing by a morning that is far.
    calendar.show_night(night(1, 0.5), AT, paused=False)
    assert calendar.span()[1] - AT < HOUR


def test_hovering_tells_title_and_times_and_a_click_picks(calendar, qtbot):
    calendar.show_night(night(), AT, paused=False)
    spot = calendar.bar_of(2).center()
    assert calendar.tip(spot).startswith("Scene 4\nTakes about 1:00:00 · begins about 00:10")
    # Beside the bars, at a time of day, the job that runs then.
    beside = QPointF(calendar.x_of(AT + 4.5 * HOUR), calendar._field().top() + 1)
    assert calendar.tip(beside).startswith("Scene 6\n")
    assert calendar.tip(QPointF(1, 1)) == calendar.text()
    with qtbot.waitSignal(calendar.picked) as picked:
        QTest.mouseClick(calendar, Qt.MouseButton.LeftButton, pos=spot.toPoint())
    assert picked.args == [job(4).id]


def test_nothing_waits_and_nothing_known_say_so(calendar):
    assert "empty" in calendar.text()
    calendar.show_night(night(0, unknown=2), AT, paused=False)
    assert calendar.accessibleDescription() == "2 jobs · done by –"
    calendar.grab()
    calendar.show_night(night(2, unknown=1), AT, paused=True)
    assert calendar.text() == "3 jobs · over 2 h of work"
    calendar.show_night(None, 0.0, paused=False)
    calendar.grab()


def test_an_empty_night_has_no_hours(calendar):
    calendar.show_night(None, 0.0, paused=False)
    shown = calendar.grab().toImage()
    line = shown.height() // 2
    assert len({shown.pixel(x, line) for x in range(2, shown.width() - 2)}) == 1


def test_the_word_of_the_morning_is_beside_the_bars(calendar, qapp):
    """Bars fall from the upper left to the lower right, so it stands to the left, below."""
    theme.apply(qapp, "dark")
    calendar.show_night(night(12), AT, paused=False)
    calendar.set_until(AT + 9 * HOUR)
    x, wide = calendar.x_of(AT + 9 * HOUR), 60
    shown, warning = calendar.grab().toImage(), QColor(theme.of(calendar).warning).rgb()
    below = range(shown.height() // 2, shown.height() - 20)

    def drawn(columns: range) -> bool:
        return any(shown.pixel(at, y) == warning for at in columns for y in below)

    assert drawn(range(round(x) - wide, round(x) - 3))
    assert not drawn(range(round(x) + 3, round(x) + wide))


@pytest.mark.parametrize("width", [160, 390, 900])
def test_five_thousand_jobs_are_drawn_once_and_within_reason(calendar, width):
    calendar.resize(width, calendar.height())
    calendar.show_night(night(5000, 0.01), AT, paused=False)
    started = time.perf_counter()
    calendar.grab()
    assert time.perf_counter() - started < 0.5
    drawn = calendar._drawn
    started = time.perf_counter()
    for _ in range(20):
        calendar.grab()
    assert (time.perf_counter() - started) / 20 < 0.01, "a copy of what was drawn"
    assert calendar._drawn is drawn


def test_the_dock_shows_it_remembers_it_and_a_pick_selects_the_job(qtbot):
    rows = [row(number, JobState.WAITING) for number in range(2, 40)]
    panel = QueuePanel(MemoryQueue(rows))
    qtbot.addWidget(panel)
    panel.resize(390, 700)
    panel.show()
    panel.set_night(night(38), AT)
    action = panel.actions_by_name["calendar"]
    with qtbot.waitSignals([panel.finding.changed, panel.finding.calendar_drawn]):
        action.trigger()
    calendar = panel.finding.calendar
    assert calendar.isVisible()
    assert panel.finding.state()["calendar"] is True
    assert calendar.geometry().bottom() < panel.view.geometry().top()
    calendar.picked.emit(job(30).id)
    assert panel.selected_ids() == [job(30).id]
    at = panel.model.index(panel.model.rows_of(Group.WAITING)[28])
    assert panel.view.viewport().rect().contains(panel.view.visualRect(at))
    action.trigger()
    assert not calendar.isVisible()
    panel.set_night(night(3), AT)
    assert len(calendar._entries) == 38, "a hidden calendar is not drawn"

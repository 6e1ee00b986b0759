"""The memory timeline: what is painted where, and when nothing is."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QColor, QImage, QKeyEvent, QMouseEvent, QWheelEvent
from PySide6.QtWidgets import QApplication, QToolTip

from core.gpu.readings import Reading, SystemReading
from core.jobs import Phase
from tests.widgets.memory_samples import GB, card, reading
from widgets import theme, timeline_view
from widgets.timeline import MARGIN, SHORTEST_SPAN, TimelinePanel
from widgets.timeline_axes import BOTTOM, FUTURE, HEADROOM, LEFT, RIGHT, STRIP, time_ticks
from widgets.timeline_bands import Bands
from widgets.timeline_data import SYSTEM, ago, gigabytes, nice_step
from widgets.timeline_head import ALL, RANGES
from widgets.timeline_paint import Curve
from widgets.timeline_view import TimelineView

START = 5000.0


@pytest.fixture(params=["dark", "light"])
def tokens(request: pytest.FixtureRequest, qapp: QApplication) -> Iterator[theme.Tokens]:
    yield theme.apply(qapp, request.param)
    theme.apply(qapp, "dark")


@pytest.fixture
def panel(qtbot: object, qapp: QApplication) -> Iterator[TimelinePanel]:
    made = TimelinePanel()
    qtbot.addWidget(made)
    made.resize(900, 260)
    made.show()
    qtbot.waitExposed(made)
    made.set_span(300.0)
    qapp.processEvents()
    yield made
    QToolTip.hideText()
    made.close()


def fill(panel: TimelinePanel, make: Callable[[float], Reading], seconds: float = 300.0) -> None:
    at = START
    while at <= START + seconds:
        panel.append(make(at))
        at += 0.5
    QApplication.processEvents()


class Look:
    """Colours of a panel by time and memory."""

    def __init__(self, panel: TimelinePanel) -> None:
        QApplication.processEvents()
        self.panel, self.view, self.scale = panel, panel.view, panel.view.scale
        self.image: QImage = panel.grab().toImage()

    def place(self, at: float, gigabytes: float) -> QPointF:
        """Where that lies in the view, the middle of its pixel."""
        return QPointF(self.scale.x_of(at), self.scale.y_of(gigabytes * GB))

    def pixel(self, place: QPointF) -> QColor:
        inside = self.view.mapTo(self.panel, QPoint(int(place.x()), int(place.y())))
        return self.image.pixelColor(inside)

    def colour(self, at: float, gigabytes: float) -> QColor:
        return self.pixel(self.place(at, gigabytes))

    def strip(self, at: float) -> QColor:
        return self.pixel(QPointF(self.scale.x_of(at), 5))


def move(view: TimelineView, place: QPointF, *, held: bool = False) -> None:
    send(view, QMouseEvent.Type.MouseMove, place, held=held)


def send(view: TimelineView, kind: QMouseEvent.Type, place: QPointF, *, held: bool = True) -> None:
    moving = kind == QMouseEvent.Type.MouseMove
    button = Qt.MouseButton.NoButton if moving else Qt.MouseButton.LeftButton
    held = held and kind != QMouseEvent.Type.MouseButtonRelease
    event = QMouseEvent(
        kind, place, view.mapToGlobal(place), button,
        Qt.MouseButton.LeftButton if held else Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
    )  # fmt: skip
    QApplication.sendEvent(view, event)
    QApplication.processEvents()


def drag(view: TimelineView, start: QPointF, pixels: float) -> None:
    send(view, QMouseEvent.Type.MouseButtonPress, start)
    move(view, QPointF(start.x() + pixels / 2, start.y()), held=True)
    move(view, QPointF(start.x() + pixels, start.y()), held=True)
    send(view, QMouseEvent.Type.MouseButtonRelease, QPointF(start.x() + pixels, start.y()))


def click(view: TimelineView, place: QPointF) -> None:
    send(view, QMouseEvent.Type.MouseButtonPress, place)
    send(view, QMouseEvent.Type.MouseButtonRelease, place)


def turn(view: TimelineView, place: QPointF, angle: QPoint) -> None:
    wheel = QWheelEvent(
        place, view.mapToGlobal(place), QPoint(), angle,
        Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(view, wheel)
    QApplication.processEvents()


def nearest(colour: QColor, tokens: theme.Tokens) -> str:
    """Name the token that a colour is made of, by hue and strength over the panel."""
    ground = QColor(tokens.panel)
    names = ["panel", *(n for n in theme.colour_names() if n.startswith(("series", "phase")))]

    def distance(name: str) -> float:
        full = QColor(getattr(tokens, name))
        share = 0.78 if name.startswith("series") else 105 / 255
        parts = zip(colour.getRgb()[:3], full.getRgb()[:3], ground.getRgb()[:3], strict=True)
        return sum(abs(seen - (a * share + b * (1 - share))) for seen, a, b in parts)

    return min(names, key=distance)


def test_areas_of_a_gpu(panel: TimelinePanel, tokens: theme.Tokens) -> None:
    fill(panel, lambda at: reading(at, card()))
    look, at = Look(panel), START + 200
    assert nearest(look.colour(at, 1.0), tokens) == "series_other"
    assert nearest(look.colour(at, 4.0), tokens) == "series_panel"
    assert nearest(look.colour(at, 9.0), tokens) == "series_worker"
    assert nearest(look.colour(at, 15.0), tokens) == "panel"
    assert panel._head.title.text() == "Memory, GB"


def test_areas_are_as_high_as_their_memory(panel: TimelinePanel, tokens: theme.Tokens) -> None:
    """A step down and up: each edge stands within a pixel of its amount."""

    def make(at: float) -> Reading:
        return reading(at, card(used=(12 if at < START + 150 else 18) * GB))

    fill(panel, make)
    look = Look(panel)
    for at, edges in ((START + 100, (12, 6, 2)), (START + 200, (18, 12, 8))):
        found: dict[str, int] = {}
        for row in range(int(look.scale.y_of(23 * GB)), int(look.scale.y_of(0)) - 1):
            name = nearest(look.pixel(QPointF(look.scale.x_of(at), row)), tokens)
            if name.startswith("series"):  # The grid shows above them.
                found.setdefault(name, row)
        assert list(found) == ["series_worker", "series_panel", "series_other"]
        for row, amount in zip(found.values(), edges, strict=True):
            assert row == pytest.approx(look.scale.y_of(amount * GB), abs=1.5), (at, amount)


def test_zero_total_and_now_stand_at_the_edges(panel: TimelinePanel) -> None:
    fill(panel, lambda at: reading(at, card()))
    scale, view = panel.view.scale, panel.view
    floor = view.height() - BOTTOM
    assert scale.y_of(0) == pytest.approx(floor, abs=1)
    assert scale.y_of(24 * GB) == pytest.approx(STRIP + HEADROOM, abs=1)
    assert scale.y_of(12 * GB) == pytest.approx((floor + STRIP + HEADROOM) / 2, abs=1)
    assert scale.x_of(START) == pytest.approx(LEFT, abs=1)
    assert scale.x_of(START + 300) == pytest.approx(view.width() - RIGHT - FUTURE, abs=1)
    assert scale.seconds_at(scale.x_of(START + 77)) == pytest.approx(START + 77)


@pytest.mark.parametrize("span", [60.0, 900.0, 3600.0])
def test_what_is_moved_along_equals_what_is_drawn_anew(panel: TimelinePanel, span: float) -> None:
    walk = random.Random(5)
    panel.set_span(span)
    at = START
    for number in range(1500):
        at += 0.1 if number % 300 else 7.0
        if 700 < number < 720:
            panel.append(reading(at, card(used=None)))
        else:
            used = int((9 + 3 * walk.random()) * GB)
            panel.append(reading(at, card(used=used, split=not 900 < number < 1000)))
        if number % 3 == 0:
            QApplication.processEvents()
    for move_by in (0, 25, 40, -10):
        panel.view.show_stretch(panel.view.track, panel.view.scale.start, panel._span)
        if move_by:
            drag(panel.view, QPointF(400, 150), move_by)
            QApplication.sendEvent(panel.view, _leave())
        moved = panel.view.grab().toImage()
        panel.view._curve = Curve()
        anew = panel.view.grab().toImage()
        differ = [
            (x, y)
            for x in range(moved.width())
            for y in range(0, moved.height(), 3)
            if moved.pixel(x, y) != anew.pixel(x, y)
        ]
        assert differ == []


def test_a_reading_more_draws_few_columns(panel: TimelinePanel) -> None:
    panel.set_span(60.0)
    fill(panel, lambda at: reading(at, card()), 100.0)
    before, count = panel.view.columns_drawn, panel.view.paints
    for number in range(20):
        panel.append(reading(START + 100.1 + number / 10, card()))
        QApplication.processEvents()
    ticks = panel.view.paints - count
    assert ticks >= 15
    assert 0 < panel.view.columns_drawn - before <= 80 * ticks
    before = panel.view.columns_drawn
    panel.set_span(61.0)
    QApplication.processEvents()
    assert panel.view.columns_drawn - before >= 800


@pytest.mark.parametrize("width", [480, 700, 1000, 1600])
def test_names_of_times_do_not_overlap(panel: TimelinePanel, width: int) -> None:
    panel.resize(width, 160)
    fill(panel, lambda at: reading(at, card()))
    scale = panel.view.scale
    for span in (10.0, 60.0, 77.0, 300.0, 900.0, 3600.0, 36000.0):
        panel.set_span(span)
        scale = panel.view.scale
        ticks = time_ticks(scale, START + 300)
        assert 2 <= len(ticks) <= scale.columns / 60
        assert ticks[0][1] == "now"
        places = [scale.x_of(seconds) for seconds, _ in ticks]
        assert min(a - b for a, b in pairwise(places)) >= 50
        assert len({name for _, name in ticks}) == len(ticks)


def test_without_a_gpu_it_is_main_memory_and_says_so(
    panel: TimelinePanel, tokens: theme.Tokens
) -> None:
    fill(panel, reading)
    look, at = Look(panel), START + 200
    assert nearest(look.colour(at, 2.0), tokens) == "series_other"
    assert nearest(look.colour(at, 5.0), tokens) == "series_panel"
    assert nearest(look.colour(at, 8.0), tokens) == "series_worker"
    assert nearest(look.colour(at, 11.0), tokens) == "panel"
    assert panel._head.title.text() == "System memory (no NVIDIA GPU found)"
    assert panel._head.tracks.isHidden()


def test_memory_that_nobody_owns_is_not_shown_as_the_engines(
    panel: TimelinePanel, tokens: theme.Tokens
) -> None:
    fill(panel, lambda at: reading(at, card(split=False)))
    assert nearest(Look(panel).colour(START + 200, 9.0), tokens) == "series_other"


def test_unknown_values_are_a_gap(panel: TimelinePanel, tokens: theme.Tokens) -> None:
    def make(at: float) -> Reading:
        return reading(at, card(used=None if START + 100 < at < START + 150 else 12 * GB))

    fill(panel, make)
    look = Look(panel)
    assert nearest(look.colour(START + 80, 9.0), tokens) == "series_worker"
    assert nearest(look.colour(START + 125, 0.5), tokens) == "panel"
    assert nearest(look.colour(START + 180, 9.0), tokens) == "series_worker"


def test_time_without_readings_is_a_gap(panel: TimelinePanel, tokens: theme.Tokens) -> None:
    fill(panel, lambda at: reading(at, card()), 100.0)
    for number in range(200):
        panel.append(reading(START + 200 + number / 2, card()))
    look = Look(panel)
    assert nearest(look.colour(START + 50, 9.0), tokens) == "series_worker"
    assert nearest(look.colour(START + 150, 9.0), tokens) == "panel"
    assert nearest(look.colour(START + 250, 9.0), tokens) == "series_worker"


@pytest.mark.qt_log_ignore("does not support raise", extend=True)
def test_bands_of_jobs(panel: TimelinePanel, tokens: theme.Tokens) -> None:
    fill(panel, lambda at: reading(at, card()))
    phases = (Phase.LOAD, Phase.SAMPLE, Phase.DECODE, Phase.ENCODE, Phase.VERIFY)
    for number, phase in enumerate(phases):
        panel.phase("a", "Scene 1", phase, START + 20 + 40 * number)
    panel.job_ended("a", START + 220, "done")
    panel.job_ended("a", START + 230, "failed")
    panel.job_ended("never began", START + 230, "failed")
    panel.phase("b", "Scene 2", Phase.LOAD, START + 250)
    look = Look(panel)
    for number, phase in enumerate(phases):
        assert nearest(look.strip(START + 55 + 40 * number), tokens) == f"phase_{phase.value}"
    assert nearest(look.strip(START + 10), tokens) == "panel"
    assert nearest(look.strip(START + 235), tokens) == "panel"
    assert nearest(look.strip(START + 290), tokens) == "phase_load"
    move(look.view, QPointF(look.scale.x_of(START + 70), 8))
    assert QToolTip.text().startswith("Scene 1\nsample · 40.0 s\n")
    move(look.view, QPointF(look.scale.x_of(START + 190), 8))
    assert QToolTip.text().startswith("Scene 1\nverify · 40.0 s · done\n")
    assert look.view.cursor().shape() == Qt.CursorShape.PointingHandCursor


def test_the_readout_names_values_at_that_instant(panel: TimelinePanel) -> None:
    from widgets.timeline_readout import lines

    fill(panel, lambda at: reading(at, card()))
    panel.phase("a", "Scene 1", Phase.SAMPLE, START + 100)
    past = panel._past
    seconds, values = past.tracks[0].history.at(START + 240.2)
    assert seconds == START + 240
    assert lines(past.tracks[0], past, START + 240, values) == [
        ("", "−1 min · 12.0 GB in use"),
        ("series_worker", "Engine: 6.0 GB"),
        ("series_panel", "Other programs: 4.0 GB"),
        ("series_other", "Rest: 2.0 GB"),
        ("", "    python: 6.0 GB"),
        ("", "    game: 4.0 GB"),
        ("", "load 98 % · 71 °C · 342 W"),
        ("phase_sample", "Scene 1 · sample"),
    ]


def test_the_crosshair_stands_at_the_mouse_and_names_its_time(
    panel: TimelinePanel, tokens: theme.Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(panel, lambda at: reading(at, card()))
    before = Look(panel)
    drawn: list[str] = []
    plain = timeline_view.lines

    def lines(*arguments: object) -> list[tuple[str, str]]:
        found = plain(*arguments)
        drawn[:] = [text for _, text in found]
        return found

    monkeypatch.setattr(timeline_view, "lines", lines)
    place = before.place(START + 240, 18.0)
    move(panel.view, place)
    look = Look(panel)
    assert drawn[:2] == ["−1 min · 12.0 GB in use", "Engine: 6.0 GB"]
    x = int(place.x())
    changed = [
        column for column in range(x - 8, x + 9)
        if any(
            look.pixel(QPointF(column + 0.5, y)) != before.pixel(QPointF(column + 0.5, y))
            for y in range(30, 60)
        )
    ]  # fmt: skip
    assert len(changed) == 1
    assert abs(changed[0] - place.x()) <= 1
    # The ground of the words stands on the side with room for it.
    left = look.pixel(QPointF(place.x() - 14, 40))
    right = look.pixel(QPointF(place.x() + 14, 40))
    assert [left.name(), right.name()].count(tokens.raised) == 1
    drawn.clear()
    move(panel.view, QPointF(place.x(), 8))
    assert Look(panel) and not drawn
    QApplication.sendEvent(panel.view, _leave())
    assert Look(panel).image == before.image


def _leave() -> object:
    from PySide6.QtCore import QEvent

    return QEvent(QEvent.Type.Leave)


def test_hidden_is_not_painted_and_catches_up(panel: TimelinePanel, tokens: theme.Tokens) -> None:
    fill(panel, lambda at: reading(at, card()), 100.0)
    view = panel.view
    painted = view.paints
    assert painted > 0
    panel.hide()
    for number in range(200):
        panel.append(reading(START + 100.5 + number / 2, card()))
        panel.phase("a", "Scene", Phase.SAMPLE, START + 100.5 + number / 2)
    QApplication.processEvents()
    assert view.paints == painted
    panel.show()
    look = Look(panel)
    assert view.paints > painted
    assert nearest(look.colour(START + 190, 9.0), tokens) == "series_worker"


def test_readings_faster_than_pixels_are_not_all_painted(panel: TimelinePanel) -> None:
    panel.set_span(3600.0)
    fill(panel, lambda at: reading(at, card()), 2.0)
    before = panel.view.paints
    for number in range(100):
        panel.append(reading(START + 3 + number / 100, card()))
        QApplication.processEvents()
    assert panel.view.paints - before <= 4


def press(panel: TimelinePanel, key: Qt.Key) -> None:
    event = QKeyEvent(QKeyEvent.Type.KeyPress, key, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(panel, event)
    QApplication.processEvents()


def test_keys_pan_zoom_and_come_back(panel: TimelinePanel) -> None:
    fill(panel, lambda at: reading(at, card()))
    start, end = panel._times()
    press(panel, Qt.Key.Key_Left)
    assert not panel.following
    assert panel._times()[0] == pytest.approx(start - 30, abs=0.1)
    panel.append(reading(START + 310, card()))
    assert panel._times()[0] == pytest.approx(start - 30, abs=0.1)
    press(panel, Qt.Key.Key_Plus)
    assert panel._span == pytest.approx(200)
    assert not panel.following
    press(panel, Qt.Key.Key_Minus)
    press(panel, Qt.Key.Key_End)
    assert panel.following
    assert panel._times()[0] == pytest.approx(start + 10)
    assert panel._times()[1] == pytest.approx(end + 10)
    press(panel, Qt.Key.Key_Left)
    press(panel, Qt.Key.Key_Right)
    assert panel.following


def test_the_past_ends_somewhere(panel: TimelinePanel) -> None:
    fill(panel, lambda at: reading(at, card()))
    press(panel, Qt.Key.Key_Plus)
    press(panel, Qt.Key.Key_Home)
    assert panel._times()[0] == START
    press(panel, Qt.Key.Key_Minus)
    for _ in range(100):
        press(panel, Qt.Key.Key_Left)
    assert panel._times()[0] == pytest.approx(START - 150, abs=0.1)


def test_a_zoom_near_now_goes_on_following(panel: TimelinePanel) -> None:
    fill(panel, lambda at: reading(at, card()))
    look = Look(panel)
    turn(panel.view, look.place(START + 290, 10), QPoint(0, 240))
    assert panel.following
    assert panel._span == pytest.approx(300 * 0.75**2)
    assert panel._times()[1] == START + 300
    turn(panel.view, look.place(START + 100, 10), QPoint(0, -120))
    assert panel.following


def test_a_zoom_keeps_what_is_under_the_mouse(panel: TimelinePanel) -> None:
    fill(panel, lambda at: reading(at, card()))
    place = Look(panel).place(START + 100, 10)
    for angle in (240, 120, -120):
        turn(panel.view, place, QPoint(0, angle))
        assert not panel.following
        pixel = panel.view.scale.seconds
        assert panel.view.scale.seconds_at(place.x()) == pytest.approx(START + 100, abs=3 * pixel)
    for _ in range(40):
        turn(panel.view, place, QPoint(0, 120))
    assert panel._span == SHORTEST_SPAN


def test_a_drag_moves_the_time_along_with_the_mouse(panel: TimelinePanel) -> None:
    fill(panel, lambda at: reading(at, card()))
    look = Look(panel)
    place, pixel = look.place(START + 100, 20), look.scale.seconds
    drag(panel.view, place, 60)
    assert not panel.following
    moved = panel.view.scale.seconds_at(place.x() + 60)
    assert moved == pytest.approx(START + 100, abs=2 * pixel)
    left = panel._times()[0]
    panel.append(reading(START + 310, card()))
    assert panel._times()[0] == left
    drag(panel.view, place, -400)
    assert panel.following
    drag(panel.view, place, 60)
    panel._head.now.click()
    assert panel.following
    start = panel._times()[0]
    turn(panel.view, place, QPoint(120, 0))
    assert panel._times()[0] == pytest.approx(start - 30, abs=pixel)
    send(panel.view, QMouseEvent.Type.MouseButtonDblClick, place)
    assert panel.following


def test_ranges(panel: TimelinePanel) -> None:
    fill(panel, lambda at: reading(at, card()))
    for button, (_, seconds) in zip(panel._head.ranges, RANGES, strict=True):
        button.click()
        shown = 300 * MARGIN if seconds == ALL else seconds
        assert panel._times()[0] == pytest.approx(START + 300 - shown)
        assert [other.isChecked() for other in panel._head.ranges].count(True) == 1
        assert button.isChecked()
    panel.set_span(77.0)
    assert not any(button.isChecked() for button in panel._head.ranges)


def test_several_gpus_can_be_chosen(panel: TimelinePanel, tokens: theme.Tokens) -> None:
    fill(panel, lambda at: reading(at, *(card(index) for index in range(16))), 60.0)
    assert panel._head.tracks.isVisible()
    assert panel._head.tracks.count() == 17
    assert panel._head.tracks.itemText(3) == "GPU 3 · RTX 3"
    panel._head.tracks.setCurrentIndex(16)
    panel._head.tracks.activated.emit(16)
    assert nearest(Look(panel).colour(START + 50, 2.0), tokens) == "series_other"
    assert panel.view.track is panel._past.tracks[SYSTEM]


def test_a_gpu_that_appears_later_is_shown_unless_another_was_chosen(
    panel: TimelinePanel,
) -> None:
    fill(panel, reading, 5.0)
    fill_from = START + 6
    panel.append(reading(fill_from, card()))
    panel.append(reading(fill_from + 1, card()))
    assert panel.view.track is panel._past.tracks[0]
    panel.append(reading(fill_from + 2))
    assert panel.view.track is panel._past.tracks[0]


def test_the_focus_shows(panel: TimelinePanel, tokens: theme.Tokens, qtbot: object) -> None:
    fill(panel, reading)
    panel.activateWindow()
    panel.setFocus(Qt.FocusReason.TabFocusReason)
    qtbot.waitUntil(panel.hasFocus)
    look = Look(panel)
    assert look.pixel(QPointF(1, 60)).name() == tokens.focus
    panel.clearFocus()
    assert Look(panel).pixel(QPointF(1, 60)).name() == tokens.panel


def test_before_the_first_reading_and_plot(qtbot: object, tokens: theme.Tokens) -> None:
    panel = TimelinePanel()
    qtbot.addWidget(panel)
    panel.resize(700, 240)
    panel.append(reading(START))
    panel.phase("a", "Scene", Phase.LOAD, START)
    empty = TimelinePanel()
    qtbot.addWidget(empty)
    empty.resize(700, 240)
    empty.show()
    panel.show()
    without = empty.grab().toImage()
    assert without.pixelColor(10, 200).name() == tokens.panel
    # Some words stand in the middle, and go with the first reading.
    assert any(without.pixelColor(x, 135).name() != tokens.panel for x in range(200, 500))
    empty.append(reading(START))
    assert empty.grab().toImage() != without
    assert panel.accessibleName()
    assert panel.accessibleDescription()


def test_the_module_loads_without_numpy_and_pyqtgraph() -> None:
    code = (
        "import sys, widgets.timeline, widgets.tiles\n"
        "from PySide6.QtWidgets import QApplication\n"
        "app = QApplication([])\n"
        "panel = widgets.timeline.TimelinePanel()\n"
        "panel.show()\n"
        "panel.grab()\n"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'pyqtgraph', 'psutil')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_bands_that_show_are_found_among_many() -> None:
    bands = Bands()
    bands.begin("open", "", Phase.LOAD, 0.0)
    for number in range(1000):
        bands.begin("a", "", Phase.SAMPLE, 10.0 * number)
        if number % 7 == 3:
            bands.finish("a", 10.0 * number + 4, "done")
        if number == 1:
            bands.begin("b", "", Phase.DECODE, 11.0)
        if number == 500:
            bands.finish("b", 5000.0, "done")
    kept = list(bands._bands)
    for start, end in ((0, 5), (4995, 5020), (5001, 5030), (9990, 1e5), (20_000, 1e5)):
        want = [
            band for band in kept if band.start <= end and (band.end is None or band.end >= start)
        ]
        assert sorted(map(id, bands.between(start, end))) == sorted(map(id, want))
    assert len({band.run for band in kept if band.job_id == "a"}) == 144
    assert [band.job_id for band in bands.of_run(1)] == ["open"]


def test_words() -> None:
    assert [ago(s) for s in (0, 30, 60, 90, 480, 3600, 5400)] == [
        "now", "−30 s", "−1 min", "−1:30 min", "−8 min", "−1 h", "−1:30 h",
    ]  # fmt: skip
    assert gigabytes(None) == gigabytes(float("nan")) == "–"
    assert gigabytes(14.6 * GB) == "14.6 GB"
    assert nice_step(24, (1, 2, 3, 4, 6, 8), 4) == 6
    assert nice_step(1e9, (1, 2), 4) == 2


# Tiles


def test_little_main_memory_in_use_fills_the_view_and_a_gpus_total_stays(
    panel: TimelinePanel, tokens: theme.Tokens
) -> None:
    def used(at: float, gigabytes: float) -> Reading:
        return Reading(at, (), SystemReading(16 * GB, int(gigabytes * GB), GB, GB, 5.0), None)

    fill(panel, lambda at: used(at, 1.5), 60.0)
    look = Look(panel)
    assert look.scale.top_bytes == 2 * GB
    assert nearest(look.colour(START + 50, 1.2), tokens) == "series_worker"
    assert look.colour(START + 50, 1.8) != look.colour(START + 50, 1.2)
    panel.append(used(START + 61, 1.7))
    assert Look(panel).scale.top_bytes == 4 * GB
    panel.append(used(START + 62, 13.0))
    assert Look(panel).scale.top_bytes == 16 * GB
    panel.append(used(START + 63, 1.0))
    assert Look(panel).scale.top_bytes == 16 * GB  # What is in view must not jump about.
    panel.append(reading(START + 64, card(used=GB)))
    panel.show_track(0)
    assert Look(panel).scale.top_bytes == 24 * GB

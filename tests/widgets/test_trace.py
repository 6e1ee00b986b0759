"""The trace window: opened from the timeline, drawn, saved, and honest when there is nothing."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QToolTip

from core.errors import Category, Problem
from core.gpu.readings import DeviceReading, ProcessReading, Reading, Role, SystemReading
from core.history import History
from core.jobs import Phase
from widgets import theme
from widgets.timeline import TimelinePanel
from widgets.timeline_data import SYSTEM
from widgets.trace import TraceWindow
from widgets.trace_data import HEADER

GB = 2**30
START = 5000.0
SAYS = pytest.mark.qt_log_ignore("does not support", extend=True)
pytestmark = SAYS


def reading(at: float, used: int | None, *, named: bool = True) -> Reading:
    processes = (
        ProcessReading(1, "python", Role.WORKER, (used or 0) - 3 * GB),
        ProcessReading(2, "game", Role.OTHER, 2 * GB),
    )
    device = DeviceReading(
        0, "NVIDIA card", 24 * GB, used, 98.0, 71.0, None, processes if named else None
    )
    return Reading(at, (device,), SystemReading(16 * GB, 10 * GB, GB, GB, 55.0), None)


@pytest.fixture
def panel(qtbot: object, qapp: QApplication) -> Iterator[TimelinePanel]:
    """A job of 20 s: load at 10 s, sample at 15 s with its peak at 22 s, done at 30 s."""
    theme.apply(qapp, "dark")
    made = TimelinePanel()
    qtbot.addWidget(made)
    made.resize(900, 260)
    made.show()
    qtbot.waitExposed(made)
    for number in range(401):
        at = number / 10
        if at == 10:
            made.phase("a", "Scene 1: fog/rain", Phase.LOAD, START + 10)
        if at == 15:
            made.phase("a", "Scene 1: fog/rain", Phase.SAMPLE, START + 15)
        if at == 30:
            made.job_ended("a", START + 30, "finished")
        used = None if at == 20 else (14 * GB if at == 22 else 8 * GB)
        made.append(reading(START + at, used))
    qapp.processEvents()
    yield made
    QToolTip.hideText()
    made.close()


def opened(panel: TimelinePanel) -> list[TraceWindow]:
    QApplication.processEvents()
    return panel.findChildren(TraceWindow)


def trace_of(panel: TimelinePanel) -> TraceWindow:
    panel.open_trace(panel._past.bands.newest)
    (window,) = opened(panel)
    return window


def shut(window: TraceWindow) -> None:
    window.close()
    QApplication.sendPostedEvents(None, 52)  # QEvent.DeferredDelete
    QApplication.processEvents()


@pytest.mark.parametrize("key", [Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_T])
def test_keys_open_the_newest_job(panel: TimelinePanel, key: Qt.Key) -> None:
    assert opened(panel) == []
    QTest.keyClick(panel, key)
    (window,) = opened(panel)
    assert not window.isModal()
    assert window.windowTitle() == "Memory of Scene 1: fog/rain"
    assert window.trace.bands[0].job_id == "a"


def test_a_key_opens_the_job_under_the_mouse(panel: TimelinePanel) -> None:
    panel.phase("b", "Scene 2", Phase.LOAD, START + 35)
    panel.view.mouse = QPointF(panel.view.scale.x_of(START + 12), 100)
    QTest.keyClick(panel, Qt.Key.Key_T)
    assert [window.trace.bands[0].job_id for window in opened(panel)] == ["a"]
    panel.view.mouse = None
    QTest.keyClick(panel, Qt.Key.Key_T)
    assert sorted(w.trace.bands[0].job_id for w in opened(panel)) == ["a", "b"]


def test_without_a_job_there_is_nothing_to_open(qtbot: object) -> None:
    panel = TimelinePanel()
    qtbot.addWidget(panel)
    panel.show()
    panel.append(reading(START, 8 * GB))
    QTest.keyClick(panel, Qt.Key.Key_T)
    assert opened(panel) == []


def test_a_click_on_a_band_opens_its_job_and_a_drag_does_not(panel: TimelinePanel) -> None:
    place = QPointF(panel.view.scale.x_of(START + 20), 8).toPoint()
    QTest.mousePress(panel.view, Qt.MouseButton.LeftButton, pos=place)
    QTest.mouseMove(panel.view, place + QPointF(60, 0).toPoint())
    QTest.mouseRelease(panel.view, Qt.MouseButton.LeftButton, pos=place + QPointF(60, 0).toPoint())
    assert opened(panel) == []
    panel.follow_now()
    below = QPointF(place.x(), 120).toPoint()
    QTest.mouseClick(panel.view, Qt.MouseButton.LeftButton, pos=below)
    assert opened(panel) == []
    QTest.mouseClick(panel.view, Qt.MouseButton.LeftButton, pos=place)
    assert len(opened(panel)) == 1


def test_one_window_an_attempt(panel: TimelinePanel) -> None:
    window = trace_of(panel)
    assert trace_of(panel) is window
    panel.phase("a", "Scene 1: fog/rain", Phase.LOAD, START + 41)
    panel.open_trace(panel._past.bands.newest)
    second = next(w for w in opened(panel) if w is not window)
    assert [band.phase for band in second.trace.bands] == [Phase.LOAD]
    shut(window)
    assert opened(panel) == [second]
    assert [w.trace.bands[0].start for w in panel._traces.windows.values()] == [START + 41]


def test_a_window_that_was_closed_opens_anew(panel: TimelinePanel) -> None:
    shut(trace_of(panel))
    assert opened(panel) == []
    assert panel._traces.windows == {}
    assert trace_of(panel).isVisible()


def test_what_it_says_and_draws(panel: TimelinePanel) -> None:
    window = trace_of(panel)
    words = window._words.text()
    assert words.startswith("Scene 1: fog/rain · 20.0 s · finished · peak 14.0 GB in sample")
    assert " · average 8.0 GB · lowest 8.0 GB · at the end 8.0 GB · " in words
    assert "Wh" not in words  # Power was not read.
    assert "NVIDIA card" in words
    item = window._plot.getPlotItem()
    import pyqtgraph as pg

    regions = [i.getRegion() for i in item.items if isinstance(i, pg.LinearRegionItem)]
    assert regions == [pytest.approx((0, 5)), pytest.approx((5, 20))]
    texts = {i.toPlainText(): i.pos() for i in item.items if isinstance(i, pg.TextItem)}
    assert set(texts) == {"load", "sample", "peak 14.0 GB"}
    place = texts["peak 14.0 GB"]
    assert (place.x(), place.y()) == (pytest.approx(12.0), 14.0)
    # Three areas, each cut in two by the reading without a value.
    curves = [i for i in item.items if isinstance(i, pg.PlotCurveItem)]
    assert len(curves) == 6
    assert max(float(curve.getData()[1].max()) for curve in curves) == 14.0
    lows = sorted(float(curve.getData()[0].min()) for curve in curves)
    assert lows == pytest.approx([0, 0, 0, 10.1, 10.1, 10.1])


@pytest.mark.parametrize("mode", ["dark", "light"])
def test_its_areas_have_the_colours_of_the_theme(
    panel: TimelinePanel, qapp: QApplication, mode: str
) -> None:
    window = trace_of(panel)
    tokens = theme.apply(qapp, mode)
    qapp.processEvents()
    from widgets.timeline_paint import FILL, mixed

    image = window._plot.grab().toImage()
    box = window._plot.getPlotItem().getViewBox()

    def colour(seconds: float, gigabytes: float) -> str:
        scene = box.mapViewToScene(QPointF(seconds, gigabytes))
        return image.pixelColor(window._plot.mapFromScene(scene)).name()

    assert colour(7, 0.5) == mixed(tokens.series_other, tokens.panel, FILL).name()
    assert colour(7, 2.0) == mixed(tokens.series_panel, tokens.panel, FILL).name()
    assert colour(7, 6.0) == mixed(tokens.series_worker, tokens.panel, FILL).name()
    seen = colour(7, 12.0)
    assert seen != mixed(tokens.series_worker, tokens.panel, FILL).name()
    theme.apply(qapp, "dark")


def test_a_running_job_is_followed(panel: TimelinePanel) -> None:
    panel.phase("b", "Scene 2", Phase.LOAD, START + 41)
    for number in range(20):
        panel.append(reading(START + 41 + number / 10, 8 * GB))
    window = trace_of(panel)
    assert "so far" in window._words.text()
    count = len(window.trace.times)
    assert count == 20
    panel.append(reading(START + 43.1, 20 * GB))
    assert len(window.trace.times) == count
    panel.append(reading(START + 44.1, 8 * GB))
    assert len(window.trace.times) == count + 2
    assert "peak 20.0 GB in load" in window._words.text()
    panel.job_ended("b", START + 44.1, "stopped")
    assert "stopped" in window._words.text()
    panel.append(reading(START + 60, 8 * GB))
    assert len(window.trace.times) == count + 2


def test_a_past_that_is_forgotten_says_so(panel: TimelinePanel) -> None:
    track = panel._past.tracks[0]
    track.history = History(8)
    track.history.append(START + 500, (1.0,) * 8)
    window = trace_of(panel)
    assert window._stack.currentWidget() is window._empty
    assert "no longer kept" in window._empty.text()
    assert not window.save_csv_button.isEnabled()
    assert not window.save_png_button.isEnabled()


def test_the_table_holds_every_reading(
    panel: TimelinePanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window, asked = trace_of(panel), []
    target = tmp_path / "out"

    def ask(_parent: object, _title: str, name: str, kinds: str) -> tuple[str, str]:
        asked.append((name, kinds))
        return str(target), kinds

    monkeypatch.setattr(QFileDialog, "getSaveFileName", ask)
    QTest.keyClick(window, Qt.Key.Key_S, Qt.KeyboardModifier.ControlModifier)
    assert asked == [("Scene 1_ fog_rain memory.csv", "CSV table (*.csv)")]
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == HEADER
    assert len(rows) == 201
    by_time = {row["seconds"]: row for row in rows}
    assert by_time["0.000"]["phase"] == "load"
    assert by_time["4.900"]["phase"] == "load"
    assert by_time["5.000"]["phase"] == "sample"
    peak = by_time["12.000"]
    assert int(peak["used_bytes"]) == 14 * GB
    assert [int(peak[f"{n}_bytes"]) for n in ("programs", "rest")] == [2 * GB, GB]
    assert int(peak["engine_bytes"]) == 11 * GB
    assert (peak["load_percent"], peak["temperature_celsius"]) == ("98.0", "71.0")
    assert peak["power_watts"] == ""
    assert by_time["10.000"]["used_bytes"] == by_time["10.000"]["engine_bytes"] == ""
    assert str(target) in window._told.text()


def test_the_picture_is_what_is_shown(
    panel: TimelinePanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window, target = trace_of(panel), tmp_path / "out.png"
    answer = (str(target), "")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: answer)
    QTest.keyClick(window, Qt.Key.Key_E, Qt.KeyboardModifier.ControlModifier)
    image = QImage(str(target))
    assert image.size() == window._plot.size() * window.devicePixelRatioF()
    assert image.convertToFormat(QImage.Format.Format_RGB32) == (
        window._plot.grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
    )


def test_nothing_is_written_when_the_question_is_dismissed(
    panel: TimelinePanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    window = trace_of(panel)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: ("", ""))
    window.save_csv_button.click()
    window.save_png_button.click()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_a_problem_and_the_window_says_it(
    panel: TimelinePanel, tmp_path: Path
) -> None:
    window, problems = trace_of(panel), []
    panel.problem.connect(problems.append)
    assert not window.save_csv(str(tmp_path / "missing" / "out.csv"))
    (problem,) = problems
    assert isinstance(problem, Problem)
    assert problem.category is Category.STORAGE
    assert problem.hint
    assert "could not be saved" in window._told.text()
    assert not window.save_png(str(tmp_path))
    assert len(problems) == 2


def test_memory_without_owners_is_saved_without_them(panel: TimelinePanel) -> None:
    panel.phase("b", "", Phase.DECODE, START + 50)
    panel.append(reading(START + 51, 9 * GB, named=False))
    window = trace_of(panel)
    assert window.windowTitle() == "Memory of a job"
    lines = window.trace.csv().splitlines()
    assert lines[1] == f"1.000,decode,{9 * GB},,,,,,98.0,71.0,"
    assert not math.isnan(window.trace.peak[1])


def test_main_memory_has_traces_too(panel: TimelinePanel) -> None:
    panel.show_track(SYSTEM)
    window = trace_of(panel)
    assert window.trace.peak == (0, 10 * GB)
    assert "Main memory" in window._words.text()

"""The comparison of traces: what is listed, drawn, told and saved."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication

from core.gpu.columns import COLUMNS, POWER, USED
from core.jobs import Phase
from core.recorder.trace import JobTrace, Stretch
from core.units import GIGABYTE as GB
from tests.widgets.memory_samples import card, reading
from widgets import theme
from widgets.compare import MOST_SHOWN, CompareWindow
from widgets.timeline import TimelinePanel

pytestmark = pytest.mark.qt_log_ignore("does not support", extend=True)
BEGAN = 1.7e9


def trace(name: str, peak: float, *, seconds: float = 60.0, outcome: str = "finished") -> JobTrace:
    """A job that holds 2 GB, and `peak` GB from its tenth second on, at 300 W."""
    times = np.arange(-50, round(seconds + 5) * 10) / 10
    rows = np.full((len(times), COLUMNS), np.nan)
    rows[:, USED] = np.where(times >= 10, peak, 2.0) * GB
    rows[times < 0, USED] = 23 * GB  # What came before does not count.
    rows[:, POWER] = 300.0
    stretches = (Stretch("phase", "sample", 0.0, seconds),)
    return JobTrace(
        name, f"Scene {name}", 1, 0, "card", 24 * GB, BEGAN, seconds, outcome, times, rows,
        stretches,
    )  # fmt: skip


@pytest.fixture
def window(qtbot: object, qapp: QApplication) -> Iterator[CompareWindow]:
    theme.apply(qapp, "dark")
    made = CompareWindow([trace("c", 14), trace("b", 12, seconds=80.0), trace("a", 9)])
    qtbot.addWidget(made)
    made.show()
    yield made


def curves(window: CompareWindow) -> dict[str, object]:
    return {item.name(): item for item in window._plot.getPlotItem().listDataItems()}


def test_the_newest_two_are_drawn_from_the_start_of_each_job(window: CompareWindow) -> None:
    drawn = curves(window)
    assert list(drawn) == ["1 · Scene c", "2 · Scene b"]
    for name, peak, seconds in (("1 · Scene c", 14, 60.0), ("2 · Scene b", 12, 80.0)):
        times, values = drawn[name].getData()
        assert times[0] == pytest.approx(0.0, abs=0.11)
        assert times[-1] == pytest.approx(seconds, abs=0.11)
        assert values.max() == peak
        assert values[times < 9.9].max() == 2.0
    pens = {item.opts["pen"].color().name() for item in drawn.values()}
    assert len(pens) == 2


def test_the_table_tells_the_figures(window: CompareWindow) -> None:
    cells = [window.table.item(0, place).text() for place in range(window.table.columnCount())]
    assert cells[0] == "1 · Scene c"
    assert cells[2] == "60.0"
    assert cells[3] == "14.0 GB"
    average = float(cells[4].removesuffix(" GB"))
    assert average == pytest.approx((2 * 10 + 14 * 50) / 60, abs=0.06)
    assert cells[5:] == ["2.0 GB", "14.0 GB", "5.00", "finished"]


def test_ticks_choose_what_is_drawn(window: CompareWindow) -> None:
    window.table.item(2, 0).setCheckState(Qt.CheckState.Checked)
    assert list(curves(window)) == ["1 · Scene c", "2 · Scene b", "3 · Scene a"]
    for row in range(3):
        window.table.item(row, 0).setCheckState(Qt.CheckState.Unchecked)
    assert curves(window) == {}
    assert not window.save_data_button.isEnabled()


def test_only_runs_of_one_recipe_stand_together(qtbot: object) -> None:
    traces = [trace("wan 2", 14), trace("svd 1", 9), trace("wan 1", 13)]
    window = CompareWindow(traces, lambda item: item.job_id.split()[0])
    qtbot.addWidget(window)
    assert [item.job_id for item in window.chosen] == ["wan 2", "wan 1"]
    window.recipes.setCurrentText("svd")
    assert [item.job_id for item in window.chosen] == ["svd 1"]
    assert "not yet two" in window.told.text()


@pytest.mark.parametrize("count", [0, 1, 40])
def test_none_one_and_many(qtbot: object, count: int) -> None:
    window = CompareWindow([trace(str(number), 5) for number in range(count)])
    qtbot.addWidget(window)
    assert ("not yet two" in window.told.text()) == (count < 2)
    for row in range(count):
        window.table.item(row, 0).setCheckState(Qt.CheckState.Checked)
    assert len(window.chosen) == min(count, MOST_SHOWN)
    assert ("At most" in window.told.text()) == (count > MOST_SHOWN)


def saved(window: CompareWindow, path: Path, qtbot: object) -> bytes:
    with qtbot.waitSignal(window._saver.saved):
        window.save(str(path))
    return path.read_bytes()


def test_data_and_pictures(window: CompareWindow, tmp_path: Path, qtbot: object) -> None:
    table = saved(window, tmp_path / "a.csv", qtbot).decode().splitlines()
    rows = list(csv.DictReader(table))
    assert len(rows) == 700 + 900
    assert {row["job_id"] for row in rows} == {"c", "b"}
    assert max(int(row["used_bytes"]) for row in rows if float(row["seconds"]) >= 0) == 14 * GB
    assert rows[0]["temperature_celsius"] == ""
    data = json.loads(saved(window, tmp_path / "a.json", qtbot))
    assert [item["job_id"] for item in data] == ["c", "b"]
    assert data[0]["figures"]["peak_bytes"] == 14 * GB
    assert data[0]["figures"]["energy_wh"] == pytest.approx(5.0, rel=0.01)
    assert len(data[1]["rows"]) == 900
    assert data[0]["stretches"][0]["name"] == "sample"
    saved(window, tmp_path / "a.png", qtbot)
    assert QImage(str(tmp_path / "a.png")).width() >= window._plot.width()
    assert b"<svg" in saved(window, tmp_path / "a.svg", qtbot)
    with qtbot.waitSignal(window.problem):
        window.save(str(tmp_path / "missing" / "a.csv"))
    assert "could not be saved" in window.told.text()


def test_without_a_recorder_the_timelines_own_jobs_are_compared(qtbot: object) -> None:
    panel = TimelinePanel()
    qtbot.addWidget(panel)
    panel.show()
    for number in range(400):
        at = 100.0 + number / 10
        if number in (50, 200):
            panel.phase(f"job {number}", f"Scene {number}", Phase.SAMPLE, at)
            panel.node(f"job {number}", "KSampler", at)
        if number in (150, 300):
            panel.job_ended(f"job {number - 100}", at, "finished")
        panel.append(reading(at, card(used=(9 if number < 175 else 11) * GB)))
    window = panel.files.compare()
    assert [item.title for item in window.chosen] == ["Scene 200", "Scene 50"]
    assert [item.figures.peak_bytes for item in window.chosen] == [11 * GB, 9 * GB]
    assert {(item.kind, item.name) for item in window.chosen[0].stretches} == {
        ("phase", "sample"),
        ("node", "KSampler"),
    }
    window.close()
    panel.files.set_traces(lambda: [trace("x", 3), trace("y", 4)])
    other = panel.files.compare()
    assert [item.job_id for item in other.chosen] == ["x", "y"]
    other.close()

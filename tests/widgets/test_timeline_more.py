"""The timeline's parts, second axis, forecast, reserve, nodes, older past, tabs and files."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QImage, QPainter
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from core.gpu.readings import ProcessReading, Reading, Role, SystemReading
from core.jobs import Phase
from core.units import GIGABYTE as GB
from tests.widgets.memory_samples import card, reading
from widgets import theme
from widgets.colours import DARK, LIGHT, Tokens
from widgets.timeline import TimelinePanel
from widgets.timeline_axes import STRIP, Look, Scale
from widgets.timeline_data import AXES, PARTS, SYSTEM, Forecast, Holders
from widgets.timeline_edges import paint_ahead
from widgets.timeline_head import ALL, Head
from widgets.timeline_paint import FILL, mixed
from widgets.timeline_past import older
from widgets.timeline_readout import describe, lines

START = 5000.0
SAYS = pytest.mark.qt_log_ignore("does not support", extend=True)
pytestmark = SAYS
HELD = (
    ProcessReading(1, "python", Role.WORKER, 6 * GB),
    ProcessReading(2, "ComfyUI :8188", Role.COMFYUI, 4 * GB, 8188),
    ProcessReading(3, "ollama", Role.LLM, 3 * GB),
    ProcessReading(4, "game", Role.OTHER, 2 * GB),
)


def full(at: float, index: int = 0) -> Reading:
    device = replace(card(index, used=16 * GB), processes=HELD, reserved_bytes=GB)
    return Reading(at, (device,), SystemReading(16 * GB, 10 * GB, 4 * GB, 2 * GB, 55.0), None)


@pytest.fixture
def panel(qtbot: object, qapp: QApplication) -> Iterator[TimelinePanel]:
    theme.apply(qapp, "dark")
    made = TimelinePanel()
    qtbot.addWidget(made)
    made.resize(1200, 300)
    made.show()
    qtbot.waitExposed(made)
    made.set_span(60.0)
    for number in range(121):
        made.append(full(START + number / 2))
    qapp.processEvents()
    yield made
    made.close()


def pixel(panel: TimelinePanel, at: float, amount: float) -> str:
    QApplication.processEvents()
    scale = panel.view.scale
    image = panel.view.grab().toImage()
    return image.pixelColor(int(scale.x_of(at)), int(scale.y_of(amount * GB))).name()


def ground(name: str) -> str:
    return mixed(getattr(DARK, name), DARK.panel, FILL).name()


def test_five_parts_are_stacked_in_their_order(panel: TimelinePanel) -> None:
    at = START + 30
    middles = {0.5: "other", 2.0: "panel", 4.5: "llm", 8.0: "comfyui", 13.0: "worker"}
    for amount, name in middles.items():
        assert pixel(panel, at, amount) == ground(f"series_{name}"), name
    names = ["Engine", "ComfyUI", "LLM servers", "Other programs", "Rest"]
    assert [text for _, text in panel._head.legend.parts][:5] == names


def test_the_legend_shows_only_parts_that_occur(panel: TimelinePanel) -> None:
    panel.show_track(SYSTEM)
    assert [text for _, text in panel._head.legend.parts] == ["Engine", "This window", "Rest"]


def test_the_readout_says_everything_of_that_instant(panel: TimelinePanel) -> None:
    panel.phase("a", "Scene 1", Phase.SAMPLE, START + 10)
    panel.node("a", "KSampler", START + 20)
    past = panel._past
    track = past.tracks[0]
    _, values = track.history.at(START + 30)
    assert lines(track, past, START + 30, values) == [
        ("", "−30 s · 16.0 GB in use"),
        ("series_worker", "Engine: 6.0 GB"),
        ("series_comfyui", "ComfyUI: 4.0 GB"),
        ("series_llm", "LLM servers: 3.0 GB"),
        ("series_panel", "Other programs: 2.0 GB"),
        ("series_other", "Rest: 1.0 GB"),
        ("", "    python: 6.0 GB"),
        ("", "    ComfyUI :8188: 4.0 GB"),
        ("", "    ollama: 3.0 GB"),
        ("", "    game: 2.0 GB"),
        ("", "load 98 % · 71 °C · 342 W"),
        ("phase_sample", "Scene 1 · sample"),
        ("", "node: KSampler"),
    ]
    short = [text for _, text in lines(track, past, START + 30, values, 2)]
    assert "    3 more: 9.0 GB" in short


def test_lists_of_processes_are_found_by_time_and_kept_once() -> None:
    holders = Holders()
    holders.add(1.0, HELD)
    holders.add(2.0, tuple(HELD))
    changed = (replace(HELD[0], used_bytes=GB), *HELD[1:])
    holders.add(3.0, changed)
    holders.add(4.0, None)
    assert len(holders._times) == 3
    assert holders.at(0.5) == ()
    assert holders.at(2.9)[0].name == "python"
    assert holders.at(3.5)[-1].name == "python"
    assert holders.at(9.0) == ()


def test_the_second_axis_stands_at_its_amount(panel: TimelinePanel) -> None:
    before = panel.view.grab().toImage()
    QTest.keyClick(panel, Qt.Key.Key_A)
    assert panel.view.axis is AXES[0]
    QTest.keyClick(panel, Qt.Key.Key_A)
    QTest.keyClick(panel, Qt.Key.Key_A)
    assert panel.view.axis is AXES[2]
    scale = panel.view.scale
    image = panel.view.grab().toImage()
    x = int(scale.x_of(START + 30))
    row = round(scale.y_of(342 / 400 * 24 * GB))  # 400 W is the next round end.
    lights = [QColor(image.pixel(x, y)).lightness() for y in range(row - 2, row + 3)]
    assert max(lights) > 120 > 60 > QColor(before.pixel(x, row)).lightness()
    QTest.keyClick(panel, Qt.Key.Key_A)
    assert panel.view.axis is None


def test_choices_are_remembered_and_nonsense_is_not_taken(panel: TimelinePanel) -> None:
    told: list[dict] = []
    panel.choices_changed.connect(told.append)
    panel.set_axis(AXES[1])
    panel.set_span(ALL)
    assert told[-1] == panel.choices() == {"axis": "temperature", "span": "all"}
    panel.restore(json.loads(json.dumps({"axis": "power", "span": 900})))
    assert panel.choices() == {"axis": "power", "span": 900.0}
    for bad in ({}, {"axis": 5, "span": "x"}, {"span": math.nan}, {"axis": [], "span": True}):
        panel.restore(bad)
        assert panel.choices() == {"axis": "", "span": 900.0}


def test_the_reserve_is_a_line_below_the_total(panel: TimelinePanel) -> None:
    track, past = panel._past.tracks[0], panel._past
    assert past.limit_bytes(track) == 23 * GB
    panel.set_reserve(2 * GB)
    assert past.limit_bytes(track) == 21 * GB
    QApplication.processEvents()
    scale, image = panel.view.scale, panel.view.grab().toImage()
    row = round(scale.y_of(21 * GB))
    seen = {image.pixelColor(x, row).name() for x in range(100, 140)}
    assert DARK.warning in seen
    assert ("warning", "Reserve above 21.0 GB") in panel._head.legend.parts
    panel.set_reserve(99 * GB)
    assert past.limit_bytes(track) is None
    assert past.limit_bytes(past.tracks[SYSTEM]) is None


def test_a_forecast_is_drawn_ahead_of_now_and_leaves_room(panel: TimelinePanel) -> None:
    plain = panel.view.scale
    panel.phase("a", "Scene 1", Phase.SAMPLE, START + 40)
    panel.set_forecast(START + 40, 30.0, 17 * GB, 18 * GB, 20 * GB)
    QApplication.processEvents()
    scale, image = panel.view.scale, panel.view.grab().toImage()
    assert scale.end - panel._past.now > 1.3 * (plain.end - panel._past.now)
    inside, beyond = scale.x_of(START + 65), scale.x_of(START + 72)
    for amount, shown in ((19.5, True), (17.2, True), (21.0, False), (8.0, False)):
        y = int(scale.y_of(amount * GB))
        coloured = image.pixelColor(int(inside), y).name() != DARK.panel
        assert coloured == shown, amount
        assert image.pixelColor(int(beyond), y).name() == DARK.panel
    middle = int(scale.y_of(18 * GB))
    near = itertools.product(range(int(inside), int(inside) + 12), range(middle - 1, middle + 2))
    row = {image.pixelColor(x, y).name() for x, y in near}
    assert DARK.text in row
    strip = [image.pixelColor(x, 2).name() for x in range(int(inside), int(inside) + 12)]
    assert DARK.text in strip
    panel.job_ended("a", START + 60, "finished")
    assert panel._past.ahead() is None
    assert panel.view.scale.future == plain.future
    for bad in ((START, 0.0, 1, 2, 3), (START, 5.0, math.nan, 2, 3)):
        with pytest.raises(ValueError, match="finite"):
            panel.set_forecast(*bad)


def test_nodes_are_thin_bands_under_the_phases(panel: TimelinePanel) -> None:
    assert panel.view.scale.strip == STRIP
    panel.phase("a", "Scene 1", Phase.SAMPLE, START + 10)
    panel.node("a", "CLIPTextEncode", START + 10)
    panel.node("a", "KSampler", START + 30)
    panel.job_ended("a", START + 50, "finished")
    QApplication.processEvents()
    scale, image = panel.view.scale, panel.view.grab().toImage()
    assert scale.strip > STRIP
    colours = [image.pixelColor(int(scale.x_of(START + s)), STRIP).name() for s in (5, 20, 40, 55)]
    assert colours[0] == colours[3] == DARK.panel
    assert len({*colours}) == 3
    assert panel._past.bands.node_at(START + 20, START + 60).name == "CLIPTextEncode"
    assert panel._past.bands.node_at(START + 55, START + 60) is None


def test_anothers_work_lies_under_ours_and_is_no_job(panel: TimelinePanel) -> None:
    bands = panel._past.bands
    panel.phase("a", "Scene 1", Phase.SAMPLE, START + 10)
    panel.others_began("x", "a prompt on Big card", "another client", START + 20)
    panel.job_ended("a", START + 30, "finished")
    panel.others_ended("x", START + 50)
    ours, theirs = (bands.at(START + at, START + 60) for at in (25, 40))
    assert ours is not None
    assert theirs is not None
    assert (ours.title, theirs.doing) == ("Scene 1", "another client")
    assert [band.job_id for band in bands.firsts()] == ["a"], "comparisons are of our jobs"
    said = describe(theirs, START + 60).splitlines()
    assert said[:2] == ["a prompt on Big card", "another client · 30.0 s"]
    assert "its trace" in said[2]
    view = panel.view
    image = view.grab().toImage()
    colours = [image.pixelColor(int(view.scale.x_of(START + s)), 5).name() for s in (28, 35)]
    colours += [image.pixelColor(int(view.scale.x_of(START + s)), 5).name() for s in (12, 48)]
    assert colours[0] == colours[2] != colours[1] == colours[3], "ours lies over it"
    panel.open_trace(theirs)
    (window,) = panel._traces.windows.values()
    assert window.windowTitle() == "Memory of a prompt on Big card"
    assert window.trace.csv().count(",another client,") >= 50
    window.close()


def test_a_key_moves_the_readout(panel: TimelinePanel) -> None:
    shift, places = Qt.KeyboardModifier.ShiftModifier, []
    for key in (Qt.Key.Key_Right, Qt.Key.Key_Left, Qt.Key.Key_Left, Qt.Key.Key_PageUp):
        QTest.keyClick(panel, key, shift)
        places.append(panel.view.scale.seconds_at(panel.view.mouse.x()))
    assert panel.following
    assert places[0] == pytest.approx(panel._past.now, abs=0.1)
    assert places == sorted(places, reverse=True)
    assert places[1] - places[2] == pytest.approx(0.01 * 60, rel=0.15)
    assert places[2] - places[3] == pytest.approx(0.1 * 60, rel=0.15)


@dataclass
class Part:
    device: int
    at_unix: np.ndarray
    high: np.ndarray


class FakePast:
    """Recorded readings of two earlier sessions, as a recorder gives them."""

    def __init__(self, *stretches: tuple[float, float]) -> None:
        self.times = np.concatenate([np.arange(a, b, 1.0) for a, b in stretches])
        self.asked: list[float] = []

    def __call__(
        self, unix_start: float, unix_end: float, columns: int | None = None
    ) -> list[Part]:
        self.asked.append(unix_end - unix_start)
        times = self.times[(self.times >= unix_start) & (self.times <= unix_end)]
        row = [GB, 2 * GB, 2 * GB, 8 * GB, 8 * GB, 50.0, 60.0, 700.0]
        rows = np.tile(row, (len(times), 1))
        return [Part(7, times, np.ones_like(rows)), Part(0, times, rows)]


def test_the_past_of_earlier_sessions_is_asked_for_and_shown(panel: TimelinePanel) -> None:
    offset, wanted = 1.7e9, []
    source = FakePast((1.7e9 - 9e5, 1.7e9 - 9e5 + 600), (1.7e9 + 3000, 1.7e9 + 4000))

    def fetch(key: int, before: float) -> None:
        wanted.append((key, before))
        found = older(source, key, before, offset)
        if found is not None:
            panel.add_past(key, *found)

    panel._asked.clear()  # It was asked for before anybody could answer.
    panel.past_wanted.connect(fetch)
    panel.set_span(ALL)
    for number in range(6):
        panel.append(full(START + 61 + number))
        QApplication.processEvents()
    assert [key for key, _ in wanted] == [0, 0, 0]
    track = panel._past.tracks[0]
    assert track.history.first_seconds == pytest.approx(-9e5, abs=2)
    assert len(track.history) == 127 + 1600
    assert panel._times()[0] < -9e5
    _, values = track.history.at(3500.0)
    assert values[4] == 8 * GB
    assert track.axis_top(AXES[2]) == 800.0
    assert older(source, 0, -9e5, offset) is None
    assert panel.add_past(99, np.zeros(1), np.zeros((1, 8))) == 0


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 16])
def test_tabs_while_they_are_few(qtbot: object, count: int) -> None:
    panel = TimelinePanel()
    qtbot.addWidget(panel)
    panel.resize(760, 220)
    panel.show()
    panel.append(reading(START, *(card(index) for index in range(count))))
    head: Head = panel._head
    tabs = [tab.text() for tab in head.tabs]
    wanted = {0: [], 1: ["RTX 0", "RAM"], 2: ["GPU 0", "GPU 1", "RAM"]}
    wanted[3] = ["GPU 0", "GPU 1", "GPU 2", "RAM"]
    assert tabs == wanted.get(count, [])
    assert head.tracks.isVisible() == (count > 3)
    seen = set()
    for _ in range(count + 1):
        QTest.keyClick(panel, Qt.Key.Key_G)
        seen.add(panel.view.track.key)
    assert seen == {*range(count), SYSTEM}
    if tabs:
        head.tabs[0].click()
        assert [tab.isChecked() for tab in head.tabs] == [True] + [False] * count
        assert panel.view.track.key == 0


@pytest.mark.parametrize(("width", "roomy"), [(1200, True), (760, False)])
def test_ranges_fold_into_a_menu(panel: TimelinePanel, width: int, roomy: bool) -> None:
    panel.resize(width, 220)
    QApplication.processEvents()
    assert {button.isVisible() for button in panel._head.ranges} == {roomy}
    assert panel._head.range_menu.isVisible() != roomy
    for key, span in ((Qt.Key.Key_5, 21_600.0), (Qt.Key.Key_6, 86_400.0)):
        QTest.keyClick(panel, key)
        assert panel._span == span
    assert panel._head.range_menu.text() == "24 h"
    QTest.keyClick(panel, Qt.Key.Key_7)
    assert panel.choices()["span"] == "all"
    QTest.keyClick(panel, Qt.Key.Key_PageUp)
    assert panel.choices()["span"] != "all"


def saved(panel: TimelinePanel, path: Path, qtbot: object) -> bytes:
    with qtbot.waitSignal(panel.files.saved):
        panel.files.save(str(path))
    return path.read_bytes()


def test_data_of_what_is_in_view(panel: TimelinePanel, tmp_path: Path, qtbot: object) -> None:
    panel.phase("a", "Scene 1", Phase.SAMPLE, START + 10)
    panel.node("a", "KSampler", START + 20)
    table = saved(panel, tmp_path / "a.csv", qtbot).decode()
    rows = list(csv.DictReader(table.splitlines()))
    assert len(rows) == 121
    late = rows[60]
    parts = ("used", "engine", "comfyui", "llm", "programs", "rest")
    assert [int(late[f"{name}_bytes"]) // GB for name in parts] == [16, 6, 4, 3, 2, 1]
    assert (late["job"], late["phase"], late["node"]) == ("Scene 1", "sample", "KSampler")
    assert (rows[0]["job"], rows[30]["node"]) == ("", "")
    times = [float(row["unix_seconds"]) for row in rows]
    assert np.diff(times) == pytest.approx(0.5, abs=2e-3)
    data = json.loads(saved(panel, tmp_path / "a.json", qtbot))
    assert len(data["rows"]) == 121
    assert data["rows"][60][1:3] == [16 * GB, 6 * GB]
    assert data["total_bytes"] == 24 * GB


def test_pictures_of_what_is_in_view(panel: TimelinePanel, tmp_path: Path, qtbot: object) -> None:
    panel.phase("a", "Scene 1", Phase.SAMPLE, START + 10)
    saved(panel, tmp_path / "a.png", qtbot)
    image = QImage(str(tmp_path / "a.png"))
    assert image.size() == panel.view.size() * panel.view.devicePixelRatioF()
    drawing = saved(panel, tmp_path / "a.svg", qtbot).decode()
    assert "<image" not in drawing
    assert "Scene 1" in drawing
    assert ground("series_comfyui") in drawing


def test_a_file_that_cannot_be_written_is_a_problem(
    panel: TimelinePanel, tmp_path: Path, qtbot: object
) -> None:
    with qtbot.waitSignal(panel.problem) as found:
        panel.files.save(str(tmp_path / "missing" / "a.csv"))
    assert found.args[0].hint
    assert list(tmp_path.iterdir()) == []


# Colours

LIKE = {
    "normal": np.eye(3),
    # Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
}  # fmt: skip
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
     [0.0193339, 0.1191920, 0.9503041]]
)  # fmt: skip


def lab(colour: QColor, eye: np.ndarray) -> np.ndarray:
    """CIE Lab of a colour as that eye sees it."""
    parts = np.array(colour.getRgb()[:3]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    seen = XYZ @ np.clip(eye @ linear, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(seen > 0.008856, np.cbrt(seen), 7.787 * seen + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eye", LIKE)
@pytest.mark.parametrize("tokens", [DARK, LIGHT], ids=["dark", "light"])
def test_parts_stay_apart_for_colour_blind_eyes(tokens: Tokens, eye: str) -> None:
    """Any two parts may be neighbours, as others can be empty; ΔE of CIE 1976 of the fills."""
    fills = {part.name: mixed(getattr(tokens, part.colour), tokens.panel, FILL) for part in PARTS}
    fills["ground"] = QColor(tokens.panel)
    for (one, first), (two, second) in itertools.combinations(fills.items(), 2):
        apart = float(np.linalg.norm(lab(first, LIKE[eye]) - lab(second, LIKE[eye])))
        assert apart >= 15, (one, two, apart)


@pytest.mark.parametrize("low", [0.2, 1, 10, 20])
def test_the_words_of_a_forecast_are_not_struck_through(low: float, qtbot: Any) -> None:
    boxes: list[tuple[QRectF, str]] = []

    class Painter(QPainter):
        def drawText(self, box: QRectF, flags: int, name: str) -> None:
            boxes.append((box, name))

    look = Look(60.0, START, 24 * GB, ahead=True)
    scale = Scale.fitting(900, 160, 1.0, look)
    forecast = Forecast(START + 40, 25.0, low * GB, (low + 0.1) * GB, (low + 0.3) * GB)
    image = QImage(900, 160, QImage.Format.Format_RGB32)
    painter = Painter(image)
    paint_ahead(painter, forecast, scale, DARK, START + 40)
    painter.end()
    ((box, name),) = boxes
    assert name.endswith("expected")
    assert not box.top() <= scale.y_of(forecast.median_bytes) <= box.bottom()
    assert scale.strip <= box.top()
    assert box.bottom() <= scale.strip + scale.rows

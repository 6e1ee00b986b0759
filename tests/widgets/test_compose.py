"""The compose form: real keys in, requests out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QApplication,
    QComboBox,
    QLabel,
    QPushButton,
    QToolButton,
    QWidget,
)

from core.errors import Category, Problem
from tests.widgets.samples import recipe
from widgets import theme
from widgets.compose import ComposePanel
from widgets.forecast import Gauge

# Qt says so of every window on a display without a window manager.
pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def panel(qapp, qtbot):
    theme.apply(qapp, "dark")
    made = ComposePanel([recipe(), recipe("other", ())])
    qtbot.addWidget(made)
    made.resize(315, 800)
    made.show()
    made.activateWindow()
    qtbot.waitExposed(made)
    return made


def field(panel: ComposePanel, name: str) -> QWidget:
    return panel._fields[name].editor


def errors(panel: ComposePanel) -> dict[str, str]:
    return {name: f.error() for name, f in panel._fields.items() if f.error()}


def button(panel: QWidget, text: str) -> QPushButton:
    found = [b for b in panel.findChildren(QPushButton) if b.text().startswith(text)]
    assert len(found) == 1, [b.text() for b in found]
    return found[0]


def test_ctrl_return_in_the_prompt_adds(panel, qtbot) -> None:
    panel.focus_prompt()
    prompt = field(panel, "prompt")
    QTest.keyClicks(prompt, "A slow pan")
    with qtbot.waitSignal(panel.add_requested, timeout=1000) as told:
        QTest.keyClick(prompt, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    ident, values, copies = told.args
    assert (ident, copies) == ("starter", 1)
    assert values["prompt"] == "A slow pan"
    assert (values["width"], values["scale"], values["tiled"]) == (256, 7.5, False)
    assert values["seed"] is None
    assert recipe().resolve(values)["seed"] >= 0
    assert panel.values()["prompt"] == "A slow pan"


def test_return_alone_writes_a_line(panel, qtbot) -> None:
    prompt = field(panel, "prompt")
    with qtbot.assertNotEmitted(panel.add_requested):
        QTest.keyClicks(prompt, "one")
        QTest.keyClick(prompt, Qt.Key.Key_Return)
        QTest.keyClicks(prompt, "two")
    assert panel.values()["prompt"] == "one\ntwo"


def test_an_empty_prompt_is_told_at_the_prompt(panel, qtbot) -> None:
    assert errors(panel) == {}
    with qtbot.assertNotEmitted(panel.add_requested):
        QTest.mouseClick(button(panel, "Add to queue"), Qt.MouseButton.LeftButton)
    assert "empty" in errors(panel)["prompt"].lower()
    qtbot.waitUntil(lambda: QApplication.focusWidget() is field(panel, "prompt"))
    assert field(panel, "prompt").property("invalid") is True
    QTest.keyClicks(field(panel, "prompt"), "x")
    assert errors(panel) == {}


@pytest.mark.parametrize(
    ("name", "typed", "part"),
    [
        ("width", "123", "multiple of 8"),
        ("frames", "7", "from 8 to 128"),
        ("frames", "129", "from 8 to 128"),
        ("steps", "-3", "from 1 to 100"),
        ("steps", "many", "whole number"),
        ("scale", "31", "from 0 to 30"),
        ("seed", "abc", "whole number"),
    ],
)
def test_a_wrong_value_is_told_while_typing(panel, qtbot, name, typed, part) -> None:
    editor = field(panel, name)
    editor.selectAll()
    QTest.keyClicks(editor, typed)
    assert part in errors(panel)[name]
    field(panel, "prompt").setPlainText("x")
    with qtbot.assertNotEmitted(panel.add_requested):
        panel.submit()
    qtbot.waitUntil(lambda: QApplication.focusWidget() is editor)
    editor.clear()
    QTest.keyClicks(editor, "64")
    if name != "scale":
        assert errors(panel) == {}


def test_a_rule_over_several_values_is_told_at_its_field(panel) -> None:
    field(panel, "prompt").setPlainText("x")
    panel._fields["width"].set_raw(64)
    panel._fields["height"].set_raw(1024)
    assert errors(panel) == {"width": "The picture is too narrow. Make it wider."}
    panel._fields["height"].set_raw(64)
    assert errors(panel) == {}


def test_arrow_keys_step_within_the_limits(panel) -> None:
    width = field(panel, "width")
    QTest.keyClick(width, Qt.Key.Key_Up)
    assert panel.values()["width"] == "264"
    for _ in range(20):
        QTest.keyClick(width, Qt.Key.Key_PageDown)
    assert panel.values()["width"] == "64"


def wheel(widget: QWidget) -> None:
    place = QPointF(widget.rect().center())
    event = QWheelEvent(
        place,
        widget.mapToGlobal(place),
        QPoint(),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget, event)


def test_the_wheel_changes_nothing_that_has_no_focus(panel, qtbot) -> None:
    panel.focus_prompt()
    before = panel.values()
    for name in ("width", "steps", "scheduler"):
        wheel(field(panel, name))
    assert panel.values() == before
    steps = field(panel, "steps")
    steps.setFocus()
    qtbot.waitUntil(steps.hasFocus)
    wheel(steps)
    assert panel.values()["steps"] == "21"


def test_copies(panel, qtbot) -> None:
    field(panel, "prompt").setPlainText("x")
    copies = next(b for b in panel.findChildren(QToolButton) if b.menu() is not None)
    with qtbot.waitSignal(panel.add_requested) as told:
        QTest.mouseClick(copies, Qt.MouseButton.LeftButton, pos=QPoint(8, 8))
    assert told.args[2] == 4
    action = next(a for a in copies.menu().actions() if a.text() == "Add 8 copies")
    with qtbot.waitSignal(panel.add_requested) as told:
        action.trigger()
    assert told.args[2] == 8
    assert copies.text() == "×8"


def test_an_example_fills_the_prompt(panel) -> None:
    QTest.mouseClick(button(panel, "Ink in water"), Qt.MouseButton.LeftButton)
    assert panel.values()["prompt"] == "Ink in water"


def test_the_seed_can_be_kept(panel) -> None:
    line = field(panel, "seed")
    action = line.actions()[0]
    action.trigger()
    kept = panel.values()["seed"]
    assert kept is not None
    assert kept.isdigit()
    action.trigger()
    assert panel.values()["seed"] is None
    QTest.keyClicks(line, "42")
    assert action.isChecked()
    assert panel.values()["seed"] == "42"


def test_editing_saves_or_brings_back_what_was_there(panel, qtbot) -> None:
    field(panel, "prompt").setPlainText("my draft")
    given = {"prompt": "old words", "width": 128, "seed": 5}
    panel.edit("job-9", "starter", given)
    assert panel.editing() == "job-9"
    assert panel.values()["prompt"] == "old words"
    assert not button(panel, "Add to queue").isEnabled()
    QTest.mouseClick(button(panel, "Cancel"), Qt.MouseButton.LeftButton)
    assert panel.editing() is None
    assert panel.values()["prompt"] == "my draft"
    panel.edit("job-9", "starter", given)
    with qtbot.waitSignal(panel.edit_saved) as told:
        QTest.mouseClick(button(panel, "Save changes"), Qt.MouseButton.LeftButton)
    job_id, ident, values = told.args
    assert (job_id, ident) == ("job-9", "starter")
    assert (values["prompt"], values["width"], values["seed"]) == ("old words", 128, 5)
    assert panel.values()["prompt"] == "my draft"


def test_escape_leaves_a_waiting_job_as_it_was(panel, qtbot) -> None:
    field(panel, "prompt").setPlainText("my draft")
    panel.activateWindow()
    for _ in range(2):
        panel.edit("job-9", "starter", {"prompt": "old words"})
        QTest.keyClicks(field(panel, "prompt"), "and more")
        QTest.keyClick(field(panel, "prompt"), Qt.Key.Key_Escape)
        assert panel.editing() is None
        assert panel.values()["prompt"] == "my draft"
    QTest.keyClick(field(panel, "prompt"), Qt.Key.Key_Escape)
    assert panel.values()["prompt"] == "my draft"


def test_a_problem_from_outside_is_shown(panel) -> None:
    panel.show_invalid(Problem(Category.INVALID_PARAMS, "Too many.", "Use less.", field="steps"))
    assert errors(panel) == {"steps": "Too many. Use less."}
    panel.clear_invalid()
    assert errors(panel) == {}
    panel.show_invalid(Problem(Category.STORAGE, "The folder is gone.", "Choose another."))
    words = [w.text() for w in panel.findChildren(QLabel) if w.isVisible()]
    assert "The folder is gone. Choose another." in words


def test_words_go_along_to_another_recipe_and_numbers_stay(panel) -> None:
    combo = panel.findChild(QComboBox)
    field(panel, "prompt").setPlainText("words")
    panel._fields["width"].set_raw(512)
    combo.setCurrentIndex(1)
    assert panel.values()["prompt"] == "words"
    assert panel.values()["width"] == "256"
    combo.setCurrentIndex(0)
    assert panel.values()["width"] == "512"


def test_state_comes_back_in_a_new_panel(panel, qtbot) -> None:
    field(panel, "prompt").setPlainText("words")
    panel._fields["width"].set_raw("129")
    kept = json.loads(json.dumps(panel.state()))
    again = ComposePanel([recipe(), recipe("other")])
    qtbot.addWidget(again)
    again.restore(kept)
    assert again.values() == panel.values()
    again.restore({"recipe": "gone", "values": {"gone": {}}, "copies": "x"})
    assert again.recipe_id() == "starter"
    assert again.state()["recipe"] == "gone", "it may come late"
    field(again, "prompt").setPlainText("work has begun")
    assert again.state()["recipe"] == "starter"
    again.restore({"values": 3})


def test_an_unknown_recipe_is_told(panel) -> None:
    panel.load("gone", {})
    words = [w.text() for w in panel.findChildren(QLabel) if w.isVisible()]
    assert any("gone" in text for text in words)


def test_tab_walks_through_the_form_in_order(panel, qtbot) -> None:
    panel.focus_prompt()
    qtbot.waitUntil(field(panel, "prompt").hasFocus)
    order = ["negative_prompt", "width", "height", "frames", "steps", "seed", "scale", "scheduler"]
    QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
    assert isinstance(QApplication.focusWidget(), QPushButton)  # The example.
    for name in [*order, "tiled"]:
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        assert QApplication.focusWidget() is field(panel, name), name
    QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
    assert QApplication.focusWidget() is button(panel, "Add to queue")


def test_everything_has_a_name(panel) -> None:
    for shown in panel._fields.values():
        assert shown.editor.accessibleName() == shown.parameter.label
    buddies = {w.buddy() for w in panel.findChildren(QLabel) if w.buddy() is not None}
    labelled = [f for f in panel._fields.values() if f.parameter.name != "tiled"]
    assert {f.editor for f in labelled} <= buddies


def test_a_short_panel_scrolls_and_keeps_its_button(panel, qtbot) -> None:
    panel.resize(260, 300)
    QApplication.processEvents()
    add = button(panel, "Add to queue")
    assert panel.rect().contains(add.geometry().bottomRight())
    assert panel._scroll.verticalScrollBar().maximum() > 0
    panel.show_invalid(Problem(Category.INVALID_PARAMS, "Bad.", "Mend.", field="scale"))
    QApplication.processEvents()
    shown = field(panel, "scale").visibleRegion().boundingRect()
    assert shown.height() == field(panel, "scale").height()


def test_the_estimate_box(panel) -> None:
    box = panel.forecast
    assert not box.isVisible()
    gauge = Gauge(14.4, 14.9, 15.6, 21.6)
    box.show_forecast("Fits this card", "About 3:41", "", "success", gauge)
    assert box.isVisible()
    assert box.words() == "Fits this card\nAbout 3:41"
    assert box._bar.isVisible()
    box.show_forecast("", "About 3:41")
    assert box.words() == "About 3:41"
    assert not box._bar.isVisible()
    box.show_forecast("")
    assert not box.isVisible()


@pytest.mark.parametrize(
    ("gauge", "tone"),
    [
        (Gauge(4, 5, 6, 10), "success"),
        (Gauge(4, 5, 6, 5.5), "warning"),
        (Gauge(4, 5, 6, 3, measured=5.5), "danger"),
    ],
)
def test_the_bar_shows_the_band_and_the_end_of_memory(panel, gauge: Gauge, tone: str) -> None:
    panel.forecast.show_forecast("Words", "Source", "", tone, gauge)
    QApplication.processEvents()
    bar = panel.forecast._bar
    colours = theme.of(bar)
    picture = bar.grab().toImage()
    full = max(gauge.high, gauge.room)

    def at(share: float, y: int) -> str:
        x = min(bar.width() - 1, round(share * bar.width()))
        return picture.pixelColor(round(x * picture.devicePixelRatio()), y).name()

    middle = picture.height() // 2
    assert at(gauge.low / full / 2, middle) == colours.tone(tone)
    if gauge.room < gauge.high:
        assert at(gauge.room / full, 0) == colours.text
    else:
        assert at(0.95, middle) == colours.border
    if gauge.measured:
        assert at(gauge.measured / full, 0) == colours.link


CUT = """
import sys
from PySide6.QtWidgets import QApplication, QLabel, QLineEdit, QPushButton
from tests.widgets.samples import recipe
from widgets import theme
from widgets.compose import ComposePanel
from widgets.parts import ElidedLabel
app = QApplication([])
theme.apply(app, "light")
cut = []
for width in (250, 315, 420):
    panel = ComposePanel([recipe()])
    panel.edit("job", "starter", {"prompt": "x", "width": 9})
    panel.forecast.show_forecast(
        "Fits this card · peak 14.9 GB (14.4 – 15.6 GB) of 21.6 GB free",
        "About 3:41 (3:30 – 3:55) · from 12 runs",
        "Last run: peak 14.7 GB (forecast 14.9 GB) in 3:40 (3:41)",
        "success",
    )
    panel.resize(width, 700)
    panel.show()
    for _ in range(5):
        app.processEvents()
    assert panel.width() == width, (panel.width(), width)
    assert abs(panel.grab().devicePixelRatio() - 1.5) < 0.01
    for w in panel.findChildren(QPushButton) + panel.findChildren(QLabel):
        if not w.isVisibleTo(panel) or isinstance(w, ElidedLabel):
            continue
        kind = w.property("kind")
        need = w.minimumSizeHint() if isinstance(w, QLabel) else w.sizeHint()
        height = w.heightForWidth(w.width()) if w.hasHeightForWidth() else need.height()
        if (w.width() < need.width() and kind != "chip") or w.height() < height:
            cut.append((width, w.text(), w.size().toTuple(), need.toTuple(), height))
    for w in panel.findChildren(QLineEdit):
        if w.height() < w.minimumSizeHint().height():
            cut.append((width, w.accessibleName(), w.size().toTuple()))
print(cut)
sys.exit(bool(cut))
"""


def test_nothing_is_cut_at_150_percent() -> None:
    environment = {**os.environ, "QT_SCALE_FACTOR": "1.5", "QT_QPA_PLATFORM": "offscreen"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", CUT],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr

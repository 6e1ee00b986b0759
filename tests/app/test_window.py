"""The window by keyboard, with the real engine: from a prompt to a clip that plays."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QPlainTextEdit, QTextEdit, QWidget

from app.controller import Controller
from app.window import MainWindow
from app.wiring import Wiring
from core.engines.local.client import LocalEngine
from core.engines.local.families import recipes
from core.events import Finished, Sampled
from core.jobs import JobState
from core.ledger import Ledger
from core.places import Places
from core.settings import Settings, load

SMALL = {"width": 64, "height": 64, "frames": 8, "steps": 3, "step_seconds": 0.05}


@pytest.fixture
def window(qtbot: Any, tmp_path: Path) -> Iterator[MainWindow]:
    places = Places.find(tmp_path).make()
    engine = LocalEngine(
        interpreter=sys.executable, log=places.worker_log, models=places.models, grace_seconds=2.0
    )
    controller = Controller(
        Ledger.open(places.ledger), engine, recipes(places.models), places.outputs
    )
    made = MainWindow(controller, Settings(), places.settings)
    Wiring(controller, made, places)
    made.confirm = lambda *_: True
    qtbot.addWidget(made)
    made.show()
    qtbot.waitExposed(made)
    controller.start()
    yield made
    assert controller.close()


def prompt_of(window: MainWindow) -> QWidget:
    window.compose.focus_prompt()
    field = QApplication.focusWidget() or window.focusWidget()
    assert isinstance(field, QTextEdit | QPlainTextEdit)
    return field


def test_from_prompt_to_playing_clip_by_keyboard(qtbot: Any, window: MainWindow) -> None:
    window.activateWindow()
    window.compose.load("starter", {"frames": 8, "steps": 2, "width": 64, "height": 64})
    field = prompt_of(window)
    field.selectAll()
    qtbot.keyClicks(field, "a red ball")
    with qtbot.waitSignal(window.controller.job_ended, timeout=120_000) as ended:
        qtbot.keyClick(field, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    job, ending = ended.args
    assert isinstance(ending, Finished), ending
    assert job.params["prompt"] == "a red ball"
    assert Path(ending.output.path).is_file()
    frames: list[Any] = []
    window.controller.clip_frame.connect(frames.append)
    qtbot.waitUntil(lambda: len(frames) == 8, timeout=10_000)


def test_an_empty_prompt_is_shown_at_its_field(qtbot: Any, window: MainWindow) -> None:
    window.compose.load("starter", {"prompt": ""})
    field = prompt_of(window)
    qtbot.keyClick(field, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert window.controller.ledger.counts().get(JobState.WAITING, 0) == 0
    assert window.controller.running is None


def test_closing_in_the_middle_asks(qtbot: Any, window: MainWindow) -> None:
    window.controller.add("test-pattern", SMALL | {"steps": 50, "step_seconds": 0.3})
    with qtbot.waitSignal(
        window.controller.event,
        timeout=30_000,
        check_params_cb=lambda event: isinstance(event, Sampled),
    ):
        pass
    asked: list[str] = []

    def no(*words: str) -> bool:
        asked.append(" ".join(words))
        return False

    window.confirm = no
    assert not window.close()
    assert "not finished" in asked[0]
    assert window.isVisible()
    assert window.controller.running is not None
    window.confirm = lambda *_: True
    assert window.close()


def test_layout_and_form_are_remembered(qtbot: Any, window: MainWindow, tmp_path: Path) -> None:
    window.docks["queue"].hide()
    window.compose.load("starter", {"prompt": "kept words"})
    window.remember()
    settings, bad = load(Places.find(tmp_path).settings)
    assert bad == []
    again = MainWindow(window.controller, settings, Places.find(tmp_path).settings)
    qtbot.addWidget(again)
    again.show()
    assert again.docks["queue"].isHidden()
    assert not again.docks["compose"].isHidden()
    again.reset_layout()
    assert not again.docks["queue"].isHidden()
    assert again.compose.state() == window.compose.state()


@pytest.mark.parametrize("size", [(1600, 1000), (1100, 700)])
def test_nothing_is_squeezed(qtbot: Any, window: MainWindow, size: tuple[int, int]) -> None:
    window.resize(*size)
    qtbot.wait(50)
    assert (window.width(), window.height()) == size
    for panel in (window.compose, window.stage, window.queue, window.timeline):
        assert panel.isVisible()
        assert panel.width() >= panel.minimumSizeHint().width() or panel.width() > 200


def test_every_menu_action_has_its_own_key(window: MainWindow) -> None:
    keys: dict[str, str] = {}
    for menu in window.menu_bar.actions():
        for action in menu.menu().actions():
            key = action.shortcut().toString()
            if key:
                assert key not in keys, f"{key}: {keys.get(key)} and {action.text()}"
                keys[key] = action.text()
    assert "Ctrl+Q" in keys

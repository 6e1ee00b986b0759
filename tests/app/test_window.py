"""The window by keyboard, with the real engine: from a prompt to a clip that plays."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import (
    QApplication,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QTextEdit,
    QWidget,
)

from app.controller import Controller
from app.window import MainWindow, first_size
from core.events import Finished, MemoryRead, NodeStarted, Noted, Sampled, from_json, to_json
from core.jobs import JobState
from core.places import Places
from core.settings import Settings, load, save
from tests.widgets.memory_samples import card, reading
from widgets.queue_words import state_of_queue

SMALL = {"width": 64, "height": 64, "frames": 8, "steps": 3, "step_seconds": 0.05}


def controller_of(window: MainWindow) -> Controller:
    assert window.controller is not None
    return window.controller


def prompt_of(window: MainWindow) -> QWidget:
    window.panels.compose.focus_prompt()
    field = QApplication.focusWidget() or window.focusWidget()
    assert isinstance(field, QTextEdit | QPlainTextEdit)
    return field


def test_from_prompt_to_playing_clip_by_keyboard(qtbot: Any, window: MainWindow) -> None:
    window.activateWindow()
    window.panels.compose.load("starter", {"frames": 8, "steps": 2, "width": 64, "height": 64})
    field = prompt_of(window)
    field.selectAll()
    qtbot.keyClicks(field, "a red ball")
    with qtbot.waitSignal(controller_of(window).job_ended, timeout=120_000) as ended:
        qtbot.keyClick(field, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    job, ending = ended.args
    assert isinstance(ending, Finished), ending
    assert job.params["prompt"] == "a red ball"
    assert Path(ending.output.path).is_file()
    frames: list[Any] = []
    controller_of(window).clip_frame.connect(frames.append)
    qtbot.waitUntil(lambda: len(frames) == 8, timeout=10_000)


@pytest.mark.parametrize(
    ("room", "size"),
    [
        ((3840, 2160), (1600, 1000)),
        ((1920, 1032), (1600, 984)),  # Full HD above a task bar: the status line is in sight.
        ((1600, 1000), (1584, 952)),
        ((1366, 728), (1350, 680)),
        ((800, 800), (1600, 1000)),
    ],
)
def test_the_first_window_fits_the_screen(room: tuple[int, int], size: tuple[int, int]) -> None:
    assert first_size(*room) == size


def test_an_empty_prompt_is_shown_at_its_field(qtbot: Any, window: MainWindow) -> None:
    window.panels.compose.load("starter", {"prompt": ""})
    field = prompt_of(window)
    qtbot.keyClick(field, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert controller_of(window).ledger.counts().get(JobState.WAITING, 0) == 0
    assert controller_of(window).running is None

    def told() -> bool:
        labels = window.panels.compose.findChildren(QLabel)
        return [
            label.text() for label in labels if label.isVisible() and "empty" in label.text()
        ] == ["Prompt is empty. Write a prompt."]

    qtbot.waitUntil(told, timeout=2_000)
    assert field.property("invalid") is True


def test_closing_in_the_middle_asks(qtbot: Any, window: MainWindow) -> None:
    controller_of(window).add("test-pattern", SMALL | {"steps": 50, "step_seconds": 0.3})
    with qtbot.waitSignal(
        controller_of(window).event,
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
    assert controller_of(window).running is not None
    window.confirm = lambda *_: True
    assert window.close()


def test_layout_and_form_are_remembered(qtbot: Any, window: MainWindow, tmp_path: Path) -> None:
    window.panels.docks["queue"].hide()
    window.panels.compose.load("starter", {"prompt": "kept words"})
    window.remember()
    settings, bad = load(Places.find(tmp_path).settings)
    assert bad == []
    again = MainWindow(settings, Places.find(tmp_path).settings)
    again.fill(controller_of(window))
    qtbot.addWidget(again)
    again.show()
    qtbot.waitUntil(again.panels.docks["queue"].isHidden, timeout=2_000)
    assert not again.panels.docks["compose"].isHidden()
    again.reset_layout()
    assert not again.panels.docks["queue"].isHidden()
    assert again.panels.compose.state() == window.panels.compose.state()


def reached(panel: QWidget) -> list[QWidget]:
    """Return the parts of `panel` that the Tab key goes to."""
    parts = [part for part in panel.findChildren(QWidget) if part.isVisible()]
    return [part for part in parts if part.focusPolicy() & Qt.FocusPolicy.TabFocus]


def test_a_draft_is_written_without_an_end(qtbot: Any, window: MainWindow, tmp_path: Path) -> None:
    """A kill asks nobody, and words that were not queued yet are in no ledger."""
    window.panels.compose.load("starter", {})
    window.remember()
    field = prompt_of(window)
    qtbot.keyClicks(field, "words of a draft")

    def written() -> bool:
        settings, _ = load(Places.find(tmp_path).settings)
        return "words of a draft" in str(settings.compose)

    assert not written(), "not at each letter"
    qtbot.waitUntil(written, timeout=20_000)


def test_who_types_does_not_wait_for_the_disk(
    qtbot: Any, window: MainWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    let, aside = threading.Event(), []

    def slow(path: Path, settings: Settings) -> None:
        aside.append(threading.current_thread() is not threading.main_thread())
        assert let.wait(30)
        save(path, settings)

    monkeypatch.setattr("core.settings.save", slow)
    window.panels.compose.load("starter", {"prompt": "first words"})
    qtbot.keyClicks(prompt_of(window), " and more")
    qtbot.waitUntil(lambda: bool(aside), timeout=20_000)
    let.set()
    assert aside == [True]
    written = window.settings_path
    qtbot.waitUntil(lambda: "and more" in str(load(written)[0].compose), timeout=20_000)


def test_settings_that_come_late_do_not_undo_later_ones(window: MainWindow) -> None:
    window.panels.compose.load("starter", {"prompt": "earlier"})
    earlier = window._gathered()
    assert earlier is not None
    window.panels.compose.load("starter", {"prompt": "later"})
    window.remember()
    earlier()
    assert "later" in str(load(window.settings_path)[0].compose)


@pytest.mark.parametrize("place", ["stage", "queue", "memory"])
def test_a_clip_is_queued_by_its_key_from_every_panel(
    qtbot: Any, window: MainWindow, place: str
) -> None:
    window.activateWindow()
    controller_of(window).set_paused(True)
    window.panels.compose.load("test-pattern", {**SMALL, "prompt": "by its key"})
    panel = window.panels.stage if place == "stage" else window.panels.docks[place]
    able = reached(panel)
    assert able
    for part in able:
        jobs = sum(controller_of(window).ledger.counts().values())
        part.setFocus()
        qtbot.keyClick(part, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
        assert sum(controller_of(window).ledger.counts().values()) == jobs + 1, part
    window.panels.docks["servers"].raise_()
    qtbot.waitUntil(lambda: bool(reached(window.panels.docks["servers"])))
    able = reached(window.panels.docks["servers"])
    jobs = sum(controller_of(window).ledger.counts().values())
    for part in able:
        part.setFocus()
        qtbot.keyClick(part, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert sum(controller_of(window).ledger.counts().values()) == jobs, "starts a server there"
    window.panels.docks["compose"].hide()
    jobs = sum(controller_of(window).ledger.counts().values())
    qtbot.keyClick(panel, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    after = sum(controller_of(window).ledger.counts().values())
    assert after == jobs, "nobody sees what it would be"


@pytest.mark.parametrize("size", [(1600, 1000), (1100, 700)])
def test_nothing_is_squeezed(qtbot: Any, window: MainWindow, size: tuple[int, int]) -> None:
    window.resize(*size)
    qtbot.wait(50)
    assert (window.width(), window.height()) == size
    for panel in (
        window.panels.compose,
        window.panels.stage,
        window.panels.queue,
        window.panels.timeline,
    ):
        assert panel.isVisible()
        assert panel.width() >= panel.minimumSizeHint().width() or panel.width() > 200


def test_many_engines_take_no_room_from_the_menus_and_keep_their_names(
    qtbot: Any, window: MainWindow
) -> None:
    window.resize(1100, 700)
    top = window.panels.top
    names = ["ComfyUI :9301", "ComfyUI :9302", "Attic"]
    for name in names:
        top.set_engine(name, "running 1, 2 waiting", "info")
    menus = window.panels.menu_bar
    qtbot.waitUntil(lambda: menus.width() >= menus.sizeHint().width())
    assert all(
        not menus.actionGeometry(action).isEmpty()
        and menus.actionGeometry(action).right() <= menus.width()
        for action in menus.actions()
    )

    def look(name: str) -> QImage:
        return top.chip_label(name).grab().toImage()

    qtbot.waitUntil(lambda: "2 waiting" in top.chip_label(names[0]).toolTip())
    first, second = look(names[0]), look(names[1])
    assert first != second, "what tells them apart is in sight"
    top.set_engine(names[0], "running 1, 3 waiting", "info")
    assert look(names[0]) == first, "without room it is the name that is shown"


def test_a_note_that_holds_for_a_while_goes_when_the_job_goes_on(window: MainWindow) -> None:
    controller, notice = window.controller, window.panels.notice
    assert controller is not None
    lasting = Noted(job_id="a", text="Memory cleaned up.")
    passing = Noted(job_id="a", text="1 prompt is before this one on the server.", passing=True)
    for event in (lasting, passing, MemoryRead(job_id="a", rss_bytes=1, vram_bytes=None)):
        controller.event.emit(event)
    controller.event.emit(NodeStarted(job_id="another", node="3", title="KSampler"))
    assert notice.text() == passing.text
    controller.event.emit(NodeStarted(job_id="a", node="3", title="KSampler"))
    assert notice.text() == lasting.text
    assert from_json(to_json(passing)) == passing


def test_every_menu_action_has_its_own_key(window: MainWindow) -> None:
    keys: dict[str, str] = {}
    for menu in window.panels.menu_bar.actions():
        for action in menu.menu().actions():
            key = action.shortcut().toString()
            if key:
                assert key not in keys, f"{key}: {keys.get(key)} and {action.text()}"
                keys[key] = action.text()
    assert "Ctrl+Q" in keys


def test_within_a_menu_every_letter_does_one_thing(window: MainWindow) -> None:
    for menu in window.panels.menu_bar.actions():
        texts = [action.text() for action in menu.menu().actions() if "&" in action.text()]
        letters = [text[text.index("&") + 1].lower() for text in texts]
        assert len(set(letters)) == len(letters), (menu.text(), texts)


def test_the_line_at_the_bottom_says_how_the_queue_is() -> None:
    assert state_of_queue(0, 0, paused=False) == "Queue is empty"
    assert state_of_queue(1, 0, paused=False) == "1 running"
    assert state_of_queue(2, 1200, paused=False) == "2 running · 1,200 waiting"
    assert state_of_queue(1, 12, paused=True) == "Queue paused · 1 running · 12 waiting"
    assert state_of_queue(0, 0, paused=True) == "Queue paused · nothing waits"


def test_freeing_is_called_the_same_in_the_menu_and_on_its_button(window: MainWindow) -> None:
    from app.wiring import Wiring

    made = window.findChild(Wiring)
    for at, devices, words in ((1e6, [card()], "Free VRAM"), (2e6, [], "Free memory")):
        made._on_reading(reading(at, *devices))
        assert window.menus.free.text() == f"&{words}"
        assert any(one.text() == words for one in window.panels.top.findChildren(QPushButton))

"""News of a real queue at a real server, and the dialog in which they are chosen."""

from __future__ import annotations

import logging
import os
import wave
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialogButtonBox, QLineEdit

from app.controller import Controller
from app.notifying import NewsDesk
from app.unattended import UnattendedDesk
from app.window import MainWindow
from core.notify.channels import Target
from core.notify.news import USUAL, Channel, Choices, Kind, News
from core.notify.sound import play, sound_of
from core.scheduling.alerts import Alarm, Alert, Level
from core.vault import SERVICE, Vault
from tests.core.keyrings import MemoryKeyring
from tests.core.web_servers import Server, raw, serving, tells
from widgets.notifying import NewsDialog

SMALL = {"width": 64, "height": 64, "frames": 8, "steps": 2, "step_seconds": 0.0}
PROMPT = "a very secret prompt"


@pytest.fixture
def ring(window: MainWindow) -> MemoryKeyring:
    made = MemoryKeyring()
    controller_of(window).vault = Vault(made)
    return made


def controller_of(window: MainWindow) -> Controller:
    assert window.controller is not None
    return window.controller


def desk_of(window: MainWindow) -> NewsDesk:
    unattended = window.findChild(UnattendedDesk)
    assert unattended is not None
    unattended.news.waits = (0.01, 0.01)
    return unattended.news


def switch_on(window: MainWindow, ring: MemoryKeyring, address: str, **more: Any) -> None:
    choices = Choices(frozenset({Channel.WEBHOOK}), **more)
    window.keep(news=choices.to_json())
    ring.kept[SERVICE, "webhook address"] = address


def bodies(server: Server) -> list[Any]:
    return [body for _, _, body in server.asked]


def text_of(window: MainWindow) -> str:
    return window.panels.notice.text()


def test_the_end_of_the_queue_reaches_a_webhook_without_the_prompt(
    qtbot: Any, window: MainWindow, ring: MemoryKeyring
) -> None:
    controller, desk = controller_of(window), desk_of(window)
    with serving({"/hook": tells("ok")}) as server:
        kinds = {Channel.WEBHOOK: (*USUAL, Kind.FINISHED)}
        switch_on(window, ring, f"{server.url}/hook", kinds=kinds)
        controller.set_paused(True)
        good = SMALL | {"prompt": PROMPT}
        controller.add("test-pattern", good, copies=2)
        controller.set_paused(False)
        qtbot.waitUntil(lambda: len(bodies(server)) >= 3, timeout=30_000)
        assert [body["event"] for body in bodies(server)] == ["finished", "finished", "empty"]
        assert PROMPT not in str(server.asked)
        qtbot.waitUntil(lambda: not desk._sending, timeout=5_000)


def test_a_burst_of_failures_is_bounded_and_merged(
    qtbot: Any, window: MainWindow, ring: MemoryKeyring
) -> None:
    desk = desk_of(window)
    clock = [0.0]
    desk.outboxes[Channel.WEBHOOK]._clock = lambda: clock[0]
    with serving({"/hook": tells("ok")}) as server:
        switch_on(window, ring, f"{server.url}/hook")
        for number in range(13):
            desk.tell(News(Kind.FAILED, f"clip {number}", plain="It took too long.", bad=True))
        qtbot.waitUntil(lambda: len(bodies(server)) == 2, timeout=5_000)
        assert [body["title"] for body in bodies(server)] == ["A job failed", "12 jobs failed"]
        assert ring.asked == ["webhook address", "webhook token"], "asked once"
        for _ in range(50):
            desk.tell(News(Kind.FAILED, "clip", plain="It took too long.", bad=True))
            qtbot.wait(4)
        qtbot.waitUntil(lambda: not desk._sending, timeout=5_000)
        assert len(bodies(server)) <= 5
        assert desk._later.isActive()
        clock[0] = 60.0
        desk._later.timeout.emit()
        qtbot.waitUntil(lambda: not len(desk.outboxes[Channel.WEBHOOK]), timeout=5_000)
        qtbot.waitUntil(lambda: not desk._sending, timeout=5_000)
        assert sum(body["count"] for body in bodies(server)) == 63


def test_a_channel_that_fails_is_told_once_and_again_when_it_works(
    qtbot: Any, window: MainWindow, ring: MemoryKeyring, caplog: Any
) -> None:
    desk = desk_of(window)
    with serving({"/hook/s3cret": raw(b"down", 500)}) as server, caplog.at_level(logging.INFO):
        switch_on(window, ring, f"{server.url}/hook/s3cret")
        ring.kept[SERVICE, "webhook token"] = "tk_s3cret"
        desk.tell(News(Kind.FAILED, PROMPT, plain="It took too long."))
        qtbot.waitUntil(lambda: "refuses (500)" in text_of(window), timeout=5_000)
        assert len(server.asked) == 3, "tried twice again"
        window.panels.notice.clear("news webhook")
        desk.tell(News(Kind.FAILED, PROMPT))
        qtbot.waitUntil(lambda: len(server.asked) == 6 and not desk._sending, timeout=5_000)
        assert "refuses" not in text_of(window), "told once"
        assert caplog.text.count("news are not told by The webhook") == 1
        server.answers["/hook/s3cret"] = tells("ok")
        desk.tell(News(Kind.EMPTY))
        qtbot.waitUntil(lambda: "takes news again" in caplog.text, timeout=5_000)
    assert "s3cret" not in caplog.text
    assert PROMPT not in caplog.text


def test_an_alert_and_its_end_are_told(qtbot: Any, window: MainWindow, ring: MemoryKeyring) -> None:
    desk_of(window)
    with serving({"/": tells("ok")}) as server:
        switch_on(window, ring, server.url, kinds={Channel.WEBHOOK: (Kind.ALERT,)})
        for cleared, words in ((False, "Card 0 has 2 GB for jobs."), (True, "It lasted 2 min.")):
            alert = Alert(Alarm.LOW_VRAM, "0", Level.CRITICAL, words, 0.0, 0.0, cleared)
            controller_of(window).alerted.emit(alert)
            qtbot.waitUntil(lambda n=1 + cleared: len(bodies(server)) == n, timeout=5_000)
        assert [(b["cleared"], b["message"]) for b in bodies(server)] == [
            (False, "Card 0 has 2 GB for jobs."),
            (True, "It lasted 2 min."),
        ]


def test_sound_is_another_one_for_bad_news(window: MainWindow) -> None:
    desk = desk_of(window)
    played: list[bool] = []
    desk.play = played.append
    desk.tell(News(Kind.FAILED, bad=True))
    assert played == [], "off by itself"
    window.keep(news=Choices(frozenset({Channel.SOUND})).to_json())
    desk.tell(News(Kind.FAILED, bad=True))
    desk.tell(News(Kind.EMPTY))
    desk.tell(News(Kind.FINISHED))
    assert played == [True, False]


def test_the_shipped_sounds_are_short() -> None:
    for bad in (True, False):
        with wave.open(str(sound_of(bad=bad))) as file:
            assert 0.2 < file.getnframes() / file.getframerate() < 1.0
            assert any(file.readframes(2000))


@pytest.mark.skipif(os.name == "nt", reason="Windows plays by itself")
def test_the_first_player_that_works_plays(
    qtbot: Any, window: MainWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    told = folder / "told"
    for name, code in (("pw-play", 1), ("paplay", 0), ("aplay", 0)):
        player = folder / name
        player.write_text(f'#!/bin/sh\necho {name} "$@" >> {told}\nexit {code}\n')
        player.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    window.keep(news=Choices(frozenset({Channel.SOUND})).to_json())
    desk_of(window).tell(News(Kind.FAILED, bad=True))
    qtbot.waitUntil(lambda: told.exists() and "paplay" in told.read_text(), timeout=5_000)
    file = sound_of(bad=True)
    assert told.read_text() == f"pw-play {file}\npaplay {file}\n"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not play(bad=True), "then it beeps"


# -- the dialog ------------------------------------------------------------------------


def opened(qtbot: Any, window: MainWindow) -> NewsDialog:
    dialog = desk_of(window).ask()
    qtbot.waitUntil(lambda: dialog.ok.isEnabled(), timeout=5_000)
    return dialog


def type_into(qtbot: Any, editor: QLineEdit, text: str) -> None:
    editor.clear()
    editor.setFocus()
    qtbot.keyClicks(editor, text)


def accept(qtbot: Any, dialog: NewsDialog) -> None:
    box = dialog.findChild(QDialogButtonBox)
    assert box is not None
    qtbot.mouseClick(box.button(QDialogButtonBox.StandardButton.Ok), Qt.MouseButton.LeftButton)


def test_what_is_entered_goes_into_the_keyring_and_into_no_file(
    qtbot: Any, window: MainWindow, ring: MemoryKeyring, tmp_path: Path
) -> None:
    dialog = opened(qtbot, window)
    assert "never in a file" in dialog.kept.text()
    type_into(qtbot, dialog.address[Channel.NTFY], "https://ntfy.example/s3cret-topic")
    type_into(qtbot, dialog.token[Channel.NTFY], "tk_s3cret")
    assert dialog.on[Channel.NTFY].isChecked(), "on with its address"
    assert dialog.ticks[Channel.NTFY, Kind.FAILED].isChecked()
    assert not dialog.ticks[Channel.NTFY, Kind.FINISHED].isChecked()
    dialog.ticks[Channel.DESKTOP, Kind.ALERT].setChecked(True)
    accept(qtbot, dialog)
    qtbot.waitUntil(lambda: len(ring.kept) == 2, timeout=5_000)
    assert ring.kept == {
        (SERVICE, "ntfy address"): "https://ntfy.example/s3cret-topic",
        (SERVICE, "ntfy token"): "tk_s3cret",
    }
    assert window.settings.notify == ["failed", "empty", "alert"]
    assert Choices.from_json(window.settings.news).on == {Channel.NTFY}
    window.remember()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path
    dialog = opened(qtbot, window)
    assert dialog.address[Channel.NTFY].text() == "https://ntfy.example/s3cret-topic"
    type_into(qtbot, dialog.address[Channel.NTFY], " ")
    dialog.token[Channel.NTFY].clear()
    accept(qtbot, dialog)
    qtbot.waitUntil(lambda: ring.kept == {}, timeout=5_000)
    assert Choices.from_json(window.settings.news).on == frozenset()


def test_a_test_shows_the_answer(qtbot: Any, window: MainWindow, ring: MemoryKeyring) -> None:
    dialog = opened(qtbot, window)
    answer = dialog.answers[Channel.WEBHOOK]
    with serving({"/ok": tells({"fine": 1}), "/no": raw(b"<b>no</b>", 403)}) as server:
        for path, words in (("ok", '200 · {"fine": 1}'), ("no", "refuses (403)")):
            type_into(qtbot, dialog.address[Channel.WEBHOOK], f"{server.url}/{path}")
            qtbot.mouseClick(dialog.tests[Channel.WEBHOOK], Qt.MouseButton.LeftButton)
            qtbot.waitUntil(lambda words=words: words in answer.text(), timeout=5_000)
        assert "It said: <b>no</b>" in answer.text()
        assert answer.textFormat() is Qt.TextFormat.PlainText
        assert [body["title"] for body in bodies(server)] == ["A test", "A test"]
    type_into(qtbot, dialog.address[Channel.WEBHOOK], "ftp://host/x")
    qtbot.mouseClick(dialog.tests[Channel.WEBHOOK], Qt.MouseButton.LeftButton)
    assert "no http or https address" in answer.text()
    accept(qtbot, dialog)
    assert dialog.isVisible(), "a bad address is not taken"
    dialog.reject()
    assert ring.kept == {}


def test_without_a_keyring_it_is_said_and_kept_for_this_run(
    qtbot: Any, window: MainWindow, tmp_path: Path
) -> None:
    dialog = opened(qtbot, window)
    assert "no keyring" in dialog.kept.text()
    assert "until Framedeck ends" in dialog.kept.text()
    with serving({"/s3cret": tells("ok")}) as server:
        type_into(qtbot, dialog.address[Channel.WEBHOOK], f"{server.url}/s3cret")
        accept(qtbot, dialog)
        qtbot.waitUntil(lambda: "until Framedeck ends" in text_of(window), timeout=5_000)
        desk_of(window).tell(News(Kind.FAILED, "x", plain="It took too long."))
        qtbot.waitUntil(lambda: len(server.asked) == 1, timeout=5_000)
    window.remember()
    assert b"s3cret" not in (tmp_path / "settings.json").read_bytes()


def test_after_a_restart_without_a_keyring_it_says_what_is_missing(
    qtbot: Any, window: MainWindow
) -> None:
    window.keep(news=Choices(frozenset({Channel.WEBHOOK})).to_json())
    desk_of(window).tell(News(Kind.EMPTY))
    qtbot.waitUntil(lambda: "not known any more" in text_of(window), timeout=5_000)
    assert "Enter it again" in text_of(window)


def test_the_menu_opens_it(qtbot: Any, window: MainWindow, ring: MemoryKeyring) -> None:
    menu = window.menus.unattended
    menu.aboutToShow.emit()
    next(one for one in menu.actions() if "webhook" in one.text()).trigger()
    dialog = window.findChild(NewsDialog)
    assert dialog is not None
    qtbot.waitUntil(lambda: dialog.ok.isEnabled(), timeout=5_000)
    dialog.show_secrets({Channel.WEBHOOK: Target("https://x/y", "")}, "")
    names = [w.accessibleName() for w in dialog.findChildren(QLineEdit)]
    assert sorted(names) == ["Webhook address", "Webhook token", "ntfy address", "ntfy token"]
    dialog.reject()

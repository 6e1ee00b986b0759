"""Updates as a person meets them: in the dialog, in the notice bar and on the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt

from app import update_cli
from app.main import main
from app.updating import UpdateDesk
from app.window import MainWindow
from core.places import Places
from core.settings import Settings, load, save
from core.updates import active, keys, seen
from core.updates.active import Failure
from core.updates.program import Program
from tests.core.update_world import World, make_bundle, served

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the bundles of these tests are scripts")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with served(World(tmp_path / "world")) as made:
        made.publish("0.2.0", 1, notes="Faster starts.")
        yield made


@pytest.fixture
def desk(window: MainWindow, world: World) -> UpdateDesk:
    assert window.controller is not None
    window.keep(update_address=world.address)
    places = Places.find(world.home)
    return UpdateDesk(
        window.controller, window, places, window, program=world.program, trusted=world.trusted
    )


def test_from_the_menu_to_the_next_start(
    desk: UpdateDesk, window: MainWindow, world: World, qtbot: Any
) -> None:
    dialog = desk.open()
    dialog.raise_ = lambda: None  # Which the offscreen platform does not support.
    assert desk.open() is dialog
    assert not dialog.isModal()
    assert dialog.head.text() == "Framedeck 0.1.0"
    assert not dialog.back.isVisible()
    qtbot.mouseClick(dialog.act, Qt.MouseButton.LeftButton)
    assert not dialog.act.isEnabled()
    qtbot.waitUntil(lambda: dialog.act.text() == "Install", timeout=10_000)
    assert dialog.head.text() == "Framedeck 0.2.0 is available"
    assert "You have 0.1.0 · released" in dialog.about.text()
    assert dialog.notes.toPlainText() == "Faster starts."
    steps: list[str] = []
    shown = dialog.show_progress
    dialog.show_progress = lambda *a: (steps.append(a[0]), shown(*a))  # type: ignore[method-assign]
    qtbot.mouseClick(dialog.act, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: dialog.act.text() == "Restart now", timeout=10_000)
    assert steps[1].startswith("Downloading · ")
    assert any(step.startswith("Unpacking · ") for step in steps)
    assert world.version() == "0.2.0"
    assert dialog.back.text() == "Go back to 0.1.0"
    dialog.close()
    notice = window.panels.notice
    assert notice.text() == "Framedeck 0.2.0 is ready, and runs from the next start on."
    dialog = desk.open()
    assert dialog.head.text() == "Framedeck 0.2.0 is ready"
    qtbot.mouseClick(dialog.back, Qt.MouseButton.LeftButton)
    assert dialog.head.text() == "Framedeck 0.1.0 stays"
    assert notice.text() == ""
    assert world.version() == "0.1.0"


def test_a_restart_asks_about_running_jobs_first(
    desk: UpdateDesk, window: MainWindow, world: World, qtbot: Any
) -> None:
    controller = window.controller
    assert controller is not None
    asked: list[str] = []
    window.confirm = lambda title, *_: bool(asked.append(title))
    controller.add("test-pattern", {"prompt": "storm", "steps": 50, "step_seconds": 0.2})
    qtbot.waitUntil(lambda: controller.running is not None, timeout=20_000)
    desk._installed = "0.2.0"
    desk.restart()
    assert asked == ["A job is running"]
    assert not desk.restart_wanted
    assert not window.gone
    assert controller.running is not None
    window.confirm = lambda *_: True
    desk.restart()
    assert desk.restart_wanted
    assert window.gone


def test_what_goes_wrong_stands_in_the_dialog(
    desk: UpdateDesk, window: MainWindow, world: World, qtbot: Any
) -> None:
    dialog = desk.open()
    dialog.address.setText("http://example.org/m.json")
    dialog.take_address()
    assert "without encryption" in dialog.warning.text()
    assert window.settings.update_address == world.address
    dialog.address.setText(world.address)
    dialog.take_address()
    (world.public / "manifest.json.sig").write_bytes(b"{}")
    qtbot.mouseClick(dialog.act, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "signature" in dialog.warning.text(), timeout=10_000)
    assert dialog.act.text() == "Look now"
    world.publish("0.2.0", 1)
    world.manners.status["framedeck-0.2.0-linux-x86_64.tar.xz"] = 503
    desk.look()
    qtbot.waitUntil(lambda: dialog.act.text() == "Install", timeout=10_000)
    desk.install()
    qtbot.waitUntil(lambda: "503" in dialog.warning.text(), timeout=10_000)
    assert dialog.act.text() == "Install"
    assert world.version() == "0.1.0"


def test_nobody_looks_before_it_was_asked_and_wanted(
    desk: UpdateDesk, window: MainWindow, world: World, qtbot: Any
) -> None:
    desk.look_if_due()
    assert not desk._busy
    desk.ask()
    notice = window.panels.notice
    assert notice.text().startswith("Look for a newer Framedeck once a day?")
    desk._choose("daily")
    qtbot.waitUntil(lambda: "0.2.0 is available" in notice.text(), timeout=10_000)
    asked = len(world.manners.asked)
    desk.look_if_due()
    assert not desk._busy
    notice.clear()
    desk.ask()
    assert notice.text() == ""
    # A list that is older than what was seen is told; a server that is away is not.
    seen.save(world.app, seen.Seen(9, "x", "0.3.0"))
    desk.look_if_due()
    qtbot.waitUntil(lambda: "older than one" in notice.text(), timeout=10_000)
    assert len(world.manners.asked) == asked + 2
    notice.clear()
    world.manners.status["manifest.json"] = 500
    seen.forget(world.app)
    desk.look_if_due()
    qtbot.waitUntil(lambda: not desk._busy, timeout=10_000)
    assert notice.text() == ""


def test_a_version_proves_itself_and_failures_are_told(
    window: MainWindow, world: World, qtbot: Any
) -> None:
    make_bundle(world.app / "0.1.5", "0.1.5")
    make_bundle(world.app / "0.1.2", "0.1.2")
    failed = (Failure("0.2.0", "starts"),)
    active.save(world.app, active.Active("0.1.5", "", False, ((1, 1.0),), failed))
    program = Program("0.1.5", "0.1.0", "linux-x86_64", True, proven_by=1)
    assert window.controller is not None
    desk = UpdateDesk(window.controller, window, Places.find(world.home), window, program)
    desk.settle()
    text = "Framedeck 0.2.0 did not start, twice, so 0.1.5 is used again."
    qtbot.waitUntil(lambda: text in window.panels.notice.text(), timeout=10_000)
    qtbot.waitUntil(lambda: not (world.app / "0.1.2").exists(), timeout=10_000)
    state = active.load(world.app)
    assert state is not None
    assert state.good
    assert state.starts == ()
    assert state.failed[0].told


# -- the command line ----------------------------------------------------------------


@pytest.fixture
def command(world: World, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    monkeypatch.setattr(keys, "load_keys", lambda: world.trusted)
    monkeypatch.setattr(update_cli, "this_program", lambda _: world.program)
    world.home.mkdir(exist_ok=True)
    save(world.home / "settings.json", Settings(update_address=world.address))

    def run(action: str, *more: str) -> tuple[int, Any]:
        code = main(["update", action, "--home", str(world.home), "--json", *more])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_the_commands_of_an_update(command: Any, world: World) -> None:
    code, told = command("check")
    assert (code, told["verdict"], told["newest"]) == (0, "offer", "0.2.0")
    assert told["size_bytes"] > 0
    code, told = command("install")
    assert (code, told["installed"]) == (0, True)
    assert world.version() == "0.2.0"
    code, told = command("status")
    assert (told["next"], told["previous"], told["newest_seen"]) == ("0.2.0", "0.1.0", "0.2.0")
    assert command("rollback") == (0, {"next": "0.1.0"})
    assert world.version() == "0.1.0"
    assert command("forget")[0] == 0
    assert seen.load(world.app).sequence == 0


def test_commands_say_what_is_wrong(command: Any, world: World) -> None:
    code, told = command("rollback")
    assert code == 1
    assert "no other version" in told["problem"]["message"]
    world.manners.status["manifest.json"] = 404
    code, told = command("install")
    assert code == 1
    assert told["problem"]["category"] == "network_error"
    code, told = command("check", "--address", "ftp://example.org")
    assert told["problem"]["field"] == "update_address"
    save(world.home / "settings.json", Settings())
    code, told = command("check")
    assert (code, told["problem"]["field"]) == (1, "update_address")


def test_what_was_chosen_survives(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    save(path, Settings(updates="daily", update_address="https://example.org/m.json"))
    assert load(path)[0].updates == "daily"
    path.write_text('{"updates": "hourly"}')
    assert load(path) == (Settings(), ["updates"])

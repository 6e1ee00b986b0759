"""The welcome and the report, opened in a whole window."""

from __future__ import annotations

import json
import platform
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt

from app import welcome
from app.helping import HelpDesk
from app.problem_report import ReportDesk
from app.welcome import WelcomeDesk
from app.window import MainWindow
from core import frozen
from core.crashes import records
from core.engines.comfy.known import KnownServer
from core.first_look.found import Sort
from core.first_look.look import Look
from core.gpu.nvml import Nvml
from core.gpu.simulated import SimulatedDriver
from core.places import Places
from tests.app.comfy_samples import desk as workflow_desk  # noqa: F401 - loads the samples
from widgets.welcome import WelcomePage


class Llm:
    program = "Ollama"

    def loaded(self) -> list[Any]:
        return []

    def unload(self, model: object) -> None:
        raise AssertionError("a look unloads nothing")


def no_driver() -> SimulatedDriver:
    raise ImportError("no driver")


@pytest.fixture
def help_desk(window: MainWindow) -> HelpDesk:
    return next(one for one in window.children() if isinstance(one, HelpDesk))


def opened(help_desk: HelpDesk, home: Path, qtbot: Any, **changed: Any) -> WelcomePage:
    """The welcome over the stage, looking at a folder of the test's."""
    usual = WelcomeDesk._usual

    def look(self: WelcomeDesk, stop: Any) -> Look:
        at = Look(
            home=home, environment={"HF_HUB_CACHE": str(home)}, roots=(), llms=(Llm(),),
            nvml=lambda: Nvml(no_driver), stopped=stop.is_set,
            running=lambda _: [KnownServer("http://127.0.0.1:9")],
        )  # fmt: skip
        return replace(at, **changed)

    WelcomeDesk._usual = look  # type: ignore[method-assign]
    try:
        help_desk.welcome()
    finally:
        WelcomeDesk._usual = usual  # type: ignore[method-assign]
    assert help_desk._welcome is not None
    page = help_desk._welcome.page
    assert page is not None
    qtbot.waitUntil(lambda: page.sections[Sort.LLM].found != [] or bool(changed), timeout=5_000)
    return page


def test_the_welcome_is_skipped_at_once_and_comes_back_by_the_menu(
    window: MainWindow, help_desk: HelpDesk, tmp_path: Path, qtbot: Any
) -> None:
    page, centre = opened(help_desk, tmp_path / "user", qtbot), window.panels.centre
    assert centre.currentWidget() is page
    assert page.first.hasFocus() or not window.isActiveWindow()
    assert "No NVIDIA GPU" in page.sections[Sort.GPU]._told.text()
    assert page.use.isVisible()
    page.clear()
    assert not page.use.isVisible(), "nothing is there that could be used"
    qtbot.keyClick(page, Qt.Key.Key_Escape)
    assert centre.currentWidget() is window.panels.stage
    assert window.settings.servers == [], "nothing is used that nobody chose"
    window.menus.welcome.trigger()
    assert centre.currentWidget() is page
    page.skip.click()
    assert centre.currentWidget() is window.panels.stage


def test_what_is_ticked_is_used_and_the_first_clip_comes_to_the_stage(
    window: MainWindow, help_desk: HelpDesk, tmp_path: Path, qtbot: Any
) -> None:
    controller = window.controller
    assert controller is not None
    page = opened(help_desk, tmp_path / "user", qtbot)
    (ollama,) = page.sections[Sort.LLM].boxes.values()
    assert not ollama[1].isChecked()
    (comfy,) = page.sections[Sort.COMFY].boxes.values()
    comfy[1].setChecked(False)
    assert not page.use.isEnabled(), "nothing is ticked"
    comfy[1].setChecked(True)
    ollama[1].setChecked(True)
    assert page.use.isEnabled()
    with qtbot.waitSignal(controller.job_began, timeout=10_000) as begun:
        page.first.click()
    (job,) = begun.args
    assert job.recipe == "starter"
    assert job.params["prompt"] == welcome.EXAMPLES[0]
    assert window.panels.centre.currentWidget() is window.panels.stage
    assert window.panels.stage.job_id() == job.id
    assert [server["base"] for server in window.settings.servers] == ["http://127.0.0.1:9"]
    assert window.settings.unload_first == "always"
    controller.cancel([job.id])
    qtbot.waitUntil(lambda: controller.running is None, timeout=20_000)
    page = opened(help_desk, tmp_path / "user", qtbot)
    assert window.panels.centre.currentWidget() is page
    window.panels.queue.open_requested.emit(job.id)
    assert window.panels.centre.currentWidget() is window.panels.stage, "what is opened is seen"


def test_an_engine_that_is_not_set_up_is_told_and_its_set_up_opened(
    window: MainWindow, help_desk: HelpDesk, tmp_path: Path, qtbot: Any
) -> None:
    asked: list[bool] = []
    help_desk.set_up_engine = None
    page = opened(help_desk, tmp_path, qtbot, engine=lambda: (False, "Not set up yet"))
    qtbot.waitUntil(lambda: not page.first.isEnabled(), timeout=5_000)
    assert page.first.isVisible(), "there is nothing that would set it up"
    page.skip.click()
    help_desk.set_up_engine = lambda: asked.append(True)
    page = opened(help_desk, tmp_path, qtbot, engine=lambda: (False, "Not set up yet"))
    qtbot.waitUntil(page.set_up.isVisible, timeout=5_000)
    assert not page.first.isVisible()
    assert window.focusWidget() is page.set_up, "Return acts on what is offered"
    assert "once there is an engine" in page._foot.text()
    page.set_up.click()
    assert asked == [True]
    assert window.panels.centre.currentWidget() is page, "the page waits for it"
    help_desk.engine_changed()
    assert page.first.isVisible()
    assert page.first.isEnabled()
    assert not page.set_up.isVisible()
    assert window.focusWidget() is page.first
    assert page.sections[Sort.ENGINE].told.text() == welcome.READY  # type: ignore[union-attr]


def test_a_skip_ends_a_look_that_is_under_way(
    window: MainWindow, help_desk: HelpDesk, tmp_path: Path, qtbot: Any
) -> None:
    left = []

    def slow(_: set[str]) -> Iterator[KnownServer]:
        for port in range(10, 60_000):
            left.append(port)
            import time

            time.sleep(0.01)
            yield KnownServer(f"http://127.0.0.1:{port}")

    page = opened(help_desk, tmp_path, qtbot, running=slow)
    qtbot.waitUntil(lambda: bool(left), timeout=5_000)
    page.skip.click()
    shown = len(page.sections[Sort.COMFY].found)
    assert window.controller is not None
    qtbot.waitUntil(lambda: window.controller._tasks == [], timeout=2_000)  # type: ignore[union-attr]
    assert len(page.sections[Sort.COMFY].found) == shown, "nothing more is shown"


@pytest.mark.parametrize("frozen_program", [False, True])
def test_whether_the_engine_is_there(
    tmp_path: Path, frozen_program: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "is_frozen", lambda: frozen_program)
    places = Places.find(tmp_path)
    ready, words = welcome.engine_state(places, "")
    assert ready is not frozen_program
    assert words
    assert welcome.engine_state(places, "/opt/python")[0]


def test_a_report_shows_all_it_holds_and_holds_nothing_private(
    window: MainWindow, tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, places = window.controller, Places.find(tmp_path)
    assert controller is not None
    monkeypatch.setenv("USER", "zaphodb")
    monkeypatch.setenv("HF_TOKEN", "plain-words-as-token")
    controller.vault.know("server", "swordfish:pass")
    controller.set_paused(True)
    controller.add("starter", {"prompt": "a heron made of glass"})
    records.save(places.crashes, "worker", "The engine's process crashed.", {"pid": 7}, "x.py")
    places.worker_log.write_text(
        "truncated: heron made of glass by zaphodb with plain-words-as-token at 10.1.2.3, "
        "swordfish:pass\n"
    )
    target = tmp_path / "report.zip"
    desk = ReportDesk(
        controller,
        window,
        places,
        doctor=lambda _: "All is well, zaphodb.",
        ask=lambda _: str(target),
    )
    dialog = desk.dialog
    qtbot.waitUntil(dialog.save.isEnabled, timeout=10_000)
    qtbot.waitUntil(lambda: "doctor.txt" in [p.name for p in dialog.wanted()], timeout=10_000)
    names = [part.name for part in dialog.wanted()]
    assert {"versions.json", "doctor.txt", "settings.json", "jobs.json"} <= set(names)
    dialog.list.setCurrentRow(names.index("logs/engine.log"))
    assert "truncated" in dialog.text.toPlainText()
    dialog.list.item(names.index("doctor.txt")).setCheckState(Qt.CheckState.Unchecked)
    dialog.save.click()
    qtbot.waitUntil(target.exists, timeout=5_000)
    with zipfile.ZipFile(target) as file:
        assert "doctor.txt" not in file.namelist()
        assert any(name.startswith("crashes/") for name in file.namelist())
        whole = "\n".join(file.read(name).decode() for name in file.namelist())
        assert json.loads(file.read("jobs.json"))["counts"]["waiting"] == 1
    for word in ("zaphodb", "plain-words", "10.1.2.3", "swordfish", "heron", platform.node()):
        assert word not in whole, word
    qtbot.waitUntil(lambda: "report.zip" in window.panels.notice.text(), timeout=5_000)


def test_prompts_are_in_a_report_only_when_ticked(
    window: MainWindow, tmp_path: Path, qtbot: Any
) -> None:
    controller = window.controller
    assert controller is not None
    controller.set_paused(True)
    controller.add("starter", {"prompt": "a heron made of glass"})
    desk = ReportDesk(controller, window, Places.find(tmp_path))
    dialog = desk.dialog
    qtbot.waitUntil(dialog.save.isEnabled, timeout=10_000)
    assert not any("heron" in part.text for part in dialog.wanted())
    dialog.list.item(0).setCheckState(Qt.CheckState.Unchecked)
    dialog.prompts.setChecked(True)
    assert not dialog.save.isEnabled(), "not before it was put together anew"
    qtbot.waitUntil(dialog.save.isEnabled, timeout=10_000)
    assert any("heron" in part.text for part in dialog.wanted())
    assert dialog.list.item(0).checkState() == Qt.CheckState.Unchecked, "what was left out stays so"
    dialog.close()


def test_a_report_that_cannot_be_saved_is_a_problem(
    window: MainWindow, tmp_path: Path, qtbot: Any
) -> None:
    assert window.controller is not None
    (tmp_path / "file").write_text("in the way")
    desk = ReportDesk(
        window.controller, window, Places.find(tmp_path), ask=lambda _: str(tmp_path / "file" / "r")
    )
    qtbot.waitUntil(desk.dialog.save.isEnabled, timeout=10_000)
    desk.dialog.save.click()
    qtbot.waitUntil(lambda: bool(window.panels.notice.text()), timeout=5_000)
    assert desk.dialog.isVisible()
    desk.dialog.close()
    assert not list(tmp_path.rglob("*.part"))

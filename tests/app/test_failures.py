"""A failed job in the real window: each step's button does what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QApplication, QPushButton

from app.controller import Controller
from app.dialogs import Guide, show_guide
from app.engine_words import lost_problem
from app.failures import FailureDesk
from app.models import OwnModels
from app.window import MainWindow
from app.wiring import Wiring
from core.engines.comfy.known import KnownServer
from core.engines.local.client import LocalEngine
from core.engines.local.families import recipes
from core.errors import Category, Problem
from core.events import Failed
from core.failures.causes import Cause
from core.failures.recovery import _WHAT, PAGES, Action
from core.gpu.readings import DeviceReading, ProcessReading, Reading, Role, SystemReading
from core.gpu.simulated import DRIVER
from core.jobs import Job, JobState, Kind, Parameter
from core.ledger import Ledger
from core.places import Places
from core.settings import Settings
from tests.core.web_servers import Handler, Server, send, serving
from tests.widgets.queue_source import row as queue_row

SMALL = {"width": 64, "height": 64, "frames": 8, "steps": 2, "step_seconds": 0.01}
MEMORY = Problem(Category.INSUFFICIENT_VRAM, "No memory left.", "Use fewer frames.", "trace")
GB = 2**30


class Shop:
    """A window with everything behind it, its queue paused."""

    def __init__(self, window: MainWindow, controller: Controller, wiring: Wiring) -> None:
        self.window, self.controller, self.wiring = window, controller, wiring
        self.panels = window.panels
        self.desk: FailureDesk = wiring.failures
        self.confirmed: list[str] = []
        self.opened: list[str] = []

    def failed(self, problem: Problem = MEMORY, **params: object) -> Job:
        """Return a job that failed, put on the stage by the queue's own request."""
        (job,) = self.controller.add("test-pattern", SMALL | {"prompt": "gulls"} | params)
        self.controller.ledger.begin(job.id)
        self.controller.ledger.end(job.id, Failed(job_id=job.id, problem=problem, seconds=1.0))
        self.panels.queue.open_requested.emit(job.id)
        return job

    def press(self, words: str) -> None:
        assert self.panels.stage.card.steps is not None
        (button,) = [b for b in self.panels.stage.card.steps.buttons if b.text() == words]
        button.click()

    def offered(self) -> list[str]:
        assert self.panels.stage.card.steps is not None
        return [button.text() for button in self.panels.stage.card.steps.buttons]


@pytest.fixture
def shop(qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    places = Places.find(tmp_path).make()
    engine = LocalEngine(interpreter=sys.executable, log=places.worker_log, grace_seconds=2.0)
    controller = Controller(
        Ledger.open(places.ledger), engine, recipes(places.models), places.outputs
    )
    window = MainWindow(Settings(), places.settings)
    window.fill(controller)
    wiring = Wiring(controller, window, OwnModels(controller, window), places)
    made = Shop(window, controller, wiring)
    window.confirm = lambda title, *_: made.confirmed.append(title) is None
    monkeypatch.setattr(
        QDesktopServices, "openUrl", lambda url: made.opened.append(url.toLocalFile())
    )
    qtbot.addWidget(window)
    window.show()
    qtbot.waitExposed(window)
    controller.start()
    controller.set_paused(True)
    yield made
    wiring.servers.close()
    assert controller.close()


def test_a_job_that_really_fails_explains_itself(qtbot: Any, shop: Shop) -> None:
    """From the worker's own exception to the buttons, and the engine restarted by one."""
    blocked = shop.controller.outputs.parent / "blocked"
    blocked.write_text("a file where a folder should be")
    shop.controller.outputs = blocked
    with qtbot.waitSignal(shop.controller.job_ended, timeout=30_000) as told:
        shop.controller.add("test-pattern", SMALL | {"prompt": "gulls"})
        shop.controller.set_paused(False)
    job, ending = told.args
    assert isinstance(ending, Failed)
    assert ending.problem.category is Category.STORAGE
    card = shop.panels.stage.card
    assert card.isVisible()
    assert card.steps is not None
    assert len(card.steps.texts()) >= 2
    assert "Clips folder" in shop.offered()
    # The notice tells of the same job, with the same steps behind Details.
    (details,) = [
        button
        for button in shop.panels.notice.findChildren(QPushButton)
        if button.text() == "Details" and button.isVisible()
    ]
    details.click()
    assert shop.panels.notice.details.steps is not None
    assert shop.panels.notice.details.steps.texts() == card.steps.texts()
    before = shop.controller.engine.pid
    assert before is not None
    with qtbot.waitSignal(shop.controller.freed, timeout=10_000):
        shop.desk.do(Action.RESTART_ENGINE, job.id)
    assert shop.controller.engine.pid is None
    blocked.unlink()
    with qtbot.waitSignal(shop.controller.job_ended, timeout=30_000) as told:
        card.retry.click()
    assert type(told.args[1]).__name__ == "Finished"
    assert shop.controller.engine.pid not in (None, before)


def test_edit_a_copy_puts_the_values_into_compose_and_names_the_field(shop: Shop) -> None:
    problem = Problem(Category.INVALID_PARAMS, "Too wide.", "Make it narrower.", field="width")
    shop.failed(problem, width=128, seed=7)
    assert shop.offered() == ["Edit a copy"]
    shop.press("Edit a copy")
    compose = shop.panels.compose
    assert compose.state()["recipe"] == "test-pattern"
    assert compose._fields["width"].raw() in (128, "128")
    assert "Too wide." in compose._fields["width"].error()


def test_a_local_job_has_two_steps_and_none_about_servers(shop: Shop) -> None:
    job = shop.failed()
    card = shop.panels.stage.card
    assert card.steps is not None
    for cause in Cause:
        card.steps.show_steps(_WHAT[cause].steps, lambda action: shop.desk.can(action, job.id))
        assert len(card.steps.texts()) >= 2, cause
        assert "Servers" not in shop.offered(), cause
        assert shop.offered(), cause


def test_details_take_room_from_the_window_and_never_make_it_grow(qtbot: Any, shop: Shop) -> None:
    shop.window.resize(1100, 700)
    qtbot.waitUntil(lambda: shop.window.height() == 700)
    problem = replace(MEMORY, details="words\n" * 400)
    job = shop.failed(problem)
    notice = shop.panels.notice
    for _ in range(3):
        notice.show_problem(problem, job=job.id)
        details = [b for b in notice.findChildren(QPushButton) if b.text() == "Details"][-1]
        details.click()
        for _ in range(5):
            QApplication.processEvents()
        assert not notice.details.isHidden()
        assert notice.details.height() >= 72
        assert shop.window.size().toTuple() == (1100, 700)


def test_retry_by_a_step_of_the_notice(shop: Shop) -> None:
    job = shop.failed(Problem(Category.UNKNOWN, "Odd.", "Look."))
    assert shop.desk.can(Action.RETRY, job.id)
    shop.panels.notice.chosen.emit(Action.RETRY, job.id)
    assert shop.controller.row(job.id).state is JobState.WAITING


def test_nothing_is_offered_for_a_job_that_is_gone(shop: Shop) -> None:
    job = shop.failed()
    shop.controller.remove([job.id])
    for action in (Action.RETRY, Action.EDIT_JOB, Action.TILED_DECODE):
        assert not shop.desk.can(action, "no such job")
        assert not shop.desk.can(action, "")
    assert shop.desk.can(Action.OPEN_SERVERS, "")
    told: list[str] = []
    shop.controller.problem.connect(lambda problem, _: told.append(problem.message))
    shop.desk.do(Action.RETRY, "no such job")
    assert len(told) == 1


def test_logs_and_folders_open(shop: Shop) -> None:
    job = shop.failed(Problem(Category.STORAGE, "No space left on device.", ""))
    shop.press("Clips folder")
    shop.desk.do(Action.OPEN_LOG, job.id)
    shown = [Path(path).name for path in shop.opened]
    assert shown[0] in ("outputs", shop.controller.outputs.parent.name)
    assert "log" in shown[1]


def test_free_memory_asks_for_the_jobs_own_place(qtbot: Any, shop: Shop) -> None:
    shop.failed()
    with qtbot.waitSignal(shop.controller.freed, timeout=10_000):
        shop.press("Free memory")


def test_decode_in_tiles_where_the_recipe_has_it(shop: Shop) -> None:
    job = shop.failed(seed=11)
    assert "Decode in tiles" not in shop.offered()
    plain = shop.controller.recipes["test-pattern"]
    switch = Parameter("tiled", Kind.SWITCH, "Decode in tiles", False)
    tiled = replace(plain, parameters=(*plain.parameters, switch))
    shop.controller.recipes["test-pattern"] = tiled
    assert shop.desk.can(Action.TILED_DECODE, job.id)
    shop.panels.queue.open_requested.emit(job.id)
    shop.press("Decode in tiles")
    waiting = shop.controller.ledger.next_waiting()
    assert waiting is not None
    assert waiting.params == dict(job.params) | {"tiled": True}
    assert not shop.desk.can(Action.TILED_DECODE, waiting.id)


def test_a_jobs_server_is_shown_and_restarted_where_that_can_be(
    qtbot: Any, shop: Shop, tmp_path: Path
) -> None:
    with serving({}) as other:
        shop.wiring.servers.add(KnownServer(other.url, "Render box"))
        recipe = next(r for r in shop.controller.recipes.values() if r.engine == "local")
        shop.controller.recipes["far"] = replace(recipe, id="far", engine="comfy")
        (job,) = shop.controller.add("far", {"prompt": "gulls"})
        problem = Problem(Category.NETWORK_ERROR, "Connection refused", "Look.")
        shop.controller.ledger.begin(job.id)
        shop.controller.ledger.end(job.id, Failed(job_id=job.id, problem=problem, seconds=1.0))
        shop.panels.queue.open_requested.emit(job.id)
        assert shop.offered() == ["Servers"]
        shop.press("Servers")
        qtbot.waitUntil(lambda: shop.panels.servers.is_looked_at())
        assert shop.panels.servers.view.selected() == other.url
        # Its folder is not known, so it is not ours to restart; the local engine always is.
        assert not shop.desk.can(Action.RESTART_ENGINE, job.id)
        assert shop.desk.can(Action.RESTART_ENGINE, shop.failed().id)
        (tmp_path / "comfy").mkdir()
        shop.wiring.servers.change(
            other.url, KnownServer(other.url, "Render box", str(tmp_path / "comfy"))
        )
        assert shop.desk.can(Action.RESTART_ENGINE, job.id)


def reading(port: int, held: int, driver: str = "580.95") -> Reading:
    process = ProcessReading(4711, "LM Studio", Role.LLM, held, port)
    device = DeviceReading(
        **{
            name: None
            for name in DeviceReading.__dataclass_fields__
            if name not in ("source", "throttle")
        }
        | {"index": 0, "name": "RTX", "used_bytes": held + GB, "processes": (process,)}
    )
    return Reading(0.0, (device,), SystemReading(1, 1, None, 1, None), driver)


def test_unload_model_asks_the_server_that_holds_the_memory(qtbot: Any, shop: Shop) -> None:
    names = ["qwen"]

    def listed(handler: Handler) -> None:
        models = [{"key": name, "loaded_instances": [{"id": name}]} for name in names]
        send(handler, json.dumps({"models": models}).encode())

    def unload(handler: Handler) -> None:
        names.remove(handler.body["instance_id"])
        send(handler, b"{}")

    answers = {"/api/v1/models": listed, "/api/v1/models/unload": unload}
    job = shop.failed()
    assert "Unload model" not in shop.offered()
    with serving(answers) as server:
        assert isinstance(server, Server)
        shop.controller.reading.emit(reading(server.server_port, 5 * GB, DRIVER))
        assert not shop.desk.can(Action.UNLOAD_MODEL, job.id)
        shop.controller.reading.emit(reading(server.server_port, 5 * GB))
        shop.panels.queue.open_requested.emit(job.id)
        shop.press("Unload model")
        shop.press("Unload model")  # A second press changes nothing.

        def told() -> bool:
            held = 5 * GB if names else 0
            shop.controller.reading.emit(reading(server.server_port, held))
            return "freed" in shop.panels.notice.text()

        qtbot.waitUntil(told, timeout=10_000)
        assert [asked[1] for asked in server.asked if asked[0] == "POST"] == [
            "/api/v1/models/unload"
        ]


@pytest.mark.qt_log_ignore("does not support raise", extend=True)
def test_help_opens_the_guide_where_it_says_more(qtbot: Any, shop: Shop) -> None:
    shop.failed(Problem(Category.NETWORK_ERROR, "Connection refused", "Look."))
    shop.panels.stage.card.help.click()
    (guide,) = shop.window.findChildren(Guide)
    assert set(PAGES.values()) < set(guide.headings())
    assert guide.headings()[0] == "Framedeck in five minutes"

    def on_top() -> str:
        return guide.text.cursorForPosition(guide.text.viewport().rect().topLeft()).block().text()

    qtbot.waitUntil(lambda: on_top() == "A server cannot be reached", timeout=3_000)
    shop.panels.notice.help_wanted.emit(PAGES[Category.INSUFFICIENT_VRAM])
    qtbot.waitUntil(lambda: on_top() == "Memory ran out", timeout=3_000)
    # The same window of it, and F1 leaves it where it is.
    assert show_guide(shop.window) is guide
    assert shop.window.findChildren(Guide) == [guide]
    for page in PAGES.values():
        assert guide.go_to(page)
    assert not guide.go_to("Nothing of the kind")
    guide.close()


def test_nothing_of_it_is_loaded_before_something_fails(tmp_path: Path) -> None:
    code = f"""
import sys
from app.main import main
code = main(["--home", {str(tmp_path)!r}, "--screenshot", {str(tmp_path / "w.png")!r}])
print("early:", [n for n in sys.modules if n.startswith("core.failures") or n == "widgets.steps"])
raise SystemExit(code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "early: []" in done.stdout


def test_lost_jobs_are_told_in_good_grammar() -> None:
    rows = [queue_row(number, JobState.LOST) for number in range(5)]
    one, many = lost_problem(rows[:1]), lost_problem(rows)
    assert one.message == "“Scene 0” was running when Framedeck ended and did not finish."
    assert one.hint.startswith("Retry it")
    assert many.message.startswith("“Scene 0”, “Scene 1”, “Scene 2” and 2 more were running")
    assert many.hint.startswith("Retry them")

"""Advice in the real window, and the button that acts on it over real HTTP."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QPushButton

from app.advice import AdviceDesk
from app.window import MainWindow
from app.wiring import panel_text
from core.gpu import traces
from core.gpu.advice import Need
from core.gpu.llm_servers import LmStudio
from core.gpu.nvml import Nvml
from core.gpu.readings import DeviceReading, ProcessReading, Reading, Role, SystemReading
from core.gpu.sampler import Sampler
from core.gpu.simulated import SimulatedDriver
from tests.core import web_servers as bad
from tests.core.web_servers import Answer, Handler, Server, send, serving

GB = 2**30
WAN = Need("WAN", 14.9 * GB, 14.9 * GB, 14.9 * GB)
TOLD = "LM Studio holds 5.2 GB while WAN needs 14.9 of 16 GB: unload its model."


class Card:
    """A simulated GPU whose LM Studio holds 5.2 GB until its server is asked to unload."""

    def __init__(self, folder: Path) -> None:
        self.unloaded = threading.Event()
        self.names = ["qwen"]
        self._samplers = [self._sampler(folder / f"{held}.json", held) for held in (5325, 20)]

    def _sampler(self, path: Path, held: int) -> Sampler:
        point = {"at": 0, "used_mb": 620 + held, "processes": {"LM Studio": held, "desktop": 620}}
        gpus = [{"name": "NVIDIA GeForce RTX 4080", "total_mb": 16376, "points": [point]}]
        path.write_text(json.dumps({"gpus": gpus}))
        driver = SimulatedDriver(traces.load(path))
        return Sampler(nvml=Nvml(lambda: driver), process_name=driver.process_name)

    def read(self) -> Reading:
        return replace(self._samplers[self.unloaded.is_set()].read(), driver="580.95")

    def listed(self, handler: Handler) -> None:
        models = [{"key": name, "loaded_instances": [{"id": name}]} for name in self.names]
        send(handler, json.dumps({"models": models}).encode())

    def unload(self, handler: Handler) -> None:
        self.names.remove(handler.body["instance_id"])
        self.unloaded.set()
        send(handler, b"{}")

    @property
    def answers(self) -> dict[str, Answer]:
        return {"/api/v1/models": self.listed, "/api/v1/models/unload": self.unload}


class Desk:
    """The desk of a window, fed with readings of a card as the sampler would."""

    def __init__(self, window: MainWindow, card: Card, server: Server) -> None:
        controller = window.controller
        assert controller is not None
        self.notice = window.panels.notice
        self.told: list[tuple[str, str]] = []
        self.desk = AdviceDesk(
            self.notice, controller.run_aside, window, lambda *asked: self._server(server, *asked)
        )
        self.read = lambda: self.desk.on_reading(card.read())
        self.asked_for: list[tuple[str, int | None]] = []
        controller.problem.connect(lambda problem, key: self.told.append((key, problem.message)))

    def _server(self, server: Server, program: str, port: int | None) -> LmStudio:
        self.asked_for.append((program, port))
        return LmStudio(server.url, timeout_seconds=0.5)

    def buttons(self, words: str = "Unload") -> list[QPushButton]:
        found = self.notice.findChildren(QPushButton)
        return [button for button in found if button.text() == words and button.isVisible()]


@contextmanager
def begun(window: MainWindow, folder: Path) -> Iterator[tuple[Desk, Card, Server]]:
    card = Card(folder)
    with serving(card.answers) as server:
        desk = Desk(window, card, server)
        yield desk, card, server


def test_a_model_is_unloaded_by_the_button_and_confirmed(
    qtbot: Any, window: MainWindow, tmp_path: Path
) -> None:
    with begun(window, tmp_path) as (desk, card, server):
        desk.read()
        assert desk.notice.text() == ""
        desk.desk.set_need(WAN)
        assert desk.notice.text() == TOLD
        assert desk.asked_for == [("LM Studio", 1234)]
        (button,) = desk.buttons()
        button.click()
        button.click()  # A second press changes nothing.
        assert desk.notice.text() == "Unloading the model of LM Studio …"

        def read_until_told() -> bool:
            desk.read()
            return "freed" in desk.notice.text()

        qtbot.waitUntil(read_until_told, timeout=10_000)
        said = re.fullmatch(r"5\.2 GB freed in ([0-9.]+) s\.", desk.notice.text())
        assert said
        assert float(said[1]) < 5
        assert [asked for asked in server.asked if asked[0] == "POST"] == [
            ("POST", "/api/v1/models/unload", {"instance_id": "qwen"})
        ]
        assert card.names == []
        desk.notice.dismiss()
        desk.read()
        assert desk.notice.text() == ""


def test_closed_advice_does_not_come_again_until_something_changed(
    window: MainWindow, tmp_path: Path
) -> None:
    with begun(window, tmp_path) as (desk, card, _):
        desk.desk.set_need(WAN)
        desk.read()
        desk.notice.dismiss()
        desk.read()
        assert desk.notice.text() == ""
        card.unloaded.set()
        desk.read()
        card.unloaded.clear()
        desk.read()
        assert desk.notice.text() == TOLD
        card.unloaded.set()
        desk.read()
        assert desk.notice.text() == ""
        card.unloaded.clear()
        desk.desk.set_need(None)
        desk.read()
        assert desk.notice.text() == ""


def test_a_server_that_is_not_there_is_a_problem_with_a_hint(
    qtbot: Any, window: MainWindow, tmp_path: Path
) -> None:
    with begun(window, tmp_path) as (desk, card, server):
        server.answers = {"/api/v1/models": bad.hang_up}
        desk.desk.set_need(WAN)
        desk.read()
        desk.buttons()[0].click()
        qtbot.waitUntil(lambda: "cannot be asked" in desk.notice.text(), timeout=10_000)
        assert "Check that it runs" in desk.notice.text()
        assert desk.told == []
        server.answers = card.answers
        qtbot.waitUntil(lambda: bool(desk.buttons("Try again")))
        desk.buttons("Try again")[0].click()

        def read_until_told() -> bool:
            desk.read()
            return "freed" in desk.notice.text()

        qtbot.waitUntil(read_until_told, timeout=10_000)


def test_nobody_stands_behind_the_programs_of_a_trace(window: MainWindow, tmp_path: Path) -> None:
    with begun(window, tmp_path) as (desk, card, server):
        desk.desk.set_need(WAN)
        desk.desk.on_reading(replace(card.read(), driver="simulated"))
        assert desk.notice.text() == TOLD
        assert desk.buttons() == []
        assert server.asked == []


def test_the_end_of_the_program_does_not_wait_for_a_confirmation(
    qtbot: Any, window: MainWindow, tmp_path: Path
) -> None:
    with begun(window, tmp_path) as (desk, card, _):
        desk.desk.set_need(WAN)
        desk.read()
        desk.buttons()[0].click()
        qtbot.waitUntil(card.unloaded.is_set, timeout=10_000)
        desk.desk.stop()  # No reading ever falls; the fixture ends the controller in time.


@pytest.mark.parametrize(("peak", "said"), [(14.9 * GB, True), (None, False), (GB, False)])
def test_a_peak_of_before_is_a_need(
    window: MainWindow, tmp_path: Path, peak: float | None, said: bool
) -> None:
    with begun(window, tmp_path) as (desk, _, _server):
        desk.read()
        desk.desk.set_peak("WAN", peak)
        assert (desk.notice.text() == TOLD) is said


@pytest.mark.parametrize(
    ("processes", "said"),
    [
        (None, "panel: – of VRAM · 100 MB of memory"),
        ((), "panel: 0 MB of VRAM · 100 MB of memory"),
        ((ProcessReading(1, "x", Role.OTHER, GB),), "panel: 0 MB of VRAM · 100 MB of memory"),
        ((ProcessReading(1, "x", Role.PANEL, 2**20),), "panel: 1 MB of VRAM · 100 MB of memory"),
        ((ProcessReading(1, "x", Role.PANEL, None),), "panel: – of VRAM · 100 MB of memory"),
    ],
)
def test_what_the_panel_takes_is_no_guess(
    processes: tuple[ProcessReading, ...] | None, said: str
) -> None:
    card = DeviceReading(0, "Card", 8 * GB, GB, None, None, None, processes)
    system = SystemReading(8 * GB, GB, None, 100 * 2**20, None)
    assert panel_text(Reading(0.0, (card,), system, "580")) == said

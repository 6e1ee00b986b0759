"""The window and a server of its own: what it has becomes choices, and what it lacks is told."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from core.engines.comfy.known import KnownServer
from core.jobs import Kind
from tests.comfy.editor import Editor
from tests.comfy.samples import graph
from tests.comfy.standin import Running, running
from tests.comfy.test_servers_desk import Case, opened
from widgets.knob_picker import KnobPicker


def choices(case: Case) -> tuple[str, ...]:
    found = case.controller.recipes["comfy-wan21-t2v"].parameters
    model = next(p for p in found if p.name == "model")
    return model.choices if model.kind is Kind.CHOICE else ()


def words(case: Case) -> str:
    return case.window.panels.compose.readiness.words()


def test_what_a_server_has_becomes_choices_until_it_goes(qtbot: Any, tmp_path: Path) -> None:
    with contextlib.ExitStack() as goes:
        server = Running(tmp_path / "server")
        goes.callback(server.close)
        with opened(qtbot, tmp_path / "home", KnownServer(server.url, "Rig")) as case:
            case.controller.set_paused(True)
            case.until(lambda: "comfy-wan21-t2v" in case.controller.recipes)
            form = case.window.panels.compose
            form.load("comfy-wan21-t2v", {"prompt": "a fox"})
            case.until(lambda: bool(choices(case)))
            case.until(lambda: "on Rig" in words(case))
            assert form.values()["server"] == server.url
            form.submit()
            job = case.controller.ledger.next_waiting()
            assert job is not None
            assert job.params["server"] == server.url
            # A file of the editor is converted with the nodes that this server told.
            path = tmp_path / "drawn.json"
            path.write_text(json.dumps(Editor(graph("05")).data()))
            case.window.dropped.emit(str(path))
            case.until(lambda: case.window.findChild(KnobPicker) is not None)
            case.window.findChild(KnobPicker).reject()
            goes.close()
            case.until(lambda: words(case).startswith("Rig does not answer now"), 30)


def test_add_a_server_leads_to_the_servers(qtbot: Any, tmp_path: Path) -> None:
    with opened(qtbot, tmp_path / "home") as case:
        case.until(lambda: "comfy-wan21-t2v" in case.controller.recipes)
        form, dock = case.window.panels.compose, case.window.panels.docks["servers"]
        dock.hide()
        form.load("comfy-wan21-t2v", {"prompt": "a fox"})
        case.until(lambda: "Needs a ComfyUI server" in words(case))
        with qtbot.waitSignal(case.window.panels.servers.add_requested):
            form.readiness.stops()[0].click()  # type: ignore[attr-defined]
        assert not dock.isHidden()
        with running(tmp_path / "server") as server:
            case.desk.add(KnownServer(server.url))
            case.until(lambda: form.values().get("server") == server.url)
            case.until(lambda: "ComfyUI :" in words(case) and "Waiting" not in words(case))
            case.desk.remove(server.url)
            case.until(lambda: "Needs a ComfyUI server" in words(case))
            assert form.values()["prompt"] == "a fox"

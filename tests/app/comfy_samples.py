"""A window that knows servers, as the recorded one describes itself."""

from __future__ import annotations

import copy
from typing import Any

from app.opening import OpenDesk
from app.window import MainWindow
from app.wiring import Wiring
from app.workflows import WorkflowDesk
from core.engines.comfy.http import Device, Stats
from core.engines.comfy.known import KnownServer
from core.engines.comfy.scan import Scan
from core.jobs import Parameter
from tests.comfy import recorded
from widgets.compose import ComposePanel

GIB = 2**30
RIG = "http://127.0.0.1:8188"
OTHER = "http://10.0.0.5:8188"
SERVERS = [KnownServer(RIG), KnownServer(OTHER, "Rig two")]


def scan(
    base: str = RIG, *, vram_bytes: int = 24 * GIB, drop: tuple[str, ...] = (), **models: list[str]
) -> Scan:
    """What a server has: the recorded nodes without `drop`, and models by folder__input."""
    info = copy.deepcopy(recorded.object_info())
    for place, names in models.items():
        kind, name = place.split("__")
        info[kind]["input"]["required"][name][0] = names
    for name in drop:
        del info[name]
    folders: dict[str, list[str]] = dict(recorded.http("models_by_folder"))
    device = Device("cuda:0", "cuda", vram_bytes, vram_bytes, 0, 0)
    stats = Stats("0.3.64", "3.12", "2.9", 64 * GIB, 32 * GIB, (device,), ())
    return Scan(base, info, folders, stats, 0.1)


def wiring(window: MainWindow) -> Wiring:
    found = window.findChild(Wiring)
    assert found is not None
    return found


def desk(window: MainWindow) -> WorkflowDesk:
    return wiring(window).workflows


def opener(window: MainWindow) -> OpenDesk:
    found = window.findChild(OpenDesk)
    assert found is not None
    return found


def compose(window: MainWindow) -> ComposePanel:
    return window.panels.compose


def offered(window: MainWindow, qtbot: Any) -> None:
    """Wait until the workflows that ship are recipes."""
    qtbot.waitUntil(lambda: "comfy-wan21-t2v" in recipes(window))


def recipes(window: MainWindow) -> dict[str, Any]:
    assert window.controller is not None
    return window.controller.recipes


def ready_words(window: MainWindow) -> str:
    return compose(window).readiness.words()


def parameter(window: MainWindow, workflow: str, name: str) -> Parameter:
    found = recipes(window)[f"comfy-{workflow}"].parameters
    return next(p for p in found if p.name == name)

"""The window with everything behind it, as in the program itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Its pool's threads, which stay, bear the name of the thread that loads it first.
import numpy  # noqa: F401
import pytest

from app.controller import Controller
from app.models import OwnModels
from app.window import MainWindow
from app.wiring import Wiring
from core.engines.local.client import LocalEngine
from core.engines.local.families import recipes
from core.jobs import Kind
from core.ledger import Ledger
from core.places import Places
from core.settings import Settings
from tests.app.comfy_samples import SERVERS, desk, offered, parameter, scan


@pytest.fixture
def window(qtbot: Any, tmp_path: Path) -> Iterator[MainWindow]:
    places = Places.find(tmp_path).make()
    engine = LocalEngine(
        interpreter=sys.executable, log=places.worker_log, grace_seconds=2.0,
        latents=places.latents,
    )  # fmt: skip
    controller = Controller(
        Ledger.open(places.ledger), engine, recipes(places.models), places.outputs
    )
    made = MainWindow(Settings(), places.settings)
    made.fill(controller)
    Wiring(controller, made, OwnModels(controller, made), places)
    made.confirm = lambda *_: True
    qtbot.addWidget(made)
    made.show()
    qtbot.waitExposed(made)
    controller.start()
    yield made
    assert controller.close()


@pytest.fixture
def served(window: MainWindow, qtbot: Any) -> MainWindow:
    """A window with two servers, of which the first has been looked at."""
    offered(window, qtbot)
    assert window.controller is not None
    window.controller.set_paused(True)
    desk(window).set_servers(SERVERS)
    desk(window).set_scan(scan())
    qtbot.waitUntil(lambda: parameter(window, "wan21-t2v", "model").kind is Kind.CHOICE)
    return window

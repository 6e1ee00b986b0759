"""A night in which memory runs out, an engine hangs and one dies: all jobs end, without a hand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.controller import Controller
from app.models import OwnModels
from app.window import MainWindow
from app.wiring import Wiring
from core.engines.local.client import LocalEngine
from core.gpu.source import sampler_for
from core.ledger import Ledger
from core.places import Places
from core.settings import Settings
from tests.app import faulty_family
from tests.comfy.desks import gpu

FAULTS = {0: "memory", 3: "hang", 6: "crash"}


@pytest.fixture
def night(qtbot: Any, tmp_path: Path) -> Iterator[MainWindow]:
    places = Places.find(tmp_path).make()
    engine = LocalEngine(
        interpreter=sys.executable,
        log=places.worker_log,
        grace_seconds=1.0,
        extra_families=[Path(faulty_family.__file__)],
    )
    recipes = faulty_family.recipes(None)
    controller = Controller(Ledger.open(places.ledger), engine, recipes, places.outputs)
    made = MainWindow(Settings(), places.settings)
    made.fill(controller)
    Wiring(controller, made, OwnModels(controller, made), places)
    qtbot.addWidget(made)
    made.show()
    qtbot.waitExposed(made)
    sampler, _ = sampler_for(str(gpu(tmp_path)), lambda: controller.engine.pid)
    controller.watch(sampler)
    controller.start()
    yield made
    assert controller.close()

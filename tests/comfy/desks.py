"""The whole window with servers of its own, its limits small enough for tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

# Its pool's threads, which stay, bear the name of the thread that loads it first.
import numpy  # noqa: F401
from PySide6.QtWidgets import QPushButton

from app.comfy_engines import ComfyEngines
from app.controller import Controller
from app.engines import Engines
from app.models import OwnModels
from app.window import MainWindow
from app.wiring import Wiring
from core.engines.comfy.client import ComfyEngine
from core.engines.comfy.health import State
from core.engines.comfy.known import KnownServer
from core.engines.comfy.outputs import Checks
from core.engines.local.client import LocalEngine
from core.engines.local.families import recipes
from core.events import Ending, Event, NodeStarted, Noted
from core.gpu.source import sampler_for
from core.jobs import Job, Kind
from core.ledger import Ledger
from core.places import Places
from core.settings import Settings
from core.statistics.classify import Limits
from core.vault import Vault

QUICK = Checks(window_seconds=0.05, settle_seconds=0.05)
LIMITS = Limits(quiet_seconds=2.4, soonest_seconds=1.0, stuck_seconds=3.0)
"""Readings come twice a second, and five of them are the fewest that say anything."""
USUAL_DECODE_SECONDS = 0.5
RECIPE = "comfy-sd15-image"
SMALL = {"prompt": "a fox", "width": 128, "height": 128, "steps": 4}


class Quick(ComfyEngines):
    """Makes engines that judge by small limits; all else is as in the program."""

    def __call__(self, server: KnownServer) -> ComfyEngine:
        engine = super().__call__(server)
        given = engine.options.watch
        watch = replace(
            given,
            limits=LIMITS,
            interrupt_seconds=0.8,
            usual_seconds=lambda job: given.usual_seconds(job) or USUAL_DECODE_SECONDS,
        )
        engine.options = replace(engine.options, checks=QUICK, watch=watch)
        return engine


@dataclass
class Desks:
    """A window in which jobs of servers run."""

    window: MainWindow
    wiring: Wiring
    controller: Controller
    qtbot: Any
    events: list[Event] = field(default_factory=list)

    def until(self, done: Callable[[], Any], seconds: float = 20.0) -> None:
        self.qtbot.waitUntil(lambda: bool(done()), timeout=round(seconds * 1_000))

    def until_state(self, base: str, state: State) -> None:
        self.until(lambda: self.wiring.servers._watched[base].state is state)

    def start(self, base: str) -> int:
        """Start a server and wait until its recipe can be used; return its process."""
        self.wiring.servers.start(base)
        self.until_state(base, State.IDLE)
        self.until(self._has_models)
        pid = self.wiring.servers.pid_of(base)
        assert pid is not None
        return pid

    def _has_models(self) -> bool:
        recipe = self.controller.recipes.get(RECIPE)
        found = [p for p in recipe.parameters if p.name == "checkpoint"] if recipe else []
        return bool(found) and found[0].kind is Kind.CHOICE

    def add(self, base: str, **params: Any) -> Job:
        return self.controller.add(RECIPE, {**SMALL, "server": base, **params})[0]

    def ending(self, job: Job, seconds: float = 40.0) -> Event:
        self.until(lambda: self._ended(job) and self.controller.running is None, seconds)
        return self._ended(job)[0]

    def _ended(self, job: Job) -> list[Event]:
        return [e for e in self.events if isinstance(e, Ending) and e.job_id == job.id]

    def until_decode(self) -> None:
        """Wait until a job's decode began."""

        def began(event: Event) -> bool:
            return isinstance(event, NodeStarted) and event.title == "Decode"

        self.until(lambda: any(map(began, self.events)))

    def told(self, job: Job | None = None) -> str:
        """All that was noted, of a job or of all."""
        notes = [e for e in self.events if isinstance(e, Noted)]
        return "\n".join(e.text for e in notes if job is None or e.job_id == job.id)

    def notice(self) -> str:
        return " ".join(one.text for one in self.window.panels.notice._notices)

    def buttons(self) -> list[str]:
        found = self.window.panels.notice.findChildren(QPushButton)
        return [button.text() for button in found if not button.isHidden()]


def gpu(folder: Path, utilisation: float = 0.0) -> Path:
    """A trace of a card on which nothing ever changes."""
    point = {"at": 0, "used_mb": 9000, "utilisation": utilisation, "power": 60, "processes": {}}
    card = {"name": "Still card", "total_mb": 24576, "points": [point]}
    path = folder / "still.json"
    path.write_text(json.dumps({"title": "Still", "about": "", "repeat": False, "gpus": [card]}))
    return path


@contextmanager
def desks(
    qtbot: Any,
    folder: Path,
    *servers: KnownServer,
    settings: Settings | None = None,
    vault: Vault | None = None,
) -> Iterator[Desks]:
    """Open the window over an empty home, with a card that does nothing."""
    places = Places.find(folder / "home").make()
    local = LocalEngine(interpreter=sys.executable, log=places.worker_log, grace_seconds=2.0)
    engines = Engines(local, Quick(places.workflows, places.data / "nodes"))
    controller = Controller(
        Ledger.open(places.ledger), engines, recipes(places.models), places.outputs
    )
    controller.vault = vault or controller.vault
    known = [server.to_json() for server in servers]
    window = MainWindow(replace(settings or Settings(), servers=known), places.settings)
    window.fill(controller)
    wiring = Wiring(controller, window, OwnModels(controller, window), places)
    window.confirm = lambda *_: False
    qtbot.addWidget(window)
    window.show()
    qtbot.waitExposed(window)
    sampler, _ = sampler_for(str(gpu(folder)), lambda: controller.engine.pid)
    controller.watch(sampler)
    made = Desks(window, wiring, controller, qtbot)
    controller.event.connect(made.events.append)
    controller.start()
    try:
        yield made
    finally:
        window.hide()  # Nothing is painted of what is closed.
        wiring.servers.close()
        assert controller.close()

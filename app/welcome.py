"""The welcome: looks around beside the window, and uses what a person ticks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer

from app.controller import Controller
from app.window import MainWindow
from core.engines.local.starter import EXAMPLES
from core.first_look.found import Found, Looked, Sort
from core.first_look.look import Look, look
from core.places import Places
from widgets.welcome import WelcomePage

if TYPE_CHECKING:
    from app.models import OwnModels
    from app.servers import ServersDesk

STARTER = "starter"
READY = "Ready. The starter model is here, and makes a small clip in some seconds."
NOT_SET_UP = (
    "Not set up yet: the set-up fetches what your card needs, once, and asks before. ComfyUI, the "
    "memory readings and the queue work without it."
)


class WelcomeDesk(QObject):
    """Opens the page over the stage, and closes it again; both as often as wanted.

    Args:
        controller: Runs the look, and the first clip.
        window: Holds the place of the stage.
        places: Where the engine would lie.
        models: Takes model folders.
        servers: Takes ComfyUI servers.
        set_up: Returns what opens the engine's set-up, None where there is none.
        parent: Owner.

    Attributes:
        page: What is shown; made with the first opening.
        look_with: Changes where and how is looked; for tests.
    """

    def __init__(
        self,
        controller: Controller,
        window: MainWindow,
        places: Places,
        models: OwnModels,
        servers: ServersDesk,
        set_up: Callable[[], Callable[[], object] | None],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._controller, self._window, self._places = controller, window, places
        self._models, self._servers, self._set_up = models, servers, set_up
        self._centre = window.panels.centre
        self._stop = threading.Event()
        self.page: WelcomePage | None = None
        self.look_with: Callable[[Look], Look] = lambda at: at
        controller.closing.connect(lambda: self._stop.set())
        controller.job_began.connect(lambda _: self.close())
        window.panels.queue.open_requested.connect(lambda _: self.close())

    def open(self) -> None:
        """Show the page, and look around."""
        if self.page is None:
            self.page = WelcomePage(EXAMPLES[0])
            self.page.skipped.connect(self.close)
            self.page.chosen.connect(self._on_chosen)
            self.page.set_up_requested.connect(self._on_set_up)
            self._centre.addWidget(self.page)
        elif self._centre.currentWidget() is self.page:
            return
        self.page.clear()
        self._centre.setCurrentWidget(self.page)
        self.page.take_focus()
        self._begin()

    def close(self) -> None:
        """Give the stage its place again, and look no further."""
        self._stop.set()
        if self.page is not None and self._centre.currentWidget() is self.page:
            self._centre.setCurrentWidget(self._window.panels.stage)

    def _begin(self) -> None:
        stop = self._stop = threading.Event()
        at = self.look_with(self._usual(stop))

        def source() -> Iterator[object]:
            yield from look(at)
            yield None

        def take(found: object) -> None:
            # What an earlier look still finds is not of this one.
            if stop is self._stop and not stop.is_set():
                self._take(found)

        self._controller.run_aside(source, "welcome", take)

    def _usual(self, stop: threading.Event) -> Look:
        from app.server_add import found_servers

        servers, settings = self._servers.servers, self._window.settings
        known = {server.base for server in servers} | {server.folder for server in servers}
        places, interpreter = self._places, settings.interpreter
        return Look(
            home=Path.home(),
            environment=dict(os.environ),
            known=frozenset(known - {""}),
            models=frozenset(settings.model_folders),
            running=found_servers,
            engine=lambda: engine_state(places, interpreter),
            stopped=stop.is_set,
        )

    def _take(self, found: object) -> None:
        assert self.page is not None
        if isinstance(found, Found | Looked):
            self.page.take(found)
            if isinstance(found, Found) and found.sort is Sort.ENGINE:
                self.page.show_engine(ready=found.ready, can_set_up=self._set_up() is not None)
        elif found is None:
            self.page.over()

    def _on_set_up(self) -> None:
        set_up = self._set_up()
        if set_up is not None:
            set_up()

    def engine_changed(self) -> None:
        """The engine was set up meanwhile: let the page offer the first clip."""
        ready, words = engine_state(self._places, self._window.settings.interpreter)
        if self.page is not None and ready:
            self.page.show_engine(ready=True, can_set_up=False, words=words)

    def _on_chosen(self, ticked: Sequence[Found], first: bool) -> None:
        self.close()
        self._use(ticked)
        if first:
            # After what using a model shows in the form.
            QTimer.singleShot(0, self, self._generate)

    def _generate(self) -> None:
        controller, compose = self._controller, self._window.panels.compose
        values = {"prompt": EXAMPLES[0]}
        if STARTER in controller.recipes:
            compose.load(STARTER, values)
        controller.guard(lambda: controller.add(STARTER, values))
        if controller.ledger.paused:
            self._window.panels.notice.show_text(
                "The queue is paused: the first clip waits.",
                (("Go on", lambda: controller.guard(lambda: controller.set_paused(False))),),
                key="welcome",
            )

    def _use(self, ticked: Sequence[Found]) -> None:
        """Use what is ticked; only Framedeck's own settings change by that."""
        guard, window = self._controller.guard, self._window
        sorts = {found.sort for found in ticked}
        for found in ticked:
            if found.server is not None:
                guard(lambda server=found.server: self._servers.add(server))
            elif found.folder is not None:
                guard(lambda folder=found.folder: self._models.add(folder))
        if Sort.LLM in sorts:
            window.keep(unload_first="always")
        assert self.page is not None
        for offered, box in self.page.sections[Sort.MODELS].boxes.values():
            if offered.folder is None:
                window.menus.cached_models.setChecked(box.isChecked())


def engine_state(places: Places, interpreter: str) -> tuple[bool, str]:
    """Return whether the engine can run, and words about it. Reads small files at most."""
    from core.engine_env import engine_python

    ready = bool(engine_python(places, interpreter))
    return (True, READY) if ready else (False, NOT_SET_UP)

"""What the queue dock asks for beside its jobs: searches, pictures, and why jobs wait."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from app.controller import Controller
from app.engines import COMFY, LOCAL
from app.window import MainWindow
from core.errors import Problem, ProblemError
from core.queue import Found, Wanted

if TYPE_CHECKING:
    from core.scheduling.decisions import Decided
    from core.scheduling.snapshot import Snapshot


class QueueDesk(QObject):
    """Answers the queue dock; what reads the disk is done beside the window."""

    def __init__(self, controller: Controller, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._window = controller, window
        self._panel = window.panels.queue
        self._looking = False
        self._next: Wanted | None = None
        self._panel.view.delegate.pictures.aside = controller.run_aside
        finding = self._panel.finding
        finding.wanted.connect(self._look)
        finding.restore(window.settings.queue)
        finding.changed.connect(self._remember)
        controller.places_changed.connect(self._on_places)

    def _remember(self) -> None:
        self._window.keep(queue={**self._window.settings.queue, **self._panel.finding.state()})

    # -- searches --------------------------------------------------------------

    def _on_places(self) -> None:
        engine = self._controller.engine
        places = [(engine.title_at(LOCAL), ((engine.local.name, None),))]
        for number, server in enumerate(engine.servers()):
            # The first server is also that of jobs that name none.
            names: list[tuple[str, str | None]] = [(COMFY, server.base)]
            names += [] if number else [(COMFY, None), (COMFY, "")]
            places.append((server.name, tuple(names)))  # type: ignore[arg-type]
        self._panel.finding.set_places(places)

    def _look(self, wanted: Wanted) -> None:
        """Look for jobs; of those asked for meanwhile only the last is looked for."""
        if self._looking:
            self._next = wanted
            return
        self._looking, path = True, self._controller.ledger.store.path

        def work() -> Iterator[object]:
            from core.ledger.look import look
            from core.ledger.store import join_store

            try:
                store = join_store(path)
                try:
                    yield wanted, look(store, wanted)
                finally:
                    store.close()
            except ProblemError as error:
                yield error.problem
            finally:
                yield None

        self._controller.run_aside(work, "search", self._take)

    def _take(self, item: object) -> None:
        match item:
            case Problem():
                self._controller.problem.emit(item, "search")
            case (Wanted() as wanted, Found() as found):
                self._panel.finding.show_found(wanted, found)
            case _:
                self._looking = False
                wanted_next, self._next = self._next, None
                if wanted_next is not None:
                    self._look(wanted_next)

    # -- why jobs wait -----------------------------------------------------------

    def tell(
        self,
        not_before: Mapping[str, float],
        decided: Decided | None = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        """Say on the rows of jobs why they wait; see `core.scheduling.reasons`."""
        if decided is None and not not_before:
            self._panel.set_reasons({})
            return
        from core.scheduling.moment import Now
        from core.scheduling.reasons import reasons

        now = Now(time.time(), time.monotonic())
        self._panel.set_reasons(reasons(now, not_before, decided, snapshot))

"""The Help menu's dialogs, and what a start has to tell once the window answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject
from PySide6.QtGui import QGuiApplication

from app.controller import Controller
from core.places import Places

if TYPE_CHECKING:
    from app.models import OwnModels
    from app.servers import ServersDesk
    from app.welcome import WelcomeDesk
    from app.window import MainWindow
    from core.queue import JobRow


class HelpDesk(QObject):
    """Opens what the Help menu offers; nothing of it is loaded before.

    Args:
        controller: Runs what takes time.
        window: Holds the menu and the dialogs.
        places: Where logs and records lie.
        models: Takes models that a welcome found.
        servers: Takes servers that a welcome found.

    Attributes:
        set_up_engine: Opens what sets the engine up; None: there is nothing to set up.
    """

    def __init__(
        self,
        controller: Controller,
        window: MainWindow,
        places: Places,
        models: OwnModels,
        servers: ServersDesk,
    ) -> None:
        super().__init__(window)
        self._controller, self._window, self._places = controller, window, places
        self._models, self._servers = models, servers
        self.set_up_engine: Callable[[], object] | None = None
        self._welcome: WelcomeDesk | None = None
        self._marked = False
        window.menus.welcome.triggered.connect(self.welcome)
        window.menus.report.triggered.connect(self.report)

    def after_start(self, lost: Sequence[JobRow], first: bool) -> None:
        """Tell how the window before ended, and welcome who is here for the first time.

        Args:
            lost: Jobs that were running then.
            first: There were no settings when this window started.
        """
        from app.aftercare import Aftercare

        self._marked = True
        Aftercare(self._controller, self._window, self._places, lost, self.report)
        if first and not any(self._controller.ledger.counts().values()):
            self._controller.run_aside(_load_welcome, "welcome", lambda _: self.welcome())

    def welcome(self) -> None:
        """Show the welcome in the place of the stage."""
        from app.welcome import WelcomeDesk

        if self._welcome is None:
            self._welcome = WelcomeDesk(
                self._controller, self._window, self._places, self._models, self._servers,
                lambda: self.set_up_engine, self,
            )  # fmt: skip
        self._welcome.open()

    def report(self) -> None:
        """Open the dialog that assembles a report."""
        from app.problem_report import ReportDesk

        places, settings = self._places, self._window.settings
        plugin = QGuiApplication.platformName()

        def look(stopped: Callable[[], bool]) -> str:
            from app.doctor_facts import findings_as_text

            return findings_as_text(places, settings, stopped, plugin)

        ReportDesk(self._controller, self._window, places, look)

    def engine_changed(self) -> None:
        """There is an engine now: the first clip can be made."""
        if self._welcome is not None:
            self._welcome.engine_changed()

    def ending(self) -> None:
        """The window begins to end: should it be cut off by a session's end, that is no crash."""
        if self._marked:
            from core.crashes import running

            running.ending(self._places.data)

    def close(self) -> None:
        """The window ends in order: take its mark away."""
        if self._marked:
            from core.crashes import running

            running.end(self._places.data)


def _load_welcome() -> Iterator[object]:
    """Load the modules beside the window, which would not answer for as long."""
    from app import welcome

    yield welcome

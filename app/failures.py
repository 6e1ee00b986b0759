"""What the window does when a person presses a step's button after a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from app.asking import given_again
from app.engines import LOCAL
from core.errors import ProblemError

if TYPE_CHECKING:
    from app.advice import AdviceDesk
    from app.controller import Controller
    from app.freeing import FreeDesk
    from app.panels import Panels
    from app.servers import ServersDesk
    from app.window import MainWindow
    from core.failures.recovery import Action
    from core.gpu.advice import Advice
    from core.jobs import Job, Recipe


class FailureDesk(QObject):
    """Says which steps' buttons can be offered, and does them by the requests there are.

    Args:
        controller: Knows jobs, recipes and engines.
        window: Holds the stage and the notices.
        freeing: Frees memory.
        servers: Restarts servers.
        advice: Has language models unloaded.
    """

    def __init__(
        self,
        controller: Controller,
        window: MainWindow,
        freeing: FreeDesk,
        servers: ServersDesk,
        advice: AdviceDesk,
    ) -> None:
        super().__init__(window)
        self._controller, self._window = controller, window
        self._freeing, self._servers, self._advice = freeing, servers, advice
        self._panels: Panels = window.panels
        stage, notice = self._panels.stage, self._panels.notice
        stage.card.can = lambda action: self.can(action, stage.job_id() or "")
        stage.card.chosen.connect(lambda action: self.do(action, stage.job_id() or ""))
        stage.card.help_wanted.connect(self.help)
        notice.can, notice.states_of = self.can, controller.ledger.states
        controller.queue_changed.connect(notice.settle)
        notice.chosen.connect(self.do)
        notice.help_wanted.connect(self.help)

    def can(self, action: Action, job_id: str) -> bool:
        """Say whether an action can be done now, for the job of an id or for none ("")."""
        from core.failures.recovery import Action

        job = self._job(job_id)
        match action:
            case Action.FREE_MEMORY | Action.OPEN_LOG | Action.OPEN_OUTPUTS:
                return True
            case Action.RETRY:
                return job is not None
            case Action.EDIT_JOB:
                return job is not None and job.recipe in self._controller.recipes
            case Action.OPEN_SERVERS:
                return job is None or self._place(job) != LOCAL
            case Action.RESTART_ENGINE:
                place = self._place(job)
                return place == LOCAL or self._servers.can_restart(place)
            case Action.TILED_DECODE:
                return self._tiled(job) is not None
            case Action.UNLOAD_MODEL:
                return self._holder() is not None
            case Action.COPY_DETAILS:
                return False  # What shows the problem does that itself.
        raise ValueError(f"no such action: {action}")

    def do(self, action: Action, job_id: str) -> None:
        """Do what a step's button says; what goes wrong comes as a problem."""
        self._controller.guard(lambda: self._do(action, job_id))

    def help(self, heading: str) -> None:
        """Open the guide at a heading."""
        from app.dialogs import show_guide

        show_guide(self._window, heading)

    def _do(self, action: Action, job_id: str) -> None:
        from core.failures.recovery import Action

        job = self._job(job_id)
        match action:
            case Action.RETRY:
                self._controller.retry([job_id])
            case Action.FREE_MEMORY:
                self._freeing.request(self._known_place(job))
            case Action.EDIT_JOB:
                self._edit(job_id)
            case Action.OPEN_SERVERS:
                self._show_servers(job)
            case Action.OPEN_LOG:
                self._show_log(job)
            case Action.OPEN_OUTPUTS:
                self._window.menus.open_outputs.trigger()
            case Action.RESTART_ENGINE:
                self._restart(self._place(job))
            case Action.TILED_DECODE:
                self._decode_in_tiles(job)
            case Action.UNLOAD_MODEL:
                self._unload()

    # -- jobs -----------------------------------------------------------------

    def _job(self, job_id: str) -> Job | None:
        if not job_id:
            return None
        try:
            return self._controller.row(job_id).job
        except ProblemError:
            return None  # It was removed from the list meanwhile.

    def _place(self, job: Job | None) -> str:
        base = None if job is None else self._controller.engine.server_of(job)
        return base or LOCAL

    def _known_place(self, job: Job | None) -> str:
        """Return where memory is freed for a job; "" for everywhere."""
        place = self._place(job)
        known = job is not None and place in self._controller.engine.places()
        return place if known else ""

    def _edit(self, job_id: str) -> None:
        self._panels.queue.duplicate_requested.emit(job_id)
        problem = self._controller.row(job_id).problem
        if problem is not None and problem.field:
            self._panels.compose.show_invalid(problem)

    def _tiled(self, job: Job | None) -> tuple[Recipe, str] | None:
        """Return a job's recipe and its switch for a decode in tiles, which is off."""
        from core.jobs import Kind

        recipe = None if job is None else self._controller.recipes.get(job.recipe)
        if job is None or recipe is None:
            return None
        for parameter in recipe.parameters:
            words = f"{parameter.name} {parameter.label}".lower()
            if parameter.kind is Kind.SWITCH and "tile" in words:
                return None if job.params.get(parameter.name) else (recipe, parameter.name)
        return None

    def _decode_in_tiles(self, job: Job | None) -> None:
        found = self._tiled(job)
        if job is None or found is None:
            return
        recipe, name = found
        self._controller.add(recipe.id, given_again(job, recipe) | {name: True})

    # -- engines and servers ----------------------------------------------------

    def _show_servers(self, job: Job | None) -> None:
        dock, place = self._panels.docks["servers"], self._place(job)
        dock.show()
        dock.raise_()
        if place != LOCAL:
            self._panels.servers.view.select(place)
        self._panels.servers.view.setFocus()

    def _show_log(self, job: Job | None) -> None:
        place = self._place(job)
        if any(row.base == place for row in self._panels.servers.rows()):
            self._show_servers(job)
            self._panels.servers.view.show_log(place)
        else:
            self._window.menus.open_log.trigger()

    def _restart(self, place: str) -> None:
        if place == LOCAL:
            # Its process ends; the next job starts a new one.
            self._freeing.request(LOCAL)
        else:
            self._servers.restart(place)

    # -- language models ----------------------------------------------------------

    def _holder(self) -> Advice | None:
        """Return what unloads the language models that hold most of a GPU; None without any."""
        from core.gpu.advice import Action as Kind
        from core.gpu.advice import Advice
        from core.gpu.llm_servers import server_of
        from core.gpu.simulated import DRIVER

        reading = self._advice.reading
        if reading is None or reading.driver == DRIVER:
            return None  # There is nobody behind the programs of a trace.
        held = [
            (process.used_bytes, device.index, process)
            for device in reading.devices
            for process in device.processes or ()
            if server_of(process.name, process.port) is not None
        ]
        if not held:
            return None
        used, index, process = max(held, key=lambda one: one[0] or 0)
        text = f"Unload the model of {process.name}."
        return Advice(
            Kind.UNLOAD_MODEL, text, index, process.name, process.port, used, 0.0, 0.0, True, True
        )

    def _unload(self) -> None:
        found = self._holder()
        if found is not None:
            self._advice.unload(found)

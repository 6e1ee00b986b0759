"""Which request goes where, and which fact is shown where: one way round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from PySide6.QtCore import QObject, QUrl, Signal
from PySide6.QtGui import QDesktopServices, QImage

from app.advice import AdviceDesk
from app.batch import BatchDesk
from app.controller import Controller
from app.doctor import DoctorDesk
from app.dreaming import DreamDesk
from app.engine_setup import EngineDesk
from app.engine_words import lost_problem
from app.exporting import ExportDesk
from app.failures import FailureDesk
from app.forecasts import Forecasts
from app.freeing import FreeDesk
from app.habits import HabitsDesk
from app.helping import HelpDesk
from app.joining import join
from app.leaks import LeakDesk
from app.memory import MemoryDesk
from app.models import OwnModels
from app.morning import MorningDesk
from app.opening import OpenDesk
from app.outside import OutsideDesk
from app.pictures import PictureDesk
from app.scheduling import ScheduleDesk
from app.servers import ServersDesk
from app.timeline_wiring import TimelineDesk
from app.timing import TimingDesk
from app.traces import TraceDesk
from app.unattended import UnattendedDesk
from app.watchdog import WatchdogDesk
from app.watching import StateDesk
from app.window import MainWindow
from app.workflows import WorkflowDesk
from core.errors import Problem, ProblemError
from core.events import Event, Failed, Finished, NodeStarted, Noted, Stopped, WorkerStarted
from core.gpu.readings import Reading, Role
from core.jobs import Job, JobState
from core.places import Places
from core.queue import JobRow
from core.statistics.runs import MADE_BEFORE
from core.units import memory
from widgets.queue_words import state_of_queue
from widgets.tiles import SHOWN_SECONDS

CLIP_BYTES = 256_000_000
"""Most memory that the frames of the clip on the stage may take."""
PASSING = "passing "
"""With a job's id, the key of the notice that holds until that job goes on."""


class Wiring(QObject):
    """Connects one controller and one window.

    Signals:
        limits_chosen: A `core.recorder.keep.Limits`: how much of the readings is kept.
    """

    limits_chosen = Signal(object)

    def __init__(
        self, controller: Controller, window: MainWindow, models: OwnModels, places: Places
    ) -> None:
        super().__init__(window)
        self._controller = controller
        self._window = window
        self._panels = window.panels
        self._places = places
        self._looking_back = False
        self._told_at = float("-inf")
        self._advice = AdviceDesk(self._panels.notice, controller.run_aside, self)
        self.freeing = FreeDesk(controller, window, self)
        self.habits = HabitsDesk(controller, window, self)
        self.unattended = UnattendedDesk(controller, window, self)
        self.morning = MorningDesk(controller, window, places.runs, self)
        self._export = ExportDesk(controller, window)
        self._outside = OutsideDesk(controller, self)
        self._state = StateDesk(controller, self._panels, self)
        self._leaks = LeakDesk(controller, self._panels, self.freeing.request, self)
        self._timeline = TimelineDesk(controller, self._panels.timeline, self)
        self._timeline.restore(window.settings.timeline)
        self._panels.timeline.choices_changed.connect(
            lambda _: window.keep(timeline=self._timeline.choices())
        )
        self._connect_requests()
        self._connect_facts()
        self._connect_menus()
        self._traces = TraceDesk(controller, window, self)
        self._forecasts = Forecasts(controller, self._panels, self)
        self.timing = TimingDesk(controller, self._panels, self)
        self._forecasts.need.connect(self._advice.set_need)
        self._forecasts.expected.connect(self._timeline.set_expected)
        self._memory = MemoryDesk(controller, window, self._advice, self._forecasts, self._state)
        self.schedule = ScheduleDesk(controller, window, self._forecasts)
        self.schedule.changed.connect(lambda _: self._on_queue_changed())
        self.servers = ServersDesk(controller, window, places)
        self.failures = FailureDesk(controller, window, self.freeing, self.servers, self._advice)
        compose, notice = self._panels.compose, self._panels.notice
        self.workflows = WorkflowDesk(controller, compose, notice, places.workflows, self)
        self._pictures = PictureDesk(controller, compose, places.data / "pasted", self)
        self._opening = OpenDesk(controller, window, models, self.workflows, self._pictures)
        self.batch = BatchDesk(controller, window)
        self.dreams = DreamDesk(controller, window, self)
        self._opening.jobs_given.connect(lambda path: self.batch.open([path]))
        self.workflows.follow(self.servers)
        self.schedule.follow(self.servers, self.workflows, self.timing)
        self.workflows.servers_shown.connect(self._show_servers)
        self.workflows.server_wanted.connect(self._show_servers)
        self.workflows.server_wanted.connect(self._panels.servers.add_requested)
        join(controller, self._panels, self.servers, self.freeing, self._state)
        self.engine = EngineDesk(controller, window, places)
        WatchdogDesk(controller, window, self._state, self.schedule, self.servers)
        self.help = HelpDesk(controller, window, places, models, self.servers)
        self.help.set_up_engine = self.engine.open
        self.engine.changed.connect(self.help.engine_changed)
        self.doctor = DoctorDesk(controller, window, places)
        self.engine.join(self.help, self.doctor)
        self.doctor.follow(self.engine)

    # -- requests -----------------------------------------------------------

    def _connect_requests(self) -> None:
        controller = self._controller
        guard = controller.guard
        self._panels.compose.add_requested.connect(self._on_add)
        self._panels.compose.edit_saved.connect(self._on_edit_saved)
        self._panels.stage.stop_requested.connect(
            lambda job_id: guard(lambda: controller.cancel([job_id]))
        )
        self._panels.stage.reject_requested.connect(
            lambda job_id: guard(lambda: controller.reject(job_id))
        )
        self._panels.stage.retry_requested.connect(
            lambda job_id: guard(lambda: controller.retry([job_id]))
        )
        self._panels.stage.clip_wanted.connect(self._on_clip_wanted)
        self._panels.stage.save_as_requested.connect(self._export.ask)
        self._panels.stage.reveal_requested.connect(self._on_reveal_path)
        self._panels.top.pause_toggled.connect(lambda on: guard(lambda: controller.set_paused(on)))
        queue = self._panels.queue
        queue.pause_toggled.connect(lambda on: guard(lambda: controller.set_paused(on)))
        queue.cancel_requested.connect(lambda ids: guard(lambda: controller.cancel(ids)))
        queue.remove_requested.connect(self._on_remove)
        queue.undo_requested.connect(lambda: guard(controller.undo))
        queue.move_requested.connect(lambda ids, to: guard(lambda: controller.move(ids, to)))
        queue.top_requested.connect(lambda ids: guard(lambda: controller.move_to_top(ids)))
        queue.retry_requested.connect(lambda ids: guard(lambda: controller.retry(ids)))
        queue.edit_requested.connect(self._on_edit)
        queue.duplicate_requested.connect(self._on_duplicate)
        queue.open_requested.connect(lambda job_id: guard(lambda: self._open_job(job_id)))
        queue.reveal_requested.connect(lambda job_id: guard(lambda: self._reveal_job(job_id)))

    def _on_add(self, recipe_id: str, values: Mapping[str, object], copies: int) -> None:
        self._panels.compose.clear_invalid()
        self._looking_back = False

        def add() -> None:
            try:
                self._controller.add(recipe_id, values, copies)
            except ProblemError as error:
                if not error.problem.field:
                    raise
                self._panels.compose.show_invalid(error.problem)

        self._controller.guard(add)

    def _on_edit_saved(self, job_id: str, recipe_id: str, values: Mapping[str, object]) -> None:
        def save() -> None:
            try:
                self._controller.edit(job_id, recipe_id, values)
            except ProblemError as error:
                if not error.problem.field:
                    raise
                self._panels.compose.edit(job_id, recipe_id, dict(values))
                self._panels.compose.show_invalid(error.problem)

        self._controller.guard(save)

    def _on_edit(self, job_id: str) -> None:
        def edit() -> None:
            row = self._controller.row(job_id)
            self._panels.compose.edit(job_id, row.job.recipe, row.job.given)
            self._show_compose()

        self._controller.guard(edit)

    def _on_duplicate(self, job_id: str) -> None:
        def duplicate() -> None:
            row = self._controller.row(job_id)
            self._panels.compose.load(row.job.recipe, row.job.given)
            self._show_compose()

        self._controller.guard(duplicate)

    def _show_servers(self) -> None:
        dock = self._panels.docks["servers"]
        dock.show()
        dock.raise_()

    def _show_compose(self) -> None:
        dock = self._panels.docks["compose"]
        dock.show()
        dock.raise_()
        self._panels.compose.focus_prompt()

    def _on_remove(self, ids: list[str]) -> None:
        if self._controller.guard(lambda: self._controller.remove(ids)):
            count = "1 job" if len(ids) == 1 else f"{len(ids)} jobs"
            self._panels.notice.show_text(
                f"Removed {count} from the list. Finished clips stay on disk.",
                (("Undo", lambda: self._controller.guard(self._controller.undo)),),
                key="removed",
            )

    def _on_clip_wanted(self, path: str) -> None:
        self._controller.guard(lambda: self._controller.read_clip(path, CLIP_BYTES))

    def _on_reveal_path(self, path: str) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(Path(path).parent)))

    def _reveal_job(self, job_id: str) -> None:
        row = self._controller.row(job_id)
        self._on_reveal_path(row.output.path if row.output else row.job.output)

    def _open_job(self, job_id: str) -> None:
        """Put a job on the stage."""
        running = self._controller.running_job(job_id)
        self._looking_back = running is None
        self._controller.stop_clip()
        if running is not None:
            self._panels.stage.begin(running)
            return
        row = self._controller.row(job_id)
        stage = self._panels.stage
        if row.output is not None:
            stage.show_output(row.job, row.output)
        elif row.problem is not None:
            stage.show_problem(row.job, row.problem)
        elif row.state is JobState.LOST:
            stage.show_problem(row.job, lost_problem([row]))

    def refresh(self) -> None:
        """Show what the ledger holds, without starting anything."""
        self._on_paused(self._controller.ledger.paused)
        self._on_places()
        self._panels.status.set_health("Healthy", "success")

    def tell_lost(self, rows: list[JobRow]) -> None:
        """Offer jobs again that ran when an earlier process died."""
        if not rows:
            self._panels.status.set_health("Healthy", "success")
            return
        self._panels.status.set_health(f"{len(rows)} lost", "warning")
        ids = [row.job.id for row in rows]
        # app.aftercare replaces it, once it knows more.
        self._panels.notice.show_problem(lost_problem(rows), (self._retry(),), "unclean", jobs=ids)

    def _retry(self) -> tuple[str, Callable[[], object]]:
        """Return the offer to run again what the notice is about."""
        controller, notice = self._controller, self._panels.notice
        return "Retry", lambda: controller.guard(lambda: controller.retry(notice.jobs()))

    # -- facts --------------------------------------------------------------

    def _connect_facts(self) -> None:
        controller = self._controller
        controller.queue_changed.connect(self._on_queue_changed)
        controller.job_began.connect(self._on_job_began)
        controller.event.connect(self._on_event)
        controller.job_ended.connect(self._on_job_ended)
        controller.engine_state.connect(self._on_engine_state)
        controller.paused_changed.connect(self._on_paused)
        controller.problem.connect(self._on_problem)
        self._panels.timeline.problem.connect(lambda p: self._on_problem(p, "trace"))
        controller.told.connect(lambda text: self._panels.notice.show_text(text, key="note"))
        controller.places_changed.connect(self._on_places)
        controller.reading.connect(self._on_reading)
        controller.reading.connect(self._advice.on_reading)
        controller.clip_frame.connect(self._on_clip_frame)
        controller.undo_changed.connect(self._panels.queue.set_undo_available)
        controller.undo_changed.connect(self._window.menus.undo.setEnabled)
        self._window.menus.undo.setEnabled(False)

    def _on_queue_changed(self) -> None:
        self._panels.queue.refresh()
        counts = self._controller.ledger.counts()
        waiting, running = counts.get(JobState.WAITING, 0), counts.get(JobState.RUNNING, 0)
        paused = self._controller.ledger.paused
        text = state_of_queue(running, waiting, paused=paused)
        if waiting and self.schedule.held and not paused:
            text = f"{text} · {self.schedule.held}"
        self._panels.status.set_queue(text)

    def _on_job_began(self, job: Job) -> None:
        # One that is being watched is not pushed from the stage by another lane's.
        watched = self._controller.running_job(self._panels.stage.job_id())
        if not self._looking_back and watched is None:
            self._controller.stop_clip()
            self._panels.stage.begin(job)
        if self._controller.running == job:
            self._panels.tiles.job_started(job.id)

    def _on_event(self, event: Event) -> None:
        self._panels.stage.apply(event, self._controller.engine.ring_of(event.job_id))
        self._panels.queue.apply(event)
        match event:
            case Noted(text=text) if text.startswith(MADE_BEFORE):
                pass  # Its own notice offers more.
            case Noted(text=text, job_id=job_id, passing=passing):
                self._panels.notice.show_text(text, key=PASSING + job_id if passing else "note")
            case WorkerStarted(job_id=job_id) | NodeStarted(job_id=job_id):
                self._panels.notice.clear(PASSING + job_id)

    def _on_job_ended(self, job: Job, ending: Finished | Stopped | Failed) -> None:
        self._panels.tiles.job_ended(job.id)
        self._panels.notice.clear(PASSING + job.id)
        on_stage = self._panels.stage.job_id() == job.id
        match ending:
            case Finished(output=output):
                if on_stage:
                    self._panels.stage.show_output(job, output)
                self._panels.status.set_health(*self._leaks.health)
            case Failed(problem=problem):
                if on_stage:
                    self._panels.stage.show_problem(job, problem)
                self._panels.status.set_health("Last job failed", "warning")
                self._panels.notice.show_problem(problem, (self._retry(),), job=job.id)

    def _on_engine_state(self, name: str, text: str, tone: str) -> None:
        self._panels.top.set_engine(name, text, {"idle": "success", "busy": "info"}[tone])

    def _on_places(self) -> None:
        engine = self._controller.engine
        self._panels.top.set_engines([engine.title_at(place) for place in engine.places()])

    def _on_paused(self, paused: bool) -> None:
        self._panels.top.set_paused(paused)
        self._panels.queue.set_paused(paused)
        self._window.menus.pause.setChecked(paused)
        self._on_queue_changed()

    def _on_problem(self, problem: Problem, key: str) -> None:
        if key == "release":
            self.freeing.failed()
        self._panels.notice.show_problem(problem, key=key)

    def _on_reading(self, reading: Reading) -> None:
        self._panels.tiles.update_reading(reading)
        if 0 <= reading.at_seconds - self._told_at < SHOWN_SECONDS:
            return
        self._told_at = reading.at_seconds
        free = "Free VRAM" if reading.devices else "Free memory"
        self._panels.top.set_free_text(free)
        self._window.menus.free.setText(f"&{free}")
        self._panels.status.set_memory(panel_text(reading))
        self._panels.status.set_device(device_text(reading))

    def _on_clip_frame(self, frame: object) -> None:
        image = QImage(
            frame.bgra, frame.width, frame.height, frame.width * 4, QImage.Format.Format_RGB32
        ).copy()
        self._panels.stage.clip_frame(frame.index, frame.total, image, frame.fps)

    # -- menus --------------------------------------------------------------

    def _connect_menus(self) -> None:
        menus, controller = self._window.menus, self._controller
        menus.pause.triggered.connect(
            lambda on: controller.guard(lambda: controller.set_paused(on))
        )
        menus.undo.triggered.connect(lambda: controller.guard(controller.undo))
        menus.add_job.triggered.connect(self._panels.compose.submit)
        menus.stop.triggered.connect(lambda: self._with_running(lambda i: controller.cancel([i])))
        menus.reject.triggered.connect(lambda: self._with_running(controller.reject))
        menus.open_outputs.triggered.connect(lambda: _open_folder(controller.outputs))
        menus.readings.triggered.connect(self._on_readings)
        menus.guide.triggered.connect(self._on_guide)
        menus.about.triggered.connect(self._on_about)
        menus.open_log.triggered.connect(lambda: _open_folder(self._places.log))

    def _on_guide(self) -> None:
        from app.dialogs import show_guide

        show_guide(self._window)

    def _on_readings(self) -> None:
        from app.dialogs import show_readings

        show_readings(self._window, self._controller, self.limits_chosen.emit)

    def _on_about(self) -> None:
        from app.dialogs import show_about

        show_about(self._window)

    def _with_running(self, action: object) -> None:
        on_stage = self._controller.running_job(self._panels.stage.job_id())
        running = on_stage or self._controller.running
        if running is not None and callable(action):
            self._controller.guard(lambda: action(running.id))


def panel_text(reading: Reading) -> str:
    """Say how much memory this window itself takes, of the GPU where there is one."""
    rss = f"{memory(reading.system.panel_rss_bytes)} of memory"
    if not reading.devices:
        return f"panel: {rss}"
    lists = [device.processes for device in reading.devices if device.processes is not None]
    own = [item.used_bytes for held in lists for item in held if item.role is Role.PANEL]
    # What the driver does not tell is no proof of nothing.
    known = bool(lists) and None not in own
    amount = memory(sum(used or 0 for used in own)) if known else "–"
    return f"panel: {amount} of VRAM · {rss}"


def device_text(reading: Reading) -> str:
    """Name the GPUs and their driver, or say that there are none."""
    if not reading.devices:
        return "No NVIDIA GPU · clips are made on the CPU"
    names = " + ".join(device.name for device in reading.devices)
    return f"{names} · driver {reading.driver or '–'}"


def _open_folder(path: Path) -> None:
    target = path if path.exists() else path.parent
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(target)))

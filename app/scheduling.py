"""When jobs begin: what holds them, for how long, and what follows from a failure."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import time as time_of_day
from functools import partial
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer, Signal

from app.controller import Controller
from app.engines import COMFY, LOCAL
from app.forecasts import Forecasts
from app.freeing import FreedAt
from app.window import MainWindow
from core.errors import Category, Problem
from core.events import Event, Failed, Finished, Stopped, WorkerStarted
from core.gpu.readings import DeviceReading, Reading
from core.gpu.simulated import DRIVER
from core.jobs import Job, new_job
from core.units import GIGABYTE, MEGABYTE

if TYPE_CHECKING:
    from core.scheduling.alerts import Alerts
    from core.scheduling.decisions import Decided, Decision
    from core.scheduling.retries import Verdict
    from core.scheduling.scheduler import Scheduler
    from core.scheduling.snapshot import Lane, Orders, Snapshot, Waiting
    from widgets.orders import OrdersDialog

_log = logging.getLogger(__name__)
LOOKED_THROUGH = 64
"""So many waiting jobs of a lane are looked at; the others wait behind them."""
LONGEST_LOOK_MS = 60_000
AGAIN_ON_SERVERS = (Category.INSUFFICIENT_VRAM, Category.BAD_OUTPUT)
"""A server said that the job ended so; after anything else it may still go on there."""


class ScheduleDesk(QObject):
    """Chooses what begins, says why the rest waits, and lets failed jobs try again.

    Args:
        controller: Whose queue it is.
        window: Holds the settings, the menu, the notices and the status line.
        forecasts: Knows what jobs take.

    Attributes:
        held: Words on what holds the queue now; "" when nothing does.
        changed: `held` is another.
    """

    changed = Signal(str)

    def __init__(self, controller: Controller, window: MainWindow, forecasts: Forecasts) -> None:
        super().__init__(window)
        self._controller, self._window, self._forecasts = controller, window, forecasts
        self._notice = window.panels.notice
        self._made: Scheduler | None = None
        self._alerts: Alerts | None = None
        self._reading: Reading | None = None
        self._not_before: dict[str, float] = {}
        self._anyway: set[str] = set()
        self._freed: set[str] = set()
        self._cuda = False
        self._start_at: float | None = None
        self.held = ""
        self._closing = False
        self._aside: set[str] = set()
        self._look = QTimer(self, singleShot=True)
        self._look.timeout.connect(controller.go_on)
        controller.choose = self.choose
        controller.job_began.connect(self._on_began)
        controller.event.connect(self._on_event)
        controller.job_ended.connect(self._on_ended)
        controller.freeing.connect(self._on_freed)
        controller.reading.connect(self._on_reading)
        controller.closing.connect(self._on_closing)
        menus = window.menus
        menus.stop_after.toggled.connect(lambda _: controller.go_on())
        menus.orders.triggered.connect(lambda _=False: self.ask())

    @property
    def scheduler(self) -> Scheduler:
        """What decides; made with the first job that waits."""
        if self._made is None:
            from core.scheduling.scheduler import Scheduler

            self._made = Scheduler()
        self._made.rules = self._rules()
        return self._made

    # -- choosing ---------------------------------------------------------------

    def choose(self, next_jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs to begin now, of the lanes that are free.

        Args:
            next_jobs: The first waiting job of each of those, as by-hand order has it.
        """
        if not next_jobs:
            stops = self._window.menus.stop_after.isChecked() and self._controller.running_jobs
            self._say("stops after the running job" if stops else "")
            return []
        jobs = self._waiting()
        snapshot = self._snapshot(jobs.values())
        decided = self.scheduler.decide(snapshot, _now())
        self._tell(decided)
        self._alert(snapshot)
        wanted = decided.next_look_seconds
        if wanted is not None:
            self._look.start(min(LONGEST_LOOK_MS, max(10, round(wanted * 1000))))
        for one in decided.decisions:
            self._carry_out(one)
        return [jobs[start.job_id] for start in decided.starts if start.job_id in jobs]

    def _waiting(self) -> dict[str, Job]:
        ledger, engine = self._controller.ledger, self._controller.engine
        lanes = engine.lanes().values()
        found = (job for names in lanes for job in ledger.waiting_in(names, LOOKED_THROUGH))
        return {job.id: job for job in found}

    def _snapshot(self, jobs: Any) -> Snapshot:
        from core.scheduling.snapshot import Snapshot

        waiting = [self._one(job) for job in jobs]
        return Snapshot(waiting, self._lanes(), self._orders())

    def _one(self, job: Job) -> Waiting:
        from core.scheduling.snapshot import Waiting
        from core.statistics.forecast import Band

        _, need = self._forecasts.need_for(job)
        band = Band(need.low_bytes, need.median_bytes, need.high_bytes) if need else None
        return Waiting(
            job.id, job.title, (self._controller.engine.place_of(job),),
            need=band,
            not_before_unix=self._not_before.get(job.id),
            anyway=job.id in self._anyway,
        )  # fmt: skip

    def _lanes(self) -> list[Lane]:
        from core.scheduling.snapshot import Lane

        engine = self._controller.engine
        running = {engine.place_of(job): job.id for job in self._controller.running_jobs}
        lanes = []
        for place in engine.places():
            card = engine.lane_at(place)
            lane = Lane(
                place, engine.title_at(place), gpu=card, running=running.get(place, ""),
                freed=place in self._freed,
            )  # fmt: skip
            lanes.append(self._read(lane))
        return lanes

    def _read(self, lane: Lane) -> Lane:
        """Fill in what the card says, where it is known that the place uses it."""
        device = self._device(lane.card)
        if device is None:
            return lane
        from dataclasses import replace
        from urllib.parse import urlsplit

        from core.scheduling.reading import of_server, of_worker, read

        known = self._reading is not None and self._reading.driver != DRIVER
        ours = of_worker if lane.place == LOCAL else of_server(urlsplit(lane.place).port or 80)
        uses = self._cuda if lane.place == LOCAL else any(map(ours, device.processes or ()))
        if known and uses:
            return read(lane, device, ours)
        return replace(lane, celsius=device.temperature_celsius) if uses or not known else lane

    def _device(self, card: str) -> DeviceReading | None:
        devices = self._reading.devices if self._reading is not None else ()
        return next((device for device in devices if card == f"gpu {device.index}"), None)

    # -- what was ordered -----------------------------------------------------------

    def _rules(self) -> Any:
        from core.scheduling.limits import Limits, Rules
        from core.scheduling.thermal import ThermalRules

        settings = self._window.settings
        devices = self._reading.devices if self._reading is not None else ()
        # Of a small card at most half: else nothing would ever begin there.
        halves = [device.total_bytes // 2 for device in devices if device.total_bytes]
        limits = Limits(
            min_free_bytes=min([settings.min_free_mb * MEGABYTE, *halves]),
            reserve_bytes=round(settings.reserve_gb * GIGABYTE),
        )
        hot = settings.hot_celsius
        return Rules(limits, thermal=ThermalRules(hot, hot - 13.0, on=settings.cool_down))

    def _orders(self) -> Orders:
        from core.scheduling.snapshot import Orders

        return Orders(
            stop_after_current=self._window.menus.stop_after.isChecked(),
            start_at_unix=self._start_at,
            quiet=tuple(_quiet(self._window.settings.quiet_hours)),
        )

    def ask(self) -> OrdersDialog:
        """Ask when jobs may begin; it does not block."""
        from core.scheduling.quiet import next_at
        from widgets.orders import OrdersDialog

        dialog = OrdersDialog(self._window.settings, self._start_at, self._window)

        def take(chosen: dict[str, Any]) -> None:
            start = chosen.pop("start_at")
            self._start_at = None if start is None else next_at(start, time.time(), None)
            self._window.keep(**chosen)
            self._controller.go_on()

        dialog.chosen.connect(take)
        dialog.open()
        return dialog

    # -- carrying out -------------------------------------------------------------

    def _carry_out(self, one: Decision) -> None:
        from core.scheduling.decisions import Free, Pause, SetAside

        match one:
            case Free(place=place):
                engine, jobs = self._controller.engine, self._controller.running_jobs
                # Freeing the local engine ends what runs there; it is never meant to.
                if place not in map(engine.place_of, jobs):
                    self._controller.free(place)
            case Pause(words=words):
                self._notice.show_text(words, key="orders")
                QTimer.singleShot(0, self, self._stop_now)
            case SetAside(job_id=job_id, problem=problem) if job_id not in self._aside:
                self._aside.add(job_id)
                anyway = ("Start anyway", partial(self._start_anyway, job_id))
                self._notice.show_problem(problem, (anyway,), f"aside {job_id}")

    def _stop_now(self) -> None:
        self._controller.guard(lambda: self._controller.set_paused(True))
        self._window.menus.stop_after.setChecked(False)

    def _start_anyway(self, job_id: str) -> None:
        self._anyway.add(job_id)
        self._aside.discard(job_id)
        self._notice.clear(f"aside {job_id}")
        self._controller.go_on()

    def _alert(self, snapshot: Snapshot) -> None:
        """Raise and clear alerts, each once: all in the log, the loud ones in the bar too."""
        from core.scheduling.alerts import Alarm, Alerts, signals_of

        self._alerts = self._alerts or Alerts()
        scheduler, now = self.scheduler, _now()
        signals = signals_of(snapshot, scheduler.breakers, scheduler.streak, now)
        for alert in self._alerts.look(signals, now):
            key = f"alert {alert.alarm} {alert.about}"
            _log.warning("alert %s: %s", "cleared" if alert.cleared else "raised", alert.words)
            if alert.cleared:
                self._notice.clear(key)
            elif alert.alarm is Alarm.ENGINE_DOWN:
                again = ("Try now", partial(self._try_now, alert.about))
                self._notice.show_text(alert.words, (again,), "danger", key)
            elif alert.alarm is not Alarm.BACKLOG:
                self._notice.show_text(alert.words, (), "warning", key)

    def _try_now(self, place: str) -> None:
        self.scheduler.reset(place)
        self._controller.go_on()

    def _tell(self, decided: Decided) -> None:
        from core.scheduling.decisions import Free, Wait

        words = [hold.words for hold in decided.holds]
        words += [one.words for one in decided.decisions if isinstance(one, Wait | Free)]
        self._say(words[0] if words and not decided.starts else "")

    def _say(self, words: str) -> None:
        if words != self.held:
            self.held = words
            self.changed.emit(words)

    # -- what happens ---------------------------------------------------------------

    def _on_reading(self, reading: Reading) -> None:
        self._reading = reading

    def _on_closing(self) -> None:
        self._closing = True
        self._look.stop()

    def _on_event(self, event: Event) -> None:
        match event:
            case WorkerStarted(device=device):
                self._cuda = "cuda" in device.lower()

    def _on_freed(self, item: object) -> None:
        if isinstance(item, FreedAt):
            self._freed.add(item.place)
            QTimer.singleShot(0, self, self._controller.go_on)

    def _on_began(self, job: Job) -> None:
        place = self._controller.engine.place_of(job)
        self._freed.discard(place)
        for known in (self._aside, self._anyway):
            known.discard(job.id)
        self._not_before.pop(job.id, None)
        self.scheduler.began(job.id, place, _now())

    def _on_ended(self, job: Job, ending: Finished | Stopped | Failed) -> None:
        problem = ending.problem if isinstance(ending, Failed) else None
        place = self._controller.engine.place_of(job)
        finished = isinstance(ending, Finished)
        self.scheduler.ended(job.id, place, _now(), problem=problem, finished=finished)
        if isinstance(ending, Failed) and not ending.lost:
            QTimer.singleShot(0, self, partial(self._after, job, place, ending.problem))

    def _after(self, job: Job, place: str, problem: Problem) -> None:
        """Let a failed job try again, where that has a chance."""
        if job.engine == COMFY and problem.category not in AGAIN_ON_SERVERS:
            return
        if self._closing:
            return
        row = self._controller.ledger.row(job.id)
        if row is None or row.state.value != "failed":
            return  # A person was faster.
        verdict, poisoned = self._verdict(job, row.attempt, problem)
        if not verdict.retry:
            return
        from core.scheduling.ladder import Rung

        if poisoned or any(step.rung is Rung.FREE for step in verdict.steps):
            self._controller.free(place)
        changed = verdict.apply(job.params)
        self._not_before[job.id] = time.time() + verdict.wait_seconds
        self._controller.guard(lambda: self._again(job, changed))
        self._notice.show_text(
            f"“{job.title}” failed: {problem.message} {verdict.words}",
            (("Do not", partial(self._not_again, job.id)),),
            "warning",
            f"again {job.id}",
        )

    def _verdict(self, job: Job, attempts: int, problem: Problem) -> tuple[Verdict, bool]:
        from core.failures.recovery import recovery
        from core.scheduling.retries import Ladder, RetryRules, after_failure

        recipe = self._controller.recipes.get(job.recipe)
        ladder = Ladder(job.params, recipe.parameters) if recipe is not None else None
        found = recovery(problem)
        verdict = after_failure(
            job.id, problem, attempts - 1, RetryRules(budget=self._window.settings.retries),
            ladder=ladder, retryable=None if found.retryable else False,
        )  # fmt: skip
        return verdict, found.poisoned

    def _again(self, job: Job, params: dict[str, Any]) -> None:
        controller = self._controller
        controller.retry([job.id])
        recipe = controller.recipes.get(job.recipe)
        if params != dict(job.params) and recipe is not None:
            controller.ledger.edit(job.id, new_job(recipe, params, controller.outputs))
            controller.queue_changed.emit()

    def _not_again(self, job_id: str) -> None:
        self._notice.clear(f"again {job_id}")
        self._controller.guard(lambda: self._controller.remove([job_id]))


def _now() -> Any:
    from core.scheduling.moment import Now

    return Now(time.time(), time.monotonic())


def _quiet(text: str) -> Iterator[Any]:
    """Return the stretch that "22:00-07:00" means; none for ""."""
    from core.scheduling.quiet import Quiet

    if text:
        start, end = text.split("-")
        yield Quiet(time_of_day.fromisoformat(start), time_of_day.fromisoformat(end))

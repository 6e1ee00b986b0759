"""When jobs begin: what holds them, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import time as time_of_day
from functools import partial
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer, Signal

from app.alarms import AlarmDesk
from app.controller import Controller
from app.engines import LOCAL
from app.forecasts import Forecasts
from app.freeing import FreedAt
from app.queue_desk import QueueDesk
from app.retrying import RetryDesk
from app.window import MainWindow
from core.events import Event, Failed, Finished, Stopped, WorkerStarted
from core.gpu.readings import DeviceReading, Reading
from core.gpu.simulated import DRIVER
from core.jobs import Job
from core.units import GIGABYTE, MEGABYTE

if TYPE_CHECKING:
    from core.scheduling.decisions import Decided, Decision
    from core.scheduling.scheduler import Scheduler
    from core.scheduling.snapshot import Lane, Orders, Snapshot, Waiting
    from widgets.orders import OrdersDialog

LOOKED_THROUGH = 64
"""So many waiting jobs of a lane are looked at; the others wait behind them."""
LONGEST_LOOK_MS = 60_000


class ScheduleDesk(QObject):
    """Chooses what begins and says why the rest waits.

    Args:
        controller: Whose queue it is.
        window: Holds the settings, the menu, the notices and the status line.
        forecasts: Knows what jobs take.

    Attributes:
        retries: Lets failed jobs try again.
        alarms: Tells what is not well.
        queue: Says why jobs wait, and answers the queue dock.
        held: Words on what holds the queue now; "" when nothing does.
        unfit: Returns places that get no job until they were restarted, with why.
        changed: `held` is another.
    """

    changed = Signal(str)

    def __init__(self, controller: Controller, window: MainWindow, forecasts: Forecasts) -> None:
        super().__init__(window)
        self._controller, self._window, self._forecasts = controller, window, forecasts
        self._notice = window.panels.notice
        self._made: Scheduler | None = None
        self._reading: Reading | None = None
        self._anyway: set[str] = set()
        self._freed: set[str] = set()
        self._cuda = False
        self._start_at: float | None = None
        self.retries = RetryDesk(controller, window, self)
        self.alarms = AlarmDesk(controller, window, self)
        self.queue = QueueDesk(controller, window, self)
        self.held = ""
        self.unfit: Callable[[], Mapping[str, str]] = dict
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
            self.queue.tell(self.retries.not_before)
            return []
        jobs = self._waiting()
        snapshot = self._snapshot(jobs.values())
        decided = self.scheduler.decide(snapshot, _now())
        self._tell(decided)
        self.queue.tell(self.retries.not_before, decided, snapshot)
        self.alarms.look(self.scheduler, snapshot, _now())
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
            not_before_unix=self.retries.not_before.get(job.id),
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
        from core.scheduling.snapshot import Mode, Orders

        return Orders(
            modes=dict.fromkeys(self.unfit(), Mode.PAUSED),
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

    def _tell(self, decided: Decided) -> None:
        from core.scheduling.decisions import Free, Wait

        words = [self.unfit().get(hold.place) or hold.words for hold in decided.holds]
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
        self.retries.began(job)
        self.scheduler.began(job.id, place, _now())

    def _on_ended(self, job: Job, ending: Finished | Stopped | Failed) -> None:
        problem = ending.problem if isinstance(ending, Failed) else None
        place = self._controller.engine.place_of(job)
        finished = isinstance(ending, Finished)
        self.scheduler.ended(job.id, place, _now(), problem=problem, finished=finished)
        if isinstance(ending, Failed) and not ending.lost:
            QTimer.singleShot(0, self, partial(self.retries.after, job, place, ending.problem))


def _now() -> Any:
    from core.scheduling.moment import Now

    return Now(time.time(), time.monotonic())


def _quiet(text: str) -> Iterator[Any]:
    """Return the stretch that "22:00-07:00" means; none for ""."""
    from core.scheduling.quiet import Quiet

    if text:
        start, end = text.split("-")
        yield Quiet(time_of_day.fromisoformat(start), time_of_day.fromisoformat(end))

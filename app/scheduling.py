"""When jobs begin: what holds them, and for how long."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer, Signal

from app.affinity import AffinityDesk
from app.alarms import AlarmDesk
from app.controller import Controller
from app.failover import FailoverDesk
from app.forecasts import Forecasts
from app.freeing import FreedAt
from app.noting import Keeper, Notes
from app.ordering import OrderDesk
from app.orphans import OrphanDesk
from app.pausing import PauseDesk
from app.queue_desk import QueueDesk
from app.retrying import RetryDesk
from app.sight import Sight
from app.window import MainWindow
from core.events import Failed, Finished, Stopped
from core.jobs import Job
from core.morning.marks import Mark, note_of

if TYPE_CHECKING:
    from app.foresight import Foresight
    from app.servers import ServersDesk
    from app.timing import TimingDesk
    from app.workflows import WorkflowDesk
    from core.engines.comfy.health import Health
    from core.ledger.read import InLine
    from core.scheduling.decisions import Decided, Decision, Start
    from core.scheduling.scheduler import Scheduler
    from core.scheduling.snapshot import Lane, Snapshot, Waiting
    from widgets.orders import OrdersDialog

LOOKED_THROUGH = 64
"""So many waiting jobs of a place that may begin are looked at; the others wait behind."""
ASK_SECONDS = 2.0
"""So long a job waits at most until it is known which servers have what it needs."""
LONGEST_LOOK_MS = 60_000
SOON_MS = 200
"""So soon after a change of the queue it is looked at again while something holds it."""


class ScheduleDesk(QObject):
    """Chooses what begins and says why the rest waits.

    Args:
        controller: Whose queue it is.
        window: Holds the settings, the menu, the notices and the status line.
        forecasts: Knows what jobs take.

    Attributes:
        retries: Lets failed jobs try again.
        pauses: Pauses and drains single places.
        affinity: Knows which model is loaded where.
        failover: Knows where else a job may run.
        alarms: Tells what is not well.
        queue: Says why jobs wait, and answers the queue dock.
        held: Words on what holds the queue now; "" when nothing does.
        changed: `held` is another.
    """

    changed = Signal(str)

    def __init__(self, controller: Controller, window: MainWindow, forecasts: Forecasts) -> None:
        super().__init__(window)
        self._controller, self._window, self._forecasts = controller, window, forecasts
        self._notice = window.panels.notice
        self._made: Scheduler | None = None
        self._anyway: set[str] = set()
        self._freed: set[str] = set()
        self._closing = False
        self._answered: set[str] = set()
        """Servers that answered since the program began."""
        self.retries = RetryDesk(controller, window, forecasts.need_for, self)
        self.alarms = AlarmDesk(controller, window, self)
        self.pauses = PauseDesk(controller, window, self)
        self.affinity = AffinityDesk(controller, self)
        self.failover = FailoverDesk(controller, window, self)
        self.failover.rank = self._rank
        self.failover.again = partial(self.retries.after, off=True)
        self.sight = Sight(controller, self.pauses, self.affinity, self)
        self.pauses.away = self.sight.away
        self.orders = OrderDesk(controller, window, self.pauses, self.sight, self)
        self.notes = Notes(controller)
        self.failover.note = self.notes.next
        self.orphans = OrphanDesk(controller, window, self)
        self._servers: ServersDesk | None = None
        self._keeper = Keeper(controller)
        self.queue = QueueDesk(controller, window, self)
        self.held = ""
        self._aside: dict[str, str] = {}
        self._aside_as: dict[str, Job | None] = {}
        self._look = QTimer(self, singleShot=True)
        self._look.timeout.connect(controller.go_on)
        controller.choose = self.choose
        controller.job_began.connect(self._on_began)
        controller.job_ended.connect(self._on_ended)
        controller.freeing.connect(self._on_freed)
        controller.closing.connect(self._on_closing)
        controller.queue_changed.connect(self._look_soon)
        controller.paused_changed.connect(lambda on: None if on else self._notice.clear("orders"))
        menus = window.menus
        menus.stop_after.toggled.connect(lambda _: controller.go_on())
        menus.orders.triggered.connect(lambda _=False: self.ask())
        window.panels.queue.priority_requested.connect(
            lambda ids, to: controller.guard(lambda: controller.set_priority(ids, to))
        )
        window.panels.queue.anyway_requested.connect(
            lambda ids: [self._start_anyway(job_id) for job_id in ids]
        )
        window.panels.queue.take_requested.connect(
            lambda ids: [self.orphans.take(job_id) for job_id in ids]
        )
        self.orphans.changed.connect(self._mark)
        self.pauses.changed.connect(self._show_servers)

    def follow(self, servers: ServersDesk, workflows: WorkflowDesk, timing: TimingDesk) -> None:
        """Ask these how servers are, what jobs need and what they take."""
        self._servers = self.sight.servers = servers
        self.failover.follow(servers, workflows)
        self.affinity.workflow = workflows.workflow
        self.affinity.load_seconds = timing.load_seconds
        self.affinity.saved.connect(timing.set_saved)
        timing.foresight, timing.model_of = self.foresight, self.affinity.model_of
        timing.closed = lambda: (self._window.settings.quiet_hours, self.orders.start_at)
        self.changed.connect(lambda _: timing.look_soon())
        self.pauses.changed.connect(timing.look_soon)
        servers.jobs_words = self._jobs_words
        self._window.panels.servers.mode_requested.connect(
            lambda base, mode: self._controller.guard(lambda: self.pauses.set(base, mode))
        )
        servers.health_changed.connect(self._on_health)
        servers.health_changed.connect(self.orphans.heard)

    @property
    def scheduler(self) -> Scheduler:
        """What decides; made with the first job that waits."""
        if self._made is None:
            self._made = self._keeper.load(_now())
        self._made.rules = self.orders.rules()
        return self._made

    # -- choosing ---------------------------------------------------------------

    def choose(self, next_jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs to begin now, of the lanes that are free.

        Args:
            next_jobs: The first waiting job of each of those, as by-hand order has it.
        """
        if not next_jobs and not self._may_spread():
            stops = self._window.menus.stop_after.isChecked() and self._controller.running_jobs
            self._say("stops after the running job" if stops else "")
            self.queue.tell(self.retries.not_before)
            return []
        rows = self._waiting()
        jobs = {row.job.id: row.job for row in rows}
        snapshot = self._snapshot(rows)
        decided = self.scheduler.decide(snapshot, _now())
        self._tell(decided)
        self.queue.tell(self.retries.not_before, decided, snapshot)
        for hold in decided.holds:
            if hold.kind == "depth":
                title, most = self._controller.engine.title_at(hold.place), self.orders.most_depth
                words = f"Nothing was sent while {title} had more than {most} jobs in its queue."
                self.notes.next(hold.place, words)
        self.affinity.reckon(snapshot, self.scheduler.rules.limits)
        self.alarms.look(self.scheduler, self._missed(snapshot), _now())
        looks = (decided.next_look_seconds, self.failover.absences.next_seconds(_now()))
        wanted = [seconds for seconds in looks if seconds is not None]
        if wanted:
            self._look.start(min(LONGEST_LOOK_MS, max(10, round(min(wanted) * 1000))))
        for one in decided.decisions:
            self._carry_out(one, jobs)
        begin = [self._placed(jobs[s.job_id], s) for s in decided.starts if s.job_id in jobs]
        return [job for job in begin if job is not None]

    def _placed(self, job: Job, start: Start) -> Job | None:
        """Return a job as it is to begin: at another server perhaps, and with a note why."""
        title = self._controller.engine.title_at
        named = self._controller.engine.place_of(job)
        if start.place != named:
            placed = self.failover.placed(job, start.place)
            if placed is None:
                return None
            why = self.failover.left(job).get(named, f"{title(named)} is away")
            if not job.anywhere or named in self.failover.left(job):
                self.failover.tell_moved(job, named, start.place, why)
            job = placed
        elif start.words and start.lighter is None:
            self.notes.next(job.id, start.words)
        return self.retries.rungs.lightened(job, start.lighter)

    def _rank(self, job: Job, places: list[str]) -> list[str]:
        """Order servers: where a job fits, where its model is loaded, where more is free."""
        lanes = {lane.place: lane for lane in self.sight.lanes(self._freed)}
        _, need = self._forecasts.need_for(job)
        model = self.affinity.model_of(job)

        def key(place: str) -> tuple[bool, bool, int]:
            lane = lanes[place]
            room = lane.room_bytes
            full = room is not None and need is not None and room < need.median_bytes
            return full, lane.model != model, -(room or 0)

        return sorted(places, key=key)

    def _missed(self, snapshot: Snapshot) -> Snapshot:
        """Return it without the absence of servers that nobody misses: they never answered."""
        from dataclasses import replace

        wanted = {job.places[0] for job in snapshot.waiting} | self._answered
        lanes = [
            lane if lane.place in wanted else replace(lane, reachable=None)
            for lane in snapshot.lanes
        ]
        return replace(snapshot, lanes=lanes)

    def _may_spread(self) -> bool:
        """Whether a lane is free that no waiting job names, but that some may run in."""
        engine = self._controller.engine
        if self._controller.ledger.paused or len(engine.places()) < 3:
            return False
        busy = {engine.lane_of(job) for job in self._controller.running_jobs}
        return bool(engine.lanes().keys() - busy) and any(
            row.job.anywhere or self.failover.absences.given_up(engine.place_of(row.job))
            for row in self._waiting()
        )

    def _waiting(self) -> list[InLine]:
        ledger, engine = self._controller.ledger, self._controller.engine
        lanes = engine.lanes().values()
        # Of each place its own, and past those that cannot begin: a place that is away, or a
        # batch that fits nowhere, must not hide from the others of its lane what waits behind.
        most = LOOKED_THROUGH + len(self._aside) + len(self.retries.not_before)
        rows = {
            row.job.id: row
            for names in lanes
            for name in names
            for row in ledger.places_in([name], most)
        }
        return sorted(rows.values(), key=lambda row: (row.rank, row.position))

    def _snapshot(self, rows: Sequence[InLine]) -> Snapshot:
        from core.scheduling.snapshot import Snapshot

        lanes, now = self.sight.lanes(self._freed), _now()
        broken = {place for place, one in self.scheduler.breakers.items() if not one.allows(now)}
        self.failover.look(lanes, broken, now)
        by_place = {lane.place: lane for lane in lanes}
        waiting = [self._one(row, by_place) for row in rows]
        return Snapshot(waiting, lanes, self.orders.now())

    def _one(self, row: InLine, lanes: Mapping[str, Lane]) -> Waiting:
        from core.scheduling.snapshot import Waiting
        from core.statistics.forecast import Band

        job, model = row.job, self.affinity.model_of(row.job)
        places = self.failover.places_of(job, lanes, model)
        _, need = self._forecasts.need_for(job)
        band = Band(need.low_bytes, need.median_bytes, need.high_bytes) if need else None
        later = self.retries.not_before.get(job.id)
        if not places:  # It is being found out; that is told by a look of its own.
            places, later = (self._controller.engine.place_of(job),), time.time() + ASK_SECONDS
        return Waiting(
            job.id, job.title, places, model, row.priority,
            need=band,
            lighter=self.retries.rungs.lighter(job) if band else (),
            load_seconds=self.affinity.load_seconds(job),
            not_before_unix=later,
            anyway=job.id in self._anyway,
            avoid=tuple(self.failover.left(job)),
        )  # fmt: skip

    def ask(self) -> OrdersDialog:
        """Ask when jobs may begin; it does not block."""
        return self.orders.ask()

    def foresight(self) -> Foresight:
        """Return what will decide when and where jobs begin, for a look at the night."""
        from app.foresight import Foresight
        from core.scheduling.snapshot import Snapshot

        now, lanes = _now(), self.sight.lanes(self._freed)
        holds = self.scheduler.holds(Snapshot((), lanes, self.orders.now()), now)
        return Foresight(
            self._controller.engine, holds, now, self.failover.frozen(lanes),
            self.affinity.model_of, self.retries.not_before, self.scheduler,
        )  # fmt: skip

    # -- carrying out -------------------------------------------------------------

    def _forget_edited(self) -> None:
        """Let go the jobs that were set aside and are others now: a person decided."""
        for job_id in list(self._aside):
            row, before = self._controller.ledger.row(job_id), self._aside_as.get(job_id)
            if row is None or (before is not None and row.job != before):
                del self._aside[job_id]
                self._notice.clear(f"aside {job_id}")
                self._mark()

    def _carry_out(self, one: Decision, jobs: Mapping[str, Job]) -> None:
        from core.scheduling.decisions import Free, Pause, Relieve, SetAside

        match one:
            case Free(place=place):
                engine, jobs = self._controller.engine, self._controller.running_jobs
                # Freeing the local engine ends what runs there; it is never meant to.
                if place not in map(engine.place_of, jobs):
                    self._controller.free(place)
            case Relieve(place=place, taken=taken):
                self.notes.at(place, note_of(Mark.LOW_MEMORY, taken.words))
            case Pause(words=words):
                self._notice.show_text(words, key="orders")
                QTimer.singleShot(0, self, self._stop_now)
            case SetAside(job_id=job_id, problem=problem) if job_id not in self._aside:
                self._aside[job_id] = problem.message
                self._aside_as[job_id] = jobs.get(job_id)
                self._mark()
                anyway = ("Start anyway", partial(self._start_anyway, job_id))
                self._notice.show_problem(problem, (anyway,), f"aside {job_id}", job_id)

    def _stop_now(self) -> None:
        self._controller.guard(lambda: self._controller.set_paused(True))
        self._window.menus.stop_after.setChecked(False)

    def _start_anyway(self, job_id: str) -> None:
        self._anyway.add(job_id)
        self._aside.pop(job_id, None)
        self._mark()
        self._notice.clear(f"aside {job_id}")
        self._controller.go_on()

    def _mark(self) -> None:
        """Show on the rows which jobs wait for a person."""
        self._window.panels.queue.set_choices(self._aside, self.orphans.found)

    def _tell(self, decided: Decided) -> None:
        from core.scheduling.decisions import Free, Wait

        words = [self.orders.unfit().get(hold.place) or hold.words for hold in decided.holds]
        words += [one.words for one in decided.decisions if isinstance(one, Wait | Free)]
        self._say(words[0] if words and not decided.starts else "")

    def _say(self, words: str) -> None:
        if words != self.held:
            self.held = words
            self.changed.emit(words)

    def _jobs_words(self, base: str) -> str:
        """Say why a server gets no jobs, for its row; "" when it does."""
        found = [self.pauses.words(base)]
        if self._made is not None:
            found.append(self._made.breaker(base).brief(_now()))
        return "; ".join(filter(None, found))

    def _show_servers(self) -> None:
        # What a server's row says takes a while to load, and most know no server.
        if self._servers is not None and self._servers.servers:
            self._servers.show_rows()

    # -- what happens ---------------------------------------------------------------

    def _on_closing(self) -> None:
        self._closing = True
        self._look.stop()

    def _look_soon(self) -> None:
        """Look again: what was moved, edited or removed may be what waited, or was in the way."""
        held = self.held or self._aside
        self._forget_edited()
        if held and not self._closing and not 0 <= self._look.remainingTime() <= SOON_MS:
            self._look.start(SOON_MS)

    def _on_health(self, base: str, health: Health) -> None:
        if health.answers:
            self._answered.add(base)
        else:
            self.affinity.forget(base)
        if self._window.panels.queue.model.waiting() and not self._closing:
            self._controller.go_on()

    def _on_freed(self, item: object) -> None:
        if isinstance(item, FreedAt):
            self._freed.add(item.place)
            QTimer.singleShot(0, self, self._controller.go_on)

    def _on_began(self, job: Job) -> None:
        place = self._controller.engine.place_of(job)
        self._freed.discard(place)
        self._anyway.discard(job.id)
        if self._aside.pop(job.id, None) is not None:
            self._mark()
        self.retries.began(job)
        self.scheduler.began(job.id, place, _now())
        self.notes.began(job, place)

    def _on_ended(self, job: Job, ending: Finished | Stopped | Failed) -> None:
        problem = ending.problem if isinstance(ending, Failed) else None
        place = self._controller.engine.place_of(job)
        finished = isinstance(ending, Finished)
        before = self.scheduler.breaker(place).opened
        self.scheduler.ended(job.id, place, _now(), problem=problem, finished=finished)
        breaker = self.scheduler.breaker(place)
        if breaker.opened > before:
            words = breaker.words(self._controller.engine.title_at(place), _now())
            self.notes.of(job.id, note_of(Mark.BREAKER, words))
        self._keeper.keep(self.scheduler, _now())
        self._show_servers()
        if isinstance(ending, Failed) and not ending.lost:
            after = partial(self.retries.after, job, place, ending.problem, off=ending.unsent)
            QTimer.singleShot(0, self, after)


def _now() -> Any:
    from core.scheduling.moment import Now

    return Now(time.time(), time.monotonic())

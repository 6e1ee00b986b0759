"""How long it will still take: said of the running job, of what waits, and of the night."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer

from app.controller import Controller
from app.panels import Panels
from core.events import Event, Failed, Finished, Stopped
from core.jobs import Job
from core.stream.endless import is_endless

if TYPE_CHECKING:
    from app.foresight import Foresight
    from core.timing.eta import Left, Running
    from core.timing.outlook import Busy, Outlook
    from core.timing.past import Past
    from core.timing.planner import Plan
    from widgets.night import NightDialog

FIRST_MS, LOOK_MS = 1500, 400
"""Changes of the queue within this are looked at together; at first the window comes up."""
AGAIN_MS = 15_000
"""While a job runs, what was found ages; it is found anew."""
TICK_MS = 1000
SAY_SECONDS = 0.1
MOST_LOADS = 1000
LEAST_SECONDS = 1.0
"""“At least” less than this says nothing: of what is to come hardly anything is known."""


class TimingDesk(QObject):
    """Tells times. What is reckoned from history is reckoned beside the window.

    Attributes:
        foresight: Returns what decides when and where jobs begin; None before that is known.
        closed: Returns the quiet hours and when the queue starts, as `foresight.shut` takes them.
        model_of: Returns the key of what a job needs loaded; "" where nobody knows.
    """

    def __init__(self, controller: Controller, panels: Panels, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._panels = controller, panels
        self._running: dict[str, tuple[Job, Running]] = {}
        self._held: dict[str, Hashable] = {}
        self._past: Past | None = None
        self._known: Past | None = None
        """The same, kept while it is read anew."""
        self._loads: dict[str, tuple[Job, float | None]] = {}
        self._loads_of: Past | None = None
        self._found: tuple[Outlook, float] | None = None
        self._looking = self._stale = self._stops = False
        self.foresight: Callable[[], Foresight] | None = None
        self.closed: Callable[[], tuple[str, float | None]] = lambda: ("", None)
        self.model_of: Callable[[Job], str] = lambda _: ""
        self._saved_seconds = 0.0
        self._said_at = float("-inf")
        self._dialog: NightDialog | None = None
        self._soon = QTimer(self, interval=FIRST_MS, singleShot=True)
        self._soon.timeout.connect(self._look)
        self._again = QTimer(self, interval=AGAIN_MS)
        self._again.timeout.connect(self._look)
        self._tick = QTimer(self, interval=TICK_MS)
        self._tick.timeout.connect(self._on_tick)
        controller.queue_changed.connect(self._soon.start)
        controller.paused_changed.connect(lambda _: self._show())
        controller.job_began.connect(self._on_began)
        controller.event.connect(self._on_event)
        controller.job_ended.connect(self._on_ended)
        controller.freed.connect(lambda _: self._held.clear())
        panels.queue.night_requested.connect(self.open)

    # -- the running job ------------------------------------------------------

    def _on_began(self, job: Job) -> None:
        from core.timing.eta import Running
        from core.timing.past import LINED_UP

        self._running[job.id] = job, Running(time.monotonic(), lined_up=job.engine in LINED_UP)
        self._tick.start()
        self._again.start()
        self._soon.start()

    def _on_event(self, event: Event) -> None:
        running = self._running.get(event.job_id)
        if running is not None:
            running[1].apply(event)
            # A decode tells of every frame; nobody reads that fast.
            if event.at_seconds - self._said_at >= SAY_SECONDS:
                self._said_at = event.at_seconds
                self._say_left(*running)

    def _on_ended(self, job: Job, ending: Finished | Stopped | Failed) -> None:
        from core.timing.past import kind_of

        self._running.pop(job.id, None)
        lane = self._controller.engine.lane_of(job)
        # After a failure nobody knows what the engine still holds.
        self._held.pop(lane, None)
        if isinstance(ending, Finished):
            self._held[lane] = self.model_of(job) or kind_of(job)
            self._past = None
        if not self._running:
            self._tick.stop()
            self._again.stop()
        self._soon.start()

    def _on_tick(self) -> None:
        for job, running in list(self._running.values()):
            self._say_left(job, running)

    @staticmethod
    def _left(job: Job, running: Running) -> Left | None:
        """Return what a running job still takes; of one without an end nobody knows."""
        return None if is_endless(job.params) else running.left(time.monotonic())

    def _say_left(self, job: Job, running: Running) -> None:
        left = self._left(job, running)
        if left is None or (not left.whole and left.seconds < LEAST_SECONDS):
            self._panels.queue.set_left(job.id, None)
            self._panels.stage.set_left(job.id, "", 0.0)
            return
        from widgets.time_words import duration

        least = "" if left.whole else "> "
        self._panels.queue.set_left(job.id, left.seconds, at_least=not left.whole)
        self._panels.stage.set_left(job.id, f"{least}{duration(left.seconds)} left", left.share)

    def load_seconds(self, job: Job) -> float | None:
        """Return what a job takes longer where its model must be loaded; None if not known."""
        if self._known is None:
            return None
        if self._loads_of is not self._known or len(self._loads) >= MOST_LOADS:
            self._loads_of = self._known
            self._loads.clear()
        known = self._loads.get(job.id)
        if known is None or known[0] != job:
            known = self._loads[job.id] = job, self._load_seconds(self._known, job)
        return known[1]

    def _load_seconds(self, past: Past, job: Job) -> float | None:
        from core.timing.past import asked_for

        fresh, warm = past.loads(asked_for(job))
        if fresh is None or warm is None or fresh == warm:
            return None if fresh is None else fresh.median
        return max(0.0, fresh.median - warm.median)

    def set_saved(self, seconds: float) -> None:
        """Say how much loading is saved by taking jobs of one model together."""
        self._saved_seconds = seconds
        self._show()

    # -- the queue --------------------------------------------------------------

    def look_soon(self) -> None:
        """Something that decides when jobs begin has changed."""
        self._soon.start()

    def _busy(self) -> list[Busy]:
        from core.timing.outlook import Busy

        by_lane: dict[str, tuple[Job, Left | None]] = {}
        for job, running in self._running.values():
            lane = self._controller.engine.lane_of(job)
            by_lane.setdefault(lane, (job, self._left(job, running)))
        found = []
        for name in self._controller.engine.lanes():
            job, left = by_lane.get(name, (None, None))
            model = (self.model_of(job) or None) if job is not None else None
            found.append(Busy(name, job, left, kind=self._held.get(name), model=model))
        return found

    def _look(self) -> None:
        self._soon.setInterval(LOOK_MS)
        if self._looking:
            self._stale = True
            return
        lanes = self._busy()
        idle = not self._running and not self._panels.queue.model.waiting()
        if self._found is None and self._dialog is None and idle:
            return  # Nothing to tell of: history is not even read.
        self._looking, self._stale = True, False
        past, path, at = self._past, self._controller.ledger.store.path, time.time()
        seen = self.foresight() if self.foresight is not None else None
        self._stops = seen is not None and seen.stops
        quiet, start_at = self.closed()

        def work() -> Iterator[object]:
            from app.foresight import shut
            from core.timing.outlook import look

            where = None if seen is None else seen.where
            try:
                yield look(path, lanes, past, where, shut(quiet, start_at, at)), at, past
            finally:
                yield None

        self._controller.run_aside(work, "timing", self._take)

    def _take(self, item: object) -> None:
        if item is None:
            self._looking = False
            if self._stale:
                self._soon.start()
            return
        assert isinstance(item, tuple)
        found, at, asked_with = item
        if self._past is asked_with:
            # Else a job ended meanwhile, and history is read anew.
            self._past = found.past
        self._known = found.past
        self._found = found, at
        for job_id, expected in found.expected.items():
            if job_id in self._running:
                job, running = self._running[job_id]
                running.expect(expected)
                self._say_left(job, running)
        self._show()
        self._ask()

    def _show(self) -> None:
        if self._found is None:
            return
        from widgets import time_words

        (found, at), paused = self._found, self._controller.ledger.paused or self._stops
        self._panels.queue.set_night(found.night, at)
        ready = time_words.ready(found.night, at, paused=paused)
        saved = time_words.saved(self._saved_seconds)
        self._panels.status.set_extra(" · ".join(part for part in (ready, saved) if part))
        if self._dialog is not None:
            self._dialog.show_night(found.night, at, paused=paused)
            self._dialog.show_saved(saved)

    # -- the dialog -------------------------------------------------------------

    def open(self) -> NightDialog:
        """Show when all will be ready, and what to leave for later; it does not block."""
        from widgets.night import NightDialog

        if self._dialog is None:
            dialog = self._dialog = NightDialog(self._panels.queue.window())
            dialog.until_changed.connect(lambda _: self._ask())
            dialog.until_changed.connect(self._panels.queue.finding.set_until)
            dialog.later_requested.connect(self._on_later)
            dialog.remove_requested.connect(self._panels.queue.remove_requested)
            dialog.finished.connect(self._on_closed)
        self._dialog.show()
        self._dialog.activateWindow()
        self._show()
        self._soon.start()
        self._ask()
        return self._dialog

    def _on_closed(self, result: int) -> None:
        del result
        self._dialog = None

    def _ask(self) -> None:
        """Let the plan for the dialog's time be made."""
        if self._dialog is None or self._found is None:
            return
        (found, at), until = self._found, self._dialog.until()

        def work() -> Iterator[object]:
            yield found.plan(until - at), until

        self._controller.run_aside(work, "plan", self._on_plan)

    def _on_plan(self, item: object) -> None:
        assert isinstance(item, tuple)
        plan: Plan = item[0]
        if self._dialog is not None and self._dialog.until() == item[1]:
            self._dialog.show_plan(plan, item[1])

    def _on_later(self, ids: list[str]) -> None:
        controller = self._controller
        if controller.guard(lambda: controller.move(ids, None)):
            count = "1 job" if len(ids) == 1 else f"{len(ids)} jobs"
            self._panels.notice.show_text(
                f"Moved {count} to the end of the queue.",
                (("Undo", lambda: controller.guard(controller.undo)),),
                key="moved",
            )

"""Jobs of servers that are away or dead: they run on another one that has what they need."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer

from app.controller import Controller
from app.engines import COMFY, LOCAL, SERVER
from app.window import MainWindow
from core.errors import Problem
from core.events import Event, Failed, Finished, Stopped, WorkerStarted
from core.jobs import Job, JobState
from core.morning.marks import Mark, note_of

if TYPE_CHECKING:
    from app.servers import ServersDesk
    from app.workflows import WorkflowDesk
    from core.scheduling.failover import Absences
    from core.scheduling.moment import Now
    from core.scheduling.snapshot import Lane

_log = logging.getLogger(__name__)

MOVED = "moved"
"""Key of the notice about jobs that run elsewhere."""


class FailoverDesk(QObject):
    """Says where a job may run, and moves it when its server is gone.

    Args:
        controller: Whose jobs they are.
        window: Holds the settings and the notices.

    Attributes:
        absences: The servers that are away, and how often they were tried.
        note: Notes something of a job's next attempt.
        again: Lets a job that surely runs no more be tried again; says whether it will be.
        rank: Orders servers by how well a job would run there.
    """

    def __init__(self, controller: Controller, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._window = controller, window
        self._notice = window.panels.notice
        self._servers: ServersDesk | None = None
        self._workflows: WorkflowDesk | None = None
        self._made: Absences | None = None
        self._can: dict[tuple[object, ...], bool | None] = {}
        self._allowed: set[str] = set()
        """Away servers whose jobs a person lets run elsewhere."""
        self._offered: set[str] = set()
        self._left: dict[str, dict[str, str]] = {}
        """Servers that a job was moved from, and why: it does not go back there by itself."""
        self._moved: set[str] = set()
        """Jobs that the notice shown tells of."""
        self._processes: dict[str, int] = {}
        self.note: Callable[[str, str], None] = lambda *_: None
        self.again: Callable[[Job, str, Problem], bool] = lambda *_: False
        self.rank: Callable[[Job, list[str]], list[str]] = lambda _, places: places
        controller.event.connect(self._on_event)
        controller.job_ended.connect(self._on_ended)

    def follow(self, servers: ServersDesk, workflows: WorkflowDesk) -> None:
        """Ask these what servers have and what jobs need."""
        self._servers, self._workflows = servers, workflows
        servers.scanned.connect(lambda _: self._can.clear())
        workflows.offered.connect(self._can.clear)

    @property
    def absences(self) -> Absences:
        """Made with the first look."""
        if self._made is None:
            from core.scheduling.failover import Absences

            self._made = Absences()
        return self._made

    # -- looks ------------------------------------------------------------------

    def look(self, lanes: list[Lane], broken: set[str], now: Now) -> None:
        """Take which servers are away; try them again, and tell when that was in vain.

        Args:
            lanes: All places as they are.
            broken: Places whose breaker lets nothing through.
            now: The time.
        """
        from core.scheduling.failover import Move

        away = {lane.place for lane in lanes if lane.reachable is False} | (broken - {LOCAL})
        sure = {lane.place for lane in lanes if lane.place in broken or self._dead(lane.place)}
        for step in self.absences.look(away, now, sure):
            title = self._controller.engine.title_at(step.place)
            if step.move is Move.TRY and self._servers is not None:
                _log.info("%s is away: try %d", title, step.number)
                watched = self._servers.watched(step.place)
                if watched is not None:
                    watched.look_soon()
            elif step.move is Move.ALERT:
                _log.warning("%s did not answer %d times", title, step.number)
            elif step.move is Move.BACK:
                self._allowed.discard(step.place)
                self._offered.discard(step.place)
                self._notice.clear(f"away {step.place}")

    def _dead(self, place: str) -> bool:
        """Whether the process that a server was is surely gone."""
        watched = self._servers.watched(place) if self._servers is not None else None
        return watched is not None and watched.trouble is not None and not watched.health.answers

    # -- where a job may run ------------------------------------------------------

    def places_of(self, job: Job, lanes: Mapping[str, Lane], model: str) -> tuple[str, ...]:
        """Return where a waiting job may run, preferred first; () until that is known."""
        own = self._controller.engine.place_of(job)
        if job.engine != COMFY or not (job.anywhere or self.absences.given_up(own)):
            return (own,)
        able = {
            place: self.can(job, place)
            for place, lane in lanes.items()
            if place != LOCAL
            and (place != own or job.anywhere)
            and lane.reachable is not False
            and not self.absences.given_up(place)
        }
        if None in able.values():
            return ()
        others = [place for place, good in able.items() if good and place != own]
        if not job.anywhere and not self._moves(own):
            if others:
                self._offer(own, others)
            return (own,)
        from core.scheduling.failover import places_of

        stays = not job.anywhere or able.get(own) is True
        found = places_of(
            own if stays else "",
            others,
            anywhere=job.anywhere,
            moves=not job.anywhere,
            loaded={place: bool(model) and lanes[place].model == model for place in others},
            free_bytes={place: lanes[place].room_bytes for place in others},
        )
        return found or (own,)

    def frozen(self, lanes: Sequence[Lane]) -> Callable[[Job], tuple[str, ...]]:
        """Return `places_of` as it is known now, for any thread: nothing is asked."""
        digests = {}
        for lane in lanes:
            scan = self._servers.scan_of(lane.place) if self._servers is not None else None
            there = lane.reachable is not False and not self.absences.given_up(lane.place)
            if scan is not None and there:
                digests[lane.place] = scan.digest
        can, engine = dict(self._can), self._controller.engine
        moving = {lane.place for lane in lanes if self._moves(lane.place)}

        def places_of(job: Job) -> tuple[str, ...]:
            own = engine.place_of(job)
            if job.engine != COMFY or not (job.anywhere or own in moving):
                return (own,)
            named = _named(job)
            able = [one for one, has in digests.items() if can.get((one, has, job.family, *named))]
            return tuple(sorted(able, key=lambda one: one != own)) or (own,)

        return places_of

    def _moves(self, own: str) -> bool:
        if not self.absences.given_up(own):
            return False
        return self._window.settings.fail_over == "always" or own in self._allowed

    def left(self, job: Job) -> Mapping[str, str]:
        """Return the servers that a job was moved from, with why."""
        return self._left.get(job.id, {})

    def can(self, job: Job, base: str) -> bool | None:
        """Say whether a server has what a job needs; None while that is found out beside."""
        question = self._question(job, base)
        if question is None:
            return False
        key, ask = question
        if key not in self._can:
            self._can[key] = None

            def look() -> Iterator[object]:
                yield ask()

            def take(good: object) -> None:
                self._can[key] = good is True
                self._controller.go_on()

            self._controller.run_aside(look, "elsewhere", take)
        return self._can[key]

    def _question(
        self, job: Job, base: str
    ) -> tuple[tuple[object, ...], Callable[[], bool]] | None:
        """Return what tells whether a server can run a job, and a key for the answer."""
        if self._servers is None or self._workflows is None:
            return None
        scan, known = self._servers.scan_of(base), self._workflows.known
        workflow = self._workflows.workflow(job.family)
        if scan is None or known is None or workflow is None:
            return None

        def ask() -> bool:
            from core.engines.comfy.ready import readiness

            device = scan.stats.devices[0] if scan.stats.has_gpu else None
            try:
                found = readiness(
                    workflow, scan.info, scan.folders, known=known, params=job.params,
                    vram_total_bytes=device.vram_total_bytes if device else None,
                )  # fmt: skip
            except Exception as error:  # noqa: BLE001 - what a server tells may hold anything
                _log.info("not known whether %s can run %s: %s", base, job.family, error)
                return False
            return found.ready and found.vram_ok is not False

        return (base, scan.digest, job.family, *_named(job)), ask

    def _offer(self, place: str, others: list[str]) -> None:
        """Ask once whether the jobs of a server that is away shall run elsewhere."""
        if place in self._offered:
            return
        self._offered.add(place)
        engine = self._controller.engine
        text = f"{engine.title_at(place)} is away, and jobs wait for it."
        run = (f"Run on {engine.title_at(others[0])}", partial(self._allow, place))
        self._notice.show_text(text, (run,), "warning", f"away {place}")

    def _allow(self, place: str) -> None:
        self._allowed.add(place)
        self._notice.clear(f"away {place}")
        self._controller.go_on()

    def placed(self, job: Job, place: str) -> Job | None:
        """Write down that a waiting job goes to another server; None when it is too late.

        Before it begins: whoever follows it after a restart must ask the right server.
        """
        edited = replace(job, params={**job.params, SERVER: place})
        done = self._controller.guard(lambda: self._controller.ledger.edit(job.id, edited))
        return edited if done else None

    # -- jobs under which a server died -----------------------------------------------

    def _on_event(self, event: Event) -> None:
        if isinstance(event, WorkerStarted) and event.pid:
            self._processes[event.job_id] = event.pid

    def _on_ended(self, job: Job, ending: Finished | Stopped | Failed) -> None:
        pid = self._processes.pop(job.id, None)
        if isinstance(ending, Finished):
            self._left.pop(job.id, None)
        if job.engine != COMFY or not isinstance(ending, Failed) or not ending.lost:
            return
        place = self._controller.engine.place_of(job)
        if place in self._left.get(job.id, ()):
            return  # Once is enough: this one needs a person.
        QTimer.singleShot(0, self, partial(self._after_loss, job, place, pid, ending.problem))

    def _after_loss(self, job: Job, place: str, pid: int | None, problem: Problem) -> None:
        """Move a job whose server died, or ask; whoever only went silent may still run it."""
        engine = self._controller.engine
        row = self._controller.ledger.row(job.id)
        if row is None or row.state is not JobState.LOST:
            return  # A person was faster.
        others = [
            one
            for one in engine.comfy()
            if one != place and self._answers(one) and self._can_now(job, one)
        ]
        sure = pid is not None and _is_gone(pid)
        moves = job.anywhere or self._window.settings.fail_over == "always"
        if sure and not (others and moves) and self.again(job, place, problem):
            return  # It waits for its server, and as others that do may be let run elsewhere.
        if not others:
            return
        others = self.rank(job, others)
        if sure and moves:
            self.move(job, place, others[0], f"{engine.title_at(place)} died while it ran")
            return
        why = "" if sure else " It may still run there: wait until it answers if you can."
        run = (
            f"Run on {engine.title_at(others[0])}",
            partial(self.move, job, place, others[0], "a person moved it"),
        )
        self._notice.show_text(
            f"{problem.message}{why}", (run,), "warning", f"lost {job.id}", jobs=[job.id]
        )

    def tell_moved(self, job: Job, place: str, other: str, why: str) -> None:
        """Note and say that a job runs elsewhere than it was meant to."""
        title = self._controller.engine.title_at
        words = f"from {title(place)} to {title(other)}: {why}"
        self.note(job.id, note_of(Mark.FAILOVER, words))
        if not self._notice.holds(MOVED):
            self._moved.clear()  # What was told before has been read.
        self._moved.add(job.id)
        count, text = len(self._moved), f"“{job.title}” moved {words}."
        text = text if count == 1 else f"{count} jobs moved, the last of them: {text}"
        self._notice.show_text(text, (), "warning", MOVED)

    def _can_now(self, job: Job, base: str) -> bool:
        """Say the same as `can` at once, which takes some milliseconds: losses are rare."""
        question = self._question(job, base)
        return question is not None and question[1]()

    def _answers(self, base: str) -> bool:
        health = self._servers.health(base) if self._servers is not None else None
        return health is not None and health.answers and not self.absences.given_up(base)

    def move(self, job: Job, place: str, other: str, why: str) -> None:
        """Let a lost job run anew at another server, as the next one there."""
        controller = self._controller
        edited = replace(job, params={**job.params, SERVER: other})

        def move() -> None:
            controller.ledger.retry([job.id], top=True)
            if not job.anywhere:  # Else where it goes is decided when it begins.
                controller.ledger.edit(job.id, edited)

        if not controller.guard(move):
            return
        self._left.setdefault(job.id, {})[place] = why
        self._notice.clear(f"lost {job.id}")
        if not job.anywhere:
            self.tell_moved(job, place, other, why)
        controller.queue_changed.emit()
        controller.go_on()


def _named(job: Job) -> list[tuple[str, object]]:
    """Return the parameters that may name files, as a part of a key."""
    words = ((name, value) for name, value in job.params.items() if isinstance(value, str))
    return sorted(pair for pair in words if pair[0] not in (SERVER, "prompt", "negative"))


def _is_gone(pid: int) -> bool:
    """Say whether a process of this machine runs no more."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False

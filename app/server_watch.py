"""One known server: looked at every two seconds, scanned, started again when it crashed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal

from app.signing_in import signed_by
from core.engines.comfy.answers import Queue
from core.engines.comfy.backoff import Backoff
from core.engines.comfy.health import Doctor, Health, State
from core.engines.comfy.known import KnownServer
from core.engines.comfy.process import ServerProcess, stop_other
from core.engines.comfy.scan import Scan, scan
from core.engines.comfy.server_log import Line, why_it_ended
from core.engines.comfy.trees import created_at, is_same, listener, running
from core.errors import Category, Problem, ProblemError, problem_from

if TYPE_CHECKING:
    from app.controller import Controller

LOOK_MS = 2_000
OFFLINE_MS = 10_000
STARTING_MS = 500
SCAN_EVERY_SECONDS = 60.0
SCAN_AGAIN_SECONDS = 10.0
START_SECONDS = 300.0
CLOSE_SECONDS = 1.5
SEEK_SECONDS = 20.0
"""Between two looks through all processes for the one that somebody else started."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look showed.

    Attributes:
        ended: How its process ended by itself, "" when it did not.
        tail: The end of its log then.
        adopted: A process of an earlier start of Framedeck was found.
        moves: How often it had been started or stopped when the look began.
    """

    health: Health
    ended: str = ""
    tail: tuple[Line, ...] = ()
    adopted: bool = False
    moves: int = 0


class Watched(QObject):
    """Watches one server. Nothing here asks it or the disk in the window's thread.

    Args:
        known: The server.
        process: Its process, if it is one of this machine.
        controller: Runs what takes time.
        parent: Owner.

    Attributes:
        queue: What ran and waited on it when it answered last.
        trouble: Why it was last not started, or ended; None since it was told to start.
        changed: Its health, or what is done with it.
        scanned: A Scan, when nodes or files are others than before.
        crashed: A Problem, and the seconds until it is started again or None.
        failed: A Problem: it could not be started or stopped.
    """

    changed = Signal()
    scanned = Signal(object)
    crashed = Signal(object, object)
    failed = Signal(object)

    def __init__(
        self, known: KnownServer, process: ServerProcess, controller: Controller, parent: QObject
    ) -> None:
        super().__init__(parent)
        self.known = known
        self.process = process
        self.health = Health(known.base, State.OFFLINE)
        self.looked = False
        self.doing: State | None = None
        self.scan: Scan | None = None
        self.trouble: Problem | None = None
        self.queue = Queue()
        self._controller = controller
        self._doctor = Doctor(known.base, sign_in=self._sign_in)
        self._backoff = Backoff()
        self._closed = threading.Event()
        self._looking = self._scanning = self._first = False
        self._scan_at = float("-inf")
        self._wait_ms = LOOK_MS
        self._wanted = self._proved = False
        self._started_at = 0.0
        self._moves = 0
        self._other: tuple[int, float] | None = None
        self._sought_at = float("-inf")
        self._timer = QTimer(self, singleShot=True)
        self._timer.timeout.connect(self._look)
        self._again = QTimer(self, singleShot=True)
        self._again.timeout.connect(self._start_again)

    def _sign_in(self) -> str:
        return signed_by(self._controller.vault, self.known)()

    @property
    def state(self) -> State:
        """What it does, or what is done with it."""
        return self.doing or self.health.state

    @property
    def is_running(self) -> bool:
        """Whether prompts run on it or wait there."""
        return self.health.state is State.RUNNING

    @property
    def is_stuck(self) -> bool:
        """Whether it answers while nothing runs, and nothing is done about it yet."""
        return self.health.state is State.STUCK and self.doing is None

    @property
    def given_up(self) -> bool:
        """Whether nothing is done any more to have it run; may be asked from any thread."""
        return self.doing is None and not self._wanted

    @property
    def seconds_to_start(self) -> float | None:
        """Until it is started again after a crash; None when it is not."""
        return self._again.remainingTime() / 1_000 if self._again.isActive() else None

    # -- looking --------------------------------------------------------------

    def begin(self) -> None:
        """Begin to look."""
        self._look()

    def look_soon(self) -> None:
        """Look now instead of later."""
        self._wait_ms = LOOK_MS
        self._timer.start(0)

    def _look(self) -> None:
        if self._looking or self._closed.is_set():
            return
        self._looking = True
        self._controller.run_aside(self._looks, "server health", self._on_look)

    def _looks(self) -> Iterator[object]:
        moves = self._moves
        try:
            adopted = not self._first and self.process.adopt()
            self._first = True
            health = self._doctor.look()
            moving = self.doing is State.STOPPING
            ended = "" if moving else self.process.ended()
            tail = tuple(self.process.log.read()[-60:]) if ended else ()
            pid = self.process.pid or self._seen(health)
            yield _Look(replace(health, pid=pid), ended, tail, adopted, moves)
        except Exception as error:  # noqa: BLE001 - a look that breaks must not be the last
            problem = problem_from(error)
            yield _Look(Health(self.known.base, State.OFFLINE, problem=problem), moves=moves)

    def _seen(self, health: Health) -> int | None:
        """Return the process of a ComfyUI of this machine that somebody else started."""
        if not health.answers or not self.known.is_local:
            self._other = None
        elif self._other is None or not is_same(*self._other):
            self._other = None
            if monotonic() - self._sought_at > SEEK_SECONDS:
                self._sought_at = monotonic()
                found = (each.pid for each in running() if each.port == self.known.port)
                pid = next(found, None)
                created = None if pid is None else created_at(pid)
                self._other = None if pid is None or created is None else (pid, created)
        return None if self._other is None else self._other[0]

    def _on_look(self, look: object) -> None:
        assert isinstance(look, _Look)
        self._looking = False
        if self._closed.is_set():
            return
        if look.moves != self._moves:
            self.look_soon()  # What it saw was before that.
            return
        self.looked = True
        self.health = look.health
        if look.adopted:
            self._wanted = self._proved = True
        if look.health.answers:
            self.queue = look.health.queue  # Kept while it is silent.
            self._wait_ms = LOOK_MS
            if self.doing is State.STARTING:
                self.doing, self._proved = None, True
            self._scan_if_due()
        elif self.doing is State.STARTING:
            self._wait_ms = STARTING_MS
            if monotonic() - self._started_at > START_SECONDS:
                self.doing = None
        else:
            self._wait_ms = min(OFFLINE_MS, max(LOOK_MS, self._wait_ms * 3 // 2))
        if look.ended:
            self._on_crash(look.ended, look.tail)
        self._timer.start(self._wait_ms)
        self.changed.emit()

    # -- scanning -------------------------------------------------------------

    def rescan(self) -> None:
        """Ask the server what it has as soon as it answers."""
        self._scan_at = float("-inf")
        self._scan_if_due()

    def _scan_if_due(self) -> None:
        busy = self.health.state is State.RUNNING and self.scan is not None
        due = monotonic() - self._scan_at >= SCAN_EVERY_SECONDS
        if not due or busy or self._scanning or not self.health.answers or self._closed.is_set():
            return
        self._scanning, self._scan_at = True, monotonic()
        self._controller.run_aside(self._scans, "server scan", self._on_scan)

    def _scans(self) -> Iterator[object]:
        try:
            yield scan(self.known, self.scan, stopped=self._closed.is_set, sign_in=self._sign_in)
        except Exception as error:  # noqa: BLE001 - a scan that breaks must not be the last
            yield problem_from(error)

    def _on_scan(self, found: object) -> None:
        self._scanning = False
        if not isinstance(found, Scan):
            # Sooner than usual: without it nobody knows what the server has.
            self._scan_at = monotonic() - SCAN_EVERY_SECONDS + SCAN_AGAIN_SECONDS
            return
        new = self.scan is None or self.scan.digest != found.digest
        self.scan = found
        if new and not self._closed.is_set():
            self.scanned.emit(found)

    # -- its process ------------------------------------------------------------

    @property
    def can_start(self) -> bool:
        """Whether Framedeck may start it now."""
        return bool(self.known.folder) and self.doing is None and not self.health.answers

    @property
    def can_stop(self) -> bool:
        """Whether Framedeck may stop it now."""
        there = self.health.answers or self.health.pid is not None
        ours = self.process.was_started or bool(self.known.folder)
        return self.doing is not State.STOPPING and ours and (there or self._again.isActive())

    @property
    def can_restart(self) -> bool:
        """Whether Framedeck may restart it now."""
        return bool(self.known.folder) and self.doing is None and self.can_stop

    def start(self) -> None:
        """Start it; what comes of it is told by `changed` or `failed`."""
        self._wanted, self._proved = True, False
        self._backoff.forget()
        self._again.stop()
        self._move(State.STARTING, self._start)

    def stop(self) -> None:
        """Stop it and all that it started; it is not started again."""
        self._wanted = False
        self._again.stop()
        self._move(State.STOPPING, self._stop)

    def restart(self) -> None:
        """Stop it and start it again, whoever started it."""
        self._wanted, self._proved = True, False
        self._backoff.forget()
        self._again.stop()

        def both() -> None:
            if self.process.was_started or listener(self.known.port) is not None:
                self._stop()
            self._start()

        self._move(State.STOPPING, both, State.STARTING)

    def _start_again(self) -> None:
        if self._wanted and not self._closed.is_set():
            self._move(State.STARTING, self._start)

    def _start(self) -> None:
        self.process.start(self.known)

    def _stop(self) -> None:
        if self.process.was_started:
            self.process.stop()
        else:
            stop_other(self.known)

    def _move(self, doing: State, work: Callable[[], None], then: State | None = None) -> None:
        self.doing, self.trouble = doing, None
        self._moves += 1
        self._started_at = monotonic()

        def source() -> Iterator[object]:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - told to the person
                expected = isinstance(error, ProblemError)
                yield error.problem if expected else problem_from(error)
                return
            yield None

        def done(problem: object) -> None:
            self._moves += 1
            self._started_at = monotonic()
            if isinstance(problem, Problem):
                self.doing, self._wanted, self.trouble = None, False, problem
                self.failed.emit(problem)
            else:
                self.doing = then or (State.STARTING if doing is State.STARTING else None)
            if doing is State.STOPPING:
                self._doctor.forget()
                self.queue = Queue()
            self.look_soon()
            self.changed.emit()

        self._controller.run_aside(source, "server process", done)
        self.changed.emit()

    def _on_crash(self, how: str, tail: tuple[Line, ...]) -> None:
        self.doing = None
        problem = why_it_ended(self.known.name, how, tail)
        wait = None
        if self._wanted and self._proved:
            wait = self._backoff.crashed(monotonic())
            if wait is None:
                problem = _too_often(problem, self.known.name)
        self._wanted, self.trouble = wait is not None, problem
        if wait is not None:
            self._again.start(round(wait * 1_000))
        self.crashed.emit(problem, wait)

    # -- end ------------------------------------------------------------------

    def forget(self) -> None:
        """Watch it no longer; it goes on as it is."""
        self._closed.set()
        self._timer.stop()
        self._again.stop()

    def close(self, *, keep: bool) -> None:
        """Watch it no longer, and end its process unless `keep`; bounded."""
        self.forget()
        if keep or self.known.keep_running:
            self.process.let_go()
        elif self.doing is not State.STOPPING:  # Else its pump does so, and is waited for.
            self._controller.guard(lambda: self.process.stop(CLOSE_SECONDS))


def _too_often(problem: Problem, name: str) -> Problem:
    return Problem(
        Category.WORKER_UNAVAILABLE,
        f"{name} crashes again and again and is not started any more. {problem.message}",
        problem.hint,
        problem.details,
    )

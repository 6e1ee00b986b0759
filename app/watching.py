"""What the running job is doing: a word in the queue, a notice when it needs a hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject

from app.controller import Controller
from app.panels import Panels
from app.rooms import card_of, held_bytes, role_of
from core.events import Event, Failed, Finished, MemoryRead, Noted, PhaseStarted, Stopped
from core.gpu.readings import Reading
from core.gpu.simulated import DRIVER
from core.jobs import Job, Phase
from core.statistics.classify import (
    DEFAULT,
    Far,
    Heard,
    Judgement,
    Sign,
    State,
    classify,
    classify_far,
    sign_of,
)

if TYPE_CHECKING:
    from core.recorder.usual import Usual

KEY = "judged"
SIGN_SECONDS, JUDGE_SECONDS = 0.45, 0.95
FIRST_SECONDS = 3.0
"""Of a job of which so little is known, nothing is said."""
SURE = 3
"""So many equal judgements in a row are worth a notice."""
TONES = {
    State.WORKING: "",
    State.SLOW: "warning",
    State.SPILLING: "warning",
    State.STUCK: "danger",
    State.DEAD: "danger",
}
_NEXT = {
    State.STUCK: "Stop it and retry; if it sticks again, free the memory first.",
    State.SPILLING: (
        "It goes on, but slowly: stop what else holds memory of the card, or stop the job and "
        "make it smaller (fewer frames, a smaller size, tiling on)."
    ),
}


class StateDesk(QObject):
    """Judges the running job once a second by its events and readings. It stops nothing.

    Args:
        controller: Whose job is watched.
        panels: Where it is said.
        cpu: Returns percent of one core that a process used since the last call,
            None when that cannot be told.

    Attributes:
        far: Returns what the server of a job says, where that is another machine's, of which
            nothing is read here; None for a job of this machine.
        judgement: What was found last of the running job, None before.
    """

    def __init__(
        self,
        controller: Controller,
        panels: Panels,
        parent: QObject,
        cpu: Callable[[int], float | None] | None = None,
    ) -> None:
        super().__init__(parent)
        self._controller, self._panels = controller, panels
        self._cpu = cpu or Cpu()
        self._usual: Usual | None = None
        self.far: Callable[[Job], Far | None] = lambda _: None
        self._begin(None)
        controller.job_began.connect(self._on_began)
        controller.event.connect(self._on_event)
        controller.job_ended.connect(self._on_ended)
        controller.reading.connect(self._on_reading)

    # -- what comes in --------------------------------------------------------

    def _begin(self, job: Job | None) -> None:
        self._job = job
        self._phase: Phase | None = None
        self._heard_at: float | None = None
        self._first_at: float | None = None
        self._gaps: dict[Phase, float] = {}
        self._signs: deque[Sign] = deque(maxlen=round(2 * DEFAULT.quiet_seconds / SIGN_SECONDS))
        self._judged_at = float("-inf")
        self._far: Far | None = None
        self._same: tuple[State | None, int] = None, 0
        self.judgement: Judgement | None = None

    def _on_began(self, job: Job) -> None:
        self._begin(job)
        self._usual = None
        ledger = self._controller.ledger.store.path

        def read() -> Iterator[object]:
            from core.recorder.usual import usual_of

            yield job.id, usual_of(ledger, job.recipe)

        def take(item: Any) -> None:
            if self._job is not None and self._job.id == item[0]:
                self._usual = item[1]

        self._controller.run_aside(read, "usual", take)

    def _on_event(self, event: Event) -> None:
        # Memory is told by a clock of its own, whether or not the job goes on.
        if self._job is None or isinstance(event, MemoryRead | Noted):
            return
        if event.job_id != self._job.id:
            return  # One that waited to be followed was cancelled.
        if isinstance(event, PhaseStarted):
            self._phase = event.phase
        elif self._heard_at is not None and self._phase is not None:
            gap = event.at_seconds - self._heard_at
            self._gaps[self._phase] = max(gap, self._gaps.get(self._phase, 0.0))
        self._heard_at = event.at_seconds

    def _on_ended(self, job: Job, ending: Finished | Stopped | Failed) -> None:  # noqa: ARG002
        if self._job is not None:
            self._panels.queue.set_doing(self._job.id, "", "", "")
            self._panels.notice.clear(KEY)
        self._begin(None)

    def _on_reading(self, reading: Reading) -> None:
        job = self._job
        if job is None:
            return
        if self._first_at is None:
            self._first_at = reading.at_seconds
        if reading.at_seconds - self._judged_at >= JUDGE_SECONDS:
            # What is read here tells nothing of another machine's card.
            self._far = self.far(job)
        due = not self._signs or reading.at_seconds - self._signs[-1].at_seconds >= SIGN_SECONDS
        if due and self._far is None:
            pid = self._controller.engine.pid
            cpu = None if pid is None else self._cpu(pid)
            self._signs.append(sign_of(reading, device_of(reading, job), cpu))
        if reading.at_seconds - self._judged_at >= JUDGE_SECONDS:
            self._judged_at = reading.at_seconds
            if reading.at_seconds - self._first_at >= FIRST_SECONDS:
                self._judge(job, reading.at_seconds)

    def signs(self) -> tuple[Sign, ...]:
        """Return what was read while the running job ran, oldest first; from any thread."""
        return tuple(self._signs)

    def usual_decode_seconds(self, job: Job) -> float | None:
        """Return the longest usual gap between events of a job's decode; from any thread."""
        running, usual = self._job, self._usual
        if usual is None or running is None or running.id != job.id:
            return None
        return usual.p99_seconds.get(Phase.DECODE)

    # -- what it comes to -------------------------------------------------------

    def _judge(self, job: Job, now: float) -> None:
        phase, usual = self._phase, self._usual
        known = usual.p99_seconds.get(phase) if usual is not None and phase is not None else None
        seen = self._gaps.get(phase) if phase is not None else None
        if phase is Phase.SAMPLE and seen is not None:
            # This job's own steps tell more than those of smaller ones.
            known = max(known or 0.0, seen)
        watts = usual.watts.get(phase) if usual is not None and phase is not None else None
        since = now - (self._heard_at if self._heard_at is not None else self._first_at or now)
        # A worker that starts has no process yet, and one that died ends the job by itself.
        heard = Heard(phase, max(0.0, since), known, watts)
        far = self._far
        found = classify(heard, self._signs) if far is None else classify_far(heard, far)
        self.judgement = found
        if found is None:
            if self._same[0] is not None:
                self._same = None, 0
                self._panels.queue.set_doing(job.id, "", "", "")
                self._panels.notice.clear(KEY)
            return
        before, count = self._same
        self._same = found.state, count + 1 if found.state is before else 1
        self._panels.queue.set_doing(job.id, found.state.value, TONES[found.state], found.reason)
        if self._same[1] == SURE:
            self._notify(job, found)

    def _notify(self, job: Job, found: Judgement) -> None:
        step = _NEXT.get(found.state)
        if step is None:
            self._panels.notice.clear(KEY)
            return
        guard, cancel = self._controller.guard, self._controller.cancel
        stop = ("Stop it", lambda: guard(lambda: cancel([job.id])))
        text = f"“{job.title}” seems to be {found.state.value}. {found.reason} {step}"
        self._panels.notice.show_text(text, (stop,), TONES[found.state], KEY)


class Cpu:
    """Reads how busy a process is."""

    def __init__(self) -> None:
        self._process: Any = None

    def __call__(self, pid: int) -> float | None:
        """Return percent of one core since the last call, None at first or when it is gone."""
        import psutil

        try:
            if self._process is None or self._process.pid != pid:
                self._process = psutil.Process(pid)
                self._process.cpu_percent(None)
                return None
            return float(self._process.cpu_percent(None))
        except psutil.Error:
            self._process = None
            return None


def device_of(reading: Reading, job: Job) -> int:
    """Return the GPU whose readings tell of the job, -1 for none.

    A job of our own engine that holds no memory of any card computes elsewhere,
    so what the card does is another program's doing; a trace plays its part.
    """
    device = card_of(reading, role_of(job.engine))
    if device is None:
        return -1
    ours = job.engine == "local" and reading.driver != DRIVER
    return -1 if ours and not held_bytes(device) else device.index

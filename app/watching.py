"""What running jobs are doing: a word in the queue, a notice when it needs a hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from app.controller import Controller
from app.panels import Panels
from app.pulse import Beat, Pulse
from app.rooms import LOCAL, card_of, held_bytes, role_of
from core.events import Event, Failed, Finished, MemoryRead, Noted, PhaseStarted, Stopped
from core.gpu.readings import Reading
from core.gpu.simulated import DRIVER
from core.jobs import Job, Phase
from core.statistics.classify import (
    DEFAULT,
    Far,
    Heard,
    Judgement,
    Limits,
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


class _Watch:
    """What is known of one running job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.usual: Usual | None = None
        self.phase: Phase | None = None
        self.heard_at: float | None = None
        self.first_at: float | None = None
        self.vram = False
        self.waits = job.engine != LOCAL
        self.gaps: dict[Phase, float] = {}
        self.signs: deque[Sign] = deque(maxlen=round(1.2 * DEFAULT.still_seconds / SIGN_SECONDS))
        self.judged_at = float("-inf")
        self.far: Far | None = None
        self.same: tuple[State | None, int] = None, 0
        self.judgement: Judgement | None = None

    def take(self, event: Event) -> None:
        """Take one event of the job."""
        if isinstance(event, PhaseStarted):
            self.phase = event.phase
        elif self.heard_at is not None and self.phase is not None:
            gap = event.at_seconds - self.heard_at
            self.gaps[self.phase] = max(gap, self.gaps.get(self.phase, 0.0))
        self.heard_at = event.at_seconds

    def judge(self, now: float, limits: Limits) -> Judgement | None:
        """Say what the job is doing, None where that cannot be told."""
        phase, usual = self.phase, self.usual
        known = usual.p99_seconds.get(phase) if usual is not None and phase is not None else None
        seen = self.gaps.get(phase) if phase is not None else None
        if phase is Phase.SAMPLE and seen is not None:
            # This job's own steps tell more than those of smaller ones.
            known = max(known or 0.0, seen)
        watts = usual.watts.get(phase) if usual is not None and phase is not None else None
        since = now - (self.heard_at if self.heard_at is not None else self.first_at or now)
        # A worker that starts has no process yet, and one that died ends the job by itself.
        heard = Heard(phase, max(0.0, since), known, watts)
        far = self.far
        if far is not None:
            self.judgement = classify_far(heard, far, limits)
        elif phase is None and self.waits:
            self.judgement = None  # Its server may have others before it.
        else:
            self.judgement = classify(heard, self.signs, limits)
        return self.judgement


class StateDesk(QObject):
    """Judges the running jobs once a second by their events and readings. It stops nothing.

    Args:
        controller: Whose jobs are watched.
        panels: Where it is said.
        pulse: Reads the process of a job; one is made for each by default.

    Signals:
        judged: A Job, its Judgement or None where that cannot be told, and the time.

    Attributes:
        limits: Where the lines between the states are drawn.
        acts: Asked of a Job that is stuck: whether somebody does something about it and
            tells of that.
        far: Returns what the server of a job says, where that is another machine's, of which
            nothing is read here; None for a job of this machine.
    """

    judged = Signal(object, object, float)

    def __init__(
        self,
        controller: Controller,
        panels: Panels,
        parent: QObject,
        pulse: Callable[[int], Beat] | None = None,
    ) -> None:
        super().__init__(parent)
        self._controller, self._panels = controller, panels
        self._pulse = pulse
        self._pulses: dict[str, Callable[[int], Beat]] = {}
        self._watches: dict[str, _Watch] = {}
        self.limits = DEFAULT
        self.acts: Callable[[Job], bool] = lambda _: False
        self.far: Callable[[Job], Far | None] = lambda _: None
        controller.job_began.connect(self._on_began)
        controller.event.connect(self._on_event)
        controller.job_ended.connect(self._on_ended)
        controller.reading.connect(self._on_reading)

    def judgement(self, job_id: str) -> Judgement | None:
        """Return what was found last of a running job; None before, and when it cannot be told."""
        watch = self._watches.get(job_id)
        return None if watch is None else watch.judgement

    def phase(self, job_id: str) -> Phase | None:
        """Return the phase that a running job is in, None before the first."""
        watch = self._watches.get(job_id)
        return None if watch is None else watch.phase

    # -- what comes in --------------------------------------------------------

    def _on_began(self, job: Job) -> None:
        watch = self._watches[job.id] = _Watch(job)
        self._pulses[job.id] = self._pulse or Pulse()
        ledger = self._controller.ledger.store.path

        def read() -> Iterator[object]:
            from core.recorder.usual import usual_of

            yield usual_of(ledger, job.recipe)

        def take(usual: Any) -> None:
            watch.usual = usual

        self._controller.run_aside(read, "usual", take)

    def _on_event(self, event: Event) -> None:
        watch = self._watches.get(event.job_id)
        # Memory is told by a clock of its own, whether or not the job goes on.
        if watch is None:
            return
        if not isinstance(event, MemoryRead | Noted):
            watch.take(event)
        elif isinstance(event, MemoryRead):
            watch.vram = bool(event.vram_bytes)

    def _on_ended(self, job: Job, ending: Finished | Stopped | Failed) -> None:  # noqa: ARG002
        if self._watches.pop(job.id, None) is not None:
            del self._pulses[job.id]
            self._say_nothing(job)

    def _say_nothing(self, job: Job) -> None:
        self._panels.queue.set_doing(job.id, "", "", "")
        self._panels.notice.clear(f"{KEY} {job.id}")

    def _on_reading(self, reading: Reading) -> None:
        for watch in list(self._watches.values()):
            self._look(watch, reading)

    def _look(self, watch: _Watch, reading: Reading) -> None:
        job, now = watch.job, reading.at_seconds
        if watch.first_at is None:
            watch.first_at = now
        due = now - watch.judged_at >= JUDGE_SECONDS
        if due:
            # What is read here tells nothing of another machine's card.
            watch.far = self.far(job)
        if watch.far is None and (
            not watch.signs or now - watch.signs[-1].at_seconds >= SIGN_SECONDS
        ):
            watch.signs.append(self._sign(watch, reading))
        if due:
            watch.judged_at = now
            if now - watch.first_at >= FIRST_SECONDS:
                self._judge(watch, now)

    def _sign(self, watch: _Watch, reading: Reading) -> Sign:
        job = watch.job
        pid = self._controller.engine.pid_of(job.id)
        beat = Beat() if pid is None else self._pulses[job.id](pid)
        device = device_of(reading, job)
        if device < 0 and watch.vram:
            # It holds memory of a card whose driver does not say so: then all of it counts.
            card = card_of(reading, role_of(job.engine))
            device = -1 if card is None else card.index
        sign = sign_of(reading, device, beat.cpu_percent)
        if pid is None:
            return sign
        # The reading's is of one process alone, which may be another job's.
        rss, io = beat.rss_bytes, beat.io_bytes
        return replace(sign, rss_bytes=rss, io_bytes=io, calls=beat.calls)

    def signs(self, server: str) -> tuple[Sign, ...]:
        """Return what was read while a server's job ran, oldest first; from any thread."""
        engine = self._controller.engine
        for watch in list(self._watches.values()):
            if engine.server_of(watch.job) == server:
                return tuple(watch.signs)
        return ()

    def usual_decode_seconds(self, job: Job) -> float | None:
        """Return the longest usual gap between events of a job's decode; from any thread."""
        watch = self._watches.get(job.id)
        if watch is None or watch.usual is None:
            return None
        return watch.usual.p99_seconds.get(Phase.DECODE)

    # -- what it comes to -------------------------------------------------------

    def _judge(self, watch: _Watch, now: float) -> None:
        job, found = watch.job, watch.judge(now, self.limits)
        self.judged.emit(job, found, now)
        if found is None:
            if watch.same[0] is not None:
                watch.same = None, 0
                self._say_nothing(job)
            return
        before, count = watch.same
        watch.same = found.state, count + 1 if found.state is before else 1
        self._panels.queue.set_doing(job.id, found.state.value, TONES[found.state], found.reason)
        if watch.same[1] == SURE:
            self._notify(job, found)

    def _notify(self, job: Job, found: Judgement) -> None:
        key, step = f"{KEY} {job.id}", _NEXT.get(found.state)
        if found.state is State.STUCK and self.acts(job):
            return
        if step is None:
            self._panels.notice.clear(key)
            return
        guard, cancel = self._controller.guard, self._controller.cancel
        stop = ("Stop it", lambda: guard(lambda: cancel([job.id])))
        text = f"“{job.title}” seems to be {found.state.value}. {found.reason} {step}"
        self._panels.notice.show_text(text, (stop,), TONES[found.state], key)


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

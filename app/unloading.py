"""Language models unloaded before a job that needs their memory, where the person wants that."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer

from core.gpu.advice import Action, Advice, Need, advise
from core.gpu.readings import Reading
from core.jobs import Job

if TYPE_CHECKING:
    from app.advice import AdviceDesk

LOOK_SECONDS = 5.0
"""How long a job waits for a first reading, and for what it takes to be known."""
HOLD_SECONDS = 16.0
"""How long a job waits for one server; a little longer than for the readings to confirm it."""


class FirstUnload(QObject):
    """Holds the first of a run of jobs until servers for language models gave memory back.

    A run is over when nothing runs and nothing may begin; within one nothing is unloaded,
    for a story asks its language model between two scenes.

    Args:
        desk: Knows the readings, and unloads.
        need_of: What a job takes: (whether that is settled, the need or None).
        go_on: Lets the queue look for its next job again.
        parent: Owner.

    Attributes:
        always: Whether the person wants it.
        elsewhere: Says whether a job runs on another machine, whose memory is not read here.
    """

    def __init__(
        self,
        desk: AdviceDesk,
        need_of: Callable[[Job], tuple[bool, Need | None]],
        go_on: Callable[[], object],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._desk, self._need_of, self._go_on = desk, need_of, go_on
        self.always = False
        self.elsewhere: Callable[[Job], bool] = lambda _: False
        self._job: Job | None = None
        self._begun = False
        self._asked: set[str] = set()
        self._patience = QTimer(self, singleShot=True)
        self._patience.timeout.connect(self._let_go)

    def holds(self, job: Job | None) -> bool:
        """Say whether the next job has to wait; `go_on` is called when it need not any more.

        Args:
            job: The next one; None when nothing runs and nothing may begin.
        """
        if job is None:
            self._begun, self._job = False, None
            self._patience.stop()
            return False
        if self.elsewhere(job):
            return False  # It runs beside those of this machine.
        if self._begun or not self.always:
            self._begun = True
            return False
        if self._job is None:
            self._asked = set()
            self._patience.start(int(LOOK_SECONDS * 1000))
        self._job = job  # Another one than before where jobs were moved or removed.
        if self._settled(job):
            self._begun, self._job = True, None
            self._patience.stop()
        return not self._begun

    def on_reading(self) -> None:
        """Look again, where a job waits for that."""
        if self._job is not None:
            self._go_on()

    def _settled(self, job: Job) -> bool:
        """Say whether nothing is left to wait for; begins what is."""
        reading = self._desk.reading
        if self._desk.unloading or reading is None:
            return False
        known, need = self._need_of(job)
        if not known:
            return False
        found = self._found(reading, need)
        if found is None or not self._desk.unload(found, f" before “{job.title}” begins"):
            return True
        self._asked.add(found.program)
        self._patience.start(int(HOLD_SECONDS * 1000))
        return False

    def _found(self, reading: Reading, need: Need | None) -> Advice | None:
        if need is None:
            return None
        found = advise(reading, need, reserve_bytes=self._desk.reserve_bytes)
        fits = found is None or found.action is not Action.UNLOAD_MODEL
        return None if fits or (found and found.program in self._asked) else found

    def _let_go(self) -> None:
        if self._job is not None:
            self._begun, self._job = True, None
            self._patience.stop()
            self._go_on()

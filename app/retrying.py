"""What follows from a failure: the job tries again, later and lighter, where that has a chance."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from app.controller import Controller
from app.engines import COMFY
from app.latents import LatentsDesk
from app.lighter import LighterDesk, Need
from app.window import MainWindow
from core.errors import Category, Problem
from core.jobs import Job
from core.ledger import owed

if TYPE_CHECKING:
    from core.scheduling.retries import Verdict

AGAIN_ON_SERVERS = (Category.INSUFFICIENT_VRAM, Category.BAD_OUTPUT)
"""A server said that the job ended so; after anything else it may still go on there."""
AGAIN = "again"
"""Key of the notice about jobs that are tried again."""


class RetryDesk(QObject):
    """Lets failed jobs try again.

    Args:
        controller: Whose queue it is.
        window: Holds the settings and the notices.
        need_for: Returns what a job takes, as `Forecasts.need_for`.

    Attributes:
        not_before: When jobs that failed may begin again, by their ids; Unix seconds.
        rungs: Makes jobs lighter, and knows which are.
    """

    def __init__(
        self, controller: Controller, window: MainWindow, need_for: Need, parent: QObject
    ) -> None:
        super().__init__(parent)
        self.rungs = LighterDesk(controller, window, need_for, self)
        self._latents = LatentsDesk(controller, window.settings_path.parent / "latents", self)
        self._controller, self._window = controller, window
        self._notice = window.panels.notice
        self.not_before: dict[str, float] = {}
        self._closing = False
        controller.closing.connect(self._on_closing)

    def _on_closing(self) -> None:
        self._closing = True

    def at_start(self) -> None:
        """Give back to the queue what an earlier start had not come to, first in line.

        If its server still hangs over it, it is found there and seen to before the others.
        """
        ledger = self._controller.ledger
        for job_id in owed.take(ledger.store):
            row = ledger.row(job_id)
            if row is None or row.problem is None:
                continue
            place = self._controller.engine.place_of(row.job)
            if self._verdict(row.job, place, row.attempt, row.problem).retry:
                ledger.retry([job_id], top=True)

    def began(self, job: Job) -> None:
        """Forget what a job waited for; the offer not to try it again is over."""
        if self.not_before.pop(job.id, None) is not None:
            self._notice.clear(f"again {job.id}")

    def after(self, job: Job, place: str, problem: Problem, *, off: bool = False) -> bool:
        """Let a failed job, or one that died with its server, try again where that has a chance.

        Args:
            job: Which; as it ran.
            place: Where.
            problem: Why it failed.
            off: It is known that its server is rid of it, or never had it.

        Returns:
            Whether it waits again.
        """
        if job.engine == COMFY and not off and problem.category not in AGAIN_ON_SERVERS:
            return False
        if self._closing:
            return False
        row = self._controller.ledger.row(job.id)
        if row is None or row.state.value not in (("failed", "lost") if off else ("failed",)):
            return False  # A person was faster.
        verdict = self._verdict(job, place, row.attempt, problem)
        if not verdict.retry:
            return False
        from core.scheduling.ladder import Rung

        if any(step.rung is Rung.FREE for step in verdict.steps):
            self._controller.free(place)
        self.not_before[job.id] = time.time() + verdict.wait_seconds
        self._controller.guard(lambda: self._again(job, place, verdict))
        self._notice.show_text(
            f"“{job.title}” failed: {problem.message} {verdict.words}",
            (("Leave out", self._not_again),),
            "warning",
            AGAIN,
            jobs=[job.id],
            many=lambda count: (
                f"{count} jobs failed and are tried again, the last of them: “{job.title}”: "
                f"{problem.message}"
            ),
        )
        return True

    def _verdict(self, job: Job, place: str, attempts: int, problem: Problem) -> Verdict:
        from core.failures.recovery import recovery
        from core.scheduling.retries import RetryRules, after_failure

        ladder = None
        if problem.category is Category.INSUFFICIENT_VRAM:
            ladder = self.rungs.ladder(job, place)
        found = recovery(problem)
        return after_failure(
            job.id, problem, attempts - 1, RetryRules(budget=self._window.settings.retries),
            ladder=ladder, retryable=None if found.retryable else False,
        )  # fmt: skip

    def _again(self, job: Job, place: str, verdict: Verdict) -> None:
        controller = self._controller
        ladder = self.rungs.ladder(job, place) if verdict.steps else None
        self.rungs.took(job, verdict.steps)
        controller.ledger.retry([job.id])
        if ladder is not None:
            # What it changed by itself while it ran is known to be needed.
            params = verdict.apply(ladder.params)
            if params != dict(job.params):
                controller.ledger.edit(job.id, replace(job, params=params))
        controller.queue_changed.emit()
        controller.go_on()

    def _not_again(self) -> None:
        ids = self._notice.jobs()
        self._notice.clear(AGAIN)
        self._controller.guard(lambda: self._controller.remove(ids))

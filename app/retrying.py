"""What follows from a failure: the job tries again, later and lighter, where that has a chance."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject

from app.controller import Controller
from app.engines import COMFY
from app.window import MainWindow
from core.errors import Category, Problem
from core.jobs import Job, new_job

if TYPE_CHECKING:
    from core.scheduling.retries import Verdict

AGAIN_ON_SERVERS = (Category.INSUFFICIENT_VRAM, Category.BAD_OUTPUT)
"""A server said that the job ended so; after anything else it may still go on there."""


class RetryDesk(QObject):
    """Lets failed jobs try again.

    Args:
        controller: Whose queue it is.
        window: Holds the settings and the notices.

    Attributes:
        not_before: When jobs that failed may begin again, by their ids; Unix seconds.
    """

    def __init__(self, controller: Controller, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._window = controller, window
        self._notice = window.panels.notice
        self.not_before: dict[str, float] = {}
        self._closing = False
        controller.closing.connect(self._on_closing)

    def _on_closing(self) -> None:
        self._closing = True

    def began(self, job: Job) -> None:
        """Forget what a job waited for."""
        self.not_before.pop(job.id, None)

    def after(self, job: Job, place: str, problem: Problem, *, off: bool = False) -> None:
        """Let a failed job try again, where that has a chance.

        Args:
            job: Which; as it ran.
            place: Where.
            problem: Why it failed.
            off: It is known that its server is rid of it.
        """
        if job.engine == COMFY and not off and problem.category not in AGAIN_ON_SERVERS:
            return
        if self._closing:
            return
        row = self._controller.ledger.row(job.id)
        if row is None or row.state.value != "failed":
            return  # A person was faster.
        verdict = self._verdict(job, row.attempt, problem)
        if not verdict.retry:
            return
        from core.scheduling.ladder import Rung

        if any(step.rung is Rung.FREE for step in verdict.steps):
            self._controller.free(place)
        changed = verdict.apply(job.params)
        self.not_before[job.id] = time.time() + verdict.wait_seconds
        self._controller.guard(lambda: self._again(job, changed))
        self._notice.show_text(
            f"“{job.title}” failed: {problem.message} {verdict.words}",
            (("Do not", partial(self._not_again, job.id)),),
            "warning",
            f"again {job.id}",
        )

    def _verdict(self, job: Job, attempts: int, problem: Problem) -> Verdict:
        from core.failures.recovery import recovery
        from core.scheduling.retries import Ladder, RetryRules, after_failure

        recipe = self._controller.recipes.get(job.recipe)
        ladder = Ladder(job.params, recipe.parameters) if recipe is not None else None
        found = recovery(problem)
        return after_failure(
            job.id, problem, attempts - 1, RetryRules(budget=self._window.settings.retries),
            ladder=ladder, retryable=None if found.retryable else False,
        )  # fmt: skip

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

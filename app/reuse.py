"""What was made already is not made again: its clip is copied, and that is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject

from app.asking import given_again, recipe_of, still_free
from app.comfy_engines import ComfyEngines
from app.controller import Controller
from app.engines import COMFY
from app.window import MainWindow
from core.errors import ProblemError
from core.events import Event, Finished, Noted
from core.jobs import Job, new_job
from core.statistics.runs import MADE_BEFORE
from core.stream.endless import streams


class Reuse:
    """Looks for the clip of a job that asked for the same; called beside the window.

    Args:
        ledger: The ledger's file.

    Attributes:
        on: Whether it is looked for at all.
        anew: Ids of jobs that are made whatever there is.
        files_of: Returns what a job is made with that it does not name itself.
    """

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self.on = True
        self.anew: set[str] = set()
        self.files_of: Callable[[Job], list[Path]] = lambda _: []

    def __call__(self, job: Job) -> Iterator[Event]:
        """Yield the events of a job that need not run, its ending last; else nothing."""
        # What streams is made to be watched, and need not end where another one did.
        if not self.on or job.id in self.anew or streams(job):
            return
        from core.ledger.same import same_done
        from core.outputs.copied import copied

        began = time.monotonic()
        try:
            for same in same_done(self._ledger, job, self.files_of(job)):
                output = copied(same.job, job)
                if output is None:
                    continue
                name = Path(same.job.output).name
                yield Noted(
                    job_id=job.id,
                    text=f"{MADE_BEFORE}: {name} was copied and nothing was computed. "
                    "Retry makes it anew.",
                )
                yield Finished(
                    job_id=job.id,
                    output=output,
                    seed=int(job.params["seed"]),
                    seconds=time.monotonic() - began,
                    peak_rss_bytes=None,
                    peak_vram_bytes=None,
                )
                return
        except ProblemError:
            return  # It is made then; what is wrong with the disk is told by that.


class ReuseDesk(QObject):
    """Takes the choice from menu to settings, and offers to make a copied clip anew.

    Args:
        controller: Whose jobs these are.
        window: Its menu, settings and notices.
    """

    def __init__(self, controller: Controller, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._window = controller, window
        self.made = Reuse(controller.ledger.store.path)
        self.made.on = window.settings.reuse
        self.made.files_of = self._files_of
        controller.engine.made = self.made
        window.menus.reuse.setChecked(window.settings.reuse)
        window.menus.reuse.toggled.connect(self._on_chosen)
        controller.job_ended.connect(self._on_ended)

    def _files_of(self, job: Job) -> list[Path]:
        engines = self._controller.engine.comfy_for
        if job.engine != COMFY or not isinstance(engines, ComfyEngines):
            return []
        return [engines.file_of(job.family)]

    def _on_chosen(self, on: bool) -> None:
        self.made.on = on
        self._window.keep(reuse=on)

    def _on_ended(self, job: Job, _ending: object) -> None:
        if job.id not in self._controller.engine.copied:
            return
        text = f"“{job.title}” was made before, with the same values and seed: it was copied."
        again = ("Make it anew", partial(self._again, job))
        self._window.panels.notice.show_text(text, (again,), "info", "copied", under=True)

    def _again(self, job: Job) -> None:
        controller = self._controller
        recipe = recipe_of(controller.recipes, job.recipe)
        fresh = new_job(recipe, given_again(job, recipe), controller.outputs)
        fresh = still_free(job, fresh, recipe)
        self.made.anew.add(fresh.id)
        controller.added(controller.ledger.enqueue([fresh]))

"""What the queue dock asks for beside its jobs: searches, pictures, and why jobs wait."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import shiboken6
from PySide6.QtCore import QObject

from app.asking import corrected
from app.controller import Controller
from app.engines import COMFY, LOCAL
from app.undoing import jobs as jobs_words
from app.window import MainWindow
from core.errors import Problem, ProblemError
from core.queue import Found, Wanted

if TYPE_CHECKING:
    from core.bulk import Edited
    from core.jobs import Job
    from core.scheduling.decisions import Decided
    from core.scheduling.snapshot import Snapshot
    from widgets.bulk_edit import BulkEditDialog
    from widgets.queue_calendar import NightCalendar

MOST_NIGHTS = 400
"""So many stretches of quiet hours are looked at."""


class QueueDesk(QObject):
    """Answers the queue dock; what reads the disk is done beside the window."""

    def __init__(self, controller: Controller, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._window = controller, window
        self._panel = window.panels.queue
        self._looking = False
        self._next: Wanted | None = None
        self._panel.view.delegate.pictures.aside = controller.run_aside
        finding = self._panel.finding
        finding.wanted.connect(self._look)
        finding.restore(window.settings.queue)
        finding.changed.connect(self._remember)
        finding.calendar_drawn.connect(self._on_calendar)
        controller.places_changed.connect(self._on_places)
        self._panel.bulk_edit_requested.connect(self.edit_many)
        controller.undo_changed.connect(self._on_undo_changed)

    def _on_undo_changed(self) -> None:
        words = self._controller.undos.words
        self._panel.set_undo_words(words)
        self._window.menus.undo.setText(f"&Undo {words}".strip())

    def _remember(self) -> None:
        self._window.keep(queue={**self._window.settings.queue, **self._panel.finding.state()})

    # -- the calendar ------------------------------------------------------------

    def _on_calendar(self, calendar: NightCalendar) -> None:
        """Shade the quiet hours on the calendar, and mark the morning."""
        from widgets.night import MORNING
        from widgets.time_words import next_time

        first, last = calendar.span()
        asked = self._panel.finding.until
        morning = next_time(*MORNING, first) if first else None
        calendar.set_until(asked if asked is not None and asked > first else morning)
        calendar.set_quiet(quiet_stretches(self._window.settings.quiet_hours, first, last))

    # -- searches --------------------------------------------------------------

    def _on_places(self) -> None:
        engine = self._controller.engine
        places = [(engine.title_at(LOCAL), ((engine.local.name, None),))]
        for number, server in enumerate(engine.servers()):
            # The first server is also that of jobs that name none.
            names: list[tuple[str, str | None]] = [(COMFY, server.base)]
            names += [] if number else [(COMFY, None), (COMFY, "")]
            places.append((server.name, tuple(names)))  # type: ignore[arg-type]
        self._panel.finding.set_places(places)

    def _look(self, wanted: Wanted) -> None:
        """Look for jobs; of those asked for meanwhile only the last is looked for."""
        if self._looking:
            self._next = wanted
            return
        self._looking, path = True, self._controller.ledger.store.path

        def work() -> Iterator[object]:
            from core.ledger.look import look
            from core.ledger.store import join_store

            try:
                store = join_store(path)
                try:
                    yield wanted, look(store, wanted)
                finally:
                    store.close()
            except ProblemError as error:
                yield error.problem
            finally:
                yield None

        self._controller.run_aside(work, "search", self._take)

    def _take(self, item: object) -> None:
        match item:
            case Problem():
                self._controller.problem.emit(item, "search")
            case (Wanted() as wanted, Found() as found):
                self._panel.finding.show_found(wanted, found)
            case _:
                self._looking = False
                wanted_next, self._next = self._next, None
                if wanted_next is not None:
                    self._look(wanted_next)

    # -- why jobs wait -----------------------------------------------------------

    def tell(
        self,
        not_before: Mapping[str, float],
        decided: Decided | None = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        """Say on the rows of jobs why they wait; see `core.scheduling.reasons`."""
        if decided is None and not not_before:
            self._panel.set_reasons({})
            return
        from core.scheduling.moment import Now
        from core.scheduling.reasons import reasons

        now = Now(time.time(), time.monotonic())
        self._panel.set_reasons(reasons(now, not_before, decided, snapshot))

    # -- many at once ------------------------------------------------------------

    def edit_many(self, ids: Sequence[str]) -> None:
        """Ask what to change of waiting jobs; it does not block."""
        ledger, recipes = self._controller.ledger, dict(self._controller.recipes)
        path = ledger.store.path

        def work() -> Iterator[object]:
            from core.bulk import shared
            from core.ledger.read import LedgerReader
            from core.ledger.store import join_store

            store = join_store(path)
            try:
                rows = [LedgerReader(store).row(job_id) for job_id in ids]
            finally:
                store.close()
            waiting = [row.job for row in rows if row is not None and row.state.value == "waiting"]
            known = [job for job in waiting if job.recipe in recipes]
            yield known, shared(known, recipes) if known else [], len(waiting) - len(known)

        self._controller.run_aside(work, "edit", self._ask_changes)

    def _ask_changes(self, item: object) -> None:
        from widgets.bulk_edit import BulkEditDialog

        assert isinstance(item, tuple)
        jobs, shared, strange = item
        if not jobs:
            self._controller.told.emit("None of these jobs can be edited any more.")
            return
        note = ""
        if strange:
            note = f"{strange:,} more are left out: their recipes are not known now."
        dialog = BulkEditDialog(shared, len(jobs), note, self._window)
        dialog.wanted.connect(lambda values: self._preview(dialog, jobs, values))
        dialog.accepted_edit.connect(self._write)
        dialog.open()

    def _preview(
        self, dialog: BulkEditDialog, jobs: Sequence[Job], values: Mapping[str, object]
    ) -> None:
        """Look beside the window at what a change comes to."""
        controller = self._controller
        recipes, outputs, correct = dict(controller.recipes), controller.outputs, controller.correct
        known = [job for job in jobs if job.recipe in recipes]

        def work() -> Iterator[object]:
            from core.bulk import apply

            yield apply(
                known, values, recipes, outputs,
                lambda recipe, given: corrected(recipe, given, wanted=correct)[0],
            )  # fmt: skip

        def show(edited: object) -> None:
            if shiboken6.isValid(dialog):
                dialog.show_edited(values, edited)  # type: ignore[arg-type]

        controller.run_aside(work, "edit", show)

    def _write(self, edited: Edited) -> None:
        """Write what was shown beside the window; jobs that began meanwhile are left out."""
        controller, path = self._controller, self._controller.ledger.store.path

        def work() -> Iterator[object]:
            from core.ledger.edits import put
            from core.ledger.store import join_store

            store = join_store(path)
            try:
                yield put(store, edited.jobs)
            except ProblemError as error:
                yield error.problem
            finally:
                store.close()

        def done(before: object) -> None:
            if isinstance(before, Problem):
                controller.problem.emit(before, "edit")
                return
            assert isinstance(before, list)
            late = len(edited.jobs) - len(before)
            if before:
                controller.undos.edited(before)
            controller.look_again()
            if late:
                controller.told.emit(f"{jobs_words(late)} began meanwhile and were not changed.")

        controller.run_aside(work, "edit", done)


def quiet_stretches(text: str, first: float, last: float) -> list[tuple[float, float]]:
    """Return when it is quiet between two moments, in order; Unix seconds.

    Args:
        text: Such as "22:00-07:00"; "" for no quiet hours.
        first: Begin of what is looked at.
        last: Its end.
    """
    if not text:
        return []
    from datetime import time as time_of_day

    from core.scheduling.moment import local
    from core.scheduling.quiet import Quiet, next_change, quiet

    start, end = text.split("-")
    hours = (Quiet(time_of_day.fromisoformat(start), time_of_day.fromisoformat(end)),)
    found: list[tuple[float, float]] = []
    at = first
    while at < last and len(found) < MOST_NIGHTS:
        change = next_change(hours, at, None)
        after = change if change is not None else last
        if quiet(hours, local(at)):
            found.append((at, after))
        at = after
    return found

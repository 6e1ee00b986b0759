"""The queue dock: what runs, what comes next, what is finished, and what to do with it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QPoint, Qt, QTimer, Signal
from PySide6.QtGui import QAction, QKeyEvent, QKeySequence, QResizeEvent
from PySide6.QtWidgets import QMenu, QStackedLayout, QVBoxLayout, QWidget

from core.events import Event
from core.queue import Action, Group, JobRow, QueueSource, allowed
from core.stream.endless import streams
from widgets import theme
from widgets.overflow_bar import OverflowBar, action_of
from widgets.parts import hint_page
from widgets.queue_actions import ALWAYS, FOUND, PRIORITIES, RARE, SPECS, priority_menu
from widgets.queue_finding import Finding
from widgets.queue_model import QueueModel
from widgets.queue_view import QueueView

if TYPE_CHECKING:
    from core.scheduling.reasons import Reason
    from core.timing.nights import Night

LOOKED_AT = 128
"""How many selected jobs are read to decide which actions apply; beyond, all that may."""

_EMPTY = (
    "Nothing queued yet",
    "Write a prompt in Compose and press Add to queue (Ctrl+Return). "
    "Jobs wait here, run one after the other, and stay after they finish.",
)
_NOT_FOUND = (
    "No job is like that",
    "Words are looked for in titles, prompts, recipes and ids. Esc in the search shows all again.",
)


class QueuePanel(QWidget):
    """Shows a `QueueSource`; everything a person wants leaves as a signal."""

    pause_toggled = Signal(bool)
    cancel_requested = Signal(list)
    remove_requested = Signal(list)
    undo_requested = Signal()
    move_requested = Signal(list, object)
    """Ids, and the id of the waiting job they go before (None: to the end)."""
    top_requested = Signal(list)
    priority_requested = Signal(list, int)
    """Ids of waiting jobs, and their new priority: higher begins sooner."""
    anyway_requested = Signal(list)
    take_requested = Signal(list)
    """Ids of lost jobs whose clip was found finished."""
    retry_requested = Signal(list)
    edit_requested = Signal(str)
    bulk_edit_requested = Signal(list)
    duplicate_requested = Signal(str)
    open_requested = Signal(str)
    reveal_requested = Signal(str)
    """The job's id; its row's output tells the path."""
    trace_requested = Signal(str)
    report_requested = Signal(str)
    night_requested = Signal()

    def __init__(self, source: QueueSource, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Queue")
        self.setProperty("role", "panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._paused = False
        self._removals, self._undo_words = 0, ""
        self._choices: dict[str, set[str]] = {"anyway": set(), "take": set()}
        """Jobs that wait for a person's word, by the action that gives it."""
        self.model = QueueModel(source, self)
        self.view = QueueView(self.model)
        within = Qt.ShortcutContext.WidgetWithChildrenShortcut
        self.finding = Finding(self)
        self.actions_by_name = {s.name: action_of(s, "queue", self, within) for s in SPECS}
        always = self._always()
        self.bar = OverflowBar([self.actions_by_name[s.name] for s in SPECS if s.bar], always)
        self.bar.setAccessibleName("Queue actions")
        self.bar.menu.aboutToShow.connect(self.finding.make_menus)
        # From everywhere in the window: who looks for a job is seldom in the list already.
        self.actions_by_name["find"].setShortcutContext(Qt.ShortcutContext.WindowShortcut)
        self.actions_by_name["calendar"].setCheckable(True)
        self._pages = QStackedLayout()
        self._count_down = QTimer(self, interval=1000)
        self._count_down.timeout.connect(self.model.say_waiting)
        self._lay_out()
        self._connect()
        self._dress()
        self._show_page()
        self.on_selection_changed()

    # -- what the controller calls -----------------------------------------

    def refresh(self, changed: Iterable[str] | None = None) -> None:
        """Read the queue again; selection and scroll position stay.

        Args:
            changed: Ids of the jobs that changed, when none came, went or moved.
        """
        self.view.refresh(changed)
        self._show_page()
        self.on_selection_changed()
        self.finding.refreshed()

    def show_again(self) -> None:
        """Show the same jobs in another way; what is selected stays."""
        self.view.refresh()
        self._show_page()
        self.on_selection_changed()

    def put(self, widget: QWidget) -> None:
        """Make room for `widget` above the list."""
        self._column.insertWidget(self._column.count() - 1, widget)

    def apply(self, event: Event) -> None:
        """Show the progress of the running job."""
        self.model.apply(event)

    def set_doing(self, job_id: str, word: str, tone: str, reason: str) -> None:
        """Say how a running job goes, with a word and why; "" takes it back."""
        self.model.set_doing(job_id, word, tone, reason)

    def set_left(self, job_id: str, seconds: float | None, *, at_least: bool = False) -> None:
        """Say how long a running job still takes; None when nothing is known."""
        self.model.set_left(job_id, seconds, at_least=at_least)

    def set_night(self, night: Night | None, at_unix: float) -> None:
        """Say what each waiting job takes and when all are done, as found at `at_unix`."""
        self.model.set_night(night, at_unix)
        self.finding.show_night()

    def set_reasons(self, reasons: Mapping[str, Reason]) -> None:
        """Say why jobs wait, by their ids; those left out only wait their turn."""
        self.model.set_reasons(reasons)
        counted = any(reason.until_unix is not None for reason in reasons.values())
        (self._count_down.start if counted else self._count_down.stop)()

    def set_paused(self, paused: bool) -> None:
        """Show whether the queue is held."""
        self._paused = paused
        self.model.set_paused(paused)
        self.finding.show_night()
        pause = self.actions_by_name["pause"]
        pause.setText("Resume" if paused else "Pause")
        pause.setIcon(self._icon("play" if paused else "pause"))
        tip = "Go on with the waiting jobs" if paused else SPECS[0].tip
        pause.setToolTip(tip)
        pause.setStatusTip(tip)

    def set_choices(self, aside: Mapping[str, str], found: Collection[str]) -> None:
        """Say which jobs wait for a person: set aside, with why, or lost and found finished."""
        self._choices = {"anyway": set(aside), "take": set(found)}
        marks = {job_id: ("needs a decision", "warning", why) for job_id, why in aside.items()}
        marks |= dict.fromkeys(found, ("clip found · take it?", "success", FOUND))
        self.model.set_marks(marks)
        self.on_selection_changed()

    def set_undo_available(self, available: bool) -> None:
        """Say whether there is anything that can be undone."""
        self._removals = max(self._removals, 1) if available else 0
        self.actions_by_name["undo"].setEnabled(available)

    def set_undo_words(self, words: str) -> None:
        """Say what Undo takes back, such as "moving 3 jobs"."""
        undo, self._undo_words = self.actions_by_name["undo"], words
        tip = f"Take back {words} (Ctrl+Z)" if words else "Nothing to take back"
        undo.setToolTip(tip)
        undo.setStatusTip(tip)

    def selected_ids(self) -> list[str]:
        """Return the ids of the selected jobs in queue order."""
        return self.model.ids_at(self.view.selected_rows())

    # -- making ------------------------------------------------------------

    def _lay_out(self) -> None:
        self._pages.addWidget(self.view)
        self._pages.addWidget(hint_page(*_EMPTY))
        self._pages.addWidget(hint_page(*_NOT_FOUND))
        column = self._column = QVBoxLayout(self)
        column.setContentsMargins(10, 8, 10, 8)
        column.setSpacing(8)
        column.addWidget(self.bar)
        column.addLayout(self._pages, 1)

    def _always(self) -> list[QAction]:
        """Return what is about the whole queue."""
        first, *rest = (self.actions_by_name[name] for name in ALWAYS)
        return [first, self.finding.sort_action, self.finding.fold_action, *rest]

    def _connect(self) -> None:
        self.view.selection_changed.connect(self.on_selection_changed)
        self.view.opened.connect(self.on_open)
        self.view.retried.connect(self._on_offer)
        self.view.customContextMenuRequested.connect(self.on_menu)
        self.model.move_wanted.connect(self.move_requested)
        handlers: dict[str, Callable[[], None]] = {
            "pause": self.on_pause,
            "top": self.on_top,
            "edit": self.on_edit,
            "cancel": self.on_cancel,
            "retry": self.on_retry,
            "duplicate": self.on_duplicate,
            "remove": self.on_remove,
            "undo": self.on_undo,
            "open": self.on_open,
            "up": self.on_up,
            "down": self.on_down,
            "reveal": self.on_reveal,
            "trace": self.on_trace,
            "report": self.on_report,
            "anyway": lambda: self._choose("anyway", self.anyway_requested),
            "take": lambda: self._choose("take", self.take_requested),
            "find": self.finding.open,
            "calendar": self.finding.on_calendar,
            "night": self.night_requested.emit,
        }
        for name, handler in handlers.items():
            self.actions_by_name[name].triggered.connect(handler)
        for name, level in PRIORITIES.items():
            action = self.actions_by_name[name]
            action.triggered.connect(lambda _=False, level=level: self.on_priority(level))

    def _icon(self, name: str) -> theme.QIcon:
        return theme.icon(name, theme.of(self))

    def _dress(self) -> None:
        for spec in SPECS:
            if spec.icon:
                self.actions_by_name[spec.name].setIcon(self._icon(spec.icon))
        self.set_paused(self._paused)

    def _show_page(self) -> None:
        nothing = 2 if self.model.narrowed and self.model.total() else 1
        self._pages.setCurrentIndex(0 if self.model.rowCount() else nothing)

    def changeEvent(self, event: QEvent) -> None:
        """Draw the icons in the colours of a new theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_pages"):
            self._dress()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Show all jobs again with Esc, from the list too."""
        if event.key() != Qt.Key.Key_Escape or not self.finding.close():
            super().keyPressEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Leave more room for the list in a low dock."""
        super().resizeEvent(event)
        self.finding.resized()

    # -- what applies ------------------------------------------------------

    def _in(self, group: Group, rows: list[int] | None = None) -> list[int]:
        stretch = self.model.rows_of(group)
        rows = self.view.selected_rows() if rows is None else rows
        return rows[bisect_left(rows, stretch.start) : bisect_left(rows, stretch.stop)]

    def _single(self, rows: list[int] | None = None) -> JobRow | None:
        rows = self.view.selected_rows() if rows is None else rows
        return self.model.job_row(rows[0]) if len(rows) == 1 else None

    def _ids_that_may(self, action: Action) -> list[str]:
        jobs = self.model.jobs_at(self.view.selected_rows())
        return [row.job.id for row in jobs if allowed(row.state, action)]

    def on_selection_changed(self) -> None:
        """Enable what applies to the selected jobs."""
        rows = self.view.selected_rows()
        ended = self._in(Group.FINISHED, rows)
        waiting, running = self._in(Group.WAITING, rows), self._in(Group.RUNNING, rows)
        looked_at = self.model.jobs_at(ended[:LOOKED_AT])
        may_retry = any(allowed(row.state, Action.RETRY) for row in looked_at)
        single = self._single(rows)
        queue = self.model.rows_of(Group.WAITING)
        enabled = {
            "pause": True,
            "top": bool(waiting) and not self.model.leads(waiting),
            "edit": len(waiting) > 1 or (single is not None and allowed(single.state, Action.EDIT)),
            "cancel": bool(running),
            "retry": may_retry or len(ended) > LOOKED_AT,
            "duplicate": single is not None,
            "remove": len(rows) > len(running),
            "undo": self._removals > 0,
            "open": single is not None,
            "up": bool(waiting) and waiting != list(queue[: len(waiting)]),
            "down": bool(waiting) and waiting != list(queue[len(queue) - len(waiting) :]),
            # What there is of a dream lies there, however it ended.
            "reveal": single is not None and (single.output is not None or streams(single.job)),
            "trace": single is not None and single.attempt > 0,
            "report": single is not None and single.attempt > 0,
        }
        chosen = self.selected_ids()[:LOOKED_AT] if any(self._choices.values()) else []
        enabled |= {name: not ids.isdisjoint(chosen) for name, ids in self._choices.items()}
        enabled |= dict.fromkeys(PRIORITIES, bool(waiting))
        for name, value in enabled.items():
            self.actions_by_name[name].setEnabled(value)

    # -- requests ----------------------------------------------------------

    def on_pause(self) -> None:
        """Ask to hold the queue or let it go on."""
        self.pause_toggled.emit(not self._paused)

    def on_top(self) -> None:
        """Ask for the selected waiting jobs to be the next ones."""
        self.top_requested.emit(self.model.ids_at(self._in(Group.WAITING)))

    def _choose(self, name: str, signal: Signal) -> None:
        self._request(signal, [one for one in self.selected_ids() if one in self._choices[name]])

    def _on_offer(self) -> None:
        """Do what the row of a lost job offers: take its clip where one was found."""
        single = self._single()
        found = single is not None and single.job.id in self._choices["take"]
        self.actions_by_name["take" if found else "retry"].trigger()

    def on_priority(self, level: int) -> None:
        """Ask for another priority of the selected waiting jobs."""
        ids = self.model.ids_at(self._in(Group.WAITING))
        if ids:
            self.priority_requested.emit(ids, level)

    def on_up(self) -> None:
        """Ask for the selected waiting jobs to go before the one above them."""
        self._move(-1)

    def on_down(self) -> None:
        """Ask for the selected waiting jobs to go behind the one below them."""
        self._move(1)

    def _move(self, way: int) -> None:
        rows = self._in(Group.WAITING)
        queue = self.model.rows_of(Group.WAITING)
        if not rows:
            return
        ids = self.model.ids_at(rows)
        at = max(rows[0] - 1, queue.start) if way < 0 else rows[-1] + 2
        self.move_requested.emit(ids, self.model.first_waiting_from(at, set(ids)))

    def on_edit(self) -> None:
        """Ask to edit the selected waiting job, or all of those selected at once."""
        waiting = self._in(Group.WAITING)
        if len(waiting) > 1:
            self.bulk_edit_requested.emit(self.model.ids_at(waiting))
        else:
            self._request_single(self.edit_requested)

    def on_duplicate(self) -> None:
        """Ask for a copy of the selected job to change."""
        self._request_single(self.duplicate_requested)

    def on_open(self) -> None:
        """Ask to show the selected job in the stage."""
        self._request_single(self.open_requested)

    def on_reveal(self) -> None:
        """Ask to show the selected job's clip in its folder."""
        self._request_single(self.reveal_requested)

    def on_trace(self) -> None:
        """Ask to show what the selected job did to memory."""
        self._request_single(self.trace_requested)

    def on_report(self) -> None:
        """Ask to save a report on what the selected job did to memory."""
        self._request_single(self.report_requested)

    def _request_single(self, signal: Signal) -> None:
        single = self._single()
        if single is not None:
            signal.emit(single.job.id)

    def on_cancel(self) -> None:
        """Ask to stop the selected running jobs."""
        self._request(self.cancel_requested, self.model.ids_at(self._in(Group.RUNNING)))

    def on_retry(self) -> None:
        """Ask to queue again those selected jobs that can be."""
        self._request(self.retry_requested, self._ids_that_may(Action.RETRY))

    def on_remove(self) -> None:
        """Ask to take the selected jobs off the list; running ones stay."""
        rows = [*self._in(Group.WAITING), *self._in(Group.FINISHED)]
        if rows:
            self._removals += 1
            self.actions_by_name["undo"].setEnabled(True)
            self.remove_requested.emit(self.model.ids_at(rows))

    def on_undo(self) -> None:
        """Ask to take back what was done last."""
        self._removals = max(0, self._removals - 1)
        self.actions_by_name["undo"].setEnabled(self._removals > 0)
        self.undo_requested.emit()

    def _request(self, signal: Signal, ids: list[str]) -> None:
        if ids:
            signal.emit(ids)

    def menu(self) -> QMenu:
        """Return the menu of the selected jobs."""
        self.finding.make_menus()
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        groups = (
            ("open", "reveal", "trace", "report"),
            ("edit", "duplicate", "retry", "anyway", "take", "cancel"),
            ("top", "up", "down"),
            ("remove", "undo"),
        )
        waiting = self._in(Group.WAITING)
        for names in groups:
            shown = [self.actions_by_name[name] for name in names]
            # What few jobs ever need is not in the way of all the others.
            menu.addActions([a for a in shown if a.isEnabled() or a.text() not in RARE])
            if "up" in names:
                there = {row.priority for row in self.model.jobs_at(waiting[:LOOKED_AT])}
                menu.addMenu(priority_menu(menu, self.actions_by_name, there))
            menu.addSeparator()
        if len(waiting) > 1:
            self._reword(menu, "edit", f"Edit {len(waiting):,} jobs…", self.on_edit)
        if self._undo_words:
            self._reword(menu, "undo", f"Undo {self._undo_words}", self.on_undo)
        menu.addActions(self._always())
        return menu

    def _reword(self, menu: QMenu, name: str, text: str, do: Callable[[], None]) -> None:
        """Let an action say more in a menu than its button has room for."""
        plain = self.actions_by_name[name]
        if plain.isEnabled():
            keys = plain.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
            menu.insertAction(plain, more := QAction(f"{text}\t{keys}", menu))
            more.setIcon(plain.icon())
            more.triggered.connect(do)
            menu.removeAction(plain)

    def on_menu(self, spot: QPoint) -> None:
        """Show the menu at `spot` of the list."""
        menu = self.menu()
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(self.view.viewport().mapToGlobal(spot))

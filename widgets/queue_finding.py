"""What of the queue is shown, and how: searched, sorted, folded, drawn. It is remembered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Qt, QTimer, Signal
from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QMenu

from core.queue import Found, Group, Order, Wanted

if TYPE_CHECKING:
    from widgets.queue import QueuePanel
    from widgets.queue_calendar import NightCalendar
    from widgets.queue_search import Places, SearchBar

TYPED_MS, CHANGED_MS = 120, 300
"""So long after the last key, or change of the queue, jobs are looked for."""
_NAMES = {
    Order.NEWEST: "&Newest first",
    Order.OLDEST: "&Oldest first",
    Order.LONGEST: "&Longest first",
    Order.PEAK: "Highest &peak first",
    Order.STATE: "By &state",
}
_FOLDED = {Group.RUNNING: "&Running", Group.WAITING: "Ne&xt", Group.FINISHED: "&Finished"}


class Finding(QObject):
    """Belongs to one `QueuePanel`; it asks, and is answered by `show_found`.

    Attributes:
        wanted: A `core.queue.Wanted` to look for.
        changed: What is worth remembering is another; see `state`.
        calendar_drawn: A `NightCalendar` that shows another night now, or is shown.
        bar: The search line; None before it was asked for.
        until: By when a person wants all to be ready, Unix seconds; None: the morning.
        calendar: The strip on which the night is drawn; None before it was asked for.
    """

    wanted = Signal(object)
    changed = Signal()
    calendar_drawn = Signal(object)

    def __init__(self, panel: QueuePanel) -> None:
        super().__init__(panel)
        self._panel = panel
        self.bar: SearchBar | None = None
        self.calendar: NightCalendar | None = None
        self.until: float | None = None
        self._places: Places = ()
        self._asked = Wanted()
        self._timer = QTimer(self, singleShot=True)
        self._timer.timeout.connect(self._ask)
        self.sort_action, self.fold_action = (
            QAction("&Sort finished", panel),
            QAction("F&old", panel),
        )
        self._orders: dict[Order, QAction] = {}
        self._folds: dict[Group, QAction] = {}
        panel.view.fold_wanted.connect(self.fold)

    # -- making ----------------------------------------------------------------

    def make_menus(self) -> None:
        """Give both actions their menus; not before somebody wants to see them."""
        if self._orders:
            return
        model, sort, fold = self._panel.model, QMenu(self._panel), QMenu(self._panel)
        exclusive = QActionGroup(self)
        for order, text in _NAMES.items():
            action = self._orders[order] = exclusive.addAction(text)
            action.triggered.connect(lambda _=False, order=order: self.sort(order))
            action.setCheckable(True)
            action.setChecked(order is model.order)
            sort.addAction(action)
        for group, text in _FOLDED.items():
            action = self._folds[group] = fold.addAction(text)
            action.triggered.connect(lambda on, group=group: self.fold(group, on))
            action.setCheckable(True)
            action.setChecked(group in model.folded)
        self.sort_action.setMenu(sort)
        self.fold_action.setMenu(fold)

    # -- what is remembered ------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what is worth remembering, as plain values."""
        model = self._panel.model
        calendar = self._panel.actions_by_name["calendar"].isChecked()
        folded = sorted(group.value for group in model.folded)
        return {"sort": model.order.value, "folded": folded, "calendar": calendar}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take what `state` returned once; what cannot be used is left out."""
        folded = state.get("folded", ())
        names = folded if isinstance(folded, list) else ()
        self._set_folded(frozenset(group for group in Group if group.value in names))
        order = next((one for one in Order if one.value == state.get("sort")), Order.NEWEST)
        self._sort(order)
        self.show_calendar(state.get("calendar") is True)

    # -- requests --------------------------------------------------------------

    def open(self) -> None:
        """Show the search line and put the keyboard into it."""
        if self.bar is None:
            from widgets.queue_search import SearchBar

            self.bar = SearchBar(self._panel)
            self.bar.set_places(self._places)
            self.bar.changed.connect(self._on_asked)
            self.bar.closed.connect(self.close)
            self.bar.left.connect(self._to_list)
            self._panel.put(self.bar)
            self.refreshed()
            self._tell()
        self.bar.show()
        self.bar.line.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self.bar.line.selectAll()

    def close(self) -> bool:
        """Show all jobs again; say whether there was a search to close."""
        if self.bar is None or self.bar.isHidden():
            return False
        self.bar.clear()
        self.bar.hide()
        self._panel.view.setFocus(Qt.FocusReason.OtherFocusReason)
        return True

    def set_places(self, places: Places) -> None:
        """Say where jobs run, for the search to be narrowed to one of them."""
        self._places = places
        if self.bar is not None:
            self.bar.set_places(places)

    def sort(self, order: Order) -> None:
        """Sort what is finished."""
        if order is not self._panel.model.order:
            self._sort(order)
            self.changed.emit()

    def _sort(self, order: Order) -> None:
        model = self._panel.model
        if self._orders:
            self._orders[order].setChecked(True)
        if order is not model.order:
            model.order = order
            self._ask()
            model.say_headers()

    def fold(self, group: Group, on: bool) -> None:
        """Hide the jobs of a group behind its header, or show them again."""
        before = self._panel.model.folded
        self._set_folded(before | {group} if on else before - {group})
        if self._panel.model.folded != before:
            self.changed.emit()

    def _set_folded(self, folded: frozenset[Group]) -> None:
        for group, action in self._folds.items():
            action.setChecked(group in folded)
        if folded != self._panel.model.folded:
            self._panel.model.folded = folded
            self._panel.refresh()
            self._panel.model.say_headers()

    def _to_list(self) -> None:
        view = self._panel.view
        view.setFocus(Qt.FocusReason.OtherFocusReason)
        if view.selected_rows():
            return
        rows = range(self._panel.model.rowCount())
        first = next((row for row in rows if not self._panel.model.is_header(row)), None)
        if first is not None:
            view.setCurrentIndex(self._panel.model.index(first))

    # -- looking ---------------------------------------------------------------

    def refreshed(self) -> None:
        """Look again, for the queue is another one."""
        if self._now() != Wanted() and not self._timer.isActive():
            self._timer.start(CHANGED_MS)

    def _on_asked(self) -> None:
        if self._now().narrows:
            self._timer.start(TYPED_MS)
        else:
            self._ask()

    def _now(self) -> Wanted:
        bar, model = self.bar, self._panel.model
        if bar is None:
            return Wanted(order=model.order)
        told = model.told
        decide = [job_id for job_id, why in told.reasons.items() if why.decide]
        # A job that was set aside stays so while another one runs, and no reasons are told.
        aside = tuple(dict.fromkeys([*decide, *told.marks]))
        return Wanted(bar.text(), bar.shows(), bar.places(), model.order, aside)

    def _ask(self) -> None:
        self._timer.stop()
        self._asked = self._now()
        if self._asked.narrows or self._asked.order is not Order.NEWEST:
            self.wanted.emit(self._asked)
        else:
            self.show_found(self._asked, Found())

    def show_found(self, wanted: Wanted, found: Found) -> None:
        """Show what came of a look; of one that is not the last one asked for, nothing."""
        if wanted != self._asked:
            return
        model = self._panel.model
        if model.found != found:
            model.found = found
            self._panel.show_again()
        self._tell()

    def _tell(self) -> None:
        if self.bar is None:
            return
        model = self._panel.model
        total = model.total()
        jobs = "1 job" if total == 1 else f"{total:,} jobs"
        self.bar.tell(f"{model.shown():,} of {jobs}" if model.narrowed else jobs)

    def resized(self) -> None:
        """Fit the calendar to another size of the dock."""
        if self.calendar is not None:
            self.calendar.updateGeometry()

    # -- the calendar ----------------------------------------------------------

    def on_calendar(self, on: bool) -> None:
        """Show the calendar of the night, or hide it; that is remembered."""
        self.show_calendar(on)
        self.changed.emit()

    def show_calendar(self, on: bool) -> None:
        """Show or hide the strip on which the night is drawn."""
        if on and self.calendar is None:
            from widgets.queue_calendar import NightCalendar

            self.calendar = NightCalendar(self._panel)
            self.calendar.picked.connect(self._on_picked)
            self._panel.put(self.calendar)
        if self.calendar is not None:
            self.calendar.setVisible(on)
        self._panel.actions_by_name["calendar"].setChecked(on)
        self.show_night()

    def show_night(self) -> None:
        """Draw what the model knows of the night, where the calendar is shown."""
        if self.calendar is not None and not self.calendar.isHidden():
            model = self._panel.model
            night, at_unix = model.told.night or (None, 0.0)
            self.calendar.show_night(night, at_unix, paused=model.paused)
            self.calendar_drawn.emit(self.calendar)

    def set_until(self, until_unix: float) -> None:
        """Mark by when a person wants all to be ready, until that is past."""
        self.until = until_unix
        self.show_night()

    def _on_picked(self, job_id: str) -> None:
        """Select a job that runs or waits, and bring it in sight."""
        model, view = self._panel.model, self._panel.view
        for group in (Group.RUNNING, Group.WAITING):
            rows = model.rows_of(group)
            ids = model.ids_at(rows)
            if job_id in ids:
                view.setCurrentIndex(model.index(rows.start + ids.index(job_id)))
                view.setFocus(Qt.FocusReason.MouseFocusReason)

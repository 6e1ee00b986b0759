"""The dialog about when jobs may begin, and when one is stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, time
from typing import Any, Protocol

from PySide6.QtCore import Qt, QTime, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QHBoxLayout,
    QTimeEdit,
    QVBoxLayout,
    QWidget,
)

from widgets.parts import FittingScroll, label, number_field

USUAL_MINUTES = 60
"""Shown where no limit is set."""


class Chosen(Protocol):
    """What is set now; see `core.settings.Settings`."""

    quiet_hours: str
    cool_down: bool
    hot_celsius: float
    min_free_mb: int
    retries: int
    watchdog: str
    longest_minutes: int
    most_waiting_there: int
    fail_over: str
    start_queue: str
    may_shorten: bool
    may_shrink: bool


class OrdersDialog(QDialog):
    """Asks for times, heat, memory, hangs and retries in one place.

    Signals:
        chosen: New values by name; `start_at` is a time of day or None.
    """

    chosen = Signal(dict)

    def __init__(
        self, settings: Chosen, start_at: float | None, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("When jobs run")
        start, _, end = (settings.quiet_hours or "22:00-07:00").partition("-")
        self.quiet = QCheckBox("No job begins &between")
        self.quiet.setChecked(bool(settings.quiet_hours))
        self.quiet_start = _time(start, "Quiet hours begin")
        self.quiet_end = _time(end, "Quiet hours end")
        self.wait = QCheckBox("No job begins b&efore")
        self.wait.setChecked(start_at is not None)
        begin = datetime.fromtimestamp(start_at) if start_at is not None else datetime.now()
        self.start = _time(begin.strftime("%H:%M"), "Start at")
        self.cool = QCheckBox("Let a card cool down &from")
        self.cool.setChecked(settings.cool_down)
        self.hot = number_field(settings.hot_celsius, (50.0, 110.0), " °C", "Hot from")
        self.free = number_field(settings.min_free_mb, (0, 1_000_000), " MB", "Least free memory")
        self.retries = number_field(settings.retries, (0, 20), "", "Retries of a failed job")
        self.act = QCheckBox("&Stop a job that hangs")
        self.act.setChecked(settings.watchdog == "act")
        self.limit = QCheckBox("Stop &any job after")
        self.limit.setChecked(settings.longest_minutes > 0)
        minutes = settings.longest_minutes or USUAL_MINUTES
        self.longest = number_field(minutes, (1, 10_080), " min", "Longest time of a job")
        self.shorten = QCheckBox("Fe&wer frames")
        self.shorten.setChecked(settings.may_shorten)
        self.shrink = QCheckBox("A smal&ler picture")
        self.shrink.setChecked(settings.may_shrink)
        for box in (self.shorten, self.shrink):
            box.setToolTip(
                "Never less than half of what was asked for, and only after everything that "
                "leaves the clip as it is."
            )
        for field in (self.hot, self.free, self.retries, self.longest):
            field.setDecimals(0)
        for box, fields in (
            (self.quiet, (self.quiet_start, self.quiet_end)),
            (self.wait, (self.start,)),
            (self.cool, (self.hot,)),
            (self.limit, (self.longest,)),
        ):
            for one in fields:
                one.setEnabled(box.isChecked())
                box.toggled.connect(one.setEnabled)
        self.error = label("", "error")
        self.error.setWordWrap(True)
        self.error.hide()
        self.depth = number_field(
            settings.most_waiting_there, (0, 1000), "", "Jobs in a server's own queue at most"
        )
        self.depth.setDecimals(0)
        self.away = _choice(
            {"ask": "Ask first", "always": "Run on another by themselves"},
            settings.fail_over,
            "Jobs of a server that is away",
        )
        self.begin = _choice(
            {"last": "As it was left", "run": "Running", "paused": "Paused"},
            settings.start_queue,
            "How the queue begins with the program",
        )
        self.check: Callable[[Mapping[str, Any]], str] = lambda _: ""
        """Says what contradicts what in the new values; "" for nothing."""
        self._lay_out()

    def _lay_out(self) -> None:
        about = label(
            "Times, heat and memory stop no job that runs; the next one waits, and the status "
            "line says for what. A slow job is not one that hangs.",
            "muted",
        )
        about.setWordWrap(True)
        inside = QWidget()
        inside.setProperty("role", "form")
        form = QFormLayout(inside)
        form.setContentsMargins(0, 0, 6, 0)
        _head(form, "TIMES", first=True)
        form.addRow(self.quiet, _row(self.quiet_start, label("and", "muted"), self.quiet_end))
        form.addRow(self.wait, self.start)
        form.addRow("&Queue at the program's start", self.begin)
        _head(form, "MEMORY AND HEAT")
        form.addRow("Least GPU &memory free", self.free)
        form.addRow(self.cool, self.hot)
        _head(form, "WHEN A JOB GOES WRONG")
        form.addRow("&Retries of a failed job", self.retries)
        form.addRow("Out of memory, it may get", _row(self.shorten, self.shrink))
        form.addRow(self.act, label("it is told, and tried again", "muted"))
        form.addRow(self.limit, self.longest)
        _head(form, "SERVERS")
        form.addRow("Most &jobs in a server's queue", self.depth)
        form.addRow("Jobs of a server that is &away", self.away)
        for row in (self.quiet, self.wait, self.cool, self.act, self.limit):
            # A box in the place of a label is set on top otherwise.
            row.setMinimumHeight(self.hot.sizeHint().height())
        form.setLabelAlignment(Qt.AlignmentFlag.AlignVCenter)
        kinds = QDialogButtonBox.StandardButton
        buttons = QDialogButtonBox(kinds.Ok | kinds.Cancel)
        for button in buttons.buttons():
            button.setIcon(QIcon())
        buttons.accepted.connect(self._accept)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.setSpacing(10)
        # On a low screen it scrolls; what is wrong, and the buttons, stay in sight.
        scroll = FittingScroll(inside)
        bar = scroll.verticalScrollBar().sizeHint().width()
        scroll.setMinimumWidth(inside.minimumSizeHint().width() + bar)
        for item in (about, scroll, self.error, buttons):
            column.addWidget(item)

    def _refuse(self, why: str) -> None:
        self.error.setText(why)
        self.error.show()
        self.adjustSize()

    def _accept(self) -> None:
        quiet = ""
        if self.quiet.isChecked():
            start, end = _shown(self.quiet_start), _shown(self.quiet_end)
            if start == end:
                self._refuse("Quiet hours have no length: use two different times.")
                self.quiet_end.setFocus()
                return
            quiet = f"{start:%H:%M}-{end:%H:%M}"
        found: dict[str, Any] = {
            "quiet_hours": quiet,
            "start_at": _shown(self.start) if self.wait.isChecked() else None,
            "cool_down": self.cool.isChecked(),
            "hot_celsius": self.hot.value(),
            "min_free_mb": round(self.free.value()),
            "retries": round(self.retries.value()),
            "watchdog": "act" if self.act.isChecked() else "tell",
            "longest_minutes": round(self.longest.value()) if self.limit.isChecked() else 0,
            "most_waiting_there": round(self.depth.value()),
            "fail_over": self.away.currentData(),
            "start_queue": self.begin.currentData(),
            "may_shorten": self.shorten.isChecked(),
            "may_shrink": self.shrink.isChecked(),
        }
        wrong = self.check(found)
        if wrong:
            self._refuse(wrong)
            return
        self.chosen.emit(found)
        self.accept()


def _head(form: QFormLayout, text: str, *, first: bool = False) -> None:
    head = label(text, "section")
    head.setContentsMargins(0, 0 if first else 8, 0, 0)
    form.addRow(head)


def _time(text: str, name: str) -> QTimeEdit:
    hour, minute = text.split(":")
    field = QTimeEdit(QTime(int(hour), int(minute)))
    field.setDisplayFormat("HH:mm")
    field.setButtonSymbols(QTimeEdit.ButtonSymbols.NoButtons)
    field.setAccessibleName(name)
    field.lineEdit().setTextMargins(6, 0, 6, 0)
    field.setMinimumWidth(80)
    return field


def _choice(titles: Mapping[str, str], value: str, name: str) -> QComboBox:
    box = QComboBox()
    for key, title in titles.items():
        box.addItem(title, key)
    box.setCurrentIndex(max(0, box.findData(value)))
    box.setAccessibleName(name)
    return box


def _shown(field: QTimeEdit) -> time:
    shown = field.time()
    return time(shown.hour(), shown.minute())


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(8)
    for widget in widgets:
        row.addWidget(widget)
    row.addStretch(1)
    return row

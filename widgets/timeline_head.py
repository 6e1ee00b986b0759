"""The row above the memory timeline: which memory, what its colours mean, which stretch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QAction, QActionGroup, QColor, QFontMetricsF, QPainter
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QSizePolicy,
    QWidget,
)

from widgets import theme
from widgets.timeline_data import AXES, REST, SYSTEM, USED, Axis, Track, gigabytes

if TYPE_CHECKING:
    from PySide6.QtGui import QResizeEvent

ALL = math.inf
RANGES = (
    ("1 min", 60.0),
    ("5 min", 300.0),
    ("15 min", 900.0),
    ("1 h", 3600.0),
    ("6 h", 21_600.0),
    ("24 h", 86_400.0),
    ("All", ALL),
)
WIDE = 760
"""Pixels from which on the words beside the legend are whole."""
ROOMY = 1000
"""Pixels from which on every range has a button; below there is a menu."""
MOST_TABS = 3
"""GPUs that have tabs; more of them are in a list."""


class Legend(QWidget):
    """Swatches with names, as many as there is room for."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._parts: list[tuple[str, str]] = []

    @property
    def parts(self) -> list[tuple[str, str]]:
        """What is shown: (colour's name in Tokens, text)."""
        return list(self._parts)

    def set_parts(self, parts: list[tuple[str, str]]) -> None:
        """Show (colour's name in Tokens, text) pairs."""
        if parts != self._parts:
            self._parts = parts
            self.update()

    def sizeHint(self) -> QSize:
        """Return the height of a line."""
        return QSize(0, self.fontMetrics().height() + 4)

    def paintEvent(self, _event: object) -> None:
        """Draw them from the left."""
        tokens, metrics = theme.of(self), QFontMetricsF(self.font())
        painter, x, middle = QPainter(self), 0.0, self.height() / 2
        for name, text in self._parts:
            width = metrics.horizontalAdvance(text)
            if x + 15 + width > self.width():
                break
            painter.fillRect(QRectF(x, middle - 5, 10, 10), QColor(getattr(tokens, name)))
            painter.setPen(QColor(tokens.muted))
            box = QRectF(x + 15, 0, width + 2, self.height())
            painter.drawText(box, int(Qt.AlignmentFlag.AlignVCenter), text)
            x += 15 + width + 14
        painter.end()


class Head(QWidget):
    """Tabs or a list of tracks, the legend, the second axis, ranges and a menu.

    Signals:
        track_chosen: A track's key.
        span_chosen: Seconds; infinite for all there is.
        now_wanted: Follow now.
        axis_chosen: An `Axis`, or None for no second axis.
    """

    track_chosen = Signal(int)
    span_chosen = Signal(float)
    now_wanted = Signal()
    axis_chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        self.tabs: list[QPushButton] = []
        self._tab_row = QHBoxLayout()
        self._tab_row.setSpacing(4)
        self.tracks = QComboBox()
        self.tracks.setAccessibleName("Which memory to show")
        self.tracks.activated.connect(
            lambda place: self.track_chosen.emit(self.tracks.itemData(place))
        )
        self.tracks.hide()
        self.title = QLabel("Memory")
        self.title.setProperty("role", "muted")
        self.legend = Legend()
        self.legend.setToolTip("Rest: in use, but by no process that could be named")
        row.addLayout(self._tab_row)
        row.addWidget(self.tracks)
        row.addWidget(self.title)
        row.addSpacing(8)
        row.addWidget(self.legend, 1)
        self._add_axis(row)
        self._add_ranges(row)
        self.menu = QMenu(self)
        self.more = chip("⋯", "Save, compare, keep memory free (F10)", checkable=False)
        self.more.setMenu(self.menu)
        row.addWidget(self.more)

    def _add_axis(self, row: QHBoxLayout) -> None:
        self.axis = chip("Axis", "A second axis (A for the next one)", checkable=False)
        menu, group = QMenu(self), QActionGroup(self)
        self.axis_actions: list[QAction] = []
        for axis in (None, *AXES):
            action = menu.addAction(axis.name if axis is not None else "No second axis")
            action.setCheckable(True)
            action.setChecked(axis is None)
            group.addAction(action)
            action.triggered.connect(lambda _=False, chosen=axis: self.axis_chosen.emit(chosen))
            self.axis_actions.append(action)
        self.axis.setMenu(menu)
        row.addWidget(self.axis)

    def _add_ranges(self, row: QHBoxLayout) -> None:
        self.ranges: list[QPushButton] = []
        menu = QMenu(self)
        for number, (text, seconds) in enumerate(RANGES, 1):
            button = chip(text, f"Show {'all there is' if seconds == ALL else text} ({number})")
            button.clicked.connect(lambda _=False, span=seconds: self.span_chosen.emit(span))
            menu.addAction(text, lambda span=seconds: self.span_chosen.emit(span))
            self.ranges.append(button)
            row.addWidget(button)
        self.range_menu = chip("1 min", "How much time to show (1 to 7)", checkable=False)
        self.range_menu.setMenu(menu)
        row.addWidget(self.range_menu)
        self.now = chip("Now", "Follow now (End, or double click)")
        self.now.clicked.connect(self.now_wanted)
        row.addWidget(self.now)

    def set_tracks(self, gpus: list[Track], key: int | None) -> None:
        """List the GPUs and main memory: in tabs while they are few."""
        names = [(_short_name(track, len(gpus)), track.name, track.key) for track in gpus]
        if gpus:
            names.append(("System memory", "Main memory of the machine", SYSTEM))
        for tab in self.tabs:
            tab.deleteLater()
        self.tabs.clear()
        self.tracks.clear()
        for text, whole, number in names:
            self.tracks.addItem(text, number)
            if len(gpus) <= MOST_TABS:
                short = f"GPU {number}" if number != SYSTEM else "RAM"
                tab = chip(short if len(gpus) > 1 or number == SYSTEM else text, whole)
                tab.clicked.connect(lambda _=False, chosen=number: self.track_chosen.emit(chosen))
                self._tab_row.addWidget(tab)
                self.tabs.append(tab)
        self.tracks.setVisible(len(gpus) > MOST_TABS)
        self.mark_track(key)

    def mark_track(self, key: int | None) -> None:
        """Show which track is shown."""
        self.tracks.setCurrentIndex(self.tracks.findData(key))
        for place, tab in enumerate(self.tabs):
            tab.setChecked(self.tracks.itemData(place) == key)

    def mark_range(self, span: float, *, whole: bool, follow: bool) -> None:
        """Show which range is shown, and whether the view follows now."""
        shown = ""
        for button, (text, seconds) in zip(self.ranges, RANGES, strict=True):
            chosen = whole if seconds == ALL else not whole and abs(seconds - span) < 0.5
            button.setChecked(chosen)
            shown = text if chosen else shown
        self.range_menu.setText(shown or span_name(span))
        self.now.setChecked(follow)

    def mark_axis(self, axis: Axis | None) -> None:
        """Show which second axis is shown."""
        for action, choice in zip(self.axis_actions, (None, *AXES), strict=True):
            action.setChecked(choice is axis)
        self.axis.setText(f"Axis: {axis.unit}" if axis is not None else "Axis")
        self.axis.setAccessibleName(f"Second axis: {axis.name if axis is not None else 'none'}")

    def show_words(
        self, track: Track, values: tuple[float, ...], *, gpu: bool, limit: float | None
    ) -> None:
        """Name the parts and say, for who cannot see them, how much is in use."""
        wide = self.width() >= WIDE
        if track.key != SYSTEM:
            self.title.setText("Memory, GB" if wide else "GB")
        elif gpu:
            self.title.setText("GB")
        else:
            self.title.setText(f"System memory{' (no NVIDIA GPU found)' if wide else ''}")
            self.title.setToolTip("There is no NVIDIA GPU to watch, so this is main memory.")
        parts = [(part.colour, name) for part, name in track.parts]
        if values[REST] != values[REST]:
            parts = [("series_other", "In use (the driver does not say by whom)")]
        if limit is not None:
            parts.append(("warning", f"Reserve above {gigabytes(limit)}"))
        self.legend.set_parts(parts)
        used = values[USED]
        state = f"{gigabytes(used)} of {gigabytes(track.total_bytes, 0)} in use"
        self.legend.setAccessibleName(f"{track.name}: {state}")

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Fold the ranges into a menu where there is little room."""
        super().resizeEvent(event)
        roomy = self.width() >= ROOMY
        for button in self.ranges:
            button.setVisible(roomy)
        self.range_menu.setVisible(not roomy)


def span_name(seconds: float) -> str:
    """Return a length of time as such as "90 s", "12 min", "3.5 h" or "2 d"."""
    for size, unit in ((86_400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size or (seconds >= size and not seconds % size):
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def chip(text: str, tip: str, *, checkable: bool = True) -> QPushButton:
    """Return a small round button."""
    button = QPushButton(text)
    button.setCheckable(checkable)
    button.setProperty("kind", "chip")
    button.setToolTip(tip)
    button.setAccessibleName(tip)
    return button


def _short_name(track: Track, count: int) -> str:
    name = track.name.removeprefix("NVIDIA ").removeprefix("GeForce ")
    return f"GPU {track.key} · {name}" if count > 1 else name

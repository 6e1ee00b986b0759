"""The trace windows that a timeline opened, one for each attempt at a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QWidget

from widgets.timeline_bands import Band
from widgets.timeline_data import Past, Track

if TYPE_CHECKING:
    from widgets.trace import TraceWindow


class Traces(QObject):
    """Opens trace windows and keeps those of running jobs up to date.

    Signals:
        problem: A `core.errors.Problem` that a trace met.
    """

    problem = Signal(object)

    def __init__(self, past: Past, parent: QWidget) -> None:
        super().__init__(parent)
        self._past, self._panel = past, parent
        self.windows: dict[int, TraceWindow] = {}

    def open(self, band: Band, track: Track | None) -> None:
        """Show the trace of the band's job, the one already open if there is one."""
        opened = self.windows.get(band.run)
        if opened is None and track is not None:
            # pyqtgraph comes with the first trace, not with the window.
            from widgets.trace import TraceWindow

            opened = TraceWindow(band, track, self._past, self._panel.window())
            opened.problem.connect(self.problem)
            opened.destroyed.connect(lambda _=None, run=band.run: self.windows.pop(run, None))
            self.windows[band.run] = opened
        if opened is not None:
            opened.show()
            opened.raise_()
            opened.activateWindow()

    def follow(self, now: float) -> None:
        """Take a reading's time."""
        for window in self.windows.values():
            window.follow(now)

    def refresh(self) -> None:
        """Draw them all anew."""
        for window in self.windows.values():
            window.refresh()

"""What the timeline's menu does: save a picture or data, compare traces."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, time
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QMenu, QWidget

from widgets import saving
from widgets.timeline_data import Past, Track
from widgets.timeline_view import TimelineView

if TYPE_CHECKING:
    from core.recorder.trace import JobTrace
    from widgets.compare import CompareWindow

Take = Callable[["list[JobTrace]", "Callable[[JobTrace], str] | None"], object]
Loader = Callable[[int, Take], None]
"""Given a track's key and whom to hand the traces to."""

DATA = {".csv": "CSV table", ".json": "JSON"}
PICTURE = {".png": "PNG picture", ".svg": "SVG drawing"}


class Files(QObject):
    """Saves what the view shows, and opens comparisons.

    Signals:
        saved: Path of a file that is whole now.
        problem: A `core.errors.Problem`.
    """

    saved = Signal(str)
    problem = Signal(object)

    def __init__(self, past: Past, view: TimelineView, parent: QWidget) -> None:
        super().__init__(parent)
        self._past, self._view, self._panel = past, view, parent
        self._traces: Callable[[], list[JobTrace]] | None = None
        self._recipe_of: Callable[[JobTrace], str] | None = None
        self._loader: Loader | None = None
        self._saver = saving.Saver(self)
        self._saver.saved.connect(self.saved)
        self._saver.failed.connect(self.problem)

    def set_traces(
        self,
        source: Callable[[], list[JobTrace]],
        recipe_of: Callable[[JobTrace], str] | None = None,
    ) -> None:
        """Take recorded traces from `source`, the newest first, instead of the timeline's own."""
        self._traces, self._recipe_of = source, recipe_of

    def set_loader(self, loader: Loader) -> None:
        """Ask `loader` for recorded traces when a comparison is wanted, and open it when they come.

        Args:
            loader: Is given the track's key and whom to hand the traces to, the
                newest first, with the name of what each is a run of.
        """
        self._loader = loader

    def fill(self, menu: QMenu) -> None:
        """Add what can be done to a menu."""
        menu.addAction("Save picture…", lambda: self.ask_picture())
        menu.addAction("Save data…", lambda: self.ask_data())
        menu.addSeparator()
        menu.addAction("Compare traces…\tC", lambda: self.compare())

    def save(self, path: str) -> None:
        """Write what is in view to `path`; its ending says how: .csv, .json, .png or .svg."""
        track, scale = self._view.track, self._view.scale
        if track is None:
            return
        kind = path.rsplit(".", 1)[-1].lower()
        if kind in ("csv", "json"):
            # Loaded by who saves, not with the window.
            from widgets import timeline_export

            write = timeline_export.json_pieces if kind == "json" else timeline_export.csv_pieces
            stretch = scale.start, scale.end
            pieces = write(track, self._past, *stretch, time() - monotonic())
            self._saver.begin(path, pieces)
        elif kind == "svg":
            self._saver.begin(path, [self._svg(track)])
        else:
            self._saver.begin(path, [saving.png(self._view)])

    def _svg(self, track: Track) -> bytes:
        """Draw the view once more, without pictures kept from before."""
        view = self._view
        drawn = TimelineView(self._past, direct=True)
        drawn.setFont(view.font())
        drawn.resize(view.size())
        drawn.axis, drawn.mouse = view.axis, view.mouse
        drawn.show_stretch(track, *view.stretch)
        made = saving.svg(view.size(), f"Memory of {track.name}", drawn.paint)
        drawn.deleteLater()
        return made

    def ask_picture(self) -> None:
        """Ask for a path and save a picture there."""
        self._ask("Save the picture", "timeline.png", PICTURE)

    def ask_data(self) -> None:
        """Ask for a path and save the samples in view there."""
        self._ask("Save the readings", "timeline.csv", DATA)

    def _ask(self, title: str, name: str, kinds: dict[str, str]) -> None:
        path = saving.ask(self._panel, title, name, kinds) if self._view.track else ""
        if path:
            self.save(path)

    def compare(self) -> CompareWindow | None:
        """Open a comparison of recorded traces, or of those that the timeline holds.

        Returns:
            The window; None while the traces are loaded, and without any reading.
        """
        track = self._view.track
        if track is None:
            return None
        if self._loader is not None:
            self._loader(track.key, self.open_comparison)
            return None
        from widgets.compare_data import kept_traces

        if self._traces is not None:
            traces = self._traces()
        else:
            traces = kept_traces(self._past, track, time() - monotonic())
        return self.open_comparison(traces, self._recipe_of)

    def open_comparison(
        self, traces: list[JobTrace], recipe_of: Callable[[JobTrace], str] | None
    ) -> CompareWindow:
        """Open a comparison of these traces, the newest first."""
        from widgets.compare import CompareWindow

        window = CompareWindow(traces, recipe_of, self._panel.window())
        window.problem.connect(self.problem)
        window.show()
        return window

"""The comparison: traces of several runs on top of each other, from the start of each job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QColor, QIcon, QKeySequence, QPixmap, QShortcut
from PySide6.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSplitter,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from core.gpu.columns import USED
from core.recorder.trace import JobTrace
from core.units import GIGABYTE
from widgets import compare_data, saving, theme
from widgets.timeline_areas import gaps
from widgets.timeline_paint import GAP_SECONDS

COLOURS = (
    "series_worker",
    "series_llm",
    "series_panel",
    "text",
    "series_comfyui",
    "series_other",
)
"""Of the traces in turn: they stay apart for colour-blind eyes; a second round is dashed."""
FIRST_SHOWN = 2
NAME_PIXELS = 23
"""Height of a name in the plot."""
MOST_NAMES = 0.4
"""Share of the plot that names may take above the curves."""
MOST_SHOWN = 12
DATA = {".csv": "CSV table", ".json": "JSON"}
PICTURE = {".png": "PNG picture", ".svg": "SVG drawing"}


class CompareWindow(QDialog):
    """Draws the traces that are ticked in its table. pyqtgraph is loaded here.

    Args:
        traces: What there is to choose from, the newest first.
        recipe_of: What a trace is a run of, by name; only runs of one recipe are
            shown together. Without it all are listed.
        parent: Window that it belongs to.

    Signals:
        problem: A `Problem` met while saving.
    """

    problem = Signal(object)

    def __init__(
        self,
        traces: Sequence[JobTrace],
        recipe_of: Callable[[JobTrace], str] | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._all = list(traces)
        self._recipe_of = recipe_of
        self._listed: list[JobTrace] = []
        self._plot: Any = None
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowFlags(Qt.WindowType.Window)
        self.setWindowTitle("Compare traces")
        self.resize(920, 560)
        self._lay_out()
        self._list()

    @property
    def chosen(self) -> list[JobTrace]:
        """The traces that are drawn."""
        ticked = (
            self.table.item(row, 0).checkState() == Qt.CheckState.Checked
            for row in range(len(self._listed))
        )
        return [trace for trace, on in zip(self._listed, ticked, strict=True) if on]

    # Layout

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        self.recipes = QComboBox()
        self.recipes.setAccessibleName("Runs of which recipe")
        names = sorted({self._recipe_of(trace) for trace in self._all}) if self._recipe_of else []
        self.recipes.addItems(names)
        self.recipes.setVisible(len(names) > 1)
        if self._recipe_of and self._all:
            self.recipes.setCurrentText(self._recipe_of(self._all[0]))
        self.recipes.currentIndexChanged.connect(self._list)
        self.told = QLabel()
        self.told.setProperty("role", "muted")
        self.told.setWordWrap(True)
        self.table = QTableWidget(0, len(compare_data.HEADINGS))
        self.table.setHorizontalHeaderLabels(list(compare_data.HEADINGS))
        self.table.setAccessibleName("Traces: tick those to draw (Space)")
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.verticalHeader().hide()
        self.table.setIconSize(QSize(14, 14))
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.itemChanged.connect(self._on_ticked)
        self._split = QSplitter(Qt.Orientation.Vertical)
        self._split.addWidget(self.table)
        self._saver = saving.Saver(self)
        self._saver.saved.connect(lambda path: self.told.setText(f"Saved {path}"))
        self._saver.failed.connect(self._on_failed)
        self.save_data_button = QPushButton("Save data…")
        self.save_data_button.setToolTip("Save every reading as CSV or JSON (Ctrl+S)")
        self.save_data_button.clicked.connect(self._ask_data)
        self.save_picture_button = QPushButton("Save picture…")
        self.save_picture_button.setToolTip("Save the plot as PNG or SVG (Ctrl+E)")
        self.save_picture_button.clicked.connect(self._ask_picture)
        foot = QHBoxLayout()
        foot.addWidget(self.told, 1)
        buttons = (self.save_data_button, "Ctrl+S"), (self.save_picture_button, "Ctrl+E")
        for button, keys in buttons:
            button.setAutoDefault(False)
            QShortcut(QKeySequence(keys), self).activated.connect(button.click)
            foot.addWidget(button)
        column.addWidget(self.recipes)
        column.addWidget(self._split, 1)
        column.addLayout(foot)

    def _list(self) -> None:
        """Fill the table; the newest two are ticked."""
        name, recipe_of = self.recipes.currentText(), self._recipe_of
        self._listed = [
            trace for trace in self._all if recipe_of is None or recipe_of(trace) == name
        ]
        self.table.blockSignals(True)
        self.table.setRowCount(len(self._listed))
        for row, trace in enumerate(self._listed):
            for place, text in enumerate(compare_data.cells(trace)):
                item = QTableWidgetItem(text)
                if place:
                    item.setTextAlignment(
                        Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
                    )
                else:
                    item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
                    on = row < FIRST_SHOWN
                    item.setCheckState(Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)
                self.table.setItem(row, place, item)
        self.table.blockSignals(False)
        self._draw()

    def _on_ticked(self, item: QTableWidgetItem) -> None:
        if item.column() == 0:
            if len(self.chosen) > MOST_SHOWN:
                item.setCheckState(Qt.CheckState.Unchecked)
                self.told.setText(f"At most {MOST_SHOWN} traces are drawn at once.")
                return
            self._draw()

    # Drawing

    def _build(self) -> None:
        import pyqtgraph as pg

        self._plot = pg.PlotWidget(self)
        item = self._plot.getPlotItem()
        item.hideButtons()
        item.setMenuEnabled(False)
        self._plot.setContextMenuPolicy(Qt.ContextMenuPolicy.NoContextMenu)
        names = (("bottom", "Seconds since the job began"), ("left", "Memory in use, GB"))
        for name, label in names:
            item.getAxis(name).enableAutoSIPrefix(False)
            item.getAxis(name).setLabel(label)
        item.getViewBox().setMouseEnabled(x=True, y=False)
        item.addLegend(offset=(-8, 8)).setZValue(10)
        self._plot.setAccessibleName("Memory in use of every chosen job, from its start")
        self._split.insertWidget(0, self._plot)
        self._split.setSizes([360, 160])

    def _draw(self) -> None:
        chosen = self.chosen
        for button in (self.save_data_button, self.save_picture_button):
            button.setDisabled(not chosen)
        if len(self._listed) < FIRST_SHOWN:
            self.told.setText("There are not yet two traces to compare; run another job.")
        elif not self._saver.busy:
            self.told.setText("Tick the traces to draw; each begins at second 0.")
        if self._plot is None and chosen:
            self._build()
        if self._plot is None:
            return
        tokens, item = theme.of(self), self._plot.getPlotItem()
        item.clear()
        self._plot.setBackground(QColor(tokens.panel))
        item.legend.setLabelTextColor(QColor(tokens.text))
        # Names stay readable where there are so many that a curve runs below them.
        ground = QColor(tokens.panel)
        ground.setAlpha(160)
        item.legend.setBrush(ground)
        for name in ("bottom", "left"):
            item.getAxis(name).setPen(QColor(tokens.border))
            item.getAxis(name).setTextPen(QColor(tokens.muted))
        for number, trace in enumerate(chosen):
            self._draw_trace(number, trace, tokens)
        length = max((trace.seconds for trace in chosen), default=1.0)
        peaks = [trace.figures.peak_bytes or 0.0 for trace in chosen]
        item.getViewBox().setXRange(0, max(length, 0.1), padding=0.01)
        # The names stand above the curves, as far as that leaves these room.
        names = min(MOST_NAMES, (NAME_PIXELS * len(chosen) + 16) / max(1, self._plot.height() - 40))
        top = max([*peaks, GIGABYTE]) / GIGABYTE * 1.05 / (1 - names)
        item.getViewBox().setYRange(0, top, padding=0)
        self._mark(chosen, tokens)

    def _draw_trace(self, number: int, trace: JobTrace, tokens: theme.Tokens) -> None:
        import numpy as np
        import pyqtgraph as pg

        inside = (trace.times >= 0) & (trace.times <= trace.seconds)
        times, used = trace.times[inside], trace.rows[inside, USED] / GIGABYTE
        joined = np.isfinite(used)
        if len(times) > 1:
            joined[:-1] &= ~gaps(times, GAP_SECONDS)
        again = number >= len(COLOURS)
        style = Qt.PenStyle.DashLine if again else Qt.PenStyle.SolidLine
        colour = QColor(getattr(tokens, COLOURS[number % len(COLOURS)]))
        curve = pg.PlotDataItem(
            times,
            np.nan_to_num(used),
            connect=joined.astype(np.int32),
            pen=pg.mkPen(colour, width=1, style=style),
            name=f"{number + 1} · {trace.title or trace.job_id}",
        )
        self._plot.getPlotItem().addItem(curve)

    def _mark(self, chosen: list[JobTrace], tokens: theme.Tokens) -> None:
        """Show each drawn trace's colour and number in the table."""
        self.table.blockSignals(True)
        numbers = {id(trace): number for number, trace in enumerate(chosen)}
        for row, trace in enumerate(self._listed):
            number, item = numbers.get(id(trace)), self.table.item(row, 0)
            name = trace.title or trace.job_id
            if number is None:
                item.setIcon(QIcon())
                item.setText(name)
            else:
                swatch = QPixmap(14, 14)
                swatch.fill(QColor(getattr(tokens, COLOURS[number % len(COLOURS)])))
                item.setIcon(QIcon(swatch))
                item.setText(f"{number + 1} · {name}")
        self.table.blockSignals(False)

    # Saving

    def save(self, path: str) -> None:
        """Write the drawn traces to `path`; its ending says how: .csv, .json, .png or .svg."""
        self._saver.begin(path, self._pieces(path.rsplit(".", 1)[-1].lower()))

    def _pieces(self, kind: str) -> Any:
        if kind == "csv":
            return compare_data.csv_pieces(self.chosen)
        if kind == "json":
            return compare_data.json_pieces(self.chosen)
        if kind == "svg":
            size, title = self._plot.size(), self.windowTitle()
            return [saving.svg(size, title, lambda painter: self._plot.render(painter))]
        return [saving.png(self._plot)]

    def _ask_data(self) -> None:
        path = saving.ask(self, "Save the traces", "traces.csv", DATA)
        if path:
            self.save(path)

    def _ask_picture(self) -> None:
        path = saving.ask(self, "Save the comparison", "traces.png", PICTURE)
        if path:
            self.save(path)

    def _on_failed(self, problem: Any) -> None:
        self.told.setText(f"{problem.message} {problem.hint}")
        self.problem.emit(problem)

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and self._plot is not None:
            self._draw()

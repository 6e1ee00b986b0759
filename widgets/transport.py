"""The row under the film strip: play, time, scrub, and what to do with the clip."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QSizePolicy, QSlider, QWidget

from widgets import theme
from widgets.parts import Button, ElidedLabel, IconButton, label

_SCRUB = 150


class ScrubBar(QSlider):
    """The place in the clip; beneath it, how much of the job is done."""

    def __init__(self) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self._progress = 1.0
        self._loaded = 0.0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Place in the clip")
        self.setPageStep(8)

    def sizeHint(self) -> QSize:
        """Ask for a line with room for its handle."""
        return QSize(160, 20)

    def minimumSizeHint(self) -> QSize:
        """Allow narrow stages."""
        return QSize(60, 20)

    def set_progress(self, done: float, loaded: float = 0.0) -> None:
        """Fill the line up to `done` (0 to 1), of which `loaded` was loading."""
        if (done, loaded) != (self._progress, self._loaded):
            self._progress, self._loaded = done, loaded
            self.update()

    def progress(self) -> float:
        """Return how far the line is filled, 0 to 1."""
        return self._progress

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        """Draw the line, its filling and the handle."""
        colours = theme.of(self)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        line = QRectF(7, self.height() / 2 - 3, max(self.width() - 14, 1), 6)
        for share, colour in (
            (1.0, colours.border),
            (self._progress, colours.phase_sample),
            (self._loaded, colours.phase_load),
        ):
            if share > 0:
                painter.setBrush(QColor(colour))
                part = QRectF(line.x(), line.y(), line.width() * min(share, 1.0), line.height())
                painter.drawRoundedRect(part, 3, 3)
        if self.isEnabled():
            x = line.x() + line.width() * self.value() / max(self.maximum(), 1)
            painter.setBrush(QColor(colours.text))
            if self.hasFocus():
                painter.setPen(QPen(QColor(colours.focus), 2))
            painter.drawEllipse(QRectF(x - 5.5, self.height() / 2 - 5.5, 11, 11))
        painter.end()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Jump to where the pointer is."""
        if event.button() is Qt.MouseButton.LeftButton and self.isEnabled():
            self.setSliderDown(True)
            self._go(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Scrub."""
        if self.isSliderDown():
            self._go(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: ARG002
        """Let go."""
        self.setSliderDown(False)

    def _go(self, event: QMouseEvent) -> None:
        share = (event.position().x() - 7) / max(self.width() - 14, 1)
        value = round(max(0.0, min(share, 1.0)) * self.maximum())
        self.setValue(value)
        self.sliderMoved.emit(value)


class Transport(QWidget):
    """Buttons and the scrub bar; a request each, decisions elsewhere."""

    stop = Signal()
    reject = Signal()
    save_as = Signal()
    reveal = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.play = IconButton("play", "Play", "Play or pause (Space)")
        self.back = IconButton("step-back", "One frame back", "One frame back (←)")
        self.forward = IconButton("step-forward", "One frame on", "One frame on (→)")
        self.loop = IconButton("loop", "Loop", "Loop (L)")
        self.loop.setCheckable(True)
        self.loop.setChecked(True)
        self.time = label("00:00.0 / 00:00.0", "time")
        self.scrub = ScrubBar()
        self.status = ElidedLabel(role="muted", least=50)
        self.status.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.reject_button = Button(
            "Reject, next seed", tip="Stop this one and queue it with a new seed (R)"
        )
        self.stop_button = Button("Stop", tip="Stop this job (Ctrl+.)")
        self.save_button = Button("Save as…", icon="save", tip="Save a copy of the clip")
        self.reveal_button = Button("Show in folder", icon="folder", tip="Open the clip's folder")
        self.reject_button.clicked.connect(self.reject)
        self.stop_button.clicked.connect(self.stop)
        self.save_button.clicked.connect(self.save_as)
        self.reveal_button.clicked.connect(self.reveal)
        self._left = self._row(self.play, self.back, self.forward, self.loop, self.time)
        self._right = self._row(
            self.status, self.reject_button, self.stop_button, self.save_button, self.reveal_button
        )
        self._right.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(10)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(1, 1)
        self._whole: tuple[str, float] | None = None
        self._lines = 0
        self._arrange(1)

    def show_for(self, *, clip: bool, running: bool, done: bool) -> None:
        """Offer what can be done: with a clip to play, a running job, a finished file."""
        for button in (self.play, self.scrub):
            button.setEnabled(clip)
        for button in (self.back, self.forward, self.loop):
            button.setVisible(clip and not running)
        self.stop_button.setVisible(running)
        self.reject_button.setVisible(running)
        self.save_button.setVisible(done)
        self.reveal_button.setVisible(done)
        self._fit()

    def show_progress(self, done: float, loaded: float, text: str) -> None:
        """Fill the line as a phase tells it, unless the whole job's time is known."""
        if self._whole is not None:
            return
        self.scrub.set_progress(done, loaded)
        # Without the button the line says what it was stopped for.
        if self.stop_button.isEnabled():
            self.status.setText(text)

    def set_left(self, words: str, share: float, loaded: float) -> None:
        """Say what the whole job still takes, such as "1:24 left"; "" goes back to phases."""
        self._whole = (words, share) if words else None
        if self._whole is not None:
            self.scrub.set_progress(share, min(share, loaded))
            if self.stop_button.isEnabled():
                self.status.setText(f"{round(share * 100)} % · {words}")

    def set_playing(self, playing: bool) -> None:
        """Show whether the button plays or pauses."""
        self.play.set_icon("pause" if playing else "play")
        self.play.setAccessibleName("Pause" if playing else "Play")

    def set_place(self, index: int, total: int, fps: float) -> None:
        """Show the place in the clip."""
        self.time.setText(f"{clock(index / fps)} / {clock(total / fps)}")
        self.scrub.blockSignals(True)
        self.scrub.setRange(0, max(total - 1, 0))
        self.scrub.setValue(index)
        self.scrub.blockSignals(False)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Give the scrub bar a line of its own where the row is short."""
        super().resizeEvent(event)
        self._fit()

    def minimumSizeHint(self) -> QSize:
        """Allow the short form."""
        hint = super().minimumSizeHint()
        return QSize(320, hint.height())

    def _row(self, *widgets: QWidget | QLabel) -> QWidget:
        holder = QWidget()
        row = QHBoxLayout(holder)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        for widget in widgets:
            if widget in (self.time, self.reject_button, self.save_button):
                row.addSpacing(4)
            row.addWidget(widget)
        return holder

    def _fit(self) -> None:
        left, right = self._left.sizeHint().width(), self._right.sizeHint().width()
        # Two gaps, and a little for figures of another width.
        room = self.width() - 2 * self._grid.horizontalSpacing() - 4
        if left + right + _SCRUB <= room:
            self._arrange(1)
        else:
            self._arrange(2 if left + right <= room else 3)

    def _arrange(self, lines: int) -> None:
        if lines == self._lines:
            return
        self._lines = lines
        for part in (self._left, self.scrub, self._right):
            self._grid.removeWidget(part)
        if lines == 1:
            self._grid.addWidget(self._left, 0, 0)
            self._grid.addWidget(self.scrub, 0, 1)
            self._grid.addWidget(self._right, 0, 2)
        else:
            end = Qt.AlignmentFlag.AlignRight
            self._grid.addWidget(self.scrub, 0, 0, 1, 3)
            self._grid.addWidget(self._left, 1, 0)
            if lines == 2:
                self._grid.addWidget(self._right, 1, 2)
            else:
                self._grid.addWidget(self._right, 2, 0, 1, 3, end)


def clock(seconds: float) -> str:
    """Return "mm:ss.t"."""
    tenths = int(seconds * 10 + 1e-6)
    return f"{tenths // 600:02d}:{tenths // 10 % 60:02d}.{tenths % 10}"


def left_text(seconds: float) -> str:
    """Return "1:24 left" or "1:02:10 left"."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{whole % 60:02d} left"
    return f"{minutes}:{whole % 60:02d} left"

"""The player of a dream: the picture, what is in store, and what can be done with it."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QGuiApplication,
    QKeyEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
    QScreen,
)
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QMenu,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from core.jobs import Job
from core.stream.buffer import HIGHEST_FPS, LOWEST_FPS, FrameBuffer
from widgets import dream_words, theme
from widgets.dream_canvas import DreamCanvas, DreamScreen
from widgets.dream_clock import DreamClock
from widgets.parts import Button, IconButton, label

_GAUGE = 170
"""Narrower than this the gauge gets a line of its own."""


class BufferGauge(QWidget):
    """How full the buffer is: a bar, and the seconds behind it."""

    def __init__(self) -> None:
        super().__init__()
        self._share, self._low = 0.0, False
        self._text = self._short = ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Frames in the buffer")

    def sizeHint(self) -> QSize:
        """Ask for a bar with words behind it."""
        return QSize(240, self.fontMetrics().height() + 8)

    def minimumSizeHint(self) -> QSize:
        """Allow short words."""
        return QSize(110, self.fontMetrics().height() + 8)

    def set_level(self, share: float, text: str, short: str, *, low: bool) -> None:
        """Fill the bar up to `share` (0 to 1); `low` marks a buffer that ran empty."""
        now = (round(share, 3), text, short, low)
        if now != (self._share, self._text, self._short, self._low):
            self._share, self._text, self._short, self._low = now
            self.setAccessibleDescription(f"{text}, {share:.0%} full")
            self.update()

    def level(self) -> tuple[float, str]:
        """Return how full it is shown to be, and the words."""
        return self._share, self._text

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        """Draw the bar, then the words as far as they fit."""
        colours, metrics = theme.of(self), self.fontMetrics()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        room = self.width() - 60
        text = self._text if metrics.horizontalAdvance(self._text) <= room else self._short
        wide = min(metrics.horizontalAdvance(text), room)
        groove = QRectF(1, self.height() / 2 - 3, max(20, self.width() - wide - 10), 6)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(colours.border))
        painter.drawRoundedRect(groove, 3, 3)
        if self._share > 0:
            groove.setWidth(max(6.0, groove.width() * self._share))
            painter.setBrush(QColor(colours.warning if self._low else colours.phase_sample))
            painter.drawRoundedRect(groove, 3, 3)
        painter.setPen(QColor(colours.warning if self._low else colours.muted))
        place = self.rect().adjusted(self.width() - wide, 0, 0, 0)
        painter.drawText(place, int(Qt.AlignmentFlag.AlignVCenter), text)
        painter.end()


class DreamPlayer(QFrame):
    """One dream at a time, from its buffer; requests, no decisions.

    Attributes:
        enough_requested: Id of the job that shall come to a good end.
        stop_requested: Id of the job that shall stop at once.
        over: The last frame of a dream that ended was shown; carries its id.
        full_screen: Whether it fills a screen now.
        screen_chosen: Name of the screen that a person chose to fill.
    """

    enough_requested = Signal(str)
    stop_requested = Signal(str)
    over = Signal(str)
    full_screen = Signal(bool)
    screen_chosen = Signal(str)

    def __init__(self, screen: str = "") -> None:
        """Make a player that fills the screen named `screen` where there is one."""
        super().__init__()
        self.clock = DreamClock(self)
        self.canvas = DreamCanvas(self.clock)
        self.alone: DreamScreen | None = None
        self._chosen = screen
        self._job: Job | None = None
        self._ended = False
        self._controls()
        self.warning = self._warning()
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 12, 12, 10)
        column.setSpacing(8)
        column.addWidget(self.canvas, 1)
        column.addWidget(self.warning)
        column.addWidget(self._bar())
        self.clock.told.connect(self._refresh)
        self.clock.over.connect(self._on_over)
        self.canvas.double_clicked.connect(self.toggle_full_screen)

    def _controls(self) -> None:
        self.pause = IconButton("pause", "Pause", "Pause or go on (Space)")
        self.pause.clicked.connect(self.toggle_pause)
        self.gauge = BufferGauge()
        self.fps = QSpinBox()
        self.fps.setRange(round(LOWEST_FPS), round(HIGHEST_FPS))
        self.fps.setSuffix(" fps")
        self.fps.setKeyboardTracking(False)
        self.fps.setAccessibleName("Frames shown in a second")
        self.fps.setToolTip("Frames shown in a second (+ and −)")
        # WORKAROUND: style sheets do not move the text of a spin box away from its edge.
        self.fps.lineEdit().setTextMargins(6, 0, 6, 0)
        self.fps.valueChanged.connect(self._on_fps)
        self.full = Button("Full screen", tip="Nothing but the dream on a screen (F)")
        self.full.clicked.connect(self.toggle_full_screen)
        self.screens = IconButton("chevron-down", "Screen to fill", "Choose the screen to fill")
        self.screens.clicked.connect(self._show_screens)
        self.enough = Button("End well", tip="Finish what is begun and keep the recording (E)")
        self.enough.clicked.connect(self.request_enough)
        self.stop = Button("Stop", tip="Stop this dream at once (Ctrl+.)")
        self.stop.clicked.connect(self.request_stop)

    def _warning(self) -> QFrame:
        frame = QFrame()
        frame.setProperty("role", "card")
        frame.setProperty("tone", "warning")
        self._says = label("", "small", wrap=True)
        self._offered: int | None = None
        self.slower = Button("")
        self.slower.clicked.connect(self._on_slower)
        row = QHBoxLayout(frame)
        row.setContentsMargins(10, 6, 10, 6)
        row.addWidget(self._says, 1)
        row.addWidget(self.slower)
        frame.hide()
        return frame

    def _bar(self) -> QWidget:
        bar = QWidget()
        self._grid = QGridLayout(bar)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(6)
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(1, 1)
        self._right = QWidget()
        row = QHBoxLayout(self._right)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        for widget in (self.fps, self.full, self.screens, self.enough, self.stop):
            row.addWidget(widget)
        self._lines = 0
        self._arrange(1)
        return bar

    # -- what happens -----------------------------------------------------------

    def begin(self, job: Job, buffer: FrameBuffer) -> None:
        """Show the dream of `job` from `buffer`; nothing is there yet."""
        self._job, self._ended = job, False
        self.clock.frame = None
        for button in (self.enough, self.stop):
            button.setEnabled(True)
        self.canvas.set_words("The dream begins…")
        self.canvas.setAccessibleDescription(job.title)
        self.clock.start(buffer)
        self._refresh()

    def ended(self) -> None:
        """The job is over; what is in the buffer is still shown."""
        self._ended = True
        self._refresh()

    def clear(self) -> None:
        """Show nothing any more."""
        self.leave_full_screen()
        self.clock.stop()
        self._job = None

    def job_id(self) -> str | None:
        """Return the id of the job whose dream is shown."""
        return self._job.id if self._job is not None else None

    def _on_over(self) -> None:
        if self._job is not None:
            self.over.emit(self._job.id)

    # -- requests -----------------------------------------------------------------

    def toggle_pause(self) -> None:
        """Stand still, or go on; the source goes on until the buffer is full."""
        buffer = self.clock.buffer
        if buffer is not None:
            self.clock.set_paused(not buffer.paused)
            self._refresh()

    def request_enough(self) -> None:
        """Ask for the dream to come to a good end."""
        self._ask(self.enough, self.enough_requested)

    def request_stop(self) -> None:
        """Ask for the dream to stop at once."""
        self._ask(self.stop, self.stop_requested)

    def _ask(self, button: Button, request: object) -> None:
        if self._job is not None and not self._ended and button.isEnabled():
            self.enough.setEnabled(False)
            self.stop.setEnabled(button is not self.stop)
            request.emit(self._job.id)  # type: ignore[attr-defined]

    def _on_fps(self, fps: int) -> None:
        self.clock.set_fps(float(fps))

    def _on_slower(self) -> None:
        if self._offered is not None:
            self.fps.setValue(self._offered)

    # -- full screen ------------------------------------------------------------------

    def toggle_full_screen(self) -> None:
        """Fill the chosen screen, or leave it."""
        if self.alone is None:
            self.fill_screen(self._target())
        else:
            self.leave_full_screen()

    def fill_screen(self, screen: QScreen) -> None:
        """Show the dream alone on `screen`."""
        if self.alone is None:
            self.alone = DreamScreen(self.clock)
            self.alone.left.connect(self.leave_full_screen)
            self.alone.key.connect(self.keyPressEvent)
            self.full_screen.emit(True)
        self.canvas.covered = screen is self.screen()
        self.alone.fill(screen)
        self._refresh()

    def leave_full_screen(self) -> None:
        """Show the dream in the window only."""
        if self.alone is not None:
            alone, self.alone = self.alone, None
            had_keys = alone.isActiveWindow()
            alone.hide()
            alone.deleteLater()
            self.canvas.covered = False
            if had_keys:
                # The keys that follow are for the dream in the window.
                self.window().activateWindow()
                self.canvas.setFocus()
            self.full_screen.emit(False)
            self._refresh()

    def menu(self) -> QMenu:
        """Return the screens to choose from."""
        menu, target = QMenu(self), self._target()
        for number, screen in enumerate(QGuiApplication.screens(), 1):
            size = screen.geometry()
            action = menu.addAction(f"{number}  {screen.name()} · {size.width()}×{size.height()}")
            action.setCheckable(True)
            action.setChecked(screen is target)
            action.triggered.connect(lambda _=False, screen=screen: self.choose(screen))
        return menu

    def choose(self, screen: QScreen) -> None:
        """Remember `screen` as the one to fill, and fill it."""
        self._chosen = screen.name()
        self.screen_chosen.emit(self._chosen)
        self.fill_screen(screen)

    def _show_screens(self) -> None:
        menu = self.menu()
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(self.screens.mapToGlobal(self.screens.rect().topLeft()))

    def _target(self) -> QScreen:
        """Return the screen chosen before; else one where the window is not; else the window's."""
        screens, own = QGuiApplication.screens(), self.screen()
        named = next((screen for screen in screens if screen.name() == self._chosen), None)
        return named or next((screen for screen in screens if screen is not own), own)

    # -- Qt -----------------------------------------------------------------------------

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Space pauses, F fills a screen, E ends well, + and − change the rate."""
        key = Qt.Key
        control = event.modifiers() == Qt.KeyboardModifier.ControlModifier
        actions = {
            key.Key_Space: self.toggle_pause,
            key.Key_F: self.toggle_full_screen,
            key.Key_Escape: self.leave_full_screen,
            key.Key_E: self.request_enough,
            key.Key_Plus: self.fps.stepUp,
            key.Key_Minus: self.fps.stepDown,
        }
        action = None if control else actions.get(key(event.key()))
        if control and event.key() == key.Key_Period:
            action = self.request_stop
        if action is None:
            super().keyPressEvent(event)
        else:
            action()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Give the gauge a line of its own where the row is short."""
        super().resizeEvent(event)
        needed = self._right.sizeHint().width() + self.pause.sizeHint().width() + _GAUGE
        self._arrange(1 if needed <= self.width() - 40 else 2)

    def minimumSizeHint(self) -> QSize:
        """Allow small windows."""
        return QSize(360, 300)

    # -- inside ---------------------------------------------------------------------------

    def _arrange(self, lines: int) -> None:
        if lines == self._lines:
            return
        self._lines = lines
        for part in (self.pause, self.gauge, self._right):
            self._grid.removeWidget(part)
        self._grid.addWidget(self.pause, 0, 0)
        if lines == 1:
            self._grid.addWidget(self.gauge, 0, 1)
            self._grid.addWidget(self._right, 0, 2)
        else:
            self._grid.addWidget(self.gauge, 0, 1, 1, 2)
            self._grid.addWidget(self._right, 1, 0, 1, 3, Qt.AlignmentFlag.AlignRight)

    def _refresh(self) -> None:
        buffer = self.clock.buffer
        if buffer is None:
            return
        words = dream_words.held(buffer)
        self.gauge.set_level(
            dream_words.share(buffer), words, dream_words.short(buffer), low=buffer.short
        )
        self.gauge.setToolTip(dream_words.tip(buffer))
        if self.clock.frame is None:
            self.canvas.set_words(f"The dream begins…\n{words}")
        self.pause.set_icon("play" if buffer.paused else "pause")
        self.pause.setAccessibleName("Go on" if buffer.paused else "Pause")
        self.full.setText("Leave full screen" if self.alone is not None else "Full screen")
        if buffer.fps is not None and not self.fps.hasFocus():
            self.fps.blockSignals(True)
            self.fps.setValue(round(buffer.fps))
            self.fps.blockSignals(False)
        for button in (self.enough, self.stop):
            button.setVisible(not self._ended)
        self._warn(buffer)

    def _warn(self, buffer: FrameBuffer) -> None:
        text, slower = dream_words.warning(buffer), dream_words.slower(buffer)
        if text and self.warning.isHidden():
            self._says.setText(text)
            # The button does what it says, whatever the source could do by then.
            self._offered = slower
            self.slower.setText(f"Show {slower} fps" if slower is not None else "")
            self.slower.setVisible(slower is not None)
        self.warning.setVisible(bool(text))

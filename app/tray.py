"""The icon in the system's tray: how far the queue is, news, and the program without its window."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QRectF, QTimer
from PySide6.QtGui import QColor, QIcon, QPainter, QPen
from PySide6.QtWidgets import QApplication, QMenu, QSystemTrayIcon

from app.controller import Controller
from app.window import MainWindow
from core.events import Event, Progressed, Sampled
from core.jobs import JobState
from widgets import theme
from widgets.queue_words import state_of_queue

if TYPE_CHECKING:
    from core.notify.news import Message

SHOWN_MS = 1000
"""At most so often is the icon drawn anew."""
KINDS = (
    ("failed", "Tell when a job &fails"),
    ("empty", "Tell when the queue is &empty"),
    ("finished", "Tell when a &clip is done"),
    ("alert", "Tell of &alerts"),
)
SIZE = 32


class TrayDesk(QObject):
    """Shows an icon from the first job on, where the system has a tray.

    Attributes:
        icon: The icon, None before it is wanted or where there is no tray.
        has_tray: Says whether the system has one; for tests to replace.
    """

    def __init__(self, controller: Controller, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._window = controller, window
        self.has_tray: Callable[[], bool] = QSystemTrayIcon.isSystemTrayAvailable
        self.icon: QSystemTrayIcon | None = None
        self._menu: QMenu | None = None
        self._share: float | None = None
        self._drawn: object = None
        self._ended = False
        self._soon = QTimer(self, singleShot=True, interval=SHOWN_MS)
        self._soon.timeout.connect(self._show)
        controller.job_began.connect(lambda _: self._on_progress(0.0))
        controller.event.connect(self._on_event)
        controller.job_ended.connect(lambda *_: self._on_progress(None))
        controller.queue_changed.connect(self._later)
        controller.closing.connect(self._end)
        window.hide_instead = self._hide_instead

    # -- what is shown ------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        running = self._controller.running
        if running is None or event.job_id != running.id:
            return
        match event:
            case Sampled(step=step, steps=steps) if steps:
                self._on_progress(step / steps)
            case Progressed(done=done, total=total) if total:
                self._on_progress(done / total)

    def _on_progress(self, share: float | None) -> None:
        self._share = share
        self._later()

    def _later(self) -> None:
        if not self._soon.isActive() and not self._ended:
            self._soon.start()

    def _end(self) -> None:
        self._ended = True
        self._soon.stop()

    def _show(self) -> None:
        jobs = self._controller.running_jobs
        if self.icon is None and not (jobs and self._make()):
            return
        assert self.icon is not None
        waiting = self._controller.ledger.counts().get(JobState.WAITING, 0)
        done = None if self._share is None or not jobs else round(self._share * 20)
        if (done, bool(jobs)) != self._drawn:
            self._drawn = done, bool(jobs)
            self.icon.setIcon(picture(None if done is None else done / 20))
        state = state_of_queue(len(jobs), waiting, paused=self._controller.ledger.paused)
        share = f" · {round(self._share * 100)} %" if jobs and self._share else ""
        self.icon.setToolTip(f"Framedeck\n{state}{share}")

    def _make(self) -> bool:
        if self.icon is not None:
            return True
        if not self.has_tray():
            return False
        menus = self._window.menus
        menu = self._menu = QMenu()
        menu.addAction("&Show Framedeck", self.bring_up)
        for action in (menus.pause, menus.stop, menus.free):
            menu.addAction(action)
        menu.addSeparator()
        menu.addAction(menus.quit)
        icon = self.icon = QSystemTrayIcon(picture(None), self)
        icon.setContextMenu(menu)
        icon.activated.connect(self._on_activated)
        icon.messageClicked.connect(self.bring_up)
        icon.show()
        return True

    def _on_activated(self, reason: QSystemTrayIcon.ActivationReason) -> None:
        if reason is QSystemTrayIcon.ActivationReason.Trigger:
            self.bring_up()

    def bring_up(self) -> None:
        """Show the window again, in front."""
        window = self._window
        if window.isMinimized():
            window.showNormal()
        window.show()
        window.raise_()
        window.activateWindow()
        QApplication.setQuitOnLastWindowClosed(True)

    # -- telling ------------------------------------------------------------------

    def tell(self, message: Message) -> None:
        """Tell news by the system, unless the window is looked at."""
        if self._window.isActiveWindow() or not self._make():
            return
        assert self.icon is not None
        icons = QSystemTrayIcon.MessageIcon
        kind = icons.Warning if message.bad else icons.Information
        self.icon.showMessage(message.title, message.text, kind)

    # -- the window closed to the tray ------------------------------------------------

    def _hide_instead(self) -> bool:
        """Hide the window where that was chosen; say whether it is to stay open behind it."""
        if not self._window.settings.stay_in_tray or not self._make():
            return False
        QApplication.setQuitOnLastWindowClosed(False)
        self._window.hide()
        return True

    def fill(self, tick: Callable[..., None], menu: QMenu) -> None:
        """Put the choices of this desk into a menu."""
        settings = self._window.settings
        for kind, text in KINDS:
            tick(menu, text, kind in settings.notify, lambda on, kind=kind: self._want(kind, on))
        menu.addSeparator()
        tick(menu, "Stay in the &tray when closed", settings.stay_in_tray, self._stay)

    def _want(self, kind: str, on: bool) -> None:
        kept = [one for one in self._window.settings.notify if one != kind]
        self._window.keep(notify=[*kept, kind] if on else kept)

    def _stay(self, on: bool) -> None:
        if on and not self._make():
            self._window.panels.notice.show_text(
                "This desktop has no tray, so closing the window still ends Framedeck.",
                kind="warning",
                key="tray",
            )
            return
        self._window.keep(stay_in_tray=on)


def picture(share: float | None) -> QIcon:
    """Return the program's icon, with a ring that tells how far the job is."""
    base = theme.picture("framedeck", "#ffffff", SIZE)
    if share is not None:
        painter = QPainter(base)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        edge = QRectF(2, 2, base.width() - 4, base.height() - 4)
        for colour, part in ((QColor(0, 0, 0, 160), 1.0), (QColor("#5fd38d"), share)):
            painter.setPen(QPen(colour, 3.5))
            painter.drawArc(edge, 90 * 16, round(-part * 360 * 16))
        painter.end()
    return QIcon(base)

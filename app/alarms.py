"""What is not well: raised once, cleared once, all in the log and the loud ones in the bar."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from app.controller import Controller
from app.reuse import ReuseDesk
from app.twins import TwinDesk
from app.window import MainWindow

if TYPE_CHECKING:
    from core.scheduling.alerts import Alerts
    from core.scheduling.moment import Now
    from core.scheduling.scheduler import Scheduler
    from core.scheduling.snapshot import Snapshot

_log = logging.getLogger(__name__)


class AlarmDesk(QObject):
    """Raises and clears alerts, each once.

    Args:
        controller: Whose queue goes on when a person says so.
        window: Holds the notices.
    """

    def __init__(self, controller: Controller, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._controller = controller
        self._notice = window.panels.notice
        self._alerts: Alerts | None = None
        self._twins = TwinDesk(controller, window, self)
        self._reuse = ReuseDesk(controller, window, self)

    def look(self, scheduler: Scheduler, snapshot: Snapshot, now: Now) -> None:
        """Tell what is new since the last look."""
        from core.scheduling.alerts import Alarm, Alerts, signals_of

        self._alerts = self._alerts or Alerts()
        signals = signals_of(snapshot, scheduler.breakers, scheduler.streak, now)
        for alert in self._alerts.look(signals, now):
            key = f"alert {alert.alarm} {alert.about}"
            _log.warning("alert %s: %s", "cleared" if alert.cleared else "raised", alert.words)
            self._controller.alerted.emit(alert)
            if alert.cleared:
                self._notice.clear(key)
            elif alert.alarm is Alarm.ENGINE_DOWN:
                again = ("Try now", partial(self._try_now, scheduler, alert.about))
                self._notice.show_text(alert.words, (again,), "danger", key)
            elif alert.alarm is not Alarm.BACKLOG:
                self._notice.show_text(alert.words, (), "warning", key)

    def _try_now(self, scheduler: Scheduler, place: str) -> None:
        scheduler.reset(place)
        self._controller.go_on()

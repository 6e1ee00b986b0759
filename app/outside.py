"""What other processes do to the ledger, seen by the window within a second."""

from __future__ import annotations

import logging

from PySide6.QtCore import QObject, QTimer

from app.controller import Controller
from core.errors import ProblemError
from core.ledger import wishes

BEAT_MS = 400
"""How often the ledger is asked whether others changed it (2 µs while they did not)."""
_log = logging.getLogger(__name__)


class OutsideDesk(QObject):
    """Looks for what `framedeck queue` changed: the ledger is the only place where they meet."""

    def __init__(self, controller: Controller, parent: QObject) -> None:
        super().__init__(parent)
        self._controller = controller
        self._announced = False
        self._beat = QTimer(self, interval=BEAT_MS)
        self._beat.timeout.connect(self._look)
        # Told first at the controller's start: a mere picture of the window runs nothing.
        controller.paused_changed.connect(self._begin)

    def _begin(self) -> None:
        if not self._beat.isActive():
            self._beat.start()
            # What is so far is about to be shown anyway.
            self._controller.guard(self._controller.ledger.store.changed_elsewhere)

    def _look(self) -> None:
        controller = self._controller
        store = controller.ledger.store
        try:
            if not self._announced:
                wishes.announce(store)
                self._announced = True
            if not store.changed_elsewhere():
                return
            unwanted = wishes.take_cancels(store, [job.id for job in controller.running_jobs])
        except ProblemError as error:
            # The ledger is closed, or its file cannot be read: who works with it tells that.
            _log.debug("the ledger was not looked at: %s", error)
            return
        if unwanted:
            _log.info("asked from outside to stop %s", ", ".join(unwanted))
            controller.guard(lambda: controller.cancel(unwanted))
        controller.guard(controller.look_again)

"""The only thread code of the window's process: a QThread over an iterator."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from PySide6.QtCore import QObject, QThread, Signal

from core.errors import problem_from

_log = logging.getLogger(__name__)


class Pump(QThread):
    """Drains a blocking iterator in a thread and emits each item.

    Attributes:
        emitted: Each item, in order, delivered in the receiver's thread.
        crashed: The Problem of an iterator that raised; it ends the pump.

    The source decides when it ends: whoever owns a Pump stops the source
    (`cancel`, `stop`, `close`) and then waits, bounded, with `join`.
    """

    emitted = Signal(object)
    crashed = Signal(object)

    def __init__(
        self, source: Callable[[], Iterable[object]], name: str, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self._source = source

    def run(self) -> None:
        """Drain the source. Runs in the thread; nothing else here does."""
        try:
            for item in self._source():
                self.emitted.emit(item)
        except BaseException as error:  # noqa: BLE001 - a QThread must end every error here
            _log.error("the thread %r ended with an error", self.objectName(), exc_info=error)
            self.crashed.emit(problem_from(error))

    def join(self, seconds: float) -> bool:
        """Wait at most `seconds` for the thread to end; say whether it did."""
        return self.wait(int(seconds * 1000))


class Task(QObject):
    """A pump for a side task, with slots that run in the thread of its owner.

    Attributes:
        crashed: The Problem of a source that raised, and the task's name.
        ended: This task, when its thread is over.
    """

    crashed = Signal(object, str)
    ended = Signal(object)

    def __init__(
        self,
        source: Callable[[], Iterable[object]],
        name: str,
        receive: Callable[[object], None],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._receive = receive
        self.pump = Pump(source, name, self)
        self.pump.emitted.connect(self._on_item)
        self.pump.crashed.connect(self._on_crash)
        self.pump.finished.connect(self._on_finished)

    def start(self) -> None:
        """Start draining."""
        self.pump.start()

    def _on_item(self, item: object) -> None:
        self._receive(item)

    def _on_crash(self, problem: object) -> None:
        self.crashed.emit(problem, self.pump.objectName())

    def _on_finished(self) -> None:
        self.ended.emit(self)

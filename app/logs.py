"""The log file, and every exception hook of this process leading to it.

Whatever goes wrong outside a job is written to the rotating log and handed,
as a Problem, to one receiver: the notice bar once there is one, a short
backlog until then.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import logging.handlers
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from core.errors import Category, Problem, problem_from

_log = logging.getLogger("framedeck")
Receiver = Callable[[Problem], None]


class ErrorDesk:
    """Takes in errors from all hooks and passes them on as Problems."""

    def __init__(self) -> None:
        self._receiver: Receiver | None = None
        self._backlog: deque[Problem] = deque(maxlen=20)
        self._crash_file: Any = None
        self._qt = False

    def connect(self, receiver: Receiver) -> None:
        """Hand problems to `receiver` from now on, and those kept so far."""
        self._receiver = receiver
        while self._backlog:
            receiver(self._backlog.popleft())

    def take(self, error: BaseException, where: str) -> None:
        """Log an exception and show it."""
        _log.error("unexpected error in %s", where, exc_info=error)
        self.show(problem_from(error))

    def show(self, problem: Problem) -> None:
        """Pass a problem on; it is kept while nobody listens."""
        if self._receiver is None:
            self._backlog.append(problem)
        else:
            self._receiver(problem)

    def install(self, log_path: Path) -> None:
        """Point Python's hooks and faulthandler here.

        Args:
            log_path: The rotating log; its folder must exist.
        """
        open_log(log_path)
        with contextlib.suppress(OSError):
            crashes = log_path.with_name("crash.log")
            # Whatever its size: it may hold what the window before left, untold so far.
            self._crash_file = crashes.open("a", encoding="utf-8")
            faulthandler.enable(self._crash_file)

        def main_hook(
            kind: type[BaseException], error: BaseException, trace: TracebackType | None
        ) -> None:
            if issubclass(kind, KeyboardInterrupt):
                sys.__excepthook__(kind, error, trace)
            else:
                self.take(error.with_traceback(trace), "the main thread")

        def thread_hook(args: threading.ExceptHookArgs) -> None:
            if args.exc_value is not None:
                self.take(args.exc_value, args.thread.name if args.thread else "a thread")

        def unraisable_hook(args: sys.UnraisableHookArgs) -> None:
            if args.exc_value is not None:
                self.take(args.exc_value, f"{args.object!r}")

        sys.excepthook = main_hook
        threading.excepthook = thread_hook
        sys.unraisablehook = unraisable_hook

    def install_qt(self) -> None:
        """Send Qt's own messages to the log, and its critical ones to the bar as well.

        Qt's warnings are for programmers: they stay in the log.
        """
        from PySide6.QtCore import QtMsgType, qInstallMessageHandler

        levels = {
            QtMsgType.QtDebugMsg: logging.DEBUG,
            QtMsgType.QtInfoMsg: logging.INFO,
            QtMsgType.QtWarningMsg: logging.WARNING,
            QtMsgType.QtCriticalMsg: logging.ERROR,
            QtMsgType.QtFatalMsg: logging.CRITICAL,
        }
        qt_log = logging.getLogger("qt")

        def handle(kind: QtMsgType, _context: object, message: str | None) -> None:
            qt_log.log(levels.get(kind, logging.WARNING), "%s", message)
            if kind == QtMsgType.QtCriticalMsg:
                self.show(_qt_problem(message or ""))

        qInstallMessageHandler(handle)
        self._qt = True

    def uninstall(self) -> None:
        """Give the hooks back, so that tests leave no trace."""
        sys.excepthook = sys.__excepthook__
        threading.excepthook = threading.__excepthook__
        sys.unraisablehook = sys.__unraisablehook__
        if self._qt:
            from PySide6.QtCore import qInstallMessageHandler

            qInstallMessageHandler(None)
            self._qt = False
        self._receiver = None
        if self._crash_file is not None:
            faulthandler.disable()
            with contextlib.suppress(OSError):
                self._crash_file.close()
            self._crash_file = None
        close_log()


def _qt_problem(message: str) -> Problem:
    return Problem(
        Category.UNKNOWN,
        f"The window's toolkit reported an error: {message.strip() or 'it said no more'}",
        "If the window looks wrong, restart Framedeck; Help → Open log has all that was reported.",
        message,
    )


def open_log(path: Path) -> None:
    """Log to `path`, at most four files of 1 MB. A log that cannot be opened is left out."""
    close_log()
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    # It tells at length, each time that jobs begin to wait, what the doctor says in one line.
    logging.getLogger("wakepy").setLevel(logging.WARNING)
    try:
        handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=1_000_000, backupCount=3, encoding="utf-8"
        )
    except OSError as error:
        if sys.stderr is not None:
            sys.stderr.write(f"The log {path} cannot be written: {error}\n")
        return
    handler.set_name("framedeck-file")
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(processName)s %(name)s: %(message)s")
    )
    root.addHandler(handler)


def close_log() -> None:
    """Close the file that `open_log` opened."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if handler.get_name() == "framedeck-file":
            root.removeHandler(handler)
            # What a full disk did not take is tried once more here, and not taken again.
            with contextlib.suppress(OSError):
                handler.close()

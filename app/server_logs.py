"""The log of the server that somebody looks at: its file, or what it tells of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer

from core.errors import ProblemError
from widgets.servers import ServersPanel

if TYPE_CHECKING:
    from app.controller import Controller
    from app.server_watch import Watched
    from core.engines.comfy.server_log import Line, LogFile
    from widgets.servers_log import LogLine

EVERY_MS = 1_000


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read; `whole`: it takes the place of all that was there."""

    log: LogFile
    lines: tuple[Line, ...]
    whole: bool


class LogDesk(QObject):
    """Reads one log once a second while it is looked at.

    Args:
        panel: Where it is shown.
        controller: Reads it in a pump.
        find: Returns the server of an address, None when it is not known any more.
        parent: Owner.
    """

    def __init__(
        self,
        panel: ServersPanel,
        controller: Controller,
        find: Callable[[str], Watched | None],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._panel, self._controller, self._find = panel, controller, find
        self._base = ""
        self._log: LogFile | None = None
        self._told: list[str] = []
        self._busy = False
        self._timer = QTimer(self, interval=EVERY_MS)
        self._timer.timeout.connect(self._read)

    def show(self, base: str) -> None:
        """Show the log of a server, "" for none any more."""
        from core.engines.comfy.server_log import LogFile

        watched = self._find(base)
        self._base, self._told = base, []
        # Another reader than the one that looks for the reason of a crash.
        self._log = None if watched is None else LogFile(watched.process.log.path)
        if watched is None:
            self._timer.stop()
        else:
            self._timer.start()
            self._read()

    def close(self) -> None:
        """Read no more."""
        self._timer.stop()
        self._log = None

    def _read(self) -> None:
        watched, log = self._find(self._base), self._log
        if watched is None or log is None or self._busy or not self._panel.is_looked_at():
            return
        self._busy = True
        base, told = self._base, list(self._told)
        vault, known = self._controller.vault, watched.known
        ours = watched.process.was_started or not watched.health.answers

        def source() -> Iterator[object]:
            from app.signing_in import signed_by
            from core.engines.comfy.health import printed
            from core.engines.comfy.server_log import lines_of

            if ours:
                yield _Read(log, tuple(log.read()), whole=False)
                return
            try:
                now = printed(base, sign_in=signed_by(vault, known))
            except ProblemError:
                now = told
            self._told = now
            yield _Read(log, tuple(lines_of(now)) if now != told else (), whole=True)

        self._controller.run_aside(source, "server log", self._on_read)

    def _on_read(self, read: object) -> None:
        assert isinstance(read, _Read)
        self._busy = False
        if read.log is not self._log:
            self._read()  # Another one was chosen meanwhile.
        elif read.lines:
            view = self._panel.view.log
            (view.replace if read.whole else view.add)(list(_shown(read.lines)))


def _shown(lines: Iterable[Line]) -> Iterator[LogLine]:
    from core.engines.comfy.server_log import Trouble
    from widgets.servers_log import LogLine

    for line in lines:
        tone = "" if line.trouble is None else "danger"
        if line.trouble is Trouble.WARNING:
            tone = "warning"
        yield LogLine(line.text, tone, line.trouble.value if line.trouble else "")

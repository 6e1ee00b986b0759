"""After a start: what an earlier window left that did not close properly, told and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QUrl
from PySide6.QtGui import QDesktopServices

from app.controller import Controller
from core.places import Places
from core.queue import Group, JobRow

if TYPE_CHECKING:
    from app.resuming import Stock
    from app.window import MainWindow
    from core.crashes.running import Ended

KEY = "unclean"


class Aftercare(QObject):
    """Marks this window as running, and tells how the one before ended if not in order.

    Args:
        controller: Runs what takes time.
        window: Holds the notice.
        places: Where marks and records lie.
        lost: Jobs that were running when it ended.
        report: Opens the dialog that assembles a report.
    """

    def __init__(
        self,
        controller: Controller,
        window: MainWindow,
        places: Places,
        lost: Sequence[JobRow],
        report: Callable[[], object],
    ) -> None:
        super().__init__(window)
        self._controller, self._notice, self._report = controller, window.panels.notice, report
        self._lost = [row.job.id for row in lost]
        self._titles = [row.job.title for row in lost]
        controller.run_aside(lambda: look_back(places), "aftercare", self._on_found)

    def _on_found(self, found: object) -> None:
        assert isinstance(found, tuple)
        ended, record = found
        waiting = len(self._controller.ledger.ids(Group.WAITING))
        text = told(ended, self._titles, self._controller.stock, waiting)
        actions: list[tuple[str, Callable[[], object]]] = []
        if self._lost:
            actions.append(("Retry", self._retry))
        if record is not None:
            actions.append(("Show details", lambda: open_file(record)))
        actions.append(("Report a problem…", self._report))
        self._notice.show_text(text, actions, "warning", KEY, jobs=self._lost)

    def _retry(self) -> None:
        ledger = self._controller.ledger
        rows = [row for row in map(ledger.row, self._lost) if row is not None]
        ids = [row.job.id for row in rows if row.state.value == "lost"]
        if self._controller.guard(lambda: self._controller.retry(ids)):
            self._notice.clear(KEY)


def look_back(places: Places) -> Iterator[object]:
    """Set the mark of this window; yield how the one before ended and its record, if not in order.

    The record is the text for people, None where none could be written.
    """
    from core.crashes import records, running
    from core.crashes.flight import sweep

    before = running.left(places.data) or running.early(places.data)
    sweep(places.crashes)
    ended = None if before is None else running.how_it_ended(before, places.crash_log)
    running.trim(places.crash_log)
    if before is None or ended is None or not ended.told:
        running.begin(places.data, places.crash_log)
        return
    facts = {
        "why": ended.why.value,
        "pid": before.pid,
        "version": before.version or None,
        "started": _clock(before.started_unix),
        "kernel": list(ended.kernel),
        "last_lines_of_the_log": _tail(places.log),
    }
    title = f"Framedeck did not close properly: {ended.words}."
    made = records.save(places.crashes, "window", title, facts, ended.trace)
    # Last: were this window to crash before, the next one would tell of both.
    running.begin(places.data, places.crash_log)
    yield ended, None if made is None else made.with_suffix(".txt")


def told(ended: Ended, lost: Sequence[str], stock: Stock, waiting: int) -> str:
    """Say why an earlier window ended, as far as known, and what was recovered.

    Args:
        ended: How it ended.
        lost: Titles of jobs that were running.
        stock: What else it left.
        waiting: Jobs that wait.
    """
    parts = []
    if lost:
        names = ", ".join(f"“{title}”" for title in lost[:2])
        more = f" and {len(lost) - 2} more" if len(lost) > 2 else ""
        parts.append(f"{names}{more} did not finish and can be retried with the same seed")
    for count, one, many in (
        (stock.followed, "a job goes on at its server", "{} jobs go on at their servers"),
        (stock.whole, "a clip was checked, is whole and was kept",
         "{} clips were checked, are whole and were kept"),
        (stock.half, "a half-written file was removed", "{} half-written files were removed"),
        (waiting, "a job still waits", "{} jobs still wait"),
    ):  # fmt: skip
        if count:
            parts.append(one if count == 1 else many.format(count))
    rest = "; ".join(parts) or "nothing was running, and nothing was lost"
    return f"Framedeck did not close properly: {ended.words}. {rest[0].upper()}{rest[1:]}."


def open_file(path: Path) -> None:
    """Show a text in the program that the system has for it."""
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))


def _clock(unix: float) -> str | None:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix)) if unix else None


def _tail(log: Path, most_bytes: int = 8000) -> list[str]:
    try:
        with log.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - most_bytes))
            return file.read().decode("utf-8", "replace").splitlines()[-60:]
    except OSError:
        return []

"""How soon a move is seen: committed, read again, painted, with 1,000 waiting jobs.

Baseline in the same run: a table that reads every row again and starts afresh.
Exit code 1 when the limit is exceeded.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QEvent, QObject
from PySide6.QtWidgets import QApplication, QTableWidget, QTableWidgetItem, QWidget

from core.jobs import Job
from core.ledger import Ledger
from core.queue import Group
from widgets import theme
from widgets.queue import QueuePanel

LIMIT_MS = 100.0
JOBS = 1000
MOVES = 60


class Paints(QObject):
    """Counts the paint events of a widget."""

    def __init__(self, watched: QWidget) -> None:
        super().__init__()
        self.count = 0
        self._watched = watched
        watched.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Count a paint and let it happen."""
        del watched
        self.count += event.type() == QEvent.Type.Paint
        return False

    def wait(self, app: QApplication) -> None:
        """Run the event loop until the widget was painted once more."""
        before = self.count
        self._watched.update()
        while self.count == before:
            app.processEvents()


def job(number: int) -> Job:
    """Return a job with a prompt of ordinary length."""
    prompt = f"Scene {number}, a slow pan over the harbour at dawn, mist, warm light " * 4
    return Job(
        id=str(UUID(int=number)),
        recipe="starter",
        engine="local",
        family="animatediff",
        title=f"Scene {number}",
        params={"prompt": prompt, "seed": number, "width": 512, "height": 512, "frames": 16},
        model="/models/starter",
        output=f"/clips/scene-{number}.mp4",
        created_at=1.7e9 + number,
    )


def moves(app: QApplication, ledger: Ledger) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each move to its paint: the dock's, the plain table's."""
    panel, plain = QueuePanel(ledger), QTableWidget(0, 1)
    watches = []
    for widget, view in ((panel, panel.view), (plain, plain)):
        widget.resize(390, 900)
        widget.show()
        watches.append(Paints(view.viewport()))
        watches[-1].wait(app)
    ours, theirs = [], []
    for number in range(MOVES):
        moved = [job(JOBS - number).id, job(JOBS // 2 - number).id]
        before = job(1 + number).id
        start = time.perf_counter()
        ledger.move(moved, before)
        panel.refresh()
        watches[0].wait(app)
        ours.append((time.perf_counter() - start) * 1000)
        start = time.perf_counter()
        rows = ledger.rows(ledger.ids(Group.WAITING))
        plain.setRowCount(0)
        plain.setRowCount(len(rows))
        for at, row in enumerate(rows):
            plain.setItem(at, 0, QTableWidgetItem(row.job.title))
        watches[1].wait(app)
        theirs.append((time.perf_counter() - start) * 1000)
    panel.close()
    plain.close()
    return ours, theirs


def main() -> int:
    """Print the figures; return 1 when the limit is exceeded."""
    app = QApplication.instance() or QApplication(sys.argv[:1])
    theme.apply(app, "dark")
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.open(Path(folder) / "ledger.db")
        ledger.enqueue([job(number) for number in range(1, JOBS + 1)])
        ours, theirs = moves(app, ledger)
        ledger.close()
    middle, plain = statistics.median(ours), statistics.median(theirs)
    print(f"move to painted, {JOBS:,} jobs: {middle:.1f} ms (worst {max(ours):.1f})")
    print(f"every row read and shown again: {plain:.1f} ms; ratio {plain / middle:.1f} x")
    print(f"limit {LIMIT_MS:.0f} ms: {'kept' if middle <= LIMIT_MS else 'EXCEEDED'}")
    return 0 if middle <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())

"""From opening a ledger of 100,000 jobs to the queue's first paint.

Each round is a fresh process with its QApplication ready; the clock runs from
`Ledger.open` until the list has been painted. Baselines in the same run: the same
panel over an empty ledger (the floor), and a plain list widget filled with every job.
Run as `python -m tests.benchmarks.bench_queue_paint`; exit code 1 when a budget is missed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks import bench_ledger

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 7
BUDGET_MS = 250.0
EDIT_BUDGET_MS = 100.0


def measure(path: Path, how: str) -> dict[str, float]:
    """Open and paint in this process; return milliseconds by name."""
    from PySide6.QtCore import QEvent, QObject, QTimer
    from PySide6.QtWidgets import QAbstractScrollArea, QApplication, QListWidget, QWidget

    from core.ledger import Ledger
    from core.queue import Group
    from widgets import theme
    from widgets.queue import QueuePanel

    class Watch(QObject):
        """Calls back once the widget has been painted."""

        def eventFilter(self, watched: QObject, event: QEvent) -> bool:
            if event.type() == QEvent.Type.Paint:
                watched.removeEventFilter(self)
                # Not quit(): that closes the window as well.
                QTimer.singleShot(0, lambda: application.exit(0))
            return False

    application = QApplication([])
    theme.apply(application, "dark")
    start = time.perf_counter()
    ledger = Ledger.open(path)
    widget: QWidget
    view: QAbstractScrollArea
    if how == "every job":
        view = widget = QListWidget()
        for group in Group:
            widget.addItems([row.job.title for row in ledger.rows(ledger.ids(group))])
    else:
        widget = QueuePanel(ledger)
        view = widget.view
    watch = Watch()
    # An empty queue shows its hint where the list would be.
    empty = isinstance(widget, QueuePanel) and not widget.model.rowCount()
    (widget if empty else view.viewport()).installEventFilter(watch)
    widget.resize(520, 900)
    widget.show()
    application.exec()
    found = {"paint": (time.perf_counter() - start) * 1e3}
    if how == "panel":
        assert isinstance(widget, QueuePanel)
        assert widget.model.rowCount() >= bench_ledger.JOBS
        ids = ledger.job_ids(ledger.ids(Group.WAITING)[5:6])
        view.viewport().installEventFilter(watch)
        start = time.perf_counter()
        ledger.move_to_top(ids)
        widget.refresh(ids)
        view.viewport().update()
        application.exec()
        found["move"] = (time.perf_counter() - start) * 1e3
    widget.close()
    ledger.close()
    return found


def child(path: Path, how: str) -> dict[str, float]:
    """Measure once in a fresh process."""
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.bench_queue_paint", how, str(path)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return {
        name: float(value)
        for name, value in (line.split() for line in done.stdout.split("\n") if line)
    }


def main() -> int:
    """Build, measure, print; return 1 when a budget is missed."""
    if len(sys.argv) == 3:
        for name, value in measure(Path(sys.argv[2]), sys.argv[1]).items():
            print(name, value)
        return 0
    with tempfile.TemporaryDirectory() as name:
        full, empty = Path(name) / "full.sqlite", Path(name) / "empty.sqlite"
        bench_ledger.build(full)
        paints: dict[str, list[float]] = {"floor": [], "panel": [], "every job": []}
        moves = []
        for turn in range(ROUNDS):
            paints["floor"].append(child(empty, "floor")["paint"])
            found = child(full, "panel")
            paints["panel"].append(found["paint"])
            moves.append(found["move"])
            if turn < 2:
                paints["every job"].append(child(full, "every job")["paint"])
    kept = [
        bench_ledger.report(
            "open to first paint, 100,000 jobs", sorted(paints["panel"]), BUDGET_MS
        ),
        bench_ledger.report(
            "one job to the top, refreshed and painted", sorted(moves), EDIT_BUDGET_MS
        ),
    ]
    bench_ledger.report("floor: the panel over an empty ledger", sorted(paints["floor"]))
    bench_ledger.report("baseline: a list widget of every job", sorted(paints["every job"]))
    panel, floor, every = (
        statistics.median(paints[how]) for how in ("panel", "floor", "every job")
    )
    print(f"{panel / floor:.2f} × the empty panel; {every / panel:.1f} × sooner than every job")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())

"""The real window with simulated GPUs at ten readings a second, for long: memory and gaps.

The window shows the shipped trace of a language model in the way of a job while phases,
nodes and forecasts come and go and the range changes, all of which the timeline draws.
Beside it, in the same minutes, an empty window in a process of its own does nothing: the
baseline of what this machine's event loops show. A 5 ms precise timer beats in both; a gap
is the time between two beats, the floor 5 ms.

Promises: no gap over 40 ms that the empty window did not have at that time as well; after
a warm-up of a third, memory grows by no more than the samples kept, and 0.25 MB a minute.

Run as `python3 -m tests bench soak`, which takes two minutes; the promise is about ten:
`python3 tests/benchmarks/bench_soak.py --minutes 10`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
WORST_MS = 40.0
STALL_MS = 15.0
"""A gap of the empty window from which on the machine itself was late."""
GROWTH_MB_A_MINUTE = 0.25
KEPT_BYTES_A_READING = 2 * (8 + 8 * 4 * 8 / 7 + 8 * 4 / 7)
"""Two tracks, each with a time, eight values, and their share of the pyramid."""
WARM_UP = 1 / 3


class Beats:
    """Gaps between the beats of a timer of 5 ms, counted without keeping every one."""

    def __init__(self) -> None:
        from PySide6.QtCore import Qt, QTimer

        self._last = perf_counter()
        self._counts = [0] * 2000
        self._worst = 0.0
        self._stalls: list[tuple[float, float]] = []
        self._timer = QTimer(timerType=Qt.TimerType.PreciseTimer, interval=5)
        self._timer.timeout.connect(self._beat)
        self._timer.start()

    def _beat(self) -> None:
        before, self._last = self._last, perf_counter()
        gap = (self._last - before) * 1e3
        self._counts[min(int(gap * 10), len(self._counts) - 1)] += 1
        self._worst = max(self._worst, gap)
        if gap > STALL_MS:
            self._stalls.append((before, self._last))

    def figures(self) -> dict[str, Any]:
        """Return the 99th percentile and the worst in ms, and the stalls (begin, end)."""
        left = 0.01 * sum(self._counts)
        place = len(self._counts) - 1
        while place and (left := left - self._counts[place]) > 0:
            place -= 1
        return {"p99": (place + 1) / 10, "worst": self._worst, "stalls": self._stalls}


def spin(app: Any, seconds: float) -> None:
    """Run the event loop."""
    from PySide6.QtCore import QTimer

    QTimer.singleShot(int(seconds * 1000), app.quit)
    app.exec()


def idle(seconds: float, _home: Path) -> dict[str, Any]:
    """Return the gaps of an empty window."""
    from PySide6.QtWidgets import QApplication, QWidget

    app, window = QApplication([]), QWidget()
    window.show()
    spin(app, 3)
    beats = Beats()
    spin(app, seconds - 3)
    return beats.figures()


def ours(seconds: float, home: Path) -> dict[str, Any]:
    """Return the gaps and the memory of the real window."""
    from PySide6.QtCore import QTimer

    from core.gpu.source import sampler_for
    from widgets.timeline import TimelinePanel

    app, window, controller = _window(home)
    sampler, _ = sampler_for("llm-contention-16gb", lambda: None, 0.1, 0.1)
    controller.watch(sampler)
    panel = window.findChild(TimelinePanel)
    controller.start()
    counted = itertools.count()
    controller.reading.connect(lambda _: next(counted))
    memory: list[tuple[float, float]] = []
    page = os.sysconf("SC_PAGE_SIZE")

    def remember() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory.append((perf_counter(), pages * page / 1e6))

    watch, drive = QTimer(interval=1000), QTimer(interval=2000)
    watch.timeout.connect(remember)
    drive.timeout.connect(Driver(panel).step)
    watch.start()
    drive.start()
    spin(app, 3)
    beats = Beats()
    spin(app, seconds - 3)
    found = beats.figures()
    controller.close()
    app.processEvents()
    return {**found, "memory": memory, "readings": next(counted), "kind": app.platformName()}


def _window(home: Path) -> tuple[Any, Any, Any]:
    from PySide6.QtWidgets import QApplication

    from app.controller import Controller
    from app.models import OwnModels
    from app.window import MainWindow
    from app.wiring import Wiring
    from core.engines.local.client import LocalEngine
    from core.engines.local.families import recipes
    from core.ledger import Ledger
    from core.places import Places
    from core.settings import Settings
    from widgets.theme import apply

    app = QApplication([])
    apply(app, "dark")
    places = Places.find(home).make()
    engine = LocalEngine(interpreter=sys.executable, log=places.worker_log)
    ledger = Ledger.open(places.ledger)
    controller = Controller(ledger, engine, recipes(places.models), places.outputs)
    window = MainWindow(Settings(), places.settings)
    window.fill(controller)
    Wiring(controller, window, OwnModels(controller, window), places)
    window.resize(1600, 1000)
    window.show()
    return app, window, controller


class Driver:
    """Does what jobs and a person do to the timeline, over and over."""

    def __init__(self, panel: Any) -> None:
        self._panel = panel
        self._count = 0

    def step(self) -> None:
        """Begin the next phase, node, range or axis."""
        from PySide6.QtCore import QPointF

        from core.jobs import Phase
        from widgets.timeline_data import AXES
        from widgets.timeline_head import RANGES

        panel, number, now = self._panel, self._count, self._panel._past.now
        self._count += 1
        if now is None:
            return
        job, phases = f"job {number // 6}", tuple(Phase)
        if number % 6 < len(phases):
            panel.phase(job, "Scene", phases[number % 6], now)
            panel.node(job, f"node {number % 6}", now)
            panel.set_forecast(now, 8.0, 9e9, 10e9, 11e9)
        else:
            panel.job_ended(job, now, "finished")
        panel.set_span(RANGES[number % len(RANGES)][1])
        panel.set_axis((None, *AXES)[number % 4])
        panel.view.mouse = QPointF(panel.view.width() / 2, 80) if number % 3 else None


def slope(memory: list[tuple[float, float]]) -> float:
    """Return MB a minute after the warm-up."""
    import numpy as np

    begin, end = memory[0][0], memory[-1][0]
    later = [(at, used) for at, used in memory if at >= begin + WARM_UP * (end - begin)]
    times, used = np.array(later).T
    return float(np.polyfit((times - times[0]) / 60, used, 1)[0])


def report(found: dict[str, dict[str, Any]], seconds: float) -> int:
    """Print what was found; returns 1 when a promise is missed."""
    window, empty = found["ours"], found["idle"]
    for name, part in (("empty window", empty), ("real window", window)):
        print(f"{name + ':':14s} gap p99 {part['p99']:5.1f} ms   worst {part['worst']:6.1f} ms")
    late = [gap for gap in window["stalls"] if (gap[1] - gap[0]) * 1e3 > WORST_MS]
    own = [(b - a) * 1e3 for a, b in late if not any(c < b and d > a for c, d in empty["stalls"])]
    print(f"gaps over {WORST_MS:g} ms: {len(late)}, of which {len(own)} were not the machine's")
    rate = window["readings"] / seconds
    kept = KEPT_BYTES_A_READING * rate * 60 / 1e6
    growth = slope(window["memory"])
    first, last = window["memory"][0][1], window["memory"][-1][1]
    print(f"memory: {first:.1f} MB at first, {last:.1f} at last; {rate:.1f} readings a second")
    print(f"growth after the warm-up: {growth:.3f} MB a minute, {kept:.3f} of it samples kept")
    checks = (
        (not own, f"no gap over {WORST_MS:g} ms of its own"),
        (growth - kept <= GROWTH_MB_A_MINUTE, f"growth at most {GROWTH_MB_A_MINUTE:g} MB/min more"),
        (rate >= 9.0, "ten readings a second"),
    )
    for good, words in checks:
        print(("ok    " if good else "MISSED"), words)
    return 0 if all(good for good, _ in checks) else 1


def main() -> int:
    """Run both windows at once and print. Returns 1 when a promise is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--child", nargs=2, metavar=("WHICH", "HOME"))
    options = parser.parse_args()
    seconds = 60 * options.minutes
    if options.child:
        which, home = options.child
        print(json.dumps({"idle": idle, "ours": ours}[which](seconds, Path(home))))
        return 0
    short = " (the promise is about 10: --minutes 10)" if options.minutes < 10 else ""
    print(f"{options.minutes:g} minutes{short}", flush=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.setdefault("QT_QPA_PLATFORM", "offscreen")
    with tempfile.TemporaryDirectory() as folder:
        started = {
            which: subprocess.Popen(
                [
                    sys.executable, __file__, "--minutes", str(options.minutes),
                    "--child", which, folder,
                ],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
            )
            for which in ("idle", "ours")
        }  # fmt: skip
        found = {}
        for which, child in started.items():
            told, errors = child.communicate()
            if child.returncode:
                raise SystemExit(f"{which} failed:\n{told}{errors}")
            found[which] = json.loads(told.splitlines()[-1])
    return report(found, seconds)


if __name__ == "__main__":
    sys.exit(main())

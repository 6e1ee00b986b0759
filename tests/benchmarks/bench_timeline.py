"""What the memory timeline costs: keeping a sample, painting a day's worth, sampling.

Painting is compared in one run, in turns, with pyqtgraph as it comes and with its best
settings (peak downsampling and clipping to the view), each drawing 4 lines of 360,000
points; the panel draws three filled areas with outlines, bands and axes over as many.
A tick is one reading more, painted; the panel's keeps what it drew before, so that its
first paint, after a zoom, is measured by itself. Run as `python3 -m tests bench timeline`;
exit code 1 when a promise or a budget is missed.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT)] if str(ROOT) not in sys.path else []

POINTS = 360_000
ROUNDS = 15
FEWER_THAN_DEFAULT = 40.0
FEWER_THAN_BEST = 4.0
APPEND_BUDGET_US = 5.0
SAMPLER_BUDGET_PERCENT = 1.0
SAMPLER_SECONDS = 10.0
GB = 2**30


def append_microseconds() -> float:
    """Return the CPU time of keeping one sample of six values, amortised."""
    from core.history import History

    history = History(6, POINTS)
    rows = [(1.0 * GB, 2.0 * GB, 3.0 * GB, 98.0, None, 342.0)] * POINTS
    start = time.thread_time()
    for number, row in enumerate(rows):
        history.append(number * 0.1, row)
    return (time.thread_time() - start) / POINTS * 1e6


def sampler_percent(*, driver: bool) -> float:
    """Return the share of a core that ten readings a second take.

    With `driver`, a scripted one answers at once for one GPU: the sampler's own cost,
    without the time that NVIDIA's library spends.
    """
    from core.gpu.nvml import Nvml
    from core.gpu.sampler import Sampler
    from tests.core.scripted_driver import ScriptedDriver

    fake = ScriptedDriver()
    fake.compute = [(os.getpid(), GB), (os.getppid(), GB)]
    nvml = Nvml(lambda: fake) if driver else None
    sampler = Sampler(worker_pid=os.getppid, nvml=nvml)
    sampler.set_busy(True)
    sampler.read()
    cpu, wall = time.process_time(), time.monotonic()
    for reading in sampler.readings():
        if reading.at_seconds - wall >= SAMPLER_SECONDS:
            sampler.stop()
    return (time.process_time() - cpu) / (time.monotonic() - wall) * 100


def data() -> tuple[Any, Any]:
    """Return times, and four stacked series in bytes."""
    import numpy as np

    walk = np.abs(np.random.default_rng(1).normal(size=(4, POINTS)).cumsum(axis=1))
    walk *= 6 / walk.max(axis=1, keepdims=True)
    return np.arange(POINTS) * 0.1, walk.cumsum(axis=0) * GB


def plain(times: Any, series: Any, *, best: bool) -> Callable[[], None]:
    """Return a tick of a pyqtgraph plot: new data for four lines, and a repaint."""
    import pyqtgraph as pg

    widget = pg.PlotWidget()
    widget.resize(1000, 260)
    colours = ("#4a90d9", "#d488b8", "#717a89", "#d59a2e")
    lines = [widget.plot(pen=pg.mkPen(colour, width=1)) for colour in colours]
    for line in lines if best else ():
        line.setDownsampling(auto=True, method="peak")
        line.setClipToView(True)
    widget.setXRange(0, POINTS * 0.1, padding=0)
    widget.show()

    def tick() -> None:
        for line, values in zip(lines, series, strict=True):
            line.setData(times, values)
        widget.viewport().repaint()

    return tick


def filled(times: Any, series: Any, span: float) -> Any:
    """Return a panel on the screen that shows the last `span` seconds of that past."""
    from PySide6.QtWidgets import QApplication

    from core.jobs import Phase
    from widgets.timeline import TimelinePanel

    panel = TimelinePanel()
    panel.resize(1000, 260)
    panel.show()
    panel.append(reading(-1.0))
    history = panel._past.tracks[0].history
    for at, row in zip(times.tolist(), series[:3].T.tolist(), strict=True):
        history.append(at, (*row, 98.0, 71.0, 342.0))
    panel._past.now = float(times[-1])
    for number in range(200):
        phase = tuple(Phase)[number % 5]
        panel.phase(f"job {number // 5}", "Scene", phase, number * POINTS * 0.1 / 200)
        if number % 5 == 4:
            panel.job_ended(f"job {number // 5}", (number + 0.9) * POINTS * 0.1 / 200, "done")
    panel.set_span(span)
    QApplication.processEvents()
    return panel


def reading(at: float) -> Any:
    """Return what the sampler tells of a machine with one GPU."""
    from core.gpu.readings import DeviceReading, ProcessReading, Reading, Role, SystemReading

    processes = (ProcessReading(1, "python", Role.WORKER, 6 * GB),)
    device = DeviceReading(0, "card", 24 * GB, 9 * GB, 98.0, 71.0, 342.0, processes)
    return Reading(at, (device,), SystemReading(24 * GB, 9 * GB, GB, GB, 50.0), None)


def ours(panel: Any, step: float) -> Callable[[], None]:
    """Return a tick of the panel: one reading more, and a repaint."""
    clock = itertools.count(1)

    def tick() -> None:
        panel.append(reading(POINTS * 0.1 + next(clock) * step))
        panel.view.repaint()

    return tick


def anew(panel: Any) -> Callable[[], None]:
    """Return a paint of the panel with nothing kept, as after a zoom."""
    spans = itertools.cycle((3600.0, 3601.0))

    def zoom() -> None:
        panel.set_span(next(spans))
        panel.view.repaint()

    return zoom


def painting() -> dict[str, float]:
    """Return the median CPU milliseconds of a tick by name."""
    from PySide6.QtWidgets import QApplication

    from widgets import theme

    application = QApplication.instance() or QApplication([])
    theme.apply(application, "dark")
    times, series = data()
    ticks = {
        "pyqtgraph as it comes": plain(times, series, best=False),
        "pyqtgraph, best settings": plain(times, series, best=True),
        "the panel, all of it": ours(filled(times, series, POINTS * 0.1), 1.0),
        "the panel, last hour": ours(filled(times, series, 3600.0), 1.0),
        "the panel, last minute": ours(filled(times, series, 60.0), 0.1),
        "the panel, an hour anew": anew(filled(times, series, 3600.0)),
    }
    spent: dict[str, list[float]] = {name: [] for name in ticks}
    for number in range(ROUNDS + 1):
        for name, tick in ticks.items():
            application.processEvents()
            start = time.thread_time()
            tick()
            if number:
                spent[name].append((time.thread_time() - start) * 1e3)
    return {name: statistics.median(values) for name, values in spent.items()}


def hour_percent() -> float:
    """Return the share of a core that showing the last hour takes at ten readings a second."""
    from PySide6.QtWidgets import QApplication

    times, series = data()
    panel = filled(times, series, 3600.0)
    count, start = 600, time.thread_time()
    for number in range(count):
        panel.append(reading(POINTS * 0.1 + number * 0.1))
        QApplication.processEvents()  # Paints when the panel asked for it.
    return (time.thread_time() - start) / (count * 0.1) * 100


def main() -> int:
    """Measure, print, and return the exit code."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    append = append_microseconds()
    print(f"keep one sample:             {append:8.2f} µs    (budget {APPEND_BUDGET_US:g})")
    missed = append > APPEND_BUDGET_US
    paint = painting()
    ticks = list(paint.items())
    default, best, whole = (value for _, value in ticks[:3])
    for name, value in ticks:
        print(f"tick, {name + ':':26s} {value:8.2f} ms")
    for name, ratio, promise in (
        ("than pyqtgraph as it comes", default / whole, FEWER_THAN_DEFAULT),
        ("than its best settings", best / whole, FEWER_THAN_BEST),
    ):
        print(f"all of it, less {name + ':':28s} {ratio:8.1f} × (promise {promise:g})")
        missed = missed or ratio < promise
    print(f"the last hour, kept up to date:   {hour_percent():8.2f} % of a core at 10 Hz")
    shares = [sampler_percent(driver=False), sampler_percent(driver=True)]
    for name, share in zip(("as this machine is", "scripted driver"), shares, strict=True):
        print(f"sampler, {name + ':':22s}{share:8.2f} % of a core at 10 Hz", end=" ")
        print(f"(budget {SAMPLER_BUDGET_PERCENT:g})")
    missed = missed or max(shares) > SAMPLER_BUDGET_PERCENT
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

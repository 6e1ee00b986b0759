"""What the memory timeline costs: keeping a sample, a day in memory and on the screen, sampling.

Painting is compared in one run, in turns, with pyqtgraph as it comes and with its best
settings (peak downsampling and clipping to the view), each drawing 4 lines of 360,000
points; the panel draws five filled areas with outlines, a second axis, bands and axes over
as many times, and over a day at ten readings a second, which is 6.9 million values.
A tick is one reading more, painted; the panel's keeps what it drew before, so that its
first paint, after a zoom, is measured by itself. Run as `python3 -m tests bench timeline`;
exit code 1 when a promise or a budget is missed.
"""

from __future__ import annotations

import itertools
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT)] if str(ROOT) not in sys.path else []

POINTS = 360_000
DAY = 864_000
ROUNDS = 16
FEWER_THAN_DEFAULT = 40.0
FEWER_THAN_BEST = 4.0
APPEND_BUDGET_US = 5.0
TICK_BUDGET_MS = 8.0
DAY_BUDGET_MB = 150.0
SAMPLER_BUDGET_PERCENT = 1.0
SAMPLER_SECONDS = 10.0
GB = 2**30


def rows(count: int) -> list[tuple[float | None, ...]]:
    """Return samples of eight values that go up and down, the temperature unknown."""
    made: list[tuple[float | None, ...]] = []
    for number in range(count):
        used = (8 + number % 900 / 100) * GB
        made.append((GB, 2 * GB, 3 * GB, 4 * GB, used, 98.0, None, 342.0))
    return made


def append_microseconds() -> float:
    """Return the CPU time of keeping one sample of eight values, amortised over a day."""
    from core.history import History

    history, some = History(8, DAY), rows(10_000)
    start = time.thread_time()
    for number in range(DAY):
        history.append(number * 0.1, some[number % 10_000])
    return (time.thread_time() - start) / DAY * 1e6


def day_megabytes() -> float:
    """Return what a day of one GPU and of main memory takes, lists of processes included.

    In a process of its own, ten readings a second and a new list, in which three of
    twelve processes changed, every two.
    """
    code = (
        "import os, psutil, tests.benchmarks.bench_timeline as bench\n"
        "print(bench.measured_day(psutil.Process()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def measured_day(process: Any) -> float:
    """Fill a day and return by how many MB this process grew."""
    import gc

    from core.gpu.readings import DeviceReading, ProcessReading, Reading, Role, SystemReading
    from widgets.timeline_data import Past

    past = Past()
    listed = tuple(ProcessReading(n, f"program {n}", Role.OTHER, n * GB // 8) for n in range(12))
    past.add(Reading(-1.0, (), SystemReading(24 * GB, GB, GB, GB, 1.0), None))
    gc.collect()
    before = process.memory_info().rss
    for number in range(DAY):
        if number % 20 == 0:
            held = number % 900 * 2**20
            new = tuple(ProcessReading(n, f"program {n}", Role.OTHER, held + n) for n in range(3))
            listed = (*new, *listed[3:])
        used = 9 * GB + number % 900 * 2**20
        device = DeviceReading(0, "card", 24 * GB, used, 98.0, 71.0, 342.0, listed)
        system = SystemReading(24 * GB, used, GB, GB, 50.0)
        past.add(Reading(number * 0.1, (device,), system, None))
    gc.collect()
    return float(process.memory_info().rss - before) / 1e6


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


def data(count: int = POINTS, series: int = 4) -> tuple[Any, Any]:
    """Return times, and stacked series in bytes."""
    import numpy as np

    walk = np.abs(np.random.default_rng(1).normal(size=(series, count)).cumsum(axis=1))
    walk *= 24 / series / walk.max(axis=1, keepdims=True)
    return np.arange(count) * 0.1, walk.cumsum(axis=0) * GB


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
    import numpy as np
    from PySide6.QtWidgets import QApplication

    from core.history import History
    from core.jobs import Phase
    from widgets.timeline import TimelinePanel
    from widgets.timeline_data import AXES

    panel = TimelinePanel()
    panel.resize(1000, 260)
    panel.show()
    panel.append(reading(-1.0))
    track = panel._past.tracks[0]
    others = np.stack([np.abs(np.sin(times / k)) * 100 for k in (7, 700, 11)])
    track.history = History(8)
    track.prepend(times, np.concatenate([series, others]).T)
    track.add_device(float(times[-1]) + 0.05, reading(0.0).devices[0])
    panel._past.now = float(times[-1])
    panel.set_axis(AXES[0])
    length = float(times[-1])
    for number in range(200):
        phase = tuple(Phase)[number % 5]
        panel.phase(f"job {number // 5}", "Scene", phase, number * length / 200)
        if number % 5 == 4:
            panel.job_ended(f"job {number // 5}", (number + 0.9) * length / 200, "done")
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
    clock, begin = itertools.count(1), panel._past.now

    def tick() -> None:
        panel.append(reading(begin + next(clock) * step))
        panel.view.repaint()

    return tick


def anew(panel: Any, span: float) -> Callable[[], None]:
    """Return a paint of the panel with nothing kept, as after a zoom."""
    spans = itertools.cycle((span, span + 1))

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
    stack = data(POINTS, 5)
    day = data(DAY, 5)
    ticks = {
        "pyqtgraph as it comes": plain(times, series, best=False),
        "pyqtgraph, best settings": plain(times, series, best=True),
        "the panel, all of it": ours(filled(*stack, POINTS * 0.1), 1.0),
        "the panel, a day": ours(filled(*day, DAY * 0.1), 1.0),
        "the panel, last hour": ours(filled(*day, 3600.0), 1.0),
        "the panel, last minute": ours(filled(*day, 60.0), 0.1),
        "the panel, a day anew": anew(filled(*day, 3600.0), DAY * 0.1 - 2),
        "the panel, an hour anew": anew(filled(*day, 3600.0), 3600.0),
    }
    spent: dict[str, list[float]] = {name: [] for name in ticks}
    for number in range(ROUNDS + 1):
        # Who comes after another finds the caches full of its data: in a new order each time.
        for name in random.Random(number).sample(list(ticks), len(ticks)):
            tick = ticks[name]
            application.processEvents()
            start = time.thread_time()
            tick()
            if number:
                spent[name].append((time.thread_time() - start) * 1e3)
    return {name: statistics.median(values) for name, values in spent.items()}


def hour_percent() -> float:
    """Return the share of a core that showing the last hour takes at ten readings a second."""
    from PySide6.QtWidgets import QApplication

    panel = filled(*data(POINTS, 5), 3600.0)
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
    held = day_megabytes()
    print(f"a day in memory:             {held:8.1f} MB    (budget {DAY_BUDGET_MB:g})")
    missed = missed or held > DAY_BUDGET_MB
    paint = painting()
    ticks = list(paint.items())
    default, best, whole = (value for _, value in ticks[:3])
    for name, value in ticks:
        own = name.startswith("the panel")
        print(f"tick, {name + ':':26s} {value:8.2f} ms", f"(budget {TICK_BUDGET_MS:g})" * own)
        missed = missed or (own and value > TICK_BUDGET_MS)
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

"""A dream in the real window for ten minutes, on a disk that stands still: jitter and memory.

A worker process streams 832×480 and records H.264 and PNG; the disk stands still for 500 ms
every few seconds, for its writer and for the thread that makes the frames. The window shows
30 frames a second out of the buffer. Beside it, in the same minutes, an empty window in a
process of its own beats at the same rate and does nothing: the baseline of what this
machine's timers can do. A 5 ms timer beats in both; a gap is the time between two beats.

Promises: what lies between two paints is off by less than 8 ms in 99 of 100; the buffer
never runs empty and no frame is left out; no gap over 40 ms but those that the empty window
had at that time as well, or in which the thread waited for a core; beside the frames, which
are bounded, and the readings kept memory grows by no more than 0.25 MB a minute after a
warm-up.

The promise is about ten minutes, the default: `--seconds 60` looks for a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
from tests.benchmarks.bench_event_loop import _spin as spin  # noqa: E402
from tests.benchmarks.bench_soak import KEPT_BYTES_A_READING, Beats  # noqa: E402

FPS = 30
JITTER_MS, WORST_MS = 8.0, 40.0
GROWTH_MB_A_MINUTE = 0.25
WARM_SECONDS = 45.0
"""Until the buffer is full, and what comes with a first dream is made."""


def idle(seconds: float, _home: Path) -> dict[str, Any]:
    """Return the gaps of an empty window, and the jitter of a timer at the dream's rate."""
    from PySide6.QtCore import Qt, QTimer
    from PySide6.QtWidgets import QApplication, QWidget

    app, window = QApplication([]), QWidget()
    window.show()
    spin(app, 3)
    beats, ticks = Beats(), []
    timer = QTimer(singleShot=True, timerType=Qt.TimerType.PreciseTimer)
    begin = monotonic()

    def tick() -> None:
        ticks.append(monotonic())
        due = begin + (len(ticks) + 1) / FPS
        timer.start(max(0, round((due - monotonic()) * 1000)))

    timer.timeout.connect(tick)
    timer.start(round(1000 / FPS))
    spin(app, seconds - 3)
    return {**beats.figures(), "jitter": jitter(ticks)}


def ours(seconds: float, home: Path) -> dict[str, Any]:
    """Return the gaps, the paints and the memory of the real window while it dreams."""
    from PySide6.QtCore import QTimer

    app, _window, controller, desk = _made(home)
    memory: list[tuple[float, float, float]] = []
    page = os.sysconf("SC_PAGE_SIZE")

    def remember() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        buffer = desk.player.clock.buffer if desk.player is not None else None
        frames = 0 if buffer is None else buffer.bytes_held()
        memory.append((perf_counter(), pages * page / 1e6, frames / 1e6))

    watch = QTimer(interval=1000)
    watch.timeout.connect(remember)
    watch.start()
    spin(app, 2)
    rest = Beats()
    spin(app, 4)
    before = rest.figures()
    (job,) = controller.add("dream-source", {"fps": FPS, "made_fps": 60})
    begin = monotonic()
    while desk.player is None or desk.player.clock.frame is None:
        spin(app, 0.05)
        assert monotonic() - begin < 60, "no frame comes"
    paints = array("d")  # Lists of numbers would be growth of their own.
    late = array("d")
    stood = array("d")

    def painted(at: float, due: float) -> None:
        paints.append(at)
        late.append((at - due) * 1e3)
        stood.append(queued_ms())

    desk.player.canvas.on_painted = painted
    spin(app, 2)
    del paints[:], late[:], stood[:]
    beats, own = Beats(), OwnBeats()
    spin(app, seconds)
    found = {**beats.figures(), "own": own.worst}
    found["stalls"] = list(found["stalls"])  # What closing costs is none of them.
    desk.player.canvas.on_painted = None
    watch.stop()
    buffer = desk.player.clock.buffer
    figures, made = buffer.figures(), len(paints)
    level = buffer.seconds()
    controller.enough(job.id)
    spin(app, 1.5)
    closed = controller.close()
    app.processEvents()
    return {
        **found,
        "before": before,
        "memory": memory,
        "jitter": jitter(paints),
        "late": tails(late),
        "served": served(paints, stood),
        "painted": made,
        "shown": figures.shown,
        "depletions": figures.depletions,
        "dropped": figures.dropped,
        "behind": figures.late,
        "level": level,
        "closed": closed,
        "kind": app.platformName(),
    }


def queued_ms() -> float:
    """Return how long this thread has waited for a core since it began."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e6


class OwnBeats:
    """The longest gap between beats of 5 ms, less what the thread waited for a core in it."""

    def __init__(self) -> None:
        from PySide6.QtCore import Qt, QTimer

        self.worst = 0.0
        self._last, self._queued = perf_counter(), queued_ms()
        self._timer = QTimer(timerType=Qt.TimerType.PreciseTimer, interval=5)
        self._timer.timeout.connect(self._beat)
        self._timer.start()

    def _beat(self) -> None:
        now, queued = perf_counter(), queued_ms()
        self.worst = max(self.worst, (now - self._last) * 1e3 - (queued - self._queued))
        self._last, self._queued = now, queued


def served(at: Sequence[float], stood: Sequence[float]) -> dict[str, float]:
    """Return the jitter between paints before which the thread never waited 1 ms for a core."""
    pairs = zip(pairwise(at), pairwise(stood), strict=True)
    off = [abs((b - a) * 1e3 - 1000 / FPS) for (a, b), (p, q) in pairs if q - p < 1]
    return {**tails(off), "share": len(off) / max(1, len(at) - 1)}


def tails(values: Iterable[float]) -> dict[str, float]:
    ordered = sorted(values) or [0.0]
    place = min(len(ordered) - 1, int(len(ordered) * 0.99))
    return {"median": ordered[len(ordered) // 2], "p99": ordered[place], "worst": ordered[-1]}


def jitter(at: Iterable[float]) -> dict[str, float]:
    """Return by how many ms the time between two of them is off."""
    return tails([abs((b - a) * 1e3 - 1000 / FPS) for a, b in pairwise(at)])


def _made(home: Path) -> tuple[Any, Any, Any, Any]:
    from PySide6.QtWidgets import QApplication

    from app.controller import Controller
    from app.dreaming import DreamDesk
    from app.lean import keep_large_blocks_apart
    from app.models import OwnModels
    from app.window import MainWindow
    from app.wiring import Wiring
    from core.engines.local.client import LocalEngine
    from core.gpu.sampler import Sampler
    from core.ledger import Ledger
    from core.places import Places
    from core.recorder.recorder import Recorder
    from core.settings import Settings
    from tests.benchmarks import dream_source
    from widgets.theme import apply

    app = QApplication.instance() or QApplication([])
    assert isinstance(app, QApplication)
    apply(app, "dark")
    keep_large_blocks_apart()  # As app.gui does.
    places = Places.find(home).make()
    engine = LocalEngine(log=places.worker_log, extra_families=[Path(dream_source.__file__)])
    controller = Controller(
        Ledger.open(places.ledger), engine, dream_source.recipes(places.models), places.outputs
    )
    window = MainWindow(Settings(keep_awake=False), places.settings)
    window.fill(controller)
    Wiring(controller, window, OwnModels(controller, window), places)
    window.resize(1600, 1000)
    window.show()
    recorder = Recorder(controller.ledger.store.path, logs=places.runs)
    controller.watch(Sampler(worker_pid=lambda: engine.pid), recorder)
    controller.start()
    desk = window.findChild(DreamDesk)
    assert desk is not None
    return app, window, controller, desk


def alone(gaps: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the worst gap that the other window did not have at the same time, ms."""
    own = [
        (end - begin) * 1e3
        for begin, end in gaps["stalls"]
        if not any(b < end and begin < e for b, e in other["stalls"])
    ]
    return max([15.0, *own])


def slope(memory: list[tuple[float, float, float]]) -> float:
    """Return the growth after the warm-up beside the frames, MB a minute, by least squares."""
    since = memory[0][0] + WARM_SECONDS
    kept = [(at, mb - frames) for at, mb, frames in memory if at >= since]
    if len(kept) < 10:
        return float("nan")
    middle = sum(at for at, _ in kept) / len(kept), sum(mb for _, mb in kept) / len(kept)
    rise = sum((at - middle[0]) * (mb - middle[1]) for at, mb in kept)
    return 60 * rise / sum((at - middle[0]) ** 2 for at, _ in kept)


def kept_mb() -> float:
    """Return what the readings of a minute take that are kept to be drawn."""
    return 600 * KEPT_BYTES_A_READING / 1e6


def both(seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "FRAMEDECK_NO_SETUP": "1"}
        env.setdefault("QT_QPA_PLATFORM", "offscreen")
        command = [sys.executable, __file__, "--seconds", str(seconds), "--home", folder]
        runs = [
            subprocess.Popen([*command, "--as", name], stdout=subprocess.PIPE, env=env, cwd=ROOT)
            for name in ("idle", "ours")
        ]
        told = [process.communicate()[0] for process in runs]
    if any(process.returncode for process in runs):
        raise SystemExit("a window broke off")
    found = [json.loads(text.decode().splitlines()[-1]) for text in told]
    return found[0], found[1]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--as", dest="role", choices=("idle", "ours"))
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    if given.role:
        role = {"idle": idle, "ours": ours}[given.role]
        print(json.dumps(role(given.seconds, given.home)))
        return 0
    empty, dream = both(given.seconds)
    worst, growth = min(alone(dream, empty), dream["own"]), slope(dream["memory"]) - kept_mb()
    frames = max(mb for _, _, mb in dream["memory"])
    calm = dream["served"]
    off, base, late = dream["jitter"], empty["jitter"], dream["late"]
    print(f"{given.seconds:.0f} s at {FPS} fps, {dream['kind']}: {dream['painted']} paints")
    print(
        f"jitter p99 {off['p99']:.2f} ms (median {off['median']:.2f}, worst {off['worst']:.1f}), "
        f"floor {JITTER_MS} · an empty window's timer: {base['p99']:.2f} ms, "
        f"ratio {off['p99'] / max(base['p99'], 0.01):.2f}"
    )
    print(
        f"where it did not wait for a core ({calm['share']:.0%} of paints): "
        f"p99 {calm['p99']:.2f} ms, worst {calm['worst']:.1f}"
    )
    print(f"painted after due: median {late['median']:.2f}, p99 {late['p99']:.2f} ms")
    print(
        f"buffer ran empty {dream['depletions']} times, left out {dream['dropped']}, "
        f"late {dream['behind']}, {dream['level']:.1f} s in it at the end"
    )
    print(
        f"event loop: p99 {dream['p99']:.1f} ms, worst {dream['worst']:.1f}, of its own "
        f"{worst:.1f} (floor {WORST_MS}) · before it: {dream['before']['worst']:.1f} · "
        f"empty window: p99 {empty['p99']:.1f}, worst {empty['worst']:.1f}"
    )
    print(
        f"memory: {growth:+.2f} MB a minute after {WARM_SECONDS:.0f} s (floor "
        f"{GROWTH_MB_A_MINUTE}), beside frames that took {frames:.0f} MB at most (bound 1,074)"
    )
    kept = {
        "jitter": off["p99"] < JITTER_MS,
        "never empty": not dream["depletions"] and not dream["dropped"],
        "gaps": worst <= WORST_MS,
        "memory": not growth > GROWTH_MB_A_MINUTE and frames <= 1.01 * 2**30 / 1e6,
        "closed": dream["closed"],
    }
    for name, good in kept.items():
        print(f"   {name:<12} {'kept' if good else 'MISSED'}")
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())

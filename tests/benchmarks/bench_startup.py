"""Process start to first paint and to everything being there, against a bare PySide6 window.

Whole processes, interleaved, medians. The floor is the bare window: interpreter,
PySide6 and one empty QMainWindow. Promises: first paint at most 1.35 x bare,
everything interactive at most 5 x, resident memory after start under 200 MB.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 9

BARE = """
import sys, time
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication, QMainWindow
class Window(QMainWindow):
    done = False
    def paintEvent(self, event):
        super().paintEvent(event)
        if not self.done:
            self.done = True
            print("painted", time.monotonic(), flush=True)
            QTimer.singleShot(0, QApplication.quit)
app = QApplication(sys.argv)
window = Window()
window.resize(1600, 1000)
window.show()
app.exec()
"""

OURS = """
import sys, time
from app.lean import skip_feature_scan
skip_feature_scan()  # As app.main does, before it imports the window that is patched here.
import app.window
plain = app.window.MainWindow.paintEvent
def paint(self, event):
    first = not self._painted
    plain(self, event)
    if first:
        print("painted", time.monotonic(), flush=True)
app.window.MainWindow.paintEvent = paint
import app.gui
begin = app.gui.Program._begin
def began(program):
    begin(program)
    def ready():
        import psutil
        from PySide6.QtWidgets import QApplication
        print("ready", time.monotonic(), psutil.Process().memory_info().rss, flush=True)
        QApplication.quit()
    # The first reading is drawn once every dock is built and the sampler runs.
    seen = []
    def on_reading(_):
        if not seen:
            seen.append(True)
            app.window.QTimer.singleShot(0, ready)
    program._controller.reading.connect(on_reading)
app.gui.Program._begin = began
from app.main import main
raise SystemExit(main(["--home", sys.argv[1]]))
"""


def _run(code: str, *args: str) -> dict[str, list[float]]:
    import time

    # Python keeps bytecode from the first start on, unless a variable forbids it.
    usual = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=ROOT,
        env={**usual, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    found = {}
    for line in done.stdout.splitlines():
        name, at, *more = line.split()
        found[name] = [(float(at) - began) * 1e3, *map(float, more)]
    return found


def main() -> int:
    """Start both in turn and print the ratios. Returns 1 when a promise is missed."""
    bare, paint, ready, memory = [], [], [], []
    with tempfile.TemporaryDirectory() as home:
        _run(BARE), _run(OURS, home)
        for _ in range(ROUNDS):
            bare.append(_run(BARE)["painted"][0])
            ours = _run(OURS, home)
            paint.append(ours["painted"][0])
            ready.append(ours["ready"][0])
            memory.append(ours["ready"][1] / 1e6)
    base = statistics.median(bare)
    first = statistics.median(a / b for a, b in zip(paint, bare, strict=True))
    whole = statistics.median(a / b for a, b in zip(ready, bare, strict=True))
    rss = statistics.median(memory)
    print(f"bare window   first paint {base:6.0f} ms (floor)")
    print(f"Framedeck     first paint {statistics.median(paint):6.0f} ms")
    print(f"Framedeck     interactive {statistics.median(ready):6.0f} ms")
    checks = [
        (first <= 1.35, f"first paint {first:.2f} x a bare window (promise: at most 1.35)"),
        (whole <= 5.0, f"everything interactive {whole:.2f} x a bare window (at most 5)"),
        (rss < 200, f"resident memory after start {rss:.0f} MB (under 200)"),
    ]
    for good, words in checks:
        print(("ok    " if good else "MISSED"), words)
    return 0 if all(good for good, _ in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())

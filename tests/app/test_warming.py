"""What the first job needs is loaded aside, and not in the window's thread as it begins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIRST_JOB = """
import importlib.abc, sys, threading, time
from app import gui
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

class Noted(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("core.", "app.")):
            mine = threading.current_thread() is threading.main_thread()
            print("window" if mine else "aside", name, flush=True)
        return None

def begin(self):
    plain(self)
    sys.meta_path.insert(0, Noted())
    QTimer.singleShot(1500, self, lambda: first(self))
    self._controller.job_ended.connect(lambda *_: QTimer.singleShot(300, self, QApplication.quit))

def first(self):
    assert not [one for one in self._controller._tasks if one.pump.objectName() == "warming"]
    print("first job", flush=True)
    self._controller.add("test-pattern", {"prompt": "rain", "frames": 8, "steps": 4})

gui.PROVEN_AFTER_MS = 600_000  # What is loaded for updates by then is not for the job.
plain, gui.Program._begin = gui.Program._begin, begin
from app.main import main
raise SystemExit(main(["--home", sys.argv[1]]))
"""


def test_the_first_job_loads_next_to_nothing_in_the_window(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST_JOB, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "FRAMEDECK_NO_SETUP": "1", "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, _, after = done.stdout.partition("first job\n")
    loaded = [line.split()[1] for line in before.splitlines() if line.startswith("aside ")]
    assert "core.scheduling.kept" in loaded
    assert "core.timing.outlook" in loaded
    here = [line.split()[1] for line in after.splitlines() if line.startswith("window ")]
    many = ("core.scheduling", "core.timing", "core.engines.comfy", "app.server")
    assert not [name for name in here if name.startswith(many)]
    assert len(here) <= 4, here

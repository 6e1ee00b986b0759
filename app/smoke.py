"""`framedeck --smoke`: opens the window, tells what was loaded and how long it took, and ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OUT = "-"
"""Names standard output instead of a file."""
PATIENCE_MS = 120_000
HELD = 2
"""Exit code where a window holds the folder already: the arguments name one that is taken.

An update that is to prove itself counts the start as one that says nothing of it.
"""
HEAVY = ("torch", "diffusers", "transformers", "cv2")


def facts(seconds: Mapping[str, float]) -> dict[str, Any]:
    """Return versions, what this process is, and how long after its start each moment was.

    Args:
        seconds: Moments of `time.monotonic`; they stand in the facts as they are, too.
    """
    import platform
    import time

    import PySide6
    from PySide6.QtCore import qVersion
    from PySide6.QtGui import QGuiApplication

    from core import frozen, resources

    began = time.monotonic() - age()
    return {
        "framedeck": frozen.version(),
        "frozen": frozen.is_frozen(),
        "python": platform.python_version(),
        "qt": qVersion(),
        "pyside": PySide6.__version__,
        "platform": QGuiApplication.platformName(),
        "screen_ratio": QGuiApplication.primaryScreen().devicePixelRatio(),
        "heavy": [name for name in HEAVY if name in sys.modules],
        "uv": frozen.uv() is not None,
        "icons": resources.path("icons/framedeck.svg").is_file(),
        "seconds": {name: round(at - began, 3) for name, at in seconds.items()},
        "monotonic": dict(seconds),
    }


def age() -> float:
    """Return how many seconds this process runs; on Linux in steps of 10 ms."""
    import os
    import time

    if sys.platform == "linux":
        # psutil adds the whole second of the system's start, and may be one off.
        # The name, in brackets, may hold spaces; the start is the 22nd field.
        fields = Path("/proc/self/stat").read_text("utf-8").rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    import psutil

    return max(0.0, time.time() - psutil.Process().create_time())


def held_by(data: Path, pid: int | None) -> str:
    """Return what is said where a window is open already on the folder `data`."""
    who = f"process {pid}" if pid else "another process"
    return (
        f"Framedeck is open already on {data} ({who}), so no second window can be opened there: "
        "nothing was looked at or written.\n"
        "Close that window, or name another folder with --home; without --home an empty one "
        "is used.\n"
    )


def tell(target: str, seconds: Mapping[str, float]) -> int:
    """Write one line of JSON to `target`; returns the exit code."""
    text = json.dumps(facts(seconds)) + "\n"
    if target != OUT:
        try:
            Path(target).write_text(text, "utf-8")
        except OSError as error:
            sys.stderr.write(f"{target} cannot be written: {error}\n")
            return 1
    elif sys.stdout is not None:
        sys.stdout.write(text)
        sys.stdout.flush()
    return 0

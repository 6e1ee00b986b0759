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
HEAVY = ("torch", "diffusers", "transformers", "cv2")


def facts(seconds: Mapping[str, float]) -> dict[str, Any]:
    """Return versions, what this process is, and `seconds` since it was started."""
    import os
    import platform
    import time

    import psutil
    import PySide6
    from PySide6.QtCore import qVersion
    from PySide6.QtGui import QGuiApplication

    from core import frozen, resources

    began = psutil.Process(os.getpid()).create_time()
    now, clock = time.time(), time.monotonic()
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
        "seconds": {name: round(at - clock + now - began, 3) for name, at in seconds.items()},
    }


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

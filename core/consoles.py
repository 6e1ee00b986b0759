"""Children that open no console window of their own on Windows."""

from __future__ import annotations

import sys
from typing import Any

_CREATE_NO_WINDOW = 0x0800_0000


def no_console(platform: str = sys.platform) -> dict[str, Any]:
    """Return what Popen needs so that no black window comes up beside ours.

    The window's program has no console there, so each console program would get one.
    """
    return {"creationflags": _CREATE_NO_WINDOW} if platform == "win32" else {}

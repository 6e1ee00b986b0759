"""What a start asks of the window, its own or one that is open: files, and a panel to show.

Passed between processes as one line of JSON. It comes from the same user, but perhaps from
another version of this program, so what is not understood is left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.opening_queue import QueueFiles

if TYPE_CHECKING:
    from argparse import Namespace

    from app.window import MainWindow

MOST_BYTES = 2**20
MOST_FILES = 100
RAISE = b"raise\n"


def line(options: Namespace) -> bytes:
    """Return what a start with such arguments asks of a window that is open already."""
    if not options.files and options.show is None:
        return RAISE
    wish = {"files": [str(path) for path in options.files], "show": options.show or ""}
    return json.dumps(wish).encode() + b"\n"


def read(data: bytes) -> tuple[list[Path], str]:
    """Return the files and the panel in a line; both are empty where it asks for neither."""
    try:
        wish: Any = json.loads(data)
    except (ValueError, RecursionError):
        return [], ""
    if not isinstance(wish, dict):
        return [], ""
    files, show = wish.get("files"), wish.get("show")
    named = [name for name in files if isinstance(name, str)] if isinstance(files, list) else []
    paths = [Path(name) for name in named[:MOST_FILES] if "\0" not in name]
    return [path for path in paths if path.is_absolute()], show if isinstance(show, str) else ""


def fulfil(window: MainWindow, files: list[Path], show: str) -> None:
    """Show a panel by the name of its dock, and open files as if they were dropped."""
    dock = window.panels.docks.get(show)
    if dock is not None:
        dock.show()
        dock.raise_()
        if show == "compose":
            window.panels.compose.focus_prompt()
    if not files:
        return
    queues = QueueFiles(window)
    for path in files:
        if not path.exists():
            window.panels.notice.show_text(f"{path} is not there.", key="open")
        elif queues.takes(path):
            queues.open(path)
        else:
            window.dropped.emit(str(path))

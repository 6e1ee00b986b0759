"""A careful start, after some in a row that did not get far: the way out of a crash loop."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from core.settings import Settings

if TYPE_CHECKING:
    from app.controller import Controller
    from app.window import MainWindow
    from core.crashes.starting import Start

SETTLED_AFTER_MS = 20_000
"""A window that has answered for so long got far."""


def without_layout(settings: Settings) -> Settings:
    """Return the settings with the window's place and layout as at the first start."""
    return replace(settings, geometry="", layout="")


def hold_queue(controller: Controller) -> None:
    """Pause the queue before it begins: one of its jobs may be what brings the window down."""

    def pause() -> None:
        controller.ledger.paused = True

    controller.guard(pause)


def tell(start: Start, controller: Controller, window: MainWindow) -> None:
    """Say what is different this time, and offer the queue."""
    window.panels.notice.show_text(
        f"Framedeck crashed {start.failed} times in a row soon after it started. This time the "
        "layout of the window is the usual one, and the queue is paused.",
        (("Run the queue", lambda: controller.guard(lambda: controller.set_paused(False))),),
        "warning",
        "careful",
    )

"""A clip that another job made already, though its values differ, is told."""

from __future__ import annotations

from typing import Any

from app.window import MainWindow
from core.jobs import JobState

SMALL = {"width": 64, "height": 64, "frames": 8, "steps": 3, "seed": 5}


def test_a_value_that_does_not_reach_the_clip_is_told(qtbot: Any, window: MainWindow) -> None:
    controller = window.controller
    assert controller is not None

    def told() -> str:
        return " ".join(notice.text for notice in window.panels.notice._notices)

    def run(**changed: Any) -> None:
        done = controller.ledger.counts()[JobState.DONE]
        controller.add("test-pattern", {**SMALL, "step_seconds": 0.01, **changed})
        qtbot.waitUntil(
            lambda: controller.ledger.counts()[JobState.DONE] > done and not controller._tasks,
            timeout=30_000,
        )

    run()
    run()
    run(seed=6)
    assert "shows just what" not in told(), "the same values, or another clip"
    run(step_seconds=0.02)
    assert "another Time per step. Look whether the changed values reach the model" in told()

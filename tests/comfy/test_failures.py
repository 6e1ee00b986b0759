"""What a server says of its failure, through every engine's one door into the ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.engines.comfy.known import KnownServer
from core.errors import Category
from core.events import Failed
from core.failures.causes import Cause
from core.failures.recovery import Action, recovery
from tests.comfy.app_bench import standin
from tests.comfy.app_driver import make
from tests.comfy.app_graphs import graph


def loading(name: str) -> dict[str, Any]:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x", "images": ["1", 0]}},
    }


def lacking() -> dict[str, Any]:
    found = graph()
    found["4"]["inputs"]["ckpt_name"] = "dreamshaper_8.safetensors"
    return found


@pytest.mark.parametrize(
    ("work", "fault", "category", "cause", "action"),
    [
        (loading("words.png"), None, "invalid_params", Cause.INPUT, Action.EDIT_JOB),
        (lacking(), None, "model_not_found", Cause.MODEL_MISSING, Action.EDIT_JOB),
        (graph(), "out_of_memory", "insufficient_vram", Cause.GPU_MEMORY, Action.FREE_MEMORY),
        (graph(), "error", "unknown", Cause.UNKNOWN, Action.RETRY),
    ],
)
def test_a_servers_failure_has_its_category_in_the_ledger(
    qtbot: Any,
    tmp_path: Path,
    work: dict[str, Any],
    fault: str | None,
    category: str,
    cause: Cause,
    action: Action,
) -> None:
    with standin(tmp_path / "a") as server:
        (tmp_path / "a/server/input").mkdir(exist_ok=True)
        (tmp_path / "a/server/input/words.png").write_text("no picture")
        if fault is not None:
            server.arm(fault, times=9)
        controller = make(tmp_path / "home", [KnownServer(server.url)])
        try:
            controller.start()
            with qtbot.waitSignal(controller.job_ended, timeout=20_000) as told:
                controller.add("drill-image", {"graph": json.dumps(work)})
            job, ending = told.args
            assert isinstance(ending, Failed)
            assert ending.problem.category == category, ending.problem
            kept = controller.row(job.id).problem
            assert kept is not None
            assert kept.category is Category(category)
            found = recovery(kept)
            assert found.cause is cause
            assert found.steps[0].action is action
            assert len(found.steps) >= 2
        finally:
            assert controller.close()

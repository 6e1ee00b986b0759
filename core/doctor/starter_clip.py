"""The starter clip as a test: made by the real engine, verified, and judged by what it shows.

It runs in the engine's Python, in a process of its own, which can be ended at any moment; the
engine's worker then ends with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from core.doctor.starter_words import PROMPT, SEED
from core.engines.local import families
from core.engines.local.client import LocalEngine
from core.errors import Problem
from core.events import Failed, Finished, PhaseStarted, Sampled
from core.jobs import new_job

_SHARES = {"decode": 0.8, "encode": 0.81, "verify": 0.82}
_MOST_BYTES = 100_000_000


def make(folder: Path, tell: Callable[[float, str], None]) -> dict[str, Any]:
    """Return what came of it: "problem", or "faults", "seen" and "seconds".

    Args:
        folder: Where everything of it lies; its owner deletes it.
        tell: Told (share done, what is done).
    """
    began = monotonic()
    recipe = next((one for one in families.recipes(folder) if one.id == "starter"), None)
    if recipe is None:
        return {"problem": "The starter model is not there."}
    job = new_job(recipe, {"prompt": PROMPT, "seed": SEED}, folder, output=folder / "clip.mp4")
    engine = LocalEngine(interpreter=sys.executable, log=folder / "engine.log")
    ending: object = None
    tell(0.0, "the engine starts")
    try:
        for event in engine.run(job):
            if isinstance(event, Sampled):
                tell(0.2 + 0.6 * event.step / max(1, event.steps), "the clip is made")
            elif isinstance(event, PhaseStarted):
                tell(_SHARES.get(event.phase, 0.1), str(event.phase))
            ending = event
    finally:
        engine.close()
    if isinstance(ending, Failed):
        problem = ending.problem
        return {"problem": sentences(problem)}
    if not isinstance(ending, Finished):
        return {"problem": "The engine stopped before the clip was done."}
    tell(0.85, "the clip is verified")
    return {
        **_judged(Path(ending.output.path), tell),
        "seconds": round(monotonic() - began, 1),
    }


def _judged(clip: Path, tell: Callable[[float, str], None]) -> dict[str, Any]:
    import numpy as np

    from core import judge
    from core.outputs import read_frames, verify_file

    verdict = verify_file(clip)
    if not verdict.ok:
        return {"faults": list(verdict.faults)}
    tell(0.95, "the clip is judged")
    frames = [
        np.frombuffer(frame.bgra, np.uint8).reshape(frame.height, frame.width, 4)[:, :, 2::-1]
        for frame in read_frames(clip, _MOST_BYTES)
    ]
    seen = judge.look(np.stack(frames))
    return {
        "faults": [],
        "frames": len(frames),
        "seen": {
            "colours": list(seen.colours),
            "shapes": [thing.shape for thing in seen.things],
            "motion": seen.motion,
            "background": seen.background,
            "clean": seen.clean,
        },
    }


def sentences(problem: Problem) -> str:
    """Return a problem as text; what another program said has no full stop."""
    message = problem.message
    end = "" if message.endswith((".", "!", "?")) else "."
    return f"{message}{end} {problem.hint}".strip()

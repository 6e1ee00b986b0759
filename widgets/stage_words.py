"""What the stage can show, and the words and shares that go with it."""

from __future__ import annotations

from enum import StrEnum

from core.events import Output, Sampled
from core.jobs import Job, Phase

# Where each phase begins and ends on the line of progress. Sampling is nearly
# all of it; the rest gets a little, so that the line never stands still.
SHARES = {
    Phase.LOAD: (0.0, 0.06),
    Phase.SAMPLE: (0.06, 0.86),
    Phase.DECODE: (0.86, 0.95),
    Phase.ENCODE: (0.95, 0.98),
    Phase.VERIFY: (0.98, 1.0),
}
DOING = {
    Phase.LOAD: "Loading the model…",
    Phase.SAMPLE: "Sampling…",
    Phase.DECODE: "Decoding the frames…",
    Phase.ENCODE: "Encoding the clip…",
    Phase.VERIFY: "Checking the clip…",
}


class StageState(StrEnum):
    """What the stage shows."""

    EMPTY = "empty"
    LOADING = "loading"
    SAMPLING = "sampling"
    DECODING = "decoding"
    ENCODING = "encoding"
    VERIFYING = "verifying"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


STATES = {
    Phase.LOAD: StageState.LOADING,
    Phase.SAMPLE: StageState.SAMPLING,
    Phase.DECODE: StageState.DECODING,
    Phase.ENCODE: StageState.ENCODING,
    Phase.VERIFY: StageState.VERIFYING,
}
RUNNING = frozenset(STATES.values())


def badges_of_output(job: Job, output: Output) -> tuple[str, str]:
    """Return the words over a finished clip: what it is, and how it is made."""
    left = [_short(job.title)]
    if "seed" in job.params:
        left.append(f"seed {job.params['seed']}")
    moves = [f"{output.frames} frames", f"{output.fps:g} fps"] if output.frames > 1 else ["picture"]
    right = [f"{output.width}×{output.height}", *moves, "verified ✓"]
    return " · ".join(left), " · ".join(right)


def badges_of_run(
    job: Job, state: StageState, sampled: Sampled | None, fps: float | None, preview: bool
) -> tuple[str, str]:
    """Return the words over a clip that is being made; `fps` is None before its first frame."""
    left, right = [_short(job.title)], []
    if state is not StageState.SAMPLING:
        left.append(str(state))
    elif sampled is not None:
        left.append(f"step {sampled.step} of {sampled.steps}")
        left.append(_pace(sampled.seconds_per_step))
    if "width" in job.params and "height" in job.params:
        right.append(f"{job.params['width']}×{job.params['height']}")
    if fps is not None:
        right.append(f"{'live preview' if preview else 'decoded'} {fps:g} fps")
    return " · ".join(left), " · ".join(right)


def _short(title: str) -> str:
    return title if len(title) <= 34 else title[:33].rstrip() + "…"


def _pace(seconds: float) -> str:
    return f"{seconds:.2f} s/step" if seconds < 1 else f"{seconds:.1f} s/step"

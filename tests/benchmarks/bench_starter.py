"""The starter on this machine: seconds a clip, first preview, and how well it follows prompts.

Baseline in the same run: one bare step of the UNet, times steps and guidance; what the
clip takes beyond is text, previews, decoding and the engine. Promises on two cores:
16 frames of 64x64 in at most 5 s with a warm engine, the first preview within 1 s of the
start of sampling, and the bars of `framedeck bench starter-fidelity`.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from time import monotonic

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from core.engines.local import fidelity, starter  # noqa: E402
from core.engines.local.client import LocalEngine  # noqa: E402
from core.engines.local.families import animatediff  # noqa: E402
from core.events import Failed, FramesPublished, PhaseStarted  # noqa: E402
from core.jobs import Phase, new_job  # noqa: E402

ROUNDS = 7
CLIP_SECONDS, PREVIEW_SECONDS = 5.0, 1.0


def timed(engine: LocalEngine, folder: Path, seed: int) -> tuple[float, float]:
    """Return seconds of a whole job, and from the start of sampling to the first preview."""
    recipe = animatediff.recipes(folder)[0]
    given = {"prompt": "a red ball bounces on a green field", "seed": seed}
    began, sampling, preview = monotonic(), 0.0, 0.0
    for event in engine.run(new_job(recipe, given, folder / "clips")):
        match event:
            case PhaseStarted(phase=Phase.SAMPLE):
                sampling = monotonic()
            case FramesPublished() if not preview:
                preview = monotonic() - sampling
            case Failed(problem=problem):
                raise SystemExit(problem.message)
    return monotonic() - began, preview


def floor_seconds() -> float:
    """Return what the UNet alone takes for all steps of a clip, with guidance."""
    import torch
    from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel

    folder = starter.folder()
    image = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    motion = MotionAdapter.from_pretrained(folder / "motion_adapter", torch_dtype=torch.float32)
    unet = UNetMotionModel.from_unet2d(image, motion).eval()
    side, frames = starter.SIZE // 8, 16
    noise = torch.randn(2, unet.config.in_channels, frames, side, side)
    words = torch.randn(2 * frames, 40, unet.config.cross_attention_dim)
    times = []
    with torch.inference_mode():
        for _ in range(ROUNDS + 1):
            began = monotonic()
            unet(noise, 500, words)
            times.append(monotonic() - began)
    return statistics.median(times[1:]) * starter.STEPS


def main() -> int:
    """Time, judge, and print; returns 1 when a promise is missed."""
    clips = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine = LocalEngine(log=folder / "engine.log")
        try:
            timed(engine, folder, 0)
            found = [timed(engine, folder, seed) for seed in range(1, ROUNDS + 1)]
        finally:
            engine.close()
    clip, preview = (statistics.median(column) for column in zip(*found, strict=True))
    floor = floor_seconds()
    report = fidelity.run(starter.folder(), clips)
    print(f"UNet alone, all steps        {floor:6.2f} s (floor)")
    checks = [
        (clip <= CLIP_SECONDS, f"a clip {clip:.2f} s, {clip / floor:.2f} x the floor (at most 5)"),
        (preview <= PREVIEW_SECONDS, f"first preview after {preview:.2f} s (at most 1)"),
        (report.meets_bars, "every bar of fidelity"),
    ]
    print(report.table())
    for good, words in checks:
        print(("ok    " if good else "MISSED"), words)
    return 0 if all(good for good, _ in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())

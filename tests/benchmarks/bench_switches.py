"""What each speed switch gives on this machine, against the plain pipeline in the same run.

Two models: the starter, an AnimateDiff, and a Stable Diffusion of 64 channels with random
weights. All ways run in turn in one process of their own, as `framedeck bench engine` does
it; after a warm-up the medians count. Beside each stand how far its pixels are from the
plain ones, and the floor: the products and sums of one run, counted, at the speed that a
plain matrix product reaches here in the same type.

Run as `python -m tests.benchmarks.bench_switches`; exit code 1 when a switch without loss
moves pixels by more than 1/255 in the mean, or when what it chooses is slower than plain.
A number asks for other rounds; names of switches choose some.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from core.bench import method  # noqa: E402
from core.bench.figures import PLAIN, Run  # noqa: E402
from core.engines.local import families  # noqa: E402
from core.engines.local.bench_client import BenchProcess  # noqa: E402
from core.engines.local.families import animatediff  # noqa: E402
from core.engines.local.speed_switches import BY_ID, for_family  # noqa: E402
from core.jobs import Recipe, new_job  # noqa: E402

ROUNDS = 5
GIVEN = {"prompt": "a red ball bounces on a green field", "seed": 3}

FLOOR = """
import json, sys
from time import perf_counter
import torch
from torch.utils.flop_counter import FlopCounterMode
from core.engines.local.context import Context
from core.engines.local import families, machine
from core.engines.local.decoding import whole
from core.engines.local.warm import Warm
from core.frames import Ring
from core.jobs import Job
job, ring = Job.from_json(json.loads(sys.argv[1])), Ring.create()
context = Context(job, ring=ring, report=lambda event: None, warm=Warm(), device=machine.device)
with FlopCounterMode(display=False) as count:
    whole(families.load(job.family).generate(context))
rates = {}
for name in ("float32", "bfloat16"):
    a, b = (torch.randn(1024, 1024, device=machine.device()).to(getattr(torch, name)) for _ in "ab")
    best = 1e9
    for _ in range(30):
        began = perf_counter()
        a @ b
        if a.is_cuda:
            torch.cuda.synchronize()
        best = min(best, perf_counter() - began)
    rates[name] = 2 * 1024**3 / best
print(json.dumps([count.get_total_flops(), rates]))
"""


def model_of_64_channels(folder: Path) -> Path:
    """Make a Stable Diffusion with its usual blocks, 64 channels wide."""
    import diffusers

    from tests.core import tiny_models

    tiny_models.stable_diffusion(folder)
    unet = diffusers.UNet2DConditionModel(
        sample_size=32, block_out_channels=(64, 128, 256), layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=8, cross_attention_dim=8,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(32, 64, 64, 64), layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    return folder


def floor(recipe: Recipe, given: dict[str, object], folder: Path) -> tuple[float, dict[str, float]]:
    """Return the products and sums of one plain run, and of a second by type."""
    import subprocess

    from core.engines.local.process import CODE_ROOT, worker_environment

    job = new_job(recipe, {**given, "speed": PLAIN}, folder)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FLOOR, job.dumps()],
        cwd=CODE_ROOT, env=worker_environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    operations, rates = json.loads(done.stdout.splitlines()[-1])
    return float(operations), rates


def measure(
    recipe: Recipe, given: dict[str, object], folder: Path, rounds: int, names: list[str]
) -> bool:
    """Measure a model's switches and print them; returns whether the promises are kept."""
    operations, rates = floor(recipe, given, folder)
    process = BenchProcess(folder / "bench.log")
    try:
        plain = new_job(recipe, {**given, "speed": PLAIN}, folder)
        wanted = [s.id for s in for_family(recipe.family) if not names or s.id in names]
        found = process.ask({"look": plain.to_json(), "try": wanted})

        def ask(way: str) -> Run:
            job = new_job(recipe, {**given, "speed": way}, folder)
            return Run.from_json(process.ask({"run": job.to_json()}))

        kinds = [
            method.Kind(name, BY_ID[name].lossy, BY_ID[name].group)
            for name in wanted
            if name not in found["unusable"]
        ]
        report = method.measure(ask, kinds, rounds, lambda *_: None)
    finally:
        process.close()
    params = plain.params
    shape = f"{params['width']}×{params['height']}, {params.get('frames', 1)} frames"
    print(f"{recipe.title}: {shape}, {params['steps']} steps, {found['device']}, "
          f"{found['threads']} threads, medians of {rounds} rounds; baseline: plain")  # fmt: skip
    for kind, rate in rates.items():
        print(f"  floor: {operations / 1e9:.0f} GFLOP at {rate / 1e9:.0f} GFLOP/s of {kind}: "
              f"{operations / rate:.3f} s")  # fmt: skip
    kept = True
    for name, way in report.ways.items():
        one = way.figures(report.plain_of(name), 0)
        lossy = any(BY_ID[part].lossy for part in name.split("+") if part in BY_ID)
        sound = lossy or one["mean_difference"] <= 1
        kept &= sound
        print(
            f"  {name if name != PLAIN else 'plain':44} {one['median_seconds']:7.3f} s "
            f"{one['ratio']:5.2f} ×  ({one['best_seconds']:.3f}–{one['worst_seconds']:.3f} s)  "
            f"pixels {one['mean_difference']:.3f}/255, most {one['max_difference']}"
            f"{'' if not way.compile_seconds else f', compiled in {way.compile_seconds:.1f} s'}"
            f"{', changes pixels' if lossy else '' if sound else ' MISSED'}"
        )
    for name, why in found["unusable"].items():
        print(f"  {name:44} not here: {why}")
    for words, chosen in (("without loss", report.auto), ("of all", report.fast)):
        print(f"  fastest {words}: {' + '.join(chosen) or 'plain'}")
    chosen = report.ways.get("+".join(report.auto))
    if chosen is not None:
        pairs = zip(report.plain_of(chosen.name).seconds, chosen.seconds, strict=True)
        kept &= statistics.median(one / other for one, other in pairs) >= 1
    return kept


def main(arguments: list[str]) -> int:
    rounds = next((int(word) for word in arguments if word.isdigit()), ROUNDS)
    names = [word for word in arguments if word in BY_ID]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        starter = animatediff.recipes(folder)[0]
        kept = measure(starter, {**GIVEN, "steps": 8}, folder, rounds, names)
        (folder / "sd-64").mkdir()
        own = families.recipe_for_folder(model_of_64_channels(folder / "sd-64"))
        shape = {**GIVEN, "width": 128, "height": 128, "steps": 10}
        kept &= measure(own, shape, folder, rounds, names)
    print(f"  promise: without loss means at most 1/255: {'kept' if kept else 'MISSED'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

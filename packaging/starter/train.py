"""Train the starter model from nothing: one command, started again where it stopped.

    python packaging/starter/train.py --work DIR --out resources/starter

First the autoencoder, then text and images, then motion; see README.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
for place in (HERE, HERE.parents[1]):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))


STAGES = ("vae", "image", "shapes", "clip", "sharpen", "export")


def main() -> None:
    """Run the stages that are asked for, each from its last checkpoint."""
    import export
    import shapes
    import stage_diffusion
    import stage_vae
    import torch

    from core.engines.local.quiet import hush

    hush()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="folder for the finished model")
    parser.add_argument("--stages", nargs="+", default=STAGES)
    parser.add_argument("--image-steps", type=int, default=stage_diffusion.IMAGE_STEPS)
    parser.add_argument("--clip-steps", type=int, default=stage_diffusion.CLIP_STEPS)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for all")
    parser.add_argument("--members", type=int, default=1, help="processes, one thread each")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.members > 1 or options.threads:
        torch.set_num_threads(1 if options.members > 1 else options.threads)
    stages = {
        "vae": lambda: stage_vae.train(options.work, options.members),
        "image": lambda: stage_diffusion.train_images(
            options.work, options.image_steps, options.members
        ),
        "shapes": lambda: shapes.train_reader(options.work),
        "clip": lambda: stage_diffusion.train_clips(
            options.work, options.clip_steps, options.members
        ),
        "sharpen": lambda: stage_vae.sharpen(options.work, options.members),
        "export": lambda: export.export(options.work, options.out),
    }
    for stage in options.stages:
        stages[stage]()


if __name__ == "__main__":
    main()

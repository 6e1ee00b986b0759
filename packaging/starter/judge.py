"""Judge a trained starter and keep its scores for the model card.

python packaging/starter/judge.py --work DIR --out resources/starter --clips 200
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
for place in (HERE, HERE.parents[1]):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))


def main() -> None:
    """Make and judge clips; print what was right."""
    import card

    from core.engines.local import fidelity, starter

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="where the scores are kept")
    parser.add_argument("--out", type=Path, required=True, help="model folder")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=fidelity.SEED)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--hardware", default="")
    parser.add_argument("--note", default="")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--missed", action="store_true", help="print what was wrong")
    options = parser.parse_args()
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    changed = dict(pair.split("=", 1) for pair in options.set)
    report = fidelity.run(options.out, options.clips, options.seed, settings=changed)
    print(report.table())
    if options.missed:
        print("\n".join(report.missed))
    if options.work:
        kept = {
            "table": report.table(),
            "settings": {**starter.DEFAULTS, **changed},
            "hardware": options.hardware,
            "note": options.note,
        }
        text = json.dumps(kept, indent=2)
        (options.work / card.SCORES).write_text(text + "\n", encoding="utf-8")
        card.write(options.work, options.out)


if __name__ == "__main__":
    main()

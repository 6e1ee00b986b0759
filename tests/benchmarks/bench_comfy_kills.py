"""kill -9 of Framedeck at random moments of the life of jobs on a server, 88 times.

One job each time, killed at a moment of its life that chance chooses, then opened again.
Real processes, real signals, the stand-in over HTTP and WebSocket. Promise: every job ends
once, none is sent twice, no file that the server made is missing, doubled or half.
`FRAMEDECK_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

KILLS = 88


def main() -> int:
    """Print what came of it; returns 1 when the promise is missed."""
    from tests.comfy.app_bench import Driver, killed_at_random, life_of_a_job, rows, standin

    seed = int(os.environ.get("FRAMEDECK_SEED", random.randrange(2**32)))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with standin(Path(folder), step_seconds=0.03) as server:

            def reopen() -> None:
                assert Driver(home, server.url, loud=False).wait() == 0

            life = max(life_of_a_job(Path(folder) / f"life-{n}", server) for n in range(3))
            chance = random.Random(seed)
            wrong, at = killed_at_random(home, server, KILLS, chance, reopen, life)
        ended = Counter(row.state.value for row in rows(home).values())
    print(f"{KILLS} kills in {time.monotonic() - began:.0f} s, seed {seed}")
    print(f"a job takes {life:.2f} s")
    print("when killed, the job was: " + _counts(at))
    print("in the end the jobs are: " + _counts(ended))
    for line in wrong:
        print(f"WRONG: {line}")
    print(f"promise: each ends once, none is sent twice, no file lost: {_verdict(wrong)}")
    return 1 if wrong else 0


def _counts(found: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(found.items()))


def _verdict(wrong: list[str]) -> str:
    return "MISSED" if wrong else "kept"


if __name__ == "__main__":
    raise SystemExit(main())

"""kill -9 of Framedeck with 200 jobs waiting and one running, 30 times, then 30 times more.

The second 30 while another process adds, moves or removes jobs, or in the midst of the
start. Promise: the same order and the same ids each time, no job begun twice, and less than
2 s from the start of the process to the right rows on the window. The argument is the count,
`FRAMEDECK_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

KILLS = 30
RESTART_SECONDS = 2.0


def main(kills: int = KILLS) -> int:
    """Print what came of it; returns 1 when a promise is missed."""
    from tests.app.queue_kills import killed

    seed = int(os.environ.get("FRAMEDECK_SEED", random.randrange(2**32)))
    with tempfile.TemporaryDirectory() as folder:
        plain, busy = killed(Path(folder) / "home", kills, kills, random.Random(seed))
    print(f"seed {seed}")
    print("200 wait and one runs:", plain.words())
    print("the queue is changed: ", busy.words())
    wrong = plain.wrong + busy.wrong
    for line in wrong:
        print(f"WRONG: {line}")
    print(f"promise: same order, same ids, no job twice: {'MISSED' if wrong else 'kept'}")
    worst = max(plain.restarts + busy.restarts)
    kept = worst < RESTART_SECONDS
    print(f"promise: restart under {RESTART_SECONDS:g} s: {'kept' if kept else 'MISSED'}")
    return 1 if wrong or not kept else 0


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:2])))

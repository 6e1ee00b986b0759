"""Nights in which everything goes wrong: what is lost, doubled or left standing?

The real program with the local engine and two stand-in servers, while an adversary kills
and stops workers, servers and the program, breaks cards and connections, and changes the
queue and the settings. Arguments: nights, jobs, seconds of each. `FRAMEDECK_SEED` is the
seed of the first night, `FRAMEDECK_KEEP` a folder that is kept. Promise: every job ends once,
none is sent twice unless its first try was over, nothing half is left, the queue never
stands still for 20 s while something could run, and the window's own work never takes
200 ms at a time.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

NIGHTS, JOBS, SECONDS = 1, 40, 90
OWN_SECONDS = 0.2


@contextlib.contextmanager
def _folder(seed: int) -> Iterator[Path]:
    kept = os.environ.get("FRAMEDECK_KEEP")
    if kept:
        path = Path(kept) / str(seed)
        path.mkdir(parents=True)
        yield path
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def main(nights: int = NIGHTS, jobs: int = JOBS, seconds: int = SECONDS) -> int:
    """Print what came of each night; returns 1 when the promise is missed."""
    from tests.app.night import Night

    first = int(os.environ.get("FRAMEDECK_SEED", random.randrange(2**31)))
    missed = 0
    for seed in range(first, first + nights):
        with _folder(seed) as folder:
            night = Night(folder, seed, jobs, seconds)
            try:
                story = night.run()
            finally:
                night.close()
        acts = ", ".join(f"{n} {name}" for name, n in story.acts.most_common())
        print(f"seed {seed}, {story.seconds:.0f} s: {dict(story.states)}")
        print(f"  {story.acts.total()} acts: {acts}")
        for words, times in story.failed.items():
            print(f"  failed {times} times: {words[:200]}")
        print(f"  own work at most {story.worst_own:.2f} s, gap at most {story.worst_gap:.2f} s")
        for line in sorted(set(story.told)):
            print(f"  told: {line[:300]}")
        for line in story.wrong:
            print(f"  WRONG: {line[:900]}")
        missed += bool(story.wrong) or story.worst_own > OWN_SECONDS
    print(f"promise: {'MISSED' if missed else 'kept'} in {nights - missed} of {nights} nights")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:4])))

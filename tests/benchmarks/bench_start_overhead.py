"""A second start adds under 0.15 s: the look at the stamp and one handover to the environment.

Baseline: the environment's own Python doing nothing, started in the same loop.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROMISE_SECONDS = 0.15
ROUNDS = 21


def seconds(*command: str) -> float:
    """Return how long `command` takes, started in the checkout."""
    begun = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> int:
    """Print the overhead and its ratio; returns 1 when the promise is missed."""
    from app import bootstrap, environment

    venv = bootstrap.place_of_venv()
    if bootstrap.read_stamp(venv) is None or not bootstrap.is_ready("app"):
        print(f"{venv} was not made by the set-up: run this with `python3 -m tests bench`.")
        return 1
    inside = str(environment.interpreter(venv))
    outside = sys._base_executable
    start = "from app import bootstrap; bootstrap.ensure('app')"
    bare, ours = [], []
    for _ in range(ROUNDS):  # taking turns, so that both meet the same load
        bare.append(seconds(inside, "-c", "pass"))
        ours.append(seconds(outside, "-c", start))
    base, with_check = statistics.median(bare), statistics.median(ours)
    added = with_check - base
    print(f"bare start of the environment  {base * 1000:6.1f} ms")
    print(f"start through the set-up       {with_check * 1000:6.1f} ms")
    print(f"added {added * 1000:.1f} ms, {with_check / base:.2f} x (promise: under 150 ms)")
    return 0 if added < PROMISE_SECONDS else 1


if __name__ == "__main__":
    raise SystemExit(main())

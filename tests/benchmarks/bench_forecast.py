"""What a forecast over a long history costs beside a plain median of the same rows.

Baseline of the same run: the median of memory and of time over the runs with the
same signature, as an estimate without statistics would take it. The floor is
looking at every row once. Rounds are interleaved and medians compared.

    python -m tests.benchmarks.bench_forecast
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable

from core.statistics.forecast import model_of
from core.statistics.runs import Asked, Run

ROUNDS = 15
SHOWN = 100
SIZES = ((512, 320), (832, 480), (640, 384), (1280, 720))
LEARN_PROMISE_MS = 50.0
"""For 1,000 runs, in a thread beside the window's, once after each job."""
ASK_PROMISE_MS = 5.0
"""In the window's own thread at every change of a value, with 100 rows."""


def history(count: int) -> list[Run]:
    rng = random.Random(4)
    found = []
    for _ in range(count):
        width, height = rng.choice(SIZES)
        asked = Asked(
            "wan", "f", "m", width, height, 4 * rng.randint(4, 24) + 1, rng.randint(4, 50)
        )
        clip = asked.pixel_frames
        peak = (9.2e9 + 110 * clip) * rng.gauss(1, 0.03)
        found.append(Run(asked, (12 + asked.steps * clip * 1.2e-7) * rng.gauss(1, 0.03), peak))
    return found


def plain(runs: list[Run], asked: Asked) -> tuple[float, float]:
    same = [run for run in runs if run.asked.signature == asked.signature]
    return (
        statistics.median(run.peak_bytes or 0.0 for run in same),
        statistics.median(run.seconds or 0.0 for run in same),
    )


def looked_at(runs: list[Run]) -> float:
    return sum(run.peak_bytes or 0.0 for run in runs)


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1e3


def errors(runs: list[Run]) -> tuple[float, float]:
    """Return the median error of the forecast and of the plain median on the last fifth."""
    known, held = runs[: -len(runs) // 5], runs[-len(runs) // 5 :]
    model, usual = model_of(known, held[0].asked), plain(known, held[0].asked)[0]
    ours, theirs = [], []
    for run in held:
        found = model.forecast(run.asked)
        assert found is not None
        assert found.peak_bytes is not None
        assert run.peak_bytes is not None
        ours.append(abs(found.peak_bytes.median / run.peak_bytes - 1))
        theirs.append(abs(usual / run.peak_bytes - 1))
    return statistics.median(ours), statistics.median(theirs)


def measure(count: int) -> tuple[float, float]:
    runs = history(count)
    asked = runs[0].asked
    model = model_of(runs, asked)
    rounds = [
        (
            timed(lambda: looked_at(runs)),
            timed(lambda: plain(runs, asked)),
            timed(lambda: model_of(runs, asked)),
            timed(lambda: model.forecast(asked)),
        )
        for _ in range(ROUNDS)
    ]
    floor, median, learn, ask = (statistics.median(column) for column in zip(*rounds, strict=True))
    ours, theirs = errors(runs)
    print(
        f"{count:6} runs  {floor:8.3f} ms  {median:8.2f} ms  {learn:8.2f} ms"
        f"  {learn / median:7.1f} ×  {ask:8.3f} ms  {ask / median:7.2f} ×"
        f"  {ours:7.1%}  {theirs:7.1%}"
    )
    return learn, ask


def main() -> int:
    print(f"Memory and time of one recipe, {len(SIZES)} sizes; median of {ROUNDS} rounds")
    print(
        "               floor   plain median    learning  to median"
        "      asking  to median   error  of median"
    )
    _, ask_few = measure(SHOWN)
    learn, ask = measure(1000)
    kept = learn <= LEARN_PROMISE_MS and max(ask, ask_few) <= ASK_PROMISE_MS
    print(
        f"  promise: learning from 1,000 runs at most {LEARN_PROMISE_MS:g} ms, asking at most"
        f" {ASK_PROMISE_MS:g} ms: {'kept' if kept else 'MISSED'}"
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

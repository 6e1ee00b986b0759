"""The window of a recorded job says the figures of a run of which everything is known."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from core.gpu import traces
from core.gpu.columns import USED
from core.recorder.load import load_trace
from core.units import memory
from tests.core.recording import MB, Bench
from tests.core.test_recorder import run_wan
from widgets.recorded import RecordedWindow


def test_the_scripted_run_has_its_exact_figures(qtbot: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path, traces.find("wan-i2v-24gb"))
    job_id, used = run_wan(bench)
    found = load_trace(bench.ledger, job_id)
    bench.close()
    mean = sum((one + other) / 2 for one, other in pairwise(used)) / (len(used) - 1)
    window = RecordedWindow(found)
    qtbot.addWidget(window)
    window.show()
    words = window._words.text()
    for part in (
        f"peak {memory(14523 * MB)} in decode · VAE Decode after 87.0 s",
        f"average {memory(mean * MB)}",
        f"lowest {memory(2065 * MB)}",
        f"before {memory(2065 * MB)}, after {memory(3124 * MB)}",
    ):
        assert part in words
    drawn = window._take().rows[:, USED] / MB
    assert (np.nanmax(drawn), np.nanmin(drawn), drawn[-1]) == (14523, 2065, 3124)
    assert abs(found[0].figures.average_bytes / MB - mean) < 1

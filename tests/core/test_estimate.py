"""Estimates rest on measured runs, and say so."""

from __future__ import annotations

from core.estimate import estimate, in_words
from core.jobs import Job, JobState
from core.queue import JobRow

SIZE = {"width": 64, "height": 64, "frames": 8, "steps": 4}


def row(
    seconds: float, recipe: str = "r", state: JobState = JobState.DONE, **params: int
) -> JobRow:
    job = Job("id", recipe, "local", "f", "t", SIZE | params, "", "/x.mp4", 0.0)
    return JobRow(job=job, state=state, seconds=seconds, peak_rss_bytes=10**9)


def test_no_run_is_said_plainly() -> None:
    assert estimate("r", SIZE, []) is None
    assert estimate("r", SIZE, [row(9, "other"), row(9, state=JobState.FAILED)]) is None
    assert "not known" in in_words(None)


def test_the_same_sizes_count_alone() -> None:
    rows = [row(10), row(12), row(14), row(500, frames=128)]
    found = estimate("r", SIZE, rows)
    assert found is not None
    assert (found.seconds, found.runs, found.exact) == (12, 3, True)
    assert found.peak_rss_bytes == 10**9
    assert in_words(found) == "About 0:12 · from 3 runs on this machine\nPeak 954 MB of memory"


def test_other_sizes_are_scaled_and_told() -> None:
    found = estimate("r", SIZE | {"frames": 16}, [row(10)])
    assert found is not None
    assert found.seconds == 20
    assert not found.exact
    assert found.peak_rss_bytes is None
    assert "1 run on this machine of other sizes" in in_words(found)

"""Giving memory back: measured, between prompts, and only when asked to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.engines.clean_ups import CleanUps
from core.engines.comfy.free import Freed
from core.events import Finished, Noted, Sampled
from core.units import MEGABYTE, memory
from tests.comfy.client_bench import Process, drain, engine, graph, job, run_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path)
    yield process
    process.kill()


def test_freeing_is_measured(server: Process) -> None:
    comfy = engine(server.base)
    freed = comfy.free()
    assert freed.vram_bytes == 7_500_000_000
    assert freed.why_not == ""
    # A GB as everywhere in the window: what an 8 GB card shows as 8.
    assert freed.words().startswith("7.0 GB freed in ")
    assert server.fault()["frees"] == [{"unload_models": True, "free_memory": True, "while": None}]
    comfy.close()


def test_what_a_pack_holds_is_told(server: Process) -> None:
    server.fault(held_bytes=7_900_000_000)
    comfy = engine(server.base)
    freed = comfy.free()
    assert freed.vram_bytes == 100_000_000
    assert "7.4 GB are held by a node pack" in freed.words()
    assert freed.words().startswith("95 MB freed in ")
    comfy.close()


def test_freeing_waits_for_the_gap_and_says_so(server: Process, tmp_path: Path) -> None:
    comfy = engine(server.base)
    events = comfy.run(job(tmp_path, graph(steps=30, step_seconds=0.05)))
    run_until(events, lambda event: isinstance(event, Sampled))
    told: list[float] = []
    found = []
    thread = threading.Thread(
        target=lambda: found.append(comfy.free(waiting=lambda: told.append(time.monotonic())))
    )
    thread.start()
    assert isinstance(drain(events)[-1], Finished), "a running job is left alone"
    thread.join(10)
    assert len(told) == 1
    assert found[0].vram_bytes == 7_500_000_000
    assert found[0].waited_seconds > 0.5
    assert "after waiting" in found[0].words()
    comfy.close()


def test_release_stops_our_job_and_frees(server: Process, tmp_path: Path) -> None:
    comfy = engine(server.base)
    events = comfy.run(job(tmp_path, graph(steps=100, step_seconds=0.05)))
    run_until(events, lambda event: isinstance(event, Sampled))
    found = []
    thread = threading.Thread(target=lambda: found.append(comfy.release()))
    thread.start()
    assert type(drain(events)[-1]).__name__ == "Stopped"
    thread.join(10)
    assert found[0].vram_bytes == 7_500_000_000
    comfy.close()
    assert engine("http://127.0.0.1:9").release().ram_bytes == 0


@pytest.mark.parametrize(("every", "times"), [(10, 2), (0, 0)])
def test_clean_ups_come_between_prompts(
    server: Process, tmp_path: Path, every: int, times: int
) -> None:
    comfy = engine(server.base, free_every=every)
    quick = graph(steps=1, step_seconds=0, saver="SaveImage")
    notes = 0
    for number in range(1, 26):
        seen = drain(comfy.run(job(tmp_path, quick)))
        assert isinstance(seen[-1], Finished)
        told = [e for e in seen if isinstance(e, Noted) and "Memory cleaned up" in e.text]
        assert bool(told) == (every > 0 and number % every == 0)
        notes += len(told)
    frees = server.fault()["frees"]
    assert len(frees) == notes == times
    assert [one["while"] for one in frees] == [None] * times
    comfy.close()


@given(st.integers(0, 2**40))
def test_amounts_are_told_as_everywhere(came: int) -> None:
    words = Freed(came, None, 1.0).words()
    if came < MEGABYTE:
        assert words == "Nothing came back within 1.0 s."
    else:
        assert words == f"{memory(came)} freed in 1.0 s."


def test_counting() -> None:
    clean = CleanUps(3)
    assert [clean.finished() for _ in range(7)] == [False, False, True, False, False, True, False]
    clean.every = 0
    assert not any(clean.finished() for _ in range(20))

"""Memory that runs out in the real worker, in each phase of more than one family."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from core.engines.local import families
from core.engines.local.client import LocalEngine
from core.errors import Category
from core.events import Event, Failed, Finished, PhaseStarted, Progressed, WorkerStarted
from core.jobs import Phase, new_job
from core.outputs import verify_file
from tests.core import memory_faults, tiny_models

ALLOWED_BYTES = 100_000_000
PHASES = ("load", "sample", "decode")
SMALL = {"width": 64, "height": 64, "steps": 1, "seed": 3, "prompt": "a fox"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("stable_diffusion", "wan"):
        (folder / name).mkdir()
        getattr(tiny_models, name)(folder / name)
    return folder


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that says what happens in the next run."""
    return tmp_path_factory.mktemp("plan") / "plan"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, plan: Path) -> Iterator[LocalEngine]:
    """One worker for all of it: it has lived through each family when the next one comes."""
    log = tmp_path_factory.mktemp("log") / "engine.log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(memory_faults.PLAN, str(plan))
        made = LocalEngine(log=log, extra_families=[Path(memory_faults.__file__)])
        made.warm_up()
        yield made
        made.close()


def rss(engine: LocalEngine, at_most: float | None = None) -> int:
    """Return the worker's memory, once it is at most that or two seconds are over."""
    assert engine.pid is not None
    process, until = psutil.Process(engine.pid), time.monotonic() + 2.0
    while True:
        now = int(process.memory_info().rss)
        if at_most is None or now <= at_most or time.monotonic() > until:
            return now
        time.sleep(0.05)


@pytest.mark.parametrize("family", ["stable_diffusion", "wan", "animatediff"])
def test_the_worker_lives_on_and_gives_all_of_it_back(
    models: Path, tmp_path: Path, engine: LocalEngine, plan: Path, family: str
) -> None:
    if family == "animatediff":
        recipe = families.load(family).recipes(tmp_path)[0]
        given: dict[str, object] = {**SMALL, "frames": 8}
    else:
        recipe = families.recipe_for_folder(models / family)
        given = dict(SMALL) if family == "stable_diffusion" else {**SMALL, "frames": 9}
    seen: list[Event] = []

    def run(where: str = "none") -> Event:
        plan.write_text(f"{family} {where}")
        job = new_job(recipe, given, tmp_path)
        # Without latents kept: each run samples.
        seen[:] = engine.run(replace(job, family=memory_faults.ID))
        if isinstance(seen[-1], Finished) and recipe.makes == "video":
            assert verify_file(job.output).ok
        return seen[-1]

    def loaded() -> int:
        return sum(isinstance(one, Progressed) and one.phase is Phase.LOAD for one in seen)

    first = run()
    assert isinstance(first, Finished), first
    pid, parts = engine.pid, loaded()
    assert parts > 0
    baseline = rss(engine)
    for where in PHASES:
        ending = run(where)
        assert isinstance(ending, Failed), (where, ending)
        assert ending.problem.category is Category.INSUFFICIENT_VRAM
        phases = [one.phase for one in seen if isinstance(one, PhaseStarted)]
        assert phases[-1].value == where
        after = rss(engine, baseline + ALLOWED_BYTES)
        assert after < baseline + ALLOWED_BYTES, f"{where}: {after - baseline:+,} bytes"
        good = run()
        assert isinstance(good, Finished), (where, good)
        assert loaded() == parts, "the model was dropped, and is loaded whole again"
        after = rss(engine, baseline + ALLOWED_BYTES)
        assert abs(after - baseline) < ALLOWED_BYTES, f"{where}: {after - baseline:+,} bytes"
        print(f"{family} {where}: {(after - baseline) / 1e6:+.1f} MB")
    if any(isinstance(one, WorkerStarted) for one in seen):
        assert engine.pid == pid, "the same worker all along"


def test_an_idle_model_is_let_go_and_the_worker_stays(
    models: Path, tmp_path: Path, engine: LocalEngine
) -> None:
    recipe = families.recipe_for_folder(models / "stable_diffusion")

    def parts() -> int:
        events = list(engine.run(new_job(recipe, SMALL, tmp_path)))
        assert isinstance(events[-1], Finished), events[-1]
        return sum(isinstance(one, Progressed) and one.phase is Phase.LOAD for one in events)

    first, pid = parts(), engine.pid
    assert first > 0
    assert parts() == 0, "warm: no part is loaded again"
    engine.keep_seconds = 0.2
    assert parts() == 0
    time.sleep(1.0)
    engine.keep_seconds = None
    assert parts() == first, "it was let go meanwhile"
    assert parts() == 0
    assert engine.pid == pid

"""A job that asks for what was made already gets a copy, and nothing is posted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.events import Finished
from core.jobs import Job
from core.outputs import verify_file
from core.statistics.runs import MADE_BEFORE
from core.timing.past import passed_of
from tests.comfy.desks import Desks, desks
from tests.comfy.fake_install import FakeInstall


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeInstall]:
    made = FakeInstall(tmp_path / "ComfyUI")
    yield made
    made.clean()


def posts(fake: FakeInstall) -> int:
    return len(fake.posted())


def made(case: Desks, base: str, **params: Any) -> tuple[Job, Finished]:
    job = case.add(base, **params)
    ending = case.ending(job)
    assert isinstance(ending, Finished)
    return job, ending


def test_the_same_again_is_copied_and_posted_once(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    base = fake.server.base
    with desks(qtbot, tmp_path, fake.server) as case:
        case.start(base)
        first, one = made(case, base, seed=7, steps=1)
        assert posts(fake) == 1
        loaded = case.wiring.schedule.affinity.loaded_at(base)
        case.wiring.schedule.affinity.forget(base)
        second, two = made(case, base, seed=7, steps=1)
        assert posts(fake) == 1
        assert case.controller.ledger.noted([second.id], (MADE_BEFORE,)) == {second.id}
        assert loaded and not case.wiring.schedule.affinity.loaded_at(base)

        # A clip of its own, whole, with its own recipe beside it.
        assert two.output.path != one.output.path
        assert Path(two.output.path).read_bytes() == Path(one.output.path).read_bytes()
        assert verify_file(Path(two.output.path)).ok
        told = json.loads(Path(two.output.recipe).read_text("utf-8"))
        assert told["job"]["id"] == second.id
        assert told["copied_from"] == first.id
        assert not list(Path(two.output.path).parent.glob(".*part"))
        # Nothing is learnt from a run that was none.
        assert [run.job_id for run in passed_of(case.controller.ledger.store.path)] == [first.id]

        # Another seed and another number of steps are made, and the same where it is asked for.
        made(case, base, seed=8, steps=1)
        made(case, base, seed=7, steps=2)
        assert posts(fake) == 3
        bar = case.window.panels.notice
        again = next(notice for notice in bar._notices if "was made before" in notice.text)
        again.actions[0][1]()
        case.until(lambda: posts(fake) == 4 and case.controller.running is None)


def test_what_is_gone_or_changed_or_not_wanted_is_made_anew(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    base = fake.server.base
    with desks(qtbot, tmp_path, fake.server) as case:
        case.start(base)
        _, one = made(case, base, seed=7, steps=1)
        clip = Path(one.output.path)
        whole = clip.read_bytes()
        clip.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        made(case, base, seed=7, steps=1)
        assert posts(fake) == 2
        clip.unlink()
        case.controller.engine.made.on = False
        made(case, base, seed=7, steps=1)
        assert posts(fake) == 3

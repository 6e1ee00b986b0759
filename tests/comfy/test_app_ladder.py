"""Memory that runs out while a server samples: lighter within what is allowed, rung by rung."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from core.engines.comfy import workflows_files
from core.engines.comfy.standin.control import HEADER
from core.engines.comfy.standin.faults import Kind
from core.errors import Category
from core.events import Failed, Finished
from core.jobs import Job, JobState
from core.morning.marks import Mark, read_note
from core.places import Places
from core.scheduling import retries
from core.settings import Settings
from tests.comfy.desks import SMALL, Desks, desks
from tests.comfy.fake_install import ROOT, FakeInstall

CLIP, ASKED = "comfy-wan21-t2v", {"width": 128, "height": 128, "frames": 21}
WORKFLOWS = ROOT / "resources" / "workflows"
FREED = "memory given back first"


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeInstall]:
    made = FakeInstall(tmp_path / "ComfyUI")
    yield made
    made.clean()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.server_watch.LOOK_MS", 300)
    usual = retries.RetryRules
    monkeypatch.setattr(
        retries, "RetryRules", lambda budget: usual(budget=budget, first_seconds=0.05, factor=1.0)
    )


def full(fake: FakeInstall, times: int, node: str = "KSampler") -> None:
    fake.plan(faults=[{"kind": Kind.OUT_OF_MEMORY.value, "node": node, "times": times}])


def clip(case: Desks, base: str) -> Job:
    given = {"prompt": "a fox in snow", "seed": 11, "steps": 2, "server": base, **ASKED}
    return case.controller.add(CLIP, given)[0]


def ended(case: Desks, job: Job, *states: JobState) -> Job:
    """Wait until a job ended so for good: a retry follows a failure within a moment."""

    def now() -> tuple[JobState, int]:
        row = case.controller.row(job.id)
        return row.state, row.attempt

    while True:
        case.until(lambda: now()[0] in states, 60.0)
        before = now()
        case.qtbot.wait(400)
        if now() == before:
            return case.controller.row(job.id).job


def rungs(case: Desks, job: Job) -> list[list[str]]:
    ledger = case.controller.ledger
    notes = [ledger.notes(job.id, one.number) for one in ledger.attempts(job.id)]
    read = [[read_note(text) for text in each] for each in notes]
    return [[words for mark, words in each if mark is Mark.RUNG] for each in read]


def test_frames_and_size_go_down_to_the_floor_and_no_further(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    full(fake, 99)
    allowed = Settings(retries=9, may_shorten=True, may_shrink=True)
    with desks(qtbot, tmp_path, fake.server, settings=allowed) as case:
        case.start(fake.server.base)
        job = clip(case, fake.server.base)
        last = ended(case, job, JobState.FAILED)
        row = case.controller.row(job.id)
        assert row.problem is not None
        assert row.problem.category is Category.INSUFFICIENT_VRAM
        told = rungs(case, job)
        assert told[0] == [FREED], "nothing is changed before it must be"
        assert told[-1] == [], "no rung was left"
        # Half of what was asked for, as the model takes it: 4n + 1 frames, sides of 16.
        values = {name: last.params[name] for name in ASKED}
        assert values == {"width": 64, "height": 64, "frames": 13}
        assert 3 < row.attempt == len(told) < 10
        words = [one for each in told for one in each if one != FREED]
        assert any(one.startswith("fewer frames (frames 21 → 17") for one in words)
        assert any(one.startswith("a smaller size (width 128 → 96") for one in words)
        assert len(words) == len(set(words))
        unchanged = {name for name in job.params if name not in ASKED}
        assert {name: last.params[name] for name in unchanged} == {
            name: job.params[name] for name in unchanged
        }, "the seed and the words above all"
        sent = fake.posted()
        assert len(sent) == row.attempt


def test_three_retries_are_enough_and_the_clip_is_as_the_record_says(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    full(fake, 3)
    allowed = Settings(retries=3, may_shorten=True, may_shrink=True)
    with desks(qtbot, tmp_path, fake.server, settings=allowed) as case:
        case.start(fake.server.base)
        job = clip(case, fake.server.base)
        last = ended(case, job, JobState.DONE, JobState.FAILED)
        row = case.controller.row(job.id)
        assert (row.state, row.attempt) == (JobState.DONE, 4)
        assert row.output is not None
        size = (row.output.width, row.output.height, row.output.frames)
        assert size == tuple(last.params[name] for name in ASKED)
        assert size < (128, 128, 21)
        told = rungs(case, job)
        assert told[0] == [FREED]
        assert all(told[1:3]), told
        assert (last.params["seed"], last.params["prompt"]) == (11, "a fox in snow")
        assert case._ended(job)[-1].seed == 11


def test_where_nothing_may_be_changed_it_fails_after_memory_was_freed_and_the_others_go_on(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    with desks(qtbot, tmp_path, fake.server, settings=Settings(retries=3)) as case:
        base = fake.server.base
        case.start(base)
        case.controller.set_paused(True)
        job, other = clip(case, base), case.add(base, seed=2, steps=1)

        def begin(begun: Job) -> None:
            if begun.id == job.id:
                fault = {"kind": Kind.OUT_OF_MEMORY.value, "node": "KSampler", "times": 1}
                said = requests.post(
                    f"{base}/standin/faults", json=fault, headers={HEADER: "t"}, timeout=5
                )
                said.raise_for_status()

        case.controller.job_began.connect(begin)
        case.controller.set_paused(False)
        last = ended(case, job, JobState.FAILED)
        case.until(lambda: case._ended(other), 30.0)
        assert isinstance(case._ended(other)[0], Finished)
        assert [type(one) for one in case._ended(job)] == [Failed, Failed]
        assert dict(last.params) == dict(job.params)
        assert rungs(case, job) == [[FREED], []]
        assert last.params["prompt"] == "a fox in snow" != SMALL["prompt"]


def own_workflow(home: Path) -> str:
    """Keep a workflow that decodes in tiles of a size of its own; return its recipe."""
    data = json.loads((WORKFLOWS / "sd15-image.json").read_text("utf-8"))
    tiles = {"tile_size": 512, "overlap": 64, "temporal_size": 64, "temporal_overlap": 8}
    data["graph"]["8"]["class_type"] = "VAEDecodeTiled"
    data["graph"]["8"]["inputs"] |= tiles
    data["parameters"].append(
        {
            "name": "tile_size", "kind": "integer", "label": "Tile", "default": 512,
            "minimum": 128, "maximum": 4096, "multiple": 32, "to": [["8", "tile_size"]],
        }
    )  # fmt: skip
    made = replace(workflows_files.from_json(data), id="my-tiles", title="My tiles", own=True)
    workflows_files.save(Places.find(home).make().workflows, made)
    return "comfy-my-tiles"


def test_a_knob_of_ones_own_workflow_goes_down_to_what_it_takes_itself(
    qtbot: Any, tmp_path: Path, fake: FakeInstall
) -> None:
    """Smaller tiles change nothing about the picture, so nobody is asked."""
    recipe = own_workflow(tmp_path / "home")
    full(fake, 99, "VAEDecodeTiled")
    with desks(qtbot, tmp_path, fake.server, settings=Settings(retries=9)) as case:
        case.start(fake.server.base)
        case.until(lambda: recipe in case.controller.recipes)
        given = {**SMALL, "seed": 3, "steps": 1, "server": fake.server.base}
        job = case.controller.add(recipe, given)[0]
        last = ended(case, job, JobState.FAILED)
        assert dict(last.params) == {**job.params, "tile_size": 128}
        smaller = "decode in smaller pieces (tile_size"
        assert rungs(case, job) == [
            [FREED], [FREED, f"{smaller} 512 → 256)"], [FREED, f"{smaller} 256 → 128)"], []
        ]  # fmt: skip
        sizes = [post["prompt"]["8"]["inputs"]["tile_size"] for post in fake.posted()]
        assert sizes == [512, 512, 256, 128]

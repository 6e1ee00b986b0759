"""One change to many jobs: what they share, what changes, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.bulk import apply, shared
from core.errors import invalid
from core.jobs import Kind, Parameter, Recipe, new_job
from core.ledger import Ledger
from core.ledger.edits import put, still_waiting


def steps(low: int = 1) -> Parameter:
    return Parameter("steps", Kind.INTEGER, "Steps", 20, low, 100)


PROMPT = Parameter("prompt", Kind.TEXT, "Prompt", "", maximum=500)
SEED = Parameter("seed", Kind.SEED, "Seed", None)
PICTURE = Parameter("image", Kind.IMAGE, "Picture", "")
MODEL = Parameter("model", Kind.CHOICE, "Model", "a", choices=("a", "b"))


def no_long_b(values) -> None:
    if values.get("model") == "b" and values["steps"] > 50:
        raise invalid("steps", "Model b takes at most 50 steps.", "Use fewer steps.")


ONE = Recipe(
    "one", "One", "", "local", "x", (PROMPT, steps(), MODEL, SEED, PICTURE), check=no_long_b
)
TWO = Recipe(
    "two",
    "Two",
    "",
    "local",
    "y",
    (steps(10), SEED, PROMPT, replace(MODEL, choices=("b", "c"), default="c")),
)
RECIPES = {"one": ONE, "two": TWO}


def made(recipe: Recipe, tmp_path: Path, **params: object):
    return new_job(recipe, params, tmp_path)


def test_what_is_shared_is_what_all_recipes_know_alike(tmp_path: Path) -> None:
    jobs = [made(ONE, tmp_path, prompt=f"p{n}", steps=20, seed=n) for n in range(6)]
    found = {
        one.parameter.name: one for one in shared([*jobs, made(TWO, tmp_path, steps=20)], RECIPES)
    }
    assert list(found) == ["prompt", "steps", "model", "seed"]
    assert found["steps"].same
    assert found["steps"].values == (20,)
    assert not found["prompt"].same
    assert found["prompt"].values == ("p0", "p1", "p2", "p3")
    assert found["prompt"].more == 3
    lone = replace(TWO, id="two", parameters=(steps(), replace(SEED, kind=Kind.INTEGER)))
    assert [
        one.parameter.name
        for one in shared([jobs[0], made(lone, tmp_path, seed=1)], {"one": ONE, "two": lone})
    ] == ["steps"]


def test_only_what_is_touched_changes_and_ids_and_ages_stay(tmp_path: Path) -> None:
    jobs = [made(ONE, tmp_path, prompt=f"p{n}", steps=n, seed=n) for n in (10, 20, 30)]
    edited = apply(jobs, {"steps": "20"}, RECIPES, tmp_path)
    assert (edited.same, edited.refused) == (1, 0)
    assert [job.id for job in edited.jobs] == [jobs[0].id, jobs[2].id]
    for job in edited.jobs:
        before = next(one for one in jobs if one.id == job.id)
        assert dict(job.params) == {**before.params, "steps": 20}
        assert (job.created_at, job.title) == (before.created_at, before.title)


def test_what_a_recipe_refuses_is_named_and_counted(tmp_path: Path) -> None:
    jobs = [made(ONE, tmp_path, prompt="long", steps=80), made(ONE, tmp_path, prompt="b", steps=9)]
    edited = apply(jobs, {"model": "b"}, RECIPES, tmp_path)
    assert (len(edited.jobs), edited.refused, edited.title) == (1, 1, "long")
    assert edited.problem is not None
    assert edited.problem.message == "Model b takes at most 50 steps."
    below = apply([made(TWO, tmp_path)], {"steps": 5}, RECIPES, tmp_path)
    assert below.problem is not None
    assert below.problem.field == "steps"
    assert "from 10 to 100" in below.problem.hint


def test_a_random_seed_is_another_one_for_each_job(tmp_path: Path) -> None:
    jobs = [made(ONE, tmp_path, seed=7) for _ in range(20)]
    edited = apply(jobs, {"seed": None}, RECIPES, tmp_path)
    assert len({job.params["seed"] for job in edited.jobs}) == 20


def test_what_an_adjustment_makes_of_it_is_what_is_kept(tmp_path: Path) -> None:
    jobs = [made(ONE, tmp_path, steps=10)]
    edited = apply(jobs, {"steps": 37}, RECIPES, tmp_path, lambda _, given: {**given, "steps": 40})
    assert edited.jobs[0].params["steps"] == 40


@given(
    before=st.lists(st.integers(1, 100), min_size=1, max_size=12),
    wanted=st.integers(1, 100),
)
def test_every_job_is_changed_or_the_same_and_back_is_back(tmp_path_factory, before, wanted):
    folder = tmp_path_factory.mktemp("bulk")
    ledger = Ledger.open(folder / "ledger.sqlite")
    try:
        jobs = [made(ONE, folder, steps=number, seed=1) for number in before]
        ledger.enqueue(jobs)
        edited = apply(jobs, {"steps": wanted}, RECIPES, folder)
        assert len(edited.jobs) + edited.same == len(jobs)
        old = put(ledger.store, edited.jobs)
        assert {ledger.row(job.id).job.params["steps"] for job in jobs} == {wanted}
        put(ledger.store, old)
        assert [ledger.row(job.id).job for job in jobs] == jobs
    finally:
        ledger.close()


@pytest.mark.parametrize("how", ["began", "removed", "unknown"])
def test_a_job_that_does_not_wait_any_more_is_left_as_it_is(tmp_path: Path, how: str) -> None:
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    jobs = [made(ONE, tmp_path, prompt=f"p{n}", steps=10) for n in range(3)]
    ledger.enqueue(jobs[:2] if how == "unknown" else jobs)
    if how == "began":
        ledger.begin(jobs[2].id)
    elif how == "removed":
        token = ledger.remove([jobs[2].id])
    edited = apply(jobs, {"steps": 11}, RECIPES, tmp_path)
    before = put(ledger.store, edited.jobs)
    assert {job.id for job in before} == {job.id for job in jobs[:2]}
    assert still_waiting(ledger.store, [job.id for job in jobs]) == {job.id for job in jobs[:2]}
    if how == "removed":
        ledger.restore(token)
    if how != "unknown":
        assert ledger.row(jobs[2].id).job.params["steps"] == 10
    ledger.close()


def server(*choices: str) -> Recipe:
    where = Parameter("server", Kind.CHOICE, "Run on", choices[0], choices=choices)
    return Recipe("far", "Far", "", "comfy", "z", (PROMPT, steps(), SEED, where))


def test_what_was_for_any_server_stays_so_whatever_else_is_changed(tmp_path: Path) -> None:
    far = server("http://a", "http://b", "")
    job = new_job(far, {"server": "", "seed": 5}, tmp_path)
    assert job.anywhere
    # It ran on one of them once, and waits again.
    ran = replace(job, params={**job.params, "server": "http://b"})
    found = {one.parameter.name: one.values for one in shared([ran], {"far": far})}
    assert found["server"] == ("",), "nobody chose that one"
    (edited,) = apply([ran], {"steps": 30}, {"far": far}, tmp_path).jobs
    assert (edited.anywhere, edited.params["server"], edited.params["steps"]) == (True, "", 30)
    assert apply([ran], {"steps": 20}, {"far": far}, tmp_path).same == 1
    (tied,) = apply([ran], {"server": "http://a"}, {"far": far}, tmp_path).jobs
    assert (tied.anywhere, tied.params["server"]) == (False, "http://a")
    # With one server left there is nothing to choose; with two again it is free again.
    one = server("http://b")
    (alone,) = apply([ran], {"steps": 30}, {"far": one}, tmp_path).jobs
    assert (alone.anywhere, alone.params["server"]) == (True, "http://b")
    assert alone.given["server"] == ""

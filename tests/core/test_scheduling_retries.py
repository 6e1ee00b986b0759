"""Retries, the ladder below them, and what is remembered of it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Category, Problem, ProblemError, invalid
from core.jobs import Kind, Parameter, Value
from core.scheduling.ladder import LADDER, NEVER, Floor, Rung, Step, next_rung
from core.scheduling.retries import Ladder, RetryRules, Verdict, after_failure
from core.scheduling.worked import MOST_KEPT, Worked

WHOLE = Kind.INTEGER
PARAMETERS = (
    Parameter("prompt", Kind.TEXT, "Prompt", "", required=True),
    Parameter("seed", Kind.SEED, "Seed", None, 0, 2**32 - 1),
    Parameter("width", WHOLE, "Width", 832, 256, 1280, 16),
    Parameter("height", WHOLE, "Height", 480, 256, 1280, 16),
    Parameter("frames", WHOLE, "Frames", 81, 5, 161, 4, offset=1),
    Parameter("tiling", Kind.SWITCH, "Tiles", False),
    Parameter("decode_chunk", WHOLE, "Chunk", 16, 1, 32),
    Parameter("offload", Kind.CHOICE, "Offload", "none", choices=("none", "model", "sequential")),
)
PARAMS: Mapping[str, Value] = {
    "prompt": "a fox", "seed": 4242, "width": 832, "height": 480, "frames": 81,
    "tiling": False, "decode_chunk": 16, "offload": "none",
}  # fmt: skip
ALL = Floor(fewer_frames=True, smaller_size=True, least_frames=21, least_width=512,
            least_height=320)  # fmt: skip


def problem(category: Category) -> Problem:
    return Problem(category, "It broke.", "Do something.")


def descend(
    params: Mapping[str, Value], floor: Floor, parameters: tuple[Parameter, ...] = PARAMETERS
) -> list[Step]:
    found: list[Step] = []
    values = dict(params)
    while (step := next_rung(values, parameters, {one.rung for one in found}, floor)) is not None:
        found.append(step)
        values = step.apply(values)
        assert len(found) < 200, "the ladder has an end"
    return found


def test_the_ladder_in_order_down_to_the_floor() -> None:
    steps = descend(PARAMS, ALL)
    assert [(step.rung, dict(step.changes)) for step in steps] == [
        (Rung.FREE, {}),
        (Rung.TILED_DECODE, {"tiling": True}),
        (Rung.SMALLER_CHUNKS, {"decode_chunk": 8}),
        (Rung.SMALLER_CHUNKS, {"decode_chunk": 4}),
        (Rung.SMALLER_CHUNKS, {"decode_chunk": 2}),
        (Rung.SMALLER_CHUNKS, {"decode_chunk": 1}),
        (Rung.MORE_OFFLOAD, {"offload": "model"}),
        (Rung.MORE_OFFLOAD, {"offload": "sequential"}),
        (Rung.FEWER_FRAMES, {"frames": 61}),
        (Rung.FEWER_FRAMES, {"frames": 45}),
        (Rung.FEWER_FRAMES, {"frames": 33}),
        (Rung.FEWER_FRAMES, {"frames": 25}),
        (Rung.FEWER_FRAMES, {"frames": 21}),
        (Rung.SMALLER_SIZE, {"width": 672, "height": 384}),
        (Rung.SMALLER_SIZE, {"width": 544, "height": 320}),
    ]
    assert steps[8].words == "fewer frames (frames 81 → 61)"


def test_without_leave_neither_frames_nor_size_are_touched() -> None:
    rungs = {step.rung for step in descend(PARAMS, Floor())}
    others = {Rung.FEWER_FRAMES, Rung.SMALLER_SIZE, Rung.SMALLER_WEIGHTS}
    assert rungs == set(Rung) - others, "it has no precision to choose"
    few = {step.rung for step in descend(PARAMS, Floor(never=frozenset({Rung.MORE_OFFLOAD})))}
    assert Rung.MORE_OFFLOAD not in few


def test_what_a_recipe_has_no_parameter_for_is_left_out_or_done_by_the_engine() -> None:
    plain = tuple(one for one in PARAMETERS if one.name in ("prompt", "seed", "frames"))
    assert [step.rung for step in descend(PARAMS, Floor(), plain)] == [Rung.FREE]
    step = next_rung(PARAMS, plain, {Rung.FREE}, Floor(), offered={Rung.TILED_DECODE})
    assert step is not None
    assert (step.rung, step.by_engine, dict(step.changes)) == (Rung.TILED_DECODE, True, {})
    tried = {Rung.FREE, Rung.TILED_DECODE}
    assert next_rung(PARAMS, plain, tried, Floor(), offered={Rung.TILED_DECODE}) is None


def test_a_rung_that_breaks_the_rule_of_a_recipe_is_left_out() -> None:
    def check(values: Mapping[str, Value]) -> None:
        if values["tiling"] is True and values["width"] != 512:
            raise invalid("tiling", "Tiles go with 512 only.", "Use 512.")

    step = next_rung(PARAMS, PARAMETERS, {Rung.FREE}, Floor(), check=check)
    assert step is not None
    assert step.rung is Rung.SMALLER_CHUNKS


SIZES = st.integers(16, 80).map(lambda n: n * 16)


@given(
    width=SIZES, height=SIZES, frames=st.integers(1, 40).map(lambda n: 4 * n + 1),
    chunk=st.integers(1, 32), tiling=st.booleans(),
    offload=st.sampled_from(["none", "model", "sequential", "odd"]), seed=st.integers(0, 2**32 - 1),
    floor=st.builds(
        Floor, st.booleans(), st.booleans(), st.integers(1, 200), st.integers(1, 1400),
        st.integers(1, 1400), st.frozensets(st.sampled_from(list(Rung))),
    ),
)  # fmt: skip
@settings(max_examples=250, deadline=None)
def test_the_floor_is_never_crossed_and_the_seed_never_changes(
    width: int, height: int, frames: int, chunk: int, tiling: bool, offload: str, seed: int,
    floor: Floor,
) -> None:  # fmt: skip
    asked: dict[str, Value] = {
        "prompt": "a fox", "seed": seed, "width": width, "height": height, "frames": frames,
        "tiling": tiling, "decode_chunk": chunk, "offload": offload,
    }  # fmt: skip
    known = {one.name: one for one in PARAMETERS}
    rungs, values = [row.rung for row in LADDER], dict(asked)
    last = 0
    for step in descend(asked, floor):
        assert step.rung not in floor.never
        assert rungs.index(step.rung) >= last, "never back up"
        last = rungs.index(step.rung)
        before, values = values, step.apply(values)
        assert not NEVER & set(step.changes)
        assert {name: values[name] for name in NEVER & set(values)} == {
            name: asked[name] for name in NEVER & set(asked)
        }
        for name, value in step.changes.items():
            assert value != before[name]
            assert known[name].parse(value) == value
            if name in ("width", "height", "frames", "decode_chunk"):
                assert value < before[name]  # type: ignore[operator]
        if not floor.fewer_frames:
            assert values["frames"] == frames
        elif values["frames"] != frames:
            assert values["frames"] >= floor.least_frames  # type: ignore[operator]
        if not floor.smaller_size:
            assert (values["width"], values["height"]) == (width, height)
        elif values["width"] != width:
            assert values["width"] >= floor.least_width  # type: ignore[operator]
            assert values["height"] >= floor.least_height  # type: ignore[operator]
        assert Step.from_json(json.loads(json.dumps(step.to_json()))) == step


# -- retries ------------------------------------------------------------------------


def decide(category: Category, retried: int = 0, budget: int = 1, **other: object) -> Verdict:
    rules = RetryRules(budget=budget)
    return after_failure("job", problem(category), retried, rules, **other)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("category", "again"),
    [
        (Category.TIMEOUT, True),
        (Category.NETWORK_ERROR, True),
        (Category.WORKER_UNAVAILABLE, True),
        (Category.INSUFFICIENT_VRAM, True),
        (Category.BAD_OUTPUT, True),
        (Category.UNKNOWN, True),
        (Category.INVALID_PARAMS, False),
        (Category.MODEL_NOT_FOUND, False),
        (Category.STORAGE, False),
    ],
)
def test_one_retry_where_it_can_help(category: Category, again: bool) -> None:
    assert decide(category).retry is again
    assert decide(category, retried=1).retry is False
    assert decide(category, budget=0).retry is False
    assert decide(category, pressed=True).retry is False
    assert decide(category, retryable=False).retry is False
    # What is known better may allow more, but never for values that are refused.
    better = category is not Category.INVALID_PARAMS
    assert decide(category, retryable=True).retry is better


def test_waits_grow_within_their_jitter_and_are_the_same_every_time() -> None:
    rules = RetryRules(budget=10)
    for retry in range(1, 11):
        plain = min(300.0, 5.0 * 2 ** (retry - 1))
        waits = [rules.wait_seconds(retry, f"job {number}") for number in range(300)]
        assert waits == [rules.wait_seconds(retry, f"job {number}") for number in range(300)]
        assert min(waits) >= plain * 0.75
        assert max(waits) <= min(300.0, plain * 1.25)
        assert len(set(waits)) > 100
    assert rules.wait_seconds(10**9, "job") <= 300.0


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        (RetryRules(budget=-1), "budget"),
        (RetryRules(budget=21), "budget"),
        (RetryRules(first_seconds=301), "first_seconds"),
        (RetryRules(factor=0.5), "factor"),
        (RetryRules(jitter=1.0), "jitter"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules: RetryRules, field: str) -> None:
    with pytest.raises(ProblemError) as refused:
        rules.check()
    assert refused.value.problem.field == field
    RetryRules().check()


def test_with_one_retry_memory_is_given_back_and_the_first_rung_taken_together() -> None:
    verdict = decide(Category.INSUFFICIENT_VRAM, ladder=Ladder(PARAMS, PARAMETERS))
    assert [step.rung for step in verdict.steps] == [Rung.FREE, Rung.TILED_DECODE]
    assert verdict.apply(PARAMS) == {**PARAMS, "tiling": True}
    assert verdict.words.endswith(
        "with memory given back first, decode in tiles (tiling off → on) (1 of 1)."
    )


def test_with_more_retries_nothing_is_changed_before_it_must_be() -> None:
    params, tried, taken = dict(PARAMS), set(), []
    for retried in range(4):
        ladder = Ladder(params, PARAMETERS, tried)
        verdict = decide(Category.INSUFFICIENT_VRAM, retried, 4, ladder=ladder)
        assert verdict.retry
        taken.append([step.rung for step in verdict.steps])
        params = verdict.apply(params)
        tried |= {step.rung for step in verdict.steps}
    assert taken == [
        [Rung.FREE],
        [Rung.FREE, Rung.TILED_DECODE],
        [Rung.FREE, Rung.SMALLER_CHUNKS],
        [Rung.FREE, Rung.SMALLER_CHUNKS],
    ]
    assert params["seed"] == PARAMS["seed"]


def test_at_the_end_of_the_ladder_it_is_told() -> None:
    ladder = Ladder({"seed": 1}, (), tried={Rung.FREE})
    verdict = decide(Category.INSUFFICIENT_VRAM, ladder=ladder)
    assert not verdict.retry
    assert verdict.words == "Not tried again: nothing is left that may be made lighter."


def test_other_failures_change_nothing_about_the_job() -> None:
    verdict = decide(Category.TIMEOUT, ladder=Ladder(PARAMS, PARAMETERS))
    assert verdict.retry
    assert verdict.apply(PARAMS) == PARAMS


# -- what worked ----------------------------------------------------------------------

TILED = Step(Rung.TILED_DECODE, {"tiling": True}, words="decode in tiles")
HALVED = Step(Rung.SMALLER_CHUNKS, {"decode_chunk": 8}, words="decode in smaller pieces")


def test_the_rung_that_worked_is_offered_for_clips_as_large_on_that_card() -> None:
    worked = Worked()
    worked.ended("RTX", "wan", 1000, [TILED], fitted=True)
    found = worked.offer("RTX", "wan", 1000)
    assert found is not None
    assert (found.steps, found.share) == ((TILED,), 1.0)
    assert worked.offer("RTX", "wan", 999) is None
    assert worked.offer("GTX", "wan", 1000) is None
    assert worked.offer("RTX", "svd", 1000) is None
    again = Worked.from_json(json.loads(json.dumps(worked.to_json())))
    assert again.offer("RTX", "wan", 5000) == found


def test_one_that_fails_more_often_than_not_is_offered_no_more() -> None:
    worked = Worked()
    worked.ended("RTX", "wan", 1000, [TILED], fitted=False)
    assert worked.offer("RTX", "wan", 1000) is None
    worked.ended("RTX", "wan", 1000, [TILED], fitted=True)
    worked.ended("RTX", "wan", 1000, [TILED], fitted=False)
    assert worked.offer("RTX", "wan", 1000) is not None
    worked.ended("RTX", "wan", 1000, [TILED], fitted=False)
    assert worked.offer("RTX", "wan", 1000) is None
    worked.ended("RTX", "wan", 1000, [TILED, HALVED], fitted=True)
    found = worked.offer("RTX", "wan", 1000)
    assert found is not None
    assert found.steps == (TILED, HALVED)


def test_a_clip_that_fits_as_it_is_by_now_ends_the_offer() -> None:
    worked = Worked()
    worked.ended("RTX", "wan", 1000, [TILED], fitted=True)
    worked.ended("RTX", "wan", 500, [], fitted=True)
    assert worked.offer("RTX", "wan", 1000) is not None
    worked.ended("RTX", "wan", 800, [], fitted=False)
    assert worked.offer("RTX", "wan", 800) is not None
    worked.ended("RTX", "wan", 1000, [], fitted=True)
    assert worked.offer("RTX", "wan", 1000) is None


def test_it_forgets_what_was_used_longest_ago() -> None:
    worked = Worked()
    for number in range(MOST_KEPT + 10):
        worked.ended("RTX", f"recipe {number}", 10, [TILED], fitted=True)
        worked.ended("RTX", "recipe 0", 10, [TILED], fitted=True)
    assert len(worked.to_json()) == MOST_KEPT
    assert worked.offer("RTX", "recipe 0", 10) is not None
    assert worked.offer("RTX", "recipe 1", 10) is None


@pytest.mark.parametrize(
    "data",
    [
        None, {}, 3, [1], [{}], [{"gpu": "a"}],
        [{"gpu": "a", "recipe": "b", "least_pixel_frames": -1, "worked": 1, "failed": 0,
          "steps": [TILED.to_json()]}],
        [{"gpu": "a", "recipe": "b", "least_pixel_frames": 1, "worked": 1, "failed": 0,
          "steps": [{**TILED.to_json(), "changes": {"seed": 1}}]}],
        [{"gpu": "a", "recipe": "b", "least_pixel_frames": 1, "worked": 1, "failed": 0,
          "steps": [{**TILED.to_json(), "changes": {"tiling": ["on"]}}]}],
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_left_out(data: object) -> None:
    assert Worked.from_json(data).to_json() == []

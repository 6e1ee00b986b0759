"""What the record of a job tells of its rungs, and what may still be changed."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Category, Problem
from core.jobs import Kind, Parameter, Value
from core.morning.marks import Mark, note_of
from core.scheduling.ladder import NEVER, Floor, Rung, Step, next_rung, read_words
from core.scheduling.record import complete, floor_for, record_of, usable, ways
from core.scheduling.retries import Ladder, RetryRules, after_failure

WHOLE = Kind.INTEGER
PARAMETERS = (
    Parameter("prompt", Kind.TEXT, "Prompt", "", required=True),
    Parameter("seed", Kind.SEED, "Seed", None, 0, 2**32 - 1),
    Parameter("width", WHOLE, "Width", 512, 64, 2048, 8),
    Parameter("height", WHOLE, "Height", 512, 64, 2048, 8),
    Parameter("frames", WHOLE, "Frames", 16, 8, 128),
    Parameter("decode_chunk", WHOLE, "Chunk", 1, 1, 32),
    Parameter("offload", Kind.CHOICE, "Offload", "none", choices=("none", "model", "sequential"),
              titles=("Off", "By parts", "By layers")),
    Parameter("tiling", Kind.SWITCH, "Tiles", False),
)  # fmt: skip
ASKED: dict[str, Value] = {
    "prompt": "a fox", "seed": 7, "width": 512, "height": 512, "frames": 32, "decode_chunk": 4,
    "offload": "none", "tiling": False,
}  # fmt: skip


def noted(*words: str) -> list[str]:
    return [note_of(Mark.RUNG, one) for one in words]


def test_every_rung_is_read_back_from_its_words() -> None:
    floor = Floor(True, True, 8, 64, 64)
    values, tried, count = dict(ASKED), set(), 0
    while (step := next_rung(values, PARAMETERS, tried, floor)) is not None:
        found = read_words(step.words, PARAMETERS)
        assert found is not None
        assert (found.step.rung, dict(found.step.changes)) == (step.rung, dict(step.changes))
        assert dict(found.before) == {name: values[name] for name in step.changes}
        values, tried, count = step.apply(values), tried | {step.rung}, count + 1
    assert count > 10
    for words in ("", "decode in smaller tiles of 128 px", "decode on the processor", "frames"):
        assert read_words(words, PARAMETERS) is None
    odd = read_words("decode in tiles (seed 1 → 2, tiling off → on, none 3 → 4)", PARAMETERS)
    assert odd is not None
    assert dict(odd.step.changes) == {"tiling": True}
    bad = read_words("fewer frames (frames 32 → 4000)", PARAMETERS)
    assert bad is not None
    assert (dict(bad.step.changes), dict(bad.before)) == ({}, {})


def test_what_a_run_changed_by_itself_counts_and_what_was_undone_does_not() -> None:
    inside = noted(
        "memory given back first", "decode in smaller pieces (decode_chunk 4 → 2)",
        "decode in tiles (tiling off → on)",
    )  # fmt: skip
    found = record_of(ASKED, PARAMETERS, [["plain words", *inside]])
    assert found.asked == ASKED
    assert found.values == {**ASKED, "decode_chunk": 2, "tiling": True}
    assert [step.rung for step in found.steps] == [Rung.SMALLER_CHUNKS, Rung.TILED_DECODE]
    assert found.tried == {Rung.FREE, Rung.SMALLER_CHUNKS, Rung.TILED_DECODE}
    # The next attempt ran as a person set it back.
    later = record_of({**ASKED, "decode_chunk": 2}, PARAMETERS, [inside, []])
    assert [step.rung for step in later.steps] == [Rung.SMALLER_CHUNKS]
    assert later.asked == ASKED
    assert later.tried == found.tried
    # A job of before there were such parameters.
    old = {name: ASKED[name] for name in ("prompt", "seed", "width", "height", "frames")}
    assert record_of(old, PARAMETERS, []).values == complete(old, PARAMETERS)
    assert complete(old, PARAMETERS)["offload"] == "none"


OUT = Problem(Category.INSUFFICIENT_VRAM, "CUDA out of memory.", "Make it smaller.")


@given(
    width=st.integers(8, 128).map(lambda n: n * 8), height=st.integers(8, 128).map(lambda n: n * 8),
    frames=st.integers(8, 128), chunk=st.integers(1, 32), seed=st.integers(0, 2**32 - 1),
    may=st.tuples(st.booleans(), st.booleans()), budget=st.integers(1, 20),
    inside=st.lists(st.integers(0, 3), max_size=20), card=st.booleans(),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_through_any_number_of_retries_the_floor_holds_and_the_clip_stays_the_one_asked_for(
    width: int, height: int, frames: int, chunk: int, seed: int, may: tuple[bool, bool],
    budget: int, inside: list[int], card: bool,
) -> None:  # fmt: skip
    """As the window does it: everything but the values is read from the record each time."""
    asked = {**ASKED, "width": width, "height": height, "frames": frames,
             "decode_chunk": chunk, "seed": seed}  # fmt: skip
    params: dict[str, Value] = dict(asked)
    notes: list[list[str]] = []
    never = () if card else (Rung.MORE_OFFLOAD,)
    free_alone = 0
    for attempt in range(budget + 1):
        notes.append(_run_inside(params, inside[attempt : attempt + 1]))
        found = record_of(params, PARAMETERS, notes)
        assert {name: found.asked[name] for name in asked} == asked
        floor = floor_for(found.asked, may_shorten=may[0], may_shrink=may[1], never=never)
        ladder = Ladder(found.values, PARAMETERS, found.tried, floor)
        verdict = after_failure("job", OUT, attempt, RetryRules(budget=budget), ladder=ladder)
        if not verdict.retry:
            break
        before = dict(found.values)
        params = verdict.apply(found.values)
        free_alone += params == before
        assert free_alone <= 1, "the same job again, once at most"
        notes[-1] += noted(*(step.words for step in verdict.steps))
        for name in NEVER & set(asked):
            assert params[name] == asked[name]
        assert params["frames"] == frames or (may[0] and params["frames"] >= frames / 2)  # type: ignore[operator]
        for name, whole in (("width", width), ("height", height)):
            assert params[name] == whole or (may[1] and params[name] >= whole / 2)  # type: ignore[operator]
        assert card or params["offload"] == "none"
        known = {one.name: one for one in PARAMETERS}
        assert all(known[name].parse(value) == value for name, value in params.items())
    assert attempt <= budget


def _run_inside(params: Mapping[str, Value], kinds: list[int]) -> list[str]:
    """What a decode changed by itself before the run failed all the same."""
    told = []
    for kind in kinds:
        chunk = params["decode_chunk"]
        if kind and isinstance(chunk, int) and chunk > 1:
            told.append(f"decode in smaller pieces (decode_chunk {chunk} → {chunk // 2})")
        if kind > 1 and params["tiling"] is False:
            told.append("decode in tiles (tiling off → on)")
        if kind > 2:
            told += ["decode in smaller tiles of 128 px", "decode on the processor"]
    return noted(*told)


def test_what_helped_another_job_is_used_where_it_makes_this_one_lighter() -> None:
    steps = [
        Step(Rung.TILED_DECODE, {"tiling": True}, words="decode in tiles (tiling off → on)"),
        Step(Rung.SMALLER_CHUNKS, {"decode_chunk": 2}, words="decode in smaller pieces"),
        Step(Rung.MORE_OFFLOAD, {"offload": "model"}, words="keep more of the model off the card"),
        Step(Rung.FEWER_FRAMES, {"frames": 24}, words="fewer frames"),
        Step(Rung.SMALLER_SIZE, {"width": 408, "height": 408}, words="a smaller size"),
    ]
    strict = floor_for(ASKED, may_shorten=False, may_shrink=False)
    kind = floor_for(ASKED, may_shorten=True, may_shrink=True)
    assert usable(steps, ASKED, PARAMETERS, strict) == tuple(steps[:3])
    assert usable(steps, ASKED, PARAMETERS, kind) == tuple(steps)
    already = {**ASKED, "tiling": True, "decode_chunk": 1, "offload": "model"}
    assert usable(steps, already, PARAMETERS, strict) == ()
    # Half of what is asked for here is more than what the other job was cut to.
    large = {**ASKED, "frames": 128, "width": 1024, "height": 1024}
    floor = floor_for(large, may_shorten=True, may_shrink=True)
    assert usable(steps, large, PARAMETERS, floor) == tuple(steps[:3])


def test_ways_get_ever_lighter_with_what_helped_first() -> None:
    helped = Step(Rung.SMALLER_CHUNKS, {"decode_chunk": 1}, words="decode in smaller pieces")
    floor = floor_for(ASKED, may_shorten=True, may_shrink=False)
    found = ways(ASKED, PARAMETERS, floor, [helped])
    assert found[0] == (helped,)
    assert [steps[-1].rung for steps in found] == [
        Rung.SMALLER_CHUNKS, Rung.TILED_DECODE, Rung.MORE_OFFLOAD, Rung.MORE_OFFLOAD,
        Rung.FEWER_FRAMES, Rung.FEWER_FRAMES, Rung.FEWER_FRAMES,
    ]  # fmt: skip
    assert [len(steps) for steps in found] == list(range(1, len(found) + 1))
    assert found[-1][-1].changes == {"frames": 16}
    assert ways({"prompt": "a"}, PARAMETERS[:1], floor) == []


def test_a_workflows_own_knobs_are_turned_within_their_steps() -> None:
    """Named as the form of a graph names them; what it lacks, a server's decode does itself."""
    knobs = (
        Parameter("tile_size", WHOLE, "Tile size", 512, 64, 4096, 32),
        Parameter("frames", WHOLE, "Frames", 81, 1, 1000, 4, offset=1),
        Parameter("width", WHOLE, "Width", 832, 16, 2048, 16),
        Parameter("height", WHOLE, "Height", 480, 16, 2048, 16),
    )
    asked = {one.name: one.default for one in knobs if one.default is not None}
    floor = floor_for(asked, may_shorten=True, may_shrink=False)
    told = [dict(steps[-1].changes) for steps in ways(asked, knobs, floor)]
    assert told == [
        {"tile_size": 256}, {"tile_size": 128}, {"tile_size": 64},
        {"frames": 61}, {"frames": 45}, {"frames": 41},
    ]  # fmt: skip

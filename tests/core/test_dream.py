"""The arithmetic of dreams: ways between latents, keyframes in time, and how to decode."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from core.engines.local.dream import easing, pace, plan, script
from core.engines.local.dream.slerp import slerp
from core.errors import ProblemError

TYPES = ("float16", "bfloat16", "float32")
ROUNDING = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 1e-5}
PLACES = some.lists(some.floats(0, 1), min_size=1, max_size=12)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def latents(seed: int, kind: str, scale: float = 1.0, shape: tuple[int, ...] = (1, 4, 6, 5)):
    import torch

    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale
    return made.to(getattr(torch, kind))


ends = some.tuples(
    some.integers(0, 2**31), some.integers(0, 2**31), some.sampled_from(TYPES),
    some.floats(0.01, 30), some.floats(0.01, 30),
)  # fmt: skip


QUICK = settings(max_examples=40, deadline=None)


# ---- spherical interpolation


@QUICK
@given(ends, PLACES)
def test_its_ends_are_exact_and_its_length_lies_between(given_: tuple, places: list[float]) -> None:
    import torch

    one, other, kind, scale, other_scale = given_
    first, last = latents(one, kind, scale), latents(other, kind, other_scale)
    found = slerp(first, last, [0.0, *places, 1.0])
    assert (found.dtype, found.shape) == (first.dtype, (len(places) + 2, *first.shape))
    assert torch.equal(found[0], first)
    assert torch.equal(found[-1], last)
    norms = found.float().flatten(1).norm(dim=1)
    straight = torch.lerp(norms[0], norms[-1], torch.tensor([0.0, *places, 1.0]))
    assert torch.allclose(norms, straight, rtol=ROUNDING[kind])


@QUICK
@given(ends, PLACES)
def test_the_way_back_is_the_same_way(given_: tuple, places: list[float]) -> None:
    import torch

    one, other, kind, scale, other_scale = given_
    first, last = latents(one, kind, scale), latents(other, kind, other_scale)
    there = slerp(first, last, places).float()
    back = slerp(last, first, [1 - place for place in places]).float()
    assert (there - back).abs().max() <= 8 * ROUNDING[kind] * max(scale, other_scale)
    assert bool(torch.isfinite(there).all())


@QUICK
@given(some.integers(0, 2**31), some.sampled_from(TYPES), some.floats(0.01, 30), PLACES)
def test_opposite_ones_are_joined_by_a_half_circle(
    seed: int, kind: str, scale: float, places: list[float]
) -> None:
    import torch

    first = latents(seed, kind, scale)
    found = slerp(first, -first, places).float()
    norms = found.flatten(1).norm(dim=1)
    assert torch.allclose(norms, first.float().norm().expand(len(places)), rtol=ROUNDING[kind])
    back = slerp(-first, first, [1 - place for place in places]).float()
    assert (found - back).abs().max() <= 8 * ROUNDING[kind] * scale
    # No value stands out: half way it is noise like its ends.
    middle = slerp(first, -first, [0.5]).float()
    assert middle.abs().max() < 6 * scale


@QUICK
@given(some.integers(0, 2**31), some.sampled_from(TYPES), some.floats(0, 1e-5), PLACES)
def test_near_parallel_ones_are_joined_by_a_line(
    seed: int, kind: str, apart: float, places: list[float]
) -> None:
    import torch

    first = latents(seed, kind)
    last = (first.float() * 2 + apart * latents(seed + 1, "float32")).to(first.dtype)
    found = slerp(first, last, places).float()
    along = torch.tensor(places).view(-1, 1, 1, 1, 1)
    assert torch.allclose(
        found, torch.lerp(first.float(), last.float(), along), atol=8 * ROUNDING[kind]
    )
    norms = [float(one.norm()) for one in slerp(first, last, sorted(places)).float()]
    assert all(second >= one * (1 - ROUNDING[kind]) for one, second in pairwise(norms))


@QUICK
@given(some.sampled_from(TYPES), some.sampled_from([0.0, 1e-30, 1e-6, 1e4, 6e4]), PLACES)
def test_nothing_and_very_much_give_numbers(kind: str, size: float, places: list[float]) -> None:
    import torch

    shape = (1, 4, 6, 5)
    dtype = getattr(torch, kind)
    flat = torch.full(shape, size).to(dtype)
    for last in (torch.zeros(shape, dtype=dtype), flat, -flat, flat.flip(0)):
        for found in (slerp(flat, last, places), slerp(last, flat, places)):
            assert bool(torch.isfinite(found).all())
            assert found.abs().max() <= max(size, 0.0) * 10 + 1e-6 or kind == "float16"


def test_words_turn_one_by_one_and_samples_each_by_itself() -> None:
    import torch

    first, last = latents(1, "float32", shape=(1, 7, 8)), latents(2, "float32", shape=(1, 7, 8))
    last[0, 0] = first[0, 0]  # The first word of every prompt is the same.
    found = slerp(first, last, [0.3], axes=1)[0]
    assert torch.allclose(found[0, 0], first[0, 0])
    for word in range(7):
        alone = slerp(first[:, word], last[:, word], [0.3])[0]
        assert torch.allclose(found[:, word], alone, atol=1e-6)
    both = slerp(torch.cat([first, last]), torch.cat([last, first * 3]), [0.25])[0]
    assert torch.allclose(both[0], slerp(first, last, [0.25])[0, 0], atol=1e-6)
    assert torch.allclose(both[1], slerp(last, first * 3, [0.25])[0, 0], atol=1e-6)


def test_it_is_the_known_formula() -> None:
    first, last = latents(1, "float32"), latents(2, "float32")
    last *= first.norm() / last.norm()
    angle = math.acos(float((first * last).sum() / first.norm() / last.norm()))
    for at in (0.1, 0.5, 0.77):
        known = math.sin((1 - at) * angle) * first + math.sin(at * angle) * last
        assert (slerp(first, last, [at])[0] - known / math.sin(angle)).abs().max() < 1e-5


def test_what_does_not_fit_is_refused() -> None:
    first = latents(1, "float32")
    for last, at in ((first[..., :1], [0.5]), (first.half(), [0.5]), (first, [1.01])):
        with pytest.raises(ValueError):
            slerp(first, last, at)


# ---- the way in time


@given(some.sampled_from(easing.NAMES), PLACES)
def test_every_easing_leads_from_one_to_the_other(name: str, places: list[float]) -> None:
    assert (easing.eased(name, 0.0), easing.eased(name, 1.0)) == (0.0, 1.0)
    went = [easing.eased(name, place) for place in sorted(places)]
    assert all(0 <= one <= two <= 1 for one, two in pairwise([0.0, *went, 1.0]))


def test_easings_differ_as_they_are_called() -> None:
    early = {name: easing.eased(name, 0.2) for name in easing.NAMES}
    assert early["linear"] == 0.2
    assert early["ease-in"] < early["cosine"] < early["smooth"] < 0.2 < early["ease-out"]
    for name in ("linear", "smooth", "cosine"):
        assert easing.eased(name, 0.3) + easing.eased(name, 0.7) == pytest.approx(1)
    with pytest.raises(KeyError):
        easing.eased("bounce", 0.5)
    with pytest.raises(ValueError):
        easing.eased("linear", 1.1)


def dream(*scenes: str, **more: object) -> plan.Plan:
    values = {
        "prompt": "\n".join(scenes), "seed": 5, "loop": "round", "keyframe_seconds": 4.0,
        "fps": 10, "easing": "smooth", **more,
    }  # fmt: skip
    return plan.plan_of(values)  # type: ignore[arg-type]


@given(some.floats(0.1, 600), some.integers(4, 60), some.integers(1, 4000))
@settings(max_examples=50)
def test_no_error_adds_up_over_hours(seconds: float, fps: int, index: int) -> None:
    made = dream("a", "b", keyframe_seconds=seconds, fps=fps)
    assert made.frame_of(index) == pytest.approx(
        max(index, float(Fraction(seconds) * fps * index)), abs=0.501
    )
    assert made.frame_of(index + 1) > made.frame_of(index)


def test_a_beat_decides_where_there_is_one() -> None:
    made = dream("a", "b", bpm=120, beats=4, keyframe_seconds=9)
    assert [made.frame_of(index) for index in range(4)] == [0, 20, 40, 60]
    uneven = dream("a", bpm=97, beats=1, fps=30)
    beats = [uneven.frame_of(index) / 30 - index * 60 / 97 for index in range(5000)]
    assert max(map(abs, beats)) <= 1 / 60 + 1e-9


def test_loops_come_back_go_on_or_end() -> None:
    def pictures(made: plan.Plan) -> list[tuple[str, int]]:
        return [(one.prompt, one.seed) for one in islice(made, 7)]

    again = [("a", 5), ("b", 6), ("c", 7)]
    assert pictures(dream("a", "b", "c")) == [*again, *again, again[0]]
    onward = pictures(dream("a", "b", "c", loop="onward"))
    assert [prompt for prompt, _ in onward] == ["a", "b", "c"] * 2 + ["a"]
    assert len({seed for _, seed in onward}) == 7
    once = dream("a", "b", "c", loop="once")
    assert pictures(once) == again
    assert once.frames == 81
    assert dream("a", "b").frames is None
    assert dream("a", "b", minutes=0.5).frames == 300
    assert dream("a", "b", loop="once", minutes=0.5).frames == 41


def test_one_prompt_never_stands_still() -> None:
    for loop in plan.LOOPS:
        seeds = [one.seed for one in islice(dream("a", loop=loop), 4)]
        assert all(one != two for one, two in pairwise(seeds)), loop
    assert dream("a", loop="once").frames == 41


def test_anchors_stand_at_keyframes_and_between() -> None:
    made = dream("a", "b", loop="once", easing="linear")
    plain = list(plan.anchors(made))
    assert [(one.frame, one.place) for one in plain] == [(0, 0.0), (40, 0.0)]
    dense = list(plan.anchors(made, 15))
    assert [(one.frame, one.place) for one in dense] == [
        (0, 0.0), (15, 0.375), (30, 0.75), (40, 0.0)
    ]  # fmt: skip
    looped = list(islice(plan.anchors(dream("a", "b"), 15), 13))
    keys = [one.key for one in looped]
    assert keys[:6] == keys[6:12]
    assert len(set(keys[:6])) == 6


# ---- what is told


@pytest.mark.parametrize(
    ("text", "scenes"),
    [
        ("a ball\na star", ("a ball", "a star")),
        ("a ball", ("a ball",)),
        ("  a   ball \r\n a star  \n", ("a ball", "a star")),
        ("A town\nby night.\n\nA wood.\n \nSea.", ("A town by night.", "A wood.", "Sea.")),
        ("Scene 1: a town\nat night\nScene 2: a forest", ("a town at night", "a forest")),
        ("Title\n\n## Scene 1\nA town.\n\nIt rains.\n\n**Scene 2 —** a forest",
         ("A town. It rains.", "a forest")),
        ("the scene 1: is inside\nno heading", ("the scene 1: is inside", "no heading")),
    ],
)  # fmt: skip
def test_scenes_are_found_in_lists_and_stories(text: str, scenes: tuple[str, ...]) -> None:
    assert script.scenes_of(text) == scenes


def test_the_form_can_be_said() -> None:
    text = "a\n\nb\nc"
    assert script.scenes_of(text, script.LINES) == ("a", "b", "c")
    assert script.scenes_of(text, script.STORY) == ("a", "b c")
    assert script.scenes_of("Scene 1: a\nb", script.LINES) == ("Scene 1: a", "b")


@pytest.mark.parametrize("text", ["", " \n\n ", "Scene 1:\nScene 2:", "\n".join(["a"] * 1001)])
def test_no_scenes_or_far_too_many_are_refused(text: str) -> None:
    with pytest.raises(ProblemError) as caught:
        script.scenes_of(text)
    assert caught.value.problem.field == "prompt"


@given(some.text(max_size=300))
def test_any_text_gives_lines_or_a_clear_error(text: str) -> None:
    for form in script.FORMS:
        try:
            found = script.scenes_of(text, form)
        except ProblemError as error:
            assert error.problem.hint
        else:
            assert all(scene == " ".join(scene.split()) != "" for scene in found)


# ---- how to decode


def settle(costs: dict[int, float], **more: object) -> tuple[pace.Batches, int]:
    """Let batches be found where one of so many frames takes so long; return frames used."""
    batches, frames = pace.Batches(**more), 0  # type: ignore[arg-type]
    while not batches.done:
        count = batches.next()
        batches.told(count, costs[count])
        frames += count
    return batches, frames


def test_the_batch_is_the_one_that_was_fastest() -> None:
    on_a_card = {1: 0.010, 2: 0.012, 4: 0.018, 10: 0.040}
    assert settle(on_a_card)[0].best == 10
    on_a_processor = {1: 0.09, 2: 0.20, 4: 0.41, 10: 1.1}
    batches, frames = settle(on_a_processor)
    assert batches.best == 1
    assert frames == 4 * 1 + 4 * 2, "ten at once are not tried where two are slower"
    assert settle({1: 0.05, 2: 0.08, 4: 0.18, 10: 0.9})[0].best == 2


def test_no_batch_holds_up_a_cancel() -> None:
    batches, _ = settle({1: 0.3, 2: 0.31, 4: 0.32, 10: 0.33})
    assert batches.best <= 2
    assert settle({1: 3.0, 2: 3.1, 4: 3.2, 10: 3.3})[0].best == 1


def test_a_first_slow_one_and_other_counts_do_not_count() -> None:
    batches = pace.Batches()
    batches.told(1, 99.0)
    batches.told(7, 0.0)
    for _ in range(3):
        batches.told(1, 0.01)
    assert (batches.next(), batches.milliseconds) == (2, {"1": 10.0})
    batches.stop(1)
    assert (batches.next(), batches.done) == (1, True)


def test_the_fastest_numbers_are_found_by_turns() -> None:
    now, order = [0.0], list[str]()
    costs = {"full": 3.0, "half": 1.0, "same": 2.99}

    def way(name: str) -> None:
        order.append(name)
        # What runs first is slow, whatever it is.
        now[0] += costs[name] + (50.0 if len(order) <= 3 else 0.0)

    heard: list[int] = []
    found = pace.fastest(
        {name: (lambda name=name: way(name)) for name in costs},
        lambda: heard.append(1),
        clock=lambda: now[0],
    )
    assert found == ("half", {"full": 3000.0, "half": 1000.0, "same": 2990.0})
    assert order == ["full", "half", "same"] * 4
    assert len(heard) == 12
    costs["half"] = 2.95
    assert pace.fastest(
        {name: (lambda name=name: way(name)) for name in costs}, lambda: None, clock=lambda: now[0]
    )[0] == "full", "as good as the same is not worth other pixels"  # fmt: skip


@given(some.integers(1, 256), some.floats(1e-5, 100), some.floats(0.01, 10), some.integers(1, 40))
def test_what_is_measured_keeps_to_its_time_where_it_can(
    side: int, seconds: float, budget: float, decodes: int
) -> None:
    found = pace.crop(side, seconds, budget, decodes)
    least = min(4, side)
    assert least <= found <= side
    assert found == least or decodes * seconds * (found / least) ** 2 <= budget * 1.001


def test_a_slow_dream_gets_smaller_pictures_or_is_told_why_not() -> None:
    keep = pace.KeepUp(10, 4)
    assert keep.told(10, 5.0, 4.5) == "divisor"
    assert keep.told(20, 5.0, 4.5) == "divisor"
    assert (keep.told(20, 5.0, 4.5), keep.divisor) == ("", 4)
    assert pace.KeepUp(10, 4).told(20, 5.0, 1.0) == "sampling"
    assert pace.KeepUp(10, 4).told(20, 1.9, 1.9) == ""
    assert pace.KeepUp(10, 1).told(20, 9.0, 8.9) == ""
    few = pace.KeepUp(10, 4)
    assert [few.told(1, 1.0, 0.9) for _ in range(5)] == ["", "", "", "", "divisor"]

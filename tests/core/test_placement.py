"""The planner: which plan is tried first, what each is thought to take, and what replaces that."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.engines.local import offload, parts, planner
from core.engines.local.peaks import FILE, Peaks
from core.engines.local.placement import (
    NOTE,
    OFFLOADS,
    Card,
    Clip,
    Figures,
    Measured,
    Part,
    Plan,
    Wishes,
    clip_of,
    read_note,
    wishes_of,
)
from core.statistics import formula

GB = 2**30
FORMULA = formula.load()
WAN = FORMULA.families["wan-t2v-14b"]


def figures(denoiser: float = 14.29e9, encoder: float = 5.68e9, **more: object) -> Figures:
    """WAN 14B's sizes: forty blocks, a text encoder with a table of a thousand million."""
    parts = (
        Part("transformer", int(denoiser), int(denoiser / 400), int(denoiser / 40), 10_000_000),
        Part("text_encoder", int(encoder), int(encoder / 5.4), int(encoder / 25), int(encoder / 5)),
        Part("vae", 130_000_000, 10_000_000, 130_000_000),
    )
    return Figures(parts, WAN, full_decoder=True, **more)  # type: ignore[arg-type]


LONG = Clip(832, 480, 81)


def chosen(free_gb: float, wishes: Wishes | None = None, **card: float) -> Plan:
    return planner.choose(
        figures(),
        LONG,
        Card(free_gb * GB, **card),
        wishes or Wishes(),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("free_gb", "offload", "tiled", "storage"),
    [(140, "none", False, ""), (40, "model", False, ""), (16, "group", False, ""),
     (8.5, "group", True, "")],
)  # fmt: skip
def test_the_fastest_plan_that_fits_is_taken(
    free_gb: float, offload: str, tiled: bool, storage: str
) -> None:
    plan = chosen(free_gb)
    assert (plan.offload, plan.tiled, plan.storage, plan.fits) == (offload, tiled, storage, True)


def test_frames_that_are_decoded_together_take_as_much_together() -> None:
    shape = formula.load().families["svd"]
    svd = Figures((Part("unet", 1000, 10, 100), Part("vae", 1000, 10, 100)), shape)
    wanted = {"width": 1024, "height": 576, "frames": 25}
    one, eight = (clip_of({**wanted, "decode_chunk": count}) for count in (1, 8))
    assert (one.together, eight.together, clip_of(wanted).together) == (1, 8, 1)
    assert clip_of({**wanted, "frames": 3, "decode_chunk": 8}).together == 3
    shown = 1024 * 576
    taken = [planner.stages(Plan("fp16"), svd, clip).decode_work for clip in (one, eight)]
    assert taken[1] - taken[0] == pytest.approx(7 * shown * shape.decode_bytes_per_pixel)


def test_what_changes_pixels_comes_after_what_does_not() -> None:
    order = [
        (plan.storage, plan.tiled, plan.offload)
        for plan in planner.plans(figures(), LONG, Card(1 * GB), Wishes())
    ]
    assert order[:4] == [("", False, one) for one in OFFLOADS]
    assert order[4:8] == [("", True, one) for one in OFFLOADS]
    assert order[8:12] == [("fp8", False, one) for one in OFFLOADS]
    assert len(order) == len(set(order)) == 16


def test_where_nothing_fits_the_smallest_is_tried_and_it_says_so() -> None:
    plan = chosen(0.5)
    assert not plan.fits
    every = list(planner.plans(figures(), LONG, Card(0.5 * GB), Wishes()))
    assert plan.peak_bytes == min(one.peak_bytes for one in every)


def test_the_words_are_short_and_say_a_guess_is_one() -> None:
    plan = Plan("bf16", "", "off", "group", True, 5e9, 9.8 * GB)
    assert plan.words() == "bf16, group offload, tiled decode: peak 9.8 GB (a guess)"
    assert replace(plan, measured=True).words() == (
        "bf16, group offload, tiled decode: peak 9.8 GB"
    )
    assert Plan("fp32", "fp8").words() == "fp32, fp8 weights"
    assert Plan("bf16", "", "gguf", "none", False, 1.0, GB).words() == (
        "bf16, GGUF, all on the card: peak 1.0 GB (a guess)"
    )


@given(
    offload=st.sampled_from(OFFLOADS), tiled=st.booleans(), storage=st.sampled_from(["", "fp8"]),
    measured=st.booleans(), fits=st.booleans(),
)  # fmt: skip
def test_the_note_of_a_run_tells_its_knobs(
    offload: str, tiled: bool, storage: str, measured: bool, fits: bool
) -> None:
    plan = Plan("bf16", storage, "off", offload, tiled, 1.0, 7.0 * GB, measured, fits)
    found = read_note(f"{NOTE}{plan.words()}{'' if fits else ', more than is free'}")
    assert found is not None
    assert found == plan.options()
    assert read_note("Something else: bf16") is None


def test_an_old_job_is_placed_as_it_asks_and_never_changes_its_pixels() -> None:
    for old in ({}, {"offload": "none", "tiling": False, "decode_chunk": 1}):
        wishes = wishes_of(old)
        plan = planner.choose(figures(), LONG, Card(4 * GB), wishes)
        assert (plan.offload, plan.tiled, plan.storage) == ("none", False, "")
        assert not plan.fits
        assert planner.heavier(plan, figures(), LONG, Card(4 * GB), wishes) is None
    for waits in ("model", "sequential"):
        plan = planner.choose(figures(), LONG, Card(4 * GB), wishes_of({"offload": waits}))
        assert plan.offload == waits


def test_what_a_person_chose_is_kept() -> None:
    for waits in OFFLOADS:
        for precision in ("bf16", "fp16", "fp32", "fp8"):
            for tiling in (False, True):
                wishes = Wishes(waits, tiling, precision)
                plan = planner.choose(figures(), LONG, Card(1 * GB), wishes)
                assert (plan.offload, plan.tiled) == (waits, tiling)
                assert (plan.storage or plan.dtype) == precision
    plan = chosen(8.5, Wishes(tiling=True))
    assert plan.tiled
    assert chosen(140, Wishes(tiling=True)).tiled


def test_types_follow_the_card_and_the_family() -> None:
    assert chosen(140).dtype == "bf16"
    assert chosen(140, bf16=False).dtype == "fp16"
    plain = planner.choose(figures(other_half="fp32"), LONG, Card(140 * GB, bf16=False), Wishes())
    assert plain.dtype == "fp32"
    assert planner.without_card(figures(), Wishes()) == Plan("fp32")
    assert planner.without_card(figures(), Wishes(precision="fp8")) == Plan("fp32", "fp8")
    assert planner.without_card(figures(), Wishes("group", True)) == Plan("fp32", tiled=True)
    no_eight = [one.storage for one in planner.plans(
        figures(), LONG, Card(1 * GB, fp8=False), Wishes())]  # fmt: skip
    assert set(no_eight) == {""}


def test_the_reserve_is_left_free() -> None:
    plan = chosen(64)
    assert plan.offload == "none"
    assert plan.peak_bytes is not None
    kept = (64 - plan.peak_bytes / GB) * GB
    assert chosen(64, reserve_bytes=kept).offload == "model"


def test_memory_that_ran_out_leads_down_offload_by_offload() -> None:
    card, wishes, taken = Card(140 * GB), Wishes(), []
    plan: Plan | None = planner.choose(figures(), LONG, card, wishes)
    while plan is not None:
        taken.append((plan.offload, plan.storage))
        plan = planner.heavier(plan, figures(), LONG, card, wishes)
    assert taken == [*((one, "") for one in OFFLOADS), ("sequential", "fp8")]
    kept = Wishes("group", precision="auto")
    plan = planner.choose(figures(), LONG, card, kept)
    below = planner.heavier(plan, figures(), LONG, card, kept)
    assert below is not None
    assert (below.offload, below.storage) == ("group", "fp8"), "the offload is the person's"


sizes = st.builds(
    Clip, st.integers(64, 2048), st.integers(64, 2048), st.integers(1, 241), st.booleans()
)
wishes = st.builds(
    Wishes, st.sampled_from(["auto", *OFFLOADS]), st.booleans(),
    st.sampled_from(["auto", "", "bf16", "fp16", "fp32", "fp8"]),
    st.sampled_from(["off", "gguf"]),
)  # fmt: skip
measures = st.lists(
    st.builds(
        Measured, st.sampled_from(["bf16//off/none", "bf16//off/group", "bf16/fp8/off/model"]),
        st.booleans(), sizes, st.integers(1, 10**11), st.integers(1, 10**11),
    ).filter(lambda one: one.sample_bytes <= one.peak_bytes),
    max_size=4,
)  # fmt: skip


@given(clip=sizes, wish=wishes, free=st.floats(0, 2e11), reserve=st.floats(0, 1e11),
       measured=measures)  # fmt: skip
def test_a_plan_is_always_found_and_no_plan_before_it_fits(
    clip: Clip, wish: Wishes, free: float, reserve: float, measured: list[Measured]
) -> None:
    card = Card(free, reserve)
    plan = planner.choose(figures(), clip, card, wish, measured)
    every = list(planner.plans(figures(), clip, card, wish, measured))
    assert plan in every
    assert plan.peak_bytes is not None
    assert plan.sample_bytes is not None
    assert 0 <= plan.sample_bytes <= plan.peak_bytes
    assert plan.fits == (plan.peak_bytes <= card.room_bytes)
    before = every[: every.index(plan)] if plan.fits else every
    assert not any(one.fits for one in before)
    if wish.offload != "auto":
        assert plan.offload == wish.offload
    if wish.tiling:
        assert plan.tiled
    below = planner.heavier(plan, figures(), clip, card, wish, measured)
    if below is not None:
        assert below.sample_bytes is not None
        assert below.sample_bytes < plan.sample_bytes
        assert every.index(below) > every.index(plan)


@given(clip=sizes, tiled=st.booleans(), more=st.integers(0, 100))
def test_less_on_the_card_and_a_smaller_clip_never_take_more(
    clip: Clip, tiled: bool, more: int
) -> None:
    card = Card(0)

    def peak(offload: str, one: Clip, storage: str = "", tiles: bool = tiled) -> float:
        plan = Plan("bf16", storage, "off", offload, tiles)
        found = planner.forecast(plan, figures(), one, card).peak_bytes
        assert found is not None
        return found

    peaks = [peak(one, clip) for one in OFFLOADS]
    assert peaks == sorted(peaks, reverse=True)
    assert peak("none", clip, "fp8") <= peak("none", clip)
    assert peak("none", clip, tiles=True) <= peak("none", clip, tiles=False)
    larger = replace(clip, frames=clip.frames + more)
    assert peak("model", larger) >= peak("model", clip)


# ---- what was measured


def measured(key: str, clip: Clip, sample: float, peak: float, tiled: bool = False) -> Measured:
    return Measured(key, tiled, clip, int(sample * GB), int(peak * GB))


def test_a_measured_peak_replaces_the_formula_for_its_plan_and_size() -> None:
    card = Card(140 * GB)
    guess = planner.choose(figures(), LONG, card, Wishes())
    known = [measured(guess.key, LONG, 50, 55)]
    plan = planner.choose(figures(), LONG, card, Wishes(), known)
    assert (plan.peak_bytes, plan.sample_bytes, plan.measured) == (55 * GB, 50 * GB, True)
    assert guess.measured is False
    # What was measured to be too much is not tried, whatever the formula says.
    tight = Card(60 * GB)
    assert planner.choose(figures(), LONG, tight, Wishes()).offload == "none"
    full = [measured(guess.key, LONG, 58, 66)]
    assert planner.choose(figures(), LONG, tight, Wishes(), full).offload == "model"
    # And what was measured to fit is, though the formula thinks otherwise.
    small = Card(40 * GB)
    light = [measured(guess.key, LONG, 30, 34)]
    assert planner.choose(figures(), LONG, small, Wishes(), light).offload == "none"


def test_a_measured_peak_of_another_size_grows_with_the_work_alone() -> None:
    plan = Plan("bf16", "", "off", "none")
    short = replace(LONG, frames=41)
    then = planner.stages(plan, figures(), short)
    took = measured(plan.key, short, (then.sample + GB) / GB, (then.sample + GB) / GB)
    found = planner.forecast(plan, figures(), LONG, Card(0), [took])
    now = planner.stages(plan, figures(), LONG)
    wanted = now.sampling_weights + (then.sample_work + GB) * now.sample_work / then.sample_work
    assert found.sample_bytes == pytest.approx(wanted, rel=1e-6)
    other = replace(plan, offload="group")
    assert planner.forecast(other, figures(), LONG, Card(0), [took]).measured is False


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 10**12)), max_size=12))
def test_peaks_are_kept_newest_first_and_one_for_each_plan_and_size(
    runs: list[tuple[int, int]],
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        peaks = Peaks(Path(name))
        for number, taken in runs:
            clip = Clip(64 * (number + 1), 64, 9)
            peaks.add("card", "model", Measured("bf16//off/none", False, clip, taken, taken))
        found = Peaks(Path(name)).read("card", "model")
        latest = dict(reversed([(number, taken) for number, taken in reversed(runs)]))
        assert {one.clip.width // 64 - 1: one.peak_bytes for one in found} == latest
        assert len(found) == len(latest)
        if runs:
            assert found[0].clip.width == 64 * (runs[-1][0] + 1)
        assert peaks.read("card", "other") == peaks.read("other", "model") == []


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"card | model": 3}', '{"card | model": [{"key": 1}, 5, null]}',
             '{"card | model": [{"key": "a", "tiled": false, "clip": {"width": -1, "height": 1, '
             '"frames": 1, "guided": true}, "sample_bytes": 1, "peak_bytes": 1}]}']
)  # fmt: skip
def test_a_damaged_file_of_peaks_is_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    peaks = Peaks(tmp_path)
    assert peaks.read("card", "model") == []
    one = Measured("a", True, Clip(64, 64), 5, 6)
    peaks.add("card", "model", one)
    assert peaks.read("card", "model") == [one]
    assert Peaks(None).read("card", "model") == []
    Peaks(None).add("card", "model", one)


# ---- what the files say


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.core import tiny_models

    return tiny_models.wan(tmp_path_factory.mktemp("wan"))


def test_sizes_are_read_from_the_headers(folder: Path) -> None:
    import diffusers

    from core.engines.local import folders
    from core.engines.local.families import wan

    found = parts.figures(folders.check(folder, wan.LAYOUT), "wan", full_decoder=True)
    read = diffusers.WanTransformer3DModel.from_pretrained(folder / "transformer")
    [one] = [part for part in found.parts if part.name == "transformer"]
    assert one.values == sum(weight.numel() for weight in read.parameters())
    block = sum(weight.numel() for weight in read.blocks[0].parameters())
    assert (one.block, one.outside) == (block, one.values - 2 * block)
    assert one.largest == max(weight.numel() for weight in read.parameters())
    assert found.shape.width == 24
    assert {part.name for part in found.parts} == {"transformer", "vae", "text_encoder"}


def test_recipes_need_nothing_of_the_planner() -> None:
    code = (
        "import sys, core.engines.local.families as f, pathlib;"
        "f.recipes(pathlib.Path('/nowhere'));"
        "names = 'placement planner placing parts peaks quantised sizes'.split();"
        "print([n for n in names if 'core.engines.local.' + n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(offload.__file__).parents[3],
    )  # fmt: skip
    assert done.stdout.strip() == "[]"

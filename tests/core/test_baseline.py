"""A slower run is told, noise is not, and unlike runs are not compared."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.statistics.baseline import compare, in_words
from core.statistics.runs import Asked, Run

ASKED = Asked("wan", "wan-i2v-14b", "/m", 832, 480, 81, 20, options={"dtype": "fp8", "nfe": 8})


def run(seconds: float = 60.0, peak: float = 8e9, **more: object) -> Run:
    return Run(ASKED, seconds, peak, gpu="RTX 3090", versions={"torch": "2.8"}, **more)  # type: ignore[arg-type]


def noisy(rng: random.Random, share: float = 0.05) -> Run:
    return run(60 * (1 + rng.uniform(-share, share)), 8e9 * (1 + rng.uniform(-share, share)))


def test_15_percent_is_flagged_and_5_percent_of_noise_never() -> None:
    for seed in range(500):
        rng = random.Random(seed)
        earlier = [noisy(rng) for _ in range(rng.randint(5, 40))]
        usual = compare(noisy(rng), earlier)
        assert (usual.slower, usual.higher) == (None, None)
        worse = compare(run(60 * 1.15, 8e9 * 1.15), earlier)
        assert worse.slower == pytest.approx(0.15, abs=0.06)
        assert worse.higher == pytest.approx(0.15, abs=0.06)
        better = compare(run(60 * 0.5, 8e9 * 0.5), earlier)
        assert (better.slower, better.higher) == (None, None)


def test_four_runs_are_no_baseline() -> None:
    assert compare(run(600), [run()] * 4).slower is None
    assert compare(run(600), [run()] * 5).slower == pytest.approx(9.0)


def test_words() -> None:
    found = compare(run(72, 8e9), [run()] * 6)
    assert in_words(found) == "20% slower than usual (60.0 s) over 6 runs with the same settings"
    assert in_words(compare(run(), [run()] * 6)) == ""


def test_nfe_16_is_not_compared_with_8() -> None:
    other = replace(run(30), asked=replace(ASKED, options={"dtype": "fp8", "nfe": 16}))
    found = compare(other, [run()] * 10)
    assert (found.slower, found.runs) == (None, 0)
    assert found.differences == ("nfe 16 instead of 8",)
    assert in_words(found) == "Not compared: nfe 16 instead of 8"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"asked": replace(ASKED, steps=8)}, "steps 8 instead of 20"),
        ({"asked": replace(ASKED, frames=41)}, "frames 41 instead of 81"),
        ({"asked": replace(ASKED, model="/other")}, "model /other instead of /m"),
        ({"asked": replace(ASKED, instance="comfyui :8188")}, "engine comfyui :8188 instead of"),
        ({"gpu": "RTX 4090"}, "GPU RTX 4090 instead of RTX 3090"),
        ({"versions": {"torch": "2.9"}}, "torch version 2.9 instead of 2.8"),
        ({"versions": {}}, "torch version none instead of 2.8"),
    ],
)
def test_every_difference_is_named(change: dict[str, object], said: str) -> None:
    found = compare(replace(run(900), **change), [run()] * 10)  # type: ignore[arg-type]
    assert found.slower is None
    assert len(found.differences) == 1
    assert found.differences[0].startswith(said)


def test_the_nearest_run_is_named_and_the_run_itself_left_out() -> None:
    far = replace(run(), gpu="RTX 4090", asked=replace(ASKED, steps=4))
    near = replace(run(), asked=replace(ASKED, steps=4))
    assert compare(run(), [far, near]).differences == ("steps 20 instead of 4",)
    assert compare(replace(run(), job_id="a"), [replace(run(), job_id="a")]).runs == 0


def test_censored_peaks_and_spilled_times_make_no_baseline() -> None:
    full = [run(600, 24e9, censored=True, spilled=True)] * 9
    found = compare(run(61, 8.1e9), full + [run()] * 5)
    assert (found.slower, found.higher) == (None, None)
    assert found.usual.seconds is not None
    assert (found.usual.seconds.median, found.usual.seconds.runs) == (60, 5)
    assert compare(run(600, spilled=True), [run()] * 5).slower == pytest.approx(9.0)


def test_what_is_small_in_itself_is_left_alone() -> None:
    assert compare(run(1.4, 5e7), [run(1.0, 4e7)] * 9).slower is None
    found = compare(run(1.6, 9e7), [run(1.0, 4e7)] * 9)
    assert found.slower == pytest.approx(0.6)
    assert found.higher == pytest.approx(1.25)
    assert "125% higher in memory than usual (38 MB)" in in_words(found)


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=40), st.floats(0.1, 1e6))
def test_within_a_tenth_nothing_is_said(times: list[float], value: float) -> None:
    found = compare(run(value), [run(item) for item in times])
    assert found.usual.seconds is not None
    if value <= 1.1 * found.usual.seconds.median or len(times) < 5:
        assert found.slower is None

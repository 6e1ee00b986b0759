"""Latents to colours."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.engines.local import preview
from core.engines.local.preview import STABLE_DIFFUSION, Projection

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 9),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    dtype=st.sampled_from(DTYPES),
    scale=st.floats(0, 60000),
    seed=st.integers(0, 2**31),
)
def test_any_latents_give_opaque_pixels(
    frames: int, height: int, width: int, dtype: torch.dtype, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    latents = (torch.randn((1, 4, frames, height, width), generator=generator) * scale).to(dtype)
    pixels = STABLE_DIFFUSION.pixels(latents)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (frames, height, width, 4)
    assert pixels.flags.c_contiguous
    assert (pixels[..., 3] == 255).all()
    assert (pixels == STABLE_DIFFUSION.pixels(latents[0].transpose(0, 1))).all()


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats(-4, 4, width=32), min_size=4, max_size=4))
def test_colours_are_the_sum_of_the_factors(values: list[float]) -> None:
    latents = torch.tensor(values).reshape(1, 4, 1, 1, 1)
    blue, green, red, _ = STABLE_DIFFUSION.pixels(latents)[0, 0, 0].astype(int)
    expected = np.array(values) @ np.array(STABLE_DIFFUSION.factors)
    wanted = np.clip(expected * 127.5 + 127.5, 0, 255)
    assert np.abs(np.array([red, green, blue]) - wanted).max() <= 0.51


def test_numbers_that_are_none_do_not_break_a_picture() -> None:
    latents = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0]).reshape(1, 4, 1, 1)
    assert (STABLE_DIFFUSION.pixels(latents)[..., 3] == 255).all()


def test_factors_outlive_a_file(tmp_path: Path) -> None:
    kept = Projection(((0.5, -0.25, 0.125), (1.0, 0.0, -1.0)), (0.1, 0.2, 0.3))
    kept.save(tmp_path)
    assert preview.read(tmp_path) == kept


@pytest.mark.parametrize("text", ["", "{", "[]", '{"factors": [[1]], "bias": [0, 0, 0]}', "{}"])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / preview.FILE).write_text(text)
    assert preview.read(tmp_path) is None


def test_a_clip_costs_less_than_a_millisecond() -> None:
    latents = torch.randn((1, 4, 16, 64, 64), generator=torch.Generator().manual_seed(1))
    costs = []
    threads = torch.get_num_threads()
    # Two threads wait for each other, however long the other core is taken by somebody else.
    torch.set_num_threads(1)
    try:
        for _ in range(50):
            begun = perf_counter()
            STABLE_DIFFUSION.pixels(latents)
            costs.append(perf_counter() - begun)
    finally:
        torch.set_num_threads(threads)
    # The best of many: what else runs on the machine is not what is tested.
    assert min(costs) < 0.002, f"{min(costs) * 1000:.2f} ms"
    print(f"16 frames of 64×64 latents: {min(costs) * 1000:.2f} ms")

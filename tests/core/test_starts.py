"""Start pictures that may be left out: redrawn by Stable Diffusion, moved by WAN's small model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.engines.local import starts
from core.engines.local.families import stable_diffusion
from core.events import Noted, Sampled
from tests.core.family_fixtures import Benches, studio


@pytest.fixture(scope="module")
def all_benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Benches]:
    with studio(tmp_path_factory.mktemp("starts")) as made:
        yield made


@pytest.fixture
def benches(all_benches: Benches) -> Iterator[Benches]:
    yield all_benches
    all_benches.rest()


@given(steps=st.integers(1, 100), percent=st.integers(2, 100))
def test_at_least_one_step_is_made(steps: int, percent: int) -> None:
    strength = percent / 100
    needed = starts.steps_for(steps, strength)
    made = int(needed * strength)
    assert made >= 1
    assert needed == steps or (made == 1 and needed > steps)
    assert int((needed - 1) * strength) < 1 or needed == steps, "no more than needed"


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_a_picture_is_redrawn(benches: Benches, name: str) -> None:
    bench = benches(name)
    plain = bench.clip(steps=4)
    white, noise = str(benches.start("white")), str(benches.start())
    drawn = bench.clip(steps=4, image=white, strength=0.5)
    assert drawn.shape == (1, 64, 64, 3)
    assert len(bench.seen(Sampled)) == 2, "half of the steps"
    assert (drawn != plain).any()
    assert (bench.clip(steps=4, image=noise, strength=0.5) != drawn).any()
    assert (bench.clip(steps=4, image=white, strength=0.5) == drawn).all()
    assert (bench.clip(steps=4, image=white, strength=1) != drawn).any()
    assert (bench.clip(steps=4) == plain).all(), "nothing of it stays"


def test_a_redrawn_picture_leaves_the_autoencoder_in_its_type(benches: Benches) -> None:
    """In half precision, as everything else of the model, its decode overflows."""
    import torch

    bench = benches("sdxl")
    bench.clip(steps=1, image=str(benches.start()), strength=1, precision="bf16")
    pipe = bench.warm.kept.pipe  # type: ignore[attr-defined]
    assert (pipe.unet.dtype, pipe.vae.dtype) == (torch.bfloat16, torch.float32)
    assert "to" not in vars(pipe.vae)


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_less_change_stays_nearer_to_the_picture(benches: Benches, name: str) -> None:
    """In latents: a decoder of random weights shows nothing of the kind."""
    import torch

    bench = benches(name)
    bench.clip()
    pipe = starts.redrawing(bench.warm._value.pipe)  # type: ignore[union-attr]
    picture = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        start = pipe.vae.encode(picture * 2 - 1).latent_dist.mean
    start *= pipe.vae.config.scaling_factor

    def distance(strength: float) -> float:
        found = pipe(
            prompt="a", image=picture, strength=strength, num_inference_steps=10, guidance_scale=1,
            generator=torch.Generator().manual_seed(1), output_type="latent",
        )[0]  # fmt: skip
        return float((found - start).norm().detach())

    near, middle, far = distance(0.1), distance(0.5), distance(1.0)
    assert near < middle < far


def test_few_steps_and_little_change_still_make_one(benches: Benches) -> None:
    bench = benches("sd15")
    white = str(benches.start("white"))
    clip = bench.clip(steps=1, image=white, strength=0.3, guidance_scale=1)
    assert len(bench.seen(Sampled)) == 1
    assert any("one of 4 is made instead" in event.text for event in bench.seen(Noted))
    assert clip.std() > 0
    bench.clip(steps=1, strength=0.3)
    assert bench.seen(Noted) == [], "without a picture the strength means nothing"


@pytest.mark.parametrize("scheduler", [stable_diffusion.OWN, "lcm", "euler_a", "ddpm", "pndm"])
def test_every_kind_of_sampler_redraws(benches: Benches, scheduler: str) -> None:
    bench = benches("sd15")
    white = str(benches.start("white"))
    clip = bench.clip(image=white, strength=0.4, steps=5, scheduler=scheduler)
    assert clip.std() > 0
    # The one that this model came with makes its first step twice.
    twice = scheduler in (stable_diffusion.OWN, "pndm")
    assert len(bench.seen(Sampled)) == (3 if twice else 2)


def test_the_small_wan_takes_a_picture_or_none(benches: Benches) -> None:
    bench = benches("wan22-5b")
    knob = next(one for one in bench.recipe.parameters if one.name == "image")
    assert not knob.required
    plain = bench.clip()
    white = bench.clip(image=str(benches.start("white")))
    assert white.shape == plain.shape
    assert (white != plain).any()
    assert (bench.clip(image=str(benches.start())) != white).any()
    assert (bench.clip() == plain).all()

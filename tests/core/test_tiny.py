"""The tiny autoencoder: found beside a model, as live picture within its share, as decoder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.engines.local import families, tiny, tiny_decoder
from core.engines.local.kept import Kept
from core.errors import ProblemError
from core.events import FramesPublished, Noted, Sampled
from tests.core import tiny_models
from tests.core.family_fixtures import Benches, Small, studio

NAMES = ("sd15", "sdxl", "animatediff", "svd")


@pytest.fixture(scope="module")
def all_benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Benches]:
    with studio(tmp_path_factory.mktemp("tiny")) as made:
        small = tiny_models.tiny_autoencoder(made.folder / "small")
        for name in NAMES:
            shutil.copytree(small, made.model(name) / "taesd")
        yield made


@pytest.fixture
def benches(all_benches: Benches) -> Iterator[Benches]:
    yield all_benches
    all_benches.rest()


def knobs_of(folder: Path) -> set[str]:
    return {knob.name for knob in families.recipe_for_folder(folder).parameters}


@pytest.mark.parametrize(("name", "beside"), [("sd15", "taesd"), ("sdxl", "taesdxl")])
def test_it_is_found_inside_and_beside(
    benches: Benches, tmp_path: Path, name: str, beside: str
) -> None:
    model = Path(shutil.copytree(benches.model(name), tmp_path / "models" / name))
    large = name == "sdxl"
    assert tiny.folder_of(model, large=large) == model / "taesd"
    other = "taesd" if large else "taesdxl"
    (model / "taesd").rename(model.parent / other)
    assert tiny.folder_of(model, large=large) is None, "it is for other latents"
    assert not {"preview", "decoder"} & knobs_of(model)
    (model.parent / other).rename(model.parent / beside)
    assert tiny.folder_of(model, large=large) == model.parent / beside
    assert {"preview", "decoder"} <= knobs_of(model)
    (model.parent / beside / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    assert tiny.folder_of(model, large=large) is None


@pytest.mark.parametrize("name", NAMES)
def test_it_decodes_and_says_so(benches: Benches, name: str) -> None:
    bench = benches(name)
    full = bench.clip()
    quick = bench.clip(decoder="tiny")
    assert quick.shape == full.shape
    assert quick.dtype == np.uint8
    assert (quick != full).any()
    told = [event.text for event in bench.seen(Noted)]
    assert len([text for text in told if "tiny autoencoder" in text]) == 1
    assert (bench.clip() == full).all()


def test_the_decoder_is_no_reason_to_sample_again(benches: Benches, tmp_path: Path) -> None:
    from dataclasses import replace

    bench = benches("sd15")
    bench.kept = Kept(tmp_path)
    job = bench.job(decoder="tiny")
    bench.frames(job)
    full = bench.frames(replace(job, params={**job.params, "decoder": "full", "preview": "off"}))
    assert bench.seen(Sampled) == []
    bench.kept = Kept()
    assert (bench.clip() == full).all()


def previews(bench: Small) -> list[FramesPublished]:
    return [event for event in bench.seen(FramesPublished) if event.preview]


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_clip_is_shown_in_its_own_size(
    benches: Benches, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # These models make a step in the time that others need to begin one.
    monkeypatch.setattr(tiny_decoder.Preview.__init__, "__defaults__", (1000.0,))
    bench = benches(name)
    plain = bench.clip(steps=3)
    shown = bench.clip(steps=3, preview="tiny")
    assert (shown == plain).all(), "what is shown changes nothing of what is made"
    frames = len(plain)
    found = [(one.count, one.total, one.width, one.height) for one in previews(bench)]
    assert found == [(frames, frames, 64, 64)] * 3
    told = [event.text for event in bench.seen(Noted) if "% of a step" in event.text]
    assert len(told) == 1
    assert told[0].startswith("Preview by tiny autoencoder: +")


def test_off_shows_nothing(benches: Benches) -> None:
    bench = benches("animatediff")
    plain = bench.clip()
    assert len(previews(bench)) == 2
    assert (bench.clip(preview="off") == plain).all()
    assert previews(bench) == []
    assert len(bench.seen(Sampled)) == 2


class Clock:
    """A time that passes only where it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("costs", "expected", "words"),
    [
        # The first call may take longer; then it is within its share.
        ([0.5, 0.1, 0.1, 0.1], [8, 8, 8, 8], "Preview by tiny autoencoder: +10 % of a step."),
        # Over its share at full size, within it at half.
        ([0.2, 0.2, 0.05, 0.05, 0.05], [8, 8, 4, 4, 4], "+5 % of a step"),
        # Over its share at any size: colours from then on.
        ([0.2, 0.2, 0.2, 0.2, 0.2], [8, 8, 4, 4, 0], "colours are shown instead"),
        # Far too slow: not even finished.
        ([9.0, 9.0, 9.0, 9.0], [0, 0, 0, 0], "colours are shown instead"),
    ],
)
def test_it_stays_within_its_share_of_a_step(
    benches: Benches,
    monkeypatch: pytest.MonkeyPatch,
    costs: list[float],
    expected: list[int],
    words: str,
) -> None:
    """Steps of one second; a preview of two frames takes the seconds given."""
    import torch

    clock = Clock()
    waiting = iter(costs)
    cost = 0.0

    def pictures(vae: Any, latents: Any) -> Any:
        clock.now += cost / 2
        return torch.zeros((len(latents), 3, latents.shape[-2], latents.shape[-1]))

    monkeypatch.setattr(tiny_decoder, "monotonic", clock)
    monkeypatch.setattr(tiny_decoder, "pictures", pictures)
    told: list[str] = []

    class Told:
        job = benches("sd15").job()

        def __init__(self) -> None:
            self.facts: dict[str, Any] = {}

        def report(self, event: Noted) -> None:
            told.append(event.text)

    made = tiny_decoder.Preview(Told(), None)  # type: ignore[arg-type]
    sides = []
    for cost in waiting:  # noqa: B007 - read by `pictures`
        frames = made.frames(torch.zeros((1, 4, 2, 8, 8)), 1.0)
        sides.append(0 if frames is None else frames.shape[1])
    assert sides == expected
    assert len(told) == 1
    assert words in told[0]


def test_one_for_other_latents_or_damaged_is_named(benches: Benches, tmp_path: Path) -> None:
    model = Path(shutil.copytree(benches.model("sd15"), tmp_path / "other"))
    shutil.rmtree(model / "taesd")
    tiny_models.tiny_autoencoder(model / "taesd", channels=16)
    from core.engines.local.warm import Warm

    bench = Small(model, benches.start(), tmp_path, Warm())
    try:
        with pytest.raises(ProblemError) as caught:
            bench.clip(decoder="tiny")
        assert "16 channels" in caught.value.problem.message
        weights = model / "taesd/diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-3])
        with pytest.raises(ProblemError) as caught:
            bench.clip(preview="tiny")
        assert "damaged" in caught.value.problem.message
        shutil.rmtree(model / "taesd")
        with pytest.raises(ProblemError) as caught:
            bench.clip(decoder="tiny")
        assert "not there any more" in caught.value.problem.message
    finally:
        bench.ring.close()
        bench.warm.drop()

"""Image prompts on tiny models of the families that take them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.engines.local import image_prompt
from core.engines.local.warm import Warm
from core.errors import ProblemError
from core.events import Noted
from tests.core import tiny_models
from tests.core.family_fixtures import Benches, studio

NAMES = ("sd15", "sdxl", "animatediff")


def make_adapter(model: Path) -> None:
    """Write an IP-Adapter that fits a model folder, and the network that looks at pictures."""
    import diffusers
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(4)
    place = model / image_prompt.FOLDER
    tiny_models._vision("CLIPVisionModelWithProjection", 32).save_pretrained(
        place / image_prompt.ENCODER
    )
    unet: Any = diffusers.UNet2DConditionModel.from_pretrained(model / "unet")
    width = int(unet.config.cross_attention_dim)
    tensors = {
        "image_proj.proj.weight": torch.randn(4 * width, 8),
        "image_proj.proj.bias": torch.randn(4 * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    crossed = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(crossed):
        layer = unet.get_submodule(name.removesuffix(".processor"))
        for kind in ("k", "v"):
            key = f"ip_adapter.{2 * number + 1}.to_{kind}_ip.weight"
            tensors[key] = torch.randn(layer.to_k.weight.shape) / 4
    save_file(tensors, place / "ip-adapter.safetensors")


@pytest.fixture(scope="module")
def all_benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Benches]:
    with studio(tmp_path_factory.mktemp("prompts")) as made:
        for name in NAMES:
            make_adapter(made.model(name))
        yield made


@pytest.fixture
def benches(all_benches: Benches) -> Iterator[Benches]:
    yield all_benches
    all_benches.rest()


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_shapes_what_is_made_and_leaves_nothing(benches: Benches, name: str) -> None:
    bench = benches(name)
    white, noise = str(benches.start("white")), str(benches.start())
    plain = bench.clip()
    taken = bench.clip(image_prompt=white, image_prompt_scale=1)
    assert (taken != plain).any()
    assert (bench.clip(image_prompt=noise, image_prompt_scale=1) != taken).any()
    assert (bench.clip(image_prompt=white, image_prompt_scale=0.2) != taken).any()
    assert (bench.clip() == plain).all()
    fresh = benches(name, Warm())
    assert (fresh.clip(image_prompt=white, image_prompt_scale=1) == taken).all()


def test_projections_that_read_pictures_are_not_fused(benches: Benches) -> None:
    bench = benches("sd15")
    pictured = bench.clip(image_prompt=str(benches.start()))
    assert (bench.clip(image_prompt=str(benches.start()), speed="fuse_qkv") == pictured).all()
    words = "Fused projections is left out: its attention reads pictures beside words."
    assert words in [event.text for event in bench.seen(Noted)]
    bench.clip(speed="fuse_qkv")
    assert words not in [event.text for event in bench.seen(Noted)]


def test_it_goes_together_with_a_start_picture(benches: Benches) -> None:
    bench = benches("sd15")
    white, noise = str(benches.start("white")), str(benches.start())
    drawn = bench.clip(image=white, steps=4)
    assert (bench.clip(image=white, image_prompt=noise, steps=4) != drawn).any()
    assert (bench.clip(image=white, steps=4) == drawn).all()


def test_one_that_does_not_fit_is_refused(benches: Benches) -> None:
    from safetensors.torch import load_file, save_file

    bench = benches("sd15")
    plain = bench.clip()
    file = image_prompt.file_of(benches.model("sd15"))
    assert file is not None
    whole = file.read_bytes()
    tensors = load_file(file)
    del tensors["ip_adapter.3.to_k_ip.weight"]
    save_file(tensors, file)
    try:
        with pytest.raises(ProblemError) as caught:
            bench.clip(image_prompt=str(benches.start()))
    finally:
        file.write_bytes(whole)
    assert caught.value.problem.field == "image_prompt"
    assert "ip-adapter.safetensors does not fit" in caught.value.problem.message
    assert (bench.clip() == plain).all()


@pytest.mark.parametrize(
    ("name", "ways"),
    [("sd15", ({}, {"image_prompt": "picture"}, {})), ("animatediff", ({}, {"frames": 20}, {}))],
)
def test_groups_that_wait_know_the_layers_there_are(
    benches: Benches, name: str, ways: tuple[dict[str, object], ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Adapters and long clips exchange layers; a card's groups look each of their weights up."""
    from diffusers.hooks import group_offloading

    found: list[set[int]] = []
    real = group_offloading._maybe_remove_and_reapply_group_offloading

    def again(part: Any) -> None:
        found.append(set(map(id, part.parameters())))
        real(part)

    monkeypatch.setattr(group_offloading, "_maybe_remove_and_reapply_group_offloading", again)
    bench = benches(name)
    bench.clip(steps=1)
    unet = bench.warm.kept.pipe.unet  # type: ignore[attr-defined]
    now = set(map(id, unet.parameters()))
    for way in ways:
        more = {key: str(benches.start()) if key == "image_prompt" else v for key, v in way.items()}
        found.clear()
        bench.clip(steps=1, **more)
        before, now = now, set(map(id, unet.parameters()))
        assert [found[-1]] == [now] if before != now else found == [], way


def test_without_an_adapter_nothing_is_offered(benches: Benches) -> None:
    names = {knob.name for knob in benches("svd").recipe.parameters}
    assert not {image_prompt.FIELD, image_prompt.SCALE} & names

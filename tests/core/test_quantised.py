"""Quantised weights: GGUF files of real transformers, and libraries that are not there."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.engines.local import families, folders, parts, quantised
from core.engines.local.families import ltx, wan
from core.engines.local.placement import Wishes
from core.engines.local.warm import Warm
from core.errors import Category, ProblemError
from core.events import Noted, Progressed
from tests.core import tiny_models
from tests.core.test_families import Bench


def write_gguf(model: Any, path: Path, names: dict[str, str] | None = None) -> int:
    """Write a transformer as GGUF: matrices of whole blocks as Q8_0; return how many."""
    import gguf

    writer, small = gguf.GGUFWriter(path, "test"), 0
    for name, weight in model.state_dict().items():
        data = weight.float().numpy()
        kind = gguf.GGMLQuantizationType.F32
        if name.endswith(".weight") and data.ndim == 2 and data.shape[1] % 32 == 0:
            kind, small = gguf.GGMLQuantizationType.Q8_0, small + 1
            data = gguf.quants.quantize(data, kind)
        writer.add_tensor((names or {}).get(name, name), data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return small


def transformer(kind: str) -> Any:
    """Layers of 32 numbers a row: whole blocks of GGUF."""
    import diffusers

    tiny_models._seeded()
    if kind == "wan":
        return diffusers.WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=16, text_dim=8, freq_dim=16, ffn_dim=32,
            num_layers=2, rope_max_seq_len=64, in_channels=16, out_channels=16,
        )  # fmt: skip
    return diffusers.LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=16,
        cross_attention_dim=32, num_layers=1, caption_channels=8,
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    with tiny_models.alone():
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models with a GGUF file beside their weights, and such without those."""
    folder = tmp_path_factory.mktemp("models")
    for kind in ("wan", "ltx"):
        for name in (kind, f"{kind}-only"):
            (folder / name).mkdir()
            getattr(tiny_models, kind)(folder / name)
            made = transformer(kind)
            place = folder / name / "transformer"
            made.save_pretrained(place)
            assert write_gguf(made, place / "tiny-Q8_0.gguf") >= 8
            if name != kind:
                (place / "diffusion_pytorch_model.safetensors").unlink()
    return folder


@pytest.fixture
def bench(models: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(models / request.param, tmp_path, tmp_path, Warm())
    yield made
    made.ring.close()
    made.warm.drop()


SIZES = {"width": 64, "height": 64, "frames": 9, "steps": 1, "seed": 5, "prompt": "a fox"}


def clip(bench: Bench, **more: object) -> np.ndarray:
    from core.jobs import new_job

    return bench.frames(new_job(bench.recipe, {**SIZES, **more}, bench.clips))


@pytest.mark.parametrize("bench", ["wan", "ltx"], indirect=True)
def test_a_gguf_file_makes_nearly_the_same_clip(bench: Bench) -> None:
    plain = clip(bench)
    made = clip(bench, quantised="gguf")
    pipe: Any = bench.warm._value.pipe  # type: ignore[union-attr]
    kinds = {type(weight).__name__ for weight in pipe.transformer.parameters()}
    assert "GGUFParameter" in kinds, "the weights are as they lie in the file"
    assert "Placement: fp32, GGUF" in [event.text for event in bench.seen(Noted)]
    difference = np.abs(plain.astype(int) - made).mean()
    assert 0 < difference < 2.0, "eight bits a number, and another file than the plain one"
    assert (clip(bench) == plain).all(), "the plain model is loaded again"


@pytest.mark.parametrize("bench", ["wan-only", "ltx-only"], indirect=True)
def test_a_model_of_which_only_a_gguf_file_is_there_runs_from_it(
    bench: Bench, models: Path
) -> None:
    made = clip(bench)
    assert bench.seen(Noted)[0].text == "Placement: fp32, GGUF"
    other = Bench(models / bench.recipe.family, bench.start, bench.clips, Warm())
    try:
        assert (clip(other, quantised="gguf") == made).all()
    finally:
        other.ring.close()
        other.warm.drop()
    part = next(
        one for one in parts.figures(
            folders.check(Path(bench.recipe.model), {"wan": wan, "ltx": ltx}[
                bench.recipe.family].LAYOUT), bench.recipe.family).parts
        if one.name == "transformer"
    )  # fmt: skip
    assert part.values == sum(w.numel() for w in transformer(bench.recipe.family).parameters())
    with pytest.raises(ProblemError) as error:
        clip(bench, quantised="8bit")
    assert error.value.problem.field == "quantised"


def test_a_file_named_as_its_makers_name_it_is_read_too(models: Path, tmp_path: Path) -> None:
    import torch
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    made = transformer("wan")
    # The makers' names are found by what each of them becomes.
    theirs = {
        **{f"blocks.{n}.{a}.{b}.{c}": None for n in range(2) for a in ("self_attn", "cross_attn")
           for b in "qkvo" for c in ("weight", "bias")},
    }  # fmt: skip
    theirs |= {f"blocks.{n}.{a}.norm_{b}.weight": None for n in range(2)
               for a in ("self_attn", "cross_attn") for b in "qk"}  # fmt: skip
    theirs |= {f"blocks.{n}.ffn.{a}.{b}": None for n in range(2) for a in "02"
               for b in ("weight", "bias")}  # fmt: skip
    theirs |= {f"blocks.{n}.norm3.{b}": None for n in range(2) for b in ("weight", "bias")}
    theirs |= {f"blocks.{n}.modulation": None for n in range(2)}
    theirs |= {f"{a}.{b}": None for b in ("weight", "bias") for a in (
        "text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2",
        "time_projection.1", "head.head", "patch_embedding")}  # fmt: skip
    theirs |= {"head.modulation": None}
    marked = {name: torch.tensor([number]) for number, name in enumerate(theirs)}
    names = list(theirs)
    became = convert_wan_transformer_to_diffusers(dict(marked))
    renamed = {ours: names[int(mark)] for ours, mark in became.items()}
    assert set(renamed) == set(made.state_dict())
    path = tmp_path / "theirs.gguf"
    write_gguf(made, path, renamed)
    read = quantised.from_gguf(
        path, "WanTransformer3DModel", models / "wan" / "transformer", torch.float32
    )
    ours = quantised.from_gguf(
        models / "wan" / "transformer" / "tiny-Q8_0.gguf", "WanTransformer3DModel",
        models / "wan" / "transformer", torch.float32,
    )  # fmt: skip
    for (name, one), (_, other) in zip(
        sorted(read.named_parameters()), sorted(ours.named_parameters()), strict=True
    ):
        assert bytes(one.data.numpy().tobytes()) == bytes(other.data.numpy().tobytes()), name


@pytest.mark.parametrize("quant", ["8bit", "4bit"])
def test_a_missing_library_is_named_before_anything_is_loaded(
    models: Path, tmp_path: Path, quant: str
) -> None:
    if importlib.util.find_spec("torchao") is not None:
        pytest.fail("torchao is installed: this test needs it away")
    bench = Bench(models / "wan", tmp_path, tmp_path, Warm())
    try:
        with pytest.raises(ProblemError) as error:
            clip(bench, quantised=quant)
    finally:
        bench.ring.close()
    problem = error.value.problem
    assert (problem.category, problem.field) == (Category.INVALID_PARAMS, "quantised")
    assert "pip install torchao" in problem.hint
    assert not bench.seen(Progressed), "no part was loaded"


def test_on_a_card_the_other_library_is_asked_for() -> None:
    with pytest.raises(ProblemError) as error:
        quantised.library(on_card=True)
    assert "pip install bitsandbytes" in error.value.problem.hint


def test_what_does_not_go_together_is_refused(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = folders.check(models / "wan", wan.LAYOUT)
    with pytest.raises(ProblemError) as error:
        quantised.of(found, Wishes(offload="sequential", quantised="8bit"), on_card=True)
    assert error.value.problem.field == "offload"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ProblemError) as error:
        quantised.of(found, Wishes(quantised="gguf"), on_card=False)
    assert "pip install gguf" in error.value.problem.hint
    plain = tmp_path / "plain"
    plain.mkdir()
    tiny_models.ltx(plain)
    with pytest.raises(ProblemError) as error:
        quantised.of(folders.check(plain, ltx.LAYOUT), Wishes(quantised="gguf"), on_card=False)
    assert "no GGUF file" in error.value.problem.message


@pytest.mark.parametrize("damage", ["other model", "no gguf", "cut"])
def test_a_file_that_cannot_be_used_is_named(models: Path, tmp_path: Path, damage: str) -> None:
    import torch

    path = tmp_path / "bad.gguf"
    whole = (models / "wan" / "transformer" / "tiny-Q8_0.gguf").read_bytes()
    if damage == "other model":
        path.write_bytes((models / "ltx" / "transformer" / "tiny-Q8_0.gguf").read_bytes())
    else:
        path.write_bytes(b"not one" if damage == "no gguf" else whole[: len(whole) // 2])
    with pytest.raises(ProblemError) as error:
        quantised.from_gguf(
            path, "WanTransformer3DModel", models / "wan" / "transformer", torch.float32
        )
    assert "bad.gguf" in error.value.problem.message
    assert error.value.problem.category is Category.MODEL_NOT_FOUND
    if damage == "no gguf":
        with pytest.raises(ProblemError):
            folders.check_gguf(path)


def test_which_families_offer_it(models: Path, tmp_path: Path) -> None:
    def choices(folder: Path) -> tuple[str, ...]:
        recipe = families.recipe_for_folder(folder)
        return next(k.choices for k in recipe.parameters if k.name == "quantised")

    assert choices(models / "wan") == choices(models / "ltx") == ("off", "8bit", "4bit", "gguf")
    (tmp_path / "sd").mkdir()
    assert choices(tiny_models.stable_diffusion(tmp_path / "sd")) == ("off", "8bit", "4bit")

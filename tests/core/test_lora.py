"""LoRA on tiny models of every family that takes one: fits, refusals, and clean removal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.engines.local import families, lora
from core.engines.local.context import Cancelled
from core.engines.local.kept import Kept
from core.engines.local.warm import Warm
from core.errors import Category, ProblemError
from core.events import Noted, PhaseStarted, Progressed, Sampled
from core.jobs import Kind, Phase
from tests.core.family_fixtures import Benches, studio

NAMES = ("sd15", "sdxl", "animatediff", "wan-t2v", "wan22-14b", "ltx", "svd")
FITTING = NAMES[:-1]
LAYERS = ("to_q.weight", "to_v.weight", "q_proj.weight", "out_proj.weight")


def make_lora(model: Path, path: Path, *, part: str = "", seed: int = 1, old: bool = False) -> Path:
    """Write a LoRA for the attention of one part of a model folder, as trainers do.

    Args:
        model: The model folder.
        path: Where to.
        part: Of the model; "" for the one that samples.
        seed: Of its numbers.
        old: With the names that trainers of Stable Diffusion use.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    part = part or ("transformer" if (model / "transformer").is_dir() else "unet")
    torch.manual_seed(seed)
    tensors = {}
    (weights,) = (model / part).glob("*.safetensors")
    with safe_open(weights, "pt") as file:
        for key in file.keys():  # noqa: SIM118 - no mapping
            if not key.endswith(LAYERS):
                continue
            out, given = file.get_slice(key).get_shape()
            name, down, up = key.removesuffix(".weight"), "lora_A", "lora_B"
            name = f"{part}.{name}"
            if old:
                # Text encoders once had a level more.
                short = {"unet": "lora_unet", "text_encoder": "lora_te_text_model"}[part]
                name = f"{short}_" + name.partition(".")[2].replace(".", "_")
                down, up = "lora_down", "lora_up"
                tensors[f"{name}.alpha"] = torch.tensor(1.0)
            tensors[f"{name}.{down}.weight"] = torch.randn(2, given)
            tensors[f"{name}.{up}.weight"] = torch.randn(out, 2)
    assert tensors
    save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def all_benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Benches]:
    with studio(tmp_path_factory.mktemp("lora")) as made:
        yield made


@pytest.fixture(scope="module")
def models(all_benches: Benches) -> Path:
    """The folder of all models, with a LoRA for each beside it."""
    for name in FITTING:
        place = all_benches.model(name)
        make_lora(place, place.with_suffix(".safetensors"))
    return all_benches.model("svd").parent


@pytest.fixture
def benches(all_benches: Benches) -> Iterator[Benches]:
    yield all_benches
    all_benches.rest()


@pytest.mark.parametrize("name", FITTING)
def test_a_warm_model_gives_what_a_fresh_one_gives(
    benches: Benches, models: Path, name: str
) -> None:
    bench, path = benches(name), str(models / f"{name}.safetensors")
    plain = bench.clip()
    changed = bench.clip(lora=path)
    assert (changed != plain).any()
    kept = bench.warm._value
    assert not [event for event in bench.seen(Progressed) if event.phase is Phase.LOAD]
    weaker = bench.clip(lora=path, lora_scale=0.25)
    assert (weaker != changed).any()
    assert (weaker != plain).any()
    assert (bench.clip() == plain).all()
    assert (bench.clip(lora=path) == changed).all()
    assert (bench.clip(lora=path, lora_scale=0) == plain).all()
    assert bench.warm._value is kept, "it was loaded again"
    fresh = benches(name, Warm())
    assert (fresh.clip(lora=path) == changed).all()
    assert (fresh.clip() == plain).all()


def test_another_file_under_the_same_name_is_read_anew(
    benches: Benches, models: Path, tmp_path: Path
) -> None:
    bench, path = benches("sd15"), tmp_path / "style.safetensors"
    bench.kept = Kept(tmp_path / "latents")
    shutil.copy(models / "sd15.safetensors", path)
    first = bench.job(lora=str(path))
    one = bench.frames(first)
    bench.frames(first)
    assert bench.seen(Sampled) == [], "the latents that were kept serve"
    make_lora(models / "sd15", path, seed=2)
    os.utime(path, ns=(1, 1))
    two = bench.frames(first)
    assert len(bench.seen(Sampled)) == 2
    assert (one != two).any()


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_the_names_that_trainers_use_are_read(
    benches: Benches, models: Path, tmp_path: Path, part: str
) -> None:
    bench = benches("sd15")
    path = make_lora(models / "sd15", tmp_path / "a.safetensors", part=part, old=True)
    plain = bench.clip()
    changed = bench.clip(lora=str(path))
    assert (changed != plain).any()
    assert (bench.clip() == plain).all()
    new = make_lora(models / "sd15", tmp_path / "b.safetensors", part=part)
    # The old names carry a strength of their own: 1 of the rank of 2.
    assert (bench.clip(lora=str(new), lora_scale=0.5) == changed).all()


@pytest.mark.parametrize(("name", "other"), [
    ("sd15", "sdxl"), ("sdxl", "sd15"), ("sd15", "wan-t2v"), ("wan-t2v", "ltx"),
    ("ltx", "wan-t2v"), ("animatediff", "ltx"), ("wan22-14b", "sd15"),
])  # fmt: skip
def test_one_of_another_family_is_refused_by_name(
    benches: Benches, models: Path, name: str, other: str
) -> None:
    bench = benches(name)
    plain = bench.clip()
    with pytest.raises(ProblemError) as caught:
        bench.clip(lora=str(models / f"{other}.safetensors"))
    problem = caught.value.problem
    assert problem.field == "lora"
    assert f"{other}.safetensors does not fit this model" in problem.message
    phases = [event.phase for event in bench.seen(PhaseStarted)]
    assert phases == [Phase.LOAD], "it was refused too late"
    assert (bench.clip() == plain).all(), "a refused one left something behind"


def test_a_part_that_is_not_there_is_named(benches: Benches, models: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(models / "sd15.safetensors")
    for half, shape in (("A", (2, 8)), ("B", (8, 2))):
        tensors[f"unet.nowhere.to_q.lora_{half}.weight"] = torch.zeros(shape)
    save_file(tensors, tmp_path / "odd.safetensors")
    bench = benches("sd15")
    with pytest.raises(ProblemError) as caught:
        bench.clip(lora=str(tmp_path / "odd.safetensors"))
    count = len(tensors) // 2
    assert f"1 of its {count} parts" in caught.value.problem.message
    assert "unet.nowhere.to_q" in caught.value.problem.message


def test_a_file_that_is_none_is_refused_before_anything_is_loaded(
    benches: Benches, models: Path, tmp_path: Path
) -> None:
    bench = benches("sd15", Warm())
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((models / "sd15.safetensors").read_bytes()[:-1])
    pickle = tmp_path / "style.pt"
    pickle.write_bytes(b"\x80\x04.")
    for path, words in ((cut, "damaged"), (pickle, "can run any program")):
        with pytest.raises(ProblemError) as caught:
            bench.clip(lora=str(path))
        assert caught.value.problem.field == "lora"
        assert words in caught.value.problem.message
        assert bench.warm._value is None
    with pytest.raises(ProblemError) as caught:
        bench.job(lora=str(tmp_path / "nowhere.safetensors"))
    assert caught.value.problem.category is Category.INVALID_PARAMS


def test_motion_alone_can_be_changed(benches: Benches, models: Path, tmp_path: Path) -> None:
    """A motion LoRA of AnimateDiff: its layers are called as the motion modules are."""
    import torch
    from safetensors.torch import save_file

    bench = benches("animatediff")
    plain = bench.clip()
    unet = bench.warm._value.pipe.unet  # type: ignore[union-attr]
    tensors = {}
    torch.manual_seed(3)
    for key, weight in unet.state_dict().items():
        if "motion_modules" in key and key.endswith("to_q.weight"):
            name = "unet." + key.removesuffix(".weight")
            tensors[f"{name}.lora_A.weight"] = torch.randn(2, weight.shape[1])
            tensors[f"{name}.lora_B.weight"] = torch.randn(weight.shape[0], 2)
    assert tensors
    save_file(tensors, tmp_path / "zoom.safetensors")
    assert (bench.clip(lora=str(tmp_path / "zoom.safetensors")) != plain).any()
    assert (bench.clip() == plain).all()


def test_a_file_for_one_half_goes_to_that_half(
    benches: Benches, models: Path, tmp_path: Path
) -> None:
    bench = benches("wan22-14b")
    sides = {}
    for word, into in (("low_noise", {"transformer_2"}), ("high_noise", {"transformer"}),
                       ("plain", {"transformer", "transformer_2"})):  # fmt: skip
        path = Path(shutil.copy(models / "wan22-14b.safetensors", tmp_path / f"{word}.safetensors"))
        sides[word] = bench.clip(lora=str(path))
        pipe = bench.warm._value.pipe  # type: ignore[union-attr]
        on = set()
        for part in ("transformer", "transformer_2"):
            names = [name for name, _ in getattr(pipe, part).named_parameters()]
            on |= {part} if any("lora_A" in name for name in names) else set()
        assert on == into, word
    assert (sides["low_noise"] != sides["plain"]).any()


def test_a_dora_tells_what_is_left_out(benches: Benches, models: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(models / "sd15.safetensors")
    name = next(iter(tensors)).split(".lora_")[0]
    tensors[f"{name}.dora_scale"] = torch.ones(8, 1)
    save_file(tensors, tmp_path / "dora.safetensors")
    bench = benches("sd15")
    bench.clip(lora=str(tmp_path / "dora.safetensors"))
    assert any("DoRA" in event.text for event in bench.seen(Noted))


def test_cancel_while_it_is_put_on_leaves_nothing_behind(
    benches: Benches, models: Path, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(models / "sd15.safetensors")
    tensors["x.dora_scale"] = torch.ones(1)
    save_file(tensors, tmp_path / "dora.safetensors")
    bench = benches("sd15")
    plain = bench.clip()
    bench.stop = lambda event: isinstance(event, Noted)
    with pytest.raises(Cancelled):
        bench.clip(lora=str(tmp_path / "dora.safetensors"))
    bench.stop = lambda event: False
    assert (bench.clip() == plain).all()


def test_the_knobs_are_there_where_a_lora_can_be_put_on(models: Path) -> None:
    for name in NAMES:
        knobs = {knob.name: knob for knob in families.recipe_for_folder(models / name).parameters}
        assert (lora.FIELD in knobs) == (lora.SCALE in knobs) == (name != "svd"), name
        if lora.FIELD in knobs:
            assert (knobs["lora"].kind, knobs["lora"].required) == (Kind.IMAGE, False)
            assert knobs["lora"].group, "it would be carried along to other models"


def test_a_lora_that_lacks_a_half_says_which(benches: Benches, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = benches.model("sd15")
    path = make_lora(model, tmp_path / "half.safetensors", old=True)
    tensors = {key: one for key, one in load_file(path).items() if "lora_up" not in key}
    save_file(tensors, path)
    with pytest.raises(ProblemError, match=r"it lacks lora_unet_.*lora_up\.weight"):
        benches("sd15").clip(lora=str(path))

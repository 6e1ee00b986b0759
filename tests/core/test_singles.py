"""Models in a single file: known by their tensors, run with what lies beside them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from core.engines.local import detect, families, lora, singles
from core.engines.local.warm import Warm
from core.errors import ProblemError
from tests.core import single_files
from tests.core.family_fixtures import Benches, Small, studio

WRITE: dict[str, Callable[[Path, Path], Path]] = {
    "sd15": single_files.stable_diffusion,
    "sdxl": single_files.stable_diffusion,
    "animatediff": single_files.motion_adapter,
    "wan-t2v": single_files.wan,
    "ltx": single_files.ltx,
}
HELD = {
    "sd15": {"unet", "vae", "text_encoder"},
    "sdxl": {"unet", "vae", "text_encoder", "text_encoder_2"},
    "animatediff": {"motion_adapter"},
    "wan-t2v": {"transformer"},
    "ltx": {"transformer"},
}


@pytest.fixture(scope="module")
def all_benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Benches]:
    with studio(tmp_path_factory.mktemp("singles")) as made:
        yield made


@pytest.fixture
def benches(all_benches: Benches) -> Iterator[Benches]:
    yield all_benches
    all_benches.rest()


def laid_out(benches: Benches, name: str, place: Path) -> Path:
    """Return a single file in `place`, and beside it a folder that lacks what the file holds."""
    model = benches.model(name)
    place.mkdir(exist_ok=True)
    file = WRITE[name](model, place / f"{name}-file.safetensors")
    rest = Path(shutil.copytree(model, place / "settings"))
    for part in HELD[name]:
        for weights in (rest / part).glob("*.safetensors"):
            weights.unlink()
    return file


@pytest.mark.parametrize("name", list(WRITE))
def test_a_file_gives_what_its_folder_gives(
    benches: Benches, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    file = laid_out(benches, name, tmp_path / "models")
    wanted = benches(name).clip()

    def connect(*_given: object) -> None:
        raise AssertionError("it asked the network")

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert detect.family_of(file) == families.recipe_for_folder(benches.model(name)).family
    bench = Small(file, benches.start(), tmp_path, Warm())
    try:
        assert bench.recipe.model == str(file)
        assert bench.recipe.title.startswith(f"{name}-file ·")
        found = bench.clip()
        # A matrix that was turned round lies otherwise in memory, and sums in another order.
        most = 1 if name == "sdxl" else 0
        assert np.abs(found.astype(int) - wanted).max() <= most
    finally:
        bench.ring.close()
        bench.warm.drop()
    own, problems = families.own_recipes([file])
    assert bench.recipe in own
    assert problems == []


@pytest.mark.parametrize("middle", [True, False])
def test_a_motion_adapter_tells_its_settings_itself(tmp_path: Path, middle: bool) -> None:
    import diffusers
    from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers
    from safetensors.torch import load_file

    from core.engines.local.singles_load import adapter_settings

    made = diffusers.MotionAdapter(
        block_out_channels=(32, 64), motion_max_seq_length=24, use_motion_mid_block=middle
    )
    made.save_pretrained(tmp_path / "motion_adapter")
    file = single_files.motion_adapter(tmp_path, tmp_path / "mm.safetensors", length=24)
    assert singles.kind_of(file).held == {"motion_adapter"}
    tensors = load_file(file)
    found = adapter_settings(tensors, convert_animatediff_checkpoint_to_diffusers(dict(tensors)))
    again = diffusers.MotionAdapter.from_config(found)
    settings = {key: value for key, value in made.config.items() if not key.startswith("_")}
    assert {key: again.config[key] for key in settings} == settings


@pytest.mark.parametrize("name", list(WRITE))
def test_what_is_missing_beside_it_is_named(benches: Benches, tmp_path: Path, name: str) -> None:
    file = WRITE[name](benches.model(name), tmp_path / "alone.safetensors")
    other = "ltx" if name != "ltx" else "sd15"
    shutil.copytree(benches.model(other), tmp_path / "another")
    with pytest.raises(ProblemError) as caught:
        families.recipe_for_folder(file)
    problem = caught.value.problem
    assert "alone.safetensors" in problem.message
    assert "tokenizer" in problem.message
    assert "beside the file" in problem.hint
    shutil.copytree(benches.model(name), tmp_path / "settings")
    shutil.rmtree(tmp_path / "settings" / "tokenizer")
    with pytest.raises(ProblemError) as caught:
        families.recipe_for_folder(file)
    assert "its part tokenizer is missing" in caught.value.problem.message


def test_a_folder_of_its_own_name_comes_first(benches: Benches, tmp_path: Path) -> None:
    file = laid_out(benches, "sd15", tmp_path)
    assert singles.check(file, _layout("stable_diffusion")).path == tmp_path / "settings"
    shutil.copytree(tmp_path / "settings", tmp_path / file.stem)
    assert singles.check(file, _layout("stable_diffusion")).path == tmp_path / file.stem


def _layout(family: str) -> singles.folders.Layout:
    found: singles.folders.Layout = families.load(family).LAYOUT  # type: ignore[attr-defined]
    return found


def test_settings_of_another_size_are_told(benches: Benches, tmp_path: Path) -> None:
    import json

    file = laid_out(benches, "sd15", tmp_path)
    config = tmp_path / "settings/unet/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "cross_attention_dim": 32}))
    bench = Small(file, benches.start(), tmp_path, Warm())
    try:
        with pytest.raises(ProblemError) as caught:
            bench.clip()
        assert "The part unet in sd15-file.safetensors does not fit" in caught.value.problem.message
        assert bench.warm._value is None
    finally:
        bench.ring.close()


def test_a_file_that_lacks_a_tensor_is_told(benches: Benches, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = laid_out(benches, "wan-t2v", tmp_path)
    tensors = load_file(file)
    del tensors["blocks.1.self_attn.q.weight"]
    save_file(tensors, file)
    bench = Small(file, benches.start(), tmp_path, Warm())
    try:
        with pytest.raises(ProblemError) as caught:
            bench.clip()
        assert "it lacks weights that they ask for" in caught.value.problem.message
    finally:
        bench.ring.close()


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"double_blocks.0.img_attn.qkv.weight": (2, 2)}, "is a model that is not known"),
        ({"unet.down.0.lora_A.weight": (2, 2)}, "is a LoRA"),
        ({"down_blocks.0.resnets.0.conv1.weight": (2, 2)}, "is one part of a model"),
        ({"model.diffusion_model.input_blocks.0.0.weight": (8, 9, 3, 3)}, "inpainting"),
        ({"head.modulation": (1, 2), "patch_embedding.weight": (2, 2),
          "vace_blocks.0.after_proj.bias": (2,)}, "not known"),
        ({}, "the first is nothing"),
    ],
)  # fmt: skip
def test_a_file_that_is_something_else_is_refused_by_name(
    tmp_path: Path, tensors: dict[str, tuple[int, ...]], words: str
) -> None:
    import torch
    from safetensors.torch import save_file

    file = tmp_path / "odd.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, file)
    with pytest.raises(ProblemError) as caught:
        families.recipe_for_folder(file)
    assert "odd.safetensors" in caught.value.problem.message
    assert words in caught.value.problem.message
    assert caught.value.problem.hint
    recipes, problems = families.own_recipes([file])
    assert (recipes, len(problems)) == ([], 1)


def test_damaged_files_and_pickles_are_refused(benches: Benches, tmp_path: Path) -> None:
    file = laid_out(benches, "wan-t2v", tmp_path)
    file.write_bytes(file.read_bytes()[:-4])
    pickle = tmp_path / "model.ckpt"
    pickle.write_bytes(b"\x80\x04.")
    for path, words in ((file, "damaged"), (pickle, "is a pickle")):
        with pytest.raises(ProblemError) as caught:
            families.recipe_for_folder(path)
        assert words in caught.value.problem.message


def header(path: Path, tensors: dict[str, tuple[int, ...]]) -> Path:
    """Write a file of zeros with such tensors."""
    told, at = {}, 0
    for name, shape in tensors.items():
        size = 2 * math.prod(shape)
        told[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(told).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(at))
    return path


UNET = "model.diffusion_model."


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({f"{UNET}input_blocks.0.0.weight": (8, 9, 3, 3)}, "inpainting"),
        ({f"{UNET}input_blocks.0.0.weight": (8, 8, 3, 3)}, "edits pictures"),
        (
            {
                f"{UNET}input_blocks.0.0.weight": (8, 4, 3, 3),
                f"{UNET}label_emb.0.0.weight": (2, 2560),
            },
            "a refiner",
        ),
        ({"control_model.input_blocks.0.0.weight": (8, 4, 3, 3)}, "a ControlNet"),
        ({"first_stage_model.decoder.conv_in.weight": (2, 2)}, "an autoencoder"),
        ({"decoder.conv_in.weight": (2, 2)}, "an autoencoder"),
        ({"conv_first.weight": (2, 2), "body.0.rdb1.conv1.weight": (2, 2)}, "an upscale model"),
        ({"emb_params": (2, 2)}, "an embedding"),
        ({"lora_unet_x.lora_down.weight": (2, 2)}, "a LoRA"),
        ({}, "holds 0 tensors"),
    ],
)
def test_what_is_no_model_is_called_by_its_name(
    tmp_path: Path, tensors: dict[str, tuple[int, ...]], words: str
) -> None:
    file = header(tmp_path / "größer als .safetensors", tensors)
    with pytest.raises(ProblemError, match=words):
        singles.kind_of(file)
    assert words in families.own_recipes([file])[1][0].message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "damaged"),
        (b"PK\x03\x04" + bytes(400), "pickle"),
        (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}", "pickle"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "damaged"),
        ((100_005).to_bytes(8, "little") + b'{"a":' + b"[" * 100_000, "damaged"),
    ],
)
def test_a_file_of_another_kind_under_that_name_is_refused(
    tmp_path: Path, data: bytes, words: str
) -> None:
    file = tmp_path / "style.safetensors"
    file.write_bytes(data)
    with pytest.raises(ProblemError, match=words):
        singles.kind_of(file)
    with pytest.raises(ProblemError, match=words) as raised:
        lora.asked({"lora": str(file)})
    assert raised.value.problem.field == "lora"


def test_a_link_to_itself_is_told(tmp_path: Path) -> None:
    file = tmp_path / "loop.safetensors"
    file.symlink_to(file)
    assert families.own_recipes([file])[0] == []
    with pytest.raises(ProblemError, match="cannot be read"):
        singles.kind_of(file)

"""Model folders: every kind of damage is found before loading, and named."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from core.engines.local import folders
from core.errors import Category, Problem, ProblemError


def write_weights(path: Path, *, floats: int = 6) -> None:
    """Write a small sound safetensors file by hand."""
    header = {"w": {"dtype": "F32", "shape": [floats], "data_offsets": [0, 4 * floats]}}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4 * floats))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A sound model folder with all its parts."""
    folder = tmp_path / "model"
    for part, classes in folders.MODELS.items():
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps({"_class_name": classes[0]}))
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        write_weights(folder / part / f"{stem}.safetensors")
    for part, names in folders.CONFIGS.items():
        (folder / part).mkdir()
        (folder / part / names[0]).write_text("{}")
    (folder / folders.INDEX).write_text(json.dumps({"_class_name": "AnimateDiffPipeline"}))
    return folder


def weights(model: Path, part: str = "unet") -> Path:
    return next((model / part).glob("*.safetensors"))


def problem_of(folder: Path) -> Problem:
    with pytest.raises(ProblemError) as caught:
        folders.check(folder)
    problem = caught.value.problem
    assert problem.category is Category.MODEL_NOT_FOUND
    assert problem.message.endswith(".")
    assert problem.hint.endswith(".")
    assert str(folder.name) in problem.details
    return problem


def test_a_sound_folder_is_described(model: Path) -> None:
    found = folders.check(model)
    assert found.pipeline == "AnimateDiffPipeline"
    assert found.classes["unet"] == "UNet2DConditionModel"
    assert set(found.variants.values()) == {None}
    assert found.weights_bytes == sum(f.stat().st_size for f in model.rglob("*.safetensors"))


def test_stable_diffusion_with_a_motion_adapter_will_do(model: Path) -> None:
    (model / folders.INDEX).write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    assert folders.check(model).pipeline == "StableDiffusionPipeline"


def test_half_precision_files_are_found(model: Path) -> None:
    whole = weights(model)
    whole.rename(whole.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert folders.check(model).variants["unet"] == "fp16"


def test_a_missing_folder(tmp_path: Path) -> None:
    assert "not there" in problem_of(tmp_path / "nowhere").message


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "empty" in problem_of(tmp_path).message


def test_a_folder_without_an_index(model: Path) -> None:
    (model / folders.INDEX).unlink()
    assert folders.INDEX in problem_of(model).message


def test_an_index_that_is_no_json(model: Path) -> None:
    (model / folders.INDEX).write_text('{"_class_name": "Anim')
    message = problem_of(model).message
    assert "damaged" in message
    assert folders.INDEX in message


def test_an_unknown_pipeline_is_refused_by_name(model: Path) -> None:
    (model / folders.INDEX).write_text(json.dumps({"_class_name": "FluxPipeline"}))
    assert "FluxPipeline" in problem_of(model).message


def test_a_part_of_another_kind_is_refused_by_name(model: Path) -> None:
    (model / "unet/config.json").write_text(json.dumps({"_class_name": "FluxTransformer2DModel"}))
    assert "FluxTransformer2DModel" in problem_of(model).message


@pytest.mark.parametrize("part", [*folders.MODELS, *folders.CONFIGS])
def test_every_missing_part_is_named(model: Path, part: str) -> None:
    shutil.rmtree(model / part)
    assert part in problem_of(model).message


@pytest.mark.parametrize("part", [*folders.MODELS, *folders.CONFIGS])
def test_every_emptied_part_is_named(model: Path, part: str) -> None:
    for file in (model / part).iterdir():
        file.unlink()
    message = problem_of(model).message
    assert part in message


@pytest.mark.parametrize("part", list(folders.MODELS))
@pytest.mark.parametrize("keep", [0, 5, 20, -1])
def test_a_truncated_file_is_named(model: Path, part: str, keep: int) -> None:
    path = weights(model, part)
    path.write_bytes(path.read_bytes()[:keep])
    message = problem_of(model).message
    assert f"{part}/{path.name}" in message
    assert "damaged" in message


def test_a_file_with_bytes_behind_its_end_is_damaged(model: Path) -> None:
    path = weights(model)
    path.write_bytes(path.read_bytes() + b"x")
    assert "damaged" in problem_of(model).message


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [7], "data_offsets": [0, 24]},
        {"dtype": "F99", "shape": [6], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [6]},
        {"dtype": "F32", "shape": [5], "data_offsets": [4, 24]},
        "nonsense",
    ],
)
def test_a_header_that_lies_is_damaged(model: Path, entry: object) -> None:
    text = json.dumps({"w": entry}).encode()
    weights(model).write_bytes(struct.pack("<Q", len(text)) + text + bytes(24))
    assert "damaged" in problem_of(model).message


@pytest.mark.parametrize("header", [b"\x80\x02}q\x00.", b"[1]", b"{" + b"\xff" * 5])
def test_a_header_that_is_no_json_object_is_damaged(model: Path, header: bytes) -> None:
    weights(model).write_bytes(struct.pack("<Q", len(header)) + header)
    assert "damaged" in problem_of(model).message


@pytest.mark.parametrize("suffix", folders.PICKLES)
def test_pickles_are_refused_with_the_reason(model: Path, suffix: str) -> None:
    path = weights(model)
    path.rename(path.with_suffix(suffix))
    problem = problem_of(model)
    assert path.with_suffix(suffix).name in problem.message
    assert "run any program" in problem.message
    assert "safetensors" in problem.hint


@pytest.mark.parametrize("suffix", folders.PICKLES)
def test_a_lone_pickle_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"\x80\x02}q\x00.")
    assert "pickle" in problem_of(path).message
    assert "pickle" in problem_of(tmp_path).message


def test_a_pickle_beside_sound_weights_is_not_read(model: Path) -> None:
    (model / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02.")
    assert folders.check(model).variants["unet"] is None


def test_a_single_safetensors_file_is_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_weights(path)
    assert "not a model folder" in problem_of(path).message


def test_shards_must_all_be_there(model: Path) -> None:
    whole = weights(model)
    names = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for name in names:
        shutil.copy(whole, whole.with_name(name))
    whole.unlink()
    listing = model / "unet/diffusion_pytorch_model.safetensors.index.json"
    listing.write_text(json.dumps({"weight_map": {"a": names[0], "b": names[1]}}))
    folders.check(model)
    (model / "unet" / names[1]).unlink()
    assert names[1] in problem_of(model).message


def test_looking_needs_no_torch(model: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from core.engines.local import folders;"
        "from core.engines.local.families import animatediff;"
        f"folders.check(Path({str(model)!r})); animatediff.recipes(Path('models'));"
        "print([name for name in ('torch', 'diffusers', 'numpy') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"

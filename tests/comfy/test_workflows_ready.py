"""What a server lacks for a workflow is told before anything is sent."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from core.engines.comfy import knobs, ready, workflows_files
from core.engines.comfy.models import Known
from core.engines.comfy.ready import Lack
from tests.comfy.samples import graph, object_info, with_options

KNOWN = Known.load()
BUILT_IN = {workflow.id: workflow for workflow in workflows_files.built_in()}
FOLDERS = {
    "checkpoints": ["rig_sd15_random.safetensors", "rig_svd_random.safetensors"],
    "vae": ["rig_wan21_vae_random.safetensors", "rig_wan22_vae_random.safetensors"],
    "text_encoders": ["rig_umt5_2layer_random.safetensors"],
    "diffusion_models": object_info()["UNETLoader"]["input"]["required"]["unet_name"][0],
    "clip_vision": ["rig_clip_vision_h_random.safetensors"],
    "animatediff_models": ["rig_mm_sd_v15_v2_random.safetensors"],
    "loras": [],
}
GB = 2**30


def check(name: str, info: dict[str, Any] | None = None, **more: Any) -> ready.Readiness:
    """The readiness of a workflow that ships."""
    folders = more.pop("folders", FOLDERS)
    return ready.readiness(BUILT_IN[name], info or object_info(), folders, known=KNOWN, **more)


@pytest.mark.parametrize(
    "name", sorted(set(BUILT_IN) - {"wan22-14b-t2i", "wan22-14b-t2v", "sdxl-image"})
)
def test_what_the_recorded_server_has_is_ready(name: str) -> None:
    found = check(name)
    assert found.missing == ()
    assert found.ready
    assert found.vram_ok is None
    models = {knob.parameter.name for knob in BUILT_IN[name].knobs if knob.folder}
    assert len(found.models_found) == len(models)


def test_missing_experts_are_told_with_their_folder() -> None:
    found = check("wan22-14b-t2v")
    assert not found.ready
    assert [item.kind for item in found.missing] == [Lack.FILE, Lack.FILE]
    assert {item.name for item in found.missing} == {
        "wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors",
        "wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors",
    }
    assert {item.place for item in found.missing} == {"diffusion_models"}
    assert "rig_umt5_2layer_random.safetensors" in found.models_found


def test_a_file_that_goes_or_comes_flips_it_in_one_look() -> None:
    def look(names: list[str]) -> ready.Readiness:
        info = with_options(VAELoader__vae_name=[*names, "pixel_space"])
        return check("wan21-t2v", info, folders=FOLDERS | {"vae": names})

    assert look(["wan_2.1_vae.safetensors"]).ready
    gone = look([])
    assert not gone.ready
    assert [item.place for item in gone.missing] == ["vae"]
    assert look(["sub/wan_2.1_vae.safetensors"]).ready


def test_missing_nodes_name_their_pack() -> None:
    info = {k: v for k, v in object_info().items() if not k.startswith("ADE_")}
    found = check("animatediff-t2v", info)
    assert {item.name for item in found.missing if item.kind is Lack.NODE} == {
        *("ADE_LoadAnimateDiffModel", "ADE_ApplyAnimateDiffModelSimple"),
        *("ADE_UseEvolvedSampling", "ADE_StandardUniformContextOptions"),
    }
    for item in found.missing:
        if item.kind is Lack.NODE:
            assert item.place == "ComfyUI-AnimateDiff-Evolved"
            assert item.source == "https://github.com/Kosinkadink/ComfyUI-AnimateDiff-Evolved"
            assert "Install" in item.hint
    old = {k: v for k, v in object_info().items() if k != "Wan22ImageToVideoLatent"}
    (lack,) = check("wan22-5b-t2v", old).missing
    assert "Update ComfyUI" in lack.hint


def test_packs_that_a_file_names_are_believed() -> None:
    own = graph("01_sd15")
    own["3"]["class_type"] = "NodeOfNobody"
    listed = knobs.find(own, object_info(), KNOWN)
    made = knobs.workflow_from(own, listed, "Mine")
    packs = {"NodeOfNobody": "someone/some-pack"}
    found = ready.readiness(made, object_info(), FOLDERS, known=KNOWN, packs=packs)
    (lack,) = found.missing
    assert (lack.place, lack.source) == ("some-pack", "https://github.com/someone/some-pack")
    (lack,) = ready.readiness(made, object_info(), FOLDERS, known=KNOWN).missing
    assert lack.place == ""
    assert "ComfyUI-Manager" in lack.hint


def test_near_names_are_offered() -> None:
    info = with_options(CheckpointLoaderSimple__ckpt_name=["sd_xl_base_1.1.safetensors"])
    (lack,) = check(
        "sdxl-image", info, params={"checkpoint": "sd_xl_base_1.0.safetensors"} | REST, folders={}
    ).missing
    assert lack.near == ("sd_xl_base_1.1.safetensors",)
    assert "choose sd_xl_base_1.1.safetensors" in lack.hint


REST = {"sampler": "euler", "scheduler": "simple"}


def test_the_same_file_in_a_subfolder_is_offered_first() -> None:
    info = with_options(CheckpointLoaderSimple__ckpt_name=["xl\\sd_xl_base_1.0.safetensors"])
    params = {"checkpoint": "sd_xl_base_1.0.safetensors"} | REST
    (lack,) = check("sdxl-image", info, params=params, folders={}).missing
    assert lack.hint == "It is there as xl\\sd_xl_base_1.0.safetensors; choose that."


def test_misplaced_files_are_told() -> None:
    name = "wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors"
    found = check("wan22-14b-t2v", folders=FOLDERS | {"checkpoints": [f"wan/{name}"]})
    lack = next(item for item in found.missing if item.name == name)
    assert lack.elsewhere == ("checkpoints",)
    assert lack.hint == "It lies in checkpoints; move it to diffusion_models."


def test_duplicates_are_told_and_do_no_harm() -> None:
    vae = "rig_wan21_vae_random.safetensors"
    found = check("wan21-t2v", folders=FOLDERS | {"vae": [vae, f"old/{vae}"]})
    assert found.ready
    (double,) = found.duplicates
    assert (double.name, double.used) == (vae, vae)
    assert double.places == (f"vae/{vae}", f"vae/old/{vae}")


def test_a_server_without_savers_is_not_ready() -> None:
    savers = ("VHS_VideoCombine", "SaveVideo", "SaveWEBM")
    info = {k: v for k, v in object_info().items() if k not in savers}
    (lack,) = check("svd-i2v", info).missing
    assert (lack.kind, lack.place) == (Lack.SAVER, "ComfyUI-VideoHelperSuite")
    assert check("sd15-image", info).ready


@pytest.mark.parametrize(
    ("free", "total", "ok", "note"),
    [
        (None, None, None, False),
        (20 * GB, 24 * GB, True, False),
        (5 * GB, 24 * GB, True, True),
        # A card sold as 12 GB shows a little less.
        (11.9 * GB, int(11.99 * GB), True, True),
        (7 * GB, 8 * GB, False, True),
        (None, 8 * GB, False, True),
    ],
)
def test_memory_is_advice(
    free: int | None, total: int | None, ok: bool | None, *, note: bool
) -> None:
    found = check("svd-xt-i2v", vram_free_bytes=free, vram_total_bytes=total)
    assert found.ready
    assert found.vram_ok is ok
    assert bool(found.notes) is note


def test_readiness_changes_nothing() -> None:
    workflow = BUILT_IN["wan21-t2v"]
    before = copy.deepcopy(workflow)
    check("wan21-t2v")
    assert workflow == before

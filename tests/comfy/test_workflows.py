"""The workflows that ship: every accepted set of values gives a graph a server takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import resources
from core.engines.comfy import graphs_faults, savers, workflows, workflows_files
from core.engines.comfy.graphs import Graph
from core.engines.comfy.workflows import Workflow
from core.jobs import Job, Kind, Parameter, Value, new_job
from tests.comfy.samples import graph, object_info, problem, with_options

PICTURE = str(resources.path("pictures/window.png"))
BUILT_IN = {workflow.id: workflow for workflow in workflows_files.built_in()}
WAN = [name for name in BUILT_IN if name.startswith("wan")]
VIDEOS = [name for name, found in BUILT_IN.items() if found.makes == "video"]
# Two kinds of models were not on the recorded server; the nodes that load them were.
INFO = with_options(
    CheckpointLoaderSimple__ckpt_name=["rig_sd15_random.safetensors", "sd_xl_base_1.0.safetensors"],
    UNETLoader__unet_name=[
        *object_info()["UNETLoader"]["input"]["required"]["unet_name"][0],
        "wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors",
        "wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors",
    ],
)


def values(workflow: Workflow, **given: object) -> dict[str, Value]:
    """Complete values of a workflow, the required ones filled in."""
    recipe = workflow.recipe(INFO)
    names = {p.name for p in recipe.parameters}
    needed = {"prompt": "a fox", "image": PICTURE}
    return recipe.resolve({k: v for k, v in (needed | given).items() if k in names or k in given})


def built(
    workflow: Workflow, params: dict[str, Value], info: dict[str, Any] | None = None
) -> Graph:
    """The graph of a run, with what was uploaded."""
    files = {u.parameter: u.name for u in workflows.uploads(workflow, params, "job")}
    return workflows.graph_for(
        workflow, params, prefix="framedeck/job", info=info or INFO, files=files
    )


def faults(found: Graph, info: dict[str, Any] | None = None) -> tuple[object, ...]:
    """What a server would refuse, the upload being there."""
    return graphs_faults.faults(found, info or INFO, ["framedeck-job-image.png"])


def test_all_that_were_asked_for_are_there() -> None:
    assert set(BUILT_IN) == {
        *("wan21-t2i", "wan21-t2v", "wan21-i2v"),
        *("wan22-14b-t2i", "wan22-14b-t2v", "wan22-14b-i2v", "wan22-5b-t2v", "wan22-5b-i2v"),
        *("animatediff-t2v", "svd-xt-i2v", "svd-i2v", "sd15-image", "sdxl-image"),
    }
    for name, workflow in BUILT_IN.items():
        assert workflow.timeout_seconds == (1200 if workflow.makes == "video" else 600), name
        assert workflows_files.from_json(workflows_files.to_json(workflow)) == workflow
        assert workflow.recipe().engine == "comfy"
        assert workflow.recipe().family == name


@pytest.mark.parametrize("name", BUILT_IN)
def test_defaults_are_taken_by_the_server(name: str) -> None:
    workflow = BUILT_IN[name]
    assert faults(built(workflow, values(workflow))) == ()


def accepted_by(parameter: Parameter) -> st.SearchStrategy[object]:
    """Every value that a parameter takes."""
    p = parameter
    match p.kind:
        case Kind.TEXT:
            return st.text(min_size=1, max_size=40).map(lambda text: "x" + text)
        case Kind.INTEGER:
            assert p.minimum is not None
            assert p.maximum is not None
            step = p.multiple or 1
            first = int(p.nearest(p.minimum))
            return st.integers(0, (int(p.maximum) - first) // step).map(lambda n: first + n * step)
        case Kind.NUMBER:
            return st.floats(p.minimum, p.maximum)
        case Kind.CHOICE:
            return st.sampled_from(p.choices)
        case Kind.SEED:
            return st.integers(0, 2**32 - 1) | st.none()
        case Kind.SWITCH:
            return st.booleans()
        case Kind.IMAGE:
            return st.just(PICTURE)


@pytest.mark.parametrize("name", BUILT_IN)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_accepted_set_of_values_validates(name: str, data: st.DataObject) -> None:
    workflow = BUILT_IN[name]
    recipe = workflow.recipe(INFO)
    # A model that is a last resort in the list, and not there, is what readiness is for.
    drawn = {p.name: data.draw(accepted_by(p), p.name) for p in recipe.parameters}
    params = recipe.resolve(drawn)
    found = built(workflow, params)
    assert faults(found) == ()
    for knob in workflow.knobs:
        for target in knob.targets:
            if target.node in found and knob.parameter.kind is not Kind.IMAGE:
                held = found[target.node]["inputs"][target.input]
                if target.share_of:
                    assert 1 <= held < max(int(params[target.share_of]), 2)
                else:
                    assert held == params[knob.parameter.name]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("saver", savers.VIDEO_SAVERS)
def test_each_saver_validates_where_the_better_ones_are_missing(name: str, saver: str) -> None:
    better = savers.VIDEO_SAVERS[: savers.VIDEO_SAVERS.index(saver)]
    info = {kind: said for kind, said in INFO.items() if kind not in better}
    workflow = BUILT_IN[name]
    found = built(workflow, values(workflow), info)
    assert [node["class_type"] for node in found.values() if node["class_type"] == saver] == [saver]
    assert faults(found, info) == ()


def test_a_video_pack_without_ffmpeg_is_passed_over() -> None:
    info = json.loads(json.dumps(INFO))
    info["VHS_VideoCombine"]["input"]["required"]["format"][0] = ["image/gif", "image/webp"]
    assert savers.video_saver(info) == "SaveVideo"


def test_a_server_that_saves_no_clip_is_told() -> None:
    info = {kind: said for kind, said in INFO.items() if kind not in savers.VIDEO_SAVERS}
    assert "no node that saves clips" in problem(lambda: savers.video_saver(info)).message


# ---- the figures of the feature list ---------------------------------------------------


@pytest.mark.parametrize("frames", [16, 64, 128])
def test_animatediff_takes_16_64_and_128_frames(frames: int) -> None:
    workflow = BUILT_IN["animatediff-t2v"]
    found = built(workflow, values(workflow, frames=frames, fps=24))
    assert faults(found) == ()
    assert found["5"]["inputs"]["batch_size"] == frames
    windows = [n for n in found.values() if n["class_type"] == "ADE_StandardUniformContextOptions"]
    linked = "context_options" in found["22"]["inputs"]
    assert (len(windows), linked) == ((0, False) if frames == 16 else (1, True))


@pytest.mark.parametrize(
    ("field", "value"), [("frames", 15), ("frames", 129), ("fps", 5), ("fps", 25)]
)
def test_animatediff_refuses_what_is_out_of_range(field: str, value: int) -> None:
    told = problem(lambda: values(BUILT_IN["animatediff-t2v"], **{field: value}))
    assert told.field == field
    assert str(value) in told.message
    assert (
        told.hint == f"Use a whole number from {'16 to 128' if field == 'frames' else '6 to 24'}."
    )


@pytest.mark.parametrize(("name", "frames"), [("svd-xt-i2v", 25), ("svd-i2v", 14)])
def test_svd_has_its_frames_and_wants_a_picture(name: str, frames: int) -> None:
    workflow = BUILT_IN[name]
    found = built(workflow, values(workflow))
    assert found["12"]["inputs"]["video_frames"] == frames
    assert found["23"]["inputs"]["image"] == "framedeck-job-image.png"
    assert problem(lambda: values(workflow, frames=frames + 1)).field == "frames"
    assert problem(lambda: values(workflow, image="")).field == "image"
    assert problem(lambda: values(workflow, image="/no/such.png")).field == "image"
    assert workflow.vram_bytes == 12 * 2**30


@pytest.mark.parametrize("name", [name for name in WAN if not name.endswith("t2i")])
def test_wan_refuses_80_frames_with_the_reason(name: str) -> None:
    told = problem(lambda: values(BUILT_IN[name], frames=80))
    assert told.field == "frames"
    assert "Frames 80 cannot be used" in told.message
    assert "a multiple of 4 plus 1" in told.hint


@pytest.mark.parametrize("name", [name for name in WAN if not name.endswith("t2i")])
def test_wan_corrects_80_frames_to_81_where_that_is_set(name: str) -> None:
    recipe = BUILT_IN[name].recipe(INFO)
    fixed, notes = workflows.correct(recipe, {"frames": 80, "width": 830, "fps": 16})
    assert fixed["frames"] == 81
    assert int(str(fixed["width"])) % (32 if "5b" in name else 16) == 0
    assert len(notes) == 2
    assert "Frames 80 became 81." in " ".join(notes)
    # Out of range is no matter of steps.
    assert workflows.correct(recipe, {"frames": 4000})[0] == {"frames": 4000}


@given(frames=st.integers(5, 161))
def test_wan_takes_exactly_4n_plus_1(frames: int) -> None:
    recipe = BUILT_IN["wan21-t2v"].recipe(INFO)
    fixed, _ = workflows.correct(recipe, {"frames": frames})
    assert int(str(fixed["frames"])) % 4 == 1
    assert abs(int(str(fixed["frames"])) - frames) <= 2
    if frames % 4 == 1:
        assert values(BUILT_IN["wan21-t2v"], frames=frames)["frames"] == frames
    else:
        assert problem(lambda: values(BUILT_IN["wan21-t2v"], frames=frames)).field == "frames"


@pytest.mark.parametrize("width", [8, 840, 831, 2064])
def test_wan_sizes_are_multiples_of_16(width: int) -> None:
    told = problem(lambda: values(BUILT_IN["wan21-t2v"], width=width))
    assert told.field == "width"
    assert "multiple of 16" in told.hint


def test_single_frame_workflows_make_one_picture() -> None:
    for name in ("wan21-t2i", "wan22-14b-t2i"):
        workflow = BUILT_IN[name]
        found = built(workflow, values(workflow))
        assert found["40"]["inputs"]["length"] == 1
        assert "SaveImage" in {node["class_type"] for node in found.values()}


@pytest.mark.parametrize(("steps", "share", "at"), [(20, 0.5, 10), (4, 0.25, 1), (2, 0.95, 1)])
def test_both_experts_agree_on_where_they_change(steps: int, share: float, at: int) -> None:
    workflow = BUILT_IN["wan22-14b-i2v"]
    found = built(workflow, values(workflow, steps=steps, switch_at=share, seed=7))
    first, second = found["57"]["inputs"], found["58"]["inputs"]
    assert first["end_at_step"] == second["start_at_step"] == at
    assert first["noise_seed"] == second["noise_seed"] == 7
    assert first["steps"] == second["steps"] == steps


# ---- shapes of the recordings -------------------------------------------------------------


def shape(found: Graph, drop: tuple[str, ...] = ()) -> dict[str, tuple[str, dict[str, object]]]:
    """Classes and links of a graph: what a server's run depends on, without values."""
    return {
        key: (
            node["class_type"],
            {name: v for name, v in node["inputs"].items() if isinstance(v, list)},
        )
        for key, node in found.items()
        if node["class_type"] not in drop
    }


ENDS = (*savers.VIDEO_SAVERS, "CreateVideo", "SaveImage", "SaveAnimatedWEBP")


@pytest.mark.parametrize(
    ("name", "recording"),
    [
        ("sd15-image", "01"),
        ("wan21-t2v", "05"),
        ("wan21-i2v", "07"),
        ("wan22-14b-i2v", "08"),
        ("wan21-t2i", "09"),
        ("wan22-5b-i2v", "10"),
        ("animatediff-t2v", "11"),
        ("svd-xt-i2v", "12"),
    ],
)
def test_graphs_are_linked_as_those_that_ran(name: str, recording: str) -> None:
    workflow = BUILT_IN[name]
    extra = {"frames": 64} if name.startswith("animatediff") else {}
    ours = shape(built(workflow, values(workflow, **extra)), ENDS)
    theirs = shape(graph(recording), ENDS)
    assert ours == theirs


# ---- files, models, uploads ----------------------------------------------------------------


def test_the_best_model_that_is_there_is_the_default() -> None:
    names = ["x.safetensors", "WAN/wan2.1_t2v_1.3B_fp16.safetensors", "mine_wan21_t2v.gguf"]
    workflow = BUILT_IN["wan21-t2v"]
    recipe = workflow.recipe(with_options(UNETLoader__unet_name=names))
    model = next(p for p in recipe.parameters if p.name == "model")
    assert (model.default, model.choices) == (names[1], tuple(names))
    only_like = workflow.recipe(with_options(UNETLoader__unet_name=[names[0], names[2]]))
    assert next(p for p in only_like.parameters if p.name == "model").default == names[2]
    none = workflow.recipe(with_options(UNETLoader__unet_name=["x.safetensors"]))
    model = next(p for p in none.parameters if p.name == "model")
    assert model.default == "wan2.1_t2v_14B_fp8_scaled.safetensors"
    assert model.choices == (model.default, "x.safetensors")


def test_without_a_server_models_are_names_to_type() -> None:
    for workflow in BUILT_IN.values():
        for p in workflow.recipe().parameters:
            if knob := workflow.knob(p.name):
                assert not knob.folder or p.kind is Kind.TEXT


def test_a_job_holds_all_that_its_graph_needs(tmp_path: Path) -> None:
    workflow = BUILT_IN["wan22-14b-i2v"]
    job = new_job(workflow.recipe(INFO), {"prompt": "a fox", "image": PICTURE}, tmp_path)
    again = Job.from_json(json.loads(job.dumps()))
    (upload,) = workflows.uploads(workflow, again.params, again.id)
    assert (str(upload.path), upload.name) == (PICTURE, f"framedeck-{job.id}-image.png")
    found = workflows.graph_for(
        workflow, again.params, prefix=f"framedeck/{job.id}", info=INFO, files={"image": "a.png"}
    )
    assert graphs_faults.faults(found, INFO, ["a.png"]) == ()
    assert found["52"]["inputs"]["image"] == "a.png"
    assert workflow.graph["6"]["inputs"]["text"] == "", "the workflow itself stays as it was"


def test_own_workflows_survive_and_bad_files_are_told(tmp_path: Path) -> None:
    workflow = BUILT_IN["svd-i2v"]
    path = workflows_files.save(tmp_path, workflow)
    assert [item.name for item in tmp_path.iterdir()] == ["svd-i2v.json"]
    assert workflows_files.read(path) == workflow
    (tmp_path / "broken.json").write_text('{"version": 1, "id": "broken"')
    (tmp_path / "old.json").write_text('{"version": 0}')
    (tmp_path / "renamed.json").write_bytes(path.read_bytes())
    good, bad = workflows_files.saved(tmp_path)
    assert good == (workflow,)
    assert {item.name for item, _ in bad} == {"broken.json", "old.json", "renamed.json"}
    assert all(told.hint for _, told in bad)
    assert len(list(tmp_path.iterdir())) == 4, "nothing is deleted"
    assert workflows_files.saved(tmp_path / "none") == ((), ())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", None),
        ("graph", {}),
        ("parameters", [{"name": "x"}]),
        ("parameters", 3),
        ("output", ["99", 0]),
        ("parts", [{"nodes": ["77"], "parameter": "frames", "above": 1}]),
        ("timeout_seconds", "soon"),
    ],
)
def test_a_spoilt_file_is_a_problem(key: str, value: object) -> None:
    data = workflows_files.to_json(BUILT_IN["svd-i2v"])
    data[key] = value
    if value is None:
        del data[key]
    problem(lambda: workflows_files.from_json(data))


@given(
    multiple=st.integers(1, 64),
    offset=st.integers(0, 63),
    low=st.integers(0, 500),
    room=st.integers(64, 2000),
    value=st.integers(-100, 4000),
)
def test_the_nearest_value_is_allowed_and_nearest(
    multiple: int, offset: int, low: int, room: int, value: int
) -> None:
    parameter = Parameter(
        "n", Kind.INTEGER, "N", low, low, low + room, multiple, offset=offset % multiple
    )
    allowed = [n for n in range(low, low + room + 1) if (n - offset % multiple) % multiple == 0]
    near = int(parameter.nearest(value))
    assert parameter.parse(near) == near
    assert abs(near - value) == min(abs(n - value) for n in allowed)
    for wrong in (near + 1, low - 1, low + room + 1):
        if wrong not in allowed:
            assert problem(lambda w=wrong: parameter.parse(w)).field == "n"  # type: ignore[misc]

"""Forms for any graph: what is found, what a person picks, and that it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.engines.comfy import graphs_faults, knobs, workflows, workflows_files
from core.engines.comfy.graphs import Graph
from core.engines.comfy.knobs import Found
from core.engines.comfy.models import Known
from core.jobs import Kind
from tests.comfy.samples import accepted, graph, object_info, problem

KNOWN = Known.load()


def found_in(found: Graph) -> dict[str, Found]:
    """Knobs by parameter name."""
    return {item.knob.parameter.name: item for item in knobs.find(found, object_info(), KNOWN)}


def places(found: dict[str, Found], name: str) -> list[tuple[str, str]]:
    """Inputs that a knob fills."""
    return [(target.node, target.input) for target in found[name].knob.targets]


@pytest.mark.parametrize(
    ("recording", "positive", "negative"),
    [("01", "6", "7"), ("07", "6", "7"), ("08", "6", "7"), ("11", "6", "7")],
)
def test_prompts_are_found_through_links(recording: str, positive: str, negative: str) -> None:
    found = found_in(graph(recording))
    assert places(found, "prompt") == [(positive, "text")]
    assert places(found, "negative_prompt") == [(negative, "text")]


def test_prompts_are_found_although_titles_lie() -> None:
    lying = graph("07_wan21")
    lying["6"]["_meta"] = {"title": "Negative"}
    lying["7"]["_meta"] = {"title": "Positive"}
    assert places(found_in(lying), "prompt") == [("6", "text")]


def test_titles_decide_where_no_link_does() -> None:
    loose: Graph = {
        "1": {
            "class_type": "CLIPTextEncode",
            "inputs": {"text": "x", "clip": ["3", 0]},
            "_meta": {"title": "Negative words"},
        },
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "y", "clip": ["3", 0]}},
        "3": {"class_type": "CLIPLoader", "inputs": {"clip_name": "a.safetensors", "type": "wan"}},
    }
    found = found_in(loose)
    assert places(found, "negative_prompt") == [("1", "text")]
    assert places(found, "prompt") == [("2", "text")]


def test_the_usual_knobs_of_wan() -> None:
    found = found_in(graph("08_wan22"))
    shown = [name for name, item in found.items() if item.shown]
    assert shown[:6] == ["prompt", "negative_prompt", "seed", "width", "height", "frames"]
    frames = found["frames"].knob.parameter
    assert (frames.multiple, frames.offset, frames.minimum) == (4, 1, 1)
    assert found["width"].knob.parameter.multiple == 16
    assert places(found, "seed") == [("57", "noise_seed"), ("58", "noise_seed")]
    assert places(found, "steps") == [("57", "steps"), ("58", "steps")]
    assert places(found, "fps") == [("50", "fps")]
    image = found["image"].knob
    assert (image.parameter.kind, image.parameter.required) == (Kind.IMAGE, True)
    folders = {item.knob.folder for item in found.values() if item.role == "model"}
    assert folders == {"diffusion_models", "text_encoders", "vae"}
    assert not found["sampler"].shown
    assert not any(name.startswith("filename") for name in found)


def test_the_batch_of_animatediff_is_its_length() -> None:
    assert places(found_in(graph("11_anim")), "frames") == [("5", "batch_size")]
    assert "frames" not in found_in(graph("01_sd15"))


def test_a_primitive_is_what_its_user_calls_it() -> None:
    held = graph("01_sd15")
    held["30"] = {"class_type": "PrimitiveInt", "inputs": {"value": 12}}
    held["3"]["inputs"]["steps"] = ["30", 0]
    assert places(found_in(held), "steps") == [("30", "value")]


@pytest.mark.parametrize("found", accepted(), ids=lambda found: found[0])
def test_every_recorded_graph_gets_a_form(found: tuple[str, Graph]) -> None:
    listed = knobs.find(found[1], object_info(), KNOWN)
    names = [item.knob.parameter.name for item in listed]
    labels = [item.knob.parameter.label for item in listed]
    assert len(set(names)) == len(names)
    assert len(set(labels)) == len(labels)
    for item in listed:
        for target in item.knob.targets:
            assert not isinstance(found[1][target.node]["inputs"][target.input], list)


@pytest.mark.parametrize("recording", ["01", "05", "07", "08", "10", "11", "12"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_whatever_is_picked_runs(recording: str, data: st.DataObject) -> None:
    original = graph(recording)
    listed = knobs.find(original, object_info(), KNOWN)
    every = [item.knob.parameter.name for item in listed]
    picked = data.draw(st.lists(st.sampled_from(every), unique=True))
    made = knobs.workflow_from(original, listed, "Mine", names=picked)
    recipe = made.recipe(object_info())
    assert [p.name for p in recipe.parameters] == picked
    needed = {
        p.name: str(Path(__file__)) if p.kind is Kind.IMAGE else "words"
        for p in recipe.parameters
        if p.required
    }
    params = recipe.resolve(needed)
    uploads = {u.parameter: u.name for u in workflows.uploads(made, params, "j")}
    run = workflows.graph_for(made, params, prefix="p", info=object_info(), files=uploads)
    assert graphs_faults.faults(run, object_info(), list(uploads.values())) == ()
    assert set(run) == set(original)
    prefixes = [
        n["inputs"]["filename_prefix"] for n in run.values() if "filename_prefix" in n["inputs"]
    ]
    assert len(set(prefixes)) == len(prefixes)
    assert all(name.startswith("p") for name in prefixes)


def test_values_stay_as_in_the_graph_unless_changed() -> None:
    original = graph("01_sd15")
    made = knobs.workflow_from(original, knobs.find(original, object_info(), KNOWN), "Mine")
    params = made.recipe(object_info()).resolve({"prompt": "a fox", "seed": 5})
    run = workflows.graph_for(made, params, prefix="p", info=object_info())
    assert run["6"]["inputs"]["text"] == "a fox"
    assert run["3"]["inputs"] == original["3"]["inputs"] | {"seed": 5}
    assert run["5"] == original["5"]


def test_a_workflow_of_ones_own_survives(tmp_path: Path) -> None:
    original = graph("08_wan22")
    made = knobs.workflow_from(
        original, knobs.find(original, object_info(), KNOWN), "  My   Fox!/..  ", vram_bytes=2**34
    )
    assert made.own
    assert made.makes == "video"
    path = workflows_files.save(tmp_path, made)
    assert path.parent == tmp_path
    assert path.name.startswith("own-my-fox-")
    assert workflows_files.saved(tmp_path) == ((made,), ())
    assert json.loads(path.read_text(encoding="utf-8"))["version"] == 1


def test_names_that_are_not_there_are_told() -> None:
    original = graph("01_sd15")
    listed = knobs.find(original, object_info(), KNOWN)
    told = problem(lambda: knobs.workflow_from(original, listed, "Mine", names=["speed"]))
    assert "'speed'" in told.message
    assert "prompt" in told.hint
    problem(lambda: knobs.workflow_from(original, listed, "  "))


@pytest.mark.parametrize(
    ("kind", "name", "endings"),
    [
        ("LoadImage", "image", ()),
        ("VHS_LoadVideo", "video", (".mp4", ".webm", ".mkv", ".mov", ".m4v", ".avi", ".gif")),
        ("LoadAudio", "audio", (".wav", ".mp3", ".flac", ".ogg", ".m4a", ".aac", ".opus")),
    ],
)
def test_uploads_say_which_files_they_take(kind: str, name: str, endings: tuple[str, ...]) -> None:
    spec = [["a.bin"], {f"{name}_upload": True}]
    info = {kind: {"input": {"required": {name: spec}}, "output": ["IMAGE"]}}
    found = {"1": {"class_type": kind, "inputs": {name: "a.bin"}}}
    (one,) = knobs.find(found, info, KNOWN)
    parameter = one.knob.parameter
    assert (parameter.kind, parameter.choices, parameter.default) == (Kind.IMAGE, endings, "")

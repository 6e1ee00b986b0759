"""From a workflow that was read to a recipe: drafts, picks and servers to run on."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.engines.comfy import drafts, graphs_faults, workflows, workflows_files
from core.engines.comfy.convert import Converted, to_graph
from core.engines.comfy.models import Known
from core.engines.comfy.workflows import SERVER
from core.errors import ProblemError
from core.jobs import Kind, Parameter
from tests.comfy.samples import accepted, graph, object_info, problem, with_options

KNOWN = Known.load()
BUILT_IN = {one.id: one for one in workflows_files.built_in()}
SERVERS = {"http://127.0.0.1:8188": "ComfyUI :8188", "http://10.0.0.5:8188": "Rig two"}
WAN = graph("05")


def made(found: Any = None, title: str = "my_wan") -> drafts.Draft:
    return drafts.draft(to_graph(found or WAN, object_info()), object_info(), KNOWN, title, "Rig")


# ---- which server -----------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_recipe_names_its_server_before_the_models(name: str) -> None:
    plain = BUILT_IN[name].recipe(object_info())
    recipe = BUILT_IN[name].recipe(object_info(), SERVERS)
    names = [p.name for p in recipe.parameters]
    asked = [n for n in names if n not in (SERVER, "latent_checkpoint")]
    assert asked == [p.name for p in plain.parameters]
    # All of them decode; whether what was sampled is kept before is for the person to say.
    assert names[-1] == "latent_checkpoint"
    assert recipe.parameters[-1].default is False
    at = names.index(SERVER)
    assert recipe.parameters[at].choices == (*SERVERS, "")
    assert recipe.parameters[at].titles == (*SERVERS.values(), "Any that has what it needs")
    assert recipe.parameters[at].default == next(iter(SERVERS))
    assert {p.group for p in recipe.parameters[:at]}.isdisjoint({"models"})
    assert {p.group for p in recipe.parameters[at + 1 : -1]} <= {"models"}
    assert recipe.group == "ComfyUI"


def test_without_any_server_every_job_is_refused() -> None:
    recipe = BUILT_IN["wan21-t2v"].recipe(None, {})
    assert SERVER not in {p.name for p in recipe.parameters}
    told = problem(lambda: recipe.resolve({"prompt": "a fox"}))
    assert (told.field, "none is known" in told.message) == (SERVER, True)


# ---- models that are not there yet --------------------------------------------------------


def test_a_model_that_is_not_listed_is_taken_and_a_method_is_not() -> None:
    recipe = BUILT_IN["wan21-t2v"].recipe(object_info(), SERVERS)
    given = {"prompt": "a fox", "model": "comes tonight.gguf"}
    assert recipe.resolve(given)["model"] == "comes tonight.gguf"
    assert problem(lambda: recipe.resolve({**given, "sampler": "mine"})).field == "sampler"
    for bad in ("", "  ", "a\nb", "x" * 500):
        assert problem(lambda b=bad: recipe.resolve({**given, "model": b})).field == "model"  # type: ignore[misc]


def test_long_lists_are_told_in_short() -> None:
    choices = tuple(f"lora-{n}.safetensors" for n in range(300))
    told = Parameter("a", Kind.CHOICE, "A", choices[0], choices=choices).range_text()
    assert told.startswith("Choose one of: lora-0.safetensors, ")
    assert told.endswith(" and 284 more.")
    assert len(told) < 400


# ---- drafts -------------------------------------------------------------------------------


def test_the_title_is_the_files_name_in_words() -> None:
    assert made().title == "my wan"
    assert drafts.named("  a__b\n\u202ec  ") == "a b c"
    assert drafts.named("\n") == "Workflow"
    assert len(drafts.named("x" * 300)) == 80


@pytest.mark.parametrize("found", accepted(), ids=lambda found: found[0])
def test_every_recorded_graph_becomes_a_draft_or_says_what_lacks(found: Any) -> None:
    try:
        draft = made(found[1])
    except ProblemError as error:
        assert error.problem.field == "workflow"
        assert error.problem.hint
        return
    assert drafts.picked(draft, "A", {}).knobs == ()


def test_missing_nodes_are_told_with_packs_near_names_and_where_to_get_them() -> None:
    found = {
        "1": {"class_type": "WanVideoSampler", "inputs": {}},
        "2": {"class_type": "KSamplr", "inputs": {}},
        "3": {"class_type": "Nobody knows", "inputs": {}},
    }
    read = Converted(found, (), {"WanVideoSampler": "", "KSamplr": "", "Nobody knows": "a/b-pack"})
    told = problem(lambda: drafts.draft(read, object_info(), KNOWN, "x", "Rig"))
    assert told.message.startswith("Rig lacks 3 nodes of this workflow: WanVideoSampler, KSamplr")
    assert "ComfyUI-WanVideoWrapper, b-pack" in told.hint
    assert "it has KSampler" in told.details
    assert "https://github.com/a/b-pack" in told.details


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda g: g["3"]["inputs"].pop("positive"), "positive"),
        (lambda g: g["3"]["inputs"].update(positive=["40", 0]), "positive"),
        (lambda g: [g.pop(k) for k in list(g) if g[k]["class_type"] in _ENDS], "saves or shows"),
    ],
)
def test_what_no_form_can_mend_is_refused(change: Any, words: str) -> None:
    found = graph("05")
    change(found)
    assert words in problem(lambda: made(found)).message


_ENDS = (
    *("SaveVideo", "SaveWEBM", "SaveAnimatedWEBP", "VHS_VideoCombine", "SaveImage"),
    *("PreviewImage", "SaveAnimatedPNG"),
)


def test_a_missing_model_is_no_fault_of_the_workflow() -> None:
    info = with_options(UNETLoader__unet_name=["other.safetensors"])
    found = drafts.draft(to_graph(WAN, info), info, KNOWN, "x", "Rig")
    assert drafts.picked(found, "x", {"prompt": "Prompt"}).title == "x"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_is_picked_edited_and_named_runs(data: st.DataObject) -> None:
    draft = made()
    names = [one.knob.parameter.name for one in draft.found]
    pick = st.lists(st.sampled_from(names), unique=True, max_size=12)
    labels = {n: data.draw(st.text(max_size=90)) for n in data.draw(pick)}
    first = drafts.picked(draft, "A", labels)
    assert [k.parameter.name for k in first.knobs] == list(labels)
    assert all(k.parameter.label.strip() for k in first.knobs)
    assert workflows_files.from_json(workflows_files.to_json(first)) == first
    job = first.recipe(object_info(), SERVERS).resolve(_needed(first))
    again = drafts.draft_of(first, object_info(), KNOWN)
    kept = {one.knob.parameter.name: one.knob.parameter.label for one in again.found if one.shown}
    assert list(kept) == list(labels)
    every = [one.knob.parameter.name for one in again.found]
    assert len(set(every)) == len(every) == len(names), "nothing twice, nothing lost"
    more = data.draw(st.lists(st.sampled_from(every), unique=True, max_size=12))
    second = drafts.picked(
        again, "B" + data.draw(st.text(max_size=90), "title"), dict.fromkeys(more, "")
    )
    assert (second.id, second.graph) == (first.id, first.graph)
    # The older job runs with the newer form.
    ready = workflows.graph_for(second, job, prefix="x", info=object_info())
    assert graphs_faults.faults(ready, object_info(), ["a.png"]) == ()


def _needed(workflow: workflows.Workflow) -> dict[str, object]:
    from core import resources

    picture = str(resources.path("pictures/window.png"))
    return {k.parameter.name: picture for k in workflow.knobs if k.parameter.kind is Kind.IMAGE}


def test_without_a_server_an_edit_offers_what_there_is() -> None:
    first = drafts.picked(made(), "A", {"prompt": "Words", "steps": "Steps"})
    again = drafts.draft_of(first, None, KNOWN)
    assert [one.knob for one in again.found] == list(first.knobs)
    assert again.before == first
    kept = dataclasses.replace(first, vram_bytes=7, timeout_seconds=5.0, notice="mine")
    edited = drafts.picked(drafts.draft_of(kept, None, KNOWN), "B", {"steps": "How many"})
    assert (edited.vram_bytes, edited.timeout_seconds, edited.notice) == (7, 5.0, "mine")
    assert (edited.title, edited.id, edited.own) == ("B", first.id, True)


def test_names_that_are_not_there_and_empty_titles_are_told() -> None:
    assert problem(lambda: drafts.picked(made(), " \n", {})).hint
    assert "nothing" in problem(lambda: drafts.picked(made(), "A", {"nothing": "x"})).message


def test_a_knob_shown_later_leaves_older_jobs_their_graph() -> None:
    workflow = BUILT_IN["sd15-image"]
    params = workflow.recipe(object_info()).resolve({"prompt": "a fox", "seed": 3})
    del params["steps"]
    found = workflows.graph_for(workflow, params, prefix="x", info=object_info())
    sampler = next(n for n in found.values() if n["class_type"] == "KSampler")
    held = next(n for n in workflow.graph.values() if n["class_type"] == "KSampler")
    assert sampler["inputs"]["steps"] == held["inputs"]["steps"]
    assert sampler["inputs"]["seed"] == 3

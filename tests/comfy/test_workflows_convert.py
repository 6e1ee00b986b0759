"""The editor's format becomes the graph that the editor itself would queue."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.engines.comfy import convert, graphs_faults, workflows_files
from core.engines.comfy.graphs import Graph
from core.errors import ProblemError
from tests.comfy.editor import Editor, with_defaults
from tests.comfy.samples import accepted, graph, object_info, problem

KNOWN = [
    (name, found)
    for name, found in accepted()
    if {node["class_type"] for node in found.values()} <= set(object_info())
    and all(key.isdecimal() for key in found)
    and "33_" not in name
]
SHIPPED = [(workflow.id, workflow.graph) for workflow in workflows_files.built_in()]


def plain(found: Graph) -> Graph:
    """Without titles, which only people read."""
    return {k: {"class_type": n["class_type"], "inputs": n["inputs"]} for k, n in found.items()}


def converted(data: dict[str, Any]) -> Graph:
    """The graph of an editor's file, without titles."""
    return plain(convert.to_graph(data, object_info()).graph)


def test_enough_graphs_are_compared() -> None:
    assert len(KNOWN) >= 73


@pytest.mark.parametrize("found", [*KNOWN, *SHIPPED], ids=lambda found: found[0])
@pytest.mark.parametrize("version", [0.4, 1])
def test_there_and_back(found: tuple[str, Graph], version: float) -> None:
    _, original = found
    assert converted(Editor(original).data(version=version)) == with_defaults(original)


@pytest.mark.parametrize("control", ["fixed", "increment", "decrement", "randomize", True, None])
def test_the_box_below_a_seed_is_stepped_over(control: str | bool | None) -> None:
    original = graph("08_wan22")
    assert converted(Editor(original, control=control).data()) == with_defaults(original)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_reroutes_anywhere_change_nothing(data: st.DataObject) -> None:
    original = data.draw(st.sampled_from(SHIPPED))[1]
    drawn = Editor(original)
    for _ in range(data.draw(st.integers(1, 8))):
        drawn.reroute(data.draw(st.sampled_from([link[0] for link in drawn.links])))
    assert converted(drawn.data()) == with_defaults(original)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_subgraphs_change_nothing_but_ids(data: st.DataObject) -> None:
    original = data.draw(st.sampled_from(SHIPPED))[1]
    drawn = Editor(original)
    ids = [int(key) for key in original]
    inner = data.draw(st.lists(st.sampled_from(ids), min_size=1, unique=True))
    use = drawn.enclose(inner)
    places = {str(key): f"{use}:{key}" if key in inner else str(key) for key in ids}
    if data.draw(st.booleans(), "nested"):
        outer = drawn.enclose([use, *data.draw(st.lists(st.sampled_from(ids), unique=True))])
        inside = {n["id"] for n in drawn.subgraphs[-1]["nodes"]}
        places = {
            key: f"{outer}:{place}"
            if use in inside and (":" in place or int(key) in inside)
            else place
            for key, place in places.items()
        }
    wanted = {
        places[key]: {
            "class_type": node["class_type"],
            "inputs": {
                name: [places[v[0]], v[1]] if isinstance(v, list) else v
                for name, v in node["inputs"].items()
            },
        }
        for key, node in with_defaults(original).items()
    }
    assert converted(drawn.data()) == wanted


def test_titles_of_nodes_are_kept() -> None:
    drawn = Editor(graph("01_sd15"))
    drawn.node(6)["title"] = "What to show"
    found = convert.to_graph(drawn.data(), object_info()).graph
    assert found["6"]["_meta"]["title"] == "What to show"
    assert found["3"]["_meta"]["title"] == "KSampler"


def test_a_primitive_gives_its_value() -> None:
    drawn = Editor(graph("01_sd15"))
    drawn.widen(3, "steps")
    box = drawn.add("PrimitiveNode", [], ["INT"], [33, "fixed"])
    drawn.link(box, 0, 3, "steps")
    drawn.reroute(drawn.links[-1][0])
    assert converted(drawn.data())["3"]["inputs"]["steps"] == 33


def test_a_linked_box_for_a_value_is_a_link() -> None:
    drawn = Editor(graph("11_anim"))
    drawn.widen(60, "frame_rate")
    drawn.node(60)["inputs"][-1]["type"] = "FLOAT"
    drawn.link(20, 0, 60, "frame_rate")
    assert converted(drawn.data())["60"]["inputs"]["frame_rate"] == ["20", 0]


def test_muted_nodes_go_with_their_links() -> None:
    drawn = Editor(graph("05_wan21"))
    drawn.node(47)["mode"] = 2
    drawn.node(50)["mode"] = 2
    made = convert.to_graph(drawn.data(), object_info())
    assert set(graph("05_wan21")) - set(made.graph) == {"47", "50"}
    assert "video" not in made.graph["51"]["inputs"]
    assert made.notes == ("2 muted nodes left out, as in the editor.",)
    (fault,) = graphs_faults.faults(made.graph, object_info())
    assert "#51" in fault.message


def test_bypassed_nodes_pass_on_what_fits() -> None:
    drawn = Editor(graph("08_wan22"))
    for node_id in (48, 49):
        drawn.node(node_id)["mode"] = 4
    found = converted(drawn.data())
    assert found["57"]["inputs"]["model"] == ["37", 0]
    assert found["58"]["inputs"]["model"] == ["36", 0]
    assert not {"48", "49"} & set(found)
    # One that has no input of that type passes nothing on.
    drawn.node(52)["mode"] = 4
    assert "start_image" not in converted(drawn.data())["55"]["inputs"]


def test_a_bypassed_subgraph_passes_on_too() -> None:
    drawn = Editor(graph("01_sd15"))
    box = drawn.add(
        "ImageScaleHere", [{"name": "image", "type": "IMAGE", "link": None}], ["IMAGE"], []
    )
    drawn.link(8, 0, box, "image")
    drawn.link(box, 0, 9, "images")
    use = drawn.enclose([box])
    drawn.node(use)["mode"] = 4
    assert converted(drawn.data())["9"]["inputs"]["images"] == ["8", 0]
    drawn.node(use)["mode"] = 2
    assert "images" not in converted(drawn.data())["9"]["inputs"]


def test_notes_and_frames_are_left_out() -> None:
    drawn = Editor(graph("01_sd15"))
    for kind in ("Note", "MarkdownNote", "Label (rgthree)", "Fast Groups Bypasser (rgthree)"):
        drawn.add(kind, [], [], ["words"])
    made = convert.to_graph(drawn.data(), object_info())
    assert set(made.graph) == set(graph("01_sd15"))
    assert made.unknown == {}


def test_set_and_get_nodes_are_followed() -> None:
    drawn = Editor(graph("01_sd15"))
    put = drawn.add("SetNode", [{"name": "VAE", "type": "VAE", "link": None}], ["VAE"], ["v"])
    drawn.link(4, 2, put, "VAE")
    drawn.link(drawn.add("GetNode", [], ["VAE"], ["v"]), 0, 8, "vae")
    assert converted(drawn.data()) == with_defaults(graph("01_sd15"))
    drawn.node(put)["widgets_values"] = ["other"]
    made = convert.to_graph(drawn.data(), object_info())
    assert "which no node sets" in made.notes[0]


def _promoted(held: list[Any], proxies: list[list[str]] | None) -> dict[str, Any]:
    drawn = Editor(graph("01_sd15"))
    use = drawn.enclose([6, 3])
    inner = drawn.subgraphs[-1]
    inner["inputs"].append({"id": "t", "name": "words", "type": "STRING"})
    box = next(node for node in inner["nodes"] if node["id"] == 6)
    box["inputs"].append(
        {"name": "text", "type": "STRING", "link": 900, "widget": {"name": "text"}}
    )
    port = len(inner["inputs"]) - 1
    inner["links"].append(
        {
            "id": 900,
            "origin_id": -10,
            "origin_slot": port,
            "target_id": 6,
            "target_slot": 1,
            "type": "STRING",
        }
    )
    node = drawn.node(use)
    node["inputs"].append(
        {"name": "words", "type": "STRING", "link": None, "widget": {"name": "words"}}
    )
    node["widgets_values"] = held
    if proxies is not None:
        node["properties"]["proxyWidgets"] = proxies
    found = converted(drawn.data())
    return {
        "text": found[f"{use}:6"]["inputs"]["text"],
        "steps": found[f"{use}:3"]["inputs"]["steps"],
    }


def test_values_on_the_box_of_a_subgraph_win() -> None:
    assert _promoted([], None) == {"text": "a lighthouse at dusk", "steps": 4}
    assert _promoted(["outer"], None) == {"text": "outer", "steps": 4}
    proxies = [["-1", "words"], ["3", "steps"], ["3", "control_after_generate"]]
    assert _promoted(["outer", 9, "fixed"], proxies) == {"text": "outer", "steps": 9}
    assert _promoted(["outer", None, None], proxies) == {"text": "outer", "steps": 4}
    # Fewer values than names: nobody knows whose they are.
    assert _promoted([9], proxies) == {"text": "a lighthouse at dusk", "steps": 4}


def test_a_class_the_server_lacks_is_told_with_its_pack_and_kept() -> None:
    drawn = Editor(graph("01_sd15"))
    drawn.node(3)["type"] = "KSamplerOfAPack"
    drawn.node(3)["properties"] = {"aux_id": "someone/some-pack"}
    for name in ("seed", "steps"):
        drawn.node(3)["inputs"].append(
            {"name": name, "type": "INT", "link": None, "widget": {"name": name}}
        )
    drawn.node(3)["widgets_values"] = [5, "fixed", 20]
    made = convert.to_graph(drawn.data(), object_info())
    assert made.unknown == {"KSamplerOfAPack": "someone/some-pack"}
    inputs = made.graph["3"]["inputs"]
    assert (inputs["seed"], inputs["steps"], inputs["model"]) == (5, 20, ["4", 0])


def test_models_that_a_file_names_are_told() -> None:
    drawn = Editor(graph("01_sd15"))
    item = {"name": "m.safetensors", "url": "https://example.org/m", "directory": "checkpoints"}
    drawn.node(4)["properties"]["models"] = [item, item, "junk"]
    (model,) = convert.to_graph(drawn.data(), object_info()).models
    assert (model.name, model.folder, model.url) == (item["name"], "checkpoints", item["url"])


def test_list_values_do_not_pass_for_links() -> None:
    drawn = Editor(graph("01_sd15"))
    drawn.node(6)["widgets_values"] = [["a", "b"]]
    assert converted(drawn.data())["6"]["inputs"]["text"] == {"__value__": ["a", "b"]}


def test_both_formats_and_whole_requests_are_taken() -> None:
    api = graph("01_sd15")
    for data in (api, {"prompt": api, "client_id": "x"}):
        assert convert.to_graph(data, object_info()).graph == api
    assert convert.to_graph({"1": {"class_type": "Gone", "inputs": {}}}, {}).unknown == {"Gone": ""}


def test_two_nodes_of_one_id_are_told_apart() -> None:
    drawn = Editor(graph("01_sd15"))
    drawn.nodes.append({**copy.deepcopy(drawn.node(9)), "title": "Second"})
    found = convert.to_graph(drawn.data(), object_info()).graph
    twins = [node for node in found.values() if node["class_type"] == "SaveImage"]
    assert [node["inputs"]["images"] for node in twins] == [["8", 0], ["8", 0]]


def _grouped(held: list[Any], *, seen: bool = True) -> dict[str, Any]:
    """The sampler and its prompt in a group node, with its picture decoded outside."""
    drawn = Editor(graph("01_sd15"))
    inner = [drawn.node(key) for key in (6, 3)]
    for key in (6, 3):
        drawn.nodes.remove(drawn.node(key))
    slots = [("clip", "CLIP"), ("model", "MODEL"), ("negative", "CONDITIONING")]
    inputs = [{"name": n, "type": t, "link": None} for n, t in [*slots, ("latent", "LATENT")]]
    box = drawn.add("workflow>Sample", inputs, ["LATENT"], held)
    outside = [link for link in drawn.links if {link[1], link[3]} <= {4, 5, 7, 8, 9}]
    drawn.links = outside
    drawn.link(4, 1, box, "clip")
    drawn.link(4, 0, box, "model")
    drawn.link(7, 0, box, "negative")
    drawn.link(5, 0, box, "latent")
    drawn.link(box, 0, 8, "samples")
    data = drawn.data()
    config = {"0": {"output": {"0": {"visible": not seen}}}} if not seen else {}
    data["extra"]["groupNodes"] = {
        "Sample": {
            "nodes": [{**node, "index": at} for at, node in enumerate(inner)],
            "links": [[0, 0, 1, 1, 6, "CONDITIONING"], [None, 1, 0, 0, 4, "CLIP"]],
            "external": [],
            "config": config,
        }
    }
    return data


def test_group_nodes_are_unfolded() -> None:
    held = ["a fox", 7, "fixed", 9, 5.0, "euler", "normal", 1.0]
    found = converted(_grouped(held))
    names = {"6": "10:0", "3": "10:1"}
    wanted = {
        names.get(key, key): {
            "class_type": node["class_type"],
            "inputs": {
                name: [names.get(v[0], v[0]), v[1]] if isinstance(v, list) else v
                for name, v in node["inputs"].items()
            },
        }
        for key, node in with_defaults(graph("01_sd15")).items()
    }
    wanted["10:0"]["inputs"]["text"] = "a fox"
    wanted["10:1"]["inputs"] |= {"seed": 7, "steps": 9, "cfg": 5.0}
    assert found == wanted
    # Values that do not fit are nobody's, and those inside hold.
    assert converted(_grouped([1]))["10:1"]["inputs"]["steps"] == 4


def test_an_output_of_a_group_may_be_shown_although_it_is_used_inside() -> None:
    data = _grouped([], seen=False)
    use = next(node for node in data["nodes"] if node["id"] == 10)
    use["outputs"].insert(0, {"name": "CONDITIONING", "type": "CONDITIONING", "links": []})
    data["links"] = [[*link[:2], 1, *link[3:]] if link[1] == 10 else link for link in data["links"]]
    found = converted(data)
    assert found["8"]["inputs"]["samples"] == ["10:1", 0]


def test_a_group_node_without_its_inside_is_a_problem() -> None:
    data = _grouped([])
    data["extra"]["groupNodes"] = {}
    assert "#10 workflow>Sample" in problem(lambda: convert.to_graph(data, object_info())).message
    # One that contains itself ends, too.
    data = _grouped([])
    data["extra"]["groupNodes"]["Sample"]["nodes"][0]["type"] = "workflow>Sample"
    problem(lambda: convert.to_graph(data, object_info()))


# ---- broken files --------------------------------------------------------------------------


def _spoil(what: str) -> dict[str, Any]:
    drawn = Editor(graph("01_sd15"))
    data = drawn.data()
    match what:
        case "link":
            data["links"] = [link for link in data["links"] if link[3] != 8]
        case "node":
            data["nodes"] = [node for node in data["nodes"] if node["id"] != 4]
        case "circle":
            a = drawn.reroute(drawn.links[0][0])
            drawn.link(a, 0, a, "")
            data = drawn.data()
        case "type":
            drawn.node(8)["type"] = None
        case "id":
            del drawn.node(8)["id"]
        case "nodes":
            data["nodes"] = [*data["nodes"], *({"id": i, "type": "Note"} for i in range(100, 5100))]
        case "links":
            data["links"].append(["x"])
        case "itself":
            use = drawn.enclose([8])
            drawn.subgraphs[0]["nodes"].append(copy.deepcopy(drawn.node(use)))
            data = drawn.data()
        case "muted":
            for node in drawn.nodes:
                node["mode"] = 2
    return data


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("link", "Node #8 VAEDecode has a link"),
        ("node", "comes from node #4"),
        ("circle", "circle"),
        ("type", "Node #8 does not say its type"),
        ("id", "no id"),
        ("nodes", "5,007 nodes"),
        ("links", "A link cannot be read"),
        ("itself", "contains itself"),
        ("muted", "no node that runs"),
    ],
)
def test_broken_files_are_problems_that_name_the_node(what: str, words: str) -> None:
    told = problem(lambda: convert.to_graph(_spoil(what), object_info()))
    assert words in told.message


def test_subgraphs_that_grow_without_bounds_are_stopped() -> None:
    """Twelve levels, each used four times in the next, are 16 million nodes."""
    levels = []
    for level in range(12):
        inside = (
            [{"id": 1, "type": "EmptyImage"}]
            if level == 0
            else [{"id": i, "type": f"level-{level - 1}"} for i in range(4)]
        )
        levels.append({"id": f"level-{level}", "nodes": inside, "links": []})
    data = {
        "nodes": [{"id": 1, "type": "level-11"}],
        "links": [],
        "definitions": {"subgraphs": levels},
    }
    assert "2,000 nodes" in problem(lambda: convert.to_graph(data, object_info())).message


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(value=values, data=st.data())
def test_anything_in_a_file_is_taken_or_a_problem(value: Any, data: st.DataObject) -> None:
    drawn = Editor(graph("01_sd15"))
    drawn.enclose([6, 8])
    file = copy.deepcopy(data.draw(st.sampled_from([drawn.data(), _grouped([])])))
    place: Any = file
    for _ in range(data.draw(st.integers(0, 6))):
        if isinstance(place, dict) and place:
            key: Any = data.draw(st.sampled_from(sorted(place)))
        elif isinstance(place, list) and place:
            key = data.draw(st.integers(0, len(place) - 1))
        else:
            break
        if data.draw(st.booleans()) and isinstance(place[key], dict | list):
            place = place[key]
        else:
            place[key] = value
            break
    try:
        convert.to_graph(file, object_info())
    except ProblemError as error:
        assert error.problem.hint

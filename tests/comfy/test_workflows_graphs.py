"""Graphs are read, bounded and checked as a server does, before anything is sent."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.engines.comfy import graphs, graphs_faults
from core.errors import ProblemError
from tests.comfy.samples import accepted, graph, object_info, problem, rejections

NOT_OURS = {
    # The graph is fine; what is wrong is the request around it.
    "foreign Origin header",
    "Origin localhost vs 127.0.0.1",
    "PUT instead of POST",
    "number is text",
    "partial_execution_targets names no output",
    "extra_data null with client_id",
}
STRICTER = {
    # The server takes these, and the run fails or loses an output.
    "literal where a link is needed": ("3", "model"),
    "LoadImage of a file outside input": ("52", "image"),
    "SaveVideo unknown format (a V3 node)": ("51", "format"),
    "two outputs, one of them bad: link to missing node": ("4", "images"),
    "two outputs, one of them bad: missing file (accepted, node_errors filled)": ("4", "image"),
}
ADDED_LATER = ("rig_text.png", "rig_broken.png", "broken.safetensors")
CASES = [
    row
    for row in rejections()
    if isinstance(row["request_body"], dict) and isinstance(row["request_body"].get("prompt"), dict)
]
# Types of the recording that need more than /object_info, or are seen earlier by us.
SEEN_IN_SHAPE = {"exception_during_inner_validation", "exception_during_validation"}


def test_enough_of_the_recording_is_compared() -> None:
    assert len(rejections()) == 82
    assert len(CASES) == 58
    assert {row["case"] for row in CASES} >= NOT_OURS | set(STRICTER)


@pytest.mark.parametrize("row", CASES, ids=lambda row: row["case"])
def test_verdicts_are_those_of_the_server(row: dict[str, Any]) -> None:
    case, data = row["case"], row["request_body"]["prompt"]
    refused = row["status"] != 200 and case not in NOT_OURS
    if not refused and case not in STRICTER:
        graphs_faults.require(graphs.check(data), object_info())
        return
    told = problem(lambda: graphs_faults.require(graphs.check(data), object_info()))
    if case in STRICTER:
        node, name = STRICTER[case]
        assert f"#{node}" in told.message
        assert f"“{name}”" in told.message
        return
    nodes = (row.get("json") or {}).get("node_errors") or {}
    shape = {e["type"] for item in nodes.values() for e in item["errors"]} & SEEN_IN_SHAPE
    if nodes and not shape and case != "cycle":
        for node in nodes:
            assert f"#{node}" in told.message + told.details, "each node the server names is named"


def test_faults_have_the_servers_words() -> None:
    """Types, nodes and inputs of the rejections are the recorded ones."""
    compared = 0
    for row in CASES:
        nodes = (row.get("json") or {}).get("node_errors") or {}
        wanted = {
            (e["type"], node, e["extra_info"].get("input_name", ""))
            for node, item in nodes.items()
            for e in item["errors"]
        }
        if row["status"] != 400 or not wanted:
            continue
        try:
            checked = graphs.check(row["request_body"]["prompt"])
        except ProblemError:
            continue
        found = graphs_faults.faults(checked, object_info())
        if row["case"] == "link slot out of range":
            # The server finds it while looking at the node behind, and blames that one.
            assert [fault.kind for fault in found] == ["exception_during_inner_validation"]
            continue
        assert {(fault.kind, fault.node, fault.input) for fault in found} == wanted, row["case"]
        compared += 1
    assert compared >= 18


@pytest.mark.parametrize("found", accepted(), ids=lambda found: found[0])
def test_what_the_server_took_is_taken(found: tuple[str, graphs.Graph]) -> None:
    name, taken = found
    checked = graphs.check(taken)
    assert checked == taken
    lacking = {node["class_type"] for node in taken.values()} - set(object_info())
    told = graphs_faults.faults(checked, object_info())
    # These files came after the nodes were recorded; the value in a link's place then failed.
    told = tuple(
        fault
        for fault in told
        if not any(word in fault.message for word in ADDED_LATER)
        and not (name == "33_execution_errors" and fault.kind == "literal_for_link")
    )
    if lacking:
        # The rig's own nodes are not among the recorded 85.
        assert {fault.class_type for fault in told} == lacking
    else:
        assert told == (), name


def test_all_faults_are_told_and_the_first_is_the_message() -> None:
    bad = graph("01_sd15")
    bad["3"]["inputs"]["steps"] = 0
    bad["3"]["inputs"]["cfg"] = "much"
    del bad["8"]["inputs"]["vae"]
    told = problem(lambda: graphs_faults.require(graphs.check(bad), object_info()))
    assert "2 more" in told.message
    for words in ("“steps” of node #3", "“cfg” of node #3", "#8 VAEDecode lacks its input “vae”"):
        assert words in told.details


def test_uploaded_files_count_although_the_list_is_old() -> None:
    fresh = graph("12_svd")
    fresh["23"]["inputs"]["image"] = "framedeck-1-image.png"
    assert len(graphs_faults.faults(fresh, object_info())) == 1
    assert graphs_faults.faults(fresh, object_info(), ["framedeck-1-image.png"]) == ()
    fresh["23"]["inputs"]["image"] = "clip_00001_.png [output]"
    assert graphs_faults.faults(fresh, object_info()) == ()


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "a/../../x.png", "C:\\x.png", "..\\x"])
def test_files_outside_the_input_folder_are_refused(name: str) -> None:
    outside = graph("12_svd")
    outside["23"]["inputs"]["image"] = name
    (fault,) = graphs_faults.faults(outside, object_info(), [name])
    assert "no file in the input folder" in fault.message


# ---- bad input ---------------------------------------------------------------------------


def _chain(count: int) -> dict[str, Any]:
    data = {"1": {"class_type": "EmptyImage", "inputs": {}}}
    for number in range(2, count + 1):
        data[str(number)] = {"class_type": "ImageScale", "inputs": {"image": [str(number - 1), 0]}}
    return data


def test_five_thousand_nodes_are_refused_with_the_count() -> None:
    told = problem(lambda: graphs.check(_chain(5000)))
    assert "5,000 nodes" in told.message
    assert "2,000" in told.message


def test_the_longest_chain_is_taken_fast() -> None:
    began = time.perf_counter()
    checked = graphs.check(_chain(graphs.MAX_NODES))
    assert graphs.order(checked)[-1] == str(graphs.MAX_NODES)
    assert time.perf_counter() - began < 2


def test_a_long_circle_is_found_and_named() -> None:
    data = _chain(1500)
    data["1"] = {"class_type": "ImageScale", "inputs": {"image": ["1500", 0]}}
    told = problem(lambda: graphs.check(data))
    assert "circle" in told.message
    assert "#1 ImageScale" in told.message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_refused_by_node(value: float) -> None:
    data = graph("01_sd15")
    data["3"]["inputs"]["cfg"] = value
    data["3"]["_meta"] = {"title": "My sampler"}
    told = problem(lambda: graphs.check(json.loads(json.dumps(data))))
    assert "“cfg” of node #3 KSampler “My sampler”" in told.message


def test_what_a_server_adds_is_left_out_even_with_nan() -> None:
    data = graph("01_sd15")
    data["3"]["is_changed"] = [float("nan")]
    assert graphs.check(graphs.loads(json.dumps(data))) == graph("01_sd15")


def test_deep_nesting_is_refused_before_it_is_parsed() -> None:
    told = problem(lambda: graphs.loads("[" * 200_000))
    assert "nested" in told.message
    data = graph("01_sd15")
    nest: Any = 1
    for _ in range(40):
        nest = {"a": nest}
    data["3"]["inputs"]["cfg"] = nest
    assert "“cfg” of node #3" in problem(lambda: graphs.check(data)).message
    # Brackets inside a prompt are no nesting.
    data["3"]["inputs"]["cfg"] = '"\\[{' * 100
    assert graphs.loads(json.dumps(data)) == data


@pytest.mark.parametrize(
    "text",
    ["", "{", b"\xff\xfe{}", "<html>", "1e", '{"a":' + "9" * 5000 + "}", b"\x00", '{"a":1}x'],
)
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    assert "no JSON" in problem(lambda: graphs.loads(text)).message


@pytest.mark.parametrize("text", ['"' + '\\"' * 10**6, '["' * 10**6, "[]" * 10**6, "\\" * 10**6])
def test_hostile_text_takes_no_time(text: str) -> None:
    began = time.perf_counter()
    problem(lambda: graphs.loads(text))
    assert time.perf_counter() - began < 5


def test_too_large_a_file_is_refused() -> None:
    assert "16 MB" in problem(lambda: graphs.loads(b" " * (graphs.MAX_BYTES + 1))).message


@pytest.mark.parametrize("data", [None, [], {}, "x", 3, {"1": 2}, {"1": {"class_type": 3}}])
def test_what_is_no_graph_is_refused(data: object) -> None:
    problem(lambda: graphs.check(data))


@pytest.mark.parametrize("key", ["", "a" * 201, "a\nb", 3, "\x00"])
def test_odd_ids_are_refused(key: object) -> None:
    told = problem(lambda: graphs.check({key: {"class_type": "EmptyImage", "inputs": {}}}))
    assert "id" in told.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(data=json_values, node=st.sampled_from(["3", "4", "8", "9"]), where=st.integers(0, 3))
def test_anything_anywhere_is_taken_or_a_problem(data: Any, node: str, where: int) -> None:
    """Nothing but a Problem ever comes of a graph, whatever lies in it."""
    spoilt = graph("01_sd15")
    place: Any = [
        lambda: spoilt.__setitem__(node, data),
        lambda: spoilt[node].__setitem__("inputs", data),
        lambda: spoilt[node]["inputs"].__setitem__(next(iter(spoilt[node]["inputs"])), data),
        lambda: spoilt[node].__setitem__("_meta", data),
    ][where]
    place()
    before = copy.deepcopy(spoilt)
    try:
        checked = graphs.check(spoilt)
        graphs_faults.faults(checked, object_info())
        json.dumps(checked, allow_nan=False)
    except ProblemError as error:
        assert error.problem.hint
    assert repr(spoilt) == repr(before)


@settings(max_examples=100, deadline=None)
@given(info=json_values, node=st.sampled_from(["KSampler", "VAEDecode", "SaveImage"]))
def test_a_strange_object_info_breaks_nothing(info: Any, node: str) -> None:
    said = dict(object_info())
    said[node] = info
    graphs_faults.faults(graph("01_sd15"), said)
    said[node] = {"input": info, "output": info, "input_order": info}
    graphs_faults.faults(graph("01_sd15"), said)
    said[node] = {"input": {"required": info, "optional": {"cfg": info}}}
    graphs_faults.faults(graph("01_sd15"), said)

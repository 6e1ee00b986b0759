"""Decoding in tiles and back, and graphs cut before the decode."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.engines.comfy import decode, graphs, graphs_faults, workflows_files
from core.engines.comfy.graphs import Graph
from tests.comfy.samples import accepted, graph, object_info, problem

BUILT_IN = {workflow.id: workflow for workflow in workflows_files.built_in()}
ALL = [*accepted(), *((name, found.graph) for name, found in BUILT_IN.items())]
tiles = st.builds(
    decode.Tiles,
    st.integers(2, 128).map(lambda n: n * 32),
    st.integers(0, 128).map(lambda n: n * 32),
    st.integers(2, 1024).map(lambda n: n * 4),
    st.integers(1, 1024).map(lambda n: n * 4),
)


@pytest.mark.parametrize("found", ALL, ids=lambda found: found[0])
@given(cut=tiles)
def test_tiles_and_back_leave_every_byte(found: tuple[str, Graph], cut: decode.Tiles) -> None:
    original = found[1]
    before = json.dumps(original)
    tiled = decode.tile(original, cut)
    assert json.dumps(original) == before
    assert "VAEDecode" not in {node["class_type"] for node in tiled.values()}
    assert json.dumps(decode.untile(tiled)) == before
    # Twice is as once, and new tiles take the place of old ones.
    assert decode.tile(decode.tile(original), cut) == tiled
    # All but the decoders is untouched while it is tiled, too.
    for key, node in original.items():
        if node["class_type"] != "VAEDecode":
            assert json.dumps(tiled[key]) == json.dumps(node)
    json.dumps(graphs.check(tiled))


@given(cut=tiles)
def test_a_tiled_graph_is_taken(cut: decode.Tiles) -> None:
    assert graphs_faults.faults(decode.tile(graph("08_wan22"), cut), object_info()) == ()
    assert graphs_faults.faults(decode.tile(graph("01_sd15"), decode.SMALL), object_info()) == ()


def test_tiles_of_the_user_stay_his() -> None:
    own = graph("01_sd15")
    own["8"]["class_type"] = "VAEDecodeTiled"
    own["8"]["inputs"] |= decode.Tiles(128, 32, 16, 4).inputs()
    assert decode.untile(own) == own
    assert decode.tile(own) == own


def test_odd_inputs_and_titles_come_back_in_their_places() -> None:
    odd = graph("01_sd15")
    odd["8"] = {
        "_meta": {"title": "Decode", "x": 1},
        "inputs": {"tile_size": "mine", "samples": ["3", 0], "overlap": None, "vae": ["4", 2]},
        "class_type": "VAEDecode",
    }
    tiled = decode.tile(odd)
    assert tiled["8"]["inputs"]["tile_size"] == 512
    assert tiled["8"]["_meta"]["title"] == "Decode"
    assert json.dumps(decode.untile(tiled)) == json.dumps(odd)


# ---- checkpoint --------------------------------------------------------------------------

LATENTS = {
    "SaveLatent": {
        "input": {"required": {"samples": ["LATENT"], "filename_prefix": ["STRING", {}]}},
        "output": [],
        "output_node": True,
    },
    "LoadLatent": {
        "input": {"required": {"latent": [[]]}},
        "output": ["LATENT"],
        "output_node": False,
    },
}


def classes(found: Graph) -> list[str]:
    """The classes of a graph, sorted."""
    return sorted(node["class_type"] for node in found.values())


@pytest.mark.parametrize("recording", ["01", "05", "07", "08", "09", "10", "11", "12"])
@pytest.mark.parametrize("tiled", [False, True])
def test_no_sampler_runs_twice(recording: str, *, tiled: bool) -> None:
    original = decode.tile(graph(recording)) if tiled else graph(recording)
    halves = decode.split(original, "framedeck/latents")
    assert not [name for name in classes(halves.decoding) if "Sampler" in name]
    assert not [name for name in classes(halves.sampling) if "VAEDecode" in name]
    kept = set(halves.sampling) | set(halves.decoding)
    assert set(original) <= kept, "nothing is lost between the halves"
    ((saver, loader),) = halves.latents.items()
    second = halves.filled({saver: "framedeck/latents_00001_.latent"})
    assert second[loader]["inputs"]["latent"] == "framedeck/latents_00001_.latent [output]"
    info = object_info() | LATENTS
    for half in (halves.sampling, second):
        assert graphs_faults.faults(graphs.check(half), info) == ()
    assert halves.decoding[loader]["inputs"]["latent"] == ""


def test_a_decode_between_two_samplers_stays_with_them() -> None:
    two = graph("01_sd15")
    two["20"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["8", 0], "vae": ["4", 2]}}
    two["21"] = copy.deepcopy(two["3"])
    two["21"]["inputs"]["latent_image"] = ["20", 0]
    two["22"] = {"class_type": "VAEDecode", "inputs": {"samples": ["21", 0], "vae": ["4", 2]}}
    two["9"]["inputs"]["images"] = ["22", 0]
    halves = decode.split(two, "x")
    assert classes(halves.sampling).count("KSampler") == 2
    assert classes(halves.decoding) == [
        *("CheckpointLoaderSimple", "LoadLatent", "SaveImage", "VAEDecode")
    ]


def test_two_results_are_two_checkpoints() -> None:
    two = graph("01_sd15")
    two["21"] = copy.deepcopy(two["3"])
    two["22"] = {"class_type": "VAEDecode", "inputs": {"samples": ["21", 0], "vae": ["4", 2]}}
    two["23"] = {"class_type": "SaveImage", "inputs": {"images": ["22", 0], "filename_prefix": "b"}}
    halves = decode.split(two, "x")
    assert len(halves.latents) == 2
    names = {halves.sampling[key]["inputs"]["filename_prefix"] for key in halves.latents}
    assert names == {"x-1", "x-2"}
    with pytest.raises(KeyError):
        halves.filled({})


def test_outputs_without_a_decode_run_in_the_first_half() -> None:
    more = graph("12_svd")
    more["40"] = {"class_type": "PreviewImage", "inputs": {"images": ["23", 0]}}
    halves = decode.split(more, "x")
    assert "40" in halves.sampling
    assert "40" not in halves.decoding


def test_a_graph_that_decodes_nothing_cannot_be_split() -> None:
    told = problem(lambda: decode.split(graph("55_save"), "x"))
    assert "decodes nothing" in told.message

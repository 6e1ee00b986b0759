"""Easing the decode: tiles instead of whole pictures, and a checkpoint before it.

Decoding is where video models run out of memory. Tiles need less of it; a checkpoint
keeps the sampled latents on the server, so that a failed decode repeats no sampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.engines.comfy import graphs
from core.engines.comfy.graphs import Graph

PLAIN = "VAEDecode"
TILED = "VAEDecodeTiled"
_MARK = "framedeck_tiled"
"""Key in a node's `_meta`, which servers ignore: what `untile` puts back."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """How to cut a decode; sizes in pixels and frames, as VAEDecodeTiled wants them."""

    tile_size: int = 512
    overlap: int = 64
    temporal_size: int = 64
    temporal_overlap: int = 8

    def inputs(self) -> dict[str, int]:
        """Return them by the names of the node's inputs."""
        return {
            "tile_size": self.tile_size,
            "overlap": self.overlap,
            "temporal_size": self.temporal_size,
            "temporal_overlap": self.temporal_overlap,
        }


SMALL = Tiles(256, 64, 16, 4)
"""For a second try, when the first tiles were too large as well."""


def decoders(graph: Graph) -> list[str]:
    """Return the ids of nodes that decode latents to pictures."""
    return [key for key, node in graph.items() if node["class_type"] in (PLAIN, TILED)]


def is_decoder(kind: str) -> bool:
    """Say whether a class of nodes decodes latents, those of packs among them."""
    return "decode" in kind.lower()


def tile(graph: Graph, tiles: Tiles | None = None) -> Graph:
    """Return a copy of `graph` in which every whole decode is done in tiles.

    Decodes that were in tiles before stay as they are, unless this module made them.
    """
    tiles = tiles or Tiles()
    result = untile(graph)
    for node in result.values():
        if node["class_type"] != PLAIN:
            continue
        inputs = node["inputs"]
        added = tiles.inputs()
        mark = {
            "kept": {name: inputs[name] for name in added if name in inputs},
            "meta": "_meta" in node,
        }
        node["class_type"] = TILED
        inputs.update(added)
        node.setdefault("_meta", {})[_MARK] = mark
    return result


def untile(graph: Graph) -> Graph:
    """Return a copy of `graph` as it was before `tile`; nothing else in it changes."""
    result = graphs.copied(graph)
    for node in result.values():
        meta = node.get("_meta")
        mark = meta.get(_MARK) if isinstance(meta, dict) else None
        if node["class_type"] != TILED or not isinstance(mark, dict) or meta is None:
            continue
        node["class_type"] = PLAIN
        kept = mark.get("kept", {})
        for name in Tiles().inputs():
            if name in kept:
                node["inputs"][name] = kept[name]
            else:
                node["inputs"].pop(name, None)
        del meta[_MARK]
        if not mark.get("meta"):
            del node["_meta"]
    return result


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A graph in two halves with the latents between them.

    Attributes:
        sampling: Runs first and saves the latents.
        decoding: Runs second, once `filled` has told it where they lie.
        latents: Node that saves → node that loads, one pair for each latent.
    """

    sampling: Graph
    decoding: Graph
    latents: Mapping[str, str]

    def filled(self, files: Mapping[str, str]) -> Graph:
        """Return the second half, ready to run.

        Args:
            files: Saving node → its file in the server's output folder, such as
                "latents/job_00001_.latent".

        Raises:
            KeyError: A latent has no file.
        """
        graph = graphs.copied(self.decoding)
        for saver, loader in self.latents.items():
            # The note behind the name lets the server read its own output folder.
            graph[loader]["inputs"]["latent"] = f"{files[saver]} [output]"
        return graph


def split(graph: Graph, prefix: str) -> Checkpoint:
    """Return `graph` cut before every decode that leads to a result.

    A decode in the middle, such as between two samplers, stays in the first half.

    Args:
        graph: A checked graph.
        prefix: Start of the names of the latents' files.

    Raises:
        ProblemError: Nothing in the graph is decoded.
    """
    ends = [key for key in graph if not graphs.users(graph, key)]
    cuts: dict[tuple[str, int], None] = {}
    second: dict[str, None] = {}
    others = []
    for end in ends:
        reached, found = _down_to_decodes(graph, end)
        if found:
            second.update(reached)
            cuts.update(found)
        else:
            others.append(end)
    if not cuts:
        raise graphs.refusal(
            "The workflow decodes nothing, so no checkpoint can stand before a decode.",
            "Turn the checkpoint off for this workflow.",
        )
    decoding: Graph = graphs.copied({key: graph[key] for key in graph if key in second})
    sampling_ids = {key for end in others for key in graphs.upstream(graph, end)}
    sampling_ids |= {key for source, _ in cuts for key in graphs.upstream(graph, source)}
    sampling: Graph = graphs.copied({key: graph[key] for key in graph if key in sampling_ids})
    latents = {}
    next_id = int(graphs.free_id(graph))
    for count, (source, slot) in enumerate(cuts):
        saver, loader = str(next_id + 2 * count), str(next_id + 2 * count + 1)
        name = prefix if len(cuts) == 1 else f"{prefix}-{count + 1}"
        samples: list[Any] = [source, slot]
        sampling[saver] = {
            "class_type": "SaveLatent",
            "inputs": {"samples": samples, "filename_prefix": name},
        }
        decoding[loader] = {"class_type": "LoadLatent", "inputs": {"latent": ""}}
        latents[saver] = loader
        for key in decoders(decoding):
            if decoding[key]["inputs"].get("samples") == samples:
                decoding[key]["inputs"]["samples"] = [loader, 0]
    return Checkpoint(sampling, decoding, latents)


def _down_to_decodes(graph: Graph, end: str) -> tuple[dict[str, None], dict[tuple[str, int], None]]:
    """Return what `end` needs without what decodes get, and the latents they get."""
    reached: dict[str, None] = {end: None}
    cuts: dict[tuple[str, int], None] = {}
    waiting = [end]
    for node_id in waiting:
        node = graph[node_id]
        is_decode = node["class_type"] in (PLAIN, TILED)
        for name, source, slot in graphs.links(node):
            if is_decode and name == "samples":
                cuts[source, slot] = None
            elif source not in reached:
                reached[source] = None
                waiting.append(source)
    return reached, cuts

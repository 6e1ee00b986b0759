"""Which texts of a graph are prompts, and which say what to keep out."""

from __future__ import annotations

from enum import StrEnum

from core.engines.comfy import graphs
from core.engines.comfy.graphs import Graph
from core.engines.comfy.node_types import ObjectInfo, node_type

_POSITIVE = ("positive", "conditioning", "cond1", "cond2", "prompt")
_NEGATIVE = ("negative", "negative_conditioning", "negative_prompt")
_TEXTS = frozenset(
    (
        *("text", "prompt", "value", "string", "caption", "positive", "negative"),
        *("text_g", "text_l", "clip_l", "t5xxl", "positive_prompt", "negative_prompt"),
    )
)


class Side(StrEnum):
    """Whether a text says what to show or what to keep out."""

    POSITIVE = "positive"
    NEGATIVE = "negative"


def prompts(graph: Graph, info: ObjectInfo) -> dict[tuple[str, str], Side]:
    """Return the inputs that hold prompts: (node, input) → side.

    Links from what samples decide; where no link leads to a text, its title and
    name do. A text that is used for both sides is a prompt.
    """
    found: dict[tuple[str, str], Side] = {}
    for side in (Side.NEGATIVE, Side.POSITIVE):
        for place in _reached(graph, info, side):
            found[place] = side
    if Side.POSITIVE in found.values():
        return found
    for node_id in graph:
        for name in _texts(graph, info, node_id):
            if (node_id, name) not in found:
                found[node_id, name] = _by_title(graph, node_id, name)
    return found


def _reached(graph: Graph, info: ObjectInfo, side: Side) -> list[tuple[str, str]]:
    """Return the texts behind all links that are meant for `side`."""
    wanted = _NEGATIVE if side is Side.NEGATIVE else _POSITIVE
    waiting: list[tuple[str, int]] = []
    for node in graph.values():
        for name, source, slot in graphs.links(node):
            if name in wanted and _samples(node["class_type"], node["inputs"]):
                waiting.append((source, slot))
    seen = set(waiting)
    found: list[tuple[str, str]] = []
    for node_id, slot in waiting:
        node = graph[node_id]
        found += [(node_id, name) for name in _texts(graph, info, node_id, side)]
        for name, source, next_slot in graphs.links(node):
            if _leads(graph, info, node_id, name, slot) and (source, next_slot) not in seen:
                seen.add((source, next_slot))
                waiting.append((source, next_slot))
    return found


def _samples(class_type: str, inputs: dict[str, object]) -> bool:
    """Say whether a node is one that conditions end in, and not one they pass through."""
    ends = "Sampler" in class_type or "Guider" in class_type or "latent_image" in inputs
    return ends or ("model" in inputs and "positive" in inputs and "vae" not in inputs)


def _leads(graph: Graph, info: ObjectInfo, node_id: str, name: str, slot: int) -> bool:
    """Say whether the link at input `name` feeds output `slot` of a node with words."""
    node = graph[node_id]
    if "positive" in node["inputs"] and "negative" in node["inputs"]:
        # What takes both gives both, in that order.
        return name == ("negative" if slot == 1 else "positive")
    kind = node_type(info, node["class_type"])
    spec = kind.input(name) if kind is not None else None
    if spec is None:
        return name in (*_POSITIVE, *_NEGATIVE, *_TEXTS)
    return spec.type in ("CONDITIONING", "STRING") or "*" in spec.type


def _texts(graph: Graph, info: ObjectInfo, node_id: str, side: Side | None = None) -> list[str]:
    """Return the inputs of a node that hold words a person writes."""
    node = graph[node_id]
    kind = node_type(info, node["class_type"])
    found = []
    for name, value in node["inputs"].items():
        spec = kind.input(name) if kind is not None else None
        if not isinstance(value, str) or (spec is not None and spec.type != "STRING"):
            continue
        multiline = spec is not None and spec.config.get("multiline") is True
        if not multiline and name not in _TEXTS:
            continue
        other = "negative" if side is Side.POSITIVE else "positive"
        if side is not None and other in name:
            continue
        found.append(name)
    return found


def _by_title(graph: Graph, node_id: str, name: str) -> Side:
    meta = graph[node_id].get("_meta") or {}
    words = f"{meta.get('title', '')} {name}".lower()
    return Side.NEGATIVE if "negative" in words else Side.POSITIVE

"""Graphs in ComfyUI's API format: read, bounded and checked for shape.

A graph is a plain dict, node id → {"class_type", "inputs", "_meta"?}. Whatever made it,
`check` is the door: behind it every link leads to a node and nothing runs in a circle.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from core.errors import Category, Problem, ProblemError

Graph = dict[str, dict[str, Any]]

MAX_BYTES = 16 * 2**20
"""Largest workflow file that is read; real ones stay under one."""
MAX_NODES = 2000
MAX_DEPTH = 32
MAX_ID = 200
_OWN_KEYS = ("class_type", "inputs", "_meta")


def refusal(message: str, hint: str, details: str = "") -> ProblemError:
    """Return the error for a workflow that cannot be used."""
    return ProblemError(Problem(Category.INVALID_PARAMS, message, hint, details, "workflow"))


def loads(text: str | bytes) -> Any:
    """Return the JSON in `text`, bounded in size and depth.

    NaN and Infinity pass, since ComfyUI writes them beside inputs; `check` refuses
    them where they matter and names the node.

    Raises:
        ProblemError: It is no JSON, too large or too deep.
    """
    if len(text) > MAX_BYTES:
        raise refusal(
            f"The workflow is larger than {MAX_BYTES // 2**20} MB.",
            "Save the workflow alone, without pictures inside it.",
        )
    try:
        words = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        # Said before parsing, which would spend the stack on it.
        if _text_depth(words) > MAX_DEPTH:
            raise refusal(
                f"The workflow is nested more than {MAX_DEPTH} deep.",
                "It was not written by ComfyUI; save it again in the editor.",
            )
        return json.loads(words)
    except (ValueError, RecursionError) as error:
        raise refusal(
            "The workflow is no JSON that can be read.",
            "Save it again in ComfyUI, with Save or Export (API).",
            str(error),
        ) from None


# A string need not end, so that no text makes this begin again at each of its quotes.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)


def _text_depth(text: str) -> int:
    """Return how deep brackets nest in JSON `text`, those in strings left out."""
    depth = deepest = 0
    for found in _TOKEN.finditer(text):
        first = text[found.start()]
        if first in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first != '"':
            depth -= 1
    return deepest


def is_link(value: object) -> bool:
    """Say whether an input's value is a link, [node id, output slot]."""
    return isinstance(value, list)


def links(node: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield (input, source node, output slot) of a node of a checked graph."""
    for name, value in node["inputs"].items():
        if is_link(value):
            yield name, value[0], value[1]


def title(graph: Mapping[str, Any], node_id: str) -> str:
    """Return how to name a node to a person: id, class and own title."""
    node = graph.get(node_id)
    if not isinstance(node, Mapping):
        return f"#{node_id}"
    kind = node.get("class_type")
    meta = node.get("_meta")
    own = meta.get("title") if isinstance(meta, Mapping) else None
    named = f"#{node_id} {kind}" if isinstance(kind, str) and kind else f"#{node_id}"
    return f"{named} “{own}”" if isinstance(own, str) and own and own != kind else named


def copied(graph: Graph) -> Graph:
    """Return a graph of its own with the same values, all of which are plain JSON."""
    return {key: _copied(node) for key, node in graph.items()}


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value


def check(data: object) -> Graph:
    """Return `data` as a graph of its own, checked for shape.

    Keys that a server adds when it saves a graph, such as `is_changed`, are left out.

    Raises:
        ProblemError: No graph, too many nodes, a node without class or inputs, a value
            that is no JSON, a link to nowhere or a circle; the problem names the node.
    """
    if not isinstance(data, Mapping) or not data:
        raise refusal(
            "This is no workflow: it has no nodes.",
            "Drop a workflow saved by ComfyUI, or a picture or clip made by it.",
        )
    if len(data) > MAX_NODES:
        raise refusal(
            f"The workflow has {len(data):,} nodes; {MAX_NODES:,} are the most that is taken.",
            "Split it into several workflows.",
        )
    graph: Graph = {}
    for key, node in data.items():
        graph[_node_id(key)] = _node(data, str(key), node)
    for node_id, node in graph.items():
        _check_links(graph, node_id, node)
    order(graph)
    return graph


def _node_id(key: object) -> str:
    if not isinstance(key, str) or not key or len(key) > MAX_ID or not key.isprintable():
        shown = str(key)[:40]
        raise refusal(
            f"A node has an id that cannot be used: {shown!r}.",
            f"Ids are printable text of at most {MAX_ID} characters.",
        )
    return key


def _node(data: Mapping[Any, Any], node_id: str, node: object) -> dict[str, Any]:
    named = title(data, node_id)
    fix = "Save the workflow again in ComfyUI with Export (API)."
    if not isinstance(node, Mapping):
        raise refusal(f"The node {named} is no object.", fix)
    kind = node.get("class_type")
    if not isinstance(kind, str) or not kind:
        raise refusal(f"The node {named} does not say its class.", fix)
    inputs = node.get("inputs")
    if not isinstance(inputs, Mapping):
        raise refusal(f"The node {named} has no inputs.", fix)
    own = {name: node[name] for name in _OWN_KEYS if name in node}
    own["inputs"] = {str(name): _value(named, name, value, 0) for name, value in inputs.items()}
    if not isinstance(own.get("_meta"), Mapping):
        own.pop("_meta", None)
    else:
        own["_meta"] = _value(named, "_meta", own["_meta"], 0)
    return own


def _value(named: str, name: object, value: object, depth: int) -> Any:
    """Return a copy of an input's value; all in it must be JSON."""
    if depth > MAX_DEPTH:
        raise refusal(
            f"The input “{name}” of node {named} is nested more than {MAX_DEPTH} deep.",
            "Give that input a plain value.",
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise refusal(
            f"The input “{name}” of node {named} is {value}, which is no number.",
            "Give that input a number.",
        )
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_value(named, name, item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        return {str(k): _value(named, name, item, depth + 1) for k, item in value.items()}
    raise refusal(
        f"The input “{name}” of node {named} is a {type(value).__name__}.",
        "Give that input text, a number, on or off, or a link.",
    )


def _check_links(graph: Graph, node_id: str, node: dict[str, Any]) -> None:
    named = title(graph, node_id)
    for name, value in node["inputs"].items():
        if not is_link(value):
            continue
        plain = len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int
        if not plain or value[1] < 0:
            raise refusal(
                f"The input “{name}” of node {named} has a link that cannot be read: "
                f"{str(value)[:80]}.",
                "A link is a pair of a node's id, as text, and the number of its output.",
            )
        if value[0] not in graph:
            raise refusal(
                f"The input “{name}” of node {named} is linked to node #{value[0][:40]}, "
                "which is not there.",
                "Link that input again in the editor and save the workflow.",
            )


def order(graph: Graph) -> list[str]:
    """Return the ids so that each node stands behind those it needs.

    Raises:
        ProblemError: Nodes need each other in a circle; the problem names them.
    """
    done: dict[str, bool] = {}
    ordered: list[str] = []
    for start in graph:
        if start in done:
            continue
        trail = [(start, iter([source for _, source, _ in links(graph[start])]))]
        done[start] = False
        while trail:
            node_id, sources = trail[-1]
            nxt = next((source for source in sources if not done.get(source, False)), None)
            if nxt is None:
                done[node_id] = True
                ordered.append(node_id)
                trail.pop()
            elif nxt in done:
                ids = [item for item, _ in trail]
                raise _circle(graph, ids[ids.index(nxt) :])
            else:
                done[nxt] = False
                trail.append((nxt, iter([source for _, source, _ in links(graph[nxt])])))
    return ordered


def _circle(graph: Graph, ids: list[str]) -> ProblemError:
    shown = [title(graph, item) for item in ids[:6]] + (["…"] if len(ids) > 6 else [])
    return refusal(
        "Nodes of the workflow need each other in a circle: " + " ← ".join(shown) + ".",
        "Remove one of the links between them.",
    )


def upstream(graph: Graph, node_id: str) -> list[str]:
    """Return `node_id` and every node it needs, nearest first."""
    seen = {node_id: None}
    waiting = [node_id]
    for item in waiting:
        for _, source, _ in links(graph[item]):
            if source not in seen:
                seen[source] = None
                waiting.append(source)
    return list(seen)


def users(graph: Graph, node_id: str) -> list[tuple[str, str, int]]:
    """Return (node, input, output slot) of every link out of `node_id`."""
    return [
        (other, name, slot)
        for other, node in graph.items()
        for name, source, slot in links(node)
        if source == node_id
    ]


def free_id(graph: Mapping[str, Any]) -> str:
    """Return a number that no node has as its id."""
    return str(max((int(key) for key in graph if key.isdecimal()), default=0) + 1)

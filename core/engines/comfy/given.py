"""The graph of a job: from its workflow, or as it was given."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from core.engines.comfy.http import Graph, Server
from core.errors import ProblemError, invalid
from core.jobs import Job

KEY = "graph"
"""Parameter that holds a whole graph as JSON text."""

MOST_NODES = 5_000
_MOST_TEXT = 16 * 1024 * 1024
_VIDEO_WORDS = ("savevideo", "savewebm", "videocombine", "saveanimated")
_PICTURE_NODES = ("SaveImageWebsocket",)


def graph_of(job: Job, server: Server, graphs: Callable[[Job, Server], Graph] | None) -> Graph:
    """Return the graph a job asks for.

    Raises:
        ProblemError: INVALID_PARAMS; names the field "graph" or what `graphs` names.
    """
    given = job.params.get(KEY)
    if isinstance(given, str) and given:
        return parse(given)
    if graphs is None:
        raise invalid(
            "recipe",
            f"There is no workflow {job.family!r}.",
            "Choose another recipe, or drop the workflow's file onto the window again.",
        )
    return checked(graphs(job, server))


def parse(text: str) -> Graph:
    """Return the graph in a JSON text. Raises ProblemError."""
    if len(text) > _MOST_TEXT:
        raise _refused(f"has {len(text):,} characters")
    odd: list[str] = []

    def note(word: str) -> float:
        odd.append(word)
        return float(word)

    try:
        data = json.loads(text, parse_constant=note)
    except RecursionError:
        raise _refused("is nested too deeply") from None
    except ValueError as error:
        raise _refused(f"is no JSON ({error})") from None
    found = checked(data)
    return _of_numbers(found, odd[0]) if odd else found


def _of_numbers(graph: Graph, odd: str) -> Graph:
    """Return `graph` without what servers add beside inputs, where NaN stands at times."""
    plain = {
        key: {name: node[name] for name in ("class_type", "inputs", "_meta") if name in node}
        for key, node in graph.items()
    }
    for key, node in plain.items():
        try:
            json.dumps(node, allow_nan=False)
        except ValueError:
            raise _refused(f"has {odd} in node {key[:40]!r}, which is no number") from None
    return plain


def checked(data: Any) -> Graph:
    """Return `data` if it has the shape of a graph for the API. Raises ProblemError."""
    if not isinstance(data, Mapping) or not data:
        raise _refused("is no object with nodes")
    if len(data) > MOST_NODES:
        why = f"The workflow has {len(data):,} nodes and may have {MOST_NODES:,}."
        raise invalid(KEY, why, "Split it into several workflows.")
    for key, node in data.items():
        if not isinstance(node, Mapping) or not isinstance(node.get("class_type"), str):
            raise _refused(f"is not in API format: node {str(key)[:40]!r} has no class_type")
        if not isinstance(node.get("inputs"), Mapping):
            raise _refused(f"is not in API format: node {str(key)[:40]!r} has no inputs")
    return data


def _refused(why: str) -> ProblemError:
    return invalid(
        KEY, f"The workflow {why}.", "In ComfyUI choose Export (API), and use that file."
    )


def makes_video(graph: Graph) -> bool:
    """Say whether a graph saves a clip, and not only pictures."""
    kinds = [str(node["class_type"]).lower() for node in graph.values()]
    return any(word in kind for kind in kinds for word in _VIDEO_WORDS)


def picture_nodes(graph: Graph) -> list[str]:
    """Return the nodes that send pictures over the socket instead of saving them."""
    return [key for key, node in graph.items() if node["class_type"] in _PICTURE_NODES]

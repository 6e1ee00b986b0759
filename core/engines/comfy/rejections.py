"""Why a server refused a graph, or why it failed in it, in a person's words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from core.engines.comfy import graphs
from core.engines.comfy.fetch import begin
from core.engines.comfy.messages import Broke
from core.errors import Category, Problem, ProblemError

_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".sft", ".gguf", ".bin", ".onnx")
_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "outofmemory")


def rejection(body: bytes, graph: Mapping[str, Mapping[str, Any]], server: str) -> ProblemError:
    """Return the error for a graph that a server refused with status 400.

    Args:
        body: What it said.
        graph: What was sent, for the names of its nodes.
        server: What it is called within a sentence.
    """
    details = body[:20_000].decode(errors="replace")
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = {}
    said = said if isinstance(said, dict) else {}
    faults = list(_faults(said.get("node_errors"), graph))
    for kind, text, got in faults:
        if kind == "value_not_in_list" and str(got).lower().endswith(_FILES):
            return ProblemError(
                Problem(
                    Category.MODEL_NOT_FOUND,
                    f"{begin(server)} has no such file: {text}",
                    "Put the file into the server's model folder, or choose one that it has.",
                    details,
                )
            )
    own = _own_reason(graph)
    if own is not None:
        return ProblemError(Problem(own.category, own.message, own.hint, details))
    error = said.get("error")
    error = error if isinstance(error, dict) else {"message": error or ""}
    why = " ".join(text for _, text, _ in faults[:3])
    why = why or " ".join(str(error.get(key) or "") for key in ("message", "details")).strip()
    why = why.rstrip(".") or "it did not say why"
    return ProblemError(
        Problem(
            Category.INVALID_PARAMS,
            f"{begin(server)} refused the workflow: {why}.",
            _HINTS.get(str(error.get("type")), _HINT),
            details,
        )
    )


def _own_reason(graph: Mapping[str, Any]) -> Problem | None:
    """Return what is wrong with a graph's links: of a circle servers say nothing of use."""
    if len(graph) > graphs.MAX_NODES:
        return None
    try:
        graphs.check(graph)
    except ProblemError as error:
        return error.problem
    return None


_HINT = "Change the value that is named, or open the workflow in ComfyUI and repair it there."
_HINTS = {
    "invalid_prompt": "A node may belong to a pack that this server does not have: install it.",
    "missing_node_type": "A node belongs to a pack that this server does not have: install it.",
    "prompt_no_outputs": "Add a node that saves or shows what is made.",
}


def _faults(
    node_errors: Any, graph: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str, Any]]:
    """Yield (kind, sentence, value at fault) of each fault of each node."""
    for node, told in (node_errors if isinstance(node_errors, dict) else {}).items():
        rows = told.get("errors") if isinstance(told, dict) else None
        for row in rows if isinstance(rows, list) else ():
            if not isinstance(row, dict):
                continue
            extra = row.get("extra_info")
            extra = extra if isinstance(extra, dict) else {}
            what = str(row.get("message") or row.get("type") or "")
            more = str(row.get("details") or "")
            name = title(graph, str(node))
            sentence = f"{name}: {what}{f' ({more})' if more else ''}"[:400].rstrip(".") + "."
            yield str(row.get("type")), sentence, extra.get("received_value")


def skipped(node_errors: Mapping[str, Any], graph: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which outputs a server leaves out of a graph it took; "" for none."""
    faults = [text for _, text, _ in _faults(node_errors, graph)]
    return "The server leaves a part out: " + " ".join(faults[:3]) if faults else ""


def failure(error: Broke | None, graph: Mapping[str, Mapping[str, Any]], server: str) -> Problem:
    """Return the problem for a graph that failed while it ran."""
    if error is None:
        return Problem(
            Category.UNKNOWN,
            f"{begin(server)} says that it failed, and not why.",
            "Look into the server's log, then retry.",
        )
    name = title(graph, error.node) if error.node else "a node"
    details = "\n".join([f"{error.kind} in {error.node_type} ({error.node})", error.text])
    details += "\nTraceback of the server:\n" + "".join(error.traceback)
    lower = f"{error.kind} {error.text}".lower()
    if any(word in lower for word in _MEMORY):
        return Problem(
            Category.INSUFFICIENT_VRAM,
            f"The server ran out of memory in {name}.",
            "Use fewer frames or a smaller size, or free memory and retry.",
            details,
        )
    first = error.text.split("\n")[0][:300] or error.kind
    return Problem(
        Category.UNKNOWN,
        f"The server failed in {name}: {first}",
        "Check what this node was given, then retry; the details say where it failed.",
        details,
    )


def title(graph: Mapping[str, Mapping[str, Any]], node: str) -> str:
    """Return what a node is called in the graph: its title, else its type."""
    found = graph.get(node)
    if not isinstance(found, Mapping):
        return f"node {node}"
    meta = found.get("_meta")
    named = meta.get("title") if isinstance(meta, Mapping) else None
    return str(named or found.get("class_type") or f"node {node}")[:200]

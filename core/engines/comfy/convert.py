"""From what ComfyUI's editor saves to the API format that a server runs.

The editor saves nodes with positions, values in the order of their widgets and links as
numbers; a server wants inputs by name. Names and order come from /object_info. Boxes that
only the editor knows (reroutes, primitives, notes, muted and bypassed nodes, subgraphs)
are followed through and left out, as the editor does when it queues.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.engines.comfy import convert_groups, graphs
from core.engines.comfy.convert_scopes import Literal, Node, Scope, Unknown
from core.engines.comfy.convert_widgets import values
from core.engines.comfy.graphs import Graph
from core.engines.comfy.node_types import ObjectInfo, node_type

MAX_NESTING = 16
_ASIDE = ("Note", "MarkdownNote", "Label (rgthree)", "Bookmark (rgthree)")
_HELPERS = ("Reroute", "PrimitiveNode", "SetNode", "GetNode", "Reroute (rgthree)")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model that a workflow says it needs.

    Attributes:
        name: Name of the file.
        folder: Model folder it belongs in.
        url: Where its maker offers it, "" when not said.
    """

    name: str
    folder: str
    url: str


@dataclass(frozen=True, slots=True)
class Converted:
    """A graph made from the editor's format.

    Attributes:
        graph: The graph in API format, checked for shape.
        notes: What was left out or guessed, in sentences.
        unknown: Node classes the server lacks → pack that the file names, "" when none.
        models: Models that the file names.
    """

    graph: Graph
    notes: tuple[str, ...] = ()
    unknown: Mapping[str, str] | None = None
    models: tuple[ModelFile, ...] = ()


def is_editor_format(data: object) -> bool:
    """Say whether `data` is what the editor saves, rather than the API format."""
    return isinstance(data, Mapping) and isinstance(data.get("nodes"), list)


def to_graph(data: object, info: ObjectInfo) -> Converted:
    """Return `data`, in either format, as a checked graph.

    Raises:
        ProblemError: It is neither, or it is broken; the problem names the node.
    """
    if isinstance(data, Mapping) and isinstance(data.get("prompt"), Mapping):
        # The body of a POST /prompt, as scripts keep it.
        data = data["prompt"]
    if not is_editor_format(data):
        graph = graphs.check(data)
        return Converted(graph, (), _lacking(graph, info))
    return from_editor(data, info)  # type: ignore[arg-type]


def _lacking(graph: Graph, info: ObjectInfo) -> dict[str, str]:
    names = {node["class_type"] for node in graph.values()}
    return {name: "" for name in sorted(names) if node_type(info, name) is None}


def from_editor(data: Mapping[str, Any], info: ObjectInfo) -> Converted:
    """Return a workflow in the editor's format as a checked graph.

    Args:
        data: What the editor saved, of its version 0.4 or 1.
        info: The server's /object_info; it names the widgets.

    Raises:
        ProblemError: The file is broken; the problem names the node.
    """
    flat = _Flat(info)
    flat.walk(Scope.root(data), 0)
    if not flat.graph:
        raise graphs.refusal(
            "The workflow has no node that runs.",
            "Un-mute its nodes in the editor, or drop another file.",
        )
    notes = [
        f"{count} {word} left out, as in the editor."
        for word, count in flat.left_out.items()
        if count
    ]
    return Converted(
        graphs.check(flat.graph), tuple(notes + flat.notes), flat.unknown, tuple(flat.models)
    )


class _Flat:
    """Collects the nodes of all scopes into one graph."""

    def __init__(self, info: ObjectInfo) -> None:
        self._info = info
        self.graph: Graph = {}
        self.notes: list[str] = []
        self.unknown: dict[str, str] = {}
        self.models: list[ModelFile] = []
        self.left_out = {"muted nodes": 0, "bypassed nodes": 0}
        self._seen = 0

    def walk(self, scope: Scope, depth: int) -> None:
        """Add the nodes of `scope` and of the subgraphs in it."""
        if depth > MAX_NESTING:
            raise graphs.refusal(
                f"Subgraphs lie in each other more than {MAX_NESTING} deep.",
                "Unpack some of them in the editor.",
            )
        for node in scope.nodes.values():
            self._seen += 1
            if self._seen > graphs.MAX_NODES:
                raise graphs.refusal(
                    f"The workflow has more than {graphs.MAX_NODES:,} nodes.",
                    "Split it into several workflows.",
                )
            if node.muted or node.bypassed:
                self.left_out["muted nodes" if node.muted else "bypassed nodes"] += 1
            elif node.type in scope.definitions:
                self.walk(scope.inside(node), depth + 1)
            elif node.type not in _ASIDE and node.type not in _HELPERS:
                self._add(scope, node)

    def _add(self, scope: Scope, node: Node) -> None:
        if node.type.startswith(convert_groups.PREFIXES):
            raise graphs.refusal(
                f"{node.named} is a group node whose insides the file lacks.",
                "Open the workflow in the editor, convert the node to a subgraph and save again.",
            )
        kind = node_type(self._info, node.type)
        if kind is None:
            if not node.inputs and not node.outputs:
                # Buttons and labels of editor extensions run nothing.
                return
            self.unknown[node.type] = node.pack
        inputs: dict[str, Any] = {}
        for name, value in values(node, kind, scope.overrides(node)).items():
            inputs[name] = {"__value__": value} if isinstance(value, list) else value
        for slot in node.inputs:
            if slot.link is None:
                continue
            source = scope.source(node, slot)
            if isinstance(source, Literal):
                value = source.value
                inputs[slot.name] = {"__value__": value} if isinstance(value, list) else value
            elif isinstance(source, Unknown):
                self.notes.append(source.note)
            elif source is not None:
                inputs[slot.name] = [source.id, source.slot]
        self._note_models(node)
        title = node.title or (kind.title if kind is not None else node.type)
        self.graph[scope.path + node.id] = {
            "class_type": node.type,
            "inputs": inputs,
            "_meta": {"title": title},
        }

    def _note_models(self, node: Node) -> None:
        for item in node.models:
            found = ModelFile(
                str(item.get("name", "")), str(item.get("directory", "")), str(item.get("url", ""))
            )
            if found.name and found not in self.models:
                self.models.append(found)

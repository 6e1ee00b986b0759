"""Which node runs next, and which results are still good: what a client sees of the scheduler."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable
from typing import Any

from core.engines.comfy.standin.nodes import Catalogue

Nodes = dict[str, dict[str, Any]]


def links(node: dict[str, Any]) -> list[tuple[str, int]]:
    """Return where the inputs of a node come from, in their order."""
    return [
        (value[0], value[1])
        for value in node["inputs"].values()
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
    ]


class Signatures:
    """Names the result of each node by all that it depends on.

    Args:
        graph: Nodes by id.
        catalogue: What the nodes are.
        changed: What else a node's result depends on, such as a file's content.
    """

    def __init__(
        self, graph: Nodes, catalogue: Catalogue, changed: Callable[[str, dict[str, Any]], str]
    ) -> None:
        self._graph = graph
        self._catalogue = catalogue
        self._changed = changed
        self._known: dict[str, str] = {}

    def of(self, name: str) -> str:
        """Return the name of the result of node `name`."""
        stack = [name]
        while stack:  # Not by recursion: graphs have thousands of nodes.
            here = stack[-1]
            missing = [
                source
                for source, _ in links(self._graph[here])
                if source not in self._known and source in self._graph and source not in stack
            ]
            if missing:
                stack += missing
                continue
            stack.pop()
            self._known[here] = self._own(here)
        return self._known[name]

    def _own(self, name: str) -> str:
        node = self._graph[name]
        kind = node["class_type"]
        values = {
            key: [self._known.get(str(value[0]), "?"), value[1]]
            if isinstance(value, list) and len(value) == 2
            else value
            for key, value in node["inputs"].items()
        }
        mine = name if self._catalogue.wants_its_id(kind) else ""
        whole = json.dumps([kind, mine, self._changed(kind, values), values], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()


class Plan:
    """The nodes of one prompt that are still to run.

    Args:
        graph: Nodes by id.
        outputs: Those that were asked for, in the order in which they are taken up.
        cached: Ids whose results are good already.
        is_output: Whether a node is an output.
    """

    def __init__(
        self,
        graph: Nodes,
        outputs: Iterable[str],
        cached: Collection[str],
        is_output: Callable[[str], bool],
    ) -> None:
        self._graph = graph
        self._is_output = is_output
        self._waits_for: dict[str, set[str]] = {}
        self._blocks: dict[str, list[str]] = {}
        for output in outputs:
            self._add(output, cached)

    def _add(self, output: str, cached: Collection[str]) -> None:
        stack = [output]
        while stack:
            name = stack.pop()
            if name in self._waits_for:
                continue
            self._waits_for[name] = set()
            self._blocks.setdefault(name, [])
            for source, _ in links(self._graph[name]):
                if source in cached:
                    continue
                stack.append(source)
                if source not in self._waits_for[name]:
                    self._waits_for[name].add(source)
                    self._blocks.setdefault(source, []).append(name)

    def next(self) -> str | None:
        """Return the node to run now, None when all are done.

        Outputs come first, then what an output waits for, then what that waits for:
        so pictures are shown as early as they can be.
        """
        ready = [name for name, waits in self._waits_for.items() if not waits]
        if not ready:
            return None
        for name in ready:
            if self._is_output(name):
                return name
        for name in ready:
            if any(self._is_output(later) for later in self._blocks[name]):
                return name
        for name in ready:
            for later in self._blocks[name]:
                if any(self._is_output(last) for last in self._blocks[later]):
                    return name
        return ready[0]

    def done(self, name: str) -> None:
        """Take a node off the plan."""
        del self._waits_for[name]
        for later in self._blocks.pop(name):
            self._waits_for[later].discard(name)

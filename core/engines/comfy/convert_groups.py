"""Group nodes, which the editor had before subgraphs: written as subgraphs.

Their insides lie in `extra.groupNodes` by name. A box shows those inputs and outputs of
its insides that nothing inside is linked to, in order, and holds the values of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

PREFIXES = ("workflow>", "workflow/")
_MAX_DEPTH = 8


def expanded(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a saved workflow with its group nodes as subgraphs; `data` if it has none."""
    extra = data.get("extra")
    groups = extra.get("groupNodes") if isinstance(extra, Mapping) else None
    nodes = data.get("nodes")
    if not isinstance(groups, Mapping) or not groups or not isinstance(nodes, list):
        return data
    said = data.get("definitions")
    found = said.get("subgraphs") if isinstance(said, Mapping) else None
    made: list[Any] = list(found) if isinstance(found, list) else []
    boxes = [_box(node, groups, made, 0) for node in nodes]
    return {**data, "nodes": boxes, "definitions": {"subgraphs": made}}


def _box(node: Any, groups: Mapping[str, Any], made: list[Any], depth: int) -> Any:
    """Return a box that is a group node as one that is a subgraph, others as they are."""
    kind = node.get("type") if isinstance(node, Mapping) else None
    if not isinstance(kind, str) or not kind.startswith(PREFIXES) or depth > _MAX_DEPTH:
        return node
    group = groups.get(kind[len(PREFIXES[0]) :])
    if not isinstance(group, Mapping) or not isinstance(group.get("nodes"), list):
        return node
    name = f"{kind} {len(made)}"
    made.append({})
    made[-1].update(_definition(name, node, group, groups, made, depth))
    return {**node, "type": name, "widgets_values": []}


def _definition(
    name: str,
    use: Mapping[str, Any],
    group: Mapping[str, Any],
    groups: Mapping[str, Any],
    made: list[Any],
    depth: int,
) -> dict[str, Any]:
    inner = [dict(item) if isinstance(item, Mapping) else {} for item in group["nodes"]]
    for index, node in enumerate(inner):
        node["id"] = index
        node["inputs"] = [{**slot, "link": None} for slot in _slots(node, "inputs")]
    _deal(use, inner)
    links: list[list[Any]] = []
    fed, used = set(), set()
    for line in group.get("links") or []:
        if not isinstance(line, list) or len(line) < 4 or line[0] is None:
            # Lines from outside are drawn anew below.
            continue
        origin, slot, target, at = line[:4]
        links.append([len(links) + 1, origin, slot, target, at])
        fed.add((target, at))
        used.add((origin, slot))
        _plug(inner, target, at, len(links))
    shown, hidden = _chosen(group)
    ins = _matched(_slots(use, "inputs"), _free(inner, "inputs", fed))
    ports: list[dict[str, Any]] = []
    for port, (index, at) in ins:
        links.append([len(links) + 1, -10, len(ports), index, at])
        _plug(inner, index, at, len(links))
        ports.append({"name": port.get("name", "")})
    outs = _matched(_slots(use, "outputs"), _free(inner, "outputs", (used - shown) | hidden))
    for slot, (_, (index, at)) in enumerate(outs):
        links.append([len(links) + 1, index, at, -20, slot])
    return {
        "id": name,
        "inputs": ports,
        "nodes": [_box(node, groups, made, depth + 1) for node in inner],
        "links": links,
    }


def _chosen(group: Mapping[str, Any]) -> tuple[set[Any], set[Any]]:
    """Return the outputs (box, slot) that are shown although used inside, and those hidden."""
    shown = {
        (item[0].get("index") if isinstance(item[0], Mapping) else item[0], item[1])
        for item in group.get("external") or []
        if isinstance(item, list) and len(item) >= 2 and isinstance(item[1], int)
    }
    hidden: set[Any] = set()
    config = group.get("config")
    for index, said in config.items() if isinstance(config, Mapping) else ():
        outputs = said.get("output") if isinstance(said, Mapping) else None
        for slot, choice in outputs.items() if isinstance(outputs, Mapping) else ():
            visible = choice.get("visible") if isinstance(choice, Mapping) else None
            if isinstance(visible, bool) and str(index).isdecimal() and str(slot).isdecimal():
                (shown if visible else hidden).add((int(index), int(slot)))
    return shown, hidden


def _slots(node: Mapping[str, Any], side: str) -> list[Mapping[str, Any]]:
    items = node.get(side)
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []


def _plug(inner: list[dict[str, Any]], target: object, at: object, number: int) -> None:
    if isinstance(target, int) and 0 <= target < len(inner) and isinstance(at, int):
        slots = inner[target]["inputs"]
        if 0 <= at < len(slots):
            slots[at]["link"] = number


def _free(
    inner: list[dict[str, Any]], side: str, taken: set[Any]
) -> Iterator[tuple[int, int, str]]:
    """Yield (box, slot, type) of what nothing inside is linked to."""
    for index, node in enumerate(inner):
        for at, slot in enumerate(_slots(node, side)):
            if (index, at) not in taken:
                yield index, at, str(slot.get("type", ""))


def _matched(
    slots: list[Mapping[str, Any]], free: Iterator[tuple[int, int, str]]
) -> list[tuple[Mapping[str, Any], tuple[int, int]]]:
    """Give each slot of the box the next free one inside that has its type."""
    found = []
    for slot in slots:
        wanted = str(slot.get("type", ""))
        for index, at, kind in free:
            if kind == wanted or "*" in (kind, wanted):
                found.append((slot, (index, at)))
                break
    return found


def _deal(use: Mapping[str, Any], inner: list[dict[str, Any]]) -> None:
    """Give the boxes inside the values that the box outside holds."""
    held = use.get("widgets_values")
    lists = [
        node["widgets_values"]
        for node in inner
        if isinstance(node.get("widgets_values"), list) and node.get("type") != "PrimitiveNode"
    ]
    # As many values as there are inside, or nobody can say whose they are.
    if not isinstance(held, list) or len(held) != sum(map(len, lists)):
        return
    at = 0
    for node in inner:
        own = node.get("widgets_values")
        if isinstance(own, list) and node.get("type") != "PrimitiveNode":
            node["widgets_values"] = held[at : at + len(own)]
            at += len(own)

"""Writes files as ComfyUI's editor saves them, from graphs in API format.

It goes the other way than core.engines.comfy.convert and shares no code with it.
"""

from __future__ import annotations

from typing import Any

from core.engines.comfy.graphs import Graph
from tests.comfy.samples import object_info

VALUES = ("INT", "FLOAT", "STRING", "BOOLEAN")


def specs(class_type: str) -> list[tuple[str, Any, dict[str, Any], str]]:
    """(name, type, config, "required" or "optional") of a class's inputs in order."""
    said = object_info()[class_type]["input"]
    return [
        (name, spec[0], spec[1] if len(spec) > 1 else {}, group)
        for group in ("required", "optional")
        for name, spec in said.get(group, {}).items()
    ]


def is_widget(kind: object) -> bool:
    """Whether the editor draws a box for a value of this type."""
    return isinstance(kind, list) or kind in (*VALUES, "COMBO")


def default(kind: Any, config: dict[str, Any]) -> Any:
    """What the editor puts into a new box."""
    if "default" in config:
        return config["default"]
    options = kind if isinstance(kind, list) else config.get("options")
    if options is not None:
        return options[0] if options else None
    return {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False, "STRING": ""}[kind]


def with_defaults(graph: Graph) -> Graph:
    """`graph` as the editor would queue it: every box has a value."""
    full: Graph = {}
    for key, node in graph.items():
        inputs = dict(node["inputs"])
        for name, kind, config, _ in specs(node["class_type"]):
            if is_widget(kind) and name not in inputs:
                value = default(kind, config)
                if value is not None:
                    inputs[name] = value
        full[key] = {"class_type": node["class_type"], "inputs": inputs}
    return full


class Editor:
    """A workflow being drawn.

    Attributes:
        nodes: The boxes.
        links: The lines, as lists.
    """

    def __init__(self, graph: Graph, *, control: str | bool | None = "randomize") -> None:
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []
        self._control = control
        for key, node in with_defaults(graph).items():
            self._box(int(key), node["class_type"], node["inputs"])
        for key, node in graph.items():
            for name, value in node["inputs"].items():
                if isinstance(value, list):
                    self.link(int(value[0]), value[1], int(key), name)

    def _box(self, node_id: int, kind: str, inputs: dict[str, Any]) -> None:
        held: list[Any] = []
        slots = []
        uploads = False
        done = "required"
        for name, type_, config, group in specs(kind):
            if group != done and uploads:
                held.append("image")
                uploads = False
            done = group
            shown = "COMBO" if isinstance(type_, list) else type_
            if not is_widget(type_):
                slots.append({"name": name, "type": shown, "link": None})
                continue
            value = inputs.get(name)
            if isinstance(value, list):
                slots.append({"name": name, "type": shown, "link": None, "widget": {"name": name}})
                value = default(type_, config)
            held.append(value)
            seeded = config.get("control_after_generate") or name in ("seed", "noise_seed")
            if seeded and self._control is not None:
                held.append(self._control)
            uploads = uploads or bool(config.get("image_upload"))
        if uploads:
            held.append("image")
        outputs = [
            {"name": type_, "type": type_, "links": []} for type_ in object_info()[kind]["output"]
        ]
        values: Any = held
        if kind.startswith("VHS_"):
            values = {name: v for name, v in inputs.items() if not isinstance(v, list)}
            values["videopreview"] = {"hidden": False, "params": {"filename": "x.mp4"}}
        self.nodes.append(
            {
                "id": node_id,
                "type": kind,
                "pos": [0, 0],
                "mode": 0,
                "inputs": slots,
                "outputs": outputs,
                "properties": {"Node name for S&R": kind},
                "widgets_values": values,
            }
        )

    def node(self, node_id: int) -> dict[str, Any]:
        """The box with this id."""
        return next(node for node in self.nodes if node["id"] == node_id)

    def new_id(self) -> int:
        """An id that no box has."""
        return max(node["id"] for node in self.nodes) + 1

    def add(self, kind: str, inputs: list[dict[str, Any]], outputs: list[str], held: Any) -> int:
        """Draw a box that only the editor knows."""
        node_id = self.new_id()
        self.nodes.append(
            {
                "id": node_id,
                "type": kind,
                "mode": 0,
                "inputs": inputs,
                "outputs": [{"name": item, "type": item, "links": []} for item in outputs],
                "properties": {},
                "widgets_values": held,
            }
        )
        return node_id

    def link(self, origin: int, slot: int, target: int, name: str) -> int:
        """Draw a line to the input `name` of `target`, in place of the one that was there."""
        node = self.node(target)
        at = next(i for i, item in enumerate(node["inputs"]) if item["name"] == name)
        old = node["inputs"][at]["link"]
        self.links = [link for link in self.links if link[0] != old]
        number = max((link[0] for link in self.links), default=100) + 1
        kind = node["inputs"][at]["type"]
        self.links.append([number, origin, slot, target, at, kind])
        node["inputs"][at]["link"] = number
        return number

    def reroute(self, number: int) -> int:
        """Put a reroute into a line."""
        link = next(item for item in self.links if item[0] == number)
        box = self.add("Reroute", [{"name": "", "type": "*", "link": None}], [link[5]], None)
        _, origin, slot, target, at, _ = link
        name = self.node(target)["inputs"][at]["name"]
        self.link(box, 0, target, name)
        self.link(origin, slot, box, "")
        return box

    def widen(self, node_id: int, name: str) -> None:
        """Turn a box for a value into an input, as a right click does."""
        node = self.node(node_id)
        kind = next(item[1] for item in specs(node["type"]) if item[0] == name)
        shown = "COMBO" if isinstance(kind, list) else kind
        node["inputs"].append({"name": name, "type": shown, "link": None, "widget": {"name": name}})

    def enclose(self, inner: list[int], name: str = "Inner") -> int:
        """Put boxes into a subgraph, as the editor does; returns the id of its box."""
        use = self.new_id()
        links, ins, outs = [], [], []
        box_inputs, box_outputs = [], []
        number = max((link[0] for link in self.links), default=100) + 1000
        kept = []
        for link in list(self.links):
            n, origin, slot, target, at, kind = link
            if origin in inner and target in inner:
                links.append(_line(n, origin, slot, target, at, kind))
            elif target in inner:
                port = {"id": f"in{len(ins)}", "name": f"p{len(ins)}", "type": kind}
                links.append(_line(n, -10, len(ins), target, at, kind))
                number += 1
                kept.append([number, origin, slot, use, len(ins), kind])
                box_inputs.append({"name": port["name"], "type": kind, "link": number})
                ins.append(port)
            elif origin in inner:
                found = next((i for i, o in enumerate(outs) if o["from"] == [origin, slot]), None)
                if found is None:
                    found = len(outs)
                    outs.append({"name": f"o{found}", "type": kind, "from": [origin, slot]})
                    number += 1
                    links.append(_line(number, origin, slot, -20, found, kind))
                    box_outputs.append({"name": f"o{found}", "type": kind, "links": []})
                kept.append([n, use, found, target, at, kind])
            else:
                kept.append(link)
        self.links = kept
        self.subgraphs = [
            *getattr(self, "subgraphs", []),
            {
                "id": f"00000000-0000-4000-8000-{use:012d}",
                "name": name,
                "inputNode": {"id": -10},
                "outputNode": {"id": -20},
                "inputs": ins,
                "outputs": outs,
                "nodes": [node for node in self.nodes if node["id"] in inner],
                "links": links,
            },
        ]
        self.nodes = [node for node in self.nodes if node["id"] not in inner]
        self.nodes.append(
            {
                "id": use,
                "type": self.subgraphs[-1]["id"],
                "mode": 0,
                "inputs": box_inputs,
                "outputs": box_outputs,
                "properties": {},
                "widgets_values": [],
            }
        )
        return use

    def data(self, *, version: float = 0.4) -> dict[str, Any]:
        """What the editor writes into the file, of its older or newer form."""
        links: list[Any] = self.links
        if version == 1:
            links = [_line(*link) for link in self.links]
        return {
            "last_node_id": 99,
            "nodes": self.nodes,
            "links": links,
            "groups": [{"title": "A frame", "bounding": [0, 0, 9, 9]}],
            "definitions": {"subgraphs": getattr(self, "subgraphs", [])},
            "extra": {"ds": {"scale": 1, "offset": [0, 0]}},
            "version": version,
        }


def _line(n: int, origin: int, slot: int, target: int, at: int, kind: str) -> dict[str, Any]:
    return {
        "id": n,
        "origin_id": origin,
        "origin_slot": slot,
        "target_id": target,
        "target_slot": at,
        "type": kind,
    }

"""The editor's boxes and lines: nodes and links of one workflow or subgraph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from core.engines.comfy import convert_groups, graphs
from core.errors import ProblemError

_MUTED, _BYPASSED = 2, 4
_MAX_HOPS = 4 * graphs.MAX_NODES
_FIX = "Open the workflow in the editor, mend it there and save it again."


def _broken(message: str) -> ProblemError:
    return graphs.refusal(message, _FIX)


@dataclass(frozen=True, slots=True)
class Slot:
    """One input or output of a box: name, type and, for inputs, link and widget."""

    name: str
    type: str
    link: int | None = None
    widget: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """One box of the editor."""

    id: str
    type: str
    title: str
    mode: int
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    widgets: Any
    properties: Mapping[str, Any] = field(default_factory=dict)

    @property
    def muted(self) -> bool:
        """Whether it runs not at all."""
        return self.mode == _MUTED

    @property
    def bypassed(self) -> bool:
        """Whether what comes in goes out unchanged."""
        return self.mode == _BYPASSED

    @property
    def named(self) -> str:
        """How to name it to a person."""
        own = f" “{self.title}”" if self.title and self.title != self.type else ""
        return f"Node #{self.id} {self.type}{own}"

    @property
    def pack(self) -> str:
        """The pack that the editor noted for it, "" when it noted none."""
        found = self.properties.get("cnr_id") or self.properties.get("aux_id") or ""
        return str(found)

    @property
    def models(self) -> tuple[Mapping[str, Any], ...]:
        """The model files that it says it needs."""
        found = self.properties.get("models")
        items = found if isinstance(found, list) else []
        return tuple(item for item in items if isinstance(item, Mapping))


@dataclass(frozen=True, slots=True)
class Link:
    """A line from an output to an input."""

    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(frozen=True, slots=True)
class Source:
    """Where an input's value comes from: output `slot` of node `id`."""

    id: str
    slot: int


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that an input gets from a box which only the editor knows."""

    value: Any


@dataclass(frozen=True, slots=True)
class Unknown:
    """An input whose source cannot be followed; `note` says why."""

    note: str


@dataclass(frozen=True, slots=True)
class Scope:
    """A workflow, or one use of a subgraph inside another.

    Attributes:
        path: Put before the ids of its nodes, "" at the top, then "12:".
        nodes: Boxes by id.
        links: Lines by number.
        definitions: Subgraphs by id.
        entry: Id of the box that stands for what comes in from outside.
        exit: Id of the box that stands for what goes out.
        ports: Names of what comes in, by slot.
        parent: The scope around it, None at the top.
        use: The box in the parent that this is the inside of.
    """

    path: str
    nodes: Mapping[str, Node]
    links: Mapping[int, Link]
    definitions: Mapping[str, Mapping[str, Any]]
    entry: str = ""
    exit: str = ""
    ports: tuple[str, ...] = ()
    parent: Scope | None = None
    use: Node | None = None

    @staticmethod
    def root(data: Mapping[str, Any]) -> Scope:
        """Return the outermost scope of a saved workflow."""
        data = convert_groups.expanded(data)
        said = data.get("definitions")
        found = said.get("subgraphs") if isinstance(said, Mapping) else None
        items = found if isinstance(found, list) else []
        definitions = {
            str(item["id"]): item for item in items if isinstance(item, Mapping) and "id" in item
        }
        return Scope("", _nodes(data), _links(data), definitions)

    def inside(self, use: Node) -> Scope:
        """Return the inside of `use`, a box that stands for a subgraph.

        Raises:
            ProblemError: The subgraph contains itself, or is broken.
        """
        around: Scope | None = self
        while around is not None:
            if around.use is not None and around.use.type == use.type:
                raise _broken(f"{use.named} is a subgraph that contains itself.")
            around = around.parent
        data = self.definitions[use.type]
        ports = data.get("inputs")
        return Scope(
            path=f"{self.path}{use.id}:",
            nodes=_nodes(data),
            links=_links(data),
            definitions=self.definitions,
            entry=_io(data, "inputNode", "-10"),
            exit=_io(data, "outputNode", "-20"),
            ports=tuple(
                str(item.get("name", "")) if isinstance(item, Mapping) else ""
                for item in (ports if isinstance(ports, list) else [])
            ),
            parent=self,
            use=use,
        )

    def source(self, node: Node, slot: Slot) -> Source | Literal | Unknown | None:
        """Return what feeds `slot` of `node`; None when nothing does.

        Raises:
            ProblemError: A link is missing or the boxes run in a circle.
        """
        scope, link_id, asker = self, slot.link, node
        for _ in range(_MAX_HOPS):
            if link_id is None:
                return None
            link = scope.links.get(link_id)
            if link is None:
                raise _broken(
                    f"{asker.named} has a link of the number {link_id}, which is not there."
                )
            step = scope._step(link, slot.type)
            if not isinstance(step, tuple):
                return step
            scope, link_id, asker = step
        raise _broken(f"The input “{slot.name}” of {node.named} is fed in a circle.")

    def _step(
        self, link: Link, wanted: str
    ) -> tuple[Scope, int | None, Node] | Source | Literal | Unknown | None:
        """Go from one link to the next, or end."""
        if self.use is not None and self.parent is not None and link.origin == self.entry:
            return self._outwards(link)
        node = self.nodes.get(link.origin)
        if node is None:
            raise _broken(f"A link comes from node #{link.origin[:40]}, which is not there.")
        if node.muted:
            return None
        if node.bypassed:
            return self, _bypass(node, link.origin_slot, wanted), node
        if node.type in self.definitions:
            return self._inwards(node, link)
        return self._helper(node, link)

    def _helper(
        self, node: Node, link: Link
    ) -> tuple[Scope, int | None, Node] | Source | Literal | Unknown | None:
        match node.type:
            case "Reroute" | "Reroute (rgthree)":
                return self, node.inputs[0].link if node.inputs else None, node
            case "PrimitiveNode":
                held = node.widgets
                return Literal(held[0]) if isinstance(held, list) and held else None
            case "GetNode":
                return self._get(node)
            case "SetNode":
                return self, node.inputs[0].link if node.inputs else None, node
        return Source(self.path + node.id, link.origin_slot)

    def _get(self, node: Node) -> tuple[Scope, int | None, Node] | Unknown:
        name = node.widgets[0] if isinstance(node.widgets, list) and node.widgets else None
        scope: Scope | None = self
        while scope is not None:
            for other in scope.nodes.values():
                held = other.widgets
                if other.type == "SetNode" and isinstance(held, list) and held[:1] == [name]:
                    return scope, other.inputs[0].link if other.inputs else None, other
            scope = scope.parent
        return Unknown(f"{node.named} reads “{name}”, which no node sets.")

    def _outwards(self, link: Link) -> tuple[Scope, int | None, Node] | Literal | Unknown | None:
        use, parent = self.use, self.parent
        if use is None or parent is None:
            return None
        if not 0 <= link.origin_slot < len(self.ports):
            raise _broken(f"{use.named} has no input number {link.origin_slot}.")
        name = self.ports[link.origin_slot]
        # The editor leaves out unlinked ports when it saves, so only names can be trusted.
        port = next((item for item in use.inputs if item.name == name), None)
        if port is not None and port.link is not None:
            return parent, port.link, use
        held = dict(_promoted(use))
        return Literal(held["-1", name]) if ("-1", name) in held else None

    def _inwards(self, node: Node, link: Link) -> tuple[Scope, int | None, Node] | None:
        inner = self.inside(node)
        for number, line in inner.links.items():
            if line.target == inner.exit and line.target_slot == link.origin_slot:
                return inner, number, node
        return None

    def overrides(self, node: Node) -> dict[str, Any]:
        """Return values that the box around a subgraph holds for widgets of `node`."""
        if self.use is None:
            return {}
        return {widget: value for (inner, widget), value in _promoted(self.use) if inner == node.id}


def _promoted(use: Node) -> Iterator[tuple[tuple[str, str], Any]]:
    """Yield ((inner node or "-1" for a port, name), value) of a subgraph's own widgets."""
    held = use.widgets
    if not isinstance(held, list) or not held:
        return
    proxies = use.properties.get("proxyWidgets")
    if isinstance(proxies, list) and proxies:
        keys = [
            (str(item[0]), str(item[1]))
            for item in proxies
            if isinstance(item, list) and len(item) >= 2
        ]
    else:
        keys = [("-1", item.name) for item in use.inputs if item.widget]
    # Fewer values than widgets: nobody can say whose they are, and the inner ones hold.
    if len(held) < len(keys):
        return
    for key, value in zip(keys, held, strict=False):
        if value is not None:
            yield key, value


def _bypass(node: Node, slot: int, wanted: str) -> int | None:
    """Return the link that a bypassed node passes on to its output `slot`."""
    given = node.outputs[slot].type if 0 <= slot < len(node.outputs) else wanted
    order = ([node.inputs[slot]] if 0 <= slot < len(node.inputs) else []) + list(node.inputs)
    for item in order:
        if item.type == given or (item.type == wanted and wanted != "*"):
            return item.link
    return None


def _io(data: Mapping[str, Any], key: str, usual: str) -> str:
    node = data.get(key)
    return str(node["id"]) if isinstance(node, Mapping) and "id" in node else usual


def _nodes(data: Mapping[str, Any]) -> dict[str, Node]:
    items = data.get("nodes")
    if not isinstance(items, list):
        raise _broken("The workflow has no list of nodes.")
    if len(items) > graphs.MAX_NODES:
        raise graphs.refusal(
            f"The workflow has {len(items):,} nodes; {graphs.MAX_NODES:,} are the most that is "
            "taken.",
            "Split it into several workflows.",
        )
    ids = [item["id"] for item in items if isinstance(item, Mapping) and "id" in item]
    found: dict[str, Node] = {}
    for item in items:
        if not isinstance(item, Mapping) or "id" not in item:
            raise _broken("One of the nodes has no id.")
        node = _node(item)
        if node.id in found:
            # The editor gives the second one another id, and links keep to the first.
            node = replace(node, id=graphs.free_id({**found, **{str(i): 0 for i in ids}}))
        found[node.id] = node
    return found


def _node(item: Mapping[str, Any]) -> Node:
    kind = item.get("type")
    if not isinstance(kind, str) or not kind:
        raise _broken(f"Node #{str(item['id'])[:40]} does not say its type.")
    mode = item.get("mode")
    properties = item.get("properties")
    return Node(
        id=str(item["id"]),
        type=kind,
        title=str(item.get("title") or ""),
        mode=mode if isinstance(mode, int) else 0,
        inputs=tuple(_slots(item.get("inputs"))),
        outputs=tuple(_slots(item.get("outputs"))),
        widgets=item.get("widgets_values"),
        properties=properties if isinstance(properties, Mapping) else {},
    )


def _slots(items: object) -> Iterator[Slot]:
    for item in items if isinstance(items, list) else []:
        if not isinstance(item, Mapping):
            yield Slot("", "")
            continue
        link = item.get("link")
        widget = item.get("widget")
        yield Slot(
            name=str(item.get("name", "")),
            type="COMBO" if isinstance(item.get("type"), list) else str(item.get("type", "")),
            link=link if isinstance(link, int) else None,
            widget=str(widget.get("name", "")) if isinstance(widget, Mapping) else "",
        )


def _links(data: Mapping[str, Any]) -> dict[int, Link]:
    """Return the links, which are lists in one version of the format and objects in another."""
    items = data.get("links")
    found: dict[int, Link] = {}
    for item in items if isinstance(items, list) else []:
        try:
            if isinstance(item, Mapping):
                row = [item[key] for key in _LINK_KEYS]
            else:
                row = list(item)[:5]
            number, origin, origin_slot, target, target_slot = row
            found[int(number)] = Link(str(origin), int(origin_slot), str(target), int(target_slot))
        except (TypeError, ValueError, KeyError):
            raise _broken(f"A link cannot be read: {str(item)[:80]}.") from None
    return found


_LINK_KEYS = ("id", "origin_id", "origin_slot", "target_id", "target_slot")

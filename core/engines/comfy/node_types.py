"""What a server's /object_info says of its nodes, read tolerantly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

ObjectInfo = Mapping[str, Any]
"""The reply to GET /object_info: node class → description."""

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
"""Input types that hold a value of their own and need no link."""

_UPLOADS = ("image_upload", "video_upload", "audio_upload", "animated_image_upload")
# These take a file from the input folder without saying so in their description.
_UPLOAD_INPUTS = frozenset(
    {("VHS_LoadVideo", "video"), ("VHS_LoadAudioUpload", "audio"), ("LoadLatent", "latent")}
)


@dataclass(frozen=True, slots=True)
class InputType:
    """One input of a node class.

    Attributes:
        name: Key in a graph's `inputs`.
        type: "INT", "COMBO", "MODEL", or several joined by commas; "*" takes anything.
        required: Whether the server refuses a graph without it.
        options: What a combo offers; None when it is no combo or the list is made elsewhere.
        config: The rest of the description: default, min, max, tooltip …
        upload: The value names a file in the server's input folder.
    """

    name: str
    type: str
    required: bool
    options: tuple[Any, ...] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    upload: bool = False

    @property
    def is_widget(self) -> bool:
        """Whether it holds a value in the editor, linked or not."""
        return self.type in WIDGETS and not self.config.get("forceInput")


@dataclass(frozen=True, slots=True)
class NodeType:
    """One node class of a server.

    Attributes:
        name: Key in a graph's `class_type`.
        title: What the editor writes above the node.
        inputs: Its inputs in the editor's order: required ones, then optional ones.
        outputs: Types of its outputs.
        is_output: Whether a graph may end in it.
        module: Where it comes from, such as "nodes" or "custom_nodes.NAME".
    """

    name: str
    title: str
    inputs: tuple[InputType, ...]
    outputs: tuple[str, ...]
    is_output: bool
    module: str

    def input(self, name: str) -> InputType | None:
        """Return the input called `name`, None when there is none."""
        return next((item for item in self.inputs if item.name == name), None)


def node_type(info: ObjectInfo, name: str) -> NodeType | None:
    """Return the node class `name` of a server, None when it has none."""
    said = info.get(name)
    if not isinstance(said, Mapping):
        return None
    outputs = said.get("output")
    return NodeType(
        name=name,
        title=str(said.get("display_name") or name),
        inputs=tuple(input_types(name, said)),
        outputs=tuple(_type_name(item) for item in outputs) if isinstance(outputs, list) else (),
        is_output=said.get("output_node") is True,
        module=str(said.get("python_module") or ""),
    )


def input_types(node: str, said: Mapping[str, Any]) -> Iterator[InputType]:
    """Yield the inputs that the description `said` of a node class lists, in order."""
    groups = said.get("input")
    orders = said.get("input_order")
    if not isinstance(groups, Mapping):
        return
    for group in ("required", "optional"):
        specs = groups.get(group)
        if not isinstance(specs, Mapping):
            continue
        order = orders.get(group) if isinstance(orders, Mapping) else None
        names = order if isinstance(order, list) and set(order) == set(specs) else list(specs)
        for name in names:
            spec = specs[name]
            if isinstance(spec, list) and spec:
                yield _input(node, str(name), spec, required=group == "required")


def _input(node: str, name: str, spec: list[Any], *, required: bool) -> InputType:
    kind = spec[0]
    config = spec[1] if len(spec) > 1 and isinstance(spec[1], Mapping) else {}
    options = None
    if isinstance(kind, list):
        # The old notation writes the choices in the place of the type.
        options, kind = tuple(kind), "COMBO"
    elif kind == "COMBO" and isinstance(config.get("options"), list):
        options = tuple(config["options"])
    upload = any(config.get(key) is True for key in _UPLOADS) or (node, name) in _UPLOAD_INPUTS
    return InputType(name, _type_name(kind), required, options, config, upload)


def _type_name(kind: object) -> str:
    # An output may be described by its list of choices, too.
    return "COMBO" if isinstance(kind, list) else str(kind)


def types_meet(given: str, wanted: str) -> bool:
    """Say whether an output of type `given` may go into an input of type `wanted`."""
    ours = {part.strip() for part in given.split(",")}
    theirs = {part.strip() for part in wanted.split(",")}
    return "*" in ours or "*" in theirs or ours <= theirs

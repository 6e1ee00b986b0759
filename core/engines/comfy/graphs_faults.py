"""What a server would refuse in a graph, told before it is sent.

Follows the server's own order: classes of all nodes, then everything that an output
needs. It is stricter where the server lets through what fails later: choices of new-style
nodes, values in the place of links, files outside the input folder.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.engines.comfy import graphs
from core.engines.comfy.graphs import Graph
from core.engines.comfy.node_types import InputType, NodeType, ObjectInfo, node_type, types_meet
from core.errors import Category, Problem, ProblemError


@dataclass(frozen=True, slots=True)
class Fault:
    """One reason why a server would not run a graph.

    Attributes:
        kind: The server's own word, such as "value_not_in_list".
        node: Id of the node at fault, "" for the graph as a whole.
        class_type: Class of that node.
        input: Name of the input at fault, "" for the node as a whole.
        message: One sentence that names node and input.
        hint: The fix.
    """

    kind: str
    node: str
    class_type: str
    input: str
    message: str
    hint: str


def faults(graph: Graph, info: ObjectInfo, files: Collection[str] = ()) -> tuple[Fault, ...]:
    """Return why the server of `info` would refuse the checked `graph`; empty when it takes it.

    Args:
        graph: A graph that passed `graphs.check`.
        info: The server's /object_info.
        files: Names in the server's input folder that `info` does not list yet.
    """
    unknown = tuple(_unknown(graph, info))
    if unknown:
        return unknown
    types = {key: node_type(info, node["class_type"]) for key, node in graph.items()}
    outputs = [key for key, kind in types.items() if kind is not None and kind.is_output]
    if not outputs:
        return (
            Fault(
                "prompt_no_outputs",
                "",
                "",
                "",
                "Nothing in the workflow saves or shows a result.",
                "Add a node that saves the picture or clip.",
            ),
        )
    needed = {key: None for output in outputs for key in graphs.upstream(graph, output)}
    return tuple(
        fault
        for key in needed
        if (kind := types[key]) is not None
        for fault in _node_faults(graph, types, key, kind, files)
    )


def require(graph: Graph, info: ObjectInfo, files: Collection[str] = ()) -> None:
    """Raise ProblemError when the server of `info` would refuse `graph`.

    The problem's message is the first fault; its details list all of them.
    """
    found = faults(graph, info, files)
    if found:
        lines = "\n".join(f"{fault.message} {fault.hint}" for fault in found)
        more = f" ({len(found) - 1} more in the details)" if len(found) > 1 else ""
        raise ProblemError(
            Problem(
                Category.INVALID_PARAMS,
                found[0].message + more,
                found[0].hint,
                lines,
                "workflow",
            )
        )


def _unknown(graph: Graph, info: ObjectInfo) -> Iterator[Fault]:
    for key, node in graph.items():
        name = node["class_type"]
        if node_type(info, name) is None:
            yield Fault(
                "invalid_prompt",
                key,
                name,
                "",
                f"The server has no node {name}, which {graphs.title(graph, key)} needs.",
                "Install the pack that has it, or choose another server.",
            )


def _node_faults(
    graph: Graph,
    types: Mapping[str, NodeType | None],
    key: str,
    kind: NodeType,
    files: Collection[str],
) -> Iterator[Fault]:
    inputs = graph[key]["inputs"]
    named = graphs.title(graph, key)
    for spec in kind.inputs:
        where = (key, kind.name, spec.name)
        if spec.name not in inputs:
            # Inputs that grow are written one by one, as "values.a".
            if spec.required and not any(name.startswith(spec.name + ".") for name in inputs):
                yield Fault(
                    "required_input_missing",
                    *where,
                    f"Node {named} lacks its input “{spec.name}”.",
                    f"Link or fill in “{spec.name}”.",
                )
            continue
        value = inputs[spec.name]
        if graphs.is_link(value):
            fault = _link_fault(graph, types, spec, value)
        else:
            fault = _value_fault(spec, value, files)
        if fault is not None:
            word, message, hint = fault
            yield Fault(word, *where, f"“{spec.name}” of node {named} {message}.", hint)


def _link_fault(
    graph: Graph, types: Mapping[str, NodeType | None], spec: InputType, value: list[Any]
) -> tuple[str, str, str] | None:
    source, slot = value
    kind = types[source]
    outputs = kind.outputs if kind is not None else ()
    if slot >= len(outputs):
        return (
            "exception_during_inner_validation",
            f"takes output {slot} of {graphs.title(graph, source)}, which has {len(outputs)}",
            "Link the input again.",
        )
    if not types_meet(outputs[slot], spec.type):
        return (
            "return_type_mismatch",
            f"wants {spec.type} and is linked to {outputs[slot]} of {graphs.title(graph, source)}",
            f"Link it to an output of type {spec.type}.",
        )
    return None


def _value_fault(
    spec: InputType, value: object, files: Collection[str]
) -> tuple[str, str, str] | None:
    if isinstance(value, dict) and "__value__" in value:
        value = value["__value__"]
    if spec.upload:
        return _file_fault(spec, value, files)
    if spec.type == "COMBO":
        return _choice_fault(spec, value)
    convert = _CONVERTERS.get(spec.type)
    if convert is not None:
        return _number_fault(spec, value, convert)
    if spec.type.isupper() and "," not in spec.type and spec.type.isidentifier():
        # A link type, such as MODEL. Newer widget types come with their own defaults.
        if "default" in spec.config or not isinstance(value, bool | int | float | str):
            return None
        return (
            "literal_for_link",
            f"is {_short(value)}, but must be a link",
            f"Link it to an output of type {spec.type}.",
        )
    return None


_CONVERTERS: Mapping[str, Callable[[Any], object]] = {
    "INT": int,
    "FLOAT": float,
    "STRING": str,
    "BOOLEAN": bool,
}


def _number_fault(
    spec: InputType, value: object, convert: Callable[[Any], object]
) -> tuple[str, str, str] | None:
    try:
        # The server converts as Python does: "2" and 2.9 are whole numbers to it.
        number = convert(value)
    except (TypeError, ValueError, OverflowError):
        noun = "a whole number" if spec.type == "INT" else "a number"
        return ("invalid_input_type", f"is {_short(value)}, not {noun}", f"Use {noun}.")
    if spec.type not in ("INT", "FLOAT") or not isinstance(number, int | float):
        return None
    low, high = spec.config.get("min"), spec.config.get("max")
    if isinstance(low, int | float) and number < low:
        return ("value_smaller_than_min", f"is {number}, below {low}", f"Use at least {low}.")
    if isinstance(high, int | float) and number > high:
        return ("value_bigger_than_max", f"is {number}, above {high}", f"Use at most {high}.")
    return None


def _choice_fault(spec: InputType, value: object) -> tuple[str, str, str] | None:
    if spec.options is None:
        return None
    wanted = value if isinstance(value, list) and spec.config.get("multiselect") else [value]
    lacking = [item for item in wanted if item not in spec.options]
    if not lacking:
        return None
    shown = ", ".join(str(item) for item in spec.options[:8])
    more = " …" if len(spec.options) > 8 else ""
    return (
        "value_not_in_list",
        f"is {_short(lacking[0])}, which the server does not offer",
        f"Choose one of: {shown}{more}." if shown else "The server has none; add a file first.",
    )


def _file_fault(
    spec: InputType, value: object, files: Collection[str]
) -> tuple[str, str, str] | None:
    name = value if isinstance(value, str) else ""
    parts = name.replace("\\", "/").split("/")
    if not name or ".." in parts or parts[0] == "" or ":" in parts[0]:
        return (
            "custom_validation_failed",
            f"is {_short(value)}, which is no file in the input folder",
            "Choose a picture or clip.",
        )
    if name in (spec.options or ()) or name in files or spec.options is None:
        return None
    if name.endswith((" [input]", " [output]", " [temp]")):
        return None
    return (
        "custom_validation_failed",
        f"names {_short(name)}, which is not in the server's input folder",
        "Upload it first, or choose another file.",
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"

"""Which value in the editor's list belongs to which input of a node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.engines.comfy.convert_scopes import Node
from core.engines.comfy.node_types import InputType, NodeType, input_types

CONTROL = ("fixed", "increment", "decrement", "randomize", "increment-wrap")
"""What the box below a seed holds: how it changes after each run."""
_SEEDS = ("seed", "noise_seed")
_EDITOR_WIDGETS = ("MARKDOWN", "COLOR", "WEBCAM", "LOAD_3D", "LOAD_3D_ANIMATION")
_UPLOAD_BUTTON = InputType("", "UPLOAD", required=False)
_DYNAMIC = "COMFY_DYNAMICCOMBO_V3"


def values(node: Node, kind: NodeType | None, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a node's widgets by input name.

    Args:
        node: The box, as saved.
        kind: What the server says of its class; None when it lacks it.
        overrides: Values that a surrounding subgraph holds for it.
    """
    held = node.widgets
    if isinstance(held, Mapping):
        found = _by_name(held, kind)
    elif isinstance(held, list):
        found = _by_order(node, held, kind)
    else:
        found = {}
    for spec in kind.inputs if kind is not None else ():
        # A widget newer than the file stands at its default in the editor.
        known = spec.type != "COMBO" or spec.options or "default" in spec.config
        if spec.is_widget and known and spec.name not in found and not spec.upload:
            found[spec.name] = _default(spec)
    found.update({name: value for name, value in overrides.items() if name in found})
    return found


def _default(spec: InputType) -> Any:
    if "default" in spec.config:
        return spec.config["default"]
    if spec.type == "COMBO":
        return (spec.options or ("",))[0]
    return {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False}.get(spec.type, "")


def _by_name(held: Mapping[str, Any], kind: NodeType | None) -> dict[str, Any]:
    """Read values that a pack saves by name, as VideoHelperSuite does."""
    if kind is None:
        return {
            str(name): value
            for name, value in held.items()
            if isinstance(value, bool | int | float | str)
        }
    names = {spec.name for spec in kind.inputs if spec.is_widget}
    for spec in kind.inputs:
        # The chosen format brings inputs of its own, such as crf.
        formats = spec.config.get("formats")
        chosen = formats.get(held.get(spec.name)) if isinstance(formats, Mapping) else None
        if isinstance(chosen, list):
            names |= {str(item[0]) for item in chosen if isinstance(item, list) and item}
    return {name: value for name, value in held.items() if name in names}


def _by_order(node: Node, held: Sequence[Any], kind: NodeType | None) -> dict[str, Any]:
    if kind is not None:
        found = _dealt(held, list(_widgets(kind)))
        if found is not None:
            return found
    # The class is gone or has changed since: what the file itself says of its widgets.
    saved = [
        InputType(slot.widget, slot.type, required=False) for slot in node.inputs if slot.widget
    ]
    found = _dealt(held, saved, whole=True)
    if found is not None:
        return found
    return (_dealt(held, list(_widgets(kind)), strict=False) or {}) if kind is not None else {}


def _dealt(
    held: Sequence[Any], specs: list[InputType], *, whole: bool = False, strict: bool = True
) -> dict[str, Any] | None:
    """Deal values to inputs in order; None when they do not fit.

    Args:
        held: The values.
        specs: The inputs in order.
        whole: Every value must find its input.
        strict: A value of a wrong type means that they do not fit.
    """
    found: dict[str, Any] = {}
    waiting = list(specs)
    at = 0
    while waiting and at < len(held):
        spec = waiting.pop(0)
        value = held[at]
        if spec is _UPLOAD_BUTTON:
            at += 1
            continue
        if strict and not _plausible(spec, value):
            return None
        found[spec.name] = value
        at += 1
        if _has_control(spec) and at < len(held) and _is_control(held[at], waiting):
            at += 1
        waiting = [*_chosen(spec, value), *waiting]
    return None if whole and at < len(held) else found


def _is_control(value: object, waiting: list[InputType]) -> bool:
    # The first editors had a box to tick in its place.
    ticked = isinstance(value, bool) and not (waiting and waiting[0].type == "BOOLEAN")
    return ticked or value in CONTROL


def _has_control(spec: InputType) -> bool:
    return bool(spec.config.get("control_after_generate")) or (
        spec.type == "INT" and spec.name in _SEEDS
    )


def _plausible(spec: InputType, value: object) -> bool:
    match spec.type:
        case "INT" | "FLOAT":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "BOOLEAN":
            return isinstance(value, bool) or value in (0, 1)
        case "STRING":
            return isinstance(value, str)
        case "COMBO":
            kinds = {type(option) for option in spec.options or ()}
            return value is None or not kinds or type(value) in kinds
    return True


def _widgets(kind: NodeType) -> Iterator[InputType]:
    """Yield a class's widgets in the editor's order, with the button that uploads add."""
    for required in (True, False):
        group = [spec for spec in kind.inputs if spec.required == required]
        for spec in group:
            shown = spec.is_widget or spec.type in (*_EDITOR_WIDGETS, _DYNAMIC)
            if shown and not spec.config.get("forceInput"):
                yield spec
        if any(spec.upload for spec in group):
            yield _UPLOAD_BUTTON


def _chosen(spec: InputType, value: object) -> list[InputType]:
    """Return the inputs that a choice brings with it, in newer nodes."""
    options = spec.config.get("options")
    if spec.type != _DYNAMIC or not isinstance(options, list):
        return []
    for option in options:
        if isinstance(option, Mapping) and option.get("key") == value:
            inner = input_types("", {"input": option.get("inputs")})
            return [
                InputType(
                    f"{spec.name}.{item.name}",
                    item.type,
                    item.required,
                    item.options,
                    item.config,
                    item.upload,
                )
                for item in inner
                if item.is_widget or item.type == _DYNAMIC
            ]
    return []

"""Whether a graph may run: the same answers, in the same words, as a real server gives."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.engines.comfy.standin.nodes import Catalogue

Graph = Any
"""What came as "prompt": an object of nodes by id, if all is well."""
Reason = dict[str, Any]
_LONG_LIST = 20


@dataclass(slots=True)
class Verdict:
    """What validation found.

    Attributes:
        outputs: Output nodes that can run; none means that the prompt is refused.
        error: Why it is refused.
        node_errors: By node; also of a prompt that is accepted in part.
    """

    outputs: list[str] = field(default_factory=list)
    error: Reason | None = None
    node_errors: dict[str, dict[str, Any]] = field(default_factory=dict)


def validate(graph: Graph, catalogue: Catalogue, targets: Collection[str] | None = None) -> Verdict:
    """Check a graph, converting values in place as the server does.

    Args:
        graph: What was sent; anything.
        catalogue: The nodes there are.
        targets: The only outputs wanted.

    Raises:
        TypeError: The graph is none at all; a server answers that with 500.
    """
    wanted = []
    for name in graph:
        if "class_type" not in graph[name]:
            what = "Cannot execute because a node is missing the class_type property."
            return Verdict(error=_error("invalid_prompt", what, f"Node ID '#{name}'"))
        kind = graph[name]["class_type"]
        if not catalogue.has(kind):
            what = f"Cannot execute because node {kind} does not exist."
            return Verdict(error=_error("invalid_prompt", what, f"Node ID '#{name}'"))
        if catalogue.is_output(kind) and (targets is None or name in targets):
            wanted.append(name)
    if not wanted:
        return Verdict(error=_error("prompt_no_outputs", "Prompt has no outputs", ""))
    return _Check(graph, catalogue).outputs(wanted)


def _error(kind: str, message: str, details: str) -> Reason:
    return {"type": kind, "message": message, "details": details, "extra_info": {}}


class _Check:
    """One validation; remembers what it found about each node."""

    def __init__(self, graph: Graph, catalogue: Catalogue) -> None:
        self._graph = graph
        self._catalogue = catalogue
        self._done: dict[str, tuple[bool, list[Reason]]] = {}
        self._open: set[str] = set()

    def outputs(self, wanted: list[str]) -> Verdict:
        verdict = Verdict()
        said = []
        for name in wanted:
            try:
                good, reasons = self.node(name)
            except Exception as error:  # noqa: BLE001 - so does the server
                good, reasons = False, [_raised("exception_during_validation", error)]
                self._done[name] = (False, reasons)
            if good:
                verdict.outputs.append(name)
                continue
            said += [f"{reason['message']}: {reason['details']}" for reason in reasons]
            for found, (fine, why) in self._done.items():
                if not fine and why:
                    place = verdict.node_errors.setdefault(
                        found,
                        {
                            "errors": why,
                            "dependent_outputs": [],
                            "class_type": self._graph[found]["class_type"],
                        },
                    )
                    place["dependent_outputs"].append(name)
        if not verdict.outputs:
            what = "Prompt outputs failed validation"
            verdict.error = _error("prompt_outputs_failed_validation", what, "\n".join(said))
        return verdict

    def node(self, name: str) -> tuple[bool, list[Reason]]:
        if name in self._done:
            return self._done[name]
        if name in self._open:  # A cycle: a server goes round it until it cannot any more.
            return False, []
        inputs = self._graph[name]["inputs"]
        kind = self._graph[name]["class_type"]
        self._open.add(name)
        good, reasons = True, []
        check = self._catalogue.checks(kind)
        for key, (required, wants, options) in self._catalogue.inputs(kind).items():
            if key not in inputs:
                if required:
                    reasons.append(
                        _reason("required_input_missing", "Required input is missing", key, key)
                    )
                continue
            if isinstance(inputs[key], list):
                fine, why = self._link(inputs[key], key, wants, options)
                good = good and fine
            else:
                why = _value(inputs, key, wants, options, checked=check is not None)
            if why is not None:
                reasons.append(why)
        if check is not None and not reasons and good:
            wrong = check(inputs)
            if wrong is not None:
                what = "Custom validation failed for node"
                details = f"{wrong[0]} - {wrong[1]}"
                reasons.append(_reason("custom_validation_failed", what, details, wrong[0]))
        self._open.discard(name)
        self._done[name] = (good and not reasons, reasons)
        return self._done[name]

    def _link(
        self, link: list[Any], key: str, wants: Any, options: Mapping[str, Any]
    ) -> tuple[bool, Reason | None]:
        info = {"input_name": key, "input_config": [wants, options]}
        if len(link) != 2:
            what = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            return False, _full("bad_linked_input", what, key, info | {"received_value": link})
        source, slot = link
        given = tuple(self._catalogue.outputs(self._graph[source]["class_type"]))[slot]
        if not _fits(given, wants):
            what = "Return type mismatch between linked nodes"
            details = f"{key}, received_type({given}) mismatch input_type({wants})"
            more = info | {"received_type": given, "linked_node": link}
            return False, _full("return_type_mismatch", what, details, more)
        try:
            return self.node(source)[0], None
        except Exception as error:  # noqa: BLE001 - so does the server
            inner = _raised("exception_during_inner_validation", error)
            inner["message"] = "Exception when validating inner node"
            extra = inner["extra_info"]
            inner["extra_info"] = info | {"exception_message": str(error), **extra}
            inner["extra_info"]["linked_node"] = link
            self._done[source] = (False, [inner])
            return False, None


def _fits(given: Any, wants: Any) -> bool:
    if given == wants or "*" in (given, wants):
        return True
    if not isinstance(given, str) or not isinstance(wants, str):
        return False
    return set(given.split(",")) <= set(wants.split(","))


_MAKE: Mapping[str, Any] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


def _value(
    inputs: dict[str, Any], key: str, wants: Any, options: Mapping[str, Any], *, checked: bool
) -> Reason | None:
    """Convert a value in its place; return what is wrong with it."""
    info: dict[str, Any] = {"input_name": key, "input_config": [wants, options]}
    value = inputs[key]
    if isinstance(wants, str) and wants in _MAKE:
        try:
            value = inputs[key] = _MAKE[wants](value)
        except Exception as error:  # noqa: BLE001 - so does the server
            what = f"Failed to convert an input value to a {wants} value"
            info |= {"received_value": value, "exception_message": str(error)}
            return _full("invalid_input_type", what, f"{key}, {value}, {error}", info)
    if checked:
        return None
    info["received_value"] = value
    if "min" in options and value < options["min"]:
        what = f"Value {value} smaller than min of {options['min']}"
        return _full("value_smaller_than_min", what, key, info)
    if "max" in options and value > options["max"]:
        what = f"Value {value} bigger than max of {options['max']}"
        return _full("value_bigger_than_max", what, key, info)
    if isinstance(wants, list) and value not in wants:
        if len(wants) > _LONG_LIST:
            offered, info["input_config"] = f"(list of length {len(wants)})", None
        else:
            offered = str(wants)
        details = f"{key}: '{value}' not in {offered}"
        return _full("value_not_in_list", "Value not in list", details, info)
    return None


def _reason(kind: str, message: str, details: str, key: str) -> Reason:
    return _full(kind, message, details, {"input_name": key})


def _full(kind: str, message: str, details: str, extra: dict[str, Any]) -> Reason:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


def _raised(kind: str, error: Exception) -> Reason:
    extra = {
        "exception_type": type(error).__name__,
        "traceback": traceback.format_tb(error.__traceback__),
    }
    return _full(kind, "Exception when validating node", str(error), extra)

"""A workflow on its way to a recipe: read, judged by a server, its knobs to be picked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

from core.engines.comfy import graphs
from core.engines.comfy.convert import Converted, ModelFile
from core.engines.comfy.graphs import Graph
from core.engines.comfy.graphs_faults import faults
from core.engines.comfy.knobs import Found, find, workflow_from
from core.engines.comfy.models import Known
from core.engines.comfy.node_types import ObjectInfo
from core.engines.comfy.workflows import Workflow
from core.errors import Category, Problem, ProblemError

# No form can mend these; other faults are values, which forms and readiness care for.
_BROKEN = (
    "prompt_no_outputs",
    "required_input_missing",
    "bad_linked_input",
    "return_type_mismatch",
)
_TOLD = 4
MOST_KNOBS = 100


@dataclass(frozen=True, slots=True)
class Draft:
    """What a person picks knobs from.

    Attributes:
        title: A name to begin with.
        graph: The checked graph.
        found: Its knobs; `shown` says which are picked to begin with.
        notes: What was left out or guessed, in sentences.
        models: Models that the file names.
        before: The workflow that is edited; None for a new one.
    """

    title: str
    graph: Graph
    found: tuple[Found, ...]
    notes: tuple[str, ...] = ()
    models: tuple[ModelFile, ...] = ()
    before: Workflow | None = None


def draft(read: Converted, info: ObjectInfo, known: Known, title: str, server: str) -> Draft:
    """Return what can be picked of a workflow that was read.

    Args:
        read: The workflow as it was read.
        info: The /object_info of the server that shall run it.
        known: What ships about packs and folders.
        title: A name to begin with, such as the file's.
        server: What a person calls the server.

    Raises:
        ProblemError: The server lacks nodes of it, or would refuse it whatever its values.
    """
    unknown = dict(read.unknown or {})
    if unknown:
        raise _lacking(unknown, info, known, server)
    broken = [one for one in faults(read.graph, info) if one.kind in _BROKEN]
    if broken:
        more = f" ({len(broken) - 1} more in the details)" if len(broken) > 1 else ""
        lines = "\n".join(f"{one.message} {one.hint}" for one in broken)
        raise graphs.refusal(broken[0].message + more, broken[0].hint, lines)
    return Draft(named(title), read.graph, find(read.graph, info, known), read.notes, read.models)


def named(text: str) -> str:
    """Return a title made of a file's name."""
    return _plain(text.replace("_", " ")) or "Workflow"


def _plain(text: str) -> str:
    """Return `text` on one line, without signs that nobody sees."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(shown.split())[:80].rstrip()


def _lacking(
    unknown: Mapping[str, str], info: ObjectInfo, known: Known, server: str
) -> ProblemError:
    lines, packs = [], []
    for name, noted in unknown.items():
        pack = known.pack(name, noted)
        near = get_close_matches(name, list(info), 3, 0.8)
        words = [f"{name}:", f"in {pack.title} {pack.source}".strip() if pack else "pack not known"]
        lines.append(" ".join(words) + (f"; it has {', '.join(near)}" if near else ""))
        if pack is not None and pack.title not in packs:
            packs.append(pack.title)
    shown = ", ".join(list(unknown)[:_TOLD]) + (", …" if len(unknown) > _TOLD else "")
    count = "a node" if len(unknown) == 1 else f"{len(unknown)} nodes"
    from_where = ", ".join(packs[:_TOLD]) or "what ComfyUI-Manager finds for them"
    return ProblemError(
        Problem(
            Category.INVALID_PARAMS,
            f"{server} lacks {count} of this workflow: {shown}.",
            f"Install {from_where} there, restart the server and open the workflow again.",
            "\n".join(lines),
            "workflow",
        )
    )


def draft_of(workflow: Workflow, info: ObjectInfo | None, known: Known) -> Draft:
    """Return what can be picked of a workflow that is there already.

    Its own knobs come first, as they are; without `info` they are all there is.
    """
    own = [_found(workflow, index) for index in range(len(workflow.knobs))]
    taken = {target for knob in workflow.knobs for target in knob.targets}
    names = {knob.parameter.name for knob in workflow.knobs}
    labels = {knob.parameter.label for knob in workflow.knobs}
    more = find(workflow.graph, info, known) if info is not None else ()
    for one in more:
        if taken & set(one.knob.targets):
            continue
        parameter = one.knob.parameter
        name = _free(parameter.name, names, "_")
        label = _free(parameter.label, labels, " ")
        knob = replace(one.knob, parameter=replace(parameter, name=name, label=label))
        own.append(replace(one, knob=knob, shown=False))
    return Draft(workflow.title, workflow.graph, tuple(own), before=workflow)


def _found(workflow: Workflow, index: int) -> Found:
    knob = workflow.knobs[index]
    where = graphs.title(workflow.graph, knob.targets[0].node)
    role = "model" if knob.folder else knob.parameter.name
    return Found(knob, role, where, shown=True)


def _free(word: str, taken: set[str], gap: str) -> str:
    made, count = word, 1
    while made in taken:
        count += 1
        made = f"{word}{gap}{count}"
    taken.add(made)
    return made


def picked(source: Draft, title: str, labels: Mapping[str, str]) -> Workflow:
    """Return the workflow of a person's own that a draft becomes.

    Args:
        source: The draft.
        title: Its name in menus.
        labels: Label in the form by the name of each knob to show, in form order.

    Raises:
        ProblemError: The title is empty, a name is not in the draft, or there are too many.
    """
    if len(labels) > MOST_KNOBS:
        raise graphs.refusal(
            f"{len(labels)} knobs are picked, and {MOST_KNOBS} are the most.", "Pick fewer."
        )
    found = []
    for one in source.found:
        parameter = one.knob.parameter
        label = _plain(labels.get(parameter.name, "")) or parameter.label
        knob = replace(one.knob, parameter=replace(parameter, label=label))
        found.append(replace(one, knob=knob))
    made = workflow_from(source.graph, found, _plain(title), names=list(labels))
    if source.before is None:
        return made
    # The id stays whatever the title: jobs and what was typed are kept under it.
    before = source.before
    return replace(
        made,
        id=before.id,
        timeout_seconds=before.timeout_seconds,
        vram_bytes=before.vram_bytes,
        notice=before.notice,
        examples=before.examples,
    )

"""Workflow files: one JSON each, those that ship and those of the user."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core import resources
from core.engines.comfy import graphs
from core.engines.comfy.workflows import Knob, Part, Target, Workflow
from core.errors import Problem, ProblemError, problem_from
from core.jobs import Kind, Parameter
from core.whole_files import write_whole

FOLDER = "workflows"
VERSION = 1


def built_in() -> tuple[Workflow, ...]:
    """Return the workflows that ship with Framedeck, by file name."""
    return tuple(read(path) for path in sorted(resources.path(FOLDER).glob("*.json")))


def read(path: Path) -> Workflow:
    """Read one workflow file.

    Raises:
        ProblemError: It is no workflow of ours; the problem names what is wrong.
        OSError: The file cannot be read.
    """
    return from_json(graphs.loads(path.read_bytes()))


def from_json(data: Any) -> Workflow:
    """Return the workflow in `data`, the content of a workflow file.

    Raises:
        ProblemError: A part is missing or wrong; the problem names it.
    """
    fix = "Delete this workflow and drop the original again."
    if not isinstance(data, Mapping) or data.get("version") != VERSION:
        raise graphs.refusal("This workflow was not written by this version of Framedeck.", fix)
    try:
        output = data.get("output")
        workflow = Workflow(
            id=str(data["id"]),
            title=str(data["title"]),
            summary=str(data["summary"]),
            makes=str(data["makes"]),
            graph=graphs.check(data["graph"]),
            knobs=tuple(_knob(item) for item in data["parameters"]),
            output=(str(output[0]), int(output[1])) if output else None,
            parts=tuple(
                Part(tuple(item["nodes"]), str(item["parameter"]), float(item["above"]))
                for item in data.get("parts", ())
            ),
            timeout_seconds=float(data.get("timeout_seconds", 1200)),
            vram_bytes=data.get("vram_bytes"),
            notice=str(data.get("notice", "")),
            examples=tuple(data.get("examples", ())),
            own=bool(data.get("own", False)),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise graphs.refusal(
            f"A part of the workflow {str(data.get('id'))[:60]!r} is missing or wrong: {error}.",
            fix,
        ) from None
    for place in _places(workflow):
        if place not in workflow.graph:
            raise graphs.refusal(
                f"The workflow {workflow.id!r} speaks of node #{place}, which is not there.", fix
            )
    return workflow


def _places(workflow: Workflow) -> Iterator[str]:
    for knob in workflow.knobs:
        for target in knob.targets:
            yield target.node
    for part in workflow.parts:
        yield from part.nodes
    if workflow.output is not None:
        yield workflow.output[0]


def _knob(item: Mapping[str, Any]) -> Knob:
    kind = Kind(item["kind"])
    return Knob(
        parameter=Parameter(
            name=str(item["name"]),
            kind=kind,
            label=str(item["label"]),
            default=item.get("default"),
            minimum=item.get("minimum"),
            maximum=item.get("maximum"),
            multiple=item.get("multiple"),
            choices=tuple(item.get("choices", ())),
            required=bool(item.get("required", False)),
            unit=str(item.get("unit", "")),
            help=str(item.get("help", "")),
            group=str(item.get("group", "")),
            offset=int(item.get("offset", 0)),
        ),
        targets=tuple(Target(*map(str, target)) for target in item["to"]),
        folder=str(item.get("folder", "")),
        files=tuple(item.get("files", ())),
        like=str(item.get("like", "")),
        listed=bool(item.get("listed", False)),
    )


def to_json(workflow: Workflow) -> dict[str, Any]:
    """Return what a workflow file holds; `from_json` reads it back."""
    data: dict[str, Any] = {
        "version": VERSION,
        "id": workflow.id,
        "title": workflow.title,
        "summary": workflow.summary,
        "makes": workflow.makes,
        "timeout_seconds": workflow.timeout_seconds,
        "vram_bytes": workflow.vram_bytes,
        "notice": workflow.notice,
        "examples": list(workflow.examples),
        "own": workflow.own,
        "parameters": [_knob_json(knob) for knob in workflow.knobs],
        "parts": [
            {"nodes": list(part.nodes), "parameter": part.parameter, "above": part.above}
            for part in workflow.parts
        ],
        "output": list(workflow.output) if workflow.output else None,
        "graph": workflow.graph,
    }
    # A workflow without knobs still says so.
    kept = ("parameters",)
    return {k: v for k, v in data.items() if k in kept or v not in (None, "", [], False)}


def _knob_json(knob: Knob) -> dict[str, Any]:
    p = knob.parameter
    data: dict[str, Any] = {
        "name": p.name,
        "kind": p.kind.value,
        "label": p.label,
        "default": p.default,
        "minimum": p.minimum,
        "maximum": p.maximum,
        "multiple": p.multiple,
        "offset": p.offset or None,
        "choices": list(p.choices) or None,
        "required": p.required or None,
        "unit": p.unit or None,
        "help": p.help or None,
        "group": p.group or None,
        "to": [
            [t.node, t.input, t.share_of] if t.share_of else [t.node, t.input] for t in knob.targets
        ],
        "folder": knob.folder or None,
        "files": list(knob.files) or None,
        "like": knob.like or None,
        "listed": knob.listed or None,
    }
    return {key: value for key, value in data.items() if value is not None}


def dumps(workflow: Workflow) -> str:
    """Return the text of a workflow file."""
    return json.dumps(to_json(workflow), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


# ---- the user's own -----------------------------------------------------------


def save(folder: Path, workflow: Workflow) -> Path:
    """Write `workflow` into `folder` so that a crash leaves the old or the new file.

    Raises:
        OSError: The folder is not writable or the disk is full.
    """
    path = folder / f"{workflow.id}.json"
    write_whole(path, dumps(workflow))
    return path


def remove(folder: Path, workflow: Workflow) -> None:
    """Remove the file of `workflow` from `folder`; one that is gone is fine.

    Raises:
        OSError: The folder is not writable.
    """
    (folder / f"{workflow.id}.json").unlink(missing_ok=True)


def saved(folder: Path) -> tuple[tuple[Workflow, ...], tuple[tuple[Path, Problem], ...]]:
    """Return the workflows in `folder` by title, and the files that cannot be read, with why.

    A file that cannot be read is left where it is.
    """
    found, bad = [], []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            workflow = read(path)
            if workflow.id != path.stem:
                raise graphs.refusal(
                    f"The file {path.name} holds a workflow called {workflow.id!r}.",
                    f"Rename it to {workflow.id}.json.",
                )
            found.append(workflow)
        except (ProblemError, OSError) as error:
            bad.append((path, problem_from(error)))
    found.sort(key=lambda item: item.title.lower())
    return tuple(found), tuple(bad)

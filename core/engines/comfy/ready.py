"""Whether a workflow can run on a server, and what it lacks, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

from core.engines.comfy import graphs
from core.engines.comfy.graphs import Graph
from core.engines.comfy.models import Known, Use, basename, uses
from core.engines.comfy.node_types import ObjectInfo, node_type
from core.engines.comfy.savers import video_saver
from core.engines.comfy.workflows import Workflow
from core.errors import ProblemError
from core.jobs import Recipe, Value
from core.units import memory

Folders = Mapping[str, Sequence[str]]
"""Files by model folder, as GET /models/{folder} tells them."""


class Lack(StrEnum):
    """What kind of thing is missing."""

    NODE = "node"
    FILE = "file"
    SAVER = "saver"


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that a server lacks.

    Attributes:
        kind: Node class, model file, or any node that saves.
        name: Name of it.
        place: Pack that has the node, or folder that the file belongs in; "" when not known.
        source: Where to get it, "" when not known.
        near: Names of files that are there and look alike.
        elsewhere: Folders in which a file of that name lies although it belongs in `place`.
        message: One sentence.
        hint: The fix.
    """

    kind: Lack
    name: str
    place: str
    source: str
    near: tuple[str, ...]
    elsewhere: tuple[str, ...]
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A model file that lies in several places; `used` is the one that the workflow names."""

    name: str
    places: tuple[str, ...]
    used: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """What can be said of a workflow on a server before it is sent.

    Attributes:
        ready: Nothing is missing. Memory is advice and does not count.
        vram_ok: The card is as large as advised; None when either is unknown.
        models_found: The model files that are there.
        missing: What is not.
        duplicates: Files that are there more than once.
        notes: Advice in sentences.
    """

    ready: bool
    vram_ok: bool | None
    models_found: tuple[str, ...]
    missing: tuple[Missing, ...]
    duplicates: tuple[Duplicate, ...] = ()
    notes: tuple[str, ...] = ()


def readiness(
    workflow: Workflow,
    info: ObjectInfo,
    folders: Folders,
    *,
    known: Known,
    params: Mapping[str, Value] | None = None,
    packs: Mapping[str, str] | None = None,
    vram_free_bytes: int | None = None,
    vram_total_bytes: int | None = None,
) -> Readiness:
    """Return whether `workflow` can run on the server that the rest describes.

    Args:
        workflow: The workflow.
        info: The server's /object_info.
        folders: The server's model files by folder.
        known: What ships about packs and folders.
        params: A job's values; without them the best files that are there.
        packs: Packs that the workflow's file names, by node class.
        vram_free_bytes: Free memory of the server's card; None when unknown.
        vram_total_bytes: All of it; None when unknown.
    """
    graph = _graph(workflow, info, params)
    missing = [*_nodes(graph, info, known, packs or {})]
    if workflow.output is not None and workflow.makes == "video":
        missing += _saver(info, known)
    found: list[str] = []
    duplicates: list[Duplicate] = []
    for use in uses(graph, info, known):
        lack = _file(use, folders)
        if lack is not None and lack not in missing:
            missing.append(lack)
        elif lack is None and use.name not in found:
            found.append(use.name)
            duplicates += _duplicates(use, folders)
    vram_ok, notes = _memory(workflow.vram_bytes, vram_free_bytes, vram_total_bytes)
    return Readiness(
        not missing, vram_ok, tuple(found), tuple(missing), tuple(duplicates), tuple(notes)
    )


def _graph(workflow: Workflow, info: ObjectInfo, params: Mapping[str, Value] | None) -> Graph:
    """Return the graph with the files that would be used, a saver left out."""
    values = dict(params) if params is not None else _defaults(workflow.recipe(info))
    bare = {key: {**node, "inputs": dict(node["inputs"])} for key, node in workflow.graph.items()}
    for knob in workflow.knobs:
        if knob.folder or knob.listed:
            for target in knob.targets:
                bare[target.node]["inputs"][target.input] = values[knob.parameter.name]
    return bare


def _defaults(recipe: Recipe) -> dict[str, Value]:
    return {p.name: p.default for p in recipe.parameters if p.default is not None}


def _nodes(graph: Graph, info: ObjectInfo, known: Known, packs: Mapping[str, str]) -> list[Missing]:
    lacking = dict.fromkeys(
        node["class_type"] for node in graph.values() if node_type(info, node["class_type"]) is None
    )
    found = []
    for name in lacking:
        pack = known.pack(name, packs.get(name, ""))
        users = [graphs.title(graph, key) for key in graph if graph[key]["class_type"] == name]
        if pack is None:
            hint = "Find the pack that has it with ComfyUI-Manager, and restart the server."
        elif pack.update:
            hint = "Update ComfyUI; this server is too old for the workflow."
        else:
            hint = f"Install {pack.title} on the server and restart it."
        found.append(
            Missing(
                Lack.NODE,
                name,
                pack.title if pack else "",
                pack.source if pack else "",
                tuple(get_close_matches(name, list(info), 3, 0.8)),
                (),
                f"The server has no node {users[0]}.",
                hint,
            )
        )
    return found


def _saver(info: ObjectInfo, known: Known) -> list[Missing]:
    try:
        video_saver(info)
    except ProblemError as error:
        pack = known.pack("VHS_VideoCombine")
        return [
            Missing(
                Lack.SAVER,
                "VHS_VideoCombine",
                pack.title if pack else "",
                pack.source if pack else "",
                (),
                (),
                error.problem.message,
                error.problem.hint,
            )
        ]
    return []


def _file(use: Use, folders: Folders) -> Missing | None:
    """Return what to say of a model file that is not there; None when it is."""
    options = use.spec.options if use.spec is not None else None
    here = [str(item) for item in options] if options is not None else []
    here += [item for item in folders.get(use.folder, ()) if item not in here]
    if use.name in here:
        return None
    wanted = basename(use.name)
    same = [item for item in here if basename(item).lower() == wanted.lower()]
    alike = get_close_matches(
        wanted.lower(), [basename(item).lower() for item in here], n=3, cutoff=0.6
    )
    near = same + [item for word in alike for item in here if basename(item).lower() == word]
    elsewhere = tuple(
        folder
        for folder, names in folders.items()
        if folder != use.folder and any(basename(item).lower() == wanted.lower() for item in names)
    )
    place = use.folder or "the folder its loader reads"
    if same:
        hint = f"It is there as {same[0]}; choose that."
    elif elsewhere:
        hint = f"It lies in {elsewhere[0]}; move it to {place}."
    elif near:
        hint = f"Put it into {place}, or choose {near[0]}."
    else:
        hint = f"Put it into {place} on the server."
    return Missing(
        Lack.FILE,
        use.name,
        use.folder,
        "",
        tuple(dict.fromkeys(near))[:3],
        elsewhere,
        f"The model {use.name} is not on the server.",
        hint,
    )


def _duplicates(use: Use, folders: Folders) -> list[Duplicate]:
    wanted = basename(use.name).lower()
    places = tuple(
        f"{folder}/{item}"
        for folder, names in folders.items()
        for item in names
        if basename(item).lower() == wanted
    )
    return [Duplicate(basename(use.name), places, use.name)] if len(places) > 1 else []


def _memory(need: int | None, free: int | None, total: int | None) -> tuple[bool | None, list[str]]:
    if need is None or total is None:
        return None, []
    # A card of 12 GB shows a little less than that.
    if total < 0.95 * need:
        return False, [
            f"{memory(need)} of GPU memory are advised and the card has {memory(total)}; "
            "use fewer frames or a smaller size."
        ]
    if free is not None and free < need:
        return True, [
            f"{memory(need)} of GPU memory are advised and {memory(free)} are free; "
            "free memory first."
        ]
    return True, []

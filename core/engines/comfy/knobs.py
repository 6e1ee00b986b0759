"""The form for any graph: what can be changed in it, found by link, by type and by title."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from core.engines.comfy import graphs
from core.engines.comfy.graphs import Graph
from core.engines.comfy.knobs_prompts import Side, prompts
from core.engines.comfy.models import Known, looks_like_file
from core.engines.comfy.node_types import InputType, ObjectInfo, node_type
from core.engines.comfy.savers import VIDEO_SAVERS
from core.engines.comfy.workflows import Knob, Target, Workflow
from core.jobs import SEED_LIMIT, Kind, Parameter, Value

_SEEDS = ("seed", "noise_seed")
_RATES = ("fps", "frame_rate")
_LENGTHS = ("length", "video_frames", "num_frames", "frames", "frame_count", "frame_load_cap")
_NAMES = {
    "cfg": ("guidance_scale", "Guidance", "sampling"),
    "guidance": ("guidance_scale", "Guidance", "sampling"),
    "steps": ("steps", "Steps", "sampling"),
    "denoise": ("denoise", "Denoise", "sampling"),
    "shift": ("shift", "Shift", "sampling"),
    "sampler_name": ("sampler", "Sampler", "method"),
    "scheduler": ("scheduler", "Scheduler", "method"),
    "width": ("width", "Width", "size"),
    "height": ("height", "Height", "size"),
}
_SHOWN = (
    *("prompt", "negative_prompt", "seed", "width", "height", "frames", "fps"),
    *("steps", "guidance_scale", "model", "image"),
)
_VIDEO_ENDS = (*VIDEO_SAVERS, "SaveAnimatedWEBP", "SaveAnimatedPNG", "ADE_AnimateDiffCombine")
_MEDIA = {
    "video": (".mp4", ".webm", ".mkv", ".mov", ".m4v", ".avi", ".gif"),
    "audio": (".wav", ".mp3", ".flac", ".ogg", ".m4a", ".aac", ".opus"),
    "latent": (".latent",),
}
MAX_SHOWN = 24
MAX_TEXT = 20_000


@dataclass(frozen=True, slots=True)
class Found:
    """A knob that a graph could show.

    Attributes:
        knob: The parameter and the inputs it fills.
        role: What it is for, such as "prompt" or "model"; "other" when nobody knows.
        where: The node it belongs to, as a person reads it.
        shown: Whether a form shows it unless told otherwise.
    """

    knob: Knob
    role: str
    where: str
    shown: bool


def find(graph: Graph, info: ObjectInfo, known: Known) -> tuple[Found, ...]:
    """Return everything in `graph` that can be changed, the usual things first.

    Args:
        graph: A checked graph.
        info: The /object_info of a server that knows its nodes.
        known: What ships about folders.
    """
    sides = prompts(graph, info)
    found: list[Found] = []
    shared: dict[tuple[str, object], int] = {}
    for node_id in graphs.order(graph):
        node = graph[node_id]
        kind = node_type(info, node["class_type"])
        for name, value in node["inputs"].items():
            if graphs.is_link(value) or isinstance(value, dict):
                continue
            spec = (kind.input(name) if kind is not None else None) or _guessed(name, value)
            item = _found(graph, node_id, spec, value, sides.get((node_id, name)), known)
            if item is None:
                continue
            # Two experts share a seed and their steps, and one knob turns both.
            key = (item.role, value)
            both = item.role == "seed" or (
                item.role == "steps" and node["class_type"] == "KSamplerAdvanced"
            )
            if both and key in shared:
                first = found[shared[key]]
                targets = (*first.knob.targets, *item.knob.targets)
                found[shared[key]] = replace(first, knob=replace(first.knob, targets=targets))
                continue
            if both:
                shared[key] = len(found)
            found.append(item)
    return tuple(_named(_ordered(found)))


def _guessed(name: str, value: object) -> InputType:
    """Return a type for an input that the server does not describe."""
    kinds = {bool: "BOOLEAN", int: "INT", float: "FLOAT"}
    return InputType(name, kinds.get(type(value), "STRING"), required=False)


def _found(
    graph: Graph,
    node_id: str,
    spec: InputType,
    value: object,
    side: Side | None,
    known: Known,
) -> Found | None:
    node = graph[node_id]
    role, label, group = _role(graph, node_id, spec, value, side, known)
    parameter = _parameter(role, label, group, spec, value)
    if parameter is None or spec.name == "filename_prefix":
        return None
    folder = known.folder(node["class_type"], spec.name) if role == "model" else ""
    knob = Knob(
        parameter=parameter,
        targets=(Target(node_id, spec.name),),
        folder=folder,
        files=(str(value),) if folder else (),
        listed=spec.type == "COMBO" and not spec.upload,
    )
    return Found(knob, role, graphs.title(graph, node_id), role in _SHOWN)


def _role(
    graph: Graph,
    node_id: str,
    spec: InputType,
    value: object,
    side: Side | None,
    known: Known,
) -> tuple[str, str, str]:
    """Return (role, label, group in the form) of an input."""
    node, name = graph[node_id], spec.name
    kind = node["class_type"]
    meta = node.get("_meta") or {}
    title = str(meta.get("title") or kind)
    if side is Side.NEGATIVE:
        return "negative_prompt", "Negative prompt", ""
    if side is Side.POSITIVE:
        return "prompt", "Prompt", ""
    if spec.upload:
        plain = "Picture" if spec.name == "image" else _words(spec.name)
        return "image", title if title != kind else plain, ""
    if known.folder(kind, name) or (spec.type == "COMBO" and looks_like_file(value)):
        return "model", title if title != kind else _words(name), "models"
    if spec.type == "INT" and (name in _SEEDS or spec.config.get("control_after_generate")):
        return "seed", "Seed", "method"
    if spec.type in ("INT", "FLOAT") and name in _RATES:
        return "fps", "Rate", "length"
    animated = any(other["class_type"].startswith("ADE_") for other in graph.values())
    batch = name == "batch_size" and animated and kind.endswith(("LatentImage", "ImageLarge"))
    if spec.type == "INT" and (name in _LENGTHS or batch):
        return "frames", "Frames", "length"
    if name in _NAMES:
        return _NAMES[name]
    if kind.startswith("Primitive"):
        # Such a node only holds a number for others; what they call it tells what it is.
        for _, asked, _ in graphs.users(graph, node_id):
            if asked != name and (asked in _NAMES or asked in (*_SEEDS, *_RATES, *_LENGTHS)):
                named = replace(spec, name=asked, config={})
                return _role(graph, node_id, named, value, side, known)
    return "other", f"{title}: {_words(name)}", f"node {node_id}"


def _words(name: str) -> str:
    return name.replace("_", " ").strip().capitalize()


def _parameter(
    role: str, label: str, group: str, spec: InputType, value: object
) -> Parameter | None:
    """Return the parameter for an input; None for one that no form can hold."""
    tip = str(spec.config.get("tooltip") or "")[:300]
    base = Parameter(role, Kind.TEXT, label, None, help=tip, group=group)
    if spec.upload:
        # The picture of whoever made the workflow is not here.
        taken = _uploaded(spec)
        return replace(base, kind=Kind.IMAGE, default="", required=True, choices=taken)
    match spec.type:
        case "BOOLEAN" if isinstance(value, bool):
            return replace(base, kind=Kind.SWITCH, default=value)
        case "INT" | "FLOAT" if isinstance(value, int | float) and not isinstance(value, bool):
            return _number(base, role, spec, value)
        case "COMBO" if spec.options and isinstance(value, str):
            choices = tuple(str(option) for option in spec.options)
            choices = choices if value in choices else (value, *choices)
            return replace(base, kind=Kind.CHOICE, default=value, choices=choices)
        case "STRING" | "COMBO" if isinstance(value, str):
            return replace(base, default=value, maximum=max(MAX_TEXT, len(value)))
    return None


def _uploaded(spec: InputType) -> tuple[str, ...]:
    """Return the endings of the files that an upload takes; none for pictures."""
    for word, endings in _MEDIA.items():
        if spec.config.get(f"{word}_upload") is True or spec.name == word:
            return endings
    return ()


def _number(base: Parameter, role: str, spec: InputType, value: float) -> Parameter:
    low, high = (_limit(spec.config.get(key)) for key in ("min", "max"))
    if role == "seed":
        return replace(base, kind=Kind.SEED, default=None, minimum=0, maximum=SEED_LIMIT - 1)
    if spec.type == "FLOAT":
        return replace(base, kind=Kind.NUMBER, default=float(value), minimum=low, maximum=high)
    step = spec.config.get("step")
    parameter = replace(base, kind=Kind.INTEGER, default=int(value), minimum=low, maximum=high)
    # Steps count from the smallest value: 1 and 4 give the 4n+1 frames of video models.
    start = int(low or 0)
    if isinstance(step, int) and step > 1 and (int(value) - start) % step == 0:
        parameter = replace(parameter, multiple=step, offset=start % step)
    unit = {"fps": "fps", "width": "px", "height": "px"}.get(role, "")
    return replace(parameter, unit=unit)


def _limit(value: object) -> float | None:
    # Limits beyond this are a node's way of saying that it has none.
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 2**53:
        return None
    return value


def _ordered(found: list[Found]) -> list[Found]:
    roles = {role: index for index, role in enumerate(_SHOWN)}
    return sorted(found, key=lambda item: roles.get(item.role, len(roles)))


def _named(found: list[Found]) -> Iterable[Found]:
    """Give every parameter a name and a label of its own."""
    counts: dict[str, int] = {}
    labels: dict[str, int] = {}
    shown = 0
    for item in found:
        p = item.knob.parameter
        base = item.role
        if base in ("other", "model", "image"):
            target = item.knob.targets[0]
            base = re.sub(r"[^a-z0-9]+", "_", target.input.lower()).strip("_") or "value"
            base = {"image": "image"}.get(item.role, base)
        counts[base] = counts.get(base, 0) + 1
        labels[p.label] = labels.get(p.label, 0) + 1
        name = base if counts[base] == 1 else f"{base}_{counts[base]}"
        label = p.label if labels[p.label] == 1 else f"{p.label} {labels[p.label]}"
        shown += item.shown
        yield replace(
            item,
            knob=replace(item.knob, parameter=replace(p, name=name, label=label)),
            shown=item.shown and shown <= MAX_SHOWN,
        )


def makes(graph: Graph) -> str:
    """Return "video" when `graph` saves a clip, else "image"."""
    saves = any(node["class_type"] in _VIDEO_ENDS for node in graph.values())
    return "video" if saves else "image"


def workflow_from(
    graph: Graph,
    found: Iterable[Found],
    title: str,
    *,
    names: Iterable[str] | None = None,
    vram_bytes: int | None = None,
) -> Workflow:
    """Return a workflow of the user's own.

    Args:
        graph: The checked graph.
        found: What `find` gave.
        title: Its name in menus.
        names: Parameters to show, in form order; None for the usual ones.
        vram_bytes: GPU memory it is advised to have, when the person knows.

    Raises:
        ProblemError: A name is not among `found`, or no title was given.
    """
    title = " ".join(title.split())[:80]
    if not title:
        raise graphs.refusal("The workflow has no name.", "Give it a name.")
    by_name: Mapping[str, Found] = {item.knob.parameter.name: item for item in found}
    wanted = list(names) if names is not None else [n for n, i in by_name.items() if i.shown]
    for name in wanted:
        if name not in by_name:
            raise graphs.refusal(
                f"The workflow has no knob called {name!r}.",
                "It has: " + ", ".join(sorted(by_name)) + ".",
            )
    kind = makes(graph)
    return Workflow(
        id=_own_id(graph, title),
        title=title,
        summary="A workflow of yours that makes " + ("clips." if kind == "video" else "pictures."),
        makes=kind,
        graph=graph,
        knobs=tuple(by_name[name].knob for name in wanted),
        timeout_seconds=1200.0 if kind == "video" else 600.0,
        vram_bytes=vram_bytes,
        own=True,
    )


def _own_id(graph: Graph, title: str) -> str:
    """Return an id that is a file name everywhere and differs for other graphs."""
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-") or "workflow"
    digest = hashlib.blake2b(repr(graph).encode(), digest_size=4).hexdigest()
    return f"own-{words}-{digest}"


def value_of(graph: Graph, knob: Knob) -> Value:
    """Return what the graph holds for a knob."""
    target = knob.targets[0]
    held = graph[target.node]["inputs"][target.input]
    return held if isinstance(held, bool | int | float | str) else str(held)

"""Workflows: a graph with a map of its knobs, one JSON file each.

A file of resources/workflows and a workflow that a person dropped are the same thing:
`Workflow.recipe` makes what forms and queues know, `graph_for` turns a job's values into
the graph that a server runs.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from core.engines.comfy import decode, graphs, savers
from core.engines.comfy.graphs import Graph
from core.engines.comfy.node_types import ObjectInfo, node_type
from core.errors import Category, Problem, ProblemError
from core.jobs import Kind, Parameter, Recipe, Value

ENGINE = "comfy"
SERVER = "server"
"""Parameter that names the server a job runs on."""
ANYWHERE = ""
"""The value of that parameter which lets any server run the job that can."""
GROUP = "ComfyUI"
OWN_GROUP = "Your workflows"


_CHECKPOINT = Parameter(
    "latent_checkpoint",
    Kind.SWITCH,
    "Checkpoint before the decode",
    False,
    help="The server keeps what it sampled; a failed decode goes on from there.",
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a knob's value goes.

    Attributes:
        node: Id of the node.
        input: Name of the input.
        share_of: The value is a share of this parameter, written as a whole number of
            at least 1 and less than all of it.
    """

    node: str
    input: str
    share_of: str = ""


@dataclass(frozen=True, slots=True)
class Knob:
    """A parameter, the inputs it fills and, for a model, where its file belongs.

    Attributes:
        parameter: What forms show.
        targets: Inputs that take the value.
        folder: Model folder on the server, such as "vae"; "" when it is no model.
        files: Usual names of that file, best first.
        like: Regular expression, for files under other names.
        listed: The choices are the server's.
    """

    parameter: Parameter
    targets: tuple[Target, ...]
    folder: str = ""
    files: tuple[str, ...] = ()
    like: str = ""
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """Nodes that stand in the graph only while a number is above a limit.

    Attributes:
        nodes: Ids of the nodes.
        parameter: The number that decides.
        above: They are left out unless it is larger than this.
    """

    nodes: tuple[str, ...]
    parameter: str
    above: float


@dataclass(frozen=True, slots=True)
class Workflow:
    """A graph and what can be changed in it.

    Attributes:
        id: Stable key, also the family of its recipe.
        title: Name in menus.
        summary: One sentence saying what it makes.
        makes: "video" or "image".
        graph: The graph in API format.
        knobs: What can be changed, in form order.
        output: Node and slot of the finished pictures, for a graph without a saver.
        parts: Nodes that are needed only for some values.
        timeout_seconds: How long a run may take.
        vram_bytes: GPU memory that it is advised to have; None when not known.
        notice: Plain words shown with it.
        examples: Prompts to try.
        own: A person dropped it.
    """

    id: str
    title: str
    summary: str
    makes: str
    graph: Graph
    knobs: tuple[Knob, ...]
    output: tuple[str, int] | None = None
    parts: tuple[Part, ...] = ()
    timeout_seconds: float = 1200.0
    vram_bytes: int | None = None
    notice: str = ""
    examples: tuple[str, ...] = ()
    own: bool = False

    def recipe(
        self, info: ObjectInfo | None = None, servers: Mapping[str, str] | None = None
    ) -> Recipe:
        """Return the recipe of this workflow.

        Args:
            info: The /object_info of the server that shall run it. With it, models and
                methods become choices of what is there, and the best file is the default.
            servers: Titles of the known servers by their addresses, of which a job names
                one, the first by default; of none the recipe refuses every job. None: jobs
                name no server.
        """
        parameters = [self._parameter(knob, info) for knob in self.knobs]
        if servers:
            # Before the models, which are those of the server.
            at = next((i for i, p in enumerate(parameters) if p.group == "models"), len(parameters))
            parameters.insert(at, server_parameter(servers))
            if decode.decoders(self.graph):
                parameters.append(_CHECKPOINT)
        return Recipe(
            id=f"{ENGINE}-{self.id}",
            title=self.title,
            summary=self.summary,
            engine=ENGINE,
            family=self.id,
            parameters=tuple(parameters),
            notice=self.notice,
            examples=self.examples,
            check=None if servers is None or servers else _refuse,
            group=OWN_GROUP if self.own else GROUP,
            makes=self.makes,
        )

    def _parameter(self, knob: Knob, info: ObjectInfo | None) -> Parameter:
        offered = self.offered(knob, info) if info is not None else None
        if not offered:
            return knob.parameter
        default = str(knob.parameter.default or "")
        if default not in offered:
            default = choose_file(knob, offered) or default
        choices = offered if default in offered else (default, *offered)
        return replace(
            knob.parameter,
            kind=Kind.CHOICE,
            default=default,
            choices=choices,
            maximum=None,
            open=bool(knob.folder),
        )

    def offered(self, knob: Knob, info: ObjectInfo) -> tuple[str, ...] | None:
        """Return what a server offers for a knob; None when it is no list of the server's."""
        if not (knob.folder or knob.listed) or not knob.targets:
            return None
        target = knob.targets[0]
        kind = node_type(info, self.graph[target.node]["class_type"])
        spec = kind.input(target.input) if kind is not None else None
        if spec is None or spec.options is None:
            return None
        return tuple(str(option) for option in spec.options)

    def knob(self, name: str) -> Knob | None:
        """Return the knob of the parameter `name`, None when there is none."""
        return next((knob for knob in self.knobs if knob.parameter.name == name), None)


def server_parameter(servers: Mapping[str, str]) -> Parameter:
    """Return the parameter that names one of `servers`, titles by address, the first by default."""
    titles = list(servers.values())
    shown = [
        title if titles.count(title) == 1 else f"{title} ({base.partition('://')[2]})"
        for base, title in servers.items()
    ]
    free = len(servers) > 1
    return Parameter(
        SERVER,
        Kind.CHOICE,
        "Run on",
        next(iter(servers)),
        choices=(*servers, *([ANYWHERE] if free else [])),
        titles=(*shown, *(["Any that has what it needs"] if free else [])),
        help="The ComfyUI server that runs it.",
        group="server",
    )


def _refuse(_: Mapping[str, Value]) -> None:
    raise ProblemError(
        Problem(
            Category.WORKER_UNAVAILABLE,
            "This recipe runs on a ComfyUI server, and none is known.",
            "Add one under Servers.",
            field=SERVER,
        )
    )


def choose_file(knob: Knob, offered: tuple[str, ...]) -> str | None:
    """Return the file among `offered` that fits a model knob; None when none does.

    Names are compared without their folders, since people sort their models into some.
    """
    for wanted in knob.files:
        for name in offered:
            if PurePosixPath(name.replace("\\", "/")).name.lower() == wanted.lower():
                return name
    if knob.like:
        return next((name for name in offered if re.search(knob.like, name, re.IGNORECASE)), None)
    return None


@dataclass(frozen=True, slots=True)
class Upload:
    """A local file that a run needs in the server's input folder.

    Attributes:
        parameter: The parameter that names it.
        path: Where it lies here.
        name: What it shall be called there; ours, so that no other job's file is meant.
    """

    parameter: str
    path: Path
    name: str


def uploads(workflow: Workflow, params: Mapping[str, Value], job_id: str) -> tuple[Upload, ...]:
    """Return the pictures of a job that must be uploaded before its graph runs."""
    found = []
    for knob in workflow.knobs:
        value = params.get(knob.parameter.name)
        if knob.parameter.kind is Kind.IMAGE and value:
            path = Path(str(value))
            suffix = re.sub(r"[^a-z0-9.]", "", path.suffix.lower())[:8]
            name = f"framedeck-{job_id}-{knob.parameter.name}{suffix}"
            found.append(Upload(knob.parameter.name, path, name))
    return tuple(found)


def graph_for(
    workflow: Workflow,
    params: Mapping[str, Value],
    *,
    prefix: str,
    info: ObjectInfo | None = None,
    files: Mapping[str, str] | None = None,
) -> Graph:
    """Return the graph of one run, with a saver that the server has.

    Args:
        workflow: The workflow to run.
        params: Complete, checked values, as a job holds them.
        prefix: Start of the name of what is saved, inside the server's output folder.
        info: The server's /object_info; None for what every recent server has.
        files: Names in the server's input folder by parameter, for uploaded pictures.

    Raises:
        ProblemError: The server can save nothing of the kind, or the workflow is broken.
    """
    graph = copy.deepcopy(workflow.graph)
    for knob in workflow.knobs:
        name = knob.parameter.name
        if name not in params:
            # The job is older than this knob: the graph's own value stays.
            continue
        value: Value = params[name]
        if knob.parameter.kind is Kind.IMAGE:
            value = (files or {}).get(name, value)
            if not value:
                continue
        for target in knob.targets:
            graph[target.node]["inputs"][target.input] = _written(target, value, params)
    if workflow.output is not None:
        fps = float(params.get("fps", 16))
        savers.add(graph, workflow.output, workflow.makes, fps, prefix, info)
    else:
        savers.rename(graph, prefix)
    # Last, so that the saver takes the id of no node of the workflow.
    for part in workflow.parts:
        if float(params[part.parameter]) <= part.above:
            _remove(graph, part.nodes)
    return graphs.check(graph)


def _written(target: Target, value: Value, params: Mapping[str, Value]) -> Value:
    if not target.share_of:
        return value
    whole = int(params[target.share_of])
    return min(max(round(float(value) * whole), 1), max(whole - 1, 1))


def _remove(graph: Graph, nodes: tuple[str, ...]) -> None:
    for node_id in nodes:
        del graph[node_id]
    for node in graph.values():
        node["inputs"] = {
            name: value
            for name, value in node["inputs"].items()
            if not (graphs.is_link(value) and value[0] in nodes)
        }


def correct(recipe: Recipe, given: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """Return `given` with numbers moved to the nearest ones allowed, and what was moved.

    For those who set Framedeck to correct instead of refusing: 80 frames of WAN become
    81. Only whole steps are corrected; a number out of its range is still refused.
    """
    values, notes = dict(given), []
    for parameter in recipe.parameters:
        number = values.get(parameter.name)
        if not parameter.multiple or isinstance(number, bool) or not isinstance(number, int):
            continue
        low, high = parameter.minimum, parameter.maximum
        inside = (low is None or number >= low) and (high is None or number <= high)
        near = int(parameter.nearest(number))
        if inside and near != number:
            values[parameter.name] = near
            notes.append(f"{parameter.label} {number} became {near}. {parameter.range_text()}")
    return values, notes

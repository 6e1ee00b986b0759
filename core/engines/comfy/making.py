"""From a job to the graph that its server runs: pictures uploaded, savers chosen."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from core.engines.comfy.answers import Remote
from core.engines.comfy.fetch import RefusedError
from core.engines.comfy.http import Graph, Server
from core.engines.comfy.node_types import ObjectInfo
from core.engines.comfy.workflows import Upload, Workflow, graph_for, uploads
from core.engines.comfy.workflows_files import built_in, saved
from core.errors import invalid
from core.jobs import Job

FRESH_SECONDS = 300.0
"""For so long a server is not asked again which nodes it has."""
FOLDER = "framedeck"
"""Folder of our files inside a server's output folder."""


class Making:
    """Makes the graphs of jobs; call it with a job and the server it goes to.

    Args:
        workflows: Returns the workflow of a family, None when there is none.
        cache: Folder in which the servers' lists of nodes are kept; None keeps none.
    """

    def __init__(
        self, workflows: Callable[[str], Workflow | None], cache: Path | None = None
    ) -> None:
        self._workflows = workflows
        self._cache = cache
        self._lock = threading.Lock()
        self._infos: dict[str, tuple[ObjectInfo, float]] = {}

    def __call__(self, job: Job, server: Server) -> Graph:
        """Return the graph of `job`, its pictures being on `server` then.

        Raises:
            ProblemError: There is no such workflow, a picture is gone, the server
                does not answer or cannot save what the workflow makes.
        """
        workflow = self._workflows(job.family)
        if workflow is None:
            raise invalid(
                "recipe",
                f"There is no workflow {job.family!r} any more.",
                "Choose another recipe, or drop the workflow's file onto the window again.",
            )
        files = {
            upload.parameter: _uploaded(upload, server)
            for upload in uploads(workflow, job.params, job.id)
        }
        return graph_for(
            workflow,
            job.params,
            # No other job has it: a server that saw the same graph before would save nothing.
            prefix=f"{FOLDER}/{job.id}",
            info=self.info(server),
            files=files,
        )

    def seconds(self, job: Job) -> float | None:
        """Return how long a job may take by its workflow; None when that says nothing."""
        workflow = self._workflows(job.family)
        return None if workflow is None else workflow.timeout_seconds

    def info(self, server: Server) -> ObjectInfo:
        """Return which nodes a server has, asking it where that is not known or old.

        Raises:
            ProblemError: It does not answer.
        """
        with self._lock:
            kept = self._infos.get(server.base)
        if kept is not None and monotonic() - kept[1] < FRESH_SECONDS:
            return kept[0]
        info: ObjectInfo = server.object_info(self._cache)
        self.learn(server.base, info)
        return info

    def learn(self, base: str, info: ObjectInfo) -> None:
        """Take what somebody else asked a server for; may be called from any thread."""
        with self._lock:
            self._infos[base] = info, monotonic()


def stored(folder: Path) -> Callable[[str], Workflow | None]:
    """Return what finds the workflows that ship with Framedeck and those in `folder`.

    Files are read when they are asked for; the person's own ones every time.
    """
    kept: dict[str, Workflow] = {}

    def find(family: str) -> Workflow | None:
        if not kept:
            kept.update({workflow.id: workflow for workflow in built_in()})
        if family in kept:
            return kept[family]
        return next((one for one in saved(folder)[0] if one.id == family), None)

    return find


def _uploaded(upload: Upload, server: Server) -> str:
    """Have a picture in the server's input folder; return its name there. Raises ProblemError."""
    try:
        data = upload.path.read_bytes()
    except OSError as error:
        raise invalid(
            upload.parameter,
            f"The picture {upload.path} cannot be read: {error.strerror or error}.",
            "Choose another picture, or put it back to where it was.",
        ) from error
    there = Remote("", "", upload.name, "", "input")
    try:
        if server.view_size(there) == len(data):
            return upload.name  # An earlier try of this job put it there.
    except RefusedError as error:
        if error.status != 404:
            raise
    return server.upload(upload.name, data)

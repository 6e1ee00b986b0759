"""The prompts of one job: one as a rule, more where its decode stands apart or is eased."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from core.engines.comfy import answers, decode, graphs, savers
from core.engines.comfy.answers import Outputs, Remote
from core.engines.comfy.http import Graph
from core.errors import ProblemError
from core.jobs import Job

_NAMES = uuid.UUID("5d0f1c1e-7a0b-4e0c-9a53-0b8c7d1f6a42")
_FOLDER = "latents"
_TILES = (None, decode.Tiles(), decode.SMALL)
LEVELS = len(_TILES)
"""A decode is done whole, then in tiles, then in small ones."""


@dataclass(frozen=True, slots=True)
class Part:
    """One prompt of a job.

    Attributes:
        prompt: Its id, the same whenever it is asked for again.
        graph: What it runs.
    """

    prompt: str
    graph: Graph


class Parts:
    """Which prompts a job is made of, and at which of them it is.

    The first one bears the job's own id. It is the whole graph, or what comes
    before the decode when a checkpoint is wanted. The ids of the others follow
    from the job's, so that a later start of the program finds them as well.

    Args:
        job: The job.
        graph: Its graph.
        checkpoint: Keep the latents on the server, and decode them in a prompt of their own.

    Attributes:
        level: How much the decode is eased, from 0.
        kept: Latents that the server keeps, by the node that saved them.
    """

    def __init__(self, job: Job, graph: Graph, *, checkpoint: bool) -> None:
        self.level = 0
        self.kept: dict[str, Remote] = {}
        self._job = job.id
        self._graph = graph
        self._clean: graphs.Graph | None = None
        self._mark = ""
        self._stem = ""
        self._split: decode.Checkpoint | None = None
        if checkpoint:
            self._cut()

    def _cut(self) -> None:
        """Cut the graph before its decodes, where it has any."""
        try:
            whole = self._clean = graphs.check(self._graph)
            # The latents of another graph are never taken for those of this one.
            digest = sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:12]
            owner = "".join(letter for letter in self._job[:8] if letter.isalnum())
            self._stem = f"framedeck-{owner}-{digest}"
            self._split = decode.split(whole, f"{_FOLDER}/{self._stem}")
        except ProblemError:
            self._split = None

    @property
    def apart(self) -> bool:
        """Whether the decode is a prompt of its own."""
        return self._split is not None

    def first(self) -> Part:
        """Return the part that begins the job, eased as it is now."""
        graph = self._graph if self._split is None else self._split.sampling
        name = self._job if not self.level else self._id("first", self.level)
        return Part(name, self._eased(graph))

    def last(self) -> Part:
        """Return the decode of the latents that are kept, eased as it is now."""
        assert self._split is not None
        assert self.kept
        files = {node: _place(remote) for node, remote in self.kept.items()}
        return Part(self._id("decode", self.level), self._eased(self._split.filled(files)))

    def rename(self) -> None:
        """Let all that is saved from now on have names that it never had."""
        self._mark = f"-{uuid.uuid4().hex[:6]}"

    def present(self) -> Part:
        """Return the part at which the job is."""
        return self.last() if self.kept else self.first()

    def ease(self, *, same: bool) -> Part | None:
        """Return the next try at what failed, None when there is none left.

        Args:
            same: Whether one more try of a decode that cannot be cut in tiles may help.
        """
        most = LEVELS - 1 if self._has_whole_decodes() else int(same)
        if self.level >= most:
            return None
        self.level += 1
        return self.present()

    @property
    def tiled(self) -> bool:
        """Whether whole decodes are done in tiles now."""
        return self.level > 0 and self._has_whole_decodes()

    def whole(self) -> Graph:
        """Return all of it as one graph, for the recipe."""
        return self._eased(self._graph)

    def named(self) -> Graph:
        """Return all nodes of all parts, for their names and classes."""
        if self._split is None:
            return self._graph
        return {**self._split.sampling, **self._split.decoding, **self._graph}

    def later(self) -> list[str]:
        """Return the ids of all parts but the first, the latest first."""
        levels = range(LEVELS - 1, -1, -1)
        ends = [self._id("decode", level) for level in levels] if self.apart else []
        return ends + [self._id("first", level) for level in levels if level]

    def stand(self, prompt: str) -> None:
        """Be at the part of this id, and at the first for one that is none of ours."""
        for level in range(LEVELS):
            if prompt == self._id("decode", level):
                self.level = level
                self.expect()
            elif prompt == self._id("first", level):
                self.level = level

    def begin_anew(self) -> None:
        """Be at the first part again."""
        self.level, self.kept = 0, {}

    def expect(self) -> list[Remote]:
        """Take it that the latents lie where the first try puts them; return where."""
        latents = self._split.latents if self._split is not None else {}
        numbers = [f"-{count}" if len(latents) > 1 else "" for count in range(1, len(latents) + 1)]
        self.kept = {
            node: Remote(node, "latents", f"{self._stem}{number}_00001_.latent", _FOLDER, "output")
            for node, number in zip(latents, numbers, strict=True)
        }
        return list(self.kept.values())

    def took(self, outputs: Outputs) -> bool:
        """Take the latents out of what the first part showed; say whether all are there."""
        found = {}
        for node in self._split.latents if self._split is not None else {}:
            for remote in answers.files({node: outputs.get(node, {})}):
                # Its own words, and they become a path on the server: only what was asked for.
                name = remote.filename
                if name.startswith(self._stem) and name.endswith(".latent") and "/" not in name:
                    found[node] = remote
        if self._split is None or len(found) != len(self._split.latents):
            return False
        self.kept = found
        return True

    def without_latents(self, outputs: Outputs) -> dict[str, Mapping[str, Any]]:
        """Return what nodes showed, our own checkpoints left out."""
        savers = self._split.latents if self._split is not None else {}
        return {node: shown for node, shown in outputs.items() if node not in savers}

    def _has_whole_decodes(self) -> bool:
        """Say whether there is what can be cut in tiles: the graph is one, and has a decode."""
        if self._clean is None:
            with suppress(ProblemError):
                self._clean = graphs.check(self._graph)
        return any(node["class_type"] == decode.PLAIN for node in (self._clean or {}).values())

    def _eased(self, graph: Graph) -> Graph:
        if self._mark:
            graph = savers.marked(graph, self._mark)
        tiles = _TILES[self.level]
        if tiles is None or not self._has_whole_decodes():
            return graph
        return decode.tile(graphs.check(graph), tiles)

    def _id(self, kind: str, level: int) -> str:
        return str(uuid.uuid5(_NAMES, f"{self._job} {kind} {level}"))


def _place(remote: Remote) -> str:
    return f"{_FOLDER}/{remote.filename}"

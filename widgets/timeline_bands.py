"""What jobs did and when: their phases, and the nodes of ComfyUI graphs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from core.jobs import Phase
from core.recorder.trace import NODE, Doing

BANDS_KEPT = 4096
NODES_KEPT = 20_000
_PHASES = frozenset(Phase)


@dataclass(slots=True)
class Band:
    """One phase of one job; it goes on while `end` is None. An attempt's bands share `run`.

    `attempt` is the number of an attempt of an earlier session, 0 for this one's. `whose`
    names who else is at work, of whom no phases are known; "" for a job of ours.
    """

    job_id: str
    title: str
    phase: Phase
    start: float
    run: int = 0
    end: float | None = None
    outcome: str = ""
    attempt: int = 0
    whose: str = ""

    @property
    def doing(self) -> str:
        """What it is called: its phase, else who is at work."""
        return self.whose or self.phase.value


@dataclass(slots=True)
class Node:
    """A node of a ComfyUI graph at work; it goes on while `end` is None."""

    job_id: str
    name: str
    start: float
    end: float | None = None


class Bands:
    """The phases and nodes of jobs in order of time, the oldest forgotten."""

    def __init__(self) -> None:
        self._bands: deque[Band] = deque(maxlen=BANDS_KEPT)
        self._open: dict[str, Band] = {}
        self._nodes: deque[Node] = deque(maxlen=NODES_KEPT)
        self._node: dict[str, Node] = {}
        self._runs = 0
        self._longest = 0.0
        self._past: set[tuple[str, int]] = set()
        self.changes = 0
        """Goes up whenever a band begins or ends."""

    @property
    def newest(self) -> Band | None:
        """The band that began last."""
        return self._bands[-1] if self._bands else None

    def newest_of(self, job_id: str) -> Band | None:
        """Return the newest band of a job of this session."""
        mine = (band for band in reversed(self._bands) if band.job_id == job_id)
        return next((band for band in mine if not band.attempt), None)

    def of_run(self, run: int) -> list[Band]:
        """Return the phases of one attempt at a job, oldest first."""
        return [band for band in self._bands if band.run == run]

    def firsts(self) -> list[Band]:
        """Return the first phase kept of every attempt of ours, oldest first."""
        found: dict[int, Band] = {}
        for band in self._bands:
            if not band.whose:
                found.setdefault(band.run, band)
        return list(found.values())

    def begin(
        self, job_id: str, title: str, phase: Phase, at_seconds: float, whose: str = ""
    ) -> None:
        """Start a phase; the job's phase before it ends there."""
        before = self._end(job_id, at_seconds)
        if before is None:
            self._runs += 1
        run = self._runs if before is None else before.run
        band = Band(job_id, title, phase, at_seconds, run, whose=whose)
        self._open[job_id] = band
        self._bands.append(band)
        self.changes += 1

    def add_past(self, doings: Iterable[Doing], unix_offset: float) -> int:
        """Add what ended before this session, each attempt once; returns how many were new.

        Args:
            doings: Attempts at jobs.
            unix_offset: What makes Unix time of the bands' clock.
        """
        bands, nodes, added = list(self._bands), list(self._nodes), 0
        for doing in doings:
            mark = doing.job_id, doing.attempt
            if mark in self._past:
                continue
            self._past.add(mark)
            self._runs += 1
            added += 1
            for item in doing.stretches:
                start = item.started_seconds - unix_offset
                end = max(start, item.ended_seconds - unix_offset)
                if item.kind == NODE:
                    nodes.append(Node(doing.job_id, item.name, start, end))
                elif item.name in _PHASES:
                    phase, job = Phase(item.name), (doing.job_id, doing.title)
                    band = Band(*job, phase, start, self._runs, end, doing.outcome, doing.attempt)
                    bands.append(band)
                    self._longest = max(self._longest, end - start)
        if added:
            # The newest are kept where there is not room for all.
            bands.sort(key=lambda band: band.start)
            nodes.sort(key=lambda node: node.start)
            self._bands = deque(bands, BANDS_KEPT)
            self._nodes = deque(nodes, NODES_KEPT)
            self.changes += 1
        return added

    @property
    def has_nodes(self) -> bool:
        """Whether there is any node to draw."""
        return bool(self._nodes)

    def begin_node(self, job_id: str, name: str, at_seconds: float) -> None:
        """Start a node; the job's node before it ends there."""
        self._end_node(job_id, at_seconds)
        node = self._node[job_id] = Node(job_id, name, at_seconds)
        self._nodes.append(node)
        self.changes += 1

    def nodes_between(self, start: float, end: float) -> list[Node]:
        """Return the nodes that show from `start` to `end`, oldest first."""
        return [
            node
            for node in self._nodes
            if node.start <= end and (node.end is None or node.end >= start)
        ]

    def node_at(self, seconds: float, now: float) -> Node | None:
        """Return the newest node at that time; none lies after `now`."""
        for node in reversed(self._nodes):
            if node.start <= seconds <= (now if node.end is None else node.end):
                return node
        return None

    def _end_node(self, job_id: str, at_seconds: float) -> None:
        node = self._node.pop(job_id, None)
        if node is not None:
            node.end = max(at_seconds, node.start)

    def finish(self, job_id: str, at_seconds: float, outcome: str) -> None:
        """End the job's phase and node; a job without one is left alone."""
        self._end_node(job_id, at_seconds)
        band = self._end(job_id, at_seconds)
        if band is not None:
            band.outcome = outcome
            self.changes += 1

    def between(self, start: float, end: float) -> list[Band]:
        """Return the bands that show from `start` to `end`, oldest first."""
        found, earliest = [], start - self._longest
        for band in reversed(self._bands):
            if band.start < earliest:
                break  # No closed band before this one reaches so far.
            if band.start <= end and (band.end is None or band.end >= start):
                found.append(band)
        found += [band for band in self._open.values() if band.start < earliest]
        return found[::-1]

    def at(self, seconds: float, now: float) -> Band | None:
        """Return the newest band at that time, ours before others'; none lies after `now`."""
        found = None
        for band in reversed(self._bands):
            if band.start <= seconds <= (now if band.end is None else band.end):
                if not band.whose:
                    return band
                found = found or band
        return found

    def _end(self, job_id: str, at_seconds: float) -> Band | None:
        band = self._open.pop(job_id, None)
        if band is not None:
            band.end = max(at_seconds, band.start)
            self._longest = max(self._longest, band.end - band.start)
            self.changes += 1
        return band

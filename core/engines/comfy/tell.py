"""From what is known of a prompt to the events that everybody understands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from core.engines.comfy.follow import Follower, Stage
from core.engines.comfy.http import Graph
from core.engines.comfy.messages import Message, NodeProgress
from core.engines.comfy.rejections import title
from core.events import Event, NodeStarted, Noted, PhaseStarted, Progressed, Sampled
from core.jobs import Phase

_MOST_STEPS_AT_ONCE = 4
_ORDER = (Phase.LOAD, Phase.SAMPLE, Phase.DECODE, Phase.ENCODE, Phase.VERIFY)
_SAVERS = ("save", "videocombine", "createvideo", "preview")


class Teller:
    """Says each thing once, in the order it happened.

    Args:
        job_id: Job the events are of.
        graph: Its graph, for what nodes are and are called.
    """

    def __init__(self, job_id: str, graph: Graph) -> None:
        self._job = job_id
        self._graph = graph
        self._phase: Phase | None = None
        self._node: str | None = None
        self._told: dict[str, float] = {}
        self._place: int | None = None
        self._ran: list[str] = []
        self._pace = _Pace()

    def phase(self, phase: Phase) -> Iterator[Event]:
        """Begin a phase unless it is this one already."""
        if phase is not self._phase:
            self._phase = phase
            yield PhaseStarted(job_id=self._job, phase=phase)

    def after(self, message: Message | None, follower: Follower, at: float) -> Iterator[Event]:
        """Yield what `message` changed; None after an answer."""
        if follower.stage is Stage.WAITING:
            yield from self._wait(follower.place)
        if follower.stage is not Stage.RUNNING:
            return
        yield from self._begin(follower)
        node = follower.node
        if node is None:
            return
        value, maximum = follower.progress.get(node, (0.0, 0.0))
        counts = maximum > 1 or isinstance(message, NodeProgress)
        if counts and value > 0 and self._told.get(node) != value:
            self._told[node] = value
            yield self._progress(follower, node, value, maximum, at)

    def _wait(self, place: int | None) -> Iterator[Event]:
        if place == 0:
            # Behind others it loads nothing yet, and where it stands may not be known yet.
            yield from self.phase(Phase.LOAD)
        if place is not None and place != self._place:
            self._place = place
            if place:
                before = "1 prompt is" if place == 1 else f"{place} prompts are"
                text = f"{before} before this one on the server."
                yield Noted(job_id=self._job, text=text, passing=True)

    def _begin(self, follower: Follower) -> Iterator[Event]:
        """Begin the node that runs now, and its phase."""
        if self._phase is None:
            yield from self.phase(Phase.LOAD)
        node = follower.node
        if node == self._node or (node is None and not follower.over):
            return
        self._node = node
        if node is None:
            yield NodeStarted(job_id=self._job, node="", title="")
            return
        # A node may count twice, as a loop does.
        self._told.pop(node, None)
        if node not in self._ran:
            self._ran.append(node)
        if self._is_sampler(node):
            self._pace = _Pace()
        yield from self.phase(self._phase_of(node))
        yield NodeStarted(job_id=self._job, node=node, title=title(self._graph, node))

    def _phase_of(self, node: str) -> Phase:
        kind = self._class(node)
        if self._is_sampler(node):
            return Phase.SAMPLE
        if "vaedecode" in kind:
            return Phase.DECODE
        if any(word in kind for word in _SAVERS):
            return Phase.ENCODE
        # Between these are loaders and small steps, which belong to what they are among.
        return self._phase or Phase.LOAD

    def _class(self, node: str) -> str:
        return str(self._graph.get(node, {}).get("class_type", "")).lower()

    def _is_sampler(self, node: str) -> bool:
        kind = self._class(node)
        return "sampler" in kind and "select" not in kind and "sampling" not in kind

    def _progress(
        self, follower: Follower, node: str, value: float, maximum: float, at: float
    ) -> Event:
        if not self._is_sampler(node):
            return Progressed(
                job_id=self._job,
                phase=self._phase or Phase.LOAD,
                done=int(value),
                total=int(maximum),
                text=title(self._graph, node),
            )
        before = sum(self._steps_of(other, follower) for other in self._earlier(node))
        later = sum(self._planned(other) for other in self._later(follower))
        step, steps = before + int(value), before + int(maximum) + later
        pace = self._pace.at(step, at)
        return Sampled(
            job_id=self._job,
            step=step,
            steps=steps,
            seconds_per_step=pace,
            seconds_left=pace * max(0, steps - step),
        )

    def _earlier(self, node: str) -> list[str]:
        return [other for other in self._ran if other != node and self._is_sampler(other)]

    def _later(self, follower: Follower) -> list[str]:
        gone = {*self._ran, *follower.through}
        return [node for node in self._graph if node not in gone and self._is_sampler(node)]

    def _steps_of(self, node: str, follower: Follower) -> int:
        return int(follower.progress.get(node, (0.0, 0.0))[1])

    def _planned(self, node: str) -> int:
        """Return how many steps a sampler will make; 0 when that is not written in it."""
        inputs: Any = self._graph[node].get("inputs", {})
        steps = inputs.get("steps")
        if not isinstance(steps, int) or isinstance(steps, bool):
            return 0
        begin, end = inputs.get("start_at_step", 0), inputs.get("end_at_step", steps)
        if not isinstance(begin, int) or not isinstance(end, int):
            return steps
        return max(0, min(end, steps) - begin)


class _Pace:
    """Seconds per step, the newest counting most."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None
        self._seconds = 0.0

    def at(self, step: int, at: float) -> float:
        if self._last is not None and step > self._last[0]:
            new = max(0.0, at - self._last[1]) / (step - self._last[0])
            self._seconds = 0.7 * self._seconds + 0.3 * new if self._seconds else new
        self._last = (step, at)
        return self._seconds


def thinned(events: list[Event]) -> list[Event]:
    """Leave out steps that others of the same moment replace, where there are many."""
    steps = [event for event in events if isinstance(event, Sampled | Progressed)]
    if len(steps) <= _MOST_STEPS_AT_ONCE:
        return events
    last = {id(event) for event in steps[-1:]}
    return [
        event
        for event in events
        if not isinstance(event, Sampled | Progressed) or id(event) in last
    ]

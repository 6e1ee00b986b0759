"""Following one prompt: messages and answers go in, what is known of it comes out.

The queue and the history are the truth and the socket is speed: nothing but an
answer ends a prompt, so any message may be missing, late, doubled or wrong.
No clock, no network and no thread: whoever drives this says what time it is.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from core.engines.comfy.answers import End, Outputs, Queue, Record
from core.engines.comfy.messages import (
    Animation,
    Broke,
    Cached,
    Executed,
    Executing,
    Interrupted,
    Message,
    NodeProgress,
    Nodes,
    Preview,
    Status,
    Succeeded,
)

QUIET_SECONDS = 2.0
"""After this long without a word the socket is not relied on."""
_POLL_QUIET_SECONDS = 1.0
_POLL_LIVELY_SECONDS = 5.0
_POLL_PLACE_SECONDS = 0.3
# The history is written after the success is told and before the last message is.
_POLL_OVER_SECONDS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)
_LAST_MESSAGE_SECONDS = 0.02
_LOST_AFTER_SECONDS = 1.0
_LOST_AFTER_MISSES = 2
_MOST_PICTURES_BYTES = 512 * 1024 * 1024


class Stage(StrEnum):
    """How far a prompt is. `SENT`: whether the server took it is not known yet."""

    SENT = "sent"
    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


class Ask(StrEnum):
    """What to ask the server for next."""

    QUEUE = "queue"
    HISTORY = "history"


class Follower:
    """What is known of one prompt.

    Args:
        prompt: Its id.
        picture_nodes: Nodes that send their pictures over the socket instead of
            writing files.

    Attributes:
        stage: How far it is.
        place: Prompts before it while it waits; None when not known.
        node: Node that runs; None between nodes.
        progress: Node → (value, maximum), as last told.
        through: Nodes that ended, cached ones among them.
        cached: Nodes that did not need to run.
        preview: The last preview.
        previews: How many previews came.
        animation: What the node's animated previews are, and their frames by number.
        pictures: Whole pictures sent over the socket.
        end: How it ended, once it did.
        error: The failure, when there was one.
        outputs: What its nodes showed.
        heard_at: When anything was heard of it last.
    """

    def __init__(self, prompt: str, at: float, picture_nodes: Collection[str] = ()) -> None:
        self.prompt = prompt
        self.stage = Stage.SENT
        self.place: int | None = None
        self.node: str | None = None
        self.progress: dict[str, tuple[float, float]] = {}
        self.through: set[str] = set()
        self.cached: tuple[str, ...] = ()
        self.preview: Preview | None = None
        self.previews = 0
        self.animation: Animation | None = None
        self.frames: dict[int, Preview] = {}
        self.pictures: list[bytes] = []
        self.end: End | None = None
        self.error: Broke | None = None
        self.outputs: Outputs = {}
        self.heard_at = at
        self.running_since: float | None = None
        self._picture_nodes = frozenset(picture_nodes)
        self._pictures_bytes = 0
        self._shown: dict[str, Executed] = {}
        self._hint: End | None = None
        self._over = False
        self._over_from = at
        self._asked_at = at
        self._asked_over = 0
        self._missing_since: float | None = None
        self._history_next = False
        self._misses = 0

    @property
    def over(self) -> bool:
        """Whether the socket said that it ended; the history has to confirm it."""
        return self._over

    # --- what the socket says

    def hear(self, message: Message, at: float) -> bool:
        """Take a message; say whether it told anything new of this prompt."""
        if self.stage is Stage.ENDED or isinstance(message, Status):
            return False
        if isinstance(message, Preview):
            return self._see(message, at)
        if isinstance(message, Animation):
            self.animation, self.frames = message, {}
            return self.stage is Stage.RUNNING
        # After a reconnection the node comes without the prompt; older servers never name it.
        named = message.prompt or (self.prompt if self._may_be_ours(message) else None)
        if named != self.prompt:
            return False
        self.heard_at = at
        if not self._hear_ending(message, at):
            self._runs(at)
            self._hear_progress(message)
        return True

    def _hear_progress(self, message: Message) -> None:
        match message:
            case Cached(nodes=nodes):
                self.cached = nodes
                self.through.update(nodes)
            case NodeProgress(node=node, value=value, maximum=maximum):
                self.node = node
                self.progress[node] = (value, maximum)
            case Nodes():
                self._take_nodes(message)
            case Executing(node=node):
                self.node = node
            case Executed(node=node):
                self._shown[node] = message
                self.through.add(node)

    def _hear_ending(self, message: Message, at: float) -> bool:
        match message:
            case Executing(node=None):
                self._asked_over = 0
                self._ends(None, at)
            case Succeeded():
                self._ends(End.SUCCESS, at + _LAST_MESSAGE_SECONDS)
            case Interrupted():
                self._ends(End.INTERRUPTED, at + _LAST_MESSAGE_SECONDS)
            case Broke():
                self.error = message
                self._ends(End.ERROR, at + _LAST_MESSAGE_SECONDS)
            case _:
                return False
        return True

    def _may_be_ours(self, message: Message) -> bool:
        if isinstance(message, Executing):
            return message.node is not None and message.prompt is None
        return isinstance(message, NodeProgress) and self.stage is Stage.RUNNING

    def _see(self, preview: Preview, at: float) -> bool:
        # One prompt runs at a time: a preview without a name is of the one that does.
        ours = preview.prompt == self.prompt if preview.prompt else self.stage is Stage.RUNNING
        if not ours:
            return False
        self.heard_at = at
        if preview.kind == "png" and preview.index is None and self.node in self._picture_nodes:
            self._pictures_bytes += len(preview.picture)
            if self._pictures_bytes <= _MOST_PICTURES_BYTES:
                self.pictures.append(preview.picture)
        self.preview = preview
        self.previews += 1
        if preview.index is not None and preview.index < 4096:
            self.frames[preview.index] = preview
        return True

    def _take_nodes(self, message: Nodes) -> None:
        for node, state, value, maximum in message.nodes:
            if state == "running":
                self.node = node
                if maximum > 1 or node not in self.progress:
                    self.progress[node] = (value, maximum)
            elif state == "finished":
                self.through.add(node)
                if self.node == node:
                    self.node = None

    def _runs(self, at: float) -> None:
        if self.stage is not Stage.RUNNING:
            self.stage, self.place = Stage.RUNNING, None
            self.running_since = at

    def _ends(self, how: End | None, ask_from: float) -> None:
        self.node = None
        self._over = True
        self._over_from = ask_from
        self._hint = how or self._hint

    # --- what the server answers

    def accepted(self) -> None:
        """The server took the prompt."""
        if self.stage is Stage.SENT:
            self.stage = Stage.WAITING

    def take_queue(self, queue: Queue, asked_at: float, at: float) -> bool:
        """Take a queue that was asked for at `asked_at` and came at `at`.

        Returns:
            Whether the prompt is in it.
        """
        if self.stage is Stage.ENDED:
            return False
        self._asked_at = at
        if queue.runs(self.prompt):
            self._missing_since, self._misses = None, 0
            self._runs(at)
            return True
        place = queue.place(self.prompt)
        if place is not None:
            self._missing_since, self._misses = None, 0
            # A message can be newer than an answer that was on its way.
            if self.stage is not Stage.RUNNING or self.heard_at < asked_at:
                self.stage, self.place, self.running_since = Stage.WAITING, place, None
            return True
        if self._missing_since is None:
            self._missing_since = at
        self._history_next = True
        return False

    def take_history(self, record: Record | None, asked_at: float, at: float) -> None:
        """Take what the history says; `record` None when it has nothing of the prompt."""
        if self.stage is Stage.ENDED:
            return
        self._asked_at = at
        self._history_next = False
        if self._over:
            self._asked_over += 1
        if record is not None:
            self.end = record.end
            self.error = record.error or (self.error if record.end is End.ERROR else None)
            self.outputs = record.outputs
            self._close()
            return
        missing = self._missing_since
        if missing is None or asked_at < missing or self.stage is Stage.SENT:
            return
        self._misses += 1
        if self._misses >= _LOST_AFTER_MISSES and at - missing >= _LOST_AFTER_SECONDS:
            # In neither: the server was restarted, or somebody cleared what it knew.
            self.end = self._hint or End.LOST
            self.outputs = {node: shown.output for node, shown in self._shown.items()}
            self._close()

    def unanswered(self, at: float) -> None:
        """Nobody answered: nothing is known by it, and the next question waits its time."""
        self._asked_at = at
        if self._over:
            self._asked_over += 1
        self._history_next = False

    def _close(self) -> None:
        self.stage, self.place, self.node = Stage.ENDED, None, None

    # --- what to ask, and when

    def ask(self) -> Ask:
        """Return what to ask for next."""
        over = self._over and self._asked_over < len(_POLL_OVER_SECONDS)
        return Ask.HISTORY if over or self._history_next else Ask.QUEUE

    def due_at(self, cost_seconds: float = 0.0) -> float:
        """Return when to ask next.

        Args:
            cost_seconds: How long the last answer took: a long queue is asked for rarely.
        """
        if self._over and self._asked_over < len(_POLL_OVER_SECONDS):
            return max(self._over_from, self._asked_at + _POLL_OVER_SECONDS[self._asked_over])
        if self._history_next:
            return self._asked_at
        if self.stage is Stage.WAITING and self.place is None:
            # Sent a moment ago and not begun: it stands behind others.
            return max(self.heard_at, self._asked_at) + _POLL_PLACE_SECONDS
        quiet_at = max(self.heard_at + QUIET_SECONDS, self._asked_at + _POLL_QUIET_SECONDS)
        usual = min(self._asked_at + _POLL_LIVELY_SECONDS, quiet_at)
        return max(usual, self._asked_at + min(5.0, 20 * cost_seconds))

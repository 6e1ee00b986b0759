"""What a ComfyUI server answers about its queue and its history, as frozen values.

Everything here is a stranger's word: what makes no sense is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from core.engines.comfy.messages import Broke, broke

Outputs = Mapping[str, Mapping[str, Any]]
"""What each node showed, by node id, as the server tells it."""


class End(StrEnum):
    """How a prompt ended. `LOST`: the server knows nothing of it any more."""

    SUCCESS = "success"
    ERROR = "error"
    INTERRUPTED = "interrupted"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Entry:
    """A prompt in the queue.

    Attributes:
        number: Its rank; smaller ones run first.
        client: Client id that hears its progress, None when there is none.
        title: A word on it from its graph, "" when there is none.
    """

    id: str
    number: float
    client: str | None = None
    title: str = ""


@dataclass(frozen=True, slots=True)
class Queue:
    """The prompts that run and those that wait, in the order they will run in."""

    running: tuple[Entry, ...] = ()
    pending: tuple[Entry, ...] = ()

    def place(self, prompt: str) -> int | None:
        """Return how many prompts come before one that waits; None when it does not wait."""
        for index, entry in enumerate(self.pending):
            if entry.id == prompt:
                return index + len(self.running)
        return None

    def runs(self, prompt: str) -> bool:
        """Say whether a prompt runs."""
        return any(entry.id == prompt for entry in self.running)

    def has(self, prompt: str) -> bool:
        """Say whether a prompt runs or waits."""
        return self.runs(prompt) or self.place(prompt) is not None

    def of_client(self, client: str) -> Entry | None:
        """Return the prompt of a client id: servers of old choose prompt ids themselves."""
        for entry in (*self.running, *self.pending):
            if entry.client == client:
                return entry
        return None


@dataclass(frozen=True, slots=True)
class Record:
    """What the history holds of one prompt.

    Attributes:
        end: SUCCESS, ERROR or INTERRUPTED.
        error: The failure, when there was one.
        outputs: What its nodes showed, failed ones left out.
    """

    end: End
    error: Broke | None = None
    outputs: Outputs = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Remote:
    """A file that a node made, as the server names it; never a path of ours.

    Attributes:
        node: Node that made it.
        kind: What it stands under, such as "images" or "gifs".
        type: "output", "temp" or "input".
        full_path: Where it lies on the server's disk, "" when that was not said.
    """

    node: str
    kind: str
    filename: str
    subfolder: str
    type: str
    full_path: str = ""

    @property
    def suffix(self) -> str:
        """Its suffix in small letters with the dot, "" without one; at most ten letters."""
        suffix = PurePosixPath(self.filename.replace("\\", "/")).suffix.lower()
        return suffix if len(suffix) <= 10 else ""


def queue(answer: Any) -> Queue:
    """Return the queue in the answer to GET /queue.

    Raises:
        ValueError: It is no queue.
    """
    if not isinstance(answer, dict):
        raise ValueError("a queue is a JSON object")
    return Queue(
        tuple(_entries(answer.get("queue_running"))),
        # The server sends a heap, of which only the first is in its place.
        tuple(sorted(_entries(answer.get("queue_pending")), key=lambda entry: entry.number)),
    )


def _entries(rows: Any) -> list[Entry]:
    if not isinstance(rows, list):
        raise ValueError("a queue has a list of running and one of pending prompts")
    found = []
    for row in rows:
        if not isinstance(row, list) or len(row) < 2:
            continue
        number = row[0] if isinstance(row[0], int | float) else 0.0
        extra = row[3] if len(row) > 3 and isinstance(row[3], dict) else {}
        client = extra.get("client_id")
        title = _title(row[2]) if len(row) > 2 else ""
        found.append(
            Entry(str(row[1]), float(number), None if client is None else str(client), title)
        )
    return found


def _title(graph: Any) -> str:
    """Return the longest text in a graph, which mostly is its prompt."""
    texts = [""]
    if isinstance(graph, dict):
        for node in graph.values():
            inputs = node.get("inputs") if isinstance(node, dict) else None
            if isinstance(inputs, dict) and isinstance(inputs.get("text"), str):
                texts.append(" ".join(inputs["text"].split()))
    return max(texts, key=len)[:80]


def record(answer: Any, prompt: str) -> Record | None:
    """Return what the answer to GET /history/<id> says of a prompt; None when nothing.

    Raises:
        ValueError: It is no history.
    """
    if not isinstance(answer, dict):
        raise ValueError("a history is a JSON object")
    entry = answer.get(prompt)
    if not isinstance(entry, dict):
        return None
    raw = entry.get("outputs")
    found = raw if isinstance(raw, dict) else {}
    outputs = {str(node): shown for node, shown in found.items() if isinstance(shown, dict)}
    status = entry.get("status")
    status = status if isinstance(status, dict) else {}
    messages = status.get("messages")
    # Only the last message tells an interruption from an error.
    for message in reversed(messages if isinstance(messages, list) else []):
        if not isinstance(message, list) or len(message) != 2:
            continue
        if message[0] == "execution_interrupted":
            return Record(End.INTERRUPTED, None, outputs)
        if message[0] == "execution_error":
            return Record(End.ERROR, _error(message[1], prompt), outputs)
    said = status.get("status_str")
    good = said == "success" if said is not None else bool(outputs)
    return Record(End.SUCCESS if good else End.ERROR, None, outputs)


def sent_graph(answer: Any, key: str, prompt: str, client: str) -> Mapping[str, Any] | None:
    """Return the graph of a prompt from an answer of the queue or the history; None without one.

    Args:
        answer: To GET /queue, or to GET /history/<id>.
        key: Where the entry stands in a history; "" for a queue.
        prompt: Id of the prompt.
        client: Client id that it was sent under.
    """
    if not isinstance(answer, dict):
        return None
    rows: list[Any] = []
    if key:
        entry = answer.get(key)
        rows = [entry.get("prompt")] if isinstance(entry, dict) else []
    else:
        for name in ("queue_running", "queue_pending"):
            found = answer.get(name)
            rows += found if isinstance(found, list) else []
    for row in rows:
        if not isinstance(row, list) or len(row) < 3 or not isinstance(row[2], dict):
            continue
        extra = row[3] if len(row) > 3 and isinstance(row[3], dict) else {}
        graph: dict[str, Any] = row[2]
        nodes = graph.values()
        whole = all(_is_node(node) for node in nodes)
        if whole and (row[1] == prompt or extra.get("client_id") == client):
            return graph
    return None


def _is_node(node: Any) -> bool:
    whole = isinstance(node, dict) and isinstance(node.get("class_type"), str)
    return whole and isinstance(node.get("inputs"), dict)


def _error(said: Any, prompt: str) -> Broke | None:
    if not isinstance(said, dict):
        return None
    try:
        return broke({**said, "prompt_id": prompt})
    except (ValueError, TypeError, KeyError):
        return None


def files(outputs: Outputs) -> list[Remote]:
    """Return the files that `outputs` name, in their order, none twice."""
    found: dict[tuple[str, str, str], Remote] = {}
    for node, shown in outputs.items():
        for kind, rows in shown.items():
            for row in rows if isinstance(rows, list) else ():
                if not isinstance(row, dict) or not isinstance(row.get("filename"), str):
                    continue
                remote = Remote(
                    node,
                    str(kind),
                    row["filename"],
                    str(row.get("subfolder") or ""),
                    str(row.get("type") or "output"),
                    str(row.get("fullpath") or ""),
                )
                # Two equal savers share one file.
                found.setdefault((remote.type, remote.subfolder, remote.filename), remote)
    return list(found.values())

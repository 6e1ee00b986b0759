"""A recorded server as a clockwork: what it said and when, and what it would have answered."""

from __future__ import annotations

import base64
import heapq
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from core.engines.comfy import answers, messages
from core.engines.comfy.follow import Ask, Follower, Stage

ENDINGS = {
    "execution_success": "success",
    "execution_error": "error",
    "execution_interrupted": "error",
}
CALL_SECONDS = 0.004
UNTIL_SECONDS = 60.0


@dataclass
class Prompt:
    """One prompt of a recording: when it was where, and how it ended."""

    id: str
    number: float
    graph: dict[str, Any]
    client: str | None
    posted: float
    started: float = float("inf")
    ended: float = float("inf")
    gone: float = float("inf")
    history: dict[str, Any] | None = None
    outputs: dict[str, Any] = field(default_factory=dict)
    told: list[list[Any]] = field(default_factory=list)
    steps: list[tuple[str, float, float]] = field(default_factory=list)


class Recording:
    """A transcript, turned into frames with their times and a server that can be asked.

    The queue and the history are rebuilt from what was said; where the recording
    has the server's own history of a prompt, that is what is answered. `untold`
    says of prompts, by the start of their id, when they began and ended where
    the socket did not say.
    """

    def __init__(
        self, rows: Iterable[dict[str, Any]], untold: dict[str, tuple[float, float]] | None = None
    ) -> None:
        self.rows = list(rows)
        self.prompts: dict[str, Prompt] = {}
        self.frames: list[tuple[float, str | bytes]] = []
        self.dies = self.answers_again = float("inf")
        self.ends_at = 0.0
        # Messages of a prompt can be older than the reply to its POST.
        for row in self.rows:
            if "http" in row:
                self._http(row["t"], row["http"])
        for row in self.rows:
            if "http" not in row:
                self._row(row)
        for key, (started, ended) in (untold or {}).items():
            prompt = next(one for one in self.prompts.values() if one.id.startswith(key))
            prompt.started, prompt.ended = started, ended
            prompt.told = prompt.told or [["execution_success", {"prompt_id": prompt.id}]]
        for prompt in self.prompts.values():
            if prompt.posted < self.dies and prompt.ended > self.dies:
                prompt.gone = min(prompt.gone, self.dies)

    def _http(self, at: float, http: dict[str, Any]) -> None:
        body = _json(http.get("body"))
        sent = http.get("json") or {}
        if http["path"] == "/prompt" and http["method"] == "POST" and isinstance(body, dict):
            key = body.get("prompt_id")
            if key and http["status"] == 200 and key not in self.prompts:
                graph, client = sent.get("prompt") or {}, sent.get("client_id")
                self.prompts[key] = Prompt(key, body["number"], graph, client, http["sent_t"])
        elif http["path"] == "/queue" and http["method"] == "POST":
            for prompt in self.prompts.values():
                if sent.get("clear") or prompt.id in sent.get("delete", ()):
                    # Those that had begun by then are put right below.
                    prompt.gone = min(prompt.gone, at)
        elif http["path"] == "/queue" and isinstance(body, dict):
            for _, key, *_ in body["queue_running"]:
                prompt = self.prompts[key]
                # One that runs cannot be deleted; the start of some is told to nobody.
                prompt.started, prompt.gone = min(prompt.started, at), float("inf")
        elif http["path"].startswith("/history/") and isinstance(body, dict):
            for key, entry in body.items():
                if key in self.prompts:
                    self.prompts[key].history = entry

    def _row(self, row: dict[str, Any]) -> None:
        at = row["t"]
        self.ends_at = max(self.ends_at, at)
        if "text" in row:
            self.frames.append((at, row["text"]))
            self._text(at, _json(row["text"]) or {})
        elif "bin" in row and "b64" in row["bin"]:
            self.frames.append((at, base64.b64decode(row["bin"]["b64"])))
        elif "note" in row and isinstance(row["note"], str):
            if row["note"].startswith("SIG") and row["note"].endswith(" now"):
                self.dies = at
            elif row["note"].startswith("server answers again"):
                self.answers_again = at
        elif isinstance(row.get("note"), dict) and "history_status" in row["note"]:
            last = [p for p in self.prompts.values() if p.posted < at][-1]
            last.history = {
                "outputs": row["note"]["history_outputs"],
                "status": row["note"]["history_status"],
            }

    def _text(self, at: float, said: dict[str, Any]) -> None:
        kind, data = said.get("type"), said.get("data") or {}
        prompt = self.prompts.get(data.get("prompt_id") or "")
        if prompt is None:
            return
        if kind in ("execution_start", *ENDINGS):
            prompt.told.append([kind, data])
        if kind == "execution_start" and prompt.started == float("inf"):
            prompt.started, prompt.gone = at, float("inf")
        elif kind == "executed":
            prompt.outputs[data["node"]] = data["output"]
        elif kind == "progress":
            prompt.steps.append((data["node"], data["value"], data["max"]))
        elif kind in ENDINGS:
            prompt.ended = at

    def queue(self, at: float) -> dict[str, Any]:
        """Answer GET /queue. Raises ConnectionError while the server is dead."""
        self._alive(at)
        running, pending = [], []
        for one in self.prompts.values():
            if one.posted <= at < min(one.ended, one.gone):
                row = [one.number, one.id, one.graph, {"client_id": one.client}, []]
                (running if one.started <= at else pending).append(row)
        return {"queue_running": running, "queue_pending": pending[::-1]}

    def history(self, prompt: str, at: float) -> dict[str, Any]:
        """Answer GET /history/<id>; it is written 2 ms after the ending was told."""
        self._alive(at)
        one = self.prompts[prompt]
        if at < one.ended + 0.002 or (one.ended < self.dies <= at):
            return {}
        entry = one.history or {
            "outputs": one.outputs,
            "status": {"status_str": ENDINGS[one.told[-1][0]], "messages": one.told},
        }
        return {prompt: entry}

    def _alive(self, at: float) -> None:
        if self.dies <= at < self.answers_again:
            raise ConnectionError("refused")


def _json(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None


Frames = list[tuple[float, str | bytes]]


def follow(
    recording: Recording, prompt: str, change: Callable[[Frames], Frames] = lambda frames: frames
) -> tuple[Follower, float, list[tuple[str, float, float]]]:
    """Follow a prompt of a recording as the engine would.

    Args:
        recording: The server.
        prompt: Which of its prompts.
        change: Takes frames away, doubles or moves them.

    Returns:
        The follower at the end, when that was, and the steps it told on the way.
    """
    one = recording.prompts[prompt]
    nodes = [key for key, node in one.graph.items() if "Websocket" in node["class_type"]]
    follower = Follower(prompt, one.posted, nodes)
    follower.accepted()
    told: list[tuple[str, float, float]] = []
    frames = change([frame for frame in recording.frames if frame[0] >= one.posted])
    heapq.heapify(queue := [(at, index) for index, (at, _) in enumerate(frames)])
    now = one.posted
    while follower.stage is not Stage.ENDED and now < recording.ends_at + UNTIL_SECONDS:
        due = max(follower.due_at(CALL_SECONDS), now)
        if queue and queue[0][0] <= due:
            now, index = heapq.heappop(queue)
            message = messages.parse(frames[index][1])
            before = follower.progress.copy()
            if message is not None and follower.hear(message, now):
                told += _news(message, before, follower)
            continue
        now = due
        _answer(follower, recording, prompt, now)
        now += CALL_SECONDS
    return follower, now, told


def _news(
    message: messages.Message, before: dict[str, tuple[float, float]], follower: Follower
) -> list[tuple[str, float, float]]:
    if not isinstance(message, messages.NodeProgress):
        return []
    return [(message.node, *follower.progress[message.node])]


def _answer(follower: Follower, recording: Recording, prompt: str, now: float) -> None:
    ask = follower.ask()
    try:
        if ask is Ask.QUEUE:
            answer = answers.queue(recording.queue(now))
            follower.take_queue(answer, now, now + CALL_SECONDS)
        else:
            record = answers.record(recording.history(prompt, now), prompt)
            follower.take_history(record, now, now + CALL_SECONDS)
    except ConnectionError:
        follower.unanswered(now + CALL_SECONDS)

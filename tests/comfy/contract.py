"""Plays the client's part of a recording to another server, and says what it heard, comparably.

What is made equal before comparing, and why:

- ids of prompts, and their numbers where the server chose them: by order of appearance;
- timestamps, the random part of temporary names: left out; counters in file names: counted
  from the first one of their prefix in the recording, whose server had older files;
- the steps of one node: one line that says what most of them consist of, in which order,
  because how many had passed when a request came, or a socket closed, is chance (the last
  value is in the line that ends the node);
- `status`: compared apart from the rest and without repetitions, because a prompt that is
  queued while another runs changes the number at any place;
- the order of lists that are sets on the server: `executed`, `dependent_outputs`, outputs;
- tracebacks and the text of tensors: left out; folders of the server: cut off;
- ids that the server gave to nameless sockets; how many frames of a moving preview came in a
  row, because those have a clock of their own.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import requests

from tests.comfy import recorded
from tests.comfy.standin import Socket

Heard = dict[str, list[Any]]


class Names:
    """Gives ids, numbers and file names of one server names that another server's get too."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._numbers: dict[str, str] = {}
        self._first: float | None = None
        self._counters: dict[str, int] = {}

    def posted(self, request: dict[str, Any], reply: Any) -> None:
        """Take note of a reply to POST /prompt."""
        if not isinstance(reply, dict) or "prompt_id" not in reply:
            return
        key, number = reply["prompt_id"], reply["number"]
        if key not in self._ids:
            self._ids[key] = f"prompt {len(self._ids)}"
        if "number" in request:
            self._numbers[key] = f"given {number}"
            return
        self._first = abs(number) if self._first is None else self._first
        sign = "front " if request.get("front") else ""
        self._numbers[key] = f"{sign}{abs(number) - self._first}"

    def plain(self, value: Any, key: str = "") -> Any:
        """Return a value as it can be compared."""
        if key in ("timestamp", "traceback", "current_inputs", "workflow_png"):
            return "…"
        if isinstance(value, dict):
            made = {self._ids.get(k, k): self.plain(v, k) for k, v in value.items()}
            if isinstance(value.get("prompt_id"), str) and "number" in value:
                made["number"] = self._numbers.get(value["prompt_id"], "?")
            return made
        if isinstance(value, list):
            if len(value) == 5 and value[1] in self._ids:  # An item of the queue.
                number = self._numbers.get(value[1], "?")
                return [number, *(self.plain(each) for each in value[1:4]), sorted(value[4])]
            made_list = [self.plain(each) for each in value]
            unordered = key in ("executed", "dependent_outputs", "current_outputs")
            return sorted(made_list) if unordered else made_list
        if isinstance(value, str):
            return self._text(value, key)
        return value

    def _text(self, value: str, key: str) -> str:
        if value in self._ids:
            return self._ids[value]
        if key == "fullpath":
            value = "/".join(value.split("/")[-3:])
        value = re.sub(r"ComfyUI_temp_[a-z]{5}", "ComfyUI_temp_xxxxx", value)
        if key == "sid":
            value = re.sub(r"^[0-9a-f]{32}$", "given by the server", value)
        found = re.fullmatch(r"(.*_)(\d{5})(_?\.\w+)", value)
        if found is None:
            return value
        prefix = found[1].split("/")[-1] + found[3]
        base = self._counters.setdefault(prefix, int(found[2]))
        return f"{found[1]}+{int(found[2]) - base}{found[3]}"


def compact(messages: Iterable[Any], names: Names) -> tuple[list[Any], list[Any]]:
    """Return all messages but `status`, with steps drawn together; and the statuses."""
    lines: list[Any] = []
    statuses: list[Any] = []
    steps = Steps()
    for message in messages:
        kind, node = _kind_and_step(message)
        if kind == "status":
            data = names.plain(message["data"])
            if not statuses or statuses[-1] != data:
                statuses.append(data)
        elif node is not None or (kind.startswith("frame") and steps.node is not None):
            if steps.node is not None and node is not None and steps.node != node:
                lines.append(steps.line())
                steps = Steps()
            steps.add(kind, node)
        else:
            if steps.node is not None:
                lines.append(steps.line())
                steps = Steps()
            line = _line(kind, message, names)
            if not (lines and line == lines[-1] and kind.startswith("frame")):
                lines.append(line)
    if steps.node is not None:
        lines.append(steps.line())
    return lines, statuses


class Steps:
    """Consecutive steps of one node."""

    def __init__(self) -> None:
        self.node: str | None = None
        self._seen: list[list[str]] = [[]]

    def add(self, kind: str, node: str | None) -> None:
        self.node = self.node or node
        if kind == "progress_state":
            self._seen.append([])
        if "moving" not in kind:
            self._seen[-1].append(kind)

    def line(self) -> Any:
        """Return the node and what, in which order, most of its steps consist of."""
        whole = Counter(tuple(step) for step in self._seen if step)
        return ["steps", self.node, list(whole.most_common(1)[0][0])]


def _kind_and_step(message: Any) -> tuple[str, str | None]:
    """Return the kind of a message, and the node if it tells a step of one."""
    if isinstance(message, bytes):
        return f"frame {int.from_bytes(message[:4], 'big')} {message[4:8].hex()}", None
    if "frame" in message:
        return message["frame"], None
    kind, data = message["type"], message["data"]
    if kind == "progress":
        return kind, data["node"]
    if kind == "progress_state":
        node, last = list(data["nodes"].items())[-1]
        if last["state"] == "running" and isinstance(last["value"], int):
            return kind, node
    return kind, None


def _line(kind: str, message: Any, names: Names) -> Any:
    if kind.startswith("frame"):
        return [kind]
    if kind == "progress_state":
        nodes = message["data"]["nodes"]
        told = {node: [each["value"], each["max"], each["state"]] for node, each in nodes.items()}
        return [kind, names.plain(message["data"]["prompt_id"]), told]
    return [kind, names.plain(message["data"])]


def frame_kind(data: bytes) -> str:
    """Return what sort of binary frame this is, the same for described and whole ones."""
    event = int.from_bytes(data[:4], "big")
    if event == 4:
        size = int.from_bytes(data[4:8], "big")
        return f"frame 4 {sorted(json.loads(data[8 : 8 + size]))}"
    form = int.from_bytes(data[4:8], "big")
    moving = data[8:12] == b"\0\0\0\1" and data[32:34] == b"\xff\xd8"
    return f"frame {event} {form}{' moving' if moving else ''}"


def _recorded_frame(row: dict[str, Any]) -> str:
    told = row["bin"]
    if told["event"] == 4:
        return f"frame 4 {sorted(json.loads(told['metadata_text']))}"
    if "b64" in told:
        return frame_kind(base64.b64decode(told["b64"]))
    return f"frame {told['event']} {told['format']}"


class Transcript:
    """A recording, cut into what the client did and what it heard."""

    def __init__(self, name: str) -> None:
        self.rows = recorded.transcript(name)
        self.actions: list[tuple[float, str, str, Any]] = []
        self.heard: dict[str, list[tuple[float, Any]]] = {}
        self.exchanges: list[dict[str, Any]] = []
        for row in self.rows:
            conn, at = row.get("conn", ""), row["t"]
            if "ws_open" in row:
                client = row["ws_open"].partition("clientId=")[2]
                self.actions.append((at, "open", conn, client))
                self.heard.setdefault(conn, [])
            elif "text" in row:
                self.heard[conn].append((at, json.loads(row["text"])))
            elif "bin" in row:
                self.heard[conn].append((at, {"frame": _recorded_frame(row)}))
            elif "sent_text" in row:
                self.actions.append((at, "send", conn, row["sent_text"]))
            elif "http" in row:
                self.actions.append((row["http"]["sent_t"], "http", "", row["http"]))
            elif str(row.get("note", "")).startswith("client closes"):
                self.actions.append((at, "close", conn, None))
        self.actions.sort(key=lambda action: action[0])
        if name == "56":  # Its first request was written down as it was changed later.
            first = next(data for _, what, _, data in self.actions if what == "http")
            first["json"] = json.loads(json.dumps(first["json"]))
            first["json"]["prompt"]["3"]["inputs"]["filename_prefix"] = "rig/tiny"

    def output_order(self) -> tuple[str, ...]:
        """Return the order in which outputs were begun, which was by chance."""
        found: dict[str, None] = {}
        for messages in self.heard.values():
            for _, message in messages:
                if message.get("type") == "executed":
                    found[message["data"]["node"]] = None
        return tuple(found)


class Player:
    """Does to a server at `url` what a transcript's client did, at the same points of the run.

    Args:
        url: The server.
        transcript: The recording.
        before: Told each exchange before it happens, for what a client cannot do.
    """

    def __init__(
        self,
        url: str,
        transcript: Transcript,
        before: Callable[[dict[str, Any]], None] = lambda http: None,
    ) -> None:
        self._url = url
        self._before = before
        self._told = transcript
        self._theirs, self._ours = Names(), Names()
        self._open: dict[str, Socket] = {}
        self._sockets: dict[str, Socket] = {}
        self._http: list[tuple[Any, Any]] = []

    def play(self) -> None:
        """Play the whole transcript, then compare; raises AssertionError."""
        for exchange in self._posts():
            self._theirs.posted(exchange["json"], _json(exchange.get("body")))
        with requests.Session() as session:
            for at, what, conn, data in self._told.actions:
                self._wait_for(at)
                if what == "open":
                    self._sockets[conn] = self._open[conn] = Socket(self._url, data)
                    time.sleep(0.02)
                elif what == "send":
                    self._open[conn].send(data)
                elif what == "close":
                    self._drain(conn)
                    self._open.pop(conn).close()
                else:
                    self._exchange(session, data)
        for conn in list(self._open):
            self._drain(conn)
            self._open.pop(conn).close()
        self._compare()

    def close(self) -> None:
        for socket in self._open.values():
            socket.close()

    def _posts(self) -> list[dict[str, Any]]:
        return [
            data
            for _, what, _, data in self._told.actions
            if what == "http" and data["method"] == "POST" and data["path"] == "/prompt"
        ]

    def _exchange(self, session: requests.Session, http: dict[str, Any]) -> None:
        body = http.get("json")
        path = http["path"]
        for theirs, ours in self._pairs():
            path = path.replace(theirs, ours)
            body = json.loads(json.dumps(body).replace(theirs, ours))
        self._before(http)
        answer = session.request(http["method"], self._url + path, json=body, timeout=30)
        if http["path"] == "/prompt" and http["method"] == "POST" and answer.ok:
            self._ours.posted(http["json"], answer.json())
        self._http.append((http, answer))

    def _pairs(self) -> list[tuple[str, str]]:
        """Return ids of the recording with those of this server."""
        back = {name: key for key, name in self._ours._ids.items()}
        return [(key, back[name]) for key, name in self._theirs._ids.items() if name in back]

    # Waiting for the same point of the run.

    def _wait_for(self, at: float) -> None:
        for conn, socket in self._open.items():
            self._until(socket, [m for when, m in self._told.heard[conn] if when < at])

    def _drain(self, conn: str) -> None:
        self._until(self._open[conn], [m for _, m in self._told.heard[conn]])
        self._open[conn].quiet(0.15)

    def _until(self, socket: Socket, told: list[Any]) -> None:
        """Read until the last of what was told there was heard here, as often as there."""
        marks = [self._mark(m, self._theirs) for m in told if _is_cue(m)]
        if not marks:
            return
        mark, deadline = marks[-1], time.monotonic() + 30
        while marks.count(mark) > [
            self._mark(m, self._ours) for m in socket.heard if _is_cue(m)
        ].count(mark):
            assert time.monotonic() < deadline, f"never heard {mark}"
            socket.read(30)

    def _mark(self, message: Any, names: Names) -> str:
        kind, data = message["type"], message["data"]
        if kind == "progress_state":
            node, last = list(data["nodes"].items())[-1]
            data = {"id": data["prompt_id"], "node": node, "value": last["value"]}
        return json.dumps([kind, names.plain(data)], sort_keys=True)

    # Comparing.

    def _compare(self) -> None:
        for http, answer in self._http:
            self._compare_exchange(http, answer)
        for conn, socket in self._sockets.items():
            theirs = compact((m for _, m in self._told.heard[conn]), self._theirs)
            heard = [{"frame": frame_kind(m)} if isinstance(m, bytes) else m for m in socket.heard]
            ours = compact(heard, self._ours)
            assert ours[0] == theirs[0], f"on connection {conn!r}"
            assert ours[1] == theirs[1], f"statuses on connection {conn!r}"

    def _compare_exchange(self, http: dict[str, Any], answer: requests.Response) -> None:
        what = f"{http['method']} {http['path']}"
        assert answer.status_code == http["status"], what
        if "[" in str(http.get("body"))[-14:] and " chars]" in str(http.get("body"))[-14:]:
            return  # The recording has only the beginning.
        if http.get("body") is None or "/internal/" in http["path"]:
            return
        assert answer.headers.get("Content-Type") == http["content_type"], what
        if "json" not in (http["content_type"] or ""):
            assert answer.text == http["body"], what
            return
        theirs = self._theirs.plain(json.loads(http["body"]))
        assert _loose(self._ours.plain(answer.json())) == _loose(theirs), what


def _loose(value: Any) -> Any:
    """Leave aside what the stand-in computes in its own way, in answers."""
    if isinstance(value, dict):
        return {k: _loose(v) for k, v in value.items() if k not in ("current_outputs", "devices")}
    return [_loose(each) for each in value] if isinstance(value, list) else value


def _is_cue(message: Any) -> bool:
    return isinstance(message, dict) and message.get("type") not in (None, "status", "logs")


def _json(body: Any) -> Any:
    try:
        return json.loads(body)
    except (TypeError, ValueError):
        return None

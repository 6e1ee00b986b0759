"""What a ComfyUI server says on its WebSocket: frames in, frozen messages out.

Everything here is a stranger's word: a frame that makes no sense is `None`,
and nothing is raised whatever the bytes are.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_PREVIEW_BYTES = 32 * 1024 * 1024
_PREVIEW, _PREVIEW_WITH_WORDS = 1, 4
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# An animated preview has its frame's number and its node's id before the picture.
_ANIMATED_HEAD = 32
_MOST_TEXT = 4_000


@dataclass(frozen=True, slots=True)
class Status:
    """How many prompts are in the queue, everybody's. Sent to all, first of all messages.

    Attributes:
        remaining: Prompts that run or wait; None when it was not said.
        sid: The connection's client id, in the first message of a connection.
    """

    remaining: int | None
    sid: str | None


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt runs."""

    prompt: str


@dataclass(frozen=True, slots=True)
class Cached:
    """These nodes will not run: what they made is still there."""

    prompt: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """A node is at `value` of `maximum`.

    Attributes:
        prompt: Prompt; "" when it was not said, as older servers do.
    """

    prompt: str
    node: str
    value: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Nodes:
    """All nodes that began so far, as (id, state, value, maximum)."""

    prompt: str
    nodes: tuple[tuple[str, str, float, float], ...]


@dataclass(frozen=True, slots=True)
class Executing:
    """A node began. `node` None: the prompt is over, however it ended.

    Attributes:
        prompt: Prompt; None right after a reconnection, when it is not said.
    """

    prompt: str | None
    node: str | None


@dataclass(frozen=True, slots=True)
class Executed:
    """A node that shows something is through."""

    prompt: str
    node: str
    output: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The prompt ran to its end; its history is written a moment later."""

    prompt: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The prompt was interrupted at a node."""

    prompt: str
    node: str


@dataclass(frozen=True, slots=True)
class Broke:
    """A node failed.

    Attributes:
        kind: The exception's class, such as "torch.OutOfMemoryError".
        traceback: Where, one line each.
    """

    prompt: str
    node: str
    node_type: str
    kind: str
    text: str
    traceback: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Animation:
    """Previews of a node will come as `length` frames at `rate` a second."""

    node: str
    length: int
    rate: float


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture of what is being made, or one sent instead of a file.

    Attributes:
        picture: JPEG or PNG bytes.
        kind: "jpeg" or "png".
        node: Node, None when it was not said.
        prompt: Prompt, None when it was not said.
        index: Frame of an animated preview, None for a single picture.
    """

    picture: bytes = field(repr=False)
    kind: str
    node: str | None = None
    prompt: str | None = None
    index: int | None = None


Message = (
    Status
    | Started
    | Cached
    | NodeProgress
    | Nodes
    | Executing
    | Executed
    | Succeeded
    | Interrupted
    | Broke
    | Animation
    | Preview
)


def parse(frame: str | bytes) -> Message | None:
    """Return the message in a text (str) or binary (bytes) frame; None if it is none of ours."""
    try:
        return _text(frame) if isinstance(frame, str) else _binary(frame)
    # A text nested too deeply exhausts the parser; half a number is no number.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, struct.error):
        return None


def _text(frame: str) -> Message | None:
    data = json.loads(frame)
    kind, said = data["type"], data["data"]
    build = _BUILDERS.get(kind)
    return None if build is None else build(said)


def _status(said: Mapping[str, Any]) -> Status:
    left = (said.get("status") or {}).get("exec_info", {}).get("queue_remaining")
    sid = said.get("sid")
    return Status(left if isinstance(left, int) else None, None if sid is None else str(sid))


def _progress(said: Mapping[str, Any]) -> NodeProgress:
    return NodeProgress(
        str(said.get("prompt_id") or ""),
        str(said["node"]),
        _number(said["value"]),
        _number(said["max"]),
    )


def _nodes(said: Mapping[str, Any]) -> Nodes:
    return Nodes(
        str(said["prompt_id"]),
        tuple(
            (str(node), str(one.get("state")), _number(one["value"]), _number(one["max"]))
            for node, one in said["nodes"].items()
        ),
    )


def _executing(said: Mapping[str, Any]) -> Executing:
    prompt, node = said.get("prompt_id"), said["node"]
    return Executing(None if prompt is None else str(prompt), None if node is None else str(node))


def _executed(said: Mapping[str, Any]) -> Executed:
    output = said["output"]
    return Executed(
        str(said["prompt_id"]), str(said["node"]), output if isinstance(output, dict) else {}
    )


def _interrupted(said: Mapping[str, Any]) -> Interrupted:
    return Interrupted(str(said["prompt_id"]), str(said.get("node_id") or ""))


def broke(said: Mapping[str, Any]) -> Broke:
    """Return what an `execution_error` says, from the socket or from the history."""
    lines = said.get("traceback") or ()
    return Broke(
        str(said["prompt_id"]),
        str(said.get("node_id") or ""),
        str(said.get("node_type") or ""),
        str(said.get("exception_type") or ""),
        str(said.get("exception_message") or "").strip()[:_MOST_TEXT],
        tuple(str(line) for line in lines[-20:]) if isinstance(lines, list) else (),
    )


_BUILDERS: Mapping[str, Any] = {
    "status": _status,
    "execution_start": lambda said: Started(str(said["prompt_id"])),
    "execution_cached": lambda said: Cached(
        str(said["prompt_id"]), tuple(str(node) for node in said["nodes"])
    ),
    "progress": _progress,
    "progress_state": _nodes,
    "executing": _executing,
    "executed": _executed,
    "execution_success": lambda said: Succeeded(str(said["prompt_id"])),
    "execution_interrupted": _interrupted,
    "execution_error": broke,
    "VHS_latentpreview": lambda said: Animation(
        str(said["id"]), int(said["length"]), _number(said["rate"])
    ),
}


def _number(value: Any) -> float:
    """Return a finite number. Raises ValueError."""
    number = float(value)
    if number - number != 0:  # NaN and infinities, which JSON does not have.
        raise ValueError(value)
    return number


def _binary(frame: bytes) -> Preview | None:
    if len(frame) > MOST_PREVIEW_BYTES:
        return None
    event, head = struct.unpack_from(">II", frame)
    if event == _PREVIEW:
        return _plain_preview(frame)
    if event == _PREVIEW_WITH_WORDS:
        return _worded_preview(frame, head)
    return None


def _plain_preview(frame: bytes) -> Preview | None:
    picture = frame[8:]
    kind = _kind(picture)
    if kind is not None:
        return Preview(picture, kind)
    if len(frame) <= _ANIMATED_HEAD:
        return None
    # VideoHelperSuite: number as 32 bits, then the node as a string of at most 15 letters.
    index, size = struct.unpack_from(">IB", frame, 12)
    picture = frame[_ANIMATED_HEAD:]
    kind = _kind(picture)
    if kind is None or size > 15:
        return None
    return Preview(picture, kind, node=frame[17 : 17 + size].decode(), index=index)


def _worded_preview(frame: bytes, head: int) -> Preview | None:
    if 8 + head > len(frame):
        return None
    words = json.loads(frame[8 : 8 + head])
    picture = frame[8 + head :]
    kind = _kind(picture)
    if kind is None:
        return None
    node, prompt = words.get("node_id"), words.get("prompt_id")
    return Preview(
        picture,
        kind,
        None if node is None else str(node),
        None if prompt is None else str(prompt),
    )


def _kind(picture: bytes) -> str | None:
    if picture.startswith(_JPEG):
        return "jpeg"
    return "png" if picture.startswith(_PNG) else None

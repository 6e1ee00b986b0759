"""What a client of a ComfyUI 0.3.64 server saw and heard, to test against.

The files lie gzipped in `recordings/`: `ws/` transcripts, `http/` single
replies, `frames/` whole binary frames, `object_info/` a summary of the server's nodes.

A row of a transcript has `t` (seconds since it began), `conn` where there are
several connections, and one of: `text` (a text frame, as it came), `bin` (a
binary frame, described; whole in `b64` when it was small), `sent_text` (a frame
of the client), `http` (one exchange: `sent_t`, `method`, `path`, `json`,
`status`, `body`), `ws_open`, `ws_close`, `ws_exception`, `note`.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from core import resources

FOLDER = Path(__file__).parent / "recordings"
VERSION = "0.3.64"

Row = dict[str, Any]


def names(kind: str) -> list[str]:
    """Return the names of all recordings of a kind: "ws", "http", "frames", "object_info"."""
    return sorted(path.name.split(".")[0] for path in (FOLDER / kind).glob("*.gz"))


def transcript(name: str) -> list[Row]:
    """Return the rows of a transcript, by its name or the beginning of it such as "05"."""
    return [json.loads(line) for line in _read("ws", name).splitlines()]


def messages(name: str, conn: str | None = None) -> list[dict[str, Any]]:
    """Return the JSON messages that the server sent in a transcript, in their order.

    Args:
        name: The transcript's.
        conn: Only those of this connection.
    """
    return [
        json.loads(row["text"])
        for row in transcript(name)
        if "text" in row and (conn is None or row.get("conn") == conn)
    ]


def exchanges(name: str) -> list[Row]:
    """Return the HTTP exchanges of a transcript, in the order of their replies."""
    return [row["http"] for row in transcript(name) if "http" in row]


def http(name: str) -> Any:
    """Return a recorded reply: {"request", "status", "headers", "json"} or the bare body."""
    return json.loads(_read("http", name))


def rejections() -> list[Row]:
    """Return 82 requests with their replies: what is refused, and odd things that are not."""
    found: list[Row] = http("prompt_rejections")
    return found


def frame(name: str) -> bytes:
    """Return a whole binary frame."""
    return _read("frames", name)


def object_info() -> dict[str, Any]:
    """Return 85 nodes as GET /object_info describes them.

    They lie with the program's resources, because the stand-in server has them too.
    """
    data = resources.path("comfy/object_info.json.gz").read_bytes()
    found: dict[str, Any] = json.loads(gzip.decompress(data))
    return found


def object_info_summary() -> dict[str, Any]:
    """Return names of all 570 nodes and what is counted about them."""
    found: dict[str, Any] = json.loads(_read("object_info", "summary"))
    return found


def _read(kind: str, name: str) -> bytes:
    folder = FOLDER / kind
    exact = [path for path in folder.glob("*.gz") if path.name.split(".")[0] == name]
    found = exact or sorted(folder.glob(f"{name}_*.gz"))
    if len(found) != 1:
        raise FileNotFoundError(f"{len(found)} recordings of {kind} are named {name!r}")
    return gzip.decompress(found[0].read_bytes())

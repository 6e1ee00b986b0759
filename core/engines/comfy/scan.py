"""What a server has: its nodes and its model files, asked for in one go."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic
from typing import Any, Protocol
from urllib.parse import quote

from core import web
from core.engines.comfy.fetch import MOST_JSON_BYTES, broken, parse_json
from core.engines.comfy.http import Stats, stats_of
from core.engines.comfy.node_types import ObjectInfo
from core.engines.comfy.ready import Folders
from core.engines.comfy.sign_in import SignIn, door, joined

SCAN_SECONDS = 60.0
_MOST_FOLDERS = 200
_MOST_LIST_BYTES = 4_000_000
_SPACE = " \t\r\n"


class HasBase(Protocol):
    """A server in any of its forms."""

    @property
    def base(self) -> str:
        """Its address."""
        ...


@dataclass(frozen=True, slots=True)
class Scan:
    """What a server has.

    Attributes:
        base: Its address.
        info: Its nodes, as GET /object_info tells them.
        folders: Its model files by folder.
        stats: What it says of itself and its memory.
        seconds: How long it took to find out.
        digest: The same as long as nodes and files are.
    """

    base: str
    info: ObjectInfo
    folders: Folders
    stats: Stats
    seconds: float
    digest: str = ""


def scan(
    server: HasBase,
    before: Scan | None = None,
    *,
    stopped: Callable[[], bool] = lambda: False,
    seconds: float = SCAN_SECONDS,
    sign_in: SignIn | None = None,
) -> Scan:
    """Return what `server` has; call it in a pump.

    Args:
        server: The server.
        before: What was found last time; of a server that has not changed, its parts are
            returned as they are and nothing is read anew.
        stopped: Asked several times a second; True ends it as a TIMEOUT.
        seconds: How long it may take.
        sign_in: Returns its name and password; None for those in the address.

    Raises:
        ProblemError: The server does not answer, or not as ComfyUI does.
    """
    began = monotonic()
    base, who = door(server.base, sign_in)
    way = joined(base, who())

    def get(path: str, largest: int = _MOST_LIST_BYTES) -> bytes:
        left = max(0.01, began + seconds - monotonic())
        return web.read(
            way + path,
            timeout_seconds=left,
            largest=largest,
            stopped=stopped,
            sign_in=True,
        )

    stats = stats_of(parse_json(get("/system_stats"), base), base)
    raw = get("/object_info", MOST_JSON_BYTES)
    names = _words(parse_json(get("/models"), base))[:_MOST_FOLDERS]
    lists = {name: get("/models/" + quote(name, safe="")) for name in names}
    digest = sha256(raw)
    for name, said in lists.items():
        digest.update(f"\0{name}\0".encode())
        digest.update(said)
    found = digest.hexdigest()
    if before is not None and before.digest == found and before.base == base:
        took = monotonic() - began
        return Scan(before.base, before.info, before.folders, stats, took, found)
    info = dict(_members(raw, base))
    folders = {name: _words(parse_json(said, base)) for name, said in lists.items()}
    return Scan(base, info, folders, stats, monotonic() - began, found)


def _words(said: Any) -> list[str]:
    return [word for word in said if isinstance(word, str)] if isinstance(said, list) else []


def _members(raw: bytes, base: str) -> Iterator[tuple[str, Any]]:
    """Yield what a JSON object holds, one member after the other.

    One call for all 660 kB would hold the interpreter for several milliseconds, and
    with it the window.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise broken(base, f"Its list of nodes is no text ({error}).") from None
    decoder = json.JSONDecoder(parse_constant=lambda _: None)
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        # Says what it is instead; a list or a word passes that.
        parse_json(raw, base)
        raise broken(base, "Its list of nodes is no object.")
    try:
        at = _skip(text, at + 1)
        while text[at] != "}":
            key, at = decoder.raw_decode(text, at)
            at = _skip(text, at)
            if not isinstance(key, str) or text[at] != ":":
                raise ValueError("a name and a colon are wanted")
            start = _skip(text, at + 1)
            _, end = decoder.raw_decode(text, start)
            yield key, parse_json(text[start:end].encode(), base)
            at = _skip(text, end)
            if text[at] == ",":
                at = _skip(text, at + 1)
            elif text[at] != "}":
                raise ValueError("a comma is wanted")
        if _skip(text, at + 1) != len(text):
            raise ValueError("something follows its end")
    except (ValueError, RecursionError, IndexError) as error:
        raise broken(base, f"Its list of nodes is no JSON ({error}).", text[:2_000]) from None


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at

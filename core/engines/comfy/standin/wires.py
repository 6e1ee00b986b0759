"""The sockets of a stand-in: who hears what, in one order for all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from aiohttp import web

from core.engines.comfy.standin import frames
from core.engines.comfy.standin.faults import Faults, Kind

FEATURES: Mapping[str, Any] = {"supports_preview_metadata": True, "max_upload_size": 104857600}
_TICK_SECONDS = 0.02


class Wires:
    """Carries messages to the sockets.

    All messages go through one line, as on a real server: a client that does
    not read holds up everybody.

    Args:
        faults: What to spoil.
        greeting: The queue's state, for those who connect.
    """

    def __init__(self, faults: Faults, greeting: Callable[[], dict[str, Any]]) -> None:
        self._faults = faults
        self._greeting = greeting
        self._line: asyncio.Queue[tuple[str | int, Any, Any]] = asyncio.Queue()
        self._sockets: dict[Any, web.WebSocketResponse] = {}
        self._open: dict[web.WebSocketResponse, asyncio.Transport | None] = {}
        self._features: dict[Any, Mapping[str, Any]] = {}
        self.client: Any = None
        """Who sent the prompt that runs."""
        self.node: str | None = None
        """The node that runs."""
        self.step = 0
        """The sampling step that was told last, of the prompt that runs."""
        self.log_listeners: set[Any] = set()

    def send(self, kind: str, data: Any, to: Any = None) -> None:
        """Queue a message to one client, or to all."""
        self._line.put_nowait((kind, data, to))

    def send_frame(self, data: bytes, to: Any = None) -> None:
        """Queue a binary frame."""
        self._line.put_nowait((0, data, to))

    def wants_metadata(self, client: Any) -> bool:
        """Say whether a client asked for previews that name their node."""
        return bool(self._features.get(client, {}).get("supports_preview_metadata"))

    async def carry(self) -> None:
        """Bring messages to the sockets for ever."""
        while True:
            kind, data, to = await self._line.get()
            await self._spoil()
            whole: str | bytes
            if isinstance(kind, int):
                whole = self._spoiled_frame(data)
            else:
                whole = json.dumps({"type": kind, "data": data})
                if self._faults.find(Kind.BAD_MESSAGE, step=self.step) is not None:
                    whole = whole[: len(whole) // 2]
            if to is None:
                for socket in list(self._sockets.values()):
                    await _pass(socket, whole)
            elif to in self._sockets:
                await _pass(self._sockets[to], whole)

    async def _spoil(self) -> None:
        slow = self._faults.find(Kind.SLOW_SOCKET, step=self.step)
        if slow is not None:
            await asyncio.sleep(slow.value)
        if self._faults.find(Kind.DROP, step=self.step) is not None:
            self.drop()
        for kind in (Kind.DEAF, Kind.SILENT_PROXY):
            while self._faults.find(kind, step=self.step) is not None:
                # What was said meanwhile is lost, as with a proxy that forgot the connection.
                while not self._line.empty():
                    self._line.get_nowait()
                await asyncio.sleep(_TICK_SECONDS)

    def _spoiled_frame(self, data: bytes) -> bytes:
        if self._faults.find(Kind.HUGE_PICTURE, step=self.step) is not None:
            return frames.preview(frames.huge_picture())
        cut = self._faults.find(Kind.CUT_FRAME, step=self.step)
        return data if cut is None else data[: int(cut.value)]

    def drop(self) -> None:
        """Break all sockets off, without a close frame."""
        for transport in list(self._open.values()):
            if transport is not None:
                transport.abort()

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one socket until it closes."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        name: Any = request.rel_url.query.get("clientId", "")
        if not name:
            name = uuid.uuid4().hex
        # One id, one socket: whoever had it before hears nothing from now on.
        self._sockets[name] = socket
        self._open[socket] = request.transport
        self._features.pop(name, None)
        try:
            await self._greet(socket, name)
            await self._listen(socket, name)
        finally:
            # By the id, not by the socket: this is how a second one with the same id goes deaf.
            self._sockets.pop(name, None)
            self._features.pop(name, None)
            self._open.pop(socket, None)
        return socket

    async def _greet(self, socket: web.WebSocketResponse, name: Any) -> None:
        state = {"type": "status", "data": {"status": self._greeting(), "sid": name}}
        await _pass(socket, json.dumps(state))
        if self.client == name and self.node is not None:
            await _pass(socket, json.dumps({"type": "executing", "data": {"node": self.node}}))

    async def _listen(self, socket: web.WebSocketResponse, name: Any) -> None:
        first = True
        async for message in socket:
            if message.type == aiohttp.WSMsgType.ERROR:
                return
            if message.type != aiohttp.WSMsgType.TEXT or not first:
                continue
            try:
                said = json.loads(message.data)
            except ValueError:
                continue
            if isinstance(said, dict) and said.get("type") == "feature_flags":
                self._features[name] = said.get("data") or {}
                self.send("feature_flags", dict(FEATURES), name)
                first = False


async def _pass(socket: web.WebSocketResponse, data: str | bytes) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError, aiohttp.ClientError):
        if isinstance(data, str):
            await socket.send_str(data)
        else:
            await socket.send_bytes(data)

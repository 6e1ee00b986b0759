"""The back door of a stand-in, for tests in another process; a token opens it."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from aiohttp import web

from core.engines.comfy.standin.faults import Fault, Kind

if TYPE_CHECKING:
    from core.engines.comfy.standin.server import StandIn

PATH = "/standin/"
HEADER = "X-Standin-Token"
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add(app: web.Application, server: StandIn) -> None:
    """Give a server its back door."""
    door = Door(server)
    for method, path, handler in (
        ("POST", "faults", door.arm),
        ("DELETE", "faults", door.disarm),
        ("GET", "faults", door.armed),
        ("GET", "memory", door.memory),
        ("GET", "posted", door.posted),
        ("POST", "submit", door.submit),
        ("PUT", "models", door.models),
    ):
        app.router.add_route(method, PATH + path, door.guarded(handler))


class Door:
    """What can be asked and done from outside.

    Args:
        server: Whose door this is; without a token it never opens.
    """

    def __init__(self, server: StandIn) -> None:
        self._server = server

    def guarded(self, handler: _Handler) -> _Handler:
        """Return `handler` behind the token."""

        async def inner(request: web.Request) -> web.StreamResponse:
            given, token = request.headers.get(HEADER, ""), self._server.token
            if not token or not hmac.compare_digest(given.encode(), token.encode()):
                return web.Response(status=403)
            return await handler(request)

        return inner

    async def arm(self, request: web.Request) -> web.Response:
        """Let something go wrong."""
        try:
            fault = Fault.from_json(await request.json())
        except (TypeError, ValueError) as error:
            return web.Response(status=400, text=str(error))
        self._server.faults.add(fault)
        return web.json_response(fault.to_json())

    async def disarm(self, request: web.Request) -> web.Response:
        """Let nothing of a kind, `?kind=`, go wrong any more, or nothing at all."""
        kind = request.rel_url.query.get("kind")
        self._server.faults.disarm(Kind(kind) if kind else None)
        return web.Response()

    async def armed(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """List what may go wrong."""
        return web.json_response([fault.to_json() for fault in self._server.faults.armed()])

    async def memory(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """Tell who holds how much, bytes."""
        usage, busy = self._server.memory.usage(), self._server.executor.busy
        return web.json_response({**asdict(usage), "used_bytes": usage.used_bytes, "busy": busy})

    async def posted(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """Tell how often each prompt was sent."""
        return web.json_response(dict(self._server.posted))

    async def submit(self, request: web.Request) -> web.Response:
        """Queue a prompt, past all faults of requests."""
        status, answer = self._server.submit(await request.json())
        return web.json_response(answer, status=status)

    async def models(self, request: web.Request) -> web.Response:
        """Set the files of folders."""
        for folder, names in (await request.json()).items():
            self._server.catalogue.models[str(folder)] = [str(name) for name in names]
        return web.Response()

"""The back door of a stand-in, for tests in another process; a token opens it."""

from __future__ import annotations

import hmac
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from core.engines.comfy.standin.faults import Fault, Kind

if TYPE_CHECKING:
    from core.engines.comfy.standin.server import StandIn

PATH = "/standin/"
HEADER = "X-Standin-Token"


def add(app: web.Application, server: StandIn) -> None:
    """Give a server its back door.

    POST /standin/faults arms a fault, DELETE disarms one kind (`?kind=`) or all, GET lists
    them. GET /standin/memory tells who holds how much. PUT /standin/models sets the files
    of folders.
    """

    def guarded(handler: Any) -> Any:
        async def inner(request: web.Request) -> web.StreamResponse:
            given = request.headers.get(HEADER, "")
            if not server.token or not hmac.compare_digest(given.encode(), server.token.encode()):
                return web.Response(status=403)
            answer: web.StreamResponse = await handler(request)
            return answer

        return inner

    async def arm(request: web.Request) -> web.Response:
        try:
            fault = Fault.from_json(await request.json())
        except (TypeError, ValueError) as error:
            return web.Response(status=400, text=str(error))
        server.faults.add(fault)
        return web.json_response(fault.to_json())

    async def disarm(request: web.Request) -> web.Response:
        kind = request.rel_url.query.get("kind")
        server.faults.disarm(Kind(kind) if kind else None)
        return web.Response()

    async def listed(request: web.Request) -> web.Response:  # noqa: ARG001
        return web.json_response([fault.to_json() for fault in server.faults.armed()])

    async def memory(request: web.Request) -> web.Response:  # noqa: ARG001
        usage = server.memory.usage()
        used = {**asdict(usage), "used_bytes": usage.used_bytes, "busy": server.executor.busy}
        return web.json_response(used)

    async def models(request: web.Request) -> web.Response:
        for folder, names in (await request.json()).items():
            server.catalogue.models[str(folder)] = [str(name) for name in names]
        return web.Response()

    app.router.add_post(PATH + "faults", guarded(arm))
    app.router.add_delete(PATH + "faults", guarded(disarm))
    app.router.add_get(PATH + "faults", guarded(listed))
    app.router.add_get(PATH + "memory", guarded(memory))
    app.router.add_put(PATH + "models", guarded(models))

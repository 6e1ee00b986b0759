"""Answers to requests, spoiled as the faults say."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from core.engines.comfy.standin.faults import Fault, Faults, Kind
from core.engines.comfy.standin.wires import Wires

_TICK_SECONDS = 0.02
_CHUNK = b"[" + b"0," * 32_768
_DEEP = 100_000
_INSTEAD = (
    *(Kind.HTML, Kind.NAN, Kind.DEEP_JSON, Kind.ENDLESS_BODY),
    *(Kind.WRONG_LENGTH, Kind.REDIRECT, Kind.STATUS),
)
ELSEWHERE = "http://elsewhere.invalid"


async def spoiled(
    faults: Faults, wires: Wires, request: web.Request, handler: Any
) -> web.StreamResponse:
    """Answer a request, or do to it what is armed for its path."""
    path = request.path.removeprefix("/api")
    if path != "/ws":
        late = faults.find(Kind.LATENCY, path=path)
        if late is not None:
            await asyncio.sleep(late.value)
        for kind in _INSTEAD:
            fault = faults.find(kind, path=path)
            if fault is not None:
                return await _instead(fault, request)
    while faults.find(Kind.SILENT_PROXY, path=path, step=wires.step) is not None:
        await asyncio.sleep(_TICK_SECONDS)
    answer: web.StreamResponse = await handler(request)
    late = faults.find(Kind.LATE_REPLY, path=path) if path != "/ws" else None
    if late is not None:
        await asyncio.sleep(late.value)
    if path != "/ws" and faults.find(Kind.LOST_REPLY, path=path) is not None:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError
    return answer


async def _instead(fault: Fault, request: web.Request) -> web.StreamResponse:
    match fault.kind:
        case Kind.HTML:
            page = "<!DOCTYPE html><html><body><h1>Sign in to the proxy</h1></body></html>"
            return web.Response(text=page, content_type="text/html")
        case Kind.NAN:
            words = '{"exec_info": {"queue_remaining": NaN}, "devices": [{"vram_total": Infinity}]}'
            return web.Response(text=words, content_type="application/json")
        case Kind.DEEP_JSON:
            words = "[" * _DEEP + "]" * _DEEP
            return web.Response(text=words, content_type="application/json")
        case Kind.REDIRECT:
            return web.Response(status=302, headers={"Location": ELSEWHERE + request.path})
        case Kind.STATUS:
            return web.Response(status=int(fault.value))
        case Kind.WRONG_LENGTH:
            return await _short(request)
        case _:
            return await _endless(request)


async def _short(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    answer.content_length = 100_000
    await answer.prepare(request)
    await answer.write(b'{"queue_running": [')
    if request.transport is not None:
        request.transport.close()
    return answer


async def _endless(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    await answer.prepare(request)
    while request.transport is not None and not request.transport.is_closing():
        await answer.write(_CHUNK)
        await asyncio.sleep(0.001)
    return answer

"""The stand-in as a server: state, routes, start and end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import traceback
import uuid
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from aiohttp import web

from core.engines.comfy.standin import control, files, media
from core.engines.comfy.standin.backlog import Backlog
from core.engines.comfy.standin.execute import Executor
from core.engines.comfy.standin.faults import Faults, Kind
from core.engines.comfy.standin.memory import Memory
from core.engines.comfy.standin.nodes import Catalogue
from core.engines.comfy.standin.saving import Shelf
from core.engines.comfy.standin.script import VERSION, Script
from core.engines.comfy.standin.spoil import spoiled
from core.engines.comfy.standin.validate import validate
from core.engines.comfy.standin.wires import FEATURES, Wires

HOST = "127.0.0.1"
_LARGEST_BODY = 104857600
_LOG_LINES = 300
_TROUBLE = "500 Internal Server Error\n\nServer got itself in trouble"
_TICK_SECONDS = 0.02


class StandIn:
    """A server of ComfyUI's manners on this machine's loopback.

    Its coroutines belong to one event loop; `faults` may be used from any thread.

    Args:
        folder: Where its output, input and temp lie.
        script: How it behaves.
        port: Where it listens; 0 takes a free one.
        token: Opens the control endpoint; without one there is none.
    """

    def __init__(
        self, folder: Path, script: Script | None = None, port: int = 0, token: str = ""
    ) -> None:
        self.folder = folder
        self.script = script or Script()
        self.port = port
        self.token = token
        self.faults = Faults()
        self.posted: Counter[str] = Counter()
        """How often each prompt was sent, by its id; not forgotten by a restart."""
        self._tasks: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None
        self._again: asyncio.Task[None] | None = None
        self._fresh()

    def _fresh(self) -> None:
        """Forget what a process forgets when it ends."""
        shutil.rmtree(self.folder / "temp", ignore_errors=True)
        self.shelf = Shelf(self.folder, self.faults)
        example = self.shelf.place("input") / "example.png"
        if not example.exists():
            pixels = next(iter(media.frames(media.Picture(64, 64, seed=7))))
            example.write_bytes(media.png(pixels))
        self.catalogue = Catalogue(self.script, self.shelf.place("input"))
        self.memory = Memory(self.script)
        self.wires = Wires(self.faults, self._exec_info)
        self.backlog = Backlog(self._queue_changed, self.script.history_most)
        self.log: list[tuple[str, str]] = []
        self.executor = Executor(
            self.script,
            self.catalogue,
            self.backlog,
            self.wires,
            self.shelf,
            self.memory,
            self.faults,
            self.print,
        )
        self._number = 0

    # Life.

    async def start(self) -> int:
        """Listen and work; returns the port."""
        app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[self._guard])
        _routes(app, self)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self.wires.carry()),
            loop.create_task(self.executor.work()),
            loop.create_task(self._watch()),
        ]
        return self.port

    async def stop(self) -> None:
        """End at once; sockets break off."""
        if self._again is not None and self._again is not asyncio.current_task():
            self._again.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._again
        self.wires.drop()
        await self.executor.close()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def restart(self, seconds: float = 0.0) -> None:
        """End as by SIGKILL, and begin anew on the same port after some seconds."""
        await self.stop()
        await asyncio.sleep(seconds)
        self._fresh()
        await self.start()

    async def _watch(self) -> None:
        """See to faults that nothing else comes by."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            fault = self.faults.find(Kind.RESTART, step=self.wires.step)
            if fault is not None:
                self.faults.disarm(Kind.RESTART)
                again = self.restart(fault.value)
                self._again = asyncio.get_running_loop().create_task(again)
            if self.faults.find(Kind.DROP, step=self.wires.step) is not None:
                self.wires.drop()

    def print(self, line: str) -> None:
        """Add a line to the server's log."""
        now = datetime.now().isoformat()
        self.log = [*self.log[-_LOG_LINES:], (now, line)]
        for client in self.wires.log_listeners:
            entry = {"entries": [{"t": now, "m": line}], "size": None}
            self.wires.send("logs", entry, client)

    def _exec_info(self) -> dict[str, Any]:
        return {"exec_info": {"queue_remaining": self.backlog.remaining()}}

    def _queue_changed(self) -> None:
        self.wires.send("status", {"status": self._exec_info()})

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Refuse foreign pages, spoil answers, and answer errors as aiohttp would."""
        if request.path.startswith(control.PATH):
            answer: web.StreamResponse = await handler(request)
            return answer
        if _foreign(request):
            return web.Response(status=403)
        try:
            return await spoiled(self.faults, self.wires, request, handler)
        except web.HTTPException:
            raise
        except Exception:  # noqa: BLE001 - becomes 500
            self.print(traceback.format_exc())
            response = web.Response(status=500, text=_TROUBLE)
            response.force_close()
            return response

    # Requests.

    def submit(self, data: Any) -> tuple[int, dict[str, Any]]:
        """Do what POST /prompt does: return status and answer.

        Raises:
            TypeError: It makes no sense; over HTTP that is a 500.
            ValueError: As before.
        """
        self.print("got prompt\n")
        if "number" in data:
            number: Any = float(data["number"])
        else:
            number = self._number
            if data.get("front") if isinstance(data, dict) else False:
                number = -number
            self._number += 1
        if "prompt" not in data:
            what = "No prompt provided"
            error = {"type": "no_prompt", "message": what, "details": what, "extra_info": {}}
            return 400, {"error": error, "node_errors": {}}
        graph = data["prompt"]
        name = str(data.get("prompt_id", uuid.uuid4()))
        self.posted[name] += 1
        verdict = validate(graph, self.catalogue, data.get("partial_execution_targets"))
        extra = data.get("extra_data", {})
        if "client_id" in data:
            extra["client_id"] = data["client_id"]
        if verdict.error is not None:
            return 400, {"error": verdict.error, "node_errors": verdict.node_errors}
        self.backlog.put((number, name, graph, extra, verdict.outputs))
        return 200, {"prompt_id": name, "number": number, "node_errors": verdict.node_errors}

    async def post_prompt(self, request: web.Request) -> web.Response:
        status, answer = self.submit(await request.json())
        if status == 200 and self.faults.find(Kind.DUPLICATE_500, path="/prompt") is not None:
            raise TypeError("'<' not supported between instances of 'dict' and 'dict'")
        return web.json_response(answer, status=status)

    async def get_prompt(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.json_response(self._exec_info())

    async def get_queue(self, request: web.Request) -> web.Response:  # noqa: ARG002
        running = self.backlog.running
        running_list = [] if running is None else [list(running)]
        answer = {"queue_running": running_list, "queue_pending": self.backlog.waiting()}
        return web.json_response(answer)

    async def post_queue(self, request: web.Request) -> web.Response:
        data = await request.json()
        if data.get("clear"):
            self.backlog.clear()
        self.backlog.delete(data.get("delete", ()))
        return web.Response(status=200)

    async def get_history(self, request: web.Request) -> web.Response:
        query = request.rel_url.query
        most = int(query["max_items"]) if "max_items" in query else None
        offset = int(query.get("offset", -1))
        return web.json_response(self.backlog.entries(None, most, offset))

    async def get_one_history(self, request: web.Request) -> web.Response:
        return web.json_response(self.backlog.entries(request.match_info["id"]))

    async def post_history(self, request: web.Request) -> web.Response:
        data = await request.json()
        if data.get("clear"):
            self.backlog.history.clear()
        for name in data.get("delete", ()):
            self.backlog.history.pop(name, None)
        return web.Response(status=200)

    async def post_interrupt(self, request: web.Request) -> web.Response:
        try:
            data = await request.json()
        except json.JSONDecodeError:
            data = {}
        wanted = data.get("prompt_id")
        running = self.backlog.running
        if not wanted or (running is not None and running[1] == wanted):
            self.executor.interrupt()
        return web.Response(status=200)

    async def post_free(self, request: web.Request) -> web.Response:
        data = await request.json()
        for flag in ("unload_models", "free_memory"):
            if data.get(flag, False):
                self.backlog.flag(flag)
        return web.Response(status=200)

    async def get_system_stats(self, request: web.Request) -> web.Response:  # noqa: ARG002
        stats: Any = self.memory.stats()
        system = {
            "os": "posix",
            "ram_total": stats["ram"][0],
            "ram_free": stats["ram"][1],
            "comfyui_version": VERSION,
            "required_frontend_version": "1.27.10",
            "installed_templates_version": "0.1.95",
            "required_templates_version": "0.1.95",
            "python_version": "3.11.7 (stand-in)",
            "pytorch_version": "2.13.0+simulated",
            "embedded_python": False,
            "argv": ["main.py", "--listen", HOST, "--port", str(self.port)],
        }
        return web.json_response({"system": system, "devices": [stats["device"]]})

    async def get_object_info(self, request: web.Request) -> web.Response:  # noqa: ARG002
        names = self.catalogue.names()
        return web.json_response({name: self.catalogue.info(name) for name in names})

    async def get_one_object_info(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        known = self.catalogue.has(name)
        return web.json_response({name: self.catalogue.info(name)} if known else {})

    async def get_models(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.json_response(list(self.catalogue.models))

    async def get_folder(self, request: web.Request) -> web.Response:
        folder = request.match_info["folder"]
        if folder not in self.catalogue.models:
            return web.Response(status=404)
        return web.json_response(self.catalogue.models[folder])

    async def get_embeddings(self, request: web.Request) -> web.Response:  # noqa: ARG002
        found = self.catalogue.models["embeddings"]
        return web.json_response([name.rpartition(".")[0] for name in found])

    async def get_features(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.json_response(dict(FEATURES))

    async def get_users(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.json_response({"storage": "server", "migrated": False})

    async def get_view(self, request: web.Request) -> web.StreamResponse:
        return files.view(self.shelf, request)

    async def post_upload(self, request: web.Request) -> web.Response:
        return await files.upload(self.shelf, request)

    async def get_ws(self, request: web.Request) -> web.WebSocketResponse:
        return await self.wires.serve(request)

    async def get_logs(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.json_response("".join(f"{when} - {line}" for when, line in self.log))

    async def get_raw_logs(self, request: web.Request) -> web.Response:  # noqa: ARG002
        entries = [{"t": when, "m": line} for when, line in self.log]
        return web.json_response({"entries": entries, "size": {"cols": 80, "rows": 24}})

    async def patch_logs(self, request: web.Request) -> web.Response:
        data = await request.json()
        change = self.wires.log_listeners.add if data["enabled"] else None
        (change or self.wires.log_listeners.discard)(data["clientId"])
        return web.Response(status=200)

    async def get_folder_paths(self, request: web.Request) -> web.Response:  # noqa: ARG002
        top = self.folder / "models"
        return web.json_response({name: [str(top / name)] for name in self.catalogue.models})

    async def get_nothing(self, request: web.Request) -> web.Response:  # noqa: ARG002
        raise web.HTTPNotFound


def _foreign(request: web.Request) -> bool:
    """Say whether another site's page asks: then a real server refuses."""
    host, origin = request.headers.get("Host", ""), request.headers.get("Origin", "")
    parsed = urlparse(origin)
    theirs, ours = parsed.netloc.lower(), host.lower()
    if parsed.port is None:
        ours = ours.rpartition(":")[0] or ours
    return bool(theirs and ours) and theirs != ours


def _routes(app: web.Application, server: StandIn) -> None:
    control.add(app, server)
    for start in ("", "/api"):
        for method, path, handler in (
            ("GET", "/ws", server.get_ws),
            ("POST", "/prompt", server.post_prompt),
            ("GET", "/prompt", server.get_prompt),
            ("GET", "/queue", server.get_queue),
            ("POST", "/queue", server.post_queue),
            ("GET", "/history", server.get_history),
            ("GET", "/history/{id}", server.get_one_history),
            ("POST", "/history", server.post_history),
            ("POST", "/interrupt", server.post_interrupt),
            ("POST", "/free", server.post_free),
            ("GET", "/system_stats", server.get_system_stats),
            ("GET", "/object_info", server.get_object_info),
            ("GET", "/object_info/{name}", server.get_one_object_info),
            ("GET", "/models", server.get_models),
            ("GET", "/models/{folder}", server.get_folder),
            ("GET", "/embeddings", server.get_embeddings),
            ("GET", "/features", server.get_features),
            ("GET", "/users", server.get_users),
            ("GET", "/view", server.get_view),
            ("POST", "/upload/image", server.post_upload),
            ("GET", "/internal/logs", server.get_logs),
            ("GET", "/internal/logs/raw", server.get_raw_logs),
            ("PATCH", "/internal/logs/subscribe", server.patch_logs),
            ("GET", "/internal/folder_paths", server.get_folder_paths),
        ):
            app.router.add_route(method, start + path, handler)
            if path == "/view":
                app.router.add_route("HEAD", start + path, handler)
    app.router.add_get("/{path:.*}", server.get_nothing)

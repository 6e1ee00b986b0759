"""A small server that speaks as ComfyUI does, in a process of its own, to be killed and broken.

Nodes do what their inputs say: `steps` and `step_seconds` (with previews), `seconds`
(of silence), `raise`. Savers take `fault`: "tiny", "html", "cut", "grow", "never",
"named" (with `filename`). What it does wrong by itself is asked for under /test.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import struct
import time
import uuid
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from aiohttp import WSMsgType, web


class InterruptedPromptError(Exception):
    """Somebody stopped the prompt that runs."""


def clip(frames: int, size: int, fps: int) -> bytes:
    """Return an MP4 of noise."""
    dice = np.random.default_rng(frames * size)
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=fps, options={"crf": "18"})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            pixels = dice.integers(0, 255, (size, size, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return target.getvalue()


def picture(kind: str, size: int = 64, shade: int = 90) -> bytes:
    pixels = np.full((size, size, 3), shade, np.uint8)
    pixels[: size // 2] = 200
    coder: Any = av.CodecContext.create("mjpeg" if kind == "jpeg" else "png", "w")
    coder.width = coder.height = size
    coder.pix_fmt = "yuvj420p" if kind == "jpeg" else "rgb24"
    coder.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=coder.pix_fmt)
    return b"".join(bytes(packet) for packet in [*coder.encode(frame), *coder.encode(None)])


@dataclass
class Prompt:
    number: float
    id: str
    graph: dict[str, Any]
    extra: dict[str, Any]
    outputs: dict[str, Any] = field(default_factory=dict)
    messages: list[list[Any]] = field(default_factory=list)

    def row(self) -> list[Any]:
        return [self.number, self.id, self.graph, self.extra, []]


class Small:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.running: Prompt | None = None
        self.pending: list[Prompt] = []
        self.history: dict[str, dict[str, Any]] = {}
        self.posts: list[str] = []
        self.frees: list[dict[str, Any]] = []
        self.interrupts: list[Any] = []
        self.number = 0
        self.node: str | None = None
        self.stop: str | None = None
        self.more = asyncio.Event()
        self.held_bytes = 8_000_000_000
        self.asked_to_free = False
        self.faults: dict[str, Any] = {}
        self.jpeg = picture("jpeg")

    # --- the worker

    async def work(self) -> None:
        while True:
            while not self.pending or self.faults.get("dead_worker"):
                self._free()
                self.more.clear()
                await self.more.wait()
            self.pending.sort(key=lambda one: one.number)
            self.running = prompt = self.pending.pop(0)
            await self._status()
            ending = await self._run(prompt)
            status = {"status_str": "success" if ending == "execution_success" else "error"}
            status |= {"completed": ending == "execution_success", "messages": prompt.messages}
            await asyncio.sleep(0.002)
            self.history[prompt.id] = {
                "prompt": prompt.row(),
                "outputs": prompt.outputs,
                "status": status,
            }
            self.running = None
            self._free()
            await self._status()
            await self._tell(prompt, "executing", {"node": None})

    def _free(self) -> None:
        if self.asked_to_free:
            self.asked_to_free = False
            self.held_bytes = self.faults.get("held_bytes", 500_000_000)

    async def _run(self, prompt: Prompt) -> str:
        self.stop, node = None, ""
        await self._tell(prompt, "execution_start", {}, keep=True)
        await self._tell(prompt, "execution_cached", {"nodes": []}, keep=True)
        try:
            for node, what in prompt.graph.items():
                self.node = node
                await self._tell(prompt, "executing", {"node": node, "display_node": node})
                await self._node(prompt, node, what)
                self._check(prompt)
            await self._tell(prompt, "execution_success", {}, keep=True)
            return "execution_success"
        except InterruptedPromptError:
            await self._tell(prompt, "execution_interrupted", {"node_id": node}, keep=True)
            return "execution_interrupted"
        except RuntimeError as error:
            kind = "torch.OutOfMemoryError" if "memory" in str(error) else "RuntimeError"
            said = {"node_id": node, "node_type": prompt.graph[node]["class_type"]}
            said |= {"exception_message": str(error), "exception_type": kind, "traceback": ["x\n"]}
            await self._tell(prompt, "execution_error", said, keep=True)
            return "execution_error"
        finally:
            self.node = None

    def _check(self, prompt: Prompt) -> None:
        if self.stop == prompt.id:
            raise InterruptedPromptError

    async def _node(self, prompt: Prompt, node: str, what: dict[str, Any]) -> None:
        given = what["inputs"]
        await asyncio.sleep(given.get("seconds", 0))
        if "raise" in given:
            raise RuntimeError(given["raise"])
        steps = given.get("steps", 0)
        began = time.monotonic()
        for step in range(1, steps + 1):
            if "per_tick" in given:
                due = began + step // given["per_tick"] * given["tick_seconds"]
                if due > time.monotonic():
                    await asyncio.sleep(due - time.monotonic())
            elif given.get("step_seconds", 0) or step % 50 == 0:
                await asyncio.sleep(given.get("step_seconds", 0))
            self._check(prompt)
            state = {"value": step, "max": steps, "state": "running", "node_id": node}
            await self._tell(prompt, "progress_state", {"nodes": {node: state}})
            await self._tell(prompt, "progress", {"value": step, "max": steps, "node": node})
            if given.get("previews", True):
                await self._preview(prompt)
        if what["class_type"].startswith(("Save", "Preview")):
            self._check(prompt)
            shown = await self._save(prompt, node, what)
            prompt.outputs[node] = shown
            said = {"node": node, "display_node": node, "output": shown}
            await self._tell(prompt, "executed", said)

    async def _save(self, prompt: Prompt, node: str, what: dict[str, Any]) -> dict[str, Any]:
        given, kind = what["inputs"], what["class_type"]
        video = "Video" in kind
        if video:
            data = clip(given.get("frames", 8), given.get("size", 64), given.get("fps", 8))
        else:
            data = picture("png", shade=given.get("shade", 90))
        where = "temp" if kind.startswith("Preview") else "output"
        folder = self.folder / where
        folder.mkdir(exist_ok=True)
        name = f"{prompt.id[:8]}_{node}.{'mp4' if video else 'png'}"
        fault = given.get("fault")
        path = folder / name
        if fault == "tiny":
            data = data[:48]
        elif fault == "cut":
            data = data[: len(data) * 2 // 3]
        elif fault == "html":
            data = b"<!DOCTYPE html><html>" + b" " * 20_000
        if fault in ("grow", "heals"):
            path.write_bytes(data[:-3000] if fault == "grow" else data[:48])
            asyncio.get_running_loop().call_later(given["after"], lambda: path.write_bytes(data))
        elif fault != "missing":
            path.write_bytes(data)
        row = {"filename": given.get("filename", name), "subfolder": "", "type": where}
        if "filename" in given:
            (folder / "named").write_bytes(data)
        return {"images": [row], **({"animated": [True]} if video else {})}

    # --- the socket

    async def _tell(
        self, prompt: Prompt, kind: str, data: dict[str, Any], *, keep: bool = False
    ) -> None:
        said = {**data, "prompt_id": prompt.id}
        if keep:
            prompt.messages.append([kind, said])
        await self._send(prompt.extra.get("client_id"), json.dumps({"type": kind, "data": said}))

    async def _preview(self, prompt: Prompt) -> None:
        await self._send(prompt.extra.get("client_id"), struct.pack(">II", 1, 1) + self.jpeg)

    async def _status(self) -> None:
        for client in list(self.sockets):
            await self._send(client, json.dumps({"type": "status", "data": self._left()}))

    def _left(self) -> dict[str, Any]:
        left = len(self.pending) + (self.running is not None)
        return {"status": {"exec_info": {"queue_remaining": left}}}

    async def _send(self, client: str | None, what: str | bytes) -> None:
        socket = self.sockets.get(client or "")
        if socket is None or self.faults.get("silent"):
            return
        try:
            await (socket.send_str(what) if isinstance(what, str) else socket.send_bytes(what))
        except (ConnectionError, RuntimeError):
            pass

    async def ws(self, request: web.Request) -> web.StreamResponse:
        if self.faults.get("no_socket"):
            raise web.HTTPServiceUnavailable
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        sid = request.query.get("clientId") or uuid.uuid4().hex
        self.sockets.pop(sid, None)
        self.sockets[sid] = socket
        try:
            first = {"type": "status", "data": {**self._left(), "sid": sid}}
            await socket.send_str(json.dumps(first))
            if self.running is not None and self.running.extra.get("client_id") == sid:
                now = {"type": "executing", "data": {"node": self.node}}
                await socket.send_str(json.dumps(now))
            async for message in socket:
                if message.type is WSMsgType.ERROR:
                    break
        finally:
            self.sockets.pop(sid, None)  # Also another connection's, as the real one does.
        return socket

    # --- the calls

    async def post(self, request: web.Request) -> web.Response:
        body = await request.json()
        key = body.get("prompt_id") or str(uuid.uuid4())
        self.posts.append(key)
        if self.faults.get("post") == "refuse":
            said = {
                "error": {
                    "type": "prompt_outputs_failed_validation",
                    "message": "Prompt outputs failed validation",
                    "details": "",
                },
                "node_errors": {
                    "1": {
                        "class_type": "X",
                        "errors": [
                            {
                                "type": "value_not_in_list",
                                "message": "Value not in list",
                                "details": "ckpt_name: 'a.safetensors' not in ['b.safetensors']",
                                "extra_info": {"received_value": "a.safetensors"},
                            }
                        ],
                    }
                },
            }
            return web.json_response(said, status=400)
        if self.faults.get("post") == "vanish":
            assert request.transport is not None
            request.transport.close()
            return web.Response(status=500)
        extra = {**(body.get("extra_data") or {}), "client_id": body.get("client_id")}
        self.pending.append(Prompt(self.number, key, body["prompt"], extra))
        self.number += 1
        self.more.set()
        await self._status()
        if self.faults.get("post") == "taken_500":
            return web.Response(status=500, text="500 Internal Server Error")
        await asyncio.sleep(self.faults.get("post_seconds", 0))
        return web.json_response({"prompt_id": key, "number": self.number, "node_errors": {}})

    async def queue(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            body = await request.json()
            gone = set(body.get("delete", ()))
            self.pending = [one for one in self.pending if one.id not in gone]
            await self._status()
            return web.Response()
        running = [self.running.row()] if self.running is not None else []
        pending = [one.row() for one in self.pending]
        return web.json_response({"queue_running": running, "queue_pending": pending})

    async def histories(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            for key in (await request.json()).get("delete", ()):
                self.history.pop(key, None)
            return web.Response()
        key = request.match_info.get("id")
        found = {key: self.history[key]} if key in self.history else {}
        return web.json_response(found if key else self.history)

    async def interrupt(self, request: web.Request) -> web.Response:
        key = (await request.json()).get("prompt_id")
        self.interrupts.append(key)
        if self.running is not None and self.running.id == key:
            self.stop = key
        return web.Response()

    async def free(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.frees.append({**body, "while": self.running.id if self.running else None})
        self.asked_to_free = body.get("unload_models") and body.get("free_memory")
        self.more.set()
        if self.running is None:
            self._free()
        return web.Response()

    async def stats(self, request: web.Request) -> web.Response:
        total = 24_000_000_000
        device = {"name": "cuda:0 Test", "type": "cuda", "index": 0, "vram_total": total}
        device |= {"vram_free": total - self.held_bytes, "torch_vram_total": self.held_bytes}
        device |= {"torch_vram_free": 0}
        system = {"comfyui_version": "0.3.64", "python_version": "3.11", "pytorch_version": "2.8"}
        system |= {"ram_total": 64_000_000_000, "ram_free": 32_000_000_000, "argv": ["main.py"]}
        return web.json_response({"system": system, "devices": [device]})

    async def view(self, request: web.Request) -> web.StreamResponse:
        name = request.query["filename"]
        folder = self.folder / ("temp" if request.query.get("type") == "temp" else "output")
        path = folder / ("named" if (folder / "named").exists() else name)
        if not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path)

    async def test(self, request: web.Request) -> web.Response:
        self.faults |= await request.json()
        self.held_bytes = self.faults.pop("holds_bytes", self.held_bytes)
        self.more.set()
        said = {"posts": self.posts, "frees": self.frees, "interrupts": self.interrupts}
        return web.json_response({**said, "sockets": list(self.sockets), "now": time.time()})


def application(folder: Path) -> web.Application:
    small = Small(folder)
    app = web.Application(client_max_size=200 * 1024 * 1024)
    app.router.add_post("/prompt", small.post)
    for method in ("GET", "POST"):
        app.router.add_route(method, "/queue", small.queue)
        app.router.add_route(method, "/history", small.histories)
    app.router.add_get("/history/{id}", small.histories)
    app.router.add_post("/interrupt", small.interrupt)
    app.router.add_post("/free", small.free)
    app.router.add_get("/system_stats", small.stats)
    app.router.add_get("/view", small.view)
    app.router.add_get("/ws", small.ws)
    app.router.add_post("/test", small.test)

    async def start(_: web.Application) -> None:
        app["worker"] = asyncio.create_task(small.work())

    app.on_startup.append(start)
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    web.run_app(
        application(chosen.folder),
        host="127.0.0.1",
        port=chosen.port,
        print=None,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=0.1,
    )

"""Stand-in servers for tests: in this process, or as processes that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import websocket

from core.engines.comfy.standin.process import StandInProcess
from core.engines.comfy.standin.script import Script
from core.engines.comfy.standin.server import StandIn

T = TypeVar("T")


class Running:
    """A stand-in in a thread of its own, with its own event loop.

    Attributes:
        server: Its state; look, and touch only `faults`.
        url: Such as "http://127.0.0.1:8188".
    """

    def __init__(self, folder: Path, script: Script | None = None, port: int = 0) -> None:
        self.server = StandIn(folder, script, port)
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="stand-in")
        self._thread.start()
        assert self._started.wait(10), "the stand-in did not start"

    @property
    def faults(self) -> Any:
        return self.server.faults

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def _serve(self) -> None:
        async def whole() -> None:
            await self.server.start()
            self._started.set()
            await self._over.wait()
            await self.server.stop()

        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(whole())

    def call(self, make: Callable[[], Awaitable[T]], seconds: float = 30) -> T:
        """Await something in the server's loop."""

        async def inner() -> T:
            return await make()

        return asyncio.run_coroutine_threadsafe(inner(), self._loop).result(seconds)

    def restart(self, seconds: float = 0.0) -> None:
        """End as by SIGKILL and begin anew on the same port."""
        self.call(lambda: self.server.restart(seconds))

    def submit(self, graph: dict[str, Any], client: str = "somebody else") -> str:
        """Queue a prompt as another client."""

        async def inner() -> str:
            status, answer = self.server.submit({"prompt": graph, "client_id": client})
            assert status == 200, answer
            return str(answer["prompt_id"])

        return self.call(inner)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20)
        assert not self._thread.is_alive(), "the stand-in did not end"


@contextlib.contextmanager
def running(folder: Path, script: Script | None = None) -> Iterator[Running]:
    """Run a stand-in until the block ends."""
    server = Running(folder, script)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def process(folder: Path, script: Path | None = None) -> Iterator[StandInProcess]:
    """Run a stand-in as a process until the block ends."""
    with StandInProcess(folder, script) as server:
        yield server


class Socket:
    """A client's socket that is read by whoever calls.

    Attributes:
        heard: All that came: objects for text, bytes for binary frames.
    """

    def __init__(self, url: str, client: str, **more: Any) -> None:
        where = f"{url.replace('http', 'ws', 1)}/ws?clientId={client}"
        self.heard: list[Any] = []
        self._socket = websocket.create_connection(where, timeout=20, suppress_origin=True, **more)

    def send(self, message: Any) -> None:
        self._socket.send(message if isinstance(message, str) else json.dumps(message))

    def read(self, seconds: float = 20) -> Any:
        """Return the next message, waiting for it."""
        self._socket.settimeout(seconds)
        data = self._socket.recv()
        self.heard.append(json.loads(data) if isinstance(data, str) else data)
        return self.heard[-1]

    def until(self, done: Callable[[Any], bool], seconds: float = 30) -> list[Any]:
        """Read until a message is the one; return all since the call."""
        first, deadline = len(self.heard), time.monotonic() + seconds
        while not done(self.read(max(0.01, deadline - time.monotonic()))):
            pass
        return self.heard[first:]

    def until_end(self, prompt: str, seconds: float = 30) -> list[Any]:
        """Read until a prompt has ended."""
        end = {"type": "executing", "data": {"node": None, "prompt_id": prompt}}
        return self.until(lambda message: message == end, seconds)

    def quiet(self, seconds: float) -> list[Any]:
        """Read for some time; return what came."""
        first, deadline = len(self.heard), time.monotonic() + seconds
        with contextlib.suppress(websocket.WebSocketTimeoutException):
            while (left := deadline - time.monotonic()) > 0:
                self.read(left)
        return self.heard[first:]

    def close(self) -> None:
        self._socket.close()


def trivial(color: int = 1, prefix: str = "tiny") -> dict[str, Any]:
    """Return a graph that does next to nothing."""
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": color},
        },
        "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": prefix, "images": ["1", 0]}},
    }

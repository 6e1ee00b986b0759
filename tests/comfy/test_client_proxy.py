"""What stands between us and the server may hang, drop and lie: the job is seen through."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from core.engines.comfy.client import ComfyEngine
from core.engines.comfy.messages import NodeProgress, Succeeded
from core.engines.comfy.reconcile import client_of
from core.engines.comfy.socket import Listener
from core.events import Finished, FramesPublished, Sampled
from tests.comfy.client_bench import Process, drain, engine, graph, job, run_until


class Proxy:
    """Forwards bytes; its sockets of the WebSocket kind can be frozen or cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.frozen: set[int] = set()
        self.sockets: list[tuple[socket.socket, socket.socket]] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = []
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open += [near, far]
            first = near.recv(65536)
            if b"GET /ws" in first:
                self.sockets.append((near, far))
            far.sendall(first)
            for pair in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._pump, args=pair))
                self._threads[-1].start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                # Frozen: bytes are taken and vanish, and nobody is told.
                if not {source.fileno(), target.fileno()} & self.frozen:
                    target.sendall(data)
            if not {source.fileno(), target.fileno()} & self.frozen:
                target.shutdown(socket.SHUT_WR)

    def freeze(self) -> None:
        """Let the WebSocket connections of now go silent for ever."""
        for near, far in self.sockets:
            self.frozen |= {near.fileno(), far.fileno()}

    def cut(self) -> None:
        """Drop the WebSocket connections of now without a word."""
        for near, far in self.sockets:
            for one in (near, far):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for one in self._open:
            one.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("server"))
    yield process
    process.kill()


@pytest.fixture
def proxy(server: Process) -> Iterator[Proxy]:
    made = Proxy(server.port)
    yield made
    made.close()


def test_a_proxy_that_goes_silent_at_step_five(
    server: Process, proxy: Proxy, tmp_path: Path
) -> None:
    comfy = engine(proxy.base)
    wanted = job(tmp_path, graph(steps=150, step_seconds=0.1))
    events = comfy.run(wanted)
    run_until(events, lambda event: isinstance(event, Sampled) and event.step == 5)
    proxy.freeze()
    frozen = time.monotonic()
    later = run_until(events, lambda event: isinstance(event, Sampled) and event.step > 40)
    assert time.monotonic() - frozen < 12, "the socket is back by itself"
    assert comfy._run is not None
    assert comfy._run._way.listener is not None
    assert comfy._run._way.listener.connections >= 2
    later += run_until(events, lambda event: isinstance(event, FramesPublished))
    ending = drain(events)[-1]
    assert isinstance(ending, Finished)
    made = next((server.folder / "output").glob(f"{wanted.id[:8]}*")).stat().st_mtime
    assert Path(ending.output.path).stat().st_mtime - made < 3
    comfy.close()


def test_the_end_in_the_silence_is_seen_within_three_seconds(
    server: Process, proxy: Proxy, tmp_path: Path
) -> None:
    comfy = engine(proxy.base)
    wanted = job(tmp_path, graph(steps=20, step_seconds=0.1))
    events = comfy.run(wanted)
    run_until(events, lambda event: isinstance(event, Sampled) and event.step == 5)
    proxy.freeze()
    ending = drain(events)[-1]
    assert isinstance(ending, Finished)
    made = next((server.folder / "output").glob(f"{wanted.id[:8]}*")).stat().st_mtime
    assert Path(ending.output.path).stat().st_mtime - made < 3
    comfy.close()


def test_a_dropped_socket_is_back_within_seconds(
    server: Process, proxy: Proxy, tmp_path: Path
) -> None:
    comfy = engine(proxy.base)
    events = comfy.run(job(tmp_path, graph(steps=60, step_seconds=0.1)))
    run_until(events, lambda event: isinstance(event, Sampled) and event.step == 5)
    proxy.cut()
    cut = time.monotonic()
    run_until(events, lambda event: isinstance(event, Sampled) and event.step > 12)
    assert time.monotonic() - cut < 3
    assert isinstance(drain(events)[-1], Finished)
    comfy.close()


def test_a_slow_drain_keeps_the_latest_and_no_more(server: Process, tmp_path: Path) -> None:
    """Nobody takes for a while: what is kept is bounded, and its end is the newest."""
    wanted = job(tmp_path)
    listener = Listener(server.base, client_of(wanted.id))
    assert listener.ready(3)
    what = graph(steps=20_000, step_seconds=0, previews=False)
    server.post_other(what, client_of(wanted.id))
    deadline = time.monotonic() + 60
    # It hears the end without anybody taking what came before.
    while not any(type(message) is Succeeded for message, _ in tuple(listener._heard)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    heard = [message for message, _ in listener.take(1)]
    assert 500 <= len(heard) < 700
    values = [message.value for message in heard if isinstance(message, NodeProgress)]
    assert values[-1] == 20_000
    listener.close()


def test_a_connection_is_closed_wholly_before_the_next(server: Process, tmp_path: Path) -> None:
    listener = Listener(server.base, "one-id")
    assert listener.ready(3)
    for number in range(2, 6):
        listener.deaf()
        deadline = time.monotonic() + 3
        while listener.connections < number:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)
        assert server.fault()["sockets"] == ["one-id"], "the server still knows the new one"
    assert listener.lost == 0
    began = time.monotonic()
    listener.close()
    assert time.monotonic() - began < 0.5


def test_an_engine_closes_at_once(server: Process, tmp_path: Path) -> None:
    comfy = ComfyEngine(server.base)
    comfy.close()
    comfy.close()
    with pytest.raises(RuntimeError):
        next(comfy.run(job(tmp_path)))

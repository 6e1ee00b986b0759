"""Small HTTP servers on this machine that answer as a test says, well or badly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers by path; what was asked stands in `server.asked`."""

    body: Any = None

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = json.loads(self.rfile.read(length)) if length else None
        self.server.asked.append((self.command, self.path, self.body))  # type: ignore[attr-defined]
        self.server.headers.append(dict(self.headers))  # type: ignore[attr-defined]
        answers = self.server.answers  # type: ignore[attr-defined]
        answers.get(self.path, not_found)(self)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answers: dict[str, Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.asked: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is what many of these tests are about."""


@contextmanager
def serving(answers: dict[str, Answer] | Answer) -> Iterator[Server]:
    """A server that answers until the end of the block; one answer alone is for /."""
    server = Server(answers if isinstance(answers, dict) else {"/": answers})
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def send(
    handler: Handler, body: bytes, status: int = 200, kind: str = "application/json", **more: str
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in more.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def tells(data: Any, status: int = 200) -> Answer:
    return lambda handler: send(handler, json.dumps(data).encode(), status)


def raw(body: bytes, status: int = 200, **more: str) -> Answer:
    return lambda handler: send(handler, body, status, **more)


def not_found(handler: Handler) -> None:
    send(handler, b'{"error": "no such path"}', 404)


def endless(handler: Handler) -> None:
    """Begin an array and never come to its end."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"[")
    while True:
        handler.wfile.write(b"0," * 30_000)


def drip(handler: Handler) -> None:
    """Send a sign at a time, so that every single wait is short."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def drip_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    for _ in range(200):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.05)


def silent(handler: Handler) -> None:
    time.sleep(3)


def hang_up(handler: Handler) -> None:
    handler.connection.close()


def cut_short(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"devices"')


def no_http(handler: Handler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")

"""Hearing a ComfyUI server's WebSocket, in a thread of its own.

The one thread of this engine is here, and it must be: a client that does not
read its socket at once stalls the messages of every client of the server, and
whoever drains an engine's events is busy with other calls for seconds at times.
The thread does nothing but read, and reconnect by these rules:

- A path that gives no sign of life (no frame, no answer to a ping) is dropped.
- A connection is closed wholly before the next one with the same client id is
  opened: when two of one id are open and the first closes, the server stops
  sending to the second without a word.
- Should that happen after all, because something on the way kept the old
  connection open, nothing is heard for a while although the prompt runs: `deaf`
  asks for a new connection then.
"""

from __future__ import annotations

import contextlib
import json
import random
import selectors
import socket as sockets
import threading
from collections import deque
from time import monotonic
from typing import Any
from urllib.parse import quote

from core.engines.comfy import messages
from core.engines.comfy.messages import Message, NodeProgress, Nodes, Preview, Status
from core.engines.comfy.sign_in import SignIn, door, headers

MOST_FRAME_BYTES = 64 * 1024 * 1024
_PING_AFTER_SECONDS = 2.0
_DEAD_AFTER_SECONDS = 6.0
_CONNECT_SECONDS = 3.0
_CLOSE_SECONDS = 1.0
_SETTLE_SECONDS = 0.05
_FIRST_WAIT_SECONDS = 0.25
_LONGEST_WAIT_SECONDS = 5.0
_TICK_SECONDS = 0.5
_BACKLOG = 500
_TEXT, _BINARY, _CLOSE, _PING, _PONG, _MORE = 1, 2, 8, 9, 10, 0
# Previews then come with their prompt's and node's id.
_FEATURES = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}


class Listener:
    """Hears what a server says to one client id, and keeps it until it is taken.

    Args:
        base: The server's address.
        client: Client id; prompts queued under it are heard.
        sign_in: Returns its name and password; None for those in the address.
    """

    def __init__(self, base: str, client: str, sign_in: SignIn | None = None) -> None:
        base, self._sign_in = door(base, sign_in)
        scheme, _, rest = base.partition("://")
        self._url = f"{'wss' if scheme == 'https' else 'ws'}://{rest}/ws?clientId={quote(client)}"
        self._heard: deque[tuple[Message, float]] = deque()
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._urgent = threading.Event()
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._again = threading.Event()
        # Lets the thread leave its wait at once; events cannot be waited for with a socket.
        self._bell, self._ring = sockets.socketpair()
        self._socket: Any = None
        self.connected = False
        self.connections = 0
        self.lost = 0
        self._thread = threading.Thread(target=self._run, name="comfy socket", daemon=True)
        self._thread.start()

    def ready(self, seconds: float) -> bool:
        """Wait until the first connection stands or cannot be had; say whether it stands."""
        self._ready.wait(seconds)
        return self.connected

    def take(self, seconds: float, gather_seconds: float = 0.0) -> list[tuple[Message, float]]:
        """Return what was heard, with its times, waiting up to `seconds` for it.

        Args:
            seconds: Longest wait.
            gather_seconds: Wait that much more while only progress comes, so that
                thousands of messages a second cost few looks.
        """
        if self._some.wait(seconds) and not self._urgent.is_set() and gather_seconds > 0:
            self._urgent.wait(gather_seconds)
        with self._lock:
            self._some.clear()
            self._urgent.clear()
            found = list(self._heard)
            self._heard.clear()
        return found

    def wake(self) -> None:
        """Let a `take` that waits return."""
        self._urgent.set()
        self._some.set()

    def deaf(self) -> None:
        """Close this connection and open another one: it is suspected to hear nothing."""
        self._again.set()
        with contextlib.suppress(OSError):
            self._ring.send(b".")

    def close(self) -> None:
        """Close the connection and end the thread, within two seconds; twice is fine.

        A thread that is just connecting to a host that does not answer ends
        when that has failed, after three seconds.
        """
        self.leave()
        self._thread.join(_CLOSE_SECONDS + 1.0)

    def leave(self) -> None:
        """Begin to close, and do not wait for it."""
        self._stop.set()
        self.deaf()

    # --- the thread

    def _run(self) -> None:
        wait = _FIRST_WAIT_SECONDS
        while not self._stop.is_set():
            self._again.clear()
            began = monotonic()
            clean = False
            try:
                self._connect()
                clean = self._read()
            except Exception:  # noqa: BLE001 - whatever broke the connection, the next one follows
                self.lost += 1
            finally:
                self.connected = False
                self._ready.set()
                self._end(clean)
            if monotonic() - began > 2 * _LONGEST_WAIT_SECONDS:
                wait = _FIRST_WAIT_SECONDS
            # Many windows must not knock at a server at the same moment when it comes back.
            self._stop.wait(_SETTLE_SECONDS if clean else wait * random.uniform(0.8, 1.2))
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
        self._bell.close()
        self._ring.close()

    def _connect(self) -> None:
        """Open the connection. Raises whatever can go wrong."""
        made = _websocket()
        # No Origin: servers refuse those that are not their own. No proxy of this machine.
        made.connect(
            self._url,
            header=headers(self._sign_in()),
            suppress_origin=True,
            timeout=_CONNECT_SECONDS,
            http_no_proxy=["*"],
            redirect_limit=0,
        )
        self._socket = made
        if self._stop.is_set():
            return
        made.send(json.dumps(_FEATURES))
        self.connections += 1
        self.connected = True
        self._ready.set()

    def _read(self) -> bool:
        """Read until the connection is over; say whether it was wanted by us."""
        socket, alive, pinged = self._socket, monotonic(), 0.0
        whole: list[bytes] = []
        kind = _TEXT
        while not self._again.is_set():
            if not _readable(socket, _TICK_SECONDS, self._bell):
                now = monotonic()
                if now - alive > _DEAD_AFTER_SECONDS:
                    raise TimeoutError("the server gives no sign of life")
                if now - max(alive, pinged) > _PING_AFTER_SECONDS:
                    socket.ping()
                    pinged = now
                continue
            frame = socket.recv_frame()
            alive = monotonic()
            if frame.opcode == _CLOSE:
                with contextlib.suppress(Exception):
                    socket.send_close()
                raise ConnectionError("the server closed the connection")
            if frame.opcode == _PING:
                socket.pong(frame.data)
            if frame.opcode not in (_TEXT, _BINARY, _MORE):
                continue
            kind = frame.opcode or kind
            whole.append(frame.data)
            if sum(map(len, whole)) > MOST_FRAME_BYTES:
                raise ConnectionError("a message is too long")
            if frame.fin:
                self._hear(kind, b"".join(whole), alive)
                whole = []
        return True

    def _hear(self, kind: int, data: bytes, at: float) -> None:
        message = messages.parse(data.decode(errors="replace") if kind == _TEXT else data)
        if message is None:
            return
        progress = isinstance(message, NodeProgress | Nodes | Preview | Status)
        with self._lock:
            heard = self._heard
            # Whoever takes is slow: of what only replaces what was, keep the newest.
            if progress and len(heard) > _BACKLOG:
                for back in range(1, 5):
                    if type(heard[-back][0]) is type(message):
                        heard[-back] = (message, at)
                        break
                else:
                    heard.append((message, at))
            else:
                heard.append((message, at))
        if not progress:
            self._urgent.set()
        self._some.set()

    def _end(self, clean: bool) -> None:
        """Close the connection, wholly where the other side still answers."""
        made, self._socket = self._socket, None
        if made is None:
            return
        if clean:
            with contextlib.suppress(Exception):
                made.settimeout(_CLOSE_SECONDS)
                made.send_close()
                until = monotonic() + _CLOSE_SECONDS
                while monotonic() < until and _readable(made, until - monotonic()):
                    if made.recv_frame().opcode == _CLOSE:
                        break
        self._abandon(made)

    @staticmethod
    def _abandon(made: Any) -> None:
        if made is not None:
            with contextlib.suppress(Exception):
                made.shutdown()


def _websocket() -> Any:
    """Return a socket that refuses frames longer than MOST_FRAME_BYTES by their head."""
    import websocket

    quick = [(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)]
    made: Any = websocket.WebSocket(sockopt=quick, skip_utf8_validation=True)
    buffer = made.frame_buffer
    read_length = buffer.recv_length

    def bounded() -> None:
        read_length()
        if buffer.length is not None and buffer.length > MOST_FRAME_BYTES:
            raise ConnectionError("a frame is too long")

    buffer.recv_length = bounded
    return made


def _readable(socket: Any, seconds: float, bell: sockets.socket | None = None) -> bool:
    """Wait until there is something to read, or `bell` rings; say whether there is."""
    raw = socket.sock
    if raw is None:
        raise ConnectionError("closed")
    pending = getattr(raw, "pending", None)  # What TLS has read ahead.
    if pending is not None and pending():
        return True
    with selectors.DefaultSelector() as waiting:  # `select` itself fails above 1,024 files.
        waiting.register(raw, selectors.EVENT_READ)
        if bell is not None:
            waiting.register(bell, selectors.EVENT_READ)
        found = {key.fileobj for key, _ in waiting.select(max(0.0, seconds))}
    if bell is not None and bell in found:
        bell.recv(64)
    return raw in found

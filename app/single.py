"""One window a data folder: a second start raises the first and ends."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import shiboken6
from PySide6.QtCore import QCryptographicHash, QElapsedTimer, QLockFile, QObject, QThread, Signal

if TYPE_CHECKING:
    from PySide6.QtNetwork import QLocalSocket

_MOST_BYTES = 2**20


class SingleInstance(QObject):
    """A lock on the data folder, and a local socket that brings the window up.

    Attributes:
        raise_requested: Somebody started Framedeck again on this data folder.
        asked: The line that such a start sent: see `app.wishes`.
    """

    raise_requested = Signal()
    asked = Signal(bytes)

    def __init__(self, data: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._lock = QLockFile(str(data / "framedeck.lock"))
        # Only a dead owner makes a lock stale, never its age.
        self._lock.setStaleLockTime(0)
        folder = str(data.resolve()).encode()
        digest = QCryptographicHash.hash(folder, QCryptographicHash.Algorithm.Sha256)
        self._name = f"framedeck-{digest.toHex().data().decode()[:16]}"
        self._server: QObject | None = None

    def acquire(self) -> bool:
        """Take the lock, or keep it; False when another window holds it."""
        return self._lock.isLocked() or bool(self._lock.tryLock(0))

    def holder(self) -> int | None:
        """Return the process that holds the lock; None where that cannot be told."""
        return int(self._lock.getLockInfo()[0]) or None  # type: ignore[index]

    def ask_first(
        self, wish: bytes = b"raise\n", connect_ms: int = 10_000, answer_ms: int = 3_000
    ) -> bool:
        """Ask the window that holds the lock to come up; say whether it answered.

        Args:
            wish: What to ask for, one line.
            connect_ms: How long the first may take to listen: it listens last of
                all when it starts, and no more once it ends. If it ends
                meanwhile, its lock is ours and this returns at once.
            answer_ms: How long it may take to answer then.
        """
        from PySide6.QtNetwork import QLocalSocket

        socket, waited = QLocalSocket(), QElapsedTimer()
        waited.start()
        socket.connectToServer(self._name)
        while socket.state() != QLocalSocket.LocalSocketState.ConnectedState:
            if self.acquire() or waited.hasExpired(connect_ms):
                return False
            QThread.msleep(50)
            socket.connectToServer(self._name)
        socket.write(wish)
        while socket.bytesToWrite() > 0 and socket.waitForBytesWritten(answer_ms):
            pass
        # The answer may be here already, and then no further one comes.
        answered = socket.bytesAvailable() > 0 or socket.waitForReadyRead(answer_ms)
        socket.disconnectFromServer()
        return bool(answered)

    def listen(self) -> None:
        """Wait for later starts. Called after the first paint: QtNetwork takes time to load."""
        from PySide6.QtNetwork import QLocalServer

        server = QLocalServer(self)
        server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        # We hold the lock, so whatever has this name belongs to nobody alive.
        QLocalServer.removeServer(self._name)
        if server.listen(self._name):
            server.newConnection.connect(self._on_connection)
            self._server = server

    def _on_connection(self) -> None:
        from PySide6.QtNetwork import QLocalServer

        if not isinstance(self._server, QLocalServer):
            return
        while (socket := self._server.nextPendingConnection()) is not None:
            socket.setReadBufferSize(_MOST_BYTES)  # No more is kept of who never ends.
            socket.write(b"ok\n")
            socket.flush()
            socket.disconnected.connect(partial(self._on_said, socket))
            self.raise_requested.emit()

    def _on_said(self, socket: QLocalSocket) -> None:
        """Take the line of a start that said all it had to say."""
        if not shiboken6.isValid(socket):
            return  # It goes with the server, as the window does.
        said = bytes(socket.read(_MOST_BYTES).data())
        socket.deleteLater()
        if said.endswith(b"\n"):
            self.asked.emit(said)

    def stop_listening(self) -> None:
        """Answer no more: a start from now on waits for the lock instead."""
        if self._server is None:
            return
        from PySide6.QtNetwork import QLocalServer

        with contextlib.suppress(RuntimeError):
            if isinstance(self._server, QLocalServer):
                self._server.close()
        self._server = None

    def close(self) -> None:
        """Give the lock and the socket back."""
        self.stop_listening()
        self._lock.unlock()

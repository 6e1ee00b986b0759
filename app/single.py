"""One window a data folder: a second start raises the first and ends."""

from __future__ import annotations

import contextlib
from pathlib import Path

from PySide6.QtCore import QCryptographicHash, QElapsedTimer, QLockFile, QObject, QThread, Signal


class SingleInstance(QObject):
    """A lock on the data folder, and a local socket that brings the window up.

    Attributes:
        raise_requested: Somebody started Framedeck again on this data folder.
    """

    raise_requested = Signal()

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
        """Take the lock; False when another window holds it."""
        return bool(self._lock.tryLock(0))

    def ask_first(self, timeout_ms: int = 2000) -> bool:
        """Ask the window that holds the lock to come up; say whether it answered."""
        from PySide6.QtNetwork import QLocalSocket

        socket, waited = QLocalSocket(), QElapsedTimer()
        waited.start()
        socket.connectToServer(self._name)
        while not socket.waitForConnected(timeout_ms):
            # The first window may still be starting, and listens last of all.
            if waited.hasExpired(timeout_ms):
                return False
            QThread.msleep(50)
            socket.connectToServer(self._name)
        socket.write(b"raise\n")
        answered = socket.waitForBytesWritten(timeout_ms) and socket.waitForReadyRead(timeout_ms)
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
            socket.write(b"ok\n")
            socket.flush()
            socket.disconnected.connect(socket.deleteLater)
            self.raise_requested.emit()

    def close(self) -> None:
        """Give the lock and the socket back."""
        from PySide6.QtNetwork import QLocalServer

        with contextlib.suppress(RuntimeError):
            if isinstance(self._server, QLocalServer):
                self._server.close()
        self._lock.unlock()

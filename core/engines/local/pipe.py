"""Lines from a child's pipe, with a time limit, without a thread."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections import deque

LONGEST_LINE = 4_000_000
"""Bytes; anything longer is no event and is thrown away."""

_CHUNK = 65536


class LineReader:
    """Reads lines of bytes from a file descriptor that it does not own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._rest = bytearray()

    def read(self, timeout: float) -> bytes | None:
        """Return the next line without its end, or None after `timeout` seconds.

        Raises:
            EOFError: The other side has closed the pipe and all lines are read.
        """
        deadline = time.monotonic() + timeout
        while not self._lines:
            if not self._wait(deadline - time.monotonic()):
                return None
            try:
                chunk = os.read(self._descriptor, _CHUNK)
            except OSError as error:
                raise EOFError from error
            if not chunk:
                raise EOFError
            *lines, rest = chunk.split(b"\n")
            if lines:
                lines[0] = bytes(self._rest) + lines[0]
                self._rest.clear()
                self._lines.extend(lines)
            self._rest += rest
            if len(self._rest) > LONGEST_LINE:
                self._rest.clear()
        return self._lines.popleft()

    def _wait(self, seconds: float) -> bool:
        """Return whether there is something to read, the end included."""
        return _readable(self._descriptor, max(0.0, seconds))


if sys.platform == "win32":

    def _readable(descriptor: int, seconds: float) -> bool:
        """Ask in short intervals: an anonymous pipe of Windows cannot be waited for."""
        import ctypes
        import msvcrt

        handle = ctypes.c_void_p(msvcrt.get_osfhandle(descriptor))
        there = ctypes.c_ulong(0)
        deadline = time.monotonic() + seconds
        while True:
            alive = ctypes.windll.kernel32.PeekNamedPipe(
                handle, None, 0, None, ctypes.byref(there), None
            )
            if there.value or not alive:  # A broken pipe reads as its end.
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.003)

else:

    def _readable(descriptor: int, seconds: float) -> bool:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


class LineWriter:
    """Writes lines to a file descriptor; calls may come from several threads."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._poll: select.poll | None = None
        if sys.platform != "win32":
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLOUT)
            _widen(descriptor)

    def write(self, line: str, *, droppable: bool = False) -> None:
        """Write `line` and its end.

        Args:
            line: Text without a line end.
            droppable: Leave it out, rather than wait, when the reader lags behind.
        """
        data = memoryview(line.encode("utf-8", "replace") + b"\n")
        with self._lock:
            if droppable and self._poll is not None and not self._poll.poll(0):
                return
            while data:
                data = data[os.write(self._descriptor, data) :]


def _widen(descriptor: int) -> None:
    """Let the pipe hold thousands of lines, where the system allows it."""
    if sys.platform == "linux":
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, 1 << 20)
        except OSError:
            return  # A user's pipes are limited in all; the usual size works too.

"""Fetch one locked file: resumed where it was cut off, and used only with the right checksum."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from core.engine_env import problems
from core.engine_env.locks import Wheel
from core.engine_env.problems import StoppedError
from core.errors import ProblemError
from core.proxies import check_proxy

if TYPE_CHECKING:
    import requests

TRIES = 6
"""So often in a row without a new byte; a try that brought some begins to count anew."""
BACK_OFF_SECONDS = 0.5
_CHUNK = 1 << 18
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 8.0
_LOOK_SECONDS = 0.05
_TELL_SECONDS = 0.05
_AGAIN = (408, 425, 429, 500, 502, 503, 504)


class Fetcher:
    """Fetches files over one session.

    Args:
        folder: Where they come to lie; a file that is not whole yet ends in ".part".
        proxy: Address of a proxy; "" for what the environment says.
        cancelled: Ends it with StoppedError, within some seconds.
        back_off_seconds: The first wait before it is tried again; each further one doubles.
    """

    def __init__(
        self,
        folder: Path,
        proxy: str = "",
        cancelled: Callable[[], bool] = lambda: False,
        back_off_seconds: float = BACK_OFF_SECONDS,
    ) -> None:
        self._folder, self._cancelled = folder, cancelled
        self._proxies = {"http": proxy, "https": proxy} if proxy else {}
        self._back_off = back_off_seconds
        self._session: requests.Session | None = None

    def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            self._session.close()

    def fetch(self, wheel: Wheel) -> Iterator[int]:
        """Bring a file here; yields how many of its bytes are here, some times a second.

        Raises:
            ProblemError: It cannot be had, or is another file than the lock names.
            StoppedError: It was cancelled.
        """
        final = self._folder / wheel.filename
        part = final.with_name(final.name + ".part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if final.exists():
                yield from self._look_through(final, wheel)
                if final.exists():
                    return
            for last in (False, True):
                yield from self._whole(part, wheel)
                # All of it is here, so the count does not begin anew while it is looked through.
                looking = _hashed(part, self._cancelled)
                digest = yield from _said(looking, wheel.size_bytes)
                if digest == wheel.sha256:
                    part.replace(final)
                    return
                part.unlink()
                if last:
                    raise problems.wrong_hash(wheel.filename, _host(wheel), wheel.sha256, digest)
        except OSError as error:
            raise problems.storage(error, self._folder) from error

    def _look_through(self, final: Path, wheel: Wheel) -> Iterator[int]:
        """Remove a file of an earlier try that is not what it should be."""
        digest = ""
        if final.stat().st_size == wheel.size_bytes:
            digest = yield from _hashed(final, self._cancelled)
        if digest != wheel.sha256:
            final.unlink()

    def _whole(self, part: Path, wheel: Wheel) -> Iterator[int]:
        """Fetch until as many bytes are here as the lock says."""
        have = part.stat().st_size if part.exists() else 0
        if have > wheel.size_bytes:
            part.unlink()
            have = 0
        failed, wait = 0, self._back_off
        while have < wheel.size_bytes:
            before = have
            said = ""
            try:
                yield from self._attempt(part, wheel, have)
                have = part.stat().st_size
                if have < wheel.size_bytes:
                    said = f"ended after {have} of {wheel.size_bytes} bytes"
            except _AgainError as error:
                said = str(error)
                have = part.stat().st_size if part.exists() else 0
            if have >= wheel.size_bytes:
                return
            if have > before:
                failed, wait = 0, self._back_off
            failed += 1
            if failed >= TRIES:
                raise self._gave_up(wheel, have, said)
            self._pause(wait)
            wait *= 2

    def _attempt(self, part: Path, wheel: Wheel, have: int) -> Iterator[int]:
        """Fetch as much as comes of one request. Raises _AgainError where another may help."""
        import requests
        from urllib3.exceptions import HTTPError

        try:
            with self._ask(wheel, have) as response:
                start = self._start(response, wheel, have)
                with part.open("r+b" if start else "wb") as file:
                    if start:
                        file.seek(start)
                        file.truncate()
                    have, due = start, 0.0
                    while have < wheel.size_bytes:
                        if self._cancelled():
                            file.flush()
                            raise StoppedError
                        # No more than the lock says is ever taken, whatever is sent.
                        most = min(_CHUNK, wheel.size_bytes - have)
                        data = response.raw.read1(most, decode_content=False)
                        if not data:
                            break
                        _write(file, data)
                        have += len(data)
                        if monotonic() >= due or have == wheel.size_bytes:
                            due = monotonic() + _TELL_SECONDS
                            yield have
                    file.flush()
                    os.fsync(file.fileno())
        except (requests.RequestException, HTTPError) as error:
            raise self._sorted(error, wheel) from error

    def _ask(self, wheel: Wheel, have: int) -> requests.Response:
        import requests

        if self._session is None:
            self._session = requests.Session()
        if not wheel.url:
            raise ProblemError(_only_in_folder(wheel))
        if self._cancelled():
            raise StoppedError
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        if not self._proxies:
            check_proxy(wheel.url)
        try:
            return self._session.get(
                wheel.url,
                headers=headers,
                stream=True,
                timeout=(_CONNECT_SECONDS, _READ_SECONDS),
                proxies=dict(self._proxies),
            )
        except (TypeError, UnicodeError) as error:
            # A redirect led to where another proxy of the environment is asked, which is none.
            raise problems.proxy(type(error).__name__, wants_sign_in=False) from error

    def _start(self, response: requests.Response, wheel: Wheel, have: int) -> int:
        """Return from which byte on the answer goes."""
        status = response.status_code
        if status == 206:
            said = response.headers.get("Content-Range", "")
            if said.startswith(f"bytes {have}-"):
                return have
            raise _AgainError(f"another part was sent: {said:.60}") from None
        if status == 200:
            return 0
        if status == 416 and have:
            (self._folder / f"{wheel.filename}.part").unlink(missing_ok=True)
            raise _AgainError("there is no such part")
        if status == 407:
            raise problems.proxy(f"status {status}", wants_sign_in=True)
        if status in _AGAIN:
            raise _AgainError(f"status {status}")
        raise problems.refused(_host(wheel), wheel.filename, status)

    def _sorted(self, error: Exception, wheel: Wheel) -> Exception:
        """Return what an error of the network means: to try again, or a problem."""
        import requests

        words = str(error)
        if isinstance(error, requests.exceptions.ProxyError):
            return problems.proxy(words, wants_sign_in="407" in words)
        if isinstance(error, requests.exceptions.SSLError):
            return problems.certificate(_host(wheel), words)
        # Addresses of files are sound: it is the proxy's, such as socks5:// in ALL_PROXY.
        if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
            return problems.proxy(words, wants_sign_in=False)
        return _AgainError(words)

    def _gave_up(self, wheel: Wheel, have: int, said: str) -> ProblemError:
        if said.startswith("status "):
            return problems.refused(_host(wheel), wheel.filename, int(said.split()[1]))
        if have:
            return problems.cut_off(_host(wheel), wheel.filename, said)
        return problems.unreachable(_host(wheel), said)

    def _pause(self, seconds: float) -> None:
        until = monotonic() + seconds
        while monotonic() < until:
            if self._cancelled():
                raise StoppedError
            sleep(min(_LOOK_SECONDS, seconds))


class _AgainError(Exception):
    """This try failed; another may not."""


def verified(path: Path, wheel: Wheel, cancelled: Callable[[], bool]) -> Iterator[int]:
    """Read a file of a folder that a person named; yields how many bytes were read.

    Raises:
        ProblemError: It is another file than the lock names, or cannot be read.
        StoppedError: It was cancelled.
    """
    try:
        digest = yield from _hashed(path, cancelled)
    except OSError as error:
        raise problems.storage(error, path.parent) from error
    if digest != wheel.sha256:
        raise problems.wrong_hash(wheel.filename, str(path.parent), wheel.sha256, digest)


def _hashed(path: Path, cancelled: Callable[[], bool]) -> Generator[int, None, str]:
    """Yield how many bytes were read; returns the checksum."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while data := file.read(1 << 22):
            digest.update(data)
            done += len(data)
            yield done
            if cancelled():
                raise StoppedError
    return digest.hexdigest()


def _said(steps: Generator[int, None, str], count: int) -> Generator[int, None, str]:
    """Yield `count` for each step; returns what they come to."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return str(end.value)
        yield count


def _write(file: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        count = file.write(view)
        if not count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[count:]


def _host(wheel: Wheel) -> str:
    return urlsplit(wheel.url).hostname or "The server"


def _only_in_folder(wheel: Wheel) -> Any:
    from core.errors import Category, Problem

    return Problem(
        Category.INVALID_PARAMS,
        f"{wheel.filename} is in no folder of wheels, and no address of it is known.",
        "Put it into the folder of wheels, and name that folder.",
        field="wheels",
    )

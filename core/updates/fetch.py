"""Fetches the manifest and the files: bounded, resumable, and telling nothing of who asks.

`requests` is used because it knows proxies and carries its own list of authorities, which a
packaged program needs on systems that keep theirs elsewhere. What it would add by itself
(cookies, a password from .netrc, redirects without looking) is turned off.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from core.errors import Category, Problem, ProblemError, invalid
from core.proxies import check_proxy, scrubbed

if TYPE_CHECKING:
    import requests

MOST_REDIRECTS = 5
CONNECT_SECONDS = 10.0
READ_SECONDS = 5.0
"""A silence of this length ends a connection; a download goes on with a new one."""
WHOLE_SECONDS = 60.0
"""For a small file together."""
_CHUNK = 1 << 16
_CHECK = "Check the connection and the address for updates, then try again."


class StoppedError(Exception):
    """Whoever asked wants no answer any more."""


class CutOffError(Exception):
    """The connection ended before the file did."""


def check_address(address: str) -> str:
    """Return `address` if updates may be looked for there.

    Raises:
        ProblemError: It is no https address, nor one of this machine.
    """
    try:
        place = urlsplit(address)
        host, _ = place.hostname or "", place.port
        sound = bool(host) and address.isascii() and not any(sign <= " " for sign in address)
    except ValueError:
        sound = False
    if not sound or place.scheme not in ("https", "http"):
        raise invalid(
            "update_address",
            f"{address!r:.200} is no address for updates.",
            "Write it like https://example.org/framedeck/manifest.json.",
        )
    if place.scheme == "http" and not _is_here(host):
        raise invalid(
            "update_address",
            f"Updates are not fetched from {host} without encryption.",
            "Use an address that begins with https.",
        )
    if place.username is not None or place.password is not None:
        raise invalid(
            "update_address",
            "The address for updates holds a name or a password.",
            "Use one without: Framedeck does not say who asks.",
        )
    return address


class Fetcher:
    """Asks one server and those it sends to.

    Args:
        agent: The only thing told: program, version and system.
        stopped: Asked often; True ends it with StoppedError.
    """

    def __init__(self, agent: str, stopped: Callable[[], bool] = lambda: False) -> None:
        self._agent, self._stopped = agent, stopped

    def small(self, address: str, largest: int, what: str) -> bytes:
        """Return a whole file of at most `largest` bytes.

        Raises:
            ProblemError: It cannot be fetched, or is larger.
            StoppedError: It is no longer wanted.
        """
        until, parts, size = time.monotonic() + WHOLE_SECONDS, [], 0
        try:
            with self.open(address, 0, what) as (_, _, chunks):
                for chunk in chunks:
                    size += len(chunk)
                    if size > largest or time.monotonic() > until:
                        raise _failed(Category.BAD_OUTPUT, f"{what} has no end.")
                    parts.append(chunk)
        except CutOffError as error:
            raise _failed(
                Category.NETWORK_ERROR, f"{what} could not be fetched whole.", str(error)
            ) from error
        return b"".join(parts)

    @contextmanager
    def open(
        self, address: str, start: int, what: str
    ) -> Iterator[tuple[int, int | None, Iterator[bytes]]]:
        """Ask for a file from byte `start` on.

        Yields:
            Where the answer begins (0 when the server sends all of it), the size of the whole
            file as far as the server tells, and the bytes, which raise CutOffError where the
            connection ends too soon.

        Raises:
            ProblemError: The server refuses, or sends elsewhere without end or where it may not;
                or the environment names a proxy that is none.
            CutOffError: There is no connection.
            StoppedError: It is no longer wanted.
        """
        import requests
        import urllib3

        with requests.Session() as session:
            # A name and password for this host in .netrc are for other programs.
            session.auth = _nothing
            try:
                answer = self._follow(session, check_address(address), start, what)
            except requests.exceptions.SSLError as error:
                raise _failed(
                    Category.NETWORK_ERROR,
                    "The server for updates is not who it says.",
                    scrubbed(str(error)),
                ) from error
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                raise CutOffError(scrubbed(str(error))) from error
            with answer:
                yield self._begin(answer, start, what)

    def _follow(
        self, session: requests.Session, address: str, start: int, what: str
    ) -> requests.Response:
        headers: dict[str, Any] = {
            "User-Agent": self._agent, "Accept": None, "Accept-Encoding": "identity",
            "Connection": "close",
        }  # fmt: skip
        if start:
            headers["Range"] = f"bytes={start}-"
        for _ in range(MOST_REDIRECTS + 1):
            if self._stopped():
                raise StoppedError
            # Nothing between this machine and itself.
            session.trust_env = not _is_here(urlsplit(address).hostname or "")
            if session.trust_env:
                check_proxy(address)
            session.cookies.clear()
            answer = session.get(
                address, headers=headers, stream=True, allow_redirects=False,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
            )  # fmt: skip
            if not 300 <= answer.status_code < 400:
                return answer
            answer.close()
            # A connection that the server may be closing just now serves nobody again.
            session.close()
            further = urljoin(address, answer.headers.get("Location", ""))
            if urlsplit(address).scheme == "https" and urlsplit(further).scheme != "https":
                raise _failed(Category.NETWORK_ERROR, f"{what} is sent on without encryption.")
            address = check_address(further)
        raise _failed(Category.NETWORK_ERROR, f"{what} is sent from place to place without end.")

    def _begin(
        self, answer: requests.Response, start: int, what: str
    ) -> tuple[int, int | None, Iterator[bytes]]:
        status = answer.status_code
        if status == 404:
            raise _failed(Category.NETWORK_ERROR, f"{what} is not on the server (404).")
        if status == 416:
            raise _failed(Category.BAD_OUTPUT, f"{what} is shorter on the server than announced.")
        if status not in (200, 206):
            raise _failed(Category.NETWORK_ERROR, f"The server for updates refuses ({status}).")
        length = answer.headers.get("Content-Length", "")
        rest = int(length) if length.isascii() and length.isdigit() else None
        begin = 0
        if status == 206:
            told = answer.headers.get("Content-Range", "")
            if not told.startswith(f"bytes {start}-"):
                raise CutOffError(f"the server answers with {told[:80]!r}")
            begin = start
        return begin, None if rest is None else begin + rest, self._chunks(answer, rest)

    def _chunks(self, answer: requests.Response, rest: int | None) -> Iterator[bytes]:
        import urllib3

        count = 0
        while True:
            if self._stopped():
                raise StoppedError
            try:
                chunk = answer.raw.read1(_CHUNK)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise CutOffError(str(error)) from error
            if not chunk:
                if rest is not None and count < rest:
                    raise CutOffError(f"{count} of {rest} bytes came")
                return
            count += len(chunk)
            yield chunk


def _nothing(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _failed(category: Category, message: str, details: str = "") -> ProblemError:
    return ProblemError(Problem(category, message, _CHECK, details))

"""Ask a server for JSON, whatever it does: bounded in time and size, never sent elsewhere.

The standard library's client is used because it follows no redirect, takes no
proxy and no password from the environment, and lets every single wait for the
network be cut to what is left of the time.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, NoReturn
from urllib.parse import SplitResult, unquote, urlsplit

from core.errors import Category, Problem, ProblemError, invalid

TIMEOUT_SECONDS = 5.0
LARGEST_ANSWER = 4_000_000
_CHUNK = 65_536
_LOOK_SECONDS = 0.2
_CONNECT_SECONDS = 3.0
_CHECK = "Check that it runs and that the address is right."


def ask(
    url: str,
    body: Mapping[str, Any] | None = None,
    *,
    who: str = "The server",
    timeout_seconds: float = TIMEOUT_SECONDS,
    largest: int = LARGEST_ANSWER,
) -> Any:
    """Return the JSON that a server answers with: GET, or POST when there is a body.

    Args:
        url: http or https.
        body: What to POST, as JSON.
        who: What a person calls the server; problems begin with it.
        timeout_seconds: For all of it together.
        largest: Most bytes that an answer may have.

    Raises:
        ProblemError: The server is not there, is too slow, refuses, sends
            elsewhere, or answers with what is no JSON; or the URL is none.
    """
    text = read(url, body, who=who, timeout_seconds=timeout_seconds, largest=largest)
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        said = text[:200].decode("utf-8", "replace")
        where = f"{who} at {name_of(parse(url))}"
        _fail(Category.BAD_OUTPUT, f"{where} answers with no JSON.", said)


def read(
    url: str,
    body: Mapping[str, Any] | None = None,
    *,
    who: str = "The server",
    timeout_seconds: float = TIMEOUT_SECONDS,
    largest: int = LARGEST_ANSWER,
    stopped: Callable[[], bool] = lambda: False,
    sign_in: bool = False,
) -> bytes:
    """Return the bytes that a server answers with, as `ask` does their JSON.

    Args:
        url: http or https.
        body: What to POST, as JSON.
        who: What a person calls the server; problems begin with it.
        timeout_seconds: For all of it together.
        largest: Most bytes that an answer may have.
        stopped: Asked several times a second while waiting; True ends it as a TIMEOUT.
        sign_in: Give the name and the password that stand in the address.

    Raises:
        ProblemError: As `ask`, whatever the bytes are.
    """
    place = parse(url)
    headers = _signed(place) if sign_in and place.username is not None else {}
    status, text = _told(place, body, headers, who, Limit(timeout_seconds, stopped), largest)
    if status != 200:
        raise _refused(status, f"{who} at {name_of(place)}", text, 200)
    return text


def post(
    url: str,
    body: Mapping[str, Any],
    headers: Mapping[str, str],
    *,
    who: str,
    timeout_seconds: float = TIMEOUT_SECONDS,
    largest: int = LARGEST_ANSWER,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[int, bytes]:
    """Post JSON to a server that may answer anything; return its status, 2xx, and its words.

    Name and password that stand in the address are given.

    Args:
        url: http or https.
        body: What is posted.
        headers: More headers.
        who: What a person calls the server; problems begin with it.
        timeout_seconds: For all of it together.
        largest: Most bytes that an answer may have.
        stopped: Asked several times a second while waiting; True ends it as a TIMEOUT.

    Raises:
        RefusedError: The status is none of success.
        ProblemError: As `ask`.
    """
    place = parse(url)
    more = {**(_signed(place) if place.username is not None else {}), **headers}
    status, text = _told(place, body, more, who, Limit(timeout_seconds, stopped), largest)
    if not 200 <= status < 300:
        raise _refused(status, f"{who} at {name_of(place)}", text, len(text))
    return status, text


def _told(
    place: SplitResult,
    body: Mapping[str, Any] | None,
    headers: Mapping[str, str],
    who: str,
    limit: Limit,
    largest: int,
) -> tuple[int, bytes]:
    # Not needed before there is a server to ask, and the window starts without it.
    from http.client import HTTPException

    where = f"{who} at {name_of(place)}"
    try:
        status, text = _exchange(place, body, headers, limit, largest)
    except TimeoutError:
        _fail(Category.TIMEOUT, f"{where} did not answer in time.")
    except _TooLargeError:
        _fail(Category.BAD_OUTPUT, f"{where} answers without end.")
    except (OSError, HTTPException, UnicodeError) as error:
        told = getattr(error, "verify_message", "") or getattr(error, "strerror", "")
        words = told or str(error) or type(error).__name__
        _fail(Category.NETWORK_ERROR, f"{where} cannot be asked: {words}.")
    if 300 <= status < 400:
        message = f"{where} sends elsewhere ({status})."
        raise RedirectedError(Problem(Category.NETWORK_ERROR, message, _CHECK)) from None
    return status, text


def _refused(status: int, where: str, text: bytes, most: int) -> RefusedError:
    return RefusedError(status, where, text[:most].decode("utf-8", "replace").strip())


def parse(url: str) -> SplitResult:
    """Return the parts of a server's address.

    Raises:
        ProblemError: It is no http or https address.
    """
    try:
        place = urlsplit(url)
        sound = place.scheme in ("http", "https") and place.hostname and place.port != 0
    except ValueError:
        sound = False
    if not sound or not url.isascii() or any(sign <= " " for sign in url):
        hint = "Write it like http://127.0.0.1:8188."
        raise invalid("url", f"{url!r:.200} is no address of a server.", hint)
    return place


def name_of(place: SplitResult) -> str:
    """Return host and port as a person reads them, without a password."""
    return place.netloc.rpartition("@")[2]


class RefusedError(ProblemError):
    """A server answered with a status that is no success.

    Attributes:
        status: The HTTP status.
    """

    def __init__(self, status: int, where: str, said: str) -> None:
        hint = "Check that the address is right and the server is up to date."
        if status in (401, 403):
            hint = "It wants a password or a token, which Framedeck does not have."
        message = f"{where} refuses ({status})."
        super().__init__(Problem(Category.NETWORK_ERROR, message, hint, said))
        self.status = status

    @classmethod
    def of(cls, problem: Problem, status: int) -> RefusedError:
        """Return one of other words."""
        made = cls(status, "", "")
        made.problem, made.args = problem, (problem.message,)
        return made


class RedirectedError(ProblemError):
    """A server sends elsewhere, where nobody follows."""


class _TooLargeError(Exception):
    pass


class Limit:
    """When waiting for a server ends: at a time, or when whoever waits is to stop.

    Args:
        seconds: From now.
        stopped: Asked several times a second.
    """

    def __init__(self, seconds: float, stopped: Callable[[], bool] = lambda: False) -> None:
        self._until = monotonic() + seconds
        self._stopped = stopped

    def left(self) -> float:
        """Return the seconds that are left. Raises TimeoutError when there are none."""
        left = self._until - monotonic()
        if left <= 0 or self._stopped():
            raise TimeoutError
        return left

    def wait(self, sock: socket.socket, receive: Callable[[], int]) -> int:
        """Return what `receive` does on `sock`, looking up often. Raises TimeoutError."""
        while True:
            sock.settimeout(min(self.left(), _LOOK_SECONDS))
            try:
                return receive()
            except TimeoutError:
                continue


class _Hurried(socket.socket):
    """A socket on which no wait goes on after its limit."""

    def __init__(self, family: int, kind: int, proto: int, fileno: int, limit: Limit) -> None:
        super().__init__(family, kind, proto, fileno)
        self._limit = limit

    def recv_into(self, *args: Any, **more: Any) -> int:
        return self._limit.wait(self, lambda: super(_Hurried, self).recv_into(*args, **more))


def _connect(place: SplitResult, limit: Limit) -> socket.socket:
    host = place.hostname or ""
    port = place.port or (443 if place.scheme == "https" else 80)
    plain = socket.create_connection((host, port), min(limit.left(), _CONNECT_SECONDS))
    hurried: socket.socket
    if place.scheme == "https":
        hurried = _over_tls(plain, host, limit)
    else:
        hurried = _Hurried(plain.family, plain.type, plain.proto, plain.detach(), limit)
    try:
        hurried.settimeout(limit.left())
    except BaseException:
        hurried.close()
        raise
    return hurried


def _over_tls(plain: socket.socket, host: str, limit: Limit) -> Any:
    # Costs 4 MB, which is for those who have such a server.
    import ssl

    class HurriedTls(ssl.SSLSocket):
        def recv_into(self, *args: Any, **more: Any) -> int:
            return limit.wait(self, lambda: super(HurriedTls, self).recv_into(*args, **more))

    context = ssl.create_default_context()
    context.sslsocket_class = HurriedTls
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def _exchange(
    place: SplitResult,
    body: Mapping[str, Any] | None,
    more: Mapping[str, str],
    limit: Limit,
    largest: int,
) -> tuple[int, bytes]:
    from http.client import HTTPConnection

    connection = HTTPConnection(place.hostname or "", place.port)
    connection.sock = _connect(place, limit)
    try:
        path = (place.path or "/") + (f"?{place.query}" if place.query else "")
        sent = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", "Host": name_of(place), **more}
        if sent is not None:
            headers["Content-Type"] = "application/json"
        connection.request("GET" if sent is None else "POST", path, sent, headers)
        with connection.getresponse() as response:
            parts, size = [], 0
            while part := response.read1(_CHUNK):
                size += len(part)
                if size > largest:
                    raise _TooLargeError
                parts.append(part)
                limit.left()
            return response.status, b"".join(parts)
    finally:
        connection.close()


def _signed(place: SplitResult) -> dict[str, str]:
    from base64 import b64encode

    pair = f"{unquote(place.username or '')}:{unquote(place.password or '')}"
    return {"Authorization": "Basic " + b64encode(pair.encode()).decode()}


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _fail(category: Category, message: str, details: str = "") -> NoReturn:
    raise ProblemError(Problem(category, message, _CHECK, details)) from None

"""HTTP with limits: time, size, depth and hosts; every failure is a Problem with a hint."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urljoin, urlsplit

from core.engines.comfy.sign_in import SignIn, door, headers
from core.errors import Category, Problem, ProblemError, invalid

if TYPE_CHECKING:
    import requests

CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0
CALL_SECONDS = 30.0
MOST_JSON_BYTES = 64 * 1024 * 1024
MOST_JSON_DEPTH = 100
_MOST_REDIRECTS = 3
_CHUNK = 64 * 1024
_TELL_BYTES = 2_000
_REDIRECTS = (301, 302, 303, 307, 308)


class RefusedError(ProblemError):
    """The server answered, and the answer is no.

    Attributes:
        status: HTTP status.
        body: Its answer, cut.
    """

    def __init__(self, problem: Problem, status: int, body: bytes) -> None:
        super().__init__(problem)
        self.status = status
        self.body = body


class Fetcher:
    """Calls of one server. One object belongs to one thread; `fork` makes one for another.

    No proxies, no cookies kept apart from the session and no passwords from
    the environment are used: what a server gets is what is written here.

    Args:
        base: Such as "http://127.0.0.1:8188".
        title: What a person calls it; "" for its address.
        sign_in: Returns its name and password; None for those in the address.

    Attributes:
        called: The server within a sentence.

    Raises:
        ProblemError: The address is none.
    """

    def __init__(self, base: str, title: str = "", sign_in: SignIn | None = None) -> None:
        self.base, self.sign_in = door(address(base), sign_in)
        self.title = title
        self.called = title or called(self.base)
        self._session: requests.Session | None = None

    def fork(self) -> Fetcher:
        """Return another one of the same server, for another thread."""
        return Fetcher(self.base, self.title, self.sign_in)

    def close(self) -> None:
        """Let the connections go; the next call opens them anew."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def json(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str | int] | None = None,
        files: Mapping[str, Any] | None = None,
        data: Mapping[str, str] | None = None,
        seconds: float = CALL_SECONDS,
        most_bytes: int = MOST_JSON_BYTES,
    ) -> Any:
        """Return the parsed JSON of an answer; None when it is empty.

        NaN and infinities, which servers do send, become None.

        Raises:
            RefusedError: The status is not 2xx.
            ProblemError: NETWORK_ERROR or TIMEOUT.
        """
        given = {"json": body, "params": params, "files": files, "data": data}
        raw = self.read(method, path, seconds=seconds, most_bytes=most_bytes, **given)
        return parse_json(raw, self.base) if raw.strip() else None

    def read(
        self,
        method: str,
        path: str,
        *,
        seconds: float = CALL_SECONDS,
        most_bytes: int = MOST_JSON_BYTES,
        **given: Any,
    ) -> bytes:
        """Return the bytes of an answer; raises as `json`."""
        with self.stream(method, path, seconds=seconds, **given) as answer:
            return b"".join(self.chunks(answer, seconds, most_bytes))

    @contextmanager
    def stream(
        self, method: str, path: str, *, seconds: float = CALL_SECONDS, **given: Any
    ) -> Iterator[requests.Response]:
        """Open an answer whose body is not read yet; raises as `json`."""
        import requests

        url, began = self.base + path, monotonic()
        answer: requests.Response | None = None
        try:
            for _ in range(_MOST_REDIRECTS + 1):
                answer = self._open(method, url, **given)
                if answer.status_code not in _REDIRECTS:
                    break
                url = self._redirect(answer, url)
                answer.close()
            else:
                raise self._broken("It redirects in a circle.")
            if not 200 <= answer.status_code < 300:
                left = max(1.0, seconds - (monotonic() - began))
                raise self._refused(answer, left)
            yield answer
        except requests.RequestException as error:
            raise self._failed(error) from error
        finally:
            if answer is not None:
                answer.close()

    def chunks(self, answer: requests.Response, seconds: float, most_bytes: int) -> Iterator[bytes]:
        """Yield a body in pieces, within `seconds` and `most_bytes`; raises as `json`."""
        import urllib3

        until, size = monotonic() + seconds, 0
        try:
            # As it comes: `iter_content` would wait for a whole chunk of a body that drips.
            while chunk := answer.raw.read1(_CHUNK, decode_content=True):
                size += len(chunk)
                if size > most_bytes:
                    raise self._broken(f"Its answer is longer than {most_bytes:,} bytes.")
                if monotonic() > until:
                    raise self._slow(f"It did not finish its answer within {seconds:g} s.")
                yield chunk
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if isinstance(error, urllib3.exceptions.TimeoutError):
                raise self._failed(error) from error
            raise self._cut_off(size, error) from error
        promised = answer.headers.get("Content-Length", "")
        coded = answer.headers.get("Content-Encoding")
        if answer.request.method == "HEAD" or coded is not None:
            return
        if promised.isdecimal() and int(promised) != size:
            raise self._broken(f"Its answer ended after {size:,} of {promised} bytes.")

    def download(
        self,
        path: str,
        target: BinaryIO,
        *,
        seconds: float,
        most_bytes: int,
        most_untold_bytes: int,
    ) -> int:
        """Write a body to `target` as it comes; return its size. Raises as `json`.

        Args:
            path: What to ask for.
            target: Where it goes.
            seconds: Time for all of it.
            most_bytes: Longest body.
            most_untold_bytes: Longest body of which the server does not say how long it is.
        """
        size = 0
        with self.stream("GET", path, seconds=seconds) as answer:
            told = answer.headers.get("Content-Length", "").isdecimal()
            most = most_bytes if told else min(most_bytes, most_untold_bytes)
            for chunk in self.chunks(answer, seconds, most):
                target.write(chunk)
                size += len(chunk)
        return size

    # --- inside

    def _open(self, method: str, url: str, **given: Any) -> requests.Response:
        import requests

        if self._session is None:
            self._session = requests.Session()
            # Neither proxies nor a .netrc of this machine: a server is spoken to directly.
            self._session.trust_env = False
        more = {**headers(self.sign_in()), **given.pop("headers", {})}
        return self._session.request(
            method,
            url,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            stream=True,
            allow_redirects=False,
            headers=more,
            **given,
        )

    def _redirect(self, answer: requests.Response, url: str) -> str:
        """Return where a redirect leads, which must be the same server."""
        target = urljoin(url, answer.headers.get("Location", ""))
        if _origin(target) != _origin(self.base):
            raise self._broken(f"It sends us to another host: {target[:200]}")
        return target

    def _refused(self, answer: requests.Response, seconds: float) -> RefusedError:
        body, status = b"", answer.status_code
        # What it says beside its status is of use, and no more than that.
        with suppress(ProblemError):
            for chunk in self.chunks(answer, seconds, MOST_JSON_BYTES):
                body += chunk
        hint = {
            401: "It asks for a password; enter name and password under Edit in Servers.",
            403: "It does not let us in; check its settings for other machines.",
            404: "Check the address, and whether the server is a ComfyUI of a late version.",
            413: "What was sent is too large for it; send a smaller file.",
        }.get(status, "Look into the server's log, then retry.")
        problem = Problem(
            Category.NETWORK_ERROR,
            f"{begin(self.called)} answered {status} {answer.reason or ''}".rstrip() + ".",
            hint,
            details=f"{answer.url}\n{body[:_TELL_BYTES].decode(errors='replace')}",
        )
        return RefusedError(problem, status, body)

    def _failed(self, error: Exception) -> ProblemError:
        import requests
        import urllib3

        if isinstance(error, requests.Timeout):
            return self._slow("It does not answer in time.", repr(error))
        if isinstance(error, urllib3.exceptions.TimeoutError):
            return self._slow("It stopped in the middle of its answer.", repr(error))
        return ProblemError(
            Problem(
                Category.NETWORK_ERROR,
                f"{begin(self.called)} cannot be reached.",
                "Start it, or check its address and that nothing on the way blocks it.",
                details=repr(error),
            )
        )

    def _cut_off(self, size: int, error: Exception) -> ProblemError:
        return ProblemError(
            Problem(
                Category.NETWORK_ERROR,
                f"{begin(self.called)} broke off its answer after {size:,} bytes.",
                "Retry; if it happens again, look into the server's log and at what is on the way.",
                details=repr(error),
            )
        )

    def _slow(self, what: str, details: str = "") -> ProblemError:
        return ProblemError(
            Problem(
                Category.TIMEOUT,
                f"{begin(self.called)} is too slow: {what}",
                "It may be busy loading a model; wait a moment, or restart it.",
                details,
            )
        )

    def _broken(self, what: str) -> ProblemError:
        return broken(self.base, what, server=self.called)


def called(base: str) -> str:
    """Return a server without a title as it stands within a sentence."""
    return f"the server at {base}"


def begin(text: str) -> str:
    """Return `text` as it begins a sentence."""
    return text[:1].upper() + text[1:] if text.startswith("the ") else text


def broken(base: str, what: str, details: str = "", *, server: str = "") -> ProblemError:
    """Return the error for an answer of `server`, or the one at `base`, that makes no sense."""
    return ProblemError(
        Problem(
            Category.NETWORK_ERROR,
            f"{begin(server or called(base))} does not answer as ComfyUI does: {what}",
            "Check the address: another program or a proxy may be listening there.",
            details,
        )
    )


def address(text: str) -> str:
    """Return a server's address in its short form.

    Raises:
        ProblemError: It is none; the problem names the field "address".
    """
    given = text.strip()
    if "://" not in given:
        given = "http://" + given
    given = given.rstrip("/")
    try:
        parts = urlsplit(given)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        usable = usable and not parts.query and not parts.fragment and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or any(letter.isspace() for letter in given):
        raise invalid(
            "address",
            f"{text!r} is not the address of a server.",
            "Write it like http://127.0.0.1:8188.",
        )
    return given


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def parse_json(raw: bytes, base: str) -> Any:
    """Return the values in `raw`. Raises ProblemError for what is no JSON or nested too deeply."""
    try:
        found = json.loads(raw, parse_constant=lambda _: None)
        if raw.count(b"[") + raw.count(b"{") > MOST_JSON_DEPTH:
            _check_depth(found)
    except (ValueError, RecursionError) as error:
        start = raw[:_TELL_BYTES].decode(errors="replace")
        page = start.lstrip().lower().startswith(("<!doctype", "<html"))
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        what = "It sent a web page instead of JSON." if page else f"It sent no JSON ({why})."
        raise broken(base, what, start) from None
    return found


def _check_depth(value: Any) -> None:
    """Raise ValueError for values nested deeper than MOST_JSON_DEPTH."""
    level = [value]
    for _ in range(MOST_JSON_DEPTH):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"nested deeper than {MOST_JSON_DEPTH} levels")

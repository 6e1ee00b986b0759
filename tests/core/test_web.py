"""Asking a server for JSON, against servers that answer badly in every way."""

from __future__ import annotations

import gc
import socket
import time

import pytest

from core import web
from core.errors import Category, ProblemError
from tests.core import web_servers as bad
from tests.core.web_servers import Answer, raw, serving, tells


def problem(url: str, timeout: float = 0.5, **more: int) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        web.ask(url, who="ComfyUI", timeout_seconds=timeout, **more)
    assert caught.value.problem.hint
    return caught.value


def test_an_answer_is_returned_and_a_body_is_posted() -> None:
    with serving({"/a?b=1": tells({"x": [1, None]}), "/post": tells("ok")}) as server:
        assert web.ask(f"{server.url}/a?b=1") == {"x": [1, None]}
        assert web.ask(f"{server.url}/post", {"keep_alive": 0}) == "ok"
        assert server.asked == [("GET", "/a?b=1", None), ("POST", "/post", {"keep_alive": 0})]
        assert server.headers[0]["Host"] == server.url.removeprefix("http://")


@pytest.mark.parametrize(
    ("answer", "category", "words"),
    [
        (raw(b"<html><body>It works!</body></html>"), Category.BAD_OUTPUT, "with no JSON"),
        (raw(b'{"vram_free": NaN}'), Category.BAD_OUTPUT, "with no JSON"),
        (raw(b'{"vram_free": -Infinity}'), Category.BAD_OUTPUT, "with no JSON"),
        (raw(b"[" * 100_000), Category.BAD_OUTPUT, "with no JSON"),
        (raw(b"\xff\xfe\xfa"), Category.BAD_OUTPUT, "with no JSON"),
        (raw(b""), Category.BAD_OUTPUT, "with no JSON"),
        (raw(b"busy", 503), Category.NETWORK_ERROR, "refuses (503)"),
        (raw(b"", 401), Category.NETWORK_ERROR, "refuses (401)"),
        (bad.endless, Category.BAD_OUTPUT, "answers without end"),
        (bad.drip, Category.TIMEOUT, "did not answer in time"),
        (bad.drip_headers, Category.TIMEOUT, "did not answer in time"),
        (bad.silent, Category.TIMEOUT, "did not answer in time"),
        (bad.hang_up, Category.NETWORK_ERROR, "cannot be asked"),
        (bad.cut_short, Category.BAD_OUTPUT, "with no JSON"),
        (bad.no_http, Category.NETWORK_ERROR, "cannot be asked"),
    ],
)
def test_bad_answers_are_told(answer: Answer, category: Category, words: str) -> None:
    with serving(answer) as server:
        began = time.monotonic()
        found = problem(server.url).problem
        assert time.monotonic() - began < 1.5
    assert found.category is category
    assert words in found.message
    assert found.message.startswith("ComfyUI at 127.0.0.1:")


def test_nobody_is_followed_elsewhere() -> None:
    with serving(tells({})) as other:
        for status in (301, 302, 303, 307, 308):
            answer = raw(b"", status, Location=f"{other.url}/")
            with serving(answer) as server:
                assert f"sends elsewhere ({status})" in problem(server.url).problem.message
        assert other.asked == []


def test_no_proxy_and_no_password_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving(tells(3)) as server:
        assert web.ask(server.url) == 3
        assert web.ask(server.url.replace("http://", "http://me:secret@")) == 3
        assert all("Authorization" not in headers for headers in server.headers)


def test_a_password_in_an_address_is_not_told() -> None:
    assert "secret" not in problem("http://me:secret@127.0.0.1:9").problem.message


def test_a_largest_answer_is_kept() -> None:
    with serving(tells("x" * 98)) as server:
        assert web.ask(server.url, largest=100) == "x" * 98
        assert "without end" in problem(server.url, largest=99).problem.message


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    found = problem(f"http://127.0.0.1:{port}").problem
    assert found.category is Category.NETWORK_ERROR
    assert "refused" in found.message


def test_a_server_without_tls_is_told() -> None:
    with serving(tells({})) as server:
        found = problem(server.url.replace("http", "https")).problem
    assert found.category is Category.NETWORK_ERROR


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8188", "ftp://a/", "http://", "http://a:port", "http://a:99999", "http://a b",
     "http://a\r\nX: y", "http://[::1", "http://ä.de/", "file:///etc/passwd", "http://a:0"],
)  # fmt: skip
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ProblemError) as caught:
        web.ask(url)
    assert caught.value.problem.category is Category.INVALID_PARAMS
    assert caught.value.problem.field == "url"


def test_a_password_of_the_address_is_given_when_asked_for() -> None:
    with serving(tells(3)) as server:
        place = server.url.replace("http://", "http://me:se%20cret@")
        assert web.read(place, sign_in=True) == b"3"
        assert server.headers[0]["Authorization"] == "Basic bWU6c2UgY3JldA=="


def test_whoever_stops_while_connecting_leaves_no_socket() -> None:
    with serving(bad.silent) as server:
        for asked in range(1, 5):  # Stops at each of the first moments at which it is asked.
            answers = iter([False] * asked + [True] * 100)
            with pytest.raises(ProblemError):
                web.read(server.url, timeout_seconds=5, stopped=lambda said=answers: next(said))
            gc.collect()


def test_whoever_waits_can_stop() -> None:
    with serving(bad.silent) as server:
        began = time.monotonic()
        with pytest.raises(ProblemError) as caught:
            web.read(server.url, timeout_seconds=20, stopped=lambda: time.monotonic() - began > 0.3)
        assert time.monotonic() - began < 1.0
        assert caught.value.problem.category is Category.TIMEOUT

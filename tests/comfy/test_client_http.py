"""A server that lies, stalls, redirects or is none: a Problem with a hint, and soon."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from core.engines.comfy import fetch, words
from core.engines.comfy.answers import End, Remote
from core.engines.comfy.fetch import Fetcher, address, parse_json
from core.engines.comfy.http import Server, UnclearError
from core.engines.comfy.rejections import rejection
from core.errors import Category, ProblemError
from tests.comfy import recorded
from tests.comfy.client_bench import graph

Answer = Callable[[socket.socket], None]


@contextmanager
def raw_server(answer: Answer) -> Iterator[str]:
    """A server that sends what `answer` writes, whatever is asked."""
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                one, _ = listening.accept()
            except OSError:
                return
            with one, suppress(OSError):
                one.settimeout(5)
                one.recv(65536)
                answer(one)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        over.set()
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)


def reply(body: bytes, head: str = "", status: str = "200 OK") -> Answer:
    size = "" if "Content-Length" in head else f"Content-Length: {len(body)}\r\n"
    whole = f"HTTP/1.1 {status}\r\n{head}{size}Connection: close\r\n\r\n".encode() + body
    return lambda one: one.sendall(whole)


def problem(answer: Answer, ask: Callable[[Server], object] = lambda s: s.queue()) -> ProblemError:
    with raw_server(answer) as base:
        server = Server(base)
        try:
            with pytest.raises(ProblemError) as caught:
                ask(server)
        finally:
            server.close()
    assert caught.value.problem.message
    assert caught.value.problem.hint
    return caught.value


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"<!DOCTYPE html><html><body>Router</body></html>", "a web page"),
        (b"{", "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[" * 200_000, "no JSON"),
        (b"[" * 101 + b"]" * 101, "nested"),
        (b"[]", "JSON object"),
        (b'{"queue_running": 3, "queue_pending": []}', "list"),
        (b"3", "JSON object"),
    ],
)
def test_nonsense_is_a_problem(body: bytes, word: str) -> None:
    said = problem(reply(body)).problem
    assert said.category is Category.NETWORK_ERROR
    assert word in said.message


def test_nan_and_infinity_are_unknown() -> None:
    assert parse_json(b'{"max": Infinity, "min": -Infinity, "x": NaN}', "") == {
        "max": None,
        "min": None,
        "x": None,
    }


def test_an_endless_body_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(one: socket.socket) -> None:
        one.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            one.sendall(b"1" * 65536)

    began = time.monotonic()
    said = problem(endless, lambda s: s.fetcher.json("GET", "/x", most_bytes=1_000_000)).problem
    assert "longer than 1,000,000 bytes" in said.message
    assert time.monotonic() - began < 3


def test_a_body_that_drips_is_given_up() -> None:
    def drip(one: socket.socket) -> None:
        one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(40):
            one.sendall(b" " * 10)
            time.sleep(0.1)

    began = time.monotonic()
    said = problem(drip, lambda s: s.fetcher.json("GET", "/x", seconds=0.5)).problem
    assert said.category is Category.TIMEOUT
    assert time.monotonic() - began < 5


def test_silence_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "READ_SECONDS", 0.3)
    began = time.monotonic()
    assert problem(lambda one: time.sleep(1)).problem.category is Category.TIMEOUT
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("size", ["1000", "1"])
def test_a_wrong_length_is_noticed(size: str) -> None:
    body = b'{"queue_running": [], "queue_pending": []}'
    problem(reply(body, f"Content-Length: {size}\r\n"))


def test_nobody_there() -> None:
    with pytest.raises(ProblemError) as caught:
        Server("http://127.0.0.1:9").queue()
    assert caught.value.problem.category is Category.NETWORK_ERROR
    assert "Start it" in caught.value.problem.hint


def test_a_server_with_a_title_is_told_by_it() -> None:
    with pytest.raises(ProblemError) as caught:
        Server("http://127.0.0.1:1", "Second box").fork().queue()
    assert caught.value.problem.message == "Second box cannot be reached."
    assert words.lost("Second box", away=True).message.startswith("Second box went away")
    bare = Server("http://127.0.0.1:1").called
    assert words.waits(bare, 60).startswith("The server at http://127.0.0.1:1 does not answer.")
    assert "on the server at http://127.0.0.1:1." in words.interrupted(bare).message


def test_a_redirect_to_another_host_is_not_followed() -> None:
    asked: list[bytes] = []

    def other(one: socket.socket) -> None:
        asked.append(b"x")
        reply(b"{}")(one)

    with raw_server(other) as elsewhere:
        said = problem(reply(b"", f"Location: {elsewhere}/queue\r\n", "302 Found")).problem
    assert "another host" in said.message
    assert asked == []
    problem(reply(b"", "Location: file:///etc/passwd\r\n", "302 Found"))
    problem(reply(b"", "Location: //evil.example/\r\n", "307 Temporary Redirect"))


def test_a_redirect_in_a_circle_ends() -> None:
    said = problem(reply(b"", "Location: /queue\r\n", "302 Found")).problem
    assert "circle" in said.message


@pytest.mark.parametrize("status", ["401 No", "403 No", "404 No", "500 No", "503 No"])
def test_a_refusal_has_a_hint(status: str) -> None:
    said = problem(reply(b"because", status=status)).problem
    assert status[:3] in said.message
    assert "because" in said.details


@pytest.mark.parametrize(
    "answer",
    [reply(b"500", status="500 No"), reply(b"{}"), reply(b"<html>"), lambda one: None],
)
def test_a_doubtful_answer_to_a_prompt_is_unclear(answer: Answer) -> None:
    found = problem(answer, lambda s: s.submit(graph(), prompt="p", client="c"))
    assert isinstance(found, UnclearError)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no",
        b"[]",
        b'{"error": "x"}',
        b'{"error": {"type": "prompt_no_outputs"}}',
        b'{"error": {"type": "a"}, "node_errors": {"1": {"errors": [3, {}]}, "2": []}}',
    ],
)
def test_a_rejection_is_clear_whatever_it_says(body: bytes) -> None:
    found = problem(
        reply(body, status="400 Bad"), lambda s: s.submit(graph(), prompt="p", client="c")
    )
    assert not isinstance(found, UnclearError)
    assert found.problem.category is Category.INVALID_PARAMS


def test_recorded_rejections_say_what_and_what_to_do() -> None:
    said = []
    for row in recorded.rejections():
        if row["status"] != 400:
            continue
        body = json.dumps(row["json"]).encode()
        found = rejection(body, graph(), "http://box").problem
        assert found.hint
        assert "it did not say why" not in found.message, row["case"]
        said.append(found)
    assert len(said) > 25
    assert {one.category for one in said} == {Category.INVALID_PARAMS, Category.MODEL_NOT_FOUND}


def test_a_file_is_streamed_and_its_length_kept() -> None:
    target = io.BytesIO()
    with raw_server(reply(b"x" * 300_000)) as base:
        server = Server(base)
        assert server.view(Remote("1", "images", "a b.png", "", "output"), target) == 300_000
        server.close()
    assert target.getvalue() == b"x" * 300_000
    short = reply(b"x" * 10, "Content-Length: 20\r\n")
    problem(short, lambda s: s.view(Remote("1", "images", "a.png", "", "output"), io.BytesIO()))


def test_the_list_of_nodes_is_kept_on_the_disk(tmp_path: Path) -> None:
    asked: list[bytes] = []

    def answer(one: socket.socket) -> None:
        asked.append(b"x")
        reply(b'{"KSampler": {"input": {}}}', 'ETag: "7"\r\n')(one)

    with raw_server(answer) as base:
        server = Server(base)
        first = server.object_info(tmp_path, max_age_seconds=60)
        assert first == {"KSampler": {"input": {}}}
        assert server.object_info(tmp_path, max_age_seconds=60) == first
        assert len(asked) == 1
        server.object_info(tmp_path)
        assert len(asked) == 2
        next(tmp_path.iterdir()).write_bytes(b"broken")
        assert server.object_info(tmp_path, max_age_seconds=60) == first
        assert len(asked) == 3
        server.close()


def test_an_unchanged_list_is_not_sent_again(tmp_path: Path) -> None:
    answers = [
        reply(b'{"A": {}}', 'ETag: "7"\r\n'),
        reply(b"", "", "304 Not Modified"),
    ]
    with raw_server(lambda one: answers.pop(0)(one)) as base:
        server = Server(base)
        assert server.object_info(tmp_path) == server.object_info(tmp_path) == {"A": {}}
        server.close()
    assert answers == []


def test_history_of_an_interruption_is_told_by_its_last_message() -> None:
    status = {"status_str": "error", "messages": [["execution_start", {}]]}
    status["messages"].append(["execution_interrupted", {"node_id": "3"}])  # type: ignore[attr-defined]
    body = json.dumps({"p": {"outputs": {}, "status": status}}).encode()
    with raw_server(reply(body)) as base:
        server = Server(base)
        record = server.history("p")
        server.close()
    assert record is not None
    assert record.end is End.INTERRUPTED


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("127.0.0.1:8188", "http://127.0.0.1:8188"),
        (" https://box.local/comfy/ ", "https://box.local/comfy"),
        ("http://[::1]:8188", "http://[::1]:8188"),
    ],
)
def test_addresses(given: str, kept: str) -> None:
    assert address(given) == kept


@pytest.mark.parametrize(
    "given",
    ["", "http://", "ftp://x", "http://x:99999", "http://a b", "http://x/?q=1", "http://[x"],
)
def test_what_is_no_address(given: str) -> None:
    with pytest.raises(ProblemError) as caught:
        Fetcher(given)
    assert caught.value.problem.field == "address"
